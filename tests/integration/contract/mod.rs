//! What holds for every place that images live in, whatever it is made of. A new kind of place adds
//! one test to the end of this file, or calls [`holds_for`] where its server is started.

use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use imglife::error::{ItemError, ItemErrorKind};
use imglife::model::media_type;
use imglife::model::{
    Algorithm, Descriptor, Digest, Manifest, Platform, Reference, Repository, Tag,
};
use imglife::registry::layout::Layouts;
use imglife::registry::memory::{MemoryPlace, SparseIndexes};
use imglife::registry::{
    Ability, BlobPut, BlobStream, Deletion, Deletions, ImageStore, InMemory, Reopen, Swept,
};
use serde_json::{Value, json};

const ARTIFACT_CONFIG: &str = "application/vnd.oci.empty.v1+json";

/// A place under test.
pub(crate) struct Place<'a> {
    pub(crate) store: &'a dyn ImageStore,
    /// Returns a repository of this name that nothing was written to yet.
    pub(crate) fresh: &'a (dyn Fn(&str) -> Repository + Sync),
    /// Whether it takes SHA-512 digests.
    pub(crate) sha512: bool,
    /// Whether blobs of one repository can be shared with another.
    pub(crate) mounts: bool,
    /// Whether a blob that is asked for as a manifest is told as absent.
    pub(crate) tells_blobs_apart: bool,
    /// Whether a repository that does not exist is told from one without tags.
    pub(crate) tells_absence: bool,
    /// Whether a blob can be read from somewhere inside to its end.
    pub(crate) ranges: bool,
    /// Whether manifests are refused whose blobs are not there, or that are put under the digest of
    /// another.
    pub(crate) checks_manifests: bool,
    pub(crate) deletes: Deletions,
    /// Whether what a deleted manifest had in it is gone at once, and its tags with it.
    pub(crate) forgets: Forgetting,
    /// Whether it tells which repositories there are.
    pub(crate) lists_repositories: bool,
}

/// What is gone after a manifest was deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forgetting {
    Everything,
    /// Nothing as long as it has a tag; its content stays until it is swept.
    Unnamed,
    /// The manifest, by its digest only; its tags still name it.
    Digest,
}

impl<'a> Place<'a> {
    /// Returns a place that can do everything.
    pub(crate) fn new(
        store: &'a dyn ImageStore,
        fresh: &'a (dyn Fn(&str) -> Repository + Sync),
    ) -> Place<'a> {
        Place {
            store,
            fresh,
            sha512: true,
            mounts: true,
            tells_blobs_apart: true,
            tells_absence: true,
            ranges: true,
            checks_manifests: true,
            deletes: Deletions::ALL,
            forgets: Forgetting::Everything,
            lists_repositories: true,
        }
    }

    fn repository(&self, name: &str) -> Repository {
        (self.fresh)(name)
    }
}

/// Fails where the place does not keep the contract, in the case that it breaks.
pub(crate) async fn holds_for(place: &Place<'_>) {
    what_is_not_there_is_told_as_absent(place).await;
    blobs_come_back_byte_for_byte_from_any_offset(place).await;
    wrong_content_is_refused_and_not_kept(place).await;
    content_that_breaks_off_is_not_kept(place).await;
    content_whose_reader_goes_away_is_not_kept(place).await;
    the_same_blob_may_be_put_again_and_at_once(place).await;
    manifests_keep_their_exact_bytes(place).await;
    a_tag_moves_and_what_it_named_stays(place).await;
    if place.checks_manifests {
        an_image_without_its_blobs_is_refused(place).await;
        a_manifest_is_only_stored_under_its_own_digest(place).await;
    }
    if place.tells_blobs_apart {
        a_blob_is_no_manifest(place).await;
    }
    indexes_may_be_nested(place).await;
    artifacts_are_images_like_others(place).await;
    a_listing_names_each_tag_once(place).await;
    if place.sha512 {
        other_digest_algorithms_are_kept(place).await;
    }
    if place.mounts {
        a_blob_is_shared_between_repositories(place).await;
    }
    a_blob_that_cannot_be_shared_is_sent(place).await;
    what_is_deleted_is_told(place).await;
    a_tag_is_deleted_alone(place).await;
    a_manifest_is_deleted_with_its_tags_and_nothing_else(place).await;
    what_is_there_can_be_claimed(place).await;
    repositories_are_told_with_those_beside_them(place).await;
}

