//! The history of the sample world: base images of half a year ago, and applications that were
//! built on them.
//!
//! Created by the real commands at an earlier date. Without it nothing in the world would be
//! outdated, and there would be nothing to clean up.

use std::path::Path;
use std::time::SystemTime;
use std::{fs, io};

use chrono::{DateTime, Days, Utc};

use super::commands::{build, image, isolated, sync};
use super::error::DemoError;
use crate::app::{
    self, CommandContext, CommandOptions, GlobalOptions, Invocation, OutputForm, RegisterOptions,
};
use crate::error::{Exit, Failure};
use crate::model::Clock;
use crate::process::{Process, Stream};
use crate::progress;

/// Age of the base images, in days.
const BASE_AGE: u64 = 180;

/// An application: name, version, project, name and tag of its base below `bases/`, and age in
/// days.
type SampleApplication = (
    &'static str,
    &'static str,
    &'static str,
    (&'static str, &'static str),
    u64,
);

const APPLICATIONS: [SampleApplication; 4] = [
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
    // The configuration no longer has this base.
    (
        "legacy",
        "1.0.0",
        "archive/legacy",
        ("busybox", "1.36.1-core0.4.0"),
        178,
    ),
];

/// Creates the history without output, unless it exists.
pub(super) fn create(directory: &Path, context: &CommandContext) -> Result<Exit, Failure> {
    if directory.join("bases").exists() {
        return Ok(Exit::Done);
    }
    let now = context.process.clock.now();
    let at = |days: u64| {
        quiet(
            context,
            now.checked_sub_days(Days::new(days)).unwrap_or(now),
        )
    };
    let global = || GlobalOptions {
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
        let exit = run(command, BASE_AGE)?;
        if exit != Exit::Done {
            return Ok(exit);
        }
    }
    let stored = now.checked_sub_days(Days::new(BASE_AGE)).unwrap_or(now);
    let path = directory.join("bases");
    set_times(&path, stored.into())
        .map_err(|source| Failure::failed(DemoError::Write { path, source }))?;
    for (name, version, project, (base, tag), days) in APPLICATIONS {
        let register = CommandOptions::Register(RegisterOptions {
            strict: false,
            image: image(directory, "apps", name, version)?,
            base: Some(image(directory, "bases", base, tag)?),
            platforms: vec!["linux/amd64".to_owned()],
            revision: Some("0f3c6d2".to_owned()),
            project: Some(project.to_owned()),
            fields: Vec::new(),
            built_at: None,
            output: OutputForm::Text,
        });
        let exit = run(register, days)?;
        if exit != Exit::Done {
            return Ok(exit);
        }
    }
    Ok(Exit::Done)
}

/// Sets the times of all files below `directory`, since `cleanup` takes the time of a file in a
/// layout for the date of its push.
fn set_times(directory: &Path, time: SystemTime) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            set_times(&path, time)?;
        } else {
            fs::File::open(&path)?.set_modified(time)?;
        }
    }
    Ok(())
}

/// Returns a context at another time, without output.
fn quiet(context: &CommandContext, time: DateTime<Utc>) -> CommandContext {
    let (stdout, _) = Stream::captured();
    let process = Process {
        clock: Clock::fixed(time),
        stdout,
        ..isolated(&context.process)
    };
    CommandContext {
        process,
        progress: progress::silent(),
        ..context.clone()
    }
}
