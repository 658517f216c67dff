//! The report of a check, in all its formats.

use chrono::{DateTime, NaiveDate, SecondsFormat, Utc};
use serde::Serialize;

use super::World;
use super::compare::{Comparison, compare};
use super::known_bases::BaseSource;
use crate::ci::annotations::{Annotation, AnnotationLevel};
use crate::error::Exit;
use crate::model::env;
use crate::model::eol::{EolAssessment, EolStatus};
use crate::model::{Digest, ImageReference};
use crate::report::codequality::{Issue, Severity};
use crate::report::{Block, Cell, Document, Table, Tone};

/// Comparison of the base's tag with an earlier digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rebuilt {
    Unknown,
    No,
    /// The digest differs from that of the project's last build. The next build uses the new one.
    SinceLastBuild,
    /// The digest differs from the pinned one. Builds keep using the pinned one.
    SincePinned,
}

impl Rebuilt {
    fn of(base: &ImageReference, world: &World) -> Rebuilt {
        let is_other = |before: &Digest, now: &Digest| before != now;
        match (&base.digest, &world.built_on, &world.digest_now) {
            (Some(pinned), _, Some(now)) if base.tag.is_some() => {
                if is_other(pinned, now) {
                    Rebuilt::SincePinned
                } else {
                    Rebuilt::No
                }
            }
            (None, Some(before), Some(now)) => {
                if is_other(before, now) {
                    Rebuilt::SinceLastBuild
                } else {
                    Rebuilt::No
                }
            }
            _ => Rebuilt::Unknown,
        }
    }

    fn value(self) -> Option<bool> {
        match self {
            Rebuilt::Unknown => None,
            Rebuilt::No => Some(false),
            Rebuilt::SinceLastBuild | Rebuilt::SincePinned => Some(true),
        }
    }
}

/// Location of the base in a Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// Path relative to the working directory.
    pub path: String,
    /// Line number, from 1.
    pub line: usize,
}

/// Policy that turns findings into violations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// True if findings are violations.
    pub strict: bool,
    /// Minimum number of days until the end of life.
    pub max_days: Option<u32>,
    /// True if no finding is a violation, whatever the other fields are.
    pub warn_only: bool,
}

/// Report of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseCheckReport {
    /// The base; `None` for `FROM scratch`.
    pub base: Option<ImageReference>,
    pub location: Option<Location>,
    /// Source of the bases that the image is compared with.
    pub source: Option<BaseSource>,
    pub latest: Option<ImageReference>,
    /// Newer image whose variant has another version; `None` if the variant still has newer tags.
    pub moved_variant: Option<ImageReference>,
    /// Built image of the next line with support, if the support of the base has ended.
    pub supported: Option<ImageReference>,
    /// `None` if it is unknown.
    pub up_to_date: Option<bool>,
    pub rebuilt: Rebuilt,
    /// Time of the inventory that `rebuilt` is based on; `None` if it is based on the registry.
    pub rebuilt_as_of: Option<DateTime<Utc>>,
    pub assessment: EolAssessment,
    pub warnings: Vec<String>,
    pub policy: Policy,
}

/// The report as JSON.
#[derive(Serialize)]
struct CheckJson<'a> {
    base: String,
    latest: Option<&'a ImageReference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    moved_variant: Option<&'a ImageReference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    supported: Option<&'a ImageReference>,
    up_to_date: Option<bool>,
    rebuilt: Option<bool>,
    eol_date: Option<NaiveDate>,
    eol_status: EolStatus,
    days_left: Option<i64>,
    warnings: &'a [String],
}

impl Serialize for BaseCheckReport {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let json = CheckJson {
            base: self.name(),
            latest: self.latest.as_ref(),
            moved_variant: self.moved_variant.as_ref(),
            supported: self.supported.as_ref(),
            up_to_date: self.up_to_date,
            rebuilt: self.rebuilt.value(),
            eol_date: self.assessment.date,
            eol_status: self.assessment.status,
            days_left: self.assessment.days_left,
            warnings: &self.warnings,
        };
        json.serialize(serializer)
    }
}

/// A finding about the base.
struct CheckFinding {
    rule: &'static str,
    title: &'static str,
    severity: Severity,
    message: String,
    /// True if it violates `--strict`.
    violates: bool,
}

