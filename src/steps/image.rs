//! An image at its place, as far as it tells what it was built on.

use std::collections::BTreeMap;

use crate::error::ItemError;
use crate::model::manifest::MAX_INDEX_NESTING;
use crate::model::media_type;
use crate::model::{
    Descriptor, Digest, ImageConfig, Manifest, ManifestContent, Platform, Reference, Repository,
};
use crate::registry::{ImageSource, read_config};

/// What an image says of itself. Annotations and labels are whatever its makers wrote, or
/// inherited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageFacts {
    /// What the reference names: an index or a manifest.
    pub digest: Digest,
    /// The images of its index, attestations left out; empty without an index.
    pub children: Vec<Descriptor>,
    /// Of the index; empty without one.
    pub index_annotations: BTreeMap<String, String>,
    /// Of the manifest: that of the platform asked for, else the first image of the index.
    pub annotations: BTreeMap<String, String>,
    pub config: ImageConfig,
}

impl ImageFacts {
    /// Returns an annotation: that of the index goes before that of the manifest.
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

    pub fn label(&self, name: &str) -> Option<&str> {
        self.config
            .labels
            .get(name)
            .filter(|value| !value.trim().is_empty())
            .map(String::as_str)
    }

    /// Returns the platforms that the index names.
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

    /// Returns whether `digest` names this image or one of its index.
    pub fn has(&self, digest: &Digest) -> bool {
        self.digest == *digest || self.children.iter().any(|child| child.digest == *digest)
    }
}

/// Returns what the image says of itself, or `None` when it is not there. Of an index the image of
/// the platform `like` is looked at, else the first.
pub async fn look(
    source: &dyn ImageSource,
    repository: &Repository,
    reference: &Reference,
    like: Option<&Platform>,
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
        let of_platform = like.and_then(|like| {
            children
                .iter()
                .find(|child| child.platform.as_ref().is_some_and(|of| of.matches(like)))
        });
        let Some(child) = of_platform.or(children.first()) else {
            return Ok(Some(facts));
        };
        // An index that lacks one of its images is as good as an image that is not there.
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
        // What is no configuration says nothing.
        facts.config = ImageConfig::parse(&bytes).unwrap_or_default();
    }
    Ok(Some(facts))
}

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
