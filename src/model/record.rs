//! Build records: which base image an application image was built on.
//!
//! A record is a JSON document. `register` writes it; the commands that need the applications on a
//! base image read it. Unknown fields are preserved, so that an older version of imglife does not
//! drop fields that a newer one wrote.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};
use thiserror::Error;

use super::{Digest, ImageReference, Platform};

/// Maximum size of a record, in bytes.
pub const MAX_RECORD_BYTES: usize = 64 * 1024;

/// A build record: one application image and its base image.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct BuildRecord {
    /// Application image. Always has a tag.
    pub image: ImageReference,
    /// Base image. `None` only in records that another program wrote; `register` always sets it.
    #[serde(
        default,
        deserialize_with = "empty_as_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub base: Option<ImageReference>,
    /// Digest of the base image at build time.
    #[serde(
        default,
        deserialize_with = "empty_as_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub base_digest: Option<Digest>,
    /// Digest of the application image.
    #[serde(
        default,
        deserialize_with = "empty_as_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub digest: Option<Digest>,
    /// Commit that the image was built from; empty if not recorded.
    #[serde(default)]
    pub revision: String,
    /// Project that builds the image, such as `team/web`. Never empty.
    pub project: String,
    /// Platforms that the image was built for.
    #[serde(
        default,
        deserialize_with = "read_platforms",
        serialize_with = "write_platforms"
    )]
    pub platforms: Vec<Platform>,
    /// Time of the build.
    pub built_at: DateTime<Utc>,
    /// Fields that the user added with `register --field`.
    #[serde(default)]
    pub custom_fields: BTreeMap<String, Value>,
    /// Fields that this version of imglife does not define.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// Error for bytes that are not a valid build record.
#[derive(Debug, Error)]
pub enum InvalidRecord {
    #[error("the record is larger than {MAX_RECORD_BYTES} bytes")]
    TooLarge,
    #[error("the JSON is not a build record")]
    Json(#[source] serde_json::Error),
    #[error("the `image` `{0}` has no tag")]
    WithoutTag(ImageReference),
    #[error("the `project` is empty")]
    WithoutProject,
}

impl BuildRecord {
    /// Parses the JSON of a record.
    pub fn parse(bytes: &[u8]) -> Result<BuildRecord, InvalidRecord> {
        if bytes.len() > MAX_RECORD_BYTES {
            return Err(InvalidRecord::TooLarge);
        }
        let record: BuildRecord = serde_json::from_slice(bytes).map_err(InvalidRecord::Json)?;
        record.check()?;
        Ok(record)
    }

    /// Returns the JSON of the record. Equal records give equal bytes.
    ///
    /// Fails if [`parse`](BuildRecord::parse) would reject the result.
    pub fn to_bytes(&self) -> Result<Vec<u8>, InvalidRecord> {
        self.check()?;
        let bytes = serde_json::to_vec(self).map_err(InvalidRecord::Json)?;
        if bytes.len() > MAX_RECORD_BYTES {
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

/// Reads an optional value. Missing, `null` and the empty string all mean `None`.
fn empty_as_none<'de, D: Deserializer<'de>, T: FromStr<Err: fmt::Display>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?.filter(|text| !text.is_empty());
    text.map(|text| text.parse().map_err(serde::de::Error::custom))
        .transpose()
}

fn read_platforms<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Platform>, D::Error> {
    let texts = Option::<Vec<String>>::deserialize(deserializer)?.unwrap_or_default();
    texts
        .iter()
        .map(|text| text.parse().map_err(serde::de::Error::custom))
        .collect()
}

fn write_platforms<S: Serializer>(
    platforms: &[Platform],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(platforms.iter().map(ToString::to_string))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"{"image":"registry.example/apps/web:1.2.0","base":"registry.example/bases/alpine:3.21.3-core1.0.0","revision":"4f2a","project":"team/web","platforms":["linux/amd64","linux/arm/v7"],"built_at":"2026-11-01T10:00:00Z","custom_fields":{"team":"web"},"colour":"blue"}"#;

    #[test]
    fn unknown_fields_survive_a_round_trip() {
        let record = BuildRecord::parse(WHOLE.as_bytes()).expect("a record");
        assert_eq!(record.platforms[1].to_string(), "linux/arm/v7");
        assert_eq!(record.unknown["colour"], "blue");
        assert_eq!(
            String::from_utf8(record.to_bytes().expect("bytes")).expect("text"),
            WHOLE
        );
    }

    #[test]
    fn parse_reads_an_empty_base_as_none() {
        let record = BuildRecord::parse(
            br#"{"image":"r.example/a:1","base":"","base_digest":null,"project":"p","built_at":"2026-11-01T10:00:00+02:00"}"#,
        )
        .expect("a record");
        assert_eq!((record.base, record.base_digest), (None, None));
        assert_eq!(record.built_at.to_rfc3339(), "2026-11-01T08:00:00+00:00");
    }

    #[test]
    fn parse_reports_why_a_record_is_invalid() {
        let reason = |text: &str| {
            crate::error::chain(&BuildRecord::parse(text.as_bytes()).expect_err("no record"))
        };
        let cases = [
            (
                reason("[]"),
                "the JSON is not a build record: invalid type: sequence",
            ),
            (
                reason(&WHOLE.replace(":1.2.0", "")),
                "the `image` `registry.example/apps/web` has no tag",
            ),
            (
                reason(&WHOLE.replace("team/web", " ")),
                "the `project` is empty",
            ),
            (
                reason(&WHOLE.replace("linux/amd64", "pdp11")),
                "`pdp11` is not a platform",
            ),
            (
                reason(&WHOLE.replace("4f2a", &"x".repeat(MAX_RECORD_BYTES))),
                "larger than 65536 bytes",
            ),
            (
                reason(&"[".repeat(10_000)),
                "the JSON is not a build record",
            ),
        ];
        for (found, expected) in cases {
            assert!(found.contains(expected), "{found}");
        }
    }
}
