//! The YAML of the file: a tree of nodes with their positions.
//!
//! Owns parsing YAML and its limits. Scalars keep their literal text (`3.10` is `3.10`, `no` is
//! `no`); the code that reads a key decides its type. The only key with a meaning here is the merge
//! key `<<`.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use granit_parser::{ErrorKind, Event, Marker, Parser, ScalarStyle, Tag, options};

use super::errors::{ConfigFinding, Span};

/// Maximum size of the file, in bytes.
pub(super) const MAX_FILE_BYTES: usize = 4 << 20;

/// Maximum nesting depth, with aliases resolved.
const MAX_DEPTH: usize = 64;

/// Maximum number of nodes, with aliases resolved: each use of an anchor counts all nodes below it.
const MAX_NODES: usize = 100_000;

/// A value with its position. Cheap to clone, so that aliases use no extra memory.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct YamlNode {
    pub(super) span: Span,
    pub(super) content: YamlContent,
}

/// The content of a node.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum YamlContent {
    /// An unquoted empty value, `~` or `null`.
    Null,
    /// Literal text of a scalar.
    Scalar(Rc<str>),
    /// A list.
    Sequence(Rc<[YamlNode]>),
    /// A mapping, in the order of the file, followed by the pairs that `<<` merges. Duplicate keys
    /// are kept.
    Mapping(Rc<[YamlPair]>),
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct YamlPair {
    pub(super) key: YamlKey,
    pub(super) value: YamlNode,
}

/// A key with its position.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct YamlKey {
    pub(super) text: Rc<str>,
    pub(super) span: Span,
}

/// Parses `text`, which must contain at most one document. An empty file gives
/// [`YamlContent::Null`].
///
/// # Errors
/// Fails at the first syntax error, exceeded limit or unsupported feature (YAML tags, keys that are
/// not scalars).
pub(super) fn read(text: &str) -> Result<YamlNode, ConfigFinding> {
    if text.len() > MAX_FILE_BYTES {
        return Err(ConfigFinding {
            span: None,
            path: String::new(),
            message: format!("the file is larger than {} KiB", MAX_FILE_BYTES / 1024),
            hint: None,
        });
    }
    TreeBuilder::default().read(text)
}

/// Returns true if an unquoted scalar is a null value (YAML 1.2.2, section 10.3.2).
fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

fn failure(span: Span, message: impl Into<String>, hint: Option<&str>) -> ConfigFinding {
    ConfigFinding {
        span: Some(span),
        path: String::new(),
        message: message.into(),
        hint: hint.map(str::to_owned),
    }
}

fn too_deep() -> String {
    format!("the nesting is deeper than {MAX_DEPTH} levels")
}

/// Size of a node, including all nodes below it.
#[derive(Clone, Copy, Default)]
struct NodeWeight {
    nodes: usize,
    depth: usize,
}

/// A list or mapping whose end has not been reached.
struct OpenCollection {
    span: Span,
    anchor: usize,
    weight: NodeWeight,
    children: CollectionItems,
}

/// The items of an open collection so far.
enum CollectionItems {
    Sequence(Vec<YamlNode>),
    Mapping {
        pairs: Vec<YamlPair>,
        /// Values of `<<`.
        merged: Vec<YamlNode>,
        /// Key whose value is next.
        key: Option<AwaitedValue>,
    },
}

/// A key whose value has not been read yet.
enum AwaitedValue {
    Plain(YamlKey),
    /// The merge key `<<`.
    Merge,
}

/// Builds the tree from parser events.
#[derive(Default)]
struct TreeBuilder {
    /// Open collections, outermost first.
    open: Vec<OpenCollection>,
    /// Anchored nodes by the number that the parser gives them.
    anchors: HashMap<usize, (YamlNode, NodeWeight)>,
    root: Option<YamlNode>,
}

