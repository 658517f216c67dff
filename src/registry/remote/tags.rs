//! Listing tags.

use std::collections::HashSet;

use serde::Deserialize;

use super::classify::is_unknown_repository;
use super::repository::RemoteRepository;
use crate::error::{ItemError, ItemErrorKind};
use crate::http::{self, Method, RequestKind, RequestTarget, link};
use crate::model::Tag;
use crate::registry::listing::{MAX_PAGE_BYTES, MAX_TAGS, PageLimits};
use crate::registry::store::ListedTag;

/// Number of tags per page. Amazon's registry allows no more.
const PAGE_SIZE: usize = 1_000;

const LISTING: RequestKind = RequestKind("listing");

#[derive(Deserialize)]
struct TagsPage {
    /// `null` in a repository without tags.
    tags: Option<Vec<String>>,
}

impl RemoteRepository<'_> {
    /// Returns all tags, page by page, or `None` if there is no such repository.
    pub(super) async fn tags(&self) -> Result<Option<Vec<ListedTag>>, ItemError> {
        let operation = || format!("list the tags of {}", self.path);
        let malformed = |cause: String| self.error(operation(), ItemErrorKind::Malformed, cause);
        let mut limits = PageLimits::new();
        let mut tags = Vec::new();
        let mut names = HashSet::new();
        let mut visited = HashSet::new();
        let mut request = self.request(
            Method::GET,
            &format!("tags/list?n={PAGE_SIZE}"),
            LISTING,
            "pull",
        );
        loop {
            request.limit = MAX_PAGE_BYTES;
            let response = match self.http.send(request).await {
                Ok(response) => response,
                Err(error) if visited.is_empty() && is_unknown_repository(&error) => {
                    return Ok(None);
                }
                Err(error) => return Err(self.http_error(operation(), error)),
            };
            limits.begin(&response).map_err(malformed)?;
            let page: TagsPage = serde_json::from_slice(&response.body).map_err(|error| {
                malformed("the response is not a list of tags".to_owned()).caused_by(error)
            })?;
            let page = page.tags.unwrap_or_default();
            for name in &page {
                match name.parse::<Tag>() {
                    Ok(tag) if names.insert(tag.clone()) => {
                        limits.count_new();
                        tags.push(ListedTag::named(tag));
                    }
                    Ok(_) => {}
                    Err(error) => limits.skip_invalid(&error),
                }
            }
            if tags.len() > MAX_TAGS {
                return Err(malformed(format!("there are more than {MAX_TAGS} tags")));
            }
            visited.insert(response.url.clone());
            let next = if page.is_empty() {
                None
            } else {
                link::next_page(&response, &visited).map_err(malformed)?
            };
            request = match (next, page.last()) {
                (Some(url), _) => {
                    limits.check_next().map_err(malformed)?;
                    http::Request::new(
                        Method::GET,
                        self.host,
                        RequestTarget::Url(url),
                        LISTING,
                        self.access("pull"),
                    )
                }
                // Old versions of Gitea send no link to the next page.
                (None, Some(last)) if page.len() == PAGE_SIZE && limits.has_new() => {
                    let last: String =
                        url::form_urlencoded::byte_serialize(last.as_bytes()).collect();
                    self.request(
                        Method::GET,
                        &format!("tags/list?n={PAGE_SIZE}&last={last}"),
                        LISTING,
                        "pull",
                    )
                }
                (None, _) => {
                    limits.log_invalid(&format_args!("{}/{}", self.host, self.path));
                    return Ok(Some(tags));
                }
            };
        }
    }
}
