//! Metrics of a run in the OpenMetrics text format, which GitLab's metrics reports and the textfile
//! collector of Prometheus read.
//!
//! Specification: OpenMetrics 1.0.0 (<https://prometheus.io/docs/specs/om/open_metrics_spec/>).

use crate::model::text::printable;

/// Metric family: samples with the same name, type and help text.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricFamily {
    /// Name without the suffix `_total`, which the samples of counters get.
    pub name: &'static str,
    pub kind: MetricKind,
    pub help: &'static str,
    pub samples: Vec<MetricSample>,
}

/// Type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    Gauge,
    Counter,
}

/// A value of a metric with its labels.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricSample {
    /// Names and values of labels. Values may be untrusted text.
    pub labels: Vec<(&'static str, String)>,
    pub value: f64,
}

/// Returns `families` as an OpenMetrics exposition.
pub fn draw(families: &[MetricFamily]) -> String {
    let mut text = String::new();
    for family in families {
        let (kind, suffix) = match family.kind {
            MetricKind::Gauge => ("gauge", ""),
            MetricKind::Counter => ("counter", "_total"),
        };
        let name = family.name;
        text += &format!(
            "# TYPE {name} {kind}\n# HELP {name} {}\n",
            escaped(family.help)
        );
        for sample in &family.samples {
            let labels: Vec<String> = sample
                .labels
                .iter()
                .map(|(label, value)| format!("{label}=\"{}\"", escaped(value)))
                .collect();
            let labels = if labels.is_empty() {
                String::new()
            } else {
                format!("{{{}}}", labels.join(","))
            };
            text += &format!("{name}{suffix}{labels} {}\n", sample.value);
        }
    }
    text + "# EOF\n"
}

fn escaped(text: &str) -> String {
    // Line feeds are escaped below; other line breaks, which some readers accept, here.
    let lines: Vec<_> = text.split('\n').map(printable).collect();
    lines
        .join("\n")
        .replace('\\', r"\\")
        .replace('"', r#"\""#)
        .replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exposition_ends_with_eof_and_labels_are_escaped() {
        let families = [
            MetricFamily {
                name: "imglife_sync_bytes",
                kind: MetricKind::Counter,
                help: "Bytes moved",
                samples: vec![MetricSample {
                    labels: vec![
                        ("entry", "a\"b\\c\n\rd".to_owned()),
                        ("side", "source".to_owned()),
                    ],
                    value: 412_600_000.0,
                }],
            },
            MetricFamily {
                name: "imglife_sync_duration_seconds",
                kind: MetricKind::Gauge,
                help: "How long it took",
                samples: vec![MetricSample {
                    labels: Vec::new(),
                    value: 12.4,
                }],
            },
        ];
        insta::assert_snapshot!(draw(&families), @r#"
        # TYPE imglife_sync_bytes counter
        # HELP imglife_sync_bytes Bytes moved
        imglife_sync_bytes_total{entry="a\"b\\c\n\\u{d}d",side="source"} 412600000
        # TYPE imglife_sync_duration_seconds gauge
        # HELP imglife_sync_duration_seconds How long it took
        imglife_sync_duration_seconds 12.4
        # EOF
        "#);
    }
}
