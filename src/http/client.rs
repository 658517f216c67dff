//! Sending requests.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use reqwest::header::{
    ACCEPT_ENCODING, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, LOCATION,
};
use reqwest::{Certificate, Identity, Method, StatusCode, Url};

use tokio_util::task::TaskTracker;

use super::auth::Authorization;
use super::error::{Error, PLAIN_HTTP, Refusal, SafeUrl, read_reasons};
use super::fault::Fault;
use super::host::{Class, HostState, Permit};
use super::request::{Answer, Body, Download, Kind, LogIn, Place, Relayed, Request, join};
use super::retry::{Tries, Verdict, classify_status, retry_after};
use super::sent::Sent;
use super::settings::{Settings, Tls, host_of};
use crate::credentials::Credentials;
use crate::model::lock::lock;
use crate::model::{Clock, Host};

const USER_AGENT: &str = concat!("imglife/", env!("CARGO_PKG_VERSION"));
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// How long an unused connection is kept: below what servers and balancers commonly allow, so they
/// are not closed under a request.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a run that ends waits for what it gave up to be tidied up.
const PATIENCE_AT_THE_END: Duration = Duration::from_secs(2);

const MOST_REDIRECTS: usize = 5;
const LARGEST_ERROR: usize = 64 * 1024;

/// How much longer than other requests an upload may take between its last byte and the answer: the
/// registry stores it then.
const UPLOAD_PATIENCE: u32 = 5;

/// The client that every request of a run is sent with.
pub struct Client {
    settings: Settings,
    pub(super) credentials: Arc<dyn Credentials>,
    pub(super) clock: Clock,
    hosts: Mutex<HashMap<Host, Arc<HostState>>>,
    connections: Mutex<HashMap<Connections, reqwest::Client>>,
    tidying: TaskTracker,
    pub(super) sent: Sent,
}

/// What connections are made with. Hosts that need nothing special share a pool.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Connections {
    Plain,
    Tls(Tls),
}

/// Which place among the host's connections a request takes.
#[derive(Clone, Copy)]
enum Seat<'a> {
    /// One that becomes free.
    New(Class),
    /// One that the caller has, and keeps while the request fails.
    Kept(&'a Permit),
}

/// A request without its host's own matters.
pub(super) struct Sending<'a> {
    pub(super) method: &'a Method,
    pub(super) url: Url,
    pub(super) headers: &'a HeaderMap,
    pub(super) body: Body,
    pub(super) authorization: Option<(HeaderName, &'a HeaderValue)>,
}

impl Client {
    pub fn new(settings: Settings, credentials: Arc<dyn Credentials>, clock: Clock) -> Client {
        Client {
            settings,
            credentials,
            clock,
            hosts: Mutex::default(),
            connections: Mutex::default(),
            tidying: TaskTracker::new(),
            sent: Sent::default(),
        }
    }

    /// Lets `task` run on its own: it tidies up after something that was given up, and nobody waits
    /// for it but [`Client::settle`]. Must be called on a runtime.
    pub fn tidy_up(&self, task: impl Future<Output = ()> + Send + 'static) {
        drop(self.tidying.spawn(task));
    }

    /// Waits until everything that was given up is tidied up, at most for a short time: for a run
    /// that is about to end.
    pub async fn settle(&self) {
        self.tidying.close();
        // What is not done by then, hosts tidy up by themselves some day.
        let _in_time = tokio::time::timeout(PATIENCE_AT_THE_END, self.tidying.wait()).await;
        self.tidying.reopen();
    }

    /// Returns the answer to `request` when it is a success, read whole. Tried again as the
    /// classification in `retry` says, unless its body is a stream.
    pub async fn send(&self, mut request: Request) -> Result<Answer, Error> {
        if matches!(request.body, Body::Stream { .. }) {
            return self.send_once(request).await;
        }
        let host = self.host(&request.host)?;
        let mut tries = self.tries_on(&host, request.kind);
        loop {
            match self.exchange(&host, &mut request).await {
                Ok(answer) => return Ok(answer),
                Err(error) => tries.after(error).await?,
            }
        }
    }

    /// Returns the answer to `request` when it is a success, read whole. Not tried again.
    pub async fn send_once(&self, mut request: Request) -> Result<Answer, Error> {
        let host = self.host(&request.host)?;
        self.exchange(&host, &mut request).await
    }

