//! How far a picture's embeddings move when tower and projector are stored in fewer bits.
//!
//! Both towers pass over the same test picture, a layer in memory at a time, so that a machine with
//! less memory than a tower in f32 takes can do it.

use std::path::Path;

use candle_core::{DType, Device, Tensor};

use super::Event;
use super::error::QuantizeError;
use super::source::Source;
use crate::vlm::config::ModelConfig;
use crate::vlm::linear::Loader;
use crate::vlm::picture::Picture;
use crate::vlm::pixels::{self, TILE};
use crate::vlm::projector::Projector;
use crate::vlm::vision::Tower;
use crate::vlm::weights::ModelFolder;

/// The difference between two sets of embeddings of one picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EmbeddingError {
    /// The error's root mean square over that of the embeddings.
    pub relative: f64,
    /// The smallest cosine between a token's embedding and what became of it.
    pub worst_cosine: f64,
    /// The largest difference of a single number.
    pub largest: f64,
}

/// Compares the embeddings that `source` and the file `quantised` make of the test picture.
pub(super) fn compare(
    source: &Source,
    quantised: &Path,
    report: &mut dyn FnMut(Event<'_>),
) -> Result<EmbeddingError, QuantizeError> {
    let exact = embeddings(&source.folder, &source.config)?; // (tokens, hidden)
    report(Event::Advance(1));
    let close = embeddings(&ModelFolder::open(quantised)?, &source.config)?; // (tokens, hidden)
    report(Event::Advance(1));
    Ok(difference(&exact, &close)?)
}

/// The test picture's embeddings, (tokens, hidden), in f32.
fn embeddings(folder: &ModelFolder, config: &ModelConfig) -> Result<Tensor, QuantizeError> {
    let rgb = test_pixels();
    let picture = Picture::new(TILE as u32, TILE as u32, &rgb)?;
    let views = pixels::prepare(&picture, 1, &config.image)?;
    let view = Tensor::from_slice(&views.global, (3, TILE, TILE), &Device::Cpu)?; // (3, 336, 336)
    let loader = Loader::new(folder, DType::F32, &Device::Cpu);
    let features = Tower::pass_layer_by_layer(&loader, &config.vision, &view)?; // (576, width)
    let projector = Projector::load(&loader, config)?;
    let tiles = [features.clone()];
    Ok(projector.forward(&features, &tiles, &views.layout)?) // (tokens, hidden)
}

/// A picture with edges, slopes and grain: (336, 336, 3).
pub(in crate::vlm) fn test_pixels() -> Vec<u8> {
    let mut seed = 0x2545_f491_u32;
    let mut grain = || {
        seed ^= seed << 13;
        seed ^= seed >> 17;
        seed ^= seed << 5;
        (seed >> 28) as usize
    };
    let mut rgb = Vec::with_capacity(3 * TILE * TILE);
    for y in 0..TILE {
        for x in 0..TILE {
            let (dx, dy) = (x.abs_diff(150), y.abs_diff(190));
            let disc = if dx * dx + dy * dy < 9_000 { 110 } else { 0 };
            let stripes = if (x / 9 + y / 31) % 5 == 0 { 60 } else { 0 };
            let levels =
                [40 + disc + x / 6 + grain(), 70 + stripes + y / 5, 90 + disc / 2 + grain()];
            rgb.extend(levels.map(|level| level.min(255) as u8));
        }
    }
    rgb
}

fn difference(exact: &Tensor, close: &Tensor) -> candle_core::Result<EmbeddingError> {
    let sums = |t: Tensor| -> candle_core::Result<Vec<f64>> {
        Ok(t.sum(1)?.to_vec1::<f32>()?.into_iter().map(f64::from).collect())
    };
    let off = (close - exact)?; // (tokens, hidden)
    let error: f64 = sums(off.sqr()?)?.iter().sum();
    let (a, b) = (sums(exact.sqr()?)?, sums(close.sqr()?)?);
    let products = sums((exact * close)?)?;
    let cosines = products.iter().zip(a.iter().zip(&b)).map(|(product, (a, b))| {
        // Two vectors without length are the same.
        if *a == 0.0 && *b == 0.0 { 1.0 } else { product / (a * b).sqrt() }
    });
    let number: f64 = a.iter().sum();
    Ok(EmbeddingError {
        relative: if error == 0.0 { 0.0 } else { (error / number).sqrt() },
        worst_cosine: cosines.fold(1.0, |worst: f64, one| if one >= worst { worst } else { one }),
        largest: f64::from(off.abs()?.max_all()?.to_scalar::<f32>()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_difference_of_the_same_is_none() {
        let a = Tensor::new(&[[1.0_f32, 2.0], [0.0, 0.0]], &Device::Cpu).unwrap();
        let none = difference(&a, &a).unwrap();
        assert_eq!((none.relative, none.largest), (0.0, 0.0));
        assert!((none.worst_cosine - 1.0).abs() < 1e-9);
        let b = Tensor::new(&[[2.0_f32, -1.0], [0.0, 0.0]], &Device::Cpu).unwrap();
        let square = difference(&a, &b).unwrap();
        assert!(square.worst_cosine.abs() < 1e-9 && square.largest == 3.0, "{square:?}");
    }

    #[test]
    fn the_test_picture_fills_its_tile() {
        let rgb = test_pixels();
        assert_eq!(rgb.len(), 3 * TILE * TILE);
        assert!(rgb.iter().max() > Some(&200) && rgb.iter().min() < Some(&60));
    }
}
