//! How packages and files are called, so that every place takes the names and tells them apart.
//!
//! Names consist of `a-z`, `0-9`, `.`, `_` and `-`; a file's parts are joined by `+`, which no name
//! has. No two names are equal in a comparison that ignores case, since there is no upper case. The
//! rules of GitLab and Gitea for package and file names (`lib/gitlab/regex/packages.rb`;
//! `routers/api/packages/generic`) allow all of them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};

use crate::model::Digest;
use crate::model::reference::InvalidName;

/// The longest encoded name, in characters. With time, hash and prefix it stays below the 255 that
/// file systems and forges allow.
const LONGEST_NAME: usize = 200;

/// How much of a longer name is kept, so that people recognise it.
const KEPT_OF_LONG_NAMES: usize = 100;

/// What stands between the beginning of a long name and its digest. Encoded names never have it:
/// hexadecimal digits follow `_`.
const LONG_NAME: &str = "_x";

/// The longest prefix, in characters when encoded.
const LONGEST_PREFIX: usize = 50;

/// What records are called below where no prefix is set and names need one.
const DEFAULT_PREFIX: &str = "imglife";

/// The version of the packages that hold records.
const RECORDS: &str = "records";

/// The version of the package that holds data files, and the word for it in paths.
const DATA: &str = "data";

const TIME_FORM: &str = "%Y%m%dt%H%M%S%.6fz";

/// How many hexadecimal digits of a file's SHA-256 its name has.
const HASH_LENGTH: usize = 16;

/// A text as it appears in names. The encoding is reversible: `/` becomes `__`, and a byte that is
/// neither `a-z`, `0-9`, `-` nor an inner single `.` becomes `_` and two hexadecimal digits.
/// Results of more than 200 characters become their beginning, `_x` and the SHA-256 of the text;
/// what they stand for is told by the content of the files.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Encoded(String);

impl Encoded {
    /// Returns `text` encoded.
    pub fn of(text: &str) -> Encoded {
        let name = encode(text);
        if name.len() <= LONGEST_NAME {
            return Encoded(name);
        }
        let mut start = &name[..KEPT_OF_LONG_NAMES];
        while ends_within_an_escape(start) {
            start = &start[..start.len() - 1];
        }
        Encoded(format!(
            "{start}{LONG_NAME}{}",
            Digest::sha256(text.as_bytes()).hex()
        ))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the text that was encoded; `None` for one that was too long to be kept.
    pub fn decode(&self) -> Option<String> {
        decode(&self.0)
    }
}

impl FromStr for Encoded {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Encoded, InvalidName> {
        let is_long = || {
            let (start, digest) = text.rsplit_once(LONG_NAME)?;
            let is_start = start.len() <= KEPT_OF_LONG_NAMES
                && start
                    .bytes()
                    .all(|byte| is_plain(byte) || matches!(byte, b'.' | b'_'));
            Some(
                is_start
                    && !ends_within_an_escape(start)
                    && digest.len() == 64
                    && digest.bytes().all(is_hexadecimal),
            )
        };
        let is_short = || {
            text.len() <= LONGEST_NAME
                && decode(text).is_some_and(|decoded| encode(&decoded) == text)
        };
        if !text.is_empty() && (is_short() || is_long() == Some(true)) {
            return Ok(Encoded(text.to_owned()));
        }
        Err(InvalidName {
            text: text.to_owned(),
            expected: "an encoded name",
            reason: "no name is encoded like this".to_owned(),
        })
    }
}

impl fmt::Display for Encoded {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Returns whether the end of `name` may be that of half an escape, or a whole `__`: with what
/// follows it could read as another.
fn ends_within_an_escape(name: &str) -> bool {
    name.bytes().rev().take(2).any(|byte| byte == b'_')
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'
}

fn is_hexadecimal(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}

fn encode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut name = String::with_capacity(bytes.len() + 16);
    for (index, byte) in bytes.iter().copied().enumerate() {
        let is_inner = index > 0 && index + 1 < bytes.len();
        match byte {
            b'/' => name.push_str("__"),
            // Servers and file systems give a meaning to `..`, and to dots at the ends.
            b'.' if is_inner && bytes[index - 1] != b'.' => name.push('.'),
            _ if is_plain(byte) => name.push(char::from(byte)),
            _ => name.push_str(&format!("_{byte:02x}")),
        }
    }
    name
}

fn decode(name: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match (byte, after) {
            (b'_', [b'_', after @ ..]) => {
                bytes.push(b'/');
                rest = after;
            }
            (b'_', [high, low, after @ ..]) if is_hexadecimal(*high) && is_hexadecimal(*low) => {
                let digit = |byte: u8| {
                    if byte.is_ascii_digit() {
                        byte - b'0'
                    } else {
                        byte - b'a' + 10
                    }
                };
                bytes.push(digit(*high) << 4 | digit(*low));
                rest = after;
            }
            (b'.', _) => bytes.push(byte),
            _ if is_plain(byte) => bytes.push(byte),
            _ => return None,
        }
    }
    String::from_utf8(bytes).ok()
}

