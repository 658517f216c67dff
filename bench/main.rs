//! Measures imglife and its peers at the same work, on real registries. See `bench/README.md`.

use std::fmt;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

mod corpus;
mod delay;
mod measure;
mod minimum;
mod peers;
mod raw;
mod registries;
mod table;
mod workloads;

use peers::{Found, Tool};
use workloads::{Bench, Workload};

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const USAGE: &str = "\
options:
  --short              a minute's worth: small corpora, one round, no distance
  --only NAME[,NAME]   some workloads: start, cold, unchanged, changed, many, large, listing, cleanup, native, layout, far
  --rounds N           how often each tool does each work (3; with --short 1)
  --peers NAME[,NAME]  some peers: skopeo, crane, oras, regsync
  --imglife PROGRAM    the program that is measured (a debug build; make says the release)
  --against PROGRAM    another imglife that takes part, such as the one before a change
  --large-gib N        the size of the large layer (1)
  --tls                cold and unchanged with registries that speak TLS
  --directory DIR      where registries store (a directory for temporary files)
";

/// What was asked for.
struct Options {
    is_short: bool,
    is_tls: bool,
    rounds: usize,
    workloads: Vec<Workload>,
    peers: Vec<Tool>,
    imglife: PathBuf,
    against: Option<PathBuf>,
    /// `None` for a layer that is small.
    large_gib: Option<u64>,
    directory: Option<PathBuf>,
}

impl Options {
    fn read(arguments: impl Iterator<Item = String>) -> Outcome<Options> {
        let mut options = Options {
            is_short: false,
            is_tls: false,
            rounds: 0,
            workloads: Workload::ALL.to_vec(),
            peers: Tool::PEERS.to_vec(),
            imglife: PathBuf::from(env!("CARGO_BIN_EXE_imglife")),
            against: None,
            large_gib: None,
            directory: None,
        };
        let mut is_some = false;
        let mut arguments = arguments.peekable();
        while let Some(argument) = arguments.next() {
            let mut value = || {
                arguments
                    .next()
                    .ok_or_else(|| format!("{argument} needs a value\n{USAGE}"))
            };
            match argument.as_str() {
                // What cargo says to every benchmark.
                "--bench" => {}
                "--short" => options.is_short = true,
                "--tls" => options.is_tls = true,
                "--rounds" => options.rounds = value()?.parse()?,
                "--large-gib" => options.large_gib = Some(value()?.parse()?),
                "--imglife" => options.imglife = program(&value()?)?,
                "--against" => options.against = Some(program(&value()?)?),
                "--directory" => options.directory = Some(value()?.into()),
                "--peers" => options.peers = named(&value()?, &Tool::PEERS, |tool| tool.name())?,
                "--only" => {
                    is_some = true;
                    options.workloads =
                        named(&value()?, &Workload::ALL, |workload| workload.name())?;
                }
                "--help" => return Err(USAGE.into()),
                _ => return Err(format!("unknown: {argument}\n{USAGE}").into()),
            }
        }
        if options.is_short && !is_some {
            options
                .workloads
                .retain(|workload| *workload != Workload::Far);
        }
        if options.rounds == 0 {
            options.rounds = if options.is_short { 1 } else { 3 };
        }
        if !options.is_short {
            options.large_gib.get_or_insert(1);
        }
        Ok(options)
    }
}

/// Returns a program's path from everywhere: tools run in directories of their own.
fn program(path: &str) -> Outcome<PathBuf> {
    Ok(std::fs::canonicalize(path).map_err(|error| format!("{path}: {error}"))?)
}

fn named<T: Copy>(list: &str, all: &[T], name: impl Fn(T) -> &'static str) -> Outcome<Vec<T>> {
    let find = |word: &str| {
        all.iter()
            .copied()
            .find(|&one| name(one) == word)
            .ok_or_else(|| format!("unknown: {word}\n{USAGE}").into())
    };
    list.split(',')
        .filter(|word| !word.is_empty())
        .map(find)
        .collect()
}

/// Prints what was found so far: a run takes minutes.
fn say(text: fmt::Arguments<'_>) -> Outcome<()> {
    let mut out = std::io::stdout().lock();
    out.write_fmt(text)?;
    out.flush()?;
    Ok(())
}

/// Returns where `tests/setup.sh` puts programs that no package has.
#[expect(
    clippy::disallowed_methods,
    reason = "the benchmark finds what was installed for it as the script that did it"
)]
fn installed() -> PathBuf {
    let set = |variable| {
        std::env::var_os(variable)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let cache = set("XDG_CACHE_HOME")
        .or_else(|| Some(set("HOME")?.join(".cache")))
        .unwrap_or_default();
    cache.join("imglife/bin")
}

/// Returns the tools that are there, imglife first, and says which those are.
fn find_tools(options: &Options) -> Outcome<Vec<Found>> {
    let imglife = |program: &Path| {
        Found::at(Tool::Imglife, program)
            .ok_or_else(|| format!("{} does not run", program.display()))
    };
    let (mut found, mut missing) = (vec![imglife(&options.imglife)?], Vec::new());
    if let Some(program) = &options.against {
        found.push(Found {
            label: "imglife (other)",
            ..imglife(program)?
        });
    }
    for tool in options.peers.iter().copied() {
        match Found::find(tool, &installed()) {
            Some(peer) => found.push(peer),
            None => missing.push(tool.name()),
        }
    }
    let names: Vec<String> = found
        .iter()
        .map(|found| format!("{} {}", found.label, found.version))
        .collect();
    let missing = if missing.is_empty() {
        String::new()
    } else {
        format!(
            "; skipped, since they are not there: {}",
            missing.join(", ")
        )
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    say(format_args!(
        "{}{missing}; {cores} cores, load {}\n",
        names.join(", "),
        measure::load()
    ))?;
    Ok(found)
}

/// Returns whether everything was as it must be, whatever the times are.
fn run() -> Outcome<bool> {
    let options = Options::read(std::env::args().skip(1))?;
    let tools = find_tools(&options)?;
    let mut builder = tempfile::Builder::new();
    let builder = builder.prefix("imglife-bench-");
    let directory = match &options.directory {
        Some(directory) => builder.tempdir_in(Path::new(directory))?,
        None => builder.tempdir()?,
    };
    let mut bench = Bench::new(&options, &tools, directory.path().to_owned())?;
    for workload in &options.workloads {
        bench.run(*workload)?;
    }
    if !options.is_short {
        say(format_args!("\n{}", table::of_goals(&bench.goals)))?;
    }
    for failure in &bench.failures {
        say(format_args!("\nFAILED {failure}\n"))?;
    }
    Ok(bench.failures.is_empty())
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // There is nobody left to tell when that fails.
            let _told = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::from(2)
        }
    }
}