impl TreeBuilder {
    fn read(mut self, text: &str) -> Result<YamlNode, ConfigFinding> {
        let mut options = options! { flow_nesting_limit: MAX_DEPTH, block_nesting_limit: MAX_DEPTH, disallow_directives: true };
        options.set_emit_comments(false);
        let mut documents = 0;
        let mut parser = Parser::new_from_str_with_options(text, options);
        while let Some(event) = parser.next_event() {
            let (event, at) = event.map_err(|error| {
                let span = span_between(*error.marker(), *error.marker(), text);
                match error.kind() {
                    ErrorKind::RecursionLimitExceeded => failure(span, too_deep(), None),
                    kind => failure(span, format!("not valid YAML: {kind}"), syntax_hint(kind)),
                }
            })?;
            let span = span_between(at.start, at.end, text);
            match event {
                Event::DocumentStart(..) => {
                    documents += 1;
                    if documents > 1 {
                        return Err(failure(
                            span,
                            "the file contains a second YAML document",
                            Some("keep only one document in the file"),
                        ));
                    }
                }
                Event::Scalar(value, style, anchor, tag) => {
                    let plain = style == ScalarStyle::Plain && !is_tagged(tag.as_deref(), span)?;
                    let content = if plain && is_null(&value) {
                        YamlContent::Null
                    } else {
                        YamlContent::Scalar(value.as_ref().into())
                    };
                    self.close(
                        YamlNode { span, content },
                        anchor,
                        NodeWeight { nodes: 1, depth: 0 },
                        Some((&value, plain)),
                    )?;
                }
                Event::SequenceStart(_, anchor, tag) => {
                    is_tagged(tag.as_deref(), span)?;
                    self.open(span, anchor, CollectionItems::Sequence(Vec::new()))?;
                }
                Event::MappingStart(_, anchor, tag) => {
                    is_tagged(tag.as_deref(), span)?;
                    self.open(
                        span,
                        anchor,
                        CollectionItems::Mapping {
                            pairs: Vec::new(),
                            merged: Vec::new(),
                            key: None,
                        },
                    )?;
                }
                Event::SequenceEnd | Event::MappingEnd => self.close_collection()?,
                Event::Alias(anchor) => {
                    let Some((node, weight)) = self.anchors.get(&anchor).cloned() else {
                        return Err(failure(
                            span,
                            "the alias is inside the value that it refers to",
                            None,
                        ));
                    };
                    let text = match &node.content {
                        YamlContent::Scalar(text) => Some((Rc::clone(text), false)),
                        _ => None,
                    };
                    self.close(
                        node,
                        0,
                        weight,
                        text.as_ref().map(|(text, plain)| (text.as_ref(), *plain)),
                    )
                    .map_err(|finding| ConfigFinding {
                        span: Some(span),
                        ..finding
                    })?;
                }
                _ => {}
            }
        }
        let start_of_file = Span {
            start: 0,
            end: 0,
            line: 1,
            column: 1,
        };
        Ok(self.root.unwrap_or(YamlNode {
            span: start_of_file,
            content: YamlContent::Null,
        }))
    }

    fn open(
        &mut self,
        span: Span,
        anchor: usize,
        children: CollectionItems,
    ) -> Result<(), ConfigFinding> {
        if let Some(OpenCollection {
            children: CollectionItems::Mapping { key: None, .. },
            ..
        }) = self.open.last()
        {
            return Err(failure(
                span,
                "a key must be text, not a list or a mapping",
                None,
            ));
        }
        self.open.push(OpenCollection {
            span,
            anchor,
            weight: NodeWeight { nodes: 1, depth: 0 },
            children,
        });
        Ok(())
    }

    fn close_collection(&mut self) -> Result<(), ConfigFinding> {
        let Some(frame) = self.open.pop() else {
            return Ok(());
        };
        let (content, span) = match frame.children {
            CollectionItems::Sequence(items) => (YamlContent::Sequence(items.into()), frame.span),
            CollectionItems::Mapping {
                mut pairs, merged, ..
            } => {
                let span = pairs.first().map_or(frame.span, |pair| pair.key.span);
                merge(&mut pairs, &merged)?;
                (YamlContent::Mapping(pairs.into()), span)
            }
        };
        self.close(YamlNode { span, content }, frame.anchor, frame.weight, None)
    }

    /// Adds a complete node to the innermost open collection, as a key if the collection expects
    /// one.
    ///
    /// `text` is the text of a scalar, and true if the scalar is not quoted; `None` for a list or
    /// mapping.
    fn close(
        &mut self,
        node: YamlNode,
        anchor: usize,
        weight: NodeWeight,
        text: Option<(&str, bool)>,
    ) -> Result<(), ConfigFinding> {
        if anchor != 0 {
            self.anchors.insert(anchor, (node.clone(), weight));
        }
        if self.open.len() + weight.depth > MAX_DEPTH {
            return Err(failure(node.span, too_deep(), None));
        }
        let Some(parent) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        parent.weight.nodes += weight.nodes;
        parent.weight.depth = parent.weight.depth.max(weight.depth + 1);
        if parent.weight.nodes > MAX_NODES {
            return Err(failure(
                node.span,
                format!("the file has more than {MAX_NODES} values, with aliases resolved"),
                None,
            ));
        }
        match &mut parent.children {
            CollectionItems::Sequence(items) => items.push(node),
            CollectionItems::Mapping { pairs, merged, key } => match key.take() {
                None => {
                    let Some((text, plain)) = text else {
                        return Err(failure(
                            node.span,
                            "a key must be text, not a list or a mapping",
                            None,
                        ));
                    };
                    let merge = plain && text == "<<";
                    *key = Some(if merge {
                        AwaitedValue::Merge
                    } else {
                        AwaitedValue::Plain(YamlKey {
                            text: text.into(),
                            span: node.span,
                        })
                    });
                }
                Some(AwaitedValue::Merge) => merged.push(node),
                Some(AwaitedValue::Plain(key)) => {
                    // An empty value has no text to mark, so its key is marked instead.
                    let span = if node.span.start == node.span.end {
                        key.span
                    } else {
                        node.span
                    };
                    pairs.push(YamlPair {
                        key,
                        value: YamlNode { span, ..node },
                    });
                }
            },
        }
        Ok(())
    }
}

