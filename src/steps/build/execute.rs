//! Builds the planned images, bases first, and moves aliases.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use chrono::NaiveDate;
use futures_util::{StreamExt, stream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::labels::{ImageLabels, RunMetadata};
use super::plan::{BaseDigest, BuildAction, BuildItem, Plan, PlannedEngine};
use super::render::{RunValues, Template, dockerfile};
use super::report::{BuildReport, ImageOutcome, ImageReport};
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

/// Everything that [`execute`] needs besides the plan.
pub struct BuildExecution {
    pub mode: Mode,
    pub stores: ImageStores,
    pub engines: Vec<Arc<dyn Engine>>,
    pub progress: Arc<dyn Progress>,
    pub hooks: HookRunner,
    /// If it is cancelled, no new build starts and running builds are aborted.
    pub cancel: CancellationToken,
    pub run_metadata: RunMetadata,
    /// Known end-of-life dates of the images, by position.
    pub eol_dates: HashMap<usize, NaiveDate>,
}

/// Result of an image in this run, for the images built on it; `None` until it is finished.
type BaseResult = Option<Result<Digest, String>>;

/// Executes `plan` and reports the outcome of each image, in the order of the plan.
pub async fn execute(build: &BuildConfig, plan: &Plan, execution: &BuildExecution) -> BuildReport {
    let results = plan
        .items
        .iter()
        .map(|item| (item.position, watch::channel(None).0))
        .collect();
    let run = BuildRun {
        build,
        has_invalid_input: plan.has_invalid_input,
        execution,
        results,
        program: tokio::sync::OnceCell::new(),
    };
    let builds = plan
        .items
        .iter()
        .filter(|item| matches!(item.action, BuildAction::Build { .. }))
        .count();
    if execution.mode == Mode::Apply && !plan.has_invalid_input {
        execution.progress.event(Event::Planned { items: builds });
    }
    let work = plan.items.iter().enumerate().map(|(order, item)| {
        let run = &run;
        async move { (order, run.execute_item(item).await) }
    });
    // Bases are earlier in the plan and start first, so a build never waits for one that has not
    // started.
    let mut done: Vec<(usize, ImageReport)> = stream::iter(work)
        .buffer_unordered(build.parallelism)
        .collect()
        .await;
    done.sort_by_key(|(order, _)| *order);
    let mut report = BuildReport::new(
        execution.mode,
        plan.has_invalid_input,
        done.into_iter().map(|(_, image)| image).collect(),
    );
    report.interrupted = execution.cancel.is_cancelled();
    if report.interrupted {
        execution.stores.settle().await;
    }
    report
}

/// State of a running build step.
struct BuildRun<'a> {
    build: &'a BuildConfig,
    has_invalid_input: bool,
    execution: &'a BuildExecution,
    results: HashMap<usize, watch::Sender<BaseResult>>,
    /// Program for [`PlannedEngine::AnyProgram`], determined on first use.
    program: tokio::sync::OnceCell<Result<EngineName, ItemError>>,
}

