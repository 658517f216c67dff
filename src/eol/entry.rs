//! Release cycles in the format of API version 0, which the data file uses as well.

use std::fmt;

use chrono::NaiveDate;
use serde::de::{Deserialize, Deserializer, Error, Visitor};

use crate::model::eol::{Cycle, LongTermSupport, SupportEnd};
use crate::model::text::{excerpt, is_unsafe};

/// Cycle in the format of version 0. Other fields are ignored.
#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CycleEntry {
    pub(super) cycle: String,
    #[serde(default)]
    codename: Option<String>,
    /// `true` after the end of life. Required, so that a misspelt key is reported.
    eol: Moment,
    #[serde(default)]
    latest: Option<String>,
    #[serde(default)]
    latest_release_date: Moment,
    #[serde(default)]
    lts: Moment,
    /// `true` while there is active support, unlike `eol`.
    #[serde(default)]
    support: Moment,
    /// `true` while there is extended support; `false` also if the product has none.
    #[serde(default)]
    extended_support: Moment,
}

/// Value of a field that is a date, a boolean or `null`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Moment {
    #[default]
    Unset,
    On(NaiveDate),
    Flag(bool),
}

impl Moment {
    fn date(self) -> Option<NaiveDate> {
        match self {
            Moment::On(date) => Some(date),
            Moment::Unset | Moment::Flag(_) => None,
        }
    }

    /// Returns the end of support in this field. `ended` is the boolean with which the field
    /// reports that support has ended.
    fn ends(self, ended: bool) -> Option<SupportEnd> {
        match self {
            Moment::Unset => None,
            Moment::On(date) => Some(SupportEnd::On(date)),
            Moment::Flag(flag) => Some(if flag == ended {
                SupportEnd::Ended
            } else {
                SupportEnd::NotEnded
            }),
        }
    }

    /// Returns the value of a field for the end of support `ends`. `ended` is the boolean with
    /// which the field reports that support has ended.
    fn of(ends: Option<SupportEnd>, ended: bool) -> Moment {
        match ends {
            None => Moment::Unset,
            Some(SupportEnd::On(date)) => Moment::On(date),
            Some(SupportEnd::Ended) => Moment::Flag(ended),
            Some(SupportEnd::NotEnded) => Moment::Flag(!ended),
        }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Moment::Unset => formatter.write_str("null"),
            Moment::On(date) => date.fmt(formatter),
            Moment::Flag(flag) => flag.fmt(formatter),
        }
    }
}

impl From<CycleEntry> for Cycle {
    fn from(entry: CycleEntry) -> Cycle {
        Cycle {
            name: entry.cycle,
            codename: entry.codename.filter(|codename| !codename.is_empty()),
            active_support: entry.support.ends(false),
            end_of_life: entry.eol.ends(true),
            extended_support: entry.extended_support.ends(false),
            long_term_support: match entry.lts {
                Moment::Unset | Moment::Flag(false) => LongTermSupport::No,
                Moment::Flag(true) => LongTermSupport::Yes,
                Moment::On(date) => LongTermSupport::From(date),
            },
            latest: entry.latest.filter(|latest| !latest.is_empty()),
            latest_date: entry.latest_release_date.date(),
        }
    }
}

/// Returns the fields of a cycle that have a value, in the order of the data file, each with its
/// value in YAML.
pub(super) fn fields(cycle: &Cycle) -> Vec<(&'static str, String)> {
    let long_term = match cycle.long_term_support {
        LongTermSupport::No => Moment::Unset,
        LongTermSupport::Yes => Moment::Flag(true),
        LongTermSupport::From(date) => Moment::On(date),
    };
    let given =
        |name, moment: Moment| (moment != Moment::Unset).then(|| (name, moment.to_string()));
    let text = |name, text: &Option<String>| text.as_deref().map(|text| (name, quoted(text)));
    let fields = [
        Some(("cycle", quoted(&cycle.name))),
        Some(("eol", Moment::of(cycle.end_of_life, true).to_string())),
        text("latest", &cycle.latest),
        cycle
            .latest_date
            .map(|date| ("latestReleaseDate", date.to_string())),
        given("lts", long_term),
        given("support", Moment::of(cycle.active_support, false)),
        given("extendedSupport", Moment::of(cycle.extended_support, false)),
        text("codename", &cycle.codename),
    ];
    fields.into_iter().flatten().collect()
}

/// Returns `text` as a double-quoted scalar (YAML 1.2.2, section 5.7), so that no parser reads it
/// as a number.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\u{fffe}' | '\u{ffff}' => quoted += &format!("\\u{:04x}", u32::from(character)),
            _ if is_unsafe(character) && u32::from(character) > 0xffff => {
                quoted += &format!("\\U{:08x}", u32::from(character));
            }
            _ if is_unsafe(character) => quoted += &format!("\\u{:04x}", u32::from(character)),
            _ => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}

/// Parses a date in the format of the API, `2027-06-30`; returns `None` for any other text.
pub(super) fn date(text: &str) -> Option<NaiveDate> {
    let is_iso = text.len() == 10
        && text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'-');
    if is_iso { text.parse().ok() } else { None }
}

struct MomentVisitor;

impl Visitor<'_> for MomentVisitor {
    type Value = Moment;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a date as in `2027-06-30`, `true` or `false`")
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<Moment, E> {
        Ok(Moment::Flag(flag))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Moment, E> {
        date(text).map(Moment::On).ok_or_else(|| {
            E::custom(format!(
                "expected a date as in `2027-06-30`, `true` or `false`, found `{}`",
                excerpt(text, 40)
            ))
        })
    }

    fn visit_unit<E: Error>(self) -> Result<Moment, E> {
        Ok(Moment::Unset)
    }

    fn visit_none<E: Error>(self) -> Result<Moment, E> {
        Ok(Moment::Unset)
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Moment, D::Error> {
        deserializer.deserialize_any(MomentVisitor)
    }
}
