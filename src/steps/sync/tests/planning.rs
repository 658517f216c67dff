//! Tests of observation and plan: requests, selection by date, names of OS variants.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, TimeZone, Utc};
use regex::Regex;
use tokio_util::sync::CancellationToken;

use crate::command::SystemRunner;
use crate::config::{CheckDigest, MissingPlatforms, PatternSelection, SortBy, TagPattern};
use crate::error::ItemErrorKind;
use crate::hooks::HookRunner;
use crate::model::{
    Algorithm, Descriptor, Digest, Manifest, Reference, Repository, Tag, Variables,
};
use crate::progress::silent;
use crate::registry::memory::{MemoryStore, StoreFault, StoreOperation};
use crate::registry::{ImageSource, ImageStore, InMemory};
use crate::steps::Mode;
use crate::steps::sync::*;

const SOURCE: &str = "docker.io/library/golang";
const TARGET: &str = "registry.example.com/mirrors/golang";

fn repository(name: &str) -> Repository {
    name.parse().expect("a repository")
}

fn tag(name: &str) -> Tag {
    name.parse().expect("a tag")
}

fn now() -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 3, 1, 12, 0, 0)
        .single()
        .expect("a time")
}

fn pattern(tag_regex: &str) -> PatternSelection {
    let regex = Regex::new(&format!("^(?:{tag_regex})$")).expect("a pattern");
    PatternSelection::by_pattern(TagPattern {
        text: tag_regex.to_owned(),
        regex,
    })
}

fn entry(selection: TagSelection) -> SyncEntry {
    SyncEntry {
        source: repository(SOURCE),
        target: repository(TARGET),
        selection,
        digest: None,
        target_tag: None,
        check_digest: CheckDigest::Never,
        keep_replaced: false,
        platforms: None,
        platform_mode: PlatformMode::Rewrite,
        platforms_missing: MissingPlatforms::Warn,
        skip_unsupported: false,
        referrers: false,
        os_normalize: false,
        lifecycle: Vec::new(),
        retention: None,
        post_sync: Vec::new(),
    }
}

fn by_pattern(pattern: PatternSelection) -> SyncEntry {
    entry(TagSelection::Pattern(Box::new(pattern)))
}

fn normalized(entry: SyncEntry) -> SyncEntry {
    SyncEntry {
        os_normalize: true,
        ..entry
    }
}

fn sync(entries: impl IntoIterator<Item = SyncEntry>) -> SyncConfig {
    SyncConfig {
        parallelism: 2,
        entries: entries.into_iter().collect(),
        post_sync: Vec::new(),
    }
}

fn image(content: &str) -> (Manifest, Descriptor) {
    let config = Descriptor::new(
        "application/vnd.oci.image.config.v1+json",
        Digest::sha256(content.as_bytes()),
        content.len() as u64,
    );
    let text =
        serde_json::json!({ "schemaVersion": 2, "config": config, "layers": [] }).to_string();
    (
        Manifest::parse(Bytes::from(text), None, Algorithm::Sha256).expect("a manifest"),
        config,
    )
}

async fn put(store: &MemoryStore, repository: &Repository, name: &str, content: &str) {
    let (manifest, config) = image(content);
    store
        .put_blob(
            repository,
            &config,
            &InMemory(Bytes::from(content.to_owned())),
            None,
        )
        .await
        .expect("a blob");
    store
        .put_manifest(repository, &Reference::Tag(tag(name)), &manifest)
        .await
        .expect("a manifest");
}

/// Returns a store with the given tags in the source repository, separated by spaces.
///
/// Each is `TAG=CONTENT`, or `TAG=CONTENT~DAYS` with the number of days since the push.
async fn upstream(tags: &str) -> Arc<MemoryStore> {
    let store = Arc::new(MemoryStore::default());
    for text in tags.split_whitespace() {
        let (name, content) = text.split_once('=').expect("a content");
        let (content, days) = content
            .split_once('~')
            .map_or((content, None), |(content, days)| (content, Some(days)));
        put(&store, &repository(SOURCE), name, content).await;
        if let Some(days) = days {
            let days = days.parse().expect("a number of days");
            store.date_tag(
                &repository(SOURCE),
                &tag(name),
                now() - chrono::Duration::days(days),
            );
        }
    }
    store.clear_calls();
    store
}

