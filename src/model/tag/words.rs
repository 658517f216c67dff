//! Tables of words in tags, each with its source.
//!
//! Words are lower case. `docs/tags.md` lists the tables for users.

/// Kind of a pre-release, from the earliest to the one closest to the release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PreReleaseKind {
    /// Build of a development branch, a commit or a change.
    Development,
    Alpha,
    Beta,
    Preview,
    Candidate,
}

use PreReleaseKind::{Alpha, Beta, Candidate, Development, Preview};

/// Words that mark a pre-release, with their kind and a project or specification that uses them.
pub const PRE_RELEASE_WORDS: &[(&str, PreReleaseKind, &str)] = &[
    (
        "snapshot",
        Development,
        "Maven: versions ending in -SNAPSHOT",
    ),
    ("nightly", Development, "rust-lang/rust: release channels"),
    ("daily", Development, "Ubuntu: daily builds"),
    ("canary", Development, "Next.js, Helm: canary builds"),
    ("develop", Development, "docker-library: eggdrop:develop"),
    (
        "devel",
        Development,
        "docker-library: bash:devel, ubuntu:devel",
    ),
    ("development", Development, "Gitflow: development branch"),
    (
        "dev",
        Development,
        "PEP 440: development releases; haproxy:3.5-dev5",
    ),
    (
        "unstable",
        Development,
        "docker-library: busybox:unstable, debian:unstable",
    ),
    (
        "experimental",
        Development,
        "docker-library: debian:experimental",
    ),
    ("testing", Development, "docker-library: debian:testing"),
    ("test", Development, "Docker Engine: test channel"),
    ("edge", Development, "docker-library: alpine:edge"),
    (
        "bleeding",
        Development,
        "Gitea, GitLab Runner: bleeding builds",
    ),
    (
        "insiders",
        Development,
        "Visual Studio Code: insiders builds",
    ),
    (
        "next",
        Development,
        "npm: dist-tag next; Gutenberg, NestJS 5.0.0-next.3",
    ),
    ("main", Development, "Git: default branch"),
    ("master", Development, "Git: default branch"),
    ("trunk", Development, "Subversion: default branch"),
    ("head", Development, "Git: HEAD; rancher:head"),
    ("tip", Development, "docker-library: golang:tip"),
    ("rawhide", Development, "docker-library: fedora:rawhide"),
    ("kitten", Development, "docker-library: almalinux:10-kitten"),
    ("sisyphus", Development, "docker-library: alt:sisyphus"),
    ("cauldron", Development, "docker-library: mageia:cauldron"),
    (
        "pr",
        Development,
        "GitHub docker/metadata-action: type=ref,event=pr",
    ),
    ("mr", Development, "GitLab: merge request images"),
    (
        "ci",
        Development,
        "semantic versions of CI builds (-ci.123)",
    ),
    ("staging", Development, "Kubernetes: staging images"),
    ("draft", Development, "IETF: drafts"),
    ("wip", Development, "Git hosts: work in progress"),
    ("dirty", Development, "git describe --dirty"),
    ("alpha", Alpha, "SemVer 2.0.0, 11"),
    ("a", Alpha, "PEP 440: 3.13.0a7"),
    ("beta", Beta, "SemVer 2.0.0, 11"),
    ("b", Beta, "PEP 440: 3.13.0b1"),
    ("milestone", Beta, "Spring: milestones"),
    ("m", Beta, "Apache TomEE: 11.0.0-M1"),
    ("preview", Preview, ".NET: 9.0.0-preview.5"),
    ("pre", Preview, "PEP 440: spelling of rc"),
    ("prerelease", Preview, "SemVer 2.0.0, 9"),
    ("ea", Preview, "OpenJDK: 27-ea-31"),
    ("eap", Preview, "JetBrains: early access program"),
    ("earlyaccess", Preview, "OpenJDK: early access"),
    ("rc", Candidate, "SemVer 2.0.0, 11"),
    ("cr", Candidate, "JBoss: 7.0.0.CR1"),
    ("c", Candidate, "PEP 440: spelling of rc"),
    ("candidate", Candidate, "Snap: channel candidate"),
];

/// Pre-release words that name a variant unless the tag starts with them: `12.4.1-devel-ubuntu22.04`
/// contains development files.
pub const LEADING_PRE_RELEASE_WORDS: &[(&str, &str)] = &[
    (
        "devel",
        "docker.io/nvidia/cuda; docker-library: archlinux:base-devel",
    ),
    ("main", "Debian: component main"),
    ("head", "Git: HEAD"),
];