async fn what_is_not_there_is_told_as_absent(place: &Place<'_>) {
    let repository = place.repository("absent");
    let unknown = blob(b"never written");
    let expected = if place.tells_absence {
        None
    } else {
        Some(Vec::new())
    };
    assert_eq!(
        place.store.tags(&repository).await.expect("a listing"),
        expected
    );
    for reference in [
        Reference::Tag(tag("latest")),
        Reference::Digest(unknown.digest.clone()),
    ] {
        assert_eq!(
            place
                .store
                .resolve(&repository, &reference)
                .await
                .expect("an answer"),
            None,
            "{reference}"
        );
        assert_eq!(
            place
                .store
                .manifest(&repository, &reference)
                .await
                .expect("an answer"),
            None,
            "{reference}"
        );
    }
    assert!(
        !place
            .store
            .has_blob(&repository, &unknown)
            .await
            .expect("an answer")
    );
    let read = read(place, &repository, &unknown, 0).await;
    assert_eq!(read.map_err(|error| error.kind), Err(ItemErrorKind::Absent));

    // The same in a repository that exists.
    put_image(place, &repository, &tag("there"), b"absent").await;
    for reference in [
        Reference::Tag(tag("latest")),
        Reference::Digest(unknown.digest.clone()),
    ] {
        assert_eq!(
            place
                .store
                .resolve(&repository, &reference)
                .await
                .expect("an answer"),
            None,
            "{reference}"
        );
        assert_eq!(
            place
                .store
                .manifest(&repository, &reference)
                .await
                .expect("an answer"),
            None,
            "{reference}"
        );
    }
    assert!(
        !place
            .store
            .has_blob(&repository, &unknown)
            .await
            .expect("an answer")
    );
}

async fn blobs_come_back_byte_for_byte_from_any_offset(place: &Place<'_>) {
    let repository = place.repository("offsets");
    // Longer than a piece of any place, and of no round length.
    let long: Vec<u8> = (0..700_001_u32)
        .map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    for content in [&b""[..], b"x", &long] {
        let descriptor = put(place, &repository, content).await;
        assert!(
            place
                .store
                .has_blob(&repository, &descriptor)
                .await
                .expect("an answer")
        );
        let inside = [content.len() / 2, content.len().saturating_sub(1)];
        for offset in [0]
            .into_iter()
            .chain(inside.into_iter().filter(|_| place.ranges))
        {
            let found = read(place, &repository, &descriptor, offset as u64)
                .await
                .expect("the blob");
            assert!(
                found == content[offset..],
                "{} of {} bytes from {offset} on",
                found.len(),
                content.len()
            );
        }
    }
}

async fn wrong_content_is_refused_and_not_kept(place: &Place<'_>) {
    let repository = place.repository("wrong");
    let wanted = blob(b"the right content");
    for wrong in [
        &b"the wrong content"[..],
        b"the right conten",
        b"the right content.",
        b"",
    ] {
        let put = place
            .store
            .put_blob(&repository, &wanted, &in_memory(wrong), None)
            .await;
        assert_eq!(
            put.map_err(|error| error.kind),
            Err(ItemErrorKind::Corrupt),
            "{wrong:?}"
        );
        assert!(
            !place
                .store
                .has_blob(&repository, &wanted)
                .await
                .expect("an answer"),
            "{wrong:?}"
        );
    }
    put(place, &repository, b"the right content").await;
    assert!(
        place
            .store
            .has_blob(&repository, &wanted)
            .await
            .expect("an answer")
    );
}

