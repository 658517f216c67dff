//! Tests with real spellings. Where a tag comes from is named beside it.

use std::cmp::Ordering;

use chrono::{DateTime, Utc};
use proptest::prelude::*;

use super::words::{
    ARCHITECTURE_WORDS, CODE_NAMES, ENVIRONMENT_WORDS, LEADING_PRE_RELEASE_WORDS, NEUTRAL_WORDS,
    PRE_RELEASE_WORDS, REVISION_WORDS, VERSION_WORDS,
};
use super::*;

/// Tags from old to new, one chain a line, with the publisher.
const CHAINS: &[(&str, &str)] = &[
    (
        "semver.org, 11",
        "1.0.0-alpha 1.0.0-alpha.1 1.0.0-alpha.beta 1.0.0-beta 1.0.0-beta.2 1.0.0-beta.11 1.0.0-rc.1 1.0.0",
    ),
    (
        "semver.org, 11",
        "1.0.0-rc.1 1.0.0-rc.1b 1.0.0 1.0.1 1.1.0 2.0.0",
    ),
    (
        "alpine",
        "edge latest 20250108 20260805 3 3.9 3.9.6 3.21 3.21.7 3.22.5 3.23.5 3.24 3.24.1",
    ),
    (
        "python",
        "3.13.0a7 3.13.0b1 3.13.0b4 3.13.0rc1 3.13.0rc3 3.13.0 3.13.15-bookworm 3.13.15-trixie 3.13.15-windowsservercore-ltsc2022 3.13.15-windowsservercore-ltsc2025 3.13.15-windowsservercore 3.13.15 3.14.7 3.15.0a1 3.15.0b4 3.15-rc 3.15.0rc1",
    ),
    (
        "python",
        "3.15.0rc1-alpine3.23 3.15.0rc1-alpine3.24 3.15.0rc1-alpine 3.15.0rc1-bookworm 3.15.0rc1-trixie 3.15.0rc1",
    ),
    (
        "php",
        "8.5.9 8.5.10RC1-cli-alpine3.24 8.5.10RC1-cli 8.5.10RC1 8.6.0alpha3 8.6.0beta1-cli 8.6.0beta1 8.6.0RC1 8.6.0",
    ),
    (
        "php",
        "8.4.2-fpm-alpine3.20 8.4.2-fpm-alpine3.21 8.4.2-fpm-alpine 8.4.2-fpm-bookworm 8.4.2-fpm 8.4.2",
    ),
    (
        "node",
        "22.23.2-alpine 22.23.2 24.19.0-bookworm-slim 24.19.0-bookworm 24.19.0-slim 24.19.0 26.7-alpine3.23 26.7.0-alpine3.23 26.7-alpine3.24 26.7.0-alpine3.24 26.7.0-bullseye 26.7.0-bookworm 26.7.0-trixie 26.7.0",
    ),
    (
        "node",
        "argon-alpine boron-alpine dubnium-alpine hydrogen-alpine iron-alpine jod-alpine krypton-alpine",
    ),
    (
        "postgres",
        "17.11-alpine3.23 17.11 18.6-bookworm 18.6-trixie 18.6 19beta2 19beta3-alpine3.23 19beta3-alpine3.24 19beta3-bookworm 19beta3-trixie 19beta3 19rc1 19.0",
    ),
    (
        "mariadb",
        "12.3.2-ubi10 12.3.2 13.0.1-ubi10-rc 13.0.1-ubi-rc 13.0.1-resolute-rc 13.0.1-rc 13.0.1-ubi 13.0.1",
    ),
    (
        "groovy",
        "5.1.0 6.0.0-alpha-1 6.0.0-beta-2-jdk17 6.0.0-beta-2-jdk21 6.0.0-beta-2-jdk 6.0.0-beta-2 6.0.0-beta-10 6.0.0-rc-1 6.0.0",
    ),
    (
        "maven",
        "3.9.16-eclipse-temurin-11-alpine 3.9.16-eclipse-temurin-11 3.9.16-eclipse-temurin-17 3.9.16-eclipse-temurin-25 4.0.0-rc-4-eclipse-temurin-25 4.0.0-rc-5-eclipse-temurin-17 4.0.0-rc-5-eclipse-temurin-21 4.0.0-eclipse-temurin-17",
    ),
    (
        "tomee",
        "10.1.5-jre25-Temurin 11.0.0-M1-jre21-Temurin 11.0.0-M1-jre25-Temurin 11.0.0-M1 11.0.0-M2 11.0.0",
    ),
    (
        "haproxy",
        "3.4.3-alpine3.24 3.4.3 3.5-dev 3.5-dev4 3.5-dev5-alpine 3.5-dev5-trixie 3.5-dev5 3.5-dev10 3.5.0",
    ),
    (
        "dart",
        "3.13.1-sdk 3.13.1 3.14.0-95.1.beta-sdk 3.14.0-95.2.beta-sdk 3.14.0-95.2.beta 3.14.0-200.1.beta 3.14.0",
    ),
    (
        "eclipse-temurin",
        "8u492-b09-jdk 8u502-b06-jdk 8u502-b07-jdk-alpine-3.21 8u502-b07-jdk-alpine-3.24 8u502-b07-jdk-alpine 8u502-b07-jdk-jammy 8u502-b07-jdk-noble 8u502-b07-jdk 11.0.28_6-jdk 17.0.16_8-jre 21.0.5_9-jre 21.0.5_11-jre 21.0.5_11 21.0.8_9",
    ),
    (
        "amazoncorretto",
        "8u452-al2 8u504-al2 8u504-al2023 8u504 11.0.28 17.0.16-al2023 17.0.16 21.0.8 26.0.2",
    ),
    (
        "openjdk",
        "26-ea-9 26-ea-35-jdk-slim 26-ea-35-jdk 26-ea-35 26-rc-jdk 26-rc 27-ea-9-jdk 27-ea-31-jdk 27-ea-31",
    ),
    (
        "azul-zulu",
        "8.94-8.0.492-jdk-alpine3.23 8.96-8.0.504-jdk-almalinux10 8.96-8.0.504-jdk-alpine3.23 8.96-8.0.504-jdk",
    ),
    (
        "ibm-semeru-runtimes",
        "open-8.0.502.0-jdk-jammy open-8.0.502.0-jdk-noble open-8.0.502.0-jdk open-11.0.32.0-jdk-jammy open-11.0.32.0-jdk open-26.0.2.0-jdk",
    ),
    (
        "erlang",
        "26.2.5.9 26.2.5.21-slim 26.2.5.21 27.3.4.16 28.5.0.5 29 29.0.5-alpine 29.0.5.0-alpine 29.0.5-slim 29.0.5.0-slim 29.0.5 29.0.5.0",
    ),
    (
        "elixir",
        "1.19.5-otp-28 1.20.3-otp-27-alpine 1.20.3-otp-27 1.20.3-otp-28-alpine 1.20.3-otp-28 1.20.3-otp-29 1.20.3-slim 1.20.3",
    ),
    (
        "pypy",
        "3.10-7.3.19-slim 3.10-7.3.19 3.11-7.3.19 3.11-7.3.23-trixie 3.11-7.3.23-slim 3.11-7.3.23",
    ),
    (
        "percona",
        "8.0.46-36-centos 8.0.46-36 8.0.46-37-centos 8.0.46-37",
    ),
    ("varnish", "6.0.18-1 8.0.2-1 9.0.3-3 9.0.3-4 9.0.3-10"),
    (
        "aerospike",
        "ee-8.1.2.4 ee-8.1.2.4_1 ee-8.1.2.4_2 ee-8.1.3.0",
    ),
    (
        "couchbase",
        "community-7.2.4 enterprise-7.2.9 7.2.9 enterprise-7.6.9 enterprise-7.6.10 enterprise-7.6.12 7.6.12 community-8.0.2 enterprise-8.0.2 8.0.2",
    ),
    (
        "ubuntu",
        "devel latest rolling bionic focal jammy noble resolute jammy-20260101 jammy-20260810 resolute-20260811 resolute-20260811.1 22.04 24.04 26.04 26.10",
    ),
    (
        "debian",
        "experimental testing unstable oldstable stable stretch-slim buster-slim bullseye-slim bookworm-slim trixie-slim bookworm-20260701-slim bookworm-20260803-slim 11 11.11-slim 11.11 12 12.15-slim 12.15 13.6",
    ),
    (
        "almalinux",
        "8.10-20260602 9.8-minimal-20260501 9.8-minimal-20260602 9.8 9.8-20260602 10-kitten-minimal-20260602 10-kitten 10-kitten-20260602 10.2-minimal 10.2 10.2-20260602",
    ),
    (
        "rockylinux",
        "8.9.20231119 9.2.20230513 9.3.20231119-minimal 9.3.20231119",
    ),
    (
        "amazonlinux",
        "2 2.0.20250101.0 2.0.20260817.0 2023.11.20260801.0 2023.12.20260817.0",
    ),
    (
        "odoo",
        "17.0-20260817 18.0-20260817 19.0 19.0-20260701 19.0-20260817",
    ),
    ("photon", "3.0-20250316 4.0-20260614 5.0-20260727"),
    (
        "archlinux",
        "base base-20260816.0.574111 base-20260823.0.576000",
    ),
    (
        "golang",
        "tip-20260801 tip-20260815 1.26.7-nanoserver-ltsc2022 1.26.7-nanoserver-ltsc2025 1.26.7-nanoserver 1.26.7 1.27rc1-alpine3.22 1.27rc1 1.27rc2 1.27.0-alpine3.23 1.27.0-alpine3.24 1.27.0-alpine 1.27.0-bookworm 1.27.0-trixie 1.27.0",
    ),
    (
        "bash",
        "devel devel-20260817 4.4.23 5.0.18 5.2.37-alpine3.22 5.2.37 5.3-alpha 5.3-rc1 5.3.15",
    ),
    (
        "friendica",
        "2026.01-fpm 2026.01 2026.05-apache 2026.05 2026.08-dev-apache 2026.08-dev 2026.08-rc-apache 2026.08-rc 2026.08",
    ),
    (
        "monica",
        "4.1.2-fpm 4.1.2 5.0.0-beta-fpm 5.0.0-beta.5-fpm-alpine 5.0.0-beta.5-fpm 5.0.0-beta.10-fpm 5.0.0-fpm",
    ),
    (
        "cassandra",
        "4.1.12 5.0.9-trixie 5.0.9 6.0-alpha1 6.0-alpha2-trixie 6.0-alpha2 6.0-beta1 6.0",
    ),
    (
        "drupal",
        "11.3.2-php8.4 11.4.5-php8.4-fpm-alpine3.23 11.4.5-php8.4-fpm-alpine3.24 11.4.5-php8.4-fpm 11.4.5-php8.4 11.4.5-php8.5 11.4.5",
    ),
    (
        "gradle",
        "9.6.0 9.7.1-jdk17 9.7.1-jdk21 9.7.1-jdk25 9.7.1-jdk 9.7.1",
    ),
    (
        "flink",
        "2.2.1-java17 2.3.0-java11 2.3.0-java17 2.3.0-java21 2.3.0-scala_2.12-java17 2.3.0-scala_2.12-java21 2.3.0-scala_2.12 2.3.0",
    ),
    (
        "spark",
        "3.5.8-scala2.12-java17-python3-ubuntu 4.1.2-scala2.12-java17 4.1.2-scala2.13-java17-python3-ubuntu 4.1.2-scala2.13-java21-python3-ubuntu 4.1.2",
    ),
    (
        "clojure",
        "temurin-8-tools-deps-1.12.4.1618 temurin-21-tools-deps-1.12.5.1664-bookworm temurin-21-tools-deps-1.12.5.1664",
    ),
    (
        "fluentd",
        "v1.18.0-debian-1.4 v1.19.3-debian-1.0 v1.19.3-debian-1.1 v1.19.3-debian-2.0 v1.19.3 v1.19.3-1.0",
    ),
    ("openjdk 8", "8u332 8u342-jdk 8u342 8u402 9"),
    (
        "redis",
        "7-alpine 7.4.9-alpine 7.4.9 8.0-M02 8.0-M04 8.0-rc1 8.0.0 8.10.1-alpine 8.10.1",
    ),
    (
        "traefik",
        "2.11.30 v3.7.10 v3.7.11-nanoserver-ltsc2022 v3.7.11",
    ),
    (
        "mysql",
        "5.7.44 8.0.46 8.4.11-oraclelinux9 8.4.11 9.7.2 26.7.0-oracle 26.7.0",
    ),
    (
        "swift",
        "6.3.3-amazonlinux2-slim 6.3.3-amazonlinux2 6.3.3-amazonlinux2023-slim 6.3.3-amazonlinux2023 6.3.3-bookworm 6.3.3-jammy 6.3.3-noble 6.3.3",
    ),
    (
        "zookeeper",
        "3.8.6-jre-17 3.8.6 3.9.5-jre-11 3.9.5-jre-17 3.9.5",
    ),
    ("orientdb", "3.1.20-tp3 3.1.20 3.2.55-tp2 3.2.55-tp3 3.2.55"),
    ("alt", "p9 p10 p11"),
    ("bonita", "2025.2-u5 2026.2-u0 2026.2-u1 2026.2-u10"),
    (
        "docker",
        "29.6.0 29.7.0-rc.1-dind 29.7.0-rc.1 29.7.0-rc.2 29.7.2-cli-alpine3.24 29.7.2-cli 29.7.2-dind-rootless 29.7.2-dind 29.7.2",
    ),
    (
        "sonarqube",
        "9.9.8-community 2025.1.8-developer 2026.1.5-developer 2026.4.1-datacenter-app 2026.4.1-datacenter-search 2026.4.1-developer 2026.4.1-enterprise",
    ),
    (
        "mcr.microsoft.com/dotnet/sdk",
        "8.0.404-bookworm-slim 9.0.100-preview.5.24306.7 9.0.100-preview.7.24407.12-alpine3.20 9.0.100-rc.1.24452.12 9.0.100-rc.2.24474.11 9.0.100-alpine3.20 9.0.100",
    ),
    (
        "mcr.microsoft.com/windows/servercore",
        "ltsc2019-amd64 ltsc2022-amd64 ltsc2025-amd64",
    ),
    (
        "containers/skopeo#907",
        "v3.10.9 v3.11.0-0.dev-9-g1234567 v3.11.0-0.dev-44-gb88dacb v3.11.0-0.dev-57-g0507726 v3.11.0 v3.11.1",
    ),
    (
        "git describe",
        "v1.2.2 v1.2.3-3-gabc1234 v1.2.3-12-gabc1235 v1.2.3",
    ),
    (
        "go.dev/ref/mod pseudo versions",
        "v1.2.3 v1.2.4-0.20240102150405-abcdef123456 v1.2.4-0.20250102150405-abcdef123456 v1.2.4",
    ),
    (
        "go.dev/ref/mod pseudo versions",
        "v0.0.0-20240102150405-abcdef123456 v0.0.0-20250102150405-abcdef123456 v0.0.0 v0.1.0",
    ),
    (
        "docker.elastic.co",
        "8.14.3 8.15.0-5f2c1ab7-SNAPSHOT 8.15.0-SNAPSHOT 8.15.0",
    ),
    (
        "docker.elastic.co",
        "8.15.0-SNAPSHOT-ab12cd3 8.15.0-SNAPSHOT 8.15.0",
    ),
    (
        "apache/airflow",
        "slim-2.9.3-python3.12 slim-2.10.2rc1-python3.12 slim-2.10.2-python3.11 slim-2.10.2-python3.12 slim-2.10.2",
    ),
    (
        "apache/airflow",
        "2.10.1 2.10.2rc1-python3.11 2.10.2rc1-python3.12 2.10.2rc1 2.10.2-python3.12 2.10.2",
    ),
    (
        "bitnami",
        "1.25.5-debian-11-r9 1.25.5-debian-12-r3 1.25.5-debian-12-r10 1.25.5 1.25.5-r0 1.25.5-r9 1.25.5-r10",
    ),
    (
        "kubernetes-sigs",
        "release-1.1.9 release-1.2.0-alpha.1 release-1.2.0-rc1 release-1.2.0",
    ),
    (
        "k8s.gcr.io",
        "v20240401-1234abc v20240501-abcdef0 v20240601-0abcdef v1.29.0-alpha.3 v1.29.0-rc.2 v1.29.0",
    ),
    (
        "public.ecr.aws/eks-distro",
        "v1.27.5-eks-1-27-14 v1.27.6-eks-1-27-9 v1.27.6-eks-1-27-14 v1.27.6",
    ),
    (
        "rancher/k3s",
        "v1.30.4-k3s1 v1.30.5-rc1-k3s1 v1.30.5-k3s1 v1.30.5-k3s2 v1.30.5",
    ),
    (
        "minio/minio",
        "RELEASE.2023-12-31T23-59-59Z RELEASE.2024-05-10T01-41-38Z-cpuv1 RELEASE.2024-05-10T01-41-38Z RELEASE.2024-05-10T02-00-00Z RELEASE.2024-06-01T00-00-00Z",
    ),
    (
        "linuxserver",
        "4.0.10-ls9 4.0.11 4.0.11-ls100 4.0.11-ls271 4.0.12-ls1",
    ),
    (
        "linuxserver",
        "amd64-4.0.11-ls100 arm64v8-4.0.11-ls100 4.0.11-ls100",
    ),
    (
        "gitlab/gitlab-ce",
        "17.0.0-rc42-ce.0 17.0.0-ce.0 17.0.1-ce.0 17.10.2-ce.0 17.10.2-ce.1",
    ),
    (
        "gitlab/gitlab-runner",
        "bleeding alpine alpine3.18-v17.6.0 alpine3.19-v17.6.0 alpine-v17.6.0 ubuntu-v17.6.0 v17.6.0 alpine-v17.10.0",
    ),
    (
        "nvidia/cuda",
        "12.4.0-devel-ubuntu22.04 12.4.1-base-ubuntu22.04 12.4.1-cudnn-devel-ubuntu22.04 12.4.1-devel-ubuntu22.04 12.4.1-runtime-ubi8 12.4.1-runtime-ubi9",
    ),
    (
        "quay.io/keycloak",
        "nightly 25.0.6 26.0.0-1 26.0.5-0 26.0.5-1 26.0.7",
    ),
    (
        "jboss",
        "7.0.0.Alpha1 7.0.0.Beta2 7.0.0.CR1 7.0.0.CR2 7.0.0.Final 7.0.1.Final",
    ),
    (
        "spring",
        "2.7.0-SNAPSHOT 2.7.0-M1 2.7.0-RC1-SNAPSHOT 2.7.0-RC1 2.7.0.RELEASE 2.7.1.RELEASE",
    ),
    (
        "PEP 440",
        "1.0.dev1 1.0a1 1.0b2 1.0rc1 1.0 1.0.post1 1.0.post2 1.1",
    ),
    ("OpenSSH", "9.7p1 9.8p1 9.8p2 9.9"),
    (
        "OpenSSL",
        "1.0.2u 1.1.1 1.1.1a 1.1.1k 1.1.1w 3.0.0-alpha17 3.0.0-beta2 3.0.0",
    ),
    (
        "NestJS",
        "4.6.6 5.0.0-next.3 5.0.0-next.10 5.0.0-beta.6 5.0.0",
    ),
    (
        "JetBrains",
        "2024.3-EAP01 2024.3-EAP02 2024.3 2024.3.1 2025.1",
    ),
    (
        "homeassistant",
        "2024.11.3 2024.12.0b0 2024.12.0b10 2024.12.0 2024.12.5 2025.1.0",
    ),
    (
        "grafana",
        "10.4.2-ubuntu 10.4.2 11.0.0-preview 11.0.0 11.0.0-security-01 11.0.1",
    ),
    (
        "ghcr.io/cloudnative-pg",
        "16.2-3-bookworm 16.2-3 16.2-10-bookworm 16.2-10 16.3-1",
    ),
    ("flux", "main-abc1234-1690000000 main-def5678-1699999999"),
    ("docker/metadata-action", "pr-12 pr-123 sha-1234abc v1.0.0"),
    (
        "calico",
        "v3.28.0-0.dev v3.28.0-0.dev-12-g0123456789ab v3.28.0-rc1 v3.28.0",
    ),
    ("timescale", "pg15-ts2.14 pg16-ts2.14 pg16-ts2.15"),
    (
        "nightly builds",
        "nightly-20240501 nightly-20240502 nightly-2024-05-03",
    ),
    (
        "rust",
        "nightly beta 1.77.2 1.98.0-bullseye 1.98.0-bookworm 1.98.0-trixie 1.98.0-slim-trixie 1.98.0-slim 1.98.0",
    ),
    (
        "calendar versions",
        "2024.05.1 2024.5.2 2024.10 2024.10.1 2025.01",
    ),
    (
        "long numbers",
        "1.007 1.8 1.99999999999999999999999999 1.100000000000000000000000000",
    ),
    ("spellings", "1.2.3-1234abc 1.2.3 v1.2.3"),
];

