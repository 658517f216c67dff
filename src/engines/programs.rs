//! The engines that are external programs.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::buildah::Buildah;
use super::buildx::Buildx;
use super::buildx_builder::BuildxBuilder;
use super::docker::Docker;
use super::engine::{Engine, EngineName, HostCredential};
use super::program::ProgramTools;
use crate::command::Runner;
use crate::model::{Host, Variables};

/// Settings of the engines that are external programs.
pub struct Programs {
    pub runner: Arc<dyn Runner>,
    /// Environment of the run. Programs do not see the credentials of imglife in it.
    pub variables: Variables,
    /// Credentials for the hosts that images are read from or pushed to. A program has no other
    /// credentials, except those of the user's credential helpers.
    pub credentials: Vec<HostCredential>,
    /// Hosts that are contacted over plain HTTP.
    pub insecure: BTreeSet<Host>,
    /// Name of the buildx builder; `None` for docker's default.
    pub builder: Option<String>,
    /// Builder to create if docker has only its built-in builder; `None` to use the built-in one.
    pub own_builder: Option<BuildxBuilder>,
}

impl Programs {
    /// Returns the engines in the order of [`EngineName::PROGRAMS`], whether or not they are
    /// installed.
    pub fn engines(self) -> Vec<Arc<dyn Engine>> {
        let tools = Arc::new(ProgramTools::new(
            self.runner,
            self.variables,
            self.credentials,
            self.insecure,
        ));
        let engine = |name| -> Option<Arc<dyn Engine>> {
            Some(match name {
                EngineName::Native => return None,
                EngineName::Buildx => Arc::new(Buildx::new(
                    Arc::clone(&tools),
                    self.builder.clone(),
                    self.own_builder.clone(),
                )),
                EngineName::Buildah => Arc::new(Buildah::new(Arc::clone(&tools))),
                EngineName::Podman => Arc::new(Buildah::podman(Arc::clone(&tools))),
                EngineName::Docker => Arc::new(Docker::new(Arc::clone(&tools))),
            })
        };
        EngineName::PROGRAMS
            .into_iter()
            .filter_map(engine)
            .collect()
    }
}
