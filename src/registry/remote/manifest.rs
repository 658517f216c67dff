//! Resolving, reading and writing manifests.

use super::classify::is_not_found;
use super::repository::{RemoteRepository, stated_digest};
use crate::error::{ItemError, ItemErrorKind};
use crate::http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use crate::http::{self, Body, Method, RequestKind, StatusCode};
use crate::model::manifest::{MAX_MANIFEST_BYTES, ManifestError};
use crate::model::media_type;
use crate::model::text::excerpt;
use crate::model::{Algorithm, Digest, Manifest, Reference};
use crate::registry::store::Resolved;

const LOOK_UP: RequestKind = RequestKind("manifest lookup");
const READ: RequestKind = RequestKind("manifest read");
const WRITE: RequestKind = RequestKind("manifest write");

/// Number of retries if the registry reports that content which was just stored does not exist. If
/// two runs store the same content at the same time, Debian's registry truncates its link file for
/// a moment before it writes it again.
const MISSING_CONTENT_RETRIES: u32 = 3;

fn reports_missing_content(error: &http::Error) -> bool {
    ["MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN", "MANIFEST_UNKNOWN"]
        .iter()
        .any(|code| error.has_code(code))
}

impl RemoteRepository<'_> {
    /// Returns the digest of a manifest by a HEAD, or by reading it if that is not enough.
    pub(super) async fn resolve(
        &self,
        reference: &Reference,
    ) -> Result<Option<Resolved>, ItemError> {
        let operation = || format!("look up {}", self.name(reference));
        let response = match self
            .http
            .send(self.manifest_request(Method::HEAD, reference, LOOK_UP))
            .await
        {
            Ok(response) => response,
            Err(error) if is_not_found(&error) => return Ok(None),
            // Some registries do not support HEAD. After other errors, a GET would fail as well and
            // count as a pull.
            Err(error)
                if matches!(
                    error.status(),
                    Some(StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED)
                ) =>
            {
                return self.resolve_by_reading(reference).await;
            }
            Err(error) => return Err(self.http_error(operation(), error)),
        };
        let Some(stated) = stated_digest(&response) else {
            return self.resolve_by_reading(reference).await;
        };
        let digest = self
            .check_stated(reference, stated)
            .map_err(|cause| self.error(operation(), ItemErrorKind::Corrupt, cause))?;
        Ok(Some(digest.into()))
    }

    async fn resolve_by_reading(
        &self,
        reference: &Reference,
    ) -> Result<Option<Resolved>, ItemError> {
        Ok(self
            .manifest(reference)
            .await?
            .map(|manifest| manifest.digest.into()))
    }

    /// Returns a manifest, or `None` if it does not exist. The digest of its bytes must match the
    /// requested and the stated digest.
    pub(super) async fn manifest(
        &self,
        reference: &Reference,
    ) -> Result<Option<Manifest>, ItemError> {
        let operation = || format!("read manifest {}", self.name(reference));
        let corrupt = |cause: String| self.error(operation(), ItemErrorKind::Corrupt, cause);
        let mut request = self.manifest_request(Method::GET, reference, READ);
        request.limit = MAX_MANIFEST_BYTES;
        request.uses_quota = true;
        let response = match self.http.send(request).await {
            Ok(response) => response,
            Err(error) if is_not_found(&error) => return Ok(None),
            Err(error) => return Err(self.http_error(operation(), error)),
        };
        let stated = stated_digest(&response);
        let algorithm = match (reference, &stated) {
            (Reference::Digest(digest), _) => digest.algorithm(),
            (Reference::Tag(_), Some(stated)) => stated.algorithm(),
            (Reference::Tag(_), None) => Algorithm::Sha256,
        };
        let digest = Digest::of(algorithm, &response.body);
        for expected in stated
            .iter()
            .chain(requested_digest(reference))
            .filter(|expected| expected.algorithm() == algorithm)
        {
            if *expected != digest {
                return Err(corrupt(format!(
                    "its bytes have the digest {digest}, not {expected}"
                )));
            }
        }
        let content_type = response.header(CONTENT_TYPE.as_str()).map(str::to_owned);
        Manifest::parse(response.body, content_type.as_deref(), algorithm)
            .map(Some)
            .map_err(|error| {
                let kind = match error {
                    ManifestError::SchemaOne => ItemErrorKind::Unsupported,
                    _ => ItemErrorKind::Malformed,
                };
                self.error(operation(), kind, "").caused_by(error)
            })
    }

    /// Stores a manifest.
    pub(super) async fn put_manifest(
        &self,
        reference: &Reference,
        manifest: &Manifest,
    ) -> Result<(), ItemError> {
        let operation = format!("write manifest {}", self.name(reference));
        let content_type = HeaderValue::from_str(&manifest.media_type).map_err(|_| {
            let cause = format!(
                "its media type `{}` cannot be sent",
                excerpt(&manifest.media_type, 120)
            );
            self.error(&operation, ItemErrorKind::Malformed, cause)
        })?;
        let request = || {
            let request = self.request(
                Method::PUT,
                &format!("manifests/{reference}"),
                WRITE,
                "pull,push",
            );
            http::Request {
                body: Body::Bytes(manifest.bytes.clone()),
                ..request.header(CONTENT_TYPE, content_type.clone())
            }
        };
        let mut retries = self
            .http
            .retries(self.host, WRITE)
            .map_err(|error| self.http_error(&operation, error))?;
        let mut repeated = 0;
        loop {
            match self.http.send(request()).await {
                Ok(response) => return self.check_stored(&operation, &response, &manifest.digest),
                Err(error)
                    if repeated < MISSING_CONTENT_RETRIES && reports_missing_content(&error) =>
                {
                    repeated += 1;
                    tracing::debug!(host = %self.host, %error, "retrying: the referenced content was stored a moment ago");
                    if !retries.pause().await {
                        return Err(self.http_error(&operation, error));
                    }
                }
                Err(error) => return Err(self.http_error(&operation, error)),
            }
        }
    }

    fn manifest_request(
        &self,
        method: Method,
        reference: &Reference,
        kind: RequestKind,
    ) -> http::Request {
        let mut request = self.request(method, &format!("manifests/{reference}"), kind, "pull");
        for accepted in media_type::ACCEPTED_MANIFESTS {
            request
                .headers
                .append(ACCEPT, HeaderValue::from_static(accepted));
        }
        request
    }

    /// Returns the digest of a manifest. Fails if the requested and the stated digest differ.
    fn check_stated(&self, reference: &Reference, stated: Digest) -> Result<Digest, String> {
        match requested_digest(reference) {
            Some(requested)
                if requested.algorithm() == stated.algorithm() && *requested != stated =>
            {
                Err(format!("{} states the digest {stated}", self.host))
            }
            Some(requested) => Ok(requested.clone()),
            None => Ok(stated),
        }
    }
}

fn requested_digest(reference: &Reference) -> Option<&Digest> {
    match reference {
        Reference::Digest(digest) => Some(digest),
        Reference::Tag(_) => None,
    }
}
