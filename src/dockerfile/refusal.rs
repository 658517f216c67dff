//! What takes more than writing files: the instructions that the native engine does not build.

use std::collections::BTreeMap;

use super::DockerfileError;
use super::arguments::ExpandError;
use super::instructions::{Action, Copying, Setting, Stage, Step, steps};
use super::{Problem, patterns::clean};

/// An instruction that only an engine that runs commands can build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// From 1.
    pub line: usize,
    /// The instruction, in a few words: `RUN`, `COPY --from`.
    pub what: String,
}

/// Returns the first instruction that the native engine does not build.
pub fn refusal(text: &str, arguments: &BTreeMap<String, String>) -> Result<Option<Refusal>, DockerfileError> {
    match steps(text, &Setting { arguments, target: None, environment: None }) {
        Ok(steps) => Ok(refused(&steps)),
        Err(DockerfileError { line: Some(line), problem: Problem::Argument(ExpandError::NotUnderstood(reference)) }) => {
            Ok(Some(Refusal { line, what: format!("the reference `{reference}`") }))
        }
        Err(error) => Err(error),
    }
}

/// Returns the first of `steps` that the native engine does not build.
pub(crate) fn refused(steps: &[Step]) -> Option<Refusal> {
    let mut stages = 0;
    steps.iter().find_map(|step| {
        let what = match &step.action {
            Action::From(stage) => {
                stages += 1;
                if stages > 1 { Some("a second FROM".to_owned()) } else { refused_stage(stage) }
            }
            Action::Run { .. } => Some("RUN".to_owned()),
            Action::OnBuild => Some("ONBUILD".to_owned()),
            Action::Copy(copying) => refused_copying(copying),
            _ => None,
        };
        what.map(|what| Refusal { line: step.line, what })
    })
}

fn refused_stage(stage: &Stage) -> Option<String> {
    let is_target = |platform: &str| matches!(platform.trim_matches('"'), "$TARGETPLATFORM" | "${TARGETPLATFORM}");
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
    let is_octal = |mode: &String| !mode.is_empty() && mode.len() <= 5 && mode.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    if copying.chmod.as_ref().is_some_and(|mode| !is_octal(mode)) {
        return Some(format!("{verb} --chmod with letters"));
    }
    // What would replace the whole file system of a container that runs.
    ["proc", "sys", "dev"].contains(&clean(&copying.destination).as_str()).then(|| format!("{verb} to {}", copying.destination))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn what(text: &str) -> Option<(usize, String)> {
        refusal(text, &BTreeMap::new()).unwrap_or_else(|error| panic!("{text}: {error}")).map(|refusal| (refusal.line, refusal.what))
    }

    #[test]
    fn what_needs_execution_is_named_with_its_line() {
        for (text, line, expected) in [
            ("FROM a\n\nRUN x", 3, "RUN"),
            ("FROM a AS b\nFROM c", 2, "a second FROM"),
            ("FROM a\nCOPY --from=b x /", 2, "COPY --from"),
            ("FROM a\nADD https://x/y /", 2, "ADD of something to fetch"),
            ("FROM a\nARG U=https://x\nADD $U/y /", 3, "ADD of something to fetch"),
            ("FROM a\nCOPY --exclude=x . /", 2, "COPY --exclude"),
            ("FROM a\nCOPY --chmod=u+x x /", 2, "COPY --chmod with letters"),
            ("FROM scratch", 1, "FROM scratch"),
            ("FROM --platform=$BUILDPLATFORM a", 1, "FROM --platform"),
            ("FROM a\nONBUILD COPY x /", 2, "ONBUILD"),
            ("FROM a\nWORKDIR $HOME\nCOPY $X /$Y\nARG Z\nUSER ${Z:?no}\nRUN x", 6, "RUN"),
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
