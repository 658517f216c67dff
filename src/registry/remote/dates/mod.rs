//! Push dates of tags, from the APIs of Harbor, GitLab's registry, Quay, Gitea and Docker Hub.
//!
//! The interface of a host is found once in a run, by trying each. A response of another form rules
//! an interface out for the host. An error in the interface's own form does not: it may work for
//! other repositories. Docker Hub has a separate service.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::Mutex as AsyncMutex;

use super::classify::is_missing_interface;
use super::repository::RemoteRepository;
use crate::error::{ItemError, ItemErrorKind};
use crate::http::{self, Method, Request, RequestAccess, RequestKind, RequestTarget, StatusCode};
use crate::model::Host;
use crate::model::lock::lock;
use crate::registry::listing::{MAX_PAGE_BYTES, TagListing};
use crate::registry::store::{ListedTag, UntaggedManifest};

mod docker_hub;
mod interface;
#[cfg(test)]
mod tests;

use interface::{DateInterface, ListedEntries, PagePosition};

const DATES: RequestKind = RequestKind("push dates");

/// Interfaces that were found so far, by host.
#[derive(Default)]
pub(super) struct HostInterfaces(Mutex<HashMap<Host, Arc<AsyncMutex<HostInterface>>>>);

enum HostInterface {
    Found(DateInterface),
    /// Interfaces that are not ruled out.
    Possible(Vec<DateInterface>),
}

/// Result of a listing with push dates.
enum DatedListing {
    Read(TagListing),
    /// The interface may exist, but denies access to this repository.
    Denied,
    /// The host does not have this interface.
    Missing(ItemError),
}

impl HostInterfaces {
    fn of(&self, host: &Host) -> Arc<AsyncMutex<HostInterface>> {
        let mut hosts = lock(&self.0);
        Arc::clone(hosts.entry(host.clone()).or_insert_with(|| {
            Arc::new(AsyncMutex::new(HostInterface::Possible(
                DateInterface::possible(host),
            )))
        }))
    }
}

