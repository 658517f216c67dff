//! `imglife git commit-push`: options, the checkout, the remote, the step, its result.

use std::path::PathBuf;
use std::sync::Arc;

use super::configuration::load_configuration;
use super::merge_requests::merge_requests;
use super::result::CommandResult;
use super::{CommandContext, GlobalOptions, runtime};
use crate::ci::repository::{JobRepository, JobServer};
use crate::command::{Runner, SystemRunner};
use crate::credentials::{self, Credential, ForgeCredentials};
use crate::error::Failure;
use crate::forge::MergeRequest;
use crate::git::{
    Checkout, CommitIdentity, Discovery, GitCredential, PushRemote, ScratchRepository,
};
use crate::http::{Url, host_of};
use crate::model::env;
use crate::model::text::excerpt;
use crate::model::{Secret, Variables};
use crate::process::Process;
use crate::steps::commit_push::{
    self, BranchCheck, CommitMessage, CommitPushError, CommitPushOutcome, CommitPushRequest,
    PushTarget, RemoteAccess, side_branch,
};

/// Options of `imglife git commit-push`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitPushOptions {
    pub message: String,
    /// Files to commit, relative to the working directory.
    pub paths: Vec<PathBuf>,
    /// Branch to push to; `None`: the branch of the pipeline, or the current branch.
    pub branch: Option<String>,
    /// Repository to push to; `None`: the repository of the pipeline, or the remote `origin`.
    pub remote: Option<String>,
    /// Author as `Name <address>`.
    pub author: Option<String>,
    pub sign_off: bool,
    pub skip_ci: bool,
    pub merge_request: bool,
}

/// Commits files on the tip of a branch and pushes them.
pub(super) fn run(
    options: &CommitPushOptions,
    global: &GlobalOptions,
    context: &CommandContext,
) -> Result<CommandResult, Failure> {
    let message = CommitMessage::new(&options.message, options.skip_ci)
        .map_err(|error| Failure::usage(error).hint("set it with `--message`"))?;
    let author = match &options.author {
        Some(text) => Some(CommitIdentity::parse(text).ok_or_else(|| {
            Failure::usage(format!("`--author {}` is not an author", excerpt(text, 80)))
                .hint("use the form `--author \"Ada Lovelace <ada@example.com>\"`")
        })?),
        None => None,
    };
    runtime::run(context.deadline, |cancel| async move {
        tokio::select! {
            result = commit_push(options, message, author, global, context) => result,
            () = cancel.cancelled() => Err(Failure::failed("stopped; the commit may not have been pushed")),
        }
    })
}

async fn commit_push(
    options: &CommitPushOptions,
    message: CommitMessage,
    author: Option<CommitIdentity>,
    global: &GlobalOptions,
    context: &CommandContext,
) -> Result<CommandResult, Failure> {
    let process = &context.process;
    let variables = &process.variables;
    let runner: Arc<dyn Runner> = Arc::new(SystemRunner);
    let mut job = JobRepository::of(variables);
    if let Some(job) = &mut job {
        job.ca_file = configured_ca_file(&job.url, global, process).or(job.ca_file.take());
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
            context,
        )?)
    } else {
        None
    };
    let (remote, access) = remote(options, job.as_ref(), &checkout, variables).await?;
    let committer = identity(job.as_ref(), &checkout).await?;
    // Outside CI, `git pull` updates the remote-tracking branch, so it separates the commits that
    // are not pushed yet.
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
    let result = CommandResult::text(report.lines().join("\n") + "\n");
    if let (
        Some(forge),
        CommitPushOutcome::Pushed { branch, .. } | CommitPushOutcome::SideCurrent { branch },
    ) = (forge, &report.outcome)
    {
        let merge_request = merge_request(&request, branch);
        let opened = match forge.open(&merge_request).await {
            Ok(opened) => opened,
            Err(error) => return Ok(result.failed(error.into())),
        };
        let message = if opened.was_open {
            "the merge request is already open"
        } else {
            "opened a merge request"
        };
        let url = opened
            .url
            .map_or_else(String::new, |url| format!(": {}", excerpt(&url, 500)));
        return Ok(result.and_text(format!("{message}{url}\n")));
    }
    Ok(result)
}

/// Returns the CA file that the configuration sets for the server. Ignores a configuration that
/// cannot be read, since the command does not need one, and that of an untrusted job.
fn configured_ca_file(server: &str, global: &GlobalOptions, process: &Process) -> Option<String> {
    let host = Url::parse(server).ok().as_ref().and_then(host_of)?;
    if process.variables.permissions().is_untrusted() {
        return None;
    }
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
            "Created by `imglife git commit-push`, which updates it until it is merged or closed.\n\n{paths}"
        ),
    }
}

