//! Tests of [`Records`] with a store in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};

use super::memory::{MemoryFiles, StoreCall};
use super::{
    DataFileKind, EncodedName, FileKey, FileListing, FileName, ListedFile, PackageContents,
    PackageName, PackageScope, Prefix, ReadOnlyFiles, RecordDeletion, RecordStore, Records,
};
use crate::cache::Cache;
use crate::cache::testing::cache_in;
use crate::error::{ItemError, ItemErrorKind};
use crate::model::{BuildRecord, Clock, ImageReference, Repository, Variables};

const START: i64 = 1_794_000_000;

struct World {
    files: Arc<MemoryFiles>,
    records: Records,
    /// Seconds since 1970.
    now: Arc<AtomicI64>,
}

fn world() -> World {
    world_with(Cache::user(&Variables::default(), true))
}

fn world_with(cache: Cache) -> World {
    let (files, now) = (
        Arc::new(MemoryFiles::default()),
        Arc::new(AtomicI64::new(START)),
    );
    World {
        records: records(files.clone(), cache, &now),
        files,
        now,
    }
}

fn records(files: Arc<dyn RecordStore>, cache: Cache, now: &Arc<AtomicI64>) -> Records {
    let now = Arc::clone(now);
    let clock = Clock::new(move || {
        DateTime::from_timestamp(now.load(Ordering::Relaxed), 0).expect("a time")
    });
    Records::new(files, "imglife".parse().expect("a prefix"), cache, clock)
}

fn record(image: &str, revision: &str) -> BuildRecord {
    let text = format!(
        r#"{{"image":"{image}","base":"r.example/bases/alpine:3.21","revision":"{revision}","project":"p","built_at":"2026-11-01T10:00:00Z"}}"#
    );
    BuildRecord::parse(text.as_bytes()).expect("a record")
}

fn image(text: &str) -> ImageReference {
    text.parse().expect("an image")
}

fn repository(text: &str) -> Repository {
    text.parse().expect("a repository")
}

fn package(repository: &str) -> PackageName {
    PackageName {
        prefix: "imglife".parse().expect("a prefix"),
        contents: PackageContents::RecordsOf(EncodedName::of(repository)),
    }
}

fn file(tag: &str, content: &[u8], seconds: i64) -> String {
    let time: DateTime<Utc> = DateTime::from_timestamp(seconds, 0).expect("a time");
    FileKey::new(EncodedName::of(tag), content, time, None).to_string()
}

async fn shown(records: &Records) -> Vec<(String, String)> {
    let reading = records.all().await.expect("a reading");
    assert_eq!(reading.unreadable, []);
    reading
        .records
        .into_iter()
        .map(|record| (record.image.to_string(), record.revision))
        .collect()
}

fn pair(image: &str, revision: &str) -> (String, String) {
    (image.to_owned(), revision.to_owned())
}

#[tokio::test]
async fn records_are_listed_by_image_and_by_repository() {
    let World { records, .. } = world();
    for (image, revision) in [
        ("r.example/b:1", "b1"),
        ("r.example/a:2", "a2"),
        ("r.example/a:RC1", "upper"),
        ("r.example/a:rc1", "lower"),
    ] {
        records
            .put(&record(image, revision))
            .await
            .expect("written");
    }
    let of_a = [
        pair("r.example/a:2", "a2"),
        pair("r.example/a:RC1", "upper"),
        pair("r.example/a:rc1", "lower"),
    ];
    assert_eq!(
        shown(&records).await,
        [&of_a[..], &[pair("r.example/b:1", "b1")]].concat()
    );
    let reading = records
        .of(&repository("r.example/a"))
        .await
        .expect("a reading");
    assert_eq!(reading.records.len(), 3);
    assert!(
        records
            .of(&repository("r.example/c"))
            .await
            .expect("a reading")
            .records
            .is_empty()
    );
}

