use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::*;
use crate::model::Algorithm;
use crate::registry::memory::{Fault, MemoryPlace, Operation, SparseIndexes};
use crate::registry::{InMemory, PlaceErrorKind};

/// Two places in memory and a transfer between them.
struct World {
    source: Arc<MemoryPlace>,
    target: Arc<MemoryPlace>,
    transfer: Transfer,
}

fn world() -> World {
    world_with(SparseIndexes::Refused)
}

fn world_with(sparse_indexes: SparseIndexes) -> World {
    let (source, target) = (Arc::new(MemoryPlace::new(SparseIndexes::Allowed)), Arc::new(MemoryPlace::new(sparse_indexes)));
    let transfer = Transfer::new(source.clone(), target.clone(), crate::progress::silent());
    World { source, target, transfer }
}

fn repository(text: &str) -> Repository {
    text.parse().expect("a repository")
}

fn upstream() -> Repository {
    repository("docker.io/library/app")
}

fn mirror() -> Repository {
    repository("registry.example.com/mirrors/app")
}

fn tag(text: &str) -> Tag {
    text.parse().expect("a tag")
}

fn only(platforms: &[&str], mode: PlatformFilterMode) -> PlatformFilter {
    PlatformFilter::Only { platforms: platforms.iter().map(|text| text.parse().expect("a platform")).collect(), mode }
}

impl World {
    /// Puts a blob at the source and returns its descriptor.
    async fn blob(&self, media_type: &str, content: &str) -> Value {
        let bytes = Bytes::copy_from_slice(content.as_bytes());
        let descriptor = Descriptor::new(media_type, Digest::sha256(&bytes), bytes.len() as u64);
        self.source.put_blob(&upstream(), &descriptor, &InMemory(bytes), None).await.expect("the source takes the blob");
        serde_json::to_value(descriptor).expect("a descriptor")
    }

    /// Puts a manifest at the source, by digest and under `name` when there is one, and returns its descriptor.
    async fn manifest(&self, content: Value, name: Option<&str>) -> Value {
        let manifest = Manifest::parse(Bytes::from(content.to_string()), None, Algorithm::Sha256).expect("a manifest");
        let reference = name.map_or_else(|| Reference::Digest(manifest.digest.clone()), |name| Reference::Tag(tag(name)));
        self.source.put_manifest(&upstream(), &reference, &manifest).await.expect("the source takes the manifest");
        serde_json::to_value(manifest.descriptor()).expect("a descriptor")
    }

    /// Puts an image of a platform at the source.
    async fn image(&self, platform: &str, layers: &[&str], name: Option<&str>) -> Value {
        let parsed: crate::model::Platform = platform.parse().expect("a platform");
        let config = self.blob(media_type::OCI_CONFIG, &serde_json::to_string(&parsed).expect("a configuration")).await;
        let mut described = Vec::new();
        for layer in layers {
            described.push(self.blob(media_type::OCI_LAYER_GZIP, layer).await);
        }
        let content = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": config, "layers": described });
        let mut descriptor = self.manifest(content, name).await;
        descriptor["platform"] = serde_json::to_value(parsed).expect("a platform");
        descriptor
    }

    async fn attestation(&self, of: &Value) -> Value {
        let mut descriptor = self.image("unknown/unknown", &["statement"], None).await;
        descriptor["annotations"] = json!({
            "vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": of["digest"],
        });
        descriptor
    }

