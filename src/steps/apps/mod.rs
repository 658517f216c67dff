//! `app list` and `app purge`: lists the records of applications, and deletes obsolete ones.

mod list;
mod purge;
#[cfg(test)]
mod tests;

pub use list::{AppListReport, InvalidRecordFile, ListFilter, list};
pub use purge::{
    FailedRecord, ImageExistence, Plan, PurgeExecution, PurgeReason, PurgeReport, RecordRemoval,
    World, execute, observe, plan,
};
