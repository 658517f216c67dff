//! Layout directories.

mod concurrent_copy;
mod deletions;
mod listings;
mod sweep;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::layouts::{Layouts, WRITE_SIZE};
use super::operation::{LayoutOperation, MAX_INDEX_BYTES, WORK_DIRECTORY};
use super::writer::LayoutWriter;
use crate::error::{ItemError, ItemErrorKind};
use crate::model::{
    Algorithm, Descriptor, Digest, Manifest, Reference, Repository, Tag, media_type,
};
use crate::registry::InMemory;
use crate::registry::blob::{BlobContent, BlobPut, BlobStream};
use crate::registry::store::{Deletion, ImageSource, ImageStore, Referrers, SweepResult};

/// A layout directory that is deleted after the test.
struct TestLayout {
    above: TempDir,
    repository: Repository,
}

impl TestLayout {
    fn new() -> TestLayout {
        let above = tempfile::tempdir().expect("a directory");
        let repository = Repository::Layout {
            directory: above.path().join("layout"),
        };
        TestLayout { above, repository }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.above.path().join("layout").join(name)
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.path("blobs")
            .join(digest.algorithm().name())
            .join(digest.hex())
    }

    /// Creates a layout with this `index.json`.
    fn with_index(index: &str) -> TestLayout {
        let layout = TestLayout::new();
        fs::create_dir_all(layout.path("blobs/sha256")).expect("to create");
        fs::write(
            layout.path("oci-layout"),
            r#"{"imageLayoutVersion":"1.0.0"}"#,
        )
        .expect("to write");
        fs::write(layout.path("index.json"), index).expect("to write");
        layout
    }

    fn index(&self) -> Value {
        serde_json::from_slice(&fs::read(self.path("index.json")).expect("index.json"))
            .expect("JSON")
    }

    async fn put(&self, content: &'static [u8]) -> Result<BlobPut, ItemError> {
        Layouts::default()
            .put_blob(
                &self.repository,
                &blob(content),
                &InMemory(Bytes::from_static(content)),
                None,
            )
            .await
    }

    async fn put_image(&self, tag: &str, content: &'static [u8]) -> Manifest {
        self.put(content).await.expect("to write the blob");
        let manifest = image(&[blob(content)]);
        Layouts::default()
            .put_manifest(&self.repository, &tag_reference(tag), &manifest)
            .await
            .expect("to write the manifest");
        manifest
    }

    async fn tags(&self) -> Result<Option<Vec<(String, Option<Digest>)>>, String> {
        let tags = Layouts::default()
            .tags(&self.repository)
            .await
            .map_err(|error| chain(&error))?;
        Ok(tags.map(|tags| {
            tags.into_iter()
                .map(|listed| (listed.tag.to_string(), listed.digest))
                .collect()
        }))
    }

    async fn resolve(&self, reference: &Reference) -> Result<Option<Digest>, String> {
        let resolved = Layouts::default()
            .resolve(&self.repository, reference)
            .await
            .map_err(|error| chain(&error))?;
        // `resolve` and `manifest` must agree.
        let manifest = Layouts::default()
            .manifest(&self.repository, reference)
            .await
            .map_err(|error| chain(&error))?;
        assert_eq!(
            resolved,
            manifest
                .as_ref()
                .map(|manifest| manifest.digest.clone().into())
        );
        Ok(manifest.map(|manifest| manifest.digest))
    }

    /// Returns the names of all files in a directory of the layout, sorted.
    fn names(&self, directory: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(directory)).expect("a directory");
        let mut names: Vec<String> = entries
            .map(|entry| {
                entry
                    .expect("an entry")
                    .file_name()
                    .into_string()
                    .expect("a name")
            })
            .collect();
        names.sort();
        names
    }
}

fn chain(error: &ItemError) -> String {
    crate::error::chain(error)
}

fn tag_reference(text: &str) -> Reference {
    Reference::Tag(text.parse().expect("a tag"))
}

fn blob(content: &[u8]) -> Descriptor {
    Descriptor::new("x", Digest::sha256(content), content.len() as u64)
}

