//! The file as written: a tree of YAML nodes that know where they stand.
//!
//! Owns reading YAML and its limits. Scalars keep their literal text (`3.10` is `3.10`, `no` is
//! `no`); what type a scalar has is decided by whoever reads the key. Knows no key of the
//! configuration but `<<`.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use granit_parser::{ErrorKind, Event, Marker, Parser, ScalarStyle, Tag, options};

use super::errors::{Finding, Span};

/// The longest file that is read, in bytes.
pub(super) const LONGEST_FILE: usize = 1 << 20;

/// The deepest nesting, aliases followed.
const DEEPEST: usize = 64;

/// The most nodes that a file may mean, each use of an anchor counted with all that is below it.
const MOST_NODES: usize = 100_000;

/// A value. Cheap to clone, so that an alias costs no memory.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) span: Span,
    pub(super) content: Content,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Content {
    /// Nothing, `~` or `null`, unquoted.
    Null,
    Scalar(Rc<str>),
    Sequence(Rc<[Node]>),
    /// In the order of the file; what `<<` brought in stands last. Duplicates are kept.
    Mapping(Rc<[Pair]>),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pair {
    pub(super) key: Key,
    pub(super) value: Node,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Key {
    pub(super) text: Rc<str>,
    pub(super) span: Span,
}

/// Returns the only document of `text`; an empty file is an empty mapping.
///
/// # Errors
/// Fails at the first thing that is not YAML, not within the limits, or not understood here (tags,
/// keys that are no text).
pub(super) fn read(text: &str) -> Result<Node, Finding> {
    if text.len() > LONGEST_FILE {
        return Err(Finding {
            span: None,
            path: String::new(),
            message: format!("the file is longer than {} KiB", LONGEST_FILE / 1024),
            hint: None,
        });
    }
    Tree::default().read(text)
}

/// Returns whether an unquoted scalar stands for nothing (YAML 1.2.2, section 10.3.2).
fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

fn failure(span: Span, message: impl Into<String>, hint: Option<&str>) -> Finding {
    Finding {
        span: Some(span),
        path: String::new(),
        message: message.into(),
        hint: hint.map(str::to_owned),
    }
}

fn too_deep() -> String {
    format!("nested deeper than {DEEPEST} levels")
}

/// How much a node is, with all that is below it.
#[derive(Clone, Copy, Default)]
struct Weight {
    nodes: usize,
    depth: usize,
}

struct Frame {
    span: Span,
    anchor: usize,
    weight: Weight,
    children: Children,
}

enum Children {
    Sequence(Vec<Node>),
    Mapping {
        pairs: Vec<Pair>,
        merged: Vec<Node>,
        key: Option<PendingKey>,
    },
}

enum PendingKey {
    Plain(Key),
    Merge,
}

#[derive(Default)]
struct Tree {
    open: Vec<Frame>,
    anchors: HashMap<usize, (Node, Weight)>,
    root: Option<Node>,
}

impl Tree {
    fn read(mut self, text: &str) -> Result<Node, Finding> {
        let mut options = options! { flow_nesting_limit: DEEPEST, block_nesting_limit: DEEPEST, disallow_directives: true };
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
                            "a second document starts here",
                            Some("keep one document in the file"),
                        ));
                    }
                }
                Event::Scalar(value, style, anchor, tag) => {
                    let plain = style == ScalarStyle::Plain && !is_tagged(tag.as_deref(), span)?;
                    let content = if plain && is_null(&value) {
                        Content::Null
                    } else {
                        Content::Scalar(value.as_ref().into())
                    };
                    self.close(
                        Node { span, content },
                        anchor,
                        Weight { nodes: 1, depth: 0 },
                        Some((&value, plain)),
                    )?;
                }
                Event::SequenceStart(_, anchor, tag) => {
                    is_tagged(tag.as_deref(), span)?;
                    self.open(span, anchor, Children::Sequence(Vec::new()))?;
                }
                Event::MappingStart(_, anchor, tag) => {
                    is_tagged(tag.as_deref(), span)?;
                    self.open(
                        span,
                        anchor,
                        Children::Mapping {
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
                            "an alias stands inside the value it refers to",
                            None,
                        ));
                    };
                    let text = match &node.content {
                        Content::Scalar(text) => Some((Rc::clone(text), false)),
                        _ => None,
                    };
                    self.close(
                        node,
                        0,
                        weight,
                        text.as_ref().map(|(text, plain)| (text.as_ref(), *plain)),
                    )
                    .map_err(|finding| Finding {
                        span: Some(span),
                        ..finding
                    })?;
                }
                _ => {}
            }
        }
        let nowhere = Span {
            start: 0,
            end: 0,
            line: 1,
            column: 1,
        };
        Ok(self.root.unwrap_or(Node {
            span: nowhere,
            content: Content::Null,
        }))
    }

    fn open(&mut self, span: Span, anchor: usize, children: Children) -> Result<(), Finding> {
        if let Some(Frame {
            children: Children::Mapping { key: None, .. },
            ..
        }) = self.open.last()
        {
            return Err(failure(
                span,
                "a key must be text, not a list or a mapping",
                None,
            ));
        }
        self.open.push(Frame {
            span,
            anchor,
            weight: Weight { nodes: 1, depth: 0 },
            children,
        });
        Ok(())
    }

    fn close_collection(&mut self) -> Result<(), Finding> {
        let Some(frame) = self.open.pop() else {
            return Ok(());
        };
        let (content, span) = match frame.children {
            Children::Sequence(items) => (Content::Sequence(items.into()), frame.span),
            Children::Mapping {
                mut pairs, merged, ..
            } => {
                let span = pairs.first().map_or(frame.span, |pair| pair.key.span);
                merge(&mut pairs, &merged)?;
                (Content::Mapping(pairs.into()), span)
            }
        };
        self.close(Node { span, content }, frame.anchor, frame.weight, None)
    }

    /// Takes in a node that is whole: as a key when its parent waits for one. `text` is that of a
    /// scalar, and whether it is plain.
    fn close(
        &mut self,
        node: Node,
        anchor: usize,
        weight: Weight,
        text: Option<(&str, bool)>,
    ) -> Result<(), Finding> {
        if anchor != 0 {
            self.anchors.insert(anchor, (node.clone(), weight));
        }
        if self.open.len() + weight.depth > DEEPEST {
            return Err(failure(node.span, too_deep(), None));
        }
        let Some(parent) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        parent.weight.nodes += weight.nodes;
        parent.weight.depth = parent.weight.depth.max(weight.depth + 1);
        if parent.weight.nodes > MOST_NODES {
            return Err(failure(
                node.span,
                format!("more than {MOST_NODES} values, aliases followed"),
                None,
            ));
        }
        match &mut parent.children {
            Children::Sequence(items) => items.push(node),
            Children::Mapping { pairs, merged, key } => match key.take() {
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
                        PendingKey::Merge
                    } else {
                        PendingKey::Plain(Key {
                            text: text.into(),
                            span: node.span,
                        })
                    });
                }
                Some(PendingKey::Merge) => merged.push(node),
                Some(PendingKey::Plain(key)) => {
                    // Nothing is nowhere; what is missing is best shown at its key.
                    let span = if node.span.start == node.span.end {
                        key.span
                    } else {
                        node.span
                    };
                    pairs.push(Pair {
                        key,
                        value: Node { span, ..node },
                    });
                }
            },
        }
        Ok(())
    }
}

