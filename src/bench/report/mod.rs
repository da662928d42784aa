//! The report of a measurement, as a JSON file that further runs may be added to.

mod read;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::host::{Host, Memory};
use super::probe::Limits;
use super::stage::Stage;

/// The version of the file's form; a change that a reader must know of raises it.
pub const BENCH_VERSION: u64 = 1;

/// [`Model::device`] of a model that computes on the processor.
pub const CPU: &str = "cpu";

/// Most runs of a stage.
pub const RUNS_MAX: usize = 10_000;

/// What was measured, where, and with what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`BENCH_VERSION`] when it was written.
    pub bench_version: u64,
    /// When the measurement ended, in UTC.
    pub measured_at: jiff::Timestamp,
    /// The machine.
    pub machine: Host,
    /// The program.
    pub build: Build,
    /// The model.
    pub model: Model,
    /// What the machine can do at most.
    pub limits: Limits,
    /// Memory of the process that measured.
    pub memory: Memory,
    /// The stages, in order.
    pub stages: Vec<Stage>,
}

/// Which program measured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    /// Its version.
    pub version: String,
    /// SHA-256 of its file.
    pub program: String,
    /// `release` or `debug`.
    pub profile: String,
    /// What it was compiled for: processor and system.
    pub target: String,
    /// The instructions that its kernels for quantised weights use here.
    pub kernels: String,
}

/// Which model was measured, and how it was loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    /// The name of its folder or file, for people.
    pub name: String,
    /// The digest by which records name it.
    pub digest: String,
    /// Bytes of the weights that an inspection reads, as they are kept.
    pub weights_bytes: u64,
    /// Of these, blocks of small integers.
    pub quantised_bytes: u64,
    /// Where it computes: `cpu`, or a GPU's name.
    pub device: String,
    /// What it computes in.
    pub precision: String,
    /// What keys and values are kept in.
    pub cache: String,
    /// Threads it computes in.
    pub threads: usize,
    /// The station that was asked: its digest, or `built-in`; empty without inspections.
    pub station: String,
}

/// Why a report cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The file cannot be read.
    #[error("cannot read the report {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write the report {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// The file is no report of this program.
    #[error("{} is not a usable report: {why}; make one with  inspectd bench --json FILE", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and where.
        why: String,
    },
    /// Runs of different things were to be put together.
    #[error("these runs cannot be added: {0} differs from the file's; write another file")]
    Different(&'static str),
}

impl Report {
    /// Writes it to `path`, whole or not at all.
    ///
    /// # Errors
    /// [`ReportError::Write`]; an older file is then as it was.
    pub fn write(&self, path: &Path) -> Result<(), ReportError> {
        let failed = |source| ReportError::Write { path: path.to_owned(), source };
        let text = serde_json::to_string_pretty(self).map_err(|why| failed(why.into()))? + "\n";
        let mut partial = path.as_os_str().to_owned();
        partial.push(format!(".{}.partial", std::process::id()));
        let partial = PathBuf::from(partial);
        let written = fs::write(&partial, text).and_then(|()| fs::rename(&partial, path));
        if written.is_err() {
            // It may not be there; the error that counts is the first one.
            let _ = fs::remove_file(&partial);
        }
        written.map_err(failed)
    }

