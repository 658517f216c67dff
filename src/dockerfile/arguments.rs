//! Build arguments: what `ARG` declares, and what `$NAME` stands for.

use std::collections::BTreeMap;

use thiserror::Error;

use super::Values;
use crate::model::text::{excerpt, names_a_secret};

/// The longest value that replacing may give, in bytes: arguments can double one another.
const LONGEST_VALUE: usize = 16 * 1024;

/// The most text that all defaults together may give, in bytes.
const MOST_TEXT: usize = 1024 * 1024;

/// How deep references may stand in one another, as in `${A:-${B:-c}}`.
const DEEPEST: usize = 8;

/// The arguments that builders define by themselves (Dockerfile reference, "Automatic platform ARGs
/// in the global scope").
pub(super) const PREDEFINED: [&str; 8] = [
    "BUILDPLATFORM",
    "BUILDOS",
    "BUILDARCH",
    "BUILDVARIANT",
    "TARGETPLATFORM",
    "TARGETOS",
    "TARGETARCH",
    "TARGETVARIANT",
];

/// Why a text cannot be expanded.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ExpandError {
    #[error("`{}` is not declared", excerpt(.0, 60))]
    Undeclared(String),
    #[error("`{}` has no value: its ARG has no default, and no environment variable of that name is set", excerpt(.0, 60))]
    NoValue(String),
    #[error("`{}` is named like a secret and not taken from the environment", excerpt(.0, 60))]
    Secret(String),
    #[error("`{}`: {}", excerpt(.name, 60), excerpt(.message, 120))]
    Demanded { name: String, message: String },
    #[error("`{}` is no reference to an argument that is understood here", excerpt(.0, 60))]
    NotUnderstood(String),
    #[error("a quote or a brace is not closed")]
    Unclosed,
    #[error("`{}` may come from the base image, which was not read", excerpt(.0, 60))]
    Untold(String),
    #[error("`{}` is no pair of a name and a value", excerpt(.0, 60))]
    NoPair(String),
    #[error("it is longer than {LONGEST_VALUE} bytes with its arguments replaced")]
    TooLong,
}

/// The arguments known so far.
pub(super) struct Arguments<'a> {
    values: Values<'a>,
    /// What takes the meaning from the character after it.
    escape: char,
    /// The length of all defaults, in bytes.
    size: usize,
    /// What was declared; `None` without a default.
    declared: BTreeMap<String, Option<String>>,
}

impl<'a> Arguments<'a> {
    pub(super) fn new(values: Values<'a>, escape: char) -> Arguments<'a> {
        let declared = PREDEFINED
            .iter()
            .map(|name| ((*name).to_owned(), None))
            .collect();
        Arguments {
            values,
            escape,
            size: 0,
            declared,
        }
    }

    /// Takes in what follows `ARG`: names, each with a default or without.
    pub(super) fn declare(&mut self, text: &str) -> Result<(), ExpandError> {
        for word in words(text, self.escape)? {
            let (name, default) = match word.split_once('=') {
                Some((name, default)) => (name, Some(self.expand(default)?)),
                None => (word, None),
            };
            self.size += default.as_ref().map_or(0, String::len);
            if self.size > MOST_TEXT {
                return Err(ExpandError::TooLong);
            }
            self.declared.insert(name.to_owned(), default);
        }
        Ok(())
    }

    /// Returns what `name` stands for; `None` when it is declared and has no value.
    fn value(&self, name: &str) -> Result<Option<&str>, ExpandError> {
        let default = self
            .declared
            .get(name)
            .ok_or_else(|| ExpandError::Undeclared(name.to_owned()))?;
        if let Some(value) = self.values.given.get(name).or(default.as_ref()) {
            return Ok(Some(value));
        }
        match self.values.environment.get(name) {
            Some(_) if names_a_secret(name) => Err(ExpandError::Secret(name.to_owned())),
            value => Ok(value),
        }
    }

    /// Returns `text` without its quotes, and with arguments replaced. Nothing is replaced in
    /// single quotes.
    pub(super) fn expand(&self, text: &str) -> Result<String, ExpandError> {
        if text.len() > LONGEST_VALUE {
            return Err(ExpandError::TooLong);
        }
        let mut expanded = String::new();
        let mut rest = text;
        let mut quote = None;
        while let Some(character) = rest.chars().next() {
            let after = &rest[character.len_utf8()..];
            rest = after;
            match character {
                '\'' | '"' if quote == Some(character) => quote = None,
                '\'' | '"' if quote.is_none() => quote = Some(character),
                _ if character == self.escape && quote != Some('\'') => {
                    if let Some(next) = after.chars().next() {
                        expanded.push(next);
                        rest = &after[next.len_utf8()..];
                    }
                }
                '$' if quote != Some('\'') => {
                    let (value, left) = self.reference(after)?;
                    expanded.push_str(&value);
                    rest = left;
                }
                _ => expanded.push(character),
            }
            if expanded.len() > LONGEST_VALUE {
                return Err(ExpandError::TooLong);
            }
        }
        if quote.is_some() {
            Err(ExpandError::Unclosed)
        } else {
            Ok(expanded)
        }
    }

    /// Returns what the reference at the start of `text`, behind its `$`, stands for, and what
    /// follows it.
    fn reference<'t>(&self, text: &'t str) -> Result<(String, &'t str), ExpandError> {
        if let Some(inside) = text.strip_prefix('{') {
            let end = closing_brace(inside)
                .ok_or_else(|| ExpandError::NotUnderstood(format!("${text}")))?;
            return Ok((self.braced(&inside[..end])?, &inside[end + 1..]));
        }
        let length = name_length(text);
        if length == 0 {
            return Ok(("$".to_owned(), text));
        }
        let (name, rest) = text.split_at(length);
        let value = self
            .value(name)?
            .ok_or_else(|| ExpandError::NoValue(name.to_owned()))?;
        Ok((value.to_owned(), rest))
    }

