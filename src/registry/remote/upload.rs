//! Uploading and mounting blobs.
//!
//! Content goes in one request, which is fastest and which every registry can. When that breaks, a
//! large blob goes on in parts from where the registry says that it got to, so that less is lost
//! when it breaks again. Registries answer wrong to that in many ways; once one does, the blob is
//! sent in one request again.

use std::collections::HashMap;
use std::sync::Mutex;

use futures_util::StreamExt;

use super::session::{Session, Status};
use super::source::Source;
use super::{RemoteRepository, scope};
use crate::error::{ItemError, ItemErrorKind};
use crate::http::{self, Body, Method, RequestKind, StatusCode};
use crate::model::lock::lock;
use crate::model::{Descriptor, Host, RepositoryPath};
use crate::registry::verify::Verifier;
use crate::registry::{BlobPut, Reopen};

const START: RequestKind = RequestKind("upload start");
const UPLOAD: RequestKind = RequestKind("upload");

/// How much a part has at least, in bytes, unless it is the last: what may have to be sent again.
pub(super) const PART: u64 = 16 * 1024 * 1024;

/// How often a host may answer that it failed when it was to share a blob: it is not asked again in
/// that run.
const MOST_FAILED_MOUNTS: u32 = 2;

/// How often hosts failed to share a blob. What they refuse for a reason does not count: it may be
/// another for another blob.
#[derive(Default)]
pub(super) struct FailedMounts(Mutex<HashMap<Host, u32>>);

impl FailedMounts {
    fn are_too_many(&self, host: &Host) -> bool {
        lock(&self.0)
            .get(host)
            .is_some_and(|count| *count >= MOST_FAILED_MOUNTS)
    }

    fn add(&self, host: &Host) {
        *lock(&self.0).entry(host.clone()).or_default() += 1;
    }
}

/// A repository of the same host that may have a blob.
pub(super) struct MountFrom<'a> {
    pub(super) path: &'a RepositoryPath,
    pub(super) failed: &'a FailedMounts,
}

/// What came of asking the registry to share a blob.
enum Mount {
    Mounted,
    /// It wants the content, and opened an upload for it.
    Upload(Session),
    Declined,
}

/// What a try to upload failed by: it decides whether there is another.
enum Broken {
    /// A request.
    Request(http::Error),
    /// The registry cannot be sent this blob in parts.
    Parts(ItemError),
    /// Something that another try does not change: the content, or what was tried often enough
    /// already.
    Final(ItemError),
}

/// How content is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// In one request, and in parts when that breaks.
    Whole,
    Parts,
    /// In one request, since parts did not work or are not worth it.
    OnlyWhole,
}

/// An upload of one blob, over all its tries.
struct Upload<'a> {
    repository: RemoteRepository<'a>,
    descriptor: &'a Descriptor,
    content: &'a dyn Reopen,
    action: &'a str,
    verifier: Verifier,
    /// The size of a part, in bytes.
    part: u64,
    /// What is open at the registry.
    session: Option<Session>,
    way: Way,
    /// Where a part was refused because the registry had come to another place.
    refused_offset: Option<u64>,
}