#[tokio::test]
async fn put_replaces_a_record_and_deletes_its_earlier_files() {
    let World {
        records,
        files,
        now,
    } = world();
    let first = records
        .put(&record("r.example/a:1", "one"))
        .await
        .expect("written");
    assert!(first.previous.is_none() && first.cleanup_error.is_none());
    // The clock of another machine.
    now.store(START - 3600, Ordering::Relaxed);
    let second = records
        .put(&record("r.example/a:1", "two"))
        .await
        .expect("written");
    assert_eq!(
        second.previous.map(|record| record.revision).as_deref(),
        Some("one")
    );
    assert_eq!(shown(&records).await, [pair("r.example/a:1", "two")]);
    assert_eq!(files.paths(), [second.file]);
    assert!(
        first.file < files.paths()[0],
        "{} is not before {}",
        first.file,
        files.paths()[0]
    );
}

#[tokio::test]
async fn put_replaces_a_record_without_permission_to_delete() {
    let World { records, files, .. } = world();
    records
        .put(&record("r.example/a:1", "one"))
        .await
        .expect("written");
    files.fail(StoreCall::Delete, ItemErrorKind::Forbidden);
    let put = records
        .put(&record("r.example/a:1", "two"))
        .await
        .expect("written");
    assert_eq!(
        put.cleanup_error.map(|error| error.kind),
        Some(ItemErrorKind::Forbidden)
    );
    assert_eq!(
        (files.paths().len(), shown(&records).await),
        (2, vec![pair("r.example/a:1", "two")])
    );
    files.recover();
    records
        .put(&record("r.example/a:1", "three"))
        .await
        .expect("written");
    assert_eq!(
        (files.paths().len(), shown(&records).await),
        (1, vec![pair("r.example/a:1", "three")])
    );
}

#[tokio::test]
async fn failed_put_leaves_the_record_unchanged() {
    let World { records, files, .. } = world();
    records
        .put(&record("r.example/a:1", "one"))
        .await
        .expect("written");
    files.fail(StoreCall::Put, ItemErrorKind::Unreachable);
    assert!(records.put(&record("r.example/a:1", "two")).await.is_err());
    assert_eq!(
        (files.paths().len(), files.count(StoreCall::Delete)),
        (1, 0)
    );
    files.recover();
    assert_eq!(shown(&records).await, [pair("r.example/a:1", "one")]);
}

#[tokio::test]
async fn interrupted_delete_leaves_the_newest_record() {
    let World { records, files, .. } = world();
    files.insert(
        &package("r.example/a"),
        &file("1", &bytes("old"), START - 10),
        bytes("old"),
    );
    files.insert(
        &package("r.example/a"),
        &file("1", &bytes("new"), START),
        bytes("new"),
    );
    let failing = Arc::new(FailingDeletes {
        inside: files.clone(),
        deletions: AtomicI64::new(1),
    });
    let failing_records = self::records(
        failing,
        Cache::user(&Variables::default(), true),
        &Arc::new(AtomicI64::new(START)),
    );
    let new = record("r.example/a:1", "new");
    assert!(failing_records.delete(&new).await.is_err());
    assert_eq!(shown(&records).await, [pair("r.example/a:1", "new")]);
    assert_eq!(
        records.delete(&new).await.expect("deleted"),
        RecordDeletion::Done
    );
    assert!(
        files.paths().is_empty()
            && records.delete(&new).await.expect("nothing there") == RecordDeletion::Absent
    );
}

#[tokio::test]
async fn delete_keeps_a_record_that_was_replaced_since() {
    let World { records, files, .. } = world();
    let read = record("r.example/a:1", "one");
    records.put(&read).await.expect("written");
    records
        .put(&record("r.example/a:1", "two"))
        .await
        .expect("written");
    assert_eq!(
        records.delete(&read).await.expect("no error"),
        RecordDeletion::Replaced
    );
    assert_eq!(
        (files.paths().len(), shown(&records).await),
        (1, vec![pair("r.example/a:1", "two")])
    );
}

