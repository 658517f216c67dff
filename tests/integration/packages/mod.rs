//! What holds for every place that records are in, and what is particular to each.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use imglife::cache::Cache;
use imglife::credentials::{Forge, ForgeCredentials};
use imglife::http::{Client, Settings, Url, host_of};
use imglife::model::{BuildRecord, Clock, Repository, Variables};
use imglife::packages::directory::DirectoryFiles;
use imglife::packages::memory::MemoryFiles;
use imglife::packages::{
    Contents, DataFile, Deletion, Encoded, FileKey, FileName, FileSeen, Listing, PackageFiles,
    PackageName, Prefix, Records, Scope,
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
        contents: Contents::RecordsOf(Encoded::of(repository)),
    }
}

fn package(repository: &str) -> PackageName {
    package_of("imglife", repository)
}

fn data() -> PackageName {
    PackageName {
        prefix: prefix(),
        contents: Contents::Data,
    }
}

fn time() -> DateTime<Utc> {
    DateTime::from_timestamp(1_794_000_000, 0).expect("a time")
}

fn file(package: &PackageName, tag: &str, content: &[u8]) -> FileName {
    FileName {
        package: package.clone(),
        file: FileKey::new(Encoded::of(tag), content, time(), None),
    }
}

fn record(image: &str, revision: &str) -> BuildRecord {
    let text = format!(
        r#"{{"image":"{image}","base":"registry.example/bases/alpine:3.21.3-core1.0.0","base_digest":"sha256:{0}","digest":"sha256:{0}","revision":"{revision}","project":"team/web","platforms":["linux/amd64","linux/arm64"],"built_at":"2026-11-01T10:00:00Z","custom_fields":{{"team":"web"}}}}"#,
        "0".repeat(64)
    );
    BuildRecord::parse(text.as_bytes()).expect("a record")
}

fn no_cache() -> Cache {
    Cache::user(&Variables::default(), true)
}

fn records(files: Arc<dyn PackageFiles>) -> Records {
    Records::new(files, prefix(), no_cache(), Clock::fixed(time()))
}

/// Returns a client that speaks to `urls` over plain HTTP with a token of this variable.
fn client(forge: Forge, urls: &[&Url], variable: &str, token: &str) -> Arc<Client> {
    let settings = Settings {
        retry_delay: Duration::from_millis(2),
        stall: Duration::from_secs(2),
        ..Settings::default()
    };
    client_with(settings, forge, urls, &[(variable, token)])
}

fn client_with(
    mut settings: Settings,
    forge: Forge,
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

/// Fails where the place does not keep the contract. It must be empty.
async fn holds_for(place: Arc<dyn PackageFiles>) {
    what_is_not_there_is_none(&*place).await;
    bytes_come_back_and_may_be_put_again(&*place).await;
    listings_are_whole_and_of_their_scope(&*place).await;
    names_that_look_alike_are_different(&*place).await;
    what_is_deleted_is_gone_and_nothing_else(&*place).await;
    records_are_written_replaced_and_removed(&place).await;
    writers_at_once_leave_one_record(&place).await;
}

async fn listed(place: &dyn PackageFiles, scope: Scope) -> Vec<FileName> {
    let Listing { files, foreign } = place.list(&scope).await.expect("a listing");
    assert_eq!(foreign, Vec::<String>::new());
    let mut names: Vec<FileName> = files.into_iter().map(|file| file.name).collect();
    // GitLab adds a second file of the same name.
    names.dedup();
    names
}

async fn put(place: &dyn PackageFiles, package: &PackageName, tag: &str) -> FileName {
    let content = Bytes::from(format!("the content of {tag}"));
    let name = file(package, tag, &content);
    place.put(&name, content).await.expect("written");
    name
}

async fn what_is_not_there_is_none(place: &dyn PackageFiles) {
    assert_eq!(listed(place, Scope::AllRecords(prefix())).await, []);
    assert_eq!(
        listed(place, Scope::Package(package("r.example/absent"))).await,
        []
    );
    assert_eq!(listed(place, Scope::Package(data())).await, []);
    assert_eq!(
        place
            .get(&file(&package("r.example/absent"), "1", b""))
            .await
            .expect("an answer"),
        None
    );
}

async fn bytes_come_back_and_may_be_put_again(place: &dyn PackageFiles) {
    let content = Bytes::from(
        (0..100_000_u32)
            .map(|number| (number % 251) as u8)
            .collect::<Vec<_>>(),
    );
    let name = file(&package("r.example/bytes"), "1", &content);
    for _ in 0..2 {
        place.put(&name, content.clone()).await.expect("written");
        assert!(place.get(&name).await.expect("an answer") == Some(content.clone()));
    }
    assert_eq!(
        listed(place, Scope::Package(name.package.clone())).await,
        [name]
    );
}

async fn listings_are_whole_and_of_their_scope(place: &dyn PackageFiles) {
    let many = package("r.example/many");
    let mut all = vec![];
    for number in 0..115 {
        all.push(put(place, &many, &format!("1.{number}")).await);
    }
    all.sort();
    assert_eq!(listed(place, Scope::Package(many)).await, all);
    for number in 0..108 {
        all.push(put(place, &package(&format!("r.example/p{number}")), "1").await);
    }
    // What is somebody else's.
    for other in [
        package_of("imglife2", "r.example/a"),
        package_of("imglife.more", "r.example/a"),
        package_of("my-imglife", "r.example/a"),
    ] {
        put(place, &other, "1").await;
    }
    let of_data = put(place, &data(), "eol-data").await;
    assert_eq!(listed(place, Scope::Package(data())).await, [of_data]);
    assert_eq!(
        listed(place, Scope::Package(package("r.example/p1")))
            .await
            .len(),
        1,
        "p1 is the beginning of p10"
    );
    let bytes = listed(place, Scope::Package(package("r.example/bytes"))).await;
    let mut expected = [all, bytes].concat();
    expected.sort();
    assert_eq!(listed(place, Scope::AllRecords(prefix())).await, expected);
}

async fn names_that_look_alike_are_different(place: &dyn PackageFiles) {
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
            names.push(put(place, &package, tag).await);
        }
        names.sort();
        assert_eq!(
            listed(place, Scope::Package(package)).await,
            names,
            "{repository}"
        );
        for name in names {
            assert!(
                place
                    .get(&name)
                    .await
                    .expect("an answer")
                    .is_some_and(|content| name.file.is_of(&content)),
                "{name}"
            );
        }
    }
}

