//! Listing tags.

use std::collections::HashSet;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::classify::is_unknown_repository;
use super::repository::RemoteRepository;
use crate::error::{ItemError, ItemErrorKind};
use crate::http::{self, Method, RequestKind, RequestTarget, Response, Url, link};
use crate::model::Tag;
use crate::registry::listing::{MAX_PAGE_BYTES, MAX_TAGS, PageLimits};
use crate::registry::store::{ListedTag, ProvedTags};

/// Number of tags per page. Amazon's registry allows no more.
const PAGE_SIZE: usize = 1_000;

const LISTING: RequestKind = RequestKind("listing");

/// Header of the registry of the distribution project, with [`DISTRIBUTION`] as its value.
const API_VERSION_HEADER: &str = "docker-distribution-api-version";

const DISTRIBUTION: &str = "registry/2.0";

/// A page of a tag listing. It always has the key `tags`: a page without it is not a listing.
#[derive(Deserialize)]
pub(super) struct TagsPage {
    /// `null` in a repository without tags.
    #[serde(deserialize_with = "present")]
    tags: Option<Vec<String>>,
    #[serde(default)]
    errors: Option<Vec<IgnoredAny>>,
}

/// Reads a value that may be `null` but not absent.
fn present<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<String>>, D::Error> {
    Option::deserialize(deserializer)
}

impl TagsPage {
    /// Returns the tags of a page. Fails with the reason if the response is not a page of tags.
    pub(super) fn names(body: &[u8]) -> Result<Vec<String>, PageError> {
        let page: TagsPage = serde_json::from_slice(body).map_err(PageError::NotAList)?;
        match page.errors {
            Some(errors) if !errors.is_empty() => Err(PageError::Errors),
            _ => Ok(page.tags.unwrap_or_default()),
        }
    }
}

/// Reason why a response is not a page of tags.
#[derive(Debug, thiserror::Error)]
pub(super) enum PageError {
    #[error("the response is not a list of tags")]
    NotAList(#[source] serde_json::Error),
    #[error("the response has errors instead of a list of tags")]
    Errors,
}

/// Pages of a listing that is being read.
struct TagPages {
    limits: PageLimits,
    tags: Vec<ListedTag>,
    /// Names of all pages, also invalid ones.
    names: HashSet<String>,
    visited: HashSet<Url>,
    /// Name at the end of the last page that has any.
    last: Option<String>,
}

/// Result of reading a page and all pages that it links to.
#[derive(Default)]
struct PageSequence {
    /// Number of names on the pages.
    listed: usize,
    /// Number of these names that were on no earlier page.
    new: usize,
    /// True if a request for the tags after the last one returned none.
    is_end_proved: bool,
}

impl TagPages {
    fn new() -> TagPages {
        TagPages {
            limits: PageLimits::new(),
            tags: Vec::new(),
            names: HashSet::new(),
            visited: HashSet::new(),
            last: None,
        }
    }

    /// Adds the names of a page. Returns the number of new ones.
    fn add(&mut self, names: Vec<String>) -> usize {
        let before = self.names.len();
        if let Some(last) = names.last() {
            self.last = Some(last.clone());
        }
        for name in names {
            if self.names.contains(&name) {
                continue;
            }
            match name.parse::<Tag>() {
                Ok(tag) => {
                    self.limits.count_new();
                    self.tags.push(ListedTag::named(tag));
                }
                Err(error) => self.limits.skip_invalid(&error),
            }
            self.names.insert(name);
        }
        self.names.len() - before
    }
}

impl RemoteRepository<'_> {
    /// Returns all tags, page by page, or `None` if there is no such repository.
    pub(super) async fn tags(&self) -> Result<Option<Vec<ListedTag>>, ItemError> {
        let mut pages = TagPages::new();
        let found = self.read_pages(&mut pages, None).await?;
        self.log_invalid(&pages);
        Ok(found.map(|_| pages.tags))
    }

    /// Returns all tags like [`tags`](Self::tags), and proves that the listing has ended.
    ///
    /// A registry, or a proxy in front of it, can send short pages without a link to the next one.
    /// So one more request lists the tags after the last one. If it returns new tags, reading
    /// continues; if it returns none, the listing is complete. Registries that ignore `last` send
    /// the same tags again, which proves nothing.
    ///
    /// The exception is version 2 of CNCF distribution, which sends all tags in every response. It
    /// is recognised by its header, and by ignoring `n` as well.
    pub(super) async fn proved_tags(&self) -> Result<Option<ProvedTags>, ItemError> {
        let mut pages = TagPages::new();
        let Some(mut sequence) = self.read_pages(&mut pages, None).await? else {
            return Ok(None);
        };
        let mut doubt = None;
        while let Some(last) = pages.last.clone().filter(|_| !sequence.is_end_proved) {
            let known = pages.names.len();
            sequence = match self.read_pages(&mut pages, Some(&last)).await {
                Ok(found) => found.unwrap_or_default(),
                Err(error) if is_refusal(&error) => {
                    doubt = Some(format!(
                        "the registry refuses to list the tags after `{last}`: {}",
                        error.cause
                    ));
                    break;
                }
                Err(error) => return Err(error),
            };
            let is_last = pages.last.as_ref() == Some(&last);
            match sequence {
                PageSequence {
                    is_end_proved: true,
                    ..
                } => break,
                PageSequence { new: 1.., .. } if !is_last => {}
                // Some registries begin with the tag itself.
                PageSequence { listed: 1, .. } if is_last && known > 1 => break,
                _ => {
                    if !self.sends_all_tags(&pages).await? {
                        doubt = Some(format!(
                            "the registry repeats tags instead of listing those after `{last}`"
                        ));
                    }
                    break;
                }
            }
        }
        self.log_invalid(&pages);
        Ok(Some(ProvedTags {
            tags: pages.tags,
            doubt,
        }))
    }

