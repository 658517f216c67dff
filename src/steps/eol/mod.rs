//! `eol update`, `eol list` and `eol notify`, and the end-of-life assessment of images that other
//! commands use.
//!
//! `tracked_images` finds the products in the images of a configuration, and `assess` determines
//! their end-of-life status from the existing data. `list` prints the status, and `notices` sends
//! notifications. `observe`, `plan`, `execute` and `report` update the data; no other file requests
//! new data.

mod assess;
mod execute;
mod list;
mod notices;
mod observe;
mod plan;
mod report;
#[cfg(test)]
mod tests;
mod tracked_images;

pub use assess::{EolAssessor, ImageAssessment, ProductAssessment};
pub use execute::execute;
pub use list::{EolListReport, EolListRow, list};
pub use notices::{Delivery, DeliveryOutcome, MessageReport, NotifyReport, notices, notify};
pub use observe::{ProductLookup, ReadError, World, observe, read};
pub use plan::{Plan, ProductChange, ProductOutcome, plan};
pub use report::{FileOutcome, ProductReport, UpdateReport, UpdateTotals};
pub use tracked_images::{
    ImageProduct, Tier, TrackedImage, Versions, bases, mirrors, products, products_of_image,
    version,
};
