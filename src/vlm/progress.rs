//! How far the engines of this process have come, for whoever must tell slow from stuck.

use std::sync::atomic::{AtomicU64, Ordering};

static STEPS: AtomicU64 = AtomicU64::new(0);

/// Layers computed so far by all engines of this process: grows while any of them computes.
pub fn steps() -> u64 {
    STEPS.load(Ordering::Relaxed)
}

/// One more is computed.
pub(crate) fn step() {
    STEPS.fetch_add(1, Ordering::Relaxed);
}
