//! Getting what a request is to be sent with: a password as it is, or a token from the host's token
//! server.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode, Url};

use super::auth::{Authorization, Login, Realm, Slot, basic};
use super::client::{Client, Sending, malformed};
use super::error::Error;
use super::host::HostState;
use super::request::{Access, Body, Kind};
use super::retry::{Verdict, classify_status};
use super::token::{Token, bearer, sensitive};
use crate::credentials::Credential;
use crate::model::Secret;
use crate::model::media_type;

const LARGEST_TOKEN: usize = 1024 * 1024;
const TOKEN: Kind = Kind("token");

/// A request for a token.
struct Asking {
    method: Method,
    url: Url,
    body: Body,
    authorization: Option<HeaderValue>,
}

impl Client {
    /// Returns what a request to `host` is to be sent with.
    pub(super) async fn authorization(
        &self,
        host: &HostState,
        access: &Access,
    ) -> Result<Authorization, Error> {
        let login = host.auth.login();
        if matches!(login, Login::None) {
            return Ok(Authorization::NotAsked);
        }
        let credential = self
            .credentials
            .credential(&host.credential_host, access.path.as_ref())
            .await?;
        let sendable = |header: Option<HeaderValue>| {
            header
                .ok_or_else(|| unsendable(host))
                .map(|header| Authorization::Fixed(Some(header)))
        };
        match (login, &credential) {
            (_, Credential::Bearer { token }) => sendable(bearer(token.expose())),
            (Login::Bearer(realm), _) => self
                .token(host, &realm, &credential, access)
                .await
                .map(Authorization::Token),
            (
                _,
                Credential::Basic { username, password }
                | Credential::RefreshTokenOrPassword {
                    username,
                    token: password,
                },
            ) => basic(username, password)
                .ok_or_else(|| unsendable(host))
                .map(Authorization::Password),
            (
                _,
                Credential::Anonymous | Credential::RefreshToken { .. } | Credential::Header { .. },
            ) => Ok(Authorization::Fixed(None)),
        }
    }

    /// Returns user name and password for `host` as they are sent, whatever it asks for; nothing
    /// when there are none.
    pub(super) async fn basic(
        &self,
        host: &HostState,
        access: &Access,
    ) -> Result<Authorization, Error> {
        let credential = self
            .credentials
            .credential(&host.credential_host, access.path.as_ref())
            .await?;
        let login = match &credential {
            Credential::Basic { username, password }
            | Credential::RefreshTokenOrPassword {
                username,
                token: password,
            } => basic(username, password),
            Credential::Bearer { .. }
            | Credential::RefreshToken { .. }
            | Credential::Header { .. }
            | Credential::Anonymous => None,
        };
        match login
            .as_ref()
            .and_then(|login| host.auth.logins.refusal(login.as_bytes()))
        {
            Some(reasons) => Err(self.unauthorized(host, access, &reasons).await?),
            None => Ok(Authorization::Fixed(login)),
        }
    }

    /// Returns the header that the credential for `host` is; nothing when it is none.
    pub(super) async fn named(
        &self,
        host: &HostState,
        access: &Access,
    ) -> Result<Authorization, Error> {
        match self
            .credentials
            .credential(&host.credential_host, access.path.as_ref())
            .await?
        {
            Credential::Header { name, value } => {
                let value = sensitive(value.expose().to_owned()).ok_or_else(|| unsendable(host))?;
                Ok(Authorization::Named(HeaderName::from_static(name), value))
            }
            _ => Ok(Authorization::NotAsked),
        }
    }

    async fn token(
        &self,
        host: &HostState,
        realm: &Realm,
        credential: &Credential,
        access: &Access,
    ) -> Result<Token, Error> {
        let began = Instant::now();
        let slot = host.auth.slot(&access.scopes);
        let mut slot = slot.lock().await;
        match &*slot {
            Slot::Token(token) if token.is_usable() => return Ok(token.clone()),
            Slot::Refused(detail) => {
                let origin = self.origin(host, credential, access).await;
                return Err(Error::Unauthorized {
                    host: host.credential_host.clone(),
                    detail: detail.clone(),
                    origin,
                });
            }
            Slot::Failed(error, at) if began <= *at => {
                return Err(Error::TokenServer(Arc::clone(error)));
            }
            Slot::Empty | Slot::Token(_) | Slot::Failed(..) => {}
        }
        let fetched = self.fetch_token(host, realm, credential, access).await;
        match &fetched {
            Ok(token) => *slot = Slot::Token(token.clone()),
            Err(Error::Unauthorized { detail, .. }) => *slot = Slot::Refused(detail.clone()),
            Err(Error::TokenServer(error)) => {
                *slot = Slot::Failed(Arc::clone(error), Instant::now());
            }
            Err(_) => *slot = Slot::Empty,
        }
        fetched
    }

    async fn fetch_token(
        &self,
        host: &HostState,
        realm: &Realm,
        credential: &Credential,
        access: &Access,
    ) -> Result<Token, Error> {
        let result = match credential {
            Credential::RefreshToken { token } => {
                self.exchange_token(host, realm, token, access).await
            }
            Credential::RefreshTokenOrPassword { username, token } => {
                let exchanged = if host.auth.turned_out_to_be_a_password() {
                    None
                } else {
                    Some(self.exchange_token(host, realm, token, access).await)
                };
                match exchanged {
                    // Token servers without OAuth2 answer 404 or 405, those that know it and not
                    // this token 400 or 401.
                    Some(Err(Error::Refused(refusal)))
                        if refusal.status.is_client_error()
                            && classify_status(refusal.status) == Verdict::Final =>
                    {
                        host.auth.is_password.store(true, Ordering::Relaxed);
                        self.ask_for_token(host, realm, basic(username, token), access)
                            .await
                    }
                    Some(result) => result,
                    None => {
                        self.ask_for_token(host, realm, basic(username, token), access)
                            .await
                    }
                }
            }
            Credential::Basic { username, password } => {
                self.ask_for_token(host, realm, basic(username, password), access)
                    .await
            }
            Credential::Anonymous | Credential::Bearer { .. } | Credential::Header { .. } => {
                self.ask_for_token(host, realm, None, access).await
            }
        };
        match result {
            Err(refusal)
                if matches!(
                    refusal.status(),
                    Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
                ) =>
            {
                Err(self.unauthorized(host, access, &refusal.reasons()).await?)
            }
            Err(error @ (Error::Refused(_) | Error::Connection { .. } | Error::Stalled { .. })) => {
                Err(Error::TokenServer(Arc::new(error)))
            }
            result => result,
        }
    }

