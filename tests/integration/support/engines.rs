//! Build engines that are installed on this machine, and the services that they need for a test: a
//! separate docker engine or BuildKit daemon.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use imglife::engines::EngineName;
use imglife::model::media_type;
use imglife::model::{Digest, Variables};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::images::Graph;
use super::rootfs::small_debian_image;
use super::servers::installed;

/// Container runtime that drops a capability which root may lack on this machine. Privileged
/// containers, such as builders, would request it.
const RUNTIME: &str = r#"#!/bin/sh
before=
for word; do
    case $before in
    --bundle) file=$word/config.json where=.process.capabilities ;;
    --process | -p) file=$word where=.capabilities ;;
    esac
    before=$word
done
if [ -n "${file:-}" ]; then
    fewer=$(jq "if $where then $where |= map_values(map(select(. != \"CAP_SYS_RESOURCE\"))) else . end" "$file") && printf '%s' "$fewer" > "$file"
fi
exec runc "$@"
"#;

/// Time limit for the start of a service.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// An engine that is ready for a test.
pub(crate) struct TestEngine {
    pub(crate) name: EngineName,
    /// True if it can build for several platforms on this machine.
    pub(crate) builds_several: bool,
    service: Option<Service>,
}

/// Returns the engines of this machine and writes their names to the terminal.
///
/// Buildah is always included. Docker is included if the tests run as root, which its engine needs.
/// Podman and buildx are included if they are installed.
pub(crate) fn found(why: &str) -> Vec<TestEngine> {
    let is_root = rustix::process::geteuid().is_root();
    let mut engines = vec![TestEngine {
        name: EngineName::Buildah,
        builds_several: true,
        service: None,
    }];
    let mut missing = Vec::new();
    if is_installed("podman") {
        engines.push(TestEngine {
            name: EngineName::Podman,
            builds_several: true,
            service: None,
        });
    } else {
        missing.push("podman");
    }
    if is_root {
        engines.push(TestEngine {
            name: EngineName::Docker,
            builds_several: false,
            service: Some(Service::docker()),
        });
    } else {
        missing.push("docker (not run as root)");
    }
    match (
        installed("docker-buildx").is_file(),
        installed("buildkitd").is_file(),
        is_root,
    ) {
        (true, true, true) => engines.push(TestEngine {
            name: EngineName::Buildx,
            builds_several: true,
            service: Some(Service::buildkit()),
        }),
        (true, false, true) => engines.push(TestEngine {
            name: EngineName::Buildx,
            builds_several: false,
            service: Some(Service::docker()),
        }),
        _ => missing.push("buildx"),
    }
    let names: Vec<String> = engines
        .iter()
        .map(|engine| engine.name.to_string())
        .collect();
    let missing = if missing.is_empty() {
        String::new()
    } else {
        format!("; not available: {}", missing.join(", "))
    };
    // The print macros are captured and only shown for tests that fail.
    writeln!(
        std::io::stderr(),
        "{why}: with {}{missing}",
        names.join(", ")
    )
    .expect("standard error");
    engines
}

fn is_installed(program: &str) -> bool {
    ["/usr/bin", "/usr/sbin"]
        .iter()
        .any(|directory| Path::new(directory).join(program).is_file())
}

impl TestEngine {
    /// Installs the files that the engine needs in the home directory `home`.
    pub(crate) fn prepare(&self, home: &Path) {
        if self.name == EngineName::Buildx {
            symlink(
                installed("docker-buildx"),
                home.join(".docker/cli-plugins/docker-buildx"),
            )
            .expect("a new link");
        }
    }

    /// Returns the environment variables with the address of the service.
    pub(crate) fn variables(&self) -> Vec<(&'static str, String)> {
        self.service
            .iter()
            .map(|service| (service.variable, service.address()))
            .collect()
    }

