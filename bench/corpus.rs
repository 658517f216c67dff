//! Images that are the same in every run. Owns what they hold, and how they get into the storage of
//! a registry: contents are made once below a directory, the pool, and become part of a storage by
//! hard links. Knows nothing of tools and measurements.

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

use crate::Outcome;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// The files within a layer, in bytes; the last is smaller.
const FILE: u64 = MIB;

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// What a corpus is like. Sizes are in bytes; each layer is one for each platform.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    /// The first part of the repositories' names, also of what makes layers differ from those of
    /// other corpora.
    pub(crate) name: &'static str,
    pub(crate) repositories: usize,
    pub(crate) tags: usize,
    pub(crate) platforms: &'static [&'static str],
    /// Layers that all images share.
    pub(crate) shared: &'static [u64],
    /// A layer that the tags of a repository share.
    pub(crate) common: Option<u64>,
    /// A layer of each tag.
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
    /// The same number of everything, a twentieth of the bytes.
    pub(crate) const SMALL_MIRROR: Shape = Shape {
        shared: &[2 * MIB],
        common: Some(MIB),
        own: 270 * KIB,
        name: "small-mirror",
        ..Shape::MIRROR
    };
    /// Images of a few files that share most of their layers.
    pub(crate) const MANY: Shape = Shape {
        name: "many",
        repositories: 100,
        tags: 3,
        platforms: TWO,
        shared: &[256 * KIB, 64 * KIB, 16 * KIB, 4 * KIB],
        common: None,
        own: 8 * KIB,
    };
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
    /// Tags that are images of their own, as small as can be.
    pub(crate) const TAGS: Shape = Shape {
        name: "tags",
        repositories: 1,
        tags: 2000,
        platforms: &["linux/amd64"],
        shared: &[4 * KIB],
        common: None,
        own: KIB,
    };
    /// A base of four platforms to build on.
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

/// Content with its digest and its size in bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Content {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

/// A manifest of one platform.
#[derive(Clone)]
pub(crate) struct Part {
    pub(crate) manifest: Content,
    /// Configuration and layers.
    pub(crate) blobs: Vec<Content>,
}

#[derive(Clone)]
pub(crate) struct Image {
    pub(crate) tag: String,
    /// `None` for an image of one platform, which has its manifest under the tag.
    index: Option<Content>,
    pub(crate) parts: Vec<Part>,
}

impl Image {
    /// Returns what the tag names.
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

/// A layer as it is noted in the pool.
struct Layer {
    content: Content,
    /// The digest of the archive before it was packed.
    unpacked: String,
}

impl Corpus {
    /// Makes the images of a shape, or finds them in the pool. The first tag of the first `changed`
    /// repositories is another image than without.
    pub(crate) fn make(pool: &Path, shape: &Shape, changed: usize) -> Outcome<Corpus> {
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

    fn image(&self, shape: &Shape, repository: usize, tag: usize, revision: u32) -> Outcome<Image> {
        // Days of the past, so that their ages are those of a mirror that is some years old.
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
                .map(|(key, size)| find_layer(&self.pool, key, *size))
                .collect::<Outcome<_>>()?;
            let mut config = named.clone();
            config["created"] = json!(created);
            config["config"] = json!({ "Cmd": ["/bin/sh"], "Labels": { "org.opencontainers.image.created": created } });
            config["rootfs"] = json!({ "type": "layers", "diff_ids": layers.iter().map(|layer| &layer.unpacked).collect::<Vec<_>>() });
            config["history"] = layers
                .iter()
                .map(|_| json!({ "created": created, "created_by": "RUN true" }))
                .collect();
            let config = self.keep(config.to_string().as_bytes())?;
            let described: Vec<Value> = layers
                .iter()
                .map(|layer| descriptor(LAYER, &layer.content))
                .collect();
            let manifest = json!({
                "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": descriptor(CONFIG, &config), "layers": described,
            });
            let manifest = self.keep(manifest.to_string().as_bytes())?;
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
            Some(self.keep(index.to_string().as_bytes())?)
        } else {
            None
        };
        Ok(Image {
            tag: format!("{}.{}.{}", 1 + tag / 1000, tag / 10 % 100, tag % 10),
            index,
            parts,
        })
    }

    /// Returns how many tags there are.
    pub(crate) fn tags(&self) -> usize {
        self.repositories
            .iter()
            .map(|repository| repository.images.len())
            .sum()
    }

