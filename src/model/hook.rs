//! Commands that users have run after something was done.

use std::time::Duration;

use super::env;

/// A command that is run after something was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    pub command: HookCommand,
    pub timeout: Duration,
    /// A failure of this hook is told and does not count.
    pub continue_on_error: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookCommand {
    /// A line for `sh -c`, its placeholders still in it.
    Shell(String),
    /// A program and its arguments, without a shell.
    Program(Vec<String>),
}

/// What a hook may be told: the placeholders `{{ image }}`, `{{ digest }}`, `{{ source }}`, `{{
/// target }}`, `{{ tag }}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Placeholder {
    Image,
    Digest,
    Source,
    Target,
    Tag,
}

impl Placeholder {
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

    /// Returns the variable that carries the value in the hook's environment.
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
    /// Returns whether the command names one of `placeholders`.
    pub fn names(&self, placeholders: &[Placeholder]) -> bool {
        let texts: Vec<&String> = match self {
            HookCommand::Shell(line) => vec![line],
            HookCommand::Program(words) => words.iter().collect(),
        };
        texts.iter().any(|text| {
            parts(text)
                .iter()
                .any(|part| matches!(part, Part::Value(value) if placeholders.contains(value)))
        })
    }
}

/// A piece of a command with placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    Text(&'a str),
    Value(Placeholder),
}

/// Returns `text` cut at its placeholders. What stands between braces and is none is text; the
/// configuration refuses it.
pub fn parts(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut rest = text;
    let mut searched = 0;
    // Looked for once, however many braces are open before it.
    let mut known = None;
    while let Some(open) = rest[searched..].find("{{").map(|at| at + searched) {
        let Some(close) = known
            .filter(|close| *close > open)
            .or_else(|| rest[open..].find("}}").map(|at| at + open))
        else {
            break;
        };
        known = Some(close);
        let name = rest[open + 2..close].trim();
        let Some(&value) = Placeholder::ALL
            .iter()
            .find(|placeholder| placeholder.name() == name)
        else {
            searched = open + 2;
            continue;
        };
        if open > 0 {
            parts.push(Part::Text(&rest[..open]));
        }
        parts.push(Part::Value(value));
        rest = &rest[close + 2..];
        (searched, known) = (0, None);
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest));
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_cut_at_their_placeholders() {
        assert_eq!(
            parts("scan {{ image }}@{{digest}} {{ other }} {{"),
            [
                Part::Text("scan "),
                Part::Value(Placeholder::Image),
                Part::Text("@"),
                Part::Value(Placeholder::Digest),
                Part::Text(" {{ other }} {{"),
            ]
        );
        assert_eq!(parts(""), []);
    }

    #[test]
    fn it_is_known_which_placeholders_a_command_names() {
        let command = HookCommand::Program(vec!["notify".to_owned(), "{{ target }}".to_owned()]);
        assert!(command.names(&[Placeholder::Target]));
        assert!(!command.names(&[Placeholder::Image, Placeholder::Tag]));
    }
}
