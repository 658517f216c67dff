//! Upstreams that list less than the mirror has.

use super::*;

fn by_pattern(pattern: &str) -> Config {
    config(&format!(
        "sync: {{ entries: [{{ source: up.example/a, target: r.example/m/a, {pattern} }}] }}
retention: {{ keep_last: 1 }}"
    ))
}

/// Writes tags to the upstream of a mirror.
async fn mirror_of(upstream: &[&str], tags: &[&str]) -> SampleRepository {
    let sample = SampleRepository::mirror(tags).await;
    let source = SampleRepository {
        store: sample.store.clone(),
        at: repository("up.example/a"),
    };
    for name in upstream {
        source.old(name).await;
    }
    // The repository exists also without tags.
    source.old("gone").await;
    source.store.forget_tag(&source.at, &tag("gone"));
    sample
}

#[tokio::test]
async fn mirror_is_kept_while_its_upstream_lists_less_than_half_of_it() {
    const VERSIONS: &str = r"tag_regex: '\d+\.\d+', keep_last: 1, min_tags: 0";
    const MIRROR: [&str; 4] = ["1.0", "1.1", "1.2", "1.3"];
    let without_three =
        r"tag_regex: '\d+\.\d+', exclude_regex: '1\.[0-2]', keep_last: 1, min_tags: 0";
    for (upstream, tags, pattern, is_unknown) in [
        (&[][..], &MIRROR[..], VERSIONS, true),
        (&["edge"], &MIRROR, VERSIONS, true),
        (&["1.3"], &MIRROR, VERSIONS, true),
        (&["1.3", "edge", "rolling"], &MIRROR, VERSIONS, true),
        (&["1.2", "1.3"], &MIRROR, VERSIONS, false),
        (&["1.3", "1.4", "1.5"], &MIRROR, VERSIONS, false),
        // Tags that the entry does not select from do not count.
        (&["1.3"], &MIRROR, without_three, false),
        (
            &["1.3"],
            &["1.2", "1.3", "other", "1.3-replaced.20250101"],
            VERSIONS,
            false,
        ),
        // A listing without tags is never known.
        (&[], &["other", "another"], VERSIONS, true),
        (&["edge"], &["other", "another"], VERSIONS, false),
        (&[], &MIRROR, "tag: '1.3'", false),
    ] {
        let sample = mirror_of(upstream, tags).await;
        let report = sample
            .run(&by_pattern(pattern), ObservedRecords::NotConfigured)
            .await;
        let context = format!("{upstream:?} {tags:?} {pattern} {report:?}");
        assert_eq!(report.exit(), Exit::Done, "{context}");
        assert_eq!(report.totals.deleted == 0, is_unknown, "{context}");
        let unknown = report
            .kept
            .iter()
            .any(|kept| matches!(kept.reason, KeepReason::UpstreamUnknown(_)));
        assert_eq!(unknown, is_unknown, "{context}");
        let warnings = report
            .warnings
            .iter()
            .filter(|warning| warning.contains("sync.entries[0]: up.example/a lists "));
        assert_eq!(warnings.count(), usize::from(is_unknown), "{context}");
    }
}