/// Returns a hint about the most common cause of a syntax error.
fn syntax_hint(kind: &ErrorKind) -> Option<&'static str> {
    match kind {
        ErrorKind::TabNotAllowed
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabInIndentation => Some("indent with spaces"),
        ErrorKind::InvalidQuotedScalarIndent | ErrorKind::UnclosedQuotedScalar => {
            Some("check for a missing closing quote above this line")
        }
        ErrorKind::UnknownQuotedScalarEscape => Some("write regular expressions in single quotes"),
        ErrorKind::UnexpectedCharacter { .. } => {
            Some("quote text that starts with a special character")
        }
        ErrorKind::MappingValueNotAllowed | ErrorKind::SimpleKeyExpected => {
            Some("check the indentation, and quote text that contains `: `")
        }
        ErrorKind::InvalidIndentation
        | ErrorKind::MappingKeyNotAllowed
        | ErrorKind::ExpectedBlockMappingKey
        | ErrorKind::ExpectedBlockSequenceEntry
        | ErrorKind::BlockSequenceEntryNotAllowed => {
            Some("check the indentation of this line and of the lines above it")
        }
        _ => None,
    }
}

/// Returns true if the node has a YAML tag, so that a scalar is not plain.
///
/// Only the tags of the YAML core schema are accepted. They have no other effect.
fn is_tagged(tag: Option<&Tag>, span: Span) -> Result<bool, ConfigFinding> {
    match tag {
        None => Ok(false),
        Some(tag) if tag.is_yaml_core_schema() || tag.original() == "!" => Ok(true),
        Some(_) => Err(failure(
            span,
            "YAML tags are not supported",
            Some("remove the `!…`"),
        )),
    }
}

/// Adds the pairs that `<<` merges, except for keys that `pairs` already has
/// (<https://yaml.org/type/merge.html>).
fn merge(pairs: &mut Vec<YamlPair>, merged: &[YamlNode]) -> Result<(), ConfigFinding> {
    if merged.is_empty() {
        return Ok(());
    }
    let mut keys: HashSet<Rc<str>> = pairs.iter().map(|pair| Rc::clone(&pair.key.text)).collect();
    for node in merged {
        let sources = match &node.content {
            YamlContent::Sequence(nodes) => nodes.iter().collect(),
            _ => vec![node],
        };
        for source in sources {
            let YamlContent::Mapping(inherited) = &source.content else {
                return Err(failure(
                    source.span,
                    "the value of `<<` must be a mapping or a list of mappings",
                    None,
                ));
            };
            pairs.extend(
                inherited
                    .iter()
                    .filter(|pair| keys.insert(Rc::clone(&pair.key.text)))
                    .cloned(),
            );
        }
    }
    Ok(())
}

