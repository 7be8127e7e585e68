//! Bounds how many reads run at the same time: in total, for each organization and for each user.
//!
//! A read beyond a bound waits. Permits go to the waiting organizations in turn, and within an organization to its
//! users in turn, so that nobody waits longer because another one asks for more.
//!
//! A future that runs [`as_reader`] takes a permit for each connection that it reads with, and the permit is returned
//! with the connection. Nothing that holds a permit waits for one in order to continue, so permits cannot deadlock.
//! Reads that no client asked for run outside and take none; the pool has connections for them beyond the total.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::error::{Error, Result};
use crate::metrics::METRICS;
use crate::storage::read_queue::{ReadLimits, ReadQueue, Reader, StartedRead};

tokio::task_local! {
    /// The reader on whose behalf the current task runs, and the permits that readers share.
    static CURRENT: (Arc<ReadPermits>, Reader);
}

/// The permits of one kind of read.
///
/// The lock protects the queue only, and no other lock is taken under it.
#[derive(Debug)]
pub struct ReadPermits(Mutex<ReadQueue<ReadPermit>>);

/// The permission to run one read, which the next reader gets when it is dropped.
#[derive(Debug)]
pub struct ReadPermit {
    permits: Arc<ReadPermits>,
    reader: Reader,
}

impl Drop for ReadPermit {
    fn drop(&mut self) {
        self.permits.release(&self.reader);
    }
}

/// Runs work on behalf of a reader: each connection that it reads with takes a permit.
///
/// Tasks that the work spawns run outside.
pub async fn as_reader<T>(permits: Arc<ReadPermits>, reader: Reader, work: impl Future<Output = T>) -> T {
    CURRENT.scope((permits, reader), work).await
}

/// Waits for a permit of the current reader; returns `None` if the current task has no reader.
///
/// # Errors
///
/// Returns the errors of [`ReadPermits::acquire`].
///
/// # Cancel safety
///
/// Cancel-safe: a dropped call takes no permit.
pub async fn acquire_for_current_reader() -> Result<Option<ReadPermit>> {
    match CURRENT.try_with(Clone::clone) {
        Ok((permits, reader)) => permits.acquire(reader).await.map(Some),
        Err(_) => Ok(None),
    }
}

/// Waits for one of these permits for the current reader.
///
/// Returns `None` if the current task has no reader.
///
/// # Errors
///
/// Returns the errors of [`ReadPermits::acquire`].
///
/// # Cancel safety
///
/// Cancel-safe: a dropped call takes no permit.
pub async fn acquire_other_for_current_reader(permits: &Arc<ReadPermits>) -> Result<Option<ReadPermit>> {
    match CURRENT.try_with(|(_, reader)| reader.clone()) {
        Ok(reader) => permits.acquire(reader).await.map(Some),
        Err(_) => Ok(None),
    }
}

impl ReadPermits {
    /// Creates permits, none of which is in use.
    pub fn new(limits: ReadLimits) -> Arc<Self> {
        Arc::new(Self(Mutex::new(ReadQueue::new(limits))))
    }

    /// Waits for a permit, for as long as the caller does.
    ///
    /// # Errors
    ///
    /// Returns an unavailable error if the permits are dropped meanwhile.
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe: a dropped call takes no permit.
    pub async fn acquire(self: &Arc<Self>, reader: Reader) -> Result<ReadPermit> {
        let granted = {
            let mut queue = self.0.lock();
            if queue.try_start(&reader) {
                return Ok(ReadPermit { permits: self.clone(), reader });
            }
            queue.enqueue(&reader)
        };
        METRICS.read_waits.inc();
        granted.await.map_err(|_| Error::unavailable("the server is stopping"))
    }

