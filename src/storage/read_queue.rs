//! The reads that run and those that wait, by organization and user.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use tokio::sync::oneshot;

use crate::domain::ids::{OrganizationId, UserId};

/// The party on whose behalf the database is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reader {
    pub organization: OrganizationId,
    /// The user; `None` for work that users of the organization share.
    pub user: Option<UserId>,
}

/// The numbers of reads that run at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadLimits {
    /// The reads of all clients together.
    pub total: usize,
    pub per_organization: usize,
    pub per_user: usize,
}

impl ReadLimits {
    /// Returns limits for a total, lowered so that one organization or user does not take everything.
    ///
    /// At least one read of the total stays free of an organization, and one of the organization free of a user,
    /// unless there is only one.
    pub fn new(total: usize, per_organization: usize, per_user: usize) -> Self {
        let per_organization = per_organization.min(total.saturating_sub(1)).max(1);
        let per_user = per_user.min(per_organization.saturating_sub(1)).max(1);
        Self { total: total.max(1), per_organization, per_user }
    }
}

/// A read that waited and may start.
pub struct StartedRead<T> {
    pub reader: Reader,
    /// The channel over which the reader gets its permit, which is of the type `T`.
    pub grant: oneshot::Sender<T>,
}

/// The reads that run and those that wait.
///
/// No read waits that is below all bounds.
#[derive(Debug)]
pub struct ReadQueue<T> {
    limits: ReadLimits,
    running: usize,
    organizations: Turns<OrganizationId, OrganizationReads<T>>,
}

#[derive(Debug)]
struct OrganizationReads<T> {
    running: usize,
    users: Turns<Option<UserId>, UserReads<T>>,
}

#[derive(Debug)]
struct UserReads<T> {
    running: usize,
    waiting: VecDeque<oneshot::Sender<T>>,
}

impl<T> Default for OrganizationReads<T> {
    fn default() -> Self {
        Self { running: 0, users: Turns::default() }
    }
}

impl<T> Default for UserReads<T> {
    fn default() -> Self {
        Self { running: 0, waiting: VecDeque::new() }
    }
}

impl<T> ReadQueue<T> {
    /// Creates a queue without reads.
    pub fn new(limits: ReadLimits) -> Self {
        Self { limits, running: 0, organizations: Turns::default() }
    }

    /// Starts a read if it is below all bounds, and returns whether it is.
    pub fn try_start(&mut self, reader: &Reader) -> bool {
        if self.running >= self.limits.total {
            return false;
        }
        let organization = self.organizations.parties.entry(reader.organization.clone()).or_default();
        let user = organization.users.parties.entry(reader.user.clone()).or_default();
        let starts = organization.running < self.limits.per_organization
            && user.running < self.limits.per_user_of(reader.user.as_ref());
        if starts {
            self.running += 1;
            organization.running += 1;
            user.running += 1;
        }
        starts
    }

    /// Adds a read that does not start yet, and returns the channel over which it gets its permit.
    pub fn enqueue(&mut self, reader: &Reader) -> oneshot::Receiver<T> {
        let (grant, granted) = oneshot::channel();
        let organization = self.organizations.join(&reader.organization);
        let user = organization.users.join(&reader.user);
        // Otherwise reads that gave up would accumulate while the user's other reads are slow.
        while user.waiting.front().is_some_and(oneshot::Sender::is_closed) {
            user.waiting.pop_front();
        }
        user.waiting.push_back(grant);
        granted
    }

    /// Ends a read that was started.
    pub fn end(&mut self, reader: &Reader) {
        self.running -= 1;
        let Some(organization) = self.organizations.parties.get_mut(&reader.organization) else { return };
        organization.running -= 1;
        if let Some(user) = organization.users.parties.get_mut(&reader.user) {
            user.running -= 1;
        }
        organization.users.forget_idle(&reader.user);
        self.organizations.forget_idle(&reader.organization);
    }

    /// Starts the waiting reads that are below all bounds, and returns them.
    pub fn start_waiting(&mut self) -> Vec<StartedRead<T>> {
        std::iter::from_fn(|| self.start_next()).collect()
    }

