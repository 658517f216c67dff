//! The diagrams of the report, in Mermaid: lineage and timeline.
//!
//! Older versions of Gitea reject a source of more than 5,000 characters, and Mermaid more than 500
//! edges, so larger diagrams are split.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use chrono::{Datelike, NaiveDate};

use super::plan::{BaseFamily, CycleKey, CycleUsers, FamilyMember, RowStatus, StatusReport};
use crate::model::TagVersion;
use crate::report::markdown::{label, task};

/// Maximum length of a source, in characters.
const MAX_SOURCE_CHARS: usize = 4_800;
/// Maximum number of edges in a diagram, so that it stays readable.
const MAX_EDGES: usize = 120;
/// Maximum number of applications drawn for an image; the others are counted.
const MAX_APPLICATIONS: usize = 8;
/// Maximum number of bars in a diagram.
const MAX_BARS: usize = 40;
/// Maximum length of a line in a label, in characters.
const MAX_LABEL_CHARS: usize = 36;

/// Maximum length of a section name that does not overlap the bars, in characters.
const MAX_SECTION_CHARS: usize = 12;

/// A diagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Diagram {
    /// Names of the bases or products in it.
    pub(super) about: Vec<String>,
    pub(super) source: String,
}

const STYLES: &str = "  classDef mirror fill:#f3f4f6,stroke:#9ca3af,color:#374151
  classDef ok fill:#dcfce7,stroke:#16a34a,color:#14532d
  classDef warning fill:#fef3c7,stroke:#d97706,color:#78350f
  classDef expired fill:#fee2e2,stroke:#dc2626,color:#7f1d1d
  classDef outdated fill:#dbeafe,stroke:#2563eb,color:#1e3a8a
  classDef unknown fill:#f5f5f4,stroke:#78716c,color:#292524,stroke-dasharray:4
";

/// An image in a diagram.
struct DiagramNode<'a> {
    id: String,
    repository: &'a str,
    version: &'a str,
    class: &'static str,
}

/// Returns the lineage diagrams, in the order of the bases.
pub(super) fn lineage(report: &StatusReport) -> Vec<Diagram> {
    let nodes = DiagramNodes::of(report);
    let mut diagrams: Vec<(Diagram, usize)> = Vec::new();
    for (name, family) in &report.families {
        let mut members: Vec<(&String, &FamilyMember)> = family.members.iter().collect();
        members.sort_by_cached_key(|(version, _)| std::cmp::Reverse(TagVersion::of(version)));
        for (version, member) in members {
            let Some(node) = nodes.images.get(&format!("{name}:{version}")) else {
                continue;
            };
            let (piece, edges) = piece(node, nodes.below(family, member), member);
            let fits = |(diagram, drawn): &&mut (Diagram, usize)| {
                diagram.source.chars().count() + piece.chars().count() + STYLES.len()
                    <= MAX_SOURCE_CHARS
                    && *drawn + edges <= MAX_EDGES
            };
            match diagrams.last_mut().filter(fits) {
                Some((diagram, drawn)) => {
                    diagram.source += &piece;
                    *drawn += edges;
                    if diagram.about.last() != Some(name) {
                        diagram.about.push(name.clone());
                    }
                }
                None => diagrams.push((
                    Diagram {
                        about: vec![name.clone()],
                        source: format!("flowchart LR\n{piece}"),
                    },
                    edges,
                )),
            }
        }
    }
    diagrams
        .into_iter()
        .map(|(diagram, _)| Diagram {
            source: diagram.source + STYLES,
            ..diagram
        })
        .collect()
}

/// Images that other images are built on.
struct DiagramNodes<'a> {
    /// Bases, by `repository:version`.
    images: BTreeMap<String, DiagramNode<'a>>,
    /// Mirrors, by repository. The version of the base includes that of the mirror.
    mirrors: BTreeMap<&'a str, DiagramNode<'a>>,
}

