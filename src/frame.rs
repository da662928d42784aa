//! A still picture and where it came from: the first thing that travels.

pub mod file;
mod picture;

use std::sync::Arc;

use crate::clock::Stamp;
pub use picture::{Brightness, Colours, Form, Matrix, Picture};

/// An RGB picture: rows top to bottom, three bytes a pixel, no padding.
#[derive(Clone, PartialEq, Eq)]
pub struct Rgb8 {
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// `width * height * 3` bytes, red first.
    pub data: Vec<u8>,
}

impl Rgb8 {
    /// A black picture of `width` by `height` pixels.
    pub fn new(width: u32, height: u32) -> Rgb8 {
        Rgb8 { width, height, data: vec![0; width as usize * height as usize * 3] }
    }

    /// Wraps `data`, or answers `None` when its length is not `width * height * 3`.
    pub fn from_data(width: u32, height: u32, data: Vec<u8>) -> Option<Rgb8> {
        (data.len() == width as usize * height as usize * 3).then_some(Rgb8 { width, height, data })
    }

    /// The three bytes of the pixel at column `x`, row `y`. Panics outside the picture.
    pub fn pixel(&self, x: u32, y: u32) -> [u8; 3] {
        let at = (y as usize * self.width as usize + x as usize) * 3;
        [self.data[at], self.data[at + 1], self.data[at + 2]]
    }
}

/// Prints the size, not a million bytes.
impl std::fmt::Debug for Rgb8 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Rgb8({}x{})", self.width, self.height)
    }
}

/// One still picture from one camera. Shared behind an [`Arc`], never changed.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Counts the frames that this camera delivered since it was opened, from 1; a hole is a frame
    /// that was replaced in the slot before anyone looked.
    pub sequence: u64,
    /// The camera's name: that of its station.
    pub camera: Arc<str>,
    /// When the frame reached us.
    pub captured: Stamp,
    /// The pipeline's own time stamp in nanoseconds since it started to play, if it gave one.
    pub pipeline_ns: Option<u64>,
    /// The pixels.
    pub picture: Picture,
}
