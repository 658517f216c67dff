//! Order of tags: the greater of two tags is the newer one.
//!
//! 1. A tag with a release is above a tag without one. Releases are compared number by number.
//! 2. A pre-release is below its release.
//! 3. Builds and dates directly after the version.
//! 4. A tag without a variant is above the same version with one; variants are compared word by
//!    word.
//! 5. Revisions after the variant.
//! 6. A tag with a hash is below the same tag without it.
//!
//! Without a release: development builds are below the others; then dates in the tags, push dates,
//! code names and names decide. Each rule compares values of its own kind, so the order is total and
//! transitive.

use std::cmp::Ordering;

use chrono::{DateTime, Utc};

use super::number::{VersionNumber, dotted};
use super::variant::compare;
use super::version::{PreReleasePart, TagVersion};
use super::words::PreReleaseKind;

/// The rule that decided which of two tags is newer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OrderBasis {
    /// Version, or date in the tag.
    Version,
    PushDate,
    CodeName,
    /// Only the names differ in a way that has an order.
    Name,
}

impl TagVersion {
    /// Compares two tags, with the push dates where they are known, and returns the rule that
    /// decided.
    ///
    /// Push dates decide only between tags without a release and without a date.
    pub fn compare_pushed(
        &self,
        pushed: Option<DateTime<Utc>>,
        other: &TagVersion,
        other_pushed: Option<DateTime<Utc>>,
    ) -> (Ordering, OrderBasis) {
        let releases = self.has_release().cmp(&other.has_release());
        if releases != Ordering::Equal {
            return (releases, OrderBasis::Version);
        }
        if self.has_release() {
            return (self.compare_releases(other), OrderBasis::Version);
        }
        let rules = [
            (
                other.is_pre_release().cmp(&self.is_pre_release()),
                OrderBasis::Version,
            ),
            (self.date.cmp(&other.date), OrderBasis::Version),
            (
                self.revision_of_date().cmp(other.revision_of_date()),
                OrderBasis::Version,
            ),
            (pushed.cmp(&other_pushed), OrderBasis::PushDate),
            (
                self.code_name_key().cmp(&other.code_name_key()),
                OrderBasis::CodeName,
            ),
        ];
        rules
            .into_iter()
            .find(|(ordering, _)| *ordering != Ordering::Equal)
            .unwrap_or_else(|| (self.compare_names(other), OrderBasis::Name))
    }

    /// Returns true if the tag names the version of `other` or a newer one, whatever their variants.
    pub fn is_at_least(&self, other: &TagVersion) -> bool {
        self.has_release()
            .cmp(&other.has_release())
            .then_with(|| compare_padded(&self.release, &other.release))
            .then_with(|| compare_pre_releases(&self.pre_release, &other.pre_release))
            .then_with(|| self.build.cmp(&other.build))
            .then_with(|| self.date.cmp(&other.date))
            .is_ge()
    }

    /// Compares two tags that have releases.
    fn compare_releases(&self, other: &TagVersion) -> Ordering {
        compare_padded(&self.release, &other.release)
            .then_with(|| compare_pre_releases(&self.pre_release, &other.pre_release))
            .then_with(|| self.build.cmp(&other.build))
            .then_with(|| compare(&self.variant, &other.variant))
            .then_with(|| self.revision.cmp(&other.revision))
            .then_with(|| other.hash.is_some().cmp(&self.hash.is_some()))
            .then_with(|| self.release.len().cmp(&other.release.len()))
            .then_with(|| compare_naturally(&self.text, &other.text))
    }

    /// Compares two tags by their words only.
    fn compare_names(&self, other: &TagVersion) -> Ordering {
        compare(&self.variant, &other.variant)
            .then_with(|| compare_pre_releases(&self.pre_release, &other.pre_release))
            .then_with(|| self.revision.cmp(&other.revision))
            .then_with(|| compare_naturally(&self.text, &other.text))
    }

    /// Returns the numbers after the date of a tag that has one: `1` in `jammy-20260811.1`.
    fn revision_of_date(&self) -> &[VersionNumber] {
        if self.date.is_some() {
            &self.revision
        } else {
            &[]
        }
    }

    /// Returns the code name at the start of the tag as product and version.
    fn code_name_key(&self) -> Option<(&'static str, Vec<VersionNumber>)> {
        let (product, version) = self.code_name()?;
        Some((product, dotted(version)?))
    }
}

impl Ord for TagVersion {
    fn cmp(&self, other: &TagVersion) -> Ordering {
        self.compare_pushed(None, other, None).0
    }
}

impl PartialOrd for TagVersion {
    fn partial_cmp(&self, other: &TagVersion) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Compares releases; missing numbers are zero.
pub(super) fn compare_padded(one: &[VersionNumber], other: &[VersionNumber]) -> Ordering {
    let shared = one.len().min(other.len());
    let rest_of =
        |numbers: &[VersionNumber]| numbers[shared..].iter().any(|number| !number.is_zero());
    one[..shared]
        .cmp(&other[..shared])
        .then_with(|| rest_of(one).cmp(&rest_of(other)))
}

/// Compares pre-releases. A release, which has no parts, is the greatest.
///
/// As in semver.org 2.0.0, 11: numbers are below words, and a longer pre-release is above a shorter one
/// that it starts with. A development build of a pre-release is below it.
fn compare_pre_releases(one: &[PreReleasePart], other: &[PreReleasePart]) -> Ordering {
    let keys =
        |parts: &[PreReleasePart]| -> Vec<PartKey> { parts.iter().map(PartKey::of).collect() };
    match (one.is_empty(), other.is_empty()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        (false, false) => {
            let (mut one, mut other) = (keys(one), keys(other));
            one.push(PartKey::End);
            other.push(PartKey::End);
            one.cmp(&other)
        }
    }
}

/// Rank of a part of a pre-release.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum PartKey {
    Development,
    End,
    Number(VersionNumber),
    Text(String),
    Word(PreReleaseKind),
}

impl PartKey {
    fn of(part: &PreReleasePart) -> PartKey {
        match part {
            PreReleasePart::Kind(PreReleaseKind::Development) => PartKey::Development,
            PreReleasePart::Kind(kind) => PartKey::Word(*kind),
            PreReleasePart::Number(number) => PartKey::Number(number.clone()),
            PreReleasePart::Text(text) => PartKey::Text(text.clone()),
        }
    }
}

/// Compares text in natural order, runs of digits by value, so that `r9` precedes `r10`; then by
/// its characters.
fn compare_naturally(one: &str, other: &str) -> Ordering {
    let runs = |text: &str| -> Vec<TextRun> {
        let mut rest = text;
        std::iter::from_fn(|| next_run(&mut rest)).collect()
    };
    runs(one).cmp(&runs(other)).then_with(|| one.cmp(other))
}

/// A run of digits or of other characters.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum TextRun {
    Digits(VersionNumber),
    Text(String),
}

/// Removes the next run from the start of `text` and returns it.
fn next_run(text: &mut &str) -> Option<TextRun> {
    let is_digit = text.chars().next()?.is_ascii_digit();
    let end = text
        .find(|character: char| character.is_ascii_digit() != is_digit)
        .unwrap_or(text.len());
    let (run, rest) = text.split_at(end);
    *text = rest;
    Some(VersionNumber::of(run).map_or_else(|| TextRun::Text(run.to_owned()), TextRun::Digits))
}
