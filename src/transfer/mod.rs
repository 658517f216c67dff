//! Copying an image, with everything it refers to, from one place to another.
//!
//! Owns the order (blobs, children, the image, its tag last), the rule that each digest crosses the
//! wire once in a run, and the platform filter. Knows the two traits of `registry` and no concrete
//! place.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};

use crate::error::{ItemError, ItemErrorKind, Side};
use crate::model::lock::{into_inner, lock};
use crate::model::manifest::MAX_INDEX_NESTING;
use crate::model::media_type;
use crate::model::{Descriptor, Digest, Manifest, ManifestContent, Reference, Repository, Tag};
use crate::progress::{Event, Progress};
use crate::registry::{ImageSource, ImageStore};

mod ahead;
mod attachments;
mod blob;
mod completeness;
mod error;
mod ledger;
mod memory;
mod platforms;
mod refresh;

pub use ahead::Upcoming;
pub use attachments::Attachments;
pub use completeness::CompletenessRequest;
pub use error::CopyError;
pub use memory::{Memory, forgetful};
pub use platforms::{PlatformFilter, PlatformFilterMode};
pub use refresh::{Lag, Looks, RefreshRequest};

use ahead::Ahead;
use error::at;
use ledger::{Ledger, Once};

/// Blobs and children of one image that are worked on at once; hosts have limits of their own.
const PARALLEL_PARTS: usize = 4;

/// A copy that took longer looks whether a tag that was not there is still not there; the others
/// spare the request.
const LONG_COPY: Duration = Duration::from_secs(5);

/// So does every copy of a run that has gone on for longer.
const LONG_RUN: Duration = Duration::from_secs(300);

/// Copies images between two places. One for a whole run: it remembers what is at the target
/// already.
pub struct Transfer {
    source: Arc<dyn ImageSource>,
    /// The source, as what reads ahead for it.
    ahead: Arc<Ahead>,
    target: Arc<dyn ImageStore>,
    ledger: Ledger,
    memory: Arc<dyn Memory>,
    progress: Arc<dyn Progress>,
    began: Instant,
    long_copy: Duration,
}

/// One image to copy.
pub struct CopyRequest<'a> {
    /// How progress names it.
    pub item: &'a str,
    pub from: &'a Repository,
    /// What to read: a digest where one was decided on, else a tag, which is then resolved once.
    pub reference: Reference,
    pub to: &'a Repository,
    pub tag: &'a Tag,
    pub expected: Expected<'a>,
    pub filter: &'a PlatformFilter,
    pub attachments: Attachments<'a>,
}

/// What a tag must be at the target for a copy to move it. It is always fine when it names what is
/// copied already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected<'a> {
    /// It was not there when it was looked for. Looked at again where that is long ago.
    Nothing,
    /// It named this, or has gone. Looked at again always.
    Image(&'a Digest),
}

/// A copy that is done.
#[derive(Debug, PartialEq, Eq)]
pub struct Copied {
    /// The digest that the tag has at the source.
    pub source_digest: Digest,
    /// The digest that the tag has at the target: another one only when the index was rewritten.
    pub digest: Digest,
    pub tally: Tally,
    /// How many signatures and other attachments are at the target with it.
    pub attachments: usize,
    pub warnings: Vec<String>,
}

impl Copied {
    /// Returns the result of a copy that another run made meanwhile.
    pub fn found(source_digest: &Digest, digest: &Digest) -> Copied {
        Copied {
            source_digest: source_digest.clone(),
            digest: digest.clone(),
            tally: Tally::default(),
            attachments: 0,
            warnings: vec![FOUND.to_owned()],
        }
    }
}

const FOUND: &str = "another run copied it meanwhile";

/// Amounts of content, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Sent over the wire.
    pub moved: u64,
    /// Shared from another repository of the target.
    pub mounted: u64,
    /// Found at the target, or sent for another image of the same run.
    pub skipped: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.moved += other.moved;
        self.mounted += other.mounted;
        self.skipped += other.skipped;
    }
}

