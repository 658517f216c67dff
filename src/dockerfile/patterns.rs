//! Patterns of paths: the sources of `COPY` with wildcards, and `.dockerignore`.
//!
//! Paths are relative to the folder, parted by `/`, without `.` and `..`.

use regex::{Regex, RegexBuilder};
use thiserror::Error;

use crate::model::text::excerpt;

/// The longest pattern, in bytes.
const LONGEST: usize = 4096;

/// The most patterns that a `.dockerignore` may have.
const MOST: usize = 1_000;

/// The most memory that a compiled pattern may take, in bytes.
const LARGEST: usize = 1024 * 1024;

/// Why a text is not a pattern.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PatternError {
    #[error("`{}` is not a pattern", excerpt(.0, 80))]
    Malformed(String),
    #[error("there are more than {MOST} patterns")]
    TooMany,
}

/// Returns whether `text` has a wildcard (`*`, `?`, `[`) that no backslash takes the meaning from.
pub fn has_wildcard(text: &str) -> bool {
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => drop(characters.next()),
            '*' | '?' | '[' => return true,
            _ => {}
        }
    }
    false
}

/// Returns `path` without `.`, `..`, empty parts, and slashes at its ends; what `..` would lead out
/// of is the top, as Docker has it.
pub fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    parts.join("/")
}

/// A source of `COPY` with wildcards, as Go's `filepath.Match` reads it: no wildcard stands for a
/// slash.
#[derive(Clone, Debug)]
pub struct Glob(Regex);

impl Glob {
    pub fn new(text: &str) -> Result<Glob, PatternError> {
        compile(&clean(text), Stars::WithinParts).map(Glob)
    }

    pub fn matches(&self, path: &str) -> bool {
        self.0.is_match(path)
    }
}

/// What a `.dockerignore` leaves out.
#[derive(Clone, Debug, Default)]
pub struct Ignore {
    rules: Vec<(Regex, Verdict)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Out,
    In,
}

impl Ignore {
    /// Returns the rules in the text of a `.dockerignore`.
    pub fn parse(text: &str) -> Result<Ignore, PatternError> {
        let mut rules = Vec::new();
        for line in text
            .trim_start_matches('\u{feff}')
            .lines()
            .filter(|line| !line.starts_with('#'))
        {
            let line = line.trim();
            let (verdict, pattern) = match line.strip_prefix('!') {
                Some(pattern) => (Verdict::In, pattern.trim()),
                None => (Verdict::Out, line),
            };
            let cleaned = clean(pattern);
            // An empty line says nothing; nor does `.`, which is the folder itself.
            if cleaned.is_empty() {
                continue;
            }
            if rules.len() == MOST {
                return Err(PatternError::TooMany);
            }
            rules.push((compile(&cleaned, Stars::OverParts)?, verdict));
        }
        Ok(Ignore { rules })
    }

    /// Returns whether something can be kept in a directory that is left out.
    pub fn has_exceptions(&self) -> bool {
        self.rules
            .iter()
            .any(|(_, verdict)| *verdict == Verdict::In)
    }

    /// Returns whether `path` is left out: the last rule that matches it, or something that it is
    /// in, decides.
    pub fn leaves_out(&self, path: &str) -> bool {
        let parents = path.match_indices('/').map(|(at, _)| &path[..at]);
        let places: Vec<&str> = parents.chain([path]).collect();
        let last = self
            .rules
            .iter()
            .rev()
            .find(|(pattern, _)| places.iter().any(|place| pattern.is_match(place)));
        last.is_some_and(|(_, verdict)| *verdict == Verdict::Out)
    }
}

/// What two stars stand for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stars {
    /// The same as one.
    WithinParts,
    /// Any number of whole parts.
    OverParts,
}

