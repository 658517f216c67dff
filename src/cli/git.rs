//! `imglife git`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::app::{CommandOptions, CommitPushOptions};
use crate::model::env;

/// Commit and push files from a pipeline
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  imglife git commit-push -m 'chore(status): update image status report' --skip-ci README.md
      commit and push the report if it changed")]
pub(super) struct GitArguments {
    #[command(subcommand)]
    command: GitSubcommand,
}

#[derive(Debug, Subcommand)]
enum GitSubcommand {
    CommitPush(CommitPushArguments),
}

/// Commit files on the tip of a branch and push them
///
/// Commits the given files if they differ from the tip of the branch, and pushes that one commit.
/// The commit is made on the fetched tip of the branch, so shallow and detached checkouts work.
/// Commits no other file of the work tree or index, and leaves the checkout unchanged. If another
/// push happens at the same time, the commit is made again on the new tip, at most five times.
///
/// Changes that others made on the branch since the checkout are never overwritten. In a file with
/// the markers `<!-- imglife:begin -->` and `<!-- imglife:end -->`, only the report between them is
/// replaced. A file that imglife wrote from a newer checkout is kept (`superseded`); one from the
/// same or an older checkout is replaced. Any other conflict ends with exit code 1. A directory
/// means all files below it that git does not ignore. Files are never deleted.
///
/// In jobs of GitLab, Gitea and Forgejo, the repository, branch, token and author come from CI
/// variables. Elsewhere, the remote `origin`, the current branch and the git configuration are
/// used.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  imglife git commit-push -m 'chore(status): update image status report' --skip-ci README.md
      in CI, after `imglife status --output README.md`
  imglife git commit-push -m 'chore(lifecycle): update EOL data' --merge-request eol-data.yaml
      open a merge request or pull request, for a protected branch
  imglife git commit-push -m 'update' --remote ssh://git@git.example.com/team/base.git --branch main README.md
      push to another repository

Exit codes:
  0  pushed, nothing to commit, or superseded
  1  the push failed, or somebody else changed a file since the checkout
  2  invalid usage; nothing was changed")]
struct CommitPushArguments {
    /// Commit message
    #[arg(short, long, value_name = "MESSAGE")]
    message: String,

    /// Branch to push to [default: branch of the pipeline, outside CI the current branch]
    #[arg(long, value_name = "BRANCH")]
    branch: Option<String>,

    /// Repository to push to [default: repository of the pipeline, outside CI the remote `origin`]
    #[arg(long, value_name = "URL")]
    remote: Option<String>,

    /// Author of the commit [default: user of the pipeline, outside CI `user.name` and `user.email`
    /// of git]
    #[arg(long, value_name = "NAME <EMAIL>")]
    author: Option<String>,

    /// Add a `Signed-off-by` line
    #[arg(long)]
    sign_off: bool,

    /// Add `[skip ci]` to the first line of the message, so that the push starts no pipeline
    #[arg(long)]
    skip_ci: bool,

    /// Push to a side branch and open a merge request (in Gitea: pull request), or update the open
    /// one
    #[arg(long)]
    merge_request: bool,

    /// Files to commit
    #[arg(value_name = env::PATH, required = true)]
    paths: Vec<PathBuf>,
}

impl GitArguments {
    pub(super) fn command(self) -> CommandOptions {
        let GitSubcommand::CommitPush(arguments) = self.command;
        CommandOptions::CommitPush(CommitPushOptions {
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
