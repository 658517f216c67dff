//! Classification of HTTP errors.

use crate::http::{self, StatusCode};

/// Returns true if the response is 404.
pub(super) fn is_not_found(error: &http::Error) -> bool {
    error.status() == Some(StatusCode::NOT_FOUND)
}

/// Returns true if there is no such repository.
pub(super) fn is_unknown_repository(error: &http::Error) -> bool {
    is_not_found(error) || error.has_code("NAME_UNKNOWN")
}

/// Returns true if the response shows that a host does not have an interface. Temporary failures do
/// not show that.
pub(super) fn is_missing_interface(error: &http::Error) -> bool {
    match error {
        http::Error::Refused(refusal) => match refusal.status.as_u16() {
            408 | 429 => false,
            status => status < 500 || status == 501,
        },
        http::Error::Misled { .. }
        | http::Error::TooLarge { .. }
        | http::Error::Malformed { .. } => true,
        _ => false,
    }
}
