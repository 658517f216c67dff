//! Observation of a build: templates, build folders, base images and published images. Only reads.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, stream};

use super::BuildScope;
use super::context::{ContextFolderError, FileDigest, digests, list, read_text};
use super::identity::{Identity, identities};
use super::labels::inputs_digest;
use super::render::{RunValues, Template, dockerfile};
use crate::config::{BuildConfig, BuildImage, Config, SortBy, SyncEntry, TagSelection};
use crate::dockerfile::{
    BuildParameters, DockerfileError, UnsupportedInstruction, context_files, different_base,
    first_unsupported,
};
use crate::error::ItemError;
use crate::model::labels;
use crate::model::{Digest, Reference, Repository, Tag};
use crate::progress::{Event, Progress};
use crate::registry::{ImageStores, ListedTag};
use crate::steps::image::read_facts;
use crate::steps::sync::newest;

/// Maximum number of images that are observed at once, over all hosts. Each host also has its own
/// connection limit.
const MAX_PARALLEL_IMAGES: usize = 16;

/// Observed state of the images of the configuration.
#[derive(Clone, Debug)]
pub struct World {
    /// Identities, by the positions of the images.
    pub identities: Vec<Result<Identity, ItemError>>,
    /// Images in scope and their bases, by position.
    pub images: BTreeMap<usize, ObservedImage>,
}

/// Observed state of one image.
#[derive(Clone, Debug)]
pub struct ObservedImage {
    /// True if the run may build the image; false if it is only observed as a base.
    pub in_scope: bool,
    pub inputs: Result<ImageInputs, InputsError>,
    /// Digest of the base's tag; `None` if the tag does not exist.
    pub base_digest: Result<Option<Digest>, ItemError>,
    /// Image at the tag; `None` if the tag does not exist.
    pub published: Result<Option<PublishedImage>, ItemError>,
    /// Digests of the aliases; `None` if the alias does not exist.
    pub aliases: BTreeMap<Tag, Result<Option<Digest>, ItemError>>,
}

/// Inputs of an image from its build folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageInputs {
    /// Path of the template for messages.
    pub template_name: String,
    /// Text of the template.
    pub template: String,
    /// Files that the Dockerfile reads, or may read.
    pub files: Vec<FileDigest>,
    /// Digest of all inputs.
    pub digest: Digest,
    /// First instruction that the engine `native` does not support, with its line; `None` if it
    /// supports the Dockerfile.
    pub needs_execution: Option<UnsupportedInstruction>,
}

/// Error while reading the inputs of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InputsError {
    /// The tag of the image is unknown.
    UnknownTag,
    /// The template or the folder is invalid. The run then builds no image at all.
    Invalid(ItemError),
}

/// A published image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedImage {
    pub digest: Digest,
    /// Digest of its inputs, from its label.
    pub inputs: Option<String>,
    /// Digest of its base, from its label.
    pub base_digest: Option<String>,
}

/// Observes the images in scope and their bases. Errors are part of the result.
pub async fn observe(
    config: &Config,
    build: &BuildConfig,
    scope: &BuildScope,
    stores: &ImageStores,
    progress: &dyn Progress,
) -> World {
    let in_scope = scope.images(build);
    let wanted = with_bases(build, &in_scope);
    let identities = identify(config, build, &wanted, stores, progress).await;
    let observations = wanted.iter().map(|&position| {
        let (identity, is_selected) = (&identities[position], in_scope.contains(&position));
        async move {
            (
                position,
                observe_image(
                    config,
                    build,
                    position,
                    identity,
                    is_selected,
                    stores,
                    progress,
                )
                .await,
            )
        }
    });
    let images = stream::iter(observations)
        .buffer_unordered(MAX_PARALLEL_IMAGES)
        .collect()
        .await;
    World { identities, images }
}

