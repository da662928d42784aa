//! Traces by OpenTelemetry: the way of one part through all stages, as spans for a collector in the plant.
//!
//! ```text
//! record, commit ─part→ spans ─┐
//!                              ├─bounded queue→ sender ─OTLP/HTTP→ collector
//! acknowledged ─delivery→ span ┘
//! ```
//!
//! A trace's id is the record's: the 16 bytes of `result_id`. Everything in it is made of the record, when that
//! stands, so nobody waits for it, and which parts are kept is decided once all is known of them. What cannot be
//! delivered is dropped and counted: a trace decides nothing, and the record is there.

mod collector;
mod delivery;
mod options;
mod part;
mod sender;
mod span;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use opentelemetry_proto::tonic::trace::v1::Span;
use uuid::Uuid;

use crate::inspection::Inspection;
use crate::telemetry;
use crate::telemetry::metrics::{METRICS, TracesDropped};
use crate::verdict::Outcome;
use collector::Collector;
pub use delivery::Delivered;
pub use options::{KeyHeader, Options};
pub use part::Commit;
use sender::Sender;

/// Takes what is to be traced; any thread may hand it over, and none waits. Cheap to clone.
#[derive(Clone)]
pub struct Traces {
    inside: Arc<Inside>,
}

struct Inside {
    spans: flume::Sender<Vec<Span>>,
    stop: flume::Sender<()>,
    ended: flume::Receiver<()>,
    share: f64,
    serials: bool,
}

impl Traces {
    /// Starts the thread that sends, for the device of this name. Nothing is opened yet: a collector that is away
    /// is no error.
    ///
    /// # Errors
    /// Certificates that cannot be used, in words for a person.
    pub fn start(options: &Options, device: &str) -> Result<Traces, String> {
        let collector = Collector::new(options, device)?;
        let (spans, waiting) = flume::bounded(options.queue_parts);
        let (stop, stopped) = flume::bounded(1);
        let (tell_ended, ended) = flume::bounded(1);
        let sender = Sender::new(collector, options, waiting, stopped);
        thread::Builder::new()
            .name("traces".to_owned())
            .spawn(move || {
                sender.run();
                // Nobody may be waiting.
                let _ = tell_ended.send(());
            })
            .map_err(|why| format!("cannot start the thread for traces: {why}"))?;
        let (share, serials) = (options.share, options.serials);
        Ok(Traces { inside: Arc::new(Inside { spans, stop, ended, share, serials }) })
    }

    /// A part's record was committed.
    pub fn part(&self, look: &Inspection, commit: &Commit) {
        if is_kept(look.result_id, look.verdict.outcome, self.inside.share) {
            self.offer(part::spans(look, commit, self.inside.serials));
        }
    }

    /// A result was acknowledged by the broker.
    pub fn delivered(&self, delivered: &Delivered<'_>) {
        if is_kept(delivered.result_id, delivered.verdict, self.inside.share) {
            self.offer(vec![delivery::span(delivered)]);
        }
    }

    fn offer(&self, spans: Vec<Span>) {
        if let Err(full) = self.inside.spans.try_send(spans) {
            METRICS.traces_dropped(TracesDropped::QueueFull, full.into_inner().len());
        }
    }

    /// Sends what waits, once, and ends; waits no longer than `patience` for that. What is not sent then is lost.
    pub fn finish(&self, patience: Duration) {
        // It may have been asked already.
        let _ = self.inside.stop.try_send(());
        if self.inside.ended.recv_timeout(patience).is_err() {
            telemetry::traces_cut_off();
        }
    }
}

/// Whether the trace of a part is kept: always where it did not pass, else as many as `share` says. Two who are
/// asked about one part say the same, as its id decides.
fn is_kept(result_id: Uuid, outcome: Outcome, share: f64) -> bool {
    // A digest, as ids of one millisecond count up.
    let thrown = span::span_id(result_id, "share").into_iter().rev();
    let thrown = thrown.fold(0.0, |sum, byte| (sum + f64::from(byte)) / 256.0);
    outcome != Outcome::Pass || thrown < share
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_pass_is_kept_and_passes_by_their_share() {
        let ids: Vec<Uuid> = (0..4000).map(|_| Uuid::now_v7()).collect();
        let kept = |outcome, share| ids.iter().filter(|id| is_kept(**id, outcome, share)).count();
        for outcome in [Outcome::Fail, Outcome::Review] {
            assert_eq!(kept(outcome, 0.0), ids.len());
        }
        assert_eq!((kept(Outcome::Pass, 0.0), kept(Outcome::Pass, 1.0)), (0, ids.len()));
        // Ten standard deviations of 4000 throws around a quarter.
        assert!((730..=1270).contains(&kept(Outcome::Pass, 0.25)));
    }
}
