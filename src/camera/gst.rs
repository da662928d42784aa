//! The supervisor of one camera's pipeline.
//!
//! One thread a camera builds the pipeline, plays it and reads its bus. After an error nothing of
//! it is used again: the pipeline goes to NULL, is dropped, and a new one is built. Elements that
//! went through an error do not all come back, and what was rebuilt from nothing cannot be half
//! broken.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::{AppSink, AppSinkCallbacks, AppSrc};

use super::controls;
use super::frozen::Freshness;
use super::genicam::Feeder;
use super::pipeline::{self, Taken};
use super::slot::Slot;
use super::{CameraError, LossKind, Options, Source, elements, torn, v4l2};

/// How often the supervisor looks up from the bus: for a stop, and for a camera that fell silent.
const LOOK_UP: gst::ClockTime = gst::ClockTime::from_mseconds(50);

/// How one run of a pipeline ended.
enum End {
    Stopped,
    Exhausted,
    Lost(LossKind, String),
}

impl End {
    fn failed(reason: impl Into<String>) -> End {
        End::Lost(LossKind::Failed, reason.into())
    }
}

/// Builds the pipeline once and drops it again.
pub(super) fn check(camera: &str, options: &Options) -> Result<(), CameraError> {
    gst::init().map_err(|error| CameraError::Start {
        camera: camera.to_owned(),
        what: "GStreamer",
        why: error.to_string(),
    })?;
    static QUIET: Once = Once::new();
    QUIET.call_once(log_with_us);
    pipeline::build(camera, options).map(drop)
}

/// What the libraries below GStreamer print goes into our log: a terminal and a journal take no two.
fn log_with_us() {
    gst::glib::log_set_default_handler(|domain, level, text| {
        let library = domain.unwrap_or("glib");
        match level {
            gst::glib::LogLevel::Error | gst::glib::LogLevel::Critical => {
                tracing::warn!(library, text, "a library complains");
            }
            _ => tracing::debug!(library, text, "a library says"),
        }
    });
}

/// Starts the supervisor.
pub(super) fn start(camera: &str, options: &Options, slot: &Arc<Slot>) -> Result<(), CameraError> {
    check(camera, options)?;
    let (name, options, slot) = (camera.to_owned(), options.clone(), Arc::clone(slot));
    std::thread::Builder::new()
        .name(format!("camera {camera}"))
        .spawn(move || {
            supervise(&name, &options, &slot);
            slot.finish();
        })
        .map(drop)
        .map_err(|error| CameraError::Start {
            camera: camera.to_owned(),
            what: "the camera's thread",
            why: error.to_string(),
        })
}

fn supervise(camera: &str, options: &Options, slot: &Arc<Slot>) {
    let mut attempt = 0;
    let freshness = options.frozen_limit.map(|limit| Arc::new(Mutex::new(Freshness::new(limit))));
    loop {
        let (before, is_live) = (slot.whole(), AtomicBool::new(is_live(&options.source)));
        let is_live = Arc::new(is_live);
        let end = run(camera, options, slot, &is_live, freshness.as_ref());
        let comes_back = is_live.load(Ordering::Relaxed);
        match end {
            End::Stopped => return,
            End::Exhausted if !comes_back => return,
            End::Exhausted => slot.lose(LossKind::Ended, "the camera ended its stream".to_owned()),
            End::Lost(kind, reason) => slot.lose(kind, reason),
        }
        if !comes_back {
            return;
        }
        if slot.whole() > before {
            attempt = 0;
        }
        if slot.pause(options.reconnect.wait(attempt)) {
            return;
        }
        attempt = attempt.saturating_add(1);
    }
}

/// Whether the source is known to be a camera before it plays. Of a text pipeline it is known only
/// then, and one that fails to start is taken for a camera: it may be plugged in later.
fn is_live(source: &Source) -> bool {
    match source {
        Source::Pipeline(_) => true,
        other => other.is_attached() || other.is_network(),
    }
}

/// How long a pipeline may take to close before it is left behind.
const CLOSE_LIMIT: Duration = Duration::from_secs(3);

/// A pipeline that is closed when it is dropped, whatever happens.
///
/// Closing is done by a thread of its own: GStreamer 1.22 was seen to lock itself up for ever while
/// an RTSP source whose server has gone is set to NULL (its jitter buffer and its task wait for each
/// other). Such a pipeline is left behind, with its memory, so that the camera can be opened anew.
struct Playing(gst::Pipeline);

impl Drop for Playing {
    fn drop(&mut self) {
        let pipeline = self.0.clone();
        let (done, closed) = mpsc::channel();
        let close = move || {
            if let Err(error) = pipeline.set_state(gst::State::Null) {
                tracing::warn!(%error, "a pipeline does not close");
            }
            if let Some(bus) = pipeline.bus() {
                bus.set_flushing(true);
            }
            // Nobody listens any more if it took too long.
            let _ = done.send(());
        };
        let closing = std::thread::Builder::new().name("camera closing".to_owned()).spawn(close);
        if closing.is_err() || closed.recv_timeout(CLOSE_LIMIT).is_err() {
            tracing::error!("a pipeline did not close in time and is left behind");
        }
    }
}

