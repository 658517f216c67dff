//! What the build job builds with: each mode of the component `build` with the real engine, which
//! is reached by the very variables that the component sets. Services are started here, where a
//! runner would, and go by the names that they have there.

use std::fs;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;

use imglife::model::Reference;
use serde_json::{Value, json};

use super::site::{Pipeline, Site};
use crate::engines::two_platforms;
use crate::registries::client;
use crate::support::engines::{Service, buildkit_image, has_buildkit, unused_address};
use crate::support::images::Graph;
use crate::support::rootfs::small_debian_image;
use crate::support::servers::installed;

/// A project with one image, whose template runs a command.
struct Bench {
    site: Site,
}

impl Bench {
    async fn new(platforms: &str) -> Bench {
        let site = Site::new().await;
        let upstream = site.upstream.repository("library/debian");
        two_platforms(small_debian_image())
            .publish(&client(&site.upstream), &upstream)
            .await;
        let (host, registry) = (site.upstream.url(), site.registry.host());
        let config = format!(
            "registry: {{ url: $CI_SERVER_URL, project_id: $CI_PROJECT_ID, insecure_registries: ['{registry}'] }}\n\
             hosts: {{ docker.io: {{ endpoint: '{host}' }} }}\n\
             sync:\n  entries:\n    - {{ source: docker.io/library/debian, target: $CI_REGISTRY_IMAGE/mirrors/debian, tag: '1' }}\n\
             build:\n  core_version: 1.0.0\n  registry: $CI_REGISTRY_IMAGE/bases\n  platforms: [{platforms}]\n  images:\n    \
             - {{ name: debian, folder: debian, type: core, mirror_image: $CI_REGISTRY_IMAGE/mirrors/debian }}\n"
        );
        let files = site.world.path("files");
        fs::create_dir_all(files.join("debian")).expect("new directories");
        fs::write(files.join("imglife.yaml"), config).expect("a written file");
        fs::write(
            files.join("debian/Dockerfile.tmpl"),
            "FROM {{ base }}\nRUN echo built > /proof\n",
        )
        .expect("a written file");
        let version = env!("CARGO_PKG_VERSION");
        let component = |name: &str, inputs: Value| json!({ "component": format!("$CI_SERVER_FQDN/platform/imglife-components/{name}@{version}"), "inputs": inputs });
        let include = [
            component("sync", json!({})),
            component("build", json!("INPUTS")),
        ];
        // Services are started below; the runner of these tests has docker's only.
        let pipeline = json!({ "stages": ["sync", "build"], "include": include, "imglife-build": { "services": [] } });
        fs::write(files.join(".gitlab-ci.yml"), pipeline.to_string()).expect("a written file");
        site.project("base-images", &files, &[]);
        let plugins = site.world.path("job-home/.docker/cli-plugins");
        fs::create_dir_all(&plugins).expect("new directories");
        if has_buildkit() {
            symlink(installed("docker-buildx"), plugins.join("docker-buildx")).expect("a new link");
        }
        Bench { site }
    }

    /// Runs the pipeline with inputs of `build`, in a world where the names of services lead to an
    /// address.
    fn run(
        &self,
        inputs: &Value,
        services: Option<(&str, Ipv4Addr)>,
        variables: &[(&str, &str)],
    ) -> Pipeline {
        let world = &self.site.world;
        let storage = world.path("storage.conf");
        let text = format!(
            "[storage]\ndriver = \"vfs\"\nrunroot = \"{0}/run\"\ngraphroot = \"{0}/root\"\n",
            world.path("store").display()
        );
        fs::write(&storage, text).expect("a written file");
        let own = [("CONTAINERS_STORAGE_CONF", storage.to_str().expect("text"))];
        let directory =
            self.site
                .checkout("base-images", "schedule", &[&own[..], variables].concat());
        let file = directory.join(".gitlab-ci.yml");
        let text = fs::read_to_string(&file)
            .expect("a pipeline")
            .replace("\"INPUTS\"", &inputs.to_string());
        fs::write(file, text).expect("a written file");
        let names = world.path("hosts");
        let (name, address) = services.unwrap_or(("localhost", Ipv4Addr::LOCALHOST));
        fs::write(&names, format!("127.0.0.1 localhost\n{address} {name}\n"))
            .expect("a written file");
        let renamed = format!(
            "unshare --mount sh -c 'mount --bind \"{}\" /etc/hosts && exec \"$@\"' sh",
            names.display()
        );
        let wrapper = if services.is_some() {
            renamed.as_str()
        } else {
            ""
        };
        self.site
            .run_by(wrapper, &directory, "--json-schema-validation=false")
    }

