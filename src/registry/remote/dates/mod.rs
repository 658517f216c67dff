//! When tags were pushed, as some registries tell by interfaces of their own: Harbor, GitLab's
//! registry, Quay.
//!
//! Which of them a host has shows when it is asked, once in a run: an answer of another form rules
//! an interface out for the host, a refusal in the interface's own words leaves it open for other
//! repositories. Docker Hub has a service apart.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::Mutex as AsyncMutex;

use super::RemoteRepository;
use crate::error::{ItemError, ItemErrorKind};
use crate::http::{self, Method, Request, RequestKind, RequestTarget, StatusCode};
use crate::model::Host;
use crate::model::lock::lock;
use crate::registry::listing::{LARGEST_PAGE, Listing};
use crate::registry::{TagSeen, hub};

mod interface;
#[cfg(test)]
mod tests;

use interface::{Interface, Position};

const DATES: RequestKind = RequestKind("push dates");

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
    Missing(ItemError),
}

impl Interfaces {
    fn of(&self, host: &Host) -> Arc<AsyncMutex<Known>> {
        let mut hosts = lock(&self.0);
        Arc::clone(hosts.entry(host.clone()).or_insert_with(|| {
            Arc::new(AsyncMutex::new(Known::Possible(Interface::possible(host))))
        }))
    }
}

impl RemoteRepository<'_> {
    /// Returns the tags with the times they were pushed, or `None` when the registry does not tell
    /// these.
    pub(super) async fn push_dates(
        &self,
        interfaces: &Interfaces,
    ) -> Result<Option<Vec<TagSeen>>, ItemError> {
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

    async fn dated_listing(&self, interface: Interface) -> Result<Outcome, ItemError> {
        let action = || format!("list the tags of {} with their dates", self.path);
        let wrong = |detail: &str| self.wrong(action(), ItemErrorKind::Malformed, detail);
        let mut listing = Listing::default();
        let mut position = Position {
            number: 1,
            last: None,
        };
        let mut auth_modes = interface.auth_modes().iter().copied();
        let mut auth_mode = auth_modes.next().unwrap_or_default();
        loop {
            let is_first = position.number == 1;
            let Some(path) = interface.path(self.path, &position) else {
                return Ok(Outcome::Withheld);
            };
            let mut request = Request::new(
                Method::GET,
                self.host,
                RequestTarget::Path(path),
                DATES,
                self.access("pull"),
            );
            request.limit = LARGEST_PAGE;
            request.auth_mode = auth_mode;
            let answer = match self.http.send(request).await {
                Ok(answer) => answer,
                Err(error) if is_first && is_withheld(interface, &error) => match auth_modes.next()
                {
                    Some(other) if error.status() == Some(StatusCode::UNAUTHORIZED) => {
                        auth_mode = other;
                        continue;
                    }
                    _ => {
                        tracing::info!(host = %self.host, ?interface, %error, "push dates of {} are not told", self.path);
                        return Ok(Outcome::Withheld);
                    }
                },
                Err(error) if is_first && is_missing(&error) => {
                    return Ok(Outcome::Missing(self.failed(action(), error)));
                }
                Err(error) => return Err(self.failed(action(), error)),
            };
            listing
                .begin_page(&answer)
                .map_err(|detail| wrong(&detail))?;
            let page = match interface.read(&answer, &mut listing) {
                Ok(page) => page,
                Err(error) => {
                    let error = wrong("the answer is no list of tags").caused_by(error);
                    return if is_first {
                        Ok(Outcome::Missing(error))
                    } else {
                        Err(error)
                    };
                }
            };
            if !listing
                .end_page(page.length, page.more)
                .map_err(|detail| wrong(&detail))?
            {
                return Ok(Outcome::Tags(
                    listing.into_tags(&format_args!("{}/{}", self.host, self.path)),
                ));
            }
            position = Position {
                number: position.number + 1,
                last: page.last,
            };
        }
    }
}

/// Returns whether an interface refuses to tell of a repository, or does not know it.
fn is_withheld(interface: Interface, error: &http::Error) -> bool {
    match error {
        http::Error::Refused(refusal) => {
            matches!(refusal.status.as_u16(), 401 | 403 | 404) && interface.is_own(refusal)
        }
        http::Error::Unauthorized { .. } => true,
        _ => false,
    }
}

/// Returns whether an answer is that of a host without the interface. Failures that can pass are
/// not.
pub(super) fn is_missing(error: &http::Error) -> bool {
    match error {
        http::Error::Refused(refusal) => match refusal.status.as_u16() {
            408 | 429 => false,
            status => status < 500 || status == 501,
        },
        http::Error::Misled { .. }
        | http::Error::TooLarge { .. }
        | http::Error::Malformed { .. } => true,
        _ => false,
    }
}
