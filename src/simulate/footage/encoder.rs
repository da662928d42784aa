//! Pictures into Motion JPEG: appsrc → videoconvert → jpegenc → container → file.

use std::path::Path;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSrc;
use gstreamer_video::{VideoFormat, VideoInfo};

use super::{Container, FootageError};
use crate::frame::Rgb8;
use crate::simulate::belt::{Belt, FRAME_HEIGHT, FRAME_WIDTH, FRAMES_PER_SECOND};

/// JPEG quality: the serial's strokes stay free of ringing.
const QUALITY: i32 = 92;

/// Pictures that may wait for the encoder.
const WAITING_MAX: u64 = 4;

/// After the last picture the encoder has only to write the index; longer is a hanging disk.
const CLOSE_LIMIT: gst::ClockTime = gst::ClockTime::from_seconds(120);

/// Films the whole belt into `path`.
pub(super) fn encode(
    belt: &Belt,
    container: Container,
    path: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), FootageError> {
    let refused = |why: String| FootageError::Encode { path: path.to_owned(), why };
    gst::init().map_err(|error| refused(error.to_string()))?;
    let muxer = match container {
        Container::Matroska => "matroskamux",
        Container::Avi => "avimux",
    };
    check_elements(muxer)?;
    let (pipeline, source) = build(muxer, path).map_err(|error| refused(error.to_string()))?;
    let running = Running(pipeline);
    let result = running
        .0
        .set_state(gst::State::Playing)
        .map_err(|error| error.to_string())
        .and_then(|_| film(belt, &source, progress))
        .and_then(|()| wait_for_end(&running.0));
    // The bus knows more than the call that failed.
    result.map_err(|why| refused(first_error(&running.0).unwrap_or(why)))
}

fn check_elements(muxer: &'static str) -> Result<(), FootageError> {
    let good = "gstreamer1.0-plugins-good";
    let base = "gstreamer1.0-plugins-base";
    let needed = [
        ("appsrc", base),
        ("videoconvert", base),
        ("capsfilter", "libgstreamer1.0-0"),
        ("filesink", "libgstreamer1.0-0"),
        ("jpegenc", good),
        (muxer, good),
    ];
    match needed.into_iter().find(|(name, _)| gst::ElementFactory::find(name).is_none()) {
        Some((element, package)) => Err(FootageError::MissingElement { element, package }),
        None => Ok(()),
    }
}

fn build(muxer: &str, path: &Path) -> Result<(gst::Pipeline, AppSrc), gst::glib::BoolError> {
    let info = VideoInfo::builder(VideoFormat::Rgb, FRAME_WIDTH, FRAME_HEIGHT)
        .fps(gst::Fraction::new(FRAMES_PER_SECOND as i32, 1))
        .build()?;
    let source = AppSrc::builder()
        .caps(&info.to_caps()?)
        .format(gst::Format::Time)
        .block(true)
        .max_bytes(WAITING_MAX * info.size() as u64)
        .build();
    let convert = gst::ElementFactory::make("videoconvert").build()?;
    // Halved colour is what cameras send, and the only kind besides 4:2:2 that fits into RTP.
    // The whole range of levels, as JPEG means it: the encoder takes any range and does not say so,
    // and black would come back as dark grey.
    let halved = gst::Caps::builder("video/x-raw")
        .field("format", "I420")
        .field("colorimetry", "1:4:0:0")
        .build();
    let filter = gst::ElementFactory::make("capsfilter").property("caps", halved).build()?;
    let encoder = gst::ElementFactory::make("jpegenc").property("quality", QUALITY).build()?;
    let muxer = gst::ElementFactory::make(muxer).build()?;
    let location = path.to_str().ok_or_else(|| gst::glib::bool_error!("the path is not UTF-8"))?;
    let sink = gst::ElementFactory::make("filesink").property("location", location).build()?;
    let pipeline = gst::Pipeline::new();
    let chain = [source.upcast_ref(), &convert, &filter, &encoder, &muxer, &sink];
    pipeline.add_many(chain)?;
    gst::Element::link_many(chain)?;
    Ok((pipeline, source))
}

fn film(belt: &Belt, source: &AppSrc, progress: &mut dyn FnMut(u64, u64)) -> Result<(), String> {
    let count = belt.frame_count();
    for index in 0..count {
        let buffer = buffer(belt.frame(index), index)?;
        source.push_buffer(buffer).map_err(|error| error.to_string())?;
        progress(index + 1, count);
    }
    source.end_of_stream().map(drop).map_err(|error| error.to_string())
}

/// A picture as a buffer. Rows of 640 RGB pixels are a multiple of four bytes, so they need no
/// padding.
fn buffer(picture: Rgb8, index: u64) -> Result<gst::Buffer, String> {
    const { assert!(FRAME_WIDTH.is_multiple_of(4)) };
    let time =
        |index: u64| gst::ClockTime::SECOND.mul_div_floor(index, u64::from(FRAMES_PER_SECOND));
    let start = time(index).ok_or("the footage is too long")?;
    let end = time(index + 1).ok_or("the footage is too long")?;
    let mut buffer = gst::Buffer::from_mut_slice(picture.data);
    let fields = buffer.get_mut().ok_or("a buffer that is already shared")?;
    fields.set_pts(start);
    fields.set_duration(end - start);
    Ok(buffer)
}

fn wait_for_end(pipeline: &gst::Pipeline) -> Result<(), String> {
    let bus = pipeline.bus().ok_or("a pipeline without a bus")?;
    let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
    let message = bus.timed_pop_filtered(CLOSE_LIMIT, &kinds);
    match message.as_ref().map(|message| message.view()) {
        Some(gst::MessageView::Eos(_)) => Ok(()),
        Some(gst::MessageView::Error(error)) => Err(text(error)),
        _ => Err(format!("the file was not closed within {CLOSE_LIMIT}")),
    }
}

fn first_error(pipeline: &gst::Pipeline) -> Option<String> {
    let message = pipeline.bus()?.pop_filtered(&[gst::MessageType::Error])?;
    match message.view() {
        gst::MessageView::Error(error) => Some(text(error)),
        _ => None,
    }
}

fn text(error: &gst::message::Error) -> String {
    let debug = error.debug().unwrap_or_default();
    let detail: Vec<&str> = debug.lines().skip(1).map(str::trim).collect();
    format!("{} {}", error.error().message(), detail.join(" ")).trim_end().to_owned()
}

/// A pipeline that is in NULL when it is dropped.
struct Running(gst::Pipeline);

impl Drop for Running {
    fn drop(&mut self) {
        // It was ours alone; nothing depends on whether it closes.
        let _ = self.0.set_state(gst::State::Null);
    }
}
