//! The HTTP client: every request of a run goes through it.
//!
//! Owns the connections and their limits per host, retries and back-off, authentication by
//! challenge, redirects, limits on response sizes, and redaction. Has no knowledge of registries or
//! package servers: callers pass the token scopes that their requests need.
//!
//! Order of files, lower first. A file imports only files of earlier lines:
//!
//! 1. `certificates`, `fault`
//! 2. `error`, and `item_error`, which converts it to the errors of items
//! 3. `challenge`, `credential_checks`, `outage`, `permits`, `rate_limit`, `redaction`, `settings`,
//!    `token`
//! 4. `origin`, `quota`, `request`
//! 5. `auth`, `link`
//! 6. `host`
//! 7. `connections`, `retry`
//! 8. `client`
//! 9. `attempt`, `authorize` and `inspect`, which add methods to the client
//!
//! Lock order within a host: first request, connection permit, token, token-server permit,
//! credential check. No request waits for an earlier one of these while it holds a later one, and
//! rate limits and pauses end by themselves, so requests cannot deadlock.

mod attempt;
mod auth;
mod authorize;
mod certificates;
mod challenge;
mod client;
mod connections;
mod credential_checks;
mod error;
mod fault;
mod host;
mod inspect;
mod item_error;
pub mod link;
mod origin;
mod outage;
mod permits;
mod quota;
mod rate_limit;
mod redaction;
mod request;
mod retry;
mod settings;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod token;

pub use crate::credentials::variable_prefix;
pub use client::Client;
pub use error::{CredentialUse, Error, ErrorResponse, ReportedError, SafeUrl};
pub use fault::Fault;
pub use inspect::TokenGrants;
pub use quota::QuotaStatus;
pub use request::{
    AuthMode, Body, Download, DownloadPermit, Request, RequestAccess, RequestKind, RequestTarget,
    Response, SignedRequest,
};
pub use reqwest::header;
pub use reqwest::{Method, StatusCode, Url};
pub use retry::Retries;
pub use settings::{ClientCertificate, HostRules, Settings, Tls, host_of};