fn bytes(revision: &str) -> Vec<u8> {
    record("r.example/a:1", revision).to_bytes().expect("bytes")
}

/// A store that fails after a number of deletions.
struct FailingDeletes {
    inside: Arc<MemoryFiles>,
    deletions: AtomicI64,
}

#[async_trait]
impl RecordStore for FailingDeletes {
    fn name(&self) -> String {
        self.inside.name()
    }

    async fn put(&self, file: &FileName, content: Bytes) -> Result<(), ItemError> {
        self.inside.put(file, content).await
    }

    async fn get(&self, file: &FileName) -> Result<Option<Bytes>, ItemError> {
        self.inside.get(file).await
    }

    async fn list(&self, scope: &PackageScope) -> Result<FileListing, ItemError> {
        self.inside.list(scope).await
    }

    async fn probe(&self, _: crate::probe::ProbeCredential) -> crate::probe::ProbeReport {
        crate::probe::ProbeReport::default()
    }

    async fn delete(&self, file: &ListedFile) -> Result<(), ItemError> {
        if self.deletions.fetch_sub(1, Ordering::Relaxed) > 0 {
            return self.inside.delete(file).await;
        }
        Err(ItemError::new(
            self.name(),
            "delete",
            ItemErrorKind::Unreachable,
            "",
        ))
    }
}

#[tokio::test]
async fn readers_agree_after_two_simultaneous_writes() {
    let World {
        files,
        records,
        now,
    } = world();
    records
        .put(&record("r.example/a:1", "before"))
        .await
        .expect("written");
    // Both have listed only the first file when they write.
    let one = Arc::new(SimultaneousWrites {
        inside: files.clone(),
        barrier: tokio::sync::Barrier::new(2),
    });
    let cache = || Cache::user(&Variables::default(), true);
    let (a, b) = (
        self::records(one.clone(), cache(), &now),
        self::records(one, cache(), &now),
    );
    let (left, right) = (
        record("r.example/a:1", "left"),
        record("r.example/a:1", "right"),
    );
    let (left, right) = tokio::join!(a.put(&left), b.put(&right));
    let winner = left
        .expect("written")
        .file
        .max(right.expect("written").file);
    assert_eq!(files.paths().last(), Some(&winner));
    let seen = shown(&records).await;
    assert_eq!(
        (seen.len(), shown(&a).await == seen, files.paths().len()),
        (1, true, 2)
    );
    records
        .put(&record("r.example/a:1", "after"))
        .await
        .expect("written");
    assert_eq!(
        (shown(&records).await, files.paths().len()),
        (vec![pair("r.example/a:1", "after")], 1)
    );
}

/// A store in which two writers write at the same time.
struct SimultaneousWrites {
    inside: Arc<MemoryFiles>,
    barrier: tokio::sync::Barrier,
}

#[async_trait]
impl RecordStore for SimultaneousWrites {
    fn name(&self) -> String {
        self.inside.name()
    }

    async fn put(&self, file: &FileName, content: Bytes) -> Result<(), ItemError> {
        self.barrier.wait().await;
        self.inside.put(file, content).await
    }

    async fn get(&self, file: &FileName) -> Result<Option<Bytes>, ItemError> {
        self.inside.get(file).await
    }

    async fn list(&self, scope: &PackageScope) -> Result<FileListing, ItemError> {
        self.inside.list(scope).await
    }

    async fn probe(&self, _: crate::probe::ProbeCredential) -> crate::probe::ProbeReport {
        crate::probe::ProbeReport::default()
    }

    async fn delete(&self, file: &ListedFile) -> Result<(), ItemError> {
        self.inside.delete(file).await
    }
}

