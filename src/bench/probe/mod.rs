//! What this machine can do at most: memory read in order, f32 multiply-adds, 8-bit products.
//!
//! A stage of the engine is held against these limits, so that "fast" has a meaning. Each is the
//! best of several short rounds: a limit is what the machine reaches undisturbed.

#[cfg(target_arch = "aarch64")]
mod arm;
mod kernels;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Rounds of each probe; the best one counts.
const ROUNDS: usize = 60;
/// Length of one round: as short as a turn of the system's scheduler, so that on a busy machine some
/// rounds have the cores to themselves.
const ROUND: Duration = Duration::from_millis(4);
/// Rounds of a kernel between two looks at the clock, some microseconds.
const BATCH: u32 = 2_000;
/// Words read between two looks at the clock.
const PIECE_WORDS: usize = 32 << 10;

/// Rates with one number of threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// Bytes read from memory in a second, in order.
    pub read_bytes_per_s: f64,
    /// f32 operations in a second; a multiply-add counts as two.
    pub float_op_per_s: f64,
    /// 8-bit operations in a second, counted in the same way.
    pub int8_op_per_s: f64,
}

/// The limits of a machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// The threads of `all`.
    pub threads: usize,
    /// Bytes that were read over and over.
    pub buffer_bytes: u64,
    /// The instructions of the f32 probe.
    pub float: String,
    /// The instructions of the 8-bit probe.
    pub int8: String,
    /// One thread.
    pub one: Rates,
    /// So many threads as the engine computes in.
    pub all: Rates,
}

impl Limits {
    /// Measures this machine with one thread and with `threads`; about two seconds.
    /// `largest_cache_bytes` and `memory_bytes`, as far as they are known, choose the buffer.
    pub fn measure(
        threads: usize,
        largest_cache_bytes: Option<u64>,
        memory_bytes: Option<u64>,
    ) -> Limits {
        let threads = threads.max(1);
        let buffer_bytes = buffer_bytes(largest_cache_bytes, memory_bytes);
        // Not zeros: the system would map the same page again and again.
        let words: Vec<u64> = (0..buffer_bytes / 8).collect();
        let kernels = kernels::best();
        let rates = |threads| Rates {
            read_bytes_per_s: read(kernels.read, &words, threads),
            float_op_per_s: compute(kernels.float, threads),
            int8_op_per_s: compute(kernels.int8, threads),
        };
        let one = rates(1);
        // More threads cannot do less: what comes out so is another program's doing.
        let all = if threads == 1 { one } else { rates(threads).or_better(&one) };
        Limits {
            threads,
            buffer_bytes,
            float: kernels.float.name.to_owned(),
            int8: kernels.int8.name.to_owned(),
            one,
            all,
        }
    }

    /// The better figure of each kind: what a machine reached once is within its limits.
    pub fn or_better(&self, other: &Limits) -> Limits {
        let (one, all) = (self.one.or_better(&other.one), self.all.or_better(&other.all));
        Limits { one, all, ..self.clone() }
    }
}

impl Rates {
    fn or_better(&self, other: &Rates) -> Rates {
        Rates {
            read_bytes_per_s: self.read_bytes_per_s.max(other.read_bytes_per_s),
            float_op_per_s: self.float_op_per_s.max(other.float_op_per_s),
            int8_op_per_s: self.int8_op_per_s.max(other.int8_op_per_s),
        }
    }
}

/// Four times the largest cache, at least 256 MiB, at most an eighth of the memory and 2 GiB.
fn buffer_bytes(largest_cache_bytes: Option<u64>, memory_bytes: Option<u64>) -> u64 {
    let wanted = largest_cache_bytes.unwrap_or(0).saturating_mul(4).clamp(256 << 20, 2 << 30);
    let most = memory_bytes.map_or(256 << 20, |bytes| bytes / 8).max(1 << 20);
    wanted.min(most).next_multiple_of(8)
}

