//! `sync`: mirrors of upstream tags.
//!
//! `observe` lists both sides, `plan` decides without touching anything, `execute` copies what the
//! plan names, and the report says what became of each tag. Never deletes.

use std::sync::Arc;

use crate::config::{PlatformMode, SyncConfig, SyncEntry, TagSelection};
use crate::progress::Progress;
use crate::registry::ImageStores;
use crate::steps::shard::{Only, Shard};
use crate::transfer::{DigestCache, PlatformFilter, PlatformFilterMode, Transfer};

mod execute;
mod exports;
mod hooks;
mod observe;
mod plan;
mod report;
mod select;
mod variants;

pub use execute::{Execution, execute};
pub use observe::{Listing, ObservedEntry, TagDigests, World, observe, selections};
pub use plan::{Action, CopyReason, EntryPlan, Item, Plan, plan};
pub use report::{EntryReport, ItemReport, Outcome, SyncReport, Totals};
pub use select::{LeftOut, Rejected, Selected, newest, select};
pub use variants::Naming;

/// Where a sync reads from and writes to.
#[derive(Clone)]
pub struct Places {
    pub source: ImageStores,
    pub target: ImageStores,
    /// What earlier runs found out.
    pub memory: Arc<dyn DigestCache>,
}

impl Places {
    fn transfer(&self, progress: Arc<dyn Progress>) -> Transfer {
        Transfer::new(self.source.clone(), self.target.clone(), progress)
            .with_cache(self.memory.clone())
    }
}

/// The part of the configuration that a run is about.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    pub only: Only,
    pub shard: Option<Shard>,
    /// Also look into the images that are at the target, whether all of their parts are there.
    pub verify: bool,
}

impl Scope {
    /// Returns the positions of the entries in scope. Entries with the same target stay in one
    /// shard, so that two runners never write the same repository and overlaps are seen.
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

/// Returns the names by which `--only` knows an entry: its repositories, whole and by their last
/// part.
pub fn names(entry: &SyncEntry) -> Vec<String> {
    let mut names = Vec::new();
    for repository in [&entry.target, &entry.source] {
        let whole = repository.to_string();
        names.extend(whole.rsplit('/').next().map(str::to_owned));
        names.push(whole);
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
        },
    }
}

/// Returns what an entry asks for, in a few words.
fn describe(selection: &TagSelection) -> String {
    match selection {
        TagSelection::Fixed(tag) => format!("tag {tag}"),
        TagSelection::Pattern(pattern) => format!("tag_regex {}", pattern.tag_regex.text),
    }
}

#[cfg(test)]
mod tests;
