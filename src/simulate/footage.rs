//! Footage of the simulated line: what a camera over the belt would record, and the truth beside it.
//!
//! The footage is Motion JPEG, as many line cameras deliver it, in Matroska or AVI; the truth is
//! `<footage>.truth.jsonl`, one line a part. Both are written under another name and moved to their
//! place when they are whole, the truth first: footage that is there has its truth.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

#[cfg(feature = "gst")]
mod encoder;
#[cfg(not(feature = "gst"))]
#[path = "footage/encoder_absent.rs"]
mod encoder;

use crate::simulate::belt::{Belt, BeltPart};
use crate::simulate::truth::Truth;

/// What footage is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct FootageOptions {
    /// Parts on the belt.
    pub parts: u32,
    /// The same seed gives the same pictures.
    pub seed: u64,
    /// How fast the belt runs, mm/s, above 0 and at most 1,000.
    pub speed_mm_per_s: f64,
    /// The file to write; its extension chooses the container: `mkv` or `avi`.
    pub out: PathBuf,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FootageSummary {
    /// The footage.
    pub out: PathBuf,
    /// The truth beside it.
    pub truth: PathBuf,
    /// Frames in it, 30 a second.
    pub frames: u64,
    /// Parts on it.
    pub parts: u64,
    /// The footage's size.
    pub bytes: u64,
}

/// One line of the truth: a part, and when the footage shows it. Frames count from 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TruthLine {
    /// Which part, from 0.
    pub index: u32,
    /// The first frame that shows some of it.
    pub enters_at_frame: u64,
    /// The frame that shows it nearest to the middle.
    pub centred_at_frame: u64,
    /// The first frame that no longer shows it.
    pub leaves_at_frame: u64,
    /// What a perfect inspector would answer.
    #[serde(flatten)]
    pub truth: Truth,
}

impl From<BeltPart> for TruthLine {
    fn from(part: BeltPart) -> TruthLine {
        TruthLine {
            index: part.index,
            enters_at_frame: part.enters_at_frame,
            centred_at_frame: part.centred_at_frame,
            leaves_at_frame: part.leaves_at_frame,
            truth: part.truth,
        }
    }
}

/// Why footage could not be written or its truth not be read.
#[derive(Debug, thiserror::Error)]
pub enum FootageError {
    /// A container that is not known.
    #[error(
        "footage {path} cannot be written: its extension must be one of {}",
        Container::names()
    )]
    Extension {
        /// The file that was asked for.
        path: PathBuf,
    },
    /// The belt cannot be made.
    #[error(transparent)]
    Belt(#[from] crate::simulate::Error),
    /// A GStreamer element that is not installed.
    #[error(
        "footage needs the GStreamer element \"{element}\": install the Debian package {package}"
    )]
    MissingElement {
        /// Which.
        element: &'static str,
        /// What brings it.
        package: &'static str,
    },
    /// GStreamer could not encode.
    #[error("footage {path} could not be encoded: {why}")]
    Encode {
        /// The file.
        path: PathBuf,
        /// What GStreamer said.
        why: String,
    },
    /// A file that could not be written or read.
    #[error("could not {verb} {path}: {source}")]
    File {
        /// `write` or `read`.
        verb: &'static str,
        /// Which.
        path: PathBuf,
        /// What the system answered.
        source: std::io::Error,
    },
    /// A line of truth that cannot be understood.
    #[error("{path} line {line} is not the truth about a part: {why}")]
    Truth {
        /// The file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
    /// This program was built without GStreamer.
    #[error("this inspectd was built without GStreamer: build it with the feature \"gst\"")]
    NotCompiledIn,
}

/// The containers that footage can be written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "gst"), allow(dead_code))]
enum Container {
    Matroska,
    Avi,
}

impl Container {
    const ALL: [(&'static str, Container); 2] =
        [("mkv", Container::Matroska), ("avi", Container::Avi)];

    fn of(path: &Path) -> Option<Container> {
        let extension = path.extension()?.to_str()?;
        let known = Container::ALL.iter().find(|(name, _)| extension.eq_ignore_ascii_case(name));
        known.map(|(_, container)| *container)
    }

    fn names() -> String {
        Container::ALL.map(|(name, _)| format!(".{name}")).join(", ")
    }
}

/// Writes footage and its truth. `progress` hears frames done and frames in all.
pub fn write_footage(
    options: &FootageOptions,
    mut progress: impl FnMut(u64, u64),
) -> Result<FootageSummary, FootageError> {
    let out = &options.out;
    let extension = || FootageError::Extension { path: out.clone() };
    let container = Container::of(out).ok_or_else(extension)?;
    let belt = Belt::new(options.seed, options.parts, options.speed_mm_per_s)?;
    let lines: Vec<TruthLine> = belt.truths().into_iter().map(TruthLine::from).collect();

    let footage = Unfinished::beside(out);
    encoder::encode(&belt, container, &footage.path, &mut progress)?;
    let truth = truth_path(out);
    let unfinished = Unfinished::beside(&truth);
    write_truth(&unfinished.path, &lines)?;
    unfinished.finish(&truth)?;
    footage.finish(out)?;

    let bytes = std::fs::metadata(out).map_err(failed("read", out))?.len();
    let (frames, parts) = (belt.frame_count(), lines.len() as u64);
    Ok(FootageSummary { out: out.clone(), truth, frames, parts, bytes })
}

/// Where the truth about `footage` lies.
pub fn truth_path(footage: &Path) -> PathBuf {
    let mut name = footage.as_os_str().to_owned();
    name.push(".truth.jsonl");
    PathBuf::from(name)
}

/// Reads the truth about `footage`.
pub fn read_truth(footage: &Path) -> Result<Vec<TruthLine>, FootageError> {
    let path = truth_path(footage);
    let text = std::fs::read_to_string(&path).map_err(failed("read", &path))?;
    let parse = |(number, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|error| FootageError::Truth {
            path: path.clone(),
            line: number + 1,
            why: error.to_string(),
        })
    };
    text.lines().enumerate().map(parse).collect()
}

fn write_truth(path: &Path, lines: &[TruthLine]) -> Result<(), FootageError> {
    let mut text = Vec::new();
    for line in lines {
        let written = serde_json::to_writer(&mut text, line).map_err(std::io::Error::from);
        written.and_then(|()| text.write_all(b"\n")).map_err(failed("write", path))?;
    }
    std::fs::write(path, text).map_err(failed("write", path))
}

fn failed(verb: &'static str, path: &Path) -> impl Fn(std::io::Error) -> FootageError {
    move |source| FootageError::File { verb, path: path.to_owned(), source }
}

/// A file under its working name; removed unless it is finished.
struct Unfinished {
    path: PathBuf,
}

impl Unfinished {
    fn beside(target: &Path) -> Unfinished {
        let mut name = target.as_os_str().to_owned();
        name.push(format!(".{}.part", std::process::id()));
        Unfinished { path: PathBuf::from(name) }
    }

    /// Makes it durable and gives it its name.
    fn finish(self, target: &Path) -> Result<(), FootageError> {
        std::fs::File::open(&self.path)
            .and_then(|file| file.sync_all())
            .and_then(|()| std::fs::rename(&self.path, target))
            .map_err(failed("write", target))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // After `finish` there is nothing left under this name; that is no error.
        let _ = std::fs::remove_file(&self.path);
    }
}
