use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, TimeZone, Utc};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::config::Config;
use crate::error::{Exit, ItemError, ItemErrorKind};
use crate::model::media_type;
use crate::model::{
    Algorithm, BuildRecord, Clock, Descriptor, Digest, JournalBatch, Manifest, Reference,
    Repository, Tag, Variables,
};
use crate::packages::{RecordSet, UnreadableFile};
use crate::registry::memory::{ImageStoreCall, MemoryStore, StoreFault, StoreOperation};
use crate::registry::{DeletionSupport, ImageSource, ImageStore, InMemory, Support};
use crate::steps::Mode;

mod applications;
mod archiving;
mod concurrent_changes;
mod costs;
mod deletions;
mod dependents;
mod deployments;
mod grace;
mod keep_lists;
mod late_records;
mod layouts;
mod limits;
mod listings;
mod preview;
mod protections;
mod random_worlds;
mod record_checks;
mod repository_names;
mod retention;
mod survivors;
mod tag_case;
mod untagged;
mod upstreams;

const DIGEST_ONLY: DeletionSupport = DeletionSupport {
    tags: Support::Unsupported,
    manifests: Support::Supported,
};
const TAGS_ONLY: DeletionSupport = DeletionSupport {
    tags: Support::Supported,
    manifests: Support::Unsupported,
};
const NOTHING: DeletionSupport = DeletionSupport {
    tags: Support::Unsupported,
    manifests: Support::Unsupported,
};

fn now() -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 3, 1, 0, 0, 0)
        .single()
        .expect("a time")
}

fn repository(text: &str) -> Repository {
    text.parse().expect("a repository")
}

fn tag(text: &str) -> Tag {
    text.parse().expect("a tag")
}

fn config(yaml: &str) -> Config {
    let source = crate::config::SourceText {
        name: "imglife.yaml".to_owned(),
        text: yaml.to_owned(),
    };
    crate::config::load(&source, Path::new("/"), &Variables::default()).expect("a configuration")
}

/// Configuration of a mirror of which `sync` selects only the tag `9`.
const MIRROR: &str =
    "sync: { entries: [{ source: up.example/a, target: r.example/m/a, tag: '9' }] }\n";

fn mirror(rules: &str) -> Config {
    config(&format!("{MIRROR}retention: {{ {rules} }}\n"))
}

const BASES: &str = "sync: { entries: [{ source: up.example/alpine, target: r.example/m/alpine, tag: '3.20' }] }
build:
  registry: r.example/bases
  core_version: 1.0.0
  images:
    - { name: alpine, folder: alpine, type: core, mirror_image: r.example/m/alpine, mirror_tag: '3.20', aliases: ['3.20', stable] }
    - { name: alpine, folder: alpine, type: core, mirror_image: r.example/m/alpine, mirror_tag: '3.19' }
";

fn bases(rules: &str) -> Config {
    config(&format!("{BASES}retention: {{ {rules} }}"))
}

/// Returns a configuration of one mirror with two entries, each with its own rules.
fn two_rules(one: &str, other: &str) -> Config {
    let entry = |tag, rules| {
        format!(
            "{{ source: up.example/a, target: r.example/m/a, tag: '{tag}', retention: {{ {rules} }} }}"
        )
    };
    config(&format!(
        "sync: {{ entries: [{}, {}] }}\nretention: {{}}",
        entry("8", one),
        entry("9", other)
    ))
}

/// Journal in memory.
#[derive(Default)]
struct MemoryJournal {
    batches: std::sync::Mutex<Vec<JournalBatch>>,
    is_broken: std::sync::atomic::AtomicBool,
}

#[async_trait::async_trait]
impl JournalStore for MemoryJournal {
    async fn write(&self, batch: &JournalBatch) -> Result<(), ItemError> {
        if self.is_broken.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(ItemError::other("the journal is full"));
        }
        self.batches
            .lock()
            .expect("the journal")
            .push(batch.clone());
        Ok(())
    }

    async fn recent(&self, since: DateTime<Utc>) -> Result<Vec<JournalBatch>, ItemError> {
        let batches = self.batches.lock().expect("the journal").clone();
        Ok(batches
            .into_iter()
            .filter(|batch| batch.written_at >= since)
            .collect())
    }
}

/// A repository in a store in memory.
struct SampleRepository {
    store: Arc<MemoryStore>,
    at: Repository,
}

impl SampleRepository {
    fn new(at: &str, deletions: DeletionSupport) -> SampleRepository {
        SampleRepository {
            store: Arc::new(MemoryStore::default().deleting(deletions)),
            at: repository(at),
        }
    }

