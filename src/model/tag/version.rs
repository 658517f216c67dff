//! A parsed tag, and the questions about a single tag.

use chrono::NaiveDate;

use super::number::VersionNumber;
use super::variant::Variant;
use super::words::{DEVELOPMENT_SUITES, PreReleaseKind, code_name, contains};

/// A tag parsed as a version. Newer versions are greater.
///
/// The order is total: tags that are equal in all other regards are ordered by their text. See
/// `order`.
#[derive(Clone, Debug)]
pub struct TagVersion {
    /// The tag itself.
    pub(super) text: String,
    /// True if a `v` precedes the version.
    pub(super) has_v: bool,
    /// Numbers of the release: `3`, `21` and `3` in `3.21.3-alpine`.
    pub(super) release: Vec<VersionNumber>,
    /// Marks of a pre-release; empty for a release.
    pub(super) pre_release: Vec<PreReleasePart>,
    /// Numbers that continue the version: `7` in `8u502-b07`, `11` in `21.0.5_11`.
    pub(super) build: Vec<VersionNumber>,
    pub(super) date: Option<TagDate>,
    pub(super) variant: Variant,
    /// Numbers after the variant: `3` in `1.25.5-debian-12-r3`.
    pub(super) revision: Vec<VersionNumber>,
    /// Commit or another hash.
    pub(super) hash: Option<String>,
}

/// A part of a pre-release. The order of the alternatives is the order of pre-releases; the end of
/// a pre-release ranks between `Development` and the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PreReleasePart {
    Kind(PreReleaseKind),
    Number(VersionNumber),
    /// An identifier with letters and digits, such as `4b52ea3b1`.
    Text(String),
}

/// Date in a tag, with the time if the tag has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TagDate {
    /// The digits `YYYYMMDDhhmmss`, or seconds since 1970 converted to them.
    pub(super) digits: u64,
    pub(super) day: NaiveDate,
}

impl TagDate {
    /// Returns the day.
    pub fn day(&self) -> NaiveDate {
        self.day
    }
}

impl PartialEq for TagVersion {
    fn eq(&self, other: &TagVersion) -> bool {
        self.text == other.text
    }
}

impl Eq for TagVersion {}

impl TagVersion {
    /// Returns the tag.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns true if the tag has the numbers of a release or a date. `latest`, `edge` and
    /// `alpine3.21` have neither.
    pub fn is_version(&self) -> bool {
        self.has_release() || self.date.is_some()
    }

    /// Returns true if a `v` precedes the release.
    pub fn has_v(&self) -> bool {
        self.has_v
    }

    /// Returns true if the tag is a development build, the kind of pre-release that no release
    /// follows under the same name.
    pub fn is_development(&self) -> bool {
        self.pre_release
            .contains(&PreReleasePart::Kind(PreReleaseKind::Development))
    }

    /// Returns true if the tag has the numbers of a release.
    pub fn has_release(&self) -> bool {
        !self.release.is_empty()
    }

    /// Returns the numbers of the release; empty if there are none.
    pub fn release(&self) -> &[VersionNumber] {
        &self.release
    }

    /// Returns the first `count` numbers of the release as they are spelled, separated by dots;
    /// `None` if the release has fewer.
    pub fn release_prefix(&self, count: usize) -> Option<String> {
        let numbers = self.release.get(..count).filter(|_| count > 0)?;
        let spelled: Vec<&str> = numbers.iter().map(VersionNumber::as_str).collect();
        Some(spelled.join("."))
    }

    /// Returns the release line: the first two numbers of the release, or the date of a tag without
    /// a release. `None` for a tag without a version.
    ///
    /// Leading zeros do not count: `2024.05.1` and `2024.5.2` are on the same line. A release with a
    /// single number is a line of its own.
    pub fn release_line(&self) -> Option<Vec<VersionNumber>> {
        if self.has_release() {
            return Some(self.release[..self.release.len().min(2)].to_vec());
        }
        let date = VersionNumber::of(&self.date?.digits.to_string())?;
        Some(vec![date])
    }

    /// Returns the numbers that continue the version.
    pub fn build(&self) -> &[VersionNumber] {
        &self.build
    }

    /// Returns the date in the tag.
    pub fn date(&self) -> Option<TagDate> {
        self.date
    }

    /// Returns the variant: all words that are no part of the version.
    pub fn variant(&self) -> &Variant {
        &self.variant
    }

