//! Reading listings page by page: what bounds each of them, and collecting one that tells more than
//! names, from the interfaces that registries have besides the distribution API.

use std::collections::HashSet;
use std::fmt::Display;

use chrono::{DateTime, TimeZone, Utc};

use super::TagSeen;
use crate::http::Response;
use crate::model::Tag;

/// The largest page that is read, in bytes. Pages have at most 1,000 tags, but their images are
/// described too.
pub(super) const LARGEST_PAGE: usize = 8 * 1024 * 1024;

/// The most tags that are read of one repository.
pub(super) const MOST_TAGS: usize = 1_000_000;

/// The most pages of one listing: as many as the most tags take where a registry gives no more than
/// 100 at once.
const MOST_PAGES: usize = 10_000;

/// How much text a listing may have in all, in bytes: the most tags with 64 characters each.
const MOST_TEXT: usize = 64 * 1024 * 1024;

/// The same for listings that describe images too, which are read and not kept.
const MOST_DESCRIPTIONS: usize = 1024 * 1024 * 1024;

/// Bounds a listing, so that it ends and fits into memory whatever a registry answers: by pages, by
/// text, and by that each page after which another is said to follow has something that was not
/// there before.
pub(super) struct Pages {
    read: usize,
    text: usize,
    most_text: usize,
    /// Whether the page that is being read has something new.
    has_new: bool,
    left_out: usize,
    /// Why the first entry was left out.
    reason: String,
}

impl Pages {
    /// Returns the bounds of a listing of which what is read is kept.
    pub(super) fn new() -> Pages {
        Pages::within(MOST_TEXT)
    }

    fn within(most_text: usize) -> Pages {
        Pages {
            read: 0,
            text: 0,
            most_text,
            has_new: false,
            left_out: 0,
            reason: String::new(),
        }
    }

    /// Begins a page, or says why it is one too many.
    pub(super) fn begin(&mut self, answer: &Response) -> Result<(), String> {
        // Addresses of pages are kept too.
        self.begin_with(answer.body.len() + answer.url.as_str().len())
    }

    fn begin_with(&mut self, text: usize) -> Result<(), String> {
        self.read += 1;
        self.text += text;
        self.has_new = false;
        if self.read > MOST_PAGES {
            return Err(format!("there are more than {MOST_PAGES} pages"));
        }
        if self.text > self.most_text {
            return Err(format!("it has more than {} bytes", self.most_text));
        }
        Ok(())
    }

    /// Notes an entry that was not there before.
    pub(super) fn found(&mut self) {
        self.has_new = true;
    }

    /// Notes an entry that is left out, since it is none.
    pub(super) fn leave_out(&mut self, reason: &dyn Display) {
        self.has_new = true;
        if self.left_out == 0 {
            self.reason = reason.to_string();
        }
        self.left_out += 1;
    }

    /// Returns whether the page has something that was not there before, or was left out.
    pub(super) fn has_new(&self) -> bool {
        self.has_new
    }

    /// Says why another page, which is said to follow, is not to be read.
    pub(super) fn check_next(&self) -> Result<(), String> {
        if self.has_new {
            Ok(())
        } else {
            Err("a page with nothing new says that another follows".to_owned())
        }
    }

    /// Tells how many entries of `place` were left out, if any were.
    pub(super) fn tell_left_out(&self, place: &dyn Display) {
        if self.left_out > 0 {
            tracing::warn!(%place, count = self.left_out, first = %self.reason, "what a listing has that is no name is left out");
        }
    }
}

/// The first year that a push can be of. Earlier dates are those of databases that know none.
const FIRST_YEAR: i32 = 2013;

/// The tags so far.
pub(super) struct Listing {
    tags: Vec<TagSeen>,
    names: HashSet<Tag>,
    pages: Pages,
}

impl Default for Listing {
    fn default() -> Listing {
        Listing {
            tags: Vec::new(),
            names: HashSet::new(),
            pages: Pages::within(MOST_DESCRIPTIONS),
        }
    }
}

impl Listing {
    /// Begins a page, or says why it is one too many.
    pub(super) fn begin_page(&mut self, answer: &Response) -> Result<(), String> {
        self.pages.begin(answer)
    }

