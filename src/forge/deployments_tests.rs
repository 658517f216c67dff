//! Deployments at a server that behaves as GitLab's documentation describes
//! (docs.gitlab.com/api/deployments, /api/environments and /api/rest/#pagination).

use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use url::Url;

use super::*;
use crate::credentials::Credential;
use crate::http::testing::{Fake, ReceivedRequest, SECRET, client};
use crate::model::Secret;

/// Deployment in the order in which they were created: environment, commit, status and end.
type Created = (&'static str, String, &'static str, u64);

/// A project with its environments and deployments.
#[derive(Clone, Default)]
struct Project {
    /// Name and state.
    environments: Vec<(String, &'static str)>,
    deployments: Vec<Created>,
    /// True if a proxy removes the headers of pages.
    has_no_headers: bool,
}

impl Project {
    fn answer(&self, received: &ReceivedRequest) -> Response {
        let url = Url::parse(&format!("http://x{}", received.path)).expect("a URL");
        let query = |name: &str| {
            let mut pairs = url.query_pairs();
            pairs.find_map(|(key, value)| (key == name).then(|| value.into_owned()))
        };
        if received.header("private-token") != Some(SECRET) {
            return (
                StatusCode::NOT_FOUND,
                r#"{"message":"404 Project Not Found"}"#,
            )
                .into_response();
        }
        let entries: Vec<Value> = match url.path() {
            "/api/v4/projects/team%2Fweb/environments" => {
                let state = query("states");
                let is_listed =
                    |of: &&(String, &str)| state.as_deref().is_none_or(|state| of.1 == state);
                let listed = self.environments.iter().filter(is_listed);
                listed
                    .map(|(name, state)| json!({ "id": 1, "name": name, "state": state }))
                    .collect()
            }
            "/api/v4/projects/team%2Fweb/deployments" => {
                let mut listed: Vec<&Created> = self.deployments.iter().collect();
                if query("order_by").as_deref() == Some("finished_at") {
                    listed.sort_by_key(|deployment| deployment.3);
                }
                // The default of `sort` is `asc`.
                if query("sort").as_deref() == Some("desc") {
                    listed.reverse();
                }
                let (environment, status) = (query("environment"), query("status"));
                listed.retain(|listed| {
                    environment.as_deref().is_none_or(|name| listed.0 == name)
                        && status.as_deref().is_none_or(|status| listed.2 == status)
                });
                let entry = |listed: &&Created| {
                    json!({
                        "id": 41, "iid": 1, "ref": "main", "sha": listed.1, "status": listed.2,
                        "environment": { "id": 9, "name": listed.0, "external_url": null },
                        "deployable": { "commit": { "id": listed.1 } },
                    })
                };
                listed.iter().map(entry).collect()
            }
            _ => {
                return (
                    StatusCode::NOT_FOUND,
                    r#"{"message":"404 Project Not Found"}"#,
                )
                    .into_response();
            }
        };
        let number = |name: &str| query(name).and_then(|text| text.parse::<usize>().ok());
        let (page, size) = (
            number("page").unwrap_or(1),
            number("per_page").unwrap_or(20).min(100),
        );
        let total = entries.len();
        let next = if page * size < total {
            (page + 1).to_string()
        } else {
            String::new()
        };
        let shown: Vec<Value> = entries
            .into_iter()
            .skip((page - 1) * size)
            .take(size)
            .collect();
        let body = Value::from(shown).to_string();
        if self.has_no_headers {
            body.into_response()
        } else {
            ([("x-next-page", next)], body).into_response()
        }
    }
}

async fn gitlab(
    answer: impl Fn(&ReceivedRequest) -> Response + Send + Sync + 'static,
) -> (GitLabDeployments, Fake) {
    let fake = Fake::start(answer).await;
    let credential = Credential::Header {
        name: "private-token",
        value: Secret::new(SECRET),
    };
    let server = Server {
        http: Arc::new(client(&[fake.host()], credential)),
        host: fake.host(),
        address: format!("http://{}/", fake.address).parse().expect("a URL"),
    };
    (GitLabDeployments { server }, fake)
}

fn commit(number: usize) -> String {
    format!("{number:040x}")
}

#[tokio::test]
async fn environments_of_all_pages_are_listed_without_stopped_ones() {
    for has_no_headers in [false, true] {
        for count in [0, 1, 100, 101, 200] {
            let name = |number: usize| format!("review/{number}");
            let mut environments: Vec<_> = (0..count)
                .map(|number| (name(number), "available"))
                .collect();
            environments.push(("production".to_owned(), "stopping"));
            environments.push(("old".to_owned(), "stopped"));
            let project = Project {
                environments,
                has_no_headers,
                ..Project::default()
            };
            let (gitlab, _fake) = gitlab(move |received| project.answer(received)).await;
            let found = gitlab.environments("team/web").await.expect("environments");
            let expected: Vec<_> = (0..count)
                .map(name)
                .chain(["production".to_owned()])
                .collect();
            assert_eq!(found, expected, "{count} {has_no_headers}");
        }
    }
}

#[tokio::test]
async fn newest_deployed_commits_are_returned_each_once() {
    let of = |number, status, end| ("eu/1", commit(number), status, end);
    let mut deployments = vec![
        of(1, "success", 1),
        // Created first, started last.
        of(2, "success", 100),
        of(3, "success", 3),
        of(4, "failed", 4),
        of(6, "running", 6),
        ("eu/2", commit(5), "success", 101),
    ];
    // More than a page with one commit.
    deployments.extend((50..90).map(|end| of(7, "success", end)));
    for has_no_headers in [false, true] {
        let project = Project {
            deployments: deployments.clone(),
            has_no_headers,
            ..Project::default()
        };
        let (gitlab, fake) = gitlab(move |received| project.answer(received)).await;
        for (count, expected) in [
            (1, &[2][..]),
            (2, &[2, 7]),
            (3, &[2, 7, 3]),
            (9, &[2, 7, 3, 1]),
        ] {
            let found = gitlab
                .deployments("team/web", "eu/1", count)
                .await
                .expect("deployments");
            let expected: Vec<_> = expected
                .iter()
                .map(|number| Deployment {
                    environment: "eu/1".to_owned(),
                    commit: commit(*number),
                })
                .collect();
            assert_eq!(found, expected, "{count}");
        }
        // The first two answers need one page, the others all three.
        assert_eq!(fake.seen().len(), 2 + 2 * 3);
        let none = gitlab.deployments("team/web", "none", 3).await;
        assert_eq!(none.expect("no deployments"), []);
    }
}

#[tokio::test]
async fn pages_are_bounded() {
    // A server that repeats its page forever.
    let (endless, fake) = gitlab(|received: &ReceivedRequest| {
        let size = if received.path.contains("/deployments") {
            20
        } else {
            100
        };
        let entry = json!({
            "name": "a", "sha": commit(1), "status": "success", "environment": { "name": "a" },
        });
        Value::from(vec![entry; size]).to_string().into_response()
    })
    .await;
    let found = endless.deployments("team/web", "a", 3).await;
    assert_eq!(found.expect("deployments").len(), 1);
    assert_eq!(fake.seen().len(), 50);
    let error = endless.environments("team/web").await.expect_err("no end");
    assert!(error.to_string().contains("more than 10000"), "{error}");
    assert_eq!(fake.seen().len(), 150);
}

#[tokio::test]
async fn unreadable_deployments_are_an_error() {
    let (hidden, _fake) = gitlab(|received| Project::default().answer(received)).await;
    let error = hidden
        .deployments("team/other", "a", 3)
        .await
        .expect_err("no project");
    let hint = error.hint().expect("a hint");
    assert!(
        error.to_string().contains("deployments of team/other to a") && hint.contains("read_api"),
        "{error} {hint}"
    );
    assert!(hidden.environments("team/other").await.is_err());
    for project in ["", ".", ".."] {
        assert!(
            hidden.deployments(project, "a", 3).await.is_err(),
            "{project}"
        );
    }
    let entry = |environment: &str, status: &str| {
        json!([{ "sha": commit(1), "status": status, "environment": { "name": environment } }])
            .to_string()
    };
    for (body, cause) in [
        (entry("b", "success"), "ignored the filter"),
        (entry("a", "failed"), "ignored the filter"),
        (r#"{"message":"maintenance"}"#.to_owned(), "invalid type"),
        (r#"[{"status":"success"}]"#.to_owned(), "missing field"),
        ("<html>".to_owned(), "expected value"),
    ] {
        let answer = body.clone();
        let (broken, _fake) = gitlab(move |_| answer.clone().into_response()).await;
        let error = broken
            .deployments("team/web", "a", 3)
            .await
            .expect_err(&body);
        assert!(error.to_string().contains(cause), "{body}: {error}");
    }
}
