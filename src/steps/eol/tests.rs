//! Tracked images, their assessment, and updates, from configurations.

use std::collections::BTreeMap;
use std::path::Path;

use super::{
    EolAssessor, EolListReport, FileOutcome, ProductLookup, UpdateReport, World, bases, list,
    mirrors, plan, products,
};
use crate::config::{Config, SourceText, load};
use crate::eol::EolTable;
use crate::error::ItemError;
use crate::model::Variables;
use crate::model::eol::{Calendar, EolStatus, Phase};
use crate::report::text::{Style, draw};
use crate::steps::Mode;

const DATA: &str = "
alpine:
  - { cycle: '3.24', eol: 2028-06-01, latest: 3.24.1 }
  - { cycle: '3.21', eol: 2026-11-01, latest: 3.21.7 }
  - { cycle: '3.19', eol: 2025-11-01, latest: 3.19.9 }
go:
  - { cycle: '1.26', eol: false, latest: 1.26.7 }
  - { cycle: '1.22', eol: 2026-12-10, latest: 1.22.12 }
docker.io/library/redis:
  - { cycle: '8.8', eol: true, latest: 8.8.0 }
rhel:
  - { cycle: '8', eol: 2026-01-31, support: 2024-05-31, extendedSupport: 2032-05-31 }
";

const BUILD: &str = "
build:
  core_version: 1.0.0
  registry: r.example/bases
  images:
";

fn config(entries: &[&str], images: &[&str]) -> Config {
    let mut text = "sync:\n  entries:\n".to_owned();
    for (number, entry) in entries.iter().enumerate() {
        text += &format!(
            "    - {{ source: s.example/m{number}, target: r.example/m{number}, {entry} }}\n"
        );
    }
    text += if images.is_empty() { "" } else { BUILD };
    for image in images {
        text += &format!("    - {{ folder: a, {image} }}\n");
    }
    let source = SourceText {
        name: "imglife.yaml".to_owned(),
        text,
    };
    load(&source, Path::new("/project"), &Variables::default())
        .unwrap_or_else(|errors| panic!("{errors}"))
}

fn table() -> EolTable {
    EolTable::read(DATA.as_bytes()).expect("data")
}

fn assessor(table: &EolTable) -> EolAssessor<'_> {
    let calendar = Calendar {
        today: "2026-11-21".parse().expect("a date"),
        warn_days: 30,
    };
    EolAssessor {
        table,
        phase: Phase::EndOfLife,
        calendar,
    }
}

fn listed(config: &Config, within_days: Option<u32>) -> EolListReport {
    list(config, &assessor(&table()), within_days, None)
}

/// Returns the assessment of the first base of a configuration.
fn base(entries: &[&str], images: &[&str]) -> (EolStatus, String) {
    let (config, table) = (config(entries, images), table());
    let assessment = assessor(&table).image(&bases(&config)[0].products);
    let cycles = assessment.products.iter().map(|product| {
        format!(
            "{}:{}",
            product.product,
            product.cycle.as_deref().unwrap_or("?")
        )
    });
    let date = assessment
        .date()
        .map(|date| date.to_string())
        .unwrap_or_default();
    (
        assessment.overall.status,
        format!("{} {date}", cycles.collect::<Vec<_>>().join(" ")),
    )
}

#[test]
fn base_has_its_own_lifecycle_or_inherits_that_of_its_base() {
    let golang = "tag: 1.22.3-alpine3.24, lifecycle: [{ product: go }, { product: alpine, extract: 'alpine(.*)' }]";
    let shown = |status, text: &str| (status, text.to_owned());
    // Inherited, by the mirror's tag although `version` differs.
    let inherits = base(
        &[golang],
        &["name: a, type: core, mirror_image: r.example/m0, version: '1.22'"],
    );
    assert_eq!(
        inherits,
        shown(EolStatus::Warning, "go:1.22 alpine:3.24 2026-12-10")
    );
    let own = base(
        &[golang],
        &[
            "name: a, type: core, mirror_image: r.example/m0, version: '8.1', lifecycle: { product: rhel, phase: eoes }",
        ],
    );
    assert_eq!(own, shown(EolStatus::Supported, "rhel:8 2032-05-31"));
    let paid = "name: a, type: core, mirror_image: r.example/m0, lifecycle: { product: rhel, accept: { until: 2027-06-30, reason: paid } }";
    assert_eq!(
        base(&["tag: '8.1', lifecycle: { product: rhel }"], &[paid]),
        shown(EolStatus::Accepted, "rhel:8 2026-01-31")
    );
    let nothing = base(
        &[golang],
        &["name: a, type: core, mirror_image: r.example/m0, lifecycle: []"],
    );
    assert_eq!(nothing, shown(EolStatus::Unknown, " "));
    // Inherited from another base or its mirror.
    let images = [
        "name: top, type: core, mirror_image: r.example/bases/go, mirror_tag: 1.22.3-alpine3.24-core1.0.0",
        "name: go, type: core, mirror_image: r.example/m1, mirror_tag: 1.26.7",
        "name: go, type: core, mirror_image: r.example/m0, mirror_tag: 1.22.3-alpine3.24",
    ];
    assert_eq!(
        base(
            &[golang, "tag: 1.26.7, lifecycle: { product: go }"],
            &images
        ),
        shown(EolStatus::Warning, "go:1.22 alpine:3.24 2026-12-10")
    );
    let [top, _, below] = images;
    let below = format!("{below}, lifecycle: {{ product: go }}");
    assert_eq!(
        base(&[golang], &[top, &below]),
        shown(EolStatus::Warning, "go:1.22 2026-12-10")
    );
    let unknown = base(
        &["tag_regex: '.*'"],
        &["name: a, type: core, mirror_image: r.example/m0"],
    );
    assert_eq!(unknown, shown(EolStatus::Unknown, " "));
}

