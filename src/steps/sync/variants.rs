//! `os_normalize`: tags that only name an OS variant (`alpine3.21`), and the version tags that they
//! are stored under. Reads only.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use crate::error::{ItemError, Side};
use crate::model::{Digest, Reference, Repository, Tag, TagVersion};
use crate::registry::{ImageSource, ListedTag};
use crate::transfer::absent;

/// Version tags that are compared with one variant's, the newest first. An older variant rests on
/// the newest version that was made with it, so the first is almost always the right one.
const MAX_CANDIDATES: usize = 50;

/// What a tag that only names an OS variant is stored under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Naming {
    /// The most specific version tag with the same digest upstream.
    Version { tag: Tag, source: Digest },
    /// Its own name, with the reason.
    Own { warning: String },
}

/// The tags that only name an OS variant, and what each is stored under.
pub(super) type Namings = BTreeMap<Tag, Result<Naming, ItemError>>;

/// Returns the names for those of `tags` that only name an OS variant: that have no version, and
/// that version tags of `listing` end in.
pub(super) async fn namings(
    source: &dyn ImageSource,
    repository: &Repository,
    listing: &[ListedTag],
    tags: &[Tag],
) -> Namings {
    let known = listing
        .iter()
        .filter_map(|seen| Some((seen.tag.clone(), Some(seen.digest.clone()?))))
        .collect();
    let mut upstream = Upstream {
        source,
        repository,
        known,
    };
    let mut namings = Namings::new();
    for tag in tags {
        let candidates = candidates(tag, listing);
        if !candidates.is_empty() {
            namings.insert(tag.clone(), upstream.naming(tag, &candidates).await);
        }
    }
    namings
}

/// Returns whether a tag can be one that only names an OS variant.
pub(super) fn may_be_variant(tag: &Tag) -> bool {
    !TagVersion::of(tag.as_str()).is_version()
}

/// Returns the version tags that end in `variant`, newest and most specific first; none when
/// `variant` has a version itself.
fn candidates<'a>(variant: &Tag, listing: &'a [ListedTag]) -> Vec<&'a Tag> {
    if !may_be_variant(variant) {
        return Vec::new();
    }
    let suffix = format!("-{variant}");
    let mut candidates: Vec<(TagVersion, &Tag)> = listing
        .iter()
        .map(|seen| &seen.tag)
        .filter(|tag| tag.as_str().ends_with(&suffix))
        .map(|tag| (TagVersion::of(tag.as_str()), tag))
        .filter(|(version, _)| version.is_version())
        .collect();
    candidates.sort_by(|(one, _), (other, _)| Reverse(one).cmp(&Reverse(other)));
    candidates.into_iter().map(|(_, tag)| tag).collect()
}

/// The digests of a repository's tags, each looked up once. `None`: there is no such tag.
struct Upstream<'a> {
    source: &'a dyn ImageSource,
    repository: &'a Repository,
    known: HashMap<Tag, Option<Digest>>,
}

impl Upstream<'_> {
    async fn naming(&mut self, variant: &Tag, candidates: &[&Tag]) -> Result<Naming, ItemError> {
        let digest = self.digest(variant).await?.ok_or_else(|| {
            let reference = Reference::Tag(variant.clone());
            absent(Side::Source, self.repository, &reference)
        })?;
        for &candidate in candidates.iter().take(MAX_CANDIDATES) {
            if self.digest(candidate).await?.as_ref() == Some(&digest) {
                return Ok(Naming::Version {
                    tag: candidate.clone(),
                    source: digest,
                });
            }
        }
        let looked_at = match candidates.len() {
            count if count > MAX_CANDIDATES => {
                format!("none of the newest {MAX_CANDIDATES} of {count} version tags that end in")
            }
            _ => "no version tag that ends in".to_owned(),
        };
        let warning =
            format!("{looked_at} `-{variant}` has its digest upstream, so it keeps its name");
        Ok(Naming::Own { warning })
    }

    async fn digest(&mut self, tag: &Tag) -> Result<Option<Digest>, ItemError> {
        if let Some(known) = self.known.get(tag) {
            return Ok(known.clone());
        }
        let found = self
            .source
            .resolve(self.repository, &Reference::Tag(tag.clone()))
            .await;
        let digest = found
            .map_err(|error| error.on(Side::Source))?
            .map(|descriptor| descriptor.digest);
        self.known.insert(tag.clone(), digest.clone());
        Ok(digest)
    }
}
