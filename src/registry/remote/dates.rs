//! When tags were pushed, as some registries tell by interfaces of their own: Harbor, GitLab's registry, Quay.
//!
//! Which of them a host has shows when it is asked, once in a run: an answer of another form rules an interface out for the
//! host, a refusal in the interface's own words leaves it open for other repositories. Docker Hub has a service apart.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex as AsyncMutex;

use super::{RemoteRepository, link};
use crate::http::{self, Answer, Kind, LogIn, Method, Refusal, Request, Target};
use crate::model::{Host, RepositoryPath};
use crate::registry::listing::{LARGEST_PAGE, Listing, time, unix_time};
use crate::registry::{PlaceError, PlaceErrorKind, TagSeen, hub};

/// Entries asked for at once: the most that Harbor and Quay give.
const PAGE: usize = 100;

/// The most that GitLab's registry gives.
const GITLAB_PAGE: usize = 1_000;

const DATES: Kind = Kind("push dates");

/// An interface that tells when tags were pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Interface {
    /// Harbor's API 2.0, "List artifacts" (`api/v2.0/swagger.yaml` of goharbor/harbor).
    Harbor,
    /// "List repository tags" of GitLab's own API in its registry (`docs/spec/gitlab/api.md` of gitlab-org/container-registry).
    Gitlab,
    /// Quay's API, `listRepoTags` (Red Hat Quay API reference; `endpoints/api/tag.py` of quay/quay).
    Quay,
}

/// What hosts were found to have so far.
#[derive(Default)]
pub(super) struct Interfaces(Mutex<HashMap<Host, Arc<AsyncMutex<Known>>>>);

enum Known {
    Found(Interface),
    /// Those that were not ruled out.
    Possible(Vec<Interface>),
}

/// What came of asking for a listing.
enum Outcome {
    Tags(Vec<TagSeen>),
    /// The interface is there, or may be, and does not tell of this repository.
    Withheld,
    /// The host does not have this interface.
    Missing(PlaceError),
}

/// Where a page begins.
struct Position {
    /// From 1 on.
    number: usize,
    /// The last name of the page before.
    last: Option<String>,
}

/// What a page said.
struct Page {
    length: usize,
    last: Option<String>,
    more: bool,
}

impl Interfaces {
    fn of(&self, host: &Host) -> Arc<AsyncMutex<Known>> {
        let mut hosts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(hosts.entry(host.clone()).or_insert_with(|| Arc::new(AsyncMutex::new(Known::Possible(Interface::possible(host))))))
    }
}

impl Interface {
    fn possible(host: &Host) -> Vec<Interface> {
        match host.as_str() {
            "quay.io" => vec![Interface::Quay],
            "registry.gitlab.com" => vec![Interface::Gitlab],
            _ => vec![Interface::Harbor, Interface::Gitlab, Interface::Quay],
        }
    }

    /// Returns the path of a page, or `None` for a repository that the interface cannot name.
    fn path(self, repository: &RepositoryPath, position: &Position) -> Option<String> {
        let number = position.number;
        Some(match self {
            Interface::Harbor => {
                let (project, name) = repository.as_str().split_once('/')?;
                // A slash in the name is encoded twice (description of `repository_name` in Harbor's API).
                let name = name.replace('/', "%252F");
                format!(
                    "/api/v2.0/projects/{project}/repositories/{name}/artifacts\
                     ?with_tag=true&q=tags%3D*&page_size={PAGE}&page={number}"
                )
            }
            Interface::Gitlab => {
                let last = position.last.iter().flat_map(|last| ["&last=".into(), encoded(last)]);
                format!("/gitlab/v1/repositories/{repository}/tags/list/?n={GITLAB_PAGE}{}", last.collect::<String>())
            }
            Interface::Quay => format!("/api/v1/repository/{repository}/tag/?onlyActiveTags=true&limit={PAGE}&page={number}"),
        })
    }

