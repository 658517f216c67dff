//! Test images, identical in every run.
//!
//! Contents are created once in a directory, the pool, and hard-linked from there into the storage
//! of a registry. This module does not depend on tools or measurements.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use flate2::Compression;
use flate2::write::GzEncoder;
use imglife::model::media_type;
use imglife::model::{Algorithm, Digest, Hasher};
use serde_json::{Value, json};

use crate::BenchResult;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// Size of each file in a layer, in bytes; the last one may be smaller.
const FILE_SIZE: u64 = MIB;

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// Dimensions of a corpus. Sizes are in bytes. Each platform has its own layers.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    /// First part of the repositories' names. It also seeds the layers, so that corpora of
    /// different names have different layers.
    pub(crate) name: &'static str,
    pub(crate) repositories: usize,
    pub(crate) tags: usize,
    pub(crate) platforms: &'static [&'static str],
    /// Sizes of the layers that all images share.
    pub(crate) shared: &'static [u64],
    /// Size of a layer that the tags of one repository share.
    pub(crate) common: Option<u64>,
    /// Size of the layer that is unique to each tag.
    pub(crate) own: u64,
}

const TWO: &[&str] = &["linux/amd64", "linux/arm64"];

impl Shape {
    /// 10 repositories of 5 tags for 2 platforms: 1.07 GB.
    pub(crate) const MIRROR: Shape = Shape {
        name: "mirror",
        repositories: 10,
        tags: 5,
        platforms: TWO,
        shared: &[40 * MIB],
        common: Some(20 * MIB),
        own: 54 * MIB / 10,
    };
    /// Same counts as [`Shape::MIRROR`] with a twentieth of the bytes.
    pub(crate) const SMALL_MIRROR: Shape = Shape {
        shared: &[2 * MIB],
        common: Some(MIB),
        own: 270 * KIB,
        name: "small-mirror",
        ..Shape::MIRROR
    };
    /// Many small images that share most of their layers.
    pub(crate) const MANY: Shape = Shape {
        name: "many",
        repositories: 100,
        tags: 3,
        platforms: TWO,
        shared: &[256 * KIB, 64 * KIB, 16 * KIB, 4 * KIB],
        common: None,
        own: 8 * KIB,
    };
    /// [`Shape::MANY`] with fewer repositories.
    pub(crate) const FEWER: Shape = Shape {
        name: "fewer",
        repositories: 20,
        ..Shape::MANY
    };
    /// One image of one large layer.
    pub(crate) const LARGE: Shape = Shape {
        name: "large",
        repositories: 1,
        tags: 1,
        platforms: &["linux/amd64"],
        shared: &[],
        common: None,
        own: 1024 * MIB,
    };
    /// Many tags, each a different and very small image.
    pub(crate) const TAGS: Shape = Shape {
        name: "tags",
        repositories: 1,
        tags: 2000,
        platforms: &["linux/amd64"],
        shared: &[4 * KIB],
        common: None,
        own: KIB,
    };
    /// Base image for four platforms.
    pub(crate) const BASE: Shape = Shape {
        name: "base",
        repositories: 1,
        tags: 1,
        platforms: &["linux/amd64", "linux/arm64", "linux/arm/v7", "linux/s390x"],
        shared: &[],
        common: None,
        own: 20 * MIB,
    };
}

/// Descriptor of a blob or manifest; the size is in bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Content {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

/// Image of one platform.
#[derive(Clone)]
pub(crate) struct Part {
    pub(crate) manifest: Content,
    /// Configuration and layers.
    pub(crate) blobs: Vec<Content>,
}

#[derive(Clone)]
pub(crate) struct Image {
    pub(crate) tag: String,
    /// `None` for an image of one platform: the tag then refers to its manifest.
    index: Option<Content>,
    pub(crate) parts: Vec<Part>,
}

impl Image {
    /// Returns the manifest or index that the tag refers to.
    pub(crate) fn top(&self) -> &Content {
        self.index.as_ref().unwrap_or(&self.parts[0].manifest)
    }

    pub(crate) fn manifests(&self) -> impl Iterator<Item = &Content> {
        self.index
            .iter()
            .chain(self.parts.iter().map(|part| &part.manifest))
    }

