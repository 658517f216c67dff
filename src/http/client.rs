//! The client: sends requests, follows redirects, reads responses.

use std::collections::HashMap;
use std::io::Read;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use chrono::TimeDelta;
use futures_util::StreamExt;
use reqwest::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, LOCATION,
};
use reqwest::{Method, Url};

use tokio_util::task::TaskTracker;

use super::connections::{ConnectionPools, ca_file};
use super::error::{
    CredentialUse, Error, ErrorResponse, PLAIN_HTTP, SafeUrl, is_transient_status, read_reasons,
};
use super::fault::Fault;
use super::host::HostState;
use super::permits::{ConnectionPermit, ConnectionUse};
use super::redaction::SentSecrets;
use super::request::{
    Body, Download, DownloadPermit, Request, RequestKind, Response, SignedRequest, join,
};
use super::retry::{Retries, retry_after};
use super::settings::{Settings, host_of};
use crate::credentials::Credentials;
use crate::model::lock::lock;
use crate::model::text::excerpt;
use crate::model::{Clock, Host};

/// Time limit for cleanup tasks at the end of a run.
const CLEANUP_TIMEOUT: Duration = Duration::from_secs(2);

const MAX_REDIRECTS: usize = 5;

/// Maximum size of an error response's body, in bytes.
const MAX_ERROR_BODY: usize = 64 * 1024;

/// Time allowed for each byte of a body that is read whole: a rate of 1000 bytes a second.
const TIME_PER_BYTE: Duration = Duration::from_millis(1);

/// Factor of the stall timeout after which the rate of a body is checked.
const SLOW_BODY_FACTOR: f64 = 1.25;

/// Factor of the stall timeout between the last byte of an upload and the response: the registry
/// stores the content in that time.
const UPLOAD_TIMEOUT_FACTOR: u32 = 5;

/// Client that sends every request of a run.
pub struct Client {
    settings: Settings,
    pub(super) credentials: Arc<dyn Credentials>,
    pub(super) clock: Clock,
    hosts: Mutex<HashMap<Host, Arc<HostState>>>,
    pools: ConnectionPools,
    cleanup: TaskTracker,
    requests: AtomicU64,
    pub(super) sent_secrets: SentSecrets,
}

/// Connection permit of a request.
#[derive(Clone, Copy)]
pub(super) enum PermitSource<'a> {
    /// A new permit for this use.
    Acquire(ConnectionUse),
    /// The permit that the caller has, and keeps if the request fails.
    Reuse(&'a ConnectionPermit),
}

/// Request to a URL, independent of the state of its host.
pub(super) struct OutgoingRequest<'a> {
    pub(super) method: &'a Method,
    pub(super) url: Url,
    pub(super) headers: &'a HeaderMap,
    pub(super) body: Body,
    pub(super) authorization: Option<(HeaderName, &'a HeaderValue)>,
    pub(super) redirects: RedirectRule,
}

/// Redirects of requests that are neither GET nor HEAD. Only those that keep method and body are
/// followed (RFC 9110, sections 15.4.8 and 15.4.9), and deletions only within an origin.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum RedirectRule {
    /// Followed to other origins too, without the credential.
    Body,
    /// Followed within the origin: the body may have a secret, or the API has no such redirects.
    BodyToSameOrigin,
}

impl Client {
    pub fn new(settings: Settings, credentials: Arc<dyn Credentials>, clock: Clock) -> Client {
        Client {
            settings,
            credentials,
            clock,
            hosts: Mutex::default(),
            pools: ConnectionPools::default(),
            cleanup: TaskTracker::new(),
            requests: AtomicU64::new(0),
            sent_secrets: SentSecrets::default(),
        }
    }

    /// Spawns a task that cleans up after an abandoned operation. Only [`Client::finish_cleanup`]
    /// waits for it. Must be called on a runtime.
    pub fn spawn_cleanup(&self, task: impl Future<Output = ()> + Send + 'static) {
        drop(self.cleanup.spawn(task));
    }

