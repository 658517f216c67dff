//! Tests of the engines that are external programs, with a runner that imitates them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use chrono::DateTime;
use serde_json::{Value, json};

use super::*;
use crate::command::{
    CapturedOutput, CommandError, ProgramCommand, ProgramOutput, ProgramStatus, Runner,
};
use crate::credentials::Credential;
use crate::model::{Repository, RepositoryPath, Secret, Variables};

mod builders;
mod credentials;
mod failures;

const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A runner that imitates the programs and records their calls.
#[derive(Default)]
struct FakeRunner {
    calls: Mutex<Vec<RecordedCall>>,
    /// Commands that were started without waiting for them.
    detached: Mutex<Vec<ProgramCommand>>,
    /// Installed programs.
    programs: Vec<&'static str>,
    /// Start of a command line that fails, its exit code and its error output.
    failing: Option<(&'static str, i32, &'static str)>,
    /// Output of `docker buildx inspect`.
    inspected: &'static str,
    /// Output of `docker version` for the client.
    client: &'static str,
    /// Output of `manifest annotate --help`.
    help: &'static str,
    /// If true, no digest is written.
    writes_no_digest: bool,
    /// Part of a command line that never ends.
    hangs_at: Option<&'static str>,
}

/// A call, with the files that the program could read.
#[derive(Clone, Debug)]
struct RecordedCall {
    line: String,
    arguments: Vec<String>,
    environment: Variables,
    docker: Value,
    containers: Value,
    dockerfile: Option<String>,
    registries: Option<String>,
    private: PathBuf,
}

#[async_trait]
impl Runner for FakeRunner {
    async fn run(&self, command: ProgramCommand) -> Result<ProgramOutput, CommandError> {
        if !self.programs.contains(&command.program.as_str()) {
            let source = std::io::ErrorKind::NotFound.into();
            return Err(CommandError::Start {
                program: command.program,
                source,
            });
        }
        let line = format!("{} {}", command.program, command.arguments.join(" "));
        let variable = |name: &str| command.environment.get(name).map(PathBuf::from);
        let json = |file: PathBuf| {
            serde_json::from_slice(&fs::read(file).unwrap_or_default()).unwrap_or_default()
        };
        let option = |name: &str| {
            command
                .arguments
                .iter()
                .find_map(|argument| argument.strip_prefix(name)?.strip_prefix('='))
        };
        let private = variable("DOCKER_CONFIG")
            .and_then(|directory| Some(directory.parent()?.to_owned()))
            .unwrap_or_default();
        self.calls.lock().expect("no panic").push(RecordedCall {
            line: line.clone(),
            arguments: command.arguments.clone(),
            docker: json(private.join("docker/config.json")),
            containers: json(variable("REGISTRY_AUTH_FILE").unwrap_or_default()),
            dockerfile: option("--file")
                .map(|file| fs::read_to_string(file).expect("the Dockerfile")),
            registries: variable("CONTAINERS_REGISTRIES_CONF")
                .and_then(|file| fs::read_to_string(file).ok()),
            environment: command.environment.clone(),
            private,
        });
        if self.hangs_at.is_some_and(|at| line.contains(at)) {
            std::future::pending::<()>().await;
        }
        let captured = |text: &str| CapturedOutput {
            bytes: text.as_bytes().to_vec(),
            omitted: 0,
        };
        if let Some((begin, code, stderr)) = self.failing
            && line.starts_with(begin)
        {
            return Ok(ProgramOutput {
                status: ProgramStatus::Exited(code),
                stdout: CapturedOutput::default(),
                stderr: captured(stderr),
            });
        }
        let stdout = match line.as_str() {
            "docker buildx version" => "github.com/docker/buildx 0.29.1+ds1 0.29.1\n".to_owned(),
            "docker version --format {{.Client.Version}}" => self.client.to_owned(),
            line if line.starts_with("docker buildx inspect") => self.inspected.to_owned(),
            "buildah manifest annotate --help" => self.help.to_owned(),
            line if line.starts_with("docker push") => {
                format!("The push refers to\n1.0-core1: digest: {DIGEST} size: 943\n")
            }
            _ => String::new(),
        };
        if !self.writes_no_digest {
            if let Some(file) = option("--metadata-file") {
                fs::write(file, json!({ "containerimage.digest": DIGEST }).to_string())
                    .expect("a written file");
            }
            if let Some(file) = option("--digestfile") {
                fs::write(file, DIGEST).expect("a written file");
            }
        }
        Ok(ProgramOutput {
            status: ProgramStatus::Exited(0),
            stdout: captured(&stdout),
            stderr: CapturedOutput::default(),
        })
    }

    fn spawn_detached(&self, command: ProgramCommand) {
        self.detached.lock().expect("no panic").push(command);
    }
}

