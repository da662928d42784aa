//! The last seconds of a station's frames in memory, and on the disk around each bad part.
//!
//! A thread of its own, at low priority, makes JPEG of as many frames a second as are wanted; a frame
//! that finds it busy is passed over and counted. What it keeps is bounded in bytes, the oldest goes
//! first. A verdict opens a clip, a second one near it extends it, and when its seconds are over the clip
//! is written as footage: under a working name, then under the name of the record. Whatever fails is
//! told and counted; inspection never waits for a clip.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::film::shot;
use super::index::{Line, Look, Mark};
use super::jpeg::Encoder;
use super::memory::{Kept, Memory};
use super::segment::{Coding, Pixels};
use super::shelf::Shelf;
use super::writer::{Bounds, Writer};
use super::{FootageError, Subject};
use crate::clock::{Clock, Stamp};
use crate::frame::Frame;
use crate::verdict::Outcome;

/// Frames that may wait for the encoder.
const QUEUE_FRAMES: u64 = 4;

/// Notes that may wait: frames, and verdicts of which there are far fewer.
const QUEUE: usize = 64;

/// How often it looks up when nothing comes.
const LOOK_UP: Duration = Duration::from_millis(500);

/// A clip whose camera has been silent for so long, beyond the seconds that it is to have, is written.
const SILENCE: Duration = Duration::from_secs(5);

/// How much lower its priority is, in steps of `nice`.
const NICE: i32 = 10;

/// `[footage]` of a station.
#[derive(Clone, Debug, PartialEq)]
pub struct ClipOptions {
    /// Seconds that are kept before the trigger of a bad part.
    pub before: Duration,
    /// Seconds after it.
    pub after: Duration,
    /// Frames a second that are kept, at most.
    pub frames_per_s: f64,
    /// Bytes of pictures in memory, at most.
    pub memory_bytes: u64,
    /// Which verdicts get a clip.
    pub verdicts: Vec<Outcome>,
    /// Bytes that all clips of the station may take; the oldest go first.
    pub max_bytes: u64,
    /// How old a clip may become; `None`: as old as there is room.
    pub max_age: Option<Duration>,
    /// Bytes that stay free on the disk.
    pub keep_free_bytes: u64,
}

impl Default for ClipOptions {
    fn default() -> ClipOptions {
        ClipOptions {
            before: Duration::from_secs(5),
            after: Duration::from_secs(3),
            frames_per_s: 10.0,
            memory_bytes: 64 << 20,
            verdicts: vec![Outcome::Fail],
            max_bytes: 2 << 30,
            max_age: None,
            keep_free_bytes: 256 << 20,
        }
    }
}

/// What is told of clips.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// One was written.
    Written {
        /// Where.
        path: PathBuf,
        /// Frames in it.
        frames: u64,
    },
    /// One could not be written, or pictures for it not be kept.
    Failed(String),
}

/// What became of frames and clips.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClipCounts {
    /// Clips written.
    pub written: u64,
    /// Clips that could not be written, and verdicts that got none.
    pub failed: u64,
    /// Frames that found the encoder busy.
    pub dropped: u64,
    /// Frames that wait for the encoder now.
    pub waiting: u64,
    /// Bytes of pictures in memory now.
    pub memory_bytes: u64,
    /// The most that they ever were.
    pub memory_peak_bytes: u64,
}

#[derive(Default)]
struct Counters {
    waiting: AtomicU64,
    written: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
    memory: AtomicU64,
    peak: AtomicU64,
}

/// What the thread works with beside its options.
pub struct Workshop {
    /// Whose footage it is.
    pub subject: Subject,
    /// Where the station's clips go.
    pub dir: PathBuf,
    /// How late a verdict may come after its trigger: for so long frames stay in memory.
    pub latest: Duration,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Whether the disk may be written to: the reserve of the record goes first.
    pub has_room: Box<dyn Fn() -> bool + Send>,
    /// Hears what became of clips.
    pub tell: Box<dyn Fn(Told) + Send>,
}

