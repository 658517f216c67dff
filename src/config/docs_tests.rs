//! The tables of keys in `docs/configuration.md`, made from the table of keys. `UPDATE_DOCS=1 cargo
//! test config::docs` writes them anew; what stands around them is written by hand.

use super::table::{SECTIONS, Section, Shape};
use crate::process::Process;

const BEGIN: &str = "<!-- keys:begin -->\n";
const END: &str = "<!-- keys:end -->\n";

fn tables() -> String {
    SECTIONS.iter().map(|section| table(section)).collect()
}

fn table(section: &Section) -> String {
    let title = match section.name {
        "" => "The file".to_owned(),
        name if name.contains(' ') => format!("{}{}", name[..1].to_uppercase(), &name[1..]),
        name => format!("`{name}`"),
    };
    let mut text =
        format!("\n### {title}\n\n| key | value | default | meaning |\n|---|---|---|---|\n");
    for key in section.keys {
        let default = match key.default {
            _ if key.required => "required".to_owned(),
            Some(default) => format!("`{default}`"),
            None => String::new(),
        };
        let literal = if key.expanded || !may_hold_a_variable(&key.shape) {
            ""
        } else {
            " Variables are not replaced here."
        };
        text += &format!(
            "| `{}` | {} | {} | {}{literal} |\n",
            key.name,
            cell(&words(&key.shape)),
            cell(&default),
            cell(key.about)
        );
    }
    text
}

fn words(shape: &Shape) -> String {
    match shape {
        Shape::Text | Shape::AnyText => "text".to_owned(),
        Shape::Flag => "true or false".to_owned(),
        Shape::Whole { least, most } if *most >= 1_000_000 => format!("a number from {least}"),
        Shape::Whole { least, most } => format!("a number from {least} to {most}"),
        Shape::Rate => "a number above 0".to_owned(),
        Shape::Choice(choices) => choices
            .iter()
            .map(|choice| format!("`{choice}`"))
            .collect::<Vec<_>>()
            .join(", "),
        Shape::Duration => "a time, as in `60s`, `1h30m`, `7d`".to_owned(),
        Shape::Date => "a date".to_owned(),
        Shape::Url => "an address".to_owned(),
        Shape::Path => "a path".to_owned(),
        Shape::Repository => "a repository".to_owned(),
        Shape::BasePath => "a host, or a host and a path".to_owned(),
        Shape::Host => "a host".to_owned(),
        Shape::Tag => "a tag".to_owned(),
        Shape::Platform => "a platform, as in `linux/arm64`".to_owned(),
        Shape::Pattern => "a regular expression".to_owned(),
        Shape::TagExclusion => "a tag or `/regex/`".to_owned(),
        Shape::Extract => "`major`, `minor`, `patch`, `full`, a regular expression".to_owned(),
        Shape::VariableName => "the name of a variable".to_owned(),
        Shape::Command => "a line, or a list".to_owned(),
        Shape::Section(section) => named(section),
        Shape::OneOrMore(section) => format!("{}, or a list of them", named(section)),
        Shape::List(item) => format!("a list: {}", words(item)),
        Shape::Map(item) => format!("a mapping: {}", words(item)),
    }
}

fn named(section: &Section) -> String {
    if section.name.contains(' ') {
        section.name.to_owned()
    } else {
        format!("`{}`", section.name)
    }
}

/// Returns whether a reader might expect variables to be replaced in values of this shape.
fn may_hold_a_variable(shape: &Shape) -> bool {
    !matches!(shape, Shape::Section(_) | Shape::OneOrMore(_))
}

fn cell(text: &str) -> String {
    text.replace('|', r"\|")
}

#[test]
fn the_reference_of_the_configuration_lists_every_key() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
    let committed = std::fs::read_to_string(path).expect("docs/configuration.md");
    let (before, rest) = committed
        .split_once(BEGIN)
        .expect("the line before the tables");
    let (_, after) = rest.split_once(END).expect("the line after the tables");
    let reference = format!("{before}{BEGIN}{}\n{END}{after}", tables());
    if Process::current()
        .variables
        .get_filled("UPDATE_DOCS")
        .is_some()
    {
        std::fs::write(path, &reference).expect("docs/configuration.md is writable");
    }
    let committed = std::fs::read_to_string(path).expect("docs/configuration.md");
    assert!(
        committed == reference,
        "docs/configuration.md lacks keys; run `UPDATE_DOCS=1 cargo test config::docs` and review the change"
    );
}
