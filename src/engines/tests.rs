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

#[tokio::test]
async fn programs_see_the_credentials_and_the_users_docker_configuration() {
    let bench = TestBench::new(recorder(), &[("DOCKER_TLS_VERIFY", "1")], None);
    let before = fs::read(bench.home.path().join(".docker/config.json")).expect("a file");
    for engine in EngineName::PROGRAMS {
        bench
            .build(engine, &request(ONE))
            .await
            .expect("it is built");
    }
    // alice:s3cret
    let auths = json!({ "r.example:5000": { "auth": "YWxpY2U6czNjcmV0" } });
    let calls = bench.calls();
    for call in calls
        .iter()
        .filter(|call| call.private.is_absolute() && !call.line.contains(" rm"))
    {
        let (docker, containers) = (&call.docker, &call.containers);
        assert_eq!(
            (&docker["auths"], &containers["auths"]),
            (&auths, &auths),
            "{}",
            call.line
        );
        assert_eq!(docker["credsStore"], "desktop");
        // Without the empty helper name, docker would use the credential store.
        assert_eq!(
            docker["credHelpers"],
            json!({ "gcr.io": "gcloud", "r.example:5000": "" })
        );
        assert_eq!(containers["credHelpers"], json!({ "gcr.io": "gcloud" }));
        assert_eq!(
            (&docker["currentContext"], &docker["proxies"]),
            (&json!("remote"), &json!({ "default": {} }))
        );
        let docker = bench.home.path().join(".docker");
        assert_eq!(
            call.environment.get("BUILDX_CONFIG"),
            docker.join("buildx").to_str()
        );
        assert_eq!(call.environment.get("DOCKER_CERT_PATH"), docker.to_str());
        assert_eq!(
            call.environment.get("API_TOKEN"),
            Some("hunter2"),
            "a credential helper may need it"
        );
        for gone in ["DOCKER_AUTH_CONFIG", "IMGLIFE_R_EXAMPLE_5000_PASSWORD"] {
            assert_eq!(call.environment.get(gone), None);
        }
        assert!(
            !call.arguments.iter().any(
                |argument| argument.contains("s3cret") || argument.contains("YWxpY2U6czNjcmV0")
            )
        );
    }
    assert!(
        calls
            .iter()
            .filter(|call| call.line.contains(" push "))
            .count()
            >= 3
    );
    assert_eq!(
        fs::read(bench.home.path().join(".docker/config.json")).expect("a file"),
        before
    );
    assert!(!bench.home.path().join(".docker/buildx").exists());
}

#[test]
fn private_config_keeps_plugins_and_is_readable_only_by_the_user() {
    let home = tempfile::tempdir().expect("a directory");
    let docker = home.path().join(".docker");
    fs::create_dir_all(docker.join("cli-plugins")).expect("a directory");
    fs::write(docker.join("cli-plugins/docker-buildx"), "").expect("a file");
    let path = home.path().to_str().expect("text");
    let variables: Variables = [("HOME", path), ("TMPDIR", path)].into_iter().collect();
    let token = |text: &str| Credential::RefreshToken {
        token: Secret::new(text),
    };
    let credentials = [
        whole("docker.io", token("one")),
        whole("a.example", Credential::Anonymous),
    ];
    let config = PrivateConfig::create(&variables, &credentials).expect("a configuration");
    let mode = |path: &Path| fs::metadata(path).expect("a file").permissions().mode() & 0o777;
    let environment = config.environment(&variables);
    let of = |name: &str| PathBuf::from(environment.get(name).expect("it is set"));
    let (docker, containers) = (of("DOCKER_CONFIG"), of("REGISTRY_AUTH_FILE"));
    assert_eq!(
        (
            mode(config.path()),
            mode(&docker.join("config.json")),
            mode(&containers)
        ),
        (0o700, 0o600, 0o600)
    );
    assert!(docker.join("cli-plugins/docker-buildx").exists());
    // `<token>:`
    let entry = json!({ "auth": "PHRva2VuPjo=", "identitytoken": "one" });
    let read = |file: &Path| {
        serde_json::from_slice::<Value>(&fs::read(file).expect("a file")).expect("JSON")
    };
    assert_eq!(
        read(&docker.join("config.json"))["auths"],
        json!({ "https://index.docker.io/v1/": entry })
    );
    assert_eq!(read(&containers)["auths"], json!({ "docker.io": entry }));
    let private = config.path().to_owned();
    drop(config);
    assert!(
        !private.exists()
            && home
                .path()
                .join(".docker/cli-plugins/docker-buildx")
                .exists()
    );
    fs::write(home.path().join(".docker/config.json"), "{hunter2").expect("a file");
    let error = PrivateConfig::create(&variables, &[])
        .expect_err("malformed")
        .to_string();
    assert!(
        error.ends_with("config.json is not a docker configuration file (JSON)"),
        "{error}"
    );
}

