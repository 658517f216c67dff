//! Copies of attachments.

use super::*;
use crate::error::{ItemError, Side};

/// Puts a signature of `subject` at the source, and returns its descriptor.
async fn signature(world: &World, subject: &Value, content: &str) -> Value {
    let config = world.blob("application/vnd.oci.empty.v1+json", "{}").await;
    let layer = world
        .blob("application/vnd.example.signature", content)
        .await;
    let subject = json!({ "mediaType": subject["mediaType"], "digest": subject["digest"], "size": subject["size"] });
    let content = json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "artifactType": "application/vnd.example.signature",
        "config": config, "layers": [layer], "subject": subject, "annotations": { "by": content },
    });
    world.manifest(content, None).await
}

fn world_of(source: MemoryStore, target: MemoryStore) -> World {
    let (source, target) = (Arc::new(source), Arc::new(target));
    let transfer = Transfer::new(source.stores(), target.stores(), crate::progress::silent());
    World {
        source,
        target,
        transfer,
    }
}

impl World {
    /// Copies a tag with its attachments.
    async fn copy_with_attachments(
        &self,
        name: &str,
        filter: &PlatformFilter,
    ) -> Result<CopiedImage, ItemError> {
        let source_tags = self
            .source
            .tags(&upstream())
            .await
            .expect("a response of the source")
            .unwrap_or_default();
        let source_tags = source_tags.into_iter().map(|listed| listed.tag).collect();
        let (from, to, tag) = (upstream(), mirror(), tag(name));
        let reference = Reference::Tag(tag.clone());
        let attachments = Attachments::Copy {
            source_tags: &source_tags,
        };
        self.transfer
            .copy(CopyRequest {
                item: name,
                from: &from,
                reference,
                to: &to,
                tag: &tag,
                expected: ExpectedTag::Absent,
                filter,
                attachments,
            })
            .await
    }

    /// Returns the referrers of a subject in the index that clients keep at the target.
    async fn client_list(&self, subject: &Value) -> Vec<Descriptor> {
        let list = self.at_target(Tag::of_referrers(&digest(subject))).await;
        list.and_then(|list| list.children().map(<[Descriptor]>::to_vec))
            .unwrap_or_default()
    }
}

#[tokio::test]
async fn signatures_of_the_image_its_children_and_signatures_are_copied() {
    for target_lists in [true, false] {
        let target = MemoryStore::default();
        let world = world_of(
            MemoryStore::default().listing_referrers(),
            if target_lists {
                target.listing_referrers()
            } else {
                target
            },
        );
        let child = world.image("linux/amd64", &["a"], None).await;
        let index = world.index(std::slice::from_ref(&child), Some("1.0")).await;
        let (of_index, of_child) = (
            signature(&world, &index, "index").await,
            signature(&world, &child, "child").await,
        );
        let of_signature = signature(&world, &of_child, "countersigned").await;
        let copied = world
            .copy_with_attachments("1.0", &PlatformFilter::All)
            .await
            .expect("a copy");
        assert_eq!(copied.attachments, 3);
        for (subject, attached) in [
            (&index, &of_index),
            (&child, &of_child),
            (&of_child, &of_signature),
        ] {
            assert!(world.at_target(digest(attached)).await.is_some());
            let listed = match world
                .target
                .referrers(&mirror(), &digest(subject))
                .await
                .expect("a response of the target")
            {
                crate::registry::Referrers::Listed(listed) => listed,
                _ => world.client_list(subject).await,
            };
            let [entry] = &listed[..] else {
                panic!("expected one attachment: {listed:?}")
            };
            assert_eq!(entry.digest, digest(attached));
            assert_eq!(
                entry.artifact_type.as_deref(),
                Some("application/vnd.example.signature")
            );
            assert!(
                entry.annotations.contains_key("by"),
                "annotations are complete"
            );
        }
        let calls = world.target.calls();
        assert_eq!(
            calls
                .iter()
                .rfind(|call| call.operation == StoreOperation::PutManifest)
                .map(|call| call.subject.as_str()),
            Some("1.0")
        );
    }
}

