//! The words of an instruction: quotes, escapes, and the variables in them, as BuildKit's shell
//! lexer reads them.
//!
//! Unlike in `FROM`, a variable that nothing sets is empty here.

use super::arguments::ExpandError;

/// The longest text that replacing may give, in bytes.
const LONGEST: usize = 256 * 1024;

/// How deep references may stand in one another.
const DEEPEST: usize = 8;

/// What is known of a variable.
pub(super) enum Known {
    Set(String),
    Unset,
    /// It may be set by something that was not read.
    Untold,
}

/// How quotes are read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Quotes {
    /// They group, and vanish.
    Group,
    /// They are characters like others, as in here-documents.
    Kept,
}

/// Replaces variables.
pub(super) struct Lexer<'a> {
    pub(super) escape: char,
    pub(super) quotes: Quotes,
    pub(super) lookup: &'a dyn Fn(&str) -> Known,
}

/// Where reading is.
struct Position<'t> {
    rest: std::str::Chars<'t>,
    /// How much was made so far by all levels, in bytes.
    made: usize,
}

impl Position<'_> {
    fn peek(&self) -> Option<char> {
        self.rest.clone().next()
    }
}

impl Lexer<'_> {
    /// Returns `text` with its variables replaced, and without its quotes and escapes.
    pub(super) fn expand(&self, text: &str) -> Result<String, ExpandError> {
        self.read(
            &mut Position {
                rest: text.chars(),
                made: 0,
            },
            None,
            0,
        )
    }

    fn read(
        &self,
        at: &mut Position<'_>,
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
                '\'' if self.quotes == Quotes::Group && !quoted => loop {
                    match at.rest.next() {
                        Some('\'') => break,
                        Some(inside) => text.push(inside),
                        None => return Err(ExpandError::Unclosed),
                    }
                },
                '"' if self.quotes == Quotes::Group => quoted = !quoted,
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
            at.made += text.len() - before;
            if at.made > LONGEST {
                return Err(ExpandError::TooLong);
            }
        }
    }

    /// Returns what the reference stands for whose `$` was just read.
    fn reference(&self, at: &mut Position<'_>, depth: usize) -> Result<String, ExpandError> {
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
        let not_understood = || ExpandError::NotUnderstood(format!("${{{shown}"));
        let name = name(at);
        if name.is_empty() || depth == DEEPEST {
            return Err(not_understood());
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
            return Err(not_understood());
        }
        let word = self.read(at, Some('}'), depth + 1)?;
        let value = match (self.lookup)(&name) {
            Known::Set(value) => Some(value).filter(|value| !(empty_is_unset && value.is_empty())),
            Known::Unset => None,
            Known::Untold => return Err(ExpandError::Untold(name)),
        };
        match (modifier, value) {
            (Some('-'), None) | (Some('+'), Some(_)) => Ok(word),
            (Some('?'), None) => Err(ExpandError::Demanded {
                name,
                message: word,
            }),
            (Some('+'), None) => Ok(String::new()),
            (_, value) => Ok(value.unwrap_or_default()),
        }
    }

    fn plain(&self, name: &str) -> Result<String, ExpandError> {
        match (self.lookup)(name) {
            Known::Set(value) => Ok(value),
            Known::Unset => Ok(String::new()),
            Known::Untold => Err(ExpandError::Untold(name.to_owned())),
        }
    }
}

/// Takes the name of a variable: letters, digits and `_`, or digits alone, or one of the shell's
/// own characters.
fn name(at: &mut Position<'_>) -> String {
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

/// Returns the words of `text`, still quoted.
pub(super) fn split(text: &str, escape: char) -> Result<Vec<&str>, ExpandError> {
    super::arguments::words(text, escape)
}

/// Returns the pairs of `ENV` or `LABEL`, still quoted: `A=b C="d e"`, or `A b c`, which is one
/// pair.
pub(super) fn pairs(text: &str, escape: char) -> Result<Vec<(&str, &str)>, ExpandError> {
    let words = split(text, escape)?;
    let no_pair = |word: &str| ExpandError::NoPair(word.to_owned());
    match words.first() {
        Some(first) if !first.contains('=') => {
            let (name, value) = text
                .trim()
                .split_once(char::is_whitespace)
                .ok_or_else(|| no_pair(first))?;
            Ok(vec![(name, value.trim_start())])
        }
        _ => words
            .into_iter()
            .map(|word| {
                word.split_once('=')
                    .filter(|(name, _)| !name.is_empty())
                    .ok_or_else(|| no_pair(word))
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> Result<String, ExpandError> {
        let lookup = |name: &str| match name {
            "A" => Known::Set("one".to_owned()),
            "EMPTY" => Known::Set(String::new()),
            "BASE" => Known::Untold,
            _ => Known::Unset,
        };
        Lexer {
            escape: '\\',
            quotes: Quotes::Group,
            lookup: &lookup,
        }
        .expand(text)
    }

    #[test]
    fn variables_are_replaced_as_buildkit_does() {
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
    fn what_is_not_understood_or_not_known_is_said() {
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
        assert!(matches!(
            expanded(&deep),
            Err(ExpandError::NotUnderstood(_))
        ));
        assert_eq!(expanded(&"$A".repeat(100_000)), Err(ExpandError::TooLong));
    }

    #[test]
    fn here_documents_keep_their_quotes() {
        let lookup = |_: &str| Known::Set("v".to_owned());
        let lexer = Lexer {
            escape: '\\',
            quotes: Quotes::Kept,
            lookup: &lookup,
        };
        assert_eq!(
            lexer.expand("'$A' \"x\" \\$A it's\n").as_deref(),
            Ok("'v' \"x\" $A it's\n")
        );
    }

    #[test]
    fn pairs_have_two_spellings() {
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
