//! Deletion of tags and manifests, and detection of the kinds of deletion that a host supports.
//!
//! The support of a host is detected once in a run: by the first deletion, or by trying to delete
//! something that cannot exist. A tag is never deleted by deleting its manifest, because that
//! deletes other tags too.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::Mutex as AsyncMutex;

use super::classify::{is_missing_interface, is_not_found};
use super::repository::RemoteRepository;
use crate::error::{ItemError, ItemErrorKind};
use crate::http::header::ALLOW;
use crate::http::{self, AuthMode, ErrorResponse, Method, Request, RequestKind, RequestTarget};
use crate::model::lock::lock;
use crate::model::{Digest, Host, Reference, Tag};
use crate::registry::store::{Deletion, DeletionSupport, Support};

const DELETE: RequestKind = RequestKind("delete");

/// A tag that does not exist. The response to its deletion shows if the host can delete tags.
const UNUSED_TAG: &str = "imglife-asks-whether-tags-can-be-deleted";

/// Actions of a token for deletions (token scope documentation of CNCF distribution).
const ACTIONS: &str = "pull,delete";

/// A method to delete a tag but not its manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TagDeletion {
    /// Distribution specification, "Deleting tags".
    Standard,
    /// "Delete tag" of Harbor's API 2.0 (`api/v2.0/swagger.yaml` of goharbor/harbor).
    Harbor,
    /// "Delete image tags by reference" of GitLab's registry. Versions before 16.4 have it instead
    /// of the standard method.
    Gitlab,
}

const TAG_DELETIONS: [TagDeletion; 3] = [
    TagDeletion::Standard,
    TagDeletion::Harbor,
    TagDeletion::Gitlab,
];

/// Deletion methods that were found so far, by host.
#[derive(Default)]
pub(super) struct DeletionMethods(Mutex<HashMap<Host, Arc<HostDeletions>>>);

#[derive(Default)]
struct HostDeletions {
    tags: AsyncMutex<TagSupport>,
    manifests: AsyncMutex<Support>,
}

#[derive(Clone, Copy, Default)]
enum TagSupport {
    #[default]
    Unknown,
    By(TagDeletion),
    Unsupported,
}

/// Response of a host to a deletion.
enum DeletionResponse {
    Deleted,
    NotFound,
    /// The host does not support this method, with the reason.
    Unsupported(String),
    Failed(http::Error),
}

impl DeletionMethods {
    fn of(&self, host: &Host) -> Arc<HostDeletions> {
        Arc::clone(lock(&self.0).entry(host.clone()).or_default())
    }
}