    /// Returns the commit or other hash in the tag.
    pub fn hash(&self) -> Option<&str> {
        self.hash.as_deref()
    }

    /// Returns true if the tag is a pre-release or a development build, with or without a version.
    pub fn is_pre_release(&self) -> bool {
        let is_suite = !self.has_release()
            && self
                .variant
                .words()
                .next()
                .is_some_and(|word| contains(DEVELOPMENT_SUITES, &word.word));
        !self.pre_release.is_empty() || is_suite
    }

    /// Returns the marks of the pre-release; empty for a release.
    pub fn pre_release(&self) -> &[PreReleasePart] {
        &self.pre_release
    }

    /// Returns the product and the version that the first code name in the tag stands for:
    /// (`debian`, `12`) for `bookworm-slim`.
    pub fn code_name(&self) -> Option<(&'static str, &'static str)> {
        self.variant.words().find_map(|word| code_name(&word.word))
    }

    /// Returns how many leading numbers the two releases have in common.
    pub fn shared_numbers(&self, other: &TagVersion) -> usize {
        self.release
            .iter()
            .zip(&other.release)
            .take_while(|(one, other)| one == other)
            .count()
    }

    /// Returns true if both releases are on the same release line.
    ///
    /// They are if they differ at most in the last number of `other`: `3.21.4` is on the line of
    /// `3.21.3`. A release with a single number is a line of its own.
    pub fn is_on_same_line_as(&self, other: &TagVersion) -> bool {
        let length = other.release.len();
        length > 0 && self.shared_numbers(other) >= length.saturating_sub(1).max(1)
    }

    /// Returns true if the release starts with the numbers of `line`: `1.22.3-alpine` is on the
    /// line `1.22`.
    pub fn is_on_line(&self, line: &TagVersion) -> bool {
        line.has_release() && self.shared_numbers(line) == line.release.len()
    }

    /// Returns true if both tags name the same version, whatever their variants: `v1.2.3` and
    /// `1.2.3-alpine`.
    pub fn is_same_version_as(&self, other: &TagVersion) -> bool {
        self.release == other.release
            && self.pre_release == other.pre_release
            && self.build == other.build
            && (self.has_release() || self.date == other.date)
    }

    /// Returns a key that tags of the same version share, whatever their variants and spellings:
    /// `v1.2`, `1.2.0` and `1.2-alpine` have the same. The key of a tag without a version is the
    /// tag itself.
    pub fn version_key(&self) -> String {
        if !self.is_version() {
            return self.text.clone();
        }
        let significant = self
            .release
            .iter()
            .rposition(|number| !number.is_zero())
            .map_or(0, |last| last + 1);
        let numbers = |numbers: &[VersionNumber]| -> String {
            numbers
                .iter()
                .map(|number| format!("{}.", number.as_str().trim_start_matches('0')))
                .collect()
        };
        let date = self.date.filter(|_| !self.has_release());
        format!(
            "{} {:?} {} {:?}",
            numbers(&self.release[..significant]),
            self.pre_release,
            numbers(&self.build),
            date.map(|date| date.digits),
        )
    }

    /// Returns true if this tag names a more exact version of what `general` names, so that
    /// `general` moves along with it: `3.21.3` refines `3.21`, `1.27.0-alpine3.24` refines
    /// `1.27.0-alpine`, `3.15.0rc1` refines `3.15-rc`.
    pub fn refines(&self, general: &TagVersion) -> bool {
        let is_within = general.has_release()
            && self.release.starts_with(&general.release)
            && general.variant.is_refined_by(&self.variant)
            && self.build.starts_with(&general.build)
            && general.hash.is_none()
            && general.date.is_none_or(|date| self.date == Some(date));
        let pre_release_fits = match (&general.pre_release[..], &self.pre_release[..]) {
            ([], []) => true,
            ([], _) => self.release.len() > general.release.len(),
            (one, other) => {
                !other.is_empty() && other.get(..1) == one.get(..1) && other.starts_with(one)
            }
        };
        let is_more_exact = self.release.len() > general.release.len()
            || self.pre_release.len() > general.pre_release.len()
            || self.build.len() > general.build.len()
            || self.revision.len() > general.revision.len()
            || self.variant != general.variant;
        is_within && pre_release_fits && is_more_exact && self.text != general.text
    }
}
