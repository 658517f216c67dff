//! The inventory: the base images that a platform team publishes, with their end-of-life dates.
//!
//! `status --publish` writes it; `check` and `app` read it in the pipelines of applications. It
//! contains the end-of-life dates themselves, so that readers can assess a base image on the
//! current day without end-of-life data of their own. Unknown fields are ignored.

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use super::eol::{Acceptance, Calendar, EolAssessment, SupportEnd};
use super::{Digest, ImageReference, Repository, Tag};

/// Name and version of the format.
pub const SCHEMA: &str = "imglife/inventory/v1";

/// The base images that are published at a point in time.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Inventory {
    schema: String,
    /// Time at which the inventory was written.
    pub time: DateTime<Utc>,
    /// Number of days before an end-of-life date at which warnings start.
    pub warn_days: u32,
    /// Base images, one entry per repository.
    pub bases: Vec<InventoryBase>,
}

/// A base image repository, with the tags that are published or that build records refer to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct InventoryBase {
    /// Repository of the base image.
    pub image: Repository,
    /// Tags in the repository.
    pub tags: Vec<InventoryTag>,
}

/// A tag of a base image.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct InventoryTag {
    /// The tag.
    pub tag: Tag,
    /// True if the configuration currently builds this tag, which makes it the newest of its line.
    #[serde(default)]
    pub current: bool,
    /// Floating tags that point to the same image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<Tag>,
    /// Digest of the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// Products in the image; empty if they are unknown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub eol: Vec<InventoryProduct>,
    /// Applications that are built on the image, according to build records.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<InventoryUser>,
}

/// A product in a base image and the end of its support.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct InventoryProduct {
    /// Name of the product.
    pub product: String,
    /// Release cycle of the product; `None` if it is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cycle: Option<String>,
    /// End of support.
    ///
    /// JSON: a date, `true` if support has ended on an unknown date, `false` if no end is
    /// announced. Missing if the end is unknown.
    #[serde(
        default,
        deserialize_with = "read_support_end",
        serialize_with = "write_support_end",
        skip_serializing_if = "Option::is_none"
    )]
    pub ends: Option<SupportEnd>,
    /// Last day of paid support or of an accepted risk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_until: Option<NaiveDate>,
}

/// An application that is built on a base image.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct InventoryUser {
    /// Application image.
    pub image: ImageReference,
    /// Project that builds the application.
    pub project: String,
}

/// Error for bytes that are not an inventory.
#[derive(Debug, Error)]
pub enum InvalidInventory {
    #[error("the JSON is not an inventory")]
    Json(#[source] serde_json::Error),
    #[error("unsupported inventory schema `{0}`: expected `{SCHEMA}`")]
    UnsupportedSchema(String),
}

impl Inventory {
    /// Returns an inventory in the current schema.
    pub fn new(time: DateTime<Utc>, warn_days: u32, bases: Vec<InventoryBase>) -> Inventory {
        Inventory {
            schema: SCHEMA.to_owned(),
            time,
            warn_days,
            bases,
        }
    }

    /// Parses the JSON of an inventory. Fails for any other schema version.
    pub fn parse(bytes: &[u8]) -> Result<Inventory, InvalidInventory> {
        #[derive(Deserialize)]
        struct SchemaField {
            schema: String,
        }
        let header: SchemaField = serde_json::from_slice(bytes).map_err(InvalidInventory::Json)?;
        if header.schema != SCHEMA {
            return Err(InvalidInventory::UnsupportedSchema(super::text::excerpt(
                &header.schema,
                60,
            )));
        }
        serde_json::from_slice(bytes).map_err(InvalidInventory::Json)
    }

    /// Returns the JSON that [`parse`](Inventory::parse) reads. Equal inventories give equal bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>, InvalidInventory> {
        let mut bytes = serde_json::to_vec_pretty(self).map_err(InvalidInventory::Json)?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

impl InventoryTag {
    /// Returns the assessment of the image: the worst of its products, with the earliest date.
    pub fn assess(&self, calendar: Calendar) -> EolAssessment {
        let products = self.eol.iter().map(|product| {
            let acceptance = product.accepted_until.map(|until| Acceptance {
                until,
                reason: String::new(),
            });
            EolAssessment::of(product.ends, acceptance.as_ref(), calendar)
        });
        EolAssessment::worst_of(products).unwrap_or(EolAssessment::UNKNOWN)
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawSupportEnd {
    Ended(bool),
    On(NaiveDate),
}

fn read_support_end<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SupportEnd>, D::Error> {
    Ok(
        Option::<RawSupportEnd>::deserialize(deserializer)?.map(|raw| match raw {
            RawSupportEnd::Ended(true) => SupportEnd::Ended,
            RawSupportEnd::Ended(false) => SupportEnd::NotEnded,
            RawSupportEnd::On(date) => SupportEnd::On(date),
        }),
    )
}

fn write_support_end<S: Serializer>(
    ends: &Option<SupportEnd>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match ends {
        None => serializer.serialize_none(),
        Some(SupportEnd::On(date)) => date.serialize(serializer),
        Some(SupportEnd::Ended) => serializer.serialize_bool(true),
        Some(SupportEnd::NotEnded) => serializer.serialize_bool(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::eol::EolStatus;

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
    fn inventory_survives_a_round_trip() {
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
    fn assess_returns_the_worst_product_on_the_given_day() {
        let inventory = Inventory::parse(TEXT.as_bytes()).expect("an inventory");
        let on = |today: &str| {
            let assessment = inventory.bases[0].tags[0].assess(Calendar {
                today: today.parse().expect("a date"),
                warn_days: 30,
            });
            (assessment.status, assessment.days_left)
        };
        assert_eq!(on("2026-10-01"), (EolStatus::Accepted, None));
        assert_eq!(on("2026-11-21"), (EolStatus::Warning, Some(10)));
        assert_eq!(on("2026-12-02"), (EolStatus::Expired, Some(-1)));
    }

    #[test]
    fn parse_rejects_other_documents() {
        for (text, reason) in [
            ("[]", "the JSON is not an inventory"),
            ("{}", "the JSON is not an inventory"),
            (
                r#"{"schema":"imglife/inventory/v2"}"#,
                "unsupported inventory schema `imglife/inventory/v2`",
            ),
            (
                &TEXT.replace("2026-12-01", "soon"),
                "the JSON is not an inventory",
            ),
        ] {
            let error = Inventory::parse(text.as_bytes())
                .expect_err("no inventory")
                .to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
