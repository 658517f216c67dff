//! Workflows run by `act`, which runs those of GitHub and, under another name, is Gitea's and
//! Forgejo's runner, on the machine itself.
//!
//! Other than theirs it knows no addresses of actions on other servers, so `uses:` is shortened
//! before a workflow runs.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::containers::prepared;
use crate::support::endoflife::EndOfLife;
use crate::support::gitea::{JOB, TOKEN};
use crate::support::internet::Internet;
use crate::support::kit::{files_below, project, tool};
use crate::support::registry::Registry;
use crate::support::site::Site;
use crate::support::world::{Outcome, World};

/// The tag that the actions have.
const VERSION: &str = concat!("v", env!("CARGO_PKG_VERSION"));

/// A Gitea with a runner, and the internet as far as examples need it.
pub(super) struct Stage {
    pub(super) site: Site,
    pub(super) world: World,
    upstream: Registry,
    _api: EndOfLife,
    _internet: Internet,
}

impl Stage {
    pub(super) fn new() -> Stage {
        let program = Path::new(env!("CARGO_BIN_EXE_imglife"));
        let site = Site::start(program.to_owned());
        let (upstream, api) = (Registry::plain(), EndOfLife::start());
        api.product(
            "alpine",
            &[
                ("3.22", Some("2099-05-01")),
                ("3.21", Some("2098-11-01")),
                ("3.20", Some("2020-04-01")),
            ],
        );
        api.product(
            "go",
            &[("1.24", Some("2099-02-01")), ("1.23", Some("2020-02-01"))],
        );
        let outside = |host: &str| {
            host.trim_start_matches("http://")
                .trim_end_matches("/api")
                .to_owned()
        };
        let internet = Internet::start(vec![
            ("registry-1.docker.io", upstream.host()),
            ("endoflife.date", outside(&api.address())),
        ]);
        let world = prepared(internet.connect(World::new()), &site.host())
            .program("imglife", &format!("exec {} \"$@\"", program.display()));
        let stage = Stage {
            site,
            world,
            upstream,
            _api: api,
            _internet: internet,
        };
        stage.publish_upstream();
        let identity = "[user]\n\tname = Somebody\n\temail = somebody@example.com\n";
        fs::write(stage.world.home().join(".gitconfig"), identity).expect("a written file");
        // Only the actions: the runner copies all that it is given.
        let kit = stage.world.path("kit/gitea-actions");
        copy(&project("gitea-actions"), &kit, |text| text);
        stage
    }

    /// Puts the sample world's images to where `docker.io/library` leads.
    fn publish_upstream(&self) {
        let world = &self.world;
        world.imglife(["demo", "sample"]).succeeds();
        let host = self.upstream.host();
        let mut config = format!(
            "registry: {{ provider: file, insecure_registries: [{host:?}] }}\nsync:\n  entries:\n"
        );
        for name in ["alpine", "golang"] {
            let source = world.path(&format!("sample/upstream/{name}"));
            config += &format!(
                "    - {{ source: 'ocidir://{}', target: {host}/library/{name}, tag_regex: '.*' }}\n",
                source.display()
            );
        }
        fs::write(world.path("upstream.yaml"), config).expect("a written file");
        world
            .imglife(["sync", "--config", "upstream.yaml"])
            .succeeds();
    }

    /// Makes the addresses of an example those of the server here.
    pub(super) fn local(&self, text: &str) -> String {
        text.replace(
            "https://gitea.example.com/platform/imglife/",
            "platform/imglife/",
        )
        .replace("https://gitea.example.com", &self.site.url())
        .replace("gitea.example.com", &self.site.host())
    }

    /// Makes a repository at the server of the files in a directory.
    pub(super) fn create(&self, repository: &str, files: &Path) {
        self.site.repository(repository);
        self.world
            .shell(&format!(
                "cd {} && git init --quiet --initial-branch=main && git add --all && git commit --quiet --message first && \
                 git push --quiet {} HEAD:main",
                files.display(),
                self.address(repository, TOKEN),
            ))
            .succeeds();
    }

    /// Makes a repository of an example.
    pub(super) fn create_from_example(&self, repository: &str, example: &str) {
        let files = self.world.path(&format!("new/{repository}"));
        copy(&project("examples").join(example), &files, |text| {
            self.local(&text)
        });
        self.create(repository, &files);
    }

    fn address(&self, repository: &str, token: &str) -> String {
        format!(
            "http://somebody:{token}@{}/{repository}.git",
            self.site.host()
        )
    }

