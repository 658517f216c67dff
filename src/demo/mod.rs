//! `imglife demo`: a sample world with upstream images that look like real ones, templates of base
//! images, a configuration, and half a year of history, and a tour through it.
//!
//! Everything is generated and, except for dates, the same each time. Nothing is downloaded.

mod catalogue;
mod commands;
mod end_of_life;
mod error;
mod history;
mod images;
mod tour;
mod world;

pub use tour::{DemoOptions, run};
