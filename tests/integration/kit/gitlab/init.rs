//! What `imglife init` writes for GitLab, run as it is.

use super::site::Site;

/// From a clone without files to a report. What is added to the configuration is where this test's
/// internet is, and that its registry has no certificate.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_runs_from_an_empty_project_on() {
    let site = Site::new().await;
    let registry = site.registry.host();
    let origin = format!("{}platform/base-images.git", site.gitlab.url());
    site.world
        .shell(&format!(
            "mkdir written && cd written && git init --quiet && git remote add origin {origin} && imglife init --forge gitlab && rm -rf .git"
        ))
        .succeeds();
    let outside = format!(
        "hosts:\n  docker.io: {{ endpoint: '{}' }}\n  '{registry}': {{ endpoint: 'http://{registry}' }}\n\nlifecycle:\n  api_url: {}\n",
        site.upstream.url(),
        site.endoflife.address()
    );
    site.project(
        "base-images",
        &site.world.path("written"),
        &[("imglife.yaml", "lifecycle:\n", &outside)],
    );

    let first = site.pipeline("base-images", "schedule", &[]).succeeds();
    let subjects = site.subjects("base-images");
    assert_eq!(
        subjects[..2],
        [
            "chore(status): update image status report [skip ci]",
            "chore(lifecycle): update EOL data [skip ci]"
        ],
        "{}",
        first.outcome.stdout
    );
    let report = site.file("base-images", "README.md");
    assert!(
        report.contains("3.21.3-core1.0.0") && report.contains("2098-11-01"),
        "{report}"
    );
    let built = site
        .registry
        .stored_tags("platform/base-images/bases/alpine");
    assert_eq!(
        built.keys().collect::<Vec<_>>(),
        ["3.21.3-core1.0.0", "latest"]
    );

    site.pipeline("base-images", "schedule", &[]).succeeds();
    assert_eq!(site.subjects("base-images"), subjects);
}