/// Builds and plays one pipeline until it ends, fails or is stopped. `is_live` is corrected as soon
/// as the pipeline itself says what it is.
fn run(
    camera: &str,
    options: &Options,
    slot: &Arc<Slot>,
    is_live: &Arc<AtomicBool>,
    freshness: Option<&Arc<Mutex<Freshness>>>,
) -> End {
    let built = match pipeline::build(camera, options) {
        Ok(built) => built,
        Err(error) => return End::failed(error.to_string()),
    };
    let Some(bus) = built.pipeline.bus() else {
        return End::failed("a pipeline without a bus");
    };
    let playing = Playing(built.pipeline);
    if let Err(reason) = set_controls(options) {
        return End::Lost(LossKind::Disobedient, reason);
    }
    let is_text = matches!(options.source, Source::Pipeline(_));
    let waits = Arc::new(AtomicBool::new(!options.realtime && (is_text || !is_live_now(is_live))));
    torn::watch(&playing.0, slot);
    connect(&built.sink, slot, &waits, freshness.cloned());
    built.sink.set_sync(options.realtime && (is_text || !is_live_now(is_live)));
    match playing.0.set_state(gst::State::Paused) {
        Err(_) => return End::failed(start_failure(&bus)),
        // A live source brings nothing before it plays, so nothing has passed the sink yet.
        Ok(gst::StateChangeSuccess::NoPreroll) => {
            is_live.store(true, Ordering::Relaxed);
            waits.store(false, Ordering::Relaxed);
            built.sink.set_sync(false);
        }
        Ok(_) if is_text => is_live.store(false, Ordering::Relaxed),
        Ok(_) => {}
    }
    if playing.0.set_state(gst::State::Playing).is_err() {
        return End::failed(start_failure(&bus));
    }
    let fed = match feed(options, built.source, slot) {
        Ok(fed) => fed,
        Err((kind, reason)) => return End::Lost(kind, reason),
    };
    let end = match check_controls(options, fed.as_ref()) {
        Ok(()) => watch(&playing.0, &bus, options, slot, freshness),
        Err(reason) => End::Lost(LossKind::Disobedient, reason),
    };
    // Before the pipeline that it feeds is closed.
    drop(fed);
    if let End::Lost(kind, reason) = &end {
        // Closing a pipeline can take as long as a dead camera is silent: the loss is told first.
        slot.lose(*kind, reason.clone());
    }
    end
}

fn is_live_now(is_live: &AtomicBool) -> bool {
    is_live.load(Ordering::Relaxed)
}

/// Sets what no property of an element sets.
fn set_controls(options: &Options) -> Result<(), String> {
    let Source::Device(path) = &options.source else { return Ok(()) };
    if options.controls.is_empty() {
        return Ok(());
    }
    let device = v4l2::open(path).map_err(|why| why.to_string())?;
    v4l2::apply(&device, &options.controls)
}

/// Starts a camera that is not an element.
fn feed(
    options: &Options,
    source: Option<gst::Element>,
    slot: &Arc<Slot>,
) -> Result<Option<Feeder>, (LossKind, String)> {
    match (&options.source, source.and_then(|source| source.downcast::<AppSrc>().ok())) {
        (Source::Genicam { .. }, Some(source)) => Feeder::start(options, source, slot).map(Some),
        _ => Ok(None),
    }
}

/// Whether a camera that plays does what it was told, where it can be asked.
fn check_controls(options: &Options, fed: Option<&Feeder>) -> Result<(), String> {
    if options.controls.is_empty() {
        return Ok(());
    }
    let difference = match (&options.source, fed) {
        (Source::Device(path), _) => {
            let device = v4l2::open(path).map_err(|why| why.to_string())?;
            controls::difference(&v4l2::read_back(&device, &options.controls))
        }
        (_, Some(fed)) => controls::difference(fed.read_back()),
        _ => None,
    };
    difference.map_or(Ok(()), Err)
}

/// Carries each frame from the sink into the slot. `waits`: the pipeline waits until the last
/// frame was taken.
fn connect(
    sink: &AppSink,
    slot: &Arc<Slot>,
    waits: &Arc<AtomicBool>,
    freshness: Option<Arc<Mutex<Freshness>>>,
) {
    sink.set_max_buffers(1);
    sink.set_drop(!waits.load(Ordering::Relaxed));
    let (slot, waits) = (Arc::clone(slot), Arc::clone(waits));
    let carry = move |sink: &AppSink| {
        let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
        let picture = match pipeline::take(&sample) {
            Taken::Whole(picture) => picture,
            Taken::Damaged => {
                slot.spoil();
                return Ok(gst::FlowSuccess::Ok);
            }
            Taken::Partial => {
                slot.spoil_partial();
                return Ok(gst::FlowSuccess::Ok);
            }
            Taken::Unusable(why) => {
                gst::element_error!(sink, gst::StreamError::Format, ("{why}"));
                return Err(gst::FlowError::Error);
            }
        };
        if let Some(freshness) = &freshness
            && lock(freshness).look(&picture, Instant::now())
        {
            return Ok(gst::FlowSuccess::Ok);
        }
        let at = pipeline::running_ns(&sample);
        if !waits.load(Ordering::Relaxed) {
            slot.put(picture, at);
        } else if !slot.put_when_free(picture, at) {
            return Err(gst::FlowError::Flushing);
        }
        Ok(gst::FlowSuccess::Ok)
    };
    sink.set_callbacks(AppSinkCallbacks::builder().new_sample(carry).build());
}

