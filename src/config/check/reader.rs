//! Reading keys of a mapping by the table: typed values go out, findings go into the context.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::rc::Rc;

use super::scalar::{Problem, Scalar, alternatives, expected};
use crate::config::errors::{Finding, MOST_FINDINGS, Span, quoted};
use crate::config::expand::expand;
use crate::config::raw::{Content, Node, Pair};
use crate::config::table::{Key, SECTIONS, Section, Shape};
use crate::model::text::{closest, excerpt};
use crate::model::{Repository, Variables};

/// The most text that variables may add to the whole file, in bytes.
const MOST_EXPANDED: usize = 4 << 20;

/// The most regular expressions in a file: each may take a mebibyte once it is compiled.
const MOST_PATTERNS: usize = 2000;

/// Where something stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct At {
    pub(super) span: Option<Span>,
    pub(super) path: String,
}

/// A value and where it was given.
#[derive(Clone, Debug)]
pub(super) struct Located<T> {
    pub(super) value: T,
    pub(super) at: At,
}

/// What a check is made with, and what it found.
pub(super) struct Context<'a> {
    pub(super) variables: &'a Variables,
    /// The directory that relative paths are resolved against.
    pub(super) directory: &'a Path,
    findings: RefCell<Vec<Finding>>,
    omitted: Cell<usize>,
    expanded: Cell<usize>,
    patterns: Cell<usize>,
    #[cfg(test)]
    pub(super) asked: RefCell<std::collections::BTreeSet<(&'static str, &'static str)>>,
}

impl<'a> Context<'a> {
    pub(super) fn new(variables: &'a Variables, directory: &'a Path) -> Context<'a> {
        Context {
            variables,
            directory,
            findings: RefCell::default(),
            omitted: Cell::new(0),
            expanded: Cell::new(0),
            patterns: Cell::new(0),
            #[cfg(test)]
            asked: RefCell::default(),
        }
    }

    pub(super) fn report(&self, at: &At, problem: Problem) {
        let mut findings = self.findings.borrow_mut();
        if findings.len() < MOST_FINDINGS {
            findings.push(Finding {
                span: at.span,
                path: at.path.clone(),
                message: problem.message,
                hint: problem.hint,
            });
        } else {
            self.omitted.set(self.omitted.get() + 1);
        }
    }

    pub(super) fn error(&self, at: &At, message: impl Into<String>, hint: impl Into<String>) {
        self.report(at, Problem::new(message).hint(hint));
    }

    /// Returns the findings, and how many there are beyond those.
    pub(super) fn into_findings(self) -> (Vec<Finding>, usize) {
        (self.findings.into_inner(), self.omitted.get())
    }

    /// Returns the repository with a directory resolved below that of the file.
    pub(super) fn resolve(&self, repository: &Located<Repository>) -> Located<Repository> {
        Located {
            value: repository.value.resolved_below(self.directory),
            at: repository.at.clone(),
        }
    }

    /// Returns `text` with variables replaced, or `None` when that is reported as impossible.
    fn expand(&self, text: &str, at: &At) -> Option<String> {
        let expanded = match expand(text, self.variables) {
            Ok(expanded) => expanded,
            Err(error) => {
                self.report(
                    at,
                    Problem {
                        message: error.to_string(),
                        hint: error.hint(),
                    },
                );
                return None;
            }
        };
        self.expanded
            .set(self.expanded.get() + expanded.len().saturating_sub(text.len()));
        if self.expanded.get() > MOST_EXPANDED {
            self.report(
                at,
                Problem::new("the variables of this file add too much text"),
            );
            return None;
        }
        Some(expanded)
    }

    fn parse<T: Scalar>(&self, text: &str, shape: &Shape, at: At) -> Option<Located<T>> {
        debug_assert!(T::fits(shape), "{}: {shape:?}", at.path);
        if text.is_empty() && !matches!(shape, Shape::AnyText) {
            self.report(
                &at,
                Problem::new(format!("expected {}, found an empty text", expected(shape))),
            );
            return None;
        }
        // Plain words such as `minor` or `latest` cost nothing.
        let is_word = text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
        if !is_word && matches!(shape, Shape::Pattern | Shape::TagExclusion | Shape::Extract) {
            self.patterns.set(self.patterns.get() + 1);
            if self.patterns.get() > MOST_PATTERNS {
                self.report(
                    &at,
                    Problem::new(format!("more than {MOST_PATTERNS} patterns in one file")),
                );
                return None;
            }
        }
        match T::parse(text, shape) {
            Ok(value) => Some(Located { value, at }),
            Err(problem) => {
                self.report(&at, problem);
                None
            }
        }
    }

    fn mismatch(&self, shape: &Shape, node: &Node, at: &At) {
        let found = match &node.content {
            Content::Null => "nothing".to_owned(),
            Content::Scalar(text) => quoted(text),
            Content::Sequence(_) => "a list".to_owned(),
            Content::Mapping(_) => "a mapping".to_owned(),
        };
        let mut problem = Problem::new(format!("expected {}, found {found}", expected(shape)));
        if let (Shape::List(_), Content::Scalar(text)) = (shape, &node.content)
            && !text.is_empty()
            && text.len() <= 60
        {
            problem = problem.hint(format!("write {}", quoted(&format!("[{text}]"))));
        }
        self.report(at, problem);
    }
}

