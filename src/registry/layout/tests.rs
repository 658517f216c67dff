use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::operation::WORKSHOP;
use super::*;
use crate::model::Algorithm;
use crate::model::media_type;
use crate::registry::InMemory;

/// A layout directory that vanishes with the test.
struct Scratch {
    above: TempDir,
    repository: Repository,
}

impl Scratch {
    fn new() -> Scratch {
        let above = tempfile::tempdir().expect("a directory");
        let repository = Repository::Layout {
            directory: above.path().join("layout"),
        };
        Scratch { above, repository }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.above.path().join("layout").join(name)
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.path("blobs")
            .join(digest.algorithm().name())
            .join(digest.hex())
    }

    /// Makes a layout with this `index.json`.
    fn with_index(index: &str) -> Scratch {
        let scratch = Scratch::new();
        fs::create_dir_all(scratch.path("blobs/sha256")).expect("to create");
        fs::write(
            scratch.path("oci-layout"),
            r#"{"imageLayoutVersion":"1.0.0"}"#,
        )
        .expect("to write");
        fs::write(scratch.path("index.json"), index).expect("to write");
        scratch
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
            .put_manifest(&self.repository, &self::tag(tag), &manifest)
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
                .map(|seen| (seen.tag.to_string(), seen.digest))
                .collect()
        }))
    }

    async fn resolve(&self, reference: &Reference) -> Result<Option<Digest>, String> {
        let resolved = Layouts::default()
            .resolve(&self.repository, reference)
            .await
            .map_err(|error| chain(&error))?;
        // Both ways to a manifest must agree.
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

    /// Returns the names of everything in a directory of the layout, in order.
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

fn tag(text: &str) -> Reference {
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

fn store(scratch: &Scratch, manifest: &Manifest) {
    fs::write(scratch.blob_path(&manifest.digest), &manifest.bytes).expect("to write");
}

fn count_files(directory: &Path) -> usize {
    let entries = fs::read_dir(directory).expect("a directory");
    entries
        .map(|entry| entry.expect("an entry").path())
        .map(|path| if path.is_dir() { count_files(&path) } else { 1 })
        .sum()
}

#[tokio::test]
async fn what_is_written_is_a_layout_of_the_specification() {
    let scratch = Scratch::new();
    let manifest = scratch.put_image("3.21", b"layer").await;
    assert_eq!(
        scratch.names("."),
        [WORKSHOP, "blobs", "index.json", "oci-layout"]
    );
    assert_eq!(
        fs::read_to_string(scratch.path("oci-layout")).expect("the marker"),
        r#"{"imageLayoutVersion":"1.0.0"}"#
    );
    let expected = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [entry(Some("3.21"), &manifest)],
    });
    assert_eq!(scratch.index(), expected);
    assert_eq!(scratch.names("blobs"), ["sha256"]);
    let mut digests = [
        manifest.digest.hex().to_owned(),
        Digest::sha256(b"layer").hex().to_owned(),
    ];
    digests.sort();
    assert_eq!(scratch.names("blobs/sha256"), digests);

    // As readable for others as any file that this user writes.
    fs::write(scratch.path("ordinary"), "").expect("to write");
    let mode = |path: PathBuf| fs::metadata(path).expect("a file").permissions().mode();
    assert_eq!(
        mode(scratch.blob_path(&manifest.digest)),
        mode(scratch.path("ordinary"))
    );
    assert_eq!(
        mode(scratch.path("index.json")),
        mode(scratch.path("ordinary"))
    );
}

