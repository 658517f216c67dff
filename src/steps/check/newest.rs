//! The newest image of a base, for `latest`.

use chrono::{DateTime, Datelike, Utc};
use thiserror::Error;

use super::compare::{has_ended, variant};
use super::known_bases::{KnownBase, KnownBases, KnownTag};
use crate::model::tag::VersionNumber;
use crate::model::{ImageReference, Repository, Tag, TagList, TagVersion};

/// Age from which a calendar version is not the newest next to other versions: the publisher has
/// changed to another scheme.
const MAX_CALENDAR_AGE_YEARS: i64 = 2;

/// First number from which a version is a build number, next to versions below it.
const MIN_BUILD_NUMBER: u64 = 1000;

/// Maximum number of variants that a message lists.
const MAX_LISTED_VARIANTS: usize = 10;

/// Versions that `latest` considers.
#[derive(Clone, Copy, Debug)]
pub struct LatestRequest<'a> {
    /// Repository, or its last path component.
    pub name: &'a str,
    /// Release line.
    pub line: Option<&'a str>,
    /// Variant, such as `slim` or `alpine3.21`; empty for tags without a variant.
    pub variant: Option<&'a str>,
    pub now: DateTime<Utc>,
}

/// Newest image of a base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LatestImage {
    pub image: ImageReference,
    pub warnings: Vec<String>,
}

/// Reason why the newest image of a base cannot be determined.
#[derive(Debug, Error)]
pub enum LatestError {
    #[error("there is no base `{name}`")]
    NoBase { name: String, known: Vec<String> },
    #[error("`{name}` is the name of several bases")]
    Several { name: String, known: Vec<String> },
    #[error("{repository} has no version{}{}",
        .line.as_ref().map(|line| format!(" of the line {line}")).unwrap_or_default(),
        .variant.as_ref().map(|variant| format!(" of the variant `{variant}`")).unwrap_or_default())]
    NoVersion {
        repository: Repository,
        line: Option<String>,
        variant: Option<String>,
        /// Variants that the base has.
        variants: Vec<String>,
    },
    #[error("{repository} has several variants, and none without a name: {}", .variants.join(", "))]
    SeveralVariants {
        repository: Repository,
        variants: Vec<String>,
    },
    #[error("the newest version of {repository} is unknown: {reason}")]
    Unknown {
        repository: Repository,
        reason: String,
    },
}

impl LatestError {
    /// Returns what the user can do; `None` if there is no suggestion.
    pub fn hint(&self) -> Option<String> {
        match self {
            LatestError::NoBase { known, .. } | LatestError::Several { known, .. }
                if !known.is_empty() =>
            {
                Some(format!("use one of {}", known.join(", ")))
            }
            LatestError::Unknown { repository, .. } => Some(format!(
                "run `imglife latest {repository} --probe` to list the tags at the registry"
            )),
            LatestError::SeveralVariants { variants, .. }
            | LatestError::NoVersion { variants, .. } => {
                let example = variants.first()?;
                Some(format!("select a variant with `--variant {example}`"))
            }
            _ => None,
        }
    }
}

/// Returns the newest image of a base.
pub fn latest(known: &KnownBases, request: &LatestRequest<'_>) -> Result<LatestImage, LatestError> {
    let name = request.name;
    let repository: Option<Repository> = name.parse().ok();
    let has_name = |base: &&KnownBase| {
        let text = base.repository.to_string();
        Some(&base.repository) == repository.as_ref() || text.rsplit('/').next() == Some(name)
    };
    let found: Vec<&KnownBase> = known.bases.iter().filter(has_name).collect();
    let names = |bases: &mut dyn Iterator<Item = &KnownBase>| {
        bases.map(|base| base.repository.to_string()).collect()
    };
    match found.as_slice() {
        [] => Err(LatestError::NoBase {
            name: name.to_owned(),
            known: names(&mut known.bases.iter()),
        }),
        [base] => newest(base, request),
        several => Err(LatestError::Several {
            name: name.to_owned(),
            known: names(&mut several.iter().copied()),
        }),
    }
}

