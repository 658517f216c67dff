//! The configuration on the target branch of an untrusted job. It is reviewed, so the hosts that it
//! names may get the credentials that are set for them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::OnceCell;

use super::commit_push::forge_credentials;
use super::host_rules::credential_host;
use super::permissions::event_payload;
use crate::ci::event::default_branch;
use crate::ci::repository::{JobRepository, JobServer};
use crate::config::{self, SourceText};
use crate::credentials::ReviewedHosts;
use crate::error::chain;
use crate::forge::{Forge, GitLab, Gitea, Server};
use crate::http::{Client, HostRules, Settings, Tls, Url, host_of};
use crate::model::env;
use crate::model::{Host, Permissions};
use crate::process::Process;
use crate::steps::doctor::needs;

/// Hosts that the configuration on the target branch names. It is read when the first one is asked
/// for.
pub(super) struct TargetBranch {
    process: Process,
    /// Configuration file in the checkout.
    file: Option<PathBuf>,
    hosts: OnceCell<BTreeSet<Host>>,
}

impl TargetBranch {
    pub(super) fn new(file: Option<&Path>, process: &Process) -> TargetBranch {
        TargetBranch {
            process: process.clone(),
            file: file.map(Path::to_owned),
            hosts: OnceCell::new(),
        }
    }

    /// Returns the hosts, or the reason why they are unknown.
    async fn read(&self) -> Result<BTreeSet<Host>, String> {
        let variables = &self.process.variables;
        let file = self
            .file
            .as_deref()
            .ok_or("there is no configuration file")?;
        let path = repository_path(file, &self.process)
            .ok_or("the configuration file is not in the checkout of the job")?;
        let job = JobRepository::of(variables).ok_or("the job states no repository")?;
        let branch = target_branch(&job, &self.process).ok_or("the target branch is unknown")?;
        let forge = forge(&job, &self.process).ok_or("the job states no server")?;
        let content = forge
            .file(&path, &branch)
            .await
            .map_err(|error| chain(&error))?
            .ok_or_else(|| format!("{branch} has no {path}"))?;
        let source = SourceText {
            name: format!("{path} on {branch}"),
            text: String::from_utf8_lossy(&content).into_owned(),
        };
        let reviewed = variables.clone().with_permissions(Permissions {
            outside: true,
            ..Permissions::default()
        });
        let directory = file.parent().unwrap_or(&self.process.directory);
        let config = config::load(&source, directory, &reviewed)
            .map_err(|_| format!("{} is not valid", source.name))?;
        let archives = config
            .retention
            .iter()
            .filter_map(|rules| rules.archive.as_ref())
            .filter_map(|archive| archive.registry.join("name").ok());
        Ok(needs(&config)
            .hosts
            .into_keys()
            .chain(archives.filter_map(|archive| archive.host().cloned()))
            .map(|host| credential_host(&config, &host))
            .collect())
    }
}

#[async_trait]
impl ReviewedHosts for TargetBranch {
    async fn contain(&self, host: &Host) -> bool {
        let hosts = self
            .hosts
            .get_or_init(|| async {
                self.read().await.unwrap_or_else(|reason| {
                    tracing::info!("cannot read the configuration on the target branch: {reason}");
                    BTreeSet::new()
                })
            })
            .await;
        hosts.contains(host)
    }
}

/// Returns the path of a file of the checkout in its repository.
fn repository_path(file: &Path, process: &Process) -> Option<String> {
    let checkout = [env::CI_PROJECT_DIR, env::GITHUB_WORKSPACE]
        .iter()
        .find_map(|name| process.variables.get_filled(name))
        .map_or_else(|| process.directory.clone(), PathBuf::from);
    // The name of the file itself is not followed: the checkout may replace it by a link.
    let directory = file.parent()?.canonicalize().ok()?;
    let path = directory.join(file.file_name()?);
    let path = path.strip_prefix(checkout.canonicalize().ok()?).ok()?;
    Some(path.to_str()?.to_owned())
}

/// Returns the branch that the changes are for: the target branch of the merge request, otherwise
/// the default branch.
fn target_branch(job: &JobRepository, process: &Process) -> Option<String> {
    let get = |name| process.variables.get_filled(name).map(str::to_owned);
    match job.server {
        JobServer::Gitlab => {
            get(env::CI_MERGE_REQUEST_TARGET_BRANCH_NAME).or_else(|| get(env::CI_DEFAULT_BRANCH))
        }
        JobServer::Gitea => get(env::GITHUB_BASE_REF)
            .or_else(|| event_payload(process).as_deref().and_then(default_branch)),
    }
}

/// Returns the repository that the changes are for, at the server that runs the job.
fn forge(job: &JobRepository, process: &Process) -> Option<Box<dyn Forge>> {
    let address = Url::parse(&job.url)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https"))?;
    let host = host_of(&address)?;
    let rules = HostRules {
        tls: Tls {
            ca_file: job.ca_file.clone().map(Into::into),
            ..Tls::default()
        },
        ..HostRules::default()
    };
    let settings = Settings {
        hosts: [(host.clone(), rules)].into(),
        insecure: (address.scheme() == "http")
            .then(|| host.clone())
            .into_iter()
            .collect(),
        ..Settings::default()
    };
    let credentials = forge_credentials(Some(job), &process.variables);
    let server = Server {
        http: Arc::new(Client::new(
            settings,
            Arc::new(credentials),
            process.clock.clone(),
        )),
        host,
        address,
    };
    match job.server {
        JobServer::Gitlab => {
            let project = process
                .variables
                .get_filled(env::CI_MERGE_REQUEST_PROJECT_ID)
                .and_then(|id| id.parse().ok())
                .or(job.project)?;
            Some(Box::new(GitLab { server, project }))
        }
        JobServer::Gitea => {
            let (owner, repository) = job.path.split_once('/')?;
            Some(Box::new(Gitea {
                server,
                owner: owner.to_owned(),
                repository: repository.to_owned(),
            }))
        }
    }
}
