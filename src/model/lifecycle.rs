//! The product of an image, and the release cycle that a tag belongs to.
//!
//! Owns the rules that find a cycle in a tag. The module `eol` assesses when a cycle ends; the room
//! `eol` loads the data.

use std::fmt;
use std::str::FromStr;

use regex::{Regex, RegexBuilder};
use thiserror::Error;

use super::eol::{Acceptance, Cycle, Phase};
use super::reference::{InvalidName, Repository};

/// Maximum length of a product name, in bytes.
const MAX_NAME_LENGTH: usize = 100;

/// Name or alias of a product on endoflife.date. Safe to use as a URL path segment.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProductName(String);

impl ProductName {
    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ProductName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<ProductName, InvalidName> {
        let is_allowed =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'+');
        let reason = if text.len() > MAX_NAME_LENGTH {
            "it is too long"
        } else if !text.starts_with(|first: char| first.is_ascii_alphanumeric()) {
            "it must start with a letter or digit"
        } else if !text.bytes().all(is_allowed) {
            "only letters, digits, `-`, `_`, `.` and `+` are allowed"
        } else {
            return Ok(ProductName(text.to_owned()));
        };
        Err(InvalidName {
            text: text.to_owned(),
            expected: "a product name",
            reason: reason.to_owned(),
        })
    }
}

impl fmt::Display for ProductName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A product, by name or by the image that contains it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Product {
    /// The product with this name or alias.
    Named(ProductName),
    /// The product that endoflife.date lists for images of this repository.
    OfImages(Repository),
}

impl fmt::Display for Product {
    /// Writes the key of the product in end-of-life data: its configured name, which has no slash,
    /// or the name of the repository, which has one. For a directory, the key is its last
    /// component, because the parent directories do not identify the product.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Product::Named(name) => name.fmt(formatter),
            Product::OfImages(Repository::Layout { directory }) => {
                formatter.write_str(&directory.file_name().unwrap_or_default().to_string_lossy())
            }
            Product::OfImages(repository) => repository.fmt(formatter),
        }
    }
}

/// A regular expression that matches tags.
#[derive(Clone, Debug)]
pub struct TagPattern {
    /// The expression as the user wrote it, for messages.
    pub text: String,
    /// The compiled expression; it may be anchored where `text` is not.
    pub regex: Regex,
}

impl TagPattern {
    /// Returns the expression without regard to case, or `None` if it has no letter in upper case
    /// that could fail to match a tag in lower case.
    #[must_use]
    pub fn without_case(&self) -> Option<TagPattern> {
        let text = self.regex.as_str();
        if !text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return None;
        }
        let regex = RegexBuilder::new(text)
            .case_insensitive(true)
            .build()
            .ok()?;
        Some(TagPattern {
            text: self.text.clone(),
            regex,
        })
    }
}

impl PartialEq for TagPattern {
    fn eq(&self, other: &TagPattern) -> bool {
        self.regex.as_str() == other.regex.as_str()
    }
}

/// Rule that extracts the name of a release cycle from a tag.
#[derive(Clone, Debug, PartialEq)]
pub enum Extract {
    /// The longest prefix of the tag that is the name of a cycle.
    LongestPrefix,
    /// The first number of the version.
    Major,
    /// The first two numbers of the version.
    Minor,
    /// The first three numbers of the version.
    Patch,
    /// The complete tag, without a leading `v`.
    Full,
    /// The capture group of a regular expression, which may match anywhere in the tag.
    Pattern(TagPattern),
}

/// Lifecycle settings of an image: its product and how to find the release cycle.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageLifecycle {
    /// Product in the image.
    pub product: Product,
    /// Rule that finds the release cycle in a tag.
    pub extract: Extract,
    /// Support phase that counts; `None` for the phase of `lifecycle.phase`.
    pub phase: Option<Phase>,
    /// Paid support or an accepted risk.
    pub accept: Option<Acceptance>,
}

/// Error for a tag that belongs to no known release cycle.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CycleError {
    #[error("no release cycle matches the start of the tag `{tag}`")]
    NoPrefix { tag: String },
    #[error("the tag `{tag}` has no {part}")]
    NoPart { tag: String, part: &'static str },
    #[error("`{pattern}` does not match the tag `{tag}`")]
    NoMatch { tag: String, pattern: String },
    #[error("there is no release cycle `{cycle}`")]
    UnknownCycle { cycle: String },
}