impl BaseCheckReport {
    /// Returns the report on `base`.
    pub fn new(
        base: ImageReference,
        location: Option<Location>,
        world: &World,
        policy: Policy,
    ) -> BaseCheckReport {
        let known = world.known.base(&base.repository);
        let comparison = known.map(|known| compare(&base, known));
        let mut warnings = world.known.warnings.clone();
        warnings.extend(world.warnings.iter().cloned());
        let Comparison {
            found,
            latest,
            moved_variant,
            supported,
            up_to_date,
            warnings: comparison_warnings,
        } = comparison.unwrap_or_else(|| Comparison {
            warnings: vec![format!("{} is not a known base", base.repository)],
            ..Comparison::default()
        });
        warnings.extend(comparison_warnings);
        let reference = |tag| ImageReference::tagged(base.repository.clone(), tag);
        BaseCheckReport {
            latest: latest.map(reference),
            moved_variant: moved_variant.map(reference),
            supported: supported.map(reference),
            up_to_date,
            rebuilt: Rebuilt::of(&base, world),
            rebuilt_as_of: world.digest_as_of,
            assessment: known
                .and_then(|known| known.requested)
                .or(found.map(|found| found.assessment))
                .unwrap_or(EolAssessment::UNKNOWN),
            warnings,
            location,
            source: Some(world.known.source.clone()),
            base: Some(base),
            policy,
        }
    }

    /// Returns the report on an image without a base.
    pub fn of_scratch(location: Option<Location>, policy: Policy) -> BaseCheckReport {
        BaseCheckReport {
            base: None,
            location,
            source: None,
            latest: None,
            moved_variant: None,
            supported: None,
            up_to_date: None,
            rebuilt: Rebuilt::Unknown,
            rebuilt_as_of: None,
            assessment: EolAssessment::UNKNOWN,
            warnings: vec!["the image is built from scratch and has no base".to_owned()],
            policy,
        }
    }

    /// Returns a remark in parentheses that names the inventory with the digest; empty if the
    /// digest comes from the registry.
    fn as_of(&self) -> String {
        let time = self
            .rebuilt_as_of
            .map(|time| time.to_rfc3339_opts(SecondsFormat::Secs, true));
        time.map(|time| format!(" (according to the inventory of {time})"))
            .unwrap_or_default()
    }

    fn name(&self) -> String {
        self.base
            .as_ref()
            .map_or_else(|| "scratch".to_owned(), ToString::to_string)
    }

    /// Returns the exit code.
    pub fn exit(&self) -> Exit {
        if self.violations().is_empty() {
            Exit::Done
        } else {
            Exit::PolicyViolated
        }
    }

    /// Returns the violations of the policy as messages.
    pub fn violations(&self) -> Vec<String> {
        if !self.policy.strict || self.policy.warn_only {
            return Vec::new();
        }
        self.findings()
            .into_iter()
            .filter(|finding| finding.violates)
            .map(|finding| finding.message)
            .collect()
    }

