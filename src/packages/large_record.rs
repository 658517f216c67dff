//! Records that are larger than records may be: the fields that protect images are read from a
//! stream, the others are dropped.
//!
//! Everybody who may write a record could otherwise stop all readers of the store with one file, or
//! fill their memory.

use bytes::Bytes;
use futures_util::StreamExt;

use super::{FileKey, FileStream, MAX_FILE_SIZE};
use crate::error::ItemError;
use crate::model::record::MAX_RECORD_BYTES;
use crate::model::text::excerpt;
use crate::model::{Algorithm, Hasher};

/// Fields of a large record that are read. They name the images, and who built them.
const FIELDS: [&str; 9] = [
    "image",
    "base",
    "base_digest",
    "digest",
    "revision",
    "project",
    "platforms",
    "built_at",
    "replaced",
];

/// Maximum size of a field that is read from a large record, in bytes.
const MAX_FIELD_BYTES: usize = 64 * 1024;

/// Maximum size of the name of a field, in bytes.
const MAX_NAME_BYTES: usize = 256;

/// Number of dropped fields that are named.
const MAX_DROPPED: usize = 5;

/// Content of the file of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RecordContent {
    Whole(Bytes),
    /// The file is larger than a record may be.
    Reduced(ReducedRecord),
}

/// What is read of a file that is larger than a record may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ReducedRecord {
    /// JSON of the fields that were read; `None` if the content is no JSON object, or its hash does
    /// not match the name of the file.
    pub(super) json: Option<Vec<u8>>,
    /// Names of dropped fields, escaped for display.
    pub(super) dropped: Vec<String>,
}

/// Reads the record in the file `name`.
///
/// At most [`MAX_RECORD_BYTES`] are kept in memory. Of a larger file, at most [`MAX_FILE_SIZE`] are
/// read; the hash in its name is verified if that is all of it.
pub(super) async fn read(
    name: &FileKey,
    mut content: FileStream,
) -> Result<RecordContent, ItemError> {
    let mut start = Vec::new();
    let mut scan: Option<Scan> = None;
    while let Some(part) = content.next().await.transpose()? {
        match &mut scan {
            None => {
                start.extend_from_slice(&part);
                if start.len() > MAX_RECORD_BYTES {
                    let mut begun = Scan::default();
                    begun.feed(&std::mem::take(&mut start));
                    scan = Some(begun);
                }
            }
            Some(scan) => scan.feed(&part),
        }
        if scan.as_ref().is_some_and(|scan| scan.size > MAX_FILE_SIZE) {
            break;
        }
    }
    Ok(match scan {
        None => RecordContent::Whole(start.into()),
        Some(scan) => RecordContent::Reduced(scan.finish(name)),
    })
}

/// Position in the JSON object of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Position {
    #[default]
    Start,
    /// Before the name of a field, or in it.
    Name,
    /// Between the name of a field and its value.
    Colon,
    Value,
    End,
    Invalid,
}

/// Scan of the JSON of a large record.
struct Scan {
    hasher: Hasher,
    size: usize,
    position: Position,
    in_string: bool,
    is_escaped: bool,
    /// Number of arrays and objects within the value that are open.
    depth: usize,
    /// Name of the current field, in quotes.
    name: Vec<u8>,
    value: Vec<u8>,
    /// True if the value is larger than what is kept of it.
    is_cut: bool,
    /// Fields that were read, as JSON.
    fields: Vec<u8>,
    dropped: Vec<String>,
}

impl Default for Scan {
    fn default() -> Scan {
        Scan {
            hasher: Hasher::new(Algorithm::Sha256),
            size: 0,
            position: Position::Start,
            in_string: false,
            is_escaped: false,
            depth: 0,
            name: Vec::new(),
            value: Vec::new(),
            is_cut: false,
            fields: Vec::new(),
            dropped: Vec::new(),
        }
    }
}

impl Scan {
    fn feed(&mut self, part: &[u8]) {
        self.hasher.update(part);
        self.size = self.size.saturating_add(part.len());
        for &byte in part {
            self.step(byte);
        }
    }

