//! Whether there is a newer base than the one that is used. Pure.
//!
//! What is built now is current: platform teams keep several lines at once (3.20 and 3.21), and
//! whoever uses the newest image of one of them is up to date. An image that is not built any more
//! is outdated when there is a newer one to move to; that is the one whose version is likest to its
//! own, so that nobody is told to change lines who need not. Where only a registry's tags are
//! known, nobody says which of them are current: then what counts is the line of the tag itself,
//! which is all of its version but the last number.

use super::known::{KnownBase, KnownTag};
use crate::model::{ImageReference, Tag, TagVersion};

/// How a base compares to what is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison<'a> {
    /// What is known of the very tag.
    pub found: Option<&'a KnownTag>,
    /// The newest tag to use in its place, which may be itself.
    pub latest: Option<Tag>,
    /// `None` when that cannot be told.
    pub up_to_date: Option<bool>,
    pub warnings: Vec<String>,
}

/// Returns how `base` compares to what is known of its repository.
pub fn compare<'a>(base: &ImageReference, known: &'a KnownBase) -> Comparison<'a> {
    let named = base
        .tag
        .clone()
        .or_else(|| base.digest.is_none().then(Tag::latest));
    let found = known.tags.iter().find(|tag| match (&named, &base.digest) {
        (Some(named), _) => tag.has_name(named),
        (None, digest) => digest.is_some() && tag.digest == *digest,
    });
    let unknown = |warning: String| Comparison {
        found,
        warnings: vec![warning],
        ..Comparison::default()
    };
    if let Some(found) = found.filter(|found| found.current) {
        return Comparison {
            found: Some(found),
            latest: Some(found.tag.clone()),
            up_to_date: Some(true),
            warnings: Vec::new(),
        };
    }
    let Some(tag) = named.or_else(|| found.map(|found| found.tag.clone())) else {
        return unknown(format!(
            "{base} names a digest without a tag, and it is that of no known tag"
        ));
    };
    let version = TagVersion::of(tag.as_str());
    if !version.is_version() {
        return unknown(format!(
            "the tag `{tag}` is no version, so nothing is newer or older"
        ));
    }
    // What is not known may be newer, or be the very tag.
    if !known.untold.is_empty() {
        return Comparison {
            found,
            warnings: known.untold.clone(),
            ..Comparison::default()
        };
    }
    let is_configured = known.tags.iter().any(|tag| tag.current);
    let latest = if is_configured {
        likest(known, &version)
    } else {
        newest_of_line(known, &version)
    };
    match latest {
        None => unknown(format!(
            "no version of {} is known that `{tag}` could be compared to",
            known.repository
        )),
        Some(latest) if TagVersion::of(latest.as_str()) > version => Comparison {
            found,
            latest: Some(latest.clone()),
            up_to_date: Some(false),
            warnings: Vec::new(),
        },
        Some(latest) => {
            let is_older = latest != &tag;
            let warnings = is_older
                .then(|| format!("`{tag}` is newer than `{latest}`, the newest that is known"));
            Comparison {
                found,
                latest: Some(latest.clone()),
                up_to_date: Some(true),
                warnings: warnings.into_iter().collect(),
            }
        }
    }
}

/// Returns the current tag whose version has most in common with `version`, the newest of several.
fn likest<'a>(known: &'a KnownBase, version: &TagVersion) -> Option<&'a Tag> {
    let current: Vec<&KnownTag> = known.tags.iter().filter(|tag| tag.current).collect();
    let of_flavour: Vec<&KnownTag> = current
        .iter()
        .copied()
        .filter(|tag| tag.version().flavour() == version.flavour())
        .collect();
    let candidates = if of_flavour.is_empty() {
        current
    } else {
        of_flavour
    };
    let best = candidates
        .iter()
        .max_by_key(|tag| (tag.version().shared_numbers(version), tag.version()));
    best.map(|tag| &tag.tag)
}