/// What all names of one installation begin with (`registry.prefix`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix(Option<Arc<str>>);

impl Prefix {
    /// Returns no prefix, where several installations never meet.
    pub fn none() -> Prefix {
        Prefix(None)
    }

    /// Returns the prefix of package names. It has no `.`, so that none is the beginning of
    /// another's names.
    fn flat(&self) -> String {
        encode(self.0.as_deref().unwrap_or(DEFAULT_PREFIX)).replace('.', "_2e")
    }

    /// Returns the beginning of paths, with a slash at its end unless it is empty.
    fn path(&self) -> String {
        self.0
            .as_ref()
            .map(|prefix| format!("{prefix}/"))
            .unwrap_or_default()
    }
}

impl FromStr for Prefix {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Prefix, InvalidName> {
        let invalid = |reason: String| InvalidName {
            text: text.to_owned(),
            expected: "a prefix",
            reason,
        };
        let fits = |part: &str| {
            !matches!(part, "" | "." | "..")
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
        };
        if !text.split('/').all(fits) {
            return Err(invalid(
                "it consists of letters, digits, `.`, `_` and `-`, in parts between `/`".to_owned(),
            ));
        }
        let prefix = Prefix(Some(text.into()));
        match prefix.flat().len() {
            0..=LONGEST_PREFIX => Ok(prefix),
            length => Err(invalid(format!(
                "it may have {LONGEST_PREFIX} characters, where all but `a-z`, `0-9` and `-` count as three; it has {length}"
            ))),
        }
    }
}

/// A package: the records of one repository, or the data files.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PackageName {
    pub prefix: Prefix,
    pub contents: Contents,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Contents {
    RecordsOf(Encoded),
    Data,
}

impl PackageName {
    /// Returns the package's name where packages are not in directories:
    /// `imglife.registry.example__apps__web`, and `imglife` for data files.
    pub fn flat(&self) -> String {
        match &self.contents {
            Contents::RecordsOf(repository) => format!("{}.{repository}", self.prefix.flat()),
            Contents::Data => self.prefix.flat(),
        }
    }

    /// Returns the package's version.
    pub fn version(&self) -> &'static str {
        match self.contents {
            Contents::RecordsOf(_) => RECORDS,
            Contents::Data => DATA,
        }
    }

    /// Returns the directory that the package is where packages are in directories, with a slash at
    /// its end: `imglife/records/registry.example__apps__web/`.
    pub fn directory(&self) -> String {
        match &self.contents {
            Contents::RecordsOf(repository) => {
                format!("{}{RECORDS}/{repository}/", self.prefix.path())
            }
            Contents::Data => format!("{}{DATA}/", self.prefix.path()),
        }
    }
}

/// What is listed at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All packages with records.
    AllRecords(Prefix),
    Package(PackageName),
}

impl Scope {
    /// Returns what the names of all packages in the scope begin with, or are.
    pub fn flat(&self) -> String {
        match self {
            Scope::AllRecords(prefix) => format!("{}.", prefix.flat()),
            Scope::Package(package) => package.flat(),
        }
    }

