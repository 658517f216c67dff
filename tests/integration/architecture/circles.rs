//! Files of a room that import each other in a circle.
//!
//! Each file below `src/` is a node. A path that leads to an item of another file of the same room
//! is an edge, in `use` and in code. Names are followed through `use` and `pub use` to the file
//! that declares the item, so a re-export hides no edge. These are no edges:
//!
//! - `mod` declarations, and a `pub use` of something below the file's own module: a parent lists
//!   its children.
//! - an import of a module as such; the paths that go through it are edges.
//! - test code.
//!
//! Code in a parent that uses a child is an edge to the child, and a child that uses an item which
//! its parent declares is an edge to the parent. The check reads text: it does not see that a
//! method is called whose `impl` is in another file.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::source::{Token, file_module, is_test_file, tokens, without_tests};

/// One circle: the files on it, the alphabetically first one at the beginning.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Circle {
    /// Room of the files; for files of one step, the directory of the step (`steps/<step>`).
    pub(super) scope: String,
    files: Vec<String>,
    /// Lines of the references: that of file `n` refers to file `n + 1`.
    lines: Vec<usize>,
}

impl Circle {
    /// Returns the circle as one line: each file with the line that refers to the next file.
    pub(super) fn line(&self) -> String {
        let mut text = format!("{}: circle of files: ", self.scope);
        for (file, line) in self.files.iter().zip(&self.lines) {
            text.push_str(&format!("{file}:{line} -> "));
        }
        text + &self.files[0]
    }
}

/// Returns the circles in `files` (path from the repository's root, content): for each reference on
/// a circle, the shortest circle that it is part of.
pub(super) fn circles(files: &[(String, String)]) -> Vec<Circle> {
    let graph = Graph::read(files);
    let mut found: BTreeMap<Vec<String>, Circle> = BTreeMap::new();
    for (from, targets) in &graph.edges {
        for to in targets.keys() {
            if let Some(path) = graph.shortest_path(to, from) {
                let circle = graph.circle(&path);
                found.entry(circle.files.clone()).or_insert(circle);
            }
        }
    }
    let mut circles: Vec<Circle> = found.into_values().collect();
    circles.sort_by(|one, other| {
        let key = |circle: &Circle| (circle.scope.clone(), circle.files.len());
        key(one).cmp(&key(other)).then_with(|| one.cmp(other))
    });
    circles
}

/// References between files: from a file to others, each with the line of the first reference.
struct Graph {
    edges: BTreeMap<String, BTreeMap<String, usize>>,
}

impl Graph {
    fn read(files: &[(String, String)]) -> Graph {
        let mut modules = Modules::default();
        let mut references = Vec::new();
        for (file, text) in files.iter().filter(|(file, _)| !is_test_file(file)) {
            let module = file_module(file);
            // `lib.rs` and `main.rs` belong to no room.
            if module.is_empty() {
                continue;
            }
            modules.files.insert(module.clone(), file.clone());
            Reader::new(text, module, &mut modules, &mut references).read();
        }
        let mut edges: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
        for reference in &references {
            let Some(target) = modules.declares(&reference.module, &reference.segments, 0) else {
                continue;
            };
            let (from, to) = (modules.file_of(&reference.module), modules.file_of(&target));
            let (Some((own, from)), Some((other, to))) = (from, to) else {
                continue;
            };
            let is_listed = reference.is_reexport && other.starts_with(own);
            if from == to || own[0] != other[0] || is_listed {
                continue;
            }
            let targets = edges.entry(from.clone()).or_default();
            let line = targets.entry(to.clone()).or_insert(reference.line);
            *line = (*line).min(reference.line);
        }
        Graph { edges }
    }

    /// Returns the files on a shortest path, both ends included.
    fn shortest_path(&self, from: &str, to: &str) -> Option<Vec<String>> {
        let mut before: BTreeMap<&str, &str> = BTreeMap::new();
        let mut waiting = VecDeque::from([from]);
        while let Some(file) = waiting.pop_front() {
            if file == to {
                let mut path = vec![file.to_owned()];
                let mut at = file;
                while let Some(previous) = before.get(at) {
                    path.push((*previous).to_owned());
                    at = previous;
                }
                path.reverse();
                return Some(path);
            }
            for next in self.edges.get(file).into_iter().flat_map(BTreeMap::keys) {
                if next != from && !before.contains_key(next.as_str()) {
                    before.insert(next, file);
                    waiting.push_back(next);
                }
            }
        }
        None
    }

