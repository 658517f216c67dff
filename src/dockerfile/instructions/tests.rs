//! Tests of the parsing of instructions.

use std::time::Instant;

use proptest::prelude::*;

use super::*;

fn read(text: &str) -> Result<Vec<DockerfileAction>, DockerfileError> {
    let arguments = [("GIVEN".to_owned(), "given".to_owned())].into();
    let target = "linux/arm/v7".parse().expect("a platform");
    let environment = [
        ("PATH".to_owned(), "/bin".to_owned()),
        ("SHADOW".to_owned(), "base".to_owned()),
    ];
    let setting = StageSettings {
        arguments: &arguments,
        target: Some(&target),
        environment: Some(&environment),
    };
    Ok(steps(text, &setting)?
        .into_iter()
        .map(|step| step.action)
        .filter(|action| !matches!(action, DockerfileAction::From(_)))
        .collect())
}

fn one(line: &str) -> DockerfileAction {
    read(&format!("FROM a\n{line}"))
        .unwrap_or_else(|error| panic!("{line}: {error}"))
        .pop()
        .expect("an action")
}

fn strings<const N: usize>(texts: [&str; N]) -> Vec<String> {
    texts.map(str::to_owned).to_vec()
}

fn owned<const N: usize>(texts: [(&str, &str); N]) -> Vec<(String, String)> {
    texts
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
}

#[test]
fn environment_takes_precedence_over_arguments() {
    for (text, expected) in [
        ("ARG X=1\nENV V=$X", "1"),
        ("ARG X=1\nENV X=2\nENV V=$X", "2"),
        ("ENV X=2\nARG X=1\nENV V=$X", "2"),
        ("ARG SHADOW=1\nENV V=$SHADOW", "base"),
        ("ARG GIVEN=1\nENV V=$GIVEN", "given"),
        ("ENV V=$GIVEN.", "."),
        ("ARG TARGETARCH\nENV V=$TARGETARCH", "arm"),
        ("ENV V=$TARGETARCH.", "."),
        (
            "ARG TARGETPLATFORM TARGETVARIANT\nENV V=$TARGETPLATFORM-$TARGETVARIANT",
            "linux/arm/v7-v7",
        ),
        ("ENV V=$PATH:/x", "/bin:/x"),
        // The values in one instruction do not see the variables that it sets.
        ("ENV X=1\nENV X=2 V=$X", "1"),
    ] {
        let Some(DockerfileAction::Environment(pairs)) =
            read(&format!("FROM a\n{text}")).expect(text).pop()
        else {
            panic!("{text}")
        };
        assert_eq!(
            pairs.last().map(|(_, value)| value.as_str()),
            Some(expected),
            "{text}"
        );
    }
    let Some(DockerfileAction::Environment(pairs)) =
        read("ARG X=g\nARG Y=$X$X\nFROM a\nARG X\nARG Y\nARG X=$Y\nENV V=$X")
            .expect("a file")
            .pop()
    else {
        panic!("no ENV")
    };
    assert_eq!(pairs[0].1, "gg");
}

#[test]
fn steps_returns_typed_instructions() {
    assert_eq!(
        one("ENV A=\"b c\" D='$A'"),
        DockerfileAction::Environment(owned([("A", "b c"), ("D", "$A")]))
    );
    assert_eq!(
        one("LABEL a.b=\"c\\\n d\""),
        DockerfileAction::Labels(owned([("a.b", "c d")]))
    );
    assert_eq!(
        one("CMD [\"a\", \"$PATH\"]"),
        DockerfileAction::Command(DockerfileCommand::Exec(strings(["a", "$PATH"])))
    );
    assert_eq!(
        one("ENTRYPOINT exec \\\n# no\n\n  $PATH \"x\""),
        DockerfileAction::Entrypoint(DockerfileCommand::Shell("exec   $PATH \"x\"".to_owned()))
    );
    assert_eq!(
        one("CMD [\"a\""),
        DockerfileAction::Command(DockerfileCommand::Shell("[\"a\"".to_owned()))
    );
    assert_eq!(
        one("EXPOSE 80 $PATH/tcp"),
        DockerfileAction::Expose(strings(["80", "/bin/tcp"]))
    );
    assert_eq!(
        one("VOLUME [\"/a\", \"$PATH\"]"),
        DockerfileAction::Volumes(strings(["/a", "/bin"]))
    );
    assert_eq!(
        one("VOLUME /a /b"),
        DockerfileAction::Volumes(strings(["/a", "/b"]))
    );
    assert_eq!(
        one("WORKDIR \"/a b\"/$PATH"),
        DockerfileAction::WorkingDirectory("/a b//bin".to_owned())
    );
    assert_eq!(
        one("SHELL [\"/bin/bash\", \"-c\"]"),
        DockerfileAction::Shell(strings(["/bin/bash", "-c"]))
    );
    assert_eq!(
        one("HEALTHCHECK NONE"),
        DockerfileAction::Healthcheck(Healthcheck::None)
    );
    assert_eq!(
        one("RUN --mount=type=cache,target=/x y"),
        DockerfileAction::Run { binds: false }
    );
    assert_eq!(
        one("RUN --mount=target=/x y"),
        DockerfileAction::Run { binds: true }
    );
    let DockerfileAction::Healthcheck(Healthcheck::Check {
        interval,
        retries,
        command,
        ..
    }) = one("HEALTHCHECK --interval=1m30s --retries=3 CMD x")
    else {
        panic!("no check")
    };
    assert_eq!(
        (interval, retries),
        (Some(Duration::from_secs(90)), Some(3))
    );
    assert_eq!(command, DockerfileCommand::Shell("x".to_owned()));
    let DockerfileAction::Copy(copying) =
        one("ADD --chown=$PATH --chmod=755 --link --checksum=x a [b] /c")
    else {
        panic!("no ADD")
    };
    assert_eq!(
        (copying.chown.as_deref(), copying.chmod.as_deref()),
        (Some("/bin"), Some("755"))
    );
    assert_eq!(
        (
            copying.other_flag.as_deref(),
            copying.destination.as_str(),
            copying.sources.len()
        ),
        (Some("--checksum"), "/c", 2)
    );
}