impl RemoteRepository<'_> {
    /// Returns the tags with their push dates, or `None` if the registry does not report these.
    pub(super) async fn push_dates(
        &self,
        interfaces: &HostInterfaces,
    ) -> Result<Option<Vec<ListedTag>>, ItemError> {
        if self.host.is_docker_hub() {
            return docker_hub::tags(self.http, self.path).await.map(Some);
        }
        let known = interfaces.of(self.host);
        // Locked until the interface is known, so that only one request tries each interface.
        let mut known = known.lock().await;
        let possible = match &*known {
            HostInterface::Found(interface) => {
                let interface = *interface;
                drop(known);
                return match self.dated_listing(interface, ListedEntries::Tags).await? {
                    DatedListing::Read(listing) => {
                        let tags = listing.into_tags(&self.full_name());
                        self.with_all_tags(interface, tags).await
                    }
                    DatedListing::Denied => Ok(None),
                    DatedListing::Missing(error) => Err(error),
                };
            }
            HostInterface::Possible(possible) => possible.clone(),
        };
        let mut remaining = Vec::new();
        for interface in possible {
            match self.dated_listing(interface, ListedEntries::Tags).await? {
                DatedListing::Read(listing) => {
                    let tags = listing.into_tags(&self.full_name());
                    *known = HostInterface::Found(interface);
                    drop(known);
                    return self.with_all_tags(interface, tags).await;
                }
                DatedListing::Denied => remaining.push(interface),
                DatedListing::Missing(error) => {
                    tracing::debug!(host = %self.host, ?interface, error = %crate::error::chain(&error), "the host does not have this interface");
                }
            }
        }
        *known = HostInterface::Possible(remaining);
        Ok(None)
    }

    /// Returns the tags of the registry with the dates of `dated`, if that may lack some of them.
    async fn with_all_tags(
        &self,
        interface: DateInterface,
        dated: Vec<ListedTag>,
    ) -> Result<Option<Vec<ListedTag>>, ItemError> {
        if !interface.lacks_tags() {
            return Ok(Some(dated));
        }
        let dates: HashMap<String, _> = dated
            .into_iter()
            .map(|listed| (listed.tag.as_str().to_ascii_lowercase(), listed.pushed_at))
            .collect();
        let mut tags = self.tags().await?.unwrap_or_default();
        for listed in &mut tags {
            let name = listed.tag.as_str().to_ascii_lowercase();
            listed.pushed_at = dates.get(&name).copied().flatten();
        }
        Ok(Some(tags))
    }

    /// Returns the manifests without a tag, or `None` if the interface of the host does not list
    /// them or is not known yet ([`push_dates`](Self::push_dates) finds it).
    pub(super) async fn untagged_manifests(
        &self,
        interfaces: &HostInterfaces,
    ) -> Result<Option<Vec<UntaggedManifest>>, ItemError> {
        let known = interfaces.of(self.host);
        let interface = match &*known.lock().await {
            HostInterface::Found(interface) if interface.lists_untagged() => *interface,
            _ => return Ok(None),
        };
        match self
            .dated_listing(interface, ListedEntries::Untagged)
            .await?
        {
            DatedListing::Read(listing) => Ok(Some(listing.into_untagged())),
            DatedListing::Denied => Ok(None),
            DatedListing::Missing(error) => Err(error),
        }
    }

    fn full_name(&self) -> String {
        format!("{}/{}", self.host, self.path)
    }

    async fn dated_listing(
        &self,
        interface: DateInterface,
        entries: ListedEntries,
    ) -> Result<DatedListing, ItemError> {
        let operation = || format!("list the tags of {} with their dates", self.path);
        let wrong = |cause: &str| self.error(operation(), ItemErrorKind::Malformed, cause);
        let mut listing = TagListing::default();
        let mut position = PagePosition {
            number: 1,
            last: None,
        };
        let mut auth_modes = interface.auth_modes().iter().copied();
        let mut auth_mode = auth_modes.next().unwrap_or_default();
        loop {
            let is_first = position.number == 1;
            let Some(path) = interface.path(self.path, entries, &position) else {
                return Ok(DatedListing::Denied);
            };
            let mut request = Request::new(
                Method::GET,
                self.host,
                RequestTarget::Path(path),
                DATES,
                RequestAccess {
                    challenge_path: None,
                    ..self.access("pull")
                },
            );
            request.limit = MAX_PAGE_BYTES;
            request.auth_mode = auth_mode;
            let response = match self.http.send(request).await {
                Ok(response) => response,
                Err(error) if is_first && is_denied(interface, &error) => match auth_modes.next() {
                    Some(other) if error.status() == Some(StatusCode::UNAUTHORIZED) => {
                        auth_mode = other;
                        continue;
                    }
                    _ => {
                        tracing::info!(host = %self.host, ?interface, %error, "access to the push dates of {} was denied", self.path);
                        return Ok(DatedListing::Denied);
                    }
                },
                Err(error) if is_first && is_missing_interface(&error) => {
                    return Ok(DatedListing::Missing(self.http_error(operation(), error)));
                }
                Err(error) => return Err(self.http_error(operation(), error)),
            };
            listing
                .begin_page(&response)
                .map_err(|cause| wrong(&cause))?;
            let page = match interface.read(self.path, &response, &mut listing) {
                Ok(page) => page,
                Err(error) => {
                    let error = wrong("the response is not a list of tags").caused_by(error);
                    return if is_first {
                        Ok(DatedListing::Missing(error))
                    } else {
                        Err(error)
                    };
                }
            };
            if !listing
                .end_page(page.length, page.more)
                .map_err(|cause| wrong(&cause))?
            {
                return Ok(DatedListing::Read(listing));
            }
            position = PagePosition {
                number: position.number + 1,
                last: page.last,
            };
        }
    }
}

/// Returns true if an interface denies access to a repository, or does not have it.
fn is_denied(interface: DateInterface, error: &http::Error) -> bool {
    match error {
        http::Error::Refused(refusal) => {
            matches!(refusal.status.as_u16(), 401 | 403 | 404) && interface.is_own(refusal)
        }
        http::Error::Unauthorized { .. } => true,
        _ => false,
    }
}
