//! What the README and the guides say to type, typed; and their links, followed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;

use super::support::endoflife::EndOfLife;
use super::support::registry::Registry;
use super::support::world::World;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A fenced block: its language, the text before it, and what is in it.
struct Block {
    language: String,
    before: String,
    text: String,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let (mut before, mut open) = (String::new(), None::<Block>);
    for line in page.lines() {
        match (line.strip_prefix("```"), open.take()) {
            (Some(""), Some(block)) => blocks.push(block),
            (Some(language), None) => {
                open = Some(Block {
                    language: language.to_owned(),
                    before: std::mem::take(&mut before),
                    text: String::new(),
                });
            }
            (_, Some(mut block)) => {
                block.text += &format!("{line}\n");
                open = Some(block);
            }
            (None, None) => before += &format!("{line}\n"),
        }
    }
    blocks
}

/// Returns a world in which `docker.io` and `registry.example.com` are registries of this machine,
/// the first with the images of the sample world, and what a configuration must say for that.
fn world(upstream: &Registry, own: &Registry, dates: &EndOfLife) -> (World, String) {
    let world = World::new().program(
        "imglife",
        &format!("exec {} \"$@\"", env!("CARGO_BIN_EXE_imglife")),
    );
    world.imglife(["demo", "sample"]).succeeds();
    let seed = format!(
        "hosts: {{ docker.io: {{ endpoint: '{}' }} }}\nsync:\n  entries:\n\
         \x20   - {{ source: 'ocidir://sample/upstream/alpine', target: docker.io/library/alpine, tag_regex: '.*' }}\n\
         \x20   - {{ source: 'ocidir://sample/upstream/debian', target: docker.io/library/debian, tag_regex: '.*' }}\n",
        upstream.url()
    );
    let world = world.file("seed.yaml", seed);
    world.imglife(["-c", "seed.yaml", "sync"]).succeeds();
    dates.product(
        "alpine-linux",
        &[("3.21", Some("2099-01-01")), ("3.22", Some("2099-06-01"))],
    );
    dates.moved("alpine", "alpine-linux");
    let surroundings = format!(
        "hosts:\n  docker.io: {{ endpoint: '{}' }}\n  registry.example.com: {{ endpoint: '{}' }}\n  registry.internal: {{ endpoint: '{}' }}\n",
        upstream.url(),
        own.url(),
        own.url()
    );
    (world, surroundings)
}

#[test]
fn what_the_readme_says_is_typed_from_top_to_bottom() {
    let (upstream, own, dates) = (Registry::plain(), Registry::plain(), EndOfLife::start());
    let (mut world, surroundings) = world(&upstream, &own, &dates);
    let surroundings = format!(
        "{surroundings}lifecycle: {{ api_url: '{}' }}\n",
        dates.address()
    );
    let demo = world.imglife(["demo"]).succeeds().stdout;
    let mut configuration = String::new();
    let mut typed = BTreeSet::new();
    for Block {
        language,
        before,
        text,
    } in blocks(&read("README.md"))
    {
        match language.as_str() {
            "mermaid" => assert!(text.starts_with("flowchart LR\n")),
            "text" => assert!(
                demo.contains(&text),
                "the demo does not print\n{text}\nbut\n{demo}"
            ),
            "yaml" if text.starts_with("include:") => {
                let component = text
                    .split("imglife-components/")
                    .nth(1)
                    .and_then(|rest| rest.split('@').next())
                    .expect("a component");
                assert!(
                    root()
                        .join(format!("ci-components/templates/{component}/template.yml"))
                        .is_file(),
                    "{component}"
                );
            }
            "yaml" => {
                configuration += &text;
                world = world.file("imglife.yaml", format!("{configuration}{surroundings}"));
            }
            "dockerfile" => {
                let path = before
                    .rsplit_once("`, a Dockerfile")
                    .and_then(|(before, _)| before.rsplit('`').next())
                    .expect("a path")
                    .to_owned();
                world = world.file(&path, text);
            }
            "sh" if text.starts_with("cargo ") => assert!(
                text.contains("cargo run --release -- demo ") && text.contains("\nmake test ")
            ),
            "sh" => {
                if text.contains("imglife register") {
                    world = application(world, &own);
                }
                world.shell(&format!("set -e\n{text}")).succeeds();
                typed.extend(text.lines().filter_map(|line| {
                    line.strip_prefix("imglife ")?
                        .split(' ')
                        .next()
                        .map(str::to_owned)
                }));
            }
            other => panic!("a block of {other}"),
        }
    }
    let typed: Vec<&str> = typed.iter().map(String::as_str).collect();
    assert_eq!(
        typed,
        [
            "--check", "build", "check", "eol", "register", "status", "sync"
        ]
    );
    let tags = |path: &str| own.stored_tags(path).into_keys().collect::<Vec<_>>();
    assert_eq!(tags("mirrors/alpine"), ["3.21.4", "3.22.0", "3.22.1"]);
    assert_eq!(tags("bases/alpine"), ["3.22.1-core1.0.0"]);
    assert!(
        fs::read_to_string(world.path("README.md"))
            .expect("a report")
            .contains("✅ OK")
    );
    let records = world
        .imglife(["app", "list", "--output", "csv"])
        .succeeds()
        .stdout;
    assert!(
        records.contains("\"registry.example.com/apps/web:1.2.0\",\"shop/web\","),
        "{records}"
    );
}

