//! Tests of the record store on Gitea.

use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use imglife::credentials::ForgeKind;
use imglife::error::{ItemErrorKind, chain};
use imglife::packages::gitea::{GiteaLocation, GiteaPackages};
use imglife::packages::{PackageScope, RecordStore};

use super::{check_contract, client, file, package, prefix, put, record, records};
use crate::support::gitea::{Gitea, JOB, OWNER, REPOSITORY, Rules, TOKEN};

fn store_of(gitea: &Gitea, token: &str, owner: &str) -> GiteaPackages {
    let url = gitea.url();
    let client = client(ForgeKind::Gitea, &[&url], "GITEA_TOKEN", token);
    let store = GiteaLocation {
        url: url.clone(),
        api_url: url,
        owner: owner.to_owned(),
        repository: Some(REPOSITORY.to_owned()),
    };
    GiteaPackages::new(client, &store).expect("a store")
}

fn store(gitea: &Gitea) -> Arc<dyn RecordStore> {
    Arc::new(store_of(gitea, TOKEN, OWNER))
}

#[tokio::test]
async fn gitea_passes_the_contract() {
    let gitea = Gitea::start(Rules::default());
    check_contract(store(&gitea)).await;
    assert!(
        gitea
            .linked()
            .iter()
            .all(|(name, repository)| name.starts_with("imglife")
                || name == "my-imglife.r.example__a" && repository == REPOSITORY)
    );
}

#[tokio::test]
async fn gitea_without_links_and_with_small_pages_passes_the_contract() {
    for (status, page) in [(404, 7), (405, 30)] {
        check_contract(store(&Gitea::start(Rules {
            links: Err(status),
            page,
        })))
        .await;
    }
}

#[tokio::test]
async fn packages_are_linked_once_and_failures_are_ignored() {
    let gitea = Gitea::start(Rules::default());
    let store = store(&gitea);
    for tag in ["1", "2"] {
        put(&*store, &package("r.example/a"), tag).await;
    }
    assert_eq!(
        gitea.linked().into_iter().collect::<Vec<_>>(),
        [("imglife.r.example__a".to_owned(), REPOSITORY.to_owned())]
    );
    assert_eq!(
        gitea
            .server
            .requests()
            .iter()
            .filter(|received| received.method == "POST")
            .count(),
        1
    );
    let failing = Gitea::start(Rules {
        links: Err(500),
        ..Rules::default()
    });
    put(
        &store_of(&failing, TOKEN, OWNER),
        &package("r.example/a"),
        "1",
    )
    .await;
}

#[tokio::test]
async fn put_of_other_content_is_a_conflict() {
    let gitea = Gitea::start(Rules::default());
    let name = file(&package("r.example/a"), "1", b"one");
    gitea.insert(
        &name.package.flat(),
        "records",
        [(name.file.to_string(), "other".into())],
    );
    let error = store(&gitea)
        .put(&name, "one".into())
        .await
        .expect_err("a conflict");
    assert_eq!(error.kind, ItemErrorKind::Refused);
    assert!(chain(&error).contains("409 Conflict"), "{}", chain(&error));
}

#[tokio::test]
async fn hint_explains_that_the_job_token_cannot_publish() {
    let gitea = Gitea::start(Rules::default());
    let store = store_of(&gitea, JOB, OWNER);
    let error = store
        .put(&file(&package("r.example/a"), "1", b""), "".into())
        .await
        .expect_err("no permission");
    let hint = error.hint().unwrap_or_default();
    assert_eq!(error.kind, ItemErrorKind::Forbidden);
    assert!(
        hint.contains("`write:package`")
            && hint.contains("cannot publish packages")
            && hint.contains("GITEA_*"),
        "{hint}"
    );
    let anonymous = store_of(&gitea, "", OWNER)
        .list(&PackageScope::AllRecords(prefix()))
        .await
        .expect_err("no permission");
    assert_eq!(anonymous.kind, ItemErrorKind::Unauthorized);
    assert!(!format!("{error:?} {anonymous:?}").contains("hunter2"));
}

#[tokio::test]
async fn invisible_owner_is_an_error() {
    let gitea = Gitea::start(Rules::default());
    let store = store_of(&gitea, TOKEN, "somebody");
    for scope in [
        PackageScope::AllRecords(prefix()),
        PackageScope::Package(package("r.example/a")),
    ] {
        let error = store.list(&scope).await.expect_err("not empty");
        assert_eq!(error.kind, ItemErrorKind::Absent);
        assert!(
            error
                .hint()
                .is_some_and(|hint| hint.contains("GITEA_TOKEN"))
        );
    }
}

#[tokio::test]
async fn failed_page_or_package_fails_the_listing() {
    for broken in ["page=2", "/imglife.r.example__p7/"] {
        let gitea = Gitea::start_with(Rules::default(), move |received| {
            received
                .path
                .contains(broken)
                .then(|| StatusCode::SERVICE_UNAVAILABLE.into_response())
        });
        for number in 0..60 {
            let file = file(&package("r.example/a"), "1", b"x").file.to_string();
            gitea.insert(
                &package(&format!("r.example/p{number}")).flat(),
                "records",
                [(file, "x".into())],
            );
        }
        let error = store(&gitea)
            .list(&PackageScope::AllRecords(prefix()))
            .await
            .expect_err("an incomplete listing");
        assert_eq!(error.kind, ItemErrorKind::ServerError, "{broken}");
    }
}

#[tokio::test]
async fn package_that_is_deleted_during_the_listing_is_left_out() {
    let gitea = Arc::new(std::sync::OnceLock::<Gitea>::new());
    let shared = gitea.clone();
    let started = Gitea::start_with(Rules::default(), move |received| {
        if received
            .path
            .ends_with("/imglife.r.example__p0/records/files")
        {
            shared.get()?.remove("imglife.r.example__p0");
        }
        None
    });
    for number in 0..3 {
        let image = format!("r.example/p{number}:1");
        let content = record(&image, "x").to_bytes().expect("bytes");
        let file = file(&package("r.example/a"), "1", &content)
            .file
            .to_string();
        started.insert(
            &package(&format!("r.example/p{number}")).flat(),
            "records",
            [(file, content.into())],
        );
    }
    let gitea = gitea.get_or_init(|| started);
    assert_eq!(gitea.files().len(), 3);
    assert_eq!(
        records(store(gitea))
            .all()
            .await
            .expect("a reading")
            .records
            .len(),
        2
    );
}
