//! Footage read again: what happened, in its order, each frame with its picture.
//!
//! A segment is played by the camera room, every frame once; the index says which frame is which. What a
//! segment lacks, as the newest one does after a kill, is told as a gap and is no error: the rest can be
//! used, and whoever plays it must know.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::FootageError;
use super::index::{FrameFacts, Header, Heard, IndexReader, Line, Look, Mark, Order, segment_path};
use crate::camera::{self, CameraHandle, Delivery, LossKind, Source};
use crate::clock::{Stamp, SystemClock};
use crate::frame::{Form, Frame, Picture};

/// A picture that takes longer to come out of a file does not come.
const PATIENCE: Duration = Duration::from_secs(60);

/// What footage holds, by its index alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Its first line.
    pub header: Header,
    /// Frames in segments.
    pub frames: u64,
    /// Frames that the station saw and that were not kept.
    pub dropped: u64,
    /// Frames that the station did not see: holes in the numbers, while the camera delivered.
    pub skipped: u64,
    /// Segments.
    pub segments: u32,
    /// Their bytes.
    pub bytes: u64,
    /// How often the camera was lost.
    pub losses: u64,
    /// Parts that the controller asked for.
    pub orders: u64,
    /// Edges of a photo eye.
    pub eye_edges: u64,
    /// The verdicts for which it was kept.
    pub marks: Vec<Mark>,
    /// When the first frame was taken, and the last.
    pub taken: Option<(Stamp, Stamp)>,
    /// Why it ended; `None`: it was cut off.
    pub ended: Option<String>,
    /// Its last line was cut off.
    pub is_torn: bool,
}

impl Summary {
    /// Reads the index of `dir`, and looks whether its segments are there.
    ///
    /// # Errors
    /// An index that cannot be read or makes no sense; a segment that is missing.
    pub fn read(dir: &Path) -> Result<Summary, FootageError> {
        let (mut lines, header) = IndexReader::open(dir)?;
        let mut told = Summary {
            header,
            frames: 0,
            dropped: 0,
            skipped: 0,
            segments: 0,
            bytes: 0,
            losses: 0,
            orders: 0,
            eye_edges: 0,
            marks: Vec::new(),
            taken: None,
            ended: None,
            is_torn: false,
        };
        let mut last_sequence = None;
        while let Some(line) = lines.next()? {
            told.ended = None;
            match line {
                Line::Segment { number, .. } => {
                    let path = segment_path(dir, number);
                    let file = std::fs::metadata(&path);
                    let Some(file) = file.ok().filter(std::fs::Metadata::is_file) else {
                        return Err(FootageError::NoSegment { path });
                    };
                    told.segments = number;
                    told.bytes += file.len();
                }
                Line::Frame { shot, .. } => {
                    told.frames += 1;
                    told.see(&shot, &mut last_sequence);
                }
                Line::Dropped(shot) => {
                    told.dropped += 1;
                    told.see(&shot, &mut last_sequence);
                }
                Line::Lost { .. } => told.losses += 1,
                Line::Back { .. } | Line::Ended { .. } => last_sequence = None,
                Line::Order(_) => told.orders += 1,
                Line::Eye(heard) => told.eye_edges += u64::from(heard.is_of_eye()),
                Line::Verdict(mark) => {
                    if told.marks.len() < MARKS_MAX {
                        told.marks.push(mark);
                    }
                }
                Line::End { why, .. } => told.ended = Some(why),
            }
        }
        told.is_torn = lines.is_torn;
        Ok(told)
    }

    /// Seconds from the first frame to the last.
    pub fn length_s(&self) -> f64 {
        self.taken.map_or(0.0, |(first, last)| last.since(&first).as_secs_f64())
    }

    fn see(&mut self, shot: &FrameFacts, last_sequence: &mut Option<u64>) {
        let first = self.taken.map_or(shot.captured, |(first, _)| first);
        self.taken = Some((first, shot.captured));
        let hole = |last: u64| shot.sequence.saturating_sub(last).saturating_sub(1);
        self.skipped = self.skipped.saturating_add(last_sequence.map_or(0, hole));
        *last_sequence = Some(shot.sequence);
    }
}