#[test]
fn private_config_finds_the_certificates_of_a_docker_service() {
    let directory = tempfile::tempdir().expect("a directory");
    let client = directory.path().join("client");
    let path = directory.path().to_str().expect("text");
    let variables: Variables = [
        ("HOME", path),
        ("TMPDIR", path),
        ("DOCKER_TLS_CERTDIR", path),
        ("DOCKER_HOST", "tcp://docker:2376"),
    ]
    .into_iter()
    .collect();
    let config = PrivateConfig::create(&variables, &[]).expect("a configuration");
    assert_eq!(
        config.environment(&variables).get("DOCKER_TLS_VERIFY"),
        None
    );
    fs::create_dir(&client).expect("a directory");
    for file in ["ca.pem", "cert.pem", "key.pem"] {
        fs::write(client.join(file), "").expect("a file");
    }
    let environment = config.environment(&variables);
    assert_eq!(
        (
            environment.get("DOCKER_TLS_VERIFY"),
            environment.get("DOCKER_CERT_PATH")
        ),
        (Some("1"), client.to_str())
    );
}

#[tokio::test]
async fn buildah_gets_a_registries_conf_with_insecure_hosts() {
    let bench = TestBench::new(recorder(), &[], None);
    let own = bench.home.path().join(".config/containers");
    fs::create_dir_all(&own).expect("a directory");
    fs::write(
        own.join("registries.conf"),
        "short-name-mode = \"enforcing\"\n",
    )
    .expect("a file");
    bench
        .build(EngineName::Buildah, &request(ONE))
        .await
        .expect("it is built");
    let registries = "short-name-mode = \"enforcing\"\n\n[[registry]]\nlocation = \"r.example:5000\"\ninsecure = true\n";
    assert_eq!(bench.calls()[0].registries.as_deref(), Some(registries));
}

#[tokio::test]
async fn available_reports_missing_programs_with_a_hint() {
    let bench = TestBench::new(
        FakeRunner {
            programs: Vec::new(),
            ..recorder()
        },
        &[],
        None,
    );
    for engine in EngineName::PROGRAMS {
        let error = bench
            .engine(engine)
            .available()
            .await
            .expect_err("not installed");
        assert!(
            error
                .to_string()
                .ends_with("is not installed or not on PATH")
                && error.hint.is_some(),
            "{error}"
        );
    }
    let buildx = |runner: FakeRunner| async {
        let error = TestBench::new(runner, &[], None)
            .engine(EngineName::Buildx)
            .available()
            .await
            .expect_err("not available");
        (error.to_string(), error.hint.unwrap_or_default())
    };
    let failing = Some((
        "docker buildx version",
        1,
        "docker: unknown command: docker buildx\n",
    ));
    let (error, hint) = buildx(FakeRunner {
        failing,
        ..recorder()
    })
    .await;
    assert_eq!(
        error,
        "buildx: `docker buildx version` failed with exit code 1: docker: unknown command: docker buildx"
    );
    assert!(
        hint.starts_with("install the docker plugin buildx"),
        "{hint}"
    );
    let inspected = "Name: default\nError:   Cannot connect to the Docker daemon\n";
    let (error, hint) = buildx(FakeRunner {
        inspected,
        ..recorder()
    })
    .await;
    assert_eq!(
        error,
        "buildx: the builder cannot be used: Cannot connect to the Docker daemon"
    );
    assert!(hint.contains("IMGLIFE_BUILDER"), "{hint}");
    for engine in EngineName::PROGRAMS {
        TestBench::new(recorder(), &[], None)
            .engine(engine)
            .available()
            .await
            .expect("available");
    }
}