    /// Returns a mirror with these tags, oldest first, each with its own image of a year ago.
    async fn mirror(tags: &[&str]) -> SampleRepository {
        let sample = SampleRepository::new("r.example/m/a", DeletionSupport::ALL);
        for name in tags {
            sample.old(name).await;
        }
        sample
    }

    /// Writes an image of a year ago under the tag `name`.
    async fn old(&self, name: &str) -> Digest {
        let digest = self.image(name, json!({})).await;
        self.tag(name, &digest, 365).await;
        digest
    }

    /// Makes every deletion of one of the tags or manifests fail.
    fn fail_deletion(&self, subjects: &[&str], kind: ItemErrorKind) {
        let subjects: Vec<String> = subjects.iter().map(|&subject| subject.to_owned()).collect();
        self.store.fail_when(move |call| {
            let is_deletion = matches!(
                call.operation,
                StoreOperation::DeleteTag | StoreOperation::DeleteManifest
            );
            let fails = is_deletion && subjects.contains(&call.subject);
            fails.then_some(StoreFault::Error(kind))
        });
    }

    async fn put(&self, manifest: serde_json::Value) -> Digest {
        let manifest = Manifest::parse(Bytes::from(manifest.to_string()), None, Algorithm::Sha256)
            .expect("a manifest");
        self.store
            .put_manifest(&self.at, &manifest.digest.clone().into(), &manifest)
            .await
            .expect("a manifest");
        manifest.digest
    }

    async fn image(&self, content: &str, labels: serde_json::Value) -> Digest {
        let content = json!({ "os": "linux", "architecture": "amd64", "config": { "Labels": labels }, "text": content }).to_string();
        let config = Descriptor::new(
            media_type::OCI_CONFIG,
            Digest::sha256(content.as_bytes()),
            content.len() as u64,
        );
        self.store
            .put_blob(&self.at, &config, &InMemory(Bytes::from(content)), None)
            .await
            .expect("a blob");
        self.put(json!({ "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": config, "layers": [] })).await
    }

    /// Writes a referrer of a manifest, such as a signature.
    async fn referrer(&self, subject: &Digest) -> Digest {
        let config = Descriptor::new(
            "application/vnd.oci.empty.v1+json",
            Digest::sha256(b"{}"),
            2,
        );
        self.store
            .put_blob(
                &self.at,
                &config,
                &InMemory(Bytes::from_static(b"{}")),
                None,
            )
            .await
            .expect("a blob");
        let subject =
            json!({ "mediaType": media_type::OCI_MANIFEST, "digest": subject, "size": 1 });
        self.put(json!({ "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": config, "layers": [], "subject": subject }))
            .await
    }