fn image(layers: &[Descriptor]) -> Manifest {
    let text =
        json!({ "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "layers": layers })
            .to_string();
    Manifest::parse(Bytes::from(text), None, Algorithm::Sha256).expect("a manifest")
}

fn entry(name: Option<&str>, manifest: &Manifest) -> Value {
    let mut entry = serde_json::to_value(manifest.descriptor()).expect("JSON");
    if let Some(name) = name {
        entry["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
    }
    entry
}

fn store(layout: &TestLayout, manifest: &Manifest) {
    fs::write(layout.blob_path(&manifest.digest), &manifest.bytes).expect("to write");
}

fn count_files(directory: &Path) -> usize {
    let entries = fs::read_dir(directory).expect("a directory");
    entries
        .map(|entry| entry.expect("an entry").path())
        .map(|path| if path.is_dir() { count_files(&path) } else { 1 })
        .sum()
}

#[tokio::test]
async fn written_layout_conforms_to_the_specification() {
    let layout = TestLayout::new();
    let manifest = layout.put_image("3.21", b"layer").await;
    assert_eq!(
        layout.names("."),
        [WORK_DIRECTORY, "blobs", "index.json", "oci-layout"]
    );
    assert_eq!(
        fs::read_to_string(layout.path("oci-layout")).expect("the marker"),
        r#"{"imageLayoutVersion":"1.0.0"}"#
    );
    let expected = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [entry(Some("3.21"), &manifest)],
    });
    assert_eq!(layout.index(), expected);
    assert_eq!(layout.names("blobs"), ["sha256"]);
    let mut digests = [
        manifest.digest.hex().to_owned(),
        Digest::sha256(b"layer").hex().to_owned(),
    ];
    digests.sort();
    assert_eq!(layout.names("blobs/sha256"), digests);

    // Files are as readable as any file that this user writes.
    fs::write(layout.path("ordinary"), "").expect("to write");
    let mode = |path: PathBuf| fs::metadata(path).expect("a file").permissions().mode();
    assert_eq!(
        mode(layout.blob_path(&manifest.digest)),
        mode(layout.path("ordinary"))
    );
    assert_eq!(
        mode(layout.path("index.json")),
        mode(layout.path("ordinary"))
    );
}

#[tokio::test]
async fn layout_differs_from_a_missing_directory_and_from_other_content() {
    let layout = TestLayout::new();
    assert_eq!(layout.tags().await, Ok(None));
    fs::create_dir(layout.path("")).expect("to create");
    assert_eq!(layout.tags().await, Ok(None));
    assert_eq!(layout.resolve(&Digest::sha256(b"").into()).await, Ok(None));

    fs::write(layout.path("holiday.jpg"), "").expect("to write");
    for error in [
        layout.tags().await.expect_err("no layout"),
        layout
            .resolve(&tag_reference("1"))
            .await
            .expect_err("no layout"),
        layout
            .put(b"x")
            .await
            .map_err(|error| chain(&error))
            .expect_err("no layout"),
    ] {
        assert!(
            error.contains(&layout.repository.to_string())
                && error.contains("not an OCI image layout"),
            "{error}"
        );
    }
    assert_eq!(layout.names("."), ["holiday.jpg"]);

    let other = TestLayout::with_index("{}");
    for (marker, expected) in [
        (r#"{"imageLayoutVersion":"2.0"}"#, "only 1.x is understood"),
        ("{}", "imageLayoutVersion"),
        ("", "cannot be read"),
    ] {
        fs::write(other.path("oci-layout"), marker).expect("to write");
        let error = other.tags().await.expect_err("another version");
        assert!(error.contains(expected), "{error}");
    }
}

#[tokio::test]
async fn error_names_a_directory_that_cannot_be_written() {
    let layout = TestLayout::new();
    fs::write(layout.above.path().join("layout"), "a file in the way").expect("to write");
    let error = chain(&layout.put(b"x").await.expect_err("a file in the way"));
    assert!(
        error.contains(&layout.path("").display().to_string()) && error.contains("Not a directory"),
        "{error}"
    );
}

#[tokio::test]
async fn layout_can_be_written_after_its_first_writer_stopped() {
    for leftover in [
        &["dir"][..],
        &["dir", "workshop"],
        &["dir", "workshop", "marker"],
    ] {
        let layout = TestLayout::new();
        for step in leftover {
            match *step {
                "dir" => fs::create_dir(layout.path("")),
                "workshop" => fs::create_dir(layout.path(WORK_DIRECTORY)).and_then(|()| {
                    fs::write(
                        layout.path(WORK_DIRECTORY).join("incoming-abc"),
                        "{\"imageLay",
                    )
                }),
                _ => fs::write(
                    layout.path("oci-layout"),
                    r#"{"imageLayoutVersion":"1.0.0"}"#,
                ),
            }
            .expect("to write");
        }
        assert!(
            layout
                .tags()
                .await
                .expect("a listing")
                .is_none_or(|tags| tags.is_empty()),
            "{leftover:?}"
        );
        let manifest = layout.put_image("1", b"layer").await;
        assert_eq!(
            layout.tags().await,
            Ok(Some(vec![("1".to_owned(), Some(manifest.digest))])),
            "{leftover:?}"
        );
        assert_eq!(
            layout.names(WORK_DIRECTORY),
            ["index.lock", "writers.lock"],
            "{leftover:?}"
        );
    }
}

#[tokio::test]
async fn incomplete_files_of_killed_runs_are_removed() {
    let layout = TestLayout::new();
    layout.put(b"first").await.expect("to write");
    fs::write(layout.path(WORK_DIRECTORY).join("incoming-killed"), "half").expect("to write");

    let operation = LayoutOperation::new(&layout.repository, "write").expect("a layout");
    let running = LayoutWriter::open(&operation).expect("a writer");
    assert_eq!(layout.names(WORK_DIRECTORY), ["index.lock", "writers.lock"]);
    let file = running.temporary().expect("a file");
    layout.put(b"second").await.expect("to write");
    assert!(file.path().exists());
    drop(file);
    assert_eq!(layout.names(WORK_DIRECTORY), ["index.lock", "writers.lock"]);
}

#[tokio::test]
async fn failed_content_leaves_no_files() {
    struct Failing(Vec<u8>);
    #[async_trait]
    impl BlobContent for Failing {
        async fn open(&self, _: u64) -> Result<BlobStream, ItemError> {
            let broken = ItemError::new("source", "read", ItemErrorKind::Unreachable, "broken");
            Ok(stream::iter([Ok(Bytes::from(self.0.clone())), Err(broken)]).boxed())
        }
    }
    let layout = TestLayout::new();
    // More than `WRITE_SIZE`, so that a file was created.
    let content = vec![1; 3 * WRITE_SIZE];
    let put = Layouts::default()
        .put_blob(
            &layout.repository,
            &blob(&content),
            &Failing(content[..2 * WRITE_SIZE].to_vec()),
            None,
        )
        .await;
    assert_eq!(
        put.map_err(|error| error.kind),
        Err(ItemErrorKind::Unreachable)
    );
    assert_eq!(layout.names(WORK_DIRECTORY), ["index.lock", "writers.lock"]);
    assert_eq!(count_files(&layout.path("blobs")), 0);
}

#[tokio::test]
async fn names_of_other_tools_are_read() {
    let (one, other) = (image(&[blob(b"one")]), image(&[blob(b"other")]));
    let index = json!({ "schemaVersion": 2, "manifests": [
        entry(Some("docker.io/library/alpine:3.21"), &one),
        entry(Some("registry:5000/alpine:3.20"), &one),
        entry(Some("edge"), &one),
        entry(Some("docker.io/library/alpine:edge"), &other),
        entry(Some("docker.io/library/alpine"), &other),
        entry(Some("not a name"), &other),
        entry(Some(&format!("alpine@{}", other.digest)), &other),
        entry(None, &other),
        "no entry",
        { "annotations": { "org.opencontainers.image.ref.name": 7 } },
    ]});
    let layout = TestLayout::with_index(&index.to_string());
    store(&layout, &one);
    store(&layout, &other);
    let tags = ["3.20", "3.21", "edge"].map(|tag| (tag.to_owned(), Some(one.digest.clone())));
    assert_eq!(layout.tags().await, Ok(Some(tags.to_vec())));
    for name in ["3.20", "3.21", "edge"] {
        assert_eq!(
            layout.resolve(&tag_reference(name)).await,
            Ok(Some(one.digest.clone())),
            "{name}"
        );
    }
    assert_eq!(layout.resolve(&tag_reference("alpine")).await, Ok(None));
    // A manifest without a tag is available by digest.
    assert_eq!(
        layout.resolve(&other.digest.clone().into()).await,
        Ok(Some(other.digest))
    );
}

#[tokio::test]
async fn tag_of_two_manifests_is_ambiguous_until_it_is_set() {
    let (one, other) = (image(&[blob(b"one")]), image(&[blob(b"other")]));
    let index = json!({ "manifests": [
        entry(Some("1"), &one), entry(Some("1"), &other),
        entry(Some("a.example/x:2"), &one), entry(Some("b.example/x:2"), &other),
        { "mediaType": "x", "digest": "blake3:00", "size": 1, "annotations": { "org.opencontainers.image.ref.name": "3" } },
    ]});
    let layout = TestLayout::with_index(&index.to_string());
    store(&layout, &one);
    store(&layout, &other);
    assert_eq!(
        layout.tags().await,
        Ok(Some(
            ["1", "2", "3"].map(|tag| (tag.to_owned(), None)).to_vec()
        ))
    );
    for (name, expected) in [
        ("1", "several entries"),
        ("2", "several entries"),
        ("3", "blake3"),
    ] {
        let error = layout
            .resolve(&tag_reference(name))
            .await
            .expect_err("it is ambiguous");
        assert!(error.contains(expected), "{name}: {error}");
    }
    let new = layout.put_image("1", b"new").await;
    layout.put_image("2", b"new").await;
    let index = layout.index();
    let entries = index["manifests"].as_array().expect("a list");
    assert_eq!(entries.len(), 5, "{index}");
    assert_eq!(entries[0], entry(Some("1"), &new));
    assert_eq!(
        layout.resolve(&tag_reference("2")).await,
        Ok(Some(new.digest))
    );
}

#[tokio::test]
async fn index_keeps_content_of_other_tools() {
    let kept = image(&[blob(b"kept")]);
    let moved = image(&[blob(b"moved")]);
    let text = format!(
        r#"{{"com.example.first":[1.5,null],"manifests":[{},{{"unknown":{{"deep":true}}}},{},{}],"annotations":{{"z":"1","a":"2"}},"schemaVersion":2}}"#,
        entry(Some("kept"), &kept),
        entry(Some("moved"), &moved),
        entry(None, &kept),
    );
    let layout = TestLayout::with_index(&text);
    let new = layout.put_image("moved", b"layer").await;
    layout.put_image("added", b"layer").await;
    let expected = text
        .replace(
            &entry(Some("moved"), &moved).to_string(),
            &entry(Some("moved"), &new).to_string(),
        )
        .replace(
            "],\"annotations",
            &format!(",{}],\"annotations", entry(Some("added"), &new)),
        );
    assert_eq!(
        fs::read_to_string(layout.path("index.json")).expect("index.json"),
        expected
    );
}

#[tokio::test]
async fn unchanged_tag_is_not_written_again() {
    let layout = TestLayout::new();
    layout.put_image("1", b"layer").await;
    let inode = |path: PathBuf| fs::metadata(path).expect("a file").ino();
    let before = inode(layout.path("index.json"));
    let manifest = layout.put_image("1", b"layer").await;
    assert_eq!(inode(layout.path("index.json")), before);
    let put = layout.put(b"layer").await.expect("to write");
    assert_eq!(put, BlobPut::Mounted);
    assert!(
        Layouts::default()
            .has_blob(&layout.repository, &manifest.descriptor())
            .await
            .expect("an answer")
    );
}

#[tokio::test]
async fn corrupt_content_is_detected_and_can_be_replaced() {
    let layout = TestLayout::new();
    let manifest = layout.put_image("1", b"layer").await;
    let path = layout.blob_path(&manifest.digest);

    let mut tampered = manifest.bytes.to_vec();
    tampered[0] = b' ';
    fs::write(&path, &tampered).expect("to write");
    for reference in [tag_reference("1"), manifest.digest.clone().into()] {
        let error = Layouts::default()
            .manifest(&layout.repository, &reference)
            .await
            .expect_err("corrupt content");
        assert_eq!(error.kind, ItemErrorKind::Corrupt, "{error}");
    }
    layout.put_image("1", b"layer").await;
    assert_eq!(
        layout.resolve(&tag_reference("1")).await,
        Ok(Some(manifest.digest.clone()))
    );

    fs::write(&path, "cut").expect("to write");
    let error = Layouts::default()
        .resolve(&layout.repository, &tag_reference("1"))
        .await
        .expect_err("another size");
    assert_eq!(error.kind, ItemErrorKind::Corrupt, "{error}");
    fs::remove_file(&path).expect("to remove");
    assert_eq!(layout.resolve(&tag_reference("1")).await, Ok(None));

    let layer = blob(b"layer");
    fs::write(layout.blob_path(&layer.digest), "lay").expect("to write");
    assert!(
        !Layouts::default()
            .has_blob(&layout.repository, &layer)
            .await
            .expect("an answer")
    );
    let error = Layouts::default()
        .blob(&layout.repository, &layer, 0)
        .await
        .err()
        .expect("another size");
    assert_eq!(error.kind, ItemErrorKind::Corrupt, "{error}");
    layout.put(b"layer").await.expect("to write");
    assert_eq!(
        fs::read(layout.blob_path(&layer.digest)).expect("the blob"),
        b"layer"
    );
}

#[tokio::test]
async fn invalid_index_is_an_error() {
    let deep = format!("{{\"manifests\":{}", "[".repeat(100_000));
    for index in [
        "",
        "[]",
        "{",
        r#"{"manifests":{}}"#,
        r#"{"manifests":7}"#,
        &deep,
    ] {
        let layout = TestLayout::with_index(index);
        let error = layout.tags().await.expect_err("no index");
        assert!(error.contains("`index.json` cannot be read"), "{error}");
        assert!(
            Layouts::default()
                .put_manifest(&layout.repository, &tag_reference("1"), &image(&[]))
                .await
                .is_err()
        );
        assert_eq!(
            fs::read_to_string(layout.path("index.json")).expect("index.json"),
            index
        );
    }
    let layout = TestLayout::with_index("");
    let file = File::create(layout.path("index.json")).expect("to create");
    file.set_len(MAX_INDEX_BYTES as u64 + 1).expect("to grow");
    assert!(
        layout
            .tags()
            .await
            .expect_err("too large")
            .contains("more than")
    );
    fs::remove_file(layout.path("index.json")).expect("to remove");
    symlink("/dev/zero", layout.path("index.json")).expect("to link");
    assert!(
        layout
            .tags()
            .await
            .expect_err("no file")
            .contains("not a regular file")
    );
}

#[tokio::test]
async fn symbolic_links_do_not_redirect_writes() {
    for link in [
        "blobs",
        "blobs/sha256",
        WORK_DIRECTORY,
        ".imglife/index.lock",
        ".imglife/writers.lock",
    ] {
        let layout = TestLayout::with_index(r#"{"manifests":[]}"#);
        let outside = layout.above.path().join("outside");
        fs::create_dir_all(outside.join("sha256")).expect("to create");
        fs::create_dir_all(layout.path(link).parent().expect("a parent")).expect("to create");
        let is_lock = link.ends_with("lock");
        if !is_lock && layout.path(link).exists() {
            fs::remove_dir_all(layout.path(link)).expect("to remove");
        }
        symlink(
            if is_lock {
                outside.join("new")
            } else {
                outside.clone()
            },
            layout.path(link),
        )
        .expect("to link");
        let put = layout.put(b"layer").await;
        let result = match put {
            Ok(_) => Layouts::default()
                .put_manifest(
                    &layout.repository,
                    &tag_reference("1"),
                    &image(&[blob(b"layer")]),
                )
                .await
                .map(|()| BlobPut::Uploaded),
            Err(error) => Err(error),
        };
        let error = result.expect_err("a link");
        assert!(
            error.kind == ItemErrorKind::Refused && error.to_string().contains("symbolic link"),
            "{link}: {error}"
        );
        assert_eq!(count_files(&outside), 0, "{link}");
    }

    // A symbolic link to a file is replaced, not followed.
    let layout = TestLayout::with_index(r#"{"manifests":[]}"#);
    let outside = layout.above.path().join("outside");
    fs::write(&outside, "mine").expect("to write");
    let layer = blob(b"layer");
    symlink(&outside, layout.blob_path(&layer.digest)).expect("to link");
    fs::remove_file(layout.path("index.json")).expect("to remove");
    fs::write(layout.above.path().join("index"), r#"{"manifests":[]}"#).expect("to write");
    symlink(layout.above.path().join("index"), layout.path("index.json")).expect("to link");
    layout.put_image("1", b"layer").await;
    assert_eq!(fs::read(&outside).expect("the file"), b"mine");
    assert_eq!(
        fs::read(layout.above.path().join("index")).expect("the file"),
        br#"{"manifests":[]}"#
    );
    assert_eq!(
        fs::read(layout.blob_path(&layer.digest)).expect("the blob"),
        b"layer"
    );
}

#[tokio::test]
async fn mount_links_only_correct_blobs() {
    let (from, to) = (TestLayout::new(), TestLayout::new());
    from.put(b"layer").await.expect("to write");
    let layer = blob(b"layer");
    let (source, target) = (from.blob_path(&layer.digest), to.blob_path(&layer.digest));
    let share = || async {
        let content = InMemory(Bytes::from_static(b"layer"));
        Layouts::default()
            .put_blob(&to.repository, &layer, &content, Some(&from.repository))
            .await
            .expect("to write")
    };
    let inode = |path: &Path| fs::symlink_metadata(path).expect("a file").ino();

    assert_eq!(share().await, BlobPut::Mounted);
    assert_eq!(inode(&source), inode(&target));

    // A file of another size is replaced.
    fs::remove_file(&target).expect("to remove");
    fs::write(&target, "cut").expect("to write");
    assert_eq!(share().await, BlobPut::Mounted);
    assert_eq!(fs::read(&target).expect("the blob"), b"layer");

    for damage in ["wrong", "longer than before"] {
        fs::remove_file(&target).expect("to remove");
        fs::write(&source, damage).expect("to write");
        assert_eq!(share().await, BlobPut::Uploaded, "{damage}");
        assert_eq!(fs::read(&target).expect("the blob"), b"layer");
    }

    fs::remove_file(&target).expect("to remove");
    fs::remove_file(&source).expect("to remove");
    fs::write(from.path("elsewhere"), "layer").expect("to write");
    symlink(from.path("elsewhere"), &source).expect("to link");
    assert_eq!(share().await, BlobPut::Uploaded);
    assert!(fs::symlink_metadata(&target).expect("a file").is_file());
}

#[tokio::test]
async fn foreign_layers_may_be_missing() {
    let layout = TestLayout::new();
    let foreign = Descriptor {
        urls: vec!["https://example.com/layer".to_owned()],
        ..blob(b"foreign")
    };
    Layouts::default()
        .put_manifest(&layout.repository, &tag_reference("1"), &image(&[foreign]))
        .await
        .expect("to write");
    let nondistributable = Descriptor {
        media_type: "application/vnd.oci.image.layer.nondistributable.v1.tar".to_owned(),
        ..blob(b"foreign")
    };
    Layouts::default()
        .put_manifest(
            &layout.repository,
            &tag_reference("2"),
            &image(&[nondistributable]),
        )
        .await
        .expect("to write");
    let refused = Layouts::default()
        .put_manifest(
            &layout.repository,
            &tag_reference("3"),
            &image(&[blob(b"mine")]),
        )
        .await;
    assert_eq!(
        refused.map_err(|error| error.kind),
        Err(ItemErrorKind::Refused)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_writers_lose_no_tag() {
    let layout = TestLayout::new();
    let writers = (0..8).map(|writer| {
        let repository = layout.repository.clone();
        tokio::spawn(async move {
            for number in 0..25 {
                let content = Bytes::from(format!("layer {writer}"));
                let layer = blob(&content);
                Layouts::default()
                    .put_blob(&repository, &layer, &InMemory(content), None)
                    .await
                    .expect("to write the blob");
                let tag = tag_reference(&format!("{writer}.{number}"));
                Layouts::default()
                    .put_manifest(&repository, &tag, &image(&[layer]))
                    .await
                    .expect("to write the manifest");
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.expect("a writer");
    }
    let tags = layout.tags().await.expect("a listing").expect("a layout");
    assert_eq!(tags.len(), 200);
    assert!(tags.iter().all(|(_, digest)| digest.is_some()));
    assert_eq!(layout.names(WORK_DIRECTORY), ["index.lock", "writers.lock"]);
}

#[tokio::test]
async fn repositories_of_registries_are_rejected() {
    let repository: Repository = "registry/a".parse().expect("a repository");
    let error = Layouts::default()
        .tags(&repository)
        .await
        .expect_err("no layout");
    assert_eq!(error.kind, ItemErrorKind::Unsupported);
}

#[tokio::test]
async fn blobs_are_not_mounted_from_registries() {
    let layout = TestLayout::new();
    let content = InMemory(Bytes::from_static(b"layer"));
    let from: Repository = "registry/a".parse().expect("a repository");
    let put = Layouts::default()
        .put_blob(&layout.repository, &blob(b"layer"), &content, Some(&from))
        .await;
    assert_eq!(put.expect("to write"), BlobPut::Uploaded);
}