    /// Waits for the cleanup tasks, at most `CLEANUP_TIMEOUT`. Call it at the end of a run.
    pub async fn finish_cleanup(&self) {
        self.cleanup.close();
        // If a task does not finish in time, the host cleans up later by itself.
        let _in_time = tokio::time::timeout(CLEANUP_TIMEOUT, self.cleanup.wait()).await;
        self.cleanup.reopen();
    }

    /// Sends `request` and returns the successful response, read completely. Retries as [`Retries`]
    /// does, unless the body is a stream.
    pub async fn send(&self, mut request: Request) -> Result<Response, Error> {
        if matches!(request.body, Body::Stream { .. }) {
            return self.send_once(request).await;
        }
        let host = self.host(&request.host)?;
        let mut retries = self.retries_on(&host, request.kind);
        loop {
            match self.exchange(&host, &mut request).await {
                Ok(response) => return Ok(response),
                Err(error) => retries.after(error).await?,
            }
        }
    }

    /// Like [`Client::send`], without retries.
    pub async fn send_once(&self, mut request: Request) -> Result<Response, Error> {
        let host = self.host(&request.host)?;
        self.exchange(&host, &mut request).await
    }

    /// Sends `request` and returns the successful response with its content still to be read.
    /// Retries until the content begins.
    pub async fn open(&self, mut request: Request) -> Result<Download, Error> {
        let host = self.host(&request.host)?;
        let mut retries = self.retries_on(&host, request.kind);
        let permit = PermitSource::Acquire(ConnectionUse::Download);
        loop {
            match self.attempt(&host, &mut request, permit).await {
                Ok((response, permit)) => {
                    return Ok(self.download(request.method, response, permit));
                }
                Err(error) => retries.after(error).await?,
            }
        }
    }

    /// Reopens a download that broke, with its permit, without retries. The caller must have
    /// dropped the content of the broken one.
    pub async fn reopen(
        &self,
        mut request: Request,
        permit: &DownloadPermit,
    ) -> Result<Download, Error> {
        let host = self.host(&request.host)?;
        let (response, permit) = self
            .attempt(&host, &mut request, PermitSource::Reuse(&permit.0))
            .await?;
        Ok(self.download(request.method, response, permit))
    }

    /// Sends a request that another library built and signed. Returns the response of any permanent
    /// status, read completely.
    ///
    /// Retries like [`Client::send`]. Follows no redirects and adds no credential.
    pub async fn send_signed(&self, request: SignedRequest) -> Result<Response, Error> {
        let SignedRequest {
            method,
            url,
            headers,
            body,
            kind,
            limit,
        } = request;
        let name = host_of(&url).ok_or_else(|| malformed(&url, "the URL has no valid host"))?;
        let host = self.host(&name)?;
        let mut retries = self.retries_on(&host, kind);
        loop {
            let permit = host.acquire(kind, ConnectionUse::Exchange).await;
            let body = if body.is_empty() {
                Body::Empty
            } else {
                Body::Bytes(body.clone())
            };
            let result = match self
                .transmit(&host, &method, &url, &headers, body, None)
                .await
            {
                Ok(response) => self.read_response(&method, response, limit).await,
                Err(error) => Err(error),
            };
            drop(permit);
            match result {
                Ok(response) if is_transient_status(response.status) => {
                    retries.after(self.error(&method, &response)).await?;
                }
                Ok(response) => return Ok(response),
                Err(error) => retries.after(error).await?,
            }
        }
    }

    /// Returns the retries of an operation that consists of several requests to `host`.
    pub fn retries(&self, host: &Host, kind: RequestKind) -> Result<Retries, Error> {
        Ok(self.retries_on(&self.host(host)?, kind))
    }

    fn retries_on(&self, host: &Arc<HostState>, kind: RequestKind) -> Retries {
        Retries::new(
            Arc::clone(host),
            kind,
            self.settings.retry_delay,
            self.settings.deadline,
        )
    }

