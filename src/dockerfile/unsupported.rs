//! Instructions that the native engine does not support, because it cannot run commands.

use std::collections::BTreeMap;

use super::arguments::{ArgumentValues, ExpandError};
use super::base::{DockerfileBase, FinalStageBase, final_stage_base};
use super::error::{DockerfileError, DockerfileProblem};
use super::instructions::{
    CopyInstruction, DockerfileAction, DockerfileStep, Stage, StageSettings, steps,
};
use super::patterns::clean;
use crate::model::{ImageReference, Variables};

/// An instruction that requires an engine that runs commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsupportedInstruction {
    /// Line, starting at 1.
    pub line: usize,
    /// Short form of the instruction: `RUN`, `COPY --from`.
    pub instruction: String,
}

/// Returns the first instruction that the native engine does not support, or `None`.
pub fn first_unsupported(
    text: &str,
    arguments: &BTreeMap<String, String>,
) -> Result<Option<UnsupportedInstruction>, DockerfileError> {
    match steps(
        text,
        &StageSettings {
            arguments,
            target: None,
            environment: None,
        },
    ) {
        Ok(steps) => Ok(first_unsupported_step(&steps)),
        Err(DockerfileError {
            line: Some(line),
            problem: DockerfileProblem::Argument(ExpandError::Unsupported(reference)),
        }) => Ok(Some(UnsupportedInstruction {
            line,
            instruction: format!("the reference `{reference}`"),
        })),
        Err(error) => Err(error),
    }
}

/// Returns the `FROM` of the last stage if it does not refer to `base`.
///
/// The native engine always builds on `base`, so a different `FROM` would be ignored.
pub fn different_base(
    text: &str,
    arguments: &BTreeMap<String, String>,
    base: &ImageReference,
) -> Result<Option<UnsupportedInstruction>, DockerfileError> {
    let FinalStageBase { base: found, line } = final_stage_base(
        text,
        ArgumentValues {
            given: arguments,
            environment: &Variables::default(),
        },
    )?;
    let named = match found {
        DockerfileBase::Scratch => "scratch".to_owned(),
        DockerfileBase::Image(image) if is_same_image(&image, base) => return Ok(None),
        DockerfileBase::Image(image) => image.to_string(),
    };
    Ok(Some(UnsupportedInstruction {
        line,
        instruction: format!("FROM {named}, which is not the base image {base}"),
    }))
}

/// Returns true if `image` refers to `base`: by digest if both have one, otherwise by tag.
fn is_same_image(image: &ImageReference, base: &ImageReference) -> bool {
    let is_same = match (&image.digest, &base.digest) {
        (Some(digest), Some(other)) => digest == other,
        (Some(_), None) => true,
        (None, _) => image.tag == base.tag,
    };
    image.repository == base.repository && is_same
}

/// Returns the first of `steps` that the native engine does not support, or `None`.
pub(crate) fn first_unsupported_step(steps: &[DockerfileStep]) -> Option<UnsupportedInstruction> {
    let mut stages = 0;
    steps.iter().find_map(|step| {
        let instruction = match &step.action {
            DockerfileAction::From(stage) => {
                stages += 1;
                if stages > 1 {
                    Some("a second FROM".to_owned())
                } else {
                    unsupported_stage(stage)
                }
            }
            DockerfileAction::Run { .. } => Some("RUN".to_owned()),
            DockerfileAction::OnBuild => Some("ONBUILD".to_owned()),
            DockerfileAction::Copy(copying) => unsupported_copy(copying),
            _ => None,
        };
        instruction.map(|instruction| UnsupportedInstruction {
            line: step.line,
            instruction,
        })
    })
}

/// Returns the unsupported part of a `FROM`.
fn unsupported_stage(stage: &Stage) -> Option<String> {
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

/// Returns the unsupported part of a `COPY` or `ADD`.
fn unsupported_copy(copying: &CopyInstruction) -> Option<String> {
    let verb = copying.verb.name();
    if copying.from.is_some() {
        return Some(format!("{verb} --from"));
    }
    if let Some(flag) = &copying.other_flag {
        return Some(format!("{verb} {flag}"));
    }
    if copying.remote_source().is_some() {
        return Some(format!("{verb} of a remote source"));
    }
    let is_octal = |mode: &String| {
        !mode.is_empty()
            && mode.len() <= 5
            && mode.bytes().all(|byte| (b'0'..=b'7').contains(&byte))
    };
    if copying.chmod.as_ref().is_some_and(|mode| !is_octal(mode)) {
        return Some(format!("{verb} --chmod with a symbolic mode"));
    }
    // Other engines mount file systems over these directories while they build.
    ["proc", "sys", "dev"]
        .contains(&clean(&copying.destination).as_str())
        .then(|| format!("{verb} to {}", copying.destination))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unsupported(text: &str) -> Option<(usize, String)> {
        first_unsupported(text, &BTreeMap::new())
            .unwrap_or_else(|error| panic!("{text}: {error}"))
            .map(|found| (found.line, found.instruction))
    }

    #[test]
    fn different_base_compares_digest_or_tag() {
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
            let found = different_base(&text, &BTreeMap::new(), base)
                .unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(found.map(|found| found.line), expected, "{text}");
        }
        assert!(different_base("FROM r.example/mirrors/a@", &BTreeMap::new(), &base).is_err());
    }

    #[test]
    fn first_unsupported_returns_the_line_of_the_instruction() {
        for (text, line, expected) in [
            ("FROM a\n\nRUN x", 3, "RUN"),
            ("FROM a AS b\nFROM c", 2, "a second FROM"),
            ("FROM a\nCOPY --from=b x /", 2, "COPY --from"),
            ("FROM a\nADD https://x/y /", 2, "ADD of a remote source"),
            (
                "FROM a\nARG U=https://x\nADD $U/y /",
                3,
                "ADD of a remote source",
            ),
            ("FROM a\nCOPY --exclude=x . /", 2, "COPY --exclude"),
            (
                "FROM a\nCOPY --chmod=u+x x /",
                2,
                "COPY --chmod with a symbolic mode",
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
            assert_eq!(
                unsupported(text),
                Some((line, expected.to_owned())),
                "{text}"
            );
        }
    }

    #[test]
    fn first_unsupported_accepts_files_and_settings() {
        for text in [
            "ARG X=1\nFROM --platform=$TARGETPLATFORM a:$X\nCOPY --link --chmod=0755 --chown=x:y a b /c/\nWORKDIR $HOME\n",
            "FROM a\nADD x.tar.gz /\nCMD x\nARG TARGETARCH\nCOPY $TARGETARCH/x /",
        ] {
            assert_eq!(unsupported(text), None, "{text}");
        }
        assert!(first_unsupported("FROM a\nFRUM", &BTreeMap::new()).is_err());
    }
}
