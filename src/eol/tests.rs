//! Tests of the API client and the data file.

use std::path::Path;
use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use proptest::prelude::*;

use super::{DataError, EndOfLifeDate, EolDataFile, EolDataStore, EolTable, Products, api};
use crate::cache::testing::cache_in;
use crate::error::{ItemError, chain};
use crate::http::testing::{Fake, ReceivedRequest, basic, client};
use crate::model::eol::{Cycle, LongTermSupport, SupportEnd};
use crate::model::fuzz_tests::{fuzz, text};
use crate::model::lifecycle::Product;

fn on(text: &str) -> Option<SupportEnd> {
    Some(SupportEnd::On(text.parse().expect("a date")))
}

fn named(name: &str) -> Product {
    Product::Named(name.parse().expect("a product"))
}

fn of_images(repository: &str) -> Product {
    Product::OfImages(repository.parse().expect("a repository"))
}

/// Response of version 1 with fields of every type.
const NODE: &str = r#"{
  "schema_version": "1.2.1", "generated_at": "2026-11-21T00:00:00+00:00", "news": {"a": [1]},
  "result": {
    "name": "nodejs", "aliases": ["node"], "labels": {"eoes": null},
    "releases": [
      {"name": "26", "codename": null, "isLts": true, "ltsFrom": "2026-10-28", "isEoas": false, "eoasFrom": "2027-10-27",
       "isEol": true, "eolFrom": "2029-04-30", "isEoes": null, "eoesFrom": null, "isMaintained": true,
       "latest": {"name": "26.7.0", "date": "2026-08-05", "link": null}, "custom": null, "isNew": "yes"},
      {"name": "9", "codename": "Noble Numbat", "isLts": true, "isEol": true, "eolFrom": null, "isMaintained": true, "latest": null},
      {"name": "30", "isEol": false, "isEoes": false, "eoesFrom": null, "latest": {"name": null}}
    ]
  }
}"#;

#[test]
fn version_1_prefers_dates_to_booleans() {
    let cycles = api::product(NODE.as_bytes()).expect("an answer");
    let first = Cycle {
        name: "26".to_owned(),
        active_support: on("2027-10-27"),
        end_of_life: on("2029-04-30"),
        long_term_support: LongTermSupport::From("2026-10-28".parse().expect("a date")),
        latest: Some("26.7.0".to_owned()),
        latest_date: "2026-08-05".parse().ok(),
        ..Cycle::default()
    };
    assert_eq!(cycles[0], first);
    let second = Cycle {
        name: "9".to_owned(),
        codename: Some("Noble Numbat".to_owned()),
        end_of_life: Some(SupportEnd::Ended),
        long_term_support: LongTermSupport::Yes,
        ..Cycle::default()
    };
    assert_eq!(cycles[1], second);
    assert_eq!(
        (cycles[2].end_of_life, cycles[2].extended_support),
        (Some(SupportEnd::NotEnded), Some(SupportEnd::NotEnded))
    );
}

#[test]
fn version_0_inverts_the_booleans_of_support() {
    let text = r#"[
        {"cycle": "26", "eol": false, "support": true, "extendedSupport": false, "lts": false, "latest": "26.1", "latestReleaseDate": null, "link": 5},
        {"cycle": "20", "eol": true, "support": false, "extendedSupport": "2030-01-01", "lts": true},
        {"cycle": "18", "eol": "2025-04-30", "releaseDate": "2022-04-19", "discontinued": true}
    ]"#;
    let cycles = api::product_v0(text.as_bytes()).expect("an answer");
    let ends: Vec<_> = cycles
        .iter()
        .map(|cycle| {
            (
                cycle.end_of_life,
                cycle.active_support,
                cycle.extended_support,
            )
        })
        .collect();
    assert_eq!(
        ends,
        [
            (
                Some(SupportEnd::NotEnded),
                Some(SupportEnd::NotEnded),
                Some(SupportEnd::Ended)
            ),
            (
                Some(SupportEnd::Ended),
                Some(SupportEnd::Ended),
                on("2030-01-01")
            ),
            (on("2025-04-30"), None, None),
        ]
    );
}

