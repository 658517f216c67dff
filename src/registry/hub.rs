//! Docker Hub's tag service, which tells when tags were pushed; its registry does not.
//!
//! Owns the service's paths, pages and errors. It is asked without a login and by its own name, wherever the traffic to the
//! registry is sent. Whether dates are needed is known to who asks.

use serde::Deserialize;

use super::listing::{LARGEST_PAGE, Listing, time};
use super::remote::kind_of;
use super::{PlaceError, PlaceErrorKind, TagSeen};
use crate::http::{self, Access, Client, Kind, LogIn, Method, Request, Target};
use crate::model::{Host, RepositoryPath};

/// The service's host, and the key of its settings.
const HOST: &str = "hub.docker.com";

/// Tags asked for at once, the most that are given (Docker Hub's API reference, "List repository tags").
const PAGE: usize = 100;

const LISTING: Kind = Kind("tag service");

/// A page of tags, as in Docker Hub's API reference, "List repository tags".
#[derive(Deserialize)]
struct Page {
    next: Option<String>,
    results: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    name: String,
    tag_last_pushed: Option<String>,
    last_updated: Option<String>,
    /// Not in the reference, but there in practice; `null` for tags of old.
    digest: Option<String>,
}

/// Returns the tags of a repository on Docker Hub with the times they were pushed. What the service does not know is an error:
/// it answers 404 for private repositories and at times for others.
pub(super) async fn tags(http: &Client, path: &RepositoryPath) -> Result<Vec<TagSeen>, PlaceError> {
    let action = format!("list the tags of {path} with their dates");
    let wrong = |detail: String| PlaceError::new(HOST, &action, PlaceErrorKind::Malformed, detail);
    let host: Host = HOST.parse().map_err(|error| wrong(String::new()).caused_by(error))?;
    let (namespace, name) = path.as_str().split_once('/').unwrap_or(("library", path.as_str()));
    let name = name.replace('/', "%2F");
    let mut listing = Listing::default();
    for number in 1_usize.. {
        // The pages are counted, since `next` leads past an endpoint that is set.
        let target = Target::Path(format!("/v2/namespaces/{namespace}/repositories/{name}/tags?page_size={PAGE}&page={number}"));
        let mut request = Request::new(Method::GET, &host, target, LISTING, Access::default());
        request.limit = LARGEST_PAGE;
        request.log_in = LogIn::Never;
        let answer = http.send(request).await.map_err(|error| failed(&action, error))?;
        let page: Page =
            serde_json::from_slice(&answer.body).map_err(|error| wrong("the answer is no list of tags".to_owned()).caused_by(error))?;
        let (length, more) = (page.results.len(), page.next.is_some_and(|next| !next.is_empty()));
        for entry in page.results {
            let pushed_at = entry.tag_last_pushed.or(entry.last_updated);
            listing.add(entry.name, pushed_at.as_deref().and_then(time), entry.digest.as_deref());
        }
        if !listing.end_page(length, more).map_err(&wrong)? {
            break;
        }
    }
    Ok(listing.into_tags())
}

fn failed(action: &str, error: http::Error) -> PlaceError {
    let kind = kind_of(&error);
    let hint = match kind {
        PlaceErrorKind::Absent | PlaceErrorKind::Unauthorized => {
            Some("the tag service is asked without a login, so it tells dates of public repositories only".to_owned())
        }
        PlaceErrorKind::Forbidden => Some(
            "Docker Hub lists only the first 1,000 tags or fewer without a login, and its tag service is asked without one; for a \
             repository with more tags use `sort: version` without `min_age`, and a `tag_regex` that matches versions"
                .to_owned(),
        ),
        PlaceErrorKind::RateLimited => Some("Docker Hub limits how often its tag service is asked; run less often".to_owned()),
        _ => error.hint(),
    };
    PlaceError::new(HOST, action, kind, "").hinting(hint).caused_by(error)
}
