//! The platform filter: which entries of an index are kept, and the index that results.

use std::collections::{BTreeSet, HashMap, HashSet};

use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::error::{CopyError, at};
use super::may_be_blob;
use crate::error::{ItemErrorKind, Side};
use crate::model::manifest::MAX_INDEX_NESTING;
use crate::model::media_type;
use crate::model::{
    Descriptor, Digest, ImageConfig, Manifest, ManifestContent, Platform, Reference, Repository,
};
use crate::registry::{ImageSource, read_config};

/// Which platforms of an image are copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlatformFilter {
    /// Every entry, bytes untouched.
    All,
    Only {
        platforms: Vec<Platform>,
        mode: PlatformFilterMode,
    },
}

/// What becomes of an index of which only some entries are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlatformFilterMode {
    /// A new index with the kept entries; the same entries always give the same bytes.
    Rewrite,
    /// The index as it is, its other children missing.
    Sparse,
}

impl PlatformFilter {
    /// Returns whether an index at the target proves that the children wanted by this filter are
    /// there too.
    pub(super) fn trusts_an_index(&self) -> bool {
        !matches!(
            self,
            PlatformFilter::Only {
                mode: PlatformFilterMode::Sparse,
                ..
            }
        )
    }
}

/// An image after the filter.
pub(super) struct Filtered {
    pub(super) root: Manifest,
    pub(super) kept: Kept,
    pub(super) warnings: Vec<String>,
}

/// Which children of the indexes of an image are copied, and what nested indexes were rewritten to.
#[derive(Default)]
pub(super) struct Kept {
    /// `None` keeps all.
    digests: Option<HashSet<Digest>>,
    /// By the digest in the rewritten parent.
    rewritten: HashMap<Digest, Manifest>,
}

impl Kept {
    pub(super) fn keeps(&self, digest: &Digest) -> bool {
        self.digests
            .as_ref()
            .is_none_or(|digests| digests.contains(digest))
    }

    pub(super) fn rewritten(&self, digest: &Digest) -> Option<&Manifest> {
        self.rewritten.get(digest)
    }
}

/// Applies `filter` to the image `root` of the repository `from`. Reads from the source only what
/// it needs to know platforms that the index does not tell.
pub(super) async fn apply(
    source: &dyn ImageSource,
    from: &Repository,
    root: Manifest,
    filter: &PlatformFilter,
) -> Result<Filtered, CopyError> {
    let PlatformFilter::Only { platforms, mode } = filter else {
        return Ok(Filtered {
            root,
            kept: Kept::default(),
            warnings: Vec::new(),
        });
    };
    let mut selection = Selection {
        source,
        from,
        platforms,
        mode: *mode,
        kept: HashSet::new(),
        rewritten: HashMap::new(),
        verdicts: HashMap::new(),
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
        return Err(CopyError::NoPlatform {
            wanted: missing.join(", "),
            found: found.join(", "),
        });
    }
    let warnings = if missing.is_empty() || selection.found.is_empty() {
        Vec::new()
    } else {
        vec![format!(
            "platform {} is missing upstream",
            missing.join(", ")
        )]
    };
    Ok(Filtered {
        root,
        kept: Kept {
            digests: Some(selection.kept),
            rewritten: selection.rewritten,
        },
        warnings,
    })
}

struct Selection<'a> {
    source: &'a dyn ImageSource,
    from: &'a Repository,
    platforms: &'a [Platform],
    mode: PlatformFilterMode,
    kept: HashSet<Digest>,
    rewritten: HashMap<Digest, Manifest>,
    /// What was found out by reading. Indexes may name the same manifest any number of times.
    verdicts: HashMap<Digest, Verdict>,
    /// Every platform that was seen, wanted or not.
    found: Vec<Platform>,
}

/// What is done with an entry of an index.
#[derive(Clone)]
enum Verdict {
    Keep,
    Drop,
    /// Keep it as the nested index that is left of it.
    Replace(Box<Manifest>),
}

