//! Authentication at a host: the scheme that it asks for, and the tokens that it issued.
//!
//! Tokens are cached by their scopes. A token is fetched once, and parallel requests wait for it.
//! Once a host has sent a challenge, later requests are authenticated at once; requests to a host
//! that never sent one are not.
//!
//! Credentials are sent to the registry itself, and to the token server ("realm") that it names.
//! Token servers are commonly on another host (Docker Hub's, GitLab's), so the first one that a
//! host names in a run is trusted: the connection was verified as the host's, unless the user
//! disabled that. It must be https unless the registry itself is plain HTTP. A later response that
//! names another token server is rejected. Otherwise an attacker who controls one response
//! header of a registry could collect credentials.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use tokio::sync::{Mutex as AsyncMutex, MutexGuard as AsyncMutexGuard, Semaphore, SemaphorePermit};

use super::challenge::{Challenge, challenge};
use super::credential_checks::CredentialChecks;
use super::error::Error;
use super::origin::HostOrigin;
use super::outage::Outage;
use super::token::{Token, sensitive};
use crate::model::Secret;
use crate::model::lock::lock;

const MAX_TOKEN_CONNECTIONS: usize = 1024;

/// State of the authentication at a host.
pub(super) struct Auth {
    /// Held by the first request to a host. The others wait for its response, so that they know the
    /// scheme and are not all rejected.
    first_request: AsyncMutex<()>,
    scheme: Mutex<AuthScheme>,
    tokens: Mutex<HashMap<Vec<String>, Arc<AsyncMutex<TokenSlot>>>>,
    /// True if a token of unknown kind is a password, not a refresh token.
    token_is_password: AtomicBool,
    /// Permits for connections to the token server. They are separate from those of the registry:
    /// downloads may hold all of those until their uploads have a token.
    token_permits: Semaphore,
    /// Counts the tokens that could not be fetched.
    pub(super) outage: Outage,
    pub(super) credential_checks: CredentialChecks,
}

/// Authentication scheme of a host.
#[derive(Clone, Default)]
pub(super) enum AuthScheme {
    /// No response so far.
    #[default]
    Unknown,
    /// The host answered without a challenge.
    None,
    Basic,
    Bearer(Arc<Realm>),
}

/// Token server.
pub(super) struct Realm {
    pub(super) url: Url,
    pub(super) service: Option<String>,
}

/// Cache slot of one token.
#[derive(Default)]
pub(super) enum TokenSlot {
    #[default]
    Empty,
    Token(Token),
    /// The token server rejected the request with this detail. The request is not repeated in this
    /// run.
    Rejected(String),
    /// The token server failed at this time. Requests that waited for the token then fail with the
    /// same error; later ones ask again.
    Failed(Arc<Error>, Instant),
}

/// Authorization of one request.
pub(super) enum Authorization {
    /// None, since the host sent no challenge so far.
    None,
    /// The only possible header, so a rejection is final. `None` for anonymous.
    Fixed(Option<HeaderValue>),
    /// User name and password. A rejection is final.
    Password(HeaderValue),
    Token(Token),
    /// Header with a name of its own. A rejection is final.
    Named(HeaderName, HeaderValue),
}

impl Authorization {
    /// Returns the header to send, if any.
    pub(super) fn header(&self) -> Option<(HeaderName, &HeaderValue)> {
        match self {
            Authorization::None => None,
            Authorization::Fixed(value) => value.as_ref().map(|value| (AUTHORIZATION, value)),
            Authorization::Password(value) => Some((AUTHORIZATION, value)),
            Authorization::Token(token) => Some((AUTHORIZATION, &token.header)),
            Authorization::Named(name, value) => Some((name.clone(), value)),
        }
    }

    /// Returns true if another try would send the same header, so that a rejection is final. A
    /// token that was fetched before `began`, the start of the request, can be replaced.
    pub(super) fn is_final(&self, began: Instant) -> bool {
        match self {
            Authorization::None => false,
            Authorization::Fixed(_) | Authorization::Password(_) | Authorization::Named(..) => true,
            Authorization::Token(token) => token.obtained >= began,
        }
    }
}

impl Auth {
    /// Returns the state before the first request, with at most `connections` to the token server.
    pub(super) fn new(connections: usize) -> Auth {
        Auth {
            first_request: AsyncMutex::default(),
            scheme: Mutex::default(),
            tokens: Mutex::default(),
            token_is_password: AtomicBool::default(),
            token_permits: Semaphore::new(connections.clamp(1, MAX_TOKEN_CONNECTIONS)),
            outage: Outage::default(),
            credential_checks: CredentialChecks::default(),
        }
    }

