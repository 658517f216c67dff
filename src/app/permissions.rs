//! Permissions of a run: trust in its job, and the options that extend or limit it.

use std::io::Read;

use crate::ci::trust::trust;
use crate::model::env;
use crate::model::{JobTrust, Permissions, UntrustedReason};
use crate::process::Process;

/// Maximum size of the description of an event, in bytes.
const MAX_PAYLOAD_BYTES: u64 = 16 << 20;

/// Options that extend or limit the permissions of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PermissionOptions {
    /// Treat the job as untrusted.
    pub untrusted: bool,
    /// Run the commands of the configuration in an untrusted job.
    pub allow_commands: bool,
    /// Accept paths in the configuration that lead out of its repository.
    pub allow_outside: bool,
}

/// Returns the permissions of a run in `process`.
pub fn permissions(options: PermissionOptions, process: &Process) -> Permissions {
    let trust = if options.untrusted {
        JobTrust::Untrusted(UntrustedReason::Option)
    } else {
        trust(&process.variables, event_payload(process).as_deref())
    };
    Permissions {
        trust,
        commands: options.allow_commands,
        outside: options.allow_outside,
    }
}

/// Returns the description of the event of a workflow; `None` if there is none or it cannot be
/// read.
pub(super) fn event_payload(process: &Process) -> Option<String> {
    let path = process.variables.get_filled(env::GITHUB_EVENT_PATH)?;
    let file = std::fs::File::open(path).ok()?;
    let mut text = String::new();
    file.take(MAX_PAYLOAD_BYTES)
        .read_to_string(&mut text)
        .ok()?;
    Some(text)
}
