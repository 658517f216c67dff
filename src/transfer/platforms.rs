//! Applying a platform filter to an image: the entries of an index that are kept, and the index
//! that results.

use std::collections::{BTreeSet, HashMap, HashSet};

use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::context::Transfer;
use super::descriptors::may_be_blob;
use super::error::{at, child_missing, no_platform, not_rewritable, platforms_missing, too_deep};
use super::platform_filter::{PlatformFilter, PlatformFilterMode};
use crate::error::{ItemError, ItemErrorKind, Side};
use crate::model::manifest::MAX_INDEX_NESTING;
use crate::model::media_type;
use crate::model::{
    Descriptor, Digest, ImageConfig, Manifest, ManifestContent, Platform, Reference, Repository,
};
use crate::registry::read_config;

/// An image after the filter.
pub(super) struct FilteredImage {
    pub(super) root: Manifest,
    pub(super) kept: KeptChildren,
    pub(super) warnings: Vec<String>,
}

/// Children of the indexes of an image that are copied, and the nested indexes that were rewritten.
#[derive(Default)]
pub(super) struct KeptChildren {
    /// `None` keeps all.
    digests: Option<HashSet<Digest>>,
    /// Rewritten indexes by their digest in the rewritten parent.
    rewritten: HashMap<Digest, Manifest>,
}

impl KeptChildren {
    pub(super) fn contains(&self, digest: &Digest) -> bool {
        self.digests
            .as_ref()
            .is_none_or(|digests| digests.contains(digest))
    }

    pub(super) fn rewritten(&self, digest: &Digest) -> Option<&Manifest> {
        self.rewritten.get(digest)
    }
}

/// Applies `filter` to the image `root` of the repository `from`.
///
/// Reads from the source only to find platforms that the index does not state.
pub(super) async fn apply(
    transfer: &Transfer,
    from: &Repository,
    root: Manifest,
    filter: &PlatformFilter,
) -> Result<FilteredImage, ItemError> {
    let PlatformFilter::Only {
        platforms,
        mode,
        requires_all,
    } = filter
    else {
        return Ok(FilteredImage {
            root,
            kept: KeptChildren::default(),
            warnings: Vec::new(),
        });
    };
    let mut selection = PlatformSelection {
        transfer,
        from,
        platforms,
        mode: *mode,
        kept: HashSet::new(),
        rewritten: HashMap::new(),
        decisions: HashMap::new(),
        found: Vec::new(),
    };
    let root = selection.manifest(root, 0).await?;
    let missing: Vec<String> = platforms
        .iter()
        .filter(|wanted| !selection.found.iter().any(|found| found.matches(wanted)))
        .map(ToString::to_string)
        .collect();
    if missing.len() == platforms.len() && !selection.found.is_empty() {
        let found: BTreeSet<String> = selection.found.iter().map(ToString::to_string).collect();
        let found: Vec<String> = found.into_iter().collect();
        return Err(no_platform(from, &missing.join(", "), &found.join(", ")));
    }
    if *requires_all && !missing.is_empty() && !selection.found.is_empty() {
        return Err(platforms_missing(from, &missing.join(", ")));
    }
    let warnings = if missing.is_empty() || selection.found.is_empty() {
        Vec::new()
    } else {
        vec![format!(
            "platform {} is missing upstream",
            missing.join(", ")
        )]
    };
    Ok(FilteredImage {
        root,
        kept: KeptChildren {
            digests: Some(selection.kept),
            rewritten: selection.rewritten,
        },
        warnings,
    })
}

struct PlatformSelection<'a> {
    transfer: &'a Transfer,
    from: &'a Repository,
    platforms: &'a [Platform],
    mode: PlatformFilterMode,
    kept: HashSet<Digest>,
    rewritten: HashMap<Digest, Manifest>,
    /// Decisions that needed a request, because indexes may list a manifest any number of times.
    decisions: HashMap<Digest, ChildDecision>,
    /// Every platform of the image, wanted or not.
    found: Vec<Platform>,
}

/// Treatment of an entry of an index.
#[derive(Clone)]
enum ChildDecision {
    Keep,
    Drop,
    /// Keep the entry, with the nested index that the filter leaves of it.
    Replace(Box<Manifest>),
}

