//! What a build looks at: templates and folders, the bases, and what is published already. Reads
//! only.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, stream};

use super::Scope;
use super::context::{FileDigest, FolderError, digests, list, read_template};
use super::identity::{Identity, identities};
use super::labels::inputs;
use super::render::{Filling, Template, dockerfile};
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

/// Look-ups under way at once, over all hosts; each host has its own limit besides.
const PARALLEL_LOOKS: usize = 16;

/// What was seen of the images of the configuration.
#[derive(Clone, Debug)]
pub struct World {
    /// By the positions of the images.
    pub identities: Vec<Result<Identity, ItemError>>,
    /// Of the images that the run is about and of those that they are built on, by their positions.
    pub images: BTreeMap<usize, Seen>,
}

#[derive(Clone, Debug)]
pub struct Seen {
    /// Whether the run is about it; others are only looked at.
    pub in_scope: bool,
    pub draft: Result<Draft, DraftError>,
    /// What the base's tag names; `None` when it names nothing.
    pub base_digest: Result<Option<Digest>, ItemError>,
    /// What the image's own tag names.
    pub published: Result<Option<Published>, ItemError>,
    /// What its aliases name.
    pub aliases: BTreeMap<Tag, Result<Option<Digest>, ItemError>>,
}

/// What an image is going to be made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// The file of the template, as messages call it.
    pub template_name: String,
    pub template: String,
    pub files: Vec<FileDigest>,
    /// The digest of all of it.
    pub inputs: Digest,
    /// What only an engine that executes can do, with its line.
    pub needs_execution: Option<UnsupportedInstruction>,
}

/// Why an image cannot be made of its folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DraftError {
    /// It is not known what the image would be called.
    Unnamed,
    /// The template or the folder is wrong: nothing is built until it is right.
    Wrong(ItemError),
}

/// An image that is there already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    pub digest: Digest,
    /// The digest of what it was made of, as it says itself.
    pub inputs: Option<String>,
    /// The digest of the base that it stands on, as it says itself.
    pub base_digest: Option<String>,
}

/// Looks at everything that the images in scope need. What cannot be seen is part of the result,
/// not a failure.
pub async fn observe(
    config: &Config,
    build: &BuildConfig,
    scope: &Scope,
    stores: &ImageStores,
    progress: &dyn Progress,
) -> World {
    let in_scope = scope.images(build);
    let wanted = with_bases(build, &in_scope);
    let identities = identify(config, build, &wanted, stores, progress).await;
    let looks = wanted.iter().map(|&position| {
        let (identity, is_meant) = (&identities[position], in_scope.contains(&position));
        async move {
            (
                position,
                look_at(
                    config, build, position, identity, is_meant, stores, progress,
                )
                .await,
            )
        }
    });
    let images = stream::iter(looks)
        .buffer_unordered(PARALLEL_LOOKS)
        .collect()
        .await;
    World { identities, images }
}

/// Returns what each image is built on and called, with the newest tags of the mirrors that the
/// images at `wanted` leave open.
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
            .buffer_unordered(PARALLEL_LOOKS)
            .collect::<BTreeMap<_, _>>()
            .await;
    identities(build, &mirror_tags)
}

/// Returns the images in scope with all that they are built on.
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

/// Returns the mirror whose newest tag an image is built on, where it leaves the tag open.
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

/// Returns the newest of the tags at a mirror that its entry selects.
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

/// Returns whether the newest tag of a mirror is told by the times at which tags were pushed.
pub fn ranks_by_push(entry: &SyncEntry) -> bool {
    matches!(&entry.selection, TagSelection::Pattern(pattern) if pattern.sort == SortBy::Date)
}

/// Returns the newest of the tags in the listing of a mirror that its entry selects.
pub fn newest_listed(entry: &SyncEntry, listing: &[ListedTag]) -> Result<Tag, ItemError> {
    let pattern = match &entry.selection {
        TagSelection::Fixed(tag) => return Ok(tag.clone()),
        TagSelection::Pattern(pattern) => pattern,
    };
    if ranks_by_push(entry) && listing.iter().any(|seen| seen.pushed_at.is_none()) {
        let cause = format!(
            "which tag of {} is the newest by date cannot be told: the registry does not say when they were pushed",
            entry.target
        );
        return Err(ItemError::other(cause).with_hint("give `mirror_tag`"));
    }
    newest(pattern, entry.os_normalize, listing)
        .cloned()
        .ok_or_else(|| {
            let cause = format!(
                "{} has no tag that its sync entry selects (`tag_regex: {}`)",
                entry.target, pattern.tag_regex.text
            );
            ItemError::other(cause).with_hint("run `imglife sync` first")
        })
}

