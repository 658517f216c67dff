use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};

use super::*;
use crate::cache::Cache;
use crate::config::SourceText;
use crate::error::{Exit, ItemError, ItemErrorKind};
use crate::forge::Forge;
use crate::model::{Algorithm, Clock, Inventory, Manifest, Variables};
use crate::packages::memory::{MemoryFiles, StoreCall};
use crate::packages::{DataFileKind, Prefix};
use crate::registry::ImageStore;
use crate::registry::memory::MemoryStore;
use crate::report::codequality::Severity;

const BASE: &str = "r.example/bases/alpine:3.21.3-core1.0.0";
const OLD: &str = "r.example/bases/alpine:3.20.1-core1.0.0";

fn image(text: &str) -> ImageReference {
    text.parse().expect("a reference")
}

fn digest(text: &str) -> Digest {
    Digest::sha256(text.as_bytes())
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().expect("a time")
}

fn inventory(time: &str) -> String {
    format!(
        r#"{{"schema":"imglife/inventory/v1","time":"{time}","warn_days":30,"bases":[{{"image":"r.example/bases/alpine","tags":[
            {{"tag":"3.21.3-core1.0.0","current":true,"aliases":["latest"],"digest":"{}","eol":[{{"product":"alpine","ends":"2026-12-01"}}],
              "users":[{{"image":"r.example/apps/web:1.0","project":"team/web"}}]}},
            {{"tag":"3.20.1-core1.0.0","eol":[{{"product":"alpine","ends":"2026-04-01"}}]}}]}}]}}"#,
        digest("new")
    )
}

const CONFIGURATION: &str = "\
build:
  core_version: 1.0.0
  registry: $CI_REGISTRY_IMAGE/bases
  images:
    - { name: alpine, folder: a, type: core, mirror_image: $CI_REGISTRY_IMAGE/mirrors/alpine, mirror_tag: 3.21.3, aliases: [latest], lifecycle: { product: alpine } }
    - { name: odd, folder: a, type: core, mirror_image: $CI_REGISTRY_IMAGE/mirrors/odd, mirror_tag: $ODD }
    - { name: dev, folder: a, type: spe-dev, mirror_image: $CI_REGISTRY_IMAGE/mirrors/alpine, mirror_tag: 3.20.1, lifecycle: { product: alpine } }
";

const EOL_DATA: &str =
    "alpine:\n  - { cycle: '3.21', eol: 2026-12-01 }\n  - { cycle: '3.20', eol: 2026-04-01 }\n";

struct BaseRepository {
    files: Vec<(&'static str, &'static str)>,
}

#[async_trait]
impl Forge for BaseRepository {
    fn name(&self) -> String {
        "team/base".to_owned()
    }

    fn scope(&self) -> &'static str {
        "read_api"
    }

    async fn file(&self, path: &str, reference: &str) -> Result<Option<Bytes>, ItemError> {
        assert_eq!(reference, "main");
        Ok(self
            .files
            .iter()
            .find(|(name, _)| *name == path)
            .map(|(_, text)| Bytes::from(*text)))
    }

    async fn variables(&self) -> Result<Variables, ItemError> {
        Ok([("CI_REGISTRY_IMAGE", "r.example")].into_iter().collect())
    }
}

/// Record store, base repository and time of a check.
struct CheckSetting {
    files: Arc<MemoryFiles>,
    records: Records,
    forge: BaseRepository,
    now: DateTime<Utc>,
}

impl CheckSetting {
    fn new(files: &[(&'static str, &'static str)]) -> CheckSetting {
        let record_files = Arc::new(MemoryFiles::default());
        let now = at("2026-11-21T08:00:00Z");
        let cache = Cache::user(&Variables::default(), false);
        let records = Records::new(
            record_files.clone(),
            "imglife".parse::<Prefix>().expect("a prefix"),
            cache,
            Clock::fixed(now),
        );
        CheckSetting {
            files: record_files,
            records,
            forge: BaseRepository {
                files: files.to_vec(),
            },
            now,
        }
    }

    async fn with_inventory(time: &str) -> CheckSetting {
        let setting = CheckSetting::new(&[]);
        setting
            .records
            .write_data(DataFileKind::Inventory, inventory(time).into())
            .await
            .expect("to write");
        setting
    }

