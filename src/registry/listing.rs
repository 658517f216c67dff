//! Listings that are read page by page: their limits, and tag listings with push dates.

use std::collections::HashSet;
use std::fmt::Display;

use chrono::{DateTime, TimeZone, Utc};

use super::store::{ListedTag, UntaggedManifest};
use crate::http::Response;
use crate::model::Tag;

/// Maximum size of a page, in bytes. Pages have at most 1,000 tags, but some describe the images
/// too.
pub(super) const MAX_PAGE_BYTES: usize = 8 * 1024 * 1024;

/// Maximum number of tags of one repository.
pub(super) const MAX_TAGS: usize = 1_000_000;

/// Maximum number of pages of a listing. Enough for [`MAX_TAGS`] on a registry with 100 tags a page.
const MAX_PAGES: usize = 10_000;

/// Maximum size of all pages of a listing that is kept, in bytes: [`MAX_TAGS`] of 64 characters.
const MAX_LISTING_BYTES: usize = 64 * 1024 * 1024;

/// Maximum size of all pages of a listing that also describes images, in bytes. Descriptions are
/// not kept.
const MAX_DESCRIPTION_BYTES: usize = 1024 * 1024 * 1024;

/// Limits of a listing, so that any listing ends and fits into memory.
///
/// Limits the number of pages and their total size. Each page that announces another one must have
/// a new entry.
pub(super) struct PageLimits {
    pages: usize,
    bytes: usize,
    max_bytes: usize,
    /// True if the current page has a new entry.
    has_new: bool,
    invalid: usize,
    /// Reason why the first invalid entry was skipped.
    reason: String,
}

impl PageLimits {
    /// Returns the limits of a listing that is kept in memory.
    pub(super) fn new() -> PageLimits {
        PageLimits::of(MAX_LISTING_BYTES)
    }

    fn of(max_bytes: usize) -> PageLimits {
        PageLimits {
            pages: 0,
            bytes: 0,
            max_bytes,
            has_new: false,
            invalid: 0,
            reason: String::new(),
        }
    }

    /// Starts a page. Fails with the reason if it exceeds a limit.
    pub(super) fn begin(&mut self, answer: &Response) -> Result<(), String> {
        // URLs of pages are kept too.
        self.begin_page(answer.body.len() + answer.url.as_str().len())
    }

    fn begin_page(&mut self, bytes: usize) -> Result<(), String> {
        self.pages += 1;
        self.bytes += bytes;
        self.has_new = false;
        if self.pages > MAX_PAGES {
            return Err(format!("there are more than {MAX_PAGES} pages"));
        }
        if self.bytes > self.max_bytes {
            return Err(format!("it has more than {} bytes", self.max_bytes));
        }
        Ok(())
    }

    /// Records a new entry.
    pub(super) fn count_new(&mut self) {
        self.has_new = true;
    }

    /// Records an invalid entry, which is skipped.
    pub(super) fn skip_invalid(&mut self, reason: &dyn Display) {
        self.has_new = true;
        if self.invalid == 0 {
            self.reason = reason.to_string();
        }
        self.invalid += 1;
    }

    /// Returns true if the page has a new or invalid entry.
    pub(super) fn has_new(&self) -> bool {
        self.has_new
    }

    /// Checks that the next page may be read: the current page had a new entry. Fails with the
    /// reason otherwise.
    pub(super) fn check_next(&self) -> Result<(), String> {
        if self.has_new {
            Ok(())
        } else {
            Err("a page without new entries announces another page".to_owned())
        }
    }

    /// Logs the number of invalid entries of `repository`, if there are any.
    pub(super) fn log_invalid(&self, repository: &dyn Display) {
        if self.invalid > 0 {
            tracing::warn!(%repository, count = self.invalid, first = %self.reason, "invalid names in a listing were skipped");
        }
    }
}

/// Earliest plausible year of a push. Databases return earlier dates if they have none.
const MIN_PUSH_YEAR: i32 = 2013;

