//! Arguments that are declared before the first `FROM`, and their expansion.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::model::text::excerpt;
use crate::model::variable_rules::names_a_secret;
use crate::model::{ExpansionRefusal, Variables};

/// Maximum length of an expanded value, in bytes. Arguments that refer to each other could
/// otherwise grow exponentially.
const MAX_VALUE_BYTES: usize = 16 * 1024;

/// Maximum total length of all defaults, in bytes.
const MAX_TOTAL_BYTES: usize = 1024 * 1024;

/// Maximum nesting depth of references such as `${A:-${B:-c}}`.
const MAX_NESTING: usize = 8;

/// Arguments that builders predefine (Dockerfile reference, "Automatic platform ARGs in the global
/// scope").
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

/// Sources of the values of arguments.
#[derive(Clone, Copy, Debug)]
pub struct ArgumentValues<'a> {
    /// Values of `--build-arg`, which take precedence over the defaults in the file.
    pub given: &'a BTreeMap<String, String>,
    /// Environment variables, for arguments without a default.
    pub environment: &'a Variables,
}

/// Error for text that cannot be expanded.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ExpandError {
    #[error("`{}` is not declared", excerpt(.0, 60))]
    Undeclared(String),
    #[error("`{}` has no value: its ARG has no default, and the environment variable is not set", excerpt(.0, 60))]
    NoValue(String),
    #[error("`{}` is named like a secret, so the environment variable is not used", excerpt(.0, 60))]
    Secret(String),
    #[error("the value of `{}` is a secret, so it is not used", excerpt(.0, 60))]
    SecretValue(String),
    #[error("the environment variable `{}` is not expanded in an untrusted job", excerpt(.0, 60))]
    NotListed(String),
    /// `${NAME:?message}` for a variable without a value.
    #[error("`{}`: {}", excerpt(.name, 60), excerpt(.message, 120))]
    Required { name: String, message: String },
    #[error("`{}` is not a supported reference to an argument", excerpt(.0, 60))]
    Unsupported(String),
    #[error("a closing quote or brace is missing")]
    Unclosed,
    #[error("`{}` may be set by the base image, which is not available", excerpt(.0, 60))]
    Unknown(String),
    #[error("`{}` is not a name with a value", excerpt(.0, 60))]
    NotAPair(String),
    #[error("the value is longer than {MAX_VALUE_BYTES} bytes after expansion")]
    TooLong,
}

/// The arguments that have been declared so far.
pub(super) struct ArgumentScope<'a> {
    values: ArgumentValues<'a>,
    /// Escape character of the file.
    escape: char,
    /// Total length of all defaults, in bytes.
    size: usize,
    /// Default of each declared argument; `None` if it has none.
    declared: BTreeMap<String, Option<String>>,
}

impl<'a> ArgumentScope<'a> {
    /// Returns the predefined arguments.
    pub(super) fn new(values: ArgumentValues<'a>, escape: char) -> ArgumentScope<'a> {
        let declared = PREDEFINED
            .iter()
            .map(|name| ((*name).to_owned(), None))
            .collect();
        ArgumentScope {
            values,
            escape,
            size: 0,
            declared,
        }
    }

    /// Declares the arguments in `text`, which follows `ARG`: names with optional defaults.
    pub(super) fn declare(&mut self, text: &str) -> Result<(), ExpandError> {
        for word in words(text, self.escape)? {
            let (name, default) = match word.split_once('=') {
                Some((name, default)) => (name, Some(self.expand(default)?)),
                None => (word, None),
            };
            self.size += default.as_ref().map_or(0, String::len);
            if self.size > MAX_TOTAL_BYTES {
                return Err(ExpandError::TooLong);
            }
            self.declared.insert(name.to_owned(), default);
        }
        Ok(())
    }

    /// Returns the value of `name`, or `None` if it is declared and has no value.
    fn value(&self, name: &str) -> Result<Option<&str>, ExpandError> {
        let default = self
            .declared
            .get(name)
            .ok_or_else(|| ExpandError::Undeclared(name.to_owned()))?;
        let environment = self.values.environment;
        if let Some(value) = self.values.given.get(name) {
            // A job can pass a secret as a build argument. The reference goes to any server.
            return if names_a_secret(name) || environment.holds_a_secret(value) {
                Err(ExpandError::SecretValue(name.to_owned()))
            } else {
                Ok(Some(value))
            };
        }
        if let Some(value) = default {
            return Ok(Some(value));
        }
        match environment.expandable(name) {
            // Without a variable, the name does not matter.
            Err(ExpansionRefusal::SecretName) if environment.get(name).is_none() => Ok(None),
            Err(ExpansionRefusal::SecretName) => Err(ExpandError::Secret(name.to_owned())),
            Err(ExpansionRefusal::SecretValue) => Err(ExpandError::SecretValue(name.to_owned())),
            Err(ExpansionRefusal::NotListed) => Err(ExpandError::NotListed(name.to_owned())),
            Ok(value) => Ok(value),
        }
    }

    /// Removes the quotes from `text` and expands its arguments, except in single quotes.
    pub(super) fn expand(&self, text: &str) -> Result<String, ExpandError> {
        if text.len() > MAX_VALUE_BYTES {
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
            if expanded.len() > MAX_VALUE_BYTES {
                return Err(ExpandError::TooLong);
            }
        }
        if quote.is_some() {
            Err(ExpandError::Unclosed)
        } else {
            Ok(expanded)
        }
    }

    /// Expands the reference at the start of `text`, which follows a `$`. Returns the value and the
    /// remaining text.
    fn reference<'t>(&self, text: &'t str) -> Result<(String, &'t str), ExpandError> {
        if let Some(inside) = text.strip_prefix('{') {
            let end = closing_brace(inside)
                .ok_or_else(|| ExpandError::Unsupported(format!("${text}")))?;
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

    /// Returns the value of `${inside}`.
    fn braced(&self, inside: &str) -> Result<String, ExpandError> {
        let (name, modifier) = inside.split_at(name_length(inside));
        if name.is_empty() {
            return Err(ExpandError::Unsupported(format!("${{{inside}}}")));
        }
        let value = self.value(name);
        if modifier.is_empty() {
            return Ok(value?
                .ok_or_else(|| ExpandError::NoValue(name.to_owned()))?
                .to_owned());
        }
        // With a modifier, an undeclared argument counts as one without a value.
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
            (Some('?'), None) => Err(ExpandError::Required {
                name: name.to_owned(),
                message: word(&modifier[1..])?,
            }),
            (Some('-' | '?'), Some(value)) => Ok(value.to_owned()),
            _ => Err(ExpandError::Unsupported(format!("${{{inside}}}"))),
        }
    }
}

/// Returns the offset of the brace that closes the one before `text`. `None` if there is none or
/// the nesting is too deep.
fn closing_brace(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, character) in text.char_indices() {
        match character {
            '{' if depth == MAX_NESTING => return None,
            '{' => depth += 1,
            '}' if depth == 0 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// Returns the length of the variable name at the start of `text`, in bytes.
///
/// A name consists of letters, digits and `_` and does not start with a digit.
fn name_length(text: &str) -> usize {
    if text.starts_with(|first: char| first.is_ascii_digit()) {
        return 0;
    }
    text.bytes()
        .take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
        .count()
}

/// Splits `text` into words, which keep their quotes.
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
