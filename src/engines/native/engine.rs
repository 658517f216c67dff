//! The native engine: builds the images of all platforms.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::base::{BaseError, BaseImageReader, PlatformBase};
use super::context_folder::ContextFolder;
use super::copy::Copier;
use super::error::{error, store_error, with_source};
use super::file_tree::{FileTree, LayerListing};
use super::image_config::{ImageConfigDraft, StepResult};
use super::layer::{self, Layer};
use super::layer_plan::LayerPlan;
use super::listing;
use super::push::{ImagePush, PlatformImage};
use crate::cache::Cache;
use crate::dockerfile::instructions::{DockerfileAction, DockerfileStep, StageSettings, steps};
use crate::dockerfile::{different_base, first_unsupported_step};
use crate::engines::engine::{BuildOutcome, BuildRequest, Engine, EngineError, EngineName};
use crate::model::{Descriptor, Digest, Repository};
use crate::registry::ImageStores;

/// Maximum number of base layers that are listed at the same time.
const MAX_PARALLEL_LISTINGS: usize = 4;

/// Hint for Dockerfiles that the native engine does not support.
const OTHER_ENGINE_HINT: &str =
    "set `engine` to `auto`, `buildx`, `buildah`, `podman` or `docker` for this image";

/// The native engine.
pub struct Native {
    stores: ImageStores,
    cache: Cache,
}

impl Native {
    /// Returns an engine that reads base images from `stores` and pushes to them. Listings of base
    /// layers are cached in `cache`.
    pub fn new(stores: ImageStores, cache: Cache) -> Native {
        Native { stores, cache }
    }
}

/// Returns the error for an instruction in `line` of the Dockerfile.
fn at_line(
    request: &BuildRequest,
    line: usize,
    source: impl Error + Send + Sync + 'static,
) -> EngineError {
    let problem = format!("{}:{line}: {source}", request.dockerfile_name);
    match source.source() {
        Some(cause) => error(format!("{problem}: {cause}")),
        None => error(problem),
    }
}

/// The image of one platform while it is built.
struct ImageDraft {
    base: PlatformBase,
    steps: Vec<DockerfileStep>,
    /// Plan of the layer of each step; `None` for steps without a layer.
    plans: Vec<Option<LayerPlan>>,
}

/// Sets a flag on drop, which stops the thread that writes layers.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[async_trait]
impl Engine for Native {
    fn name(&self) -> EngineName {
        EngineName::Native
    }

    async fn available(&self) -> Result<String, EngineError> {
        Ok(env!("CARGO_PKG_VERSION").to_owned())
    }

    async fn build(&self, request: &BuildRequest) -> Result<BuildOutcome, EngineError> {
        let arguments = &request.arguments;
        let parse = |setting: &StageSettings<'_>| {
            steps(&request.dockerfile, setting).map_err(|error| {
                let line = error
                    .line
                    .map(|line| format!("{line}:"))
                    .unwrap_or_default();
                let hint = error.hint();
                let failure = super::error::error(format!(
                    "{}:{line} {}",
                    request.dockerfile_name, error.problem
                ));
                if let Some(hint) = hint {
                    failure.hint(hint)
                } else {
                    failure
                }
            })
        };
        let base_image = BaseImageReader {
            store: self.stores.of(&request.base.repository),
            image: &request.base,
            created: request.created,
        };
        let bases = base_image
            .read(&request.platforms)
            .await
            .map_err(base_error)?;
        let mut drafts = Vec::new();
        for (base, target) in bases.into_iter().zip(&request.platforms) {
            let environment = base.config.environment();
            let steps = parse(&StageSettings {
                arguments,
                target: Some(target),
                environment: Some(&environment),
            })?;
            if let Some(unsupported) = first_unsupported_step(&steps) {
                let problem = format!(
                    "{}:{}: the native engine does not support {}",
                    request.dockerfile_name, unsupported.line, unsupported.instruction
                );
                return Err(error(problem).hint(OTHER_ENGINE_HINT));
            }
            drafts.push(ImageDraft {
                base,
                steps,
                plans: Vec::new(),
            });
        }
        check_base(request)?;
        let push = ImagePush {
            stores: self.stores.clone(),
            request,
        };
        let base_layers: Vec<Descriptor> = drafts
            .iter()
            .flat_map(|draft| &draft.base.layers)
            .cloned()
            .collect();
        let writing = self.write_layers(request, drafts);
        let (WrittenLayers { drafts, layers }, ()) =
            futures_util::future::try_join(writing, push.base_layers(base_layers)).await?;
        let mut images = Vec::new();
        for draft in drafts {
            images.push(image(request, draft, &layers)?);
        }
        push.blobs(&layers, &images).await?;
        let digest = push.images(images).await?;
        let mut warnings = Vec::new();
        if request.attestations.any() {
            warnings.push("the native engine supports neither `sbom` nor `provenance`".to_owned());
        }
        Ok(BuildOutcome { digest, warnings })
    }
}

