//! imglife keeps an organisation's container images alive.
//!
//! `docs/ARCHITECTURE.md` lists the rooms and the imports that each may have.

pub mod app;
pub mod cache;
pub mod ci;
pub mod cli;
pub mod command;
pub mod config;
pub mod credentials;
pub mod demo;
pub mod dockerfile;
pub mod engines;
pub mod eol;
pub mod error;
pub mod files;
pub mod forge;
pub mod git;
pub mod hooks;
pub mod http;
pub mod model;
pub mod notify;
pub mod packages;
pub mod probe;
pub mod process;
pub mod progress;
pub mod registry;
pub mod report;
pub mod steps;
pub mod template;
pub mod transfer;
