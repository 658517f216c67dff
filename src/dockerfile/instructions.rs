//! The instructions of one stage, typed, with their variables replaced.
//!
//! Which variables are replaced where follows BuildKit: in `ADD`, `ARG`, `COPY`, `ENV`, `EXPOSE`,
//! `LABEL`, `STOPSIGNAL`, `USER`, `VOLUME` and `WORKDIR`, not in commands. `ENV` goes before `ARG`
//! of the same name.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use parse_dockerfile as raw;
use parse_dockerfile::Instruction as Raw;

use super::arguments::{ExpandError, PREDEFINED};
use super::parsable::{is_empty_list, parsable};
use super::words::{Known, Lexer, Quotes, pairs, split};
use super::{DockerfileError, LONGEST_FILE, Problem, at, escape_character};
use crate::model::Platform;

/// The most instructions that are read.
const MOST_INSTRUCTIONS: usize = 2_000;

/// The most text that all values together may have once their variables are replaced, in bytes.
const MOST_TEXT: usize = 4 * 1024 * 1024;

/// What stands for the variables of a stage.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    /// Build arguments; they go before the defaults of the file.
    pub arguments: &'a BTreeMap<String, String>,
    /// What is built for; `None`: not known.
    pub target: Option<&'a Platform>,
    /// The environment of the base image; `None`: not known.
    pub environment: Option<&'a [(String, String)]>,
}

/// An instruction, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// From 1.
    pub line: usize,
    pub action: Action,
}

/// What an instruction does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A stage begins.
    From(Box<Stage>),
    /// An argument was declared, as the history shows it.
    Argument(String),
    Environment(Vec<(String, String)>),
    Labels(Vec<(String, String)>),
    Copy(Box<Copying>),
    WorkingDirectory(String),
    User(String),
    Expose(Vec<String>),
    Volumes(Vec<String>),
    Entrypoint(Command),
    Command(Command),
    StopSignal(String),
    Shell(Vec<String>),
    Healthcheck(Health),
    Author(String),
    /// It runs a command; `binds` when it reads the folder.
    Run {
        binds: bool,
    },
    OnBuild,
}

/// What `FROM` says besides its image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    pub image: String,
    pub platform: Option<String>,
}

/// `COPY` or `ADD`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copying {
    pub verb: Verb,
    pub sources: Vec<Source>,
    pub destination: String,
    pub chown: Option<String>,
    pub chmod: Option<String>,
    /// The stage or image of `--from`.
    pub from: Option<String>,
    /// The first flag that is none of the above and not `--link`.
    pub other_flag: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Copy,
    Add,
}

