//! A new configuration while the daemon runs: refused as a whole, or taken without a lost part.
//!
//! What is read is checked as at a start. Then the model is made ready for the new questions beside the
//! old ones; then the stations are rearranged: see `crew`. Parts in hand are finished under the configuration that they were
//! triggered under, and their records name it. The outbox is not touched, and no file is written.

mod changes;
mod crew;

use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use super::keeper::Call;
use super::plan;
use crate::config::{self, Settings, Signer};
use crate::inspector::Questions;
use crate::station::Station;
use crate::store::{EventKind, Store, events};
use crate::{service, telemetry};
use changes::Changes;
pub use crew::Crew;

/// Where a new configuration comes from, and who must be ready for it.
pub trait Renewal: Debug + Send + Sync {
    /// Reads it.
    ///
    /// # Errors
    /// Everything that is wrong with it, for people.
    fn read(&self) -> Result<(Settings, Vec<Station>), String>;

    /// Lets the model be ready for the questions of `stations`, those before included. Answers the memory that it is
    /// planned with then, in bytes, where that is known.
    ///
    /// # Errors
    /// Why it cannot be.
    fn prepare(
        &self,
        settings: &Settings,
        stations: &[Arc<Station>],
    ) -> Result<Option<u64>, String>;
}

/// The configuration's files, and the engine.
pub struct FromFiles {
    /// The main file.
    pub path: PathBuf,
    /// Who must have signed it; `None`: nobody need have.
    pub signer: Option<Signer>,
    /// The questions to the device's own model; `None`: it has none, and engines elsewhere prepare theirs when
    /// they are asked.
    pub questions: Option<Arc<Questions>>,
}

impl Debug for FromFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FromFiles({})", self.path.display())
    }
}

impl Renewal for FromFiles {
    fn read(&self) -> Result<(Settings, Vec<Station>), String> {
        match config::load_signed(&self.path, self.signer.as_ref()) {
            Ok(loaded) => Ok((loaded.settings, loaded.stations)),
            Err(problems) => Err(problems.render(false)),
        }
    }

    fn prepare(
        &self,
        settings: &Settings,
        stations: &[Arc<Station>],
    ) -> Result<Option<u64>, String> {
        let needing = |station: &&Arc<Station>| station.needs_model();
        let local: Vec<Arc<Station>> = stations.iter().filter(needing).cloned().collect();
        let Some(first) = local.first() else { return Ok(None) };
        let Some(questions) = &self.questions else {
            return Err(format!(
                "station \"{}\" asks the device's own model, which no station asked at the start; \
                 this takes a restart (`systemctl restart inspectd`), so nothing was changed",
                first.name
            ));
        };
        let plan = plan::admit(settings, &local).map_err(|why| why.to_string())?;
        questions.prepare(&local).map_err(|why| why.to_string())?;
        Ok(Some(plan.footprint.total_bytes()))
    }
}

/// What a reload did.
#[derive(Clone, Debug, Serialize)]
pub struct Reloaded {
    /// One line for each thing that is another now; none: nothing differed.
    pub changed: Vec<String>,
}

/// Takes new configurations, one at a time.
pub struct Reloader {
    renewal: Arc<dyn Renewal>,
    crew: Crew,
    keeper: flume::Sender<Call>,
    store: Store,
    current: Mutex<Current>,
    /// Memory that the model is planned with since the last reload; 0: as at the start.
    model_bytes: AtomicU64,
}

struct Current {
    settings: Settings,
    stations: Vec<Arc<Station>>,
    run: events::Run,
}

impl Reloader {
    /// Changes what runs as `settings`, `stations` and `run` say now.
    pub fn new(
        renewal: Arc<dyn Renewal>,
        crew: Crew,
        keeper: flume::Sender<Call>,
        store: Store,
        (settings, of_start, run): (Settings, Vec<Arc<Station>>, events::Run),
    ) -> Reloader {
        let current = Mutex::new(Current { settings, stations: of_start, run });
        Reloader { renewal, crew, keeper, store, current, model_bytes: AtomicU64::new(0) }
    }

