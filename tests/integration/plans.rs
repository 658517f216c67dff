//! Planner worlds in files: `tests/plans/<case>/` holds a configuration, the world it meets, and
//! the plan that is expected.
//!
//! The world is put into places in memory, seen by the real observation and planned by the real
//! planner. `UPDATE_PLANS=1 cargo test plans` writes the plans anew; the change is then read in
//! review.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, TimeZone, Utc};
use imglife::config::{self, Config};
use imglife::error::{ItemError, ItemErrorKind};
use imglife::model::{Algorithm, Descriptor, Digest, Manifest, Reference, Repository, Variables};
use imglife::registry::memory::{MemoryStore, StoreFault, StoreOperation};
use imglife::registry::{ImageStore, InMemory};
use imglife::steps::sync::{CopyReason, Plan, SyncAction, SyncScope, SyncStores, observe, plan};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct World {
    /// Repository, tag, name of a content. The content `missing` is listed and cannot be read.
    repositories: BTreeMap<String, BTreeMap<String, String>>,
    /// Repository, tag, when it was pushed. Other repositories tell no dates.
    #[serde(default)]
    dates: BTreeMap<String, BTreeMap<String, DateTime<Utc>>>,
    /// Repositories of which everything fails.
    #[serde(default)]
    failures: BTreeMap<String, String>,
    /// Repositories that cannot be listed.
    #[serde(default)]
    listings_fail: BTreeSet<String>,
}

/// An image whose digest depends on `content` alone.
fn image(content: &str) -> (Manifest, Descriptor) {
    let config = Descriptor::new(
        "application/vnd.oci.image.config.v1+json",
        Digest::sha256(content.as_bytes()),
        content.len() as u64,
    );
    let text =
        serde_json::json!({ "schemaVersion": 2, "config": config, "layers": [] }).to_string();
    (
        Manifest::parse(Bytes::from(text), None, Algorithm::Sha256).expect("a manifest"),
        config,
    )
}

async fn place(world: World) -> MemoryStore {
    let place = MemoryStore::default();
    let mut unreadable: BTreeSet<(String, String)> = BTreeSet::new();
    for (repository, tags) in world.repositories {
        let at: Repository = repository.parse().expect("a repository");
        for (tag, content) in tags {
            if content == "missing" {
                unreadable.insert((repository.clone(), tag.clone()));
            }
            let (manifest, config) = image(&content);
            place
                .put_blob(&at, &config, &InMemory(Bytes::from(content)), None)
                .await
                .expect("a blob");
            let reference = Reference::Tag(tag.parse().expect("a tag"));
            place
                .put_manifest(&at, &reference, &manifest)
                .await
                .expect("a manifest");
        }
    }
    for (repository, tags) in &world.dates {
        for (tag, pushed_at) in tags {
            place.date_tag(
                &repository.parse().expect("a repository"),
                &tag.parse().expect("a tag"),
                *pushed_at,
            );
        }
    }
    place.fail_when(move |call| {
        let repository = call.repository.to_string();
        if unreadable.contains(&(repository.clone(), call.subject.clone()))
            && call.operation != StoreOperation::Tags
        {
            return Some(StoreFault::Error(ItemErrorKind::Absent));
        }
        if world.listings_fail.contains(&repository) && call.operation == StoreOperation::Tags {
            return Some(StoreFault::Error(ItemErrorKind::Unreachable));
        }
        world.failures.get(&repository).map(|kind| {
            StoreFault::Error(match kind.as_str() {
                "unreachable" => ItemErrorKind::Unreachable,
                "server error" => ItemErrorKind::ServerError,
                "forbidden" => ItemErrorKind::Forbidden,
                other => panic!("no kind of failure: {other}"),
            })
        })
    });
    place
}

