//! The inventory: what the platform team publishes of its bases, for `check` in the pipelines of
//! applications.
//!
//! Written by `status --publish`, read by everything that asks for the newest base. It carries what
//! is needed to tell how a base stands on the day it is read, so that readers need no end-of-life
//! data of their own. Fields that this version does not know are passed over.

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use super::eol::{Acceptance, Calendar, Ends, Standing};
use super::{Digest, ImageReference, Repository, Tag};

/// The name and version of the form.
pub const SCHEMA: &str = "imglife/inventory/v1";

/// Bases as they are at a time.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Inventory {
    schema: String,
    pub time: DateTime<Utc>,
    /// An end that is fewer days away is warned about.
    pub warn_days: u32,
    pub bases: Vec<Base>,
}

/// A base image, with the tags that are published and those that records name.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Base {
    pub image: Repository,
    pub tags: Vec<BaseTag>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct BaseTag {
    pub tag: Tag,
    /// Whether the configuration builds it now: the newest of its line.
    #[serde(default)]
    pub current: bool,
    /// Floating tags that name the same image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<Tag>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// The products that it consists of; empty when nothing is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub eol: Vec<ProductEnd>,
    /// The applications that stand on it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<User>,
}

/// When the support of a product within an image ends.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct ProductEnd {
    pub product: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cycle: Option<String>,
    /// A date, `true` when it has ended, `false` when it has not and nobody knows when it will;
    /// missing when nothing is known.
    #[serde(
        default,
        deserialize_with = "read_ends",
        serialize_with = "write_ends",
        skip_serializing_if = "Option::is_none"
    )]
    pub ends: Option<Ends>,
    /// The last day of paid or accepted support.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_until: Option<NaiveDate>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct User {
    pub image: ImageReference,
    pub project: String,
}

/// Why a text is no inventory.
#[derive(Debug, Error)]
pub enum InvalidInventory {
    #[error("it is not the JSON of an inventory")]
    Json(#[source] serde_json::Error),
    #[error("it has the form `{0}`, and only `{SCHEMA}` is known")]
    OtherForm(String),
}

impl Inventory {
    /// Returns an inventory of these bases.
    pub fn new(time: DateTime<Utc>, warn_days: u32, bases: Vec<Base>) -> Inventory {
        Inventory {
            schema: SCHEMA.to_owned(),
            time,
            warn_days,
            bases,
        }
    }

    /// Returns the inventory that `bytes` hold.
    pub fn parse(bytes: &[u8]) -> Result<Inventory, InvalidInventory> {
        #[derive(Deserialize)]
        struct Form {
            schema: String,
        }
        let form: Form = serde_json::from_slice(bytes).map_err(InvalidInventory::Json)?;
        if form.schema != SCHEMA {
            return Err(InvalidInventory::OtherForm(super::text::excerpt(
                &form.schema,
                60,
            )));
        }
        serde_json::from_slice(bytes).map_err(InvalidInventory::Json)
    }

    /// Returns the bytes that [`parse`](Inventory::parse) reads, the same for equal inventories.
    pub fn to_bytes(&self) -> Result<Vec<u8>, InvalidInventory> {
        let mut bytes = serde_json::to_vec_pretty(self).map_err(InvalidInventory::Json)?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

impl BaseTag {
    /// Returns how the image stands: as its worst part does, at the earliest date.
    pub fn standing(&self, calendar: Calendar) -> Standing {
        let parts = self.eol.iter().map(|part| {
            let acceptance = part.accepted_until.map(|until| Acceptance {
                until,
                reason: String::new(),
            });
            Standing::of(part.ends, acceptance.as_ref(), calendar)
        });
        Standing::of_all(parts).unwrap_or(Standing::UNKNOWN)
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Ended(bool),
    On(NaiveDate),
}

fn read_ends<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Ends>, D::Error> {
    Ok(
        Option::<Written>::deserialize(deserializer)?.map(|written| match written {
            Written::Ended(true) => Ends::Ended,
            Written::Ended(false) => Ends::NotEnded,
            Written::On(date) => Ends::On(date),
        }),
    )
}

fn write_ends<S: Serializer>(ends: &Option<Ends>, serializer: S) -> Result<S::Ok, S::Error> {
    match ends {
        None => serializer.serialize_none(),
        Some(Ends::On(date)) => date.serialize(serializer),
        Some(Ends::Ended) => serializer.serialize_bool(true),
        Some(Ends::NotEnded) => serializer.serialize_bool(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::eol::Status;

    const TEXT: &str = r#"{
  "schema": "imglife/inventory/v1",
  "time": "2026-11-21T07:00:00Z",
  "warn_days": 30,
  "bases": [
    {
      "image": "r.example/bases/golang",
      "tags": [
        {
          "tag": "1.22.3-alpine3.21-core1.0.0",
          "current": true,
          "aliases": [
            "1.22"
          ],
          "eol": [
            {
              "product": "go",
              "cycle": "1.22",
              "ends": true,
              "accepted_until": "2026-12-31"
            },
            {
              "product": "alpine",
              "cycle": "3.21",
              "ends": "2026-12-01"
            },
            {
              "product": "x",
              "ends": false
            }
          ],
          "users": [
            {
              "image": "r.example/apps/web:1",
              "project": "team/web"
            }
          ]
        }
      ]
    }
  ]
}
"#;

    #[test]
    fn an_inventory_is_written_as_it_was_read() {
        let inventory = Inventory::parse(TEXT.as_bytes()).expect("an inventory");
        assert_eq!(
            String::from_utf8(inventory.to_bytes().expect("bytes")).expect("text"),
            TEXT
        );
        let newer = TEXT.replace("\"warn_days\"", "\"colour\": [1], \"warn_days\"");
        assert_eq!(
            Inventory::parse(newer.as_bytes()).expect("an inventory"),
            inventory
        );
    }

    #[test]
    fn a_base_stands_as_its_parts_do_on_the_day() {
        let inventory = Inventory::parse(TEXT.as_bytes()).expect("an inventory");
        let on = |today: &str| {
            let standing = inventory.bases[0].tags[0].standing(Calendar {
                today: today.parse().expect("a date"),
                warn_days: 30,
            });
            (standing.status, standing.days_left)
        };
        assert_eq!(on("2026-10-01"), (Status::Accepted, None));
        assert_eq!(on("2026-11-21"), (Status::Warning, Some(10)));
        assert_eq!(on("2026-12-02"), (Status::Expired, Some(-1)));
    }

    #[test]
    fn what_is_no_inventory_is_refused() {
        for (text, reason) in [
            ("[]", "not the JSON of an inventory"),
            ("{}", "not the JSON of an inventory"),
            (
                r#"{"schema":"imglife/inventory/v2"}"#,
                "has the form `imglife/inventory/v2`",
            ),
            (
                &TEXT.replace("2026-12-01", "soon"),
                "not the JSON of an inventory",
            ),
        ] {
            let error = Inventory::parse(text.as_bytes())
                .expect_err("no inventory")
                .to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
