//! A GitLab of one machine: bare repositories, a package registry, container registries, and
//! gitlab-ci-local for its pipelines.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use regex::{Captures, Regex};
use serde_json::{Value, json};

use crate::native::images::base;
use crate::registries::client;
use crate::support::endoflife::EndOfLife;
use crate::support::gitlab::{Gitlab, JOB, PROJECT, Rules};
use crate::support::registry::Registry;
use crate::support::servers::installed;
use crate::support::world::{Outcome, World};

/// What gitlab-ci-local takes for an error, and GitLab for "any runner".
const NO_TAGS: &str = "#/definitions/tags/minItems";

pub(super) struct Site {
    pub(super) upstream: Registry,
    pub(super) registry: Registry,
    pub(super) gitlab: Gitlab,
    pub(super) endoflife: EndOfLife,
    pub(super) world: World,
}

/// A pipeline that ran: what was printed, and what each job printed.
pub(super) struct Pipeline {
    pub(super) outcome: Outcome,
    checkout: PathBuf,
}

impl Site {
    /// Returns one with upstream images, and the components in a project of their own.
    pub(super) async fn new() -> Site {
        let site = Site {
            upstream: Registry::plain(),
            registry: Registry::plain(),
            gitlab: Gitlab::start(Rules::default()),
            endoflife: EndOfLife::start(),
            world: World::new(),
        };
        for (repository, tags) in [
            ("alpine", &["3.20.6", "3.20.7", "3.21.3", "edge"][..]),
            ("golang", &["1.24.5-alpine3.20", "1.24.6-alpine3.21"]),
        ] {
            for tag in tags {
                site.release(repository, tag).await;
            }
        }
        site.endoflife.product(
            "alpine",
            &[("3.20", Some("2098-04-01")), ("3.21", Some("2098-11-01"))],
        );
        site.endoflife
            .product("go", &[("1.24", Some("2098-02-01"))]);
        let program = env!("CARGO_BIN_EXE_imglife");
        let world = World::new().program("imglife", &format!("exec '{program}' \"$@\""));
        let site = Site { world, ..site };
        site.configure_git();
        let components = Path::new(env!("CARGO_MANIFEST_DIR")).join("ci-components");
        site.project("imglife-components", &components, &[]);
        site.world
            .shell(&format!(
                "git -C imglife-components.git tag {} main",
                env!("CARGO_PKG_VERSION")
            ))
            .succeeds();
        site
    }

    /// Publishes an upstream image under a tag.
    pub(super) async fn release(&self, repository: &str, tag: &str) {
        let mut image = base(&["linux/amd64", "linux/arm64", "linux/s390x"]);
        image.tags[0].0 = tag.parse().expect("a tag");
        image
            .publish(
                &client(&self.upstream),
                &self.upstream.repository(&format!("library/{repository}")),
            )
            .await;
    }

    fn host(&self) -> String {
        self.gitlab.server.host()
    }

    /// Git finds the projects' addresses on the disk: gitlab-ci-local those of the components, the
    /// jobs all others too.
    fn configure_git(&self) {
        let place = |project: &str| {
            format!(
                "file://{}",
                self.world.path(&format!("{project}.git")).display()
            )
        };
        let identity = "[user]\nname = A Maintainer\nemail = maintainer@example.com\n[init]\ndefaultBranch = main\n";
        let leads = |project: &str| {
            format!(
                "[url \"{}\"]\ninsteadOf = http://{}/platform/{project}.git\n",
                place(project),
                self.host()
            )
        };
        fs::write(
            self.world.home().join(".gitconfig"),
            format!("{identity}{}", leads("imglife-components")),
        )
        .expect("a written file");
        fs::create_dir(self.world.path("job-home")).expect("a new directory");
        let projects = ["base-images", "app", "imglife-components"]
            .map(leads)
            .concat();
        fs::write(self.world.path("job-home/.gitconfig"), projects).expect("a written file");
    }

