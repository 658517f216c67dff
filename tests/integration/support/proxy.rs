//! A reverse proxy in front of a real registry that injects faults: it breaks connections, responds
//! by itself, or changes requests and responses.
//!
//! Clients use it like the registry. It keeps the `Host` header, so the URLs in the registry's
//! responses lead back to the proxy. Each connection serves one request.

use std::future::Future;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::loopback_server::LoopbackServer;

/// Range of a [`Rule`] that matches all requests with its method and path.
pub(crate) const ALWAYS: Range<usize> = 0..usize::MAX;

/// Size of the pieces in which bodies are copied, in bytes.
const PIECE: usize = 16 * 1024;

/// Largest head of a request or response, in bytes.
const MAX_HEAD_SIZE: usize = 64 * 1024;

/// A fault in a request or its response. Positions are in bytes of the body.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// The proxy responds by itself and does not forward the request.
    Answer {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: &'static str,
    },
    /// The connection is reset after the head of the request.
    Reset,
    /// The connection is reset in the middle of the request body.
    ResetSending(u64),
    /// The proxy stops reading the request body and does not respond.
    StallSending(u64),
    /// The registry handles the request, and the connection is reset instead of a response.
    LoseAnswer,
    /// The connection is reset in the middle of the response body.
    ResetAnswer(u64),
    /// The connection is closed normally in the middle of the response body.
    Cut(u64),
    /// The response body stops, and the connection stays open.
    Stall(u64),
    /// The response body arrives in pieces of this size, with a pause after each.
    Drip(usize, Duration),
    /// One byte of the response body is changed.
    Flip(u64),
    /// The `Content-Length` of the response is changed by this difference.
    Length(i64),
    /// A header of the response is replaced, or removed.
    Header(&'static str, Option<String>),
    /// The request is forwarded without its query. A request to mount a blob then starts an upload.
    WithoutQuery,
    /// The request is forwarded without this header.
    WithoutHeader(&'static str),
}

impl Fault {
    /// Returns a response with a status, headers and an error body like that of a registry.
    pub(crate) fn status(status: u16, headers: &[(&'static str, &str)]) -> Fault {
        let headers = headers
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()))
            .collect();
        Fault::Answer {
            status,
            headers,
            body: r#"{"errors":[{"code":"FAULT","message":"injected by the proxy"}]}"#,
        }
    }
}

/// A fault and the requests that it applies to.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) method: &'static str,
    /// Substring of path and query.
    pub(crate) path: String,
    /// Numbers of the matching requests that get the fault, from 0.
    pub(crate) which: Range<usize>,
    pub(crate) fault: Fault,
}

impl Rule {
    pub(crate) fn new(
        method: &'static str,
        path: impl Into<String>,
        which: Range<usize>,
        fault: Fault,
    ) -> Rule {
        Rule {
            method,
            path: path.into(),
            which,
            fault,
        }
    }
}

/// A request that the proxy received.
#[derive(Clone, Debug)]
pub(crate) struct ProxiedRequest {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) path: String,
    /// Headers, with names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// True if the request got a fault.
    pub(crate) faulty: bool,
    forwarded: Arc<AtomicU64>,
}

impl ProxiedRequest {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// Returns the number of bytes of its body that were forwarded so far.
    pub(crate) fn forwarded(&self) -> u64 {
        self.forwarded.load(Ordering::Relaxed)
    }
}

/// A running proxy. It stops when it is dropped.
pub(crate) struct Proxy {
    server: LoopbackServer,
    shared: Arc<Shared>,
}

struct Shared {
    /// Host and port of the registry.
    upstream: String,
    /// Each rule with the number of requests that matched so far.
    rules: Mutex<Vec<(Rule, usize)>>,
    received: Mutex<Vec<ProxiedRequest>>,
}

impl Proxy {
    /// Starts a proxy in front of the plain HTTP server at `upstream`, a host with a port.
    pub(crate) fn start(upstream: String, rules: Vec<Rule>) -> Proxy {
        let rules = Mutex::new(rules.into_iter().map(|rule| (rule, 0)).collect());
        let shared = Arc::new(Shared {
            upstream,
            rules,
            received: Mutex::default(),
        });
        let serving = Arc::clone(&shared);
        let server = LoopbackServer::start(|listener| accept(listener, serving));
        Proxy { server, shared }
    }

    /// Returns host and port, as in image references.
    pub(crate) fn host(&self) -> String {
        self.server.address().to_string()
    }

    /// Returns the requests received so far.
    pub(crate) fn requests(&self) -> Vec<ProxiedRequest> {
        lock(&self.shared.received).clone()
    }

    /// Returns the number of requests that got a fault so far.
    pub(crate) fn faults(&self) -> usize {
        lock(&self.shared.received)
            .iter()
            .filter(|received| received.faulty)
            .count()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no thread has panicked")
}

async fn accept(listener: tokio::net::TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((client, _)) = listener.accept().await else {
            continue;
        };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            // Broken connections are expected here.
            drop(serve(client, &shared).await);
        });
    }
}