/// Returns the newest tag of the same line and flavour; a pre-release only where `version` is one.
fn newest_of_line<'a>(known: &'a KnownBase, version: &TagVersion) -> Option<&'a Tag> {
    let fits = |tag: &&KnownTag| {
        let other = tag.version();
        other.is_on_same_line_as(version)
            && other.flavour() == version.flavour()
            && (version.is_pre_release() || !other.is_pre_release())
    };
    known
        .tags
        .iter()
        .filter(fits)
        .max_by_key(|tag| tag.version())
        .map(|tag| &tag.tag)
}

/// Returns the newest tag of a base, of those that are built now where that is known.
pub fn newest<'a>(known: &'a KnownBase, line: Option<&str>) -> Option<&'a Tag> {
    let is_configured = known.tags.iter().any(|tag| tag.current);
    let fits = |tag: &&KnownTag| {
        let version = tag.version();
        (tag.current
            || !is_configured
                && version.is_version()
                && !version.is_pre_release()
                && !is_put_aside(&tag.tag))
            && line.is_none_or(|line| version.is_on_line(line))
    };
    known
        .tags
        .iter()
        .filter(fits)
        .max_by_key(|tag| tag.version())
        .map(|tag| &tag.tag)
}

/// Returns whether a tag has the form of those that `sync` and `cleanup` keep old images under.
fn is_put_aside(tag: &Tag) -> bool {
    let form = |word: &str| {
        let after = tag.as_str().rsplit_once(word).map(|(_, date)| date);
        after.is_some_and(|date| date.len() == 8 && date.bytes().all(|byte| byte.is_ascii_digit()))
    };
    form("-archived.") || form("-replaced.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Digest;
    use crate::model::eol::EolAssessment;

    fn tag(text: &str, current: bool) -> KnownTag {
        KnownTag {
            tag: text.parse().expect("a tag"),
            aliases: Vec::new(),
            current,
            digest: Some(Digest::sha256(text.as_bytes())),
            standing: EolAssessment::UNKNOWN,
        }
    }

    fn base(tags: Vec<KnownTag>) -> KnownBase {
        KnownBase {
            repository: "r.example/bases/x".parse().expect("a repository"),
            tags,
            untold: Vec::new(),
            asked: None,
            users: Vec::new(),
        }
    }

    /// Returns whether it is up to date, the newest, and how many warnings there are.
    fn told(known: &KnownBase, reference: &str) -> (Option<bool>, String, usize) {
        let reference = format!("r.example/bases/x{reference}")
            .parse()
            .expect("a reference");
        let comparison = compare(&reference, known);
        (
            comparison.up_to_date,
            comparison
                .latest
                .map(|tag| tag.to_string())
                .unwrap_or_default(),
            comparison.warnings.len(),
        )
    }

    fn is(up_to_date: bool, latest: &str) -> (Option<bool>, String, usize) {
        (Some(up_to_date), latest.to_owned(), 0)
    }

    #[test]
    fn whoever_uses_the_newest_of_a_line_that_is_built_is_up_to_date() {
        let known = base(vec![
            tag("3.20.6-core1.1.0", true),
            tag("3.21.3-core1.1.0", true),
            tag("3.20.5-core1.0.0", false),
        ]);
        assert_eq!(
            told(&known, ":3.20.6-core1.1.0"),
            is(true, "3.20.6-core1.1.0")
        );
        assert_eq!(
            told(&known, ":3.21.3-core1.1.0"),
            is(true, "3.21.3-core1.1.0")
        );
        assert_eq!(
            told(&known, ":3.20.5-core1.0.0"),
            is(false, "3.20.6-core1.1.0"),
            "of its own line"
        );
        assert_eq!(
            told(&known, ":3.20.6-core1.0.0"),
            is(false, "3.20.6-core1.1.0"),
            "an older core"
        );
        assert_eq!(
            told(&known, ":3.19.1-core1.0.0"),
            is(false, "3.21.3-core1.1.0"),
            "a line that is built no more"
        );
        assert_eq!(told(&known, ":2.7-core1"), is(false, "3.21.3-core1.1.0"));
    }

    #[test]
    fn what_is_newer_than_all_that_is_known_is_not_outdated() {
        let known = base(vec![tag("3.21.3-core1.0.0", true)]);
        assert_eq!(
            told(&known, ":3.21.4-core1.0.0"),
            (Some(true), "3.21.3-core1.0.0".to_owned(), 1)
        );
        assert_eq!(told(&known, ":4.0.0-core1.0.0").0, Some(true));
    }

    #[test]
    fn lines_are_as_wide_as_the_products_versions() {
        let known = base(vec![tag("20.12.0-core1", true), tag("22.1.0-core1", true)]);
        assert_eq!(told(&known, ":20.11.1-core1"), is(false, "20.12.0-core1"));
        assert_eq!(told(&known, ":18.19.0-core1"), is(false, "22.1.0-core1"));
    }

    #[test]
    fn flavours_do_not_replace_one_another() {
        let known = base(vec![
            tag("1.22.9-bookworm-core1", true),
            tag("1.22.4-alpine3.21-core1", true),
        ]);
        assert_eq!(
            told(&known, ":1.22.3-alpine3.20-core1"),
            is(false, "1.22.4-alpine3.21-core1")
        );
        assert_eq!(
            told(&known, ":1.22.3-core1"),
            is(false, "1.22.9-bookworm-core1"),
            "a flavour that is built no more"
        );
    }

    #[test]
    fn aliases_and_digests_name_what_is_built() {
        let floating = KnownTag {
            aliases: vec![Tag::latest()],
            ..tag("3.21.3-core1.0.0", true)
        };
        let known = base(vec![floating, tag("3.21.2-core1.0.0", false)]);
        assert_eq!(told(&known, ":latest"), is(true, "3.21.3-core1.0.0"));
        assert_eq!(told(&known, ""), is(true, "3.21.3-core1.0.0"));
        assert_eq!(
            told(&known, &format!("@{}", Digest::sha256(b"3.21.3-core1.0.0"))),
            is(true, "3.21.3-core1.0.0")
        );
        assert_eq!(
            told(&known, &format!("@{}", Digest::sha256(b"3.21.2-core1.0.0"))),
            is(false, "3.21.3-core1.0.0")
        );
        assert_eq!(
            told(&known, &format!("@{}", Digest::sha256(b""))),
            (None, String::new(), 1)
        );
        assert_eq!(told(&known, ":edge"), (None, String::new(), 1));
    }

    #[test]
    fn without_knowing_what_is_current_only_the_line_of_the_tag_counts() {
        let tags = [
            "3.20.6-core1",
            "3.21.3-core1",
            "3.21.4-core1",
            "3.21.5-rc1-core1",
            "3.21.9-core1-archived.20260101",
            "latest",
            "3.21.7-dev-core1",
        ];
        let known = base(tags.map(|text| tag(text, false)).to_vec());
        assert_eq!(told(&known, ":3.21.3-core1"), is(false, "3.21.4-core1"));
        assert_eq!(told(&known, ":3.21.4-core1"), is(true, "3.21.4-core1"));
        assert_eq!(told(&known, ":3.20.6-core1"), is(true, "3.20.6-core1"));
        assert_eq!(
            told(&known, ":3.19.1-core1").0,
            None,
            "its line has no tags any more"
        );
        assert_eq!(newest(&known, None).map(Tag::as_str), Some("3.21.4-core1"));
        assert_eq!(
            newest(&known, Some("3.20")).map(Tag::as_str),
            Some("3.20.6-core1")
        );
        assert_eq!(newest(&known, Some("3.2")), None);
    }

    #[test]
    fn the_newest_is_one_that_is_built() {
        let known = base(vec![
            tag("3.20.6-core1", true),
            tag("3.21.3-core1", true),
            tag("3.22.0-core1", false),
        ]);
        assert_eq!(newest(&known, None).map(Tag::as_str), Some("3.21.3-core1"));
        assert_eq!(newest(&base(Vec::new()), None), None);
    }
}