async fn content_that_breaks_off_is_not_kept(place: &Place<'_>) {
    let repository = place.repository("broken");
    let content = vec![7; 300_000];
    let wanted = blob(&content);
    let put = place
        .store
        .put_blob(
            &repository,
            &wanted,
            &Breaking {
                content: Bytes::from(content.clone()),
                after: 250_000,
            },
            None,
        )
        .await;
    assert!(put.is_err());
    assert!(
        !place
            .store
            .has_blob(&repository, &wanted)
            .await
            .expect("an answer")
    );
    self::put(place, &repository, &content).await;
}

async fn content_whose_reader_goes_away_is_not_kept(place: &Place<'_>) {
    let repository = place.repository("dropped");
    let wanted = blob(b"first half, second half");
    let content = Stalling(Bytes::from_static(b"first half, "));
    let put = place.store.put_blob(&repository, &wanted, &content, None);
    assert!(
        tokio::time::timeout(Duration::from_millis(100), put)
            .await
            .is_err()
    );
    assert!(
        !place
            .store
            .has_blob(&repository, &wanted)
            .await
            .expect("an answer")
    );
    self::put(place, &repository, b"first half, second half").await;
}

async fn the_same_blob_may_be_put_again_and_at_once(place: &Place<'_>) {
    let repository = place.repository("again");
    let (one, other, third) = tokio::join!(
        put(place, &repository, b"the same"),
        put(place, &repository, b"the same"),
        put(place, &repository, b"the same"),
    );
    assert!(one == other && other == third);
    put(place, &repository, b"the same").await;
    assert_eq!(
        read(place, &repository, &one, 0).await.expect("the blob"),
        b"the same"
    );
}

async fn manifests_keep_their_exact_bytes(place: &Place<'_>) {
    let repository = place.repository("bytes");
    let (config, layer) = (
        put(place, &repository, b"{}").await,
        put(place, &repository, b"layer").await,
    );
    let written = |media_type: &str, config_type: &str, layer_type: &str| {
        let mut config = serde_json::to_value(&config).expect("JSON");
        config["mediaType"] = json!(config_type);
        let mut layer = serde_json::to_value(&layer).expect("JSON");
        layer["mediaType"] = json!(layer_type);
        // Order, blanks, a field that is unknown, a newline at the end: nothing of it may change.
        format!(
            "{{\n   \"layers\": [{layer}],\n \"config\" : {config}, \"com.example.unknown\": [1.50, null],\n\n\"mediaType\":\"{media_type}\",\"schemaVersion\": 2 }}\n"
        )
    };
    let oci = written(
        media_type::OCI_MANIFEST,
        media_type::OCI_CONFIG,
        "application/vnd.oci.image.layer.v1.tar+zstd",
    );
    let docker = written(
        media_type::DOCKER_MANIFEST,
        media_type::DOCKER_CONFIG,
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
    );
    for (name, text) in [("oci", oci), ("docker", docker)] {
        let written = parse(text.clone());
        put_manifest(place, &repository, &tag(name).into(), &written).await;
        put_manifest(place, &repository, &tag(name).into(), &written).await;
        for reference in [tag(name).into(), Reference::Digest(written.digest.clone())] {
            let found = place
                .store
                .manifest(&repository, &reference)
                .await
                .expect("an answer")
                .expect("the manifest");
            assert_eq!(found.bytes, text.as_bytes(), "{reference}");
            assert_eq!(found, written, "{reference}");
            let resolved = place
                .store
                .resolve(&repository, &reference)
                .await
                .expect("an answer")
                .expect("the manifest");
            assert_eq!(resolved.digest, written.digest, "{reference}");
        }
    }
}