    fn sources(&self) -> CheckSources<'_> {
        CheckSources {
            records: Some(&self.records),
            has_token: true,
            forge: Some(ForgeBranch {
                forge: &self.forge,
                reference: "main",
            }),
            configuration: None,
            eol_data: None,
            stores: None,
            now: self.now,
        }
    }

    async fn check(&self, base: &str, policy: Policy) -> BaseCheckReport {
        let world = observe(&image(base), Some("team/web"), &self.sources())
            .await
            .expect("a check");
        BaseCheckReport::new(image(base), None, &world, policy)
    }

    async fn record(&self, base_digest: &str, image: &str, day: u32) {
        let text = format!(
            r#"{{"image":"{image}","base":"{BASE}","base_digest":"{}","project":"team/web","built_at":"2026-11-{day:02}T10:00:00Z"}}"#,
            digest(base_digest)
        );
        self.records
            .put(&BuildRecord::parse(text.as_bytes()).expect("a record"))
            .await
            .expect("to write");
    }
}

const STRICT: Policy = Policy {
    strict: true,
    max_days: None,
    warn_only: false,
};

fn json(report: &BaseCheckReport) -> String {
    serde_json::to_string(report).expect("JSON")
}

#[tokio::test]
async fn check_uses_the_inventory() {
    let setting = CheckSetting::with_inventory("2026-11-20T00:00:00Z").await;
    let report = setting.check(BASE, STRICT).await;
    let expected = r#"{"base":"r.example/bases/alpine:3.21.3-core1.0.0","latest":"r.example/bases/alpine:3.21.3-core1.0.0","up_to_date":true,"rebuilt":null,"eol_date":"2026-12-01","eol_status":"warning","days_left":10,"warnings":[]}"#;
    assert_eq!(
        (json(&report).as_str(), report.exit()),
        (expected, Exit::Done)
    );
    let report = setting.check(OLD, STRICT).await;
    let expected = r#"{"base":"r.example/bases/alpine:3.20.1-core1.0.0","latest":"r.example/bases/alpine:3.21.3-core1.0.0","up_to_date":false,"rebuilt":null,"eol_date":"2026-04-01","eol_status":"expired","days_left":-234,"warnings":[]}"#;
    assert_eq!(
        (json(&report).as_str(), report.exit()),
        (expected, Exit::PolicyViolated)
    );
}

#[tokio::test]
async fn findings_violate_only_the_requested_policy() {
    let setting = CheckSetting::with_inventory("2026-11-20T00:00:00Z").await;
    let exit = async |base: &str, policy: Policy| setting.check(base, policy).await.exit();
    let days = |max_days| Policy {
        max_days: Some(max_days),
        ..STRICT
    };
    assert_eq!(exit(OLD, Policy::default()).await, Exit::Done);
    assert_eq!(
        exit(
            OLD,
            Policy {
                warn_only: true,
                ..STRICT
            }
        )
        .await,
        Exit::Done
    );
    assert_eq!(exit(BASE, days(10)).await, Exit::Done, "10 days are left");
    assert_eq!(exit(BASE, days(11)).await, Exit::PolicyViolated);
    assert_eq!(
        exit(
            BASE,
            Policy {
                strict: false,
                ..days(11)
            }
        )
        .await,
        Exit::Done
    );
    assert_eq!(
        exit(&format!("{BASE}@{}", digest("new")), STRICT).await,
        Exit::Done
    );
    assert_eq!(
        exit(&format!("{BASE}@{}", digest("old")), STRICT).await,
        Exit::PolicyViolated,
        "pinned and rebuilt"
    );
    assert_eq!(
        exit("r.example/other:1", STRICT).await,
        Exit::Done,
        "an unknown base is not outdated"
    );
}

