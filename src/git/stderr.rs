//! Interpretation of stderr of git and its remotes: redacted lines, and the kind of a refusal.

use crate::model::text::{Masker, excerpt};

/// Maximum number of lines shown.
const MAX_LINES: usize = 8;

/// Maximum length of a line shown, in characters.
const MAX_LINE_LENGTH: usize = 240;

/// Beginnings of git's lines that do not name a cause.
const UNINFORMATIVE: [&str; 7] = [
    "remote:",
    "hint:",
    "warning:",
    "To ",
    "Please make sure you have",
    "and the repository exists",
    "error: failed to push some refs",
];

/// Redacts secrets from git's output.
#[derive(Clone, Default)]
pub(super) struct OutputRedaction(Masker);

impl OutputRedaction {
    pub(super) fn new(secrets: impl IntoIterator<Item = String>) -> OutputRedaction {
        OutputRedaction(Masker::new(secrets))
    }

    /// Returns `text` without the secrets and without user information in URLs.
    pub(super) fn apply(&self, text: &str) -> String {
        let text = self.0.mask(text);
        let mut redacted = String::with_capacity(text.len());
        let mut rest = text.as_str();
        while let Some((before, after)) = rest.split_once("://") {
            let end = after
                .find(|character: char| {
                    character == '/' || character.is_whitespace() || character == '\''
                })
                .unwrap_or(after.len());
            let (authority, remainder) = after.split_at(end);
            let host = authority
                .rsplit_once('@')
                .map_or(authority, |(_, host)| host);
            redacted.push_str(before);
            redacted.push_str("://");
            redacted.push_str(host);
            rest = remainder;
        }
        redacted.push_str(rest);
        redacted
    }
}

/// Refusal by a remote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteRefusal {
    pub kind: RemoteRefusalKind,
    /// Redacted lines of its output.
    pub lines: Vec<String>,
}

/// Kind of a refusal, as recognised from its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemoteRefusalKind {
    /// The branch is protected.
    Protected,
    /// Authenticated, but permission is denied.
    Forbidden,
    /// Authentication failed.
    Unauthenticated,
    /// The repository does not exist, or the user may not see it.
    Absent,
    /// Redirect to another address, to which no credential is sent.
    Moved,
    /// Network or server failure that may be temporary.
    Transient,
    /// A hook or rule of the server.
    Rule,
    Other,
}

/// Returns the informative lines of git's stderr, redacted, bounded in number and length.
///
/// Lines of the remote are preferred over git's own.
pub(super) fn lines(stderr: &str, redaction: &OutputRedaction) -> Vec<String> {
    let redacted = redaction.apply(stderr);
    let all_lines = || {
        redacted
            .split(['\n', '\r'])
            .map(str::trim)
            .filter(|line| !line.is_empty())
    };
    let decoration = |line: &&str| line.chars().any(char::is_alphanumeric);
    let mut remote: Vec<&str> = all_lines()
        .filter_map(|line| line.strip_prefix("remote:"))
        .map(str::trim)
        .filter(decoration)
        .collect();
    remote.dedup();
    let uninformative = |line: &&str| UNINFORMATIVE.iter().any(|start| line.starts_with(start));
    let bare = |line: &'_ str| {
        ["fatal: ", "error: "]
            .iter()
            .find_map(|prefix| line.strip_prefix(prefix))
            .unwrap_or(line)
            .to_owned()
    };
    let git: Vec<String> = all_lines()
        .filter(|line| !uninformative(line))
        .map(bare)
        .collect();
    let chosen: Vec<String> = if remote.is_empty() {
        git.into_iter().take(MAX_LINES).collect()
    } else {
        // The remote gives its reason; git adds the HTTP status.
        let status = git
            .into_iter()
            .filter(|line| line.contains("returned error"));
        remote
            .into_iter()
            .take(MAX_LINES)
            .map(str::to_owned)
            .chain(status.take(1))
            .collect()
    };
    chosen
        .iter()
        .map(|line| excerpt(line, MAX_LINE_LENGTH))
        .collect()
}

