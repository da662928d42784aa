//! Carries a GenICam camera's pictures into a pipeline.

use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use gstreamer as gst;
use gstreamer::glib;
use gstreamer::glib::object::ObjectExt;
use gstreamer::glib::translate::FromGlibPtrFull;
use gstreamer_app::AppSrc;

use super::library::asking;
use super::{Camera, Options, Pixels, ReadBack, Source};
use crate::camera::LossKind;
use crate::camera::slot::Slot;

/// Pictures that the camera may be ahead of us.
const BUFFERS: usize = 6;

/// How long one wait for a picture is: after it a stop is looked for, µs. None is no fault: a line may
/// stand.
const LOOK_UP_US: u64 = 50_000;

/// `ARV_BUFFER_STATUS_SUCCESS`.
const WHOLE: i32 = 0;

/// A picture may have this many bytes; what a camera says of itself is not believed beyond it.
const PICTURE_MAX_BYTES: usize = 1 << 30;

/// A camera that sends. Dropping it stops it.
pub(in crate::camera) struct Feeder {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    read: Vec<ReadBack>,
}

impl Feeder {
    /// Opens the camera, sets it up, starts it, and feeds `source` from a thread of its own. Pictures
    /// with missing packets go to `slot` as partial ones.
    pub(in crate::camera) fn start(
        options: &Options,
        source: AppSrc,
        slot: &Arc<Slot>,
    ) -> Result<Feeder, (LossKind, String)> {
        let failed = |why: String| (LossKind::Failed, why);
        let Source::Genicam { name, pixels } = &options.source else {
            return Err(failed("it is no GenICam camera".to_owned()));
        };
        let camera = Camera::open(name.as_deref()).map_err(failed)?;
        camera.set_up(options).map_err(|why| {
            let text = format!("the camera does not take what it is told: {why}; correct [camera]");
            (LossKind::Disobedient, text)
        })?;
        let read = camera.read_back(&options.controls);
        let stream = Stream::start(camera).map_err(failed)?;
        let stop = Arc::new(AtomicBool::new(false));
        let feed = Feed {
            stop: Arc::clone(&stop),
            slot: Arc::clone(slot),
            source,
            pixels: *pixels,
            size: None,
        };
        let thread = std::thread::Builder::new()
            .name("camera feed".to_owned())
            .spawn(move || feed.run(&stream))
            .map_err(|why| failed(why.to_string()))?;
        Ok(Feeder { stop, thread: Some(thread), read })
    }

    /// What the camera says of its settings.
    pub(in crate::camera) fn read_back(&self) -> &[ReadBack] {
        &self.read
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic in it has ended it: there is nothing left to stop.
            let _ = thread.join();
        }
    }
}

/// A camera that is acquiring.
struct Stream {
    // In this order: what uses the camera goes first.
    stream: glib::Object,
    camera: Camera,
    is_gone: Arc<AtomicBool>,
}

// SAFETY: it is moved once, into the thread that feeds, and used by that one alone; references are
// counted atomically, and the library's own threads touch only what it locks itself.
unsafe impl Send for Stream {}

impl Stream {
    fn start(camera: Camera) -> Result<Stream, String> {
        let (api, pointer) = (camera.api, camera.pointer());
        // SAFETY: the camera is open; there is no callback, so its data are null.
        let stream = asking("stream", |error| unsafe {
            (api.camera_create_stream)(pointer, std::ptr::null(), std::ptr::null(), error)
        })?;
        if stream.is_null() {
            return Err("the camera opens no stream".to_owned());
        }
        // SAFETY: a new stream is an object of GLib, and its one reference is ours.
        let stream =
            unsafe { glib::Object::from_glib_full(stream.cast::<glib::gobject_ffi::GObject>()) };
        // SAFETY: the camera is open.
        let bytes =
            asking("PayloadSize", |error| unsafe { (api.camera_get_payload)(pointer, error) })?;
        let bytes = bytes as usize;
        if bytes == 0 || bytes > PICTURE_MAX_BYTES {
            return Err(format!("the camera announces pictures of {bytes} bytes"));
        }
        let is_gone = Arc::new(AtomicBool::new(false));
        if let Some(device) = camera.device() {
            let gone = Arc::clone(&is_gone);
            device.connect("control-lost", false, move |_| {
                gone.store(true, Ordering::Relaxed);
                None
            });
        }
        let stream = Stream { stream, camera, is_gone };
        for _ in 0..BUFFERS {
            // SAFETY: the stream takes over the new buffer.
            unsafe {
                let buffer = (stream.camera.api.buffer_new_allocate)(bytes);
                (stream.camera.api.stream_push_buffer)(stream.pointer(), buffer);
            }
        }
        // SAFETY: the camera is open and has a stream.
        asking("AcquisitionStart", |error| unsafe {
            (stream.camera.api.camera_start_acquisition)(stream.camera.pointer(), error);
        })?;
        Ok(stream)
    }

