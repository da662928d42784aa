//! Which inputs of a decoder's matrices are large on the pictures of a station: the importance
//! matrix.
//!
//! An error in a weight costs as much as what it is multiplied by is large. So the mean of each
//! input's square, taken while the model answers a station's questions about its pictures, says
//! where the blocks of a smaller format should be exact. Tower and projector are not observed: they
//! are stored in 8 bits whatever the mix.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Result, Tensor};
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize};

use super::digest::Digest;
use super::gguf::names;

/// Largest importance matrix accepted; the full model's has 2.6 MB.
const MAX_FILE_BYTES: u64 = 64 << 20;
/// The smallest importance beside a matrix's mean: an input that no calibration picture moved may
/// still be moved by a part.
const LEAST: f32 = 0.01;

/// Collects the squares of every matrix's inputs while an engine works.
#[derive(Debug, Default)]
pub struct Observer {
    taps: Mutex<BTreeMap<String, Arc<Tap>>>,
}

/// The sums of one matrix.
#[derive(Debug)]
pub struct Tap {
    sums: Mutex<Sums>,
}

#[derive(Debug)]
struct Sums {
    squares: Vec<f64>,
    rows: u64,
}

/// The importance of each input of each matrix, by the matrix's name in a GGUF file.
#[derive(Clone, Debug, PartialEq)]
pub struct Imatrix {
    means: HashMap<String, Vec<f32>>,
    sha256: String,
}

/// Why an importance matrix cannot be used or written.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct ImatrixError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: String,
}

impl Observer {
    /// The tap of the matrix that is published as `name`, with `inputs` columns.
    pub(crate) fn tap(&self, name: &str, inputs: usize) -> Arc<Tap> {
        let own = names::gguf_name(name).unwrap_or_else(|| name.to_string());
        let sums = Sums { squares: vec![0.0; inputs], rows: 0 };
        let fresh = Arc::new(Tap { sums: Mutex::new(sums) });
        let mut taps = self.taps.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(taps.entry(own).or_insert(fresh))
    }

    /// Rows that each matrix has seen, at most.
    pub fn rows(&self) -> u64 {
        let taps = self.taps.lock().unwrap_or_else(PoisonError::into_inner);
        taps.values().map(|tap| tap.lock().rows).max().unwrap_or(0)
    }

    /// Writes the means to `path` as safetensors: one f32 for each input of each matrix that saw
    /// any.
    ///
    /// # Errors
    /// Nothing was observed, or the file cannot be written.
    pub fn write(&self, path: &Path) -> std::result::Result<(), ImatrixError> {
        let refuse = |problem: String| ImatrixError { path: path.to_path_buf(), problem };
        let taps = self.taps.lock().unwrap_or_else(PoisonError::into_inner);
        let means = taps.iter().filter_map(|(name, tap)| Some((name, tap.lock().means()?)));
        let means: Vec<(&String, usize, Vec<u8>)> = means
            .map(|(name, means)| {
                (name, means.len(), means.iter().flat_map(|mean| mean.to_le_bytes()).collect())
            })
            .collect();
        if means.is_empty() {
            return Err(refuse("the model has not looked at anything".to_string()));
        }
        let views = means.iter().map(|(name, len, bytes)| {
            let view = TensorView::new(Dtype::F32, vec![*len], bytes);
            (name.as_str(), view.expect("4 bytes a number"))
        });
        let bytes = serialize(views, None).map_err(|e| refuse(e.to_string()))?;
        std::fs::write(path, bytes).map_err(|e| refuse(e.to_string()))
    }
}

impl Tap {
    fn lock(&self) -> std::sync::MutexGuard<'_, Sums> {
        self.sums.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the rows of `x`, (rows, in).
    pub(crate) fn see(&self, x: &Tensor) -> Result<()> {
        let squares = x.to_dtype(DType::F32)?.sqr()?.sum(0)?.to_vec1::<f32>()?; // (in)
        let mut sums = self.lock();
        for (sum, square) in sums.squares.iter_mut().zip(squares) {
            *sum += f64::from(square);
        }
        sums.rows += x.dim(0)? as u64;
        Ok(())
    }
}

impl Sums {
    /// `None` if no row was seen.
    fn means(&self) -> Option<Vec<f32>> {
        let rows = self.rows as f64;
        (self.rows > 0).then(|| self.squares.iter().map(|sum| (sum / rows) as f32).collect())
    }
}