fn compile(pattern: &str, stars: Stars) -> Result<Regex, PatternError> {
    let malformed = || PatternError::Malformed(pattern.to_owned());
    if pattern.len() > LONGEST {
        return Err(malformed());
    }
    let mut expression = String::from("(?s)^");
    let mut characters = pattern.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '*' if stars == Stars::OverParts && characters.peek() == Some(&'*') => {
                characters.next();
                if characters.peek() == Some(&'/') {
                    characters.next();
                    expression += "(?:.*/)?";
                } else {
                    expression += ".*";
                }
            }
            '*' => expression += "[^/]*",
            '?' => expression += "[^/]",
            '[' => {
                expression.push('[');
                if characters.next_if(|next| matches!(next, '^')).is_some() {
                    expression += "^/";
                }
                let mut is_empty = true;
                loop {
                    match characters.next().ok_or_else(malformed)? {
                        ']' if !is_empty => break,
                        '-' if !is_empty => expression.push('-'),
                        '\\' => {
                            push_literal(&mut expression, characters.next().ok_or_else(malformed)?);
                        }
                        literal => push_literal(&mut expression, literal),
                    }
                    is_empty = false;
                }
                expression.push(']');
            }
            '\\' => push_literal(&mut expression, characters.next().ok_or_else(malformed)?),
            literal => push_literal(&mut expression, literal),
        }
    }
    expression.push('$');
    RegexBuilder::new(&expression)
        .size_limit(LARGEST)
        .build()
        .map_err(|_| malformed())
}

fn push_literal(expression: &mut String, literal: char) {
    if literal.is_ascii_punctuation() {
        expression.push('\\');
    }
    expression.push(literal);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_match_as_in_go() {
        for (pattern, path, expected) in [
            ("*.txt", "a.txt", true),
            ("*.txt", "d/a.txt", false),
            ("**/a.txt", "x/y/a.txt", false),
            ("./d/../*.txt", "a.txt", true),
            ("a?c", "abc", true),
            ("a?c", "a/c", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[^a]x", "/x", false),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
            ("a.c", "abc", false),
            ("a[\\]]", "a]", true),
            ("*", "a\nb", true),
        ] {
            assert_eq!(
                Glob::new(pattern).expect(pattern).matches(path),
                expected,
                "{pattern} {path}"
            );
        }
        assert!(
            Glob::new("[a").is_err() && Glob::new("a\\").is_err() && Glob::new("[z-a]").is_err()
        );
        assert!(has_wildcard("a*") && !has_wildcard("a\\*"));
    }

    #[test]
    fn the_last_rule_of_a_dockerignore_decides() {
        let ignore = Ignore::parse("\u{feff}# comment\n*.log\n!keep.log\n/build\n!build/out\n**/cache\nsrc/**/*.o\n  \n.\n! docs/x \n")
            .expect("rules");
        for (path, expected) in [
            ("a.log", true),
            ("keep.log", false),
            ("d/a.log", false),
            ("build", true),
            ("build/a/b", true),
            ("build/out/b", false),
            ("cache", true),
            ("x/y/cache/z", true),
            ("src/a.o", true),
            ("src/a/b/c.o", true),
            ("src/a.c", false),
        ] {
            assert_eq!(ignore.leaves_out(path), expected, "{path}");
        }
        assert!(
            Ignore::parse("**\n!a")
                .is_ok_and(|ignore| ignore.leaves_out("x/y") && !ignore.leaves_out("a/b"))
        );
        assert!(Ignore::parse("[").is_err());
    }

    #[test]
    fn paths_are_cleaned_without_leaving_the_top() {
        for (path, cleaned) in [
            ("../a", "a"),
            ("/a//b/./c/", "a/b/c"),
            ("a/../../b", "b"),
            (".", ""),
            ("", ""),
        ] {
            assert_eq!(clean(path), cleaned);
        }
    }

    #[test]
    fn hostile_patterns_are_bounded() {
        let began = std::time::Instant::now();
        let many = Ignore::parse(&"**/a*b*c*d*e*/**\n".repeat(200)).expect("rules");
        assert!(!many.leaves_out(&"a/".repeat(1000)));
        assert!(Glob::new(&"a".repeat(5000)).is_err());
        assert_eq!(
            Ignore::parse(&"a\n".repeat(MOST + 1)).err(),
            Some(PatternError::TooMany)
        );
        assert!(
            began.elapsed() < std::time::Duration::from_secs(60),
            "{:?}",
            began.elapsed()
        );
    }
}