    fn step(&mut self, byte: u8) {
        if self.in_string {
            self.keep(byte);
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' => self.is_escaped = true,
                b'"' => {
                    self.in_string = false;
                    if self.position == Position::Name {
                        self.position = Position::Colon;
                    }
                }
                _ => {}
            }
            return;
        }
        let is_space = matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        self.position = match (self.position, byte) {
            (Position::Value, b'"') => {
                self.keep(byte);
                self.in_string = true;
                Position::Value
            }
            (Position::Value, b'{' | b'[') => {
                self.keep(byte);
                self.depth += 1;
                Position::Value
            }
            (Position::Value, b'}' | b']') if self.depth > 0 => {
                self.keep(byte);
                self.depth -= 1;
                Position::Value
            }
            (Position::Value, b',' | b'}') if self.depth == 0 => {
                self.end_field();
                if byte == b',' {
                    Position::Name
                } else {
                    Position::End
                }
            }
            (Position::Value, _) => {
                if !is_space {
                    self.keep(byte);
                }
                Position::Value
            }
            (position, _) if is_space => position,
            (Position::Start, b'{') => Position::Name,
            (Position::Name, b'"') => {
                self.name.clear();
                self.keep(byte);
                self.in_string = true;
                Position::Name
            }
            (Position::Name, b'}') => Position::End,
            (Position::Colon, b':') => {
                self.value.clear();
                self.is_cut = false;
                Position::Value
            }
            _ => Position::Invalid,
        };
    }

    /// Keeps a byte of the current name or value, up to the limit of both.
    fn keep(&mut self, byte: u8) {
        match self.position {
            Position::Name if self.name.len() <= MAX_NAME_BYTES => self.name.push(byte),
            Position::Name => {}
            _ if self.value.len() < MAX_FIELD_BYTES => self.value.push(byte),
            _ => self.is_cut = true,
        }
    }

    fn end_field(&mut self) {
        let name = serde_json::from_slice::<String>(&self.name);
        let is_kept = name.as_ref().is_ok_and(|name| FIELDS.contains(&&**name));
        if is_kept && !self.is_cut {
            self.fields
                .push(if self.fields.is_empty() { b'{' } else { b',' });
            self.fields.extend_from_slice(&self.name);
            self.fields.push(b':');
            self.fields.extend_from_slice(&self.value);
        } else if self.dropped.len() < MAX_DROPPED {
            let name = name.unwrap_or_else(|_| String::from_utf8_lossy(&self.name).into_owned());
            self.dropped.push(excerpt(&name, 60));
        }
    }

    fn finish(mut self, name: &FileKey) -> ReducedRecord {
        let is_whole = self.size <= MAX_FILE_SIZE;
        let is_valid = if is_whole {
            let hash = self.hasher.finish();
            self.position == Position::End && has_hash(name, hash.hex())
        } else {
            self.position != Position::Invalid && !self.fields.is_empty()
        };
        self.fields.push(b'}');
        ReducedRecord {
            json: is_valid.then_some(self.fields),
            dropped: self.dropped,
        }
    }
}

