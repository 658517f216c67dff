use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::operation::Operation;
use super::writer::Writer;
use super::*;
use crate::model::Algorithm;
use crate::model::media_type;
use crate::registry::memory::{self, MemoryPlace, SparseIndexes};
use crate::registry::{ImageStores, InMemory};
use crate::transfer::{Attachments, CopyRequest, ExpectedTag, PlatformFilter, Transfer};

const HOUR: Duration = Duration::from_secs(3_600);

/// A layout directory, and what was put into it.
struct Scratch {
    above: TempDir,
    layouts: Layouts,
    repository: Repository,
    /// What is kept without a name.
    keep: BTreeSet<Digest>,
}

impl Scratch {
    fn new() -> Scratch {
        let above = tempfile::tempdir().expect("a directory");
        let repository = Repository::Layout {
            directory: above.path().join("layout"),
        };
        Scratch {
            above,
            layouts: Layouts::default(),
            repository,
            keep: BTreeSet::new(),
        }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.above.path().join("layout").join(name)
    }

    fn file(&self, digest: &Digest) -> std::path::PathBuf {
        self.path("blobs")
            .join(digest.algorithm().name())
            .join(digest.hex())
    }

    async fn blob(&self, content: &str) -> Descriptor {
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

    async fn manifest(&self, tag: Option<&str>, text: Value) -> Manifest {
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

    /// Puts an image with a layer of its own.
    async fn image(&self, tag: Option<&str>, content: &str) -> Manifest {
        let layers = [self.blob("shared").await, self.blob(content).await];
        self.manifest(
            tag,
            json!({ "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "layers": layers }),
        )
        .await
    }

    async fn index(&self, tag: Option<&str>, children: &[&Manifest]) -> Manifest {
        let children: Vec<Descriptor> = children.iter().map(|child| child.descriptor()).collect();
        self.manifest(tag, json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": children })).await
    }

    /// Makes every file so old that nothing but a reference keeps it.
    fn age(&self) {
        self.age_by(HOUR + Duration::from_secs(60));
    }

    fn age_by(&self, age: Duration) {
        for algorithm in ["sha256", "sha512"] {
            for entry in fs::read_dir(self.path("blobs").join(algorithm))
                .into_iter()
                .flatten()
            {
                make_older(&entry.expect("an entry").path(), age);
            }
        }
    }

    async fn sweep(&self) -> Result<Swept, String> {
        self.layouts
            .sweep(&self.repository, &self.keep)
            .await
            .map_err(|error| crate::error::chain(&error))
    }

    async fn delete(&self, name: &str) {
        let deletion = self
            .layouts
            .delete_tag(&self.repository, &tag(name))
            .await
            .expect("an answer");
        assert_eq!(deletion, Deletion::Done, "{name}");
    }

    fn files(&self) -> usize {
        fs::read_dir(self.path("blobs/sha256"))
            .expect("a directory")
            .count()
    }

    fn has(&self, content: &str) -> bool {
        self.file(&Digest::sha256(content.as_bytes())).exists()
    }

    fn document(&self) -> Value {
        serde_json::from_slice(&fs::read(self.path("index.json")).expect("index.json"))
            .expect("JSON")
    }

    fn write_document(&self, document: &Value) {
        fs::write(self.path("index.json"), document.to_string()).expect("to write");
    }
}

fn tag(text: &str) -> Tag {
    text.parse().expect("a tag")
}

fn modified(path: &Path) -> SystemTime {
    fs::metadata(path)
        .and_then(|found| found.modified())
        .expect("a time")
}

fn make_older(path: &Path, age: Duration) {
    File::options()
        .write(true)
        .open(path)
        .and_then(|file| file.set_modified(modified(path) - age))
        .expect("to change the time");
}

fn freed(files: usize) -> impl Fn(Result<Swept, String>) -> bool {
    move |swept| matches!(swept, Ok(Swept::Freed { files: found, .. }) if found == files)
}

#[tokio::test]
async fn what_a_deleted_tag_alone_led_to_is_removed_after_an_hour() {
    let scratch = Scratch::new();
    scratch.image(Some("1"), "one").await;
    scratch.image(Some("2"), "two").await;
    scratch.delete("1").await;
    assert!(freed(0)(scratch.sweep().await), "it is young");
    scratch.age_by(HOUR - Duration::from_secs(60));
    assert!(freed(0)(scratch.sweep().await), "it is still young");
    scratch.age_by(Duration::from_secs(120));
    let manifest = scratch.files();
    let Ok(Swept::Freed { files, bytes }) = scratch.sweep().await else {
        panic!("it was swept")
    };
    assert_eq!((files, scratch.files()), (2, manifest - 2));
    assert!(bytes > 3 && !scratch.has("one") && scratch.has("two") && scratch.has("shared"));
    assert!(freed(0)(scratch.sweep().await));
    scratch.image(Some("1"), "one").await;
}

#[tokio::test]
async fn everything_that_a_name_leads_to_is_kept() {
    let scratch = Scratch::new();
    let child = scratch.image(None, "child").await;
    let inner = scratch.index(None, &[&child]).await;
    scratch.index(Some("nested"), &[&inner]).await;
    // An attachment: by the list that clients keep, and as other tools write it.
    let signature = |content: Descriptor| {
        let subject = child.descriptor();
        json!({ "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "layers": [content], "subject": subject })
    };
    let listed = scratch
        .manifest(None, signature(scratch.blob("listed").await))
        .await;
    scratch
        .index(Some(Tag::of_referrers(&child.digest).as_str()), &[&listed])
        .await;
    let noticed = scratch
        .manifest(None, signature(scratch.blob("noticed").await))
        .await;
    let mut document = scratch.document();
    document["manifests"]
        .as_array_mut()
        .expect("a list")
        .push(json!(noticed.descriptor()));
    scratch.write_document(&document);
    // An index some of whose children were never copied, and one that lists plain content.
    let cache = scratch.blob("plain content").await;
    let absent = Descriptor::new(media_type::OCI_MANIFEST, Digest::sha256(b"absent"), 6);
    scratch
        .manifest(
            Some("cache"),
            json!({ "schemaVersion": 2, "manifests": [cache, absent] }),
        )
        .await;
    scratch.image(None, "nobody's").await;

    scratch.age();
    let before = scratch.files();
    assert!(freed(2)(scratch.sweep().await));
    assert_eq!(scratch.files(), before - 2);
    for kept in ["child", "shared", "listed", "noticed", "plain content"] {
        assert!(scratch.has(kept), "{kept}");
    }
    assert!(!scratch.has("nobody's"));
    // The list goes, and what only it led to.
    scratch
        .delete(Tag::of_referrers(&child.digest).as_str())
        .await;
    assert!(freed(3)(scratch.sweep().await));
    assert!(!scratch.has("listed") && scratch.has("noticed"));
    let deletion = scratch
        .layouts
        .delete_manifest(&scratch.repository, &noticed.digest)
        .await
        .expect("an answer");
    assert_eq!(deletion, Deletion::Done);
    assert!(freed(2)(scratch.sweep().await));
}

#[tokio::test]
async fn what_is_to_be_kept_is_kept_without_a_name_and_with_all_that_it_leads_to() {
    let mut scratch = Scratch::new();
    scratch.image(Some("1"), "one").await;
    let child = scratch.image(None, "child").await;
    let pinned = scratch.index(None, &[&child]).await;
    scratch.image(None, "nobody's").await;
    scratch.age();
    scratch
        .keep
        .extend([pinned.digest.clone(), Digest::sha256(b"never there")]);
    assert!(freed(2)(scratch.sweep().await));
    assert!(
        scratch.has("child")
            && scratch.file(&child.digest).exists()
            && scratch.file(&pinned.digest).exists()
    );
    assert!(!scratch.has("nobody's"));
    // What it leads to is not known when it is damaged.
    fs::write(scratch.file(&pinned.digest), "{}").expect("to write");
    scratch.age();
    assert!(
        scratch
            .sweep()
            .await
            .expect_err("it is damaged")
            .contains("digest")
    );
    assert!(scratch.has("child"));
    scratch.keep.clear();
    assert!(freed(3)(scratch.sweep().await));
    assert!(!scratch.has("child"));
}

#[tokio::test]
async fn what_somebody_is_about_to_refer_to_is_kept() {
    let scratch = Scratch::new();
    let (old, shared) = (
        scratch.image(None, "old").await,
        scratch.blob("shared").await,
    );
    let index = scratch.index(None, &[&old]).await;
    let claimed = scratch.blob("claimed").await;
    let put = scratch.blob("put again").await;
    scratch.age();

    // All are unreferenced; each is used again as a copy does.
    assert!(
        scratch
            .layouts
            .claim_blob(&scratch.repository, &claimed)
            .await
            .expect("an answer")
    );
    scratch.blob("put again").await;
    assert!(freed(4)(scratch.sweep().await));
    assert!(scratch.has("claimed") && scratch.has("put again"));
    assert!(
        !scratch
            .layouts
            .claim_manifest(&scratch.repository, &index.digest)
            .await
            .expect("an answer"),
        "it is gone"
    );
    assert!(
        !scratch
            .layouts
            .claim_blob(&scratch.repository, &shared)
            .await
            .expect("an answer"),
        "it is gone"
    );
    assert_eq!(put.size, 9);

    // A manifest that is claimed, or stored again, keeps everything below it, however old that is.
    let old = scratch.image(None, "old").await;
    let index = scratch.index(None, &[&old]).await;
    scratch.age();
    assert!(
        scratch
            .layouts
            .claim_manifest(&scratch.repository, &index.digest)
            .await
            .expect("an answer")
    );
    assert!(
        freed(2)(scratch.sweep().await),
        "what was claimed above is old now"
    );
    assert!(scratch.has("old") && scratch.has("shared") && scratch.file(&old.digest).exists());
    scratch.age();
    scratch
        .layouts
        .put_manifest(&scratch.repository, &index.digest.clone().into(), &index)
        .await
        .expect("to write");
    assert!(freed(0)(scratch.sweep().await));
    scratch
        .layouts
        .put_manifest(&scratch.repository, &tag("1").into(), &index)
        .await
        .expect("to write");
    scratch.age();
    assert!(freed(0)(scratch.sweep().await));
}

#[tokio::test]
async fn content_that_is_linked_from_another_layout_is_young() {
    let (from, to) = (Scratch::new(), Scratch::new());
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
async fn nothing_is_swept_while_somebody_writes() {
    let scratch = Scratch::new();
    scratch.image(None, "old").await;
    scratch.age();
    let operation = Operation::new(&scratch.repository, "write").expect("a layout");
    let writer = Writer::open(&operation).expect("a writer");
    assert_eq!(scratch.sweep().await, Ok(Swept::Postponed));
    drop(writer);
    let alone = Writer::alone(&operation)
        .expect("a lock")
        .expect("the only writer");
    assert_eq!(scratch.sweep().await, Ok(Swept::Postponed));
    drop(alone);
    assert!(freed(3)(scratch.sweep().await));
}

#[tokio::test]
async fn a_layout_that_is_not_understood_is_not_swept() {
    let scratch = Scratch::new();
    let image = scratch.image(Some("1"), "one").await;
    scratch.image(None, "old").await;
    let right = scratch.document();
    let odd = scratch
        .blob(r#"{"of":"a later version","layers":{}}"#)
        .await;
    let schema_one = scratch
        .blob(r#"{"schemaVersion":1,"name":"a","tag":"b"}"#)
        .await;
    let other_digests = scratch
        .blob(r#"{"layers":[{"digest":"blake3:00","size":1}]}"#)
        .await;
    scratch.age();
    let before = scratch.files();
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
        scratch.write_document(&document);
        let error = scratch.sweep().await.expect_err("it is not understood");
        assert!(
            error.contains("nothing was removed") && error.contains(reason),
            "{entry}: {error}"
        );
    }
    scratch.write_document(&right);
    fs::write(scratch.path("index.json"), "{").expect("to write");
    assert!(scratch.sweep().await.is_err());
    fs::remove_file(scratch.path("index.json")).expect("to remove");
    assert!(
        freed(0)(scratch.sweep().await),
        "what its index named is not known"
    );
    scratch.write_document(&right);
    fs::write(scratch.file(&image.digest), "x".repeat(image.bytes.len())).expect("to write");
    assert!(
        scratch
            .sweep()
            .await
            .expect_err("it is damaged")
            .contains("digest")
    );
    assert_eq!(scratch.files(), before);
}

#[tokio::test]
async fn only_files_that_are_content_are_removed() {
    let scratch = Scratch::new();
    scratch.blob("old").await;
    let outside = scratch.above.path().join("outside");
    fs::write(&outside, "mine").expect("to write");
    symlink(&outside, scratch.file(&Digest::sha256(b"link"))).expect("to link");
    fs::create_dir(scratch.file(&Digest::sha256(b"directory"))).expect("to create");
    fs::write(scratch.path("blobs/sha256/notes.txt"), "mine").expect("to write");
    fs::create_dir(scratch.path("blobs/blake3")).expect("to create");
    fs::write(scratch.path("blobs/blake3/00"), "mine").expect("to write");
    for name in ["blobs/sha256/notes.txt", "blobs/blake3/00"] {
        make_older(&scratch.path(name), 2 * HOUR);
    }
    make_older(&scratch.file(&Digest::sha256(b"old")), 2 * HOUR);
    make_older(&outside, 2 * HOUR);
    assert!(freed(1)(scratch.sweep().await));
    assert_eq!(scratch.files(), 3);
    assert!(scratch.path("blobs/blake3/00").exists() && outside.exists());

    // A manifest that is a link still leads to what it names.
    let scratch = Scratch::new();
    let image = scratch.image(Some("1"), "one").await;
    fs::rename(scratch.file(&image.digest), &outside).expect("to move");
    let outside = scratch.above.path().join("moved");
    fs::write(&outside, &image.bytes).expect("to write");
    symlink(&outside, scratch.file(&image.digest)).expect("to link");
    for content in ["one", "shared"] {
        make_older(&scratch.file(&Digest::sha256(content.as_bytes())), 2 * HOUR);
    }
    assert!(freed(0)(scratch.sweep().await));
}

#[tokio::test]
async fn a_tag_is_deleted_and_no_other() {
    let scratch = Scratch::new();
    let image = scratch.image(Some("1"), "one").await;
    scratch
        .layouts
        .put_manifest(&scratch.repository, &tag("latest").into(), &image)
        .await
        .expect("to write");
    let mut document = scratch.document();
    let entries = document["manifests"].as_array_mut().expect("a list");
    let named = |name: &str, digest: &Digest| json!({ "mediaType": media_type::OCI_MANIFEST, "digest": digest, "size": 1, "annotations": { "org.opencontainers.image.ref.name": name } });
    let other = Digest::sha256(b"other");
    entries.push(json!({ "unknown": true }));
    entries.push(named("docker.io/library/app:1", &image.digest));
    entries.extend([
        named("a.example/x:2", &image.digest),
        named("b.example/x:2", &other),
    ]);
    scratch.write_document(&document);

    scratch.delete("1").await;
    let names = |document: Value| {
        let entries = document["manifests"].as_array().expect("a list").clone();
        entries
            .iter()
            .map(|entry| entry["annotations"]["org.opencontainers.image.ref.name"].to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        names(scratch.document()),
        [
            r#""latest""#,
            "null",
            r#""a.example/x:2""#,
            r#""b.example/x:2""#
        ]
    );
    let deletion = scratch
        .layouts
        .delete_tag(&scratch.repository, &tag("1"))
        .await
        .expect("an answer");
    assert_eq!(deletion, Deletion::WasAbsent);
    // Which of two images of one name is meant, nobody knows.
    let error = scratch
        .layouts
        .delete_tag(&scratch.repository, &tag("2"))
        .await
        .expect_err("two images");
    assert!(
        error.kind == ItemErrorKind::Malformed
            && crate::error::chain(&error).contains("several entries"),
        "{error}"
    );
    assert_eq!(names(scratch.document()).len(), 4);
    // What has a name keeps it, a tag or not, when the manifest is deleted.
    let mut document = scratch.document();
    let entries = document["manifests"].as_array_mut().expect("a list");
    entries.extend([
        named("team/rel", &image.digest),
        json!(image.descriptor()),
        json!(image.descriptor()),
    ]);
    scratch.write_document(&document);
    let deletion = scratch
        .layouts
        .delete_manifest(&scratch.repository, &image.digest)
        .await
        .expect("an answer");
    assert_eq!(deletion, Deletion::StillNamed);
    let left = [
        r#""latest""#,
        "null",
        r#""a.example/x:2""#,
        r#""b.example/x:2""#,
        r#""team/rel""#,
    ];
    assert_eq!(names(scratch.document()), left);
}

#[tokio::test]
async fn deleting_from_what_is_not_there_makes_nothing() {
    let scratch = Scratch::new();
    let digest = Digest::sha256(b"x");
    assert_eq!(
        scratch
            .layouts
            .delete_tag(&scratch.repository, &tag("1"))
            .await
            .expect("an answer"),
        Deletion::WasAbsent
    );
    assert_eq!(
        scratch
            .layouts
            .delete_manifest(&scratch.repository, &digest)
            .await
            .expect("an answer"),
        Deletion::WasAbsent
    );
    assert!(
        !scratch
            .layouts
            .claim_manifest(&scratch.repository, &digest)
            .await
            .expect("an answer")
    );
    assert_eq!(
        scratch.sweep().await,
        Ok(Swept::Freed { files: 0, bytes: 0 })
    );
    assert!(!scratch.path("").exists());
}

#[tokio::test]
async fn layouts_beside_one_are_found_and_nothing_else() {
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
        .repositories_beside(&at("bases/any"))
        .await
        .expect("an answer")
        .expect("a list");
    assert_eq!(
        found,
        ["bases/alpine", "bases/lang/go", "bases/lang/go/inside"].map(at)
    );
    assert_eq!(
        layouts
            .repositories_beside(&at("absent/any"))
            .await
            .expect("an answer"),
        Some(Vec::new())
    );
}

#[tokio::test]
async fn what_refers_to_an_image_is_found_by_the_entries_of_the_index() {
    let scratch = Scratch::new();
    let image = scratch.image(Some("1"), "one").await;
    let config = Descriptor {
        media_type: "application/vnd.example.config".to_owned(),
        ..scratch.blob("{}").await
    };
    let attachment = |text: &str| {
        json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": config, "layers": [],
            "subject": image.descriptor(), "annotations": { "what": text },
        })
    };
    let signature = scratch.manifest(None, attachment("a signature")).await;
    let tagged = scratch.manifest(Some("sbom"), attachment("an SBOM")).await;
    let unlisted = scratch.manifest(None, attachment("in no index")).await;
    let damaged = scratch.manifest(None, attachment("damaged")).await;
    let text = scratch.blob("no manifest").await;
    let mut document = scratch.document();
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
    scratch.write_document(&document);
    fs::write(scratch.file(&damaged.digest), "damaged").expect("to write");

    let find = async |digest: &Digest| {
        scratch
            .layouts
            .referrers(&scratch.repository, digest)
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

    // Each is read once; what arrives later is seen.
    fs::write(scratch.file(&signature.digest), "not read again").expect("to write");
    assert_eq!(find(&image.digest).await, found);
    fs::write(scratch.file(&damaged.digest), &damaged.bytes).expect("to write");
    assert_eq!(
        find(&image.digest).await,
        Referrers::Partial(vec![
            tagged.referrer(),
            signature.referrer(),
            damaged.referrer()
        ])
    );
    let nowhere = Repository::Layout {
        directory: scratch.path("absent"),
    };
    assert_eq!(
        scratch
            .layouts
            .referrers(&nowhere, &image.digest)
            .await
            .expect("an answer"),
        Referrers::Partial(Vec::new())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_into_a_layout_that_is_swept_meanwhile_is_whole() {
    let from: Repository = "registry/app".parse().expect("a repository");
    let parsed = |text: Value| {
        Manifest::parse(Bytes::from(text.to_string()), None, Algorithm::Sha256).expect("a manifest")
    };
    let image = |layer: &Descriptor| {
        parsed(
            json!({ "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "layers": [layer] }),
        )
    };
    let index = |children: &[&Manifest]| {
        let children: Vec<Descriptor> = children.iter().map(|child| child.descriptor()).collect();
        parsed(
            json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": children }),
        )
    };
    for _ in 0..4 {
        let (source, scratch) = (
            Arc::new(MemoryPlace::new(SparseIndexes::Allowed)),
            Scratch::new(),
        );
        // What is at the target from earlier, old and without a name: an image, and the layer of
        // another.
        let mut layers = Vec::new();
        for content in ["whole", "layer only", "last"] {
            let layer = Descriptor::new(
                "x",
                Digest::sha256(content.as_bytes()),
                content.len() as u64,
            );
            source
                .put_blob(&from, &layer, &InMemory(Bytes::from(content)), None)
                .await
                .expect("to write");
            layers.push(layer);
        }
        let [whole, other, last] = [0, 1, 2].map(|number| image(&layers[number]));
        for content in ["whole", "layer only"] {
            scratch.blob(content).await;
        }
        scratch
            .layouts
            .put_manifest(&scratch.repository, &whole.digest.clone().into(), &whole)
            .await
            .expect("to write");
        scratch.age();

        let nested = index(&[&last]);
        let root = index(&[&whole, &other, &nested]);
        for manifest in [&whole, &other, &last, &nested] {
            source
                .put_manifest(&from, &manifest.digest.clone().into(), manifest)
                .await
                .expect("to write");
        }
        source
            .put_manifest(&from, &tag("1").into(), &root)
            .await
            .expect("to write");
        let operation = Operation::new(&scratch.repository, "sweep").expect("a layout");
        let moment = last.digest.to_string();
        source.fail_when(move |call| {
            // By now it was seen what is there, and nothing refers to it yet.
            if call.operation == memory::Operation::Manifest && call.subject == moment {
                std::thread::sleep(Duration::from_millis(50));
                sweep::sweep(&operation, &BTreeSet::new()).expect("to sweep");
            }
            None
        });
        let transfer = Transfer::new(
            source.stores(),
            ImageStores::single(Arc::new(scratch.layouts.clone())),
            crate::progress::silent(),
        );
        let (filter, name) = (PlatformFilter::All, tag("1"));
        let (reference, attachments) = (name.clone().into(), Attachments::Skip);
        let request = CopyRequest {
            item: "1",
            from: &from,
            reference,
            to: &scratch.repository,
            tag: &name,
            expected: ExpectedTag::Absent,
            filter: &filter,
            attachments,
        };
        transfer.copy(request).await.expect("a copy");
        let left: Vec<&Digest> = layers
            .iter()
            .map(|layer| &layer.digest)
            .chain([&whole, &other, &last, &nested, &root].map(|manifest| &manifest.digest))
            .collect();
        assert!(left.into_iter().all(|digest| scratch.file(digest).exists()));
    }
}