/// A tag listing with push dates that is being read.
pub(super) struct TagListing {
    tags: Vec<ListedTag>,
    untagged: Vec<UntaggedManifest>,
    names: HashSet<Tag>,
    limits: PageLimits,
}

impl Default for TagListing {
    fn default() -> TagListing {
        TagListing {
            tags: Vec::new(),
            untagged: Vec::new(),
            names: HashSet::new(),
            limits: PageLimits::of(MAX_DESCRIPTION_BYTES),
        }
    }
}

impl TagListing {
    /// Starts a page. Fails with the reason if it exceeds a limit.
    pub(super) fn begin_page(&mut self, answer: &Response) -> Result<(), String> {
        self.limits.begin(answer)
    }

    /// Adds a tag.
    ///
    /// Skips duplicates, since tags move between pages while these are read, and invalid names.
    pub(super) fn add(
        &mut self,
        name: &str,
        pushed_at: Option<DateTime<Utc>>,
        digest: Option<&str>,
    ) {
        match name.parse::<Tag>() {
            Ok(tag) if self.names.insert(tag.clone()) => {
                self.limits.count_new();
                self.tags.push(ListedTag {
                    pushed_at,
                    digest: digest.and_then(|digest| digest.parse().ok()),
                    ..ListedTag::named(tag)
                });
            }
            Ok(_) => {}
            Err(error) => self.limits.skip_invalid(&error),
        }
    }

    /// Records an entry of no interest, which counts as new.
    pub(super) fn skip(&mut self) {
        self.limits.count_new();
    }

    /// Adds a manifest without a tag. Skips an invalid digest.
    pub(super) fn add_untagged(&mut self, digest: &str, pushed_at: Option<DateTime<Utc>>) {
        self.limits.count_new();
        if let Ok(digest) = digest.parse() {
            self.untagged.push(UntaggedManifest { digest, pushed_at });
        }
    }

    /// Returns the manifests without a tag.
    pub(super) fn into_untagged(self) -> Vec<UntaggedManifest> {
        self.untagged
    }

    /// Ends a page of `length` entries; `more` is true if the page announces another one.
    ///
    /// Returns true if the next page is to be read. Fails with the reason if the listing cannot be
    /// complete.
    pub(super) fn end_page(&mut self, length: usize, more: bool) -> Result<bool, String> {
        if self.tags.len().max(self.untagged.len()) > MAX_TAGS {
            return Err(format!("there are more than {MAX_TAGS} tags"));
        }
        match (more, length) {
            (false, _) => Ok(false),
            (true, 0) => Err("an empty page announces another page".to_owned()),
            (true, _) => self.limits.check_next().map(|()| true),
        }
    }

    /// Returns the tags of `repository` in the order of the listing.
    pub(super) fn into_tags(self, repository: &dyn Display) -> Vec<ListedTag> {
        self.limits.log_invalid(repository);
        self.tags
    }
}

/// Parses the time of a push (RFC 3339). Returns `None` if it is invalid or implausible.
pub(super) fn time(text: &str) -> Option<DateTime<Utc>> {
    plausible(DateTime::parse_from_rfc3339(text).ok()?.to_utc())
}

/// Returns the time of a push from seconds since 1970, or `None` if it is implausible.
pub(super) fn unix_time(seconds: i64) -> Option<DateTime<Utc>> {
    plausible(DateTime::from_timestamp(seconds, 0)?)
}