fn recorder() -> FakeRunner {
    FakeRunner {
        programs: vec!["docker", "buildah", "podman"],
        client: "28.5.2",
        inspected: "Driver: docker\n",
        ..FakeRunner::default()
    }
}

/// Returns a credential for all repositories of a host.
fn whole(host: &str, credential: Credential) -> HostCredential {
    HostCredential {
        host: host.parse().expect("a host"),
        path: None,
        credential,
    }
}

/// A home directory with a docker configuration, and engines that use it.
struct TestBench {
    runner: Arc<FakeRunner>,
    home: tempfile::TempDir,
    engines: Vec<Arc<dyn Engine>>,
}

const CONFIG: &str = r#"{"auths":{"other.example":{"auth":"b3RoZXI6aHVudGVyMg=="}},"credsStore":"desktop",
    "credHelpers":{"r.example:5000":"mine","gcr.io":"gcloud"},"currentContext":"remote","proxies":{"default":{}}}"#;

impl TestBench {
    fn new(runner: FakeRunner, more: &[(&str, &str)], builder: Option<&str>) -> TestBench {
        TestBench::with(runner, more, builder, None)
    }

    fn with(
        runner: FakeRunner,
        more: &[(&str, &str)],
        builder: Option<&str>,
        own: Option<BuildxBuilder>,
    ) -> TestBench {
        let home = tempfile::tempdir().expect("a directory");
        let docker = home.path().join(".docker");
        fs::create_dir_all(docker.join("cli-plugins")).expect("a directory");
        fs::create_dir_all(docker.join("contexts/meta")).expect("a directory");
        fs::write(docker.join("config.json"), CONFIG).expect("a file");
        fs::create_dir(home.path().join("tmp")).expect("a directory");
        let path = home.path().display().to_string();
        let mut variables: Variables = [
            ("HOME", path.as_str()),
            ("TMPDIR", &format!("{path}/tmp")),
            ("PATH", "/usr/bin"),
        ]
        .into_iter()
        .chain([
            ("IMGLIFE_R_EXAMPLE_5000_PASSWORD", "s3cret"),
            ("DOCKER_AUTH_CONFIG", "{}"),
            ("API_TOKEN", "hunter2"),
        ])
        .collect();
        for (name, value) in more {
            variables.set(*name, *value);
        }
        let runner = Arc::new(runner);
        let credential = Credential::Basic {
            username: "alice".to_owned(),
            password: Secret::new("s3cret"),
        };
        let engines = Programs {
            runner: Arc::clone(&runner) as Arc<dyn Runner>,
            variables,
            credentials: vec![whole("r.example:5000", credential)],
            insecure: ["r.example:5000".parse().expect("a host")].into(),
            builder: builder.map(str::to_owned),
            own_builder: own,
        };
        TestBench {
            runner,
            home,
            engines: engines.engines(),
        }
    }

    fn engine(&self, name: EngineName) -> &dyn Engine {
        &**self
            .engines
            .iter()
            .find(|engine| engine.name() == name)
            .expect("all programs are there")
    }

    async fn build(
        &self,
        name: EngineName,
        request: &BuildRequest,
    ) -> Result<BuildOutcome, EngineError> {
        self.engine(name).build(request).await
    }

    fn calls(&self) -> Vec<RecordedCall> {
        self.runner.calls.lock().expect("no panic").clone()
    }

    /// Returns the command lines of all calls, without random names.
    fn lines(&self) -> Vec<String> {
        let shown = |call: &RecordedCall| {
            let line = without_random_names(&call.line.replace('\n', "\\n"));
            // Disposal commands have no session directory.
            match call.private.to_str().filter(|private| !private.is_empty()) {
                Some(private) => line.replace(private, "PRIVATE"),
                None => line,
            }
        };
        self.calls().iter().map(shown).collect()
    }

    fn private_directories(&self) -> usize {
        fs::read_dir(self.home.path().join("tmp"))
            .expect("a directory")
            .count()
    }
}

fn without_random_names(line: &str) -> String {
    match line.find("localhost/imglife-") {
        None => line.to_owned(),
        Some(start) => {
            let name = &line[start.."localhost/imglife-".len() + start + 16];
            line.replace(name, "NAME")
        }
    }
}

