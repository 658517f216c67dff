//! Decides which images to build, and why. Pure.

use std::collections::BTreeMap;

use super::identity::{Identity, order};
use super::observe::{ImageInputs, InputsError, ObservedImage, PublishedImage, World};
use crate::config::{BuildConfig, EngineChoice, OnBaseChange, ProvenanceMode};
use crate::dockerfile::UnsupportedInstruction;
use crate::engines::EngineName;
use crate::error::ItemError;
use crate::model::{Digest, Tag};

/// Planned actions of a run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Images in build order: bases first.
    pub items: Vec<BuildItem>,
    /// True if a template or a build folder is invalid. No image is built then.
    pub has_invalid_input: bool,
}

/// Planned action for one image.
#[derive(Clone, Debug)]
pub struct BuildItem {
    /// Position of the image in the configuration.
    pub position: usize,
    /// `None` if the tag or the base of the image is unknown.
    pub identity: Option<Identity>,
    pub inputs: Option<ImageInputs>,
    pub action: BuildAction,
    /// Aliases to move to the image.
    pub aliases: Vec<Tag>,
}

/// Action for an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BuildAction {
    /// Keep the published image, which has the same inputs and base.
    UpToDate { digest: Digest },
    /// Keep the published image although the tag of its base moved.
    BaseMoved { digest: Digest },
    Build {
        reason: BuildReason,
        engine: PlannedEngine,
        base: BaseDigest,
        /// Digest of the published image that is replaced.
        replaces: Option<Digest>,
    },
    /// Report the error.
    Fail(ItemError),
}

/// Reason for a build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuildReason {
    /// The tag does not exist.
    New,
    /// The tag of the base moved.
    BaseMoved,
    /// The run was forced.
    Forced,
}

/// Digest of the base of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BaseDigest {
    Known(Digest),
    /// Digest of the image at this position, which the same run builds first.
    BuiltFirst(usize),
}

/// Engine of a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlannedEngine {
    Named(EngineName),
    /// First installed program that can build images.
    AnyProgram,
}

/// Returns the plan for `world`. If `forced`, published images in scope are built again.
pub fn plan(build: &BuildConfig, world: &World, forced: bool) -> Plan {
    let mut actions: BTreeMap<usize, BuildAction> = BTreeMap::new();
    let mut items = Vec::new();
    for position in order(build) {
        let Some(observed) = world.images.get(&position) else {
            continue;
        };
        let identity = &world.identities[position];
        let action = match (&observed.inputs, identity) {
            (_, Err(error)) | (Err(InputsError::Invalid(error)), _) => {
                BuildAction::Fail(error.clone())
            }
            (Err(InputsError::UnknownTag), Ok(_)) => continue,
            (Ok(inputs), Ok(identity)) => {
                let decision = ImageDecision {
                    build,
                    position,
                    observed,
                    inputs,
                    identity,
                    world,
                    actions: &actions,
                };
                decision.action(forced && observed.in_scope)
            }
        };
        actions.insert(position, action.clone());
        if observed.in_scope {
            let aliases = aliases(build, position, observed, &action);
            items.push(BuildItem {
                position,
                identity: identity.clone().ok(),
                inputs: observed.inputs.clone().ok(),
                action,
                aliases,
            });
        }
    }
    let has_invalid_input = world.images.values().any(|observed| {
        observed.in_scope && matches!(observed.inputs, Err(InputsError::Invalid(_)))
    });
    Plan {
        items,
        has_invalid_input,
    }
}

/// Returns the aliases to move: all after a build, else those that do not have the image's digest.
fn aliases(
    build: &BuildConfig,
    position: usize,
    observed: &ObservedImage,
    action: &BuildAction,
) -> Vec<Tag> {
    let image = &build.images[position];
    match action {
        BuildAction::Fail(_) => Vec::new(),
        BuildAction::Build { .. } => image.aliases.clone(),
        BuildAction::UpToDate { digest } | BuildAction::BaseMoved { digest } => {
            let needs_move = |alias: &&Tag| !matches!(observed.aliases.get(alias), Some(Ok(Some(found))) if found == digest);
            image.aliases.iter().filter(needs_move).cloned().collect()
        }
    }
}

/// Decides on the action for one image.
struct ImageDecision<'a> {
    build: &'a BuildConfig,
    position: usize,
    observed: &'a ObservedImage,
    inputs: &'a ImageInputs,
    identity: &'a Identity,
    world: &'a World,
    /// Actions of the images earlier in the build order.
    actions: &'a BTreeMap<usize, BuildAction>,
}