#[test]
fn acceptance_and_phase_apply_to_their_image() {
    let with = |rest: &str| {
        let config = config(
            &[&format!("tag: '8.1', lifecycle: {{ product: rhel{rest} }}")],
            &[],
        );
        let table = table();
        assessor(&table)
            .image(&mirrors(&config)[0].products)
            .overall
            .status
    };
    assert_eq!(with(""), EolStatus::Expired);
    assert_eq!(with(", phase: eoes"), EolStatus::Supported);
    assert_eq!(
        with(", accept: { until: 2026-11-21, reason: paid }"),
        EolStatus::Accepted
    );
    assert_eq!(
        with(", accept: { until: 2026-11-20, reason: paid }"),
        EolStatus::Expired
    );
}

#[test]
fn products_are_those_of_tracked_images() {
    let config = config(
        &["tag: '3', lifecycle: {}", "tag: '3'"],
        &[
            "name: a, type: core, mirror_image: r.example/m0",
            "name: b, type: spe, mirror_image: r.example/m1, lifecycle: { product: go }",
            "name: c, type: spe-dev, mirror_image: r.example/m1, lifecycle: { product: rust }",
        ],
    );
    let names: Vec<String> = products(&config)
        .into_iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(names, ["go", "s.example/m0"]);
}

fn everything() -> Config {
    config(
        &[
            "tag: 3.21.3, lifecycle: { product: alpine }",
            "tag: 1.26.7, lifecycle: { product: go }",
            "tag_regex: '3\\.\\d+\\.\\d+', exclude_regex: '3\\.24.*', lifecycle: { product: alpine }",
            "tag_regex: '1\\.\\d+-alpine', keep_last: 2, lifecycle: { product: go }",
            "tag: edge, lifecycle: { product: alpine }",
            "tag: '1', lifecycle: { product: rust }",
            "tag: '7'",
            "tag: '8.1', lifecycle: { product: rhel, accept: { until: 2027-06-30, reason: paid } }",
        ],
        &["name: alpine, type: core, mirror_image: r.example/m0"],
    )
}

