//! Fuzzing of parsers for untrusted input, with mutated copies of valid input. Decision 0012
//! explains the approach.
//!
//! To fuzz a parser, call [`fuzz`] with a few seeds in a test whose name starts with `fuzzing_`, in
//! the room of the parser. The parser must neither panic nor run into the time limit on any input.
//! Inputs are the same in every run. Set `IMGLIFE_FUZZ_SECONDS` to run each parser for that many
//! seconds instead of a fixed number of inputs.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::model::duration::parse_duration;
use crate::model::inventory::Inventory;
use crate::model::lifecycle::ProductName;
use crate::model::platform::Platform;
use crate::model::text::{excerpt, printable};
use crate::model::{
    Algorithm, BuildRecord, Digest, ImageConfig, ImageReference, Manifest, Repository, Tag,
    TagVersion,
};
use crate::process::Process;

/// Number of inputs if `IMGLIFE_FUZZ_SECONDS` is not set.
const DEFAULT_INPUTS: usize = 500;

/// Maximum length of an input, in bytes.
const MAX_INPUT_LENGTH: usize = 64 * 1024;

/// Maximum number of bytes of a failing input that are printed. Another run produces it in full.
const MAX_PRINTED_LENGTH: usize = 4000;

/// Time limit for one input. Far longer than a parser needs, because test machines are busy.
const INPUT_TIMEOUT: Duration = Duration::from_secs(15);

/// Pieces of input that parsers often handle wrongly.
const PIECES: [&str; 30] = [
    "",
    "\0",
    "\u{feff}",
    "\u{202e}",
    "ä",
    "🦀",
    "\"",
    "'",
    "\\",
    "\n",
    "\r\n",
    "\t",
    " ",
    "{",
    "}",
    "[",
    "]",
    ": ",
    "- ",
    "&a ",
    "*a",
    "<<: ",
    ",",
    "%",
    "null",
    "true",
    "-1",
    "18446744073709551616",
    "1e999",
    "2026-02-30",
];

/// Calls `reader` with the seeds and with mutated copies of them.
///
/// `name` describes the input in failure messages and seeds the random numbers.
pub(crate) fn fuzz(name: &str, seeds: &[&str], reader: impl Fn(&[u8])) {
    let variables = Process::current().variables;
    let seconds = variables
        .get_filled("IMGLIFE_FUZZ_SECONDS")
        .map(|text| text.parse().expect("IMGLIFE_FUZZ_SECONDS is a number"));
    let deadline = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    let mut random = Rng::with_seed(hasher.finish());
    let mut fed = 0;
    while deadline.map_or(fed < DEFAULT_INPUTS, |deadline| Instant::now() < deadline) {
        let mut input = seeds[fed % seeds.len()].as_bytes().to_vec();
        if fed >= seeds.len() {
            for _ in 0..random.usize(1..=8) {
                mutate(&mut input, seeds, &mut random);
                input.truncate(MAX_INPUT_LENGTH);
            }
        }
        let report = FailureReport {
            name,
            input: &input,
        };
        let began = Instant::now();
        reader(&input);
        assert!(
            began.elapsed() < INPUT_TIMEOUT,
            "it took {:?}",
            began.elapsed()
        );
        drop(report);
        fed += 1;
    }
}

/// Applies one random mutation to `input`.
fn mutate(input: &mut Vec<u8>, seeds: &[&str], random: &mut Rng) {
    let start = random.usize(0..=input.len());
    let end = random.usize(start..=input.len().min(start + 64));
    let (start, end) = if random.u8(..) < 16 {
        (start, input.len())
    } else {
        (start, end)
    };
    match random.u8(0..7) {
        0 => drop(input.drain(start..end)),
        1 => {
            if let Some(byte) = input.get_mut(start) {
                *byte ^= 1 << random.u8(0..8);
            }
        }
        2 => drop(input.splice(
            start..start,
            random.choice(PIECES).unwrap_or_default().bytes(),
        )),
        3 => drop(input.splice(
            start..end,
            random.choice(PIECES).unwrap_or_default().bytes(),
        )),
        4 => {
            let other = random
                .choice(seeds.iter())
                .copied()
                .unwrap_or_default()
                .as_bytes();
            let from = random.usize(0..=other.len());
            let to = random.usize(from..=other.len());
            drop(input.splice(start..end, other[from..to].to_vec()));
        }
        // Repetition produces deep nesting and long input.
        5 => {
            let piece = if random.bool() {
                input[start..end].to_vec()
            } else {
                random
                    .choice(PIECES)
                    .unwrap_or_default()
                    .as_bytes()
                    .to_vec()
            };
            let times = 1 << random.u32(0..14);
            let times = times.min(MAX_INPUT_LENGTH / piece.len().max(1));
            drop(input.splice(start..start, piece.repeat(times)));
        }
        _ => {
            let moved: Vec<u8> = input.drain(start..end).collect();
            let to = random.usize(0..=input.len());
            drop(input.splice(to..to, moved));
        }
    }
}

/// Prints the current input when it is dropped during a panic.
struct FailureReport<'a> {
    name: &'a str,
    input: &'a [u8],
}

impl Drop for FailureReport<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let shown = &self.input[..self.input.len().min(MAX_PRINTED_LENGTH)];
            eprintln!(
                "{} failed for the input b\"{}\" ({} bytes)",
                self.name,
                shown.escape_ascii(),
                self.input.len()
            );
        }
    }
}

