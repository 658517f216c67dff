//! The types of the key table: shapes of values, keys and sections.

use crate::config::keywords::Keyword;

#[derive(Clone, Copy, Debug)]
pub(in crate::config) enum Shape {
    /// A string that is not empty.
    Text,
    /// A string that may be empty.
    AnyText,
    /// `true` or `false`.
    Flag,
    /// A whole number in a range.
    Whole {
        min: u64,
        max: u64,
    },
    /// A number greater than zero, which may have a fraction.
    Rate,
    /// One of several keywords.
    Choice(&'static [&'static str]),
    Duration,
    Date,
    Url,
    /// A path, relative to the directory of the file.
    Path,
    Repository,
    /// A common prefix of repository names: a host, or a host and a path.
    BasePath,
    Host,
    Tag,
    /// A tag with an optional digest.
    PinnedTag,
    Platform,
    /// A regular expression.
    Pattern,
    /// A range of versions.
    VersionRange,
    /// A reference with a tag or a digest.
    Image,
    /// A repository, with `*` and `?` as wildcards.
    RepositoryPattern,
    /// A name, with `*` and `?` as wildcards.
    NamePattern,
    /// A tag or a `/pattern/`.
    TagExclusion,
    /// A rule that extracts a release cycle from a tag.
    Extract,
    /// The name of an environment variable.
    VariableName,
    /// A shell command line, or a list with a program and its arguments.
    Command,
    /// A mapping with known keys.
    Section(&'static SectionSpec),
    /// A section or a list of sections.
    OneOrMore(&'static SectionSpec),
    List(&'static Shape),
    /// A mapping with keys that the user chooses.
    Map(&'static Shape),
}

/// A mapping with known keys.
#[derive(Debug)]
pub(in crate::config) struct SectionSpec {
    /// Path of the section in the file, for hints and the schema; empty for the whole file.
    pub(in crate::config) name: &'static str,
    pub(in crate::config) keys: &'static [KeySpec],
}

/// A key of a section.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct KeySpec {
    pub(in crate::config) name: &'static str,
    pub(in crate::config) shape: Shape,
    /// Description for the documentation and the schema.
    pub(in crate::config) description: &'static str,
    /// Default value as it would be written in the file.
    pub(in crate::config) default: Option<&'static str>,
    pub(in crate::config) required: bool,
    /// If true, references to environment variables are expanded.
    pub(in crate::config) expanded: bool,
}

impl SectionSpec {
    /// Returns the key with this name, or `None` if the section has no such key.
    pub(in crate::config) fn key(&self, name: &str) -> Option<&'static KeySpec> {
        self.keys.iter().find(|key| key.name == name)
    }
}

impl KeySpec {
    pub(super) const fn default(mut self, text: &'static str) -> KeySpec {
        self.default = Some(text);
        self
    }

    pub(super) const fn required(mut self) -> KeySpec {
        self.required = true;
        self
    }

    /// Disables the expansion of environment variables.
    pub(super) const fn literal(mut self) -> KeySpec {
        self.expanded = false;
        self
    }
}

pub(super) const fn key(name: &'static str, shape: Shape, description: &'static str) -> KeySpec {
    KeySpec {
        name,
        shape,
        description,
        default: None,
        required: false,
        expanded: true,
    }
}

pub(super) const fn choice<T: Keyword>() -> Shape {
    Shape::Choice(T::KEYWORDS)
}

pub(super) const fn whole(min: u64, max: u64) -> Shape {
    Shape::Whole { min, max }
}

/// Maximum of numbers that count days or tags.
pub(super) const MAX_COUNT: u64 = 1_000_000;

pub(super) const PLATFORMS: Shape = Shape::List(&Shape::Platform);
