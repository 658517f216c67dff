//! Expansion of quotes, escapes and variables in instructions, as BuildKit's shell lexer does.
//!
//! Unlike in `FROM`, a variable that is not set is empty.

use super::arguments::ExpandError;

/// Maximum length of the result of one expansion, in bytes.
const MAX_RESULT_BYTES: usize = 256 * 1024;

/// Maximum nesting depth of references.
const MAX_NESTING: usize = 8;

/// Value of a variable.
pub(super) enum VariableValue {
    Set(String),
    Unset,
    /// Unknown, because the base image or the target platform is not available.
    Unknown,
}

/// Handling of quotes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum QuoteMode {
    /// Quotes group text and are removed.
    Group,
    /// Quotes are ordinary characters, as in here-documents.
    Literal,
}

/// Expands text.
pub(super) struct Lexer<'a> {
    /// Escape character of the file.
    pub(super) escape: char,
    pub(super) quotes: QuoteMode,
    /// Returns the value of a variable.
    pub(super) lookup: &'a dyn Fn(&str) -> VariableValue,
}

/// Position in the text.
struct Cursor<'t> {
    rest: std::str::Chars<'t>,
    /// Length of the result at all nesting levels so far, in bytes.
    produced: usize,
}

impl Cursor<'_> {
    fn peek(&self) -> Option<char> {
        self.rest.clone().next()
    }
}

impl Lexer<'_> {
    /// Removes quotes and escapes from `text` and expands its variables.
    pub(super) fn expand(&self, text: &str) -> Result<String, ExpandError> {
        self.read(
            &mut Cursor {
                rest: text.chars(),
                produced: 0,
            },
            None,
            0,
        )
    }

    /// Expands text up to the character `stop`, or to the end of the text.
    fn read(
        &self,
        at: &mut Cursor<'_>,
        stop: Option<char>,
        depth: usize,
    ) -> Result<String, ExpandError> {
        let mut text = String::new();
        let mut quoted = false;
        loop {
            let Some(character) = at.rest.next() else {
                return if quoted || stop.is_some() {
                    Err(ExpandError::Unclosed)
                } else {
                    Ok(text)
                };
            };
            let before = text.len();
            match character {
                _ if Some(character) == stop && !quoted => return Ok(text),
                '\'' if self.quotes == QuoteMode::Group && !quoted => loop {
                    match at.rest.next() {
                        Some('\'') => break,
                        Some(inside) => text.push(inside),
                        None => return Err(ExpandError::Unclosed),
                    }
                },
                '"' if self.quotes == QuoteMode::Group => quoted = !quoted,
                '$' => text.push_str(&self.reference(at, depth)?),
                _ if character == self.escape => match at.peek() {
                    Some(next) if quoted && !matches!(next, '"' | '$') && next != self.escape => {
                        text.push(character);
                    }
                    Some(next) => {
                        text.push(next);
                        at.rest.next();
                    }
                    None => {}
                },
                _ => text.push(character),
            }
            at.produced += text.len() - before;
            if at.produced > MAX_RESULT_BYTES {
                return Err(ExpandError::TooLong);
            }
        }
    }

    /// Expands the reference that follows a `$`.
    fn reference(&self, at: &mut Cursor<'_>, depth: usize) -> Result<String, ExpandError> {
        if at.peek() != Some('{') {
            let name = name(at);
            return if name.is_empty() {
                Ok("$".to_owned())
            } else {
                self.plain(&name)
            };
        }
        at.rest.next();
        let shown: String = at.rest.clone().take(40).collect();
        let unsupported = || ExpandError::Unsupported(format!("${{{shown}"));
        let name = name(at);
        if name.is_empty() || depth == MAX_NESTING {
            return Err(unsupported());
        }
        let mut modifier = at.rest.next();
        if modifier == Some('}') {
            return self.plain(&name);
        }
        let empty_is_unset = modifier == Some(':');
        if empty_is_unset {
            modifier = at.rest.next();
        }
        if !matches!(modifier, Some('-' | '+' | '?')) {
            return Err(unsupported());
        }
        let word = self.read(at, Some('}'), depth + 1)?;
        let value = match (self.lookup)(&name) {
            VariableValue::Set(value) => {
                Some(value).filter(|value| !(empty_is_unset && value.is_empty()))
            }
            VariableValue::Unset => None,
            VariableValue::Unknown => return Err(ExpandError::Unknown(name)),
        };
        match (modifier, value) {
            (Some('-'), None) | (Some('+'), Some(_)) => Ok(word),
            (Some('?'), None) => Err(ExpandError::Required {
                name,
                message: word,
            }),
            (Some('+'), None) => Ok(String::new()),
            (_, value) => Ok(value.unwrap_or_default()),
        }
    }

    /// Returns the value of a variable; empty if it is not set.
    fn plain(&self, name: &str) -> Result<String, ExpandError> {
        match (self.lookup)(name) {
            VariableValue::Set(value) => Ok(value),
            VariableValue::Unset => Ok(String::new()),
            VariableValue::Unknown => Err(ExpandError::Unknown(name.to_owned())),
        }
    }
}

