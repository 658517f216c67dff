//! The native engine against real registries, and its images beside those that buildah makes of the
//! same files.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use imglife::cache::Cache;
use imglife::engines::native::Native;
use imglife::engines::{Attestations, BuildOutcome, BuildRequest, Engine as _, EngineError};
use imglife::model::{ImageReference, Manifest, Reference, Repository};
use imglife::registry::ImageStores;
use imglife::registry::layout::Layouts;
use serde_json::{Value, json};

use crate::registries::client;
use crate::support::images::Graph;
use crate::support::registry::Registry;
use crate::support::rootfs::debian_image;
use crate::support::servers::Server;
use crate::support::world::World;

/// Writes where a run of the tests shows it, also of tests that do not fail.
macro_rules! say {
    ($($word:tt)*) => { std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("{}\n", format_args!($($word)*))).expect("standard error") };
}

mod buildah;
pub(crate) mod images;

use images::{base, read};

const FOUR: [&str; 4] = ["linux/amd64", "linux/arm64", "linux/arm/v7", "linux/s390x"];

/// A world with a folder to build from, and a registry to build to.
struct Place {
    world: World,
    registry: Registry,
    stores: ImageStores,
}

/// Puts a request, with its Dockerfile, on another base.
fn place_on(request: &mut BuildRequest, change: impl FnOnce(&mut ImageReference)) {
    let before = format!("FROM {}\n", request.base);
    change(&mut request.base);
    request.dockerfile =
        request
            .dockerfile
            .replacen(&before, &format!("FROM {}\n", request.base), 1);
}

impl Place {
    async fn new(registry: Registry, graph: &Graph) -> Place {
        let stores = ImageStores::new(Arc::new(client(&registry)), Arc::new(Layouts::default()));
        let mirror = registry.repository("mirrors/base");
        let store = stores.writable(&mirror).expect("write access");
        graph.publish(store, &mirror).await;
        let world = World::new();
        fs::create_dir(world.path("folder")).expect("a folder");
        Place {
            world,
            registry,
            stores,
        }
    }

    fn file(&self, path: &str, mode: u32, content: impl AsRef<[u8]>) {
        let path = self.world.path("folder").join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
        fs::write(&path, content).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a mode");
    }

    fn engine(&self) -> Native {
        let cache = Cache::user(
            &[("HOME", self.world.home().to_string_lossy())]
                .into_iter()
                .collect(),
            true,
        );
        Native::new(self.stores.clone(), cache)
    }

    fn request(&self, dockerfile: &str, platforms: &[&str]) -> BuildRequest {
        let base = ImageReference::tagged(
            self.registry.repository("mirrors/base"),
            "1".parse().expect("a tag"),
        );
        BuildRequest {
            repository: self.registry.repository("bases/app"),
            tag: "1-core1".parse().expect("a tag"),
            dockerfile: dockerfile.replacen("FROM base\n", &format!("FROM {base}\n"), 1),
            dockerfile_name: "templates/app.Dockerfile".to_owned(),
            context: self.world.path("folder"),
            base,
            platforms: platforms
                .iter()
                .map(|platform| platform.parse().expect("a platform"))
                .collect(),
            arguments: BTreeMap::from([("GIVEN".to_owned(), "by argument".to_owned())]),
            labels: BTreeMap::from([("from".to_owned(), "request".to_owned())]),
            annotations: BTreeMap::from([(
                "org.opencontainers.image.title".to_owned(),
                "app".to_owned(),
            )]),
            attestations: Attestations::default(),
            created: "2026-03-04T05:06:07Z".parse().expect("a time"),
        }
    }

    async fn build(
        &self,
        dockerfile: &str,
        platforms: &[&str],
    ) -> Result<BuildOutcome, EngineError> {
        self.engine()
            .build(&self.request(dockerfile, platforms))
            .await
    }

    async fn built(&self, dockerfile: &str, platforms: &[&str]) -> BuildOutcome {
        self.build(dockerfile, platforms)
            .await
            .unwrap_or_else(|error| panic!("{error:?}"))
    }

    async fn manifest(&self, repository: &Repository) -> Manifest {
        let reference = Reference::Tag("1-core1".parse().expect("a tag"));
        self.stores
            .of(repository)
            .manifest(repository, &reference)
            .await
            .expect("an answer")
            .expect("a manifest")
    }
}