    /// Ends a read, and starts the next ones that are below their bounds.
    fn release(self: &Arc<Self>, reader: &Reader) {
        let started = {
            let mut queue = self.0.lock();
            queue.end(reader);
            queue.start_waiting()
        };
        for StartedRead { reader, grant } in started {
            // If the reader has given up just now, the permit comes back and is released again.
            drop(grant.send(ReadPermit { permits: self.clone(), reader }));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use futures_util::FutureExt;
    use futures_util::future::BoxFuture;

    use super::*;

    type Waiting = BoxFuture<'static, Result<ReadPermit>>;

    fn permits(total: usize, per_organization: usize, per_user: usize) -> Arc<ReadPermits> {
        ReadPermits::new(ReadLimits { total, per_organization, per_user })
    }

    fn acquire(permits: &Arc<ReadPermits>, organization: &str, user: &str) -> Waiting {
        let reader = Reader { organization: organization.parse().unwrap(), user: Some(user.parse().unwrap()) };
        let permits = permits.clone();
        async move { permits.acquire(reader).await }.boxed()
    }

    #[track_caller]
    fn granted(waiting: &mut Waiting) -> ReadPermit {
        waiting.now_or_never().expect("the permit is granted").unwrap()
    }

    #[track_caller]
    fn take(permits: &Arc<ReadPermits>, organization: &str, user: &str) -> ReadPermit {
        granted(&mut acquire(permits, organization, user))
    }

    /// Starts to wait for a permit, which is not granted yet.
    #[track_caller]
    fn wait(permits: &Arc<ReadPermits>, organization: &str, user: &str) -> Waiting {
        let mut waiting = acquire(permits, organization, user);
        assert!((&mut waiting).now_or_never().is_none(), "{user} of {organization} does not wait");
        waiting
    }

    #[test]
    fn reads_wait_beyond_bounds_of_user_organization_and_total() {
        let permits = permits(4, 3, 2);
        let first = take(&permits, "a", "alice");
        let _second = take(&permits, "a", "alice");
        let mut third = wait(&permits, "a", "alice");
        let bob = take(&permits, "a", "bob");
        let mut carol = wait(&permits, "a", "carol");
        let _dave = take(&permits, "b", "dave");
        let mut eve = wait(&permits, "c", "eve");
        drop(bob);
        // Carol is below her bounds as well, and has waited for longer.
        let carol_permit = granted(&mut carol);
        assert!((&mut third).now_or_never().is_none() && (&mut eve).now_or_never().is_none());
        drop(first);
        // It is the turn of Eve's organization, and then Alice is below her bounds.
        let _eve = granted(&mut eve);
        drop(carol_permit);
        let _third = granted(&mut third);
    }

    #[test]
    fn permits_go_to_organizations_and_their_users_in_turn() {
        let permits = permits(1, 1, 1);
        let mut held = take(&permits, "a", "alice");
        let readers = [
            ("a", "alice"),
            ("a", "alice"),
            ("a", "bob"),
            ("a", "alice"),
            ("b", "carol"),
            ("b", "carol"),
            ("c", "dave"),
        ];
        let mut waiting: VecDeque<_> =
            readers.iter().map(|(organization, user)| (*user, wait(&permits, organization, user))).collect();
        let mut order = Vec::new();
        while !waiting.is_empty() {
            drop(held);
            let mut permit = None;
            waiting.retain_mut(|(user, waiting)| match waiting.now_or_never() {
                Some(granted) => {
                    order.push(*user);
                    permit = Some(granted.unwrap());
                    false
                }
                None => true,
            });
            held = permit.expect("one permit is granted");
        }
        assert_eq!(order, ["alice", "carol", "dave", "bob", "carol", "alice", "alice"]);
        assert_eq!(permits.0.lock().running(), 1, "only the last permit is in use");
        drop(held);
        assert!(permits.0.lock().is_idle());
    }

    #[test]
    fn reads_that_gave_up_are_passed_over() {
        let permits = permits(1, 1, 1);
        let held = take(&permits, "a", "alice");
        let (gave_up, mut waits) = (wait(&permits, "a", "alice"), wait(&permits, "a", "alice"));
        let granted_late = wait(&permits, "b", "bob");
        drop(gave_up);
        drop(held);
        drop(granted(&mut waits));
        // Bob has the permit now, but drops it unread.
        drop(granted_late);
        drop(take(&permits, "a", "alice"));
        assert!(permits.0.lock().is_idle());
    }

    #[test]
    fn shared_work_has_the_bound_of_the_organization() {
        let permits = permits(4, 3, 1);
        let shared = || permits.acquire(Reader { organization: "a".parse().unwrap(), user: None });
        let _held: Vec<_> = (0..3).map(|_| shared().now_or_never().expect("the permit is granted").unwrap()).collect();
        assert!(shared().now_or_never().is_none());
    }

    #[tokio::test]
    async fn only_work_of_a_reader_takes_permits() {
        let permits = permits(1, 1, 1);
        assert!(acquire_for_current_reader().await.unwrap().is_none());
        let reader = Reader { organization: "a".parse().unwrap(), user: Some("alice".parse().unwrap()) };
        as_reader(permits.clone(), reader, async {
            let _permit = acquire_for_current_reader().await.unwrap().expect("a permit");
            assert!(acquire_for_current_reader().now_or_never().is_none(), "the only permit is in use");
        })
        .await;
    }
}
