//! Tests of the record store on GitLab.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use imglife::credentials::ForgeKind;
use imglife::error::{ItemError, ItemErrorKind, chain};
use imglife::http::Settings;
use imglife::packages::gitlab::GitlabPackages;
use imglife::packages::{PackageScope, RecordStore};

use super::{check_contract, client, client_with, file, package, prefix, put, record, records};
use crate::support::fake_server::{FakeServer, ReceivedRequest};
use crate::support::gitlab::{
    DEVELOPER, Duplicates, Gitlab, JOB, MAINTAINER, OTHER_JOB, PROJECT, Rules,
};

fn store_with(gitlab: &Gitlab, token: &str) -> GitlabPackages {
    let storage = format!("http://{}", gitlab.storage.host())
        .parse()
        .expect("a URL");
    let url = gitlab.url();
    let job = [("CI_SERVER_HOST", "127.0.0.1"), ("CI_JOB_TOKEN", token)];
    let settings = || Settings {
        retry_delay: Duration::from_millis(2),
        stall: Duration::from_secs(2),
        ..Settings::default()
    };
    let (client, variable) = match token {
        JOB | OTHER_JOB => (
            client_with(settings(), ForgeKind::Gitlab, &[&url, &storage], &job),
            Some("CI_JOB_TOKEN"),
        ),
        "" => (
            client_with(settings(), ForgeKind::Gitlab, &[&url, &storage], &[]),
            None,
        ),
        _ => (
            client_with(
                settings(),
                ForgeKind::Gitlab,
                &[&url, &storage],
                &[("GITLAB_TOKEN", token)],
            ),
            Some("GITLAB_TOKEN"),
        ),
    };
    GitlabPackages::new(client, &url, PROJECT, variable).expect("a store")
}

fn store(gitlab: &Gitlab) -> Arc<dyn RecordStore> {
    Arc::new(store_with(gitlab, MAINTAINER))
}

/// Fails the test if a token was sent to the storage, or to the server other than in its header.
fn assert_tokens_stay(gitlab: &Gitlab) {
    let shown = |received: &ReceivedRequest| format!("{} {:?}", received.path, received.headers);
    for received in gitlab.storage.requests() {
        let headers = ["private-token", "job-token", "authorization", "cookie"];
        assert!(
            headers
                .iter()
                .all(|name| !received.headers.contains_key(*name)),
            "{}",
            shown(&received)
        );
        assert!(
            !shown(&received)
                .replace("Signature=hunter2", "")
                .contains("hunter2"),
            "{}",
            shown(&received)
        );
    }
    assert!(
        gitlab
            .server
            .requests()
            .iter()
            .all(|received| !received.path.contains("hunter2"))
    );
}

async fn passes_the_contract(rules: Rules) {
    let gitlab = Gitlab::start(rules);
    check_contract(store(&gitlab)).await;
    assert_tokens_stay(&gitlab);
    assert_eq!(rules.storage, !gitlab.storage.requests().is_empty());
}

#[tokio::test]
async fn gitlab_passes_the_contract() {
    passes_the_contract(Rules::default()).await;
}

#[tokio::test]
async fn gitlab_that_rejects_duplicates_passes_the_contract() {
    for status in [400, 403] {
        passes_the_contract(Rules {
            duplicates: Duplicates::Refused(status),
            ..Rules::default()
        })
        .await;
    }
}

#[tokio::test]
async fn gitlab_with_a_storage_on_another_host_gets_no_token_there() {
    passes_the_contract(Rules {
        storage: true,
        ..Rules::default()
    })
    .await;
}

#[tokio::test]
async fn gitlab_without_totals_passes_the_contract() {
    passes_the_contract(Rules {
        counted: 10,
        ..Rules::default()
    })
    .await;
    passes_the_contract(Rules {
        counted: 10,
        links: false,
        ..Rules::default()
    })
    .await;
}

fn kind_and_hint(error: &ItemError) -> (ItemErrorKind, String) {
    let text = format!("{} {error:?}", chain(error));
    assert!(!text.contains("hunter2"), "{text}");
    (error.kind, error.hint().unwrap_or_default())
}

