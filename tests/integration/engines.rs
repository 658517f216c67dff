//! The engines that are programs, each that this machine has, against a registry that wants a
//! login.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use flate2::read::GzDecoder;
use imglife::command::SystemRunner;
use imglife::credentials::{Credentials as _, StandardCredentials, variable_prefix};
use imglife::engines::{
    Attestations, BuildRequest, Engine, EngineName, HostCredential, Programs, Provenance,
};
use imglife::model::{Digest, Host, Platform, Variables};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::registries::client;
use crate::support::engines::{TestEngine, found};
use crate::support::images::Graph;
use crate::support::registry::{PASSWORD, Registry, USER};
use crate::support::rootfs::{debian_image, small_debian_image};

const CREATED: i64 = 1_700_000_000;

/// A registry with a base image, and somebody's home with engines that know of the login by
/// imglife's variables only.
struct Bench {
    registry: Registry,
    home: TempDir,
    variables: Variables,
    found: TestEngine,
}

impl Bench {
    async fn new(found: TestEngine, base: Graph) -> Bench {
        let registry = Registry::builder().htpasswd().start();
        two_platforms(base)
            .publish(&client(&registry), &registry.repository("mirror/debian"))
            .await;
        let home = tempfile::Builder::new()
            .prefix("imglife-test-")
            .tempdir()
            .expect("a temporary directory");
        let path = |name: &str| home.path().join(name).to_str().expect("text").to_owned();
        for name in ["tmp", "folder", ".docker/contexts", ".docker/cli-plugins"] {
            fs::create_dir_all(path(name)).expect("a new directory");
        }
        fs::write(path("folder/file"), "hello\n").expect("a written file");
        fs::write(path("folder/left-out"), "no\n").expect("a written file");
        fs::write(path("folder/.dockerignore"), "left-out\n").expect("a written file");
        fs::write(
            path(".docker/config.json"),
            r#"{"auths":{},"detachKeys":"ctrl-e,e"}"#,
        )
        .expect("a written file");
        let storage = format!(
            "[storage]\ndriver = \"overlay\"\ngraphroot = {:?}\nrunroot = {:?}\n",
            path("store"),
            path("run")
        );
        fs::write(path("storage.conf"), storage).expect("a written file");
        found.prepare(home.path());
        let host: Host = registry.host().parse().expect("a host");
        let mut variables: Variables = [
            ("HOME", path("")),
            ("TMPDIR", path("tmp")),
            ("PATH", "/usr/bin:/bin:/usr/sbin:/sbin".to_owned()),
            ("CONTAINERS_STORAGE_CONF", path("storage.conf")),
            ("BUILDAH_ISOLATION", "chroot".to_owned()),
        ]
        .into_iter()
        .collect();
        variables.set(format!("{}_USERNAME", variable_prefix(&host)), USER);
        variables.set(format!("{}_PASSWORD", variable_prefix(&host)), PASSWORD);
        for (name, value) in found.variables() {
            variables.set(name, value);
        }
        Bench {
            registry,
            home,
            variables,
            found,
        }
    }

    /// Returns the engine, as it is made with `variables`.
    async fn engine_with(&self, variables: &Variables) -> Arc<dyn Engine> {
        let host: Host = self.registry.host().parse().expect("a host");
        let runner = Arc::new(SystemRunner);
        let credentials = StandardCredentials::new(variables.clone(), Arc::new(SystemRunner));
        let credential = credentials
            .credential(&host, None)
            .await
            .expect("a credential");
        let programs = Programs {
            runner,
            variables: variables.clone(),
            credentials: vec![HostCredential {
                host: host.clone(),
                path: None,
                credential,
            }],
            insecure: [host].into(),
            builder: None,
            own_builder: None,
        };
        programs
            .engines()
            .into_iter()
            .find(|engine| engine.name() == self.found.name)
            .expect("all programs are there")
    }

    async fn engine(&self) -> Arc<dyn Engine> {
        let engine = self.engine_with(&self.variables).await;
        engine.available().await.expect("it was found");
        engine
    }