/// Returns the branch to push to, and whether it must not be the default branch.
async fn branch(
    options: &CommitPushOptions,
    job: Option<&JobRepository>,
    checkout: &Checkout,
) -> Result<(String, BranchCheck), Failure> {
    let of_job = job.and_then(|job| job.branch.clone());
    let branch = match (&options.branch, job) {
        (Some(branch), _) => branch.clone(),
        (None, Some(_)) => of_job.clone().ok_or_else(|| {
            Failure::usage("this pipeline does not run for a branch")
                .hint("run it in a pipeline for a branch, or set one with `--branch`")
        })?,
        (None, None) => {
            let own = |error: crate::git::GitError| failure(error.into(), RemoteAccess::Own);
            let local = checkout.branch().await.map_err(own)?;
            let local = local.ok_or_else(|| {
                Failure::usage("no branch is checked out")
                    .hint("set the branch to push to with `--branch`")
            })?;
            checkout.remote_branch(&local).await.map_err(own)?
        }
    };
    if !is_branch_name(&branch) {
        return Err(Failure::usage(format!(
            "`{}` is not a valid branch name",
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

/// Returns true if git accepts `name` as the name of a branch (git-check-ref-format).
fn is_branch_name(name: &str) -> bool {
    let is_valid_component =
        |part: &str| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock");
    name.len() <= 200
        && !name.starts_with('-')
        && !name.ends_with('.')
        && name != "@"
        && !name.contains("..")
        && !name.contains("@{")
        && name.split('/').all(is_valid_component)
        && !name
            .chars()
            .any(|character| character.is_control() || " ~^:?*[\\".contains(character))
}

/// Returns the remote to push to, and the kind of its credentials.
async fn remote(
    options: &CommitPushOptions,
    job: Option<&JobRepository>,
    checkout: &Checkout,
    variables: &Variables,
) -> Result<(PushRemote, RemoteAccess), Failure> {
    let address = match (&options.remote, job) {
        (Some(address), _) => address.clone(),
        (None, Some(job)) => job.git_address(),
        (None, None) => checkout
            .origin()
            .await
            .map_err(|error| failure(error.into(), RemoteAccess::Own))?
            .ok_or_else(|| {
                Failure::usage("the repository has no remote `origin`")
                    .hint("set the repository to push to with `--remote`")
            })?,
    };
    if address.is_empty() || address.starts_with('-') || address.chars().any(char::is_control) {
        return Err(Failure::usage(format!(
            "`{}` is not the URL of a repository",
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
    Ok((PushRemote::new(&address, login).trusting(ca_file), access))
}

/// Returns the kind of credentials for a push to the repository of a job.
pub(super) fn access(job: &JobRepository, variables: &Variables) -> RemoteAccess {
    login(job, &job.git_address(), variables).1
}

/// Returns the token for `address`, and its kind.
fn login(
    job: &JobRepository,
    address: &str,
    variables: &Variables,
) -> (Option<GitCredential>, RemoteAccess) {
    // The token of a job is sent over the scheme of its server only.
    let scheme = Url::parse(&job.url).map_or_else(|_| String::new(), |url| url.scheme().to_owned());
    let is_limited = variables.permissions().is_untrusted();
    let host = Url::parse(address)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https"))
        .filter(|url| !is_limited || url.scheme() == scheme)
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
            // With a token, any user name is accepted.
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
            if job.server == JobServer::Gitlab {
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

/// Returns the credentials for the server of a job. On Gitea, the token of the job is used if no
/// other token is set.
pub(super) fn forge_credentials(
    job: Option<&JobRepository>,
    variables: &Variables,
) -> ForgeCredentials {
    let mut variables = variables.clone();
    let own = variables.get_filled(env::GITHUB_TOKEN).map(str::to_owned);
    match (job.map(|job| job.server), own) {
        (Some(JobServer::Gitea), Some(token))
            if variables.get_filled(env::GITEA_TOKEN).is_none() =>
        {
            variables.set(env::GITEA_TOKEN, token);
        }
        _ => {}
    }
    let forge = match job.map(|job| job.server) {
        Some(JobServer::Gitea) => credentials::ForgeKind::Gitea,
        Some(JobServer::Gitlab) | None => credentials::ForgeKind::Gitlab,
    };
    ForgeCredentials::new(forge, variables)
}

/// Returns the committer: the user of the pipeline, otherwise the identity that git has configured.
async fn identity(
    job: Option<&JobRepository>,
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
            Failure::usage("there is no identity to commit with")
                .hint("set `user.name` and `user.email` with `git config`")
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