    /// Returns the names of images and containers in the engine's storage; `None` for engines
    /// without storage.
    pub(crate) fn leftovers(&self, variables: &Variables) -> Option<String> {
        let commands: &[&[&str]] = match self.name {
            EngineName::Buildah => &[&["buildah", "images"], &["buildah", "containers"]],
            EngineName::Podman => &[
                &["podman", "images"],
                &["podman", "ps", "--all", "--external"],
            ],
            EngineName::Docker => &[&["docker", "images"]],
            EngineName::Buildx | EngineName::Native => return None,
        };
        let listings = commands.iter().map(|command| {
            let output = Command::new(command[0])
                .args(&command[1..])
                .env_clear()
                .envs(variables.iter())
                .output()
                .expect("a list");
            assert!(
                output.status.success(),
                "{}",
                String::from_utf8_lossy(&output.stderr)
            );
            String::from_utf8_lossy(&output.stdout).into_owned()
        });
        Some(listings.collect())
    }
}

/// Returns true if buildx and BuildKit are installed.
pub(crate) fn has_buildkit() -> bool {
    ["docker-buildx", "buildkitd", "buildctl"]
        .iter()
        .all(|program| installed(program).is_file())
}

/// Returns an image of BuildKit, made of the programs of this machine. It replaces
/// `moby/buildkit`.
pub(crate) fn buildkit_image() -> Graph {
    let mut archive = tar::Builder::new(Vec::new());
    let listed = Command::new("ldd")
        .arg("/usr/sbin/runc")
        .output()
        .expect("ldd runs")
        .stdout;
    let listed = String::from_utf8(listed).expect("text");
    let libraries = listed
        .lines()
        .filter_map(|line| line.split_once(" => ")?.1.split(' ').next());
    // Below `usr`, because Debian's `/lib` is a link.
    let inside = |library: &str| {
        format!(
            "usr/{}",
            library.trim_start_matches("/usr").trim_start_matches('/')
        )
    };
    let programs = [
        ("buildkitd", installed("buildkitd")),
        ("buildctl", installed("buildctl")),
        ("runc", "/usr/sbin/runc".into()),
    ];
    let programs = programs
        .into_iter()
        .map(|(name, path)| (format!("usr/bin/{name}"), path));
    for (name, path) in programs.chain(libraries.map(|library| (inside(library), library.into()))) {
        let path = fs::canonicalize(path).expect("a file");
        archive
            .append_path_with_name(path, name)
            .expect("a packed file");
    }
    let layer: Bytes = archive.into_inner().expect("an archive").into();
    let debian = small_debian_image();
    let mut graph = Graph::default();
    let base = debian
        .blobs
        .iter()
        .find(|blob| blob.descriptor.media_type == media_type::OCI_LAYER_GZIP)
        .expect("a layer");
    let config = debian
        .blobs
        .iter()
        .find(|blob| blob.descriptor.media_type == media_type::OCI_CONFIG)
        .expect("a configuration");
    let mut config: Value = serde_json::from_slice(&config.bytes).expect("JSON");
    config["config"]["Entrypoint"] = json!(["buildkitd"]);
    config["rootfs"]["diff_ids"]
        .as_array_mut()
        .expect("layers")
        .push(json!(Digest::sha256(&layer)));
    let layers = [
        graph.blob(media_type::OCI_LAYER_GZIP, base.bytes.clone()),
        graph.blob("application/vnd.oci.image.layer.v1.tar", layer),
    ];
    let config = graph.blob(media_type::OCI_CONFIG, config.to_string());
    let manifest = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": config, "layers": layers });
    let image = graph.manifest(media_type::OCI_MANIFEST, &manifest);
    graph.tag("test", &image);
    graph
}

/// Returns a loopback address that nothing else uses.
pub(crate) fn unused_address() -> Ipv4Addr {
    Ipv4Addr::new(
        127,
        fastrand::u8(1..),
        fastrand::u8(..),
        fastrand::u8(2..250),
    )
}

