//! Tags that are kept because of other tags: shared digests, parts of indexes, attachments.

use super::*;

#[tokio::test]
async fn unreadable_tags_are_kept_with_everything_they_may_need() {
    let sample = SampleRepository::mirror(&["1.0", "2.0", "3.0"]).await;
    let fault = |call: &ImageStoreCall| {
        let fails = call.operation == StoreOperation::Manifest && call.subject == "1.0";
        fails.then_some(StoreFault::Error(ItemErrorKind::ServerError))
    };
    sample.store.fail_when(fault);
    let config = mirror("keep_last: 1");
    let deleted = sample.old("2.0").await;
    let signature = Tag::of_cosign(&deleted)[0].to_string();
    sample
        .tag(&signature, &sample.image("signature", json!({})).await, 365)
        .await;
    assert!(matches!(
        sample.reason(&config, "1.0").await,
        Some(KeepReason::Unreadable(_))
    ));
    assert_eq!(
        sample.reason(&config, &signature).await,
        Some(KeepReason::SubjectUnknown)
    );
    assert_eq!(sample.reason(&config, "2.0").await, None);
    // Its image is kept, because the unreadable tag may lead to it.
    let image = sample
        .store
        .resolve(&sample.at, &tag("2.0").into())
        .await
        .expect("to resolve")
        .expect("an image")
        .digest;
    sample.run(&config, ObservedRecords::NotConfigured).await;
    assert!(!sample.tags().await.contains("2.0") && sample.has(&image).await);
    // Deletion by digest could also delete the unreadable tag.
    let strict = SampleRepository::new("r.example/m/a", DIGEST_ONLY);
    for name in ["1.0", "2.0", "3.0"] {
        strict.old(name).await;
    }
    strict.store.fail_when(fault);
    assert_eq!(
        strict.reason(&config, "2.0").await,
        Some(KeepReason::NeighbourUnreadable)
    );
}

#[tokio::test]
async fn manifests_below_nested_indexes_are_kept() {
    for deletions in [DeletionSupport::ALL, DIGEST_ONLY] {
        let sample = SampleRepository::new("r.example/m/a", deletions);
        let unnamed = sample.old("0.8").await;
        let inner = sample.index(&[&unnamed]).await;
        let outer = sample.index_of("", &inner).await;
        sample.tag("3.0", &outer, 365).await;
        let config = mirror("keep_last: 1");
        // If the registry deletes by digest only, manifests below a kept index keep their tags.
        let plan = sample.plan(&config, ObservedRecords::NotConfigured).await;
        let expected = (deletions == DIGEST_ONLY).then_some(KeepReason::PartOfKept);
        assert_eq!(reason(&plan, &sample.at, "0.8"), expected, "{deletions:?}");
        sample.run(&config, ObservedRecords::NotConfigured).await;
        assert!(
            sample.has(&unnamed).await && sample.has(&inner).await,
            "{deletions:?}"
        );
        // An index that is nested deeper than the limit is unreadable.
        let deep = sample.old("0.9").await;
        let mut nested = deep.clone();
        for _ in 0..5 {
            nested = sample.index_of(media_type::OCI_INDEX, &nested).await;
        }
        sample.tag("4.0", &nested, 365).await;
        let reason = sample.reason(&config, "4.0").await;
        assert!(
            matches!(&reason, Some(KeepReason::Unreadable(cause)) if cause.contains("nested deeper")),
            "{reason:?}"
        );
        sample.run(&config, ObservedRecords::NotConfigured).await;
        assert!(
            sample.has(&deep).await && sample.has(&unnamed).await,
            "{deletions:?}"
        );
    }
}

