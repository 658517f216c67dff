//! Redaction: secrets that were sent are masked where a response repeats them.

use std::collections::HashSet;
use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::HeaderValue;

use crate::model::Secret;
use crate::model::lock::lock;
use crate::model::text::Masker;

/// Secrets that were sent so far.
#[derive(Default)]
pub(super) struct SentSecrets {
    headers: Mutex<HashSet<HeaderValue>>,
    bodies: Mutex<Vec<Secret>>,
}

impl SentSecrets {
    /// Adds the value of a header that authenticates a request.
    pub(super) fn add_header(&self, value: &HeaderValue) {
        let mut headers = lock(&self.headers);
        if !headers.contains(value) {
            headers.insert(value.clone());
        }
    }

    /// Adds a secret in the body of a request.
    pub(super) fn add_secret(&self, secret: &Secret) {
        let mut bodies = lock(&self.bodies);
        if bodies.iter().all(|sent| sent.expose() != secret.expose()) {
            bodies.push(secret.clone());
        }
    }

    /// Returns a masker for all secrets: as they were sent, decoded from Basic authentication, and
    /// percent-encoded.
    pub(super) fn masker(&self) -> Masker {
        let headers = lock(&self.headers);
        let mut secrets: Vec<String> = Vec::new();
        for value in headers.iter().filter_map(|value| value.to_str().ok()) {
            let bare = value.split_once(' ').map_or(value, |(_, bare)| bare);
            let basic = STANDARD
                .decode(bare)
                .ok()
                .and_then(|bytes| String::from_utf8(bytes).ok());
            secrets.extend(
                basic
                    .as_deref()
                    .and_then(|text| text.split_once(':'))
                    .map(|(_, password)| password.to_owned()),
            );
            secrets.push(bare.to_owned());
        }
        let bodies = lock(&self.bodies);
        secrets.extend(bodies.iter().map(|secret| secret.expose().to_owned()));
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
    fn masker_hides_secrets_in_all_forms_that_servers_repeat() {
        let sent = SentSecrets::default();
        for value in [
            format!("Basic {}", STANDARD.encode("alice:hunter2/+")),
            "Bearer abc.def".to_owned(),
            "glpat-1 2".to_owned(),
        ] {
            sent.add_header(&value.parse().expect("a header"));
        }
        sent.add_secret(&Secret::new("refresh-1"));
        let text = format!(
            "not {}, hunter2/+, hunter2%2F%2B, abc.def, refresh-1 of alice",
            STANDARD.encode("alice:hunter2/+")
        );
        assert_eq!(
            sent.masker().mask(&text),
            "not ***, ***, ***, ***, *** of alice"
        );
    }
}
