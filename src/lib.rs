//! imglife keeps an organisation's container images alive. See `docs/ARCHITECTURE.md` for who may import whom.

pub mod app;
pub mod cli;
pub mod command;
pub mod config;
pub mod credentials;
pub mod demo;
pub mod error;
pub mod hooks;
pub mod http;
pub mod model;
pub mod process;
pub mod progress;
pub mod registry;
pub mod report;
pub mod steps;
pub mod transfer;