#[tokio::test]
async fn tag_that_shares_a_kept_digest_is_deleted_only_by_name() {
    for (deletions, expected) in [
        (DeletionSupport::ALL, None),
        (TAGS_ONLY, None),
        (DIGEST_ONLY, Some(KeepReason::SharesDigest(tag("2.0")))),
        (NOTHING, Some(KeepReason::NotDeletable)),
    ] {
        let sample = SampleRepository::new("r.example/m/a", deletions);
        let digest = sample.old("2.0").await;
        sample.tag("1.0", &digest, 365).await;
        let config = mirror("keep_last: 1");
        sample.old("0.9").await;
        let plan = sample.plan(&config, ObservedRecords::NotConfigured).await;
        assert_eq!(reason(&plan, &sample.at, "1.0"), expected, "{deletions:?}");
        let methods: BTreeSet<DeletionMethod> = plan.repositories[0]
            .groups
            .iter()
            .map(|group| group.method)
            .collect();
        let expected_methods = match deletions {
            DeletionSupport::ALL => {
                BTreeSet::from([DeletionMethod::Tags, DeletionMethod::TagsThenManifest])
            }
            TAGS_ONLY => BTreeSet::from([DeletionMethod::Tags]),
            DIGEST_ONLY => BTreeSet::from([DeletionMethod::Manifest]),
            _ => BTreeSet::new(),
        };
        assert_eq!(methods, expected_methods, "{deletions:?}");
        sample.run(&config, ObservedRecords::NotConfigured).await;
        assert!(
            sample.has(&digest).await && sample.tags().await.contains("2.0"),
            "{deletions:?}"
        );
        assert_eq!(
            sample.tags().await.contains("1.0"),
            expected.is_some(),
            "{deletions:?}"
        );
    }
}

#[tokio::test]
async fn tag_of_a_part_of_a_kept_index_is_deleted_only_by_name() {
    for (deletions, expected) in [
        (DeletionSupport::ALL, None),
        (DIGEST_ONLY, Some(KeepReason::PartOfKept)),
    ] {
        let sample = SampleRepository::new("r.example/m/a", deletions);
        let child = sample.old("1.0-amd64").await;
        let index = sample.index(&[&child]).await;
        sample.tag("2.0", &index, 365).await;
        let config = mirror("keep_last: 1");
        assert_eq!(
            sample.reason(&config, "1.0-amd64").await,
            expected,
            "{deletions:?}"
        );
        sample.run(&config, ObservedRecords::NotConfigured).await;
        assert!(
            sample.has(&child).await && sample.has(&index).await,
            "{deletions:?}"
        );
    }
}

#[tokio::test]
async fn attachments_are_kept_and_deleted_with_their_image() {
    for deletions in [DeletionSupport::ALL, DIGEST_ONLY] {
        let sample = SampleRepository::new("r.example/m/a", deletions);
        let (old, new) = (sample.old("1.0").await, sample.old("2.0").await);
        let (sbom, signature) = (
            sample.referrer(&old).await,
            sample.image("signature of sbom", json!({})).await,
        );
        let listed = sample.index(&[&sbom]).await;
        for subject in [&old, &new] {
            let kept = sample
                .image(&format!("signature of {subject}"), json!({}))
                .await;
            sample
                .tag(Tag::of_cosign(subject)[0].as_str(), &kept, 365)
                .await;
            let countersignature = sample
                .image(&format!("signature of {kept}"), json!({}))
                .await;
            sample
                .tag(Tag::of_cosign(&kept)[0].as_str(), &countersignature, 365)
                .await;
        }
        let kept = sample
            .image(&format!("signature of {new}"), json!({}))
            .await;
        sample
            .tag(Tag::of_referrers(&old).as_str(), &listed, 365)
            .await;
        // An attachment of an attachment.
        sample
            .tag(Tag::of_cosign(&sbom)[0].as_str(), &signature, 365)
            .await;
        // Attachments of a missing image, and of an image without a tag.
        let (missing, untagged) = (
            Digest::sha256(b"missing"),
            sample.image("untagged", json!({})).await,
        );
        for (subject, content) in [(&missing, "a"), (&untagged, "b")] {
            sample
                .tag(
                    Tag::of_cosign(subject)[1].as_str(),
                    &sample.image(content, json!({})).await,
                    365,
                )
                .await;
        }
        let report = sample
            .run(&mirror("keep_last: 1"), ObservedRecords::NotConfigured)
            .await;
        let left = [
            Tag::of_cosign(&new)[0].clone(),
            Tag::of_cosign(&kept)[0].clone(),
            Tag::of_cosign(&untagged)[1].clone(),
            Tag::of_cosign(&missing)[1].clone(),
            tag("2.0"),
        ];
        assert_eq!(
            sample.tags().await,
            left.iter().map(Tag::to_string).collect(),
            "{deletions:?} {report:?}"
        );
        assert!(
            !sample.has(&sbom).await && !sample.has(&signature).await && !sample.has(&old).await,
            "{deletions:?}"
        );
    }
}

