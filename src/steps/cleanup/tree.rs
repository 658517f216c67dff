//! What a tag names, with all manifests below it.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use crate::model::manifest::{DEEPEST_NESTING, media_type};
use crate::model::{
    Descriptor, Digest, ImageConfig, Manifest, ManifestContent, Platform, Reference, Repository,
};
use crate::registry::{ImageSource, PlaceError, PlaceErrorKind, read_config};
use crate::transfer::Memory;

/// Annotation and label that hold when an image was made (OCI image specification, "Annotations").
const CREATED: &str = "org.opencontainers.image.created";

/// An image: its digest, and the manifests that it leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    pub digest: Digest,
    /// All below it, at any depth.
    pub below: BTreeSet<Digest>,
}

impl Tree {
    /// Returns its own digest and those of all that is below it.
    pub fn digests(&self) -> impl Iterator<Item = &Digest> {
        std::iter::once(&self.digest).chain(&self.below)
    }
}

/// Where the time is found at which an image was made.
#[derive(Clone, Debug)]
pub(super) enum Clue {
    Told(DateTime<Utc>),
    Config(Descriptor),
    Child(Digest),
    Nowhere,
}

impl Clue {
    /// Returns the digest of the content that has to be read.
    pub(super) fn digest(&self) -> Option<&Digest> {
        match self {
            Clue::Told(_) | Clue::Nowhere => None,
            Clue::Config(config) => Some(&config.digest),
            Clue::Child(digest) => Some(digest),
        }
    }
}

/// Returns the image that `reference` names with where its age is found, or `None` when it is not
/// there. Takes one request, and one more for each index within it.
pub(super) async fn read(
    source: &dyn ImageSource,
    repository: &Repository,
    reference: &Reference,
) -> Result<Option<(Tree, Clue)>, PlaceError> {
    let Some(root) = source.manifest(repository, reference).await? else {
        return Ok(None);
    };
    let clue = clue(&root);
    let mut tree = Tree {
        digest: root.digest.clone(),
        below: BTreeSet::new(),
    };
    let mut open = vec![root];
    for _ in 0..DEEPEST_NESTING {
        let mut nested = Vec::new();
        for child in open.iter().filter_map(Manifest::children).flatten() {
            if tree.below.insert(child.digest.clone()) && may_be_index(child) {
                nested.extend(
                    source
                        .manifest(repository, &child.digest.clone().into())
                        .await?,
                );
            }
        }
        open = nested;
    }
    if open
        .iter()
        .filter_map(Manifest::children)
        .any(|children| !children.is_empty())
    {
        let action = format!("read manifest {}", reference.as_str());
        let detail = format!("its indexes are nested deeper than {DEEPEST_NESTING} levels");
        return Err(PlaceError::at(
            repository,
            action,
            PlaceErrorKind::Malformed,
            detail,
        ));
    }
    Ok(Some((tree, clue)))
}

/// Returns whether an entry of an index may lead further: whatever is not said to be a single
/// image, or a part of one, as old build caches list them.
fn may_be_index(entry: &Descriptor) -> bool {
    const LAYERS: [&str; 2] = [
        "application/vnd.oci.image.layer.",
        "application/vnd.docker.image.rootfs.",
    ];
    const BUILD_CACHE: &str = "application/vnd.buildkit.cacheconfig.";
    let kind = entry.media_type.as_str();
    let is_image = matches!(kind, media_type::OCI_MANIFEST | media_type::DOCKER_MANIFEST);
    !is_image
        && !LAYERS
            .iter()
            .chain([&BUILD_CACHE])
            .any(|prefix| kind.starts_with(prefix))
}

/// What content says of the time at which an image was made.
enum Said {
    Time(DateTime<Utc>),
    Nothing,
    /// The content is not there.
    Absent,
}

/// Returns when an image was made, as it says itself. What content that was read once says is
/// remembered.
pub(super) async fn created(
    source: &dyn ImageSource,
    repository: &Repository,
    clue: &Clue,
    memory: &dyn Memory,
) -> Result<Option<DateTime<Utc>>, PlaceError> {
    let Some(digest) = clue.digest() else {
        return Ok(if let Clue::Told(created) = clue {
            Some(*created)
        } else {
            None
        });
    };
    let key = format!("created 1 {digest}");
    if let Some(text) = memory.recall(&key) {
        return Ok(time(&text));
    }
    match follow(source, repository, clue.clone()).await? {
        Said::Time(created) => {
            memory.remember(&key, &created.to_rfc3339());
            Ok(Some(created))
        }
        Said::Nothing => {
            memory.remember(&key, "");
            Ok(None)
        }
        Said::Absent => Ok(None),
    }
}

async fn follow(
    source: &dyn ImageSource,
    repository: &Repository,
    mut clue: Clue,
) -> Result<Said, PlaceError> {
    for _ in 0..=DEEPEST_NESTING {
        clue = match clue {
            Clue::Told(created) => return Ok(Said::Time(created)),
            Clue::Nowhere => return Ok(Said::Nothing),
            Clue::Config(config) => {
                let bytes = read_config(source, repository, &config).await?;
                // What is no configuration says nothing.
                let config = ImageConfig::parse(&bytes).unwrap_or_default();
                return Ok(config
                    .labels
                    .get(CREATED)
                    .and_then(|text| time(text))
                    .map_or(Said::Nothing, Said::Time));
            }
            Clue::Child(digest) => match source.manifest(repository, &digest.into()).await? {
                Some(child) => self::clue(&child),
                None => return Ok(Said::Absent),
            },
        };
    }
    Ok(Said::Nothing)
}

fn clue(manifest: &Manifest) -> Clue {
    if let Some(created) = manifest
        .annotations
        .get(CREATED)
        .and_then(|text| time(text))
    {
        return Clue::Told(created);
    }
    match &manifest.content {
        ManifestContent::Index { children } => {
            let is_image = |child: &&Descriptor| {
                child.attests_to().is_none()
                    && !child.platform.as_ref().is_some_and(Platform::is_unknown)
            };
            children
                .iter()
                .find(is_image)
                .map_or(Clue::Nowhere, |child| Clue::Child(child.digest.clone()))
        }
        ManifestContent::Image {
            config: Some(config),
            ..
        } if matches!(
            config.media_type.as_str(),
            media_type::OCI_CONFIG | media_type::DOCKER_CONFIG
        ) =>
        {
            Clue::Config(config.clone())
        }
        ManifestContent::Image { .. } => Clue::Nowhere,
    }
}

fn time(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(text.trim())
        .ok()
        .map(|time| time.with_timezone(&Utc))
}
