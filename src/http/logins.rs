//! Which logins a host took or refused, so that a wrong password is not sent for each request:
//! hosts lock accounts for that.
//!
//! Owns no secret, only hashes. Where a login is refused a few times and never taken, it is the
//! login that is wrong: some hosts refuse one for what it may not do, so once it was taken,
//! refusals say nothing of it.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard};

use tokio::sync::{Mutex as AsyncMutex, MutexGuard as AsyncMutexGuard};

use crate::model::lock::lock;

/// How often in a row a login that was never taken is refused before it is not sent any more in
/// this run.
const REFUSALS: u32 = 3;

/// The logins of one host.
#[derive(Default)]
pub(super) struct Logins {
    hasher: RandomState,
    standings: Mutex<HashMap<u64, Standing>>,
    /// Held by who sends a login of which nothing is known yet, so that not all find out at once
    /// that it is wrong.
    alone: AsyncMutex<()>,
}

enum Standing {
    Taken,
    /// As far as is known. `reasons` are those of the last refusal.
    Refused {
        times: u32,
        reasons: String,
    },
    /// Sending it told nothing: nobody waits for another's answer any more.
    Untold {
        refused: u32,
    },
}

/// Sending a login once. Who drops it without a verdict did not learn whether the login is right.
pub(super) struct Trial<'a> {
    logins: &'a Logins,
    login: u64,
    has_verdict: bool,
    _alone: Option<AsyncMutexGuard<'a, ()>>,
}

impl Logins {
    /// Waits until `login` may be sent, or returns with which reasons it was refused too often.
    ///
    /// The caller must hold all places and permits that it needs: others wait for the trial while
    /// they hold theirs.
    pub(super) async fn begin(&self, login: &[u8]) -> Result<Trial<'_>, String> {
        let login = self.hasher.hash_one(login);
        let mut alone = None;
        if self.is_open(login)?.is_none() {
            alone = Some(self.alone.lock().await);
        }
        if self.is_open(login)?.is_some() {
            alone = None;
        }
        Ok(Trial {
            logins: self,
            login,
            has_verdict: false,
            _alone: alone,
        })
    }

    /// Returns with which reasons a login was refused, when that was too often for it to be sent
    /// again.
    pub(super) fn refusal(&self, login: &[u8]) -> Option<String> {
        self.is_open(self.hasher.hash_one(login)).err()
    }

    /// Returns something when the login may be sent by many at once, or with which reasons it was
    /// refused too often.
    fn is_open(&self, login: u64) -> Result<Option<()>, String> {
        match self.standings().get(&login) {
            Some(Standing::Refused { times, reasons }) if *times >= REFUSALS => {
                Err(reasons.clone())
            }
            Some(Standing::Taken | Standing::Untold { .. }) => Ok(Some(())),
            Some(Standing::Refused { .. }) | None => Ok(None),
        }
    }

    fn standings(&self) -> MutexGuard<'_, HashMap<u64, Standing>> {
        lock(&self.standings)
    }
}

impl Trial<'_> {
    /// Notes that the host took the login.
    pub(super) fn taken(mut self) {
        self.has_verdict = true;
        self.logins.standings().insert(self.login, Standing::Taken);
    }

    /// Notes that the host refused the login itself.
    pub(super) fn refused(mut self, reasons: &str) {
        self.has_verdict = true;
        let mut standings = self.logins.standings();
        let times = match standings.get(&self.login) {
            Some(Standing::Taken) => return,
            Some(Standing::Refused { times, .. } | Standing::Untold { refused: times }) => {
                times + 1
            }
            None => 1,
        };
        standings.insert(
            self.login,
            Standing::Refused {
                times,
                reasons: reasons.to_owned(),
            },
        );
    }
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        if self.has_verdict {
            return;
        }
        let mut standings = self.logins.standings();
        match standings.get(&self.login) {
            None => drop(standings.insert(self.login, Standing::Untold { refused: 0 })),
            Some(Standing::Refused { times, .. }) if *times < REFUSALS => {
                let refused = *times;
                standings.insert(self.login, Standing::Untold { refused });
            }
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn begin<'a>(logins: &'a Logins, login: &str) -> Result<Trial<'a>, String> {
        tokio::time::timeout(Duration::from_secs(5), logins.begin(login.as_bytes()))
            .await
            .expect("nobody is waited for")
    }

    #[tokio::test]
    async fn a_login_that_was_only_refused_is_not_sent_any_more_and_others_are() {
        let logins = Logins::default();
        for _ in 0..REFUSALS {
            begin(&logins, "wrong")
                .await
                .expect("a trial")
                .refused("no");
        }
        assert_eq!(begin(&logins, "wrong").await.err().as_deref(), Some("no"));
        begin(&logins, "right").await.expect("a trial").taken();
        for _ in 0..5 {
            begin(&logins, "right")
                .await
                .expect("a trial")
                .refused("not for this");
        }
        begin(&logins, "right").await.expect("it was taken once");
    }

    #[tokio::test]
    async fn one_finds_out_and_the_others_wait() {
        let logins = Logins::default();
        let first = begin(&logins, "a").await.expect("a trial");
        assert!(
            tokio::time::timeout(Duration::from_millis(20), logins.begin(b"a"))
                .await
                .is_err()
        );
        first.taken();
        let (_one, _other) = (
            begin(&logins, "a").await.expect("a trial"),
            begin(&logins, "a").await.expect("a trial"),
        );
    }

    #[tokio::test]
    async fn nobody_waits_for_a_host_that_does_not_answer_and_refusals_still_count() {
        let logins = Logins::default();
        begin(&logins, "a").await.expect("a trial").refused("no");
        drop(begin(&logins, "a").await);
        let (one, other) = (
            begin(&logins, "a").await.expect("a trial"),
            begin(&logins, "a").await.expect("a trial"),
        );
        one.refused("no");
        other.refused("no");
        assert!(begin(&logins, "a").await.is_err());
    }
}
