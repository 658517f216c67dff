//! Deleting tags and manifests, and which of that a host can do.
//!
//! A host shows what it can do when it is asked to, once in a run, by the first deletion or by one
//! of what cannot be there. A tag is never deleted by deleting the manifest that it names, since
//! other tags would go with it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::Mutex as AsyncMutex;

use super::dates::is_missing;
use super::{RemoteRepository, is_not_found};
use crate::error::{ItemError, ItemErrorKind};
use crate::http::header::ALLOW;
use crate::http::{self, AuthMode, ErrorResponse, Method, Request, RequestKind, RequestTarget};
use crate::model::lock::lock;
use crate::model::{Digest, Host, Reference, Tag};
use crate::registry::{Ability, Deletion, Deletions};

const DELETE: RequestKind = RequestKind("delete");

/// A tag that nobody has: what a host answers when it is deleted tells whether it deletes tags.
const NO_TAG: &str = "imglife-asks-whether-tags-can-be-deleted";

/// Token servers grant what they grant of these; deleting needs the second (token scope
/// documentation of CNCF distribution).
const ACTIONS: &str = "pull,delete";

/// A way to delete a tag and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// As the distribution specification has it, "Deleting tags".
    Standard,
    /// "Delete tag" of Harbor's API 2.0 (`api/v2.0/swagger.yaml` of goharbor/harbor).
    Harbor,
    /// "Delete image tags by reference" of GitLab's registry, which versions before 16.4 have
    /// instead of the standard's.
    Gitlab,
}

const WAYS: [Way; 3] = [Way::Standard, Way::Harbor, Way::Gitlab];

/// What hosts were found to do so far.
#[derive(Default)]
pub(super) struct Hosts(Mutex<HashMap<Host, Arc<Abilities>>>);

#[derive(Default)]
struct Abilities {
    tags: AsyncMutex<Tags>,
    manifests: AsyncMutex<Ability>,
}

#[derive(Clone, Copy, Default)]
enum Tags {
    #[default]
    Unknown,
    By(Way),
    Never,
}

/// What a host answered to a deletion.
enum Outcome {
    Deleted,
    /// It says that there is no such thing.
    Absent,
    /// It does not know this way, as it shows by what is said here.
    Missing(String),
    Failed(http::Error),
}

impl Hosts {
    fn of(&self, host: &Host) -> Arc<Abilities> {
        Arc::clone(lock(&self.0).entry(host.clone()).or_default())
    }
}