async fn a_tag_moves_and_what_it_named_stays(place: &Place<'_>) {
    let repository = place.repository("moves");
    let old = put_image(place, &repository, &tag("latest"), b"old").await;
    put_image(place, &repository, &tag("other"), b"other").await;
    let new = put_image(place, &repository, &tag("latest"), b"new").await;
    assert_ne!(old.digest, new.digest);
    let found = place
        .store
        .resolve(&repository, &tag("latest").into())
        .await
        .expect("an answer");
    assert_eq!(found.map(|found| found.digest), Some(new.digest.clone()));
    let found = place
        .store
        .manifest(&repository, &old.digest.clone().into())
        .await
        .expect("an answer");
    assert_eq!(found, Some(old));
    assert_eq!(listed(place, &repository).await, ["latest", "other"]);
}

async fn an_image_without_its_blobs_is_refused(place: &Place<'_>) {
    let repository = place.repository("incomplete");
    let config = put(place, &repository, b"{}").await;
    let incomplete = image(&config, &[blob(b"a layer that was never sent")]);
    assert!(
        place
            .store
            .put_manifest(&repository, &tag("latest").into(), &incomplete)
            .await
            .is_err()
    );
    assert_eq!(
        place
            .store
            .resolve(&repository, &tag("latest").into())
            .await
            .expect("an answer"),
        None
    );
}

async fn a_manifest_is_only_stored_under_its_own_digest(place: &Place<'_>) {
    let repository = place.repository("own-digest");
    let manifest = put_image(place, &repository, &tag("latest"), b"own").await;
    let other = Digest::sha256(b"another manifest");
    assert!(
        place
            .store
            .put_manifest(&repository, &other.clone().into(), &manifest)
            .await
            .is_err()
    );
    assert_eq!(
        place
            .store
            .manifest(&repository, &other.into())
            .await
            .expect("an answer"),
        None
    );
}

async fn a_blob_is_no_manifest(place: &Place<'_>) {
    let repository = place.repository("blob-only");
    for content in [&b"no JSON"[..], b"{}"] {
        let blob = put(place, &repository, content).await;
        assert_eq!(
            place
                .store
                .manifest(&repository, &blob.digest.clone().into())
                .await
                .expect("an answer"),
            None
        );
        assert_eq!(
            place
                .store
                .resolve(&repository, &blob.digest.into())
                .await
                .expect("an answer"),
            None
        );
    }
}

async fn indexes_may_be_nested(place: &Place<'_>) {
    let repository = place.repository("nested");
    let mut children = Vec::new();
    for platform in ["linux/amd64", "linux/arm64/v8"] {
        let image = image_of(place, &repository, platform.as_bytes()).await;
        put_manifest(place, &repository, &image.digest.clone().into(), &image).await;
        let platform: Platform = platform.parse().expect("a platform");
        children.push(Descriptor {
            platform: Some(platform),
            ..image.descriptor()
        });
    }
    let inner = index(media_type::OCI_INDEX, &children);
    put_manifest(place, &repository, &inner.digest.clone().into(), &inner).await;
    let outer = index(media_type::OCI_INDEX, &[inner.descriptor()]);
    put_manifest(place, &repository, &tag("nested").into(), &outer).await;
    let list = index(media_type::DOCKER_LIST, &children);
    put_manifest(place, &repository, &tag("list").into(), &list).await;

    for (reference, written) in [
        (tag("nested").into(), &outer),
        (inner.digest.clone().into(), &inner),
        (Reference::Tag(tag("list")), &list),
    ] {
        let found = place
            .store
            .manifest(&repository, &reference)
            .await
            .expect("an answer");
        assert_eq!(found.as_ref(), Some(written), "{reference}");
    }
    for child in &children {
        let found = place
            .store
            .resolve(&repository, &child.digest.clone().into())
            .await
            .expect("an answer");
        assert_eq!(
            found.map(|found| found.digest).as_ref(),
            Some(&child.digest)
        );
    }
    // What is only reached through an index has no tag.
    assert_eq!(listed(place, &repository).await, ["list", "nested"]);
}

