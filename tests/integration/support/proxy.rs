//! A proxy in front of a real registry that breaks connections, answers by itself, or changes what
//! passes, as it is told to.
//!
//! It is spoken to as a registry: requests go on with the `Host` they came with, so the addresses
//! that the registry gives lead back to the proxy. Each connection serves one request; which bytes
//! pass, and how a connection ends, is decided byte by byte.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

/// Matches every request of its method and path, not only some of them.
pub(crate) const ALWAYS: Range<usize> = 0..usize::MAX;

/// How much of a body is moved at a time, in bytes.
const PIECE: usize = 16 * 1024;

/// The most bytes that a head may have. Those of the tests are smaller.
const LARGEST_HEAD: usize = 64 * 1024;

/// What is done to a request or its answer. Positions are in bytes of the body.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// The proxy answers by itself; the registry sees nothing.
    Answer {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: &'static str,
    },
    /// The connection is reset when the head of the request has arrived.
    Reset,
    /// The connection is reset in the middle of the request's body.
    ResetSending(u64),
    /// Nothing more of the request's body is taken, and nothing is said.
    StallSending(u64),
    /// The registry does what it is asked to, and the connection is reset instead of the answer.
    LoseAnswer,
    /// The connection is reset in the middle of the answer's body.
    ResetAnswer(u64),
    /// The answer's body ends early, as if that were its end.
    Cut(u64),
    /// The answer's body stops, and the connection stays open.
    Stall(u64),
    /// The answer's body comes in pieces of this size, with a pause after each.
    Drip(usize, Duration),
    /// One byte of the answer's body is another.
    Flip(u64),
    /// The answer states another length than its body has.
    Length(i64),
    /// A header of the answer is another, or gone.
    Header(&'static str, Option<String>),
    /// The request is passed on without its query: a wish to mount becomes the start of an upload.
    WithoutQuery,
    /// The request is passed on without a header.
    WithoutHeader(&'static str),
}

impl Fault {
    /// Returns an answer with a status, headers and a reason as registries write it.
    pub(crate) fn status(status: u16, headers: &[(&'static str, &str)]) -> Fault {
        let headers = headers
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()))
            .collect();
        Fault::Answer {
            status,
            headers,
            body: r#"{"errors":[{"code":"FAULT","message":"as the proxy was told"}]}"#,
        }
    }
}

/// Which requests have which fault.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) method: &'static str,
    /// Part of path and query.
    pub(crate) path: String,
    /// Which of the matching requests, by their number from 0 on.
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

/// A request that reached the proxy.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// Whether it had a fault.
    pub(crate) faulty: bool,
    taken: Arc<AtomicU64>,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// Returns how many bytes of its body were passed on so far.
    pub(crate) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
}

/// A proxy at work. It ends when it is dropped.
pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    /// Host and port of the registry.
    upstream: String,
    /// With the number of requests that matched so far.
    rules: Mutex<Vec<(Rule, usize)>>,
    seen: Mutex<Vec<Seen>>,
}

impl Proxy {
    /// Returns a proxy in front of the server at `upstream`, a host with a port that speaks plain
    /// HTTP.
    pub(crate) fn start(upstream: String, rules: Vec<Rule>) -> Proxy {
        let rules = Mutex::new(rules.into_iter().map(|rule| (rule, 0)).collect());
        let shared = Arc::new(Shared {
            upstream,
            rules,
            seen: Mutex::default(),
        });
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        listener
            .set_nonblocking(true)
            .expect("a listener that does not block");
        let address = listener.local_addr().expect("an address");
        let (stop, stopped) = oneshot::channel();
        let serving = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                tokio::select! { () = accept(listener, serving) => {}, _ = stopped => {} }
            });
        });
        Proxy {
            address,
            shared,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Returns host and port, as in references.
    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    /// Returns the requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        lock(&self.shared.seen).clone()
    }

    /// Returns how many requests had a fault so far.
    pub(crate) fn faults(&self) -> usize {
        lock(&self.shared.seen)
            .iter()
            .filter(|seen| seen.faulty)
            .count()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("a thread that ends");
        }
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
            // Either side may go at any time; that is what this is for.
            drop(serve(client, &shared).await);
        });
    }
}

