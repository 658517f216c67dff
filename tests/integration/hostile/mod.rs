//! An untrusted job: every credential in its environment against every key of the configuration,
//! every place of a Dockerfile, and symbolic links of the checkout.
//!
//! The keys come from the schema of the configuration, so a new key is tested by itself.

mod dockerfiles;
mod files;
mod keys;
mod schema;
mod servers;
mod trusted;

use imglife::model::{JobTrust, Permissions, UntrustedReason, Variables};

/// Part of every secret below. It must never be printed or sent.
const SECRET: &str = "hunter2";

/// Variables of a job of a merge request, without credentials.
const JOB: [(&str, &str); 12] = [
    ("CI", "true"),
    ("GITLAB_CI", "true"),
    ("CI_PIPELINE_SOURCE", "merge_request_event"),
    ("CI_MERGE_REQUEST_IID", "7"),
    ("CI_COMMIT_REF_PROTECTED", "false"),
    ("CI_PROJECT_ID", "42"),
    ("CI_PROJECT_PATH", "team/base"),
    ("CI_SERVER_HOST", "gitlab.example"),
    ("CI_SERVER_PORT", "443"),
    ("CI_SERVER_PROTOCOL", "https"),
    ("CI_SERVER_URL", "https://gitlab.example"),
    ("CI_REGISTRY", "registry.gitlab.example"),
];

/// Variables with credentials that a job can have.
const CREDENTIALS: [(&str, &str); 31] = [
    ("CI_JOB_TOKEN", "job-hunter2-a"),
    ("CI_JOB_JWT_V2", "jwt-hunter2-b"),
    ("CI_REGISTRY_PASSWORD", "job-hunter2-c"),
    ("CI_DEPENDENCY_PROXY_PASSWORD", "hunter2-d"),
    ("CI_DEPLOY_PASSWORD", "hunter2-e"),
    (
        "CI_REPOSITORY_URL",
        "https://gitlab-ci-token:hunter2-f@gitlab.example/team/base.git",
    ),
    ("GITLAB_TOKEN", "glpat-hunter2-g"),
    ("GITLAB_DEPLOY_TOKEN", "gldt-hunter2-gd"),
    ("GITLAB_PAT", "glpat-hunter2-h"),
    ("GITEA_TOKEN", "hunter2-i"),
    ("GITHUB_TOKEN", "ghs_hunter2-j"),
    ("AWS_ACCESS_KEY_ID", "AKIAhunter2-k"),
    ("AWS_SECRET_ACCESS_KEY", "hunter2-l"),
    ("AWS_SESSION_TOKEN", "session-hunter2-m"),
    (
        "DOCKER_AUTH_CONFIG",
        r#"{"auths":{"registry.gitlab.example":{"username":"bot","password":"hunter2-n"}}}"#,
    ),
    ("IMGLIFE_EVIL_EXAMPLE_USERNAME", "bot"),
    ("IMGLIFE_EVIL_EXAMPLE_PASSWORD", "hunter2-o"),
    ("IMGLIFE_REGISTRY_GITLAB_EXAMPLE_TOKEN", "hunter2-p"),
    ("IMGLIFE_LOGIN_TEAM_HOST", "quay.example/team"),
    ("IMGLIFE_LOGIN_TEAM_USERNAME", "bot"),
    ("IMGLIFE_LOGIN_TEAM_PASSWORD", "hunter2-q"),
    ("SSH_PRIVATE_KEY", "hunter2-r"),
    ("DB_PASS", "hunter2-s"),
    ("MYSQL_PWD", "hunter2-t"),
    ("NPM_AUTH", "hunter2-u"),
    ("SESSION_COOKIE", "hunter2-v"),
    ("GOOGLE_CREDENTIALS", "hunter2-w"),
    ("TEAM_WEBHOOK", "https://hooks.example/hunter2-x"),
    ("SIGNING_KEY", "hunter2-y"),
    ("HARMLESS", "glpat-hunter2-z0123456"),
    ("PLAIN", "hunter2-unlisted"),
];

/// Returns the variables of the job with all credentials.
fn variables() -> Variables {
    JOB.into_iter()
        .chain(CREDENTIALS)
        .collect::<Variables>()
        .with_permissions(Permissions {
            trust: JobTrust::Untrusted(UntrustedReason::MergeRequest),
            ..Permissions::default()
        })
}
