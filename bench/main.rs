//! Benchmark of imglife and similar tools on real registries. See `bench/README.md`.

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

use peers::{InstalledTool, Tool};
use workloads::{Bench, Workload};

type BenchResult<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const USAGE: &str = "\
options:
  --short              run for about a minute: small corpora, one round, no network delay
  --only NAME[,NAME]   run only these workloads: start, cold, unchanged, changed, many, large, listing, cleanup, native, layout, far
  --rounds N           run each tool N times per workload (default 3; with --short 1)
  --peers NAME[,NAME]  compare with these peers only: skopeo, crane, oras, regsync
  --imglife PROGRAM    measure this imglife (default: a debug build; make passes the release)
  --against PROGRAM    also measure this imglife, for example the build before a change
  --large-gib N        set the size of the large layer in GiB (default 1)
  --tls                run cold and unchanged with registries that use TLS
  --directory DIR      store the registries' data here (default: the directory for temporary files)
";

/// Command line options.
struct Options {
    is_short: bool,
    is_tls: bool,
    rounds: usize,
    workloads: Vec<Workload>,
    peers: Vec<Tool>,
    imglife: PathBuf,
    against: Option<PathBuf>,
    /// Size of the large layer in GiB; `None` for a small layer.
    large_gib: Option<u64>,
    directory: Option<PathBuf>,
}

impl Options {
    fn read(arguments: impl Iterator<Item = String>) -> BenchResult<Options> {
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
                // Cargo passes this to every benchmark.
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
                _ => return Err(format!("unknown option: {argument}\n{USAGE}").into()),
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

/// Returns the absolute path of a program. Each tool runs in its own directory, where a relative
/// path would not be found.
fn program(path: &str) -> BenchResult<PathBuf> {
    Ok(std::fs::canonicalize(path).map_err(|error| format!("{path}: {error}"))?)
}

fn named<T: Copy>(list: &str, all: &[T], name: impl Fn(T) -> &'static str) -> BenchResult<Vec<T>> {
    let find = |word: &str| {
        all.iter()
            .copied()
            .find(|&one| name(one) == word)
            .ok_or_else(|| format!("unknown name: {word}\n{USAGE}").into())
    };
    list.split(',')
        .filter(|word| !word.is_empty())
        .map(find)
        .collect()
}

/// Prints text at once, because a run lasts minutes.
fn print_now(text: fmt::Arguments<'_>) -> BenchResult<()> {
    let mut out = std::io::stdout().lock();
    out.write_fmt(text)?;
    out.flush()?;
    Ok(())
}

/// Returns the directory where `tests/setup.sh` installs programs that are not in a package.
#[expect(
    clippy::disallowed_methods,
    reason = "uses the same variables as the script that installs the tools"
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

/// Returns the installed tools, imglife first, and prints their versions.
fn find_tools(options: &Options) -> BenchResult<Vec<InstalledTool>> {
    let imglife = |program: &Path| {
        InstalledTool::at(Tool::Imglife, program)
            .ok_or_else(|| format!("{} does not run", program.display()))
    };
    let (mut found, mut missing) = (vec![imglife(&options.imglife)?], Vec::new());
    if let Some(program) = &options.against {
        found.push(InstalledTool {
            label: "imglife (other)",
            ..imglife(program)?
        });
    }
    for tool in options.peers.iter().copied() {
        match InstalledTool::find(tool, &installed()) {
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
        format!("; skipped because not installed: {}", missing.join(", "))
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    print_now(format_args!(
        "{}{missing}; {cores} cores, load {}\n",
        names.join(", "),
        measure::load()
    ))?;
    Ok(found)
}

/// Runs the benchmark. Returns true if there were no failures; slow times are not failures.
fn run() -> BenchResult<bool> {
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
        print_now(format_args!("\n{}", table::of_goals(&bench.goals)))?;
    }
    for failure in &bench.failures {
        print_now(format_args!("\nFAILED {failure}\n"))?;
    }
    Ok(bench.failures.is_empty())
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // An error that cannot be printed cannot be reported at all.
            let _printed = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::from(2)
        }
    }
}
