//! Deletion of tags and manifests.

use super::sweep::*;
use super::*;

#[tokio::test]
async fn delete_tag_keeps_other_tags() {
    let layout = SweptLayout::new();
    let image = layout.image(Some("1"), "one").await;
    layout
        .layouts
        .put_manifest(&layout.repository, &tag("latest").into(), &image)
        .await
        .expect("to write");
    let mut document = layout.document();
    let entries = document["manifests"].as_array_mut().expect("a list");
    let named = |name: &str, digest: &Digest| json!({ "mediaType": media_type::OCI_MANIFEST, "digest": digest, "size": 1, "annotations": { "org.opencontainers.image.ref.name": name } });
    let other = Digest::sha256(b"other");
    entries.push(json!({ "unknown": true }));
    entries.push(named("docker.io/library/app:1", &image.digest));
    entries.extend([named("2", &image.digest), named("2", &other)]);
    layout.write_document(&document);

    layout.delete("1").await;
    let names = |document: Value| {
        let entries = document["manifests"].as_array().expect("a list").clone();
        entries
            .iter()
            .map(|entry| entry["annotations"]["org.opencontainers.image.ref.name"].to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        names(layout.document()),
        [
            r#""latest""#,
            "null",
            r#""docker.io/library/app:1""#,
            r#""2""#,
            r#""2""#
        ]
    );
    let deletion = layout
        .layouts
        .delete_tag(&layout.repository, &tag("1"))
        .await
        .expect("an answer");
    assert_eq!(deletion, Deletion::NotFound);
    // A tag that names two images is ambiguous.
    let error = layout
        .layouts
        .delete_tag(&layout.repository, &tag("2"))
        .await
        .expect_err("two images");
    assert!(
        error.kind == ItemErrorKind::Malformed
            && crate::error::chain(&error).contains("several entries"),
        "{error}"
    );
    assert_eq!(names(layout.document()).len(), 5);
    // Deleting a manifest keeps its named entries, even if the name is no tag.
    let mut document = layout.document();
    let entries = document["manifests"].as_array_mut().expect("a list");
    entries.extend([
        named("team/rel", &image.digest),
        json!(image.descriptor()),
        json!(image.descriptor()),
    ]);
    layout.write_document(&document);
    let deletion = layout
        .layouts
        .delete_manifest(&layout.repository, &image.digest)
        .await
        .expect("an answer");
    assert_eq!(deletion, Deletion::StillNamed);
    let left = [
        r#""latest""#,
        "null",
        r#""docker.io/library/app:1""#,
        r#""2""#,
        r#""2""#,
        r#""team/rel""#,
    ];
    assert_eq!(names(layout.document()), left);
}

#[tokio::test]
async fn deletions_in_a_missing_layout_create_nothing() {
    let layout = SweptLayout::new();
    let digest = Digest::sha256(b"x");
    assert_eq!(
        layout
            .layouts
            .delete_tag(&layout.repository, &tag("1"))
            .await
            .expect("an answer"),
        Deletion::NotFound
    );
    assert_eq!(
        layout
            .layouts
            .delete_manifest(&layout.repository, &digest)
            .await
            .expect("an answer"),
        Deletion::NotFound
    );
    assert!(
        !layout
            .layouts
            .claim_manifest(&layout.repository, &digest)
            .await
            .expect("an answer")
    );
    assert_eq!(
        layout.sweep().await,
        Ok(SweepResult::Swept { files: 0, bytes: 0 })
    );
    assert!(!layout.path("").exists());
}
