//! Whether the commands of a Dockerfile can be run for other platforms than the machine's.

use std::fs;
use std::path::Path;

use super::BuildRequest;
use crate::dockerfile::instructions::{Action, Setting, steps};
use crate::model::Platform;

/// What to do where they cannot.
pub(super) const NO_EMULATOR: &str = "this machine cannot run programs of that platform: install emulators (Debian: qemu-user-static; \
     elsewhere `docker run --privileged --rm tonistiigi/binfmt --install all`), name a machine of that platform by \
     `imglife run build --builder-node`, or build for fewer platforms";

/// Where Linux tells which emulators are registered (its "binfmt_misc").
const REGISTERED: &str = "/proc/sys/fs/binfmt_misc";

/// Returns whether a build runs commands of the image's own platform. What cannot be read is for the engine to judge.
pub(super) fn runs_commands(request: &BuildRequest) -> bool {
    let setting = Setting { arguments: &request.arguments, target: None, environment: None };
    let Ok(steps) = steps(&request.dockerfile, &setting) else { return false };
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
    let registered = Path::new(REGISTERED);
    // Containers mostly do not see it.
    registered.join("status").exists().then(|| platforms.iter().find(|platform| !is_run(platform, std::env::consts::ARCH, registered)))?
}

fn is_run(platform: &Platform, machine: &str, registered: &Path) -> bool {
    let (native, emulator) = match platform.architecture.as_str() {
        "amd64" => (&["x86_64"][..], "x86_64"),
        "386" => (&["x86_64", "x86"][..], "i386"),
        "arm64" => (&["aarch64"][..], "aarch64"),
        // Most, but not all, machines of 64 bits run it.
        "arm" => (&["aarch64", "arm"][..], "arm"),
        "riscv64" => (&["riscv64"][..], "riscv64"),
        "ppc64le" => (&["powerpc64"][..], "ppc64le"),
        "s390x" => (&["s390x"][..], "s390x"),
        // Nothing is known of it.
        _ => return true,
    };
    let is_enabled = || fs::read_to_string(registered.join(format!("qemu-{emulator}"))).is_ok_and(|text| text.starts_with("enabled"));
    native.contains(&machine) || is_enabled()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_platforms_need_an_emulator_that_is_registered_and_enabled() {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join("qemu-aarch64"), "enabled\ninterpreter /usr/bin/qemu-aarch64-static\n").expect("a file");
        fs::write(directory.path().join("qemu-s390x"), "disabled\n").expect("a file");
        let runs = |platform: &str, machine| is_run(&platform.parse().expect("a platform"), machine, directory.path());
        for (platform, machine, expected) in [
            ("linux/amd64", "x86_64", true),
            ("linux/amd64", "aarch64", false),
            ("linux/arm64/v8", "x86_64", true),
            ("linux/arm/v7", "x86_64", false),
            ("linux/arm/v7", "aarch64", true),
            ("linux/s390x", "x86_64", false),
            ("linux/386", "x86_64", true),
            ("linux/loong64", "x86_64", true),
        ] {
            assert_eq!(runs(platform, machine), expected, "{platform} on {machine}");
        }
    }
}
