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
            sample.image("sbom", json!({})).await,
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
