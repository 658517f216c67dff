//! Small but complete images: layers with files, a configuration and a manifest for each platform,
//! and an index.
//!
//! The same description gives the same bytes on every machine at any time.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::Path;

use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use super::error::DemoError;
use crate::error::ItemError;
use crate::model::media_type;
use crate::model::{
    Algorithm, Descriptor, Digest, ImageReference, Manifest, Platform, Reference, Repository, Tag,
};
use crate::registry::{ImageStore, InMemory};

/// Modification time of all files, midnight of 1 January 2025 UTC. The same for all, so that images
/// share layers.
const MODIFIED: u64 = 1_735_689_600;

/// An image for several platforms.
#[derive(Clone, Debug)]
pub(super) struct SampleImage {
    pub(super) created: DateTime<Utc>,
    pub(super) platforms: Vec<Platform>,
    /// From the bottom up.
    pub(super) layers: Vec<SampleLayer>,
    /// As `NAME=value`.
    pub(super) environment: Vec<String>,
    pub(super) command: Vec<String>,
    pub(super) labels: BTreeMap<String, String>,
}

/// A layer. Images with the same layer share it.
#[derive(Clone, Debug)]
pub(super) struct SampleLayer {
    /// `created_by` of the layer in the image history.
    pub(super) made_by: String,
    pub(super) files: Vec<SampleFile>,
}

/// A file of a layer; its parent directories are added.
#[derive(Clone, Debug)]
pub(super) enum SampleFile {
    Text {
        path: String,
        content: String,
    },
    /// Placeholder for a program: content of `size` bytes that differs between versions and
    /// platforms. It cannot be executed.
    Program {
        path: String,
        version: String,
        size: usize,
    },
    Link {
        path: String,
        target: String,
    },
}

/// A compressed layer.
struct PackedLayer {
    descriptor: Descriptor,
    /// Digest of the uncompressed layer (`diff_id`).
    unpacked: Digest,
    content: Bytes,
}

impl SampleImage {
    /// Writes the image to `repository` under each of `tags`. Returns the descriptor of its index.
    pub(super) async fn publish(
        &self,
        store: &dyn ImageStore,
        repository: &Repository,
        tags: &[Tag],
    ) -> Result<Descriptor, DemoError> {
        let publish = Publish {
            store,
            image: ImageReference {
                repository: repository.clone(),
                tag: tags.first().cloned(),
                digest: None,
            },
        };
        let mut children = Vec::new();
        for platform in &self.platforms {
            let manifest = self.publish_platform(&publish, platform).await?;
            children.push(Descriptor {
                platform: Some(platform.clone()),
                ..manifest
            });
        }
        let index = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": children });
        let index = parse(&index)?;
        for tag in tags {
            publish.manifest(tag.clone().into(), &index).await?;
        }
        Ok(index.descriptor())
    }

    async fn publish_platform(
        &self,
        publish: &Publish<'_>,
        platform: &Platform,
    ) -> Result<Descriptor, DemoError> {
        let mut layers = Vec::new();
        let mut unpacked = Vec::new();
        for layer in &self.layers {
            let packed = layer.pack(platform).map_err(DemoError::Layer)?;
            publish.blob(&packed.descriptor, packed.content).await?;
            layers.push(packed.descriptor);
            unpacked.push(packed.unpacked);
        }
        let config = Bytes::from(self.configuration(platform, &unpacked).to_string());
        let descriptor = Descriptor::new(
            media_type::OCI_CONFIG,
            Digest::sha256(&config),
            config.len() as u64,
        );
        publish.blob(&descriptor, config).await?;
        let manifest = parse(
            &json!({ "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": descriptor, "layers": layers }),
        )?;
        publish
            .manifest(manifest.digest.clone().into(), &manifest)
            .await?;
        Ok(manifest.descriptor())
    }

    /// Returns the image configuration (OCI image specification, `config.md`).
    fn configuration(&self, platform: &Platform, unpacked: &[Digest]) -> Value {
        let created = self.created.to_rfc3339_opts(SecondsFormat::Secs, true);
        let history: Vec<Value> = self
            .layers
            .iter()
            .map(|layer| json!({ "created": created, "created_by": layer.made_by }))
            .collect();
        let mut configuration = json!({
            "created": created,
            "os": platform.os,
            "architecture": platform.architecture,
            "config": { "Env": self.environment, "Cmd": self.command, "Labels": self.labels },
            "rootfs": { "type": "layers", "diff_ids": unpacked },
            "history": history,
        });
        if let Some(variant) = &platform.variant {
            configuration["variant"] = json!(variant);
        }
        configuration
    }
}

