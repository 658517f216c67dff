//! Comparison of a base with the published bases. Pure.
//!
//! Images that are built now are current. Platform teams maintain several lines at once (3.20 and
//! 3.21), and the newest image of any of them is up to date. An image that is no longer built is
//! outdated if there is a newer one: the current image with the closest version, so that no
//! unnecessary change of lines is suggested.
//!
//! The listing of a registry does not show which tags are current. The image is then compared with
//! the tags of its own line, whose versions differ only in the last number.

use super::known_bases::{KnownBase, KnownTag};
use crate::model::{ImageReference, Tag, TagVersion};

/// Result of the comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison<'a> {
    /// Entry of the compared tag; `None` if it is not listed.
    pub found: Option<&'a KnownTag>,
    /// Newest tag to use instead, which can be the tag itself.
    pub latest: Option<Tag>,
    /// `None` if it is unknown.
    pub up_to_date: Option<bool>,
    pub warnings: Vec<String>,
}

/// Compares `base` with the listed tags of its repository.
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
            "{base} has a digest without a tag, and no known tag has this digest"
        ));
    };
    let version = TagVersion::of(tag.as_str());
    if !version.is_version() {
        return unknown(format!(
            "the tag `{tag}` is not a version and cannot be compared"
        ));
    }
    // An unknown tag may be newer, or be the compared tag.
    if !known.unknown_tags.is_empty() {
        return Comparison {
            found,
            warnings: known.unknown_tags.clone(),
            ..Comparison::default()
        };
    }
    let is_configured = known.tags.iter().any(|tag| tag.current);
    let latest = if is_configured {
        closest(known, &version)
    } else {
        newest_of_line(known, &version)
    };
    match latest {
        None => unknown(format!(
            "no known version of {} can be compared with `{tag}`",
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
            let warnings =
                is_older.then(|| format!("`{tag}` is newer than `{latest}`, the newest known tag"));
            Comparison {
                found,
                latest: Some(latest.clone()),
                up_to_date: Some(true),
                warnings: warnings.into_iter().collect(),
            }
        }
    }
}

/// Returns the current tag whose version has the most leading numbers in common with `version`, the
/// newest of several.
fn closest<'a>(known: &'a KnownBase, version: &TagVersion) -> Option<&'a Tag> {
    let current: Vec<&KnownTag> = known.tags.iter().filter(|tag| tag.current).collect();
    let of_flavour: Vec<&KnownTag> = current
        .iter()
        .copied()
        .filter(|tag| is_same_family(&tag.version(), version))
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

/// Returns true if the variants have the same words, whatever the versions of these.
fn is_same_family(one: &TagVersion, other: &TagVersion) -> bool {
    one.variant().is_same_family(other.variant())
}

/// Returns the newest tag of the same line and flavour; a pre-release only if `version` is one.
fn newest_of_line<'a>(known: &'a KnownBase, version: &TagVersion) -> Option<&'a Tag> {
    let fits = |tag: &&KnownTag| {
        let other = tag.version();
        other.is_on_same_line_as(version)
            && is_same_family(&other, version)
            && (version.is_pre_release() || !other.is_pre_release())
    };
    known
        .tags
        .iter()
        .filter(fits)
        .max_by_key(|tag| tag.version())
        .map(|tag| &tag.tag)
}