#[test]
fn list_starts_with_ended_cycles_and_warns_about_unknown_ones() {
    let text = draw(&listed(&everything(), None).document(), Style::default());
    insta::assert_snapshot!(text, @"
    Product  Cycle  Ends        Days left  Status                     Images
    rhel     8      2026-01-31       -294  accepted until 2027-06-30  r.example/m7:8.1
    alpine   3.21   2026-11-01        -20  expired                    r.example/m0:3.21.3
                                                                      r.example/m2:*
                                                                      r.example/bases/alpine 3.21.3
    go       1.22   2026-12-10         19  < 30 days                  r.example/m3:*
    go       1.26   no date                ok                         r.example/m1:1.26.7
                                                                      r.example/m3:*
    alpine   ?      ?                      unknown                    r.example/m4:edge
    rust     ?      ?                      unknown                    r.example/m5:1

    warning: r.example/m4:edge: alpine: no release cycle matches the start of the tag `edge`
    warning: r.example/m5:1: rust: there is no end-of-life data of this product
    without `lifecycle`, so not tracked: r.example/m6:7
    ");
    let text = draw(
        &listed(&everything(), Some(10)).document(),
        Style::default(),
    );
    insta::assert_snapshot!(text, @"
    Product  Cycle  Ends        Days left  Status                     Images
    rhel     8      2026-01-31       -294  accepted until 2027-06-30  r.example/m7:8.1
    alpine   3.21   2026-11-01        -20  expired                    r.example/m0:3.21.3
                                                                      r.example/m2:*
                                                                      r.example/bases/alpine 3.21.3
    alpine   ?      ?                      unknown                    r.example/m4:edge
    rust     ?      ?                      unknown                    r.example/m5:1

    warning: r.example/m4:edge: alpine: no release cycle matches the start of the tag `edge`
    warning: r.example/m5:1: rust: there is no end-of-life data of this product
    without `lifecycle`, so not tracked: r.example/m6:7
    ");
    let nothing = config(&["tag: 1.26.7, lifecycle: { product: go }"], &[]);
    let text = draw(&listed(&nothing, Some(90)).document(), Style::default());
    assert_eq!(
        text,
        "no tracked product reaches end of life within 90 days\n"
    );
}

#[test]
fn list_json_has_null_for_unknown_values() {
    let listed = listed(
        &config(
            &[
                "tag: edge, lifecycle: { product: alpine }",
                "tag: 1.22.1, lifecycle: { product: go }",
            ],
            &[],
        ),
        Some(90),
    );
    insta::assert_snapshot!(crate::report::json::versioned("eol-list", &listed).expect("JSON"), @r#"
    {
      "schema": "imglife/eol-list/v1",
      "today": "2026-11-21",
      "withinDays": 90,
      "cycles": [
        {
          "product": "go",
          "cycle": "1.22",
          "date": "2026-12-10",
          "daysLeft": 19,
          "status": "warning",
          "images": [
            "r.example/m1:1.22.1"
          ]
        },
        {
          "product": "alpine",
          "cycle": null,
          "date": null,
          "daysLeft": null,
          "status": "unknown",
          "problem": "no release cycle matches the start of the tag `edge`",
          "images": [
            "r.example/m0:edge"
          ]
        }
      ],
      "withoutLifecycle": []
    }
    "#);
}

fn updated(data: &str, lookups: &[(&str, ProductLookup)]) -> (UpdateReport, Option<String>) {
    let table = EolTable::read(data.as_bytes()).expect("data");
    let lookups: BTreeMap<_, _> = lookups
        .iter()
        .map(|(name, lookup)| {
            (
                crate::model::lifecycle::Product::Named(name.parse().expect("a name")),
                lookup.clone(),
            )
        })
        .collect();
    let plan = plan(&World { table, lookups });
    let written = plan.table.as_ref().map(EolTable::write);
    (
        UpdateReport::new(
            plan,
            Mode::DryRun,
            "eol-data.yaml".to_owned(),
            FileOutcome::Planned,
        ),
        written,
    )
}

fn cycles(yaml: &str) -> ProductLookup {
    let table = EolTable::read(format!("x: [{yaml}]").as_bytes()).expect("data");
    ProductLookup::Cycles(table.products().next().expect("a product").1.to_vec())
}

#[test]
fn update_keeps_existing_data_after_an_error_and_lists_changes() {
    let lookups = [
        (
            "alpine",
            ProductLookup::Failed(ItemError::other("the connection failed").with_hint("wait")),
        ),
        (
            "go",
            cycles(
                "{ cycle: '1.27', eol: false }, { cycle: '1.26', eol: 2027-02-01, latest: 1.26.7 }",
            ),
        ),
        (
            "rhel",
            cycles(
                "{ cycle: '8', eol: 2026-01-31, support: 2024-05-31, extendedSupport: 2032-05-31, latest: 8.10 }",
            ),
        ),
        ("rust", cycles("{ cycle: '1.98', eol: false }")),
        (
            "what",
            ProductLookup::Untracked(ItemError::other("no such product")),
        ),
    ];
    let (report, written) = updated(DATA, &lookups);
    insta::assert_snapshot!(draw(&report.document(), Style::default()), @"
    Product  Result     Changes
    alpine   failed     existing data is kept
    go       updated    1.27 added, end of life: no date; 1.26 end of life: 2027-02-01, was: no date; 1.22 removed
    rhel     updated    release data changed: 8
    rust     added      1 cycle
    what     untracked

    error: alpine: the connection failed
      hint: wait
    warning: what: no such product

    End-of-life data [dry-run] · 0.0s
    ───────────────────────────────────
    Products       5
    ├─ Added       1
    ├─ Updated     2
    ├─ Unchanged   0
    ├─ Untracked   1
    └─ Failed      1
    File           eol-data.yaml   to be written
    ");
    let read = EolTable::read(written.expect("data that changed").as_bytes()).expect("data");
    let names: Vec<String> = read
        .products()
        .map(|(name, cycles)| format!("{name} {}", cycles.len()))
        .collect();
    assert_eq!(
        names,
        [
            "alpine 3",
            "docker.io/library/redis 1",
            "go 2",
            "rhel 1",
            "rust 1"
        ]
    );
    assert_eq!(report.exit(), crate::error::Exit::Failed);
}

#[test]
fn update_without_changes_writes_nothing() {
    let (report, written) = updated(
        "{\"go\": [{\"cycle\": \"1\", \"eol\": false, \"link\": \"x\"}]}",
        &[("go", cycles("{ cycle: '1', eol: false }"))],
    );
    assert_eq!((report.totals.unchanged, written), (1, None));
    let (report, written) = updated("", &[("go", ProductLookup::Failed(ItemError::other("no")))]);
    assert_eq!((report.totals.failed, written), (1, None));
}
