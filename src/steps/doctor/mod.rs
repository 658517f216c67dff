//! `doctor`: whether what the configuration needs is there, right, and allowed.
//!
//! Owns what is needed of which place, what follows from what was seen, and the report. Places look
//! at themselves (`probe`).

mod clock;
mod engines;
mod needs;
mod programs;
mod report;
#[cfg(test)]
mod tests;

pub use clock::clock;
pub use engines::{Seen, engines, executes};
pub use needs::{Needs, needs};
pub use programs::{hook_programs, is_on_path};
pub use report::{DoctorReport, Group};
