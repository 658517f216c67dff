//! `git commit-push`: from its options and what the CI server tells to the checkout, the remote,
//! step, report and exit code.

use std::path::PathBuf;
use std::sync::Arc;

use super::configuration::load_configuration;
use super::merge_requests::merge_requests;
use super::{Global, Surroundings, runtime};
use crate::ci::repository::{Repository, Server};
use crate::command::{Runner, SystemRunner};
use crate::credentials::{self, Credential, ForgeCredentials};
use crate::error::{Exit, Failure};
use crate::forge::MergeRequest;
use crate::git::{Checkout, CommitIdentity, Discovery, GitCredential, Remote, ScratchRepository};
use crate::http::{Url, host_of};
use crate::model::env;
use crate::model::text::excerpt;
use crate::model::{Secret, Variables};
use crate::process::Process;
use crate::steps::commit_push::{
    self, BranchCheck, CommitMessage, CommitPushError, CommitPushOutcome, CommitPushRequest,
    PushTarget, RemoteAccess, side_branch,
};

/// What `git commit-push` was asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitPushOptions {
    pub message: String,
    /// Relative to the working directory.
    pub paths: Vec<PathBuf>,
    /// `None`: the branch of the pipeline, or the one that is checked out.
    pub branch: Option<String>,
    /// `None`: the repository of the pipeline, or the remote `origin`.
    pub remote: Option<String>,
    /// `Name <address>`.
    pub author: Option<String>,
    pub sign_off: bool,
    pub skip_ci: bool,
    pub merge_request: bool,
}

/// Commits files on the tip of a branch and pushes them.
pub(super) fn run(
    options: &CommitPushOptions,
    global: &Global,
    surroundings: &Surroundings,
) -> Result<Exit, Failure> {
    let message = CommitMessage::new(&options.message, options.skip_ci)
        .map_err(|error| Failure::usage(error).hint("give one with `--message`"))?;
    let author = match &options.author {
        Some(text) => Some(CommitIdentity::parse(text).ok_or_else(|| {
            Failure::usage(format!("`--author {}` is no author", excerpt(text, 80)))
                .hint("write it as in `--author \"Ada Lovelace <ada@example.com>\"`")
        })?),
        None => None,
    };
    runtime::run(surroundings.deadline, |cancel| async move {
        tokio::select! {
            result = commit_push(options, message, author, global, surroundings) => result,
            () = cancel.cancelled() => Err(Failure::failed("stopped before it was known whether something was pushed")),
        }
    })
}

async fn commit_push(
    options: &CommitPushOptions,
    message: CommitMessage,
    author: Option<CommitIdentity>,
    global: &Global,
    surroundings: &Surroundings,
) -> Result<Exit, Failure> {
    let process = &surroundings.process;
    let variables = &process.variables;
    let runner: Arc<dyn Runner> = Arc::new(SystemRunner);
    let mut job = Repository::of(variables);
    if let Some(job) = &mut job {
        job.ca_file = configured_authorities(&job.url, global, process).or(job.ca_file.take());
    }
    let discovery = if job.is_some() {
        Discovery::AnyOwner
    } else {
        Discovery::CheckOwner
    };
    let own = |error: crate::git::GitError| failure(error.into(), RemoteAccess::Own);
    let checkout = Checkout::open(
        Arc::clone(&runner),
        variables,
        &process.directory,
        discovery,
    )
    .await
    .map_err(own)?;
    let files = checkout
        .files(&process.directory, &options.paths)
        .await
        .map_err(own)?;
    let (branch, branch_check) = branch(options, job.as_ref(), &checkout).await?;
    let forge = if options.merge_request {
        Some(merge_requests(
            job.as_ref(),
            forge_credentials(job.as_ref(), variables),
            surroundings,
        )?)
    } else {
        None
    };
    let (remote, access) = remote(options, job.as_ref(), &checkout, variables).await?;
    let committer = identity(job.as_ref(), &checkout).await?;
    // Where the remote-tracking branch is what `git pull` made of it, commits that are not pushed
    // yet are told apart.
    let tracked = (job.is_none() && options.remote.is_none()).then_some(branch.as_str());
    let base = checkout.base(tracked).await.map_err(own)?;
    let target = if options.merge_request {
        PushTarget::Side(side_branch(&branch, &files))
    } else {
        PushTarget::Branch
    };
    let request = CommitPushRequest {
        files,
        branch,
        target,
        branch_check,
        message,
        author: author.unwrap_or_else(|| committer.clone()),
        committer,
        signs_off: options.sign_off,
        base,
    };
    let settings = checkout.settings().await.map_err(own)?;
    let scratch = ScratchRepository::create(runner, variables, &checkout, remote, &settings)
        .await
        .map_err(own)?;
    let report = commit_push::execute(&request, &checkout, &scratch)
        .await
        .map_err(|error| failure(error, access))?;
    surroundings.print(&(report.lines().join("\n") + "\n"))?;
    if let (
        Some(forge),
        CommitPushOutcome::Pushed { branch, .. } | CommitPushOutcome::SideCurrent { branch },
    ) = (forge, &report.outcome)
    {
        let wanted = merge_request(&request, branch);
        let opened = forge.open(&wanted).await?;
        let said = if opened.was_open {
            "the merge request is open already"
        } else {
            "opened a merge request"
        };
        let url = opened
            .url
            .map_or_else(String::new, |url| format!(": {}", excerpt(&url, 500)));
        surroundings.print(&format!("{said}{url}\n"))?;
    }
    Ok(Exit::Done)
}