#[tokio::test]
async fn record_that_is_replaced_during_the_read_is_read_again() {
    let World {
        files,
        records,
        now,
    } = world();
    records
        .put(&record("r.example/a:1", "one"))
        .await
        .expect("written");
    let slow = Arc::new(ReplacedWhileRead {
        inside: files.clone(),
        writer: records.clone(),
    });
    let reader = self::records(slow, Cache::user(&Variables::default(), true), &now);
    assert_eq!(shown(&reader).await, [pair("r.example/a:1", "two")]);
}

/// A store in which a record is replaced between listing and reading.
struct ReplacedWhileRead {
    inside: Arc<MemoryFiles>,
    writer: Records,
}

#[async_trait]
impl RecordStore for ReplacedWhileRead {
    fn name(&self) -> String {
        self.inside.name()
    }

    async fn put(&self, file: &FileName, content: Bytes) -> Result<(), ItemError> {
        self.inside.put(file, content).await
    }

    async fn get(&self, file: &FileName) -> Result<Option<Bytes>, ItemError> {
        self.inside.get(file).await
    }

    async fn list(&self, scope: &PackageScope) -> Result<FileListing, ItemError> {
        let listing = self.inside.list(scope).await?;
        if matches!(scope, PackageScope::AllRecords(_)) {
            self.writer.put(&record("r.example/a:1", "two")).await?;
        }
        Ok(listing)
    }

    async fn probe(&self, _: crate::probe::ProbeCredential) -> crate::probe::ProbeReport {
        crate::probe::ProbeReport::default()
    }

    async fn delete(&self, file: &ListedFile) -> Result<(), ItemError> {
        self.inside.delete(file).await
    }
}

#[tokio::test]
async fn unreadable_files_are_reported_and_skipped() {
    let World { records, files, .. } = world();
    records
        .put(&record("r.example/a:1", "one"))
        .await
        .expect("written");
    let package = package("r.example/a");
    let other = record("r.example/b:1", "x").to_bytes().expect("bytes");
    files.insert(&package, "notes.txt", "hello");
    files.insert(&package, &file("2", b"{}", START), "{}");
    files.insert(&package, &file("3", b"[", START), "changed");
    files.insert(&package, &file("4", &other, START), other);
    let reading = records.all().await.expect("a reading");
    assert_eq!(reading.records.len(), 1);
    let reported: Vec<String> = reading
        .unreadable
        .iter()
        .map(|file| format!("{} {}", &file.file[29..31], file.problem))
        .collect();
    let expected = [
        "2+ the JSON is not a build record: missing field `image` at line 1 column 2",
        "3+ its content does not match the hash in its name",
        "4+ it is the record of another image, r.example/b:1",
        "no its name is not that of a record",
    ];
    assert_eq!(reported, expected);
}

#[tokio::test]
async fn put_preserves_fields_of_newer_versions() {
    let World { records, files, .. } = world();
    let newer = br#"{"image":"r.example/a:1","project":"p","built_at":"2026-11-01T10:00:00Z","colour":"blue","size":1}"#;
    files.insert(
        &package("r.example/a"),
        &file("1", newer, START - 1),
        &newer[..],
    );
    let mut mine = record("r.example/a:1", "two");
    mine.unknown.insert("size".to_owned(), 2.into());
    records.put(&mine).await.expect("written");
    let reading = records.all_with_custom_fields().await.expect("a reading");
    assert_eq!(reading.records[0].revision, "two");
    assert_eq!(
        serde_json::to_string(&reading.records[0].unknown).expect("JSON"),
        r#"{"size":2,"colour":"blue"}"#
    );
}

