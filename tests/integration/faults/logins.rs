//! Logins that end in the middle of something.

use super::connections::variable;
use super::{
    ALWAYS, Fault, HUGE_LAYER, PATIENCE, Proxy, Registry, Rule, World, client, configuration, image,
};
use crate::support::images::Graph;
use crate::support::registry::{PASSWORD, USER};
use crate::support::tokens::{SERVICE, TokenRules};
use crate::support::world::Outcome;

/// A registry with tokens behind a proxy that refuses one on some uploads.
struct Expiring {
    upstream: Registry,
    target: Registry,
    proxy: Proxy,
    graph: Graph,
}

impl Expiring {
    /// Starts with more rules than that, and a layer of `size` bytes.
    async fn start(
        size: usize,
        rules: Vec<Rule>,
        method: &'static str,
        path: &str,
        which: std::ops::Range<usize>,
    ) -> Expiring {
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
        Expiring {
            upstream,
            target,
            proxy,
            graph,
        }
    }

    /// Runs a sync that shows everything, and checks that it shows no secret.
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
            .within(PATIENCE)
            .wait();
        let tokens: Vec<String> = self
            .proxy
            .seen()
            .iter()
            .filter_map(|seen| seen.header("authorization").map(str::to_owned))
            .collect();
        assert!(!tokens.is_empty(), "the registry was logged in to");
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

    fn uploads_asked_for(&self) -> usize {
        let requests = self.target.tokens().requests();
        requests
            .iter()
            .filter(|request| request.scopes == ["repository:app:pull,push"])
            .count()
    }
}

#[tokio::test]
async fn a_token_that_ends_in_the_middle_of_an_upload_is_replaced_once() {
    // The token was new when the uploads were started. One that is refused when it is new is not
    // asked for again.
    for path in ["digest=", "/manifests/sha256", "/manifests/1.0"] {
        let expiring = Expiring::start(500_000, Vec::new(), "PUT", path, 0..1).await;
        expiring.sync().succeeds();
        assert_eq!(expiring.proxy.faults(), 1, "{path}");
        assert!(
            expiring.uploads_asked_for() == 2,
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
async fn a_token_that_ends_between_the_parts_of_an_upload_is_replaced_once() {
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
    let expiring = Expiring::start(HUGE_LAYER, reset, "PATCH", "/blobs/uploads/", 0..1).await;
    expiring.sync().succeeds();
    assert!(
        expiring
            .proxy
            .seen()
            .iter()
            .any(|seen| seen.method == "PATCH" && seen.faulty),
        "the fault never happened"
    );
    assert_eq!(
        expiring.uploads_asked_for(),
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
async fn a_token_that_is_never_taken_is_named_with_the_host_and_the_variable_to_set() {
    let expiring = Expiring::start(500_000, Vec::new(), "PUT", "/blobs/uploads/", ALWAYS).await;
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
    // Three blobs, each sent twice at the most, with a token of its own the second time.
    assert!(
        expiring.proxy.faults() <= 6 && expiring.uploads_asked_for() <= 4,
        "{:?}",
        expiring.target.tokens().requests()
    );
}
