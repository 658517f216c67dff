//! Contract tests that every record store must pass, and tests of each store.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use imglife::cache::Cache;
use imglife::credentials::{ForgeCredentials, ForgeKind};
use imglife::http::{Client, Settings, Url, host_of};
use imglife::model::{BuildRecord, Clock, Repository, Variables};
use imglife::packages::directory::DirectoryFiles;
use imglife::packages::memory::MemoryFiles;
use imglife::packages::{
    DataFileKind, EncodedName, FileKey, FileListing, FileName, ListedFile, PackageContents,
    PackageName, PackageScope, Prefix, RecordDeletion, RecordStore, Records,
};

mod budget;
mod configured;
mod gitea;
mod gitlab;
pub(crate) mod s3;

pub(crate) fn prefix() -> Prefix {
    "imglife".parse().expect("a prefix")
}

fn package_of(prefix: &str, repository: &str) -> PackageName {
    let prefix = prefix.parse().expect("a prefix");
    PackageName {
        prefix,
        contents: PackageContents::RecordsOf(EncodedName::of(repository)),
    }
}

fn package(repository: &str) -> PackageName {
    package_of("imglife", repository)
}

fn data() -> PackageName {
    PackageName {
        prefix: prefix(),
        contents: PackageContents::Data,
    }
}

fn time() -> DateTime<Utc> {
    DateTime::from_timestamp(1_794_000_000, 0).expect("a time")
}

fn file(package: &PackageName, tag: &str, content: &[u8]) -> FileName {
    FileName {
        package: package.clone(),
        file: FileKey::new(EncodedName::of(tag), content, time(), None),
    }
}

fn record(image: &str, revision: &str) -> BuildRecord {
    let text = format!(
        r#"{{"image":"{image}","base":"registry.example/bases/alpine:3.21.3-core1.0.0","base_digest":"sha256:{0}","digest":"sha256:{0}","revision":"{revision}","project":"team/web","platforms":["linux/amd64","linux/arm64"],"built_at":"2026-11-01T10:00:00Z","custom_fields":{{"team":"web"}}}}"#,
        "0".repeat(64)
    );
    BuildRecord::parse(text.as_bytes()).expect("a record")
}

/// Returns a record as readings return it that do not show custom fields.
fn without_custom_fields(image: &str, revision: &str) -> BuildRecord {
    let mut record = record(image, revision);
    record.drop_custom_fields();
    record
}

fn no_cache() -> Cache {
    Cache::user(&Variables::default(), true)
}

fn records(files: Arc<dyn RecordStore>) -> Records {
    Records::new(files, prefix(), no_cache(), Clock::fixed(time()))
}

/// Returns a client for the plain HTTP servers at `urls` with a token in `variable`.
fn client(forge: ForgeKind, urls: &[&Url], variable: &str, token: &str) -> Arc<Client> {
    let settings = Settings {
        retry_delay: Duration::from_millis(2),
        stall: Duration::from_secs(2),
        ..Settings::default()
    };
    client_with(settings, forge, urls, &[(variable, token)])
}

fn client_with(
    mut settings: Settings,
    forge: ForgeKind,
    urls: &[&Url],
    variables: &[(&str, &str)],
) -> Arc<Client> {
    settings
        .insecure
        .extend(urls.iter().map(|url| host_of(url).expect("a host")));
    let variables = variables.iter().copied().collect::<Variables>();
    Arc::new(Client::new(
        settings,
        Arc::new(ForgeCredentials::new(forge, variables)),
        Clock::fixed(time()),
    ))
}

/// Fails the test if `store`, which must be empty, violates the contract of [`RecordStore`].
async fn check_contract(store: Arc<dyn RecordStore>) {
    missing_files_are_none(&*store).await;
    content_is_preserved_and_put_is_idempotent(&*store).await;
    listings_are_complete_and_limited_to_their_scope(&*store).await;
    similar_names_are_distinct(&*store).await;
    delete_removes_one_file(&*store).await;
    records_are_written_replaced_and_deleted(&store).await;
    simultaneous_writers_leave_one_record(&store).await;
}

