//! A sequence in progress: one KV cache and the knowledge of what it holds.
//!
//! What the cache holds is kept as slots (a text id, or a row of a picture), so a new prompt can be
//! compared with it: the common beginning is kept, the rest forgotten and computed. Two questions
//! about one picture share the system text and the picture. A prompt is computed seam by seam
//! (where text and pictures meet) and reused only up to a seam, so that a reused beginning gives
//! the same numbers as a fresh computation, to the last bit: a record can be repeated whatever was
//! asked before.
//!
//! **Past the short RoPE factors** (4096 positions in the published models). A row computed with
//! one factor list cannot serve a pass with the other, so every slot remembers its list. Turning
//! cached keys on would not be enough: the values and the deeper layers' keys come from attention
//! that saw the old rotation. With [`LongContext::Reprefill`] the whole sequence is therefore
//! computed again, from embeddings (pictures do not pass the tower again); with
//! [`LongContext::Keep`] the old rows stay and only new ones use the long list.

use std::sync::Arc;
use std::time::{Duration, Instant};

use candle_core::Tensor;

use super::config::LongContext;
use super::digest::Digest;
use super::encoded::Encoded;
use super::engine::{Engine, EngineId};
use super::error::EngineError;
use super::kv_cache::KvCache;
use super::lora::Adapter;
use super::picture::Picture;
use super::picture_memory::{PictureKey, PictureMemory};
use super::rope::Regime;

/// A sequence in progress. Works with the engine it was made for.
pub struct Session {
    cache: KvCache,
    /// One entry for each position in the cache.
    held: Vec<Held>,
    pictures: PictureMemory,
    engine: EngineId,
    /// What stood beside the layers when every held position was computed.
    adapter: Option<Arc<Adapter>>,
}

/// What stands at a position.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Slot {
    Text(u32),
    Picture { key: PictureKey, row: usize },
}

/// A computed position: what it is and with which factor list it was computed.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Held {
    slot: Slot,
    regime: Regime,
}

/// Which rows of logits a caller wants.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rows {
    None,
    Last,
    All,
}

/// What a prompt's pass gave and what it cost.
#[derive(Clone, Debug)]
pub struct PromptPass {
    /// What follows the prompt: one number for each id of the vocabulary.
    pub logits: Vec<f32>,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Those of them that are pictures.
    pub image_tokens: usize,
    /// Those of them that were already in the cache.
    pub reused_tokens: usize,
    /// Time for resizing, padding and normalising pictures. Zero if all were remembered.
    pub preprocess: Duration,
    /// Time in tower and projector. Zero if all pictures were remembered.
    pub tower: Duration,
    /// Time in the decoder.
    pub prefill: Duration,
}

impl Session {
    /// An empty session. Memory for the cache is taken as positions come.
    pub fn new(engine: &Engine) -> Session {
        let options = engine.options();
        let config = &engine.config().decoder;
        Session {
            cache: KvCache::new(config, engine.context_len(), engine.cache_form(), &options.device),
            held: Vec::new(),
            pictures: PictureMemory::new(options.picture_cache_bytes),
            engine: engine.id(),
            adapter: None,
        }
    }

    /// Computes with `adapter` from now on; `None`: with the model alone. All positions are
    /// forgotten if they were computed with another one; remembered pictures stay, as the tower has
    /// no adapter.
    ///
    /// # Errors
    /// [`EngineError::Prompt`] if the adapter was loaded for another model; the session is then
    /// unchanged.
    pub fn adapt(&mut self, adapter: Option<&Arc<Adapter>>) -> Result<(), EngineError> {
        if adapter.is_some_and(|adapter| adapter.engine() != self.engine) {
            let problem = "the adapter was loaded for another model".to_string();
            return Err(EngineError::Prompt(problem));
        }
        let digest = |adapter: &Arc<Adapter>| adapter.digest();
        if adapter.map(digest) != self.adapter.as_ref().map(digest) {
            self.reset();
            self.adapter = adapter.cloned();
        }
        Ok(())
    }