#[tokio::test]
async fn attachments_are_kept_while_their_subject_is_unknown() {
    let sample = SampleRepository::mirror(&["1.0", "2.0"]).await;
    let untagged = sample.image("untagged", json!({})).await;
    let signature = Tag::of_cosign(&untagged)[0].to_string();
    sample
        .tag(&signature, &sample.image("signature", json!({})).await, 365)
        .await;
    let failing = untagged.to_string();
    sample.store.fail_when(move |call| {
        let fails = call.operation == StoreOperation::Resolve && call.subject == failing;
        fails.then_some(StoreFault::Error(ItemErrorKind::ServerError))
    });
    assert_eq!(
        sample.reason(&mirror("keep_last: 1"), &signature).await,
        Some(KeepReason::SubjectUnknown)
    );
}

#[tokio::test]
async fn names_do_not_make_an_image_an_attachment() {
    let sample = SampleRepository::mirror(&["1.0", "9"]).await;
    let old = sample.old("0.9").await;
    // imgpkg tags images with their own digest.
    let own = sample.image("own digest", json!({})).await;
    let of_own = Tag::of_referrers(&own).to_string();
    sample.tag(&of_own, &own, 365).await;
    sample.tag(&format!("{of_own}.imgpkg"), &own, 365).await;
    sample.tag(&format!("{of_own}.sig"), &own, 365).await;
    // An image, an index of images, and a list of referrers of another image.
    let image = sample.image("image", json!({})).await;
    let index = sample.index(&[&image]).await;
    let other_list = sample.index(&[&sample.referrer(&image).await]).await;
    let subjects: Vec<Digest> = ["1", "2", "3"]
        .iter()
        .map(|text| Digest::sha256(text.as_bytes()))
        .collect();
    let disguised: Vec<String> = subjects
        .iter()
        .map(|subject| Tag::of_referrers(subject).to_string())
        .chain([Tag::of_referrers(&old).to_string()])
        .collect();
    for (name, digest) in disguised.iter().zip([&image, &index, &other_list, &index]) {
        sample.tag(name, digest, 365).await;
    }
    let plan = sample
        .plan(&mirror("keep_last: 100"), ObservedRecords::NotConfigured)
        .await;
    assert_eq!(plan.deletions().count(), 0, "{plan:?}");
    // The ordinary rules apply, and `max_delete_percent` counts all of them.
    let config = mirror("keep_last: 1");
    let plan = sample.plan(&config, ObservedRecords::NotConfigured).await;
    let expected: BTreeSet<String> = [
        of_own.clone(),
        format!("{of_own}.imgpkg"),
        format!("{of_own}.sig"),
    ]
    .into_iter()
    .chain(disguised)
    .chain(["0.9".to_owned(), "1.0".to_owned()])
    .collect();
    assert_eq!(deleted(&plan), expected);
    let world = sample.world(&config, ObservedRecords::NotConfigured).await;
    let limited = CleanupPolicy {
        max_delete_percent: Some(60),
        ..policy()
    };
    assert_eq!(super::plan(&world, &limited).deletions().count(), 0);
}

/// Returns the tags that the plan deletes.
fn deleted(plan: &Plan) -> BTreeSet<String> {
    plan.deletions()
        .map(|(_, tag, _)| tag.to_string())
        .collect()
}

