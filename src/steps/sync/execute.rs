//! Carrying out a plan. Failures of items are part of the report; the rest goes on.

use std::collections::BTreeSet;
use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use chrono::{DateTime, Utc};
use futures_util::{StreamExt, stream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::hooks::{entry_hooks, run_hooks};
use super::plan::{Action, CopyReason, EntryPlan, Item, Plan};
use super::report::{Bytes, EntryReport, ItemReport, Outcome, SyncReport};
use super::{Places, describe, platform_filter};
use crate::config::SyncConfig;
use crate::error::{ItemError, Side};
use crate::hooks::HookRunner;
use crate::model::{Digest, Reference, Repository, Tag};
use crate::progress::{Event, ItemOutcome, Progress};
use crate::steps::Mode;
use crate::transfer::{
    AttachmentCheck, Attachments, CompletenessRequest, CopiedImage, CopyRequest, ExpectedTag,
    RefreshRequest, Transfer, UpcomingCopy,
};

/// How many images that one tag had on one day are kept.
const MAX_REPLACED_PER_DAY: usize = 50;

/// How and with what a plan is carried out.
pub struct Execution {
    pub mode: Mode,
    pub places: Places,
    pub progress: Arc<dyn Progress>,
    pub hooks: HookRunner,
    /// When it is cancelled, no new work starts and what is in flight is dropped.
    pub cancel: CancellationToken,
    pub now: DateTime<Utc>,
}

/// Carries out `plan` and returns what became of each item, in the order of the plan.
pub async fn execute(sync: &SyncConfig, plan: &Plan, execution: &Execution) -> SyncReport {
    let transfer = execution.places.transfer(execution.progress.clone());
    for planned in plan.entries.iter().filter(|planned| planned.target_is_new) {
        transfer.record_absent_target(&sync.entries[planned.position].target);
    }
    let run = Run {
        sync,
        execution,
        transfer,
    };
    let outcomes = run.items(plan).await;
    let mut entries = Vec::with_capacity(plan.entries.len());
    for (planned, items) in plan.entries.iter().zip(outcomes) {
        entries.push(run.entry(planned, items).await);
    }
    let mut report = SyncReport::new(execution.mode, entries);
    if execution.mode == Mode::Apply && !execution.cancel.is_cancelled() {
        report.hooks = run_hooks(&execution.hooks, &sync.post_sync, &execution.cancel).await;
    }
    report.interrupted = execution.cancel.is_cancelled();
    if report.interrupted {
        execution.places.target.settle().await;
    }
    report
}

struct Run<'a> {
    sync: &'a SyncConfig,
    execution: &'a Execution,
    transfer: Transfer,
}

/// How far reading may be ahead of copying.
struct Pace {
    /// One for each image that may be read; closed when there is nothing left to do.
    turns: Semaphore,
    /// The images whose copies have begun, which read for themselves what is not on its way.
    begun: AtomicUsize,
}

