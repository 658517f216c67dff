//! The base image: the manifest and the configuration of each platform that is built for.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::TryStreamExt;
use thiserror::Error;

use super::config::{Config, ConfigError};
use crate::error::ItemError;
use crate::model::manifest::MAX_INDEX_NESTING;
use crate::model::media_type;
use crate::model::{
    Descriptor, Digest, ImageReference, Manifest, ManifestContent, Platform, Reference, Repository,
};
use crate::registry::{ImageSource, verified};

/// The largest configuration that is read, in bytes.
const MAX_IMAGE_CONFIG_BYTES: u64 = 4 * 1024 * 1024;

#[derive(Debug, Error)]
pub(super) enum BaseError {
    #[error("the base {0} cannot be read")]
    Place(ImageReference, #[source] ItemError),
    #[error("there is no base {0}")]
    Absent(ImageReference),
    #[error("the base {image} is incomplete: {digest} is not there")]
    Incomplete {
        image: ImageReference,
        digest: Digest,
    },
    #[error("the base {image} has no {wanted}; it has {found}")]
    NoPlatform {
        image: ImageReference,
        wanted: Platform,
        found: String,
    },
    #[error("the base {0} is no image: {1}")]
    NoImage(ImageReference, String),
    #[error("the configuration of the base {image} cannot be used")]
    Config {
        image: ImageReference,
        #[source]
        error: ConfigError,
    },
    #[error("the base {image} leaves a trigger for builds upon it: ONBUILD {trigger}")]
    Trigger {
        image: ImageReference,
        trigger: String,
    },
}

/// The base of one platform.
pub(super) struct Base {
    /// As the index of the base names it, else as its configuration does.
    pub(super) platform: Platform,
    pub(super) config: Config,
    /// With media types of the OCI.
    pub(super) layers: Vec<Descriptor>,
}

/// An image to read.
pub(super) struct BaseImage<'a> {
    pub(super) store: &'a dyn ImageSource,
    pub(super) image: &'a ImageReference,
    pub(super) created: DateTime<Utc>,
}

impl BaseImage<'_> {
    /// Returns the bases of `platforms`, in their order.
    pub(super) async fn read(&self, platforms: &[Platform]) -> Result<Vec<Base>, BaseError> {
        let root = self.root().await?;
        let found = self.found(&root).await?;
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

    async fn root(&self) -> Result<Manifest, BaseError> {
        let reference = match (&self.image.digest, &self.image.tag) {
            (Some(digest), _) => Reference::Digest(digest.clone()),
            (None, Some(tag)) => Reference::Tag(tag.clone()),
            (None, None) => return Err(BaseError::Absent(self.image.clone())),
        };
        self.manifest(&reference)
            .await?
            .ok_or_else(|| BaseError::Absent(self.image.clone()))
    }

    async fn manifest(&self, reference: &Reference) -> Result<Option<Manifest>, BaseError> {
        self.store
            .manifest(self.repository(), reference)
            .await
            .map_err(|error| BaseError::Place(self.image.clone(), error))
    }

    async fn child(&self, digest: &Digest) -> Result<Manifest, BaseError> {
        let manifest = self.manifest(&Reference::Digest(digest.clone())).await?;
        manifest.ok_or_else(|| BaseError::Incomplete {
            image: self.image.clone(),
            digest: digest.clone(),
        })
    }

    /// Returns the images of an index, with those of indexes in it; nothing of an image.
    async fn found(&self, root: &Manifest) -> Result<Vec<Descriptor>, BaseError> {
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

    async fn base(
        &self,
        root: &Manifest,
        found: &[Descriptor],
        wanted: &Platform,
    ) -> Result<Base, BaseError> {
        let none = |found: String| BaseError::NoPlatform {
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
                return Err(none(if names.is_empty() {
                    "no platforms".to_owned()
                } else {
                    names.join(", ")
                }));
            };
            (self.child(&child.digest).await?, Some(platform.clone()))
        } else {
            (root.clone(), None)
        };
        let no_image = |problem: String| BaseError::NoImage(self.image.clone(), problem);
        let ManifestContent::Image {
            config: Some(config),
            layers,
        } = &manifest.content
        else {
            return Err(no_image("it has no configuration".to_owned()));
        };
        if !matches!(
            config.media_type.as_str(),
            media_type::OCI_CONFIG | media_type::DOCKER_CONFIG
        ) {
            return Err(no_image(format!(
                "its configuration has the type `{}`",
                crate::model::text::excerpt(&config.media_type, 80)
            )));
        }
        let bytes = self.config(config).await?;
        let config = Config::of_base(&bytes, layers.len(), self.created).map_err(|error| {
            BaseError::Config {
                image: self.image.clone(),
                error,
            }
        })?;
        if let Some(trigger) = config.trigger() {
            let trigger = crate::model::text::excerpt(&trigger, 120);
            return Err(BaseError::Trigger {
                image: self.image.clone(),
                trigger,
            });
        }
        let platform = platform.unwrap_or_else(|| config.platform());
        if !platform.matches(wanted) {
            return Err(none(platform.to_string()));
        }
        if platform.os != "linux" {
            return Err(no_image(format!(
                "layers for {} are of another form",
                platform.os
            )));
        }
        Ok(Base {
            platform,
            config,
            layers: layers.iter().map(converted).collect(),
        })
    }

    async fn config(&self, descriptor: &Descriptor) -> Result<Bytes, BaseError> {
        if descriptor.size > MAX_IMAGE_CONFIG_BYTES {
            return Err(BaseError::NoImage(
                self.image.clone(),
                format!("its configuration has {} bytes", descriptor.size),
            ));
        }
        let place = self
            .repository()
            .host()
            .map_or_else(|| self.repository().to_string(), ToString::to_string);
        let read = async {
            let stream = verified(
                self.store.blob(self.repository(), descriptor, 0).await?,
                descriptor,
                place,
            );
            let pieces: Vec<Bytes> = stream.try_collect().await?;
            Ok(Bytes::from(pieces.concat()))
        };
        read.await
            .map_err(|error| BaseError::Place(self.image.clone(), error))
    }
}

/// Returns a layer of Docker's types as one of the OCI's, which mean the same bytes: annotations
/// are legal only in OCI manifests, and those name no others.
fn converted(layer: &Descriptor) -> Descriptor {
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