/// A copy under way: what it is of, and what was counted so far by all its parts.
struct Copy<'a> {
    item: &'a str,
    from: &'a Repository,
    to: &'a Repository,
    filter: &'a PlatformFilter,
    moved: AtomicU64,
    mounted: AtomicU64,
    skipped: AtomicU64,
    /// The indexes of which the target may have a part only, so that it is not known from the
    /// target whether they are copied.
    indexes: std::sync::Mutex<HashMap<Digest, Once>>,
    warnings: std::sync::Mutex<Vec<String>>,
}

impl<'a> Copy<'a> {
    fn new(
        item: &'a str,
        from: &'a Repository,
        to: &'a Repository,
        filter: &'a PlatformFilter,
    ) -> Copy<'a> {
        Copy {
            item,
            from,
            to,
            filter,
            moved: AtomicU64::new(0),
            mounted: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            indexes: std::sync::Mutex::default(),
            warnings: std::sync::Mutex::default(),
        }
    }

    fn index(&self, digest: &Digest) -> Once {
        lock(&self.indexes)
            .entry(digest.clone())
            .or_default()
            .clone()
    }

    fn warn(&self, warning: String) {
        lock(&self.warnings).push(warning);
    }

    fn into_warnings(self) -> Vec<String> {
        into_inner(self.warnings)
    }

    fn tally(&self) -> Tally {
        Tally {
            moved: self.moved.load(Ordering::Relaxed),
            mounted: self.mounted.load(Ordering::Relaxed),
            skipped: self.skipped.load(Ordering::Relaxed),
        }
    }
}

impl Transfer {
    /// Returns a transfer that remembers nothing of earlier ones.
    pub fn new(
        source: Arc<dyn ImageSource>,
        target: Arc<dyn ImageStore>,
        progress: Arc<dyn Progress>,
    ) -> Transfer {
        let ahead = Arc::new(Ahead::of(source));
        Transfer {
            source: ahead.clone(),
            ahead,
            target,
            ledger: Ledger::default(),
            memory: forgetful(),
            progress,
            began: Instant::now(),
            long_copy: LONG_COPY,
        }
    }

    /// Returns the transfer with what it may remember.
    #[must_use]
    pub fn with_memory(self, memory: Arc<dyn Memory>) -> Transfer {
        Transfer { memory, ..self }
    }

    /// Tells that the target said that there is no such repository, so nothing has to be looked for
    /// in it.
    pub fn note_absent_target(&self, repository: &Repository) {
        self.ledger.note_absent(repository);
    }

    /// Copies one image and moves the tag to it, last. Nothing is deleted at the target, and until
    /// the last step nothing that a tag points at changes; not then either where the tag is not
    /// what is expected any more. A future that is dropped leaves at most blobs and manifests
    /// without a tag.
    pub async fn copy(&self, request: CopyRequest<'_>) -> Result<Copied, CopyError> {
        let began = Instant::now();
        let copy = Copy::new(request.item, request.from, request.to, request.filter);
        let root = self.read(request.from, &request.reference).await?;
        let source_digest = root.digest.clone();
        let filtered = platforms::apply(&*self.source, request.from, root, request.filter).await?;
        for warning in filtered.warnings {
            copy.warn(warning);
        }
        let digest = filtered.root.digest.clone();
        if let Some(key) = memory::rewritten(&source_digest, request.filter) {
            self.memory.remember(&key, digest.as_str());
        }
        // Another tag of the same image may have brought everything already; then only this tag is
        // missing.
        if !self
            .is_whole_at_target(&copy, &filtered.root.descriptor())
            .await?
        {
            self.copy_parts(&copy, &filtered.root, &filtered.kept, 0)
                .await?;
        }
        let mut attached = None;
        let attachments = match request.attachments {
            Attachments::LeftOut => 0,
            Attachments::Copied { source_tags } => {
                let rewritten = (digest != source_digest).then_some(&digest);
                let image = self
                    .attached_to(request.to, &filtered.root, &filtered.kept)
                    .await?;
                let found = self
                    .find_attachments(&copy, &image, rewritten, source_tags)
                    .await?;
                if !found.is_empty() {
                    // Attachments come after what they are attached to.
                    self.put_child(&copy, &filtered.root).await?;
                }
                let attachments = self.copy_found(&copy, found, source_tags).await?;
                attached = Some((image, source_tags));
                attachments
            }
        };
        let is_late = began.elapsed() >= self.long_copy || self.began.elapsed() >= LONG_RUN;
        let looks = is_late || request.expected != Expected::Nothing;
        if looks
            && self
                .names_already(request.to, request.tag, request.expected, &digest)
                .await?
        {
            copy.warn(FOUND.to_owned());
        } else {
            self.put_tag(&request, &filtered.root).await?;
        }
        self.ledger.note_manifest(request.to, &digest);
        if let Some((image, source_tags)) = attached {
            self.remember_attachments(request.from, request.to, request.tag, image, source_tags);
        }
        let tally = copy.tally();
        Ok(Copied {
            source_digest,
            digest,
            tally,
            attachments,
            warnings: copy.into_warnings(),
        })
    }