    /// Puts `earlier` runs of the same before these, stage by stage, and works the figures out anew.
    ///
    /// # Errors
    /// [`ReportError::Different`] if machine, program, model or work is not the same.
    pub fn add(&mut self, earlier: Report) -> Result<(), ReportError> {
        let machine = |report: &Report| (report.machine.cpu.clone(), report.machine.cores);
        if machine(self) != machine(&earlier) {
            return Err(ReportError::Different("the machine"));
        }
        if self.build != earlier.build {
            return Err(ReportError::Different("the program"));
        }
        if self.model != earlier.model {
            return Err(ReportError::Different("the model, or how it is loaded,"));
        }
        self.limits = self.limits.or_better(&earlier.limits);
        let Memory { resident_bytes, peak_bytes } = &mut self.memory;
        *resident_bytes = (*resident_bytes).max(earlier.memory.resident_bytes);
        *peak_bytes = (*peak_bytes).max(earlier.memory.peak_bytes);
        let mut stages = earlier.stages;
        for stage in self.stages.drain(..) {
            let Some(old) = stages.iter_mut().find(|old| old.id == stage.id) else {
                stages.push(stage);
                continue;
            };
            if (old.unit, old.units, old.bytes) != (stage.unit, stage.units, stage.bytes) {
                return Err(ReportError::Different("the work of a stage"));
            }
            old.runs_s.extend(stage.runs_s);
            // Of a file that grows for ever the newest runs stay.
            let surplus = old.runs_s.len().saturating_sub(RUNS_MAX);
            old.runs_s.drain(..surplus);
        }
        self.stages = stages;
        self.figure();
        Ok(())
    }

    /// Works out every stage's figures as shares of the limits. A GPU's are not those of the
    /// processor, which are all that is measured.
    pub fn figure(&mut self) {
        let limits = (self.model.device == CPU).then_some(&self.limits);
        for stage in &mut self.stages {
            stage.figure(limits);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::count::Work;
    use super::super::probe::Rates;
    use super::super::stage::{Product, Unit};
    use super::*;

    /// A report with these stages and their runs.
    pub(crate) fn report(stages: &[(&str, &[f64])]) -> Report {
        let stage = |(id, runs): &(&str, &[f64])| {
            let work = Work { flop: 1_000_000, bytes: Some(1_000) };
            let units = (8, Unit::Tokens);
            Stage::new((*id).to_owned(), units, work, Product::Float, runs.to_vec())
        };
        let rates = Rates { read_bytes_per_s: 1e10, float_op_per_s: 1e11, int8_op_per_s: 1e12 };
        let mut report = Report {
            bench_version: BENCH_VERSION,
            measured_at: jiff::Timestamp::UNIX_EPOCH,
            machine: Host { cpu: "cpu".into(), cores: 2, ..Host::default() },
            build: Build::default(),
            model: Model { device: CPU.into(), ..Model::default() },
            limits: Limits { one: rates, all: rates, threads: 2, ..Limits::default() },
            memory: Memory { resident_bytes: 1, peak_bytes: 2 },
            stages: stages.iter().map(stage).collect(),
        };
        report.figure();
        report
    }

    #[test]
    fn what_is_written_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("report.json");
        let all = report(&[("tower", &[0.3, 0.1, 0.2]), ("decode-512", &[1.0 / 3.0])]);
        all.write(&path).unwrap();
        assert_eq!(Report::read(&path).unwrap(), all);
        all.write(&path).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left there");
        let nowhere = dir.path().join("no/report.json");
        assert!(all.write(&nowhere).unwrap_err().to_string().contains("no/report.json"));
    }

    #[test]
    fn runs_of_the_same_are_added() {
        let mut new = report(&[("tower", &[0.4]), ("projector", &[0.1])]);
        new.limits.all.int8_op_per_s = 1.0;
        let mut old = report(&[("tower", &[0.2, 0.3])]);
        old.memory.peak_bytes = 9;
        new.add(old.clone()).unwrap();
        assert_eq!(new.stages[0].runs_s, [0.2, 0.3, 0.4]);
        assert_eq!(new.stages[0].figures.median_s, 0.3);
        assert_eq!(new.stages[1].id, "projector");
        assert_eq!((new.memory.peak_bytes, new.limits.all.int8_op_per_s), (9, 1e12));
        let refused = |change: fn(&mut Report)| {
            let mut other = old.clone();
            change(&mut other);
            report(&[("tower", &[0.4])]).add(other).unwrap_err().to_string()
        };
        assert!(refused(|other| other.machine.cores = 3).contains("machine"));
        assert!(refused(|other| other.build.program = "b".into()).contains("program"));
        assert!(refused(|other| other.model.digest = "d".into()).contains("model"));
        assert!(refused(|other| other.stages[0].units = 9).contains("work"));
    }
}