#[tokio::test]
async fn referrers_index_of_clients_is_read_at_the_source_and_extended_at_the_target() {
    let world = world();
    let image = world.image("linux/amd64", &["a"], Some("1.0")).await;
    let ours = signature(&world, &image, "upstream").await;
    let mut listed = ours.clone();
    listed["artifactType"] = json!("application/vnd.example.signature");
    let list = Tag::of_referrers(&digest(&image));
    world.index(&[listed], Some(list.as_str())).await;
    // The mirror has a signature of its own.
    let theirs = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [] });
    let theirs = Manifest::parse(Bytes::from(theirs.to_string()), None, Algorithm::Sha256)
        .expect("a manifest");
    world
        .target
        .put_manifest(&mirror(), &theirs.digest.clone().into(), &theirs)
        .await
        .expect("the target accepts it");
    let mut entry = json!(theirs.descriptor());
    entry["data"] = json!("e30=");
    let present = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [entry], "annotations": { "kept": "by us" } });
    let present = Manifest::parse(Bytes::from(present.to_string()), None, Algorithm::Sha256)
        .expect("a manifest");
    let sparse = world_with(SparseIndexes::Allowed);
    let world = World {
        target: sparse.target.clone(),
        transfer: Transfer::new(
            world.source.stores(),
            sparse.target.stores(),
            crate::progress::silent(),
        ),
        ..world
    };
    world
        .target
        .put_manifest(&mirror(), &Reference::Tag(list.clone()), &present)
        .await
        .expect("the target accepts it");
    assert_eq!(
        world
            .copy_with_attachments("1.0", &PlatformFilter::All)
            .await
            .expect("a copy")
            .attachments,
        1
    );
    let written = world.at_target(list.clone()).await.expect("the list");
    let written: Value = serde_json::from_slice(&written.bytes).expect("JSON");
    let mut complete = ours.clone();
    complete["artifactType"] = json!("application/vnd.example.signature");
    complete["annotations"] = json!({ "by": "upstream" });
    assert_eq!(
        written["manifests"],
        json!([entry, complete]),
        "existing entries are kept, and missing fields are added"
    );
    assert_eq!(written["annotations"], json!({ "kept": "by us" }));
    // The second copy adds no entry.
    assert_eq!(
        world
            .copy_with_attachments("1.0", &PlatformFilter::All)
            .await
            .expect("a copy")
            .attachments,
        1
    );
    assert_eq!(world.client_list(&image).await.len(), 2);
}

#[tokio::test]
async fn image_under_the_tag_of_the_referrers_index_is_kept() {
    let world = world_of(
        MemoryStore::default().listing_referrers(),
        MemoryStore::default(),
    );
    let image = world.image("linux/amd64", &["a"], Some("1.0")).await;
    let ours = signature(&world, &image, "upstream").await;
    let list = Tag::of_referrers(&digest(&image));
    let other = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "layers": [] });
    let other = Manifest::parse(Bytes::from(other.to_string()), None, Algorithm::Sha256)
        .expect("a manifest");
    world
        .target
        .put_manifest(&mirror(), &Reference::Tag(list.clone()), &other)
        .await
        .expect("the target accepts it");
    let copied = world
        .copy_with_attachments("1.0", &PlatformFilter::All)
        .await
        .expect("a copy");
    assert!(
        copied
            .warnings
            .iter()
            .any(|warning| warning.contains("the image was kept")),
        "{:?}",
        copied.warnings
    );
    assert_eq!(world.at_target(list).await, Some(other));
    assert!(world.at_target(digest(&ours)).await.is_some());
}

#[tokio::test]
async fn duplicate_referrers_are_copied_once_and_missing_ones_are_left_out() {
    let world = world_with(SparseIndexes::Allowed);
    let image = world.image("linux/amd64", &["a"], Some("1.0")).await;
    let ours = signature(&world, &image, "there").await;
    let lost = json!({ "mediaType": media_type::OCI_MANIFEST, "digest": Digest::sha256(b"deleted"), "size": 7 });
    world
        .index(
            &[lost, ours.clone(), ours.clone()],
            Some(Tag::of_referrers(&digest(&image)).as_str()),
        )
        .await;
    let copied = world
        .copy_with_attachments("1.0", &PlatformFilter::All)
        .await
        .expect("a copy");
    assert_eq!(copied.attachments, 1);
    let [warning] = &copied.warnings[..] else {
        panic!("expected one warning: {:?}", copied.warnings)
    };
    assert!(
        warning.contains(Digest::sha256(b"deleted").as_str()),
        "{warning}"
    );
    let listed: Vec<Digest> = world
        .client_list(&image)
        .await
        .into_iter()
        .map(|entry| entry.digest)
        .collect();
    assert_eq!(listed, [digest(&ours)]);
}

