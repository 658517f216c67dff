//! Table of the faults and the expected results.

use super::{ALWAYS, Case, Duration, Expected, Fault, Rule, Side};
use Expected::{Copied, CopiedAfter, Fails};

const ONCE: std::ops::Range<usize> = 0..1;
const TWICE: std::ops::Range<usize> = 0..2;

/// Position in the middle of the large layer, in bytes.
const MIDDLE: u64 = 1_500_000;

/// A valid digest that matches no content.
const WRONG: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

fn limited(retry_after: &str) -> Fault {
    Fault::status(429, &[("retry-after", retry_after)])
}

fn status(status: u16) -> Fault {
    Fault::status(status, &[])
}

fn digest_header(value: Option<&str>) -> Fault {
    Fault::Header("docker-content-digest", value.map(str::to_owned))
}

/// Returns an HTTP date between two and three seconds in the future.
#[expect(
    clippy::disallowed_methods,
    reason = "the run compares the date with the real clock"
)]
fn soon() -> String {
    (chrono::Utc::now() + Duration::from_secs(3))
        .format("%a, %d %b %Y %H:%M:%S GMT")
        .to_string()
}

fn cases<const N: usize>(side: Side, cases: [(&'static str, Vec<Rule>, Expected); N]) -> Vec<Case> {
    cases
        .into_iter()
        .map(|(name, rules, expected)| Case {
            side,
            name,
            rules,
            expected,
        })
        .collect()
}

/// Returns the cases with a faulty source. `layer` and `child` are the digests of the large layer
/// and of the manifest below the index.
pub(super) fn of_source(layer: &str, child: &str) -> Vec<Case> {
    let (listing, tag) = ("/tags/list", "/manifests/1.0");
    let (blob, child) = (format!("/blobs/{layer}"), format!("/manifests/{child}"));
    let get = |path: &str, which: std::ops::Range<usize>, fault: Fault| {
        vec![Rule::new("GET", path, which, fault)]
    };
    cases(
        Side::Source,
        [
            (
                "429 with `Retry-After` in seconds, on a manifest",
                get(tag, ONCE, limited("2")),
                CopiedAfter(Duration::from_secs(2)),
            ),
            (
                "429 with `Retry-After` as a date, on a manifest",
                get(tag, ONCE, limited(&soon())),
                Copied,
            ),
            (
                "429 without `Retry-After`, twice, on a layer",
                get(&blob, TWICE, status(429)),
                Copied,
            ),
            (
                "429 every time, on a manifest",
                get(tag, ALWAYS, status(429)),
                Fails("429 Too Many Requests: FAULT: injected by the proxy (tried 5 times)"),
            ),
            ("408 on a manifest", get(&child, ONCE, status(408)), Copied),
            (
                "500 twice, on the listing",
                get(listing, TWICE, status(500)),
                Copied,
            ),
            (
                "502 twice, on an index",
                get(tag, TWICE, status(502)),
                Copied,
            ),
            (
                "503 twice, on a manifest",
                get(&child, TWICE, status(503)),
                Copied,
            ),
            (
                "504 twice, on a layer",
                get(&blob, TWICE, status(504)),
                Copied,
            ),
            (
                "503 every time, on the listing",
                get(listing, ALWAYS, status(503)),
                Fails("503 Service Unavailable: FAULT: injected by the proxy (tried 5 times)"),
            ),
            (
                "503 every time, on a layer",
                get(&blob, ALWAYS, status(503)),
                Fails("503 Service Unavailable: FAULT: injected by the proxy (tried 5 times)"),
            ),
            (
                "403 on a layer",
                get(&blob, ALWAYS, status(403)),
                Fails("403 Forbidden: FAULT: injected by the proxy"),
            ),
            (
                "404 on a layer",
                get(&blob, ALWAYS, status(404)),
                Fails("404 Not Found: FAULT: injected by the proxy"),
            ),
            (
                "404 on a manifest below an index",
                get(&child, ALWAYS, status(404)),
                Fails("although an index refers to it"),
            ),
            (
                "connection reset before the response, on the listing",
                get(listing, ONCE, Fault::Reset),
                Copied,
            ),
            (
                "connection reset before the response, on a manifest",
                get(tag, ONCE, Fault::Reset),
                Copied,
            ),
            (
                "connection reset before the response, twice, on a layer",
                get(&blob, TWICE, Fault::Reset),
                Copied,
            ),
            (
                "connection reset before the response, every time",
                get(&blob, ALWAYS, Fault::Reset),
                Fails("the connection failed: … (tried 5 times)"),
            ),
            (
                "connection reset within a manifest",
                get(&child, ONCE, Fault::ResetAnswer(20)),
                Copied,
            ),
            (
                "connection reset within a layer",
                get(&blob, ONCE, Fault::ResetAnswer(MIDDLE)),
                Copied,
            ),
            (
                "connection reset within a layer, every time",
                get(&blob, ALWAYS, Fault::ResetAnswer(0)),
                Fails("the connection broke"),
            ),
            (
                "body cut short, of the listing",
                get(listing, ONCE, Fault::Cut(5)),
                Copied,
            ),
            (
                "body cut short, of an index",
                get(tag, ONCE, Fault::Cut(20)),
                Copied,
            ),
            (
                "body cut short, of a layer",
                get(&blob, ONCE, Fault::Cut(MIDDLE)),
                Copied,
            ),
            (
                "slow body of a layer",
                get(
                    &blob,
                    ONCE,
                    Fault::Drip(64 * 1024, Duration::from_millis(20)),
                ),
                Copied,
            ),
            (
                "connection reset within a layer, and `Range` ignored after that",
                vec![
                    Rule::new("GET", &*blob, ONCE, Fault::ResetAnswer(MIDDLE)),
                    Rule::new("GET", &*blob, 1..2, Fault::WithoutHeader("range")),
                ],
                Copied,
            ),
            (
                "one wrong byte in a layer",
                get(&blob, ALWAYS, Fault::Flip(MIDDLE)),
                Fails("its content has the digest"),
            ),
            (
                "one wrong byte at the end of a layer",
                get(&blob, ALWAYS, Fault::Flip(2_999_999)),
                Fails("its content has the digest"),
            ),
            (
                "one wrong byte in a manifest",
                get(&child, ALWAYS, Fault::Flip(20)),
                Fails("its bytes have the digest"),
            ),
            (
                "one wrong byte in an index",
                get(tag, ALWAYS, Fault::Flip(20)),
                Fails("its bytes have the digest"),
            ),
            (
                "a layer shorter than the size in its descriptor",
                get(&blob, ALWAYS, Fault::Length(-10)),
                Fails("it ended after 2999990 of 3000000 bytes"),
            ),
            (
                "`Content-Length` larger than the body, on a layer",
                get(&blob, ONCE, Fault::Length(10)),
                Copied,
            ),
            (
                "`Content-Length` larger than the body, on a manifest",
                get(&child, ONCE, Fault::Length(10)),
                Copied,
            ),
            (
                "`Content-Length` smaller than the body, on a manifest",
                get(&child, ALWAYS, Fault::Length(-10)),
                Fails("its bytes have the digest"),
            ),
            (
                "no `Docker-Content-Digest`",
                get("/", ALWAYS, digest_header(None)),
                Copied,
            ),
            (
                "a wrong `Docker-Content-Digest`, on a tag",
                get(tag, ALWAYS, digest_header(Some(WRONG))),
                Fails("its bytes have the digest"),
            ),
            (
                "an invalid `Docker-Content-Digest`",
                get(tag, ALWAYS, digest_header(Some("nonsense"))),
                Copied,
            ),
            (
                "a wrong `Docker-Content-Digest`, on a layer",
                get(&blob, ALWAYS, digest_header(Some(WRONG))),
                Copied,
            ),
        ],
    )
}

/// Returns the cases with a faulty target. The arguments are those of [`of_source`].
pub(super) fn of_target(layer: &str, child: &str) -> Vec<Case> {
    let (uploads, commit) = (
        "/blobs/uploads/",
        format!("digest={}", layer.replace(':', "%3A")),
    );
    let (listing, tag) = ("/tags/list", "/manifests/1.0");
    let (blob, child) = (format!("/blobs/{layer}"), format!("/manifests/{child}"));
    let on = |method: &'static str, path: &str, which: std::ops::Range<usize>, fault: Fault| {
        vec![Rule::new(method, path, which, fault)]
    };
    cases(
        Side::Target,
        [
            (
                "429 with `Retry-After` in seconds, on the start of an upload",
                on("POST", uploads, ONCE, limited("2")),
                CopiedAfter(Duration::from_secs(2)),
            ),
            (
                "429 with `Retry-After` as a date, on the commit of a layer",
                on("PUT", &commit, ONCE, limited(&soon())),
                Copied,
            ),
            (
                "429 without `Retry-After`, twice, on writing a manifest",
                on("PUT", &child, TWICE, status(429)),
                Copied,
            ),
            (
                "429 every time, on writing the tag",
                on("PUT", tag, ALWAYS, status(429)),
                Fails("429 Too Many Requests: FAULT: injected by the proxy (tried 5 times)"),
            ),
            (
                "500 twice, on the start of an upload",
                on("POST", uploads, TWICE, status(500)),
                Copied,
            ),
            (
                "502 twice, on the commit of a layer",
                on("PUT", &commit, TWICE, status(502)),
                Copied,
            ),
            (
                "503 twice, on writing a manifest",
                on("PUT", &child, TWICE, status(503)),
                Copied,
            ),
            (
                "504 twice, on writing the tag",
                on("PUT", tag, TWICE, status(504)),
                Copied,
            ),
            (
                "503 twice, on the HEAD of a layer",
                on("HEAD", &blob, TWICE, status(503)),
                Copied,
            ),
            (
                "503 every time, on the listing",
                on("GET", listing, ALWAYS, status(503)),
                Fails("503 Service Unavailable: FAULT: injected by the proxy (tried 5 times)"),
            ),
            (
                "503 every time, on the start of uploads",
                on("POST", uploads, ALWAYS, status(503)),
                Fails("503 Service Unavailable: FAULT: injected by the proxy (tried 5 times)"),
            ),
            (
                "503 every time, on the commit of a layer",
                on("PUT", &commit, ALWAYS, status(503)),
                Fails("503 Service Unavailable: FAULT: injected by the proxy (tried 5 times)"),
            ),
            (
                "403 on the start of uploads",
                on("POST", uploads, ALWAYS, status(403)),
                Fails("403 Forbidden: FAULT: injected by the proxy"),
            ),
            (
                "404 on the start of uploads",
                on("POST", uploads, ALWAYS, status(404)),
                Fails("is created before the first push"),
            ),
            (
                "400 on the commit of a layer",
                on("PUT", &commit, ALWAYS, status(400)),
                Fails("400 Bad Request: FAULT: injected by the proxy"),
            ),
            (
                "400 on writing the tag",
                on("PUT", tag, ALWAYS, status(400)),
                Fails("400 Bad Request: FAULT: injected by the proxy"),
            ),
            (
                "202 on the commit of a layer",
                on("PUT", &commit, ALWAYS, status(202)),
                Fails("the registry accepted the content but did not store it"),
            ),
            (
                "connection reset before the response, on the start of an upload",
                on("POST", uploads, ONCE, Fault::Reset),
                Copied,
            ),
            (
                "connection reset before the content, twice",
                on("PUT", &commit, TWICE, Fault::Reset),
                Copied,
            ),
            (
                "connection reset within the content",
                on("PUT", &commit, ONCE, Fault::ResetSending(MIDDLE)),
                Copied,
            ),
            (
                "connection reset within the content, every time",
                on("PUT", &commit, ALWAYS, Fault::ResetSending(MIDDLE)),
                Fails("the connection failed: … (tried 5 times)"),
            ),
            (
                "connection reset while a manifest is written",
                on("PUT", &child, ONCE, Fault::ResetSending(10)),
                Copied,
            ),
            (
                "a layer is stored, and the response is lost",
                on("PUT", &commit, ONCE, Fault::LoseAnswer),
                Copied,
            ),
            (
                "a manifest is stored, and the response is lost",
                on("PUT", &child, ONCE, Fault::LoseAnswer),
                Copied,
            ),
            (
                "a tag is written, and the response is lost",
                on("PUT", tag, ONCE, Fault::LoseAnswer),
                Copied,
            ),
            (
                "an upload is started, and the response is lost",
                on("POST", uploads, ONCE, Fault::LoseAnswer),
                Copied,
            ),
            (
                "no `Location` for an upload",
                on("POST", uploads, ALWAYS, Fault::Header("location", None)),
                Fails("the registry opened an upload without a location"),
            ),
            (
                "no `Docker-Content-Digest`",
                on("PUT", "/", ALWAYS, digest_header(None)),
                Copied,
            ),
            (
                "a wrong `Docker-Content-Digest` for a stored layer",
                on("PUT", &commit, ALWAYS, digest_header(Some(WRONG))),
                Fails("the registry stored sha256:0000"),
            ),
            (
                "a wrong `Docker-Content-Digest` for a stored manifest",
                on("PUT", &child, ALWAYS, digest_header(Some(WRONG))),
                Fails("the registry stored sha256:0000"),
            ),
            (
                "HEAD reports a layer with a different size",
                on("HEAD", &blob, ALWAYS, status(200)),
                Copied,
            ),
            (
                "HEAD reports a layer that does not exist",
                on(
                    "HEAD",
                    &blob,
                    ALWAYS,
                    Fault::status(200, &[("content-length", "3000000")]),
                ),
                Fails("MANIFEST_BLOB_UNKNOWN"),
            ),
        ],
    )
}

/// Returns the cases in which the upload of a large layer breaks once and continues in chunks, with
/// another fault.
pub(super) fn of_huge_uploads(layer: &str) -> Vec<Case> {
    let (commit, session) = (
        format!("digest={}", layer.replace(':', "%3A")),
        "/blobs/uploads/",
    );
    let broken = || Rule::new("PUT", &*commit, ONCE, Fault::ResetSending(20 * 1024 * 1024));
    let range = |value: Option<&str>| Fault::Header("range", value.map(str::to_owned));
    let broken_and = |method: &'static str, which: std::ops::Range<usize>, fault: Fault| {
        vec![broken(), Rule::new(method, session, which, fault)]
    };
    cases(
        Side::Target,
        [
            (
                "connection reset within a huge layer",
                vec![broken()],
                Copied,
            ),
            (
                "the same, and `Range` reports less than was stored",
                broken_and("GET", ALWAYS, range(Some("0-5"))),
                Copied,
            ),
            (
                "the same, and `Range` reports more than was sent",
                broken_and("GET", ALWAYS, range(Some("0-99999999999"))),
                Copied,
            ),
            (
                "the same, and the upload status has no `Range`",
                broken_and("GET", ALWAYS, range(None)),
                Copied,
            ),
            (
                "the same, and the upload is gone",
                broken_and("GET", ALWAYS, status(404)),
                Copied,
            ),
            (
                "the same, and 503 twice for the upload status",
                broken_and("GET", TWICE, status(503)),
                Copied,
            ),
            (
                "the same, and `Range` stays the same after each chunk",
                broken_and("PATCH", ALWAYS, range(Some("0-5"))),
                Copied,
            ),
            (
                "the same, and no `Range` after a chunk",
                broken_and("PATCH", ALWAYS, range(None)),
                Copied,
            ),
            (
                "the same, and 416 for every chunk",
                broken_and("PATCH", ALWAYS, status(416)),
                Copied,
            ),
            (
                "the same, and 404 for every chunk",
                broken_and("PATCH", ALWAYS, status(404)),
                Copied,
            ),
            (
                "the same, and 503 twice for a chunk",
                broken_and("PATCH", TWICE, status(503)),
                Copied,
            ),
            (
                "the same, and connection reset within a chunk",
                broken_and("PATCH", ONCE, Fault::ResetSending(1_000_000)),
                Copied,
            ),
            (
                "the same, and the response to a chunk is lost",
                broken_and("PATCH", ONCE, Fault::LoseAnswer),
                Copied,
            ),
            (
                "the same, and the response to the commit is lost",
                vec![
                    broken(),
                    Rule::new("PUT", &*commit, 1..2, Fault::LoseAnswer),
                ],
                Copied,
            ),
        ],
    )
}
