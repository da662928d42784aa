//! A recording under way: whatever the station meets, without ever holding up its camera.
//!
//! A thread of its own encodes. A frame that finds its queue full stands in the index as dropped; a
//! source that can wait is held up instead. When the footage cannot be written any more, or is as
//! large as it may be, the film has ended and says why, and the station goes on.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::index::{FrameFacts, Heard, Line, Look, Order};
use super::segment::{Coding, Pixels};
use super::writer::{Bounds, Writer};
use super::{FootageError, Quality, Subject};
use crate::clock::{Clock, Stamp, SystemClock};
use crate::frame::Frame;

/// Frames that may wait for the encoder: half a second of a usual camera, and memory for so many
/// pictures.
pub const QUEUE_FRAMES: u64 = 12;

/// Lines that may wait: so many cannot come about unless the disk hangs.
const QUEUE_LINES: usize = 4096;

/// How often a source that waits looks whether it may go on.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// How a film is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilmOptions {
    /// How pictures are kept.
    pub quality: Quality,
    /// How much may be written.
    pub bounds: Bounds,
    /// The source waits for the encoder, as one that does not run in real time can: then no frame is
    /// dropped.
    pub patient: bool,
}

/// What a film holds so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Frames kept.
    pub frames: u64,
    /// Frames that the station saw and the encoder could not take.
    pub dropped: u64,
    /// Lines that could not be kept, as the disk hung.
    pub lines_lost: u64,
    /// Bytes of pictures.
    pub bytes: u64,
    /// Why nothing more is kept, if it ended by itself.
    pub ended: Option<String>,
}

/// What goes to the thread.
enum Note {
    Frame(Arc<Frame>),
    Line(Line),
    End(String, Stamp),
}

#[derive(Default)]
struct Shared {
    waiting: AtomicU64,
    dropped: AtomicU64,
    lines_lost: AtomicU64,
    totals: Mutex<Totals>,
}

/// A recording under way. Dropping it ends it.
pub struct Film {
    notes: flume::Sender<Note>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    patient: bool,
}

impl Film {
    /// Begins footage in the folder `dir`, which must hold none.
    ///
    /// # Errors
    /// A folder that cannot be used, an element that is missing, a disk without room.
    pub fn begin(dir: &Path, subject: Subject, options: FilmOptions) -> Result<Film, FootageError> {
        let coding = Coding::Pixels(options.quality);
        let writer = Writer::create(dir, subject, coding, options.bounds)?;
        let (notes, taken) = flume::bounded(QUEUE_LINES);
        let shared = Arc::new(Shared::default());
        let thread_shared = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("footage".to_owned())
            .spawn(move || write(writer, &taken, &thread_shared))
            .map_err(FootageError::Thread)?;
        let patient = options.patient;
        Ok(Film { notes, shared, thread: Some(thread), patient })
    }

    /// Adds a frame that the station sees now.
    pub fn frame(&self, frame: &Arc<Frame>) {
        if self.notes.is_disconnected() {
            // It has ended and said so.
            return;
        }
        let waiting = self.shared.waiting.fetch_add(1, Ordering::SeqCst);
        if waiting < QUEUE_FRAMES || self.patient {
            let note = Note::Frame(Arc::clone(frame));
            // A patient source waits; the other's frame has a place, as lines do not fill the queue.
            let sent = match self.patient {
                true => self.notes.send(note).is_ok(),
                false => self.notes.try_send(note).is_ok(),
            };
            if sent {
                return self.wait_for_encoder();
            }
        }
        self.shared.waiting.fetch_sub(1, Ordering::SeqCst);
        self.shared.dropped.fetch_add(1, Ordering::SeqCst);
        self.line(Line::Dropped(shot(frame)));
    }

    /// Adds that the camera was lost.
    pub fn lost(&self, kind: &str, reason: &str, at: Stamp) {
        // A line is bounded, and a reason may be long.
        let reason = reason.chars().take(1000).collect();
        self.line(Line::Lost { kind: kind.to_owned(), reason, at });
    }

