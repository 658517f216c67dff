//! Determines the commit and its date for `--version`.
//!
//! They come from `IMGLIFE_COMMIT` and `SOURCE_DATE_EPOCH` if set, else from git. Git is used for
//! release builds only, so that debug builds do not recompile after each commit. A source archive
//! has neither.
#![expect(
    clippy::disallowed_methods,
    reason = "cargo passes settings to build scripts as environment variables"
)]

use std::path::Path;
use std::process::Command;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=IMGLIFE_COMMIT");
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    watch_head();
    let variable = |name| env::var(name).ok().filter(|value| !value.is_empty());
    let is_commit =
        |text: &String| text.len() >= 7 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let commit = variable("IMGLIFE_COMMIT")
        .or_else(|| git(&["rev-parse", "HEAD"]))
        .filter(is_commit);
    let seconds =
        variable("SOURCE_DATE_EPOCH").or_else(|| git(&["show", "-s", "--format=%ct", "HEAD"]));
    let date = seconds
        .and_then(|seconds| seconds.trim().parse().ok())
        .map(date_of);
    let suffix = match (
        commit.map(|commit| commit[..commit.len().min(12)].to_owned()),
        date,
    ) {
        (Some(commit), Some(date)) => format!(" ({commit} {date})"),
        (Some(part), None) | (None, Some(part)) => format!(" ({part})"),
        (None, None) => String::new(),
    };
    let version = env::var("CARGO_PKG_VERSION").unwrap_or_default();
    println!("cargo::rustc-env=IMGLIFE_VERSION={version}{suffix}");
}

/// Makes cargo run this script again if another commit is checked out.
fn watch_head() {
    let Some(directory) = git(&["rev-parse", "--absolute-git-dir"]) else {
        return;
    };
    let common = git(&["rev-parse", "--path-format=absolute", "--git-common-dir"])
        .unwrap_or_else(|| directory.clone());
    let head = Path::new(&directory).join("HEAD");
    println!("cargo::rerun-if-changed={}", head.display());
    let branch = fs::read_to_string(head).ok().and_then(|text| {
        text.strip_prefix("ref: ")
            .map(|name| name.trim().to_owned())
    });
    for file in branch.iter().map(String::as_str).chain(["packed-refs"]) {
        let path = Path::new(&common).join(file);
        // Cargo treats a missing file as changed in each build.
        if path.exists() {
            println!("cargo::rerun-if-changed={}", path.display());
        }
    }
}

/// Returns the output of a git command in this checkout. `None` if git fails, for builds other than
/// releases, and if the package is not the top directory of the repository.
fn git(arguments: &[&str]) -> Option<String> {
    let root = env::var("CARGO_MANIFEST_DIR").ok()?;
    if env::var("PROFILE").ok()? != "release" || !Path::new(&root).join(".git").exists() {
        return None;
    }
    let output = Command::new("git")
        .args(arguments)
        .current_dir(root)
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

/// Returns the UTC date (`YYYY-MM-DD`) of a time in seconds since 1970. The algorithm is
/// `civil_from_days` in Howard Hinnant's "chrono-Compatible Low-Level Date Algorithms".
fn date_of(seconds: i64) -> String {
    let days = seconds.div_euclid(86_400) + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}