/// Returns the world as that of an application team's job, after its image was pushed.
fn application(world: World, own: &Registry) -> World {
    let (base, image) = (
        format!("{}/bases/alpine:3.22.1-core1.0.0", own.host()),
        format!("{}/apps/web:1.2.0", own.host()),
    );
    let copy = format!(
        "skopeo copy --quiet --all --src-tls-verify=false --dest-tls-verify=false docker://{base} docker://{image}"
    );
    world.shell(&copy).succeeds();
    world
        .file(
            "Dockerfile",
            "FROM registry.example.com/bases/alpine:3.22.1-core1.0.0\n",
        )
        .variable("CI_COMMIT_SHA", "4f2a9c1")
        .variable("CI_PROJECT_PATH", "shop/web")
}

#[test]
fn images_cross_an_air_gap_as_the_guide_says() {
    let (upstream, own, dates) = (Registry::plain(), Registry::plain(), EndOfLife::start());
    dates.product("debian", &[("12", Some("2099-01-01"))]);
    let (mut world, surroundings) = world(&upstream, &own, &dates);
    for Block {
        language,
        before,
        text,
    } in blocks(&read("docs/air-gap.md"))
    {
        match language.as_str() {
            "yaml" if text.starts_with("hosts:") => {
                world = world.file("hosts.yaml", text);
                world.imglife(["-c", "hosts.yaml", "--check"]).succeeds();
            }
            "yaml" => {
                let name = before
                    .trim_end()
                    .strip_suffix("`:")
                    .and_then(|before| before.rsplit('`').next())
                    .expect("a file")
                    .to_owned();
                // Only outside is somebody asked for dates.
                let lifecycle = if text.contains("eol_provider") {
                    String::new()
                } else {
                    format!("lifecycle: {{ api_url: '{}' }}\n", dates.address())
                };
                world = world.file(&name, format!("{text}{surroundings}{lifecycle}"));
            }
            "sh" => drop(world.shell(&format!("set -e\n{text}")).succeeds()),
            other => panic!("a block of {other}"),
        }
    }
    let of_upstream = upstream.stored_tags("library/debian");
    assert_eq!(
        own.stored_tags("mirrors/debian").get("bookworm-slim"),
        of_upstream.get("bookworm-slim")
    );
    assert_eq!(own.stored_tags("mirrors/alpine").len(), 5);
    let report = fs::read_to_string(world.path("README.md")).expect("a report");
    assert!(
        report.contains("| `mirrors/debian` | `bookworm-slim` |"),
        "{report}"
    );
}

/// Returns the text with what differs from day to day and from machine to machine replaced.
fn steady(text: &str, world: &World) -> String {
    let mut text = text
        .replace("\r\n", "\n")
        .replace(&world.path("").display().to_string(), "/home/me");
    for (pattern, to) in [
        (
            r"\b\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\dZ| \d\d:\d\d UTC)?",
            "DATE",
        ),
        (r"\b\d+\.\ds\b", "0.1s"),
        (r"sha256:[0-9a-f]{64}", "sha256:0123…"),
        (r"pushed [0-9a-f]{8} to", "pushed 006e8c64 to"),
        (r"imglife \d+\.\d+\.\d+", "imglife 0.1.0"),
    ] {
        text = Regex::new(pattern)
            .expect("a pattern")
            .replace_all(&text, to)
            .into_owned();
    }
    text
}

/// Returns what the lines of an example stand for: `…` alone for any lines, at the end of a line
/// for the rest of it.
fn pattern(lines: &str) -> Regex {
    let mut pattern = String::from("^");
    for line in lines.lines() {
        pattern += &match line.strip_suffix('…') {
            Some("") => "(?s:.*)".to_owned(),
            Some(beginning) => format!("{}[^\n]*\n", regex::escape(beginning)),
            None => format!("{}\n", regex::escape(line)),
        };
    }
    Regex::new(&(pattern + "$")).expect("a pattern")
}

