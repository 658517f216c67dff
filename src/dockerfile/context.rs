//! Which files of a folder a Dockerfile reads.

use std::collections::{BTreeMap, BTreeSet};

use super::DockerfileError;
use super::arguments::ExpandError;
use super::instructions::{Action, Setting, Source, Step, steps};
use super::patterns::{Glob, Ignore, clean, has_wildcard};
use super::{Problem, at};
use crate::model::Platform;

/// Something in a folder that is not a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// Relative to the folder, parted by `/`.
    pub path: String,
    pub kind: ListedKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ListedKind {
    File,
    Link,
}

/// The files of a folder that a Dockerfile reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// These, sorted.
    Some(Vec<String>),
    /// It cannot be told; perhaps all that `.dockerignore` does not leave out.
    Whole,
}

/// What is known of how a Dockerfile is built.
#[derive(Clone, Copy, Debug)]
pub struct Building<'a> {
    pub arguments: &'a BTreeMap<String, String>,
    /// What is built for; none when that is not known.
    pub platforms: &'a [Platform],
}

/// Returns which of the files in `folder` the Dockerfile `text` reads for any of the platforms,
/// with the rules of the text of its `.dockerignore`.
///
/// Links are kept as links where a directory around them is copied. A source that is a link itself,
/// or is reached through one, makes it the whole folder; so do `RUN --mount=type=bind`, and
/// variables of the base image in the name of a source.
pub fn context_files(
    text: &str,
    building: Building<'_>,
    folder: &[Listed],
    ignore: Option<&str>,
) -> Result<Selection, DockerfileError> {
    let ignore = match ignore.map(Ignore::parse).transpose() {
        Ok(ignore) => ignore.unwrap_or_default(),
        Err(error) => {
            return Err(DockerfileError {
                line: None,
                problem: error.into(),
            });
        }
    };
    let targets: Vec<Option<&Platform>> = match building.platforms {
        [] => vec![None],
        platforms => platforms.iter().map(Some).collect(),
    };
    let mut files: BTreeSet<String> = BTreeSet::new();
    for target in targets {
        let steps = match steps(
            text,
            &Setting {
                arguments: building.arguments,
                target,
                environment: None,
            },
        ) {
            Ok(steps) => steps,
            // What other builders replace.
            Err(DockerfileError {
                problem: Problem::Argument(ExpandError::NotUnderstood(_)),
                ..
            }) => {
                return Ok(Selection::Whole);
            }
            Err(error) => return Err(error),
        };
        match read_by(&steps, folder, &ignore)? {
            Selection::Some(paths) => files.extend(paths),
            Selection::Whole => return Ok(Selection::Whole),
        }
    }
    Ok(Selection::Some(files.into_iter().collect()))
}

/// Returns which of the files in `folder` the instructions read.
fn read_by(
    steps: &[Step],
    folder: &[Listed],
    ignore: &Ignore,
) -> Result<Selection, DockerfileError> {
    let mut files: BTreeSet<&str> = BTreeSet::new();
    for step in steps {
        let copying = match &step.action {
            Action::Run { binds: true } | Action::OnBuild => return Ok(Selection::Whole),
            Action::Copy(copying) => copying,
            _ => continue,
        };
        if copying.from.is_some() || copying.fetched().is_some() {
            continue;
        }
        if copying.other_flag.is_some() {
            return Ok(Selection::Whole);
        }
        for source in &copying.sources {
            let path = match source {
                Source::Path(path) => path,
                Source::Text { .. } => continue,
                Source::Untold => return Ok(Selection::Whole),
            };
            let matcher = if has_wildcard(path) {
                Matcher::Glob(Glob::new(path).map_err(|error| at(step.line, error))?)
            } else {
                Matcher::Path(clean(path))
            };
            for listed in folder {
                let Some(through) = matcher.reaches(&listed.path) else {
                    continue;
                };
                if ignore.leaves_out(&listed.path) {
                    continue;
                }
                if listed.kind == ListedKind::Link && through == Reach::Itself {
                    return Ok(Selection::Whole);
                }
                files.insert(&listed.path);
            }
            if let Matcher::Path(path) = &matcher
                && folder
                    .iter()
                    .any(|listed| listed.kind == ListedKind::Link && is_below(path, &listed.path))
            {
                return Ok(Selection::Whole);
            }
        }
    }
    Ok(Selection::Some(
        files.into_iter().map(str::to_owned).collect(),
    ))
}

enum Matcher {
    Path(String),
    Glob(Glob),
}

/// How a source takes in a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    Itself,
    AsPartOfADirectory,
}

