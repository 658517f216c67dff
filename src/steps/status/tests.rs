//! Reports of generated worlds: hostile and large ones. Worlds in files are in `tests/status/`.

use std::path::Path;
use std::time::Instant;

use chrono::NaiveDate;
use proptest::prelude::*;

use super::diagrams::{lineage, timeline};
use super::observe::World;
use super::plan::{ExpectedDeletions, RowStatus, StatusReport, plan};
use super::{BEGIN, END, page};
use crate::config::{self, Config, SourceText};
use crate::eol::EolTable;
use crate::model::eol::{Calendar, Phase};
use crate::model::{BuildRecord, Variables};
use crate::steps::eol::EolAssessor;
use crate::steps::lineage::identities_offline;

const DATA: &str = "alpine:\n- { cycle: '3.22', eol: 2027-05-01 }\n- { cycle: '3.21', eol: 2026-11-30 }\n- { cycle: '3.20', eol: 2026-04-01 }\n\
                    house:\n- { cycle: section, eol: 2026-12-24 }\n";

fn config(text: &str) -> Config {
    let source = SourceText {
        name: "imglife.yaml".to_owned(),
        text: text.to_owned(),
    };
    config::load(&source, Path::new("/"), &Variables::default())
        .unwrap_or_else(|errors| panic!("{errors}"))
}

fn record(image: &str, project: &str, base: &str) -> BuildRecord {
    let json = serde_json::json!({
        "image": image, "project": project, "base": base, "revision": "4f2a9c", "platforms": [], "built_at": "2026-11-01T00:00:00Z",
    });
    BuildRecord::parse(json.to_string().as_bytes()).expect("a record")
}

fn report(config: &Config, world: &World) -> StatusReport {
    let table = EolTable::read(DATA.as_bytes()).expect("data");
    let today: NaiveDate = "2026-11-21".parse().expect("a date");
    let assessor = EolAssessor {
        table: &table,
        phase: Phase::EndOfLife,
        calendar: Calendar {
            today,
            warn_days: 30,
        },
    };
    plan(config, world, &assessor, &ExpectedDeletions::new())
}

/// Returns a configuration of `count` bases, each on its own mirror.
fn bases(count: usize, extra: &str) -> Config {
    let mut text = format!(
        "status: {{ graph: true, timeline: true, client_zone: {extra:?} }}\nsync:\n  entries:\n"
    );
    for number in 0..count {
        text += &format!(
            "    - {{ source: up.example/lib/p{number}, target: r.example/mirrors/p{number}, tag: 3.{}.1, lifecycle: {{ product: alpine }} }}\n",
            20 + number % 3
        );
    }
    text += "build:\n  core_version: 1.0.0\n  registry: r.example/platform/bases\n  images:\n";
    for number in 0..count {
        text += &format!(
            "    - {{ name: p{number}, folder: f, type: core, mirror_image: r.example/mirrors/p{number} }}\n"
        );
    }
    config(&text)
}

/// Returns a world in which everything in the configuration is published.
fn published(config: &Config, records: Vec<BuildRecord>) -> World {
    let identities = identities_offline(config);
    let mut tags = std::collections::BTreeMap::new();
    for (image, identity) in config
        .build
        .iter()
        .flat_map(|build| &build.images)
        .zip(&identities)
    {
        let identity = identity.as_ref().expect("an identity");
        tags.insert(image.repository.clone(), vec![identity.tag.clone()]);
        tags.insert(identity.base.clone(), vec![identity.base_tag.clone()]);
    }
    World {
        tags: Some(tags),
        identities,
        records,
        ..World::default()
    }
}

/// Returns the sources of the diagrams in a page.
fn diagrams(page: &str) -> Vec<&str> {
    page.split("```mermaid\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap_or_default())
        .collect()
}

#[test]
fn page_of_ten_thousand_records_is_fast_and_stable_and_its_diagrams_stay_within_limits() {
    let config = bases(300, "");
    let records: Vec<BuildRecord> = (0..10_000)
        .map(|number| {
            let (application, base) = (number / 20, number % 300);
            let image = format!("registry.example/a-group/with-a-long-name/apps/application-{application:03}:1.{}.0", number % 20);
            record(&image, "a-group/with-a-long-name/app", &format!("r.example/platform/bases/p{base}:3.{}.1-core1.0.0", 20 + base % 3))
        })
        .collect();
    let world = published(&config, records);
    let began = Instant::now();
    let first = report(&config, &world);
    let text = page(&first, &config.status).expect("a page");
    let took = began.elapsed();
    println!("10,000 records: {took:.2?}, {} bytes", text.len());
    // Generous for a debug build next to other tests; a release build takes less than two seconds.
    assert!(took.as_secs() < 20, "{took:?}");
    assert_eq!(
        text,
        page(&report(&config, &world), &config.status).expect("a page")
    );
    assert_eq!(
        text.lines()
            .filter(|line| line.starts_with("| `registry.example/"))
            .count(),
        10_000
    );

    let sources = diagrams(&text);
    assert!((10..200).contains(&sources.len()), "{}", sources.len());
    for source in sources {
        assert!(source.chars().count() < 5_000, "{source}");
        assert!(source.matches(" --> ").count() < 500);
    }
    // Each of the 300 bases is in one of them.
    let drawn: usize = lineage(&first)
        .iter()
        .map(|diagram| diagram.about.len())
        .sum();
    assert!(drawn >= 300, "{drawn}");
    assert_eq!(
        text.matches("<details>").count(),
        text.matches("</details>").count()
    );
}

#[test]
fn page_escapes_untrusted_text() {
    let config = bases(1, "");
    let names = [
        "@all",
        "a|b",
        "`x`",
        "<script>alert(1)</script>",
        "![x](https://evil.example)",
        "<!-- imglife:end -->",
        "a\nb",
    ];
    let base = "r.example/platform/bases/p0:3.20.1-core1.0.0";
    let records = names
        .iter()
        .enumerate()
        .map(|(number, name)| record(&format!("r.example/a:{number}"), name, base))
        .collect();
    let text = page(
        &report(&config, &published(&config, records)),
        &config.status,
    )
    .expect("a page");
    let rows: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("| `a`"))
        .collect();
    assert_eq!(rows.len(), names.len());
    for row in rows {
        assert_eq!(row.matches(" | ").count(), 6, "{row}");
        assert!(!row.contains("<s") && !row.contains("<!"), "{row}");
        // Mentions and links are in code spans.
        assert!(!row.contains(" @all") && !row.contains(" !["), "{row}");
    }
    assert_eq!(
        (text.matches(BEGIN).count(), text.matches(END).count()),
        (1, 1)
    );
}

