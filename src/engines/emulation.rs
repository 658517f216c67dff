//! Check that the commands of a Dockerfile can run for the requested platforms.

use super::emulators::Emulators;
use super::engine::BuildRequest;
use crate::dockerfile::instructions::{DockerfileAction, StageSettings, steps};
use crate::model::Platform;

/// Hint for a build whose programs this machine cannot run.
pub(super) const EMULATOR_HINT: &str = "install emulators (Debian: qemu-user-static; elsewhere \
     `docker run --privileged --rm tonistiigi/binfmt --install all`), add a machine of that platform with \
     `imglife run build --builder-node`, or build for fewer platforms";

/// Returns true if a build runs commands of the target platform.
///
/// Returns false if the Dockerfile cannot be parsed; the engine reports the error.
pub(super) fn runs_commands(request: &BuildRequest) -> bool {
    let setting = StageSettings {
        arguments: &request.arguments,
        target: None,
        environment: None,
    };
    let Ok(steps) = steps(&request.dockerfile, &setting) else {
        return false;
    };
    let mut is_target_platform = true;
    steps.iter().any(|step| {
        if let DockerfileAction::From(stage) = &step.action {
            // A stage with `--platform` usually runs on the build platform.
            is_target_platform = stage.platform.is_none();
        }
        is_target_platform && matches!(step.action, DockerfileAction::Run { .. })
    })
}

/// Returns the first platform whose programs this machine cannot run. `None` if it can run all of
/// them or if that is unknown.
pub(super) fn first_unsupported_platform(platforms: &[Platform]) -> Option<&Platform> {
    let emulators = Emulators::detect();
    platforms
        .iter()
        .find(|platform| emulators.supports(platform) == Some(false))
}