    /// Makes the session hold exactly this prompt, reusing the longest common beginning, and
    /// returns what follows it. `pictures` are those that were encoded, in the same order.
    ///
    /// # Errors
    /// [`EngineError::Prompt`] if the pictures are not those of the prompt,
    /// [`EngineError::ContextFull`] before any computation. After another error the session holds a
    /// beginning of the prompt and can go on being used.
    pub fn prompt(
        &mut self,
        engine: &Engine,
        encoded: &Encoded,
        pictures: &[Picture<'_>],
    ) -> Result<PromptPass, EngineError> {
        self.check_engine(engine)?;
        let slots = slots_of(encoded)?;
        engine.check_room(slots.len(), 0)?;
        let (preprocess, tower) = self.see(engine, encoded, pictures)?;

        let start = Instant::now();
        let regime = engine.decoder().rope().regime(slots.len());
        let reused_tokens = self.reusable(&slots, regime);
        self.truncate(reused_tokens);
        let mut rows = self.extend_by_seams(engine, &slots[reused_tokens..], regime, Rows::Last)?;
        Ok(PromptPass {
            logits: rows.pop().unwrap_or_default(),
            prompt_tokens: slots.len(),
            image_tokens: encoded.total_image_tokens(),
            reused_tokens,
            preprocess,
            tower,
            prefill: start.elapsed(),
        })
    }

    /// How many positions of `slots` are held already, as they would be computed anew, to the last
    /// bit: up to the last seam that both have in common. The last position must run, as its logits
    /// are the result.
    fn reusable(&self, slots: &[Slot], regime: Regime) -> usize {
        let held: Vec<Slot> = self.held.iter().map(|held| held.slot).collect();
        let same =
            |(at, slot): (usize, &Slot)| self.held.get(at) == Some(&Held { slot: *slot, regime });
        let common = slots.iter().enumerate().take_while(|pair| same(*pair)).count();
        (1..=common.min(slots.len() - 1))
            .rev()
            .find(|at| is_seam(slots, *at) && is_seam(&held, *at))
            .unwrap_or(0)
    }

    /// Appends ids, whether sampled, forced or drafted. Row i of the result is what follows
    /// `ids[i]`.
    ///
    /// # Errors
    /// [`EngineError::ContextFull`] or [`EngineError::Prompt`] (an id without an embedding) before
    /// any computation.
    pub fn append(&mut self, engine: &Engine, ids: &[u32]) -> Result<Vec<Vec<f32>>, EngineError> {
        self.append_rows(engine, ids, Rows::All)
    }

    /// Appends ids and returns only what follows the last of them; empty for no ids.
    ///
    /// # Errors
    /// As [`Session::append`].
    pub fn append_last(&mut self, engine: &Engine, ids: &[u32]) -> Result<Vec<f32>, EngineError> {
        Ok(self.append_rows(engine, ids, Rows::Last)?.pop().unwrap_or_default())
    }

    fn append_rows(
        &mut self,
        engine: &Engine,
        ids: &[u32],
        wanted: Rows,
    ) -> Result<Vec<Vec<f32>>, EngineError> {
        self.check_engine(engine)?;
        engine.check_room(self.len(), ids.len())?;
        let vocab = engine.vocab_size();
        if let Some(id) = ids.iter().find(|id| **id as usize >= vocab) {
            return Err(EngineError::Prompt(format!(
                "id {id} has no embedding, the model has {vocab}"
            )));
        }
        let slots: Vec<Slot> = ids.iter().map(|id| Slot::Text(*id)).collect();
        // Several ids at once must give what they give one by one, so the switch of lists splits
        // them.
        let room = engine.decoder().rope().original_positions().saturating_sub(self.len());
        let (before, after) = slots.split_at(room.min(slots.len()));
        let first_wanted =
            if after.is_empty() || wanted == Rows::All { wanted } else { Rows::None };
        let mut rows = self.append_part(engine, before, Regime::Short, first_wanted)?;
        rows.extend(self.append_part(engine, after, Regime::Long, wanted)?);
        Ok(rows)
    }

    /// Appends slots that all use one factor list, after bringing the held ones to it if that is
    /// the policy.
    fn append_part(
        &mut self,
        engine: &Engine,
        slots: &[Slot],
        regime: Regime,
        wanted: Rows,
    ) -> Result<Vec<Vec<f32>>, EngineError> {
        if slots.is_empty() {
            return Ok(Vec::new());
        }
        let stale = self.held.iter().any(|held| held.regime != regime);
        if stale && engine.options().long_context == LongContext::Reprefill {
            let held: Vec<Slot> = self.held.iter().map(|held| held.slot).collect();
            self.truncate(0);
            self.extend_by_seams(engine, &held, regime, Rows::None)?;
        }
        self.extend(engine, slots, regime, wanted)
    }

    /// Computes `slots`, which begin at a seam, piece by piece between their seams, and returns the
    /// wanted rows of the last piece.
    fn extend_by_seams(
        &mut self,
        engine: &Engine,
        slots: &[Slot],
        regime: Regime,
        wanted: Rows,
    ) -> Result<Vec<Vec<f32>>, EngineError> {
        self.cache.reserve(slots.len())?; // at once, not in moves
        let mut rows = Vec::new();
        let mut from = 0;
        while from < slots.len() {
            let to = (from + 1..slots.len()).find(|at| is_seam(slots, *at)).unwrap_or(slots.len());
            let wanted = if to == slots.len() { wanted } else { Rows::None };
            rows = self.extend(engine, &slots[from..to], regime, wanted)?;
            from = to;
        }
        Ok(rows)
    }

    /// Computes `slots` behind the held ones, in chunks, and returns the wanted rows of logits.
    fn extend(
        &mut self,
        engine: &Engine,
        slots: &[Slot],
        regime: Regime,
        wanted: Rows,
    ) -> Result<Vec<Vec<f32>>, EngineError> {
        let decoder = engine.decoder();
        let mut rows = Vec::new();
        let mut left = slots.len();
        for chunk in slots.chunks(engine.options().prefill_chunk) {
            let embeddings = self.embed(engine, chunk)?; // (chunk, hidden)
            let adapter = self.adapter.as_deref();
            let hidden = decoder.forward_adapted(&embeddings, &mut self.cache, regime, adapter)?; // (chunk, hidden)
            self.held.extend(chunk.iter().map(|slot| Held { slot: *slot, regime }));
            left -= chunk.len();
            let first = match wanted {
                Rows::All => 0,
                Rows::Last if left == 0 => chunk.len() - 1,
                _ => continue,
            };
            let logits = decoder.logits(&hidden.narrow(0, first, chunk.len() - first)?)?; // (rows, vocab)
            let position = self.held.len() - (chunk.len() - first);
            rows.extend(finite_rows(&logits, position)?);
        }
        Ok(rows)
    }

    /// The embeddings of slots: (slots, hidden). Runs of text and of picture rows are looked up at
    /// once.
    fn embed(&self, engine: &Engine, slots: &[Slot]) -> Result<Tensor, EngineError> {
        let mut parts = Vec::new();
        let mut rest = slots;
        while let Some(first) = rest.first() {
            let run = match first {
                Slot::Text(_) => {
                    let text =
                        |slot: &Slot| if let Slot::Text(id) = slot { Some(*id) } else { None };
                    let ids: Vec<u32> = rest.iter().map_while(text).collect();
                    parts.push(engine.decoder().embed(&ids)?); // (run, hidden)
                    ids.len()
                }
                Slot::Picture { key, row } => {
                    let next = |(at, slot): (usize, &Slot)| {
                        *slot == Slot::Picture { key: *key, row: row + at }
                    };
                    let run = rest.iter().enumerate().take_while(|pair| next(*pair)).count();
                    let picture =
                        self.pictures.get(key).expect("pictures of held and new slots are pinned");
                    parts.push(picture.narrow(0, *row, run)?); // (run, hidden)
                    run
                }
            };
            rest = &rest[run..];
        }
        Ok(Tensor::cat(&parts, 0)?) // (slots, hidden)
    }

    /// Makes sure that the embeddings of the prompt's pictures are at hand. Returns the times of
    /// preprocessing and tower.
    fn see(
        &mut self,
        engine: &Engine,
        encoded: &Encoded,
        pictures: &[Picture<'_>],
    ) -> Result<(Duration, Duration), EngineError> {
        if pictures.len() != encoded.pictures.len() {
            let (given, named) = (pictures.len(), encoded.pictures.len());
            return Err(EngineError::Prompt(format!(
                "{given} pictures given for a prompt that was encoded with {named}"
            )));
        }
        let (mut preprocess, mut tower) = (Duration::ZERO, Duration::ZERO);
        let mut pinned = Vec::new();
        for (number, (digest, picture)) in encoded.pictures.iter().zip(pictures).enumerate() {
            let key = PictureKey { digest: *digest, num_crops: encoded.num_crops };
            if self.pictures.get(&key).is_none() {
                if picture.digest() != *digest {
                    let problem = format!("picture {} is not the one that was encoded", number + 1);
                    return Err(EngineError::Prompt(problem));
                }
                let shown = engine.show(picture, encoded.num_crops)?;
                self.pictures.insert(key, shown.embeddings);
                preprocess += shown.preprocess;
                tower += shown.tower;
            }
            self.pictures.touch(&key);
            pinned.push(key);
        }
        // The prompt replaces what is held, so what only the old slots need may go. Until they are
        // truncated they are not read, and `prompt` truncates before it computes.
        self.pictures.shrink(&pinned);
        Ok((preprocess, tower))
    }

    /// Forgets the positions from `len` on, such as a rejected draft.
    pub fn truncate(&mut self, len: usize) {
        self.held.truncate(len);
        self.cache.truncate(len);
    }

    /// Positions held.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Memory of the KV cache and of the remembered pictures.
    pub fn bytes(&self) -> usize {
        self.cache.bytes() + self.pictures.bytes()
    }

    /// Forgets all positions; remembered pictures stay.
    pub fn reset(&mut self) {
        self.truncate(0);
    }

    /// The embeddings of a remembered picture, (tokens, hidden), as the projector gave them.
    pub fn picture_embeddings(&self, digest: Digest, num_crops: usize) -> Option<&Tensor> {
        self.pictures.get(&PictureKey { digest, num_crops })
    }

    fn check_engine(&self, engine: &Engine) -> Result<(), EngineError> {
        if engine.id() != self.engine {
            return Err(EngineError::Prompt("this session was made for another model".to_string()));
        }
        Ok(())
    }
}

/// The slots of a prompt. An encoded prompt is plain data that a caller may have changed, so it is
/// not believed.
fn slots_of(encoded: &Encoded) -> Result<Vec<Slot>, EngineError> {
    let mut rows_seen = vec![0; encoded.pictures.len()];
    let slot = |id: &i32| -> Option<Slot> {
        if let Ok(id) = u32::try_from(*id) {
            return Some(Slot::Text(id));
        }
        let number = id.unsigned_abs() as usize - 1;
        let digest = *encoded.pictures.get(number)?;
        let row = rows_seen[number];
        rows_seen[number] += 1;
        Some(Slot::Picture { key: PictureKey { digest, num_crops: encoded.num_crops }, row })
    };
    let slots: Option<Vec<Slot>> = encoded.ids.iter().map(slot).collect();
    match slots {
        Some(slots) if slots.is_empty() => {
            Err(EngineError::Prompt("there is nothing in it".to_string()))
        }
        Some(slots) if rows_seen == encoded.image_tokens => Ok(slots),
        _ => {
            Err(EngineError::Prompt("its picture places are not those of its pictures".to_string()))
        }
    }
}

/// Whether one picture or text ends and another begins at `at`. A prompt is computed seam by seam:
/// sums are rounded differently in blocks of another size, so a beginning may only be reused where
/// a fresh computation would have cut, too.
fn is_seam(slots: &[Slot], at: usize) -> bool {
    let (Some(before), Some(after)) = (at.checked_sub(1).and_then(|i| slots.get(i)), slots.get(at))
    else {
        return false;
    };
    match (before, after) {
        (Slot::Text(_), Slot::Text(_)) => false,
        (Slot::Picture { key: one, row }, Slot::Picture { key: other, row: next }) => {
            one != other || *next != row + 1
        }
        _ => true,
    }
}

/// Rows of logits as vectors. A number that is not finite is an error: a maximum over NaN means
/// nothing.
fn finite_rows(logits: &Tensor, position: usize) -> Result<Vec<Vec<f32>>, EngineError> {
    let rows = logits.to_vec2::<f32>()?; // (rows, vocab)
    match rows.iter().position(|row| row.iter().any(|number| !number.is_finite())) {
        Some(row) => Err(EngineError::NotFinite { position: position + row }),
        None => Ok(rows),
    }
}
