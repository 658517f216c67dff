//! `doctor`: checks that everything the configuration needs exists, works and is permitted.
//!
//! `needs` lists the access that the configuration needs, `engines`, `programs` and `clock` assess
//! the machine, and `report` has the findings. Registries and record stores probe themselves
//! (`probe`).

mod clock;
mod engines;
mod needs;
mod programs;
mod report;
#[cfg(test)]
mod tests;

pub use clock::clock;
pub use engines::{DetectedEngine, engines, executes};
pub use needs::{Needs, needs};
pub use programs::{hook_programs, is_on_path};
pub use report::{DoctorGroup, DoctorReport};
