//! Collecting a listing that tells more than names, page by page, from the interfaces that registries have besides the
//! distribution API.

use std::collections::HashSet;

use chrono::{DateTime, TimeZone, Utc};

use super::TagSeen;
use crate::model::Tag;

/// The largest page that is read, in bytes. Pages have at most 1,000 tags, but their images are described too.
pub(super) const LARGEST_PAGE: usize = 8 * 1024 * 1024;

const MOST_PAGES: usize = 2_000;
const MOST_TAGS: usize = 1_000_000;

/// The first year that a push can be of. Earlier dates are those of databases that know none.
const FIRST_YEAR: i32 = 2013;

/// The tags so far.
#[derive(Default)]
pub(super) struct Listing {
    tags: Vec<TagSeen>,
    names: HashSet<String>,
    pages: usize,
}

impl Listing {
    /// Adds a tag. One that was there already, since pages shift while they are read, and one that is no tag are left out.
    pub(super) fn add(&mut self, name: String, pushed_at: Option<DateTime<Utc>>, digest: Option<&str>) {
        match name.parse::<Tag>() {
            _ if self.names.contains(&name) => {}
            Ok(tag) => self.tags.push(TagSeen { tag, pushed_at, digest: digest.and_then(|digest| digest.parse().ok()) }),
            Err(error) => tracing::warn!(%error, "a tag is left out"),
        }
        self.names.insert(name);
    }

    /// Ends a page of `length` entries after which, by what it says, more follow or none. Returns whether to ask for another, or why
    /// the listing cannot be whole.
    pub(super) fn end_page(&mut self, length: usize, more: bool) -> Result<bool, String> {
        self.pages += 1;
        if self.names.len() > MOST_TAGS {
            return Err(format!("there are more than {MOST_TAGS} tags"));
        }
        match (more, length) {
            (false, _) => Ok(false),
            (true, 0) => Err("an empty page says that another follows".to_owned()),
            (true, _) if self.pages >= MOST_PAGES => Err(format!("there are more than {MOST_PAGES} pages")),
            (true, _) => Ok(true),
        }
    }

    /// Returns the tags in the order they came in.
    pub(super) fn into_tags(self) -> Vec<TagSeen> {
        self.tags
    }
}

/// Returns a time of RFC 3339, or `None` when it is none or cannot be that of a push.
pub(super) fn time(text: &str) -> Option<DateTime<Utc>> {
    plausible(DateTime::parse_from_rfc3339(text).ok()?.to_utc())
}

/// Returns a time in seconds since 1970, or `None` when it cannot be that of a push.
pub(super) fn unix_time(seconds: i64) -> Option<DateTime<Utc>> {
    plausible(DateTime::from_timestamp(seconds, 0)?)
}

fn plausible(time: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let first = Utc.with_ymd_and_hms(FIRST_YEAR, 1, 1, 0, 0, 0).single()?;
    (time >= first).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_every_precision_and_zone() {
        for (text, expected) in [
            ("2025-03-01T12:34:56Z", Some("2025-03-01T12:34:56+00:00")),
            ("2025-03-01T14:34:56.789+02:00", Some("2025-03-01T12:34:56.789+00:00")),
            ("2025-03-01T12:34:56.123456789Z", Some("2025-03-01T12:34:56.123456789+00:00")),
            ("2013-01-01T00:00:00Z", Some("2013-01-01T00:00:00+00:00")),
            ("0001-01-01T00:00:00Z", None),
            ("2012-12-31T23:59:59Z", None),
            ("2025-03-01", None),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(time(text).map(|time| time.to_rfc3339()).as_deref(), expected, "{text}");
        }
        assert_eq!(unix_time(1_717_680_780).map(|time| time.to_rfc3339()).as_deref(), Some("2024-06-06T13:33:00+00:00"));
        for seconds in [0, -1, i64::MAX, i64::MIN] {
            assert_eq!(unix_time(seconds), None, "{seconds}");
        }
    }

    #[test]
    fn what_is_no_tag_or_came_before_is_left_out() {
        let mut listing = Listing::default();
        let digest = format!("sha256:{}", "a".repeat(64));
        for (name, digest) in [("1", Some(digest.as_str())), ("no tag", None), ("2", Some("sha256:short")), ("1", None)] {
            listing.add(name.to_owned(), None, digest);
        }
        let tags = listing.into_tags();
        let seen: Vec<(&str, bool)> = tags.iter().map(|seen| (seen.tag.as_str(), seen.digest.is_some())).collect();
        assert_eq!(seen, [("1", true), ("2", false)]);
    }

    #[test]
    fn pages_end_and_are_bounded() {
        let mut listing = Listing::default();
        assert_eq!(listing.end_page(0, false), Ok(false));
        assert!(listing.end_page(0, true).is_err());
        let asked = (0..).take_while(|_| listing.end_page(1, true).is_ok()).count();
        assert!((1_000..MOST_PAGES).contains(&asked), "{asked}");
    }

    #[test]
    fn fuzzing_tags_of_listings() {
        let digest = crate::model::Digest::sha256(b"a").to_string();
        crate::model::fuzz_tests::fuzz(
            "tags of listings",
            &["1.0\n2026-11-21T07:00:00Z\n1794000000", &digest, "-1\n9999-12-31T23:59:60+14:00"],
            |input| {
                let text = crate::model::fuzz_tests::text(input);
                let mut listing = Listing::default();
                for (number, line) in text.lines().enumerate() {
                    let pushed = time(line).or_else(|| unix_time(line.parse().ok()?));
                    listing.add(line.to_owned(), pushed, Some(line));
                    drop(listing.end_page(number, number % 2 == 0));
                }
                assert!(listing.into_tags().len() <= text.lines().count());
            },
        );
    }
}