/// Returns true if `hash` begins with the hash in the name of a file.
fn has_hash(name: &FileKey, hash: &str) -> bool {
    name.to_string()
        .strip_suffix(".json")
        .and_then(|name| name.rsplit_once('+'))
        .is_some_and(|(_, part)| !part.is_empty() && hash.starts_with(part))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use chrono::{DateTime, Utc};
    use futures_util::stream;

    use super::*;
    use crate::cache::Cache;
    use crate::model::{BuildRecord, Clock, Variables};
    use crate::packages::memory::MemoryFiles;
    use crate::packages::{EncodedName, PackageContents, PackageName, RecordSet, Records};

    const IMAGE: &str = "r.example/apps/web:1.0";
    const BASE: &str = "r.example/bases/alpine:3.21";

    /// Returns a record whose custom fields have this size. The large field comes first or last.
    fn large(size: usize, is_first: bool) -> String {
        let fields = format!(
            r#""image":"{IMAGE}","base":"{BASE}","project":"team/web","built_at":"2026-11-01T10:00:00Z""#
        );
        let large = format!(
            r#""custom_fields":{{"a\"}}]":[{{"image":"evil:1"}},"{}\\"],"base":"evil:2"}}"#,
            "x".repeat(size)
        );
        if is_first {
            format!("{{ {large} , {fields} }}\n")
        } else {
            format!("{{{fields},\n{large}}}")
        }
    }

    fn key(content: &str) -> FileKey {
        let now = DateTime::from_timestamp(1_794_000_000, 0).expect("a time");
        FileKey::new(EncodedName::of("1.0"), content.as_bytes(), now, None)
    }

    async fn read_in_parts(name: &FileKey, content: &str, size: usize) -> RecordContent {
        let parts: Vec<Result<Bytes, ItemError>> = content
            .as_bytes()
            .chunks(size)
            .map(|part| Ok(Bytes::copy_from_slice(part)))
            .collect();
        read(name, stream::iter(parts).boxed())
            .await
            .expect("content")
    }

    #[tokio::test]
    async fn content_within_the_limit_is_whole() {
        let content = large(MAX_RECORD_BYTES - 300, true);
        assert!(content.len() <= MAX_RECORD_BYTES);
        assert_eq!(
            read_in_parts(&key(&content), &content, 1000).await,
            RecordContent::Whole(content.clone().into())
        );
    }

    #[tokio::test]
    async fn images_of_a_large_record_are_read_wherever_they_are() {
        for is_first in [true, false] {
            let content = large(MAX_RECORD_BYTES, is_first);
            for size in [1, 7, 4096, content.len()] {
                let read = read_in_parts(&key(&content), &content, size).await;
                let RecordContent::Reduced(reduced) = read else {
                    panic!("it is large");
                };
                assert_eq!(reduced.dropped, ["custom_fields"]);
                let json = reduced.json.expect("JSON");
                assert!(json.len() < 300, "{}", json.len());
                let record = BuildRecord::parse(&json).expect("a record");
                assert_eq!(record.image.to_string(), IMAGE);
                assert_eq!(record.base.expect("a base").to_string(), BASE);
            }
        }
    }

    #[tokio::test]
    async fn large_content_that_is_no_record_is_rejected() {
        let valid = large(MAX_RECORD_BYTES, true);
        let is_read =
            async |name: &FileKey, content: &str| match read_in_parts(name, content, 5000).await {
                RecordContent::Reduced(reduced) => reduced
                    .json
                    .is_some_and(|json| BuildRecord::parse(&json).is_ok()),
                RecordContent::Whole(_) => panic!("it is large"),
            };
        assert!(is_read(&key(&valid), &valid).await);
        assert!(!is_read(&key("other"), &valid).await, "another hash");
        for content in [
            valid[..valid.len() - 3].to_owned(),
            format!("{valid}more"),
            format!("[{valid}]"),
            "x".repeat(MAX_RECORD_BYTES + 1),
            "[".repeat(MAX_RECORD_BYTES + 1),
            valid.replace("\"base\":\"r.", "\"base\":\"a:1\",\"base\":\"r."),
            valid
                .replace(BASE, &"b".repeat(MAX_FIELD_BYTES))
                .replace("\"image\"", "\"i\""),
        ] {
            assert!(
                !is_read(&key(&content), &content).await,
                "{}",
                &content[..20]
            );
        }
        // Not all of it is read, so its hash is unknown.
        let endless = large(MAX_FILE_SIZE, false);
        assert!(is_read(&key("other"), &endless).await);
    }

    #[tokio::test]
    async fn large_record_stops_nobody_and_still_protects_its_base() {
        let now: DateTime<Utc> = DateTime::from_timestamp(1_794_000_000, 0).expect("a time");
        let files = Arc::new(MemoryFiles::default());
        let prefix = "imglife".parse().expect("a prefix");
        let package = PackageName {
            prefix,
            contents: PackageContents::RecordsOf(EncodedName::of("r.example/apps/web")),
        };
        let content = large(MAX_FILE_SIZE, false);
        files.insert(&package, &key(&content).to_string(), content);
        let records = Records::new(
            files.clone(),
            package.prefix.clone(),
            Cache::user(&Variables::default(), false),
            Clock::fixed(now),
        );
        let RecordSet {
            records: read,
            unreadable,
            reduced,
            ..
        } = records.all().await.expect("a reading");
        assert_eq!((read.len(), unreadable.len()), (1, 0));
        assert_eq!(
            read[0].base.as_ref().map(ToString::to_string).as_deref(),
            Some(BASE)
        );
        assert!(
            reduced[0].problem.contains(
                "larger than 262144 bytes; it still protects its base, and `custom_fields` was not read"
            ),
            "{reduced:?}"
        );
        // The next record of the image replaces it.
        let mut next = read[0].clone();
        next.revision = "new".to_owned();
        records.put(&next).await.expect("written");
        let read = records.all_with_custom_fields().await.expect("a reading");
        assert_eq!((&read.records[0], read.reduced.len()), (&next, 0));
        // Such a record is not written.
        next.custom_fields
            .insert("x".to_owned(), "y".repeat(MAX_RECORD_BYTES).into());
        let error = records.put(&next).await.expect_err("too large");
        assert!(
            error.line().contains("larger than 262144 bytes"),
            "{}",
            error.line()
        );
        assert_eq!(files.paths().len(), 1);
    }

    #[tokio::test]
    async fn custom_fields_are_read_only_where_they_are_shown() {
        let files = Arc::new(MemoryFiles::default());
        let records = Records::new(
            files,
            "imglife".parse().expect("a prefix"),
            Cache::user(&Variables::default(), false),
            Clock::fixed(DateTime::UNIX_EPOCH),
        );
        let record = BuildRecord::parse(large(100, true).as_bytes()).expect("a record");
        records.put(&record).await.expect("written");
        let without = records.all().await.expect("a reading").records;
        assert!(without[0].custom_fields.is_empty());
        let with = records.all_with_custom_fields().await.expect("a reading");
        assert_eq!(with.records, [record]);
    }

    #[test]
    fn fuzzing_large_records() {
        let seed = large(10, true);
        crate::model::fuzz_tests::fuzz("large records", &[seed.as_str()], |input| {
            let mut scan = Scan::default();
            scan.feed(input);
            drop(scan.finish(&key("x")));
        });
    }
}
