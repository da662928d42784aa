//! What a station has done since the start, in short: for whoever looks at a running daemon.

use std::collections::VecDeque;

use crate::inspection::Inspection;
use crate::verdict::Outcome;
use crate::web::status::{Camera, Last, Parts};

/// Latencies that are kept.
const LATENCIES: usize = 100;

/// Counts of one station.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Its camera, as its line has told last.
    pub camera: Camera,
    /// Records.
    pub parts: Parts,
    /// The newest.
    pub last: Option<Last>,
    latencies: VecDeque<f64>,
}

impl Tally {
    /// Counts a record.
    pub fn add(&mut self, inspection: &Inspection) {
        let verdict = &inspection.verdict;
        match verdict.outcome {
            Outcome::Pass => self.parts.pass += 1,
            Outcome::Fail => self.parts.fail += 1,
            Outcome::Review => self.parts.review += 1,
        }
        let latency_ms = inspection.timings.latency_ms;
        self.last = Some(Last {
            at: inspection.times.decided.wall,
            verdict: verdict.outcome.as_str().to_owned(),
            reason: verdict.reasons.first().map(|reason| reason.code.to_string()),
            latency_ms,
        });
        if !inspection.questions.is_empty() {
            self.latencies.push_back(latency_ms);
            if self.latencies.len() > LATENCIES {
                self.latencies.pop_front();
            }
        }
    }

    /// Median and 95th percentile of the latest latencies, ms.
    pub fn latency_ms(&self) -> Option<[f64; 2]> {
        let mut sorted: Vec<f64> = self.latencies.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1)?;
        let at = |share: f64| sorted[(last as f64 * share).round() as usize];
        Some([at(0.5), at(0.95)])
    }
}
