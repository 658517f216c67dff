//! Tests of missing programs, rejected requests and failed builds.

use super::*;

#[tokio::test]
async fn available_reports_missing_programs_with_a_hint() {
    let bench = TestBench::new(
        FakeRunner {
            programs: Vec::new(),
            ..recorder()
        },
        &[],
        None,
    );
    for engine in EngineName::PROGRAMS {
        let error = bench
            .engine(engine)
            .available()
            .await
            .expect_err("not installed");
        assert!(
            error
                .to_string()
                .ends_with("is not installed or not on PATH")
                && error.hint.is_some(),
            "{error}"
        );
    }
    let buildx = |runner: FakeRunner| async {
        let error = TestBench::new(runner, &[], None)
            .engine(EngineName::Buildx)
            .available()
            .await
            .expect_err("not available");
        (error.to_string(), error.hint.unwrap_or_default())
    };
    let failing = Some((
        "docker buildx version",
        1,
        "docker: unknown command: docker buildx\n",
    ));
    let (error, hint) = buildx(FakeRunner {
        failing,
        ..recorder()
    })
    .await;
    assert_eq!(
        error,
        "buildx: `docker buildx version` failed with exit code 1: docker: unknown command: docker buildx"
    );
    assert!(
        hint.starts_with("install the docker plugin buildx"),
        "{hint}"
    );
    let inspected = "Name: default\nError:   Cannot connect to the Docker daemon\n";
    let (error, hint) = buildx(FakeRunner {
        inspected,
        ..recorder()
    })
    .await;
    assert_eq!(
        error,
        "buildx: the builder cannot be used: Cannot connect to the Docker daemon"
    );
    assert!(hint.contains("IMGLIFE_BUILDER"), "{hint}");
    for engine in EngineName::PROGRAMS {
        TestBench::new(recorder(), &[], None)
            .engine(engine)
            .available()
            .await
            .expect("available");
    }
}

#[tokio::test]
async fn unsupported_requests_are_rejected_before_a_program_runs() {
    let bench = TestBench::new(recorder(), &[], None);
    let mut with_sbom = request(ONE);
    with_sbom.attestations.sbom = true;
    for engine in [EngineName::Buildah, EngineName::Podman, EngineName::Docker] {
        let error = bench.build(engine, &with_sbom).await.expect_err("no SBOM");
        assert_eq!(
            error.to_string(),
            format!("{engine}: the engine supports neither `sbom` nor `provenance`")
        );
    }
    let error = bench
        .build(EngineName::Docker, &request(TWO))
        .await
        .expect_err("two platforms");
    assert_eq!(
        error.to_string(),
        "docker: the engine builds for only one platform"
    );
    assert!(bench.calls().is_empty());
}

#[tokio::test]
async fn failed_build_has_a_masked_log_and_a_hint() {
    let log = "STEP 1\nlogged in with s3cret or YWxpY2U6czNjcmV0\n\u{1b}[31mexec /bin/sh: exec format error\nError: building with hunter2\n";
    let bench = TestBench::new(
        FakeRunner {
            failing: Some(("buildah build", 125, log)),
            ..recorder()
        },
        &[],
        None,
    );
    let error = bench
        .build(EngineName::Buildah, &request(ONE))
        .await
        .expect_err("it failed");
    assert_eq!(
        error.to_string(),
        "buildah: `buildah build` failed with exit code 125: Error: building with ***"
    );
    assert_eq!(
        error.log,
        "STEP 1\nlogged in with *** or ***\n\\u{1b}[31mexec /bin/sh: exec format error\nError: building with ***"
    );
    assert!(
        error
            .hint
            .as_deref()
            .is_some_and(|hint| hint.contains("qemu-user-static")),
        "{:?}",
        error.hint
    );
    assert_eq!(
        without_random_names(&bench.calls()[1].line),
        "buildah rmi --force NAME:linux-amd64",
        "temporary resources are removed"
    );
    assert_eq!(bench.private_directories(), 0);
}

#[tokio::test]
async fn common_failures_have_a_hint() {
    let multi = "ERROR: failed to build: Attestation is not supported for the docker driver.\nSwitch to a different driver\n";
    for (engine, failing, expected) in [
        (
            EngineName::Buildx,
            ("docker buildx build", 1, multi),
            "docker buildx create",
        ),
        (
            EngineName::Docker,
            ("docker push", 1, "no basic auth credentials\n"),
            "check that the credentials for r.example:5000",
        ),
        (
            EngineName::Docker,
            (
                "docker push",
                1,
                "http: server gave HTTP response to HTTPS client\n",
            ),
            "insecure-registries",
        ),
        (
            EngineName::Podman,
            ("podman build", 1, "unshare: Operation not permitted\n"),
            "BUILDAH_ISOLATION=chroot",
        ),
    ] {
        let bench = TestBench::new(
            FakeRunner {
                failing: Some(failing),
                ..recorder()
            },
            &[],
            None,
        );
        let error = bench
            .build(engine, &request(ONE))
            .await
            .expect_err("it failed");
        assert!(
            error
                .hint
                .as_deref()
                .is_some_and(|hint| hint.contains(expected)),
            "{error}: {:?}",
            error.hint
        );
    }
}

#[tokio::test]
async fn build_fails_without_a_reported_digest() {
    for engine in [EngineName::Buildx, EngineName::Buildah] {
        let bench = TestBench::new(
            FakeRunner {
                writes_no_digest: true,
                ..recorder()
            },
            &[],
            None,
        );
        let error = bench
            .build(engine, &request(TWO))
            .await
            .expect_err("no digest");
        assert_eq!(
            error.to_string(),
            format!("{engine}: the engine succeeded but did not report the pushed digest")
        );
    }
}

#[tokio::test]
async fn dropped_build_starts_the_disposal_commands() {
    for (engine, at, disposals) in [
        (
            EngineName::Podman,
            "manifest push",
            vec![
                "manifest rm NAME:index",
                "rmi --force NAME:linux-arm-v7",
                "rmi --force NAME:linux-amd64",
            ],
        ),
        (
            EngineName::Docker,
            "docker push",
            vec!["image rm r.example:5000/base/alpine:1.0-core1"],
        ),
    ] {
        let bench = TestBench::new(
            FakeRunner {
                hangs_at: Some(at),
                ..recorder()
            },
            &[],
            None,
        );
        let request = request(if engine == EngineName::Docker {
            ONE
        } else {
            TWO
        });
        let run = bench.build(engine, &request);
        assert!(
            tokio::time::timeout(std::time::Duration::from_millis(200), run)
                .await
                .is_err()
        );
        let commands = bench.runner.detached.lock().expect("no panic").clone();
        let lines: Vec<String> = commands
            .iter()
            .map(|command| without_random_names(&command.arguments.join(" ")))
            .collect();
        assert_eq!(lines, disposals);
        assert!(
            commands
                .iter()
                .all(|command| command.environment.get("DOCKER_CONFIG").is_none())
        );
        assert_eq!(bench.private_directories(), 0);
    }
}
