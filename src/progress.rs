//! Progress events of a run. Displays implement [`Progress`]; nothing is drawn here.

use std::sync::Arc;

/// Receiver of progress events. Many tasks call it in parallel, so it must return quickly.
pub trait Progress: Send + Sync {
    fn event(&self, event: Event<'_>);
}

/// Progress event. Items have the same names as in the report.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// Work on a number of items is about to start.
    Planned { items: usize },
    /// The run reads something before it has a plan, such as `listing docker.io/library/alpine`.
    Observing { what: &'a str },
    /// Work on an item started.
    Started { item: &'a str },
    /// More content will be transferred for an item, in bytes.
    Expected { item: &'a str, bytes: u64 },
    /// More content of an item was transferred, or turned out to be present already, in bytes.
    Moved { item: &'a str, bytes: u64 },
    /// Work on an item ended.
    Finished {
        item: &'a str,
        outcome: ItemOutcome<'a>,
    },
}

/// Outcome of the work on an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemOutcome<'a> {
    Done { detail: &'a str },
    Failed { cause: &'a str },
}

/// Receiver that ignores all events.
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _: Event<'_>) {}
}

/// Returns a receiver that ignores all events.
pub fn silent() -> Arc<dyn Progress> {
    Arc::new(Silent)
}
