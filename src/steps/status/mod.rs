//! `status`: what there is, who stands on it, and when it ends.
//!
//! `observe` reads tags and records, `plan` tells how everything stands, `page` makes Markdown of
//! it with the diagrams of `diagrams`, `markers` puts that into a file, and `inventory` makes what
//! `check` reads. The same world gives the same bytes.

mod diagrams;
mod inventory;
mod markers;
mod observe;
mod page;
mod plan;
mod report;
#[cfg(test)]
mod tests;

pub use inventory::inventory;
pub use markers::{BEGIN, END, MarkerError, replaced};
pub use observe::{World, observe};
pub use page::page;
pub use plan::{ApplicationRow, Condemned, ImageRow, State, StatusReport, Verdict, plan};
pub use report::{FailOn, Written};
