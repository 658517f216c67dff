//! Path patterns: the sources of `COPY`, and `.dockerignore`.
//!
//! Paths are relative to the build context, separated by `/`, without `.` and `..`.

use regex::{Regex, RegexBuilder};
use thiserror::Error;

use crate::model::text::excerpt;

/// Maximum length of a pattern, in bytes.
const MAX_PATTERN_LENGTH: usize = 4096;

/// Maximum number of patterns in a `.dockerignore`.
const MAX_PATTERNS: usize = 1_000;

/// Maximum size of a compiled pattern, in bytes.
const MAX_COMPILED_BYTES: usize = 1024 * 1024;

/// Error for an invalid pattern.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PatternError {
    #[error("`{}` is not a valid pattern", excerpt(.0, 80))]
    Malformed(String),
    #[error("the file has more than {MAX_PATTERNS} patterns")]
    TooMany,
}

/// Returns true if `text` contains a wildcard (`*`, `?`, `[`) that is not escaped by a backslash.
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

/// Returns `path` without `.`, `..`, empty components and slashes at its ends.
///
/// A `..` at the top is ignored, as Docker does.
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

/// A source of `COPY` with wildcards, with the syntax of Go's `filepath.Match`: wildcards do not
/// match a slash.
#[derive(Clone, Debug)]
pub struct Glob(Regex);

impl Glob {
    /// Compiles a pattern.
    pub fn new(text: &str) -> Result<Glob, PatternError> {
        compile(&clean(text), DoubleStar::SameAsOne).map(Glob)
    }

    /// Returns true if the pattern matches the complete path.
    pub fn matches(&self, path: &str) -> bool {
        self.0.is_match(path)
    }
}

/// The rules of a `.dockerignore`.
#[derive(Clone, Debug, Default)]
pub struct DockerIgnore {
    rules: Vec<(Regex, IgnoreEffect)>,
}

/// Effect of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum IgnoreEffect {
    Exclude,
    Include,
}

impl DockerIgnore {
    /// Parses a `.dockerignore`.
    pub fn parse(text: &str) -> Result<DockerIgnore, PatternError> {
        let mut rules = Vec::new();
        for line in text
            .trim_start_matches('\u{feff}')
            .lines()
            .filter(|line| !line.starts_with('#'))
        {
            let line = line.trim();
            let (effect, pattern) = match line.strip_prefix('!') {
                Some(pattern) => (IgnoreEffect::Include, pattern.trim()),
                None => (IgnoreEffect::Exclude, line),
            };
            let cleaned = clean(pattern);
            // Empty lines and `.`, the build context itself, have no effect.
            if cleaned.is_empty() {
                continue;
            }
            if rules.len() == MAX_PATTERNS {
                return Err(PatternError::TooMany);
            }
            rules.push((compile(&cleaned, DoubleStar::AnyDepth)?, effect));
        }
        Ok(DockerIgnore { rules })
    }

    /// Returns true if a rule starts with `!`, so that an excluded directory may contain included
    /// files.
    pub fn has_exceptions(&self) -> bool {
        self.rules
            .iter()
            .any(|(_, effect)| *effect == IgnoreEffect::Include)
    }

    /// Returns true if `path` is excluded. The last rule that matches the path or one of its parent
    /// directories decides.
    pub fn excludes(&self, path: &str) -> bool {
        let parents = path.match_indices('/').map(|(at, _)| &path[..at]);
        let candidates: Vec<&str> = parents.chain([path]).collect();
        let last = self
            .rules
            .iter()
            .rev()
            .find(|(pattern, _)| candidates.iter().any(|path| pattern.is_match(path)));
        last.is_some_and(|(_, effect)| *effect == IgnoreEffect::Exclude)
    }
}

/// Meaning of `**`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum DoubleStar {
    /// The same as `*`.
    SameAsOne,
    /// Any number of path components.
    AnyDepth,
}

/// Compiles a pattern to a regular expression.
fn compile(pattern: &str, stars: DoubleStar) -> Result<Regex, PatternError> {
    let malformed = || PatternError::Malformed(pattern.to_owned());
    if pattern.len() > MAX_PATTERN_LENGTH {
        return Err(malformed());
    }
    let mut expression = String::from("(?s)^");
    let mut characters = pattern.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '*' if stars == DoubleStar::AnyDepth && characters.peek() == Some(&'*') => {
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
        .size_limit(MAX_COMPILED_BYTES)
        .build()
        .map_err(|_| malformed())
}

/// Appends a literal character to a regular expression.
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
    fn glob_matches_as_in_go() {
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
    fn excludes_applies_the_last_matching_rule() {
        let ignore = DockerIgnore::parse("\u{feff}# comment\n*.log\n!keep.log\n/build\n!build/out\n**/cache\nsrc/**/*.o\n  \n.\n! docs/x \n")
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
            assert_eq!(ignore.excludes(path), expected, "{path}");
        }
        assert!(
            DockerIgnore::parse("**\n!a")
                .is_ok_and(|ignore| ignore.excludes("x/y") && !ignore.excludes("a/b"))
        );
        assert!(DockerIgnore::parse("[").is_err());
    }

    #[test]
    fn clean_never_leaves_the_top() {
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
    fn patterns_are_limited() {
        let began = std::time::Instant::now();
        let many = DockerIgnore::parse(&"**/a*b*c*d*e*/**\n".repeat(200)).expect("rules");
        assert!(!many.excludes(&"a/".repeat(1000)));
        assert!(Glob::new(&"a".repeat(5000)).is_err());
        assert_eq!(
            DockerIgnore::parse(&"a\n".repeat(MAX_PATTERNS + 1)).err(),
            Some(PatternError::TooMany)
        );
        assert!(
            began.elapsed() < std::time::Duration::from_secs(60),
            "{:?}",
            began.elapsed()
        );
    }
}
