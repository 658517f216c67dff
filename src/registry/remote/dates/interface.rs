//! The interfaces: their paths, pages and errors, according to their documentation.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::http::link;
use crate::http::{AuthMode, ErrorResponse, Response};
use crate::model::{Host, RepositoryPath};
use crate::registry::listing::{TagListing, time, unix_time};

/// Number of entries per page, the maximum of Harbor and Quay.
const PAGE_SIZE: usize = 100;

/// Number of entries per page of Gitea, the usual maximum (`MAX_RESPONSE_ITEMS`).
const GITEA_PAGE_SIZE: usize = 50;

/// Header with the number of entries of Gitea's listings.
const TOTAL_COUNT: &str = "x-total-count";

/// Number of entries per page of GitLab's registry, the maximum.
const GITLAB_PAGE_SIZE: usize = 1_000;

/// An interface that reports push dates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DateInterface {
    /// Harbor's API 2.0, "List artifacts" (`api/v2.0/swagger.yaml` of goharbor/harbor).
    Harbor,
    /// "List repository tags" of GitLab's own API in its registry (`docs/spec/gitlab/api.md` of
    /// gitlab-org/container-registry).
    Gitlab,
    /// Quay's API, `listRepoTags` (Red Hat Quay API reference; `endpoints/api/tag.py` of
    /// quay/quay).
    Quay,
    /// "List packages" of Gitea and Forgejo (`routers/api/v1/packages` of go-gitea/gitea). Each tag
    /// is a version of a package, and each manifest without a tag is one as well.
    Gitea,
}

/// Position of a page.
pub(super) struct PagePosition {
    /// Number of the page, starting at 1.
    pub(super) number: usize,
    /// Last name of the previous page.
    pub(super) last: Option<String>,
}

/// Entries that a listing is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ListedEntries {
    Tags,
    /// Manifests without a tag.
    Untagged,
}

/// Facts about a page that was read.
pub(super) struct PageSummary {
    pub(super) length: usize,
    pub(super) last: Option<String>,
    pub(super) more: bool,
}

impl DateInterface {
    /// Returns the interfaces that a host may have.
    pub(super) fn possible(host: &Host) -> Vec<DateInterface> {
        match host.as_str() {
            "quay.io" => vec![DateInterface::Quay],
            "registry.gitlab.com" => vec![DateInterface::Gitlab],
            _ => vec![
                DateInterface::Harbor,
                DateInterface::Gitlab,
                DateInterface::Quay,
                DateInterface::Gitea,
            ],
        }
    }

    /// Returns the path of a page, or `None` if the interface cannot name the repository.
    pub(super) fn path(
        self,
        repository: &RepositoryPath,
        entries: ListedEntries,
        position: &PagePosition,
    ) -> Option<String> {
        let number = position.number;
        Some(match self {
            DateInterface::Harbor => {
                let (project, name) = repository.as_str().split_once('/')?;
                // A slash in the name is encoded twice (`repository_name` in Harbor's API).
                let name = name.replace('/', "%252F");
                let tags = match entries {
                    ListedEntries::Tags => "*",
                    ListedEntries::Untagged => "nil",
                };
                format!(
                    "/api/v2.0/projects/{project}/repositories/{name}/artifacts\
                     ?with_tag=true&q=tags%3D{tags}&page_size={PAGE_SIZE}&page={number}"
                )
            }
            DateInterface::Gitlab => {
                let last = position
                    .last
                    .iter()
                    .flat_map(|last| ["&last=".into(), encoded(last)]);
                format!(
                    "/gitlab/v1/repositories/{repository}/tags/list/?n={GITLAB_PAGE_SIZE}{}",
                    last.collect::<String>()
                )
            }
            DateInterface::Quay => format!(
                "/api/v1/repository/{repository}/tag/?onlyActiveTags=true&limit={PAGE_SIZE}&page={number}"
            ),
            DateInterface::Gitea => {
                let (owner, name) = repository.as_str().split_once('/')?;
                // Finds other names that contain this one as well.
                let name = encoded(name);
                format!(
                    "/api/v1/packages/{owner}?type=container&q={name}&limit={GITEA_PAGE_SIZE}&page={number}"
                )
            }
        })
    }

    /// Returns true if the interface lists manifests without a tag.
    pub(super) fn lists_untagged(self) -> bool {
        matches!(self, DateInterface::Harbor | DateInterface::Gitea)
    }

