//! Checking hooks: their placeholders, and that no shell quote keeps one from being replaced.

use super::reader::{At, Context, Fields, Located, TextOrList};
use super::scalar::{Problem, alternatives};
use crate::config::errors::quoted;
use crate::config::{Hook, HookCommand};
use crate::model::hook::Placeholder;
use crate::model::text::closest;

/// Returns the hooks of a list, `None` when it is left out.
pub(super) fn hooks(fields: &Fields<'_>, name: &str) -> Option<Vec<Hook>> {
    Some(fields.sections(name)?.iter().filter_map(hook).collect())
}

fn hook(fields: &Fields<'_>) -> Option<Hook> {
    let context = fields.context;
    fields.demand("cmd");
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
                    &fields.place("timeout"),
                    "a hook needs time to run",
                    "leave `timeout` out for 60 seconds",
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

fn shell(context: &Context<'_>, line: Located<String>) -> Option<HookCommand> {
    if line.value.trim().is_empty() {
        context.report(
            &line.at,
            Problem::new("expected a shell line, found an empty text"),
        );
        return None;
    }
    let placeholders = placeholders(context, &line.value, &line.at);
    let quoted = single_quoted(&line.value);
    for (offset, shown) in placeholders {
        if quoted.get(offset).copied().unwrap_or(false) {
            context.error(
                &line.at,
                format!("the placeholder `{shown}` stands in single quotes, where the shell would not replace it"),
                "use double quotes around it",
            );
        }
    }
    Some(HookCommand::Shell(line.value))
}

fn program(context: &Context<'_>, words: Located<Vec<Located<String>>>) -> Option<HookCommand> {
    if words
        .value
        .first()
        .is_none_or(|program| program.value.is_empty())
    {
        context.error(
            &words.at,
            "the list names no program",
            "put the program's name first",
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

/// Returns where known placeholders begin, in bytes, and how they are written; others are reported.
fn placeholders<'a>(context: &Context<'_>, text: &'a str, at: &At) -> Vec<(usize, &'a str)> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(open) = text[from..].find("{{").map(|offset| from + offset) {
        let Some(close) = text[open..].find("}}").map(|offset| open + offset) else {
            context.error(
                at,
                "`{{` without `}}`",
                "write a placeholder as `{{ image }}`",
            );
            break;
        };
        let name = text[open + 2..close].trim();
        let known = Placeholder::ALL.map(Placeholder::name);
        if known.contains(&name) {
            found.push((open, &text[open..close + 2]));
        } else {
            let problem = Problem::new(format!(
                "unknown placeholder {}",
                quoted(&text[open..close + 2])
            ));
            let hint = match closest(name, known) {
                Some(near) => format!("did you mean `{{{{ {near} }}}}`?"),
                None => format!(
                    "there are {}",
                    alternatives(&known).replace(" or ", " and ")
                ),
            };
            context.report(at, problem.hint(hint));
        }
        from = close + 2;
    }
    found
}

/// A place in a shell line that quoting rules depend on.
#[derive(Clone, Copy, PartialEq)]
enum Quoting {
    /// Outside of quotes; also inside `( )` and `$( )`.
    Open,
    Single,
    Double,
}

/// Returns for each byte of a shell line whether it stands in single quotes (POSIX shell command
/// language, section 2.2).
fn single_quoted(line: &str) -> Vec<bool> {
    let bytes = line.as_bytes();
    let mut inside = vec![false; bytes.len()];
    let mut nesting = vec![Quoting::Open];
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let quoting = nesting.last().copied().unwrap_or(Quoting::Open);
        inside[at] = quoting == Quoting::Single;
        match (quoting, byte) {
            (Quoting::Single, b'\'') | (Quoting::Double, b'"') => {
                nesting.pop();
            }
            (Quoting::Single, _) => {}
            // What a backslash stands before is text.
            (_, b'\\') => at += 1,
            (_, b'$') if bytes.get(at + 1) == Some(&b'(') => {
                nesting.push(Quoting::Open);
                at += 1;
            }
            (Quoting::Double, _) => {}
            (Quoting::Open, b'\'') => nesting.push(Quoting::Single),
            (Quoting::Open, b'"') => nesting.push(Quoting::Double),
            (Quoting::Open, b'(') => nesting.push(Quoting::Open),
            (Quoting::Open, b')') if nesting.len() > 1 => {
                nesting.pop();
            }
            // A comment: quotes in it are none.
            (Quoting::Open, b'#')
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
    fn single_quotes_are_told_from_those_that_are_text() {
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
