//! Missing parts of images at the target.

use super::*;

impl World {
    /// Returns the missing parts of a tag at the target.
    pub(super) async fn missing(&self, name: &str, filter: &PlatformFilter) -> Vec<Digest> {
        let (from, to, tag) = (upstream(), mirror(), tag(name));
        let request = CompletenessRequest {
            item: name,
            from: &from,
            to: &to,
            tag: &tag,
            filter,
        };
        self.transfer
            .missing_parts(&request)
            .await
            .expect("missing parts")
    }

    async fn repair(&self, name: &str, filter: &PlatformFilter) -> CopiedImage {
        let (from, to, tag) = (upstream(), mirror(), tag(name));
        let request = CompletenessRequest {
            item: name,
            from: &from,
            to: &to,
            tag: &tag,
            filter,
        };
        self.transfer.repair(&request).await.expect("a repair")
    }
}

#[tokio::test]
async fn repair_copies_lost_parts() {
    let filter = PlatformFilter::All;
    let world = world();
    let (amd64, arm64) = (
        world.image("linux/amd64", &["a", "shared"], None).await,
        world.image("linux/arm64", &["b", "shared"], None).await,
    );
    world.index(&[amd64, arm64.clone()], Some("1.0")).await;
    let digest_before = world.copy("1.0", &filter).await.expect("a copy").digest;
    assert_eq!(world.missing("1.0", &filter).await, []);
    world.target.lose_blob(&mirror(), &Digest::sha256(b"b"));
    world.target.lose_manifest(&mirror(), &digest(&arm64));
    let world = world.later();
    world.source.clear_calls();
    assert_eq!(world.missing("1.0", &filter).await, [digest(&arm64)]);
    assert_eq!(
        world.source.calls().len(),
        0,
        "finding missing parts only reads the target"
    );
    let repaired = world.repair("1.0", &filter).await;
    assert_eq!((repaired.digest, repaired.bytes.moved), (digest_before, 1));
    assert_eq!(
        repaired.warnings,
        [format!(
            "missing parts: 1, the first is {}",
            digest(&arm64).short()
        )]
    );
    assert_eq!(world.later().missing("1.0", &filter).await, []);
}

#[tokio::test]
async fn repair_below_a_rewritten_index_does_not_move_the_tag() {
    let filter = only(&["linux/amd64"], PlatformFilterMode::Rewrite);
    let world = world();
    let (amd64, arm64) = (
        world.image("linux/amd64", &["a"], None).await,
        world.image("linux/arm64", &["b"], None).await,
    );
    world.index(&[amd64, arm64], Some("1.0")).await;
    let copied = world.copy("1.0", &filter).await.expect("a copy");
    // Upstream moved the tag, but still has the old content by digest.
    let other = world.image("linux/amd64", &["newer"], None).await;
    world.index(&[other], Some("1.0")).await;
    world.target.lose_blob(&mirror(), &Digest::sha256(b"a"));
    let world = world.later();
    assert_eq!(world.missing("1.0", &filter).await, [Digest::sha256(b"a")]);
    assert_eq!(world.repair("1.0", &filter).await.digest, copied.digest);
    assert_eq!(world.missing("1.0", &filter).await, []);
}

#[tokio::test]
async fn missing_parts_of_a_sparse_index_are_limited_to_wanted_platforms() {
    let world = world_with(SparseIndexes::Allowed);
    let (amd64, arm64) = (
        world.image("linux/amd64", &["a"], None).await,
        world.image("linux/arm64", &["b"], None).await,
    );
    world.index(&[amd64, arm64.clone()], Some("1.0")).await;
    world
        .copy("1.0", &only(&["linux/amd64"], PlatformFilterMode::Sparse))
        .await
        .expect("a copy");
    assert_eq!(
        world
            .missing("1.0", &only(&["linux/amd64"], PlatformFilterMode::Sparse))
            .await,
        []
    );
    let both = only(&["linux/amd64", "linux/arm64"], PlatformFilterMode::Sparse);
    assert_eq!(
        world.missing("1.0", &both).await,
        [digest(&arm64)],
        "a platform that was added to the entry"
    );
    let world = world.later();
    world.repair("1.0", &both).await;
    assert_eq!(world.missing("1.0", &both).await, []);
}
