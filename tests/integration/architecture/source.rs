//! Reading Rust source text: files, tokens, paths.

use std::fs;
use std::path::Path;

/// Adds the Rust files below `directory` to `files`: path below `name`, content.
pub(super) fn collect(directory: &Path, name: &str, files: &mut Vec<(String, String)>) {
    let mut entries: Vec<_> = fs::read_dir(directory)
        .expect("a directory")
        .map(|entry| entry.expect("an entry"))
        .collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = format!("{name}/{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            collect(&entry.path(), &name, files);
        } else if name.ends_with(".rs") {
            files.push((
                name,
                fs::read_to_string(entry.path()).expect("a source file"),
            ));
        }
    }
}

/// Returns true if a file is test code as a whole.
pub(super) fn is_test_file(file: &str) -> bool {
    file.ends_with("/tests.rs") || file.ends_with("_tests.rs") || file.contains("/tests/")
}

/// Returns the module path of a file below `src/`; empty for `lib.rs` and `main.rs`.
pub(super) fn file_module(file: &str) -> Vec<String> {
    let mut parts: Vec<String> = file
        .trim_start_matches("src/")
        .trim_end_matches(".rs")
        .split('/')
        .map(str::to_owned)
        .collect();
    if matches!(
        parts.last().map(String::as_str),
        Some("mod" | "lib" | "main")
    ) {
        parts.pop();
    }
    parts
}

/// A path in the code.
#[derive(Debug, PartialEq)]
pub(super) struct Found {
    pub(super) line: usize,
    /// The room it leads to when it is a path within the crate.
    pub(super) room: Option<String>,
    /// From the root of the crate where it is a path within the crate, else as written.
    pub(super) segments: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Word(String),
    /// `::`
    Separator,
    Other(char),
}

/// Returns all paths in `text`, the code of `module`, without its tests. A group in braces becomes
/// one path for each leaf.
pub(super) fn paths(text: &str, module: &[String]) -> Vec<Found> {
    let tokens = without_tests(&tokens(text));
    let mut module = module.to_vec();
    // The depth of braces at which an inline module began.
    let mut inline: Vec<usize> = Vec::new();
    let mut depth = 0;
    let mut found = Vec::new();
    let mut at = 0;
    while let Some((line, token)) = tokens.get(at) {
        match token {
            Token::Word(word)
                if word == "mod" && matches!(tokens.get(at + 2), Some((_, Token::Other('{')))) =>
            {
                if let Some((_, Token::Word(name))) = tokens.get(at + 1) {
                    module.push(name.clone());
                    inline.push(depth);
                }
                at += 2;
            }
            Token::Word(_) => {
                let mut leaves = Vec::new();
                at = leaves_of(&tokens, at, &[], &mut leaves);
                found.extend(
                    leaves
                        .into_iter()
                        .map(|(line, segments)| resolved(line, segments, &module)),
                );
            }
            Token::Other('{') => {
                depth += 1;
                at += 1;
            }
            Token::Other('}') => {
                depth = depth.saturating_sub(1);
                if inline.last() == Some(&depth) {
                    inline.pop();
                    module.pop();
                }
                at += 1;
            }
            Token::Separator if matches!(tokens.get(at + 1), Some((_, Token::Other('{')))) => {
                let mut leaves = Vec::new();
                at = group(&tokens, at + 1, &[], &mut leaves);
                found.extend(
                    leaves
                        .into_iter()
                        .map(|(_, segments)| resolved(*line, segments, &module)),
                );
            }
            _ => at += 1,
        }
    }
    found
}

/// Reads the path that begins at `at`, adds a leaf for each of its ends, and returns where it ends.
fn leaves_of(
    tokens: &[(usize, Token)],
    mut at: usize,
    prefix: &[String],
    leaves: &mut Vec<(usize, Vec<String>)>,
) -> usize {
    let mut segments = prefix.to_vec();
    let line = tokens.get(at).map_or(0, |(line, _)| *line);
    loop {
        match tokens.get(at) {
            Some((_, Token::Word(word))) => segments.push(word.clone()),
            Some((_, Token::Other('*'))) => segments.push("*".to_owned()),
            Some((_, Token::Other('{'))) => return group(tokens, at, &segments, leaves),
            _ => break,
        }
        at += 1;
        match tokens.get(at) {
            Some((_, Token::Separator)) => at += 1,
            _ => break,
        }
    }
    leaves.push((line, segments));
    at
}