async fn artifacts_are_images_like_others(place: &Place<'_>) {
    let repository = place.repository("artifact");
    let config = Descriptor {
        media_type: ARTIFACT_CONFIG.to_owned(),
        ..put(place, &repository, b"{}").await
    };
    let layer = Descriptor {
        media_type: "application/vnd.example.thing".to_owned(),
        ..put(place, &repository, b"thing").await
    };
    let nothing = Descriptor {
        media_type: "application/vnd.example.nothing".to_owned(),
        ..put(place, &repository, b"").await
    };
    let text = json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "artifactType": "application/vnd.example.artifact",
        "config": config,
        "layers": [layer, layer, nothing],
        "annotations": { "org.example": "größe" },
    });
    let artifact = parse(text.to_string());
    put_manifest(place, &repository, &tag("artifact").into(), &artifact).await;
    assert_eq!(
        place
            .store
            .manifest(&repository, &tag("artifact").into())
            .await
            .expect("an answer"),
        Some(artifact)
    );
}

async fn a_listing_names_each_tag_once(place: &Place<'_>) {
    let repository = place.repository("many");
    let image = image_of(place, &repository, b"many").await;
    let tags: Vec<Tag> = (0..200).map(|number| tag(&format!("1.{number}"))).collect();
    for tag in tags.iter().chain(&tags[..3]) {
        put_manifest(place, &repository, &tag.clone().into(), &image).await;
    }
    let mut expected: Vec<String> = tags.iter().map(ToString::to_string).collect();
    expected.sort();
    assert_eq!(listed(place, &repository).await, expected);
    let seen = place
        .store
        .tags(&repository)
        .await
        .expect("a listing")
        .expect("the repository");
    assert!(seen.iter().all(|seen| {
        seen.digest
            .as_ref()
            .is_none_or(|digest| *digest == image.digest)
    }));
}

async fn other_digest_algorithms_are_kept(place: &Place<'_>) {
    let repository = place.repository("sha512");
    let sha512 = |content: &[u8]| {
        Descriptor::new(
            "x",
            Digest::of(Algorithm::Sha512, content),
            content.len() as u64,
        )
    };
    let (config, layer) = (sha512(b"{}"), sha512(b"layer"));
    for (descriptor, content) in [(&config, &b"{}"[..]), (&layer, b"layer")] {
        place
            .store
            .put_blob(&repository, descriptor, &in_memory(content), None)
            .await
            .expect("to write");
        assert_eq!(
            read(place, &repository, descriptor, 0)
                .await
                .expect("the blob"),
            content
        );
    }
    let manifest = Manifest::parse(image(&config, &[layer]).bytes, None, Algorithm::Sha512)
        .expect("a manifest");
    put_manifest(
        place,
        &repository,
        &manifest.digest.clone().into(),
        &manifest,
    )
    .await;
    let found = place
        .store
        .manifest(&repository, &manifest.digest.clone().into())
        .await
        .expect("an answer");
    assert_eq!(found, Some(manifest));
}

async fn a_blob_is_shared_between_repositories(place: &Place<'_>) {
    let (from, to) = (place.repository("mount-from"), place.repository("mount-to"));
    let shared = put(place, &from, b"shared").await;
    let put = place
        .store
        .put_blob(&to, &shared, &NeverOpened, Some(&from))
        .await
        .expect("to mount");
    assert_eq!(put, BlobPut::Mounted);
    assert!(place.store.has_blob(&to, &shared).await.expect("an answer"));
    assert_eq!(
        read(place, &to, &shared, 0).await.expect("the blob"),
        b"shared"
    );
}

