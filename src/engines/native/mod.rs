//! The engine that builds without running anything: it writes layers, and pushes them beside those
//! of the base.
//!
//! Owns what a Dockerfile of one stage without `RUN` means: which files come to where in each
//! platform's image, what its configuration says, and that the same inputs give the same digest.
//! Images are read and written through the traits of `registry`.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::{BuildRequest, Built, Engine, EngineError, EngineName};
use crate::cache::Cache;
use crate::dockerfile::instructions::{Action, Setting, Step, steps};
use crate::dockerfile::{other_base, refused};
use crate::error::ItemError;
use crate::model::{Descriptor, Digest, Repository};
use crate::registry::ImageStores;

mod archive;
mod base;
mod config;
mod copying;
mod folder;
mod layer;
mod listing;
mod plan;
mod push;
mod tar_reader;
mod tree;
mod users;

use base::{Base, BaseError, BaseImage};
use config::{Config, Made};
use copying::Copier;
use folder::Folder;
use layer::Layer;
use plan::Plan;
use push::{Image, Push};
use tree::{Listing, Tree};

/// Layers of the base that are listed at once.
const PARALLEL_LISTINGS: usize = 4;

const ANOTHER_ENGINE: &str = "choose another engine for this image (`engine: buildx`, `buildah`, `podman` or `docker`), or `auto`";

/// Builds images by itself.
pub struct Native {
    stores: ImageStores,
    cache: Cache,
}

impl Native {
    /// Returns an engine that reads bases from `stores` and pushes to them, and keeps the listings
    /// of layers in `cache`.
    pub fn new(stores: ImageStores, cache: Cache) -> Native {
        Native { stores, cache }
    }
}

fn fault(problem: impl Into<String>) -> EngineError {
    EngineError::new(EngineName::Native, problem)
}

/// Returns an error of something that a step of the Dockerfile says.
fn at_step(
    request: &BuildRequest,
    line: usize,
    error: impl Error + Send + Sync + 'static,
) -> EngineError {
    let problem = format!("{}:{line}: {error}", request.dockerfile_name);
    match error.source() {
        // What stands in `problem` already is not said again.
        Some(source) => fault(format!("{problem}: {source}")),
        None => fault(problem),
    }
}

/// What one platform's image is made of.
struct Draft {
    base: Base,
    steps: Vec<Step>,
    /// A plan for each step that makes a layer.
    plans: Vec<Option<Plan>>,
}

/// Ends work in other threads when the build is dropped.
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
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

    async fn build(&self, request: &BuildRequest) -> Result<Built, EngineError> {
        let arguments = &request.arguments;
        let parse = |setting: &Setting<'_>| {
            steps(&request.dockerfile, setting).map_err(|error| {
                let line = error
                    .line
                    .map(|line| format!("{line}:"))
                    .unwrap_or_default();
                let hint = error.hint();
                let fault = fault(format!(
                    "{}:{line} {}",
                    request.dockerfile_name, error.problem
                ));
                if let Some(hint) = hint {
                    fault.hint(hint)
                } else {
                    fault
                }
            })
        };
        let base_image = BaseImage {
            store: self.stores.of(&request.base.repository),
            image: &request.base,
            created: request.created,
        };
        let bases = base_image
            .read(&request.platforms)
            .await
            .map_err(base_fault)?;
        let mut drafts = Vec::new();
        for (base, target) in bases.into_iter().zip(&request.platforms) {
            let environment = base.config.environment();
            let steps = parse(&Setting {
                arguments,
                target: Some(target),
                environment: Some(&environment),
            })?;
            if let Some(refusal) = refused(&steps) {
                let problem = format!(
                    "{}:{}: the native engine does not build {}",
                    request.dockerfile_name, refusal.line, refusal.what
                );
                return Err(fault(problem).hint(ANOTHER_ENGINE));
            }
            drafts.push(Draft {
                base,
                steps,
                plans: Vec::new(),
            });
        }
        check_base(request)?;
        let push = Push {
            stores: self.stores.clone(),
            request,
        };
        let base_layers: Vec<Descriptor> = drafts
            .iter()
            .flat_map(|draft| &draft.base.layers)
            .cloned()
            .collect();
        let writing = self.write_layers(request, drafts);
        let (Written { drafts, layers }, ()) =
            futures_util::future::try_join(writing, push.base_layers(base_layers)).await?;
        let mut images = Vec::new();
        for draft in drafts {
            images.push(image(request, draft, &layers)?);
        }
        push.blobs(&layers, &images).await?;
        let digest = push.images(images).await?;
        let mut warnings = Vec::new();
        if request.attestations.any() {
            warnings.push("the native engine writes no SBOM and no provenance".to_owned());
        }
        Ok(Built { digest, warnings })
    }
}

/// Fails when the Dockerfile is about another image than the base of the request.
fn check_base(request: &BuildRequest) -> Result<(), EngineError> {
    let (line, what) = match other_base(&request.dockerfile, &request.arguments, &request.base) {
        Ok(None) => return Ok(()),
        Ok(Some(refusal)) => (
            Some(refusal.line),
            format!("the native engine does not build {}", refusal.what),
        ),
        Err(error) => (error.line, error.problem.to_string()),
    };
    let line = line.map(|line| format!("{line}:")).unwrap_or_default();
    let error = fault(format!("{}:{line} {what}", request.dockerfile_name)).hint(ANOTHER_ENGINE);
    Err(EngineError {
        takes_execution: true,
        ..error
    })
}

/// The layers of all platforms.
struct Written {
    drafts: Vec<Draft>,
    /// By their plans, since those of several platforms are often the same.
    layers: HashMap<Plan, Layer>,
}