    fn request(&self, run: &str) -> BuildRequest {
        let base = format!("{}/mirror/debian:1", self.registry.host());
        let text = |pairs: &[(&str, &str)]| {
            pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect()
        };
        BuildRequest {
            repository: self.registry.repository("base/own"),
            tag: "1-core1".parse().expect("a tag"),
            dockerfile: format!("FROM {base}\nARG TEXT\nCOPY . /own/\nRUN {run}\n"),
            dockerfile_name: "images/own/Dockerfile.tmpl".to_owned(),
            context: self.home.path().join("folder"),
            base: base.parse().expect("an image"),
            platforms: vec![native()],
            arguments: text(&[("TEXT", "one\ntwo, \"three\"")]),
            labels: text(&[("org.example.label", "a=b, \"c\" $d")]),
            annotations: text(&[("org.example.note", "e=f, \"g\"")]),
            attestations: Attestations::default(),
            created: DateTime::from_timestamp(CREATED, 0).expect("a time"),
        }
    }

    fn stored(&self, digest: &str) -> Vec<u8> {
        let digest: Digest = digest.parse().expect("a digest");
        let bytes = fs::read(self.registry.stored(&digest)).expect("a stored blob");
        assert_eq!(Digest::sha256(&bytes), digest);
        bytes
    }

    fn json(&self, digest: &str) -> Value {
        serde_json::from_slice(&self.stored(digest)).expect("JSON")
    }

    /// Returns the files that the layers of an image add to the base, with their content and time.
    fn added(&self, manifest: &Value) -> BTreeMap<String, (String, u64)> {
        let mut files = BTreeMap::new();
        for layer in &manifest["layers"].as_array().expect("layers")[1..] {
            let layer = self.stored(layer["digest"].as_str().expect("a digest"));
            for entry in tar::Archive::new(GzDecoder::new(layer.as_slice()))
                .entries()
                .expect("a tar file")
            {
                let mut entry = entry.expect("an entry");
                let path = entry.path().expect("a path").display().to_string();
                if entry.header().entry_type().is_file()
                    && (path.starts_with("own/") || path.starts_with("proof"))
                {
                    let (mut text, time) = (String::new(), entry.header().mtime().expect("a time"));
                    entry.read_to_string(&mut text).expect("text");
                    files.insert(path, (text, time));
                }
            }
        }
        files
    }

    /// Fails when something of imglife's is still there, or the user's own directory changed.
    fn assert_clean(&self, before: &BTreeMap<PathBuf, Vec<u8>>) {
        assert_eq!(names(&self.home.path().join("tmp")), Vec::<String>::new());
        assert_eq!(&files(&self.home.path().join(".docker")), before);
        if let Some(left) = self.found.leftovers(&self.variables) {
            assert!(
                !left.contains("imglife") && !left.contains("base/own"),
                "{left}"
            );
        }
    }

    fn own_files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        files(&self.home.path().join(".docker"))
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // Buildah and podman leave the directory of their layers mounted on itself, where root runs
        // them; podman, when it is ended, the layers of what it was building too.
        let layers = self.home.path().join("store/overlay");
        drop(
            std::process::Command::new("umount")
                .arg("--recursive")
                .arg(layers)
                .output(),
        );
    }
}

fn native() -> Platform {
    let architecture = if std::env::consts::ARCH == "aarch64" {
        "arm64"
    } else {
        "amd64"
    };
    format!("linux/{architecture}").parse().expect("a platform")
}

fn platforms() -> Vec<Platform> {
    ["linux/amd64", "linux/arm64"]
        .map(|platform| platform.parse().expect("a platform"))
        .to_vec()
}

/// Returns the image of this machine's platform as one of two platforms: its programs are the same
/// in both, so that they run.
pub(crate) fn two_platforms(mut graph: Graph) -> Graph {
    let manifest: Value = serde_json::from_slice(&graph.manifests[0].bytes).expect("JSON");
    let config = graph
        .blobs
        .iter()
        .find(|blob| blob.descriptor.digest.as_str() == manifest["config"]["digest"])
        .expect("a blob");
    let config: Value = serde_json::from_slice(&config.bytes).expect("JSON");
    let children: Vec<Value> = platforms()
        .into_iter()
        .map(|platform| {
            let (mut config, mut manifest) = (config.clone(), manifest.clone());
            config["architecture"] = json!(platform.architecture);
            manifest["config"] = json!(graph.blob(
                "application/vnd.oci.image.config.v1+json",
                config.to_string()
            ));
            let mut child =
                json!(graph.manifest("application/vnd.oci.image.manifest.v1+json", &manifest));
            child["platform"] = json!(platform);
            child
        })
        .collect();
    let media_type = "application/vnd.oci.image.index.v1+json";
    let index = graph.manifest(
        media_type,
        &json!({ "schemaVersion": 2, "mediaType": media_type, "manifests": children }),
    );
    graph.tags.clear();
    graph.tag("1", &index);
    graph
}

fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let path = entry.expect("an entry").path();
        // What buildx remembers of its builders it keeps there for every user.
        if path.ends_with(".docker/buildx") {
            continue;
        }
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.clone(), fs::read(path).expect("a file"));
        }
    }
    found
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name());
    entries
        .map(|name| name.to_string_lossy().into_owned())
        .filter(|name| name.starts_with("imglife"))
        .collect()
}

#[tokio::test]
async fn every_engine_builds_and_pushes_what_it_was_asked_for() {
    for found in found("building") {
        let name = found.name;
        let bench = Bench::new(found, debian_image()).await;
        let before = bench.own_files();
        let request = bench.request("printf '%s' \"$TEXT\" > /proof; test ! -e /own/left-out");
        let built = bench
            .engine()
            .await
            .build(&request)
            .await
            .unwrap_or_else(|error| panic!("{error}\n{}\n{:?}", error.log, error.hint));
        assert_eq!(
            bench.registry.stored_tags("base/own"),
            BTreeMap::from([("1-core1".to_owned(), built.digest.to_string())]),
            "{name}"
        );
        let manifest = bench.json(built.digest.as_str());
        let config = bench.json(
            manifest["config"]["digest"]
                .as_str()
                .expect("a single image"),
        );
        assert_eq!(
            config["config"]["Labels"]["org.example.label"], "a=b, \"c\" $d",
            "{name}"
        );
        assert_eq!(config["architecture"], native().architecture);
        let added = bench.added(&manifest);
        assert_eq!(added["proof"].0, "one\ntwo, \"three\"", "{name}");
        assert_eq!(added["own/file"].0, "hello\n", "{name}");
        let base = debian_image();
        let base = base
            .blobs
            .iter()
            .find(|blob| blob.bytes.len() > 1_000_000)
            .expect("a layer");
        assert_eq!(
            manifest["layers"][0]["digest"],
            json!(base.descriptor.digest),
            "{name}: the base is not packed again"
        );
        // Docker's own BuildKit of version 20.10 does not let itself be told the time.
        if name != EngineName::Docker && bench.found.builds_several {
            assert!(
                config["created"]
                    .as_str()
                    .is_some_and(|time| time.starts_with("2023-11-14T22:13:20")),
                "{name}: {}",
                config["created"]
            );
        }
        if matches!(name, EngineName::Buildah | EngineName::Podman) {
            assert_eq!(
                manifest["annotations"]["org.example.note"], "e=f, \"g\"",
                "{name}"
            );
            assert_eq!(added["proof"].1, CREATED.unsigned_abs(), "{name}");
            let again = bench
                .engine()
                .await
                .build(&request)
                .await
                .expect("it is built again");
            assert_eq!(again, built, "{name}: the same inputs, the same digest");
        }
        bench.assert_clean(&before);
    }
}

#[tokio::test]
async fn several_platforms_become_an_index() {
    for found in found("building for several platforms")
        .into_iter()
        .filter(|found| found.builds_several)
    {
        let name = found.name;
        let bench = Bench::new(found, small_debian_image()).await;
        let before = bench.own_files();
        let attestations = match name {
            EngineName::Buildx => Attestations {
                sbom: false,
                provenance: Provenance::Max,
            },
            _ => Attestations::default(),
        };
        let request = BuildRequest {
            platforms: platforms(),
            attestations,
            ..bench.request("echo > /proof")
        };
        let built = bench
            .engine()
            .await
            .build(&request)
            .await
            .unwrap_or_else(|error| panic!("{error}\n{}", error.log));
        assert_eq!(
            bench.registry.stored_tags("base/own")["1-core1"],
            built.digest.as_str()
        );
        let index = bench.json(built.digest.as_str());
        assert_eq!(
            index["mediaType"], "application/vnd.oci.image.index.v1+json",
            "{name}"
        );
        let children = index["manifests"].as_array().expect("children");
        let named: Vec<&str> = children
            .iter()
            .filter_map(|child| child["platform"]["architecture"].as_str())
            .collect();
        match name {
            EngineName::Buildx => {
                assert_eq!(
                    named,
                    ["amd64", "arm64", "unknown", "unknown"],
                    "provenance of both"
                );
                assert_eq!(index["annotations"]["org.example.note"], "e=f, \"g\"");
            }
            _ => assert_eq!(named, ["amd64", "arm64"], "{name}"),
        }
        for (child, platform) in children.iter().zip(platforms()) {
            let manifest = bench.json(child["digest"].as_str().expect("a digest"));
            assert_eq!(
                manifest["annotations"]["org.example.note"], "e=f, \"g\"",
                "{name}"
            );
            let config = bench.json(manifest["config"]["digest"].as_str().expect("a digest"));
            assert_eq!(config["architecture"], platform.architecture, "{name}");
            assert_eq!(
                bench.added(&manifest)["proof"],
                ("\n".to_owned(), CREATED.unsigned_abs()),
                "{name}"
            );
        }
        bench.assert_clean(&before);
    }
}

