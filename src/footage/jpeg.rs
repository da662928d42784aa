//! One picture into JPEG, by way of GStreamer: for the seconds that are kept in memory.

use std::path::PathBuf;
use std::sync::Arc;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::{AppSink, AppSrc};

use super::FootageError;
use super::index::Look;
use super::segment::{FULL_RANGE_I420, buffer, raw_caps};
use crate::frame::Frame;

/// Quality of the pictures of clips: for people to look at, and small enough for memory.
const QUALITY: u32 = 90;

/// One picture takes milliseconds; longer is a broken encoder.
const LIMIT: gst::ClockTime = gst::ClockTime::from_seconds(10);

/// Encodes pictures of one look.
#[derive(Debug)]
pub(super) struct Encoder {
    pipeline: gst::Pipeline,
    source: AppSrc,
    sink: AppSink,
    look: Look,
}

impl Encoder {
    /// An encoder for pictures of this look.
    pub(super) fn new(look: Look) -> Result<Encoder, FootageError> {
        let build = || -> Result<Encoder, gst::glib::Error> {
            gst::init()?;
            let text = format!(
                "appsrc name=in format=time ! videoconvert ! {FULL_RANGE_I420} ! jpegenc \
                 quality={QUALITY} ! appsink name=out sync=false enable-last-sample=false"
            );
            let pipeline = gst::parse::launch(&text)?;
            let failed = || gst::glib::Error::new(gst::CoreError::Failed, "it is no pipeline");
            let pipeline = pipeline.downcast::<gst::Pipeline>().map_err(|_| failed())?;
            let source = pipeline.by_name("in").and_then(|one| one.downcast::<AppSrc>().ok());
            let sink = pipeline.by_name("out").and_then(|one| one.downcast::<AppSink>().ok());
            let (source, sink) = source.zip(sink).ok_or_else(failed)?;
            let caps = raw_caps(&look).map_err(|_| failed())?;
            source.set_caps(Some(&caps));
            pipeline.set_state(gst::State::Playing).map_err(|_| failed())?;
            Ok(Encoder { pipeline, source, sink, look })
        };
        build().map_err(|why| failed(why.to_string()))
    }

    /// What it was made for.
    pub(super) fn look(&self) -> Look {
        self.look
    }

    /// The JPEG of a frame of that look.
    pub(super) fn encode(&self, frame: &Arc<Frame>) -> Result<Arc<[u8]>, FootageError> {
        let mut buffer = buffer(frame).map_err(failed)?;
        if let Some(fields) = buffer.get_mut() {
            fields.set_pts(gst::ClockTime::ZERO);
        }
        self.source.push_buffer(buffer).map_err(|why| failed(why.to_string()))?;
        let sample = self.sink.try_pull_sample(LIMIT);
        let sample = sample.ok_or_else(|| failed("the encoder does not answer".to_owned()))?;
        let buffer = sample.buffer().and_then(|buffer| buffer.map_readable().ok());
        let bytes = buffer.ok_or_else(|| failed("the encoder gave nothing".to_owned()))?;
        Ok(Arc::from(bytes.as_slice()))
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        // It is ours alone; nothing depends on whether it closes.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

fn failed(why: String) -> FootageError {
    FootageError::Encode { path: PathBuf::from("memory"), why }
}