    fn findings(&self) -> Vec<CheckFinding> {
        let mut findings = Vec::new();
        let base = self.name();
        if self.up_to_date == Some(false) {
            let latest = self
                .latest
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default();
            let message = format!("{base} is outdated: use {latest}");
            findings.push(CheckFinding {
                rule: "imglife/outdated-base",
                title: "Outdated base",
                severity: Severity::Minor,
                message,
                violates: true,
            });
        }
        if self.rebuilt == Rebuilt::SincePinned {
            let message = format!(
                "{base} was rebuilt: its tag has another digest than the pinned one{}; update the pinned digest",
                self.as_of()
            );
            findings.push(CheckFinding {
                rule: "imglife/rebuilt-base",
                title: "Rebuilt base",
                severity: Severity::Minor,
                message,
                violates: true,
            });
        }
        if self.rebuilt == Rebuilt::SinceLastBuild {
            let message = format!(
                "{base} was rebuilt since the last build of this project{}; run the build again to use it",
                self.as_of()
            );
            findings.push(CheckFinding {
                rule: "imglife/rebuilt-base",
                title: "Rebuilt base",
                severity: Severity::Info,
                message,
                violates: false,
            });
        }
        let ends_too_soon = self.ends_too_soon();
        let end = match self.assessment.status {
            EolStatus::Expired => Some((Severity::Critical, true)),
            EolStatus::Warning => Some((Severity::Major, ends_too_soon)),
            _ if ends_too_soon => Some((Severity::Major, true)),
            _ => None,
        };
        if let Some((severity, violates)) = end {
            let limit = self
                .policy
                .max_days
                .filter(|_| ends_too_soon && self.assessment.status != EolStatus::Expired);
            let limit = limit
                .map(|days| format!(", fewer than the required {days}"))
                .unwrap_or_default();
            // The finding about an outdated base already has a suggestion.
            let needs_advice = violates && self.up_to_date != Some(false);
            let advice = match &self.supported {
                Some(supported) if needs_advice => format!("; use {supported}, which is supported"),
                None if needs_advice => "; use a base version with longer support".to_owned(),
                _ => String::new(),
            };
            let message = format!("{base}: {}{limit}{advice}", self.end_text());
            findings.push(CheckFinding {
                rule: "imglife/end-of-life",
                title: "End of life",
                severity,
                message,
                violates,
            });
        }
        if self.up_to_date.is_none() && self.base.is_some() {
            let message = format!("cannot check if {base} is current");
            findings.push(CheckFinding {
                rule: "imglife/unknown-base",
                title: "Unknown base",
                severity: Severity::Info,
                message,
                violates: false,
            });
        }
        findings
    }

    /// Returns true if fewer days are left than `max_days`, unless the end is accepted.
    fn ends_too_soon(&self) -> bool {
        let limit = self.policy.max_days.map(i64::from);
        self.assessment.status != EolStatus::Accepted
            && limit
                .zip(self.assessment.days_left)
                .is_some_and(|(limit, left)| left < limit)
    }

    fn end_text(&self) -> String {
        let date = self
            .assessment
            .date
            .map(|date| format!(" on {date}"))
            .unwrap_or_default();
        match (self.assessment.status, self.assessment.days_left) {
            (EolStatus::Unknown, _) => "its end of life is unknown".to_owned(),
            (EolStatus::Expired, _) => format!("support ended{date}"),
            (EolStatus::Accepted, _) => {
                let until = self
                    .assessment
                    .accepted_until
                    .map(|until| format!(" until {until}"))
                    .unwrap_or_default();
                format!("support ends{date}, which is accepted{until}")
            }
            (_, Some(left)) => format!("support ends{date}, in {left} days"),
            (_, None) => "supported, without an end date".to_owned(),
        }
    }

    /// Returns the report as text.
    pub fn document(&self) -> Document {
        let position = self
            .location
            .as_ref()
            .map(|location| format!(" ({}:{})", location.path, location.line))
            .unwrap_or_default();
        let version = match (self.up_to_date, &self.latest) {
            (Some(true), _) => Cell::toned("up to date", Tone::Good),
            (Some(false), Some(latest)) => {
                Cell::toned(format!("outdated: use {latest}"), Tone::Warning)
            }
            _ => Cell::toned("unknown", Tone::Quiet),
        };
        let variant = self.moved_variant.as_ref().map(|moved| {
            vec![
                Cell::plain("Variant"),
                Cell::toned(
                    format!("newer versions have another variant: {moved}"),
                    Tone::Plain,
                ),
            ]
        });
        let rebuilt = match self.rebuilt {
            Rebuilt::Unknown => Cell::toned("unknown", Tone::Quiet),
            Rebuilt::No => Cell::toned("no", Tone::Good),
            Rebuilt::SinceLastBuild => {
                Cell::toned("yes, since the last build of this project", Tone::Plain)
            }
            Rebuilt::SincePinned => Cell::toned(
                "yes, the tag has another digest than the pinned one",
                Tone::Warning,
            ),
        };
        let tone = match self.assessment.status {
            EolStatus::Supported if !self.ends_too_soon() => Tone::Good,
            EolStatus::Supported | EolStatus::Warning => Tone::Warning,
            EolStatus::Expired => Tone::Bad,
            EolStatus::Accepted => Tone::Plain,
            EolStatus::Unknown => Tone::Quiet,
        };
        let source = self.source.as_ref().map(|source| match source {
            BaseSource::Inventory { time } => {
                format!("the inventory of {}", time.format("%Y-%m-%d %H:%M UTC"))
            }
            BaseSource::Configuration { name } => name.clone(),
            BaseSource::Registry => "the tags of the registry".to_owned(),
        });
        let mut rows = vec![
            vec![
                Cell::plain("Base"),
                Cell::plain(format!("{}{position}", self.name())),
            ],
            vec![Cell::plain("Version"), version],
            vec![Cell::plain("Rebuilt"), rebuilt],
            vec![
                Cell::plain("End of life"),
                Cell::toned(self.end_text(), tone),
            ],
        ];
        if let Some(variant) = variant {
            rows.insert(2, variant);
        }
        rows.extend(source.map(|source| vec![Cell::plain("Source"), Cell::plain(source)]));
        let table = Table {
            title: Some("Check".to_owned()),
            columns: Vec::new(),
            rows,
        };
        let warnings = self
            .warnings
            .iter()
            .map(|warning| format!("warning: {warning}"))
            .collect();
        Document {
            blocks: vec![Block::Table(table), Block::Lines(warnings)],
        }
    }

