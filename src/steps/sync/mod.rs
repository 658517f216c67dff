//! `sync`: mirrors of upstream tags.
//!
//! `observe` lists sources and targets, `plan` decides without any request, `execute` copies the
//! images of the plan, and `report` has the result of each tag. A sync never deletes.

use std::sync::Arc;

use crate::config::{MissingPlatforms, PlatformMode, SyncConfig, SyncEntry, TagSelection};
use crate::progress::Progress;
use crate::registry::ImageStores;
use crate::steps::shard::{Only, Shard};
use crate::transfer::{DigestCache, PlatformFilter, PlatformFilterMode, Transfer};

mod execute;
mod exports;
mod former_order;
mod hooks;
mod observe;
mod plan;
mod report;
mod select;
mod source_listings;
mod tag_case;
mod target_listing;
mod variants;

pub use execute::{SyncExecution, execute};
pub use former_order::FormerVersion;
pub use observe::{ObservedEntry, TagDigests, World, observe};
pub use plan::{CopyReason, Plan, SyncAction, SyncEntryPlan, SyncItem, plan};
pub use report::{SyncEntryReport, SyncItemReport, SyncOutcome, SyncReport, SyncTotals};
pub use select::{
    ExplainedSelection, LeftOutCounts, LeftOutReason, SelectedTags, SelectionError, TagDecision,
    explain, matches, newest, select,
};
pub use source_listings::{UpstreamSelection, listing, selections};
pub use target_listing::TargetListing;
pub use variants::VariantName;

/// Image stores of a sync.
#[derive(Clone)]
pub struct SyncStores {
    pub source: ImageStores,
    pub target: ImageStores,
    /// Facts from earlier runs.
    pub digest_cache: Arc<dyn DigestCache>,
}

impl SyncStores {
    fn transfer(&self, progress: Arc<dyn Progress>) -> Transfer {
        Transfer::new(self.source.clone(), self.target.clone(), progress)
            .with_cache(self.digest_cache.clone())
    }
}

/// Entries of the configuration that a run covers, and the depth of its checks.
#[derive(Clone, Debug, Default)]
pub struct SyncScope {
    pub only: Only,
    pub shard: Option<Shard>,
    /// True if images at the target are checked for missing parts.
    pub verify: bool,
}

impl SyncScope {
    /// Returns the positions of the entries in scope.
    ///
    /// Entries with the same target are in the same shard. Otherwise two runners could write to one
    /// repository, and overlapping entries would not be detected.
    pub fn entries(&self, sync: &SyncConfig) -> Vec<usize> {
        let mut targets: Vec<&crate::model::Repository> = Vec::new();
        sync.entries
            .iter()
            .enumerate()
            .filter(|(_, entry)| {
                let group = targets
                    .iter()
                    .position(|target| **target == entry.target)
                    .unwrap_or_else(|| {
                        targets.push(&entry.target);
                        targets.len() - 1
                    });
                self.shard.is_none_or(|shard| shard.contains(group))
                    && self.only.selects(&names(entry))
            })
            .map(|(position, _)| position)
            .collect()
    }
}

/// Returns the names of an entry that `--only` can match: the target and the source, each in full
/// and by its last path component.
pub fn names(entry: &SyncEntry) -> Vec<String> {
    let mut names = Vec::new();
    for repository in [&entry.target, &entry.source] {
        let full = repository.to_string();
        names.extend(full.rsplit('/').next().map(str::to_owned));
        names.push(full);
    }
    names
}

/// Returns the platform filter of an entry.
fn platform_filter(entry: &SyncEntry) -> PlatformFilter {
    match &entry.platforms {
        None => PlatformFilter::All,
        Some(platforms) => PlatformFilter::Only {
            platforms: platforms.clone(),
            mode: match entry.platform_mode {
                PlatformMode::Rewrite => PlatformFilterMode::Rewrite,
                PlatformMode::Sparse => PlatformFilterMode::Sparse,
            },
            requires_all: entry.platforms_missing != MissingPlatforms::Warn,
        },
    }
}

/// Returns a short description of a selection, for reports.
fn describe(selection: &TagSelection) -> String {
    match selection {
        TagSelection::Fixed(tag) => format!("tag {tag}"),
        TagSelection::Pattern(pattern) => match &pattern.tag_regex {
            Some(regex) if pattern.semver.is_none() && pattern.include.is_empty() => {
                format!("tag_regex {}", regex.text)
            }
            _ => pattern.describe(),
        },
    }
}

#[cfg(test)]
mod tests;