/// Head of a request or response.
struct Head {
    first: String,
    headers: Vec<(String, String)>,
}

impl Head {
    /// Reads a head; `None` if the connection closed before the first byte.
    async fn read(stream: &mut BufReader<TcpStream>) -> io::Result<Option<Head>> {
        let mut lines = Vec::new();
        let mut read = 0;
        loop {
            let mut line = String::new();
            let length = stream.read_line(&mut line).await?;
            read += length;
            if length == 0 && lines.is_empty() {
                return Ok(None);
            }
            if length == 0 || read > MAX_HEAD_SIZE {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let line = line.trim_end().to_owned();
            if line.is_empty() {
                break;
            }
            lines.push(line);
        }
        let headers = lines.iter().skip(1).filter_map(|line| line.split_once(':'));
        let headers = headers
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        Ok(Some(Head {
            first: lines.swap_remove(0),
            headers,
        }))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    fn remove(&mut self, name: &str) {
        self.headers.retain(|(key, _)| key != name);
    }

    fn set(&mut self, name: &str, value: String) {
        self.remove(name);
        self.headers.push((name.to_owned(), value));
    }

    fn length(&self) -> u64 {
        self.header("content-length")
            .and_then(|text| text.parse().ok())
            .unwrap_or(0)
    }

    fn bytes(&self) -> Vec<u8> {
        let headers: String = self
            .headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        format!("{}\r\n{headers}\r\n", self.first).into_bytes()
    }
}

impl Shared {
    /// Records a request and returns its fault.
    fn fault(&self, head: &Head, forwarded: &Arc<AtomicU64>) -> Option<Fault> {
        let mut words = head.first.split(' ');
        let (method, path) = (
            words.next().unwrap_or_default().to_owned(),
            words.next().unwrap_or_default().to_owned(),
        );
        let mut fault = None;
        for (rule, count) in lock(&self.rules).iter_mut() {
            if rule.method == method && path.contains(&rule.path) {
                if rule.which.contains(count) && fault.is_none() {
                    fault = Some(rule.fault.clone());
                }
                *count += 1;
            }
        }
        let forwarded = Arc::clone(forwarded);
        lock(&self.received).push(ProxiedRequest {
            method,
            path,
            headers: head.headers.clone(),
            faulty: fault.is_some(),
            forwarded,
        });
        fault
    }
}

async fn serve(client: TcpStream, shared: &Shared) -> io::Result<()> {
    let mut client = BufReader::new(client);
    let Some(mut head) = Head::read(&mut client).await? else {
        return Ok(());
    };
    let forwarded = Arc::default();
    let fault = shared.fault(&head, &forwarded);
    let length = head.length();
    match &fault {
        Some(Fault::Reset) => return reset(client.into_inner()),
        Some(Fault::Answer {
            status,
            headers,
            body,
        }) => {
            // Reads the body first, because a client that still sends may miss the response.
            pass(&mut client, &mut tokio::io::sink(), length, None).await?;
            let headers: String = headers
                .iter()
                .map(|(name, value)| format!("{name}: {value}\r\n"))
                .collect();
            let body = if head.first.starts_with("HEAD ") {
                ""
            } else {
                body
            };
            let length = if headers.contains("content-length") {
                String::new()
            } else {
                format!("content-length: {}\r\n", body.len())
            };
            let answer = format!(
                "HTTP/1.1 {status} Fault\r\n{length}connection: close\r\n{headers}\r\n{body}"
            );
            return client.into_inner().write_all(answer.as_bytes()).await;
        }
        Some(Fault::WithoutQuery) => {
            let words: Vec<&str> = head.first.split(' ').collect();
            head.first = [
                words[0],
                words[1].split('?').next().unwrap_or_default(),
                words[2],
            ]
            .join(" ");
        }
        Some(Fault::WithoutHeader(name)) => head.remove(name),
        _ => {}
    }
    head.set("connection", "close".to_owned());
    let mut registry = BufReader::new(TcpStream::connect(&shared.upstream).await?);
    registry.write_all(&head.bytes()).await?;
    match fault {
        Some(Fault::ResetSending(limit)) => {
            pass(
                &mut client,
                &mut registry,
                limit.min(length),
                Some(&forwarded),
            )
            .await?;
            registry.flush().await?;
            return reset(client.into_inner());
        }
        Some(Fault::StallSending(limit)) => {
            pass(
                &mut client,
                &mut registry,
                limit.min(length),
                Some(&forwarded),
            )
            .await?;
            return pending().await;
        }
        // The registry may respond before it has read the whole body.
        _ => drop(pass(&mut client, &mut registry, length, Some(&forwarded)).await),
    }
    registry.flush().await?;
    let Some(answer) = Head::read(&mut registry).await? else {
        return reset(client.into_inner());
    };
    reply(client.into_inner(), registry, answer, fault).await
}

/// Forwards a response, with the fault of its request.
async fn reply(
    mut client: TcpStream,
    mut registry: BufReader<TcpStream>,
    mut head: Head,
    fault: Option<Fault>,
) -> io::Result<()> {
    head.set("connection", "close".to_owned());
    match &fault {
        Some(Fault::LoseAnswer) => return reset(client),
        Some(Fault::Header(name, None)) => head.remove(name),
        Some(Fault::Header(name, Some(value))) => head.set(name, value.clone()),
        Some(Fault::Length(difference)) => {
            let length = head.length().saturating_add_signed(*difference);
            head.set("content-length", length.to_string());
        }
        _ => {}
    }
    client.write_all(&head.bytes()).await?;
    match fault {
        Some(Fault::ResetAnswer(limit)) => {
            pass(&mut registry, &mut client, limit, None).await?;
            // Gives the client time to read before the connection is reset.
            client.flush().await?;
            tokio::time::sleep(Duration::from_millis(50)).await;
            return reset(client);
        }
        Some(Fault::Cut(limit)) => pass(&mut registry, &mut client, limit, None).await?,
        Some(Fault::Stall(limit)) => {
            pass(&mut registry, &mut client, limit, None).await?;
            client.flush().await?;
            return pending().await;
        }
        Some(Fault::Drip(size, pause)) => {
            let mut piece = vec![0; size];
            loop {
                let read = registry.read(&mut piece).await?;
                if read == 0 {
                    break;
                }
                client.write_all(&piece[..read]).await?;
                tokio::time::sleep(pause).await;
            }
        }
        Some(Fault::Flip(position)) => {
            pass(&mut registry, &mut client, position, None).await?;
            let byte = registry.read_u8().await?;
            client.write_u8(byte ^ 1).await?;
            pass(&mut registry, &mut client, u64::MAX, None).await?;
        }
        Some(Fault::Length(difference)) if difference < 0 => {
            pass(&mut registry, &mut client, head.length(), None).await?;
        }
        _ => pass(&mut registry, &mut client, u64::MAX, None).await?,
    }
    client.shutdown().await
}

/// Copies up to `limit` bytes and adds their number to `count`.
async fn pass(
    from: &mut BufReader<TcpStream>,
    to: &mut (impl tokio::io::AsyncWrite + Unpin),
    limit: u64,
    count: Option<&AtomicU64>,
) -> io::Result<()> {
    let mut left = limit;
    let mut piece = vec![0; PIECE];
    while left > 0 {
        let wanted = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = from.read(&mut piece[..wanted]).await?;
        if read == 0 {
            break;
        }
        to.write_all(&piece[..read]).await?;
        left -= read as u64;
        if let Some(count) = count {
            count.fetch_add(read as u64, Ordering::Relaxed);
        }
    }
    Ok(())
}

/// Resets a connection: the other side gets an error and loses unread data.
fn reset(stream: TcpStream) -> io::Result<()> {
    stream.set_zero_linger()?;
    drop(stream);
    Ok(())
}

fn pending() -> impl Future<Output = io::Result<()>> {
    std::future::pending()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::registry::Registry;

    #[tokio::test]
    async fn proxy_without_rules_forwards_and_keeps_its_host_in_urls() {
        let registry = Registry::plain();
        let proxy = Proxy::start(registry.host(), Vec::new());
        let client = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([])
            .build()
            .expect("a client");
        let answer = client
            .post(format!("http://{}/v2/a/blobs/uploads/", proxy.host()))
            .send()
            .await
            .expect("an answer");
        assert_eq!(answer.status(), 202);
        let location = answer.headers()["location"]
            .to_str()
            .expect("text")
            .to_owned();
        assert!(
            location.starts_with(&format!("http://{}/v2/a/", proxy.host())),
            "{location}"
        );
        let requests = proxy.requests();
        assert_eq!(
            (
                requests[0].method.as_str(),
                requests[0].header("host"),
                proxy.faults()
            ),
            ("POST", Some(proxy.host().as_str()), 0)
        );
        assert_eq!(registry.requests().len(), 1);
    }

    #[tokio::test]
    async fn rule_applies_to_its_requests_only() {
        let registry = Registry::plain();
        let rules = vec![
            Rule::new(
                "GET",
                "/v2/",
                1..2,
                Fault::status(503, &[("retry-after", "7")]),
            ),
            Rule::new("GET", "/v2/", 2..3, Fault::Reset),
            Rule::new("GET", "/v2/", 3..4, Fault::Cut(1)),
        ];
        let proxy = Proxy::start(registry.host(), rules);
        let client = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([])
            .build()
            .expect("a client");
        let get = || client.get(format!("http://{}/v2/", proxy.host())).send();
        assert_eq!(get().await.expect("an answer").status(), 200);
        let limited = get().await.expect("an answer");
        assert_eq!(
            (limited.status().as_u16(), &limited.headers()["retry-after"]),
            (503, &"7".parse().expect("a header"))
        );
        assert!(get().await.is_err());
        assert!(get().await.expect("an answer").bytes().await.is_err());
        assert_eq!((proxy.faults(), registry.requests().len()), (3, 2));
    }
}