fn request(platforms: &[&str]) -> BuildRequest {
    let texts = |pairs: &[(&str, &str)]| {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    };
    BuildRequest {
        repository: "r.example:5000/base/alpine".parse().expect("a repository"),
        tag: "1.0-core1".parse().expect("a tag"),
        dockerfile: "FROM r.example:5000/mirror/alpine:1.0\nUSER 1\n".to_owned(),
        dockerfile_name: "images/alpine/Dockerfile.tmpl".to_owned(),
        context: PathBuf::from("/images/alpine"),
        base: "r.example:5000/mirror/alpine:1.0"
            .parse()
            .expect("an image"),
        platforms: platforms
            .iter()
            .map(|platform| platform.parse().expect("a platform"))
            .collect(),
        arguments: texts(&[("TEXT", "one\ntwo, \"three\"")]),
        labels: texts(&[("org.example.a", "b=c, d")]),
        annotations: texts(&[("org.example.n", "m")]),
        attestations: Attestations::default(),
        created: DateTime::from_timestamp(1_700_000_000, 0).expect("a time"),
    }
}

fn built() -> BuildOutcome {
    BuildOutcome {
        digest: DIGEST.parse().expect("a digest"),
        warnings: Vec::new(),
    }
}

const ONE: &[&str] = &["linux/amd64"];
const TWO: &[&str] = &["linux/amd64", "linux/arm/v7"];