#[tokio::test]
async fn hint_names_the_missing_permission() {
    let gitlab = Gitlab::start(Rules::default());
    put(&*store(&gitlab), &package("r.example/a"), "1").await;
    for (token, expected, needed) in [
        (
            "",
            ItemErrorKind::Absent,
            "set GITLAB_TOKEN to a token with the scope `api`",
        ),
        (
            "glpat-unknown-hunter2",
            ItemErrorKind::Unauthorized,
            "GITLAB_TOKEN is invalid, expired or lacks permission: it needs the scope `api`",
        ),
        (
            OTHER_JOB,
            ItemErrorKind::Forbidden,
            "allowlist of project 42",
        ),
    ] {
        let store = store_with(&gitlab, token);
        let (kind, hint) = kind_and_hint(
            &store
                .list(&PackageScope::AllRecords(prefix()))
                .await
                .expect_err("no listing"),
        );
        assert_eq!(kind, expected, "{token}");
        assert!(hint.contains(needed), "{hint}");
        let written = store
            .put(
                &file(&package("r.example/a"), "2", b""),
                bytes::Bytes::new(),
            )
            .await;
        assert!(
            kind_and_hint(&written.expect_err("not written"))
                .1
                .contains("Developer to write")
        );
    }
}

#[tokio::test]
async fn put_replaces_records_without_permission_to_delete() {
    let gitlab = Gitlab::start(Rules::default());
    for (name, token) in [("developer", DEVELOPER), ("job", JOB)] {
        let records = records(Arc::new(store_with(&gitlab, token)));
        let image = format!("r.example/{name}:1");
        records.put(&record(&image, "one")).await.expect("written");
        let put = records.put(&record(&image, "two")).await.expect("written");
        let (kind, hint) = kind_and_hint(&put.cleanup_error.expect("no permission to delete"));
        assert_eq!(kind, ItemErrorKind::Forbidden);
        assert!(hint.contains("Maintainer to delete"), "{hint}");
        let reading = records.all().await.expect("a reading");
        assert!(
            reading
                .records
                .iter()
                .any(|record| record.image.to_string() == image && record.revision == "two")
        );
    }
}

#[tokio::test]
async fn failed_page_fails_the_listing() {
    for broken in ["packages?", "package_files?"] {
        let gitlab = Gitlab::start_with(Rules::default(), move |received| {
            (received.path.contains(broken) && received.path.contains("page=2"))
                .then(|| StatusCode::INTERNAL_SERVER_ERROR.into_response())
        });
        let files = (0..150).map(|number| {
            (
                file(&package("r.example/a"), &number.to_string(), b"x")
                    .file
                    .to_string(),
                "x".into(),
            )
        });
        gitlab.insert(&package("r.example/a").flat(), "records", files);
        for number in 0..120 {
            let file = file(&package("r.example/a"), "1", b"x").file.to_string();
            gitlab.insert(
                &package(&format!("r.example/p{number}")).flat(),
                "records",
                [(file, "x".into())],
            );
        }
        let error = store(&gitlab)
            .list(&PackageScope::AllRecords(prefix()))
            .await
            .expect_err("an incomplete listing");
        assert_eq!(error.kind, ItemErrorKind::ServerError);
        assert!(
            chain(&error).contains(": 500 Internal Server Error (GET ")
                && chain(&error).ends_with(", tried 5 times)"),
            "{}",
            chain(&error)
        );
    }
}

#[tokio::test]
async fn files_that_move_between_pages_are_listed() {
    // Simulates a concurrent `register`: after the first page was read, the first file is replaced
    // by one on the last page.
    let gitlab = Arc::new(std::sync::OnceLock::<Gitlab>::new());
    let shared = gitlab.clone();
    let moves = std::sync::atomic::AtomicUsize::new(0);
    let files: Vec<String> = (0..150)
        .map(|number| {
            file(&package("r.example/a"), &format!("{number:03}"), b"x")
                .file
                .to_string()
        })
        .collect();
    let first = files[0].clone();
    let started = Gitlab::start_with(Rules::default(), move |received| {
        let gitlab = shared.get()?;
        if received.path.contains("package_files?per_page=100&page=2")
            && moves.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0
        {
            gitlab.replace(&first, "records", &package("r.example/a").flat());
        }
        None
    });
    started.insert(
        &package("r.example/a").flat(),
        "records",
        files.into_iter().map(|file| (file, "x".into())),
    );
    let gitlab = gitlab.get_or_init(|| started);
    let listing = store(gitlab)
        .list(&PackageScope::AllRecords(prefix()))
        .await
        .expect("a listing");
    let subjects: std::collections::BTreeSet<String> = listing
        .files
        .iter()
        .map(|file| file.name.file.subject.to_string())
        .collect();
    assert_eq!(subjects.len(), 150);
}