impl<'a> DiagramNodes<'a> {
    fn of(report: &'a StatusReport) -> DiagramNodes<'a> {
        let mut nodes = DiagramNodes {
            images: BTreeMap::new(),
            mirrors: BTreeMap::new(),
        };
        for (number, (repository, family)) in report.families.iter().enumerate() {
            for (position, (version, member)) in family.members.iter().enumerate() {
                let node = DiagramNode {
                    id: format!("f{number}m{position}"),
                    repository,
                    version,
                    class: class(member.status),
                };
                nodes.images.insert(format!("{repository}:{version}"), node);
            }
        }
        for below in report
            .families
            .values()
            .flat_map(|family| family.members.values())
            .filter_map(|member| member.built_on.as_ref())
        {
            if !nodes.images.contains_key(below) {
                let (id, repository) = (format!("b{}", nodes.mirrors.len()), repository_of(below));
                nodes.mirrors.entry(repository).or_insert(DiagramNode {
                    id,
                    repository,
                    version: "",
                    class: "mirror",
                });
            }
        }
        nodes
    }

    /// Returns the image that a member of a family is built on. An older member has the mirror of
    /// the current ones, if they have the same.
    fn below(&self, family: &BaseFamily, member: &FamilyMember) -> Option<&DiagramNode<'a>> {
        if let Some(below) = &member.built_on {
            return self
                .images
                .get(below)
                .or_else(|| self.mirrors.get(repository_of(below)));
        }
        let mut mirrors = family
            .members
            .values()
            .filter_map(|member| member.built_on.as_ref())
            .map(|below| repository_of(below));
        let mirror = mirrors.next()?;
        if mirrors.all(|other| other == mirror) {
            self.mirrors.get(mirror)
        } else {
            None
        }
    }
}

/// Returns the repository of a reference with a tag.
fn repository_of(image: &str) -> &str {
    image
        .rsplit_once(':')
        .map_or(image, |(repository, _)| repository)
}

/// Returns the source of an image with the image below it and its applications, and the number of
/// edges.
fn piece(
    node: &DiagramNode<'_>,
    below: Option<&DiagramNode<'_>>,
    member: &FamilyMember,
) -> (String, usize) {
    let mut limit = MAX_APPLICATIONS;
    loop {
        let drawn = draw_piece(node, below, member, limit);
        // Names can be long, because some characters are written as numeric references.
        if limit == 0 || drawn.0.chars().count() + STYLES.len() + 20 <= MAX_SOURCE_CHARS {
            return drawn;
        }
        limit /= 2;
    }
}

fn draw_piece(
    image: &DiagramNode<'_>,
    below: Option<&DiagramNode<'_>>,
    member: &FamilyMember,
    limit: usize,
) -> (String, usize) {
    let mut text = String::new();
    let mut edges = 0;
    let mut draw = |node: &DiagramNode<'_>, from: Option<&str>| {
        let (first, second) = (
            label(last_two(node.repository), MAX_LABEL_CHARS),
            label(node.version, MAX_LABEL_CHARS),
        );
        let parted = if second.is_empty() { "" } else { "<br/>" };
        let from = from.map(|from| format!("{from} --> ")).unwrap_or_default();
        edges += usize::from(!from.is_empty());
        // Writing to a string cannot fail.
        let _done = writeln!(
            text,
            "  {from}{}[\"{first}{parted}{second}\"]:::{}",
            node.id, node.class
        );
    };
    if let Some(below) = below {
        draw(below, None);
    }
    draw(image, below.map(|below| below.id.as_str()));
    // With more applications than the limit, those with the worst status are drawn.
    let mut applications: Vec<(&String, &(usize, RowStatus))> =
        member.applications.iter().collect();
    if applications.len() > limit {
        applications.sort_by_key(|(name, (_, status))| (*status, *name));
    }
    for (number, (application, (versions, status))) in applications.iter().take(limit).enumerate() {
        let version = if *versions > 1 {
            format!("{versions} versions")
        } else {
            String::new()
        };
        let id = format!("{}a{number}", image.id);
        draw(
            &DiagramNode {
                id,
                repository: application,
                version: &version,
                class: class(*status),
            },
            Some(&image.id),
        );
    }
    let rest = applications.get(limit..).unwrap_or_default();
    if let Some((_, (_, worst))) = rest.first() {
        let (id, repository) = (format!("{}more", image.id), &format!("{} more", rest.len()));
        draw(
            &DiagramNode {
                id,
                repository,
                version: "",
                class: class(*worst),
            },
            Some(&image.id),
        );
    }
    (text, edges)
}

