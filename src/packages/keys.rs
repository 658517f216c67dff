//! Names of packages and files that are valid and distinct in every record store.
//!
//! Names consist of `a-z`, `0-9`, `.`, `_` and `-`. The parts of a file name are joined by `+`,
//! which occurs in no part. There are no upper-case letters, so names also differ where case is
//! ignored. The rules of GitLab and Gitea for package and file names
//! (`lib/gitlab/regex/packages.rb`; `routers/api/packages/generic`) allow all of them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};

use crate::model::Digest;
use crate::model::reference::InvalidName;

/// Maximum length of an encoded name, in characters. With time, hash and prefix, a file name stays
/// below the 255 characters that file systems and forges allow.
const MAX_NAME_LENGTH: usize = 200;

/// Length of the readable start of a shortened name, in characters.
const SHORTENED_START_LENGTH: usize = 100;

/// Separator between the start of a shortened name and its digest. It never occurs in an encoded
/// name, in which hexadecimal digits follow `_`.
const SHORTENED_SEPARATOR: &str = "_x";

/// Maximum length of an encoded prefix, in characters.
const MAX_PREFIX_LENGTH: usize = 50;

/// Prefix of package names if no prefix is configured.
const DEFAULT_PREFIX: &str = "imglife";

/// Version of the packages that hold records, and their directory in paths.
const RECORDS: &str = "records";

/// Version of the package that holds data files, and its directory in paths.
const DATA: &str = "data";

/// Format of the time in file names.
const TIME_FORMAT: &str = "%Y%m%dt%H%M%S%.6fz";

/// Number of hexadecimal digits of the content's SHA-256 in a file name.
const HASH_LENGTH: usize = 16;

/// A text encoded for names.
///
/// The encoding is reversible: `/` becomes `__`, and a byte that is neither `a-z`, `0-9`, `-` nor
/// an inner single `.` becomes `_` and two hexadecimal digits. A result of more than 200 characters
/// is shortened to its start, `_x` and the SHA-256 of the text; the original text is then only
/// known from the content of the files.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EncodedName(String);

impl EncodedName {
    /// Encodes `text`.
    pub fn of(text: &str) -> EncodedName {
        let name = encode(text);
        if name.len() <= MAX_NAME_LENGTH {
            return EncodedName(name);
        }
        let mut start = &name[..SHORTENED_START_LENGTH];
        while ends_in_underscore(start) {
            start = &start[..start.len() - 1];
        }
        EncodedName(format!(
            "{start}{SHORTENED_SEPARATOR}{}",
            Digest::sha256(text.as_bytes()).hex()
        ))
    }

    /// Returns the encoded text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the original text; `None` if the name was shortened.
    pub fn decode(&self) -> Option<String> {
        decode(&self.0)
    }
}

impl FromStr for EncodedName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<EncodedName, InvalidName> {
        let is_shortened = || {
            let (start, digest) = text.rsplit_once(SHORTENED_SEPARATOR)?;
            let is_start = start.len() <= SHORTENED_START_LENGTH
                && start
                    .bytes()
                    .all(|byte| is_plain(byte) || matches!(byte, b'.' | b'_'));
            Some(
                is_start
                    && !ends_in_underscore(start)
                    && digest.len() == 64
                    && digest.bytes().all(is_hexadecimal),
            )
        };
        let is_whole = || {
            text.len() <= MAX_NAME_LENGTH
                && decode(text).is_some_and(|decoded| encode(&decoded) == text)
        };
        if !text.is_empty() && (is_whole() || is_shortened() == Some(true)) {
            return Ok(EncodedName(text.to_owned()));
        }
        Err(InvalidName {
            text: text.to_owned(),
            expected: "an encoded name",
            reason: "no name is encoded like this".to_owned(),
        })
    }
}

