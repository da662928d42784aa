//! What decides in a run, as its records name it.

use crate::inspection::ComputedOn;
use crate::vlm::{DigestError, Engine, PendingDigest, device};

/// What a record says of a model that has no digest.
const UNKNOWN: &str = "unknown";

/// The model of a run: which it is, and where it computes.
#[derive(Clone, Debug)]
pub struct Decider {
    model: Model,
    /// Where it computes, if that is known.
    pub computed_on: Option<ComputedOn>,
}

#[derive(Clone, Debug)]
enum Model {
    Named(String),
    Hashed(PendingDigest),
}

impl Decider {
    /// A loaded model. `fallback`: why it computes on no GPU, where one was hoped for.
    pub fn of(engine: &Engine, fallback: Option<String>) -> Decider {
        let options = engine.options();
        let computed_on = ComputedOn {
            processor: device::name(&options.device),
            precision: options.dtype.as_str().to_owned(),
            fallback,
        };
        let model = Model::Hashed(engine.pending_digest().clone());
        Decider { model, computed_on: Some(computed_on) }
    }

    /// The model's digest in hexadecimal; waits until it is known.
    ///
    /// # Errors
    /// If it cannot be computed.
    pub fn model(&self) -> Result<String, DigestError> {
        match &self.model {
            Model::Named(name) => Ok(name.clone()),
            Model::Hashed(digest) => digest.wait().map(|digest| digest.to_string()),
        }
    }

    /// The same, or a word that is no digest.
    pub(super) fn model_or_unknown(&self) -> String {
        self.model().unwrap_or_else(|_| UNKNOWN.to_owned())
    }

    /// Why no record can name the model any more, if that is so.
    pub fn failure(&self) -> Option<DigestError> {
        match &self.model {
            Model::Named(_) => None,
            Model::Hashed(digest) => digest.failure(),
        }
    }
}

impl From<PendingDigest> for Decider {
    fn from(digest: PendingDigest) -> Decider {
        Decider { model: Model::Hashed(digest), computed_on: None }
    }
}

/// A model that is not loaded here and goes by this name: a scripted one.
impl From<&str> for Decider {
    fn from(name: &str) -> Decider {
        Decider { model: Model::Named(name.to_owned()), computed_on: None }
    }
}
