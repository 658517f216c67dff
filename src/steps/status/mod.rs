//! `status`: mirrors, bases and applications with their end-of-life status.
//!
//! `observe` reads tags and records, and `plan` derives the rows. `page` renders them as Markdown
//! with the diagrams of `diagrams`, `markers` inserts the page into a file, and `inventory` is the
//! data that `check` reads. The same world gives the same bytes.

mod diagrams;
mod inventory;
mod markers;
mod observe;
mod page;
mod plan;
mod report;
mod spellings;
#[cfg(test)]
mod tests;

pub use inventory::inventory;
pub use markers::{BEGIN, END, MarkerError, replaced};
pub use observe::{World, observe};
pub use page::page;
pub use plan::{
    ApplicationRow, ExpectedDeletions, ImageRow, RowState, RowStatus, StatusReport, plan,
};
pub use report::{FailOn, PageOutcome};
pub use spellings::lowered;
