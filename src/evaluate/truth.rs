//! The labels of a picture set: `truth.jsonl`, one line a picture.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::verdict::Outcome;

/// What a picture shows.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Truth {
    /// The picture's file name, beside `truth.jsonl`.
    #[serde(default)]
    pub file: String,
    /// What the verdict should be.
    pub verdict: Outcome,
    /// The serial number, or null where nobody can read it.
    pub serial: Option<String>,
    /// The defects.
    pub defects: Vec<TrueDefect>,
}

/// A defect that is there.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct TrueDefect {
    /// Its class.
    pub class: String,
    /// Its severity.
    pub severity: String,
    /// Its cell of the location grid.
    pub location: String,
}

/// Why a set cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SetError {
    /// The label file is missing or unreadable.
    #[error("cannot read {path}: {why}; a set is a folder with truth.jsonl and its pictures")]
    Labels {
        /// The file.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
    /// A line of it is wrong.
    #[error("{path}:{line}: {why}")]
    Line {
        /// The file.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// A picture is missing or damaged.
    #[error("cannot read the picture {path}: {why}")]
    Picture {
        /// The picture.
        path: PathBuf,
        /// What the decoder said.
        why: String,
    },
    /// Nothing to do.
    #[error("{0} lists no pictures")]
    Empty(PathBuf),
}

/// Reads the labels of the set in `dir`.
pub fn read_set(dir: &Path) -> Result<Vec<Truth>, SetError> {
    let path = dir.join("truth.jsonl");
    let truths = read_labels(&path)?;
    let outside = |truth: &Truth| {
        let name = Path::new(&truth.file);
        name.file_name().is_none_or(|file| file != name.as_os_str())
    };
    if let Some(at) = truths.iter().position(outside) {
        let why = format!("`file` must be a file name, not \"{}\"", truths[at].file);
        return Err(SetError::Line { path, line: at + 1, why });
    }
    Ok(truths)
}

/// Reads a label file, be it of pictures or of footage.
pub fn read_labels(path: &Path) -> Result<Vec<Truth>, SetError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| SetError::Labels { path: path.into(), why: error.to_string() })?;
    let mut truths = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let truth: Truth = serde_json::from_str(line).map_err(|error| SetError::Line {
            path: path.into(),
            line: at + 1,
            why: error.to_string(),
        })?;
        truths.push(truth);
    }
    if truths.is_empty() {
        return Err(SetError::Empty(path.into()));
    }
    Ok(truths)
}

impl fmt::Display for Truth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verdict.as_str(), self.serial.as_deref().unwrap_or("illegible"))?;
        for defect in &self.defects {
            write!(f, ", {} {} {}", defect.severity, defect.class, defect.location)?;
        }
        Ok(())
    }
}
