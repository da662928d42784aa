//! Why footage cannot be written or read: what was tried, on what, and what to do.

use std::io;
use std::path::{Path, PathBuf};

use crate::camera::CameraError;

/// Why footage cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum FootageError {
    /// A file or folder that the system refuses.
    #[error("could not {verb} {path}: {source}")]
    File {
        /// `read`, `write` or `make`.
        verb: &'static str,
        /// Which.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// There is footage already.
    #[error("{path} holds footage already: name another folder, or move it away")]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// There is no footage.
    #[error("{path} holds no footage: neither it nor a folder in it has an index.jsonl")]
    NoFootage {
        /// The folder.
        path: PathBuf,
    },
    /// Another form of footage than ours.
    #[error(
        "{path} is footage of version {found}, and this program reads version {}: use the program that \
         wrote it, or a newer one",
        super::index::VERSION
    )]
    Version {
        /// The index.
        path: PathBuf,
        /// The version in it.
        found: u64,
    },
    /// A line of the index that makes no sense.
    #[error(
        "{path} line {line}: {why}; the index is damaged, and footage after this line cannot be trusted"
    )]
    Line {
        /// The index.
        path: PathBuf,
        /// Which line, from 1.
        line: u64,
        /// What is wrong with it.
        why: String,
    },
    /// A segment that the index names and that is not there.
    #[error("segment {path} is missing, and the index names it: put it back from the copy")]
    NoSegment {
        /// The file.
        path: PathBuf,
    },
    /// A segment that cannot be opened.
    #[error("segment {path} cannot be played: {source}")]
    Segment {
        /// The file.
        path: PathBuf,
        /// What the source of pictures said.
        source: CameraError,
    },
    /// A GStreamer element that is not installed.
    #[error("footage needs the GStreamer element \"{element}\": {advice}")]
    MissingElement {
        /// Which.
        element: &'static str,
        /// What brings it.
        advice: String,
    },
    /// GStreamer could not encode.
    #[error("pictures could not be encoded into {path}: {why}")]
    Encode {
        /// The segment.
        path: PathBuf,
        /// What GStreamer said.
        why: String,
    },
    /// As much was kept as may be.
    #[error("{why}")]
    Full {
        /// Which bound was reached, and where it is set.
        why: String,
    },
    /// A thread could not be started.
    #[error("could not start the thread that writes footage: {0}")]
    Thread(io::Error),
    /// This program was built without GStreamer.
    #[error("this inspectd was built without GStreamer: build it with the feature \"gst\"")]
    NotCompiledIn,
}

impl FootageError {
    /// Puts an error of the system into words.
    pub(super) fn file(
        verb: &'static str,
        path: &Path,
    ) -> impl Fn(io::Error) -> FootageError + use<> {
        let path = path.to_owned();
        move |source| FootageError::File { verb, path: path.clone(), source }
    }
}
