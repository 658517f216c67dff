//! Copies to an archive before deletion.

use super::*;

#[tokio::test]
async fn images_are_archived_before_deletion_and_expire_by_the_day_in_their_tag() {
    let sample = SampleRepository::mirror(&["1.0", "2.0"]).await;
    let child = sample.image("child", json!({})).await;
    let index = sample.index(&[&child]).await;
    sample.tag("0.9", &index, 365).await;
    sample
        .tag(
            Tag::of_cosign(&index)[0].as_str(),
            &sample.image("signature", json!({})).await,
            365,
        )
        .await;
    let config =
        mirror("keep_last: 1, archive: { enabled: true, registry: cold.example/x, keep_days: 10 }");
    let archive = repository("cold.example/x/m/a");
    let report = sample.run(&config, ObservedRecords::NotConfigured).await;
    assert_eq!(
        (report.exit(), report.totals.deleted, report.totals.archived),
        (Exit::Done, 3, 2),
        "{report:?}"
    );
    let signature = Tag::of_cosign(&index)[0].to_string();
    assert_eq!(
        sample.tags_of(&archive).await,
        names(&["0.9-archived.20260301", "1.0-archived.20260301", &signature])
    );
    let archived = sample
        .store
        .resolve(&archive, &tag("0.9-archived.20260301").into())
        .await
        .expect("to resolve")
        .expect("an image");
    assert_eq!(archived.digest, index);
    // Tags of another form are never deleted.
    let other = SampleRepository {
        store: sample.store.clone(),
        at: archive.clone(),
    };
    other.old("mine").await;
    other.old("1.0-archived.2020101").await;
    let later = |days| CleanupPolicy {
        now: now() + TimeDelta::days(days),
        ..policy()
    };
    sample
        .run_by(&config, ObservedRecords::NotConfigured, &later(10))
        .await;
    assert_eq!(other.tags().await.len(), 5);
    let world = sample.world(&config, ObservedRecords::NotConfigured).await;
    assert_eq!(
        reason(&plan(&world, &later(10)), &archive, "mine"),
        Some(KeepReason::NotArchived)
    );
    assert!(matches!(
        reason(&plan(&world, &later(10)), &archive, "1.0-archived.20260301"),
        Some(KeepReason::ArchivedUntil(_))
    ));
    let on_archived = record(
        "r.example/apps/a:1",
        Some("cold.example/x/m/a:1.0-archived.20260301"),
        None,
    );
    let recorded = sample.world(&config, records(vec![on_archived])).await;
    assert!(matches!(
        reason(
            &plan(&recorded, &later(11)),
            &archive,
            "1.0-archived.20260301"
        ),
        Some(KeepReason::BaseOf(_))
    ));
    // `max_delete_percent` does not apply to archives.
    let report = sample
        .execute(
            &plan(
                &world,
                &CleanupPolicy {
                    max_delete_percent: Some(10),
                    ..later(11)
                },
            ),
            Mode::Apply,
        )
        .await;
    assert_eq!(
        (report.exit(), other.tags().await),
        (Exit::Done, names(&["1.0-archived.2020101", "mine"])),
        "{report:?}"
    );
}

#[tokio::test]
async fn images_that_could_not_be_archived_are_kept() {
    let sample = SampleRepository::mirror(&["1.0", "2.0"]).await;
    let long = format!("0.{}", "1".repeat(120));
    sample.old(&long).await;
    let config = mirror("keep_last: 1, archive: { enabled: true, registry: cold.example/x }");
    // Attachments are kept as well, at any depth.
    let digest = sample.old("1.0").await;
    let signature = sample.image("signature", json!({})).await;
    sample
        .tag(Tag::of_cosign(&digest)[0].as_str(), &signature, 365)
        .await;
    sample
        .tag(
            Tag::of_cosign(&signature)[1].as_str(),
            &sample.image("attestation", json!({})).await,
            365,
        )
        .await;
    sample.store.fail_when(|call| {
        let fails = call.operation == StoreOperation::PutManifest
            && call.repository.to_string() == "cold.example/x/m/a";
        fails.then_some(StoreFault::Error(ItemErrorKind::Forbidden))
    });
    let report = sample.run(&config, ObservedRecords::NotConfigured).await;
    assert_eq!(
        (report.exit(), report.totals.deleted, report.totals.errors),
        (Exit::Failed, 0, 2)
    );
    assert_eq!(
        (
            sample.tags().await.len(),
            report.totals.kept,
            report.totals.examined
        ),
        (5, 3, 5)
    );
    assert!(
        report
            .kept
            .iter()
            .filter(|kept| kept.tag.is_attachment())
            .all(|kept| kept.reason == KeepReason::AttachedToKept)
    );
    sample.store.fail_when(|_| None);
    sample.run(&config, ObservedRecords::NotConfigured).await;
    assert_eq!(sample.tags().await, names(&[&long, "2.0"]));
}

