//! Subscriptions: one resolver run to open the source of events, then one short run for each event.
//!
//! A subscription begins with a run of its resolver that authorises the requester and opens the [`source`] of
//! events. Each event of the source is then a run of the same resolver with the event as its input. Subscribers
//! of the same operation share that run and its serialised response, by [`shared_operation`]. [`stream`] is one
//! subscriber's way through the events.

pub mod shared_operation;
pub mod source;
pub mod stream;
