//! Uploading and mounting blobs.
//!
//! Content is sent in one request, which is fastest and supported by every registry. If that
//! breaks, a large blob continues in parts at the position that the registry reports, so that the
//! next failure costs less. Many registries handle parts wrongly; after the first wrong response,
//! the blob is sent in one request again.

use std::collections::HashMap;
use std::sync::Mutex;

use futures_util::StreamExt;

use super::classify::is_not_found;
use super::content::UploadContent;
use super::repository::{RemoteRepository, scope};
use super::session::{UploadSession, UploadStatus};
use crate::error::{ItemError, ItemErrorKind};
use crate::http::{self, Body, Method, RequestKind, StatusCode};
use crate::model::lock::lock;
use crate::model::{Descriptor, Host, RepositoryPath};
use crate::registry::blob::{BlobContent, BlobPut};
use crate::registry::verify::Verifier;

const START: RequestKind = RequestKind("upload start");
const UPLOAD: RequestKind = RequestKind("upload");

/// Size of a part in bytes, except the last. This much may have to be sent again.
pub(super) const PART_SIZE: u64 = 16 * 1024 * 1024;

/// Maximum number of failed mounts of a host. After that, the run does not try mounts any more.
const MAX_FAILED_MOUNTS: u32 = 2;

/// Maximum number of redirects of the content of a blob.
const MAX_REDIRECTS: u32 = 5;

/// Number of failed mounts of each host. Rejected mounts do not count, because other blobs may be
/// accepted.
#[derive(Default)]
pub(super) struct FailedMounts(Mutex<HashMap<Host, u32>>);

impl FailedMounts {
    fn exceed_limit(&self, host: &Host) -> bool {
        lock(&self.0)
            .get(host)
            .is_some_and(|count| *count >= MAX_FAILED_MOUNTS)
    }

    fn add(&self, host: &Host) {
        *lock(&self.0).entry(host.clone()).or_default() += 1;
    }
}

/// A repository of the same host that may have the blob.
pub(super) struct MountSource<'a> {
    pub(super) path: &'a RepositoryPath,
    pub(super) failed: &'a FailedMounts,
}

/// Result of a mount request.
enum MountResult {
    Mounted,
    /// The registry opened an upload instead.
    Upload(Box<UploadSession>),
    Declined,
}

/// Failure of an upload attempt.
enum UploadFailure {
    /// A request failed; it decides if there is a retry.
    Request(http::Error),
    /// The registry does not accept this blob in parts.
    Parts(ItemError),
    /// A retry does not help: the content is wrong, or the retries are used up.
    Final(ItemError),
}

/// Method of sending the content.
#[derive(Clone, Copy, PartialEq, Eq)]
enum UploadMethod {
    /// In one request, and in parts if that breaks.
    Whole,
    Parts,
    /// Only in one request: parts did not work, or the blob is too small.
    OnlyWhole,
}

/// The upload of one blob, with all its attempts.
struct BlobUpload<'a> {
    repository: RemoteRepository<'a>,
    descriptor: &'a Descriptor,
    content: &'a dyn BlobContent,
    operation: &'a str,
    verifier: Verifier,
    /// Size of a part, in bytes.
    part: u64,
    /// Open session at the registry.
    session: Option<UploadSession>,
    method: UploadMethod,
    /// Offset at which a part was rejected because the registry expected another one.
    refused_offset: Option<u64>,
}

