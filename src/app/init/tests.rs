use std::os::unix::fs::PermissionsExt;

use regex::Regex;

use super::*;
use crate::config;
use crate::model::Variables;
use crate::report::text::{Style, draw};

fn values_of(
    forge: Option<InitForge>,
    remote: Option<&str>,
    registry: Option<&str>,
) -> Result<InitValues, Failure> {
    let options = InitOptions {
        forge,
        directory: PathBuf::from("."),
        registry: registry.map(str::to_owned),
    };
    values(
        &options,
        GitCheckout {
            remote: remote.and_then(GitRemote::parse),
            branch: None,
        },
        Path::new("/nonexistent"),
    )
}

fn text(values: &InitValues, path: &str) -> String {
    let found = files(values)
        .expect("files")
        .into_iter()
        .find(|(name, _)| *name == path);
    found.unwrap_or_else(|| panic!("no {path}")).1
}

#[test]
fn init_writes_a_valid_configuration_with_the_registry_of_the_remote() {
    let cases = [
        (
            Some(InitForge::Gitlab),
            None,
            None,
            "registry.gitlab.example.com/platform/base-images",
        ),
        (
            Some(InitForge::Gitea),
            None,
            None,
            "gitea.example.com/platform",
        ),
        (
            None,
            Some("git@gitlab.com:Group/Sub/bases.git"),
            None,
            "registry.gitlab.com/group/sub/bases",
        ),
        (
            None,
            Some("https://gitea.example.com:3000/Team/bases"),
            None,
            "gitea.example.com:3000/team",
        ),
        (
            Some(InitForge::Gitea),
            Some("https://git.example.com/team/bases"),
            Some("r.example.com/x/"),
            "r.example.com/x",
        ),
    ];
    for (forge, remote, registry, expected) in cases {
        let values = values_of(forge, remote, registry).expect("values");
        let text = text(&values, "imglife.yaml");
        let source = config::SourceText {
            name: "imglife.yaml".to_owned(),
            text: text.clone(),
        };
        let config = config::load(&source, Path::new("/"), &Variables::default())
            .unwrap_or_else(|errors| panic!("{errors}\n{text}"));
        let image = &config.build.expect("a section").images[0];
        assert_eq!(
            image.repository.to_string(),
            format!("{expected}/bases/alpine")
        );
        assert_eq!(
            config.sync.expect("a section").entries[0]
                .target
                .to_string(),
            format!("{expected}/mirrors/alpine")
        );
    }
    // In CI, the registry of the project is used.
    let values = values_of(Some(InitForge::Gitlab), None, None).expect("values");
    let source = config::SourceText {
        name: "imglife.yaml".to_owned(),
        text: text(&values, "imglife.yaml"),
    };
    let variables = [
        ("CI_REGISTRY_IMAGE", "r.example/a"),
        ("IMGLIFE_REGISTRY_PROJECT_ID", "7"),
    ]
    .into_iter()
    .collect();
    let config = config::load(&source, Path::new("/"), &variables).expect("a configuration");
    assert_eq!(
        config.sync.expect("a section").entries[0]
            .target
            .to_string(),
        "r.example/a/mirrors/alpine"
    );
}

#[test]
fn an_unknown_forge_and_an_invalid_registry_are_usage_errors() {
    let failure =
        values_of(None, Some("https://git.example.com/team/bases"), None).expect_err("no forge");
    assert_eq!(
        (failure.exit, failure.error.to_string().as_str()),
        (
            Exit::Usage,
            "cannot detect the forge of this repository from the remote host git.example.com"
        )
    );
    for registry in [
        "",
        "Registry.example.com/Platform",
        "https://r.example/x",
        "r.example/a b",
        "platform",
        "r.example/x\ny: z",
        "$HOME/x",
    ] {
        let failure = values_of(Some(InitForge::Gitea), None, Some(registry)).expect_err(registry);
        assert_eq!(failure.exit, Exit::Usage, "{registry}");
    }
}

#[test]
fn renovate_preset_orders_tags_of_bases_within_a_variant() {
    let values = values_of(Some(InitForge::Gitea), None, None).expect("values");
    let preset: serde_json::Value =
        serde_json::from_str(&text(&values, "renovate-bases.json")).expect("JSON");
    let rule = &preset["packageRules"][0];
    assert_eq!(
        rule["matchPackageNames"][0],
        "gitea.example.com/platform/bases/**"
    );
    let pattern = rule["versioning"]
        .as_str()
        .and_then(|versioning| versioning.strip_prefix("regex:"))
        .expect("a pattern");
    let pattern = Regex::new(pattern).expect("a pattern");
    // Compares like Renovate: the groups as numbers, within the same `compatibility`.
    let read = |tag: &str| {
        let groups = pattern.captures(tag).unwrap_or_else(|| panic!("{tag}"));
        let number = |name| {
            groups
                .name(name)
                .map_or(0, |group| group.as_str().parse::<u32>().expect("a number"))
        };
        let variant = groups
            .name("compatibility")
            .map_or_else(String::new, |group| group.as_str().to_owned());
        (
            variant,
            ["major", "minor", "patch", "build", "revision"].map(number),
        )
    };
    assert!(read("3.21.3-core1.0.0") < read("3.21.3-core1.1.0"));
    assert!(read("3.21.3-core1.9.0") < read("3.21.3-core1.10.0"));
    assert!(read("3.21.3-core2.0.0") < read("3.21.10-core1.0.0"));
    assert!(read("12-core1") < read("13.1-core1"));
    assert_eq!(read("1.22.3-alpine3.21-core1.0.0").0, "alpine3.21");
    assert!(!pattern.is_match("latest") && !pattern.is_match("3.21.3"));
}