    /// Returns whether a tag at the target names what is wanted already. Fails when it names
    /// anything but what is expected.
    pub async fn names_already(
        &self,
        repository: &Repository,
        tag: &Tag,
        expected: Expected<'_>,
        wanted: &Digest,
    ) -> Result<bool, CopyError> {
        let found = self
            .target
            .resolve(repository, &Reference::Tag(tag.clone()))
            .await
            .map_err(at(Side::Target))?;
        match (found, expected) {
            (None, _) => Ok(false),
            (Some(found), _) if found.digest == *wanted => Ok(true),
            (Some(found), Expected::Image(digest)) if found.digest == *digest => Ok(false),
            (Some(found), expected) => Err(CopyError::Moved {
                repository: repository.clone(),
                tag: tag.clone(),
                from: if let Expected::Image(digest) = expected {
                    Some(digest.clone())
                } else {
                    None
                },
                to: found.digest,
            }),
        }
    }

    async fn put_tag(&self, request: &CopyRequest<'_>, root: &Manifest) -> Result<(), CopyError> {
        let reference = Reference::Tag(request.tag.clone());
        let Err(error) = self.target.put_manifest(request.to, &reference, root).await else {
            return Ok(());
        };
        // A tag that may not be changed is no failure when it names this image already.
        let refused = matches!(
            error.kind,
            ItemErrorKind::Refused | ItemErrorKind::Forbidden | ItemErrorKind::Unsupported
        );
        let found = if refused {
            self.target
                .resolve(request.to, &reference)
                .await
                .ok()
                .flatten()
        } else {
            None
        };
        match found {
            Some(found) if found.digest == root.digest => Ok(()),
            _ => Err(at(Side::Target)(explained(error, root, request.filter))),
        }
    }

    /// Gives the image that `digest` names in `repository` of the target another tag there.
    pub async fn tag_again(
        &self,
        repository: &Repository,
        digest: &Digest,
        tag: &Tag,
    ) -> Result<(), CopyError> {
        let reference = Reference::Digest(digest.clone());
        let manifest = self
            .target
            .manifest(repository, &reference)
            .await
            .map_err(at(Side::Target))?;
        let manifest = manifest.ok_or_else(|| CopyError::Absent {
            side: Side::Target,
            repository: repository.clone(),
            reference,
        })?;
        self.target
            .put_manifest(repository, &Reference::Tag(tag.clone()), &manifest)
            .await
            .map_err(at(Side::Target))
    }

