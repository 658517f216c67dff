//! Speaking to a forge.

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;

use super::LARGEST_FILE;
use crate::http::{Access, Client, Error, Kind, LogIn, Method, Request, StatusCode, Target, Url};
use crate::model::Host;

const KIND: Kind = Kind("forge");

/// A server, and the client that speaks to it with its token.
pub struct Server {
    pub http: Arc<Client>,
    pub host: Host,
    /// Where its interface begins, with the path that it may have before its own.
    pub address: Url,
}

impl Server {
    /// Returns what is at `path`, which begins with a slash and follows the server's own; `None` when nothing is.
    pub(super) async fn get(&self, path: &str) -> Result<Option<Bytes>, Error> {
        let target = Target::Path(format!("{}{path}", self.address.path().trim_end_matches('/')));
        let mut request = Request::new(Method::GET, &self.host, target, KIND, Access::default());
        request.log_in = LogIn::Header;
        request.limit = LARGEST_FILE;
        match self.http.send(request).await {
            Ok(answer) => Ok(Some(answer.body)),
            Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Returns `text` so that it is one part of a path or a value of a query: everything but letters, digits, `-`, `_` and `.` is escaped.
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
