//! Uploading and mounting blobs.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{StreamExt, TryStreamExt};

use super::{RemoteRepository, scope};
use crate::http::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use crate::http::{self, Body, Kind, Method, Request, StatusCode, Target, Url};
use crate::model::{Descriptor, RepositoryPath};
use crate::registry::{BlobPut, PlaceError, PlaceErrorKind, Reopen, verified};

const START: Kind = Kind("upload start");
const UPLOAD: Kind = Kind("upload");
const CANCEL: Kind = Kind("upload cancel");

/// What a try to upload failed by: it decides whether there is another.
enum Broken {
    /// The content.
    Source(PlaceError),
    /// Sending it.
    Target(http::Error),
    /// Something that was tried often enough, or that another try does not change.
    Final(PlaceError),
}

/// What came of asking the registry to share a blob.
enum Mount {
    Mounted,
    /// It wants the content, and opened an upload for it.
    Upload(Url),
    Declined,
}

impl RemoteRepository<'_> {
    pub(super) async fn put_blob(
        &self,
        descriptor: &Descriptor,
        content: &dyn Reopen,
        mount_from: Option<&RepositoryPath>,
    ) -> Result<BlobPut, PlaceError> {
        let action = format!("upload blob {}", self.blob_name(&descriptor.digest));
        let mut session = match mount_from {
            Some(from) => match self.mount(descriptor, from, &action).await? {
                Mount::Mounted => return Ok(BlobPut::Mounted),
                Mount::Upload(session) => Some(session),
                Mount::Declined => None,
            },
            None => None,
        };
        let mut tries = self.http.tries(self.host, UPLOAD).map_err(|error| self.failed(&action, error))?;
        let mut logged_in_again = false;
        loop {
            match self.upload(descriptor, content, session.take(), &action).await {
                Ok(()) => return Ok(BlobPut::Uploaded),
                Err(Broken::Target(http::Error::StaleToken { .. })) if !logged_in_again => logged_in_again = true,
                Err(Broken::Target(error)) => tries.after(error).await.map_err(|error| self.failed(&action, error))?,
                Err(Broken::Source(error)) => {
                    let can_pass = matches!(error.kind, PlaceErrorKind::Unreachable | PlaceErrorKind::ServerError);
                    if !(can_pass && tries.pause().await) {
                        return Err(error);
                    }
                }
                Err(Broken::Final(error)) => return Err(error),
            }
        }
    }

    /// Asks the registry to share a blob that it holds in the repository `from`.
    async fn mount(&self, descriptor: &Descriptor, from: &RepositoryPath, action: &str) -> Result<Mount, PlaceError> {
        let from_query: String = url::form_urlencoded::byte_serialize(from.as_str().as_bytes()).collect();
        let rest = format!("blobs/uploads/?mount={}&from={from_query}", descriptor.digest);
        let mut request = self.request(Method::POST, &rest, START, "pull,push");
        request.access.scopes.push(scope(from, "pull"));
        match self.http.send(request).await {
            Ok(answer) if answer.status == StatusCode::CREATED => {
                self.check_stored(action, &answer, &descriptor.digest)?;
                Ok(Mount::Mounted)
            }
            Ok(answer) => Ok(self.session(&answer, action).map_or(Mount::Declined, Mount::Upload)),
            // Whatever the registry has against mounting, an upload does without it.
            Err(error)
                if matches!(&error, http::Error::Unauthorized { .. }) || error.status().is_some_and(|status| status.is_client_error()) =>
            {
                tracing::debug!(host = %self.host, %error, "mounting was declined");
                Ok(Mount::Declined)
            }
            Err(error) => Err(self.failed(action, error)),
        }
    }

    /// Sends the content once, in an upload that is open already or a new one.
    async fn upload(&self, descriptor: &Descriptor, content: &dyn Reopen, session: Option<Url>, action: &str) -> Result<(), Broken> {
        // The content first: an upload that waits for it is closed by some registries.
        let source = match content.open(0).await {
            Ok(source) => verified(source, descriptor, "the source"),
            Err(error) => {
                if let Some(session) = session {
                    self.cancel(session).await;
                }
                return Err(Broken::Final(error));
            }
        };
        let session = match session {
            Some(session) => session,
            None => self.start(action).await.map_err(Broken::Final)?,
        };
        let failure = Arc::new(Mutex::new(None));
        let noted = Arc::clone(&failure);
        let mut source = source.map_err(move |error| {
            let told = std::io::Error::other(error.detail.clone());
            noted.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            told
        });
        let body = if descriptor.size == 0 {
            // There is nothing to send, so nobody would look whether that is right.
            drop(source.next().await);
            Body::Empty
        } else {
            Body::Stream { length: descriptor.size, content: source.boxed() }
        };
        let source_failure = || failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        let result = match source_failure() {
            Some(error) => Err(Broken::Source(error)),
            None => match self.finish(descriptor, &session, body).await {
                Ok(answer) => self.check_finished(descriptor, &answer, action).map_err(Broken::Final),
                Err(error) => Err(source_failure().map_or(Broken::Target(error), Broken::Source)),
            },
        };
        if result.is_err() {
            self.cancel(session).await;
        }
        result
    }

    async fn start(&self, action: &str) -> Result<Url, PlaceError> {
        let answer = self.http.send(self.request(Method::POST, "blobs/uploads/", START, "pull,push")).await;
        let answer = answer.map_err(|error| {
            if super::is_not_found(&error) {
                let hint = format!("some registries need the repository {} to be created before anything is pushed to it", self.path);
                self.failed(action, error).hinting(Some(hint))
            } else {
                self.failed(action, error)
            }
        })?;
        self.session(&answer, action)
    }

    /// Returns the address of the upload that an answer opened.
    fn session(&self, answer: &http::Answer, action: &str) -> Result<Url, PlaceError> {
        let location = answer.header(LOCATION.as_str()).and_then(|location| answer.url.join(location).ok());
        location.ok_or_else(|| self.wrong(action, PlaceErrorKind::Malformed, "the registry opened an upload and did not say where"))
    }

    /// Sends the content and commits it under its digest, in one request.
    async fn finish(&self, descriptor: &Descriptor, session: &Url, body: Body) -> Result<http::Answer, http::Error> {
        // What the address has in its query is the registry's, and stays as it is.
        let mut url = session.clone();
        url.query_pairs_mut().append_pair("digest", descriptor.digest.as_str());
        let mut request = self.session_request(Method::PUT, url, UPLOAD);
        request.body = body;
        self.http.send(request.header(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))).await
    }

    fn check_finished(&self, descriptor: &Descriptor, answer: &http::Answer, action: &str) -> Result<(), PlaceError> {
        if answer.status == StatusCode::ACCEPTED {
            return Err(self.wrong(action, PlaceErrorKind::Malformed, "the registry took the content and did not store it"));
        }
        self.check_stored(action, answer, &descriptor.digest)
    }

    /// Gives an upload up, so that the registry need not keep what it has of it. Failures change nothing: it expires by itself.
    async fn cancel(&self, session: Url) {
        let mut request = self.session_request(Method::DELETE, session, CANCEL);
        // Some registries count this as deleting.
        request.access = self.access("pull,push,delete");
        if let Err(error) = self.http.send_once(request).await {
            tracing::debug!(host = %self.host, %error, "an upload could not be cancelled");
        }
    }

    fn session_request(&self, method: Method, url: Url, kind: Kind) -> Request {
        Request::new(method, self.host, Target::Url(url), kind, self.access("pull,push"))
    }
}