#[tokio::test]
async fn archived_image_is_not_overwritten() {
    let sample = SampleRepository::mirror(&["1.0", "2.0"]).await;
    let first = sample.old("1.0").await;
    let config = mirror("keep_last: 1, archive: { enabled: true, registry: cold.example/x }");
    let archived = async || {
        let found = sample
            .store
            .resolve(
                &repository("cold.example/x/m/a"),
                &tag("1.0-archived.20260301").into(),
            )
            .await;
        found.expect("to resolve").expect("an image").digest
    };
    assert_eq!(
        sample
            .run(&config, ObservedRecords::NotConfigured)
            .await
            .exit(),
        Exit::Done
    );
    assert_eq!(archived().await, first);
    // The same image is already archived.
    sample.old("1.0").await;
    assert_eq!(
        sample
            .run(&config, ObservedRecords::NotConfigured)
            .await
            .exit(),
        Exit::Done
    );
    assert_eq!(sample.tags().await, names(&["2.0"]));
    let second = sample.image("another", json!({})).await;
    sample.tag("1.0", &second, 365).await;
    let report = sample.run(&config, ObservedRecords::NotConfigured).await;
    assert_eq!(
        (report.exit(), report.totals.deleted, report.totals.archived),
        (Exit::Failed, 0, 0),
        "{report:?}"
    );
    assert!(
        report.failed[0]
            .error
            .cause
            .contains("already names another image"),
        "{report:?}"
    );
    assert_eq!(archived().await, first);
    assert!(sample.tags().await.contains("1.0") && sample.has(&second).await);
}

const ARCHIVING: &str = "keep_last: 1, archive: { enabled: true, registry: cold.example/x }";

/// Calls `act` when a manifest is written to the archive.
fn while_archiving(sample: &SampleRepository, act: impl Fn() + Send + Sync + 'static) {
    sample.store.fail_when(move |call| {
        if call.operation == StoreOperation::PutManifest
            && call.repository.to_string() == "cold.example/x/m/a"
        {
            act();
        }
        None
    });
}

#[tokio::test]
async fn image_tagged_while_it_is_archived_is_kept() {
    for deletions in [DeletionSupport::ALL, DIGEST_ONLY] {
        let sample = SampleRepository::new("r.example/m/a", deletions);
        let old = sample.old("1.0").await;
        sample.old("2.0").await;
        let (store, at, claimed) = (sample.store.clone(), sample.at.clone(), old.clone());
        while_archiving(&sample, move || store.move_tag(&at, &tag("mine"), &claimed));
        sample
            .run(&mirror(ARCHIVING), ObservedRecords::NotConfigured)
            .await;
        assert!(
            sample.tags().await.contains("mine") && sample.has(&old).await,
            "{deletions:?}"
        );
    }
}

#[tokio::test]
async fn tag_that_reappears_after_archiving_keeps_its_image() {
    for deletions in [DeletionSupport::ALL, DIGEST_ONLY] {
        let sample = SampleRepository::new("r.example/m/a", deletions);
        let old = sample.old("1.0").await;
        sample.tag("1.1", &old, 365).await;
        sample.old("2.0").await;
        let plan = sample
            .plan(&mirror(ARCHIVING), ObservedRecords::NotConfigured)
            .await;
        sample.store.forget_tag(&sample.at, &tag("1.0"));
        let (store, at, back) = (sample.store.clone(), sample.at.clone(), old.clone());
        while_archiving(&sample, move || store.move_tag(&at, &tag("1.0"), &back));
        let report = sample.execute(&plan, Mode::Apply).await;
        assert_eq!(
            (report.exit(), report.totals.deleted),
            (Exit::Failed, 0),
            "{deletions:?} {report:?}"
        );
        assert!(
            report.failed[0]
                .error
                .cause
                .contains("the tag 1.0 did not exist when the image was archived"),
            "{report:?}"
        );
        assert!(
            sample.tags().await.is_superset(&names(&["1.0", "1.1"])) && sample.has(&old).await,
            "{deletions:?}"
        );
    }
}