/// Returns the identity of each image. The newest tags of mirrors are only requested for the images
/// at `wanted`.
pub async fn identify(
    config: &Config,
    build: &BuildConfig,
    wanted: &BTreeSet<usize>,
    stores: &ImageStores,
    progress: &dyn Progress,
) -> Vec<Result<Identity, ItemError>> {
    let mirror_tags =
        stream::iter(wanted)
            .filter_map(
                |&position| async move { Some((position, mirror(config, build, position)?)) },
            )
            .map(|(position, entry)| async move {
                (position, newest_tag(entry, stores, progress).await)
            })
            .buffer_unordered(MAX_PARALLEL_IMAGES)
            .collect::<BTreeMap<_, _>>()
            .await;
    identities(build, &mirror_tags)
}

/// Returns the positions of the images in scope and of all their bases.
fn with_bases(build: &BuildConfig, in_scope: &BTreeSet<usize>) -> BTreeSet<usize> {
    let mut wanted = in_scope.clone();
    let mut open: Vec<usize> = in_scope.iter().copied().collect();
    while let Some(position) = open.pop() {
        let base = &build.images[position].mirror_image;
        let bases =
            (0..build.images.len()).filter(|&other| build.images[other].repository == *base);
        open.extend(
            bases
                .filter(|&other| wanted.insert(other))
                .collect::<Vec<_>>(),
        );
    }
    wanted
}

/// Returns the sync entry of the mirror whose newest tag is the base of the image. `None` if the
/// image sets `mirror_tag` or its base is not a mirror of the configuration.
pub fn mirror<'a>(
    config: &'a Config,
    build: &BuildConfig,
    position: usize,
) -> Option<&'a SyncEntry> {
    let image = &build.images[position];
    let is_image = build
        .images
        .iter()
        .any(|other| other.repository == image.mirror_image);
    let entries = config.sync.as_ref().map_or(&[][..], |sync| &sync.entries);
    entries
        .iter()
        .find(|entry| image.mirror_tag.is_none() && !is_image && entry.target == image.mirror_image)
}

/// Requests the tags of a mirror and returns the newest one that its entry selects.
async fn newest_tag(
    entry: &SyncEntry,
    stores: &ImageStores,
    progress: &dyn Progress,
) -> Result<Tag, ItemError> {
    if let TagSelection::Fixed(tag) = &entry.selection {
        return Ok(tag.clone());
    }
    progress.event(Event::Observing {
        what: &format!("tags of {}", entry.target),
    });
    let store = stores.of(&entry.target);
    let listing = if ranks_by_push(entry) {
        store.dated_tags(&entry.target).await
    } else {
        store.tags(&entry.target).await
    };
    newest_listed(entry, &listing?.unwrap_or_default())
}

/// Returns true if the newest tag of a mirror is determined by push dates.
pub fn ranks_by_push(entry: &SyncEntry) -> bool {
    matches!(&entry.selection, TagSelection::Pattern(pattern) if pattern.sort == SortBy::Date)
}

/// Returns the newest tag in the listing of a mirror that its entry selects. Fails if no tag is
/// selected, or if push dates are needed and missing.
pub fn newest_listed(entry: &SyncEntry, listing: &[ListedTag]) -> Result<Tag, ItemError> {
    let pattern = match &entry.selection {
        TagSelection::Fixed(tag) => return Ok(tag.clone()),
        TagSelection::Pattern(pattern) => pattern,
    };
    if ranks_by_push(entry) && listing.iter().any(|listed| listed.pushed_at.is_none()) {
        let cause = format!(
            "cannot determine the newest tag of {} by date: the registry does not report push dates",
            entry.target
        );
        return Err(ItemError::other(cause).with_hint("set `mirror_tag`"));
    }
    newest(pattern, entry.os_normalize, listing)
        .cloned()
        .ok_or_else(|| {
            let cause = format!(
                "{} has no tag that its sync entry selects (`{}`)",
                entry.target,
                pattern.describe()
            );
            ItemError::other(cause).with_hint("run `imglife sync` first")
        })
}

