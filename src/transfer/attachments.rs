//! Copying attachments of an image: signatures, SBOMs, attestations.
//!
//! They have two forms:
//!
//! - manifests with the image as their subject, listed by the registry or, by clients, in an index
//!   under a tag
//! - images under cosign's tags
//!
//! Both are found by the digest of their subject.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde_json::json;

use super::context::{ImageCopy, Transfer};
use super::descriptors::{is_index_type, may_be_blob};
use super::digest_cache::AttachedImage;
use super::error::{MAX_ATTACHMENT_NESTING, at, attachments_too_deep, child_missing, unlistable};
use super::platforms::KeptChildren;
use crate::error::{ItemError, ItemErrorKind, Side};
use crate::model::labels;
use crate::model::manifest::{MAX_INDEX_NESTING, ManifestError};
use crate::model::media_type;
use crate::model::text::excerpt;
use crate::model::{
    Algorithm, Descriptor, Digest, Manifest, ManifestContent, Reference, Repository, Tag,
};
use crate::registry::Referrers;

/// Attachments of one image that are being copied.
struct AttachmentCopy<'a> {
    source_tags: &'a BTreeSet<Tag>,
    /// Subjects that were handled already. An attachment may refer to its own subject again.
    visited: HashSet<Digest>,
    copied: usize,
}