    /// Makes a project of a directory, with some texts in its files replaced.
    pub(super) fn project(&self, name: &str, files: &Path, replaced: &[(&str, &str, &str)]) {
        self.world
            .shell(&format!("cp -r '{}' {name}", files.display()))
            .succeeds();
        for (file, from, to) in replaced {
            let path = self.world.path(&format!("{name}/{file}"));
            let text = fs::read_to_string(&path).expect("a file");
            assert!(text.contains(from), "{file} lacks {from}");
            fs::write(path, text.replace(from, to)).expect("a written file");
        }
        let commit =
            "git init --quiet && git add --all && git commit --quiet --message 'the first commit'";
        self.world
            .shell(&format!(
                "cd {name} && {commit} && cd .. && git clone --quiet --bare {name} {name}.git"
            ))
            .succeeds();
    }

    /// Makes the project of base images out of the example. Nothing is changed in it but where the
    /// outside is.
    pub(super) fn base_images(&self) {
        let (upstream, registry) = (self.upstream.url(), self.registry.host());
        let hosts = format!(
            "hosts:\n  docker.io: {{ endpoint: '{upstream}' }}\n  '{registry}': {{ endpoint: 'http://{registry}' }}\n\nlifecycle:\n  \
             api_url: {}\n",
            self.endoflife.address()
        );
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/base-images-gitlab");
        self.project(
            "base-images",
            &example,
            &[(
                "imglife.yaml",
                "lifecycle:\n  eol",
                &format!("{hosts}  eol"),
            )],
        );
    }

    /// Returns a new checkout of the tip of a project's branch, with more variables than those of
    /// every job.
    pub(super) fn checkout(&self, project: &str, source: &str, more: &[(&str, &str)]) -> PathBuf {
        let directory = self.world.path(&format!("checkout-{}", fastrand::u64(..)));
        let clone = format!(
            "git clone --quiet {project}.git '{}' && cd '{0}'",
            directory.display()
        );
        // From here gitlab-ci-local knows server and project; without `.git`, so that git takes it
        // for no other address.
        let origin = format!(
            "git remote add gcl-origin http://{}/platform/{project}",
            self.host()
        );
        self.world.shell(&format!("{clone} && {origin}")).succeeds();
        let (host, registry) = (self.host(), self.registry.host());
        let (name, port) = host.split_once(':').expect("a port");
        let mut variables = json!({
            "GITLAB_CI": "true",
            "HOME": self.world.path("job-home"),
            "CI_PIPELINE_SOURCE": source,
            "CI_SERVER_URL": format!("http://{host}"), "CI_SERVER_HOST": name, "CI_SERVER_PORT": port, "CI_SERVER_PROTOCOL": "http",
            "CI_SERVER_FQDN": host, "CI_API_V4_URL": format!("http://{host}/api/v4"),
            "CI_PROJECT_ID": PROJECT.to_string(),
            "CI_PROJECT_PATH": format!("platform/{project}"),
            "CI_JOB_TOKEN": JOB,
            "CI_REGISTRY": registry, "CI_REGISTRY_IMAGE": format!("{registry}/platform/{project}"),
            "CI_REGISTRY_USER": "gitlab-ci-token", "CI_REGISTRY_PASSWORD": JOB,
        });
        for (name, value) in more {
            variables[name] = json!(value);
        }
        // Said in full, since a plain value that looks like a path would be taken for the name of a
        // file.
        for value in variables.as_object_mut().expect("variables").values_mut() {
            *value = json!({ "type": "variable", "values": { "*": value } });
        }
        fs::write(
            directory.join(".gitlab-ci-local-variables.yml"),
            variables.to_string(),
        )
        .expect("a written file");
        directory
    }

    /// Runs the pipeline of a checkout. Jobs run in the shell, each in a copy of the checkout.
    pub(super) fn run(&self, checkout: &Path, arguments: &str) -> Pipeline {
        self.run_by("", checkout, arguments)
    }