impl RemoteRepository<'_> {
    pub(super) async fn put_blob(
        &self,
        descriptor: &Descriptor,
        content: &dyn Reopen,
        mount_from: Option<MountFrom<'_>>,
        part: u64,
    ) -> Result<BlobPut, ItemError> {
        let action = format!("upload blob {}", self.blob_name(&descriptor.digest));
        let session = match mount_from {
            Some(from) => match self.mount(descriptor, &from, &action).await? {
                Mount::Mounted => return Ok(BlobPut::Mounted),
                Mount::Upload(session) => Some(session),
                Mount::Declined => None,
            },
            None => None,
        };
        let upload = Upload {
            repository: *self,
            descriptor,
            content,
            action: &action,
            verifier: Verifier::new(descriptor, "the source", part),
            part,
            session,
            way: if descriptor.size > part {
                Way::Whole
            } else {
                Way::OnlyWhole
            },
            refused_offset: None,
        };
        upload.run().await.map(|()| BlobPut::Uploaded)
    }

    /// Asks the registry to share a blob that it holds in another repository. Whatever it has
    /// against that, an upload does without it, so only what would fail an upload just as well is
    /// tried again.
    async fn mount(
        &self,
        descriptor: &Descriptor,
        from: &MountFrom<'_>,
        action: &str,
    ) -> Result<Mount, ItemError> {
        if from.failed.are_too_many(self.host) {
            return Ok(Mount::Declined);
        }
        let from_query: String =
            url::form_urlencoded::byte_serialize(from.path.as_str().as_bytes()).collect();
        let rest = format!(
            "blobs/uploads/?mount={}&from={from_query}",
            descriptor.digest
        );
        let mut tries = self
            .http
            .retries(self.host, START)
            .map_err(|error| self.failed(action, error))?;
        loop {
            let mut request = self.request(Method::POST, &rest, START, "pull,push");
            request.access.scopes.push(scope(from.path, "pull"));
            match self.http.send_once(request).await {
                Ok(answer) if answer.status == StatusCode::CREATED => {
                    self.check_stored(action, &answer, &descriptor.digest)?;
                    return Ok(Mount::Mounted);
                }
                Ok(answer) => {
                    return Ok(
                        Session::opened(self, &answer).map_or(Mount::Declined, Mount::Upload)
                    );
                }
                Err(error) if is_of_mounting(&error) => {
                    tracing::debug!(host = %self.host, %error, "mounting was declined");
                    if matches!(error, http::Error::TokenServer(_))
                        || error
                            .status()
                            .is_some_and(|status| status.is_server_error())
                    {
                        from.failed.add(self.host);
                    }
                    return Ok(Mount::Declined);
                }
                Err(error) => tries
                    .after(error)
                    .await
                    .map_err(|error| self.failed(action, error))?,
            }
        }
    }

    async fn start(&self, action: &str) -> Result<Session, ItemError> {
        let answer = self
            .http
            .send(self.request(Method::POST, "blobs/uploads/", START, "pull,push"))
            .await;
        let answer = answer.map_err(|error| {
            if super::is_not_found(&error) {
                let hint = format!("some registries need the repository {} to be created before anything is pushed to it", self.path);
                self.failed(action, error).with_optional_hint(Some(hint))
            } else {
                self.failed(action, error)
            }
        })?;
        Session::opened(self, &answer).ok_or_else(|| {
            self.wrong(
                action,
                ItemErrorKind::Malformed,
                "the registry opened an upload and did not say where",
            )
        })
    }
}

/// Returns whether a failure says something of mounting, or of the token that it alone needs,
/// rather than of the host or how often it may be asked.
fn is_of_mounting(error: &http::Error) -> bool {
    match error {
        http::Error::Refused(refusal) => !matches!(refusal.status.as_u16(), 408 | 429),
        http::Error::Unauthorized { .. } | http::Error::TokenServer(_) => true,
        _ => false,
    }
}

