//! Workloads: for each, the corpus, the runs of the tools, and the goals.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::corpus::{Corpus, Shape, stored_path};
use crate::delay::DelayProxy;
use crate::measure::{Cost, Home, Invocation, load, median, run};
use crate::minimum::MinimumRequests;
use crate::peers::{InstalledTool, Job, Tool};
use crate::registries::{Certificates, Registry, Traffic};
use crate::table::{self, Goal, ResultRow, fastest_peer};
use crate::{BenchResult, Options, raw};

const MIB: u64 = 1024 * 1024;

/// Maximum acceptable ratio of actual requests to the minimum.
const MAX_REQUEST_RATIO: f64 = 1.05;

/// Duration of a copy after which imglife sends another HEAD for a tag before it writes it.
const TAG_RECHECK_AFTER: Duration = Duration::from_secs(5);

/// Round-trip time to the registries of the workload `far`.
const ROUND_TRIP: Duration = Duration::from_millis(50);

/// Number of tags that change at the source, each in a different repository.
const CHANGED_TAGS: usize = 5;

/// Workload, as named on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workload {
    Start,
    Cold,
    Unchanged,
    Changed,
    Far,
    Many,
    Large,
    Listing,
    Cleanup,
    Native,
    Layout,
}

impl Workload {
    pub(crate) const ALL: [Workload; 11] = [
        Workload::Start,
        Workload::Cold,
        Workload::Unchanged,
        Workload::Changed,
        Workload::Many,
        Workload::Large,
        Workload::Listing,
        Workload::Cleanup,
        Workload::Native,
        Workload::Layout,
        Workload::Far,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Workload::Start => "start",
            Workload::Cold => "cold",
            Workload::Unchanged => "unchanged",
            Workload::Changed => "changed",
            Workload::Far => "far",
            Workload::Many => "many",
            Workload::Large => "large",
            Workload::Listing => "listing",
            Workload::Cleanup => "cleanup",
            Workload::Native => "native",
            Workload::Layout => "layout",
        }
    }

    /// Returns true if the workload is also measured over TLS. TLS makes no difference to the
    /// others.
    fn runs_over_tls(self) -> bool {
        matches!(self, Workload::Cold | Workload::Unchanged)
    }
}

/// Tool in a comparison, with its settings and its home directory.
struct Contestant {
    found: InstalledTool,
    check_digest: bool,
    home: Home,
}

/// Result of one run of a tool.
struct ToolRun {
    cost: Cost,
    /// CPU time of both registries.
    registries: Duration,
    traffic: Traffic,
}

/// Task that all tools of a comparison are given.
struct Comparison<'a> {
    title: &'a str,
    source: &'a Corpus,
    /// Content of the target before each run; `None` for a new, empty registry for each run.
    target: Option<&'a Corpus>,
    round_trip: Option<Duration>,
    /// Values of `check_digest` to run imglife with.
    check_digest: &'a [bool],
    minimum: MinimumRequests,
}

/// State of one run of the benchmark.
pub(crate) struct Bench<'a> {
    options: &'a Options,
    tools: &'a [InstalledTool],
    directory: PathBuf,
    certificates: Option<Certificates>,
    cores: u32,
    pub(crate) goals: Vec<Goal>,
    /// Failed checks, independent of times.
    pub(crate) failures: Vec<String>,
}