/// Returns `input` as text, with invalid UTF-8 replaced. Most parsers only accept text.
pub(crate) fn text(input: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(input)
}

#[test]
#[should_panic(expected = "found")]
fn fuzz_finds_a_planted_fault() {
    fuzz("a reader that fails", &["alpine: []"], |input| {
        assert!(!text(input).contains("[["), "found");
    });
}

#[test]
fn fuzzing_image_names() {
    let seeds = [
        "docker.io/library/alpine:3.21@sha256:0123",
        "registry:5000/a/b__c-d.e",
        "ocidir:///srv/images:1",
        "linux/arm/v7",
        "v1.25.5-rc.1-r10",
    ];
    fuzz("image names", &seeds, |input| {
        let text = text(input);
        // A valid name survives a round trip.
        if let Ok(repository) = text
            .parse::<Repository>()
            .map(|repository| repository.to_string())
        {
            assert_eq!(
                repository
                    .parse::<Repository>()
                    .map(|repository| repository.to_string())
                    .ok(),
                Some(repository)
            );
        }
        if let Ok(platform) = text.parse::<Platform>() {
            assert_eq!(
                platform.to_string().parse::<Platform>().ok(),
                Some(platform)
            );
        }
        drop((
            text.parse::<ImageReference>(),
            text.parse::<Tag>(),
            text.parse::<Digest>(),
        ));
        let (version, other) = (
            TagVersion::of(&text),
            TagVersion::of(&text.replace('1', "2")),
        );
        assert_eq!(version.cmp(&other), other.cmp(&version).reverse());
    });
}

#[test]
fn fuzzing_manifests() {
    let descriptor = format!(
        r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{}","size":7}}"#,
        Digest::sha256(b"content")
    );
    let seeds = [
        format!(
            r#"{{"schemaVersion":2,"config":{descriptor},"layers":[{descriptor},{descriptor}],"subject":{descriptor}}}"#
        ),
        format!(r#"{{"schemaVersion":2,"manifests":[{descriptor}],"annotations":{{"a":"b"}}}}"#),
    ];
    let seeds: Vec<&str> = seeds.iter().map(String::as_str).collect();
    fuzz("manifests", &seeds, |input| {
        if let Ok(manifest) = Manifest::parse(input.to_vec().into(), None, Algorithm::Sha256) {
            assert_eq!(manifest.digest, Digest::sha256(input));
            assert!(manifest.blobs().len() <= input.len());
        }
    });
}

#[test]
fn fuzzing_records() {
    let seed = r#"{"image":"r.example/apps/web:1.2.0","base":"r.example/bases/alpine:3.21.3-core1.0.0","base_digest":null,"digest":"","revision":"4f2a","project":"team/web","platforms":["linux/amd64","linux/arm/v7"],"built_at":"2026-11-01T10:00:00+02:00","custom_fields":{"team":["web"]},"colour":{"a":1}}"#;
    fuzz("records", &[seed], |input| {
        let Ok(record) = BuildRecord::parse(input) else {
            return;
        };
        // A record survives a round trip, unless its JSON becomes too long or it has fractions,
        // whose last digit may change.
        let is_exact = !record
            .custom_fields
            .values()
            .chain(record.unknown.values())
            .any(has_fraction);
        if let Some(bytes) = record.to_bytes().ok().filter(|_| is_exact) {
            assert_eq!(
                BuildRecord::parse(&bytes).expect("what was written"),
                record
            );
        }
    });
}

fn has_fraction(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Number(number) => number.is_f64(),
        serde_json::Value::Array(values) => values.iter().any(has_fraction),
        serde_json::Value::Object(fields) => fields.values().any(has_fraction),
        _ => false,
    }
}

#[test]
fn fuzzing_inventories() {
    let seed = r#"{"schema":"imglife/inventory/v1","time":"2026-11-21T07:00:00Z","warn_days":30,"bases":[{"image":"r.example/bases/go","tags":[{"tag":"1.22-core1","current":true,"aliases":["1"],"eol":[{"product":"go","cycle":"1.22","ends":true,"accepted_until":"2026-12-31"},{"product":"x","ends":"2026-12-01"}],"users":[]}]}]}"#;
    fuzz("inventories", &[seed], |input| {
        if let Ok(inventory) = Inventory::parse(input) {
            let bytes = inventory.to_bytes().expect("an inventory");
            assert_eq!(
                Inventory::parse(&bytes)
                    .and_then(|again| again.to_bytes())
                    .expect("what was written"),
                bytes
            );
        }
    });
}

#[test]
fn fuzzing_image_configurations() {
    let seed = r#"{"os":"linux","architecture":"arm","variant":"v7","config":{"Labels":{"imglife.ref":"r.example/a:1","b":null}},"rootfs":{"type":"layers","diff_ids":["sha256:0"]}}"#;
    fuzz(
        "image configurations",
        &[seed, r#"{"config":null,"rootfs":{"diff_ids":null}}"#],
        |input| drop(ImageConfig::parse(input)),
    );
}

#[test]
fn fuzzing_user_text() {
    fuzz(
        "user text",
        &[
            "1h30m",
            "45m",
            "12w",
            "7d",
            "{{ image }}@{{digest}} {{ none }}",
            "docker-library",
        ],
        |input| {
            let text = text(input);
            drop((
                parse_duration(&text),
                text.parse::<ProductName>(),
                crate::model::hook::parts(&text).len(),
            ));
            let shown = excerpt(&text, 100);
            assert!(shown.chars().count() <= 1_101 && printable(&shown) == shown);
        },
    );
}