const TEMPLATE: &str = "FROM base\nARG TARGETARCH\nCOPY tool /bin/tool\nCOPY etc/ /etc/\nCOPY --chown=app data /home/app/data\n\
                        ENV ARCH=$TARGETARCH\nUSER app\nENTRYPOINT [\"/bin/tool\"]\n";

fn three_copies(place: &Place) {
    place.file("tool", 0o4755, "tool");
    place.file("etc/app.conf", 0o600, "conf");
    place.file("data/x/y", 0o640, "y");
}

async fn builds_for_four_platforms(registry: Registry) {
    let name = registry.server().name();
    let place = Place::new(registry, &base(&FOUR)).await;
    three_copies(&place);
    let built = place.built(TEMPLATE, &FOUR).await;
    let repository = place.registry.repository("bases/app");
    let index = place.manifest(&repository).await;
    assert_eq!(
        (
            &index.digest,
            index.annotations["org.opencontainers.image.title"].as_str()
        ),
        (&built.digest, "app")
    );
    let platforms: Vec<String> = index
        .children()
        .expect("an index")
        .iter()
        .filter_map(|child| Some(child.platform.as_ref()?.to_string()))
        .collect();
    assert_eq!(platforms, FOUR);
    for platform in FOUR {
        let image = read(
            place.stores.of(&repository),
            &repository,
            &Reference::Digest(built.digest.clone()),
            platform,
        )
        .await;
        assert_eq!(image.files["etc/platform"].content, platform);
        let tool = &image.files["usr/bin/tool"];
        assert_eq!(
            (tool.content.as_str(), tool.mode, tool.owner),
            ("tool", 0o4755, (0, 0))
        );
        let data = &image.files["home/app/data/x/y"];
        assert_eq!((data.mode, data.owner), (0o640, (100, 101)));
        assert!(!image.files.contains_key("gone"));
        assert_eq!(
            image.files["home/app"].mode, 0o750,
            "what is there already stays as it is"
        );
        assert_eq!(image.files["home/app"].owner, (100, 100));
        let architecture = platform.split('/').nth(1).expect("an architecture");
        assert_eq!(
            image.config["config"]["Env"],
            json!([
                "PATH=/usr/bin:/bin",
                "BASE=yes",
                format!("ARCH={architecture}")
            ])
        );
        assert_eq!(
            image.config["config"]["Labels"],
            json!({ "from": "request", "kept": "base" })
        );
        assert_eq!(image.config["config"].get("Cmd"), None);
        assert_eq!(image.config["created"], "2026-03-04T05:06:07Z");
        assert_eq!(
            image.manifest.annotations["org.opencontainers.image.title"],
            "app"
        );
        assert!(
            image
                .manifest
                .blobs()
                .iter()
                .all(|blob| blob.media_type.starts_with("application/vnd.oci.image."))
        );
    }
    // The same again, by an engine that reads the listings from its cache.
    let began = Instant::now();
    let again = place.built(TEMPLATE, &FOUR).await;
    let unchanged = began.elapsed();
    assert_eq!(again.digest, built.digest, "{name}");
    place.file("tool", 0o4755, "changed");
    let began = Instant::now();
    assert_ne!(place.built(TEMPLATE, &FOUR).await.digest, built.digest);
    say!(
        "{name}: 3 COPY for 4 platforms: unchanged {unchanged:?}, changed {:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn every_registry_takes_what_is_built_for_four_platforms() {
    for server in Server::found("the native engine") {
        builds_for_four_platforms(Registry::of(server)).await;
    }
}

#[tokio::test]
async fn base_layers_are_shared_and_nothing_is_sent_twice() {
    let place = Place::new(Registry::plain(), &base(&FOUR)).await;
    three_copies(&place);
    let mark = place.registry.mark();
    place.built(TEMPLATE, &FOUR).await;
    let requests = place.registry.requests_since(mark);
    let count = |method: &str, part: &str| {
        requests
            .iter()
            .filter(|request| request.method == method && request.path.contains(part))
            .count()
    };
    // One layer below and one for each platform.
    assert_eq!(count("POST", "mount="), 5, "{requests:#?}");
    // Three layers, four configurations.
    assert_eq!(count("PUT", "/blobs/uploads/"), 7, "{requests:#?}");
    assert_eq!(count("PUT", "/manifests/"), 5);
    assert!(
        requests
            .last()
            .is_some_and(|request| request.path.ends_with("/manifests/1-core1")),
        "the tag comes last"
    );
    let mark = place.registry.mark();
    place.built(TEMPLATE, &FOUR).await;
    let requests = place.registry.requests_since(mark);
    let layers = requests
        .iter()
        .filter(|request| request.method == "GET" && request.path.contains("/blobs/"))
        .count();
    assert_eq!(
        layers, 4,
        "only the configurations of the base are read again: {requests:#?}"
    );
    assert!(
        requests
            .iter()
            .all(|request| request.method != "PUT" || request.path.contains("/manifests/")),
        "{requests:#?}"
    );
}

#[tokio::test]
async fn bases_and_targets_may_be_elsewhere() {
    let place = Place::new(Registry::plain(), &base(&FOUR)).await;
    three_copies(&place);
    let here = place.built(TEMPLATE, &FOUR[..2]).await;
    let layout = |name: &str| {
        format!("ocidir://{}", place.world.path(name).display())
            .parse::<Repository>()
            .expect("a layout")
    };
    // From the registry to a directory, and from a directory to another.
    let mut request = place.request(TEMPLATE, &FOUR[..2]);
    request.repository = layout("one");
    assert_eq!(
        place.engine().build(&request).await.expect("built").digest,
        here.digest
    );
    let local = place.stores.writable(&layout("base"));
    base(&FOUR)
        .publish(local.expect("write access"), &layout("base"))
        .await;
    place_on(&mut request, |base| base.repository = layout("base"));
    request.repository = layout("two");
    assert_eq!(
        place.engine().build(&request).await.expect("built").digest,
        here.digest
    );
    let image = read(
        place.stores.of(&layout("two")),
        &layout("two"),
        &Reference::Digest(here.digest),
        "linux/arm64",
    )
    .await;
    assert_eq!(image.files["etc/platform"].content, "linux/arm64");
    // From a directory to the registry, where nothing of the base is.
    request.repository = place.registry.repository("bases/from-directory");
    place.engine().build(&request).await.expect("built");
}

#[tokio::test]
async fn one_platform_is_one_manifest_and_no_files_are_no_layers() {
    let place = Place::new(Registry::plain(), &base(&FOUR)).await;
    let built = place
        .built("FROM base\nENV A=1\nCMD echo $A\n", &["linux/arm64/v8"])
        .await;
    let repository = place.registry.repository("bases/app");
    let image = read(
        place.stores.of(&repository),
        &repository,
        &Reference::Digest(built.digest),
        "linux/arm64",
    )
    .await;
    assert!(place.manifest(&repository).await.children().is_none());
    assert_eq!(
        image.config["config"]["Cmd"],
        json!(["/bin/sh", "-c", "echo $A"])
    );
    assert_eq!(
        image.config["rootfs"]["diff_ids"].as_array().map(Vec::len),
        Some(2)
    );
    let requests = place.registry.requests();
    assert!(!requests.iter().any(|request| request.method == "GET"
        && request.path.contains("/blobs/")
        && request.status == 206));
}

#[tokio::test]
async fn what_cannot_be_built_is_refused_by_line_before_anything_is_written() {
    let place = Place::new(Registry::plain(), &base(&FOUR)).await;
    place.file("a", 0o644, "a");
    symlink("/etc/passwd", place.world.path("folder/passwd")).expect("a link");
    symlink("../../..", place.world.path("folder/up")).expect("a link");
    place.file("evil.tar", 0o644, evil_archive());
    let deep = format!("ENV A={}{}", "${A:-".repeat(2000), "}".repeat(2000));
    let long = format!("ENV A={}", "x".repeat(1_000_000));
    let name = "templates/app.Dockerfile";
    for (line, message) in [
        ("RUN x", "the native engine does not support RUN"),
        ("FROM b", "the native engine does not support a second FROM"),
        (
            "COPY --from=x a /",
            "the native engine does not support COPY --from",
        ),
        (
            "ADD https://x/y /",
            "the native engine does not support ADD of a remote source",
        ),
        (
            "COPY none /",
            "`none` is not in the build context, or `.dockerignore` excludes it",
        ),
        (
            "COPY passwd /",
            "`passwd` leads out of the build context through a symbolic link",
        ),
        (
            "COPY up/x /",
            "`up/x` leads out of the build context through a symbolic link",
        ),
        (
            "COPY ../../../../etc/passwd /x",
            "`../../../../etc/passwd` leads out",
        ),
        (
            "COPY --chown=nobody a /",
            "the image has no user `nobody` in `/etc/passwd`",
        ),
        (
            "ADD evil.tar /",
            "cannot unpack `evil.tar`: `../../escaped` is outside of the archive",
        ),
        (
            "COPY a /etc/passwd/x",
            "`/etc/passwd` is not a directory in the image",
        ),
        ("EXPOSE http", "`http` is not a port"),
        (&deep, "is not a supported reference to an argument"),
        (&long, "longer than"),
    ] {
        let mark = place.registry.mark();
        let error = place
            .build(&format!("FROM base\n{line}\n"), &["linux/amd64"])
            .await
            .expect_err(&line[..line.len().min(60)]);
        let expected = if line.starts_with("COPY ../") {
            "`../../../../etc/passwd` is not in the build context"
        } else {
            message
        };
        assert!(
            error.problem.contains(expected) && error.problem.contains(&format!("{name}:2: ")),
            "{}",
            error.problem
        );
        let tags = place
            .registry
            .requests_since(mark)
            .into_iter()
            .filter(|request| request.method == "PUT");
        assert_eq!(tags.count(), 0, "{line:.60}");
    }
    let error = place
        .build("FROM docker.io/library/other:1\nCOPY a /", &["linux/amd64"])
        .await
        .expect_err("refused");
    assert!(
        error.requires_execution
            && error.problem.contains(&format!(
                "{name}:1: the native engine does not support FROM"
            )),
        "{error}"
    );
    let error = place
        .build("FROM base\nCOPY a /", &["linux/amd64", "linux/riscv64"])
        .await
        .expect_err("refused");
    assert!(
        error.problem.contains(
            "is not available for linux/riscv64, only for linux/amd64, linux/arm64, linux/arm/v7, linux/s390x"
        ),
        "{}",
        error.problem
    );
    let request = BuildRequest {
        base: "127.0.0.1:1/none:1".parse().expect("a name"),
        ..place.request("FROM 127.0.0.1:1/none:1", &["linux/amd64"])
    };
    assert!(
        place
            .engine()
            .build(&request)
            .await
            .expect_err("refused")
            .problem
            .contains("cannot read the base image 127.0.0.1:1/none:1")
    );
}

fn evil_archive() -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_mut_bytes()[..13].copy_from_slice(b"../../escaped");
    header.set_size(0);
    header.set_cksum();
    let mut archive = tar::Builder::new(Vec::new());
    archive.append(&header, &b""[..]).expect("an entry");
    archive.into_inner().expect("an archive")
}

