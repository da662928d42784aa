//! Results that the broker has, for those who want to hear of each.

use std::sync::Arc;

use jiff::Timestamp;

use super::inbox::Inbox;
use crate::store::OutboxRow;

/// A result that the broker acknowledged.
#[derive(Debug)]
pub struct Delivered<'d> {
    /// Its row in the outbox: which result, of which station, and what was told.
    pub row: &'d OutboxRow,
    /// The broker's name or address, and its port.
    pub broker: (&'d str, u16),
    /// Where it was sent.
    pub topic: &'d str,
    /// Whether it went as backlog.
    pub is_replayed: bool,
    /// When it was handed over on the connection that it went by, by the wall clock.
    pub handed_over: Timestamp,
    /// When the broker acknowledged it, by the wall clock.
    pub acknowledged: Timestamp,
}

/// Hears of deliveries.
pub trait Deliveries: Send + Sync + 'static {
    /// The broker has a result, and its row says so. Called by the task that delivers, so it must not wait. After a
    /// crash it may be called again for one result.
    fn delivered(&self, delivered: &Delivered<'_>);
}

/// Who hears what comes from the broker.
#[derive(Clone, Default)]
pub struct Hearers {
    /// The messages that it asks for.
    pub inbox: Option<Arc<dyn Inbox>>,
    /// Each delivery.
    pub deliveries: Option<Arc<dyn Deliveries>>,
}

impl Hearers {
    /// The topics that messages are asked for from, now.
    pub(super) fn filters(&self) -> Vec<String> {
        self.inbox.as_ref().map_or_else(Vec::new, |inbox| inbox.filters())
    }
}

/// A result that was acknowledged and is yet to be marked.
pub(super) struct Acknowledged {
    pub(super) row: OutboxRow,
    pub(super) is_replayed: bool,
    pub(super) handed_over: Timestamp,
    pub(super) acknowledged: Timestamp,
}
