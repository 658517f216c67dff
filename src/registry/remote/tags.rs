//! Listing tags.

use std::collections::HashSet;

use serde::Deserialize;

use super::{RemoteRepository, is_not_found};
use crate::http::{self, Kind, Method, Target, next_link};
use crate::model::Tag;
use crate::model::text::excerpt;
use crate::registry::{PlaceError, PlaceErrorKind, TagSeen};

/// Tags asked for at once: the most that Amazon's registry allows.
const PAGE: usize = 1_000;

const LARGEST_PAGE: usize = 8 * 1024 * 1024;
const MOST_TAGS: usize = 1_000_000;

const LISTING: Kind = Kind("listing");

#[derive(Deserialize)]
struct Page {
    /// `null` in a repository without tags.
    tags: Option<Vec<String>>,
}

impl RemoteRepository<'_> {
    /// Returns all tags, page by page, or `None` when the registry knows no such repository.
    pub(super) async fn tags(&self) -> Result<Option<Vec<TagSeen>>, PlaceError> {
        let action = || format!("list the tags of {}", self.path);
        let broken = |detail: String| self.wrong(action(), PlaceErrorKind::Malformed, detail);
        let mut tags = Vec::new();
        let mut names = HashSet::new();
        let mut visited = HashSet::new();
        let mut request = self.request(Method::GET, &format!("tags/list?n={PAGE}"), LISTING, "pull");
        loop {
            request.limit = LARGEST_PAGE;
            let answer = match self.http.send(request).await {
                Ok(answer) => answer,
                Err(error) if visited.is_empty() && is_unknown(&error) => return Ok(None),
                Err(error) => return Err(self.failed(action(), error)),
            };
            let page: Page = serde_json::from_slice(&answer.body)
                .map_err(|error| broken("the answer is no list of tags".to_owned()).caused_by(error))?;
            let page = page.tags.unwrap_or_default();
            let (length, known) = (page.len(), names.len());
            let last = page.last().cloned();
            for name in page {
                if !names.insert(name.clone()) {
                    continue;
                }
                match name.parse::<Tag>() {
                    Ok(tag) => tags.push(TagSeen::named(tag)),
                    Err(error) => tracing::warn!(repository = %format!("{}/{}", self.host, self.path), %error, "a tag is left out"),
                }
            }
            if names.len() > MOST_TAGS {
                return Err(broken(format!("there are more than {MOST_TAGS} tags")));
            }
            let Some(last) = last else { return Ok(Some(tags)) };
            visited.insert(answer.url.clone());
            request = match next_link(&answer.headers) {
                Some(link) => {
                    let url =
                        answer.url.join(link).map_err(|error| broken("the next page's address is none".to_owned()).caused_by(error))?;
                    if url.origin() != answer.url.origin() {
                        let host = url.host_str().map(|host| excerpt(host, 100)).unwrap_or_default();
                        return Err(broken(format!("the next page is said to be at another place ({}://{host})", url.scheme())));
                    }
                    if visited.contains(&url) {
                        return Err(broken("its pages lead back to one that was read".to_owned()));
                    }
                    http::Request::new(Method::GET, self.host, Target::Url(url), LISTING, self.access("pull"))
                }
                // Old versions of Gitea cut a listing without saying so.
                None if length == PAGE && names.len() > known => {
                    let last: String = url::form_urlencoded::byte_serialize(last.as_bytes()).collect();
                    self.request(Method::GET, &format!("tags/list?n={PAGE}&last={last}"), LISTING, "pull")
                }
                None => return Ok(Some(tags)),
            };
        }
    }
}

fn is_unknown(error: &http::Error) -> bool {
    is_not_found(error) || error.has_code("NAME_UNKNOWN")
}