    /// Waits for a permit for a connection to the token server.
    pub(super) async fn token_permit(&self) -> Option<SemaphorePermit<'_>> {
        // The semaphore is never closed, so `ok` is always `Some`.
        self.token_permits.acquire().await.ok()
    }

    /// Waits until the scheme is known. Returns a guard if the caller sends the first request to
    /// the host.
    pub(super) async fn first_request(&self) -> Option<AsyncMutexGuard<'_, ()>> {
        if self.is_known() {
            return None;
        }
        let guard = self.first_request.lock().await;
        (!self.is_known()).then_some(guard)
    }

    fn is_known(&self) -> bool {
        !matches!(*self.locked_scheme(), AuthScheme::Unknown)
    }

    /// Returns the scheme as far as it is known.
    pub(super) fn scheme(&self) -> AuthScheme {
        self.locked_scheme().clone()
    }

    /// Records that the host answered without a challenge.
    pub(super) fn answered(&self) {
        let mut scheme = self.locked_scheme();
        if matches!(*scheme, AuthScheme::Unknown) {
            *scheme = AuthScheme::None;
        }
    }

    /// Records the challenge in the headers of a 401 response. Fails when its scheme is not
    /// supported, or its token server is not trusted.
    pub(super) fn learn(&self, headers: &HeaderMap, origin: &HostOrigin) -> Result<(), Error> {
        let Some(challenge) = challenge(headers) else {
            return match self.scheme() {
                AuthScheme::Unknown | AuthScheme::None => Err(Error::Unauthorized {
                    host: origin.credential_host.clone(),
                    detail: "it requires authentication but offers no supported scheme".to_owned(),
                    credential_source: None,
                }),
                AuthScheme::Basic | AuthScheme::Bearer(_) => Ok(()),
            };
        };
        let learned = match challenge {
            Challenge::Basic => AuthScheme::Basic,
            Challenge::Bearer { realm, service } => {
                let url = realm_url(&realm, origin)?;
                if let AuthScheme::Bearer(known) = &*self.locked_scheme()
                    && known.url.origin() != url.origin()
                {
                    return Err(
                        origin.misled(&url, "it is not the token server that the host named first")
                    );
                }
                AuthScheme::Bearer(Arc::new(Realm { url, service }))
            }
        };
        let mut scheme = self.locked_scheme();
        // The first token server is kept even when a later response asks for another scheme.
        if !matches!(*scheme, AuthScheme::Bearer(_)) || matches!(learned, AuthScheme::Bearer(_)) {
            *scheme = learned;
        }
        Ok(())
    }

    /// Returns the cache slot of the token for `scopes`. The request that locks it may fill it; the
    /// others wait.
    pub(super) fn slot(&self, scopes: &[String]) -> Arc<AsyncMutex<TokenSlot>> {
        let mut tokens = lock(&self.tokens);
        Arc::clone(tokens.entry(scopes.to_vec()).or_default())
    }

    /// Removes a rejected token from the cache, unless it was replaced already.
    pub(super) async fn forget(&self, scopes: &[String], rejected: &Token) {
        let slot = self.slot(scopes);
        let mut slot = slot.lock().await;
        if matches!(&*slot, TokenSlot::Token(token) if token.obtained == rejected.obtained) {
            *slot = TokenSlot::Empty;
        }
    }

    /// Returns true if a token of unknown kind is a password.
    pub(super) fn token_is_password(&self) -> bool {
        self.token_is_password.load(Ordering::Relaxed)
    }

    /// Records that a token of unknown kind is a password.
    pub(super) fn set_token_is_password(&self) {
        self.token_is_password.store(true, Ordering::Relaxed);
    }

    fn locked_scheme(&self) -> MutexGuard<'_, AuthScheme> {
        lock(&self.scheme)
    }
}

/// Returns the URL of a token server. Fails when it is invalid or not https, unless the host itself
/// is plain HTTP.
fn realm_url(realm: &str, origin: &HostOrigin) -> Result<Url, Error> {
    let url = Url::parse(realm)
        .map_err(|_| origin.misled(&origin.base, "the URL of the token server is invalid"))?;
    match url.scheme() {
        "https" => Ok(url),
        "http" if origin.base.scheme() == "http" => Ok(url),
        _ => Err(origin.misled(&url, "a token server must use https")),
    }
}

/// Returns the `Authorization` header for a user name and a password (RFC 7617). `None` when they
/// have characters that a header cannot have.
pub(super) fn basic(username: &str, password: &Secret) -> Option<HeaderValue> {
    sensitive(format!(
        "Basic {}",
        STANDARD.encode(format!("{username}:{}", password.expose()))
    ))
}
