//! Execution of a plan. A failed item is part of the report and does not stop the others.

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
use super::plan::{CopyReason, Plan, SyncAction, SyncEntryPlan, SyncItem};
use super::report::{SyncBytes, SyncEntryReport, SyncItemReport, SyncOutcome, SyncReport};
use super::{SyncStores, describe, platform_filter};
use crate::config::{CheckDigest, MissingPlatforms, SyncConfig, SyncEntry};
use crate::error::{ItemError, ItemErrorKind, Side};
use crate::hooks::HookRunner;
use crate::model::{Digest, Reference, Repository, Tag};
use crate::progress::{Event, ItemOutcome, Progress};
use crate::steps::Mode;
use crate::transfer::{
    AttachmentCheck, Attachments, CompletenessRequest, CopiedImage, CopyRequest, ExpectedTag,
    RefreshRequest, Transfer, UpcomingCopy,
};

/// Maximum number of replaced images of one tag that `keep_replaced` keeps for one day.
const MAX_REPLACED_PER_DAY: usize = 50;

/// Mode and dependencies of the execution of a plan.
pub struct SyncExecution {
    pub mode: Mode,
    pub stores: SyncStores,
    pub progress: Arc<dyn Progress>,
    pub hooks: HookRunner,
    /// When cancelled, no new copy starts and running copies are aborted.
    pub cancel: CancellationToken,
    /// Date for the tags of `keep_replaced`.
    pub now: DateTime<Utc>,
}

/// Executes `plan` and returns the outcome of each item, in the order of the plan.
pub async fn execute(sync: &SyncConfig, plan: &Plan, execution: &SyncExecution) -> SyncReport {
    let transfer = execution.stores.transfer(execution.progress.clone());
    for planned in plan.entries.iter().filter(|planned| planned.target_is_new) {
        transfer.record_absent_target(&sync.entries[planned.position].target);
    }
    let run = SyncRun {
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
        execution.stores.target.settle().await;
    }
    report
}

/// Returns the outcome of a tag that was not copied because of `error`: skipped if the entry allows
/// it, drifted if the target refuses to move a tag that follows upstream, and failed otherwise.
fn failure_outcome(entry: &SyncEntry, error: ItemError, is_move: bool) -> SyncOutcome {
    let is_source = error.side == Some(Side::Source);
    let is_skipped = match error.kind {
        ItemErrorKind::NoPlatform => {
            entry.skip_unsupported || entry.platforms_missing == MissingPlatforms::Skip
        }
        ItemErrorKind::Unsupported => entry.skip_unsupported && is_source,
        _ => false,
    };
    let is_refused = is_move
        && entry.check_digest == CheckDigest::Auto
        && error.side == Some(Side::Target)
        && error.kind == ItemErrorKind::Refused;
    if is_skipped {
        SyncOutcome::Skipped(error)
    } else if is_refused {
        SyncOutcome::Drifted(error)
    } else {
        SyncOutcome::Failed(error)
    }
}

/// One execution of a plan.
struct SyncRun<'a> {
    sync: &'a SyncConfig,
    execution: &'a SyncExecution,
    transfer: Transfer,
}

/// Coordination of the prefetch with the copies.
struct PrefetchLimit {
    /// One permit for each item that the prefetch may read. Closed after the last copy.
    permits: Semaphore,
    /// Number of items that were started. The prefetch skips them, because their copies read the
    /// manifests themselves.
    started: AtomicUsize,
}

