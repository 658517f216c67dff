//! Having engines build what the plan names, bases first, and moving aliases.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use chrono::NaiveDate;
use futures_util::{StreamExt, stream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::labels::{Making, Occasion};
use super::plan::{Action, BaseDigest, Engine as Chosen, Item, Plan};
use super::render::{Filling, Template, dockerfile};
use super::report::{BuildReport, ImageReport, Outcome};
use super::size;
use crate::config::{BuildConfig, BuildImage, EngineChoice};
use crate::engines::{Attestations, BuildRequest, Engine, EngineError, EngineName, Provenance};
use crate::error::ItemError;
use crate::hooks::{HookRunner, HookValues};
use crate::model::hook::Placeholder;
use crate::model::{Digest, ImageReference, Reference, Tag};
use crate::progress::{Event, ItemOutcome, Progress};
use crate::registry::ImageStores;
use crate::steps::Mode;
use crate::steps::hooks::{HookReport, run_hook};

/// How and with what a plan is carried out.
pub struct Execution {
    pub mode: Mode,
    pub stores: ImageStores,
    pub engines: Vec<Arc<dyn Engine>>,
    pub progress: Arc<dyn Progress>,
    pub hooks: HookRunner,
    /// When it is cancelled, no new work starts and what is in flight is dropped.
    pub cancel: CancellationToken,
    pub occasion: Occasion,
    /// When the images end, by their positions, where that is known.
    pub ends: HashMap<usize, NaiveDate>,
}

/// What a build of this run came to, for those that are built on it: `None` until it is over.
type Result_ = Option<Result<Digest, String>>;

/// Carries out `plan` and returns what became of each image, in the order of the plan.
pub async fn execute(build: &BuildConfig, plan: &Plan, execution: &Execution) -> BuildReport {
    let results = plan
        .items
        .iter()
        .map(|item| (item.position, watch::channel(None).0))
        .collect();
    let run = Run {
        build,
        is_wrong: plan.is_wrong,
        execution,
        results,
        program: tokio::sync::OnceCell::new(),
    };
    let builds = plan
        .items
        .iter()
        .filter(|item| matches!(item.action, Action::Build { .. }))
        .count();
    if execution.mode == Mode::Apply && !plan.is_wrong {
        execution.progress.event(Event::Planned { items: builds });
    }
    let work = plan.items.iter().enumerate().map(|(order, item)| {
        let run = &run;
        async move { (order, run.item(item).await) }
    });
    // Bases come first and start first, so nothing waits for what has not been started.
    let mut done: Vec<(usize, ImageReport)> = stream::iter(work)
        .buffer_unordered(build.parallelism)
        .collect()
        .await;
    done.sort_by_key(|(order, _)| *order);
    let mut report = BuildReport::new(
        execution.mode,
        plan.is_wrong,
        done.into_iter().map(|(_, image)| image).collect(),
    );
    report.interrupted = execution.cancel.is_cancelled();
    if report.interrupted {
        execution.stores.settle().await;
    }
    report
}

struct Run<'a> {
    build: &'a BuildConfig,
    is_wrong: bool,
    execution: &'a Execution,
    results: HashMap<usize, watch::Sender<Result_>>,
    /// The program that builds where none is named, once it is known.
    program: tokio::sync::OnceCell<Result<EngineName, ItemError>>,
}

