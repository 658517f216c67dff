use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::*;
use crate::credentials::Credential;
use crate::http::testing::{Fake, ReceivedRequest, SECRET, client};
use crate::model::Secret;

fn token(name: &'static str, value: &str) -> Credential {
    Credential::Header {
        name,
        value: Secret::new(value),
    }
}

fn server(fake: &Fake, others: &[&Fake], credential: Credential) -> Server {
    let hosts: Vec<_> = std::iter::once(fake)
        .chain(others.iter().copied())
        .map(Fake::host)
        .collect();
    let http = Arc::new(client(&hosts, credential));
    Server {
        http,
        host: fake.host(),
        address: format!("http://{}/", fake.address)
            .parse()
            .expect("an address"),
    }
}

fn gitlab(fake: &Fake, others: &[&Fake], credential: Credential) -> GitLab {
    GitLab {
        server: server(fake, others, credential),
        project: 7,
    }
}

fn project(seen: &ReceivedRequest) -> Response {
    match seen.path.as_str() {
        "/api/v4/projects/7/repository/files/a%2Fimglife.yaml/raw?ref=release%2F1%3Fx" => "content".into_response(),
        "/api/v4/projects/7" => {
            r#"{"id":7,"path_with_namespace":"org/team/base","default_branch":"main","container_registry_image_prefix":"r.example:5050/org/team/base"}"#
                .into_response()
        }
        "/api/v4/projects/7/repository/files/secret/raw?ref=main" => (StatusCode::FORBIDDEN, "no").into_response(),
        _ => (StatusCode::NOT_FOUND, "{}").into_response(),
    }
}

#[tokio::test]
async fn files_at_gitlab_are_read_with_the_token_in_its_own_header() {
    let fake = Fake::start(project).await;
    for header in ["private-token", "job-token"] {
        let gitlab = gitlab(&fake, &[], token(header, SECRET));
        assert_eq!(
            gitlab
                .file("a/imglife.yaml", "release/1?x")
                .await
                .expect("an answer")
                .as_deref(),
            Some(&b"content"[..])
        );
        assert_eq!(
            fake.seen()
                .last()
                .and_then(|seen| seen.header(header).map(str::to_owned))
                .as_deref(),
            Some(SECRET)
        );
        assert_eq!(gitlab.file("none", "main").await.expect("an answer"), None);
        let error = gitlab.file("secret", "main").await.expect_err("forbidden");
        assert_eq!(
            error.to_string(),
            format!(
                "{}: cannot read secret at main of project 7: 403 Forbidden: no \
                 (GET /api/v4/projects/7/repository/files/secret/raw?ref=***)",
                fake.host()
            )
        );
        assert!(
            error
                .hint()
                .is_some_and(|hint| hint.contains("GITLAB_TOKEN"))
                && !crate::error::chain(&error).contains(SECRET)
        );
    }
}

#[tokio::test]
async fn the_variables_of_a_gitlab_project_are_those_of_its_jobs() {
    let fake = Fake::start(project).await;
    let variables = gitlab(&fake, &[], Credential::Anonymous)
        .variables()
        .await
        .expect("an answer");
    for (name, value) in [
        ("CI_PROJECT_PATH", "org/team/base"),
        ("CI_PROJECT_NAMESPACE", "org/team"),
        ("CI_PROJECT_ROOT_NAMESPACE", "org"),
        ("CI_PROJECT_NAME", "base"),
        ("CI_REGISTRY", "r.example:5050"),
        ("CI_REGISTRY_IMAGE", "r.example:5050/org/team/base"),
        ("CI_DEFAULT_BRANCH", "main"),
    ] {
        assert_eq!(variables.get(name), Some(value));
    }
    let hidden = Fake::start(|_| StatusCode::NOT_FOUND).await;
    let variables = gitlab(&hidden, &[], Credential::Anonymous)
        .variables()
        .await
        .expect("an answer");
    assert_eq!(
        (
            variables.get("CI_PROJECT_ID"),
            variables.get("CI_REGISTRY_IMAGE")
        ),
        (Some("7"), None)
    );
}

#[tokio::test]
async fn a_token_does_not_follow_a_redirect_to_another_host() {
    let other = Fake::start(|_| "elsewhere").await;
    let address = other.address;
    let fake = Fake::start(move |_| {
        (
            StatusCode::FOUND,
            [("location", format!("http://{address}/x"))],
        )
            .into_response()
    })
    .await;
    let gitlab = gitlab(&fake, &[&other], token("private-token", SECRET));
    assert_eq!(
        gitlab
            .file("a", "main")
            .await
            .expect("an answer")
            .as_deref(),
        Some(&b"elsewhere"[..])
    );
    assert_eq!(other.seen()[0].header("private-token"), None);
}

#[tokio::test]
async fn files_at_gitea_are_read_below_the_path_of_the_server() {
    let fake = Fake::start(|seen: &ReceivedRequest| match seen.path.as_str() {
        "/git/api/v1/repos/team/base/raw/a/imglife.yaml?ref=main" => "content".into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    })
    .await;
    let mut server = server(
        &fake,
        &[],
        token("authorization", &format!("token {SECRET}")),
    );
    server.address = format!("http://{}/git/", fake.address)
        .parse()
        .expect("an address");
    let gitea = Gitea {
        server,
        owner: "team".to_owned(),
        repository: "base".to_owned(),
    };
    assert_eq!(
        gitea
            .file("a/imglife.yaml", "main")
            .await
            .expect("an answer")
            .as_deref(),
        Some(&b"content"[..])
    );
    assert_eq!(
        fake.seen()[0].authorization(),
        Some(format!("token {SECRET}").as_str())
    );
    assert_eq!(gitea.file("none", "main").await.expect("an answer"), None);
    assert_eq!(
        gitea
            .variables()
            .await
            .expect("known")
            .get("GITHUB_REPOSITORY"),
        Some("team/base")
    );
}