    pub(crate) fn blobs(&self) -> impl Iterator<Item = &Content> {
        self.parts.iter().flat_map(|part| &part.blobs)
    }
}

pub(crate) struct Repository {
    pub(crate) path: String,
    pub(crate) images: Vec<Image>,
}

impl Repository {
    pub(crate) fn manifests(&self) -> BTreeSet<&Content> {
        self.images.iter().flat_map(Image::manifests).collect()
    }

    pub(crate) fn blobs(&self) -> BTreeSet<&Content> {
        self.images.iter().flat_map(Image::blobs).collect()
    }
}

pub(crate) struct Corpus {
    pool: PathBuf,
    pub(crate) repositories: Vec<Repository>,
}

/// Layer in the pool.
struct Layer {
    content: Content,
    /// Digest of the uncompressed archive.
    unpacked: String,
}

impl Corpus {
    /// Returns the images of a shape; those missing from the pool are created. In the first
    /// `changed` repositories the first tag refers to a different image.
    pub(crate) fn make(pool: &Path, shape: &Shape, changed: usize) -> BenchResult<Corpus> {
        fs::create_dir_all(pool)?;
        let images: Vec<(usize, usize, u32)> = (0..shape.repositories)
            .flat_map(|repository| {
                (0..shape.tags)
                    .map(move |tag| (repository, tag, u32::from(tag == 0 && repository < changed)))
            })
            .collect();
        let wanted: BTreeSet<(String, u64)> = images
            .iter()
            .flat_map(|&(repository, tag, revision)| {
                shape
                    .platforms
                    .iter()
                    .flat_map(move |platform| layers(shape, platform, repository, tag, revision))
            })
            .collect();
        make_layers(pool, &wanted.into_iter().collect::<Vec<_>>())?;
        let mut corpus = Corpus {
            pool: pool.to_owned(),
            repositories: Vec::new(),
        };
        for (repository, tag, revision) in images {
            if tag == 0 {
                let path = format!("{}/app{repository:03}", shape.name);
                corpus.repositories.push(Repository {
                    path,
                    images: Vec::new(),
                });
            }
            let image = corpus.image(shape, repository, tag, revision)?;
            if let Some(last) = corpus.repositories.last_mut() {
                last.images.push(image);
            }
        }
        Ok(corpus)
    }

    fn image(
        &self,
        shape: &Shape,
        repository: usize,
        tag: usize,
        revision: u32,
    ) -> BenchResult<Image> {
        // Dates in the past, like those of a mirror that is some years old.
        let created = format!(
            "20{:02}-{:02}-{:02}T06:00:{revision:02}Z",
            15 + tag % 8,
            1 + tag % 12,
            1 + tag % 28
        );
        let (mut parts, mut entries) = (Vec::new(), Vec::new());
        for platform in shape.platforms {
            let mut words = platform.split('/');
            let mut named = json!({ "architecture": "", "os": words.next() });
            named["architecture"] = json!(words.next());
            if let Some(variant) = words.next() {
                named["variant"] = json!(variant);
            }
            let layers = layers(shape, platform, repository, tag, revision);
            let layers: Vec<Layer> = layers
                .iter()
                .map(|(key, size)| find_or_create_layer(&self.pool, key, *size))
                .collect::<BenchResult<_>>()?;
            let mut config = named.clone();
            config["created"] = json!(created);
            config["config"] = json!({ "Cmd": ["/bin/sh"], "Labels": { "org.opencontainers.image.created": created } });
            config["rootfs"] = json!({ "type": "layers", "diff_ids": layers.iter().map(|layer| &layer.unpacked).collect::<Vec<_>>() });
            config["history"] = layers
                .iter()
                .map(|_| json!({ "created": created, "created_by": "RUN true" }))
                .collect();
            let config = self.add_to_pool(config.to_string().as_bytes())?;
            let described: Vec<Value> = layers
                .iter()
                .map(|layer| descriptor(LAYER, &layer.content))
                .collect();
            let manifest = json!({
                "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": descriptor(CONFIG, &config), "layers": described,
            });
            let manifest = self.add_to_pool(manifest.to_string().as_bytes())?;
            let mut entry = descriptor(media_type::OCI_MANIFEST, &manifest);
            entry["platform"] = named;
            entries.push(entry);
            let blobs = std::iter::once(config)
                .chain(layers.into_iter().map(|layer| layer.content))
                .collect();
            parts.push(Part { manifest, blobs });
        }
        let index =
            json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": entries });
        let index = if parts.len() > 1 {
            Some(self.add_to_pool(index.to_string().as_bytes())?)
        } else {
            None
        };
        Ok(Image {
            tag: format!("{}.{}.{}", 1 + tag / 1000, tag / 10 % 100, tag % 10),
            index,
            parts,
        })
    }

