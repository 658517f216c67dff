//! Type names that are declared more than once in the crate.

use std::collections::BTreeMap;

use super::source::{Token, is_test_file, tokens, without_tests};

/// Names of types that each step declares for itself.
const ONE_EACH_STEP: [&str; 3] = ["Plan", "Report", "World"];

/// Returns the type names in `files` (path from the repository's root, content) that are declared
/// more than once, a line each.
///
/// Counts structures, enumerations, traits and aliases at the top level of files and of modules
/// within files, without test code.
pub(super) fn offences(files: &[(String, String)]) -> Vec<String> {
    let mut declared: BTreeMap<String, BTreeMap<&str, usize>> = BTreeMap::new();
    for (file, text) in files.iter().filter(|(file, _)| !is_test_file(file)) {
        for (name, line) in type_names(text) {
            declared
                .entry(name)
                .or_default()
                .entry(file)
                .or_insert(line);
        }
    }
    declared.retain(|name, at| at.len() > 1 && !ONE_EACH_STEP.contains(&name.as_str()));
    declared
        .iter()
        .map(|(name, at)| {
            let at: Vec<String> = at
                .iter()
                .map(|(file, line)| format!("{file}:{line}"))
                .collect();
            format!("{name} is declared at {}", at.join(" and "))
        })
        .collect()
}

/// Returns the names of the types that `text` declares, with their lines.
fn type_names(text: &str) -> Vec<(String, usize)> {
    let tokens = without_tests(&tokens(text));
    let word = |at: usize| match tokens.get(at) {
        Some((_, Token::Word(word))) => Some(word.as_str()),
        _ => None,
    };
    let mut names = Vec::new();
    // Depth of brackets, and the depths at which modules began: their braces do not count.
    let (mut depth, mut modules) = (0_usize, Vec::new());
    for (at, (line, token)) in tokens.iter().enumerate() {
        match token {
            Token::Word(keyword) if depth == 0 => {
                let declares = matches!(keyword.as_str(), "struct" | "enum" | "trait" | "type");
                if let Some(name) = word(at + 1).filter(|_| declares) {
                    names.push((name.to_owned(), *line));
                }
            }
            Token::Other('{') if depth == 0 && at > 1 && word(at - 2) == Some("mod") => {
                modules.push(());
            }
            Token::Other('{' | '(' | '[') => depth += 1,
            Token::Other('}') if depth == 0 => drop(modules.pop()),
            Token::Other('}' | ')' | ']') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    names
}

/// Returns the offences of a crate with these files.
fn type_name_offences(files: &[(&str, &str)]) -> Vec<String> {
    let files: Vec<(String, String)> = files
        .iter()
        .map(|(file, text)| (format!("src/{file}"), (*text).to_owned()))
        .collect();
    offences(&files)
}

#[test]
fn a_type_name_that_is_declared_twice_is_reported_with_both_files() {
    for declaration in [
        "struct Item;",
        "pub struct Item<T>(T);",
        "pub(crate) enum Item { A }",
        "pub(in crate::http) trait Item {}",
        "type Item = u8;",
        "#[derive(Debug)]\nstruct Item;",
        "fn f() {}\nstruct Item { a: u8 }",
    ] {
        let files = [("a.rs", "pub struct Item;"), ("b.rs", declaration)];
        let line = 1 + declaration.matches('\n').count();
        assert_eq!(
            type_name_offences(&files),
            [format!(
                "Item is declared at src/a.rs:1 and src/b.rs:{line}"
            )],
            "{declaration}"
        );
    }
}

#[test]
fn a_type_name_of_a_test_or_a_step_may_be_declared_again() {
    for declaration in [
        "fn f() { struct Item; }",
        "trait Other { type Item; }",
        "impl Iterator for Other { type Item = u8; }",
        "use crate::a::Item;",
        "// struct Item;",
        "#[cfg(test)]\nmod tests { struct Item; }",
        "struct World; struct Plan; struct Report;",
    ] {
        let files = [
            (
                "a.rs",
                "pub struct Item; struct World; struct Plan; struct Report;",
            ),
            ("b.rs", declaration),
            ("b_tests.rs", "struct Item;"),
        ];
        assert_eq!(
            type_name_offences(&files),
            Vec::<String>::new(),
            "{declaration}"
        );
    }
}
