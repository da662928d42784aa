//! A folder of footage from its first line to its last.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::index::{FrameFacts, Header, Index, Line, Look, segment_path};
use super::segment::{Coding, Pixels, Segment};
use super::{FootageError, Quality, Subject};
use crate::clock::Stamp;
use crate::store::free_bytes;

/// A segment ends with the first frame that is so much later than its first. Shorter loses less to a
/// kill and makes more files.
const SEGMENT_LENGTH: Duration = Duration::from_secs(10);

/// It ends after so many frames, whatever their times say.
const SEGMENT_FRAMES: u32 = 600;

/// From one look at the disk to the next, in frames.
const LOOK_FRAMES: u64 = 32;

/// How much may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes that the footage may take; `None`: as many as the disk has.
    pub max_bytes: Option<u64>,
    /// Bytes that stay free on its disk.
    pub keep_free_bytes: u64,
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    /// Frames in segments.
    pub(super) frames: u64,
    /// Bytes of segments that are whole, and of the one under way as far as it is on the disk.
    pub(super) bytes: u64,
}

/// Writes one folder.
#[derive(Debug)]
pub(super) struct Writer {
    dir: PathBuf,
    subject: Subject,
    coding: Coding,
    bounds: Bounds,
    /// Made with the first picture, whose size it tells.
    index: Option<Index>,
    /// What came before the first picture.
    early: Vec<Line>,
    segment: Option<Open>,
    number: u32,
    /// Bytes of the segments that are whole.
    whole_bytes: u64,
    frames: u64,
}

/// The segment under way.
#[derive(Debug)]
struct Open {
    segment: Segment,
    look: Look,
    begun: Stamp,
    next: u32,
    last_ns: Option<u64>,
}

/// Lines that may come before the first picture; more are left out, the newest first.
const EARLY_MAX: usize = 256;

impl Writer {
    /// Makes the folder `dir` for footage, which must hold none, and looks whether it can be written.
    pub(super) fn create(
        dir: &Path,
        subject: Subject,
        coding: Coding,
        bounds: Bounds,
    ) -> Result<Writer, FootageError> {
        super::segment::check(coding)?;
        std::fs::create_dir_all(dir).map_err(FootageError::file("make", dir))?;
        if dir.join(super::INDEX).exists() {
            return Err(FootageError::Exists { path: dir.to_owned() });
        }
        let writer = Writer {
            dir: dir.to_owned(),
            subject,
            coding,
            bounds,
            index: None,
            early: Vec::new(),
            segment: None,
            number: 0,
            whole_bytes: 0,
            frames: 0,
        };
        writer.look_for_room()?;
        Ok(writer)
    }

    /// Adds a frame of this look.
    pub(super) fn frame(
        &mut self,
        shot: &FrameFacts,
        look: &Look,
        pixels: &Pixels,
    ) -> Result<(), FootageError> {
        if self.frames.is_multiple_of(LOOK_FRAMES) {
            self.look_for_room()?;
        }
        let is_over = |open: &Open| {
            open.look != *look
                || open.next >= SEGMENT_FRAMES
                || shot.captured.since(&open.begun) >= SEGMENT_LENGTH
        };
        if self.segment.as_ref().is_some_and(is_over) {
            self.finish_segment()?;
        }
        let open = match self.segment.take() {
            Some(open) => open,
            None => self.begin_segment(look, shot.captured)?,
        };
        let open = self.segment.insert(open);
        let since_ns = u64::try_from(shot.captured.since(&open.begun).as_nanos());
        // Two pictures of one moment would be one in the container.
        let at_ns = open.last_ns.map_or(0, |last| last + 1_000_000);
        let at_ns = at_ns.max(since_ns.unwrap_or(at_ns));
        open.segment.push(pixels, at_ns)?;
        let position = open.next;
        (open.last_ns, open.next) = (Some(at_ns), position + 1);
        self.frames += 1;
        let shot = shot.clone();
        self.line(Line::Frame { segment: self.number, position, shot })
    }

    /// Adds a line that brings no picture.
    pub(super) fn line(&mut self, line: Line) -> Result<(), FootageError> {
        match &mut self.index {
            Some(index) => index.append(&line),
            None => {
                if self.early.len() < EARLY_MAX {
                    self.early.push(line);
                }
                Ok(())
            }
        }
    }

    /// What was written so far.
    pub(super) fn written(&self) -> Written {
        let open = self.segment.is_some().then(|| segment_path(&self.dir, self.number));
        let open = open.and_then(|path| std::fs::metadata(path).ok()).map_or(0, |file| file.len());
        Written { frames: self.frames, bytes: self.whole_bytes + open }
    }

    /// Ends the footage in good order.
    pub(super) fn finish(mut self, why: &str, at: Stamp) -> Result<Written, FootageError> {
        self.finish_segment()?;
        self.line(Line::End { why: why.to_owned(), at })?;
        if let Some(index) = &self.index {
            index.sync()?;
        }
        Ok(self.written())
    }

    fn begin_segment(&mut self, look: &Look, begun: Stamp) -> Result<Open, FootageError> {
        if self.index.is_none() {
            let quality = match self.coding {
                Coding::Pixels(quality) => quality,
                Coding::Jpeg => Quality::High,
            };
            let header = Header::new(&self.subject, quality, look);
            let mut index = Index::create(&self.dir, &header)?;
            self.early.drain(..).try_for_each(|line| index.append(&line))?;
            self.index = Some(index);
        }
        self.number += 1;
        let segment = Segment::create(&segment_path(&self.dir, self.number), self.coding, look)?;
        let (width, height) = look.size;
        // What a JPEG makes of them is the decoder's to say.
        let is_exact = self.coding == Coding::Pixels(Quality::Lossless);
        let pixels = is_exact.then(|| look.written());
        self.line(Line::Segment { number: self.number, width, height, pixels })?;
        Ok(Open { segment, look: *look, begun, next: 0, last_ns: None })
    }

    fn finish_segment(&mut self) -> Result<(), FootageError> {
        let Some(open) = self.segment.take() else { return Ok(()) };
        open.segment.finish()?;
        let path = segment_path(&self.dir, self.number);
        self.whole_bytes += std::fs::metadata(&path).map_or(0, |file| file.len());
        self.index.as_ref().map_or(Ok(()), Index::sync)
    }

    fn look_for_room(&self) -> Result<(), FootageError> {
        let free = free_bytes(&self.dir).map_err(FootageError::file("read", &self.dir))?;
        let keep = self.bounds.keep_free_bytes;
        if free < keep {
            let (free, keep) = (free >> 20, keep >> 20);
            let why = format!(
                "the disk of {} has {free} MiB free, and {keep} MiB are to stay free: free some \
                 space, or write to another disk",
                self.dir.display()
            );
            return Err(FootageError::Full { why });
        }
        match self.bounds.max_bytes.filter(|most| self.written().bytes >= *most) {
            None => Ok(()),
            Some(most) => {
                let why = format!(
                    "the footage in {} has reached its {:.2} GB",
                    self.dir.display(),
                    most as f64 / 1e9
                );
                Err(FootageError::Full { why })
            }
        }
    }
}