    /// Returns whether a package is in the scope.
    pub fn contains(&self, package: &PackageName) -> bool {
        match self {
            Scope::AllRecords(prefix) => {
                package.prefix == *prefix && matches!(package.contents, Contents::RecordsOf(_))
            }
            Scope::Package(only) => only == package,
        }
    }

    /// Returns the directory that everything in the scope is below, with a slash at its end.
    pub fn directory(&self) -> String {
        match self {
            Scope::AllRecords(prefix) => format!("{}{RECORDS}/", prefix.path()),
            Scope::Package(package) => package.directory(),
        }
    }

    /// Returns the package in the scope that has this name and version: `None` for a package of
    /// somebody else's, an error for one that looks like one with records and has a name that none
    /// can have.
    pub fn package(&self, name: &str, version: &str) -> Option<Result<PackageName, InvalidName>> {
        match self {
            Scope::Package(package) => (package.flat() == name && package.version() == version)
                .then(|| Ok(package.clone())),
            Scope::AllRecords(prefix) if version == RECORDS => {
                let repository = name.strip_prefix(&self.flat())?;
                Some(
                    repository
                        .parse()
                        .map(|repository| records_of(prefix, repository)),
                )
            }
            Scope::AllRecords(_) => None,
        }
    }

    /// Returns the package and the file's name in what stands after the scope's directory in a
    /// path: `None` for something else's path, an error as [`package`](Scope::package) has it.
    pub fn file<'a>(&self, path: &'a str) -> Option<Result<(PackageName, &'a str), InvalidName>> {
        match self {
            Scope::Package(package) => (!path.contains('/')).then(|| Ok((package.clone(), path))),
            Scope::AllRecords(prefix) => {
                let (repository, file) = path
                    .split_once('/')
                    .filter(|(_, file)| !file.contains('/'))?;
                Some(
                    repository
                        .parse()
                        .map(|repository| (records_of(prefix, repository), file)),
                )
            }
        }
    }
}

fn records_of(prefix: &Prefix, repository: Encoded) -> PackageName {
    PackageName {
        prefix: prefix.clone(),
        contents: Contents::RecordsOf(repository),
    }
}

/// The name of a file, which nothing else is ever written under: what it is about, when it was
/// written, and the beginning of its content's SHA-256. Files about the same are ordered by time,
/// then hash; the last one counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileKey {
    pub subject: Encoded,
    time: DateTime<Utc>,
    hash: String,
}

impl FileKey {
    /// Returns the name of a file with `content` that is written at `now`, and is later than
    /// `newest`.
    pub fn new(
        subject: Encoded,
        content: &[u8],
        now: DateTime<Utc>,
        newest: Option<DateTime<Utc>>,
    ) -> FileKey {
        let after = newest.and_then(|newest| newest.checked_add_signed(TimeDelta::microseconds(1)));
        let now = DateTime::from_timestamp_micros(now.timestamp_micros()).unwrap_or(now);
        FileKey {
            subject,
            time: after.map_or(now, |after| after.max(now)),
            hash: hash(content),
        }
    }

    /// Returns when the file was written, by the clock of who wrote it, or just after the newest
    /// one before it.
    pub fn time(&self) -> DateTime<Utc> {
        self.time
    }

    /// Returns whether `content` is what was written under this name.
    pub fn is_of(&self, content: &[u8]) -> bool {
        hash(content) == self.hash
    }
}

fn hash(content: &[u8]) -> String {
    Digest::sha256(content).hex()[..HASH_LENGTH].to_owned()
}

impl fmt::Display for FileKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{}+{}+{}.json",
            self.subject,
            self.time.format(TIME_FORM),
            self.hash
        )
    }
}

