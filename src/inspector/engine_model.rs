//! The engine as the inspector's model: every question is prepared once, at start-up.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use super::adapters::{AdapterError, Adapters};
use super::{Model, Reply};
use crate::roi::Crop;
use crate::station::{self, Station};
use crate::vlm::ask::{AskError, Limits, Question};
use crate::vlm::grammar::{AnswerError, Grammar, GrammarError};
use crate::vlm::{Adapter, Engine, EngineError, Picture, Session};

/// Asks the engine. One session is kept, so that two questions about the same region share the
/// system text and the picture.
pub struct EngineModel {
    engine: Arc<Engine>,
    session: Session,
    /// By station, recipe and question.
    prepared: HashMap<(String, u32, String), Prepared>,
}

/// A question ready to be asked, and what stands beside the model while it is answered.
struct Prepared {
    question: Question,
    adapter: Option<Arc<Adapter>>,
}

/// Why a question cannot be put to this model.
#[derive(Debug, thiserror::Error)]
#[error("station \"{station}\", question \"{question}\": {why}")]
pub struct PrepareError {
    /// The station.
    station: String,
    /// The question.
    question: String,
    /// What is wrong.
    why: Box<Why>,
}

#[derive(Debug, thiserror::Error)]
enum Why {
    #[error(transparent)]
    Answer(#[from] AnswerError),
    #[error(transparent)]
    Grammar(#[from] GrammarError),
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error(transparent)]
    Adapter(#[from] AdapterError),
}

impl EngineModel {
    /// Prepares every question of `stations`: grammar, token budget, prompt, adapter. An error
    /// names the station and question that cannot be asked.
    pub fn new(
        engine: Arc<Engine>,
        stations: &[Arc<Station>],
    ) -> Result<EngineModel, PrepareError> {
        let mut prepared = HashMap::new();
        let mut adapters = Adapters::default();
        for station in stations.iter().flat_map(|station| station.recipes()) {
            for question in &station.questions {
                let (at, name) = (station.name.clone(), question.name.clone());
                let ready = prepare(&engine, &mut adapters, question).map_err(|why| {
                    PrepareError { station: at.clone(), question: name.clone(), why: Box::new(why) }
                })?;
                prepared.insert((at, station.recipe_index, name), ready);
            }
        }
        let session = Session::new(&engine);
        Ok(EngineModel { engine, session, prepared })
    }
}

fn prepare(
    engine: &Arc<Engine>,
    adapters: &mut Adapters,
    question: &station::Question,
) -> Result<Prepared, Why> {
    let vocabulary = engine.vocabulary()?;
    let grammar = Grammar::compile(&question.task.answer()?, &vocabulary)?;
    let ready = Question {
        system: question.system.clone(),
        examples: question.examples.clone(),
        text: question.text.clone(),
        num_crops: question.num_crops,
        grammar: Arc::new(grammar),
        sampling: question.sampling.clone(),
    };
    ready.check(engine, question.pictures())?;
    let adapter = question.adapter.as_ref().map(|wanted| adapters.get(engine, wanted));
    Ok(Prepared { question: ready, adapter: adapter.transpose()? })
}

impl Model for EngineModel {
    fn ask(
        &mut self,
        station: &Station,
        question: &station::Question,
        crops: &[&Crop],
        deadline: Instant,
    ) -> Reply {
        let key = (station.name.clone(), station.recipe_index, question.name.clone());
        let Some(Prepared { question: ready, adapter }) = self.prepared.get(&key) else {
            let answer = Err("the question was not prepared at start-up".to_owned());
            return Reply { prompt: String::new(), answer };
        };
        let prompt = ready.prompt(&self.engine, crops.len()).unwrap_or_default();
        let pictures: Result<Vec<Picture<'_>>, EngineError> = crops
            .iter()
            .map(|crop| Picture::new(crop.picture.width, crop.picture.height, &crop.picture.data))
            .collect();
        let limits = Limits { deadline: Some(deadline), cancel: None };
        let answer = pictures.map_err(AskError::from).and_then(|pictures| {
            self.session.adapt(adapter.as_ref())?;
            self.engine.ask(&mut self.session, ready, &pictures, &limits)
        });
        if answer.is_err() {
            // What a failed pass left behind must not colour the next part's answer.
            self.session.reset();
        }
        Reply { prompt, answer: answer.map_err(|error| error.to_string()) }
    }
}
