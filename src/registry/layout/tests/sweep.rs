//! Sweeping of layouts.

use super::*;
use crate::registry::SweepKeep;
pub(super) use crate::registry::layout::aged_files::make_older;

pub(super) const HOUR: Duration = Duration::from_secs(3_600);

/// A layout directory with its store.
pub(super) struct SweptLayout {
    pub(super) above: TempDir,
    pub(super) layouts: Layouts,
    pub(super) repository: Repository,
    /// Manifests that a sweep keeps.
    keep: BTreeSet<Digest>,
    /// Single files that a sweep keeps.
    keep_files: BTreeSet<Digest>,
}

impl SweptLayout {
    pub(super) fn new() -> SweptLayout {
        let above = tempfile::tempdir().expect("a directory");
        let repository = Repository::Layout {
            directory: above.path().join("layout"),
        };
        SweptLayout {
            above,
            layouts: Layouts::default(),
            repository,
            keep: BTreeSet::new(),
            keep_files: BTreeSet::new(),
        }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.above.path().join("layout").join(name)
    }

    pub(super) fn file(&self, digest: &Digest) -> PathBuf {
        self.path("blobs")
            .join(digest.algorithm().name())
            .join(digest.hex())
    }

    pub(super) async fn blob(&self, content: &str) -> Descriptor {
        let descriptor = Descriptor::new(
            "x",
            Digest::sha256(content.as_bytes()),
            content.len() as u64,
        );
        let content = InMemory(Bytes::copy_from_slice(content.as_bytes()));
        self.layouts
            .put_blob(&self.repository, &descriptor, &content, None)
            .await
            .expect("to write the blob");
        descriptor
    }

    pub(super) async fn manifest(&self, tag: Option<&str>, text: Value) -> Manifest {
        let manifest = Manifest::parse(Bytes::from(text.to_string()), None, Algorithm::Sha256)
            .expect("a manifest");
        let reference = tag.map_or_else(
            || manifest.digest.clone().into(),
            |tag| Reference::Tag(self::tag(tag)),
        );
        self.layouts
            .put_manifest(&self.repository, &reference, &manifest)
            .await
            .expect("to write the manifest");
        manifest
    }

