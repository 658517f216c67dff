//! One try of a request, with as many exchanges as its authentication needs.

use std::time::Instant;

use reqwest::StatusCode;

use super::auth::{AuthScheme, Authorization, TokenKey};
use super::challenge::challenge;
use super::client::{Client, OutgoingRequest, PermitSource, RedirectRule};
use super::error::Error;
use super::host::HostState;
use super::permits::ConnectionPermit;
use super::request::{AuthMode, Body, Request};

/// Maximum number of challenges of one request that differ from each other.
const MAX_CHALLENGES: u32 = 4;

/// Authentication tries of one request.
#[derive(Default)]
pub(super) struct AuthTries {
    challenges: u32,
    /// True if the host was asked for its challenge.
    has_asked: bool,
    /// True if another credential was looked for.
    pub(super) has_renewed: bool,
}

impl Client {
    /// Sends a request, and again with a credential if the host answers with a challenge. Returns
    /// only successful responses.
    pub(super) async fn attempt(
        &self,
        host: &HostState,
        request: &mut Request,
        permit_source: PermitSource<'_>,
    ) -> Result<(reqwest::Response, ConnectionPermit), Error> {
        let url = host.url(&request.target)?;
        self.check_scheme(host, &url)?;
        let own = host.origin.contains(&url);
        let on_challenge = own && request.auth_mode == AuthMode::OnChallenge;
        let began = Instant::now();
        let mut tries = AuthTries::default();
        loop {
            let first_request = if on_challenge {
                host.auth.first_request().await
            } else {
                None
            };
            let authorization = match request.auth_mode {
                AuthMode::OnChallenge if own => self.authorization(host, &request.access).await?,
                AuthMode::Basic if own => self.basic(host, &request.access).await?,
                AuthMode::Header if own => self.named(host, &request.access).await?,
                _ => Authorization::None,
            };
            if request.uses_quota {
                host.wait_for_quota().await;
            }
            let permit = match permit_source {
                PermitSource::Acquire(connection_use) => {
                    host.acquire(request.kind, connection_use).await
                }
                PermitSource::Reuse(permit) => {
                    host.wait_to_send(request.kind).await;
                    permit.clone()
                }
            };
            let check = match &authorization {
                Authorization::Password(value) if on_challenge => {
                    match host.auth.credential_checks.start(value.as_bytes()).await {
                        Ok(check) => Some(check),
                        Err(reasons) => {
                            return Err(self.unauthorized(host, &request.access, &reasons).await?);
                        }
                    }
                }
                _ => None,
            };
            let is_stream = matches!(request.body, Body::Stream { .. });
            let outgoing = OutgoingRequest {
                method: &request.method,
                url: url.clone(),
                headers: &request.headers,
                body: request.body.take(),
                authorization: authorization.header(),
                redirects: if request.auth_mode == AuthMode::OnChallenge {
                    RedirectRule::Body
                } else {
                    RedirectRule::BodyToSameOrigin
                },
            };
            let result = self.follow(host, outgoing).await;
            let is_own =
                |response: &reqwest::Response| on_challenge && host.origin.contains(response.url());
            let is_challenge = |response: &reqwest::Response| {
                is_own(response) && response.status() == StatusCode::UNAUTHORIZED
            };
            if on_challenge && !result.as_ref().is_ok_and(is_challenge) {
                // Failures count too: the requests that wait would otherwise wait for each other.
                host.auth.answered();
            }
            let response = result?;
            if own && host.origin.contains(response.url()) {
                host.update_quota(response.headers());
            }
            if response.status().is_success() {
                if let Some(check) = check {
                    check.accepted();
                }
                return Ok((response, permit));
            }
            // A denial is about the credential only if the host itself answered.
            let is_denial =
                is_own(&response) && matches!(response.status().as_u16(), 401 | 403 | 404);
            let is_without_challenge =
                !is_challenge(&response) || challenge(response.headers()).is_none();
            if is_denial
                && is_without_challenge
                && !is_stream
                && matches!(authorization, Authorization::None)
                && !std::mem::replace(&mut tries.has_asked, true)
                && request.access.challenge_path.is_some()
                && self.has_credential(host, &request.access).await
            {
                // Some hosts hide from anonymous requests what the credential may read.
                self.ask_for_challenge(host, &request.access).await;
                if !matches!(
                    host.auth.scheme(&request.access),
                    AuthScheme::Unknown | AuthScheme::None
                ) {
                    continue;
                }
            }
            if !is_challenge(&response) {
                let status = response.status();
                let error = self.read_error(&request.method, response).await;
                if let Some(check) = check
                    && status == StatusCode::NOT_FOUND
                {
                    check.accepted();
                }
                if !is_denial {
                    return Err(error);
                }
                drop((first_request, permit));
                let is_expired = status == StatusCode::FORBIDDEN
                    && self
                        .renew_once(host, &request.access, &authorization, &mut tries)
                        .await?;
                let error = self
                    .with_credential_use(host, &request.access, &authorization, error)
                    .await;
                if !is_expired {
                    return Err(error);
                }
                if is_stream {
                    return Err(Error::StaleToken {
                        rejection: Box::new(error),
                    });
                }
                continue;
            }
            let is_final = authorization.is_final(began);
            let rejected_realm = match &authorization {
                Authorization::Token(_, realm) if is_final => Some(&**realm),
                _ => None,
            };
            let learned = host.auth.learn(
                response.headers(),
                &host.origin,
                &request.access,
                rejected_realm,
            );
            let is_new = match learned {
                // With an expired token, some hosts name another token server.
                Err(Error::Misled { .. })
                    if !is_final && matches!(authorization, Authorization::Token(..)) =>
                {
                    false
                }
                learned => learned?,
            };
            drop(first_request);
            let reasons = self.read_error(&request.method, response).await.reasons();
            drop(permit);
            if let Some(check) = check {
                check.rejected(&reasons);
            }
            tries.challenges += 1;
            let is_hopeless = is_final && !(is_new && tries.challenges <= MAX_CHALLENGES);
            if is_hopeless
                && !self
                    .renew_once(host, &request.access, &authorization, &mut tries)
                    .await?
            {
                return Err(self.unauthorized(host, &request.access, &reasons).await?);
            }
            if let Authorization::Token(token, realm) = &authorization {
                let key = TokenKey::new(realm, &request.access);
                host.auth.forget(&key, token).await;
            }
            if is_stream {
                let rejection = self.unauthorized(host, &request.access, &reasons).await?;
                return Err(Error::StaleToken {
                    rejection: Box::new(rejection),
                });
            }
        }
    }
}
