//! Cleanup of OCI layouts on a disk, with the sweep of unreferenced files.

use std::fs;
use std::time::Duration;

use serde_json::Value;

use super::*;
use crate::registry::ImageStores;
use crate::registry::layout::Layouts;
use crate::registry::layout::aged_files::make_older;

/// A layout whose files are old enough to be swept.
struct SampleLayout {
    directory: tempfile::TempDir,
    store: Arc<Layouts>,
    at: Repository,
    config: Config,
}

impl SampleLayout {
    fn new() -> SampleLayout {
        let directory = tempfile::tempdir().expect("a directory");
        let at = Repository::Layout {
            directory: directory.path().to_owned(),
        };
        let entry = format!("{{ source: up.example/a, target: '{at}', tag: '9' }}");
        let config = config(&format!(
            "sync: {{ entries: [{entry}] }}\nretention: {{ keep_last: 1 }}\n"
        ));
        SampleLayout {
            directory,
            store: Arc::new(Layouts::default()),
            at,
            config,
        }
    }

    async fn put(&self, reference: Option<&str>, text: Value) -> Manifest {
        let manifest = Manifest::parse(Bytes::from(text.to_string()), None, Algorithm::Sha256)
            .expect("a manifest");
        let reference = reference.map_or_else(
            || manifest.digest.clone().into(),
            |name| Reference::Tag(tag(name)),
        );
        self.store
            .put_manifest(&self.at, &reference, &manifest)
            .await
            .expect("to write the manifest");
        manifest
    }