impl Run<'_> {
    async fn item(&self, item: &Item) -> ImageReport {
        let image = &self.build.images[item.position];
        let began = Instant::now();
        let mut report = ImageReport::new(image, item);
        report.outcome = self.outcome(item, image, &mut report).await;
        report.duration = began.elapsed();
        let result = match (&report.outcome, &report.digest) {
            (Outcome::Failed(error), _) => Err(error.to_string()),
            (_, Some(digest)) => Ok(digest.clone()),
            _ => Err("it was not built".to_owned()),
        };
        if let Some(sender) = self.results.get(&item.position) {
            sender.send_replace(Some(result));
        }
        report
    }

    async fn outcome(&self, item: &Item, image: &BuildImage, report: &mut ImageReport) -> Outcome {
        let Some(identity) = &item.identity else {
            return failed(&item.action);
        };
        let (digest, outcome) = match &item.action {
            Action::Fail(error) => return Outcome::Failed(error.clone()),
            _ if self.is_wrong => return Outcome::NotStarted,
            Action::UpToDate { digest } => (digest.clone(), Outcome::UpToDate),
            Action::BaseMoved { digest } => (digest.clone(), Outcome::BaseMoved),
            Action::Build { engine, base, .. } => {
                let engine = match self.engine(engine).await {
                    Ok(engine) => engine,
                    Err(error) => return Outcome::Failed(error),
                };
                report.engine = Some(engine.name().to_string());
                if self.execution.mode != Mode::Apply {
                    report.dockerfile = self.preview(item, image, base);
                    return Outcome::Planned;
                }
                let name = format!("{}:{}", image.repository, identity.tag);
                let progress = &self.execution.progress;
                progress.event(Event::Started { item: &name });
                let built = tokio::select! {
                    built = self.build(item, image, &*engine, base, report) => Some(built),
                    () = self.execution.cancel.cancelled() => None,
                };
                let (detail, outcome) = match &built {
                    Some(Ok(digest)) => (digest.short().to_owned(), None),
                    Some(Err(error)) => (error.to_string(), Some(Outcome::Failed(error.clone()))),
                    None => ("interrupted".to_owned(), Some(Outcome::Interrupted)),
                };
                let ended = if outcome.is_none() {
                    ItemOutcome::Done { detail: &detail }
                } else {
                    ItemOutcome::Failed { cause: &detail }
                };
                progress.event(Event::Finished {
                    item: &name,
                    outcome: ended,
                });
                match (built, outcome) {
                    (Some(Ok(digest)), None) => (digest, Outcome::Built),
                    (_, outcome) => return outcome.unwrap_or(Outcome::Interrupted),
                }
            }
        };
        report.digest = Some(digest.clone());
        if self.execution.mode == Mode::Apply {
            if let Err(error) = self.move_aliases(item, image, &digest).await {
                return Outcome::Failed(error);
            }
            if outcome == Outcome::Built {
                let store = self.execution.stores.of(&image.repository);
                report.size = size::of_image(store, &image.repository, &digest).await;
                report.hooks = self.hooks(image, &identity.tag, &digest).await;
            }
        }
        outcome
    }

    /// Returns the engine that the plan means.
    async fn engine(&self, chosen: &Chosen) -> Result<Arc<dyn Engine>, ItemError> {
        let name = match chosen {
            Chosen::Named(name) => *name,
            Chosen::AnyProgram => self
                .program
                .get_or_init(|| self.find_program())
                .await
                .clone()?,
        };
        let engine = self
            .execution
            .engines
            .iter()
            .find(|engine| engine.name() == name);
        let engine = engine.ok_or_else(|| {
            ItemError::other(format!("this build of imglife has no engine `{name}`"))
        })?;
        if matches!(chosen, Chosen::Named(_)) {
            engine
                .available()
                .await
                .map_err(|error| item_error(&error))?;
        }
        Ok(Arc::clone(engine))
    }

    /// Returns the first program that can be used here.
    async fn find_program(&self) -> Result<EngineName, ItemError> {
        let mut reasons = Vec::new();
        for name in EngineName::PROGRAMS {
            let Some(engine) = self
                .execution
                .engines
                .iter()
                .find(|engine| engine.name() == name)
            else {
                continue;
            };
            match engine.available().await {
                Ok(_) => {
                    if !reasons.is_empty() {
                        tracing::info!(
                            "the engine is {name}, since those before it cannot be used: {}",
                            reasons.join("; ")
                        );
                    }
                    return Ok(name);
                }
                Err(error) => reasons.push(format!("{name}: {}", error.problem)),
            }
        }
        Err(ItemError::other(format!("no engine that executes can be used here ({})", reasons.join("; ")))
            .with_hint("install buildah, podman, or docker with buildx; a template without RUN is built by the engine `native`"))
    }

    /// Returns the Dockerfile as it would be built, as far as the base is known.
    fn preview(&self, item: &Item, image: &BuildImage, base: &BaseDigest) -> Option<String> {
        let (identity, draft) = (item.identity.as_ref()?, item.draft.as_ref()?);
        let template = Template {
            name: &draft.template_name,
            text: &draft.template,
        };
        let occasion = &self.execution.occasion;
        let eol = self.execution.ends.get(&item.position).copied();
        let base_digest = match base {
            BaseDigest::Known(digest) => Some(digest),
            BaseDigest::Of(_) => None,
        };
        let filling = Filling::Whole {
            base_digest,
            eol,
            occasion,
        };
        dockerfile(self.build, image, identity, &template, filling).ok()
    }

    /// Builds and pushes an image, and returns its digest.
    async fn build(
        &self,
        item: &Item,
        image: &BuildImage,
        engine: &dyn Engine,
        base: &BaseDigest,
        report: &mut ImageReport,
    ) -> Result<Digest, ItemError> {
        let (Some(identity), Some(draft)) = (&item.identity, &item.draft) else {
            return Err(ItemError::other("it is not known what to build"));
        };
        let base_digest = match base {
            BaseDigest::Known(digest) => digest.clone(),
            BaseDigest::Of(position) => self.result_of(*position).await.map_err(|cause| {
                ItemError::other(format!(
                    "it is built on {}, which failed: {cause}",
                    identity.base_reference()
                ))
            })?,
        };
        if let Some(digest) = self.published_meanwhile(item, image, &identity.tag).await? {
            report
                .warnings
                .push("another run built it meanwhile".to_owned());
            return Ok(digest);
        }
        let eol = self.execution.ends.get(&item.position).copied();
        let occasion = &self.execution.occasion;
        let template = Template {
            name: &draft.template_name,
            text: &draft.template,
        };
        let filling = Filling::Whole {
            base_digest: Some(&base_digest),
            eol,
            occasion,
        };
        let text =
            dockerfile(self.build, image, identity, &template, filling).map_err(|error| {
                ItemError::other(error.to_string()).with_optional_hint(error.hint.clone())
            })?;
        let labels = Making {
            image,
            identity,
            base_digest: Some(&base_digest),
            inputs: &draft.inputs,
            eol,
            occasion,
        }
        .labels();
        let request = BuildRequest {
            repository: image.repository.clone(),
            tag: identity.tag.clone(),
            dockerfile: text,
            dockerfile_name: draft.template_name.clone(),
            context: image.folder.clone(),
            base: ImageReference {
                digest: Some(base_digest),
                ..identity.base_reference()
            },
            platforms: image.platforms.clone(),
            arguments: image.args.clone(),
            annotations: labels.clone(),
            labels,
            attestations: attestations(image),
            created: occasion.created,
        };
        let mut built = engine.build(&request).await;
        if built.as_ref().is_err_and(|error| error.requires_execution)
            && self.build.engine == EngineChoice::Auto
        {
            // Seen in the base only: a program builds it where the choice is free.
            let program = self.engine(&Chosen::AnyProgram).await?;
            report.engine = Some(program.name().to_string());
            built = program.build(&request).await;
        }
        let built = built.map_err(|error| {
            report.log.clone_from(&error.log);
            item_error(&error)
        })?;
        report.warnings.extend(built.warnings);
        Ok(built.digest)
    }

    /// Waits for the build of what another image is built on.
    async fn result_of(&self, position: usize) -> Result<Digest, String> {
        let Some(sender) = self.results.get(&position) else {
            return Err("it is not part of this run".to_owned());
        };
        let mut results = sender.subscribe();
        match results.wait_for(Option::is_some).await {
            Ok(result) => result
                .clone()
                .unwrap_or_else(|| Err("it was not built".to_owned())),
            Err(_) => Err("it was not built".to_owned()),
        }
    }

    /// Returns the digest of the image when another run published it since it was looked at. Fails
    /// when the tag is somebody else's.
    async fn published_meanwhile(
        &self,
        item: &Item,
        image: &BuildImage,
        tag: &Tag,
    ) -> Result<Option<Digest>, ItemError> {
        let Action::Build { replaces, .. } = &item.action else {
            return Ok(None);
        };
        let found =
            super::observe::published(&self.execution.stores, &image.repository, tag).await?;
        match (found, replaces) {
            (None, None) => Ok(None),
            (Some(found), Some(replaces)) if found.digest == *replaces => Ok(None),
            (Some(found), _)
                if found.inputs.as_deref()
                    == item.draft.as_ref().map(|draft| draft.inputs.as_str()) =>
            {
                Ok(Some(found.digest))
            }
            (found, _) => {
                let now = found.map_or_else(
                    || "is gone".to_owned(),
                    |found| format!("is {} now", found.digest),
                );
                Err(ItemError::other(format!(
                    "{}:{tag} changed since it was looked at: it {now}",
                    image.repository
                ))
                .with_hint("run build again"))
            }
        }
    }

    async fn move_aliases(
        &self,
        item: &Item,
        image: &BuildImage,
        digest: &Digest,
    ) -> Result<(), ItemError> {
        if item.aliases.is_empty() {
            return Ok(());
        }
        let store = self.execution.stores.writable(&image.repository);
        let store = store?;
        let manifest = store
            .manifest(&image.repository, &Reference::Digest(digest.clone()))
            .await?;
        let manifest = manifest
            .ok_or_else(|| ItemError::other(format!("{}@{digest} is gone", image.repository)))?;
        for alias in &item.aliases {
            store
                .put_manifest(&image.repository, &Reference::Tag(alias.clone()), &manifest)
                .await?;
        }
        Ok(())
    }

    async fn hooks(&self, image: &BuildImage, tag: &Tag, digest: &Digest) -> Vec<HookReport> {
        let values = HookValues::default()
            .with(Placeholder::Image, &format!("{}:{tag}", image.repository))
            .with(Placeholder::Target, &image.repository)
            .with(Placeholder::Source, &image.mirror_image)
            .with(Placeholder::Tag, tag)
            .with(Placeholder::Digest, digest);
        let mut reports = Vec::new();
        for hook in &image.post_image_build {
            if !run_hook(
                &self.execution.hooks,
                hook,
                &values,
                &self.execution.cancel,
                &mut reports,
            )
            .await
            {
                break;
            }
        }
        reports
    }
}

fn failed(action: &Action) -> Outcome {
    match action {
        Action::Fail(error) => Outcome::Failed(error.clone()),
        _ => Outcome::NotStarted,
    }
}

fn attestations(image: &BuildImage) -> Attestations {
    let provenance = match image.provenance {
        crate::config::ProvenanceMode::Off => Provenance::Off,
        crate::config::ProvenanceMode::Min => Provenance::Min,
        crate::config::ProvenanceMode::Max => Provenance::Max,
    };
    Attestations {
        sbom: image.sbom,
        provenance,
    }
}

fn item_error(error: &EngineError) -> ItemError {
    ItemError::of(error, error.hint.clone())
}