#[test]
fn malformed_responses_are_rejected() {
    for text in [
        "<!DOCTYPE html>",
        "{}",
        r#"{"result": {"releases": [{"isEol": false}]}}"#,
        r#"{"result": {"releases": [{"name": "1", "eolFrom": "soon"}]}}"#,
        r#"{"result": {"releases": [{"name": "1", "eolFrom": "2026-1-1"}]}}"#,
        &"[".repeat(100_000),
        &format!("{{\"x\": {}", "[".repeat(100_000)),
    ] {
        assert!(
            api::product(text.as_bytes()).is_err(),
            "{}",
            &text[..text.len().min(60)]
        );
    }
    for text in [
        "[{}]",
        r#"[{"cycle": "1"}]"#,
        r#"[{"cycle": "1", "eol": 5}]"#,
        r#"[{"cycle": "1", "eol": "2026-02-30"}]"#,
    ] {
        assert!(api::product_v0(text.as_bytes()).is_err(), "{text}");
    }
}

fn table(products: &[(&str, &[Cycle])]) -> EolTable {
    let mut table = EolTable::default();
    for (name, cycles) in products {
        table.insert((*name).to_owned(), cycles.to_vec());
    }
    table
}

#[test]
fn data_file_is_sorted_and_complete() {
    let cycles = api::product(NODE.as_bytes()).expect("an answer");
    let mut shuffled = cycles.clone();
    shuffled.reverse();
    let written = table(&[
        ("nodejs", &cycles),
        ("no", &[]),
        ("docker.io/library/node", &cycles[1..2]),
        ("r.example:5000/a", &[]),
    ])
    .write();
    insta::assert_snapshot!(written, @r#"
    # Release cycles of products and their end-of-life dates, written by `imglife eol update`. Products that the configuration does not name
    # are kept, comments are not.
    docker.io/library/node:
      - { cycle: "9", eol: true, lts: true, codename: "Noble Numbat" }
    "no": []
    nodejs:
      - { cycle: "30", eol: false, extendedSupport: true }
      - { cycle: "26", eol: 2029-04-30, latest: "26.7.0", latestReleaseDate: 2026-08-05, lts: 2026-10-28, support: 2027-10-27 }
      - { cycle: "9", eol: true, lts: true, codename: "Noble Numbat" }
    "r.example:5000/a": []
    "#);
    assert_eq!(
        table(&[("nodejs", &shuffled)]).write(),
        table(&[("nodejs", &cycles)]).write()
    );
}

#[test]
fn data_file_accepts_yaml_and_json_of_version_0() {
    let yaml = "alpine:\n- cycle: 3.10\n  eol: 2021-05-01\n  latest: 3.10\n  link: x\n- {cycle: '3.9', eol: \"2020-11-01\", support: true}\nempty: []\n";
    let read = EolTable::read(yaml.as_bytes()).expect("a file");
    let cycles = read.cycles(&named("alpine")).expect("cycles");
    let names: Vec<_> = cycles
        .iter()
        .map(|cycle| {
            (
                cycle.name.as_str(),
                cycle.end_of_life,
                cycle.latest.as_deref(),
            )
        })
        .collect();
    assert_eq!(
        names,
        [
            ("3.10", on("2021-05-01"), Some("3.10")),
            ("3.9", on("2020-11-01"), None)
        ]
    );
    let json = r#"{"alpine": [{"cycle": "3.10", "eol": "2021-05-01", "latest": "3.10", "releaseDate": "2019-06-19", "lts": false}]}"#;
    assert_eq!(
        EolTable::read(json.as_bytes())
            .expect("JSON is YAML")
            .cycles(&named("alpine")),
        Some(&cycles[..1])
    );
    for empty in ["", "# nothing\n", "{}"] {
        assert_eq!(EolTable::read(empty.as_bytes()), Ok(EolTable::default()));
    }
}

#[test]
fn data_file_errors_have_the_line_and_column() {
    let error = |text: &str| EolTable::read(text.as_bytes()).expect_err(text).to_string();
    let all = [
        error("alpine:\n  - { cycle: '3.21', eol: soon }\n"),
        error("alpine:\n  - { cycle: '3.21', eof: 2026-11-01 }\n"),
        error("alpine:\n  - { cycle: '3.21', eol: yes }\n"),
        error("alpine: []\nalpine: []\n"),
        error("alpine: [\n"),
        error("<<<<<<< HEAD\nalpine: []\n"),
        error("- alpine\n"),
        error(&"[".repeat(5000)),
        error(&" ".repeat(9 << 20)),
    ];
    insta::assert_snapshot!(all.join("\n"), @r"
    line 2, column 27: expected a date as in `2027-06-30`, `true` or `false`, found `soon`
    line 2, column 22: missing field `eol`
    line 2, column 27: expected a date as in `2027-06-30`, `true` or `false`, found `yes`
    line 2, column 1: duplicate mapping key: alpine
    line 1, column 9: unclosed bracket '['
    line 1, column 1: expected mapping start
    line 1, column 1: expected mapping start
    line 1, column 256: recursion limit exceeded
    the file is larger than 8 MiB
    ");
    assert_eq!(
        EolTable::read(b"a: \xff"),
        Err(DataError::Whole("the file is not UTF-8 text".to_owned()))
    );
}

#[test]
fn data_file_with_exponential_aliases_is_rejected() {
    let mut text = "a: &a [{ cycle: '1', eol: true, x: [x, x, x, x, x, x, x, x, x] }]\n".to_owned();
    for level in 0..2000 {
        text += &format!("b{level}: *a\n");
    }
    assert!(EolTable::read(text.as_bytes()).is_err());
}

fn any_ends() -> impl Strategy<Value = Option<SupportEnd>> {
    let date = (0..40_000_u64).prop_map(|days| {
        chrono::NaiveDate::from_ymd_opt(1990, 1, 1).expect("a date") + chrono::Days::new(days)
    });
    prop_oneof![
        Just(None),
        Just(Some(SupportEnd::Ended)),
        Just(Some(SupportEnd::NotEnded)),
        date.prop_map(|date| Some(SupportEnd::On(date)))
    ]
}

prop_compose! {
    fn any_cycle()(name in ".{1,12}", codename in proptest::option::of(".{1,12}"), ends in (any_ends(), any_ends(), any_ends()), latest in proptest::option::of(".{1,12}")) -> Cycle {
        Cycle { name, codename, active_support: ends.0, end_of_life: ends.1, extended_support: ends.2, latest, ..Cycle::default() }
    }
}

proptest! {
    #[test]
    fn data_file_round_trips(products in proptest::collection::vec((".{1,12}", proptest::collection::vec(any_cycle(), 0..4)), 0..4)) {
        let mut table = EolTable::default();
        for (name, cycles) in products {
            table.insert(name, cycles);
        }
        let written = table.write();
        let read = EolTable::read(written.as_bytes());
        prop_assert_eq!(read.as_ref(), Ok(&table), "{}", written);
    }
}

#[tokio::test]
async fn data_file_is_replaced_atomically_and_symbolic_links_are_kept() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = |name: &str| EolDataFile {
        name: name.to_owned(),
        path: directory.path().join(name),
    };
    assert_eq!(file("eol.yaml").read().await.expect("no file"), None);
    file("eol.yaml").write(b"a: []\n").await.expect("written");
    std::os::unix::fs::symlink("eol.yaml", directory.path().join("link.yaml")).expect("a link");
    // The temporary file of a killed run is not read.
    std::fs::write(directory.path().join(".eol-data-torn"), "a: [").expect("a file");
    file("link.yaml").write(b"b: []\n").await.expect("written");
    assert_eq!(
        file("eol.yaml").read().await.expect("a file").as_deref(),
        Some(&b"b: []\n"[..])
    );
    assert!(directory.path().join("link.yaml").is_symlink());
    let error = file("no/eol.yaml")
        .write(b"")
        .await
        .expect_err("no directory");
    assert_eq!(
        chain(&error),
        "cannot write no/eol.yaml: No such file or directory (os error 2)"
    );
}

fn json(status: StatusCode, body: &str) -> Response {
    (
        status,
        [("content-type", "application/json")],
        body.to_owned(),
    )
        .into_response()
}

fn not_found() -> Response {
    (
        StatusCode::NOT_FOUND,
        [("content-type", "text/html")],
        "<!DOCTYPE html><title>Not here</title>",
    )
        .into_response()
}

fn moved(to: &'static str) -> Response {
    (StatusCode::MOVED_PERMANENTLY, [("location", to)], "moved").into_response()
}

fn answer(name: &str) -> String {
    format!(
        r#"{{"result": {{"name": "{name}", "releases": [{{"name": "{name}-1", "isEol": false, "eolFrom": "2030-01-01"}}]}}}}"#
    )
}

async fn ask(fake: &Fake, home: &Path, product: &Product) -> Result<String, ItemError> {
    let cache = cache_in(home, true);
    let address = format!("http://{}/api", fake.address)
        .parse()
        .expect("a URL");
    let api = EndOfLifeDate::new(
        Arc::new(client([&fake.host()], basic())),
        fake.host(),
        address,
        cache,
    );
    Ok(api.cycles(product).await?[0].name.clone())
}

async fn asked(
    product: Product,
    answer: impl Fn(&ReceivedRequest) -> Response + Send + Sync + 'static,
) -> (Result<String, String>, Vec<String>) {
    let home = tempfile::tempdir().expect("a directory");
    let fake = Fake::start(answer).await;
    let result = ask(&fake, home.path(), &product)
        .await
        .map_err(|error| chain(&error).replace(&fake.address.to_string(), "HOST"));
    assert!(
        fake.seen()
            .iter()
            .all(|seen| seen.authorization().is_none()),
        "a credential was sent"
    );
    (result, fake.lines())
}

#[tokio::test]
async fn product_redirects_are_followed_and_html_errors_are_not_shown() {
    let (result, lines) = asked(named("golang"), |seen| match seen.path.as_str() {
        "/api/v1/products/golang" => moved("/api/v1/products/go"),
        "/api/v1/products/go" => json(StatusCode::OK, &answer("go")),
        _ => not_found(),
    })
    .await;
    assert_eq!((result.as_deref(), lines.len()), (Ok("go-1"), 2));
    let (result, lines) = asked(named("golnag"), |_| not_found()).await;
    assert_eq!(
        result,
        Err("HOST: cannot read product golnag: no product has this name".to_owned())
    );
    assert_eq!(
        lines,
        ["GET /api/v1/products/golnag", "GET /api/golnag.json"]
    );
    let (result, lines) = asked(named("go"), |_| {
        (StatusCode::BAD_GATEWAY, "<html>oh no</html>").into_response()
    })
    .await;
    assert_eq!(
        result,
        Err(
            "HOST: cannot read product go: 502 Bad Gateway (GET /api/v1/products/go, tried 5 times)"
                .to_owned()
        )
    );
    assert_eq!(lines.len(), 5, "version 0 was requested too");
}

#[tokio::test]
async fn version_0_is_requested_where_version_1_is_missing() {
    for there in [
        "nothing",
        "<html>welcome</html>",
        r#"{"result": {"releases": []}}"#,
        r#"{"result": []}"#,
    ] {
        let (result, lines) = asked(named("go"), move |seen| match seen.path.as_str() {
            "/api/go.json" => json(StatusCode::OK, r#"[{"cycle": "1.26", "eol": false}]"#),
            _ if there == "nothing" => not_found(),
            _ => json(StatusCode::OK, there),
        })
        .await;
        assert_eq!((result.as_deref(), lines.len()), (Ok("1.26"), 2), "{there}");
    }
    let (result, _) = asked(named("go"), |_| json(StatusCode::OK, "<html>")).await;
    assert_eq!(result, Err("HOST: cannot read product go: the response is malformed: expected value at line 1 column 1 (GET /api/v1/products/go)".to_owned()));
    let (result, _) = asked(named("go"), |_| json(StatusCode::OK, &" ".repeat(4 << 20))).await;
    assert_eq!(
        result,
        Err("HOST: cannot read product go: the response has more than 3145728 bytes (/api/v1/products/go)".to_owned())
    );
}

#[tokio::test]
async fn unchanged_responses_are_read_from_the_cache() {
    let home = tempfile::tempdir().expect("a directory");
    let fake = Fake::start(
        |seen: &ReceivedRequest| match seen.header("if-none-match") {
            Some("\"1\"") => StatusCode::NOT_MODIFIED.into_response(),
            Some(other) => panic!("{other} was never given"),
            None => (StatusCode::OK, [("etag", "\"1\"")], answer("go")).into_response(),
        },
    )
    .await;
    for _ in 0..2 {
        assert_eq!(
            ask(&fake, home.path(), &named("go"))
                .await
                .expect("an answer"),
            "go-1"
        );
    }
    assert_eq!(
        fake.seen()
            .iter()
            .filter(|seen| seen.header("if-none-match").is_some())
            .count(),
        1
    );
    // A malformed file of the cache is ignored.
    let cached = std::fs::read_dir(home.path().join(".cache/imglife/endoflife"))
        .expect("a directory")
        .next()
        .expect("a file")
        .expect("a file");
    std::fs::write(cached.path(), "\"1\"\n{").expect("a file");
    assert_eq!(
        ask(&fake, home.path(), &named("go"))
            .await
            .expect("an answer"),
        "go-1"
    );
    assert_eq!(fake.seen().len(), 3);
}

#[tokio::test]
async fn products_are_found_by_the_images_package_url_or_name() {
    let serve = |seen: &ReceivedRequest| match seen.path.as_str() {
        "/api/v1/identifiers/purl" => json(
            StatusCode::OK,
            r#"{"result": [{"identifier": "pkg:docker/library/golang", "product": {"name": "go"}},
                {"identifier": "pkg:docker/team/both", "product": {"name": "go"}},
                {"identifier": "pkg:docker/team/both", "product": {"name": "redis"}}]}"#,
        ),
        "/api/v1/products/go" => json(StatusCode::OK, &answer("go")),
        "/api/v1/products/redis" => json(StatusCode::OK, &answer("redis")),
        _ => not_found(),
    };
    let result = async |repository| asked(of_images(repository), serve).await.0;
    assert_eq!(result("golang").await.as_deref(), Ok("go-1"));
    assert_eq!(result("quay.io/team/redis").await.as_deref(), Ok("redis-1"));
    assert_eq!(
        result("busybox").await,
        Err("HOST: cannot find the product of docker.io/library/busybox: no product has these images".to_owned())
    );
    assert_eq!(
        result("team/both").await,
        Err("HOST: cannot find the product of docker.io/team/both: several products have these images: go, redis".to_owned())
    );
    let (result, _) = asked(of_images("redis"), move |seen| match seen.path.as_str() {
        "/api/v1/identifiers/purl" => not_found(),
        _ => serve(seen),
    })
    .await;
    assert_eq!(
        result.as_deref(),
        Ok("redis-1"),
        "a copy without identifiers"
    );
    let (result, _) = asked(of_images("redis"), |_| {
        (StatusCode::BAD_REQUEST, "no").into_response()
    })
    .await;
    assert_eq!(
        result,
        Err("HOST: cannot find the product of docker.io/library/redis: 400 Bad Request: no (GET /api/v1/identifiers/purl)"
            .to_owned())
    );
}

