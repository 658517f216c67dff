//! What is built, and why. Pure.

use std::collections::BTreeMap;

use super::identity::{Identity, order};
use super::observe::{Draft, DraftError, Published, Seen, World};
use crate::config::{BuildConfig, EngineChoice, OnBaseChange, ProvenanceMode};
use crate::dockerfile::UnsupportedInstruction;
use crate::engines::EngineName;
use crate::error::ItemError;
use crate::model::{Digest, Tag};

/// What a run is going to do, bases before what is built on them.
#[derive(Clone, Debug)]
pub struct Plan {
    pub items: Vec<Item>,
    /// Something is wrong with a template or a folder: nothing is built until it is right.
    pub is_wrong: bool,
}

/// One image.
#[derive(Clone, Debug)]
pub struct Item {
    /// Its position in the configuration.
    pub position: usize,
    /// What it is called; `None` when that cannot be told.
    pub identity: Option<Identity>,
    pub draft: Option<Draft>,
    pub action: Action,
    /// Aliases that do not name what the tag names, or is going to name.
    pub aliases: Vec<Tag>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    UpToDate {
        digest: Digest,
    },
    /// The base moved under an image that is published, which is left as it is.
    BaseMoved {
        digest: Digest,
    },
    Build {
        reason: Reason,
        engine: Engine,
        base: BaseDigest,
        replaces: Option<Digest>,
    },
    Fail(ItemError),
}

/// Why an image is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    New,
    BaseMoved,
    Forced,
}

/// What the image is built on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BaseDigest {
    Known(Digest),
    /// That of the image at this position, which is built first.
    Of(usize),
}

/// What is going to build an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Engine {
    Named(EngineName),
    /// The first program that can be used here.
    AnyProgram,
}

/// Returns the plan for `world`. What is published is built again only where that is `forced`.
pub fn plan(build: &BuildConfig, world: &World, forced: bool) -> Plan {
    let mut actions: BTreeMap<usize, Action> = BTreeMap::new();
    let mut items = Vec::new();
    for position in order(build) {
        let Some(seen) = world.images.get(&position) else {
            continue;
        };
        let identity = &world.identities[position];
        let action = match (&seen.draft, identity) {
            (_, Err(error)) | (Err(DraftError::Wrong(error)), _) => Action::Fail(error.clone()),
            (Err(DraftError::Unnamed), Ok(_)) => continue,
            (Ok(draft), Ok(identity)) => {
                let case = Case {
                    build,
                    position,
                    seen,
                    draft,
                    identity,
                    world,
                    actions: &actions,
                };
                case.action(forced && seen.in_scope)
            }
        };
        actions.insert(position, action.clone());
        if seen.in_scope {
            let aliases = aliases(build, position, seen, &action);
            items.push(Item {
                position,
                identity: identity.clone().ok(),
                draft: seen.draft.clone().ok(),
                action,
                aliases,
            });
        }
    }
    let is_wrong = world
        .images
        .values()
        .any(|seen| seen.in_scope && matches!(seen.draft, Err(DraftError::Wrong(_))));
    Plan { items, is_wrong }
}

/// Returns the aliases that have to be moved. All of them after a build.
fn aliases(build: &BuildConfig, position: usize, seen: &Seen, action: &Action) -> Vec<Tag> {
    let image = &build.images[position];
    match action {
        Action::Fail(_) => Vec::new(),
        Action::Build { .. } => image.aliases.clone(),
        Action::UpToDate { digest } | Action::BaseMoved { digest } => {
            let is_behind = |alias: &&Tag| !matches!(seen.aliases.get(alias), Some(Ok(Some(found))) if found == digest);
            image.aliases.iter().filter(is_behind).cloned().collect()
        }
    }
}

struct Case<'a> {
    build: &'a BuildConfig,
    position: usize,
    seen: &'a Seen,
    draft: &'a Draft,
    identity: &'a Identity,
    world: &'a World,
    /// Of the images that come before.
    actions: &'a BTreeMap<usize, Action>,
}

