//! Rows of numbers to the bytes of a storage and back, and how far apart the two are.

use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::quantized::{QStorage, QTensor};
use candle_core::{DType, Device, Result, Tensor};

use crate::vlm::gguf::Kind;
use crate::vlm::quant::Format;

/// Rows of weights in `kind`. `rows`: (rows, columns), f32. `importance`: one weight a column,
/// larger where an error costs more.
///
/// Without it the 4 and 5 bit formats are given equal weights: the library's search with weights is
/// the finer one, and finds blocks closer to the numbers than its plain search.
pub(super) fn encode(rows: &Tensor, kind: Kind, importance: Option<&[f32]>) -> Result<Vec<u8>> {
    let format = match kind {
        Kind::F32 => {
            let numbers = rows.flatten_all()?.to_vec1::<f32>()?;
            return Ok(numbers.iter().flat_map(|number| number.to_le_bytes()).collect());
        }
        Kind::F16 => {
            let numbers = rows.to_dtype(DType::F16)?.flatten_all()?.to_vec1::<half::f16>()?;
            return Ok(numbers.iter().flat_map(|number| number.to_le_bytes()).collect());
        }
        Kind::Bf16 => {
            let numbers = rows.to_dtype(DType::BF16)?.flatten_all()?.to_vec1::<half::bf16>()?;
            return Ok(numbers.iter().flat_map(|number| number.to_le_bytes()).collect());
        }
        Kind::Blocks(format) => format,
    };
    let equal;
    let importance = match (format, importance) {
        (Format::Q8_0, _) => None, // its search has no use for weights
        (Format::Q4K | Format::Q5K, None) => {
            equal = vec![1.0; rows.dim(1)?];
            Some(equal.as_slice())
        }
        (_, given) => given,
    };
    let stored = match importance {
        Some(weights) => QTensor::quantize_imatrix(rows, weights, format.ggml())?,
        None => QTensor::quantize(rows, format.ggml())?,
    };
    Ok(stored.data()?.into_owned())
}

/// What `encode` made, as numbers: (rows, columns), f32.
pub(super) fn decode(bytes: &[u8], kind: Kind, rows: usize, columns: usize) -> Result<Tensor> {
    let shape = [rows, columns];
    match (kind, kind.dtype()) {
        (Kind::Blocks(format), _) => {
            let blocks = QStorage::from_data(bytes.into(), &Device::Cpu, format.ggml())?;
            QTensor::new(blocks, &shape)?.dequantize(&Device::Cpu)
        }
        (_, dtype) => {
            let dtype = dtype.expect("a storage is blocks or has a type");
            Tensor::from_raw_buffer(bytes, dtype, &shape, &Device::Cpu)?.to_dtype(DType::F32)
        }
    }
}

/// Whether every number of `rows` is finite.
pub(super) fn is_finite(rows: &Tensor) -> Result<bool> {
    // A NaN or an infinity times 0 is a NaN, and stays one in a sum.
    Ok(rows.affine(0.0, 0.0)?.sum_all()?.to_scalar::<f32>()? == 0.0)
}

/// Sums of squares over part of a tensor: of the errors, and of the numbers themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Squares {
    pub(super) error: f64,
    pub(super) number: f64,
    pub(super) count: u64,
}

impl Squares {
    /// Of `stored` against `exact`, both (rows, columns), f32.
    pub(super) fn of(stored: &Tensor, exact: &Tensor) -> Result<Squares> {
        let sum = |squares: Tensor| -> Result<f64> {
            // Row by row in f32, the rows in f64: a sum of millions in f32 loses digits.
            let rows = squares.sum(1)?.to_vec1::<f32>()?;
            Ok(rows.into_iter().map(f64::from).sum())
        };
        let error = sum((stored - exact)?.sqr()?)?;
        Ok(Squares { error, number: sum(exact.sqr()?)?, count: exact.elem_count() as u64 })
    }

    /// Both parts together.
    pub(super) fn plus(self, other: Squares) -> Squares {
        Squares {
            error: self.error + other.error,
            number: self.number + other.number,
            count: self.count + other.count,
        }
    }

    /// The error's root mean square over that of the numbers; 0 where both are 0.
    pub(super) fn relative(self) -> f64 {
        if self.error == 0.0 { 0.0 } else { (self.error / self.number).sqrt() }
    }

    /// The error's root mean square.
    pub(super) fn root_mean(self) -> f64 {
        if self.count == 0 { 0.0 } else { (self.error / self.count as f64).sqrt() }
    }
}

/// The largest relative error (root mean square) that a tensor in `kind` may have.
///
/// Bounds of the arithmetic, not of experience: with 32 numbers in a block, a largest one of a, and
/// steps of a / 127, no error exceeds a / 254, and the numbers' squares sum to a² at least, which
/// makes 32^0.5 / 254 = 0.022 for Q8_0. The K formats are bounded in the same way. Weights as they
/// are trained stay at a third of it and less; what is above was not computed from these numbers.
pub(super) const fn most_relative_error(kind: Kind) -> f64 {
    match kind {
        Kind::F32 => 0.0,
        Kind::F16 => 0.001,
        Kind::Bf16 => 0.004,
        Kind::Blocks(Format::Q8_0) => 0.023,
        Kind::Blocks(Format::Q6K) => 0.13,
        Kind::Blocks(Format::Q5K) => 0.19,
        Kind::Blocks(Format::Q4K) => 0.38,
    }
}