#[tokio::test]
async fn signature_of_an_sbom_is_copied() {
    let world = world();
    let image = world.image("linux/amd64", &["a"], Some("1.0")).await;
    let [.., sbom] = Tag::of_cosign(&digest(&image));
    let sbom = world
        .image("unknown/unknown", &["sbom"], Some(sbom.as_str()))
        .await;
    let [signature, ..] = Tag::of_cosign(&digest(&sbom));
    world
        .image("unknown/unknown", &["signature"], Some(signature.as_str()))
        .await;
    assert_eq!(
        world
            .copy_with_attachments("1.0", &PlatformFilter::All)
            .await
            .expect("a copy")
            .attachments,
        2
    );
    assert!(world.at_target(signature).await.is_some());
}

#[tokio::test]
async fn cosign_tags_of_the_image_and_its_children_are_copied() {
    let world = world();
    let child = world.image("linux/amd64", &["a"], None).await;
    let index = world.index(std::slice::from_ref(&child), Some("1.0")).await;
    let [signature, attestation, _] = Tag::of_cosign(&digest(&index));
    let [of_child, ..] = Tag::of_cosign(&digest(&child));
    let [unrelated, ..] = Tag::of_cosign(&Digest::sha256(b"other"));
    for tag in [&signature, &attestation, &of_child, &unrelated] {
        world
            .image("unknown/unknown", &[tag.as_str()], Some(tag.as_str()))
            .await;
    }
    assert_eq!(
        world
            .copy_with_attachments("1.0", &PlatformFilter::All)
            .await
            .expect("a copy")
            .attachments,
        3
    );
    for (tag, there) in [
        (signature, true),
        (attestation, true),
        (of_child, true),
        (unrelated, false),
    ] {
        assert_eq!(world.at_target(tag.clone()).await.is_some(), there, "{tag}");
    }
}

#[tokio::test]
async fn signatures_of_a_rewritten_index_are_left_out_and_those_of_its_children_copied() {
    let world = world_of(
        MemoryStore::default().listing_referrers(),
        MemoryStore::default().listing_referrers(),
    );
    let (amd64, arm64) = (
        world.image("linux/amd64", &["a"], None).await,
        world.image("linux/arm64", &["b"], None).await,
    );
    let index = world
        .index(&[amd64.clone(), arm64.clone()], Some("1.0"))
        .await;
    let (of_index, of_amd64, of_arm64) = (
        signature(&world, &index, "index").await,
        signature(&world, &amd64, "amd64").await,
        signature(&world, &arm64, "arm64").await,
    );
    let copied = world
        .copy_with_attachments("1.0", &only(&["linux/amd64"], PlatformFilterMode::Rewrite))
        .await
        .expect("a copy");
    assert_eq!(copied.attachments, 1);
    for (attached, there) in [(of_index, false), (of_amd64, true), (of_arm64, false)] {
        assert_eq!(world.at_target(digest(&attached)).await.is_some(), there);
    }
}

#[tokio::test]
async fn tag_is_not_set_if_a_signature_cannot_be_copied() {
    let world = world_of(
        MemoryStore::default().listing_referrers(),
        MemoryStore::default().listing_referrers(),
    );
    let image = world.image("linux/amd64", &["a"], Some("1.0")).await;
    signature(&world, &image, "lost").await;
    world
        .source
        .lose_blob(&upstream(), &Digest::sha256(b"lost"));
    assert_eq!(
        world
            .copy_with_attachments("1.0", &PlatformFilter::All)
            .await
            .expect_err("the copy fails")
            .side,
        Some(Side::Source)
    );
    assert_eq!(world.at_target(tag("1.0")).await, None);
}

