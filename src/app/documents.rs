//! Documents that the user refers to by a URL or a path.

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;

use super::records::settings;
use crate::config::Config;
use crate::credentials::NoCredentials;
use crate::error::Failure;
use crate::http::{
    AuthMode, Client, Method, Request, RequestAccess, RequestKind, RequestTarget, Url, host_of,
};
use crate::model::text::excerpt;
use crate::process::Process;

/// Maximum size of a document, in bytes.
const MAX_DOCUMENT: usize = 8 * 1024 * 1024;

#[derive(Debug, Error)]
enum DocumentError {
    #[error("cannot read {name}")]
    File { name: String, source: io::Error },
    #[error("cannot read {name}")]
    Web {
        name: String,
        source: crate::http::Error,
    },
}

/// Returns the document at `location`: an `https://` URL, a `file://` URL, or a path relative to
/// the working directory. Fails when it is larger than [`MAX_DOCUMENT`], and with a usage error for
/// plain HTTP to a host that is not in `registry.insecure_registries`.
pub(super) async fn read(
    location: &str,
    config: &Config,
    process: &Process,
) -> Result<Bytes, Failure> {
    let name = excerpt(location, 200);
    if !(location.starts_with("https://") || location.starts_with("http://")) {
        let path = process
            .directory
            .join(location.strip_prefix("file://").unwrap_or(location));
        let mut bytes = Vec::new();
        let limit = u64::try_from(MAX_DOCUMENT).unwrap_or(u64::MAX);
        let read = File::open(path)
            .and_then(|file| file.take(limit.saturating_add(1)).read_to_end(&mut bytes));
        let read = read.and_then(|length| {
            if length > MAX_DOCUMENT {
                Err(io::ErrorKind::FileTooLarge.into())
            } else {
                Ok(())
            }
        });
        return read
            .map(|()| bytes.into())
            .map_err(|source| Failure::failed(DocumentError::File { name, source }));
    }
    let invalid = || Failure::usage(format!("`{name}` is not a valid URL"));
    let url: Url = location.parse().map_err(|_| invalid())?;
    let host = host_of(&url).ok_or_else(invalid)?;
    if url.scheme() == "http" && !config.insecure_registries.contains(&host) {
        return Err(
            Failure::usage(format!("`{name}` uses plain HTTP")).hint(format!(
                "use https, or add {host} to `registry.insecure_registries`"
            )),
        );
    }
    let target = RequestTarget::Path(format!(
        "{}{}",
        url.path(),
        url.query()
            .map(|query| format!("?{query}"))
            .unwrap_or_default()
    ));
    let mut request = Request::new(
        Method::GET,
        &host,
        target,
        RequestKind("document"),
        RequestAccess::default(),
    );
    request.auth_mode = AuthMode::Never;
    request.limit = MAX_DOCUMENT;
    let client = Client::new(
        settings(&[&url], config, &process.variables)?,
        Arc::new(NoCredentials),
        process.clock.clone(),
    );
    let response = client.send(request).await;
    response.map(|response| response.body).map_err(|source| {
        let hint = source.hint();
        hint.into_iter().fold(
            Failure::failed(DocumentError::Web { name, source }),
            Failure::hint,
        )
    })
}