impl RemoteRepository<'_> {
    pub(super) async fn deletions(
        &self,
        methods: &DeletionMethods,
    ) -> Result<DeletionSupport, ItemError> {
        let host = methods.of(self.host);
        let mut tags = host.tags.lock().await;
        if matches!(*tags, TagSupport::Unknown) {
            let unused: Tag = UNUSED_TAG.parse().map_err(|error| {
                self.error(
                    "find out if tags can be deleted",
                    ItemErrorKind::Malformed,
                    "",
                )
                .caused_by(error)
            })?;
            let _not_found = self.try_methods(&mut tags, &unused).await?;
        }
        let mut manifests = host.manifests.lock().await;
        if *manifests == Support::Unknown {
            // No manifest has this digest.
            let unused = Digest::sha256(UNUSED_TAG.as_bytes());
            let _not_found = self.delete_and_record(&mut manifests, &unused).await?;
        }
        let tags = if matches!(*tags, TagSupport::Unsupported) {
            Support::Unsupported
        } else {
            Support::Supported
        };
        Ok(DeletionSupport {
            tags,
            manifests: *manifests,
        })
    }

    pub(super) async fn delete_tag(
        &self,
        methods: &DeletionMethods,
        tag: &Tag,
    ) -> Result<Deletion, ItemError> {
        let host = methods.of(self.host);
        let known = *host.tags.lock().await;
        match known {
            TagSupport::Unsupported => return Ok(Deletion::Unsupported),
            TagSupport::By(method) => match self.delete_by(method, tag).await {
                DeletionResponse::Deleted => return Ok(Deletion::Deleted),
                DeletionResponse::NotFound if !self.exists(&tag.clone().into()).await? => {
                    return Ok(Deletion::NotFound);
                }
                DeletionResponse::Failed(error) => {
                    return Err(self.deletion_error(&tag.clone().into(), error));
                }
                // The host does not support the recorded method after all.
                DeletionResponse::NotFound | DeletionResponse::Unsupported(_) => {}
            },
            TagSupport::Unknown => {}
        }
        // Locked until the method is known, so that only one request tries each method.
        let mut tags = host.tags.lock().await;
        match *tags {
            TagSupport::Unsupported => Ok(Deletion::Unsupported),
            TagSupport::By(_) | TagSupport::Unknown => self.try_methods(&mut tags, tag).await,
        }
    }

    /// Deletes a tag by the first method that works, and records it.
    async fn try_methods(&self, tags: &mut TagSupport, tag: &Tag) -> Result<Deletion, ItemError> {
        for method in TAG_DELETIONS {
            let deletion = match self.delete_by(method, tag).await {
                DeletionResponse::Deleted => Deletion::Deleted,
                DeletionResponse::NotFound if !self.exists(&tag.clone().into()).await? => {
                    Deletion::NotFound
                }
                DeletionResponse::NotFound => {
                    tracing::debug!(host = %self.host, ?method, "method does not delete tags: it reports an existing tag as not found");
                    continue;
                }
                DeletionResponse::Unsupported(reason) => {
                    tracing::debug!(host = %self.host, ?method, reason, "method does not delete tags");
                    continue;
                }
                DeletionResponse::Failed(error)
                    if method != TagDeletion::Standard && is_access_denied(&error) =>
                {
                    tracing::warn!(host = %self.host, ?method, %error, "the API of the host, which could delete tags, denied access");
                    continue;
                }
                DeletionResponse::Failed(error) => {
                    return Err(self.deletion_error(&tag.clone().into(), error));
                }
            };
            *tags = TagSupport::By(method);
            return Ok(deletion);
        }
        *tags = TagSupport::Unsupported;
        Ok(Deletion::Unsupported)
    }

    pub(super) async fn delete_manifest(
        &self,
        methods: &DeletionMethods,
        digest: &Digest,
    ) -> Result<Deletion, ItemError> {
        let host = methods.of(self.host);
        let mut support = host.manifests.lock().await;
        match *support {
            Support::Unsupported => Ok(Deletion::Unsupported),
            Support::Unknown => self.delete_and_record(&mut support, digest).await,
            Support::Supported => {
                drop(support);
                let mut support = Support::Supported;
                let deletion = self.delete_and_record(&mut support, digest).await?;
                *host.manifests.lock().await = support;
                Ok(deletion)
            }
        }
    }

    /// Deletes a manifest, and records in `support` if the host supports that.
    async fn delete_and_record(
        &self,
        support: &mut Support,
        digest: &Digest,
    ) -> Result<Deletion, ItemError> {
        let reference = Reference::Digest(digest.clone());
        let deletion = match self.delete(&reference).await {
            DeletionResponse::Deleted => Deletion::Deleted,
            DeletionResponse::NotFound if !self.exists(&reference).await? => Deletion::NotFound,
            DeletionResponse::NotFound | DeletionResponse::Unsupported(_) => Deletion::Unsupported,
            DeletionResponse::Failed(error) => return Err(self.deletion_error(&reference, error)),
        };
        *support = if deletion == Deletion::Unsupported {
            Support::Unsupported
        } else {
            Support::Supported
        };
        Ok(deletion)
    }

    async fn delete_by(&self, method: TagDeletion, tag: &Tag) -> DeletionResponse {
        match method {
            TagDeletion::Standard => self.delete(&tag.clone().into()).await,
            TagDeletion::Harbor => {
                let Some((project, name)) = self.path.as_str().split_once('/') else {
                    return DeletionResponse::Unsupported(
                        "the repository has no project".to_owned(),
                    );
                };
                // A slash in the name is encoded twice (`repository_name` in Harbor's API).
                let name = name.replace('/', "%252F");
                let path = format!(
                    "/api/v2.0/projects/{project}/repositories/{name}/artifacts/{tag}/tags/{tag}"
                );
                let mut request = Request::new(
                    Method::DELETE,
                    self.host,
                    RequestTarget::Path(path),
                    DELETE,
                    self.access(ACTIONS),
                );
                // Harbor's API rejects tokens of the registry.
                request.auth_mode = AuthMode::Basic;
                match self.http.send(request).await {
                    Ok(_) => DeletionResponse::Deleted,
                    Err(http::Error::Refused(refusal)) if is_harbor_error(&refusal) => {
                        match refusal.status.as_u16() {
                            404 => DeletionResponse::NotFound,
                            _ => DeletionResponse::Failed(http::Error::Refused(refusal)),
                        }
                    }
                    Err(error) if is_missing_interface(&error) => {
                        DeletionResponse::Unsupported(error.to_string())
                    }
                    Err(error) => DeletionResponse::Failed(error),
                }
            }
            TagDeletion::Gitlab => {
                let request = |method| {
                    self.request(method, &format!("tags/reference/{tag}"), DELETE, ACTIONS)
                };
                // GitLab itself uses this request; it does not access the tag.
                let options = match self.http.send(request(Method::OPTIONS)).await {
                    Ok(response) => response,
                    Err(error) if is_missing_interface(&error) => {
                        return DeletionResponse::Unsupported(error.to_string());
                    }
                    Err(error) => return DeletionResponse::Failed(error),
                };
                if !options
                    .header(ALLOW.as_str())
                    .is_some_and(|methods| methods.contains("DELETE"))
                {
                    return DeletionResponse::Unsupported(
                        "the response does not allow DELETE".to_owned(),
                    );
                }
                response(self.http.send(request(Method::DELETE)).await, |_| false)
            }
        }
    }

    async fn delete(&self, reference: &Reference) -> DeletionResponse {
        let request = self.request(
            Method::DELETE,
            &format!("manifests/{reference}"),
            DELETE,
            ACTIONS,
        );
        response(self.http.send(request).await, |refusal| {
            is_unsupported(refusal, reference)
        })
    }

    /// Returns true if the reference exists. Some hosts report "not found" because they do not
    /// support deletions.
    async fn exists(&self, reference: &Reference) -> Result<bool, ItemError> {
        Ok(self.resolve(reference).await?.is_some())
    }

    fn deletion_error(&self, reference: &Reference, error: http::Error) -> ItemError {
        let mut failed = self.http_error(format!("delete {}", self.name(reference)), error);
        // The registry supports deletions but rejects this one: some keep children of an index.
        if failed.kind == ItemErrorKind::Unsupported {
            failed.kind = ItemErrorKind::Refused;
        }
        failed
    }
}

