//! Missing content and listings.

use imglife::error::ItemErrorKind;

use super::*;

pub(super) async fn missing_content_is_none(tested: &TestedStore<'_>) {
    let repository = tested.repository("absent");
    let unknown = blob(b"never written");
    let expected = if tested.reports_missing_repositories {
        None
    } else {
        Some(Vec::new())
    };
    assert_eq!(
        tested.store.tags(&repository).await.expect("a listing"),
        expected
    );
    has_nothing_unknown(tested, &repository, &unknown).await;
    let read = read(tested, &repository, &unknown, 0).await;
    assert_eq!(read.map_err(|error| error.kind), Err(ItemErrorKind::Absent));

    // The same in a repository that exists.
    put_image(tested, &repository, &tag("there"), b"absent").await;
    has_nothing_unknown(tested, &repository, &unknown).await;
}

/// Checks that a repository has neither the tag `latest` nor the blob, as a manifest or a blob.
async fn has_nothing_unknown(
    tested: &TestedStore<'_>,
    repository: &Repository,
    unknown: &Descriptor,
) {
    for reference in [
        Reference::Tag(tag("latest")),
        Reference::Digest(unknown.digest.clone()),
    ] {
        assert_eq!(
            tested
                .store
                .resolve(repository, &reference)
                .await
                .expect("an answer"),
            None,
            "{reference}"
        );
        assert_eq!(
            tested
                .store
                .manifest(repository, &reference)
                .await
                .expect("an answer"),
            None,
            "{reference}"
        );
    }
    assert!(
        !tested
            .store
            .has_blob(repository, unknown)
            .await
            .expect("an answer")
    );
}

pub(super) async fn a_listing_has_each_tag_once(tested: &TestedStore<'_>) {
    let repository = tested.repository("many");
    let image = image_of(tested, &repository, b"many").await;
    let tags: Vec<Tag> = (0..200).map(|number| tag(&format!("1.{number}"))).collect();
    for tag in tags.iter().chain(&tags[..3]) {
        put_manifest(tested, &repository, &tag.clone().into(), &image).await;
    }
    let mut expected: Vec<String> = tags.iter().map(ToString::to_string).collect();
    expected.sort();
    assert_eq!(listed(tested, &repository).await, expected);
    let tags = tested
        .store
        .tags(&repository)
        .await
        .expect("a listing")
        .expect("the repository");
    assert!(tags.iter().all(|listed| {
        listed
            .digest
            .as_ref()
            .is_none_or(|digest| *digest == image.digest)
    }));
}

pub(super) async fn sibling_repositories_are_listed(tested: &TestedStore<'_>) {
    let [one, deep, elsewhere] = ["siblings/one", "siblings/a/deep-one", "not-siblings/one"]
        .map(|name| tested.repository(name));
    for repository in [&one, &deep, &elsewhere] {
        put_image(tested, repository, &tag("1"), b"sibling").await;
    }
    let mut repositories = tested
        .store
        .sibling_repositories(&one)
        .await
        .expect("an answer");
    if let Some(repositories) = &mut repositories {
        repositories.sort();
    }
    assert_eq!(
        repositories,
        tested.lists_repositories.then(|| vec![deep, one])
    );
}
