//! What a probe repeats: the densest arithmetic and the plainest reading that a processor has.
//!
//! Every kernel computes something that can be checked and takes its inputs from memory that the
//! compiler must believe to change, so that nothing of it can be left out.

use std::hint::black_box;

/// Independent sums of a kernel: enough to hide the latency of an instruction on wide processors.
pub(super) const SUMS: usize = 12;
/// Bytes of the operands of an 8-bit kernel.
pub(super) const OPERAND_BYTES: usize = 64;

/// A kernel that computes.
#[derive(Clone, Copy)]
pub(super) struct Compute {
    /// The instructions, for people.
    pub(super) name: &'static str,
    /// Computes so many rounds and returns what the last sum holds in its first lane.
    run: unsafe fn(u32) -> f32,
    /// Operations of a round; a multiplication with an addition counts as two.
    pub(super) ops_a_round: u64,
}

/// A kernel that reads.
#[derive(Clone, Copy)]
pub(super) struct Read {
    /// Adds up all words.
    run: unsafe fn(&[u64]) -> u64,
}

/// The kernels for one set of instructions, which this processor has: only `here` makes them.
#[derive(Clone, Copy)]
pub(super) struct Kernels {
    /// f32 multiply-add.
    pub(super) float: Compute,
    /// 8-bit products with 32-bit sums.
    pub(super) int8: Compute,
    /// Reading memory in order.
    pub(super) read: Read,
}

impl Compute {
    /// A kernel of `lanes` operations in each of [`SUMS`] sums.
    pub(super) const fn new(name: &'static str, run: unsafe fn(u32) -> f32, lanes: u64) -> Compute {
        Compute { name, run, ops_a_round: lanes * SUMS as u64 }
    }

    /// Computes `rounds` rounds.
    pub(super) fn run(&self, rounds: u32) -> f32 {
        // SAFETY: kernels come from `here` alone, which has found their instructions.
        unsafe { (self.run)(rounds) }
    }
}

impl Read {
    /// A kernel that adds up words.
    pub(super) const fn new(run: unsafe fn(&[u64]) -> u64) -> Read {
        Read { run }
    }

    /// The sum of `words`.
    pub(super) fn run(&self, words: &[u64]) -> u64 {
        // SAFETY: as for `Compute::run`.
        unsafe { (self.run)(words) }
    }
}

/// What this processor can do, the best of each kind last.
pub(super) fn here() -> Vec<Kernels> {
    let mut all = vec![Kernels {
        float: Compute::new("portable f32", float_portable, 2 * PORTABLE_LANES as u64),
        int8: Compute::new("portable 8-bit", int8_portable, 2 * OPERAND_BYTES as u64),
        read: Read::new(sum_words),
    }];
    #[cfg(target_arch = "x86_64")]
    super::x86::add(&mut all);
    #[cfg(target_arch = "aarch64")]
    super::arm::add(&mut all);
    all
}

/// The best kernels of this processor.
pub(super) fn best() -> Kernels {
    *here().last().expect("the portable ones are always there")
}

/// Where the sums of an f32 kernel begin: all different, or the compiler would compute one for all.
pub(super) fn first_sums() -> [f32; SUMS] {
    black_box(std::array::from_fn(|i| i as f32))
}

/// Factor and addend of an f32 kernel: x * 0.5 + 1 comes to 2 and stays there.
pub(super) fn step() -> (f32, f32) {
    black_box((0.5, 1.0))
}

/// Factors of an 8-bit kernel: unsigned ones, then signed ones.
pub(super) fn operands() -> ([u8; OPERAND_BYTES], [i8; OPERAND_BYTES]) {
    black_box(([1; OPERAND_BYTES], [1; OPERAND_BYTES]))
}

/// Adds up words in eight sums.
pub(super) fn sum_words(words: &[u64]) -> u64 {
    let mut sums = [0u64; 8];
    let pieces = words.chunks_exact(8);
    let rest = pieces.remainder().iter().fold(0, |sum: u64, word| sum.wrapping_add(*word));
    for piece in pieces {
        for (sum, word) in sums.iter_mut().zip(piece) {
            *sum = sum.wrapping_add(*word);
        }
    }
    sums.iter().fold(rest, |sum, word| sum.wrapping_add(*word))
}

const PORTABLE_LANES: usize = 4;

/// Multiplies and adds in two steps: without such an instruction, `mul_add` is a slow function.
fn float_portable(rounds: u32) -> f32 {
    let (factor, addend) = step();
    let mut sums = first_sums().map(|first| [first; PORTABLE_LANES]);
    for _ in 0..rounds {
        for sum in &mut sums {
            for lane in sum {
                *lane = *lane * factor + addend;
            }
        }
    }
    black_box(sums)[SUMS - 1][0]
}

fn int8_portable(rounds: u32) -> f32 {
    let (unsigned, signed) = operands();
    let mut sums = [0i32; SUMS];
    for _ in 0..rounds {
        for sum in &mut sums {
            let (unsigned, signed) = black_box((&unsigned, &signed));
            for (a, b) in unsigned.iter().zip(signed) {
                *sum += i32::from(*a) * i32::from(*b);
            }
        }
    }
    (black_box(sums)[SUMS - 1] / (OPERAND_BYTES / 4) as i32) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kernel_computes_what_it_says() {
        for kernels in here() {
            // From 11 on, twice x / 2 + 1: 6.5, 4.25.
            assert_eq!(kernels.float.run(0), 11.0, "{}", kernels.float.name);
            assert_eq!(kernels.float.run(2), 4.25, "{}", kernels.float.name);
            assert_eq!(kernels.float.run(100), 2.0, "{}", kernels.float.name);
            // A lane of 32 bits takes four products of 1 in each round.
            assert_eq!(kernels.int8.run(0), 0.0, "{}", kernels.int8.name);
            assert_eq!(kernels.int8.run(25), 100.0, "{}", kernels.int8.name);
            for words in [0, 1, 31, 32, 33, 1000] {
                let all: Vec<u64> = (0..words).map(|i| i | 1 << 63).collect();
                let sum = all.iter().fold(0u64, |sum, word| sum.wrapping_add(*word));
                assert_eq!(kernels.read.run(&all), sum, "{words} words");
            }
        }
    }

    #[test]
    fn a_round_s_operations_are_those_of_its_vectors() {
        let portable = here()[0];
        assert_eq!(portable.float.ops_a_round, 12 * 4 * 2);
        assert_eq!(portable.int8.ops_a_round, 12 * 64 * 2);
        assert!(here().iter().all(|kernels| kernels.float.ops_a_round >= 96));
    }
}
