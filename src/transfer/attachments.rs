//! What is attached to an image: signatures, SBOMs, attestations.
//!
//! They come in two forms: manifests with the image as their subject, which a registry lists by
//! itself or clients list in an index under a tag; and images under cosign's tags. Both are found
//! by the digest that they are attached to.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde_json::json;

use super::error::{CopyError, at};
use super::memory::AttachedImage;
use super::platforms::Kept;
use super::{Copy, Transfer, is_index_type, may_be_blob};
use crate::error::Side;
use crate::model::labels;
use crate::model::manifest::{MAX_INDEX_NESTING, ManifestError};
use crate::model::media_type;
use crate::model::{
    Algorithm, Descriptor, Digest, Manifest, ManifestContent, Reference, Repository, Tag,
};
use crate::registry::Referrers;

/// Whether attachments are copied, and what is known of them.
#[derive(Clone, Copy, Debug)]
pub enum Attachments<'a> {
    LeftOut,
    /// With the tags that the source was seen to have, or at least those that attachments can have.
    Copied {
        source_tags: &'a BTreeSet<Tag>,
    },
}

/// Attachments that are being copied for one image.
struct Attaching<'a> {
    source_tags: &'a BTreeSet<Tag>,
    /// What was looked at already: a subject may be named by its own attachment.
    visited: HashSet<Digest>,
    copied: usize,
}

impl Transfer {
    /// Returns an image at the target with all that something can be attached to: itself, and the
    /// manifests below it that are kept.
    pub(super) async fn attached_to(
        &self,
        to: &Repository,
        root: &Manifest,
        kept: &Kept,
    ) -> Result<AttachedImage, CopyError> {
        let mut subjects = BTreeSet::from([root.digest.clone()]);
        let mut indexes = vec![root.clone()];
        for _ in 0..MAX_INDEX_NESTING {
            let mut nested = Vec::new();
            for child in indexes
                .iter()
                .filter_map(Manifest::children)
                .flatten()
                .filter(|child| kept.keeps(&child.digest))
            {
                if subjects.insert(child.digest.clone()) && is_index_type(&child.media_type) {
                    let reference = Reference::Digest(child.digest.clone());
                    nested.extend(
                        self.target
                            .manifest(to, &reference)
                            .await
                            .map_err(at(Side::Target))?,
                    );
                }
            }
            indexes = nested;
        }
        Ok(AttachedImage {
            root: root.digest.clone(),
            subjects: subjects.into_iter().collect(),
            handled: BTreeSet::new(),
        })
    }

    /// Returns what the source has attached to `image`, but not to `rewritten`, which is no digest
    /// of the source's: what signs the index that it was made of signs other bytes.
    pub(super) async fn find_attachments(
        &self,
        copy: &Copy<'_>,
        image: &AttachedImage,
        rewritten: Option<&Digest>,
        source_tags: &BTreeSet<Tag>,
    ) -> Result<Found, CopyError> {
        let mut found = Found::new();
        for subject in image
            .subjects
            .iter()
            .filter(|subject| rewritten != Some(subject))
        {
            let attached = self.attached_at_source(copy, subject, source_tags).await?;
            if !attached.is_empty() {
                found.insert(subject.clone(), attached);
            }
        }
        Ok(found)
    }

    /// Copies what was found, and returns how many attachments are at the target with it.
    pub(super) async fn copy_found(
        &self,
        copy: &Copy<'_>,
        found: Found,
        source_tags: &BTreeSet<Tag>,
    ) -> Result<usize, CopyError> {
        let mut attaching = Attaching {
            source_tags,
            visited: HashSet::new(),
            copied: 0,
        };
        for (subject, attached) in found {
            self.attach(copy, &mut attaching, &subject, attached, 0)
                .await?;
        }
        Ok(attaching.copied)
    }

    pub(super) async fn attached_at_source(
        &self,
        copy: &Copy<'_>,
        subject: &Digest,
        source_tags: &BTreeSet<Tag>,
    ) -> Result<Attached, CopyError> {
        let (mut referrers, lists_all) = match self
            .source
            .referrers(copy.from, subject)
            .await
            .map_err(at(Side::Source))?
        {
            Referrers::Listed(referrers) => (referrers, true),
            Referrers::Noticed(referrers) => (referrers, false),
            Referrers::NotListed => (Vec::new(), false),
        };
        let tag = Tag::of_referrers(subject);
        if !lists_all && source_tags.contains(&tag) {
            let listed = self
                .source
                .manifest(copy.from, &Reference::Tag(tag))
                .await
                .map_err(at(Side::Source))?;
            referrers.extend(
                listed
                    .as_ref()
                    .and_then(Manifest::children)
                    .unwrap_or_default()
                    .iter()
                    .cloned(),
            );
        }
        let mut known = HashSet::new();
        referrers.retain(|referrer| known.insert(referrer.digest.clone()));
        let cosign_tags = Tag::of_cosign(subject)
            .into_iter()
            .filter(|tag| source_tags.contains(tag))
            .collect();
        Ok(Attached {
            referrers,
            cosign_tags,
        })
    }