    /// Returns the platforms of what was built. Fails where it was not built by `engine`.
    async fn built(&self, pipeline: &Pipeline, engine: &str) -> Vec<String> {
        use imglife::registry::ImageSource as _;
        let log = pipeline.log("imglife-build: [1/1]");
        assert!(log.contains("1-core1.0.0") && log.contains(engine), "{log}");
        let repository = self
            .site
            .registry
            .repository("platform/base-images/bases/debian");
        let tag = Reference::Tag("1-core1.0.0".parse().expect("a tag"));
        let image = client(&self.site.registry)
            .manifest(&repository, &tag)
            .await
            .expect("a manifest")
            .expect("an image");
        let image: Value = serde_json::from_slice(&image.bytes).expect("JSON");
        let children = image["manifests"].as_array().cloned().unwrap_or_default();
        children
            .iter()
            .filter_map(|child| {
                child["platform"]["architecture"]
                    .as_str()
                    .map(str::to_owned)
            })
            .collect()
    }

    async fn publish(&self, graph: &Graph, name: &str) -> String {
        graph
            .publish(
                &client(&self.site.registry),
                &self.site.registry.repository(name),
            )
            .await;
        format!("{}/{name}:{}", self.site.registry.host(), graph.tags[0].0)
    }
}

fn native() -> &'static str {
    if std::env::consts::ARCH == "aarch64" {
        "linux/arm64"
    } else {
        "linux/amd64"
    }
}

