//! Keys of the section `status`.

use super::spec::{SectionSpec, Shape, key};

pub(in crate::config) static STATUS: SectionSpec = SectionSpec {
    name: "status",
    keys: &[
        key("title", Shape::Text, "Title of the report."),
        key(
            "client_zone",
            Shape::AnyText,
            "Markdown to insert below the tables, unchanged.",
        )
        .literal(),
        key(
            "graph",
            Shape::Flag,
            "Include a Mermaid diagram of the image lineage.",
        )
        .default("true"),
        key(
            "timeline",
            Shape::Flag,
            "Include a Mermaid timeline of end-of-life dates.",
        )
        .default("true"),
    ],
};
