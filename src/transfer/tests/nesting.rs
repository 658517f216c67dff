//! Copies of nested indexes.

use super::*;

#[tokio::test]
async fn manifests_that_are_listed_many_times_are_read_once() {
    let world = world();
    let mut inner = world.image("linux/amd64", &["a"], None).await;
    inner
        .as_object_mut()
        .expect("a descriptor")
        .remove("platform");
    for depth in 0..3 {
        let name = format!("depth-{depth}");
        inner = world.index(&vec![inner; 10], Some(&name)).await;
    }
    world.source.clear_calls();
    world
        .copy(
            "depth-2",
            &only(&["linux/amd64"], PlatformFilterMode::Rewrite),
        )
        .await
        .expect("a copy");
    assert!(
        world.source.count(StoreOperation::Manifest) < 20,
        "{} manifests were read",
        world.source.count(StoreOperation::Manifest)
    );
    world.target.clear_calls();
    assert_eq!(world.missing("depth-2", &PlatformFilter::All).await, []);
    assert!(
        world.target.count(StoreOperation::Manifest) < 20,
        "{} manifests were read",
        world.target.count(StoreOperation::Manifest)
    );
    world.target.lose_blob(&mirror(), &Digest::sha256(b"a"));
    assert_eq!(
        world.missing("depth-2", &PlatformFilter::All).await,
        [Digest::sha256(b"a")]
    );
}

#[tokio::test]
async fn sparse_copy_of_indexes_with_the_same_children_reads_each_once() {
    let world = world();
    let mut level = Vec::new();
    for layer in ["a", "b", "c", "d"] {
        level.push(world.image("linux/amd64", &[layer], None).await);
    }
    for _ in 0..3 {
        let mut next = Vec::new();
        for _ in 0..level.len() {
            level.rotate_left(1);
            let mut index = world.index(&level, None).await;
            index
                .as_object_mut()
                .expect("a descriptor")
                .remove("platform");
            next.push(index);
        }
        level = next;
    }
    world.index(&level, Some("1")).await;
    world.source.clear_calls();
    world
        .copy("1", &only(&["linux/amd64"], PlatformFilterMode::Sparse))
        .await
        .expect("a copy");
    // One read to choose platforms, one to copy.
    assert!(
        world.source.count(StoreOperation::Manifest) <= 2 * 17,
        "{} manifests were read",
        world.source.count(StoreOperation::Manifest)
    );
}

#[tokio::test]
async fn indexes_that_are_nested_too_deep_are_rejected() {
    let world = world();
    let mut inner = world.image("linux/amd64", &["a"], None).await;
    inner
        .as_object_mut()
        .expect("a descriptor")
        .remove("platform");
    for depth in 0..5 {
        let name = format!("depth-{}", depth + 1);
        inner = world.index(&[inner], Some(&name)).await;
    }
    for filter in [
        PlatformFilter::All,
        only(&["linux/amd64"], PlatformFilterMode::Rewrite),
    ] {
        let error = world.copy("depth-5", &filter).await.expect_err("too deep");
        assert_eq!(error.kind, ItemErrorKind::TooDeep, "{filter:?}");
    }
    for filter in [
        PlatformFilter::All,
        only(&["linux/amd64"], PlatformFilterMode::Rewrite),
    ] {
        world
            .copy("depth-4", &filter)
            .await
            .expect("four levels are copied");
    }
}
