//! Reading a report back. A file is somebody else's: its size, its strings and its numbers are
//! bounded before anything is made of them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use serde_json::Value;

use super::super::probe::Rates;
use super::super::stage::{Stage, quartiles};
use super::{BENCH_VERSION, RUNS_MAX, Report, ReportError};

/// Largest file that is read, in bytes.
const FILE_MAX_BYTES: u64 = 4 << 20;
/// Most characters of a string.
const TEXT_MAX_CHARS: usize = 200;
/// Most stages of a report.
const STAGES_MAX: usize = 64;
/// Most features of a processor.
const FEATURES_MAX: usize = 64;
/// Longest run, in seconds: a day.
const RUN_MAX_S: f64 = 86_400.0;

impl Report {
    /// Reads the report in `path`.
    ///
    /// # Errors
    /// [`ReportError::Read`], or [`ReportError::Unusable`] with the field.
    pub fn read(path: &Path) -> Result<Report, ReportError> {
        let bytes = read_bounded(path)
            .map_err(|source| ReportError::Read { path: path.to_owned(), source })?;
        let unusable = |why: String| ReportError::Unusable { path: path.to_owned(), why };
        if bytes.len() as u64 > FILE_MAX_BYTES {
            return Err(unusable(format!("it is larger than {} MiB", FILE_MAX_BYTES >> 20)));
        }
        Report::parse(&bytes).map_err(unusable)
    }

    /// A report out of the bytes of a file, or what is wrong with it.
    fn parse(bytes: &[u8]) -> Result<Report, String> {
        let value: Value =
            serde_json::from_slice(bytes).map_err(|why| format!("it is not JSON ({why})"))?;
        match value.get("bench_version") {
            None => return Err("it has no bench_version".to_owned()),
            Some(version) if version.as_u64() != Some(BENCH_VERSION) => {
                let shown: String = version.to_string().chars().take(40).collect();
                return Err(format!(
                    "bench_version is {shown}, this program reads {BENCH_VERSION}"
                ));
            }
            Some(_) => {}
        }
        check_texts(&value, "report")?;
        let report: Report = serde_json::from_value(value).map_err(|why| short(&why))?;
        report.check()?;
        Ok(report)
    }

    fn check(&self) -> Result<(), String> {
        if self.stages.len() > STAGES_MAX {
            return Err(format!("it has more than {STAGES_MAX} stages"));
        }
        if self.machine.features.len() > FEATURES_MAX {
            return Err(format!("it has more than {FEATURES_MAX} features"));
        }
        let mut ids = BTreeSet::new();
        for stage in &self.stages {
            if !ids.insert(&stage.id) {
                return Err(format!("the stage \"{}\" is there twice", stage.id));
            }
            check_stage(stage).map_err(|why| format!("stage \"{}\": {why}", stage.id))?;
        }
        for (name, rates) in [("limits.one", &self.limits.one), ("limits.all", &self.limits.all)] {
            let Rates { read_bytes_per_s, float_op_per_s, int8_op_per_s } = *rates;
            let sane = |rate: f64| rate.is_finite() && (0.0..=1e18).contains(&rate);
            if ![read_bytes_per_s, float_op_per_s, int8_op_per_s].into_iter().all(sane) {
                return Err(format!("{name}: a rate is not between 0 and 1e18"));
            }
        }
        Ok(())
    }
}

fn check_stage(stage: &Stage) -> Result<(), String> {
    if stage.runs_s.is_empty() || stage.runs_s.len() > RUNS_MAX {
        return Err(format!("runs_s must have 1 to {RUNS_MAX} runs"));
    }
    let sane = |seconds: &f64| seconds.is_finite() && *seconds > 0.0 && *seconds <= RUN_MAX_S;
    if let Some(wrong) = stage.runs_s.iter().find(|seconds| !sane(seconds)) {
        return Err(format!("runs_s: {wrong} is not above 0 s and up to a day"));
    }
    let [low, median_s, high] = quartiles(&stage.runs_s);
    let near = |told: f64, counted: f64| (told - counted).abs() <= 1e-6 * median_s;
    if !near(stage.figures.median_s, median_s) {
        return Err("figures.median_s is not the median of runs_s".to_owned());
    }
    if !near(stage.figures.spread_s, high - low) {
        return Err("figures.spread_s is not the distance of the quartiles of runs_s".to_owned());
    }
    Ok(())
}