enum Note {
    Frame(Arc<Frame>),
    Mark(Mark),
    End,
}

/// One station's clips.
pub struct Clips {
    notes: flume::Sender<Note>,
    counters: Arc<Counters>,
    thread: Mutex<Option<JoinHandle<()>>>,
    verdicts: Vec<Outcome>,
    every_ns: u64,
    due_ns: AtomicU64,
}

impl Clips {
    /// Begins to keep the last seconds.
    ///
    /// # Errors
    /// An element that is missing; a folder that cannot be used; no thread.
    pub fn begin(options: ClipOptions, workshop: Workshop) -> Result<Clips, FootageError> {
        super::segment::check(Coding::Jpeg)?;
        let shelf = Shelf::open(&workshop.dir)?;
        let (notes, taken) = flume::bounded(QUEUE);
        let counters = Arc::new(Counters::default());
        let verdicts = options.verdicts.clone();
        let every_ns = (1e9 / options.frames_per_s.max(0.001)) as u64;
        let mut keeper = Keeper {
            memory: Memory::new(options.memory_bytes),
            options,
            workshop,
            shelf,
            open: None,
            encoder: None,
            heard: Instant::now(),
            counters: Arc::clone(&counters),
        };
        let thread = std::thread::Builder::new()
            .name("clips".to_owned())
            .spawn(move || keeper.run(&taken))
            .map_err(FootageError::Thread)?;
        let thread = Mutex::new(Some(thread));
        Ok(Clips { notes, counters, thread, verdicts, every_ns, due_ns: AtomicU64::new(0) })
    }

