//! The file of measurements: so that a line is held against what this machine does, not against a
//! guess, without measuring at every start.
//!
//! One entry for each model, processor, number of threads and precision; the newest are kept. It is
//! a cache: what cannot be read counts as absent, and removing it costs a measurement.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::measure::Measurement;
use crate::provenance::{self, ProvenanceError};

/// The file's name, in the folder of the audit log.
pub const FILE_NAME: &str = "measurements.json";
/// Most measurements kept; the oldest goes first.
const ENTRIES_MAX: usize = 32;
/// Largest file that is read, in bytes.
const FILE_MAX_BYTES: u64 = 256 << 10;

/// What a measurement is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// The digest by which records name the model.
    pub model: String,
    /// `ModelCard::stamp` when it was measured: finds the entry without hashing the model.
    pub stamp: String,
    /// The processor.
    pub cpu: String,
    /// Threads that the model computed in.
    pub threads: usize,
    /// `f32`, `bf16`, `f16`.
    pub precision: String,
}

/// One measurement and what it is about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// What was measured.
    pub key: Key,
    /// When, in UTC.
    pub measured_at: jiff::Timestamp,
    /// The figures.
    pub measurement: Measurement,
}

/// The file of measurements beside an audit log.
#[derive(Clone, Debug)]
pub struct Kept {
    path: PathBuf,
}

impl Kept {
    /// The file in the folder `dir`, which need not be there.
    pub fn in_dir(dir: &Path) -> Kept {
        Kept { path: dir.join(FILE_NAME) }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All usable entries, the oldest first.
    pub fn entries(&self) -> Vec<Entry> {
        let text = provenance::read_text(&self.path, FILE_MAX_BYTES).unwrap_or_default();
        let list: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap_or_default();
        let usable = list.into_iter().filter_map(|value| serde_json::from_value(value).ok());
        usable.filter(|entry: &Entry| entry.measurement.speed.is_sane()).collect()
    }

    /// The newest measurement of a model with this stamp or this digest, this processor, threads and
    /// precision.
    pub fn find(&self, wanted: &Key) -> Option<Entry> {
        let is_it = |entry: &Entry| {
            let Key { model, stamp, cpu, threads, precision } = &entry.key;
            (*stamp == wanted.stamp || *model == wanted.model)
                && *cpu == wanted.cpu
                && *threads == wanted.threads
                && *precision == wanted.precision
        };
        self.entries().into_iter().rev().find(is_it)
    }

    /// Adds an entry, in place of one about the same.
    ///
    /// # Errors
    /// If the file cannot be written; the old one is then as it was.
    pub fn add(&self, entry: Entry) -> Result<(), ProvenanceError> {
        let mut all = self.entries();
        let same =
            |old: &Entry| Key { stamp: entry.key.stamp.clone(), ..old.key.clone() } == entry.key;
        all.retain(|old| !same(old));
        all.push(entry);
        all.drain(..all.len().saturating_sub(ENTRIES_MAX));
        let text = serde_json::to_string_pretty(&all).expect("plain data is JSON");
        if let Some(dir) = self.path.parent() {
            std::fs::create_dir_all(dir).map_err(|why| ProvenanceError::write(dir, why))?;
        }
        provenance::write_whole(&self.path, text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capacity::{Origin, Speed};

    fn entry(model: &str, threads: usize, view_s: f64) -> Entry {
        let speed = Speed {
            origin: Origin::Measured,
            view_s,
            prefill_tokens_per_s: 10.0,
            decode_tokens_per_s: 1.0,
        };
        let key = Key {
            model: model.into(),
            stamp: format!("stamp of {model}"),
            cpu: "cpu".into(),
            threads,
            precision: "f32".into(),
        };
        let measurement = Measurement { speed, ..Measurement::default() };
        Entry { key, measured_at: jiff::Timestamp::UNIX_EPOCH, measurement }
    }

    #[test]
    fn what_was_measured_is_found_by_model_processor_and_threads() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept::in_dir(&dir.path().join("not/yet/there"));
        assert!(kept.find(&entry("a", 2, 1.0).key).is_none());
        kept.add(entry("a", 2, 1.0)).unwrap();
        kept.add(entry("a", 4, 2.0)).unwrap();
        kept.add(entry("a", 2, 3.0)).unwrap();
        assert_eq!(kept.entries().len(), 2, "the same is replaced");
        let found = |model, threads| kept.find(&entry(model, threads, 0.0).key);
        assert_eq!(found("a", 2).unwrap().measurement.speed.view_s, 3.0);
        assert!(found("a", 3).is_none() && found("b", 2).is_none());
        let moved = Key { stamp: "another".into(), ..entry("a", 2, 0.0).key };
        assert!(kept.find(&moved).is_some(), "a copy of the model is found by its digest");
    }

    #[test]
    fn the_file_stays_small_and_rubbish_is_no_measurement() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept::in_dir(dir.path());
        for number in 0..40 {
            kept.add(entry(&number.to_string(), 1, 1.0)).unwrap();
        }
        assert_eq!(kept.entries().len(), ENTRIES_MAX);
        assert!(kept.find(&entry("39", 1, 0.0).key).is_some());
        for rubbish in ["", "{", "[1, {}]", "{\"a\": 1}", "[[[[", "null"] {
            std::fs::write(kept.path(), rubbish).unwrap();
            assert!(kept.entries().is_empty(), "{rubbish}");
        }
        let text = serde_json::to_string(&[entry("x", 1, -1.0), entry("y", 1, 1.0)]).unwrap();
        std::fs::write(kept.path(), text).unwrap();
        assert_eq!(kept.entries().len(), 1, "a negative time is none");
        std::fs::write(kept.path(), "[".repeat(1 << 20)).unwrap();
        assert!(kept.entries().is_empty());
        kept.add(entry("z", 1, 1.0)).unwrap();
        assert_eq!(kept.entries().len(), 1);
    }
}
