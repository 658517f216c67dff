//! Connection permits: bounds on the connections to one host.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Minimum limit, so that downloads can leave a connection free.
const MIN_CONNECTIONS: usize = 2;

const MAX_CONNECTIONS: usize = 1024;

/// Use of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectionUse {
    /// A request that ends by itself: a response that is read completely, or an upload.
    Exchange,
    /// A download that is read as fast as its consumer, usually an upload, accepts it.
    Download,
}

/// Permits for the connections to one host. Copies cannot block each other on them.
///
/// A copy holds a download while its upload waits for a connection. If downloads took all
/// connections of a host, uploads to the same host, and copies in both directions between two
/// hosts, would wait forever. Downloads therefore leave one connection free for exchanges, which
/// end without a second permit.
///
/// An upload opens its content before it takes a permit. When the download breaks during the
/// upload, it is reopened with the permit that it has, without waiting for another.
pub(super) struct ConnectionPermits {
    all: Arc<Semaphore>,
    downloads: Arc<Semaphore>,
}

/// Permit for one connection, released when its last clone is dropped.
#[derive(Clone)]
pub(super) struct ConnectionPermit {
    _permits: Arc<HeldPermits>,
}

struct HeldPermits {
    _connection: Option<OwnedSemaphorePermit>,
    _download: Option<OwnedSemaphorePermit>,
}

impl ConnectionPermits {
    /// Returns permits for `limit` connections, at least two.
    pub(super) fn new(limit: usize) -> ConnectionPermits {
        let limit = limit.clamp(MIN_CONNECTIONS, MAX_CONNECTIONS);
        ConnectionPermits {
            all: Arc::new(Semaphore::new(limit)),
            downloads: Arc::new(Semaphore::new(limit - 1)),
        }
    }

    /// Waits for a permit.
    pub(super) async fn acquire(&self, connection_use: ConnectionUse) -> ConnectionPermit {
        // The semaphores are never closed, so `ok` is always `Some`.
        let download = match connection_use {
            ConnectionUse::Download => Arc::clone(&self.downloads).acquire_owned().await.ok(),
            ConnectionUse::Exchange => None,
        };
        let connection = Arc::clone(&self.all).acquire_owned().await.ok();
        ConnectionPermit {
            _permits: Arc::new(HeldPermits {
                _connection: connection,
                _download: download,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn downloads_leave_a_connection_for_an_upload() {
        for limit in [1, 2, 5] {
            let permits = ConnectionPermits::new(limit);
            let mut held = Vec::new();
            for _ in 0..(limit.max(2) - 1) {
                held.push(permits.acquire(ConnectionUse::Download).await);
            }
            let waits = tokio::time::timeout(
                Duration::from_millis(20),
                permits.acquire(ConnectionUse::Download),
            )
            .await;
            assert!(
                waits.is_err(),
                "one download too many with a limit of {limit}"
            );
            let upload = tokio::time::timeout(
                Duration::from_secs(5),
                permits.acquire(ConnectionUse::Exchange),
            )
            .await;
            assert!(upload.is_ok(), "no upload with a limit of {limit}");
            let second = tokio::time::timeout(
                Duration::from_millis(20),
                permits.acquire(ConnectionUse::Exchange),
            )
            .await;
            assert!(second.is_err(), "more connections than {limit}");
        }
    }
}