    /// Returns the findings as issues of a code quality report.
    pub fn issues(&self) -> Vec<Issue> {
        let Location { path, line } = self.finding_location();
        let subject = self
            .base
            .clone()
            .map(|base| {
                ImageReference {
                    digest: None,
                    ..base
                }
                .to_string()
            })
            .unwrap_or_default();
        let issues = self.findings().into_iter().map(|finding| Issue {
            description: finding.message,
            check_name: finding.rule,
            subject: subject.clone(),
            severity: finding.severity,
            path: path.clone(),
            line,
        });
        issues.collect()
    }

    /// Returns the findings and warnings as annotations.
    pub fn annotations(&self) -> Vec<Annotation> {
        let Location { path, line } = self.finding_location();
        let annotation = |level, title: &str, message| Annotation {
            level,
            path: path.clone(),
            line,
            title: title.to_owned(),
            message,
        };
        let findings = self.findings();
        let findings = findings.into_iter().map(|finding| {
            let level = match finding.severity {
                Severity::Info => AnnotationLevel::Notice,
                _ if finding.violates && self.exit() == Exit::PolicyViolated => {
                    AnnotationLevel::Error
                }
                _ => AnnotationLevel::Warning,
            };
            annotation(level, finding.title, finding.message)
        });
        let warnings = self
            .warnings
            .iter()
            .map(|warning| annotation(AnnotationLevel::Notice, "imglife check", warning.clone()));
        findings.chain(warnings).collect()
    }

    /// Returns the location of findings: that of the base, or the first line of `Dockerfile`.
    fn finding_location(&self) -> Location {
        self.location.clone().unwrap_or_else(|| Location {
            path: "Dockerfile".to_owned(),
            line: 1,
        })
    }

    /// Returns the variables for later jobs.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        let text = |value: Option<bool>| {
            value
                .map_or("unknown", |value| if value { "true" } else { "false" })
                .to_owned()
        };
        let status = match self.assessment.status {
            EolStatus::Supported => "ok",
            EolStatus::Warning => "warning",
            EolStatus::Expired => "expired",
            EolStatus::Accepted => "accepted",
            EolStatus::Unknown => "unknown",
        };
        vec![
            (env::IMGLIFE_BASE, self.name()),
            (
                env::IMGLIFE_LATEST,
                self.latest
                    .as_ref()
                    .map(ToString::to_string)
                    .unwrap_or_default(),
            ),
            (env::IMGLIFE_UP_TO_DATE, text(self.up_to_date)),
            (env::IMGLIFE_REBUILT, text(self.rebuilt.value())),
            (
                env::IMGLIFE_EOL_DATE,
                self.assessment
                    .date
                    .map(|date| date.to_string())
                    .unwrap_or_default(),
            ),
            (env::IMGLIFE_EOL_STATUS, status.to_owned()),
            (
                env::IMGLIFE_DAYS_LEFT,
                self.assessment
                    .days_left
                    .map(|days| days.to_string())
                    .unwrap_or_default(),
            ),
        ]
    }
}