#[tokio::test]
async fn referrers_with_a_tag_are_kept_and_deleted_with_their_subject() {
    for deletions in [DeletionSupport::ALL, DIGEST_ONLY] {
        let sample = SampleRepository::new("r.example/m/a", deletions);
        let mut referrers = Vec::new();
        for name in ["1.0", "2.0", "3.0"] {
            let subject = sample.old(name).await;
            let referrer = sample.referrer(&subject).await;
            sample.tag(&format!("{name}-sbom"), &referrer, 365).await;
            let signature = sample.referrer(&referrer).await;
            sample
                .tag(&format!("signature-of-{name}"), &signature, 365)
                .await;
            referrers.extend([referrer, signature]);
        }
        // Referrers take no place among the newest.
        let plan = sample
            .plan(&mirror("keep_last: 3"), ObservedRecords::NotConfigured)
            .await;
        assert_eq!(deleted(&plan), names(&[]), "{deletions:?}");
        let config = mirror("keep_last: 2");
        for name in ["3.0-sbom", "signature-of-2.0"] {
            assert_eq!(
                sample.reason(&config, name).await,
                Some(KeepReason::AttachedToKept)
            );
        }
        let report = sample.run(&config, ObservedRecords::NotConfigured).await;
        assert_eq!(report.exit(), Exit::Done, "{report:?}");
        let left = [
            "2.0",
            "2.0-sbom",
            "3.0",
            "3.0-sbom",
            "signature-of-2.0",
            "signature-of-3.0",
        ];
        assert_eq!(sample.tags().await, names(&left), "{deletions:?}");
        for (position, referrer) in referrers.iter().enumerate() {
            assert_eq!(sample.has(referrer).await, position > 1, "{deletions:?}");
        }
    }
}

#[tokio::test]
async fn attachments_without_an_image_are_kept_unless_cleanup_deleted_it() {
    let sample = SampleRepository::mirror(&["1.0", "2.0", "9"]).await;
    let config = mirror("keep_last: 1");
    let missing = sample.image("missing", json!({})).await;
    let signature = Tag::of_cosign(&missing)[0].to_string();
    sample
        .tag(&signature, &sample.image("signature", json!({})).await, 365)
        .await;
    let listed = sample.referrer(&missing).await;
    sample.tag("sbom", &listed, 365).await;
    let list = Tag::of_referrers(&missing).to_string();
    sample
        .tag(&list, &sample.index(&[&listed]).await, 365)
        .await;
    let attachments = [&signature, &list, "sbom"];
    assert!(sample.store.lose_manifest(&sample.at, &missing));
    let mut world = sample.world(&config, ObservedRecords::NotConfigured).await;
    let plan = plan(&world, &policy());
    for name in attachments {
        let reason = reason(&plan, &sample.at, name);
        assert_eq!(reason, Some(KeepReason::SubjectUnknown), "{name}");
    }
    assert_eq!(deleted(&plan), names(&["1.0", "2.0"]));
    // The journal of an earlier run has the image.
    let journal = MemoryJournal::default();
    let batch = |repository: &Repository| JournalBatch {
        run: "20260201T000000Z-1".to_owned(),
        batch: 1,
        written_at: now() - TimeDelta::days(28),
        repository: repository.clone(),
        changes: Vec::new(),
        manifests: vec![crate::model::JournalManifest {
            digest: missing.clone(),
            media_type: media_type::OCI_MANIFEST.to_owned(),
            content: "{}".to_owned(),
        }],
    };
    let (cache, progress) = (crate::transfer::no_cache(), crate::progress::silent());
    let stores = sample.store.stores();
    let observer = Observer {
        limits: ReadingLimits::default(),
        stores: &stores,
        cache: &*cache,
        progress: &*progress,
        now: now(),
    };
    for at in [repository("r.example/other"), sample.at.clone()] {
        assert!(world.repositories[0].missing_subjects.is_empty());
        journal.write(&batch(&at)).await.expect("a journal");
        read_deleted_subjects(&mut world, &journal, observer).await;
    }
    let expected = BTreeSet::from([Tag::of_referrers(&missing)]);
    assert_eq!(world.repositories[0].missing_subjects, expected);
    // Attachments that go without their image count for `max_delete_percent`.
    let by = |max_delete_percent| CleanupPolicy {
        max_delete_percent: Some(max_delete_percent),
        ..policy()
    };
    assert_eq!(super::plan(&world, &by(83)).deletions().count(), 0);
    let plan = super::plan(&world, &by(84));
    let expected = ["1.0", "2.0"]
        .into_iter()
        .chain(attachments)
        .collect::<Vec<_>>();
    assert_eq!(deleted(&plan), names(&expected));
}