/// Returns the file of the authorities that the configuration says the server is known by. This
/// works without a configuration, so one that cannot be read is no reason to push nothing.
fn configured_authorities(server: &str, global: &Global, process: &Process) -> Option<String> {
    let host = Url::parse(server).ok().as_ref().and_then(host_of)?;
    let config = load_configuration(global, process).ok()?;
    let file = config.hosts.get(&host)?.ca_file.as_ref()?;
    Some(process.directory.join(file).to_string_lossy().into_owned())
}

fn merge_request(request: &CommitPushRequest, source: &str) -> MergeRequest {
    let paths = request
        .files
        .iter()
        .take(20)
        .map(|file| format!("- `{}`\n", file.path.replace('`', "'")))
        .collect::<String>();
    MergeRequest {
        source: source.to_owned(),
        target: request.branch.clone(),
        title: request.message.title(),
        description: format!(
            "Made by `imglife git commit-push`, which brings it up to date until it is merged or closed.\n\n{paths}"
        ),
    }
}

/// Returns the branch that is pushed to.
async fn branch(
    options: &CommitPushOptions,
    job: Option<&Repository>,
    checkout: &Checkout,
) -> Result<(String, BranchCheck), Failure> {
    let of_job = job.and_then(|job| job.branch.clone());
    let branch = match (&options.branch, job) {
        (Some(branch), _) => branch.clone(),
        (None, Some(_)) => of_job.clone().ok_or_else(|| {
            Failure::usage("this pipeline is of no branch")
                .hint("run it in a pipeline of a branch, or name one with `--branch`")
        })?,
        (None, None) => {
            let own = |error: crate::git::GitError| failure(error.into(), RemoteAccess::Own);
            let local = checkout.branch().await.map_err(own)?;
            let local = local.ok_or_else(|| {
                Failure::usage("no branch is checked out")
                    .hint("name the one to push to with `--branch`")
            })?;
            checkout.remote_branch(&local).await.map_err(own)?
        }
    };
    if !is_branch_name(&branch) {
        return Err(Failure::usage(format!(
            "`{}` is no name of a branch",
            excerpt(&branch, 200)
        )));
    }
    let branch_check = match job {
        Some(job) if !options.merge_request && of_job.as_ref() != Some(&branch) => {
            BranchCheck::NotDefault(job.default_branch.clone())
        }
        _ => BranchCheck::Unrestricted,
    };
    Ok((branch, branch_check))
}

/// Returns whether `name` is one that git takes for a branch (git-check-ref-format).
fn is_branch_name(name: &str) -> bool {
    let is_fit =
        |part: &str| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock");
    name.len() <= 200
        && !name.starts_with('-')
        && !name.ends_with('.')
        && name != "@"
        && !name.contains("..")
        && !name.contains("@{")
        && name.split('/').all(is_fit)
        && !name
            .chars()
            .any(|character| character.is_control() || " ~^:?*[\\".contains(character))
}

