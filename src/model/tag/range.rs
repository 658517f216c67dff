//! Ranges of versions: `>=3.20, <4`.
//!
//! A range compares the numbers of the release only. Pre-releases, builds and variants of a tag do
//! not matter: those are selected by other rules.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::number::{VersionNumber, dotted};
use super::version::TagVersion;

/// Maximum length of a range, in bytes.
const MAX_RANGE_LENGTH: usize = 500;

/// Alternatives, of which a version must satisfy one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionRange {
    /// The range as the user wrote it.
    text: String,
    /// Conditions that must all be true, for each alternative.
    alternatives: Vec<Vec<RangeCondition>>,
}

/// A bound: the release must be at least `from` or below `before`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum RangeCondition {
    AtLeast(Vec<VersionNumber>),
    Below(Vec<VersionNumber>),
    /// Outside of `from..before`.
    Outside(Vec<VersionNumber>, Vec<VersionNumber>),
}

/// Error of a range.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InvalidRange {
    #[error("the range is empty")]
    Empty,
    #[error("the range is longer than {MAX_RANGE_LENGTH} bytes")]
    TooLong,
    #[error("`{0}` is not a version")]
    Version(String),
}

impl VersionRange {
    /// Returns the range as the user wrote it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns true if the release of a tag is within the range. False without a release.
    pub fn contains(&self, version: &TagVersion) -> bool {
        version.has_release()
            && self.alternatives.iter().any(|conditions| {
                conditions
                    .iter()
                    .all(|condition| condition.holds(version.release()))
            })
    }
}

impl RangeCondition {
    fn holds(&self, release: &[VersionNumber]) -> bool {
        match self {
            RangeCondition::AtLeast(from) => is_at_least(release, from),
            RangeCondition::Below(before) => !is_at_least(release, before),
            RangeCondition::Outside(from, before) => {
                !is_at_least(release, from) || is_at_least(release, before)
            }
        }
    }
}

/// Compares releases; missing numbers are zero.
fn is_at_least(release: &[VersionNumber], bound: &[VersionNumber]) -> bool {
    super::order::compare_padded(release, bound).is_ge()
}

impl FromStr for VersionRange {
    type Err = InvalidRange;

    fn from_str(text: &str) -> Result<VersionRange, InvalidRange> {
        if text.len() > MAX_RANGE_LENGTH {
            return Err(InvalidRange::TooLong);
        }
        let alternatives = text
            .split("||")
            .map(alternative)
            .collect::<Result<Vec<_>, _>>()?;
        Ok(VersionRange {
            text: text.to_owned(),
            alternatives,
        })
    }
}

impl fmt::Display for VersionRange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

/// Reads the conditions of one alternative, separated by commas or spaces.
fn alternative(text: &str) -> Result<Vec<RangeCondition>, InvalidRange> {
    if let Some((from, to)) = text.split_once(" - ") {
        let (from, to) = (numbers(from.trim())?, numbers(to.trim())?);
        return Ok(vec![
            RangeCondition::AtLeast(from),
            RangeCondition::Below(next(&to)),
        ]);
    }
    // `>= 3.20` is one condition.
    let mut words: Vec<String> = Vec::new();
    let mut is_open = false;
    for word in text
        .split([',', ' '])
        .map(str::trim)
        .filter(|word| !word.is_empty())
    {
        match words.last_mut().filter(|_| is_open) {
            Some(operator) => operator.push_str(word),
            None => words.push(word.to_owned()),
        }
        is_open =
            !word.contains(|character: char| character.is_ascii_alphanumeric() || character == '*');
    }
    if words.is_empty() {
        return Err(InvalidRange::Empty);
    }
    let mut conditions = Vec::new();
    for word in &words {
        conditions.extend(condition(word)?);
    }
    Ok(conditions)
}