    async fn index(&self, children: &[Value], name: Option<&str>) -> Value {
        self.manifest(json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": children }), name).await
    }

    async fn copy(&self, name: &str, filter: &PlatformFilter) -> Result<Copied, CopyError> {
        self.copy_to(&mirror(), name, filter).await
    }

    async fn copy_to(&self, to: &Repository, name: &str, filter: &PlatformFilter) -> Result<Copied, CopyError> {
        let (from, tag) = (upstream(), tag(name));
        let reference = Reference::Tag(tag.clone());
        self.transfer
            .copy(CopyRequest { item: name, from: &from, reference, to, tag: &tag, filter, attachments: Attachments::LeftOut })
            .await
    }

    async fn at_target(&self, reference: impl Into<Reference>) -> Option<Manifest> {
        self.target.manifest(&mirror(), &reference.into()).await.expect("the target answers")
    }

    /// Returns how often each blob was read from the source.
    fn reads(&self) -> HashMap<String, usize> {
        let mut reads = HashMap::new();
        for call in self.source.calls().into_iter().filter(|call| call.operation == Operation::Blob) {
            *reads.entry(call.subject).or_default() += 1;
        }
        reads
    }
}

fn digest(descriptor: &Value) -> Digest {
    descriptor["digest"].as_str().expect("a digest").parse().expect("a digest")
}

#[tokio::test]
async fn an_image_arrives_bit_for_bit_parts_first_and_tag_last() {
    let world = world();
    let (amd64, arm64) =
        (world.image("linux/amd64", &["base", "a"], None).await, world.image("linux/arm64", &["base-arm", "b", "b"], None).await);
    let attestation = world.attestation(&amd64).await;
    let index = world.index(&[amd64, arm64, attestation], Some("1.0")).await;
    let copied = world.copy("1.0", &PlatformFilter::All).await.expect("a copy");
    assert_eq!((&copied.digest, &copied.source_digest), (&digest(&index), &digest(&index)));
    let (source, target) = (world.source.manifest(&upstream(), &tag("1.0").into()).await, world.at_target(tag("1.0")).await);
    assert_eq!(source.expect("the source answers"), target);
    // The place in memory is strict: it refuses what refers to something missing. Beyond that, the tag comes last.
    let calls = world.target.calls();
    let tagged: Vec<usize> = calls.iter().enumerate().filter(|(_, call)| call.subject == "1.0").map(|(at, _)| at).collect();
    assert_eq!(calls[*tagged.first().expect("the tag was written")].operation, Operation::PutManifest);
    assert!(calls[tagged[0]..].iter().all(|call| !matches!(call.operation, Operation::PutBlob)));
}

#[tokio::test]
async fn each_blob_crosses_the_wire_once_in_a_run_however_many_images_need_it() {
    let world = world();
    let filter = PlatformFilter::All;
    let mut names = Vec::new();
    for version in 0..6 {
        let own = format!("layer of {version}");
        let image = world.image("linux/amd64", &["base", "tools", &own], None).await;
        names.push(format!("1.{version}"));
        world.index(&[image], names.last().map(String::as_str)).await;
    }
    let mirrors: Vec<Repository> = (0..3).map(|number| repository(&format!("registry.example.com/team{number}/app"))).collect();
    let copies = mirrors.iter().flat_map(|to| names.iter().map(|name| world.copy_to(to, name, &filter)).collect::<Vec<_>>());
    let copied: Vec<Copied> = join_all(copies).await.into_iter().map(|copied| copied.expect("a copy")).collect();
    assert!(world.reads().values().all(|&reads| reads == 1), "{:?}", world.reads());
    let mounts = world.target.calls().into_iter().filter(|call| call.mount_from.is_some()).count();
    assert!(mounts > 0);
    let unique: u64 = copied.iter().map(|copied| copied.tally.moved).sum();
    let sizes = "base".len() + "tools".len() + 6 * "layer of 0".len() + r#"{"os":"linux","architecture":"amd64"}"#.len();
    assert_eq!(unique, sizes as u64);
    assert!(copied.iter().any(|copied| copied.tally.mounted > 0) && copied.iter().any(|copied| copied.tally.skipped > 0));
}

#[tokio::test]
async fn nothing_is_looked_for_in_a_repository_that_does_not_exist() {
    let world = world();
    let image = world.image("linux/amd64", &["base"], None).await;
    world.index(&[image], Some("1.0")).await;
    world.transfer.note_absent_target(&mirror());
    world.copy("1.0", &PlatformFilter::All).await.expect("a copy");
    assert_eq!((world.target.count(Operation::HasBlob), world.target.count(Operation::Resolve)), (0, 0));
}

#[tokio::test]
async fn a_second_tag_of_the_same_image_costs_two_requests() {
    let world = world();
    let image = world.image("linux/amd64", &["base"], None).await;
    world.index(std::slice::from_ref(&image), Some("1.0")).await;
    world.index(&[image], Some("latest")).await;
    world.copy("1.0", &PlatformFilter::All).await.expect("a copy");
    world.source.clear_calls();
    world.target.clear_calls();
    let copied = world.copy("latest", &PlatformFilter::All).await.expect("a copy");
    assert_eq!((world.source.calls().len(), world.target.calls().len()), (1, 1));
    assert_eq!(copied.tally, Tally::default());
}

#[tokio::test]
async fn what_is_at_the_target_is_not_read_again() {
    let world = world();
    let shared = world.image("linux/amd64", &["base"], None).await;
    world.index(std::slice::from_ref(&shared), Some("1.0")).await;
    world.copy("1.0", &PlatformFilter::All).await.expect("a copy");
    world.source.clear_calls();
    // A later run, which remembers nothing.
    let later = World { transfer: Transfer::new(world.source.clone(), world.target.clone(), crate::progress::silent()), ..world };
    let new = later.image("linux/arm64", &["base", "more"], None).await;
    later.index(&[shared, new], Some("1.1")).await;
    later.source.clear_calls();
    later.copy("1.1", &PlatformFilter::All).await.expect("a copy");
    let read: Vec<String> = later.reads().into_keys().collect();
    assert_eq!(read.len(), 2, "the new configuration and the new layer: {read:?}");
}

#[tokio::test]
async fn a_failed_copy_names_its_side_and_leaves_the_tag_alone() {
    let cases: [(Operation, PlaceErrorKind, Side, bool); 6] = [
        (Operation::Blob, PlaceErrorKind::Unreachable, Side::Source, true),
        (Operation::Manifest, PlaceErrorKind::Forbidden, Side::Source, true),
        (Operation::PutBlob, PlaceErrorKind::Refused, Side::Target, false),
        (Operation::PutBlob, PlaceErrorKind::Corrupt, Side::Target, false),
        (Operation::PutManifest, PlaceErrorKind::ServerError, Side::Target, false),
        (Operation::HasBlob, PlaceErrorKind::Unauthorized, Side::Target, false),
    ];
    for (operation, kind, side, at_source) in cases {
        let world = world();
        let image = world.image("linux/amd64", &["base"], None).await;
        world.index(&[image], Some("1.0")).await;
        let place = if at_source { &world.source } else { &world.target };
        place.fail_when(move |call| (call.operation == operation).then_some(Fault::Error(kind)));
        let error = world.copy("1.0", &PlatformFilter::All).await.expect_err("the copy fails");
        assert_eq!(error.side(), side, "{operation:?}");
        assert!(matches!(&error, CopyError::Place { error, .. } if error.kind == kind), "{operation:?}: {error:?}");
        place.fail_when(|_| None);
        assert_eq!(world.at_target(tag("1.0")).await, None, "{operation:?}");
    }
}

#[tokio::test]
async fn content_that_breaks_off_or_lies_is_the_sources_fault() {
    let world = world();
    let image = world.image("linux/amd64", &["a layer of some length"], None).await;
    world.index(&[image], Some("1.0")).await;
    world.source.fail_when(|call| (call.operation == Operation::Blob).then_some(Fault::BreakAfter(4)));
    let error = world.copy("1.0", &PlatformFilter::All).await.expect_err("the copy fails");
    assert_eq!(error.side(), Side::Source);
    assert_eq!(world.at_target(tag("1.0")).await, None);
}

#[tokio::test]
async fn a_copy_that_fails_does_not_take_others_with_it() {
    let world = world();
    let good = world.image("linux/amd64", &["shared"], None).await;
    world.index(&[good], Some("good")).await;
    let bad = world.image("linux/arm64", &["shared", "lost"], None).await;
    let lost = Digest::sha256(b"lost");
    world.source.lose_blob(&upstream(), &lost);
    world.index(&[bad], Some("bad")).await;
    let filter = PlatformFilter::All;
    let results = join_all([world.copy("bad", &filter), world.copy("good", &filter), world.copy("bad", &filter)]).await;
    let outcomes: Vec<bool> = results.iter().map(Result::is_ok).collect();
    assert_eq!(outcomes, [false, true, false]);
    assert!(matches!(&results[0], Err(CopyError::Place { side: Side::Source, error }) if error.kind == PlaceErrorKind::Absent));
    assert!(world.at_target(tag("good")).await.is_some());
}

#[tokio::test]
async fn only_wanted_platforms_and_their_attestations_are_kept_the_same_way_each_time() {
    let world = world();
    let (amd64, arm64, s390x) = (
        world.image("linux/amd64", &["a"], None).await,
        world.image("linux/arm64/v8", &["b"], None).await,
        world.image("linux/s390x", &["c"], None).await,
    );
    let (of_amd64, of_s390x) = (world.attestation(&amd64).await, world.attestation(&s390x).await);
    world.index(&[s390x.clone(), amd64.clone(), of_s390x.clone(), arm64.clone(), of_amd64.clone()], Some("1.0")).await;
    let filter = only(&["linux/amd64", "linux/arm64", "linux/riscv64"], PlatformFilterMode::Rewrite);
    let copied = world.copy("1.0", &filter).await.expect("a copy");
    assert_eq!(copied.warnings, ["platform linux/riscv64 is missing upstream"]);
    assert_ne!(copied.digest, copied.source_digest);
    let kept = world.at_target(tag("1.0")).await.expect("the tag");
    let children: Vec<Digest> = kept.children().expect("an index").iter().map(|child| child.digest.clone()).collect();
    assert_eq!(children, [digest(&amd64), digest(&arm64), digest(&of_amd64)]);
    assert_eq!(world.at_target(digest(&s390x)).await, None);
    let expected = world.transfer.expected_digest(&upstream(), &copied.source_digest, &filter).await.expect("a digest");
    assert_eq!(expected, copied.digest);
}

#[tokio::test]
async fn an_index_of_which_everything_is_kept_keeps_its_bytes() {
    let world = world();
    let amd64 = world.image("linux/amd64", &["a"], None).await;
    world.index(&[amd64], Some("1.0")).await;
    let copied = world.copy("1.0", &only(&["linux/amd64"], PlatformFilterMode::Rewrite)).await.expect("a copy");
    assert_eq!(copied.digest, copied.source_digest);
}

#[tokio::test]
async fn without_any_wanted_platform_the_copy_fails_and_says_what_there_is() {
    let world = world();
    let (amd64, windows) = (world.image("linux/amd64", &["a"], None).await, world.image("windows/amd64", &["b"], None).await);
    world.index(&[amd64, windows], Some("1.0")).await;
    world.image("linux/amd64", &["a"], Some("single")).await;
    for name in ["1.0", "single"] {
        let error = world.copy(name, &only(&["linux/s390x"], PlatformFilterMode::Rewrite)).await.expect_err("nothing is wanted");
        assert!(error.to_string().starts_with("source has none of the platforms linux/s390x; it has linux/amd64"), "{error}");
        assert_eq!(world.at_target(tag(name)).await, None);
    }
}

#[tokio::test]
async fn a_single_image_is_copied_when_its_configuration_matches() {
    let world = world();
    world.image("linux/arm64/v8", &["a"], Some("single")).await;
    let copied = world.copy("single", &only(&["linux/arm64"], PlatformFilterMode::Rewrite)).await.expect("a copy");
    assert_eq!(copied.digest, copied.source_digest);
}

#[tokio::test]
async fn an_artifact_without_a_platform_is_for_all_platforms() {
    let world = world();
    let config = world.blob("application/vnd.example.chart.config", "{}").await;
    let chart = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "artifactType": "application/vnd.example.chart", "config": config, "layers": [] });
    let chart = world.manifest(chart, Some("chart")).await;
    let filter = only(&["linux/amd64"], PlatformFilterMode::Rewrite);
    world.copy("chart", &filter).await.expect("a copy");
    // Within an index it stays beside the kept platforms.
    let (amd64, arm64) = (world.image("linux/amd64", &["a"], None).await, world.image("linux/arm64", &["b"], None).await);
    world.index(&[chart.clone(), amd64.clone(), arm64], Some("mixed")).await;
    world.copy("mixed", &filter).await.expect("a copy");
    let kept = world.at_target(tag("mixed")).await.expect("the tag");
    let children: Vec<Digest> = kept.children().expect("an index").iter().map(|child| child.digest.clone()).collect();
    assert_eq!(children, [digest(&chart), digest(&amd64)]);
}

