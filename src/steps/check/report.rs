//! What a check found, in every form that it is told in.

use chrono::{DateTime, NaiveDate, SecondsFormat, Utc};
use serde::Serialize;

use super::World;
use super::compare::{Comparison, compare};
use super::known::Source;
use crate::ci::annotations::{Annotation, Level};
use crate::error::Exit;
use crate::model::env;
use crate::model::eol::{EolAssessment, EolStatus};
use crate::model::{Digest, ImageReference};
use crate::report::codequality::{Issue, Severity};
use crate::report::{Block, Cell, Document, Table, Tone};

/// Whether the image under the base's tag is another one by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rebuilt {
    Unknown,
    No,
    /// Than that which the project built on last. The next build takes the new one by itself.
    SinceLastBuild,
    /// Than that which the reference pins. No build takes the new one.
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

    fn answer(self) -> Option<bool> {
        match self {
            Rebuilt::Unknown => None,
            Rebuilt::No => Some(false),
            Rebuilt::SinceLastBuild | Rebuilt::SincePinned => Some(true),
        }
    }
}

/// Where the base is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// Relative to the working directory.
    pub path: String,
    /// From 1.
    pub line: usize,
}

/// What makes a finding a violation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    pub strict: bool,
    /// Fewer days left than this are a violation as well.
    pub max_days: Option<u32>,
    /// Nothing is.
    pub warn_only: bool,
}

/// The result of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckReport {
    /// `None`: there is no base at all, `FROM scratch`.
    pub base: Option<ImageReference>,
    pub location: Option<Location>,
    /// Where what is said is known from.
    pub source: Option<Source>,
    pub latest: Option<ImageReference>,
    /// `None` when that cannot be told.
    pub up_to_date: Option<bool>,
    pub rebuilt: Rebuilt,
    /// The time of the inventory that `rebuilt` is told by; `None` when the registry was asked.
    pub rebuilt_as_of: Option<DateTime<Utc>>,
    pub standing: EolAssessment,
    pub warnings: Vec<String>,
    pub policy: Policy,
}

/// The report as JSON.
#[derive(Serialize)]
struct Json<'a> {
    base: String,
    latest: Option<&'a ImageReference>,
    up_to_date: Option<bool>,
    rebuilt: Option<bool>,
    eol_date: Option<NaiveDate>,
    eol_status: EolStatus,
    days_left: Option<i64>,
    warnings: &'a [String],
}

impl Serialize for CheckReport {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let json = Json {
            base: self.name(),
            latest: self.latest.as_ref(),
            up_to_date: self.up_to_date,
            rebuilt: self.rebuilt.answer(),
            eol_date: self.standing.date,
            eol_status: self.standing.status,
            days_left: self.standing.days_left,
            warnings: &self.warnings,
        };
        json.serialize(serializer)
    }
}

/// Something that the application's team should know, and how bad it is.
struct Finding {
    rule: &'static str,
    title: &'static str,
    severity: Severity,
    message: String,
    /// Whether `--strict` is violated by it.
    violates: bool,
}

impl CheckReport {
    /// Returns what follows from `world` for `base`.
    pub fn new(
        base: ImageReference,
        location: Option<Location>,
        world: &World,
        policy: Policy,
    ) -> CheckReport {
        let known = world.known.base(&base.repository);
        let comparison = known.map(|known| compare(&base, known));
        let mut warnings = world.known.warnings.clone();
        warnings.extend(world.warnings.iter().cloned());
        let Comparison {
            found,
            latest,
            up_to_date,
            warnings: of_comparison,
        } = comparison.unwrap_or_else(|| Comparison {
            warnings: vec![format!(
                "{} is not among the bases that are known",
                base.repository
            )],
            ..Comparison::default()
        });
        warnings.extend(of_comparison);
        CheckReport {
            latest: latest.map(|tag| ImageReference::tagged(base.repository.clone(), tag)),
            up_to_date,
            rebuilt: Rebuilt::of(&base, world),
            rebuilt_as_of: world.digest_of,
            standing: known
                .and_then(|known| known.asked)
                .or(found.map(|found| found.standing))
                .unwrap_or(EolAssessment::UNKNOWN),
            warnings,
            location,
            source: Some(world.known.source.clone()),
            base: Some(base),
            policy,
        }
    }

