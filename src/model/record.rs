//! Build records: what an application image was built on.
//!
//! A record is JSON, written by `register` and read by everything that asks who uses a base. Fields
//! that this version does not know are kept, so that an older program does not lose what a newer
//! one wrote.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};
use thiserror::Error;

use super::{Digest, ImageReference, Platform};

/// The largest record that is read, in bytes.
pub const LARGEST_RECORD: usize = 64 * 1024;

/// One application image and the base it stands on.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct BuildRecord {
    /// The application image, always with a tag.
    pub image: ImageReference,
    /// `None` in records of other origin that name no base; `register` writes none such.
    #[serde(
        default,
        deserialize_with = "filled",
        skip_serializing_if = "Option::is_none"
    )]
    pub base: Option<ImageReference>,
    #[serde(
        default,
        deserialize_with = "filled",
        skip_serializing_if = "Option::is_none"
    )]
    pub base_digest: Option<Digest>,
    #[serde(
        default,
        deserialize_with = "filled",
        skip_serializing_if = "Option::is_none"
    )]
    pub digest: Option<Digest>,
    #[serde(default)]
    pub revision: String,
    pub project: String,
    #[serde(default, deserialize_with = "from_texts", serialize_with = "as_texts")]
    pub platforms: Vec<Platform>,
    pub built_at: DateTime<Utc>,
    #[serde(default)]
    pub custom_fields: BTreeMap<String, Value>,
    /// What this version does not know.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// Why a text is no record.
#[derive(Debug, Error)]
pub enum InvalidRecord {
    #[error("it is larger than {LARGEST_RECORD} bytes")]
    TooLarge,
    #[error("it is not the JSON of a record")]
    Json(#[source] serde_json::Error),
    #[error("its image `{0}` has no tag")]
    WithoutTag(ImageReference),
    #[error("its `project` is empty")]
    WithoutProject,
}

impl BuildRecord {
    /// Returns the record that `bytes` hold.
    pub fn parse(bytes: &[u8]) -> Result<BuildRecord, InvalidRecord> {
        if bytes.len() > LARGEST_RECORD {
            return Err(InvalidRecord::TooLarge);
        }
        let record: BuildRecord = serde_json::from_slice(bytes).map_err(InvalidRecord::Json)?;
        record.check()?;
        Ok(record)
    }

    /// Returns the bytes that [`parse`](BuildRecord::parse) reads, the same for equal records.
    pub fn to_bytes(&self) -> Result<Vec<u8>, InvalidRecord> {
        self.check()?;
        let bytes = serde_json::to_vec(self).map_err(InvalidRecord::Json)?;
        if bytes.len() > LARGEST_RECORD {
            Err(InvalidRecord::TooLarge)
        } else {
            Ok(bytes)
        }
    }

    fn check(&self) -> Result<(), InvalidRecord> {
        if self.image.tag.is_none() {
            return Err(InvalidRecord::WithoutTag(self.image.clone()));
        }
        if self.project.trim().is_empty() {
            return Err(InvalidRecord::WithoutProject);
        }
        Ok(())
    }
}

/// Reads a value that may be missing, null or an empty text: all mean that there is none.
fn filled<'de, D: Deserializer<'de>, T: FromStr<Err: fmt::Display>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?.filter(|text| !text.is_empty());
    text.map(|text| text.parse().map_err(serde::de::Error::custom))
        .transpose()
}

fn from_texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Platform>, D::Error> {
    let texts = Option::<Vec<String>>::deserialize(deserializer)?.unwrap_or_default();
    texts
        .iter()
        .map(|text| text.parse().map_err(serde::de::Error::custom))
        .collect()
}

fn as_texts<S: Serializer>(platforms: &[Platform], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(platforms.iter().map(ToString::to_string))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"{"image":"registry.example/apps/web:1.2.0","base":"registry.example/bases/alpine:3.21.3-core1.0.0","revision":"4f2a","project":"team/web","platforms":["linux/amd64","linux/arm/v7"],"built_at":"2026-11-01T10:00:00Z","custom_fields":{"team":"web"},"colour":"blue"}"#;

    #[test]
    fn a_record_is_read_and_written_with_what_is_not_known() {
        let record = BuildRecord::parse(WHOLE.as_bytes()).expect("a record");
        assert_eq!(record.platforms[1].to_string(), "linux/arm/v7");
        assert_eq!(record.unknown["colour"], "blue");
        assert_eq!(
            String::from_utf8(record.to_bytes().expect("bytes")).expect("text"),
            WHOLE
        );
    }

    #[test]
    fn an_empty_base_is_none() {
        let record = BuildRecord::parse(
            br#"{"image":"r.example/a:1","base":"","base_digest":null,"project":"p","built_at":"2026-11-01T10:00:00+02:00"}"#,
        )
        .expect("a record");
        assert_eq!((record.base, record.base_digest), (None, None));
        assert_eq!(record.built_at.to_rfc3339(), "2026-11-01T08:00:00+00:00");
    }

    #[test]
    fn what_is_no_record_is_refused_with_the_reason() {
        let reason = |text: &str| {
            crate::error::chain(&BuildRecord::parse(text.as_bytes()).expect_err("no record"))
        };
        let cases = [
            (
                reason("[]"),
                "not the JSON of a record: invalid type: sequence",
            ),
            (
                reason(&WHOLE.replace(":1.2.0", "")),
                "its image `registry.example/apps/web` has no tag",
            ),
            (
                reason(&WHOLE.replace("team/web", " ")),
                "its `project` is empty",
            ),
            (
                reason(&WHOLE.replace("linux/amd64", "pdp11")),
                "`pdp11` is not a platform",
            ),
            (
                reason(&WHOLE.replace("4f2a", &"x".repeat(LARGEST_RECORD))),
                "larger than 65536 bytes",
            ),
            (reason(&"[".repeat(10_000)), "not the JSON of a record"),
        ];
        for (found, expected) in cases {
            assert!(found.contains(expected), "{found}");
        }
    }
}
