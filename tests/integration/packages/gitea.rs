//! Gitea's ways.

use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use imglife::credentials::Forge;
use imglife::error::{ItemErrorKind, chain};
use imglife::packages::gitea::{GiteaPackages, GiteaPlace};
use imglife::packages::{PackageFiles, Scope};

use super::{client, file, holds_for, package, prefix, put, record, records};
use crate::support::gitea::{Gitea, JOB, OWNER, REPOSITORY, Rules, TOKEN};

fn place_of(gitea: &Gitea, token: &str, owner: &str) -> GiteaPackages {
    let url = gitea.url();
    let client = client(Forge::Gitea, &[&url], "GITEA_TOKEN", token);
    let place = GiteaPlace {
        url: url.clone(),
        api_url: url,
        owner: owner.to_owned(),
        repository: Some(REPOSITORY.to_owned()),
    };
    GiteaPackages::new(client, &place).expect("a place")
}

fn place(gitea: &Gitea) -> Arc<dyn PackageFiles> {
    Arc::new(place_of(gitea, TOKEN, OWNER))
}

#[tokio::test]
async fn gitea_keeps_the_contract() {
    let gitea = Gitea::start(Rules::default());
    holds_for(place(&gitea)).await;
    assert!(
        gitea
            .linked()
            .iter()
            .all(|(name, repository)| name.starts_with("imglife")
                || name == "my-imglife.r.example__a" && repository == REPOSITORY)
    );
}

#[tokio::test]
async fn gitea_without_links_and_with_small_pages_keeps_the_contract() {
    for (status, page) in [(404, 7), (405, 30)] {
        holds_for(place(&Gitea::start(Rules {
            links: Err(status),
            page,
        })))
        .await;
    }
}

#[tokio::test]
async fn packages_are_linked_once_and_need_not_be() {
    let gitea = Gitea::start(Rules::default());
    let place = place(&gitea);
    for tag in ["1", "2"] {
        put(&*place, &package("r.example/a"), tag).await;
    }
    assert_eq!(
        gitea.linked().into_iter().collect::<Vec<_>>(),
        [("imglife.r.example__a".to_owned(), REPOSITORY.to_owned())]
    );
    assert_eq!(
        gitea
            .server
            .asked()
            .iter()
            .filter(|asked| asked.method == "POST")
            .count(),
        1
    );
    let failing = Gitea::start(Rules {
        links: Err(500),
        ..Rules::default()
    });
    put(
        &place_of(&failing, TOKEN, OWNER),
        &package("r.example/a"),
        "1",
    )
    .await;
}

#[tokio::test]
async fn a_file_of_another_content_under_the_name_is_a_conflict() {
    let gitea = Gitea::start(Rules::default());
    let name = file(&package("r.example/a"), "1", b"one");
    gitea.insert(
        &name.package.flat(),
        "records",
        [(name.file.to_string(), "other".into())],
    );
    let error = place(&gitea)
        .put(&name, "one".into())
        .await
        .expect_err("a conflict");
    assert_eq!(error.kind, ItemErrorKind::Refused);
    assert!(chain(&error).contains("409 Conflict"), "{}", chain(&error));
}

#[tokio::test]
async fn a_jobs_own_token_is_told_not_to_suffice() {
    let gitea = Gitea::start(Rules::default());
    let place = place_of(&gitea, JOB, OWNER);
    let error = place
        .put(&file(&package("r.example/a"), "1", b""), "".into())
        .await
        .expect_err("it may not");
    let hint = error.hint().unwrap_or_default();
    assert_eq!(error.kind, ItemErrorKind::Forbidden);
    assert!(
        hint.contains("`write:package`")
            && hint.contains("cannot publish packages")
            && hint.contains("GITEA_*"),
        "{hint}"
    );
    let anonymous = place_of(&gitea, "", OWNER)
        .list(&Scope::AllRecords(prefix()))
        .await
        .expect_err("it may not");
    assert_eq!(anonymous.kind, ItemErrorKind::Unauthorized);
    assert!(!format!("{error:?} {anonymous:?}").contains("hunter2"));
}

#[tokio::test]
async fn an_owner_that_may_not_be_seen_has_no_empty_listing() {
    let gitea = Gitea::start(Rules::default());
    let place = place_of(&gitea, TOKEN, "somebody");
    for scope in [
        Scope::AllRecords(prefix()),
        Scope::Package(package("r.example/a")),
    ] {
        let error = place.list(&scope).await.expect_err("not empty");
        assert_eq!(error.kind, ItemErrorKind::Absent);
        assert!(
            error
                .hint()
                .is_some_and(|hint| hint.contains("GITEA_TOKEN"))
        );
    }
}

#[tokio::test]
async fn a_page_or_package_that_fails_fails_the_listing() {
    for broken in ["page=2", "/imglife.r.example__p7/"] {
        let gitea = Gitea::start_with(Rules::default(), move |asked| {
            asked
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
        let error = place(&gitea)
            .list(&Scope::AllRecords(prefix()))
            .await
            .expect_err("half a listing");
        assert_eq!(error.kind, ItemErrorKind::ServerError, "{broken}");
    }
}

#[tokio::test]
async fn a_package_that_goes_while_it_is_listed_is_not_there() {
    let gitea = Arc::new(std::sync::OnceLock::<Gitea>::new());
    let seen = gitea.clone();
    let started = Gitea::start_with(Rules::default(), move |asked| {
        if asked.path.ends_with("/imglife.r.example__p0/records/files") {
            seen.get()?.remove("imglife.r.example__p0");
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
        records(place(gitea))
            .all()
            .await
            .expect("a reading")
            .records
            .len(),
        2
    );
}