#[tokio::test]
async fn unknown_base_is_a_warning_and_not_outdated() {
    let setting = CheckSetting::with_inventory("2026-11-20T00:00:00Z").await;
    let report = setting.check("docker.io/library/alpine:3.21", STRICT).await;
    assert_eq!((report.up_to_date, report.warnings.len()), (None, 1));
    assert!(json(&report).contains(r#""eol_status":"unknown","days_left":null,"warnings":["docker.io/library/alpine is not a known base"#));
}

#[tokio::test]
async fn current_digest_comes_from_the_registry_if_allowed() {
    let setting = CheckSetting::with_inventory("2026-11-20T08:00:00Z").await;
    let store = Arc::new(MemoryStore::default());
    let manifest = Bytes::from(r#"{"schemaVersion":2,"manifests":[]}"#);
    let manifest = Manifest::parse(manifest, None, Algorithm::Sha256).expect("a manifest");
    let named = image(BASE);
    store
        .put_manifest(
            &named.repository,
            &named.tag.clone().expect("a tag").into(),
            &manifest,
        )
        .await
        .expect("to write");
    let base = ImageReference {
        digest: Some(manifest.digest.clone()),
        ..named
    };
    let probed = observe(
        &base,
        None,
        &CheckSources {
            stores: Some(&store.stores()),
            ..setting.sources()
        },
    )
    .await
    .expect("a check");
    assert_eq!(probed.digest_now, Some(manifest.digest));
    let report = BaseCheckReport::new(base.clone(), None, &probed, STRICT);
    assert_eq!((report.rebuilt, report.exit()), (Rebuilt::No, Exit::Done));
    let offline = observe(&base, None, &setting.sources())
        .await
        .expect("a check");
    let report = BaseCheckReport::new(base, None, &offline, STRICT);
    let issues = format!("{:?}", report.issues());
    assert!(
        issues.contains("than the pinned one (according to the inventory of 2026-11-20T08:00:00Z)"),
        "{issues}"
    );
}

#[tokio::test]
async fn rebuilt_compares_with_the_newest_record_of_the_project() {
    let setting = CheckSetting::with_inventory("2026-11-20T00:00:00Z").await;
    setting.record("old", "r.example/apps/web:1.0", 1).await;
    let report = setting.check(BASE, STRICT).await;
    assert_eq!(
        (report.rebuilt, report.exit()),
        (Rebuilt::SinceLastBuild, Exit::Done)
    );
    setting.record("new", "r.example/apps/web:1.1", 2).await;
    assert_eq!(setting.check(BASE, STRICT).await.rebuilt, Rebuilt::No);
}

#[tokio::test]
async fn old_inventory_adds_a_warning() {
    for (time, warnings) in [("2026-11-07T08:00:00Z", 0), ("2026-11-07T07:59:59Z", 1)] {
        assert_eq!(
            CheckSetting::with_inventory(time)
                .await
                .check(BASE, STRICT)
                .await
                .warnings
                .len(),
            warnings,
            "{time}"
        );
    }
}

#[tokio::test]
async fn check_uses_the_base_repository_without_an_inventory() {
    let setting =
        CheckSetting::new(&[("imglife.yaml", CONFIGURATION), ("eol-data.yaml", EOL_DATA)]);
    let report = setting.check(BASE, STRICT).await;
    assert_eq!(
        (
            report.up_to_date,
            report.assessment.days_left,
            report.exit()
        ),
        (Some(true), Some(10), Exit::Done)
    );
    assert!(
        report.warnings[0].contains("the environment variable `ODD` is not set"),
        "{:?}",
        report.warnings
    );
    let report = setting.check(OLD, STRICT).await;
    assert_eq!(
        (report.up_to_date, report.assessment.days_left),
        (Some(false), Some(-234)),
        "its own cycle"
    );
    assert_eq!(
        setting
            .check("r.example/bases/alpine:latest", STRICT)
            .await
            .up_to_date,
        Some(true)
    );
    let development = setting
        .check("r.example/bases/dev:3.20.1-core1.0.0", STRICT)
        .await;
    assert_eq!(
        (development.up_to_date, development.assessment.days_left),
        (Some(true), None),
        "development images are not tracked"
    );
    let without_data = CheckSetting::new(&[("imglife.yaml", CONFIGURATION)]);
    assert_eq!(
        without_data.check(BASE, STRICT).await.assessment.days_left,
        None
    );
}

#[tokio::test]
async fn explicit_configuration_takes_precedence_over_the_inventory() {
    let setting = CheckSetting::with_inventory("2026-11-20T00:00:00Z").await;
    let text = CONFIGURATION
        .replace("$CI_REGISTRY_IMAGE", "r.example")
        .replace("3.21.3", "3.22.0");
    let source = SourceText {
        name: "named".to_owned(),
        text,
    };
    let sources = CheckSources {
        configuration: Some(&source),
        eol_data: Some(("data", EOL_DATA.as_bytes())),
        ..setting.sources()
    };
    let world = observe(&image(BASE), None, &sources)
        .await
        .expect("a check");
    let report = BaseCheckReport::new(image(BASE), None, &world, STRICT);
    assert_eq!(
        report.latest,
        Some(image("r.example/bases/alpine:3.22.0-core1.0.0"))
    );
    assert_eq!(report.assessment.days_left, Some(10));
    let broken = SourceText {
        name: "named".to_owned(),
        text: "[".to_owned(),
    };
    let sources = CheckSources {
        configuration: Some(&broken),
        ..setting.sources()
    };
    assert!(matches!(
        observe(&image(BASE), None, &sources).await,
        Err(CheckError::Configuration { .. })
    ));
}

#[tokio::test]
async fn explicit_end_of_life_data_replaces_that_of_the_inventory() {
    let setting = CheckSetting::new(&[]);
    let text = inventory("2026-11-20T00:00:00Z").replace(
        r#""ends":"2026-12-01""#,
        r#""cycle":"3.21","ends":"2026-12-01""#,
    );
    setting
        .records
        .write_data(DataFileKind::Inventory, text.into())
        .await
        .expect("to write");
    let data = "alpine:\n  - { cycle: '3.21', eol: 2026-11-30 }\n";
    let sources = CheckSources {
        eol_data: Some(("data", data.as_bytes())),
        forge: None,
        ..setting.sources()
    };
    let days_left = async |base: &str| {
        let world = observe(&image(base), None, &sources)
            .await
            .expect("a check");
        assert!(matches!(world.known.source, BaseSource::Inventory { .. }));
        BaseCheckReport::new(image(base), None, &world, STRICT)
            .assessment
            .days_left
    };
    assert_eq!(days_left(BASE).await, Some(9));
    assert_eq!(
        days_left(OLD).await,
        Some(-234),
        "cycles that the data does not have keep the date of the inventory"
    );
    let sources = CheckSources {
        eol_data: Some(("data", b"[")),
        ..sources
    };
    assert!(matches!(
        observe(&image(BASE), None, &sources).await,
        Err(CheckError::EolData { .. })
    ));
}

#[tokio::test]
async fn sources_that_may_not_be_read_without_a_token_are_left_out_for_the_probe() {
    let store = store_with(&["3.21.3-core1.0.0", "3.21.4-core1.0.0"]).await;
    for kind in [
        ItemErrorKind::Unauthorized,
        ItemErrorKind::Forbidden,
        ItemErrorKind::Absent,
        ItemErrorKind::Unreachable,
    ] {
        let setting = CheckSetting::new(&[]);
        setting.files.fail(StoreCall::List, kind);
        for (has_token, with_probe) in [(false, true), (false, false), (true, true)] {
            let stores = store.stores();
            let sources = CheckSources {
                has_token,
                stores: with_probe.then_some(&stores),
                ..setting.sources()
            };
            let found = observe(&image(BASE), Some("team/web"), &sources).await;
            let is_left_out = !has_token && with_probe && kind != ItemErrorKind::Unreachable;
            assert_eq!(
                found.is_ok(),
                is_left_out,
                "{kind:?} {has_token} {with_probe}"
            );
            let Ok(world) = found else { continue };
            let report = BaseCheckReport::new(image(BASE), None, &world, STRICT);
            assert_eq!(report.source, Some(BaseSource::Registry));
            assert!(
                report.warnings[0].starts_with("the records may not be read: "),
                "{:?}",
                report.warnings
            );
        }
    }
}

#[tokio::test]
async fn tags_are_listed_only_with_probe_and_without_another_source() {
    let store = store_with(&["3.21.3-core1.0.0", "3.21.4-core1.0.0"]).await;
    let setting = CheckSetting::new(&[]);
    assert!(matches!(
        observe(&image(BASE), None, &setting.sources()).await,
        Err(CheckError::NoSource(_))
    ));
    let sources = CheckSources {
        stores: Some(&store.stores()),
        ..setting.sources()
    };
    setting.record("other", "r.example/apps/web:1.0", 1).await;
    let world = observe(&image(BASE), Some("team/web"), &sources)
        .await
        .expect("a check");
    let report = BaseCheckReport::new(image(BASE), None, &world, STRICT);
    assert_eq!(
        (report.up_to_date, report.rebuilt, report.source),
        (
            Some(false),
            Rebuilt::SinceLastBuild,
            Some(BaseSource::Registry)
        )
    );
    assert_eq!(
        report.latest,
        Some(image("r.example/bases/alpine:3.21.4-core1.0.0"))
    );
}

async fn store_with(tags: &[&str]) -> Arc<MemoryStore> {
    let store = Arc::new(MemoryStore::default());
    for tag in tags {
        let manifest = Bytes::from(r#"{"schemaVersion":2,"manifests":[]}"#);
        let manifest = Manifest::parse(manifest, None, Algorithm::Sha256).expect("a manifest");
        let tag: crate::model::Tag = tag.parse().expect("a tag");
        ImageStore::put_manifest(&*store, &image(BASE).repository, &tag.into(), &manifest)
            .await
            .expect("to write");
    }
    store
}

#[tokio::test]
async fn base_without_a_configured_version_is_unknown_without_probe() {
    let store = store_with(&["3.20.1-core1.0.0", "3.20.2-core1.0.0"]).await;
    let mirror = "sync: { entries: [{ source: docker.io/library/alpine, target: r.example/mirrors/alpine, tag_regex: '3.*' }] }\n";
    let without_tag: &'static str = format!(
        "{mirror}{}",
        CONFIGURATION.replace("mirror_tag: 3.21.3, ", "")
    )
    .leak();
    let another = "    - { name: alpine, folder: b, type: core, mirror_image: r.example/mirrors/alpine, mirror_tag: 3.21.3, lifecycle: { product: alpine } }\n";
    let partly: &'static str = format!("{without_tag}{another}").leak();
    for text in [without_tag, partly] {
        let setting = CheckSetting::new(&[("imglife.yaml", text), ("eol-data.yaml", EOL_DATA)]);
        let report = setting.check(OLD, STRICT).await;
        assert_eq!(
            (report.up_to_date, report.latest.clone(), report.exit()),
            (None, None, Exit::PolicyViolated),
            "support has ended"
        );
        assert!(
            report
                .warnings
                .iter()
                .any(|warning| warning.contains("alpine: its version is unknown")),
            "{:?}",
            report.warnings
        );
        assert_eq!(
            report.assessment.days_left,
            Some(-234),
            "its cycle is known"
        );

        let sources = CheckSources {
            stores: Some(&store.stores()),
            ..setting.sources()
        };
        let world = observe(&image(OLD), None, &sources).await.expect("a check");
        let report = BaseCheckReport::new(image(OLD), None, &world, STRICT);
        assert_eq!(
            (report.up_to_date, report.source.clone()),
            (Some(false), Some(BaseSource::Registry))
        );
        assert_eq!(
            report.latest,
            Some(image("r.example/bases/alpine:3.20.2-core1.0.0"))
        );
        assert_eq!(report.assessment.days_left, Some(-234));
        assert!(
            !report
                .warnings
                .iter()
                .any(|warning| warning.contains("alpine: ")),
            "{:?}",
            report.warnings
        );
    }
    let setting = CheckSetting::new(&[("imglife.yaml", partly)]);
    assert_eq!(
        setting.check(BASE, STRICT).await.up_to_date,
        Some(true),
        "current images need no listing"
    );
    let setting = CheckSetting::new(&[("imglife.yaml", without_tag)]);
    let known = known(&setting.sources(), None).await.expect("known");
    let error = newest_image(&known, "alpine", None).expect_err("no version");
    assert!(matches!(error, LatestError::Unknown { .. }));
    assert_eq!(
        error.hint().as_deref(),
        Some(
            "run `imglife latest r.example/bases/alpine --probe` to list the tags at the registry"
        )
    );
}

#[tokio::test]
async fn check_fails_if_the_record_store_fails_or_is_invalid() {
    let setting = CheckSetting::with_inventory("2026-11-20T00:00:00Z").await;
    setting
        .files
        .fail(StoreCall::List, ItemErrorKind::Unreachable);
    assert!(matches!(
        observe(&image(BASE), None, &setting.sources()).await,
        Err(CheckError::Item(_))
    ));
    setting.files.recover();
    setting
        .records
        .write_data(DataFileKind::Inventory, Bytes::from("{}"))
        .await
        .expect("to write");
    assert!(matches!(
        observe(&image(BASE), None, &setting.sources()).await,
        Err(CheckError::Inventory { .. })
    ));
}

#[tokio::test]
async fn findings_are_rendered_for_ci_servers() {
    let setting = CheckSetting::with_inventory("2026-11-20T00:00:00Z").await;
    let report = BaseCheckReport {
        location: Some(Location {
            path: "docker/Dockerfile".to_owned(),
            line: 7,
        }),
        ..setting.check(OLD, STRICT).await
    };
    let commands: String = report
        .annotations()
        .iter()
        .map(|annotation| annotation.command())
        .collect();
    insta::assert_snapshot!(commands, @r"
    ::error file=docker/Dockerfile,line=7,title=Outdated base::r.example/bases/alpine:3.20.1-core1.0.0 is outdated: use r.example/bases/alpine:3.21.3-core1.0.0
    ::error file=docker/Dockerfile,line=7,title=End of life::r.example/bases/alpine:3.20.1-core1.0.0: support ended on 2026-04-01
    ");
    assert_eq!(
        report.violations(),
        [
            "r.example/bases/alpine:3.20.1-core1.0.0 is outdated: use r.example/bases/alpine:3.21.3-core1.0.0",
            "r.example/bases/alpine:3.20.1-core1.0.0: support ended on 2026-04-01"
        ]
    );
    let near = setting
        .check(
            BASE,
            Policy {
                max_days: Some(11),
                ..STRICT
            },
        )
        .await;
    let near_words = "support ends on 2026-12-01, in 10 days, fewer than the required 11; use a base version with longer support";
    assert_eq!(near.violations(), [format!("{BASE}: {near_words}")]);
    assert!(
        BaseCheckReport {
            policy: Policy::default(),
            ..near
        }
        .violations()
        .is_empty()
    );
    let issues: Vec<_> = report
        .issues()
        .into_iter()
        .map(|issue| (issue.check_name, issue.severity, issue.path, issue.line))
        .collect();
    let expected = [
        ("imglife/outdated-base", Severity::Minor),
        ("imglife/end-of-life", Severity::Critical),
    ];
    assert_eq!(
        issues,
        expected.map(|(rule, severity)| (rule, severity, "docker/Dockerfile".to_owned(), 7))
    );
    insta::assert_snapshot!(crate::report::dotenv::draw(&report.variables()), @"
    IMGLIFE_BASE=r.example/bases/alpine:3.20.1-core1.0.0
    IMGLIFE_LATEST=r.example/bases/alpine:3.21.3-core1.0.0
    IMGLIFE_UP_TO_DATE=false
    IMGLIFE_REBUILT=unknown
    IMGLIFE_EOL_DATE=2026-04-01
    IMGLIFE_EOL_STATUS=expired
    IMGLIFE_DAYS_LEFT=-234
    ");
    insta::assert_snapshot!(crate::report::text::draw(&report.document(), crate::report::text::Style::default()), @"
    Check
    Base         r.example/bases/alpine:3.20.1-core1.0.0 (docker/Dockerfile:7)
    Version      outdated: use r.example/bases/alpine:3.21.3-core1.0.0
    Rebuilt      unknown
    End of life  support ended on 2026-04-01
    Source       the inventory of 2026-11-20 00:00 UTC
    ");
    let scratch = BaseCheckReport::of_scratch(None, STRICT);
    assert_eq!((scratch.exit(), scratch.issues().len()), (Exit::Done, 0));
    assert!(json(&scratch).starts_with(r#"{"base":"scratch","latest":null"#));
}

fn newest_image(
    known: &KnownBases,
    name: &str,
    line: Option<&str>,
) -> Result<ImageReference, LatestError> {
    let request = LatestRequest {
        name,
        line,
        variant: None,
        now: DateTime::<Utc>::UNIX_EPOCH,
    };
    latest(known, &request).map(|found| found.image)
}

#[tokio::test]
async fn latest_finds_a_base_by_name_or_lists_the_known_ones() {
    let setting = CheckSetting::with_inventory("2026-11-20T00:00:00Z").await;
    let known = known(&setting.sources(), None).await.expect("known");
    for name in ["alpine", "r.example/bases/alpine"] {
        assert_eq!(
            newest_image(&known, name, None).expect("a base"),
            image(BASE),
            "{name}"
        );
    }
    assert_eq!(
        newest_image(&known, "alpine", Some("3.21")).expect("a base"),
        image(BASE)
    );
    assert!(matches!(
        newest_image(&known, "alpine", Some("3.20")),
        Err(LatestError::NoVersion { .. })
    ));
    let error = newest_image(&known, "golang", None).expect_err("no base");
    assert_eq!(
        error.hint().as_deref(),
        Some("use one of r.example/bases/alpine")
    );
    let mut twice = known.clone();
    twice.bases.push(KnownBase {
        repository: "r.example/old/alpine".parse().expect("a repository"),
        ..known.bases[0].clone()
    });
    assert!(matches!(
        newest_image(&twice, "alpine", None),
        Err(LatestError::Several { .. })
    ));
}

#[test]
fn inventory_of_these_tests_is_valid() {
    Inventory::parse(inventory("2026-11-20T00:00:00Z").as_bytes()).expect("an inventory");
}
