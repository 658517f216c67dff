//! The asynchronous runtime of a command, and its end by Ctrl-C, SIGTERM or the deadline.

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

use super::result::CommandResult;
use crate::error::{Exit, Failure};

#[derive(Debug, Error)]
enum RuntimeError {
    #[error("cannot start worker threads")]
    Threads(#[source] io::Error),
    #[error("cannot listen for signals")]
    Signals(#[source] io::Error),
    #[error("stopped immediately; work in progress was abandoned")]
    EndedAtOnce,
    #[error("stopped before all data were read; nothing was changed")]
    Stopped,
}

/// Result of work that a signal or the deadline can end early.
pub trait Interruptible {
    /// Replaces the exit by that of the interruption.
    fn interrupted(&mut self, exit: Exit);
}

impl Interruptible for Exit {
    fn interrupted(&mut self, exit: Exit) {
        *self = exit;
    }
}

impl Interruptible for CommandResult {
    fn interrupted(&mut self, exit: Exit) {
        self.exit = exit;
        if let Some(failure) = &mut self.failure {
            failure.exit = exit;
        }
    }
}

/// Runs `work` on a new runtime.
///
/// The first Ctrl-C or SIGTERM cancels the token that `work` receives: it starts nothing new, drops
/// requests in flight, and still returns its report. The exit is then that of the signal, whatever
/// `work` returns. The second signal abandons `work`. The `deadline` acts like a first signal, with
/// [`Exit::Failed`].
pub fn run<T: Interruptible, F>(
    deadline: Option<Instant>,
    work: impl FnOnce(CancellationToken) -> F,
) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    let dispatch = tracing::dispatcher::get_default(Dispatch::clone);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, 4)))
        .on_thread_start(move || {
            // The log dispatcher is set for each thread. The thread ends with the runtime, so the
            // old dispatcher is not restored.
            std::mem::forget(tracing::dispatcher::set_default(&dispatch));
        })
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(RuntimeError::Threads(error)))?;
    let result = runtime.block_on(async {
        let signals = signals().map_err(|error| Failure::failed(RuntimeError::Signals(error)))?;
        supervised(signals, deadline, work).await
    });
    // Dropping the runtime would wait for blocking work whose result is no longer needed.
    runtime.shutdown_background();
    result
}

/// Listener for signals during a run of several steps. Each step only listens while it runs.
pub(super) struct SignalWatch {
    received: Arc<OnceLock<Exit>>,
    /// Keeps the listener task running.
    _runtime: Runtime,
}

impl SignalWatch {
    pub(super) fn start() -> Result<SignalWatch, Failure> {
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
        Ok(SignalWatch {
            received,
            _runtime: runtime,
        })
    }

    /// Returns the exit for the first signal, or `None` if there was no signal yet.
    pub(super) fn received(&self) -> Option<Exit> {
        self.received.get().copied()
    }
}

/// Runs `work` that only reads. A signal or the `deadline` ends it immediately.
pub(super) fn read<T: Interruptible, F>(deadline: Option<Instant>, work: F) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    run(deadline, |cancel| async move {
        tokio::select! {
            result = work => result,
            () = cancel.cancelled() => Err(Failure::failed(RuntimeError::Stopped)),
        }
    })
}

/// Returns the stream of signals that end a run, as exits.
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

async fn supervised<T: Interruptible, F>(
    mut signals: impl Stream<Item = Exit> + Send + Unpin + 'static,
    deadline: Option<Instant>,
    work: impl FnOnce(CancellationToken) -> F,
) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    let stop = CancellationToken::new();
    let end_at_once = CancellationToken::new();
    let received = Arc::new(OnceLock::new());
    // A separate task, so that signals are handled while `work` keeps this thread busy.
    let listener = tokio::spawn({
        let (stop, end_at_once, received) =
            (stop.clone(), end_at_once.clone(), Arc::clone(&received));
        async move {
            let exit = tokio::select! {
                exit = signals.next() => exit,
                () = sleep_until(deadline) => Some(Exit::Failed),
            };
            let Some(exit) = exit else { return };
            received.get_or_init(|| exit);
            if exit == Exit::Failed {
                tracing::warn!(
                    "the time limit is reached: no new work is started, and work in progress is stopped"
                );
            } else {
                tracing::warn!(
                    "stopping: no new work is started; press Ctrl-C again to exit immediately"
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
    let Some(&exit) = received.get() else {
        return result;
    };
    match result {
        Ok(mut result) => {
            result.interrupted(exit);
            Ok(result)
        }
        Err(failure) => Err(Failure { exit, ..failure }),
    }
}

/// Waits until `deadline`, or forever without one.
async fn sleep_until(deadline: Option<Instant>) {
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
    async fn work_without_a_signal_keeps_its_exit() {
        let result = supervised(signalled([]), None, |_| async { Ok(Exit::PolicyViolated) }).await;
        assert_eq!(result.expect("no failure"), Exit::PolicyViolated);
    }

    #[tokio::test]
    async fn the_first_signal_cancels_work_and_sets_its_exit() {
        for signal in [Exit::Interrupted, Exit::Terminated] {
            let result = supervised(signalled([signal]), None, |stop| async move {
                stop.cancelled().await;
                Ok(Exit::Failed)
            });
            assert_eq!(result.await.expect("no failure"), signal);
        }
    }

    #[tokio::test]
    async fn the_deadline_cancels_work_which_then_has_failed() {
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
    async fn a_failure_after_a_signal_has_the_exit_of_the_signal() {
        let result = supervised(signalled([Exit::Terminated]), None, |stop| async move {
            stop.cancelled().await;
            Err::<Exit, _>(Failure::failed("the listing failed"))
        });
        let failure = result.await.expect_err("a failure");
        assert_eq!(
            (failure.exit, failure.error.to_string()),
            (Exit::Terminated, "the listing failed".to_owned())
        );
    }

    #[test]
    fn reading_work_ends_at_the_deadline() {
        let pending = std::future::pending::<Result<Exit, Failure>>();
        let ended = read(Some(Instant::now()), pending).expect_err("stopped");
        assert_eq!(
            (ended.exit, ended.error.to_string()),
            (
                Exit::Failed,
                "stopped before all data were read; nothing was changed".to_owned()
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
            |_| std::future::pending::<Result<Exit, Failure>>(),
        )
        .await;
        assert_eq!(result.expect_err("ended").exit, Exit::Interrupted);
    }

    #[test]
    fn worker_threads_log_to_the_dispatcher_of_the_caller() {
        let dispatch = Dispatch::new(tracing_subscriber::registry());
        let on_workers = tracing::dispatcher::with_default(&dispatch, || {
            let is_set = Arc::new(OnceLock::new());
            let exit = run(None, |_| async {
                let is_set = Arc::clone(&is_set);
                tokio::spawn(async move {
                    is_set.set(tracing::dispatcher::get_default(|dispatch| {
                        dispatch.is::<tracing_subscriber::Registry>()
                    }))
                })
                .await
                .map_err(Failure::failed)?
                .map_err(|_| Failure::failed("set twice"))?;
                Ok(Exit::Done)
            });
            assert_eq!(exit.expect("no failure"), Exit::Done);
            is_set.get().copied()
        });
        assert_eq!(on_workers, Some(true));
    }
}