    fn pointer(&self) -> *mut c_void {
        use glib::object::ObjectType;
        self.stream.as_ptr().cast()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let camera = &self.camera;
        // SAFETY: the camera is open. One that is gone cannot be stopped, and need not be.
        let stopped = asking("AcquisitionStop", |error| unsafe {
            (camera.api.camera_stop_acquisition)(camera.pointer(), error);
        });
        if let Err(why) = stopped {
            tracing::debug!(why, "a GenICam camera was not stopped");
        }
    }
}

struct Feed {
    stop: Arc<AtomicBool>,
    slot: Arc<Slot>,
    source: AppSrc,
    pixels: Pixels,
    /// Of the picture before.
    size: Option<(usize, usize)>,
}

impl Feed {
    fn run(mut self, stream: &Stream) {
        let api = stream.camera.api;
        while !self.stop.load(Ordering::Relaxed) {
            if stream.is_gone.load(Ordering::Relaxed) {
                gst::element_error!(self.source, gst::ResourceError::Read, ("the camera is gone"));
                return;
            }
            // SAFETY: the stream is alive; what comes out of it is ours until it is pushed again.
            let buffer = unsafe { (api.stream_timeout_pop_buffer)(stream.pointer(), LOOK_UP_US) };
            if buffer.is_null() {
                continue;
            }
            // SAFETY: the buffer is ours, and nothing writes it.
            let fed = match unsafe { (api.buffer_get_status)(buffer) } {
                WHOLE => self.feed(stream, buffer),
                _ => {
                    self.slot.spoil_partial();
                    Ok(())
                }
            };
            // SAFETY: the stream takes the buffer back.
            unsafe { (api.stream_push_buffer)(stream.pointer(), buffer) };
            if let Err(why) = fed {
                gst::element_error!(self.source, gst::StreamError::Format, ("{why}"));
                return;
            }
        }
    }

    /// Copies one picture into the pipeline, row by row: GStreamer's rows begin at multiples of four.
    fn feed(&mut self, stream: &Stream, buffer: *mut c_void) -> Result<(), String> {
        let api = stream.camera.api;
        let mut bytes = 0;
        // SAFETY: the buffer is ours until it is pushed again; its data are `bytes` long.
        let (data, width, height) = unsafe {
            let data = (api.buffer_get_data)(buffer, &mut bytes);
            let size =
                ((api.buffer_get_image_width)(buffer), (api.buffer_get_image_height)(buffer));
            if data.is_null() {
                return Err("a picture without pixels".to_owned());
            }
            (std::slice::from_raw_parts(data, bytes), size.0, size.1)
        };
        let (width, height) = (usize::try_from(width), usize::try_from(height));
        let (Ok(width @ 1..), Ok(height @ 1..)) = (width, height) else {
            return Err("a picture without a size".to_owned());
        };
        let row = width * if self.pixels == Pixels::Rgb8 { 3 } else { 1 };
        if row.saturating_mul(height) > data.len() {
            self.slot.spoil_partial();
            return Ok(());
        }
        if self.size != Some((width, height)) {
            self.source.set_caps(Some(&caps(self.pixels, width, height)));
            self.size = Some((width, height));
        }
        let stride = row.next_multiple_of(4);
        let mut rows = vec![0; stride * height];
        for (to, from) in rows.chunks_exact_mut(stride).zip(data.chunks_exact(row)) {
            to[..row].copy_from_slice(from);
        }
        // A pipeline that is being closed takes none any more.
        let _ = self.source.push_buffer(gst::Buffer::from_mut_slice(rows));
        Ok(())
    }
}

fn caps(pixels: Pixels, width: usize, height: usize) -> gst::Caps {
    let (kind, format) = match pixels {
        Pixels::Mono8 => ("video/x-raw", "GRAY8"),
        Pixels::Rgb8 => ("video/x-raw", "RGB"),
        Pixels::BayerRg8 => ("video/x-bayer", "rggb"),
        Pixels::BayerGr8 => ("video/x-bayer", "grbg"),
        Pixels::BayerGb8 => ("video/x-bayer", "gbrg"),
        Pixels::BayerBg8 => ("video/x-bayer", "bggr"),
    };
    gst::Caps::builder(kind)
        .field("format", format)
        .field("width", width as i32)
        .field("height", height as i32)
        .field("framerate", gst::Fraction::new(0, 1))
        .build()
}