async fn listed(store: &dyn RecordStore, scope: PackageScope) -> Vec<FileName> {
    let FileListing { files, foreign } = store.list(&scope).await.expect("a listing");
    assert_eq!(foreign, Vec::<String>::new());
    let mut names: Vec<FileName> = files.into_iter().map(|file| file.name).collect();
    // GitLab adds a second file of the same name.
    names.dedup();
    names
}

async fn put(store: &dyn RecordStore, package: &PackageName, tag: &str) -> FileName {
    let content = Bytes::from(format!("the content of {tag}"));
    let name = file(package, tag, &content);
    store.put(&name, content).await.expect("written");
    name
}

async fn missing_files_are_none(store: &dyn RecordStore) {
    assert_eq!(listed(store, PackageScope::AllRecords(prefix())).await, []);
    assert_eq!(
        listed(store, PackageScope::Package(package("r.example/absent"))).await,
        []
    );
    assert_eq!(listed(store, PackageScope::Package(data())).await, []);
    assert_eq!(
        store
            .get(&file(&package("r.example/absent"), "1", b""))
            .await
            .expect("no error"),
        None
    );
}

async fn content_is_preserved_and_put_is_idempotent(store: &dyn RecordStore) {
    let content = Bytes::from(
        (0..100_000_u32)
            .map(|number| (number % 251) as u8)
            .collect::<Vec<_>>(),
    );
    let name = file(&package("r.example/bytes"), "1", &content);
    for _ in 0..2 {
        store.put(&name, content.clone()).await.expect("written");
        assert!(store.get(&name).await.expect("no error") == Some(content.clone()));
    }
    assert_eq!(
        listed(store, PackageScope::Package(name.package.clone())).await,
        [name]
    );
}

async fn listings_are_complete_and_limited_to_their_scope(store: &dyn RecordStore) {
    let many = package("r.example/many");
    let mut all = vec![];
    for number in 0..115 {
        all.push(put(store, &many, &format!("1.{number}")).await);
    }
    all.sort();
    assert_eq!(listed(store, PackageScope::Package(many)).await, all);
    for number in 0..108 {
        all.push(put(store, &package(&format!("r.example/p{number}")), "1").await);
    }
    // Packages of other installations.
    for other in [
        package_of("imglife2", "r.example/a"),
        package_of("imglife.more", "r.example/a"),
        package_of("my-imglife", "r.example/a"),
    ] {
        put(store, &other, "1").await;
    }
    let of_data = put(store, &data(), "eol-data").await;
    assert_eq!(
        listed(store, PackageScope::Package(data())).await,
        [of_data]
    );
    assert_eq!(
        listed(store, PackageScope::Package(package("r.example/p1")))
            .await
            .len(),
        1,
        "p1 is a prefix of p10"
    );
    let bytes = listed(store, PackageScope::Package(package("r.example/bytes"))).await;
    let mut expected = [all, bytes].concat();
    expected.sort();
    assert_eq!(
        listed(store, PackageScope::AllRecords(prefix())).await,
        expected
    );
}

async fn similar_names_are_distinct(store: &dyn RecordStore) {
    let repositories = [
        "registry:5000/a/b".to_owned(),
        "registry:5000/a_b".to_owned(),
        "registry:5000/a-b".to_owned(),
        format!("r.example/{}", "long/".repeat(45) + "a"),
        format!("r.example/{}", "long/".repeat(45) + "b"),
        "ocidir:///srv/Größe".to_owned(),
        "ocidir:///srv/größe".to_owned(),
    ];
    let tags = [
        "1.0-RC1",
        "1.0-rc1",
        "a..b",
        "_",
        "a+b",
        &"L".repeat(128),
        &"l".repeat(128),
    ];
    for repository in &repositories {
        let package = package(repository);
        let mut names = Vec::new();
        for tag in tags {
            names.push(put(store, &package, tag).await);
        }
        names.sort();
        assert_eq!(
            listed(store, PackageScope::Package(package)).await,
            names,
            "{repository}"
        );
        for name in names {
            assert!(
                store
                    .get(&name)
                    .await
                    .expect("no error")
                    .is_some_and(|content| name.file.matches(&content)),
                "{name}"
            );
        }
    }
}