/// Words between a version and a number that counts builds or repairs of this version.
pub const REVISION_WORDS: &[(&str, &str)] = &[
    (
        "r",
        "Alpine packages: 1.25.5-r0; Bitnami: 1.25.5-debian-12-r3",
    ),
    ("rev", "Conan: revisions"),
    ("revision", "Conan: revisions"),
    ("p", "OpenSSH, sudo: 9.8p1"),
    ("pl", "PHP, patch levels: 5.3pl2"),
    ("patch", "Kubernetes distributions: -patch1"),
    ("sp", "SUSE, JBoss: service packs"),
    ("u", "OpenJDK 8: 8u502; Bonita: 2026.2-u0"),
    ("update", "VMware: 7.0-update3"),
    ("post", "PEP 440: post releases"),
    ("build", "SemVer 2.0.0, 10: build metadata"),
    ("bld", "IBM: builds"),
    ("ls", "linuxserver.io: 4.0.11-ls271"),
    ("hotfix", "MinIO: hotfix builds"),
    ("security", "Grafana: 11.0.0-security-01"),
];

/// Words that add nothing to a version.
pub const NEUTRAL_WORDS: &[(&str, &str)] = &[
    ("release", "Spring: 2.7.0.RELEASE; release-1.2.0"),
    ("final", "JBoss: 7.0.0.Final"),
    ("ga", "Liferay: 7.4.3.120-ga120"),
];

/// Words directly before a version: `release-1.2.0`, `version1.2`.
pub const VERSION_WORDS: &[(&str, &str)] = &[
    ("v", "Go modules: v1.2.3"),
    ("ver", "version"),
    ("version", "linuxserver.io: version-1.2.3"),
    ("release", "release branches: release-1.2.0"),
    ("rel", "PostgreSQL: REL_16_2"),
    ("build", "continuous builds: build-1234"),
];

/// Words that name what surrounds the product, so that a number after them is their own version and
/// not that of the product: `temurin-8-lein-2.13.0`, `jdk25-noble`.
pub const ENVIRONMENT_WORDS: &[(&str, &str)] = &[
    ("alpine", "docker-library"),
    ("debian", "docker-library"),
    ("ubuntu", "docker-library"),
    ("centos", "docker-library"),
    ("fedora", "docker-library"),
    ("rockylinux", "docker-library"),
    ("rocky", "docker.io/rockylinux"),
    ("almalinux", "docker-library"),
    ("alma", "docker.io/almalinux"),
    ("oraclelinux", "docker-library"),
    ("amazonlinux", "docker-library"),
    ("al", "docker-library: amazoncorretto:8-al2023"),
    ("ubi", "registry.access.redhat.com"),
    ("rhel", "registry.access.redhat.com"),
    ("photon", "docker-library"),
    ("suse", "registry.suse.com"),
    ("sles", "registry.suse.com"),
    ("leap", "registry.opensuse.org"),
    ("bci", "registry.suse.com"),
    ("windows", "mcr.microsoft.com"),
    ("windowsservercore", "docker-library"),
    ("servercore", "mcr.microsoft.com"),
    ("nanoserver", "docker-library"),
    ("ltsc", "mcr.microsoft.com"),
    ("jdk", "docker-library"),
    ("jre", "docker-library"),
    ("java", "docker-library: flink"),
    ("openjdk", "docker-library"),
    ("temurin", "docker-library: clojure, tomcat"),
    ("corretto", "docker-library: gradle"),
    ("zulu", "docker-library: azul-zulu"),
    ("semeru", "docker-library: tomee"),
    ("graalvm", "ghcr.io/graalvm"),
    ("openj", "docker-library: open-liberty (openj9)"),
    ("php", "docker-library: wordpress"),
    ("python", "docker-library: hylang"),
    ("py", "docker.io/apache/airflow, pytorch"),
    ("node", "mcr.microsoft.com/devcontainers"),
    ("ruby", "docker.io/phusion"),
    ("golang", "docker-library"),
    ("dotnet", "mcr.microsoft.com/dotnet"),
    ("otp", "docker-library: elixir"),
    ("erlang", "docker.io/hexpm/elixir"),
    ("scala", "docker-library: flink, spark"),
    ("cuda", "docker.io/nvidia/cuda"),
    ("cudnn", "docker.io/nvidia/cuda"),
    ("rocm", "docker.io/rocm/pytorch"),
    ("pg", "docker.io/timescale/timescaledb-ha"),
    ("k8s", "docker.io/bitnami/kubectl"),
    ("and", "docker-library: gradle:jdk-25-and-26"),
];