impl SampleLayer {
    fn pack(&self, platform: &Platform) -> io::Result<PackedLayer> {
        let mut archive = tar::Builder::new(Vec::new());
        let header = |kind: tar::EntryType, mode: u32, size: usize| {
            let mut header = tar::Header::new_ustar();
            header.set_entry_type(kind);
            header.set_mode(mode);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(MODIFIED);
            header.set_size(size as u64);
            header
        };
        let directories: BTreeSet<&Path> = self
            .files
            .iter()
            .flat_map(|file| Path::new(file.path()).ancestors().skip(1))
            .filter(|path| *path != Path::new(""))
            .collect();
        for directory in directories {
            archive.append_data(
                &mut header(tar::EntryType::Directory, 0o755, 0),
                directory,
                io::empty(),
            )?;
        }
        for file in &self.files {
            match file {
                SampleFile::Text { path, content } => {
                    archive.append_data(
                        &mut header(tar::EntryType::Regular, 0o644, content.len()),
                        path,
                        content.as_bytes(),
                    )?;
                }
                SampleFile::Program {
                    path,
                    version,
                    size,
                } => {
                    let content = filling(&format!("{path} {version} {platform}"), *size);
                    archive.append_data(
                        &mut header(tar::EntryType::Regular, 0o755, content.len()),
                        path,
                        content.as_bytes(),
                    )?;
                }
                SampleFile::Link { path, target } => {
                    archive.append_link(
                        &mut header(tar::EntryType::Symlink, 0o777, 0),
                        path,
                        target,
                    )?;
                }
            }
        }
        let archive = archive.into_inner()?;
        let mut packed = GzEncoder::new(Vec::new(), Compression::default());
        packed.write_all(&archive)?;
        let packed = packed.finish()?;
        Ok(PackedLayer {
            descriptor: Descriptor::new(
                media_type::OCI_LAYER_GZIP,
                Digest::sha256(&packed),
                packed.len() as u64,
            ),
            unpacked: Digest::sha256(&archive),
            content: Bytes::from(packed),
        })
    }
}

impl SampleFile {
    fn path(&self) -> &str {
        match self {
            SampleFile::Text { path, .. }
            | SampleFile::Program { path, .. }
            | SampleFile::Link { path, .. } => path,
        }
    }
}

/// Returns `size` bytes that depend on `seed` only and compress no better than programs.
fn filling(seed: &str, size: usize) -> String {
    let mut text = format!("{seed}\n");
    let mut number = 0;
    while text.len() < size {
        text.push_str(Digest::sha256(format!("{seed} {number}").as_bytes()).hex());
        number += 1;
    }
    text.truncate(size);
    text
}

fn parse(manifest: &Value) -> Result<Manifest, DemoError> {
    Manifest::parse(Bytes::from(manifest.to_string()), None, Algorithm::Sha256)
        .map_err(DemoError::Manifest)
}

/// Target of an image, and its name in errors.
struct Publish<'a> {
    store: &'a dyn ImageStore,
    image: ImageReference,
}

