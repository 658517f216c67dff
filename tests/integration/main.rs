//! Tests against the binary, real servers and the sources themselves; one binary, so that it is
//! linked once.
//!
//! Modules stand below `cfg(test)`, which tells clippy that their helpers are tests as well.

#[cfg(test)]
mod architecture;
#[cfg(test)]
mod attachments;
#[cfg(test)]
mod build;
#[cfg(test)]
mod cleanup;
#[cfg(test)]
mod commit_push;
#[cfg(test)]
mod commit_subjects;
#[cfg(test)]
mod contract;
#[cfg(test)]
mod demo;
#[cfg(test)]
mod doctor;
#[cfg(test)]
mod engines;
#[cfg(test)]
mod eol;
#[cfg(test)]
mod errors;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod gitea;
#[cfg(test)]
mod guides;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod kit;
#[cfg(test)]
mod lineage;
#[cfg(test)]
mod literals;
#[cfg(test)]
mod native;
#[cfg(test)]
mod packages;
#[cfg(test)]
mod plans;
#[cfg(test)]
mod registries;
#[cfg(test)]
mod run;
#[cfg(test)]
mod status;
#[cfg(test)]
mod support;
#[cfg(test)]
mod sync;
#[cfg(test)]
mod version;