    /// Stores an image with a layer of its own.
    pub(super) async fn image(&self, tag: Option<&str>, content: &str) -> Manifest {
        let layers = [self.blob("shared").await, self.blob(content).await];
        self.manifest(
            tag,
            json!({ "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "layers": layers }),
        )
        .await
    }

    pub(super) async fn index(&self, tag: Option<&str>, children: &[&Manifest]) -> Manifest {
        let children: Vec<Descriptor> = children.iter().map(|child| child.descriptor()).collect();
        self.manifest(tag, json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": children })).await
    }

    /// Makes every file older than the grace period.
    pub(super) fn age(&self) {
        self.age_by(HOUR + Duration::from_secs(60));
    }

    pub(super) fn age_by(&self, age: Duration) {
        for algorithm in ["sha256", "sha512"] {
            for entry in fs::read_dir(self.path("blobs").join(algorithm))
                .into_iter()
                .flatten()
            {
                make_older(&entry.expect("an entry").path(), age);
            }
        }
    }

    pub(super) async fn sweep(&self) -> Result<SweepResult, String> {
        self.layouts
            .sweep(
                &self.repository,
                &SweepKeep {
                    manifests: self.keep.clone(),
                    files: self.keep_files.clone(),
                },
            )
            .await
            .map_err(|error| crate::error::chain(&error))
    }

    pub(super) async fn delete(&self, name: &str) {
        let deletion = self
            .layouts
            .delete_tag(&self.repository, &tag(name))
            .await
            .expect("an answer");
        assert_eq!(deletion, Deletion::Deleted, "{name}");
    }

    pub(super) fn files(&self) -> usize {
        fs::read_dir(self.path("blobs/sha256"))
            .expect("a directory")
            .count()
    }

    pub(super) fn has(&self, content: &str) -> bool {
        self.file(&Digest::sha256(content.as_bytes())).exists()
    }

    pub(super) fn document(&self) -> Value {
        serde_json::from_slice(&fs::read(self.path("index.json")).expect("index.json"))
            .expect("JSON")
    }

    pub(super) fn write_document(&self, document: &Value) {
        fs::write(self.path("index.json"), document.to_string()).expect("to write");
    }
}

pub(super) fn tag(text: &str) -> Tag {
    text.parse().expect("a tag")
}

pub(super) fn modified(path: &Path) -> SystemTime {
    fs::metadata(path)
        .and_then(|found| found.modified())
        .expect("a time")
}

pub(super) fn freed(files: usize) -> impl Fn(Result<SweepResult, String>) -> bool {
    move |swept| matches!(swept, Ok(SweepResult::Swept { files: found, .. }) if found == files)
}

#[tokio::test]
async fn single_files_can_be_kept() {
    let mut layout = SweptLayout::new();
    layout.image(Some("1"), "one").await;
    let kept = layout.blob("kept").await;
    layout.blob("gone").await;
    layout.age();
    layout.keep_files = [kept.digest.clone()].into();
    assert!(freed(1)(layout.sweep().await));
    layout.keep_files.clear();
    assert!(freed(1)(layout.sweep().await));
}

#[tokio::test]
async fn sweep_removes_content_of_a_deleted_tag_after_an_hour() {
    let layout = SweptLayout::new();
    layout.image(Some("1"), "one").await;
    layout.image(Some("2"), "two").await;
    layout.delete("1").await;
    assert!(freed(0)(layout.sweep().await), "it is new");
    layout.age_by(HOUR - Duration::from_secs(60));
    assert!(freed(0)(layout.sweep().await), "it is still new");
    layout.age_by(Duration::from_secs(120));
    let manifest = layout.files();
    let Ok(SweepResult::Swept { files, bytes }) = layout.sweep().await else {
        panic!("expected a sweep")
    };
    assert_eq!((files, layout.files()), (2, manifest - 2));
    assert!(bytes > 3 && !layout.has("one") && layout.has("two") && layout.has("shared"));
    assert!(freed(0)(layout.sweep().await));
    layout.image(Some("1"), "one").await;
}

#[tokio::test]
async fn sweep_keeps_everything_that_a_name_references() {
    let layout = SweptLayout::new();
    let child = layout.image(None, "child").await;
    let inner = layout.index(None, &[&child]).await;
    layout.index(Some("nested"), &[&inner]).await;
    // An attachment in the referrers index of clients, and one as other tools write it.
    let signature = |content: Descriptor| {
        let subject = child.descriptor();
        json!({ "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "layers": [content], "subject": subject })
    };
    let listed = layout
        .manifest(None, signature(layout.blob("listed").await))
        .await;
    layout
        .index(Some(Tag::of_referrers(&child.digest).as_str()), &[&listed])
        .await;
    let noticed = layout
        .manifest(None, signature(layout.blob("noticed").await))
        .await;
    let mut document = layout.document();
    document["manifests"]
        .as_array_mut()
        .expect("a list")
        .push(json!(noticed.descriptor()));
    layout.write_document(&document);
    // An index with a missing child and a plain blob.
    let cache = layout.blob("plain content").await;
    let absent = Descriptor::new(media_type::OCI_MANIFEST, Digest::sha256(b"absent"), 6);
    layout
        .manifest(
            Some("cache"),
            json!({ "schemaVersion": 2, "manifests": [cache, absent] }),
        )
        .await;
    layout.image(None, "unreferenced").await;

    layout.age();
    let before = layout.files();
    assert!(freed(2)(layout.sweep().await));
    assert_eq!(layout.files(), before - 2);
    for kept in ["child", "shared", "listed", "noticed", "plain content"] {
        assert!(layout.has(kept), "{kept}");
    }
    assert!(!layout.has("unreferenced"));
    // Without the referrers index, its attachment is removed.
    layout
        .delete(Tag::of_referrers(&child.digest).as_str())
        .await;
    assert!(freed(3)(layout.sweep().await));
    assert!(!layout.has("listed") && layout.has("noticed"));
    let deletion = layout
        .layouts
        .delete_manifest(&layout.repository, &noticed.digest)
        .await
        .expect("an answer");
    assert_eq!(deletion, Deletion::Deleted);
    assert!(freed(2)(layout.sweep().await));
}

#[tokio::test]
async fn sweep_keeps_named_manifests_of_the_caller_with_everything_they_reference() {
    let mut layout = SweptLayout::new();
    layout.image(Some("1"), "one").await;
    let child = layout.image(None, "child").await;
    let pinned = layout.index(None, &[&child]).await;
    layout.image(None, "unreferenced").await;
    layout.age();
    layout
        .keep
        .extend([pinned.digest.clone(), Digest::sha256(b"never there")]);
    assert!(freed(2)(layout.sweep().await));
    assert!(
        layout.has("child")
            && layout.file(&child.digest).exists()
            && layout.file(&pinned.digest).exists()
    );
    assert!(!layout.has("unreferenced"));
    // The references of a corrupt manifest are unknown.
    fs::write(layout.file(&pinned.digest), "{}").expect("to write");
    layout.age();
    assert!(
        layout
            .sweep()
            .await
            .expect_err("it is corrupt")
            .contains("digest")
    );
    assert!(layout.has("child"));
    layout.keep.clear();
    assert!(freed(3)(layout.sweep().await));
    assert!(!layout.has("child"));
}

#[tokio::test]
async fn sweep_keeps_new_files_with_old_times_of_modification() {
    let layout = SweptLayout::new();
    layout.image(Some("1"), "one").await;
    layout.image(None, "arriving").await;
    for name in ["one", "arriving"] {
        let file = layout.file(&Digest::sha256(name.as_bytes()));
        let year = Duration::from_secs(365 * 24 * 3_600);
        // Like `rsync -a`: the time of the original is set after the file was written.
        File::options()
            .write(true)
            .open(&file)
            .and_then(|opened| opened.set_modified(modified(&file) - year))
            .expect("to set the time");
    }
    assert!(freed(0)(layout.sweep().await));
    assert!(layout.has("arriving"));
    layout.age();
    assert!(freed(2)(layout.sweep().await), "it is old by both times");
    assert!(!layout.has("arriving") && layout.has("one"));
}

#[tokio::test]
async fn sweep_keeps_claimed_content() {
    let layout = SweptLayout::new();
    let (old, shared) = (layout.image(None, "old").await, layout.blob("shared").await);
    let index = layout.index(None, &[&old]).await;
    let claimed = layout.blob("claimed").await;
    let put = layout.blob("put again").await;
    layout.age();

    // All are unreferenced, and used again like in a copy.
    assert!(
        layout
            .layouts
            .claim_blob(&layout.repository, &claimed)
            .await
            .expect("an answer")
    );
    layout.blob("put again").await;
    assert!(freed(4)(layout.sweep().await));
    assert!(layout.has("claimed") && layout.has("put again"));
    assert!(
        !layout
            .layouts
            .claim_manifest(&layout.repository, &index.digest)
            .await
            .expect("an answer"),
        "it was removed"
    );
    assert!(
        !layout
            .layouts
            .claim_blob(&layout.repository, &shared)
            .await
            .expect("an answer"),
        "it was removed"
    );
    assert_eq!(put.size, 9);

    // A manifest that is claimed or stored again protects everything that it references.
    let old = layout.image(None, "old").await;
    let index = layout.index(None, &[&old]).await;
    layout.age();
    assert!(
        layout
            .layouts
            .claim_manifest(&layout.repository, &index.digest)
            .await
            .expect("an answer")
    );
    assert!(
        freed(2)(layout.sweep().await),
        "the content that was claimed above is old now"
    );
    assert!(layout.has("old") && layout.has("shared") && layout.file(&old.digest).exists());
    layout.age();
    layout
        .layouts
        .put_manifest(&layout.repository, &index.digest.clone().into(), &index)
        .await
        .expect("to write");
    assert!(freed(0)(layout.sweep().await));
    layout
        .layouts
        .put_manifest(&layout.repository, &tag("1").into(), &index)
        .await
        .expect("to write");
    layout.age();
    assert!(freed(0)(layout.sweep().await));
}

#[tokio::test]
async fn sweep_keeps_content_that_was_just_linked_from_another_layout() {
    let (from, to) = (SweptLayout::new(), SweptLayout::new());
    let layer = from.blob("layer").await;
    from.age();
    to.blob("first").await;
    let content = InMemory(Bytes::from_static(b"layer"));
    let put = to
        .layouts
        .put_blob(&to.repository, &layer, &content, Some(&from.repository))
        .await
        .expect("to link");
    assert_eq!(put, BlobPut::Mounted);
    assert!(freed(0)(to.sweep().await));
    assert!(to.has("layer"));
}

#[tokio::test]
async fn sweep_is_skipped_while_there_is_a_writer() {
    let layout = SweptLayout::new();
    layout.image(None, "old").await;
    layout.age();
    let operation = LayoutOperation::new(&layout.repository, "write").expect("a layout");
    let writer = LayoutWriter::open(&operation).expect("a writer");
    assert_eq!(layout.sweep().await, Ok(SweepResult::Busy));
    drop(writer);
    let exclusive = LayoutWriter::exclusive(&operation)
        .expect("a lock")
        .expect("an exclusive writer");
    assert_eq!(layout.sweep().await, Ok(SweepResult::Busy));
    drop(exclusive);
    assert!(freed(3)(layout.sweep().await));
}

#[tokio::test]
async fn sweep_removes_nothing_from_a_layout_that_it_cannot_read() {
    let layout = SweptLayout::new();
    let image = layout.image(Some("1"), "one").await;
    layout.image(None, "old").await;
    let right = layout.document();
    let odd = layout.blob(r#"{"of":"a later version","layers":{}}"#).await;
    let schema_one = layout
        .blob(r#"{"schemaVersion":1,"name":"a","tag":"b"}"#)
        .await;
    let other_digests = layout
        .blob(r#"{"layers":[{"digest":"blake3:00","size":1}]}"#)
        .await;
    layout.age();
    let before = layout.files();
    let with_media_type = |descriptor: &Descriptor, text: &str| Descriptor {
        media_type: text.to_owned(),
        ..descriptor.clone()
    };
    for (entry, reason) in [
        (json!("no entry"), "`index.json`"),
        (
            json!({ "mediaType": "x", "digest": "blake3:00", "size": 1 }),
            "`index.json`",
        ),
        (json!(odd), "the content of"),
        (
            json!(with_media_type(&odd, media_type::OCI_MANIFEST)),
            "the content of",
        ),
        (json!(schema_one), "the content of"),
        (json!(other_digests), "the content of"),
        (json!(with_media_type(&other_digests, "")), "the content of"),
    ] {
        let mut document = right.clone();
        document["manifests"]
            .as_array_mut()
            .expect("a list")
            .push(entry.clone());
        layout.write_document(&document);
        let error = layout.sweep().await.expect_err("it cannot be read");
        assert!(
            error.contains("nothing was removed") && error.contains(reason),
            "{entry}: {error}"
        );
    }
    layout.write_document(&right);
    fs::write(layout.path("index.json"), "{").expect("to write");
    assert!(layout.sweep().await.is_err());
    fs::remove_file(layout.path("index.json")).expect("to remove");
    assert!(
        freed(0)(layout.sweep().await),
        "the references of its index are unknown"
    );
    layout.write_document(&right);
    fs::write(layout.file(&image.digest), "x".repeat(image.bytes.len())).expect("to write");
    assert!(
        layout
            .sweep()
            .await
            .expect_err("it is corrupt")
            .contains("digest")
    );
    assert_eq!(layout.files(), before);
}

#[tokio::test]
async fn sweep_removes_only_content_files() {
    let layout = SweptLayout::new();
    layout.blob("old").await;
    let outside = layout.above.path().join("outside");
    fs::write(&outside, "mine").expect("to write");
    symlink(&outside, layout.file(&Digest::sha256(b"link"))).expect("to link");
    fs::create_dir(layout.file(&Digest::sha256(b"directory"))).expect("to create");
    fs::write(layout.path("blobs/sha256/notes.txt"), "mine").expect("to write");
    fs::create_dir(layout.path("blobs/blake3")).expect("to create");
    fs::write(layout.path("blobs/blake3/00"), "mine").expect("to write");
    for name in ["blobs/sha256/notes.txt", "blobs/blake3/00"] {
        make_older(&layout.path(name), 2 * HOUR);
    }
    make_older(&layout.file(&Digest::sha256(b"old")), 2 * HOUR);
    make_older(&outside, 2 * HOUR);
    assert!(freed(1)(layout.sweep().await));
    assert_eq!(layout.files(), 3);
    assert!(layout.path("blobs/blake3/00").exists() && outside.exists());

    // The references of a symbolic link to a manifest count.
    let layout = SweptLayout::new();
    let image = layout.image(Some("1"), "one").await;
    fs::rename(layout.file(&image.digest), &outside).expect("to move");
    let outside = layout.above.path().join("moved");
    fs::write(&outside, &image.bytes).expect("to write");
    symlink(&outside, layout.file(&image.digest)).expect("to link");
    for content in ["one", "shared"] {
        make_older(&layout.file(&Digest::sha256(content.as_bytes())), 2 * HOUR);
    }
    assert!(freed(0)(layout.sweep().await));
}