#[tokio::test]
async fn refused_listing_of_referrers_is_a_warning_and_not_repeated() {
    for kind in [
        ItemErrorKind::Unauthorized,
        ItemErrorKind::Forbidden,
        ItemErrorKind::Unsupported,
        ItemErrorKind::Refused,
        ItemErrorKind::RateLimited,
        ItemErrorKind::ServerError,
        ItemErrorKind::Unreachable,
    ] {
        let world = world();
        for name in ["1.0", "1.1"] {
            world.image("linux/amd64", &[name], Some(name)).await;
        }
        world.source.fail_when(move |call| {
            (call.operation == StoreOperation::Referrers).then_some(StoreFault::Error(kind))
        });
        let is_definite = !matches!(
            kind,
            ItemErrorKind::RateLimited | ItemErrorKind::ServerError | ItemErrorKind::Unreachable
        );
        for (name, warnings) in [("1.0", 1), ("1.1", 0)] {
            let copied = world
                .copy_with_attachments(name, &PlatformFilter::All)
                .await;
            assert_eq!(copied.is_ok(), is_definite, "{kind:?}");
            let Ok(copied) = copied else { continue };
            assert_eq!(copied.warnings.len(), warnings, "{:?}", copied.warnings);
            assert!(world.at_target(tag(name)).await.is_some());
        }
        if is_definite {
            assert_eq!(world.source.count(StoreOperation::Referrers), 1);
        }
    }
}

#[tokio::test]
async fn refused_attachment_does_not_keep_the_image_away() {
    for kind in [
        ItemErrorKind::Refused,
        ItemErrorKind::Unsupported,
        ItemErrorKind::Forbidden,
        ItemErrorKind::ServerError,
    ] {
        let world = world_of(
            MemoryStore::default().listing_referrers(),
            MemoryStore::default().listing_referrers(),
        );
        let image = world.image("linux/amd64", &["a"], Some("1.0")).await;
        let refused = digest(&signature(&world, &image, "refused").await);
        signature(&world, &image, "accepted").await;
        let name = refused.to_string();
        world.target.fail_when(move |call| {
            let is_put = call.operation == StoreOperation::PutManifest;
            (is_put && call.subject == name).then_some(StoreFault::Error(kind))
        });
        let copied = world
            .copy_with_attachments("1.0", &PlatformFilter::All)
            .await;
        if kind == ItemErrorKind::ServerError {
            copied.expect_err("it may succeed later");
            continue;
        }
        let copied = copied.expect("a copy");
        assert_eq!(copied.attachments, 1);
        assert!(
            copied.warnings[0].starts_with(&format!(
                "target refuses the attachment {refused} (application/vnd.example.signature) of "
            )),
            "{:?}",
            copied.warnings
        );
        assert!(world.at_target(tag("1.0")).await.is_some());
    }
}

#[tokio::test]
async fn chain_of_attachments_that_is_too_long_is_an_error() {
    let world = world_of(
        MemoryStore::default().listing_referrers(),
        MemoryStore::default().listing_referrers(),
    );
    let image = world.image("linux/amd64", &["a"], Some("1.0")).await;
    let mut subject = image;
    for depth in 0..5 {
        subject = signature(&world, &subject, &format!("depth {depth}")).await;
    }
    assert_eq!(
        world
            .copy_with_attachments("1.0", &PlatformFilter::All)
            .await
            .expect("a copy")
            .attachments,
        5
    );
    for depth in 5..18 {
        subject = signature(&world, &subject, &format!("depth {depth}")).await;
    }
    let other = World {
        transfer: Transfer::new(
            world.source.stores(),
            world.target.stores(),
            crate::progress::silent(),
        ),
        ..world
    };
    let error = other
        .copy_with_attachments("1.0", &PlatformFilter::All)
        .await
        .expect_err("too deep");
    assert_eq!(error.kind, ItemErrorKind::TooDeep);
}

/// A cache that lasts as long as the test.
#[derive(Default)]
struct TestCache(std::sync::Mutex<HashMap<String, String>>);

impl DigestCache for TestCache {
    fn get(&self, key: &str) -> Option<String> {
        self.0.lock().expect("the lock").get(key).cloned()
    }

    fn put(&self, key: &str, text: &str) {
        self.0
            .lock()
            .expect("the lock")
            .insert(key.to_owned(), text.to_owned());
    }
}

impl World {
    fn with_cache(self, cache: &Arc<TestCache>) -> World {
        let world = self.later();
        World {
            transfer: world.transfer.with_cache(cache.clone()),
            ..world
        }
    }

