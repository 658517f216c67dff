//! Deletion of tags and manifests.

use imglife::registry::{Deletion, Support, SweepKeep, SweepResult};

use super::*;

pub(super) async fn the_supported_deletions_are_reported(tested: &TestedStore<'_>) {
    let repository = tested.repository("deletions");
    put_image(tested, &repository, &tag("1"), b"deletions").await;
    for _ in 0..2 {
        assert_eq!(
            tested
                .store
                .deletions(&repository)
                .await
                .expect("an answer"),
            tested.deletes
        );
    }
    assert_eq!(listed(tested, &repository).await, ["1"]);
}

pub(super) async fn a_tag_is_deleted_without_its_manifest(tested: &TestedStore<'_>) {
    let repository = tested.repository("untagged");
    let image = put_image(tested, &repository, &tag("1.0"), b"untagged").await;
    put_manifest(tested, &repository, &tag("latest").into(), &image).await;
    put_image(tested, &repository, &tag("2.0"), b"another").await;
    let delete = async |name: &str| {
        tested
            .store
            .delete_tag(&repository, &tag(name))
            .await
            .expect("an answer")
    };
    if tested.deletes.tags == Support::Unsupported {
        assert_eq!(
            (delete("1.0").await, delete("never-there").await),
            (Deletion::Unsupported, Deletion::Unsupported)
        );
        assert_eq!(listed(tested, &repository).await, ["1.0", "2.0", "latest"]);
        return;
    }
    assert_eq!(delete("1.0").await, Deletion::Deleted);
    assert_eq!(listed(tested, &repository).await, ["2.0", "latest"]);
    assert_eq!(
        tested
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
            tested
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
        (Deletion::NotFound, Deletion::NotFound)
    );
    put_manifest(tested, &repository, &tag("1.0").into(), &image).await;
    assert_eq!(listed(tested, &repository).await, ["1.0", "2.0", "latest"]);
}

pub(super) async fn a_manifest_is_deleted_with_its_tags_only(tested: &TestedStore<'_>) {
    let repository = tested.repository("deleted");
    let child = image_of(tested, &repository, b"child").await;
    put_manifest(tested, &repository, &child.digest.clone().into(), &child).await;
    let index = index(media_type::OCI_INDEX, &[child.descriptor()]);
    for name in ["1.0", "latest"] {
        put_manifest(tested, &repository, &tag(name).into(), &index).await;
    }
    let other = put_image(tested, &repository, &tag("2.0"), b"other").await;
    let delete = async || {
        tested
            .store
            .delete_manifest(&repository, &index.digest)
            .await
            .expect("an answer")
    };
    if tested.deletes.manifests == Support::Unsupported {
        assert_eq!(
            (delete().await, delete().await),
            (Deletion::Unsupported, Deletion::Unsupported)
        );
        assert_eq!(listed(tested, &repository).await, ["1.0", "2.0", "latest"]);
        return;
    }
    let is_named = tested.deletion_effect == DeletionEffect::Unnamed;
    assert_eq!(
        delete().await,
        if is_named {
            Deletion::StillNamed
        } else {
            Deletion::Deleted
        }
    );
    let by_digest = tested
        .store
        .resolve(&repository, &index.digest.clone().into())
        .await
        .expect("an answer");
    assert_eq!(by_digest.is_some(), is_named);
    match tested.deletion_effect {
        DeletionEffect::Everything => assert_eq!(listed(tested, &repository).await, ["2.0"]),
        DeletionEffect::Digest | DeletionEffect::Unnamed => {
            assert_eq!(listed(tested, &repository).await, ["1.0", "2.0", "latest"]);
        }
    }
    for kept in [&child, &other] {
        let found = tested
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
            Deletion::NotFound
        }
    );
    // The repository works as before.
    match tested
        .store
        .sweep(&repository, &SweepKeep::default())
        .await
        .expect("an answer")
    {
        SweepResult::LeftToRegistry | SweepResult::Swept { files: 0, .. } => {}
        swept => panic!("all content is new: {swept:?}"),
    }
    put_manifest(tested, &repository, &tag("3.0").into(), &index).await;
    let found = tested
        .store
        .resolve(&repository, &tag("3.0").into())
        .await
        .expect("an answer");
    assert_eq!(found.map(|found| found.digest), Some(index.digest.clone()));
}

pub(super) async fn existing_content_can_be_claimed(tested: &TestedStore<'_>) {
    let repository = tested.repository("claimed");
    let image = put_image(tested, &repository, &tag("1"), b"claimed").await;
    let (there, absent) = (blob(b"claimed"), blob(b"never written"));
    assert!(
        tested
            .store
            .claim_blob(&repository, &there)
            .await
            .expect("an answer")
    );
    assert!(
        !tested
            .store
            .claim_blob(&repository, &absent)
            .await
            .expect("an answer")
    );
    assert!(
        tested
            .store
            .claim_manifest(&repository, &image.digest)
            .await
            .expect("an answer")
    );
    assert!(
        !tested
            .store
            .claim_manifest(&repository, &absent.digest)
            .await
            .expect("an answer")
    );
}
