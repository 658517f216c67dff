//! Typed access to the keys of a mapping, according to the key table. Errors are collected in the
//! context.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::scalar::{Scalar, ValueError, alternatives, expected};
use crate::config::errors::{ConfigFinding, MAX_FINDINGS, Span, quoted};
use crate::config::expand::expand;
use crate::config::raw::{YamlContent, YamlNode, YamlPair};
use crate::config::table::{KeySpec, SECTIONS, SectionSpec, Shape};
use crate::files::checkout_root;
use crate::model::text::{closest, excerpt};
use crate::model::{Repository, Variables};

/// Maximum number of bytes that environment variables may add to the values of the file.
const MAX_EXPANDED_BYTES: usize = 4 << 20;

/// Maximum number of regular expressions in a file. Each may take 1 MiB when compiled.
const MAX_PATTERNS: usize = 2000;

/// Location of a key or value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct KeyLocation {
    /// Position in the file; `None` for a value from an environment variable.
    pub(super) span: Option<Span>,
    /// Path of the key, or the name of the environment variable.
    pub(super) path: String,
}

/// A value and its location.
#[derive(Clone, Debug)]
pub(super) struct Located<T> {
    pub(super) value: T,
    pub(super) at: KeyLocation,
}

/// Input and findings of a check.
pub(super) struct CheckContext<'a> {
    /// Environment variables that references are expanded with.
    pub(super) variables: &'a Variables,
    /// Directory that relative paths are resolved against.
    pub(super) directory: &'a Path,
    /// Repository that paths must not lead out of; `None` if they may, and for a configuration
    /// without a directory.
    pub(super) root: Option<PathBuf>,
    findings: RefCell<Vec<ConfigFinding>>,
    /// Number of findings above the limit.
    omitted: Cell<usize>,
    /// Number of bytes that environment variables have added.
    expanded: Cell<usize>,
    /// Number of regular expressions so far.
    patterns: Cell<usize>,
    /// Section and name of each key that was read.
    #[cfg(test)]
    pub(super) keys_read: RefCell<std::collections::BTreeSet<(&'static str, &'static str)>>,
}

