//! The configuration of an image: that of its base, with what the instructions change.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::dockerfile::instructions::{Action, Command, Copying, Health, Source, set};
use crate::model::text::excerpt;
use crate::model::{Digest, Platform};

#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(super) enum ConfigError {
    #[error("it is no configuration of an image")]
    Malformed,
    #[error("it has {layers} layers and a configuration for {diff_ids}")]
    Layers { layers: usize, diff_ids: usize },
    #[error("`{}` is no port: expected `80`, `80/udp` or `8000-8010`", excerpt(.0, 60))]
    Port(String),
    #[error("more than {MOST_PORTS} ports are exposed")]
    Ports,
}

/// The most ports that may be named: all of them once.
const MOST_PORTS: usize = 65_536;

/// A configuration that grows.
#[derive(Clone, Debug)]
pub(super) struct Config {
    all: Map<String, Value>,
    created: String,
    /// What commands in the form of a line are run by.
    shell: Vec<String>,
    has_own_command: bool,
    /// How many ports were named so far, those named again too.
    ports: usize,
}

/// What came of an instruction in the file system.
pub(super) enum Made<'a> {
    Nothing,
    /// A layer, by its digest before it was packed.
    Layer(&'a Digest),
}

impl Config {
    /// Returns the configuration in `bytes` of a base that has `layers` layers, to be changed at
    /// the time `created`.
    pub(super) fn of_base(
        bytes: &[u8],
        layers: usize,
        created: DateTime<Utc>,
    ) -> Result<Config, ConfigError> {
        let mut all: Map<String, Value> =
            serde_json::from_slice(bytes).map_err(|_| ConfigError::Malformed)?;
        let diff_ids = all
            .get("rootfs")
            .and_then(|rootfs| rootfs["diff_ids"].as_array())
            .ok_or(ConfigError::Malformed)?
            .len();
        if diff_ids != layers {
            return Err(ConfigError::Layers { layers, diff_ids });
        }
        let created = created.to_rfc3339_opts(SecondsFormat::Secs, true);
        // What Docker's own format says of the build of the base.
        for key in [
            "id",
            "parent",
            "container",
            "container_config",
            "docker_version",
            "throwaway",
            "Size",
            "moby.buildkit.buildinfo.v1",
        ] {
            all.remove(key);
        }
        all.insert("created".to_owned(), json!(created));
        let history = all
            .get("history")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        let of_layers = history
            .iter()
            .filter(|entry| entry["empty_layer"] != json!(true))
            .count();
        // A history that does not fit makes some tools refuse the image; one that is made up at
        // least counts right.
        let history = if of_layers == layers {
            history
        } else {
            vec![json!({ "created_by": "the base image" }); layers]
        };
        all.insert("history".to_owned(), history.into());
        if !all.get("config").is_some_and(Value::is_object) {
            all.insert("config".to_owned(), json!({}));
        }
        let mut config = Config {
            all,
            created,
            shell: Vec::new(),
            has_own_command: false,
            ports: 0,
        };
        config.shell = strings(&config.section()["Shell"]);
        Ok(config)
    }

    /// Returns the platform that the configuration is for.
    pub(super) fn platform(&self) -> Platform {
        let text = |key: &str| {
            self.all
                .get(key)
                .and_then(Value::as_str)
                .filter(|text| !text.is_empty())
                .map(str::to_owned)
        };
        Platform {
            os: text("os").unwrap_or_else(|| "linux".to_owned()),
            architecture: text("architecture").unwrap_or_default(),
            variant: text("variant"),
            os_version: text("os.version"),
        }
    }

    /// Returns the first trigger that the base left for builds upon it.
    pub(super) fn trigger(&self) -> Option<String> {
        strings(&self.section()["OnBuild"]).into_iter().next()
    }

    pub(super) fn environment(&self) -> Vec<(String, String)> {
        let pair = |text: String| {
            text.split_once('=')
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
        };
        strings(&self.section()["Env"])
            .into_iter()
            .filter_map(pair)
            .collect()
    }

    /// Returns the user that programs run as, where it says one.
    pub(super) fn user(&self) -> Option<String> {
        self.section()["User"]
            .as_str()
            .filter(|user| !user.is_empty())
            .map(str::to_owned)
    }

    /// Returns the working directory, which is absolute.
    pub(super) fn working_directory(&self) -> String {
        let directory = self.section()["WorkingDir"].as_str().unwrap_or_default();
        format!("/{}", directory.trim_matches('/'))
    }

