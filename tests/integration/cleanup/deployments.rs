//! Images of deployed commits, with deployments as GitLab's documentation describes them
//! (docs.gitlab.com/api/deployments and /api/environments).

use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde_json::json;
use url::Url;

use super::{client, set, tags};
use crate::support::fake_server::{ReceivedRequest, typed};
use crate::support::gitlab::{Gitlab, MAINTAINER, PROJECT, Rules};
use crate::support::images::{Flavour, Graph};
use crate::support::registry::Registry;
use crate::support::world::World;
use crate::sync::entry;

/// Commits with a record.
const WEB: &str = "1111111111111111111111111111111111111111";
const API: &str = "2222222222222222222222222222222222222222";
/// A commit without one.
const OTHER: &str = "3333333333333333333333333333333333333333";

/// Project, environment and commit of each deployment.
const DEPLOYED: [(&str, &str, &str); 4] = [
    ("team%2Fweb", "production", WEB),
    ("team%2Fweb", "eu/1", OTHER),
    ("team%2Fapi", "production", API),
    ("team%2Fapi", "staging", OTHER),
];

/// Answers requests for environments and deployments; `None` for others.
fn answer(received: &ReceivedRequest) -> Option<Response> {
    let url = Url::parse(&format!("http://x{}", received.path)).ok()?;
    let (project, rest) = url
        .path()
        .strip_prefix("/api/v4/projects/")?
        .split_once('/')?;
    let query = |name: &str| {
        let mut pairs = url.query_pairs();
        pairs.find_map(|(key, value)| (key == name).then(|| value.into_owned()))
    };
    let of_project = DEPLOYED.iter().filter(|deployed| deployed.0 == project);
    let entries: Vec<_> = match rest {
        "environments" if query("states").as_deref() == Some("available") => of_project
            .map(|(_, name, _)| json!({ "id": 1, "name": name, "state": "available" }))
            .collect(),
        "environments" => Vec::new(),
        "deployments" => {
            assert_eq!(query("status").as_deref(), Some("success"));
            let environment = query("environment");
            of_project
                .filter(|deployed| environment.as_deref() == Some(deployed.1))
                .map(|(_, name, commit)| {
                    json!({ "sha": commit, "status": "success", "environment": { "name": name } })
                })
                .collect()
        }
        _ => return None,
    };
    let is_allowed = received
        .headers
        .get("private-token")
        .is_some_and(|token| token == MAINTAINER);
    if !is_allowed {
        return Some(StatusCode::NOT_FOUND.into_response());
    }
    let body = serde_json::Value::from(entries).to_string();
    Some(([("x-next-page", "")], typed("application/json", body)).into_response())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_of_a_project_with_an_unrecorded_deployment_are_kept() {
    let registry = Registry::plain();
    let mut entries = String::new();
    for path in ["mirrors/web", "mirrors/api"] {
        let mut graph = Graph::default();
        for name in ["1.0", "2.0", "9.0"] {
            let image = graph.small_image(Flavour::Oci, "linux/amd64", name);
            graph.tag(name, &image);
        }
        let repository = registry.repository(path);
        graph.publish(&client(&registry), &repository).await;
        entries += &entry("up.example/a", &repository.to_string(), "tag: '9.0'");
    }
    let configuration = |gitlab: &Gitlab| {
        format!(
            "registry: {{ provider: gitlab, url: '{}', project_id: {PROJECT}, insecure_registries: ['{}'] }}\n\
             sync:\n  entries:\n{entries}\
             retention:\n  {{ keep_last: 1, grace_days: 0, max_delete_percent: 80, keep_deployed: {{ environments: [production, 'eu/*'] }} }}\n",
            gitlab.url(),
            registry.host()
        )
    };
    let gitlab = Gitlab::start_with(Rules::default(), answer);
    let world = World::new()
        .variable("GITLAB_TOKEN", MAINTAINER)
        .file("imglife.yaml", configuration(&gitlab));
    for (path, project, revision) in [
        ("mirrors/web", "team/web", WEB),
        ("mirrors/api", "team/api", API),
    ] {
        let image = format!("{}:9.0", registry.repository(path));
        world
            .imglife([
                "register",
                "--image",
                &image,
                "--base",
                &image,
                "--project",
                project,
                "--revision",
                revision,
            ])
            .succeeds();
    }
    let left = async |path: &str| tags(&client(&registry), &registry.repository(path)).await;
    let all = set(&["1.0", "2.0", "9.0"]);

    // A token that cannot read the other projects.
    let hidden = world.variable("GITLAB_TOKEN", crate::support::gitlab::DEVELOPER);
    let outcome = hidden.imglife(["cleanup", "--force"]).exits(1);
    assert!(
        outcome
            .stderr
            .contains("the deployments of team/api cannot be read")
            || outcome
                .stdout
                .contains("the deployments of team/api cannot be read"),
        "{} {}",
        outcome.stdout,
        outcome.stderr
    );
    for path in ["mirrors/web", "mirrors/api"] {
        assert_eq!(left(path).await, all, "{path}");
    }

    let world = hidden.variable("GITLAB_TOKEN", MAINTAINER);
    let outcome = world.imglife(["cleanup", "--dry-run"]).succeeds();
    assert!(
        outcome
            .stdout
            .contains("image of team/web, which deployed a commit to eu/1 that no record names"),
        "{}",
        outcome.stdout
    );
    world.imglife(["cleanup"]).succeeds();
    assert_eq!(left("mirrors/web").await, all);
    assert_eq!(left("mirrors/api").await, set(&["9.0"]));
}
