//! A network that is far away: what passes between client and registry arrives later. Nothing is
//! lost and nothing is slowed down otherwise.

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

use crate::Outcome;

/// The most bytes under way in one direction of a connection: what Linux lets a receiver's window
/// grow to, about.
const WINDOW: u32 = 6 * 1024 * 1024;

/// How much is moved at a time, in bytes.
const PIECE: usize = 256 * 1024;

/// The way to a far registry. It ends when it is dropped.
pub(crate) struct Distance {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Distance {
    /// Returns a way to `registry` that takes `round_trip` for there and back.
    pub(crate) fn to(registry: SocketAddr, round_trip: Duration) -> Outcome<Distance> {
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
        Ok(Distance {
            address,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Distance {
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
            // What a client sends first waits until its connection is there: one round trip.
            let connected = Instant::now() + round_trip;
            let server = TcpStream::connect(registry).await?;
            client.set_nodelay(true)?;
            server.set_nodelay(true)?;
            let ((from_client, to_client), (from_server, to_server)) =
                (client.into_split(), server.into_split());
            let one_way = round_trip / 2;
            tokio::join!(
                carry(from_client, to_server, one_way, connected),
                carry(from_server, to_client, one_way, connected)
            );
            io::Result::Ok(())
        });
    }
}

/// Carries bytes in one direction. None is sent before `earliest`.
async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    delay: Duration,
    earliest: Instant,
) {
    let (sender, mut receiver) = mpsc::unbounded_channel::<(Instant, Bytes)>();
    let window = Arc::new(Semaphore::new(WINDOW as usize));
    let filled = Arc::clone(&window);
    let read = async move {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(PIECE);
            match from.read_buf(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            let piece = buffer.split().freeze();
            let size = u32::try_from(piece.len()).unwrap_or(WINDOW).min(WINDOW);
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
        // The other side may go on after the end of this one.
        drop(to.shutdown().await);
    };
    tokio::join!(read, write);
}