    /// Asks for a token by GET, with a login or without (token authentication specification of CNCF
    /// distribution).
    async fn ask_for_token(
        &self,
        host: &HostState,
        realm: &Realm,
        authorization: Option<HeaderValue>,
        access: &Access,
    ) -> Result<Token, Error> {
        let mut url = realm.url.clone();
        url.query_pairs_mut()
            .extend_pairs(realm.service.iter().map(|service| ("service", service)))
            .extend_pairs(access.scopes.iter().map(|scope| ("scope", scope)));
        self.obtain(
            host,
            access,
            Asking {
                method: Method::GET,
                url,
                body: Body::Empty,
                authorization,
            },
        )
        .await
    }

    /// Exchanges a refresh token for an access token by POST (`OAuth2` token authentication of CNCF
    /// distribution).
    async fn exchange_token(
        &self,
        host: &HostState,
        realm: &Realm,
        token: &Secret,
        access: &Access,
    ) -> Result<Token, Error> {
        self.sent.secret(token);
        let form = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "refresh_token")
            .append_pair("service", realm.service.as_deref().unwrap_or_default())
            .append_pair("client_id", "imglife")
            .append_pair("scope", &access.scopes.join(" "))
            .append_pair("refresh_token", token.expose())
            .finish();
        let (url, body) = (realm.url.clone(), Body::Bytes(form.into()));
        self.obtain(
            host,
            access,
            Asking {
                method: Method::POST,
                url,
                body,
                authorization: None,
            },
        )
        .await
    }

    async fn obtain(
        &self,
        host: &HostState,
        access: &Access,
        asking: Asking,
    ) -> Result<Token, Error> {
        let Asking {
            method,
            url,
            mut body,
            authorization,
        } = asking;
        let headers =
            HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(media_type::FORM))]);
        let headers = if matches!(body, Body::Empty) {
            HeaderMap::new()
        } else {
            headers
        };
        let mut tries = self.tries(&host.name, TOKEN)?.for_tokens();
        loop {
            let place = host.auth.place().await;
            host.turn(TOKEN).await;
            let trial = match &authorization {
                Some(login) => match host.auth.logins.begin(login.as_bytes()).await {
                    Ok(trial) => Some(trial),
                    Err(reasons) => return Err(self.unauthorized(host, access, &reasons).await?),
                },
                None => None,
            };
            let sending = Sending {
                method: &method,
                url: url.clone(),
                headers: &headers,
                body: body.take(),
                authorization: authorization.as_ref().map(|value| (AUTHORIZATION, value)),
            };
            let answer = match self.follow(host, sending).await {
                Ok(response) if response.status().is_success() => {
                    self.collect(&method, response, LARGEST_TOKEN).await
                }
                Ok(response) => Err(self.refusal(&method, response).await),
                Err(error) => Err(error),
            };
            match (trial, &answer) {
                (Some(trial), Ok(_)) => trial.taken(),
                (Some(trial), Err(error)) if error.status() == Some(StatusCode::UNAUTHORIZED) => {
                    trial.refused(&error.reasons());
                }
                _ => {}
            }
            drop(place);
            match answer {
                Ok(answer) => {
                    host.auth.outage.is_over();
                    return Token::parse(&answer.body, Instant::now())
                        .map_err(|problem| malformed(&url, problem));
                }
                Err(error) => tries.after(error).await?,
            }
        }
    }

    /// Returns the error for a login that was refused for good, with the reasons that were given.
    pub(super) async fn unauthorized(
        &self,
        host: &HostState,
        access: &Access,
        reasons: &str,
    ) -> Result<Error, Error> {
        let credential = self
            .credentials
            .credential(&host.credential_host, access.path.as_ref())
            .await?;
        let origin = self.origin(host, &credential, access).await;
        let mut detail = if origin.is_some() {
            "it does not take the login that is set, or not for this"
        } else {
            "it asks for a login, and none is set"
        }
        .to_owned();
        if !reasons.is_empty() {
            detail.push_str(&format!(" ({reasons})"));
        }
        Ok(Error::Unauthorized {
            host: host.credential_host.clone(),
            detail,
            origin,
        })
    }

    /// Returns where a credential is from; `None` when it is none.
    async fn origin(
        &self,
        host: &HostState,
        credential: &Credential,
        access: &Access,
    ) -> Option<String> {
        match credential {
            Credential::Anonymous => None,
            // Whatever it was that found it found it before.
            _ => self
                .credentials
                .origin(&host.credential_host, access.path.as_ref())
                .await
                .ok()
                .flatten(),
        }
    }
}

fn unsendable(host: &HostState) -> Error {
    Error::Unauthorized {
        host: host.credential_host.clone(),
        detail: "the credential that is set has characters that cannot be sent".to_owned(),
        origin: Some("the variable or file that it is set in".to_owned()),
    }
}
