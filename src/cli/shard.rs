//! `--shard`: one of several parts of a run, by number or from the index of a parallel CI job.

use std::str::FromStr;

use thiserror::Error;

use crate::app::Shard;
use crate::error::Failure;
use crate::model::Variables;
use crate::model::env;
use crate::model::text::excerpt;

/// Maximum number of parts; more are probably a mistake.
const MAX_PARTS: usize = 1000;

/// Value of `--shard`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ShardArgument {
    Part(Shard),
    Auto,
}

#[derive(Debug, Error, PartialEq, Eq)]
#[error("expected `I/N` with 1 <= I <= N <= {MAX_PARTS}, such as `1/3`, or `auto`")]
pub(super) struct ShardError;

impl FromStr for ShardArgument {
    type Err = ShardError;

    fn from_str(text: &str) -> Result<ShardArgument, ShardError> {
        if text == "auto" {
            return Ok(ShardArgument::Auto);
        }
        let (index, count) = text.split_once('/').ok_or(ShardError)?;
        part(index, count)
            .map(ShardArgument::Part)
            .ok_or(ShardError)
    }
}

fn part(index: &str, count: &str) -> Option<Shard> {
    let number = |text: &str| {
        text.parse::<usize>()
            .ok()
            .filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let count = number(count).filter(|count| *count <= MAX_PARTS)?;
    Shard::new(number(index)?, count)
}

impl ShardArgument {
    /// Returns the part. For `auto`, reads it from the variables of GitLab CI jobs with `parallel`,
    /// which count from 1. Fails when they are not set or invalid.
    pub(super) fn shard(self, variables: &Variables) -> Result<Shard, Failure> {
        if let ShardArgument::Part(shard) = self {
            return Ok(shard);
        }
        let (Some(index), Some(total)) = (
            variables.get_filled(env::CI_NODE_INDEX),
            variables.get_filled(env::CI_NODE_TOTAL),
        ) else {
            return Err(Failure::usage(
                "`--shard auto` needs the variables CI_NODE_INDEX and CI_NODE_TOTAL",
            )
            .hint("GitLab sets both in jobs with `parallel`; elsewhere pass `--shard I/N`"));
        };
        part(index, total).ok_or_else(|| {
            Failure::usage(format!(
                "CI_NODE_INDEX is `{}` and CI_NODE_TOTAL is `{}`",
                excerpt(index, 20),
                excerpt(total, 20)
            ))
            .hint(format!(
                "`--shard auto` expects 1 <= CI_NODE_INDEX <= CI_NODE_TOTAL <= {MAX_PARTS}"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shard_accepts_only_parts_of_a_whole() {
        for (text, shown) in [
            ("1/1", "1/1"),
            ("1/3", "1/3"),
            ("3/3", "3/3"),
            ("1000/1000", "1000/1000"),
        ] {
            let parsed = text.parse::<ShardArgument>().expect(text);
            assert_eq!(
                parsed.shard(&Variables::default()).expect(text).to_string(),
                shown
            );
        }
        for text in [
            "0/3", "4/3", "1/0", "1/1001", "1", "/", "1/", "/3", "+1/3", " 1/3", "-1/3", "1/3/5",
            "1.5/3", "Auto", "",
        ] {
            assert_eq!(text.parse::<ShardArgument>(), Err(ShardError), "{text}");
        }
    }

    #[test]
    fn shard_auto_reads_the_variables_of_the_ci_job() {
        let shard = |variables: &[(&str, &str)]| {
            ShardArgument::Auto.shard(&variables.iter().copied().collect())
        };
        assert_eq!(
            shard(&[(env::CI_NODE_INDEX, "2"), (env::CI_NODE_TOTAL, "5")])
                .expect("both are set")
                .to_string(),
            "2/5"
        );
        let missing = shard(&[(env::CI_NODE_TOTAL, "1")]).expect_err("no index");
        assert_eq!(
            missing.error.to_string(),
            "`--shard auto` needs the variables CI_NODE_INDEX and CI_NODE_TOTAL"
        );
        let wrong = shard(&[(env::CI_NODE_INDEX, "6"), (env::CI_NODE_TOTAL, "5\u{1b}")])
            .expect_err("6 of 5");
        assert_eq!(
            wrong.error.to_string(),
            r"CI_NODE_INDEX is `6` and CI_NODE_TOTAL is `5\u{1b}`"
        );
    }
}
