//! The emulators that are registered with the kernel, with which this machine runs programs of
//! other platforms.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::model::Platform;

/// Directory in which Linux lists interpreters for foreign programs (kernel documentation,
/// "binfmt-misc").
const BINFMT_DIRECTORY: &str = "/proc/sys/fs/binfmt_misc";

/// The emulators of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emulators {
    /// Architecture of this machine, in Rust's notation.
    machine: String,
    /// Names of the enabled emulators; `None` if they are not visible.
    registered: Option<BTreeSet<String>>,
}

impl Emulators {
    /// Returns the emulators of this machine.
    pub fn detect() -> Emulators {
        Emulators {
            machine: std::env::consts::ARCH.to_owned(),
            registered: registered(Path::new(BINFMT_DIRECTORY)),
        }
    }

    /// Returns true if this machine can run programs of `platform`. `None` if that is unknown.
    pub fn supports(&self, platform: &Platform) -> Option<bool> {
        let wanted = qemu_name(&platform.architecture);
        // Most 64-bit machines can run 32-bit programs.
        let is_native = matches!(
            (self.machine.as_str(), wanted),
            ("x86_64", "i386") | ("aarch64", "arm") | ("powerpc64", "ppc64le")
        );
        if wanted == self.machine || is_native {
            return Some(true);
        }
        let registered = self.registered.as_ref()?;
        // Docker Desktop runs amd64 programs on Apple processors with Rosetta.
        let names = [format!("qemu-{wanted}"), format!("qemu-{wanted}-static")];
        Some(
            names.iter().any(|name| registered.contains(name))
                || (wanted == "x86_64" && registered.contains("rosetta")),
        )
    }
}

/// Returns the names of the enabled emulators in `directory`. `None` if the directory is not
/// available, as in most containers.
fn registered(directory: &Path) -> Option<BTreeSet<String>> {
    if !directory.join("status").exists() {
        return None;
    }
    let is_enabled =
        |path: &Path| fs::read_to_string(path).is_ok_and(|text| text.starts_with("enabled"));
    let entries = fs::read_dir(directory)
        .ok()?
        .flatten()
        .filter(|entry| is_enabled(&entry.path()));
    Some(
        entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| name != "status")
            .collect(),
    )
}

/// Returns the name of an architecture in QEMU, which is usually also its name in Rust.
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
    fn supports_requires_an_enabled_emulator() {
        let directory = tempfile::tempdir().expect("a directory");
        assert_eq!(registered(directory.path()), None);
        for (name, text) in [
            ("status", "enabled"),
            ("qemu-aarch64", "enabled\ninterpreter /x"),
            ("qemu-s390x", "disabled\n"),
        ] {
            fs::write(directory.path().join(name), text).expect("a file");
        }
        let visible = Emulators {
            machine: "x86_64".to_owned(),
            registered: registered(directory.path()),
        };
        let hidden = Emulators {
            registered: None,
            ..visible.clone()
        };
        for (platform, expected, if_hidden) in [
            ("linux/amd64", Some(true), Some(true)),
            ("linux/386", Some(true), Some(true)),
            ("linux/arm64/v8", Some(true), None),
            ("linux/s390x", Some(false), None),
            ("linux/riscv64", Some(false), None),
        ] {
            let platform = platform.parse().expect("a platform");
            assert_eq!(
                (visible.supports(&platform), hidden.supports(&platform)),
                (expected, if_hidden),
                "{platform}"
            );
        }
    }
}
