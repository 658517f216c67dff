//! What git and remotes say on stderr, made safe to show, and what it means.

use crate::model::text::{Masker, excerpt};

/// The most lines that are shown.
const MOST_LINES: usize = 8;

/// The longest line that is shown, in characters.
const LONGEST_LINE: usize = 240;

/// How lines of git's begin that say nothing of the cause.
const IDLE: [&str; 7] = [
    "remote:",
    "hint:",
    "warning:",
    "To ",
    "Please make sure you have",
    "and the repository exists",
    "error: failed to push some refs",
];

/// Takes out of words what nobody may see.
#[derive(Clone, Default)]
pub(super) struct Redaction(Masker);

impl Redaction {
    pub(super) fn new(secrets: impl IntoIterator<Item = String>) -> Redaction {
        Redaction(Masker::new(secrets))
    }

    /// Returns `text` without the secrets, and without what stands before an `@` in addresses.
    pub(super) fn apply(&self, text: &str) -> String {
        let text = self.0.mask(text);
        let mut safe = String::with_capacity(text.len());
        let mut rest = text.as_str();
        while let Some((before, after)) = rest.split_once("://") {
            let end = after
                .find(|character: char| {
                    character == '/' || character.is_whitespace() || character == '\''
                })
                .unwrap_or(after.len());
            let (authority, behind) = after.split_at(end);
            let host = authority
                .rsplit_once('@')
                .map_or(authority, |(_, host)| host);
            safe.push_str(before);
            safe.push_str("://");
            safe.push_str(host);
            rest = behind;
        }
        safe.push_str(rest);
        safe
    }
}

/// Why a remote did not take something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub kind: RefusalKind,
    /// What it said, safe to show.
    pub words: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// The branch is protected.
    Protected,
    /// Who asks is known, and may not.
    Forbidden,
    /// Who asks is not known.
    Unknown,
    /// There is no such repository, or not for who asks.
    Absent,
    /// It leads to another address, where no token goes.
    Moved,
    /// It may pass by itself.
    Passing,
    /// A rule of the server's own.
    Rule,
    Other,
}

/// Returns what git said on stderr, in few short lines: a remote's own words, or else git's.
pub(super) fn of(stderr: &str, redaction: &Redaction) -> Vec<String> {
    let redacted = redaction.apply(stderr);
    let lines = || {
        redacted
            .split(['\n', '\r'])
            .map(str::trim)
            .filter(|line| !line.is_empty())
    };
    let decoration = |line: &&str| line.chars().any(char::is_alphanumeric);
    let mut remote: Vec<&str> = lines()
        .filter_map(|line| line.strip_prefix("remote:"))
        .map(str::trim)
        .filter(decoration)
        .collect();
    remote.dedup();
    let idle = |line: &&str| IDLE.iter().any(|start| line.starts_with(start));
    let bare = |line: &'_ str| {
        ["fatal: ", "error: "]
            .iter()
            .find_map(|prefix| line.strip_prefix(prefix))
            .unwrap_or(line)
            .to_owned()
    };
    let git: Vec<String> = lines().filter(|line| !idle(line)).map(bare).collect();
    let chosen: Vec<String> = if remote.is_empty() {
        git.into_iter().take(MOST_LINES).collect()
    } else {
        // What a server says of a refusal is in its own words; git adds the status.
        let status = git
            .into_iter()
            .filter(|line| line.contains("returned error"));
        remote
            .into_iter()
            .take(MOST_LINES)
            .map(str::to_owned)
            .chain(status.take(1))
            .collect()
    };
    chosen
        .iter()
        .map(|line| excerpt(line, LONGEST_LINE))
        .collect()
}

/// Returns what a failed conversation with a remote means, by what was said on stderr and by the
/// reason that `push --porcelain` gives.
pub(super) fn refusal(stderr: &str, reason: Option<&str>, redaction: &Redaction) -> Refusal {
    let text = format!("{stderr}\n{}", reason.unwrap_or_default()).to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let kind = if has(&["protected branch", "branch is protected"]) {
        RefusalKind::Protected
    } else if has(&[
        "authentication failed",
        "could not read username",
        "could not read password",
        "returned error: 401",
        "permission denied (publickey",
        "host key verification failed",
        "http basic: access denied",
    ]) {
        RefusalKind::Unknown
    } else if has(&[
        "returned error: 403",
        "not allowed to push",
        "not allowed to upload",
        "you are not allowed",
        "permission to",
    ]) {
        RefusalKind::Forbidden
    } else if has(&[
        "returned error: 404",
        "repository not found",
        "' not found",
        "does not appear to be a git repository",
        "could not be found",
        "cannot find repository",
    ]) {
        RefusalKind::Absent
    } else if has(&[
        "returned error: 30",
        "unable to update url base from redirection",
    ]) {
        RefusalKind::Moved
    } else if has(&["hook declined", "remote rejected"]) || reason.is_some() {
        RefusalKind::Rule
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
        RefusalKind::Passing
    } else {
        RefusalKind::Other
    };
    let mut words = of(stderr, redaction);
    if words.is_empty()
        && let Some(reason) = reason
    {
        words.push(excerpt(&redaction.apply(reason), LONGEST_LINE));
    }
    Refusal { kind, words }
}

