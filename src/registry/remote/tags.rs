//! Listing tags.

use std::collections::HashSet;

use serde::Deserialize;

use super::{RemoteRepository, is_not_found, link};
use crate::error::{ItemError, ItemErrorKind};
use crate::http::{self, Method, RequestKind, RequestTarget};
use crate::model::Tag;
use crate::registry::TagSeen;
use crate::registry::listing::{LARGEST_PAGE, MOST_TAGS, Pages};

/// Tags asked for at once: the most that Amazon's registry allows.
const PAGE: usize = 1_000;

const LISTING: RequestKind = RequestKind("listing");

#[derive(Deserialize)]
struct Page {
    /// `null` in a repository without tags.
    tags: Option<Vec<String>>,
}

impl RemoteRepository<'_> {
    /// Returns all tags, page by page, or `None` when the registry knows no such repository.
    pub(super) async fn tags(&self) -> Result<Option<Vec<TagSeen>>, ItemError> {
        let action = || format!("list the tags of {}", self.path);
        let broken = |detail: String| self.wrong(action(), ItemErrorKind::Malformed, detail);
        let mut pages = Pages::new();
        let mut tags = Vec::new();
        let mut names = HashSet::new();
        let mut visited = HashSet::new();
        let mut request =
            self.request(Method::GET, &format!("tags/list?n={PAGE}"), LISTING, "pull");
        loop {
            request.limit = LARGEST_PAGE;
            let answer = match self.http.send(request).await {
                Ok(answer) => answer,
                Err(error) if visited.is_empty() && is_unknown(&error) => return Ok(None),
                Err(error) => return Err(self.failed(action(), error)),
            };
            pages.begin(&answer).map_err(broken)?;
            let page: Page = serde_json::from_slice(&answer.body).map_err(|error| {
                broken("the answer is no list of tags".to_owned()).caused_by(error)
            })?;
            let page = page.tags.unwrap_or_default();
            for name in &page {
                match name.parse::<Tag>() {
                    Ok(tag) if names.insert(tag.clone()) => {
                        pages.found();
                        tags.push(TagSeen::named(tag));
                    }
                    Ok(_) => {}
                    Err(error) => pages.leave_out(&error),
                }
            }
            if tags.len() > MOST_TAGS {
                return Err(broken(format!("there are more than {MOST_TAGS} tags")));
            }
            visited.insert(answer.url.clone());
            let next = if page.is_empty() {
                None
            } else {
                link::next_page(&answer, &visited).map_err(broken)?
            };
            request = match (next, page.last()) {
                (Some(url), _) => {
                    pages.check_next().map_err(broken)?;
                    http::Request::new(
                        Method::GET,
                        self.host,
                        RequestTarget::Url(url),
                        LISTING,
                        self.access("pull"),
                    )
                }
                // Old versions of Gitea cut a listing without saying so.
                (None, Some(last)) if page.len() == PAGE && pages.has_new() => {
                    let last: String =
                        url::form_urlencoded::byte_serialize(last.as_bytes()).collect();
                    self.request(
                        Method::GET,
                        &format!("tags/list?n={PAGE}&last={last}"),
                        LISTING,
                        "pull",
                    )
                }
                (None, _) => {
                    pages.tell_left_out(&format_args!("{}/{}", self.host, self.path));
                    return Ok(Some(tags));
                }
            };
        }
    }
}

fn is_unknown(error: &http::Error) -> bool {
    is_not_found(error) || error.has_code("NAME_UNKNOWN")
}
