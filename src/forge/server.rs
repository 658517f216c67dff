//! Requests to the API of a forge.

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use super::MAX_FILE_SIZE;
use crate::error::ItemError;
use crate::http::header::{CONTENT_TYPE, HeaderValue};
use crate::http::{
    AuthMode, Body, Client, Error, Method, Request, RequestAccess, RequestKind, RequestTarget,
    Response, StatusCode, Url,
};
use crate::model::Host;
use crate::model::media_type;

const KIND: RequestKind = RequestKind("forge");

/// A forge server with the HTTP client for it, which adds the credential.
pub struct Server {
    pub http: Arc<Client>,
    pub host: Host,
    /// Base URL of the forge; may have a path.
    pub address: Url,
}

impl Server {
    /// Returns the body at `path`, which begins with a slash and is relative to `address`. `None`
    /// for 404.
    pub(super) async fn get(&self, path: &str) -> Result<Option<Bytes>, Error> {
        match self.get_response(path).await {
            Ok(response) => Ok(Some(response.body)),
            Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns the response to a GET of `path`, like [`get`](Self::get). 404 is an error.
    pub(super) async fn get_response(&self, path: &str) -> Result<Response, Error> {
        self.http.send(self.request(Method::GET, path)).await
    }

    /// Posts `body` to `path` to create an object and returns the response. `None` for 409, if the
    /// object already exists.
    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Option<Bytes>, Error> {
        let mut request = self
            .request(Method::POST, path)
            .header(CONTENT_TYPE, HeaderValue::from_static(media_type::JSON));
        request.body = Body::Bytes(body.to_string().into());
        match self.http.send(request).await {
            Ok(response) => Ok(Some(response.body)),
            Err(error) if error.status() == Some(StatusCode::CONFLICT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns `error` as that of `operation`. `permission_hint` is added if the token may lack
    /// permission.
    pub(super) fn item_error(
        &self,
        operation: impl Into<String>,
        permission_hint: &str,
        error: &Error,
    ) -> ItemError {
        let item_error = error.to_item(self.host.as_str(), operation);
        match error.status() {
            Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND) => {
                item_error.with_hint(permission_hint)
            }
            _ => item_error,
        }
    }

    fn request(&self, method: Method, path: &str) -> Request {
        let target = RequestTarget::Path(format!(
            "{}{path}",
            self.address.path().trim_end_matches('/')
        ));
        let mut request = Request::new(method, &self.host, target, KIND, RequestAccess::default());
        request.auth_mode = AuthMode::Header;
        request.limit = MAX_FILE_SIZE;
        request
    }
}

/// Returns `text` percent-encoded as one segment of a path or one value of a query. Everything but
/// ASCII letters, digits, `-`, `_` and `.` is encoded.
pub(super) fn percent_encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.') {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}
