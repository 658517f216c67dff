//! Whether the commands of a Dockerfile can be run for other platforms than the machine's.

use super::{BuildRequest, Emulators};
use crate::dockerfile::instructions::{Action, Setting, steps};
use crate::model::Platform;

/// What to do where they cannot.
pub(super) const NO_EMULATOR: &str = "this machine cannot run programs of that platform: install emulators (Debian: qemu-user-static; \
     elsewhere `docker run --privileged --rm tonistiigi/binfmt --install all`), name a machine of that platform by \
     `imglife run build --builder-node`, or build for fewer platforms";

/// Returns whether a build runs commands of the image's own platform. What cannot be read is for
/// the engine to judge.
pub(super) fn runs_commands(request: &BuildRequest) -> bool {
    let setting = Setting {
        arguments: &request.arguments,
        target: None,
        environment: None,
    };
    let Ok(steps) = steps(&request.dockerfile, &setting) else {
        return false;
    };
    let mut is_of_the_image = true;
    steps.iter().any(|step| {
        if let Action::From(stage) = &step.action {
            // Such a stage runs on the machine itself.
            is_of_the_image = stage.platform.is_none();
        }
        is_of_the_image && matches!(step.action, Action::Run { .. })
    })
}

/// Returns the first platform that this machine runs no programs of, as far as it tells.
pub(super) fn foreign(platforms: &[Platform]) -> Option<&Platform> {
    let emulators = Emulators::here();
    platforms
        .iter()
        .find(|platform| emulators.run(platform) == Some(false))
}
