//! Listing what refers to a manifest.

use std::collections::HashSet;

use super::{RemoteRepository, link};
use crate::http::{self, Kind, Method, Target};
use crate::model::manifest::{LARGEST_MANIFEST, ManifestError};
use crate::model::{Algorithm, Descriptor, Digest, Manifest};
use crate::registry::{PlaceError, PlaceErrorKind, Referrers};

const REFERRERS: Kind = Kind("referrers");

/// The most referrers of one manifest that are read.
const MOST_REFERRERS: usize = 10_000;

impl RemoteRepository<'_> {
    /// Returns what refers to `subject`, page by page, or that the registry has no such listing.
    pub(super) async fn referrers(&self, subject: &Digest) -> Result<Referrers, PlaceError> {
        let action = || format!("list what refers to {}@{subject}", self.path);
        let broken = |detail: &str| self.wrong(action(), PlaceErrorKind::Malformed, detail);
        let mut listed: Vec<Descriptor> = Vec::new();
        let mut visited = HashSet::new();
        let mut request = self.request(Method::GET, &format!("referrers/{subject}"), REFERRERS, "pull");
        loop {
            request.limit = LARGEST_MANIFEST;
            let answer = match self.http.send(request).await {
                Ok(answer) => answer,
                // A repository that does not exist yet has nothing that refers to anything; the registry may still list.
                Err(error) if visited.is_empty() && error.has_code("NAME_UNKNOWN") => return Ok(Referrers::Listed(Vec::new())),
                Err(error) if visited.is_empty() && lacks_the_listing(&error) => return Ok(Referrers::NotListed),
                Err(error) => return Err(self.failed(action(), error)),
            };
            let page = match Manifest::parse(answer.body, None, Algorithm::Sha256) {
                Ok(page) => page,
                // Some registries answer everything they do not know with a page of their web site.
                Err(ManifestError::Malformed(_) | ManifestError::UnknownType { .. }) if visited.is_empty() => {
                    return Ok(Referrers::NotListed);
                }
                Err(error) => return Err(broken("").caused_by(error)),
            };
            let children = page.children().ok_or_else(|| broken("the answer is no index"))?;
            listed.extend_from_slice(children);
            if listed.len() > MOST_REFERRERS {
                return Err(broken("there are more than are read"));
            }
            visited.insert(answer.url.clone());
            let Some(link) = link::next(&answer.headers).filter(|_| !children.is_empty()) else { return Ok(Referrers::Listed(listed)) };
            let url = answer.url.join(link).map_err(|error| broken("the next page's address is none").caused_by(error))?;
            if url.origin() != answer.url.origin() || visited.contains(&url) {
                return Err(broken("the next page is said to be at another place, or was read already"));
            }
            request = http::Request::new(Method::GET, self.host, Target::Url(url), REFERRERS, self.access("pull"));
        }
    }
}

fn lacks_the_listing(error: &http::Error) -> bool {
    matches!(error.status().map(|status| status.as_u16()), Some(400 | 404 | 405 | 406 | 501))
}
