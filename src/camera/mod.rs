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
//! * `gst`: the supervisor of one GStreamer pipeline (feature `gst`), `pipeline`: how each source
//!   is spelled in GStreamer, `elements`: which Debian package brings what;
//! * `folder`: pictures in a folder, in the order of their names.

#[cfg(feature = "gst")]
mod elements;
mod error;
mod folder;
#[cfg(feature = "gst")]
mod gst;
#[cfg(not(feature = "gst"))]
#[path = "gst_absent.rs"]
mod gst;
#[cfg(feature = "gst")]
mod pipeline;
mod slot;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::frame::Frame;
pub use error::CameraError;
use slot::Slot;

/// How long [`CameraHandle::stop`] waits for the camera's thread. A driver that hangs on closing
/// must not hang the station with it.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// What a camera is opened with.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Where the pictures come from.
    pub source: Source,
    /// Pixels across asked of a [`Source::Device`]; refused for other sources, which bring their own.
    pub width_px: Option<u32>,
    /// Pixels down asked of a [`Source::Device`].
    pub height_px: Option<u32>,
    /// Frames a second asked of a [`Source::Device`].
    pub frames_per_s: Option<u32>,
    /// True (the default): footage plays at its own pace and a slow reader misses frames, as at
    /// the line. False: every frame once, as fast as the reader takes them, for evaluation and
    /// tests; then `captured` is the time of reading, not of the footage. A live source is always
    /// in real time.
    pub realtime: bool,
    /// Whether footage or a folder that has ended is to be opened again from its beginning, for
    /// demonstrations. [`open`] itself plays once; whoever reads the camera opens it again.
    pub repeat: bool,
    /// For `rtsp://` sources.
    pub rtsp: RtspOptions,
    /// How a lost camera is sought again.
    pub reconnect: Reconnect,
    /// A camera that brings no frame for so long is lost and is opened again. Too short takes a
    /// slow start for a loss; `None` never, which a camera with a hardware trigger needs.
    pub silence_limit: Option<Duration>,
}

impl Options {
    /// The defaults for `source`: real time, no wishes, TCP with 200 ms of jitter buffer, back-off
    /// from 250 ms to 10 s, and a silence limit of 10 s for network cameras and devices.
    pub fn new(source: Source) -> Options {
        let is_free_running = match &source {
            Source::Uri(uri) => !uri.starts_with("file:"),
            Source::Device(_) => true,
            Source::Pipeline(_) | Source::Folder { .. } => false,
        };
        Options {
            source,
            width_px: None,
            height_px: None,
            frames_per_s: None,
            realtime: true,
            repeat: false,
            rtsp: RtspOptions::default(),
            reconnect: Reconnect::default(),
            silence_limit: is_free_running.then_some(Duration::from_secs(10)),
        }
    }
}

/// Where pictures come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// `file:///absolute/path` of footage, or `rtsp://` (`rtsps://`) of a network camera.
    Uri(String),
    /// A camera that the kernel drives, such as `/dev/video0`.
    Device(PathBuf),
    /// A pipeline as `gst-launch-1.0` takes it, up to raw video; what follows is ours: conversion
    /// to RGB and the sink.
    Pipeline(String),
    /// Pictures (png, jpg, jpeg, bmp) in the order of their names, read once.
    Folder {
        /// The folder.
        path: PathBuf,
        /// From one picture to the next; `None`: as fast as they are taken, and none is missed.
        interval: Option<Duration>,
    },
}

/// How a network camera is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RtspOptions {
    /// Jitter buffer in milliseconds: the least delay of a picture. Too small loses packets on a
    /// busy network.
    pub latency_ms: u32,
    /// How the pictures travel.
    pub transport: Transport,
}

impl Default for RtspOptions {
    fn default() -> RtspOptions {
        RtspOptions { latency_ms: 200, transport: Transport::Tcp }
    }
}

/// How RTSP pictures travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Within the RTSP connection: no packet is lost, and a firewall lets it through.
    Tcp,
    /// By datagrams: less delay, and a torn picture where one is lost.
    Udp,
    /// Datagrams, then TCP if none arrives.
    Any,
}

/// Waiting times between two attempts to open a lost camera; each is twice the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reconnect {
    /// Before the first attempt, and again after a frame has come.
    pub first: Duration,
    /// The longest.
    pub ceiling: Duration,
}

impl Default for Reconnect {
    fn default() -> Reconnect {
        Reconnect { first: Duration::from_millis(250), ceiling: Duration::from_secs(10) }
    }
}

impl Reconnect {
    /// The wait before attempt `attempt`, counted from 0 since the last frame.
    #[cfg_attr(not(feature = "gst"), allow(dead_code))]
    fn wait(&self, attempt: u32) -> Duration {
        self.first.saturating_mul(1 << attempt.min(20)).min(self.ceiling)
    }
}

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
        /// What happened, and to what.
        reason: String,
    },
    /// The camera is back; a frame follows.
    Back,
    /// No frame will come any more; told as often as asked.
    Ended,
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
    if wishes != [None; 3] && !matches!(options.source, Source::Device(_)) {
        return refuse(
            "width_px, height_px and frames_per_s are asked of a device only; another source \
             brings its own, so remove them or scale within a pipeline",
        );
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

    /// Frames that [`CameraHandle::next`] handed out.
    pub fn delivered(&self) -> u64 {
        self.slot.delivered()
    }

    /// Frames that were replaced in the slot before anyone looked.
    pub fn dropped(&self) -> u64 {
        self.slot.dropped()
    }

    /// Frames that the decoder marked as damaged; they are not handed out.
    pub fn damaged(&self) -> u64 {
        self.slot.damaged()
    }

    /// How often the camera was lost.
    pub fn losses(&self) -> u64 {
        self.slot.losses()
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
    fn the_wait_doubles_up_to_its_ceiling() {
        let reconnect = Reconnect::default();
        let ms = |attempt| reconnect.wait(attempt).as_millis();
        assert_eq!((ms(0), ms(1), ms(5), ms(6), ms(u32::MAX)), (250, 500, 8_000, 10_000, 10_000));
    }

    #[test]
    fn wishes_are_for_devices() {
        let folder = Source::Folder { path: "/nowhere".into(), interval: None };
        let options = Options { width_px: Some(640), ..Options::new(folder) };
        let refused = check("press", &options).expect_err("not a device").to_string();
        assert!(refused.contains("press") && refused.contains("device only"), "{refused}");
    }
}
