//! End-of-life data: the client of endoflife.date and the data file.
//!
//! Owns the formats of both API versions, the choice between them, the search for the product of an
//! image, and the format of the data file. The rules that apply the data to an image are in
//! `model::eol` and `model::lifecycle`, the selection of products in `steps`.

mod api;
mod client;
mod data_store;
mod entry;
mod file;
mod purl;
mod table;
#[cfg(test)]
mod tests;

pub use client::{EndOfLifeDate, Products};
pub use data_store::{EolDataFile, EolDataStore};
pub use file::DataError;
pub use table::EolTable;