    /// Returns the answer to `request` when it is a success, its content yet to be read. Tried
    /// again until the content begins.
    pub async fn open(&self, mut request: Request) -> Result<Download, Error> {
        let host = self.host(&request.host)?;
        let mut tries = self.tries_on(&host, request.kind);
        loop {
            match self
                .attempt(&host, &mut request, Seat::New(Class::Download))
                .await
            {
                Ok((response, permit)) => {
                    return Ok(self.download(request.method, response, permit));
                }
                Err(error) => tries.after(error).await?,
            }
        }
    }

    /// Returns a download in the place of one that broke, whose content must be dropped by then.
    /// Not tried again.
    pub async fn open_again(&self, mut request: Request, place: &Place) -> Result<Download, Error> {
        let host = self.host(&request.host)?;
        let (response, permit) = self
            .attempt(&host, &mut request, Seat::Kept(&place.0))
            .await?;
        Ok(self.download(request.method, response, permit))
    }

    /// Sends a request that somebody else made and signed, to `url`, and returns the answer, read
    /// whole up to `limit` bytes, whatever its status. Tried again as other requests are. Redirects
    /// are not followed, and no credential is added.
    pub async fn relay(&self, request: Relayed) -> Result<Answer, Error> {
        let Relayed {
            method,
            url,
            headers,
            body,
            kind,
            limit,
        } = request;
        let name = host_of(&url).ok_or_else(|| malformed(&url, "the address names no host"))?;
        let host = self.host(&name)?;
        let mut tries = self.tries_on(&host, kind);
        loop {
            let permit = host.place_and_turn(kind, Class::Exchange).await;
            let body = if body.is_empty() {
                Body::Empty
            } else {
                Body::Bytes(body.clone())
            };
            let answer = match self
                .transmit(&host, &method, &url, &headers, body, None)
                .await
            {
                Ok(response) => self.collect(&method, response, limit).await,
                Err(error) => Err(error),
            };
            drop(permit);
            match answer {
                Ok(answer) if classify_status(answer.status) == Verdict::Final => {
                    return Ok(answer);
                }
                Ok(answer) => tries.after(self.refused(&method, &answer)).await?,
                Err(error) => tries.after(error).await?,
            }
        }
    }

    /// Returns a counter of tries for something that needs several requests to `host`.
    pub fn tries(&self, host: &Host, kind: Kind) -> Result<Tries, Error> {
        Ok(self.tries_on(&self.host(host)?, kind))
    }

    pub(super) fn tries_on(&self, host: &Arc<HostState>, kind: Kind) -> Tries {
        Tries::new(
            Arc::clone(host),
            kind,
            self.settings.retry_delay,
            self.settings.deadline,
        )
    }

    pub(super) fn host(&self, name: &Host) -> Result<Arc<HostState>, Error> {
        let mut hosts = lock(&self.hosts);
        if let Some(host) = hosts.get(name) {
            return Ok(Arc::clone(host));
        }
        let host = Arc::new(HostState::new(name, &self.settings)?);
        hosts.insert(name.clone(), Arc::clone(&host));
        Ok(host)
    }

    async fn exchange(&self, host: &HostState, request: &mut Request) -> Result<Answer, Error> {
        let (response, _permit) = self
            .attempt(host, request, Seat::New(Class::Exchange))
            .await?;
        self.collect(&request.method, response, request.limit).await
    }

