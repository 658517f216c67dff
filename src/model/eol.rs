//! Release cycles, when their support ends, and what that means on a given day.
//!
//! Owns the rules that endoflife.date leaves to its readers: which of a cycle's dates counts, that
//! the day itself is not yet past, and what a cycle without a date is. Which cycle an image is of
//! is told by `lifecycle`.

use chrono::NaiveDate;
use serde::Serialize;

/// When something ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// This is the last day on which it is not yet over.
    On(NaiveDate),
    /// It is over; nobody wrote down since when.
    Ended,
    /// It goes on; until when is not known.
    NotEnded,
}

/// Whether a cycle has long term support.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LongTermSupport {
    #[default]
    No,
    Yes,
    From(NaiveDate),
}

/// Which of a cycle's ends counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The end of active support.
    ActiveSupport,
    EndOfLife,
    /// The end of extended support, which is often paid for.
    ExtendedSupport,
}

/// A release cycle of a product, as in `3.21` of Alpine Linux. What is not known is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cycle {
    pub name: String,
    /// `Bookworm`, `Noble Numbat`.
    pub codename: Option<String>,
    pub active_support: Option<Ends>,
    pub end_of_life: Option<Ends>,
    /// `None` also where the cycle is not eligible for it.
    pub extended_support: Option<Ends>,
    pub long_term_support: LongTermSupport,
    /// The newest release of the cycle.
    pub latest: Option<String>,
    /// The day of that release.
    pub latest_date: Option<NaiveDate>,
}

impl Cycle {
    /// Returns the end that counts: that of `phase`, or the end of life where the cycle has no such
    /// phase or an open one. `None` when nothing is known.
    ///
    /// Extended support that is over is the same as none: the API's version 0 does not tell the two
    /// apart.
    pub fn end(&self, phase: Phase) -> Option<Ends> {
        match (phase, self.active_support, self.extended_support) {
            (Phase::ActiveSupport, Some(end @ (Ends::On(_) | Ends::Ended)), _) => Some(end),
            (Phase::ActiveSupport, open, _) => self.end_of_life.or(open),
            (Phase::ExtendedSupport, _, Some(end @ (Ends::On(_) | Ends::NotEnded))) => Some(end),
            _ => self.end_of_life,
        }
    }

    /// Returns whether the cycle goes by `name`: its own, or the first word of its codename. Case
    /// does not count.
    pub fn is_called(&self, name: &str) -> bool {
        let codename = self
            .codename
            .as_deref()
            .and_then(|codename| codename.split_whitespace().next());
        self.name.eq_ignore_ascii_case(name)
            || codename.is_some_and(|codename| codename.eq_ignore_ascii_case(name))
    }
}

/// Support that was paid for, or a risk that was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acceptance {
    /// The last day on which it counts.
    pub until: NaiveDate,
    pub reason: String,
}

/// The day that statuses are told for, and what counts as soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calendar {
    pub today: NaiveDate,
    /// An end that is fewer days away is warned about.
    pub warn_days: u32,
}

/// What a standing comes down to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    #[serde(rename = "ok")]
    Supported,
    /// It ends soon.
    Warning,
    Expired,
    /// It ends soon or is over, which is accepted.
    Accepted,
    /// Nothing is known. Never to be taken for support.
    Unknown,
}

/// How an image stands on a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    pub status: Status,
    /// The last day before it is over; `None` where there is no date.
    pub date: Option<NaiveDate>,
    /// How many days are left until then, negative afterwards.
    pub days_left: Option<i64>,
    /// The last day of an acceptance that holds.
    pub accepted_until: Option<NaiveDate>,
}

impl Standing {
    /// The standing of what is not known.
    pub const UNKNOWN: Standing = Standing {
        status: Status::Unknown,
        date: None,
        days_left: None,
        accepted_until: None,
    };

    /// Returns how something stands that `ends` then. An acceptance counts from the warning on.
    pub fn of(ends: Option<Ends>, acceptance: Option<&Acceptance>, calendar: Calendar) -> Standing {
        let (plain, date) = match ends {
            None => return Standing::UNKNOWN,
            Some(Ends::Ended) => (Status::Expired, None),
            Some(Ends::NotEnded) => (Status::Supported, None),
            Some(Ends::On(date)) => {
                let left = days(calendar.today, date);
                let status = match left {
                    ..0 => Status::Expired,
                    left if left < i64::from(calendar.warn_days) => Status::Warning,
                    _ => Status::Supported,
                };
                (status, Some(date))
            }
        };
        let accepted_until = acceptance
            .filter(|acceptance| {
                matches!(plain, Status::Warning | Status::Expired)
                    && calendar.today <= acceptance.until
            })
            .map(|acceptance| acceptance.until);
        Standing {
            status: if accepted_until.is_some() {
                Status::Accepted
            } else {
                plain
            },
            date,
            days_left: date.map(|date| days(calendar.today, date)),
            accepted_until,
        }
    }

    /// Returns how something stands of which every part must be supported: as its worst part does,
    /// at the earliest date. One part that is not known makes the whole unknown, unless another is
    /// known to end soon or to be over; the date is then the earliest that is known. `None` without
    /// parts.
    pub fn of_all(parts: impl IntoIterator<Item = Standing>) -> Option<Standing> {
        let parts: Vec<Standing> = parts.into_iter().collect();
        let earliest = |parts: &[Standing]| {
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
            (Status::Unknown, Some(known)) => Some(Standing {
                date: known.date,
                days_left: known.days_left,
                ..worst
            }),
            _ => Some(worst),
        }
    }