fn chain_tags() -> Vec<&'static str> {
    CHAINS
        .iter()
        .flat_map(|(_, chain)| chain.split_whitespace())
        .collect()
}

#[test]
fn order_ranks_real_tags_from_old_to_new() {
    let mut wrong = Vec::new();
    for (publisher, chain) in CHAINS {
        let tags: Vec<TagVersion> = chain.split_whitespace().map(TagVersion::of).collect();
        for (position, older) in tags.iter().enumerate() {
            for newer in &tags[position + 1..] {
                if older >= newer {
                    wrong.push(format!(
                        "{publisher}: {} is not above {}",
                        newer.as_str(),
                        older.as_str()
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let distinct: std::collections::BTreeSet<&str> = chain_tags().into_iter().collect();
    assert!(distinct.len() >= 400, "{} spellings", distinct.len());
}

#[test]
fn order_ranks_unknown_words_below_the_same_version_without_them() {
    for tag in chain_tags() {
        let version = TagVersion::of(tag);
        if !version.has_release() || version.is_pre_release() {
            continue;
        }
        for word in ["zzz", "foo9", "x1y2", "aaa-1234abc", "Zeta_3"] {
            let longer = TagVersion::of(&format!("{tag}-{word}"));
            assert!(longer < version, "{tag}-{word} is above {tag}");
        }
        for word in [
            "rc",
            "rc1",
            "SNAPSHOT",
            "0.dev-57-g0507726",
            "beta.2",
            "3-gabc1234",
        ] {
            let longer = TagVersion::of(&format!("{tag}-{word}"));
            assert!(longer < version, "{tag}-{word} is above {tag}");
            assert!(longer.is_pre_release(), "{tag}-{word} is a release");
        }
    }
}

#[test]
fn every_pre_release_word_ranks_below_its_release() {
    let release = TagVersion::of("1.2.3");
    for (word, _, source) in PRE_RELEASE_WORDS {
        assert!(!source.is_empty(), "{word} has no source");
        let is_leading = LEADING_PRE_RELEASE_WORDS
            .iter()
            .any(|(leading, _)| leading == word);
        let spellings = if is_leading {
            vec![format!("{word}-1.2.3")]
        } else if word.len() == 1 {
            vec![format!("1.2.3{word}1"), format!("1.2.3-{word}1")]
        } else {
            vec![
                format!("1.2.3-{word}"),
                format!("1.2.3-{word}7"),
                format!("1.2.3-{word}.7"),
                format!("1.2.3-{word}-7"),
                format!("1.2.3{word}7"),
                format!("1.2.3.{}", word.to_uppercase()),
                format!("1.2.3-alpine-{word}"),
                format!("1.2.3-alpine3.20-{word}"),
                format!("1.2.3-1234abc-{word}"),
                format!("1.2.3-{word}-1234abc"),
                format!("1.2.3-{word}-alpine"),
                format!("slim-1.2.3-{word}"),
                format!("{word}-1.2.3"),
            ]
        };
        for spelling in spellings {
            let version = TagVersion::of(&spelling);
            assert!(version.is_pre_release(), "{spelling} is a release");
            assert!(version < release, "{spelling} is above 1.2.3");
        }
    }
}

#[test]
fn tables_of_words_are_lower_case_and_have_sources() {
    for table in [
        REVISION_WORDS,
        NEUTRAL_WORDS,
        VERSION_WORDS,
        ENVIRONMENT_WORDS,
        LEADING_PRE_RELEASE_WORDS,
        ARCHITECTURE_WORDS,
    ] {
        for (word, source) in table {
            assert_eq!(*word, word.to_ascii_lowercase());
            assert!(!source.is_empty(), "{word} has no source");
        }
    }
    let page = include_str!("../../../docs/tags.md");
    let known: Vec<&str> = PRE_RELEASE_WORDS
        .iter()
        .map(|(word, _, _)| *word)
        .chain(REVISION_WORDS.iter().map(|(word, _)| *word))
        .collect();
    for word in known {
        assert!(
            page.contains(&format!("`{word}`")),
            "docs/tags.md does not list {word}"
        );
    }
    for (product, version, name) in CODE_NAMES {
        assert!(
            number::dotted(version).is_some(),
            "{product} {name} has no version"
        );
    }
}

#[test]
fn is_pre_release_ignores_variants() {
    for (tag, pre_release) in [
        ("1.2.3-alpine", false),
        ("1.2.3-bookworm", false),
        ("1.2.3-management", false),
        ("1.2.3-rc.1", true),
        ("1.2.3-dev", true),
        ("1.2.3-debian-12-r3", false),
        ("1.2.3b2", true),
        ("1.2.3-b12", false),
        ("1.2.3-test", true),
        ("1.2.3-r1", false),
        ("1.2.3-1234abc", false),
        ("4.1.2-scala2.13-java21-r-ubuntu", false),
        ("3.2.55-tp3", false),
        ("12.4.1-devel-ubuntu22.04", false),
        ("base-devel-20260816.0.574111", false),
        ("devel-20260817", true),
        ("10-kitten-minimal", true),
        ("8.6-rc-cli-alpine3.24", true),
        ("1.3.1-python3.15-rc-trixie", true),
        ("dev-fpm", true),
        ("rc", true),
        ("sid-slim", true),
        ("1.2.3-sid", false),
        ("latest", false),
        ("stable", false),
        ("bookworm", false),
        ("mainline-alpine", false),
        ("7.0.0.Final", false),
        ("2026.2-u0", false),
        ("nextcloud", false),
        ("alphabet", false),
        ("1.2.3-premium", false),
        ("1.2.3-mainline", false),
        ("1.2.3-perl", false),
    ] {
        assert_eq!(TagVersion::of(tag).is_pre_release(), pre_release, "{tag}");
    }
}

#[test]
fn is_version_rejects_names_and_commit_hashes() {
    for (tag, is_version) in [
        ("latest", false),
        ("1a2b3c4", false),
        ("alpine3.21", false),
        ("jdk25-resolute", false),
        ("windowsservercore-ltsc2022", false),
        ("otp-29-slim", false),
        ("python3-java17", false),
        ("jre-headless-ubuntu-24.04", false),
        ("jdk-25-and-26-noble", false),
        ("sha-1234abc", false),
        ("v1", true),
        ("1", true),
        ("r10", true),
        ("bookworm-20240501", true),
        ("20240501", true),
        ("3.21", true),
        ("8u412-jdk", true),
        ("enterprise-8.0.2", true),
        ("1.27.6-eks-1-27-14", true),
        ("RELEASE.2024-05-10T01-41-38Z", true),
        ("x86_64-v17.6.0-pwsh", true),
    ] {
        assert_eq!(TagVersion::of(tag).is_version(), is_version, "{tag}");
    }
}

#[test]
fn release_numbers_are_read_as_they_are_spelled() {
    for (tag, release, build) in [
        ("3.21.3", "3.21.3", ""),
        ("v1.2-alpine", "1.2", ""),
        ("24.04", "24.04", ""),
        ("8u502-b07-jdk", "8.502", "07"),
        ("21.0.5_11", "21.0.5", "11"),
        ("26.7.5.10-jammy", "26.7.5.10", ""),
        ("slim-2.10.2-python3.12", "2.10.2", ""),
        ("temurin-8-lein-2.13.0-bookworm", "2.13.0", ""),
        ("open-21.0.8.0-jre-jammy", "21.0.8.0", ""),
        ("p11", "11", ""),
        ("REL_16_2", "16", "2"),
        ("alpine-3.20", "", ""),
        ("alpine-v17.6.0", "17.6.0", ""),
        ("alpine-17.6.0", "17.6.0", ""),
        ("ubuntu-24.04", "", ""),
        ("build-1234", "1234", ""),
        ("20260805", "", ""),
        ("noble-20260810", "", ""),
        ("10.2-20260602", "10.2", "20260602000000"),
    ] {
        let version = TagVersion::of(tag);
        let spelled = version
            .release_prefix(version.release().len())
            .unwrap_or_default();
        let builds: Vec<&str> = version.build().iter().map(VersionNumber::as_str).collect();
        assert_eq!(
            (spelled.as_str(), builds.join(".").as_str()),
            (release, build),
            "{tag}"
        );
    }
}

#[test]
fn variants_are_lists_of_words_with_versions() {
    for (tag, variant) in [
        ("1.22.3-alpine3.21-core1.0.0", "alpine3.21-core1.0.0"),
        ("1.2-rc1", ""),
        ("edge", ""),
        (
            "3.13.15-windowsservercore-ltsc2022",
            "windowsservercore-ltsc2022",
        ),
        ("8u502-b07-jdk-alpine-3.24", "jdk-alpine3.24"),
        ("8.4.2-fpm-bookworm", "fpm-bookworm"),
        ("slim-2.10.2rc1-python3.12", "slim-python3.12"),
        ("1.20.3-otp-29-slim", "otp29-slim"),
        ("8.10-minimal-20260602", "minimal"),
        ("11.0.0-M1-jre25-Temurin", "jre25-temurin"),
        ("2.3.0-scala_2.12-java17", "scala2.12-java17"),
        ("v1.2.3", ""),
        ("1.2.3-amd64", "amd64"),
    ] {
        assert_eq!(TagVersion::of(tag).variant().to_string(), variant, "{tag}");
    }
    let of = |tag: &str| TagVersion::of(tag).variant().clone();
    for (one, other, family) in [
        ("1-alpine3.23", "2-alpine3.24", true),
        ("1-bookworm", "2-trixie", true),
        ("1-bookworm", "2-noble", false),
        ("1-jdk21-noble", "1-jdk25-noble", true),
        ("1-alpine", "1-slim", false),
        ("slim-1", "1-slim", false),
    ] {
        assert_eq!(of(one).is_same_family(&of(other)), family, "{one} {other}");
    }
    assert!(of("1-alpine3.24").is_named("alpine") && of("1-alpine3.24").is_named("alpine3.24"));
    assert!(!of("1-alpine3.24").is_named("alpine3.2") && !of("1-alpine-slim").is_named("alpine"));
    assert!(of("1-otp-29-slim").is_named("otp29-slim") && of("1").is_named(""));
    assert_eq!(of("3-slim-core1").without("core").to_string(), "slim");
}

#[test]
fn release_lines_are_distinguished() {
    let of = TagVersion::of;
    for (one, other, same) in [
        ("3.21.4", "3.21.3", true),
        ("3.22.0", "3.21.3", false),
        ("15.10", "15.4", true),
        ("16.1", "15.4", false),
        ("12-core2", "12-core1", true),
        ("13", "12", false),
        ("latest", "12", false),
        ("12", "latest", false),
    ] {
        assert_eq!(
            of(one).is_on_same_line_as(&of(other)),
            same,
            "{one} {other}"
        );
    }
    for (tag, line, is_on_line) in [
        ("1.22.3-alpine", "1.22", true),
        ("v1.22", "1", true),
        ("1.2.2", "1.22", false),
        ("1.22", "1.22.3", false),
        ("1.22", "alpine", false),
        ("8u502-jdk", "8", true),
        ("open-21.0.8.0-jre", "21", true),
    ] {
        assert_eq!(of(tag).is_on_line(&of(line)), is_on_line, "{tag} {line}");
    }
}

#[test]
fn release_line_has_two_numbers() {
    for (tag, line) in [
        ("3.20.1-alpine3.19", "3.20"),
        ("v3.20", "3.20"),
        ("2024.05.1", "2024.05"),
        ("12-core1.0.0", "12"),
        ("20240501", "20240501000000"),
        ("latest", ""),
    ] {
        let numbers = TagVersion::of(tag).release_line().unwrap_or_default();
        let spelled: Vec<&str> = numbers.iter().map(VersionNumber::as_str).collect();
        assert_eq!(spelled.join("."), line, "{tag}");
    }
    assert_eq!(
        TagVersion::of("2024.05.1").release_line(),
        TagVersion::of("2024.5.2").release_line()
    );
}

#[test]
fn refinements_make_general_tags_moving() {
    let tags = [
        "3",
        "3.21",
        "3.21.3",
        "3.21.3-alpine",
        "3.21-alpine",
        "3.21.3-alpine3.24",
        "3.22-rc1",
        "3.21.3-jdk25",
        "3.21.3-slim",
        "latest",
        "10.2",
        "10.2-20260602",
        "9.0.3",
        "9.0.3-4",
        "8",
        "8u502",
        "5.0",
        "5.0.0-beta.5",
        "6.0",
        "6.0-alpha2",
        "3.15-rc",
        "3.15.0rc1",
        "20260805",
        "3.21.3-1234abc",
    ];
    let list = TagList::of(tags);
    for (tag, moving) in [
        ("3", true),
        ("3.21", true),
        ("3.21.3", false),
        ("3.21.3-alpine", true),
        ("3.21-alpine", true),
        ("3.21.3-alpine3.24", false),
        ("3.21.3-slim", false),
        ("latest", true),
        ("10.2", true),
        ("10.2-20260602", false),
        ("9.0.3", true),
        ("9.0.3-4", false),
        ("8", true),
        ("8u502", false),
        ("3.15-rc", true),
        ("3.15.0rc1", false),
        ("20260805", false),
        ("4.0", false),
    ] {
        assert_eq!(list.is_moving(&TagVersion::of(tag)), moving, "{tag}");
    }
    assert!(
        list.is_pre_release(&TagVersion::of("5.0")),
        "only a beta is listed"
    );
    assert!(!list.is_pre_release(&TagVersion::of("3.21")));
    let list = TagList::of(["11", "11.0", "11.0.0-M1", "10", "10.1"]);
    assert!(list.is_pre_release(&TagVersion::of("11")), "through 11.0");
    assert!(!list.is_pre_release(&TagVersion::of("10")));
    let list = TagList::of(tags);
    assert!(
        !list.is_pre_release(&TagVersion::of("6.0")),
        "may be the release"
    );
}

#[test]
fn spellings_of_one_version_are_the_same_version() {
    for (one, other, same) in [
        ("v3.7.11", "3.7.11", true),
        ("26.7.0-alpine", "26.7.0-alpine3.24", true),
        ("1.2", "1.2.0", false),
        ("21.0.5_11-jre", "21.0.5_9-jre", false),
        ("1.2.3-rc1", "1.2.3", false),
        ("20260805", "20260806", false),
    ] {
        assert_eq!(
            TagVersion::of(one).is_same_version_as(&TagVersion::of(other)),
            same,
            "{one} {other}"
        );
    }
}

#[test]
fn push_dates_decide_only_without_versions_and_dates() {
    let time = |day: i64| DateTime::<Utc>::from_timestamp(day * 86_400, 0);
    for (one, pushed, other, other_pushed, expected) in [
        (
            "stable",
            Some(2),
            "beta-build",
            Some(9),
            (Ordering::Greater, OrderBasis::Version),
        ),
        (
            "stable",
            Some(2),
            "current",
            Some(9),
            (Ordering::Less, OrderBasis::PushDate),
        ),
        (
            "bullseye",
            Some(9),
            "bookworm",
            Some(2),
            (Ordering::Greater, OrderBasis::PushDate),
        ),
        (
            "bullseye",
            None,
            "bookworm",
            None,
            (Ordering::Less, OrderBasis::CodeName),
        ),
        (
            "current",
            None,
            "stable",
            None,
            (Ordering::Less, OrderBasis::Name),
        ),
        (
            "1.2",
            Some(1),
            "1.1",
            Some(9),
            (Ordering::Greater, OrderBasis::Version),
        ),
        (
            "jammy-20260101",
            Some(9),
            "jammy-20260810",
            Some(1),
            (Ordering::Less, OrderBasis::Version),
        ),
    ] {
        let compared = TagVersion::of(one).compare_pushed(
            pushed.and_then(time),
            &TagVersion::of(other),
            other_pushed.and_then(time),
        );
        assert_eq!(compared, expected, "{one} {other}");
    }
}

proptest! {
    #[test]
    fn order_of_real_tags_is_total_and_transitive(
        positions in proptest::collection::vec(any::<proptest::sample::Index>(), 3),
        dates in proptest::collection::vec(proptest::option::of(0_i64..4), 3),
    ) {
        let tags = chain_tags();
        let tag = |at: usize| TagVersion::of(tags[positions[at].index(tags.len())]);
        let pushed = |at: usize| dates[at].and_then(|day| DateTime::<Utc>::from_timestamp(day, 0));
        let compare = |one: usize, other: usize| {
            tag(one).compare_pushed(pushed(one), &tag(other), pushed(other)).0
        };
        prop_assert_eq!(compare(0, 1), compare(1, 0).reverse());
        if compare(0, 1) != Ordering::Greater && compare(1, 2) != Ordering::Greater {
            prop_assert!(compare(0, 2) != Ordering::Greater);
        }
    }

    #[test]
    fn order_is_total(tags in proptest::collection::vec("(v|r|rc-|slim-)?[0-9]{1,3}([.u_-][0-9]{1,2}){0,3}([-._a-z][a-z0-9.-]{0,6}){0,2}(rc|-dev|-1a2b3c4|alpine3.2)?|[a-z][a-z0-9.]{0,5}", 3)) {
        let versions: Vec<TagVersion> = tags.iter().map(|tag| TagVersion::of(tag)).collect();
        let (a, b, c) = (&versions[0], &versions[1], &versions[2]);
        prop_assert_eq!(a.cmp(b), b.cmp(a).reverse());
        prop_assert_eq!(a.cmp(b) == Ordering::Equal, tags[0] == tags[1]);
        if a <= b && b <= c {
            prop_assert!(a <= c);
        }
    }

    #[test]
    fn order_never_panics(one in "\\PC{0,20}", other in "\\PC{0,20}") {
        let _ = TagVersion::of(&one).cmp(&TagVersion::of(&other));
    }
}

#[test]
fn order_of_real_tags_is_transitive_for_all_triples_of_one_publisher() {
    for (publisher, chain) in CHAINS {
        let tags: Vec<TagVersion> = chain.split_whitespace().map(TagVersion::of).collect();
        for one in &tags {
            for other in &tags {
                for third in &tags {
                    if one <= other && other <= third {
                        assert!(one <= third, "{publisher}: {one:?} {other:?} {third:?}");
                    }
                }
            }
        }
    }
}
