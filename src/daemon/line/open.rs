//! A line before it runs.

use std::sync::Arc;

use super::way::Way;
use super::{Admission, CameraWatch, Line, View};
use crate::daemon::DaemonError;
use crate::daemon::desk::Desk;
use crate::daemon::engines::Ways;
use crate::daemon::eye::EyeWatch;
use crate::daemon::floor::Floor;
use crate::footage::Clips;
use crate::trigger::{self, Focus, Orders, Trigger};

impl Line {
    /// Opens the camera of the desk's station, and its photo eye. Its parts go one of these `ways`.
    pub fn open(
        desk: &Arc<Desk>,
        clips: Option<Arc<Clips>>,
        (floor, ways): (&Floor, &Ways),
    ) -> Result<Line, DaemonError> {
        let Floor { clock, chips, options: wishes, .. } = floor;
        let station = desk.first();
        let trigger = Trigger::new(&station.trigger).map_err(|error| {
            DaemonError::Other(format!("station \"{}\": {error}", station.name))
        })?;
        let orders = match &station.trigger {
            trigger::Options::Command(options) => {
                Some(Orders::new(*options, Focus::around(&station.regions)))
            }
            _ => None,
        };
        let view = View::open(&station, wishes.from.as_ref(), clock)?;
        let (eye, eye_reader) = match &station.trigger {
            trigger::Options::PhotoEye(options) if view.is_footage() => {
                (Some(EyeWatch::of_footage(desk, options)), None)
            }
            trigger::Options::PhotoEye(options) => EyeWatch::open(desk, options, chips)
                .map_err(|why| no_eye(&station.name, &why))
                .map(|(eye, reader)| (Some(eye), Some(reader)))?,
            _ => (None, None),
        };
        let film = match &wishes.record {
            None => None,
            Some(record) => Some(record.begin(&station, floor.clerk.device())?),
        };
        let way = Way::new(ways.of(&station));
        let watch = CameraWatch::new(&station.name, clock.now());
        // A source that does not run in real time can wait; only a line cannot.
        let patient = !station.camera.realtime;
        let (changer, changes) = flume::bounded(1);
        let admission = Admission::new(station.inspect_every, station.queue_parts, patient);
        Ok(Line {
            admission,
            changes,
            changer,
            pulse: floor.vitals.pulse(format!("station {}", station.name)),
            station,
            clock: Arc::clone(clock),
            view,
            film,
            clips,
            trigger,
            orders,
            eye,
            eye_reader,
            clerk: floor.clerk.clone(),
            waiting: Arc::default(),
            way,
            watch,
            is_blind: false,
            unrecorded_loss: None,
            desk: Arc::clone(desk),
            stop: Arc::clone(&floor.stop),
            leaves: false,
        })
    }
}

fn no_eye(station: &str, why: &str) -> DaemonError {
    let remedy = "correct `chip` and the lines in [trigger] (`gpioinfo` lists chips and lines), or let the \
                  user of the service open the chip";
    DaemonError::Output(format!("station \"{station}\": photo eye: {why}; {remedy}"))
}
