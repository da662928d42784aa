//! Runs the stages of the engine: tower, projector, prefill, decode.

use std::time::Instant;

use candle_core::{Device, Tensor};

use super::count::{self, Work};
use super::stage::{Product, Stage, Unit};
use super::{BenchError, Kind, Plan};
use crate::vlm::pixels::{Layout, TILE};
use crate::vlm::weight_bytes::WeightBytes;
use crate::vlm::{Encoded, Engine, EngineError, Picture, Session};

/// Tokens that one run of the decode stage writes, one after the other.
pub const DECODE_TOKENS: usize = 8;

/// Measures the stages of `plan` that need no station, in order. `seen` hears the stage's name
/// before each run, runs that do not count included.
///
/// # Errors
/// A length that does not fit, before any run; or the engine's own.
pub fn measure(
    engine: &Engine,
    plan: &Plan,
    seen: &mut dyn FnMut(&str),
) -> Result<Vec<Stage>, BenchError> {
    check_lengths(engine, plan)?;
    let mut stages = Vec::new();
    for kind in &plan.stages {
        match kind {
            Kind::Tower => stages.push(tower(engine, plan, seen)?),
            Kind::Projector => stages.push(projector(engine, plan, seen)?),
            Kind::Prefill => {
                for tokens in &plan.lengths {
                    stages.push(prefill(engine, plan, *tokens, seen)?);
                }
            }
            Kind::Decode => {
                for held in &plan.lengths {
                    stages.push(decode(engine, plan, *held, seen)?);
                }
            }
            Kind::Inspection => {}
        }
    }
    Ok(stages)
}

/// Times `plan.runs` calls of `run` after those that warm up. `prepare` makes what a run takes, by
/// the run's number, and is not timed.
pub(super) fn time<T>(
    plan: &Plan,
    id: &str,
    seen: &mut dyn FnMut(&str),
    mut prepare: impl FnMut(usize) -> T,
    mut run: impl FnMut(T) -> Result<(), BenchError>,
) -> Result<Vec<f64>, BenchError> {
    let mut runs_s = Vec::with_capacity(plan.runs);
    for number in 0..plan.warm_up + plan.runs {
        seen(id);
        let prepared = prepare(number);
        let start = Instant::now();
        run(prepared)?;
        // A clock may not tell two moments apart; no run takes no time.
        let elapsed_s = start.elapsed().as_secs_f64().max(1e-9);
        if number >= plan.warm_up {
            runs_s.push(elapsed_s);
        }
    }
    Ok(runs_s)
}

fn check_lengths(engine: &Engine, plan: &Plan) -> Result<(), BenchError> {
    let decodes = plan.stages.contains(&Kind::Decode);
    if !decodes && !plan.stages.contains(&Kind::Prefill) {
        return Ok(());
    }
    let more = if decodes { DECODE_TOKENS } else { 0 };
    let border = engine.decoder().rope().original_positions();
    for &tokens in &plan.lengths {
        if tokens == 0 || tokens.saturating_add(more) > engine.context_len() {
            let most = engine.context_len().saturating_sub(more);
            return Err(BenchError::Length { tokens, most });
        }
        if tokens < border && tokens + more > border {
            return Err(BenchError::Border { tokens, border });
        }
    }
    Ok(())
}

fn tower(engine: &Engine, plan: &Plan, seen: &mut dyn FnMut(&str)) -> Result<Stage, BenchError> {
    let view = view(engine)?; // (3, 336, 336)
    let runs = time(plan, "tower", seen, drop, |()| {
        engine.tower().forward(&view).map_err(EngineError::from)?; // (576, width)
        wait(engine)
    })?;
    let weights = engine.tower().weight_bytes();
    let flop = count::view_flop(&engine.config().vision);
    let work = Work { flop, bytes: Some(weights.total()) };
    Ok(Stage::new("tower".to_owned(), (1, Unit::Views), work, product(weights), runs))
}

fn projector(
    engine: &Engine,
    plan: &Plan,
    seen: &mut dyn FnMut(&str),
) -> Result<Stage, BenchError> {
    let features = engine.tower().forward(&view(engine)?).map_err(EngineError::from)?; // (576, width)
    let layout = Layout::of(TILE as u32, TILE as u32, 1)?;
    let tiles = [features.clone()];
    let runs = time(plan, "projector", seen, drop, |()| {
        engine.projector().forward(&features, &tiles, &layout).map_err(EngineError::from)?;
        wait(engine)
    })?;
    let weights = engine.projector().weight_bytes();
    let (vision, decoder) = (&engine.config().vision, &engine.config().decoder);
    let flop = count::projector_flop(vision, decoder, layout.tokens());
    let work = Work { flop, bytes: Some(weights.total()) };
    let units = (layout.tokens() as u64, Unit::Tokens);
    Ok(Stage::new("projector".to_owned(), units, work, product(weights), runs))
}