#[tokio::test]
async fn unsupported_requests_are_rejected_before_a_program_runs() {
    let bench = TestBench::new(recorder(), &[], None);
    let mut with_sbom = request(ONE);
    with_sbom.attestations.sbom = true;
    for engine in [EngineName::Buildah, EngineName::Podman, EngineName::Docker] {
        let error = bench.build(engine, &with_sbom).await.expect_err("no SBOM");
        assert_eq!(
            error.to_string(),
            format!("{engine}: the engine supports neither `sbom` nor `provenance`")
        );
    }
    let error = bench
        .build(EngineName::Docker, &request(TWO))
        .await
        .expect_err("two platforms");
    assert_eq!(
        error.to_string(),
        "docker: the engine builds for only one platform"
    );
    assert!(bench.calls().is_empty());
}

#[tokio::test]
async fn failed_build_has_a_masked_log_and_a_hint() {
    let log = "STEP 1\nlogged in with s3cret or YWxpY2U6czNjcmV0\n\u{1b}[31mexec /bin/sh: exec format error\nError: building with hunter2\n";
    let bench = TestBench::new(
        FakeRunner {
            failing: Some(("buildah build", 125, log)),
            ..recorder()
        },
        &[],
        None,
    );
    let error = bench
        .build(EngineName::Buildah, &request(ONE))
        .await
        .expect_err("it failed");
    assert_eq!(
        error.to_string(),
        "buildah: `buildah build` failed with exit code 125: Error: building with ***"
    );
    assert_eq!(
        error.log,
        "STEP 1\nlogged in with *** or ***\n\\u{1b}[31mexec /bin/sh: exec format error\nError: building with ***"
    );
    assert!(
        error
            .hint
            .as_deref()
            .is_some_and(|hint| hint.contains("qemu-user-static")),
        "{:?}",
        error.hint
    );
    assert_eq!(
        without_random_names(&bench.calls()[1].line),
        "buildah rmi --force NAME:linux-amd64",
        "temporary resources are removed"
    );
    assert_eq!(bench.private_directories(), 0);
}

#[tokio::test]
async fn common_failures_have_a_hint() {
    let multi = "ERROR: failed to build: Attestation is not supported for the docker driver.\nSwitch to a different driver\n";
    for (engine, failing, expected) in [
        (
            EngineName::Buildx,
            ("docker buildx build", 1, multi),
            "docker buildx create",
        ),
        (
            EngineName::Docker,
            ("docker push", 1, "no basic auth credentials\n"),
            "check that the credentials for r.example:5000",
        ),
        (
            EngineName::Docker,
            (
                "docker push",
                1,
                "http: server gave HTTP response to HTTPS client\n",
            ),
            "insecure-registries",
        ),
        (
            EngineName::Podman,
            ("podman build", 1, "unshare: Operation not permitted\n"),
            "BUILDAH_ISOLATION=chroot",
        ),
    ] {
        let bench = TestBench::new(
            FakeRunner {
                failing: Some(failing),
                ..recorder()
            },
            &[],
            None,
        );
        let error = bench
            .build(engine, &request(ONE))
            .await
            .expect_err("it failed");
        assert!(
            error
                .hint
                .as_deref()
                .is_some_and(|hint| hint.contains(expected)),
            "{error}: {:?}",
            error.hint
        );
    }
}

#[tokio::test]
async fn build_fails_without_a_reported_digest() {
    for engine in [EngineName::Buildx, EngineName::Buildah] {
        let bench = TestBench::new(
            FakeRunner {
                writes_no_digest: true,
                ..recorder()
            },
            &[],
            None,
        );
        let error = bench
            .build(engine, &request(TWO))
            .await
            .expect_err("no digest");
        assert_eq!(
            error.to_string(),
            format!("{engine}: the engine succeeded but did not report the pushed digest")
        );
    }
}

