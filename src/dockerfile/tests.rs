//! Tests of the base image, and fuzzing of Dockerfiles and patterns.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::model::Variables;

const NONE: &[(&str, &str)] = &[];

fn read(
    text: &str,
    given: &[(&str, &str)],
    environment: &[(&str, &str)],
) -> Result<FinalStageBase, DockerfileError> {
    let given = given
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let environment = environment.iter().copied().collect();
    final_stage_base(
        text,
        ArgumentValues {
            given: &given,
            environment: &environment,
        },
    )
}

/// Returns the base and its line.
fn found(text: &str) -> (String, usize) {
    let stage = read(text, NONE, NONE).unwrap_or_else(|error| panic!("{text}: {error}"));
    match stage.base {
        DockerfileBase::Scratch => ("scratch".to_owned(), stage.line),
        DockerfileBase::Image(image) => (image.to_string(), stage.line),
    }
}

fn base(text: &str, given: &[(&str, &str)], environment: &[(&str, &str)]) -> String {
    match read(text, given, environment)
        .unwrap_or_else(|error| panic!("{text}: {error}"))
        .base
    {
        DockerfileBase::Scratch => "scratch".to_owned(),
        DockerfileBase::Image(image) => image.to_string(),
    }
}

fn error_of(text: &str) -> String {
    read(text, NONE, NONE).expect_err("invalid").to_string()
}

#[test]
fn final_stage_base_follows_stages() {
    for (text, image, line) in [
        ("FROM r.example/a:1", "r.example/a:1", 1),
        (
            "FROM r.example/a:1\nRUN x\nFROM r.example/b:2\nCOPY --from=0 /x /x\n",
            "r.example/b:2",
            3,
        ),
        (
            "FROM r.example/a:1 AS one\nFROM r.example/b:2 AS two\nFROM one\n",
            "r.example/a:1",
            1,
        ),
        (
            "FROM r.example/a:1 AS one\nFROM one AS two\nFROM TWO as three\n",
            "r.example/a:1",
            1,
        ),
        (
            "FROM r.example/a:1 AS x\nFROM r.example/b:1 AS x\nFROM x",
            "r.example/b:1",
            2,
        ),
        // A stage can only be used below its own line.
        (
            "FROM later\nFROM r.example/a:1 AS later\nFROM r.example/b:1",
            "r.example/b:1",
            3,
        ),
        ("FROM later\n", "docker.io/library/later", 1),
        ("FROM scratch\nCOPY x /x", "scratch", 1),
        (
            "from --platform=$BUILDPLATFORM r.example/a:1 as x\nFrOm --platform=linux/amd64 x",
            "r.example/a:1",
            1,
        ),
        (
            "# syntax=docker/dockerfile:1\n\n# FROM no\n  FROM r.example/a@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "r.example/a@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            4,
        ),
        (
            "\r\nFROM \\\r\n  r.example/a:1 \\\r\n  AS x\r\nRUN y\r\n",
            "r.example/a:1",
            2,
        ),
        ("\u{feff}FROM r.example/a:1", "r.example/a:1", 1),
        ("\u{feff}# x\nFROM r.example/a:1", "r.example/a:1", 2),
        (
            "FROM r.example/a:1\nRUN cat > /x \\\n  <<EOF\nFROM b\nEOF\nENTRYPOINT []\n",
            "r.example/a:1",
            1,
        ),
        (
            "# escape=`\nFROM `\n  r.example/a:1\nRUN dir c:\\\nFROM r.example/b:1",
            "r.example/b:1",
            5,
        ),
        (
            "FROM r.example/a:1\nRUN <<EOF\nFROM no\nEOF\nCOPY <<-'X' <<Y /\nFROM no\n\tX\nFROM no\nY\nUSER x",
            "r.example/a:1",
            1,
        ),
        (
            "FROM r.example/a:1\nRUN x && \\\n# a comment\n\n  FROM no\n",
            "r.example/a:1",
            1,
        ),
        (
            "FROM r.example/a:1\nONBUILD RUN x\nHEALTHCHECK CMD x\nSHELL [\"x\"]\nMAINTAINER y",
            "r.example/a:1",
            1,
        ),
    ] {
        assert_eq!(found(text), (image.to_owned(), line), "{text}");
    }
}