    /// Returns the report of an image that stands on nothing.
    pub fn of_scratch(location: Option<Location>, policy: Policy) -> CheckReport {
        CheckReport {
            base: None,
            location,
            source: None,
            latest: None,
            up_to_date: None,
            rebuilt: Rebuilt::Unknown,
            rebuilt_as_of: None,
            standing: EolAssessment::UNKNOWN,
            warnings: vec!["the image is built from scratch: there is no base to check".to_owned()],
            policy,
        }
    }

    /// Returns which inventory a digest is known from, as an insertion.
    fn as_of(&self) -> String {
        let time = self
            .rebuilt_as_of
            .map(|time| time.to_rfc3339_opts(SecondsFormat::Secs, true));
        time.map(|time| format!(" (by the inventory of {time})"))
            .unwrap_or_default()
    }

    fn name(&self) -> String {
        self.base
            .as_ref()
            .map_or_else(|| "scratch".to_owned(), ToString::to_string)
    }

    /// Returns the exit code that follows.
    pub fn exit(&self) -> Exit {
        if self.violations().is_empty() {
            Exit::Done
        } else {
            Exit::PolicyViolated
        }
    }

    /// Returns what violates the policy that was asked for, with what to do.
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

    fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let base = self.name();
        if self.up_to_date == Some(false) {
            let latest = self
                .latest
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default();
            let message = format!("{base} is outdated: use {latest}");
            findings.push(Finding {
                rule: "imglife/outdated-base",
                title: "Outdated base",
                severity: Severity::Minor,
                message,
                violates: true,
            });
        }
        if self.rebuilt == Rebuilt::SincePinned {
            let message = format!(
                "{base} was rebuilt: its tag names another digest than the one that is pinned{}: pin that",
                self.as_of()
            );
            findings.push(Finding {
                rule: "imglife/rebuilt-base",
                title: "Rebuilt base",
                severity: Severity::Minor,
                message,
                violates: true,
            });
        }
        if self.rebuilt == Rebuilt::SinceLastBuild {
            let message = format!(
                "{base} was rebuilt since the last build of this project{}: build it again to use the new one",
                self.as_of()
            );
            findings.push(Finding {
                rule: "imglife/rebuilt-base",
                title: "Rebuilt base",
                severity: Severity::Info,
                message,
                violates: false,
            });
        }
        let too_near = self.too_near();
        let end = match self.standing.status {
            EolStatus::Expired => Some((Severity::Critical, true)),
            EolStatus::Warning => Some((Severity::Major, too_near)),
            _ if too_near => Some((Severity::Major, true)),
            _ => None,
        };
        if let Some((severity, violates)) = end {
            let asked = self
                .policy
                .max_days
                .filter(|_| too_near && self.standing.status != EolStatus::Expired);
            let asked = asked
                .map(|days| format!(", and {days} are asked for"))
                .unwrap_or_default();
            // Which to use instead of an outdated one is said already.
            let is_to_move = violates && self.up_to_date != Some(false);
            let advice = if is_to_move {
                ": move to a base of a version that is supported for longer"
            } else {
                ""
            };
            let message = format!("{base}: {}{asked}{advice}", self.end_in_words());
            findings.push(Finding {
                rule: "imglife/end-of-life",
                title: "End of life",
                severity,
                message,
                violates,
            });
        }
        if self.up_to_date.is_none() && self.base.is_some() {
            let message = format!("whether {base} is current is not known");
            findings.push(Finding {
                rule: "imglife/unknown-base",
                title: "Unknown base",
                severity: Severity::Info,
                message,
                violates: false,
            });
        }
        findings
    }

    /// Returns whether fewer days are left than the policy asks for. What was accepted is not
    /// counted.
    fn too_near(&self) -> bool {
        let limit = self.policy.max_days.map(i64::from);
        self.standing.status != EolStatus::Accepted
            && limit
                .zip(self.standing.days_left)
                .is_some_and(|(limit, left)| left < limit)
    }

    fn end_in_words(&self) -> String {
        let date = self
            .standing
            .date
            .map(|date| format!(" on {date}"))
            .unwrap_or_default();
        match (self.standing.status, self.standing.days_left) {
            (EolStatus::Unknown, _) => "its end of life is not known".to_owned(),
            (EolStatus::Expired, _) => format!("its support has ended{date}"),
            (EolStatus::Accepted, _) => {
                let until = self
                    .standing
                    .accepted_until
                    .map(|until| format!(" until {until}"))
                    .unwrap_or_default();
                format!("its support ends{date}, which is accepted{until}")
            }
            (_, Some(left)) => format!("its support ends{date}, in {left} days"),
            (_, None) => "it is supported, without a date".to_owned(),
        }
    }

    /// Returns the report for people.
    pub fn document(&self) -> Document {
        let place = self
            .location
            .as_ref()
            .map(|location| format!(" ({}:{})", location.path, location.line))
            .unwrap_or_default();
        let version = match (self.up_to_date, &self.latest) {
            (Some(true), _) => Cell::toned("up to date", Tone::Good),
            (Some(false), Some(latest)) => {
                Cell::toned(format!("outdated: use {latest}"), Tone::Warning)
            }
            _ => Cell::toned("not known", Tone::Quiet),
        };
        let rebuilt = match self.rebuilt {
            Rebuilt::Unknown => Cell::toned("not known", Tone::Quiet),
            Rebuilt::No => Cell::toned("no", Tone::Good),
            Rebuilt::SinceLastBuild => {
                Cell::toned("yes, since the last build of this project", Tone::Plain)
            }
            Rebuilt::SincePinned => Cell::toned(
                "yes, the tag names another digest than the pinned one",
                Tone::Warning,
            ),
        };
        let tone = match self.standing.status {
            EolStatus::Supported if !self.too_near() => Tone::Good,
            EolStatus::Supported | EolStatus::Warning => Tone::Warning,
            EolStatus::Expired => Tone::Bad,
            EolStatus::Accepted => Tone::Plain,
            EolStatus::Unknown => Tone::Quiet,
        };
        let known_from = self.source.as_ref().map(|source| match source {
            Source::Inventory { time } => {
                format!("the inventory of {}", time.format("%Y-%m-%d %H:%M UTC"))
            }
            Source::Configuration { name } => name.clone(),
            Source::Registry => "the tags of the registry".to_owned(),
        });
        let mut rows = vec![
            vec![
                Cell::plain("Base"),
                Cell::plain(format!("{}{place}", self.name())),
            ],
            vec![Cell::plain("Version"), version],
            vec![Cell::plain("Rebuilt"), rebuilt],
            vec![
                Cell::plain("End of life"),
                Cell::toned(self.end_in_words(), tone),
            ],
        ];
        rows.extend(
            known_from.map(|known_from| vec![Cell::plain("Known from"), Cell::plain(known_from)]),
        );
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
        let Location { path, line } = self.place();
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
        let Location { path, line } = self.place();
        let annotation = |level, title: &str, message| Annotation {
            level,
            path: path.clone(),
            line,
            title: title.to_owned(),
            message,
        };
        let findings = self.findings();
        let of_findings = findings.into_iter().map(|finding| {
            let level = match finding.severity {
                Severity::Info => Level::Notice,
                _ if finding.violates && self.exit() == Exit::PolicyViolated => Level::Error,
                _ => Level::Warning,
            };
            annotation(level, finding.title, finding.message)
        });
        let of_warnings = self
            .warnings
            .iter()
            .map(|warning| annotation(Level::Notice, "imglife check", warning.clone()));
        of_findings.chain(of_warnings).collect()
    }

    /// Returns the line that findings are shown at: where the base is named, as far as that is
    /// known.
    fn place(&self) -> Location {
        self.location.clone().unwrap_or_else(|| Location {
            path: "Dockerfile".to_owned(),
            line: 1,
        })
    }

    /// Returns the variables that later jobs may read.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        let answer = |answer: Option<bool>| {
            answer
                .map_or("unknown", |answer| if answer { "true" } else { "false" })
                .to_owned()
        };
        let status = match self.standing.status {
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
            (env::IMGLIFE_UP_TO_DATE, answer(self.up_to_date)),
            (env::IMGLIFE_REBUILT, answer(self.rebuilt.answer())),
            (
                env::IMGLIFE_EOL_DATE,
                self.standing
                    .date
                    .map(|date| date.to_string())
                    .unwrap_or_default(),
            ),
            (env::IMGLIFE_EOL_STATUS, status.to_owned()),
            (
                env::IMGLIFE_DAYS_LEFT,
                self.standing
                    .days_left
                    .map(|days| days.to_string())
                    .unwrap_or_default(),
            ),
        ]
    }
}
