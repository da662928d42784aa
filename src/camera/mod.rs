//! Cameras: one source of pictures each, and the newest picture waits in a slot of one.
//!
//! ```text
//! GStreamer thread ─copy→ slot (newest frame, loss) ←next()─ the station's thread
//! supervisor thread: build, play, watch the bus; after an error rebuild from nothing with back-off
//! ```
//!
//! A camera that is lost, one that has nothing to show and one that came to its end are three
//! things, told apart by [`Delivery`]: a line that stands still is no fault.
//!
//! * `slot`: what waits between the camera and the station;
//! * `spelling`: the text of each source's pipeline, `pipeline`: the pipeline from it, `gst`: its
//!   supervisor (feature `gst`), `elements`: which Debian package brings what;
//! * `controls`: exposure, gain, trigger, and whether the camera does what it was told, `v4l2` and
//!   `genicam`: how two kinds of camera are asked;
//! * `folder`: pictures in a folder, in the order of their names.

#[cfg_attr(not(feature = "gst"), allow(dead_code))]
mod controls;
mod credentials;
#[cfg(feature = "gst")]
pub(crate) mod elements;
mod error;
mod explain;
mod folder;
#[cfg(feature = "gst")]
mod frozen;
#[cfg(feature = "gst")]
mod genicam;
#[cfg(feature = "gst")]
mod gst;
#[cfg(not(feature = "gst"))]
#[path = "gst_absent.rs"]
mod gst;
#[cfg(feature = "gst")]
pub mod list;
mod options;
#[cfg(feature = "gst")]
mod pipeline;
mod slot;
#[cfg_attr(not(feature = "gst"), allow(dead_code))]
mod spelling;
#[cfg(feature = "gst")]
mod torn;
#[cfg(feature = "gst")]
mod v4l2;

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::frame::Frame;
pub use controls::{Controls, HardwareTrigger, Setting};
pub use error::CameraError;
pub use explain::{Explained, explain};
pub use options::{
    Credentials, Options, Pixels, Reconnect, RtspOptions, Source, Transport, file_uri,
};
pub use slot::Counts;
use slot::Slot;

/// How long [`CameraHandle::stop`] waits for the camera's thread. A driver that hangs on closing
/// must not hang the station with it.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// What a camera has to tell. Things are told in the order in which they happened.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// The newest frame.
    Frame(Arc<Frame>),
    /// Nothing within the time: no fault.
    NoFrame,
    /// The camera is lost; told once, and no frame comes before [`Delivery::Back`]. Of a folder:
    /// one picture could not be read and is passed over.
    Lost {
        /// In which way.
        kind: LossKind,
        /// What happened, and to what.
        reason: String,
    },
    /// The camera is back; a frame follows.
    Back,
    /// No frame will come any more; told as often as asked.
    Ended,
}

/// In which way a camera was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossKind {
    /// It, or the way to it, reported an error.
    Failed,
    /// It ended its stream.
    Ended,
    /// It is there and sends nothing.
    Stalled,
    /// It sends, and nothing of it is whole.
    Garbled,
    /// It sends the same picture again and again.
    Frozen,
    /// It does not do what it was told.
    Disobedient,
}

impl LossKind {
    /// All of them.
    pub const ALL: [LossKind; 6] = [
        LossKind::Failed,
        LossKind::Ended,
        LossKind::Stalled,
        LossKind::Garbled,
        LossKind::Frozen,
        LossKind::Disobedient,
    ];

    /// The kind of this name.
    pub fn of(name: &str) -> Option<LossKind> {
        LossKind::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Its name in logs and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            LossKind::Failed => "failed",
            LossKind::Ended => "ended",
            LossKind::Stalled => "stalled",
            LossKind::Garbled => "garbled",
            LossKind::Frozen => "frozen",
            LossKind::Disobedient => "disobedient",
        }
    }
}

/// Refuses what [`open`] would refuse, without starting anything.
pub fn check(name: &str, options: &Options) -> Result<(), CameraError> {
    check_options(name, options)?;
    match &options.source {
        Source::Folder { path, .. } => folder::list(name, path).map(drop),
        _ => gst::check(name, options),
    }
}

/// Opens a camera and starts it. `name` is that of its station.
///
/// What cannot work at all is an error here: an absent file, device, folder or element, a
/// pipeline that does not parse. What may come later, as a network camera that is still
/// starting, is [`Delivery::Lost`] and is tried again.
pub fn open(
    name: &str,
    options: &Options,
    clock: Arc<dyn Clock>,
) -> Result<CameraHandle, CameraError> {
    check_options(name, options)?;
    let slot = Slot::new(name, clock);
    match &options.source {
        Source::Folder { path, interval } => {
            folder::start(name, folder::list(name, path)?, *interval, &slot)?;
        }
        _ => gst::start(name, options, &slot)?,
    }
    Ok(CameraHandle { name: name.to_owned(), slot })
}

fn check_options(name: &str, options: &Options) -> Result<(), CameraError> {
    let wishes = [options.width_px, options.height_px, options.frames_per_s];
    let refuse = |why: &'static str| Err(CameraError::Option { camera: name.to_owned(), why });
    if wishes.contains(&Some(0)) {
        return refuse("width_px, height_px and frames_per_s must be above 0");
    }
    if wishes != [None; 3] && !options.source.is_attached() {
        return refuse(
            "width_px, height_px and frames_per_s are asked of a camera at this machine only; \
             another source brings its own, so remove them or scale within a pipeline",
        );
    }
    if let Some(why) = options.controls_refused() {
        return refuse(why);
    }
    if options.rtsp.credentials.is_some() && !options.source.is_network() {
        return refuse("a user name and a password are for rtsp:// addresses: remove them");
    }
    Ok(())
}

/// An open camera. Dropping it stops it.
pub struct CameraHandle {
    name: String,
    slot: Arc<Slot>,
}

impl CameraHandle {
    /// The next thing the camera has to tell; waits for `timeout` at most.
    pub fn next(&self, timeout: Duration) -> Delivery {
        self.slot.next(timeout)
    }

    /// What it has brought since it was opened.
    pub fn counts(&self) -> Counts {
        self.slot.counts()
    }

    /// Stops the camera; [`Delivery::Ended`] from now on. In any state, any number of times.
    pub fn stop(&self) {
        self.slot.stop();
        if !self.slot.wait_finished(STOP_LIMIT) {
            let waited_s = STOP_LIMIT.as_secs();
            tracing::error!(camera = self.name, waited_s, "camera does not close; left behind");
        }
    }
}

/// Prints the name: what waits in the slot changes while it is printed.
impl std::fmt::Debug for CameraHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CameraHandle({})", self.name)
    }
}

impl Drop for CameraHandle {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_for_devices() {
        let folder = Source::Folder { path: "/nowhere".into(), interval: None };
        let options = Options { width_px: Some(640), ..Options::new(folder) };
        let refused = check("press", &options).expect_err("not a device").to_string();
        assert!(refused.contains("press") && refused.contains("at this machine only"), "{refused}");
    }
}
