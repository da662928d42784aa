//! Counting: verdicts, serials and defect classes against the truth.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::truth::Truth;
use crate::inspection::Inspection;
use crate::verdict::{Outcome, Seen};

/// A share with its 95 % interval (Wilson's), so that nobody reads more into it than is there.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Share {
    /// Cases that count.
    pub hits: u64,
    /// Cases in all.
    pub of: u64,
    /// `hits / of`; 0 of 0 is 0.
    pub share: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

impl Share {
    /// The share of `hits` in `of`.
    pub fn new(hits: u64, of: u64) -> Share {
        if of == 0 {
            return Share { hits, of, share: 0.0, low: 0.0, high: 1.0 };
        }
        // The normal distribution's 97.5 % point.
        const Z: f64 = 1.959_964;
        let (n, p) = (of as f64, hits as f64 / of as f64);
        let centre = p + Z * Z / (2.0 * n);
        let spread = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
        let scale = 1.0 + Z * Z / n;
        let low = ((centre - spread) / scale).max(0.0);
        Share { hits, of, share: p, low, high: ((centre + spread) / scale).min(1.0) }
    }
}

/// The figures of one evaluation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Pictures.
    pub count: u64,
    /// Verdicts that equal the truth's.
    pub verdict_accuracy: f64,
    /// Serials read letter for letter, of those that can be read.
    pub serial_exact: f64,
    /// Wrong serials that nothing held back, of all pictures: the error that hurts.
    pub serial_wrong_accepted: f64,
    /// F1 of finding a defect class in a picture, averaged over the classes.
    pub defect_f1_macro: f64,
    /// Bad parts that passed, of all bad parts.
    pub escape_rate: f64,
    /// Good parts that failed, of all good parts.
    pub overkill_rate: f64,
    /// Parts sent to review, of all.
    pub review_rate: f64,
    /// Answers that are JSON of the form asked for, of all answers.
    pub json_valid: f64,
    /// The same shares with counts and intervals.
    pub intervals: BTreeMap<&'static str, Share>,
    /// F1 of each defect class.
    pub defect_f1: BTreeMap<String, f64>,
    /// Median time of an inspection on this machine, in milliseconds.
    pub latency_p50_ms: f64,
    /// 99th percentile of it.
    pub latency_p99_ms: f64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Hits {
    right: u64,
    extra: u64,
    missed: u64,
}

/// Counts one picture after the other.
#[derive(Debug, Default)]
pub struct Tally {
    count: u64,
    verdict_right: u64,
    serials: u64,
    serial_exact: u64,
    serial_wrong_accepted: u64,
    bad: u64,
    escaped: u64,
    good: u64,
    overkilled: u64,
    reviewed: u64,
    answers: u64,
    valid: u64,
    classes: BTreeMap<String, Hits>,
    latencies_ms: Vec<f64>,
}

impl Tally {
    /// Nothing counted yet.
    pub fn new() -> Tally {
        Tally::default()
    }

    /// Counts one picture and answers whether verdict, serial and defect classes are all right.
    pub fn count(&mut self, truth: &Truth, inspection: &Inspection) -> bool {
        self.count += 1;
        self.latencies_ms.push(inspection.timings.latency_ms);
        let verdict = self.count_verdict(truth.verdict, inspection.verdict.outcome);
        let serial = self.count_serial(truth.serial.as_deref(), inspection);
        let classes = self.count_classes(truth, inspection);
        for asked in &inspection.questions {
            self.answers += 1;
            self.valid += u64::from(asked.error.is_none());
        }
        verdict && serial && classes
    }

    fn count_verdict(&mut self, truth: Outcome, said: Outcome) -> bool {
        self.verdict_right += u64::from(truth == said);
        self.reviewed += u64::from(said == Outcome::Review);
        match truth {
            Outcome::Fail => {
                self.bad += 1;
                self.escaped += u64::from(said == Outcome::Pass);
            }
            Outcome::Pass => {
                self.good += 1;
                self.overkilled += u64::from(said == Outcome::Fail);
            }
            Outcome::Review => {}
        }
        truth == said
    }