#[tokio::test]
async fn nothing_is_deleted_if_the_archive_names_another_image_after_the_copy() {
    let sample = SampleRepository::mirror(&["1.0", "2.0"]).await;
    let cold = SampleRepository {
        store: sample.store.clone(),
        at: repository("cold.example/x/m/a"),
    };
    for other in [
        cold.image("other", json!({})).await,
        Digest::sha256(b"nothing"),
    ] {
        let was_put = std::sync::atomic::AtomicBool::new(false);
        let (store, at, archived) = (
            sample.store.clone(),
            cold.at.clone(),
            tag("1.0-archived.20260301"),
        );
        sample.store.fail_when(move |call| {
            let is_tag = call.repository == at && call.subject == archived.as_str();
            if is_tag && call.operation == StoreOperation::PutManifest {
                was_put.store(true, std::sync::atomic::Ordering::SeqCst);
            } else if is_tag && was_put.load(std::sync::atomic::Ordering::SeqCst) {
                store.move_tag(&at, &archived, &other);
            }
            None
        });
        let report = sample
            .run(&mirror(ARCHIVING), ObservedRecords::NotConfigured)
            .await;
        assert_eq!(
            (report.exit(), report.totals.deleted),
            (Exit::Failed, 0),
            "{report:?}"
        );
        assert_eq!(sample.tags().await, names(&["1.0", "2.0"]));
        sample.store.fail_when(|_| None);
        sample
            .store
            .forget_tag(&cold.at, &tag("1.0-archived.20260301"));
    }
}

/// Loss of content at an archive.
#[derive(Clone, Copy, Debug)]
enum Loss {
    Nothing,
    /// The tag is there, and the children of its index are not.
    Children,
    /// The index is there without a tag, and its children are not.
    TagAndChildren,
    /// The blobs of the children are not there.
    Blobs,
    /// The blobs of the children are reported, and cannot be read.
    Contents,
    /// The blobs of the signature are reported, and cannot be read.
    Signature,
    /// The manifest of the signature is not there.
    SignatureManifest,
}

struct Archived {
    sample: SampleRepository,
    cold: SampleRepository,
    children: Vec<Digest>,
    index: Digest,
    signature: Digest,
}

impl Archived {
    /// Writes an index with a signature and copies it to the archive.
    async fn new() -> Archived {
        let sample = SampleRepository::mirror(&["2.0"]).await;
        let children = vec![
            sample.image("amd64", json!({})).await,
            sample.image("arm64", json!({})).await,
        ];
        let index = sample.index(&[&children[0], &children[1]]).await;
        sample.tag("1.0", &index, 365).await;
        let signature = sample.image("signature", json!({})).await;
        let signature_tag = Tag::of_cosign(&index)[0].clone();
        sample.tag(signature_tag.as_str(), &signature, 365).await;
        let cold = SampleRepository {
            store: sample.store.clone(),
            at: repository("cold.example/x/m/a"),
        };
        for content in ["amd64", "arm64", "signature"] {
            cold.image(content, json!({})).await;
        }
        cold.index(&[&children[0], &children[1]]).await;
        cold.store
            .move_tag(&cold.at, &tag("1.0-archived.20260301"), &index);
        cold.store.move_tag(&cold.at, &signature_tag, &signature);
        Archived {
            sample,
            cold,
            children,
            index,
            signature,
        }
    }

    /// Returns the blobs of a manifest.
    async fn blobs(&self, digest: &Digest) -> Vec<Descriptor> {
        let manifest = self
            .sample
            .store
            .manifest(&self.sample.at, &digest.clone().into())
            .await;
        let manifest = manifest.expect("to read").expect("a manifest");
        manifest.blobs().into_iter().cloned().collect()
    }

    async fn lose(&self, loss: Loss) {
        let (store, at) = (&self.cold.store, &self.cold.at);
        match loss {
            Loss::Nothing => {}
            Loss::Children | Loss::TagAndChildren => {
                for child in &self.children {
                    store.lose_manifest(at, child);
                    for blob in self.blobs(child).await {
                        store.lose_blob(at, &blob.digest);
                    }
                }
                if matches!(loss, Loss::TagAndChildren) {
                    store.forget_tag(at, &tag("1.0-archived.20260301"));
                }
            }
            Loss::Blobs | Loss::Contents => {
                for child in &self.children {
                    for blob in self.blobs(child).await {
                        match loss {
                            Loss::Blobs => assert!(store.lose_blob(at, &blob.digest)),
                            _ => store.lose_content(at, &blob.digest),
                        }
                    }
                }
            }
            Loss::Signature => {
                for blob in self.blobs(&self.signature).await {
                    store.lose_content(at, &blob.digest);
                }
            }
            Loss::SignatureManifest => assert!(store.lose_manifest(at, &self.signature)),
        }
    }