/// Returns the newest current image of a base, or the newest of all if none is marked as current.
fn newest(known: &KnownBase, request: &LatestRequest<'_>) -> Result<LatestImage, LatestError> {
    let is_configured = known.tags.iter().any(|tag| tag.current);
    let line = request.line.map(TagVersion::of);
    let is_on_line = |version: &TagVersion| match &line {
        None => true,
        Some(line) if line.has_release() => version.is_on_line(line),
        // A line without numbers is a code name: `noble`.
        Some(line) => version.variant().words().next() == line.variant().words().next(),
    };
    let list = TagList::of(known.tags.iter().map(|tag| tag.tag.as_str()));
    let mut candidates: Vec<(TagVersion, &KnownTag)> = known
        .tags
        .iter()
        .map(|tag| (tag.version(), tag))
        .filter(|(version, tag)| {
            tag.current
                || (!is_configured
                    && version.is_version()
                    && !list.is_pre_release(version)
                    && !tag.tag.is_former_image())
        })
        .filter(|(version, _)| is_on_line(version))
        .collect();
    if candidates.iter().any(|(version, _)| version.has_release()) {
        candidates.retain(|(version, tag)| version.has_release() || tag.current);
    }
    let variants = variants(&candidates);
    if let Some(name) = request.variant {
        candidates.retain(|(version, _)| variant(version).is_named(name));
    } else if !is_configured && variants.len() > 1 {
        let has_plain = candidates
            .iter()
            .any(|(version, _)| variant(version).is_empty());
        if !has_plain {
            return Err(LatestError::SeveralVariants {
                repository: known.repository.clone(),
                variants,
            });
        }
        candidates.retain(|(version, _)| variant(version).is_empty());
    }
    let mut warnings = Vec::new();
    if line.is_none() {
        if candidates.iter().any(|(_, tag)| !has_ended(tag)) {
            candidates.retain(|(_, tag)| !has_ended(tag));
        }
        if !is_configured {
            warnings.extend(drop_other_schemes(&mut candidates, request.now));
        }
    }
    let newest = candidates
        .into_iter()
        .max_by(|(one, _), (other, _)| one.cmp(other));
    let Some((_, newest)) = newest else {
        return Err(match known.unknown_tags.as_slice() {
            [] => LatestError::NoVersion {
                repository: known.repository.clone(),
                line: request.line.map(str::to_owned),
                variant: request.variant.map(str::to_owned),
                variants: if request.variant.is_some() {
                    variants
                } else {
                    Vec::new()
                },
            },
            reasons => LatestError::Unknown {
                repository: known.repository.clone(),
                reason: reasons.join("; "),
            },
        });
    };
    if has_ended(newest) {
        warnings.push(format!("the support of {} has ended", newest.tag));
    }
    Ok(LatestImage {
        image: ImageReference::tagged(known.repository.clone(), newest.tag.clone()),
        warnings,
    })
}

/// Returns the names of the variants, those of the newest tags first.
fn variants(candidates: &[(TagVersion, &KnownTag)]) -> Vec<String> {
    let mut sorted: Vec<&TagVersion> = candidates.iter().map(|(version, _)| version).collect();
    sorted.sort_by(|one, other| other.cmp(one));
    let mut names: Vec<String> = Vec::new();
    for version in sorted {
        let name = variant(version).to_string();
        if !name.is_empty() && !names.contains(&name) && names.len() < MAX_LISTED_VARIANTS {
            names.push(name);
        }
    }
    names
}