    fn count_serial(&mut self, truth: Option<&str>, inspection: &Inspection) -> bool {
        let said = inspection.serial();
        if truth.is_some() {
            self.serials += 1;
            self.serial_exact += u64::from(said == truth);
        }
        let held_back = |code: &str| {
            code.starts_with("serial_") || code == "confidence_low" || code.starts_with("answer_")
        };
        let accepted = !inspection.verdict.reasons.iter().any(|reason| held_back(&reason.code));
        let wrong = said.is_some() && said != truth;
        self.serial_wrong_accepted += u64::from(wrong && accepted);
        said == truth
    }

    fn count_classes(&mut self, truth: &Truth, inspection: &Inspection) -> bool {
        let there: BTreeSet<&str> =
            truth.defects.iter().map(|defect| defect.class.as_str()).collect();
        let said: BTreeSet<&str> = inspection
            .defects()
            .filter_map(|finding| match &finding.seen {
                Seen::Defect { class, .. } => Some(class.as_str()),
                _ => None,
            })
            .collect();
        for class in there.union(&said) {
            let hits = self.classes.entry((*class).to_owned()).or_default();
            match (there.contains(class), said.contains(class)) {
                (true, true) => hits.right += 1,
                (true, false) => hits.missed += 1,
                _ => hits.extra += 1,
            }
        }
        there == said
    }

    /// The figures.
    pub fn report(mut self) -> Report {
        let shares = BTreeMap::from([
            ("verdict_accuracy", Share::new(self.verdict_right, self.count)),
            ("serial_exact", Share::new(self.serial_exact, self.serials)),
            ("serial_wrong_accepted", Share::new(self.serial_wrong_accepted, self.count)),
            ("escape_rate", Share::new(self.escaped, self.bad)),
            ("overkill_rate", Share::new(self.overkilled, self.good)),
            ("review_rate", Share::new(self.reviewed, self.count)),
            ("json_valid", Share::new(self.valid, self.answers)),
        ]);
        let f1: BTreeMap<String, f64> =
            self.classes.iter().map(|(class, hits)| (class.clone(), hits.f1())).collect();
        let mean = f1.values().sum::<f64>() / f1.len().max(1) as f64;
        self.latencies_ms.sort_by(f64::total_cmp);
        Report {
            count: self.count,
            verdict_accuracy: shares["verdict_accuracy"].share,
            serial_exact: shares["serial_exact"].share,
            serial_wrong_accepted: shares["serial_wrong_accepted"].share,
            defect_f1_macro: mean,
            escape_rate: shares["escape_rate"].share,
            overkill_rate: shares["overkill_rate"].share,
            review_rate: shares["review_rate"].share,
            json_valid: shares["json_valid"].share,
            intervals: shares,
            defect_f1: f1,
            latency_p50_ms: percentile(&self.latencies_ms, 50.0),
            latency_p99_ms: percentile(&self.latencies_ms, 99.0),
        }
    }
}

impl Hits {
    fn f1(&self) -> f64 {
        let right = 2.0 * self.right as f64;
        let all = right + self.extra as f64 + self.missed as f64;
        if all == 0.0 { 0.0 } else { right / all }
    }
}

/// The smallest value that at least `percent` of the ascending `sorted` do not exceed; 0 for none.
pub fn percentile(sorted: &[f64], percent: f64) -> f64 {
    let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilsons_interval_holds_what_the_books_say() {
        // 0 of 300: about 1.3 % may still be bad.
        let none = Share::new(0, 300);
        assert!(none.low < 1e-12 && (none.high - 0.01264).abs() < 1e-4, "{none:?}");
        let half = Share::new(50, 100);
        assert!((half.low - 0.4038).abs() < 1e-3 && (half.high - 0.5962).abs() < 1e-3, "{half:?}");
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        let sorted = [1.0, 2.0, 3.0, 4.0];
        assert_eq!(percentile(&sorted, 50.0), 2.0);
        assert_eq!(percentile(&sorted, 99.0), 4.0);
        assert_eq!(percentile(&[], 50.0), 0.0);
    }
}