impl Verb {
    pub fn name(self) -> &'static str {
        match self {
            Verb::Copy => "COPY",
            Verb::Add => "ADD",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Path(String),
    /// A here-document: its name, and its text.
    Text {
        name: String,
        text: String,
    },
    /// Something whose name hangs on what is not known of base or target.
    Untold,
}

impl Copying {
    /// Returns the first source that is not in the folder: something to fetch.
    pub fn fetched(&self) -> Option<&str> {
        let is_remote = |path: &str| {
            let lower = path.to_ascii_lowercase();
            ["http://", "https://", "git://", "ssh://", "ftp://", "git@"]
                .iter()
                .any(|scheme| lower.starts_with(scheme))
                || (lower.starts_with("github.com/") && lower.contains(".git"))
        };
        let paths = self.sources.iter().filter_map(|source| match source {
            Source::Path(path) => Some(path.as_str()),
            Source::Text { .. } | Source::Untold => None,
        });
        paths
            .filter(|_| self.verb == Verb::Add)
            .find(|path| is_remote(path))
    }
}

/// A command in one of its two forms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Exec(Vec<String>),
    Shell(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    None,
    Check {
        command: Command,
        interval: Option<Duration>,
        timeout: Option<Duration>,
        start_period: Option<Duration>,
        start_interval: Option<Duration>,
        retries: Option<u64>,
    },
}

/// Returns the instructions from the first `FROM` on. Where base or target are not known, those are
/// left out whose values hang on them; of `COPY` and `ADD` only the sources are that do.
pub fn steps(text: &str, setting: &Setting<'_>) -> Result<Vec<Step>, DockerfileError> {
    let whole = |problem| DockerfileError {
        line: None,
        problem,
    };
    if text.len() > LONGEST_FILE {
        return Err(whole(Problem::TooLong));
    }
    let syntax = |error: raw::Error| match error.line() {
        0 => whole(Problem::NoStage),
        line => at(line, Problem::Syntax(format!("{error:#}"))),
    };
    // The parser's places do not count a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let ends: Vec<usize> = text.match_indices('\n').map(|(at, _)| at).collect();
    let line_at = |offset: usize| ends.partition_point(|end| *end < offset) + 1;
    let parsable = parsable(text, escape_character(text))?;
    let mut reader = Reader {
        text,
        escape: escape_character(text),
        setting,
        global: BTreeMap::new(),
        arguments: BTreeMap::new(),
        environment: Vec::new(),
        base: setting.environment,
        untold: BTreeSet::new(),
        in_stage: false,
        size: Cell::new(0),
    };
    let mut steps = Vec::new();
    for (count, instruction) in raw::parse_iter(&parsable).map_err(syntax)?.enumerate() {
        let instruction = instruction.map_err(syntax)?;
        let line = line_at(start(&instruction));
        if count == MOST_INSTRUCTIONS {
            return Err(at(line, Problem::TooMany));
        }
        let named = names(&instruction, reader.escape);
        match reader.read(instruction) {
            Ok(Some(action)) => steps.push(Step { line, action }),
            Ok(None) => {}
            Err(problem) if setting.environment.is_none() && hangs_on_the_base(&problem) => {
                reader.untold.extend(named);
            }
            Err(problem) => return Err(at(line, problem)),
        }
    }
    Ok(steps)
}

/// Returns whether the base, once it is known, may settle it.
fn hangs_on_the_base(problem: &Problem) -> bool {
    matches!(
        problem,
        Problem::Empty | Problem::Argument(ExpandError::Untold(_) | ExpandError::Demanded { .. })
    )
}

/// Returns the variables that an instruction sets.
fn names(instruction: &Raw<'_>, escape: char) -> Vec<String> {
    let name = |word: &str| {
        word.split_once('=')
            .map_or(word, |(name, _)| name)
            .to_owned()
    };
    match instruction {
        Raw::Env(environment) => {
            let pairs = pairs(&environment.arguments.value, escape).unwrap_or_default();
            pairs.into_iter().map(|(name, _)| name.to_owned()).collect()
        }
        Raw::Arg(argument) => split(&argument.arguments.value, escape)
            .unwrap_or_default()
            .into_iter()
            .map(name)
            .collect(),
        _ => Vec::new(),
    }
}

/// Returns the offset of an instruction's keyword.
fn start(instruction: &Raw<'_>) -> usize {
    let keyword = match instruction {
        Raw::Add(instruction) => &instruction.add,
        Raw::Arg(instruction) => &instruction.arg,
        Raw::Cmd(instruction) => &instruction.cmd,
        Raw::Copy(instruction) => &instruction.copy,
        Raw::Entrypoint(instruction) => &instruction.entrypoint,
        Raw::Env(instruction) => &instruction.env,
        Raw::Expose(instruction) => &instruction.expose,
        Raw::From(instruction) => &instruction.from,
        Raw::Healthcheck(instruction) => &instruction.healthcheck,
        Raw::Label(instruction) => &instruction.label,
        Raw::Maintainer(instruction) => &instruction.maintainer,
        Raw::Onbuild(instruction) => &instruction.onbuild,
        Raw::Run(instruction) => &instruction.run,
        Raw::Shell(instruction) => &instruction.shell,
        Raw::Stopsignal(instruction) => &instruction.stopsignal,
        Raw::User(instruction) => &instruction.user,
        Raw::Volume(instruction) => &instruction.volume,
        Raw::Workdir(instruction) => &instruction.workdir,
        _ => return 0,
    };
    keyword.span.start
}

struct Reader<'a> {
    text: &'a str,
    escape: char,
    setting: &'a Setting<'a>,
    /// What was declared before the first `FROM`.
    global: BTreeMap<String, Option<String>>,
    /// What was declared in this stage.
    arguments: BTreeMap<String, Option<String>>,
    /// What `ENV` set in this stage.
    environment: Vec<(String, String)>,
    base: Option<&'a [(String, String)]>,
    /// The variables whose values hang on something that was not read.
    untold: BTreeSet<String>,
    in_stage: bool,
    /// The length of all values so far, in bytes.
    size: Cell<usize>,
}

