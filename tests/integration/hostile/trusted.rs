//! What a trusted job may do and an untrusted one may not: variables, hooks, build programs, logins.

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::Response;
use imglife::model::Repository;
use imglife::registry::layout::Layouts;

use super::JOB;
use crate::support::fake_server::{FakeServer, tags};
use crate::support::images::{Flavour, Graph};
use crate::support::world::World;

/// Variables that make the job one of the default branch.
const TRUSTED: [(&str, &str); 4] = [
    ("CI_PIPELINE_SOURCE", "push"),
    ("CI_MERGE_REQUEST_IID", ""),
    ("CI_COMMIT_BRANCH", "main"),
    ("CI_DEFAULT_BRANCH", "main"),
];

fn job(pairs: &[(&str, &str)]) -> World {
    pairs.iter().fold(World::new(), |world, (name, value)| {
        world.variable(name, *value)
    })
}

#[test]
fn a_trusted_job_expands_any_variable_that_is_no_secret() {
    let text = "sync: { entries: [{ source: '$MIRROR/a', target: '$CI_REGISTRY/a', tag: '1' }] }";
    let mirror = ("MIRROR", "mirror.example");
    let untrusted = job(&[&JOB[..], &[mirror]].concat()).file("imglife.yaml", text);
    let outcome = untrusted.imglife(["config", "check"]);
    assert_eq!(outcome.code(), Some(2), "{outcome:?}");
    assert!(outcome.stderr.contains("IMGLIFE_VARIABLES"), "{outcome:?}");
    for more in [
        &[mirror, ("IMGLIFE_VARIABLES", "MIRROR")][..],
        &[&TRUSTED[..], &[mirror]].concat(),
    ] {
        let world = job(&[&JOB[..], more].concat()).file("imglife.yaml", text);
        let outcome = world.imglife(["config", "show"]);
        assert_eq!(outcome.code(), Some(0), "{outcome:?}");
        assert!(
            outcome.stdout.contains("mirror.example/a")
                && outcome.stdout.contains("registry.gitlab.example/a"),
            "{outcome:?}"
        );
    }
}

#[test]
fn the_option_makes_any_run_untrusted() {
    let world = World::new()
        .variable("TEAM", "platform")
        .file("imglife.yaml", "status: { title: $TEAM }");
    assert_eq!(world.imglife(["config", "check"]).code(), Some(0));
    let outcome = world.imglife(["config", "check", "--untrusted"]);
    assert_eq!(outcome.code(), Some(2), "{outcome:?}");
}

/// Returns a registry that answers requests without credential with 401.
fn registry() -> FakeServer {
    FakeServer::start(|request| {
        if request.headers.contains_key(header::AUTHORIZATION) {
            return tags(&["1"]);
        }
        Response::builder()
            .status(StatusCode::UNAUTHORIZED)
            .header(header::WWW_AUTHENTICATE, "Basic realm=\"x\"")
            .body(Body::empty())
            .expect("a response")
    })
}

/// Returns the prefix of the variables with the login of a server.
fn prefix_of(server: &FakeServer) -> String {
    format!("IMGLIFE_{}", server.host().replace(['.', ':'], "_"))
}

/// Returns a configuration that mirrors a repository of each server.
fn configuration(servers: &[&FakeServer]) -> String {
    let hosts: Vec<String> = servers
        .iter()
        .map(|server| format!("'{}'", server.host()))
        .collect();
    let entries: String = servers
        .iter()
        .enumerate()
        .map(|(position, server)| {
            format!(
                "  - {{ source: '{}/a', target: 'ocidir://t{position}', tag_regex: '.*' }}\n",
                server.host()
            )
        })
        .collect();
    format!(
        "registry: {{ insecure_registries: [{}] }}\nsync:\n entries:\n{entries}",
        hosts.join(", ")
    )
}

/// Returns the number of requests with a credential.
fn logins(server: &FakeServer) -> usize {
    server
        .requests()
        .iter()
        .filter(|request| request.headers.contains_key(header::AUTHORIZATION))
        .count()
}

#[test]
fn an_untrusted_job_sends_a_login_only_to_the_host_that_a_variable_names() {
    let server = registry();
    let host = server.host();
    let prefix = prefix_of(&server);
    let text = configuration(&[&server]);
    let login = |named: Option<&str>, pairs: &[(&str, &str)]| {
        let mut world = job(pairs)
            .file("imglife.yaml", &text)
            .variable(&format!("{prefix}_USERNAME"), "bot")
            .variable(&format!("{prefix}_PASSWORD"), "hunter2");
        if let Some(named) = named {
            world = world.variable(&format!("{prefix}_HOST"), named);
        }
        let outcome = world.imglife(["sync", "--list"]);
        assert!(!outcome.stderr.contains("hunter2"), "{outcome:?}");
        outcome
    };
    let sent = || logins(&server);
    let refused = login(None, &JOB);
    assert_eq!((refused.code(), sent()), (Some(1), 0), "{refused:?}");
    assert!(
        format!("{refused:?}").contains(&format!("set {prefix}_HOST={host}")),
        "{refused:?}"
    );
    let other = login(Some("other.example"), &JOB);
    assert_eq!((other.code(), sent()), (Some(1), 0), "{other:?}");
    let named = login(Some(&host), &JOB);
    assert!(named.code() == Some(0) && sent() > 0, "{named:?}");
    let trusted = login(None, &[&JOB[..], &TRUSTED].concat());
    assert_eq!(trusted.code(), Some(0), "{trusted:?}");
}