async fn delete_removes_one_file(store: &dyn RecordStore) {
    let package = package("r.example/deleted");
    for tag in ["1", "2"] {
        put(store, &package, tag).await;
    }
    let listing = store
        .list(&PackageScope::Package(package.clone()))
        .await
        .expect("a listing");
    let [first, second] = <[ListedFile; 2]>::try_from(listing.files).expect("two files");
    for _ in 0..2 {
        store
            .delete(&first)
            .await
            .expect("deleted, or did not exist");
    }
    assert_eq!(store.get(&first.name).await.expect("no error"), None);
    assert_eq!(
        listed(store, PackageScope::Package(package.clone())).await,
        std::slice::from_ref(&second.name)
    );
    store.delete(&second).await.expect("deleted");
    assert_eq!(
        listed(store, PackageScope::Package(package.clone())).await,
        []
    );
    assert_eq!(
        put(store, &package, "3").await,
        listed(store, PackageScope::Package(package)).await[0]
    );
}

async fn records_are_written_replaced_and_deleted(store: &Arc<dyn RecordStore>) {
    let records = records(store.clone());
    let repository: Repository = "registry.example/apps/web".parse().expect("a repository");
    let image = |tag: &str| format!("{repository}:{tag}");
    for (tag, revision) in [
        ("1.0", "one"),
        ("1.1", "two"),
        ("1.0", "three"),
        ("1.0", "four"),
    ] {
        let put = records
            .put(&record(&image(tag), revision))
            .await
            .expect("written");
        assert!(put.cleanup_error.is_none(), "{:?}", put.cleanup_error);
    }
    let reading = records.of(&repository).await.expect("a reading");
    assert_eq!(reading.unreadable, []);
    assert_eq!(
        reading.records,
        [
            without_custom_fields(&image("1.0"), "four"),
            without_custom_fields(&image("1.1"), "two")
        ]
    );
    assert_eq!(
        store
            .list(&PackageScope::Package(package(&repository.to_string())))
            .await
            .expect("a listing")
            .files
            .len(),
        2
    );
    assert_eq!(
        records
            .delete(&record(&image("1.0"), "four"))
            .await
            .expect("deleted"),
        RecordDeletion::Done
    );
    assert_eq!(
        records.of(&repository).await.expect("a reading").records,
        [without_custom_fields(&image("1.1"), "two")]
    );
    for text in ["one", "two"] {
        records
            .write_data(DataFileKind::EndOfLife, Bytes::from(text))
            .await
            .expect("written");
    }
    let data = records
        .read_data(DataFileKind::EndOfLife)
        .await
        .expect("no error")
        .expect("data");
    assert_eq!(&data.bytes[..], b"two");
    assert_eq!(
        records
            .read_data(DataFileKind::Inventory)
            .await
            .expect("no error"),
        None
    );
}

async fn simultaneous_writers_leave_one_record(store: &Arc<dyn RecordStore>) {
    let image = "registry.example/apps/busy:1";
    let writers = (0..8).map(|number| {
        let records = records(store.clone());
        async move {
            records
                .put(&record(image, &number.to_string()))
                .await
                .expect("written")
        }
    });
    futures_util::future::join_all(writers).await;
    let read = || async {
        let reading = records(store.clone())
            .of(&"registry.example/apps/busy".parse().expect("a repository"))
            .await
            .expect("a reading");
        assert_eq!((reading.unreadable.len(), reading.records.len()), (0, 1));
        reading.records[0].revision.clone()
    };
    let winner = read().await;
    assert_eq!(read().await, winner);
    records(store.clone())
        .put(&record(image, "after"))
        .await
        .expect("written");
    assert_eq!(read().await, "after");
    let left = store
        .list(&PackageScope::Package(package(
            "registry.example/apps/busy",
        )))
        .await
        .expect("a listing")
        .files;
    assert_eq!(left.len(), 1, "{left:?}");
}

#[tokio::test]
async fn memory_passes_the_contract() {
    check_contract(Arc::new(MemoryFiles::default())).await;
}

#[tokio::test]
async fn directory_passes_the_contract() {
    let directory = tempfile::tempdir().expect("a directory");
    check_contract(Arc::new(DirectoryFiles::new(
        directory.path().join("packages"),
    )))
    .await;
}
