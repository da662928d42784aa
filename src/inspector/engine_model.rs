//! The engine as the inspector's model: every question is prepared once, before it is asked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
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
    questions: Arc<Questions>,
    session: Session,
}

/// The questions that the engine is ready for. They may change while it answers.
pub struct Questions {
    engine: Arc<Engine>,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    current: HashMap<Key, Arc<Prepared>>,
    /// Those before the last change: a part that was in hand then may still ask them.
    previous: HashMap<Key, Arc<Prepared>>,
    adapters: Adapters,
}

/// Station, recipe, configuration and question.
type Key = (String, u32, String, String);

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

impl PrepareError {
    pub(super) fn new(station: &str, question: &str, why: Why) -> PrepareError {
        let (station, question) = (station.to_owned(), question.to_owned());
        PrepareError { station, question, why: Box::new(why) }
    }
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Why {
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
        let session = Session::new(&engine);
        let questions = Questions { engine, held: Mutex::default() };
        questions.prepare(stations)?;
        Ok(EngineModel { questions: Arc::new(questions), session })
    }

    /// What it is ready for, to be changed by others.
    pub fn questions(&self) -> Arc<Questions> {
        Arc::clone(&self.questions)
    }
}

impl Questions {
    /// Prepares every question of `stations`; they take the place of those before.
    ///
    /// # Errors
    /// The first question that cannot be asked. Then nothing has changed.
    pub fn prepare(&self, stations: &[Arc<Station>]) -> Result<(), PrepareError> {
        let mut current = HashMap::new();
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        for station in stations.iter().flat_map(|station| station.recipes()) {
            for question in &station.questions {
                let ready = self.ready(&mut held.adapters, station, question)?;
                current.insert(key(station, question), Arc::new(ready));
            }
        }
        held.previous = std::mem::replace(&mut held.current, current);
        let Held { current, previous, adapters } = &mut *held;
        adapters
            .keep(current.values().chain(previous.values()).filter_map(|one| one.adapter.as_ref()));
        Ok(())
    }

    fn ready(
        &self,
        adapters: &mut Adapters,
        station: &Station,
        question: &station::Question,
    ) -> Result<Prepared, PrepareError> {
        prepare(&self.engine, adapters, question)
            .map_err(|why| PrepareError::new(&station.name, &question.name, why))
    }

    /// The question of a part, whatever configuration the part was triggered under.
    fn get(
        &self,
        station: &Station,
        question: &station::Question,
    ) -> Result<Arc<Prepared>, PrepareError> {
        let key = key(station, question);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let Held { current, previous, adapters } = &mut *held;
        if let Some(ready) = current.get(&key).or_else(|| previous.get(&key)) {
            return Ok(Arc::clone(ready));
        }
        let ready = Arc::new(self.ready(adapters, station, question)?);
        previous.insert(key, Arc::clone(&ready));
        Ok(ready)
    }
}

fn key(station: &Station, question: &station::Question) -> Key {
    let digest = station.config_digest.clone();
    (station.name.clone(), station.recipe_index, digest, question.name.clone())
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
        let prepared = match self.questions.get(station, question) {
            Ok(prepared) => prepared,
            Err(why) => return Reply::new("", Err(why.to_string())),
        };
        let Prepared { question: ready, adapter } = &*prepared;
        let engine = &self.questions.engine;
        let prompt = ready.prompt(engine, crops.len()).unwrap_or_default();
        let pictures: Result<Vec<Picture<'_>>, EngineError> = crops
            .iter()
            .map(|crop| Picture::new(crop.picture.width, crop.picture.height, &crop.picture.data))
            .collect();
        let limits = Limits { deadline: Some(deadline), cancel: None };
        let answer = pictures.map_err(AskError::from).and_then(|pictures| {
            self.session.adapt(adapter.as_ref())?;
            engine.ask(&mut self.session, ready, &pictures, &limits)
        });
        if answer.is_err() {
            // What a failed pass left behind must not colour the next part's answer.
            self.session.reset();
        }
        Reply::new(prompt, answer.map_err(|error| error.to_string()))
    }
}
