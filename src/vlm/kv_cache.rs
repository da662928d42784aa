//! Keys and values of the positions already computed: a value that is passed in, never hidden in a
//! layer.
//!
//! Reusing a prompt's beginning and dropping a rejected draft are both [`KvCache::truncate`]. Rows
//! are written in place into buffers that grow in steps; a step of decoding copies one row, not the
//! cache. There is no `Clone`: two caches over one buffer would overwrite each other.

use candle_core::{Device, Result, Tensor};

use super::cache_form::CacheForm;
use super::config::DecoderConfig;
use super::error::EngineError;

/// Buffers grow to a multiple of this many positions.
const STEP: usize = 256;

/// Keys (after rotation) and values of every layer.
pub struct KvCache {
    layers: Vec<LayerCache>,
    len: usize,
    capacity: usize,
    max_len: usize,
    kv_heads: usize,
    head_dim: usize,
    form: CacheForm,
    device: Device,
}

/// One layer's buffers, each (kv_heads, capacity, length of a stored row); `None` before the first
/// position.
#[derive(Default)]
struct LayerCache {
    buffers: Option<(Tensor, Tensor)>,
}

impl KvCache {
    /// An empty cache for at most `max_len` positions.
    pub fn new(
        config: &DecoderConfig,
        max_len: usize,
        form: CacheForm,
        device: &Device,
    ) -> KvCache {
        KvCache {
            layers: (0..config.layers).map(|_| LayerCache::default()).collect(),
            len: 0,
            capacity: 0,
            max_len,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            form,
            device: device.clone(),
        }
    }

    /// Positions held.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no position is held.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Most positions it may hold.
    pub fn max_len(&self) -> usize {
        self.max_len
    }

    /// Memory taken by the buffers.
    pub fn bytes(&self) -> usize {
        self.layers.len() * self.kv_heads * self.capacity * self.form.head_bytes(self.head_dim)
    }

    /// What keys and values are kept in.
    pub fn form(&self) -> CacheForm {
        self.form
    }

    /// Forgets the positions from `len` on. More than are held: nothing happens.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Makes room for `rows` more positions in every layer.
    ///
    /// # Errors
    /// [`EngineError::ContextFull`] if they would not fit; the cache is then unchanged.
    pub fn reserve(&mut self, rows: usize) -> std::result::Result<(), EngineError> {
        let needed = self.len + rows;
        if needed > self.max_len {
            return Err(EngineError::ContextFull { needed, limit: self.max_len });
        }
        if needed <= self.capacity {
            return Ok(());
        }
        // No more than needed: a prompt says its length before it begins, and an answer of 256 tokens
        // takes far longer than a move.
        let capacity = needed.next_multiple_of(STEP).min(self.max_len);
        for layer in 0..self.layers.len() {
            self.grow(layer, capacity)?;
        }
        self.capacity = capacity;
        Ok(())
    }

    /// Moves one layer into larger buffers. Layers differ in size until all have grown; `capacity`
    /// is the smallest.
    fn grow(&mut self, layer: usize, capacity: usize) -> Result<()> {
        let (dtype, lengths) = self.form.buffer(self.head_dim);
        let room = |length| {
            let shape = (self.kv_heads, capacity, length);
            Tensor::zeros(shape, dtype, &self.device) // (kv_heads, capacity, length)
        };
        if self.len == 0 {
            self.layers[layer].buffers = None; // nothing to move: freed before the new ones come
        }
        let (keys, values) = (room(lengths[0])?, room(lengths[1])?);
        if let Some((old_keys, old_values)) = &self.layers[layer].buffers {
            keys.slice_set(&old_keys.narrow(1, 0, self.len)?.contiguous()?, 1, 0)?;
            values.slice_set(&old_values.narrow(1, 0, self.len)?.contiguous()?, 1, 0)?;
        }
        self.layers[layer].buffers = Some((keys, values));
        Ok(())
    }

    /// Writes new rows behind the held ones of `layer` and returns all rows of it from `first` on.
    /// The rows count only after [`KvCache::advance`], so a pass that fails half-way leaves the
    /// cache as it was.
    ///
    /// `keys`, `values`: (kv_heads, rows, head_dim), contiguous, of any type; the cache's own form is
    /// what is kept and returned, so a row is the same whether it was computed in this pass or
    /// before. Returns two views (kv_heads, len + rows - first, length of a stored row).
    /// [`KvCache::reserve`] must have made the room (asserted).
    pub(crate) fn write(
        &self,
        layer: usize,
        keys: &Tensor,
        values: &Tensor,
        first: usize,
    ) -> Result<(Tensor, Tensor)> {
        let rows = keys.dim(1)?;
        let total = self.len + rows;
        assert!(total <= self.capacity, "reserve() comes before write()");
        let Some((all_keys, all_values)) = &self.layers[layer].buffers else {
            unreachable!("reserve() has filled the buffers")
        };
        let (keys, values) = self.form.store(keys, values)?;
        all_keys.slice_set(&keys, 1, self.len)?;
        all_values.slice_set(&values, 1, self.len)?;
        let view = |all: &Tensor| all.narrow(1, first, total - first);
        Ok((view(all_keys)?, view(all_values)?)) // (kv_heads, total - first, length)
    }

