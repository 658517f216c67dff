//! Runs programs and measures them: wall time, CPU time, memory. This module does not depend on
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

use crate::BenchResult;

/// Interval at which memory is read. Reading more often would slow down the measured program.
const MEMORY_POLL_INTERVAL: Duration = Duration::from_millis(3);

/// Unit of the CPU times in `/proc/<pid>/stat` (proc(5)): hundredths of a second on every Linux.
const TICKS_PER_SECOND: u32 = 100;

/// Working directory and environment of a tool, isolated from the user's.
pub(crate) struct Home {
    pub(crate) directory: PathBuf,
    pub(crate) variables: BTreeMap<OsString, OsString>,
}

impl Home {
    /// Creates an empty home for a tool. The tool inherits no variables of the benchmark's own
    /// environment.
    pub(crate) fn make(directory: PathBuf) -> BenchResult<Home> {
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

    /// Deletes everything in the directory.
    pub(crate) fn clear(&self) -> BenchResult<()> {
        fs::remove_dir_all(&self.directory)?;
        fs::create_dir_all(self.directory.join("tmp"))?;
        Ok(())
    }
}

/// Program with its arguments.
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

/// Resources used by a run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    pub(crate) wall: Duration,
    /// User and system CPU time of the process and of the children it waited for.
    pub(crate) processor: Duration,
    /// Peak resident memory, in bytes.
    pub(crate) peak: u64,
}

/// Runs programs one after another and returns their total cost.
///
/// # Errors
/// Returns an error if one of them cannot be started or fails.
pub(crate) fn run(home: &Home, invocations: &[Invocation]) -> BenchResult<Cost> {
    let mut total = Cost::default();
    for invocation in invocations {
        let cost = run_one(home, invocation)?;
        total.wall += cost.wall;
        total.processor += cost.processor;
        total.peak = total.peak.max(cost.peak);
    }
    Ok(total)
}

fn run_one(home: &Home, invocation: &Invocation) -> BenchResult<Cost> {
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
    // Reaps the process; `observe` read its numbers from `/proc` before.
    let status = child.wait()?;
    if !status.success() {
        let printed = fs::read(&output)?;
        let printed = String::from_utf8_lossy(&printed);
        let end: Vec<&str> = printed.lines().rev().take(15).collect();
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

/// Returns the CPU time that all threads of a process have used so far, from the first field of
/// `schedstat` (nanoseconds).
pub(crate) fn processor_time_of(process: u32) -> BenchResult<Duration> {
    let mut total = 0;
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        // A thread may end before its file is read.
        let text = fs::read_to_string(thread?.path().join("schedstat")).unwrap_or_default();
        total += text
            .split(' ')
            .next()
            .and_then(|number| number.parse::<u64>().ok())
            .unwrap_or(0);
    }
    Ok(Duration::from_nanos(total))
}

/// Waits until a process has ended and returns its cost. The process is not reaped.
fn observe(child: &Child, began: Instant) -> BenchResult<Cost> {
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
        processor: processor_time(&stat).ok_or("/proc/<pid>/stat has an unexpected format")?,
        peak,
    })
}

/// Returns the user and system CPU time of a process and its children, from the fields 14 to 17 of
/// `/proc/<pid>/stat`.
fn processor_time(stat: &str) -> Option<Duration> {
    // The second field, the name, may contain spaces and parentheses.
    let (_, rest) = stat.rsplit_once(')')?;
    let ticks = rest
        .split_whitespace()
        .skip(11)
        .take(4)
        .map(|field| field.parse::<u32>().ok())
        .sum::<Option<u32>>()?;
    Some(Duration::from_secs(1) * ticks / TICKS_PER_SECOND)
}

/// Returns the peak resident memory of a process, in bytes.
///
/// It is polled while the process runs, because it is not available afterwards. The number that
/// `wait4` returns includes the memory of the parent process.
fn watch_memory(id: u32, ended: &AtomicBool) -> u64 {
    let path = format!("/proc/{id}/status");
    let mut peak = 0;
    while !ended.load(Ordering::Relaxed) {
        let status = fs::read_to_string(&path).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        peak = peak.max(kib.unwrap_or(0) * 1024);
        thread::sleep(MEMORY_POLL_INTERVAL);
    }
    peak
}

/// Returns the load average of the last minute.
pub(crate) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or("?").to_owned()
}

/// Returns the median; of an even number of values the upper of the two in the middle.
pub(crate) fn median<T: Copy + Ord>(values: impl Iterator<Item = T>) -> Option<T> {
    let mut values: Vec<T> = values.collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}