    async fn tags_of(
        store: &MemoryStore,
        repository: &Repository,
    ) -> std::collections::BTreeSet<Tag> {
        let tags = store
            .tags(repository)
            .await
            .expect("a listing")
            .unwrap_or_default();
        tags.into_iter().map(|listed| listed.tag).collect()
    }

    /// Returns if attachments are outdated, the number of requests that the check needs besides the
    /// listings, and the number of attachments that a refresh copies.
    async fn refresh(&self, name: &str, check: AttachmentCheck) -> (bool, usize, usize) {
        let (from, to, tag) = (upstream(), mirror(), tag(name));
        let (source_tags, target_tags) = (
            World::tags_of(&self.source, &from).await,
            World::tags_of(&self.target, &to).await,
        );
        let source_tags = source_tags.into_iter().filter(Tag::is_attachment).collect();
        self.source.clear_calls();
        self.target.clear_calls();
        let request = RefreshRequest {
            item: name,
            from: &from,
            to: &to,
            tag: &tag,
            digest: None,
            source_tags: &source_tags,
            target_tags: &target_tags,
            check,
        };
        let is_outdated = self
            .transfer
            .attachment_state(&request)
            .await
            .expect("a state")
            .is_outdated;
        let cost = self.source.calls().len() + self.target.calls().len();
        let copied = if is_outdated {
            self.transfer
                .refresh_attachments(&request)
                .await
                .expect("a refresh")
                .attachments
        } else {
            0
        };
        (is_outdated, cost, copied)
    }
}

#[tokio::test]
async fn new_signature_tag_is_found_in_the_listing_and_copied_once() {
    let cache = Arc::<TestCache>::default();
    let world = world().with_cache(&cache);
    let child = world.image("linux/amd64", &["a"], None).await;
    let index = world.index(std::slice::from_ref(&child), Some("1.0")).await;
    let [unrelated, ..] = Tag::of_cosign(&Digest::sha256(b"other"));
    world
        .image("unknown/unknown", &["unrelated"], Some(unrelated.as_str()))
        .await;
    world
        .copy_with_attachments("1.0", &PlatformFilter::All)
        .await
        .expect("a copy");
    let world = world.with_cache(&cache);
    assert_eq!(
        world.refresh("1.0", AttachmentCheck::TagListings).await,
        (false, 0, 0),
        "attachments of other images need no request"
    );
    let [signature, ..] = Tag::of_cosign(&digest(&index));
    let [of_child, ..] = Tag::of_cosign(&digest(&child));
    for tag in [&signature, &of_child] {
        world
            .image("unknown/unknown", &[tag.as_str()], Some(tag.as_str()))
            .await;
    }
    assert_eq!(
        world.refresh("1.0", AttachmentCheck::TagListings).await,
        (true, 0, 2)
    );
    assert!(
        world.at_target(signature).await.is_some() && world.at_target(of_child).await.is_some()
    );
    assert_eq!(
        world.refresh("1.0", AttachmentCheck::TagListings).await,
        (false, 0, 0),
        "everything is copied"
    );
    // Without a cache, the image is read from the target once.
    let (is_outdated, cost, _) = world
        .later()
        .refresh("1.0", AttachmentCheck::TagListings)
        .await;
    assert_eq!((is_outdated, cost), (false, 1));
}

#[tokio::test]
async fn image_is_not_read_at_the_target_if_nothing_can_be_attached() {
    for lists_referrers in [false, true] {
        let source = MemoryStore::default();
        let source = if lists_referrers {
            source.listing_referrers()
        } else {
            source
        };
        let world = world_of(source, MemoryStore::default());
        let image = digest(&world.image("linux/amd64", &["a"], Some("1.0")).await);
        world
            .copy_with_attachments("1.0", &PlatformFilter::All)
            .await
            .expect("a copy");
        world.target.clear_calls();
        let none = std::collections::BTreeSet::new();
        let request = RefreshRequest {
            item: "1.0",
            from: &upstream(),
            to: &mirror(),
            tag: &tag("1.0"),
            digest: Some(&image),
            source_tags: &none,
            target_tags: &none,
            check: AttachmentCheck::Content,
        };
        let state = world.transfer.attachment_state(&request).await;
        assert!(!state.expect("a state").is_outdated);
        let reads = world.target.count(StoreOperation::Manifest);
        assert_eq!(reads, usize::from(lists_referrers), "{lists_referrers}");
    }
}

