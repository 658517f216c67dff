//! JUnit XML, which GitLab and Gitea show as test results: one test case for each item of a run.
//!
//! The format has no specification; this is the part that all its readers support.

use std::time::Duration;

use crate::model::text::is_unsafe;

/// A run as a list of test cases.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TestSuite {
    pub name: String,
    pub cases: Vec<TestCase>,
}

/// One item of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestCase {
    pub name: String,
    /// Group of the case, such as the repository of an image.
    pub classname: String,
    pub duration: Duration,
    pub outcome: CaseOutcome,
}

/// Result of a test case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CaseOutcome {
    Passed,
    Failed(CaseFailure),
    /// Not checked; holds the reason in one line.
    Skipped(String),
}

impl From<Option<CaseFailure>> for CaseOutcome {
    fn from(failure: Option<CaseFailure>) -> CaseOutcome {
        failure.map_or(CaseOutcome::Passed, CaseOutcome::Failed)
    }
}

/// Reason why a test case failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaseFailure {
    /// Summary in one line.
    pub message: String,
    pub text: String,
}

/// Returns `suite` as a JUnit document.
///
/// Untrusted text is escaped, and characters that XML 1.0 does not allow are left out.
pub fn draw(suite: &TestSuite) -> String {
    let failures = suite
        .cases
        .iter()
        .filter(|case| matches!(case.outcome, CaseOutcome::Failed(_)))
        .count();
    let skipped = suite
        .cases
        .iter()
        .filter(|case| matches!(case.outcome, CaseOutcome::Skipped(_)))
        .count();
    let duration = suite.cases.iter().map(|case| case.duration).sum();
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    xml += &format!(
        "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{failures}\" errors=\"0\" skipped=\"{skipped}\" time=\"{}\">\n",
        attribute(&suite.name),
        suite.cases.len(),
        seconds(duration)
    );
    for case in &suite.cases {
        xml += &format!(
            "    <testcase name=\"{}\" classname=\"{}\" time=\"{}\"",
            attribute(&case.name),
            attribute(&case.classname),
            seconds(case.duration)
        );
        match &case.outcome {
            CaseOutcome::Passed => xml += "/>\n",
            CaseOutcome::Skipped(reason) => {
                xml += &format!(
                    ">\n      <skipped message=\"{}\"/>\n    </testcase>\n",
                    attribute(reason)
                );
            }
            CaseOutcome::Failed(failure) => {
                let (message, text) = (attribute(&failure.message), escaped(&failure.text));
                xml += &format!(
                    ">\n      <failure message=\"{message}\">{text}</failure>\n    </testcase>\n"
                );
            }
        }
    }
    xml += "  </testsuite>\n</testsuites>\n";
    xml
}

fn seconds(duration: Duration) -> String {
    format!("{:.3}", duration.as_secs_f64())
}

/// Escapes `text` for an attribute, in which readers turn a plain line break or tab into a space.
fn attribute(text: &str) -> String {
    escaped(text).replace('\n', "&#10;").replace('\t', "&#9;")
}

fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars().filter(|character| is_xml(*character)) {
        match character {
            '&' => shown += "&amp;",
            '<' => shown += "&lt;",
            '>' => shown += "&gt;",
            '"' => shown += "&quot;",
            '\r' => shown += "&#13;",
            other if is_unsafe(other) && !matches!(other, '\n' | '\t') => {
                shown.extend(other.escape_unicode());
            }
            other => shown.push(other),
        }
    }
    shown
}

/// Returns true if XML documents may contain `character` (XML 1.0, production 2, `Char`).
fn is_xml(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | '\u{20}'..='\u{fffd}' | '\u{10000}'..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suite_with_untrusted_text_is_well_formed() {
        let case = |name: &str, outcome| TestCase {
            name: name.to_owned(),
            classname: "docker.io/library/alpine".to_owned(),
            duration: Duration::from_millis(1250),
            outcome,
        };
        let failure = CaseFailure {
            message: "a \"b\"\n<c>\u{1b}[31m".to_owned(),
            text: "]]>&\n\u{0}\u{fffe}two\r".to_owned(),
        };
        let suite = TestSuite {
            name: "sync".to_owned(),
            cases: vec![
                case("3.21", CaseOutcome::Passed),
                case("<3.20&>", CaseOutcome::Failed(failure)),
                case(
                    "3.19",
                    CaseOutcome::Skipped("nothing \"is\" known".to_owned()),
                ),
            ],
        };
        insta::assert_snapshot!(draw(&suite), @r#"
        <?xml version="1.0" encoding="UTF-8"?>
        <testsuites>
          <testsuite name="sync" tests="3" failures="1" errors="0" skipped="1" time="3.750">
            <testcase name="3.21" classname="docker.io/library/alpine" time="1.250"/>
            <testcase name="&lt;3.20&amp;&gt;" classname="docker.io/library/alpine" time="1.250">
              <failure message="a &quot;b&quot;&#10;&lt;c&gt;[31m">]]&gt;&amp;
        two&#13;</failure>
            </testcase>
            <testcase name="3.19" classname="docker.io/library/alpine" time="1.250">
              <skipped message="nothing &quot;is&quot; known"/>
            </testcase>
          </testsuite>
        </testsuites>
        "#);
    }
}