fn span_between(start: Marker, end: Marker, text: &str) -> Span {
    let offset = |marker: Marker| marker.byte_offset().unwrap_or(text.len()).min(text.len());
    Span {
        start: offset(start),
        end: offset(end).max(offset(start)),
        line: start.line().max(1),
        column: start.col() + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(text: &str) -> String {
        read(text).expect_err("invalid YAML").message
    }

    /// Returns the tree without positions.
    fn compact(text: &str) -> String {
        fn show(node: &YamlNode) -> String {
            match &node.content {
                YamlContent::Null => "~".to_owned(),
                YamlContent::Scalar(text) => format!("{text:?}"),
                YamlContent::Sequence(items) => {
                    format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(" "))
                }
                YamlContent::Mapping(pairs) => {
                    let pairs: Vec<String> = pairs
                        .iter()
                        .map(|pair| format!("{}={}", pair.key.text, show(&pair.value)))
                        .collect();
                    format!("{{{}}}", pairs.join(" "))
                }
            }
        }
        show(&read(text).expect("YAML"))
    }

    #[test]
    fn read_keeps_the_literal_text_of_scalars() {
        assert_eq!(
            compact("[3.10, 1e3, 0x10, 010, no, on, Yes, true, 2026-01-02]"),
            r#"["3.10" "1e3" "0x10" "010" "no" "on" "Yes" "true" "2026-01-02"]"#
        );
        assert_eq!(
            compact("{no: 1, 3.10: 2, null: 3, on: 4}"),
            r#"{no="1" 3.10="2" null="3" on="4"}"#
        );
    }

    #[test]
    fn read_treats_only_unquoted_empty_values_as_null() {
        assert_eq!(
            compact("[~, null, Null, 'null', \"\", '~', !!str null]"),
            r#"[~ ~ ~ "null" "" "~" "null"]"#
        );
        assert_eq!(compact("a:\nb: null"), "{a=~ b=~}");
        assert_eq!(compact(""), "~");
        assert_eq!(compact("# only a comment\n"), "~");
    }

    #[test]
    fn read_resolves_aliases_and_merge_keys() {
        assert_eq!(
            compact("a: &x {k: 1, l: 2}\nb: {<<: *x, l: 3}\nc: *x"),
            r#"{a={k="1" l="2"} b={l="3" k="1"} c={k="1" l="2"}}"#
        );
        assert_eq!(
            compact("[&a {k: 1}, &b {k: 2, l: 2}, {<<: [*a, *b]}]"),
            r#"[{k="1"} {k="2" l="2"} {k="1" l="2"}]"#
        );
        assert_eq!(compact("{'<<': 1}"), r#"{<<="1"}"#);
        assert_eq!(
            error_of("{<<: 1}"),
            "the value of `<<` must be a mapping or a list of mappings"
        );
        assert_eq!(
            error_of("a: &a [*a]"),
            "the alias is inside the value that it refers to"
        );
        assert_eq!(
            error_of("a: *b"),
            "not valid YAML: while parsing node, found unknown anchor"
        );
    }

    #[test]
    fn span_counts_lines_and_characters_from_one() {
        let node = read("# größe\nkey:\n  - größe: x\n").expect("YAML");
        let YamlContent::Mapping(pairs) = &node.content else {
            panic!("{node:?}")
        };
        let YamlContent::Sequence(items) = &pairs[0].value.content else {
            panic!("{node:?}")
        };
        let YamlContent::Mapping(inner) = &items[0].content else {
            panic!("{node:?}")
        };
        let span = inner[0].value.span;
        assert_eq!((span.line, span.column), (3, 12));
        assert_eq!(&"# größe\nkey:\n  - größe: x\n"[span.start..span.end], "x");
    }

    #[test]
    fn read_limits_the_number_of_nodes_behind_aliases() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..30 {
            let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
            text += &format!("a{level}: &a{level} [{aliases}]\n");
        }
        assert_eq!(
            error_of(&text),
            "the file has more than 100000 values, with aliases resolved"
        );
    }

    #[test]
    fn read_limits_nesting_in_every_style_and_through_aliases() {
        for text in [
            "[".repeat(10_000),
            "{a: ".repeat(10_000),
            "- ".repeat(10_000),
        ] {
            assert_eq!(error_of(&text), "the nesting is deeper than 64 levels");
        }
        assert!(read(&"? ".repeat(10_000)).is_err());
        let mut block = String::new();
        for level in 0..1200 {
            block += &format!("{}a:\n", " ".repeat(level));
        }
        assert_eq!(error_of(&block), "the nesting is deeper than 64 levels");
        let mut aliased = "a0: &a0 [x]\n".to_owned();
        for level in 1..100 {
            aliased += &format!("a{level}: &a{level} [*a{}]\n", level - 1);
        }
        assert_eq!(error_of(&aliased), "the nesting is deeper than 64 levels");
    }

    #[test]
    fn read_limits_the_size_of_the_file() {
        assert_eq!(
            error_of(&"a".repeat(MAX_FILE_BYTES + 1)),
            "the file is larger than 4096 KiB"
        );
    }

    #[test]
    fn read_rejects_unsupported_yaml() {
        assert_eq!(
            error_of("a: 1\n---\nb: 2"),
            "the file contains a second YAML document"
        );
        assert_eq!(error_of("a: !env HOME"), "YAML tags are not supported");
        assert_eq!(
            error_of("? [a]\n: b"),
            "a key must be text, not a list or a mapping"
        );
        assert_eq!(
            error_of("a: &x [1]\n*x : b"),
            "a key must be text, not a list or a mapping"
        );
        assert!(error_of("%YAML 1.1\n---\na: 1").starts_with("not valid YAML: "));
    }
}