    /// Returns the digest that `filter` gives the image `source` names, without copying anything:
    /// what a target that is up to date has under the tag.
    pub async fn expected_digest(
        &self,
        from: &Repository,
        source: &Digest,
        filter: &PlatformFilter,
    ) -> Result<Digest, CopyError> {
        let Some(key) = memory::rewritten(source, filter) else {
            return Ok(source.clone());
        };
        if let Some(digest) = self.memory.recall(&key).and_then(|text| text.parse().ok()) {
            return Ok(digest);
        }
        let root = self.read(from, &Reference::Digest(source.clone())).await?;
        let digest = platforms::apply(&*self.source, from, root, filter)
            .await?
            .root
            .digest;
        self.memory.remember(&key, digest.as_str());
        Ok(digest)
    }

    async fn read(&self, from: &Repository, reference: &Reference) -> Result<Manifest, CopyError> {
        self.source
            .manifest(from, reference)
            .await
            .map_err(at(Side::Source))?
            .ok_or_else(|| CopyError::Absent {
                side: Side::Source,
                repository: from.clone(),
                reference: reference.clone(),
            })
    }

    /// Returns the manifest that a tag names at the target.
    async fn root_at_target(&self, to: &Repository, tag: &Tag) -> Result<Manifest, CopyError> {
        let reference = Reference::Tag(tag.clone());
        let root = self
            .target
            .manifest(to, &reference)
            .await
            .map_err(at(Side::Target))?;
        root.ok_or_else(|| CopyError::Absent {
            side: Side::Target,
            repository: to.clone(),
            reference,
        })
    }

    /// Returns whether the target has the manifest and with it, since nothing is stored before its
    /// parts, all of them.
    async fn is_whole_at_target(
        &self,
        copy: &Copy<'_>,
        manifest: &Descriptor,
    ) -> Result<bool, CopyError> {
        if is_index_type(&manifest.media_type) && !copy.filter.trusts_an_index() {
            return Ok(false);
        }
        if self.ledger.has_manifest(copy.to, &manifest.digest) {
            return Ok(true);
        }
        if self.ledger.is_absent(copy.to) {
            return Ok(false);
        }
        self.target
            .claim_manifest(copy.to, &manifest.digest)
            .await
            .map_err(at(Side::Target))
    }