impl Case<'_> {
    fn action(&self, forced: bool) -> Action {
        let base = match self.base() {
            Ok(base) => base,
            Err(error) => return Action::Fail(error),
        };
        let published = match &self.seen.published {
            Ok(published) => published.as_ref(),
            Err(error) => return Action::Fail(error.clone()),
        };
        match published {
            None => self.build(Reason::New, base, None),
            Some(published) if forced => self.build(Reason::Forced, base, Some(published)),
            Some(published) if published.inputs.as_deref() != Some(self.draft.inputs.as_str()) => {
                Action::Fail(self.immutable(published))
            }
            Some(published) => {
                let stands = matches!(&base, BaseDigest::Known(digest) if published.base_digest.as_deref() == Some(digest.as_str()));
                let digest = published.digest.clone();
                match self.build.on_base_change {
                    _ if stands => Action::UpToDate { digest },
                    OnBaseChange::Skip => Action::BaseMoved { digest },
                    OnBaseChange::Rebuild => self.build(Reason::BaseMoved, base, Some(published)),
                    OnBaseChange::Fail => Action::Fail(self.moved()),
                }
            }
        }
    }

    /// Returns what the image is built on, as it is going to be by then.
    fn base(&self) -> Result<BaseDigest, ItemError> {
        let reference = self.identity.base_reference();
        let of_run = self.identity.built_on.filter(|position| {
            self.world
                .images
                .get(position)
                .is_some_and(|seen| seen.in_scope)
        });
        match of_run.and_then(|position| Some((position, self.actions.get(&position)?))) {
            Some((position, Action::Build { .. })) => return Ok(BaseDigest::Of(position)),
            Some((_, Action::Fail(error))) => {
                return Err(ItemError::other(format!(
                    "it is built on {reference}, which fails: {error}"
                )));
            }
            _ => {}
        }
        let hint = match self.identity.built_on {
            Some(_) => "it is an image of `build` too: build it first, or both at once",
            None => "run `imglife sync` first",
        };
        match &self.seen.base_digest {
            Ok(Some(digest)) => Ok(BaseDigest::Known(digest.clone())),
            Ok(None) => Err(ItemError::other(format!("there is no {reference}")).with_hint(hint)),
            Err(error) => Err(error.clone()),
        }
    }

    fn build(&self, reason: Reason, base: BaseDigest, replaced: Option<&Published>) -> Action {
        match self.engine() {
            Ok(engine) => Action::Build {
                reason,
                engine,
                base,
                replaces: replaced.map(|published| published.digest.clone()),
            },
            Err(error) => Action::Fail(error),
        }
    }

    /// Returns the engine that the configuration means for this image.
    fn engine(&self) -> Result<Engine, ItemError> {
        let image = &self.build.images[self.position];
        let attests = image.sbom || image.provenance != ProvenanceMode::Off;
        let named = match self.build.engine {
            EngineChoice::Auto if self.draft.needs_execution.is_none() && !attests => {
                EngineName::Native
            }
            EngineChoice::Auto if attests => EngineName::Buildx,
            EngineChoice::Auto => return Ok(Engine::AnyProgram),
            EngineChoice::Native => EngineName::Native,
            EngineChoice::Buildx => EngineName::Buildx,
            EngineChoice::Docker => EngineName::Docker,
            EngineChoice::Buildah => EngineName::Buildah,
            EngineChoice::Podman => EngineName::Podman,
        };
        match (named, &self.draft.needs_execution) {
            (EngineName::Native, Some(UnsupportedInstruction { line, instruction })) => {
                let cause = format!(
                    "{}:{line}: the engine `native` does not support {instruction}",
                    self.draft.template_name
                );
                Err(ItemError::other(cause).with_hint(
                    "set `build.engine` to `auto`, `buildx`, `buildah`, `podman` or `docker`",
                ))
            }
            (engine, _) if attests && engine != EngineName::Buildx => Err(ItemError::other(format!(
                "`sbom` and `provenance` are written by the engine `buildx` only, not by `{engine}`"
            ))
            .with_hint("set `build.engine` to `buildx` or `auto`, or leave them out")),
            (engine, _) => Ok(Engine::Named(engine)),
        }
    }

    fn immutable(&self, published: &Published) -> ItemError {
        let image = &self.build.images[self.position];
        let cause = match &published.inputs {
            Some(_) => {
                "it is published and was made of something else; a published tag is not overwritten"
            }
            None => {
                "it is published and was not built by imglife; a published tag is not overwritten"
            }
        };
        ItemError::other(cause).with_hint(format!(
            "raise `core_version` (now {}), or, where nobody uses it yet, build with `--force --only {}`",
            image.core_version, image.name
        ))
    }

    fn moved(&self) -> ItemError {
        let cause = format!(
            "{} moved since it was built",
            self.identity.base_reference()
        );
        ItemError::other(cause)
            .with_hint("raise `core_version`, or set `on_base_change` to `rebuild` or `skip`")
    }
}