/// An error that counts for nothing whatever it is relative to: scales are f16, which ends at 6e-8,
/// and a scale is multiplied by up to 127.
pub(super) const NEGLIGIBLE: f64 = 8e-6;

/// Ends the work when a signal asks for it: looked at between pieces.
pub(super) fn is_stopped(stop: &AtomicBool) -> bool {
    stop.load(Ordering::SeqCst)
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::vlm::quant::FORMATS;

    /// About normal, as weights are: the sum of 12 uniform numbers less 6.
    fn normal(rows: usize, columns: usize, scale: f32, seed: u64) -> Tensor {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        let mut one = || (0..12).map(|_| rng.random::<f32>()).sum::<f32>() - 6.0;
        let numbers: Vec<f32> = (0..rows * columns).map(|_| one() * scale).collect();
        Tensor::from_vec(numbers, (rows, columns), &Device::Cpu).unwrap()
    }

    fn error(rows: &Tensor, kind: Kind, importance: Option<&[f32]>) -> f64 {
        let bytes = encode(rows, kind, importance).unwrap();
        let (r, c) = rows.dims2().unwrap();
        Squares::of(&decode(&bytes, kind, r, c).unwrap(), rows).unwrap().relative()
    }

    #[test]
    fn weights_come_back_within_what_their_format_allows() {
        let rows = normal(8, 512, 0.02, 1);
        let limits = [0.006, 0.02, 0.04, 0.08];
        for (format, limit) in FORMATS.into_iter().zip(limits) {
            let found = error(&rows, Kind::Blocks(format), None);
            assert!(found > limit / 4.0 && found < limit, "{format:?}: {found}");
        }
        assert_eq!(error(&rows, Kind::F32, None), 0.0);
        assert!(error(&rows, Kind::F16, None) < 5e-4);
    }

    #[test]
    fn equal_weights_beat_the_plain_search() {
        let rows = normal(16, 512, 0.02, 2);
        for format in [Format::Q4K, Format::Q5K] {
            let plain = QTensor::quantize(&rows, format.ggml()).unwrap();
            let plain = Squares::of(&plain.dequantize(&Device::Cpu).unwrap(), &rows).unwrap();
            let ours = error(&rows, Kind::Blocks(format), None);
            assert!(ours < plain.relative(), "{format:?}: {ours} {plain:?}");
        }
    }

    #[test]
    fn zeros_giants_and_dwarfs_stay_in_bounds() {
        for format in FORMATS {
            let kind = Kind::Blocks(format);
            let zeros = Tensor::zeros((2, 256), DType::F32, &Device::Cpu).unwrap();
            assert_eq!(error(&zeros, kind, None), 0.0, "{format:?}");
            for spike in [1.0, -1.0, 30.0] {
                let mut numbers = vec![0.001_f32; 512];
                numbers[77] = spike;
                let rows = Tensor::from_vec(numbers, (2, 256), &Device::Cpu).unwrap();
                let found = error(&rows, kind, None);
                assert!(found <= most_relative_error(kind), "{format:?} {spike}: {found}");
            }
            let dwarfs = normal(2, 256, 1e-9, 3);
            let bytes = encode(&dwarfs, kind, None).unwrap();
            let back = decode(&bytes, kind, 2, 256).unwrap();
            assert!(Squares::of(&back, &dwarfs).unwrap().root_mean() < NEGLIGIBLE);
        }
    }

    #[test]
    fn importance_moves_the_error_to_where_it_costs_less() {
        let rows = normal(16, 256, 0.02, 4);
        let importance: Vec<f32> =
            (0..256).map(|i| if i % 2 == 0 { 100.0 } else { 0.01 }).collect();
        let weighed = |given: Option<&[f32]>| {
            let kind = Kind::Blocks(Format::Q4K);
            let back = decode(&encode(&rows, kind, given).unwrap(), kind, 16, 256).unwrap();
            let weights = Tensor::new(importance.as_slice(), &Device::Cpu).unwrap();
            let error = (back - &rows).unwrap().sqr().unwrap().broadcast_mul(&weights).unwrap();
            error.sum_all().unwrap().to_scalar::<f32>().unwrap()
        };
        assert!(weighed(Some(&importance)) < 0.9 * weighed(None));
    }

    #[test]
    fn what_is_not_finite_is_seen() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let rows = Tensor::from_vec(vec![1.0, bad, 2.0, 3.0], (2, 2), &Device::Cpu).unwrap();
            assert!(!is_finite(&rows).unwrap());
        }
        assert!(is_finite(&normal(2, 32, 1e30, 5)).unwrap());
    }
}