/// Removes versions of a scheme that is not that of the newest release, and returns a warning for
/// each: calendar versions that are in the future or years old, and build numbers, next to other
/// versions.
fn drop_other_schemes(
    candidates: &mut Vec<(TagVersion, &KnownTag)>,
    now: DateTime<Utc>,
) -> Vec<String> {
    let month = |year: i64, month: i64| year * 12 + month;
    let today = month(i64::from(now.year()), i64::from(now.month()));
    let has_padded_months = candidates.iter().any(|(version, _)| {
        let numbers = version.release();
        numbers.first().is_some_and(|year| year.as_str().len() == 2)
            && numbers.get(1).is_some_and(VersionNumber::is_padded)
    });
    let is_other = |version: &TagVersion| match first_numbers(version, has_padded_months) {
        Some((year, calendar_month)) if calendar_month > 0 => {
            let age = today - month(year, calendar_month);
            !(0..=12 * MAX_CALENDAR_AGE_YEARS).contains(&age)
        }
        Some((number, _)) => u64::try_from(number).is_ok_and(|number| number >= MIN_BUILD_NUMBER),
        None => false,
    };
    if candidates.iter().all(|(version, _)| is_other(version)) {
        return Vec::new();
    }
    let newest = |candidates: &[(TagVersion, &KnownTag)]| -> Option<Tag> {
        let newest = candidates
            .iter()
            .max_by(|(one, _), (other, _)| one.cmp(other));
        newest.map(|(_, tag)| tag.tag.clone())
    };
    let greatest = newest(candidates);
    candidates.retain(|(version, _)| !is_other(version));
    let chosen = newest(candidates);
    let (Some(greatest), Some(chosen)) = (greatest, chosen) else {
        return Vec::new();
    };
    if greatest == chosen {
        return Vec::new();
    }
    let line = TagVersion::of(greatest.as_str())
        .release_prefix(1)
        .unwrap_or_default();
    vec![format!(
        "ignored {greatest}, which is not released yet or has another version scheme than {chosen}; pass `--line {line}` to select it"
    )]
}