fn response(
    sent: Result<http::Response, http::Error>,
    is_unsupported: impl FnOnce(&ErrorResponse) -> bool,
) -> DeletionResponse {
    match sent {
        Ok(_) => DeletionResponse::Deleted,
        Err(error) if is_not_found(&error) => DeletionResponse::NotFound,
        Err(http::Error::Refused(refusal)) if is_unsupported(&refusal) => {
            DeletionResponse::Unsupported(refusal.to_string())
        }
        Err(error) => DeletionResponse::Failed(error),
    }
}

/// Returns true if a host does not support this kind of deletion (distribution specification,
/// "Content Management": 400 or 405 if it is disabled).
fn is_unsupported(refusal: &ErrorResponse, reference: &Reference) -> bool {
    let has_code = |code: &str| refusal.errors.iter().any(|error| error.code == code);
    match refusal.status.as_u16() {
        _ if has_code("UNSUPPORTED") => true,
        // zot responds with DENIED for a child of an index.
        405 => !has_code("DENIED"),
        // Version 2 of CNCF distribution parses a tag as a digest.
        400 => {
            refusal.errors.is_empty()
                || (matches!(reference, Reference::Tag(_)) && has_code("DIGEST_INVALID"))
        }
        501 => true,
        _ => false,
    }
}

/// Returns true if an error has the form of Harbor's API. It is then not the error of a host
/// without this path.
fn is_harbor_error(refusal: &ErrorResponse) -> bool {
    let codes = [
        "NOT_FOUND",
        "UNAUTHORIZED",
        "FORBIDDEN",
        "PRECONDITION",
        "CONFLICT",
    ];
    refusal
        .errors
        .iter()
        .any(|error| codes.contains(&error.code.as_str()))
}

fn is_access_denied(error: &http::Error) -> bool {
    match error {
        http::Error::Unauthorized { .. } => true,
        error => matches!(
            error.status().map(|status| status.as_u16()),
            Some(401 | 403)
        ),
    }
}
