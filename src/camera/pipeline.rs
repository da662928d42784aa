//! How each source is spelled in GStreamer, and the way of one frame out of it.
//!
//! ```text
//! footage, network   uridecodebin ─first video pad→ videoconvert → appsink (RGB)
//! device             v4l2src → capsfilter (wishes) → decodebin ─→ videoconvert → appsink
//! text               TEXT ! videoconvert ! appsink
//! ```
//!
//! The sink hands each buffer over within the streaming thread, so nothing queues up in it; the
//! pixels are copied out there and the buffer goes straight back to its pool.

use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use gstreamer as gst;
use gstreamer::glib;
use gstreamer::prelude::*;
use gstreamer_app::AppSink;
use gstreamer_video::{VideoFrameExt, VideoFrameRef, VideoInfo};

use super::{CameraError, Options, RtspOptions, Source, Transport, elements};
use crate::frame::Rgb8;

/// A connection to a network camera that takes longer is an error, µs.
const RTSP_CONNECT_LIMIT_US: u64 = 5_000_000;

/// A frame may have this many pixels a side; more is no line camera but a broken stream.
const SIDE_MAX_PX: u32 = 16_384;

/// The name of our sink within a text pipeline.
const SINK: &str = "inspectd_sink";

/// A pipeline that was built and not yet started.
pub(super) struct Built {
    pub(super) pipeline: gst::Pipeline,
    pub(super) sink: AppSink,
}

/// Builds the pipeline of `options`, in state NULL.
pub(super) fn build(camera: &str, options: &Options) -> Result<Built, CameraError> {
    let failed = |error: glib::BoolError| CameraError::Start {
        camera: camera.to_owned(),
        what: "the pipeline",
        why: error.to_string(),
    };
    let built = match &options.source {
        Source::Uri(uri) => from_uri(camera, uri, &options.rtsp)?.map_err(failed)?,
        Source::Device(path) => from_device(camera, path, options)?.map_err(failed)?,
        Source::Pipeline(text) => from_text(camera, text)?,
        Source::Folder { .. } => {
            let (camera, why) = (camera.to_owned(), "a folder needs no pipeline");
            return Err(CameraError::Option { camera, why });
        }
    };
    let rgb = gst::Caps::builder("video/x-raw").field("format", "RGB").build();
    built.sink.set_caps(Some(&rgb));
    // Otherwise the sink keeps a buffer of the pool for whoever asks; nobody does.
    built.sink.set_property("enable-last-sample", false);
    Ok(built)
}

type Linked = Result<Built, glib::BoolError>;

fn from_uri(camera: &str, uri: &str, rtsp: &RtspOptions) -> Result<Linked, CameraError> {
    if uri.starts_with("file:") {
        check_file(camera, &footage_path(camera, uri)?)?;
        need(camera, &["uridecodebin", "filesrc", "videoconvert", "appsink"])?;
    } else if uri.starts_with("rtsp://") || uri.starts_with("rtsps://") {
        need(camera, &["uridecodebin", "rtspsrc", "videoconvert", "appsink"])?;
    } else {
        let why = "neither footage nor a network camera".to_owned();
        return Err(CameraError::Uri {
            camera: camera.to_owned(),
            uri: without_password(uri),
            why,
        });
    }
    let rtsp = rtsp.clone();
    Ok((|| {
        let source = gst::ElementFactory::make("uridecodebin").property("uri", uri).build()?;
        source.connect("source-setup", false, move |values| {
            if let Some(Ok(source)) = values.get(1).map(|value| value.get::<gst::Element>()) {
                set_up_rtsp(&source, &rtsp);
            }
            None
        });
        let (pipeline, sink) = with_decoder(&source)?;
        Ok(Built { pipeline, sink })
    })())
}

/// Settings of the element that speaks to a network camera; does nothing to a file source.
fn set_up_rtsp(source: &gst::Element, options: &RtspOptions) {
    if source.factory().is_none_or(|factory| factory.name() != "rtspsrc") {
        return;
    }
    source.set_property("latency", options.latency_ms);
    source.set_property("tcp-timeout", RTSP_CONNECT_LIMIT_US);
    source.set_property_from_str(
        "protocols",
        match options.transport {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
            Transport::Any => "tcp+udp",
        },
    );
    // A camera's sound would be decoded for nobody.
    source.connect("select-stream", false, |values| {
        let caps = values.get(2).and_then(|value| value.get::<gst::Caps>().ok());
        let media = caps.as_ref().and_then(|caps| caps.structure(0)?.get::<String>("media").ok());
        Some(media.is_none_or(|media| media == "video").to_value())
    });
}

