//! Records through a configuration file, as commands use them.

use imglife::app::{self, Mode};
use imglife::config;
use imglife::error::ItemErrorKind;
use imglife::model::{Clock, Variables};
use imglife::packages::{RecordDeletion, Records};
use imglife::process::{Process, Stream};
use tempfile::TempDir;

use super::{record, time};
use crate::support::gitea::{self, Gitea};
use crate::support::gitlab::{self, Gitlab};

fn records(directory: &TempDir, yaml: &str, variables: &[(&str, &str)], mode: Mode) -> Records {
    std::fs::write(directory.path().join("imglife.yaml"), yaml).expect("a file");
    let home = directory.path().join("home").display().to_string();
    let process = Process {
        variables: variables
            .iter()
            .copied()
            .chain([("HOME", home.as_str())])
            .collect::<Variables>(),
        clock: Clock::fixed(time()),
        directory: directory.path().to_owned(),
        stdout: Stream::captured().0,
        stderr: Stream::captured().0,
    };
    let config =
        config::open(None, &process.variables, &process.directory).expect("a configuration");
    app::records(&config, &process, mode).expect("records")
}

/// Fails the test if a run does not find the record of an earlier run, or if a dry run changes
/// anything.
pub(super) async fn round_trip(yaml: &str, variables: &[(&str, &str)]) {
    let directory = tempfile::tempdir().expect("a directory");
    let image = "registry.example/apps/web:1.0";
    let dry = records(&directory, yaml, variables, Mode::DryRun);
    assert_eq!(dry.all().await.expect("a reading").records, []);
    assert_eq!(
        dry.put(&record(image, "one"))
            .await
            .expect_err("a dry run")
            .kind,
        ItemErrorKind::ReadOnly
    );
    let real = records(&directory, yaml, variables, Mode::Apply);
    for revision in ["one", "two"] {
        real.put(&record(image, revision)).await.expect("written");
    }
    assert_eq!(
        dry.all_with_custom_fields()
            .await
            .expect("a reading")
            .records,
        [record(image, "two")]
    );
    assert!(
        !directory.path().join("home").exists(),
        "a dry run wrote to the cache"
    );
    assert_eq!(
        real.all_with_custom_fields()
            .await
            .expect("a reading")
            .records,
        [record(image, "two")]
    );
    assert!(
        directory
            .path()
            .join("home/.cache/imglife/records")
            .is_dir()
    );
    assert_eq!(
        real.delete(&record(image, "two")).await.expect("deleted"),
        RecordDeletion::Done
    );
    assert_eq!(real.all().await.expect("a reading").records, []);
}

#[tokio::test]
async fn gitlab_uses_the_available_token() {
    let server = Gitlab::start(gitlab::Rules::default());
    let (host, port) = (
        server.url().host_str().expect("a host").to_owned(),
        server.url().port().expect("a port").to_string(),
    );
    let yaml = format!(
        "registry: {{ url: 'http://registry.example', api_url: '{}', project_id: $CI_PROJECT_ID }}",
        server.url()
    );
    let project = gitlab::PROJECT.to_string();
    let job = [
        ("GITLAB_CI", "true"),
        ("CI_PROJECT_ID", project.as_str()),
        ("CI_SERVER_HOST", &host),
        ("CI_SERVER_PORT", &port),
    ];
    round_trip(
        &yaml,
        &[&job[..], &[("GITLAB_TOKEN", gitlab::MAINTAINER)]].concat(),
    )
    .await;
    let directory = tempfile::tempdir().expect("a directory");
    let records = records(
        &directory,
        &yaml,
        &[&job[..], &[("CI_JOB_TOKEN", gitlab::JOB)]].concat(),
        Mode::Apply,
    );
    records
        .put(&record("registry.example/apps/web:1.0", "one"))
        .await
        .expect("written");
    let last = server.server.requests().pop().expect("a request");
    assert!(last.headers.contains_key("job-token") && !last.headers.contains_key("private-token"));
}

#[tokio::test]
async fn gitea_uses_its_token() {
    let server = Gitea::start(gitea::Rules::default());
    let yaml = format!(
        "registry: {{ provider: gitea, url: '{}', owner: {}, repo: {} }}",
        server.url(),
        gitea::OWNER,
        gitea::REPOSITORY
    );
    round_trip(&yaml, &[("GITEA_TOKEN", gitea::TOKEN)]).await;
    assert_eq!(server.linked().len(), 1);
}

#[tokio::test]
async fn directory_is_next_to_the_configuration() {
    round_trip("registry: { provider: file }", &[]).await;
}

#[tokio::test]
async fn variables_override_the_section() {
    let server = Gitlab::start(gitlab::Rules::default());
    let url = server.url().to_string();
    let project = gitlab::PROJECT.to_string();
    let variables = [
        ("IMGLIFE_REGISTRY_URL", url.as_str()),
        ("IMGLIFE_REGISTRY_PROJECT_ID", &project),
        ("GITLAB_TOKEN", gitlab::MAINTAINER),
    ];
    round_trip(
        "registry: { url: 'https://elsewhere.example', project_id: 1 }",
        &variables,
    )
    .await;
    round_trip(
        "{ registry: { provider: file } }",
        &[&variables[..], &[("IMGLIFE_REGISTRY_PROVIDER", "gitlab")]].concat(),
    )
    .await;
}