#[tokio::test]
async fn put_succeeds_after_a_lost_response() {
    for duplicates in [Duplicates::Added, Duplicates::Refused(400)] {
        let asked_before = std::sync::atomic::AtomicBool::new(false);
        let inside = Arc::new(Gitlab::start(Rules {
            duplicates,
            ..Rules::default()
        }));
        let beneath = inside.clone();
        // The first upload arrives, but its response is lost.
        let gitlab = Gitlab::start_with(
            Rules {
                duplicates,
                ..Rules::default()
            },
            move |received| {
                let answer = beneath.forward(received);
                let is_first = received.method == "PUT"
                    && !asked_before.swap(true, std::sync::atomic::Ordering::Relaxed);
                Some(if is_first {
                    StatusCode::BAD_GATEWAY.into_response()
                } else {
                    answer
                })
            },
        );
        let records = records(store(&gitlab));
        records
            .put(&record("r.example/a:1", "one"))
            .await
            .expect("written");
        assert_eq!(
            inside.files().len(),
            if duplicates == Duplicates::Added {
                2
            } else {
                1
            }
        );
        records
            .put(&record("r.example/a:1", "two"))
            .await
            .expect("written");
        assert_eq!(
            (
                inside.files().len(),
                records.all().await.expect("a reading").records.len()
            ),
            (1, 1)
        );
    }
}

#[tokio::test]
async fn foreign_files_are_listed_by_name() {
    let gitlab = Gitlab::start(Rules::default());
    gitlab.insert(
        "imglife.r.example__a",
        "records",
        [("notes.txt".to_owned(), "hello".into())],
    );
    gitlab.insert(
        "imglife.Strange",
        "records",
        [("x".to_owned(), "hello".into())],
    );
    gitlab.insert(
        "imglife.r.example__a",
        "1.0",
        [("x".to_owned(), "hello".into())],
    );
    let listing = store(&gitlab)
        .list(&PackageScope::AllRecords(prefix()))
        .await
        .expect("a listing");
    assert_eq!(
        (listing.files.len(), listing.foreign),
        (
            0,
            vec![
                "imglife.Strange/records".to_owned(),
                "imglife/records/r.example__a/notes.txt".to_owned()
            ]
        )
    );
}

#[tokio::test]
async fn unreachable_slow_or_malformed_server_is_an_error_soon() {
    let gone = FakeServer::start(|_| StatusCode::OK.into_response());
    let url = format!("http://{}", gone.host()).parse().expect("a URL");
    drop(gone);
    let down = GitlabPackages::new(
        client(ForgeKind::Gitlab, &[&url], "GITLAB_TOKEN", MAINTAINER),
        &url,
        PROJECT,
        Some("GITLAB_TOKEN"),
    )
    .expect("a store");
    let began = Instant::now();
    let error = down
        .list(&PackageScope::AllRecords(prefix()))
        .await
        .expect_err("no server");
    assert_eq!(error.kind, ItemErrorKind::Unreachable);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"))
        .parse()
        .expect("a URL");
    let settings = Settings {
        retry_delay: Duration::from_millis(2),
        stall: Duration::from_millis(200),
        ..Settings::default()
    };
    let client = client_with(
        settings,
        ForgeKind::Gitlab,
        &[&url],
        &[("GITLAB_TOKEN", MAINTAINER)],
    );
    let silent = GitlabPackages::new(client, &url, PROJECT, Some("GITLAB_TOKEN")).expect("a store");
    let error = silent
        .list(&PackageScope::AllRecords(prefix()))
        .await
        .expect_err("no response");
    assert!(
        error.kind == ItemErrorKind::Unreachable && began.elapsed() < Duration::from_secs(20),
        "{error}"
    );
    for answer in ["", "{}", "[1]", "[{\"id\":\"x\"}]", "<html>"] {
        let gitlab = Gitlab::start_with(Rules::default(), move |_| Some(answer.into_response()));
        let error = store(&gitlab)
            .list(&PackageScope::AllRecords(prefix()))
            .await
            .expect_err("a malformed response");
        assert_eq!(error.kind, ItemErrorKind::Malformed, "{answer}");
    }
}