/// The first lines of a request or an answer.
struct Head {
    first: String,
    headers: Vec<(String, String)>,
}

impl Head {
    /// Reads a head; `None` when the connection ended before it began.
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
            if length == 0 || read > LARGEST_HEAD {
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
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    fn remove(&mut self, name: &str) {
        self.headers.retain(|(known, _)| known != name);
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
    /// Notes a request and returns what is to be done to it.
    fn fault(&self, head: &Head, taken: &Arc<AtomicU64>) -> Option<Fault> {
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
        let taken = Arc::clone(taken);
        lock(&self.seen).push(Seen {
            method,
            path,
            headers: head.headers.clone(),
            faulty: fault.is_some(),
            taken,
        });
        fault
    }
}

async fn serve(client: TcpStream, shared: &Shared) -> io::Result<()> {
    let mut client = BufReader::new(client);
    let Some(mut head) = Head::read(&mut client).await? else {
        return Ok(());
    };
    let taken = Arc::default();
    let fault = shared.fault(&head, &taken);
    let length = head.length();
    match &fault {
        Some(Fault::Reset) => return reset(client.into_inner()),
        Some(Fault::Answer {
            status,
            headers,
            body,
        }) => {
            // As servers do that want to be heard: an answer beside content that nobody takes can
            // get lost.
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
        Some(Fault::ResetSending(most)) => {
            pass(&mut client, &mut registry, most.min(length), Some(&taken)).await?;
            registry.flush().await?;
            return reset(client.into_inner());
        }
        Some(Fault::StallSending(most)) => {
            pass(&mut client, &mut registry, most.min(length), Some(&taken)).await?;
            return for_ever().await;
        }
        // What the registry has to say counts also when it does not take everything.
        _ => drop(pass(&mut client, &mut registry, length, Some(&taken)).await),
    }
    registry.flush().await?;
    let Some(answer) = Head::read(&mut registry).await? else {
        return reset(client.into_inner());
    };
    reply(client.into_inner(), registry, answer, fault).await
}

/// Passes an answer on, with what is to be done to it.
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
        Some(Fault::ResetAnswer(most)) => {
            pass(&mut registry, &mut client, most, None).await?;
            // What was sent shall be read before the connection ends.
            client.flush().await?;
            tokio::time::sleep(Duration::from_millis(50)).await;
            return reset(client);
        }
        Some(Fault::Cut(most)) => pass(&mut registry, &mut client, most, None).await?,
        Some(Fault::Stall(most)) => {
            pass(&mut registry, &mut client, most, None).await?;
            client.flush().await?;
            return for_ever().await;
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

/// Passes on what comes, up to `most` bytes, and counts them.
async fn pass(
    from: &mut BufReader<TcpStream>,
    to: &mut (impl tokio::io::AsyncWrite + Unpin),
    most: u64,
    count: Option<&AtomicU64>,
) -> io::Result<()> {
    let mut left = most;
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

/// Ends a connection such that the other side is told of it as an error, and what it has not read
/// yet is lost.
fn reset(stream: TcpStream) -> io::Result<()> {
    stream.set_zero_linger()?;
    drop(stream);
    Ok(())
}

fn for_ever() -> impl Future<Output = io::Result<()>> {
    std::future::pending()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::registry::Registry;

    #[tokio::test]
    async fn a_proxy_without_rules_is_the_registry_and_addresses_lead_back_to_it() {
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
        let seen = proxy.seen();
        assert_eq!(
            (
                seen[0].method.as_str(),
                seen[0].header("host"),
                proxy.faults()
            ),
            ("POST", Some(proxy.host().as_str()), 0)
        );
        assert_eq!(registry.requests().len(), 1);
    }

    #[tokio::test]
    async fn only_the_requests_that_a_rule_names_have_its_fault() {
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
