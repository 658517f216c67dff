//! The key tables in `docs/configuration.md`, generated from the key table.
//!
//! `UPDATE_DOCS=1 cargo test config::docs` regenerates them. The text around them is written by
//! hand.

use super::table::{SECTIONS, SectionSpec, Shape};
use crate::process::Process;

const BEGIN: &str = "<!-- keys:begin -->\n";
const END: &str = "<!-- keys:end -->\n";

fn tables() -> String {
    SECTIONS.iter().map(|section| table(section)).collect()
}

fn table(section: &SectionSpec) -> String {
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
        let literal = if key.expanded || !may_contain_variables(&key.shape) {
            ""
        } else {
            " Environment variables are not expanded here."
        };
        text += &format!(
            "| `{}` | {} | {} | {}{literal} |\n",
            key.name,
            cell(&words(&key.shape)),
            cell(&default),
            cell(key.description)
        );
    }
    text
}

fn words(shape: &Shape) -> String {
    match shape {
        Shape::Text | Shape::AnyText => "a string".to_owned(),
        Shape::Flag => "`true` or `false`".to_owned(),
        Shape::Whole { min, max } if *max >= 1_000_000 => format!("a number of at least {min}"),
        Shape::Whole { min, max } => format!("a number from {min} to {max}"),
        Shape::Rate => "a number above 0".to_owned(),
        Shape::Choice(choices) => choices
            .iter()
            .map(|choice| format!("`{choice}`"))
            .collect::<Vec<_>>()
            .join(", "),
        Shape::Duration => "a duration, such as `60s`, `1h30m`, `7d`".to_owned(),
        Shape::Date => "a date".to_owned(),
        Shape::Url => "a URL".to_owned(),
        Shape::Path => "a path".to_owned(),
        Shape::Repository => "a repository".to_owned(),
        Shape::BasePath => "a host, or a host and a path".to_owned(),
        Shape::Host => "a host".to_owned(),
        Shape::Tag => "a tag".to_owned(),
        Shape::PinnedTag => "a tag, with or without a digest".to_owned(),
        Shape::Platform => "a platform, such as `linux/arm64`".to_owned(),
        Shape::Pattern => "a regular expression".to_owned(),
        Shape::VersionRange => "a range of versions".to_owned(),
        Shape::Image => "an image reference".to_owned(),
        Shape::RepositoryPattern => "a repository, with wildcards".to_owned(),
        Shape::NamePattern => "a name, with wildcards".to_owned(),
        Shape::TagExclusion => "a tag or `/regex/`".to_owned(),
        Shape::Extract => "`major`, `minor`, `patch`, `full`, a regular expression".to_owned(),
        Shape::VariableName => "the name of an environment variable".to_owned(),
        Shape::Command => "a string or a list".to_owned(),
        Shape::Section(section) => named(section),
        Shape::OneOrMore(section) => format!("{}, or a list of them", named(section)),
        Shape::List(item) => format!("a list: {}", words(item)),
        Shape::Map(item) => format!("a mapping: {}", words(item)),
    }
}

fn named(section: &SectionSpec) -> String {
    if section.name.contains(' ') {
        section.name.to_owned()
    } else {
        format!("`{}`", section.name)
    }
}

/// Returns true if a user might expect environment variables to be expanded in values of this
/// shape.
fn may_contain_variables(shape: &Shape) -> bool {
    !matches!(shape, Shape::Section(_) | Shape::OneOrMore(_))
}

fn cell(text: &str) -> String {
    text.replace('|', r"\|")
}

#[test]
fn configuration_reference_matches_the_key_table() {
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
        "docs/configuration.md is out of date; run `UPDATE_DOCS=1 cargo test config::docs` and review the change"
    );
}
