//! Frames in memory, as JPEG: never more bytes than allowed, the oldest go first.

use std::collections::VecDeque;
use std::sync::Arc;

use super::index::FrameFacts;

/// What a frame costs beside its JPEG, in bytes.
const FRAME_BYTES: u64 = 256;

/// A frame in memory.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) shot: FrameFacts,
    pub(super) size: (u32, u32),
    pub(super) jpeg: Arc<[u8]>,
}

impl Kept {
    /// What it costs.
    pub(super) fn bytes(&self) -> u64 {
        self.jpeg.len() as u64 + FRAME_BYTES
    }
}

/// Frames in memory, the oldest first; never more bytes than allowed.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) frames: VecDeque<Kept>,
    pub(super) bytes: u64,
    max_bytes: u64,
}

impl Memory {
    /// An empty one.
    pub(super) fn new(max_bytes: u64) -> Memory {
        Memory { frames: VecDeque::new(), bytes: 0, max_bytes }
    }

    /// The moment of the oldest frame that must go to make room for `more` bytes, if one must.
    pub(super) fn must_go(&self, more: u64) -> Option<u64> {
        let is_full = self.bytes + more > self.max_bytes;
        self.frames.front().filter(|_| is_full).map(|kept| kept.shot.captured.monotonic_ns)
    }

    /// Adds a frame; the oldest go for it. One that is too large by itself is not kept.
    pub(super) fn push(&mut self, kept: Kept) -> bool {
        let more = kept.bytes();
        while self.bytes + more > self.max_bytes {
            let Some(oldest) = self.frames.pop_front() else { return false };
            self.bytes -= oldest.bytes();
        }
        self.bytes += more;
        self.frames.push_back(kept);
        true
    }

    /// Lets go what is older than `before_ns`.
    pub(super) fn forget(&mut self, before_ns: u64) {
        while self.frames.front().is_some_and(|kept| kept.shot.captured.monotonic_ns < before_ns) {
            let oldest = self.frames.pop_front();
            self.bytes -= oldest.map_or(0, |kept| kept.bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Stamp;
    use proptest::prelude::*;

    fn kept(ms: u64, bytes: usize) -> Kept {
        let monotonic_ns = ms * 1_000_000;
        let captured = Stamp { wall: jiff::Timestamp::UNIX_EPOCH, monotonic_ns };
        let shot = FrameFacts { sequence: ms, captured, pipeline_ns: None };
        Kept { shot, size: (1, 1), jpeg: vec![0; bytes].into() }
    }

    proptest! {
        /// Whatever comes, the memory holds no more than it may, and the newest of what fits.
        #[test]
        fn the_memory_keeps_its_bound(sizes in proptest::collection::vec(0..3000_usize, 0..200)) {
            let mut memory = Memory::new(8192);
            for (at, bytes) in sizes.iter().enumerate() {
                let fits = *bytes as u64 + FRAME_BYTES <= 8192;
                prop_assert_eq!(memory.push(kept(at as u64, *bytes)), fits);
                let real: u64 = memory.frames.iter().map(Kept::bytes).sum();
                prop_assert_eq!(real, memory.bytes);
                prop_assert!(memory.bytes <= 8192);
                let newest = memory.frames.back().map(|kept| kept.shot.sequence);
                prop_assert_eq!(newest, Some(at as u64));
            }
        }
    }

    #[test]
    fn one_that_is_too_large_and_what_is_old_are_not_kept() {
        let mut memory = Memory::new(1000);
        assert!(memory.push(kept(1, 100)) && !memory.push(kept(2, 1000)));
        assert_eq!((memory.frames.len(), memory.bytes), (0, 0));
        for ms in 3..6 {
            assert!(memory.push(kept(ms, 10)));
        }
        memory.forget(4_000_000);
        assert_eq!(memory.frames.iter().map(|kept| kept.shot.sequence).collect::<Vec<_>>(), [4, 5]);
    }
}