    /// The same, by a program that is given the rest of the line.
    pub(super) fn run_by(
        &self,
        program_before: &str,
        checkout: &Path,
        arguments: &str,
    ) -> Pipeline {
        let place = installed("../gitlab-ci-local");
        let (node, program) = (
            place.join("node"),
            place.join("node_modules/gitlab-ci-local/src/index.js"),
        );
        assert!(
            node.exists() && program.exists(),
            "gitlab-ci-local is not installed: run `make setup`"
        );
        // Components are fetched at once, each by copying `templates`, which fails for those that
        // find no directory but another's.
        let components = concat!(
            ".gitlab-ci-local/includes/127.0.0.1/platform/imglife-components/",
            env!("CARGO_PKG_VERSION"),
            "/templates"
        );
        fs::create_dir_all(checkout.join(components)).expect("a directory");
        let line = format!(
            "cd '{}' && {program_before} '{}' '{}' --force-shell-executor --shell-isolation --no-artifacts-to-source --ignore-schema-paths '{NO_TAGS}' {arguments}",
            checkout.display(),
            node.display(),
            program.display()
        );
        Pipeline {
            outcome: self
                .world
                .start_shell(&line)
                .within(Duration::from_secs(300))
                .wait(),
            checkout: checkout.to_owned(),
        }
    }

    /// Runs the pipeline of the tip of a project's branch.
    pub(super) fn pipeline(&self, project: &str, source: &str, more: &[(&str, &str)]) -> Pipeline {
        self.run(
            &self.checkout(project, source, more),
            "--json-schema-validation=false",
        )
    }

    /// Returns the subjects of a project's commits, the newest first.
    pub(super) fn subjects(&self, project: &str) -> Vec<String> {
        let log = self
            .world
            .shell(&format!("git -C {project}.git log --format=%s main"))
            .succeeds()
            .stdout;
        log.lines().map(str::to_owned).collect()
    }

    /// Returns a file at the tip of a project's branch.
    pub(super) fn file(&self, project: &str, path: &str) -> String {
        self.world
            .shell(&format!("git -C {project}.git show main:{path}"))
            .succeeds()
            .stdout
    }
}

impl Pipeline {
    /// Returns itself; a failed job fails the test.
    pub(super) fn succeeds(self) -> Pipeline {
        Pipeline {
            outcome: self.outcome.succeeds(),
            ..self
        }
    }

    /// Returns itself; any other exit code fails the test.
    pub(super) fn exits(self, code: i32) -> Pipeline {
        Pipeline {
            outcome: self.outcome.exits(code),
            ..self
        }
    }

    fn log_of(&self, job: &str) -> PathBuf {
        self.checkout
            .join(".gitlab-ci-local/output")
            .join(format!("{}.log", directory_of(job)))
    }

    /// Returns what a job printed.
    pub(super) fn log(&self, job: &str) -> String {
        let path = self.log_of(job);
        fs::read_to_string(&path).unwrap_or_else(|error| {
            panic!(
                "{}: {error}\n--- stdout\n{}--- stderr\n{}",
                path.display(),
                self.outcome.stdout,
                self.outcome.stderr
            )
        })
    }

    /// Returns whether a job ran.
    pub(super) fn ran(&self, job: &str) -> bool {
        self.log_of(job).exists()
    }

    /// Returns the directory of what a job kept.
    pub(super) fn directory(&self, job: &str) -> PathBuf {
        self.checkout
            .join(".gitlab-ci-local/artifacts")
            .join(directory_of(job))
    }

    /// Returns a file that a job kept.
    pub(super) fn artifact(&self, job: &str, path: &str) -> String {
        let path = self.directory(job).join(path);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }
}

/// Returns what gitlab-ci-local calls the files of a job: what is no letter, digit, `-` or `_` is
/// written in base64.
fn directory_of(job: &str) -> String {
    let odd = Regex::new(r"[^\w-]+").expect("a pattern");
    odd.replace_all(job, |found: &Captures<'_>| {
        URL_SAFE_NO_PAD.encode(&found[0])
    })
    .into_owned()
}

/// Fails the test unless every file is as a schema says that check-jsonschema brings.
pub(super) fn check_jsonschema(schema: &str, files: &[PathBuf]) {
    let program = installed("../python/bin/check-jsonschema");
    let output = Command::new(&program)
        .args(["--builtin-schema", schema, "--data-transform", "gitlab-ci"])
        .args(files)
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}; run `make setup`", program.display()));
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{}{}",
        said(&output.stdout),
        said(&output.stderr)
    );
}

/// Returns a document of JSON.
pub(super) fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"))
}