    /// Copies what `manifest` refers to. Of an index only the children in `kept`.
    fn copy_parts<'a>(
        &'a self,
        copy: &'a Copy<'a>,
        manifest: &'a Manifest,
        kept: &'a platforms::Kept,
        depth: usize,
    ) -> BoxFuture<'a, Result<(), CopyError>> {
        async move {
            match &manifest.content {
                ManifestContent::Index { children } => {
                    if depth >= MAX_INDEX_NESTING {
                        return Err(CopyError::TooDeep {
                            digest: manifest.digest.clone(),
                        });
                    }
                    let mut seen = std::collections::HashSet::new();
                    let children = children
                        .iter()
                        .filter(|child| kept.keeps(&child.digest) && seen.insert(&child.digest));
                    let copies: Vec<_> = children
                        .map(|child| self.copy_child(copy, child, kept, depth).boxed())
                        .collect();
                    stream::iter(copies)
                        .buffer_unordered(PARALLEL_PARTS)
                        .try_collect::<()>()
                        .await
                }
                ManifestContent::Image { .. } => {
                    let mut blobs = manifest.blobs();
                    // The large ones first: what is left for the end is then short.
                    blobs.sort_by_key(|blob| std::cmp::Reverse(blob.size));
                    let bytes = blobs.iter().map(|blob| blob.size).sum();
                    self.progress.event(Event::Expected {
                        item: copy.item,
                        bytes,
                    });
                    let copies: Vec<_> = blobs
                        .into_iter()
                        .map(|blob| self.copy_blob(copy, blob).boxed())
                        .collect();
                    stream::iter(copies)
                        .buffer_unordered(PARALLEL_PARTS)
                        .try_collect::<()>()
                        .await
                }
            }
        }
        .boxed()
    }

    async fn copy_child(
        &self,
        copy: &Copy<'_>,
        child: &Descriptor,
        kept: &platforms::Kept,
        depth: usize,
    ) -> Result<(), CopyError> {
        if is_index_type(&child.media_type) && !copy.filter.trusts_an_index() {
            let once = copy.index(&child.digest);
            return once
                .get_or_try_init(|| self.bring_child(copy, child, kept, depth))
                .await
                .copied();
        }
        let once = self.ledger.manifest(copy.to, &child.digest);
        once.get_or_try_init(|| async {
            if self.is_whole_at_target(copy, child).await? {
                return Ok(());
            }
            self.bring_child(copy, child, kept, depth).await
        })
        .await
        .copied()
    }

    async fn bring_child(
        &self,
        copy: &Copy<'_>,
        child: &Descriptor,
        kept: &platforms::Kept,
        depth: usize,
    ) -> Result<(), CopyError> {
        if let Some(rewritten) = kept.rewritten(&child.digest) {
            self.copy_parts(copy, rewritten, kept, depth + 1).await?;
            return self.put_child(copy, rewritten).await;
        }
        let reference = Reference::Digest(child.digest.clone());
        match self.source.manifest(copy.from, &reference).await {
            Ok(Some(manifest)) => {
                self.copy_parts(copy, &manifest, kept, depth + 1).await?;
                self.put_child(copy, &manifest).await
            }
            Ok(None) if may_be_blob(child) => self.copy_blob(copy, child).await,
            Err(error) if may_be_blob(child) && error.kind == ItemErrorKind::Malformed => {
                self.copy_blob(copy, child).await
            }
            Ok(None) => Err(CopyError::ChildMissing {
                repository: copy.from.clone(),
                digest: child.digest.clone(),
            }),
            Err(error) => Err(at(Side::Source)(error)),
        }
    }

    async fn put_child(&self, copy: &Copy<'_>, manifest: &Manifest) -> Result<(), CopyError> {
        self.target
            .put_manifest(
                copy.to,
                &Reference::Digest(manifest.digest.clone()),
                manifest,
            )
            .await
            .map_err(at(Side::Target))
    }

    async fn copy_blob(&self, copy: &Copy<'_>, blob: &Descriptor) -> Result<(), CopyError> {
        match self.deliver(copy, blob).await {
            Err(CopyError::Place {
                side: Side::Source,
                error,
            }) if error.kind == ItemErrorKind::Absent && may_be_left_out(blob) => {
                copy.warn(format!(
                    "foreign layer {} is not at the source; its descriptor was kept",
                    blob.digest.short()
                ));
                self.progress.event(Event::Moved {
                    item: copy.item,
                    bytes: blob.size,
                });
                Ok(())
            }
            result => result,
        }
    }
}

/// Returns the error of putting an image, with what to do where the filter asked for something that
/// not every registry takes.
fn explained(error: ItemError, root: &Manifest, filter: &PlatformFilter) -> ItemError {
    let refused = matches!(error.kind, ItemErrorKind::Refused | ItemErrorKind::Absent);
    if refused && root.children().is_some() && !filter.trusts_an_index() {
        let hint = "some registries refuse an index without all of its platforms; use `platform_mode: rewrite`";
        return error.hinting(Some(hint.to_owned()));
    }
    error
}

/// Returns whether an image is complete for its users without this layer: they fetch it from its
/// `urls`.
fn may_be_left_out(layer: &Descriptor) -> bool {
    layer.is_foreign_layer() || !layer.urls.is_empty()
}

/// Returns whether an entry of an index can be a plain blob, as old build caches list them.
fn may_be_blob(entry: &Descriptor) -> bool {
    !entry.media_type.is_empty()
        && !media_type::ACCEPTED_MANIFESTS.contains(&entry.media_type.as_str())
}

fn is_index_type(text: &str) -> bool {
    matches!(text, media_type::OCI_INDEX | media_type::DOCKER_LIST)
}

#[cfg(test)]
mod tests;