    /// Sends a request once, or once more with a login where one is asked for. Returns only
    /// successes.
    async fn attempt(
        &self,
        host: &HostState,
        request: &mut Request,
        seat: Seat<'_>,
    ) -> Result<(reqwest::Response, Permit), Error> {
        let url = host.url(&request.target)?;
        self.check_plain(host, &url)?;
        let own = host.is_own(&url);
        let asked = own && request.log_in == LogIn::AsAsked;
        let began = Instant::now();
        loop {
            let introduction = if asked {
                host.auth.introduction().await
            } else {
                None
            };
            let authorization = match request.log_in {
                LogIn::AsAsked if own => self.authorization(host, &request.access).await?,
                LogIn::Basic if own => self.basic(host, &request.access).await?,
                LogIn::Header if own => self.named(host, &request.access).await?,
                _ => Authorization::NotAsked,
            };
            if request.counted {
                host.counted_turn().await;
            }
            let permit = match seat {
                Seat::New(class) => host.place_and_turn(request.kind, class).await,
                Seat::Kept(permit) => {
                    host.turn(request.kind).await;
                    permit.clone()
                }
            };
            let trial = match &authorization {
                Authorization::Password(login) if asked => {
                    match host.auth.logins.begin(login.as_bytes()).await {
                        Ok(trial) => Some(trial),
                        Err(reasons) => {
                            return Err(self.unauthorized(host, &request.access, &reasons).await?);
                        }
                    }
                }
                _ => None,
            };
            let once = matches!(request.body, Body::Stream { .. });
            let sending = Sending {
                method: &request.method,
                url: url.clone(),
                headers: &request.headers,
                body: request.body.take(),
                authorization: authorization.header(),
            };
            let answer = self.follow(host, sending).await;
            let is_challenge = |response: &reqwest::Response| {
                asked
                    && response.status() == StatusCode::UNAUTHORIZED
                    && host.is_own(response.url())
            };
            if asked && !answer.as_ref().is_ok_and(is_challenge) {
                // Failures count too: those who wait shall not wait for one another's.
                host.auth.answered();
            }
            let response = answer?;
            if own && host.is_own(response.url()) {
                host.note_quota(response.headers());
            }
            if !is_challenge(&response) {
                if let Some(trial) = trial
                    && (response.status().is_success()
                        || response.status() == StatusCode::NOT_FOUND)
                {
                    trial.taken();
                }
                return if response.status().is_success() {
                    Ok((response, permit))
                } else {
                    Err(self.refusal(&request.method, response).await)
                };
            }
            host.auth.learn(response.headers(), host)?;
            drop(introduction);
            let reasons = self.refusal(&request.method, response).await.reasons();
            drop(permit);
            if let Some(trial) = trial {
                trial.refused(&reasons);
            }
            if authorization.is_final(began) {
                return Err(self.unauthorized(host, &request.access, &reasons).await?);
            }
            if let Authorization::Token(token) = &authorization {
                host.auth.forget(&request.access.scopes, token).await;
            }
            if once {
                return Err(Error::StaleToken {
                    host: host.credential_host.clone(),
                });
            }
        }
    }

    /// Sends a request and follows redirects, without the credential when they lead to another
    /// origin.
    pub(super) async fn follow(
        &self,
        host: &HostState,
        sending: Sending<'_>,
    ) -> Result<reqwest::Response, Error> {
        let Sending {
            method,
            mut url,
            headers,
            mut body,
            mut authorization,
        } = sending;
        for _ in 0..=MOST_REDIRECTS {
            let response = self
                .transmit(
                    host,
                    method,
                    &url,
                    headers,
                    body.take(),
                    authorization.as_ref(),
                )
                .await?;
            let is_redirect = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
            if !is_redirect || !matches!(*method, Method::GET | Method::HEAD) {
                return Ok(response);
            }
            let location = response
                .headers()
                .get(LOCATION)
                .and_then(|value| value.to_str().ok());
            let Some(next) = location.and_then(|text| join(&url, text)) else {
                return Err(malformed(&url, "a redirect that says no address"));
            };
            if next.origin() != url.origin() {
                self.check_step(host, &url, &next)?;
                authorization = None;
            }
            // Read to its end, so that the connection can be used again.
            drop(self.read(method, response, LARGEST_ERROR).await);
            url = next;
        }
        Err(misled(host, &url, "there are too many redirects"))
    }

    /// Sends a request as it is and returns the answer as it is.
    async fn transmit(
        &self,
        host: &HostState,
        method: &Method,
        url: &Url,
        headers: &HeaderMap,
        body: Body,
        authorization: Option<&(HeaderName, &HeaderValue)>,
    ) -> Result<reqwest::Response, Error> {
        let mut builder = self
            .connections(host, url)?
            .request(method.clone(), url.clone())
            .headers(headers.clone());
        if let Some((name, value)) = authorization {
            self.sent.header(value);
            builder = builder.header(name, *value);
        }
        let sent = Arc::new(AtomicU64::new(0));
        let mut patience = self.settings.stall;
        builder = match body {
            Body::Empty if matches!(*method, Method::GET | Method::HEAD) => builder,
            Body::Empty => builder.header(CONTENT_LENGTH, 0),
            Body::Bytes(bytes) => builder.body(bytes),
            Body::Stream { length, content } => {
                patience *= UPLOAD_PATIENCE;
                let count = Arc::clone(&sent);
                let content = content.inspect(move |_| {
                    count.fetch_add(1, Ordering::Relaxed);
                });
                builder
                    .header(CONTENT_LENGTH, length)
                    .body(reqwest::Body::wrap_stream(content))
            }
        };
        let mut answer = std::pin::pin!(builder.send());
        loop {
            let before = sent.load(Ordering::Relaxed);
            match tokio::time::timeout(patience, &mut answer).await {
                Ok(Ok(response)) => {
                    tracing::debug!(%method, url = %SafeUrl::from(url), status = response.status().as_u16(), "answered");
                    if host.is_own(url) {
                        host.silence.is_over();
                    }
                    return Ok(response);
                }
                Ok(Err(error)) => return Err(broken(method, url, error)),
                Err(_) if sent.load(Ordering::Relaxed) != before => {}
                Err(_) => {
                    return Err(Error::Stalled {
                        method: method.clone(),
                        url: url.into(),
                        limit: patience,
                        tries: 1,
                    });
                }
            }
        }
    }

