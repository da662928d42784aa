//! What is measured when Prometheus asks.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::Station;

type Real = Gauge<f64, AtomicU64>;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Zone {
    zone: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Rail {
    rail: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Mode {
    mode: String,
}

/// What is set when it is asked for.
pub struct Gauges {
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
    postgres_up: Gauge,
    postgres_conflict: Gauge,
    postgres_waiting: Gauge,
    postgres_oldest: Real,
    postgres_last_copy: Real,
    postgres_copied: Counter,
    postgres_lost: Counter,
    disk_free: Gauge,
    database: Gauge,
    reserve_whole: Gauge,
    memory: Gauge,
    memory_available: Gauge,
    model_memory: Gauge,
    temperature: Family<Zone, Real>,
    throttled: Gauge,
    power_mode: Family<Mode, Gauge>,
    power: Family<Rail, Real>,
    under_voltage: Gauge,
    over_current: Gauge,
    clock_limit: Real,
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
    /// The copy in PostgreSQL.
    pub postgres: Option<PostgresSample>,
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
    /// The mode that the board was set to, or the processor's governor.
    pub power_mode: Option<String>,
    /// Name and watts of each rail of the supply.
    pub rails_watts: Vec<(String, f64)>,
    /// Whether the supply's voltage is too low.
    pub is_under_voltage: Option<bool>,
    /// Whether a rail of the supply draws more than it may.
    pub is_over_current: Option<bool>,
    /// How fast the processor may run now, as a share of what it could.
    pub clock_limit: Option<f64>,
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

/// The part of the copy in PostgreSQL.
#[derive(Clone, Copy, Debug, Default)]
pub struct PostgresSample {
    /// It is connected.
    pub is_up: bool,
    /// What is there contradicts the log.
    pub is_conflict: bool,
    /// Records that wait.
    pub waiting: u64,
    /// For how long the oldest waits, in seconds.
    pub oldest_s: f64,
    /// Records copied.
    pub copied: u64,
    /// How long ago the newest were copied, in seconds.
    pub last_copy_s: Option<f64>,
    /// Records that were lost there and are copied again.
    pub lost: u64,
}

impl Gauges {
    /// All of them, told to `r`.
    pub fn new(r: &mut Registry) -> Gauges {
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
            postgres_up: of(
                r,
                "postgres_up",
                "1 while PostgreSQL is connected; -1: no copy is configured",
            ),
            postgres_conflict: of(
                r,
                "postgres_conflict",
                "1 while what PostgreSQL holds contradicts the audit log",
            ),
            postgres_waiting: of(r, "postgres_records", "Records that are not in PostgreSQL yet"),
            postgres_oldest: with(
                r,
                "postgres_oldest",
                "How long the oldest record has waited for PostgreSQL",
                Unit::Seconds,
            ),
            postgres_last_copy: with(
                r,
                "postgres_last_copy",
                "How long ago records were last copied; -1: not in this run",
                Unit::Seconds,
            ),
            postgres_copied: of(r, "postgres_copied", "Records copied to PostgreSQL"),
            postgres_lost: of(r, "postgres_lost", "Records that PostgreSQL had lost"),
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
            power_mode: of(
                r,
                "power_mode_info",
                "The power mode or governor: 1, the name is the label",
            ),
            power: with(
                r,
                "power",
                "What a rail of the supply gives",
                Unit::Other("watts".to_owned()),
            ),
            under_voltage: of(
                r,
                "under_voltage",
                "1 while the supply's voltage is too low; -1: not known",
            ),
            over_current: of(
                r,
                "over_current",
                "1 while a rail of the supply draws more than it may; -1: not known",
            ),
            clock_limit: with(
                r,
                "cpu_clock_limit",
                "How fast the processor may run, of what it could; -1: not known",
                Unit::Ratios,
            ),
            clock_synchronized: of(
                r,
                "clock_synchronized",
                "1 while the clock follows a time source",
            ),
            hung: of(r, "hung_threads", "Threads that make no progress"),
        }
    }

    /// They are as `sample` says.
    pub fn set(&self, sample: &Sample) {
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
        let postgres = sample.postgres.unwrap_or_default();
        self.postgres_up.set(sample.postgres.map_or(-1, |it| it.is_up.into()));
        self.postgres_conflict.set(postgres.is_conflict.into());
        self.postgres_waiting.set(whole(postgres.waiting));
        self.postgres_oldest.set(postgres.oldest_s);
        self.postgres_last_copy.set(postgres.last_copy_s.unwrap_or(-1.0));
        self.postgres_copied.inner().store(postgres.copied, Ordering::Relaxed);
        self.postgres_lost.inner().store(postgres.lost, Ordering::Relaxed);
        self.disk_free.set(unknown(sample.disk_free_bytes));
        self.database.set(unknown(sample.database_bytes));
        self.reserve_whole.set(sample.is_reserve_whole.into());
        self.memory.set(unknown(sample.memory_bytes));
        self.memory_available.set(unknown(sample.memory_available_bytes));
        self.model_memory.set(unknown(sample.model_bytes));
        for (zone, celsius) in &sample.temperatures {
            self.temperature.get_or_create(&Zone { zone: zone.clone() }).set(*celsius);
        }
        let flag = |told: Option<bool>| told.map_or(-1, i64::from);
        self.throttled.set(flag(sample.is_throttled));
        self.under_voltage.set(flag(sample.is_under_voltage));
        self.over_current.set(flag(sample.is_over_current));
        self.clock_limit.set(sample.clock_limit.unwrap_or(-1.0));
        self.power_mode.clear();
        if let Some(mode) = &sample.power_mode {
            self.power_mode.get_or_create(&Mode { mode: mode.clone() }).set(1);
        }
        for (rail, watts) in &sample.rails_watts {
            self.power.get_or_create(&Rail { rail: rail.clone() }).set(*watts);
        }
        self.clock_synchronized.set(sample.is_clock_synchronized.into());
        self.hung.set(whole(sample.hung as u64));
    }
}
