//! Comparison of a base with the published bases. Pure.
//!
//! Images that are built now are current. Platform teams maintain several lines at once (3.20 and
//! 3.21), and the newest image of any of them is up to date. An image that is no longer built is
//! outdated if there is a newer one: the current image with the closest version, so that no
//! unnecessary change of lines is suggested. A line whose support has ended is suggested only if no
//! supported line is built.
//!
//! The listing of a registry does not show which tags are current. The image is then compared with
//! the tags of its own line and variant.

use super::known_bases::{KnownBase, KnownTag};
use crate::model::eol::EolStatus;
use crate::model::tag::Variant;
use crate::model::{ImageReference, Tag, TagList, TagVersion};

/// Word before the version of the core in the tags of bases: `3.21.3-core1.0.0`. It is no variant.
const CORE_WORD: &str = "core";

/// Maximum number of leading numbers that a release line has.
const MAX_LINE_NUMBERS: usize = 2;

/// Result of the comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison<'a> {
    /// Entry of the compared tag; `None` if it is not listed.
    pub found: Option<&'a KnownTag>,
    /// Newest tag to use instead, which can be the tag itself.
    pub latest: Option<Tag>,
    /// Newer tag of the same variant with another version of it: `1.27.0-alpine3.24` of
    /// `1.26.7-alpine3.21`, if there is no newer tag of the variant itself.
    pub moved_variant: Option<Tag>,
    /// Built tag of the next line with support, if the support of the compared image has ended.
    pub supported: Option<Tag>,
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
            supported: next_supported(known, found, &found.version()),
            up_to_date: Some(true),
            ..Comparison::default()
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
    let comparison = if is_configured {
        with_configured(known, &version)
    } else {
        with_listing(known, &version)
    };
    let Some(comparison) = comparison else {
        return unknown(format!(
            "no known version of {} can be compared with `{tag}`",
            known.repository
        ));
    };
    Comparison {
        found,
        ..comparison
    }
}

/// Compares a tag with the images that are built now.
fn with_configured<'a>(known: &'a KnownBase, version: &TagVersion) -> Option<Comparison<'a>> {
    let closest = closest(known, version)?;
    let supported = next_supported(known, closest, version);
    let latest = supported
        .as_ref()
        .filter(|tag| TagVersion::of(tag.as_str()).is_at_least(version))
        .unwrap_or(&closest.tag);
    let built = TagVersion::of(latest.as_str());
    let is_same_tag = built.as_str() == version.as_str();
    // Another tag of the same version is built now: with another variant or another core.
    let is_replaced = built.is_at_least(version)
        && !is_same_tag
        && (built > *version || !is_same_family(&built, version));
    let warning = || {
        format!(
            "`{}` is newer than `{latest}`, the newest known tag",
            version.as_str()
        )
    };
    Some(Comparison {
        latest: Some(latest.clone()),
        up_to_date: Some(!is_replaced),
        warnings: (!is_replaced && !is_same_tag)
            .then(warning)
            .into_iter()
            .collect(),
        supported,
        ..Comparison::default()
    })
}

/// Returns the current tag whose version has the most leading numbers in common with `version`, the
/// newest of several.
fn closest<'a>(known: &'a KnownBase, version: &TagVersion) -> Option<&'a KnownTag> {
    let current: Vec<&KnownTag> = known.tags.iter().filter(|tag| tag.current).collect();
    let of_family: Vec<&KnownTag> = current
        .iter()
        .copied()
        .filter(|tag| is_same_family(&tag.version(), version))
        .collect();
    let candidates = if of_family.is_empty() {
        current
    } else {
        of_family
    };
    candidates
        .into_iter()
        .max_by_key(|tag| (tag.version().shared_numbers(version), tag.version()))
}

