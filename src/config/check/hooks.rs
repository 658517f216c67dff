//! Check of hooks: their placeholders, and shell quotes that prevent a placeholder from being
//! replaced.

use super::reader::{CheckContext, Fields, KeyLocation, Located, TextOrList};
use super::scalar::{ValueError, alternatives};
use crate::config::errors::quoted;
use crate::config::{Hook, HookCommand};
use crate::model::hook::Placeholder;
use crate::model::text::closest;

/// Reads a list of hooks, or returns `None` if the key is not set.
pub(super) fn hooks(fields: &Fields<'_>, name: &str) -> Option<Vec<Hook>> {
    Some(fields.sections(name)?.iter().filter_map(hook).collect())
}

fn hook(fields: &Fields<'_>) -> Option<Hook> {
    let context = fields.context;
    fields.require("cmd");
    let command = fields
        .text_or_list("cmd")
        .and_then(|command| match command {
            TextOrList::Text(line) => shell(context, line),
            TextOrList::List(words) => program(context, words),
        });
    let timeout = fields
        .value("timeout")
        .filter(|timeout: &std::time::Duration| {
            if timeout.is_zero() {
                context.error(
                    &fields.location("timeout"),
                    "the timeout must be greater than zero",
                    "remove `timeout` for the default of 60 seconds",
                );
            }
            !timeout.is_zero()
        });
    let continue_on_error = fields.value("continue_on_error");
    Some(Hook {
        command: command?,
        timeout: timeout?,
        continue_on_error: continue_on_error?,
    })
}

fn shell(context: &CheckContext<'_>, line: Located<String>) -> Option<HookCommand> {
    if line.value.trim().is_empty() {
        context.report(
            &line.at,
            ValueError::new("expected a command line, found an empty string"),
        );
        return None;
    }
    let placeholders = placeholders(context, &line.value, &line.at);
    let quoted = single_quoted(&line.value);
    for (offset, shown) in placeholders {
        if quoted.get(offset).copied().unwrap_or(false) {
            context.error(
                &line.at,
                format!("the placeholder `{shown}` is in single quotes, in which the shell does not replace it"),
                "use double quotes instead",
            );
        }
    }
    Some(HookCommand::Shell(line.value))
}

fn program(
    context: &CheckContext<'_>,
    words: Located<Vec<Located<String>>>,
) -> Option<HookCommand> {
    if words
        .value
        .first()
        .is_none_or(|program| program.value.is_empty())
    {
        context.error(
            &words.at,
            "the list contains no program",
            "write the name of the program as the first item",
        );
        return None;
    }
    for word in &words.value {
        placeholders(context, &word.value, &word.at);
    }
    Some(HookCommand::Program(
        words.value.into_iter().map(|word| word.value).collect(),
    ))
}

/// Returns the offset in bytes and the text of each placeholder. Unknown placeholders are reported.
fn placeholders<'a>(
    context: &CheckContext<'_>,
    text: &'a str,
    at: &KeyLocation,
) -> Vec<(usize, &'a str)> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(open) = text[from..].find("{{").map(|offset| from + offset) {
        let Some(close) = text[open..].find("}}").map(|offset| open + offset) else {
            context.error(
                at,
                "`{{` without a closing `}}`",
                "write a placeholder as `{{ image }}`",
            );
            break;
        };
        let name = text[open + 2..close].trim();
        let names = Placeholder::ALL.map(Placeholder::name);
        if names.contains(&name) {
            found.push((open, &text[open..close + 2]));
        } else {
            let problem = ValueError::new(format!(
                "unknown placeholder {}",
                quoted(&text[open..close + 2])
            ));
            let hint = match closest(name, names) {
                Some(near) => format!("did you mean `{{{{ {near} }}}}`?"),
                None => format!("use one of {}", alternatives(&names)),
            };
            context.report(at, problem.hint(hint));
        }
        from = close + 2;
    }
    found
}

/// Quoting context at a position in a shell command line.
#[derive(Clone, Copy, PartialEq)]
enum ShellQuoting {
    /// Outside of quotes, or inside `( )` or `$( )`.
    Open,
    Single,
    Double,
}

/// Returns, for each byte of a shell command line, true if it is in single quotes (POSIX shell
/// command language, section 2.2).
fn single_quoted(line: &str) -> Vec<bool> {
    let bytes = line.as_bytes();
    let mut inside = vec![false; bytes.len()];
    let mut nesting = vec![ShellQuoting::Open];
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let quoting = nesting.last().copied().unwrap_or(ShellQuoting::Open);
        inside[at] = quoting == ShellQuoting::Single;
        match (quoting, byte) {
            (ShellQuoting::Single, b'\'') | (ShellQuoting::Double, b'"') => {
                nesting.pop();
            }
            (ShellQuoting::Single, _) => {}
            // A backslash quotes the next character.
            (_, b'\\') => at += 1,
            (_, b'$') if bytes.get(at + 1) == Some(&b'(') => {
                nesting.push(ShellQuoting::Open);
                at += 1;
            }
            (ShellQuoting::Double, _) => {}
            (ShellQuoting::Open, b'\'') => nesting.push(ShellQuoting::Single),
            (ShellQuoting::Open, b'"') => nesting.push(ShellQuoting::Double),
            (ShellQuoting::Open, b'(') => nesting.push(ShellQuoting::Open),
            (ShellQuoting::Open, b')') if nesting.len() > 1 => {
                nesting.pop();
            }
            // A comment, in which quotes have no effect.
            (ShellQuoting::Open, b'#')
                if at == 0
                    || bytes[at - 1].is_ascii_whitespace()
                    || matches!(bytes[at - 1], b';' | b'&' | b'|' | b'(') =>
            {
                at += bytes[at..]
                    .iter()
                    .position(|byte| *byte == b'\n')
                    .unwrap_or(bytes.len() - at);
            }
            _ => {}
        }
        at += 1;
    }
    inside
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns whether the `%` of the line is in single quotes.
    fn quoted(line: &str) -> bool {
        single_quoted(line)[line.find('%').expect("a mark")]
    }

    #[test]
    fn single_quoted_follows_shell_quoting() {
        for line in [
            "'%'",
            "echo 'a % b'",
            "\"a\"'%'",
            "\"$(echo '%')\"",
            "( echo '%' )",
            "'\\'\\''%'",
            "echo \\\\'%'",
            "a#'%'",
        ] {
            assert!(quoted(line), "{line}");
        }
        for line in [
            "%",
            "\"%\"",
            "'a' %",
            "\"it's %\"",
            "\\'%\\'",
            "'a'\\''b' %",
            "# don't\n%",
            "a; # don't\n%",
            "\"$(echo 'a')%'\"",
            "\"\\\"'%'\"",
            "$(echo 'a') %",
        ] {
            assert!(!quoted(line), "{line}");
        }
    }
}