fn plausible(time: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let first = Utc
        .with_ymd_and_hms(MIN_PUSH_YEAR, 1, 1, 0, 0, 0)
        .single()?;
    (time >= first).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn push_times_are_parsed_in_any_precision_and_zone() {
        for (text, expected) in [
            ("2025-03-01T12:34:56Z", Some("2025-03-01T12:34:56+00:00")),
            (
                "2025-03-01T14:34:56.789+02:00",
                Some("2025-03-01T12:34:56.789+00:00"),
            ),
            (
                "2025-03-01T12:34:56.123456789Z",
                Some("2025-03-01T12:34:56.123456789+00:00"),
            ),
            ("2013-01-01T00:00:00Z", Some("2013-01-01T00:00:00+00:00")),
            ("0001-01-01T00:00:00Z", None),
            ("2012-12-31T23:59:59Z", None),
            ("2025-03-01", None),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(
                time(text).map(|time| time.to_rfc3339()).as_deref(),
                expected,
                "{text}"
            );
        }
        assert_eq!(
            unix_time(1_717_680_780)
                .map(|time| time.to_rfc3339())
                .as_deref(),
            Some("2024-06-06T13:33:00+00:00")
        );
        for seconds in [0, -1, i64::MAX, i64::MIN] {
            assert_eq!(unix_time(seconds), None, "{seconds}");
        }
    }

    #[test]
    fn tag_listing_skips_invalid_names_and_duplicates() {
        let mut listing = TagListing::default();
        let digest = format!("sha256:{}", "a".repeat(64));
        for (name, digest) in [
            ("1", Some(digest.as_str())),
            ("no tag", None),
            ("2", Some("sha256:short")),
            ("1", None),
        ] {
            listing.add(name, None, digest);
        }
        let tags = listing.into_tags(&"a repository");
        let listed: Vec<(&str, bool)> = tags
            .iter()
            .map(|listed| (listed.tag.as_str(), listed.digest.is_some()))
            .collect();
        assert_eq!(listed, [("1", true), ("2", false)]);
    }

    #[test]
    fn listings_are_limited_in_pages_and_bytes() {
        let mut listing = TagListing::default();
        assert_eq!(listing.end_page(0, false), Ok(false));
        assert!(listing.end_page(0, true).is_err());
        let mut limits = PageLimits::new();
        let read = (0..).take_while(|_| limits.begin_page(1).is_ok()).count();
        assert_eq!(read, MAX_PAGES);
        let mut limits = PageLimits::new();
        let read = (0..)
            .take_while(|_| limits.begin_page(1024 * 1024).is_ok())
            .count();
        assert_eq!(read, MAX_LISTING_BYTES / 1024 / 1024);
    }

    #[test]
    fn listing_fails_after_a_page_without_new_entries() {
        let mut listing = TagListing::default();
        let mut page = |name: &str, more| {
            listing.limits.begin_page(1).expect("a page");
            listing.add(name, None, None);
            listing.end_page(1, more)
        };
        assert_eq!(page("1", true), Ok(true));
        assert_eq!(page("no tag", true), Ok(true));
        assert_eq!(page("2", true), Ok(true));
        assert_eq!(
            page("1", false),
            Ok(false),
            "duplicates are allowed, since tags move between pages"
        );
        assert_eq!(
            page("2", true),
            Err("a page without new entries announces another page".to_owned())
        );
    }

    #[test]
    fn invalid_entries_are_counted_and_not_kept() {
        let mut limits = PageLimits::new();
        for number in 0..1_000 {
            limits.skip_invalid(&format!("{number} is none"));
        }
        assert_eq!(
            (limits.invalid, limits.reason.as_str()),
            (1_000, "0 is none")
        );
    }

    #[test]
    fn fuzzing_tags_of_listings() {
        let digest = crate::model::Digest::sha256(b"a").to_string();
        crate::model::fuzz_tests::fuzz(
            "tags of listings",
            &[
                "1.0\n2026-11-21T07:00:00Z\n1794000000",
                &digest,
                "-1\n9999-12-31T23:59:60+14:00",
            ],
            |input| {
                let text = crate::model::fuzz_tests::text(input);
                let mut listing = TagListing::default();
                for (number, line) in text.lines().enumerate() {
                    let pushed = time(line).or_else(|| unix_time(line.parse().ok()?));
                    listing.add(line, pushed, Some(line));
                    drop(listing.end_page(number, number % 2 == 0));
                }
                assert!(listing.into_tags(&"a repository").len() <= text.lines().count());
            },
        );
    }
}
