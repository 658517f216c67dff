//! Release cycles, their end-of-life dates, and the assessment of a date on a given day.
//!
//! Owns the rules that endoflife.date leaves to its readers: which date of a cycle applies, that
//! support includes the end-of-life day itself, and how a cycle without a date is treated. The
//! module `lifecycle` finds the cycle of an image.

use chrono::NaiveDate;
use serde::Serialize;

/// The end of a support phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SupportEnd {
    /// Support ends with this day, which is the last supported day.
    On(NaiveDate),
    /// Support has ended on an unknown date.
    Ended,
    /// Support continues and no end is announced.
    NotEnded,
}

/// Long-term support of a release cycle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LongTermSupport {
    #[default]
    No,
    Yes,
    /// Long-term support starts on this day.
    From(NaiveDate),
}

/// Support phase whose end counts as the end of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Active support.
    ActiveSupport,
    /// Regular support, up to the end of life.
    EndOfLife,
    /// Extended support, which is often paid.
    ExtendedSupport,
}

/// A release cycle of a product, such as `3.21` of Alpine Linux.
///
/// Fields are `None` if the end-of-life data does not contain them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cycle {
    /// Name of the cycle, such as `3.21`.
    pub name: String,
    /// Code name, such as `Bookworm` or `Noble Numbat`.
    pub codename: Option<String>,
    /// End of active support.
    pub active_support: Option<SupportEnd>,
    /// End of regular support.
    pub end_of_life: Option<SupportEnd>,
    /// End of extended support. Also `None` if the cycle has no extended support.
    pub extended_support: Option<SupportEnd>,
    /// Long-term support of the cycle.
    pub long_term_support: LongTermSupport,
    /// Newest release of the cycle.
    pub latest: Option<String>,
    /// Day of the newest release.
    pub latest_date: Option<NaiveDate>,
}

impl Cycle {
    /// Returns the end of support for `phase`, or `None` if it is unknown.
    ///
    /// Falls back to the end of life if the cycle has no such phase, or if the end of active
    /// support is not announced. Extended support that has ended without a date counts as no
    /// extended support: version 0 of the endoflife.date API does not distinguish the two.
    pub fn support_end(&self, phase: Phase) -> Option<SupportEnd> {
        match (phase, self.active_support, self.extended_support) {
            (Phase::ActiveSupport, Some(end @ (SupportEnd::On(_) | SupportEnd::Ended)), _) => {
                Some(end)
            }
            (Phase::ActiveSupport, open, _) => self.end_of_life.or(open),
            (Phase::ExtendedSupport, _, Some(end @ (SupportEnd::On(_) | SupportEnd::NotEnded))) => {
                Some(end)
            }
            _ => self.end_of_life,
        }
    }

    /// Returns true if `name` is the name of the cycle or the first word of its code name, ignoring
    /// case.
    pub fn has_name(&self, name: &str) -> bool {
        let codename = self
            .codename
            .as_deref()
            .and_then(|codename| codename.split_whitespace().next());
        self.name.eq_ignore_ascii_case(name)
            || codename.is_some_and(|codename| codename.eq_ignore_ascii_case(name))
    }
}

/// Paid support or an accepted risk, which extends the end of life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acceptance {
    /// Last day of the acceptance.
    pub until: NaiveDate,
    /// Reason that the user gives, for reports.
    pub reason: String,
}

/// The day of an assessment and the length of the warning period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calendar {
    /// Day that dates are compared with.
    pub today: NaiveDate,
    /// Length of the warning period. An end that is fewer days away is a warning.
    pub warn_days: u32,
}

/// End-of-life status of an image or a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EolStatus {
    /// Support continues beyond the warning period.
    #[serde(rename = "ok")]
    Supported,
    /// Support ends within the warning period.
    Warning,
    /// Support has ended.
    Expired,
    /// Support has ended or ends within the warning period, and the user accepts that.
    Accepted,
    /// The end of support is unknown. Never treat it as supported.
    Unknown,
}

/// Assessment of an image or a product on a given day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EolAssessment {
    /// Status on that day.
    pub status: EolStatus,
    /// Last supported day; `None` if no date is known.
    pub date: Option<NaiveDate>,
    /// Days left until `date`; negative after it.
    pub days_left: Option<i64>,
    /// Last day of the acceptance, if one is in effect.
    pub accepted_until: Option<NaiveDate>,
}