impl RemoteRepository<'_> {
    /// Mounts a blob, or uploads it.
    pub(super) async fn put_blob(
        &self,
        descriptor: &Descriptor,
        content: &dyn BlobContent,
        mount_from: Option<MountSource<'_>>,
        part: u64,
    ) -> Result<BlobPut, ItemError> {
        let operation = format!("upload blob {}", self.blob_name(&descriptor.digest));
        let session = match mount_from {
            Some(from) => match self.mount(descriptor, &from, &operation).await? {
                MountResult::Mounted => return Ok(BlobPut::Mounted),
                MountResult::Upload(session) => Some(*session),
                MountResult::Declined => None,
            },
            None => None,
        };
        let upload = BlobUpload {
            repository: *self,
            descriptor,
            content,
            operation: &operation,
            verifier: Verifier::new(descriptor, "the source", part),
            part,
            session,
            method: if descriptor.size > part {
                UploadMethod::Whole
            } else {
                UploadMethod::OnlyWhole
            },
            refused_offset: None,
        };
        upload.run().await.map(|()| BlobPut::Uploaded)
    }

    /// Tries to mount a blob from another repository.
    ///
    /// If the registry rejects the mount, the blob is uploaded instead. Only errors that would fail
    /// an upload too are retried.
    async fn mount(
        &self,
        descriptor: &Descriptor,
        from: &MountSource<'_>,
        operation: &str,
    ) -> Result<MountResult, ItemError> {
        if from.failed.exceed_limit(self.host) {
            return Ok(MountResult::Declined);
        }
        let from_query: String =
            url::form_urlencoded::byte_serialize(from.path.as_str().as_bytes()).collect();
        let rest = format!(
            "blobs/uploads/?mount={}&from={from_query}",
            descriptor.digest
        );
        let mut retries = self
            .http
            .retries(self.host, START)
            .map_err(|error| self.http_error(operation, error))?;
        loop {
            let mut request = self.request(Method::POST, &rest, START, "pull,push");
            request.access.scopes.push(scope(from.path, "pull"));
            match self.http.send_once(request).await {
                Ok(response) if response.status == StatusCode::CREATED => {
                    self.check_stored(operation, &response, &descriptor.digest)?;
                    return Ok(MountResult::Mounted);
                }
                Ok(response) => {
                    return Ok(UploadSession::opened(self, &response)
                        .map_or(MountResult::Declined, |session| {
                            MountResult::Upload(Box::new(session))
                        }));
                }
                Err(error) if is_about_mounting(&error) => {
                    tracing::debug!(host = %self.host, %error, "the mount was rejected");
                    if matches!(error, http::Error::TokenServer(_))
                        || error
                            .status()
                            .is_some_and(|status| status.is_server_error())
                    {
                        from.failed.add(self.host);
                    }
                    return Ok(MountResult::Declined);
                }
                Err(error) => retries
                    .after(error)
                    .await
                    .map_err(|error| self.http_error(operation, error))?,
            }
        }
    }

    async fn start(&self, operation: &str) -> Result<UploadSession, ItemError> {
        let response = self
            .http
            .send(self.request(Method::POST, "blobs/uploads/", START, "pull,push"))
            .await;
        let response = response.map_err(|error| {
            if is_not_found(&error) {
                let hint = format!("some registries require that the repository {} is created before the first push", self.path);
                self.http_error(operation, error).with_optional_hint(Some(hint))
            } else {
                self.http_error(operation, error)
            }
        })?;
        UploadSession::opened(self, &response).ok_or_else(|| {
            self.error(
                operation,
                ItemErrorKind::Malformed,
                "the registry opened an upload without a location",
            )
        })
    }
}

/// Returns true if an error is about the mount or its token, and not about the host or its rate
/// limit.
fn is_about_mounting(error: &http::Error) -> bool {
    match error {
        http::Error::Refused(refusal) => !matches!(refusal.status.as_u16(), 408 | 429),
        http::Error::Unauthorized { .. } | http::Error::TokenServer(_) => true,
        _ => false,
    }
}