    /// Returns what stands for `${inside}`.
    fn braced(&self, inside: &str) -> Result<String, ExpandError> {
        let (name, modifier) = inside.split_at(name_length(inside));
        if name.is_empty() {
            return Err(ExpandError::NotUnderstood(format!("${{{inside}}}")));
        }
        let value = self.value(name);
        if modifier.is_empty() {
            return Ok(value?
                .ok_or_else(|| ExpandError::NoValue(name.to_owned()))?
                .to_owned());
        }
        // With a modifier, not to be declared is to have no value.
        let value = match value {
            Err(ExpandError::Undeclared(_)) => None,
            other => other?,
        };
        let (value, modifier) = match modifier.strip_prefix(':') {
            Some(modifier) => (value.filter(|value| !value.is_empty()), modifier),
            None => (value, modifier),
        };
        let word = |modifier: &str| self.expand(modifier);
        match (modifier.chars().next(), value) {
            (Some('-'), None) => word(&modifier[1..]),
            (Some('+'), Some(_)) => word(&modifier[1..]),
            (Some('+'), None) => Ok(String::new()),
            (Some('?'), None) => Err(ExpandError::Demanded {
                name: name.to_owned(),
                message: word(&modifier[1..])?,
            }),
            (Some('-' | '?'), Some(value)) => Ok(value.to_owned()),
            _ => Err(ExpandError::NotUnderstood(format!("${{{inside}}}"))),
        }
    }
}

/// Returns where the brace is closed that was opened before `text`, unless what stands between is
/// nested too deeply.
fn closing_brace(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, character) in text.char_indices() {
        match character {
            '{' if depth == DEEPEST => return None,
            '{' => depth += 1,
            '}' if depth == 0 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// Returns how many bytes at the start of `text` make a name: letters, digits and `_`, no digit
/// first.
fn name_length(text: &str) -> usize {
    if text.starts_with(|first: char| first.is_ascii_digit()) {
        return 0;
    }
    text.bytes()
        .take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
        .count()
}

/// Returns the words of `text`, still quoted.
pub(super) fn words(text: &str, escape: char) -> Result<Vec<&str>, ExpandError> {
    let mut words = Vec::new();
    let mut quote = None;
    let mut start = None;
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            _ if quote.is_none() && character.is_whitespace() => {
                words.extend(start.take().map(|start| &text[start..at]));
                continue;
            }
            '\'' | '"' if quote == Some(character) => quote = None,
            '\'' | '"' if quote.is_none() => quote = Some(character),
            _ if character == escape && quote != Some('\'') => drop(characters.next()),
            _ => {}
        }
        start.get_or_insert(at);
    }
    words.extend(start.map(|start| &text[start..]));
    if quote.is_some() {
        Err(ExpandError::Unclosed)
    } else {
        Ok(words)
    }
}
