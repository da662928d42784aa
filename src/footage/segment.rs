//! One segment: pictures of one size into Matroska, by way of GStreamer.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSrc;
use gstreamer_video::{
    VideoColorMatrix, VideoColorPrimaries, VideoColorRange, VideoColorimetry, VideoFormat,
    VideoFrameFlags, VideoInfo, VideoMeta, VideoTransferFunction,
};

use super::index::Look;
use super::{FootageError, Quality};
use crate::camera::elements;
use crate::frame::{Form, Frame, Matrix};

/// Pictures that may wait in the pipeline.
const WAITING_MAX: u64 = 2;

/// After the last picture only the file's index is written; longer is a hanging disk.
const CLOSE_LIMIT: gst::ClockTime = gst::ClockTime::from_seconds(30);

/// The whole range of levels, as JPEG means it: the encoder takes any range and does not say so.
pub(super) const FULL_RANGE_I420: &str = "video/x-raw,format=I420,colorimetry=1:4:0:0";

/// What a picture comes as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// Pixels, to be encoded so.
    Pixels(Quality),
    /// JPEG already.
    Jpeg,
}

impl Coding {
    fn needs(self) -> &'static [&'static str] {
        match self {
            Coding::Pixels(Quality::Lossless) => {
                &["appsrc", "videoconvert", "matroskamux", "filesink", "avenc_ffv1", "avdec_ffv1"]
            }
            Coding::Pixels(Quality::High) => {
                &["appsrc", "videoconvert", "matroskamux", "filesink", "jpegenc", "jpegdec"]
            }
            Coding::Jpeg => &["appsrc", "matroskamux", "filesink", "jpegdec"],
        }
    }

    /// What stands between the source and the container.
    fn encoder(self, look: &Look) -> String {
        match self {
            Coding::Pixels(Quality::Lossless) => {
                // Of the forms that FFV1 takes, the one that holds the same bytes in another order.
                let same = match look.form {
                    Form::Rgb => "BGRx",
                    Form::I420 | Form::Nv12 => "I420",
                    Form::Y42b | Form::Yuy2 => "Y42B",
                    Form::Gray8 => "GRAY8",
                };
                format!("videoconvert ! video/x-raw,format={same} ! avenc_ffv1 slicecrc=1 !")
            }
            Coding::Pixels(Quality::High) => {
                format!("videoconvert ! {FULL_RANGE_I420} ! jpegenc quality=95 !")
            }
            Coding::Jpeg => String::new(),
        }
    }
}

/// Refuses what [`Segment::create`] would refuse for want of an element.
pub(super) fn check(coding: Coding) -> Result<(), FootageError> {
    gst::init().map_err(|why| FootageError::Encode {
        path: PathBuf::new(),
        why: format!("GStreamer does not start: {why}"),
    })?;
    match elements::first_missing(coding.needs()) {
        None => Ok(()),
        Some(element) => {
            Err(FootageError::MissingElement { element, advice: elements::advice(element) })
        }
    }
}

/// A picture on its way into a segment.
pub(super) enum Pixels {
    /// A frame as the camera gave it.
    Frame(Arc<Frame>),
    /// A JPEG.
    Jpeg(Arc<[u8]>),
}

/// A segment that is being written.
#[derive(Debug)]
pub(super) struct Segment {
    pipeline: gst::Pipeline,
    source: AppSrc,
    path: PathBuf,
}

impl Segment {
    /// Begins the file at `path`, for pictures of this size.
    pub(super) fn create(
        path: &Path,
        coding: Coding,
        look: &Look,
    ) -> Result<Segment, FootageError> {
        check(coding)?;
        let refused = |why: String| FootageError::Encode { path: path.to_owned(), why };
        let location = path.to_str().ok_or_else(|| refused("the path is not UTF-8".to_owned()))?;
        let (caps, size) = caps(coding, look).map_err(|why| refused(why.to_string()))?;
        let text = format!(
            "appsrc name=in format=time block=true ! {} matroskamux ! filesink name=out",
            coding.encoder(look)
        );
        let pipeline = gst::parse::launch(&text).map_err(|why| refused(why.to_string()))?;
        let pipeline = pipeline
            .downcast::<gst::Pipeline>()
            .map_err(|_| refused("it is no pipeline".to_owned()))?;
        let source = pipeline.by_name("in").and_then(|source| source.downcast::<AppSrc>().ok());
        let source = source.ok_or_else(|| refused("our source is not in it".to_owned()))?;
        let sink = pipeline.by_name("out").ok_or_else(|| refused("no sink".to_owned()))?;
        sink.set_property("location", location);
        source.set_caps(Some(&caps));
        source.set_max_bytes(WAITING_MAX * size);
        let segment = Segment { pipeline, source, path: path.to_owned() };
        match segment.pipeline.set_state(gst::State::Playing) {
            Ok(_) => Ok(segment),
            Err(why) => Err(segment.failed(why.to_string())),
        }
    }

    /// Adds the next picture, `at_ns` after the segment's first. Waits while the encoder is busy.
    pub(super) fn push(&mut self, pixels: &Pixels, at_ns: u64) -> Result<(), FootageError> {
        let mut buffer = match pixels {
            Pixels::Frame(frame) => buffer(frame).map_err(|why| self.failed(why))?,
            Pixels::Jpeg(bytes) => gst::Buffer::from_slice(Arc::clone(bytes)),
        };
        if let Some(fields) = buffer.get_mut() {
            fields.set_pts(gst::ClockTime::from_nseconds(at_ns));
        }
        let pushed = self.source.push_buffer(buffer);
        pushed.map(drop).map_err(|why| self.failed(why.to_string()))?;
        // What went wrong behind the queue shows only here.
        match self.first_error() {
            None => Ok(()),
            Some(why) => Err(FootageError::Encode { path: self.path.clone(), why }),
        }
    }