impl<'a> CheckContext<'a> {
    pub(super) fn new(variables: &'a Variables, directory: &'a Path) -> CheckContext<'a> {
        CheckContext {
            variables,
            directory,
            root: (directory.is_absolute() && !variables.permissions().outside)
                .then(|| checkout_root(directory)),
            findings: RefCell::default(),
            omitted: Cell::new(0),
            expanded: Cell::new(0),
            patterns: Cell::new(0),
            #[cfg(test)]
            keys_read: RefCell::default(),
        }
    }

    /// Reports a finding.
    pub(super) fn report(&self, at: &KeyLocation, problem: ValueError) {
        let mut findings = self.findings.borrow_mut();
        if findings.len() < MAX_FINDINGS {
            findings.push(ConfigFinding {
                span: at.span,
                path: at.path.clone(),
                message: problem.message,
                hint: problem.hint,
            });
        } else {
            self.omitted.set(self.omitted.get() + 1);
        }
    }

    /// Reports a finding with a hint.
    pub(super) fn error(
        &self,
        at: &KeyLocation,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.report(at, ValueError::new(message).hint(hint));
    }

    /// Returns the findings and the number of further findings above the limit.
    pub(super) fn into_findings(self) -> (Vec<ConfigFinding>, usize) {
        (self.findings.into_inner(), self.omitted.get())
    }

    /// Resolves the directory of a repository against the directory of the file.
    pub(super) fn resolve(&self, repository: &Located<Repository>) -> Located<Repository> {
        let resolved = repository.value.resolved_below(self.directory);
        self.check_layout(&resolved, &repository.at);
        Located {
            value: resolved,
            at: repository.at.clone(),
        }
    }

    /// Expands the references in `text`. Reports an error and returns `None` if that fails.
    fn expand(&self, text: &str, at: &KeyLocation) -> Option<String> {
        let expanded = match expand(text, self.variables) {
            Ok(expanded) => expanded,
            Err(error) => {
                self.report(
                    at,
                    ValueError {
                        message: error.to_string(),
                        hint: error.hint(),
                    },
                );
                return None;
            }
        };
        self.expanded
            .set(self.expanded.get() + expanded.len().saturating_sub(text.len()));
        if self.expanded.get() > MAX_EXPANDED_BYTES {
            self.report(
                at,
                ValueError::new("the environment variables in this file add too much text"),
            );
            return None;
        }
        Some(expanded)
    }

    /// Parses a scalar. Reports an error and returns `None` if it is invalid.
    fn parse<T: Scalar>(&self, text: &str, shape: &Shape, at: KeyLocation) -> Option<Located<T>> {
        debug_assert!(T::fits(shape), "{}: {shape:?}", at.path);
        if text.is_empty() && !matches!(shape, Shape::AnyText) {
            self.report(
                &at,
                ValueError::new(format!(
                    "expected {}, found an empty string",
                    expected(shape)
                )),
            );
            return None;
        }
        // Plain words such as `minor` or `latest` are not compiled and do not count.
        let is_word = text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
        if !is_word && matches!(shape, Shape::Pattern | Shape::TagExclusion | Shape::Extract) {
            self.patterns.set(self.patterns.get() + 1);
            if self.patterns.get() > MAX_PATTERNS {
                self.report(
                    &at,
                    ValueError::new(format!(
                        "the file has more than {MAX_PATTERNS} regular expressions"
                    )),
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

    /// Reports a value of another YAML type than `shape`.
    fn mismatch(&self, shape: &Shape, node: &YamlNode, at: &KeyLocation) {
        let found = match &node.content {
            YamlContent::Null => "no value".to_owned(),
            YamlContent::Scalar(text) => quoted(text),
            YamlContent::Sequence(_) => "a list".to_owned(),
            YamlContent::Mapping(_) => "a mapping".to_owned(),
        };
        let mut problem = ValueError::new(format!("expected {}, found {found}", expected(shape)));
        if let (Shape::List(_), YamlContent::Scalar(text)) = (shape, &node.content)
            && !text.is_empty()
            && text.len() <= 60
        {
            problem = problem.hint(format!("write {}", quoted(&format!("[{text}]"))));
        }
        self.report(at, problem);
    }
}

/// The keys of one section as they are set in the file and by environment variables.
pub(super) struct Fields<'a> {
    pub(super) context: &'a CheckContext<'a>,
    table: &'static SectionSpec,
    /// Location of the section: its first key.
    pub(super) at: KeyLocation,
    pairs: HashMap<&'static str, &'a YamlPair>,
    /// Name and value of the environment variable that overrides a key.
    overrides: BTreeMap<&'static str, (String, String)>,
    /// Keys that the user probably meant by unknown keys in the section.
    misspelt: HashSet<&'static str>,
}

impl<'a> Fields<'a> {
    /// Opens a mapping as a section. Reports unknown and duplicate keys.
    ///
    /// Reports an error and returns `None` if `node` is not a mapping.
    pub(super) fn open(
        context: &'a CheckContext<'a>,
        table: &'static SectionSpec,
        at: KeyLocation,
        node: &'a YamlNode,
    ) -> Option<Fields<'a>> {
        let given: &[YamlPair] = match &node.content {
            YamlContent::Mapping(pairs) => pairs,
            YamlContent::Null => &[],
            _ => {
                context.mismatch(
                    &Shape::Section(table),
                    node,
                    &KeyLocation {
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
            } else if table.name.is_empty() && pair.key.text.starts_with("x-") {
                // A place for anchors, as in compose files.
            } else {
                let meant = closest(&pair.key.text, table.keys.iter().map(|key| key.name));
                context.report(&at, unknown(&pair.key.text, table, meant));
                fields.misspelt.extend(meant);
            }
        }
        Some(fields)
    }

    /// Returns a section that the file does not have.
    pub(super) fn empty(
        context: &'a CheckContext<'a>,
        table: &'static SectionSpec,
        at: KeyLocation,
    ) -> Fields<'a> {
        Fields {
            context,
            table,
            at,
            pairs: HashMap::new(),
            overrides: BTreeMap::new(),
            misspelt: HashSet::new(),
        }
    }

    /// Overrides the key with the environment variable `variable`, if that is set.
    ///
    /// An empty variable counts as set only if `allow_empty` is true.
    pub(super) fn override_from(&mut self, name: &'static str, variable: &str, allow_empty: bool) {
        let variables = self.context.variables;
        let value = if allow_empty {
            variables.get(variable)
        } else {
            variables.get_filled(variable)
        };
        if let Some(value) = value {
            self.overrides
                .insert(name, (variable.to_owned(), value.to_owned()));
        }
    }

    /// Returns true if an environment variable overrides the key.
    pub(super) fn is_overridden(&self, name: &str) -> bool {
        self.overrides.contains_key(name)
    }

    /// Ignores the value of a key in the file.
    pub(super) fn forget(&mut self, name: &str) {
        self.pairs.remove(name);
    }

    /// Returns true if the key is set. `null` counts as not set.
    pub(super) fn has(&self, name: &str) -> bool {
        self.is_overridden(name) || self.node(name).is_some()
    }

    /// Returns true if the key is set or probably misspelt.
    ///
    /// The absence of a misspelt key is not reported, because the unknown key already is.
    pub(super) fn is_set_or_misspelt(&self, name: &str) -> bool {
        self.has(name) || self.misspelt.contains(name)
    }

    /// Returns the location of the key, or of the section if the key is not set.
    pub(super) fn location(&self, name: &str) -> KeyLocation {
        if let Some((variable, _)) = self.overrides.get(name) {
            return KeyLocation {
                span: None,
                path: variable.clone(),
            };
        }
        match self.pairs.get(name) {
            Some(pair) => KeyLocation {
                span: Some(pair.key.span),
                path: self.path_of(name),
            },
            None => self.at.clone(),
        }
    }

    fn path_of(&self, name: &str) -> String {
        join(&self.at.path, name)
    }

    /// Returns the specification of a key.
    fn key(&self, name: &str) -> Option<&'static KeySpec> {
        let key = self.table.key(name);
        debug_assert!(
            key.is_some(),
            "`{name}` is not in the table of `{}`",
            self.table.name
        );
        #[cfg(test)]
        if let Some(key) = key {
            self.context
                .keys_read
                .borrow_mut()
                .insert((self.table.name, key.name));
        }
        key
    }

    /// Returns the value of a key in the file, or `None` if it is not set or `null`.
    fn node(&self, name: &str) -> Option<&'a YamlNode> {
        self.pairs
            .get(name)
            .map(|pair| &pair.value)
            .filter(|node| node.content != YamlContent::Null)
    }

    /// Returns the value of a key, or `None` if it is not set. An invalid value is reported and
    /// also gives `None`.
    pub(super) fn optional<T: Scalar>(&self, name: &str) -> Option<Located<T>> {
        let key = self.key(name)?;
        if let Some((variable, value)) = self.overrides.get(name) {
            return self.context.parse(
                value,
                &key.shape,
                KeyLocation {
                    span: None,
                    path: variable.clone(),
                },
            );
        }
        self.scalar(key, &key.shape, self.node(name)?, self.path_of(name))
    }

    /// Like [`optional`](Fields::optional), but reports a key that is not set.
    pub(super) fn required<T: Scalar>(&self, name: &str) -> Option<Located<T>> {
        self.require(name);
        self.optional(name)
    }

    /// Reports a key that is not set.
    pub(super) fn require(&self, name: &str) {
        if self.is_set_or_misspelt(name) {
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
                    &self.location(name),
                    format!("expected {expected}, found no value"),
                    "add a value after the colon",
                );
            }
            None => self.context.error(
                &self.at,
                format!("`{name}` is missing"),
                format!("add `{name}:` with {expected}"),
            ),
        }
    }

    /// Returns the value of a key, or its default from the key table.
    pub(super) fn value<T: Scalar>(&self, name: &str) -> Option<T> {
        if self.has(name) {
            self.optional(name).map(|value| value.value)
        } else {
            self.key(name).and_then(|_| default_of(self.table, name))
        }
    }

    /// Returns the values of a list, or `None` if the key is not set. Invalid items are reported
    /// and skipped.
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

    /// Returns true if the key is set to a list with items, valid or not.
    pub(super) fn has_items(&self, name: &str) -> bool {
        self.node(name).is_some_and(
            |node| matches!(&node.content, YamlContent::Sequence(items) if !items.is_empty()),
        )
    }

    /// Returns the values of a list, or its default from the key table.
    pub(super) fn list_or_default<T: Scalar>(&self, name: &str) -> Vec<T> {
        if self.has(name) {
            return self
                .list(name)
                .unwrap_or_default()
                .into_iter()
                .map(|item| item.value)
                .collect();
        }
        let Some(KeySpec {
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

    /// Returns the section below a key, or `None` if the key is not set or not a mapping.
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

    /// Returns the section below a key, or an empty section if the key is not set.
    pub(super) fn section_or_empty(&self, name: &str, table: &'static SectionSpec) -> Fields<'a> {
        self.section(name).unwrap_or_else(|| {
            Fields::empty(
                self.context,
                table,
                KeyLocation {
                    span: self.at.span,
                    path: self.path_of(name),
                },
            )
        })
    }

    /// Returns the sections of a list, or `None` if the key is not set. A key that also accepts a
    /// single section gives a list with that section.
    pub(super) fn sections(&self, name: &str) -> Option<Vec<Fields<'a>>> {
        let key = self.key(name)?;
        let table = match key.shape {
            Shape::List(&Shape::Section(table)) | Shape::OneOrMore(table) => table,
            _ => return None,
        };
        let nodes = match self.node(name)? {
            node @ YamlNode {
                content: YamlContent::Mapping(_),
                ..
            } if matches!(key.shape, Shape::OneOrMore(_)) => {
                vec![(node, self.path_of(name))]
            }
            _ => self.items(key)?,
        };
        let open = |(node, path): (&'a YamlNode, String)| {
            Fields::open(
                self.context,
                table,
                KeyLocation {
                    span: Some(node.span),
                    path,
                },
                node,
            )
        };
        Some(nodes.into_iter().filter_map(open).collect())
    }

    /// Returns the pairs of a mapping with keys that the user chooses, and the locations of the
    /// keys.
    pub(super) fn pairs(&self, name: &str) -> Vec<(&'a YamlPair, KeyLocation)> {
        let Some(key) = self.key(name) else {
            return Vec::new();
        };
        let Some(node) = self.node(name) else {
            return Vec::new();
        };
        let YamlContent::Mapping(pairs) = &node.content else {
            self.context.mismatch(
                &key.shape,
                node,
                &KeyLocation {
                    span: Some(node.span),
                    path: self.path_of(name),
                },
            );
            return Vec::new();
        };
        distinct(self.context, pairs, &self.path_of(name))
    }

    /// Returns the text of a key that the user chose, with references expanded.
    pub(super) fn user_key(&self, pair: &YamlPair, at: &KeyLocation) -> Option<String> {
        self.context.expand(&pair.key.text, at)
    }

    /// Returns the values of a mapping with keys that the user chooses, or `None` if it is not set.
    pub(super) fn map<T: Scalar>(&self, name: &str) -> Option<BTreeMap<String, T>> {
        let key = self.key(name)?;
        let Shape::Map(shape) = key.shape else {
            return None;
        };
        let value = |(pair, at): (&'a YamlPair, KeyLocation)| {
            // A build argument without a value is an empty string.
            let empty = YamlNode {
                span: pair.value.span,
                content: YamlContent::Scalar(Rc::from("")),
            };
            let node = if pair.value.content == YamlContent::Null {
                &empty
            } else {
                &pair.value
            };
            let value = self.scalar(key, shape, node, at.path)?;
            Some((pair.key.text.to_string(), value.value))
        };
        Some(self.pairs(name).into_iter().filter_map(value).collect())
    }

    /// Returns the string or the list of strings of a key, or `None` if it is not set.
    pub(super) fn text_or_list(&self, name: &str) -> Option<TextOrList> {
        let key = self.key(name)?;
        let node = self.node(name)?;
        let at = KeyLocation {
            span: Some(node.span),
            path: self.path_of(name),
        };
        match &node.content {
            YamlContent::Scalar(text) => Some(TextOrList::Text(Located {
                value: text.to_string(),
                at,
            })),
            YamlContent::Sequence(_) => {
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

    /// Returns the location of a section below a key.
    fn child_at(&self, name: &str) -> KeyLocation {
        let span = self.pairs.get(name).map(|pair| pair.key.span);
        KeyLocation {
            span,
            path: self.path_of(name),
        }
    }

    /// Returns the items of a list with their paths. Reports a value that is not a list.
    fn items(&self, key: &KeySpec) -> Option<Vec<(&'a YamlNode, String)>> {
        let node = self.node(key.name)?;
        let path = self.path_of(key.name);
        let YamlContent::Sequence(items) = &node.content else {
            self.context.mismatch(
                &key.shape,
                node,
                &KeyLocation {
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

    /// Parses a scalar, with references expanded if the key allows that.
    fn scalar<T: Scalar>(
        &self,
        key: &KeySpec,
        shape: &Shape,
        node: &YamlNode,
        path: String,
    ) -> Option<Located<T>> {
        let at = KeyLocation {
            span: Some(node.span),
            path,
        };
        let YamlContent::Scalar(text) = &node.content else {
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

/// A string or a list of strings.
pub(super) enum TextOrList {
    Text(Located<String>),
    List(Located<Vec<Located<String>>>),
}

/// Returns the default of a key from the key table.
pub(super) fn default_of<T: Scalar>(table: &'static SectionSpec, name: &str) -> Option<T> {
    let key = table.key(name)?;
    let default = key.default.and_then(|text| T::parse(text, &key.shape).ok());
    debug_assert!(
        default.is_some(),
        "`{name}` has no default of this type in the table of `{}`",
        table.name
    );
    default
}

/// Returns the path of the key `name` below `path`.
fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

/// Returns the pairs with distinct keys and the locations of the keys. Reports duplicate keys.
fn distinct<'a>(
    context: &CheckContext<'_>,
    pairs: &'a [YamlPair],
    path: &str,
) -> Vec<(&'a YamlPair, KeyLocation)> {
    let mut lines: HashMap<&str, usize> = HashMap::new();
    let mut distinct = Vec::new();
    for pair in pairs {
        // A key with dots or brackets, such as a host, is quoted to keep the path unambiguous.
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
        let at = KeyLocation {
            span: Some(pair.key.span),
            path: join(path, &shown),
        };
        if let Some(line) = lines.get(pair.key.text.as_ref()) {
            context.error(
                &at,
                format!("duplicate key, first set in line {line}"),
                "remove one of the two",
            );
        } else {
            lines.insert(&pair.key.text, pair.key.span.line);
            distinct.push((pair, at));
        }
    }
    distinct
}

/// Returns the error for an unknown key. `meant` is the key that the user probably meant.
fn unknown(name: &str, table: &SectionSpec, meant: Option<&str>) -> ValueError {
    let problem = ValueError::new("unknown key");
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
        [""] => problem.hint(format!("`{name}` belongs to the top level of the file")),
        [section] => problem.hint(format!("`{name}` belongs to `{section}`")),
        _ => problem.hint(format!(
            "valid keys are {}",
            alternatives(&names).replace(" or ", " and ")
        )),
    }
}