#[tokio::test]
async fn each_newest_file_is_fetched_once() {
    let home = tempfile::tempdir().expect("a directory");
    let cache = |writes| {
        Cache::user(
            &[("HOME", home.path().to_string_lossy())]
                .into_iter()
                .collect(),
            writes,
        )
    };
    let World {
        files,
        records,
        now,
    } = world_with(cache(true));
    for number in 0..20 {
        let (image, seconds) = (
            format!("r.example/a{}:{number}", number % 3),
            START - number,
        );
        let content = record(&image, "old").to_bytes().expect("bytes");
        files.insert(
            &package(&format!("r.example/a{}", number % 3)),
            &file(&number.to_string(), &content, seconds - 100),
            "never read",
        );
        files.insert(
            &package(&format!("r.example/a{}", number % 3)),
            &file(&number.to_string(), &content, seconds),
            content,
        );
    }
    assert_eq!(
        (shown(&records).await.len(), files.count(StoreCall::Get)),
        (20, 20)
    );
    assert_eq!(
        (shown(&records).await.len(), files.count(StoreCall::Get)),
        (20, 20)
    );
    // A read-only run uses the cache too, and fetches only the new file.
    records
        .put(&record("r.example/a1:1", "new"))
        .await
        .expect("written");
    let fetched = files.count(StoreCall::Get);
    let reader = self::records(
        Arc::new(ReadOnlyFiles::new(files.clone())),
        cache(false),
        &now,
    );
    assert!(
        shown(&reader)
            .await
            .contains(&pair("r.example/a1:1", "new"))
    );
    assert_eq!(files.count(StoreCall::Get), fetched + 1);
}

#[tokio::test]
async fn file_is_fetched_once_without_a_cache() {
    let World { files, records, .. } = world();
    records
        .put(&record("r.example/a:1", "one"))
        .await
        .expect("written");
    assert_eq!(
        (
            shown(&records).await.len(),
            shown(&records.clone()).await.len(),
            files.count(StoreCall::Get)
        ),
        (1, 1, 1)
    );
    records
        .put(&record("r.example/a:2", "two"))
        .await
        .expect("written");
    assert_eq!(
        (shown(&records).await.len(), files.count(StoreCall::Get)),
        (2, 2)
    );
}

#[tokio::test]
async fn modified_cache_entries_are_fetched_again() {
    let home = tempfile::tempdir().expect("a directory");
    let cache = cache_in(home.path(), true);
    let World {
        files,
        records,
        now,
    } = world_with(cache.clone());
    records
        .put(&record("r.example/a:1", "one"))
        .await
        .expect("written");
    assert_eq!(shown(&records).await, [pair("r.example/a:1", "one")]);
    let entry = std::fs::read_dir(home.path().join(".cache/imglife/records"))
        .expect("a cache")
        .next()
        .expect("a file")
        .expect("a file");
    let text = std::fs::read_to_string(entry.path()).expect("text");
    assert!(text.contains("r.example/bases/alpine"));
    std::fs::write(
        entry.path(),
        text.replace("r.example/bases/alpine", "r.example/bases/debian"),
    )
    .expect("written");
    let records = self::records(files.clone(), cache, &now);
    assert_eq!(shown(&records).await, [pair("r.example/a:1", "one")]);
    assert_eq!(files.count(StoreCall::Get), 2);
    assert_eq!(
        records.all().await.expect("a reading").records[0].base,
        Some(image("r.example/bases/alpine:3.21"))
    );
}

#[tokio::test]
async fn read_only_store_rejects_writes() {
    let World {
        files,
        records,
        now,
    } = world();
    records
        .put(&record("r.example/a:1", "one"))
        .await
        .expect("written");
    let reader = self::records(
        Arc::new(ReadOnlyFiles::new(files.clone())),
        Cache::user(&Variables::default(), false),
        &now,
    );
    let kind = |result: Result<(), ItemError>| result.expect_err("refused").kind;
    assert_eq!(
        kind(reader.put(&record("r.example/a:1", "two")).await.map(drop)),
        ItemErrorKind::ReadOnly
    );
    assert_eq!(
        kind(
            reader
                .delete(&record("r.example/a:1", "one"))
                .await
                .map(drop)
        ),
        ItemErrorKind::ReadOnly
    );
    assert_eq!(
        kind(
            reader
                .write_data(DataFileKind::Inventory, Bytes::new())
                .await
        ),
        ItemErrorKind::ReadOnly
    );
    assert_eq!(
        (shown(&reader).await, files.count(StoreCall::Delete)),
        (vec![pair("r.example/a:1", "one")], 0)
    );
}