    fn section(&self) -> &Value {
        static NULL: Value = Value::Null;
        self.all.get("config").unwrap_or(&NULL)
    }

    fn put(&mut self, key: &str, value: Value) {
        if let Some(section) = self.all.get_mut("config").and_then(Value::as_object_mut) {
            section.insert(key.to_owned(), value);
        }
    }

    fn remove(&mut self, key: &str) {
        if let Some(section) = self.all.get_mut("config").and_then(Value::as_object_mut) {
            section.remove(key);
        }
    }

    /// Adds names to an object whose values are empty objects.
    fn extend(&mut self, key: &str, names: impl IntoIterator<Item = String>) {
        let Some(section) = self.all.get_mut("config").and_then(Value::as_object_mut) else {
            return;
        };
        let object = section.entry(key).or_insert(Value::Null);
        if !object.is_object() {
            *object = json!({});
        }
        if let Some(object) = object.as_object_mut() {
            object.extend(names.into_iter().map(|name| (name, json!({}))));
        }
    }

    /// Changes the configuration as an instruction says, and adds it to the history with what it
    /// `made`.
    pub(super) fn apply(&mut self, action: &Action, made: &Made<'_>) -> Result<(), ConfigError> {
        match action {
            Action::Environment(pairs) => {
                let mut environment = self.environment();
                for (name, value) in pairs {
                    set(&mut environment, name, value);
                }
                self.put(
                    "Env",
                    environment
                        .into_iter()
                        .map(|(name, value)| format!("{name}={value}"))
                        .collect::<Vec<_>>()
                        .into(),
                );
            }
            Action::Labels(pairs) => self.label(pairs.iter().map(|(name, value)| (name, value))),
            Action::WorkingDirectory(path) => {
                let directory = if path.starts_with('/') {
                    path.clone()
                } else {
                    format!("{}/{path}", self.working_directory())
                };
                self.put(
                    "WorkingDir",
                    format!("/{}", crate::dockerfile::patterns::clean(&directory)).into(),
                );
            }
            Action::User(user) => self.put("User", user.as_str().into()),
            Action::Expose(words) => {
                let mut ports = BTreeSet::new();
                for word in words {
                    let range = exposed(word).ok_or_else(|| ConfigError::Port(word.clone()))?;
                    self.ports += range.ports.clone().count();
                    if self.ports > MOST_PORTS {
                        return Err(ConfigError::Ports);
                    }
                    ports.extend(range.ports.map(|port| format!("{port}/{}", range.protocol)));
                }
                self.extend("ExposedPorts", ports);
            }
            Action::Volumes(paths) => self.extend("Volumes", paths.iter().cloned()),
            Action::Entrypoint(command) => {
                let words = self.words(command);
                self.put("Entrypoint", words.into());
                // The command of the base was written for its own entry point.
                if !self.has_own_command {
                    self.remove("Cmd");
                }
            }
            Action::Command(command) => {
                let words = self.words(command);
                self.put("Cmd", words.into());
                self.has_own_command = true;
            }
            Action::StopSignal(signal) => self.put("StopSignal", signal.as_str().into()),
            Action::Shell(words) => {
                self.shell.clone_from(words);
                self.put("Shell", words.clone().into());
            }
            Action::Healthcheck(health) => {
                self.put("Healthcheck", checked(health));
            }
            Action::Author(author) => {
                drop(self.all.insert("author".to_owned(), author.as_str().into()));
            }
            Action::Copy(_)
            | Action::Argument(_)
            | Action::From(_)
            | Action::Run { .. }
            | Action::OnBuild => {}
        }
        let Some(created_by) = written(action) else {
            return Ok(());
        };
        let mut entry = json!({ "created": self.created, "created_by": created_by });
        match made {
            Made::Nothing => entry["empty_layer"] = true.into(),
            Made::Layer(diff_id) => {
                if let Some(diff_ids) = self
                    .all
                    .get_mut("rootfs")
                    .and_then(|rootfs| rootfs["diff_ids"].as_array_mut())
                {
                    diff_ids.push(json!(diff_id));
                }
            }
        }
        if let Some(history) = self.all.get_mut("history").and_then(Value::as_array_mut) {
            history.push(entry);
        }
        Ok(())
    }

