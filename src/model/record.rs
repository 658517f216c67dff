//! Build records: which base image an application image was built on.
//!
//! A record is a JSON document. `register` writes it; the commands that need the applications on a
//! base image read it. Unknown fields are preserved, so that an older version of imglife does not
//! drop fields that a newer one wrote.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};
use thiserror::Error;

use super::{Digest, ImageReference, Platform};

/// Maximum size of a record, in bytes.
pub const MAX_RECORD_BYTES: usize = 256 * 1024;

/// Time for which a record that another project replaced still protects its base.
pub const REPLACED_RECORD_LIMIT: TimeDelta = TimeDelta::days(30);

/// Maximum number of replaced records that a record keeps. The oldest are dropped.
const MAX_REPLACED_RECORDS: usize = 32;

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
    /// Records of other projects that this record replaced, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaced: Vec<ReplacedRecord>,
    /// Fields that this version of imglife does not define.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// A record that the record of another project replaced.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct ReplacedRecord {
    /// Project that wrote the replaced record.
    pub project: String,
    #[serde(
        default,
        deserialize_with = "empty_as_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub base: Option<ImageReference>,
    #[serde(
        default,
        deserialize_with = "empty_as_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub base_digest: Option<Digest>,
    pub replaced_at: DateTime<Utc>,
}

impl ReplacedRecord {
    /// Returns the digests that the replaced record names.
    pub fn digests(&self) -> impl Iterator<Item = &Digest> {
        let base = self.base.iter().filter_map(|base| base.digest.as_ref());
        base.chain(&self.base_digest)
    }

    /// Returns the time until which the replaced record protects its base.
    pub fn protects_until(&self) -> DateTime<Utc> {
        self.replaced_at
            .checked_add_signed(REPLACED_RECORD_LIMIT)
            .unwrap_or(DateTime::<Utc>::MAX_UTC)
    }
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

    /// Takes over the protections of `previous`, the record that this one replaces at `now`.
    ///
    /// These are the replaced records in `previous` that still protect their bases, and, if
    /// `previous` belongs to another project, its own base.
    pub fn replace(&mut self, previous: &BuildRecord, now: DateTime<Utc>) {
        let mut replaced: Vec<ReplacedRecord> = previous
            .replaced
            .iter()
            .chain(&self.replaced)
            .filter(|replaced| replaced.protects_until() > now)
            .cloned()
            .collect();
        if previous.project != self.project {
            replaced.retain(|replaced| {
                (&replaced.base, &replaced.base_digest) != (&previous.base, &previous.base_digest)
                    || replaced.project != previous.project
            });
            replaced.push(ReplacedRecord {
                project: previous.project.clone(),
                base: previous.base.clone(),
                base_digest: previous.base_digest.clone(),
                replaced_at: now,
            });
        }
        replaced.drain(..replaced.len().saturating_sub(MAX_REPLACED_RECORDS));
        self.replaced = replaced;
    }

    /// Removes the fields that only a detailed list of records shows. Their sizes are limited only
    /// by that of the record.
    pub fn drop_custom_fields(&mut self) {
        self.custom_fields = BTreeMap::new();
        self.unknown = Map::new();
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
    fn replacing_a_record_of_another_project_keeps_its_base_for_thirty_days() {
        let of = |project: &str, base: &str| {
            BuildRecord::parse(
                format!(
                    r#"{{"image":"r.example/a:1","base":"r.example/b:{base}","project":"{project}","built_at":"2026-11-01T10:00:00Z"}}"#
                )
                .as_bytes(),
            )
            .expect("a record")
        };
        let day = |day: i64| DateTime::UNIX_EPOCH + TimeDelta::days(20_000 + day);
        let bases = |record: &BuildRecord| -> Vec<String> {
            let name = |replaced: &ReplacedRecord| {
                let base = replaced.base.as_ref().expect("a base");
                format!("{} {base}", replaced.project)
            };
            record.replaced.iter().map(name).collect()
        };
        let first = of("one", "1");
        let mut own = of("one", "2");
        own.replace(&first, day(0));
        assert_eq!(bases(&own), Vec::<String>::new(), "its own project");
        let mut other = of("two", "3");
        other.replace(&own, day(1));
        assert_eq!(bases(&other), ["one r.example/b:2"]);
        let mut later = of("two", "4");
        later.replace(&other, day(30));
        assert_eq!(
            bases(&later),
            ["one r.example/b:2"],
            "kept when it is replaced again"
        );
        let mut back = of("one", "2");
        back.replace(&later, day(31));
        assert_eq!(bases(&back), ["two r.example/b:4"], "the first has ended");
        let text = String::from_utf8(back.to_bytes().expect("bytes")).expect("text");
        assert!(text.contains(r#""replaced":[{"project":"two","base":"r.example/b:4","#));
        assert_eq!(BuildRecord::parse(text.as_bytes()).expect("a record"), back);
        let mut many = of("one", "0");
        for number in 0..100 {
            let mut next = of(&format!("p{number}"), &number.to_string());
            next.replace(&many, day(40));
            many = next;
        }
        assert_eq!(many.replaced.len(), MAX_REPLACED_RECORDS);
        assert_eq!(many.replaced.last().map(|last| &*last.project), Some("p98"));
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
                "larger than 262144 bytes",
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
