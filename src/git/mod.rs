//! Git, through the git program: reading a checkout, and creating and pushing commits
//! without changing it.
//!
//! Owns the environment and configuration of every git call, and the interpretation of its output.
//! Only plumbing commands are used. The checkout is never written: neither its files nor its index,
//! references or configuration. New objects go to a [`ScratchRepository`]. The choice of files to
//! commit is left to `steps::commit_push`.

mod checkout;
mod error;
mod object;
mod program;
mod remote;
mod scratch_repository;
mod stderr;

pub use checkout::{Checkout, Discovery, WorkFile};
pub use error::{GitError, PathProblem};
pub use object::{FileKind, ObjectId, TreeEntry};
pub use remote::{CommitIdentity, GitCredential, PushRemote};
pub use scratch_repository::{
    Changer, NewCommit, PushOutcome, PushRequest, RemoteHeads, ScratchRepository, TRAILER,
};
pub use stderr::{RemoteRefusal, RemoteRefusalKind};