fn prefill(
    engine: &Engine,
    plan: &Plan,
    tokens: usize,
    seen: &mut dyn FnMut(&str),
) -> Result<Stage, BenchError> {
    let text = text(engine, tokens)?;
    let mut session = Session::new(engine);
    let id = format!("prefill-{tokens}");
    let runs = time(plan, &id, seen, drop, |()| {
        session.reset();
        session.prompt(engine, &text, &[])?;
        Ok(())
    })?;
    let weights = decoder_weights(engine);
    let units = (tokens as u64, Unit::Tokens);
    Ok(Stage::new(id, units, prefill_work(engine, 0, tokens), product(weights), runs))
}

fn decode(
    engine: &Engine,
    plan: &Plan,
    held: usize,
    seen: &mut dyn FnMut(&str),
) -> Result<Stage, BenchError> {
    let (text, next) = (text(engine, held)?, text(engine, DECODE_TOKENS)?);
    let mut session = Session::new(engine);
    session.prompt(engine, &text, &[])?;
    // Just behind the short factors' length the first token computes all anew, and is not counted.
    session.append_last(engine, &[0])?;
    let id = format!("decode-{held}");
    let runs = time(plan, &id, seen, drop, |()| {
        session.truncate(held);
        for token in &next.ids {
            session.append_last(engine, &[*token as u32])?; // the ids of a text are not negative
        }
        Ok(())
    })?;
    let weights = decoder_weights(engine);
    let units = (DECODE_TOKENS as u64, Unit::Tokens);
    Ok(Stage::new(id, units, decode_work(engine, held, DECODE_TOKENS), product(weights), runs))
}

/// Reading a prompt of `tokens` after `held` ones, in the engine's chunks, with one row of logits.
pub(super) fn prefill_work(engine: &Engine, held: usize, tokens: usize) -> Work {
    let decoder = &engine.config().decoder;
    let (layers, head) = (engine.decoder().layer_bytes(), engine.decoder().head_bytes());
    let form = engine.cache_form();
    let mut bytes = head.total();
    let mut from = 0;
    while from < tokens {
        let rows = engine.options().prefill_chunk.min(tokens - from);
        bytes += layers.total() + count::cache_bytes(decoder, held + from, rows, form);
        from += rows;
    }
    let flop = count::layers_flop(decoder, held, tokens) + count::logits_flop(decoder, 1);
    Work { flop, bytes: Some(bytes) }
}

/// Writing `tokens` after `held` ones, one in each pass.
pub(super) fn decode_work(engine: &Engine, held: usize, tokens: usize) -> Work {
    let decoder = &engine.config().decoder;
    let weights = decoder_weights(engine).total();
    let form = engine.cache_form();
    let cache = |at| count::cache_bytes(decoder, held + at, 1, form);
    let flop = count::layers_flop(decoder, held, tokens) + count::logits_flop(decoder, tokens);
    let bytes = tokens as u64 * weights + (0..tokens).map(cache).sum::<u64>();
    Work { flop, bytes: Some(bytes) }
}

fn decoder_weights(engine: &Engine) -> WeightBytes {
    [engine.decoder().layer_bytes(), engine.decoder().head_bytes()].into_iter().sum()
}

/// The kind of product by which most of these weights are multiplied.
pub(super) fn product(weights: WeightBytes) -> Product {
    if weights.blocks > weights.dense { Product::Int8 } else { Product::Float }
}

/// A view of a picture that is the same at every run: (3, 336, 336).
fn view(engine: &Engine) -> Result<Tensor, BenchError> {
    let side = TILE as u32;
    let pixel = |at: u32| ((at / 3 % side * 7) ^ (at / 3 / side * 3)) as u8;
    let rgb: Vec<u8> = (0..3 * side * side).map(pixel).collect();
    let views = engine.views(&Picture::new(side, side, &rgb)?, 1)?;
    let options = engine.options();
    let tensor = Tensor::from_slice(&views.global, (3, TILE, TILE), &options.device)
        .and_then(|view| view.to_dtype(options.dtype));
    Ok(tensor.map_err(EngineError::from)?)
}

/// A text of so many tokens, always the same, of ids from all over the vocabulary.
fn text(engine: &Engine, tokens: usize) -> Result<Encoded, BenchError> {
    let vocab = engine.vocab_size();
    let id = |at: usize| (at.wrapping_mul(7_919) % vocab) as i32; // a vocabulary has at most 2^20 ids
    Ok(Encoded::from_ids((0..tokens).map(id).collect(), &[], 1, vocab)?)
}

/// A GPU answers before it has computed.
fn wait(engine: &Engine) -> Result<(), BenchError> {
    let device: &Device = &engine.options().device;
    Ok(device.synchronize().map_err(EngineError::from)?)
}
