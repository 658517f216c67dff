//! Code quality reports, which GitLab shows in merge requests: issues at lines of files.
//!
//! The format is the part of Code Climate's that GitLab documents ("Code Quality report format").

use serde::Serialize;

use super::json::escape_unsafe;
use crate::model::Digest;

/// Severity of an issue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Info,
    Minor,
    Major,
    Critical,
}

/// An issue at a line of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    pub description: String,
    /// Name of the rule, such as `imglife/outdated-base`.
    pub check_name: &'static str,
    /// Subject of the issue, such as an image. Rule, file and subject identify an issue, so the
    /// subject must not change from day to day.
    pub subject: String,
    pub severity: Severity,
    /// Path of the file, relative to the repository.
    pub path: String,
    /// Line number, from 1.
    pub line: usize,
}

/// An issue in GitLab's format.
#[derive(Serialize)]
struct QualityIssue<'a> {
    description: &'a str,
    check_name: &'static str,
    fingerprint: String,
    severity: Severity,
    location: IssueLocation<'a>,
}

#[derive(Serialize)]
struct IssueLocation<'a> {
    path: &'a str,
    lines: IssueLines,
}

#[derive(Serialize)]
struct IssueLines {
    begin: usize,
}

/// Returns `issues` as a code quality report.
///
/// Without issues the report is an empty list, from which GitLab concludes that earlier issues are
/// resolved.
pub fn draw(issues: &[Issue]) -> Result<String, serde_json::Error> {
    let entries = issues.iter().map(|issue| {
        // GitLab does not match paths that start with `./`.
        let path = issue.path.trim_start_matches("./");
        let identity = format!("{}\n{}\n{path}", issue.check_name, issue.subject);
        QualityIssue {
            description: &issue.description,
            check_name: issue.check_name,
            fingerprint: Digest::sha256(identity.as_bytes()).hex().to_owned(),
            severity: issue.severity,
            location: IssueLocation {
                path,
                lines: IssueLines { begin: issue.line },
            },
        }
    });
    Ok(escape_unsafe(&serde_json::to_string_pretty(&entries.collect::<Vec<_>>())?) + "\n")
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
    fn issues_are_listed_with_their_lines() {
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
    fn fingerprint_does_not_depend_on_the_description() {
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