/// Classifies the failure of a call to a remote by stderr and the reason in `push --porcelain`.
pub(super) fn refusal(
    stderr: &str,
    reason: Option<&str>,
    redaction: &OutputRedaction,
) -> RemoteRefusal {
    let text = format!("{stderr}\n{}", reason.unwrap_or_default()).to_lowercase();
    let has = |phrases: &[&str]| phrases.iter().any(|phrase| text.contains(phrase));
    let kind = if has(&["protected branch", "branch is protected"]) {
        RemoteRefusalKind::Protected
    } else if has(&[
        "authentication failed",
        "could not read username",
        "could not read password",
        "returned error: 401",
        "permission denied (publickey",
        "host key verification failed",
        "http basic: access denied",
    ]) {
        RemoteRefusalKind::Unauthenticated
    } else if has(&[
        "returned error: 403",
        "not allowed to push",
        "not allowed to upload",
        "you are not allowed",
        "permission to",
    ]) {
        RemoteRefusalKind::Forbidden
    } else if has(&[
        "returned error: 404",
        "repository not found",
        "' not found",
        "does not appear to be a git repository",
        "could not be found",
        "cannot find repository",
    ]) {
        RemoteRefusalKind::Absent
    } else if has(&[
        "returned error: 30",
        "unable to update url base from redirection",
    ]) {
        RemoteRefusalKind::Moved
    } else if has(&["hook declined", "remote rejected"]) || reason.is_some() {
        RemoteRefusalKind::Rule
    } else if has(&[
        "returned error: 5",
        "returned error: 429",
        "could not resolve",
        "failed to connect",
        "connection",
        "timed out",
        "early eof",
        "rpc failed",
        "hung up unexpectedly",
    ]) {
        RemoteRefusalKind::Transient
    } else {
        RemoteRefusalKind::Other
    };
    let mut lines = lines(stderr, redaction);
    if lines.is_empty()
        && let Some(reason) = reason
    {
        lines.push(excerpt(&redaction.apply(reason), MAX_LINE_LENGTH));
    }
    RemoteRefusal { kind, lines }
}

