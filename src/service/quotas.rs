//! Quotas: how much of a resource one user, and one organisation, hold on this node at the same time.
//!
//! Every transport counts with this module. A holder of a part of a quota owns a [`QuotaGuard`], whose drop gives it
//! back, so that no count leaks when a task is cancelled or panics.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::domain::ids::{OrganizationId, UserId};
use crate::domain::users::UserKey;
use crate::error::{Error, Result};
use crate::metrics::{KindLabel, METRICS};
use crate::service::settings::{QuotaLimits, QuotaSettings};

/// The time after which a client may try again: quotas become free when something ends, not by time.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The quotas of this node.
#[derive(Debug)]
pub struct Quotas {
    /// WebSockets whose client is authenticated.
    pub websockets: Arc<Quota>,
    /// Responses of Server-Sent Events.
    pub event_streams: Arc<Quota>,
    pub subscriptions: Arc<Quota>,
    /// Queries, mutations and starting subscriptions, from their request until their task has ended.
    pub operations: Arc<Quota>,
    /// Sends that wait for their transaction.
    pub queued_sends: Arc<Quota>,
    /// The texts and the waiting lookups in running operations, in MiB. An operation with less than one counts as
    /// nothing.
    pub operation_memory: Arc<Quota>,
}

impl Quotas {
    /// Creates quotas of which nothing is held.
    pub fn new(settings: &QuotaSettings) -> Self {
        let operation_memory = "MiB of data in running operations";
        Self {
            websockets: Quota::new("websockets", "open WebSockets", settings.websockets),
            event_streams: Quota::new("event_streams", "open event streams", settings.event_streams),
            subscriptions: Quota::new("subscriptions", "open subscriptions", settings.subscriptions),
            operations: Quota::new("operations", "running operations", settings.operations),
            queued_sends: Quota::new("queued_sends", "waiting messages", settings.queued_sends),
            operation_memory: Quota::new("operation_memory", operation_memory, settings.operation_memory),
        }
    }
}

/// The quota of one resource.
#[derive(Debug)]
pub struct Quota {
    /// The label of rejections in metrics.
    kind: &'static str,
    /// The resource in error messages, in the plural.
    resource: &'static str,
    limits: QuotaLimits,
    /// Held for one access only, and no other lock is taken under it.
    usage: Mutex<HashMap<OrganizationId, OrganizationUsage>>,
}

/// The number that each user of an organisation holds. A user who holds nothing has no entry.
#[derive(Debug, Default)]
struct OrganizationUsage {
    total: usize,
    by_user: HashMap<UserId, usize>,
}

impl Quota {
    /// Creates a quota of which nothing is held.
    ///
    /// `kind` is the label of rejections in metrics, and `resource` names the resource in errors, in the plural.
    pub fn new(kind: &'static str, resource: &'static str, limits: QuotaLimits) -> Arc<Self> {
        Arc::new(Self { kind, resource, limits, usage: Mutex::default() })
    }

    /// Holds one more of the resource for a user, until the guard is dropped.
    ///
    /// # Errors
    ///
    /// Returns [`Error::RateLimited`] if the user or the organisation holds as much as allowed.
    pub fn acquire(self: &Arc<Self>, (organization, user): &UserKey) -> Result<QuotaGuard> {
        let mut usage = self.usage.lock();
        let held = usage.get(organization);
        let held_by_user = held.and_then(|held| held.by_user.get(user)).copied().unwrap_or_default();
        if held_by_user >= self.limits.per_user {
            return Err(self.reject("a user", self.limits.per_user));
        }
        if held.map_or(0, |held| held.total) >= self.limits.per_organization {
            return Err(self.reject("an organization", self.limits.per_organization));
        }
        let held = usage.entry(organization.clone()).or_default();
        held.total += 1;
        *held.by_user.entry(user.clone()).or_default() += 1;
        Ok(QuotaGuard { quota: self.clone(), user: (organization.clone(), user.clone()) })
    }

    fn reject(&self, holder: &str, limit: usize) -> Error {
        METRICS.quota_rejections.get_or_create(&KindLabel { kind: self.kind }).inc();
        let message = format!("{holder} can have at most {limit} {}", self.resource);
        Error::RateLimited { message, retry_after: RETRY_AFTER }
    }

    fn release(&self, (organization, user): &UserKey) {
        let mut usage = self.usage.lock();
        let Some(held) = usage.get_mut(organization) else { return };
        held.total -= 1;
        if let Some(count) = held.by_user.get_mut(user) {
            *count -= 1;
            if *count == 0 {
                held.by_user.remove(user);
            }
        }
        if held.total == 0 {
            usage.remove(organization);
        }
    }
}

/// One of a resource that a user holds, until it is dropped.
#[derive(Debug)]
pub struct QuotaGuard {
    quota: Arc<Quota>,
    user: UserKey,
}

impl Drop for QuotaGuard {
    fn drop(&mut self) {
        self.quota.release(&self.user);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(per_user: usize, per_organization: usize) -> Arc<Quota> {
        Quota::new("test", "things", QuotaLimits { per_user, per_organization })
    }

    fn user(organization: &str, id: &str) -> UserKey {
        (organization.parse().unwrap(), id.parse().unwrap())
    }

    #[track_caller]
    fn assert_rejected(quota: &Arc<Quota>, user: &UserKey, expected: &str) {
        match quota.acquire(user) {
            Err(Error::RateLimited { message, retry_after }) => {
                assert_eq!((message.as_str(), retry_after), (expected, RETRY_AFTER));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn quota_is_limited_per_user_and_per_organization() {
        let quota = quota(2, 3);
        let (alice, bob, namesake) = (user("demo", "alice"), user("demo", "bob"), user("other", "alice"));
        let first = quota.acquire(&alice).unwrap();
        let _second = quota.acquire(&alice).unwrap();
        assert_rejected(&quota, &alice, "a user can have at most 2 things");
        let _third = quota.acquire(&bob).unwrap();
        assert_rejected(&quota, &bob, "an organization can have at most 3 things");
        let _other = quota.acquire(&namesake).unwrap();
        drop(first);
        let _fourth = quota.acquire(&bob).unwrap();
        assert_rejected(&quota, &alice, "an organization can have at most 3 things");
    }

    #[test]
    fn dropped_guard_leaves_no_entry() {
        let quota = quota(2, 3);
        let guards: Vec<_> = ["alice", "bob", "bob"].map(|id| quota.acquire(&user("demo", id)).unwrap()).into();
        assert!(quota.acquire(&user("demo", "bob")).is_err());
        drop(guards);
        assert!(quota.usage.lock().is_empty());
    }
}