impl Selection<'_> {
    fn wants(&mut self, platform: &Platform) -> bool {
        self.found.push(platform.clone());
        self.platforms.iter().any(|wanted| wanted.matches(platform))
    }

    /// Returns what is left of a manifest. An image that is not wanted is returned as it is:
    /// whether anything was wanted is judged at the end.
    fn manifest(
        &mut self,
        manifest: Manifest,
        depth: usize,
    ) -> BoxFuture<'_, Result<Manifest, CopyError>> {
        Box::pin(async move {
            let ManifestContent::Index { children } = &manifest.content else {
                self.image_is_wanted(&manifest).await?;
                return Ok(manifest);
            };
            if depth >= MAX_INDEX_NESTING {
                return Err(CopyError::TooDeep {
                    digest: manifest.digest.clone(),
                });
            }
            let mut verdicts = Vec::with_capacity(children.len());
            for child in children {
                verdicts.push(self.child(child, depth).await?);
            }
            let kept: HashSet<&str> = children
                .iter()
                .zip(&verdicts)
                .filter(|(_, verdict)| !matches!(verdict, Verdict::Drop))
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
            for (verdict, attests) in verdicts.iter_mut().zip(attests_to_kept) {
                if attests {
                    *verdict = Verdict::Keep;
                }
            }
            let changed = verdicts
                .iter()
                .any(|verdict| !matches!(verdict, Verdict::Keep));
            for (child, verdict) in children.iter().zip(&verdicts) {
                match verdict {
                    Verdict::Keep => self.kept.insert(child.digest.clone()),
                    Verdict::Replace(nested) => {
                        self.rewritten
                            .insert(nested.digest.clone(), (**nested).clone());
                        self.kept.insert(nested.digest.clone())
                    }
                    Verdict::Drop => false,
                };
            }
            match self.mode {
                PlatformFilterMode::Rewrite if changed => rewrite(&manifest, &verdicts),
                _ => Ok(manifest),
            }
        })
    }

    async fn child(&mut self, child: &Descriptor, depth: usize) -> Result<Verdict, CopyError> {
        if child.attests_to().is_some() {
            return Ok(Verdict::Drop);
        }
        if let Some(platform) = &child.platform {
            let wanted = !platform.is_unknown() && self.wants(platform);
            return Ok(if wanted { Verdict::Keep } else { Verdict::Drop });
        }
        // Without a platform in the index, what the entry is of stands further inside, or nowhere:
        // then it is for all.
        if let Some(verdict) = self.verdicts.get(&child.digest) {
            return Ok(verdict.clone());
        }
        let verdict = self.look_inside(child, depth).await?;
        self.verdicts.insert(child.digest.clone(), verdict.clone());
        Ok(verdict)
    }

    async fn look_inside(
        &mut self,
        child: &Descriptor,
        depth: usize,
    ) -> Result<Verdict, CopyError> {
        let reference = Reference::Digest(child.digest.clone());
        let manifest = match self.source.manifest(self.from, &reference).await {
            Ok(Some(manifest)) => manifest,
            Ok(None) if may_be_blob(child) => return Ok(Verdict::Keep),
            Ok(None) => {
                return Err(CopyError::ChildMissing {
                    repository: self.from.clone(),
                    digest: child.digest.clone(),
                });
            }
            Err(error) if may_be_blob(child) && error.kind == ItemErrorKind::Malformed => {
                return Ok(Verdict::Keep);
            }
            Err(error) => return Err(at(Side::Source)(error)),
        };
        if manifest.children().is_none() {
            let wanted = self.image_is_wanted(&manifest).await?;
            return Ok(if wanted { Verdict::Keep } else { Verdict::Drop });
        }
        let nested = self.manifest(manifest, depth + 1).await?;
        Ok(match nested.children() {
            Some([]) => Verdict::Drop,
            _ if nested.digest == child.digest => Verdict::Keep,
            _ => Verdict::Replace(Box::new(nested)),
        })
    }

    /// Returns whether the image is of a wanted platform, or of none.
    async fn image_is_wanted(&mut self, image: &Manifest) -> Result<bool, CopyError> {
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
        let bytes = read_config(self.source, self.from, config)
            .await
            .map_err(at(Side::Source))?;
        let platform = ImageConfig::parse(&bytes)
            .ok()
            .and_then(|config| config.platform);
        Ok(platform.is_none_or(|platform| self.wants(&platform)))
    }
}

/// Returns the index with only the entries that are kept, everything else as it stood.
fn rewrite(index: &Manifest, verdicts: &[Verdict]) -> Result<Manifest, CopyError> {
    let failed = |error| CopyError::NotRewritable {
        digest: index.digest.clone(),
        error,
    };
    let mut document: serde_json::Value = serde_json::from_slice(&index.bytes).map_err(failed)?;
    if let Some(entries) = document
        .get_mut("manifests")
        .and_then(serde_json::Value::as_array_mut)
    {
        let kept =
            entries
                .drain(..)
                .zip(verdicts)
                .filter_map(|(mut entry, verdict)| match verdict {
                    Verdict::Keep => Some(entry),
                    Verdict::Drop => None,
                    Verdict::Replace(nested) => {
                        entry["digest"] = nested.digest.as_str().into();
                        entry["size"] = nested.bytes.len().into();
                        Some(entry)
                    }
                });
        let kept: Vec<serde_json::Value> = kept.collect();
        *entries = kept;
    }
    let bytes = Bytes::from(serde_json::to_vec(&document).map_err(failed)?);
    Manifest::parse(bytes, Some(&index.media_type), index.digest.algorithm()).map_err(|error| {
        CopyError::NotRewritable {
            digest: index.digest.clone(),
            error: serde::ser::Error::custom(error),
        }
    })
}