    async fn index(&self, children: &[&Digest]) -> Digest {
        let children: Vec<_> =
            children.iter().map(|digest| json!({ "mediaType": media_type::OCI_MANIFEST, "digest": digest, "size": 1 })).collect();
        self.put(json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": children })).await
    }

    /// Writes an index with one manifest, listed with the media type `kind`.
    async fn index_of(&self, kind: &str, child: &Digest) -> Digest {
        let children = json!([{ "mediaType": kind, "digest": child, "size": 1 }]);
        self.put(json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": children })).await
    }

    async fn tag(&self, name: &str, digest: &Digest, days: i64) {
        self.tag_undated(name, digest).await;
        self.store
            .date_tag(&self.at, &tag(name), now() - TimeDelta::days(days));
    }

    /// Writes a tag whose push date the store does not report.
    async fn tag_undated(&self, name: &str, digest: &Digest) {
        let manifest = self
            .store
            .manifest(&self.at, &digest.clone().into())
            .await
            .expect("to read")
            .expect("a manifest");
        self.store
            .put_manifest(&self.at, &Reference::Tag(tag(name)), &manifest)
            .await
            .expect("a tag");
    }

    async fn tags_of(&self, at: &Repository) -> BTreeSet<String> {
        let tags = self
            .store
            .tags(at)
            .await
            .expect("to list")
            .unwrap_or_default();
        tags.into_iter().map(|seen| seen.tag.to_string()).collect()
    }

    async fn tags(&self) -> BTreeSet<String> {
        self.tags_of(&self.at).await
    }

    async fn has(&self, digest: &Digest) -> bool {
        self.store
            .resolve(&self.at, &digest.clone().into())
            .await
            .expect("to resolve")
            .is_some()
    }

    async fn world(&self, config: &Config, records: ObservedRecords) -> World {
        let (cache, progress) = (crate::transfer::no_cache(), crate::progress::silent());
        let stores = self.store.stores();
        let observer = Observer {
            limits: ReadingLimits::default(),
            stores: &stores,
            cache: &*cache,
            progress: &*progress,
            now: now(),
        };
        observe(config, &CleanupScope::default(), records, observer).await
    }

    async fn plan(&self, config: &Config, records: ObservedRecords) -> Plan {
        plan(&self.world(config, records).await, &policy())
    }

    async fn run(&self, config: &Config, records: ObservedRecords) -> CleanupReport {
        self.run_by(config, records, &policy()).await
    }

    async fn run_by(
        &self,
        config: &Config,
        records: ObservedRecords,
        policy: &CleanupPolicy,
    ) -> CleanupReport {
        let plan = plan(&self.world(config, records).await, policy);
        self.execute(&plan, Mode::Apply).await
    }

    async fn execute(&self, plan: &Plan, mode: Mode) -> CleanupReport {
        self.execute_with_records(plan, mode, &ObservedRecords::NotConfigured)
            .await
    }

    /// Executes a plan while the record store has `records`.
    async fn execute_with_records(
        &self,
        plan: &Plan,
        mode: Mode,
        records: &dyn RecordsSource,
    ) -> CleanupReport {
        self.execute_with_journal(plan, mode, records, Arc::default())
            .await
    }

    /// Executes a plan and writes to `journal`.
    async fn execute_with_journal(
        &self,
        plan: &Plan,
        mode: Mode,
        records: &dyn RecordsSource,
        journal: Arc<MemoryJournal>,
    ) -> CleanupReport {
        let (progress, cancel, config) = (
            crate::progress::silent(),
            CancellationToken::new(),
            config(MIRROR),
        );
        let mut watch = RecordWatch::new(&config, records, false, now());
        watch.max_age = std::time::Duration::ZERO;
        let journal = Journal::new(journal, Clock::new(now));
        let execution = CleanupExecution {
            mode,
            stores: self.store.stores(),
            records: &watch,
            journal: &journal,
            progress,
            max_requests: None,
            cancel,
        };
        CleanupReport::new(plan, execute(plan, &execution).await)
    }

    /// Returns the reason why the plan keeps a tag; `None` if it deletes the tag.
    async fn reason(&self, config: &Config, name: &str) -> Option<KeepReason> {
        let plan = self.plan(config, ObservedRecords::NotConfigured).await;
        reason(&plan, &self.at, name)
    }
}

fn policy() -> CleanupPolicy {
    CleanupPolicy {
        now: now(),
        max_delete_percent: Some(100),
        is_forced: false,
        is_journal_missing: false,
    }
}

fn reason(plan: &Plan, at: &Repository, name: &str) -> Option<KeepReason> {
    let planned = plan
        .repositories
        .iter()
        .find(|planned| planned.repository == *at)
        .expect("the repository");
    let kept = planned
        .kept
        .iter()
        .find(|(kept, _, _)| kept.as_str() == name)
        .map(|(_, _, reason)| reason.clone());
    let is_deleted = planned
        .groups
        .iter()
        .flat_map(|group| &group.tags)
        .any(|(tag, _)| tag.as_str() == name);
    assert!(
        kept.is_some() != is_deleted,
        "{name} is neither kept nor deleted, or both"
    );
    kept
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Returns the record of an application with this base.
fn record(image: &str, base: Option<&str>, base_digest: Option<&Digest>) -> BuildRecord {
    let text = json!({
        "image": image, "base": base, "base_digest": base_digest, "project": "p", "built_at": "2026-01-01T00:00:00Z"
    });
    BuildRecord::parse(text.to_string().as_bytes()).expect("a record")
}

fn records(records: Vec<BuildRecord>) -> ObservedRecords {
    ObservedRecords::Read(RecordSet {
        records,
        reduced: Vec::new(),
        unreadable: Vec::new(),
        first_written: None,
    })
}

#[async_trait::async_trait]
impl RecordsSource for ObservedRecords {
    async fn read(&self) -> ObservedRecords {
        self.clone()
    }
}

/// A cache that several runs share.
#[derive(Default)]
struct SharedCache(std::sync::Mutex<std::collections::BTreeMap<String, String>>);

impl crate::transfer::DigestCache for SharedCache {
    fn get(&self, key: &str) -> Option<String> {
        self.0.lock().expect("the cache").get(key).cloned()
    }

    fn put(&self, key: &str, text: &str) {
        self.0
            .lock()
            .expect("the cache")
            .insert(key.to_owned(), text.to_owned());
    }
}