fn stores(store: &Arc<MemoryStore>) -> SyncStores {
    SyncStores {
        source: store.stores(),
        target: store.stores(),
        digest_cache: crate::transfer::no_cache(),
    }
}

async fn observed(store: &Arc<MemoryStore>, sync: &SyncConfig) -> World {
    observe(
        sync,
        &SyncScope::default(),
        &stores(store),
        &*silent(),
        now(),
    )
    .await
}

/// Returns the tags that each entry selects, and the numbers of source listings without and with
/// push dates.
async fn selected(
    store: &Arc<MemoryStore>,
    entries: impl IntoIterator<Item = SyncEntry>,
) -> (Vec<String>, usize, usize) {
    store.clear_calls();
    let world = observed(store, &sync(entries)).await;
    let selected = world.entries.iter().map(|entry| match &entry.selected {
        Ok(selected) => selected
            .tags
            .iter()
            .map(Tag::as_str)
            .collect::<Vec<_>>()
            .join(" "),
        Err(rejected) => format!("error: {}", rejected.error),
    });
    let listed = |operation| {
        store
            .calls()
            .iter()
            .filter(|call| call.operation == operation && call.repository == repository(SOURCE))
            .count()
    };
    (
        selected.collect(),
        listed(StoreOperation::Tags),
        listed(StoreOperation::PushDates),
    )
}

#[tokio::test]
async fn push_dates_are_requested_only_if_they_decide() {
    let store = upstream("1.0=a~9 1.1=b~1 current=c~2 latest=d~5 weekly=e~3").await;
    let newest = |count| PatternSelection {
        keep_last: Some(count),
        ..pattern(".*")
    };
    let week = PatternSelection {
        min_age: Some(Duration::from_secs(5 * 86_400)),
        ..pattern(".*")
    };
    let by_date = PatternSelection {
        sort: SortBy::Date,
        keep_last: Some(2),
        ..pattern(".*")
    };
    for (pattern, expected, plain, dated) in [
        (pattern(".*"), "1.1 1.0 weekly latest current", 1, 0),
        (newest(2), "1.1 1.0", 1, 0),
        (newest(5), "1.1 1.0 weekly latest current", 1, 0),
        (newest(4), "1.1 1.0 current weekly", 1, 1),
        (week, "1.0 latest", 0, 1),
        (by_date, "1.1 current", 0, 1),
    ] {
        assert_eq!(
            selected(&store, [by_pattern(pattern)]).await,
            (vec![expected.to_owned()], plain, dated)
        );
    }
}

#[tokio::test]
async fn without_push_dates_tags_rank_by_name_and_sort_by_date_fails() {
    let store = upstream("1.0=a current=c latest=d weekly=e").await;
    let newest = by_pattern(PatternSelection {
        keep_last: Some(2),
        ..pattern(".*")
    });
    assert_eq!(
        selected(&store, [newest]).await,
        (vec!["1.0 weekly".to_owned()], 1, 1)
    );
    let (selected, plain, dated) = selected(
        &store,
        [by_pattern(PatternSelection {
            sort: SortBy::Date,
            ..pattern(".*")
        })],
    )
    .await;
    assert!(
        selected[0].starts_with("error: `sort: date` needs the push dates of tags"),
        "{selected:?}"
    );
    assert_eq!((plain, dated), (1, 1));
}

#[tokio::test]
async fn entries_of_one_source_share_listings_but_not_failures() {
    let store = upstream("1.0=a~9 current=c~2 latest=d~5").await;
    let entries = || {
        let by_date = PatternSelection {
            sort: SortBy::Date,
            keep_last: Some(1),
            ..pattern(".*")
        };
        let ranked = PatternSelection {
            keep_last: Some(2),
            ..pattern(".*")
        };
        [by_date.clone(), by_date, ranked, pattern("1.*")].map(by_pattern)
    };
    let expected = ["current", "current", "1.0 current", "1.0"]
        .map(str::to_owned)
        .to_vec();
    assert_eq!(selected(&store, entries()).await, (expected, 1, 1));
    store.fail_when(|call| {
        (call.operation == StoreOperation::PushDates)
            .then_some(StoreFault::Error(ItemErrorKind::ServerError))
    });
    let (texts, _, _) = selected(&store, entries()).await;
    let fails = texts
        .iter()
        .map(|text| text.starts_with("error: docker.io: cannot list tags with their dates"))
        .collect::<Vec<_>>();
    assert_eq!(fails, [true, true, true, false], "{texts:?}");
}