/// Returns the newest current tag of a base, or the newest of all tags if none is marked as
/// current.
pub fn newest<'a>(known: &'a KnownBase, line: Option<&str>) -> Option<&'a Tag> {
    let is_configured = known.tags.iter().any(|tag| tag.current);
    let fits = |tag: &&KnownTag| {
        let version = tag.version();
        (tag.current
            || !is_configured
                && version.is_version()
                && !version.is_pre_release()
                && !tag.tag.is_former_image())
            && line.is_none_or(|line| version.is_on_line(&TagVersion::of(line)))
    };
    known
        .tags
        .iter()
        .filter(fits)
        .max_by_key(|tag| tag.version())
        .map(|tag| &tag.tag)
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
            assessment: EolAssessment::UNKNOWN,
        }
    }

    fn base(tags: Vec<KnownTag>) -> KnownBase {
        KnownBase {
            repository: "r.example/bases/x".parse().expect("a repository"),
            tags,
            unknown_tags: Vec::new(),
            requested: None,
            users: Vec::new(),
        }
    }

    /// Returns `up_to_date`, the latest tag, and the number of warnings.
    fn compared(known: &KnownBase, reference: &str) -> (Option<bool>, String, usize) {
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
    fn newest_image_of_a_maintained_line_is_up_to_date() {
        let known = base(vec![
            tag("3.20.6-core1.1.0", true),
            tag("3.21.3-core1.1.0", true),
            tag("3.20.5-core1.0.0", false),
        ]);
        assert_eq!(
            compared(&known, ":3.20.6-core1.1.0"),
            is(true, "3.20.6-core1.1.0")
        );
        assert_eq!(
            compared(&known, ":3.21.3-core1.1.0"),
            is(true, "3.21.3-core1.1.0")
        );
        assert_eq!(
            compared(&known, ":3.20.5-core1.0.0"),
            is(false, "3.20.6-core1.1.0"),
            "of its own line"
        );
        assert_eq!(
            compared(&known, ":3.20.6-core1.0.0"),
            is(false, "3.20.6-core1.1.0"),
            "an older core"
        );
        assert_eq!(
            compared(&known, ":3.19.1-core1.0.0"),
            is(false, "3.21.3-core1.1.0"),
            "a line that is no longer built"
        );
        assert_eq!(
            compared(&known, ":2.7-core1"),
            is(false, "3.21.3-core1.1.0")
        );
    }

    #[test]
    fn tag_newer_than_all_known_tags_is_not_outdated() {
        let known = base(vec![tag("3.21.3-core1.0.0", true)]);
        assert_eq!(
            compared(&known, ":3.21.4-core1.0.0"),
            (Some(true), "3.21.3-core1.0.0".to_owned(), 1)
        );
        assert_eq!(compared(&known, ":4.0.0-core1.0.0").0, Some(true));
    }

    #[test]
    fn lines_follow_the_version_scheme_of_the_product() {
        let known = base(vec![tag("20.12.0-core1", true), tag("22.1.0-core1", true)]);
        assert_eq!(
            compared(&known, ":20.11.1-core1"),
            is(false, "20.12.0-core1")
        );
        assert_eq!(
            compared(&known, ":18.19.0-core1"),
            is(false, "22.1.0-core1")
        );
    }

    #[test]
    fn flavours_are_compared_separately() {
        let known = base(vec![
            tag("1.22.9-bookworm-core1", true),
            tag("1.22.4-alpine3.21-core1", true),
        ]);
        assert_eq!(
            compared(&known, ":1.22.3-alpine3.20-core1"),
            is(false, "1.22.4-alpine3.21-core1")
        );
        assert_eq!(
            compared(&known, ":1.22.3-core1"),
            is(false, "1.22.9-bookworm-core1"),
            "a flavour that is no longer built"
        );
    }

    #[test]
    fn aliases_and_digests_match_current_images() {
        let floating = KnownTag {
            aliases: vec![Tag::latest()],
            ..tag("3.21.3-core1.0.0", true)
        };
        let known = base(vec![floating, tag("3.21.2-core1.0.0", false)]);
        assert_eq!(compared(&known, ":latest"), is(true, "3.21.3-core1.0.0"));
        assert_eq!(compared(&known, ""), is(true, "3.21.3-core1.0.0"));
        assert_eq!(
            compared(&known, &format!("@{}", Digest::sha256(b"3.21.3-core1.0.0"))),
            is(true, "3.21.3-core1.0.0")
        );
        assert_eq!(
            compared(&known, &format!("@{}", Digest::sha256(b"3.21.2-core1.0.0"))),
            is(false, "3.21.3-core1.0.0")
        );
        assert_eq!(
            compared(&known, &format!("@{}", Digest::sha256(b""))),
            (None, String::new(), 1)
        );
        assert_eq!(compared(&known, ":edge"), (None, String::new(), 1));
    }

    #[test]
    fn listing_is_compared_within_the_line_of_the_tag() {
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
        assert_eq!(compared(&known, ":3.21.3-core1"), is(false, "3.21.4-core1"));
        assert_eq!(compared(&known, ":3.21.4-core1"), is(true, "3.21.4-core1"));
        assert_eq!(compared(&known, ":3.20.6-core1"), is(true, "3.20.6-core1"));
        assert_eq!(
            compared(&known, ":3.19.1-core1").0,
            None,
            "its line has no tags"
        );
        assert_eq!(newest(&known, None).map(Tag::as_str), Some("3.21.4-core1"));
        assert_eq!(
            newest(&known, Some("3.20")).map(Tag::as_str),
            Some("3.20.6-core1")
        );
        assert_eq!(newest(&known, Some("3.2")), None);
    }

    #[test]
    fn newest_is_a_current_tag() {
        let known = base(vec![
            tag("3.20.6-core1", true),
            tag("3.21.3-core1", true),
            tag("3.22.0-core1", false),
        ]);
        assert_eq!(newest(&known, None).map(Tag::as_str), Some("3.21.3-core1"));
        assert_eq!(newest(&base(Vec::new()), None), None);
    }
}