async fn a_blob_that_cannot_be_shared_is_sent(place: &Place<'_>) {
    let (from, to) = (place.repository("empty-from"), place.repository("sent-to"));
    let wanted = blob(b"not over there");
    let put = place
        .store
        .put_blob(&to, &wanted, &in_memory(b"not over there"), Some(&from))
        .await
        .expect("to write");
    assert_eq!(put, BlobPut::Uploaded);
    assert!(place.store.has_blob(&to, &wanted).await.expect("an answer"));
}

async fn what_is_deleted_is_told(place: &Place<'_>) {
    let repository = place.repository("abilities");
    put_image(place, &repository, &tag("1"), b"abilities").await;
    for _ in 0..2 {
        assert_eq!(
            place.store.deletions(&repository).await.expect("an answer"),
            place.deletes
        );
    }
    assert_eq!(listed(place, &repository).await, ["1"]);
}

async fn a_tag_is_deleted_alone(place: &Place<'_>) {
    let repository = place.repository("untagged");
    let image = put_image(place, &repository, &tag("1.0"), b"untagged").await;
    put_manifest(place, &repository, &tag("latest").into(), &image).await;
    put_image(place, &repository, &tag("2.0"), b"another").await;
    let delete = async |name: &str| {
        place
            .store
            .delete_tag(&repository, &tag(name))
            .await
            .expect("an answer")
    };
    if place.deletes.tags == Ability::Missing {
        assert_eq!(
            (delete("1.0").await, delete("never-there").await),
            (Deletion::Unsupported, Deletion::Unsupported)
        );
        assert_eq!(listed(place, &repository).await, ["1.0", "2.0", "latest"]);
        return;
    }
    assert_eq!(delete("1.0").await, Deletion::Done);
    assert_eq!(listed(place, &repository).await, ["2.0", "latest"]);
    assert_eq!(
        place
            .store
            .resolve(&repository, &tag("1.0").into())
            .await
            .expect("an answer"),
        None
    );
    for reference in [
        tag("latest").into(),
        Reference::Digest(image.digest.clone()),
    ] {
        assert_eq!(
            place
                .store
                .manifest(&repository, &reference)
                .await
                .expect("an answer")
                .as_ref(),
            Some(&image),
            "{reference}"
        );
    }
    assert_eq!(
        (delete("1.0").await, delete("never-there").await),
        (Deletion::WasAbsent, Deletion::WasAbsent)
    );
    put_manifest(place, &repository, &tag("1.0").into(), &image).await;
    assert_eq!(listed(place, &repository).await, ["1.0", "2.0", "latest"]);
}

async fn a_manifest_is_deleted_with_its_tags_and_nothing_else(place: &Place<'_>) {
    let repository = place.repository("deleted");
    let child = image_of(place, &repository, b"child").await;
    put_manifest(place, &repository, &child.digest.clone().into(), &child).await;
    let index = index(media_type::OCI_INDEX, &[child.descriptor()]);
    for name in ["1.0", "latest"] {
        put_manifest(place, &repository, &tag(name).into(), &index).await;
    }
    let other = put_image(place, &repository, &tag("2.0"), b"other").await;
    let delete = async || {
        place
            .store
            .delete_manifest(&repository, &index.digest)
            .await
            .expect("an answer")
    };
    if place.deletes.manifests == Ability::Missing {
        assert_eq!(
            (delete().await, delete().await),
            (Deletion::Unsupported, Deletion::Unsupported)
        );
        assert_eq!(listed(place, &repository).await, ["1.0", "2.0", "latest"]);
        return;
    }
    let is_named = place.forgets == Forgetting::Unnamed;
    assert_eq!(
        delete().await,
        if is_named {
            Deletion::StillNamed
        } else {
            Deletion::Done
        }
    );
    let by_digest = place
        .store
        .resolve(&repository, &index.digest.clone().into())
        .await
        .expect("an answer");
    assert_eq!(by_digest.is_some(), is_named);
    match place.forgets {
        Forgetting::Everything => assert_eq!(listed(place, &repository).await, ["2.0"]),
        Forgetting::Digest | Forgetting::Unnamed => {
            assert_eq!(listed(place, &repository).await, ["1.0", "2.0", "latest"]);
        }
    }
    for kept in [&child, &other] {
        let found = place
            .store
            .manifest(&repository, &kept.digest.clone().into())
            .await
            .expect("an answer");
        assert_eq!(found.as_ref(), Some(kept));
    }
    assert_eq!(
        delete().await,
        if is_named {
            Deletion::StillNamed
        } else {
            Deletion::WasAbsent
        }
    );
    // What is left goes on as before.
    match place
        .store
        .sweep(&repository, &BTreeSet::new())
        .await
        .expect("an answer")
    {
        Swept::ByItself | Swept::Freed { files: 0, .. } => {}
        swept => panic!("everything is young: {swept:?}"),
    }
    put_manifest(place, &repository, &tag("3.0").into(), &index).await;
    let found = place
        .store
        .resolve(&repository, &tag("3.0").into())
        .await
        .expect("an answer");
    assert_eq!(found.map(|found| found.digest), Some(index.digest.clone()));
}

