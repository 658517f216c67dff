//! Collapsible sections of a job log: "custom collapsible sections" of GitLab, and groups of
//! GitHub, Gitea and Forgejo Actions ("workflow commands").

use chrono::{DateTime, Utc};

use crate::model::Variables;
use crate::model::env;

/// Syntax for sections of a job log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sections {
    Gitlab,
    Groups,
}

impl Sections {
    /// Returns the syntax of the CI server, or `None` outside CI.
    pub fn of(variables: &Variables) -> Option<Sections> {
        if variables.get_filled(env::GITLAB_CI).is_some() {
            Some(Sections::Gitlab)
        } else {
            is_actions(variables).then_some(Sections::Groups)
        }
    }

    /// Returns the line that begins the section `name`, which consists of lower-case letters and
    /// dashes.
    pub fn begin(self, name: &'static str, now: DateTime<Utc>) -> String {
        match self {
            Sections::Gitlab => format!(
                "\x1b[0Ksection_start:{}:imglife_{name}\r\x1b[0Kimglife {name}\n",
                now.timestamp()
            ),
            Sections::Groups => format!("::group::imglife {name}\n"),
        }
    }

    /// Returns the line that ends the section `name`.
    pub fn end(self, name: &'static str, now: DateTime<Utc>) -> String {
        match self {
            Sections::Gitlab => format!(
                "\x1b[0Ksection_end:{}:imglife_{name}\r\x1b[0K\n",
                now.timestamp()
            ),
            Sections::Groups => "::endgroup::\n".to_owned(),
        }
    }
}

/// Returns true in a job of GitHub, Gitea or Forgejo Actions.
pub fn is_actions(variables: &Variables) -> bool {
    [
        env::GITHUB_ACTIONS,
        env::GITEA_ACTIONS,
        env::FORGEJO_ACTIONS,
    ]
    .iter()
    .any(|name| variables.get_filled(name).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_have_the_syntax_of_the_server() {
        let of = |name| Sections::of(&[(name, "true")].into_iter().collect::<Variables>());
        let drawn = |sections: Option<Sections>| {
            sections.map(|sections| {
                sections.begin("eol-update", DateTime::UNIX_EPOCH)
                    + "text\n"
                    + &sections.end("eol-update", DateTime::UNIX_EPOCH)
            })
        };
        insta::assert_snapshot!(format!("{:?}", drawn(of("GITLAB_CI"))), @r#"Some("\u{1b}[0Ksection_start:0:imglife_eol-update\r\u{1b}[0Kimglife eol-update\ntext\n\u{1b}[0Ksection_end:0:imglife_eol-update\r\u{1b}[0K\n")"#);
        for name in ["GITHUB_ACTIONS", "GITEA_ACTIONS", "FORGEJO_ACTIONS"] {
            assert_eq!(
                drawn(of(name)).as_deref(),
                Some("::group::imglife eol-update\ntext\n::endgroup::\n")
            );
        }
        assert_eq!(of("HOME"), None);
    }
}