#[test]
fn a_host_that_the_target_branch_names_gets_its_login() {
    let (reviewed, added) = (registry(), registry());
    let on_main = configuration(&[&reviewed]);
    let forge = FakeServer::start(move |request| {
        let is_file =
            request.path == "/api/v4/projects/42/repository/files/imglife.yaml/raw?ref=main";
        if is_file {
            Response::new(Body::from(on_main.clone()))
        } else {
            Response::builder()
                .status(StatusCode::NOT_FOUND)
                .body(Body::empty())
                .expect("a response")
        }
    });
    let mut world = job(&JOB).file("imglife.yaml", configuration(&[&reviewed, &added]));
    let directory = world.path("");
    let (name, port) = {
        let host = forge.host();
        let (name, port) = host.split_once(':').expect("a port");
        (name.to_owned(), port.to_owned())
    };
    world = world
        .variable("CI_SERVER_URL", format!("http://{}", forge.host()))
        .variable("CI_SERVER_HOST", name)
        .variable("CI_SERVER_PORT", port)
        .variable("CI_JOB_TOKEN", "hunter2-job")
        .variable("CI_MERGE_REQUEST_TARGET_BRANCH_NAME", "main")
        .variable("CI_PROJECT_DIR", directory);
    for server in [&reviewed, &added] {
        let prefix = prefix_of(server);
        world = world
            .variable(&format!("{prefix}_USERNAME"), "bot")
            .variable(&format!("{prefix}_PASSWORD"), "hunter2");
    }
    let outcome = world.imglife(["sync", "--list"]);
    assert_eq!(outcome.code(), Some(1), "{outcome:?}");
    assert_eq!(
        (logins(&reviewed) > 0, logins(&added)),
        (true, 0),
        "{outcome:?}"
    );
    assert!(
        format!("{outcome:?}").contains(&format!("set {}_HOST=", prefix_of(&added))),
        "{outcome:?}"
    );
}

/// Writes the base image into the layout `up`.
async fn publish_base(world: &World) {
    let mut graph = Graph::default();
    let image = graph.small_image(Flavour::Oci, "linux/amd64", "base");
    graph.tag("1", &image);
    let repository = Repository::Layout {
        directory: world.path("up"),
    };
    graph.publish(&Layouts::default(), &repository).await;
}

#[tokio::test]
async fn commands_of_the_configuration_run_with_permission_only_and_without_secrets() {
    let build = "
build:
  core_version: 1.0.0
  registry: ocidir://bases
  engine: ENGINE
  hooks: { post_image_build: [{ cmd: 'env > seen' }] }
  images: [{ name: a, folder: a, type: core, mirror_image: 'ocidir://up', mirror_tag: '1' }]
";
    let world = |engine: &str| {
        let mut world = job(&JOB)
            .variable("GITLAB_TOKEN", "hunter2")
            .file("imglife.yaml", build.replace("ENGINE", engine))
            .file("a/Dockerfile.tmpl", "FROM {{ base }}\nLABEL a=b\n");
        world = world.variable("PLAIN", "hunter2-plain");
        world
    };
    let world = async |engine: &str| {
        let world = world(engine);
        publish_base(&world).await;
        world
    };
    let refused = world("native").await.imglife(["build"]);
    assert_eq!(refused.code(), Some(1), "{refused:?}");
    assert!(
        format!("{refused:?}").contains("--allow-commands"),
        "{refused:?}"
    );
    let allowed = world("native").await;
    let outcome = allowed.imglife(["build", "--allow-commands"]);
    assert_eq!(outcome.code(), Some(0), "{outcome:?}");
    let seen = std::fs::read_to_string(allowed.path("seen")).expect("the hook ran");
    assert!(
        seen.contains("PATH=") && seen.contains("CI_PROJECT_ID=42") && !seen.contains("hunter2"),
        "{seen}"
    );
    let program = world("buildah").await.imglife(["build"]);
    assert_eq!(program.code(), Some(1), "{program:?}");
    assert!(
        format!("{program:?}").contains("build programs are not run in an untrusted job"),
        "{program:?}"
    );
}
