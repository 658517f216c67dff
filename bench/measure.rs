//! Running a program and measuring it: wall time, processor time, memory. Knows nothing of
//! registries.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use crate::Outcome;

/// How often memory is looked at: looking takes time from what is looked at.
const LOOK: Duration = Duration::from_millis(3);

/// What the parts of processor times in `/proc/<pid>/stat` are (proc(5)); Linux shows hundredths of
/// seconds on every machine.
const TICKS_PER_SECOND: u32 = 100;

/// A directory and an environment that a tool has for itself.
pub(crate) struct Home {
    pub(crate) directory: PathBuf,
    pub(crate) variables: BTreeMap<OsString, OsString>,
}

impl Home {
    /// Returns an empty home for a tool. Of the environment that the benchmark runs in, nothing
    /// gets through.
    pub(crate) fn make(directory: PathBuf) -> Outcome<Home> {
        fs::create_dir_all(directory.join("tmp"))?;
        let mut variables = BTreeMap::new();
        for (name, value) in [
            ("PATH", "/usr/local/bin:/usr/bin:/bin".into()),
            ("HOME", directory.clone().into_os_string()),
            ("TMPDIR", directory.join("tmp").into()),
        ] {
            variables.insert(name.into(), value);
        }
        Ok(Home {
            directory,
            variables,
        })
    }

    /// Empties it.
    pub(crate) fn clear(&self) -> Outcome<()> {
        fs::remove_dir_all(&self.directory)?;
        fs::create_dir_all(self.directory.join("tmp"))?;
        Ok(())
    }
}

/// A program with its arguments.
#[derive(Clone, Debug)]
pub(crate) struct Invocation {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
}

impl Invocation {
    pub(crate) fn new(program: &Path, arguments: &[&str]) -> Invocation {
        Invocation {
            program: program.to_owned(),
            arguments: arguments.iter().map(|&word| word.to_owned()).collect(),
        }
    }
}

/// What a run took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    pub(crate) wall: Duration,
    /// User and system time of the process and of those it waited for.
    pub(crate) processor: Duration,
    /// The most memory that was resident at once, in bytes.
    pub(crate) peak: u64,
}

/// Runs programs one after the other. Fails when one of them does.
pub(crate) fn run(home: &Home, invocations: &[Invocation]) -> Outcome<Cost> {
    let mut total = Cost::default();
    for invocation in invocations {
        let cost = run_one(home, invocation)?;
        total.wall += cost.wall;
        total.processor += cost.processor;
        total.peak = total.peak.max(cost.peak);
    }
    Ok(total)
}

fn run_one(home: &Home, invocation: &Invocation) -> Outcome<Cost> {
    let Invocation { program, arguments } = invocation;
    let output = home.directory.join("tmp/output");
    let file = File::create(&output)?;
    let began = Instant::now();
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(&home.variables)
        .current_dir(&home.directory)
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()
        .map_err(|error| format!("`{}` cannot be started: {error}", program.display()))?;
    let result = observe(&child, began);
    // Only now it is gone for good, with the numbers that were looked at.
    let status = child.wait()?;
    if !status.success() {
        let said = fs::read(&output)?;
        let said = String::from_utf8_lossy(&said);
        let end: Vec<&str> = said.lines().rev().take(15).collect();
        let end: Vec<&str> = end.into_iter().rev().collect();
        return Err(format!(
            "`{} {}`: {status}\n{}",
            program.display(),
            arguments.join(" "),
            end.join("\n")
        )
        .into());
    }
    result
}

/// Returns the processor time that all threads of a process took so far, by the first field of
/// `schedstat` (nanoseconds).
pub(crate) fn processor_time_of(process: u32) -> Outcome<Duration> {
    let mut total = 0;
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        // A thread may end meanwhile.
        let text = fs::read_to_string(thread?.path().join("schedstat")).unwrap_or_default();
        total += text
            .split(' ')
            .next()
            .and_then(|number| number.parse::<u64>().ok())
            .unwrap_or(0);
    }
    Ok(Duration::from_nanos(total))
}

/// Waits until a process has ended, and leaves it for others to wait for.
fn observe(child: &Child, began: Instant) -> Outcome<Cost> {
    let ended = AtomicBool::new(false);
    let (wall, peak) = thread::scope(|scope| {
        let memory = scope.spawn(|| watch_memory(child.id(), &ended));
        let result = waitid(
            WaitId::Pid(Pid::from_child(child)),
            WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
        );
        let wall = began.elapsed();
        ended.store(true, Ordering::Relaxed);
        let peak = memory.join().unwrap_or_default();
        result.map(|_| (wall, peak))
    })?;
    let stat = fs::read_to_string(format!("/proc/{}/stat", child.id()))?;
    Ok(Cost {
        wall,
        processor: processor_time(&stat).ok_or("/proc/<pid>/stat has another form")?,
        peak,
    })
}

/// Returns user and system time, of the process and its children, by the fields 14 to 17 of
/// `/proc/<pid>/stat`.
fn processor_time(stat: &str) -> Option<Duration> {
    // The second field, the name, may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let ticks = rest
        .split_whitespace()
        .skip(11)
        .take(4)
        .map(|field| field.parse::<u32>().ok())
        .sum::<Option<u32>>()?;
    Some(Duration::from_secs(1) * ticks / TICKS_PER_SECOND)
}

/// Returns the peak of a process's resident memory, in bytes. Looked at while it runs, since it is
/// gone with the process; what `wait4` tells instead includes the memory of the one that started
/// it.
fn watch_memory(id: u32, ended: &AtomicBool) -> u64 {
    let path = format!("/proc/{id}/status");
    let mut peak = 0;
    while !ended.load(Ordering::Relaxed) {
        let status = fs::read_to_string(&path).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        peak = peak.max(kib.unwrap_or(0) * 1024);
        thread::sleep(LOOK);
    }
    peak
}

/// Returns how busy the machine was in the last minute: the mean number of processes that ran or
/// wanted to.
pub(crate) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or("?").to_owned()
}

/// Returns the middle of values, the upper one of two.
pub(crate) fn median<T: Copy + Ord>(values: impl Iterator<Item = T>) -> Option<T> {
    let mut values: Vec<T> = values.collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}