/// Returns what is most often the cause.
fn syntax_hint(kind: &ErrorKind) -> Option<&'static str> {
    match kind {
        ErrorKind::TabNotAllowed
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabInIndentation => Some("indent with spaces"),
        ErrorKind::InvalidQuotedScalarIndent | ErrorKind::UnclosedQuotedScalar => {
            Some("is the quote that is opened above this line closed?")
        }
        ErrorKind::UnknownQuotedScalarEscape => Some("put regular expressions in single quotes"),
        ErrorKind::UnexpectedCharacter { .. } => {
            Some("put text that begins with a special character in quotes")
        }
        ErrorKind::MappingValueNotAllowed | ErrorKind::SimpleKeyExpected => {
            Some("look at the indentation, and put text that contains `: ` in quotes")
        }
        ErrorKind::InvalidIndentation
        | ErrorKind::MappingKeyNotAllowed
        | ErrorKind::ExpectedBlockMappingKey
        | ErrorKind::ExpectedBlockSequenceEntry
        | ErrorKind::BlockSequenceEntryNotAllowed => {
            Some("look at the indentation of this line and of those above it")
        }
        _ => None,
    }
}

/// Returns whether a tag says that the scalar is no plain one. Only the tags of the core schema may
/// be written, and say nothing.
fn is_tagged(tag: Option<&Tag>, span: Span) -> Result<bool, Finding> {
    match tag {
        None => Ok(false),
        Some(tag) if tag.is_yaml_core_schema() || tag.original() == "!" => Ok(true),
        Some(_) => Err(failure(
            span,
            "YAML tags mean nothing here",
            Some("leave the `!…` out"),
        )),
    }
}

