//! Carrying out a plan. What changed since it was made is left alone; failures of images are part
//! of the report, and the rest goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::{StreamExt, stream};
use tokio_util::sync::CancellationToken;

use super::judge::{Kept, Protections, subject};
use super::observe::{RecordsSeen, trouble};
use super::plan::{Group, How, Plan, RepositoryPlan, pinned};
use super::report::{CleanupReport, GroupReport, Outcome, RepositoryReport};
use super::tree::{self, Tree};
use super::watch::Watch;
use crate::error::chain;
use crate::model::manifest::DEEPEST_NESTING;
use crate::model::{Digest, ImageReference, Reference, Repository, Tag};
use crate::progress::{Event, ItemOutcome, Progress};
use crate::registry::{Deletion, ImageStore, PlaceError, Referrers, Swept};
use crate::steps::{Mode, Trouble};
use crate::transfer::{Attachments, CopyRequest, Expected, PlatformFilter, Transfer};

/// Repositories that are worked on at once.
const REPOSITORIES: usize = 4;

/// Images of a repository that are worked on at once; each host has its own limit besides.
const IMAGES: usize = 8;

/// Images that are deleted before the repository is looked at again; more where more tags are left,
/// so that looking takes about two requests for each deleted image at most.
const BATCH: usize = 64;

/// How and with what a plan is carried out.
pub struct Execution<'a> {
    pub mode: Mode,
    pub store: Arc<dyn ImageStore>,
    pub records: &'a Watch<'a>,
    pub progress: Arc<dyn Progress>,
    /// When it is cancelled, no new work starts; what is in flight ends.
    pub cancel: CancellationToken,
}

/// Carries out `plan` and returns what became of each tag.
pub async fn execute(plan: &Plan, execution: &Execution<'_>) -> CleanupReport {
    let store = execution.store.clone();
    let run = Run {
        plan,
        execution,
        transfer: Transfer::new(store.clone(), store, execution.progress.clone()),
    };
    if execution.mode == Mode::Apply {
        let items = plan
            .repositories
            .iter()
            .map(|planned| planned.groups.len())
            .sum();
        execution.progress.event(Event::Planned { items });
    }
    let reports = stream::iter(&plan.repositories)
        .map(|planned| run.repository(planned))
        .buffered(REPOSITORIES);
    let repositories: Vec<RepositoryReport> = reports.collect().await;
    let mut report = CleanupReport::new(execution.mode, plan, repositories);
    report.interrupted = execution.cancel.is_cancelled();
    if report.interrupted {
        execution.store.settle().await;
    }
    report
}

struct Run<'a> {
    plan: &'a Plan,
    execution: &'a Execution<'a>,
    transfer: Transfer,
}

/// What was found at a repository just before something is deleted there.
#[derive(Default)]
struct Fresh {
    /// What tags lead to that the plan does not know, or knew to name something else.
    taken: BTreeSet<Digest>,
    /// What images lead to that records have come to name by digest.
    recorded: BTreeSet<Digest>,
    tags: BTreeSet<Tag>,
    /// `None` where nothing was looked at.
    records: Option<Arc<RecordsSeen>>,
}

impl Fresh {
    /// Returns why an image stays that was to go: a record has come to name it, or something within
    /// it.
    fn reason(&self, planned: &RepositoryPlan, group: &Group) -> Option<Kept> {
        let records = self.records.as_ref()?;
        let protections = Protections::of(records.records());
        let mut tags = group.tags.iter();
        tags.find_map(|(tag, _)| {
            protections.of_image(&planned.place, tag, || {
                group.below.iter().chain([&group.digest])
            })
        })
    }
}

/// Whether something that stays leads to an image.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    None,
    /// Others took it, or something that leads to it could not be deleted.
    Taken,
    /// What a record has come to name leads to it.
    Recorded,
}

/// What was archived of an image.
#[derive(Clone, Default)]
struct Archived {
    tags: Vec<(Tag, ImageReference)>,
    /// Why not all of it was, so that nothing of it is deleted.
    trouble: Option<Trouble>,
}