#[tokio::test]
async fn platforms_are_found_inside_entries_that_do_not_tell_them() {
    let world = world();
    let (mut amd64, mut arm64) = (world.image("linux/amd64", &["a"], None).await, world.image("linux/arm64", &["b"], None).await);
    for entry in [&mut amd64, &mut arm64] {
        entry.as_object_mut().expect("a descriptor").remove("platform");
    }
    let nested = world.index(&[amd64.clone(), arm64.clone()], None).await;
    let dropped = world.index(std::slice::from_ref(&arm64), None).await;
    world.index(&[nested, dropped, arm64], Some("nested")).await;
    let filter = only(&["linux/amd64"], PlatformFilterMode::Rewrite);
    let copied = world.copy("nested", &filter).await.expect("a copy");
    let outer = world.at_target(copied.digest).await.expect("the outer index");
    let [inner] = outer.children().expect("an index") else { panic!("one entry is left: {outer:?}") };
    let inner = world.at_target(inner.digest.clone()).await.expect("the inner index");
    let children: Vec<Digest> = inner.children().expect("an index").iter().map(|child| child.digest.clone()).collect();
    assert_eq!(children, [digest(&amd64)]);
}

#[tokio::test]
async fn a_sparse_index_keeps_its_bytes_and_takes_another_platform_later() {
    let world = world_with(SparseIndexes::Allowed);
    let (amd64, arm64) = (world.image("linux/amd64", &["a"], None).await, world.image("linux/arm64", &["b"], None).await);
    let nested = world.index(std::slice::from_ref(&arm64), None).await;
    world.index(&[amd64.clone(), nested], Some("1.0")).await;
    let copied = world.copy("1.0", &only(&["linux/amd64"], PlatformFilterMode::Sparse)).await.expect("a copy");
    assert_eq!(copied.digest, copied.source_digest);
    assert!(world.at_target(digest(&amd64)).await.is_some() && world.at_target(digest(&arm64)).await.is_none());
    world.copy("1.0", &only(&["linux/amd64", "linux/arm64"], PlatformFilterMode::Sparse)).await.expect("a copy");
    assert!(world.at_target(digest(&arm64)).await.is_some(), "the platform that was added is there");
}