/// Verdicts that are told of at most.
const MARKS_MAX: usize = 1000;

/// What happened.
#[derive(Clone, Debug)]
pub enum Item {
    /// A frame, with its recorded number and times.
    Frame(Arc<Frame>),
    /// The camera was lost.
    Lost {
        /// In which way.
        kind: LossKind,
        /// What happened.
        reason: String,
        /// When.
        at: Stamp,
    },
    /// It came back.
    Back {
        /// When.
        at: Stamp,
    },
    /// Its pictures came to their end, and others follow.
    Ended {
        /// When.
        at: Stamp,
    },
    /// The controller asked for a part.
    Order(Order),
    /// The lines of a photo eye told something.
    Eye(Heard),
    /// Frames that were seen and that the footage does not hold, and why.
    Gap {
        /// How many.
        frames: u64,
        /// Why.
        why: String,
    },
}

/// Footage that is being read.
pub struct Reel {
    dir: PathBuf,
    lines: IndexReader,
    camera: Arc<str>,
    segment: Option<Playing>,
}

/// The segment under way.
struct Playing {
    camera: CameraHandle,
    path: PathBuf,
    /// What its pictures are to be again, if that is known.
    look: Option<Look>,
    /// A frame that came before its line: the pictures between are damaged.
    early: Option<Arc<Frame>>,
    /// Nothing more comes out of it, and why.
    ended: Option<String>,
}

impl Reel {
    /// Opens the footage in `dir`, and answers what it holds.
    ///
    /// # Errors
    /// As [`Summary::read`].
    pub fn open(dir: &Path) -> Result<(Reel, Summary), FootageError> {
        let summary = Summary::read(dir)?;
        let (lines, header) = IndexReader::open(dir)?;
        let camera = header.camera.into();
        Ok((Reel { dir: dir.to_owned(), lines, camera, segment: None }, summary))
    }

    /// What happened next; `None` at the end.
    ///
    /// # Errors
    /// An index that makes no sense, or a segment that cannot be played at all.
    pub fn next_item(&mut self) -> Result<Option<Item>, FootageError> {
        while let Some(line) = self.lines.next()? {
            let item = match line {
                Line::Segment { number, width, height, pixels } => {
                    let look = pixels.and_then(|pixels| Look::read((width, height), &pixels));
                    self.segment = Some(Playing::open(segment_path(&self.dir, number), look)?);
                    continue;
                }
                Line::Frame { position, shot, .. } => self.frame(position, shot),
                Line::Dropped(_) => {
                    let why = "the encoder could not take it".to_owned();
                    Item::Gap { frames: 1, why }
                }
                Line::Lost { kind, reason, at } => {
                    let kind = LossKind::of(&kind).unwrap_or(LossKind::Failed);
                    Item::Lost { kind, reason, at }
                }
                Line::Back { at } => Item::Back { at },
                Line::Ended { at } => Item::Ended { at },
                Line::Order(order) => Item::Order(order),
                Line::Eye(heard) => Item::Eye(heard),
                Line::Verdict(_) | Line::End { .. } => continue,
            };
            return Ok(Some(item));
        }
        Ok(None)
    }

    fn frame(&mut self, position: u32, shot: FrameFacts) -> Item {
        // The index let no frame come before its segment.
        let picture = match self.segment.as_mut().map(|segment| segment.picture(position)) {
            Some(Ok(picture)) => picture,
            Some(Err(why)) => return Item::Gap { frames: 1, why },
            None => return Item::Gap { frames: 1, why: "it has no segment".to_owned() },
        };
        let FrameFacts { sequence, captured, pipeline_ns } = shot;
        let camera = Arc::clone(&self.camera);
        Item::Frame(Arc::new(Frame { sequence, camera, captured, pipeline_ns, picture }))
    }
}

