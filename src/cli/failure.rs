//! Display of a failure: the error, its causes, hints.

use anstyle::{AnsiColor, Style};

use crate::error::{Failure, causes};
use crate::model::text::{Masker, printable};

const ERROR: Style = AnsiColor::Red.on_default().bold();
const CAUSE: Style = Style::new().dimmed();
const HINT: Style = AnsiColor::Cyan.on_default();

/// Messages of a failure, without secrets.
pub(super) struct FailureText {
    pub(super) error: String,
    pub(super) causes: Vec<String>,
    pub(super) hints: Vec<String>,
}

impl FailureText {
    /// Returns the messages of `failure`. Leaves out a cause that repeats the message above it.
    pub(super) fn new(failure: &Failure, masker: &Masker) -> FailureText {
        let error = failure.error.to_string();
        let mut causes = causes(failure.error.as_ref());
        causes.dedup();
        if causes.first() == Some(&error) {
            causes.remove(0);
        }
        let masked = |messages: &[String]| {
            messages
                .iter()
                .map(|message| masker.mask(message))
                .collect()
        };
        FailureText {
            error: masker.mask(&error),
            causes: masked(&causes),
            hints: masked(&failure.hints),
        }
    }

    /// Returns the lines for a terminal or a log.
    pub(super) fn draw(&self, color: bool) -> String {
        let mut drawn = message("", "error", ERROR, &self.error, color);
        for cause in &self.causes {
            drawn += &message("  ", "caused by", CAUSE, cause, color);
        }
        for hint in &self.hints {
            drawn += &message("  ", "hint", HINT, hint, color);
        }
        drawn
    }
}

/// Returns `text` with a label. Further lines are indented and start with a bar, so that untrusted
/// text in them cannot look like another message, or like a command to a CI server that reads the
/// log.
fn message(indent: &str, label: &str, style: Style, text: &str, color: bool) -> String {
    let mut lines = text.trim_end().lines();
    let label_drawn = if color {
        format!("{style}{label}:{style:#}")
    } else {
        format!("{label}:")
    };
    let mut drawn = format!(
        "{indent}{label_drawn} {}\n",
        printable(lines.next().unwrap_or_default())
    );
    let bar = " ".repeat(indent.len() + label.len()) + "| ";
    for line in lines {
        drawn += &format!("{bar}{}\n", printable(line));
    }
    drawn
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;

    /// Error with its causes, the outermost first.
    #[derive(Debug)]
    struct Chain(Vec<&'static str>, Option<Box<Chain>>);

    impl Chain {
        fn new(messages: &[&'static str]) -> Chain {
            let inner = (messages.len() > 1).then(|| Box::new(Chain::new(&messages[1..])));
            Chain(vec![messages[0]], inner)
        }
    }

    impl fmt::Display for Chain {
        fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str(self.0[0])
        }
    }

    impl std::error::Error for Chain {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            self.1
                .as_deref()
                .map(|cause| cause as &(dyn std::error::Error + 'static))
        }
    }

    fn drawn(failure: &Failure, color: bool) -> String {
        FailureText::new(failure, &Masker::new(["hunter2".to_owned()])).draw(color)
    }

    #[test]
    fn a_failure_is_an_error_its_causes_and_hints() {
        let failure = Failure::failed(Chain::new(&[
            "docker.io/library/alpine could not be listed",
            "connection refused",
        ]))
        .hint("check the network")
        .hint("or `hosts.<host>.endpoint`");
        insta::assert_snapshot!(drawn(&failure, false), @"
        error: docker.io/library/alpine could not be listed
          caused by: connection refused
          hint: check the network
          hint: or `hosts.<host>.endpoint`
        ");
    }

    #[test]
    fn a_cause_that_repeats_the_message_above_it_is_left_out() {
        let failure = Failure::failed(Chain::new(&[
            "no answer",
            "no answer",
            "timed out",
            "timed out",
            "no answer",
        ]));
        insta::assert_snapshot!(drawn(&failure, false), @"
        error: no answer
          caused by: timed out
          caused by: no answer
        ");
    }

    #[test]
    fn control_characters_and_secrets_are_removed_and_lines_are_indented() {
        let failure = Failure::failed(Chain::new(&[
            "the helper said\r\n::error::\u{1b}[31m\nhunter2\n",
            "two\nlines",
        ]))
        .hint("a\n\nb");
        insta::assert_snapshot!(drawn(&failure, false), @r"
        error: the helper said
             | ::error::\u{1b}[31m
             | ***
          caused by: two
                   | lines
          hint: a
              | 
              | b
        ");
    }

    #[test]
    fn only_labels_are_coloured() {
        let failure = Failure::failed(Chain::new(&["a", "b"])).hint("c");
        assert_eq!(
            drawn(&failure, true),
            "\u{1b}[1m\u{1b}[31merror:\u{1b}[0m a\n  \u{1b}[2mcaused by:\u{1b}[0m b\n  \u{1b}[36mhint:\u{1b}[0m c\n"
        );
    }
}
