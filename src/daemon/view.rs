//! What a station sees by: its camera, or footage in its place.

use std::sync::Arc;
use std::time::Duration;

use super::DaemonError;
use super::replay::{Playback, Played, Replay};
use crate::camera::{self, CameraHandle, Counts, Delivery};
use crate::clock::{Clock, Stamp};
use crate::station::Station;

/// What a station sees by.
pub enum View {
    /// Its camera.
    Camera(CameraHandle),
    /// What was recorded.
    Footage(Box<Replay>),
    /// Nothing, between one camera and the next.
    Nothing,
}

impl View {
    /// Opens the station's camera, or its footage where `from` names some.
    pub fn open(
        station: &Station,
        from: Option<&Playback>,
        clock: &Arc<dyn Clock>,
    ) -> Result<View, DaemonError> {
        let (name, clock) = (&station.name, Arc::clone(clock));
        let footage = from.and_then(|from| Some((from.folders.get(name)?, from.realtime)));
        if let Some((dir, realtime)) = footage {
            let replay = Replay::open(dir, name, clock, realtime)?;
            return Ok(View::Footage(Box::new(replay)));
        }
        let camera = camera::open(name, &station.camera, clock)
            .map_err(|source| DaemonError::Camera { station: name.clone(), source })?;
        Ok(View::Camera(camera))
    }

    /// The next thing to know; waits for `timeout` at most.
    pub fn next(&mut self, timeout: Duration) -> Played {
        match self {
            View::Camera(camera) => Played::Delivery(camera.next(timeout)),
            View::Footage(replay) => replay.next(timeout),
            View::Nothing => Played::Delivery(Delivery::Ended),
        }
    }

    /// Whether it is what was recorded.
    pub fn is_footage(&self) -> bool {
        matches!(self, View::Footage(_))
    }

    /// Whether time, as triggers see it, is what footage says, and not the clock.
    pub fn sets_time(&self) -> bool {
        matches!(self, View::Footage(replay) if replay.sets_time())
    }

    /// The time, as triggers are to see it.
    pub fn now(&self, clock: &Arc<dyn Clock>) -> Stamp {
        match self {
            View::Camera(_) | View::Nothing => clock.now(),
            View::Footage(replay) => replay.now(),
        }
    }

    /// What came so far.
    pub fn counts(&self) -> Counts {
        match self {
            View::Camera(camera) => camera.counts(),
            View::Footage(replay) => replay.counts(),
            View::Nothing => Counts::none(),
        }
    }

    /// Nothing is to come any more.
    pub fn stop(&self) {
        if let View::Camera(camera) = self {
            camera.stop();
        }
    }
}