    /// Counts the rows that every layer has written.
    pub(crate) fn advance(&mut self, rows: usize) {
        self.len += rows;
        assert!(self.len <= self.capacity, "more rows counted than reserved");
    }
}

#[cfg(test)]
mod tests {
    use candle_core::DType;

    use super::*;

    fn empty(max_len: usize) -> KvCache {
        cache_of(max_len, CacheForm::Numbers(DType::F32))
    }

    fn cache_of(max_len: usize, form: CacheForm) -> KvCache {
        let config = DecoderConfig {
            hidden: 4,
            layers: 2,
            heads: 2,
            kv_heads: 2,
            head_dim: 2,
            intermediate: 4,
            vocab: 8,
            rms_eps: 1e-5,
            sliding_window: None,
            tied: false,
            max_positions: max_len,
        };
        KvCache::new(&config, max_len, form, &Device::Cpu)
    }

    /// `rows` rows that all hold `value`: (2, rows, 2).
    fn rows(rows: usize, value: f32) -> Tensor {
        Tensor::full(value, (2, rows, 2), &Device::Cpu).unwrap()
    }

    fn append(cache: &mut KvCache, count: usize, value: f32) -> Vec<f32> {
        cache.reserve(count).unwrap();
        let mut seen = Vec::new();
        for layer in 0..2 {
            let (keys, values) =
                cache.write(layer, &rows(count, value), &rows(count, -value), 0).unwrap();
            let column = |t: Tensor| {
                t.narrow(0, 1, 1).unwrap().narrow(2, 0, 1).unwrap().flatten_all().unwrap()
            };
            seen = column(keys).to_vec1::<f32>().unwrap();
            let mirrored: Vec<f32> =
                column(values).to_vec1::<f32>().unwrap().iter().map(|v| -v).collect();
            assert_eq!(seen, mirrored);
        }
        cache.advance(count);
        seen
    }

    #[test]
    fn rows_follow_each_other_and_survive_growth() {
        let mut cache = empty(1000);
        append(&mut cache, 2, 1.0);
        assert_eq!(append(&mut cache, 1, 2.0), [1.0, 1.0, 2.0]);
        let seen = append(&mut cache, 600, 3.0); // beyond the first step of 256
        assert_eq!(seen[..4], [1.0, 1.0, 2.0, 3.0]);
        assert_eq!((cache.len(), seen.len()), (603, 603));
    }

    #[test]
    fn what_is_truncated_is_overwritten() {
        let mut cache = empty(10);
        append(&mut cache, 3, 1.0);
        cache.truncate(1);
        assert_eq!(append(&mut cache, 1, 9.0), [1.0, 9.0]);
        cache.truncate(50);
        assert_eq!(cache.len(), 2);
    }

    /// Rows that were written in parts, before and after growth, are the bytes of rows written at
    /// once.
    #[test]
    fn a_compact_cache_keeps_its_bytes() {
        let wave = |i: usize| (i as f32 * 0.37).sin();
        let numbers =
            Tensor::from_vec((0..2 * 600 * 2).map(wave).collect(), (2, 600, 2), &Device::Cpu);
        let numbers = numbers.unwrap();
        let bytes = |parts: &[usize]| {
            let mut cache = cache_of(1000, CacheForm::Compact);
            let mut seen = Vec::new();
            for rows in parts {
                cache.reserve(*rows).unwrap();
                let part = numbers.narrow(1, cache.len(), *rows).unwrap().contiguous().unwrap();
                for layer in 0..2 {
                    let (keys, values) = cache.write(layer, &part, &part, 0).unwrap();
                    assert_eq!((keys.dtype(), keys.dim(2).unwrap()), (DType::U8, 34));
                    seen = [keys, values]
                        .map(|t| t.flatten_all().unwrap().to_vec1::<u8>().unwrap())
                        .concat();
                }
                cache.advance(*rows);
            }
            assert_eq!(cache.bytes(), 2 * 2 * cache.capacity * (34 + 20));
            seen
        };
        assert_eq!(bytes(&[600]), bytes(&[3, 1, 500, 96]));
    }

    #[test]
    fn a_full_cache_refuses_and_stays_as_it_was() {
        let mut cache = empty(4);
        append(&mut cache, 3, 1.0);
        let message = cache.reserve(2).unwrap_err().to_string();
        assert_eq!(message, "5 tokens do not fit into the context of 4 tokens");
        assert_eq!(append(&mut cache, 1, 2.0), [1.0, 1.0, 1.0, 2.0]);
        assert_eq!(cache.bytes(), 2 * 2 * 2 * 4 * 2 * 4);
    }
}