/// A panic while it was held leaves nothing half-written.
fn lock(freshness: &Mutex<Freshness>) -> std::sync::MutexGuard<'_, Freshness> {
    freshness.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads the bus until the pipeline ends, fails, falls silent or is to stop.
fn watch(
    pipeline: &gst::Pipeline,
    bus: &gst::Bus,
    options: &Options,
    slot: &Slot,
    freshness: Option<&Arc<Mutex<Freshness>>>,
) -> End {
    let mut missing = None;
    let mut silence = Silence::new(slot, false);
    loop {
        if slot.is_stopped() {
            return End::Stopped;
        }
        if let Some((kind, reason)) = silence.look(slot, options, freshness) {
            return End::Lost(kind, reason);
        }
        let Some(message) = bus.timed_pop(LOOK_UP) else { continue };
        match message.view() {
            gst::MessageView::Eos(_) => return End::Exhausted,
            gst::MessageView::Error(error) => {
                let reason = reason(error);
                return End::failed(match missing {
                    Some(advice) => format!("{reason}; {advice}"),
                    None => reason,
                });
            }
            gst::MessageView::Element(element) => {
                if let Some(advice) = element.structure().and_then(missing_plugin) {
                    missing = Some(advice);
                }
            }
            gst::MessageView::Latency(_) => {
                if let Err(error) = pipeline.recalculate_latency() {
                    tracing::debug!(%error, "latency stays as it is");
                }
            }
            _ => {}
        }
    }
}

/// A camera may take so long for its first frame, however short its silence may be later.
const START_LIMIT: Duration = Duration::from_secs(10);

/// How long no good frame has come, and what came in its place.
struct Silence {
    since: Instant,
    whole: u64,
    brought: u64,
    /// A good frame has come since the pipeline plays.
    has_begun: bool,
}

impl Silence {
    fn new(slot: &Slot, has_begun: bool) -> Silence {
        let (whole, brought) = (slot.whole(), slot.counts().brought);
        Silence { since: Instant::now(), whole, brought, has_begun }
    }

    fn look(
        &mut self,
        slot: &Slot,
        options: &Options,
        freshness: Option<&Arc<Mutex<Freshness>>>,
    ) -> Option<(LossKind, String)> {
        if let Some(repeated) = freshness.and_then(|freshness| lock(freshness).frozen()) {
            let seconds = repeated.as_secs_f64();
            return Some((LossKind::Frozen, format!("the same picture for {seconds:.1} s")));
        }
        if slot.whole() != self.whole {
            *self = Silence::new(slot, true);
            return None;
        }
        let limit = options.silence_limit?;
        let limit = if self.has_begun { limit } else { limit.max(START_LIMIT) };
        if self.since.elapsed() < limit {
            return None;
        }
        let seconds = self.since.elapsed().as_secs_f64();
        Some(match slot.counts().brought - self.brought {
            0 => (LossKind::Stalled, format!("no frame for {seconds:.1} s")),
            torn => {
                let said =
                    format!("no whole frame for {seconds:.1} s: {torn} came torn or damaged");
                (LossKind::Garbled, said)
            }
        })
    }
}

/// Why a pipeline did not start, in the words of the element that refused.
fn start_failure(bus: &gst::Bus) -> String {
    let wait = gst::ClockTime::from_mseconds(500);
    let message = bus.timed_pop_filtered(wait, &[gst::MessageType::Error]);
    match message.as_ref().map(|message| message.view()) {
        Some(gst::MessageView::Error(error)) => reason(error),
        _ => "the pipeline does not start and does not say why".to_owned(),
    }
}

/// An error in one line: which element, what it says, and its detail without the source position
/// that GStreamer puts first.
fn reason(error: &gst::message::Error) -> String {
    let element = error.src().map(|source| source.name().to_string()).unwrap_or_default();
    let said = error.error().message().to_owned();
    let debug = error.debug().unwrap_or_default();
    let detail: Vec<&str> = debug.lines().skip(1).map(str::trim).collect();
    let detail = detail.join(" ");
    if detail.is_empty() {
        format!("{element}: {said}")
    } else {
        format!("{element}: {said} ({detail})")
    }
}

fn missing_plugin(structure: &gst::StructureRef) -> Option<String> {
    if structure.name() != "missing-plugin" {
        return None;
    }
    let stream = structure.get::<String>("name").unwrap_or_else(|_| "this stream".to_owned());
    Some(elements::decoder_advice(&stream))
}