/// What became of an image.
struct Done {
    report: GroupReport,
    /// What referred to the image or its parts, each with what it refers to.
    referrers: BTreeMap<Digest, Digest>,
    /// Whether the image stays by names that are no tags of it.
    is_named: bool,
}

/// What the images so far leave to do, and to leave alone.
#[derive(Default)]
struct Course {
    /// What deleted images led to.
    parts: BTreeSet<Digest>,
    /// What referred to deleted images and their parts, each with what it refers to.
    referrers: BTreeMap<Digest, Digest>,
    /// What images lead to that stay since something failed, or since others took them.
    needed: BTreeSet<Digest>,
    /// That part of it which records have come to name.
    recorded: BTreeSet<Digest>,
    has_begun: bool,
}

impl Course {
    fn meets(&mut self, fresh: &Fresh) {
        self.needed
            .extend(fresh.taken.iter().chain(&fresh.recorded).cloned());
        self.recorded.extend(fresh.recorded.iter().cloned());
    }

    fn need(&self, digest: &Digest) -> Need {
        match self.needed.contains(digest) {
            _ if self.recorded.contains(digest) => Need::Recorded,
            true => Need::Taken,
            false => Need::None,
        }
    }

    /// Returns the parts that nothing needs, and what refers to nothing that stays, without what
    /// comes `later`.
    fn leftovers(&self, alive: &BTreeSet<Digest>, later: &BTreeSet<&Digest>) -> BTreeSet<Digest> {
        let mut stays: BTreeSet<&Digest> = self.needed.iter().chain(alive).collect();
        // What refers to what stays does so too, and what refers to that.
        while self
            .referrers
            .iter()
            .filter(|(referrer, subject)| stays.contains(subject) && stays.insert(referrer))
            .count()
            > 0
        {}
        let goes = |part: &&Digest| !stays.contains(part) && !later.contains(part);
        self.parts
            .iter()
            .chain(self.referrers.keys())
            .filter(goes)
            .cloned()
            .collect()
    }
}

/// What a listing has to show.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expects {
    Tags,
    /// All of them may have been deleted by now.
    Anything,
}