    fn start_next(&mut self) -> Option<StartedRead<T>> {
        let limits = self.limits;
        if self.running >= limits.total {
            return None;
        }
        let (organization, (user, grant)) = self.organizations.take_turn(|_, organization| {
            if organization.running >= limits.per_organization {
                return None;
            }
            let turn = organization.users.take_turn(|id, user| {
                if user.running >= limits.per_user_of(id.as_ref()) {
                    return None;
                }
                let grant = std::iter::from_fn(|| user.waiting.pop_front()).find(|grant| !grant.is_closed())?;
                user.running += 1;
                Some(grant)
            })?;
            organization.running += 1;
            Some(turn)
        })?;
        self.running += 1;
        Some(StartedRead { reader: Reader { organization, user }, grant })
    }

    /// Returns the number of reads that run.
    #[cfg(test)]
    pub fn running(&self) -> usize {
        self.running
    }

    /// Returns whether nothing runs or waits, and no party is remembered.
    #[cfg(test)]
    pub fn is_idle(&self) -> bool {
        self.running == 0 && self.organizations.parties.is_empty() && self.organizations.order.is_empty()
    }
}

impl ReadLimits {
    /// Returns the bound of a user, or of work that users share.
    fn per_user_of(&self, user: Option<&UserId>) -> usize {
        if user.is_some() { self.per_user } else { self.per_organization }
    }
}

/// A party that runs reads and has some that wait.
trait Party: Default {
    fn is_waiting(&self) -> bool;
    fn is_running(&self) -> bool;
}

impl<T> Party for OrganizationReads<T> {
    fn is_waiting(&self) -> bool {
        !self.users.order.is_empty()
    }

    fn is_running(&self) -> bool {
        self.running > 0
    }
}

impl<T> Party for UserReads<T> {
    fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn is_running(&self) -> bool {
        self.running > 0
    }
}

/// Parties by key, and the order in which those that wait take their turns.
#[derive(Debug)]
struct Turns<K, P> {
    parties: HashMap<K, P>,
    /// Each party that waits, once.
    order: VecDeque<K>,
}

impl<K, P> Default for Turns<K, P> {
    fn default() -> Self {
        Self { parties: HashMap::new(), order: VecDeque::new() }
    }
}

impl<K: Clone + Eq + Hash, P: Party> Turns<K, P> {
    /// Returns a party that is about to wait, and gives it a turn after the others if it has none yet.
    fn join(&mut self, key: &K) -> &mut P {
        let party = self.parties.entry(key.clone()).or_default();
        if !party.is_waiting() {
            self.order.push_back(key.clone());
        }
        party
    }

    /// Offers a turn to the parties in order until one takes it.
    ///
    /// The next turn of that party is after those of all others.
    fn take_turn<R>(&mut self, mut offer: impl FnMut(&K, &mut P) -> Option<R>) -> Option<(K, R)> {
        let mut index = 0;
        while let Some(key) = self.order.get(index) {
            let party = self.parties.get_mut(key)?;
            let taken = offer(key, party);
            let is_waiting = party.is_waiting();
            if taken.is_none() && is_waiting {
                index += 1;
                continue;
            }
            let key = self.order.remove(index)?;
            match taken {
                Some(taken) => {
                    if is_waiting {
                        self.order.push_back(key.clone());
                    }
                    return Some((key, taken));
                }
                // All of its reads gave up.
                None => self.forget_idle(&key),
            }
        }
        None
    }

    /// Removes a party that neither runs nor waits.
    fn forget_idle(&mut self, key: &K) {
        if self.parties.get(key).is_some_and(|party| !party.is_running() && !party.is_waiting()) {
            self.parties.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ReadLimits;

    #[test]
    fn limits_leave_a_read_to_other_organizations_and_users() {
        let limits = |total, per_organization, per_user| {
            let ReadLimits { total, per_organization, per_user } = ReadLimits::new(total, per_organization, per_user);
            [total, per_organization, per_user]
        };
        assert_eq!(limits(12, 12, 4), [12, 11, 4]);
        assert_eq!(limits(5, 12, 4), [5, 4, 3]);
        assert_eq!(limits(12, 6, 1), [12, 6, 1]);
        assert_eq!(limits(2, 1, 8), [2, 1, 1]);
        assert_eq!(limits(1, 12, 4), [1, 1, 1]);
        assert_eq!(limits(0, 0, 0), [1, 1, 1]);
    }
}
