//! The pauses before somebody who is away is called again, as [broker] and [postgres] have them.

use std::time::Duration;

use super::reader::Reader;

/// Reads `backoff_min_ms` and `backoff_max_ms` over the defaults in `min` and `max`.
pub fn read(table: &mut Reader<'_>, min: &mut Duration, max: &mut Duration) {
    let default_ms = max.as_millis();
    let keys = [("backoff_min_ms", 60_000, &mut *min), ("backoff_max_ms", 3_600_000, &mut *max)];
    for (key, most, pause) in keys {
        if let Some(ms) = table.whole(key, 50..=most) {
            *pause = Duration::from_millis(ms.into_inner() as u64);
        }
    }
    if min > max {
        let title = "`backoff_min_ms` is above `backoff_max_ms`";
        let remedy =
            format!("raise `backoff_max_ms` (default {default_ms}) or lower `backoff_min_ms`");
        table.error(table.key_span("backoff_min_ms"), title, remedy);
    }
}
