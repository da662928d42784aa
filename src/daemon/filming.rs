//! Footage that is kept while stations run: of all that they see, and of the seconds around each fail.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::DaemonError;
use crate::footage::clips::{self, Told, Workshop};
use crate::footage::{Bounds, Clips, Film, FilmOptions, Quality, Subject};
use crate::station::Station;
use crate::store::{ReserveState, Store};
use crate::telemetry;

/// Where footage of a run goes: a folder for each station in it, and one more, `NAME-2` and so on, each time that a
/// reload sets the station up anew.
#[derive(Clone, Debug)]
pub struct Recording {
    /// The folder.
    pub dir: PathBuf,
    /// How pictures are kept.
    pub quality: Quality,
    /// How much may be written for each station.
    pub bounds: Bounds,
    /// How often footage of each station was begun.
    begun: Arc<Mutex<BTreeMap<String, u32>>>,
}

impl Recording {
    /// Footage in `dir`; nothing is begun yet.
    pub fn new(dir: PathBuf, quality: Quality, bounds: Bounds) -> Recording {
        Recording { dir, quality, bounds, begun: Arc::default() }
    }

    /// Begins the footage of `station`.
    ///
    /// # Errors
    /// A folder that cannot be used or holds footage, an element that is missing.
    pub fn begin(&self, station: &Station, device: &str) -> Result<Film, DaemonError> {
        let patient = !station.camera.realtime;
        let options = FilmOptions { quality: self.quality, bounds: self.bounds, patient };
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        let times = begun.entry(station.name.clone()).or_default();
        let mut dir = self.dir.join(&station.name);
        // Another station may be called so.
        while *times > 0 && dir.exists() {
            *times += 1;
            dir = self.dir.join(format!("{}-{times}", station.name));
        }
        let film = Film::begin(&dir, subject(station, device), options)
            .map_err(|why| DaemonError::Other(why.to_string()))?;
        *times = (*times).max(1);
        Ok(film)
    }
}

/// Begins to keep the last seconds of `station`, if it wants that.
pub fn begin_clips(
    station: &Station,
    device: &str,
    store: &Store,
) -> Result<Option<Arc<Clips>>, DaemonError> {
    let Some(options) = station.clips.clone() else { return Ok(None) };
    let (name, reserve) = (station.name.clone(), store.clone());
    let workshop = Workshop {
        subject: subject(station, device),
        dir: clips::folder(store.evidence_dir(), &station.name),
        latest: station.deadline,
        clock: store.clock(),
        has_room: Box::new(move || reserve.reserve() == ReserveState::Whole),
        tell: Box::new(move |told| match told {
            Told::Written { path, frames } => {
                telemetry::clip_written(&name, &path.display().to_string(), frames);
            }
            Told::Failed(why) => telemetry::clip_failed(&name, &why),
        }),
    };
    let begun = Clips::begin(options, workshop).map_err(|why| {
        DaemonError::Other(format!("station \"{}\": [footage]: {why}", station.name))
    })?;
    Ok(Some(Arc::new(begun)))
}

/// Whose footage it is.
fn subject(station: &Station, device: &str) -> Subject {
    Subject {
        device: device.to_owned(),
        station: station.name.clone(),
        config_sha256: station.config_digest.clone(),
    }
}
