//! A station: one camera, its trigger, and a recipe, which says what to look at, what to ask and
//! how to judge one product.

use std::sync::Arc;
use std::time::Duration;

use crate::calibration::InUse;
use crate::camera;
use crate::footage::ClipOptions;
use crate::frame::Rgb8;
use crate::hard::Outputs;
use crate::plc;
use crate::quality::Gate;
use crate::roi::Region;
use crate::trigger;
use crate::verdict::{Expected, Rules};
use crate::vlm::AdapterRef;
use crate::vlm::grammar::answer::{AnswerError, AnswerSpec, DefectsSpec, FieldSpec, SerialSpec};
use crate::vlm::sampler::Sampling;

/// One place of inspection, as checked at start-up.
#[derive(Clone, Debug)]
pub struct Station {
    /// Its name: a topic level and a file name, so letters, digits, `-` and `_` only.
    pub name: String,
    /// The product's name.
    pub recipe: String,
    /// Where frames come from.
    pub camera: camera::Options,
    /// What is known of that camera; `None`: frames are taken as they come.
    pub calibration: Option<Arc<InUse>>,
    /// When a frame is to be inspected.
    pub trigger: trigger::Options,
    /// The named rectangles.
    pub regions: Vec<Region>,
    /// What is asked of pictures before anything is judged by them.
    pub quality: Gate,
    /// What is asked, in order. Questions about the same regions should stand together: they share
    /// the picture's part of the prompt.
    pub questions: Vec<Question>,
    /// What makes a part bad or doubtful.
    pub rules: Rules,
    /// How many frames of a part are asked about, and how they are joined.
    pub vote: Vote,
    /// From the trigger to the verdict; later is `review`.
    pub deadline: Duration,
    /// Parts that may wait for the model; one more is recorded as `review` at once.
    pub queue_parts: usize,
    /// Parts that pass in a minute, if it is known: held against what the machine can do.
    pub parts_per_minute: Option<f64>,
    /// Every n-th part is inspected, from the first on; the others are recorded as `review`.
    pub inspect_every: u32,
    /// Records of this station do not come from a line.
    pub is_simulated: bool,
    /// What was agreed on with the line's controller; `None`: nothing.
    pub plc: Option<plc::Options>,
    /// What shows verdicts without a broker.
    pub outputs: Outputs,
    /// How the seconds around a bad part are kept; `None`: they are not.
    pub clips: Option<ClipOptions>,
    /// By which number the controller asks for the recipe.
    pub recipe_index: u32,
    /// The same station with its other recipes: regions, quality, questions, rules and digest
    /// differ.
    pub other_recipes: Vec<Station>,
    /// Who is asked in place of the device's own model; `None`: that is asked.
    pub engine: Option<EngineUse>,
    /// SHA-256 of the configuration that this was made from.
    pub config_digest: String,
}

/// An engine elsewhere, as a station uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineUse {
    /// Its name in the configuration.
    pub name: String,
    /// Who answers where it does not.
    pub fallback: Fallback,
}

/// Who answers where an engine elsewhere does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fallback {
    /// Nobody: a person must look.
    #[default]
    Review,
    /// The device's own model.
    Local {
        /// Time before the deadline that is kept for it: the engine elsewhere is given up by then.
        reserve: Duration,
    },
}

/// One question about one or more regions.
#[derive(Clone, Debug)]
pub struct Question {
    /// Its name, unique in the station.
    pub name: String,
    /// The regions it is about, in order, as they were named.
    pub regions: Vec<String>,
    /// What is shown each time that it is put: regions, or their tiles. More than one where a region
    /// is cut into tiles that are looked at one by one.
    pub looks: Vec<Vec<String>>,
    /// A good part, shown first; `None`: only the part itself is shown.
    pub golden: Option<Golden>,
    /// What kind of answer is asked for.
    pub task: Task,
    /// The system text.
    pub system: String,
    /// Text-only examples: what is asked and what should be answered.
    pub examples: Vec<(String, String)>,
    /// The question, with `<image>` where a picture stands, or without: then pictures come first.
    pub text: String,
    /// Tiles of the high-definition view; 1 costs 313 tokens for a square.
    pub num_crops: usize,
    /// What the model is adapted by while it answers; `None`: the model alone.
    pub adapter: Option<AdapterRef>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// The smallest things that it must see, as far as somebody wrote them down.
    pub smallest: Smallest,
}

/// A picture of a good part, for comparison.
#[derive(Clone, PartialEq, Eq)]
pub struct Golden {
    /// The picture.
    pub picture: Arc<Rgb8>,
    /// SHA-256 of its file.
    pub digest: String,
    /// It is what the model sees, a square as evidence is kept; otherwise a frame, of which the same
    /// regions are cut.
    pub is_crop: bool,
}

/// Prints the digest, not a million bytes.
impl std::fmt::Debug for Golden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Golden({:?}, {})", self.picture, self.digest)
    }
}

/// Several frames of one part, and how many of them must say the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vote {
    /// Frames of the part.
    pub frames: usize,
    /// So many must agree; more than half of them.
    pub agree: usize,
}

impl Default for Vote {
    fn default() -> Vote {
        Vote { frames: 1, agree: 1 }
    }
}

/// The smallest things that a question must see.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Smallest {
    /// Height of the smallest text's capitals.
    pub text: Option<Length>,
    /// Length of the smallest defect.
    pub defect: Option<Length>,
}

/// A length, as somebody wrote it down.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Length {
    /// Pixels of the frame, or of the corrected frame where there is a calibration.
    Px(f64),
    /// Millimetres of the plane that was calibrated.
    Mm(f64),
}

impl Question {
    /// Pictures in one prompt.
    pub fn pictures(&self) -> usize {
        self.looks.first().map_or(0, Vec::len) + usize::from(self.golden.is_some())
    }
}

impl Station {
    /// Whether the device's own model is needed: to be asked, or where an engine elsewhere fails.
    pub fn needs_model(&self) -> bool {
        self.engine.as_ref().is_none_or(|used| used.fallback != Fallback::Review)
    }

    /// The station with each of its recipes, the first one first.
    pub fn recipes(&self) -> impl Iterator<Item = &Station> {
        std::iter::once(self).chain(&self.other_recipes)
    }

    /// The station with every question answered under `adapter`, or by the model alone.
    pub fn with_adapter(mut self, adapter: Option<&AdapterRef>) -> Station {
        let others = self.other_recipes.iter_mut().map(|recipe| &mut recipe.questions);
        for question in std::iter::once(&mut self.questions).chain(others).flatten() {
            question.adapter = adapter.cloned();
        }
        self
    }
}

/// What kind of answer a question asks for.
#[derive(Clone, Debug)]
pub enum Task {
    /// A serial number.
    Serial(SerialSpec),
    /// A list of defects.
    Defects(DefectsSpec),
    /// Named values.
    Fields(Vec<FieldSpec>),
}

impl Task {
    /// The typed answer that the grammar is made from; an error names the field that is wrong.
    pub fn answer(&self) -> Result<AnswerSpec, AnswerError> {
        match self {
            Task::Serial(spec) => AnswerSpec::serial(spec),
            Task::Defects(spec) => AnswerSpec::defects(spec),
            Task::Fields(fields) => AnswerSpec::fields(fields.clone()),
        }
    }

    /// How the answer is read back.
    pub fn expected(&self) -> Expected {
        match self {
            Task::Serial(_) => Expected::Serial,
            Task::Defects(_) => Expected::Defects,
            Task::Fields(fields) => {
                Expected::Fields(fields.iter().map(|field| field.name.clone()).collect())
            }
        }
    }
}
