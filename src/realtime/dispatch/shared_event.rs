//! An event as all its subscribers hold it, with the renderings that they share.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use bytestring::ByteString;
use chrono::{DateTime, Utc};

use crate::domain::chat_events::{Change, ChatEvent, ChatEventKind};
use crate::domain::ids::UserId;
use crate::domain::users::User;
use crate::realtime::dispatch::render_cache::{RenderCache, RenderedPayload};

/// An event that all its subscribers share, with what was rendered of each of its changes so far.
#[derive(Debug)]
pub struct SharedEvent {
    pub event: ChatEvent,
    /// One cache for each change, or none if the event has a single subscriber.
    render_caches: Vec<RenderCache>,
    /// The rendering of the whole event for each render group, by its id. Set once, before delivery.
    renderings: OnceLock<HashMap<u64, RenderedBatch>>,
}

impl SharedEvent {
    /// Wraps an event that has this number of subscribers.
    ///
    /// With a single subscriber, renderings are not kept, as no other subscriber could use them.
    pub(super) fn new(event: ChatEvent, subscriber_count: usize) -> Arc<Self> {
        let changes = match &event.kind {
            ChatEventKind::LogChanges(slice) => slice.changes.len(),
            ChatEventKind::MembersUpdated(updates) => updates.members.len(),
            ChatEventKind::Deleted { .. } | ChatEventKind::NotificationsChanged(_) | ChatEventKind::CallChanged(_) => 0,
        };
        let cache_count = if subscriber_count > 1 { changes } else { 0 };
        let render_caches = std::iter::repeat_with(RenderCache::default).take(cache_count).collect();
        Arc::new(Self { event, render_caches, renderings: OnceLock::new() })
    }

    /// Returns whether renderings of the event are kept for other subscribers.
    pub(super) fn is_cached(&self) -> bool {
        !self.render_caches.is_empty()
    }

    /// Returns whether every change of the event is visible to one member only.
    pub(super) fn is_private(&self) -> bool {
        match &self.event.kind {
            ChatEventKind::MembersUpdated(updates) => updates.members.iter().all(|update| !update.visible_to_others),
            _ => false,
        }
    }

    /// Returns whether a subscriber owned by `user` receives the event.
    pub(super) fn is_visible_to(&self, user: &UserId) -> bool {
        match &self.event.kind {
            ChatEventKind::MembersUpdated(updates) => updates.visible_to(user).next().is_some(),
            _ => true,
        }
    }

    /// Sets the renderings of the event, by render group. Later calls change nothing.
    pub(super) fn set_renderings(&self, renderings: HashMap<u64, RenderedBatch>) {
        self.renderings.get_or_init(|| renderings);
    }

    /// Returns the rendering of the event for a render group, if its subscribers all receive the same.
    pub(super) fn rendering_for(&self, render_group_id: u64) -> Option<&RenderedBatch> {
        self.renderings.get()?.get(&render_group_id)
    }
}

/// A reference to one change of a shared event.
#[derive(Debug, Clone)]
pub struct EventRef {
    shared_event: Arc<SharedEvent>,
    index: usize,
}

impl EventRef {
    /// Refers to the change at `index` of the event.
    pub fn new(shared_event: &Arc<SharedEvent>, index: usize) -> Self {
        Self { shared_event: shared_event.clone(), index }
    }

    /// Returns the senders of the event's messages, as far as the publisher attached them.
    pub fn senders(&self) -> &[User] {
        &self.shared_event.event.senders
    }

    /// Returns the cache of the change's renderings, if the event has more than one subscriber.
    pub fn render_cache(&self) -> Option<&RenderCache> {
        self.shared_event.render_caches.get(self.index)
    }
}

/// The rendering of a whole event, the same for all subscribers of a render group.
#[derive(Debug)]
pub struct RenderedBatch {
    /// The version that a subscriber must have for this batch to be the next.
    pub(super) after_version: i64,
    /// The version that a subscriber has after this batch.
    pub(super) to_version: i64,
    /// The version of the last member change of the batch.
    pub(super) member_version: Option<i64>,
    pub(super) as_of: DateTime<Utc>,
    /// The bodies of the messages, in the order of the changes.
    pub(super) bodies: Vec<ByteString>,
    pub(super) total_bytes: usize,
}

impl RenderedBatch {
    /// Joins the renderings of an event's changes.
    ///
    /// Returns `None` if the event cannot be written by the fast path: a change differs between subscribers, the server
    /// failed to render it, the event takes no version, it had a single subscriber, or it ends a membership (the feed
    /// of that member has to end) or may hide such an end.
    pub fn new(shared_event: &SharedEvent, payloads: Vec<Option<RenderedPayload>>) -> Option<Self> {
        let ChatEventKind::LogChanges(slice) = &shared_event.event.kind else { return None };
        let ends_membership = shared_event.event.membership_changes().any(|(_, is_active)| !is_active);
        // Only the newest state of a row is in a slice that merges several versions.
        let merges_versions = slice.changes.len() as i64 != slice.to_version - slice.after_version;
        let hides_end = merges_versions && shared_event.event.membership_changes().next().is_some();
        if !shared_event.is_cached() || ends_membership || hides_end {
            return None;
        }
        let member_changes = slice.changes.iter().filter(|change| matches!(change, Change::Member(_)));
        let body = |payload: Option<RenderedPayload>| {
            payload.filter(|payload| !payload.should_resubscribe).map(|payload| payload.body)
        };
        let bodies: Vec<ByteString> = payloads.into_iter().map(body).collect::<Option<_>>()?;
        Some(Self {
            after_version: slice.after_version,
            to_version: slice.to_version,
            member_version: member_changes.map(Change::version).max(),
            as_of: shared_event.event.published_at,
            total_bytes: bodies.iter().map(|body| body.len()).sum(),
            bodies,
        })
    }
}