#[test]
fn page_removes_markers_from_the_configured_text() {
    let config = bases(1, "ours\n<!-- imglife:end -->\nmore <b>bold</b>");
    let text = page(
        &report(&config, &published(&config, Vec::new())),
        &config.status,
    )
    .expect("a page");
    assert!(text.contains("\nmore <b>bold</b>\n"), "{text}");
    assert_eq!(text.matches(END).count(), 1);
}

#[test]
fn diagrams_escape_and_shorten_untrusted_names() {
    let config = config(
        "sync: { entries: [{ source: u.example/a, target: r.example/m, tag: section, lifecycle: { product: house, extract: full } }] }",
    );
    let mut world = World {
        identities: Vec::new(),
        ..World::default()
    };
    let long = format!("ocidir:///{}", "\"];click x;#`<b>%%/".repeat(40));
    world.records = (0..200)
        .map(|number| record(&format!("{long}{number}:1"), "p", "r.example/m:section"))
        .collect();
    let report = report(&config, &world);
    for diagram in lineage(&report).iter().chain(&timeline(&report).diagrams) {
        assert!(diagram.source.chars().count() < 5_000, "{}", diagram.source);
        for line in diagram.source.lines().filter(|line| line.contains("[\"")) {
            assert_eq!(line.matches('"').count(), 2, "{line}");
            assert!(
                !line.contains('`') && !line.contains("%%") && line.matches(']').count() == 1,
                "{line}"
            );
        }
    }
    assert_eq!(report.applications[0].state.status, RowStatus::Ok);
    // A Mermaid keyword at the start of a task would be interpreted.
    let bars = &timeline(&report).diagrams[0].source;
    assert!(
        bars.contains(
            "\n  · section until 2026-12-24 · 1 image · 200 applications :2025-01-01, 2026-12-24\n"
        ),
        "{bars}"
    );
}

proptest! {
    #[test]
    fn row_has_seven_cells_for_any_project_name(project in "\\PC{1,40}|[`|<>&#;\"\\\\\\[\\]{}%\n@!~$*_ a]{1,40}") {
        prop_assume!(!project.trim().is_empty());
        let config = bases(1, "");
        let world = published(&config, vec![record("r.example/a:1", &project, "r.example/platform/bases/p0:3.20.1-core1.0.0")]);
        let text = page(&report(&config, &world), &config.status).expect("a page");
        let row = text.lines().find(|line| line.starts_with("| `a`")).expect("a row");
        prop_assert_eq!(row.matches('|').count(), 8, "{}", row);
    }
}

#[test]
fn development_images_are_only_in_the_inventory_and_have_no_end() {
    let config = config(
        "sync: { entries: [{ source: up.example/a, target: r.example/m/a, tag: 3.21.1, lifecycle: { product: alpine } }] }\n\
         build:\n  core_version: 1.0.0\n  registry: r.example/bases\n  images:\n    \
         - { name: dev, folder: f, type: spe-dev, mirror_image: r.example/m/a }\n",
    );
    let world = published(&config, Vec::new());
    let table = EolTable::read(DATA.as_bytes()).expect("data");
    let calendar = Calendar {
        today: "2026-11-21".parse().expect("a date"),
        warn_days: 30,
    };
    let assessor = EolAssessor {
        table: &table,
        phase: Phase::EndOfLife,
        calendar,
    };
    let inventory = super::inventory(&config, &world, &assessor, chrono::DateTime::UNIX_EPOCH);
    let tag = &inventory.bases[0].tags[0];
    assert_eq!(
        (tag.tag.as_str(), tag.current, tag.eol.len()),
        ("3.21.1-core1.0.0", true, 0)
    );
    let report = report(&config, &world);
    assert_eq!((report.mirrors.len(), report.bases.len()), (1, 0));
}