impl Matcher {
    fn reaches(&self, file: &str) -> Option<Reach> {
        let matches = |place: &str| match self {
            Matcher::Path(path) => path == place,
            Matcher::Glob(glob) => glob.matches(place),
        };
        if matches(file) {
            return Some(Reach::Itself);
        }
        let in_whole = matches!(self, Matcher::Path(path) if path.is_empty());
        let in_directory = in_whole
            || file
                .match_indices('/')
                .any(|(end, _)| matches(&file[..end]));
        in_directory.then_some(Reach::AsPartOfADirectory)
    }
}

fn is_below(path: &str, parent: &str) -> bool {
    path.strip_prefix(parent)
        .is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn select(text: &str, ignore: Option<&str>) -> Selection {
        select_for(text, ignore, &[])
    }

    fn select_for(text: &str, ignore: Option<&str>, platforms: &[Platform]) -> Selection {
        let file = |path: &str| Listed {
            path: path.to_owned(),
            kind: ListedKind::File,
        };
        let link = |path: &str| Listed {
            path: path.to_owned(),
            kind: ListedKind::Link,
        };
        let folder = [
            file("a.txt"),
            file("b.txt"),
            file("d/c.txt"),
            file("d/e/f.txt"),
            link("d/link"),
            link("way"),
            file("[x]"),
        ];
        let building = Building {
            arguments: &BTreeMap::new(),
            platforms,
        };
        context_files(&format!("FROM a\n{text}"), building, &folder, ignore)
            .unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn some<const N: usize>(paths: [&str; N]) -> Selection {
        Selection::Some(paths.map(str::to_owned).to_vec())
    }

    #[test]
    fn the_files_that_are_copied_are_found() {
        assert_eq!(select("COPY a.txt /", None), some(["a.txt"]));
        assert_eq!(
            select("COPY ./d/../a.txt d/e /x/", None),
            some(["a.txt", "d/e/f.txt"])
        );
        assert_eq!(select("COPY *.txt /", None), some(["a.txt", "b.txt"]));
        assert_eq!(
            select("COPY d* /", None),
            some(["d/c.txt", "d/e/f.txt", "d/link"])
        );
        assert_eq!(
            select("COPY d /x\nADD b.txt /", Some("d/e\n")),
            some(["b.txt", "d/c.txt", "d/link"])
        );
        assert_eq!(select("COPY d /x", Some("d\n!d/c.txt")), some(["d/c.txt"]));
        assert_eq!(select("COPY \\[x\\] /", None), some([]));
        assert_eq!(
            select(
                "RUN x\nADD https://x/a.txt /\nCOPY <<a.txt /\nx\na.txt\n",
                None
            ),
            some([])
        );
        assert_eq!(
            select(
                "ARG F=a\nCOPY $F.txt /\nFROM b\nCOPY --from=0 b.txt /",
                None
            ),
            some(["a.txt"])
        );
        assert_eq!(select("COPY . /", Some("*\n!a.txt")), some(["a.txt"]));
        assert_eq!(
            select(
                "ENV PATH=/x:$PATH\nENV F=a\nWORKDIR $PATH\nCOPY --chown=$U $F.txt $PATH",
                None
            ),
            some(["a.txt"])
        );
    }

    #[test]
    fn files_for_a_platform_are_those_of_all_platforms_that_are_built_for() {
        let platforms =
            ["linux/amd64", "linux/arm/v7"].map(|text| text.parse().expect("a platform"));
        let folder = ["bin/amd64/tool", "bin/arm/tool", "bin/s390x/tool"];
        let folder = folder.map(|path| Listed {
            path: path.to_owned(),
            kind: ListedKind::File,
        });
        let text = "FROM a\nARG TARGETARCH\nCOPY bin/$TARGETARCH/tool /";
        let building = Building {
            arguments: &BTreeMap::new(),
            platforms: &platforms,
        };
        assert_eq!(
            context_files(text, building, &folder, None).expect("files"),
            some(["bin/amd64/tool", "bin/arm/tool"])
        );
        assert_eq!(
            select_for("COPY $HOME /", None, &platforms),
            Selection::Whole
        );
    }

    #[test]
    fn what_cannot_be_told_is_the_whole_folder() {
        for text in [
            "COPY $HOME/a.txt /",
            "ARG X\nCOPY $X/a.txt /",
            "RUN --mount=type=bind,target=/x make",
            "ARG TARGETARCH\nCOPY $TARGETARCH /",
            "ENV F=$HOME\nCOPY $F /",
            "COPY way /",
            "COPY way/x /",
            "COPY w* /",
            "COPY --parents d /",
        ] {
            assert_eq!(select(text, None), Selection::Whole, "{text}");
        }
    }
}