fn from_device(camera: &str, path: &Path, options: &Options) -> Result<Linked, CameraError> {
    let meta = std::fs::metadata(path).map_err(|source| CameraError::Unusable {
        camera: camera.to_owned(),
        what: "device",
        path: path.to_owned(),
        source,
        advice: "plug the camera in, or correct the path (v4l2-ctl --list-devices shows them)",
    })?;
    if !meta.file_type().is_char_device() {
        return Err(CameraError::WrongKind {
            camera: camera.to_owned(),
            path: path.to_owned(),
            expected: "device",
            advice: "a camera is a character device such as /dev/video0",
        });
    }
    need(camera, &["v4l2src", "capsfilter", "decodebin", "videoconvert", "appsink"])?;
    let device = path.display().to_string();
    let wishes = wishes(options);
    Ok((|| {
        let source = gst::ElementFactory::make("v4l2src").property("device", device).build()?;
        let filter = gst::ElementFactory::make("capsfilter").property("caps", wishes).build()?;
        let decoder = gst::ElementFactory::make("decodebin").build()?;
        let (pipeline, sink) = with_decoder(&decoder)?;
        pipeline.add_many([&source, &filter])?;
        gst::Element::link_many([&source, &filter, &decoder])?;
        Ok(Built { pipeline, sink })
    })())
}

/// What is asked of a device, raw or as JPEG; any size that was not asked for.
fn wishes(options: &Options) -> gst::Caps {
    let mut caps = gst::Caps::new_empty();
    for kind in ["video/x-raw", "image/jpeg"] {
        let mut structure = gst::Structure::new_empty(kind);
        if let Some(width) = options.width_px {
            structure.set("width", width as i32);
        }
        if let Some(height) = options.height_px {
            structure.set("height", height as i32);
        }
        if let Some(rate) = options.frames_per_s {
            structure.set("framerate", gst::Fraction::new(rate as i32, 1));
        }
        caps.make_mut().append_structure(structure);
    }
    caps
}

/// A pipeline of `decoder`, its first video pad, videoconvert and our sink.
fn with_decoder(decoder: &gst::Element) -> Result<(gst::Pipeline, AppSink), glib::BoolError> {
    let pipeline = gst::Pipeline::new();
    let convert = gst::ElementFactory::make("videoconvert").build()?;
    let sink = AppSink::builder().build();
    pipeline.add_many([decoder, &convert, sink.upcast_ref()])?;
    convert.link(&sink)?;
    // Weak: the pipeline owns both, and a strong reference in a closure of the decoder would keep
    // a lost camera's pipeline for ever.
    let (weak, weak_last) = (convert.downgrade(), convert.downgrade());
    decoder.connect_pad_added(move |_, pad| {
        let Some(to) = weak.upgrade().and_then(|convert| convert.static_pad("sink")) else {
            return;
        };
        if is_video(pad)
            && !to.is_linked()
            && let Err(error) = pad.link(&to)
        {
            tracing::debug!(%error, "a video stream cannot be converted");
        }
    });
    decoder.connect_no_more_pads(move |_| {
        let Some(convert) = weak_last.upgrade() else { return };
        if convert.static_pad("sink").is_some_and(|to| !to.is_linked()) {
            gst::element_error!(convert, gst::StreamError::WrongType, ("it holds no video"));
        }
    });
    Ok((pipeline, sink))
}

fn is_video(pad: &gst::Pad) -> bool {
    let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
    caps.structure(0).is_some_and(|structure| structure.name().starts_with("video/"))
}

fn from_text(camera: &str, text: &str) -> Result<Built, CameraError> {
    need(camera, &["videoconvert", "appsink"])?;
    let ours = text.trim().trim_end_matches('!').trim_end();
    let whole = format!("{ours} ! videoconvert ! appsink name={SINK}");
    let mut context = gst::ParseContext::new();
    let flags = gst::ParseFlags::FATAL_ERRORS;
    let parsed = gst::parse::launch_full(&whole, Some(&mut context), flags);
    // After a syntax error the parser also lists elements that are installed.
    let missing = context.missing_elements();
    let missing: Vec<&str> = missing.iter().map(String::as_str).collect();
    need(camera, &missing)?;
    let refused = |why: String| {
        let (camera, text) = (camera.to_owned(), ours.to_owned());
        CameraError::Pipeline { camera, text, why }
    };
    let pipeline = parsed
        .map_err(|error| refused(error.message().to_owned()))?
        .downcast::<gst::Pipeline>()
        .map_err(|_| refused("it is no pipeline".to_owned()))?;
    let sink = pipeline.by_name(SINK).and_then(|sink| sink.downcast::<AppSink>().ok());
    let sink = sink.ok_or_else(|| refused("our sink is not in it".to_owned()))?;
    Ok(Built { pipeline, sink })
}