#[test]
fn every_command_is_shown_with_what_it_prints() {
    let world = World::new().program(
        "imglife",
        &format!("exec {} \"$@\"", env!("CARGO_BIN_EXE_imglife")),
    );
    world.imglife(["demo", "world"]).succeeds();
    let checkout = "git init -q --bare -b main origin.git && cd world && git init -q -b main && git remote add origin ../origin.git \
                    && git config user.name me && git config user.email me@example.com && git add imglife.yaml images \
                    && git commit -q -m one && git push -q origin main";
    world.shell(checkout).succeeds();
    let page = read("docs/commands.md");
    let mut typed = BTreeSet::new();
    for Block { text, .. } in blocks(&page)
        .into_iter()
        .filter(|block| block.language == "console")
    {
        for example in text.split("$ imglife ").skip(1) {
            let (line, expected) = example.split_once('\n').expect("a line");
            let (expected, code) = match expected.split_once("exit code ") {
                Some((expected, code)) => (expected, code.trim().parse().expect("a number")),
                None => (expected, 0),
            };
            let outcome = world
                .shell(&format!("cd world && imglife --no-progress {line}"))
                .exits(code);
            let (printed, expected) = (steady(&outcome.stdout, &world), steady(expected, &world));
            assert!(
                pattern(&expected).is_match(&printed),
                "`imglife {line}` should print\n{expected}\nand prints\n{printed}"
            );
            typed.insert(line.split(' ').next().expect("a word").to_owned());
        }
    }
    let help = world.imglife(["--help"]).succeeds().stdout;
    let list = help
        .split("Commands:\n")
        .nth(1)
        .and_then(|rest| rest.split("\n\n").next())
        .expect("a list of commands");
    let commands: BTreeSet<String> = list
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect();
    assert_eq!(typed, commands);
    for command in &commands {
        assert!(
            page.contains(&format!("\n## imglife {command}\n")),
            "there is no part about `{command}`"
        );
    }
}

#[test]
fn every_page_is_found_from_the_readme() {
    let (mut found, mut open) = (BTreeSet::new(), vec![root().join("README.md")]);
    while let Some(page) = open.pop() {
        let text = fs::read_to_string(&page).expect("a page");
        for link in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split([')', '#']).next())
            .filter(|link| link.ends_with(".md"))
        {
            let Ok(path) = page
                .parent()
                .expect("a directory")
                .join(link)
                .canonicalize()
            else {
                continue;
            };
            if found.insert(path.clone()) {
                open.push(path);
            }
        }
    }
    let hidden: Vec<PathBuf> = pages()
        .into_iter()
        // Decisions are found by their directory, and what examples and templates hold belongs to
        // them.
        .filter(|page| {
            ["docs/decisions", "examples", "templates"]
                .iter()
                .all(|directory| !page.starts_with(root().join(directory)))
        })
        .filter(|page| {
            !found.contains(&page.canonicalize().expect("a path"))
                && *page != root().join("README.md")
        })
        .collect();
    assert!(hidden.is_empty(), "nothing leads to {hidden:?}");
}

/// Returns every page of the project that people read.
fn pages() -> Vec<PathBuf> {
    let mut pages = Vec::new();
    let mut open = vec![root().to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if path.is_dir()
                && !name.starts_with('.')
                && !["target", "src", "tests"].contains(&name.as_str())
            {
                open.push(path);
            } else if name.ends_with(".md") {
                pages.push(path);
            }
        }
    }
    pages
}

/// Returns the anchor that GitLab and Gitea give a heading.
fn anchor_of(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    text.chars()
        .filter_map(|character| match character {
            ' ' => Some('-'),
            character if character.is_alphanumeric() || matches!(character, '-' | '_') => {
                Some(character)
            }
            _ => None,
        })
        .collect()
}

#[test]
fn links_between_pages_lead_somewhere() {
    let mut followed = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).expect("a page");
        for link in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let (path, anchor) = link
                .split_once('#')
                .map_or((link, None), |(path, anchor)| (path, Some(anchor)));
            if path.contains("://") || path.starts_with("mailto:") || path.contains(' ') {
                continue;
            }
            let target = if path.is_empty() {
                page.clone()
            } else {
                page.parent().expect("a directory").join(path)
            };
            assert!(target.exists(), "{}: {link}", page.display());
            if let Some(anchor) = anchor {
                let text = fs::read_to_string(&target).expect("a page");
                let headings = text
                    .lines()
                    .filter(|line| line.starts_with('#'))
                    .map(anchor_of);
                assert!(
                    headings
                        .collect::<Vec<_>>()
                        .iter()
                        .any(|heading| heading == anchor),
                    "{}: {link}",
                    page.display()
                );
            }
            followed += 1;
        }
    }
    assert!(followed > 30, "{followed}");
}
