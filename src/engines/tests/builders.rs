//! Tests of the BuildKit builders of buildx.

use super::*;

fn calls(bench: &TestBench) -> Vec<RecordedCall> {
    bench.runner.calls.lock().expect("no panic").clone()
}

fn lines(bench: &TestBench) -> Vec<String> {
    calls(bench).into_iter().map(|call| call.line).collect()
}

#[tokio::test]
async fn buildx_creates_one_builder_for_all_builds_and_removes_it() {
    let own = BuildxBuilder {
        image: Some("r.example/buildkit:1".to_owned()),
        nodes: vec!["linux/arm64=ssh://ci@arm".parse().expect("a node")],
        emulators: Some("r.example/binfmt:1".to_owned()),
        keep: false,
        authorities: [(
            "own.example".parse().expect("a host"),
            "/etc/own \"ca\".pem".into(),
        )]
        .into(),
    };
    let bench = TestBench::with(recorder(), &[], None, Some(own));
    bench
        .build(EngineName::Buildx, &request(&["linux/amd64"]))
        .await
        .expect("it builds");
    bench
        .build(EngineName::Buildx, &request(&["linux/amd64"]))
        .await
        .expect("it builds again");
    bench.engine(EngineName::Buildx).close().await;
    let lines = lines(&bench);
    let created: Vec<&String> = lines
        .iter()
        .filter(|line| line.starts_with("docker buildx create"))
        .collect();
    let [first, node] = created.as_slice() else {
        panic!("{lines:#?}")
    };
    let name = first
        .split(' ')
        .find(|word| word.starts_with("imglife-"))
        .expect("a random name");
    for part in [
        "--bootstrap",
        "--driver docker-container",
        "--driver-opt=network=host",
        "--driver-opt=image=r.example/buildkit:1",
    ] {
        assert!(first.contains(part), "{first}");
    }
    assert!(
        node.contains(&format!("--append --name {name}"))
            && node.ends_with("--platform=linux/arm64 ssh://ci@arm"),
        "{node}"
    );
    assert_eq!(
        lines
            .iter()
            .filter(|line| line.contains(&format!(
                "buildx build --progress=plain --no-cache --builder={name} "
            )))
            .count(),
        2
    );
    assert_eq!(
        lines
            .iter()
            .filter(|line| line
                .starts_with("docker run --privileged --rm r.example/binfmt:1 --install all"))
            .count(),
        1
    );
    assert_eq!(
        lines.last().map(String::as_str),
        Some(format!("docker buildx rm {name}").as_str())
    );
    let call = calls(&bench)
        .into_iter()
        .find(|call| call.line.starts_with("docker buildx create"))
        .expect("a call");
    assert_eq!(
        call.environment.get("BUILDX_CONFIG").map(PathBuf::from),
        Some(bench.home.path().join(".docker/buildx"))
    );
    assert!(!call.private.exists());
    drop(bench);
}

#[tokio::test]
async fn buildx_uses_an_existing_builder_and_keeps_a_kept_one() {
    let existing = FakeRunner {
        inspected: "Driver: docker-container\n",
        ..recorder()
    };
    let bench = TestBench::with(existing, &[], None, Some(BuildxBuilder::default()));
    bench
        .build(EngineName::Buildx, &request(&["linux/amd64"]))
        .await
        .expect("it builds");
    bench.engine(EngineName::Buildx).close().await;
    assert!(
        !lines(&bench)
            .iter()
            .any(|line| line.contains("create") || line.contains("buildx rm")),
        "{:#?}",
        lines(&bench)
    );

    let kept = BuildxBuilder {
        keep: true,
        ..BuildxBuilder::default()
    };
    let bench = TestBench::with(recorder(), &[], None, Some(kept));
    bench
        .build(EngineName::Buildx, &request(&["linux/amd64"]))
        .await
        .expect("it builds");
    bench.engine(EngineName::Buildx).close().await;
    let lines = lines(&bench);
    assert!(
        lines.iter().any(|line| line.contains("--builder=imglife ")),
        "{lines:#?}"
    );
    assert!(
        !lines.iter().any(|line| line.contains("buildx rm")),
        "{lines:#?}"
    );
}