#[tokio::test]
async fn a_foreign_layer_is_copied_when_it_is_there_and_else_left_out_with_a_warning() {
    let world = world();
    let config = world.blob(media_type::OCI_CONFIG, "{}").await;
    let mut foreign = world.blob("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "windows").await;
    foreign["urls"] = json!(["https://example.com/windows"]);
    let image = json!({ "schemaVersion": 2, "mediaType": media_type::DOCKER_MANIFEST, "config": config, "layers": [foreign] });
    world.manifest(image, Some("1.0")).await;
    let blob = Digest::sha256(b"windows");
    assert_eq!(world.copy("1.0", &PlatformFilter::All).await.expect("a copy").warnings, [""; 0]);
    assert!(world.target.has_blob(&mirror(), &Descriptor::new("x", blob.clone(), 7)).await.expect("the target answers"));

    world.source.lose_blob(&upstream(), &blob);
    let elsewhere = repository("other.example.com/app");
    let copied = world.copy_to(&elsewhere, "1.0", &PlatformFilter::All).await.expect("a copy");
    assert_eq!(copied.warnings, [format!("foreign layer {} is not at the source; its descriptor was kept", blob.short())]);
    assert!(world.target.manifest(&elsewhere, &tag("1.0").into()).await.expect("the target answers").is_some());
}

#[tokio::test]
async fn a_plain_blob_in_an_index_is_copied_as_one() {
    let world = world_with(SparseIndexes::Allowed);
    let cache = world.blob("application/vnd.buildkit.cacheconfig.v0", "cache").await;
    let layer = world.blob(media_type::OCI_LAYER_GZIP, "layer").await;
    world.index(&[cache, layer], Some("cache")).await;
    world.copy("cache", &PlatformFilter::All).await.expect("a copy");
    for content in ["cache", "layer"] {
        let blob = Descriptor::new("x", Digest::sha256(content.as_bytes()), content.len() as u64);
        assert!(world.target.has_blob(&mirror(), &blob).await.expect("the target answers"), "{content}");
    }
}

#[tokio::test]
async fn indexes_nested_too_deep_are_refused_with_and_without_a_filter() {
    let world = world();
    let mut inner = world.image("linux/amd64", &["a"], None).await;
    inner.as_object_mut().expect("a descriptor").remove("platform");
    for depth in 0..5 {
        let name = format!("depth-{}", depth + 1);
        inner = world.index(&[inner], Some(&name)).await;
    }
    for filter in [PlatformFilter::All, only(&["linux/amd64"], PlatformFilterMode::Rewrite)] {
        assert!(matches!(world.copy("depth-5", &filter).await, Err(CopyError::TooDeep { .. })), "{filter:?}");
    }
    for filter in [PlatformFilter::All, only(&["linux/amd64"], PlatformFilterMode::Rewrite)] {
        world.copy("depth-4", &filter).await.expect("four levels are copied");
    }
}

#[tokio::test]
async fn a_source_that_lacks_a_child_is_told_as_incomplete() {
    let world = world();
    let absent = json!({ "mediaType": media_type::OCI_MANIFEST, "digest": Digest::sha256(b"absent"), "size": 6 });
    world.index(&[absent], Some("1.0")).await;
    assert!(matches!(world.copy("1.0", &PlatformFilter::All).await, Err(CopyError::ChildMissing { .. })));
    assert!(matches!(world.copy("2.0", &PlatformFilter::All).await, Err(CopyError::Absent { side: Side::Source, .. })));
}

/// Puts a signature of `subject` at the source, and returns its descriptor.
async fn signature(world: &World, subject: &Value, content: &str) -> Value {
    let config = world.blob("application/vnd.oci.empty.v1+json", "{}").await;
    let layer = world.blob("application/vnd.example.signature", content).await;
    let subject = json!({ "mediaType": subject["mediaType"], "digest": subject["digest"], "size": subject["size"] });
    let content = json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "artifactType": "application/vnd.example.signature",
        "config": config, "layers": [layer], "subject": subject, "annotations": { "by": content },
    });
    world.manifest(content, None).await
}

