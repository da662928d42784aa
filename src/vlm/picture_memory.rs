//! Embeddings of the pictures seen last, so that a second question about one picture does not pass
//! the tower again.

use candle_core::Tensor;

use super::digest::Digest;

/// What makes a picture's embeddings what they are: its pixels and the number of tiles allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PictureKey {
    pub(crate) digest: Digest,
    pub(crate) num_crops: usize,
}

/// Embeddings by key, least recently used first, bounded in bytes.
pub(crate) struct PictureMemory {
    entries: Vec<(PictureKey, Tensor)>,
    max_bytes: usize,
}

impl PictureMemory {
    pub(crate) fn new(max_bytes: usize) -> PictureMemory {
        PictureMemory { entries: Vec::new(), max_bytes }
    }

    /// The embeddings, (tokens, hidden), if they are remembered.
    pub(crate) fn get(&self, key: &PictureKey) -> Option<&Tensor> {
        self.entries.iter().find(|(held, _)| held == key).map(|(_, embeddings)| embeddings)
    }

    /// Marks a picture as just used.
    pub(crate) fn touch(&mut self, key: &PictureKey) {
        if let Some(at) = self.entries.iter().position(|(held, _)| held == key) {
            let entry = self.entries.remove(at);
            self.entries.push(entry);
        }
    }

    pub(crate) fn insert(&mut self, key: PictureKey, embeddings: Tensor) {
        self.entries.retain(|(held, _)| *held != key);
        self.entries.push((key, embeddings));
    }

    /// Forgets the longest unused pictures until the rest fits. The `pinned` ones stay whatever
    /// their size: they are part of the sequence that is being worked on, and the context bounds
    /// them.
    pub(crate) fn shrink(&mut self, pinned: &[PictureKey]) {
        while self.bytes() > self.max_bytes {
            let Some(oldest) = self.entries.iter().position(|(key, _)| !pinned.contains(key))
            else {
                return;
            };
            self.entries.remove(oldest);
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.entries.iter().map(|(_, t)| t.elem_count() * t.dtype().size_in_bytes()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    fn key(name: &str) -> PictureKey {
        PictureKey { digest: Digest::of(name.as_bytes()), num_crops: 1 }
    }

    #[test]
    fn the_longest_unused_goes_first_and_pinned_ones_stay() {
        let mut memory = PictureMemory::new(2 * 40);
        for name in ["a", "b", "c"] {
            memory.insert(key(name), Tensor::zeros((10, 1), DType::F32, &Device::Cpu).unwrap());
        }
        memory.touch(&key("a"));
        memory.shrink(&[]);
        assert!(memory.get(&key("b")).is_none() && memory.get(&key("a")).is_some());
        memory.max_bytes = 0;
        memory.shrink(&[key("c")]);
        assert!(memory.get(&key("c")).is_some() && memory.get(&key("a")).is_none());
        assert_eq!(memory.bytes(), 40);
    }

    #[test]
    fn the_same_pixels_in_more_tiles_are_another_picture() {
        let mut memory = PictureMemory::new(1000);
        memory.insert(key("a"), Tensor::zeros((1, 1), DType::F32, &Device::Cpu).unwrap());
        assert!(memory.get(&PictureKey { num_crops: 4, ..key("a") }).is_none());
    }
}