#[test]
fn arguments_prefer_the_flag_then_the_default_then_the_environment() {
    let text = "ARG TAG=1\nFROM r.example/a:$TAG";
    assert_eq!(
        base(text, &[("TAG", "3")], &[("TAG", "2")]),
        "r.example/a:3"
    );
    assert_eq!(base(text, NONE, &[("TAG", "2")]), "r.example/a:1");
    assert_eq!(
        base("ARG TAG\nFROM r.example/a:$TAG", NONE, &[("TAG", "2")]),
        "r.example/a:2"
    );
    assert_eq!(
        base(
            "ARG BASE_IMAGE\nFROM $BASE_IMAGE",
            &[("BASE_IMAGE", "r.example/b:1")],
            NONE
        ),
        "r.example/b:1"
    );
}

#[test]
fn references_are_expanded_as_builders_do() {
    for (text, image) in [
        (
            "ARG R=r.example\nARG N=${R}/a V=1\nFROM ${N}:${V}",
            "r.example/a:1",
        ),
        (
            "ARG R=\"r.example\" N='a'\nFROM \"$R/$N:1\"",
            "r.example/a:1",
        ),
        ("ARG T\nFROM r.example/a:${T:-1}", "r.example/a:1"),
        ("ARG T=\nFROM r.example/a:${T:-1}", "r.example/a:1"),
        ("ARG T=\nFROM r.example/a${T-:1}", "r.example/a"),
        ("ARG T=2\nFROM r.example/a:1${T:+-x}", "r.example/a:1-x"),
        ("ARG T=2\nFROM r.example/a:${T:?no-tag}", "r.example/a:2"),
        (
            "ARG T\nARG U=3\nFROM r.example/a:${T:-${U:-1}}",
            "r.example/a:3",
        ),
        ("FROM r.example/a:${UNKNOWN:-1}", "r.example/a:1"),
        ("ARG A=1\nARG A=2\nFROM r.example/a:$A", "r.example/a:2"),
        (
            "ARG S=base\nFROM r.example/a:1 AS base\nFROM $S",
            "r.example/a:1",
        ),
        // Arguments that are declared in a stage are not available in FROM.
        (
            "ARG A=1\nFROM r.example/a:$A\nARG A=2\nFROM r.example/b:$A",
            "r.example/b:1",
        ),
        (
            "# escape=`\nARG A=x`-y\nFROM r.example/a:$A",
            "r.example/a:x-y",
        ),
    ] {
        assert_eq!(base(text, NONE, NONE), image, "{text}");
    }
}

#[test]
fn errors_name_their_line() {
    for (text, message) in [
        ("", "the file has no FROM instruction"),
        ("# nothing\nARG A=1\n", "the file has no FROM instruction"),
        ("RUN x\nFROM a", "line 1: expected FROM"),
        ("FROM a\nFRUM b", "line 2: unknown instruction 'FRUM'"),
        ("FROM a b", "line 1: expected AS"),
        (
            "\nARG T\nFROM a:$T",
            "line 3: `T` has no value: its ARG has no default, and the environment variable is not set",
        ),
        ("FROM a:$T", "line 1: `T` is not declared"),
        ("ARG T\nFROM a:${T:?give-a-tag}", "line 2: `T`: give-a-tag"),
        (
            "ARG T=1\nFROM a:${T%x}",
            "line 2: `${T%x}` is not a supported reference to an argument",
        ),
        (
            "ARG T='1\nFROM a",
            "line 1: a closing quote or brace is missing",
        ),
        (
            "ARG T=\nFROM $T",
            "line 2: the image in FROM is empty after expansion of its arguments",
        ),
        (
            "FROM a:b:c",
            "line 1: `b:c` is not a tag: a tag consists of letters, digits, `_`, `.` and `-`, and does not start with `.` or `-`",
        ),
    ] {
        assert_eq!(error_of(text), message, "{text}");
    }
    let hint = |text: &str| read(text, NONE, NONE).expect_err("invalid").hint();
    assert_eq!(
        hint("ARG T\nFROM a:$T").as_deref(),
        Some("set it with `--build-arg T=VALUE`")
    );
}

#[test]
fn arguments_do_not_read_secrets_from_the_environment() {
    let error = read(
        "ARG CI_JOB_TOKEN\nFROM evil.example/a:$CI_JOB_TOKEN",
        NONE,
        &[("CI_JOB_TOKEN", "hunter2")],
    )
    .expect_err("invalid");
    assert_eq!(
        error.to_string(),
        "line 2: `CI_JOB_TOKEN` is named like a secret, so the environment variable is not used"
    );
}