#[tokio::test]
async fn dropped_build_starts_the_disposal_commands() {
    for (engine, at, disposals) in [
        (
            EngineName::Podman,
            "manifest push",
            vec![
                "manifest rm NAME:index",
                "rmi --force NAME:linux-arm-v7",
                "rmi --force NAME:linux-amd64",
            ],
        ),
        (
            EngineName::Docker,
            "docker push",
            vec!["image rm r.example:5000/base/alpine:1.0-core1"],
        ),
    ] {
        let bench = TestBench::new(
            FakeRunner {
                hangs_at: Some(at),
                ..recorder()
            },
            &[],
            None,
        );
        let request = request(if engine == EngineName::Docker {
            ONE
        } else {
            TWO
        });
        let run = bench.build(engine, &request);
        assert!(
            tokio::time::timeout(std::time::Duration::from_millis(200), run)
                .await
                .is_err()
        );
        let commands = bench.runner.detached.lock().expect("no panic").clone();
        let lines: Vec<String> = commands
            .iter()
            .map(|command| without_random_names(&command.arguments.join(" ")))
            .collect();
        assert_eq!(lines, disposals);
        assert!(
            commands
                .iter()
                .all(|command| command.environment.get("DOCKER_CONFIG").is_none())
        );
        assert_eq!(bench.private_directories(), 0);
    }
}

#[tokio::test]
async fn bearer_tokens_are_supported_only_by_docker() {
    let bench = TestBench::new(recorder(), &[], None);
    let variables: Variables = [("HOME", bench.home.path().to_str().expect("text"))]
        .into_iter()
        .collect();
    let engines = |runner: &Arc<FakeRunner>| {
        let credential = whole(
            "r.example:5000",
            Credential::Bearer {
                token: Secret::new("bearer"),
            },
        );
        let runner = Arc::clone(runner) as Arc<dyn Runner>;
        Programs {
            runner,
            variables: variables.clone(),
            credentials: vec![credential],
            insecure: BTreeSet::new(),
            builder: None,
            own_builder: None,
        }
        .engines()
    };
    for engine in engines(&bench.runner) {
        let built = engine.build(&request(ONE)).await;
        match engine.name() {
            EngineName::Buildx | EngineName::Docker => drop(built.expect("it is built")),
            name => {
                let error = built.expect_err("no bearer token").to_string();
                assert_eq!(
                    error,
                    format!(
                        "{name}: the engine does not support the bearer token that is configured for r.example:5000"
                    )
                );
            }
        }
    }
    assert_eq!(
        bench.calls()[1].docker["auths"],
        json!({ "r.example:5000": { "registrytoken": "bearer" } })
    );
}

