//! Manifests and tags.

use imglife::model::Platform;
use serde_json::json;

use super::*;

/// Media type of the configuration of artifacts.
const ARTIFACT_CONFIG: &str = "application/vnd.oci.empty.v1+json";

pub(super) async fn manifests_keep_their_exact_bytes(tested: &TestedStore<'_>) {
    let repository = tested.repository("bytes");
    let (config, layer) = (
        put(tested, &repository, b"{}").await,
        put(tested, &repository, b"layer").await,
    );
    let written = |media_type: &str, config_type: &str, layer_type: &str| {
        let mut config = serde_json::to_value(&config).expect("JSON");
        config["mediaType"] = json!(config_type);
        let mut layer = serde_json::to_value(&layer).expect("JSON");
        layer["mediaType"] = json!(layer_type);
        // The order, spaces, an unknown field and the final newline must stay.
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
        put_manifest(tested, &repository, &tag(name).into(), &written).await;
        put_manifest(tested, &repository, &tag(name).into(), &written).await;
        for reference in [tag(name).into(), Reference::Digest(written.digest.clone())] {
            let found = tested
                .store
                .manifest(&repository, &reference)
                .await
                .expect("an answer")
                .expect("the manifest");
            assert_eq!(found.bytes, text.as_bytes(), "{reference}");
            assert_eq!(found, written, "{reference}");
            let resolved = tested
                .store
                .resolve(&repository, &reference)
                .await
                .expect("an answer")
                .expect("the manifest");
            assert_eq!(resolved.digest, written.digest, "{reference}");
        }
    }
}

pub(super) async fn a_tag_moves_and_its_old_manifest_stays(tested: &TestedStore<'_>) {
    let repository = tested.repository("moves");
    let old = put_image(tested, &repository, &tag("latest"), b"old").await;
    put_image(tested, &repository, &tag("other"), b"other").await;
    let new = put_image(tested, &repository, &tag("latest"), b"new").await;
    assert_ne!(old.digest, new.digest);
    let found = tested
        .store
        .resolve(&repository, &tag("latest").into())
        .await
        .expect("an answer");
    assert_eq!(found.map(|found| found.digest), Some(new.digest.clone()));
    let found = tested
        .store
        .manifest(&repository, &old.digest.clone().into())
        .await
        .expect("an answer");
    assert_eq!(found, Some(old));
    assert_eq!(listed(tested, &repository).await, ["latest", "other"]);
}

pub(super) async fn an_image_without_its_blobs_is_rejected(tested: &TestedStore<'_>) {
    let repository = tested.repository("incomplete");
    let config = put(tested, &repository, b"{}").await;
    let incomplete = image(&config, &[blob(b"a layer that was never sent")]);
    assert!(
        tested
            .store
            .put_manifest(&repository, &tag("latest").into(), &incomplete)
            .await
            .is_err()
    );
    assert_eq!(
        tested
            .store
            .resolve(&repository, &tag("latest").into())
            .await
            .expect("an answer"),
        None
    );
}

pub(super) async fn a_manifest_is_only_stored_under_its_own_digest(tested: &TestedStore<'_>) {
    let repository = tested.repository("own-digest");
    let manifest = put_image(tested, &repository, &tag("latest"), b"own").await;
    let other = Digest::sha256(b"another manifest");
    assert!(
        tested
            .store
            .put_manifest(&repository, &other.clone().into(), &manifest)
            .await
            .is_err()
    );
    assert_eq!(
        tested
            .store
            .manifest(&repository, &other.into())
            .await
            .expect("an answer"),
        None
    );
}

pub(super) async fn a_blob_is_not_returned_as_a_manifest(tested: &TestedStore<'_>) {
    let repository = tested.repository("blob-only");
    for content in [&b"no JSON"[..], b"{}"] {
        let blob = put(tested, &repository, content).await;
        assert_eq!(
            tested
                .store
                .manifest(&repository, &blob.digest.clone().into())
                .await
                .expect("an answer"),
            None
        );
        assert_eq!(
            tested
                .store
                .resolve(&repository, &blob.digest.into())
                .await
                .expect("an answer"),
            None
        );
    }
}