#[test]
fn here_documents_have_a_name_and_text() {
    let DockerfileAction::Copy(copying) =
        one("COPY <<one.txt <<-'two' /d/\n$PATH 'q'\none.txt\n\t$PATH\n\ttwo")
    else {
        panic!("no COPY")
    };
    let text = |name: &str, text: &str| CopySource::HereDocument {
        name: name.to_owned(),
        text: text.to_owned(),
    };
    assert_eq!(
        copying.sources,
        [text("one.txt", "/bin 'q'\n"), text("two", "$PATH\n")]
    );
}

#[test]
fn remote_source_recognises_urls() {
    for (line, expected) in [
        ("ADD https://x/y /", true),
        ("ADD git@github.com:a/b.git /", true),
        ("ADD a https://x/y /d/", true),
        ("COPY https://x/y /", false),
        ("ADD a.tar.gz /", false),
    ] {
        let DockerfileAction::Copy(copying) = one(line) else {
            panic!("{line}")
        };
        assert_eq!(copying.remote_source().is_some(), expected, "{line}");
    }
}

#[test]
fn steps_reports_errors_with_their_line() {
    for (line, message) in [
        ("ENV A", "line 2: `A` is not a name with a value"),
        (
            "WORKDIR $NOT",
            "line 2: the value is empty after expansion of its variables",
        ),
        (
            "COPY a ${X/y/z}",
            "line 2: `${X/y/z}` is not a supported reference to an argument",
        ),
        (
            "HEALTHCHECK --interval=soon CMD x",
            "line 2: `--interval=soon` is not valid",
        ),
    ] {
        assert_eq!(
            read(&format!("FROM a\n{line}"))
                .expect_err(line)
                .to_string(),
            message
        );
    }
}

#[test]
fn duration_follows_go() {
    for (text, millis) in [
        ("30s", 30_000),
        ("1.5h", 5_400_000),
        ("1m30s", 90_000),
        ("300ms", 300),
    ] {
        assert_eq!(
            duration(text),
            Some(Duration::from_millis(millis)),
            "{text}"
        );
    }
    for text in ["", "5", "s", "-1s", "1e9h", "1..2s", "99999999999999h"] {
        assert_eq!(duration(text), None, "{text}");
    }
}

#[test]
fn steps_limits_expansion() {
    let began = Instant::now();
    let long = format!("FROM a\nENV A={}", "x".repeat(MAX_FILE_BYTES - 20));
    assert!(
        read(&long)
            .expect_err("refused")
            .to_string()
            .contains("longer than")
    );
    let mut doubling = "FROM a\nENV A0=xxxxxxxx\n".to_owned();
    for level in 1..60 {
        doubling += &format!("ENV A{level}=$A{0}$A{0}\n", level - 1);
    }
    assert!(read(&doubling).is_err());
    assert!(read(&("FROM a\n".to_owned() + &"ENV A=1\n".repeat(MAX_INSTRUCTIONS))).is_err());
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
}

proptest! {
    #[test]
    fn steps_never_panics(text in "(FROM a\n)(FROM |ARG |RUN |COPY |ADD |ENV |LABEL |CMD |VOLUME |SHELL |HEALTHCHECK |--from=|[$]|[{]|[}]|[\\[]|:-|\"|'|\\\\|\n|\r|,|a|=|<<E|\nE\n|/|\\PC){0,40}") {
        let _ = read(&text);
    }
}