impl<'a> Bench<'a> {
    pub(crate) fn new(
        options: &'a Options,
        tools: &'a [InstalledTool],
        directory: PathBuf,
    ) -> BenchResult<Bench<'a>> {
        let certificates = if options.is_tls {
            Some(Certificates::make(&directory)?)
        } else {
            None
        };
        let cores = std::thread::available_parallelism()
            .map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX));
        Ok(Bench {
            options,
            tools,
            directory,
            certificates,
            cores,
            goals: Vec::new(),
            failures: Vec::new(),
        })
    }

    pub(crate) fn run(&mut self, workload: Workload) -> BenchResult<()> {
        if self.options.is_tls && !workload.runs_over_tls() {
            return Ok(());
        }
        match workload {
            Workload::Start => self.start(),
            Workload::Cold => self.cold(None),
            Workload::Far => self.cold(Some(ROUND_TRIP)),
            Workload::Unchanged => self.unchanged(),
            Workload::Changed => self.changed(),
            Workload::Many => self.many(),
            Workload::Large => self.large(),
            Workload::Listing => self.listing(),
            Workload::Cleanup => self.cleanup(),
            Workload::Native => self.native(),
            Workload::Layout => self.layout(),
        }
    }

    fn corpus(&self, shape: &Shape, changed: usize) -> BenchResult<Corpus> {
        Corpus::make(&self.directory.join("pool"), shape, changed)
    }

    fn mirror(&self) -> &'static Shape {
        if self.options.is_short {
            &Shape::SMALL_MIRROR
        } else {
            &Shape::MIRROR
        }
    }

    fn registry(&self) -> BenchResult<Registry> {
        Registry::start(&self.directory, self.certificates.as_ref())
    }

    fn home(&self, name: &str) -> BenchResult<Home> {
        let mut home = Home::make(self.directory.join(format!("home-{name}")))?;
        home.clear()?;
        if let Some(certificates) = &self.certificates {
            home.variables
                .insert("SSL_CERT_FILE".into(), certificates.authority().into());
        }
        Ok(home)
    }

    fn imglife(&self) -> BenchResult<&InstalledTool> {
        Ok(self
            .tools
            .iter()
            .find(|found| found.tool == Tool::Imglife)
            .ok_or("imglife is missing from the list of tools")?)
    }

    fn goal(
        &mut self,
        workload: &str,
        wanted: impl Into<String>,
        found: impl Into<String>,
        is_met: bool,
    ) {
        self.goals.push(Goal::new(workload, wanted, found, is_met));
    }

    fn cold(&mut self, round_trip: Option<Duration>) -> BenchResult<()> {
        let corpus = self.corpus(self.mirror(), 0)?;
        let minimum = MinimumRequests::cold(&corpus);
        let title = match (round_trip, self.options.is_tls) {
            (None, false) => "cold",
            (None, true) => "cold, over TLS",
            (Some(_), _) => "cold, 50 ms away",
        };
        let rows = self.compare(&Comparison {
            title,
            source: &corpus,
            target: None,
            round_trip,
            check_digest: &[false],
            minimum,
        })?;
        if round_trip.is_some() {
            self.judge_wall(title, &rows, 1.0 / 3.0);
            return Ok(());
        }
        self.judge_wall(title, &rows, 0.6);
        let Some(own) = rows.first() else {
            return Ok(());
        };
        let lowest = rows
            .iter()
            .filter(|row| row.tool != Tool::Imglife)
            .map(|row| row.cost.processor)
            .min();
        if let Some(lowest) = lowest {
            let found = format!(
                "{} to {}",
                table::time(own.cost.processor),
                table::time(lowest)
            );
            self.goal(
                title,
                "no more CPU time than the peer that uses the least",
                found,
                own.cost.processor <= lowest,
            );
        }
        let (read, written, bytes) = (own.traffic.read, own.traffic.written, corpus.bytes());
        // Reads include the listings.
        let is_once = (bytes..bytes + bytes / 100).contains(&read) && written == bytes;
        let found = format!("{} and {}", table::bytes(read), table::bytes(written));
        self.goal(
            title,
            format!("each byte of {} read and written once", table::bytes(bytes)),
            found,
            is_once,
        );
        self.judge_peak(title, own, 48);
        Ok(())
    }

    fn unchanged(&mut self) -> BenchResult<()> {
        let corpus = self.corpus(self.mirror(), 0)?;
        for (title, check_digest, share) in [
            ("unchanged", false, 0.2),
            ("unchanged, check_digest", true, 0.5),
        ] {
            let minimum = MinimumRequests::unchanged(&corpus, check_digest);
            let rows = self.compare(&Comparison {
                title,
                source: &corpus,
                target: Some(&corpus),
                round_trip: None,
                check_digest: &[check_digest],
                minimum,
            })?;
            self.judge_wall(title, &rows, share);
        }
        Ok(())
    }

    fn changed(&mut self) -> BenchResult<()> {
        let (before, after) = (
            self.corpus(self.mirror(), 0)?,
            self.corpus(self.mirror(), CHANGED_TAGS)?,
        );
        let minimum = MinimumRequests::changed(&before, &after);
        let title = "5 of 50 tags changed";
        let comparison = Comparison {
            title,
            source: &after,
            target: Some(&before),
            round_trip: None,
            check_digest: &[true],
            minimum,
        };
        let rows = self.compare(&comparison)?;
        self.judge_wall(title, &rows, 0.5);
        Ok(())
    }

    fn many(&mut self) -> BenchResult<()> {
        let corpus = self.corpus(
            if self.options.is_short {
                &Shape::FEWER
            } else {
                &Shape::MANY
            },
            0,
        )?;
        let minimum = MinimumRequests::cold(&corpus);
        let title = "many small images";
        self.compare(&Comparison {
            title,
            source: &corpus,
            target: None,
            round_trip: None,
            check_digest: &[false],
            minimum,
        })?;
        Ok(())
    }

    fn large(&mut self) -> BenchResult<()> {
        let own = self
            .options
            .large_gib
            .map_or(64 * MIB, |gib| gib * 1024 * MIB);
        let corpus = self.corpus(
            &Shape {
                own,
                ..Shape::LARGE
            },
            0,
        )?;
        let minimum = MinimumRequests::cold(&corpus);
        let title = "one large layer";
        let rows = self.compare(&Comparison {
            title,
            source: &corpus,
            target: None,
            round_trip: None,
            check_digest: &[false],
            minimum,
        })?;
        let (source, target) = (self.registry()?, self.registry()?);
        corpus.publish(&source.storage())?;
        let repository = &corpus.repositories[0];
        let layer = repository
            .blobs()
            .into_iter()
            .max_by_key(|blob| blob.size)
            .ok_or("an image has blobs")?;
        let file = stored_path(&source.storage().join("docker/registry/v2"), &layer.digest);
        let mut alone = Vec::new();
        for _ in 0..self.options.rounds {
            let get = raw::get(
                source.address(),
                &format!("/v2/{}/blobs/{}", repository.path, layer.digest),
            )?;
            let put = raw::put(target.address(), "large/alone", &file, &layer.digest)?;
            target.forget("")?;
            alone.push([get, put, raw::hash(layer.size)]);
        }
        let [get, put, hash] =
            [0, 1, 2].map(|at| median(alone.iter().map(|times| times[at])).unwrap_or_default());
        let slowest = get.max(put).max(hash);
        crate::print_now(format_args!(
            "  without a client: {} to read, {} to write; SHA-256 on one core: {}\n",
            table::time(get),
            table::time(put),
            table::time(hash)
        ))?;
        let Some(own) = rows.first() else {
            return Ok(());
        };
        let ratio = own.cost.wall.as_secs_f64() / slowest.as_secs_f64();
        let found = format!("{ratio:.2} x {}", table::time(slowest));
        self.goal(
            title,
            "at most 1.3 x the slowest of reading, writing and SHA-256",
            found,
            ratio <= 1.3,
        );
        self.judge_peak(title, own, 32);
        Ok(())
    }

    fn judge_wall(&mut self, title: &str, rows: &[ResultRow], share: f64) {
        if let (Some(own), Some(fastest)) = (rows.first(), fastest_peer(rows)) {
            let of_fastest = |time: Duration| time.as_secs_f64() / fastest.as_secs_f64();
            let ratio = of_fastest(own.cost.wall);
            let (wanted, found) = (
                format!("at most {share:.2} x the fastest peer's wall time"),
                format!("{ratio:.2} x"),
            );
            if ratio <= share {
                self.goal(title, wanted, found, true);
                return;
            }
            // Lower bound for every client: the registries' work for these requests, spread over
            // all cores.
            let (registries, all) = (
                of_fastest(own.registries / self.cores),
                of_fastest((own.registries + own.cost.processor) / self.cores),
            );
            let found = format!(
                "{found}; with {} cores fully used the registries alone need {registries:.2} x, with imglife {all:.2} x",
                self.cores
            );
            if registries > share {
                self.goals.push(Goal::limited(title, wanted, found));
            } else {
                self.goal(title, wanted, found, false);
            }
        }
    }

    fn judge_peak(&mut self, title: &str, row: &ResultRow, limit: u64) {
        let found = format!("{:.1} MiB", row.cost.peak as f64 / MIB as f64);
        self.goal(
            title,
            format!("at most {limit} MiB of memory"),
            found,
            row.cost.peak <= limit * MIB,
        );
    }

    /// Runs the tools alternately for several rounds and prints the results. The rows of imglife
    /// come first.
    fn compare(&mut self, comparison: &Comparison<'_>) -> BenchResult<Vec<ResultRow>> {
        let Comparison {
            title,
            source,
            target,
            minimum,
            ..
        } = comparison;
        crate::print_now(format_args!(
            "\n{title}: {}, load {}\n",
            table::bytes(source.bytes()),
            load()
        ))?;
        let upstream = self.registry()?;
        let mut contestants = Vec::new();
        for found in self.tools {
            let modes = if found.tool == Tool::Imglife {
                comparison.check_digest
            } else {
                &[true]
            };
            for &check_digest in modes {
                let home = self.home(found.label)?;
                contestants.push(Contestant {
                    found: found.clone(),
                    check_digest,
                    home,
                });
            }
        }
        let mut broken = vec![false; contestants.len()];
        let existing = match target {
            None => None,
            Some(before) => {
                let existing = self.registry()?;
                before.publish(&existing.storage())?;
                before.publish(&upstream.storage())?;
                // A run before the first lets tools fill their caches.
                for (at, contestant) in contestants.iter().enumerate() {
                    let (job, _proxies) = self.job(comparison, contestant, &upstream, &existing)?;
                    let warmed = run(
                        &contestant.home,
                        &job.invocations(&contestant.found, &contestant.home)?,
                    );
                    broken[at] = !self.check_result(
                        title,
                        contestant.found.label,
                        warmed.and_then(|_| existing.check(before)),
                    );
                }
                Some(existing)
            }
        };
        source.publish(&upstream.storage())?;
        let mut runs: Vec<Vec<ToolRun>> = contestants.iter().map(|_| Vec::new()).collect();
        // The first run finds the machine's caches cold, so it is not measured. An error would
        // appear again in the measured runs, so it is ignored.
        if let Some(first) = contestants
            .first()
            .filter(|_| target.is_none() && !self.options.is_short)
        {
            drop(self.one_run(comparison, first, &upstream, None));
        }
        // With the network delay a run lasts minutes and varies little.
        let rounds = if comparison.round_trip.is_some() {
            1
        } else {
            self.options.rounds
        };
        for _ in 0..rounds {
            for (at, contestant) in contestants
                .iter()
                .enumerate()
                .filter(|(at, _)| !broken[*at])
                .collect::<Vec<_>>()
            {
                let run = self.one_run(comparison, contestant, &upstream, existing.as_ref());
                let result = run.map(|run| runs[at].push(run));
                broken[at] = !self.check_result(title, contestant.found.label, result);
            }
        }
        let mut rows = Vec::new();
        for (contestant, runs) in contestants.iter().zip(runs) {
            let middle =
                |of: fn(&ToolRun) -> Duration| median(runs.iter().map(of)).unwrap_or_default();
            let Some(last) = runs.last() else { continue };
            let walls = || runs.iter().map(|run| run.cost.wall);
            rows.push(ResultRow {
                tool: contestant.found.tool,
                label: contestant.found.label,
                cost: Cost {
                    wall: middle(|run| run.cost.wall),
                    processor: middle(|run| run.cost.processor),
                    peak: runs.iter().map(|run| run.cost.peak).max().unwrap_or(0),
                },
                registries: middle(|run| run.registries),
                spread: (
                    walls().min().unwrap_or_default(),
                    walls().max().unwrap_or_default(),
                ),
                traffic: last.traffic.clone(),
            });
        }
        crate::print_now(format_args!("{}", table::of_rows(&rows, Some(minimum))))?;
        if let Some(own) = rows.iter().find(|row| row.tool == Tool::Imglife) {
            let (requests, least) = (own.traffic.requests, minimum.total());
            // After a long copy imglife sends another HEAD to see if the tag has moved.
            let rechecks = if own.cost.wall >= TAG_RECHECK_AFTER {
                source.tags()
            } else {
                0
            };
            let is_met = requests as f64 <= least as f64 * MAX_REQUEST_RATIO + rechecks as f64;
            if !is_met {
                self.failures.push(format!(
                    "{title}: imglife sent {requests} requests, over 5 % more than the minimum of {least}: {:?}",
                    own.traffic.kinds
                ));
            }
            self.goal(
                title,
                format!("at most 5 % more than {least} requests"),
                requests.to_string(),
                is_met,
            );
        }
        Ok(rows)
    }

    fn check_result(&mut self, title: &str, label: &str, result: BenchResult<()>) -> bool {
        let failure = result
            .err()
            .map(|error| format!("{title}: {label}: {error}"));
        let check_result = failure.is_none();
        self.failures.extend(failure);
        check_result
    }

    fn one_run(
        &self,
        comparison: &Comparison<'_>,
        contestant: &Contestant,
        upstream: &Registry,
        existing: Option<&Registry>,
    ) -> BenchResult<ToolRun> {
        let fresh;
        let target = if let Some(existing) = existing {
            existing
        } else {
            fresh = self.registry()?;
            contestant.home.clear()?;
            &fresh
        };
        if let Some(before) = comparison
            .target
            .filter(|before| !std::ptr::eq(*before, comparison.source))
        {
            target.forget("")?;
            before.publish(&target.storage())?;
        }
        let (job, _proxies) = self.job(comparison, contestant, upstream, target)?;
        let invocations = job.invocations(&contestant.found, &contestant.home)?;
        let (source_mark, target_mark) = (upstream.mark()?, target.mark()?);
        let before = upstream.processor()? + target.processor()?;
        let cost = run(&contestant.home, &invocations)?;
        let registries = (upstream.processor()? + target.processor()?).saturating_sub(before);
        target.check(comparison.source)?;
        let mut requests = upstream.requests_since(source_mark)?;
        requests.extend(target.requests_since(target_mark)?);
        Ok(ToolRun {
            cost,
            registries,
            traffic: Traffic::of(requests.iter(), &comparison.source.sizes()),
        })
    }

    /// Returns the job of a contestant, and the proxies that delay traffic to distant registries.
    fn job<'b>(
        &self,
        comparison: &'b Comparison<'_>,
        contestant: &Contestant,
        upstream: &Registry,
        target: &Registry,
    ) -> BenchResult<(Job<'b>, [Option<DelayProxy>; 2])> {
        let way = |registry: &Registry| {
            comparison
                .round_trip
                .map(|time| DelayProxy::to(registry.address(), time))
                .transpose()
        };
        let (to_source, to_target) = (way(upstream)?, way(target)?);
        let host = |way: &Option<DelayProxy>, registry: &Registry| {
            way.as_ref()
                .map_or(registry.address(), DelayProxy::address)
                .to_string()
        };
        let job = Job {
            corpus: comparison.source,
            source: host(&to_source, upstream),
            target: host(&to_target, target),
            authority: self.certificates.as_ref().map(Certificates::authority),
            check_digest: contestant.check_digest,
        };
        Ok((job, [to_source, to_target]))
    }

    /// Measures a sync of the newest tags of a repository with very many tags.
    fn listing(&mut self) -> BenchResult<()> {
        let tags = if self.options.is_short { 900 } else { 10_000 };
        let corpus = self.corpus(
            &Shape {
                tags,
                ..Shape::TAGS
            },
            0,
        )?;
        let (source, target, home) = (self.registry()?, self.registry()?, self.home("listing")?);
        corpus.publish(&source.storage())?;
        let path = &corpus.repositories[0].path;
        let job = plain_job(&corpus, &source, &target);
        let entry = json!({ "source": format!("{}/{path}", job.source), "target": format!("{}/{path}", job.target), "tag_regex": ".*", "keep_last": 5 });
        fs::write(
            home.directory.join("imglife.yaml"),
            job.imglife_configuration(&[entry]).to_string(),
        )?;
        let invocation = [Invocation::new(&self.imglife()?.program, &["sync"])];
        run(&home, &invocation)?;
        let (mut costs, mut listings, mark) =
            (Vec::new(), Vec::new(), (source.mark()?, target.mark()?));
        for _ in 0..self.options.rounds {
            costs.push(run(&home, &invocation)?);
        }
        let requests = source.requests_since(mark.0)?.len() + target.requests_since(mark.1)?.len();
        for _ in 0..self.options.rounds {
            listings.push(raw::get(
                source.address(),
                &format!("/v2/{path}/tags/list"),
            )?);
        }
        let wall = median(costs.iter().map(|cost| cost.wall)).unwrap_or_default();
        let processor = median(costs.iter().map(|cost| cost.processor)).unwrap_or_default();
        let listing = median(listings.into_iter()).unwrap_or_default();
        let own = wall.saturating_sub(listing);
        let title = format!("{tags} tags, keep_last 5");
        let each = requests as f64 / self.options.rounds as f64;
        crate::print_now(format_args!(
            "\n{title}, load {}: {}, of which {} for the source's tag listing; CPU {}; {each} requests per run\n",
            load(),
            table::time(wall),
            table::time(listing),
            table::time(processor)
        ))?;
        self.goal(
            &title,
            "one listing for each side",
            format!("{each} requests"),
            requests == 2 * self.options.rounds,
        );
        self.goal(
            &title,
            "under 100 ms in addition to the listing",
            table::time(own),
            own < Duration::from_millis(100),
        );
        Ok(())
    }

    /// Measures a cleanup plan for the tags of a base, whose ages come from the image
    /// configurations.
    fn cleanup(&mut self) -> BenchResult<()> {
        let tags = if self.options.is_short { 200 } else { 2000 };
        let corpus = self.corpus(
            &Shape {
                tags,
                ..Shape::TAGS
            },
            0,
        )?;
        let (registry, home) = (self.registry()?, self.home("cleanup")?);
        corpus.publish(&registry.storage())?;
        self.corpus(&Shape::BASE, 0)?.publish(&registry.storage())?;
        let job = plain_job(&corpus, &registry, &registry);
        let (parent, name) = corpus.repositories[0]
            .path
            .split_once('/')
            .ok_or("a repository has a parent")?;
        let mut configuration = build_configuration(&job, parent, name, &home)?;
        configuration["retention"] = json!({ "keep_last": 5, "max_age_days": 30, "max_delete_percent": 100, "require_records": false });
        fs::write(
            home.directory.join("imglife.yaml"),
            configuration.to_string(),
        )?;
        let invocation = [Invocation::new(
            &self.imglife()?.program,
            &["cleanup", "--list"],
        )];
        let mark = registry.mark()?;
        let cost = run(&home, &invocation)?;
        let requests = registry.requests_since(mark)?;
        let listed = fs::read_to_string(home.directory.join("tmp/output"))?;
        if !listed.contains(&format!(
            "{}:{}",
            corpus.repositories[0].path, corpus.repositories[0].images[0].tag
        )) {
            self.failures.push(format!(
                "cleanup selects other tags for deletion than expected:\n{listed}"
            ));
        }
        let title = format!("cleanup plan of {tags} tags");
        crate::print_now(format_args!(
            "\n{title}, load {}: {}, CPU {}, {} MiB\n",
            load(),
            table::time(cost.wall),
            table::time(cost.processor),
            cost.peak.div_ceil(MIB)
        ))?;
        let each = requests.len() as f64 / tags as f64;
        self.goal(
            &title,
            "at most 2 requests for each tag",
            format!("{each:.2}"),
            requests.len() as f64 <= 2.0 * tags as f64 * MAX_REQUEST_RATIO,
        );
        Ok(())
    }

    /// Measures a build on a base whose file listing is cached from an earlier build.
    fn native(&mut self) -> BenchResult<()> {
        let corpus = self.corpus(&Shape::BASE, 0)?;
        let (registry, home) = (self.registry()?, self.home("native")?);
        corpus.publish(&registry.storage())?;
        let job = plain_job(&corpus, &registry, &registry);
        let configuration = build_configuration(&job, "bases", "built", &home)?;
        fs::write(
            home.directory.join("imglife.yaml"),
            configuration.to_string(),
        )?;
        let invocation = [Invocation::new(&self.imglife()?.program, &["build"])];
        run(&home, &invocation)?;
        let mut walls = Vec::new();
        for _ in 0..self.options.rounds {
            registry.forget("bases")?;
            walls.push(run(&home, &invocation)?.wall);
        }
        let wall = median(walls.into_iter()).unwrap_or_default();
        let title = "native build";
        crate::print_now(format_args!(
            "\n{title} of 3 COPY for 4 platforms, load {}: {}\n",
            load(),
            table::time(wall)
        ))?;
        self.goal(
            title,
            "3 COPY, 4 platforms, under 300 ms",
            table::time(wall),
            wall < Duration::from_millis(300),
        );
        Ok(())
    }

    /// Measures a sync of very many tags to a directory. There are no peers for this.
    fn layout(&mut self) -> BenchResult<()> {
        let tags = if self.options.is_short { 100 } else { 2000 };
        let corpus = self.corpus(
            &Shape {
                tags,
                ..Shape::TAGS
            },
            0,
        )?;
        let (source, home) = (self.registry()?, self.home("layout")?);
        corpus.publish(&source.storage())?;
        let job = plain_job(&corpus, &source, &source);
        let entry = json!({ "source": format!("{}/{}", job.source, corpus.repositories[0].path), "target": "ocidir://mirror", "tag_regex": ".*" });
        fs::write(
            home.directory.join("imglife.yaml"),
            job.imglife_configuration(&[entry]).to_string(),
        )?;
        let cost = run(
            &home,
            &[Invocation::new(&self.imglife()?.program, &["sync"])],
        )?;
        crate::print_now(format_args!(
            "\n{tags} tags to an OCI layout, load {}: {}, CPU {}, {:.1} ms for each tag, {} MiB\n",
            load(),
            table::time(cost.wall),
            table::time(cost.processor),
            cost.wall.as_secs_f64() * 1000.0 / tags as f64,
            cost.peak.div_ceil(MIB)
        ))
    }

    /// Measures `imglife --version` and the size of the program.
    fn start(&mut self) -> BenchResult<()> {
        let program = &self.imglife()?.program;
        let start = || -> BenchResult<Duration> {
            let began = Instant::now();
            let status = Command::new(program)
                .arg("--version")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .status()?;
            if status.success() {
                Ok(began.elapsed())
            } else {
                Err("`imglife --version` failed".into())
            }
        };
        let starts = (0..100).map(|_| start()).collect::<BenchResult<Vec<_>>>()?;
        let time = median(starts.into_iter()).unwrap_or_default();
        let size = fs::metadata(program)?.len() as f64 / MIB as f64;
        crate::print_now(format_args!(
            "\nstart, load {}: {:.1} ms; size of the program: {size:.1} MiB\n",
            load(),
            time.as_secs_f64() * 1000.0
        ))?;
        self.goal(
            "start",
            "under 10 ms",
            format!("{:.1} ms", time.as_secs_f64() * 1000.0),
            time < Duration::from_millis(10),
        );
        self.goal(
            "start",
            "a program under 25 MiB",
            format!("{size:.1} MiB"),
            size < 25.0,
        );
        Ok(())
    }
}