/// Fails if the Dockerfile is built on another image than the base image of the request.
fn check_base(request: &BuildRequest) -> Result<(), EngineError> {
    let (line, problem) =
        match different_base(&request.dockerfile, &request.arguments, &request.base) {
            Ok(None) => return Ok(()),
            Ok(Some(unsupported)) => (
                Some(unsupported.line),
                format!(
                    "the native engine does not support {}",
                    unsupported.instruction
                ),
            ),
            Err(error) => (error.line, error.problem.to_string()),
        };
    let line = line.map(|line| format!("{line}:")).unwrap_or_default();
    let failure =
        error(format!("{}:{line} {problem}", request.dockerfile_name)).hint(OTHER_ENGINE_HINT);
    Err(EngineError {
        requires_execution: true,
        ..failure
    })
}

/// The written layers of all platforms.
struct WrittenLayers {
    drafts: Vec<ImageDraft>,
    /// Layers by plan. Several platforms often have the same plans.
    layers: HashMap<LayerPlan, Layer>,
}

impl Native {
    /// Plans and writes the layers of all platforms.
    async fn write_layers(
        &self,
        request: &BuildRequest,
        mut drafts: Vec<ImageDraft>,
    ) -> Result<WrittenLayers, EngineError> {
        let needs_files = |step: &DockerfileStep| {
            matches!(
                step.action,
                DockerfileAction::Copy(_) | DockerfileAction::WorkingDirectory(_)
            )
        };
        if !drafts
            .iter()
            .any(|draft| draft.steps.iter().any(needs_files))
        {
            for draft in &mut drafts {
                draft.plans = vec![None; draft.steps.len()];
            }
            return Ok(WrittenLayers {
                drafts,
                layers: HashMap::new(),
            });
        }
        let listings = self.listings(&request.base.repository, &drafts).await?;
        let request = request.clone();
        let stop = StopOnDrop(Arc::default());
        let stopped = stop.0.clone();
        let written =
            tokio::task::spawn_blocking(move || write_all(&request, drafts, &listings, &stopped))
                .await;
        drop(stop);
        written.map_err(|cause| error("cannot write the layers").caused_by(cause))?
    }

    /// Returns the listings of all base layers.
    async fn listings(
        &self,
        repository: &Repository,
        drafts: &[ImageDraft],
    ) -> Result<HashMap<Digest, LayerListing>, EngineError> {
        let layers: BTreeMap<&Digest, &Descriptor> = drafts
            .iter()
            .flat_map(|draft| &draft.base.layers)
            .map(|layer| (&layer.digest, layer))
            .collect();
        let listings = layers.into_values().map(|layer| async move {
            let listing =
                listing::listing(self.stores.of(repository), &self.cache, repository, layer)
                    .await
                    .map_err(store_error)?;
            Ok((layer.digest.clone(), listing))
        });
        stream::iter(listings.collect::<Vec<_>>())
            .buffer_unordered(MAX_PARALLEL_LISTINGS)
            .try_collect()
            .await
    }
}

