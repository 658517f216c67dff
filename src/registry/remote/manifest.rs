//! Looking up, reading and writing manifests.

use super::{RemoteRepository, is_not_found, stated_digest};
use crate::error::{ItemError, ItemErrorKind};
use crate::http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use crate::http::{self, Body, Method, RequestKind, StatusCode};
use crate::model::manifest::{MAX_MANIFEST_BYTES, ManifestError};
use crate::model::media_type;
use crate::model::text::excerpt;
use crate::model::{Algorithm, Digest, Manifest, Reference};
use crate::registry::Resolved;

const LOOK_UP: RequestKind = RequestKind("manifest lookup");
const READ: RequestKind = RequestKind("manifest read");
const WRITE: RequestKind = RequestKind("manifest write");

/// How often a registry that does not know what was just put is asked again. When two runs put the
/// same content at once, Debian's registry empties its link for a moment before it writes it again.
const FORGETFUL_TRIES: u32 = 3;

fn forgot_something(error: &http::Error) -> bool {
    ["MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN", "MANIFEST_UNKNOWN"]
        .iter()
        .any(|code| error.has_code(code))
}

impl RemoteRepository<'_> {
    /// Returns what a HEAD tells of a manifest. Where that is not enough, the manifest is read.
    pub(super) async fn resolve(
        &self,
        reference: &Reference,
    ) -> Result<Option<Resolved>, ItemError> {
        let action = || format!("look up {}", self.name(reference));
        let answer = match self
            .http
            .send(self.manifest_request(Method::HEAD, reference, LOOK_UP))
            .await
        {
            Ok(answer) => answer,
            Err(error) if is_not_found(&error) => return Ok(None),
            // Some know no HEAD. Other failures are none that reading would not have, and cost a
            // pull.
            Err(error)
                if matches!(
                    error.status(),
                    Some(StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED)
                ) =>
            {
                return self.resolve_by_reading(reference).await;
            }
            Err(error) => return Err(self.failed(action(), error)),
        };
        let Some(stated) = stated_digest(&answer) else {
            return self.resolve_by_reading(reference).await;
        };
        let digest = self
            .agreed(reference, stated)
            .map_err(|detail| self.wrong(action(), ItemErrorKind::Corrupt, detail))?;
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

    /// Returns a manifest. Its bytes are hashed; what was asked for and what the registry states
    /// must agree with that.
    pub(super) async fn manifest(
        &self,
        reference: &Reference,
    ) -> Result<Option<Manifest>, ItemError> {
        let action = || format!("read manifest {}", self.name(reference));
        let corrupt = |detail: String| self.wrong(action(), ItemErrorKind::Corrupt, detail);
        let mut request = self.manifest_request(Method::GET, reference, READ);
        request.limit = MAX_MANIFEST_BYTES;
        request.uses_quota = true;
        let answer = match self.http.send(request).await {
            Ok(answer) => answer,
            Err(error) if is_not_found(&error) => return Ok(None),
            Err(error) => return Err(self.failed(action(), error)),
        };
        let stated = stated_digest(&answer);
        let algorithm = match (reference, &stated) {
            (Reference::Digest(digest), _) => digest.algorithm(),
            (Reference::Tag(_), Some(stated)) => stated.algorithm(),
            (Reference::Tag(_), None) => Algorithm::Sha256,
        };
        let digest = Digest::of(algorithm, &answer.body);
        for expected in stated
            .iter()
            .chain(asked(reference))
            .filter(|expected| expected.algorithm() == algorithm)
        {
            if *expected != digest {
                return Err(corrupt(format!(
                    "its bytes have the digest {digest}, not {expected}"
                )));
            }
        }
        let content_type = answer.header(CONTENT_TYPE.as_str()).map(str::to_owned);
        Manifest::parse(answer.body, content_type.as_deref(), algorithm)
            .map(Some)
            .map_err(|error| {
                let kind = match error {
                    ManifestError::SchemaOne => ItemErrorKind::Unsupported,
                    _ => ItemErrorKind::Malformed,
                };
                self.wrong(action(), kind, "").caused_by(error)
            })
    }

    pub(super) async fn put_manifest(
        &self,
        reference: &Reference,
        manifest: &Manifest,
    ) -> Result<(), ItemError> {
        let action = format!("write manifest {}", self.name(reference));
        let content_type = HeaderValue::from_str(&manifest.media_type).map_err(|_| {
            let detail = format!(
                "its media type `{}` cannot be sent",
                excerpt(&manifest.media_type, 120)
            );
            self.wrong(&action, ItemErrorKind::Malformed, detail)
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
        let mut tries = self
            .http
            .retries(self.host, WRITE)
            .map_err(|error| self.failed(&action, error))?;
        let mut again = 0;
        loop {
            match self.http.send(request()).await {
                Ok(answer) => return self.check_stored(&action, &answer, &manifest.digest),
                Err(error) if again < FORGETFUL_TRIES && forgot_something(&error) => {
                    again += 1;
                    tracing::debug!(host = %self.host, %error, "trying again: what it refers to was there a moment ago");
                    if !tries.pause().await {
                        return Err(self.failed(&action, error));
                    }
                }
                Err(error) => return Err(self.failed(&action, error)),
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

    /// Returns the digest of a manifest by what was asked for and what the registry states, or how
    /// these differ.
    fn agreed(&self, reference: &Reference, stated: Digest) -> Result<Digest, String> {
        match asked(reference) {
            Some(asked) if asked.algorithm() == stated.algorithm() && *asked != stated => {
                Err(format!("{} states the digest {stated}", self.host))
            }
            Some(asked) => Ok(asked.clone()),
            None => Ok(stated),
        }
    }
}

fn asked(reference: &Reference) -> Option<&Digest> {
    match reference {
        Reference::Digest(digest) => Some(digest),
        Reference::Tag(_) => None,
    }
}