impl Run<'_> {
    async fn repository(&self, planned: &RepositoryPlan) -> RepositoryReport {
        let mut report = RepositoryReport::new(planned);
        if self.execution.mode != Mode::Apply {
            report.groups = planned
                .groups
                .iter()
                .map(|group| GroupReport::new(group, Outcome::Planned))
                .collect();
            return report;
        }
        if !planned.groups.is_empty() {
            self.delete(planned, &mut report).await;
        }
        let is_known =
            self.plan.guard.is_none() && planned.trouble.is_none() && !planned.seen.is_empty();
        if planned.is_layout && is_known && !self.execution.cancel.is_cancelled() {
            match self.sweep(planned).await {
                Ok(Swept::Freed { files, bytes }) => {
                    (report.freed_files, report.freed_bytes) = (files, bytes);
                }
                Ok(Swept::Postponed) => {
                    report.warnings.push("somebody is writing to it; what nothing refers to was left for the next run".to_owned());
                }
                Ok(Swept::ByItself) => {}
                Err(trouble) => report.trouble = Some(trouble),
            }
        }
        report
    }

    /// Removes what nothing refers to, neither in the repository nor by a record.
    async fn sweep(&self, planned: &RepositoryPlan) -> Result<Swept, Trouble> {
        let records = self.execution.records.fresh().await?;
        let keep = self
            .plan
            .pinned
            .iter()
            .cloned()
            .chain(pinned(records.records().iter()))
            .collect();
        self.execution
            .store
            .sweep(&planned.repository, &keep)
            .await
            .map_err(|error| trouble(&error))
    }

    async fn delete(&self, planned: &RepositoryPlan, report: &mut RepositoryReport) {
        let mut course = Course::default();
        let is_attached = |group: &&Group| group.tags.iter().any(|(tag, _)| tag.is_attachment());
        let (attachments, images): (Vec<&Group>, Vec<&Group>) =
            planned.groups.iter().partition(is_attached);
        // Attachments come after the images and their parts, as long as nobody knows whether these
        // go.
        let attached = attachments
            .iter()
            .flat_map(|group| group.parts.iter().chain([&group.digest]))
            .collect();
        for (mut groups, later) in [(images, attached), (attachments, BTreeSet::new())] {
            while !groups.is_empty() {
                groups = self.work_on(planned, groups, &mut course, report).await;
            }
            self.delete_parts(planned, &mut course, &later, report)
                .await;
        }
    }

    /// Returns the attachments of what was deleted. The others stay with what they are attached to.
    fn detached<'a>(
        &self,
        groups: Vec<&'a Group>,
        course: &mut Course,
        report: &mut RepositoryReport,
    ) -> Vec<&'a Group> {
        let mut left = groups;
        loop {
            let subjects: BTreeSet<Tag> = course.needed.iter().map(Tag::of_referrers).collect();
            let is_needed = |group: &&Group| {
                group
                    .tags
                    .iter()
                    .any(|(tag, _)| subject(tag).is_some_and(|subject| subjects.contains(&subject)))
            };
            let (stay, go): (Vec<&Group>, Vec<&Group>) = left.into_iter().partition(is_needed);
            left = go;
            if stay.is_empty() {
                return left;
            }
            for group in stay {
                // What is attached to an attachment stays with that.
                course
                    .needed
                    .extend(group.parts.iter().chain([&group.digest]).cloned());
                let outcome = if self.execution.cancel.is_cancelled() {
                    Outcome::NotStarted
                } else {
                    Outcome::Stays(Kept::AttachedToKept)
                };
                report.groups.push(GroupReport::new(group, outcome));
            }
        }
    }

    /// Deletes some images, after looking whether anybody took them or built on them since they
    /// were looked at, and returns those that are left to do.
    async fn work_on<'a>(
        &self,
        planned: &RepositoryPlan,
        groups: Vec<&'a Group>,
        course: &mut Course,
        report: &mut RepositoryReport,
    ) -> Vec<&'a Group> {
        let expects = if course.has_begun {
            Expects::Anything
        } else {
            Expects::Tags
        };
        let deletes_manifests = groups.iter().any(|group| group.how != How::Tags);
        let fresh = self.look_again(planned, deletes_manifests, expects).await;
        if let Ok(fresh) = &fresh {
            course.meets(fresh);
        }
        let groups = self.detached(groups, course, report);
        // What others lead to comes after these: when one of these stays, it stays too.
        let below: BTreeSet<&Digest> = groups.iter().flat_map(|group| &group.parts).collect();
        let (later, now): (Vec<&Group>, Vec<&Group>) = groups
            .into_iter()
            .partition(|group| below.contains(&group.digest));
        // Nothing leads to itself, so that there is always something that can go.
        let (mut now, mut left) = if now.is_empty() {
            (later, now)
        } else {
            (now, later)
        };
        let still_there = planned.kept.len() + planned.groups.len() - report.groups.len();
        left.extend(now.split_off(BATCH.max(still_there / 2).min(now.len())));
        let (fresh, archived) = self.archived(planned, &now, fresh, expects).await;
        if let Ok(fresh) = &fresh {
            course.meets(fresh);
        }
        let work = now.iter().zip(archived).map(|(group, archived)| {
            let need = course.need(&group.digest);
            self.group(
                planned,
                group,
                archived,
                fresh.as_ref().map_err(Trouble::clone),
                need,
            )
        });
        let done: Vec<Done> = stream::iter(work.collect::<Vec<_>>())
            .buffered(IMAGES)
            .collect()
            .await;
        for (group, done) in now.iter().zip(done) {
            let tree = group.below.iter().chain([&group.digest]);
            match done.report.outcome {
                Outcome::Deleted if !done.is_named => {
                    course.parts.extend(done.report.parts.iter().cloned());
                    course.referrers.extend(done.referrers);
                }
                Outcome::Stays(_) => {
                    course.recorded.extend(tree.clone().cloned());
                    course.needed.extend(tree.cloned());
                }
                _ => course.needed.extend(tree.cloned()),
            }
            report.groups.push(done.report);
        }
        course.has_begun = true;
        left
    }

    /// Archives those of the images that are to be, and returns what is found at the repository
    /// afterwards: copying takes its time.
    async fn archived(
        &self,
        planned: &RepositoryPlan,
        groups: &[&Group],
        fresh: Result<Fresh, Trouble>,
        expects: Expects,
    ) -> (Result<Fresh, Trouble>, Vec<Archived>) {
        let seen = match fresh {
            Ok(seen) if groups.iter().any(|group| !group.archive.is_empty()) => seen,
            fresh => return (fresh, vec![Archived::default(); groups.len()]),
        };
        let work: Vec<_> = groups
            .iter()
            .map(|group| self.archive_group(planned, group, &seen))
            .collect();
        let archived = stream::iter(work).buffered(IMAGES).collect().await;
        let deletes_manifests = groups.iter().any(|group| group.how != How::Tags);
        (
            self.look_again(planned, deletes_manifests, expects).await,
            archived,
        )
    }

    /// Deletes what the images so far leave behind and nothing needs, except what comes `later`.
    /// What stays of it is needed.
    async fn delete_parts(
        &self,
        planned: &RepositoryPlan,
        course: &mut Course,
        later: &BTreeSet<&Digest>,
        report: &mut RepositoryReport,
    ) {
        let leftovers = course.leftovers(&planned.alive, later);
        if leftovers.is_empty() {
            return;
        }
        if self.execution.cancel.is_cancelled() {
            course.needed.extend(leftovers);
            return;
        }
        let fresh = match self.look_again(planned, true, Expects::Anything).await {
            Ok(fresh) => fresh,
            Err(trouble) => {
                report.warnings.push(format!(
                    "{} manifests were left behind without a tag: {}",
                    leftovers.len(),
                    trouble.cause
                ));
                course.needed.extend(leftovers);
                return;
            }
        };
        course.meets(&fresh);
        let leftovers = course.leftovers(&planned.alive, later);
        let deletions: Vec<_> = leftovers
            .iter()
            .map(|part| async move { (part, self.delete_part(&planned.repository, part).await) })
            .collect();
        for (part, result) in stream::iter(deletions)
            .buffered(IMAGES)
            .collect::<Vec<_>>()
            .await
        {
            match result {
                Ok(Some(Deletion::Done)) => report.parts += 1,
                Ok(Some(_)) => {}
                Ok(None) => drop(course.needed.insert(part.clone())),
                // It is no part of anything any more, so it is only a matter of space.
                Err(error) => {
                    report.warnings.push(format!(
                        "{} was left behind without a tag: {}",
                        part.short(),
                        chain(&error)
                    ));
                    course.needed.insert(part.clone());
                }
            }
        }
        course.parts.retain(|part| !leftovers.contains(part));
        course
            .referrers
            .retain(|referrer, _| !leftovers.contains(referrer));
    }

    async fn delete_part(
        &self,
        repository: &Repository,
        part: &Digest,
    ) -> Result<Option<Deletion>, PlaceError> {
        if self.execution.cancel.is_cancelled() {
            return Ok(None);
        }
        self.execution
            .store
            .delete_manifest(repository, part)
            .await
            .map(Some)
    }

    /// Lists the repository again, since others may have pushed to it since it was looked at.
    /// Before manifests are deleted, with which their tags go, it is also looked whether the tags
    /// that are still there name what they named: those that stay, and those that are to go with
    /// another image. Last of all, the records are read.
    async fn look_again(
        &self,
        planned: &RepositoryPlan,
        deletes_manifests: bool,
        expects: Expects,
    ) -> Result<Fresh, Trouble> {
        let (store, repository) = (&self.execution.store, &planned.repository);
        let listing = store
            .tags(repository)
            .await
            .map_err(|error| trouble(&error))?;
        let tags: BTreeSet<Tag> = listing
            .unwrap_or_default()
            .into_iter()
            .map(|seen| seen.tag)
            .collect();
        if tags.is_empty() && (expects == Expects::Tags || !planned.kept.is_empty()) {
            return Err(Trouble::new(
                "it had tags when it was looked at, and now lists none",
            ));
        }
        let mut moved: Vec<&Tag> = tags.difference(&planned.seen).collect();
        let kept = planned
            .kept
            .iter()
            .map(|(tag, digest, _)| (tag, digest.as_ref()));
        let condemned = planned
            .groups
            .iter()
            .flat_map(|group| group.tags.iter().map(|(tag, _)| (tag, Some(&group.digest))));
        let known = kept
            .chain(condemned)
            .filter(|(tag, _)| deletes_manifests && tags.contains(*tag));
        let looks = known.map(|(tag, digest)| async move {
            let found = store
                .resolve(repository, &Reference::Tag(tag.clone()))
                .await
                .map_err(|error| trouble(&error))?;
            Ok((
                tag,
                found.is_some_and(|found| Some(&found.digest) != digest),
            ))
        });
        let looks: Vec<Result<(&Tag, bool), Trouble>> = stream::iter(looks.collect::<Vec<_>>())
            .buffer_unordered(IMAGES)
            .collect()
            .await;
        for look in looks {
            let (tag, has_moved) = look?;
            moved.extend(has_moved.then_some(tag));
        }
        let mut taken = BTreeSet::new();
        for tag in moved {
            let read = tree::read(&**store, repository, &Reference::Tag(tag.clone())).await;
            if let Some((tree, _)) = read.map_err(|error| trouble(&error))? {
                taken.extend(Tree::digests(&tree).cloned());
            }
        }
        let records = self.execution.records.fresh().await?;
        let mut recorded = BTreeSet::new();
        let protections = Protections::of(records.records());
        let is_new = |digest: &&&Digest| !self.plan.pinned.contains(**digest);
        for digest in protections
            .digests_in
            .get(&planned.place)
            .into_iter()
            .flatten()
            .filter(is_new)
        {
            let read =
                tree::read(&**store, repository, &Reference::Digest((*digest).clone())).await;
            if let Some((tree, _)) = read.map_err(|error| trouble(&error))? {
                recorded.extend(Tree::digests(&tree).cloned());
            }
        }
        recorded.extend(
            pinned(records.records().iter())
                .difference(&self.plan.pinned)
                .cloned(),
        );
        Ok(Fresh {
            taken,
            recorded,
            tags,
            records: Some(records),
        })
    }

    async fn group(
        &self,
        planned: &RepositoryPlan,
        group: &Group,
        archived: Archived,
        fresh: Result<&Fresh, Trouble>,
        need: Need,
    ) -> Done {
        let item = format!("{}@{}", planned.repository, group.digest.short());
        let mut done = Done {
            report: GroupReport::new(group, Outcome::NotStarted),
            referrers: BTreeMap::new(),
            is_named: false,
        };
        done.report.archived = archived.tags;
        if self.execution.cancel.is_cancelled() && archived.trouble.is_none() {
            return done;
        }
        let progress = &self.execution.progress;
        progress.event(Event::Started { item: &item });
        let result = match (archived.trouble, fresh) {
            (Some(trouble), _) | (None, Err(trouble)) => Err(trouble),
            (None, Ok(fresh)) => self.try_group(planned, group, fresh, need, &mut done).await,
        };
        done.report.outcome = match result {
            Ok(None) => {
                progress.event(Event::Finished {
                    item: &item,
                    outcome: ItemOutcome::Done { detail: "deleted" },
                });
                Outcome::Deleted
            }
            Ok(Some(kept)) => {
                progress.event(Event::Finished {
                    item: &item,
                    outcome: ItemOutcome::Done { detail: "kept" },
                });
                Outcome::Stays(kept)
            }
            Err(trouble) => {
                progress.event(Event::Finished {
                    item: &item,
                    outcome: ItemOutcome::Failed {
                        cause: &trouble.cause,
                    },
                });
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
        need: Need,
        done: &mut Done,
    ) -> Result<Option<Kept>, Trouble> {
        let repository = &planned.repository;
        let store = &self.execution.store;
        if let Some(kept) = fresh.reason(planned, group) {
            return Ok(Some(kept));
        }
        match need {
            Need::Recorded if group.how == How::Manifest => return Ok(Some(Kept::PartOfKept)),
            Need::Taken if group.how == How::Manifest => {
                return Err(
                    Trouble::new("another tag leads to it since it was looked at")
                        .hint("run cleanup again"),
                );
            }
            Need::None | Need::Taken | Need::Recorded => {}
        }
        let there = self.still_there(planned, group, fresh).await?;
        let is_archived = |tag: &Tag| {
            !group.archive.contains_key(tag)
                || done
                    .report
                    .archived
                    .iter()
                    .any(|(archived, _)| archived == tag)
        };
        if let Some(tag) = there.iter().find(|tag| !is_archived(tag)) {
            return Err(Trouble::new(format!(
                "the tag {tag} was not there to be archived; nothing of the image was deleted"
            )));
        }
        let deletes_manifest = match group.how {
            How::Tags => false,
            How::Manifest => true,
            How::TagsThenManifest => need == Need::None,
        };
        if deletes_manifest {
            done.referrers = self
                .referrers(repository, group)
                .await
                .map_err(|error| trouble(&error))?;
        }
        if group.how != How::Manifest {
            for tag in there {
                let deletion = store
                    .delete_tag(repository, tag)
                    .await
                    .map_err(|error| trouble(&error))?;
                if deletion == Deletion::Unsupported {
                    return Err(Trouble::new(format!(
                        "the registry does not delete the tag {tag}"
                    )));
                }
                done.report.gone.insert(tag.clone());
            }
        }
        if deletes_manifest {
            let deletion = store
                .delete_manifest(repository, &group.digest)
                .await
                .map_err(|error| trouble(&error))?;
            if deletion == Deletion::Unsupported && group.how == How::Manifest {
                return Err(Trouble::new("the registry does not delete manifests"));
            }
            done.is_named = deletion == Deletion::StillNamed;
        } else {
            done.report.parts.clear();
        }
        Ok(None)
    }

    /// Returns those tags of an image that are still there. Fails when one of them names another
    /// image by now.
    async fn still_there<'a>(
        &self,
        planned: &RepositoryPlan,
        group: &'a Group,
        fresh: &Fresh,
    ) -> Result<Vec<&'a Tag>, Trouble> {
        let mut there = Vec::new();
        for (tag, _) in group
            .tags
            .iter()
            .filter(|(tag, _)| fresh.tags.contains(tag))
        {
            let found = self
                .execution
                .store
                .resolve(&planned.repository, &Reference::Tag(tag.clone()))
                .await;
            match found.map_err(|error| trouble(&error))? {
                Some(found) if found.digest == group.digest => there.push(tag),
                Some(_) => {
                    let cause = format!(
                        "the tag {tag} moved since it was looked at; nothing of the image was deleted"
                    );
                    return Err(Trouble::new(cause).hint("run cleanup again"));
                }
                None => {}
            }
        }
        Ok(there)
    }

    /// Archives the tags of an image.
    async fn archive_group(
        &self,
        planned: &RepositoryPlan,
        group: &Group,
        fresh: &Fresh,
    ) -> Archived {
        let mut archived = Archived::default();
        if group.archive.is_empty() || self.execution.cancel.is_cancelled() {
            return archived;
        }
        let work = async {
            for tag in self.still_there(planned, group, fresh).await? {
                if let Some(to) = group.archive.get(tag) {
                    self.archive(&planned.repository, group, tag, to, fresh)
                        .await?;
                    archived.tags.push((tag.clone(), to.clone()));
                }
            }
            Ok(())
        };
        let result = tokio::select! {
            result = work => result,
            () = self.execution.cancel.cancelled() => Err(Trouble::new("stopped while it was archived; nothing was deleted")),
        };
        Archived {
            trouble: result.err(),
            ..archived
        }
    }

    /// Copies the image with its attachments, and makes sure that the archive has it.
    async fn archive(
        &self,
        repository: &Repository,
        group: &Group,
        tag: &Tag,
        to: &ImageReference,
        fresh: &Fresh,
    ) -> Result<(), Trouble> {
        let Some(archived) = &to.tag else {
            return Err(
                Trouble::new(format!("the tag {tag} is too long to be archived"))
                    .hint("exclude it by `exclude_tags`, or rename it"),
            );
        };
        let there = self.archived_as(to, archived).await?;
        if let Some(other) = there.as_ref().filter(|digest| **digest != group.digest) {
            let cause = format!("{to} names another image already, {other}; nothing was deleted");
            return Err(Trouble::new(cause)
                .hint("run cleanup again on another day, or give the image there another tag"));
        }
        let attachment_tags: BTreeSet<Tag> = fresh
            .tags
            .iter()
            .filter(|tag| tag.is_attachment())
            .cloned()
            .collect();
        let request = CopyRequest {
            item: &format!("{repository}:{tag} -> {to}"),
            from: repository,
            reference: Reference::Digest(group.digest.clone()),
            to: &to.repository,
            tag: archived,
            expected: there.as_ref().map_or(Expected::Nothing, Expected::Image),
            filter: &PlatformFilter::All,
            attachments: Attachments::Copied {
                source_tags: &attachment_tags,
            },
        };
        self.transfer.copy(request).await.map_err(|error| {
            Trouble::at(error.side(), &error, error.hint()).shared(error.of_place())
        })?;
        match self.archived_as(to, archived).await? {
            Some(found) if found == group.digest => Ok(()),
            found => {
                let found = found.map_or_else(|| "nothing".to_owned(), |found| found.to_string());
                Err(Trouble::new(format!(
                    "{to} names {found} instead of {}; nothing was deleted",
                    group.digest
                )))
            }
        }
    }

    /// Returns the digest that a tag of an archive names.
    async fn archived_as(&self, to: &ImageReference, tag: &Tag) -> Result<Option<Digest>, Trouble> {
        let found = self
            .execution
            .store
            .resolve(&to.repository, &Reference::Tag(tag.clone()))
            .await;
        Ok(found
            .map_err(|error| trouble(&error))?
            .map(|found| found.digest))
    }

    /// Returns what refers to the image and to what goes with it, as the place lists it by itself,
    /// each with what it refers to.
    async fn referrers(
        &self,
        repository: &Repository,
        group: &Group,
    ) -> Result<BTreeMap<Digest, Digest>, PlaceError> {
        let mut found = BTreeMap::new();
        let mut open: Vec<Digest> = group.parts.iter().chain([&group.digest]).cloned().collect();
        for _ in 0..DEEPEST_NESTING {
            let mut next = Vec::new();
            for subject in open {
                let listed = match self.execution.store.referrers(repository, &subject).await? {
                    Referrers::Listed(listed) | Referrers::Noticed(listed) => listed,
                    Referrers::NotListed => Vec::new(),
                };
                let referrers = listed.into_iter().map(|referrer| referrer.digest);
                next.extend(
                    referrers
                        .filter(|digest| found.insert(digest.clone(), subject.clone()).is_none()),
                );
            }
            open = next;
        }
        Ok(found)
    }
}