fn with_places(source: MemoryPlace, target: MemoryPlace) -> World {
    let (source, target) = (Arc::new(source), Arc::new(target));
    let transfer = Transfer::new(source.clone(), target.clone(), crate::progress::silent());
    World { source, target, transfer }
}

impl World {
    /// Copies a tag with everything attached to it.
    async fn copy_whole(&self, name: &str, filter: &PlatformFilter) -> Result<Copied, CopyError> {
        let source_tags = self.source.tags(&upstream()).await.expect("the source answers").unwrap_or_default();
        let source_tags = source_tags.into_iter().map(|seen| seen.tag).collect();
        let (from, to, tag) = (upstream(), mirror(), tag(name));
        let reference = Reference::Tag(tag.clone());
        let attachments = Attachments::Copied { source_tags: &source_tags };
        self.transfer.copy(CopyRequest { item: name, from: &from, reference, to: &to, tag: &tag, filter, attachments }).await
    }

    /// Returns what the index that clients keep lists for a subject at the target.
    async fn fallback(&self, subject: &Value) -> Vec<Descriptor> {
        let list = self.at_target(Tag::of_referrers(&digest(subject))).await;
        list.and_then(|list| list.children().map(<[Descriptor]>::to_vec)).unwrap_or_default()
    }
}

#[tokio::test]
async fn signatures_of_an_image_its_children_and_of_other_signatures_come_along() {
    for target_lists in [true, false] {
        let target = MemoryPlace::default();
        let world = with_places(MemoryPlace::default().listing_referrers(), if target_lists { target.listing_referrers() } else { target });
        let child = world.image("linux/amd64", &["a"], None).await;
        let index = world.index(std::slice::from_ref(&child), Some("1.0")).await;
        let (of_index, of_child) = (signature(&world, &index, "index").await, signature(&world, &child, "child").await);
        let of_signature = signature(&world, &of_child, "countersigned").await;
        let copied = world.copy_whole("1.0", &PlatformFilter::All).await.expect("a copy");
        assert_eq!(copied.attachments, 3);
        for (subject, attached) in [(&index, &of_index), (&child, &of_child), (&of_child, &of_signature)] {
            assert!(world.at_target(digest(attached)).await.is_some());
            let listed = match world.target.referrers(&mirror(), &digest(subject)).await.expect("the target answers") {
                crate::registry::Referrers::Listed(listed) => listed,
                crate::registry::Referrers::NotListed => world.fallback(subject).await,
            };
            let [entry] = &listed[..] else { panic!("one attachment is listed: {listed:?}") };
            assert_eq!(entry.digest, digest(attached));
            assert_eq!(entry.artifact_type.as_deref(), Some("application/vnd.example.signature"));
            assert!(entry.annotations.contains_key("by"), "annotations are complete");
        }
        let calls = world.target.calls();
        assert_eq!(calls.iter().rfind(|call| call.operation == Operation::PutManifest).map(|call| call.subject.as_str()), Some("1.0"));
    }
}

#[tokio::test]
async fn the_list_that_clients_keep_is_read_at_the_source_and_added_to_at_the_target() {
    let world = world();
    let image = world.image("linux/amd64", &["a"], Some("1.0")).await;
    let ours = signature(&world, &image, "upstream").await;
    let mut listed = ours.clone();
    listed["artifactType"] = json!("application/vnd.example.signature");
    let list = Tag::of_referrers(&digest(&image));
    world.index(&[listed], Some(list.as_str())).await;
    // Somebody signed the mirror already.
    let theirs = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [] });
    let theirs = Manifest::parse(Bytes::from(theirs.to_string()), None, Algorithm::Sha256).expect("a manifest");
    world.target.put_manifest(&mirror(), &theirs.digest.clone().into(), &theirs).await.expect("the target takes it");
    let mut entry = json!(theirs.descriptor());
    entry["data"] = json!("e30=");
    let present =
        json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [entry], "annotations": { "kept": "by us" } });
    let present = Manifest::parse(Bytes::from(present.to_string()), None, Algorithm::Sha256).expect("a manifest");
    let sparse = world_with(SparseIndexes::Allowed);
    let world = World {
        target: sparse.target.clone(),
        transfer: Transfer::new(world.source.clone(), sparse.target, crate::progress::silent()),
        ..world
    };
    world.target.put_manifest(&mirror(), &Reference::Tag(list.clone()), &present).await.expect("the target takes it");
    assert_eq!(world.copy_whole("1.0", &PlatformFilter::All).await.expect("a copy").attachments, 1);
    let written = world.at_target(list.clone()).await.expect("the list");
    let written: Value = serde_json::from_slice(&written.bytes).expect("JSON");
    let mut complete = ours.clone();
    complete["artifactType"] = json!("application/vnd.example.signature");
    complete["annotations"] = json!({ "by": "upstream" });
    assert_eq!(written["manifests"], json!([entry, complete]), "what was there is kept, and what the source left out is filled in");
    assert_eq!(written["annotations"], json!({ "kept": "by us" }));
    // Nothing is missing any more.
    assert_eq!(world.copy_whole("1.0", &PlatformFilter::All).await.expect("a copy").attachments, 1);
    assert_eq!(world.fallback(&image).await.len(), 2);
}