    /// Returns true if the registry sends all tags in every response: its header is that of CNCF
    /// distribution, and a request for fewer tags returns exactly those of `pages`.
    async fn sends_all_tags(&self, pages: &TagPages) -> Result<bool, ItemError> {
        let fewer = usize::from(pages.names.len() > 1);
        let mut request = self.tags_request(fewer, None);
        request.limit = MAX_PAGE_BYTES;
        let response = match self.http.send(request).await {
            Ok(response) => response,
            Err(error) => {
                let error = self.http_error(self.list_action(), error);
                return if is_refusal(&error) {
                    Ok(false)
                } else {
                    Err(error)
                };
            }
        };
        let is_distribution = response
            .header(API_VERSION_HEADER)
            .is_some_and(|version| version.trim() == DISTRIBUTION);
        let names: HashSet<String> = self.page(&response)?.into_iter().collect();
        Ok(is_distribution && link::next(&response.headers).is_none() && names == pages.names)
    }

    /// Reads the pages that follow the tag `after`, or all pages. Returns `None` if there is no such
    /// repository.
    async fn read_pages(
        &self,
        pages: &mut TagPages,
        after: Option<&str>,
    ) -> Result<Option<PageSequence>, ItemError> {
        let malformed =
            |cause: String| self.error(self.list_action(), ItemErrorKind::Malformed, cause);
        let mut sequence = PageSequence::default();
        let mut asks_for_rest = after.is_some();
        let mut request = self.tags_request(PAGE_SIZE, after);
        loop {
            request.limit = MAX_PAGE_BYTES;
            let response = match self.http.send(request).await {
                Ok(response) => response,
                Err(error) if pages.visited.is_empty() && is_unknown_repository(&error) => {
                    return Ok(None);
                }
                Err(error) => return Err(self.http_error(self.list_action(), error)),
            };
            pages.limits.begin(&response).map_err(malformed)?;
            let page = self.page(&response)?;
            let (length, last) = (page.len(), page.last().cloned());
            sequence.listed += length;
            sequence.new += pages.add(page);
            if pages.tags.len() > MAX_TAGS {
                return Err(malformed(format!("there are more than {MAX_TAGS} tags")));
            }
            pages.visited.insert(response.url.clone());
            if asks_for_rest && !pages.limits.has_new() {
                sequence.is_end_proved = length == 0;
                return Ok(Some(sequence));
            }
            let next = if length == 0 {
                None
            } else {
                link::next_page(&response, &pages.visited).map_err(malformed)?
            };
            request = match (next, last) {
                (Some(url), _) => {
                    asks_for_rest = false;
                    pages.limits.check_next().map_err(malformed)?;
                    http::Request::new(
                        Method::GET,
                        self.host,
                        RequestTarget::Url(url),
                        LISTING,
                        self.access("pull"),
                    )
                }
                // Old versions of Gitea send no link to the next page.
                (None, Some(last)) if length == PAGE_SIZE && pages.limits.has_new() => {
                    asks_for_rest = true;
                    self.tags_request(PAGE_SIZE, Some(&last))
                }
                (None, _) => return Ok(Some(sequence)),
            };
        }
    }

    fn page(&self, response: &Response) -> Result<Vec<String>, ItemError> {
        TagsPage::names(&response.body).map_err(|error| {
            let text = error.to_string();
            let failed = self.error(self.list_action(), ItemErrorKind::Malformed, text);
            match error {
                PageError::NotAList(cause) => failed.caused_by(cause),
                PageError::Errors => failed,
            }
        })
    }

    fn tags_request(&self, size: usize, after: Option<&str>) -> http::Request {
        let last = after.map_or_else(String::new, |last| {
            let encoded: String = url::form_urlencoded::byte_serialize(last.as_bytes()).collect();
            format!("&last={encoded}")
        });
        let path = format!("tags/list?n={size}{last}");
        self.request(Method::GET, &path, LISTING, "pull")
    }

    fn list_action(&self) -> String {
        format!("list the tags of {}", self.path)
    }

    fn log_invalid(&self, pages: &TagPages) {
        pages
            .limits
            .log_invalid(&format_args!("{}/{}", self.host, self.path));
    }
}

/// Returns true if a registry does not accept a request, and would not accept it later.
fn is_refusal(error: &ItemError) -> bool {
    matches!(
        error.kind,
        ItemErrorKind::Refused
            | ItemErrorKind::Absent
            | ItemErrorKind::Unsupported
            | ItemErrorKind::Forbidden
    )
}
