//! How right the answers are: a labelled set of pictures against what the inspector makes of them.
//!
//! [`truth`] is the label of a picture, [`score`] counts, this module walks the set.

pub mod score;
pub mod truth;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::clock::Clock;
use crate::frame::{Frame, Rgb8, file};
use crate::inspection::Inspection;
use crate::inspector::{EvidenceKeeper, Inspector, Model, Part, golden_crop};
use crate::quality::Gate;
use crate::roi::{Area, Region};
use crate::station::{Question, Station, Vote};

pub use score::{Report, Tally};
pub use truth::{SetError, Truth, read_set};

/// Keeps no evidence: an evaluation leaves nothing behind but its figures.
struct NoEvidence;

impl EvidenceKeeper for NoEvidence {
    fn keep(&self, _: &Rgb8) -> Result<String, String> {
        Ok(String::new())
    }
}

/// One picture that was answered wrongly, for people who want to look.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Miss {
    /// The picture's file.
    pub file: String,
    /// What the set says.
    pub truth: String,
    /// What came out.
    pub answer: String,
}

/// A station that looks at whole pictures, one of each part: a set holds what a region or one of its tiles
/// sees, not what a camera sees.
pub fn whole_picture_station(station: &Station) -> Station {
    let whole = |region: &Region| Region { name: region.name.clone(), area: Area::Whole };
    let mut rules = station.rules.clone();
    if let Some(serial) = &mut rules.serial {
        // The parts of a set were never on the line: no list expects them, and none is the second.
        (serial.expected, serial.unique) = (None, None);
    }
    Station {
        rules,
        questions: station
            .questions
            .iter()
            .map(|question| of_one_picture(station, question))
            .collect(),
        vote: Vote::default(),
        // Limits and references are those of a camera's frames, which a set does not hold.
        quality: Gate::default(),
        regions: station.regions.iter().map(whole).collect(),
        // What a region sees has been corrected already.
        calibration: None,
        // An evaluation asks whether answers are right, not whether this machine is fast.
        deadline: std::time::Duration::from_secs(3600),
        ..station.clone()
    }
}

/// The question about one picture, with the good part as the region shows it.
fn of_one_picture(station: &Station, question: &Question) -> Question {
    let mut question = question.clone();
    question.looks.truncate(1);
    let name = question.looks.first().and_then(|look| look.first());
    if let (Some(golden), Some(name)) = (&mut question.golden, name)
        && !golden.is_crop
        // One that cannot be cut stays as it is, and says so when it is asked about.
        && let Ok(crop) = golden_crop(station, golden, name)
    {
        (golden.picture, golden.is_crop) = (Arc::new(crop.picture), true);
    }
    question
}

/// Inspects every picture of the set in `dir` and counts. `seen` hears the number done and what came
/// out.
pub fn run<M: Model>(
    dir: &Path,
    truths: &[Truth],
    station: &Arc<Station>,
    inspector: &mut Inspector<M>,
    clock: &dyn Clock,
    mut seen: impl FnMut(u64, &Inspection),
) -> Result<(Report, Vec<Miss>), SetError> {
    let mut tally = Tally::new();
    let mut misses = Vec::new();
    for (at, truth) in truths.iter().enumerate() {
        let path = dir.join(&truth.file);
        let picture = read_picture(&path)?;
        let now = clock.now();
        let frame = Frame {
            sequence: at as u64 + 1,
            camera: Arc::from(station.name.as_str()),
            captured: now,
            pipeline_ns: None,
            picture: picture.into(),
        };
        let mut part = Part::new(station, at as u64 + 1, truth.file.clone(), now);
        part.frame = Some(Arc::new(frame));
        let inspection = inspector.inspect(&part, &NoEvidence);
        if !tally.count(truth, &inspection) {
            misses.push(miss(truth, &inspection));
        }
        seen(at as u64 + 1, &inspection);
    }
    Ok((tally.report(), misses))
}

fn read_picture(path: &Path) -> Result<Rgb8, SetError> {
    file::read(path).map_err(|why| SetError::Picture { path: PathBuf::from(path), why })
}

/// All answers of an inspection, or why there is none, in one line.
pub fn answers(inspection: &Inspection) -> String {
    let answers: Vec<String> = inspection
        .questions
        .iter()
        .map(|asked| match (&asked.answer, &asked.error) {
            (Some(answer), _) => answer.text.clone(),
            (None, why) => why.clone().unwrap_or_default(),
        })
        .collect();
    answers.join(" ")
}

fn miss(truth: &Truth, inspection: &Inspection) -> Miss {
    let answer = answers(inspection);
    Miss { file: truth.file.clone(), truth: truth.to_string(), answer }
}