impl FromStr for FileKey {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<FileKey, InvalidName> {
        let parse = || {
            let mut parts = text.strip_suffix(".json")?.split('+');
            let (subject, time, hash) = (parts.next()?, parts.next()?, parts.next()?);
            let time = NaiveDateTime::parse_from_str(time, TIME_FORM)
                .ok()?
                .and_utc();
            let key = FileKey {
                subject: subject.parse().ok()?,
                time,
                hash: hash.to_owned(),
            };
            (parts.next().is_none()
                && hash.len() == HASH_LENGTH
                && hash.bytes().all(is_hexadecimal)
                && key.to_string() == text)
                .then_some(key)
        };
        parse().ok_or_else(|| InvalidName {
            text: text.to_owned(),
            expected: "a file of records or data",
            reason: "their names are `<name>+<time>+<hash>.json`".to_owned(),
        })
    }
}

/// A file in a package.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileName {
    pub package: PackageName,
    pub file: FileKey,
}

impl FileName {
    /// Returns the path of the file where packages are in directories.
    pub fn path(&self) -> String {
        format!("{}{}", self.package.directory(), self.file)
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.path())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn time(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(text).expect("a time").to_utc()
    }

    #[test]
    fn names_can_be_read_by_people() {
        for (text, name) in [
            (
                "registry.example:5000/apps/web",
                "registry.example_3a5000__apps__web",
            ),
            ("docker.io/library/alpine", "docker.io__library__alpine"),
            ("a_b", "a_5fb"),
            ("1.2.0-RC1", "1.2.0-_52_431"),
            (".hidden..", "_2ehidden._2e"),
            ("1+2", "1_2b2"),
            ("é", "_c3_a9"),
        ] {
            assert_eq!(Encoded::of(text).as_str(), name);
        }
    }

    #[test]
    fn long_names_keep_their_beginning_and_differ_by_digest() {
        let (one, other) = (
            format!("{}a", "r".repeat(200)),
            format!("{}b", "r".repeat(200)),
        );
        let (one, other) = (Encoded::of(&one), Encoded::of(&other));
        assert_ne!(one, other);
        assert_eq!((one.as_str().len(), one.decode()), (166, None));
        assert!(one.as_str().starts_with(&"r".repeat(100)));
        assert_eq!(one.as_str().parse::<Encoded>(), Ok(one));
        assert_eq!(
            Encoded::of(&"r".repeat(200)).decode(),
            Some("r".repeat(200))
        );
    }

    #[test]
    fn a_long_name_is_never_that_of_another_text() {
        for slashes in 95..104 {
            let long = format!(
                "{}{}{}",
                "r".repeat(slashes),
                "/".repeat(5),
                "r".repeat(200)
            );
            let name = Encoded::of(&long);
            assert_eq!(
                (name.decode(), name.as_str().parse()),
                (None, Ok(name)),
                "{slashes}"
            );
        }
        assert_eq!(Encoded::of(&"/".repeat(300)).as_str().len(), 66);
    }

    #[test]
    fn a_name_that_nothing_is_encoded_as_is_refused() {
        for text in [
            "",
            "A",
            "_",
            "_5",
            "_6g",
            "_61",
            "_5F",
            "a..b",
            ".a",
            "a.",
            "a+b",
            "a b",
            "_2f",
            "_ff",
            "é",
            &"a".repeat(201),
        ] {
            assert!(text.parse::<Encoded>().is_err(), "{text}");
        }
        assert!(
            format!("{}_x{}", "R".repeat(100), "0".repeat(64))
                .parse::<Encoded>()
                .is_err()
        );
    }

    #[test]
    fn installations_with_similar_prefixes_never_share_a_package() {
        let package = |prefix: &str, repository: &str| {
            let prefix: Prefix = prefix.parse().expect("a prefix");
            records_of(&prefix, Encoded::of(repository))
        };
        let (one, other) = (
            package("team", "x.registry.example/a"),
            package("team.x", "registry.example/a"),
        );
        assert_eq!(
            (one.flat().as_str(), other.flat().as_str()),
            ("team.x.registry.example__a", "team_2ex.registry.example__a")
        );
        assert_eq!(
            (one.version(), one.directory().as_str()),
            ("records", "team/records/x.registry.example__a/")
        );
        assert_eq!(package("a/B", "r.example/a").flat(), "a___42.r.example__a");
        assert_eq!(
            package("a/B", "r.example/a").directory(),
            "a/B/records/r.example__a/"
        );
        let data = |prefix: Prefix| PackageName {
            prefix,
            contents: Contents::Data,
        };
        assert_eq!(
            (
                data(Prefix::none()).flat().as_str(),
                data(Prefix::none()).directory().as_str()
            ),
            ("imglife", "data/")
        );
        assert_eq!(
            (
                data("t".parse().expect("a prefix")).flat().as_str(),
                data(Prefix::none()).version()
            ),
            ("t", "data")
        );
    }