/// Reads a group in braces at `at` and returns where it ends.
fn group(
    tokens: &[(usize, Token)],
    mut at: usize,
    prefix: &[String],
    leaves: &mut Vec<(usize, Vec<String>)>,
) -> usize {
    at += 1;
    while let Some((_, token)) = tokens.get(at) {
        at = match token {
            Token::Other('}') => return at + 1,
            // The new name of `as` is read as a leaf of its own, which names nothing.
            Token::Word(_) | Token::Other('*') => leaves_of(tokens, at, prefix, leaves),
            _ => at + 1,
        };
    }
    at
}

pub(super) fn resolved(line: usize, segments: Vec<String>, module: &[String]) -> Found {
    let supers = segments
        .iter()
        .take_while(|segment| *segment == "super")
        .count();
    let rest = match segments.first().map(String::as_str) {
        Some("crate" | "imglife") => &segments[1..],
        Some("super") if supers == module.len() => &segments[supers..],
        Some("super" | "self") => {
            let kept = module.len().saturating_sub(supers);
            let own = segments.iter().skip(supers.max(1));
            return Found {
                line,
                room: None,
                segments: module[..kept].iter().chain(own).cloned().collect(),
            };
        }
        _ => {
            return Found {
                line,
                room: None,
                segments,
            };
        }
    };
    Found {
        line,
        room: rest.first().cloned(),
        segments: rest.to_vec(),
    }
}

/// Returns the tokens without `#[cfg(test)] mod tests { .. }`.
pub(super) fn without_tests(tokens: &[(usize, Token)]) -> Vec<(usize, Token)> {
    let opening: Vec<Token> = ["#", "[", "cfg", "(", "test", ")", "]", "mod", "tests", "{"]
        .into_iter()
        .map(|text| match text.chars().next() {
            Some(first) if !first.is_alphabetic() => Token::Other(first),
            _ => Token::Word(text.to_owned()),
        })
        .collect();
    let mut kept = Vec::with_capacity(tokens.len());
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at..]
            .iter()
            .map(|(_, token)| token)
            .take(opening.len())
            .eq(&opening)
        {
            let mut depth = 1;
            at += opening.len();
            while at < tokens.len() && depth > 0 {
                depth = match tokens[at].1 {
                    Token::Other('{') => depth + 1,
                    Token::Other('}') => depth - 1,
                    _ => depth,
                };
                at += 1;
            }
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

/// Returns the tokens of Rust code with their lines, without comments and literals.
pub(super) fn tokens(text: &str) -> Vec<(usize, Token)> {
    let characters: Vec<char> = text.chars().collect();
    let next = |at: usize| characters.get(at).copied().unwrap_or('\0');
    let is_word = |character: char| character.is_alphanumeric() || character == '_';
    let mut tokens = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < characters.len() {
        let start = at;
        match next(at) {
            '/' if next(at + 1) == '/' => at = find(&characters, at, "\n"),
            '/' if next(at + 1) == '*' => at = find(&characters, at + 2, "*/") + 2,
            '"' => at = after_string(&characters, at),
            // A character, not a lifetime.
            '\'' if next(at + 1) == '\\' => at = find(&characters, at + 3, "'") + 1,
            '\'' if next(at + 2) == '\'' => at += 3,
            ':' if next(at + 1) == ':' => {
                tokens.push((line, Token::Separator));
                at += 2;
            }
            first if is_word(first) => {
                while is_word(next(at)) {
                    at += 1;
                }
                let word: String = characters[start..at].iter().collect();
                let hashes = characters[at..]
                    .iter()
                    .take_while(|character| **character == '#')
                    .count();
                if matches!(word.as_str(), "r" | "br" | "cr") && next(at + hashes) == '"' {
                    let end = format!("\"{}", "#".repeat(hashes));
                    at = find(&characters, at + hashes + 1, &end) + end.len();
                } else {
                    tokens.push((line, Token::Word(word)));
                }
            }
            other => {
                if !other.is_whitespace() {
                    tokens.push((line, Token::Other(other)));
                }
                at += 1;
            }
        }
        let end = at.min(characters.len());
        line += characters[start..end]
            .iter()
            .filter(|character| **character == '\n')
            .count();
    }
    tokens
}

/// Returns the position of `wanted` at or after `from`, or the end of the text.
fn find(characters: &[char], from: usize, wanted: &str) -> usize {
    let wanted: Vec<char> = wanted.chars().collect();
    (from..characters.len())
        .find(|at| characters[*at..].starts_with(&wanted))
        .unwrap_or(characters.len())
}

fn after_string(characters: &[char], mut at: usize) -> usize {
    at += 1;
    while at < characters.len() && characters[at] != '"' {
        at += if characters[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}
