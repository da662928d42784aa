//! Weights in blocks of small integers.

#![allow(dead_code)] // what takes blocks apart waits for its kernels

mod format;

pub use format::{FORMATS, Format};