impl ImageDecision<'_> {
    fn action(&self, forced: bool) -> BuildAction {
        let base = match self.base() {
            Ok(base) => base,
            Err(error) => return BuildAction::Fail(error),
        };
        let published = match &self.observed.published {
            Ok(published) => published.as_ref(),
            Err(error) => return BuildAction::Fail(error.clone()),
        };
        match published {
            None => self.build(BuildReason::New, base, None),
            Some(published) if forced => self.build(BuildReason::Forced, base, Some(published)),
            Some(published) if published.inputs.as_deref() != Some(self.inputs.digest.as_str()) => {
                BuildAction::Fail(self.already_published(published))
            }
            Some(published) => {
                let is_current = matches!(&base, BaseDigest::Known(digest) if published.base_digest.as_deref() == Some(digest.as_str()));
                let digest = published.digest.clone();
                match self.build.on_base_change {
                    _ if is_current => BuildAction::UpToDate { digest },
                    OnBaseChange::Skip => BuildAction::BaseMoved { digest },
                    OnBaseChange::Rebuild => {
                        self.build(BuildReason::BaseMoved, base, Some(published))
                    }
                    OnBaseChange::Fail => BuildAction::Fail(self.base_moved()),
                }
            }
        }
    }

    /// Returns the digest of the base at the time of the build.
    fn base(&self) -> Result<BaseDigest, ItemError> {
        let reference = self.identity.base_reference();
        let in_run = self.identity.built_on.filter(|position| {
            self.world
                .images
                .get(position)
                .is_some_and(|observed| observed.in_scope)
        });
        match in_run.and_then(|position| Some((position, self.actions.get(&position)?))) {
            Some((position, BuildAction::Build { .. })) => {
                return Ok(BaseDigest::BuiltFirst(position));
            }
            Some((_, BuildAction::Fail(error))) => {
                return Err(ItemError::other(format!(
                    "base {reference} failed: {error}"
                )));
            }
            _ => {}
        }
        let hint = match self.identity.built_on {
            Some(_) => {
                "the base is an image of `build` as well: build it first, or both in one run"
            }
            None => "run `imglife sync` first",
        };
        match &self.observed.base_digest {
            Ok(Some(digest)) => Ok(BaseDigest::Known(digest.clone())),
            Ok(None) => {
                Err(ItemError::other(format!("base {reference} does not exist")).with_hint(hint))
            }
            Err(error) => Err(error.clone()),
        }
    }

    fn build(
        &self,
        reason: BuildReason,
        base: BaseDigest,
        replaced: Option<&PublishedImage>,
    ) -> BuildAction {
        match self.engine() {
            Ok(engine) => BuildAction::Build {
                reason,
                engine,
                base,
                replaces: replaced.map(|published| published.digest.clone()),
            },
            Err(error) => BuildAction::Fail(error),
        }
    }

    /// Returns the engine that the configuration selects for this image.
    fn engine(&self) -> Result<PlannedEngine, ItemError> {
        let image = &self.build.images[self.position];
        let has_attestations = image.sbom || image.provenance != ProvenanceMode::Off;
        let named = match self.build.engine {
            EngineChoice::Auto if self.inputs.needs_execution.is_none() && !has_attestations => {
                EngineName::Native
            }
            EngineChoice::Auto if has_attestations => EngineName::Buildx,
            EngineChoice::Auto => return Ok(PlannedEngine::AnyProgram),
            EngineChoice::Native => EngineName::Native,
            EngineChoice::Buildx => EngineName::Buildx,
            EngineChoice::Docker => EngineName::Docker,
            EngineChoice::Buildah => EngineName::Buildah,
            EngineChoice::Podman => EngineName::Podman,
        };
        match (named, &self.inputs.needs_execution) {
            (EngineName::Native, Some(UnsupportedInstruction { line, instruction })) => {
                let cause = format!(
                    "{}:{line}: the engine `native` does not support {instruction}",
                    self.inputs.template_name
                );
                Err(ItemError::other(cause).with_hint(
                    "set `build.engine` to `auto`, `buildx`, `buildah`, `podman` or `docker`",
                ))
            }
            (engine, _) if has_attestations && engine != EngineName::Buildx => Err(ItemError::other(format!(
                "the engine `{engine}` does not support `sbom` and `provenance`; only `buildx` does"
            ))
            .with_hint("set `build.engine` to `buildx` or `auto`, or remove `sbom` and `provenance`")),
            (engine, _) => Ok(PlannedEngine::Named(engine)),
        }
    }

    fn already_published(&self, published: &PublishedImage) -> ItemError {
        let image = &self.build.images[self.position];
        let cause = match &published.inputs {
            Some(_) => {
                "already published with different inputs; a published tag is not overwritten"
            }
            None => {
                "already published, but not built by imglife; a published tag is not overwritten"
            }
        };
        ItemError::other(cause).with_hint(format!(
            "raise `core_version` (now {}), or, if the tag is not in use yet, run `imglife build --force --only {}`",
            image.core_version, image.name
        ))
    }

    fn base_moved(&self) -> ItemError {
        let cause = format!(
            "base {} moved since the image was built",
            self.identity.base_reference()
        );
        ItemError::other(cause)
            .with_hint("raise `core_version`, or set `on_base_change` to `rebuild` or `skip`")
    }
}
