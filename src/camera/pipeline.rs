//! A pipeline from its text, and the way of one frame out of it.
//!
//! The sink hands each buffer over within the streaming thread, so nothing queues up in it; the
//! pixels are copied out there and the buffer goes straight back to its pool.

use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use gstreamer as gst;
use gstreamer::glib;
use gstreamer::prelude::*;
use gstreamer_app::AppSink;
use gstreamer_video::{VideoColorMatrix, VideoColorRange, VideoFrameExt, VideoFrameRef, VideoInfo};

use super::spelling::{DECODER, SINK, SOURCE, Spelling, spell, without_password};
use super::{CameraError, Options, Source, credentials, elements, genicam};
use crate::frame::{Colours, Form, Matrix, Picture};
use crate::platform::Platform;

/// A frame may have this many pixels a side; more is no line camera but a broken stream.
const SIDE_MAX_PX: u32 = 16_384;

/// A pipeline that was built and not yet started.
pub(super) struct Built {
    pub(super) pipeline: gst::Pipeline,
    pub(super) sink: AppSink,
    /// The element that is the camera, where it is one that we speak to.
    pub(super) source: Option<gst::Element>,
}

/// Builds the pipeline of `options`, in state NULL.
pub(super) fn build(camera: &str, options: &Options) -> Result<Built, CameraError> {
    let spelling = spelled(camera, options)?;
    check_source(camera, &options.source)?;
    let missing = elements::first_missing(&spelling.needs);
    need(camera, missing.as_slice())?;
    let built = parse(camera, &spelling, &options.source)?;
    if options.source.is_network() {
        set_up_rtsp(camera, &built, options, spelling.address.as_deref())?;
    }
    Ok(built)
}

/// The text of `options` on this machine.
pub(super) fn spelled(camera: &str, options: &Options) -> Result<Spelling, CameraError> {
    let platform = Platform::detect().platform;
    spell(options, platform).map_err(|why| CameraError::Option { camera: camera.to_owned(), why })
}

fn parse(camera: &str, spelling: &Spelling, source: &Source) -> Result<Built, CameraError> {
    let mut context = gst::ParseContext::new();
    let flags = gst::ParseFlags::FATAL_ERRORS;
    let parsed = gst::parse::launch_full(&spelling.text(), Some(&mut context), flags);
    // After a syntax error the parser also lists elements that are installed.
    let missing = context.missing_elements();
    let missing: Vec<&str> = missing.iter().map(String::as_str).collect();
    need(camera, &missing)?;
    let refused = |why: String| {
        let text = match source {
            Source::Pipeline(_) => spelling.steps[0].clone(),
            _ => spelling.text(),
        };
        CameraError::Pipeline { camera: camera.to_owned(), text, why }
    };
    let pipeline = parsed
        .map_err(|error| refused(error.message().to_owned()))?
        .downcast::<gst::Pipeline>()
        .map_err(|_| refused("it is no pipeline".to_owned()))?;
    let sink = pipeline.by_name(SINK).and_then(|sink| sink.downcast::<AppSink>().ok());
    let sink = sink.ok_or_else(|| refused("our sink is not in it".to_owned()))?;
    if let Some(decoder) = pipeline.by_name(DECODER) {
        decoder.connect_no_more_pads(|decoder| {
            if !decoder.src_pads().iter().any(|pad| pad.is_linked()) {
                gst::element_error!(decoder, gst::StreamError::WrongType, ("it holds no video"));
            }
        });
    }
    let source = pipeline.by_name(SOURCE);
    Ok(Built { pipeline, sink, source })
}

/// What stands in no text: the password, and which of a camera's streams is wanted.
fn set_up_rtsp(
    camera: &str,
    built: &Built,
    options: &Options,
    address: Option<&str>,
) -> Result<(), CameraError> {
    let Some(source) = &built.source else { return Ok(()) };
    if let Some(address) = address {
        source.set_property("location", address);
    }
    if let Some(credentials) = &options.rtsp.credentials {
        let (user, password) = credentials::read(camera, credentials)?;
        source.set_property("user-id", user);
        source.set_property("user-pw", password);
    }
    // A camera's sound would be decoded for nobody.
    source.connect("select-stream", false, |values| {
        let caps = values.get(2).and_then(|value| value.get::<gst::Caps>().ok());
        let media = caps.as_ref().and_then(|caps| caps.structure(0)?.get::<String>("media").ok());
        Some(media.is_none_or(|media| media == "video").to_value())
    });
    Ok(())
}