/// Reads the inputs of one image and requests its base, its tag and its aliases.
async fn observe_image(
    config: &Config,
    build: &BuildConfig,
    position: usize,
    identity: &Result<Identity, ItemError>,
    in_scope: bool,
    stores: &ImageStores,
    progress: &dyn Progress,
) -> ObservedImage {
    let image = &build.images[position];
    let Ok(identity) = identity else {
        let unknown_tag = ItemError::other("the tag of the image is unknown");
        let inputs = Err(InputsError::UnknownTag);
        return ObservedImage {
            in_scope,
            inputs,
            base_digest: Err(unknown_tag.clone()),
            published: Err(unknown_tag),
            aliases: BTreeMap::new(),
        };
    };
    progress.event(Event::Observing {
        what: &format!("{}:{}", image.repository, identity.tag),
    });
    let inputs = read_inputs(config, build, image, identity)
        .await
        .map_err(InputsError::Invalid);
    let digest_of = async |repository: &Repository, tag: &Tag| {
        let found = stores
            .of(repository)
            .resolve(repository, &Reference::Tag(tag.clone()))
            .await;
        found.map(|found| found.map(|found| found.digest))
    };
    let aliases = async {
        let requests = image
            .aliases
            .iter()
            .map(|alias| async { (alias.clone(), digest_of(&image.repository, alias).await) });
        futures_util::future::join_all(requests)
            .await
            .into_iter()
            .collect()
    };
    let (base_digest, published, aliases) = futures_util::join!(
        digest_of(&identity.base, &identity.base_tag),
        published(stores, &image.repository, &identity.tag),
        aliases
    );
    ObservedImage {
        in_scope,
        inputs,
        base_digest,
        published,
        aliases,
    }
}

/// Returns the published image at `tag`, or `None` if the tag does not exist.
pub(super) async fn published(
    stores: &ImageStores,
    repository: &Repository,
    tag: &Tag,
) -> Result<Option<PublishedImage>, ItemError> {
    let store = stores.of(repository);
    let facts = read_facts(store, repository, &Reference::Tag(tag.clone()), None).await?;
    Ok(facts.map(|facts| PublishedImage {
        inputs: facts.label(labels::INPUTS).map(str::to_owned),
        base_digest: facts.label(labels::BASE_DIGEST).map(str::to_owned),
        digest: facts.digest,
    }))
}

/// Reads the build folder of an image.
async fn read_inputs(
    config: &Config,
    build: &BuildConfig,
    image: &BuildImage,
    identity: &Identity,
) -> Result<ImageInputs, ItemError> {
    let path = image.folder.join(&image.template);
    let template_name = path
        .strip_prefix(&config.directory)
        .unwrap_or(&path)
        .display()
        .to_string();
    let template = blocking(move || read_text(&path)).await?;
    let blank = dockerfile(
        build,
        image,
        identity,
        &Template {
            name: &template_name,
            text: &template,
        },
        RunValues::Blank,
    )
    .map_err(|error| ItemError::other(error.to_string()).with_optional_hint(error.hint.clone()))?;
    let invalid = |error: &DockerfileError| {
        ItemError::other(format!("{template_name}: {error}")).with_optional_hint(error.hint())
    };
    let path = image.folder.clone();
    let folder = blocking(move || list(&path)).await?;
    let parameters = BuildParameters {
        arguments: &image.args,
        platforms: &image.platforms,
    };
    let read = context_files(&blank, parameters, &folder.files, folder.ignore.as_deref())
        .map_err(|error| invalid(&error))?;
    let needs_execution =
        match first_unsupported(&blank, &image.args).map_err(|error| invalid(&error))? {
            // An error is ignored here: with the values of the run the Dockerfile may be valid, and
            // the engine checks it again.
            None => different_base(&blank, &image.args, &identity.base_reference()).unwrap_or(None),
            unsupported => unsupported,
        };
    let (path, template_path) = (image.folder.clone(), image.template.clone());
    let files = blocking(move || digests(&path, &folder.files, &read, &template_path)).await?;
    let digest = inputs_digest(image, identity, &blank, &files, &config.directory);
    Ok(ImageInputs {
        template_name,
        template,
        files,
        digest,
        needs_execution,
    })
}

/// Runs blocking file access on a separate thread.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ContextFolderError> + Send + 'static,
) -> Result<T, ItemError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(|error| ItemError::of(&error, error.hint())),
        Err(error) => Err(ItemError::other(error.to_string())),
    }
}