#[tokio::test]
async fn a_layout_is_told_from_nothing_and_from_other_content() {
    let scratch = Scratch::new();
    assert_eq!(scratch.tags().await, Ok(None));
    fs::create_dir(scratch.path("")).expect("to create");
    assert_eq!(scratch.tags().await, Ok(None));
    assert_eq!(scratch.resolve(&Digest::sha256(b"").into()).await, Ok(None));

    fs::write(scratch.path("holiday.jpg"), "").expect("to write");
    for error in [
        scratch.tags().await.expect_err("no layout"),
        scratch.resolve(&tag("1")).await.expect_err("no layout"),
        scratch
            .put(b"x")
            .await
            .map_err(|error| chain(&error))
            .expect_err("no layout"),
    ] {
        assert!(
            error.contains(&scratch.repository.to_string())
                && error.contains("no OCI image layout"),
            "{error}"
        );
    }
    assert_eq!(scratch.names("."), ["holiday.jpg"]);

    let other = Scratch::with_index("{}");
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
async fn a_directory_that_cannot_be_written_is_named_with_the_cause() {
    let scratch = Scratch::new();
    fs::write(scratch.above.path().join("layout"), "a file in the way").expect("to write");
    let error = chain(&scratch.put(b"x").await.expect_err("a file in the way"));
    assert!(
        error.contains(&scratch.path("").display().to_string())
            && error.contains("Not a directory"),
        "{error}"
    );
}

#[tokio::test]
async fn the_first_writer_may_stop_at_any_moment() {
    for leftover in [
        &["dir"][..],
        &["dir", "workshop"],
        &["dir", "workshop", "marker"],
    ] {
        let scratch = Scratch::new();
        for step in leftover {
            match *step {
                "dir" => fs::create_dir(scratch.path("")),
                "workshop" => fs::create_dir(scratch.path(WORKSHOP)).and_then(|()| {
                    fs::write(scratch.path(WORKSHOP).join("incoming-abc"), "{\"imageLay")
                }),
                _ => fs::write(
                    scratch.path("oci-layout"),
                    r#"{"imageLayoutVersion":"1.0.0"}"#,
                ),
            }
            .expect("to write");
        }
        assert!(
            scratch
                .tags()
                .await
                .expect("a listing")
                .is_none_or(|tags| tags.is_empty()),
            "{leftover:?}"
        );
        let manifest = scratch.put_image("1", b"layer").await;
        assert_eq!(
            scratch.tags().await,
            Ok(Some(vec![("1".to_owned(), Some(manifest.digest))])),
            "{leftover:?}"
        );
        assert_eq!(
            scratch.names(WORKSHOP),
            ["index.lock", "writers.lock"],
            "{leftover:?}"
        );
    }
}

#[tokio::test]
async fn what_a_killed_run_left_is_removed_but_not_what_a_running_one_writes() {
    let scratch = Scratch::new();
    scratch.put(b"first").await.expect("to write");
    fs::write(scratch.path(WORKSHOP).join("incoming-killed"), "half").expect("to write");

    let operation = Operation::new(&scratch.repository, "write").expect("a layout");
    let running = Writer::open(&operation).expect("a writer");
    assert_eq!(scratch.names(WORKSHOP), ["index.lock", "writers.lock"]);
    let file = running.temporary().expect("a file");
    scratch.put(b"second").await.expect("to write");
    assert!(file.path().exists());
    drop(file);
    assert_eq!(scratch.names(WORKSHOP), ["index.lock", "writers.lock"]);
}

#[tokio::test]
async fn nothing_is_left_of_content_that_failed() {
    struct Failing(Vec<u8>);
    #[async_trait]
    impl Reopen for Failing {
        async fn open(&self, _: u64) -> Result<BlobStream, ItemError> {
            let broken = ItemError::new("source", "read", ItemErrorKind::Unreachable, "broken");
            Ok(stream::iter([Ok(Bytes::from(self.0.clone())), Err(broken)]).boxed())
        }
    }
    let scratch = Scratch::new();
    // More than is collected before it is written, so that a file was there.
    let content = vec![1; 3 * WRITE_SIZE];
    let put = Layouts::default()
        .put_blob(
            &scratch.repository,
            &blob(&content),
            &Failing(content[..2 * WRITE_SIZE].to_vec()),
            None,
        )
        .await;
    assert_eq!(
        put.map_err(|error| error.kind),
        Err(ItemErrorKind::Unreachable)
    );
    assert_eq!(scratch.names(WORKSHOP), ["index.lock", "writers.lock"]);
    assert_eq!(count_files(&scratch.path("blobs")), 0);
}

#[tokio::test]
async fn names_that_other_tools_write_are_understood() {
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
    let scratch = Scratch::with_index(&index.to_string());
    store(&scratch, &one);
    store(&scratch, &other);
    let tags = ["3.20", "3.21", "edge"].map(|tag| (tag.to_owned(), Some(one.digest.clone())));
    assert_eq!(scratch.tags().await, Ok(Some(tags.to_vec())));
    for name in ["3.20", "3.21", "edge"] {
        assert_eq!(
            scratch.resolve(&tag(name)).await,
            Ok(Some(one.digest.clone())),
            "{name}"
        );
    }
    assert_eq!(scratch.resolve(&tag("alpine")).await, Ok(None));
    // What has no tag is still there by its digest.
    assert_eq!(
        scratch.resolve(&other.digest.clone().into()).await,
        Ok(Some(other.digest))
    );
}

#[tokio::test]
async fn a_tag_of_two_manifests_is_listed_and_not_guessed_until_it_is_set() {
    let (one, other) = (image(&[blob(b"one")]), image(&[blob(b"other")]));
    let index = json!({ "manifests": [
        entry(Some("1"), &one), entry(Some("1"), &other),
        entry(Some("a.example/x:2"), &one), entry(Some("b.example/x:2"), &other),
        { "mediaType": "x", "digest": "blake3:00", "size": 1, "annotations": { "org.opencontainers.image.ref.name": "3" } },
    ]});
    let scratch = Scratch::with_index(&index.to_string());
    store(&scratch, &one);
    store(&scratch, &other);
    assert_eq!(
        scratch.tags().await,
        Ok(Some(
            ["1", "2", "3"].map(|tag| (tag.to_owned(), None)).to_vec()
        ))
    );
    for (name, expected) in [
        ("1", "several entries"),
        ("2", "several entries"),
        ("3", "blake3"),
    ] {
        let error = scratch
            .resolve(&tag(name))
            .await
            .expect_err("no clear answer");
        assert!(error.contains(expected), "{name}: {error}");
    }
    let new = scratch.put_image("1", b"new").await;
    scratch.put_image("2", b"new").await;
    let index = scratch.index();
    let entries = index["manifests"].as_array().expect("a list");
    assert_eq!(entries.len(), 5, "{index}");
    assert_eq!(entries[0], entry(Some("1"), &new));
    assert_eq!(scratch.resolve(&tag("2")).await, Ok(Some(new.digest)));
}

#[tokio::test]
async fn what_others_wrote_into_the_index_stays() {
    let kept = image(&[blob(b"kept")]);
    let moved = image(&[blob(b"moved")]);
    let text = format!(
        r#"{{"com.example.first":[1.5,null],"manifests":[{},{{"unknown":{{"deep":true}}}},{},{}],"annotations":{{"z":"1","a":"2"}},"schemaVersion":2}}"#,
        entry(Some("kept"), &kept),
        entry(Some("moved"), &moved),
        entry(None, &kept),
    );
    let scratch = Scratch::with_index(&text);
    let new = scratch.put_image("moved", b"layer").await;
    scratch.put_image("added", b"layer").await;
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
        fs::read_to_string(scratch.path("index.json")).expect("index.json"),
        expected
    );
}

