//! Authorization of requests: a credential as it is, or a token from the host's token server.

use std::sync::Arc;
use std::time::Instant;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode, Url};

use super::auth::{AuthScheme, Authorization, Realm, TokenSlot, basic};
use super::client::{Client, OutgoingRequest, malformed};
use super::error::{Error, is_transient_status};
use super::host::HostState;
use super::request::{Body, RequestAccess, RequestKind};
use super::token::{Token, bearer, sensitive};
use crate::credentials::Credential;
use crate::model::Secret;
use crate::model::media_type;

/// Maximum size of a token server's response, in bytes.
const MAX_TOKEN_BODY: usize = 1024 * 1024;

const TOKEN: RequestKind = RequestKind("token");

/// Request for a token.
struct TokenRequest {
    method: Method,
    url: Url,
    body: Body,
    authorization: Option<HeaderValue>,
}

impl Client {
    /// Returns the authorization of a request to `host`, by the scheme that the host asks for.
    pub(super) async fn authorization(
        &self,
        host: &HostState,
        access: &RequestAccess,
    ) -> Result<Authorization, Error> {
        let scheme = host.auth.scheme();
        if matches!(scheme, AuthScheme::Unknown | AuthScheme::None) {
            return Ok(Authorization::None);
        }
        let credential = self.credential(host, access).await?;
        let sendable = |header: Option<HeaderValue>| {
            header
                .ok_or_else(|| unsendable(host))
                .map(|header| Authorization::Fixed(Some(header)))
        };
        match (scheme, &credential) {
            (_, Credential::Bearer { token }) => sendable(bearer(token.expose())),
            (AuthScheme::Bearer(realm), _) => self
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

    /// Returns the header with user name and password for `host`, regardless of its scheme; no
    /// header if they are not known. Fails if the host rejected them too often.
    pub(super) async fn basic(
        &self,
        host: &HostState,
        access: &RequestAccess,
    ) -> Result<Authorization, Error> {
        let credential = self.credential(host, access).await?;
        let header = match &credential {
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
        let checks = &host.auth.credential_checks;
        match header
            .as_ref()
            .and_then(|header| checks.rejection(header.as_bytes()))
        {
            Some(reasons) => Err(self.unauthorized(host, access, &reasons).await?),
            None => Ok(Authorization::Fixed(header)),
        }
    }

    /// Returns the header that the credential for `host` consists of; none if the credential is of
    /// another form.
    pub(super) async fn named(
        &self,
        host: &HostState,
        access: &RequestAccess,
    ) -> Result<Authorization, Error> {
        match self.credential(host, access).await? {
            Credential::Header { name, value } => {
                let value = sensitive(value.expose().to_owned()).ok_or_else(|| unsendable(host))?;
                Ok(Authorization::Named(HeaderName::from_static(name), value))
            }
            _ => Ok(Authorization::None),
        }
    }

    async fn credential(
        &self,
        host: &HostState,
        access: &RequestAccess,
    ) -> Result<Credential, Error> {
        Ok(self
            .credentials
            .credential(&host.origin.credential_host, access.path.as_ref())
            .await?)
    }

    /// Returns the token for `access` from the cache or from the token server.
    async fn token(
        &self,
        host: &HostState,
        realm: &Realm,
        credential: &Credential,
        access: &RequestAccess,
    ) -> Result<Token, Error> {
        let began = Instant::now();
        let slot = host.auth.slot(&access.scopes);
        let mut slot = slot.lock().await;
        match &*slot {
            TokenSlot::Token(token) if token.is_usable() => return Ok(token.clone()),
            TokenSlot::Rejected(detail) => {
                let credential_source = self.credential_source(host, credential, access).await;
                return Err(Error::Unauthorized {
                    host: host.origin.credential_host.clone(),
                    detail: detail.clone(),
                    credential_source,
                });
            }
            TokenSlot::Failed(error, at) if began <= *at => {
                return Err(Error::TokenServer(Arc::clone(error)));
            }
            TokenSlot::Empty | TokenSlot::Token(_) | TokenSlot::Failed(..) => {}
        }
        let fetched = self.fetch_token(host, realm, credential, access).await;
        match &fetched {
            Ok(token) => *slot = TokenSlot::Token(token.clone()),
            Err(Error::Unauthorized { detail, .. }) => *slot = TokenSlot::Rejected(detail.clone()),
            Err(Error::TokenServer(error)) => {
                *slot = TokenSlot::Failed(Arc::clone(error), Instant::now());
            }
            Err(_) => *slot = TokenSlot::Empty,
        }
        fetched
    }

    async fn fetch_token(
        &self,
        host: &HostState,
        realm: &Realm,
        credential: &Credential,
        access: &RequestAccess,
    ) -> Result<Token, Error> {
        let result = match credential {
            Credential::RefreshToken { token } => {
                self.exchange_token(host, realm, token, access).await
            }
            Credential::RefreshTokenOrPassword { username, token } => {
                self.exchange_token_or_password(host, realm, (username.as_str(), token), access)
                    .await
            }
            Credential::Basic { username, password } => {
                self.request_token(host, realm, basic(username, password), access)
                    .await
            }
            Credential::Anonymous | Credential::Bearer { .. } | Credential::Header { .. } => {
                self.request_token(host, realm, None, access).await
            }
        };
        match result {
            Err(error)
                if matches!(
                    error.status(),
                    Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
                ) =>
            {
                Err(self.unauthorized(host, access, &error.reasons()).await?)
            }
            Err(error @ (Error::Refused(_) | Error::Connection { .. } | Error::Stalled { .. })) => {
                Err(Error::TokenServer(Arc::new(error)))
            }
            result => result,
        }
    }

    /// Exchanges a token of unknown kind as a refresh token, or sends it as a password if the token
    /// server does not accept it as one.
    async fn exchange_token_or_password(
        &self,
        host: &HostState,
        realm: &Realm,
        (username, token): (&str, &Secret),
        access: &RequestAccess,
    ) -> Result<Token, Error> {
        if !host.auth.token_is_password() {
            match self.exchange_token(host, realm, token, access).await {
                // Token servers without OAuth2 answer 404 or 405; those with OAuth2 answer 400 or
                // 401 to a token that is not a refresh token.
                Err(Error::Refused(response))
                    if response.status.is_client_error()
                        && !is_transient_status(response.status) =>
                {
                    host.auth.set_token_is_password();
                }
                result => return result,
            }
        }
        self.request_token(host, realm, basic(username, token), access)
            .await
    }

    /// Requests a token by GET, with or without a credential (token authentication specification of
    /// CNCF distribution).
    async fn request_token(
        &self,
        host: &HostState,
        realm: &Realm,
        authorization: Option<HeaderValue>,
        access: &RequestAccess,
    ) -> Result<Token, Error> {
        let mut url = realm.url.clone();
        url.query_pairs_mut()
            .extend_pairs(realm.service.iter().map(|service| ("service", service)))
            .extend_pairs(access.scopes.iter().map(|scope| ("scope", scope)));
        let request = TokenRequest {
            method: Method::GET,
            url,
            body: Body::Empty,
            authorization,
        };
        self.send_token_request(host, access, request).await
    }

    /// Exchanges a refresh token for an access token by POST (`OAuth2` token authentication of CNCF
    /// distribution).
    async fn exchange_token(
        &self,
        host: &HostState,
        realm: &Realm,
        token: &Secret,
        access: &RequestAccess,
    ) -> Result<Token, Error> {
        self.sent_secrets.add_secret(token);
        let form = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "refresh_token")
            .append_pair("service", realm.service.as_deref().unwrap_or_default())
            .append_pair("client_id", "imglife")
            .append_pair("scope", &access.scopes.join(" "))
            .append_pair("refresh_token", token.expose())
            .finish();
        let request = TokenRequest {
            method: Method::POST,
            url: realm.url.clone(),
            body: Body::Bytes(form.into()),
            authorization: None,
        };
        self.send_token_request(host, access, request).await
    }

    async fn send_token_request(
        &self,
        host: &HostState,
        access: &RequestAccess,
        request: TokenRequest,
    ) -> Result<Token, Error> {
        let TokenRequest {
            method,
            url,
            mut body,
            authorization,
        } = request;
        let headers = if matches!(body, Body::Empty) {
            HeaderMap::new()
        } else {
            HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(media_type::FORM))])
        };
        let mut retries = self.retries(&host.origin.name, TOKEN)?.for_tokens();
        loop {
            let permit = host.auth.token_permit().await;
            host.wait_to_send(TOKEN).await;
            let check = match &authorization {
                Some(value) => match host.auth.credential_checks.start(value.as_bytes()).await {
                    Ok(check) => Some(check),
                    Err(reasons) => {
                        return Err(self.unauthorized(host, access, &reasons).await?);
                    }
                },
                None => None,
            };
            let outgoing = OutgoingRequest {
                method: &method,
                url: url.clone(),
                headers: &headers,
                body: body.take(),
                authorization: authorization.as_ref().map(|value| (AUTHORIZATION, value)),
            };
            let result = match self.follow(host, outgoing).await {
                Ok(response) if response.status().is_success() => {
                    self.read_response(&method, response, MAX_TOKEN_BODY).await
                }
                Ok(response) => Err(self.read_error(&method, response).await),
                Err(error) => Err(error),
            };
            match (check, &result) {
                (Some(check), Ok(_)) => check.accepted(),
                (Some(check), Err(error)) if error.status() == Some(StatusCode::UNAUTHORIZED) => {
                    check.rejected(&error.reasons());
                }
                _ => {}
            }
            drop(permit);
            match result {
                Ok(response) => {
                    host.auth.outage.end();
                    return Token::parse(&response.body, Instant::now())
                        .map_err(|problem| malformed(&url, problem));
                }
                Err(error) => retries.after(error).await?,
            }
        }
    }

    /// Returns the error for a credential that was rejected, or that is missing, with the host's
    /// reasons.
    pub(super) async fn unauthorized(
        &self,
        host: &HostState,
        access: &RequestAccess,
        reasons: &str,
    ) -> Result<Error, Error> {
        let credential = self.credential(host, access).await?;
        let credential_source = self.credential_source(host, &credential, access).await;
        let mut detail = if credential_source.is_some() {
            "the configured credentials were rejected, or they lack permission"
        } else {
            "credentials are required, and none are configured"
        }
        .to_owned();
        if !reasons.is_empty() {
            detail.push_str(&format!(" ({reasons})"));
        }
        Ok(Error::Unauthorized {
            host: host.origin.credential_host.clone(),
            detail,
            credential_source,
        })
    }

    /// Returns where a credential comes from; `None` when there is none.
    async fn credential_source(
        &self,
        host: &HostState,
        credential: &Credential,
        access: &RequestAccess,
    ) -> Option<String> {
        match credential {
            Credential::Anonymous => None,
            // The same lookup found the credential before, so it does not fail.
            _ => self
                .credentials
                .source(&host.origin.credential_host, access.path.as_ref())
                .await
                .ok()
                .flatten(),
        }
    }
}

fn unsendable(host: &HostState) -> Error {
    Error::Unauthorized {
        host: host.origin.credential_host.clone(),
        detail: "the configured credentials have characters that cannot be sent".to_owned(),
        credential_source: Some("the variable or file that sets them".to_owned()),
    }
}