    fn circle(&self, path: &[String]) -> Circle {
        let first = (0..path.len()).min_by_key(|at| &path[*at]).unwrap_or(0);
        let mut files = path.to_vec();
        files.rotate_left(first);
        let following = files.iter().cycle().skip(1);
        let lines = files
            .iter()
            .zip(following)
            .map(|(file, next)| self.edges[file][next])
            .collect();
        Circle {
            scope: scope(&files),
            files,
            lines,
        }
    }
}

/// Returns the room of `files`, or `steps/<step>` for files of one step.
fn scope(files: &[String]) -> String {
    let step = |file: &str| {
        let module = file_module(file);
        (module[0] == "steps" && module.len() > 1).then(|| module[1].clone())
    };
    let steps: BTreeSet<Option<String>> = files.iter().map(|file| step(file)).collect();
    match steps.first() {
        Some(Some(step)) if steps.len() == 1 => format!("steps/{step}"),
        _ => file_module(&files[0])[0].clone(),
    }
}

/// The modules of the crate by their paths from its root.
#[derive(Default)]
struct Modules {
    files: BTreeMap<Vec<String>, String>,
    /// Modules within files.
    inline: BTreeSet<Vec<String>>,
    /// Names that `use` brings into a module, with the paths that they stand for.
    imports: BTreeMap<(Vec<String>, String), Vec<String>>,
}

impl Modules {
    fn contains(&self, module: &[String]) -> bool {
        self.files.contains_key(module) || self.inline.contains(module)
    }

    /// Returns the file that a module is in, with the module that is the whole file.
    fn file_of<'a>(&'a self, module: &'a [String]) -> Option<(&'a [String], &'a String)> {
        (1..=module.len()).rev().find_map(|length| {
            let (own, file) = (&module[..length], self.files.get(&module[..length])?);
            Some((own, file))
        })
    }

    /// Returns the module that declares the item which a path in `module` leads to. `None` when the
    /// path leads out of the crate or to a module as such.
    fn declares(&self, module: &[String], path: &[String], depth: usize) -> Option<Vec<String>> {
        let supers = path.iter().take_while(|name| *name == "super").count();
        let (mut at, mut rest) = match path.first()?.as_str() {
            "crate" | "imglife" => (Vec::new(), &path[1..]),
            "super" => {
                let parent = module.len().saturating_sub(supers);
                (module[..parent].to_vec(), &path[supers..])
            }
            "self" => (module.to_vec(), &path[1..]),
            first => {
                let is_import = self
                    .imports
                    .contains_key(&(module.to_vec(), first.to_owned()));
                if !is_import && !self.contains(&joined(module, first)) {
                    return None;
                }
                (module.to_vec(), path)
            }
        };
        while let Some((name, after)) = rest.split_first() {
            let child = joined(&at, name);
            if self.contains(&child) {
                at = child;
            } else if name != "self" {
                let import = self.imports.get(&(at.clone(), name.clone()));
                return match import.filter(|_| depth < 16) {
                    Some(import) => {
                        let path: Vec<String> = import.iter().chain(after).cloned().collect();
                        self.declares(&at, &path, depth + 1)
                    }
                    None => Some(at),
                };
            }
            rest = after;
        }
        None
    }
}

fn joined(module: &[String], name: &str) -> Vec<String> {
    let mut path = module.to_vec();
    path.push(name.to_owned());
    path
}

/// A path in the code of a module.
struct Reference {
    line: usize,
    module: Vec<String>,
    segments: Vec<String>,
    is_reexport: bool,
}

/// Reads one file.
struct Reader<'a> {
    tokens: Vec<(usize, Token)>,
    module: Vec<String>,
    modules: &'a mut Modules,
    references: &'a mut Vec<Reference>,
}