#[tokio::test]
async fn manifests_attached_to_each_others_parts_are_kept() {
    let sample = SampleRepository::mirror(&["1.0", "9"]).await;
    let (one, other) = (
        sample.image("one", json!({})).await,
        sample.image("other", json!({})).await,
    );
    for (name, part, subject) in [("a", &one, &other), ("b", &other, &one), ("c", &one, &one)] {
        let index = json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_INDEX,
            "manifests": [{ "mediaType": media_type::OCI_MANIFEST, "digest": part, "size": 1 }],
            "subject": { "mediaType": media_type::OCI_MANIFEST, "digest": subject, "size": 1 },
        });
        let index = sample.put(index).await;
        sample.tag(name, &index, 365).await;
    }
    let config = mirror("keep_last: 1");
    for name in ["a", "b", "c"] {
        assert_eq!(
            sample.reason(&config, name).await,
            Some(KeepReason::SubjectUnknown),
            "{name}"
        );
    }
    assert_eq!(sample.reason(&config, "1.0").await, None);
}

/// Returns the plan of a run that deletes.
async fn complete_plan(sample: &SampleRepository, config: &Config) -> Plan {
    let world = sample.world(config, ObservedRecords::NotConfigured).await;
    let (cache, progress) = (crate::transfer::no_cache(), crate::progress::silent());
    let stores = sample.store.stores();
    let observer = Observer {
        limits: ReadingLimits::default(),
        stores: &stores,
        cache: &*cache,
        progress: &*progress,
        now: now(),
    };
    let world = observe_entries(world, observer).await;
    plan(&world, &policy())
}

#[tokio::test]
async fn entries_of_indexes_are_read_whatever_they_claim() {
    for kind in [
        media_type::OCI_MANIFEST,
        media_type::DOCKER_MANIFEST,
        "application/vnd.oci.image.layer.v1.tar+gzip",
    ] {
        for deletions in [DeletionSupport::ALL, DIGEST_ONLY] {
            let sample = SampleRepository::new("r.example/m/a", deletions);
            let needed = sample.old("1.0").await;
            let part = sample.image("part", json!({})).await;
            let old_index = sample.index(&[&part]).await;
            sample.tag("1.1", &old_index, 365).await;
            let unneeded = sample.old("1.2").await;
            let inner = sample.index(&[&needed, &part]).await;
            let hidden = sample.index_of(kind, &inner).await;
            let outer = sample.index_of(kind, &hidden).await;
            sample.tag("9", &outer, 365).await;
            let config = mirror("keep_last: 1");
            let expected = (deletions == DIGEST_ONLY).then_some(KeepReason::PartOfKept);
            let plan = complete_plan(&sample, &config).await;
            assert_eq!(reason(&plan, &sample.at, "1.0"), expected, "{kind}");
            let report = sample.execute(&plan, Mode::Apply).await;
            assert_eq!(report.exit(), Exit::Done, "{report:?}");
            for digest in [&needed, &part, &inner, &hidden] {
                assert!(sample.has(digest).await, "{kind} {deletions:?}");
            }
            assert!(
                !sample.has(&unneeded).await && !sample.has(&old_index).await,
                "{kind}"
            );
            // An entry that cannot be read may list anything.
            let sample = SampleRepository::new("r.example/m/a", deletions);
            sample.old("1.0").await;
            let unreadable = sample.image("unreadable", json!({})).await;
            sample
                .tag("9", &sample.index_of(kind, &unreadable).await, 365)
                .await;
            let failing = unreadable.to_string();
            sample.store.fail_when(move |call| {
                let fails = call.operation == StoreOperation::Manifest && call.subject == failing;
                fails.then_some(StoreFault::Error(ItemErrorKind::ServerError))
            });
            let plan = complete_plan(&sample, &config).await;
            let methods: Vec<DeletionMethod> = plan.repositories[0]
                .groups
                .iter()
                .map(|group| group.method)
                .collect();
            let expected = if deletions == DIGEST_ONLY {
                Vec::new()
            } else {
                vec![DeletionMethod::Tags]
            };
            assert_eq!(methods, expected, "{kind}");
        }
    }
}
