//! What a running daemon tells of itself: health, state, metrics; and the one thing that it can be told.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;

use super::reload::Reloader;
use super::roster::Roster;
use super::vitals::Vitals;
use crate::capacity::Resident;
use crate::clock::Clock;
use crate::platform::{power, sensors};
use crate::publish::PublisherHandle;
use crate::store::{ReserveState, Store, free_bytes};
use crate::telemetry::metrics::{BrokerSample, METRICS, PostgresSample, Sample, StationSample};
use crate::upstream::UpstreamState;
use crate::web::status::{Broker, Disk, Machine, Model, Postgres, Power, Station, Status};
use crate::web::{Answers, Health};

/// Disk below which a person should see to it, in bytes.
const DISK_LOW_BYTES: u64 = 1 << 30;

/// Results may wait for so long before somebody should know, in seconds.
const OUTBOX_OLD_S: f64 = 300.0;

/// Records may wait for PostgreSQL for so long before somebody should know, in seconds.
const COPY_OLD_S: f64 = 900.0;

/// Where everything of a run can be asked.
pub struct State {
    pub(super) device: String,
    pub(super) model: Model,
    pub(super) since: Instant,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) roster: Arc<Roster>,
    pub(super) publisher: Option<PublisherHandle>,
    /// How the copy in PostgreSQL stands; `None`: there is none.
    pub(super) copy: Option<watch::Receiver<UpstreamState>>,
    pub(super) store: Store,
    pub(super) vitals: Arc<Vitals>,
    /// `None`: the configuration is not from files.
    pub(super) reloader: Option<Arc<Reloader>>,
}

impl State {
    fn stations(&self) -> Vec<Station> {
        self.roster.all().iter().map(|one| one.desk.status()).collect()
    }

    fn model(&self) -> Model {
        let renewed = self.reloader.as_ref().and_then(|reloader| reloader.model_bytes());
        Model { planned_bytes: renewed.or(self.model.planned_bytes), ..self.model.clone() }
    }

    fn broker(&self) -> Option<Broker> {
        let state = self.publisher.as_ref()?.state().borrow().clone();
        Some(Broker {
            connected: state.connected,
            unsent: state.unsent,
            quarantined: state.quarantined,
            oldest_s: state.oldest_unsent_age.map(|age| age.as_secs_f64()),
            last_error: state.last_error,
        })
    }

    fn postgres(&self) -> Option<Postgres> {
        let state = self.copy.as_ref()?.borrow().clone();
        let now_ms = self.clock.now().wall.as_millisecond();
        // A clock that was set back makes it young, not negative.
        let age = |wall_ms: i64| now_ms.saturating_sub(wall_ms).max(0) as f64 / 1e3;
        Some(Postgres {
            connected: state.connected,
            waiting: state.waiting,
            oldest_s: state.oldest_wall_ms.map(age),
            copied: state.copied,
            last_copy_s: state.last_copy.map(|at| at.elapsed().as_secs_f64()),
            lost: state.lost,
            conflict: state.conflict,
            last_error: state.last_error,
        })
    }

    fn disk(&self) -> Disk {
        let path = self.store.path();
        Disk {
            free_bytes: path.parent().and_then(|dir| free_bytes(dir).ok()),
            database_bytes: database_bytes(path),
            reserve_whole: self.store.reserve() == ReserveState::Whole,
        }
    }

    fn machine(&self) -> Machine {
        Machine {
            memory_bytes: Some(Resident::now().resident_bytes).filter(|bytes| *bytes > 0),
            available_bytes: sensors::available_bytes(),
            temperatures_celsius: sensors::temperatures(),
            throttled: sensors::is_throttled(),
            power: supply(),
            clock_synchronized: self.clock.synchronized(),
        }
    }

