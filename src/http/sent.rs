//! The secrets that requests were sent with: an answer that repeats them is shown without.

use std::collections::HashSet;
use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::HeaderValue;

use crate::model::Secret;
use crate::model::lock::lock;
use crate::model::text::Masker;

/// What was sent so far.
#[derive(Default)]
pub(super) struct Sent {
    headers: Mutex<HashSet<HeaderValue>>,
    others: Mutex<Vec<Secret>>,
}

impl Sent {
    /// Notes the value of a header that logs in.
    pub(super) fn header(&self, value: &HeaderValue) {
        let mut headers = lock(&self.headers);
        if !headers.contains(value) {
            headers.insert(value.clone());
        }
    }

    /// Notes a secret in the body of a request.
    pub(super) fn secret(&self, secret: &Secret) {
        let mut others = lock(&self.others);
        if others.iter().all(|known| known.expose() != secret.expose()) {
            others.push(secret.clone());
        }
    }

    /// Returns a masker for all of it, as it was sent and in the forms that servers write it in.
    pub(super) fn masker(&self) -> Masker {
        let headers = lock(&self.headers);
        let mut secrets: Vec<String> = Vec::new();
        for value in headers.iter().filter_map(|value| value.to_str().ok()) {
            let bare = value.split_once(' ').map_or(value, |(_, bare)| bare);
            let login = STANDARD
                .decode(bare)
                .ok()
                .and_then(|login| String::from_utf8(login).ok());
            secrets.extend(
                login
                    .as_deref()
                    .and_then(|login| login.split_once(':'))
                    .map(|(_, password)| password.to_owned()),
            );
            secrets.push(bare.to_owned());
        }
        let others = lock(&self.others);
        secrets.extend(others.iter().map(|secret| secret.expose().to_owned()));
        let encoded: Vec<String> = secrets
            .iter()
            .map(|secret| url::form_urlencoded::byte_serialize(secret.as_bytes()).collect())
            .collect();
        Masker::new(secrets.into_iter().chain(encoded))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_is_masked_in_the_forms_that_servers_repeat_it_in() {
        let sent = Sent::default();
        for value in [
            format!("Basic {}", STANDARD.encode("alice:hunter2/+")),
            "Bearer abc.def".to_owned(),
            "glpat-1 2".to_owned(),
        ] {
            sent.header(&value.parse().expect("a header"));
        }
        sent.secret(&Secret::new("refresh-1"));
        let said = format!(
            "not {}, hunter2/+, hunter2%2F%2B, abc.def, refresh-1 of alice",
            STANDARD.encode("alice:hunter2/+")
        );
        assert_eq!(
            sent.masker().mask(&said),
            "not ***, ***, ***, ***, *** of alice"
        );
    }
}
