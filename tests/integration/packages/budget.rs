//! Number of requests and time to read 10,000 records in 500 repositories.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use imglife::cache::Cache;
use imglife::credentials::ForgeKind;
use imglife::http::{Settings, Url};
use imglife::model::{Clock, Variables};
use imglife::packages::directory::DirectoryFiles;
use imglife::packages::gitea::{GiteaLocation, GiteaPackages};
use imglife::packages::gitlab::GitlabPackages;
use imglife::packages::{RecordStore, Records};

use super::{client_with, file, package, prefix, record, time};
use crate::support::fake_server::{FakeServer, typed};
use crate::support::gitea::{self, Gitea};
use crate::support::gitlab::{self, Gitlab};

const REPOSITORIES: usize = 500;
const TAGS: usize = 20;

/// Returns each package with its files.
fn everything() -> impl Iterator<Item = (String, Vec<(String, Bytes)>)> {
    (0..REPOSITORIES).map(|number| {
        let repository = format!("registry.example/group/apps/app-{number:03}");
        let package = package(&repository);
        let files = (0..TAGS).map(|tag| {
            let content = record(&format!("{repository}:1.{tag}.0"), "4f2a9c")
                .to_bytes()
                .expect("bytes");
            (
                file(&package, &format!("1.{tag}.0"), &content)
                    .file
                    .to_string(),
                Bytes::from(content),
            )
        });
        (package.flat(), files.collect())
    })
}

fn client(forge: ForgeKind, url: &Url, variable: &str, token: &str) -> Arc<imglife::http::Client> {
    client_with(
        Settings {
            connections: 16,
            ..Settings::default()
        },
        forge,
        &[url],
        &[(variable, token)],
    )
}

/// Reads all records with a cold and with a warm cache. Returns the number of requests of each.
async fn read_twice(store: Arc<dyn RecordStore>, server: Option<&FakeServer>) -> [usize; 2] {
    let home = tempfile::tempdir().expect("a directory");
    let mut requests = [0; 2];
    for (round, requests) in requests.iter_mut().enumerate() {
        let cache = Cache::user(
            &[("HOME", home.path().to_string_lossy())]
                .into_iter()
                .collect::<Variables>(),
            true,
        );
        let records = Records::new(store.clone(), prefix(), cache, Clock::fixed(time()));
        let before = server.map_or(0, |server| server.requests().len());
        let began = Instant::now();
        let reading = records.all().await.expect("a reading");
        let elapsed = began.elapsed();
        *requests = server.map_or(0, |server| server.requests().len()) - before;
        assert_eq!(
            (reading.records.len(), reading.unreadable.len()),
            (REPOSITORIES * TAGS, 0)
        );
        // Debug build and other tests at the same time; a release build needs two seconds.
        assert!(
            round == 0 || elapsed < Duration::from_secs(20),
            "{elapsed:?}"
        );
        println!(
            "{}: round {round}: {requests} requests, {elapsed:.2?}",
            store.name()
        );
    }
    requests
}

#[tokio::test(flavor = "multi_thread")]
async fn gitlab_gets_one_request_per_repository_and_page() {
    let server = Gitlab::start(gitlab::Rules::default());
    everything().for_each(|(package, files)| server.insert(&package, "records", files));
    let url = server.url();
    let client = client(ForgeKind::Gitlab, &url, "GITLAB_TOKEN", gitlab::MAINTAINER);
    let store =
        GitlabPackages::new(client, &url, gitlab::PROJECT, Some("GITLAB_TOKEN")).expect("a store");
    // Five pages of packages, read twice because the listing must be stable.
    assert_eq!(
        read_twice(Arc::new(store), Some(&server.server)).await,
        [10_510, 510]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn gitea_gets_one_request_per_repository_and_page() {
    let server = Gitea::start(gitea::Rules::default());
    everything().for_each(|(package, files)| server.insert(&package, "records", files));
    let url = server.url();
    let client = client(ForgeKind::Gitea, &url, "GITEA_TOKEN", gitea::TOKEN);
    let store = GiteaLocation {
        url: url.clone(),
        api_url: url,
        owner: gitea::OWNER.to_owned(),
        repository: None,
    };
    let store = GiteaPackages::new(client, &store).expect("a store");
    assert_eq!(
        read_twice(Arc::new(store), Some(&server.server)).await,
        [10_520, 520]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_gets_one_listing_request_per_thousand_records() {
    let mut objects = BTreeMap::new();
    for (package, files) in everything() {
        let directory = format!(
            "imglife/records/{}",
            package.strip_prefix("imglife.").expect("a package")
        );
        objects.extend(files.into_iter().map(|(file, content)| {
            (
                format!("/bucket/{directory}/{}", file.replace('+', "%2B")),
                content,
            )
        }));
    }
    let keys: Vec<String> = objects
        .keys()
        .map(|path| path.trim_start_matches("/bucket/").replace("%2B", "+"))
        .collect();
    let server = FakeServer::start(move |received| {
        let path = received.path.split('?').next().unwrap_or_default();
        if let Some(content) = objects.get(path) {
            return typed("application/json", content.clone());
        }
        let query: Url = format!("http://s3{}", received.path)
            .parse()
            .expect("a path");
        let start = query
            .query_pairs()
            .find(|(name, _)| name == "continuation-token")
            .map_or(0, |(_, token)| token.parse().expect("a number"));
        let next = (start + 1_000 < keys.len()).then(|| (start + 1_000).to_string());
        super::s3::page(&keys[start..keys.len().min(start + 1_000)], next.as_deref())
    });
    let url: Url = format!("http://{}", server.host()).parse().expect("a URL");
    let store = super::s3::store(&url, "bucket", "id", "secret");
    assert_eq!(
        read_twice(Arc::new(store), Some(&server)).await,
        [10_010, 10]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn directory_reads_all_records() {
    let directory = tempfile::tempdir().expect("a directory");
    for (package, files) in everything() {
        let below = directory
            .path()
            .join("imglife/records")
            .join(package.strip_prefix("imglife.").expect("a package"));
        std::fs::create_dir_all(&below).expect("a directory");
        for (file, content) in files {
            std::fs::write(below.join(file), content).expect("a file");
        }
    }
    read_twice(
        Arc::new(DirectoryFiles::new(directory.path().to_owned())),
        None,
    )
    .await;
}
