//! Push of a built image: first blobs, then the manifest of each platform, then the index. The tag
//! is pushed last.

use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::json;

use super::error::{error, store_error};
use super::layer::Layer;
use super::layer_plan::LayerPlan;
use crate::engines::engine::{BuildRequest, EngineError};
use crate::error::{ItemError, ItemErrorKind};
use crate::model::media_type;
use crate::model::{Algorithm, Descriptor, Digest, Manifest, Platform, Reference, Repository};
use crate::registry::{BlobContent, BlobStream, ImageSource, ImageStore, ImageStores, InMemory};

/// Maximum number of blobs that are pushed at the same time. Hosts have separate limits.
const MAX_PARALLEL_BLOBS: usize = 8;

/// The image of one platform.
pub(super) struct PlatformImage {
    pub(super) platform: Platform,
    pub(super) config: Bytes,
    pub(super) layers: Vec<Descriptor>,
}

impl PlatformImage {
    /// Returns the descriptor of the image configuration.
    fn config_descriptor(&self) -> Descriptor {
        Descriptor::new(
            media_type::OCI_CONFIG,
            Digest::sha256(&self.config),
            self.config.len() as u64,
        )
    }
}

/// The push of an image.
pub(super) struct ImagePush<'a> {
    pub(super) stores: ImageStores,
    pub(super) request: &'a BuildRequest,
}

impl ImagePush<'_> {
    /// Returns the repository to push to.
    fn target(&self) -> &Repository {
        &self.request.repository
    }

    fn target_store(&self) -> Result<&dyn ImageStore, ItemError> {
        self.stores.writable(self.target())
    }

    /// Makes the base layers available in the target: mounted within one store, otherwise copied.
    pub(super) async fn base_layers(
        &self,
        layers: impl IntoIterator<Item = Descriptor>,
    ) -> Result<(), EngineError> {
        let from = &self.request.base.repository;
        if from == self.target() {
            return Ok(());
        }
        let layers: BTreeMap<Digest, Descriptor> = layers
            .into_iter()
            .map(|layer| (layer.digest.clone(), layer))
            .collect();
        let puts = layers.into_values().map(|layer| async move {
            let shared = from.shares_blobs_with(self.target()).then_some(from);
            let store = self.target_store()?;
            if shared.is_none() && store.has_blob(self.target(), &layer).await? {
                return Ok(());
            }
            let content = BaseLayer {
                store: self.stores.of(from),
                from,
                layer: &layer,
            };
            match store
                .put_blob(self.target(), &layer, &content, shared)
                .await
            {
                // A non-distributable layer is downloaded from its URLs.
                Err(error) if error.kind == ItemErrorKind::Absent && !layer.urls.is_empty() => {
                    Ok(())
                }
                result => result.map(drop),
            }
        });
        stream::iter(puts.collect::<Vec<_>>())
            .buffer_unordered(MAX_PARALLEL_BLOBS)
            .try_collect()
            .await
            .map_err(store_error)
    }

    /// Pushes the written layers and the configurations of `images`.
    pub(super) async fn blobs(
        &self,
        layers: &HashMap<LayerPlan, Layer>,
        images: &[PlatformImage],
    ) -> Result<(), EngineError> {
        // Different plans can give the same layer, and platforms can have the same configuration.
        let mut blobs: BTreeMap<Digest, (Descriptor, Box<dyn BlobContent + '_>)> = BTreeMap::new();
        for layer in layers.values() {
            blobs.insert(
                layer.descriptor.digest.clone(),
                (layer.descriptor.clone(), Box::new(layer)),
            );
        }
        for image in images {
            let descriptor = image.config_descriptor();
            blobs.insert(
                descriptor.digest.clone(),
                (descriptor, Box::new(InMemory(image.config.clone()))),
            );
        }
        let puts = blobs
            .into_values()
            .map(|(descriptor, content)| async move { self.put(&descriptor, &*content).await });
        stream::iter(puts.collect::<Vec<_>>())
            .buffer_unordered(MAX_PARALLEL_BLOBS)
            .try_collect()
            .await
            .map_err(store_error)
    }

    /// Pushes a blob if the target does not have it.
    async fn put(
        &self,
        descriptor: &Descriptor,
        content: &dyn BlobContent,
    ) -> Result<(), ItemError> {
        let store = self.target_store()?;
        if !store.has_blob(self.target(), descriptor).await? {
            store
                .put_blob(self.target(), descriptor, content, None)
                .await?;
        }
        Ok(())
    }

    /// Pushes the manifests of images whose blobs have been pushed, and an index if there are
    /// several images. Returns the digest of the tag.
    pub(super) async fn images(&self, images: Vec<PlatformImage>) -> Result<Digest, EngineError> {
        let tag = Reference::Tag(self.request.tag.clone());
        let mut children = Vec::new();
        let mut manifests = Vec::new();
        for image in images {
            let manifest = json!({
                "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": image.config_descriptor(), "layers": image.layers,
            });
            let manifest = self.manifest(manifest, media_type::OCI_MANIFEST)?;
            children.push(Descriptor {
                platform: Some(image.platform),
                ..manifest.descriptor()
            });
            manifests.push(manifest);
        }
        if let [manifest] = &manifests[..] {
            return self.tag(&tag, manifest).await;
        }
        let puts = manifests.iter().map(|manifest| async move {
            let reference = Reference::Digest(manifest.digest.clone());
            self.target_store()?
                .put_manifest(self.target(), &reference, manifest)
                .await
        });
        stream::iter(puts.collect::<Vec<_>>())
            .buffer_unordered(MAX_PARALLEL_BLOBS)
            .try_collect::<()>()
            .await
            .map_err(store_error)?;
        let index = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": children });
        self.tag(&tag, &self.manifest(index, media_type::OCI_INDEX)?)
            .await
    }

    /// Returns a manifest or index with the annotations of the request.
    fn manifest(
        &self,
        mut content: serde_json::Value,
        media_type: &str,
    ) -> Result<Manifest, EngineError> {
        if !self.request.annotations.is_empty() {
            content["annotations"] = json!(self.request.annotations);
        }
        Manifest::parse(
            content.to_string().into(),
            Some(media_type),
            Algorithm::Sha256,
        )
        .map_err(|cause| error("cannot create the manifest").caused_by(cause))
    }

    /// Pushes a manifest under the tag.
    async fn tag(&self, tag: &Reference, manifest: &Manifest) -> Result<Digest, EngineError> {
        let store = self.target_store().map_err(store_error)?;
        if let Err(error) = store.put_manifest(self.target(), tag, manifest).await {
            // The push of an immutable tag fails even if the tag already points to this image.
            let found = store.resolve(self.target(), tag).await.ok().flatten();
            if found.is_none_or(|found| found.digest != manifest.digest) {
                return Err(store_error(error));
            }
        }
        Ok(manifest.digest.clone())
    }
}

/// A base layer, which is only read if the target does not have it.
struct BaseLayer<'a> {
    store: &'a dyn ImageSource,
    from: &'a Repository,
    layer: &'a Descriptor,
}

#[async_trait]
impl BlobContent for BaseLayer<'_> {
    async fn open(&self, from_offset: u64) -> Result<BlobStream, ItemError> {
        self.store.blob(self.from, self.layer, from_offset).await
    }
}
