//! Labels, annotations and configuration of an image, which name its base.

use std::collections::BTreeMap;

use crate::error::ItemError;
use crate::model::manifest::MAX_INDEX_NESTING;
use crate::model::media_type;
use crate::model::{
    Descriptor, Digest, ImageConfig, Manifest, ManifestContent, Platform, Reference, Repository,
};
use crate::registry::{ImageSource, read_config};

/// Metadata of an image. Annotations and labels can be inherited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageFacts {
    /// Digest of the index or manifest that the reference names.
    pub digest: Digest,
    /// Images in its index without attestations; empty without an index.
    pub children: Vec<Descriptor>,
    /// Annotations of the index; empty without one.
    pub index_annotations: BTreeMap<String, String>,
    /// Annotations of the manifest: that of the requested platform, else the first in the index.
    pub annotations: BTreeMap<String, String>,
    pub config: ImageConfig,
}

impl ImageFacts {
    /// Returns an annotation of the index, else of the manifest. Empty values do not count.
    pub fn annotation(&self, name: &str) -> Option<&str> {
        [&self.index_annotations, &self.annotations]
            .into_iter()
            .find_map(|annotations| {
                annotations
                    .get(name)
                    .filter(|value| !value.trim().is_empty())
            })
            .map(String::as_str)
    }

    /// Returns a label of the configuration; `None` if it is absent or blank.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.config
            .labels
            .get(name)
            .filter(|value| !value.trim().is_empty())
            .map(String::as_str)
    }

    /// Returns the platforms in the index.
    pub fn platforms(&self) -> Vec<Platform> {
        let mut platforms: Vec<Platform> = Vec::new();
        for platform in self
            .children
            .iter()
            .filter_map(|child| child.platform.clone())
        {
            if !platforms.contains(&platform) {
                platforms.push(platform);
            }
        }
        platforms
    }

    /// Returns true if `digest` is that of this image or of an image in its index.
    pub fn has(&self, digest: &Digest) -> bool {
        self.digest == *digest || self.children.iter().any(|child| child.digest == *digest)
    }
}

/// Reads the metadata of an image; `None` if it does not exist. In an index, the image of the
/// platform `like` is read, else the first.
pub async fn read_facts(
    source: &dyn ImageSource,
    repository: &Repository,
    reference: &Reference,
    platform: Option<&Platform>,
) -> Result<Option<ImageFacts>, ItemError> {
    let Some(mut manifest) = source.manifest(repository, reference).await? else {
        return Ok(None);
    };
    let mut facts = ImageFacts {
        digest: manifest.digest.clone(),
        children: images(&manifest),
        index_annotations: BTreeMap::new(),
        annotations: BTreeMap::new(),
        config: ImageConfig::default(),
    };
    if manifest.children().is_some() {
        facts.index_annotations = manifest.annotations.clone();
    }
    for _ in 0..MAX_INDEX_NESTING {
        if manifest.children().is_none() {
            break;
        }
        let children = images(&manifest);
        let of_platform = platform.and_then(|platform| {
            children.iter().find(|child| {
                child
                    .platform
                    .as_ref()
                    .is_some_and(|of| of.matches(platform))
            })
        });
        let Some(child) = of_platform.or(children.first()) else {
            return Ok(Some(facts));
        };
        // An index with a missing image is treated like a missing image.
        let Some(next) = source
            .manifest(repository, &child.digest.clone().into())
            .await?
        else {
            return Ok(None);
        };
        manifest = next;
    }
    facts.annotations = manifest.annotations.clone();
    if let ManifestContent::Image {
        config: Some(config),
        ..
    } = &manifest.content
        && matches!(
            config.media_type.as_str(),
            media_type::OCI_CONFIG | media_type::DOCKER_CONFIG
        )
    {
        let bytes = read_config(source, repository, config).await?;
        // A blob that is not an image configuration has no labels.
        facts.config = ImageConfig::parse(&bytes).unwrap_or_default();
    }
    Ok(Some(facts))
}

/// Returns the images of an index without attestations; none if `manifest` is not an index.
fn images(manifest: &Manifest) -> Vec<Descriptor> {
    let is_image = |child: &&Descriptor| {
        child.attests_to().is_none() && !child.platform.as_ref().is_some_and(Platform::is_unknown)
    };
    manifest
        .children()
        .unwrap_or_default()
        .iter()
        .filter(is_image)
        .cloned()
        .collect()
}
