//! Reading of the lists of images that are in use (`retention.keep_from`).

use std::fs::File;
use std::io::{self, IsTerminal as _, Read};
use std::path::Path;

use super::CommandContext;
use super::image_stores::anonymous_client;
use crate::config::{Config, KeepSource};
use crate::error::{ItemError, ItemErrorKind};
use crate::http::{
    AuthMode, Method, Request, RequestAccess, RequestKind, RequestTarget, Url, host_of,
};
use crate::steps::cleanup::KeepList;

/// Size limit of a list, in bytes.
const MAX_LIST_SIZE: usize = 64 << 20;

/// Reads all lists. A list that cannot be read is part of the result.
pub(super) async fn keep_lists(config: &Config, context: &CommandContext) -> Vec<KeepList> {
    let keepers = config
        .retention
        .as_ref()
        .and_then(|rules| rules.keepers.as_ref());
    let mut lists = Vec::new();
    for source in keepers.iter().flat_map(|keepers| &keepers.keep_from) {
        let (name, content) = match source {
            KeepSource::StandardInput => (
                "standard input".to_owned(),
                blocking(read_standard_input).await,
            ),
            KeepSource::File(path) => {
                let name = path.strip_prefix(&config.directory).unwrap_or(path);
                let name = name.display().to_string();
                let path = path.clone();
                (name, blocking(move || read_file(&path)).await)
            }
            KeepSource::Url(url) => (url.to_string(), fetch(url, config, context).await),
        };
        let list = match content {
            Ok(content) => KeepList::parse(&name, &content),
            Err(error) => KeepList::unreadable(&name, error),
        };
        if let Ok(images) = &list.images {
            tracing::info!("{name} names {} images in use", images.len());
        }
        lists.push(list);
    }
    lists
}

async fn blocking(
    read: impl FnOnce() -> io::Result<Vec<u8>> + Send + 'static,
) -> Result<Vec<u8>, ItemError> {
    tokio::task::spawn_blocking(read)
        .await
        .map_err(|error| ItemError::other("it was not read").caused_by(error))?
        .map_err(|error| ItemError::other(error.to_string()))
}

fn read_standard_input() -> io::Result<Vec<u8>> {
    let input = io::stdin();
    if input.is_terminal() {
        return Err(io::Error::other("it is a terminal"));
    }
    bounded(input.lock())
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    bounded(File::open(path)?)
}

/// Reads everything. Fails if it is larger than [`MAX_LIST_SIZE`].
fn bounded(source: impl Read) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    source
        .take(MAX_LIST_SIZE as u64 + 1)
        .read_to_end(&mut content)?;
    if content.len() > MAX_LIST_SIZE {
        return Err(io::Error::other(format!(
            "it is larger than {} MiB",
            MAX_LIST_SIZE >> 20
        )));
    }
    Ok(content)
}

/// Fetches a list without credentials.
async fn fetch(url: &Url, config: &Config, context: &CommandContext) -> Result<Vec<u8>, ItemError> {
    let host = host_of(url).ok_or_else(|| ItemError::other("the URL has no host"))?;
    let client = anonymous_client(config, context, &host, url);
    let mut request = Request::new(
        Method::GET,
        &host,
        RequestTarget::Path(url.path().to_owned()),
        RequestKind("images in use"),
        RequestAccess::default(),
    );
    request.auth_mode = AuthMode::Never;
    request.limit = MAX_LIST_SIZE;
    let response = client
        .send(request)
        .await
        .map_err(|error| error.to_item(host.as_str(), "read the images in use"))?;
    if response.status.is_success() {
        Ok(response.body.to_vec())
    } else {
        Err(ItemError::new(
            host.as_str(),
            "read the images in use",
            ItemErrorKind::Refused,
            response.status.to_string(),
        ))
    }
}