impl<'a> Reader<'a> {
    fn new(
        text: &str,
        module: Vec<String>,
        modules: &'a mut Modules,
        references: &'a mut Vec<Reference>,
    ) -> Reader<'a> {
        Reader {
            tokens: without_tests(&tokens(text)),
            module,
            modules,
            references,
        }
    }

    fn token(&self, at: usize) -> Option<&Token> {
        self.tokens.get(at).map(|(_, token)| token)
    }

    fn word(&self, at: usize) -> Option<&str> {
        match self.token(at)? {
            Token::Word(word) => Some(word),
            _ => None,
        }
    }

    fn is(&self, at: usize, character: char) -> bool {
        self.token(at) == Some(&Token::Other(character))
    }

    fn read(mut self) {
        // The depth of braces at which each inline module began.
        let mut inline: Vec<usize> = Vec::new();
        let (mut at, mut depth) = (0, 0);
        while at < self.tokens.len() {
            match (self.word(at), self.word(at + 1)) {
                (Some("mod"), Some(name)) if self.is(at + 2, '{') => {
                    self.module.push(name.to_owned());
                    self.modules.inline.insert(self.module.clone());
                    inline.push(depth);
                    at += 2;
                }
                // `impl Trait + use<'a>` is no import.
                (Some("use"), _) if !self.is(at + 1, '<') => {
                    let is_reexport =
                        at > 0 && (self.word(at - 1) == Some("pub") || self.is(at - 1, ')'));
                    at = self.import(at + 1, &[], is_reexport);
                }
                (Some(_), _) => at = self.path(at),
                (None, _) => {
                    if self.is(at, '{') {
                        depth += 1;
                    } else if self.is(at, '}') {
                        depth = depth.saturating_sub(1);
                        if inline.last() == Some(&depth) {
                            inline.pop();
                            self.module.pop();
                        }
                    }
                    at += 1;
                }
            }
        }
    }

    /// Reads the part of an import that begins at `at`, after `prefix`. Returns where it ends.
    fn import(&mut self, mut at: usize, prefix: &[String], is_reexport: bool) -> usize {
        let mut segments = prefix.to_vec();
        let line = self.tokens.get(at).map_or(0, |(line, _)| *line);
        loop {
            if self.token(at) == Some(&Token::Separator) {
                at += 1;
            } else if self.is(at, '{') {
                at += 1;
                while at < self.tokens.len() && !self.is(at, '}') {
                    if self.is(at, ',') {
                        at += 1;
                    } else {
                        at = self.import(at, &segments, is_reexport).max(at + 1);
                    }
                }
                return at + 1;
            } else if self.is(at, '*') {
                segments.push("*".to_owned());
                at += 1;
                break;
            } else if let Some(word) = self.word(at)
                && word != "as"
            {
                segments.push(word.to_owned());
                at += 1;
            } else {
                break;
            }
        }
        let own = segments.iter().rev().find(|name| *name != "self").cloned();
        let name = if self.word(at) == Some("as") {
            at += 2;
            self.word(at - 1).map(str::to_owned)
        } else {
            own
        };
        if let Some(name) = name {
            self.modules
                .imports
                .insert((self.module.clone(), name), segments.clone());
        }
        self.refer(line, segments, is_reexport);
        at
    }

    /// Reads the path that begins at `at`. Returns where it ends.
    fn path(&mut self, mut at: usize) -> usize {
        let line = self.tokens[at].0;
        let mut segments = Vec::new();
        while let Some(word) = self.word(at) {
            segments.push(word.to_owned());
            at += 1;
            if self.token(at) != Some(&Token::Separator) || self.word(at + 1).is_none() {
                break;
            }
            at += 1;
        }
        // A lone name is of this file, or its import was read.
        if segments.len() > 1 {
            self.refer(line, segments, false);
        }
        at
    }

    fn refer(&mut self, line: usize, segments: Vec<String>, is_reexport: bool) {
        self.references.push(Reference {
            line,
            module: self.module.clone(),
            segments,
            is_reexport,
        });
    }
}

/// Returns the circles among files of the room `http` with these contents, a line each.
fn circles_of(files: &[(&str, &str)]) -> Vec<String> {
    let files: Vec<(String, String)> = files
        .iter()
        .map(|(file, text)| (format!("src/{file}"), (*text).to_owned()))
        .collect();
    circles(&files).iter().map(Circle::line).collect()
}

