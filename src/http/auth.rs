//! Logging in: what a host asks for, and the tokens it gave.
//!
//! Tokens are kept per set of scopes and fetched once, however many requests wait for them. Once a
//! host has asked for a login, later requests bring it along; one that never asked is asked
//! directly.
//!
//! Where credentials go: to the registry itself, and to the token server ("realm") that it names.
//! Realms are commonly on other hosts (Docker Hub's, GitLab's), so the first realm that a host
//! names in a run is taken as its own: the connection was verified as the host's, unless the user
//! exempted the host from that. It must be https unless the registry itself is plain HTTP. A later
//! answer that names another realm host is refused: whoever can make a registry send one header
//! cannot collect credentials with it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use tokio::sync::{Mutex as AsyncMutex, MutexGuard as AsyncMutexGuard, Semaphore, SemaphorePermit};

use super::challenge::{Challenge, challenge};
use super::error::Error;
use super::host::HostState;
use super::logins::Logins;
use super::retry::Outage;
use super::token::{Token, sensitive};
use crate::model::Secret;
use crate::model::lock::lock;

/// What is known of a host's way of logging in.
pub(super) struct Auth {
    /// Held by the first request to a host, so that the others learn from its answer instead of
    /// being refused each.
    introduction: AsyncMutex<()>,
    known: Mutex<Known>,
    tokens: Mutex<HashMap<Vec<String>, Arc<AsyncMutex<Slot>>>>,
    /// Whether a token of unknown kind turned out to be a password.
    pub(super) is_password: AtomicBool,
    /// Places among the connections to the token server. They are not those of the registry:
    /// downloads may hold all of them until their uploads got a token. Who holds one waits for the
    /// token server only.
    places: Semaphore,
    /// Counts the tokens that could not be had.
    pub(super) outage: Outage,
    pub(super) logins: Logins,
}

#[derive(Clone, Default)]
enum Known {
    #[default]
    Nothing,
    /// It answered without a login.
    Open,
    Basic,
    Bearer(Arc<Realm>),
}

/// A token server.
pub(super) struct Realm {
    pub(super) url: Url,
    pub(super) service: Option<String>,
}

/// A place for one token.
#[derive(Default)]
pub(super) enum Slot {
    #[default]
    Empty,
    Token(Token),
    /// The token server refused, with what it said: it is not asked again in this run.
    Refused(String),
    /// The token server failed at this time. Who waited for the token then has the same failure;
    /// others ask again.
    Failed(Arc<Error>, Instant),
}

/// How a host is to be logged in to.
pub(super) enum Login {
    /// It has not asked for one.
    None,
    Basic,
    Bearer(Arc<Realm>),
}

/// What a request was sent with.
pub(super) enum Authorization {
    /// Nothing, since nothing was asked for so far.
    NotAsked,
    /// What there is; a refusal of it is final. `None` for anonymous.
    Fixed(Option<HeaderValue>),
    /// The same with a user name and a password.
    Password(HeaderValue),
    Token(Token),
    /// A header of another name.
    Named(HeaderName, HeaderValue),
}

impl Authorization {
    pub(super) fn header(&self) -> Option<(HeaderName, &HeaderValue)> {
        match self {
            Authorization::NotAsked => None,
            Authorization::Fixed(value) => value.as_ref().map(|value| (AUTHORIZATION, value)),
            Authorization::Password(value) => Some((AUTHORIZATION, value)),
            Authorization::Token(token) => Some((AUTHORIZATION, &token.header)),
            Authorization::Named(name, value) => Some((name.clone(), value)),
        }
    }

    /// Returns whether another login would look the same: a refused request is not sent again.
    pub(super) fn is_final(&self, began: Instant) -> bool {
        match self {
            Authorization::NotAsked => false,
            Authorization::Fixed(_) | Authorization::Password(_) | Authorization::Named(..) => true,
            Authorization::Token(token) => token.obtained >= began,
        }
    }
}

impl Auth {
    /// Returns what is known of a host that nobody spoke to, to whose token server at most
    /// `connections` are made.
    pub(super) fn new(connections: usize) -> Auth {
        Auth {
            introduction: AsyncMutex::default(),
            known: Mutex::default(),
            tokens: Mutex::default(),
            is_password: AtomicBool::default(),
            places: Semaphore::new(connections.clamp(1, 1024)),
            outage: Outage::default(),
            logins: Logins::default(),
        }
    }

