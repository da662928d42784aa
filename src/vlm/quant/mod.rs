//! Products with quantised weights on the processor: 8-bit activations against weights that stay as
//! the file stores them.
//!
//! | file | what |
//! |---|---|
//! | [`mod@format`] | the block formats, and how a block is taken apart |
//! | `activations` | rows of activations as 8-bit integers |
//! | `simd` | what the kernels ask of a processor; plain Rust |
//! | `x86`, `arm` | AVX2 and AVX-512 with 8-bit products; NEON with and without |
//! | `kernels` | a few rows of activations, many rows of activations: once for all processors |
//! | `one_row` | decoding with AVX-512, straight from the blocks |
//! | [`product`] | which kernel serves, and the threads |
//! | [`matrix`] | the weight of a layer, in the tensor library's terms |
//!
//! candle has such products too, but keeps a second, larger copy of the weights: 5.97 GB resident
//! for a file of 2.4 GB.

mod activations;
#[cfg(target_arch = "aarch64")]
pub(super) mod arm;
pub mod format;
mod kernels;
pub mod matrix;
#[cfg(target_arch = "x86_64")]
mod one_row;
pub mod product;
pub(super) mod simd;
#[cfg(target_arch = "x86_64")]
pub(super) mod x86;

pub use format::{FORMATS, Format};
pub(super) use kernels::Output;
pub use matrix::{Bytes, Matrix};
pub use product::Instructions;
