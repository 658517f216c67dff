//! Proxy that adds latency between client and registry. It loses no data and does not limit the
//! bandwidth.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use crate::BenchResult;

/// Maximum number of bytes in flight in one direction of a connection, about the maximum TCP
/// receive window of Linux.
const MAX_IN_FLIGHT: u32 = 6 * 1024 * 1024;

/// Size of a read, in bytes.
const BUFFER_SIZE: usize = 256 * 1024;

/// Running proxy in front of a registry. Dropping it stops the proxy.
pub(crate) struct DelayProxy {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl DelayProxy {
    /// Starts a proxy to `registry` that adds a latency of `round_trip`.
    pub(crate) fn to(registry: SocketAddr, round_trip: Duration) -> BenchResult<DelayProxy> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! { _ = accept(listener, registry, round_trip) => {}, _ = stopped => {} }
            });
        });
        Ok(DelayProxy {
            address,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for DelayProxy {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

async fn accept(
    listener: std::net::TcpListener,
    registry: SocketAddr,
    round_trip: Duration,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (client, _) = listener.accept().await?;
        tokio::spawn(async move {
            // Opening a connection costs the client one round trip.
            let connected = Instant::now() + round_trip;
            let server = TcpStream::connect(registry).await?;
            client.set_nodelay(true)?;
            server.set_nodelay(true)?;
            let ((from_client, to_client), (from_server, to_server)) =
                (client.into_split(), server.into_split());
            let one_way = round_trip / 2;
            tokio::join!(
                forward(from_client, to_server, one_way, connected),
                forward(from_server, to_client, one_way, connected)
            );
            io::Result::Ok(())
        });
    }
}

/// Forwards bytes in one direction, delayed by `delay`. No byte counts as sent before `earliest`.
async fn forward(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    delay: Duration,
    earliest: Instant,
) {
    let (sender, mut receiver) = mpsc::unbounded_channel::<(Instant, Bytes)>();
    let window = Arc::new(Semaphore::new(MAX_IN_FLIGHT as usize));
    let filled = Arc::clone(&window);
    let read = async move {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(BUFFER_SIZE);
            match from.read_buf(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            let piece = buffer.split().freeze();
            let size = u32::try_from(piece.len())
                .unwrap_or(MAX_IN_FLIGHT)
                .min(MAX_IN_FLIGHT);
            let Ok(permit) = filled.acquire_many(size).await else {
                return;
            };
            permit.forget();
            let sent = Instant::now().max(earliest);
            if sender.send((sent + delay, piece)).is_err() {
                return;
            }
        }
    };
    let write = async move {
        while let Some((due, piece)) = receiver.recv().await {
            sleep_until(due).await;
            if to.write_all(&piece).await.is_err() {
                return;
            }
            window.add_permits(piece.len());
        }
        // The opposite direction may continue.
        drop(to.shutdown().await);
    };
    tokio::join!(read, write);
}