/// Reads the name of a variable: letters, digits and `_`, or only digits, or one of the special
/// parameters of the shell. Empty if there is no name.
fn name(at: &mut Cursor<'_>) -> String {
    let Some(first) = at.peek() else {
        return String::new();
    };
    let belongs: fn(char) -> bool = match first {
        _ if first.is_ascii_digit() => |character| character.is_ascii_digit(),
        _ if first.is_ascii_alphabetic() || first == '_' => {
            |character| character.is_ascii_alphanumeric() || character == '_'
        }
        '@' | '*' | '#' | '!' | '?' | '-' => {
            at.rest.next();
            return first.to_string();
        }
        _ => return String::new(),
    };
    let mut name = String::new();
    while let Some(character) = at.peek().filter(|character| belongs(*character)) {
        name.push(character);
        at.rest.next();
    }
    name
}

/// Splits `text` into words, which keep their quotes.
pub(super) fn split(text: &str, escape: char) -> Result<Vec<&str>, ExpandError> {
    super::arguments::words(text, escape)
}

/// Returns the pairs of `ENV` or `LABEL`, which keep their quotes: `A=b C="d e"`, or the single
/// pair `A b c`.
pub(super) fn pairs(text: &str, escape: char) -> Result<Vec<(&str, &str)>, ExpandError> {
    let words = split(text, escape)?;
    let not_a_pair = |word: &str| ExpandError::NotAPair(word.to_owned());
    match words.first() {
        Some(first) if !first.contains('=') => {
            let (name, value) = text
                .trim()
                .split_once(char::is_whitespace)
                .ok_or_else(|| not_a_pair(first))?;
            Ok(vec![(name, value.trim_start())])
        }
        _ => words
            .into_iter()
            .map(|word| {
                word.split_once('=')
                    .filter(|(name, _)| !name.is_empty())
                    .ok_or_else(|| not_a_pair(word))
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> Result<String, ExpandError> {
        let lookup = |name: &str| match name {
            "A" => VariableValue::Set("one".to_owned()),
            "EMPTY" => VariableValue::Set(String::new()),
            "BASE" => VariableValue::Unknown,
            _ => VariableValue::Unset,
        };
        Lexer {
            escape: '\\',
            quotes: QuoteMode::Group,
            lookup: &lookup,
        }
        .expand(text)
    }

    #[test]
    fn expand_follows_buildkit() {
        for (text, result) in [
            ("$A/${A}x$NOT.", "one/onex."),
            ("${A:-x} ${NOT:-x} ${EMPTY:-x} ${EMPTY-x}.", "one x x ."),
            ("${A:+x} ${EMPTY:+x}.${EMPTY+x}", "x .x"),
            ("${NOT:-${A:-y}z}", "onez"),
            ("'$A' \"$A\" \\$A \"\\$A\\x\"", "$A one $A $A\\x"),
            ("a\\ b'c d'", "a bc d"),
            ("$ $1 $% a\\", "$  $% a"),
            ("${A?never}", "one"),
            ("\"it's ${NOT:-\"}\"}\"", "it's }"),
        ] {
            let found = expanded(text);
            assert_eq!(found.as_deref(), Ok(result), "{text}");
        }
    }

    #[test]
    fn expand_rejects_unsupported_and_unknown_references() {
        for text in [
            "${",
            "${}",
            "${A",
            "${A/x/y}",
            "${A%x}",
            "${A#x}",
            "'a",
            "\"a",
            "${NOT:?give it}",
            "$BASE",
            "${BASE:-x}",
        ] {
            assert!(expanded(text).is_err(), "{text}");
        }
        let deep = "${N:-".repeat(5000) + &"}".repeat(5000);
        assert!(matches!(expanded(&deep), Err(ExpandError::Unsupported(_))));
        assert_eq!(expanded(&"$A".repeat(100_000)), Err(ExpandError::TooLong));
    }

    #[test]
    fn literal_quotes_are_kept() {
        let lookup = |_: &str| VariableValue::Set("v".to_owned());
        let lexer = Lexer {
            escape: '\\',
            quotes: QuoteMode::Literal,
            lookup: &lookup,
        };
        assert_eq!(
            lexer.expand("'$A' \"x\" \\$A it's\n").as_deref(),
            Ok("'v' \"x\" $A it's\n")
        );
    }

    #[test]
    fn pairs_accepts_both_forms() {
        assert_eq!(
            pairs("A=1 B=\"x y\" C=a\\ b", '\\'),
            Ok(vec![("A", "1"), ("B", "\"x y\""), ("C", "a\\ b")])
        );
        assert_eq!(pairs("A b  c=d", '\\'), Ok(vec![("A", "b  c=d")]));
        assert!(
            pairs("A", '\\').is_err()
                && pairs("A=1 B", '\\').is_err()
                && pairs("=1", '\\').is_err()
        );
    }
}
