//! Listing the repositories of a host.

use std::collections::HashSet;

use serde::Deserialize;

use super::{RemoteRepository, link};
use crate::error::{ItemError, ItemErrorKind};
use crate::http::{self, Method, Request, RequestAccess, RequestKind, RequestTarget};
use crate::model::Repository;
use crate::registry::listing::{LARGEST_PAGE, Pages};

const PAGE: usize = 1_000;
const MOST_REPOSITORIES: usize = 100_000;

const CATALOG: RequestKind = RequestKind("catalog");

#[derive(Deserialize)]
struct Page {
    repositories: Option<Vec<String>>,
}

impl RemoteRepository<'_> {
    /// Returns all repositories of the host, page by page, or `None` when it does not tell them:
    /// the listing is an extension of CNCF distribution (`_catalog`), which many hosts lack and
    /// others give to administrators only.
    pub(super) async fn catalog(&self) -> Result<Option<Vec<Repository>>, ItemError> {
        let broken =
            |detail: String| self.wrong("list its repositories", ItemErrorKind::Malformed, detail);
        let access = || RequestAccess {
            path: Some(self.path.clone()),
            scopes: vec!["registry:catalog:*".to_owned()],
        };
        let mut pages = Pages::new();
        let mut found = Vec::new();
        let mut names = HashSet::new();
        let mut visited = HashSet::new();
        let mut target = RequestTarget::Path(format!("/v2/_catalog?n={PAGE}"));
        loop {
            let mut request = Request::new(Method::GET, self.host, target, CATALOG, access());
            request.limit = LARGEST_PAGE;
            let answer = match self.http.send(request).await {
                Ok(answer) => answer,
                Err(error) if visited.is_empty() && is_withheld(&error) => {
                    tracing::debug!(host = %self.host, %error, "the host does not list its repositories");
                    return Ok(None);
                }
                Err(error) => return Err(self.failed("list its repositories", error)),
            };
            pages.begin(&answer).map_err(broken)?;
            let page = match serde_json::from_slice::<Page>(&answer.body) {
                Ok(page) => page.repositories.unwrap_or_default(),
                // Some registries answer everything they do not know with a page of their web site.
                Err(_) if visited.is_empty() => return Ok(None),
                Err(error) => {
                    return Err(
                        broken("the answer is no list of repositories".to_owned()).caused_by(error)
                    );
                }
            };
            let is_empty = page.is_empty();
            for name in page {
                match name.parse() {
                    Ok(path) if names.insert(name) => {
                        pages.found();
                        found.push(Repository::Remote {
                            host: self.host.clone(),
                            path,
                        });
                    }
                    Ok(_) => {}
                    Err(error) => pages.leave_out(&error),
                }
            }
            if found.len() > MOST_REPOSITORIES {
                return Err(broken(format!(
                    "there are more than {MOST_REPOSITORIES} repositories"
                )));
            }
            visited.insert(answer.url.clone());
            target = match link::next_page(&answer, &visited).map_err(broken)? {
                Some(url) if !is_empty => {
                    pages.check_next().map_err(broken)?;
                    RequestTarget::Url(url)
                }
                _ => {
                    pages.tell_left_out(self.host);
                    return Ok(Some(found));
                }
            };
        }
    }
}

fn is_withheld(error: &http::Error) -> bool {
    match error {
        http::Error::Unauthorized { .. } => true,
        error => matches!(
            error.status().map(|status| status.as_u16()),
            Some(400 | 401 | 403 | 404 | 405 | 406 | 501)
        ),
    }
}
