//! Planner worlds in files: `tests/cleanup/<case>/` holds a configuration, the world it meets, and
//! the plan that is expected.
//!
//! The world is put into a place in memory, seen by the real observation and planned by the real
//! planner. `UPDATE_PLANS=1 cargo test cleanup::worlds` writes the plans anew; the change is then
//! read in review.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, TimeZone as _, Utc};
use imglife::config::{self, Config};
use imglife::error::{ItemError, ItemErrorKind};
use imglife::model::media_type;
use imglife::model::{
    Algorithm, BuildRecord, Descriptor, Digest, Manifest, Reference, Repository, Tag, Variables,
};
use imglife::packages::{RecordSet, UnreadableFile};
use imglife::registry::memory::{MemoryStore, StoreFault, StoreOperation};
use imglife::registry::{DeletionSupport, ImageStore, InMemory, Support};
use imglife::steps::cleanup::{
    CleanupPolicy, CleanupScope, DeletionMethod, ObservedRecords, Observer, Plan, ReadingLimits,
    observe, plan,
};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct World {
    /// Repository, tag, name of a content. `<content>.sig` stands for the tag of a signature of
    /// that content.
    repositories: BTreeMap<String, BTreeMap<String, String>>,
    /// Contents that are indexes of others.
    #[serde(default)]
    indexes: BTreeMap<String, Vec<String>>,
    /// When contents say that they were made.
    #[serde(default)]
    created: BTreeMap<String, String>,
    /// Repository, tag, when it was pushed. Other repositories tell no dates.
    #[serde(default)]
    pushed: BTreeMap<String, BTreeMap<String, DateTime<Utc>>>,
    /// Contents that are tagged and not there.
    #[serde(default)]
    lost: BTreeSet<String>,
    /// Tags that cannot be read, in whatever repository.
    #[serde(default)]
    unreadable: BTreeSet<String>,
    /// Contents that are there without a tag, by repository.
    #[serde(default)]
    untagged: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    deletes: Deletes,
    /// Reason why listings may be incomplete.
    #[serde(default)]
    doubt: Option<String>,
    /// `null`: they cannot be read.
    #[serde(default)]
    records: Option<Vec<Recorded>>,
    #[serde(default)]
    broken_records: Vec<String>,
    #[serde(default)]
    max_delete_percent: Option<u8>,
    #[serde(default)]
    force: bool,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Deletes {
    #[default]
    All,
    Digests,
    Nothing,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Recorded {
    image: String,
    base: Option<String>,
    /// The content whose digest the base is named by.
    pinned: Option<String>,
}

fn image(content: &str, created: Option<&String>) -> (Manifest, Bytes) {
    let labels =
        created.map(|created| serde_json::json!({ "org.opencontainers.image.created": created }));
    let config = serde_json::json!({ "os": "linux", "architecture": "amd64", "config": { "Labels": labels }, "text": content }).to_string();
    let described = Descriptor::new(
        media_type::OCI_CONFIG,
        Digest::sha256(config.as_bytes()),
        config.len() as u64,
    );
    let text = serde_json::json!({ "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": described, "layers": [] });
    (parsed(&text), config.into())
}

fn parsed(manifest: &serde_json::Value) -> Manifest {
    Manifest::parse(Bytes::from(manifest.to_string()), None, Algorithm::Sha256).expect("a manifest")
}

impl World {
    fn manifest(&self, content: &str) -> Manifest {
        let Some(children) = self.indexes.get(content) else {
            return image(content, self.created.get(content)).0;
        };
        let children: Vec<_> = children
            .iter()
            .map(|child| serde_json::json!({ "mediaType": media_type::OCI_MANIFEST, "digest": self.manifest(child).digest, "size": 1 }))
            .collect();
        parsed(
            &serde_json::json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": children }),
        )
    }

    /// Returns the tag that is written so in a world.
    fn tag(&self, written: &str) -> Tag {
        match written.strip_suffix(".sig") {
            Some(content) => Tag::of_cosign(&self.manifest(content).digest)[0].clone(),
            None => written.parse().expect("a tag"),
        }
    }

    async fn put(
        &self,
        place: &MemoryStore,
        at: &Repository,
        content: &str,
        reference: Option<Reference>,
    ) {
        for child in self.indexes.get(content).into_iter().flatten() {
            Box::pin(self.put(place, at, child, None)).await;
        }
        if !self.indexes.contains_key(content) {
            let (manifest, bytes) = image(content, self.created.get(content));
            let config = manifest.blobs()[0].clone();
            place
                .put_blob(at, &config, &InMemory(bytes), None)
                .await
                .expect("a blob");
        }
        let manifest = self.manifest(content);
        let reference = reference.unwrap_or_else(|| manifest.digest.clone().into());
        place
            .put_manifest(at, &reference, &manifest)
            .await
            .expect("a manifest");
    }

    async fn place(&self) -> Arc<MemoryStore> {
        let place = MemoryStore::default().deleting(match self.deletes {
            Deletes::All => DeletionSupport::ALL,
            Deletes::Digests => DeletionSupport {
                tags: Support::Unsupported,
                manifests: Support::Supported,
            },
            Deletes::Nothing => DeletionSupport {
                tags: Support::Unsupported,
                manifests: Support::Unsupported,
            },
        });
        place.doubt_listings(self.doubt.as_deref());
        for (repository, tags) in &self.repositories {
            let at: Repository = repository.parse().expect("a repository");
            for (written, content) in tags {
                self.put(&place, &at, content, Some(self.tag(written).into()))
                    .await;
                if self.lost.contains(content) {
                    place.lose_manifest(&at, &self.manifest(content).digest);
                }
            }
            for content in self.untagged.get(repository).into_iter().flatten() {
                self.put(&place, &at, content, None).await;
            }
            for (tag, pushed_at) in self.pushed.get(repository).into_iter().flatten() {
                place.date_tag(&at, &self.tag(tag), *pushed_at);
            }
        }
        let unreadable = self.unreadable.clone();
        place.fail_when(move |call| {
            let fails =
                call.operation == StoreOperation::Manifest && unreadable.contains(&call.subject);
            fails.then_some(StoreFault::Error(ItemErrorKind::ServerError))
        });
        place.clear_calls();
        Arc::new(place)
    }

    fn records(&self) -> ObservedRecords {
        let Some(records) = &self.records else {
            return ObservedRecords::Failed(ItemError::other("the host is down"));
        };
        let read = records.iter().map(|recorded| {
            let text = serde_json::json!({
                "image": recorded.image, "base": recorded.base, "project": "p", "built_at": "2026-01-01T00:00:00Z",
                "base_digest": recorded.pinned.as_ref().map(|content| self.manifest(content).digest),
            });
            BuildRecord::parse(text.to_string().as_bytes()).expect("a record")
        });
        let broken = self.broken_records.iter();
        let unreadable = broken
            .map(|file| UnreadableFile {
                file: file.clone(),
                problem: "it is no record".to_owned(),
            })
            .collect();
        ObservedRecords::Read(RecordSet {
            records: read.collect(),
            reduced: Vec::new(),
            unreadable,
            first_written: None,
        })
    }

    /// Returns the plan in words, with contents by their names.
    fn draw(&self, plan: &Plan) -> String {
        let mut drawn = String::new();
        if let Some(guard) = &plan.safety_error {
            writeln!(drawn, "guard: {guard}").expect("text");
        }
        for planned in &plan.repositories {
            writeln!(drawn, "{}", planned.repository).expect("text");
            if let Some(error) = &planned.error {
                writeln!(drawn, "  trouble: {error}").expect("text");
            }
            let mut lines: BTreeMap<&Tag, String> = BTreeMap::new();
            for (tag, _, reason) in &planned.kept {
                lines.insert(tag, format!("kept, {}", reason.words()));
            }
            for group in &planned.groups {
                let how = match group.method {
                    DeletionMethod::Tags => "the tag",
                    DeletionMethod::TagsThenManifest => "the tag, then the image",
                    DeletionMethod::Manifest => "the image",
                };
                let parts = if group.parts.is_empty() {
                    String::new()
                } else {
                    format!(" and {} parts", group.parts.len())
                };
                for (tag, reason) in &group.tags {
                    let archive = group
                        .archive
                        .get(tag)
                        .map_or_else(String::new, |to| format!(", archived as {to}"));
                    lines.insert(tag, format!("{} ({how}{parts}){archive}", reason.words()));
                }
            }
            for (tag, line) in lines {
                writeln!(drawn, "  {tag}: {line}").expect("text");
            }
        }
        for warning in &plan.warnings {
            writeln!(drawn, "warning: {warning}").expect("text");
        }
        for orphan in &plan.orphans {
            writeln!(drawn, "orphan: {orphan}").expect("text");
        }
        let contents = self
            .repositories
            .values()
            .flat_map(BTreeMap::values)
            .chain(self.indexes.values().flatten());
        for content in contents.chain(self.untagged.values().flatten()) {
            let digest = self.manifest(content).digest;
            drawn = drawn
                .replace(Tag::of_referrers(&digest).as_str(), content)
                .replace(digest.as_str(), content);
        }
        drawn
    }
}

const REASONS: [&str; 29] = [
    "absent",
    "ageUnknown",
    "archivedUntil",
    "attachedToKept",
    "baseOf",
    "buildUnknown",
    "built",
    "excluded",
    "guarded",
    "keepLast",
    "latest",
    "listingNotProved",
    "minKeep",
    "neighbourUnreadable",
    "notArchived",
    "notDeletable",
    "notOldEnough",
    "partOfKept",
    "recorded",
    "replacedBy",
    "repositoryFailed",
    "selected",
    "sharesDigest",
    "subjectUnknown",
    "tooMany",
    "unreadable",
    "upstreamUnknown",
    "usedByBuild",
    "young",
];

#[tokio::test]
#[expect(
    clippy::disallowed_methods,
    reason = "who runs the tests says by a variable that the plans are to be written anew"
)]
async fn every_world_is_cleaned_up_as_expected_and_every_reason_to_keep_is_met() {
    let update = std::env::var_os("UPDATE_PLANS").is_some();
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cleanup");
    let mut reasons = BTreeSet::new();
    for case in std::fs::read_dir(&cases)
        .expect("the worlds")
        .map(|case| case.expect("a case").path())
    {
        let read = |name: &str| std::fs::read_to_string(case.join(name)).unwrap_or_default();
        let source = config::SourceText {
            name: "config.yaml".to_owned(),
            text: read("config.yaml"),
        };
        let config: Config = config::load(&source, Path::new("/"), &Variables::default())
            .unwrap_or_else(|errors| panic!("{}: {errors}", case.display()));
        let world: World = serde_saphyr::from_str(&read("world.yaml"))
            .unwrap_or_else(|error| panic!("{}: {error}", case.display()));
        let now: DateTime<Utc> = Utc
            .with_ymd_and_hms(2026, 3, 1, 0, 0, 0)
            .single()
            .expect("a time");
        let place = world.place().await;
        let (cache, progress) = (imglife::transfer::no_cache(), imglife::progress::silent());
        let stores = place.stores();
        let observer = Observer {
            limits: ReadingLimits::default(),
            stores: &stores,
            cache: &*cache,
            progress: &*progress,
            now,
        };
        let seen = observe(&config, &CleanupScope::default(), world.records(), observer).await;
        let writes = [
            StoreOperation::PutBlob,
            StoreOperation::PutManifest,
            StoreOperation::DeleteTag,
            StoreOperation::DeleteManifest,
            StoreOperation::Sweep,
        ];
        assert!(
            place
                .calls()
                .iter()
                .all(|call| !writes.contains(&call.operation)),
            "observing changes nothing"
        );
        let policy = CleanupPolicy {
            now,
            max_delete_percent: world.max_delete_percent,
            is_forced: world.force,
            is_journal_missing: false,
        };
        let planned = plan(&seen, &policy);
        let kept = planned
            .repositories
            .iter()
            .flat_map(|planned| &planned.kept);
        reasons.extend(kept.map(|(_, _, reason)| {
            serde_json::to_value(reason).expect("JSON")["reason"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        }));
        let drawn = world.draw(&planned);
        if update {
            std::fs::write(case.join("plan.txt"), &drawn).expect("to write the plan");
        }
        assert_eq!(drawn, read("plan.txt"), "the plan of {}", case.display());
    }
    assert_eq!(
        reasons,
        REASONS.map(str::to_owned).into(),
        "reasons that no world meets, or that are new"
    );
}