    /// Memory that the model is planned with, in bytes, where a reload has changed it.
    pub fn model_bytes(&self) -> Option<u64> {
        Some(self.model_bytes.load(Ordering::Relaxed)).filter(|bytes| *bytes > 0)
    }

    /// Reads the configuration again and takes it.
    ///
    /// # Errors
    /// Why the old one goes on, for people.
    pub fn reload(&self) -> Result<Reloaded, String> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        service::reloading();
        service::status("Reading the configuration again.");
        let result = self.take(&mut current);
        match &result {
            Ok(Reloaded { changed }) => telemetry::reloaded(&changed.join("; ")),
            Err(why) => telemetry::reload_refused(why),
        }
        let status = if result.is_ok() {
            "Inspecting."
        } else {
            "Inspecting; a new configuration was refused."
        };
        service::status(status);
        service::ready();
        result
    }

    fn take(&self, current: &mut Current) -> Result<Reloaded, String> {
        let (settings, stations) = self.renewal.read()?;
        let stations: Vec<Arc<Station>> = stations.into_iter().map(Arc::new).collect();
        let old = (&current.settings, &current.stations[..]);
        let changes = changes::between(old, (&settings, &stations)).map_err(|what| {
            format!(
                "this takes a restart (`systemctl restart inspectd`), so nothing was changed:\n  {}",
                what.join("\n  ")
            )
        })?;
        if changes.is_empty() {
            return Ok(Reloaded { changed: Vec::new() });
        }
        let moved = settings.broker.as_ref().filter(|_| changes.broker);
        if let Some(broker) = moved {
            broker.check_files().map_err(|why| why.to_string())?;
        }
        if changes.concern_stations() {
            let model_bytes = self.renewal.prepare(&settings, &stations)?;
            self.crew.rearrange(&changes, &current.stations, (&settings, &stations))?;
            self.model_bytes.store(model_bytes.unwrap_or(0), Ordering::Relaxed);
        }
        if let Some(broker) = moved {
            self.crew.news.route(broker);
        }
        if changes.retention {
            // The keeper ends after the last line, so it hears this.
            let _ = self.keeper.send(Call::Rules(settings.store.retention));
        }
        if changes.log {
            telemetry::set_level(settings.log.level.as_str());
        }
        let digest = |station: &Arc<Station>| (station.name.clone(), station.config_digest.clone());
        current.run.stations = stations.iter().map(digest).collect();
        if let Err(why) = self.store.append_event(EventKind::Reload, &current.run) {
            // Each record names its configuration all the same.
            telemetry::event_not_recorded(&why.to_string());
        }
        (current.settings, current.stations) = (settings, stations);
        Ok(Reloaded { changed: told(&changes) })
    }
}

/// Reads the configuration again on each SIGHUP. Without a configuration that could be read again the
/// signal is nothing: it must not end a daemon.
pub async fn on_signal(reloader: Option<Arc<Reloader>>) {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut hangup) = signal(SignalKind::hangup()) else { return };
    while hangup.recv().await.is_some() {
        let Some(reloader) = reloader.clone() else { continue };
        // What came of it is in the log.
        let _ = tokio::task::spawn_blocking(move || reloader.reload().map(drop)).await;
    }
}

fn told(changes: &Changes) -> Vec<String> {
    let stations = changes
        .stations
        .iter()
        .chain(&changes.anew)
        .map(|(name, what)| format!("station \"{name}\": {}", what.join(", ")));
    let mut told: Vec<String> = stations.collect();
    told.extend(changes.come.iter().map(|name| format!("station \"{name}\": new")));
    told.extend(changes.gone.iter().map(|name| format!("station \"{name}\": gone")));
    told.extend(changes.engines.iter().map(|name| format!("engine \"{name}\"")));
    told.extend(changes.broker.then(|| "[broker]".to_owned()));
    told.extend(changes.retention.then(|| "[retention]".to_owned()));
    told.extend(changes.log.then(|| "[log] level".to_owned()));
    told
}
