//! `git commit-push`: commits files of the work tree to a branch of the remote.
//!
//! The state of the work tree, its index and its branch does not matter: the commit is made on the
//! fetched tip. `merge` decides about each file, `message` builds the commit message, `execute`
//! repeats until the remote accepts the push, and `report` renders the result and the hints.

mod execute;
mod merge;
mod message;
mod report;

pub use execute::{BranchCheck, CommitPushRequest, PushTarget, execute, side_branch};
pub use merge::{BranchChanges, CommitFile, FileState, Resolution, resolve};
pub use message::{CommitMessage, CommitMessageError};
pub use report::{
    CommitPushError, CommitPushNote, CommitPushOutcome, CommitPushReport, RemoteAccess,
};