async fn what_is_there_can_be_claimed(place: &Place<'_>) {
    let repository = place.repository("claimed");
    let image = put_image(place, &repository, &tag("1"), b"claimed").await;
    let (there, absent) = (blob(b"claimed"), blob(b"never written"));
    assert!(
        place
            .store
            .claim_blob(&repository, &there)
            .await
            .expect("an answer")
    );
    assert!(
        !place
            .store
            .claim_blob(&repository, &absent)
            .await
            .expect("an answer")
    );
    assert!(
        place
            .store
            .claim_manifest(&repository, &image.digest)
            .await
            .expect("an answer")
    );
    assert!(
        !place
            .store
            .claim_manifest(&repository, &absent.digest)
            .await
            .expect("an answer")
    );
}

async fn repositories_are_told_with_those_beside_them(place: &Place<'_>) {
    let [one, deep, elsewhere] =
        ["beside/one", "beside/a/deep-one", "not-beside/one"].map(|name| place.repository(name));
    for repository in [&one, &deep, &elsewhere] {
        put_image(place, repository, &tag("1"), b"beside").await;
    }
    let mut told = place
        .store
        .repositories_beside(&one)
        .await
        .expect("an answer");
    if let Some(told) = &mut told {
        told.sort();
    }
    assert_eq!(told, place.lists_repositories.then(|| vec![deep, one]));
}

fn tag(text: &str) -> Tag {
    text.parse().expect("a tag")
}

fn blob(content: &[u8]) -> Descriptor {
    Descriptor::new(
        media_type::OCI_LAYER_GZIP,
        Digest::sha256(content),
        content.len() as u64,
    )
}

fn in_memory(content: &[u8]) -> InMemory {
    InMemory(Bytes::copy_from_slice(content))
}

fn parse(text: impl Into<Bytes>) -> Manifest {
    Manifest::parse(text.into(), None, Algorithm::Sha256).expect("a manifest")
}

fn image(config: &Descriptor, layers: &[Descriptor]) -> Manifest {
    let mut config: Value = serde_json::to_value(config).expect("JSON");
    config["mediaType"] = json!(media_type::OCI_CONFIG);
    parse(json!({ "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": config, "layers": layers }).to_string())
}

fn index(media_type: &str, children: &[Descriptor]) -> Manifest {
    parse(json!({ "schemaVersion": 2, "mediaType": media_type, "manifests": children }).to_string())
}

async fn put(place: &Place<'_>, repository: &Repository, content: &[u8]) -> Descriptor {
    let descriptor = blob(content);
    place
        .store
        .put_blob(repository, &descriptor, &in_memory(content), None)
        .await
        .expect("to write the blob");
    descriptor
}