/// Returns the planned items and errors of `entries`, a line each.
async fn planned(
    store: &Arc<MemoryStore>,
    entries: impl IntoIterator<Item = SyncEntry>,
) -> Vec<String> {
    let sync = sync(entries);
    described(&plan(&sync, &observed(store, &sync).await))
}

/// Returns the items and errors of a plan, a line each.
fn described(plan: &Plan) -> Vec<String> {
    let items = plan.entries.iter().flat_map(|entry| {
        let error = entry.error.iter().map(|error| format!("fails: {error}"));
        let items = entry.items.iter().map(|item| {
            let action = match &item.action {
                SyncAction::UpToDate => "up to date".to_owned(),
                SyncAction::Copy(CopyReason::Missing { source }) => {
                    format!(
                        "copy {}",
                        if source.is_some() {
                            "by digest"
                        } else {
                            "by tag"
                        }
                    )
                }
                SyncAction::Copy(CopyReason::Changed { .. }) => "replace".to_owned(),
                SyncAction::Copy(CopyReason::Incomplete { .. } | CopyReason::Attachments) => {
                    "complete".to_owned()
                }
                SyncAction::Fail(error) => format!("fails: {error}"),
            };
            let warnings: Vec<String> = item
                .warnings
                .iter()
                .map(|warning| format!(" ({warning})"))
                .collect();
            format!(
                "{} -> {}: {action}{}",
                item.tag,
                item.target_tag,
                warnings.concat()
            )
        });
        error.chain(items).collect::<Vec<_>>()
    });
    items.collect()
}

#[tokio::test]
async fn a_variant_is_stored_under_the_most_specific_version_with_its_digest() {
    let store = upstream(
        "alpine3.21=new bookworm=other bookworm-slim=slim latest=other trixie=gone \
         1=new 1-alpine3.21=new 1.22-alpine3.21=new 1.22.3-alpine3.21=new 1.22.2-alpine3.21=old 1.23rc1-alpine3.21=rc \
         1.22.3-bookworm=b 1.22.3-bookworm-slim=slim 1.22.3-trixie=a 1.22.2-trixie=b",
    )
    .await;
    let variants = normalized(by_pattern(pattern("[a-z].*")));
    assert_eq!(
        planned(&store, [variants.clone()]).await,
        [
            "trixie -> trixie: copy by tag (no upstream version tag that ends in `-trixie` has the same digest, so the tag keeps its name)",
            "bookworm -> bookworm: copy by tag (no upstream version tag that ends in `-bookworm` has the same digest, so the tag keeps its name)",
            "bookworm-slim -> 1.22.3-bookworm-slim: copy by digest",
            "latest -> latest: copy by tag",
            "alpine3.21 -> 1.22.3-alpine3.21: copy by digest",
        ]
    );
    // Candidates are resolved newest first, each once, until one has the digest.
    let resolved: Vec<String> = store
        .calls()
        .into_iter()
        .filter(|call| call.operation == StoreOperation::Resolve)
        .map(|call| call.subject)
        .collect();
    let mut unique = resolved.clone();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), resolved.len(), "{resolved:?}");
    assert!(
        unique.contains(&"1.23rc1-alpine3.21".to_owned())
            && !unique.contains(&"1.22-alpine3.21".to_owned()),
        "{unique:?}"
    );

    // The plan compares the tags of that name at the target.
    put(&store, &repository(TARGET), "1.22.3-alpine3.21", "new").await;
    put(&store, &repository(TARGET), "1.22.3-bookworm-slim", "older").await;
    let compared = SyncEntry {
        check_digest: CheckDigest::Always,
        ..variants
    };
    let planned = planned(&store, [compared]).await;
    assert!(
        planned.contains(&"alpine3.21 -> 1.22.3-alpine3.21: up to date".to_owned()),
        "{planned:?}"
    );
    assert!(
        planned.contains(&"bookworm-slim -> 1.22.3-bookworm-slim: replace".to_owned()),
        "{planned:?}"
    );
}