    /// Adds labels, in place of those of the same names.
    pub(super) fn label<'a>(&mut self, pairs: impl IntoIterator<Item = (&'a String, &'a String)>) {
        let mut labels: BTreeMap<String, Value> = self.section()["Labels"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        labels.extend(
            pairs
                .into_iter()
                .map(|(name, value)| (name.clone(), value.as_str().into())),
        );
        self.put("Labels", Value::Object(labels.into_iter().collect()));
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        Value::Object(self.all).to_string().into_bytes()
    }

    fn words(&self, command: &Command) -> Vec<String> {
        match command {
            Command::Exec(words) => words.clone(),
            Command::Shell(line) => self
                .shell_words()
                .into_iter()
                .chain([line.clone()])
                .collect(),
        }
    }

    fn shell_words(&self) -> Vec<String> {
        if self.shell.is_empty() {
            vec!["/bin/sh".to_owned(), "-c".to_owned()]
        } else {
            self.shell.clone()
        }
    }
}

/// Returns a check in Docker's form, in which times are in nanoseconds.
fn checked(health: &Health) -> Value {
    let Health::Check {
        command,
        interval,
        timeout,
        start_period,
        start_interval,
        retries,
    } = health
    else {
        return json!({ "Test": ["NONE"] });
    };
    let test: Vec<String> = match command {
        Command::Exec(words) => ["CMD".to_owned()]
            .into_iter()
            .chain(words.iter().cloned())
            .collect(),
        Command::Shell(line) => vec!["CMD-SHELL".to_owned(), line.clone()],
    };
    let mut check = json!({ "Test": test });
    for (key, time) in [
        ("Interval", interval),
        ("Timeout", timeout),
        ("StartPeriod", start_period),
        ("StartInterval", start_interval),
    ] {
        if let Some(nanoseconds) = time.and_then(|time| u64::try_from(time.as_nanos()).ok()) {
            check[key] = nanoseconds.into();
        }
    }
    if let Some(retries) = retries {
        check["Retries"] = (*retries).into();
    }
    check
}

fn strings(value: &Value) -> Vec<String> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

/// What a word of `EXPOSE` names.
#[derive(Debug, PartialEq, Eq)]
struct Exposed {
    ports: RangeInclusive<u16>,
    protocol: String,
}