impl EolAssessment {
    /// Assessment for an unknown end of support.
    pub const UNKNOWN: EolAssessment = EolAssessment {
        status: EolStatus::Unknown,
        date: None,
        days_left: None,
        accepted_until: None,
    };

    /// Assesses the end of support `end`.
    ///
    /// An acceptance takes effect when the warning period starts. An unknown end (`None`) cannot be
    /// accepted.
    pub fn of(
        end: Option<SupportEnd>,
        acceptance: Option<&Acceptance>,
        calendar: Calendar,
    ) -> EolAssessment {
        let (unaccepted, date) = match end {
            None => return EolAssessment::UNKNOWN,
            Some(SupportEnd::Ended) => (EolStatus::Expired, None),
            Some(SupportEnd::NotEnded) => (EolStatus::Supported, None),
            Some(SupportEnd::On(date)) => {
                let left = days(calendar.today, date);
                let status = match left {
                    ..0 => EolStatus::Expired,
                    left if left < i64::from(calendar.warn_days) => EolStatus::Warning,
                    _ => EolStatus::Supported,
                };
                (status, Some(date))
            }
        };
        let accepted_until = acceptance
            .filter(|acceptance| {
                matches!(unaccepted, EolStatus::Warning | EolStatus::Expired)
                    && calendar.today <= acceptance.until
            })
            .map(|acceptance| acceptance.until);
        EolAssessment {
            status: if accepted_until.is_some() {
                EolStatus::Accepted
            } else {
                unaccepted
            },
            date,
            days_left: date.map(|date| days(calendar.today, date)),
            accepted_until,
        }
    }

    /// Combines the assessments of several parts, all of which must be supported.
    ///
    /// Returns the worst part; of equally bad parts, the one with the earliest date. An unknown
    /// part makes the result unknown, unless another part is expired or in its warning period; the
    /// result then still has the earliest known date. Returns `None` if there are no parts.
    pub fn worst_of(parts: impl IntoIterator<Item = EolAssessment>) -> Option<EolAssessment> {
        let parts: Vec<EolAssessment> = parts.into_iter().collect();
        let earliest = |parts: &[EolAssessment]| {
            parts
                .iter()
                .filter(|part| part.date.is_some())
                .min_by_key(|part| part.date)
                .copied()
        };
        let worst = parts
            .iter()
            .copied()
            .min_by_key(|part| (part.urgency(), part.date.unwrap_or(NaiveDate::MAX)))?;
        match (worst.status, earliest(&parts)) {
            (EolStatus::Unknown, Some(known)) => Some(EolAssessment {
                date: known.date,
                days_left: known.days_left,
                ..worst
            }),
            _ => Some(worst),
        }
    }

    /// Returns the rank of the status; lower is worse.
    fn urgency(&self) -> u8 {
        match self.status {
            EolStatus::Expired => 0,
            EolStatus::Warning => 1,
            EolStatus::Unknown => 2,
            EolStatus::Accepted => 3,
            EolStatus::Supported => 4,
        }
    }
}

