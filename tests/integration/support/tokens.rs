//! A token server for registries with token authentication.
//!
//! The user is `alice` with the password `s3cret`. Anonymous clients may pull. Tokens are signed
//! with a key that the registry trusts.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{CertificateParams, KeyPair};
use serde_json::json;

use super::loopback_server::LoopbackServer;
use super::registry::{PASSWORD, USER};

/// Refresh token that `OAuth2` clients get and may use.
pub(crate) const REFRESH_TOKEN: &str = "refresh-of-alice";

pub(crate) const ISSUER: &str = "imglife tests";
pub(crate) const SERVICE: &str = "registry of the tests";

/// Behaviour of the token server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TokenRules {
    /// Lifetime of a token. Registries may accept it for another minute.
    pub(crate) lifetime: Duration,
    /// True if `OAuth2` requests (POST) are supported; otherwise they get 404.
    pub(crate) oauth2: bool,
}

impl Default for TokenRules {
    fn default() -> TokenRules {
        TokenRules {
            lifetime: Duration::from_secs(300),
            oauth2: false,
        }
    }
}

/// A request for a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TokenRequest {
    /// `GET`, or `POST` for `OAuth2`.
    pub(crate) method: &'static str,
    /// Requested scopes, such as `repository:a/b:pull,push`.
    pub(crate) scopes: Vec<String>,
    /// `None` for anonymous clients and wrong credentials.
    pub(crate) user: Option<&'static str>,
    pub(crate) granted: bool,
}

/// A running token server. It stops when it is dropped.
pub(crate) struct TokenServer {
    server: LoopbackServer,
    certificate: String,
    requests: Arc<Mutex<Vec<TokenRequest>>>,
}

impl TokenServer {
    pub(crate) fn start(rules: TokenRules) -> TokenServer {
        let key = KeyPair::generate().expect("a key");
        let certificate = CertificateParams::new(Vec::new())
            .and_then(|parameters| parameters.self_signed(&key))
            .expect("a certificate");
        let mut header = Header::new(Algorithm::ES256);
        header.x5c = Some(vec![STANDARD.encode(certificate.der())]);
        let requests = Arc::default();
        let authority = Authority {
            rules,
            header,
            key: EncodingKey::from_ec_pem(key.serialize_pem().as_bytes()).expect("a key in PEM"),
            requests: Arc::clone(&requests),
        };
        let router = Router::new()
            .route("/token", get(by_get).post(by_post))
            .with_state(Arc::new(authority));
        TokenServer {
            server: LoopbackServer::start_http(router),
            certificate: certificate.pem(),
            requests,
        }
    }

    /// Returns the URL for token requests.
    pub(crate) fn realm(&self) -> String {
        format!("http://{}/token", self.server.address())
    }

    /// Returns the certificate of the signing key in PEM format.
    pub(crate) fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Returns the requests received so far.
    pub(crate) fn requests(&self) -> Vec<TokenRequest> {
        self.requests
            .lock()
            .expect("no thread has panicked")
            .clone()
    }
}

/// State of the token server.
struct Authority {
    rules: TokenRules,
    header: Header,
    key: EncodingKey,
    requests: Arc<Mutex<Vec<TokenRequest>>>,
}

/// Decoded parameters of a query or form.
struct Parameters(Vec<(String, String)>);

impl Parameters {
    fn parse(text: &str) -> Parameters {
        Parameters(
            url::form_urlencoded::parse(text.as_bytes())
                .into_owned()
                .collect(),
        )
    }

    fn one(&self, name: &str) -> &str {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map_or("", |(_, value)| value)
    }

    fn scopes(&self) -> Vec<String> {
        let all = self.0.iter().filter(|(key, _)| key == "scope");
        all.flat_map(|(_, value)| value.split(' '))
            .filter(|scope| !scope.is_empty())
            .map(str::to_owned)
            .collect()
    }
}

async fn by_get(State(authority): State<Arc<Authority>>, headers: HeaderMap, uri: Uri) -> Response {
    let alice = format!("Basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}")));
    let user = match headers.get(header::AUTHORIZATION) {
        None => Some(None),
        Some(value) => (*value == alice).then_some(Some(USER)),
    };
    authority.answer("GET", user, &Parameters::parse(uri.query().unwrap_or("")))
}

async fn by_post(State(authority): State<Arc<Authority>>, body: String) -> Response {
    if !authority.rules.oauth2 {
        return StatusCode::NOT_FOUND.into_response();
    }
    let form = Parameters::parse(&body);
    let right = match form.one("grant_type") {
        "password" => form.one("username") == USER && form.one("password") == PASSWORD,
        "refresh_token" => form.one("refresh_token") == REFRESH_TOKEN,
        _ => false,
    };
    authority.answer("POST", right.then_some(Some(USER)), &form)
}

impl Authority {
    /// Responds to a client: `None` if its credentials are wrong, `Some(None)` if it is anonymous.
    fn answer(
        &self,
        method: &'static str,
        client: Option<Option<&'static str>>,
        parameters: &Parameters,
    ) -> Response {
        let scopes = parameters.scopes();
        let is_granted = client.is_some() && parameters.one("service") == SERVICE;
        let request = TokenRequest {
            method,
            scopes: scopes.clone(),
            user: client.flatten(),
            granted: is_granted,
        };
        self.requests
            .lock()
            .expect("no thread has panicked")
            .push(request);
        let (true, Some(user)) = (is_granted, client) else {
            return (
                StatusCode::UNAUTHORIZED,
                Json(json!({ "errors": [{ "code": "UNAUTHORIZED" }] })),
            )
                .into_response();
        };
        let access: Vec<_> = scopes
            .iter()
            .filter_map(|scope| granted(scope, user.is_some()))
            .collect();
        let now = now();
        let lifetime = self.rules.lifetime.as_secs();
        let claims = json!({
            "iss": ISSUER, "sub": user.unwrap_or(""), "aud": SERVICE, "access": access,
            "iat": now, "nbf": now - 5, "exp": now + lifetime, "jti": format!("{:x}", fastrand::u128(..)),
        });
        let token = encode(&self.header, &claims, &self.key).expect("a signed token");
        let mut body = json!({ "token": token, "access_token": token, "expires_in": lifetime });
        if method == "POST" {
            body["refresh_token"] = json!(REFRESH_TOKEN);
        }
        Json(body).into_response()
    }
}

/// Returns the access that is granted for a scope such as `repository:a/b:pull,push`.
fn granted(scope: &str, is_known: bool) -> Option<serde_json::Value> {
    let (kind, rest) = scope.split_once(':')?;
    let (name, actions) = rest.rsplit_once(':')?;
    let actions: Vec<&str> = actions
        .split(',')
        .filter(|action| is_known || *action == "pull")
        .collect();
    Some(json!({ "type": kind, "name": name, "actions": actions }))
}

/// Returns the time in seconds since 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "the registry compares the times in a token with the real clock"
)]
fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a clock after 1970")
        .as_secs()
}