    /// Returns the ways to authenticate, in the order of attempts.
    pub(super) fn auth_modes(self) -> &'static [AuthMode] {
        match self {
            // Harbor's API rejects tokens of the registry. The password is sent only if anonymous
            // access is denied.
            DateInterface::Harbor => &[AuthMode::Never, AuthMode::Basic],
            DateInterface::Gitlab => &[AuthMode::OnChallenge],
            // Quay's API needs tokens of its own, so only public repositories work.
            DateInterface::Quay => &[AuthMode::Never],
            // Gitea's API accepts the password of its registry, but sends no challenge.
            DateInterface::Gitea => &[AuthMode::Never, AuthMode::Basic],
        }
    }

    /// Returns true if an error has the form of this interface. It is then not the error of a host
    /// without this path.
    pub(super) fn is_own(self, refusal: &ErrorResponse) -> bool {
        let has_code = |codes: &[&str]| {
            refusal
                .errors
                .iter()
                .any(|error| codes.contains(&error.code.as_str()))
        };
        match self {
            DateInterface::Harbor => has_code(&["NOT_FOUND", "UNAUTHORIZED", "FORBIDDEN"]),
            DateInterface::Gitlab => {
                has_code(&["NAME_UNKNOWN", "NAME_INVALID", "UNAUTHORIZED", "DENIED"])
            }
            DateInterface::Quay => refusal.excerpt.contains("\"error_type\""),
            DateInterface::Gitea => {
                refusal.errors.iter().all(|error| error.code.is_empty())
                    && refusal.excerpt.contains("\"message\"")
                    && (refusal.status == 401 || refusal.excerpt.contains("/api/swagger"))
            }
        }
    }

    /// Returns true if the listing only adds dates to that of the registry.
    pub(super) fn lacks_tags(self) -> bool {
        // A package is hidden where a token may read images but no packages.
        self == DateInterface::Gitea
    }

    /// Adds the tags of `repository` on a page to `listing`. Fails if the page has another form.
    pub(super) fn read(
        self,
        repository: &RepositoryPath,
        response: &Response,
        listing: &mut TagListing,
    ) -> Result<PageSummary, serde_json::Error> {
        match self {
            DateInterface::Harbor => {
                let page: Vec<HarborArtifact> = parse(response)?;
                let length = page.len();
                for artifact in page {
                    let tags = artifact.tags.unwrap_or_default();
                    if tags.is_empty() {
                        let pushed_at = artifact.push_time.as_deref().and_then(time);
                        listing.add_untagged(&artifact.digest, pushed_at);
                    }
                    for tag in tags {
                        listing.add(
                            &tag.name,
                            tag.push_time.as_deref().and_then(time),
                            Some(&artifact.digest),
                        );
                    }
                }
                Ok(PageSummary {
                    length,
                    last: None,
                    more: length >= PAGE_SIZE || link::next(&response.headers).is_some(),
                })
            }
            DateInterface::Gitlab => {
                let page: Vec<GitlabTag> = parse(response)?;
                let (length, last) = (page.len(), page.last().map(|tag| tag.name.clone()));
                for tag in page {
                    // All three are times of the tag, not of its image. Older registries have no
                    // `published_at`.
                    let pushed_at = tag.published_at.or(tag.updated_at).or(tag.created_at);
                    listing.add(
                        &tag.name,
                        pushed_at.as_deref().and_then(time),
                        tag.digest.as_deref(),
                    );
                }
                Ok(PageSummary {
                    length,
                    last,
                    more: link::next(&response.headers).is_some(),
                })
            }
            DateInterface::Quay => {
                let page: QuayPage = parse(response)?;
                let length = page.tags.len();
                for tag in page.tags {
                    listing.add(
                        &tag.name,
                        tag.start_ts.and_then(unix_time),
                        tag.manifest_digest.as_deref(),
                    );
                }
                Ok(PageSummary {
                    length,
                    last: None,
                    more: page.has_additional,
                })
            }
            DateInterface::Gitea => {
                if response.header(TOTAL_COUNT).is_none() {
                    let missing = format!("there is no `{TOTAL_COUNT}` header");
                    return Err(serde::de::Error::custom(missing));
                }
                let page: Vec<GiteaVersion> = parse(response)?;
                let length = page.len();
                let name = repository
                    .as_str()
                    .split_once('/')
                    .map_or("", |(_, name)| name);
                for entry in page {
                    let pushed_at = entry.created_at.as_deref().and_then(time);
                    if !entry.name.eq_ignore_ascii_case(name) {
                        listing.skip();
                    } else if entry.version.contains(':') {
                        listing.add_untagged(&entry.version, pushed_at);
                    } else {
                        listing.add(&entry.version, pushed_at, None);
                    }
                }
                Ok(PageSummary {
                    length,
                    last: None,
                    more: link::next(&response.headers).is_some(),
                })
            }
        }
    }
}

#[derive(Deserialize)]
struct HarborArtifact {
    digest: String,
    push_time: Option<String>,
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
    /// Time since which the tag names its current image, in seconds since 1970.
    start_ts: Option<i64>,
    manifest_digest: Option<String>,
}

/// A version of a package: a tag in lower case, or the digest of a manifest without a tag.
#[derive(Deserialize)]
struct GiteaVersion {
    name: String,
    version: String,
    /// Time of the last push of the tag: Gitea creates the version anew.
    created_at: Option<String>,
}

fn parse<T: DeserializeOwned>(response: &Response) -> Result<T, serde_json::Error> {
    serde_json::from_slice(&response.body)
}

fn encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}