/// Says where a run of the tests shows it what this machine cannot show.
fn tell(what: &str) {
    writeln!(std::io::stderr(), "{what}").expect("standard error");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_buildah_commands_run_without_an_engine() {
    let bench = Bench::new("linux/amd64, linux/arm64").await;
    let pipeline = bench
        .run(&json!({ "mode": "buildah" }), None, &[])
        .succeeds();
    assert_eq!(bench.built(&pipeline, "buildah").await, ["amd64", "arm64"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_buildkit_the_service_beside_the_job_builds() {
    if !has_buildkit() || !rustix::process::geteuid().is_root() {
        return tell(
            "the mode `buildkit`: not tried, since this machine lacks buildx and BuildKit (`sh tests/setup.sh all`), or root",
        );
    }
    let address = unused_address();
    let _service = Service::open_buildkit(address);
    let bench = Bench::new("linux/amd64, linux/arm64").await;
    let pipeline = bench
        .run(
            &json!({ "mode": "buildkit" }),
            Some(("buildkitd", address)),
            &[],
        )
        .succeeds();
    let platforms = bench.built(&pipeline, "buildx").await;
    assert_eq!(
        platforms
            .iter()
            .filter(|name| *name != "unknown")
            .collect::<Vec<_>>(),
        ["amd64", "arm64"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn with_docker_in_docker_a_builder_is_made_with_emulators_and_machines_and_removed_or_kept() {
    if !rustix::process::geteuid().is_root() {
        return tell("the mode `dind`: not tried, since a docker engine needs root");
    }
    let address = unused_address();
    let service = Service::docker_in_docker(address);
    let certificates = service.certificates().display().to_string();
    // The directory that runner and service share is below / elsewhere.
    let shared = [("DOCKER_TLS_CERTDIR", certificates.as_str())];
    if !has_buildkit() {
        tell(
            "the mode `dind`: by docker alone, since this machine lacks buildx and BuildKit (`sh tests/setup.sh all`)",
        );
        let bench = Bench::new(native()).await;
        let pipeline = bench
            .run(
                &json!({ "mode": "dind" }),
                Some(("docker", address)),
                &shared,
            )
            .succeeds();
        bench.built(&pipeline, "docker").await;
        return;
    }
    let bench = Bench::new("linux/amd64, linux/arm64").await;
    let image = bench.publish(&buildkit_image(), "tools/buildkit").await;
    let node = unused_address();
    let other = Service::open_docker(node);
    let variables = [
        &shared[..],
        &[("IMGLIFE_RUN_BUILDER_IMAGE", image.as_str())],
    ]
    .concat();
    let emulators = bench.publish(&emulators(), "tools/binfmt").await;
    let inputs = json!({ "mode": "dind", "binfmt": emulators, "builder-nodes": format!("linux/arm64=tcp://{node}:2375") });
    let pipeline = bench
        .run(&inputs, Some(("docker", address)), &variables)
        .succeeds();
    let platforms = bench.built(&pipeline, "buildx").await;
    assert_eq!(
        platforms
            .iter()
            .filter(|name| *name != "unknown")
            .collect::<Vec<_>>(),
        ["amd64", "arm64"]
    );
    // Both machines had a builder, and neither has it any more. The emulators' image was run on the
    // first.
    for (engine, images) in [
        (&service, &["tools/buildkit", "tools/binfmt"][..]),
        (&other, &["tools/buildkit"]),
    ] {
        let (kept, running) = (
            engine.run_docker(&["images"]),
            engine.run_docker(&["ps", "--all", "--format", "{{.Names}}"]),
        );
        assert!(images.iter().all(|image| kept.contains(image)), "{kept}");
        assert_eq!(running, "");
    }

    // A builder that is kept is taken again.
    let keep = [
        &variables[..],
        &[
            ("IMGLIFE_RUN_KEEP_BUILDER", "true"),
            ("IMGLIFE_BUILD_FORCE", "true"),
            ("IMGLIFE_BUILD_ONLY", "debian"),
        ],
    ]
    .concat();
    let containers = || service.run_docker(&["ps", "--all", "--format", "{{.ID}} {{.Names}}"]);
    let mut before = String::new();
    for _ in 0..2 {
        let pipeline = bench
            .run(&json!({ "mode": "dind" }), Some(("docker", address)), &keep)
            .succeeds();
        bench.built(&pipeline, "buildx").await;
        let now = containers();
        assert!(
            now.trim().ends_with("buildx_buildkit_imglife0")
                && (before.is_empty() || before == now),
            "{before}{now}"
        );
        before = now;
    }
    service.run_docker(&["rm", "--force", "--volumes", "buildx_buildkit_imglife0"]);

    // An emulators' image that fails is a failed build, and says so.
    let wrong = bench
        .run(
            &json!({ "mode": "dind", "binfmt": format!("{}/tools/none:1", bench.site.registry.host()) }),
            Some(("docker", address)),
            &[&variables[..], &[("IMGLIFE_BUILD_FORCE", "true"), ("IMGLIFE_BUILD_ONLY", "debian")]].concat(),
        )
        .exits(1);
    let log = wrong.log("imglife-build: [1/1]");
    assert!(log.contains("tools/none:1"), "{log}");
}

/// Returns an image that takes the arguments of `tonistiigi/binfmt` and no others.
fn emulators() -> Graph {
    let mut graph = small_debian_image();
    let mut manifest: Value = serde_json::from_slice(&graph.manifests[0].bytes).expect("JSON");
    let config = graph
        .blobs
        .iter()
        .find(|blob| blob.descriptor.digest.as_str() == manifest["config"]["digest"])
        .expect("a blob");
    let mut config: Value = serde_json::from_slice(&config.bytes).expect("JSON");
    config["config"]["Entrypoint"] =
        json!(["/bin/sh", "-c", "test \"$*\" = '--install all'", "binfmt"]);
    manifest["config"] = json!(graph.blob(
        "application/vnd.oci.image.config.v1+json",
        config.to_string()
    ));
    let image = graph.manifest("application/vnd.oci.image.manifest.v1+json", &manifest);
    graph.tags.clear();
    graph.tag("1", &image);
    graph
}
