//! How far a model in fewer bits moves from the same model in f32.
//!
//! The full model answers a few fixed prompts greedily ([`walk`]); the other one is led along the
//! same tokens ([`follow`]), so that each step compares one distribution with another, not two
//! texts that have parted. The prompts have a picture and no picture; they ask nothing of a model's
//! training, so they serve for random reference models, too.

use super::engine::Engine;
use super::error::EngineError;
use super::picture::Picture;
use super::pixels::TILE;
use super::quantize::eye;
use super::session::{PromptPass, Session};
use super::tokenizer::{Message, Role, chat_prompt, image_tag};

/// A prompt that models are compared on.
#[derive(Clone, Debug)]
pub struct Probe {
    /// The whole text after the chat template.
    pub prompt: String,
    /// Its pictures, each (336, 336, 3).
    pub pictures: Vec<Vec<u8>>,
}

/// What a model said to a probe, number for number.
#[derive(Clone, Debug)]
pub struct Trail {
    /// The first picture's embeddings, row by row; empty without a picture.
    pub embeddings: Vec<f32>,
    /// The most likely token after the prompt, and after each one before.
    pub ids: Vec<u32>,
    /// The logits from which each of `ids` was chosen.
    pub logits: Vec<Vec<f32>>,
}

/// The difference of two models over all probes.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Distance {
    /// Root mean square of the picture embeddings' error over that of the embeddings.
    pub embeddings_relative: f64,
    /// Root mean square of the logits' error over the logits' standard deviation: a constant added
    /// to all of them changes nothing.
    pub logits_relative: f64,
    /// The largest error of a single logit.
    pub logits_largest: f64,
    /// Steps at which both choose the same token.
    pub same_choice: u64,
    /// Steps.
    pub steps: u64,
}

/// The prompts: two of text, two with a picture.
pub fn probes() -> Vec<Probe> {
    let ask = |text: &str, pictures: Vec<Vec<u8>>| {
        let tags: String = (1..=pictures.len()).map(|k| image_tag(k) + "\n").collect();
        let content = tags + text;
        let prompt = chat_prompt(&[Message { role: Role::User, content: &content }]);
        Probe { prompt, pictures }
    };
    let upright = eye::test_pixels();
    let turned = upright.chunks_exact(3).rev().flatten().copied().collect();
    vec![
        ask("Name three things that can be wrong with a stamped part.", vec![]),
        ask("Answer with JSON: {\"serial\": \"A7-0042\", \"defects\": []}", vec![]),
        ask("Which defects does this part have?", vec![upright]),
        ask("Read the serial number.", vec![turned]),
    ]
}

/// Lets the model answer each probe with `steps` tokens, the most likely each time.
///
/// # Errors
/// As [`Session::prompt`].
pub fn walk(engine: &Engine, probes: &[Probe], steps: usize) -> Result<Vec<Trail>, EngineError> {
    probes.iter().map(|probe| walk_one(engine, probe, |_| None, steps)).collect()
}

/// Leads the model along `trails`, one for each probe, and says how far it is from them.
///
/// # Errors
/// As [`Session::prompt`].
pub fn follow(
    engine: &Engine,
    probes: &[Probe],
    trails: &[Trail],
) -> Result<Distance, EngineError> {
    let mut sums = Sums::default();
    let mut distance = Distance::default();
    for (probe, trail) in probes.iter().zip(trails) {
        let lead = |step: usize| trail.ids.get(step).copied();
        let other = walk_one(engine, probe, lead, trail.ids.len())?;
        for (a, b) in trail.embeddings.iter().zip(&other.embeddings) {
            sums.embedding += f64::from(*a).powi(2);
            sums.embedding_error += f64::from(a - b).powi(2);
        }
        for (full, near) in trail.logits.iter().zip(&other.logits) {
            let (size, error, largest) = compare(full, near);
            sums.logit += size;
            sums.logit_error += error;
            distance.logits_largest = distance.logits_largest.max(largest);
            distance.same_choice += u64::from(best(full) == best(near));
            distance.steps += 1;
        }
    }
    let relative = |error: f64, size: f64| if size > 0.0 { (error / size).sqrt() } else { 0.0 };
    distance.embeddings_relative = relative(sums.embedding_error, sums.embedding);
    distance.logits_relative = relative(sums.logit_error, sums.logit);
    Ok(distance)
}

#[derive(Default)]
struct Sums {
    embedding: f64,
    embedding_error: f64,
    logit: f64,
    logit_error: f64,
}

/// One probe's trail; `lead` says which token is put in place of the model's own.
fn walk_one(
    engine: &Engine,
    probe: &Probe,
    lead: impl Fn(usize) -> Option<u32>,
    steps: usize,
) -> Result<Trail, EngineError> {
    let side = TILE as u32;
    let pictures = probe.pictures.iter().map(|rgb| Picture::new(side, side, rgb));
    let pictures = pictures.collect::<Result<Vec<_>, _>>()?;
    let mut session = Session::new(engine);
    let encoded = engine.encode(&probe.prompt, &pictures, 1)?;
    let PromptPass { logits, .. } = session.prompt(engine, &encoded, &pictures)?;
    let embeddings = match pictures.first() {
        Some(picture) => engine.show(picture, 1)?.embeddings.flatten_all()?.to_vec1::<f32>()?,
        None => Vec::new(),
    };
    let mut trail = Trail { embeddings, ids: vec![best(&logits)], logits: vec![logits] };
    for step in 1..steps {
        let id = lead(step - 1).unwrap_or(trail.ids[step - 1]);
        let logits = session.append_last(engine, &[id])?;
        trail.ids.push(best(&logits));
        trail.logits.push(logits);
    }
    Ok(trail)
}

/// The most likely token; the first of equals.
fn best(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (id, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = id;
        }
    }
    best as u32
}

/// Squared deviations of `full` from its mean, squared errors of `near` less their mean, the
/// largest error.
fn compare(full: &[f32], near: &[f32]) -> (f64, f64, f64) {
    let count = full.len().max(1) as f64;
    let mean = full.iter().map(|v| f64::from(*v)).sum::<f64>() / count;
    let errors: Vec<f64> =
        full.iter().zip(near).map(|(a, b)| f64::from(*b) - f64::from(*a)).collect();
    let shift = errors.iter().sum::<f64>() / count;
    let size = full.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum();
    let error = errors.iter().map(|e| (e - shift).powi(2)).sum();
    (size, error, errors.iter().fold(0.0, |most: f64, e| most.max(e.abs())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_added_to_all_logits_is_no_error() {
        let (size, error, largest) = compare(&[1.0, 3.0], &[2.0, 4.0]);
        assert_eq!((size, error, largest), (2.0, 0.0, 1.0));
        let (_, error, _) = compare(&[1.0, 3.0], &[1.0, 4.0]);
        assert_eq!(error, 0.5);
    }

    #[test]
    fn the_first_of_equals_is_best() {
        assert_eq!(best(&[1.0, 3.0, 3.0]), 1);
    }

    #[test]
    fn the_probes_have_as_many_tags_as_pictures() {
        for probe in probes() {
            assert_eq!(probe.prompt.matches("<|image_").count(), probe.pictures.len());
            assert!(probe.pictures.iter().all(|rgb| rgb.len() == TILE * TILE * 3));
        }
    }
}