#[tokio::test]
async fn an_image_where_the_list_belongs_is_kept() {
    let world = with_places(MemoryPlace::default().listing_referrers(), MemoryPlace::default());
    let image = world.image("linux/amd64", &["a"], Some("1.0")).await;
    let ours = signature(&world, &image, "upstream").await;
    let list = Tag::of_referrers(&digest(&image));
    let other = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "layers": [] });
    let other = Manifest::parse(Bytes::from(other.to_string()), None, Algorithm::Sha256).expect("a manifest");
    world.target.put_manifest(&mirror(), &Reference::Tag(list.clone()), &other).await.expect("the target takes it");
    let copied = world.copy_whole("1.0", &PlatformFilter::All).await.expect("a copy");
    assert!(copied.warnings.iter().any(|warning| warning.contains("it was kept")), "{:?}", copied.warnings);
    assert_eq!(world.at_target(list).await, Some(other));
    assert!(world.at_target(digest(&ours)).await.is_some());
}

#[tokio::test]
async fn what_a_list_names_twice_is_copied_once_and_what_the_source_lost_is_left_out_with_a_warning() {
    let world = world_with(SparseIndexes::Allowed);
    let image = world.image("linux/amd64", &["a"], Some("1.0")).await;
    let ours = signature(&world, &image, "there").await;
    let lost = json!({ "mediaType": media_type::OCI_MANIFEST, "digest": Digest::sha256(b"deleted"), "size": 7 });
    world.index(&[lost, ours.clone(), ours.clone()], Some(Tag::of_referrers(&digest(&image)).as_str())).await;
    let copied = world.copy_whole("1.0", &PlatformFilter::All).await.expect("a copy");
    assert_eq!(copied.attachments, 1);
    let [warning] = &copied.warnings[..] else { panic!("one warning: {:?}", copied.warnings) };
    assert!(warning.contains(Digest::sha256(b"deleted").as_str()), "{warning}");
    let listed: Vec<Digest> = world.fallback(&image).await.into_iter().map(|entry| entry.digest).collect();
    assert_eq!(listed, [digest(&ours)]);
}

#[tokio::test]
async fn the_signature_of_an_sbom_comes_along_with_it() {
    let world = world();
    let image = world.image("linux/amd64", &["a"], Some("1.0")).await;
    let [.., sbom] = Tag::of_cosign(&digest(&image));
    let sbom = world.image("unknown/unknown", &["sbom"], Some(sbom.as_str())).await;
    let [signature, ..] = Tag::of_cosign(&digest(&sbom));
    world.image("unknown/unknown", &["signature"], Some(signature.as_str())).await;
    assert_eq!(world.copy_whole("1.0", &PlatformFilter::All).await.expect("a copy").attachments, 2);
    assert!(world.at_target(signature).await.is_some());
}

#[tokio::test]
async fn cosign_tags_come_along_with_the_image_and_its_children() {
    let world = world();
    let child = world.image("linux/amd64", &["a"], None).await;
    let index = world.index(std::slice::from_ref(&child), Some("1.0")).await;
    let [signature, attestation, _] = Tag::of_cosign(&digest(&index));
    let [of_child, ..] = Tag::of_cosign(&digest(&child));
    let [unrelated, ..] = Tag::of_cosign(&Digest::sha256(b"other"));
    for tag in [&signature, &attestation, &of_child, &unrelated] {
        world.image("unknown/unknown", &[tag.as_str()], Some(tag.as_str())).await;
    }
    assert_eq!(world.copy_whole("1.0", &PlatformFilter::All).await.expect("a copy").attachments, 3);
    for (tag, there) in [(signature, true), (attestation, true), (of_child, true), (unrelated, false)] {
        assert_eq!(world.at_target(tag.clone()).await.is_some(), there, "{tag}");
    }
}

#[tokio::test]
async fn what_signs_a_rewritten_index_is_left_out_and_what_signs_its_children_is_not() {
    let world = with_places(MemoryPlace::default().listing_referrers(), MemoryPlace::default().listing_referrers());
    let (amd64, arm64) = (world.image("linux/amd64", &["a"], None).await, world.image("linux/arm64", &["b"], None).await);
    let index = world.index(&[amd64.clone(), arm64.clone()], Some("1.0")).await;
    let (of_index, of_amd64, of_arm64) =
        (signature(&world, &index, "index").await, signature(&world, &amd64, "amd64").await, signature(&world, &arm64, "arm64").await);
    let copied = world.copy_whole("1.0", &only(&["linux/amd64"], PlatformFilterMode::Rewrite)).await.expect("a copy");
    assert_eq!(copied.attachments, 1);
    for (attached, there) in [(of_index, false), (of_amd64, true), (of_arm64, false)] {
        assert_eq!(world.at_target(digest(&attached)).await.is_some(), there);
    }
}

