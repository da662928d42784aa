//! Footage: what a station's camera showed, kept so that it can be played again frame by frame.
//!
//! ```text
//! DIR/index.jsonl   what happened, in the order in which the station met it: [`index::Line`]
//! DIR/000001.mkv    a segment: pictures of one size, in the order of the index
//! DIR/000002.mkv    …
//! ```
//!
//! The index is the truth and the segments hold its pictures: the picture of a frame is the one at its
//! `position` in its `segment`. A segment ends after some seconds, and each line of the index is
//! written by one call, so a kill costs what the newest segment had not yet on the disk, and no more.
//!
//! * `index`: the lines, how they are written, and how they are read where anybody may have written
//!   them; `segment`: pictures into Matroska (feature `gst`); `jpeg`: one picture into JPEG;
//! * `writer`: a folder from its first line to its last; `film`: a writer behind a bounded queue, which
//!   never holds up a camera; `reel`: a folder read again;
//! * `clips`: the last seconds in memory (`memory`), and on the disk (`shelf`) around each bad part.

pub mod clips;
mod error;
pub mod film;
pub mod index;
#[cfg(feature = "gst")]
mod jpeg;
#[cfg(not(feature = "gst"))]
#[path = "jpeg_absent.rs"]
mod jpeg;
mod memory;
pub mod reel;
#[cfg(feature = "gst")]
mod segment;
#[cfg(not(feature = "gst"))]
#[path = "segment_absent.rs"]
mod segment;
mod shelf;
mod writer;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use clips::{ClipOptions, Clips};
pub use error::FootageError;
pub use film::{Film, FilmOptions, Totals};
pub use index::{FrameFacts, Heard, Order};
pub use reel::{Item, Reel, Summary};
pub use writer::Bounds;

/// The name of the index in its folder.
pub const INDEX: &str = "index.jsonl";

/// How pictures are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Quality {
    /// FFV1: each byte comes back. Needs the Debian package gstreamer1.0-libav.
    Lossless,
    /// Motion JPEG of quality 95 with halved colour.
    #[default]
    High,
}

impl Quality {
    /// The word that is written for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Quality::Lossless => "lossless",
            Quality::High => "high",
        }
    }
}

/// Whose footage it is: stands in the first line of the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The device's name.
    pub device: String,
    /// The station's name, which is its camera's, too.
    pub station: String,
    /// SHA-256 of the station's configuration.
    pub config_sha256: String,
}

/// The folders with footage at `path`: itself, or those in it, by the order of their names.
///
/// # Errors
/// A path that cannot be read, or holds no footage.
pub fn find(path: &Path) -> Result<Vec<PathBuf>, FootageError> {
    if path.join(INDEX).is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let unreadable = FootageError::file("read", path);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).map_err(unreadable)? {
        let folder = entry.map_err(FootageError::file("read", path))?.path();
        // A clip of several verdicts has several names.
        if !folder.is_symlink() && folder.join(INDEX).is_file() {
            found.push(folder);
        }
    }
    if found.is_empty() {
        return Err(FootageError::NoFootage { path: path.to_owned() });
    }
    found.sort();
    Ok(found)
}