impl Upload<'_> {
    async fn run(mut self) -> Result<(), ItemError> {
        let tries = self.repository.http.retries(self.repository.host, UPLOAD);
        let mut tries = tries.map_err(|error| self.repository.failed(self.action, error))?;
        let mut logged_in_again = false;
        let error = loop {
            match self.attempt().await {
                Ok(()) => return Ok(()),
                // Nothing of the content was taken yet, and the session is still there.
                Err(Broken::Request(http::Error::StaleToken { .. })) if !logged_in_again => {
                    logged_in_again = true;
                }
                Err(Broken::Request(error)) => match self.react(error).await {
                    Ok(error) => {
                        if let Err(error) = tries.after(error).await {
                            break self.repository.failed(self.action, error);
                        }
                    }
                    Err(error) => {
                        if !tries.pause().await {
                            break error;
                        }
                    }
                },
                Err(Broken::Parts(error)) => {
                    self.way = Way::OnlyWhole;
                    self.give_up().await;
                    if !tries.pause().await {
                        break error;
                    }
                }
                Err(Broken::Final(error)) => break error,
            }
        };
        self.give_up().await;
        Err(error)
    }

    /// Decides how to go on after a request failed. Returns the failure when it is to be judged by
    /// itself, and as an error when another try is worth it in any case.
    async fn react(&mut self, error: http::Error) -> Result<http::Error, ItemError> {
        if error.is_transient() {
            match self.way {
                Way::Whole => self.way = Way::Parts,
                Way::Parts => {}
                Way::OnlyWhole => self.give_up().await,
            }
            return Ok(error);
        }
        match (error.status(), self.way) {
            (None | Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN), _) => return Ok(error),
            // Where it wants to go on is asked then.
            (Some(StatusCode::RANGE_NOT_SATISFIABLE), Way::Parts) => {}
            (Some(StatusCode::NOT_FOUND), way) => {
                // It forgot the upload.
                if let Some(session) = self.session.take() {
                    session.forget();
                }
                if way == Way::Parts {
                    self.way = Way::OnlyWhole;
                }
            }
            // What stands before a registry often bounds the size of a request.
            (Some(StatusCode::PAYLOAD_TOO_LARGE), Way::Whole) => {
                self.give_up().await;
                self.way = Way::Parts;
            }
            (Some(_), Way::Parts) => {
                self.give_up().await;
                self.way = Way::OnlyWhole;
            }
            (Some(_), Way::Whole | Way::OnlyWhole) => return Ok(error),
        }
        Err(self.repository.failed(self.action, error))
    }

    /// Sends what the registry does not have yet, and commits it.
    async fn attempt(&mut self) -> Result<(), Broken> {
        let mut offset = 0;
        if self.way == Way::Parts && self.session.is_some() {
            match self.reached().await? {
                Some(reached) => offset = reached,
                // The answer to the last request may be all that was lost.
                None if self
                    .repository
                    .has_blob(self.descriptor)
                    .await
                    .unwrap_or(false) =>
                {
                    return Ok(());
                }
                None => {}
            }
        }
        // The content first: an upload that waits for it is closed by some registries.
        let source = self.open(offset).await.map_err(Broken::Final)?;
        let mut session = match self.session.take() {
            Some(session) => session,
            None => self
                .repository
                .start(self.action)
                .await
                .map_err(Broken::Final)?,
        };
        match self.send(&mut session, offset, source.as_ref()).await {
            Ok(answer) => {
                session.forget();
                self.repository
                    .check_stored(self.action, &answer, &self.descriptor.digest)
                    .map_err(Broken::Final)
            }
            Err(broken) => {
                self.session = Some(session);
                Err(source
                    .and_then(|source| source.failure())
                    .map_or(broken, Broken::Final))
            }
        }
    }

    /// Returns where the registry wants the upload to go on, or `None` when that has to begin anew.
    async fn reached(&mut self) -> Result<Option<u64>, Broken> {
        let Some(mut session) = self.session.take() else {
            return Ok(None);
        };
        let status = match session.status(&self.repository).await {
            Ok(status) => status,
            Err(error) => {
                self.session = Some(session);
                return Err(Broken::Request(error));
            }
        };
        let has_parts = session.has_parts;
        match status {
            Status::Reached(offset)
                if offset <= self.verifier.passed() && self.refused_offset != Some(offset) =>
            {
                self.session = Some(session);
                tracing::debug!(host = %self.repository.host, offset, "an upload goes on");
                return Ok(Some(offset));
            }
            Status::Gone => session.forget(),
            Status::Reached(_) | Status::Unknown => session.cancel().await,
        }
        if has_parts {
            self.way = Way::OnlyWhole;
        }
        Ok(None)
    }

    /// Returns the content from `offset` on, or `None` when there is none.
    async fn open(&self, offset: u64) -> Result<Option<Source>, ItemError> {
        if offset > 0 && offset == self.descriptor.size {
            return Ok(None);
        }
        let stream = self.content.open(self.verifier.start(offset)).await?;
        let mut stream = self.verifier.read(stream, offset);
        if self.descriptor.size == 0 {
            // There is nothing to send, so nobody would look whether that is right.
            return stream.next().await.transpose().map(|_| None);
        }
        Ok(Some(Source::new(stream)))
    }

    /// Sends the content from `offset` on, and commits it.
    async fn send(
        &mut self,
        session: &mut Session,
        offset: u64,
        source: Option<&Source>,
    ) -> Result<http::Response, Broken> {
        let repository = &self.repository;
        let size = self.descriptor.size;
        let body = match (source, self.way) {
            (None, _) => Body::Empty,
            (Some(source), Way::Whole | Way::OnlyWhole) => Body::Stream {
                length: size,
                content: source.part(size),
            },
            (Some(source), Way::Parts) => {
                let part = self.part.max(session.minimum);
                let mut at = offset;
                while at < size {
                    let length = part.min(size - at);
                    let sent = session
                        .send_part(repository, at, length, source.part(length))
                        .await;
                    if sent.as_ref().is_err_and(|error| {
                        error.status() == Some(StatusCode::RANGE_NOT_SATISFIABLE)
                    }) {
                        self.refused_offset = Some(at);
                    }
                    sent.map_err(Broken::Request)?;
                    at += length;
                    if source.taken() != at - offset {
                        let detail = "the registry acknowledged content before it was sent";
                        return Err(Broken::Parts(repository.wrong(
                            self.action,
                            ItemErrorKind::Malformed,
                            detail,
                        )));
                    }
                }
                Body::Empty
            }
        };
        let answer = session
            .finish(repository, &self.descriptor.digest, body)
            .await
            .map_err(Broken::Request)?;
        if answer.status == StatusCode::ACCEPTED {
            let detail = "the registry took the content and did not store it";
            return Err(Broken::Final(repository.wrong(
                self.action,
                ItemErrorKind::Malformed,
                detail,
            )));
        }
        Ok(answer)
    }

    async fn give_up(&mut self) {
        if let Some(session) = self.session.take() {
            session.cancel().await;
        }
    }
}