async fn look_at(
    config: &Config,
    build: &BuildConfig,
    position: usize,
    identity: &Result<Identity, ItemError>,
    in_scope: bool,
    stores: &ImageStores,
    progress: &dyn Progress,
) -> Seen {
    let image = &build.images[position];
    let Ok(identity) = identity else {
        let unnamed = ItemError::other("what it is called is not known");
        let draft = Err(DraftError::Unnamed);
        return Seen {
            in_scope,
            draft,
            base_digest: Err(unnamed.clone()),
            published: Err(unnamed),
            aliases: BTreeMap::new(),
        };
    };
    progress.event(Event::Observing {
        what: &format!("{}:{}", image.repository, identity.tag),
    });
    let draft = draft(config, build, image, identity)
        .await
        .map_err(DraftError::Wrong);
    let digest_of = async |repository: &Repository, tag: &Tag| {
        let found = stores
            .of(repository)
            .resolve(repository, &Reference::Tag(tag.clone()))
            .await;
        found.map(|found| found.map(|found| found.digest))
    };
    let aliases = async {
        let looks = image
            .aliases
            .iter()
            .map(|alias| async { (alias.clone(), digest_of(&image.repository, alias).await) });
        futures_util::future::join_all(looks)
            .await
            .into_iter()
            .collect()
    };
    let (base_digest, published, aliases) = futures_util::join!(
        digest_of(&identity.base, &identity.base_tag),
        published(stores, &image.repository, &identity.tag),
        aliases
    );
    Seen {
        in_scope,
        draft,
        base_digest,
        published,
        aliases,
    }
}

pub(super) async fn published(
    stores: &ImageStores,
    repository: &Repository,
    tag: &Tag,
) -> Result<Option<Published>, ItemError> {
    let store = stores.of(repository);
    let facts = read_facts(store, repository, &Reference::Tag(tag.clone()), None).await?;
    Ok(facts.map(|facts| Published {
        inputs: facts.label(labels::INPUTS).map(str::to_owned),
        base_digest: facts.label(labels::BASE_DIGEST).map(str::to_owned),
        digest: facts.digest,
    }))
}

async fn draft(
    config: &Config,
    build: &BuildConfig,
    image: &BuildImage,
    identity: &Identity,
) -> Result<Draft, ItemError> {
    let path = image.folder.join(&image.template);
    let template_name = path
        .strip_prefix(&config.directory)
        .unwrap_or(&path)
        .display()
        .to_string();
    let template = blocking(move || read_template(&path)).await?;
    let blank = dockerfile(
        build,
        image,
        identity,
        &Template {
            name: &template_name,
            text: &template,
        },
        Filling::Blanks,
    )
    .map_err(|error| ItemError::other(error.to_string()).with_optional_hint(error.hint.clone()))?;
    let wrong = |error: &DockerfileError| {
        ItemError::other(format!("{template_name}: {error}")).with_optional_hint(error.hint())
    };
    let path = image.folder.clone();
    let folder = blocking(move || list(&path)).await?;
    let building = BuildParameters {
        arguments: &image.args,
        platforms: &image.platforms,
    };
    let read = context_files(&blank, building, &folder.files, folder.ignore.as_deref())
        .map_err(|error| wrong(&error))?;
    let needs_execution =
        match first_unsupported(&blank, &image.args).map_err(|error| wrong(&error))? {
            // With the blanks filled in it may be understood; the engine looks at it again.
            None => different_base(&blank, &image.args, &identity.base_reference()).unwrap_or(None),
            refusal => refusal,
        };
    let (path, template_path) = (image.folder.clone(), image.template.clone());
    let files = blocking(move || digests(&path, &folder.files, &read, &template_path)).await?;
    let inputs = inputs(image, identity, &blank, &files, &config.directory);
    Ok(Draft {
        template_name,
        template,
        files,
        inputs,
        needs_execution,
    })
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FolderError> + Send + 'static,
) -> Result<T, ItemError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(|error| ItemError::of(&error, error.hint())),
        Err(error) => Err(ItemError::other(error.to_string())),
    }
}