#[tokio::test]
async fn a_signature_that_cannot_be_copied_keeps_the_tag_from_moving() {
    let world = with_places(MemoryPlace::default().listing_referrers(), MemoryPlace::default().listing_referrers());
    let image = world.image("linux/amd64", &["a"], Some("1.0")).await;
    signature(&world, &image, "lost").await;
    world.source.lose_blob(&upstream(), &Digest::sha256(b"lost"));
    assert_eq!(world.copy_whole("1.0", &PlatformFilter::All).await.expect_err("the copy fails").side(), Side::Source);
    assert_eq!(world.at_target(tag("1.0")).await, None);
}

#[tokio::test]
async fn a_chain_of_attachments_is_followed_only_so_far() {
    let world = with_places(MemoryPlace::default().listing_referrers(), MemoryPlace::default().listing_referrers());
    let image = world.image("linux/amd64", &["a"], Some("1.0")).await;
    let mut subject = image;
    for depth in 0..3 {
        subject = signature(&world, &subject, &format!("depth {depth}")).await;
    }
    assert_eq!(world.copy_whole("1.0", &PlatformFilter::All).await.expect("a copy").attachments, 3);
    for depth in 3..6 {
        subject = signature(&world, &subject, &format!("depth {depth}")).await;
    }
    let other = World { transfer: Transfer::new(world.source.clone(), world.target.clone(), crate::progress::silent()), ..world };
    assert!(matches!(other.copy_whole("1.0", &PlatformFilter::All).await, Err(CopyError::TooDeep { .. })));
}

impl World {
    /// Returns what a look into a tag at the target finds missing.
    async fn missing(&self, name: &str, filter: &PlatformFilter) -> Vec<Digest> {
        let (from, to, tag) = (upstream(), mirror(), tag(name));
        let request = CompletenessRequest { item: name, from: &from, to: &to, tag: &tag, filter };
        self.transfer.missing(&request).await.expect("a look")
    }

    async fn repair(&self, name: &str, filter: &PlatformFilter) -> Copied {
        let (from, to, tag) = (upstream(), mirror(), tag(name));
        let request = CompletenessRequest { item: name, from: &from, to: &to, tag: &tag, filter };
        self.transfer.repair(&request).await.expect("a repair")
    }

    /// Returns the world as a later run meets it, which remembers nothing.
    fn later(self) -> World {
        World { transfer: Transfer::new(self.source.clone(), self.target.clone(), crate::progress::silent()), ..self }
    }
}

#[tokio::test]
async fn what_a_target_lost_is_found_and_brought_again() {
    let filter = PlatformFilter::All;
    let world = world();
    let (amd64, arm64) =
        (world.image("linux/amd64", &["a", "shared"], None).await, world.image("linux/arm64", &["b", "shared"], None).await);
    world.index(&[amd64, arm64.clone()], Some("1.0")).await;
    let digest_before = world.copy("1.0", &filter).await.expect("a copy").digest;
    assert_eq!(world.missing("1.0", &filter).await, []);
    world.target.lose_blob(&mirror(), &Digest::sha256(b"b"));
    world.target.lose_manifest(&mirror(), &digest(&arm64));
    let world = world.later();
    world.source.clear_calls();
    assert_eq!(world.missing("1.0", &filter).await, [digest(&arm64)]);
    assert_eq!(world.source.calls().len(), 0, "looking reads only the target");
    let repaired = world.repair("1.0", &filter).await;
    assert_eq!((repaired.digest, repaired.tally.moved), (digest_before, 1));
    assert_eq!(repaired.warnings, [format!("missing parts: 1, the first is {}", digest(&arm64).short())]);
    assert_eq!(world.later().missing("1.0", &filter).await, []);
}

#[tokio::test]
async fn a_lost_blob_below_a_rewritten_index_is_brought_without_moving_the_tag() {
    let filter = only(&["linux/amd64"], PlatformFilterMode::Rewrite);
    let world = world();
    let (amd64, arm64) = (world.image("linux/amd64", &["a"], None).await, world.image("linux/arm64", &["b"], None).await);
    world.index(&[amd64, arm64], Some("1.0")).await;
    let copied = world.copy("1.0", &filter).await.expect("a copy");
    // Upstream moved on; what is missing still has its digest there.
    let other = world.image("linux/amd64", &["newer"], None).await;
    world.index(&[other], Some("1.0")).await;
    world.target.lose_blob(&mirror(), &Digest::sha256(b"a"));
    let world = world.later();
    assert_eq!(world.missing("1.0", &filter).await, [Digest::sha256(b"a")]);
    assert_eq!(world.repair("1.0", &filter).await.digest, copied.digest);
    assert_eq!(world.missing("1.0", &filter).await, []);
}

#[tokio::test]
async fn in_a_sparse_index_only_what_is_wanted_counts_as_missing() {
    let world = world_with(SparseIndexes::Allowed);
    let (amd64, arm64) = (world.image("linux/amd64", &["a"], None).await, world.image("linux/arm64", &["b"], None).await);
    world.index(&[amd64, arm64.clone()], Some("1.0")).await;
    world.copy("1.0", &only(&["linux/amd64"], PlatformFilterMode::Sparse)).await.expect("a copy");
    assert_eq!(world.missing("1.0", &only(&["linux/amd64"], PlatformFilterMode::Sparse)).await, []);
    let both = only(&["linux/amd64", "linux/arm64"], PlatformFilterMode::Sparse);
    assert_eq!(world.missing("1.0", &both).await, [digest(&arm64)], "a platform that was added to the entry");
    let world = world.later();
    world.repair("1.0", &both).await;
    assert_eq!(world.missing("1.0", &both).await, []);
}

