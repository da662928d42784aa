//! The thread that sends: batches, tries again for a while, and leaves a collector that is away alone.

use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::trace::v1::Span;

use super::collector::{Collector, may_pass};
use super::options::Options;
use crate::remote::breaker::{Admitted, Breaker, BreakerOptions};
use crate::telemetry;
use crate::telemetry::metrics::{METRICS, TracesDropped};

/// Spans of one request.
const BATCH_SPANS: usize = 512;

/// How long a batch waits for more after its first part.
const LINGER: Duration = Duration::from_secs(1);

/// Between two tries: the first time, and at most.
const REST: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// What the thread has.
pub struct Sender {
    collector: Collector,
    waiting: flume::Receiver<Vec<Span>>,
    stopped: flume::Receiver<()>,
    breaker: Breaker,
    give_up: Duration,
    /// What was told last of the collector: whether it takes spans.
    is_up: Option<bool>,
    is_stopping: bool,
}

/// What the thread was woken by.
enum Woken {
    Spans(Vec<Span>),
    Stop,
}

impl Sender {
    /// Takes spans from `waiting`, until `stopped` tells something or is gone.
    pub fn new(
        collector: Collector,
        options: &Options,
        waiting: flume::Receiver<Vec<Span>>,
        stopped: flume::Receiver<()>,
    ) -> Sender {
        METRICS.traces_collector(None);
        let most = REST.1.min(options.give_up);
        let breaker = BreakerOptions { failures: 1, open_min: REST.0.min(most), open_max: most };
        Sender {
            collector,
            waiting,
            stopped,
            breaker: Breaker::new(breaker),
            give_up: options.give_up,
            is_up: None,
            is_stopping: false,
        }
    }

    /// Sends until it is stopped; then what waits goes out, if the collector takes it at once.
    pub fn run(mut self) {
        loop {
            let batch = self.gather();
            if batch.is_empty() && self.is_stopping {
                return;
            }
            self.deliver(batch);
        }
    }

    /// Waits for a part, and a while for more.
    fn gather(&mut self) -> Vec<Span> {
        let mut batch: Vec<Span> = Vec::new();
        let mut until = None;
        while batch.len() < BATCH_SPANS {
            if self.is_stopping {
                let Ok(spans) = self.waiting.try_recv() else { break };
                batch.extend(spans);
                continue;
            }
            match self.next(until) {
                Some(Woken::Spans(spans)) => {
                    batch.extend(spans);
                    until = until.or_else(|| Some(Instant::now() + LINGER));
                }
                Some(Woken::Stop) => self.is_stopping = true,
                None => break,
            }
        }
        batch
    }

    /// What comes next; `None`: nothing by then.
    fn next(&self, until: Option<Instant>) -> Option<Woken> {
        let wait = flume::Selector::new()
            // The other end is never dropped before this was told to stop.
            .recv(&self.waiting, |got| got.map_or(Woken::Stop, Woken::Spans))
            .recv(&self.stopped, |_| Woken::Stop);
        match until {
            Some(until) => wait.wait_deadline(until).ok(),
            None => Some(wait.wait()),
        }
    }

    /// Brings one batch there, or gives it up.
    fn deliver(&mut self, batch: Vec<Span>) {
        let (count, since) = (batch.len(), Instant::now());
        let body = self.collector.body(batch);
        loop {
            let wait = match self.breaker.admit(Instant::now()) {
                Admitted::Ask | Admitted::Try => Duration::ZERO,
                Admitted::Wait(left) => left,
            };
            if !wait.is_zero() {
                // There is no time for a rest when the daemon ends, nor beyond the patience with these spans.
                if self.is_stopping || since.elapsed() + wait > self.give_up {
                    METRICS.traces_dropped(TracesDropped::NotDelivered, count);
                    return;
                }
                self.rest(wait);
                continue;
            }
            match self.collector.send(&body) {
                Ok(refused) => {
                    self.breaker.succeed();
                    let lost = refused.spans.min(count);
                    METRICS.traces_sent(count - lost);
                    METRICS.traces_dropped(TracesDropped::Refused, lost);
                    self.tell_up();
                    if lost > 0 {
                        telemetry::traces_refused(lost, &refused.why);
                    }
                    return;
                }
                Err(failure) => {
                    self.breaker.fail(Instant::now(), failure.rest);
                    self.tell_down(&failure.text);
                    if !may_pass(&failure) {
                        METRICS.traces_dropped(TracesDropped::NotDelivered, count);
                        return;
                    }
                }
            }
        }
    }

    /// Waits, but not when the daemon ends.
    fn rest(&mut self, time: Duration) {
        let woken = self.stopped.recv_timeout(time);
        self.is_stopping = !matches!(woken, Err(flume::RecvTimeoutError::Timeout));
    }

    fn tell_up(&mut self) {
        METRICS.traces_collector(Some(true));
        match self.is_up.replace(true) {
            Some(true) => {}
            Some(false) => telemetry::traces_back(self.collector.origin()),
            None => telemetry::traces_flow(self.collector.origin()),
        }
    }

    fn tell_down(&mut self, why: &str) {
        METRICS.traces_collector(Some(false));
        // Once, and not for each part.
        if self.is_up.replace(false) != Some(false) {
            telemetry::traces_lost(self.collector.origin(), why);
        }
    }
}
