//! Carrying out a plan. What changed since it was made is left alone; failures of images are part of the report, and the rest goes on.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::{StreamExt, stream};
use tokio_util::sync::CancellationToken;

use super::observe::trouble;
use super::plan::{Group, How, Plan, RepositoryPlan};
use super::report::{CleanupReport, GroupReport, Outcome, RepositoryReport};
use super::tree::{self, Tree};
use crate::error::chain;
use crate::model::manifest::DEEPEST_NESTING;
use crate::model::{Digest, ImageReference, Reference, Repository, Tag};
use crate::progress::{Event, ItemOutcome, Progress};
use crate::registry::{Deletion, ImageStore, PlaceError, Referrers, Swept};
use crate::steps::{Mode, Trouble};
use crate::transfer::{Attachments, CopyRequest, PlatformFilter, Transfer};

/// Repositories that are worked on at once.
const REPOSITORIES: usize = 4;

/// Images of a repository that are worked on at once; each host has its own limit besides.
const IMAGES: usize = 8;

/// How and with what a plan is carried out.
pub struct Execution {
    pub mode: Mode,
    pub store: Arc<dyn ImageStore>,
    pub progress: Arc<dyn Progress>,
    /// When it is cancelled, no new work starts; what is in flight ends.
    pub cancel: CancellationToken,
}

/// Carries out `plan` and returns what became of each tag.
pub async fn execute(plan: &Plan, execution: &Execution) -> CleanupReport {
    let store = execution.store.clone();
    let run = Run { execution, transfer: Transfer::new(store.clone(), store, execution.progress.clone()) };
    if execution.mode == Mode::Apply {
        let items = plan.repositories.iter().map(|planned| planned.groups.len()).sum();
        execution.progress.event(Event::Planned { items });
    }
    let reports = stream::iter(&plan.repositories).map(|planned| run.repository(planned)).buffered(REPOSITORIES);
    let repositories: Vec<RepositoryReport> = reports.collect().await;
    let mut report = CleanupReport::new(execution.mode, plan, repositories);
    report.interrupted = execution.cancel.is_cancelled();
    if report.interrupted {
        execution.store.settle().await;
    }
    report
}

struct Run<'a> {
    execution: &'a Execution,
    transfer: Transfer,
}

/// What was found at a repository just before something is deleted there.
struct Fresh {
    /// What tags lead to that the plan does not know.
    taken: BTreeSet<Digest>,
    tags: BTreeSet<Tag>,
}

/// What became of an image.
struct Done {
    report: GroupReport,
    /// What referred to the image and goes with it.
    referrers: BTreeSet<Digest>,
}

