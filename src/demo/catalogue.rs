//! The upstream repositories of the sample world: names, tags and contents.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};

use super::images::{SampleFile, SampleImage, SampleLayer};
use crate::model::Platform;
use crate::model::labels;

/// An upstream repository: its images, each with its tags.
pub(super) struct UpstreamRepository {
    pub(super) name: &'static str,
    pub(super) images: Vec<(SampleImage, &'static [&'static str])>,
}

/// Version, creation date as year, month and day, and tags.
type SampleRelease = (&'static str, (i32, u32, u32), &'static [&'static str]);

const ALPINE: &[SampleRelease] = &[
    ("3.19.7", (2025, 2, 14), &["3.19.7"]),
    ("3.19.8", (2025, 7, 15), &["3.19.8", "3.19"]),
    ("3.20.6", (2025, 2, 14), &["3.20.6"]),
    ("3.20.7", (2025, 7, 15), &["3.20.7", "3.20"]),
    ("3.21.3", (2025, 2, 14), &["3.21.3"]),
    ("3.21.4", (2025, 7, 15), &["3.21.4", "3.21"]),
    ("3.22.0", (2025, 5, 30), &["3.22.0"]),
    ("3.22.1", (2025, 7, 15), &["3.22.1", "3.22", "3", "latest"]),
    ("20250801", (2025, 8, 1), &["edge"]),
];

const DEBIAN: &[SampleRelease] = &[
    ("12.10", (2025, 3, 17), &["12.10"]),
    ("12.11", (2025, 5, 19), &["12.11", "12", "bookworm"]),
    (
        "12.11-slim",
        (2025, 5, 19),
        &["12.11-slim", "bookworm-slim"],
    ),
    ("13.0", (2025, 8, 11), &["13.0", "13", "trixie", "latest"]),
    ("13.0-slim", (2025, 8, 11), &["13.0-slim", "trixie-slim"]),
];

const GOLANG: &[SampleRelease] = &[
    ("1.23.8-alpine3.21", (2025, 4, 1), &["1.23.8-alpine3.21"]),
    ("1.24.1-alpine3.21", (2025, 3, 4), &["1.24.1-alpine3.21"]),
    (
        "1.24.2-alpine3.21",
        (2025, 4, 1),
        &["1.24.2-alpine3.21", "1.24-alpine3.21", "alpine3.21"],
    ),
    ("1.24.5-alpine3.22", (2025, 7, 8), &["1.24.5-alpine3.22"]),
    (
        "1.24.6-alpine3.22",
        (2025, 8, 6),
        &["1.24.6-alpine3.22", "alpine3.22", "alpine"],
    ),
    (
        "1.24.6-bookworm",
        (2025, 8, 6),
        &["1.24.6-bookworm", "latest"],
    ),
];

pub(super) fn upstreams() -> Vec<UpstreamRepository> {
    let everywhere = [("amd64", None), ("arm64", Some("v8")), ("arm", Some("v7"))];
    let upstream = |name,
                    releases: &[SampleRelease],
                    platforms: &[(&str, Option<&str>)],
                    layers: fn(&str) -> Vec<SampleLayer>| UpstreamRepository {
        name,
        images: releases
            .iter()
            .map(|&(version, day, tags)| {
                let platforms = platforms
                    .iter()
                    .map(|&(architecture, variant)| platform(architecture, variant))
                    .collect();
                (image(name, version, day, platforms, layers(version)), tags)
            })
            .collect(),
    };
    vec![
        upstream("alpine", ALPINE, &everywhere, alpine),
        upstream("debian", DEBIAN, &everywhere[..2], debian),
        upstream("golang", GOLANG, &everywhere[..2], golang),
    ]
}

/// Returns an application built on the base image `base`, with the label `imglife.ref` that it
/// inherits from the base.
pub(super) fn application(base: &str) -> SampleImage {
    let mut layers = alpine("3.22.1");
    layers.push(layer(
        "COPY web /srv/web # buildkit",
        vec![program("srv/web", "1.0.0", 30_000)],
    ));
    let platforms = vec![platform("amd64", None), platform("arm64", Some("v8"))];
    let mut image = image("web", "1.0.0", (2025, 8, 20), platforms, layers);
    image
        .labels
        .insert(labels::OWN_REFERENCE.to_owned(), base.to_owned());
    image
}

fn platform(architecture: &str, variant: Option<&str>) -> Platform {
    Platform {
        os: "linux".to_owned(),
        architecture: architecture.to_owned(),
        variant: variant.map(str::to_owned),
        os_version: None,
    }
}

fn image(
    name: &str,
    version: &str,
    (year, month, day): (i32, u32, u32),
    platforms: Vec<Platform>,
    layers: Vec<SampleLayer>,
) -> SampleImage {
    let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    SampleImage {
        created: midnight(year, month, day),
        platforms,
        layers,
        environment: vec!["PATH=/usr/local/go/bin:/usr/local/bin:/usr/bin:/bin".to_owned()],
        command: vec!["/bin/sh".to_owned()],
        labels: BTreeMap::from([label(labels::TITLE, name), label(labels::VERSION, version)]),
    }
}

fn midnight(year: i32, month: u32, day: u32) -> DateTime<Utc> {
    NaiveDate::from_ymd_opt(year, month, day)
        .unwrap_or_default()
        .and_time(NaiveTime::MIN)
        .and_utc()
}

fn alpine(version: &str) -> Vec<SampleLayer> {
    // Patch releases share the programs of their branch.
    let branch = version
        .rsplit_once('.')
        .map_or(version, |(branch, _)| branch);
    let os_release = format!(
        "NAME=\"Alpine Linux\"\nID=alpine\nVERSION_ID={version}\nPRETTY_NAME=\"Alpine Linux v{branch}\"\n"
    );
    vec![
        layer(
            &format!("ADD alpine-minirootfs-{branch}.tar.gz / # buildkit"),
            vec![
                program("bin/busybox", branch, 12_000),
                link("bin/sh", "busybox"),
                program("lib/libc.musl.so.1", branch, 8_000),
                text(
                    "etc/passwd",
                    "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n",
                ),
                text("etc/group", "root:x:0:root\nnobody:x:65534:\n"),
            ],
        ),
        layer(
            "RUN apk upgrade # buildkit",
            vec![
                text("etc/os-release", &os_release),
                text("etc/alpine-release", &format!("{version}\n")),
            ],
        ),
    ]
}

fn debian(version: &str) -> Vec<SampleLayer> {
    let number = version.trim_end_matches("-slim");
    let major = number.split('.').next().unwrap_or(number);
    let os_release = format!(
        "NAME=\"Debian GNU/Linux\"\nID=debian\nVERSION_ID=\"{major}\"\nPRETTY_NAME=\"Debian GNU/Linux {major}\"\n"
    );
    let mut layers = vec![
        layer(
            &format!("debootstrap of Debian {major}"),
            vec![
                program("usr/bin/bash", major, 24_000),
                program("usr/bin/dpkg", major, 16_000),
                link("bin", "usr/bin"),
                link("usr/bin/sh", "bash"),
                text(
                    "etc/passwd",
                    "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
                ),
                text("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
            ],
        ),
        layer(
            "apt-get dist-upgrade",
            vec![
                text("etc/os-release", &os_release),
                text("etc/debian_version", &format!("{number}\n")),
            ],
        ),
    ];
    if version == number {
        layers.push(layer(
            "documentation",
            vec![program("usr/share/doc/all.txt", major, 20_000)],
        ));
    }
    layers
}

fn golang(version: &str) -> Vec<SampleLayer> {
    let (number, base) = version.split_once('-').unwrap_or((version, ""));
    let mut layers = match base.strip_prefix("alpine") {
        Some(branch) => alpine(
            ALPINE
                .iter()
                .map(|release| release.0)
                .rfind(|release| release.starts_with(branch))
                .unwrap_or(branch),
        ),
        None => debian("12.11-slim"),
    };
    layers.push(layer(
        &format!("COPY go{number} /usr/local/go # buildkit"),
        vec![
            text("usr/local/go/VERSION", &format!("go{number}\n")),
            program("usr/local/go/bin/go", number, 40_000),
            program("usr/local/go/bin/gofmt", number, 10_000),
        ],
    ));
    layers
}

fn layer(made_by: &str, files: Vec<SampleFile>) -> SampleLayer {
    SampleLayer {
        made_by: made_by.to_owned(),
        files,
    }
}

fn text(path: &str, content: &str) -> SampleFile {
    SampleFile::Text {
        path: path.to_owned(),
        content: content.to_owned(),
    }
}

fn program(path: &str, version: &str, size: usize) -> SampleFile {
    SampleFile::Program {
        path: path.to_owned(),
        version: version.to_owned(),
        size,
    }
}

fn link(path: &str, target: &str) -> SampleFile {
    SampleFile::Link {
        path: path.to_owned(),
        target: target.to_owned(),
    }
}
