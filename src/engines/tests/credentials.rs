//! Tests of the credentials and configuration files that the programs get.

use super::*;

#[tokio::test]
async fn programs_see_the_credentials_and_the_users_docker_configuration() {
    let bench = TestBench::new(recorder(), &[("DOCKER_TLS_VERIFY", "1")], None);
    let before = fs::read(bench.home.path().join(".docker/config.json")).expect("a file");
    for engine in EngineName::PROGRAMS {
        bench
            .build(engine, &request(ONE))
            .await
            .expect("it is built");
    }
    // alice:s3cret
    let auths = json!({ "r.example:5000": { "auth": "YWxpY2U6czNjcmV0" } });
    let calls = bench.calls();
    for call in calls
        .iter()
        .filter(|call| call.private.is_absolute() && !call.line.contains(" rm"))
    {
        let (docker, containers) = (&call.docker, &call.containers);
        assert_eq!(
            (&docker["auths"], &containers["auths"]),
            (&auths, &auths),
            "{}",
            call.line
        );
        assert_eq!(docker["credsStore"], "desktop");
        // Without the empty helper name, docker would use the credential store.
        assert_eq!(
            docker["credHelpers"],
            json!({ "gcr.io": "gcloud", "r.example:5000": "" })
        );
        assert_eq!(containers["credHelpers"], json!({ "gcr.io": "gcloud" }));
        assert_eq!(
            (&docker["currentContext"], &docker["proxies"]),
            (&json!("remote"), &json!({ "default": {} }))
        );
        let docker = bench.home.path().join(".docker");
        assert_eq!(
            call.environment.get("BUILDX_CONFIG"),
            docker.join("buildx").to_str()
        );
        assert_eq!(call.environment.get("DOCKER_CERT_PATH"), docker.to_str());
        assert_eq!(
            call.environment.get("API_TOKEN"),
            Some("hunter2"),
            "a credential helper may need it"
        );
        for gone in ["DOCKER_AUTH_CONFIG", "IMGLIFE_R_EXAMPLE_5000_PASSWORD"] {
            assert_eq!(call.environment.get(gone), None);
        }
        assert!(
            !call.arguments.iter().any(
                |argument| argument.contains("s3cret") || argument.contains("YWxpY2U6czNjcmV0")
            )
        );
    }
    assert!(
        calls
            .iter()
            .filter(|call| call.line.contains(" push "))
            .count()
            >= 3
    );
    assert_eq!(
        fs::read(bench.home.path().join(".docker/config.json")).expect("a file"),
        before
    );
    assert!(!bench.home.path().join(".docker/buildx").exists());
}

#[test]
fn private_config_keeps_plugins_and_is_readable_only_by_the_user() {
    let home = tempfile::tempdir().expect("a directory");
    let docker = home.path().join(".docker");
    fs::create_dir_all(docker.join("cli-plugins")).expect("a directory");
    fs::write(docker.join("cli-plugins/docker-buildx"), "").expect("a file");
    let path = home.path().to_str().expect("text");
    let variables: Variables = [("HOME", path), ("TMPDIR", path)].into_iter().collect();
    let token = |text: &str| Credential::RefreshToken {
        token: Secret::new(text),
    };
    let credentials = [
        whole("docker.io", token("one")),
        whole("a.example", Credential::Anonymous),
    ];
    let config = PrivateConfig::create(&variables, &credentials).expect("a configuration");
    let mode = |path: &Path| fs::metadata(path).expect("a file").permissions().mode() & 0o777;
    let environment = config.environment(&variables);
    let of = |name: &str| PathBuf::from(environment.get(name).expect("it is set"));
    let (docker, containers) = (of("DOCKER_CONFIG"), of("REGISTRY_AUTH_FILE"));
    assert_eq!(
        (
            mode(config.path()),
            mode(&docker.join("config.json")),
            mode(&containers)
        ),
        (0o700, 0o600, 0o600)
    );
    assert!(docker.join("cli-plugins/docker-buildx").exists());
    // `<token>:`
    let entry = json!({ "auth": "PHRva2VuPjo=", "identitytoken": "one" });
    let read = |file: &Path| {
        serde_json::from_slice::<Value>(&fs::read(file).expect("a file")).expect("JSON")
    };
    assert_eq!(
        read(&docker.join("config.json"))["auths"],
        json!({ "https://index.docker.io/v1/": entry })
    );
    assert_eq!(read(&containers)["auths"], json!({ "docker.io": entry }));
    let private = config.path().to_owned();
    drop(config);
    assert!(
        !private.exists()
            && home
                .path()
                .join(".docker/cli-plugins/docker-buildx")
                .exists()
    );
    fs::write(home.path().join(".docker/config.json"), "{hunter2").expect("a file");
    let error = PrivateConfig::create(&variables, &[])
        .expect_err("malformed")
        .to_string();
    assert!(
        error.ends_with("config.json is not a docker configuration file (JSON)"),
        "{error}"
    );
}