#[tokio::test]
async fn buildx_reports_the_digest_of_its_metadata_file() {
    let bench = TestBench::new(recorder(), &[], Some("big"));
    let mut request = request(TWO);
    request.attestations = Attestations {
        sbom: true,
        provenance: Provenance::Max,
    };
    assert_eq!(
        bench
            .build(EngineName::Buildx, &request)
            .await
            .expect("it is built"),
        built()
    );
    insta::assert_snapshot!(bench.lines().join("\n"), @r#"
    docker buildx version
    docker buildx build --progress=plain --no-cache --builder=big --platform=linux/amd64,linux/arm/v7 --file=PRIVATE/Dockerfile --provenance=mode=max --sbom=true --metadata-file=PRIVATE/metadata.json --output=type=image,name=r.example:5000/base/alpine:1.0-core1,push=true,oci-mediatypes=true,rewrite-timestamp=true,unpack=false,store=false,registry.insecure=true --build-arg TEXT=one\ntwo, "three" --label org.example.a=b=c, d --annotation index,manifest:org.example.n=m /images/alpine
    "#);
    let call = bench.calls().pop().expect("a call");
    assert_eq!(
        call.dockerfile.as_deref(),
        Some(request.dockerfile.as_str())
    );
    assert_eq!(
        call.environment.get("SOURCE_DATE_EPOCH"),
        Some("1700000000")
    );
    assert!(
        call.arguments
            .contains(&"TEXT=one\ntwo, \"three\"".to_owned())
    );
    assert_eq!(bench.private_directories(), 0);
}

#[tokio::test]
async fn buildx_annotates_only_the_manifest_of_a_single_image() {
    let bench = TestBench::new(recorder(), &[], None);
    bench
        .build(EngineName::Buildx, &request(ONE))
        .await
        .expect("it is built");
    let call = bench.calls().pop().expect("a call");
    assert!(
        call.line.contains("--annotation manifest:org.example.n=m ")
            && call.line.contains("--provenance=false --sbom=false")
    );
}

#[tokio::test]
async fn remote_buildkit_gets_a_builder_in_the_session_directory() {
    let address = [("BUILDKITD_ADDR", "tcp://buildkit:1234")];
    let bench = TestBench::new(recorder(), &address, None);
    bench
        .build(EngineName::Buildx, &request(ONE))
        .await
        .expect("it is built");
    assert_eq!(
        bench.lines()[1],
        "docker buildx create --name imglife --driver remote tcp://buildkit:1234"
    );
    let call = bench.calls().pop().expect("a call");
    assert!(
        call.arguments.contains(&"--builder=imglife".to_owned()),
        "{}",
        call.line
    );
    assert_eq!(
        call.environment.get("BUILDX_CONFIG"),
        call.private.join("buildx").to_str()
    );
    let bench = TestBench::new(recorder(), &address, Some("mine"));
    bench
        .build(EngineName::Buildx, &request(ONE))
        .await
        .expect("it is built");
    assert!(
        bench.lines()[1].contains("--builder=mine"),
        "a configured builder takes precedence"
    );
}

#[tokio::test]
async fn docker_builds_pushes_and_removes_the_image() {
    let bench = TestBench::new(recorder(), &[], None);
    assert_eq!(
        bench
            .build(EngineName::Docker, &request(ONE))
            .await
            .expect("it is built"),
        built()
    );
    insta::assert_snapshot!(bench.lines().join("\n"), @r#"
    docker version --format {{.Client.Version}}
    docker build --no-cache --platform=linux/amd64 --file=PRIVATE/Dockerfile --tag=r.example:5000/base/alpine:1.0-core1 --build-arg TEXT=one\ntwo, "three" --label org.example.a=b=c, d /images/alpine
    docker push r.example:5000/base/alpine:1.0-core1
    docker image rm r.example:5000/base/alpine:1.0-core1
    "#);
    assert_eq!(
        bench.calls()[1].environment.get("DOCKER_BUILDKIT"),
        None,
        "it fails without buildx"
    );
    assert_eq!(bench.private_directories(), 0);
    for (client, set, expected) in [
        ("20.10.24+dfsg1", None, Some("1")),
        ("20.10.24", Some("0"), Some("0")),
        ("23.0.1", Some("1"), Some("1")),
    ] {
        let more: Vec<_> = set
            .map(|value| ("DOCKER_BUILDKIT", value))
            .into_iter()
            .collect();
        let bench = TestBench::new(
            FakeRunner {
                client,
                ..recorder()
            },
            &more,
            None,
        );
        bench
            .build(EngineName::Docker, &request(ONE))
            .await
            .expect("it is built");
        assert_eq!(
            bench.calls()[1].environment.get("DOCKER_BUILDKIT"),
            expected,
            "{client}"
        );
    }
}

#[tokio::test]
async fn buildah_pushes_an_image_or_an_index() {
    let bench = TestBench::new(recorder(), &[], None);
    assert_eq!(
        bench
            .build(EngineName::Buildah, &request(ONE))
            .await
            .expect("it is built"),
        built()
    );
    insta::assert_snapshot!(bench.lines().join("\n"), @r#"
    buildah build --format=oci --layers=false --no-cache --timestamp=1700000000 --platform=linux/amd64 --file=PRIVATE/Dockerfile --tag=NAME:linux-amd64 --build-arg TEXT=one\ntwo, "three" --label org.example.a=b=c, d --annotation org.example.n=m /images/alpine
    buildah push --digestfile=PRIVATE/digest --tls-verify=false NAME:linux-amd64 docker://r.example:5000/base/alpine:1.0-core1
    buildah rmi --force NAME:linux-amd64
    "#);
    let bench = TestBench::new(recorder(), &[], None);
    assert_eq!(
        bench
            .build(EngineName::Podman, &request(TWO))
            .await
            .expect("it is built"),
        built()
    );
    insta::assert_snapshot!(bench.lines().join("\n"), @r#"
    podman build --format=oci --layers=false --no-cache --timestamp=1700000000 --platform=linux/amd64 --file=PRIVATE/Dockerfile --tag=NAME:linux-amd64 --build-arg TEXT=one\ntwo, "three" --label org.example.a=b=c, d --annotation org.example.n=m /images/alpine
    podman build --format=oci --layers=false --no-cache --timestamp=1700000000 --platform=linux/arm/v7 --file=PRIVATE/Dockerfile --tag=NAME:linux-arm-v7 --build-arg TEXT=one\ntwo, "three" --label org.example.a=b=c, d --annotation org.example.n=m /images/alpine
    podman manifest create NAME:index
    podman manifest add NAME:index containers-storage:NAME:linux-amd64
    podman manifest add NAME:index containers-storage:NAME:linux-arm-v7
    podman manifest annotate --help
    podman manifest push --all --format=oci --digestfile=PRIVATE/digest --tls-verify=false NAME:index docker://r.example:5000/base/alpine:1.0-core1
    podman manifest rm NAME:index
    podman rmi --force NAME:linux-arm-v7
    podman rmi --force NAME:linux-amd64
    "#);
    assert_eq!(bench.private_directories(), 0);
    assert!(bench.runner.detached.lock().expect("no panic").is_empty());
}

#[tokio::test]
async fn buildah_annotates_the_index_if_supported() {
    let bench = TestBench::new(
        FakeRunner {
            help: "--index  set annotations for the index itself",
            ..recorder()
        },
        &[],
        None,
    );
    let mut request = request(TWO);
    request
        .annotations
        .insert("org.example.o".to_owned(), "a, \"b\"".to_owned());
    bench
        .build(EngineName::Buildah, &request)
        .await
        .expect("it is built");
    let calls = bench.calls();
    let call = calls
        .iter()
        .find(|call| call.line.contains("annotate --index"))
        .expect("a call");
    assert_eq!(
        call.arguments[3..7],
        [
            "--annotation",
            "\"org.example.n=m\"",
            "--annotation",
            "\"org.example.o=a, \"\"b\"\"\""
        ]
    );
}

#[test]
fn programs_returns_the_engines_in_order() {
    let names: Vec<EngineName> = TestBench::new(recorder(), &[], None)
        .engines
        .iter()
        .map(|engine| engine.name())
        .collect();
    assert_eq!(names, EngineName::PROGRAMS);
    let tags: BTreeMap<String, String> = [("a".to_owned(), "b=c".to_owned())].into();
    assert_eq!(program::pairs("--label", &tags), ["--label", "a=b=c"]);
}
