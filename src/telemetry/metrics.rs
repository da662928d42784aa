//! What Prometheus reads: counters that events add to, and gauges that are set when it asks.
//!
//! All names begin with `inspectd_`. Units stand in the names: seconds, bytes, Celsius.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::inspection::Inspection;

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

type Real = Gauge<f64, AtomicU64>;

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
struct Zone {
    zone: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Build {
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

/// What is set when it is asked for.
struct Gauges {
    frames: Family<Station, Counter>,
    frames_dropped: Family<Station, Counter>,
    frames_damaged: Family<Station, Counter>,
    camera_up: Family<Station, Gauge>,
    ready: Family<Station, Gauge>,
    fault: Family<Station, Gauge>,
    queue: Family<Station, Gauge>,
    queue_places: Family<Station, Gauge>,
    broker_up: Gauge,
    outbox: Gauge,
    outbox_age: Real,
    quarantined: Gauge,
    disk_free: Gauge,
    database: Gauge,
    reserve_whole: Gauge,
    memory: Gauge,
    memory_available: Gauge,
    model_memory: Gauge,
    temperature: Family<Zone, Real>,
    throttled: Gauge,
    clock_synchronized: Gauge,
    hung: Gauge,
}

/// One look at all that is measured; `None`: not known, or there is none.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Each station.
    pub stations: Vec<StationSample>,
    /// The broker and what waits for it.
    pub broker: Option<BrokerSample>,
    /// Free bytes where the audit log lies.
    pub disk_free_bytes: Option<u64>,
    /// Bytes of the database file.
    pub database_bytes: Option<u64>,
    /// Whether the audit log's reserve on the disk is whole.
    pub is_reserve_whole: bool,
    /// Bytes of this process in memory.
    pub memory_bytes: Option<u64>,
    /// Bytes that the machine could still give.
    pub memory_available_bytes: Option<u64>,
    /// Bytes that the model was planned with.
    pub model_bytes: Option<u64>,
    /// Name and degrees Celsius of each sensor.
    pub temperatures: Vec<(String, f64)>,
    /// Whether the machine has slowed itself down, for heat or for a weak supply.
    pub is_throttled: Option<bool>,
    /// Whether the wall clock follows a time source.
    pub is_clock_synchronized: bool,
    /// Threads that make no progress.
    pub hung: usize,
}

/// One station's part of it.
#[derive(Clone, Debug, Default)]
pub struct StationSample {
    /// Its name.
    pub name: String,
    /// Frames that its camera brought, that nobody looked at, and that were damaged.
    pub frames: [u64; 3],
    /// Its camera delivers.
    pub is_camera_up: bool,
    /// A part would be taken now.
    pub is_ready: bool,
    /// Something is broken.
    pub is_fault: bool,
    /// Parts in hand, and how many may be.
    pub queue: [usize; 2],
}

/// The broker's part of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct BrokerSample {
    /// It is connected.
    pub is_up: bool,
    /// Results that wait.
    pub unsent: u64,
    /// Results that can never be sent.
    pub quarantined: u64,
    /// For how long the oldest waits, in seconds.
    pub oldest_s: f64,
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

