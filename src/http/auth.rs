//! Authentication at a host: the scheme that it asks for, and the tokens that it issued.
//!
//! Tokens are cached by token server and scopes. A token is fetched once, and parallel requests wait
//! for it. Once a host has sent a challenge, later requests are authenticated at once; requests to a
//! host that never sent one are not.
//!
//! Gateways and some registries have another token server path, service or scope for each
//! repository. A challenge is therefore kept for the access that it was sent for, and the first one
//! of a host serves all other accesses until their own challenge arrives.
//!
//! Credentials are sent to the registry itself, and to the token server ("realm") that it names.
//! Token servers are commonly on another host (Docker Hub's, GitLab's), so the first one that a
//! host names in a run is trusted: the connection was verified as the host's, unless the user
//! disabled that. It must be https unless the registry itself is plain HTTP. A later response that
//! names a token server of another origin is rejected. Otherwise an attacker who controls one
//! response header of a registry could collect credentials.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use tokio::sync::{
    Mutex as AsyncMutex, MutexGuard as AsyncMutexGuard, OnceCell, Semaphore, SemaphorePermit,
};

use super::challenge::{Challenge, challenge};
use super::credential_checks::CredentialChecks;
use super::error::Error;
use super::origin::HostOrigin;
use super::outage::Outage;
use super::request::RequestAccess;
use super::token::{Token, sensitive};
use crate::credentials::Credential;
use crate::model::Secret;
use crate::model::lock::lock;

const MAX_TOKEN_CONNECTIONS: usize = 1024;

/// State of the authentication at a host.
pub(super) struct Auth {
    /// Held by the first request to a host. The others wait for its response, so that they know the
    /// scheme and are not all rejected.
    first_request: AsyncMutex<()>,
    schemes: Mutex<Schemes>,
    tokens: Mutex<HashMap<TokenKey, Arc<AsyncMutex<TokenSlot>>>>,
    /// Set once the host was asked for a challenge.
    pub(super) challenge_request: OnceCell<()>,
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

/// Authentication schemes of a host.
#[derive(Default)]
struct Schemes {
    /// Scheme of accesses without their own challenge.
    first: AuthScheme,
    /// Schemes by the accesses whose requests were answered with a challenge.
    learned: HashMap<RequestAccess, AuthScheme>,
}

impl Schemes {
    fn of(&self, access: &RequestAccess) -> &AuthScheme {
        self.learned.get(access).unwrap_or(&self.first)
    }
}

/// Token server, and the scopes that it is asked for.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Realm {
    pub(super) url: Url,
    pub(super) service: Option<String>,
    /// Scopes of the challenge that the scopes of the request do not include.
    extra_scopes: Vec<String>,
    /// True if only the extra scopes are requested: the host rejected a token for all of them.
    is_extra_only: bool,
}

impl Realm {
    /// Returns the lists of scopes to request, the preferred one first. The next one is requested
    /// if the token server rejects the one before: some reject scopes that they do not know.
    pub(super) fn scopes(&self, access: &RequestAccess) -> Vec<Vec<String>> {
        let own = access.scopes.clone();
        match (self.extra_scopes.is_empty(), self.is_extra_only) {
            (true, _) => vec![own],
            (false, true) => vec![self.extra_scopes.clone()],
            (false, false) => vec![
                [own, self.extra_scopes.clone()].concat(),
                self.extra_scopes.clone(),
            ],
        }
    }
}

/// Key of a cached token.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct TokenKey {
    url: Url,
    service: Option<String>,
    scopes: Vec<String>,
    extra_scopes: Vec<String>,
    is_extra_only: bool,
}

impl TokenKey {
    pub(super) fn new(realm: &Realm, access: &RequestAccess) -> TokenKey {
        TokenKey {
            url: realm.url.clone(),
            service: realm.service.clone(),
            scopes: access.scopes.clone(),
            extra_scopes: realm.extra_scopes.clone(),
            is_extra_only: realm.is_extra_only,
        }
    }
}

/// Cache slot of one token.
#[derive(Default)]
pub(super) enum TokenSlot {
    #[default]
    Empty,
    Token(Token),
    /// The token server rejected the credential with this detail. The request is not repeated in
    /// this run with the same credential.
    Rejected(String, Credential),
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
    /// Token, with the token server that issued it.
    Token(Token, Arc<Realm>),
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
            Authorization::Token(token, _) => Some((AUTHORIZATION, &token.header)),
            Authorization::Named(name, value) => Some((name.clone(), value)),
        }
    }

    /// Returns true if another try would send the same header, so that a rejection is final. A
    /// token that was fetched before `began`, the start of the request, can be replaced.
    pub(super) fn is_final(&self, began: Instant) -> bool {
        match self {
            Authorization::None => false,
            Authorization::Fixed(_) | Authorization::Password(_) | Authorization::Named(..) => true,
            Authorization::Token(token, _) => token.obtained >= began,
        }
    }
}