/// Reads one condition: an operator and a version.
fn condition(text: &str) -> Result<Vec<RangeCondition>, InvalidRange> {
    let start = text
        .find(|character: char| !"<>=!~^".contains(character))
        .unwrap_or(text.len());
    let (operator, version) = text.split_at(start);
    let numbers = numbers(version)?;
    if numbers.is_empty() {
        return Ok(Vec::new());
    }
    let between = |from: Vec<VersionNumber>, before: Vec<VersionNumber>| {
        vec![RangeCondition::AtLeast(from), RangeCondition::Below(before)]
    };
    Ok(match operator {
        "" | "=" | "==" => between(numbers.clone(), next(&numbers)),
        "!=" => vec![RangeCondition::Outside(numbers.clone(), next(&numbers))],
        ">=" | "=>" => vec![RangeCondition::AtLeast(numbers)],
        "<" => vec![RangeCondition::Below(numbers)],
        ">" => vec![RangeCondition::AtLeast(next(&numbers))],
        "<=" | "=<" => vec![RangeCondition::Below(next(&numbers))],
        "~" | "~>" => {
            let line = numbers.get(..2).unwrap_or(&numbers);
            between(numbers.clone(), next(line))
        }
        "^" => {
            let first = numbers
                .iter()
                .position(|number| !number.is_zero())
                .unwrap_or(numbers.len() - 1);
            between(numbers.clone(), next(&numbers[..=first]))
        }
        _ => return Err(InvalidRange::Version(text.to_owned())),
    })
}

/// Reads the numbers of a version. `3.x` and `3.*` are `3`; `*` has no numbers.
fn numbers(text: &str) -> Result<Vec<VersionNumber>, InvalidRange> {
    let wrong = || InvalidRange::Version(text.to_owned());
    let body = text.strip_prefix(['v', 'V']).unwrap_or(text);
    let mut end = body;
    while let Some(shorter) = ["x", "X", "*"].iter().find_map(|any| end.strip_suffix(any)) {
        end = shorter.strip_suffix('.').unwrap_or(shorter);
        if end.is_empty() {
            return Ok(Vec::new());
        }
    }
    dotted(end).ok_or_else(wrong)
}

/// Returns the first version after all versions that start with `numbers`: `3.22` for `3.21`.
fn next(numbers: &[VersionNumber]) -> Vec<VersionNumber> {
    let mut next = numbers.to_vec();
    if let Some(last) = next.last_mut() {
        *last = last.successor();
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_compares_release_numbers() {
        for (range, inside, outside) in [
            (
                ">=3.20, <4",
                "3.20 3.20.1-alpine 3.21-rc1 v3.99",
                "3.19.9 4 4.0.0-rc1 latest 20240501",
            ),
            (">=3.20 <4", "3.21.3", "3 4.1"),
            (">= 3.20, < 4", "3.21.3", "3 4.1"),
            ("3.21", "3.21 3.21.7", "3.2 3.22"),
            ("=3.21.3", "3.21.3 3.21.3-slim 3.21.3.1", "3.21.4"),
            ("3.x", "3 3.99.1", "4 2.9"),
            ("3.21.*", "3.21.5", "3.22"),
            ("~1.2.3", "1.2.3 1.2.9", "1.2.2 1.3.0"),
            ("~1.2", "1.2 1.2.9", "1.3"),
            ("~1", "1.9.9", "2.0"),
            ("^1.2.3", "1.2.3 1.9", "1.2.2 2.0"),
            ("^0.2.3", "0.2.9", "0.3.0 0.2.2"),
            ("^0.0", "0.0.9", "0.1"),
            (">1.2", "1.3", "1.2 1.2.9"),
            ("<=1.2", "1.2.9 1.1", "1.3"),
            ("!=1.3, >=1.2", "1.2.1 1.4", "1.3.5 1.1"),
            ("1.2 - 1.4", "1.2.0 1.4.9", "1.1 1.5"),
            ("<2 || >=3.1", "1.9 3.1", "2.5 3.0.9"),
            ("*", "1 99.1", "latest"),
            (
                "v1.9.999999999999999999999999",
                "1.9.999999999999999999999999",
                "1.10",
            ),
        ] {
            let parsed: VersionRange = range.parse().expect("a range");
            for tag in inside.split_whitespace() {
                assert!(parsed.contains(&TagVersion::of(tag)), "{tag} in {range}");
            }
            for tag in outside.split_whitespace() {
                assert!(
                    !parsed.contains(&TagVersion::of(tag)),
                    "{tag} not in {range}"
                );
            }
        }
    }

    #[test]
    fn invalid_ranges_are_rejected() {
        for (range, message) in [
            ("", "the range is empty"),
            (">=3 ||", "the range is empty"),
            (">=a", "`a` is not a version"),
            (">=", "`` is not a version"),
            ("3..1", "`3..1` is not a version"),
            ("<>3", "`<>3` is not a version"),
            ("1.x.3", "`1.x.3` is not a version"),
        ] {
            let error = range.parse::<VersionRange>().expect_err(range);
            assert_eq!(error.to_string(), message, "{range}");
        }
        assert!("1".repeat(501).parse::<VersionRange>().is_err());
    }
}
