//! Images that something other than records needs: `hold` and `keep_from`.

use super::*;

/// Returns the names in a list, or the reason why it cannot be used.
fn parsed(content: &str) -> Result<Vec<String>, String> {
    let images = KeepList::parse("list", content.as_bytes()).images;
    let name = |name: &KeptName| match name {
        KeptName::Image(image) => image.to_string(),
        KeptName::Digest(digest) => digest.to_string(),
    };
    images
        .map(|images| images.iter().map(name).collect())
        .map_err(|error| error.to_string())
}

fn digest(text: &str) -> Digest {
    Digest::sha256(text.as_bytes())
}

#[test]
fn every_form_of_a_list_names_its_images() {
    let (one, two) = (digest("one"), digest("two"));
    let pod = json!({
        "kind": "Pod",
        "spec": {
            "containers": [{ "name": "a", "image": "r.example/a:1" }],
            "initContainers": [{ "image": "r.example/init" }],
            "ephemeralContainers": [{ "image": "r.example/debug:1" }],
            "volumes": [{ "name": "x" }, { "image": { "reference": "r.example/volume:1" } }],
        },
        "status": {
            "containerStatuses": [{ "image": "r.example/a:1", "imageID": format!("r.example/a@{one}") }],
            "initContainerStatuses": [{ "image": "", "imageID": "" }],
            "ephemeralContainerStatuses": [{ "image": two.to_string(), "imageID": format!("docker-pullable://r.example/debug@{two}") }],
        },
    });
    let of_pod = [
        two.to_string(),
        "r.example/a:1".to_owned(),
        format!("r.example/a@{one}"),
        "r.example/debug:1".to_owned(),
        format!("r.example/debug@{two}"),
        "r.example/init:latest".to_owned(),
        "r.example/volume:1".to_owned(),
    ];
    let template = |image: &str| json!({ "spec": { "containers": [{ "image": image }] } });
    let workload = |kind: &str, image: &str| json!({ "kind": kind, "metadata": { "annotations": {} }, "spec": { "template": template(image) }, "status": { "replicas": 1 } });
    let cron = json!({ "kind": "CronJob", "spec": { "jobTemplate": { "spec": { "template": template("r.example/cron:1") } } } });
    let kinds = [
        "Deployment",
        "StatefulSet",
        "DaemonSet",
        "Job",
        "ReplicaSet",
    ];
    let mut items: Vec<_> = kinds
        .iter()
        .map(|kind| workload(kind, &format!("r.example/{}:1", kind.to_lowercase())))
        .collect();
    items.extend([
        cron.clone(),
        json!({ "kind": "Service", "spec": { "ports": [] } }),
    ]);
    let list = json!({ "kind": "List", "metadata": { "resourceVersion": "" }, "items": items });
    let mut typed = pod.clone();
    typed.as_object_mut().expect("an object").remove("kind");
    let typed = json!({ "kind": "PodList", "metadata": { "continue": "" }, "items": [typed] });
    let all_kinds = [
        "cron",
        "daemonset",
        "deployment",
        "job",
        "replicaset",
        "statefulset",
    ];
    let all_kinds = all_kinds.map(|kind| format!("r.example/{kind}:1"));
    let lines = format!(
        "\u{feff}# in use\r\nr.example/a:1  # the shop\n\n  nginx\nr.example/a@{one}\n{two}\n"
    );
    let compose = "name: shop\nservices:\n  web: &web\n    image: r.example/web:1\n    ports: ['80:80']\n  db: { build: ., image: 'r.example/db:2' }\n  own: { build: . }\n  copy: *web\n";
    let yaml = "apiVersion: apps/v1\nkind: Deployment\nspec: { template: { spec: { containers: [{ image: r.example/a:1 }] } } }\n---\nkind: Service\nspec: {}\n";
    for (form, content, expected) in [
        (
            "lines",
            lines.as_str(),
            &[
                two.to_string(),
                "docker.io/library/nginx:latest".to_owned(),
                "r.example/a:1".to_owned(),
                format!("r.example/a@{one}"),
            ][..],
        ),
        (
            "an array",
            r#"["r.example/a:1"]"#,
            &["r.example/a:1".to_owned()],
        ),
        ("a pod", &pod.to_string(), &of_pod),
        ("a typed list", &typed.to_string(), &of_pod),
        ("a list", &list.to_string(), &all_kinds),
        (
            "two outputs",
            &format!("{cron}\n{}", workload("Job", "r.example/job:1")),
            &["r.example/cron:1".to_owned(), "r.example/job:1".to_owned()],
        ),
        (
            "a compose file",
            compose,
            &["r.example/db:2".to_owned(), "r.example/web:1".to_owned()],
        ),
        ("manifests", yaml, &["r.example/a:1".to_owned()]),
    ] {
        let mut found = parsed(content).unwrap_or_else(|error| panic!("{form}: {error}"));
        let mut expected = expected.to_vec();
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "{form}");
    }
}

