//! Tests of tokens that expire or are rejected during an upload.

use super::connections::variable;
use super::{
    ALWAYS, Fault, HUGE_LAYER, Proxy, RUN_TIMEOUT, Registry, Rule, World, client, configuration,
    image,
};
use crate::support::images::Graph;
use crate::support::registry::{PASSWORD, USER};
use crate::support::tokens::{SERVICE, TokenRules};
use crate::support::world::Outcome;

/// A target with token authentication behind a proxy that rejects tokens on some requests.
struct ExpiringTokens {
    upstream: Registry,
    target: Registry,
    proxy: Proxy,
    graph: Graph,
}

impl ExpiringTokens {
    /// Starts the registries. The large layer of the image has `size` bytes. The proxy rejects
    /// tokens on the requests `which` with this method and path, and applies `rules` first.
    async fn start(
        size: usize,
        rules: Vec<Rule>,
        method: &'static str,
        path: &str,
        which: std::ops::Range<usize>,
    ) -> ExpiringTokens {
        let (upstream, target) = (
            Registry::plain(),
            Registry::builder().tokens(TokenRules::default()).start(),
        );
        let graph = image("1.0", size);
        graph
            .publish(&client(&upstream), &upstream.repository("app"))
            .await;
        let challenge = format!(
            r#"Bearer realm="{}",service="{SERVICE}",scope="repository:app:pull,push",error="invalid_token""#,
            target.tokens().realm()
        );
        let expired = Fault::status(401, &[("www-authenticate", challenge.as_str())]);
        let rules = rules
            .into_iter()
            .chain([Rule::new(method, path, which, expired)])
            .collect();
        let proxy = Proxy::start(target.host(), rules);
        ExpiringTokens {
            upstream,
            target,
            proxy,
            graph,
        }
    }

    /// Runs a sync with the most verbose log and checks that it prints no secret.
    fn sync(&self) -> Outcome {
        let host = self.proxy.host();
        let entries = [(
            format!("{}/app", self.upstream.host()),
            format!("{host}/app"),
            "tag: '1.0'",
        )];
        let world = World::new()
            .variable(&variable(&host, "USERNAME"), USER)
            .variable(&variable(&host, "PASSWORD"), PASSWORD)
            .file(
                "imglife.yaml",
                configuration(&[self.upstream.host(), host], &entries),
            );
        let outcome = world
            .start_imglife(["--log-level", "trace", "sync"])
            .within(RUN_TIMEOUT)
            .wait();
        let tokens: Vec<String> = self
            .proxy
            .requests()
            .iter()
            .filter_map(|request| request.header("authorization").map(str::to_owned))
            .collect();
        assert!(!tokens.is_empty(), "no request had credentials");
        for secret in tokens
            .iter()
            .filter_map(|token| token.split(' ').nth(1))
            .chain([PASSWORD])
        {
            assert!(
                !outcome.stdout.contains(secret) && !outcome.stderr.contains(secret),
                "{}{}",
                outcome.stdout,
                outcome.stderr
            );
        }
        outcome
    }

    /// Returns the number of token requests for the upload.
    fn upload_token_requests(&self) -> usize {
        let requests = self.target.tokens().requests();
        requests
            .iter()
            .filter(|request| request.scopes == ["repository:app:pull,push"])
            .count()
    }
}

#[tokio::test]
async fn token_that_expires_during_an_upload_is_replaced_once() {
    // The token was issued when the uploads started. A rejected token that has just been issued is
    // not replaced.
    for path in ["digest=", "/manifests/sha256", "/manifests/1.0"] {
        let expiring = ExpiringTokens::start(500_000, Vec::new(), "PUT", path, 0..1).await;
        expiring.sync().succeeds();
        assert_eq!(expiring.proxy.faults(), 1, "{path}");
        assert!(
            expiring.upload_token_requests() == 2,
            "{path}: {:?}",
            expiring.target.tokens().requests()
        );
        expiring
            .graph
            .assert_published(
                &client(&expiring.target),
                &expiring.target.repository("app"),
            )
            .await;
    }
}

#[tokio::test]
async fn token_that_expires_between_chunks_is_replaced_once() {
    let broken = Rule::new(
        "PUT",
        "/blobs/uploads/",
        0..ALWAYS.end,
        Fault::ResetSending(20 * 1024 * 1024),
    );
    let reset = vec![Rule {
        which: 0..3,
        ..broken
    }];
    let expiring = ExpiringTokens::start(HUGE_LAYER, reset, "PATCH", "/blobs/uploads/", 0..1).await;
    expiring.sync().succeeds();
    assert!(
        expiring
            .proxy
            .requests()
            .iter()
            .any(|request| request.method == "PATCH" && request.faulty),
        "the proxy injected no fault"
    );
    assert_eq!(
        expiring.upload_token_requests(),
        2,
        "{:?}",
        expiring.target.tokens().requests()
    );
    expiring
        .graph
        .assert_published(
            &client(&expiring.target),
            &expiring.target.repository("app"),
        )
        .await;
}

#[tokio::test]
async fn rejected_token_is_reported_with_host_and_variable() {
    let expiring =
        ExpiringTokens::start(500_000, Vec::new(), "PUT", "/blobs/uploads/", ALWAYS).await;
    let failed = expiring.sync().exits(1);
    let host = expiring.proxy.host();
    assert!(
        failed.stdout.contains(&host) && failed.stdout.contains("credentials were rejected"),
        "{}",
        failed.stdout
    );
    assert!(
        failed.stdout.contains(&variable(&host, "USERNAME")),
        "{}",
        failed.stdout
    );
    assert!(expiring.target.stored_tags("app").is_empty());
    // Each of three blobs is sent at most twice, the second time with a new token.
    assert!(
        expiring.proxy.faults() <= 6 && expiring.upload_token_requests() <= 4,
        "{:?}",
        expiring.target.tokens().requests()
    );
}