/// Returns the current tag of the next line with support after `version`, or else of the newest such
/// line. `None` if the support of `tag` has not ended.
fn next_supported(known: &KnownBase, tag: &KnownTag, version: &TagVersion) -> Option<Tag> {
    if !has_ended(tag) {
        return None;
    }
    let supported: Vec<&KnownTag> = known
        .tags
        .iter()
        .filter(|other| other.current && !has_ended(other))
        .collect();
    let of_family: Vec<&KnownTag> = supported
        .iter()
        .copied()
        .filter(|other| is_same_family(&other.version(), version))
        .collect();
    let candidates = if of_family.is_empty() {
        supported
    } else {
        of_family
    };
    let line = |tag: &KnownTag| tag.version().release_line();
    let next_line = candidates
        .iter()
        .filter(|other| other.version().is_at_least(version))
        .map(|other| line(other))
        .min();
    candidates
        .iter()
        .filter(|other| next_line.is_none() || Some(line(other)) == next_line)
        .max_by_key(|other| other.version())
        .map(|other| other.tag.clone())
}

/// Returns true if the support of an image has ended.
pub(super) fn has_ended(tag: &KnownTag) -> bool {
    tag.assessment.status == EolStatus::Expired
}

/// Returns the variant of a tag without the version of the core.
pub(super) fn variant(version: &TagVersion) -> Variant {
    version.variant().without(CORE_WORD)
}

/// Returns true if the variants have the same words, whatever the versions of these.
fn is_same_family(one: &TagVersion, other: &TagVersion) -> bool {
    variant(one).is_same_family(&variant(other))
}

/// Compares a tag with the tags of its line at the registry.
fn with_listing<'a>(known: &'a KnownBase, version: &TagVersion) -> Option<Comparison<'a>> {
    let list = TagList::of(known.tags.iter().map(|tag| tag.tag.as_str()));
    let candidates: Vec<(TagVersion, &Tag)> = known
        .tags
        .iter()
        .filter(|tag| !tag.tag.is_former_image())
        .map(|tag| (tag.version(), &tag.tag))
        .filter(|(other, _)| is_on_line(other, version))
        .filter(|(other, _)| version.is_pre_release() || !list.is_pre_release(other))
        .filter(|(other, _)| version.is_development() == other.is_development())
        .filter(|(other, _)| !other.refines(version))
        .collect();
    let newest_of = |fits: &dyn Fn(&TagVersion) -> bool| {
        candidates
            .iter()
            .filter(|(other, _)| fits(other))
            .max_by(|(one, _), (other, _)| one.cmp(other))
    };
    // A tag that moves along with its line never has to be replaced.
    let is_moving = version.release().len() <= MAX_LINE_NUMBERS
        && list
            .refinements(version)
            .any(|other| other.release().len() > version.release().len());
    let own = candidates
        .iter()
        .find(|(other, _)| other.as_str() == version.as_str());
    let same = match own.filter(|_| is_moving) {
        Some(own) => Some(own),
        None => {
            newest_of(&|other| variant(other) == variant(version) && is_as_exact(other, version))
        }
    };
    let moved = newest_of(&|other| {
        is_same_family(other, version)
            && variant(other) != variant(version)
            && is_as_exact(other, version)
    });
    let moved_variant = moved
        .filter(|(other, _)| {
            let newest = same.map_or(version, |(newest, _)| newest).max(version);
            version.has_release()
                && !version.is_pre_release()
                && !newest.is_at_least(other)
                && !is_moving
        })
        .map(|(_, tag)| (*tag).clone());
    let Some((newest, latest)) = same else {
        return moved_variant.map(|moved| Comparison {
            moved_variant: Some(moved),
            ..Comparison::default()
        });
    };
    let is_outdated = newest > version;
    let is_unlisted = newest < version;
    Some(Comparison {
        latest: Some((*latest).clone()),
        moved_variant,
        up_to_date: Some(!is_outdated),
        warnings: is_unlisted
            .then(|| {
                format!(
                    "`{}` is newer than `{latest}`, the newest known tag",
                    version.as_str()
                )
            })
            .into_iter()
            .collect(),
        ..Comparison::default()
    })
}

/// Returns true if `other` is on the release line of `version`: the first two numbers, or one fewer
/// than `version` has. Dates are one line.
fn is_on_line(other: &TagVersion, version: &TagVersion) -> bool {
    if !version.has_release() {
        let is_suite = version.is_pre_release() && other.as_str() != version.as_str();
        return !other.has_release() && other.date().is_some() && !is_suite;
    }
    // `26.04` and `26.10` are different releases of a calendar.
    let is_calendar = version
        .release()
        .get(1)
        .is_some_and(|month| month.is_padded());
    let numbers = match version.release().len() {
        MAX_LINE_NUMBERS if is_calendar => MAX_LINE_NUMBERS,
        length => length.saturating_sub(1).clamp(1, MAX_LINE_NUMBERS),
    };
    other.shared_numbers(version) >= numbers
}