impl Playing {
    fn open(path: PathBuf, look: Option<Look>) -> Result<Playing, FootageError> {
        let absolute = std::path::absolute(&path).map_err(FootageError::file("read", &path))?;
        let options = camera::Options {
            realtime: false,
            ..camera::Options::new(Source::Uri(camera::file_uri(&absolute)))
        };
        let camera = camera::open("footage", &options, Arc::new(SystemClock))
            .map_err(|source| FootageError::Segment { path: path.clone(), source })?;
        Ok(Playing { camera, path, look, early: None, ended: None })
    }

    /// The picture at `position`. `Err`: why it is not there.
    fn picture(&mut self, position: u32) -> Result<Picture, String> {
        // The camera counts from 1, damaged pictures included.
        let wanted = u64::from(position) + 1;
        loop {
            let frame = match self.early.take() {
                Some(frame) => frame,
                None => self.next()?,
            };
            if frame.sequence == wanted {
                let picture = Arc::unwrap_or_clone(frame).picture;
                return match &self.look {
                    None => Ok(picture),
                    Some(look) => again(&picture, look).ok_or_else(|| {
                        format!("{picture:?} in {} is no {look:?}", self.path.display())
                    }),
                };
            }
            if frame.sequence > wanted {
                self.early = Some(frame);
                return Err(format!("picture {position} of {} is damaged", self.path.display()));
            }
        }
    }

    fn next(&mut self) -> Result<Arc<Frame>, String> {
        let path = self.path.display();
        let why = match &self.ended {
            Some(why) => return Err(why.clone()),
            None => match self.camera.next(PATIENCE) {
                Delivery::Frame(frame) => return Ok(frame),
                Delivery::Ended => format!("{path} ends before it"),
                Delivery::Lost { reason, .. } => format!("{path} is damaged: {reason}"),
                Delivery::NoFrame | Delivery::Back => format!("{path} gives no more pictures"),
            },
        };
        Err(self.ended.insert(why).clone())
    }
}

/// The picture as the camera gave it, from what the decoder gives: the same bytes in another order.
fn again(decoded: &Picture, look: &Look) -> Option<Picture> {
    let ((width, height), form) = (look.size, look.form);
    if (decoded.width(), decoded.height()) != look.size {
        return None;
    }
    let bytes = decoded.bytes();
    let data = match (decoded.form(), form) {
        (given, wanted) if given == wanted => bytes.to_vec(),
        (Form::I420, Form::Nv12) => {
            let (y, u, v) = planes(bytes, &Form::I420.planes(width, height))?;
            let colours = u.iter().zip(v).flat_map(|(u, v)| [*u, *v]);
            y.iter().copied().chain(colours).collect()
        }
        (Form::Y42b, Form::Yuy2) => {
            let sizes = Form::Y42b.planes(width, height);
            let (y, u, v) = planes(bytes, &sizes)?;
            let (row, half) = (sizes[0].0, sizes[1].0);
            let colours = u.chunks_exact(half).zip(v.chunks_exact(half));
            let rows = y.chunks_exact(row).zip(colours);
            let pack = |(y, (u, v)): (&[u8], (&[u8], &[u8]))| -> Vec<u8> {
                // Of an odd row the last brightness stands for two.
                let at = |x: usize| y[x.min(row - 1)];
                (0..half).flat_map(|x| [at(2 * x), u[x], at(2 * x + 1), v[x]]).collect()
            };
            rows.flat_map(pack).collect()
        }
        _ => return None,
    };
    let colours = look.colours.unwrap_or(crate::frame::Colours::JPEG);
    Picture::new(form, colours, look.size, data)
}

/// The three planes in `bytes`.
fn planes<'b>(bytes: &'b [u8], sizes: &[(usize, usize)]) -> Option<(&'b [u8], &'b [u8], &'b [u8])> {
    let (y, rest) = bytes.split_at_checked(sizes.first()?.0 * sizes.first()?.1)?;
    let (u, v) = rest.split_at_checked(sizes.get(1)?.0 * sizes.get(1)?.1)?;
    Some((y, u, v))
}