fn days(from: NaiveDate, to: NaiveDate) -> i64 {
    (to - from).num_days()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> NaiveDate {
        text.parse().expect("a date")
    }

    fn on(text: &str) -> Option<SupportEnd> {
        Some(SupportEnd::On(day(text)))
    }

    const CALENDAR: fn(&str) -> Calendar = |today| Calendar {
        today: day(today),
        warn_days: 30,
    };

    fn status(ends: Option<SupportEnd>, today: &str) -> (EolStatus, Option<i64>) {
        let assessment = EolAssessment::of(ends, None, CALENDAR(today));
        (assessment.status, assessment.days_left)
    }

    #[test]
    fn status_is_expired_only_after_the_end_of_life_day() {
        let end = on("2026-11-30");
        assert_eq!(status(end, "2026-10-31"), (EolStatus::Supported, Some(30)));
        assert_eq!(status(end, "2026-11-01"), (EolStatus::Warning, Some(29)));
        assert_eq!(status(end, "2026-11-30"), (EolStatus::Warning, Some(0)));
        assert_eq!(status(end, "2026-12-01"), (EolStatus::Expired, Some(-1)));
    }

    #[test]
    fn status_without_a_date_depends_on_the_support_end() {
        assert_eq!(
            status(Some(SupportEnd::Ended), "2026-11-01"),
            (EolStatus::Expired, None)
        );
        assert_eq!(
            status(Some(SupportEnd::NotEnded), "2026-11-01"),
            (EolStatus::Supported, None)
        );
        assert_eq!(status(None, "2026-11-01"), (EolStatus::Unknown, None));
    }

    #[test]
    fn acceptance_applies_from_the_warning_period_to_its_last_day() {
        let acceptance = Acceptance {
            until: day("2027-01-31"),
            reason: "paid".to_owned(),
        };
        let status =
            |today| EolAssessment::of(on("2026-11-30"), Some(&acceptance), CALENDAR(today)).status;
        let days = ["2026-10-01", "2026-11-20", "2027-01-31", "2027-02-01"];
        assert_eq!(
            days.map(status),
            [
                EolStatus::Supported,
                EolStatus::Accepted,
                EolStatus::Accepted,
                EolStatus::Expired
            ]
        );
        assert_eq!(
            EolAssessment::of(None, Some(&acceptance), CALENDAR("2026-11-20")),
            EolAssessment::UNKNOWN
        );
    }

    #[test]
    fn support_end_falls_back_to_the_end_of_life() {
        let cycle = |active_support, extended_support| Cycle {
            active_support,
            extended_support,
            end_of_life: on("2027-01-01"),
            ..Cycle::default()
        };
        let ends = |active, extended| {
            let cycle = cycle(active, extended);
            [
                Phase::ActiveSupport,
                Phase::EndOfLife,
                Phase::ExtendedSupport,
            ]
            .map(|phase| cycle.support_end(phase))
        };
        let (early, middle, late) = (on("2026-01-01"), on("2027-01-01"), on("2030-01-01"));
        assert_eq!(ends(early, late), [early, middle, late]);
        assert_eq!(ends(None, None), [middle; 3]);
        assert_eq!(
            ends(Some(SupportEnd::NotEnded), Some(SupportEnd::NotEnded)),
            [middle, middle, Some(SupportEnd::NotEnded)]
        );
        assert_eq!(
            ends(Some(SupportEnd::Ended), Some(SupportEnd::Ended)),
            [Some(SupportEnd::Ended), middle, middle]
        );
        let bare = Cycle {
            active_support: Some(SupportEnd::NotEnded),
            ..Cycle::default()
        };
        assert_eq!(
            (
                bare.support_end(Phase::ActiveSupport),
                bare.support_end(Phase::EndOfLife)
            ),
            (Some(SupportEnd::NotEnded), None)
        );
    }

    #[test]
    fn worst_of_prefers_the_worst_status_then_the_earliest_date() {
        let calendar = CALENDAR("2026-11-01");
        let (late, later) = (
            EolAssessment::of(on("2027-06-01"), None, calendar),
            EolAssessment::of(on("2028-06-01"), None, calendar),
        );
        let (soon, over) = (
            EolAssessment::of(on("2026-11-10"), None, calendar),
            EolAssessment::of(on("2026-10-10"), None, calendar),
        );
        let open = EolAssessment::of(Some(SupportEnd::NotEnded), None, calendar);
        let of = |parts: &[EolAssessment]| {
            EolAssessment::worst_of(parts.iter().copied()).expect("a part")
        };
        assert_eq!(of(&[later, open, late]), late);
        assert_eq!(of(&[late, soon, EolAssessment::UNKNOWN]), soon);
        assert_eq!(of(&[soon, over]), over);
        assert_eq!(
            of(&[later, EolAssessment::UNKNOWN, late]),
            EolAssessment {
                status: EolStatus::Unknown,
                ..late
            }
        );
        assert_eq!(of(&[open, EolAssessment::UNKNOWN]), EolAssessment::UNKNOWN);
        assert_eq!(EolAssessment::worst_of([]), None);
    }

    #[test]
    fn has_name_matches_number_and_code_name() {
        let cycle = Cycle {
            name: "24.04".to_owned(),
            codename: Some("Noble Numbat".to_owned()),
            ..Cycle::default()
        };
        assert!(cycle.has_name("24.04") && cycle.has_name("noble") && cycle.has_name("NOBLE"));
        assert!(!cycle.has_name("24.4") && !cycle.has_name("numbat") && !cycle.has_name(""));
    }
}