    /// Returns the state of the host `name`.
    pub(super) fn host(&self, name: &Host) -> Result<Arc<HostState>, Error> {
        let mut hosts = lock(&self.hosts);
        if let Some(host) = hosts.get(name) {
            return Ok(Arc::clone(host));
        }
        let host = Arc::new(HostState::new(name, &self.settings)?);
        hosts.insert(name.clone(), Arc::clone(&host));
        Ok(host)
    }

    /// Returns the number of requests that were sent, with retries and redirects.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Returns how far the clock of each host is ahead of this machine's, by its last response.
    pub fn clock_offsets(&self) -> Vec<(Host, TimeDelta)> {
        let hosts = lock(&self.hosts);
        let offsets = hosts.iter().filter_map(|(name, host)| {
            Some((name.clone(), TimeDelta::try_seconds(host.clock_offset()?)?))
        });
        offsets.collect()
    }

    async fn exchange(&self, host: &HostState, request: &mut Request) -> Result<Response, Error> {
        let permit = PermitSource::Acquire(ConnectionUse::Exchange);
        let (response, _permit) = self.attempt(host, request, permit).await?;
        self.read_response(&request.method, response, request.limit)
            .await
    }

    /// Sends a request and follows redirects, without the credential after a redirect to another
    /// origin.
    ///
    /// Requests other than GET and HEAD are redirected as [`RedirectRule`] allows. Fails with
    /// [`Error::Moved`] if that needs a stream, which only the caller can open again.
    pub(super) async fn follow(
        &self,
        host: &HostState,
        request: OutgoingRequest<'_>,
    ) -> Result<reqwest::Response, Error> {
        let OutgoingRequest {
            method,
            mut url,
            headers,
            mut body,
            mut authorization,
            redirects,
        } = request;
        let is_read = matches!(*method, Method::GET | Method::HEAD);
        let is_stream = matches!(body, Body::Stream { .. });
        for _ in 0..=MAX_REDIRECTS {
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
            let is_redirect = match response.status().as_u16() {
                307 | 308 => true,
                301..=303 => is_read,
                _ => false,
            };
            if !is_redirect {
                return Ok(response);
            }
            let location = response
                .headers()
                .get(LOCATION)
                .and_then(|value| value.to_str().ok());
            let Some(next) = location.and_then(|text| join(&url, text)) else {
                return Err(malformed(&url, "the redirect has no valid `Location`"));
            };
            if next.origin() != url.origin() {
                let stays = redirects == RedirectRule::BodyToSameOrigin || method == Method::DELETE;
                if !is_read && stays {
                    return Ok(response);
                }
                self.check_redirect(host, &url, &next)?;
                authorization = None;
            }
            if is_stream {
                return Err(Error::Moved {
                    url: SafeUrl::from(&url),
                    to: Box::new(next),
                });
            }
            // Read completely, so that the connection can be reused.
            drop(self.read_body(method, response, MAX_ERROR_BODY).await);
            url = next;
        }
        Err(host.origin.misled(&url, "too many redirects"))
    }

