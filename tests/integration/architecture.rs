//! Checks of the structure of `src/`: the tables of `docs/ARCHITECTURE.md`, circles among the files
//! of a room, type names that are declared twice.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use self::circles::Circle;
use self::source::{collect, file_module, is_test_file, paths};

mod circles;
mod source;
mod type_names;

#[test]
fn every_room_imports_only_what_the_architecture_page_allows() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/ARCHITECTURE.md")).expect("the page is there");
    let rules = Rules::read(&page).expect("the page has both tables");
    let offences = rules.offences(&source_files());
    assert!(offences.is_empty(), "\n{}\n", offences.join("\n"));
}

#[test]
fn files_of_a_room_import_each_other_in_no_circle() {
    let circles = circles::circles(&source_files());
    let offences: Vec<String> = circles.iter().map(Circle::line).collect();
    assert!(offences.is_empty(), "\n{}\n", offences.join("\n"));
}

#[test]
fn a_type_name_is_declared_once_in_the_crate() {
    let offences = type_names::offences(&source_files());
    assert!(offences.is_empty(), "\n{}\n", offences.join("\n"));
}

/// Returns the files below `src/`: path from the repository's root, content.
fn source_files() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    collect(&root.join("src"), "src", &mut files);
    assert!(files.len() > 30, "only {} files were found", files.len());
    files
}

/// Rules in the tables of the page.
struct Rules {
    /// Rooms in the page's order, each with the rooms that it may import.
    rooms: Vec<(String, Vec<String>)>,
    /// Names, each with the rooms that may use it.
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

    /// Returns the violations in `files` (path from the repository's root, content), a line each.
    fn offences(&self, files: &[(String, String)]) -> Vec<String> {
        let mut offences = Vec::new();
        let mut seen = BTreeMap::new();
        for (file, text) in files {
            let module = file_module(file);
            let room = module
                .first()
                .cloned()
                .unwrap_or_else(|| file[4..file.len() - 3].to_owned());
            seen.entry(room.clone()).or_insert(file);
            if is_test_file(file) {
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
        offences_of("src/registry/stores.rs", "use super::remote::Remote;"),
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