impl RemoteRepository<'_> {
    pub(super) async fn deletions(&self, hosts: &Hosts) -> Result<Deletions, ItemError> {
        let abilities = hosts.of(self.host);
        let mut tags = abilities.tags.lock().await;
        if matches!(*tags, Tags::Unknown) {
            let nobodys: Tag = NO_TAG.parse().map_err(|error| {
                self.wrong(
                    "ask whether tags can be deleted",
                    ItemErrorKind::Malformed,
                    "",
                )
                .caused_by(error)
            })?;
            let _was_absent = self.learn(&mut tags, &nobodys).await?;
        }
        let mut manifests = abilities.manifests.lock().await;
        if *manifests == Ability::Unknown {
            // Nothing has this digest.
            let nobodys = Digest::sha256(NO_TAG.as_bytes());
            let _was_absent = self.delete_and_note(&mut manifests, &nobodys).await?;
        }
        let tags = if matches!(*tags, Tags::Never) {
            Ability::Missing
        } else {
            Ability::Present
        };
        Ok(Deletions {
            tags,
            manifests: *manifests,
        })
    }

    pub(super) async fn delete_tag(&self, hosts: &Hosts, tag: &Tag) -> Result<Deletion, ItemError> {
        let abilities = hosts.of(self.host);
        let known = *abilities.tags.lock().await;
        match known {
            Tags::Never => return Ok(Deletion::Unsupported),
            Tags::By(way) => match self.delete_by(way, tag).await {
                Outcome::Deleted => return Ok(Deletion::Done),
                Outcome::Absent if !self.still_has(&tag.clone().into()).await? => {
                    return Ok(Deletion::WasAbsent);
                }
                Outcome::Failed(error) => return Err(self.undeleted(&tag.clone().into(), error)),
                // It is not what it seemed to be.
                Outcome::Absent | Outcome::Missing(_) => {}
            },
            Tags::Unknown => {}
        }
        // Held until the host is known, so that others learn from it instead of asking too.
        let mut tags = abilities.tags.lock().await;
        match *tags {
            Tags::Never => Ok(Deletion::Unsupported),
            Tags::By(_) | Tags::Unknown => self.learn(&mut tags, tag).await,
        }
    }

    /// Deletes a tag by the first way that works, and notes which that is.
    async fn learn(&self, tags: &mut Tags, tag: &Tag) -> Result<Deletion, ItemError> {
        for way in WAYS {
            let deletion = match self.delete_by(way, tag).await {
                Outcome::Deleted => Deletion::Done,
                Outcome::Absent if !self.still_has(&tag.clone().into()).await? => {
                    Deletion::WasAbsent
                }
                Outcome::Absent => {
                    tracing::debug!(host = %self.host, ?way, "tags are not deleted that way: they are said not to be there, and are");
                    continue;
                }
                Outcome::Missing(answer) => {
                    tracing::debug!(host = %self.host, ?way, answer, "tags are not deleted that way");
                    continue;
                }
                Outcome::Failed(error) if way != Way::Standard && is_refused_login(&error) => {
                    tracing::warn!(host = %self.host, ?way, %error, "tags could be deleted by the host's own interface, which refuses the login");
                    continue;
                }
                Outcome::Failed(error) => return Err(self.undeleted(&tag.clone().into(), error)),
            };
            *tags = Tags::By(way);
            return Ok(deletion);
        }
        *tags = Tags::Never;
        Ok(Deletion::Unsupported)
    }

    pub(super) async fn delete_manifest(
        &self,
        hosts: &Hosts,
        digest: &Digest,
    ) -> Result<Deletion, ItemError> {
        let abilities = hosts.of(self.host);
        let mut ability = abilities.manifests.lock().await;
        match *ability {
            Ability::Missing => Ok(Deletion::Unsupported),
            Ability::Unknown => self.delete_and_note(&mut ability, digest).await,
            Ability::Present => {
                drop(ability);
                let mut ability = Ability::Present;
                let deletion = self.delete_and_note(&mut ability, digest).await?;
                *abilities.manifests.lock().await = ability;
                Ok(deletion)
            }
        }
    }

    /// Deletes a manifest, and notes in `ability` whether the host does that.
    async fn delete_and_note(
        &self,
        ability: &mut Ability,
        digest: &Digest,
    ) -> Result<Deletion, ItemError> {
        let reference = Reference::Digest(digest.clone());
        let deletion = match self.delete(&reference).await {
            Outcome::Deleted => Deletion::Done,
            Outcome::Absent if !self.still_has(&reference).await? => Deletion::WasAbsent,
            Outcome::Absent | Outcome::Missing(_) => Deletion::Unsupported,
            Outcome::Failed(error) => return Err(self.undeleted(&reference, error)),
        };
        *ability = if deletion == Deletion::Unsupported {
            Ability::Missing
        } else {
            Ability::Present
        };
        Ok(deletion)
    }

    async fn delete_by(&self, way: Way, tag: &Tag) -> Outcome {
        match way {
            Way::Standard => self.delete(&tag.clone().into()).await,
            Way::Harbor => {
                let Some((project, name)) = self.path.as_str().split_once('/') else {
                    return Outcome::Missing("the repository is in no project".to_owned());
                };
                // A slash in the name is encoded twice (description of `repository_name` in
                // Harbor's API).
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
                // Tokens of the registry are not taken there.
                request.auth_mode = AuthMode::Basic;
                match self.http.send(request).await {
                    Ok(_) => Outcome::Deleted,
                    Err(http::Error::Refused(refusal)) if is_harbors(&refusal) => {
                        match refusal.status.as_u16() {
                            404 => Outcome::Absent,
                            _ => Outcome::Failed(http::Error::Refused(refusal)),
                        }
                    }
                    Err(error) if is_missing(&error) => Outcome::Missing(error.to_string()),
                    Err(error) => Outcome::Failed(error),
                }
            }
            Way::Gitlab => {
                let request = |method| {
                    self.request(method, &format!("tags/reference/{tag}"), DELETE, ACTIONS)
                };
                // This is how GitLab itself finds out, without a look at the tag.
                let answer = match self.http.send(request(Method::OPTIONS)).await {
                    Ok(answer) => answer,
                    Err(error) if is_missing(&error) => return Outcome::Missing(error.to_string()),
                    Err(error) => return Outcome::Failed(error),
                };
                if !answer
                    .header(ALLOW.as_str())
                    .is_some_and(|methods| methods.contains("DELETE"))
                {
                    return Outcome::Missing("its answer does not allow to delete".to_owned());
                }
                outcome(self.http.send(request(Method::DELETE)).await, |_| false)
            }
        }
    }

    async fn delete(&self, reference: &Reference) -> Outcome {
        let request = self.request(
            Method::DELETE,
            &format!("manifests/{reference}"),
            DELETE,
            ACTIONS,
        );
        outcome(self.http.send(request).await, |refusal| {
            is_unsupported(refusal, reference)
        })
    }

    /// Returns whether something is there that the host says it is not: there are hosts whose "not
    /// found" means that they do not know how to delete.
    async fn still_has(&self, reference: &Reference) -> Result<bool, ItemError> {
        Ok(self.resolve(reference).await?.is_some())
    }

    fn undeleted(&self, reference: &Reference, error: http::Error) -> ItemError {
        let mut failed = self.failed(format!("delete {}", self.name(reference)), error);
        // The registry supports deletion but refuses this one: some keep what an index refers to.
        if failed.kind == ItemErrorKind::Unsupported {
            failed.kind = ItemErrorKind::Refused;
        }
        failed
    }
}