/// At most one byte more than is allowed, so that the caller can tell.
fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    // A pipe or a device would be waited for, perhaps for ever.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_MAX_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Strings end up on terminals: none is long, and none has a control character.
fn check_texts(value: &Value, at: &str) -> Result<(), String> {
    match value {
        Value::String(text) => {
            if text.chars().nth(TEXT_MAX_CHARS).is_some() {
                return Err(format!("{at} is longer than {TEXT_MAX_CHARS} characters"));
            }
            if text.chars().any(char::is_control) {
                return Err(format!("{at} has a control character"));
            }
            Ok(())
        }
        Value::Array(all) => all.iter().try_for_each(|value| check_texts(value, at)),
        Value::Object(fields) => fields.iter().try_for_each(|(name, value)| {
            let name: String = name.chars().filter(|c| !c.is_control()).take(40).collect();
            check_texts(value, &name)
        }),
        _ => Ok(()),
    }
}

/// An error of the JSON library, which may repeat what it found, in bounds.
fn short(why: &serde_json::Error) -> String {
    why.to_string().chars().filter(|c| !c.is_control()).take(TEXT_MAX_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::report;
    use super::*;

    #[test]
    fn a_hostile_file_is_one_clear_error() {
        let good = serde_json::to_value(report(&[("tower", &[0.2])])).unwrap();
        let changed = |pointer: &str, to: Value| {
            let mut value = good.clone();
            *value.pointer_mut(pointer).unwrap() = to;
            Report::parse(value.to_string().as_bytes()).unwrap_err()
        };
        let cases = [
            ("/bench_version", Value::from(2), "bench_version is 2"),
            ("/bench_version", Value::from("1"), "bench_version is"),
            ("/machine/cpu", Value::from("x".repeat(201)), "cpu is longer"),
            ("/machine/cpu", Value::from("\u{1b}[2J"), "cpu has a control"),
            ("/stages/0/id", Value::from("a\nb"), "id has a control"),
            ("/stages/0/runs_s", Value::from(Vec::<f64>::new()), "1 to 10000 runs"),
            ("/stages/0/runs_s", Value::from(vec![0.2, -1.0]), "-1 is not above 0"),
            ("/stages/0/runs_s", Value::from(vec![0.2; 10_001]), "1 to 10000 runs"),
            ("/stages/0/runs_s", Value::Null, "null"),
            ("/stages/0/figures/median_s", Value::from(0.4), "median_s is not the median"),
            ("/stages/0/figures/spread_s", Value::from(0.4), "spread_s is not"),
            ("/limits/all/float_op_per_s", Value::from(-1.0), "limits.all"),
            ("/stages", Value::from("none"), "expected a sequence"),
            ("/machine/features", Value::from(vec!["avx"; 65]), "more than 64 features"),
        ];
        for (pointer, value, words) in cases {
            let why = changed(pointer, value);
            assert!(why.contains(words), "{pointer}: {why}");
        }
        let mut twice = good.clone();
        let stages = twice["stages"].as_array_mut().unwrap();
        stages.push(stages[0].clone());
        assert!(Report::parse(twice.to_string().as_bytes()).unwrap_err().contains("twice"));
        for rubbish in
            ["", "{", "[]", "null", "{\"bench_version\":1}", "\u{0}", &"[".repeat(99_999)]
        {
            assert!(Report::parse(rubbish.as_bytes()).is_err());
        }
    }

    #[test]
    fn what_is_no_small_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("large.json");
        fs::write(&path, vec![b' '; FILE_MAX_BYTES as usize + 1]).unwrap();
        let words = Report::read(&path).unwrap_err().to_string();
        assert!(words.contains("large.json") && words.contains("4 MiB"), "{words}");
        assert!(Report::read(dir.path()).unwrap_err().to_string().contains("not a file"));
        assert!(Report::read(Path::new("/dev/zero")).is_err());
        assert!(Report::read(&dir.path().join("absent")).is_err());
    }
}