/// Returns true if both tags name a version equally exactly, so that a base is not moved from
/// `3.21.3` to `3.22` or from a build to a version.
fn is_as_exact(other: &TagVersion, version: &TagVersion) -> bool {
    other.release().len() == version.release().len()
        && other.has_v() == version.has_v()
        && other.build().len() == version.build().len()
        && other.date().is_some() == version.date().is_some()
        && other.hash().is_some() == version.hash().is_some()
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
    }

    fn ended(text: &str) -> KnownTag {
        KnownTag {
            assessment: EolAssessment {
                status: EolStatus::Expired,
                ..EolAssessment::UNKNOWN
            },
            ..tag(text, true)
        }
    }

    #[test]
    fn line_without_support_is_not_suggested() {
        let known = base(vec![
            ended("25.9.0-core1.4.0"),
            tag("24.19.0-core1.4.0", true),
        ]);
        assert_eq!(
            compared(&known, ":23.1.0-core1.3.0"),
            is(false, "24.19.0-core1.4.0")
        );
        let known = base(vec![
            ended("3.21.7-core1.4.0"),
            tag("3.22.5-core1.4.0", true),
            tag("3.23.5-core1.4.0", true),
        ]);
        assert_eq!(
            compared(&known, ":3.21.6-core1.3.0"),
            is(false, "3.22.5-core1.4.0"),
            "the next line"
        );
        let supported = |known: &KnownBase, reference: &str| {
            let reference = format!("r.example/bases/x:{reference}")
                .parse()
                .expect("a reference");
            compare(&reference, known)
                .supported
                .map(|tag| tag.to_string())
        };
        assert_eq!(
            supported(&known, "3.21.7-core1.4.0").as_deref(),
            Some("3.22.5-core1.4.0"),
            "the next line"
        );
        assert_eq!(supported(&known, "3.22.5-core1.4.0"), None);
        let known = base(vec![ended("25.9.0-core1"), tag("24.19.0-core1", true)]);
        assert_eq!(
            supported(&known, "25.9.0-core1").as_deref(),
            Some("24.19.0-core1"),
            "the only line"
        );
        assert_eq!(
            supported(&base(vec![ended("3.21.7-core1")]), "3.21.7-core1"),
            None
        );
    }

    #[test]
    fn configured_base_is_outdated_when_its_line_is_built_with_another_variant_or_core() {
        let known = base(vec![
            tag("1.22.4-alpine3.22-core1.4.0", true),
            tag("1.22.4-slim-core1.4.0", true),
        ]);
        for (tag, expected) in [
            (
                "1.22.4-alpine3.21-core1.4.0",
                is(false, "1.22.4-alpine3.22-core1.4.0"),
            ),
            (
                "1.22.4-alpine3.22-core1.3.0",
                is(false, "1.22.4-alpine3.22-core1.4.0"),
            ),
            ("1.22.4-slim-core1.3.9", is(false, "1.22.4-slim-core1.4.0")),
            (
                "1.22.4-alpine3.22-core1.4.0",
                is(true, "1.22.4-alpine3.22-core1.4.0"),
            ),
            (
                "1.22.4-bookworm-core1.4.0",
                is(false, "1.22.4-slim-core1.4.0"),
            ),
        ] {
            assert_eq!(compared(&known, &format!(":{tag}")), expected, "{tag}");
        }
        let (up_to_date, _, warnings) = compared(&known, ":1.22.4-slim-core1.5.0");
        assert_eq!((up_to_date, warnings), (Some(true), 1), "a newer core");
    }

    /// Listed tags, the base, its proposal and the tag that its variant moved on to.
    #[test]
    fn listing_proposes_exactly_the_same_variant() {
        let gradle = "9.7.1-jdk17 9.7.1-jdk21 9.7.1-jdk25 9.7.1-jdk26 9.7.1-jdk 9.7.0-jdk17";
        let golang = "1.27.0 1.27.0-bookworm 1.27.0-alpine 1.27.0-alpine3.24 1.27.0-windowsservercore-ltsc2022 1.27.0-windowsservercore-ltsc2025";
        for (tags, reference, expected, moved) in [
            (gradle, "9.7.1-jdk17", is(true, "9.7.1-jdk17"), None),
            (gradle, "9.7.1-jdk25", is(true, "9.7.1-jdk25"), None),
            (gradle, "9.7.0-jdk17", is(false, "9.7.1-jdk17"), None),
            (
                gradle,
                "9.7.0-jdk20",
                (None, String::new(), 0),
                Some("9.7.1-jdk"),
            ),
            (
                golang,
                "1.27.0-windowsservercore-ltsc2022",
                is(true, "1.27.0-windowsservercore-ltsc2022"),
                None,
            ),
            (golang, "1.27.0-alpine", is(true, "1.27.0-alpine"), None),
            (
                "8.4.2-fpm 8.4.3-fpm 8.4.3",
                "8.4.2-fpm",
                is(false, "8.4.3-fpm"),
                None,
            ),
            (
                "7.1.0-php8.2-fpm 7.1.0-php8.5-fpm",
                "7.1.0-php8.2-fpm",
                is(true, "7.1.0-php8.2-fpm"),
                None,
            ),
            (
                "1.12-alpine 1.15-alpine-perl 1.13-alpine",
                "1.12-alpine",
                is(false, "1.13-alpine"),
                None,
            ),
            (
                "8u492-b09-jdk 8u502-b07-jdk 8-jdk",
                "8u492-b09-jdk",
                is(false, "8u502-b07-jdk"),
                None,
            ),
            (
                "21.0.5_9-jre 21.0.5_11-jre 21.0.8_9-jdk",
                "21.0.5_9-jre",
                is(false, "21.0.5_11-jre"),
                None,
            ),
            (
                "3.14.6-slim 3.14.7-slim 3.15.0rc1-slim 3.14-slim",
                "3.14.6-slim",
                is(false, "3.14.7-slim"),
                None,
            ),
            (
                "13.0.0-ubi 13.0.1-ubi-rc",
                "13.0.0-ubi",
                is(true, "13.0.0-ubi"),
                None,
            ),
            (
                "26.7.5.10-jammy 26.7.6.2-jammy",
                "26.7.5.10-jammy",
                is(false, "26.7.6.2-jammy"),
                None,
            ),
            (
                "enterprise-7.6.9 enterprise-7.6.12 7.6.12",
                "enterprise-7.6.9",
                is(false, "enterprise-7.6.12"),
                None,
            ),
            (
                "bookworm-20260701-slim bookworm-20260803-slim trixie-20260803-slim",
                "bookworm-20260701-slim",
                is(false, "bookworm-20260803-slim"),
                None,
            ),
            ("3 3.24 3.24.1 3.23 3.23.5", "3.23", is(true, "3.23"), None),
            (
                "24.3.4 24.3.4.17 24.3.5 24.3.5.1",
                "24.3.4",
                is(false, "24.3.5"),
                None,
            ),
            ("26.04 26.10", "26.04", is(true, "26.04"), None),
            ("3 3.24 3.24.1", "3", is(true, "3"), None),
            ("15.4 15.10 16.1 15", "15.4", is(false, "15.10"), None),
            (
                "1.26.6-alpine3.21 1.26.7-alpine3.22 1.26.7-alpine3.23",
                "1.26.6-alpine3.21",
                is(true, "1.26.6-alpine3.21"),
                Some("1.26.7-alpine3.23"),
            ),
            (
                "1.26.6-alpine3.22 1.26.7-alpine3.22 1.26.7-alpine3.23",
                "1.26.6-alpine3.22",
                is(false, "1.26.7-alpine3.22"),
                None,
            ),
        ] {
            let tags: Vec<KnownTag> = tags
                .split_whitespace()
                .map(|text| tag(text, false))
                .collect();
            let known = base(tags);
            assert_eq!(
                compared(&known, &format!(":{reference}")),
                expected,
                "{reference}"
            );
            let parsed = format!("r.example/bases/x:{reference}")
                .parse()
                .expect("a reference");
            let found = compare(&parsed, &known)
                .moved_variant
                .map(|tag| tag.to_string());
            assert_eq!(found.as_deref(), moved, "{reference}");
        }
    }
}