/// Returns the ports that a word of `EXPOSE` names.
fn exposed(word: &str) -> Option<Exposed> {
    let (ports, protocol) = word.split_once('/').unwrap_or((word, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return None;
    }
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some(Exposed {
        ports: first..=last,
        protocol,
    })
}

/// Returns an instruction as the history shows it; `None` for what leaves no trace there.
fn written(action: &Action) -> Option<String> {
    let pairs = |pairs: &[(String, String)]| {
        pairs
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect::<Vec<_>>()
            .join(" ")
    };
    let command = |command: &Command| match command {
        Command::Exec(words) => json!(words).to_string(),
        Command::Shell(line) => line.clone(),
    };
    Some(match action {
        Action::From(_) | Action::Run { .. } | Action::OnBuild => return None,
        Action::Argument(text) => format!("ARG {text}"),
        Action::Environment(list) => format!("ENV {}", pairs(list)),
        Action::Labels(list) => format!("LABEL {}", pairs(list)),
        Action::Copy(copying) => written_copying(copying),
        Action::WorkingDirectory(path) => format!("WORKDIR {path}"),
        Action::User(user) => format!("USER {user}"),
        Action::Expose(ports) => format!("EXPOSE {}", ports.join(" ")),
        Action::Volumes(paths) => format!("VOLUME {}", json!(paths)),
        Action::Entrypoint(line) => format!("ENTRYPOINT {}", command(line)),
        Action::Command(line) => format!("CMD {}", command(line)),
        Action::StopSignal(signal) => format!("STOPSIGNAL {signal}"),
        Action::Shell(words) => format!("SHELL {}", json!(words)),
        Action::Healthcheck(Health::None) => "HEALTHCHECK NONE".to_owned(),
        Action::Healthcheck(Health::Check { command: line, .. }) => {
            format!("HEALTHCHECK CMD {}", command(line))
        }
        Action::Author(author) => format!("MAINTAINER {author}"),
    })
}

fn written_copying(copying: &Copying) -> String {
    let mut words = vec![copying.verb.name().to_owned()];
    words.extend(copying.chown.iter().map(|owner| format!("--chown={owner}")));
    words.extend(copying.chmod.iter().map(|mode| format!("--chmod={mode}")));
    words.extend(copying.sources.iter().map(|source| match source {
        Source::Path(path) => path.clone(),
        Source::Text { name, .. } => format!("<<{name}"),
        Source::Untold => String::new(),
    }));
    words.push(copying.destination.clone());
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::instructions::{Setting, steps};

    fn base(config: &Value) -> Config {
        let all = json!({
            "architecture": "arm64", "os": "linux", "variant": "v8", "container": "x", "docker_version": "1",
            "config": config, "rootfs": { "type": "layers", "diff_ids": ["sha256:one"] }, "history": [{ "created_by": "base" }],
        });
        let created = "2026-01-02T03:04:05Z".parse().expect("a time");
        Config::of_base(all.to_string().as_bytes(), 1, created).expect("a configuration")
    }

    fn built(config: &Value, lines: &str) -> Value {
        let mut config = base(config);
        let (arguments, environment) = (BTreeMap::new(), config.environment());
        let setting = Setting {
            arguments: &arguments,
            target: None,
            environment: Some(&environment),
        };
        for step in steps(&format!("FROM a\n{lines}"), &setting).expect("steps") {
            config
                .apply(&step.action, &Made::Nothing)
                .expect("a change");
        }
        serde_json::from_slice(&config.into_bytes()).expect("JSON")
    }

    #[test]
    fn instructions_change_what_the_base_says() {
        let config = json!({
            "Env": ["PATH=/bin", "A=1"], "Cmd": ["sh"], "WorkingDir": "/srv", "Labels": { "x": "base", "y": "base" },
            "ExposedPorts": { "80/tcp": {} }, "User": "nobody",
        });
        let lines = "ENV A=2 B=$PATH\nLABEL x=own z=\"a b\"\nEXPOSE 81/UDP 90-91\nVOLUME /data\nWORKDIR sub/../app\nENTRYPOINT [\"run\"]\n\
                     STOPSIGNAL SIGINT\nHEALTHCHECK --interval=5s --retries=2 CMD check it\nMAINTAINER me\nARG X=1";
        let built = built(&config, lines);
        let expected = json!({
            "Env": ["PATH=/bin", "A=2", "B=/bin"], "WorkingDir": "/srv/app", "Labels": { "x": "own", "y": "base", "z": "a b" },
            "ExposedPorts": { "80/tcp": {}, "81/udp": {}, "90/tcp": {}, "91/tcp": {} }, "User": "nobody", "Volumes": { "/data": {} },
            "Entrypoint": ["run"], "StopSignal": "SIGINT",
            "Healthcheck": { "Test": ["CMD-SHELL", "check it"], "Interval": 5_000_000_000_u64, "Retries": 2 },
        });
        assert_eq!(built["config"], expected);
        assert_eq!(
            (&built["author"], &built["created"], &built["variant"]),
            (&json!("me"), &json!("2026-01-02T03:04:05Z"), &json!("v8"))
        );
        assert!(built.get("container").is_none() && built.get("docker_version").is_none());
        let history: Vec<&str> = built["history"]
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(|entry| entry["created_by"].as_str())
            .collect();
        assert_eq!(
            history[..3],
            ["base", "ENV A=2 B=/bin", "LABEL x=own z=a b"]
        );
        assert_eq!((history.len(), history.last()), (11, Some(&"ARG X=1")));
    }

    #[test]
    fn an_entry_point_drops_the_command_of_the_base_only() {
        let config = json!({ "Cmd": ["sh"], "Entrypoint": ["base"] });
        assert_eq!(
            built(&config, "CMD [\"x\"]\nENTRYPOINT y")["config"],
            json!({ "Cmd": ["x"], "Entrypoint": ["/bin/sh", "-c", "y"] })
        );
        assert_eq!(
            built(&config, "SHELL [\"bash\"]\nENTRYPOINT y")["config"],
            json!({ "Entrypoint": ["bash", "y"], "Shell": ["bash"] })
        );
        assert_eq!(
            built(&config, "CMD [\"x\"]")["config"],
            json!({ "Cmd": ["x"], "Entrypoint": ["base"] })
        );
    }

    #[test]
    fn layers_are_counted_and_a_history_that_does_not_fit_is_made_up() {
        let mut config = base(&Value::Null);
        config
            .apply(
                &Action::WorkingDirectory("/x".to_owned()),
                &Made::Layer(&Digest::sha256(b"two")),
            )
            .expect("a change");
        let bytes = config.into_bytes();
        let read: Value = serde_json::from_slice(&bytes).expect("JSON");
        assert_eq!(
            read["rootfs"]["diff_ids"],
            json!(["sha256:one", Digest::sha256(b"two")])
        );
        assert_eq!(read["history"][1]["empty_layer"], Value::Null);
        let created = DateTime::<Utc>::UNIX_EPOCH;
        assert_eq!(
            Config::of_base(&bytes, 3, created).err(),
            Some(ConfigError::Layers {
                layers: 3,
                diff_ids: 2
            })
        );
        assert_eq!(
            Config::of_base(b"[]", 0, created).err(),
            Some(ConfigError::Malformed)
        );
        let bare = json!({ "rootfs": { "diff_ids": ["a", "b"] } }).to_string();
        let read: Value = serde_json::from_slice(
            &Config::of_base(bare.as_bytes(), 2, created)
                .expect("a base")
                .into_bytes(),
        )
        .expect("JSON");
        assert_eq!(read["history"].as_array().map(Vec::len), Some(2));
    }

    #[test]
    fn an_empty_entry_point_drops_that_of_the_base() {
        let config = json!({ "Cmd": ["sh"], "Entrypoint": ["base"] });
        assert_eq!(
            built(&config, "ENTRYPOINT []")["config"],
            json!({ "Entrypoint": [] })
        );
        assert_eq!(
            built(&config, "ENTRYPOINT [ ]\nCMD [\"x\"]")["config"],
            json!({ "Entrypoint": [], "Cmd": ["x"] })
        );
    }

    #[test]
    fn ports_without_end_are_refused_before_they_are_listed() {
        let mut config = base(&json!({}));
        let all = Action::Expose(vec!["1-65535/udp".to_owned()]);
        config.apply(&all, &Made::Nothing).expect("all ports");
        assert_eq!(
            config.section()["ExposedPorts"].as_object().map(Map::len),
            Some(65_535)
        );
        assert_eq!(config.apply(&all, &Made::Nothing), Err(ConfigError::Ports));
        let many = Action::Expose(vec!["1-65535".to_owned(); 100_000]);
        assert_eq!(
            base(&json!({})).apply(&many, &Made::Nothing),
            Err(ConfigError::Ports)
        );
    }

    #[test]
    fn ports_are_checked() {
        for word in ["", "x", "70000", "5-4", "80/icmp", "1-2-3"] {
            assert_eq!(exposed(word), None, "{word}");
        }
    }

    #[test]
    fn fuzzing_configurations_of_bases() {
        let seed = json!({
            "architecture": "arm", "os": "linux", "variant": "v7", "os.version": "1", "created": "2026-01-01T00:00:00Z",
            "config": { "Env": ["PATH=/bin", "X"], "Labels": { "a": "b" }, "User": "a:b", "WorkingDir": "x", "OnBuild": ["RUN x"], "Healthcheck": {},
                "ExposedPorts": { "80/tcp": {} }, "Volumes": null, "Entrypoint": ["a"], "Cmd": null },
            "rootfs": { "type": "layers", "diff_ids": ["sha256:one"] }, "history": [{ "created_by": "base", "empty_layer": true }],
        })
        .to_string();
        let created = "2026-01-02T03:04:05Z".parse().expect("a time");
        crate::model::fuzz_tests::fuzz("configurations of bases", &[&seed], |input| {
            let Ok(mut config) = Config::of_base(input, 1, created) else {
                return;
            };
            drop((
                config.platform(),
                config.trigger(),
                config.user(),
                config.working_directory(),
            ));
            let (arguments, environment) = (BTreeMap::new(), config.environment());
            let setting = Setting {
                arguments: &arguments,
                target: None,
                environment: Some(&environment),
            };
            let lines = "FROM a\nENV A=$PATH\nLABEL a=c\nUSER b\nWORKDIR y\nEXPOSE 81\nVOLUME /z\nCMD x\nSTOPSIGNAL 9\nHEALTHCHECK NONE\n";
            for step in steps(lines, &setting).unwrap_or_default() {
                drop(config.apply(&step.action, &Made::Nothing));
            }
            assert!(serde_json::from_slice::<Value>(&config.into_bytes()).is_ok());
        });
    }
}