/// Processor architectures, which have digits but no version.
pub const ARCHITECTURE_WORDS: &[(&str, &str)] = &[
    ("amd64", "OCI image-spec"),
    ("arm64", "OCI image-spec"),
    ("arm64v8", "docker-library"),
    ("arm32v7", "docker-library"),
    ("arm32v6", "docker-library"),
    ("armv7", "OCI image-spec"),
    ("armv6", "OCI image-spec"),
    ("armv8", "OCI image-spec"),
    ("aarch64", "GNU"),
    ("x64", "Microsoft"),
    ("x86", "Intel"),
    ("i386", "docker-library"),
    ("i686", "GNU"),
    ("ppc64le", "OCI image-spec"),
    ("s390x", "OCI image-spec"),
    ("riscv64", "OCI image-spec"),
    ("mips64le", "docker-library"),
];

/// Code names of distributions and runtimes: product, version, name. A greater version is newer.
///
/// Sources: wiki.debian.org/DebianReleases, wiki.ubuntu.com/Releases, nodejs/Release.
pub const CODE_NAMES: &[(&str, &str, &str)] = &[
    ("debian", "7", "wheezy"),
    ("debian", "8", "jessie"),
    ("debian", "9", "stretch"),
    ("debian", "10", "buster"),
    ("debian", "11", "bullseye"),
    ("debian", "12", "bookworm"),
    ("debian", "13", "trixie"),
    ("debian", "14", "forky"),
    ("debian", "15", "duke"),
    ("ubuntu", "12.04", "precise"),
    ("ubuntu", "14.04", "trusty"),
    ("ubuntu", "16.04", "xenial"),
    ("ubuntu", "17.10", "artful"),
    ("ubuntu", "18.04", "bionic"),
    ("ubuntu", "18.10", "cosmic"),
    ("ubuntu", "19.04", "disco"),
    ("ubuntu", "19.10", "eoan"),
    ("ubuntu", "20.04", "focal"),
    ("ubuntu", "20.10", "groovy"),
    ("ubuntu", "21.04", "hirsute"),
    ("ubuntu", "21.10", "impish"),
    ("ubuntu", "22.04", "jammy"),
    ("ubuntu", "22.10", "kinetic"),
    ("ubuntu", "23.04", "lunar"),
    ("ubuntu", "23.10", "mantic"),
    ("ubuntu", "24.04", "noble"),
    ("ubuntu", "24.10", "oracular"),
    ("ubuntu", "25.04", "plucky"),
    ("ubuntu", "25.10", "questing"),
    ("ubuntu", "26.04", "resolute"),
    ("ubuntu", "26.10", "stonking"),
    ("nodejs", "4", "argon"),
    ("nodejs", "6", "boron"),
    ("nodejs", "8", "carbon"),
    ("nodejs", "10", "dubnium"),
    ("nodejs", "12", "erbium"),
    ("nodejs", "14", "fermium"),
    ("nodejs", "16", "gallium"),
    ("nodejs", "18", "hydrogen"),
    ("nodejs", "20", "iron"),
    ("nodejs", "22", "jod"),
    ("nodejs", "24", "krypton"),
];

/// Suites of Debian that follow its development. As the first word of a tag they are
/// pre-releases.
pub const DEVELOPMENT_SUITES: &[(&str, &str)] = &[
    ("sid", "wiki.debian.org/DebianReleases"),
    ("forky", "wiki.debian.org/DebianReleases: testing in 2026"),
];

/// Returns the kind of pre-release that a lower-case word marks.
///
/// Single letters count only with a number; the caller decides.
pub fn pre_release_kind(word: &str) -> Option<PreReleaseKind> {
    PRE_RELEASE_WORDS
        .iter()
        .find(|(known, _, _)| *known == word)
        .map(|(_, kind, _)| *kind)
}

/// Returns the product and the version that a lower-case code name stands for.
pub fn code_name(word: &str) -> Option<(&'static str, &'static str)> {
    CODE_NAMES
        .iter()
        .find(|(_, _, name)| *name == word)
        .map(|(product, version, _)| (*product, *version))
}

pub(super) fn contains(table: &[(&str, &str)], word: &str) -> bool {
    table.iter().any(|(known, _)| *known == word)
}
