//! Tests of [`Documents`] with a store in memory.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::DateTime;
use serde::{Deserialize, Serialize};

use super::memory::{MemoryFiles, StoreCall};
use super::{Documents, Prefix, Records, StateDocument};
use crate::cache::Cache;
use crate::error::ItemErrorKind;
use crate::model::{Clock, Variables};

/// A set of words.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
struct Words(BTreeSet<String>);

impl StateDocument for Words {
    const KIND: &'static str = "words";
    const SCHEMA: u32 = 2;

    fn merge(&mut self, other: Words) {
        self.0.extend(other.0);
    }

    fn parts(&self) -> Vec<Words> {
        let words: Vec<&String> = self.0.iter().collect();
        let mut parts: Vec<Words> = words
            .chunks(2)
            .map(|chunk| Words(chunk.iter().map(|word| (*word).clone()).collect()))
            .collect();
        if parts.is_empty() {
            parts.push(Words::default());
        }
        parts
    }
}

fn words(words: &[&str]) -> Words {
    Words(words.iter().map(|word| (*word).to_owned()).collect())
}

struct World {
    files: Arc<MemoryFiles>,
    now: Arc<AtomicI64>,
}

impl World {
    fn new() -> World {
        World {
            files: Arc::new(MemoryFiles::default()),
            now: Arc::new(AtomicI64::new(1_794_000_000)),
        }
    }

    /// Returns the documents as a run sees them that starts now.
    fn run(&self) -> Documents {
        let now = Arc::clone(&self.now);
        let clock = Clock::new(move || {
            DateTime::from_timestamp(now.fetch_add(1, Ordering::Relaxed), 0).expect("a time")
        });
        Documents::new(Records::new(
            self.files.clone(),
            "imglife".parse().expect("a prefix"),
            Cache::user(&Variables::default(), false),
            clock,
        ))
    }

    async fn content(&self, name: &str) -> Option<Words> {
        let stored = self.run().read::<Words>(name).await.expect("a document");
        stored.content
    }
}

#[tokio::test]
async fn a_document_is_replaced_by_the_next_one() {
    let world = World::new();
    for text in ["a", "b"] {
        let run = world.run();
        let stored = run.read::<Words>("r.example/a").await.expect("to read");
        run.write("r.example/a", &stored, &words(&[text]))
            .await
            .expect("to write");
        assert_eq!(world.content("r.example/a").await, Some(words(&[text])));
        assert_eq!(world.files.paths().len(), 1);
    }
    assert_eq!(world.content("r.example/b").await, None);
}

#[tokio::test]
async fn two_writers_at_once_lose_nothing() {
    let world = World::new();
    let (one, other) = (world.run(), world.run());
    let (seen_by_one, seen_by_other) = (
        one.read::<Words>("n").await.expect("to read"),
        other.read::<Words>("n").await.expect("to read"),
    );
    one.write("n", &seen_by_one, &words(&["a"]))
        .await
        .expect("to write");
    other
        .write("n", &seen_by_other, &words(&["b"]))
        .await
        .expect("to write");
    assert_eq!(world.content("n").await, Some(words(&["a", "b"])));
    // The next writer leaves one file.
    let run = world.run();
    let stored = run.read::<Words>("n").await.expect("to read");
    run.write("n", &stored, &words(&["a", "b"]))
        .await
        .expect("to write");
    assert_eq!(world.files.paths().len(), 1);
}

#[tokio::test]
async fn files_that_may_not_be_deleted_are_ignored() {
    let world = World::new();
    world
        .files
        .fail(StoreCall::Delete, ItemErrorKind::Forbidden);
    for text in ["a", "b", "c"] {
        let run = world.run();
        let stored = run.read::<Words>("n").await.expect("to read");
        run.write("n", &stored, &words(&[text]))
            .await
            .expect("to write");
    }
    assert_eq!(world.files.paths().len(), 3);
    assert_eq!(world.content("n").await, Some(words(&["c"])));
}

#[tokio::test]
async fn equal_content_is_not_written_again() {
    let world = World::new();
    for _ in 0..3 {
        let run = world.run();
        let stored = run.read::<Words>("n").await.expect("to read");
        run.write("n", &stored, &words(&["a", "b", "c"]))
            .await
            .expect("to write");
    }
    // The content has two parts.
    assert_eq!(world.files.count(StoreCall::Put), 2);
}

#[tokio::test]
async fn a_document_of_several_parts_shrinks_to_one() {
    let world = World::new();
    for content in [&["a", "b", "c", "d", "e"][..], &["a"][..]] {
        let run = world.run();
        let stored = run.read::<Words>("n").await.expect("to read");
        run.write("n", &stored, &words(content))
            .await
            .expect("to write");
        assert_eq!(world.content("n").await, Some(words(content)));
    }
    assert_eq!(world.files.paths().len(), 1);
}

#[tokio::test]
async fn a_writer_that_stops_between_two_parts_loses_nothing() {
    let world = World::new();
    let run = world.run();
    let stored = run.read::<Words>("n").await.expect("to read");
    run.write("n", &stored, &words(&["x"]))
        .await
        .expect("to write");
    let run = world.run();
    let stored = run.read::<Words>("n").await.expect("to read");
    world
        .files
        .fail_after(StoreCall::Put, 1, ItemErrorKind::ServerError);
    run.write("n", &stored, &words(&["a", "b", "c"]))
        .await
        .expect_err("the second part fails");
    world.files.recover();
    assert_eq!(world.content("n").await, Some(words(&["a", "b", "x"])));
}

#[tokio::test]
async fn names_are_those_of_the_kind() {
    let world = World::new();
    let run = world.run();
    for name in ["b.1", "a.2"] {
        let stored = run.read::<Words>(name).await.expect("to read");
        run.write(name, &stored, &words(&["a", "b", "c"]))
            .await
            .expect("to write");
    }
    assert_eq!(
        world.run().names::<Words>().await.expect("names"),
        ["a.2", "b.1"]
    );
    let run = world.run();
    run.delete::<Words>("a.2").await.expect("to delete");
    assert_eq!(world.run().names::<Words>().await.expect("names"), ["b.1"]);
}

#[tokio::test]
async fn damaged_foreign_and_newer_files_are_errors() {
    let prefix: Prefix = "imglife".parse().expect("a prefix");
    let package = super::PackageName {
        prefix,
        contents: super::PackageContents::Data,
    };
    for (content, expected) in [
        ("{", "it is not a document"),
        (
            r#"{"schema":3,"kind":"words","name":"n","content":[]}"#,
            "install a newer one",
        ),
        (
            r#"{"schema":1,"kind":"words","name":"other","content":[]}"#,
            "it is the document words other",
        ),
        (
            r#"{"schema":1,"kind":"words","name":"n","content":7}"#,
            "its content is not valid",
        ),
    ] {
        let world = World::new();
        let file = super::FileKey::new(
            super::EncodedName::of("words n 0"),
            content.as_bytes(),
            DateTime::from_timestamp(1_794_000_000, 0).expect("a time"),
            None,
        );
        world
            .files
            .insert(&package, &file.to_string(), content.to_owned());
        let error = world
            .run()
            .read::<Words>("n")
            .await
            .expect_err("an error")
            .to_string();
        assert!(error.contains(expected), "{error}");
    }
}