impl Auth {
    /// Returns the state before the first request, with at most `connections` to the token server.
    pub(super) fn new(connections: usize) -> Auth {
        Auth {
            first_request: AsyncMutex::default(),
            schemes: Mutex::default(),
            tokens: Mutex::default(),
            challenge_request: OnceCell::new(),
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
        !matches!(lock(&self.schemes).first, AuthScheme::Unknown)
    }

    /// Returns the scheme for `access` as far as it is known.
    pub(super) fn scheme(&self, access: &RequestAccess) -> AuthScheme {
        lock(&self.schemes).of(access).clone()
    }

    /// Returns true if a request with this access was answered with a challenge.
    pub(super) fn has_learned(&self, access: &RequestAccess) -> bool {
        lock(&self.schemes).learned.contains_key(access)
    }

    /// Records that the host answered without a challenge.
    pub(super) fn answered(&self) {
        let first = &mut lock(&self.schemes).first;
        if matches!(first, AuthScheme::Unknown) {
            *first = AuthScheme::None;
        }
    }

    /// Records the challenge in the headers of a 401 response to a request with `access`. Fails
    /// when its scheme is not supported, or its token server is not trusted.
    ///
    /// `rejected` is the token server of a new token that the host rejected. Returns true if the
    /// challenge differs from what that token was requested for, so that another try is worthwhile.
    pub(super) fn learn(
        &self,
        headers: &HeaderMap,
        origin: &HostOrigin,
        access: &RequestAccess,
        rejected: Option<&Realm>,
    ) -> Result<bool, Error> {
        let schemes = &mut *lock(&self.schemes);
        let Some(challenge) = challenge(headers) else {
            return match schemes.of(access) {
                AuthScheme::Unknown | AuthScheme::None => Err(Error::Unauthorized {
                    host: origin.credential_host.clone(),
                    detail: "it requires authentication but offers no supported scheme".to_owned(),
                    credential_source: None,
                }),
                AuthScheme::Basic | AuthScheme::Bearer(_) => Ok(false),
            };
        };
        let (learned, is_new) = match challenge {
            // Some registries do not accept tokens for all requests. Before a new token was
            // rejected, the token server is preferred.
            Challenge::Basic if rejected.is_none() && schemes.of(access).is_bearer() => {
                return Ok(false);
            }
            Challenge::Basic => (AuthScheme::Basic, rejected.is_some()),
            Challenge::Bearer {
                realm,
                service,
                scopes,
            } => {
                let url = realm_url(&realm, origin)?;
                if let AuthScheme::Bearer(first) = &schemes.first
                    && first.url.origin() != url.origin()
                {
                    return Err(
                        origin.misled(&url, "it is not the token server that the host named first")
                    );
                }
                let realm = learned_realm(url, service, &scopes, access, rejected);
                let is_new = rejected.is_some_and(|rejected| *rejected != realm);
                (AuthScheme::Bearer(Arc::new(realm)), is_new)
            }
        };
        // The first token server stays known even when a later response asks for another scheme.
        if !schemes.first.is_bearer() && (rejected.is_none() || learned.is_bearer()) {
            schemes.first = match &learned {
                AuthScheme::Bearer(realm) => AuthScheme::Bearer(Arc::new(Realm {
                    extra_scopes: Vec::new(),
                    is_extra_only: false,
                    ..Realm::clone(realm)
                })),
                other => other.clone(),
            };
        }
        schemes.learned.insert(access.clone(), learned);
        Ok(is_new)
    }

    /// Returns the cache slot of a token. The request that locks it may fill it; the others wait.
    pub(super) fn slot(&self, key: &TokenKey) -> Arc<AsyncMutex<TokenSlot>> {
        let mut tokens = lock(&self.tokens);
        Arc::clone(tokens.entry(key.clone()).or_default())
    }

    /// Removes a rejected token from the cache, unless it was replaced already.
    pub(super) async fn forget(&self, key: &TokenKey, rejected: &Token) {
        let slot = self.slot(key);
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
}

impl AuthScheme {
    fn is_bearer(&self) -> bool {
        matches!(self, AuthScheme::Bearer(_))
    }
}

/// Returns the token server that a challenge names for `access`. `rejected` is the token server of
/// a new token that the host rejected.
///
/// Scopes for a repository that `access` does not name are added at once: the host has the
/// repository under another name. Further actions on the same repository are added only after a
/// rejection, because credentials often lack them. If that was rejected too, the scopes of the
/// request are left out.
fn learned_realm(
    url: Url,
    service: Option<String>,
    scopes: &[String],
    access: &RequestAccess,
    rejected: Option<&Realm>,
) -> Realm {
    let is_included = |scope: &String| {
        access.scopes.iter().any(|own| match rejected {
            None => resource(own) == resource(scope),
            Some(_) => includes(own, scope),
        })
    };
    let extra_scopes: Vec<String> = scopes
        .iter()
        .filter(|scope| !is_included(scope))
        .cloned()
        .collect();
    let realm = Realm {
        url,
        service,
        extra_scopes,
        is_extra_only: false,
    };
    match rejected {
        Some(rejected) if !realm.extra_scopes.is_empty() && realm.is_like(rejected) => Realm {
            is_extra_only: true,
            ..realm
        },
        _ => realm,
    }
}

impl Realm {
    /// Returns true if two realms differ at most in the omission of the request's scopes.
    fn is_like(&self, other: &Realm) -> bool {
        let parts = |realm: &Realm| {
            (
                realm.url.clone(),
                realm.service.clone(),
                realm.extra_scopes.clone(),
            )
        };
        parts(self) == parts(other)
    }
}

/// Returns the part of a scope before its actions, such as `repository:team/app`.
fn resource(scope: &str) -> &str {
    scope
        .rsplit_once(':')
        .map_or(scope, |(resource, _)| resource)
}

/// Returns true if `scope` is for the same resource as `own` and has no further actions.
fn includes(own: &str, scope: &str) -> bool {
    let actions = |scope: &str| scope.rsplit(':').next().unwrap_or_default().to_owned();
    let own_actions = actions(own);
    resource(own) == resource(scope)
        && actions(scope).split(',').all(|action| {
            own_actions
                .split(',')
                .any(|own| own == action || own == "*")
        })
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
