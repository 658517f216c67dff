//! Speaking to a forge.

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use super::MAX_FILE_SIZE;
use crate::error::ItemError;
use crate::http::header::{CONTENT_TYPE, HeaderValue};
use crate::http::{
    AuthMode, Body, Client, Error, Method, Request, RequestAccess, RequestKind, RequestTarget,
    StatusCode, Url,
};
use crate::model::Host;
use crate::model::media_type;

const KIND: RequestKind = RequestKind("forge");

/// A server, and the client that speaks to it with its token.
pub struct Server {
    pub http: Arc<Client>,
    pub host: Host,
    /// Where its interface begins, with the path that it may have before its own.
    pub address: Url,
}

impl Server {
    /// Returns what is at `path`, which begins with a slash and follows the server's own; `None`
    /// when nothing is.
    pub(super) async fn get(&self, path: &str) -> Result<Option<Bytes>, Error> {
        match self.http.send(self.request(Method::GET, path)).await {
            Ok(answer) => Ok(Some(answer.body)),
            Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns what is answered to `body`, sent to `path` to make something new; `None` when there
    /// is such a thing already.
    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Option<Bytes>, Error> {
        let mut request = self
            .request(Method::POST, path)
            .header(CONTENT_TYPE, HeaderValue::from_static(media_type::JSON));
        request.body = Body::Bytes(body.to_string().into());
        match self.http.send(request).await {
            Ok(answer) => Ok(Some(answer.body)),
            Err(error) if error.status() == Some(StatusCode::CONFLICT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns the error of `operation`. `permissions` is the hint for a token that may not do it.
    pub(super) fn failed(
        &self,
        operation: impl Into<String>,
        permissions: &str,
        error: &Error,
    ) -> ItemError {
        let failed = error.to_item(self.host.as_str(), operation);
        match error.status() {
            Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND) => {
                failed.with_hint(permissions)
            }
            _ => failed,
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

/// Returns `text` so that it is one part of a path or a value of a query: everything but letters,
/// digits, `-`, `_` and `.` is escaped.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.') {
            escaped.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}