#[tokio::test]
async fn changed_signature_is_found_by_the_content_check() {
    let cache = Arc::<TestCache>::default();
    let world = world().with_cache(&cache);
    let image = world.image("linux/amd64", &["a"], Some("1.0")).await;
    let [signature, ..] = Tag::of_cosign(&digest(&image));
    world
        .image("unknown/unknown", &["first"], Some(signature.as_str()))
        .await;
    world
        .copy_with_attachments("1.0", &PlatformFilter::All)
        .await
        .expect("a copy");
    let world = world.with_cache(&cache);
    let (is_outdated, cost, _) = world.refresh("1.0", AttachmentCheck::Content).await;
    assert_eq!(
        (is_outdated, cost),
        (false, 3),
        "the referrers of the source and the digest of the signature on both sides"
    );
    let changed = world
        .image(
            "unknown/unknown",
            &["first", "second"],
            Some(signature.as_str()),
        )
        .await;
    assert!(
        !world.refresh("1.0", AttachmentCheck::TagListings).await.0,
        "listings do not show changes"
    );
    assert_eq!(world.refresh("1.0", AttachmentCheck::Content).await.2, 1);
    assert_eq!(
        world.at_target(signature).await.map(|found| found.digest),
        Some(digest(&changed))
    );
}

#[tokio::test]
async fn referrers_of_the_registry_are_found_by_the_content_check() {
    for target_lists in [true, false] {
        let target = MemoryStore::default();
        let world = world_of(
            MemoryStore::default().listing_referrers(),
            if target_lists {
                target.listing_referrers()
            } else {
                target
            },
        );
        let image = world.image("linux/amd64", &["a"], Some("1.0")).await;
        world
            .copy_with_attachments("1.0", &PlatformFilter::All)
            .await
            .expect("a copy");
        let added = signature(&world, &image, "later").await;
        assert!(!world.refresh("1.0", AttachmentCheck::TagListings).await.0);
        let (is_outdated, _, copied) = world.refresh("1.0", AttachmentCheck::Content).await;
        assert_eq!(
            (is_outdated, copied),
            (true, 1),
            "the target lists: {target_lists}"
        );
        assert!(world.at_target(digest(&added)).await.is_some());
        assert!(
            !world.refresh("1.0", AttachmentCheck::Content).await.0,
            "everything is copied"
        );
    }
}

#[tokio::test]
async fn attachments_below_nested_indexes_are_copied() {
    let world = world_of(
        MemoryStore::default().listing_referrers(),
        MemoryStore::default().listing_referrers(),
    );
    let image = world.image("linux/amd64", &["a"], None).await;
    let nested = world.index(std::slice::from_ref(&image), None).await;
    world
        .index(std::slice::from_ref(&nested), Some("1.0"))
        .await;
    let (of_nested, of_image) = (
        signature(&world, &nested, "nested").await,
        signature(&world, &image, "image").await,
    );
    assert_eq!(
        world
            .copy_with_attachments("1.0", &PlatformFilter::All)
            .await
            .expect("a copy")
            .attachments,
        2
    );
    for attached in [of_nested, of_image] {
        assert!(world.at_target(digest(&attached)).await.is_some());
    }
}

impl World {
    /// Stores a signature with these statements at the target, under `tag`.
    async fn sign_at_target(&self, tag: &Tag, statements: &[(&str, &str)]) -> Digest {
        self.sign(&self.target, &mirror(), tag, statements).await
    }

