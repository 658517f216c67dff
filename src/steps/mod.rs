//! The commands that act, each as observe, plan, execute, report. Rules live here; wiring lives in
//! `app`.

use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::error::{Side, chain};

pub mod apps;
pub mod build;
pub mod cases;
pub mod check;
pub mod cleanup;
pub mod commit_push;
pub mod doctor;
pub mod eol;
pub mod hooks;
pub mod image;
pub mod lineage;
mod problems;
pub mod register;
pub mod shard;
pub mod status;
pub mod sync;

/// How far a run goes. All modes share observation, plan and report; only what `execute` does
/// differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Print what would be affected, one a line.
    List,
    /// Print the whole report of what would be done.
    DryRun,
    Apply,
}

/// What went wrong with one item, for the report; the rest of the run goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trouble {
    /// The side of a copy it is on, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub side: Option<Side>,
    pub cause: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The cause without what it failed for, where it holds for everything at a place.
    #[serde(skip)]
    pub shared: Option<String>,
}

impl Trouble {
    /// Returns a trouble that is on neither side, such as two entries that want the same tag.
    pub fn new(cause: impl Into<String>) -> Trouble {
        Trouble {
            side: None,
            cause: cause.into(),
            hint: None,
            shared: None,
        }
    }

    /// Returns what `error` and its causes say, on `side`.
    pub fn at(
        side: Side,
        error: &(dyn std::error::Error + 'static),
        hint: Option<String>,
    ) -> Trouble {
        Trouble {
            side: Some(side),
            ..Trouble::of(error, hint)
        }
    }

    /// Returns what `error` and its causes say.
    pub fn of(error: &(dyn std::error::Error + 'static), hint: Option<String>) -> Trouble {
        Trouble {
            side: None,
            cause: chain(error),
            hint,
            shared: None,
        }
    }

    /// Returns the trouble with what of it holds for everything at a place.
    #[must_use]
    pub fn shared(mut self, shared: Option<String>) -> Trouble {
        self.shared = shared;
        self
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Trouble {
        self.hint = Some(hint.into());
        self
    }
}

/// Writes a duration as reports have it: in seconds, to the millisecond.
pub(crate) fn seconds<S: Serializer>(
    duration: &Duration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((duration.as_secs_f64() * 1000.0).round() / 1000.0)
}
