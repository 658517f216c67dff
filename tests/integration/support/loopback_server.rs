//! Servers that run in a thread of the test and listen on a free port of the loopback interface.

use std::net::{Ipv4Addr, SocketAddr};
use std::thread::JoinHandle;

use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// Running server. Dropping it stops the server without waiting for connections that clients keep
/// open.
pub(crate) struct LoopbackServer {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl LoopbackServer {
    /// Runs `serve` on its own thread and runtime with a listener on a free port.
    pub(crate) fn start<F: Future<Output = ()>>(
        serve: impl FnOnce(TcpListener) -> F + Send + 'static,
    ) -> LoopbackServer {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        listener
            .set_nonblocking(true)
            .expect("a listener that does not block");
        let address = listener.local_addr().expect("an address");
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("a listener");
                tokio::select! { () = serve(listener) => {}, _ = stopped => {} }
            });
        });
        LoopbackServer {
            address,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Starts an HTTP server that handles requests with `router`.
    pub(crate) fn start_http(router: axum::Router) -> LoopbackServer {
        LoopbackServer::start(|listener| async {
            axum::serve(listener, router).await.expect("a server");
        })
    }

    /// Returns the address that the server listens on.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for LoopbackServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("a thread that ends");
        }
    }
}