    /// What runs.
    pub fn runs(&self, model: &str, computes_on: &str) {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let (model, computes_on) = (model.to_owned(), computes_on.to_owned());
        self.build.clear();
        self.build.get_or_create(&Build { version, model, computes_on }).set(1);
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

impl Gauges {
    fn new(r: &mut Registry) -> Gauges {
        fn of<M>(r: &mut Registry, name: &str, help: &str) -> M
        where
            M: Clone + Default + prometheus_client::registry::Metric,
        {
            let metric = M::default();
            r.register(name, help, metric.clone());
            metric
        }
        fn with<M>(r: &mut Registry, name: &str, help: &str, unit: Unit) -> M
        where
            M: Clone + Default + prometheus_client::registry::Metric,
        {
            let metric = M::default();
            r.register_with_unit(name, help, unit, metric.clone());
            metric
        }
        Gauges {
            frames: of(r, "frames", "Frames that the camera brought since the start"),
            frames_dropped: of(r, "frames_dropped", "Frames that nobody looked at since the start"),
            frames_damaged: of(r, "frames_damaged", "Frames that were damaged since the start"),
            camera_up: of(r, "camera_up", "1 while the camera delivers"),
            ready: of(r, "ready", "1 while a part would be taken"),
            fault: of(r, "fault", "1 while something of the station is broken"),
            queue: of(r, "queue_parts", "Parts in hand"),
            queue_places: of(r, "queue_places", "Parts that may be in hand"),
            broker_up: of(r, "broker_up", "1 while the broker is connected"),
            outbox: of(r, "outbox_results", "Results that the broker has not acknowledged"),
            outbox_age: with(
                r,
                "outbox_oldest",
                "How long the oldest result has waited",
                Unit::Seconds,
            ),
            quarantined: of(r, "outbox_quarantined", "Results that can never be sent"),
            disk_free: with(r, "disk_free", "Free space where the audit log lies", Unit::Bytes),
            database: with(r, "database_size", "Size of the audit log's database", Unit::Bytes),
            reserve_whole: of(r, "disk_reserve_whole", "1 while the audit log's reserve is whole"),
            memory: with(r, "memory_resident", "Memory of this process", Unit::Bytes),
            memory_available: with(
                r,
                "memory_available",
                "Memory that the machine could give",
                Unit::Bytes,
            ),
            model_memory: with(
                r,
                "model_memory_planned",
                "Memory that the model was planned with",
                Unit::Bytes,
            ),
            temperature: with(
                r,
                "temperature",
                "Temperature of a part of the machine",
                Unit::Celsius,
            ),
            throttled: of(
                r,
                "throttled",
                "1 while the machine has slowed itself down; -1: not known",
            ),
            clock_synchronized: of(
                r,
                "clock_synchronized",
                "1 while the clock follows a time source",
            ),
            hung: of(r, "hung_threads", "Threads that make no progress"),
        }
    }

    fn set(&self, sample: &Sample) {
        let whole = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let unknown = |n: Option<u64>| n.map_or(-1, whole);
        for one in &sample.stations {
            let of = Station { station: one.name.clone() };
            let set = |family: &Family<Station, Gauge>, value: i64| {
                family.get_or_create(&of).set(value);
            };
            let counters = [&self.frames, &self.frames_dropped, &self.frames_damaged];
            for (counter, count) in counters.into_iter().zip(one.frames) {
                // Counted by the camera; never less than before.
                counter.get_or_create(&of).inner().store(count, Ordering::Relaxed);
            }
            set(&self.camera_up, one.is_camera_up.into());
            set(&self.ready, one.is_ready.into());
            set(&self.fault, one.is_fault.into());
            set(&self.queue, whole(one.queue[0] as u64));
            set(&self.queue_places, whole(one.queue[1] as u64));
        }
        let broker = sample.broker.unwrap_or_default();
        self.broker_up.set(sample.broker.map_or(-1, |broker| broker.is_up.into()));
        self.outbox.set(whole(broker.unsent));
        self.outbox_age.set(broker.oldest_s);
        self.quarantined.set(whole(broker.quarantined));
        self.disk_free.set(unknown(sample.disk_free_bytes));
        self.database.set(unknown(sample.database_bytes));
        self.reserve_whole.set(sample.is_reserve_whole.into());
        self.memory.set(unknown(sample.memory_bytes));
        self.memory_available.set(unknown(sample.memory_available_bytes));
        self.model_memory.set(unknown(sample.model_bytes));
        for (zone, celsius) in &sample.temperatures {
            self.temperature.get_or_create(&Zone { zone: zone.clone() }).set(*celsius);
        }
        self.throttled.set(sample.is_throttled.map_or(-1, i64::from));
        self.clock_synchronized.set(sample.is_clock_synchronized.into());
        self.hung.set(whole(sample.hung as u64));
    }
}