    /// Offers a frame that the station sees now. Never waits.
    pub fn offer(&self, frame: &Arc<Frame>) {
        let now_ns = frame.captured.monotonic_ns;
        let due_ns = self.due_ns.load(Ordering::Relaxed);
        // One station, one thread: nobody else changes it in between.
        if now_ns < due_ns && due_ns - now_ns <= self.every_ns {
            return;
        }
        // In the rhythm that is wanted, whatever the camera's is; after a hole it begins anew.
        let next = if now_ns - due_ns.min(now_ns) < self.every_ns { due_ns } else { now_ns };
        self.due_ns.store(next + self.every_ns, Ordering::Relaxed);
        let is_sent = self.counters.waiting.fetch_add(1, Ordering::SeqCst) < QUEUE_FRAMES
            && self.notes.try_send(Note::Frame(Arc::clone(frame))).is_ok();
        if !is_sent {
            self.counters.waiting.fetch_sub(1, Ordering::SeqCst);
            self.counters.dropped.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// A verdict was recorded: it gets a clip if it is one of those that do. Never waits.
    pub fn mark(&self, verdict: Outcome, mark: impl FnOnce() -> Mark) {
        if self.verdicts.contains(&verdict) && self.notes.try_send(Note::Mark(mark())).is_err() {
            self.counters.failed.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// What became of frames and clips so far.
    pub fn counts(&self) -> ClipCounts {
        let read = |count: &AtomicU64| count.load(Ordering::SeqCst);
        ClipCounts {
            written: read(&self.counters.written),
            failed: read(&self.counters.failed),
            dropped: read(&self.counters.dropped),
            waiting: read(&self.counters.waiting),
            memory_bytes: read(&self.counters.memory),
            memory_peak_bytes: read(&self.counters.peak),
        }
    }

    /// Writes the clip under way as far as it is there, and ends.
    pub fn finish(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A thread that has ended hears nothing.
            let _ = self.notes.send(Note::End);
            if thread.join().is_err() {
                self.counters.failed.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
}

impl Drop for Clips {
    fn drop(&mut self) {
        self.finish();
    }
}

/// A clip whose seconds are not over.
#[derive(Debug)]
struct Open {
    marks: Vec<Mark>,
    begin_ns: u64,
    end_ns: u64,
}

struct Keeper {
    options: ClipOptions,
    workshop: Workshop,
    memory: Memory,
    shelf: Shelf,
    open: Option<Open>,
    encoder: Option<Encoder>,
    /// When a frame or a verdict came last.
    heard: Instant,
    counters: Arc<Counters>,
}

impl Keeper {
    fn run(&mut self, notes: &flume::Receiver<Note>) {
        // It only means that clips are made at the line's own priority.
        let _ = rustix::process::nice(NICE);
        self.tidy();
        loop {
            match notes.recv_timeout(LOOK_UP) {
                Ok(Note::Frame(frame)) => {
                    self.keep(&frame);
                    self.counters.waiting.fetch_sub(1, Ordering::SeqCst);
                }
                Ok(Note::Mark(mark)) => self.mark(mark),
                Ok(Note::End) | Err(flume::RecvTimeoutError::Disconnected) => break,
                Err(flume::RecvTimeoutError::Timeout) => {}
            }
            if self.is_over() {
                self.write("its seconds were over");
            }
        }
        self.write("the station stopped");
    }

    fn keep(&mut self, frame: &Arc<Frame>) {
        let look = Look::of(&frame.picture);
        let size = look.size;
        let encoder = match self.encoder.take().filter(|encoder| encoder.look() == look) {
            Some(encoder) => Ok(encoder),
            None => Encoder::new(look),
        };
        let encoded = encoder.and_then(|encoder| Ok((encoder.encode(frame)?, encoder)));
        let jpeg = match encoded {
            Ok((jpeg, encoder)) => {
                self.encoder = Some(encoder);
                jpeg
            }
            // The encoder is made anew for the next frame.
            Err(why) => return self.fail(why.to_string()),
        };
        let kept = Kept { shot: shot(frame), size, jpeg };
        let begin_ns = self.open.as_ref().map(|open| open.begin_ns);
        let must_go = self.memory.must_go(kept.bytes());
        if let (Some(begin_ns), Some(oldest_ns)) = (begin_ns, must_go)
            && begin_ns <= oldest_ns
        {
            self.write("the memory was full");
        }
        let newest = kept.shot.captured;
        self.heard = Instant::now();
        if !self.memory.push(kept) {
            self.fail(format!("a frame of {}x{} px is larger than `memory_mib`", size.0, size.1));
        }
        let hold = self.options.before + self.workshop.latest;
        let oldest = newest.monotonic_ns.saturating_sub(nanos(hold));
        self.memory.forget(begin_ns.map_or(oldest, |begin| begin.min(oldest)));
        self.counters.memory.store(self.memory.bytes, Ordering::SeqCst);
        self.counters.peak.fetch_max(self.memory.bytes, Ordering::SeqCst);
    }

    fn mark(&mut self, mark: Mark) {
        let at_ns = mark.at.monotonic_ns;
        let begin_ns = at_ns.saturating_sub(nanos(self.options.before));
        let end_ns = at_ns.saturating_add(nanos(self.options.after));
        self.heard = Instant::now();
        match &mut self.open {
            Some(open) if begin_ns <= open.end_ns && open.marks.len() < MARKS_MAX => {
                open.begin_ns = open.begin_ns.min(begin_ns);
                open.end_ns = open.end_ns.max(end_ns);
                open.marks.push(mark);
            }
            _ => {
                self.write("another one began");
                self.open = Some(Open { marks: vec![mark], begin_ns, end_ns });
            }
        }
    }

    fn is_over(&self) -> bool {
        let newest = self.memory.frames.back().map_or(0, |kept| kept.shot.captured.monotonic_ns);
        let is_silent = self.heard.elapsed() > self.options.after + SILENCE;
        self.open.as_ref().is_some_and(|open| newest > open.end_ns || is_silent)
    }

    /// Writes the clip under way, if there is one.
    fn write(&mut self, why: &str) {
        let Some(open) = self.open.take() else { return };
        let within =
            |kept: &&Kept| (open.begin_ns..=open.end_ns).contains(&kept.shot.captured.monotonic_ns);
        let frames: Vec<Kept> = self.memory.frames.iter().filter(within).cloned().collect();
        match self.put(&open.marks, &frames, why) {
            Ok(path) => {
                self.counters.written.fetch_add(1, Ordering::SeqCst);
                (self.workshop.tell)(Told::Written { path, frames: frames.len() as u64 });
            }
            Err(why) => self.fail(why.to_string()),
        }
    }

    fn put(&self, marks: &[Mark], frames: &[Kept], why: &str) -> Result<PathBuf, FootageError> {
        let full = |why: &str| FootageError::Full { why: why.to_owned() };
        let first = marks.first().ok_or_else(|| full("there is no verdict to keep it for"))?;
        if frames.is_empty() {
            return Err(full("there is no frame of these seconds"));
        }
        if !(self.workshop.has_room)() {
            return Err(full("the disk is full: the record's reserve is in use"));
        }
        let bytes = frames.iter().map(Kept::bytes).sum();
        self.tidy_for(bytes)?;
        let unfinished = self.shelf.unfinished();
        let bounds = Bounds { max_bytes: None, keep_free_bytes: self.options.keep_free_bytes };
        let write = || -> Result<(), FootageError> {
            let subject = self.workshop.subject.clone();
            let mut writer = Writer::create(&unfinished, subject, Coding::Jpeg, bounds)?;
            for mark in marks {
                writer.line(Line::Verdict(mark.clone()))?;
            }
            for kept in frames {
                let look = Look::jpeg(kept.size);
                writer.frame(&kept.shot, &look, &Pixels::Jpeg(Arc::clone(&kept.jpeg)))?;
            }
            writer.finish(why, self.workshop.clock.now()).map(drop)
        };
        if let Err(why) = write() {
            // What a full disk left of it would take the last room.
            let _ = std::fs::remove_dir_all(&unfinished);
            return Err(why);
        }
        let others: Vec<String> = marks[1..].iter().map(name).collect();
        self.shelf.put(&unfinished, &name(first), &others)
    }

    fn tidy(&self) {
        if let Err(why) = self.tidy_for(0) {
            self.fail(why.to_string());
        }
    }

    /// Removes what is too old, and the oldest until `more` bytes have room.
    fn tidy_for(&self, more: u64) -> Result<(), FootageError> {
        let clock = &self.workshop.clock;
        let max_age = self.options.max_age.filter(|_| clock.synchronized());
        let oldest = max_age.and_then(|age| clock.now().wall.checked_sub(age).ok());
        let Some(room) = self.options.max_bytes.checked_sub(more) else {
            let why = format!("a clip of {} MiB is larger than `max_mib`", more >> 20);
            return Err(FootageError::Full { why });
        };
        self.shelf.tidy(room, oldest)
    }

    fn fail(&self, why: String) {
        self.counters.failed.fetch_add(1, Ordering::SeqCst);
        (self.workshop.tell)(Told::Failed(why));
    }
}

/// Verdicts in one clip, at most.
const MARKS_MAX: usize = 100;

/// The folder of the clip of a verdict: the moment of its trigger, its job and its record.
pub fn name(mark: &Mark) -> String {
    let Stamp { wall, .. } = mark.at;
    let plain = |c: &char| c.is_ascii_alphanumeric() || *c == '-';
    let result_id: String = mark.result_id.chars().filter(plain).take(64).collect();
    format!("{}-job{:06}-{result_id}", wall.strftime("%Y%m%dT%H%M%SZ"), mark.job_id)
}

/// Where the clips of `station` are, beside the evidence in `evidence_dir`.
pub fn folder(evidence_dir: &Path, station: &str) -> PathBuf {
    evidence_dir.join("clips").join(station)
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