const NODE_V0: &str = r#"[{"cycle": "20", "eol": "2026-04-30", "support": false, "extendedSupport": true, "lts": "2023-10-24", "latest": "20.1"}]"#;

/// Checks that cycles are equal after they are written to a data file and read again.
fn round_trip(cycles: Result<Vec<Cycle>, serde_json::Error>) {
    let Ok(cycles) = cycles else { return };
    let table = table(&[("a", &cycles)]);
    assert_eq!(
        EolTable::read(table.write().as_bytes()).as_ref(),
        Ok(&table)
    );
}

#[test]
fn fuzzing_responses_of_version_1() {
    fuzz("responses of version 1", &[NODE], |input| {
        round_trip(api::product(input));
    });
}

#[test]
fn fuzzing_responses_of_version_0() {
    fuzz("responses of version 0", &[NODE_V0], |input| {
        round_trip(api::product_v0(input));
    });
}

#[test]
fn fuzzing_identifiers() {
    let seed = r#"{"result": [{"identifier": "pkg:oci/a?repository_url=quay.io/b", "product": {"name": "a", "uri": "x"}}]}"#;
    let images = "quay.io/b/a".parse().expect("a repository");
    fuzz(
        "identifiers",
        &[seed, "pkg:docker/library/golang@1?a=%2F#b"],
        |input| {
            super::purl::is_of_images(&text(input), &images);
            drop(api::identifiers(input));
        },
    );
}

#[test]
fn fuzzing_the_data_file() {
    let yaml = "alpine: &a\n  - { cycle: 3.21, eol: 2026-11-01, latest: '3.21.7' }\n  - cycle: \"3.20\"\n    eol: true\nother: *a\n";
    fuzz("the data file", &[yaml, NODE_V0], |input| {
        if let Ok(table) = EolTable::read(input) {
            assert_eq!(
                EolTable::read(table.write().as_bytes()).as_ref(),
                Ok(&table)
            );
        }
    });
}
