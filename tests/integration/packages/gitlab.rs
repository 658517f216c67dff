//! GitLab's ways.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use imglife::credentials::Forge;
use imglife::error::{ItemError, ItemErrorKind, chain};
use imglife::http::Settings;
use imglife::packages::gitlab::GitlabPackages;
use imglife::packages::{PackageFiles, Scope};

use super::{client, client_with, file, holds_for, package, prefix, put, record, records};
use crate::support::gitlab::{
    DEVELOPER, Duplicates, Gitlab, JOB, MAINTAINER, OTHER_JOB, PROJECT, Rules,
};
use crate::support::liar::{Asked, Liar};

fn place_with(gitlab: &Gitlab, token: &str) -> GitlabPackages {
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
            client_with(settings(), Forge::Gitlab, &[&url, &storage], &job),
            Some("CI_JOB_TOKEN"),
        ),
        "" => (
            client_with(settings(), Forge::Gitlab, &[&url, &storage], &[]),
            None,
        ),
        _ => (
            client_with(
                settings(),
                Forge::Gitlab,
                &[&url, &storage],
                &[("GITLAB_TOKEN", token)],
            ),
            Some("GITLAB_TOKEN"),
        ),
    };
    GitlabPackages::new(client, &url, PROJECT, variable).expect("a place")
}

fn place(gitlab: &Gitlab) -> Arc<dyn PackageFiles> {
    Arc::new(place_with(gitlab, MAINTAINER))
}

/// Fails where a token came to the storage, or to the server in any way but its header.
fn assert_tokens_stay(gitlab: &Gitlab) {
    let shown = |asked: &Asked| format!("{} {:?}", asked.path, asked.headers);
    for asked in gitlab.storage.asked() {
        let headers = ["private-token", "job-token", "authorization", "cookie"];
        assert!(
            headers
                .iter()
                .all(|name| !asked.headers.contains_key(*name)),
            "{}",
            shown(&asked)
        );
        assert!(
            !shown(&asked)
                .replace("Signature=hunter2", "")
                .contains("hunter2"),
            "{}",
            shown(&asked)
        );
    }
    assert!(
        gitlab
            .server
            .asked()
            .iter()
            .all(|asked| !asked.path.contains("hunter2"))
    );
}

async fn keeps_the_contract(rules: Rules) {
    let gitlab = Gitlab::start(rules);
    holds_for(place(&gitlab)).await;
    assert_tokens_stay(&gitlab);
    assert_eq!(rules.storage, !gitlab.storage.asked().is_empty());
}

#[tokio::test]
async fn gitlab_keeps_the_contract() {
    keeps_the_contract(Rules::default()).await;
}

#[tokio::test]
async fn gitlab_that_refuses_duplicates_keeps_the_contract() {
    for status in [400, 403] {
        keeps_the_contract(Rules {
            duplicates: Duplicates::Refused(status),
            ..Rules::default()
        })
        .await;
    }
}

#[tokio::test]
async fn gitlab_with_a_storage_elsewhere_keeps_the_contract_and_the_storage_sees_no_token() {
    keeps_the_contract(Rules {
        storage: true,
        ..Rules::default()
    })
    .await;
}