/// Returns where is pushed to, and with what.
async fn remote(
    options: &CommitPushOptions,
    job: Option<&Repository>,
    checkout: &Checkout,
    variables: &Variables,
) -> Result<(Remote, RemoteAccess), Failure> {
    let address = match (&options.remote, job) {
        (Some(address), _) => address.clone(),
        (None, Some(job)) => job.git_address(),
        (None, None) => checkout
            .origin()
            .await
            .map_err(|error| failure(error.into(), RemoteAccess::Own))?
            .ok_or_else(|| {
                Failure::usage("the repository has no remote `origin`")
                    .hint("name the one to push to with `--remote`")
            })?,
    };
    if address.is_empty() || address.starts_with('-') || address.chars().any(char::is_control) {
        return Err(Failure::usage(format!(
            "`{}` is no address of a repository",
            excerpt(&address, 200)
        )));
    }
    let (login, access) = match job {
        Some(job) => login(job, &address, variables),
        None => (None, RemoteAccess::Own),
    };
    let is_server = job.is_some_and(|job| address.starts_with(&format!("{}/", job.url)));
    let ca_file = job
        .and_then(|job| job.ca_file.clone())
        .filter(|_| is_server);
    Ok((Remote::new(&address, login).trusting(ca_file), access))
}

/// Returns with what a push to the repository of a job is made.
pub(super) fn access(job: &Repository, variables: &Variables) -> RemoteAccess {
    login(job, &job.git_address(), variables).1
}

/// Returns the token that goes to `address`.
fn login(
    job: &Repository,
    address: &str,
    variables: &Variables,
) -> (Option<GitCredential>, RemoteAccess) {
    let host = Url::parse(address)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https"))
        .and_then(|url| host_of(&url));
    let Some(host) = host else {
        return (None, RemoteAccess::Own);
    };
    let login = |user: &str, password: &str| {
        Some(GitCredential {
            user: user.to_owned(),
            password: Secret::new(password),
        })
    };
    match forge_credentials(Some(job), variables).find(&host) {
        Ok(Credential::Header {
            name: "private-token",
            value,
        }) => (login("oauth2", value.expose()), RemoteAccess::GitlabToken),
        Ok(Credential::Header {
            name: "job-token",
            value,
        }) => (
            login("gitlab-ci-token", value.expose()),
            RemoteAccess::GitlabJob,
        ),
        Ok(Credential::Header { value, .. }) => {
            let access = if variables.get_filled(env::GITEA_TOKEN).is_some() {
                RemoteAccess::GiteaToken
            } else {
                RemoteAccess::GiteaJob
            };
            // Any name will do beside a token.
            (
                login(
                    "x-access-token",
                    value.expose().trim_start_matches("token "),
                ),
                access,
            )
        }
        Ok(_) => (
            None,
            if job.server == Server::Gitlab {
                RemoteAccess::NoGitlab
            } else {
                RemoteAccess::NoGitea
            },
        ),
        Err(error) => {
            tracing::warn!("{error}");
            (None, RemoteAccess::Own)
        }
    }
}

/// Returns the credentials for the server of a job. At Gitea the job's own token will do where no
/// other is set.
fn forge_credentials(job: Option<&Repository>, variables: &Variables) -> ForgeCredentials {
    let mut variables = variables.clone();
    let own = variables.get_filled(env::GITHUB_TOKEN).map(str::to_owned);
    match (job.map(|job| job.server), own) {
        (Some(Server::Gitea), Some(token)) if variables.get_filled(env::GITEA_TOKEN).is_none() => {
            variables.set(env::GITEA_TOKEN, token);
        }
        _ => {}
    }
    let forge = match job.map(|job| job.server) {
        Some(Server::Gitea) => credentials::Forge::Gitea,
        Some(Server::Gitlab) | None => credentials::Forge::Gitlab,
    };
    ForgeCredentials::new(forge, variables)
}

/// Returns whom commits are made as: whose pipeline it is, else whom git takes the user for.
async fn identity(
    job: Option<&Repository>,
    checkout: &Checkout,
) -> Result<CommitIdentity, Failure> {
    if let Some(identity) = job
        .and_then(|job| job.user.as_ref())
        .and_then(|(name, email)| CommitIdentity::new(name, email))
    {
        return Ok(identity);
    }
    let found = checkout
        .identity()
        .await
        .map_err(|error| failure(error.into(), RemoteAccess::Own))?;
    found
        .or_else(|| CommitIdentity::new("imglife", "imglife@localhost"))
        .ok_or_else(|| {
            Failure::usage("nobody is known to commit as")
                .hint("set `user.name` and `user.email` by `git config`")
        })
}

fn failure(error: CommitPushError, access: RemoteAccess) -> Failure {
    let hint = error.hint(access);
    let failure = if error.is_usage() {
        Failure::usage(error)
    } else {
        Failure::failed(error)
    };
    hint.into_iter().fold(failure, Failure::hint)
}
