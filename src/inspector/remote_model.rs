//! An engine elsewhere as an inspector's model. Where a station wants that, the device's own model
//! answers in its place once it has failed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::engine_model::PrepareError;
use super::{Model, NoAnswer, Reply};
use crate::frame::file;
use crate::remote::answered::FallenBack;
use crate::remote::{self, Engine, Told};
use crate::roi::Crop;
use crate::station::{Fallback, Question, Station};

/// The reason's code for a question that was put to the device's own model and got no place there.
const FALLBACK_FULL: &str = "fallback_full";

/// No model: every station asks an engine elsewhere and falls back on nobody.
pub struct NoModel;

impl Model for NoModel {
    fn ask(&mut self, _: &Station, _: &Question, _: &[&Crop], _: Instant) -> Reply {
        Reply::new("", Err("this device has no model of its own".to_owned()))
    }
}

/// What is known of a question by station, recipe and name.
type ByName<T> = HashMap<(String, u32, String), T>;

/// Asks one engine what its stations ask. Cheap to clone: each of the threads that ask has one.
#[derive(Clone)]
pub struct RemoteModel {
    engine: Arc<Engine>,
    prepared: Arc<Mutex<ByName<Arc<Prepared>>>>,
    local: Option<Arc<dyn LocalAsker>>,
}

struct Prepared {
    question: remote::Question,
    /// For another thread to look into, and to tell whether it is still this one.
    station: Arc<Station>,
}

/// A question on its way to the device's own model.
pub struct RemoteQuestion {
    /// The station, with the recipe that it is asked for.
    pub station: Arc<Station>,
    /// The question's name.
    pub question: String,
    /// What is shown.
    pub crops: Vec<Crop>,
    /// When to give up.
    pub deadline: Instant,
}

/// Puts questions to the device's own model, which another thread owns.
pub trait LocalAsker: Send + Sync {
    /// What it makes of the question; `None`: there was no place for it, or no answer by its deadline.
    fn ask(&self, question: RemoteQuestion) -> Option<Reply>;
}

impl RemoteModel {
    /// Prepares every question of those `stations` that ask this engine. `local` answers where a station
    /// falls back.
    ///
    /// # Errors
    /// As [`RemoteModel::prepare`].
    pub fn new(
        engine: Arc<Engine>,
        stations: &[Arc<Station>],
        local: Option<Arc<dyn LocalAsker>>,
    ) -> Result<RemoteModel, PrepareError> {
        let model = RemoteModel { engine, prepared: Arc::default(), local };
        model.prepare(stations)?;
        Ok(model)
    }

    /// Prepares every question of those `stations` that ask this engine.
    ///
    /// # Errors
    /// The station and question that cannot be asked.
    pub fn prepare(&self, stations: &[Arc<Station>]) -> Result<(), PrepareError> {
        let name = &self.engine.options().name;
        let asks = |station: &&Arc<Station>| {
            station.engine.as_ref().is_some_and(|used| used.name == *name)
        };
        for station in stations.iter().filter(asks).flat_map(|station| station.recipes()) {
            for question in &station.questions {
                self.prepared(station, question)?;
            }
        }
        Ok(())
    }

    /// The question, prepared: anew if the station is configured otherwise than it was.
    fn prepared(
        &self,
        station: &Station,
        question: &Question,
    ) -> Result<Arc<Prepared>, PrepareError> {
        let key = (station.name.clone(), station.recipe_index, question.name.clone());
        let mut known = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |ready: &&Arc<Prepared>| ready.station.config_digest == station.config_digest;
        if let Some(ready) = known.get(&key).filter(same) {
            return Ok(Arc::clone(ready));
        }
        let ready = prepare(question)
            .map_err(|why| PrepareError::new(&station.name, &question.name, why))?;
        let ready = Arc::new(Prepared { question: ready, station: Arc::new(station.clone()) });
        known.insert(key, Arc::clone(&ready));
        Ok(ready)
    }

    /// The engine.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Lets the device's own model answer, and notes why.
    fn fall_back(&self, told: Told, failure: NoAnswer, question: RemoteQuestion) -> Reply {
        let asked = self.local.as_ref().and_then(|local| local.ask(question));
        let mut by = told.by;
        match asked {
            Some(reply) => {
                by.is_unrated = false;
                let (code, text) = (failure.code.to_owned(), failure.text);
                by.fallen_back = Some(FallenBack { code, text });
                Reply { answered_by: Some(by), ..reply }
            }
            None => {
                let text = format!("{} The device's own model had no time for it.", failure.text);
                let answer = Err(NoAnswer { code: FALLBACK_FULL, text });
                Reply { prompt: told.prompt, answer, answered_by: Some(by) }
            }
        }
    }
}

fn prepare(question: &Question) -> Result<remote::Question, super::engine_model::Why> {
    let mut ready = remote::Question::new(&question.name, &question.task.answer()?)?;
    ready.system.clone_from(&question.system);
    ready.examples.clone_from(&question.examples);
    ready.text.clone_from(&question.text);
    ready.sampling.clone_from(&question.sampling);
    Ok(ready)
}

impl Model for RemoteModel {
    fn ask(
        &mut self,
        station: &Station,
        question: &Question,
        crops: &[&Crop],
        deadline: Instant,
    ) -> Reply {
        let ready = match self.prepared(station, question) {
            Ok(ready) => ready,
            Err(why) => return Reply::new("", Err(why.to_string())),
        };
        // The very files that are kept as evidence.
        let pictures: Result<Vec<Vec<u8>>, _> =
            crops.iter().map(|crop| file::png(&crop.picture)).collect();
        let pictures = match pictures {
            Ok(pictures) => pictures,
            Err(why) => return Reply::new("", Err(format!("a picture cannot be sent: {why}"))),
        };
        let fallback = station.engine.as_ref().map(|used| used.fallback).unwrap_or_default();
        let by_then = match fallback {
            Fallback::Review => deadline,
            // The device's own model needs time, too.
            Fallback::Local { reserve } => deadline.checked_sub(reserve).unwrap_or(deadline),
        };
        let mut told = self.engine.ask(&ready.question, &pictures, by_then);
        let failure = match told.answer {
            Ok(answer) => {
                return Reply {
                    prompt: told.prompt,
                    answer: Ok(answer),
                    answered_by: Some(told.by),
                };
            }
            Err(ref failure) => NoAnswer { code: failure.why.code(), text: failure.text.clone() },
        };
        if fallback == Fallback::Review {
            let prompt = std::mem::take(&mut told.prompt);
            return Reply { prompt, answer: Err(failure), answered_by: Some(told.by) };
        }
        let question = RemoteQuestion {
            station: Arc::clone(&ready.station),
            question: question.name.clone(),
            crops: crops.iter().map(|crop| (*crop).clone()).collect(),
            deadline,
        };
        self.fall_back(told, failure, question)
    }
}
