//! What takes more than writing files: the instructions that the native engine does not build.

use std::collections::BTreeMap;

use super::arguments::ExpandError;
use super::instructions::{Action, Copying, Setting, Stage, Step, steps};
use super::{Base, DockerfileError, Foundation, Values, foundation};
use super::{Problem, patterns::clean};
use crate::model::{ImageReference, Variables};

/// An instruction that only an engine that runs commands can build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// From 1.
    pub line: usize,
    /// The instruction, in a few words: `RUN`, `COPY --from`.
    pub what: String,
}

/// Returns the first instruction that the native engine does not build.
pub fn refusal(
    text: &str,
    arguments: &BTreeMap<String, String>,
) -> Result<Option<Refusal>, DockerfileError> {
    match steps(
        text,
        &Setting {
            arguments,
            target: None,
            environment: None,
        },
    ) {
        Ok(steps) => Ok(refused(&steps)),
        Err(DockerfileError {
            line: Some(line),
            problem: Problem::Argument(ExpandError::NotUnderstood(reference)),
        }) => Ok(Some(Refusal {
            line,
            what: format!("the reference `{reference}`"),
        })),
        Err(error) => Err(error),
    }
}

/// Returns the `FROM` that names another image than `base`, which is what the native engine builds
/// on whatever the file says; also one that does not tell.
pub fn other_base(
    text: &str,
    arguments: &BTreeMap<String, String>,
    base: &ImageReference,
) -> Result<Option<Refusal>, DockerfileError> {
    let Foundation { base: found, line } = foundation(
        text,
        Values {
            given: arguments,
            environment: &Variables::default(),
        },
    )?;
    let named = match found {
        Base::Scratch => "scratch".to_owned(),
        Base::Image(image) if names(&image, base) => return Ok(None),
        Base::Image(image) => image.to_string(),
    };
    Ok(Some(Refusal {
        line,
        what: format!("FROM {named}, which is not the base {base}"),
    }))
}

/// Returns whether `image` names `base`, as far as both say it: by digest, else by tag.
fn names(image: &ImageReference, base: &ImageReference) -> bool {
    let is_same = match (&image.digest, &base.digest) {
        (Some(digest), Some(other)) => digest == other,
        (Some(_), None) => true,
        (None, _) => image.tag == base.tag,
    };
    image.repository == base.repository && is_same
}

/// Returns the first of `steps` that the native engine does not build.
pub(crate) fn refused(steps: &[Step]) -> Option<Refusal> {
    let mut stages = 0;
    steps.iter().find_map(|step| {
        let what = match &step.action {
            Action::From(stage) => {
                stages += 1;
                if stages > 1 {
                    Some("a second FROM".to_owned())
                } else {
                    refused_stage(stage)
                }
            }
            Action::Run { .. } => Some("RUN".to_owned()),
            Action::OnBuild => Some("ONBUILD".to_owned()),
            Action::Copy(copying) => refused_copying(copying),
            _ => None,
        };
        what.map(|what| Refusal {
            line: step.line,
            what,
        })
    })
}

fn refused_stage(stage: &Stage) -> Option<String> {
    let is_target = |platform: &str| {
        matches!(
            platform.trim_matches('"'),
            "$TARGETPLATFORM" | "${TARGETPLATFORM}"
        )
    };
    match &stage.platform {
        Some(platform) if !is_target(platform) => Some("FROM --platform".to_owned()),
        _ if stage.image == "scratch" => Some("FROM scratch".to_owned()),
        _ => None,
    }
}