#[test]
fn final_stage_base_limits_expansion() {
    let mut doubling = "ARG A0=xxxxxxxx\n".to_owned();
    for level in 1..60 {
        doubling += &format!("ARG A{level}=$A{0}$A{0}\n", level - 1);
    }
    let many_values =
        format!("ARG A={}\n", "x".repeat(16_000)) + &"ARG B=$A\n".repeat(50_000) + "FROM a";
    let nested = format!("FROM {}", "${A:-".repeat(3000));
    let began = Instant::now();
    assert!(error_of(&(doubling + "FROM a")).contains("longer than 16384 bytes"));
    assert!(error_of(&many_values).contains("longer than 16384 bytes"));
    assert!(error_of(&nested).contains("is not a supported reference"));
    assert!(error_of(&"x".repeat(MAX_FILE_BYTES + 1)).contains("larger than 1024 KiB"));
    let stages = "FROM a AS b\n".repeat(80_000);
    assert_eq!(found(&stages).1, 80_000);
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
}

proptest! {
    #[test]
    fn final_stage_base_never_panics(text in "(FROM |ARG |RUN |as |[$]|[{]|[}]|:-|\"|'|\\\\|\n|a|=|<<E|# escape=`\n|\\PC){0,40}") {
        let _ = read(&text, NONE, NONE);
    }
}

/// Dockerfiles that contain every instruction.
const SEEDS: [&str; 3] = [
    "# syntax=docker/dockerfile:1\n# escape=`\nARG V=1\nFROM r.example/a:${V:-2} AS one\nFROM one\nCOPY --from=0 --chown=a:b --chmod=755 x y /z/\nRUN <<EOF\necho\nEOF\n",
    "FROM a\nARG A=\"b c\"\nENV A=$A B='c' \\\n  C=${A:+x}\nLABEL a=b\nADD [\"a b\", \"/c\"]\nHEALTHCHECK --interval=1m CMD x\nEXPOSE 80/tcp 1-9\nSTOPSIGNAL 9\nSHELL [\"a\"]\nVOLUME [\"/x\"]\nUSER a:b\nWORKDIR x\nENTRYPOINT [\"x\"]\nCMD x y\nONBUILD RUN x\n",
    "from scratch\ncopy *.txt [ab]/** /\nadd https://a.example/x.tar /\n",
];

#[test]
fn fuzzing_dockerfiles() {
    let (given, environment) = (
        BTreeMap::from([("V".to_owned(), "3".to_owned())]),
        Variables::default(),
    );
    let folder = [ContextFile {
        path: "a.txt".to_owned(),
        kind: ContextFileKind::File,
    }];
    let target = "linux/arm64".parse().expect("a platform");
    let known = [("PATH".to_owned(), "/bin".to_owned())];
    crate::model::fuzz_tests::fuzz("Dockerfiles", &SEEDS, |input| {
        let text = crate::model::fuzz_tests::text(input);
        drop(
            final_stage_base(
                &text,
                ArgumentValues {
                    given: &given,
                    environment: &environment,
                },
            )
            .map_err(|error| (error.to_string(), error.hint())),
        );
        let setting = instructions::StageSettings {
            arguments: &given,
            target: Some(&target),
            environment: Some(&known),
        };
        drop(instructions::steps(&text, &setting).map_err(|error| error.to_string()));
        let building = BuildParameters {
            arguments: &given,
            platforms: std::slice::from_ref(&target),
        };
        drop(context_files(&text, building, &folder, None).map_err(|error| error.to_string()));
        drop(first_unsupported(&text, &given).map_err(|error| error.to_string()));
    });
}

#[test]
fn fuzzing_patterns() {
    crate::model::fuzz_tests::fuzz(
        "patterns",
        &["# a\n*.txt\n!a/**/b\n[a-c]?\\*\n", "**/x", "a{b,c}"],
        |input| {
            let text = crate::model::fuzz_tests::text(input);
            if let Ok(ignore) = patterns::DockerIgnore::parse(&text) {
                ignore.excludes("a/b/c.txt");
            }
            if let Ok(glob) = patterns::Glob::new(&text) {
                glob.matches("a/b/c.txt");
            }
            let clean = patterns::clean(&text);
            assert_eq!(patterns::clean(&clean), clean);
        },
    );
}