impl Reader<'_> {
    fn read(&mut self, instruction: Raw<'_>) -> Result<Option<Action>, Problem> {
        Ok(Some(match instruction {
            Raw::From(from) => Action::From(Box::new(self.from(&from))),
            Raw::Arg(argument) => match self.declare(&argument.arguments.value)? {
                shown if self.in_stage => Action::Argument(shown),
                _ => return Ok(None),
            },
            Raw::Env(environment) => {
                let pairs = self.pairs(&environment.arguments.value)?;
                for (name, value) in &pairs {
                    set(&mut self.environment, name, value);
                }
                Action::Environment(pairs)
            }
            Raw::Label(label) => Action::Labels(self.pairs(&label.arguments.value)?),
            Raw::Copy(copy) => Action::Copy(Box::new(self.copying(
                Verb::Copy,
                &copy.options,
                &copy.src,
                &copy.dest,
            )?)),
            Raw::Add(add) => Action::Copy(Box::new(self.copying(
                Verb::Add,
                &add.options,
                &add.src,
                &add.dest,
            )?)),
            Raw::Workdir(workdir) => {
                Action::WorkingDirectory(self.filled(&workdir.arguments.value)?)
            }
            Raw::User(user) => Action::User(self.filled(&user.arguments.value)?),
            Raw::Stopsignal(signal) => Action::StopSignal(self.filled(&signal.arguments.value)?),
            Raw::Expose(expose) => {
                let mut ports = Vec::new();
                for port in &expose.arguments {
                    // A variable may hold several.
                    ports.extend(
                        self.expand(&port.value)?
                            .split_whitespace()
                            .map(str::to_owned),
                    );
                }
                Action::Expose(ports)
            }
            Raw::Volume(volume) => {
                let paths = match &volume.arguments {
                    raw::JsonOrStringArray::Json(array) => &array.value[..],
                    raw::JsonOrStringArray::String(words) => &words[..],
                };
                Action::Volumes(
                    paths
                        .iter()
                        .map(|path| self.filled(&path.value))
                        .collect::<Result<_, _>>()?,
                )
            }
            Raw::Cmd(command) => Action::Command(self.command(&command.arguments)?),
            Raw::Entrypoint(entrypoint) => Action::Entrypoint(self.command(&entrypoint.arguments)?),
            Raw::Shell(shell) => Action::Shell(texts(&shell.arguments)),
            Raw::Healthcheck(check) => Action::Healthcheck(self.health(&check)?),
            Raw::Maintainer(maintainer) => Action::Author(maintainer.name.value.into_owned()),
            Raw::Run(run) => Action::Run {
                binds: run.options.iter().any(|flag| {
                    let kind = flag.value.as_ref().map_or("", |value| &value.value);
                    flag.name.value == "mount"
                        && (!kind.contains("type=")
                            || kind.contains("type=bind")
                            || kind.contains('$'))
                }),
            },
            Raw::Onbuild(_) => Action::OnBuild,
            _ => return Err(Problem::Syntax("unknown instruction".to_owned())),
        }))
    }

    fn from(&mut self, from: &raw::FromInstruction<'_>) -> Stage {
        if self.in_stage {
            // What a later stage stands on was not read.
            self.base = None;
        }
        self.in_stage = true;
        self.arguments.clear();
        self.environment.clear();
        self.untold.clear();
        let platform = from
            .options
            .iter()
            .find(|flag| flag.name.value == "platform");
        Stage {
            image: from.image.value.to_string(),
            platform: platform.map(|flag| {
                flag.value
                    .as_ref()
                    .map_or(String::new(), |value| value.value.to_string())
            }),
        }
    }

    /// Takes in what follows `ARG` and returns how the history shows it.
    fn declare(&mut self, text: &str) -> Result<String, Problem> {
        let mut shown = Vec::new();
        for word in split(text, self.escape)? {
            let (name, default) = match word.split_once('=') {
                Some((name, default)) => (name, Some(self.expand(default)?)),
                None => (word, None),
            };
            let inherited = || self.global.get(name).cloned().flatten();
            let given = self.setting.arguments.get(name).cloned();
            let value = given
                .or(default)
                .or_else(|| if self.in_stage { inherited() } else { None });
            self.grow(value.as_ref().map_or(0, String::len))?;
            shown.push(match &value {
                Some(value) => format!("{name}={value}"),
                None => name.to_owned(),
            });
            let scope = if self.in_stage {
                &mut self.arguments
            } else {
                &mut self.global
            };
            scope.insert(name.to_owned(), value);
        }
        Ok(shown.join(" "))
    }

    fn grow(&self, length: usize) -> Result<(), ExpandError> {
        self.size.set(self.size.get().saturating_add(length));
        if self.size.get() > MOST_TEXT {
            Err(ExpandError::TooLong)
        } else {
            Ok(())
        }
    }

    fn lookup(&self, name: &str) -> Known {
        if self.untold.contains(name) {
            return Known::Untold;
        }
        if !self.in_stage {
            return match self.global.get(name) {
                Some(value) => value.clone().map_or(Known::Unset, Known::Set),
                None => self.predefined(name),
            };
        }
        if let Some((_, value)) = self.environment.iter().find(|(known, _)| known == name) {
            return Known::Set(value.clone());
        }
        if let Some((_, value)) = self
            .base
            .and_then(|base| base.iter().find(|(known, _)| known == name))
        {
            return Known::Set(value.clone());
        }
        match self.arguments.get(name) {
            Some(Some(value)) => Known::Set(value.clone()),
            Some(None) if PREDEFINED.contains(&name) => self.predefined(name),
            _ if self.base.is_none() => Known::Untold,
            Some(None) => Known::Unset,
            None => Known::Unset,
        }
    }

    /// Returns the value of an argument that builders define (Dockerfile reference, "Automatic
    /// platform ARGs in the global scope").
    fn predefined(&self, name: &str) -> Known {
        if !PREDEFINED.contains(&name) {
            return Known::Unset;
        }
        if let Some(value) = self.setting.arguments.get(name) {
            return Known::Set(value.clone());
        }
        let (platform, part) = if let Some(part) = name.strip_prefix("TARGET") {
            match self.setting.target {
                Some(target) => (Cow::Borrowed(target), part),
                None => return Known::Untold,
            }
        } else {
            (Cow::Owned(here()), name.trim_start_matches("BUILD"))
        };
        Known::Set(match part {
            "PLATFORM" => platform.to_string(),
            "OS" => platform.os.clone(),
            "ARCH" => platform.architecture.clone(),
            _ => platform.variant.clone().unwrap_or_default(),
        })
    }

    fn expand(&self, text: &str) -> Result<String, ExpandError> {
        let expanded = Lexer {
            escape: self.escape,
            quotes: Quotes::Group,
            lookup: &|name| self.lookup(name),
        }
        .expand(text)?;
        self.grow(expanded.len())?;
        Ok(expanded)
    }

    fn filled(&self, text: &str) -> Result<String, Problem> {
        match self.expand(text)? {
            value if value.is_empty() => Err(Problem::Empty),
            value => Ok(value),
        }
    }

    /// Returns `text` as it is written where its value cannot be told: for what only matters once
    /// that is known.
    fn told(
        &self,
        text: &str,
        expand: impl Fn(&Self, &str) -> Result<String, Problem>,
    ) -> Result<String, Problem> {
        match expand(self, text) {
            Err(problem) if self.setting.environment.is_none() && hangs_on_the_base(&problem) => {
                Ok(text.to_owned())
            }
            result => result,
        }
    }

    fn pairs(&self, text: &str) -> Result<Vec<(String, String)>, Problem> {
        pairs(text, self.escape)?
            .into_iter()
            .map(|(name, value)| Ok((self.filled(name)?, self.expand(value)?)))
            .collect()
    }

    fn copying(
        &self,
        verb: Verb,
        flags: &[raw::Flag<'_>],
        sources: &[raw::Source<'_>],
        destination: &raw::UnescapedString<'_>,
    ) -> Result<Copying, Problem> {
        let mut copying = Copying {
            verb,
            sources: Vec::new(),
            destination: self.told(&destination.value, Self::filled)?,
            chown: None,
            chmod: None,
            from: None,
            other_flag: None,
        };
        for flag in flags {
            let expand = |value: &raw::UnescapedString<'_>| {
                self.told(&value.value, |reader, text| Ok(reader.expand(text)?))
            };
            let value = || flag.value.as_ref().map_or(Ok(String::new()), expand);
            match &*flag.name.value {
                "chown" => copying.chown = Some(value()?),
                "chmod" => copying.chmod = Some(value()?),
                "from" => {
                    copying.from = Some(
                        flag.value
                            .as_ref()
                            .map_or(String::new(), |value| value.value.to_string()),
                    );
                }
                "link" => {}
                other => drop(
                    copying
                        .other_flag
                        .get_or_insert_with(|| format!("--{other}")),
                ),
            }
        }
        for source in sources {
            copying.sources.push(match source {
                raw::Source::Path(path) => match self.filled(&path.value) {
                    Ok(path) => Source::Path(path),
                    Err(problem)
                        if self.setting.environment.is_none() && hangs_on_the_base(&problem) =>
                    {
                        Source::Untold
                    }
                    Err(problem) => return Err(problem),
                },
                raw::Source::HereDoc(document) => self.here_document(document)?,
                _ => return Err(Problem::Syntax("unknown kind of source".to_owned())),
            });
        }
        Ok(copying)
    }

    fn here_document(&self, document: &raw::HereDoc<'_>) -> Result<Source, Problem> {
        // The parser keeps the text only; the name is the line that ends it.
        let name = self.text[document.span.end..]
            .lines()
            .next()
            .unwrap_or_default()
            .trim_end_matches('\r')
            .to_owned();
        let lexer = Lexer {
            escape: '\\',
            quotes: Quotes::Kept,
            lookup: &|name| self.lookup(name),
        };
        let text = if document.expand {
            self.told(&document.value, |_, text| Ok(lexer.expand(text)?))?
        } else {
            document.value.to_string()
        };
        self.grow(text.len())?;
        Ok(Source::Text { name, text })
    }

    fn command(&self, command: &raw::Command<'_>) -> Result<Command, Problem> {
        match command {
            raw::Command::Exec(words) => Ok(Command::Exec(texts(&words.value))),
            // Only in the text itself: the parser is shown something else.
            raw::Command::Shell(line)
                if self.text.get(line.span.clone()).is_some_and(is_empty_list) =>
            {
                Ok(Command::Exec(Vec::new()))
            }
            raw::Command::Shell(line) => Ok(Command::Shell(joined(line.value, self.escape))),
            _ => Err(Problem::Syntax("unknown form of a command".to_owned())),
        }
    }

    fn health(&self, check: &raw::HealthcheckInstruction<'_>) -> Result<Health, Problem> {
        let raw::HealthcheckArguments::Cmd { arguments, .. } = &check.arguments else {
            return Ok(Health::None);
        };
        let (mut interval, mut timeout, mut start_period, mut start_interval, mut retries) =
            (None, None, None, None, None);
        for flag in &check.options {
            let value = flag.value.as_ref().map_or("", |value| &*value.value);
            let invalid = || Problem::Flag {
                flag: format!("--{}", flag.name.value),
                value: value.to_owned(),
            };
            let time = || duration(value).ok_or_else(invalid);
            match &*flag.name.value {
                "interval" => interval = Some(time()?),
                "timeout" => timeout = Some(time()?),
                "start-period" => start_period = Some(time()?),
                "start-interval" => start_interval = Some(time()?),
                "retries" => retries = Some(value.parse().map_err(|_| invalid())?),
                _ => return Err(invalid()),
            }
        }
        Ok(Health::Check {
            command: self.command(arguments)?,
            interval,
            timeout,
            start_period,
            start_interval,
            retries,
        })
    }
}

