//! What happens during a run, told to whoever wants to show it. Nobody draws here.

use std::sync::Arc;

/// Takes events of a run. Called from many tasks at once; must return quickly.
pub trait Progress: Send + Sync {
    fn event(&self, event: Event<'_>);
}

/// Something that happened. Items are named as the report names them.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// Work on a number of items is about to begin.
    Planned { items: usize },
    /// Something is being looked at (`listing docker.io/library/alpine`), before there is a plan.
    Observing { what: &'a str },
    /// Work on an item began.
    Started { item: &'a str },
    /// The size of content that will be moved for an item became known, in bytes. Adds up.
    Expected { item: &'a str, bytes: u64 },
    /// Content of an item was moved, or found not to need moving, in bytes. Adds up.
    Moved { item: &'a str, bytes: u64 },
    /// Work on an item ended.
    Finished {
        item: &'a str,
        outcome: ItemOutcome<'a>,
    },
}

/// How work on an item ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemOutcome<'a> {
    Done { detail: &'a str },
    Failed { cause: &'a str },
}

/// Progress that nobody looks at.
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _: Event<'_>) {}
}

/// Returns progress that nobody looks at.
pub fn silent() -> Arc<dyn Progress> {
    Arc::new(Silent)
}