    #[test]
    fn prefixes_that_lead_elsewhere_or_are_too_long_are_refused() {
        for text in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            "..",
            "a/../b",
            "a b",
            "é",
            &"a".repeat(51),
            &"A".repeat(17),
        ] {
            assert!(text.parse::<Prefix>().is_err(), "{text}");
        }
        assert!("A".repeat(16).parse::<Prefix>().is_ok());
    }

    #[test]
    fn packages_of_others_are_passed_over_and_broken_ones_told() {
        let prefix: Prefix = "imglife".parse().expect("a prefix");
        let all = Scope::AllRecords(prefix.clone());
        let package = records_of(&prefix, Encoded::of("r.example/a"));
        assert_eq!(
            all.package("imglife.r.example__a", "records"),
            Some(Ok(package.clone()))
        );
        assert_eq!(all.package("imglife.r.example__a", "1.0"), None);
        assert_eq!(all.package("my-imglife.r.example__a", "records"), None);
        assert_eq!(all.package("imglife", "data"), None);
        assert!(
            all.package("imglife.R", "records")
                .is_some_and(|package| package.is_err())
        );
        let one = Scope::Package(package.clone());
        assert_eq!(
            one.package("imglife.r.example__a", "records"),
            Some(Ok(package.clone()))
        );
        assert_eq!(one.package("imglife.r.example__a__b", "records"), None);
        assert_eq!(
            all.file("r.example__a/file"),
            Some(Ok((package.clone(), "file")))
        );
        assert_eq!(
            (all.file("file"), all.file("a/b/c"), one.file("a/b")),
            (None, None, None)
        );
        assert_eq!(one.file("file"), Some(Ok((package, "file"))));
    }

    #[test]
    fn a_file_is_later_than_the_newest_whatever_the_clock_says() {
        let now = time("2026-11-21T07:25:46.123456789Z");
        let file = |newest| FileKey::new(Encoded::of("1.0"), b"content", now, newest).to_string();
        assert_eq!(
            file(None),
            "1.0+20261121t072546.123456z+ed7002b439e9ac84.json"
        );
        assert_eq!(file(Some(time("2025-01-01T00:00:00Z"))), file(None));
        assert_eq!(
            file(Some(time("2026-11-21T07:25:46.123456Z"))),
            "1.0+20261121t072546.123457z+ed7002b439e9ac84.json"
        );
        assert_eq!(
            file(Some(time("2031-01-01T00:00:00Z"))),
            "1.0+20310101t000000.000001z+ed7002b439e9ac84.json"
        );
    }

    #[test]
    fn the_last_file_is_that_of_the_latest_time_then_hash() {
        let parse = |text: &str| text.parse::<FileKey>().expect("a file");
        let first = parse("1.0+20261121t072546.000000z+ffffffffffffffff.json");
        let second = parse("1.0+20261121t072546.000001z+0000000000000000.json");
        let third = parse("1.0+20261121t072546.000001z+0000000000000001.json");
        assert!(first < second && second < third);
        assert!(
            !first.is_of(b"content")
                && FileKey::new(Encoded::of("a"), b"x", time("2026-01-01T00:00:00Z"), None)
                    .is_of(b"x")
        );
    }

    #[test]
    fn other_files_are_told_apart() {
        for text in [
            "",
            "1.0.json",
            "1.0+20261121t072546.123456z+ed7002b439e9ac84.jso",
            "1.0+20261121T072546.123456Z+ed7002b439e9ac84.json",
            "1.0+20261121t072546.123z+ed7002b439e9ac84.json",
            "1.0+20261321t072546.123456z+ed7002b439e9ac84.json",
            "1.0+20261121t072546.123456z+ed7002b439e9ac8.json",
            "1.0+20261121t072546.123456z+ED7002B439E9AC84.json",
            "1.0+20261121t072546.123456z+ed7002b439e9ac84+x.json",
            "RC1+20261121t072546.123456z+ed7002b439e9ac84.json",
            "../x+20261121t072546.123456z+ed7002b439e9ac84.json",
        ] {
            assert!(text.parse::<FileKey>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_text_is_found_again_in_its_name(text in "\\PC{1,60}|[a-zA-Z0-9._/:-]{1,80}") {
            let name = Encoded::of(&text);
            prop_assert!(name.as_str().bytes().all(|byte| is_plain(byte) || matches!(byte, b'.' | b'_')), "{}", name);
            prop_assert!(!name.as_str().contains("..") && !name.as_str().starts_with('.') && !name.as_str().ends_with('.'));
            prop_assert_eq!(name.as_str().parse::<Encoded>(), Ok(name.clone()));
            if encode(&text).len() <= LONGEST_NAME {
                prop_assert_eq!(name.decode(), Some(text));
            } else {
                prop_assert_eq!(name.decode(), None);
            }
        }

        #[test]
        fn different_texts_have_names_that_differ_in_more_than_case(one in "[aA.:/_é-]{1,6}", other in "[aA.:/_é-]{1,6}") {
            let same = Encoded::of(&one).as_str().eq_ignore_ascii_case(Encoded::of(&other).as_str());
            prop_assert_eq!(one == other, same);
        }

        #[test]
        fn any_name_is_a_name_or_an_error(text in "\\PC{0,60}|[a-f0-9_.x]{0,40}", name in "\\PC{0,60}|[a-z0-9+.]{0,40}(\\+[0-9tz.]{0,25}){0,2}\\.json") {
            if let Ok(encoded) = text.parse::<Encoded>() && let Some(decoded) = encoded.decode() {
                prop_assert_eq!(Encoded::of(&decoded), encoded);
            }
            if let Ok(file) = name.parse::<FileKey>() {
                prop_assert_eq!(file.to_string(), name);
            }
        }

        #[test]
        fn file_names_fit_into_a_file_system(tag in "[A-Za-z0-9_.-]{128}", seconds in 0_i64..4_102_444_800) {
            let now = DateTime::from_timestamp(seconds, 0).expect("a time");
            let file = FileKey::new(Encoded::of(&tag), b"", now, None);
            prop_assert!(file.to_string().len() <= 255);
            prop_assert_eq!(file.to_string().parse(), Ok(file));
        }
    }

    #[test]
    fn fuzzing_names_of_files() {
        let key = FileKey::new(
            Encoded::of("1.0+X"),
            b"content",
            time("2026-11-21T07:00:00Z"),
            None,
        )
        .to_string();
        let seeds = [
            key.as_str(),
            "r.example__apps__web/1.0+20261121t070000.000000z+0123456789abcdef.json",
            "imglife/teams",
            "imglife.records.r.example__a",
        ];
        crate::model::fuzz_tests::fuzz("names of files", &seeds, |input| {
            let text = crate::model::fuzz_tests::text(input);
            // What is a name is written as one.
            if let Ok(key) = text.parse::<FileKey>() {
                assert_eq!(key.to_string(), text);
            }
            if let Ok(encoded) = text.parse::<Encoded>() {
                assert_eq!(encoded.as_str(), text);
                if let Some(decoded) = encoded.decode() {
                    assert_eq!(Encoded::of(&decoded), encoded);
                }
            }
            let prefix = text.parse::<Prefix>().unwrap_or_else(|_| Prefix::none());
            let scope = Scope::AllRecords(prefix);
            drop((scope.file(&text), scope.package(&text, "records")));
            // Whatever is encoded can be part of a path.
            let encoded = Encoded::of(&text);
            assert!(
                !encoded.as_str().contains('/') && !encoded.as_str().starts_with('.'),
                "{encoded}"
            );
        });
    }
}