impl fmt::Display for EncodedName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Returns true if one of the last two characters of `name` is `_`. Such an end may be an
/// incomplete escape, or a `__` that would read differently with what follows.
fn ends_in_underscore(name: &str) -> bool {
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
            // Servers and file systems treat `..` and dots at the ends specially.
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

/// Prefix of all names of one installation (`registry.prefix`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix(Option<Arc<str>>);

impl Prefix {
    /// Returns the empty prefix, for stores that installations do not share.
    pub fn none() -> Prefix {
        Prefix(None)
    }

    /// Returns the prefix of package names. It has no `.`, so that no prefix is the start of
    /// another.
    fn flat(&self) -> String {
        encode(self.0.as_deref().unwrap_or(DEFAULT_PREFIX)).replace('.', "_2e")
    }

    /// Returns the start of paths, with a trailing slash unless it is empty.
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
                "use letters, digits, `.`, `_` and `-`, in parts separated by `/`".to_owned(),
            ));
        }
        let prefix = Prefix(Some(text.into()));
        match prefix.flat().len() {
            0..=MAX_PREFIX_LENGTH => Ok(prefix),
            length => Err(invalid(format!(
                "it has {length} characters, and {MAX_PREFIX_LENGTH} are allowed; all but `a-z`, `0-9` and `-` count as three"
            ))),
        }
    }
}

/// A package: the records of one repository, or the data files.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PackageName {
    pub prefix: Prefix,
    pub contents: PackageContents,
}

/// Content of a package.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PackageContents {
    /// Records of the images of one repository.
    RecordsOf(EncodedName),
    Data,
}

impl PackageName {
    /// Returns the name of the package in a package registry, such as
    /// `imglife.registry.example__apps__web`, or `imglife` for data files.
    pub fn flat(&self) -> String {
        match &self.contents {
            PackageContents::RecordsOf(repository) => {
                format!("{}.{repository}", self.prefix.flat())
            }
            PackageContents::Data => self.prefix.flat(),
        }
    }

    /// Returns the version of the package in a package registry.
    pub fn version(&self) -> &'static str {
        match self.contents {
            PackageContents::RecordsOf(_) => RECORDS,
            PackageContents::Data => DATA,
        }
    }

    /// Returns the directory of the package in a directory or bucket, with a trailing slash:
    /// `imglife/records/registry.example__apps__web/`.
    pub fn directory(&self) -> String {
        match &self.contents {
            PackageContents::RecordsOf(repository) => {
                format!("{}{RECORDS}/{repository}/", self.prefix.path())
            }
            PackageContents::Data => format!("{}{DATA}/", self.prefix.path()),
        }
    }
}

/// Packages that one listing covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PackageScope {
    /// All packages with records.
    AllRecords(Prefix),
    Package(PackageName),
}

impl PackageScope {
    /// Returns the common start of the names of all packages in the scope, or the name of the only
    /// one.
    pub fn flat(&self) -> String {
        match self {
            PackageScope::AllRecords(prefix) => format!("{}.", prefix.flat()),
            PackageScope::Package(package) => package.flat(),
        }
    }

    /// Returns true if a package is in the scope.
    pub fn contains(&self, package: &PackageName) -> bool {
        match self {
            PackageScope::AllRecords(prefix) => {
                package.prefix == *prefix
                    && matches!(package.contents, PackageContents::RecordsOf(_))
            }
            PackageScope::Package(only) => only == package,
        }
    }

    /// Returns the directory of the scope, with a trailing slash.
    pub fn directory(&self) -> String {
        match self {
            PackageScope::AllRecords(prefix) => format!("{}{RECORDS}/", prefix.path()),
            PackageScope::Package(package) => package.directory(),
        }
    }

    /// Returns the package of the scope with this name and version.
    ///
    /// Returns `None` for a package that is not in the scope, and an error for one that looks like
    /// a package of records but has an invalid name.
    pub fn package(&self, name: &str, version: &str) -> Option<Result<PackageName, InvalidName>> {
        match self {
            PackageScope::Package(package) => (package.flat() == name
                && package.version() == version)
                .then(|| Ok(package.clone())),
            PackageScope::AllRecords(prefix) if version == RECORDS => {
                let repository = name.strip_prefix(&self.flat())?;
                Some(
                    repository
                        .parse()
                        .map(|repository| records_of(prefix, repository)),
                )
            }
            PackageScope::AllRecords(_) => None,
        }
    }