#[tokio::test]
async fn invalid_records_are_rejected() {
    let World { files, records, .. } = world();
    let error = records
        .delete(&BuildRecord {
            image: image("r.example/a"),
            ..record("r.example/a:1", "one")
        })
        .await
        .expect_err("no tag");
    assert_eq!(
        (error.kind, files.count(StoreCall::List)),
        (ItemErrorKind::Malformed, 0)
    );
    let mut untagged = record("r.example/a:1", "x");
    untagged.image.tag = None;
    assert_eq!(
        records.put(&untagged).await.expect_err("no tag").kind,
        ItemErrorKind::Malformed
    );
    let mut without_project = record("r.example/a:1", "x");
    without_project.project = String::new();
    let error = records.put(&without_project).await.expect_err("no project");
    assert_eq!(
        crate::error::chain(&error),
        "memory: cannot write the record of r.example/a:1: the `project` is empty"
    );
    assert_eq!(files.count(StoreCall::Put), 0);
}

#[tokio::test]
async fn data_files_are_replaced_but_not_listed_as_records() {
    let World { files, records, .. } = world();
    assert_eq!(
        records
            .read_data(DataFileKind::EndOfLife)
            .await
            .expect("no error"),
        None
    );
    for text in ["one", "two"] {
        records
            .write_data(DataFileKind::EndOfLife, Bytes::from(text))
            .await
            .expect("written");
    }
    records
        .write_data(DataFileKind::Inventory, Bytes::from_static(b"all"))
        .await
        .expect("written");
    let data = records
        .read_data(DataFileKind::EndOfLife)
        .await
        .expect("no error")
        .expect("data");
    assert_eq!(
        (&data.bytes[..], data.written_at.timestamp_micros()),
        (&b"two"[..], START * 1_000_000 + 1)
    );
    assert_eq!((files.paths().len(), shown(&records).await.len()), (2, 0));
    files.insert(
        &PackageName {
            prefix: "imglife".parse().expect("a prefix"),
            contents: PackageContents::Data,
        },
        &file("inventory", b"x", START + 100),
        "y",
    );
    assert_eq!(
        records
            .read_data(DataFileKind::Inventory)
            .await
            .expect_err("changed")
            .kind,
        ItemErrorKind::Malformed
    );
}

#[tokio::test]
async fn all_fails_if_the_listing_or_a_file_fails() {
    let World { files, records, .. } = world();
    records
        .put(&record("r.example/a:1", "one"))
        .await
        .expect("written");
    for (call, kind) in [
        (StoreCall::List, ItemErrorKind::Forbidden),
        (StoreCall::Get, ItemErrorKind::Unreachable),
    ] {
        files.fail(call, kind);
        assert_eq!(records.all().await.expect_err("it fails").kind, kind);
        files.recover();
    }
}

#[tokio::test]
async fn prefixes_separate_installations() {
    let World { files, records, .. } = world();
    let clock = Clock::fixed(DateTime::from_timestamp(START, 0).expect("a time"));
    let cache = Cache::user(&Variables::default(), true);
    let other = Records::new(files, Prefix::none(), cache, clock);
    records
        .put(&record("r.example/a:1", "mine"))
        .await
        .expect("written");
    other
        .put(&record("r.example/a:1", "theirs"))
        .await
        .expect("written");
    assert_eq!(
        (shown(&records).await, shown(&other).await),
        (
            vec![pair("r.example/a:1", "mine")],
            vec![pair("r.example/a:1", "theirs")]
        )
    );
}