impl PlatformSelection<'_> {
    fn wants(&mut self, platform: &Platform) -> bool {
        self.found.push(platform.clone());
        self.platforms.iter().any(|wanted| wanted.matches(platform))
    }

    /// Returns a manifest as the filter leaves it.
    ///
    /// An image of an unwanted platform is returned unchanged. The caller checks at the end if any
    /// platform was wanted.
    fn manifest(
        &mut self,
        manifest: Manifest,
        depth: usize,
    ) -> BoxFuture<'_, Result<Manifest, ItemError>> {
        Box::pin(async move {
            let ManifestContent::Index { children } = &manifest.content else {
                self.image_is_wanted(&manifest).await?;
                return Ok(manifest);
            };
            if depth >= MAX_INDEX_NESTING {
                return Err(too_deep(Side::Source, self.from, &manifest.digest));
            }
            let mut decisions = Vec::with_capacity(children.len());
            for child in children {
                decisions.push(self.child(child, depth).await?);
            }
            let kept: HashSet<&str> = children
                .iter()
                .zip(&decisions)
                .filter(|(_, decision)| !matches!(decision, ChildDecision::Drop))
                .map(|(child, _)| child.digest.as_str())
                .collect();
            let attests_to_kept: Vec<bool> = children
                .iter()
                .map(|child| {
                    child
                        .attests_to()
                        .is_some_and(|subject| kept.contains(subject))
                })
                .collect();
            for (decision, attests) in decisions.iter_mut().zip(attests_to_kept) {
                if attests {
                    *decision = ChildDecision::Keep;
                }
            }
            let changed = decisions
                .iter()
                .any(|decision| !matches!(decision, ChildDecision::Keep));
            for (child, decision) in children.iter().zip(&decisions) {
                match decision {
                    ChildDecision::Keep => self.kept.insert(child.digest.clone()),
                    ChildDecision::Replace(nested) => {
                        self.rewritten
                            .insert(nested.digest.clone(), (**nested).clone());
                        self.kept.insert(nested.digest.clone())
                    }
                    ChildDecision::Drop => false,
                };
            }
            match self.mode {
                PlatformFilterMode::Rewrite if changed => rewrite(self.from, &manifest, &decisions),
                _ => Ok(manifest),
            }
        })
    }

    async fn child(
        &mut self,
        child: &Descriptor,
        depth: usize,
    ) -> Result<ChildDecision, ItemError> {
        if child.attests_to().is_some() {
            return Ok(ChildDecision::Drop);
        }
        if let Some(platform) = &child.platform {
            let wanted = !platform.is_unknown() && self.wants(platform);
            return Ok(if wanted {
                ChildDecision::Keep
            } else {
                ChildDecision::Drop
            });
        }
        // An entry without a platform may state it in its manifest or configuration. If it does
        // not, the entry is for all platforms.
        if let Some(decision) = self.decisions.get(&child.digest) {
            return Ok(decision.clone());
        }
        let decision = self.inspect(child, depth).await?;
        self.decisions
            .insert(child.digest.clone(), decision.clone());
        Ok(decision)
    }

    async fn inspect(
        &mut self,
        child: &Descriptor,
        depth: usize,
    ) -> Result<ChildDecision, ItemError> {
        let reference = Reference::Digest(child.digest.clone());
        let manifest = match self.transfer.source_manifest(self.from, &reference).await {
            Ok(Some(manifest)) => manifest,
            Ok(None) if may_be_blob(child) => return Ok(ChildDecision::Keep),
            Ok(None) => {
                return Err(child_missing(self.from, &child.digest));
            }
            Err(error) if may_be_blob(child) && error.kind == ItemErrorKind::Malformed => {
                return Ok(ChildDecision::Keep);
            }
            Err(error) => return Err(at(Side::Source)(error)),
        };
        if manifest.children().is_none() {
            let wanted = self.image_is_wanted(&manifest).await?;
            return Ok(if wanted {
                ChildDecision::Keep
            } else {
                ChildDecision::Drop
            });
        }
        let nested = self.manifest(manifest, depth + 1).await?;
        Ok(match nested.children() {
            Some([]) => ChildDecision::Drop,
            _ if nested.digest == child.digest => ChildDecision::Keep,
            _ => ChildDecision::Replace(Box::new(nested)),
        })
    }

    /// Returns true if the image is for a wanted platform, or states none.
    async fn image_is_wanted(&mut self, image: &Manifest) -> Result<bool, ItemError> {
        let ManifestContent::Image {
            config: Some(config),
            ..
        } = &image.content
        else {
            return Ok(true);
        };
        if !matches!(
            config.media_type.as_str(),
            media_type::OCI_CONFIG | media_type::DOCKER_CONFIG
        ) {
            return Ok(true);
        }
        let source = self.transfer.source.of(self.from);
        let bytes = read_config(source, self.from, config)
            .await
            .map_err(at(Side::Source))?;
        let platform = ImageConfig::parse(&bytes)
            .ok()
            .and_then(|config| config.platform);
        Ok(platform.is_none_or(|platform| self.wants(&platform)))
    }
}

/// Returns the index with only the kept entries. All other content stays unchanged.
fn rewrite(
    from: &Repository,
    index: &Manifest,
    decisions: &[ChildDecision],
) -> Result<Manifest, ItemError> {
    let failed = |error: serde_json::Error| not_rewritable(from, &index.digest, error);
    let mut document: serde_json::Value = serde_json::from_slice(&index.bytes).map_err(failed)?;
    if let Some(entries) = document
        .get_mut("manifests")
        .and_then(serde_json::Value::as_array_mut)
    {
        let kept = entries
            .drain(..)
            .zip(decisions)
            .filter_map(|(mut entry, decision)| match decision {
                ChildDecision::Keep => Some(entry),
                ChildDecision::Drop => None,
                ChildDecision::Replace(nested) => {
                    entry["digest"] = nested.digest.as_str().into();
                    entry["size"] = nested.bytes.len().into();
                    Some(entry)
                }
            });
        let kept: Vec<serde_json::Value> = kept.collect();
        *entries = kept;
    }
    let bytes = Bytes::from(serde_json::to_vec(&document).map_err(failed)?);
    Manifest::parse(bytes, Some(&index.media_type), index.digest.algorithm())
        .map_err(|error| not_rewritable(from, &index.digest, error))
}
