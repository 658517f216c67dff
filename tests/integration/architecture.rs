//! The tables of `docs/ARCHITECTURE.md`, held against every file of `src/`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

#[test]
fn every_room_imports_only_what_the_architecture_page_allows() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/ARCHITECTURE.md")).expect("the page is there");
    let rules = Rules::read(&page).expect("the page has both tables");
    let mut files = Vec::new();
    collect(&root.join("src"), "src", &mut files);
    assert!(files.len() > 30, "only {} files were found", files.len());
    let offences = rules.offences(&files);
    assert!(offences.is_empty(), "\n{}\n", offences.join("\n"));
}

fn collect(directory: &Path, name: &str, files: &mut Vec<(String, String)>) {
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

/// What the page says.
struct Rules {
    /// Rooms in the page's order, each with what it may import.
    rooms: Vec<(String, Vec<String>)>,
    /// Names, each with the rooms that may write it.
    names: Vec<(Vec<String>, Vec<String>)>,
}

impl Rules {
    fn read(page: &str) -> Result<Rules, String> {
        let mut rooms: Vec<(String, Vec<String>)> = Vec::new();
        for [room, _, allowed] in table(page, "<!-- imports:")? {
            let room = quoted(&room).pop().ok_or("a row without a room")?;
            let allowed = quoted(&allowed);
            if let Some(unknown) = allowed
                .iter()
                .find(|name| !rooms.iter().any(|(above, _)| above == *name))
            {
                return Err(format!(
                    "`{room}` may not import `{unknown}`, which is not above it in the table"
                ));
            }
            rooms.push((room, allowed));
        }
        let mut names = Vec::new();
        for [texts, only_in, _] in table(page, "<!-- names:")? {
            let only_in = quoted(&only_in);
            names.extend(quoted(&texts).into_iter().map(|text| {
                (
                    text.split("::").map(str::to_owned).collect(),
                    only_in.clone(),
                )
            }));
        }
        Ok(Rules { rooms, names })
    }

    /// Returns what is wrong with `files` (path from the repository's root, content), a line each.
    fn offences(&self, files: &[(String, String)]) -> Vec<String> {
        let mut offences = Vec::new();
        let mut seen = BTreeMap::new();
        for (file, text) in files {
            let module = module_of(file);
            let room = module
                .first()
                .cloned()
                .unwrap_or_else(|| file[4..file.len() - 3].to_owned());
            seen.entry(room.clone()).or_insert(file);
            if file.ends_with("/tests.rs")
                || file.ends_with("_tests.rs")
                || file.contains("/tests/")
            {
                continue;
            }
            let Some((_, allowed)) = self.rooms.iter().find(|(name, _)| *name == room) else {
                continue;
            };
            for found in paths(text, &module) {
                let at = format!("{file}:{}", found.line);
                if let Some(imported) = found.room.as_deref().filter(|imported| *imported != room) {
                    if self.rooms.iter().any(|(name, _)| name == imported)
                        && !allowed.iter().any(|name| name == imported)
                    {
                        offences.push(format!("{at}: {room} must not import {imported}"));
                    } else if imported == "*" {
                        offences.push(format!("{at}: {room} must not import everything"));
                    }
                }
                for (name, only_in) in &self.names {
                    if !only_in.contains(&room)
                        && found.segments.windows(name.len()).any(|part| part == name)
                    {
                        offences.push(format!(
                            "{at}: {room} must not mention {}; only {} may",
                            name.join("::"),
                            only_in.join(", ")
                        ));
                    }
                }
            }
        }
        // A group of imports from one room is one offence.
        offences.dedup();
        let missing = seen
            .iter()
            .filter(|(room, _)| !self.rooms.iter().any(|(name, _)| name == *room));
        offences.extend(missing.map(|(room, file)| {
            format!("{file}: {room} is not in the table of docs/ARCHITECTURE.md")
        }));
        let stale = self
            .rooms
            .iter()
            .filter(|(name, _)| !seen.contains_key(name));
        offences.extend(
            stale.map(|(name, _)| format!("docs/ARCHITECTURE.md: there is no room {name}")),
        );
        offences
    }
}

/// Returns the rows of the table that follows `marker`, three cells each.
fn table(page: &str, marker: &str) -> Result<Vec<[String; 3]>, String> {
    let (_, rest) = page
        .split_once(marker)
        .ok_or_else(|| format!("no `{marker}` on the page"))?;
    let rows = rest
        .lines()
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .skip(2);
    rows.map(|row| {
        let cells: Vec<String> = row
            .trim()
            .trim_matches('|')
            .split('|')
            .map(|cell| cell.trim().to_owned())
            .collect();
        cells
            .try_into()
            .map_err(|cells| format!("a row that has not three cells: {cells:?}"))
    })
    .collect()
}

/// Returns the texts in backticks.
fn quoted(cell: &str) -> Vec<String> {
    cell.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

/// Returns the module path of a file below `src/`; nothing for `lib.rs` and `main.rs`.
fn module_of(file: &str) -> Vec<String> {
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

/// A path as it stands in the code.
#[derive(Debug, PartialEq)]
struct Found {
    line: usize,
    /// The room it leads to when it is a path within the crate.
    room: Option<String>,
    /// From the root of the crate where it is a path within the crate, else as written.
    segments: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    /// `::`
    Separator,
    Other(char),
}

/// Returns all paths in `text`, the code of `module`, without its tests. Braces are taken apart:
/// one path for each leaf.
fn paths(text: &str, module: &[String]) -> Vec<Found> {
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

fn resolved(line: usize, segments: Vec<String>, module: &[String]) -> Found {
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

/// Takes `#[cfg(test)] mod tests { .. }` out.
fn without_tests(tokens: &[(usize, Token)]) -> Vec<(usize, Token)> {
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

/// Returns the words and signs of Rust code with their lines, without comments and literals.
fn tokens(text: &str) -> Vec<(usize, Token)> {
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

/// Returns where `wanted` begins at or after `from`, or the end.
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

const PAGE: &str = "
<!-- imports: -->
| room | owns | may import |
|---|---|---|
| `model` | | |
| `process` | | `model` |
| `http` | | `model` |
| `registry` | | `model` `http` |
| `steps` | | `model` `registry` |
| `lib` | | |

<!-- names: -->
| name | only in | because |
|---|---|---|
| `clap` | `process` | |
| `registry::remote` | `registry` | |
| `env::var` `Utc::now` | `process` | |
";

/// Returns the offences of a crate that has all rooms and `code` in `file`.
fn offences_of(file: &str, code: &str) -> Vec<String> {
    let rooms = [
        "lib.rs",
        "model/mod.rs",
        "process.rs",
        "http/mod.rs",
        "registry/mod.rs",
        "steps/mod.rs",
    ];
    let mut files: Vec<(String, String)> = rooms
        .iter()
        .map(|room| (format!("src/{room}"), String::new()))
        .collect();
    files.push((file.to_owned(), code.to_owned()));
    Rules::read(PAGE)
        .expect("the page is right")
        .offences(&files)
}

#[test]
fn a_planted_import_is_named_with_its_line() {
    let planted = [
        "use crate::http::Client;",
        "use crate::{model::Tag, http};",
        "use crate::{model::{Tag, Digest}, http::{self, Client}};",
        "use crate::http as other;",
        "pub(crate) use crate::{http as other};",
        "fn f() { crate::http::get() }",
        "type A = Vec<crate::http::Client>;",
        "use super::super::super::http;",
        "fn f() { super::super::super::http::get() }",
        "mod inner { use super::super::super::super::http; }",
        "mod inner { }\nuse super::super::super::http;",
        "fn f() { write!(out, \"{}\", crate::http::X) }",
        "fn f<'a>(a: &'a str) { crate::http::get('\"') }",
        "#[cfg(test)]\nmod tests { mod deep { } }\nuse crate::http;",
        "#[cfg(test)]\nuse crate::http;",
        "#[cfg(test)]\nmod fake { use crate::http; }",
        "use imglife::http;",
    ];
    for code in planted {
        let line = 2 + code.matches('\n').count();
        assert_eq!(
            offences_of("src/steps/sync/plan.rs", &format!("\n{code}")),
            [format!(
                "src/steps/sync/plan.rs:{line}: steps must not import http"
            )],
            "{code}"
        );
    }
}

#[test]
fn what_is_allowed_or_no_code_passes() {
    let allowed = [
        "use crate::model::Tag;\nuse crate::{model, registry::{ImageSource, self}};",
        "use super::super::super::model;",
        "use super::{super::other, http};",
        "use super::http;\nuse self::http::X;\nuse http::Method;",
        "// crate::http\n/* use crate::http; */\n/// crate::http",
        "const A: &str = \"crate::http\\\" crate::http\";",
        "const A: &str = r#\"use \"crate::http;\"#;",
        "#[cfg(test)]\nmod tests {\n    use crate::http;\n    fn f() { env::var(\"A\") }\n}",
        "pub(crate) fn f() {}\npub(in crate::steps) fn g() {}",
    ];
    for code in allowed {
        assert_eq!(
            offences_of("src/steps/sync/plan.rs", code),
            Vec::<String>::new(),
            "{code}"
        );
    }
    assert_eq!(
        offences_of("src/steps/sync/tests.rs", "use crate::http;"),
        Vec::<String>::new()
    );
}

#[test]
fn a_name_of_another_room_is_an_offence_however_it_is_imported() {
    for (code, name) in [
        ("use std::env; fn f() { env::var(\"A\") }", "env::var"),
        ("use std::env::var;", "env::var"),
        ("use std::{env::{var, args}, fs};", "env::var"),
        ("use ::std::{env::var};", "env::var"),
        ("fn f() { Clock::new(chrono::Utc::now) }", "Utc::now"),
        ("#[derive(clap::Args)] struct A;", "clap"),
        (
            "use crate::registry::{ImageSource, remote::Remote};",
            "registry::remote",
        ),
    ] {
        let offences = offences_of("src/steps/a.rs", code);
        assert_eq!(offences.len(), 1, "{code}: {offences:?}");
        assert!(
            offences[0].starts_with(&format!(
                "src/steps/a.rs:1: steps must not mention {name}; only "
            )),
            "{code}: {offences:?}"
        );
    }
    assert_eq!(
        offences_of("src/registry/places.rs", "use super::remote::Remote;"),
        Vec::<String>::new()
    );
    assert_eq!(
        offences_of("src/process.rs", "fn f() { std::env::var(\"A\") }"),
        Vec::<String>::new()
    );
}

#[test]
fn everything_at_once_cannot_be_imported() {
    assert_eq!(
        offences_of("src/steps/a.rs", "use crate::*;"),
        ["src/steps/a.rs:1: steps must not import everything"]
    );
    assert_eq!(
        offences_of("src/steps/mod.rs", "use super::*;"),
        ["src/steps/mod.rs:1: steps must not import everything"]
    );
}

#[test]
fn page_and_directory_name_the_same_rooms() {
    assert_eq!(
        offences_of("src/cache.rs", ""),
        ["src/cache.rs: cache is not in the table of docs/ARCHITECTURE.md"]
    );
    let only_model = [("src/model/mod.rs".to_owned(), String::new())];
    let offences = Rules::read(PAGE)
        .expect("the page is right")
        .offences(&only_model);
    assert!(
        offences.contains(&"docs/ARCHITECTURE.md: there is no room http".to_owned()),
        "{offences:?}"
    );
}

#[test]
fn the_page_cannot_allow_a_circle() {
    let page = PAGE.replace("| `model` | | |", "| `model` | | `http` |");
    let error = Rules::read(&page).err();
    assert_eq!(
        error.as_deref(),
        Some("`model` may not import `http`, which is not above it in the table")
    );
}
