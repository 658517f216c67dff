//! Listings of sibling layouts and of referrers.

use super::sweep::*;
use super::*;

#[tokio::test]
async fn sibling_layouts_are_listed() {
    let above = tempfile::tempdir().expect("a directory");
    let at = |name: &str| Repository::Layout {
        directory: above.path().join(name),
    };
    let layouts = Layouts::default();
    let content = Bytes::from_static(b"x");
    let blob = Descriptor::new("x", Digest::sha256(&content), 1);
    for name in [
        "bases/alpine",
        "bases/lang/go",
        "bases/lang/go/inside",
        "elsewhere",
    ] {
        layouts
            .put_blob(&at(name), &blob, &InMemory(content.clone()), None)
            .await
            .expect("to write");
    }
    fs::create_dir_all(above.path().join("bases/no-layout/blobs")).expect("to create");
    symlink(
        above.path().join("elsewhere"),
        above.path().join("bases/link"),
    )
    .expect("to link");
    symlink(above.path(), above.path().join("bases/circle")).expect("to link");
    let found = layouts
        .sibling_repositories(&at("bases/any"))
        .await
        .expect("an answer")
        .expect("a list");
    assert_eq!(
        found,
        ["bases/alpine", "bases/lang/go", "bases/lang/go/inside"].map(at)
    );
    assert_eq!(
        layouts
            .sibling_repositories(&at("absent/any"))
            .await
            .expect("an answer"),
        Some(Vec::new())
    );
}

#[tokio::test]
async fn referrers_are_found_among_the_entries_of_the_index() {
    let layout = SweptLayout::new();
    let image = layout.image(Some("1"), "one").await;
    let config = Descriptor {
        media_type: "application/vnd.example.config".to_owned(),
        ..layout.blob("{}").await
    };
    let attachment = |text: &str| {
        json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": config, "layers": [],
            "subject": image.descriptor(), "annotations": { "text": text },
        })
    };
    let signature = layout.manifest(None, attachment("a signature")).await;
    let tagged = layout.manifest(Some("sbom"), attachment("an SBOM")).await;
    let unlisted = layout.manifest(None, attachment("in no index")).await;
    let damaged = layout.manifest(None, attachment("damaged")).await;
    let text = layout.blob("no manifest").await;
    let mut document = layout.document();
    let entries = document["manifests"].as_array_mut().expect("a list");
    let absent = Descriptor::new(media_type::OCI_MANIFEST, Digest::sha256(b"absent"), 6);
    let huge = Descriptor::new(media_type::OCI_MANIFEST, Digest::sha256(b"huge"), u64::MAX);
    for entry in [
        &signature.descriptor(),
        &signature.descriptor(),
        &damaged.descriptor(),
        &text,
        &absent,
        &huge,
    ] {
        entries.push(json!(entry));
    }
    entries.push(json!("no entry"));
    layout.write_document(&document);
    fs::write(layout.file(&damaged.digest), "damaged").expect("to write");

    let find = async |digest: &Digest| {
        layout
            .layouts
            .referrers(&layout.repository, digest)
            .await
            .expect("an answer")
    };
    let found = find(&image.digest).await;
    assert_eq!(
        found,
        Referrers::Partial(vec![tagged.referrer(), signature.referrer()])
    );
    assert_eq!(
        tagged.referrer().artifact_type.as_deref(),
        Some("application/vnd.example.config")
    );
    assert_eq!(find(&unlisted.digest).await, Referrers::Partial(Vec::new()));

    // Each manifest is read once; new manifests are found.
    fs::write(layout.file(&signature.digest), "not read again").expect("to write");
    assert_eq!(find(&image.digest).await, found);
    fs::write(layout.file(&damaged.digest), &damaged.bytes).expect("to write");
    assert_eq!(
        find(&image.digest).await,
        Referrers::Partial(vec![
            tagged.referrer(),
            signature.referrer(),
            damaged.referrer()
        ])
    );
    let nowhere = Repository::Layout {
        directory: layout.path("absent"),
    };
    assert_eq!(
        layout
            .layouts
            .referrers(&nowhere, &image.digest)
            .await
            .expect("an answer"),
        Referrers::Partial(Vec::new())
    );
}