impl Run<'_> {
    /// Works on all items, some at once, and returns them by entry in the order of the plan.
    async fn items(&self, plan: &Plan) -> Vec<Vec<ItemReport>> {
        let work: Vec<(usize, &EntryPlan, &Item)> = plan
            .entries
            .iter()
            .enumerate()
            .flat_map(|(at, planned)| planned.items.iter().map(move |item| (at, planned, item)))
            .collect();
        let copies = work
            .iter()
            .filter(|(_, _, item)| matches!(item.action, Action::Copy(_)))
            .count();
        if self.execution.mode == Mode::Apply {
            self.execution
                .progress
                .event(Event::Planned { items: copies });
        }
        // As many images are read ahead as are copied at once, so that none begins with waiting.
        let upcoming = if self.execution.mode == Mode::Apply {
            &work[..]
        } else {
            &[]
        };
        let pace = Pace {
            turns: Semaphore::new(self.sync.parallelism),
            begun: AtomicUsize::new(0),
        };
        let copies = async {
            let done = stream::iter(work.iter().enumerate())
                .map(|(order, (at, planned, item))| {
                    let pace = &pace;
                    async move {
                        pace.begun.fetch_add(1, Ordering::Relaxed);
                        pace.turns.add_permits(1);
                        (order, *at, self.item(planned, item).await)
                    }
                })
                .buffer_unordered(self.sync.parallelism)
                .collect()
                .await;
            pace.turns.close();
            done
        };
        let (mut done, ()): (Vec<(usize, usize, ItemReport)>, ()) =
            tokio::join!(copies, self.prefetch(upcoming, &pace));
        done.sort_by_key(|(order, _, _)| *order);
        let mut by_entry: Vec<Vec<ItemReport>> = plan.entries.iter().map(|_| Vec::new()).collect();
        for (_, at, item) in done {
            by_entry[at].push(item);
        }
        by_entry
    }

    /// Reads the manifests of images before their copies begin, until one cannot be read: what is
    /// wrong then shall be met once.
    async fn prefetch(&self, work: &[(usize, &EntryPlan, &Item)], pace: &Pace) {
        let failed = &AtomicBool::new(false);
        let turns =
            stream::iter(work.iter().enumerate()).then(|(order, (_, planned, item))| async move {
                pace.turns.acquire().await.ok()?.forget();
                Some((order, *planned, *item))
            });
        let reads = turns
            .take_while(|turn| ready(turn.is_some()))
            .filter_map(ready)
            .for_each_concurrent(self.sync.parallelism, |(order, planned, item)| async move {
                let is_late = order < pace.begun.load(Ordering::Relaxed);
                if is_late || failed.load(Ordering::Relaxed) {
                    return;
                }
                let reference = match &item.action {
                    Action::Copy(CopyReason::Missing { source: None }) => {
                        Reference::Tag(item.tag.clone())
                    }
                    Action::Copy(
                        CopyReason::Missing {
                            source: Some(source),
                        }
                        | CopyReason::Changed { source, .. },
                    ) => Reference::Digest(source.clone()),
                    _ => return,
                };
                let entry = &self.sync.entries[planned.position];
                let filter = platform_filter(entry);
                let upcoming = UpcomingCopy {
                    from: &entry.source,
                    reference: &reference,
                    to: &entry.target,
                    filter: &filter,
                };
                if !self.transfer.prefetch(&upcoming).await {
                    failed.store(true, Ordering::Relaxed);
                }
            });
        tokio::select! {
            () = reads => {}
            () = self.execution.cancel.cancelled() => {}
        }
    }

    async fn item(&self, planned: &EntryPlan, item: &Item) -> ItemReport {
        let outcome = match (&item.action, self.execution.mode) {
            (Action::UpToDate, _) => Outcome::UpToDate,
            (Action::Fail(error), _) => Outcome::Failed(error.clone()),
            (Action::Copy(_), Mode::List | Mode::DryRun) => Outcome::Planned,
            (Action::Copy(_), Mode::Apply) if self.execution.cancel.is_cancelled() => {
                Outcome::NotStarted
            }
            (Action::Copy(reason), Mode::Apply) => return self.copy(planned, item, reason).await,
        };
        ItemReport::new(item, outcome)
    }

    async fn copy(&self, planned: &EntryPlan, item: &Item, reason: &CopyReason) -> ItemReport {
        let entry = &self.sync.entries[planned.position];
        let name = format!(
            "{}:{} -> {}:{}",
            entry.source, item.tag, entry.target, item.target_tag
        );
        let began = Instant::now();
        let progress = &self.execution.progress;
        progress.event(Event::Started { item: &name });
        let result = tokio::select! {
            result = self.try_copy(planned, item, reason, &name) => Some(result),
            () = self.execution.cancel.cancelled() => None,
        };
        let report = match result {
            Some(Ok(copied)) => {
                let detail = Bytes::from(copied.bytes).words();
                progress.event(Event::Finished {
                    item: &name,
                    outcome: ItemOutcome::Done { detail: &detail },
                });
                ItemReport {
                    digest: Some(copied.digest),
                    source_digest: Some(copied.source_digest),
                    bytes: copied.bytes.into(),
                    attachments: copied.attachments,
                    warnings: [item.warnings.clone(), copied.warnings].concat(),
                    ..ItemReport::new(item, Outcome::Copied)
                }
            }
            Some(Err(error)) => {
                progress.event(Event::Finished {
                    item: &name,
                    outcome: ItemOutcome::Failed {
                        cause: &error.line(),
                    },
                });
                ItemReport::new(item, Outcome::Failed(error))
            }
            None => {
                progress.event(Event::Finished {
                    item: &name,
                    outcome: ItemOutcome::Failed {
                        cause: "interrupted",
                    },
                });
                ItemReport::new(item, Outcome::Interrupted)
            }
        };
        ItemReport {
            duration: began.elapsed(),
            ..report
        }
    }

    async fn try_copy(
        &self,
        planned: &EntryPlan,
        item: &Item,
        reason: &CopyReason,
        name: &str,
    ) -> Result<CopiedImage, ItemError> {
        let entry = &self.sync.entries[planned.position];
        let tag = &item.target_tag;
        let filter = platform_filter(entry);
        let source_tags = planned.attachment_tags.as_ref().map_err(ItemError::clone)?;
        let (reference, expected) = match reason {
            CopyReason::Missing { source } => {
                let reference = source
                    .clone()
                    .map_or_else(|| Reference::Tag(item.tag.clone()), Reference::Digest);
                (reference, ExpectedTag::Absent)
            }
            CopyReason::Changed {
                source,
                replaces,
                wanted,
            } => {
                let expected = ExpectedTag::Image(replaces);
                let found = self
                    .transfer
                    .is_tagged(&entry.target, tag, expected, wanted)
                    .await;
                if found? {
                    return Ok(CopiedImage::by_another_run(source, wanted));
                }
                // Before anything else, so that nothing comes between the last look at the tag and
                // its move.
                if entry.keep_replaced {
                    self.keep_replaced(&entry.target, tag, replaces).await?;
                }
                (Reference::Digest(source.clone()), expected)
            }
            CopyReason::Incomplete { .. } => {
                let request = CompletenessRequest {
                    item: name,
                    from: &entry.source,
                    to: &entry.target,
                    tag,
                    filter: &filter,
                };
                return self.transfer.repair(&request).await;
            }
            CopyReason::Attachments => {
                let request = RefreshRequest {
                    item: name,
                    from: &entry.source,
                    to: &entry.target,
                    tag,
                    digest: None,
                    source_tags,
                    target_tags: &BTreeSet::new(),
                    check: AttachmentCheck::Content,
                };
                return self.transfer.refresh_attachments(&request).await;
            }
        };
        let attachments = if entry.referrers {
            Attachments::Copy { source_tags }
        } else {
            Attachments::Skip
        };
        let to = &entry.target;
        let request = CopyRequest {
            item: name,
            from: &entry.source,
            reference,
            to,
            tag,
            expected,
            filter: &filter,
            attachments,
        };
        self.transfer.copy(request).await
    }

    /// Gives the image that a tag is about to lose another tag, so that it stays reachable. When
    /// the tag moved before on the same day, the name of that day is taken, and the next one is
    /// numbered.
    async fn keep_replaced(
        &self,
        target: &Repository,
        tag: &Tag,
        replaces: &Digest,
    ) -> Result<(), ItemError> {
        let day = self.execution.now.format("%Y%m%d");
        for number in 1..=MAX_REPLACED_PER_DAY {
            let suffix = if number == 1 {
                String::new()
            } else {
                format!(".{number}")
            };
            let kept: Tag = format!("{tag}-replaced.{day}{suffix}")
                .parse()
                .map_err(|error| {
                    let hint = "the tag is too long for `keep_replaced`".to_owned();
                    ItemError::of(&error, Some(hint)).on(Side::Target)
                })?;
            let found = self
                .execution
                .places
                .target
                .of(target)
                .resolve(target, &Reference::Tag(kept.clone()))
                .await;
            match found.map_err(|error| error.on(Side::Target))? {
                Some(found) if found.digest == *replaces => return Ok(()),
                Some(_) => {}
                None => {
                    return self.transfer.retag(target, replaces, &kept).await;
                }
            }
        }
        let cause = format!(
            "{target}:{tag} moved more than {MAX_REPLACED_PER_DAY} times today; its old image would be lost"
        );
        Err(ItemError::other(cause)
            .with_hint("run sync less often, or without `keep_replaced`")
            .on(Side::Target))
    }

    async fn entry(&self, planned: &EntryPlan, items: Vec<ItemReport>) -> EntryReport {
        let entry = &self.sync.entries[planned.position];
        let mut report = EntryReport {
            source: entry.source.clone(),
            target: entry.target.clone(),
            selection: describe(&entry.selection),
            left_out: planned.left_out,
            error: planned.error.clone(),
            items,
            hooks: Vec::new(),
        };
        if self.execution.mode == Mode::Apply
            && !self.execution.cancel.is_cancelled()
            && report.changed().next().is_some()
        {
            report.hooks = entry_hooks(
                &self.execution.hooks,
                &entry.post_sync,
                &report,
                &self.execution.cancel,
            )
            .await;
        }
        report
    }
}