    async fn sign(
        &self,
        store: &MemoryStore,
        at: &Repository,
        tag: &Tag,
        statements: &[(&str, &str)],
    ) -> Digest {
        let mut parts = vec![("{}".to_owned(), Value::Null)];
        parts.extend(statements.iter().map(|(payload, signature)| {
            (
                (*payload).to_owned(),
                json!({ "dev.cosignproject.cosign/signature": signature }),
            )
        }));
        let mut described = Vec::new();
        for (content, annotations) in parts {
            let blob = Descriptor::new(
                "application/x",
                Digest::sha256(content.as_bytes()),
                content.len() as u64,
            );
            store
                .put_blob(at, &blob, &InMemory(Bytes::from(content)), None)
                .await
                .expect("a blob");
            let mut blob = json!(blob);
            if !annotations.is_null() {
                blob["annotations"] = annotations;
            }
            described.push(blob);
        }
        let config = described.remove(0);
        let text = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": config, "layers": described });
        let manifest = Manifest::parse(Bytes::from(text.to_string()), None, Algorithm::Sha256)
            .expect("a manifest");
        store
            .put_manifest(at, &tag.clone().into(), &manifest)
            .await
            .expect("a signature");
        manifest.digest
    }
}

#[tokio::test]
async fn signatures_made_at_the_mirror_are_never_removed() {
    let (ours, theirs, later) = (("ours", "1"), ("theirs", "1"), ("theirs", "2"));
    // Statements at the target and at the source; true if the image of the target stays; true if
    // there is a warning.
    for (at_target, at_source, stays, warns) in [
        (vec![theirs, ours], vec![theirs], true, false),
        (vec![ours, theirs, later], vec![later, theirs], true, false),
        (vec![ours], vec![theirs], true, true),
        (vec![theirs, ours], vec![theirs, later], true, true),
        // One payload with two signatures.
        (vec![theirs], vec![later], true, true),
        (vec![theirs], vec![theirs, later], false, false),
        (vec![], vec![theirs], false, false),
    ] {
        let case = format!("{at_target:?} {at_source:?}");
        let world = world();
        let image = world.image("linux/amd64", &["a"], Some("1.0")).await;
        let [signature, ..] = Tag::of_cosign(&digest(&image));
        let upstream_has = world
            .sign(&world.source, &upstream(), &signature, &at_source)
            .await;
        let target_has = world.sign_at_target(&signature, &at_target).await;
        let copied = world
            .copy_with_attachments("1.0", &PlatformFilter::All)
            .await
            .expect("a copy");
        assert_eq!(
            (copied.attachments, copied.warnings.len()),
            (usize::from(!warns), usize::from(warns)),
            "{case} {copied:?}"
        );
        for digest in [&target_has, &upstream_has] {
            assert!(
                copied
                    .warnings
                    .iter()
                    .all(|warning| warning.contains(digest.as_str())
                        && warning.contains(signature.as_str()))
            );
        }
        let expected = if stays { target_has } else { upstream_has };
        assert_eq!(
            world
                .at_target(signature.clone())
                .await
                .map(|found| found.digest),
            Some(expected.clone()),
            "{case}"
        );
        // The same if the image is up to date and only its attachments are checked.
        world.sign_at_target(&signature, &at_target).await;
        let world = world.later();
        let (is_outdated, _, copied) = world.refresh("1.0", AttachmentCheck::Content).await;
        assert_eq!(
            (is_outdated, copied),
            (!stays, usize::from(!stays)),
            "{case}"
        );
        assert_eq!(
            world.at_target(signature).await.map(|found| found.digest),
            Some(expected),
            "{case}"
        );
    }
}

#[tokio::test]
async fn forbidden_look_up_at_the_target_means_absent_unless_the_tag_is_listed() {
    for is_listed in [false, true] {
        let world = world();
        let image = world.image("linux/amd64", &["layer"], Some("1.0")).await;
        let cosign = Tag::of_cosign(&digest(&image))
            .into_iter()
            .next()
            .expect("a tag");
        world
            .image("linux/amd64", &["signature"], Some(cosign.as_str()))
            .await;
        if is_listed {
            world
                .copy_to(&mirror(), cosign.as_str(), &PlatformFilter::All)
                .await
                .expect("a copy");
        }
        world.target.fail_when(|call| {
            matches!(
                call.operation,
                StoreOperation::Manifest | StoreOperation::Resolve
            )
            .then_some(StoreFault::Error(ItemErrorKind::Forbidden))
        });
        let copied = world
            .copy_with_attachments("1.0", &PlatformFilter::All)
            .await;
        world.target.fail_when(|_| None);
        assert_eq!(copied.is_ok(), !is_listed, "{copied:?}");
        if !is_listed {
            assert!(world.at_target(cosign).await.is_some());
        }
    }
}