fn need(camera: &str, names: &[&str]) -> Result<(), CameraError> {
    let Some(element) = elements::first_missing(names) else { return Ok(()) };
    Err(CameraError::MissingElement {
        camera: camera.to_owned(),
        element: element.to_owned(),
        advice: elements::advice(element),
    })
}

fn footage_path(camera: &str, uri: &str) -> Result<PathBuf, CameraError> {
    glib::filename_from_uri(uri).map(|(path, _)| path).map_err(|error| CameraError::Uri {
        camera: camera.to_owned(),
        uri: uri.to_owned(),
        why: error.message().to_owned(),
    })
}

fn check_file(camera: &str, path: &Path) -> Result<(), CameraError> {
    let opened = std::fs::File::open(path).and_then(|file| file.metadata());
    let meta = opened.map_err(|source| CameraError::Unusable {
        camera: camera.to_owned(),
        what: "file",
        path: path.to_owned(),
        source,
        advice: "correct the path, or make footage with \"inspectd simulate\"",
    })?;
    if meta.is_file() {
        return Ok(());
    }
    Err(CameraError::WrongKind {
        camera: camera.to_owned(),
        path: path.to_owned(),
        expected: "file",
        advice: "a folder of pictures is a source of its own",
    })
}

/// An address as it may stand in a log: what stands between `//` and the last `@` of the host part
/// is left out.
pub(super) fn without_password(uri: &str) -> String {
    let Some((scheme, rest)) = uri.split_once("://") else { return uri.to_owned() };
    let end = rest.find('/').unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => format!("{scheme}://***{}", &rest[at..]),
        None => uri.to_owned(),
    }
}

/// A frame as it comes out of the sink, or why it cannot be used.
pub(super) fn picture(sample: &gst::Sample) -> Result<Rgb8, String> {
    let caps = sample.caps().ok_or("a frame without a format")?;
    let info = VideoInfo::from_caps(caps).map_err(|error| error.to_string())?;
    if info.width() > SIDE_MAX_PX || info.height() > SIDE_MAX_PX {
        return Err(format!("a frame of {}x{} px is too large", info.width(), info.height()));
    }
    let buffer = sample.buffer().ok_or("a frame without pixels")?;
    let frame = VideoFrameRef::from_buffer_ref_readable(buffer, &info)
        .map_err(|_| "a frame whose pixels cannot be read".to_owned())?;
    let plane = frame.plane_data(0).map_err(|error| error.to_string())?;
    let stride = usize::try_from(frame.plane_stride()[0]).map_err(|error| error.to_string())?;
    let row_bytes = info.width() as usize * 3;
    let mut data = Vec::with_capacity(row_bytes * info.height() as usize);
    // Rows begin at multiples of four bytes, so there may be padding between them.
    for row in plane.chunks(stride.max(1)).take(info.height() as usize) {
        data.extend_from_slice(row.get(..row_bytes).ok_or("a frame with short rows")?);
    }
    Rgb8::from_data(info.width(), info.height(), data).ok_or("a frame with missing rows".to_owned())
}

/// Nanoseconds from the start of the pipeline to this frame, if the source stamps its frames.
pub(super) fn running_ns(sample: &gst::Sample) -> Option<u64> {
    let pts = sample.buffer()?.pts()?;
    let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?;
    segment.to_running_time(pts).map(gst::ClockTime::nseconds)
}

#[cfg(test)]
mod tests {
    use super::without_password;

    #[test]
    fn a_password_does_not_reach_the_log() {
        assert_eq!(without_password("rtsp://u:p@10.0.0.5/a"), "rtsp://***@10.0.0.5/a");
        assert_eq!(without_password("rtsp://u:p@x@10.0.0.5"), "rtsp://***@10.0.0.5");
        assert_eq!(without_password("rtsp://10.0.0.5/a@b"), "rtsp://10.0.0.5/a@b");
        assert_eq!(without_password("nonsense"), "nonsense");
    }
}