#[tokio::test]
async fn a_tag_that_is_right_already_is_not_written_again() {
    let scratch = Scratch::new();
    scratch.put_image("1", b"layer").await;
    let inode = |path: PathBuf| fs::metadata(path).expect("a file").ino();
    let before = inode(scratch.path("index.json"));
    let manifest = scratch.put_image("1", b"layer").await;
    assert_eq!(inode(scratch.path("index.json")), before);
    let put = scratch.put(b"layer").await.expect("to write");
    assert_eq!(put, BlobPut::Mounted);
    assert!(
        Layouts::default()
            .has_blob(&scratch.repository, &manifest.descriptor())
            .await
            .expect("an answer")
    );
}

#[tokio::test]
async fn damaged_content_is_found_and_can_be_written_anew() {
    let scratch = Scratch::new();
    let manifest = scratch.put_image("1", b"layer").await;
    let path = scratch.blob_path(&manifest.digest);

    let mut tampered = manifest.bytes.to_vec();
    tampered[0] = b' ';
    fs::write(&path, &tampered).expect("to write");
    for reference in [tag("1"), manifest.digest.clone().into()] {
        let error = Layouts::default()
            .manifest(&scratch.repository, &reference)
            .await
            .expect_err("tampered content");
        assert_eq!(error.kind, ItemErrorKind::Corrupt, "{error}");
    }
    scratch.put_image("1", b"layer").await;
    assert_eq!(
        scratch.resolve(&tag("1")).await,
        Ok(Some(manifest.digest.clone()))
    );

    fs::write(&path, "cut").expect("to write");
    let error = Layouts::default()
        .resolve(&scratch.repository, &tag("1"))
        .await
        .expect_err("another size");
    assert_eq!(error.kind, ItemErrorKind::Corrupt, "{error}");
    fs::remove_file(&path).expect("to remove");
    assert_eq!(scratch.resolve(&tag("1")).await, Ok(None));

    let layer = blob(b"layer");
    fs::write(scratch.blob_path(&layer.digest), "lay").expect("to write");
    assert!(
        !Layouts::default()
            .has_blob(&scratch.repository, &layer)
            .await
            .expect("an answer")
    );
    let error = Layouts::default()
        .blob(&scratch.repository, &layer, 0)
        .await
        .err()
        .expect("another size");
    assert_eq!(error.kind, ItemErrorKind::Corrupt, "{error}");
    scratch.put(b"layer").await.expect("to write");
    assert_eq!(
        fs::read(scratch.blob_path(&layer.digest)).expect("the blob"),
        b"layer"
    );
}

