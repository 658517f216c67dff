//! Redirects and URL schemes.

use axum::http::StatusCode;
use axum::response::IntoResponse;

use super::{fail, send, unauthorized};
use crate::credentials::Credential;
use crate::http::testing::{Fake, SECRET, basic, client, shown};

#[tokio::test]
async fn redirect_to_another_host_carries_no_credential() {
    let storage = Fake::start(|_| "content").await;
    let address = storage.address;
    let fake = Fake::start(move |seen| match seen.path.as_str() {
        _ if seen.authorization().is_none() => unauthorized(r#"Basic realm="x""#),
        "/away" => (
            StatusCode::TEMPORARY_REDIRECT,
            [(
                "location",
                format!("http://{address}/blob?signature={SECRET}"),
            )],
            "moved",
        )
            .into_response(),
        "/here" => (StatusCode::FOUND, [("location", "b")], "").into_response(),
        _ => "here".into_response(),
    })
    .await;
    let (host, client) = (
        fake.host(),
        client([&fake.host(), &storage.host()], basic()),
    );
    assert_eq!(
        send(&client, &host, "/away")
            .await
            .expect("a response")
            .body,
        "content"
    );
    assert!(storage.seen()[0].authorization().is_none());
    assert_eq!(
        send(&client, &host, "/here")
            .await
            .expect("a response")
            .body,
        "here"
    );
    assert_eq!(fake.lines().last().map(String::as_str), Some("GET /b"));
}

#[tokio::test]
async fn looping_and_plain_http_redirects_are_rejected() {
    let storage = Fake::start(|_| "content").await;
    let address = storage.address;
    let fake = Fake::start(move |seen| match seen.path.as_str() {
        "/away" => (
            StatusCode::TEMPORARY_REDIRECT,
            [("location", format!("http://{address}/?x={SECRET}"))],
        )
            .into_response(),
        "/file" => (
            StatusCode::TEMPORARY_REDIRECT,
            [("location", "file:///etc/passwd")],
        )
            .into_response(),
        _ => (StatusCode::TEMPORARY_REDIRECT, [("location", "/loop")]).into_response(),
    })
    .await;
    let (host, client) = (fake.host(), client([&fake.host()], basic()));
    let error = fail(&client, &host, "/away").await;
    assert!(
        shown(&error).ends_with("which is not followed: it is plain HTTP"),
        "{}",
        shown(&error)
    );
    assert!(
        error
            .hint()
            .expect("a hint")
            .contains(&format!("add {address} to `registry.insecure_registries`"))
    );
    assert_eq!(storage.seen().len(), 0);
    assert!(shown(&fail(&client, &host, "/file").await).contains("neither http nor https"));
    assert!(shown(&fail(&client, &host, "/loop").await).contains("too many redirects"));
    assert_eq!(fake.count("/loop"), 6);
    // Redirects to an insecure host are followed from plain HTTP, not from https.
    let state = client.host(&host).expect("a host");
    let url = |text: String| text.parse().expect("a URL");
    let (plain, listed) = (
        url(format!("http://{address}/")),
        url(format!("http://{host}/")),
    );
    assert!(client.check_redirect(&state, &plain, &listed).is_ok());
    assert!(
        client
            .check_redirect(&state, &url("https://r.example/".to_owned()), &listed)
            .is_err()
    );
}

#[tokio::test]
async fn tls_to_a_plain_http_server_gives_a_hint() {
    let fake = Fake::start(|_| "ok").await;
    let client = client([], Credential::Anonymous);
    let error = fail(&client, &fake.host(), "/a").await;
    assert!(!shown(&error).contains("tried"), "{}", shown(&error));
    assert!(
        error
            .hint()
            .expect("a hint")
            .contains("`registry.insecure_registries`")
    );
}