/// Returns the year and month of a calendar version, or its first number and 0 for a number that is
/// too large for a release. `None` for all other versions.
///
/// Calendar versions are `2021.11.28` and `20.04`: a year, and a month with a leading zero after a
/// year of two digits. Where such months are listed, `20.10` is one too.
fn first_numbers(version: &TagVersion, has_padded_months: bool) -> Option<(i64, i64)> {
    let first = version.release().first()?;
    let number = i64::try_from(first.value()?).ok()?;
    let month = version.release().get(1);
    let month_number = month
        .and_then(|month| i64::try_from(month.value()?).ok())
        .filter(|month| (1..=12).contains(month));
    match (number, month_number) {
        (1990..=2100, Some(calendar_month)) if version.release().len() <= 3 => {
            Some((number, calendar_month))
        }
        (10..=99, Some(calendar_month))
            if month.is_some_and(VersionNumber::is_padded)
                || (has_padded_months && calendar_month > 9 && version.release().len() == 2) =>
        {
            Some((2000 + number, calendar_month))
        }
        (1990..=2100, _) => None,
        (number, _) if number >= 1000 => Some((number, 0)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone;

    use super::*;
    use crate::model::eol::{EolAssessment, EolStatus};
    use crate::steps::check::BaseSource;

    fn known(tags: &str) -> KnownBases {
        let tag = |text: &str| {
            let (text, marks) = text.split_once('!').unwrap_or((text, ""));
            KnownTag {
                tag: text.parse().expect("a tag"),
                aliases: Vec::new(),
                current: marks.contains("current"),
                digest: None,
                assessment: EolAssessment {
                    status: if marks.contains("ended") {
                        EolStatus::Expired
                    } else {
                        EolStatus::Unknown
                    },
                    ..EolAssessment::UNKNOWN
                },
            }
        };
        KnownBases {
            source: BaseSource::Registry,
            bases: vec![KnownBase {
                repository: "r.example/bases/x".parse().expect("a repository"),
                tags: tags.split_whitespace().map(tag).collect(),
                unknown_tags: Vec::new(),
                requested: None,
                users: Vec::new(),
            }],
            warnings: Vec::new(),
        }
    }

    fn found(tags: &str, line: Option<&str>, variant: Option<&str>) -> String {
        let request = LatestRequest {
            name: "x",
            line,
            variant,
            now: Utc
                .with_ymd_and_hms(2026, 8, 20, 12, 0, 0)
                .single()
                .expect("a time"),
        };
        match latest(&known(tags), &request) {
            Ok(found) => {
                let tag = found.image.tag.map(|tag| tag.to_string());
                format!(
                    "{}{}",
                    tag.unwrap_or_default(),
                    if found.warnings.is_empty() {
                        ""
                    } else {
                        " (warning)"
                    }
                )
            }
            Err(error) => format!("error: {error}"),
        }
    }

    #[test]
    fn newest_listed_release_has_no_variant_if_there_is_one() {
        for (tags, expected) in [
            ("20260805 edge 3.24.1 3.24 3.23.5 latest", "3.24.1"),
            ("12.3.2-noble 12.3.2 13.0.1-rc 13.0.1-ubi-rc", "12.3.2"),
            (
                "1.27.0 1.27.0-alpine 1.27.0-windowsservercore-ltsc2025",
                "1.27.0",
            ),
            ("9.7.1-jdk25", "9.7.1-jdk25"),
            (
                "9.7.1-jdk21 9.7.1-jdk25 9.7.1-jdk",
                "error: r.example/bases/x has several variants, and none without a name: jdk, jdk25, jdk21",
            ),
            ("24.04 26.04 26.10", "26.04 (warning)"),
            ("2.4.15 2.6.1 2021.11.28", "2.6.1 (warning)"),
            ("5.2.3 5.2.4 20.04.1", "5.2.4 (warning)"),
            ("1.6.1 1.7.0 5512.0.0", "1.7.0 (warning)"),
            ("5.26.29 2026.07.1 2026.07", "2026.07.1"),
            ("8.4.11 9.7.2 26.7.0", "26.7.0"),
            (
                "2 2.0.20260817.0 2023 2023.12.20260817.0",
                "2023.12.20260817.0",
            ),
            ("25.04 25.10 26.04", "26.04"),
            ("4.1.2 5.0 5.0.0-beta.5", "4.1.2"),
            (
                "jammy-20260101 jammy-20260810",
                "error: r.example/bases/x has no version",
            ),
            ("latest edge", "error: r.example/bases/x has no version"),
            ("20260701 20260805 latest", "20260805"),
        ] {
            let expected = if tags.starts_with("jammy") {
                "jammy-20260810"
            } else {
                expected
            };
            assert_eq!(found(tags, None, None), expected, "{tags}");
        }
    }

    #[test]
    fn line_and_variant_select_the_image() {
        let golang =
            "1.22.9 1.22.9-alpine3.21 1.22.9-alpine3.20 1.23.1 1.23.1-slim 1.23.1-alpine3.21";
        for (line, variant, expected) in [
            (Some("1.22"), None, "1.22.9"),
            (None, Some("slim"), "1.23.1-slim"),
            (Some("1.22"), Some("alpine"), "1.22.9-alpine3.21"),
            (Some("1.22"), Some("alpine3.20"), "1.22.9-alpine3.20"),
            (
                Some("1.22"),
                Some("slim"),
                "error: r.example/bases/x has no version of the line 1.22 of the variant `slim`",
            ),
            (
                Some("1.24"),
                None,
                "error: r.example/bases/x has no version of the line 1.24",
            ),
            (None, Some(""), "1.23.1"),
        ] {
            assert_eq!(
                found(golang, line, variant),
                expected,
                "{line:?} {variant:?}"
            );
        }
        assert_eq!(
            found("9.7.1-jdk21 9.7.1-jdk25 9.7.1-jdk", None, Some("jdk21")),
            "9.7.1-jdk21"
        );
        assert_eq!(found("2.6.1 2021.11.28", Some("2021"), None), "2021.11.28");
    }

    #[test]
    fn image_without_support_is_the_newest_only_for_its_line() {
        let node = "25.9.0-core1!current,ended 24.19.0-core1!current 22.1.0-core1";
        assert_eq!(found(node, None, None), "24.19.0-core1");
        assert_eq!(found(node, Some("25"), None), "25.9.0-core1 (warning)");
        assert_eq!(
            found("25.9.0-core1!current,ended", None, None),
            "25.9.0-core1 (warning)"
        );
        let several = "1.22.9-alpine3.21-core1!current 1.22.9-slim-core1!current";
        assert_eq!(found(several, None, Some("slim")), "1.22.9-slim-core1");
    }
}