fn refused_copying(copying: &Copying) -> Option<String> {
    let verb = copying.verb.name();
    if copying.from.is_some() {
        return Some(format!("{verb} --from"));
    }
    if let Some(flag) = &copying.other_flag {
        return Some(format!("{verb} {flag}"));
    }
    if copying.fetched().is_some() {
        return Some(format!("{verb} of something to fetch"));
    }
    let is_octal = |mode: &String| {
        !mode.is_empty()
            && mode.len() <= 5
            && mode.bytes().all(|byte| (b'0'..=b'7').contains(&byte))
    };
    if copying.chmod.as_ref().is_some_and(|mode| !is_octal(mode)) {
        return Some(format!("{verb} --chmod with letters"));
    }
    // What would replace the whole file system of a container that runs.
    ["proc", "sys", "dev"]
        .contains(&clean(&copying.destination).as_str())
        .then(|| format!("{verb} to {}", copying.destination))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn what(text: &str) -> Option<(usize, String)> {
        refusal(text, &BTreeMap::new())
            .unwrap_or_else(|error| panic!("{text}: {error}"))
            .map(|refusal| (refusal.line, refusal.what))
    }

    #[test]
    fn a_from_of_another_image_than_the_base_is_named_with_its_line() {
        let digest = |digit: &str| format!("sha256:{}", digit.repeat(64));
        let base: ImageReference = format!("r.example/mirrors/a:3.22.1@{}", digest("1"))
            .parse()
            .expect("an image");
        let by_tag = ImageReference {
            digest: None,
            ..base.clone()
        };
        for (text, by_tag_only, expected) in [
            (format!("FROM {base}"), false, None),
            (
                "FROM r.example/mirrors/a:3.22.1 AS x".to_owned(),
                false,
                None,
            ),
            (
                format!("ARG B=r.example/mirrors/a\nFROM ${{B}}@{}", digest("1")),
                false,
                None,
            ),
            (
                format!("FROM r.example/mirrors/a@{}", digest("2")),
                true,
                None,
            ),
            (
                format!("FROM r.example/mirrors/a@{}", digest("2")),
                false,
                Some(1),
            ),
            (
                "# x\nFROM r.example/mirrors/a:3.20.6".to_owned(),
                false,
                Some(2),
            ),
            (
                "FROM docker.io/library/other:3.22.1".to_owned(),
                false,
                Some(1),
            ),
            ("FROM r.example/mirrors/a".to_owned(), true, Some(1)),
            ("FROM scratch".to_owned(), false, Some(1)),
        ] {
            let base = if by_tag_only { &by_tag } else { &base };
            let found = other_base(&text, &BTreeMap::new(), base)
                .unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(found.map(|refusal| refusal.line), expected, "{text}");
        }
        assert!(other_base("FROM r.example/mirrors/a@", &BTreeMap::new(), &base).is_err());
    }

    #[test]
    fn what_needs_execution_is_named_with_its_line() {
        for (text, line, expected) in [
            ("FROM a\n\nRUN x", 3, "RUN"),
            ("FROM a AS b\nFROM c", 2, "a second FROM"),
            ("FROM a\nCOPY --from=b x /", 2, "COPY --from"),
            ("FROM a\nADD https://x/y /", 2, "ADD of something to fetch"),
            (
                "FROM a\nARG U=https://x\nADD $U/y /",
                3,
                "ADD of something to fetch",
            ),
            ("FROM a\nCOPY --exclude=x . /", 2, "COPY --exclude"),
            (
                "FROM a\nCOPY --chmod=u+x x /",
                2,
                "COPY --chmod with letters",
            ),
            ("FROM scratch", 1, "FROM scratch"),
            ("FROM --platform=$BUILDPLATFORM a", 1, "FROM --platform"),
            ("FROM a\nONBUILD COPY x /", 2, "ONBUILD"),
            (
                "FROM a\nWORKDIR $HOME\nCOPY $X /$Y\nARG Z\nUSER ${Z:?no}\nRUN x",
                6,
                "RUN",
            ),
            ("FROM a\nENV A=${B%x}", 2, "the reference `${B%x}`"),
        ] {
            assert_eq!(what(text), Some((line, expected.to_owned())), "{text}");
        }
    }

    #[test]
    fn what_writes_files_and_settings_is_built() {
        for text in [
            "ARG X=1\nFROM --platform=$TARGETPLATFORM a:$X\nCOPY --link --chmod=0755 --chown=x:y a b /c/\nWORKDIR $HOME\n",
            "FROM a\nADD x.tar.gz /\nCMD x\nARG TARGETARCH\nCOPY $TARGETARCH/x /",
        ] {
            assert_eq!(what(text), None, "{text}");
        }
        assert!(refusal("FROM a\nFRUM", &BTreeMap::new()).is_err());
    }
}