#[tokio::test]
async fn a_base_with_triggers_is_refused() {
    let mut graph = Graph::default();
    let tar = images::layer(&[("x", 'f', 0o644, 0, "x")]);
    let layer = graph.blob("application/vnd.oci.image.layer.v1.tar", tar.clone());
    let config = json!({
        "os": "linux", "architecture": "amd64", "config": { "OnBuild": ["COPY . /app"] },
        "rootfs": { "type": "layers", "diff_ids": [imglife::model::Digest::sha256(&tar)] },
    });
    let config = graph.blob(
        "application/vnd.oci.image.config.v1+json",
        config.to_string(),
    );
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let manifest = graph.manifest(
        kind,
        &json!({ "schemaVersion": 2, "mediaType": kind, "config": config, "layers": [layer] }),
    );
    graph.tag("1", &manifest);
    let place = Place::new(Registry::plain(), &graph).await;
    let error = place
        .build("FROM base\nCMD x", &["linux/amd64"])
        .await
        .expect_err("refused");
    assert!(
        error
            .problem
            .contains("has an ONBUILD trigger: COPY . /app")
            && error.hint.is_some(),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_large_file_takes_little_memory() {
    let place = Place::new(Registry::plain(), &base(&FOUR[..1])).await;
    let file = fs::File::create(place.world.path("folder/sparse")).expect("a file");
    file.set_len(256 * 1024 * 1024).expect("a hole");
    let before = peak_memory();
    let built = place.built("FROM base\nCOPY sparse /", &FOUR[..1]).await;
    let grown = peak_memory().saturating_sub(before);
    // Other tests run beside this one in the same process, so this only finds a file that is held
    // as a whole.
    assert!(grown < 220 * 1024, "{grown} KiB");
    let repository = place.registry.repository("bases/app");
    let manifest = place
        .stores
        .of(&repository)
        .manifest(&repository, &Reference::Digest(built.digest))
        .await
        .expect("an answer")
        .expect("a manifest");
    assert_eq!(manifest.blobs().len(), 4);
}

/// Returns the most memory that this process ever had, in KiB.
fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("a status");
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .expect("a peak");
    line.split_whitespace()
        .nth(1)
        .and_then(|number| number.parse().ok())
        .expect("a number")
}

#[tokio::test]
async fn a_build_that_is_dropped_leaves_no_tag_and_the_next_one_is_the_same() {
    let place = Place::new(Registry::plain(), &base(&FOUR)).await;
    three_copies(&place);
    let undisturbed = place.built(TEMPLATE, &FOUR).await.digest;
    for millis in [1, 5, 10, 20, 40] {
        place.registry.wipe();
        let mirror = place.registry.repository("mirrors/base");
        let store = place.stores.writable(&mirror).expect("write access");
        base(&FOUR).publish(store, &mirror).await;
        let dropped =
            tokio::time::timeout(Duration::from_millis(millis), place.build(TEMPLATE, &FOUR)).await;
        if dropped.is_err() {
            place.stores.settle().await;
        }
        assert_eq!(
            place.built(TEMPLATE, &FOUR).await.digest,
            undisturbed,
            "after {millis} ms"
        );
    }
}

#[tokio::test]
async fn a_debian_base_is_built_upon() {
    let graph = debian_image();
    let mut place = Place::new(Registry::plain(), &graph).await;
    three_copies(&place);
    place.world = place
        .world
        .file("folder/rootfs/bin/wrapper", "#!/bin/sh\n")
        .file("folder/rootfs/lib/marker", "x");
    let platform = match std::env::consts::ARCH {
        "aarch64" => "linux/arm64",
        _ => "linux/amd64",
    };
    let dockerfile = "FROM base\nCOPY tool /bin/\nCOPY --chown=daemon:adm etc/ /etc/app/\nCOPY rootfs/ /\nWORKDIR /lib/app\n";
    let mut request = place.request(dockerfile, &[platform]);
    place_on(&mut request, |base| {
        base.tag = Some(graph.tags[0].0.clone());
    });
    let began = Instant::now();
    place
        .engine()
        .build(&request)
        .await
        .unwrap_or_else(|error| panic!("{error:?}"));
    let first = began.elapsed();
    let began = Instant::now();
    let built = place.engine().build(&request).await.expect("built");
    say!(
        "a Debian base: first {first:?}, with its listing cached {:?}",
        began.elapsed()
    );
    let image = read(
        place.stores.of(&request.repository),
        &request.repository,
        &Reference::Digest(built.digest),
        platform,
    )
    .await;
    for path in [
        "usr/bin/tool",
        "usr/bin/wrapper",
        "usr/lib/marker",
        "usr/lib/app",
        "etc/app/app.conf",
    ] {
        assert!(image.files.contains_key(path), "{path}");
    }
    assert_eq!(
        (
            image.files["bin"].kind,
            image.files["etc/app/app.conf"].owner
        ),
        ('l', (1, 4))
    );
}

/// Returns whether the value is something that an image says.
fn says(value: &Value) -> bool {
    !value.is_null() && *value != json!("") && *value != json!([]) && *value != json!({})
}

fn has_program(name: &str) -> bool {
    ["/usr/bin", "/usr/local/bin", "/bin"]
        .iter()
        .any(|directory| Path::new(directory).join(name).is_file())
}