#[tokio::test]
async fn a_hostile_index_is_an_error() {
    let deep = format!("{{\"manifests\":{}", "[".repeat(100_000));
    for index in [
        "",
        "[]",
        "{",
        r#"{"manifests":{}}"#,
        r#"{"manifests":7}"#,
        &deep,
    ] {
        let scratch = Scratch::with_index(index);
        let error = scratch.tags().await.expect_err("no index");
        assert!(error.contains("`index.json` cannot be read"), "{error}");
        assert!(
            Layouts::default()
                .put_manifest(&scratch.repository, &tag("1"), &image(&[]))
                .await
                .is_err()
        );
        assert_eq!(
            fs::read_to_string(scratch.path("index.json")).expect("index.json"),
            index
        );
    }
    let scratch = Scratch::with_index("");
    let file = File::create(scratch.path("index.json")).expect("to create");
    file.set_len(operation::LARGEST_INDEX as u64 + 1)
        .expect("to grow");
    assert!(
        scratch
            .tags()
            .await
            .expect_err("too large")
            .contains("more than the")
    );
    fs::remove_file(scratch.path("index.json")).expect("to remove");
    symlink("/dev/zero", scratch.path("index.json")).expect("to link");
    assert!(
        scratch
            .tags()
            .await
            .expect_err("no file")
            .contains("no regular file")
    );
}

