//! The pictures of the report, in Mermaid: what stands on what, and what ends when.
//!
//! Gitea's older versions draw no source of more than 5,000 characters, and Mermaid itself stops at
//! 500 edges: what is larger is parted.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use chrono::{Datelike, NaiveDate};

use super::plan::{CycleKey, Family, Member, StatusReport, Users, Verdict};
use crate::model::TagVersion;
use crate::report::markdown::{label, task};

/// The longest source, in characters.
const LONGEST: usize = 4_800;
/// The most edges of one picture; far more than anybody reads.
const MOST_EDGES: usize = 120;
/// Applications that are drawn on one image; the others are counted.
const MOST_APPLICATIONS: usize = 8;
/// The most bars of one picture.
const MOST_BARS: usize = 40;
/// The longest line of a label, in characters.
const LONGEST_LABEL: usize = 36;

/// The longest name of a section that does not run into the bars, in characters.
const LONGEST_SECTION: usize = 12;

/// A picture, and what it shows in a few words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Diagram {
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

/// An image in a picture: the same one whoever stands on it.
struct Node<'a> {
    id: String,
    repository: &'a str,
    version: &'a str,
    class: &'static str,
}

/// Returns the pictures of what stands on what, in the order of the bases.
pub(super) fn lineage(report: &StatusReport) -> Vec<Diagram> {
    let nodes = Nodes::of(report);
    let mut diagrams: Vec<(Diagram, usize)> = Vec::new();
    for (name, family) in &report.families {
        let mut members: Vec<(&String, &Member)> = family.members.iter().collect();
        members.sort_by_cached_key(|(version, _)| std::cmp::Reverse(TagVersion::of(version)));
        for (version, member) in members {
            let Some(node) = nodes.images.get(&format!("{name}:{version}")) else {
                continue;
            };
            let (piece, edges) = piece(node, nodes.below(family, member), member);
            let fits = |(diagram, drawn): &&mut (Diagram, usize)| {
                diagram.source.chars().count() + piece.chars().count() + STYLES.len() <= LONGEST
                    && *drawn + edges <= MOST_EDGES
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

/// The images that others stand on.
struct Nodes<'a> {
    /// By repository and version.
    images: BTreeMap<String, Node<'a>>,
    /// Mirrors by repository: which of its versions a base stands on is told by the base's own.
    mirrors: BTreeMap<&'a str, Node<'a>>,
}

impl<'a> Nodes<'a> {
    fn of(report: &'a StatusReport) -> Nodes<'a> {
        let mut nodes = Nodes {
            images: BTreeMap::new(),
            mirrors: BTreeMap::new(),
        };
        for (number, (repository, family)) in report.families.iter().enumerate() {
            for (position, (version, member)) in family.members.iter().enumerate() {
                let node = Node {
                    id: format!("f{number}m{position}"),
                    repository,
                    version,
                    class: class(member.verdict),
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
                nodes.mirrors.entry(repository).or_insert(Node {
                    id,
                    repository,
                    version: "",
                    class: "mirror",
                });
            }
        }
        nodes
    }

    /// Returns what a member of a family stands on. The mirror of all that are built now is that of
    /// the older ones too.
    fn below(&self, family: &Family, member: &Member) -> Option<&Node<'a>> {
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

/// Returns the repository of an image that is named with its tag.
fn repository_of(image: &str) -> &str {
    image
        .rsplit_once(':')
        .map_or(image, |(repository, _)| repository)
}

/// Returns an image with what it stands on and what stands on it, and the number of edges.
fn piece(node: &Node<'_>, below: Option<&Node<'_>>, member: &Member) -> (String, usize) {
    let mut most = MOST_APPLICATIONS;
    loop {
        let drawn = drawn(node, below, member, most);
        // Names of many characters that must be written as numbers.
        if most == 0 || drawn.0.chars().count() + STYLES.len() + 20 <= LONGEST {
            return drawn;
        }
        most /= 2;
    }
}

fn drawn(
    image: &Node<'_>,
    below: Option<&Node<'_>>,
    member: &Member,
    most: usize,
) -> (String, usize) {
    let mut text = String::new();
    let mut edges = 0;
    let mut draw = |node: &Node<'_>, from: Option<&str>| {
        let (first, second) = (
            label(last_two(node.repository), LONGEST_LABEL),
            label(node.version, LONGEST_LABEL),
        );
        let parted = if second.is_empty() { "" } else { "<br/>" };
        let from = from.map(|from| format!("{from} --> ")).unwrap_or_default();
        edges += usize::from(!from.is_empty());
        // Writing to a string does not fail.
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
    // When not all have a place, those that need attention have one.
    let mut applications: Vec<(&String, &(usize, Verdict))> = member.applications.iter().collect();
    if applications.len() > most {
        applications.sort_by_key(|(name, (_, verdict))| (*verdict, *name));
    }
    for (number, (application, (versions, verdict))) in applications.iter().take(most).enumerate() {
        let version = if *versions > 1 {
            format!("{versions} versions")
        } else {
            String::new()
        };
        let id = format!("{}a{number}", image.id);
        draw(
            &Node {
                id,
                repository: application,
                version: &version,
                class: class(*verdict),
            },
            Some(&image.id),
        );
    }
    let rest = applications.get(most..).unwrap_or_default();
    if let Some((_, (_, worst))) = rest.first() {
        let (id, repository) = (format!("{}more", image.id), &format!("{} more", rest.len()));
        draw(
            &Node {
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

fn class(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Ok | Verdict::Accepted => "ok",
        Verdict::Warning | Verdict::Expiring => "warning",
        Verdict::Expired => "expired",
        Verdict::Outdated => "outdated",
        Verdict::Untracked | Verdict::Orphan | Verdict::Missing => "unknown",
    }
}

/// Returns the host that a repository is at, when its name begins with one.
pub(super) fn host(name: &str) -> Option<&str> {
    let (host, _) = name.split_once('/')?;
    let is_host =
        !name.starts_with("ocidir://") && (host.contains(['.', ':']) || host == "localhost");
    is_host.then_some(host)
}

/// Returns a repository without its host, which all have in common most of the time.
pub(super) fn without_host(name: &str) -> &str {
    let name = name.strip_prefix("ocidir://").unwrap_or(name);
    host(name).map_or(name, |host| &name[host.len() + 1..])
}

/// Returns the last two parts of a repository's path: more breaks lines, and the tables have it
/// whole.
fn last_two(name: &str) -> &str {
    let name = without_host(name);
    name.rmatch_indices('/')
        .nth(1)
        .map_or(name, |(slash, _)| &name[slash + 1..])
}

/// What ends when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Timeline {
    pub(super) diagrams: Vec<Diagram>,
    /// What ended before the pictures begin, by product and cycle.
    pub(super) earlier: Vec<String>,
    /// The year that they begin with.
    pub(super) from_year: i32,
}

/// Returns the pictures of what ends when: from the year before on, five years ahead.
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
        let section = format!("  section {}\n", task(&key.product, LONGEST_SECTION));
        let bar = bar(key, *users, start, last);
        let fits = |diagram: &&mut Diagram| {
            diagram.source.chars().count() + section.chars().count() + bar.chars().count()
                <= LONGEST
                && bars < MOST_BARS
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

fn bar(key: &CycleKey, users: Users, start: NaiveDate, last: NaiveDate) -> String {
    let tag = match key.verdict {
        Verdict::Expired => "crit, ",
        Verdict::Warning => "active, ",
        Verdict::Accepted => "done, ",
        _ => "",
    };
    let is_cut = key.product.chars().count() > LONGEST_SECTION;
    let cycle = if is_cut {
        format!("{} {}", key.product, key.cycle)
    } else {
        key.cycle.clone()
    };
    let cycle = task(&cycle, LONGEST_LABEL);
    // A task must not begin with a word of the language.
    let guard = if cycle.starts_with(|first: char| first.is_ascii_digit()) {
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
        "  {guard}{cycle} until {}{used} :{tag}{start}, {}\n",
        key.date,
        key.date.min(last)
    )
}
