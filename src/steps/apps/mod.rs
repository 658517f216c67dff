//! `app list` and `app purge`: what is recorded of applications, and which records are no longer of
//! use.

mod list;
mod purge;
#[cfg(test)]
mod tests;

pub use list::{ListFilter, ListReport, list};
pub use purge::{Existence, Plan, Purge, PurgeReport, Reason, World, execute, observe, plan};
