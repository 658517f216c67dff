//! `eol update`, `eol list` and `eol notify`, and what other commands ask about ends of life.
//!
//! `tracked` says which products the images of a configuration are of, and by which tags; `judge`
//! says how an image stands by the data at hand. `update` brings the data up to date, `list` shows
//! what they mean, `notices` who is to be told. Only `update` asks anybody.

mod judge;
mod list;
mod notices;
mod report;
#[cfg(test)]
mod tests;
mod tracked;
mod update;

pub use judge::{Finding, Judge, Judgement};
pub use list::{ListReport, Row, list};
pub use notices::{Delivery, DeliveryOutcome, Notified, NotifyReport, notices, notify};
pub use report::{FileOutcome, ProductOutcome, ProductReport, Totals, UpdateReport};
pub use tracked::{
    Part, Tier, Tracked, Versions, bases, mirrors, parts_of_image, products, version,
};
pub use update::{Answer, Plan, ReadError, World, execute, observe, plan, read};