#[tokio::test]
async fn gitlab_that_does_not_count_keeps_the_contract() {
    keeps_the_contract(Rules {
        counted: 10,
        ..Rules::default()
    })
    .await;
    keeps_the_contract(Rules {
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
async fn missing_permissions_are_told_with_what_is_needed() {
    let gitlab = Gitlab::start(Rules::default());
    put(&*place(&gitlab), &package("r.example/a"), "1").await;
    for (token, expected, needed) in [
        (
            "",
            ItemErrorKind::Absent,
            "set GITLAB_TOKEN to a token with the scope `api`",
        ),
        (
            "glpat-unknown-hunter2",
            ItemErrorKind::Unauthorized,
            "GITLAB_TOKEN is wrong, has ended, or may not do this: it needs the scope `api`",
        ),
        (
            OTHER_JOB,
            ItemErrorKind::Forbidden,
            "allowlist of project 42",
        ),
    ] {
        let place = place_with(&gitlab, token);
        let (kind, hint) = kind_and_hint(
            &place
                .list(&Scope::AllRecords(prefix()))
                .await
                .expect_err("no listing"),
        );
        assert_eq!(kind, expected, "{token}");
        assert!(hint.contains(needed), "{hint}");
        let written = place
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
async fn who_may_not_delete_still_replaces_records() {
    let gitlab = Gitlab::start(Rules::default());
    for (name, token) in [("developer", DEVELOPER), ("job", JOB)] {
        let records = records(Arc::new(place_with(&gitlab, token)));
        let image = format!("r.example/{name}:1");
        records.put(&record(&image, "one")).await.expect("written");
        let put = records.put(&record(&image, "two")).await.expect("written");
        let (kind, hint) = kind_and_hint(&put.left_behind.expect("it may not delete"));
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
async fn a_page_that_fails_fails_the_listing() {
    for broken in ["packages?", "package_files?"] {
        let gitlab = Gitlab::start_with(Rules::default(), move |asked| {
            (asked.path.contains(broken) && asked.path.contains("page=2"))
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
        let error = place(&gitlab)
            .list(&Scope::AllRecords(prefix()))
            .await
            .expect_err("half a listing");
        assert_eq!(error.kind, ItemErrorKind::ServerError);
        assert!(
            chain(&error).contains("500 Internal Server Error (tried 5 times)"),
            "{}",
            chain(&error)
        );
    }
}

#[tokio::test]
async fn what_moves_between_pages_while_they_are_read_is_not_missed() {
    // A register at work: each time the first page was read, the first file is replaced by one on
    // the last page.
    let gitlab = Arc::new(std::sync::OnceLock::<Gitlab>::new());
    let seen = gitlab.clone();
    let moves = std::sync::atomic::AtomicUsize::new(0);
    let files: Vec<String> = (0..150)
        .map(|number| {
            file(&package("r.example/a"), &format!("{number:03}"), b"x")
                .file
                .to_string()
        })
        .collect();
    let first = files[0].clone();
    let started = Gitlab::start_with(Rules::default(), move |asked| {
        let gitlab = seen.get()?;
        if asked.path.contains("package_files?per_page=100&page=2")
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
    let listing = place(gitlab)
        .list(&Scope::AllRecords(prefix()))
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
async fn an_answer_that_was_lost_is_no_failure() {
    for duplicates in [Duplicates::Added, Duplicates::Refused(400)] {
        let asked_before = std::sync::atomic::AtomicBool::new(false);
        let inside = Arc::new(Gitlab::start(Rules {
            duplicates,
            ..Rules::default()
        }));
        let beneath = inside.clone();
        // The first upload arrives, and its answer does not.
        let gitlab = Gitlab::start_with(
            Rules {
                duplicates,
                ..Rules::default()
            },
            move |asked| {
                let answer = beneath.forward(asked);
                let is_first = asked.method == "PUT"
                    && !asked_before.swap(true, std::sync::atomic::Ordering::Relaxed);
                Some(if is_first {
                    StatusCode::BAD_GATEWAY.into_response()
                } else {
                    answer
                })
            },
        );
        let records = records(place(&gitlab));
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
async fn what_is_no_record_is_told_by_its_name() {
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
    let listing = place(&gitlab)
        .list(&Scope::AllRecords(prefix()))
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
async fn a_server_that_is_down_slow_or_talks_nonsense_is_an_error_in_time() {
    let gone = Liar::start(|_| StatusCode::OK.into_response());
    let url = format!("http://{}", gone.host()).parse().expect("a URL");
    drop(gone);
    let down = GitlabPackages::new(
        client(Forge::Gitlab, &[&url], "GITLAB_TOKEN", MAINTAINER),
        &url,
        PROJECT,
        Some("GITLAB_TOKEN"),
    )
    .expect("a place");
    let began = Instant::now();
    let error = down
        .list(&Scope::AllRecords(prefix()))
        .await
        .expect_err("nobody answers");
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
        Forge::Gitlab,
        &[&url],
        &[("GITLAB_TOKEN", MAINTAINER)],
    );
    let silent = GitlabPackages::new(client, &url, PROJECT, Some("GITLAB_TOKEN")).expect("a place");
    let error = silent
        .list(&Scope::AllRecords(prefix()))
        .await
        .expect_err("nothing is said");
    assert!(
        error.kind == ItemErrorKind::Unreachable && began.elapsed() < Duration::from_secs(20),
        "{error}"
    );
    for answer in ["", "{}", "[1]", "[{\"id\":\"x\"}]", "<html>"] {
        let gitlab = Gitlab::start_with(Rules::default(), move |_| Some(answer.into_response()));
        let error = place(&gitlab)
            .list(&Scope::AllRecords(prefix()))
            .await
            .expect_err("nonsense");
        assert_eq!(error.kind, ItemErrorKind::Malformed, "{answer}");
    }
}
