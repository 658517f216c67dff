//! How a failure is shown: what failed, what caused it, what to do.

use anstyle::{AnsiColor, Style};

use crate::error::{Failure, causes};
use crate::model::text::{Masker, printable};

const ERROR: Style = AnsiColor::Red.on_default().bold();
const CAUSE: Style = Style::new().dimmed();
const HINT: Style = AnsiColor::Cyan.on_default();

/// A failure as messages that hold no secrets.
pub(super) struct Told {
    pub(super) error: String,
    pub(super) causes: Vec<String>,
    pub(super) hints: Vec<String>,
}

impl Told {
    /// Returns what `failure` says. A cause that only says again what it caused is left out.
    pub(super) fn new(failure: &Failure, masker: &Masker) -> Told {
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
        Told {
            error: masker.mask(&error),
            causes: masked(&causes),
            hints: masked(&failure.hints),
        }
    }

    /// Returns the lines that people are shown.
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

/// Returns `text` behind its label. Further lines stand below the first one, behind a bar: whatever
/// they hold, none of them looks like a message of its own, or like a command to a CI server that
/// reads the log.
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

    /// An error and its causes, from the outermost on.
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
        Told::new(failure, &Masker::new(["hunter2".to_owned()])).draw(color)
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
    fn a_cause_that_repeats_what_it_caused_is_left_out() {
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
    fn hostile_and_secret_text_is_harmless_and_lines_stay_below_each_other() {
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
    fn colours_mark_the_labels_only() {
        let failure = Failure::failed(Chain::new(&["a", "b"])).hint("c");
        assert_eq!(
            drawn(&failure, true),
            "\u{1b}[1m\u{1b}[31merror:\u{1b}[0m a\n  \u{1b}[2mcaused by:\u{1b}[0m b\n  \u{1b}[36mhint:\u{1b}[0m c\n"
        );
    }
}