    /// Sends a request once and returns the response of any status.
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
            .pools
            .pool(&self.settings, host, url)?
            .request(method.clone(), url.clone())
            .headers(headers.clone());
        if let Some((name, value)) = authorization {
            self.sent_secrets.add_header(value);
            builder = builder.header(name, *value);
        }
        self.requests.fetch_add(1, Ordering::Relaxed);
        let sent_chunks = Arc::new(AtomicU64::new(0));
        let mut timeout = self.settings.stall;
        builder = match body {
            Body::Empty if matches!(*method, Method::GET | Method::HEAD) => builder,
            Body::Empty => builder.header(CONTENT_LENGTH, 0),
            Body::Bytes(bytes) => builder.body(bytes),
            Body::Stream { length, content } => {
                timeout *= UPLOAD_TIMEOUT_FACTOR;
                let count = Arc::clone(&sent_chunks);
                let content = content.inspect(move |_| {
                    count.fetch_add(1, Ordering::Relaxed);
                });
                builder
                    .header(CONTENT_LENGTH, length)
                    .body(reqwest::Body::wrap_stream(content))
            }
        };
        let mut response = std::pin::pin!(builder.send());
        loop {
            let before = sent_chunks.load(Ordering::Relaxed);
            match tokio::time::timeout(timeout, &mut response).await {
                Ok(Ok(response)) => {
                    tracing::debug!(%method, url = %SafeUrl::from(url), status = response.status().as_u16(), "answered");
                    if host.origin.contains(url) {
                        host.outage.end();
                        host.update_clock(response.headers(), self.clock.now());
                    }
                    return Ok(response);
                }
                Ok(Err(error)) => {
                    let trusted = ca_file(&self.settings, host, url);
                    return Err(Error::Connection {
                        method: method.clone(),
                        url: url.into(),
                        tries: 1,
                        source: Fault::new(error).with_ca_file(trusted),
                    });
                }
                // The upload makes progress.
                Err(_) if sent_chunks.load(Ordering::Relaxed) != before => {}
                Err(_) => {
                    return Err(Error::Stalled {
                        method: method.clone(),
                        url: url.into(),
                        limit: timeout,
                        tries: 1,
                    });
                }
            }
        }
    }

    /// Reads a response with an error status and returns it as an error.
    pub(super) async fn read_error(&self, method: &Method, response: reqwest::Response) -> Error {
        let (status, headers, url) = (
            response.status(),
            response.headers().clone(),
            response.url().clone(),
        );
        // Without a readable body, the error shows only the status.
        let body = self
            .read_body(method, response, MAX_ERROR_BODY)
            .await
            .unwrap_or_default();
        self.error(
            method,
            &Response {
                status,
                headers,
                url,
                body,
            },
        )
    }

    /// Returns a response with an error status as an error.
    fn error(&self, method: &Method, response: &Response) -> Error {
        let retry_after = retry_after(&response.headers, self.clock.now());
        // Most error responses are answers to HEAD and have no body. No masker is built for these,
        // because its cost grows with each token.
        let (errors, excerpt) = if response.body.is_empty() {
            (Vec::new(), String::new())
        } else {
            read_reasons(&response.body, &self.sent_secrets.masker())
        };
        let (url, status) = (SafeUrl::from(&response.url), response.status);
        Error::Refused(Box::new(ErrorResponse {
            method: method.clone(),
            url,
            status,
            errors,
            excerpt,
            retry_after,
            beyond_deadline: false,
            exceeds_limit: false,
            credential: CredentialUse::Unknown,
            tries: 1,
        }))
    }

    /// Reads a response completely. Fails when the body is longer than `limit`.
    pub(super) async fn read_response(
        &self,
        method: &Method,
        response: reqwest::Response,
        limit: usize,
    ) -> Result<Response, Error> {
        let (status, headers, url) = (
            response.status(),
            response.headers().clone(),
            response.url().clone(),
        );
        let body = self.read_body(method, response, limit).await?;
        let body = decoded(body, &headers, limit).map_err(|problem| malformed(&url, &problem))?;
        Ok(Response {
            status,
            headers,
            url,
            body,
        })
    }

    /// Reads a body completely. Fails when it is longer than `limit`, or arrives so slowly that a
    /// server could hold the run for hours without a stall.
    async fn read_body(
        &self,
        method: &Method,
        mut response: reqwest::Response,
        limit: usize,
    ) -> Result<Bytes, Error> {
        let (began, stall) = (Instant::now(), self.settings.stall);
        let mut body = BytesMut::new();
        loop {
            let allowed = slow_limit(stall, body.len()).min(self.settings.metadata);
            let left = allowed.saturating_sub(began.elapsed());
            let chunk = match next_chunk(method, &mut response, stall.min(left)).await {
                Err(Error::Stalled { .. }) if left < stall => {
                    return Err(Error::TooSlow {
                        url: response.url().into(),
                        limit: allowed,
                        received: body.len(),
                    });
                }
                chunk => chunk?,
            };
            let Some(chunk) = chunk else {
                return Ok(body.freeze());
            };
            if body.len() + chunk.len() > limit {
                return Err(Error::TooLarge {
                    url: response.url().into(),
                    limit,
                });
            }
            body.extend_from_slice(&chunk);
        }
    }

    fn download(
        &self,
        method: Method,
        response: reqwest::Response,
        permit: ConnectionPermit,
    ) -> Download {
        let (status, headers) = (response.status(), response.headers().clone());
        let stall = self.settings.stall;
        let download_permit = DownloadPermit(permit.clone());
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
            permit: download_permit,
        }
    }

    /// Checks that a redirect from one origin to another may be followed.
    pub(super) fn check_redirect(
        &self,
        host: &HostState,
        from: &Url,
        to: &Url,
    ) -> Result<(), Error> {
        if from.scheme() == "https" && to.scheme() != "https" {
            return Err(host.origin.misled(to, PLAIN_HTTP));
        }
        self.check_scheme(host, to)
    }

    /// Checks that a URL is https, or of a host for which plain HTTP is allowed.
    pub(super) fn check_scheme(&self, host: &HostState, url: &Url) -> Result<(), Error> {
        let is_allowed = match url.scheme() {
            "https" => true,
            "http" => {
                host.origin.contains(url)
                    || host_of(url).is_some_and(|host| self.settings.insecure.contains(&host))
                    || self
                        .settings
                        .hosts
                        .values()
                        .filter_map(|rules| rules.endpoint.as_ref())
                        .any(|endpoint| endpoint.origin() == url.origin())
            }
            _ => return Err(host.origin.misled(url, "it is neither http nor https")),
        };
        if is_allowed {
            Ok(())
        } else {
            Err(host.origin.misled(url, PLAIN_HTTP))
        }
    }
}