fn draw(config: &Config, plan: &Plan) -> String {
    let sync = config.sync.as_ref().expect("a sync section");
    let mut drawn = String::new();
    for entry in &plan.entries {
        let Some(from) = sync.entries.get(entry.position) else {
            continue;
        };
        writeln!(
            drawn,
            "{} -> {}{}",
            from.source,
            from.target,
            if entry.target_is_new { " (new)" } else { "" }
        )
        .expect("text");
        let out = &entry.left_out;
        let counts = [
            (out.attachments, "attachments"),
            (out.not_matching, "not matching"),
            (out.excluded, "excluded"),
            (out.too_young, "too young"),
            (out.pre_releases, "pre-releases"),
            (out.beyond_keep_groups, "beyond keep_groups"),
            (out.beyond_keep_last, "beyond keep_last"),
        ];
        for (count, rule) in counts.into_iter().filter(|(count, _)| *count > 0) {
            writeln!(drawn, "  left out: {count} {rule}").expect("text");
        }
        if entry.merged > 0 {
            writeln!(drawn, "  copied by another entry: {}", entry.merged).expect("text");
        }
        for warning in &entry.warnings {
            writeln!(drawn, "  warning: {warning}").expect("text");
        }
        if let Some(error) = &entry.error {
            writeln!(drawn, "  fails: {}", describe(error)).expect("text");
        }
        for item in &entry.items {
            let action = match &item.action {
                SyncAction::UpToDate => "up to date".to_owned(),
                SyncAction::Copy(CopyReason::Missing { source: None }) => {
                    "copy, missing".to_owned()
                }
                SyncAction::Copy(CopyReason::Missing {
                    source: Some(source),
                }) => format!("copy {}, missing", source.short()),
                SyncAction::Copy(CopyReason::Changed {
                    source, replaces, ..
                }) => {
                    format!("copy {}, replaces {}", source.short(), replaces.short())
                }
                SyncAction::Copy(CopyReason::Incomplete { missing }) => {
                    format!("repair, {} parts are missing", missing.len())
                }
                SyncAction::Copy(CopyReason::Attachments) => "copy attachments".to_owned(),
                SyncAction::Fail(error) => format!("fails: {}", describe(error)),
            };
            let stored_as = if item.target_tag == item.tag {
                String::new()
            } else {
                format!(" as {}", item.target_tag)
            };
            writeln!(drawn, "  {}{stored_as}: {action}", item.tag).expect("text");
            for warning in &item.warnings {
                writeln!(drawn, "    warning: {warning}").expect("text");
            }
        }
    }
    drawn
}

fn describe(error: &ItemError) -> String {
    let hint = error
        .hint()
        .map_or_else(String::new, |hint| format!("\n    hint: {hint}"));
    format!("{}{hint}", error.line())
}

#[tokio::test]
#[expect(
    clippy::disallowed_methods,
    reason = "who runs the tests says by a variable that the plans are to be written anew"
)]
async fn every_world_is_planned_as_expected() {
    let update = std::env::var_os("UPDATE_PLANS").is_some();
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans");
    let mut checked = 0;
    for case in std::fs::read_dir(&cases)
        .expect("the worlds")
        .map(|case| case.expect("a case").path())
    {
        let read = |name: &str| {
            std::fs::read_to_string(case.join(name))
                .unwrap_or_else(|error| panic!("{}: {error}", case.join(name).display()))
        };
        let source = config::SourceText {
            name: "config.yaml".to_owned(),
            text: read("config.yaml"),
        };
        let config = config::load(&source, Path::new("/"), &Variables::default())
            .unwrap_or_else(|errors| panic!("{}: {errors}", case.display()));
        let world: World = serde_saphyr::from_str(&read("world.yaml"))
            .unwrap_or_else(|error| panic!("{}: {error}", case.display()));
        let sync = config.sync.as_ref().expect("a sync section");
        let now: DateTime<Utc> = Utc
            .with_ymd_and_hms(2026, 3, 1, 0, 0, 0)
            .single()
            .expect("a time");
        let place = Arc::new(place(world).await);
        place.clear_calls();
        let stores = SyncStores {
            source: place.stores(),
            target: place.stores(),
            digest_cache: imglife::transfer::no_cache(),
        };
        let seen = observe(
            sync,
            &SyncScope::default(),
            &stores,
            &*imglife::progress::silent(),
            now,
        )
        .await;
        let writes = [StoreOperation::PutBlob, StoreOperation::PutManifest];
        assert!(
            place
                .calls()
                .iter()
                .all(|call| !writes.contains(&call.operation)),
            "observing writes nothing"
        );
        let planned = draw(&config, &plan(sync, &seen));
        if update {
            std::fs::write(case.join("plan.txt"), &planned).expect("to write the plan");
        }
        assert_eq!(planned, read("plan.txt"), "the plan of {}", case.display());
        checked += 1;
    }
    assert!(checked >= 9, "only {checked} worlds were found");
}