    /// Returns an answer other than success as an error, with what it says.
    pub(super) async fn refusal(&self, method: &Method, response: reqwest::Response) -> Error {
        let (status, headers, url) = (
            response.status(),
            response.headers().clone(),
            response.url().clone(),
        );
        // Why it failed is told by the status already when the reasons cannot be read.
        let body = self
            .read(method, response, LARGEST_ERROR)
            .await
            .unwrap_or_default();
        self.refused(
            method,
            &Answer {
                status,
                headers,
                url,
                body,
            },
        )
    }

    fn refused(&self, method: &Method, answer: &Answer) -> Error {
        let retry_after = retry_after(&answer.headers, self.clock.now());
        // Most refusals are answers to HEAD; what was sent grows with each token.
        let (problems, excerpt) = if answer.body.is_empty() {
            (Vec::new(), String::new())
        } else {
            read_reasons(&answer.body, &self.sent.masker())
        };
        let (url, status) = (SafeUrl::from(&answer.url), answer.status);
        Error::Refused(Box::new(Refusal {
            method: method.clone(),
            url,
            status,
            problems,
            excerpt,
            retry_after,
            beyond_deadline: false,
            tries: 1,
        }))
    }

    pub(super) async fn collect(
        &self,
        method: &Method,
        response: reqwest::Response,
        limit: usize,
    ) -> Result<Answer, Error> {
        let (status, headers, url) = (
            response.status(),
            response.headers().clone(),
            response.url().clone(),
        );
        let body = self.read(method, response, limit).await?;
        Ok(Answer {
            status,
            headers,
            url,
            body,
        })
    }

