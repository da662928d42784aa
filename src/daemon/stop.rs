//! One flag that ends everything, set by a signal, the last part, or a record that cannot be written.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::service;
use crate::telemetry;

/// Whether to go on.
#[derive(Debug)]
pub struct Stop {
    set: AtomicBool,
    triggered: AtomicU64,
    limit: Option<u64>,
}

impl Stop {
    /// Goes on until told otherwise, or until `limit` parts were triggered.
    pub fn new(limit: Option<u64>) -> Stop {
        Stop { set: AtomicBool::new(false), triggered: AtomicU64::new(0), limit }
    }

    /// Ends the run; the first reason is logged.
    pub fn set(&self, why: &str) {
        if !self.set.swap(true, Ordering::SeqCst) {
            telemetry::stopping(why);
            service::stopping();
        }
    }

    /// Whether the run is to end now: parts that still wait are not looked at.
    pub fn is_set(&self) -> bool {
        self.set.load(Ordering::SeqCst)
    }

    /// Whether as many parts as asked for were triggered: no more triggers, but all are looked at.
    pub fn all_triggered(&self) -> bool {
        self.limit.is_some_and(|limit| self.triggered.load(Ordering::SeqCst) >= limit)
    }

    /// Asks for leave to trigger one more part.
    pub fn may_trigger(&self) -> bool {
        let below = |count: u64| self.limit.is_none_or(|limit| count < limit).then_some(count + 1);
        self.triggered.fetch_update(Ordering::SeqCst, Ordering::SeqCst, below).is_ok()
    }
}

/// Sets the flag on SIGINT or SIGTERM. A second signal ends the process at once.
pub async fn on_signal(stop: Arc<Stop>) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return;
    };
    let mut first = true;
    loop {
        let name = tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
        };
        if !first {
            // Whoever signals twice wants out; what is committed is safe.
            std::process::exit(1);
        }
        first = false;
        stop.set(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leave_is_given_exactly_as_often_as_allowed() {
        let stop = Stop::new(Some(2));
        assert!(stop.may_trigger() && !stop.all_triggered());
        assert!(stop.may_trigger() && stop.all_triggered());
        assert!(!stop.may_trigger());
        assert!(!stop.is_set());
    }
}
