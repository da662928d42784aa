//! Times a model on this machine: the first answer after a cold start, then its pace.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::estimate::{Origin, Speed};
use super::machine::Resident;
use crate::vlm::{
    DigestError, Engine, EngineError, EngineOptions, LoadError, ModelCard, Picture, Session,
};

/// Tokens written for each answer.
const ANSWER_TOKENS: usize = 16;
/// Answers timed after the first; the middle one counts.
const ROUNDS: usize = 3;
/// No further answer is begun after this time: a slow machine is measured with one.
const ROUNDS_LIMIT: Duration = Duration::from_secs(60);
/// Side of the picture: one view.
const SIDE_PX: u32 = 336;

const PROMPT: &str = "<|user|>\n<|image_1|>\nWhat is written on the label, and which marks, \
                      scratches, dents or stains does the surface show? Answer with all that can \
                      be seen, from the upper left to the lower right.<|end|>\n<|assistant|>\n";

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// The pace once it runs.
    pub speed: Speed,
    /// Seconds until the model was loaded, its files not in memory before.
    pub load_s: f64,
    /// Seconds from the beginning of loading until the first answer of 16 tokens could be recorded:
    /// it is there, and so is the model's digest.
    pub first_answer_s: f64,
    /// Resident memory after the last answer, in bytes.
    pub resident_bytes: u64,
    /// The most memory that was resident, in bytes.
    pub peak_bytes: u64,
    /// Of the resident: the process's own, in bytes.
    pub own_bytes: u64,
    /// Of the resident: pages of files, which the system can take back, in bytes.
    pub file_bytes: u64,
    /// Tokens of the prompt that was timed, one picture of one view included.
    pub prompt_tokens: usize,
}

impl Default for Measurement {
    fn default() -> Measurement {
        let speed = Speed {
            origin: Origin::Measured,
            view_s: 0.0,
            prefill_tokens_per_s: 0.0,
            decode_tokens_per_s: 0.0,
        };
        Measurement {
            speed,
            load_s: 0.0,
            first_answer_s: 0.0,
            resident_bytes: 0,
            peak_bytes: 0,
            own_bytes: 0,
            file_bytes: 0,
            prompt_tokens: 0,
        }
    }
}

/// Why a model could not be timed.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// It cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Its files cannot be hashed.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// It failed at work.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// One timed answer.
#[derive(Clone, Copy)]
struct Round {
    view_s: f64,
    prefill_tokens_per_s: f64,
    decode_tokens_per_s: f64,
    prompt_tokens: usize,
}

/// Loads the model at `path` and times it. Its files are asked to leave the page cache first, so
/// that the start is a cold one; the system may keep what others use.
///
/// # Errors
/// If it cannot be loaded, or fails at work.
pub fn measure(
    path: &Path,
    options: &EngineOptions,
) -> Result<(Engine, Measurement), MeasureError> {
    for file in ModelCard::open(path)?.files {
        let file = if path.is_dir() { path.join(file.name) } else { path.to_owned() };
        forget_pages(&file);
    }
    let start = Instant::now();
    let engine = Engine::load(path, options)?;
    let load_s = start.elapsed().as_secs_f64();
    let mut session = Session::new(&engine);
    let first = round(&engine, &mut session, 0)?;
    // A first answer counts when it can be recorded, and the pace when nothing is hashed beside it.
    engine.digest()?;
    let first_answer_s = start.elapsed().as_secs_f64();
    let mut rounds = Vec::new();
    let since = Instant::now();
    for number in 1..=ROUNDS {
        rounds.push(round(&engine, &mut session, number as u8)?);
        if since.elapsed() > ROUNDS_LIMIT {
            break;
        }
    }
    let memory = Resident::now();
    let middle = |figure: fn(&Round) -> f64| {
        let mut figures: Vec<f64> = rounds.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        figures[figures.len() / 2]
    };
    let speed = Speed {
        origin: Origin::Measured,
        view_s: middle(|round| round.view_s),
        prefill_tokens_per_s: middle(|round| round.prefill_tokens_per_s),
        decode_tokens_per_s: middle(|round| round.decode_tokens_per_s),
    };
    let measurement = Measurement {
        speed,
        load_s,
        first_answer_s,
        resident_bytes: memory.resident_bytes,
        peak_bytes: memory.peak_bytes,
        own_bytes: memory.own_bytes,
        file_bytes: memory.file_bytes,
        prompt_tokens: first.prompt_tokens,
    };
    drop(session);
    Ok((engine, measurement))
}

fn round(engine: &Engine, session: &mut Session, number: u8) -> Result<Round, EngineError> {
    session.reset();
    let pixels = pattern(number);
    let pictures = [Picture::new(SIDE_PX, SIDE_PX, &pixels)?];
    let encoded = engine.encode(PROMPT, &pictures, 1)?;
    let pass = session.prompt(engine, &encoded, &pictures)?;
    let start = Instant::now();
    let mut logits = pass.logits;
    for _ in 0..ANSWER_TOKENS {
        logits = session.append_last(engine, &[largest(&logits)])?;
    }
    let computed = pass.prompt_tokens - pass.reused_tokens;
    Ok(Round {
        view_s: (pass.preprocess + pass.tower).as_secs_f64().max(1e-9),
        prefill_tokens_per_s: computed as f64 / pass.prefill.as_secs_f64().max(1e-9),
        decode_tokens_per_s: ANSWER_TOKENS as f64 / start.elapsed().as_secs_f64().max(1e-9),
        prompt_tokens: pass.prompt_tokens,
    })
}

/// A picture that no other round shows, so that none is remembered.
fn pattern(number: u8) -> Vec<u8> {
    let pixel = |at: u32| {
        let (x, y) = (at / 3 % SIDE_PX, at / 3 / SIDE_PX);
        (x.wrapping_mul(7) ^ y.wrapping_mul(3)).wrapping_add(u32::from(number) * 41) as u8
    };
    (0..3 * SIDE_PX * SIDE_PX).map(pixel).collect()
}

fn largest(logits: &[f32]) -> u32 {
    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    best.map_or(0, |(id, _)| id as u32)
}

/// Asks the system to drop a file's pages. That it does is not certain, and nothing depends on it.
fn forget_pages(path: &Path) {
    let Ok(file) = File::open(path) else { return };
    // SAFETY: an open file of our own; the call only advises.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
}