impl BlobUpload<'_> {
    async fn run(mut self) -> Result<(), ItemError> {
        let retries = self.repository.http.retries(self.repository.host, UPLOAD);
        let mut retries =
            retries.map_err(|error| self.repository.http_error(self.operation, error))?;
        let mut has_new_token = false;
        let mut redirects = 0;
        let error = loop {
            match self.attempt().await {
                Ok(()) => return Ok(()),
                // No content was read yet, and the session still exists.
                Err(UploadFailure::Request(http::Error::StaleToken { .. })) if !has_new_token => {
                    has_new_token = true;
                }
                Err(UploadFailure::Request(http::Error::Moved { to, .. }))
                    if redirects < MAX_REDIRECTS =>
                {
                    redirects += 1;
                    if let Some(session) = &mut self.session {
                        session.redirect(*to);
                    }
                }
                Err(UploadFailure::Request(error)) => match self.prepare_retry(error).await {
                    Ok(error) => {
                        if let Err(error) = retries.after(error).await {
                            break self.repository.http_error(self.operation, error);
                        }
                    }
                    Err(error) => {
                        if !retries.pause().await {
                            break error;
                        }
                    }
                },
                Err(UploadFailure::Parts(error)) => {
                    self.method = UploadMethod::OnlyWhole;
                    self.cancel().await;
                    if !retries.pause().await {
                        break error;
                    }
                }
                Err(UploadFailure::Final(error)) => break error,
            }
        };
        self.cancel().await;
        Err(error)
    }

    /// Chooses the method of the next attempt after a request failed.
    ///
    /// Returns `Ok` with the error if the error itself decides about a retry, and `Err` if a retry
    /// is useful in any case.
    async fn prepare_retry(&mut self, error: http::Error) -> Result<http::Error, ItemError> {
        if error.is_transient() {
            match self.method {
                UploadMethod::Whole => self.method = UploadMethod::Parts,
                UploadMethod::Parts => {}
                UploadMethod::OnlyWhole => self.cancel().await,
            }
            return Ok(error);
        }
        match (error.status(), self.method) {
            (None | Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN), _) => return Ok(error),
            // The next attempt asks for the expected offset.
            (Some(StatusCode::RANGE_NOT_SATISFIABLE), UploadMethod::Parts) => {}
            (Some(StatusCode::NOT_FOUND), method) => {
                // The session no longer exists.
                if let Some(session) = self.session.take() {
                    session.forget();
                }
                if method == UploadMethod::Parts {
                    self.method = UploadMethod::OnlyWhole;
                }
            }
            // Proxies in front of a registry often limit the size of requests.
            (Some(StatusCode::PAYLOAD_TOO_LARGE), UploadMethod::Whole) => {
                self.cancel().await;
                self.method = UploadMethod::Parts;
            }
            (Some(_), UploadMethod::Parts) => {
                self.cancel().await;
                self.method = UploadMethod::OnlyWhole;
            }
            (Some(_), UploadMethod::Whole | UploadMethod::OnlyWhole) => return Ok(error),
        }
        Err(self.repository.http_error(self.operation, error))
    }

    /// Sends the content that the registry does not have yet, and commits the blob.
    async fn attempt(&mut self) -> Result<(), UploadFailure> {
        let mut offset = 0;
        if self.method == UploadMethod::Parts && self.session.is_some() {
            match self.reached().await? {
                Some(reached) => offset = reached,
                // Possibly only the response to the last request was lost.
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
        // Open the content first: some registries close an upload that waits for it.
        let source = self.open(offset).await.map_err(UploadFailure::Final)?;
        let mut session = match self.session.take() {
            Some(session) => session,
            None => self
                .repository
                .start(self.operation)
                .await
                .map_err(UploadFailure::Final)?,
        };
        match self.send(&mut session, offset, source.as_ref()).await {
            Ok(response) => {
                session.forget();
                self.repository
                    .check_stored(self.operation, &response, &self.descriptor.digest)
                    .map_err(UploadFailure::Final)
            }
            Err(broken) => {
                self.session = Some(session);
                Err(source
                    .and_then(|source| source.failure())
                    .map_or(broken, UploadFailure::Final))
            }
        }
    }

    /// Returns the offset at which the upload continues, or `None` if it must start again.
    async fn reached(&mut self) -> Result<Option<u64>, UploadFailure> {
        let Some(mut session) = self.session.take() else {
            return Ok(None);
        };
        let status = match session.status(&self.repository).await {
            Ok(status) => status,
            Err(error) => {
                self.session = Some(session);
                return Err(UploadFailure::Request(error));
            }
        };
        let has_parts = session.has_parts;
        match status {
            UploadStatus::Reached(offset)
                if offset <= self.verifier.passed() && self.refused_offset != Some(offset) =>
            {
                self.session = Some(session);
                tracing::debug!(host = %self.repository.host, offset, "an upload continues");
                return Ok(Some(offset));
            }
            UploadStatus::Gone => session.forget(),
            UploadStatus::Reached(_) | UploadStatus::Unknown => session.cancel().await,
        }
        if has_parts {
            self.method = UploadMethod::OnlyWhole;
        }
        Ok(None)
    }

    /// Returns the content from `offset` on, or `None` if there is none.
    async fn open(&self, offset: u64) -> Result<Option<UploadContent>, ItemError> {
        if offset > 0 && offset == self.descriptor.size {
            return Ok(None);
        }
        let stream = self.content.open(self.verifier.start(offset)).await?;
        let mut stream = self.verifier.read(stream, offset);
        if self.descriptor.size == 0 {
            // No content will be sent, so the empty content must be verified here.
            return stream.next().await.transpose().map(|_| None);
        }
        Ok(Some(UploadContent::new(stream)))
    }

    /// Sends the content from `offset` on, and commits the blob.
    async fn send(
        &mut self,
        session: &mut UploadSession,
        offset: u64,
        source: Option<&UploadContent>,
    ) -> Result<http::Response, UploadFailure> {
        let repository = &self.repository;
        let size = self.descriptor.size;
        let body = match (source, self.method) {
            (None, _) => Body::Empty,
            (Some(source), UploadMethod::Whole | UploadMethod::OnlyWhole) => Body::Stream {
                length: size,
                content: source.part(size),
            },
            (Some(source), UploadMethod::Parts) => {
                let part = self.part.max(session.min_part);
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
                    sent.map_err(UploadFailure::Request)?;
                    at += length;
                    if source.sent() != at - offset {
                        let cause = "the registry acknowledged content before it was sent";
                        return Err(UploadFailure::Parts(repository.error(
                            self.operation,
                            ItemErrorKind::Malformed,
                            cause,
                        )));
                    }
                }
                Body::Empty
            }
        };
        let response = session
            .finish(repository, &self.descriptor.digest, body)
            .await
            .map_err(UploadFailure::Request)?;
        if response.status == StatusCode::ACCEPTED {
            let cause = "the registry accepted the content but did not store it";
            return Err(UploadFailure::Final(repository.error(
                self.operation,
                ItemErrorKind::Malformed,
                cause,
            )));
        }
        Ok(response)
    }

    async fn cancel(&mut self) {
        if let Some(session) = self.session.take() {
            session.cancel().await;
        }
    }
}