    /// Copies the attachments of one subject, what is attached to them, and makes the target list
    /// them.
    fn attach<'a>(
        &'a self,
        copy: &'a Copy<'a>,
        attaching: &'a mut Attaching<'_>,
        subject: &'a Digest,
        attached: Attached,
        depth: usize,
    ) -> BoxFuture<'a, Result<(), CopyError>> {
        Box::pin(async move {
            if !attaching.visited.insert(subject.clone()) {
                return Ok(());
            }
            if depth >= MAX_INDEX_NESTING {
                return Err(CopyError::TooDeep {
                    digest: subject.clone(),
                });
            }
            let everything = Kept::default();
            let mut brought = Vec::new();
            for referrer in &attached.referrers {
                match self.copy_child(copy, referrer, &everything, depth).await {
                    // Lists that clients keep outlive what they list.
                    Err(CopyError::ChildMissing { digest, .. }) if digest == referrer.digest => {
                        copy.warn(format!(
                            "source lists {digest} as attached to {}, but does not have it; it was left out",
                            subject.short()
                        ));
                        continue;
                    }
                    result => result?,
                }
                brought.push(referrer);
                self.attach_further(copy, attaching, &referrer.digest, depth)
                    .await?;
            }
            if !brought.is_empty() {
                self.list_at_target(copy, subject, &brought).await?;
            }
            for tag in &attached.cosign_tags {
                let manifest = self.read(copy.from, &Reference::Tag(tag.clone())).await?;
                match self.standing(copy.from, copy.to, tag, &manifest).await? {
                    Standing::Behind => {
                        self.copy_parts(copy, &manifest, &everything, depth).await?;
                        self.target
                            .put_manifest(copy.to, &Reference::Tag(tag.clone()), &manifest)
                            .await
                            .map_err(at(Side::Target))?;
                    }
                    Standing::Same => {}
                    Standing::More => {
                        attaching.copied += 1;
                        continue;
                    }
                    Standing::Own { warning } => {
                        copy.warn(warning);
                        continue;
                    }
                }
                attaching.copied += 1;
                self.attach_further(copy, attaching, &manifest.digest, depth)
                    .await?;
            }
            attaching.copied += brought.len();
            Ok(())
        })
    }

    /// Returns how what the target has under one of cosign's tags stands to what the source has.
    /// Who signs mirrored images adds to it there, and no copy may take that away.
    pub(super) async fn standing(
        &self,
        from: &Repository,
        to: &Repository,
        tag: &Tag,
        theirs: &Manifest,
    ) -> Result<Standing, CopyError> {
        if self.ledger.is_absent(to) {
            return Ok(Standing::Behind);
        }
        let found = self
            .target
            .manifest(to, &Reference::Tag(tag.clone()))
            .await
            .map_err(at(Side::Target))?;
        let Some(ours) = found else {
            return Ok(Standing::Behind);
        };
        if ours.digest == theirs.digest {
            return Ok(Standing::Same);
        }
        let (at_target, at_source) = (statements(&ours), statements(theirs));
        if at_target.is_subset(&at_source) {
            return Ok(Standing::Behind);
        }
        if at_source.is_subset(&at_target) {
            return Ok(Standing::More);
        }
        // What the source had before it came from there.
        let before = self
            .source
            .resolve(from, &Reference::Digest(ours.digest.clone()))
            .await
            .map_err(at(Side::Source))?;
        if before.is_some() {
            return Ok(Standing::Behind);
        }
        let warning = format!(
            "{to}:{tag} has what {from}:{tag} does not have, and lacks some of it; it was kept ({} at the target, {} at the source). To take \
             the source's, delete the tag at the target and run sync again, then sign anew",
            ours.digest, theirs.digest
        );
        Ok(Standing::Own { warning })
    }

    /// Copies what is attached to an attachment, such as the signature of an SBOM.
    async fn attach_further(
        &self,
        copy: &Copy<'_>,
        attaching: &mut Attaching<'_>,
        attachment: &Digest,
        depth: usize,
    ) -> Result<(), CopyError> {
        let further = self
            .attached_at_source(copy, attachment, attaching.source_tags)
            .await?;
        if further.is_empty() {
            return Ok(());
        }
        self.attach(copy, attaching, attachment, further, depth + 1)
            .await
    }

    /// Makes sure that the target lists `referrers` for `subject`: by itself, or in the index that
    /// clients keep, to which only what is missing is added (distribution specification, "Pushing
    /// Manifests with Subject").
    async fn list_at_target(
        &self,
        copy: &Copy<'_>,
        subject: &Digest,
        referrers: &[&Descriptor],
    ) -> Result<(), CopyError> {
        if let Referrers::Listed(_) = self
            .target
            .referrers(copy.to, subject)
            .await
            .map_err(at(Side::Target))?
        {
            return Ok(());
        }
        let reference = Reference::Tag(Tag::of_referrers(subject));
        let unlistable = |error| CopyError::Unlistable {
            subject: subject.clone(),
            error,
        };
        let alone = self.ledger.alone_with(copy.to, subject);
        let _alone = alone.lock().await;
        let present = self
            .target
            .manifest(copy.to, &reference)
            .await
            .map_err(at(Side::Target))?;
        let mut list = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX });
        let mut known = HashSet::new();
        if let Some(present) = &present {
            let Some(entries) = present.children() else {
                copy.warn(format!("target has an image where the list of what is attached to {} belongs; it was kept", subject.short()));
                return Ok(());
            };
            known.extend(entries.iter().map(|entry| &entry.digest));
            list = serde_json::from_slice(&present.bytes)
                .map_err(|error| unlistable(ManifestError::Malformed(error)))?;
        }
        let mut entries = list["manifests"]
            .as_array_mut()
            .map(std::mem::take)
            .unwrap_or_default();
        let before = entries.len();
        for referrer in referrers
            .iter()
            .filter(|referrer| !known.contains(&referrer.digest))
        {
            entries.push(json!(self.described(copy, referrer).await?));
        }
        if entries.len() == before {
            return Ok(());
        }
        list["manifests"] = entries.into();
        let index = Manifest::parse(Bytes::from(list.to_string()), None, Algorithm::Sha256)
            .map_err(unlistable)?;
        self.target
            .put_manifest(copy.to, &reference, &index)
            .await
            .map_err(at(Side::Target))
    }

    /// Returns the entry for a referrer that is at the target, complete whatever the source's list
    /// left out.
    async fn described(
        &self,
        copy: &Copy<'_>,
        referrer: &Descriptor,
    ) -> Result<Descriptor, CopyError> {
        if may_be_blob(referrer) {
            return Ok(referrer.clone());
        }
        let reference = Reference::Digest(referrer.digest.clone());
        let manifest = self
            .target
            .manifest(copy.to, &reference)
            .await
            .map_err(at(Side::Target))?;
        Ok(manifest.map_or_else(|| referrer.clone(), |manifest| manifest.referrer()))
    }
}

/// How an image of attachments at the target stands to the one at the source.
pub(super) enum Standing {
    /// It is not there, or all of it is in the other, or it is what the source had before.
    Behind,
    Same,
    /// It has all of the other, and something of its own.
    More,
    /// It has something of its own, and lacks something.
    Own {
        warning: String,
    },
}

/// Returns what an image of attachments states, each by its digest and, where one payload is signed
/// by several, the signature.
fn statements(manifest: &Manifest) -> BTreeSet<(&Digest, Option<&String>)> {
    let statements = match &manifest.content {
        ManifestContent::Index { children } => children,
        ManifestContent::Image { layers, .. } => layers,
    };
    statements
        .iter()
        .map(|statement| {
            (
                &statement.digest,
                statement.annotations.get(labels::COSIGN_SIGNATURE),
            )
        })
        .collect()
}

/// What the source has attached to an image, by what it is attached to.
pub(super) type Found = BTreeMap<Digest, Attached>;

/// What the source has for one subject.
pub(super) struct Attached {
    pub(super) referrers: Vec<Descriptor>,
    pub(super) cosign_tags: Vec<Tag>,
}

impl Attached {
    fn is_empty(&self) -> bool {
        self.referrers.is_empty() && self.cosign_tags.is_empty()
    }
}
