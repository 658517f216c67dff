//! Limits: connections, rate limits, quotas.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::{get, send};
use crate::credentials::Credential;
use crate::http::testing::{Fake, client, client_with, limited, quick};
use crate::http::{HostRules, Settings};
use crate::model::Host;

#[tokio::test]
async fn rate_limit_holds_for_requests_that_wait_for_a_permit() {
    let times: Arc<std::sync::Mutex<Vec<Instant>>> = Arc::default();
    let seen = Arc::clone(&times);
    let fake = Fake::start_slow(Duration::from_millis(300), move |_| {
        seen.lock().expect("times").push(Instant::now());
    })
    .await;
    let rules = HostRules {
        max_connections: Some(2),
        requests_per_second: Some(20.0),
        ..HostRules::default()
    };
    let settings = Settings {
        hosts: [(fake.host(), rules)].into(),
        ..quick()
    };
    let (host, client) = (
        fake.host(),
        client_with(settings, [&fake.host()], Credential::Anonymous),
    );
    send(&client, &host, "/a").await.expect("a response");
    join_all((0..8).map(|_| send(&client, &host, "/a"))).await;
    let times = times.lock().expect("times").clone();
    let closest = times
        .windows(2)
        .map(|pair| pair[1] - pair[0])
        .min()
        .expect("times");
    assert!(
        closest >= Duration::from_millis(35),
        "{closest:?} between two of them"
    );
}

#[tokio::test]
async fn low_quota_slows_down_requests_that_use_it() {
    let fake = Fake::start(|seen| {
        let left = if seen.path == "/plenty" {
            "11;w=10"
        } else {
            "10;w=10"
        };
        [
            ("ratelimit-limit", "100;w=10"),
            ("ratelimit-remaining", left),
        ]
    })
    .await;
    let (host, client) = (fake.host(), client([&fake.host()], Credential::Anonymous));
    let timed = async |path: &str, uses_quota| {
        let began = Instant::now();
        for _ in 0..4 {
            let mut request = get(&host, path);
            request.uses_quota = uses_quota;
            client.send(request).await.expect("a response");
        }
        began.elapsed()
    };
    let (pause, no_pause) = (Duration::from_millis(200), Duration::from_millis(190));
    assert!(timed("/plenty", true).await < no_pause);
    assert!(
        timed("/few", false).await < no_pause,
        "others are not counted"
    );
    assert!(timed("/few", true).await >= pause);
    timed("/plenty", false).await;
    assert!(
        timed("/plenty", true).await < no_pause,
        "there are enough again"
    );
}

#[tokio::test]
async fn connection_limit_bounds_parallel_requests() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counts = (Arc::clone(&now), Arc::clone(&most));
    let service = axum::Router::new().fallback(move || {
        let (now, most) = (Arc::clone(&counts.0), Arc::clone(&counts.1));
        async move {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(20)).await;
            now.fetch_sub(1, Ordering::SeqCst);
        }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let host: Host = listener
        .local_addr()
        .expect("an address")
        .to_string()
        .parse()
        .expect("a host");
    tokio::spawn(async move { axum::serve(listener, service).await });
    let client = client_with(limited(&host, 3), [&host], Credential::Anonymous);
    join_all((0..20).map(|_| send(&client, &host, "/a"))).await;
    assert_eq!(most.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn configured_rate_limit_spreads_requests() {
    let fake = Fake::start(|_| "ok").await;
    let rules = HostRules {
        requests_per_second: Some(20.0),
        ..HostRules::default()
    };
    let settings = Settings {
        hosts: [(fake.host(), rules)].into(),
        ..quick()
    };
    let (host, client) = (
        fake.host(),
        client_with(settings, [&fake.host()], Credential::Anonymous),
    );
    let began = Instant::now();
    join_all((0..6).map(|_| send(&client, &host, "/a"))).await;
    assert!(
        began.elapsed() >= Duration::from_millis(250),
        "{:?}",
        began.elapsed()
    );
}
