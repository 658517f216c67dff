//! Credential checks: the credentials that a host accepted or rejected.
//!
//! Hosts lock accounts after many wrong passwords, so a wrong one is not sent with every request: a
//! credential that was rejected a few times and never accepted is not sent again in this run. A
//! host may also reject a valid credential that lacks a permission. Once a credential was accepted,
//! rejections therefore no longer count.
//!
//! Stores hashes of credentials, not the credentials.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard};

use tokio::sync::{Mutex as AsyncMutex, MutexGuard as AsyncMutexGuard};

use crate::model::lock::lock;

/// Consecutive rejections after which a credential that was never accepted is not sent again.
const MAX_REJECTIONS: u32 = 3;

/// Checks of the credentials for one host.
#[derive(Default)]
pub(super) struct CredentialChecks {
    hasher: RandomState,
    states: Mutex<HashMap<u64, CredentialState>>,
    /// Held while a credential is sent whose state is unknown, so that parallel requests do not all
    /// send a wrong one.
    exclusive: AsyncMutex<()>,
}

/// State of a credential.
enum CredentialState {
    Accepted,
    /// Rejected so far. `reasons` are those of the last rejection.
    Rejected {
        times: u32,
        reasons: String,
    },
    /// The host did not answer, so requests no longer wait for each other's result.
    Inconclusive {
        rejections: u32,
    },
}

/// Check of a credential by sending it once. Dropping it without a result is inconclusive.
pub(super) struct CredentialCheck<'a> {
    checks: &'a CredentialChecks,
    credential: u64,
    has_result: bool,
    _exclusive: Option<AsyncMutexGuard<'a, ()>>,
}

impl CredentialChecks {
    /// Waits until `credential` may be sent. Fails with the host's reasons when it was rejected too
    /// often.
    ///
    /// The caller must hold all permits that it needs: others wait for its result while they hold
    /// theirs.
    pub(super) async fn start(&self, credential: &[u8]) -> Result<CredentialCheck<'_>, String> {
        let credential = self.hasher.hash_one(credential);
        let mut exclusive = None;
        if !self.is_shared(credential)? {
            exclusive = Some(self.exclusive.lock().await);
        }
        if self.is_shared(credential)? {
            exclusive = None;
        }
        Ok(CredentialCheck {
            checks: self,
            credential,
            has_result: false,
            _exclusive: exclusive,
        })
    }

    /// Returns the host's reasons if `credential` was rejected too often to be sent again.
    pub(super) fn rejection(&self, credential: &[u8]) -> Option<String> {
        self.is_shared(self.hasher.hash_one(credential)).err()
    }

    /// Returns true if parallel requests may send the credential. Fails with the host's reasons
    /// when it was rejected too often.
    fn is_shared(&self, credential: u64) -> Result<bool, String> {
        match self.states().get(&credential) {
            Some(CredentialState::Rejected { times, reasons }) if *times >= MAX_REJECTIONS => {
                Err(reasons.clone())
            }
            Some(CredentialState::Accepted | CredentialState::Inconclusive { .. }) => Ok(true),
            Some(CredentialState::Rejected { .. }) | None => Ok(false),
        }
    }

    fn states(&self) -> MutexGuard<'_, HashMap<u64, CredentialState>> {
        lock(&self.states)
    }
}

impl CredentialCheck<'_> {
    /// Records that the host accepted the credential.
    pub(super) fn accepted(mut self) {
        self.has_result = true;
        let mut states = self.checks.states();
        states.insert(self.credential, CredentialState::Accepted);
    }

    /// Records that the host rejected the credential itself.
    pub(super) fn rejected(mut self, reasons: &str) {
        self.has_result = true;
        let mut states = self.checks.states();
        let times = match states.get(&self.credential) {
            Some(CredentialState::Accepted) => return,
            Some(
                CredentialState::Rejected { times, .. }
                | CredentialState::Inconclusive { rejections: times },
            ) => times + 1,
            None => 1,
        };
        states.insert(
            self.credential,
            CredentialState::Rejected {
                times,
                reasons: reasons.to_owned(),
            },
        );
    }
}

impl Drop for CredentialCheck<'_> {
    fn drop(&mut self) {
        if self.has_result {
            return;
        }
        let mut states = self.checks.states();
        let rejections = match states.get(&self.credential) {
            None => 0,
            Some(CredentialState::Rejected { times, .. }) if *times < MAX_REJECTIONS => *times,
            Some(_) => return,
        };
        states.insert(
            self.credential,
            CredentialState::Inconclusive { rejections },
        );
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn start<'a>(
        checks: &'a CredentialChecks,
        credential: &str,
    ) -> Result<CredentialCheck<'a>, String> {
        tokio::time::timeout(Duration::from_secs(5), checks.start(credential.as_bytes()))
            .await
            .expect("no wait for another check")
    }

    #[tokio::test]
    async fn credential_that_was_only_rejected_is_not_sent_again() {
        let checks = CredentialChecks::default();
        for _ in 0..MAX_REJECTIONS {
            let check = start(&checks, "wrong").await.expect("a check");
            check.rejected("no");
        }
        assert_eq!(start(&checks, "wrong").await.err().as_deref(), Some("no"));
        start(&checks, "right").await.expect("a check").accepted();
        for _ in 0..5 {
            let check = start(&checks, "right").await.expect("a check");
            check.rejected("not for this");
        }
        start(&checks, "right").await.expect("it was accepted once");
    }

    #[tokio::test]
    async fn first_check_of_a_credential_blocks_the_others() {
        let checks = CredentialChecks::default();
        let first = start(&checks, "a").await.expect("a check");
        assert!(
            tokio::time::timeout(Duration::from_millis(20), checks.start(b"a"))
                .await
                .is_err()
        );
        first.accepted();
        let (_one, _other) = (
            start(&checks, "a").await.expect("a check"),
            start(&checks, "a").await.expect("a check"),
        );
    }

    #[tokio::test]
    async fn inconclusive_check_blocks_nobody_and_keeps_the_rejections() {
        let checks = CredentialChecks::default();
        start(&checks, "a").await.expect("a check").rejected("no");
        drop(start(&checks, "a").await);
        let (one, other) = (
            start(&checks, "a").await.expect("a check"),
            start(&checks, "a").await.expect("a check"),
        );
        one.rejected("no");
        other.rejected("no");
        assert!(start(&checks, "a").await.is_err());
    }
}
