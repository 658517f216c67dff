//! Documents that are named by an address: of a web server, or of a file.

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

/// The largest document that is read, in bytes.
const LARGEST: usize = 8 * 1024 * 1024;

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

/// Returns the document at `location`: an `https://` address, or a path that is relative to the
/// working directory.
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
        let limit = u64::try_from(LARGEST).unwrap_or(u64::MAX);
        let read = File::open(path)
            .and_then(|file| file.take(limit.saturating_add(1)).read_to_end(&mut bytes));
        let read = read.and_then(|length| {
            if length > LARGEST {
                Err(io::ErrorKind::FileTooLarge.into())
            } else {
                Ok(())
            }
        });
        return read
            .map(|()| bytes.into())
            .map_err(|source| Failure::failed(DocumentError::File { name, source }));
    }
    let no_address = || Failure::usage(format!("`{name}` is no address"));
    let url: Url = location.parse().map_err(|_| no_address())?;
    let host = host_of(&url).ok_or_else(no_address)?;
    if url.scheme() == "http" && !config.insecure_registries.contains(&host) {
        return Err(
            Failure::usage(format!("`{name}` is plain HTTP")).hint(format!(
                "take its https address, or name {host} in `registry.insecure_registries`"
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
    request.limit = LARGEST;
    let client = Client::new(
        settings(&[&url], config)?,
        Arc::new(NoCredentials),
        process.clock.clone(),
    );
    let answer = client.send(request).await;
    answer.map(|answer| answer.body).map_err(|source| {
        let hint = source.hint();
        hint.into_iter().fold(
            Failure::failed(DocumentError::Web { name, source }),
            Failure::hint,
        )
    })
}