#[test]
fn private_config_finds_the_certificates_of_a_docker_service() {
    let directory = tempfile::tempdir().expect("a directory");
    let client = directory.path().join("client");
    let path = directory.path().to_str().expect("text");
    let variables: Variables = [
        ("HOME", path),
        ("TMPDIR", path),
        ("DOCKER_TLS_CERTDIR", path),
        ("DOCKER_HOST", "tcp://docker:2376"),
    ]
    .into_iter()
    .collect();
    let config = PrivateConfig::create(&variables, &[]).expect("a configuration");
    assert_eq!(
        config.environment(&variables).get("DOCKER_TLS_VERIFY"),
        None
    );
    fs::create_dir(&client).expect("a directory");
    for file in ["ca.pem", "cert.pem", "key.pem"] {
        fs::write(client.join(file), "").expect("a file");
    }
    let environment = config.environment(&variables);
    assert_eq!(
        (
            environment.get("DOCKER_TLS_VERIFY"),
            environment.get("DOCKER_CERT_PATH")
        ),
        (Some("1"), client.to_str())
    );
}

#[tokio::test]
async fn buildah_gets_a_registries_conf_with_insecure_hosts() {
    let bench = TestBench::new(recorder(), &[], None);
    let own = bench.home.path().join(".config/containers");
    fs::create_dir_all(&own).expect("a directory");
    fs::write(
        own.join("registries.conf"),
        "short-name-mode = \"enforcing\"\n",
    )
    .expect("a file");
    bench
        .build(EngineName::Buildah, &request(ONE))
        .await
        .expect("it is built");
    let registries = "short-name-mode = \"enforcing\"\n\n[[registry]]\nlocation = \"r.example:5000\"\ninsecure = true\n";
    assert_eq!(bench.calls()[0].registries.as_deref(), Some(registries));
}

#[tokio::test]
async fn bearer_tokens_are_supported_only_by_docker() {
    let bench = TestBench::new(recorder(), &[], None);
    let variables: Variables = [("HOME", bench.home.path().to_str().expect("text"))]
        .into_iter()
        .collect();
    let engines = |runner: &Arc<FakeRunner>| {
        let credential = whole(
            "r.example:5000",
            Credential::Bearer {
                token: Secret::new("bearer"),
            },
        );
        let runner = Arc::clone(runner) as Arc<dyn Runner>;
        Programs {
            runner,
            variables: variables.clone(),
            credentials: vec![credential],
            insecure: BTreeSet::new(),
            builder: None,
            own_builder: None,
        }
        .engines()
    };
    for engine in engines(&bench.runner) {
        let built = engine.build(&request(ONE)).await;
        match engine.name() {
            EngineName::Buildx | EngineName::Docker => drop(built.expect("it is built")),
            name => {
                let error = built.expect_err("no bearer token").to_string();
                assert_eq!(
                    error,
                    format!(
                        "{name}: the engine does not support the bearer token that is configured for r.example:5000"
                    )
                );
            }
        }
    }
    assert_eq!(
        bench.calls()[1].docker["auths"],
        json!({ "r.example:5000": { "registrytoken": "bearer" } })
    );
}

#[tokio::test]
async fn credentials_of_repositories_are_passed_by_path_or_by_precedence() {
    let bench = TestBench::new(recorder(), &[], None);
    let variables: Variables = [("HOME", bench.home.path().to_str().expect("text"))]
        .into_iter()
        .collect();
    let request = request(ONE);
    let path = |repository: &Repository| match repository {
        Repository::Remote { path, .. } => path.clone(),
        Repository::Layout { .. } => panic!("a registry"),
    };
    let (pushed, base) = (path(&request.repository), path(&request.base.repository));
    let credential = |path: &RepositoryPath, name: &str| {
        let credential = Credential::Basic {
            username: name.to_owned(),
            password: Secret::new("p"),
        };
        HostCredential {
            path: Some(path.clone()),
            ..whole("r.example:5000", credential)
        }
    };
    let credentials = vec![
        credential(&base, "m"),
        credential(&"apps/other".parse().expect("a path"), "o"),
        credential(&pushed, "b"),
    ];
    let runner = Arc::clone(&bench.runner) as Arc<dyn Runner>;
    for engine in (Programs {
        runner,
        variables,
        credentials,
        insecure: BTreeSet::new(),
        builder: None,
        own_builder: None,
    })
    .engines()
    {
        drop(engine.build(&request).await.expect("it is built"));
    }
    let (m, o, b) = (
        json!({ "auth": "bTpw" }),
        json!({ "auth": "bzpw" }),
        json!({ "auth": "Yjpw" }),
    );
    for call in bench
        .calls()
        .iter()
        .filter(|call| call.line.contains("build "))
    {
        let keyed = json!({ format!("r.example:5000/{base}"): m, "r.example:5000/apps/other": o, format!("r.example:5000/{pushed}"): b });
        assert_eq!(
            (&call.docker["auths"], &call.containers["auths"]),
            (&json!({ "r.example:5000": b }), &keyed),
            "{}",
            call.line
        );
    }
}
