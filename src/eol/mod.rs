//! End-of-life data: asking endoflife.date for it, and the file that it is kept in.
//!
//! Owns the forms of the API's two versions, which of them is asked, how products are found by
//! their images, and the form of the data file. What the data mean for an image is told by
//! `model::eol` and `model::lifecycle`; which products a run wants, by `steps`.

mod api;
mod client;
mod entry;
mod file;
mod place;
mod purl;
mod table;
#[cfg(test)]
mod tests;

pub use client::{EndOfLifeDate, ProductError, Products};
pub use file::DataError;
pub use place::{DataFile, DataPlace, PlaceError};
pub use table::Table;