/// Returns true if the reason in `push --porcelain` means that the branch moved in the meantime.
pub(super) fn is_stale(reason: &str) -> bool {
    [
        "fetch first",
        "non-fast-forward",
        "stale info",
        "needs force",
        "cannot lock ref",
        "failed to lock",
        "failed to update ref",
        "incorrect old value",
        "reference already exists",
        "remote ref updated since checkout",
    ]
    .iter()
    .any(|known| reason.contains(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redaction_removes_user_information_and_secrets() {
        let redaction = OutputRedaction::new(["hunter2".to_owned()]);
        assert_eq!(
            redaction.apply("fatal: unable to access 'https://oauth2:glpat-x@g.example/a.git/': see http://b@c/ and hunter2"),
            "fatal: unable to access 'https://g.example/a.git/': see http://c/ and ***"
        );
        assert_eq!(
            redaction.apply("https://a:b@c@g.example"),
            "https://g.example"
        );
        assert_eq!(redaction.apply("git@g.example:a/b"), "git@g.example:a/b");
    }

    #[test]
    fn lines_of_a_remote_are_bounded_and_escaped() {
        let stderr = "remote: \nremote: ========\nremote: GitLab: You are not allowed to push code to protected branches on this project.\u{1b}[31m\n\
                      remote: ::error::x\nTo https://g.example/a.git\nerror: failed to push some refs to 'https://u:p@g.example/a.git'\n";
        assert_eq!(
            lines(stderr, &OutputRedaction::default()),
            [
                r"GitLab: You are not allowed to push code to protected branches on this project.\u{1b}[31m",
                "::error::x"
            ]
        );
        let long = format!("remote: {}\n", "x".repeat(5000)).repeat(3)
            + &"remote: y\nremote: z\n".repeat(50);
        let shown = lines(&long, &OutputRedaction::default());
        assert!(
            shown.len() == MAX_LINES
                && shown
                    .iter()
                    .all(|line| line.chars().count() <= MAX_LINE_LENGTH + 1),
            "{shown:?}"
        );
        assert_eq!(
            lines("fatal: bad thing\n", &OutputRedaction::default()),
            ["bad thing"]
        );
        let ssh = "ssh: connect to host g.example port 22: Connection refused\nfatal: Could not read from remote repository.\n\nPlease make sure \
                   you have the correct access rights\nand the repository exists.\n";
        assert_eq!(
            lines(ssh, &OutputRedaction::default()),
            [
                "ssh: connect to host g.example port 22: Connection refused",
                "Could not read from remote repository."
            ]
        );
    }

    #[test]
    fn refusal_classifies_server_messages() {
        let kind = |stderr: &str, reason: Option<&str>| {
            refusal(stderr, reason, &OutputRedaction::default()).kind
        };
        let gitlab = "remote: GitLab: You are not allowed to push code to protected branches on this project.";
        assert_eq!(
            kind(gitlab, Some("pre-receive hook declined")),
            RemoteRefusalKind::Protected
        );
        assert_eq!(
            kind(
                "remote: Gitea: Not allowed to push to protected branch main",
                Some("pre-receive hook declined")
            ),
            RemoteRefusalKind::Protected
        );
        assert_eq!(
            kind("", Some("protected branch hook declined")),
            RemoteRefusalKind::Protected
        );
        let upload = "remote: You are not allowed to upload code.\nfatal: unable to access 'https://g/': The requested URL returned error: 403";
        assert_eq!(kind(upload, None), RemoteRefusalKind::Forbidden);
        assert_eq!(
            kind(
                "fatal: could not read Username for 'https://g': terminal prompts disabled",
                None
            ),
            RemoteRefusalKind::Unauthenticated
        );
        assert_eq!(
            kind("fatal: Authentication failed for 'https://g/'", None),
            RemoteRefusalKind::Unauthenticated
        );
        assert_eq!(
            kind("fatal: repository 'https://g/a.git/' not found", None),
            RemoteRefusalKind::Absent
        );
        assert_eq!(
            kind(
                "remote: commit message must name a ticket",
                Some("pre-receive hook declined")
            ),
            RemoteRefusalKind::Rule
        );
        assert_eq!(
            kind(
                "fatal: unable to access 'https://g/': The requested URL returned error: 502",
                None
            ),
            RemoteRefusalKind::Transient
        );
        assert_eq!(
            kind(
                "fatal: unable to access 'https://g/': The requested URL returned error: 301",
                None
            ),
            RemoteRefusalKind::Moved
        );
        assert_eq!(
            kind("fatal: something else", None),
            RemoteRefusalKind::Other
        );
        assert_eq!(
            refusal(
                "",
                Some("shallow update not allowed"),
                &OutputRedaction::default()
            )
            .lines,
            ["shallow update not allowed"]
        );
        assert!(
            is_stale("fetch first")
                && is_stale("cannot lock ref 'refs/heads/main': is at 1 but expected 2")
        );
        assert!(!is_stale("pre-receive hook declined"));
    }

    #[test]
    fn fuzzing_stderr_of_git() {
        let seeds = [
            "remote: GitLab: You are not allowed to push code to protected branches\nTo https://a:b@git.example/x.git\n ! [remote rejected] main -> main (pre-receive hook declined)\nerror: failed to push some refs\n",
            "fatal: unable to access 'https://oauth2:hunter2@git.example/x/': The requested URL returned error: 403\r\n",
            "Administrator <root@gitlab.example>",
            "0123456789abcdef0123456789abcdef01234567",
        ];
        let redaction = OutputRedaction::new(["hunter2".to_owned()]);
        crate::model::fuzz_tests::fuzz("stderr of git", &seeds, |input| {
            let text = crate::model::fuzz_tests::text(input);
            for result in [
                refusal(&text, None, &redaction),
                refusal("", Some(&text), &redaction),
            ] {
                for line in result.lines {
                    assert!(
                        !line.contains("hunter2") && crate::model::text::printable(&line) == line,
                        "{line}"
                    );
                }
            }
            is_stale(&text);
            drop((
                crate::git::CommitIdentity::parse(&text),
                crate::git::ObjectId::parse(&text),
                crate::git::PushRemote::new(&text, None).to_string(),
            ));
        });
    }
}