/// Returns the image of one platform with its written layers.
fn image(
    request: &BuildRequest,
    draft: ImageDraft,
    written: &HashMap<LayerPlan, Layer>,
) -> Result<PlatformImage, EngineError> {
    let ImageDraft {
        base:
            PlatformBase {
                platform,
                mut config,
                mut layers,
            },
        steps,
        plans,
    } = draft;
    for (step, plan) in steps.iter().zip(&plans) {
        let layer = plan.as_ref().and_then(|plan| written.get(plan));
        let result = match layer {
            Some(layer) => {
                layers.push(layer.descriptor.clone());
                StepResult::Layer(&layer.diff_id)
            }
            None => StepResult::NoLayer,
        };
        config
            .apply(&step.action, &result)
            .map_err(|error| at_line(request, step.line, error))?;
    }
    config.label(&request.labels);
    Ok(PlatformImage {
        platform,
        config: config.into_bytes().into(),
        layers,
    })
}

/// Plans the layers of all platforms, one platform after the other, and writes each distinct layer.
fn write_all(
    request: &BuildRequest,
    mut drafts: Vec<ImageDraft>,
    listings: &HashMap<Digest, LayerListing>,
    stop: &AtomicBool,
) -> Result<WrittenLayers, EngineError> {
    let modified = u64::try_from(request.created.timestamp()).unwrap_or(0);
    let reads_context = drafts.iter().any(|draft| {
        draft
            .steps
            .iter()
            .any(|step| matches!(step.action, DockerfileAction::Copy(_)))
    });
    let folder = if reads_context {
        ContextFolder::read(&request.context)
    } else {
        Ok(ContextFolder::empty())
    };
    let mut copier = Copier::new(
        folder.map_err(|cause| error(cause.to_string()).caused_by(cause))?,
        modified,
    );
    let mut layers: HashMap<LayerPlan, Layer> = HashMap::new();
    for draft in &mut drafts {
        let mut tree = FileTree::default();
        for layer in &draft.base.layers {
            if let Some(listing) = listings.get(&layer.digest) {
                tree.apply(listing);
            }
        }
        let mut config: ImageConfigDraft = draft.base.config.clone();
        for step in &draft.steps {
            let failed = |error| at_line(request, step.line, error);
            config
                .apply(&step.action, &StepResult::NoLayer)
                .map_err(|error| at_line(request, step.line, error))?;
            let plan = match &step.action {
                DockerfileAction::Copy(copying) => Some(
                    copier
                        .copy(&mut tree, copying, &config.working_directory())
                        .map_err(failed)?,
                ),
                DockerfileAction::WorkingDirectory(_) => copier
                    .directory(
                        &mut tree,
                        &config.working_directory(),
                        config.user().as_deref(),
                    )
                    .map_err(failed)?,
                _ => None,
            };
            if let Some(plan) = &plan
                && !layers.contains_key(plan)
            {
                let layer =
                    layer::write(plan, stop).map_err(|error| at_line(request, step.line, error))?;
                layers.insert(plan.clone(), layer);
            }
            draft.plans.push(plan);
        }
    }
    Ok(WrittenLayers { drafts, layers })
}

/// Returns the error for a base image that cannot be used.
fn base_error(error: BaseError) -> EngineError {
    let hint = match &error {
        BaseError::Store(_, error) => error.hint(),
        BaseError::NoPlatform { .. } => Some(
            "change the `platforms` of the image, or mirror more platforms of its base image"
                .to_owned(),
        ),
        BaseError::OnBuildTrigger { .. } => Some(OTHER_ENGINE_HINT.to_owned()),
        _ => None,
    };
    let requires_execution = matches!(error, BaseError::OnBuildTrigger { .. });
    EngineError {
        requires_execution,
        ..with_source(error, hint)
    }
}
