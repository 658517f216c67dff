//! The interfaces themselves: their paths, pages and refusals, as their documentation has them.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::http::link;
use crate::http::{AuthMode, ErrorResponse, Response};
use crate::model::{Host, RepositoryPath};
use crate::registry::listing::{Listing, time, unix_time};

/// Entries asked for at once: the most that Harbor and Quay give.
const PAGE: usize = 100;

/// The most that GitLab's registry gives.
const GITLAB_PAGE: usize = 1_000;

/// An interface that tells when tags were pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interface {
    /// Harbor's API 2.0, "List artifacts" (`api/v2.0/swagger.yaml` of goharbor/harbor).
    Harbor,
    /// "List repository tags" of GitLab's own API in its registry (`docs/spec/gitlab/api.md` of
    /// gitlab-org/container-registry).
    Gitlab,
    /// Quay's API, `listRepoTags` (Red Hat Quay API reference; `endpoints/api/tag.py` of
    /// quay/quay).
    Quay,
}

/// Where a page begins.
pub(super) struct Position {
    /// From 1 on.
    pub(super) number: usize,
    /// The last name of the page before.
    pub(super) last: Option<String>,
}

/// What a page said.
pub(super) struct Page {
    pub(super) length: usize,
    pub(super) last: Option<String>,
    pub(super) more: bool,
}

impl Interface {
    pub(super) fn possible(host: &Host) -> Vec<Interface> {
        match host.as_str() {
            "quay.io" => vec![Interface::Quay],
            "registry.gitlab.com" => vec![Interface::Gitlab],
            _ => vec![Interface::Harbor, Interface::Gitlab, Interface::Quay],
        }
    }

    /// Returns the path of a page, or `None` for a repository that the interface cannot name.
    pub(super) fn path(self, repository: &RepositoryPath, position: &Position) -> Option<String> {
        let number = position.number;
        Some(match self {
            Interface::Harbor => {
                let (project, name) = repository.as_str().split_once('/')?;
                // A slash in the name is encoded twice (description of `repository_name` in
                // Harbor's API).
                let name = name.replace('/', "%252F");
                format!(
                    "/api/v2.0/projects/{project}/repositories/{name}/artifacts\
                     ?with_tag=true&q=tags%3D*&page_size={PAGE}&page={number}"
                )
            }
            Interface::Gitlab => {
                let last = position
                    .last
                    .iter()
                    .flat_map(|last| ["&last=".into(), encoded(last)]);
                format!(
                    "/gitlab/v1/repositories/{repository}/tags/list/?n={GITLAB_PAGE}{}",
                    last.collect::<String>()
                )
            }
            Interface::Quay => format!(
                "/api/v1/repository/{repository}/tag/?onlyActiveTags=true&limit={PAGE}&page={number}"
            ),
        })
    }

    /// Returns the ways to log in, the first that is tried first.
    pub(super) fn auth_modes(self) -> &'static [AuthMode] {
        match self {
            // Tokens of the registry are not taken here. The password is sent only when public
            // projects are not all.
            Interface::Harbor => &[AuthMode::Never, AuthMode::Basic],
            Interface::Gitlab => &[AuthMode::OnChallenge],
            // It takes tokens of its own kind, which registry logins are not: public repositories
            // only.
            Interface::Quay => &[AuthMode::Never],
        }
    }

    /// Returns whether a refusal has the interface's own form, rather than that of a host that does
    /// not know the path.
    pub(super) fn is_own(self, refusal: &ErrorResponse) -> bool {
        let has_code = |codes: &[&str]| {
            refusal
                .errors
                .iter()
                .any(|error| codes.contains(&error.code.as_str()))
        };
        match self {
            Interface::Harbor => has_code(&["NOT_FOUND", "UNAUTHORIZED", "FORBIDDEN"]),
            Interface::Gitlab => {
                has_code(&["NAME_UNKNOWN", "NAME_INVALID", "UNAUTHORIZED", "DENIED"])
            }
            Interface::Quay => refusal.excerpt.contains("\"error_type\""),
        }
    }

    /// Adds the tags of a page to `listing`. Fails when it has another form.
    pub(super) fn read(
        self,
        answer: &Response,
        listing: &mut Listing,
    ) -> Result<Page, serde_json::Error> {
        match self {
            Interface::Harbor => {
                let page: Vec<HarborArtifact> = parse(answer)?;
                let length = page.len();
                for artifact in page {
                    let tags = artifact.tags.unwrap_or_default();
                    if tags.is_empty() {
                        listing.pass_over();
                    }
                    for tag in tags {
                        listing.add(
                            &tag.name,
                            tag.push_time.as_deref().and_then(time),
                            Some(&artifact.digest),
                        );
                    }
                }
                Ok(Page {
                    length,
                    last: None,
                    more: length >= PAGE || link::next(&answer.headers).is_some(),
                })
            }
            Interface::Gitlab => {
                let page: Vec<GitlabTag> = parse(answer)?;
                let (length, last) = (page.len(), page.last().map(|tag| tag.name.clone()));
                for tag in page {
                    // All three are of the tag, not of its image. Older registries have no
                    // `published_at`.
                    let pushed_at = tag.published_at.or(tag.updated_at).or(tag.created_at);
                    listing.add(
                        &tag.name,
                        pushed_at.as_deref().and_then(time),
                        tag.digest.as_deref(),
                    );
                }
                Ok(Page {
                    length,
                    last,
                    more: link::next(&answer.headers).is_some(),
                })
            }
            Interface::Quay => {
                let page: QuayPage = parse(answer)?;
                let length = page.tags.len();
                for tag in page.tags {
                    listing.add(
                        &tag.name,
                        tag.start_ts.and_then(unix_time),
                        tag.manifest_digest.as_deref(),
                    );
                }
                Ok(Page {
                    length,
                    last: None,
                    more: page.has_additional,
                })
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

fn parse<T: DeserializeOwned>(answer: &Response) -> Result<T, serde_json::Error> {
    serde_json::from_slice(&answer.body)
}

fn encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}
