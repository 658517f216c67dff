//! The asynchronous runtime of a run, and how Ctrl-C and SIGTERM end it.

use std::io;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Instant;

use futures_util::stream::{self, Stream, StreamExt};
use thiserror::Error;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::Dispatch;

use crate::error::{Exit, Failure};

#[derive(Debug, Error)]
enum RuntimeError {
    #[error("the worker threads could not be started")]
    Threads(#[source] io::Error),
    #[error("signals cannot be listened for")]
    Signals(#[source] io::Error),
    #[error("stopped at once; what was in flight was abandoned")]
    EndedAtOnce,
    #[error("stopped before everything was read; nothing was changed")]
    Stopped,
}

/// Runs `work` to its end. The first Ctrl-C or SIGTERM cancels the token that `work` is given: it
/// starts nothing new, drops what is in flight, and still reports; the exit is then that of the
/// signal, whatever `work` returns. The second one ends it at once.
///
/// At the `deadline` the same happens as at a signal, and the exit is at least that of a failure.
pub fn run<F>(
    deadline: Option<Instant>,
    work: impl FnOnce(CancellationToken) -> F,
) -> Result<Exit, Failure>
where
    F: Future<Output = Result<Exit, Failure>>,
{
    let dispatch = tracing::dispatcher::get_default(Dispatch::clone);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, 4)))
        .on_thread_start(move || {
            // Where a run's logs go is set for each thread. The thread ends with the runtime, so
            // nothing is restored.
            std::mem::forget(tracing::dispatcher::set_default(&dispatch));
        })
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(RuntimeError::Threads(error)))?;
    let result = runtime.block_on(async {
        let signals = signals().map_err(|error| Failure::failed(RuntimeError::Signals(error)))?;
        supervised(signals, deadline, work).await
    });
    // Dropping it would wait for blocking work that nobody needs any more.
    runtime.shutdown_background();
    result
}

/// Hears the signals of a run of several steps, of which each listens for itself only while it
/// lasts.
pub(super) struct Watch {
    received: Arc<OnceLock<Exit>>,
    /// Kept: the listener lives in it.
    _runtime: Runtime,
}

impl Watch {
    pub(super) fn start() -> Result<Watch, Failure> {
        let threads = |error| Failure::failed(RuntimeError::Threads(error));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(threads)?;
        let received = Arc::new(OnceLock::new());
        let listener = {
            let _within = runtime.enter();
            signals().map_err(|error| Failure::failed(RuntimeError::Signals(error)))?
        };
        runtime.spawn({
            let received = Arc::clone(&received);
            async move {
                let mut listener = listener;
                if let Some(exit) = listener.next().await {
                    received.get_or_init(|| exit);
                }
            }
        });
        Ok(Watch {
            received,
            _runtime: runtime,
        })
    }

    /// Returns the exit that the first signal leads to, once there was one.
    pub(super) fn received(&self) -> Option<Exit> {
        self.received.get().copied()
    }
}

/// Runs `work` that only reads: a signal, or the `deadline`, ends it where it stands.
pub(super) fn read<F>(deadline: Option<Instant>, work: F) -> Result<Exit, Failure>
where
    F: Future<Output = Result<Exit, Failure>>,
{
    run(deadline, |cancel| async move {
        tokio::select! {
            result = work => result,
            () = cancel.cancelled() => Err(Failure::failed(RuntimeError::Stopped)),
        }
    })
}

/// Returns the signals that end a run, as the exits they lead to.
fn signals() -> io::Result<impl Stream<Item = Exit> + Send + Unpin> {
    let listen = |kind, exit| {
        signal(kind).map(|listener| {
            let received = stream::unfold(listener, |mut listener| async move {
                listener.recv().await.map(|()| ((), listener))
            });
            received.map(move |()| exit).boxed()
        })
    };
    Ok(stream::select(
        listen(SignalKind::interrupt(), Exit::Interrupted)?,
        listen(SignalKind::terminate(), Exit::Terminated)?,
    ))
}

