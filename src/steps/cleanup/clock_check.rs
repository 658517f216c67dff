//! Check of this machine's clock, which ages are measured by, against those of registries. Pure.

use chrono::TimeDelta;

use crate::error::ItemError;
use crate::model::duration::rough_duration;
use crate::model::{Host, Repository};

/// Maximum difference between this machine's clock and that of a registry. Ages are days.
const MAX_DIFFERENCE: TimeDelta = TimeDelta::minutes(5);

/// Returns the error of a repository whose ages cannot be told, because this machine's clock or
/// that of its registry is wrong.
///
/// `offsets` has how far the clock of each host is ahead. The clock of the repository's own host
/// decides. For a layout, or a host that does not report its time, it is that of most hosts.
pub(super) fn clock_error(
    repository: &Repository,
    offsets: &[(Host, TimeDelta)],
) -> Option<ItemError> {
    let is_off = |(_, ahead): &&(Host, TimeDelta)| ahead.abs() > MAX_DIFFERENCE;
    let own = repository
        .host()
        .and_then(|own| offsets.iter().find(|(host, _)| host == own));
    let (host, ahead) = if let Some(own) = own {
        Some(own).filter(is_off)?
    } else {
        let off = offsets.iter().filter(is_off);
        if off.clone().count() * 2 <= offsets.len() {
            return None;
        }
        off.min_by_key(|(host, _)| host)?
    };
    let way = if *ahead > TimeDelta::zero() {
        "behind"
    } else {
        "ahead of"
    };
    Some(
        ItemError::other(format!(
            "this machine's clock is {} {way} {host}, so no age is certain and nothing is deleted",
            rough_duration(ahead.num_seconds())
        ))
        .with_hint(
            "set the clock and enable NTP (`timedatectl set-ntp true`); in a container, do this \
             on the host",
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_of_the_own_host_decides_or_that_of_most_hosts() {
        let offsets: Vec<(Host, TimeDelta)> = [
            ("a.example", 301),
            ("b.example", -300),
            ("c.example", -34_560_000),
        ]
        .map(|(host, ahead)| (host.parse().expect("a host"), TimeDelta::seconds(ahead)))
        .into();
        let error = |repository: &str, offsets: &[(Host, TimeDelta)]| {
            let repository = repository.parse().expect("a repository");
            clock_error(&repository, offsets).map(|error| error.cause)
        };
        for (repository, count, expected) in [
            ("a.example/a", 3, Some("5 minutes behind a.example")),
            ("b.example/a", 3, None),
            ("c.example/a", 3, Some("400 days ahead of c.example")),
            ("d.example/a", 3, Some("5 minutes behind a.example")),
            ("ocidir://a", 3, Some("5 minutes behind a.example")),
            ("d.example/a", 2, None),
            ("ocidir://a", 2, None),
            ("ocidir://a", 0, None),
        ] {
            let error = error(repository, &offsets[..count]);
            assert!(
                match (expected, &error) {
                    (Some(expected), Some(error)) => error.contains(expected),
                    (expected, error) => expected.is_none() && error.is_none(),
                },
                "{repository} {count}: {error:?}"
            );
        }
    }
}