/// Returns a body without the compression that `Content-Encoding` names. Some proxies compress
/// although no compression is accepted.
fn decoded(body: Bytes, headers: &HeaderMap, limit: usize) -> Result<Bytes, String> {
    let Some(encoding) = headers.get(CONTENT_ENCODING).filter(|_| !body.is_empty()) else {
        return Ok(body);
    };
    let encoding = String::from_utf8_lossy(encoding.as_bytes())
        .trim()
        .to_ascii_lowercase();
    let read = |reader: Box<dyn Read + '_>| {
        let mut content = Vec::new();
        let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
        match reader.take(most).read_to_end(&mut content) {
            Ok(_) if content.len() > limit => {
                Err(format!("the response has more than {limit} bytes"))
            }
            Ok(_) => Ok(Bytes::from(content)),
            Err(error) => Err(format!(
                "the response is not valid {encoding}, which its `Content-Encoding` names: {error}"
            )),
        }
    };
    match encoding.as_str() {
        "" | "identity" => Ok(body),
        "gzip" | "x-gzip" if body.starts_with(&[0x1f, 0x8b]) => {
            read(Box::new(flate2::read::MultiGzDecoder::new(&body[..])))
        }
        // The header is wrong: the content is as it was requested.
        "gzip" | "x-gzip" => Ok(body),
        _ => Err(format!(
            "the response is compressed although no compression was accepted (`Content-Encoding: {}`)",
            excerpt(&encoding, 40)
        )),
    }
}

/// Returns the time by which a body that is read whole must be complete or have more than
/// `received` bytes: somewhat longer than a stall, and longer the more has arrived.
fn slow_limit(stall: Duration, received: usize) -> Duration {
    let received = TIME_PER_BYTE.saturating_mul(u32::try_from(received).unwrap_or(u32::MAX));
    stall.mul_f64(SLOW_BODY_FACTOR).saturating_add(received)
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