async fn what_is_deleted_is_gone_and_nothing_else(place: &dyn PackageFiles) {
    let package = package("r.example/deleted");
    for tag in ["1", "2"] {
        put(place, &package, tag).await;
    }
    let listing = place
        .list(&Scope::Package(package.clone()))
        .await
        .expect("a listing");
    let [first, second] = <[FileSeen; 2]>::try_from(listing.files).expect("two files");
    for _ in 0..2 {
        place
            .delete(&first)
            .await
            .expect("deleted, or gone already");
    }
    assert_eq!(place.get(&first.name).await.expect("an answer"), None);
    assert_eq!(
        listed(place, Scope::Package(package.clone())).await,
        std::slice::from_ref(&second.name)
    );
    place.delete(&second).await.expect("deleted");
    assert_eq!(listed(place, Scope::Package(package.clone())).await, []);
    assert_eq!(
        put(place, &package, "3").await,
        listed(place, Scope::Package(package)).await[0]
    );
}

async fn records_are_written_replaced_and_removed(place: &Arc<dyn PackageFiles>) {
    let records = records(place.clone());
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
        assert!(put.left_behind.is_none(), "{:?}", put.left_behind);
    }
    let reading = records.of(&repository).await.expect("a reading");
    assert_eq!(reading.unreadable, []);
    assert_eq!(
        reading.records,
        [record(&image("1.0"), "four"), record(&image("1.1"), "two")]
    );
    assert_eq!(
        place
            .list(&Scope::Package(package(&repository.to_string())))
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
        Deletion::Done
    );
    assert_eq!(
        records.of(&repository).await.expect("a reading").records,
        [record(&image("1.1"), "two")]
    );
    for text in ["one", "two"] {
        records
            .write_data(DataFile::EndOfLife, Bytes::from(text))
            .await
            .expect("written");
    }
    let data = records
        .read_data(DataFile::EndOfLife)
        .await
        .expect("an answer")
        .expect("data");
    assert_eq!(&data.bytes[..], b"two");
    assert_eq!(
        records
            .read_data(DataFile::Inventory)
            .await
            .expect("an answer"),
        None
    );
}

async fn writers_at_once_leave_one_record(place: &Arc<dyn PackageFiles>) {
    let image = "registry.example/apps/busy:1";
    let writers = (0..8).map(|number| {
        let records = records(place.clone());
        async move {
            records
                .put(&record(image, &number.to_string()))
                .await
                .expect("written")
        }
    });
    futures_util::future::join_all(writers).await;
    let read = || async {
        let reading = records(place.clone())
            .of(&"registry.example/apps/busy".parse().expect("a repository"))
            .await
            .expect("a reading");
        assert_eq!((reading.unreadable.len(), reading.records.len()), (0, 1));
        reading.records[0].revision.clone()
    };
    let winner = read().await;
    assert_eq!(read().await, winner);
    records(place.clone())
        .put(&record(image, "after"))
        .await
        .expect("written");
    assert_eq!(read().await, "after");
    let left = place
        .list(&Scope::Package(package("registry.example/apps/busy")))
        .await
        .expect("a listing")
        .files;
    assert_eq!(left.len(), 1, "{left:?}");
}

#[tokio::test]
async fn memory_keeps_the_contract() {
    holds_for(Arc::new(MemoryFiles::default())).await;
}

#[tokio::test]
async fn a_directory_keeps_the_contract() {
    let directory = tempfile::tempdir().expect("a directory");
    holds_for(Arc::new(DirectoryFiles::new(
        directory.path().join("packages"),
    )))
    .await;
}