async fn put_manifest(
    place: &Place<'_>,
    repository: &Repository,
    reference: &Reference,
    manifest: &Manifest,
) {
    place
        .store
        .put_manifest(repository, reference, manifest)
        .await
        .expect("to write the manifest");
}

/// Returns an image whose blobs are at the place, and which is not there itself.
async fn image_of(place: &Place<'_>, repository: &Repository, content: &[u8]) -> Manifest {
    let config = put(place, repository, b"{}").await;
    let layer = put(place, repository, content).await;
    image(&config, &[layer])
}

async fn put_image(
    place: &Place<'_>,
    repository: &Repository,
    tag: &Tag,
    content: &[u8],
) -> Manifest {
    let image = image_of(place, repository, content).await;
    put_manifest(place, repository, &tag.clone().into(), &image).await;
    image
}

async fn read(
    place: &Place<'_>,
    repository: &Repository,
    descriptor: &Descriptor,
    offset: u64,
) -> Result<Vec<u8>, ItemError> {
    let pieces: Vec<Bytes> = place
        .store
        .blob(repository, descriptor, offset)
        .await?
        .try_collect()
        .await?;
    Ok(pieces.concat())
}

async fn listed(place: &Place<'_>, repository: &Repository) -> Vec<String> {
    let seen = place
        .store
        .tags(repository)
        .await
        .expect("a listing")
        .expect("the repository");
    let mut tags: Vec<String> = seen.into_iter().map(|seen| seen.tag.to_string()).collect();
    tags.sort();
    tags
}

/// Content whose stream ends in an error, however often it is opened.
struct Breaking {
    content: Bytes,
    after: usize,
}

#[async_trait::async_trait]
impl Reopen for Breaking {
    async fn open(&self, from_offset: u64) -> Result<BlobStream, ItemError> {
        let start = usize::try_from(from_offset)
            .expect("an offset")
            .min(self.after);
        let broken = ItemError::new(
            "source",
            "read",
            ItemErrorKind::Unreachable,
            "the connection broke",
        );
        Ok(stream::iter([Ok(self.content.slice(start..self.after)), Err(broken)]).boxed())
    }
}

/// Content that stops coming.
struct Stalling(Bytes);

#[async_trait::async_trait]
impl Reopen for Stalling {
    async fn open(&self, _: u64) -> Result<BlobStream, ItemError> {
        Ok(stream::iter([Ok(self.0.clone())])
            .chain(stream::pending())
            .boxed())
    }
}

/// Content that must not be needed.
struct NeverOpened;

#[async_trait::async_trait]
impl Reopen for NeverOpened {
    async fn open(&self, _: u64) -> Result<BlobStream, ItemError> {
        Err(ItemError::new(
            "source",
            "read",
            ItemErrorKind::Refused,
            "the content was asked for",
        ))
    }
}

/// Runs the suite as the tests of the places without a server do.
fn run(suite: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(suite);
}

#[test]
fn the_contract_holds_in_memory() {
    for sparse_indexes in [SparseIndexes::Refused, SparseIndexes::Allowed] {
        let store = MemoryPlace::new(sparse_indexes);
        run(holds_for(&Place::new(&store, &|name| {
            format!("registry/{name}").parse().expect("a repository")
        })));
    }
    for (tags, manifests) in [
        (Ability::Missing, Ability::Present),
        (Ability::Present, Ability::Missing),
    ] {
        let deletes = Deletions { tags, manifests };
        let store = MemoryPlace::default().deleting(deletes);
        let fresh = |name: &str| format!("registry/{name}").parse().expect("a repository");
        run(holds_for(&Place {
            deletes,
            ..Place::new(&store, &fresh)
        }));
    }
}

#[test]
fn the_contract_holds_for_layouts() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = Layouts::default();
    let fresh = |name: &str| Repository::Layout {
        directory: directory.path().join(name),
    };
    let place = Place::new(&store, &fresh);
    run(holds_for(&Place {
        forgets: Forgetting::Unnamed,
        ..place
    }));
}