#[tokio::test]
async fn a_build_that_fails_shows_its_log_and_leaves_nothing() {
    for found in found("builds that fail") {
        let name = found.name;
        let bench = Bench::new(found, small_debian_image()).await;
        let before = bench.own_files();
        let engine = bench.engine().await;
        let error = engine
            .build(&bench.request("echo the last words; exit 7"))
            .await
            .expect_err("it fails");
        assert!(
            error
                .log
                .lines()
                .any(|line| line.contains("the last words")),
            "{name}: {}",
            error.log
        );
        assert!(
            error.log.contains('7') && error.to_string().contains("failed with exit code"),
            "{name}: {error}"
        );

        let mut wrong = bench.variables.clone();
        let host: Host = bench.registry.host().parse().expect("a host");
        wrong.set(
            format!("{}_PASSWORD", variable_prefix(&host)),
            "wr0ng-secret",
        );
        let error = bench
            .engine_with(&wrong)
            .await
            .build(&bench.request("true"))
            .await
            .expect_err("the login is wrong");
        let shown = format!("{error:?} {error}");
        assert!(!shown.contains("wr0ng-secret"), "{name}: {shown}");
        assert!(
            error
                .hint
                .as_deref()
                .is_some_and(|hint| hint.contains("check that the credentials for 127.0.0.1:")),
            "{name}: {shown}"
        );
        assert_eq!(
            bench.registry.stored_tags("base/own"),
            BTreeMap::new(),
            "{name}"
        );
        bench.assert_clean(&before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_is_given_up_ends_with_all_it_started() {
    for found in found("builds that are given up") {
        let name = found.name;
        let bench = Bench::new(found, small_debian_image()).await;
        let before = bench.own_files();
        let engine = bench.engine().await;
        // A number that no other program of this machine has among its arguments.
        let seconds = format!(
            "4{}",
            bench.registry.host().rsplit(':').next().expect("a port")
        );
        let request = bench.request(&format!("sleep {seconds}"));
        let build = tokio::spawn(async move { engine.build(&request).await });
        let patience = std::time::Instant::now();
        while !sleeps(&seconds) {
            assert!(
                !build.is_finished() && patience.elapsed() < Duration::from_secs(120),
                "{name}: it never came to RUN"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        build.abort();
        assert!(build.await.expect_err("it was given up").is_cancelled());
        let patience = std::time::Instant::now();
        while sleeps(&seconds) {
            assert!(
                patience.elapsed() < Duration::from_secs(20),
                "{name}: what it started goes on"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // What was begun is put away by programs of their own.
        let patience = std::time::Instant::now();
        while bench
            .found
            .leftovers(&bench.variables)
            .is_some_and(|left| left.contains("imglife") || left.contains("base/own"))
        {
            assert!(
                patience.elapsed() < Duration::from_secs(20),
                "{name}: something is left"
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        assert_eq!(
            bench.registry.stored_tags("base/own"),
            BTreeMap::new(),
            "{name}"
        );
        bench.assert_clean(&before);
    }
}

/// Returns whether a program runs that sleeps for just so long.
fn sleeps(seconds: &str) -> bool {
    let processes = fs::read_dir("/proc").expect("the list of processes");
    processes
        .filter_map(|entry| fs::read(entry.ok()?.path().join("cmdline")).ok())
        .any(|line| line == format!("sleep\0{seconds}\0").as_bytes())
}
