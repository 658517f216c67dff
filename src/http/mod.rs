//! The one HTTP client: every request of a run goes through here.
//!
//! Owns connections and their limits per host, retry and back-off, authentication by challenge,
//! redirects, bounds on what is read, and the redaction of what is shown. Knows neither registries
//! nor packages: who asks says which scopes it needs.

mod auth;
mod challenge;
mod client;
mod error;
mod fault;
mod host;
pub mod link;
mod login;
#[cfg(test)]
mod login_tests;
mod logins;
mod look;
mod quota;
mod request;
mod retry;
mod sent;
mod settings;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tls_tests;
mod token;

pub use crate::credentials::variable_prefix;
pub use client::Client;
pub use error::{Error, Problem, Refusal, SafeUrl};
pub use fault::Fault;
pub use look::Grants;
pub use quota::Standing;
pub use request::{Access, Answer, Body, Download, Kind, LogIn, Place, Relayed, Request, Target};
pub use reqwest::header;
pub use reqwest::{Method, StatusCode, Url};
pub use retry::Tries;
pub use settings::{ClientCertificate, HostRules, Settings, Tls, host_of};