pub(super) async fn indexes_may_be_nested(tested: &TestedStore<'_>) {
    let repository = tested.repository("nested");
    let mut children = Vec::new();
    for platform in ["linux/amd64", "linux/arm64/v8"] {
        let image = image_of(tested, &repository, platform.as_bytes()).await;
        put_manifest(tested, &repository, &image.digest.clone().into(), &image).await;
        let platform: Platform = platform.parse().expect("a platform");
        children.push(Descriptor {
            platform: Some(platform),
            ..image.descriptor()
        });
    }
    let inner = index(media_type::OCI_INDEX, &children);
    put_manifest(tested, &repository, &inner.digest.clone().into(), &inner).await;
    let outer = index(media_type::OCI_INDEX, &[inner.descriptor()]);
    put_manifest(tested, &repository, &tag("nested").into(), &outer).await;
    let list = index(media_type::DOCKER_LIST, &children);
    put_manifest(tested, &repository, &tag("list").into(), &list).await;

    for (reference, written) in [
        (tag("nested").into(), &outer),
        (inner.digest.clone().into(), &inner),
        (Reference::Tag(tag("list")), &list),
    ] {
        let found = tested
            .store
            .manifest(&repository, &reference)
            .await
            .expect("an answer");
        assert_eq!(found.as_ref(), Some(written), "{reference}");
    }
    for child in &children {
        let found = tested
            .store
            .resolve(&repository, &child.digest.clone().into())
            .await
            .expect("an answer");
        assert_eq!(
            found.map(|found| found.digest).as_ref(),
            Some(&child.digest)
        );
    }
    // Children of an index have no tag.
    assert_eq!(listed(tested, &repository).await, ["list", "nested"]);
}

pub(super) async fn artifacts_are_stored_like_images(tested: &TestedStore<'_>) {
    let repository = tested.repository("artifact");
    let config = Descriptor {
        media_type: ARTIFACT_CONFIG.to_owned(),
        ..put(tested, &repository, b"{}").await
    };
    let layer = Descriptor {
        media_type: "application/vnd.example.thing".to_owned(),
        ..put(tested, &repository, b"thing").await
    };
    let empty = Descriptor {
        media_type: "application/vnd.example.empty".to_owned(),
        ..put(tested, &repository, b"").await
    };
    let text = json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "artifactType": "application/vnd.example.artifact",
        "config": config,
        "layers": [layer, layer, empty],
        "annotations": { "org.example": "größe" },
    });
    let artifact = parse(text.to_string());
    put_manifest(tested, &repository, &tag("artifact").into(), &artifact).await;
    assert_eq!(
        tested
            .store
            .manifest(&repository, &tag("artifact").into())
            .await
            .expect("an answer"),
        Some(artifact)
    );
}

pub(super) async fn other_digest_algorithms_are_kept(tested: &TestedStore<'_>) {
    let repository = tested.repository("sha512");
    let sha512 = |content: &[u8]| {
        Descriptor::new(
            "x",
            Digest::of(Algorithm::Sha512, content),
            content.len() as u64,
        )
    };
    let (config, layer) = (sha512(b"{}"), sha512(b"layer"));
    for (descriptor, content) in [(&config, &b"{}"[..]), (&layer, b"layer")] {
        tested
            .store
            .put_blob(&repository, descriptor, &in_memory(content), None)
            .await
            .expect("to write");
        assert_eq!(
            read(tested, &repository, descriptor, 0)
                .await
                .expect("the blob"),
            content
        );
    }
    let manifest = Manifest::parse(image(&config, &[layer]).bytes, None, Algorithm::Sha512)
        .expect("a manifest");
    put_manifest(
        tested,
        &repository,
        &manifest.digest.clone().into(),
        &manifest,
    )
    .await;
    let found = tested
        .store
        .manifest(&repository, &manifest.digest.clone().into())
        .await
        .expect("an answer");
    assert_eq!(found, Some(manifest));
}