    /// Waits for a place among the connections to the token server.
    pub(super) async fn place(&self) -> Option<SemaphorePermit<'_>> {
        // The semaphore is never closed, so there is always a place in the end.
        self.places.acquire().await.ok()
    }

    /// Waits until the host is known, or returns a guard that makes the caller the one who
    /// introduces it.
    pub(super) async fn introduction(&self) -> Option<AsyncMutexGuard<'_, ()>> {
        if self.is_known() {
            return None;
        }
        let guard = self.introduction.lock().await;
        (!self.is_known()).then_some(guard)
    }

    fn is_known(&self) -> bool {
        !matches!(*self.known(), Known::Nothing)
    }

    pub(super) fn login(&self) -> Login {
        match &*self.known() {
            Known::Nothing | Known::Open => Login::None,
            Known::Basic => Login::Basic,
            Known::Bearer(realm) => Login::Bearer(Arc::clone(realm)),
        }
    }

    /// Notes that the host answered something other than a challenge.
    pub(super) fn answered(&self) {
        let mut known = self.known();
        if matches!(*known, Known::Nothing) {
            *known = Known::Open;
        }
    }

    /// Takes in what a refusal asks for. Fails when that is nothing that can be given, or not to be
    /// trusted.
    pub(super) fn learn(&self, headers: &HeaderMap, host: &HostState) -> Result<(), Error> {
        let Some(challenge) = challenge(headers) else {
            return if matches!(self.login(), Login::None) {
                let detail = "it asks for a login without saying how".to_owned();
                Err(Error::Unauthorized {
                    host: host.credential_host.clone(),
                    detail,
                    origin: None,
                })
            } else {
                Ok(())
            };
        };
        let learned = match challenge {
            Challenge::Basic => Known::Basic,
            Challenge::Bearer { realm, service } => {
                let url = realm_url(&realm, host)?;
                if let Known::Bearer(known) = &*self.known()
                    && known.url.origin() != url.origin()
                {
                    return Err(misled(
                        host,
                        &url,
                        "it is not the token server that the host named before",
                    ));
                }
                Known::Bearer(Arc::new(Realm { url, service }))
            }
        };
        let mut known = self.known();
        // The first token server stays the known one, even when a later answer asks for another
        // login.
        if !matches!(*known, Known::Bearer(_)) || matches!(learned, Known::Bearer(_)) {
            *known = learned;
        }
        Ok(())
    }

    /// Returns the place of the token for `scopes`. Who locks it may fill it; the others wait.
    pub(super) fn slot(&self, scopes: &[String]) -> Arc<AsyncMutex<Slot>> {
        let mut tokens = lock(&self.tokens);
        Arc::clone(tokens.entry(scopes.to_vec()).or_default())
    }

    /// Forgets a token that was refused, unless another took its place already.
    pub(super) async fn forget(&self, scopes: &[String], refused: &Token) {
        let slot = self.slot(scopes);
        let mut slot = slot.lock().await;
        if matches!(&*slot, Slot::Token(token) if token.obtained == refused.obtained) {
            *slot = Slot::Empty;
        }
    }

    pub(super) fn turned_out_to_be_a_password(&self) -> bool {
        self.is_password.load(Ordering::Relaxed)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        lock(&self.known)
    }
}

fn realm_url(realm: &str, host: &HostState) -> Result<Url, Error> {
    let url = Url::parse(realm)
        .map_err(|_| misled(host, &host.base, "its token server's address is no address"))?;
    match url.scheme() {
        "https" => Ok(url),
        "http" if host.base.scheme() == "http" => Ok(url),
        _ => Err(misled(host, &url, "a token server must be https")),
    }
}

fn misled(host: &HostState, url: &Url, reason: &'static str) -> Error {
    Error::Misled {
        host: host.name.clone(),
        url: url.into(),
        reason,
    }
}

/// Returns the value of an `Authorization` header with a user name and a password (RFC 7617).
pub(super) fn basic(username: &str, password: &Secret) -> Option<HeaderValue> {
    sensitive(format!(
        "Basic {}",
        STANDARD.encode(format!("{username}:{}", password.expose()))
    ))
}
