//! The base image: its configuration and its layers for each requested platform.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::TryStreamExt;
use thiserror::Error;

use super::image_config::{ImageConfigDraft, ImageConfigError};
use crate::error::ItemError;
use crate::model::manifest::MAX_INDEX_NESTING;
use crate::model::media_type;
use crate::model::{
    Descriptor, Digest, ImageReference, Manifest, ManifestContent, Platform, Reference, Repository,
};
use crate::registry::{ImageSource, verified};

/// Maximum size of the image configuration, in bytes.
const MAX_IMAGE_CONFIG_BYTES: u64 = 4 * 1024 * 1024;

/// Error for a base image that cannot be used.
#[derive(Debug, Error)]
pub(super) enum BaseError {
    #[error("cannot read the base image {0}")]
    Store(ImageReference, #[source] ItemError),
    #[error("the base image {0} does not exist")]
    NotFound(ImageReference),
    #[error("the base image {image} is incomplete: {digest} is missing")]
    Incomplete {
        image: ImageReference,
        digest: Digest,
    },
    #[error("the base image {image} is not available for {wanted}, only for {found}")]
    NoPlatform {
        image: ImageReference,
        wanted: Platform,
        found: String,
    },
    #[error("the base image {0} cannot be used: {1}")]
    NotAnImage(ImageReference, String),
    #[error("the configuration of the base image {image} cannot be used")]
    Config {
        image: ImageReference,
        #[source]
        error: ImageConfigError,
    },
    #[error("the base image {image} has an ONBUILD trigger: {trigger}")]
    OnBuildTrigger {
        image: ImageReference,
        trigger: String,
    },
}

/// The base image of one platform.
pub(super) struct PlatformBase {
    /// Platform as declared in the index, or in the configuration if there is no index.
    pub(super) platform: Platform,
    pub(super) config: ImageConfigDraft,
    /// Layers with OCI media types.
    pub(super) layers: Vec<Descriptor>,
}

/// Reader of a base image.
pub(super) struct BaseImageReader<'a> {
    pub(super) store: &'a dyn ImageSource,
    pub(super) image: &'a ImageReference,
    /// Creation time of the new image.
    pub(super) created: DateTime<Utc>,
}