#[tokio::test]
async fn incomplete_builders_and_those_of_interrupted_runs_are_removed() {
    let broken = FakeRunner {
        failing: Some(("docker buildx create", 1, "ERROR: pull access denied")),
        ..recorder()
    };
    let bench = TestBench::with(broken, &[], None, Some(BuildxBuilder::default()));
    let error = bench
        .build(EngineName::Buildx, &request(&["linux/amd64"]))
        .await
        .expect_err("no builder");
    assert!(
        error
            .hint
            .as_deref()
            .is_some_and(|hint| hint.contains("--builder-image") || hint.contains("credentials")),
        "{error:?}"
    );
    assert!(
        lines(&bench)
            .last()
            .is_some_and(|line| line.starts_with("docker buildx rm --force imglife-")),
        "{:#?}",
        lines(&bench)
    );

    let mut bench = TestBench::with(recorder(), &[], None, Some(BuildxBuilder::default()));
    bench
        .build(EngineName::Buildx, &request(&["linux/amd64"]))
        .await
        .expect("it builds");
    bench.engines.clear();
    let detached = bench.runner.detached.lock().expect("no panic").clone();
    assert!(
        detached.iter().any(|command| command
            .arguments
            .starts_with(&["buildx".to_owned(), "rm".to_owned()])),
        "{detached:?}"
    );
}

#[tokio::test]
async fn engine_with_client_certificates_is_reached_by_a_docker_context() {
    let tls = [
        ("DOCKER_HOST", "tcp://docker:2376"),
        ("DOCKER_TLS_VERIFY", "1"),
        ("DOCKER_CERT_PATH", "/certs/client"),
    ];
    let missing = FakeRunner {
        failing: Some(("docker context inspect", 1, "no such context")),
        ..recorder()
    };
    let bench = TestBench::with(missing, &tls, None, Some(BuildxBuilder::default()));
    bench
        .build(EngineName::Buildx, &request(&["linux/amd64"]))
        .await
        .expect("it builds");
    let lines = lines(&bench);
    let context = "docker context create imglife-engine --docker \
                   host=tcp://docker:2376,ca=/certs/client/ca.pem,cert=/certs/client/cert.pem,key=/certs/client/key.pem";
    assert!(lines.iter().any(|line| line == context), "{lines:#?}");
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with("docker buildx create")
                && line.ends_with(" imglife-engine")),
        "{lines:#?}"
    );
    assert!(!bench.home.path().join(".docker/contexts/meta/x").exists());
}

#[tokio::test]
async fn commands_for_platforms_without_emulator_are_rejected_before_the_build() {
    let only_amd64 = || FakeRunner {
        inspected: "Driver: docker-container\nPlatforms: linux/amd64*, linux/amd64/v2, linux/386\n",
        ..recorder()
    };
    let with = |dockerfile: &str| BuildRequest {
        dockerfile: dockerfile.to_owned(),
        platforms: vec![
            "linux/amd64".parse().expect("a platform"),
            "linux/arm64".parse().expect("a platform"),
        ],
        ..request(&["linux/amd64"])
    };
    let bench = TestBench::new(only_amd64(), &[], None);
    let error = bench
        .build(EngineName::Buildx, &with("FROM a\nRUN x\n"))
        .await
        .expect_err("no emulator");
    assert!(
        error
            .to_string()
            .contains("cannot run programs of linux/arm64"),
        "{error}"
    );
    assert!(
        error
            .hint
            .is_some_and(|hint| hint.contains("tonistiigi/binfmt"))
    );
    assert!(
        !lines(&bench)
            .iter()
            .any(|line| line.contains("buildx build"))
    );
    for fine in [
        "FROM a\nCOPY x /\n",
        "FROM --platform=$BUILDPLATFORM b AS c\nRUN x\nFROM a\nCOPY --from=c x /\n",
    ] {
        bench
            .build(EngineName::Buildx, &with(fine))
            .await
            .expect(fine);
    }
}