#[tokio::test]
async fn links_in_a_layout_do_not_lead_writes_out_of_it() {
    for link in [
        "blobs",
        "blobs/sha256",
        WORKSHOP,
        ".imglife/index.lock",
        ".imglife/writers.lock",
    ] {
        let scratch = Scratch::with_index(r#"{"manifests":[]}"#);
        let outside = scratch.above.path().join("outside");
        fs::create_dir_all(outside.join("sha256")).expect("to create");
        fs::create_dir_all(scratch.path(link).parent().expect("a parent")).expect("to create");
        let is_lock = link.ends_with("lock");
        if !is_lock && scratch.path(link).exists() {
            fs::remove_dir_all(scratch.path(link)).expect("to remove");
        }
        symlink(
            if is_lock {
                outside.join("new")
            } else {
                outside.clone()
            },
            scratch.path(link),
        )
        .expect("to link");
        let put = scratch.put(b"layer").await;
        let result = match put {
            Ok(_) => Layouts::default()
                .put_manifest(&scratch.repository, &tag("1"), &image(&[blob(b"layer")]))
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

    // A file that is a link is replaced, not followed.
    let scratch = Scratch::with_index(r#"{"manifests":[]}"#);
    let outside = scratch.above.path().join("outside");
    fs::write(&outside, "mine").expect("to write");
    let layer = blob(b"layer");
    symlink(&outside, scratch.blob_path(&layer.digest)).expect("to link");
    fs::remove_file(scratch.path("index.json")).expect("to remove");
    fs::write(scratch.above.path().join("index"), r#"{"manifests":[]}"#).expect("to write");
    symlink(
        scratch.above.path().join("index"),
        scratch.path("index.json"),
    )
    .expect("to link");
    scratch.put_image("1", b"layer").await;
    assert_eq!(fs::read(&outside).expect("the file"), b"mine");
    assert_eq!(
        fs::read(scratch.above.path().join("index")).expect("the file"),
        br#"{"manifests":[]}"#
    );
    assert_eq!(
        fs::read(scratch.blob_path(&layer.digest)).expect("the blob"),
        b"layer"
    );
}

#[tokio::test]
async fn sharing_links_what_is_right_and_nothing_else() {
    let (from, to) = (Scratch::new(), Scratch::new());
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

    // Something of another size is in the place of the blob: it gives way.
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
async fn layers_that_may_not_be_handed_out_may_be_missing() {
    let scratch = Scratch::new();
    let foreign = Descriptor {
        urls: vec!["https://example.com/layer".to_owned()],
        ..blob(b"foreign")
    };
    Layouts::default()
        .put_manifest(&scratch.repository, &tag("1"), &image(&[foreign]))
        .await
        .expect("to write");
    let nondistributable = Descriptor {
        media_type: "application/vnd.oci.image.layer.nondistributable.v1.tar".to_owned(),
        ..blob(b"foreign")
    };
    Layouts::default()
        .put_manifest(&scratch.repository, &tag("2"), &image(&[nondistributable]))
        .await
        .expect("to write");
    let refused = Layouts::default()
        .put_manifest(&scratch.repository, &tag("3"), &image(&[blob(b"mine")]))
        .await;
    assert_eq!(
        refused.map_err(|error| error.kind),
        Err(ItemErrorKind::Refused)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_at_once_lose_no_tag() {
    let scratch = Scratch::new();
    let writers = (0..8).map(|writer| {
        let repository = scratch.repository.clone();
        tokio::spawn(async move {
            for number in 0..25 {
                let content = Bytes::from(format!("layer {writer}"));
                let layer = blob(&content);
                Layouts::default()
                    .put_blob(&repository, &layer, &InMemory(content), None)
                    .await
                    .expect("to write the blob");
                let tag = tag(&format!("{writer}.{number}"));
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
    let tags = scratch.tags().await.expect("a listing").expect("a layout");
    assert_eq!(tags.len(), 200);
    assert!(tags.iter().all(|(_, digest)| digest.is_some()));
    assert_eq!(scratch.names(WORKSHOP), ["index.lock", "writers.lock"]);
}

#[tokio::test]
async fn a_repository_of_a_registry_is_no_directory() {
    let repository: Repository = "registry/a".parse().expect("a repository");
    let error = Layouts::default()
        .tags(&repository)
        .await
        .expect_err("no directory");
    assert_eq!(error.kind, ItemErrorKind::Unsupported);
}