/// Bytes a second that `threads` threads read together, each its own part of `words`.
fn read(kernel: kernels::Read, words: &[u64], threads: usize) -> f64 {
    let share = words.len().div_ceil(threads).max(1);
    // Where each thread goes on in the next round: what it has just read is in the cache.
    let places: Vec<AtomicUsize> = (0..threads).map(|_| AtomicUsize::new(0)).collect();
    best_round(threads, |thread, until| {
        let (from, to) = (thread * share, (thread + 1) * share);
        let part = &words[from.min(words.len())..to.min(words.len())];
        let first = places[thread].load(Ordering::Relaxed);
        let (mut bytes, mut pieces) = (0, 0);
        for piece in part.chunks(PIECE_WORDS).cycle().skip(first) {
            black_box(kernel.run(black_box(piece)));
            bytes += size_of_val(piece) as u64;
            pieces += 1;
            if Instant::now() >= until {
                break;
            }
        }
        let all = part.len().div_ceil(PIECE_WORDS).max(1);
        places[thread].store((first + pieces) % all, Ordering::Relaxed);
        bytes
    })
}

/// Operations a second of `threads` threads together.
fn compute(kernel: kernels::Compute, threads: usize) -> f64 {
    best_round(threads, |_, until| {
        let mut rounds = 0;
        while Instant::now() < until {
            black_box(kernel.run(black_box(BATCH)));
            rounds += u64::from(BATCH);
        }
        rounds * kernel.ops_a_round
    })
}

/// The best of several rounds. In each, all threads begin together and `work`, given the thread's
/// number and the moment to end, counts what it did. A second of the round is one of its slowest
/// thread.
fn best_round(threads: usize, work: impl Fn(usize, Instant) -> u64 + Sync) -> f64 {
    let round = || {
        let together = Barrier::new(threads);
        let one = |thread| {
            together.wait();
            let start = Instant::now();
            let done = work(thread, start + ROUND);
            (done, start.elapsed())
        };
        let (done, longest) = std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads)
                .map(|thread| {
                    let one = &one;
                    scope.spawn(move || one(thread))
                })
                .collect();
            let mut all = vec![one(0)];
            all.extend(others.into_iter().map(|other| other.join().expect("a probe only counts")));
            let longest = all.iter().map(|(_, time)| *time).max().unwrap_or(ROUND);
            (all.iter().map(|(done, _)| *done).sum::<u64>(), longest)
        });
        done as f64 / longest.as_secs_f64().max(1e-9)
    };
    (0..ROUNDS).map(|_| round()).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buffer_is_larger_than_the_cache_and_smaller_than_the_memory() {
        let gib = 1 << 30;
        assert_eq!(buffer_bytes(None, None), 256 << 20);
        assert_eq!(buffer_bytes(Some(32 << 20), Some(8 * gib)), 256 << 20);
        assert_eq!(buffer_bytes(Some(96 << 20), Some(64 * gib)), 384 << 20);
        assert_eq!(buffer_bytes(Some(u64::MAX), Some(64 * gib)), 2 * gib);
        assert_eq!(buffer_bytes(Some(32 << 20), Some(gib / 2)), 64 << 20);
        assert_eq!(buffer_bytes(Some(32 << 20), Some(0)), 1 << 20);
    }

    #[test]
    fn a_machine_has_limits_of_each_kind() {
        let limits = Limits::measure(2, None, Some(64 << 20));
        assert_eq!((limits.threads, limits.buffer_bytes), (2, 8 << 20));
        for rates in [limits.one, limits.all] {
            let all = [rates.read_bytes_per_s, rates.float_op_per_s, rates.int8_op_per_s];
            assert!(all.iter().all(|rate| rate.is_finite() && *rate > 0.0), "{rates:?}");
        }
        assert!(limits.all.float_op_per_s >= limits.one.float_op_per_s);
        assert!(!limits.float.is_empty() && !limits.int8.is_empty());
    }

    #[test]
    fn every_thread_has_a_part_to_read_even_of_a_small_buffer() {
        let words = vec![1; 5];
        assert!(read(kernels::best().read, &words, 3) > 0.0);
    }

    #[test]
    fn the_better_of_two_limits_counts() {
        let rates =
            |n: f64| Rates { read_bytes_per_s: n, float_op_per_s: 2.0, int8_op_per_s: 9.0 - n };
        let limits = |n| Limits { one: rates(n), all: rates(n), ..Limits::default() };
        let both = limits(1.0).or_better(&limits(3.0));
        assert_eq!(
            both.all,
            Rates { read_bytes_per_s: 3.0, float_op_per_s: 2.0, int8_op_per_s: 8.0 }
        );
    }
}