    fn judge(
        &self,
        stations: &[Station],
        (broker, postgres): (Option<&Broker>, Option<&Postgres>),
        disk: &Disk,
        machine: &Machine,
    ) -> Health {
        let hung = self.vitals.hung().into_iter().map(|hung| hung.name).collect();
        let mut health = Health { hung, ..Health::default() };
        for one in stations {
            if let Some(fault) = &one.fault {
                health.not_ready.push(format!("station \"{}\": {fault}", one.name));
            } else if !one.camera.delivers {
                health.not_ready.push(format!("station \"{}\": no pictures", one.name));
            }
        }
        let mut degraded = |is_so: bool, text: String| {
            if is_so {
                health.degraded.push(text);
            }
        };
        if let Some(broker) = broker {
            degraded(!broker.connected, "the broker is not connected".into());
            let oldest_s = broker.oldest_s.unwrap_or(0.0);
            let old = format!("results have waited for the broker for {oldest_s:.0} s");
            degraded(oldest_s > OUTBOX_OLD_S, old);
            let aside = format!("{} results can never be sent", broker.quarantined);
            degraded(broker.quarantined > 0, aside);
        }
        if let Some(postgres) = postgres {
            let conflict = postgres.conflict.clone().unwrap_or_default();
            degraded(postgres.conflict.is_some(), format!("no copy to PostgreSQL: {conflict}"));
            let oldest_s = postgres.oldest_s.unwrap_or(0.0);
            let old = format!("records have waited for PostgreSQL for {oldest_s:.0} s");
            degraded(oldest_s > COPY_OLD_S, old);
        }
        degraded(!disk.reserve_whole, "the disk is full: records go into the reserve".into());
        let free = disk.free_bytes.unwrap_or(u64::MAX);
        degraded(free < DISK_LOW_BYTES, format!("{} MiB are free on the disk", free >> 20));
        degraded(machine.throttled == Some(true), "the machine has slowed itself down".into());
        degraded(
            machine.power.under_voltage == Some(true),
            "the supply's voltage is too low".into(),
        );
        degraded(
            machine.power.over_current == Some(true),
            "the supply's current is too high".into(),
        );
        degraded(!machine.clock_synchronized, "the clock follows no time source".into());
        health
    }
}

impl Answers for State {
    fn health(&self) -> Health {
        self.status().health
    }

    fn status(&self) -> Status {
        let (stations, broker) = (self.stations(), self.broker());
        let postgres = self.postgres();
        let (disk, machine) = (self.disk(), self.machine());
        let health = self.judge(&stations, (broker.as_ref(), postgres.as_ref()), &disk, &machine);
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            device: self.device.clone(),
            at: self.clock.now().wall,
            up_s: self.since.elapsed().as_secs_f64(),
            health,
            model: self.model(),
            stations,
            broker,
            postgres,
            disk,
            machine,
        }
    }

    fn metrics(&self) -> String {
        METRICS.text(&sample(&self.status()))
    }

    fn reload(&self) -> Result<Vec<String>, String> {
        match &self.reloader {
            Some(reloader) => reloader.reload().map(|done| done.changed),
            None => Err("this run was not started from configuration files".to_owned()),
        }
    }
}

fn supply() -> Power {
    let told = power::power();
    Power {
        mode: told.mode,
        rails_watts: told.rails_watts,
        under_voltage: told.is_under_voltage,
        over_current: told.is_over_current,
        clock_limit: told.clock_limit,
    }
}

/// The database with what SQLite has not taken into it yet.
fn database_bytes(path: &Path) -> Option<u64> {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let log = fs::metadata(Path::new(&log)).map_or(0, |meta| meta.len());
    fs::metadata(path).ok().map(|meta| meta.len() + log)
}

/// The state as gauges.
fn sample(status: &Status) -> Sample {
    let station = |one: &Station| StationSample {
        name: one.name.clone(),
        frames: [one.camera.frames, one.camera.dropped, one.camera.damaged],
        is_camera_up: one.camera.delivers,
        is_ready: one.ready,
        is_fault: one.fault.is_some(),
        queue: [one.queue, one.queue_places],
    };
    let broker = |it: &Broker| BrokerSample {
        is_up: it.connected,
        unsent: it.unsent,
        quarantined: it.quarantined,
        oldest_s: it.oldest_s.unwrap_or(0.0),
    };
    let postgres = |it: &Postgres| PostgresSample {
        is_up: it.connected,
        is_conflict: it.conflict.is_some(),
        waiting: it.waiting,
        oldest_s: it.oldest_s.unwrap_or(0.0),
        copied: it.copied,
        last_copy_s: it.last_copy_s,
        lost: it.lost,
    };
    Sample {
        stations: status.stations.iter().map(station).collect(),
        broker: status.broker.as_ref().map(broker),
        postgres: status.postgres.as_ref().map(postgres),
        disk_free_bytes: status.disk.free_bytes,
        database_bytes: status.disk.database_bytes,
        is_reserve_whole: status.disk.reserve_whole,
        memory_bytes: status.machine.memory_bytes,
        memory_available_bytes: status.machine.available_bytes,
        model_bytes: status.model.planned_bytes,
        temperatures: status.machine.temperatures_celsius.clone(),
        is_throttled: status.machine.throttled,
        power_mode: status.machine.power.mode.clone(),
        rails_watts: status.machine.power.rails_watts.clone(),
        is_under_voltage: status.machine.power.under_voltage,
        is_over_current: status.machine.power.over_current,
        clock_limit: status.machine.power.clock_limit,
        is_clock_synchronized: status.machine.clock_synchronized,
        hung: status.health.hung.len(),
    }
}