impl Extract {
    /// Returns the cycle among `cycles` that `tag` belongs to.
    pub fn cycle<'a>(&self, tag: &str, cycles: &'a [Cycle]) -> Result<&'a Cycle, CycleError> {
        let find = |name: &str| cycles.iter().find(|cycle| cycle.has_name(name));
        let tag_text = || tag.to_owned();
        let name = match self {
            Extract::LongestPrefix => {
                let longest = prefixes(without_v(tag)).find_map(find);
                return longest.ok_or_else(|| CycleError::NoPrefix { tag: tag_text() });
            }
            Extract::Major => numbers(tag, 1).ok_or_else(|| CycleError::NoPart {
                tag: tag_text(),
                part: "version",
            })?,
            Extract::Minor => numbers(tag, 2).ok_or_else(|| CycleError::NoPart {
                tag: tag_text(),
                part: "minor version",
            })?,
            Extract::Patch => numbers(tag, 3).ok_or_else(|| CycleError::NoPart {
                tag: tag_text(),
                part: "patch version",
            })?,
            Extract::Full => without_v(tag),
            Extract::Pattern(pattern) => {
                let found = pattern
                    .regex
                    .captures(tag)
                    .and_then(|captures| captures.get(1));
                found
                    .ok_or_else(|| CycleError::NoMatch {
                        tag: tag_text(),
                        pattern: pattern.text.clone(),
                    })?
                    .as_str()
            }
        };
        find(name).ok_or_else(|| CycleError::UnknownCycle {
            cycle: name.to_owned(),
        })
    }
}

/// Returns `tag` without the `v` that precedes a version.
fn without_v(tag: &str) -> &str {
    tag.strip_prefix(['v', 'V'])
        .filter(|rest| rest.starts_with(|next: char| next.is_ascii_digit()))
        .unwrap_or(tag)
}

/// Returns the first `count` numbers of the version at the start of a tag, including the dots
/// between them. `None` if the version has fewer numbers.
fn numbers(tag: &str, count: usize) -> Option<&str> {
    let version = without_v(tag);
    let mut end = 0;
    for position in 0..count {
        let start = if position == 0 {
            0
        } else {
            end + version[end..].strip_prefix('.').map(|_| 1)?
        };
        let digits = version[start..]
            .bytes()
            .take_while(u8::is_ascii_digit)
            .count();
        if digits == 0 {
            return None;
        }
        end = start + digits;
    }
    Some(&version[..end])
}

