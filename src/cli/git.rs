//! `imglife git`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::app::{Command, CommitPushOptions};

/// Commit what a pipeline made
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  imglife git commit-push -m 'chore(status): update image status report' --skip-ci README.md
      commit the report on the tip of the branch, when it has changed")]
pub(super) struct GitArguments {
    #[command(subcommand)]
    command: GitCommand,
}

#[derive(Debug, Subcommand)]
enum GitCommand {
    CommitPush(CommitPushArguments),
}

/// Commit files on the tip of a branch and push them
///
/// Commits the named files if they differ from the tip of the branch, and pushes that one commit.
/// It is made on the tip as it is fetched, so shallow and detached checkouts will do, and nothing
/// else of the work tree, its index or its branch is pushed; the checkout is not changed either.
/// When somebody else pushes meanwhile, the commit is made anew on their tip, five times at most.
///
/// What others changed on the branch since the checkout is never overwritten: with the markers
/// `<!-- imglife:begin -->` and `<!-- imglife:end -->` only the report between them is replaced;
/// what imglife wrote from a newer checkout stays (`superseded`), what it wrote from the same one
/// or an older one is replaced; anything else ends with exit code 1. A directory stands for the
/// files below it that git does not ignore. Nothing is ever deleted.
///
/// In GitLab, Gitea and Forgejo jobs the repository, branch, token and author are known. Elsewhere
/// it is the remote `origin`, the branch that is checked out, and git's own configuration.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  imglife git commit-push -m 'chore(status): update image status report' --skip-ci README.md
      in CI, after `imglife status --output README.md`
  imglife git commit-push -m 'chore(lifecycle): update EOL data' --merge-request eol-data.yaml
      where the branch is protected: by a merge request or pull request
  imglife git commit-push -m 'update' --remote ssh://git@git.example.com/team/base.git --branch main README.md
      to a repository that is named

Exit codes:
  0  pushed, or there was nothing to commit, or it is superseded
  1  it could not be pushed, or a file was changed by somebody else meanwhile
  2  wrong usage; nothing was done")]
struct CommitPushArguments {
    /// The message of the commit
    #[arg(short, long, value_name = "MESSAGE")]
    message: String,

    /// The branch to push to [default: that of the pipeline, else the one that is checked out]
    #[arg(long, value_name = "BRANCH")]
    branch: Option<String>,

    /// The repository to push to [default: that of the pipeline, else the remote `origin`]
    #[arg(long, value_name = "URL")]
    remote: Option<String>,

    /// The author of the commit [default: whose pipeline it is, else git's `user.name` and
    /// `user.email`]
    #[arg(long, value_name = "NAME <EMAIL>")]
    author: Option<String>,

    /// Add a `Signed-off-by` line
    #[arg(long)]
    sign_off: bool,

    /// Add `[skip ci]` to the first line of the message, so that the push starts no pipeline
    #[arg(long)]
    skip_ci: bool,

    /// Push to a branch beside it and open a merge request (in Gitea: pull request), or update the
    /// one that is open
    #[arg(long)]
    merge_request: bool,

    /// The files to commit
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
}

impl GitArguments {
    pub(super) fn command(self) -> Command {
        let GitCommand::CommitPush(arguments) = self.command;
        Command::CommitPush(CommitPushOptions {
            message: arguments.message,
            paths: arguments.paths,
            branch: arguments.branch,
            remote: arguments.remote,
            author: arguments.author,
            sign_off: arguments.sign_off,
            skip_ci: arguments.skip_ci,
            merge_request: arguments.merge_request,
        })
    }
}