    fn urgency(&self) -> u8 {
        match self.status {
            Status::Expired => 0,
            Status::Warning => 1,
            Status::Unknown => 2,
            Status::Accepted => 3,
            Status::Supported => 4,
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

    fn on(text: &str) -> Option<Ends> {
        Some(Ends::On(day(text)))
    }

    const CALENDAR: fn(&str) -> Calendar = |today| Calendar {
        today: day(today),
        warn_days: 30,
    };

    fn status(ends: Option<Ends>, today: &str) -> (Status, Option<i64>) {
        let standing = Standing::of(ends, None, CALENDAR(today));
        (standing.status, standing.days_left)
    }

    #[test]
    fn the_day_itself_is_not_yet_past_and_a_warning_begins_below_warn_days() {
        let end = on("2026-11-30");
        assert_eq!(status(end, "2026-10-31"), (Status::Supported, Some(30)));
        assert_eq!(status(end, "2026-11-01"), (Status::Warning, Some(29)));
        assert_eq!(status(end, "2026-11-30"), (Status::Warning, Some(0)));
        assert_eq!(status(end, "2026-12-01"), (Status::Expired, Some(-1)));
    }

    #[test]
    fn without_a_date_an_end_is_over_or_open_or_not_known() {
        assert_eq!(
            status(Some(Ends::Ended), "2026-11-01"),
            (Status::Expired, None)
        );
        assert_eq!(
            status(Some(Ends::NotEnded), "2026-11-01"),
            (Status::Supported, None)
        );
        assert_eq!(status(None, "2026-11-01"), (Status::Unknown, None));
    }

    #[test]
    fn an_acceptance_counts_from_the_warning_to_its_last_day() {
        let acceptance = Acceptance {
            until: day("2027-01-31"),
            reason: "paid".to_owned(),
        };
        let status =
            |today| Standing::of(on("2026-11-30"), Some(&acceptance), CALENDAR(today)).status;
        let days = ["2026-10-01", "2026-11-20", "2027-01-31", "2027-02-01"];
        assert_eq!(
            days.map(status),
            [
                Status::Supported,
                Status::Accepted,
                Status::Accepted,
                Status::Expired
            ]
        );
        assert_eq!(
            Standing::of(None, Some(&acceptance), CALENDAR("2026-11-20")),
            Standing::UNKNOWN
        );
    }

    #[test]
    fn the_phase_decides_and_falls_back_to_the_end_of_life() {
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
            .map(|phase| cycle.end(phase))
        };
        let (early, middle, late) = (on("2026-01-01"), on("2027-01-01"), on("2030-01-01"));
        assert_eq!(ends(early, late), [early, middle, late]);
        assert_eq!(ends(None, None), [middle; 3]);
        assert_eq!(
            ends(Some(Ends::NotEnded), Some(Ends::NotEnded)),
            [middle, middle, Some(Ends::NotEnded)]
        );
        assert_eq!(
            ends(Some(Ends::Ended), Some(Ends::Ended)),
            [Some(Ends::Ended), middle, middle]
        );
        let bare = Cycle {
            active_support: Some(Ends::NotEnded),
            ..Cycle::default()
        };
        assert_eq!(
            (bare.end(Phase::ActiveSupport), bare.end(Phase::EndOfLife)),
            (Some(Ends::NotEnded), None)
        );
    }

    #[test]
    fn of_several_parts_the_worst_and_earliest_counts_and_the_unknown_is_never_support() {
        let calendar = CALENDAR("2026-11-01");
        let (late, later) = (
            Standing::of(on("2027-06-01"), None, calendar),
            Standing::of(on("2028-06-01"), None, calendar),
        );
        let (soon, over) = (
            Standing::of(on("2026-11-10"), None, calendar),
            Standing::of(on("2026-10-10"), None, calendar),
        );
        let open = Standing::of(Some(Ends::NotEnded), None, calendar);
        let of = |parts: &[Standing]| Standing::of_all(parts.iter().copied()).expect("a part");
        assert_eq!(of(&[later, open, late]), late);
        assert_eq!(of(&[late, soon, Standing::UNKNOWN]), soon);
        assert_eq!(of(&[soon, over]), over);
        assert_eq!(
            of(&[later, Standing::UNKNOWN, late]),
            Standing {
                status: Status::Unknown,
                ..late
            }
        );
        assert_eq!(of(&[open, Standing::UNKNOWN]), Standing::UNKNOWN);
        assert_eq!(Standing::of_all([]), None);
    }

    #[test]
    fn cycles_are_known_by_number_and_by_codename() {
        let cycle = Cycle {
            name: "24.04".to_owned(),
            codename: Some("Noble Numbat".to_owned()),
            ..Cycle::default()
        };
        assert!(cycle.is_called("24.04") && cycle.is_called("noble") && cycle.is_called("NOBLE"));
        assert!(!cycle.is_called("24.4") && !cycle.is_called("numbat") && !cycle.is_called(""));
    }
}