impl BuildRun<'_> {
    /// Executes the action of one image and publishes its result for the images built on it.
    async fn execute_item(&self, item: &BuildItem) -> ImageReport {
        let image = &self.build.images[item.position];
        let began = Instant::now();
        let mut report = ImageReport::new(image, item);
        report.outcome = self.outcome(item, image, &mut report).await;
        report.duration = began.elapsed();
        let result = match (&report.outcome, &report.digest) {
            (ImageOutcome::Failed(error), _) => Err(error.to_string()),
            (_, Some(digest)) => Ok(digest.clone()),
            _ => Err("it was not built".to_owned()),
        };
        if let Some(sender) = self.results.get(&item.position) {
            sender.send_replace(Some(result));
        }
        report
    }

    /// Executes the action of one image and adds digest, engine, size and hooks to `report`.
    async fn outcome(
        &self,
        item: &BuildItem,
        image: &BuildImage,
        report: &mut ImageReport,
    ) -> ImageOutcome {
        let Some(identity) = &item.identity else {
            return unidentified(&item.action);
        };
        let (digest, outcome) = match &item.action {
            BuildAction::Fail(error) => return ImageOutcome::Failed(error.clone()),
            _ if self.has_invalid_input => return ImageOutcome::NotStarted,
            BuildAction::UpToDate { digest } => (digest.clone(), ImageOutcome::UpToDate),
            BuildAction::BaseMoved { digest } => (digest.clone(), ImageOutcome::BaseMoved),
            BuildAction::Build { engine, base, .. } => {
                let engine = match self.engine(engine).await {
                    Ok(engine) => engine,
                    Err(error) => return ImageOutcome::Failed(error),
                };
                report.engine = Some(engine.name().to_string());
                if self.execution.mode != Mode::Apply {
                    report.dockerfile = self.preview(item, image, base);
                    return ImageOutcome::Planned;
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
                    Some(Err(error)) => {
                        (error.to_string(), Some(ImageOutcome::Failed(error.clone())))
                    }
                    None => ("interrupted".to_owned(), Some(ImageOutcome::Interrupted)),
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
                    (Some(Ok(digest)), None) => (digest, ImageOutcome::Built),
                    (_, outcome) => return outcome.unwrap_or(ImageOutcome::Interrupted),
                }
            }
        };
        report.digest = Some(digest.clone());
        if self.execution.mode == Mode::Apply {
            if let Err(error) = self.move_aliases(item, image, &digest).await {
                return ImageOutcome::Failed(error);
            }
            if outcome == ImageOutcome::Built {
                let store = self.execution.stores.of(&image.repository);
                report.size = size::of_image(store, &image.repository, &digest).await;
                report.hooks = self.hooks(image, &identity.tag, &digest).await;
            }
        }
        outcome
    }

    /// Returns the planned engine. Fails if it is not available.
    async fn engine(&self, planned: &PlannedEngine) -> Result<Arc<dyn Engine>, ItemError> {
        let name = match planned {
            PlannedEngine::Named(name) => *name,
            PlannedEngine::AnyProgram => self
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
            ItemError::other(format!(
                "this imglife binary does not include the engine `{name}`"
            ))
        })?;
        if matches!(planned, PlannedEngine::Named(_)) {
            engine
                .available()
                .await
                .map_err(|error| item_error(&error))?;
        }
        Ok(Arc::clone(engine))
    }

    /// Returns the first available program.
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
                            "using the engine {name}; others are not available: {}",
                            reasons.join("; ")
                        );
                    }
                    return Ok(name);
                }
                Err(error) => reasons.push(format!("{name}: {}", error.problem)),
            }
        }
        Err(ItemError::other(format!("no engine that can execute RUN is available ({})", reasons.join("; ")))
            .with_hint("install buildah, podman, or docker with buildx; a template without RUN is built by the engine `native`"))
    }

    /// Renders the Dockerfile for a dry run, without the digest of a base that is not built yet.
    fn preview(&self, item: &BuildItem, image: &BuildImage, base: &BaseDigest) -> Option<String> {
        let (identity, inputs) = (item.identity.as_ref()?, item.inputs.as_ref()?);
        let template = Template {
            name: &inputs.template_name,
            text: &inputs.template,
        };
        let run_metadata = &self.execution.run_metadata;
        let eol = self.execution.eol_dates.get(&item.position).copied();
        let base_digest = match base {
            BaseDigest::Known(digest) => Some(digest),
            BaseDigest::BuiltFirst(_) => None,
        };
        let values = RunValues::Known {
            base_digest,
            eol,
            run_metadata,
        };
        dockerfile(self.build, image, identity, &template, values).ok()
    }

    /// Builds and pushes an image and returns its digest.
    async fn build(
        &self,
        item: &BuildItem,
        image: &BuildImage,
        engine: &dyn Engine,
        base: &BaseDigest,
        report: &mut ImageReport,
    ) -> Result<Digest, ItemError> {
        let (Some(identity), Some(inputs)) = (&item.identity, &item.inputs) else {
            return Err(ItemError::other("the inputs of the image are unknown"));
        };
        let base_digest = match base {
            BaseDigest::Known(digest) => digest.clone(),
            BaseDigest::BuiltFirst(position) => {
                self.result_of(*position).await.map_err(|cause| {
                    ItemError::other(format!(
                        "base {} failed: {cause}",
                        identity.base_reference()
                    ))
                })?
            }
        };
        if let Some(digest) = self
            .published_by_another_run(item, image, &identity.tag)
            .await?
        {
            report
                .warnings
                .push("another run published the same image first".to_owned());
            return Ok(digest);
        }
        let eol = self.execution.eol_dates.get(&item.position).copied();
        let run_metadata = &self.execution.run_metadata;
        let template = Template {
            name: &inputs.template_name,
            text: &inputs.template,
        };
        let values = RunValues::Known {
            base_digest: Some(&base_digest),
            eol,
            run_metadata,
        };
        let text = dockerfile(self.build, image, identity, &template, values).map_err(|error| {
            ItemError::other(error.to_string()).with_optional_hint(error.hint.clone())
        })?;
        let labels = ImageLabels {
            image,
            identity,
            base_digest: Some(&base_digest),
            inputs: &inputs.digest,
            eol,
            run_metadata,
        }
        .labels();
        let request = BuildRequest {
            repository: image.repository.clone(),
            tag: identity.tag.clone(),
            dockerfile: text,
            dockerfile_name: inputs.template_name.clone(),
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
            created: run_metadata.created,
        };
        let mut built = engine.build(&request).await;
        if built.as_ref().is_err_and(|error| error.requires_execution)
            && self.build.engine == EngineChoice::Auto
        {
            // The engine `native` found out from the base, for example from its ONBUILD, that
            // execution is required. Another engine is allowed, so a program builds the image.
            let program = self.engine(&PlannedEngine::AnyProgram).await?;
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

    /// Waits for the base at `position` and returns its digest.
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

    /// Returns the digest of the image if another run has published the same inputs since the
    /// observation. Fails if the tag has changed in another way.
    async fn published_by_another_run(
        &self,
        item: &BuildItem,
        image: &BuildImage,
        tag: &Tag,
    ) -> Result<Option<Digest>, ItemError> {
        let BuildAction::Build { replaces, .. } = &item.action else {
            return Ok(None);
        };
        let found =
            super::observe::published(&self.execution.stores, &image.repository, tag).await?;
        match (found, replaces) {
            (None, None) => Ok(None),
            (Some(found), Some(replaces)) if found.digest == *replaces => Ok(None),
            (Some(found), _)
                if found.inputs.as_deref()
                    == item.inputs.as_ref().map(|inputs| inputs.digest.as_str()) =>
            {
                Ok(Some(found.digest))
            }
            (found, _) => {
                let now = found.map_or_else(
                    || "it no longer exists".to_owned(),
                    |found| format!("it is now {}", found.digest),
                );
                Err(ItemError::other(format!(
                    "{}:{tag} changed during this run: {now}",
                    image.repository
                ))
                .with_hint("run `imglife build` again"))
            }
        }
    }

    /// Moves the planned aliases to `digest`.
    async fn move_aliases(
        &self,
        item: &BuildItem,
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
        let manifest = manifest.ok_or_else(|| {
            ItemError::other(format!("{}@{digest} no longer exists", image.repository))
        })?;
        for alias in &item.aliases {
            store
                .put_manifest(&image.repository, &Reference::Tag(alias.clone()), &manifest)
                .await?;
        }
        Ok(())
    }

    /// Runs the hooks of an image that was built. Stops at the first failure.
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

/// Returns the outcome of an image whose identity is unknown.
fn unidentified(action: &BuildAction) -> ImageOutcome {
    match action {
        BuildAction::Fail(error) => ImageOutcome::Failed(error.clone()),
        _ => ImageOutcome::NotStarted,
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