    async fn image(
        &self,
        name: Option<&str>,
        content: &str,
        subject: Option<&Manifest>,
    ) -> Manifest {
        let layer = Descriptor::new(
            "x",
            Digest::sha256(content.as_bytes()),
            content.len() as u64,
        );
        let bytes = InMemory(Bytes::copy_from_slice(content.as_bytes()));
        self.store
            .put_blob(&self.at, &layer, &bytes, None)
            .await
            .expect("to write the blob");
        let mut text =
            json!({ "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "layers": [layer] });
        if let Some(subject) = subject {
            text["subject"] = json!(subject.descriptor());
        }
        self.put(name, text).await
    }

    /// Adds an entry to the index as other tools do.
    fn add_entry(&self, manifest: &Manifest, name: Option<&str>) {
        let path = self.directory.path().join("index.json");
        let mut document: Value =
            serde_json::from_slice(&fs::read(&path).expect("index.json")).expect("JSON");
        let mut entry = json!(manifest.descriptor());
        if let Some(name) = name {
            entry["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
        }
        document["manifests"]
            .as_array_mut()
            .expect("a list")
            .push(entry);
        fs::write(path, document.to_string()).expect("to write");
    }

    /// Makes the files as old as files of an archive.
    fn age(&self) {
        for entry in fs::read_dir(self.directory.path().join("blobs/sha256")).expect("a directory")
        {
            let path = entry.expect("an entry").path();
            make_older(&path, Duration::from_secs(25 * 365 * 24 * 3_600));
        }
    }

    async fn world(&self, records: ObservedRecords) -> World {
        let (cache, progress) = (crate::transfer::no_cache(), crate::progress::silent());
        let stores = ImageStores::single(self.store.clone());
        let observer = Observer {
            limits: ReadingLimits::default(),
            stores: &stores,
            cache: &*cache,
            progress: &*progress,
            now: now(),
        };
        observe(&self.config, &CleanupScope::default(), records, observer).await
    }

    async fn plan(&self, records: ObservedRecords) -> Plan {
        plan(&self.world(records).await, &policy())
    }

    async fn execute(&self, plan: &Plan) -> CleanupReport {
        self.execute_with_records(plan, &ObservedRecords::NotConfigured)
            .await
    }

    async fn execute_with_records(
        &self,
        plan: &Plan,
        records: &dyn RecordsSource,
    ) -> CleanupReport {
        self.execute_with_journal(plan, records, Arc::default())
            .await
    }

    async fn execute_with_journal(
        &self,
        plan: &Plan,
        records: &dyn RecordsSource,
        journal: Arc<MemoryJournal>,
    ) -> CleanupReport {
        self.age();
        let (progress, cancel) = (crate::progress::silent(), CancellationToken::new());
        let watch = RecordWatch::new(&self.config, records, false, now());
        let journal = Journal::new(journal, Clock::new(now));
        let execution = CleanupExecution {
            journal: &journal,
            mode: Mode::Apply,
            stores: ImageStores::single(self.store.clone()),
            records: &watch,
            progress,
            max_requests: None,
            cancel,
        };
        CleanupReport::new(plan, execute(plan, &execution).await)
    }

    fn has(&self, digest: &Digest) -> bool {
        self.directory
            .path()
            .join("blobs/sha256")
            .join(digest.hex())
            .exists()
    }

    fn has_content(&self, content: &str) -> bool {
        self.has(&Digest::sha256(content.as_bytes()))
    }
}

#[tokio::test]
async fn content_of_deleted_images_stays_while_they_can_be_restored() {
    let layout = SampleLayout::new();
    let old = layout.image(Some("1.0"), "one", None).await;
    layout.image(Some("2.0"), "two", None).await;
    let signature = layout.image(None, "signature", Some(&old)).await;
    layout.add_entry(&signature, None);
    let journal: Arc<MemoryJournal> = Arc::default();
    let run = async |window: Option<TimeDelta>| {
        let mut plan = layout.plan(ObservedRecords::NotConfigured).await;
        for planned in &mut plan.repositories {
            planned.undo_window = window;
        }
        layout
            .execute_with_journal(&plan, &ObservedRecords::NotConfigured, journal.clone())
            .await
    };
    // The second run finds the content in the journal of the first.
    let window = Some(TimeDelta::days(7));
    assert_eq!(run(window).await.totals.deleted, 1);
    assert_eq!(run(window).await.freed_bytes, 0);
    assert!(layout.has_content("one"), "the layer");
    assert!(
        layout.has_content("signature"),
        "the layer of the signature"
    );
    let batches = journal.batches.lock().expect("the journal").clone();
    let work = Undo {
        config: &layout.config,
        mode: Mode::Apply,
        stores: ImageStores::single(layout.store.clone()),
        progress: crate::progress::silent(),
        documents: None,
        now: now(),
    };
    let report = undo(&batches, &UndoSelection::default(), &work).await;
    assert_eq!(report.exit(), Exit::Done, "{report:?}");
    assert!(layout.has(&old.digest) && layout.has(&signature.digest));
    // Without a window the space is free at once.
    assert_eq!(run(None).await.totals.deleted, 1);
    assert!(!layout.has_content("one") && !layout.has_content("signature"));
}

#[tokio::test]
async fn recorded_digests_are_not_swept() {
    let layout = SampleLayout::new();
    layout.image(Some("1.0"), "one", None).await;
    layout.image(Some("2.0"), "two", None).await;
    let mut named = Vec::new();
    for content in ["base", "moved", "elsewhere", "own"] {
        named.push(layout.image(None, content, None).await.digest);
    }
    layout.image(None, "unreferenced", None).await;
    let at = &layout.at;
    let records = records(vec![
        record(
            "r.example/apps/a:1",
            Some(&format!("{at}@{}", named[0])),
            None,
        ),
        record(
            "r.example/apps/b:1",
            Some(&format!("{at}:2.0")),
            Some(&named[1]),
        ),
        record(
            "r.example/apps/c:1",
            Some("r.example/other:1"),
            Some(&named[2]),
        ),
        record(
            &format!("{at}:7@{}", named[3]),
            Some("r.example/other:1"),
            None,
        ),
    ]);
    let plan = layout.plan(records).await;
    let report = layout.execute(&plan).await;
    assert_eq!(
        (report.exit(), report.totals.deleted),
        (Exit::Done, 1),
        "{report:?}"
    );
    assert!(named.iter().all(|digest| layout.has(digest)));
    assert!(
        ["base", "moved", "elsewhere", "own", "two"]
            .iter()
            .all(|content| layout.has_content(content))
    );
    assert!(!layout.has_content("one") && !layout.has_content("unreferenced"));
}

#[tokio::test]
async fn nothing_is_swept_while_records_are_unknown() {
    let layout = SampleLayout::new();
    layout.image(Some("1.0"), "one", None).await;
    layout.image(Some("2.0"), "two", None).await;
    layout.image(None, "unreferenced", None).await;
    let plan = layout
        .plan(ObservedRecords::Failed(ItemError::other("no")))
        .await;
    layout.execute(&plan).await;
    assert!(layout.has_content("one") && layout.has_content("unreferenced"));
    // The sweep is also skipped while a recorded image cannot be read.
    let pinned = layout.image(None, "pinned", None).await;
    fs::write(
        layout
            .directory
            .path()
            .join("blobs/sha256")
            .join(pinned.digest.hex()),
        "{}",
    )
    .expect("to write");
    let named = record(
        "r.example/apps/a:1",
        Some(&format!("{}@{}", layout.at, pinned.digest)),
        None,
    );
    let plan = layout.plan(records(vec![named])).await;
    assert_eq!(layout.execute(&plan).await.exit(), Exit::Failed);
    assert!(layout.has_content("pinned") && layout.has_content("unreferenced"));
}

#[tokio::test]
async fn image_registered_after_the_plan_is_not_swept() {
    let layout = SampleLayout::new();
    for name in ["1.0", "2.0"] {
        layout.image(Some(name), name, None).await;
    }
    let pinned = layout.image(None, "pinned", None).await;
    let plan = layout.plan(records(Vec::new())).await;
    let named = record(
        "r.example/apps/a:1",
        Some(&format!("{}@{}", layout.at, pinned.digest)),
        None,
    );
    assert_eq!(
        layout
            .execute_with_records(&plan, &records(vec![named]))
            .await
            .exit(),
        Exit::Done
    );
    assert!(layout.has_content("pinned") && !layout.has_content("1.0"));
    let report = layout
        .execute_with_records(
            &plan,
            &ObservedRecords::Failed(ItemError::other("the host is down")),
        )
        .await;
    assert!(
        layout.has_content("pinned") && report.errors[0].error.cause.contains("the host is down"),
        "{report:?}"
    );
}

#[tokio::test]
async fn nothing_is_swept_above_max_delete_percent_or_without_tags() {
    let layout = SampleLayout::new();
    layout.image(None, "unreferenced", None).await;
    let plan = layout.plan(ObservedRecords::NotConfigured).await;
    layout.execute(&plan).await;
    assert!(layout.has_content("unreferenced"), "without any tag");
    for (name, content) in [("1.0", "one"), ("1.1", "two"), ("2.0", "three")] {
        layout.image(Some(name), content, None).await;
    }
    let world = layout.world(ObservedRecords::NotConfigured).await;
    let report = layout
        .execute(&super::plan(
            &world,
            &CleanupPolicy {
                max_delete_percent: Some(50),
                ..policy()
            },
        ))
        .await;
    assert_eq!(
        (report.exit(), report.totals.deleted),
        (Exit::Failed, 0),
        "{report:?}"
    );
    assert!(layout.has_content("unreferenced"), "too many");
    layout.execute(&super::plan(&world, &policy())).await;
    assert!(
        !layout.has_content("unreferenced")
            && !layout.has_content("one")
            && layout.has_content("three")
    );
}

#[tokio::test]
async fn names_that_are_not_tags_keep_an_image_and_its_attachments() {
    let layout = SampleLayout::new();
    let named = layout.image(Some("1.0"), "named", None).await;
    layout.add_entry(&named, Some("1.0+build5"));
    layout.add_entry(&named, Some("team/rel"));
    layout.add_entry(&named, None);
    let unnamed = layout.image(Some("1.1"), "unnamed", None).await;
    layout.add_entry(&unnamed, None);
    let late = layout.image(Some("1.2"), "late", None).await;
    for (content, subject) in [("signature", &named), ("deleted", &unnamed)] {
        let referrer = layout.image(None, content, Some(subject)).await;
        layout.add_entry(&referrer, None);
    }
    layout.image(Some("2.0"), "two", None).await;
    let plan = layout.plan(ObservedRecords::NotConfigured).await;
    layout.add_entry(&late, Some("new/name"));
    let report = layout.execute(&plan).await;
    assert_eq!(
        (report.exit(), report.totals.deleted),
        (Exit::Done, 3),
        "{report:?}"
    );
    let index = fs::read_to_string(layout.directory.path().join("index.json")).expect("index.json");
    assert!(
        ["\"1.0+build5\"", "\"team/rel\"", "\"new/name\""]
            .iter()
            .all(|name| index.contains(name)),
        "{index}"
    );
    assert!(
        !index.contains("\"1.0\"") && !index.contains(unnamed.digest.as_str()),
        "{index}"
    );
    assert!(
        ["named", "signature", "late", "two"]
            .iter()
            .all(|content| layout.has_content(content)),
        "{index}"
    );
    assert!(!layout.has_content("unnamed") && !layout.has_content("deleted"));
}

#[tokio::test]
async fn base_in_a_layout_is_as_young_as_its_file() {
    let mut layout = SampleLayout::new();
    let bases = layout.directory.path().join("bases");
    layout.config = config(&format!(
        "build: {{ registry: 'ocidir://{}', core_version: 1.0.0, images: [{{ name: a, folder: a, type: core, mirror_image: up.example/a, mirror_tag: '1' }}] }}\n\
         retention: {{ keep_last: 0, min_keep: 0, max_age_days: 30, require_records: false }}\n",
        bases.display()
    ));
    layout.at = Repository::Layout {
        directory: bases.join("a"),
    };
    let old = json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "layers": [],
        "annotations": { "org.opencontainers.image.created": "2020-01-01T00:00:00Z" }
    });
    let manifest = layout.put(Some("0.1"), old).await;
    let path = bases.join("a/blobs/sha256").join(manifest.digest.hex());
    let reason = async |age: TimeDelta| {
        fs::File::open(&path)
            .and_then(|file| file.set_modified((now() - age).into()))
            .expect("to change the time");
        let plan = plan(
            &layout.world(ObservedRecords::NotConfigured).await,
            &policy(),
        );
        reason(&plan, &layout.at, "0.1")
    };
    assert_eq!(reason(TimeDelta::hours(23)).await, Some(KeepReason::Young));
    assert_eq!(
        reason(TimeDelta::days(29)).await,
        Some(KeepReason::NotOldEnough)
    );
    assert_eq!(reason(TimeDelta::days(31)).await, None);
}

#[tokio::test]
async fn full_references_in_a_layout_are_not_judged_by_their_tag() {
    let layout = SampleLayout::new();
    for (name, content) in [("1.0", "one"), ("1.1", "two"), ("2.0", "three")] {
        layout.image(Some(name), content, None).await;
    }
    let foreign = layout.image(None, "foreign", None).await;
    layout.add_entry(&foreign, Some("docker.io/library/alpine:0.9"));
    let shared = layout.image(Some("0.8"), "shared", None).await;
    layout.add_entry(&shared, Some("docker.io/library/alpine:0.8"));
    let referrer = layout.image(None, "referrer", Some(&foreign)).await;
    layout.add_entry(&referrer, None);
    let plan = layout.plan(ObservedRecords::NotConfigured).await;
    let report = layout.execute(&plan).await;
    let deleted: BTreeSet<String> = report
        .deleted
        .iter()
        .map(|deleted| deleted.tag.to_string())
        .collect();
    assert_eq!(deleted, names(&["0.8", "1.0", "1.1"]), "{report:?}");
    assert!(
        ["foreign", "shared", "referrer", "three"]
            .iter()
            .all(|content| layout.has_content(content))
    );
    assert!(!layout.has_content("one") && !layout.has_content("two"));
    let index = fs::read_to_string(layout.directory.path().join("index.json")).expect("index.json");
    assert!(
        [
            "\"docker.io/library/alpine:0.9\"",
            "\"docker.io/library/alpine:0.8\""
        ]
        .iter()
        .all(|name| index.contains(name)),
        "{index}"
    );
    assert!(!index.contains("\"0.8\""), "{index}");
}