    /// Changes a repository by a shell line, and pushes that.
    pub(super) fn change(&self, repository: &str, line: &str) {
        let address = self.address(repository, TOKEN);
        self.world
            .shell(&format!(
                "rm -rf change && git clone --quiet {address} change && cd change && {line} && git add --all && \
                 git commit --quiet --message change && git push --quiet origin HEAD:main"
            ))
            .succeeds();
    }

    /// Runs a workflow on a commit as Gitea would for an event.
    pub(super) fn run(&self, repository: &str, workflow: &str, event: &Event) -> Outcome {
        let Event {
            name,
            reference,
            inputs,
        } = event;
        let payload = json!({
            "ref": reference, "inputs": inputs,
            "repository": { "full_name": repository, "default_branch": "main" },
        });
        let (site, checkout) = (&self.site, format!("runs/{}", fastrand::u64(..)));
        let world = &self.world;
        let branch = reference.rsplit('/').next().unwrap_or_default();
        world
            .shell(&format!(
                "git clone --quiet --branch {branch} {} {checkout} && git -C {checkout} remote set-url origin {}/{repository}.git",
                self.address(repository, TOKEN),
                site.url()
            ))
            .succeeds();
        fs::write(world.path(&format!("{checkout}.json")), payload.to_string())
            .expect("a written file");
        // The server would have given it these.
        let line = format!(
            "cd {checkout} && {act} {name} --workflows .gitea/workflows/{workflow} --platform ubuntu-latest=-self-hosted \
             --eventpath ../../{checkout}.json --defaultbranch main --github-instance {host} --env GITHUB_SERVER_URL={url} \
             --env GITHUB_API_URL={url}/api/v1 --env GITHUB_REPOSITORY={repository} --env GITEA_ACTIONS=true \
             --local-repository platform/imglife@{VERSION}={kit} --secret IMGLIFE_GITEA_TOKEN={TOKEN} --secret GITHUB_TOKEN={JOB} 2>&1",
            act = tool("act").display(),
            host = site.host(),
            url = site.url(),
            kit = world.path("kit").display(),
        );
        world
            .start_shell(&line)
            .within(Duration::from_secs(300))
            .wait()
    }

    /// Returns a file of a repository at the tip of its branch.
    pub(super) fn file(&self, repository: &str, path: &str) -> String {
        self.site
            .git(repository, &["show", &format!("main:{path}")])
    }

    /// Returns the first lines of a repository's commits, the newest first.
    pub(super) fn subjects(&self, repository: &str) -> Vec<String> {
        self.site
            .git(repository, &["log", "--format=%s", "main"])
            .lines()
            .map(str::to_owned)
            .collect()
    }
}

/// Why a workflow runs.
pub(super) struct Event {
    pub(super) name: &'static str,
    pub(super) reference: String,
    pub(super) inputs: Value,
}

impl Event {
    pub(super) fn schedule() -> Event {
        Event {
            name: "schedule",
            reference: "refs/heads/main".to_owned(),
            inputs: Value::Null,
        }
    }

    pub(super) fn push() -> Event {
        Event {
            name: "push",
            ..Event::schedule()
        }
    }

    pub(super) fn tag(name: &str) -> Event {
        Event {
            name: "push",
            reference: format!("refs/tags/{name}"),
            inputs: Value::Null,
        }
    }

    pub(super) fn dispatch(inputs: Value) -> Event {
        Event {
            name: "workflow_dispatch",
            inputs,
            ..Event::schedule()
        }
    }
}

/// Returns the steps that a log tells the ends of, by name. What the runner says by itself is
/// taken, and what it read from files: of what steps print, it may lose the end.
pub(super) fn steps(log: &Outcome) -> Vec<&str> {
    let ended = log
        .stdout
        .lines()
        .filter(|line| line.contains("✅  Success") || line.contains("❌  Failure"));
    let mut steps: Vec<&str> = ended
        .filter_map(|line| line.split_once("Main imglife run ")?.1.split(' ').next())
        .collect();
    steps.sort_unstable();
    steps
}

/// Copies a directory, its files changed by `change`.
pub(super) fn copy(from: &Path, to: &Path, change: impl Fn(String) -> String) {
    for file in files_below(from) {
        let target = to.join(file.strip_prefix(from).expect("a path below"));
        fs::create_dir_all(target.parent().expect("a parent")).expect("new directories");
        // With its permissions.
        fs::copy(&file, &target).expect("a copied file");
        fs::write(target, change(fs::read_to_string(file).expect("text"))).expect("a written file");
    }
}