    /// Adds a tag. One that was there already, since pages shift while they are read, and one that
    /// is no tag are left out.
    pub(super) fn add(
        &mut self,
        name: &str,
        pushed_at: Option<DateTime<Utc>>,
        digest: Option<&str>,
    ) {
        match name.parse::<Tag>() {
            Ok(tag) if self.names.insert(tag.clone()) => {
                self.pages.found();
                self.tags.push(TagSeen {
                    tag,
                    pushed_at,
                    digest: digest.and_then(|digest| digest.parse().ok()),
                });
            }
            Ok(_) => {}
            Err(error) => self.pages.leave_out(&error),
        }
    }

    /// Notes an entry without a tag, of which nobody knows whether it was there before.
    pub(super) fn pass_over(&mut self) {
        self.pages.found();
    }

    /// Ends a page of `length` entries after which, by what it says, more follow or none. Returns
    /// whether to ask for another, or why the listing cannot be whole.
    pub(super) fn end_page(&mut self, length: usize, more: bool) -> Result<bool, String> {
        if self.tags.len() > MOST_TAGS {
            return Err(format!("there are more than {MOST_TAGS} tags"));
        }
        match (more, length) {
            (false, _) => Ok(false),
            (true, 0) => Err("an empty page says that another follows".to_owned()),
            (true, _) => self.pages.check_next().map(|()| true),
        }
    }

    /// Returns the tags of `place` in the order they came in.
    pub(super) fn into_tags(self, place: &dyn Display) -> Vec<TagSeen> {
        self.pages.tell_left_out(place);
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
    fn what_is_no_tag_or_came_before_is_left_out() {
        let mut listing = Listing::default();
        let digest = format!("sha256:{}", "a".repeat(64));
        for (name, digest) in [
            ("1", Some(digest.as_str())),
            ("no tag", None),
            ("2", Some("sha256:short")),
            ("1", None),
        ] {
            listing.add(name, None, digest);
        }
        let tags = listing.into_tags(&"a place");
        let seen: Vec<(&str, bool)> = tags
            .iter()
            .map(|seen| (seen.tag.as_str(), seen.digest.is_some()))
            .collect();
        assert_eq!(seen, [("1", true), ("2", false)]);
    }

    #[test]
    fn pages_end_and_are_bounded() {
        let mut listing = Listing::default();
        assert_eq!(listing.end_page(0, false), Ok(false));
        assert!(listing.end_page(0, true).is_err());
        let mut pages = Pages::new();
        let read = (0..).take_while(|_| pages.begin_with(1).is_ok()).count();
        assert_eq!(read, MOST_PAGES);
        let mut pages = Pages::new();
        let read = (0..)
            .take_while(|_| pages.begin_with(1024 * 1024).is_ok())
            .count();
        assert_eq!(read, MOST_TEXT / 1024 / 1024);
    }

    #[test]
    fn a_page_with_nothing_new_is_the_last_one() {
        let mut listing = Listing::default();
        let mut page = |name: &str, more| {
            listing.pages.begin_with(1).expect("a page");
            listing.add(name, None, None);
            listing.end_page(1, more)
        };
        assert_eq!(page("1", true), Ok(true));
        assert_eq!(page("no tag", true), Ok(true));
        assert_eq!(page("2", true), Ok(true));
        assert_eq!(
            page("1", false),
            Ok(false),
            "what came before may come again, since pages shift"
        );
        assert_eq!(
            page("2", true),
            Err("a page with nothing new says that another follows".to_owned())
        );
    }

    #[test]
    fn what_is_left_out_is_counted_and_not_kept() {
        let mut pages = Pages::new();
        for number in 0..1_000 {
            pages.leave_out(&format!("{number} is none"));
        }
        assert_eq!(
            (pages.left_out, pages.reason.as_str()),
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
                let mut listing = Listing::default();
                for (number, line) in text.lines().enumerate() {
                    let pushed = time(line).or_else(|| unix_time(line.parse().ok()?));
                    listing.add(line, pushed, Some(line));
                    drop(listing.end_page(number, number % 2 == 0));
                }
                assert!(listing.into_tags(&"a place").len() <= text.lines().count());
            },
        );
    }
}
