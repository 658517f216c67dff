//! What lets this machine run programs of other platforms: the emulators that are registered with
//! the kernel.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::model::Platform;

/// Where Linux lists what it starts foreign programs with (kernel documentation, "binfmt-misc").
const REGISTERED: &str = "/proc/sys/fs/binfmt_misc";

/// The emulators of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emulators {
    /// This machine's own architecture, as Rust names it.
    machine: String,
    /// The names of what is registered; `None` where that cannot be seen.
    registered: Option<BTreeSet<String>>,
}

impl Emulators {
    /// Returns those of this machine.
    pub fn here() -> Emulators {
        Emulators {
            machine: std::env::consts::ARCH.to_owned(),
            registered: registered(Path::new(REGISTERED)),
        }
    }

    /// Returns whether this machine runs programs of `platform`; `None` where that cannot be seen.
    pub fn run(&self, platform: &Platform) -> Option<bool> {
        let wanted = qemu_name(&platform.architecture);
        // Most, but not all, machines of 64 bits run the programs of 32.
        let is_native = matches!(
            (self.machine.as_str(), wanted),
            ("x86_64", "i386") | ("aarch64", "arm") | ("powerpc64", "ppc64le")
        );
        if wanted == self.machine || is_native {
            return Some(true);
        }
        let registered = self.registered.as_ref()?;
        // Docker Desktop runs amd64 on Apple's processors by Rosetta.
        let names = [format!("qemu-{wanted}"), format!("qemu-{wanted}-static")];
        Some(
            names.iter().any(|name| registered.contains(name))
                || (wanted == "x86_64" && registered.contains("rosetta")),
        )
    }
}

/// Returns the names of what is registered and switched on in `directory`; `None` where nothing can
/// be seen, as in most containers.
fn registered(directory: &Path) -> Option<BTreeSet<String>> {
    if !directory.join("status").exists() {
        return None;
    }
    let is_on =
        |path: &Path| fs::read_to_string(path).is_ok_and(|text| text.starts_with("enabled"));
    let entries = fs::read_dir(directory)
        .ok()?
        .flatten()
        .filter(|entry| is_on(&entry.path()));
    Some(
        entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| name != "status")
            .collect(),
    )
}

/// Returns what QEMU, and mostly Rust, call an architecture.
fn qemu_name(architecture: &str) -> &str {
    match architecture {
        "amd64" => "x86_64",
        "arm64" => "aarch64",
        "386" => "i386",
        "mips64le" => "mips64el",
        "mipsle" => "mipsel",
        "loong64" => "loongarch64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_platform_needs_an_emulator_that_is_switched_on() {
        let directory = tempfile::tempdir().expect("a directory");
        assert_eq!(registered(directory.path()), None);
        for (name, text) in [
            ("status", "enabled"),
            ("qemu-aarch64", "enabled\ninterpreter /x"),
            ("qemu-s390x", "disabled\n"),
        ] {
            fs::write(directory.path().join(name), text).expect("a file");
        }
        let seen = Emulators {
            machine: "x86_64".to_owned(),
            registered: registered(directory.path()),
        };
        let blind = Emulators {
            registered: None,
            ..seen.clone()
        };
        for (platform, expected, unseen) in [
            ("linux/amd64", Some(true), Some(true)),
            ("linux/386", Some(true), Some(true)),
            ("linux/arm64/v8", Some(true), None),
            ("linux/s390x", Some(false), None),
            ("linux/riscv64", Some(false), None),
        ] {
            let platform = platform.parse().expect("a platform");
            assert_eq!(
                (seen.run(&platform), blind.run(&platform)),
                (expected, unseen),
                "{platform}"
            );
        }
    }
}