impl Transfer {
    /// Returns an image at the target with all digests that attachments can refer to: the image
    /// itself and the kept manifests below it.
    pub(super) async fn attached_image(
        &self,
        to: &Repository,
        root: &Manifest,
        kept: &KeptChildren,
    ) -> Result<AttachedImage, ItemError> {
        let mut subjects = BTreeSet::from([root.digest.clone()]);
        let mut indexes = vec![root.clone()];
        for _ in 0..MAX_INDEX_NESTING {
            let mut nested = Vec::new();
            for child in indexes
                .iter()
                .filter_map(Manifest::children)
                .flatten()
                .filter(|child| kept.contains(&child.digest))
            {
                if subjects.insert(child.digest.clone()) && is_index_type(&child.media_type) {
                    let reference = Reference::Digest(child.digest.clone());
                    nested.extend(self.target_manifest(to, &reference).await?);
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

    /// Returns the attachments that the source has for `image`.
    ///
    /// `rewritten` is the digest of an index that this run rewrote. The source has no attachments
    /// for it: a signature of the original index signs other bytes.
    pub(super) async fn find_attachments(
        &self,
        copy: &ImageCopy<'_>,
        image: &AttachedImage,
        rewritten: Option<&Digest>,
        source_tags: &BTreeSet<Tag>,
    ) -> Result<FoundAttachments, ItemError> {
        let mut found = FoundAttachments::new();
        for subject in image
            .subjects
            .iter()
            .filter(|subject| rewritten != Some(subject))
        {
            let attached = self
                .attachments_at_source(copy, subject, source_tags)
                .await?;
            if !attached.is_empty() {
                found.insert(subject.clone(), attached);
            }
        }
        Ok(found)
    }

    /// Copies attachments, and returns the number of attachments that are then at the target.
    pub(super) async fn copy_attachments(
        &self,
        copy: &ImageCopy<'_>,
        found: FoundAttachments,
        source_tags: &BTreeSet<Tag>,
    ) -> Result<usize, ItemError> {
        let mut attachments = AttachmentCopy {
            source_tags,
            visited: HashSet::new(),
            copied: 0,
        };
        for (subject, attached) in found {
            self.attach(copy, &mut attachments, &subject, attached, 0)
                .await?;
        }
        Ok(attachments.copied)
    }

    /// Returns the referrers that the source lists for one subject, and a warning if it refuses to
    /// list them.
    ///
    /// The listing is optional: registries without it answer in many ways. After a definite refusal,
    /// the repository is not asked again, and its images are copied without the attachments that
    /// only the registry knows.
    pub(super) async fn source_referrers(
        &self,
        from: &Repository,
        subject: &Digest,
    ) -> Result<(Referrers, Option<String>), ItemError> {
        if self.state.refuses_referrers(from) {
            return Ok((Referrers::NotListed, None));
        }
        match self.source.of(from).referrers(from, subject).await {
            Err(error) if is_refusal(&error) => {
                self.state.record_refused_referrers(from);
                let warning = format!(
                    "source refuses to list attachments, so those without a tag were not copied: {}",
                    error.line()
                );
                Ok((Referrers::NotListed, Some(warning)))
            }
            listed => Ok((listed.map_err(at(Side::Source))?, None)),
        }
    }

    /// Returns the attachments that the source has for one subject.
    pub(super) async fn attachments_at_source(
        &self,
        copy: &ImageCopy<'_>,
        subject: &Digest,
        source_tags: &BTreeSet<Tag>,
    ) -> Result<SubjectAttachments, ItemError> {
        let (listed, warning) = self.source_referrers(copy.from, subject).await?;
        warning.into_iter().for_each(|warning| copy.warn(warning));
        let (mut referrers, lists_all) = match listed {
            Referrers::Listed(referrers) => (referrers, true),
            Referrers::Partial(referrers) => (referrers, false),
            Referrers::NotListed => (Vec::new(), false),
        };
        let tag = Tag::of_referrers(subject);
        if !lists_all && source_tags.contains(&tag) {
            let listed = self
                .source_manifest(copy.from, &Reference::Tag(tag))
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
        let mut unique = HashSet::new();
        referrers.retain(|referrer| unique.insert(referrer.digest.clone()));
        let cosign_tags = Tag::of_cosign(subject)
            .into_iter()
            .filter(|tag| source_tags.contains(tag))
            .collect();
        Ok(SubjectAttachments {
            referrers,
            cosign_tags,
        })
    }

    /// Copies the attachments of one subject and their own attachments, and makes the target list
    /// them.
    fn attach<'a>(
        &'a self,
        copy: &'a ImageCopy<'a>,
        attachments: &'a mut AttachmentCopy<'_>,
        subject: &'a Digest,
        attached: SubjectAttachments,
        depth: usize,
    ) -> BoxFuture<'a, Result<(), ItemError>> {
        Box::pin(async move {
            if !attachments.visited.insert(subject.clone()) {
                return Ok(());
            }
            if depth >= MAX_ATTACHMENT_NESTING {
                return Err(attachments_too_deep(copy.from, subject));
            }
            let everything = KeptChildren::default();
            let mut copied = Vec::new();
            for referrer in &attached.referrers {
                match self.copy_child(copy, referrer, &everything, 0).await {
                    // A list that clients keep may name deleted manifests.
                    Err(error) if error == child_missing(copy.from, &referrer.digest) => {
                        let digest = &referrer.digest;
                        copy.warn(format!(
                            "source lists the attachment {digest} of {}, but does not have it; the attachment was not copied",
                            subject.short()
                        ));
                        continue;
                    }
                    Err(error) if is_refused_by_target(&error) => {
                        let kind = referrer.artifact_type.as_deref().unwrap_or("unknown type");
                        let name = format!("{} ({})", referrer.digest, excerpt(kind, 100));
                        copy.warn(refused_attachment(&name, subject, &error));
                        continue;
                    }
                    result => result?,
                }
                copied.push(referrer);
                self.attach_further(copy, attachments, &referrer.digest, depth)
                    .await?;
            }
            if !copied.is_empty() {
                match self.list_at_target(copy, subject, &copied).await {
                    Err(error) if is_refused_by_target(&error) => {
                        copy.warn(refused_attachment("list", subject, &error));
                    }
                    result => result?,
                }
            }
            for tag in &attached.cosign_tags {
                let reference = Reference::Tag(tag.clone());
                let manifest = self.required_source_manifest(copy.from, &reference).await?;
                let state = self
                    .cosign_tag_state(copy.from, copy.to, tag, &manifest)
                    .await?;
                match state {
                    CosignTagState::Outdated => {
                        let put = async {
                            self.copy_parts(copy, &manifest, &everything, 0).await?;
                            self.put_manifest(copy.to, &reference, &manifest).await
                        };
                        match put.await {
                            Err(error) if is_refused_by_target(&error) => {
                                copy.warn(refused_attachment(tag.as_str(), subject, &error));
                                continue;
                            }
                            result => result?,
                        }
                    }
                    CosignTagState::Same => {}
                    CosignTagState::Superset => {
                        attachments.copied += 1;
                        continue;
                    }
                    CosignTagState::Diverged { warning } => {
                        copy.warn(warning);
                        continue;
                    }
                }
                attachments.copied += 1;
                self.attach_further(copy, attachments, &manifest.digest, depth)
                    .await?;
            }
            attachments.copied += copied.len();
            Ok(())
        })
    }

    /// Compares one of cosign's tags at the target with the source.
    ///
    /// Users sign mirrored images at the target too, and a copy must not remove their signatures.
    pub(super) async fn cosign_tag_state(
        &self,
        from: &Repository,
        to: &Repository,
        tag: &Tag,
        theirs: &Manifest,
    ) -> Result<CosignTagState, ItemError> {
        if self.state.is_absent(to) {
            return Ok(CosignTagState::Outdated);
        }
        let found = self
            .target_manifest(to, &Reference::Tag(tag.clone()))
            .await?;
        let Some(ours) = found else {
            return Ok(CosignTagState::Outdated);
        };
        if ours.digest == theirs.digest {
            return Ok(CosignTagState::Same);
        }
        let (at_target, at_source) = (statements(&ours), statements(theirs));
        if at_target.is_subset(&at_source) {
            return Ok(CosignTagState::Outdated);
        }
        if at_source.is_subset(&at_target) {
            return Ok(CosignTagState::Superset);
        }
        // A manifest that the source still has by digest is an older one that was copied from it.
        let before = self
            .source
            .of(from)
            .resolve(from, &Reference::Digest(ours.digest.clone()))
            .await
            .map_err(at(Side::Source))?;
        if before.is_some() {
            return Ok(CosignTagState::Outdated);
        }
        let warning = format!(
            "{to}:{tag} was kept, because it and {from}:{tag} each have signatures or attestations that the other lacks ({} at the target, {} at \
             the source). To use those of the source, delete the tag at the target, run sync again, and sign the image at the target again",
            ours.digest, theirs.digest
        );
        Ok(CosignTagState::Diverged { warning })
    }

    /// Copies the attachments of an attachment, such as the signature of an SBOM.
    async fn attach_further(
        &self,
        copy: &ImageCopy<'_>,
        attachments: &mut AttachmentCopy<'_>,
        attachment: &Digest,
        depth: usize,
    ) -> Result<(), ItemError> {
        let further = self
            .attachments_at_source(copy, attachment, attachments.source_tags)
            .await?;
        if further.is_empty() {
            return Ok(());
        }
        self.attach(copy, attachments, attachment, further, depth + 1)
            .await
    }

    /// Makes sure that the target lists `referrers` for `subject`.
    ///
    /// Either the registry lists them by itself, or they are in the index that clients keep. Only
    /// missing entries are added to that index (distribution specification, "Pushing Manifests with
    /// Subject").
    async fn list_at_target(
        &self,
        copy: &ImageCopy<'_>,
        subject: &Digest,
        referrers: &[&Descriptor],
    ) -> Result<(), ItemError> {
        if let Referrers::Listed(_) = self
            .target
            .of(copy.to)
            .referrers(copy.to, subject)
            .await
            .map_err(at(Side::Target))?
        {
            return Ok(());
        }
        let reference = Reference::Tag(Tag::of_referrers(subject));
        let unlistable = |error: ManifestError| unlistable(copy.to, subject, error);
        let lock = self.state.referrers_lock(copy.to, subject);
        let _locked = lock.lock().await;
        let present = self.target_manifest(copy.to, &reference).await?;
        let mut list = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX });
        let mut listed = HashSet::new();
        if let Some(present) = &present {
            let Some(entries) = present.children() else {
                copy.warn(format!("target has an image under the tag for the list of attachments of {}; the image was kept", subject.short()));
                return Ok(());
            };
            listed.extend(entries.iter().map(|entry| &entry.digest));
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
            .filter(|referrer| !listed.contains(&referrer.digest))
        {
            entries.push(json!(self.index_entry(copy, referrer).await?));
        }
        if entries.len() == before {
            return Ok(());
        }
        list["manifests"] = entries.into();
        let index = Manifest::parse(Bytes::from(list.to_string()), None, Algorithm::Sha256)
            .map_err(unlistable)?;
        self.put_manifest(copy.to, &reference, &index).await
    }

    /// Returns the index entry for a referrer that is at the target. It is complete even if the
    /// list of the source left fields out.
    async fn index_entry(
        &self,
        copy: &ImageCopy<'_>,
        referrer: &Descriptor,
    ) -> Result<Descriptor, ItemError> {
        if may_be_blob(referrer) {
            return Ok(referrer.clone());
        }
        let reference = Reference::Digest(referrer.digest.clone());
        let manifest = self.target_manifest(copy.to, &reference).await?;
        Ok(manifest.map_or_else(|| referrer.clone(), |manifest| manifest.referrer()))
    }
}

/// Returns true if a registry refused an optional request for good.
fn is_refusal(error: &ItemError) -> bool {
    matches!(
        error.kind,
        ItemErrorKind::Unauthorized
            | ItemErrorKind::Forbidden
            | ItemErrorKind::Absent
            | ItemErrorKind::Unsupported
            | ItemErrorKind::Refused
    )
}

/// Returns true if the target does not accept an attachment. Many registries accept certain types
/// only. If it accepts nothing at all, writing the image itself fails.
fn is_refused_by_target(error: &ItemError) -> bool {
    error.side == Some(Side::Target) && is_refusal(error)
}

/// Returns the warning about an attachment that the target refuses.
fn refused_attachment(name: &str, subject: &Digest, error: &ItemError) -> String {
    format!(
        "target refuses the attachment {name} of {}, which was not copied: {}",
        subject.short(),
        error.line()
    )
}

/// One of cosign's tags at the target, compared with the source.
pub(super) enum CosignTagState {
    /// The target has no such tag, a subset of the source, or an older image of the source.
    Outdated,
    Same,
    /// The target has everything of the source and more.
    Superset,
    /// The target has content of its own and lacks some of the source.
    Diverged {
        warning: String,
    },
}

/// Returns the statements of an attachment image: their digests, each with its signature, because
/// several signatures can share one payload.
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

/// Attachments of an image at the source, by subject.
pub(super) type FoundAttachments = BTreeMap<Digest, SubjectAttachments>;

/// Attachments that the source has for one subject.
pub(super) struct SubjectAttachments {
    pub(super) referrers: Vec<Descriptor>,
    pub(super) cosign_tags: Vec<Tag>,
}

impl SubjectAttachments {
    fn is_empty(&self) -> bool {
        self.referrers.is_empty() && self.cosign_tags.is_empty()
    }
}
