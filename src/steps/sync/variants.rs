//! `os_normalize`: finds the version tag (`1.24.1-alpine3.21`) under which a tag that names only an
//! OS variant (`alpine3.21`) is stored at the target.
//!
//! Reads the source only.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use crate::error::{ItemError, Side};
use crate::model::{Digest, Reference, Repository, Tag, TagVersion};
use crate::registry::{ImageSource, ListedTag};
use crate::transfer::absent;

/// Maximum number of version tags that are compared with one variant tag, newest first.
///
/// A variant tag has the image of the newest version that was built for the variant, so the first
/// candidate is almost always the right one.
const MAX_CANDIDATES: usize = 50;

/// Name at the target of a tag that names only an OS variant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VariantName {
    /// The newest and most specific version tag that has the same digest upstream.
    Version { tag: Tag, source: Digest },
    /// The tag keeps its upstream name, because no version tag has the same digest.
    Unchanged { warning: String },
}

/// Tags that name only an OS variant, with their names at the target.
pub(super) type VariantNames = BTreeMap<Tag, Result<VariantName, ItemError>>;

/// Returns the target names of those `tags` that name only an OS variant.
///
/// Such a tag has no version itself and is the ending of at least one version tag in `listing`.
pub(super) async fn variant_names(
    source: &dyn ImageSource,
    repository: &Repository,
    listing: &[ListedTag],
    tags: &[Tag],
) -> VariantNames {
    let resolved = listing
        .iter()
        .filter_map(|listed| Some((listed.tag.clone(), Some(listed.digest.clone()?))))
        .collect();
    let mut digests = UpstreamDigests {
        source,
        repository,
        resolved,
    };
    let mut variant_names = VariantNames::new();
    for tag in tags {
        let candidates = candidates(tag, listing);
        if !candidates.is_empty() {
            variant_names.insert(tag.clone(), digests.variant_name(tag, &candidates).await);
        }
    }
    variant_names
}

/// Returns true if a tag has no version, so that it can be the name of an OS variant.
pub(super) fn may_be_variant(tag: &Tag) -> bool {
    !TagVersion::of(tag.as_str()).is_version()
}

/// Returns the version tags that end in `-variant`, newest and most specific first. Returns none if
/// `variant` has a version itself.
fn candidates<'a>(variant: &Tag, listing: &'a [ListedTag]) -> Vec<&'a Tag> {
    if !may_be_variant(variant) {
        return Vec::new();
    }
    let suffix = format!("-{variant}");
    let mut candidates: Vec<(TagVersion, &Tag)> = listing
        .iter()
        .map(|listed| &listed.tag)
        .filter(|tag| tag.as_str().ends_with(&suffix))
        .map(|tag| (TagVersion::of(tag.as_str()), tag))
        .filter(|(version, _)| version.is_version())
        .collect();
    candidates.sort_by(|(one, _), (other, _)| Reverse(one).cmp(&Reverse(other)));
    candidates.into_iter().map(|(_, tag)| tag).collect()
}

/// Digests of the tags of one upstream repository. Each tag is resolved at most once.
struct UpstreamDigests<'a> {
    source: &'a dyn ImageSource,
    repository: &'a Repository,
    /// Digests by tag. `None` if the tag does not exist.
    resolved: HashMap<Tag, Option<Digest>>,
}

impl UpstreamDigests<'_> {
    /// Returns the name of `variant` at the target. Fails if the tag does not exist upstream.
    async fn variant_name(
        &mut self,
        variant: &Tag,
        candidates: &[&Tag],
    ) -> Result<VariantName, ItemError> {
        let digest = self.digest(variant).await?.ok_or_else(|| {
            let reference = Reference::Tag(variant.clone());
            absent(Side::Source, self.repository, &reference)
        })?;
        for &candidate in candidates.iter().take(MAX_CANDIDATES) {
            if self.digest(candidate).await?.as_ref() == Some(&digest) {
                return Ok(VariantName::Version {
                    tag: candidate.clone(),
                    source: digest,
                });
            }
        }
        let compared = match candidates.len() {
            count if count > MAX_CANDIDATES => {
                format!(
                    "none of the newest {MAX_CANDIDATES} of {count} upstream version tags that end in"
                )
            }
            _ => "no upstream version tag that ends in".to_owned(),
        };
        let warning =
            format!("{compared} `-{variant}` has the same digest, so the tag keeps its name");
        Ok(VariantName::Unchanged { warning })
    }

    /// Returns the digest of a tag, or `None` if the tag does not exist.
    async fn digest(&mut self, tag: &Tag) -> Result<Option<Digest>, ItemError> {
        if let Some(digest) = self.resolved.get(tag) {
            return Ok(digest.clone());
        }
        let found = self
            .source
            .resolve(self.repository, &Reference::Tag(tag.clone()))
            .await;
        let digest = found
            .map_err(|error| error.on(Side::Source))?
            .map(|descriptor| descriptor.digest);
        self.resolved.insert(tag.clone(), digest.clone());
        Ok(digest)
    }
}