impl Publish<'_> {
    async fn blob(&self, descriptor: &Descriptor, content: Bytes) -> Result<(), DemoError> {
        let put = self
            .store
            .put_blob(&self.image.repository, descriptor, &InMemory(content), None)
            .await;
        put.map(|_| ()).map_err(|error| self.failed(error))
    }

    async fn manifest(&self, reference: Reference, manifest: &Manifest) -> Result<(), DemoError> {
        let put = self
            .store
            .put_manifest(&self.image.repository, &reference, manifest)
            .await;
        put.map_err(|error| self.failed(error))
    }

    fn failed(&self, source: ItemError) -> DemoError {
        DemoError::Publish {
            image: Box::new(self.image.clone()),
            source: Box::new(source),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use futures_util::TryStreamExt;

    use super::*;
    use crate::registry::ImageSource;
    use crate::registry::memory::{MemoryStore, StoreOperation};

    fn sample() -> SampleImage {
        let layer = |made_by: &str, files: Vec<SampleFile>| SampleLayer {
            made_by: made_by.to_owned(),
            files,
        };
        SampleImage {
            created: DateTime::from_timestamp(1_700_000_000, 0).expect("a time"),
            platforms: ["linux/amd64", "linux/arm64/v8"]
                .map(|text| text.parse().expect("a platform"))
                .to_vec(),
            layers: vec![
                layer(
                    "base",
                    vec![
                        SampleFile::Program {
                            path: "usr/bin/tool".to_owned(),
                            version: "1".to_owned(),
                            size: 1000,
                        },
                        SampleFile::Link {
                            path: "bin/sh".to_owned(),
                            target: "../usr/bin/tool".to_owned(),
                        },
                    ],
                ),
                layer(
                    "text",
                    vec![SampleFile::Text {
                        path: "etc/os-release".to_owned(),
                        content: "ID=sample\n".to_owned(),
                    }],
                ),
            ],
            environment: vec!["PATH=/usr/bin".to_owned()],
            command: vec!["/bin/sh".to_owned()],
            labels: BTreeMap::new(),
        }
    }

    async fn read(
        store: &MemoryStore,
        repository: &Repository,
        descriptor: &Descriptor,
    ) -> Vec<u8> {
        let stream = store
            .blob(repository, descriptor, 0)
            .await
            .expect("the blob");
        stream
            .try_collect::<Vec<Bytes>>()
            .await
            .expect("the blob")
            .concat()
    }

    #[tokio::test]
    async fn published_image_has_consistent_layers_for_each_platform() {
        let store = MemoryStore::default();
        let repository: Repository = "registry/sample".parse().expect("a repository");
        let tags = ["1", "latest"].map(|text| text.parse::<Tag>().expect("a tag"));
        let published = sample()
            .publish(&store, &repository, &tags)
            .await
            .expect("to publish");
        let mut bottoms = BTreeSet::new();
        let mut tops = BTreeSet::new();
        for tag in tags {
            let index = store
                .manifest(&repository, &tag.into())
                .await
                .expect("an answer")
                .expect("the index");
            assert_eq!(index.descriptor(), published);
            for child in index.children().expect("an index") {
                let manifest = store
                    .manifest(&repository, &child.digest.clone().into())
                    .await
                    .expect("an answer")
                    .expect("a manifest");
                let blobs = manifest.blobs();
                let config: Value =
                    serde_json::from_slice(&read(&store, &repository, blobs[0]).await)
                        .expect("JSON");
                let platform = child.platform.as_ref().expect("a platform");
                assert_eq!(config["architecture"], json!(platform.architecture));
                assert_eq!(config["history"].as_array().map(Vec::len), Some(2));
                for (layer, unpacked) in blobs[1..]
                    .iter()
                    .zip(config["rootfs"]["diff_ids"].as_array().expect("a list"))
                {
                    let mut archive = Vec::new();
                    let packed = read(&store, &repository, layer).await;
                    flate2::read::GzDecoder::new(&*packed)
                        .read_to_end(&mut archive)
                        .expect("gzip");
                    assert_eq!(*unpacked, json!(Digest::sha256(&archive)));
                    let names = tar::Archive::new(&*archive)
                        .entries()
                        .expect("a tar")
                        .count();
                    assert!(names >= 2);
                }
                bottoms.insert(blobs[1].digest.clone());
                tops.insert(blobs[2].digest.clone());
            }
        }
        // Programs differ between platforms, texts do not.
        assert_eq!((bottoms.len(), tops.len()), (2, 1));
    }

    #[tokio::test]
    async fn same_description_gives_the_same_image() {
        let repository: Repository = "registry/sample".parse().expect("a repository");
        let tags = ["1".parse::<Tag>().expect("a tag")];
        let one = sample()
            .publish(&MemoryStore::default(), &repository, &tags)
            .await
            .expect("to publish");
        let same = sample()
            .publish(&MemoryStore::default(), &repository, &tags)
            .await
            .expect("to publish");
        assert_eq!(one, same);
    }

    #[tokio::test]
    async fn images_share_equal_layers() {
        let store = MemoryStore::default();
        let repository: Repository = "registry/sample".parse().expect("a repository");
        let tags = ["1".parse::<Tag>().expect("a tag")];
        let blobs = || {
            let calls = store
                .calls()
                .into_iter()
                .filter(|call| call.operation == StoreOperation::PutBlob);
            calls
                .map(|call| call.subject)
                .collect::<BTreeSet<String>>()
                .len()
        };
        let one = sample()
            .publish(&store, &repository, &tags)
            .await
            .expect("to publish");
        let before = blobs();
        let other = SampleImage {
            created: DateTime::UNIX_EPOCH,
            ..sample()
        };
        let other = other
            .publish(&store, &repository, &tags)
            .await
            .expect("to publish");
        assert_ne!(one, other);
        // Only the two configurations are new.
        assert_eq!(blobs(), before + 2);
    }
}