/// Returns the prefixes of a tag that end at a word boundary, longest first: `1.22.3-alpine`,
/// `1.22.3`, `1.22`, `1`.
///
/// The `u` of a Java 8 update (`8u402`) is also a boundary.
fn prefixes(tag: &str) -> impl Iterator<Item = &str> {
    let ends = tag.char_indices().rev().filter(move |(at, character)| {
        let digit = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_digit);
        let bytes = tag.as_bytes();
        let between_digits = *at > 0 && digit(bytes.get(at - 1)) && digit(bytes.get(at + 1));
        !character.is_alphanumeric() || (*character == 'u' && between_digits)
    });
    std::iter::once(tag).chain(ends.map(|(at, _)| &tag[..at]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cycles(names: &[&str]) -> Vec<Cycle> {
        let cycle = |text: &&str| {
            let (name, codename) = text
                .split_once('=')
                .map_or((*text, None), |(name, codename)| {
                    (name, Some(codename.to_owned()))
                });
            Cycle {
                name: name.to_owned(),
                codename,
                ..Cycle::default()
            }
        };
        names.iter().map(cycle).collect()
    }

    fn extracted(extract: &Extract, tag: &str, names: &[&str]) -> Result<String, String> {
        extract
            .cycle(tag, &cycles(names))
            .map(|cycle| cycle.name.clone())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn longest_prefix_finds_the_most_specific_cycle() {
        let found = |tag, names: &[&str]| extracted(&Extract::LongestPrefix, tag, names).ok();
        for (tag, names, expected) in [
            ("3.21.3", &["3.21", "3.2", "3"][..], Some("3.21")),
            ("1.22.3-alpine3.21", &["1.22", "1"], Some("1.22")),
            ("20.11", &["20", "2"], Some("20")),
            ("21.0.4_7-jre", &["21"], Some("21")),
            ("8u402-b06-jre", &["8"], Some("8")),
            ("v1.2", &["1.2"], Some("1.2")),
            ("v1.2", &["v1.2", "1"], Some("1")),
            ("2.0.20260101.0", &["2023", "2"], Some("2")),
            ("15.5-sp6-x", &["15.5", "15.5-sp6"], Some("15.5-sp6")),
            (
                "bookworm-20260101-slim",
                &["12=Bookworm", "11=Bullseye"],
                Some("12"),
            ),
            ("noble", &["24.04=Noble Numbat"], Some("24.04")),
            ("lmde6", &["lmde6", "22"], Some("lmde6")),
            ("3.2", &["3.21"], None),
            ("3", &["3.21"], None),
            // A commit hash is not a version.
            ("1a2b3c", &["1"], None),
            ("vault", &["ault"], None),
            ("latest", &["3.21"], None),
            ("-", &["3"], None),
        ] {
            assert_eq!(
                found(tag, names).as_deref(),
                expected,
                "{tag} among {names:?}"
            );
        }
    }

    #[test]
    fn version_parts_are_extracted_as_written() {
        let names = ["3", "3.21", "3.10", "3.21.3", "3.21.3-r1"];
        let of = |extract, tag| extracted(&extract, tag, &names);
        assert_eq!(of(Extract::Major, "3.21.3").as_deref(), Ok("3"));
        assert_eq!(of(Extract::Minor, "3.21.3").as_deref(), Ok("3.21"));
        assert_eq!(of(Extract::Minor, "v3.10-alpine").as_deref(), Ok("3.10"));
        assert_eq!(of(Extract::Patch, "3.21.3-r1").as_deref(), Ok("3.21.3"));
        assert_eq!(of(Extract::Full, "3.21.3-r1").as_deref(), Ok("3.21.3-r1"));
        assert_eq!(
            of(Extract::Minor, "3.1.0"),
            Err("there is no release cycle `3.1`".to_owned())
        );
        assert_eq!(
            of(Extract::Minor, "3"),
            Err("the tag `3` has no minor version".to_owned())
        );
        assert_eq!(
            of(Extract::Patch, "3.21.x"),
            Err("the tag `3.21.x` has no patch version".to_owned())
        );
        assert_eq!(
            of(Extract::Major, "latest"),
            Err("the tag `latest` has no version".to_owned())
        );
        assert_eq!(
            of(Extract::LongestPrefix, "edge"),
            Err("no release cycle matches the start of the tag `edge`".to_owned())
        );
    }

    #[test]
    fn pattern_matches_anywhere_in_the_tag() {
        let pattern = |text: &str| {
            Extract::Pattern(TagPattern {
                text: text.to_owned(),
                regex: Regex::new(text).expect("a pattern"),
            })
        };
        let names = ["3.21", "12=Bookworm"];
        assert_eq!(
            extracted(&pattern(r"alpine(\d+\.\d+)"), "1.22.3-alpine3.21", &names).as_deref(),
            Ok("3.21")
        );
        assert_eq!(
            extracted(&pattern("-([a-z]+)"), "1.22-bookworm", &names).as_deref(),
            Ok("12")
        );
        assert_eq!(
            extracted(&pattern("x(y)?"), "x", &names),
            Err("`x(y)?` does not match the tag `x`".to_owned())
        );
    }

    #[test]
    fn product_names_are_safe_in_urls() {
        for name in ["alpine-linux", "ros-2", "Node.js", "c++", "0"] {
            assert_eq!(
                name.parse::<ProductName>()
                    .map(|name| name.to_string())
                    .as_deref(),
                Ok(name)
            );
        }
        for name in ["", "..", "a/b", "a?b", "a b", "-a", "ä", &"a".repeat(101)] {
            assert!(name.parse::<ProductName>().is_err(), "{name}");
        }
    }

    #[test]
    fn product_without_a_name_is_keyed_by_its_repository() {
        let of = |text: &str| Product::OfImages(text.parse().expect("a repository")).to_string();
        assert_eq!(of("golang"), "docker.io/library/golang");
        assert_eq!(
            of("quay.io/prometheus/prometheus"),
            "quay.io/prometheus/prometheus"
        );
        assert_eq!(of("ocidir:///srv/images/alpine"), "alpine");
    }
}