    /// Returns the ways to log in, the first that is tried first.
    fn log_ins(self) -> &'static [LogIn] {
        match self {
            // Tokens of the registry are not taken here. The password is sent only when public projects are not all.
            Interface::Harbor => &[LogIn::Never, LogIn::Basic],
            Interface::Gitlab => &[LogIn::AsAsked],
            // It takes tokens of its own kind, which registry logins are not: public repositories only.
            Interface::Quay => &[LogIn::Never],
        }
    }

    /// Returns whether a refusal has the interface's own form, rather than that of a host that does not know the path.
    fn is_own(self, refusal: &Refusal) -> bool {
        let has_code = |codes: &[&str]| refusal.problems.iter().any(|problem| codes.contains(&problem.code.as_str()));
        match self {
            Interface::Harbor => has_code(&["NOT_FOUND", "UNAUTHORIZED", "FORBIDDEN"]),
            Interface::Gitlab => has_code(&["NAME_UNKNOWN", "NAME_INVALID", "UNAUTHORIZED", "DENIED"]),
            Interface::Quay => refusal.excerpt.contains("\"error_type\""),
        }
    }

    /// Adds the tags of a page to `listing`. Fails when it has another form.
    fn read(self, answer: &Answer, listing: &mut Listing) -> Result<Page, serde_json::Error> {
        match self {
            Interface::Harbor => {
                let page: Vec<HarborArtifact> = parse(answer)?;
                let length = page.len();
                for artifact in page {
                    for tag in artifact.tags.unwrap_or_default() {
                        listing.add(tag.name, tag.push_time.as_deref().and_then(time), Some(&artifact.digest));
                    }
                }
                Ok(Page { length, last: None, more: length >= PAGE || link::next(&answer.headers).is_some() })
            }
            Interface::Gitlab => {
                let page: Vec<GitlabTag> = parse(answer)?;
                let (length, last) = (page.len(), page.last().map(|tag| tag.name.clone()));
                for tag in page {
                    // All three are of the tag, not of its image. Older registries have no `published_at`.
                    let pushed_at = tag.published_at.or(tag.updated_at).or(tag.created_at);
                    listing.add(tag.name, pushed_at.as_deref().and_then(time), tag.digest.as_deref());
                }
                Ok(Page { length, last, more: link::next(&answer.headers).is_some() })
            }
            Interface::Quay => {
                let page: QuayPage = parse(answer)?;
                let length = page.tags.len();
                for tag in page.tags {
                    listing.add(tag.name, tag.start_ts.and_then(unix_time), tag.manifest_digest.as_deref());
                }
                Ok(Page { length, last: None, more: page.has_additional })
            }
        }
    }
}

#[derive(Deserialize)]
struct HarborArtifact {
    digest: String,
    /// `null` without tags.
    tags: Option<Vec<HarborTag>>,
}

#[derive(Deserialize)]
struct HarborTag {
    name: String,
    push_time: Option<String>,
}

#[derive(Deserialize)]
struct GitlabTag {
    name: String,
    digest: Option<String>,
    published_at: Option<String>,
    updated_at: Option<String>,
    created_at: Option<String>,
}

#[derive(Deserialize)]
struct QuayPage {
    tags: Vec<QuayTag>,
    has_additional: bool,
}

#[derive(Deserialize)]
struct QuayTag {
    name: String,
    /// Since when the tag is what it is, in seconds since 1970.
    start_ts: Option<i64>,
    manifest_digest: Option<String>,
}

fn parse<T: DeserializeOwned>(answer: &Answer) -> Result<T, serde_json::Error> {
    serde_json::from_slice(&answer.body)
}

fn encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