#[test]
fn init_writes_the_workflow_where_forgejo_reads_it_and_lists_next_steps_in_order() {
    let at = tempfile::tempdir().expect("a directory");
    let values = || {
        let options = InitOptions {
            forge: Some(InitForge::Gitea),
            directory: PathBuf::from("."),
            registry: None,
        };
        values(
            &options,
            GitCheckout {
                remote: None,
                branch: None,
            },
            at.path(),
        )
        .expect("values")
    };
    fs::create_dir(at.path().join(".forgejo")).expect("a directory");
    assert!(
        files(&values())
            .expect("files")
            .iter()
            .any(|(path, _)| *path == ".gitea/workflows/lifecycle.yml")
    );
    fs::create_dir(at.path().join(".forgejo/workflows")).expect("a directory");
    let files: Vec<&str> = files(&values())
        .expect("files")
        .into_iter()
        .map(|(path, _)| path)
        .collect();
    assert!(
        files.contains(&".forgejo/workflows/lifecycle.yml")
            && !files.contains(&".gitea/workflows/lifecycle.yml"),
        "{files:?}"
    );

    let steps_for = |values: &InitValues| {
        let document = Document {
            blocks: next_steps(values, &files, Path::new(".")),
        };
        draw(&document, Style { color: false })
    };
    let gitlab = values_of(Some(InitForge::Gitlab), None, None).expect("values");
    for (text, steps) in [
        (
            steps_for(&gitlab),
            &[
                "`imglife eol update`",
                "Allow the pipeline to push",
                "`git push -o ci.skip`",
                "New pipeline",
                "`git pull`",
            ][..],
        ),
        (
            steps_for(&values()),
            &[
                "`imglife eol update`",
                "IMGLIFE_GITEA_TOKEN",
                "IMGLIFE_SHA256",
                "`[skip ci]`",
                "Start the workflow",
                "`git pull`",
            ],
        ),
    ] {
        let positions: Vec<Option<usize>> = steps.iter().map(|step| text.find(step)).collect();
        assert!(
            positions.iter().all(Option::is_some) && positions.is_sorted(),
            "{positions:?} in {text}"
        );
    }
}

#[test]
fn init_overwrites_no_file_and_a_failure_removes_all_files() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = directory.path();
    let files =
        || files(&values_of(Some(InitForge::Gitea), None, None).expect("values")).expect("files");
    fs::write(at.join("imglife.yaml"), "mine").expect("a file");
    fs::write(at.join("renovate-bases.json"), "mine").expect("a file");
    let failure = write(at, files()).expect_err("files exist");
    assert_eq!(
        (failure.exit, failure.error.to_string().as_str()),
        (
            Exit::Usage,
            "imglife.yaml, renovate-bases.json already exist"
        )
    );
    assert_eq!(fs::read_dir(at).expect("a directory").count(), 2);

    // A file with the name of a directory.
    let other = tempfile::tempdir().expect("a directory");
    fs::write(other.path().join(".gitea"), "a file").expect("a file");
    let failure = write(other.path(), files()).expect_err("no directory");
    assert_eq!(failure.exit, Exit::Failed);
    assert_eq!(fs::read_dir(other.path()).expect("a directory").count(), 1);

    let fresh = tempfile::tempdir().expect("a directory");
    fs::write(fresh.path().join(".gitignore"), "mine").expect("a file");
    let written = write(&fresh.path().join("."), files()).expect("written");
    assert_eq!(
        written,
        [
            "imglife.yaml",
            "images/alpine/Dockerfile.tmpl",
            ".gitea/workflows/lifecycle.yml",
            "renovate-bases.json"
        ]
    );
    assert_eq!(
        fs::read_to_string(fresh.path().join(".gitignore")).expect("a file"),
        "mine"
    );
    fs::write(fresh.path().join("other"), "").expect("a file");
    let mode = |name: &str| {
        fs::metadata(fresh.path().join(name))
            .expect("a file")
            .permissions()
            .mode()
    };
    assert_eq!(mode("imglife.yaml"), mode("other"));
}
