//! Tests of the record store in S3, with a real and a fake server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use imglife::credentials::NoCredentials;
use imglife::error::{ItemErrorKind, chain};
use imglife::http::{Client, Settings, Url};
use imglife::model::{Clock, Secret};
use imglife::packages::s3::{S3Bucket, S3Files, S3Keys};
use imglife::packages::{PackageScope, Prefix, RecordStore};

use super::{check_contract, file, package, prefix, put, time};
use crate::support::fake_server::{FakeServer, typed};
use crate::support::seaweed::{ACCESS_KEY, SECRET_KEY, Seaweed};

pub(crate) fn store(url: &Url, bucket: &str, id: &str, secret: &str) -> S3Files {
    let settings = Settings {
        retry_delay: Duration::from_millis(2),
        stall: Duration::from_secs(5),
        ..Settings::default()
    };
    let client = Arc::new(Client::new(
        settings,
        Arc::new(NoCredentials),
        Clock::fixed(time()),
    ));
    let keys = S3Keys {
        id: id.to_owned(),
        secret: Secret::new(secret),
        session_token: None,
    };
    let bucket = S3Bucket {
        endpoint: Some(url.clone()),
        name: bucket.to_owned(),
        region: "us-east-1".to_owned(),
        keys: Some(keys),
    };
    S3Files::new(client, bucket)
}

#[tokio::test(flavor = "multi_thread")]
async fn real_server_passes_the_contract_and_errors_have_hints() {
    let seaweed = Seaweed::start();
    seaweed.make_bucket("records");
    let url = seaweed.url();
    let records = store(&url, "records", ACCESS_KEY, SECRET_KEY);
    put(&records, &package("r.example/a"), "1").await;
    let all = PackageScope::AllRecords(prefix());
    assert_eq!(records.list(&all).await.expect("a listing").files.len(), 1);
    for (bucket, id, secret, expected, hint) in [
        (
            "missing",
            ACCESS_KEY,
            SECRET_KEY,
            ItemErrorKind::Absent,
            "create the bucket missing",
        ),
        (
            "records",
            ACCESS_KEY,
            "other-hunter2",
            ItemErrorKind::Unauthorized,
            "AWS_SECRET_ACCESS_KEY",
        ),
        (
            "records",
            "nobody",
            SECRET_KEY,
            ItemErrorKind::Unauthorized,
            "AWS_ACCESS_KEY_ID",
        ),
    ] {
        let error = store(&url, bucket, id, secret)
            .list(&all)
            .await
            .expect_err("refused");
        assert_eq!(error.kind, expected, "{}", chain(&error));
        assert!(
            error.hint().unwrap_or_default().contains(hint),
            "{:?}",
            error.hint()
        );
        assert!(
            !format!("{error:?} {}", chain(&error)).contains("hunter2"),
            "{error:?}"
        );
    }
    let yaml =
        format!("registry: {{ provider: s3, url: '{url}', bucket: records, prefix: teams/a }}");
    super::configured::round_trip(
        &yaml,
        &[
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
        ],
    )
    .await;
    seaweed.make_bucket("contract");
    check_contract(Arc::new(store(&url, "contract", ACCESS_KEY, SECRET_KEY))).await;
}

pub(super) fn page(keys: &[String], next: Option<&str>) -> axum::response::Response {
    let contents: String = keys
        .iter()
        .map(|key| format!("<Contents><Key>{key}</Key><Size>1</Size></Contents>"))
        .collect();
    let next = next
        .map(|token| format!("<NextContinuationToken>{token}</NextContinuationToken>"))
        .unwrap_or_default();
    let truncated = !next.is_empty();
    typed(
        "application/xml",
        format!(
            "<?xml version=\"1.0\"?><ListBucketResult><IsTruncated>{truncated}</IsTruncated>{contents}{next}</ListBucketResult>"
        ),
    )
}

#[tokio::test]
async fn listing_continues_on_the_next_page_and_fails_as_a_whole() {
    let key = |tag: &str| file(&package("r.example/a"), tag, b"x").path();
    let (first, second) = (key("1"), key("2"));
    let failing = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let left = failing.clone();
    let server = FakeServer::start(move |received| {
        assert!(received.path.starts_with("/bucket"), "{}", received.path);
        assert!(
            received.path.contains("prefix=imglife%2Frecords%2F"),
            "{}",
            received.path
        );
        match received.path.contains("continuation-token=two") {
            true if left.fetch_sub(1, std::sync::atomic::Ordering::Relaxed) as isize > 0 => {
                StatusCode::SERVICE_UNAVAILABLE.into_response()
            }
            true => page(
                &[second.clone(), "imglife/records/notes.txt".to_owned()],
                None,
            ),
            false => page(
                &[first.clone(), "imglife/records/r.example__a/".to_owned()],
                Some("two"),
            ),
        }
    });
    let url: Url = format!("http://{}", server.host()).parse().expect("a URL");
    let store = store(&url, "bucket", "id", "hunter2");
    for (failures, listed) in [(0, true), (3, true), (100, false)] {
        failing.store(failures, std::sync::atomic::Ordering::Relaxed);
        let result = store.list(&PackageScope::AllRecords(prefix())).await;
        if listed {
            let listing = result.expect("a listing");
            assert_eq!(
                (listing.files.len(), listing.foreign),
                (2, vec!["imglife/records/notes.txt".to_owned()])
            );
        } else {
            let error = result.expect_err("an incomplete listing");
            assert_eq!(error.kind, ItemErrorKind::ServerError, "{}", chain(&error));
        }
    }
    assert!(
        server
            .requests()
            .iter()
            .all(|received| received.headers.contains_key("authorization"))
    );
    assert!(!format!("{:?}", server.requests()).contains("hunter2"));
}

