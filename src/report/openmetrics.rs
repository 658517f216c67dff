//! Numbers of a run in the OpenMetrics text format, as GitLab's metrics report and Prometheus's
//! textfile collector read it.
//!
//! Specification: OpenMetrics 1.0.0 (<https://prometheus.io/docs/specs/om/open_metrics_spec/>).

use crate::model::text::printable;

/// Numbers of one kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// Without the `_total` that a counter's samples get.
    pub name: &'static str,
    pub kind: Kind,
    pub help: &'static str,
    pub samples: Vec<Sample>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Gauge,
    Counter,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Names of labels, which are ours, and their values, which may come from outside.
    pub labels: Vec<(&'static str, String)>,
    pub value: f64,
}

/// Returns `families` as an OpenMetrics exposition.
pub fn draw(families: &[Family]) -> String {
    let mut text = String::new();
    for family in families {
        let (kind, suffix) = match family.kind {
            Kind::Gauge => ("gauge", ""),
            Kind::Counter => ("counter", "_total"),
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
    // Some readers take other characters than a line feed for the end of a line.
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
    fn families_end_with_the_end_mark_and_labels_are_escaped() {
        let families = [
            Family {
                name: "imglife_sync_bytes",
                kind: Kind::Counter,
                help: "Bytes moved",
                samples: vec![Sample {
                    labels: vec![
                        ("entry", "a\"b\\c\n\rd".to_owned()),
                        ("side", "source".to_owned()),
                    ],
                    value: 412_600_000.0,
                }],
            },
            Family {
                name: "imglife_sync_duration_seconds",
                kind: Kind::Gauge,
                help: "How long it took",
                samples: vec![Sample {
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