impl BaseImageReader<'_> {
    /// Returns the base image of each platform, in the order of `platforms`.
    pub(super) async fn read(
        &self,
        platforms: &[Platform],
    ) -> Result<Vec<PlatformBase>, BaseError> {
        let root = self.root().await?;
        let found = self.list_images(&root).await?;
        futures_util::future::try_join_all(
            platforms
                .iter()
                .map(|platform| self.base(&root, &found, platform)),
        )
        .await
    }

    fn repository(&self) -> &Repository {
        &self.image.repository
    }

    /// Returns the manifest or index that the reference points to.
    async fn root(&self) -> Result<Manifest, BaseError> {
        let reference = match (&self.image.digest, &self.image.tag) {
            (Some(digest), _) => Reference::Digest(digest.clone()),
            (None, Some(tag)) => Reference::Tag(tag.clone()),
            (None, None) => return Err(BaseError::NotFound(self.image.clone())),
        };
        self.manifest(&reference)
            .await?
            .ok_or_else(|| BaseError::NotFound(self.image.clone()))
    }

    async fn manifest(&self, reference: &Reference) -> Result<Option<Manifest>, BaseError> {
        self.store
            .manifest(self.repository(), reference)
            .await
            .map_err(|error| BaseError::Store(self.image.clone(), error))
    }

    async fn child(&self, digest: &Digest) -> Result<Manifest, BaseError> {
        let manifest = self.manifest(&Reference::Digest(digest.clone())).await?;
        manifest.ok_or_else(|| BaseError::Incomplete {
            image: self.image.clone(),
            digest: digest.clone(),
        })
    }

    /// Returns the images in an index and in nested indexes. Empty for an image.
    async fn list_images(&self, root: &Manifest) -> Result<Vec<Descriptor>, BaseError> {
        let mut found = Vec::new();
        let mut indexes = vec![(root.clone(), 0)];
        while let Some((index, depth)) = indexes.pop() {
            for child in index.children().unwrap_or_default() {
                let is_index = matches!(
                    child.media_type.as_str(),
                    media_type::OCI_INDEX | media_type::DOCKER_LIST
                );
                if is_index && depth < MAX_INDEX_NESTING {
                    indexes.push((self.child(&child.digest).await?, depth + 1));
                } else if !is_index && child.attests_to().is_none() {
                    found.push(child.clone());
                }
            }
        }
        Ok(found)
    }

    /// Returns the base image for the platform `wanted`.
    async fn base(
        &self,
        root: &Manifest,
        found: &[Descriptor],
        wanted: &Platform,
    ) -> Result<PlatformBase, BaseError> {
        let not_available = |found: String| BaseError::NoPlatform {
            image: self.image.clone(),
            wanted: wanted.clone(),
            found,
        };
        let (manifest, platform) = if root.children().is_some() {
            let named = found
                .iter()
                .filter_map(|child| Some((child, child.platform.as_ref()?)));
            let matching = named.clone().find(|(_, platform)| platform.matches(wanted));
            let Some((child, platform)) = matching else {
                let mut names: Vec<String> =
                    named.map(|(_, platform)| platform.to_string()).collect();
                names.dedup();
                return Err(not_available(if names.is_empty() {
                    "unknown platforms".to_owned()
                } else {
                    names.join(", ")
                }));
            };
            (self.child(&child.digest).await?, Some(platform.clone()))
        } else {
            (root.clone(), None)
        };
        let unusable = |problem: String| BaseError::NotAnImage(self.image.clone(), problem);
        let ManifestContent::Image {
            config: Some(config),
            layers,
        } = &manifest.content
        else {
            return Err(unusable("it has no image configuration".to_owned()));
        };
        if !matches!(
            config.media_type.as_str(),
            media_type::OCI_CONFIG | media_type::DOCKER_CONFIG
        ) {
            return Err(unusable(format!(
                "its configuration has the media type `{}`",
                crate::model::text::excerpt(&config.media_type, 80)
            )));
        }
        let bytes = self.config(config).await?;
        let config =
            ImageConfigDraft::of_base(&bytes, layers.len(), self.created).map_err(|error| {
                BaseError::Config {
                    image: self.image.clone(),
                    error,
                }
            })?;
        if let Some(trigger) = config.trigger() {
            let trigger = crate::model::text::excerpt(&trigger, 120);
            return Err(BaseError::OnBuildTrigger {
                image: self.image.clone(),
                trigger,
            });
        }
        let platform = platform.unwrap_or_else(|| config.platform());
        if !platform.matches(wanted) {
            return Err(not_available(platform.to_string()));
        }
        if platform.os != "linux" {
            return Err(unusable(format!(
                "layers for the operating system {} are not supported",
                platform.os
            )));
        }
        Ok(PlatformBase {
            platform,
            config,
            layers: layers.iter().map(with_oci_type).collect(),
        })
    }

    /// Reads the image configuration.
    async fn config(&self, descriptor: &Descriptor) -> Result<Bytes, BaseError> {
        if descriptor.size > MAX_IMAGE_CONFIG_BYTES {
            return Err(BaseError::NotAnImage(
                self.image.clone(),
                format!(
                    "its configuration has {} bytes, which is more than the limit",
                    descriptor.size
                ),
            ));
        }
        let store = self
            .repository()
            .host()
            .map_or_else(|| self.repository().to_string(), ToString::to_string);
        let read = async {
            let stream = verified(
                self.store.blob(self.repository(), descriptor, 0).await?,
                descriptor,
                store,
            );
            let pieces: Vec<Bytes> = stream.try_collect().await?;
            Ok(Bytes::from(pieces.concat()))
        };
        read.await
            .map_err(|error| BaseError::Store(self.image.clone(), error))
    }
}

/// Returns the layer with the OCI media type that is equivalent to its Docker media type.
///
/// Needed because only OCI manifests may have annotations, and they must not reference other layer
/// types.
fn with_oci_type(layer: &Descriptor) -> Descriptor {
    let media_type = match layer.media_type.as_str() {
        media_type::DOCKER_LAYER_GZIP => media_type::OCI_LAYER_GZIP,
        media_type::DOCKER_LAYER_ZSTD => media_type::OCI_LAYER_ZSTD,
        media_type::DOCKER_LAYER_TAR => media_type::OCI_LAYER_TAR,
        media_type::DOCKER_FOREIGN_GZIP => media_type::OCI_NONDISTRIBUTABLE_GZIP,
        other => other,
    };
    Descriptor {
        media_type: media_type.to_owned(),
        ..layer.clone()
    }
}