impl SyncRun<'_> {
    /// Processes all items, `parallelism` at once, and returns their reports by entry, in the order
    /// of the plan.
    async fn items(&self, plan: &Plan) -> Vec<Vec<SyncItemReport>> {
        let work: Vec<(usize, &SyncEntryPlan, &SyncItem)> = plan
            .entries
            .iter()
            .enumerate()
            .flat_map(|(index, planned)| {
                planned.items.iter().map(move |item| (index, planned, item))
            })
            .collect();
        let copies = work
            .iter()
            .filter(|(_, _, item)| matches!(item.action, SyncAction::Copy(_)))
            .count();
        if self.execution.mode == Mode::Apply {
            self.execution
                .progress
                .event(Event::Planned { items: copies });
        }
        // Prefetch as many images as are copied at once, so that no copy waits for its manifests.
        let upcoming = if self.execution.mode == Mode::Apply {
            &work[..]
        } else {
            &[]
        };
        let limit = PrefetchLimit {
            permits: Semaphore::new(self.sync.parallelism),
            started: AtomicUsize::new(0),
        };
        let copies = async {
            let done = stream::iter(work.iter().enumerate())
                .map(|(order, (index, planned, item))| {
                    let limit = &limit;
                    async move {
                        limit.started.fetch_add(1, Ordering::Relaxed);
                        limit.permits.add_permits(1);
                        (order, *index, self.item(planned, item).await)
                    }
                })
                .buffer_unordered(self.sync.parallelism)
                .collect()
                .await;
            limit.permits.close();
            done
        };
        let (mut done, ()): (Vec<(usize, usize, SyncItemReport)>, ()) =
            tokio::join!(copies, self.prefetch(upcoming, &limit));
        done.sort_by_key(|(order, _, _)| *order);
        let mut by_entry: Vec<Vec<SyncItemReport>> =
            plan.entries.iter().map(|_| Vec::new()).collect();
        for (_, index, item) in done {
            by_entry[index].push(item);
        }
        by_entry
    }

    /// Reads the manifests of images before their copies start.
    ///
    /// Stops at the first manifest that cannot be read, so that a registry that fails does not get
    /// twice the requests.
    async fn prefetch(&self, work: &[(usize, &SyncEntryPlan, &SyncItem)], limit: &PrefetchLimit) {
        let failed = &AtomicBool::new(false);
        let permitted =
            stream::iter(work.iter().enumerate()).then(|(order, (_, planned, item))| async move {
                limit.permits.acquire().await.ok()?.forget();
                Some((order, *planned, *item))
            });
        let reads = permitted
            .take_while(|item| ready(item.is_some()))
            .filter_map(ready)
            .for_each_concurrent(self.sync.parallelism, |(order, planned, item)| async move {
                let is_late = order < limit.started.load(Ordering::Relaxed);
                if is_late || failed.load(Ordering::Relaxed) {
                    return;
                }
                let reference = match &item.action {
                    SyncAction::Copy(CopyReason::Missing { source: None }) => {
                        Reference::Tag(item.tag.clone())
                    }
                    SyncAction::Copy(
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

    /// Processes one item. Copies only in `Mode::Apply`.
    async fn item(&self, planned: &SyncEntryPlan, item: &SyncItem) -> SyncItemReport {
        let outcome = match (&item.action, self.execution.mode) {
            (SyncAction::UpToDate, _) => SyncOutcome::UpToDate,
            (SyncAction::Fail(error), _) => {
                let entry = &self.sync.entries[planned.position];
                failure_outcome(entry, error.clone(), false)
            }
            (SyncAction::Copy(_), Mode::List | Mode::DryRun) => SyncOutcome::Planned,
            (SyncAction::Copy(_), Mode::Apply) if self.execution.cancel.is_cancelled() => {
                SyncOutcome::NotStarted
            }
            (SyncAction::Copy(reason), Mode::Apply) => {
                return self.copy(planned, item, reason).await;
            }
        };
        SyncItemReport::new(item, outcome)
    }

    /// Copies one item and reports it to `progress`.
    async fn copy(
        &self,
        planned: &SyncEntryPlan,
        item: &SyncItem,
        reason: &CopyReason,
    ) -> SyncItemReport {
        let entry = &self.sync.entries[planned.position];
        let name = format!(
            "{}:{} -> {}:{}",
            entry.source, item.tag, entry.target, item.target_tag
        );
        let start = Instant::now();
        let progress = &self.execution.progress;
        progress.event(Event::Started { item: &name });
        let result = tokio::select! {
            result = self.try_copy(planned, item, reason, &name) => Some(result),
            () = self.execution.cancel.cancelled() => None,
        };
        let report = match result {
            Some(Ok(copied)) => {
                let detail = SyncBytes::from(copied.bytes).summary();
                progress.event(Event::Finished {
                    item: &name,
                    outcome: ItemOutcome::Done { detail: &detail },
                });
                SyncItemReport {
                    digest: Some(copied.digest),
                    source_digest: Some(copied.source_digest),
                    bytes: copied.bytes.into(),
                    attachments: copied.attachments,
                    warnings: [item.warnings.clone(), copied.warnings].concat(),
                    ..SyncItemReport::new(item, SyncOutcome::Copied)
                }
            }
            Some(Err(error)) => {
                progress.event(Event::Finished {
                    item: &name,
                    outcome: ItemOutcome::Failed {
                        cause: &error.line(),
                    },
                });
                let is_move = matches!(reason, CopyReason::Changed { .. });
                SyncItemReport::new(item, failure_outcome(entry, error, is_move))
            }
            None => {
                progress.event(Event::Finished {
                    item: &name,
                    outcome: ItemOutcome::Failed {
                        cause: "interrupted",
                    },
                });
                SyncItemReport::new(item, SyncOutcome::Interrupted)
            }
        };
        SyncItemReport {
            duration: start.elapsed(),
            ..report
        }
    }

    /// Copies the image of one item, its missing parts or its attachments, depending on `reason`.
    async fn try_copy(
        &self,
        planned: &SyncEntryPlan,
        item: &SyncItem,
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
                // Runs before the copy, so that no other request comes between the last check of
                // the tag and its update.
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

    /// Tags the image that a copy is about to replace, so that it stays reachable.
    ///
    /// The tag is `TAG-replaced.YYYYMMDD`. If another image already has this tag, a number follows:
    /// `.2`, `.3` and so on.
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
                    let hint = "set `keep_replaced: false`; the tag is too long for the suffix that it appends".to_owned();
                    ItemError::of(&error, Some(hint)).on(Side::Target)
                })?;
            let found = self
                .execution
                .stores
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
            "{target}:{tag} was replaced more than {MAX_REPLACED_PER_DAY} times today; its current image would be lost"
        );
        Err(ItemError::other(cause)
            .with_hint("run sync less often, or set `keep_replaced: false`")
            .on(Side::Target))
    }

    /// Returns the report of an entry. Runs the hooks of the entry if it copied a tag.
    async fn entry(&self, planned: &SyncEntryPlan, items: Vec<SyncItemReport>) -> SyncEntryReport {
        let entry = &self.sync.entries[planned.position];
        let mut report = SyncEntryReport {
            source: entry.source.clone(),
            target: entry.target.clone(),
            selection: describe(&entry.selection),
            left_out: planned.left_out,
            merged: planned.merged,
            warnings: planned.warnings.clone(),
            error: planned.error.clone(),
            items,
            hooks: Vec::new(),
        };
        if self.execution.mode == Mode::Apply
            && !self.execution.cancel.is_cancelled()
            && report.copied().next().is_some()
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