fn class(status: RowStatus) -> &'static str {
    match status {
        RowStatus::Ok | RowStatus::Accepted => "ok",
        RowStatus::Warning | RowStatus::Expiring => "warning",
        RowStatus::Expired => "expired",
        RowStatus::Outdated => "outdated",
        RowStatus::Untracked | RowStatus::Orphan | RowStatus::Missing => "unknown",
    }
}

/// Returns the host in the name of a repository, if it starts with one.
pub(super) fn host(name: &str) -> Option<&str> {
    let (host, _) = name.split_once('/')?;
    let is_host =
        !name.starts_with("ocidir://") && (host.contains(['.', ':']) || host == "localhost");
    is_host.then_some(host)
}

/// Returns the name of a repository without its host, which is usually the same for all.
pub(super) fn without_host(name: &str) -> &str {
    let name = name.strip_prefix("ocidir://").unwrap_or(name);
    host(name).map_or(name, |host| &name[host.len() + 1..])
}

/// Returns the last two components of a repository's path, so that labels fit on one line. The
/// tables have the whole path.
fn last_two(name: &str) -> &str {
    let name = without_host(name);
    name.rmatch_indices('/')
        .nth(1)
        .map_or(name, |(slash, _)| &name[slash + 1..])
}

/// Diagrams of release cycles by their end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Timeline {
    pub(super) diagrams: Vec<Diagram>,
    /// Cycles that ended before the first year, as `product cycle`.
    pub(super) earlier: Vec<String>,
    /// First year of the diagrams.
    pub(super) from_year: i32,
}

/// Returns the timeline: from the beginning of last year, six years long.
pub(super) fn timeline(report: &StatusReport) -> Timeline {
    let from_year = report.today.year() - 1;
    let bounds = NaiveDate::from_ymd_opt(from_year, 1, 1).zip(NaiveDate::from_ymd_opt(
        from_year + 5,
        12,
        31,
    ));
    let Some((start, last)) = bounds else {
        return Timeline::default();
    };
    let mut timeline = Timeline {
        from_year,
        ..Timeline::default()
    };
    let mut bars = 0;
    for (key, users) in &report.cycles {
        if key.date < start {
            timeline
                .earlier
                .push(format!("{} {}", key.product, key.cycle));
            continue;
        }
        let section = format!("  section {}\n", task(&key.product, MAX_SECTION_CHARS));
        let bar = bar(key, *users, start, last);
        let fits = |diagram: &&mut Diagram| {
            diagram.source.chars().count() + section.chars().count() + bar.chars().count()
                <= MAX_SOURCE_CHARS
                && bars < MAX_BARS
        };
        if let Some(diagram) = timeline.diagrams.last_mut().filter(fits) {
            if diagram.about.last() != Some(&key.product) {
                diagram.about.push(key.product.clone());
                diagram.source += &section;
            }
            diagram.source += &bar;
            bars += 1;
        } else {
            let source =
                format!("gantt\n  dateFormat YYYY-MM-DD\n  axisFormat %Y-%m\n{section}{bar}");
            timeline.diagrams.push(Diagram {
                about: vec![key.product.clone()],
                source,
            });
            bars = 1;
        }
    }
    timeline
}

fn bar(key: &CycleKey, users: CycleUsers, start: NaiveDate, last: NaiveDate) -> String {
    let tag = match key.status {
        RowStatus::Expired => "crit, ",
        RowStatus::Warning => "active, ",
        RowStatus::Accepted => "done, ",
        _ => "",
    };
    let is_cut = key.product.chars().count() > MAX_SECTION_CHARS;
    let cycle = if is_cut {
        format!("{} {}", key.product, key.cycle)
    } else {
        key.cycle.clone()
    };
    let cycle = task(&cycle, MAX_LABEL_CHARS);
    // A task must not start with a Mermaid keyword.
    let prefix = if cycle.starts_with(|first: char| first.is_ascii_digit()) {
        ""
    } else {
        "· "
    };
    let count = |count: usize, of: &str| match count {
        0 => String::new(),
        1 => format!(" · 1 {of}"),
        _ => format!(" · {count} {of}s"),
    };
    let used = count(users.images, "image") + &count(users.applications, "application");
    format!(
        "  {prefix}{cycle} until {}{used} :{tag}{start}, {}\n",
        key.date,
        key.date.min(last)
    )
}