    /// Adds that it came back.
    pub fn back(&self, at: Stamp) {
        self.line(Line::Back { at });
    }

    /// Adds that its pictures came to their end.
    pub fn ended(&self, at: Stamp) {
        self.line(Line::Ended { at });
    }

    /// Adds that a part was asked for.
    pub fn order(&self, order: Order) {
        self.line(Line::Order(order));
    }

    /// Adds what the lines of a photo eye told.
    pub fn heard(&self, heard: Heard) {
        self.line(Line::Eye(heard));
    }

    /// What it holds so far.
    pub fn totals(&self) -> Totals {
        Totals {
            dropped: self.shared.dropped.load(Ordering::SeqCst),
            lines_lost: self.shared.lines_lost.load(Ordering::SeqCst),
            ..lock(&self.shared.totals).clone()
        }
    }

    /// Whether it has ended by itself; [`Totals::ended`] says why.
    pub fn has_ended(&self) -> bool {
        self.notes.is_disconnected()
    }

    /// Ends it, as `why` says, and waits until all of it is on the disk.
    pub fn end(mut self, why: &str, at: Stamp) -> Totals {
        self.finish(why, at);
        self.totals()
    }

    fn finish(&mut self, why: &str, at: Stamp) {
        let Some(thread) = self.thread.take() else { return };
        // A thread that has ended already has said why.
        let _ = self.notes.send(Note::End(why.to_owned(), at));
        if thread.join().is_err() {
            lock(&self.shared.totals).ended.get_or_insert("the writing thread panicked".to_owned());
        }
    }

    fn line(&self, line: Line) {
        if self.notes.try_send(Note::Line(line)).is_err() && !self.notes.is_disconnected() {
            self.shared.lines_lost.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Holds up a source that can wait while more frames wait than the memory is meant for.
    fn wait_for_encoder(&self) {
        while self.patient
            && self.shared.waiting.load(Ordering::SeqCst) > QUEUE_FRAMES
            && !self.notes.is_disconnected()
        {
            std::thread::sleep(LOOK_AGAIN);
        }
    }
}

impl Drop for Film {
    fn drop(&mut self) {
        self.finish("stopped", SystemClock.now());
    }
}

fn write(mut writer: Writer, notes: &flume::Receiver<Note>, shared: &Shared) {
    let mut last = Ok(());
    while let Ok(note) = notes.recv() {
        last = match note {
            Note::Frame(frame) => {
                let look = Look::of(&frame.picture);
                let shot = shot(&frame);
                let kept = writer.frame(&shot, &look, &Pixels::Frame(frame));
                shared.waiting.fetch_sub(1, Ordering::SeqCst);
                kept
            }
            Note::Line(line) => writer.line(line),
            Note::End(why, at) => {
                let mut totals = lock(&shared.totals);
                match writer.finish(&why, at) {
                    Ok(written) => (totals.frames, totals.bytes) = (written.frames, written.bytes),
                    Err(error) => totals.ended = Some(error.to_string()),
                }
                return;
            }
        };
        let written = writer.written();
        let mut totals = lock(&shared.totals);
        (totals.frames, totals.bytes) = (written.frames, written.bytes);
        if last.is_err() {
            break;
        }
    }
    let Err(error) = last else { return };
    // What is there is worth closing well: a full disk or a reached bound is no damage.
    let closed = writer.finish(&error.to_string(), SystemClock.now());
    let mut totals = lock(&shared.totals);
    totals.ended = Some(error.to_string());
    if let Ok(written) = closed {
        (totals.frames, totals.bytes) = (written.frames, written.bytes);
    }
}

pub(super) fn shot(frame: &Frame) -> FrameFacts {
    FrameFacts {
        sequence: frame.sequence,
        captured: frame.captured,
        pipeline_ns: frame.pipeline_ns,
    }
}

/// A panic while it was held leaves whole values.
fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}