impl Imatrix {
    /// Reads what [`Observer::write`] has written.
    ///
    /// # Errors
    /// The file is too large, is not such a file, or holds a number that is negative or not finite.
    pub fn read(path: &Path) -> std::result::Result<Imatrix, ImatrixError> {
        let refuse = |problem: String| ImatrixError { path: path.to_path_buf(), problem };
        let size = std::fs::metadata(path).map_err(|e| refuse(e.to_string()))?.len();
        if size > MAX_FILE_BYTES {
            return Err(refuse(format!("{size} bytes are too many for an importance matrix")));
        }
        let bytes = std::fs::read(path).map_err(|e| refuse(e.to_string()))?;
        let file = SafeTensors::deserialize(&bytes)
            .map_err(|e| refuse(format!("is no importance matrix: {e}")))?;
        let mut means = HashMap::new();
        for (name, view) in file.tensors() {
            let found = read_means(&view).map_err(|what| refuse(format!("`{name}` {what}")))?;
            means.insert(name, found);
        }
        if means.is_empty() {
            return Err(refuse("holds nothing".to_string()));
        }
        Ok(Imatrix { means, sha256: Digest::of(&bytes).to_string() })
    }

    /// The file's SHA-256.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The importance of the `columns` inputs of the matrix `name`; `None` if it was not observed.
    ///
    /// # Errors
    /// The number of inputs, where it is another: the matrix is of another model.
    pub fn of(&self, name: &str, columns: usize) -> std::result::Result<Option<&[f32]>, usize> {
        match self.means.get(name) {
            Some(means) if means.len() != columns => Err(means.len()),
            found => Ok(found.map(Vec::as_slice)),
        }
    }
}

/// The means, with the mean of means 1 and none below [`LEAST`].
fn read_means(view: &TensorView<'_>) -> std::result::Result<Vec<f32>, String> {
    if view.dtype() != Dtype::F32 || view.shape().len() != 1 {
        return Err("is not a row of f32".to_string());
    }
    let numbers = view.data().chunks_exact(4);
    let means: Vec<f32> = numbers
        .map(|bytes| f32::from_le_bytes(bytes.try_into().expect("chunks of 4 bytes")))
        .collect();
    if let Some(bad) = means.iter().find(|mean| !(mean.is_finite() && **mean >= 0.0)) {
        return Err(format!("holds {bad}, which is no mean of squares"));
    }
    let mean = means.iter().map(|mean| f64::from(*mean)).sum::<f64>() / means.len().max(1) as f64;
    let scaled = |one: &f32| if mean > 0.0 { (f64::from(*one) / mean) as f32 } else { 1.0 };
    Ok(means.iter().map(|one| scaled(one).max(LEAST)).collect())
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn means_are_written_and_read_with_mean_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("i.safetensors");
        let observer = Observer::default();
        assert!(observer.write(&path).is_err());
        let tap = observer.tap("model.layers.3.mlp.down_proj.weight", 4);
        observer.tap("model.layers.4.mlp.down_proj.weight", 4); // never used
        let rows = Tensor::new(&[[1.0_f32, 0.0, 2.0, 0.0], [1.0, 0.0, 4.0, 0.0]], &Device::Cpu);
        tap.see(&rows.unwrap()).unwrap();
        tap.see(&Tensor::new(&[[1.0_f32, 0.0, 0.0, 0.0]], &Device::Cpu).unwrap()).unwrap();
        assert_eq!(observer.rows(), 3);
        observer.write(&path).unwrap();
        let read = Imatrix::read(&path).unwrap();
        let found = read.of("blk.3.ffn_down.weight", 4).unwrap().unwrap();
        let mean = (1.0 + 20.0 / 3.0) / 4.0;
        let expected = [1.0 / mean, LEAST, 20.0 / 3.0 / mean, LEAST];
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5), "{found:?}");
        assert_eq!(read.of("blk.4.ffn_down.weight", 4), Ok(None));
        assert_eq!(read.of("blk.3.ffn_down.weight", 5), Err(4));
    }

    #[test]
    fn files_that_are_no_importance_matrix_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("i.safetensors");
        let refused = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            Imatrix::read(&path).unwrap_err().to_string()
        };
        assert!(refused(b"").contains("is no importance matrix"));
        assert!(refused(&u64::MAX.to_le_bytes()).contains("is no importance matrix"));
        for bad in [f32::NAN, -1.0, f32::INFINITY] {
            let data = bad.to_le_bytes();
            let view = TensorView::new(Dtype::F32, vec![1], &data).unwrap();
            let words = refused(&serialize([("x", view)], None).unwrap());
            assert!(words.contains("no mean of squares"), "{words}");
        }
    }
}