/// A memory that lasts as long as the test.
#[derive(Default)]
struct Notes(std::sync::Mutex<HashMap<String, String>>);

impl Memory for Notes {
    fn recall(&self, key: &str) -> Option<String> {
        self.0.lock().expect("the notes").get(key).cloned()
    }

    fn remember(&self, key: &str, text: &str) {
        self.0.lock().expect("the notes").insert(key.to_owned(), text.to_owned());
    }
}

impl World {
    fn remembering(self, notes: &Arc<Notes>) -> World {
        let world = self.later();
        World { transfer: world.transfer.with_memory(notes.clone()), ..world }
    }

    async fn tags_of(place: &MemoryPlace, repository: &Repository) -> std::collections::BTreeSet<Tag> {
        let tags = place.tags(repository).await.expect("a listing").unwrap_or_default();
        tags.into_iter().map(|seen| seen.tag).collect()
    }

    /// Returns whether attachments are behind, the requests that looking costs on top of the listings, and what a refresh brings.
    async fn refresh(&self, name: &str, looks: Looks) -> (bool, usize, usize) {
        let (from, to, tag) = (upstream(), mirror(), tag(name));
        let (source_tags, target_tags) = (World::tags_of(&self.source, &from).await, World::tags_of(&self.target, &to).await);
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
            looks,
        };
        let behind = self.transfer.attachments_are_behind(&request).await.expect("a look");
        let cost = self.source.calls().len() + self.target.calls().len();
        let brought = if behind { self.transfer.refresh_attachments(&request).await.expect("a refresh").attachments } else { 0 };
        (behind, cost, brought)
    }
}

#[tokio::test]
async fn a_signature_that_is_added_later_is_found_by_the_listing_alone_once() {
    let notes = Arc::<Notes>::default();
    let world = world().remembering(&notes);
    let child = world.image("linux/amd64", &["a"], None).await;
    let index = world.index(std::slice::from_ref(&child), Some("1.0")).await;
    let [unrelated, ..] = Tag::of_cosign(&Digest::sha256(b"other"));
    world.image("unknown/unknown", &["unrelated"], Some(unrelated.as_str())).await;
    world.copy_whole("1.0", &PlatformFilter::All).await.expect("a copy");
    let world = world.remembering(&notes);
    assert_eq!(world.refresh("1.0", Looks::AtListings).await, (false, 0, 0), "attachments of other images cost nothing");
    let [signature, ..] = Tag::of_cosign(&digest(&index));
    let [of_child, ..] = Tag::of_cosign(&digest(&child));
    for tag in [&signature, &of_child] {
        world.image("unknown/unknown", &[tag.as_str()], Some(tag.as_str())).await;
    }
    assert_eq!(world.refresh("1.0", Looks::AtListings).await, (true, 0, 2));
    assert!(world.at_target(signature).await.is_some() && world.at_target(of_child).await.is_some());
    assert_eq!(world.refresh("1.0", Looks::AtListings).await, (false, 0, 0), "nothing is left to do");
    // Without the memory what is there is read from the target, once.
    let (behind, cost, _) = world.later().refresh("1.0", Looks::AtListings).await;
    assert_eq!((behind, cost), (false, 1));
}

#[tokio::test]
async fn a_signature_that_changed_is_found_when_each_is_looked_at() {
    let notes = Arc::<Notes>::default();
    let world = world().remembering(&notes);
    let image = world.image("linux/amd64", &["a"], Some("1.0")).await;
    let [signature, ..] = Tag::of_cosign(&digest(&image));
    world.image("unknown/unknown", &["first"], Some(signature.as_str())).await;
    world.copy_whole("1.0", &PlatformFilter::All).await.expect("a copy");
    let world = world.remembering(&notes);
    let (behind, cost, _) = world.refresh("1.0", Looks::AtEach).await;
    assert_eq!((behind, cost), (false, 3), "the registry is asked for referrers, the signature's digest on both sides");
    let changed = world.image("unknown/unknown", &["first", "second"], Some(signature.as_str())).await;
    assert!(!world.refresh("1.0", Looks::AtListings).await.0, "listings do not tell");
    assert_eq!(world.refresh("1.0", Looks::AtEach).await.2, 1);
    assert_eq!(world.at_target(signature).await.map(|found| found.digest), Some(digest(&changed)));
}

#[tokio::test]
async fn referrers_that_only_the_registry_lists_are_found_when_each_is_looked_at() {
    for target_lists in [true, false] {
        let target = MemoryPlace::default();
        let world = with_places(MemoryPlace::default().listing_referrers(), if target_lists { target.listing_referrers() } else { target });
        let image = world.image("linux/amd64", &["a"], Some("1.0")).await;
        world.copy_whole("1.0", &PlatformFilter::All).await.expect("a copy");
        let added = signature(&world, &image, "later").await;
        assert!(!world.refresh("1.0", Looks::AtListings).await.0);
        let (behind, _, brought) = world.refresh("1.0", Looks::AtEach).await;
        assert_eq!((behind, brought), (true, 1), "the target lists: {target_lists}");
        assert!(world.at_target(digest(&added)).await.is_some());
        assert!(!world.refresh("1.0", Looks::AtEach).await.0, "nothing is left to do");
    }
}