fn outcome(
    sent: Result<http::Response, http::Error>,
    is_missing: impl FnOnce(&ErrorResponse) -> bool,
) -> Outcome {
    match sent {
        Ok(_) => Outcome::Deleted,
        Err(error) if is_not_found(&error) => Outcome::Absent,
        Err(http::Error::Refused(refusal)) if is_missing(&refusal) => {
            Outcome::Missing(refusal.to_string())
        }
        Err(error) => Outcome::Failed(error),
    }
}

/// Returns whether a host says that it does not delete such things at all (distribution
/// specification, "Content Management": 400 or 405 where that is disabled).
fn is_unsupported(refusal: &ErrorResponse, reference: &Reference) -> bool {
    let has_code = |code: &str| refusal.errors.iter().any(|error| error.code == code);
    match refusal.status.as_u16() {
        _ if has_code("UNSUPPORTED") => true,
        // zot says so of a manifest that an index refers to.
        405 => !has_code("DENIED"),
        // Version 2 of CNCF distribution takes a tag for a digest that is none.
        400 => {
            refusal.errors.is_empty()
                || (matches!(reference, Reference::Tag(_)) && has_code("DIGEST_INVALID"))
        }
        501 => true,
        _ => false,
    }
}

/// Returns whether a refusal has the form of Harbor's API, rather than that of a host that does not
/// know the path.
fn is_harbors(refusal: &ErrorResponse) -> bool {
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

fn is_refused_login(error: &http::Error) -> bool {
    match error {
        http::Error::Unauthorized { .. } => true,
        error => matches!(
            error.status().map(|status| status.as_u16()),
            Some(401 | 403)
        ),
    }
}