/// Sets `name` in a list of variables, in its place where it is there.
pub fn set(variables: &mut Vec<(String, String)>, name: &str, value: &str) {
    match variables.iter_mut().find(|(known, _)| known == name) {
        Some((_, known)) => value.clone_into(known),
        None => variables.push((name.to_owned(), value.to_owned())),
    }
}

fn texts(words: &[raw::UnescapedString<'_>]) -> Vec<String> {
    words.iter().map(|word| word.value.to_string()).collect()
}

/// Returns the platform of this machine, in the words of images.
fn here() -> Platform {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    };
    Platform {
        os: "linux".to_owned(),
        architecture: architecture.to_owned(),
        variant: None,
        os_version: None,
    }
}

/// Returns a command of several lines as one: without the escapes at the ends of lines, and the
/// comments between them.
fn joined(text: &str, escape: char) -> String {
    let mut line = String::new();
    for (count, part) in text.lines().enumerate() {
        if count > 0 && (part.trim_start().starts_with('#') || part.trim().is_empty()) {
            continue;
        }
        let trimmed = part.trim_end();
        line.push_str(trimmed.strip_suffix(escape).unwrap_or(part));
    }
    line.trim().to_owned()
}

/// Returns a duration as Go writes them: `1m30s`, `1.5h`, `300ms`.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let number = rest
            .find(|character: char| !(character.is_ascii_digit() || character == '.'))
            .filter(|length| *length > 0)?;
        let unit_end =
            rest[number..].find(|character: char| character.is_ascii_digit() || character == '.');
        let (unit, after) = rest[number..].split_at(unit_end.unwrap_or(rest.len() - number));
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        total += rest[..number].parse::<f64>().ok()? * seconds;
        rest = after;
    }
    Duration::try_from_secs_f64(total)
        .ok()
        .filter(|duration| duration.as_nanos() < i64::MAX as u128)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Vec<Action>, DockerfileError> {
        let arguments = [("GIVEN".to_owned(), "given".to_owned())].into();
        let target = "linux/arm/v7".parse().expect("a platform");
        let environment = [
            ("PATH".to_owned(), "/bin".to_owned()),
            ("SHADOW".to_owned(), "base".to_owned()),
        ];
        let setting = Setting {
            arguments: &arguments,
            target: Some(&target),
            environment: Some(&environment),
        };
        Ok(steps(text, &setting)?
            .into_iter()
            .map(|step| step.action)
            .filter(|action| !matches!(action, Action::From(_)))
            .collect())
    }

    fn one(line: &str) -> Action {
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
    fn environment_goes_before_arguments_and_platforms_must_be_declared() {
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
            // All values of one instruction are those from before it.
            ("ENV X=1\nENV X=2 V=$X", "1"),
        ] {
            let Some(Action::Environment(pairs)) =
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
        let Some(Action::Environment(pairs)) =
            read("ARG X=g\nARG Y=$X$X\nFROM a\nARG X\nARG Y\nARG X=$Y\nENV V=$X")
                .expect("a file")
                .pop()
        else {
            panic!("no ENV")
        };
        assert_eq!(pairs[0].1, "gg");
    }

    #[test]
    fn instructions_are_typed() {
        assert_eq!(
            one("ENV A=\"b c\" D='$A'"),
            Action::Environment(owned([("A", "b c"), ("D", "$A")]))
        );
        assert_eq!(
            one("LABEL a.b=\"c\\\n d\""),
            Action::Labels(owned([("a.b", "c d")]))
        );
        assert_eq!(
            one("CMD [\"a\", \"$PATH\"]"),
            Action::Command(Command::Exec(strings(["a", "$PATH"])))
        );
        assert_eq!(
            one("ENTRYPOINT exec \\\n# no\n\n  $PATH \"x\""),
            Action::Entrypoint(Command::Shell("exec   $PATH \"x\"".to_owned()))
        );
        assert_eq!(
            one("CMD [\"a\""),
            Action::Command(Command::Shell("[\"a\"".to_owned()))
        );
        assert_eq!(
            one("EXPOSE 80 $PATH/tcp"),
            Action::Expose(strings(["80", "/bin/tcp"]))
        );
        assert_eq!(
            one("VOLUME [\"/a\", \"$PATH\"]"),
            Action::Volumes(strings(["/a", "/bin"]))
        );
        assert_eq!(one("VOLUME /a /b"), Action::Volumes(strings(["/a", "/b"])));
        assert_eq!(
            one("WORKDIR \"/a b\"/$PATH"),
            Action::WorkingDirectory("/a b//bin".to_owned())
        );
        assert_eq!(
            one("SHELL [\"/bin/bash\", \"-c\"]"),
            Action::Shell(strings(["/bin/bash", "-c"]))
        );
        assert_eq!(one("HEALTHCHECK NONE"), Action::Healthcheck(Health::None));
        assert_eq!(
            one("RUN --mount=type=cache,target=/x y"),
            Action::Run { binds: false }
        );
        assert_eq!(one("RUN --mount=target=/x y"), Action::Run { binds: true });
        let Action::Healthcheck(Health::Check {
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
        assert_eq!(command, Command::Shell("x".to_owned()));
        let Action::Copy(copying) =
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
    fn here_documents_have_a_name_and_a_text() {
        let Action::Copy(copying) =
            one("COPY <<one.txt <<-'two' /d/\n$PATH 'q'\none.txt\n\t$PATH\n\ttwo")
        else {
            panic!("no COPY")
        };
        let text = |name: &str, text: &str| Source::Text {
            name: name.to_owned(),
            text: text.to_owned(),
        };
        assert_eq!(
            copying.sources,
            [text("one.txt", "/bin 'q'\n"), text("two", "$PATH\n")]
        );
    }

    #[test]
    fn sources_that_are_fetched_are_known() {
        for (line, expected) in [
            ("ADD https://x/y /", true),
            ("ADD git@github.com:a/b.git /", true),
            ("ADD a https://x/y /d/", true),
            ("COPY https://x/y /", false),
            ("ADD a.tar.gz /", false),
        ] {
            let Action::Copy(copying) = one(line) else {
                panic!("{line}")
            };
            assert_eq!(copying.fetched().is_some(), expected, "{line}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (line, message) in [
            ("ENV A", "line 2: `A` is no pair of a name and a value"),
            (
                "WORKDIR $NOT",
                "line 2: nothing is left once its variables are replaced",
            ),
            (
                "COPY a ${X/y/z}",
                "line 2: `${X/y/z}` is no reference to an argument that is understood here",
            ),
            (
                "HEALTHCHECK --interval=soon CMD x",
                "line 2: `--interval=soon` is not understood",
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
    fn durations_are_read_as_in_go() {
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
    fn hostile_files_are_refused_in_bounded_time() {
        let began = Instant::now();
        let long = format!("FROM a\nENV A={}", "x".repeat(LONGEST_FILE - 20));
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
        assert!(read(&("FROM a\n".to_owned() + &"ENV A=1\n".repeat(MOST_INSTRUCTIONS))).is_err());
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "{:?}",
            began.elapsed()
        );
    }

    proptest! {
        #[test]
        fn any_text_gives_steps_or_an_error(text in "(FROM a\n)(FROM |ARG |RUN |COPY |ADD |ENV |LABEL |CMD |VOLUME |SHELL |HEALTHCHECK |--from=|[$]|[{]|[}]|[\\[]|:-|\"|'|\\\\|\n|\r|,|a|=|<<E|\nE\n|/|\\PC){0,40}") {
            let _ = read(&text);
        }
    }
}
