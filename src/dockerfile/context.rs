//! The files of the build context that a Dockerfile reads.

use std::collections::{BTreeMap, BTreeSet};

use super::arguments::ExpandError;
use super::error::{DockerfileError, DockerfileProblem, at};
use super::instructions::{CopySource, DockerfileAction, DockerfileStep, StageSettings, steps};
use super::patterns::{DockerIgnore, Glob, clean, has_wildcard};
use crate::model::Platform;

/// A file or symbolic link in the build context.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContextFile {
    /// Path relative to the build context, separated by `/`.
    pub path: String,
    pub kind: ContextFileKind,
}

/// Type of an entry in the build context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ContextFileKind {
    File,
    Link,
}

/// The files of the build context that a Dockerfile reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContextSelection {
    /// These files, sorted.
    Files(Vec<String>),
    /// Unknown: any file that `.dockerignore` does not exclude.
    All,
}

/// Parameters of a build that affect which files it reads.
#[derive(Clone, Copy, Debug)]
pub struct BuildParameters<'a> {
    /// Build arguments.
    pub arguments: &'a BTreeMap<String, String>,
    /// Platforms to build for; empty if they are unknown.
    pub platforms: &'a [Platform],
}

/// Returns the files in `folder` that a Dockerfile reads for any of the platforms.
///
/// `ignore` is the text of the `.dockerignore`. Symbolic links in a copied directory are included
/// as links. The result is [`ContextSelection::All`] if a source is a link or is reached through
/// one, if a source contains a variable of the base image, or if a command mounts the build context
/// (`RUN --mount=type=bind`).
pub fn context_files(
    text: &str,
    building: BuildParameters<'_>,
    folder: &[ContextFile],
    ignore: Option<&str>,
) -> Result<ContextSelection, DockerfileError> {
    let ignore = match ignore.map(DockerIgnore::parse).transpose() {
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
            &StageSettings {
                arguments: building.arguments,
                target,
                environment: None,
            },
        ) {
            Ok(steps) => steps,
            // Another builder may support the reference.
            Err(DockerfileError {
                problem: DockerfileProblem::Argument(ExpandError::Unsupported(_)),
                ..
            }) => {
                return Ok(ContextSelection::All);
            }
            Err(error) => return Err(error),
        };
        match read_by(&steps, folder, &ignore)? {
            ContextSelection::Files(paths) => files.extend(paths),
            ContextSelection::All => return Ok(ContextSelection::All),
        }
    }
    Ok(ContextSelection::Files(files.into_iter().collect()))
}

/// Returns the files in `folder` that the instructions read.
fn read_by(
    steps: &[DockerfileStep],
    folder: &[ContextFile],
    ignore: &DockerIgnore,
) -> Result<ContextSelection, DockerfileError> {
    let mut files: BTreeSet<&str> = BTreeSet::new();
    for step in steps {
        let copying = match &step.action {
            DockerfileAction::Run { binds: true } | DockerfileAction::OnBuild => {
                return Ok(ContextSelection::All);
            }
            DockerfileAction::Copy(copying) => copying,
            _ => continue,
        };
        if copying.from.is_some() || copying.remote_source().is_some() {
            continue;
        }
        if copying.other_flag.is_some() {
            return Ok(ContextSelection::All);
        }
        for source in &copying.sources {
            let path = match source {
                CopySource::Path(path) => path,
                CopySource::HereDocument { .. } => continue,
                CopySource::Unknown => return Ok(ContextSelection::All),
            };
            let matcher = if has_wildcard(path) {
                SourceMatcher::Glob(Glob::new(path).map_err(|error| at(step.line, error))?)
            } else {
                SourceMatcher::Path(clean(path))
            };
            for listed in folder {
                let Some(kind) = matcher.match_kind(&listed.path) else {
                    continue;
                };
                if ignore.excludes(&listed.path) {
                    continue;
                }
                if listed.kind == ContextFileKind::Link && kind == MatchKind::Itself {
                    return Ok(ContextSelection::All);
                }
                files.insert(&listed.path);
            }
            if let SourceMatcher::Path(path) = &matcher
                && folder.iter().any(|listed| {
                    listed.kind == ContextFileKind::Link && is_below(path, &listed.path)
                })
            {
                return Ok(ContextSelection::All);
            }
        }
    }
    Ok(ContextSelection::Files(
        files.into_iter().map(str::to_owned).collect(),
    ))
}

/// Matches files with a source of `COPY`.
enum SourceMatcher {
    Path(String),
    Glob(Glob),
}

/// The way in which a source matches a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum MatchKind {
    /// The source matches the file itself.
    Itself,
    /// The source matches a directory that contains the file.
    Directory,
}

impl SourceMatcher {
    /// Returns how the source matches `file`, or `None` if it does not.
    fn match_kind(&self, file: &str) -> Option<MatchKind> {
        let matches = |candidate: &str| match self {
            SourceMatcher::Path(path) => path == candidate,
            SourceMatcher::Glob(glob) => glob.matches(candidate),
        };
        if matches(file) {
            return Some(MatchKind::Itself);
        }
        let is_root = matches!(self, SourceMatcher::Path(path) if path.is_empty());
        let in_directory = is_root
            || file
                .match_indices('/')
                .any(|(end, _)| matches(&file[..end]));
        in_directory.then_some(MatchKind::Directory)
    }
}

/// Returns true if `path` is inside of the directory `parent`.
fn is_below(path: &str, parent: &str) -> bool {
    path.strip_prefix(parent)
        .is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn select(text: &str, ignore: Option<&str>) -> ContextSelection {
        select_for(text, ignore, &[])
    }

    fn select_for(text: &str, ignore: Option<&str>, platforms: &[Platform]) -> ContextSelection {
        let file = |path: &str| ContextFile {
            path: path.to_owned(),
            kind: ContextFileKind::File,
        };
        let link = |path: &str| ContextFile {
            path: path.to_owned(),
            kind: ContextFileKind::Link,
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
        let building = BuildParameters {
            arguments: &BTreeMap::new(),
            platforms,
        };
        context_files(&format!("FROM a\n{text}"), building, &folder, ignore)
            .unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn some<const N: usize>(paths: [&str; N]) -> ContextSelection {
        ContextSelection::Files(paths.map(str::to_owned).to_vec())
    }

    #[test]
    fn context_files_finds_copied_files() {
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
    fn context_files_combines_all_platforms() {
        let platforms =
            ["linux/amd64", "linux/arm/v7"].map(|text| text.parse().expect("a platform"));
        let folder = ["bin/amd64/tool", "bin/arm/tool", "bin/s390x/tool"];
        let folder = folder.map(|path| ContextFile {
            path: path.to_owned(),
            kind: ContextFileKind::File,
        });
        let text = "FROM a\nARG TARGETARCH\nCOPY bin/$TARGETARCH/tool /";
        let building = BuildParameters {
            arguments: &BTreeMap::new(),
            platforms: &platforms,
        };
        assert_eq!(
            context_files(text, building, &folder, None).expect("files"),
            some(["bin/amd64/tool", "bin/arm/tool"])
        );
        assert_eq!(
            select_for("COPY $HOME /", None, &platforms),
            ContextSelection::All
        );
    }

    #[test]
    fn context_files_returns_all_if_sources_are_unknown() {
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
            assert_eq!(select(text, None), ContextSelection::All, "{text}");
        }
    }
}