    /// Returns true if the archive has all content of the index and its signature.
    async fn is_whole(&self, blobs: &[Descriptor]) -> bool {
        for digest in self.children.iter().chain([&self.index, &self.signature]) {
            if !self.cold.has(digest).await {
                return false;
            }
        }
        for blob in blobs {
            let can_read = self.cold.store.can_read_blob(&self.cold.at, blob).await;
            if !can_read.expect("an answer") {
                return false;
            }
        }
        self.cold.tags().await.contains("1.0-archived.20260301")
    }

    async fn all_blobs(&self) -> Vec<Descriptor> {
        let mut blobs = Vec::new();
        for digest in self.children.iter().chain([&self.signature]) {
            blobs.extend(self.blobs(digest).await);
        }
        blobs
    }
}

const LOSSES: [Loss; 6] = [
    Loss::Children,
    Loss::TagAndChildren,
    Loss::Blobs,
    Loss::Contents,
    Loss::Signature,
    Loss::SignatureManifest,
];

#[tokio::test]
async fn content_that_the_archive_lost_is_copied_again_before_deletion() {
    for loss in LOSSES {
        let archived = Archived::new().await;
        let blobs = archived.all_blobs().await;
        assert!(archived.is_whole(&blobs).await);
        archived.lose(loss).await;
        assert!(!archived.is_whole(&blobs).await, "{loss:?}");
        let report = archived
            .sample
            .run(&mirror(ARCHIVING), ObservedRecords::NotConfigured)
            .await;
        assert_eq!(report.exit(), Exit::Done, "{loss:?} {report:?}");
        assert_eq!(archived.sample.tags().await, names(&["2.0"]), "{loss:?}");
        assert!(archived.is_whole(&blobs).await, "{loss:?}");
    }
}

#[tokio::test]
async fn image_is_kept_if_content_of_the_archive_cannot_be_read() {
    for loss in LOSSES {
        let archived = Archived::new().await;
        archived.lose(loss).await;
        // The archive accepts uploads, and loses them again.
        let (store, at) = (archived.cold.store.clone(), archived.cold.at.clone());
        archived.sample.store.fail_when(move |call| {
            let is_lost = call.operation == StoreOperation::Blob && call.repository == at;
            if is_lost {
                store.lose_content(&at, &call.subject.parse().expect("a digest"));
            }
            None
        });
        let report = archived
            .sample
            .run(&mirror(ARCHIVING), ObservedRecords::NotConfigured)
            .await;
        assert_eq!(report.exit(), Exit::Failed, "{loss:?} {report:?}");
        assert_eq!(report.totals.deleted, 0, "{loss:?} {report:?}");
        assert!(
            archived.sample.has(&archived.index).await
                && archived.sample.has(&archived.signature).await,
            "{loss:?}"
        );
        assert!(
            report.failed[0]
                .error
                .cause
                .contains("its content still cannot be read"),
            "{report:?}"
        );
    }
}

#[tokio::test]
async fn whole_archive_is_read_once_for_all_tags_of_an_image() {
    let archived = Archived::new().await;
    let more = ["1.0.0", "1.0.1", "1.0.2"];
    for name in more {
        archived.sample.tag(name, &archived.index, 365).await;
    }
    let blobs = archived.all_blobs().await.len();
    archived.lose(Loss::Nothing).await;
    archived.sample.store.clear_calls();
    let report = archived
        .sample
        .run(&mirror(ARCHIVING), ObservedRecords::NotConfigured)
        .await;
    assert_eq!((report.exit(), report.totals.archived), (Exit::Done, 4));
    let reads = archived.sample.store.calls().into_iter().filter(|call| {
        call.operation == StoreOperation::Blob && call.repository == archived.cold.at
    });
    assert_eq!(reads.count(), blobs);
    assert_eq!(archived.sample.store.count(StoreOperation::PutBlob), 0);
}