impl RemoteRepository<'_> {
    /// Returns the tags with the times they were pushed, or `None` when the registry does not tell these.
    pub(super) async fn push_dates(&self, interfaces: &Interfaces) -> Result<Option<Vec<TagSeen>>, PlaceError> {
        if self.host.is_docker_hub() {
            return hub::tags(self.http, self.path).await.map(Some);
        }
        let known = interfaces.of(self.host);
        // Held until the host is known, so that others learn from it instead of asking too.
        let mut known = known.lock().await;
        let possible = match &*known {
            Known::Found(interface) => {
                let interface = *interface;
                drop(known);
                return match self.dated_listing(interface).await? {
                    Outcome::Tags(tags) => Ok(Some(tags)),
                    Outcome::Withheld => Ok(None),
                    Outcome::Missing(error) => Err(error),
                };
            }
            Known::Possible(possible) => possible.clone(),
        };
        let mut left = Vec::new();
        for interface in possible {
            match self.dated_listing(interface).await? {
                Outcome::Tags(tags) => {
                    *known = Known::Found(interface);
                    return Ok(Some(tags));
                }
                Outcome::Withheld => left.push(interface),
                Outcome::Missing(error) => {
                    tracing::debug!(host = %self.host, ?interface, error = %crate::error::chain(&error), "not an interface of this host");
                }
            }
        }
        *known = Known::Possible(left);
        Ok(None)
    }

    async fn dated_listing(&self, interface: Interface) -> Result<Outcome, PlaceError> {
        let action = || format!("list the tags of {} with their dates", self.path);
        let wrong = |detail: &str| self.wrong(action(), PlaceErrorKind::Malformed, detail);
        let mut listing = Listing::default();
        let mut position = Position { number: 1, last: None };
        let mut log_ins = interface.log_ins().iter().copied();
        let mut log_in = log_ins.next().unwrap_or_default();
        loop {
            let is_first = position.number == 1;
            let Some(path) = interface.path(self.path, &position) else { return Ok(Outcome::Withheld) };
            let mut request = Request::new(Method::GET, self.host, Target::Path(path), DATES, self.access("pull"));
            request.limit = LARGEST_PAGE;
            request.log_in = log_in;
            let answer = match self.http.send(request).await {
                Ok(answer) => answer,
                Err(error) if is_first && is_withheld(interface, &error) => match log_ins.next() {
                    Some(other) if error.status().is_some_and(|status| status.as_u16() == 401) => {
                        log_in = other;
                        continue;
                    }
                    _ => {
                        tracing::info!(host = %self.host, ?interface, %error, "push dates of {} are not told", self.path);
                        return Ok(Outcome::Withheld);
                    }
                },
                Err(error) if is_first && is_missing(&error) => return Ok(Outcome::Missing(self.failed(action(), error))),
                Err(error) => return Err(self.failed(action(), error)),
            };
            let page = match interface.read(&answer, &mut listing) {
                Ok(page) => page,
                Err(error) => {
                    let error = wrong("the answer is no list of tags").caused_by(error);
                    return if is_first { Ok(Outcome::Missing(error)) } else { Err(error) };
                }
            };
            if !listing.end_page(page.length, page.more).map_err(|detail| wrong(&detail))? {
                return Ok(Outcome::Tags(listing.into_tags()));
            }
            position = Position { number: position.number + 1, last: page.last };
        }
    }
}

/// Returns whether an interface refuses to tell of a repository, or does not know it.
fn is_withheld(interface: Interface, error: &http::Error) -> bool {
    match error {
        http::Error::Refused(refusal) => matches!(refusal.status.as_u16(), 401 | 403 | 404) && interface.is_own(refusal),
        http::Error::Unauthorized { .. } => true,
        _ => false,
    }
}

/// Returns whether an answer is that of a host without the interface. Failures that can pass are not.
fn is_missing(error: &http::Error) -> bool {
    match error {
        http::Error::Refused(refusal) => match refusal.status.as_u16() {
            408 | 429 => false,
            status => status < 500 || status == 501,
        },
        http::Error::Misled { .. } | http::Error::TooLarge { .. } | http::Error::Malformed { .. } => true,
        _ => false,
    }
}
