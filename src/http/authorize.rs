//! Authorization of requests: a credential as it is, or a token from the host's token server.

use std::sync::Arc;
use std::time::Instant;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode, Url};

use super::attempt::AuthTries;
use super::auth::{AuthScheme, Authorization, Realm, TokenKey, TokenSlot, basic};
use super::client::{Client, OutgoingRequest, RedirectRule, malformed};
use super::error::{CredentialUse, Error, is_transient_status};
use super::host::HostState;
use super::request::{Body, RequestAccess, RequestKind, RequestTarget};
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
        let scheme = host.auth.scheme(access);
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
            (AuthScheme::Bearer(realm), _) => {
                match self.token(host, &realm, &credential, access).await {
                    Ok(token) => Ok(Authorization::Token(token, realm)),
                    // The token server was named for another access. The host's own challenge
                    // decides.
                    Err(error) if is_rejection(&error) && !host.auth.has_learned(access) => {
                        tracing::debug!(host = %host.origin.name, %error, "asking the host for another token server");
                        Ok(Authorization::None)
                    }
                    Err(error) => Err(error),
                }
            }
            (_, Credential::Basic { .. } | Credential::RefreshTokenOrPassword { .. }) => {
                password_header(&credential)
                    .ok_or_else(|| unsendable(host))
                    .map(Authorization::Password)
            }
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
        let header = password_header(&self.credential(host, access).await?);
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

    pub(super) async fn credential(
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
        let slot = host.auth.slot(&TokenKey::new(realm, access));
        let mut slot = slot.lock().await;
        match &*slot {
            TokenSlot::Token(token) if token.is_usable() => return Ok(token.clone()),
            TokenSlot::Rejected(detail, rejected) if rejected == credential => {
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
            TokenSlot::Empty
            | TokenSlot::Token(_)
            | TokenSlot::Rejected(..)
            | TokenSlot::Failed(..) => {}
        }
        let mut fetched = self.fetch_token(host, realm, credential, access).await;
        let mut used = credential.clone();
        if matches!(&fetched, Err(Error::Unauthorized { .. }))
            && self.renew_credential(host, access, credential).await
        {
            used = self.credential(host, access).await?;
            fetched = self.fetch_token(host, realm, &used, access).await;
        }
        match &fetched {
            Ok(token) => *slot = TokenSlot::Token(token.clone()),
            Err(Error::Unauthorized { detail, .. }) => {
                *slot = TokenSlot::Rejected(detail.clone(), used);
            }
            Err(Error::TokenServer(error)) => {
                *slot = TokenSlot::Failed(Arc::clone(error), Instant::now());
            }
            Err(_) => *slot = TokenSlot::Empty,
        }
        fetched
    }

    /// Returns true if there is another credential than `rejected` now: credentials of helpers
    /// expire, and helpers then return a new one.
    pub(super) async fn renew_credential(
        &self,
        host: &HostState,
        access: &RequestAccess,
        rejected: &Credential,
    ) -> bool {
        let renewed = self
            .credentials
            .renew(&host.origin.credential_host, access.path.as_ref(), rejected)
            .await;
        renewed.unwrap_or_else(|error| {
            tracing::debug!(host = %host.origin.name, %error, "the credential was not renewed");
            false
        })
    }

    /// Like [`renew_credential`](Client::renew_credential) after the host rejected user name and
    /// password, at most once for a request.
    pub(super) async fn renew_once(
        &self,
        host: &HostState,
        access: &RequestAccess,
        sent: &Authorization,
        tries: &mut AuthTries,
    ) -> Result<bool, Error> {
        let Authorization::Password(sent) = sent else {
            return Ok(false);
        };
        if std::mem::replace(&mut tries.has_renewed, true) {
            return Ok(false);
        }
        let current = self.credential(host, access).await?;
        // Another request may have renewed it already.
        Ok(password_header(&current).as_ref() != Some(sent)
            || self.renew_credential(host, access, &current).await)
    }

    /// Returns true if a credential is configured and can be used. The host may need none, so that a
    /// failure to find one is no error here.
    pub(super) async fn has_credential(&self, host: &HostState, access: &RequestAccess) -> bool {
        let credential = self.credential(host, access).await;
        credential.is_ok_and(|credential| credential != Credential::Anonymous)
    }

    /// Requests the challenge of a host that denied an anonymous request without one, once in a
    /// run. Afterwards the scheme is known if the host has one.
    pub(super) async fn ask_for_challenge(&self, host: &HostState, access: &RequestAccess) {
        let Some(path) = access.challenge_path else {
            return;
        };
        let ask = async || {
            let url = host.url(&RequestTarget::Path(path.to_owned()))?;
            let response = self.get(host, url).await?;
            if response.status() == StatusCode::UNAUTHORIZED && host.origin.contains(response.url())
            {
                let none = RequestAccess::default();
                host.auth
                    .learn(response.headers(), &host.origin, &none, None)?;
            }
            Ok::<(), Error>(())
        };
        let challenge = host.auth.challenge_request.get_or_init(|| async {
            if let Err(error) = ask().await {
                tracing::debug!(host = %host.origin.name, %error, "the host has no usable challenge");
            }
        });
        challenge.await;
    }

    /// Returns the error of a denied request with the use of the credential.
    pub(super) async fn with_credential_use(
        &self,
        host: &HostState,
        access: &RequestAccess,
        sent: &Authorization,
        error: Error,
    ) -> Error {
        let Error::Refused(mut response) = error else {
            return error;
        };
        if response.status == StatusCode::FORBIDDEN
            && let Ok(credential) = self.credential(host, access).await
        {
            response.credential = match self.credential_source(host, &credential, access).await {
                None => CredentialUse::NotConfigured(host.origin.credential_host.clone()),
                Some(source) if sent.header().is_some() => CredentialUse::Sent(source),
                Some(source) => CredentialUse::NotSent(source),
            };
        }
        Error::Refused(response)
    }

    /// Fetches a token for the first of the realm's lists of scopes that the token server accepts.
    async fn fetch_token(
        &self,
        host: &HostState,
        realm: &Realm,
        credential: &Credential,
        access: &RequestAccess,
    ) -> Result<Token, Error> {
        let lists = realm.scopes(access);
        let last = lists.len().saturating_sub(1);
        for (index, scopes) in lists.into_iter().enumerate() {
            let asked = RequestAccess {
                scopes,
                ..access.clone()
            };
            match self.fetch_token_for(host, realm, credential, &asked).await {
                Err(error) if index < last && is_rejection(&error) => {
                    tracing::debug!(host = %host.origin.name, %error, "requesting a token for the scopes of the challenge only");
                }
                fetched => return fetched,
            }
        }
        Err(malformed(&realm.url, "no scope to request"))
    }

    async fn fetch_token_for(
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
                // The body may hold a token.
                redirects: RedirectRule::BodyToSameOrigin,
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

/// Returns the header with user name and password; `None` if the credential is of another form, or
/// has characters that a header cannot have.
fn password_header(credential: &Credential) -> Option<HeaderValue> {
    match credential {
        Credential::Basic { username, password }
        | Credential::RefreshTokenOrPassword {
            username,
            token: password,
        } => basic(username, password),
        Credential::Bearer { .. }
        | Credential::RefreshToken { .. }
        | Credential::Header { .. }
        | Credential::Anonymous => None,
    }
}

/// Returns true if a token server rejected the scopes or the credential of a request.
fn is_rejection(error: &Error) -> bool {
    match error {
        Error::Unauthorized { .. } => true,
        Error::TokenServer(error) => error
            .status()
            .is_some_and(|status| status.is_client_error() && !is_transient_status(status)),
        _ => false,
    }
}

fn unsendable(host: &HostState) -> Error {
    Error::Unauthorized {
        host: host.origin.credential_host.clone(),
        detail: "the configured credentials have characters that cannot be sent".to_owned(),
        credential_source: Some("the variable or file that sets them".to_owned()),
    }
}