    /// Puts the corpus into the storage of a registry, which then has exactly its tags for the
    /// repositories of it.
    pub(crate) fn publish(&self, storage: &Path) -> Outcome<()> {
        let root = storage.join("docker/registry/v2");
        let mut linked = HashSet::new();
        for repository in &self.repositories {
            let place = root.join("repositories").join(&repository.path);
            for content in repository.blobs() {
                self.store(&root, &mut linked, content)?;
                write_link(&place.join("_layers"), content)?;
            }
            for content in repository.manifests() {
                self.store(&root, &mut linked, content)?;
                write_link(&place.join("_manifests/revisions"), content)?;
            }
            for image in &repository.images {
                let tag = place.join("_manifests/tags").join(&image.tag);
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
    ) -> Outcome<()> {
        let stored = stored(root, &content.digest);
        if linked.insert(&content.digest) && !stored.exists() {
            fs::create_dir_all(stored.parent().ok_or("a file has a directory")?)?;
            fs::hard_link(self.pool.join(content.digest.hex()), stored)?;
        }
        Ok(())
    }

    /// Returns how many bytes it has, each content counted once.
    pub(crate) fn bytes(&self) -> u64 {
        let all: BTreeSet<&Content> = self
            .repositories
            .iter()
            .flat_map(|repository| repository.manifests().into_iter().chain(repository.blobs()))
            .collect();
        all.into_iter().map(|content| content.size).sum()
    }

    /// Returns the sizes of what can be written, by digest and, for tags, by `<repository>:<tag>`.
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

    /// Keeps content in the pool.
    fn keep(&self, bytes: &[u8]) -> Outcome<Content> {
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

/// Returns the file that holds a content in the storage of a registry.
pub(crate) fn stored(root: &Path, digest: &Digest) -> PathBuf {
    root.join("blobs/sha256")
        .join(&digest.hex()[..2])
        .join(digest.hex())
        .join("data")
}

fn write_link(directory: &Path, content: &Content) -> Outcome<()> {
    let directory = directory.join("sha256").join(content.digest.hex());
    fs::create_dir_all(&directory)?;
    fs::write(directory.join("link"), content.digest.as_str())?;
    Ok(())
}

fn descriptor(media_type: &str, content: &Content) -> Value {
    json!({ "mediaType": media_type, "digest": content.digest.as_str(), "size": content.size })
}

/// Returns the names and sizes of an image's layers.
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

/// Makes layers that the pool lacks, on all cores.
fn make_layers(pool: &Path, wanted: &[(String, u64)]) -> Outcome<()> {
    let next = AtomicUsize::new(0);
    let work = || -> Outcome<()> {
        while let Some((key, size)) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
            find_layer(pool, key, *size)?;
        }
        Ok(())
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| {
            worker
                .join()
                .map_err(|_| "a thread that makes layers ended")?
        })
    })
}

/// Returns a layer out of the pool; one that is not there is made.
fn find_layer(pool: &Path, key: &str, size: u64) -> Outcome<Layer> {
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
    let packed = Hashing::new(BufWriter::with_capacity(1 << 20, File::create(&path)?));
    let unpacked = Hashing::new(GzEncoder::new(packed, Compression::none()));
    let mut archive = tar::Builder::new(unpacked);
    let seed = u64::from_str_radix(&name.hex()[..16], 16)?;
    let mut random = fastrand::Rng::with_seed(seed);
    let mut left = size;
    while left > 0 {
        let length = left.min(FILE);
        let mut header = tar::Header::new_gnu();
        header.set_size(length);
        header.set_mode(0o644);
        let file = Random {
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

/// Bytes that no packer makes smaller.
struct Random {
    left: u64,
    random: fastrand::Rng,
}

impl Read for Random {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = buffer
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.random.fill(&mut buffer[..length]);
        self.left -= length as u64;
        Ok(length)
    }
}

/// Hands on what is written, and hashes and counts it.
struct Hashing<W> {
    inner: W,
    hasher: Hasher,
    length: u64,
}

impl<W> Hashing<W> {
    fn new(inner: W) -> Hashing<W> {
        Hashing {
            inner,
            hasher: Hasher::new(Algorithm::Sha256),
            length: 0,
        }
    }

    fn finish(self) -> (W, Digest, u64) {
        (self.inner, self.hasher.finish(), self.length)
    }
}

impl<W: Write> Write for Hashing<W> {
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