impl Run<'_> {
    async fn repository(&self, planned: &RepositoryPlan) -> RepositoryReport {
        let mut report = RepositoryReport::new(planned);
        if self.execution.mode != Mode::Apply {
            report.groups = planned.groups.iter().map(|group| GroupReport::new(group, Outcome::Planned)).collect();
            return report;
        }
        if !planned.groups.is_empty() {
            self.delete(planned, &mut report).await;
        }
        if planned.is_layout && planned.trouble.is_none() && !planned.seen.is_empty() && !self.execution.cancel.is_cancelled() {
            match self.execution.store.sweep(&planned.repository).await {
                Ok(Swept::Freed { files, bytes }) => (report.freed_files, report.freed_bytes) = (files, bytes),
                Ok(Swept::Postponed) => {
                    report.warnings.push("somebody is writing to it; what nothing refers to was left for the next run".to_owned());
                }
                Ok(Swept::ByItself) => {}
                Err(error) => report.trouble = Some(trouble(&error)),
            }
        }
        report
    }

    async fn delete(&self, planned: &RepositoryPlan, report: &mut RepositoryReport) {
        let fresh = match self.look_again(planned).await {
            Ok(fresh) => fresh,
            Err(trouble) => {
                report.groups = planned.groups.iter().map(|group| GroupReport::new(group, Outcome::Failed(trouble.clone()))).collect();
                return;
            }
        };
        let mut failed: BTreeSet<Digest> = BTreeSet::new();
        let mut parts: BTreeSet<Digest> = BTreeSet::new();
        // What others lead to comes after these: when one of these stays, it stays too.
        let part_of_other = |group: &Group| planned.groups.iter().any(|other| other.parts.contains(&group.digest));
        let (last, first): (Vec<&Group>, Vec<&Group>) = planned.groups.iter().partition(|group| part_of_other(group));
        let mut waves = vec![first];
        waves.extend(last.into_iter().map(|group| vec![group]));
        for wave in waves {
            let work: Vec<_> = wave.into_iter().map(|group| self.group(planned, group, &fresh, failed.contains(&group.digest))).collect();
            let done: Vec<Done> = stream::iter(work).buffered(IMAGES).collect().await;
            for done in done {
                match done.report.outcome {
                    Outcome::Deleted => {
                        parts.extend(done.report.parts.iter().cloned());
                        parts.extend(done.referrers);
                    }
                    _ => failed.extend(done.report.parts.iter().chain([&done.report.digest]).cloned()),
                }
                report.groups.push(done.report);
            }
        }
        let doomed = parts.iter().filter(|part| !failed.contains(*part) && !planned.alive.contains(*part) && !fresh.taken.contains(*part));
        let deletions: Vec<_> = doomed.map(|part| async move { (part, self.delete_part(&planned.repository, part).await) }).collect();
        for (part, result) in stream::iter(deletions).buffered(IMAGES).collect::<Vec<_>>().await {
            match result {
                Ok(Some(Deletion::Done)) => report.parts += 1,
                Ok(_) => {}
                // It is no part of anything any more, so it is only a matter of space.
                Err(error) => report.warnings.push(format!("{} was left behind without a tag: {}", part.short(), chain(&error))),
            }
        }
    }

    async fn delete_part(&self, repository: &Repository, part: &Digest) -> Result<Option<Deletion>, PlaceError> {
        if self.execution.cancel.is_cancelled() {
            return Ok(None);
        }
        self.execution.store.delete_manifest(repository, part).await.map(Some)
    }

    /// Lists the repository again, since others may have pushed to it since it was looked at.
    async fn look_again(&self, planned: &RepositoryPlan) -> Result<Fresh, Trouble> {
        let listing = self.execution.store.tags(&planned.repository).await.map_err(|error| trouble(&error))?;
        let tags: BTreeSet<Tag> = listing.unwrap_or_default().into_iter().map(|seen| seen.tag).collect();
        if tags.is_empty() {
            return Err(Trouble::new("it had tags when it was looked at, and now lists none"));
        }
        let mut taken = BTreeSet::new();
        for tag in tags.difference(&planned.seen) {
            let read = tree::read(&*self.execution.store, &planned.repository, &Reference::Tag(tag.clone())).await;
            if let Some((tree, _)) = read.map_err(|error| trouble(&error))? {
                taken.extend(Tree::digests(&tree).cloned());
            }
        }
        Ok(Fresh { taken, tags })
    }

    async fn group(&self, planned: &RepositoryPlan, group: &Group, fresh: &Fresh, is_needed: bool) -> Done {
        let repository = &planned.repository;
        let item = format!("{repository}@{}", group.digest.short());
        let mut done = Done { report: GroupReport::new(group, Outcome::NotStarted), referrers: BTreeSet::new() };
        if self.execution.cancel.is_cancelled() {
            return done;
        }
        let progress = &self.execution.progress;
        progress.event(Event::Started { item: &item });
        let result = self.try_group(planned, group, fresh, is_needed, &mut done).await;
        done.report.outcome = match result {
            Ok(()) => {
                progress.event(Event::Finished { item: &item, outcome: ItemOutcome::Done { detail: "deleted" } });
                Outcome::Deleted
            }
            Err(trouble) => {
                progress.event(Event::Finished { item: &item, outcome: ItemOutcome::Failed { cause: &trouble.cause } });
                Outcome::Failed(trouble)
            }
        };
        done
    }

    async fn try_group(
        &self,
        planned: &RepositoryPlan,
        group: &Group,
        fresh: &Fresh,
        is_needed: bool,
        done: &mut Done,
    ) -> Result<(), Trouble> {
        let repository = &planned.repository;
        let store = &self.execution.store;
        let is_taken = is_needed || fresh.taken.contains(&group.digest);
        if group.how == How::Manifest && is_taken {
            return Err(Trouble::new("another tag leads to it since it was looked at").hint("run cleanup again"));
        }
        let mut there = Vec::new();
        for (tag, _) in group.tags.iter().filter(|(tag, _)| fresh.tags.contains(tag)) {
            let found = store.resolve(repository, &Reference::Tag(tag.clone())).await.map_err(|error| trouble(&error))?;
            match found {
                Some(found) if found.digest == group.digest => there.push(tag),
                Some(_) => {
                    let cause = format!("the tag {tag} moved since it was looked at; nothing of the image was deleted");
                    return Err(Trouble::new(cause).hint("run cleanup again"));
                }
                None => {}
            }
        }
        for tag in there.iter().copied() {
            if let Some(to) = group.archive.get(tag) {
                tokio::select! {
                    archived = self.archive(repository, group, tag, to, fresh) => archived?,
                    () = self.execution.cancel.cancelled() => return Err(Trouble::new("stopped while it was archived; nothing was deleted")),
                }
                done.report.archived.push((tag.clone(), to.clone()));
            }
        }
        let deletes_manifest = match group.how {
            How::Tags => false,
            How::Manifest => true,
            How::TagsThenManifest => !is_taken,
        };
        if deletes_manifest {
            done.referrers = self.referrers(repository, group).await.map_err(|error| trouble(&error))?;
        }
        if group.how != How::Manifest {
            for tag in there {
                let deletion = store.delete_tag(repository, tag).await.map_err(|error| trouble(&error))?;
                if deletion == Deletion::Unsupported {
                    return Err(Trouble::new(format!("the registry does not delete the tag {tag}")));
                }
                done.report.gone.insert(tag.clone());
            }
        }
        if deletes_manifest {
            let deletion = store.delete_manifest(repository, &group.digest).await.map_err(|error| trouble(&error))?;
            if deletion == Deletion::Unsupported && group.how == How::Manifest {
                return Err(Trouble::new("the registry does not delete manifests"));
            }
        } else {
            done.report.parts.clear();
        }
        Ok(())
    }

    /// Copies the image with its attachments, and makes sure that the archive has it.
    async fn archive(&self, repository: &Repository, group: &Group, tag: &Tag, to: &ImageReference, fresh: &Fresh) -> Result<(), Trouble> {
        let Some(archived) = &to.tag else {
            return Err(
                Trouble::new(format!("the tag {tag} is too long to be archived")).hint("exclude it by `exclude_tags`, or rename it")
            );
        };
        let attachment_tags: BTreeSet<Tag> = fresh.tags.iter().filter(|tag| tag.is_attachment()).cloned().collect();
        let request = CopyRequest {
            item: &format!("{repository}:{tag} -> {to}"),
            from: repository,
            reference: Reference::Digest(group.digest.clone()),
            to: &to.repository,
            tag: archived,
            filter: &PlatformFilter::All,
            attachments: Attachments::Copied { source_tags: &attachment_tags },
        };
        self.transfer.copy(request).await.map_err(|error| Trouble::at(error.side(), &error, error.hint()))?;
        let found =
            self.execution.store.resolve(&to.repository, &Reference::Tag(archived.clone())).await.map_err(|error| trouble(&error))?;
        match found {
            Some(found) if found.digest == group.digest => Ok(()),
            found => {
                let found = found.map_or_else(|| "nothing".to_owned(), |found| found.digest.to_string());
                Err(Trouble::new(format!("{to} names {found} instead of {}; nothing was deleted", group.digest)))
            }
        }
    }

    /// Returns what refers to the image and to what goes with it, as the place lists it by itself.
    async fn referrers(&self, repository: &Repository, group: &Group) -> Result<BTreeSet<Digest>, PlaceError> {
        let mut found = BTreeSet::new();
        let mut open: Vec<Digest> = group.parts.iter().chain([&group.digest]).cloned().collect();
        for _ in 0..DEEPEST_NESTING {
            let mut next = Vec::new();
            for subject in open {
                let listed = match self.execution.store.referrers(repository, &subject).await? {
                    Referrers::Listed(listed) | Referrers::Noticed(listed) => listed,
                    Referrers::NotListed => Vec::new(),
                };
                next.extend(listed.into_iter().map(|referrer| referrer.digest).filter(|digest| found.insert(digest.clone())));
            }
            open = next;
        }
        Ok(found)
    }
}