    /// Returns the number of tags in all repositories.
    pub(crate) fn tags(&self) -> usize {
        self.repositories
            .iter()
            .map(|repository| repository.images.len())
            .sum()
    }

    /// Writes the corpus into the storage of a registry. Each of its repositories must be empty or
    /// have the same tags.
    pub(crate) fn publish(&self, storage: &Path) -> BenchResult<()> {
        let root = storage.join("docker/registry/v2");
        let mut linked = HashSet::new();
        for repository in &self.repositories {
            let directory = root.join("repositories").join(&repository.path);
            for content in repository.blobs() {
                self.store(&root, &mut linked, content)?;
                write_link(&directory.join("_layers"), content)?;
            }
            for content in repository.manifests() {
                self.store(&root, &mut linked, content)?;
                write_link(&directory.join("_manifests/revisions"), content)?;
            }
            for image in &repository.images {
                let tag = directory.join("_manifests/tags").join(&image.tag);
                write_link(&tag.join("index"), image.top())?;
                let current = tag.join("current");
                fs::create_dir_all(&current)?;
                fs::write(current.join("link"), image.top().digest.as_str())?;
            }
        }
        Ok(())
    }

    fn store<'a>(
        &self,
        root: &Path,
        linked: &mut HashSet<&'a Digest>,
        content: &'a Content,
    ) -> BenchResult<()> {
        let stored = stored_path(root, &content.digest);
        if linked.insert(&content.digest) && !stored.exists() {
            fs::create_dir_all(stored.parent().ok_or("a file has a directory")?)?;
            fs::hard_link(self.pool.join(content.digest.hex()), stored)?;
        }
        Ok(())
    }

    /// Returns the total size in bytes; content that is shared counts once.
    pub(crate) fn bytes(&self) -> u64 {
        let all: BTreeSet<&Content> = self
            .repositories
            .iter()
            .flat_map(|repository| repository.manifests().into_iter().chain(repository.blobs()))
            .collect();
        all.into_iter().map(|content| content.size).sum()
    }

    /// Returns the sizes in bytes of all blobs and manifests by digest, and of tagged manifests
    /// also by `<repository>:<tag>`.
    pub(crate) fn sizes(&self) -> BTreeMap<String, u64> {
        let mut sizes = BTreeMap::new();
        for repository in &self.repositories {
            for content in repository.manifests().into_iter().chain(repository.blobs()) {
                sizes.insert(content.digest.to_string(), content.size);
            }
            for image in &repository.images {
                sizes.insert(
                    format!("{}:{}", repository.path, image.tag),
                    image.top().size,
                );
            }
        }
        sizes
    }

    /// Adds content to the pool.
    fn add_to_pool(&self, bytes: &[u8]) -> BenchResult<Content> {
        let content = Content {
            digest: Digest::sha256(bytes),
            size: bytes.len() as u64,
        };
        let path = self.pool.join(content.digest.hex());
        if !path.exists() {
            fs::write(path, bytes)?;
        }
        Ok(content)
    }
}

/// Returns the path of a blob's or manifest's file in the storage of a registry.
pub(crate) fn stored_path(root: &Path, digest: &Digest) -> PathBuf {
    root.join("blobs/sha256")
        .join(&digest.hex()[..2])
        .join(digest.hex())
        .join("data")
}

fn write_link(directory: &Path, content: &Content) -> BenchResult<()> {
    let directory = directory.join("sha256").join(content.digest.hex());
    fs::create_dir_all(&directory)?;
    fs::write(directory.join("link"), content.digest.as_str())?;
    Ok(())
}

