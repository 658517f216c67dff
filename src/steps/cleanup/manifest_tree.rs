//! Manifests that a tag leads to, and the creation date of an image.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};

use crate::error::{ItemError, ItemErrorKind};
use crate::model::labels;
use crate::model::manifest::MAX_INDEX_NESTING;
use crate::model::media_type;
use crate::model::{
    Descriptor, Digest, ImageConfig, Manifest, ManifestContent, Platform, Reference, Repository,
};
use crate::registry::{ImageSource, read_config};
use crate::transfer::{DigestCache, no_cache};

/// Maximum number of manifests of a repository that are read concurrently. Each host has its own
/// limit as well.
pub(super) const CONCURRENT_MANIFESTS: usize = 16;

/// Digest of an image and of every manifest below it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct ManifestTree {
    pub digest: Digest,
    /// Digests of the manifests below it, at any depth.
    pub below: BTreeSet<Digest>,
    /// True if every index below it was found.
    pub has_all_indexes: bool,
    /// Part of `below` that was read. The rest is listed as images or layers; an index can claim
    /// that of another index.
    pub read: BTreeSet<Digest>,
    /// Subject of the manifest, if it is a referrer.
    pub subject: Option<Digest>,
    /// Entries of an index that has a tag of the form `sha256-<hex>`, and may be a list of
    /// referrers.
    pub list: Option<BTreeSet<Digest>>,
    /// Project that built the image, if it is a base of `build`.
    pub origin: Option<String>,
}

impl ManifestTree {
    /// Returns the digest of the manifest and of everything below it.
    pub fn digests(&self) -> impl Iterator<Item = &Digest> {
        std::iter::once(&self.digest).chain(&self.below)
    }

    /// Returns the digests below it that were not read.
    pub(super) fn unread(&self) -> impl Iterator<Item = &Digest> {
        self.below.difference(&self.read)
    }

    /// Adds the entries of `indexes` that it lists, at any depth.
    pub(super) fn complete(&mut self, indexes: &DisguisedIndexes) {
        let mut open: Vec<Digest> = self.unread().cloned().collect();
        while let Some(digest) = open.pop() {
            self.read.insert(digest.clone());
            for entry in indexes.get(&digest).into_iter().flatten() {
                self.below.insert(entry.clone());
                if !self.read.contains(entry) {
                    open.push(entry.clone());
                }
            }
        }
    }
}

/// Source of an image's creation date.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) enum DateSource {
    /// An annotation of the manifest has the date.
    Annotation(DateTime<Utc>),
    /// A label in this image configuration may have the date.
    Config(Descriptor),
    /// The date is in the manifest of this platform or below it.
    Child(Digest),
    /// The image has no date.
    None,
}

impl DateSource {
    /// Returns the digest of the content that must be read.
    pub(super) fn digest(&self) -> Option<&Digest> {
        match self {
            DateSource::Annotation(_) | DateSource::None => None,
            DateSource::Config(config) => Some(&config.digest),
            DateSource::Child(digest) => Some(digest),
        }
    }
}

