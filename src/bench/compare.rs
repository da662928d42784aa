//! Two reports side by side: which stages are slower or faster by more than the noise of both.

use super::report::Report;
use super::stage::Stage;

/// How a stage has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Slower by more than the noise.
    Slower,
    /// Faster by more than the noise.
    Faster,
    /// No more than the noise.
    Same,
}

/// A stage that both reports have.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Its name.
    pub id: String,
    /// The median of the old report, in seconds.
    pub old_s: f64,
    /// The median of the new one.
    pub new_s: f64,
    /// New time over old time: above 1 is slower.
    pub ratio: f64,
    /// The spread of both as a share of the old median: what may be chance.
    pub noise: f64,
    /// What that means.
    pub change: Change,
}

/// The comparison of two reports.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison {
    /// The stages of both, in the new report's order.
    pub lines: Vec<Line>,
    /// Stages of one report alone, and those of one name with different work.
    pub left_out: Vec<String>,
    /// What else differs, so that a ratio may not mean what one thinks.
    pub remarks: Vec<String>,
}

impl Comparison {
    /// Compares `new` with `old`.
    pub fn of(old: &Report, new: &Report) -> Comparison {
        let mut lines = Vec::new();
        let mut left_out = Vec::new();
        for stage in &new.stages {
            match old.stages.iter().find(|other| other.id == stage.id) {
                None => left_out.push(format!("{}: only in the new report", stage.id)),
                Some(other) if (other.unit, other.units) != (stage.unit, stage.units) => {
                    left_out.push(format!("{}: one run is not the same work", stage.id));
                }
                Some(other) => lines.push(Line::of(other, stage)),
            }
        }
        for stage in &old.stages {
            if !new.stages.iter().any(|other| other.id == stage.id) {
                left_out.push(format!("{}: only in the old report", stage.id));
            }
        }
        Comparison { lines, left_out, remarks: remarks(old, new) }
    }

    /// Stages that are slower by more than `percent` of the old time, and by more than the noise.
    pub fn slower_than(&self, percent: f64) -> impl Iterator<Item = &Line> {
        let is_worse = move |line: &&Line| {
            line.change == Change::Slower && (line.ratio - 1.0) * 100.0 > percent
        };
        self.lines.iter().filter(is_worse)
    }
}

impl Line {
    fn of(old: &Stage, new: &Stage) -> Line {
        let (old_s, new_s) = (old.figures.median_s, new.figures.median_s);
        let noise_s = old.figures.spread_s + new.figures.spread_s;
        let change = match new_s - old_s {
            more if more > noise_s => Change::Slower,
            less if -less > noise_s => Change::Faster,
            _ => Change::Same,
        };
        let (ratio, noise) = (new_s / old_s, noise_s / old_s);
        Line { id: old.id.clone(), old_s, new_s, ratio, noise, change }
    }
}

fn remarks(old: &Report, new: &Report) -> Vec<String> {
    let mut remarks = Vec::new();
    let mut note = |what: &str, old: &str, new: &str| {
        if old != new {
            remarks.push(format!("{what}: {old} before, {new} now"));
        }
    };
    note("machine", &old.machine.cpu, &new.machine.cpu);
    note("cores", &old.machine.cores.to_string(), &new.machine.cores.to_string());
    note("threads", &old.model.threads.to_string(), &new.model.threads.to_string());
    note("build", &old.build.profile, &new.build.profile);
    note("version", &old.build.version, &new.build.version);
    note("model", &named(old), &named(new));
    note("device", &old.model.device, &new.model.device);
    note("precision", &old.model.precision, &new.model.precision);
    note("cache", &old.model.cache, &new.model.cache);
    note("station", start(&old.model.station), start(&new.model.station));
    let few = |report: &Report| report.stages.iter().any(|stage| stage.runs_s.len() < 3);
    if few(old) || few(new) {
        remarks.push("fewer than 3 runs of a stage: its noise is not known".to_owned());
    }
    remarks
}

fn named(report: &Report) -> String {
    format!("{} ({})", report.model.name, start(&report.model.digest))
}

/// Enough of a digest to tell it from another.
fn start(digest: &str) -> &str {
    digest.char_indices().nth(12).map_or(digest, |(at, _)| &digest[..at])
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::report;
    use super::*;

    fn line(old: &[f64], new: &[f64]) -> Line {
        let comparison = Comparison::of(&report(&[("a", old)]), &report(&[("a", new)]));
        comparison.lines[0].clone()
    }

    #[test]
    fn only_what_exceeds_the_noise_of_both_is_a_change() {
        let steady = line(&[1.0, 1.0, 1.0], &[1.1, 1.1, 1.1]);
        assert_eq!(steady.change, Change::Slower);
        assert!((steady.ratio - 1.1).abs() < 1e-9 && steady.noise == 0.0);
        // Quartiles 0.9 and 1.1, then 1.1 and 1.3: 0.2 + 0.2 of noise against 0.2.
        assert_eq!(line(&[0.8, 1.0, 1.2], &[1.0, 1.2, 1.4]).change, Change::Same);
        assert_eq!(line(&[0.8, 1.0, 1.2], &[1.3, 1.5, 1.7]).change, Change::Slower);
        assert_eq!(line(&[1.3, 1.5, 1.7], &[0.8, 1.0, 1.2]).change, Change::Faster);
        assert_eq!(line(&[1.0], &[1.0]).change, Change::Same);
        // One bad run among many is no change.
        assert_eq!(line(&[1.0; 5], &[1.0, 1.0, 1.0, 1.0, 9.0]).change, Change::Same);
    }

    #[test]
    fn a_gate_counts_what_is_slower_by_more_than_it_allows() {
        let old = report(&[("a", &[1.0; 3]), ("b", &[1.0; 3]), ("c", &[1.0; 3])]);
        let new = report(&[("a", &[1.5; 3]), ("b", &[1.05; 3]), ("c", &[0.5; 3])]);
        let comparison = Comparison::of(&old, &new);
        let slower = |percent| -> Vec<&str> {
            comparison.slower_than(percent).map(|line| line.id.as_str()).collect()
        };
        assert_eq!(slower(0.0), ["a", "b"]);
        assert_eq!(slower(10.0), ["a"]);
        assert!(slower(60.0).is_empty());
    }

    #[test]
    fn what_cannot_be_compared_is_named() {
        let mut old = report(&[("a", &[1.0]), ("b", &[1.0]), ("old", &[1.0])]);
        let new = report(&[("a", &[1.0]), ("b", &[1.0]), ("new", &[1.0])]);
        old.stages[1].units = 99;
        old.machine.cpu = "another".into();
        old.model.digest = "0123456789abcdef".into();
        let comparison = Comparison::of(&old, &new);
        assert_eq!(comparison.lines.len(), 1);
        let left_out = comparison.left_out.join("\n");
        for words in ["b: one run", "new: only in the new", "old: only in the old"] {
            assert!(left_out.contains(words), "{left_out}");
        }
        let remarks = comparison.remarks.join("\n");
        assert!(remarks.contains("machine: another before, cpu now"), "{remarks}");
        assert!(remarks.contains("0123456789ab)") && remarks.contains("fewer than 3"), "{remarks}");
    }
}