#[tokio::test]
async fn prefix_is_optional_and_malformed_responses_are_errors() {
    let server = FakeServer::start(|received| {
        assert!(
            received.path.contains("prefix=records%2F"),
            "{}",
            received.path
        );
        page(&["records/r.example__a/x".to_owned()], None)
    });
    let url: Url = format!("http://{}", server.host()).parse().expect("a URL");
    let listing = store(&url, "bucket", "id", "hunter2")
        .list(&PackageScope::AllRecords(Prefix::none()))
        .await
        .expect("a listing");
    assert_eq!(listing.foreign, ["records/r.example__a/x"]);
    let server = FakeServer::start(|_| typed("text/html", "<html>welcome"));
    let url: Url = format!("http://{}", server.host()).parse().expect("a URL");
    let error = store(&url, "bucket", "id", "hunter2")
        .list(&PackageScope::AllRecords(prefix()))
        .await
        .expect_err("no listing");
    assert_eq!(error.kind, ItemErrorKind::Malformed, "{}", chain(&error));
}

/// Returns the error of a server that answers with this status and body.
async fn refusal(status: StatusCode, body: &'static str) -> imglife::error::ItemError {
    let server = FakeServer::start(move |_| (status, body).into_response());
    let url: Url = format!("http://{}", server.host()).parse().expect("a URL");
    store(&url, "bucket", "id", "hunter2")
        .list(&PackageScope::AllRecords(prefix()))
        .await
        .expect_err("a refusal")
}

#[tokio::test]
async fn only_a_missing_bucket_is_reported_as_missing() {
    for (body, kind, hint) in [
        (
            "<Error><Code>NoSuchBucket</Code><Message>none</Message></Error>",
            ItemErrorKind::Absent,
            "create the bucket",
        ),
        (
            "<Error><Code>XAdminUserNotFound</Code><Message>No user</Message></Error>",
            ItemErrorKind::Unauthorized,
            "AWS_ACCESS_KEY_ID",
        ),
        (
            "<html>not found</html>",
            ItemErrorKind::Refused,
            "check `registry.url`",
        ),
    ] {
        let error = refusal(StatusCode::NOT_FOUND, body).await;
        assert_eq!(error.kind, kind, "{body}: {}", chain(&error));
        let found = error.hint().unwrap_or_default();
        assert!(found.contains(hint), "{body}: {found}");
        assert!(!chain(&error).contains("u{a}"), "{}", chain(&error));
    }
}

#[tokio::test]
async fn the_bucket_is_in_the_path_or_in_the_name_of_the_host() {
    let server = FakeServer::start(|_| page(&[], None));
    let url: Url = format!(
        "http://localhost:{}",
        server.host().rsplit(':').next().expect("a port")
    )
    .parse()
    .expect("a URL");
    for (style, path) in [
        (None, "/bucket"),
        (Some(true), "/bucket"),
        (Some(false), "/"),
    ] {
        let seen = server.requests().len();
        // The name `bucket.localhost` resolves on some systems only.
        drop(
            store(&url, "bucket", "id", "hunter2")
                .with_path_style(style)
                .list(&PackageScope::AllRecords(prefix()))
                .await,
        );
        for request in &server.requests()[seen..] {
            let found = request.path.split('?').next().unwrap_or_default();
            assert_eq!(
                found.trim_end_matches('/'),
                path.trim_end_matches('/'),
                "{style:?}"
            );
        }
    }
}

#[tokio::test]
async fn unreachable_server_is_an_error_soon() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url: Url = format!("http://{}", listener.local_addr().expect("an address"))
        .parse()
        .expect("a URL");
    drop(listener);
    let began = Instant::now();
    let error = store(&url, "bucket", "id", "hunter2")
        .list(&PackageScope::AllRecords(prefix()))
        .await
        .expect_err("no server");
    assert_eq!(error.kind, ItemErrorKind::Unreachable, "{}", chain(&error));
    assert!(began.elapsed() < Duration::from_secs(10));
}
