//! What Prometheus reads: counters that events add to, and gauges that are set when it asks.
//!
//! All names begin with `inspectd_`. Units stand in the names: seconds, bytes, Celsius.

mod gauges;

use std::collections::HashSet;
use std::sync::{LazyLock, Mutex, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::inspection::Inspection;
use gauges::Gauges;
pub use gauges::{BrokerSample, PostgresSample, Sample, StationSample};

/// The metrics of this process.
pub static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

/// Reasons that are counted one by one; more are counted as `other`. Rules may name their own.
const REASONS_MAX: usize = 256;

/// Upper bounds of a delivery, in seconds: from a broker on the same machine to days without one.
const DELIVERY_SECONDS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0, 3600.0, 21_600.0, 86_400.0];

/// Upper bounds of what a part may wait for, in seconds: from a look-up to a large model on a small board.
const SECONDS: [f64; 16] = [
    0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0,
];

/// Of one station.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Station {
    /// Its name.
    pub station: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Verdict {
    station: String,
    verdict: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct WithReason {
    station: String,
    verdict: String,
    reason: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Stage {
    station: String,
    stage: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Loss {
    station: String,
    kind: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Build {
    device: String,
    version: String,
    model: String,
    computes_on: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Outcome {
    outcome: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Replayed {
    station: String,
    replayed: bool,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Why {
    reason: &'static str,
}

/// Why spans of traces did not reach their collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TracesDropped {
    /// Too many waited.
    QueueFull,
    /// The collector did not take them for too long, or for good.
    NotDelivered,
    /// The collector took the message and refused them.
    Refused,
}

type Seconds<L> = Family<L, Histogram, fn() -> Histogram>;

fn seconds() -> Histogram {
    Histogram::new(SECONDS)
}

fn delivery_seconds() -> Histogram {
    Histogram::new(DELIVERY_SECONDS)
}

/// Everything that is counted and measured.
pub struct Metrics {
    registry: Registry,
    reasons_seen: Mutex<HashSet<String>>,
    parts: Family<Verdict, Counter>,
    reasons: Family<WithReason, Counter>,
    late: Family<Station, Counter>,
    latency: Seconds<Station>,
    stages: Seconds<Stage>,
    commit: Histogram,
    deliveries: Seconds<Replayed>,
    traces_sent: Counter,
    traces_dropped: Family<Why, Counter>,
    traces_collector: Gauge,
    camera_losses: Family<Loss, Counter>,
    reloads: Family<Outcome, Counter>,
    build: Family<Build, Gauge>,
    gauges: Gauges,
}

impl Metrics {
    fn new() -> Metrics {
        let mut registry = Registry::with_prefix("inspectd");
        let gauges = Gauges::new(&mut registry);
        let mut metrics = Metrics {
            registry,
            reasons_seen: Mutex::default(),
            parts: Family::default(),
            reasons: Family::default(),
            late: Family::default(),
            latency: Seconds::new_with_constructor(seconds),
            stages: Seconds::new_with_constructor(seconds),
            commit: seconds(),
            deliveries: Seconds::new_with_constructor(delivery_seconds),
            traces_sent: Counter::default(),
            traces_dropped: Family::default(),
            traces_collector: Gauge::default(),
            camera_losses: Family::default(),
            reloads: Family::default(),
            build: Family::default(),
            gauges,
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let r = &mut self.registry;
        r.register(
            "parts",
            "Records of parts, by verdict; updates of a late part count again",
            self.parts.clone(),
        );
        r.register("reasons", "Reasons of verdicts, by their code", self.reasons.clone());
        r.register(
            "deadlines_missed",
            "Parts whose verdict came after the deadline",
            self.late.clone(),
        );
        let latency = "From the trigger until the verdict stood";
        r.register_with_unit("latency", latency, Unit::Seconds, self.latency.clone());
        let stage = "Time of each stage of a part: queued, crop, quality, model, evidence";
        r.register_with_unit("stage", stage, Unit::Seconds, self.stages.clone());
        let commit = "Time until a record was on the disk";
        r.register_with_unit("commit", commit, Unit::Seconds, self.commit.clone());
        let delivery =
            "From the commit of a result until the broker acknowledged it, by the wall clock";
        r.register_with_unit("delivery", delivery, Unit::Seconds, self.deliveries.clone());
        r.register("trace_spans_sent", "Spans that the collector took", self.traces_sent.clone());
        r.register("trace_spans_dropped", "Spans that were lost", self.traces_dropped.clone());
        let collector =
            "1 while the collector of traces takes them; -1: there is none, or not known";
        self.traces_collector.set(-1);
        r.register("trace_collector_up", collector, self.traces_collector.clone());
        r.register(
            "camera_losses",
            "Times that a camera stopped delivering, by kind",
            self.camera_losses.clone(),
        );
        r.register(
            "reloads",
            "Times that the configuration was read again: taken or refused",
            self.reloads.clone(),
        );
        let build = "What runs: always 1, the facts are the labels";
        r.register("build_info", build, self.build.clone());
    }

    /// A part's record was written; it took `commit_s` seconds.
    pub fn recorded(&self, inspection: &Inspection, commit_s: f64) {
        self.commit.observe(commit_s);
        let station = inspection.station.clone();
        let verdict = inspection.verdict.outcome.as_str().to_owned();
        let of = Verdict { station: station.clone(), verdict: verdict.clone() };
        self.parts.get_or_create(&of).inc();
        for reason in &inspection.verdict.reasons {
            let (station, verdict) = (station.clone(), verdict.clone());
            let reason = self.bounded(&reason.code);
            self.reasons.get_or_create(&WithReason { station, verdict, reason }).inc();
        }
        let of_station = Station { station: station.clone() };
        if inspection.timeliness.deadline_met == Some(false) {
            self.late.get_or_create(&of_station).inc();
        }
        if inspection.questions.is_empty() {
            // Nobody looked: its times say nothing of the stages.
            return;
        }
        let timings = &inspection.timings;
        self.latency.get_or_create(&of_station).observe(timings.latency_ms / 1e3);
        let stages = [
            ("queued", timings.queued_ms),
            ("crop", timings.crop_ms),
            ("quality", timings.quality_ms),
            ("model", timings.model_ms),
            ("evidence", timings.evidence_ms),
        ];
        for (stage, ms) in stages {
            let of = Stage { station: station.clone(), stage: stage.to_owned() };
            self.stages.get_or_create(&of).observe(ms / 1e3);
        }
    }

    fn bounded(&self, reason: &str) -> String {
        let mut seen = self.reasons_seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() < REASONS_MAX || seen.contains(reason) {
            seen.insert(reason.to_owned());
            return reason.to_owned();
        }
        "other".to_owned()
    }

    /// The broker acknowledged a result `seconds` after its commit.
    pub fn delivered(&self, station: &str, replayed: bool, seconds: f64) {
        let of = Replayed { station: station.to_owned(), replayed };
        self.deliveries.get_or_create(&of).observe(seconds);
    }

    /// The collector took so many spans.
    pub fn traces_sent(&self, spans: usize) {
        self.traces_sent.inc_by(spans as u64);
    }

    /// So many spans were lost.
    pub fn traces_dropped(&self, reason: TracesDropped, spans: usize) {
        let reason = match reason {
            TracesDropped::QueueFull => "queue_full",
            TracesDropped::NotDelivered => "not_delivered",
            TracesDropped::Refused => "refused",
        };
        self.traces_dropped.get_or_create(&Why { reason }).inc_by(spans as u64);
    }

    /// Whether the collector takes spans; `None`: not known yet.
    pub fn traces_collector(&self, is_up: Option<bool>) {
        self.traces_collector.set(is_up.map_or(-1, i64::from));
    }

    /// A camera stopped delivering.
    pub fn camera_lost(&self, station: &str, kind: &str) {
        let of = Loss { station: station.to_owned(), kind: kind.to_owned() };
        self.camera_losses.get_or_create(&of).inc();
    }

    /// The configuration was read again.
    pub fn reloaded(&self, taken: bool) {
        let outcome = if taken { "taken" } else { "refused" }.to_owned();
        self.reloads.get_or_create(&Outcome { outcome }).inc();
    }

    /// What runs, and the name of the device that it runs on.
    pub fn runs(&self, device: &str, model: &str, computes_on: &str) {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let (device, model) = (device.to_owned(), model.to_owned());
        let computes_on = computes_on.to_owned();
        self.build.clear();
        self.build.get_or_create(&Build { device, version, model, computes_on }).set(1);
    }

    /// All of it, as OpenMetrics text, with the gauges as `sample` says.
    pub fn text(&self, sample: &Sample) -> String {
        self.gauges.set(sample);
        let mut text = String::new();
        // Writing into a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