#[tokio::test]
async fn credentials_of_repositories_are_passed_by_path_or_by_precedence() {
    let bench = TestBench::new(recorder(), &[], None);
    let variables: Variables = [("HOME", bench.home.path().to_str().expect("text"))]
        .into_iter()
        .collect();
    let request = request(ONE);
    let path = |repository: &Repository| match repository {
        Repository::Remote { path, .. } => path.clone(),
        Repository::Layout { .. } => panic!("a registry"),
    };
    let (pushed, base) = (path(&request.repository), path(&request.base.repository));
    let credential = |path: &RepositoryPath, name: &str| {
        let credential = Credential::Basic {
            username: name.to_owned(),
            password: Secret::new("p"),
        };
        HostCredential {
            path: Some(path.clone()),
            ..whole("r.example:5000", credential)
        }
    };
    let credentials = vec![
        credential(&base, "m"),
        credential(&"apps/other".parse().expect("a path"), "o"),
        credential(&pushed, "b"),
    ];
    let runner = Arc::clone(&bench.runner) as Arc<dyn Runner>;
    for engine in (Programs {
        runner,
        variables,
        credentials,
        insecure: BTreeSet::new(),
        builder: None,
        own_builder: None,
    })
    .engines()
    {
        drop(engine.build(&request).await.expect("it is built"));
    }
    let (m, o, b) = (
        json!({ "auth": "bTpw" }),
        json!({ "auth": "bzpw" }),
        json!({ "auth": "Yjpw" }),
    );
    for call in bench
        .calls()
        .iter()
        .filter(|call| call.line.contains("build "))
    {
        let keyed = json!({ format!("r.example:5000/{base}"): m, "r.example:5000/apps/other": o, format!("r.example:5000/{pushed}"): b });
        assert_eq!(
            (&call.docker["auths"], &call.containers["auths"]),
            (&json!({ "r.example:5000": b }), &keyed),
            "{}",
            call.line
        );
    }
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

fn calls(bench: &TestBench) -> Vec<RecordedCall> {
    bench.runner.calls.lock().expect("no panic").clone()
}

fn lines(bench: &TestBench) -> Vec<String> {
    calls(bench).into_iter().map(|call| call.line).collect()
}

#[tokio::test]
async fn buildx_creates_one_builder_for_all_builds_and_removes_it() {
    let own = BuildxBuilder {
        image: Some("r.example/buildkit:1".to_owned()),
        nodes: vec!["linux/arm64=ssh://ci@arm".parse().expect("a node")],
        emulators: Some("r.example/binfmt:1".to_owned()),
        keep: false,
        authorities: [(
            "own.example".parse().expect("a host"),
            "/etc/own \"ca\".pem".into(),
        )]
        .into(),
    };
    let bench = TestBench::with(recorder(), &[], None, Some(own));
    bench
        .build(EngineName::Buildx, &request(&["linux/amd64"]))
        .await
        .expect("it builds");
    bench
        .build(EngineName::Buildx, &request(&["linux/amd64"]))
        .await
        .expect("it builds again");
    bench.engine(EngineName::Buildx).close().await;
    let lines = lines(&bench);
    let created: Vec<&String> = lines
        .iter()
        .filter(|line| line.starts_with("docker buildx create"))
        .collect();
    let [first, node] = created.as_slice() else {
        panic!("{lines:#?}")
    };
    let name = first
        .split(' ')
        .find(|word| word.starts_with("imglife-"))
        .expect("a random name");
    for part in [
        "--bootstrap",
        "--driver docker-container",
        "--driver-opt=network=host",
        "--driver-opt=image=r.example/buildkit:1",
    ] {
        assert!(first.contains(part), "{first}");
    }
    assert!(
        node.contains(&format!("--append --name {name}"))
            && node.ends_with("--platform=linux/arm64 ssh://ci@arm"),
        "{node}"
    );
    assert_eq!(
        lines
            .iter()
            .filter(|line| line.contains(&format!(
                "buildx build --progress=plain --no-cache --builder={name} "
            )))
            .count(),
        2
    );
    assert_eq!(
        lines
            .iter()
            .filter(|line| line
                .starts_with("docker run --privileged --rm r.example/binfmt:1 --install all"))
            .count(),
        1
    );
    assert_eq!(
        lines.last().map(String::as_str),
        Some(format!("docker buildx rm {name}").as_str())
    );
    let call = calls(&bench)
        .into_iter()
        .find(|call| call.line.starts_with("docker buildx create"))
        .expect("a call");
    assert_eq!(
        call.environment.get("BUILDX_CONFIG").map(PathBuf::from),
        Some(bench.home.path().join(".docker/buildx"))
    );
    assert!(!call.private.exists());
    drop(bench);
}

#[tokio::test]
async fn buildx_uses_an_existing_builder_and_keeps_a_kept_one() {
    let existing = FakeRunner {
        inspected: "Driver: docker-container\n",
        ..recorder()
    };
    let bench = TestBench::with(existing, &[], None, Some(BuildxBuilder::default()));
    bench
        .build(EngineName::Buildx, &request(&["linux/amd64"]))
        .await
        .expect("it builds");
    bench.engine(EngineName::Buildx).close().await;
    assert!(
        !lines(&bench)
            .iter()
            .any(|line| line.contains("create") || line.contains("buildx rm")),
        "{:#?}",
        lines(&bench)
    );

    let kept = BuildxBuilder {
        keep: true,
        ..BuildxBuilder::default()
    };
    let bench = TestBench::with(recorder(), &[], None, Some(kept));
    bench
        .build(EngineName::Buildx, &request(&["linux/amd64"]))
        .await
        .expect("it builds");
    bench.engine(EngineName::Buildx).close().await;
    let lines = lines(&bench);
    assert!(
        lines.iter().any(|line| line.contains("--builder=imglife ")),
        "{lines:#?}"
    );
    assert!(
        !lines.iter().any(|line| line.contains("buildx rm")),
        "{lines:#?}"
    );
}

#[tokio::test]
async fn incomplete_builders_and_those_of_interrupted_runs_are_removed() {
    let broken = FakeRunner {
        failing: Some(("docker buildx create", 1, "ERROR: pull access denied")),
        ..recorder()
    };
    let bench = TestBench::with(broken, &[], None, Some(BuildxBuilder::default()));
    let error = bench
        .build(EngineName::Buildx, &request(&["linux/amd64"]))
        .await
        .expect_err("no builder");
    assert!(
        error
            .hint
            .as_deref()
            .is_some_and(|hint| hint.contains("--builder-image") || hint.contains("credentials")),
        "{error:?}"
    );
    assert!(
        lines(&bench)
            .last()
            .is_some_and(|line| line.starts_with("docker buildx rm --force imglife-")),
        "{:#?}",
        lines(&bench)
    );

    let mut bench = TestBench::with(recorder(), &[], None, Some(BuildxBuilder::default()));
    bench
        .build(EngineName::Buildx, &request(&["linux/amd64"]))
        .await
        .expect("it builds");
    bench.engines.clear();
    let detached = bench.runner.detached.lock().expect("no panic").clone();
    assert!(
        detached.iter().any(|command| command
            .arguments
            .starts_with(&["buildx".to_owned(), "rm".to_owned()])),
        "{detached:?}"
    );
}

#[tokio::test]
async fn engine_with_client_certificates_is_reached_by_a_docker_context() {
    let tls = [
        ("DOCKER_HOST", "tcp://docker:2376"),
        ("DOCKER_TLS_VERIFY", "1"),
        ("DOCKER_CERT_PATH", "/certs/client"),
    ];
    let missing = FakeRunner {
        failing: Some(("docker context inspect", 1, "no such context")),
        ..recorder()
    };
    let bench = TestBench::with(missing, &tls, None, Some(BuildxBuilder::default()));
    bench
        .build(EngineName::Buildx, &request(&["linux/amd64"]))
        .await
        .expect("it builds");
    let lines = lines(&bench);
    let context = "docker context create imglife-engine --docker \
                   host=tcp://docker:2376,ca=/certs/client/ca.pem,cert=/certs/client/cert.pem,key=/certs/client/key.pem";
    assert!(lines.iter().any(|line| line == context), "{lines:#?}");
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with("docker buildx create")
                && line.ends_with(" imglife-engine")),
        "{lines:#?}"
    );
    assert!(!bench.home.path().join(".docker/contexts/meta/x").exists());
}

