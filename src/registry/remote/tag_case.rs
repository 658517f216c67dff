//! Finding out whether a registry distinguishes upper and lower case in tags.
//!
//! Gitea and Forgejo store tags in lower case and find them in any case
//! (`routers/api/packages/container/manifest.go`: `strings.ToLower(mci.Reference)`).

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use serde::Deserialize;
use tokio::sync::OnceCell;

use super::classify::is_missing_interface;
use super::repository::RemoteRepository;
use crate::error::ItemError;
use crate::http::{self, AuthMode, Method, Request, RequestKind, RequestTarget};
use crate::model::lock::lock;
use crate::model::{Host, Tag};
use crate::registry::store::TagCase;

const VERSION: RequestKind = RequestKind("version");

/// Path that each error of Gitea's API names.
const GITEA_API: &str = "/api/swagger";

/// Maximum size of the response with Gitea's version, in bytes.
const MAX_VERSION_BYTES: usize = 4_096;

/// Hosts whose answer is known.
#[derive(Default)]
pub(super) struct TagCases(Mutex<HashMap<Host, Arc<OnceCell<TagCase>>>>);

/// Response of `GET /api/v1/version`.
#[derive(Deserialize)]
struct GiteaServerVersion {
    #[serde(rename = "version")]
    _version: String,
}

impl TagCases {
    fn of(&self, host: &Host) -> Arc<OnceCell<TagCase>> {
        lock(&self.0).entry(host.clone()).or_default().clone()
    }
}

impl RemoteRepository<'_> {
    /// Returns whether the registry distinguishes upper and lower case. `listed` are tags of the
    /// repository, in the spelling of the registry.
    ///
    /// A tag in upper case proves that it does. Otherwise a listed tag is looked up in upper case;
    /// the answer counts for the host. Without such a tag, Gitea is known by its API.
    pub(super) async fn tag_case(
        &self,
        cases: &TagCases,
        listed: &BTreeSet<Tag>,
    ) -> Result<TagCase, ItemError> {
        if listed.iter().any(Tag::has_upper_case) {
            return Ok(TagCase::Sensitive);
        }
        let known = cases.of(self.host);
        let sample = listed
            .iter()
            .find_map(|tag| Some((tag, tag.upper_case().filter(|upper| upper != tag)?)));
        match sample {
            Some((tag, upper)) => known
                .get_or_try_init(|| self.compare_spellings(tag, &upper))
                .await
                .copied(),
            None if known.initialized() => Ok(known.get().copied().unwrap_or_default()),
            None if self.is_gitea().await? => Ok(*known
                .get_or_init(|| std::future::ready(TagCase::Insensitive))
                .await),
            None => Ok(TagCase::Sensitive),
        }
    }

    async fn compare_spellings(&self, tag: &Tag, upper: &Tag) -> Result<TagCase, ItemError> {
        let Some(found) = self.resolve(&upper.clone().into()).await? else {
            return Ok(TagCase::Sensitive);
        };
        let listed = self.resolve(&tag.clone().into()).await?;
        let is_same = listed.is_some_and(|listed| listed.digest == found.digest);
        Ok(if is_same {
            TagCase::Insensitive
        } else {
            TagCase::Sensitive
        })
    }

    async fn is_gitea(&self) -> Result<bool, ItemError> {
        let mut request = Request::new(
            Method::GET,
            self.host,
            RequestTarget::Path("/api/v1/version".to_owned()),
            VERSION,
            self.access("pull"),
        );
        request.limit = MAX_VERSION_BYTES;
        // Gitea's API rejects tokens of its registry.
        request.auth_mode = AuthMode::Never;
        match self.http.send(request).await {
            Ok(response) => {
                Ok(serde_json::from_slice::<GiteaServerVersion>(&response.body).is_ok())
            }
            // Where the API requires a login, the error still has Gitea's form.
            Err(http::Error::Refused(refusal)) if refusal.excerpt.contains(GITEA_API) => Ok(true),
            Err(http::Error::Unauthorized { .. }) => Ok(false),
            Err(error) if is_missing_interface(&error) => Ok(false),
            Err(error) => Err(self.http_error("find out whether it is Gitea", error)),
        }
    }
}