#[tokio::test]
async fn a_fixed_tag_is_normalized_too() {
    let store = upstream("alpine3.21=new 1.22.3-alpine3.21=new 1.22.3=x").await;
    let fixed = |name| normalized(entry(TagSelection::Fixed(tag(name))));
    assert_eq!(
        planned(&store, [fixed("alpine3.21")]).await,
        ["alpine3.21 -> 1.22.3-alpine3.21: copy by digest"]
    );
    store.clear_calls();
    assert_eq!(
        planned(&store, [fixed("1.22.3")]).await,
        ["1.22.3 -> 1.22.3: copy by digest"]
    );
    let listings = store
        .calls()
        .iter()
        .filter(|call| {
            call.operation == StoreOperation::Tags && call.repository == repository(SOURCE)
        })
        .count();
    assert_eq!(listings, 0, "a tag with a version needs no listing");
    store.fail_when(|call| {
        let fails = call.operation == StoreOperation::Tags && call.repository == repository(SOURCE);
        fails.then_some(StoreFault::Error(ItemErrorKind::Unreachable))
    });
    let failed = planned(&store, [fixed("alpine3.21")]).await;
    assert!(
        failed[0].starts_with("alpine3.21 -> alpine3.21: fails: docker.io: cannot list tags"),
        "{failed:?}"
    );
}

#[tokio::test]
async fn digests_of_a_listing_are_not_resolved_again() {
    let store = upstream("alpine3.21=new~3 1.22.3-alpine3.21=new~3 1.22.2-alpine3.21=old~9").await;
    let by_date = normalized(by_pattern(PatternSelection {
        sort: SortBy::Date,
        ..pattern("alpine.*")
    }));
    assert_eq!(
        planned(&store, [by_date]).await,
        ["alpine3.21 -> 1.22.3-alpine3.21: copy by digest"]
    );
    assert_eq!(store.count(StoreOperation::Resolve), 0);
}

#[tokio::test]
async fn variant_candidates_are_limited_and_a_failed_request_fails_the_item() {
    let many: Vec<String> = (0..80)
        .map(|patch| format!("1.0.{patch}-alpine=c{patch}"))
        .collect();
    let store = upstream(&format!("alpine=c1 {}", many.join(" "))).await;
    let alpine = || normalized(by_pattern(pattern("alpine")));
    assert_eq!(
        planned(&store, [alpine()]).await,
        [
            "alpine -> alpine: copy by tag (none of the newest 50 of 80 upstream version tags that end in `-alpine` has the same digest, so the tag keeps its name)"
        ]
    );
    assert_eq!(store.count(StoreOperation::Resolve), 51);
    store.fail_when(|call| {
        (call.subject == "1.0.79-alpine").then_some(StoreFault::Error(ItemErrorKind::RateLimited))
    });
    assert!(
        planned(&store, [alpine()]).await[0]
            .starts_with("alpine -> alpine: fails: docker.io: cannot resolve 1.0.79-alpine")
    );
}

#[tokio::test]
async fn source_tags_with_one_target_tag_are_one_item_if_they_are_one_image() {
    let store = upstream("alpine=new alpine3.21=new 1.22.3-alpine3.21=new 1.22.3-alpine=new").await;
    let all = || normalized(by_pattern(pattern(".*")));
    let expected = [
        "1.22.3-alpine -> 1.22.3-alpine: copy by tag",
        "1.22.3-alpine3.21 -> 1.22.3-alpine3.21: copy by tag",
    ];
    assert_eq!(planned(&store, [all()]).await, expected);

    // The tags were resolved before and after a push.
    let sync = sync([all()]);
    let mut world = observed(&store, &sync).await;
    let digests = TagDigests {
        source: Digest::sha256(b"pushed since"),
        wanted: Digest::sha256(b"pushed since"),
        target: None,
    };
    world.entries[0].digests = BTreeMap::from([(tag("1.22.3-alpine"), Ok(digests))]);
    let fails = "fails: 1.22.3-alpine and alpine would all be stored as registry.example.com/mirrors/golang:1.22.3-alpine, \
                 but are different images";
    let expected = [
        format!("1.22.3-alpine -> 1.22.3-alpine: {fails}"),
        "1.22.3-alpine3.21 -> 1.22.3-alpine3.21: copy by tag".to_owned(),
        format!("alpine -> 1.22.3-alpine: {fails}"),
    ];
    assert_eq!(described(&plan(&sync, &world)), expected);
}