#[tokio::test]
async fn commands_for_platforms_without_emulator_are_rejected_before_the_build() {
    let only_amd64 = || FakeRunner {
        inspected: "Driver: docker-container\nPlatforms: linux/amd64*, linux/amd64/v2, linux/386\n",
        ..recorder()
    };
    let with = |dockerfile: &str| BuildRequest {
        dockerfile: dockerfile.to_owned(),
        platforms: vec![
            "linux/amd64".parse().expect("a platform"),
            "linux/arm64".parse().expect("a platform"),
        ],
        ..request(&["linux/amd64"])
    };
    let bench = TestBench::new(only_amd64(), &[], None);
    let error = bench
        .build(EngineName::Buildx, &with("FROM a\nRUN x\n"))
        .await
        .expect_err("no emulator");
    assert!(
        error
            .to_string()
            .contains("cannot run programs of linux/arm64"),
        "{error}"
    );
    assert!(
        error
            .hint
            .is_some_and(|hint| hint.contains("tonistiigi/binfmt"))
    );
    assert!(
        !lines(&bench)
            .iter()
            .any(|line| line.contains("buildx build"))
    );
    for fine in [
        "FROM a\nCOPY x /\n",
        "FROM --platform=$BUILDPLATFORM b AS c\nRUN x\nFROM a\nCOPY --from=c x /\n",
    ] {
        bench
            .build(EngineName::Buildx, &with(fine))
            .await
            .expect(fine);
    }
}