    async fn read(
        &self,
        method: &Method,
        mut response: reqwest::Response,
        limit: usize,
    ) -> Result<Bytes, Error> {
        let mut body = BytesMut::new();
        while let Some(chunk) = self.chunk(method, &mut response).await? {
            if body.len() + chunk.len() > limit {
                return Err(Error::TooLarge {
                    url: response.url().into(),
                    limit,
                });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }

    async fn chunk(
        &self,
        method: &Method,
        response: &mut reqwest::Response,
    ) -> Result<Option<Bytes>, Error> {
        next_chunk(method, response, self.settings.stall).await
    }

    fn download(&self, method: Method, response: reqwest::Response, permit: Permit) -> Download {
        let (status, headers) = (response.status(), response.headers().clone());
        let stall = self.settings.stall;
        let place = Place(permit.clone());
        let content =
            futures_util::stream::try_unfold((response, permit), move |(mut response, permit)| {
                let method = method.clone();
                async move {
                    Ok(next_chunk(&method, &mut response, stall)
                        .await?
                        .map(|chunk| (chunk, (response, permit))))
                }
            });
        Download {
            status,
            headers,
            content: content.boxed(),
            place,
        }
    }

    /// Checks that a redirect may be followed from one origin to another.
    pub(super) fn check_step(&self, host: &HostState, from: &Url, to: &Url) -> Result<(), Error> {
        if from.scheme() == "https" && to.scheme() != "https" {
            return Err(misled(host, to, PLAIN_HTTP));
        }
        self.check_plain(host, to)
    }

    /// Checks that an address is https, or of a host that may be spoken to over plain HTTP.
    fn check_plain(&self, host: &HostState, url: &Url) -> Result<(), Error> {
        let allowed = match url.scheme() {
            "https" => true,
            "http" => {
                host.is_own(url)
                    || host_of(url).is_some_and(|host| self.settings.insecure.contains(&host))
                    || self
                        .settings
                        .hosts
                        .values()
                        .filter_map(|rules| rules.endpoint.as_ref())
                        .any(|end| end.origin() == url.origin())
            }
            _ => return Err(misled(host, url, "it is neither http nor https")),
        };
        if allowed {
            Ok(())
        } else {
            Err(misled(host, url, PLAIN_HTTP))
        }
    }

    /// Returns what `url` is reached with. The special rules of a host are its own: another that it
    /// leads to has those that are set for it. Its other ports, where token servers like to be, are
    /// the same host.
    fn connections(&self, host: &HostState, url: &Url) -> Result<reqwest::Client, Error> {
        let key = if url.scheme() == "http" {
            Connections::Plain
        } else if url.host_str() == host.base.host_str() {
            Connections::Tls(host.rules.tls.clone())
        } else {
            let rules = host_of(url).and_then(|name| self.settings.hosts.get(&name));
            Connections::Tls(rules.map(|rules| rules.tls.clone()).unwrap_or_default())
        };
        let mut connections = lock(&self.connections);
        if let Some(client) = connections.get(&key) {
            return Ok(client.clone());
        }
        let client = connect(&key, &host.name)?;
        connections.insert(key, client.clone());
        Ok(client)
    }
}

fn connect(connections: &Connections, host: &Host) -> Result<reqwest::Client, Error> {
    let mut headers = HeaderMap::new();
    // Compressed on the way, content would have another size and digest than it should.
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let mut builder = reqwest::Client::builder()
        .user_agent(USER_AGENT)
        .default_headers(headers)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        // Layers are few and large: with HTTP/2 they would share one connection and its flow
        // control, which is slower than a connection each, and stalls all when one is read slowly.
        .http1_only()
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(IDLE_TIMEOUT);
    match connections {
        // No certificates are needed, so none are looked for: they may be missing where nothing but
        // plain HTTP is spoken.
        Connections::Plain => builder = builder.tls_certs_only([]),
        Connections::Tls(tls) => {
            if let Some(file) = &tls.ca_file {
                let certificates = Certificate::from_pem_bundle(&read_pem(host, file)?)
                    .map_err(|error| unusable(host, file, error))?;
                if certificates.is_empty() {
                    return Err(unusable(host, file, "it has no certificate"));
                }
                builder = builder.tls_certs_merge(certificates);
            }
            if let Some(pair) = &tls.client_certificate {
                let mut pem = read_pem(host, &pair.certificate)?;
                pem.push(b'\n');
                pem.extend(read_pem(host, &pair.key)?);
                builder = builder.identity(
                    Identity::from_pem(&pem)
                        .map_err(|error| unusable(host, &pair.certificate, error))?,
                );
            }
            builder = builder.tls_danger_accept_invalid_certs(tls.insecure_skip_verify);
        }
    }
    builder.build().map_err(|source| match connections {
        Connections::Tls(Tls {
            ca_file: Some(file),
            ..
        }) => unusable(host, file, source),
        Connections::Tls(Tls {
            client_certificate: Some(pair),
            ..
        }) => unusable(host, &pair.certificate, source),
        _ => Error::Setup {
            host: host.clone(),
            source,
        },
    })
}

fn read_pem(host: &Host, file: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(file).map_err(|error| unusable(host, file, error))
}

fn unusable(host: &Host, file: &Path, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
    Error::Certificate {
        host: host.clone(),
        file: file.to_owned(),
        source: source.into(),
    }
}

async fn next_chunk(
    method: &Method,
    response: &mut reqwest::Response,
    stall: Duration,
) -> Result<Option<Bytes>, Error> {
    match tokio::time::timeout(stall, response.chunk()).await {
        Ok(Ok(chunk)) => Ok(chunk),
        Ok(Err(error)) => Err(broken(method, response.url(), error)),
        Err(_) => Err(Error::Stalled {
            method: method.clone(),
            url: response.url().into(),
            limit: stall,
            tries: 1,
        }),
    }
}

fn broken(method: &Method, url: &Url, error: reqwest::Error) -> Error {
    Error::Connection {
        method: method.clone(),
        url: url.into(),
        tries: 1,
        source: Fault::new(error),
    }
}

pub(super) fn malformed(url: &Url, problem: &str) -> Error {
    Error::Malformed {
        url: url.into(),
        problem: problem.to_owned(),
    }
}

fn misled(host: &HostState, url: &Url, reason: &'static str) -> Error {
    Error::Misled {
        host: host.name.clone(),
        url: url.into(),
        reason,
    }
}