/// Refuses at once what cannot be there later.
fn check_source(camera: &str, source: &Source) -> Result<(), CameraError> {
    match source {
        Source::Uri(uri) if uri.starts_with("file:") => {
            check_file(camera, &footage_path(camera, uri)?)
        }
        Source::Uri(uri) if uri.starts_with("rtsp://") || uri.starts_with("rtsps://") => Ok(()),
        Source::Uri(uri) => Err(CameraError::Uri {
            camera: camera.to_owned(),
            uri: without_password(uri),
            why: "neither footage nor a network camera".to_owned(),
        }),
        Source::Device(path) => check_device(camera, path),
        Source::Genicam { .. } => match genicam::missing() {
            None => Ok(()),
            Some((element, advice)) => {
                Err(CameraError::MissingElement { camera: camera.to_owned(), element, advice })
            }
        },
        _ => Ok(()),
    }
}

fn check_device(camera: &str, path: &Path) -> Result<(), CameraError> {
    let meta = std::fs::metadata(path).map_err(|source| CameraError::Unusable {
        camera: camera.to_owned(),
        what: "device",
        path: path.to_owned(),
        source,
        advice: "plug the camera in, or correct the path (\"inspectd camera list\" shows what is there)",
    })?;
    if meta.file_type().is_char_device() {
        return Ok(());
    }
    Err(CameraError::WrongKind {
        camera: camera.to_owned(),
        path: path.to_owned(),
        expected: "device",
        advice: "a camera is a character device such as /dev/video0",
    })
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

/// What came out of the sink.
pub(super) enum Taken {
    /// A frame.
    Whole(Picture),
    /// A frame that its decoder calls damaged.
    Damaged,
    /// A frame with rows missing.
    Partial,
    /// No frame that anything can be done with, and why.
    Unusable(String),
}

/// Takes a frame's pixels.
pub(super) fn take(sample: &gst::Sample) -> Taken {
    let Some(buffer) = sample.buffer() else {
        return Taken::Unusable("a frame without pixels".to_owned());
    };
    if buffer.flags().contains(gst::BufferFlags::CORRUPTED) {
        return Taken::Damaged;
    }
    match format(sample) {
        Err(why) => Taken::Unusable(why),
        Ok(info) if buffer.size() < info.size() => Taken::Partial,
        Ok(info) => copy(buffer, &info).map_or_else(Taken::Unusable, Taken::Whole),
    }
}

fn format(sample: &gst::Sample) -> Result<VideoInfo, String> {
    let caps = sample.caps().ok_or("a frame without a format")?;
    let info = VideoInfo::from_caps(caps).map_err(|error| error.to_string())?;
    if info.width() > SIDE_MAX_PX || info.height() > SIDE_MAX_PX {
        return Err(format!("a frame of {}x{} px is too large", info.width(), info.height()));
    }
    Ok(info)
}

/// Copies the planes out, row by row: between rows there may be padding.
fn copy(buffer: &gst::BufferRef, info: &VideoInfo) -> Result<Picture, String> {
    let name = info.format().to_str();
    let form = Form::ALL.into_iter().find(|form| form.name() == name.as_str());
    let form = form.ok_or_else(|| format!("a frame of the unknown format {name}"))?;
    let frame = VideoFrameRef::from_buffer_ref_readable(buffer, info)
        .map_err(|_| "a frame whose pixels cannot be read".to_owned())?;
    let size = (info.width(), info.height());
    let planes = form.planes(size.0, size.1);
    let mut data = Vec::with_capacity(planes.iter().map(|(row, rows)| row * rows).sum());
    for (at, (row_bytes, rows)) in planes.into_iter().enumerate() {
        let plane = frame.plane_data(at as u32).map_err(|error| error.to_string())?;
        let stride = frame.plane_stride().get(at).copied().unwrap_or_default();
        let stride = usize::try_from(stride).map_err(|error| error.to_string())?;
        for row in plane.chunks(stride.max(1)).take(rows) {
            data.extend_from_slice(row.get(..row_bytes).ok_or("a frame with short rows")?);
        }
    }
    Picture::new(form, colours(info), size, data).ok_or("a frame with missing rows".to_owned())
}

fn colours(info: &VideoInfo) -> Colours {
    let told = info.colorimetry();
    let matrix = match told.matrix() {
        // The second, of the first video in high definition, is nearly the first.
        VideoColorMatrix::Bt709 | VideoColorMatrix::Smpte240m => Matrix::Bt709,
        VideoColorMatrix::Bt2020 => Matrix::Bt2020,
        _ => Matrix::Bt601,
    };
    // Grey alone has no headroom.
    let is_grey = info.format().to_str() == Form::Gray8.name();
    Colours { matrix, is_full_range: is_grey || told.range() == VideoColorRange::Range0_255 }
}

/// Nanoseconds from the start of the pipeline to this frame, if the source stamps its frames.
pub(super) fn running_ns(sample: &gst::Sample) -> Option<u64> {
    let pts = sample.buffer()?.pts()?;
    let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?;
    segment.to_running_time(pts).map(gst::ClockTime::nseconds)
}