/// Returns whether a push was rejected because somebody else was quicker, by the reason that `push
/// --porcelain` gives.
pub(super) fn is_overtaken(reason: &str) -> bool {
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
    fn logins_in_addresses_and_secrets_are_taken_out() {
        let redaction = Redaction::new(["hunter2".to_owned()]);
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
    fn the_words_of_a_remote_are_few_and_safe() {
        let stderr = "remote: \nremote: ========\nremote: GitLab: You are not allowed to push code to protected branches on this project.\u{1b}[31m\n\
                      remote: ::error::x\nTo https://g.example/a.git\nerror: failed to push some refs to 'https://u:p@g.example/a.git'\n";
        assert_eq!(
            of(stderr, &Redaction::default()),
            [
                r"GitLab: You are not allowed to push code to protected branches on this project.\u{1b}[31m",
                "::error::x"
            ]
        );
        let long = format!("remote: {}\n", "x".repeat(5000)).repeat(3)
            + &"remote: y\nremote: z\n".repeat(50);
        let shown = of(&long, &Redaction::default());
        assert!(
            shown.len() == MOST_LINES
                && shown
                    .iter()
                    .all(|line| line.chars().count() <= LONGEST_LINE + 1),
            "{shown:?}"
        );
        assert_eq!(
            of("fatal: bad thing\n", &Redaction::default()),
            ["bad thing"]
        );
        let ssh = "ssh: connect to host g.example port 22: Connection refused\nfatal: Could not read from remote repository.\n\nPlease make sure \
                   you have the correct access rights\nand the repository exists.\n";
        assert_eq!(
            of(ssh, &Redaction::default()),
            [
                "ssh: connect to host g.example port 22: Connection refused",
                "Could not read from remote repository."
            ]
        );
    }

    #[test]
    fn refusals_are_told_apart() {
        let kind = |stderr: &str, reason: Option<&str>| {
            refusal(stderr, reason, &Redaction::default()).kind
        };
        let gitlab = "remote: GitLab: You are not allowed to push code to protected branches on this project.";
        assert_eq!(
            kind(gitlab, Some("pre-receive hook declined")),
            RefusalKind::Protected
        );
        assert_eq!(
            kind(
                "remote: Gitea: Not allowed to push to protected branch main",
                Some("pre-receive hook declined")
            ),
            RefusalKind::Protected
        );
        assert_eq!(
            kind("", Some("protected branch hook declined")),
            RefusalKind::Protected
        );
        let upload = "remote: You are not allowed to upload code.\nfatal: unable to access 'https://g/': The requested URL returned error: 403";
        assert_eq!(kind(upload, None), RefusalKind::Forbidden);
        assert_eq!(
            kind(
                "fatal: could not read Username for 'https://g': terminal prompts disabled",
                None
            ),
            RefusalKind::Unknown
        );
        assert_eq!(
            kind("fatal: Authentication failed for 'https://g/'", None),
            RefusalKind::Unknown
        );
        assert_eq!(
            kind("fatal: repository 'https://g/a.git/' not found", None),
            RefusalKind::Absent
        );
        assert_eq!(
            kind(
                "remote: commit message must name a ticket",
                Some("pre-receive hook declined")
            ),
            RefusalKind::Rule
        );
        assert_eq!(
            kind(
                "fatal: unable to access 'https://g/': The requested URL returned error: 502",
                None
            ),
            RefusalKind::Passing
        );
        assert_eq!(
            kind(
                "fatal: unable to access 'https://g/': The requested URL returned error: 301",
                None
            ),
            RefusalKind::Moved
        );
        assert_eq!(kind("fatal: something else", None), RefusalKind::Other);
        assert_eq!(
            refusal(
                "",
                Some("shallow update not allowed"),
                &Redaction::default()
            )
            .words,
            ["shallow update not allowed"]
        );
        assert!(
            is_overtaken("fetch first")
                && is_overtaken("cannot lock ref 'refs/heads/main': is at 1 but expected 2")
        );
        assert!(!is_overtaken("pre-receive hook declined"));
    }

    #[test]
    fn fuzzing_words_of_git() {
        let seeds = [
            "remote: GitLab: You are not allowed to push code to protected branches\nTo https://a:b@git.example/x.git\n ! [remote rejected] main -> main (pre-receive hook declined)\nerror: failed to push some refs\n",
            "fatal: unable to access 'https://oauth2:hunter2@git.example/x/': The requested URL returned error: 403\r\n",
            "Administrator <root@gitlab.example>",
            "0123456789abcdef0123456789abcdef01234567",
        ];
        let redaction = Redaction::new(["hunter2".to_owned()]);
        crate::model::fuzz_tests::fuzz("words of git", &seeds, |input| {
            let text = crate::model::fuzz_tests::text(input);
            for said in [
                refusal(&text, None, &redaction),
                refusal("", Some(&text), &redaction),
            ] {
                for word in said.words {
                    assert!(
                        !word.contains("hunter2") && crate::model::text::printable(&word) == word,
                        "{word}"
                    );
                }
            }
            is_overtaken(&text);
            drop((
                crate::git::Identity::parse(&text),
                crate::git::ObjectId::parse(&text),
                crate::git::Remote::new(&text, None).to_string(),
            ));
        });
    }
}