async fn supervised<F>(
    mut signals: impl Stream<Item = Exit> + Send + Unpin + 'static,
    deadline: Option<Instant>,
    work: impl FnOnce(CancellationToken) -> F,
) -> Result<Exit, Failure>
where
    F: Future<Output = Result<Exit, Failure>>,
{
    let stop = CancellationToken::new();
    let end_at_once = CancellationToken::new();
    let received = Arc::new(OnceLock::new());
    // A task of its own, so that work which keeps this thread busy is told all the same.
    let listener = tokio::spawn({
        let (stop, end_at_once, received) =
            (stop.clone(), end_at_once.clone(), Arc::clone(&received));
        async move {
            let exit = tokio::select! {
                exit = signals.next() => exit,
                () = passed(deadline) => Some(Exit::Failed),
            };
            let Some(exit) = exit else { return };
            received.get_or_init(|| exit);
            if exit == Exit::Failed {
                tracing::warn!(
                    "the run's time is up: nothing new is started, and what is in flight is dropped"
                );
            } else {
                tracing::warn!(
                    "stopping: nothing new is started; press Ctrl-C again to end at once"
                );
            }
            stop.cancel();
            if signals.next().await.is_some() {
                end_at_once.cancel();
            }
        }
    });
    let result = tokio::select! {
        result = work(stop) => result,
        () = end_at_once.cancelled() => Err(Failure::failed(RuntimeError::EndedAtOnce)),
    };
    listener.abort();
    match received.get() {
        None => result,
        Some(exit) => result.map(|_| *exit).map_err(|failure| Failure {
            exit: *exit,
            ..failure
        }),
    }
}

/// Waits until `deadline`; without one, for ever.
async fn passed(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signalled(
        signals: impl IntoIterator<Item = Exit, IntoIter: Send + Unpin + 'static>,
    ) -> impl Stream<Item = Exit> + Send + Unpin + 'static {
        stream::iter(signals).chain(stream::pending())
    }

    #[tokio::test]
    async fn work_without_a_signal_ends_as_it_says() {
        let result = supervised(signalled([]), None, |_| async { Ok(Exit::PolicyViolated) }).await;
        assert_eq!(result.expect("no failure"), Exit::PolicyViolated);
    }

    #[tokio::test]
    async fn the_first_signal_cancels_the_work_which_still_reports() {
        for signal in [Exit::Interrupted, Exit::Terminated] {
            let result = supervised(signalled([signal]), None, |stop| async move {
                stop.cancelled().await;
                Ok(Exit::Failed)
            });
            assert_eq!(result.await.expect("no failure"), signal);
        }
    }

    #[tokio::test]
    async fn when_the_time_is_up_the_work_is_cancelled_and_has_failed() {
        let now = Instant::now();
        let result = supervised(signalled([]), Some(now), |stop| async move {
            stop.cancelled().await;
            Ok(Exit::Done)
        });
        assert_eq!(result.await.expect("no failure"), Exit::Failed);
        let result = supervised(
            signalled([]),
            Some(now + std::time::Duration::from_secs(60)),
            |_| async { Ok(Exit::Done) },
        );
        assert_eq!(result.await.expect("no failure"), Exit::Done);
    }

    #[tokio::test]
    async fn a_failure_after_a_signal_exits_by_the_signal() {
        let result = supervised(signalled([Exit::Terminated]), None, |stop| async move {
            stop.cancelled().await;
            Err(Failure::failed("the listing failed"))
        });
        let failure = result.await.expect_err("a failure");
        assert_eq!(
            (failure.exit, failure.error.to_string()),
            (Exit::Terminated, "the listing failed".to_owned())
        );
    }

    #[test]
    fn what_only_reads_ends_where_it_stands_when_the_time_is_up() {
        let ended = read(Some(Instant::now()), std::future::pending()).expect_err("stopped");
        assert_eq!(
            (ended.exit, ended.error.to_string()),
            (
                Exit::Failed,
                "stopped before everything was read; nothing was changed".to_owned()
            )
        );
        assert_eq!(
            read(None, async { Ok(Exit::PolicyViolated) }).expect("no failure"),
            Exit::PolicyViolated
        );
    }

    #[tokio::test]
    async fn the_second_signal_does_not_wait_for_the_work() {
        let result = supervised(
            signalled([Exit::Interrupted, Exit::Terminated]),
            None,
            |_| std::future::pending(),
        )
        .await;
        assert_eq!(result.expect_err("ended").exit, Exit::Interrupted);
    }

    #[test]
    fn work_runs_on_a_runtime_with_the_logs_of_the_caller_on_every_thread() {
        let dispatch = Dispatch::new(tracing_subscriber::registry());
        let on_workers = tracing::dispatcher::with_default(&dispatch, || {
            let seen = Arc::new(OnceLock::new());
            let exit = run(None, |_| async {
                let seen = Arc::clone(&seen);
                tokio::spawn(async move {
                    seen.set(tracing::dispatcher::get_default(|dispatch| {
                        dispatch.is::<tracing_subscriber::Registry>()
                    }))
                })
                .await
                .map_err(Failure::failed)?
                .map_err(|_| Failure::failed("set twice"))?;
                Ok(Exit::Done)
            });
            assert_eq!(exit.expect("no failure"), Exit::Done);
            seen.get().copied()
        });
        assert_eq!(on_workers, Some(true));
    }
}
