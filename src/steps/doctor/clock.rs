//! Check of this machine's clock against those of servers.

use crate::model::duration::rough_duration;
use crate::probe::ProbeFinding;

const CHECK: &str = "machine.clock";

/// Maximum difference between clocks, in seconds. Certificates, signed requests and the times of
/// records depend on the clock.
const MAX_DIFFERENCE: u64 = 60;

/// Returns the finding about this machine's clock. `clock_offsets` has the number of seconds by
/// which each server's clock is ahead.
///
/// If most servers differ, this clock is wrong, otherwise theirs.
pub fn clock(clock_offsets: &[(String, i64)]) -> ProbeFinding {
    let off: Vec<&(String, i64)> = clock_offsets
        .iter()
        .filter(|(_, seconds)| seconds.unsigned_abs() > MAX_DIFFERENCE)
        .collect();
    let named = |servers: &[&(String, i64)]| {
        let shown: Vec<&str> = servers
            .iter()
            .take(3)
            .map(|(name, _)| name.as_str())
            .collect();
        let more = servers.len() - shown.len();
        if more > 0 {
            format!("{} and {more} more", shown.join(", "))
        } else {
            shown.join(", ")
        }
    };
    let Some((_, first)) = off.first() else {
        return match clock_offsets.len() {
            0 => ProbeFinding::unknown(CHECK, "", "no server reported its time"),
            count => ProbeFinding::ok(
                CHECK,
                "",
                format!(
                    "within {MAX_DIFFERENCE} s of {count} server{}",
                    if count == 1 { "" } else { "s" }
                ),
            ),
        };
    };
    if off.len() * 2 > clock_offsets.len() {
        let way = if *first > 0 { "behind" } else { "ahead of" };
        return ProbeFinding::wrong(CHECK, "", format!("{} {way} {}", rough_duration(*first), named(&off)))
            .fix("set the clock and enable NTP (`timedatectl set-ntp true`); in a container, do this on the host");
    }
    ProbeFinding::wrong(
        CHECK,
        "",
        format!(
            "agrees with most servers; {} differs by {}",
            named(&off),
            rough_duration(*first)
        ),
    )
    .fix("report it to the administrator of that server")
    .optional()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::ProbeState;

    fn of(ahead: &[i64]) -> ProbeFinding {
        let names: Vec<(String, i64)> = ahead
            .iter()
            .enumerate()
            .map(|(index, ahead)| (format!("server{index}"), *ahead))
            .collect();
        clock(&names)
    }

    #[test]
    fn clock_is_wrong_if_most_servers_differ() {
        assert_eq!(of(&[]).state, ProbeState::Unknown);
        assert_eq!(of(&[0, -60, 60]).state, ProbeState::Ok);
        let behind = of(&[300, 299, 0]);
        assert!(
            behind.is_problem() && behind.detail == "5 minutes behind server0, server1",
            "{behind:?}"
        );
        assert_eq!(of(&[-4000]).detail, "66 minutes ahead of server0");
        let theirs = of(&[0, 90_000, 1]);
        assert!(
            !theirs.is_problem()
                && theirs.detail == "agrees with most servers; server1 differs by 25 hours",
            "{theirs:?}"
        );
        assert_eq!(of(&[i64::MIN, i64::MAX]).state, ProbeState::Wrong);
    }
}