#[test]
fn circles_are_found_however_the_import_is_written() {
    for import in [
        "use super::b::B;",
        "use crate::http::b::B;",
        "use super::{other::X, b::{self, B}};",
        "use super::b; type A = b::B;",
        "use super::b as c; type A = c::B;",
        "use crate::http; type A = http::b::B;",
        "fn f() -> super::b::B { }",
        "fn f() { write!(out, \"{}\", super::b::B) }",
        "use super::B;",
        "fn f() -> super::B { }",
        "use crate::http::Renamed;",
        "use super::b::*;",
        "mod inner { use super::super::b::B; }",
        "pub use super::b::B;",
    ] {
        let files = [
            (
                "http/mod.rs",
                "mod a;\nmod b;\npub use b::B;\npub(crate) use b::B as Renamed;",
            ),
            ("http/a.rs", &format!("\n{import}")),
            ("http/b.rs", "pub struct B;\nuse super::a::A;"),
        ];
        assert_eq!(
            circles_of(&files),
            ["http: circle of files: src/http/a.rs:2 -> src/http/b.rs:2 -> src/http/a.rs"],
            "{import}"
        );
    }
}

#[test]
fn circles_are_found_in_nested_directories_and_through_parents() {
    let files = [
        ("http/mod.rs", "mod a;\nmod b;\nstruct Own;"),
        ("http/a.rs", "use super::b::c::C;"),
        ("http/b/mod.rs", "mod c;"),
        ("http/b/c.rs", "use super::d::D;"),
        ("http/b/d.rs", "use super::super::a::A;"),
    ];
    assert_eq!(
        circles_of(&files),
        [
            "http: circle of files: src/http/a.rs:1 -> src/http/b/c.rs:1 -> src/http/b/d.rs:1 \
             -> src/http/a.rs"
        ]
    );
    // The parent's code uses the child, and the child an item that the parent declares.
    let files = [
        ("http/mod.rs", "mod a;\nstruct Own;\nfn f() { a::g() }"),
        ("http/a.rs", "use super::Own;"),
    ];
    assert_eq!(
        circles_of(&files),
        ["http: circle of files: src/http/a.rs:1 -> src/http/mod.rs:3 -> src/http/a.rs"]
    );
}

#[test]
fn circles_of_a_step_are_reported_under_its_directory() {
    let files = [
        ("steps/mod.rs", ""),
        ("steps/sync/mod.rs", ""),
        ("steps/sync/a.rs", "use super::b::B;"),
        (
            "steps/sync/b.rs",
            "use crate::steps::{sync::a::A, image::I};",
        ),
        ("steps/image.rs", "use super::sync::a::A;"),
    ];
    assert_eq!(
        circles_of(&files),
        [
            "steps: circle of files: src/steps/image.rs:1 -> src/steps/sync/a.rs:1 -> \
             src/steps/sync/b.rs:1 -> src/steps/image.rs",
            "steps/sync: circle of files: src/steps/sync/a.rs:1 -> src/steps/sync/b.rs:1 -> \
             src/steps/sync/a.rs"
        ]
    );
}

#[test]
fn references_that_are_no_imports_make_no_circle() {
    let allowed = [
        "use super::c::C;",
        "use crate::model::b::B;",
        "use super::b;",
        "// super::b::B\nconst A: &str = \"super::b::B\";",
        "#[cfg(test)]\nmod tests {\n    use super::super::b::B;\n}",
        "use std::b::B;\nfn f(b: B) { b.b() }",
    ];
    for code in allowed {
        let files = [
            (
                "http/mod.rs",
                "mod a;\nmod b;\nmod c;\npub use a::A;\npub use self::b::B;",
            ),
            ("http/a.rs", code),
            ("http/b.rs", "use super::a::A;"),
            ("http/c.rs", ""),
            ("http/a_tests.rs", "use super::b::B;"),
            ("http/tests.rs", "use super::b::B;"),
            ("model/b.rs", "use crate::http::a::A;"),
        ];
        assert_eq!(circles_of(&files), Vec::<String>::new(), "{code}");
    }
    // A parent that only lists its children, and a child that uses an item of the parent.
    let files = [
        ("http/mod.rs", "mod a;\npub use a::A;\npub struct Own;"),
        ("http/a.rs", "use super::Own;"),
    ];
    assert_eq!(circles_of(&files), Vec::<String>::new());
}