    /// Ends the file and forces it to the disk.
    pub(super) fn finish(self) -> Result<(), FootageError> {
        self.source.end_of_stream().map_err(|why| self.failed(why.to_string()))?;
        let bus = self.pipeline.bus().ok_or_else(|| self.failed("no bus".to_owned()))?;
        let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
        let message = bus.timed_pop_filtered(CLOSE_LIMIT, &kinds);
        let why = match message.as_ref().map(|message| message.view()) {
            Some(gst::MessageView::Eos(_)) => None,
            Some(gst::MessageView::Error(error)) => Some(error.error().message().to_owned()),
            _ => Some(format!("the file was not closed within {CLOSE_LIMIT}")),
        };
        if let Some(why) = why {
            return Err(FootageError::Encode { path: self.path.clone(), why });
        }
        let path = self.path.clone();
        // Closes the file.
        drop(self);
        let synced = std::fs::File::open(&path).and_then(|file| file.sync_all());
        synced.map_err(FootageError::file("write", &path))
    }

    /// The bus knows more than the call that failed.
    fn failed(&self, why: String) -> FootageError {
        FootageError::Encode { path: self.path.clone(), why: self.first_error().unwrap_or(why) }
    }

    fn first_error(&self) -> Option<String> {
        let message = self.pipeline.bus()?.pop_filtered(&[gst::MessageType::Error])?;
        match message.view() {
            gst::MessageView::Error(error) => Some(error.error().message().to_owned()),
            _ => None,
        }
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        // It is ours alone; nothing depends on whether it closes.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// What goes into a segment, and the most bytes of one picture of it.
fn caps(coding: Coding, look: &Look) -> Result<(gst::Caps, u64), gst::glib::BoolError> {
    let (width, height) = look.size;
    let planes = look.form.planes(width, height);
    let size = planes.iter().map(|(row, rows)| row * rows).sum::<usize>() as u64;
    let caps = match coding {
        Coding::Pixels(_) => raw_caps(look)?,
        Coding::Jpeg => gst::Caps::builder("image/jpeg")
            .field("width", width as i32)
            .field("height", height as i32)
            .field("framerate", gst::Fraction::new(0, 1))
            .build(),
    };
    Ok((caps, size))
}

/// Pictures of this look as GStreamer names them.
pub(super) fn raw_caps(look: &Look) -> Result<gst::Caps, gst::glib::BoolError> {
    let mut info = VideoInfo::builder(gst_form(look.form), look.size.0, look.size.1)
        .fps(gst::Fraction::new(0, 1));
    let colorimetry = look.colours.map(|colours| {
        let (matrix, primaries) = match colours.matrix {
            Matrix::Bt601 => (VideoColorMatrix::Bt601, VideoColorPrimaries::Smpte170m),
            Matrix::Bt709 => (VideoColorMatrix::Bt709, VideoColorPrimaries::Bt709),
            Matrix::Bt2020 => (VideoColorMatrix::Bt2020, VideoColorPrimaries::Bt2020),
        };
        let range = match colours.is_full_range {
            true => VideoColorRange::Range0_255,
            false => VideoColorRange::Range16_235,
        };
        VideoColorimetry::new(range, matrix, VideoTransferFunction::Bt709, primaries)
    });
    if let Some(colorimetry) = &colorimetry {
        info = info.colorimetry(colorimetry);
    }
    info.build()?.to_caps()
}

fn gst_form(form: Form) -> VideoFormat {
    match form {
        Form::Rgb => VideoFormat::Rgb,
        Form::I420 => VideoFormat::I420,
        Form::Nv12 => VideoFormat::Nv12,
        Form::Y42b => VideoFormat::Y42b,
        Form::Yuy2 => VideoFormat::Yuy2,
        Form::Gray8 => VideoFormat::Gray8,
    }
}

/// A frame's pixels as GStreamer takes them, without a copy: where its planes lie, the buffer says.
pub(super) fn buffer(frame: &Arc<Frame>) -> Result<gst::Buffer, String> {
    struct Shared(Arc<Frame>);
    impl AsRef<[u8]> for Shared {
        fn as_ref(&self) -> &[u8] {
            self.0.picture.bytes()
        }
    }
    let picture = &frame.picture;
    let (width, height) = (picture.width(), picture.height());
    let planes = picture.form().planes(width, height);
    let mut begin = 0;
    let offsets: Vec<usize> = planes
        .iter()
        .map(|(row, rows)| {
            let end = begin + row * rows;
            std::mem::replace(&mut begin, end)
        })
        .collect();
    let strides: Vec<i32> = planes.iter().map(|(row, _)| *row as i32).collect();
    let mut buffer = gst::Buffer::from_slice(Shared(Arc::clone(frame)));
    let fields = buffer.get_mut().ok_or("a buffer that is already shared")?;
    let format = gst_form(picture.form());
    VideoMeta::add_full(
        fields,
        VideoFrameFlags::empty(),
        format,
        width,
        height,
        &offsets,
        &strides,
    )
    .map_err(|why| why.to_string())?;
    Ok(buffer)
}