/// Adds the pairs that `<<` brings in and that are not there yet
/// (<https://yaml.org/type/merge.html>).
fn merge(pairs: &mut Vec<Pair>, merged: &[Node]) -> Result<(), Finding> {
    if merged.is_empty() {
        return Ok(());
    }
    let mut known: HashSet<Rc<str>> = pairs.iter().map(|pair| Rc::clone(&pair.key.text)).collect();
    for node in merged {
        let sources = match &node.content {
            Content::Sequence(nodes) => nodes.iter().collect(),
            _ => vec![node],
        };
        for source in sources {
            let Content::Mapping(inherited) = &source.content else {
                return Err(failure(
                    source.span,
                    "`<<` takes a mapping or a list of mappings",
                    None,
                ));
            };
            pairs.extend(
                inherited
                    .iter()
                    .filter(|pair| known.insert(Rc::clone(&pair.key.text)))
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

    fn refused(text: &str) -> String {
        read(text).expect_err("it is refused").message
    }

    /// Returns the tree without positions.
    fn shown(text: &str) -> String {
        fn show(node: &Node) -> String {
            match &node.content {
                Content::Null => "~".to_owned(),
                Content::Scalar(text) => format!("{text:?}"),
                Content::Sequence(items) => {
                    format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(" "))
                }
                Content::Mapping(pairs) => {
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
    fn scalars_keep_their_literal_text() {
        assert_eq!(
            shown("[3.10, 1e3, 0x10, 010, no, on, Yes, true, 2026-01-02]"),
            r#"["3.10" "1e3" "0x10" "010" "no" "on" "Yes" "true" "2026-01-02"]"#
        );
        assert_eq!(
            shown("{no: 1, 3.10: 2, null: 3, on: 4}"),
            r#"{no="1" 3.10="2" null="3" on="4"}"#
        );
    }

    #[test]
    fn only_unquoted_nothing_is_nothing() {
        assert_eq!(
            shown("[~, null, Null, 'null', \"\", '~', !!str null]"),
            r#"[~ ~ ~ "null" "" "~" "null"]"#
        );
        assert_eq!(shown("a:\nb: null"), "{a=~ b=~}");
        assert_eq!(shown(""), "~");
        assert_eq!(shown("# only a comment\n"), "~");
    }

    #[test]
    fn aliases_and_merge_keys_are_followed() {
        assert_eq!(
            shown("a: &x {k: 1, l: 2}\nb: {<<: *x, l: 3}\nc: *x"),
            r#"{a={k="1" l="2"} b={l="3" k="1"} c={k="1" l="2"}}"#
        );
        assert_eq!(
            shown("[&a {k: 1}, &b {k: 2, l: 2}, {<<: [*a, *b]}]"),
            r#"[{k="1"} {k="2" l="2"} {k="1" l="2"}]"#
        );
        assert_eq!(shown("{'<<': 1}"), r#"{<<="1"}"#);
        assert_eq!(
            refused("{<<: 1}"),
            "`<<` takes a mapping or a list of mappings"
        );
        assert_eq!(
            refused("a: &a [*a]"),
            "an alias stands inside the value it refers to"
        );
        assert_eq!(
            refused("a: *b"),
            "not valid YAML: while parsing node, found unknown anchor"
        );
    }

    #[test]
    fn positions_count_lines_and_characters_from_one() {
        let node = read("# größe\nkey:\n  - größe: x\n").expect("YAML");
        let Content::Mapping(pairs) = &node.content else {
            panic!("{node:?}")
        };
        let Content::Sequence(items) = &pairs[0].value.content else {
            panic!("{node:?}")
        };
        let Content::Mapping(inner) = &items[0].content else {
            panic!("{node:?}")
        };
        let span = inner[0].value.span;
        assert_eq!((span.line, span.column), (3, 12));
        assert_eq!(&"# größe\nkey:\n  - größe: x\n"[span.start..span.end], "x");
    }

    #[test]
    fn a_file_that_would_unfold_to_billions_is_refused() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..30 {
            let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
            text += &format!("a{level}: &a{level} [{aliases}]\n");
        }
        assert_eq!(refused(&text), "more than 100000 values, aliases followed");
    }

    #[test]
    fn nesting_is_bounded_in_every_style_and_through_aliases() {
        for text in [
            "[".repeat(10_000),
            "{a: ".repeat(10_000),
            "- ".repeat(10_000),
        ] {
            assert_eq!(refused(&text), "nested deeper than 64 levels");
        }
        assert!(read(&"? ".repeat(10_000)).is_err());
        let mut block = String::new();
        for level in 0..1200 {
            block += &format!("{}a:\n", " ".repeat(level));
        }
        assert_eq!(refused(&block), "nested deeper than 64 levels");
        let mut aliased = "a0: &a0 [x]\n".to_owned();
        for level in 1..100 {
            aliased += &format!("a{level}: &a{level} [*a{}]\n", level - 1);
        }
        assert_eq!(refused(&aliased), "nested deeper than 64 levels");
    }

    #[test]
    fn a_huge_file_is_refused_unread() {
        assert_eq!(
            refused(&"a".repeat(LONGEST_FILE + 1)),
            "the file is longer than 1024 KiB"
        );
    }

    #[test]
    fn what_is_no_configuration_is_refused() {
        assert_eq!(refused("a: 1\n---\nb: 2"), "a second document starts here");
        assert_eq!(refused("a: !env HOME"), "YAML tags mean nothing here");
        assert_eq!(
            refused("? [a]\n: b"),
            "a key must be text, not a list or a mapping"
        );
        assert_eq!(
            refused("a: &x [1]\n*x : b"),
            "a key must be text, not a list or a mapping"
        );
        assert!(refused("%YAML 1.1\n---\na: 1").starts_with("not valid YAML: "));
    }
}
