//! `git commit-push`: files of the work tree become a commit on a branch of the remote, whatever
//! else the work tree, its index or its branch hold.
//!
//! The commit is made on the tip as it is fetched. `judge` says what becomes of each file,
//! `message` what the commit says; `execute` goes round until the remote takes it; `report` tells
//! what was done, and what to allow where it was refused.

mod execute;
mod judge;
mod message;
mod report;

pub use execute::{Guard, Request, Target, execute, side_branch};
pub use judge::{Meanwhile, Named, Settled, Verdict, settle};
pub use message::{Message, MessageError};
pub use report::{Access, CommitPushError, CommitPushReport, Note, Outcome};
