//! Code quality reports, as GitLab shows them in merge requests: findings at lines of files.
//!
//! The form is the part of Code Climate's that GitLab documents ("Code Quality report format").

use serde::Serialize;

use super::json::visible;
use crate::model::Digest;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Info,
    Minor,
    Major,
    Critical,
}

/// A finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    pub description: String,
    /// The rule, as in `imglife/outdated-base`.
    pub check_name: &'static str,
    /// What the finding is about. With rule and file it tells findings apart, so it must not change
    /// from day to day.
    pub subject: String,
    pub severity: Severity,
    /// Relative to the repository.
    pub path: String,
    /// From 1.
    pub line: usize,
}

#[derive(Serialize)]
struct Entry<'a> {
    description: &'a str,
    check_name: &'static str,
    fingerprint: String,
    severity: Severity,
    location: Location<'a>,
}

#[derive(Serialize)]
struct Location<'a> {
    path: &'a str,
    lines: Lines,
}

#[derive(Serialize)]
struct Lines {
    begin: usize,
}

/// Returns `issues` as a report; without any, an empty one, which tells GitLab that the earlier
/// ones are gone.
pub fn draw(issues: &[Issue]) -> Result<String, serde_json::Error> {
    let entries = issues.iter().map(|issue| {
        // GitLab finds files by paths without this.
        let path = issue.path.trim_start_matches("./");
        let identity = format!("{}\n{}\n{path}", issue.check_name, issue.subject);
        Entry {
            description: &issue.description,
            check_name: issue.check_name,
            fingerprint: Digest::sha256(identity.as_bytes()).hex().to_owned(),
            severity: issue.severity,
            location: Location {
                path,
                lines: Lines { begin: issue.line },
            },
        }
    });
    Ok(visible(&serde_json::to_string_pretty(&entries.collect::<Vec<_>>())?) + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issue(description: &str) -> Issue {
        Issue {
            description: description.to_owned(),
            check_name: "imglife/outdated-base",
            subject: "r.example/bases/alpine:3.21.3".to_owned(),
            severity: Severity::Minor,
            path: "./docker/Dockerfile".to_owned(),
            line: 3,
        }
    }

    #[test]
    fn findings_are_told_with_their_lines() {
        insta::assert_snapshot!(draw(&[issue("it is \"old\"\n")]).expect("JSON"), @r#"
        [
          {
            "description": "it is \"old\"\n",
            "check_name": "imglife/outdated-base",
            "fingerprint": "a064344fe0c51029bc7363fbade20371100c68819379db2a699208ea88d349dc",
            "severity": "minor",
            "location": {
              "path": "docker/Dockerfile",
              "lines": {
                "begin": 3
              }
            }
          }
        ]
        "#);
        assert_eq!(draw(&[]).expect("JSON"), "[]\n");
    }

    #[test]
    fn a_finding_is_the_same_when_only_its_words_change() {
        let fingerprint = |issue: Issue| {
            serde_json::from_str::<serde_json::Value>(&draw(&[issue]).expect("JSON")).expect("JSON")
                [0]["fingerprint"]
                .clone()
        };
        assert_eq!(
            fingerprint(issue("30 days left")),
            fingerprint(issue("29 days left"))
        );
        assert_ne!(
            fingerprint(issue("x")),
            fingerprint(Issue {
                subject: "other".to_owned(),
                ..issue("x")
            })
        );
        assert_ne!(
            fingerprint(issue("x")),
            fingerprint(Issue {
                path: "Dockerfile".to_owned(),
                ..issue("x")
            })
        );
    }
}