/// The keys of one section as they are given.
pub(super) struct Fields<'a> {
    pub(super) context: &'a Context<'a>,
    table: &'static Section,
    /// Where the section stands: at its first key.
    pub(super) at: At,
    pairs: HashMap<&'static str, &'a Pair>,
    /// Values from variables, which go before those of the file: the variable's name and its value.
    overrides: BTreeMap<&'static str, (String, String)>,
    /// Keys that an unknown key was most likely meant to be.
    misspelt: HashSet<&'static str>,
}

impl<'a> Fields<'a> {
    /// Returns the fields of a mapping; unknown and duplicate keys are reported. `None` when it is
    /// no mapping.
    pub(super) fn open(
        context: &'a Context<'a>,
        table: &'static Section,
        at: At,
        node: &'a Node,
    ) -> Option<Fields<'a>> {
        let given: &[Pair] = match &node.content {
            Content::Mapping(pairs) => pairs,
            Content::Null => &[],
            _ => {
                context.mismatch(
                    &Shape::Section(table),
                    node,
                    &At {
                        span: Some(node.span),
                        ..at
                    },
                );
                return None;
            }
        };
        let mut fields = Fields::empty(context, table, at);
        for (pair, at) in distinct(context, given, &fields.at.path) {
            if let Some(key) = table.key(&pair.key.text) {
                fields.pairs.insert(key.name, pair);
            } else {
                let meant = closest(&pair.key.text, table.keys.iter().map(|key| key.name));
                context.report(&at, unknown(&pair.key.text, table, meant));
                fields.misspelt.extend(meant);
            }
        }
        Some(fields)
    }

    /// Returns a section that is not in the file.
    pub(super) fn empty(context: &'a Context<'a>, table: &'static Section, at: At) -> Fields<'a> {
        Fields {
            context,
            table,
            at,
            pairs: HashMap::new(),
            overrides: BTreeMap::new(),
            misspelt: HashSet::new(),
        }
    }

    /// Lets `variable` replace the key when it is set. `empty_counts`: also when it is set to
    /// nothing.
    pub(super) fn override_from(&mut self, name: &'static str, variable: &str, empty_counts: bool) {
        let variables = self.context.variables;
        let value = if empty_counts {
            variables.get(variable)
        } else {
            variables.get_filled(variable)
        };
        if let Some(value) = value {
            self.overrides
                .insert(name, (variable.to_owned(), value.to_owned()));
        }
    }

    /// Returns whether a variable replaces the key.
    pub(super) fn is_overridden(&self, name: &str) -> bool {
        self.overrides.contains_key(name)
    }

    /// Leaves out what the file says on a key.
    pub(super) fn forget(&mut self, name: &str) {
        self.pairs.remove(name);
    }

    /// Returns whether the key is given; `null` counts as left out.
    pub(super) fn has(&self, name: &str) -> bool {
        self.is_overridden(name) || self.node(name).is_some()
    }

    /// Returns whether the key is given, or was meant to be and misspelt, so that its absence is no
    /// finding of its own.
    pub(super) fn is_meant(&self, name: &str) -> bool {
        self.has(name) || self.misspelt.contains(name)
    }

    /// Returns where the key is given, else where the section stands.
    pub(super) fn place(&self, name: &str) -> At {
        if let Some((variable, _)) = self.overrides.get(name) {
            return At {
                span: None,
                path: variable.clone(),
            };
        }
        match self.pairs.get(name) {
            Some(pair) => At {
                span: Some(pair.key.span),
                path: self.path_of(name),
            },
            None => self.at.clone(),
        }
    }

    fn path_of(&self, name: &str) -> String {
        join(&self.at.path, name)
    }

    fn key(&self, name: &str) -> Option<&'static Key> {
        let key = self.table.key(name);
        debug_assert!(
            key.is_some(),
            "`{name}` is not in the table of `{}`",
            self.table.name
        );
        #[cfg(test)]
        if let Some(key) = key {
            self.context
                .asked
                .borrow_mut()
                .insert((self.table.name, key.name));
        }
        key
    }

    fn node(&self, name: &str) -> Option<&'a Node> {
        self.pairs
            .get(name)
            .map(|pair| &pair.value)
            .filter(|node| node.content != Content::Null)
    }

    /// Returns the value of a key, `None` when it is left out or wrong; what is wrong is reported.
    pub(super) fn optional<T: Scalar>(&self, name: &str) -> Option<Located<T>> {
        let key = self.key(name)?;
        if let Some((variable, value)) = self.overrides.get(name) {
            return self.context.parse(
                value,
                &key.shape,
                At {
                    span: None,
                    path: variable.clone(),
                },
            );
        }
        self.scalar(key, &key.shape, self.node(name)?, self.path_of(name))
    }

    /// Returns the value of a key that must be given; it is reported when it is not.
    pub(super) fn required<T: Scalar>(&self, name: &str) -> Option<Located<T>> {
        self.demand(name);
        self.optional(name)
    }

    /// Reports a key that is not given.
    pub(super) fn demand(&self, name: &str) {
        if self.is_meant(name) {
            return;
        }
        let expected = self
            .table
            .key(name)
            .map(|key| expected(&key.shape))
            .unwrap_or_default();
        match self.pairs.get(name) {
            Some(_) => {
                self.context.error(
                    &self.place(name),
                    format!("expected {expected}, found nothing"),
                    "write a value behind the colon",
                );
            }
            None => self.context.error(
                &self.at,
                format!("`{name}` is missing"),
                format!("add `{name}:` with {expected}"),
            ),
        }
    }

    /// Returns the value of a key, or the table's default.
    pub(super) fn value<T: Scalar>(&self, name: &str) -> Option<T> {
        if self.has(name) {
            self.optional(name).map(|value| value.value)
        } else {
            self.key(name).and_then(|_| default_of(self.table, name))
        }
    }

    /// Returns the values of a list, `None` when it is left out.
    pub(super) fn list<T: Scalar>(&self, name: &str) -> Option<Vec<Located<T>>> {
        let key = self.key(name)?;
        let Shape::List(item) = key.shape else {
            return None;
        };
        let items = self.items(key)?.into_iter();
        Some(
            items
                .filter_map(|(node, path)| self.scalar(key, item, node, path))
                .collect(),
        )
    }

    /// Returns whether a list is given and has items, right or wrong.
    pub(super) fn has_items(&self, name: &str) -> bool {
        self.node(name).is_some_and(
            |node| matches!(&node.content, Content::Sequence(items) if !items.is_empty()),
        )
    }

    /// Returns the values of a list, or of the table's default.
    pub(super) fn list_or_default<T: Scalar>(&self, name: &str) -> Vec<T> {
        if self.has(name) {
            return self
                .list(name)
                .unwrap_or_default()
                .into_iter()
                .map(|item| item.value)
                .collect();
        }
        let Some(Key {
            shape: Shape::List(item),
            default: Some(default),
            ..
        }) = self.key(name)
        else {
            return Vec::new();
        };
        let items = default
            .trim_matches(['[', ']'])
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty());
        items.filter_map(|text| T::parse(text, item).ok()).collect()
    }

    /// Returns the section below a key.
    pub(super) fn section(&self, name: &str) -> Option<Fields<'a>> {
        let key = self.key(name)?;
        let Shape::Section(table) = key.shape else {
            return None;
        };
        Fields::open(
            self.context,
            table,
            self.child_at(name),
            &self.pairs.get(name)?.value,
        )
    }

    /// Returns the section below a key, an empty one when it is left out.
    pub(super) fn section_or_empty(&self, name: &str, table: &'static Section) -> Fields<'a> {
        self.section(name).unwrap_or_else(|| {
            Fields::empty(
                self.context,
                table,
                At {
                    span: self.at.span,
                    path: self.path_of(name),
                },
            )
        })
    }

    /// Returns the sections of a list; for a key that takes one or more, also the one.
    pub(super) fn sections(&self, name: &str) -> Option<Vec<Fields<'a>>> {
        let key = self.key(name)?;
        let table = match key.shape {
            Shape::List(&Shape::Section(table)) | Shape::OneOrMore(table) => table,
            _ => return None,
        };
        let nodes = match self.node(name)? {
            node @ Node {
                content: Content::Mapping(_),
                ..
            } if matches!(key.shape, Shape::OneOrMore(_)) => {
                vec![(node, self.path_of(name))]
            }
            _ => self.items(key)?,
        };
        let open = |(node, path): (&'a Node, String)| {
            Fields::open(
                self.context,
                table,
                At {
                    span: Some(node.span),
                    path,
                },
                node,
            )
        };
        Some(nodes.into_iter().filter_map(open).collect())
    }

    /// Returns the pairs of a mapping whose keys the user chooses, with where their keys stand.
    pub(super) fn pairs(&self, name: &str) -> Vec<(&'a Pair, At)> {
        let Some(key) = self.key(name) else {
            return Vec::new();
        };
        let Some(node) = self.node(name) else {
            return Vec::new();
        };
        let Content::Mapping(pairs) = &node.content else {
            self.context.mismatch(
                &key.shape,
                node,
                &At {
                    span: Some(node.span),
                    path: self.path_of(name),
                },
            );
            return Vec::new();
        };
        distinct(self.context, pairs, &self.path_of(name))
    }

    /// Returns the text of a key that the user chose, with variables replaced.
    pub(super) fn chosen_key(&self, pair: &Pair, at: &At) -> Option<String> {
        self.context.expand(&pair.key.text, at)
    }

    /// Returns the values of a mapping whose keys the user chooses.
    pub(super) fn map<T: Scalar>(&self, name: &str) -> Option<BTreeMap<String, T>> {
        let key = self.key(name)?;
        let Shape::Map(shape) = key.shape else {
            return None;
        };
        let value = |(pair, at): (&'a Pair, At)| {
            // A build argument without a value is an empty text.
            let nothing = Node {
                span: pair.value.span,
                content: Content::Scalar(Rc::from("")),
            };
            let node = if pair.value.content == Content::Null {
                &nothing
            } else {
                &pair.value
            };
            let value = self.scalar(key, shape, node, at.path)?;
            Some((pair.key.text.to_string(), value.value))
        };
        Some(self.pairs(name).into_iter().filter_map(value).collect())
    }

    /// Returns the text of a key, or its items when it is a list of texts.
    pub(super) fn text_or_list(&self, name: &str) -> Option<TextOrList> {
        let key = self.key(name)?;
        let node = self.node(name)?;
        let at = At {
            span: Some(node.span),
            path: self.path_of(name),
        };
        match &node.content {
            Content::Scalar(text) => Some(TextOrList::Text(Located {
                value: text.to_string(),
                at,
            })),
            Content::Sequence(_) => {
                let items = self.items(key)?.into_iter();
                let items = items
                    .filter_map(|(node, path)| self.scalar(key, &Shape::AnyText, node, path))
                    .collect();
                Some(TextOrList::List(Located { value: items, at }))
            }
            _ => {
                self.context.mismatch(&key.shape, node, &at);
                None
            }
        }
    }

    fn child_at(&self, name: &str) -> At {
        let span = self.pairs.get(name).map(|pair| pair.key.span);
        At {
            span,
            path: self.path_of(name),
        }
    }

    fn items(&self, key: &Key) -> Option<Vec<(&'a Node, String)>> {
        let node = self.node(key.name)?;
        let path = self.path_of(key.name);
        let Content::Sequence(items) = &node.content else {
            self.context.mismatch(
                &key.shape,
                node,
                &At {
                    span: Some(node.span),
                    path,
                },
            );
            return None;
        };
        Some(
            items
                .iter()
                .enumerate()
                .map(|(index, item)| (item, format!("{path}[{index}]")))
                .collect(),
        )
    }

    fn scalar<T: Scalar>(
        &self,
        key: &Key,
        shape: &Shape,
        node: &Node,
        path: String,
    ) -> Option<Located<T>> {
        let at = At {
            span: Some(node.span),
            path,
        };
        let Content::Scalar(text) = &node.content else {
            self.context.mismatch(shape, node, &at);
            return None;
        };
        if key.expanded {
            let text = self.context.expand(text, &at)?;
            self.context.parse(&text, shape, at)
        } else {
            self.context.parse(text, shape, at)
        }
    }
}

