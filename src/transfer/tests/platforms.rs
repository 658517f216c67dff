//! Copies with a platform filter.

use super::*;

#[tokio::test]
async fn rewrite_keeps_wanted_platforms_and_their_attestations_reproducibly() {
    let world = world();
    let (amd64, arm64, s390x) = (
        world.image("linux/amd64", &["a"], None).await,
        world.image("linux/arm64/v8", &["b"], None).await,
        world.image("linux/s390x", &["c"], None).await,
    );
    let (of_amd64, of_s390x) = (
        world.attestation(&amd64).await,
        world.attestation(&s390x).await,
    );
    world
        .index(
            &[
                s390x.clone(),
                amd64.clone(),
                of_s390x.clone(),
                arm64.clone(),
                of_amd64.clone(),
            ],
            Some("1.0"),
        )
        .await;
    let filter = only(
        &["linux/amd64", "linux/arm64", "linux/riscv64"],
        PlatformFilterMode::Rewrite,
    );
    let copied = world.copy("1.0", &filter).await.expect("a copy");
    assert_eq!(
        copied.warnings,
        ["platform linux/riscv64 is missing upstream"]
    );
    assert_ne!(copied.digest, copied.source_digest);
    let kept = world.at_target(tag("1.0")).await.expect("the tag");
    let children: Vec<Digest> = kept
        .children()
        .expect("an index")
        .iter()
        .map(|child| child.digest.clone())
        .collect();
    assert_eq!(
        children,
        [digest(&amd64), digest(&arm64), digest(&of_amd64)]
    );
    assert_eq!(world.at_target(digest(&s390x)).await, None);
    let expected = world
        .transfer
        .expected_digest(&upstream(), &copied.source_digest, &filter)
        .await
        .expect("a digest");
    assert_eq!(expected, copied.digest);
}

#[tokio::test]
async fn rewrite_that_keeps_everything_keeps_the_bytes() {
    let world = world();
    let amd64 = world.image("linux/amd64", &["a"], None).await;
    world.index(&[amd64], Some("1.0")).await;
    let copied = world
        .copy("1.0", &only(&["linux/amd64"], PlatformFilterMode::Rewrite))
        .await
        .expect("a copy");
    assert_eq!(copied.digest, copied.source_digest);
}

#[tokio::test]
async fn copy_without_a_wanted_platform_fails_and_lists_the_platforms() {
    let world = world();
    let (amd64, windows) = (
        world.image("linux/amd64", &["a"], None).await,
        world.image("windows/amd64", &["b"], None).await,
    );
    world.index(&[amd64, windows], Some("1.0")).await;
    world.image("linux/amd64", &["a"], Some("single")).await;
    for name in ["1.0", "single"] {
        let error = world
            .copy(name, &only(&["linux/s390x"], PlatformFilterMode::Rewrite))
            .await
            .expect_err("nothing is wanted");
        assert!(
            error.to_string().starts_with("docker.io: cannot select platforms: the image has none of linux/s390x, only linux/amd64"
            ),
            "{error}"
        );
        assert_eq!(world.at_target(tag(name)).await, None);
    }
}

#[tokio::test]
async fn single_image_is_matched_by_its_configuration() {
    let world = world();
    world.image("linux/arm64/v8", &["a"], Some("single")).await;
    let copied = world
        .copy(
            "single",
            &only(&["linux/arm64"], PlatformFilterMode::Rewrite),
        )
        .await
        .expect("a copy");
    assert_eq!(copied.digest, copied.source_digest);
}

#[tokio::test]
async fn artifact_without_a_platform_matches_every_filter() {
    let world = world();
    let config = world
        .blob("application/vnd.example.chart.config", "{}")
        .await;
    let chart = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "artifactType": "application/vnd.example.chart", "config": config, "layers": [] });
    let chart = world.manifest(chart, Some("chart")).await;
    let filter = only(&["linux/amd64"], PlatformFilterMode::Rewrite);
    world.copy("chart", &filter).await.expect("a copy");
    // In an index it is kept together with the wanted platforms.
    let (amd64, arm64) = (
        world.image("linux/amd64", &["a"], None).await,
        world.image("linux/arm64", &["b"], None).await,
    );
    world
        .index(&[chart.clone(), amd64.clone(), arm64], Some("mixed"))
        .await;
    world.copy("mixed", &filter).await.expect("a copy");
    let kept = world.at_target(tag("mixed")).await.expect("the tag");
    let children: Vec<Digest> = kept
        .children()
        .expect("an index")
        .iter()
        .map(|child| child.digest.clone())
        .collect();
    assert_eq!(children, [digest(&chart), digest(&amd64)]);
}

#[tokio::test]
async fn platforms_are_read_from_entries_that_do_not_state_them() {
    let world = world();
    let (mut amd64, mut arm64) = (
        world.image("linux/amd64", &["a"], None).await,
        world.image("linux/arm64", &["b"], None).await,
    );
    for entry in [&mut amd64, &mut arm64] {
        entry
            .as_object_mut()
            .expect("a descriptor")
            .remove("platform");
    }
    let nested = world.index(&[amd64.clone(), arm64.clone()], None).await;
    let dropped = world.index(std::slice::from_ref(&arm64), None).await;
    world.index(&[nested, dropped, arm64], Some("nested")).await;
    let filter = only(&["linux/amd64"], PlatformFilterMode::Rewrite);
    let copied = world.copy("nested", &filter).await.expect("a copy");
    let outer = world
        .at_target(copied.digest)
        .await
        .expect("the outer index");
    let [inner] = outer.children().expect("an index") else {
        panic!("one entry is left: {outer:?}")
    };
    let inner = world
        .at_target(inner.digest.clone())
        .await
        .expect("the inner index");
    let children: Vec<Digest> = inner
        .children()
        .expect("an index")
        .iter()
        .map(|child| child.digest.clone())
        .collect();
    assert_eq!(children, [digest(&amd64)]);
}

#[tokio::test]
async fn sparse_index_keeps_its_bytes_and_gets_another_platform_later() {
    let world = world_with(SparseIndexes::Allowed);
    let (amd64, arm64) = (
        world.image("linux/amd64", &["a"], None).await,
        world.image("linux/arm64", &["b"], None).await,
    );
    let nested = world.index(std::slice::from_ref(&arm64), None).await;
    world.index(&[amd64.clone(), nested], Some("1.0")).await;
    let copied = world
        .copy("1.0", &only(&["linux/amd64"], PlatformFilterMode::Sparse))
        .await
        .expect("a copy");
    assert_eq!(copied.digest, copied.source_digest);
    assert!(
        world.at_target(digest(&amd64)).await.is_some()
            && world.at_target(digest(&arm64)).await.is_none()
    );
    world
        .copy(
            "1.0",
            &only(&["linux/amd64", "linux/arm64"], PlatformFilterMode::Sparse),
        )
        .await
        .expect("a copy");
    assert!(
        world.at_target(digest(&arm64)).await.is_some(),
        "the added platform is copied"
    );
}