/// Writes the certificates of a docker engine with the host name `docker` and of its clients, as
/// `docker:dind` does below `/certs`.
fn write_certificates(directory: &Path) {
    let mut parameters = CertificateParams::default();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let authority = parameters.self_signed(&key).expect("a certificate").pem();
    let issuer = Issuer::new(parameters, key);
    for (role, purpose) in [
        ("server", ExtendedKeyUsagePurpose::ServerAuth),
        ("client", ExtendedKeyUsagePurpose::ClientAuth),
    ] {
        let mut parameters = CertificateParams::new(["docker".to_owned()]).expect("a name");
        parameters.extended_key_usages = vec![purpose];
        let key = KeyPair::generate().expect("a key");
        let certificate = parameters
            .signed_by(&key, &issuer)
            .expect("a certificate")
            .pem();
        fs::create_dir_all(directory.join(role)).expect("a new directory");
        for (name, text) in [
            ("ca.pem", &authority),
            ("cert.pem", &certificate),
            ("key.pem", &key.serialize_pem()),
        ] {
            fs::write(directory.join(role).join(name), text).expect("a written file");
        }
    }
}

/// A docker engine or BuildKit daemon that listens on a socket in its own directory. It stops when
/// it is dropped.
pub(crate) struct Service {
    variable: &'static str,
    process: Child,
    bridge: Option<String>,
    directory: TempDir,
}

impl Service {
    fn docker() -> Service {
        Service::docker_with(|_| Vec::new())
    }

    /// Starts a docker engine like the service `docker:dind` in GitLab: it also listens on port
    /// 2376 of `address` and requires a client certificate.
    pub(crate) fn docker_in_docker(address: Ipv4Addr) -> Service {
        Service::docker_with(|directory| {
            write_certificates(&directory.join("certs"));
            let file = |name: &str| {
                directory
                    .join("certs/server")
                    .join(name)
                    .display()
                    .to_string()
            };
            let mut arguments = vec![
                "--tlsverify".to_owned(),
                "--host".to_owned(),
                format!("tcp://{address}:2376"),
            ];
            for (option, name) in [
                ("--tlscacert", "ca.pem"),
                ("--tlscert", "cert.pem"),
                ("--tlskey", "key.pem"),
            ] {
                arguments.extend([option.to_owned(), file(name)]);
            }
            arguments
        })
    }

    /// Starts a docker engine that also listens on port 2375 of `address`, without authentication.
    pub(crate) fn open_docker(address: Ipv4Addr) -> Service {
        Service::docker_with(|_| {
            vec![
                "--tls=false".to_owned(),
                "--host".to_owned(),
                format!("tcp://{address}:2375"),
            ]
        })
    }

    fn docker_with(more: impl FnOnce(&Path) -> Vec<String>) -> Service {
        let directory = tempfile::Builder::new()
            .prefix("imglife-docker-")
            .tempdir()
            .expect("a temporary directory");
        let path = |name: &str| directory.path().join(name).display().to_string();
        // Containers use a bridge that no other docker engine uses.
        let number = fastrand::u16(..);
        let bridge = format!("img{number}");
        let [high, low] = number.to_be_bytes();
        ip(&["link", "add", "name", &bridge, "type", "bridge"]);
        ip(&[
            "address",
            "add",
            &format!("10.{high}.{low}.1/24"),
            "dev",
            &bridge,
        ]);
        ip(&["link", "set", &bridge, "up"]);
        let mut command = Command::new("dockerd");
        command
            .args([
                "--data-root",
                &path("data"),
                "--exec-root",
                &path("exec"),
                "--pidfile",
                &path("pid"),
                "--bridge",
                &bridge,
            ])
            .args([
                "--iptables=false",
                "--ip6tables=false",
                "--ip-forward=false",
                "--ip-masq=false",
                "--storage-driver=overlay2",
            ]);
        let runtime = directory.path().join("runc");
        fs::write(&runtime, RUNTIME).expect("a written script");
        fs::set_permissions(&runtime, fs::Permissions::from_mode(0o755))
            .expect("an executable script");
        command
            .arg(format!("--add-runtime=modest={}", runtime.display()))
            .arg("--default-runtime=modest");
        command.args(more(directory.path()));
        let mut service = Service::start(command, "--host", "DOCKER_HOST", directory);
        service.bridge = Some(bridge);
        service
    }

