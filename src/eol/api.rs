//! Responses of the endoflife.date API, version 1 and version 0.
//!
//! Unknown fields are ignored, as the API's compatibility rules require. The booleans of a response
//! hold for the day it was generated, so they are used only where there is no date. `isMaintained`
//! is not used, because it is also true for cycles with paid support only.

use chrono::NaiveDate;
use serde::Deserialize;
use serde_json::Error;

use super::entry::{CycleEntry, date};
use crate::model::eol::{Cycle, LongTermSupport, SupportEnd};

#[derive(Deserialize)]
struct Envelope<T> {
    result: T,
}

#[derive(Deserialize)]
struct ProductResponse {
    releases: Vec<Release>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Release {
    name: String,
    codename: Option<String>,
    #[serde(default)]
    is_lts: Option<bool>,
    lts_from: Option<Day>,
    /// Absent if the product has no such phase, like `isEoes` and the dates of both.
    is_eoas: Option<bool>,
    eoas_from: Option<Day>,
    is_eol: Option<bool>,
    eol_from: Option<Day>,
    /// `null` if the cycle is not eligible for extended support.
    is_eoes: Option<bool>,
    eoes_from: Option<Day>,
    latest: Option<Latest>,
}

#[derive(Deserialize)]
struct Latest {
    name: Option<String>,
    date: Option<Day>,
}

/// A date of the API.
struct Day(NaiveDate);

impl<'de> Deserialize<'de> for Day {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Day, D::Error> {
        let text = String::deserialize(deserializer)?;
        date(&text)
            .map(Day)
            .ok_or_else(|| serde::de::Error::custom("expected a date as in `2027-06-30`"))
    }
}

fn ends(from: Option<Day>, is_over: Option<bool>) -> Option<SupportEnd> {
    match (from, is_over) {
        (Some(Day(date)), _) => Some(SupportEnd::On(date)),
        (None, Some(true)) => Some(SupportEnd::Ended),
        (None, Some(false)) => Some(SupportEnd::NotEnded),
        (None, None) => None,
    }
}

impl From<Release> for Cycle {
    fn from(release: Release) -> Cycle {
        let (latest, latest_date) = release
            .latest
            .map_or((None, None), |latest| (latest.name, latest.date));
        Cycle {
            name: release.name,
            codename: release.codename.filter(|codename| !codename.is_empty()),
            active_support: ends(release.eoas_from, release.is_eoas),
            end_of_life: ends(release.eol_from, release.is_eol),
            extended_support: ends(release.eoes_from, release.is_eoes),
            long_term_support: match (release.lts_from, release.is_lts) {
                (Some(Day(date)), _) => LongTermSupport::From(date),
                (None, Some(true)) => LongTermSupport::Yes,
                (None, _) => LongTermSupport::No,
            },
            latest: latest.filter(|latest| !latest.is_empty()),
            latest_date: latest_date.map(|Day(date)| date),
        }
    }
}

/// Parses a response of `/v1/products/{product}`.
pub(super) fn product(body: &[u8]) -> Result<Vec<Cycle>, Error> {
    let answer: Envelope<ProductResponse> = serde_json::from_slice(body)?;
    Ok(answer
        .result
        .releases
        .into_iter()
        .map(Cycle::from)
        .collect())
}

/// Parses a response of version 0, `/{product}.json`.
pub(super) fn product_v0(body: &[u8]) -> Result<Vec<Cycle>, Error> {
    let entries: Vec<CycleEntry> = serde_json::from_slice(body)?;
    Ok(entries.into_iter().map(Cycle::from).collect())
}

/// Identifier of a product, such as a package URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identifier {
    pub(super) identifier: String,
    pub(super) product: String,
}

/// Parses a response of `/v1/identifiers/purl`.
pub(super) fn identifiers(body: &[u8]) -> Result<Vec<Identifier>, Error> {
    #[derive(Deserialize)]
    struct IdentifierEntry {
        identifier: String,
        product: Named,
    }
    #[derive(Deserialize)]
    struct Named {
        name: String,
    }
    let answer: Envelope<Vec<IdentifierEntry>> = serde_json::from_slice(body)?;
    Ok(answer
        .result
        .into_iter()
        .map(|entry| Identifier {
            identifier: entry.identifier,
            product: entry.product.name,
        })
        .collect())
}
