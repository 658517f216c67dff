//! Reading what may change in between.

use std::future::Future;

/// How often something is read anew because it changed.
const ROUNDS: usize = 8;

/// What came of one reading.
pub(super) struct Seen<T> {
    pub(super) what: T,
    /// Whether it was read in one piece. Of several pieces, each may be of another moment: what
    /// moves from one that was not read yet to one that was is missing in all.
    pub(super) at_once: bool,
}

/// Returns what `read` gives at once, or twice in a row; `None` when it changed each time.
pub(super) async fn settled<T, E, F>(read: impl Fn() -> F) -> Result<Option<T>, E>
where
    T: PartialEq,
    F: Future<Output = Result<Seen<T>, E>>,
{
    let mut before: Option<T> = None;
    for _ in 0..ROUNDS {
        let Seen { what, at_once } = read().await?;
        if at_once || before.as_ref() == Some(&what) {
            return Ok(Some(what));
        }
        before = Some(what);
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Mutex;

    use super::*;

    async fn result(readings: &[(u8, bool)]) -> (Option<u8>, usize) {
        let left = Mutex::new(readings.to_vec());
        let read = || async {
            let mut left = left.lock().expect("no panic");
            let (what, at_once) = if left.len() > 1 {
                left.remove(0)
            } else {
                left[0]
            };
            Ok::<_, Infallible>(Seen { what, at_once })
        };
        let found = settled(read).await.expect("no error");
        let left = left.lock().expect("no panic").len();
        (found, readings.len() - left)
    }

    #[tokio::test]
    async fn what_is_read_in_pieces_is_read_until_it_stays() {
        assert_eq!(result(&[(1, true), (2, true)]).await, (Some(1), 1));
        assert_eq!(
            result(&[(1, false), (1, false), (9, true)]).await,
            (Some(1), 2)
        );
        assert_eq!(
            result(&[(1, false), (2, false), (2, false), (9, true)]).await,
            (Some(2), 3)
        );
        assert_eq!(
            result(&[(1, false), (2, true), (9, true)]).await,
            (Some(2), 2)
        );
        let changing: Vec<(u8, bool)> = (0..20).map(|number| (number, false)).collect();
        assert_eq!(result(&changing).await, (None, ROUNDS));
    }
}