    fn buildkit() -> Service {
        Service::buildkit_with(|command| command)
    }

    /// Starts a BuildKit daemon that also listens on port 1234 of `address`.
    pub(crate) fn open_buildkit(address: Ipv4Addr) -> Service {
        Service::buildkit_with(|command| command.arg("--addr").arg(format!("tcp://{address}:1234")))
    }

    fn buildkit_with(more: impl FnOnce(&mut Command) -> &mut Command) -> Service {
        let directory = tempfile::Builder::new()
            .prefix("imglife-buildkit-")
            .tempdir()
            .expect("a temporary directory");
        let configuration = directory.path().join("buildkitd.toml");
        // `RUN` uses the network of this machine; other networks need plugins.
        let text = "[worker.oci]\nsnapshotter = \"native\"\nnetworkMode = \"host\"\n[worker.containerd]\nenabled = false\n";
        fs::write(&configuration, text).expect("a written file");
        let mut command = Command::new(installed("buildkitd"));
        command
            .arg("--config")
            .arg(configuration)
            .arg("--root")
            .arg(directory.path().join("data"));
        more(&mut command);
        Service::start(command, "--addr", "BUILDKITD_ADDR", directory)
    }

    fn start(
        mut command: Command,
        option: &str,
        variable: &'static str,
        directory: TempDir,
    ) -> Service {
        let log = directory.path().join("log");
        let output = File::create(&log).expect("a new file");
        let socket = socket(&directory);
        let started = command
            .args([option, &format!("unix://{}", socket.display())])
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("another handle"))
            .stderr(output)
            .spawn();
        let process = started.unwrap_or_else(|error| {
            panic!(
                "{command:?}: {error}: run `make setup`, or install the Debian package docker.io"
            )
        });
        let mut service = Service {
            variable,
            process,
            bridge: None,
            directory,
        };
        let since = Instant::now();
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            let has_ended = service
                .process
                .try_wait()
                .expect("a child to wait for")
                .is_some();
            let log_text = || fs::read_to_string(&log).expect("a log");
            assert!(
                !has_ended && since.elapsed() < START_TIMEOUT,
                "{command:?} did not start:\n{}",
                log_text()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        service
    }

    /// Returns the directory with the certificates of a docker engine.
    pub(crate) fn certificates(&self) -> PathBuf {
        self.directory.path().join("certs")
    }

    /// Runs docker's client on this engine and returns its output.
    pub(crate) fn run_docker(&self, arguments: &[&str]) -> String {
        let mut docker = Command::new("docker");
        let output = docker
            .arg("--host")
            .arg(self.address())
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .output()
            .expect("docker runs");
        assert!(
            output.status.success(),
            "docker {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn address(&self) -> String {
        format!("unix://{}", socket(&self.directory).display())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // After SIGTERM it unmounts its file systems.
        if let Some(id) = i32::try_from(self.process.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw)
        {
            let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
        }
        self.process.wait().expect("a child to wait for");
        // It does not unmount its data directory, which it bind-mounted on itself.
        drop(
            Command::new("umount")
                .arg("--recursive")
                .arg(self.directory.path().join("data"))
                .output(),
        );
        if let Some(bridge) = &self.bridge {
            ip(&["link", "delete", bridge]);
        }
    }
}

fn socket(directory: &TempDir) -> PathBuf {
    directory.path().join("engine.sock")
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output();
    let output = output.unwrap_or_else(|error| {
        panic!("ip: {error}: run `make setup`, or install the Debian package iproute2")
    });
    assert!(
        output.status.success(),
        "ip {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
}