fn plain_job<'a>(corpus: &'a Corpus, source: &Registry, target: &Registry) -> Job<'a> {
    let [source, target] = [source, target].map(|registry| registry.address().to_string());
    Job {
        corpus,
        source,
        target,
        authority: None,
        check_digest: false,
    }
}

/// Returns a configuration that builds one base on an image of [`Shape::BASE`]. Writes its template
/// and files below `home`.
fn build_configuration(
    job: &Job<'_>,
    parent: &str,
    name: &str,
    home: &Home,
) -> BenchResult<serde_json::Value> {
    let folder = home.directory.join("folder");
    fs::create_dir_all(folder.join("etc"))?;
    fs::write(
        folder.join("Dockerfile.tmpl"),
        "FROM {{ base }}\nCOPY tool /usr/bin/\nCOPY etc/ /etc/\nCOPY data /srv/data\n",
    )?;
    for (path, size) in [
        ("tool", 200_000),
        ("etc/one.conf", 400),
        ("etc/two.conf", 4000),
        ("data", 2_000_000),
    ] {
        fs::write(folder.join(path), "0123456789abcdef".repeat(size / 16))?;
    }
    let mut configuration = job.imglife_configuration(&[]);
    configuration["build"] = json!({
        "core_version": "1.0.0", "registry": format!("{}/{parent}", job.target), "platforms": Shape::BASE.platforms, "engine": "native",
        "images": [{
            "name": name, "folder": "folder", "type": "core",
            "mirror_image": format!("{}/base/app000", job.source), "mirror_tag": "1.0.0",
        }],
    });
    Ok(configuration)
}