/// A value that may be a text or a list of texts.
pub(super) enum TextOrList {
    Text(Located<String>),
    List(Located<Vec<Located<String>>>),
}

/// Returns the table's default of a key.
pub(super) fn default_of<T: Scalar>(table: &'static Section, name: &str) -> Option<T> {
    let key = table.key(name)?;
    let default = key.default.and_then(|text| T::parse(text, &key.shape).ok());
    debug_assert!(
        default.is_some(),
        "`{name}` has no default of this type in the table of `{}`",
        table.name
    );
    default
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

/// Returns the pairs without those whose key was there before, which are reported, and where their
/// keys stand.
fn distinct<'a>(context: &Context<'_>, pairs: &'a [Pair], path: &str) -> Vec<(&'a Pair, At)> {
    let mut lines: HashMap<&str, usize> = HashMap::new();
    let mut distinct = Vec::new();
    for pair in pairs {
        // A key with dots or brackets in it (a host) is quoted, so that the path stays readable.
        let plain = !pair.key.text.is_empty()
            && pair
                .key
                .text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
        let shown = if plain {
            pair.key.text.to_string()
        } else {
            format!("\"{}\"", excerpt(&pair.key.text, 60))
        };
        let at = At {
            span: Some(pair.key.span),
            path: join(path, &shown),
        };
        if let Some(line) = lines.get(pair.key.text.as_ref()) {
            context.error(
                &at,
                format!("duplicate key, first given in line {line}"),
                "remove one of the two",
            );
        } else {
            lines.insert(&pair.key.text, pair.key.span.line);
            distinct.push((pair, at));
        }
    }
    distinct
}

fn unknown(name: &str, table: &Section, meant: Option<&str>) -> Problem {
    let problem = Problem::new("unknown key");
    if let Some(near) = meant {
        return problem.hint(format!("did you mean `{near}`?"));
    }
    let elsewhere: Vec<&str> = SECTIONS
        .iter()
        .filter(|section| section.key(name).is_some())
        .map(|section| section.name)
        .collect();
    let names: Vec<&str> = table.keys.iter().map(|key| key.name).collect();
    match elsewhere.as_slice() {
        [""] => problem.hint(format!("`{name}` stands at the top of the file")),
        [section] => problem.hint(format!("`{name}` belongs to `{section}`")),
        _ => problem.hint(format!(
            "known here: {}",
            alternatives(&names).replace(" or ", ", ")
        )),
    }
}
