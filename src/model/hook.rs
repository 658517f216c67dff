//! Hooks: user commands that run after a step.

use std::time::Duration;

use super::env;

/// A user command that runs after a step, an entry or an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    pub command: HookCommand,
    /// Time after which the command and its children are killed.
    pub timeout: Duration,
    /// If true, a failure of the hook is reported but does not fail the step.
    pub continue_on_error: bool,
}

/// The command line of a hook. Placeholders are not replaced yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookCommand {
    /// A command line for `sh -c`.
    Shell(String),
    /// A program and its arguments, run without a shell.
    Program(Vec<String>),
}

/// A placeholder in a hook command, such as `{{ image }}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Placeholder {
    Image,
    Digest,
    Source,
    Target,
    Tag,
}

impl Placeholder {
    /// All placeholders.
    pub const ALL: [Placeholder; 5] = [
        Placeholder::Image,
        Placeholder::Digest,
        Placeholder::Source,
        Placeholder::Target,
        Placeholder::Tag,
    ];

    /// Returns the name between the braces.
    pub fn name(self) -> &'static str {
        match self {
            Placeholder::Image => "image",
            Placeholder::Digest => "digest",
            Placeholder::Source => "source",
            Placeholder::Target => "target",
            Placeholder::Tag => "tag",
        }
    }

    /// Returns the environment variable that passes the value to the hook.
    pub fn variable(self) -> &'static str {
        match self {
            Placeholder::Image => env::IMGLIFE_IMAGE,
            Placeholder::Digest => env::IMGLIFE_DIGEST,
            Placeholder::Source => env::IMGLIFE_SOURCE,
            Placeholder::Target => env::IMGLIFE_TARGET,
            Placeholder::Tag => env::IMGLIFE_TAG,
        }
    }
}

impl HookCommand {
    /// Returns true if the command contains at least one of `placeholders`.
    pub fn contains_any(&self, placeholders: &[Placeholder]) -> bool {
        let texts: Vec<&String> = match self {
            HookCommand::Shell(line) => vec![line],
            HookCommand::Program(words) => words.iter().collect(),
        };
        texts.iter().any(|text| {
            parts(text).iter().any(
                |part| matches!(part, CommandPart::Value(value) if placeholders.contains(value)),
            )
        })
    }
}

/// A part of a hook command: literal text or a placeholder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandPart<'a> {
    Text(&'a str),
    Value(Placeholder),
}

/// Splits `text` at its placeholders.
///
/// Text in double braces that is not a placeholder is returned as literal text. The configuration
/// check rejects it before a hook runs.
pub fn parts(text: &str) -> Vec<CommandPart<'_>> {
    let mut parts = Vec::new();
    let mut rest = text;
    let mut searched = 0;
    // Position of the next `}}`. Searched once, however many `{{` precede it.
    let mut next_close = None;
    while let Some(open) = rest[searched..].find("{{").map(|at| at + searched) {
        let Some(close) = next_close
            .filter(|close| *close > open)
            .or_else(|| rest[open..].find("}}").map(|at| at + open))
        else {
            break;
        };
        next_close = Some(close);
        let name = rest[open + 2..close].trim();
        let Some(&value) = Placeholder::ALL
            .iter()
            .find(|placeholder| placeholder.name() == name)
        else {
            searched = open + 2;
            continue;
        };
        if open > 0 {
            parts.push(CommandPart::Text(&rest[..open]));
        }
        parts.push(CommandPart::Value(value));
        rest = &rest[close + 2..];
        (searched, next_close) = (0, None);
    }
    if !rest.is_empty() {
        parts.push(CommandPart::Text(rest));
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_splits_a_command_at_its_placeholders() {
        assert_eq!(
            parts("scan {{ image }}@{{digest}} {{ other }} {{"),
            [
                CommandPart::Text("scan "),
                CommandPart::Value(Placeholder::Image),
                CommandPart::Text("@"),
                CommandPart::Value(Placeholder::Digest),
                CommandPart::Text(" {{ other }} {{"),
            ]
        );
        assert_eq!(parts(""), []);
    }

    #[test]
    fn contains_any_finds_placeholders_in_arguments() {
        let command = HookCommand::Program(vec!["notify".to_owned(), "{{ target }}".to_owned()]);
        assert!(command.contains_any(&[Placeholder::Target]));
        assert!(!command.contains_any(&[Placeholder::Image, Placeholder::Tag]));
    }
}