#[test]
fn empty_or_incomplete_list_cannot_be_used() {
    let pod = r#"{ "kind": "Pod", "spec": { "containers": [{ "image": "r.example/a:1" }] } }"#;
    for (content, cause) in [
        ("", "it names no image"),
        ("# nothing\n\n", "it names no image"),
        ("[]", "it names no image"),
        (r#"{ "kind": "List", "items": [] }"#, "it names no image"),
        ("services: {}\nservices:\n", "malformed"),
        ("services:\n", "it names no image"),
        (
            "r.example/a:1\nr.example/B:1\n",
            "line 2: `r.example/B:1` is no",
        ),
        ("<html>", "line 1: `<html>` is no image reference"),
        (&pod[..40], "the JSON is malformed"),
        (&format!("{pod}\n{{"), "the JSON is malformed"),
        (
            &format!(
                r#"{{ "kind": "PodList", "metadata": {{ "continue": "eyJ2" }}, "items": [{pod}] }}"#
            ),
            "incomplete",
        ),
        (
            &format!(
                r#"{{ "kind": "List", "metadata": {{ "remainingItemCount": 3 }}, "items": [{pod}] }}"#
            ),
            "incomplete",
        ),
        (r#"{ "kind": "PodList" }"#, "has no `items`"),
        (r#"{ "kind": "Status", "status": "Failure" }"#, "malformed"),
        (
            &format!(
                r#"{{ "kind": "List", "items": [{pod}, {{ "kind": "Pod", "spec": {{ "containers": [] }} }}] }}"#
            ),
            "kind Pod has no container image",
        ),
        (
            r#"{ "kind": "Pod", "spec": { "containers": [{ "image": "a b" }] } }"#,
            "`a b` is no image reference",
        ),
        (
            "services:\n  web: { image: '${REGISTRY}/web:1' }\n",
            "is no image reference",
        ),
        (
            "services:\n  web: { image: r.example/web:1 }\n  db: { extends: web }\n",
            "docker compose config",
        ),
        (
            "include: [x.yaml]\nservices:\n  web: { image: r.example/web:1 }\n",
            "docker compose config",
        ),
    ] {
        let error = parsed(content).expect_err(content);
        assert!(error.contains(cause), "{content}: {error}");
    }
    let binary = KeepList::parse("list", b"\xff\xfe").images;
    assert!(binary.expect_err("no text").to_string().contains("UTF-8"));
}

/// Returns the plan with lists of this content.
async fn plan_with(
    sample: &SampleRepository,
    config: &Config,
    lists: &[KeepList],
    policy: &CleanupPolicy,
) -> Plan {
    let (cache, progress) = (crate::transfer::no_cache(), crate::progress::silent());
    let stores = sample.store.stores();
    let observer = Observer {
        limits: ReadingLimits::default(),
        stores: &stores,
        cache: &*cache,
        progress: &*progress,
        now: now(),
    };
    let none = ObservedRecords::NotConfigured;
    let outside = OutsideFacts {
        lists,
        deployments: None,
        source: None,
    };
    let world = observe_with(config, &CleanupScope::default(), none, outside, observer).await;
    plan(&world, policy)
}

#[tokio::test]
async fn held_and_used_images_are_kept_with_everything_below_them() {
    for deletions in [DeletionSupport::ALL, DIGEST_ONLY] {
        let sample = SampleRepository::new("r.example/m/a", deletions);
        for name in ["1.0", "2.0", "3.0", "4.0", "5.0", "9.0"] {
            sample.old(name).await;
        }
        let child = sample.old("child").await;
        let index = sample
            .index(&[&child, &sample.image("own", json!({})).await])
            .await;
        sample.tag("6.0", &index, 365).await;
        // Without a tag, but in use with its parts.
        let part = sample.old("7.0").await;
        let untagged = sample.index(&[&part]).await;
        let config = mirror("keep_last: 1, hold: ['r.example:443/m/a:1.0', 'r.example/other:3.0']");
        let used =
            format!("r.example/m/a:2.0\nelsewhere.example/x@{child}\nr.example/m/a@{untagged}\n");
        let lists = [KeepList::parse("pods.txt", used.as_bytes())];
        let plan = plan_with(&sample, &config, &lists, &policy()).await;
        let in_use = Some(KeepReason::InUse("pods.txt".to_owned()));
        assert_eq!(reason(&plan, &sample.at, "1.0"), Some(KeepReason::Held));
        assert_eq!(reason(&plan, &sample.at, "2.0"), in_use);
        for name in ["6.0", "child"] {
            assert_eq!(reason(&plan, &sample.at, name), in_use, "{name}");
        }
        let report = sample.execute(&plan, Mode::Apply).await;
        assert_eq!(report.exit(), Exit::Done, "{report:?}");
        let left = sample.tags().await;
        let expected = names(&["1.0", "2.0", "6.0", "9.0", "child"]);
        if deletions == DeletionSupport::ALL {
            assert_eq!(left, expected);
        } else {
            // The part can only be deleted by its digest, which is needed.
            assert_eq!(left, &expected | &names(&["7.0"]));
        }
        for needed in [&child, &index, &untagged, &part] {
            assert!(sample.has(needed).await, "{needed}");
        }
    }
}

#[tokio::test]
async fn unreadable_list_stops_the_run_also_with_force() {
    let sample = SampleRepository::mirror(&["1.0", "2.0"]).await;
    let config = mirror("keep_last: 1");
    let forced = CleanupPolicy {
        is_forced: true,
        ..policy()
    };
    let good = KeepList::parse("good", b"r.example/x:1");
    for list in [
        KeepList::unreadable("list", ItemError::other("no such file")),
        KeepList::parse("list", b""),
    ] {
        let lists = [good.clone(), list];
        let plan = plan_with(&sample, &config, &lists, &forced).await;
        let error = plan.safety_error.as_ref().expect("an error").to_string();
        assert!(error.contains("from list"), "{error}");
        assert_eq!(
            reason(&plan, &sample.at, "1.0"),
            Some(KeepReason::SafetyCheckFailed)
        );
    }
    let plan = plan_with(&sample, &config, &[good], &forced).await;
    assert_eq!(reason(&plan, &sample.at, "1.0"), None);
}

#[tokio::test]
async fn tag_that_is_gone_upstream_is_kept_while_an_application_uses_it() {
    let sample = SampleRepository::mirror(&["1.0", "1.1", "9"]).await;
    let up = SampleRepository {
        store: sample.store.clone(),
        at: repository("up.example/a"),
    };
    up.old("9").await;
    let config = mirror("keep_last: 0, min_keep: 0");
    let used = record("r.example/apps/a:1", Some("r.example/m/a:1.0"), None);
    let plan = sample.plan(&config, records(vec![used.clone()])).await;
    assert_eq!(
        reason(&plan, &sample.at, "1.0"),
        Some(KeepReason::BaseOf(used.image))
    );
    assert_eq!(reason(&plan, &sample.at, "1.1"), None);
}

/// Writes a base of a year ago that this project built, named by an annotation or by a label.
async fn base_of(sample: &SampleRepository, name: &str, source: Option<&str>, is_label: bool) {
    let mut texts = json!({ "imglife.tier": "base" });
    if let Some(source) = source {
        texts["org.opencontainers.image.source"] = source.into();
    }
    let digest = if is_label {
        sample.image(name, texts).await
    } else {
        sample
            .put(json!({
                "schemaVersion": 2,
                "mediaType": media_type::OCI_INDEX,
                "manifests": [],
                "annotations": texts,
                "name": name,
            }))
            .await
    };
    sample.tag(name, &digest, 365).await;
}

#[tokio::test]
async fn base_of_another_project_is_kept() {
    let (own, other) = ("https://git.example/main", "https://git.example/lts");
    for is_label in [false, true] {
        let sample = SampleRepository::new("r.example/bases/alpine", DeletionSupport::ALL);
        base_of(&sample, "3.9-core1.0.0", None, is_label).await;
        base_of(&sample, "3.10-core1.0.0", Some(other), is_label).await;
        base_of(
            &sample,
            "3.11-core1.0.0",
            Some("http://git.example/Main.git/"),
            is_label,
        )
        .await;
        base_of(
            &sample,
            "3.12-core1.0.0",
            Some("https://old.example/main"),
            is_label,
        )
        .await;
        base_of(&sample, "3.13-core1.0.0", Some(own), is_label).await;
        let (cache, progress) = (crate::transfer::no_cache(), crate::progress::silent());
        let stores = sample.store.stores();
        let observer = Observer {
            limits: ReadingLimits::default(),
            stores: &stores,
            cache: &*cache,
            progress: &*progress,
            now: now(),
        };
        let elsewhere = |source: &str| Some(KeepReason::BuiltElsewhere(source.to_owned()));
        let former = "sources: ['https://old.example/main']";
        for (source, rules, kept) in [
            (Some(own), former, [None, elsewhere(other), None, None]),
            (
                Some(own),
                "sources: []",
                [
                    None,
                    elsewhere(other),
                    None,
                    elsewhere("https://old.example/main"),
                ],
            ),
            (
                None,
                "sources: ['https://git.example/main', 'https://old.example/main']",
                [None, elsewhere(other), None, None],
            ),
        ] {
            let config = bases(&format!("keep_last: 1, require_records: false, {rules}"));
            let outside = OutsideFacts {
                source,
                ..OutsideFacts::default()
            };
            let none = ObservedRecords::NotConfigured;
            let scope = CleanupScope::default();
            let world = observe_with(&config, &scope, none, outside, observer).await;
            let plan = plan(&world, &policy());
            for (name, expected) in ["3.9", "3.10", "3.11", "3.12"].iter().zip(kept) {
                let name = format!("{name}-core1.0.0");
                assert_eq!(reason(&plan, &sample.at, &name), expected, "{name} {rules}");
            }
            assert_eq!(plan.warnings, Vec::<String>::new());
        }
        // Without a known address, bases are kept where they disagree.
        let config = bases("keep_last: 1, require_records: false");
        let plan = sample.plan(&config, ObservedRecords::NotConfigured).await;
        let expected = (!is_label).then(|| elsewhere(other)).flatten();
        assert_eq!(reason(&plan, &sample.at, "3.10-core1.0.0"), expected);
        assert_eq!(reason(&plan, &sample.at, "3.9-core1.0.0"), None);
        let is_named = plan
            .warnings
            .iter()
            .any(|warning| warning.contains("`retention.sources`"));
        assert_eq!(is_named, !is_label, "{:?}", plan.warnings);
    }
    let sample = SampleRepository::new("r.example/bases/alpine", DeletionSupport::ALL);
    for name in ["3.10-core1.0.0", "3.11-core1.0.0"] {
        base_of(&sample, name, Some(other), false).await;
    }
    let config = bases("keep_last: 1, require_records: false");
    let plan = sample.plan(&config, ObservedRecords::NotConfigured).await;
    assert_eq!(
        reason(&plan, &sample.at, "3.10-core1.0.0"),
        None,
        "all agree"
    );
}

#[tokio::test]
async fn held_tag_takes_no_place_among_the_newest() {
    let sample = SampleRepository::mirror(&["1.0", "2.0", "3.0"]).await;
    for (rules, deleted) in [
        ("keep_last: 1", vec!["1.0", "2.0"]),
        ("keep_last: 1, hold: ['r.example/m/a:3.0']", vec!["1.0"]),
        (
            "keep_last: 1, hold: ['r.example/m/a:3.0', 'r.example/m/a:2.0']",
            vec![],
        ),
    ] {
        let plan = sample
            .plan(&mirror(rules), ObservedRecords::NotConfigured)
            .await;
        let planned: BTreeSet<String> = plan
            .deletions()
            .map(|(_, tag, ..)| tag.to_string())
            .collect();
        assert_eq!(planned, names(&deleted), "{rules}");
    }
}