impl Native {
    /// Plans and writes the layers of all platforms.
    async fn write_layers(
        &self,
        request: &BuildRequest,
        mut drafts: Vec<Draft>,
    ) -> Result<Written, EngineError> {
        let needs_files =
            |step: &Step| matches!(step.action, Action::Copy(_) | Action::WorkingDirectory(_));
        if !drafts
            .iter()
            .any(|draft| draft.steps.iter().any(needs_files))
        {
            for draft in &mut drafts {
                draft.plans = vec![None; draft.steps.len()];
            }
            return Ok(Written {
                drafts,
                layers: HashMap::new(),
            });
        }
        let listings = self.listings(&request.base.repository, &drafts).await?;
        let request = request.clone();
        let stop = Stop(Arc::default());
        let stopped = stop.0.clone();
        let written =
            tokio::task::spawn_blocking(move || write_all(&request, drafts, &listings, &stopped))
                .await;
        drop(stop);
        written.map_err(|error| fault("the layers were not written").caused_by(error))?
    }

    /// Returns the listings of all layers of the bases.
    async fn listings(
        &self,
        repository: &Repository,
        drafts: &[Draft],
    ) -> Result<HashMap<Digest, Listing>, EngineError> {
        let layers: BTreeMap<&Digest, &Descriptor> = drafts
            .iter()
            .flat_map(|draft| &draft.base.layers)
            .map(|layer| (&layer.digest, layer))
            .collect();
        let listings = layers.into_values().map(|layer| async move {
            let listing =
                listing::listing(self.stores.of(repository), &self.cache, repository, layer)
                    .await
                    .map_err(place_fault)?;
            Ok((layer.digest.clone(), listing))
        });
        stream::iter(listings.collect::<Vec<_>>())
            .buffer_unordered(PARALLEL_LISTINGS)
            .try_collect()
            .await
    }
}

/// Returns the image of one platform, whose layers were written.
fn image(
    request: &BuildRequest,
    draft: Draft,
    written: &HashMap<Plan, Layer>,
) -> Result<Image, EngineError> {
    let Draft {
        base: Base {
            platform,
            mut config,
            mut layers,
        },
        steps,
        plans,
    } = draft;
    for (step, plan) in steps.iter().zip(&plans) {
        let layer = plan.as_ref().and_then(|plan| written.get(plan));
        let made = match layer {
            Some(layer) => {
                layers.push(layer.descriptor.clone());
                Made::Layer(&layer.diff_id)
            }
            None => Made::Nothing,
        };
        config
            .apply(&step.action, &made)
            .map_err(|error| at_step(request, step.line, error))?;
    }
    config.label(&request.labels);
    Ok(Image {
        platform,
        config: config.into_bytes().into(),
        layers,
    })
}

/// Plans the layers of all platforms, one platform after the other, and writes each that is new.
fn write_all(
    request: &BuildRequest,
    mut drafts: Vec<Draft>,
    listings: &HashMap<Digest, Listing>,
    stop: &AtomicBool,
) -> Result<Written, EngineError> {
    let modified = u64::try_from(request.created.timestamp()).unwrap_or(0);
    let reads_folder = drafts.iter().any(|draft| {
        draft
            .steps
            .iter()
            .any(|step| matches!(step.action, Action::Copy(_)))
    });
    let folder = if reads_folder {
        Folder::read(&request.context)
    } else {
        Ok(Folder::empty())
    };
    let mut copier = Copier::new(
        folder.map_err(|error| fault(error.to_string()).caused_by(error))?,
        modified,
    );
    let mut layers: HashMap<Plan, Layer> = HashMap::new();
    for draft in &mut drafts {
        let mut tree = Tree::default();
        for layer in &draft.base.layers {
            if let Some(listing) = listings.get(&layer.digest) {
                tree.apply(listing);
            }
        }
        let mut config: Config = draft.base.config.clone();
        for step in &draft.steps {
            let failed = |error| at_step(request, step.line, error);
            config
                .apply(&step.action, &Made::Nothing)
                .map_err(|error| at_step(request, step.line, error))?;
            let plan = match &step.action {
                Action::Copy(copying) => Some(
                    copier
                        .copy(&mut tree, copying, &config.working_directory())
                        .map_err(failed)?,
                ),
                Action::WorkingDirectory(_) => copier
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
                    layer::write(plan, stop).map_err(|error| at_step(request, step.line, error))?;
                layers.insert(plan.clone(), layer);
            }
            draft.plans.push(plan);
        }
    }
    Ok(Written { drafts, layers })
}

fn base_fault(error: BaseError) -> EngineError {
    let hint = match &error {
        BaseError::Place(_, error) => error.hint(),
        BaseError::NoPlatform { .. } => {
            Some("change `platforms` of the image, or mirror more platforms of its base".to_owned())
        }
        BaseError::Trigger { .. } => Some(ANOTHER_ENGINE.to_owned()),
        _ => None,
    };
    let takes_execution = matches!(error, BaseError::Trigger { .. });
    EngineError {
        takes_execution,
        ..caused(error, hint)
    }
}

fn place_fault(error: ItemError) -> EngineError {
    let hint = error.hint();
    caused(error, hint)
}

/// Returns an error that says what `error` says, and has the cause of it.
fn caused(error: impl Error + Send + Sync + 'static, hint: Option<String>) -> EngineError {
    let fault = match error.source() {
        Some(source) => fault(format!("{error}: {source}")),
        None => fault(error.to_string()),
    };
    match hint {
        Some(hint) => fault.hint(hint),
        None => fault,
    }
}