#[tokio::test]
async fn entries_that_select_one_target_tag_agree_on_its_image_or_fail() {
    let entries = || {
        [
            normalized(by_pattern(pattern("alpine"))),
            by_pattern(pattern("1.*")),
        ]
    };
    let store = upstream("alpine=new 1.22.3-alpine=new").await;
    assert_eq!(
        planned(&store, entries()).await,
        ["alpine -> 1.22.3-alpine: copy by digest"]
    );
    assert_eq!(
        planned(
            &store,
            [by_pattern(pattern("1.*")), by_pattern(pattern(".*-alpine"))]
        )
        .await,
        ["1.22.3-alpine -> 1.22.3-alpine: copy by tag"]
    );
    let [one, other] = entries();
    let filtered = SyncEntry {
        platforms: Some(vec!["linux/amd64".parse().expect("a platform")]),
        ..other
    };
    let planned = planned(&store, [one, filtered]).await;
    let fails = "fails: sync.entries[0] and sync.entries[1] both select registry.example.com/mirrors/golang:1.22.3-alpine";
    assert_eq!(
        planned,
        [
            format!("alpine -> 1.22.3-alpine: {fails}"),
            format!("1.22.3-alpine -> 1.22.3-alpine: {fails}")
        ]
    );
}

#[tokio::test]
async fn renamed_tags_are_copied_and_reported_under_both_names() {
    let store = upstream("alpine=new 1.22.3-alpine=new bookworm=x 1.22.3-bookworm=y").await;
    let sync = sync([normalized(by_pattern(pattern("alpine|bookworm")))]);
    let planned = plan(&sync, &observed(&store, &sync).await);
    // A later push upstream must not be stored under the version tag of the plan.
    put(&store, &repository(SOURCE), "alpine", "newer").await;
    let execution = |mode| SyncExecution {
        mode,
        stores: stores(&store),
        progress: silent(),
        hooks: HookRunner::new(
            Arc::new(SystemRunner),
            Variables::default(),
            PathBuf::from("/"),
        ),
        cancel: CancellationToken::new(),
        now: now(),
    };
    let names = |report: &SyncReport| {
        let json = serde_json::to_value(report).expect("a report");
        let tags = json["entries"][0]["tags"].as_array().expect("tags").clone();
        tags.iter()
            .map(|item| format!("{} {} {}", item["tag"], item["targetTag"], item["warnings"]))
            .collect::<Vec<_>>()
    };
    let (dry, real) = (
        execute(&sync, &planned, &execution(Mode::DryRun)).await,
        execute(&sync, &planned, &execution(Mode::Apply)).await,
    );
    let warning = "no upstream version tag that ends in `-bookworm` has the same digest, so the tag keeps its name";
    assert_eq!(
        names(&real),
        [
            format!(r#""bookworm" null ["{warning}"]"#),
            r#""alpine" "1.22.3-alpine" null"#.to_owned()
        ]
    );
    assert_eq!(names(&dry), names(&real));
    let at_target = |name| {
        let (store, reference) = (store.clone(), Reference::Tag(tag(name)));
        async move {
            store
                .resolve(&repository(TARGET), &reference)
                .await
                .expect("an answer")
                .map(|found| found.digest)
        }
    };
    assert_eq!(
        at_target("1.22.3-alpine").await,
        Some(image("new").0.digest)
    );
    assert_eq!(at_target("alpine").await, None);
    assert_eq!(at_target("bookworm").await, Some(image("x").0.digest));
    let text = format!("{:?}", real.document());
    assert!(
        text.contains("mirrors/golang:1.22.3-alpine")
            && text.contains("warning: registry.example.com/mirrors/golang:bookworm"),
        "{text}"
    );
}
