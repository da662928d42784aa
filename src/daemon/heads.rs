//! Tells the broker the head of the audit log's chain, so that someone else holds an anchor.

use std::sync::Mutex;

use crate::clock::Stamp;
use crate::publish::topics::Kind;
use crate::publish::{PublisherHandle, message};
use crate::store::Store;
use crate::telemetry;

/// Inspections after which a head is due. Between two heads is what a forger could rewrite unseen.
const EVERY_RECORDS: u64 = 64;

/// Time by the monotonic clock after which a head is due with the next inspection, in nanoseconds.
const EVERY_NS: u64 = 60 * 1_000_000_000;

/// When a head was last told, and of how many inspections.
#[derive(Debug, Default)]
pub struct Heads {
    last: Mutex<Option<(u64, u64)>>,
}

impl Heads {
    /// Tells the head with the inspection that is the `records`th of this run, if one is due.
    pub fn tell_if_due(
        &self,
        publisher: &PublisherHandle,
        store: &Store,
        records: u64,
        now: Stamp,
    ) {
        let mut last = self.last.lock().unwrap_or_else(|lock| lock.into_inner());
        if is_due(*last, records, now.monotonic_ns) {
            *last = Some((records, now.monotonic_ns));
            tell(publisher, store);
        }
    }
}

fn is_due(last: Option<(u64, u64)>, records: u64, now_ns: u64) -> bool {
    last.is_none_or(|(last_records, last_ns)| {
        records.saturating_sub(last_records) >= EVERY_RECORDS
            || now_ns.saturating_sub(last_ns) >= EVERY_NS
    })
}

/// Tells the head as it is now. Never waits; what cannot be told is in the log.
pub fn tell(publisher: &PublisherHandle, store: &Store) {
    let told = store
        .anchor()
        .map_err(|why| why.to_string())
        .map(|anchor| message::chain_head(&anchor))
        .and_then(|head| {
            publisher.publish_state(Kind::Chain, None, head).map_err(|why| why.to_string())
        });
    if let Err(why) = told {
        telemetry::head_not_told(&why);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_due_first_and_then_by_records_or_by_time() {
        assert!(is_due(None, 0, 0));
        let last = Some((10, 5));
        assert!(!is_due(last, 10 + EVERY_RECORDS - 1, 5 + EVERY_NS - 1));
        assert!(is_due(last, 10 + EVERY_RECORDS, 5));
        assert!(is_due(last, 11, 5 + EVERY_NS));
        assert!(!is_due(last, 9, 4), "neither runs backwards");
    }
}
