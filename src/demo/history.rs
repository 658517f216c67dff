//! What happened in the sample world before the tour: base images of half a year ago, and
//! applications that were built on them.
//!
//! Made by the real commands at an earlier date. Without it there would be nothing old: nothing
//! outdated, nothing to clean up.

use std::path::Path;

use chrono::{DateTime, Days, NaiveDate, Utc};

use super::tour::{build, sync};
use crate::app::{self, Command, Global, Invocation, Output, RegisterOptions, Surroundings};
use crate::error::{Exit, Failure};
use crate::model::{Clock, ImageReference, Repository, Tag, Variables};
use crate::process::{Process, Stream};
use crate::progress;

/// How long ago the base images were made, in days.
const AGE: u64 = 180;

/// An application: its name and version, its project, its base below `bases/`, and how many days
/// ago it was built.
type Application = (
    &'static str,
    &'static str,
    &'static str,
    (&'static str, &'static str),
    u64,
);

const APPLICATIONS: [Application; 4] = [
    (
        "billing",
        "2.1.0",
        "shop/billing",
        ("alpine", "3.20.6-core0.9.0"),
        175,
    ),
    (
        "mailer",
        "0.7.3",
        "shop/mailer",
        ("alpine", "3.21.3-core0.9.0"),
        90,
    ),
    (
        "search",
        "3.1.0",
        "shop/search",
        ("debian", "12.11-core0.9.0"),
        120,
    ),
    // Nobody configures this base any more.
    (
        "legacy",
        "1.0.0",
        "archive/legacy",
        ("busybox", "1.36.1-core0.4.0"),
        178,
    ),
];

/// The release cycles of the sample world: product, cycle, and the days until its end, which is
/// past when negative.
const CYCLES: [(&str, &str, i64); 8] = [
    ("alpine", "3.22", 420),
    ("alpine", "3.21", 20),
    ("alpine", "3.20", -90),
    ("alpine", "3.19", -240),
    ("debian", "13", 1000),
    ("debian", "12", 300),
    ("go", "1.24", 150),
    ("go", "1.23", -30),
];

/// Returns the end-of-life data of the sample world. Its dates are made up, so that on any `day`
/// something is over and something ends soon.
pub(super) fn end_of_life(day: NaiveDate) -> String {
    let mut text = "# Sample data: the dates are made up.\n".to_owned();
    let mut last = "";
    for (product, cycle, days) in CYCLES {
        if product != last {
            text.push_str(&format!("{product}:\n"));
            last = product;
        }
        let end = chrono::TimeDelta::try_days(days)
            .and_then(|days| day.checked_add_signed(days))
            .unwrap_or(day);
        text.push_str(&format!("- {{ cycle: '{cycle}', eol: {end} }}\n"));
    }
    text
}

/// Returns the name of an image of the sample world.
pub(super) fn image(
    directory: &Path,
    below: &str,
    name: &str,
    tag: &str,
) -> Result<ImageReference, Failure> {
    let tag: Tag = tag
        .parse()
        .map_err(|error| Failure::failed(super::DemoError::Name(error)))?;
    Ok(ImageReference::tagged(
        Repository::Layout {
            directory: directory.join(below).join(name),
        },
        tag,
    ))
}

/// Makes what happened before, where that was not done yet, without a word.
pub(super) fn make(directory: &Path, surroundings: &Surroundings) -> Result<Exit, Failure> {
    if directory.join("bases").exists() {
        return Ok(Exit::Done);
    }
    let now = surroundings.process.clock.now();
    let at = |days: u64| {
        quiet(
            surroundings,
            now.checked_sub_days(Days::new(days)).unwrap_or(now),
        )
    };
    let global = || Global {
        configuration: Some(directory.join("earlier.yaml")),
    };
    let run = |command, days| {
        app::run(
            Invocation {
                command,
                global: global(),
            },
            &at(days),
        )
    };
    for command in [sync(), build()] {
        let exit = run(command, AGE)?;
        if exit != Exit::Done {
            return Ok(exit);
        }
    }
    for (name, version, project, (base, tag), days) in APPLICATIONS {
        let register = Command::Register(RegisterOptions {
            image: image(directory, "apps", name, version)?,
            base: Some(image(directory, "bases", base, tag)?),
            platforms: vec!["linux/amd64".to_owned()],
            revision: Some("0f3c6d2".to_owned()),
            project: Some(project.to_owned()),
            fields: Vec::new(),
            built_at: None,
            output: Output::Text,
        });
        let exit = run(register, days)?;
        if exit != Exit::Done {
            return Ok(exit);
        }
    }
    Ok(Exit::Done)
}

/// Returns surroundings of another time, in which nobody looks.
fn quiet(surroundings: &Surroundings, time: DateTime<Utc>) -> Surroundings {
    let (stdout, _) = Stream::captured();
    let process = Process {
        clock: Clock::fixed(time),
        stdout,
        ..alone(&surroundings.process)
    };
    Surroundings {
        process,
        progress: progress::silent(),
        ..surroundings.clone()
    }
}

/// Returns a process that knows no CI server and no dates but its clock: the sample world is not of
/// the project whose job it is shown in.
pub(super) fn alone(process: &Process) -> Process {
    let kept = ["HOME", "TMPDIR", "XDG_CACHE_HOME"];
    let variables: Variables = kept
        .iter()
        .filter_map(|name| Some((*name, process.variables.get_filled(name)?)))
        .collect();
    Process {
        variables,
        ..process.clone()
    }
}
