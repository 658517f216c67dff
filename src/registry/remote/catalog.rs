//! Listing the repositories of a host.

use std::collections::HashSet;

use serde::Deserialize;

use super::repository::{API_ROOT, RemoteRepository};
use crate::error::{ItemError, ItemErrorKind};
use crate::http::{self, Method, Request, RequestAccess, RequestKind, RequestTarget, link};
use crate::model::Repository;
use crate::registry::listing::{MAX_PAGE_BYTES, PageLimits};

/// Number of repositories per page.
const PAGE_SIZE: usize = 1_000;

/// Maximum number of repositories of one host.
const MAX_REPOSITORIES: usize = 100_000;

const CATALOG: RequestKind = RequestKind("catalog");

/// A page of the listing. It always has the key `repositories`.
#[derive(Deserialize)]
struct CatalogPage {
    /// `null` on a host without repositories.
    #[serde(deserialize_with = "present")]
    repositories: Option<Vec<String>>,
}

/// Reads a value that may be `null` but not absent.
fn present<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<String>>, D::Error> {
    Option::deserialize(deserializer)
}

impl RemoteRepository<'_> {
    /// Returns all repositories of the host, page by page, or `None` if it does not list them.
    ///
    /// The listing (`_catalog`) is an extension of CNCF distribution. Many hosts lack it, and others
    /// allow it for administrators only.
    pub(super) async fn catalog(&self) -> Result<Option<Vec<Repository>>, ItemError> {
        let malformed =
            |cause: String| self.error("list its repositories", ItemErrorKind::Malformed, cause);
        let access = || RequestAccess {
            path: Some(self.path.clone()),
            scopes: vec!["registry:catalog:*".to_owned()],
            challenge_path: Some(API_ROOT),
        };
        let mut limits = PageLimits::new();
        let mut found = Vec::new();
        let mut names = HashSet::new();
        let mut visited = HashSet::new();
        let mut target = RequestTarget::Path(format!("/v2/_catalog?n={PAGE_SIZE}"));
        loop {
            let mut request = Request::new(Method::GET, self.host, target, CATALOG, access());
            request.limit = MAX_PAGE_BYTES;
            let response = match self.http.send(request).await {
                Ok(response) => response,
                Err(error) if visited.is_empty() && is_denied(&error) => {
                    tracing::debug!(host = %self.host, %error, "the host does not list its repositories");
                    return Ok(None);
                }
                Err(error) => return Err(self.http_error("list its repositories", error)),
            };
            limits.begin(&response).map_err(malformed)?;
            let page = match serde_json::from_slice::<CatalogPage>(&response.body) {
                Ok(page) => page.repositories.unwrap_or_default(),
                // Some registries respond to unknown paths with an HTML page.
                Err(_) if visited.is_empty() => return Ok(None),
                Err(error) => {
                    return Err(
                        malformed("the response is not a list of repositories".to_owned())
                            .caused_by(error),
                    );
                }
            };
            let is_empty = page.is_empty();
            for name in page {
                match name.parse() {
                    Ok(path) if names.insert(name) => {
                        limits.count_new();
                        found.push(Repository::Remote {
                            host: self.host.clone(),
                            path,
                        });
                    }
                    Ok(_) => {}
                    Err(error) => limits.skip_invalid(&error),
                }
            }
            if found.len() > MAX_REPOSITORIES {
                return Err(malformed(format!(
                    "there are more than {MAX_REPOSITORIES} repositories"
                )));
            }
            visited.insert(response.url.clone());
            target = match link::next_page(&response, &visited).map_err(malformed)? {
                Some(url) if !is_empty => {
                    limits.check_next().map_err(malformed)?;
                    RequestTarget::Url(url)
                }
                _ => {
                    limits.log_invalid(self.host);
                    return Ok(Some(found));
                }
            };
        }
    }
}

fn is_denied(error: &http::Error) -> bool {
    match error {
        http::Error::Unauthorized { .. } => true,
        error => matches!(
            error.status().map(|status| status.as_u16()),
            Some(400 | 401 | 403 | 404 | 405 | 406 | 501)
        ),
    }
}
