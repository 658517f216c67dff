//! Consistent reads of listings that may change while they are read.

use std::future::Future;

/// Maximum number of reads of a listing that keeps changing.
const MAX_READS: usize = 8;

/// Result of one read.
pub(super) struct ListingRead<T> {
    pub(super) content: T,
    /// True if the content came in a single response. Several pages may show different moments: an
    /// entry that moves from an unread page to one that was already read is missing.
    pub(super) is_atomic: bool,
}

/// Returns the content that `read` returns in a single response, or twice in a row. Returns `None`
/// if it changed with every read.
pub(super) async fn read_consistently<T, E, F>(read: impl Fn() -> F) -> Result<Option<T>, E>
where
    T: PartialEq,
    F: Future<Output = Result<ListingRead<T>, E>>,
{
    let mut previous: Option<T> = None;
    for _ in 0..MAX_READS {
        let ListingRead { content, is_atomic } = read().await?;
        if is_atomic || previous.as_ref() == Some(&content) {
            return Ok(Some(content));
        }
        previous = Some(content);
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Mutex;

    use super::*;

    /// Returns the result for these reads, and the number of reads. The last one repeats.
    async fn result(reads: &[(u8, bool)]) -> (Option<u8>, usize) {
        let left = Mutex::new(reads.to_vec());
        let read = || async {
            let mut left = left.lock().expect("no panic");
            let (content, is_atomic) = if left.len() > 1 {
                left.remove(0)
            } else {
                left[0]
            };
            Ok::<_, Infallible>(ListingRead { content, is_atomic })
        };
        let found = read_consistently(read).await.expect("no error");
        let left = left.lock().expect("no panic").len();
        (found, reads.len() - left)
    }

    #[tokio::test]
    async fn read_consistently_repeats_paged_reads_until_two_agree() {
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
        assert_eq!(result(&changing).await, (None, MAX_READS));
    }
}
