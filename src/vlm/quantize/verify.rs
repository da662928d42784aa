//! The written file against the source, tensor by tensor, before it gets its name.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use rayon::prelude::*;
use sha2::{Digest as _, Sha256};

use super::encode::{self, NEGLIGIBLE, Squares, is_stopped};
use super::error::QuantizeError;
use super::source::{Rows, Source, hex};
use super::{Event, Plan, Planned, parts, pieces};
use crate::vlm::gguf::{GgufModel, TENSOR_DIGESTS};

/// The tensors of one storage.
#[derive(Clone, Debug, PartialEq)]
pub struct KindSummary {
    /// The storage.
    pub kind: &'static str,
    /// How many tensors.
    pub tensors: usize,
    /// Their numbers.
    pub weights: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The error's root mean square over that of the numbers, over all of them.
    pub mean_error: f64,
    /// The same of the tensor that came out worst.
    pub worst_error: f64,
    /// That tensor's name in the file.
    pub worst_tensor: String,
}

/// Reads the file back: its header with the program's own reader, every tensor's bytes against
/// their digest, and every number against the source within what its storage allows.
pub(super) fn verify(
    source: &mut Source,
    plan: &Plan,
    path: &Path,
    stop: &AtomicBool,
    report: &mut dyn FnMut(Event<'_>),
) -> Result<Vec<KindSummary>, QuantizeError> {
    let model = GgufModel::open(path)?;
    let file = File::open(path).map_err(|e| QuantizeError::read(path, e))?;
    let mut digests = model.text(TENSOR_DIGESTS).unwrap_or_default().lines();
    report(Event::Stage { name: "verifying (weights)", bytes: plan.weights() });
    let mut found: Vec<(&Planned, Squares)> = Vec::new();
    for (number, (tensor, info)) in plan.tensors.iter().zip(model.tensors()).enumerate() {
        let unfaithful = |problem: String| QuantizeError::Unfaithful {
            path: path.to_path_buf(),
            tensor: tensor.named.gguf.clone(),
            problem,
        };
        if info.name != tensor.named.gguf || info.bytes.len() as u64 != tensor.len_bytes {
            return Err(unfaithful(format!("stands in the header as {info:?}")));
        }
        let rows = source.tensor(&tensor.named.published, &tensor.named.shape)?;
        let mut hasher = Sha256::new();
        let mut squares = Squares::default();
        for piece in pieces(tensor) {
            if is_stopped(stop) {
                return Err(QuantizeError::Stopped { done: number, of: plan.tensors.len() });
            }
            let read = read_piece(&file, path, info.bytes.start as u64, tensor, piece)?;
            hasher.update(&read);
            squares = squares.plus(compare_piece(&rows, tensor, piece, &read)?);
            report(Event::Advance(piece.1 as u64 * tensor.matrix().1 as u64));
        }
        let line = format!("{}  {}", hex(&hasher.finalize()), tensor.named.gguf);
        if digests.next() != Some(line.as_str()) {
            return Err(unfaithful("does not have the bytes that were written".to_string()));
        }
        check_error(tensor, squares).map_err(unfaithful)?;
        found.push((tensor, squares));
    }
    Ok(summarise(&found))
}

fn check_error(tensor: &Planned, squares: Squares) -> Result<(), String> {
    let most = encode::most_relative_error(tensor.kind);
    // Written so that an error that is no number is not within any bound.
    if squares.relative() <= most || squares.root_mean() <= NEGLIGIBLE {
        return Ok(());
    }
    Err(format!(
        "is {:.4} from the source (root mean square, relative), more than the {most} that {} allows",
        squares.relative(),
        tensor.kind.name()
    ))
}

fn read_piece(
    file: &File,
    path: &Path,
    start_bytes: u64,
    tensor: &Planned,
    (begin, count): (usize, usize),
) -> Result<Vec<u8>, QuantizeError> {
    let row = row_bytes(tensor);
    let mut buffer = vec![0; row * count];
    file.read_exact_at(&mut buffer, start_bytes + (row * begin) as u64)
        .map_err(|e| QuantizeError::read(path, e))?;
    Ok(buffer)
}

fn row_bytes(tensor: &Planned) -> usize {
    tensor.kind.row_bytes(tensor.matrix().1).expect("the mix gives whole blocks")
}

/// The squares over a piece, on all threads. Their sum does not depend on the number of threads by
/// more than its last digits, and nothing is stored of it.
fn compare_piece(
    rows: &Rows<'_>,
    tensor: &Planned,
    (begin, count): (usize, usize),
    bytes: &[u8],
) -> Result<Squares, QuantizeError> {
    let (row, columns) = (row_bytes(tensor), tensor.matrix().1);
    let squares = parts(begin, count)
        .into_par_iter()
        .map(|(at, some)| {
            let own = &bytes[(at - begin) * row..(at - begin + some) * row];
            let stored = encode::decode(own, tensor.kind, some, columns)?;
            Ok(Squares::of(&stored, &rows.read(at, some)?)?)
        })
        .collect::<Result<Vec<_>, QuantizeError>>()?;
    Ok(squares.into_iter().fold(Squares::default(), Squares::plus))
}

fn summarise(found: &[(&Planned, Squares)]) -> Vec<KindSummary> {
    let mut kinds: Vec<_> = found.iter().map(|(tensor, _)| tensor.kind).collect();
    kinds.sort();
    kinds.dedup();
    let summary = |kind| {
        let own: Vec<_> = found.iter().filter(|(tensor, _)| tensor.kind == kind).collect();
        let sum = own.iter().fold(Squares::default(), |sum, (_, squares)| sum.plus(*squares));
        let worst = own.iter().max_by(|a, b| a.1.relative().total_cmp(&b.1.relative()));
        let (worst, squares) = worst.expect("the kind comes from one of them");
        KindSummary {
            kind: kind.name(),
            tensors: own.len(),
            weights: own.iter().map(|(tensor, _)| tensor.weights()).sum(),
            bytes: own.iter().map(|(tensor, _)| tensor.len_bytes).sum(),
            mean_error: sum.relative(),
            worst_error: squares.relative(),
            worst_tensor: worst.named.gguf.clone(),
        }
    };
    kinds.into_iter().map(summary).collect()
}