/// Returns the image that `reference` names and the source of its creation date; `None` if it does
/// not exist.
///
/// Sends one request, and one more for each nested index. Fails if indexes are nested deeper than
/// [`MAX_INDEX_NESTING`].
pub(super) async fn read(
    source: &dyn ImageSource,
    repository: &Repository,
    reference: &Reference,
) -> Result<Option<(ManifestTree, DateSource)>, ItemError> {
    let Some(root) = source.manifest(repository, reference).await? else {
        return Ok(None);
    };
    let date_source = date_source(&root);
    let may_be_list = may_be_list(reference);
    let mut tree = ManifestTree {
        digest: root.digest.clone(),
        below: BTreeSet::new(),
        has_all_indexes: true,
        read: BTreeSet::new(),
        subject: root.subject.as_ref().map(|subject| subject.digest.clone()),
        list: root
            .children()
            .filter(|_| may_be_list)
            .map(|entries| entries.iter().map(|entry| entry.digest.clone()).collect()),
        origin: origin_in(&root.annotations),
    };
    let mut open = vec![root];
    for _ in 0..MAX_INDEX_NESTING {
        let mut nested = Vec::new();
        for child in open.iter().filter_map(Manifest::children).flatten() {
            if tree.below.insert(child.digest.clone()) && may_be_index(child) {
                tree.read.insert(child.digest.clone());
                let found = source
                    .manifest(repository, &child.digest.clone().into())
                    .await?;
                tree.has_all_indexes &= found.is_some();
                nested.extend(found);
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
        return Err(nested_too_deep(repository, action));
    }
    Ok(Some((tree, date_source)))
}

/// Returns true if a reference is a tag of the form `sha256-<hex>`, which can name a list of
/// referrers.
pub(super) fn may_be_list(reference: &Reference) -> bool {
    match reference {
        Reference::Tag(tag) => tag.named_subject().as_ref() == Some(tag),
        Reference::Digest(_) => false,
    }
}

fn nested_too_deep(repository: &Repository, action: String) -> ItemError {
    let detail = format!("its indexes are nested deeper than {MAX_INDEX_NESTING} levels");
    ItemError::at(repository, action, ItemErrorKind::Malformed, detail)
}

/// Returns the digests of an image and of all manifests below it, whatever media type indexes claim
/// for their entries; `None` if it does not exist.
pub(super) async fn all_digests(
    source: &dyn ImageSource,
    repository: &Repository,
    reference: &Reference,
) -> Result<Option<BTreeSet<Digest>>, ItemError> {
    let Some((mut tree, _)) = read(source, repository, reference).await? else {
        return Ok(None);
    };
    // A layout deletes no content by digest. Its sweep reads every entry.
    if matches!(repository, Repository::Remote { .. }) {
        let unread = tree.unread().cloned().collect();
        let cache = no_cache();
        let indexes = disguised_indexes(source, repository, unread, &*cache).await?;
        tree.complete(&indexes);
    }
    Ok(Some(tree.digests().cloned().collect()))
}

/// Manifests that indexes list as images or layers and that are indexes, each with its entries.
pub(super) type DisguisedIndexes = BTreeMap<Digest, BTreeSet<Digest>>;

/// Returns the indexes among `digests`, and among their entries.
///
/// Sends one request for each digest of which `cache` does not know that it is no index.
pub(super) async fn disguised_indexes(
    source: &dyn ImageSource,
    repository: &Repository,
    digests: BTreeSet<Digest>,
    cache: &dyn DigestCache,
) -> Result<DisguisedIndexes, ItemError> {
    let mut found = DisguisedIndexes::new();
    let mut seen = digests.clone();
    let mut open = digests;
    for _ in 0..=MAX_INDEX_NESTING {
        let reads = open.iter().map(|digest| async move {
            let key = format!("no index 1 {digest}");
            if cache.get(&key).is_some() {
                return Ok(None);
            }
            let manifest = source.manifest(repository, &digest.clone().into()).await?;
            let Some(entries) = manifest.as_ref().and_then(Manifest::children) else {
                if manifest.is_some() {
                    cache.put(&key, "");
                }
                return Ok(None);
            };
            let entries = entries.iter().map(|entry| entry.digest.clone()).collect();
            Ok(Some((digest.clone(), entries)))
        });
        let read: Vec<Option<(Digest, BTreeSet<Digest>)>> = stream::iter(reads.collect::<Vec<_>>())
            .buffer_unordered(CONCURRENT_MANIFESTS)
            .try_collect()
            .await?;
        let nested: Vec<(Digest, BTreeSet<Digest>)> = read.into_iter().flatten().collect();
        open = nested
            .iter()
            .flat_map(|(_, entries)| entries)
            .filter(|entry| seen.insert((*entry).clone()))
            .cloned()
            .collect();
        found.extend(nested);
        if open.is_empty() {
            return Ok(found);
        }
    }
    let action = "read the entries of its indexes".to_owned();
    Err(nested_too_deep(repository, action))
}

/// Returns true unless the media type of an index entry is that of a single image, or of a part of
/// one: old build caches list layers.
fn may_be_index(entry: &Descriptor) -> bool {
    const LAYERS_AND_CACHES: [&str; 3] = [
        media_type::OCI_LAYER_PREFIX,
        media_type::DOCKER_LAYER_PREFIX,
        media_type::BUILDKIT_CACHE_PREFIX,
    ];
    let media_type = entry.media_type.as_str();
    let is_image = matches!(
        media_type,
        media_type::OCI_MANIFEST | media_type::DOCKER_MANIFEST
    );
    !is_image
        && !LAYERS_AND_CACHES
            .iter()
            .any(|prefix| media_type.starts_with(prefix))
}

/// Returns the project that built a base, from annotations or labels: the source of the image if
/// `build` made it as a base.
fn origin_in(texts: &BTreeMap<String, String>) -> Option<String> {
    let is_base = texts.get(labels::TIER).map(String::as_str) == Some(labels::TIER_BASE);
    let source = texts.get(labels::SOURCE).filter(|_| is_base)?.trim();
    (!source.is_empty()).then(|| source.to_owned())
}

/// Returns the project that built a base, from the labels of its configuration; `None` if they do
/// not name one.
///
/// Results are cached in `cache`, by digest.
pub(super) async fn origin(
    source: &dyn ImageSource,
    repository: &Repository,
    date_source: &DateSource,
    cache: &dyn DigestCache,
) -> Result<Option<String>, ItemError> {
    let Some(digest) = date_source.digest() else {
        return Ok(None);
    };
    let key = format!("origin 1 {digest}");
    if let Some(text) = cache.get(&key) {
        return Ok(Some(text).filter(|text| !text.is_empty()));
    }
    let mut content = date_source.clone();
    for _ in 0..=MAX_INDEX_NESTING {
        content = match content {
            DateSource::Config(config) => {
                let bytes = read_config(source, repository, &config).await?;
                let labels = ImageConfig::parse(&bytes).unwrap_or_default().labels;
                let origin = origin_in(&labels);
                cache.put(&key, origin.as_deref().unwrap_or_default());
                return Ok(origin);
            }
            DateSource::Child(digest) => match source.manifest(repository, &digest.into()).await? {
                Some(child) => match origin_in(&child.annotations) {
                    Some(origin) => return Ok(Some(origin)),
                    None => config_source(&child),
                },
                None => return Ok(None),
            },
            DateSource::Annotation(_) | DateSource::None => return Ok(None),
        };
    }
    Ok(None)
}

/// Result of reading a creation date.
enum CreationDate {
    Found(DateTime<Utc>),
    /// The content has no date.
    Missing,
    /// The content does not exist.
    ContentMissing,
}

/// Returns the creation date in an image's annotations or labels.
///
/// Dates of content are cached in `cache`, by digest.
pub(super) async fn created(
    source: &dyn ImageSource,
    repository: &Repository,
    date_source: &DateSource,
    cache: &dyn DigestCache,
) -> Result<Option<DateTime<Utc>>, ItemError> {
    let Some(digest) = date_source.digest() else {
        return Ok(match date_source {
            DateSource::Annotation(created) => Some(*created),
            _ => None,
        });
    };
    let key = format!("created 1 {digest}");
    if let Some(text) = cache.get(&key) {
        return Ok(parse_time(&text));
    }
    match follow(source, repository, date_source.clone()).await? {
        CreationDate::Found(created) => {
            cache.put(&key, &created.to_rfc3339());
            Ok(Some(created))
        }
        CreationDate::Missing => {
            cache.put(&key, "");
            Ok(None)
        }
        CreationDate::ContentMissing => Ok(None),
    }
}

async fn follow(
    source: &dyn ImageSource,
    repository: &Repository,
    mut date_source: DateSource,
) -> Result<CreationDate, ItemError> {
    for _ in 0..=MAX_INDEX_NESTING {
        date_source = match date_source {
            DateSource::Annotation(created) => return Ok(CreationDate::Found(created)),
            DateSource::None => return Ok(CreationDate::Missing),
            DateSource::Config(config) => {
                let bytes = read_config(source, repository, &config).await?;
                // A blob that is not an image configuration has no date.
                let config = ImageConfig::parse(&bytes).unwrap_or_default();
                return Ok(config
                    .labels
                    .get(labels::CREATED)
                    .and_then(|text| parse_time(text))
                    .map_or(CreationDate::Missing, CreationDate::Found));
            }
            DateSource::Child(digest) => match source.manifest(repository, &digest.into()).await? {
                Some(child) => self::date_source(&child),
                None => return Ok(CreationDate::ContentMissing),
            },
        };
    }
    Ok(CreationDate::Missing)
}

/// Returns the way to the configuration of an image, whatever its annotations are.
fn config_source(manifest: &Manifest) -> DateSource {
    let without = Manifest {
        annotations: BTreeMap::new(),
        ..manifest.clone()
    };
    date_source(&without)
}

fn date_source(manifest: &Manifest) -> DateSource {
    if let Some(created) = manifest
        .annotations
        .get(labels::CREATED)
        .and_then(|text| parse_time(text))
    {
        return DateSource::Annotation(created);
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
                .map_or(DateSource::None, |child| {
                    DateSource::Child(child.digest.clone())
                })
        }
        ManifestContent::Image {
            config: Some(config),
            ..
        } if matches!(
            config.media_type.as_str(),
            media_type::OCI_CONFIG | media_type::DOCKER_CONFIG
        ) =>
        {
            DateSource::Config(config.clone())
        }
        ManifestContent::Image { .. } => DateSource::None,
    }
}

fn parse_time(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(text.trim())
        .ok()
        .map(|time| time.with_timezone(&Utc))
}