fn descriptor(media_type: &str, content: &Content) -> Value {
    json!({ "mediaType": media_type, "digest": content.digest.as_str(), "size": content.size })
}

/// Returns the pool keys and sizes of an image's layers.
fn layers(
    shape: &Shape,
    platform: &str,
    repository: usize,
    tag: usize,
    revision: u32,
) -> Vec<(String, u64)> {
    let Shape { name, .. } = shape;
    let shared = shape
        .shared
        .iter()
        .enumerate()
        .map(|(at, size)| (format!("{name} {platform} shared {at}"), *size));
    let common = shape
        .common
        .map(|size| (format!("{name} {platform} common {repository}"), size));
    let own = (
        format!("{name} {platform} own {repository} {tag} {revision}"),
        shape.own,
    );
    shared.chain(common).chain([own]).collect()
}

/// Creates the layers that are missing from the pool, on all cores.
fn make_layers(pool: &Path, wanted: &[(String, u64)]) -> BenchResult<()> {
    let next = AtomicUsize::new(0);
    let work = || -> BenchResult<()> {
        while let Some((key, size)) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
            find_or_create_layer(pool, key, *size)?;
        }
        Ok(())
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| {
            worker
                .join()
                .map_err(|_| "a thread that creates layers panicked")?
        })
    })
}

/// Returns a layer from the pool; creates it if it is missing.
fn find_or_create_layer(pool: &Path, key: &str, size: u64) -> BenchResult<Layer> {
    let name = Digest::sha256(format!("{key} {size}").as_bytes());
    let note = pool.join(format!("{}.layer", name.hex()));
    if let Ok(text) = fs::read_to_string(&note)
        && let [digest, length, unpacked] = text.split(' ').collect::<Vec<_>>()[..]
    {
        return Ok(Layer {
            content: Content {
                digest: digest.parse()?,
                size: length.parse()?,
            },
            unpacked: unpacked.to_owned(),
        });
    }
    let path = pool.join(format!("{}.new", name.hex()));
    let packed = HashingWriter::new(BufWriter::with_capacity(1 << 20, File::create(&path)?));
    let unpacked = HashingWriter::new(GzEncoder::new(packed, Compression::none()));
    let mut archive = tar::Builder::new(unpacked);
    let seed = u64::from_str_radix(&name.hex()[..16], 16)?;
    let mut random = fastrand::Rng::with_seed(seed);
    let mut left = size;
    while left > 0 {
        let length = left.min(FILE_SIZE);
        let mut header = tar::Header::new_gnu();
        header.set_size(length);
        header.set_mode(0o644);
        let file = RandomBytes {
            left: length,
            random: random.fork(),
        };
        archive.append_data(
            &mut header,
            format!("usr/share/{}/{left}", &name.hex()[..12]),
            file,
        )?;
        left -= length;
    }
    let (packer, unpacked, _) = archive.into_inner()?.finish();
    let (mut file, digest, length) = packer.finish()?.finish();
    file.flush()?;
    fs::rename(path, pool.join(digest.hex()))?;
    fs::write(note, format!("{digest} {length} {unpacked}"))?;
    Ok(Layer {
        content: Content {
            digest,
            size: length,
        },
        unpacked: unpacked.to_string(),
    })
}

/// Reader of random, incompressible bytes.
struct RandomBytes {
    left: u64,
    random: fastrand::Rng,
}

impl Read for RandomBytes {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = buffer
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.random.fill(&mut buffer[..length]);
        self.left -= length as u64;
        Ok(length)
    }
}

/// Writer that passes bytes on and computes their digest and length.
struct HashingWriter<W> {
    inner: W,
    hasher: Hasher,
    length: u64,
}

impl<W> HashingWriter<W> {
    fn new(inner: W) -> HashingWriter<W> {
        HashingWriter {
            inner,
            hasher: Hasher::new(Algorithm::Sha256),
            length: 0,
        }
    }

    fn finish(self) -> (W, Digest, u64) {
        (self.inner, self.hasher.finish(), self.length)
    }
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