    /// Returns the package and the file name in `path`, which is relative to the directory of the
    /// scope.
    ///
    /// Returns `None` for a path outside of the scope, and an error as
    /// [`package`](PackageScope::package) does.
    pub fn file<'a>(&self, path: &'a str) -> Option<Result<(PackageName, &'a str), InvalidName>> {
        match self {
            PackageScope::Package(package) => {
                (!path.contains('/')).then(|| Ok((package.clone(), path)))
            }
            PackageScope::AllRecords(prefix) => {
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

fn records_of(prefix: &Prefix, repository: EncodedName) -> PackageName {
    PackageName {
        prefix: prefix.clone(),
        contents: PackageContents::RecordsOf(repository),
    }
}

/// Name of a file: its subject, the time it was written, and the start of its content's SHA-256.
///
/// No two files ever get the same name. Files with the same subject are ordered by time, then hash,
/// and the last one counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileKey {
    pub subject: EncodedName,
    time: DateTime<Utc>,
    hash: String,
}

impl FileKey {
    /// Returns the name of a file with `content`. Its time is `now`, or just after `newest` if that
    /// is later.
    pub fn new(
        subject: EncodedName,
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

    /// Returns the time in the name: the writer's clock, or just after the previous file.
    pub fn time(&self) -> DateTime<Utc> {
        self.time
    }

    /// Returns true if the hash in the name is that of `content`.
    pub fn matches(&self, content: &[u8]) -> bool {
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
            self.time.format(TIME_FORMAT),
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
            let time = NaiveDateTime::parse_from_str(time, TIME_FORMAT)
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
            expected: "a record or data file",
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
    /// Returns the path of the file in a directory or bucket.
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
    fn encoded_names_are_readable() {
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
            assert_eq!(EncodedName::of(text).as_str(), name);
        }
    }

    #[test]
    fn long_names_are_shortened_and_differ_by_digest() {
        let (one, other) = (
            format!("{}a", "r".repeat(200)),
            format!("{}b", "r".repeat(200)),
        );
        let (one, other) = (EncodedName::of(&one), EncodedName::of(&other));
        assert_ne!(one, other);
        assert_eq!((one.as_str().len(), one.decode()), (166, None));
        assert!(one.as_str().starts_with(&"r".repeat(100)));
        assert_eq!(one.as_str().parse::<EncodedName>(), Ok(one));
        assert_eq!(
            EncodedName::of(&"r".repeat(200)).decode(),
            Some("r".repeat(200))
        );
    }

    #[test]
    fn shortened_name_is_never_the_name_of_another_text() {
        for slashes in 95..104 {
            let long = format!(
                "{}{}{}",
                "r".repeat(slashes),
                "/".repeat(5),
                "r".repeat(200)
            );
            let name = EncodedName::of(&long);
            assert_eq!(
                (name.decode(), name.as_str().parse()),
                (None, Ok(name)),
                "{slashes}"
            );
        }
        assert_eq!(EncodedName::of(&"/".repeat(300)).as_str().len(), 66);
    }

    #[test]
    fn parsing_rejects_names_that_no_text_encodes_to() {
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
            assert!(text.parse::<EncodedName>().is_err(), "{text}");
        }
        assert!(
            format!("{}_x{}", "R".repeat(100), "0".repeat(64))
                .parse::<EncodedName>()
                .is_err()
        );
    }

    #[test]
    fn packages_of_similar_prefixes_differ() {
        let package = |prefix: &str, repository: &str| {
            let prefix: Prefix = prefix.parse().expect("a prefix");
            records_of(&prefix, EncodedName::of(repository))
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
            contents: PackageContents::Data,
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
    fn parsing_rejects_prefixes_that_are_unsafe_or_too_long() {
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
    fn scope_ignores_foreign_packages_and_rejects_broken_names() {
        let prefix: Prefix = "imglife".parse().expect("a prefix");
        let all = PackageScope::AllRecords(prefix.clone());
        let package = records_of(&prefix, EncodedName::of("r.example/a"));
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
        let one = PackageScope::Package(package.clone());
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
    fn new_file_is_later_than_the_newest_despite_the_clock() {
        let now = time("2026-11-21T07:25:46.123456789Z");
        let file =
            |newest| FileKey::new(EncodedName::of("1.0"), b"content", now, newest).to_string();
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
    fn file_keys_are_ordered_by_time_then_hash() {
        let parse = |text: &str| text.parse::<FileKey>().expect("a file");
        let first = parse("1.0+20261121t072546.000000z+ffffffffffffffff.json");
        let second = parse("1.0+20261121t072546.000001z+0000000000000000.json");
        let third = parse("1.0+20261121t072546.000001z+0000000000000001.json");
        assert!(first < second && second < third);
        assert!(
            !first.matches(b"content")
                && FileKey::new(
                    EncodedName::of("a"),
                    b"x",
                    time("2026-01-01T00:00:00Z"),
                    None
                )
                .matches(b"x")
        );
    }

    #[test]
    fn parsing_rejects_other_file_names() {
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
        fn encoding_is_reversible(text in "\\PC{1,60}|[a-zA-Z0-9._/:-]{1,80}") {
            let name = EncodedName::of(&text);
            prop_assert!(name.as_str().bytes().all(|byte| is_plain(byte) || matches!(byte, b'.' | b'_')), "{}", name);
            prop_assert!(!name.as_str().contains("..") && !name.as_str().starts_with('.') && !name.as_str().ends_with('.'));
            prop_assert_eq!(name.as_str().parse::<EncodedName>(), Ok(name.clone()));
            if encode(&text).len() <= MAX_NAME_LENGTH {
                prop_assert_eq!(name.decode(), Some(text));
            } else {
                prop_assert_eq!(name.decode(), None);
            }
        }

        #[test]
        fn different_texts_have_names_that_differ_in_more_than_case(one in "[aA.:/_é-]{1,6}", other in "[aA.:/_é-]{1,6}") {
            let same = EncodedName::of(&one).as_str().eq_ignore_ascii_case(EncodedName::of(&other).as_str());
            prop_assert_eq!(one == other, same);
        }

        #[test]
        fn parsing_never_panics_and_round_trips(text in "\\PC{0,60}|[a-f0-9_.x]{0,40}", name in "\\PC{0,60}|[a-z0-9+.]{0,40}(\\+[0-9tz.]{0,25}){0,2}\\.json") {
            if let Ok(encoded) = text.parse::<EncodedName>() && let Some(decoded) = encoded.decode() {
                prop_assert_eq!(EncodedName::of(&decoded), encoded);
            }
            if let Ok(file) = name.parse::<FileKey>() {
                prop_assert_eq!(file.to_string(), name);
            }
        }

        #[test]
        fn file_names_fit_into_a_file_system(tag in "[A-Za-z0-9_.-]{128}", seconds in 0_i64..4_102_444_800) {
            let now = DateTime::from_timestamp(seconds, 0).expect("a time");
            let file = FileKey::new(EncodedName::of(&tag), b"", now, None);
            prop_assert!(file.to_string().len() <= 255);
            prop_assert_eq!(file.to_string().parse(), Ok(file));
        }
    }

    #[test]
    fn fuzzing_names_of_files() {
        let key = FileKey::new(
            EncodedName::of("1.0+X"),
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
            // A valid name is written as it was read.
            if let Ok(key) = text.parse::<FileKey>() {
                assert_eq!(key.to_string(), text);
            }
            if let Ok(encoded) = text.parse::<EncodedName>() {
                assert_eq!(encoded.as_str(), text);
                if let Some(decoded) = encoded.decode() {
                    assert_eq!(EncodedName::of(&decoded), encoded);
                }
            }
            let prefix = text.parse::<Prefix>().unwrap_or_else(|_| Prefix::none());
            let scope = PackageScope::AllRecords(prefix);
            drop((scope.file(&text), scope.package(&text, "records")));
            // An encoded text is one part of a path.
            let encoded = EncodedName::of(&text);
            assert!(
                !encoded.as_str().contains('/') && !encoded.as_str().starts_with('.'),
                "{encoded}"
            );
        });
    }
}
