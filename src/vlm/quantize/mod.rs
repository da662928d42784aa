//! A published model folder to one GGUF file with quantised weights.
//!
//! The work goes tensor by tensor: rows are read, become blocks on all threads, and are written to
//! their final place in an unfinished file beside the target. Memory holds one piece of one tensor.
//! An interrupted run goes on where it stopped; a finished file is read back and compared with the
//! source before it gets its name.
//!
//! | file | what |
//! |---|---|
//! | [`mix`], [`plan`] | which format each tensor gets, where it will lie, and the sizes that follow |
//! | `source` | the folder as rows and digests |
//! | `encode` | rows to blocks and back, and the error between |
//! | `partial` | the unfinished file and its journal |
//! | `verify`, `eye` | the finished file against the source: tensors, and a picture's embeddings |

mod encode;
mod error;
pub(in crate::vlm) mod eye;
pub mod mix;
mod partial;
pub mod plan;
mod source;
mod verify;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use rayon::prelude::*;
use sha2::{Digest as _, Sha256};

pub use error::QuantizeError;
pub use eye::EmbeddingError;
pub use mix::{MIXES, Mix};
pub use plan::{Plan, Planned};
pub use verify::KindSummary;

use crate::vlm::calibrate::{Imatrix, ImatrixError};
use crate::vlm::gguf::Kind;
use crate::vlm::quant::Format;
use encode::is_stopped;
use partial::{Identity, Partial};
use plan::Texts;
use source::{Rows, Source, hex};

/// Numbers of a tensor that are in memory at once: 16 MB as f32.
const PIECE_WEIGHTS: usize = 4 << 20;

/// What is to be made.
#[derive(Clone, Debug)]
pub struct QuantizeOptions {
    /// The publisher's folder.
    pub model: PathBuf,
    /// The mix of formats.
    pub mix: Mix,
    /// The file to make.
    pub out: PathBuf,
    /// Whether a file that is there already is replaced.
    pub force: bool,
    /// An importance matrix, as `calibrate` writes it.
    pub imatrix: Option<PathBuf>,
}

/// What a run tells while it works.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// A stage begins, in which so many bytes will be seen.
    Stage {
        /// What it does.
        name: &'static str,
        /// Bytes of the whole stage.
        bytes: u64,
    },
    /// More bytes of the stage are done.
    Advance(u64),
    /// A tensor is written.
    Tensor {
        /// Its name in the file.
        name: &'a str,
        /// Its storage.
        kind: &'static str,
        /// Tensors that are written, this one included.
        done: usize,
        /// Tensors in all.
        of: usize,
    },
    /// Something that the user should know.
    Note(String),
}

/// What was made, and how well.
#[derive(Clone, Debug)]
pub struct QuantizeSummary {
    /// The file.
    pub out: PathBuf,
    /// Its bytes.
    pub file_bytes: u64,
    /// Bytes of the decoder's tensors.
    pub decoder_bytes: u64,
    /// Numbers in all tensors.
    pub weights: u64,
    /// Tensors that an earlier, interrupted run had written.
    pub resumed: usize,
    /// Tensors whose rows are not whole blocks of the mix's choice.
    pub fell_back: usize,
    /// Matrices for which the importance matrix weighed the errors.
    pub weighed: usize,
    /// Tensors, bytes and errors of each storage.
    pub kinds: Vec<KindSummary>,
    /// How far the test picture's embeddings are from those of the source.
    pub embeddings: EmbeddingError,
}

/// Makes the file. `report` hears how far it is; `stop` ends the work at the next piece.
///
/// # Errors
/// [`QuantizeError`]; what is written stays for the next run unless the message says otherwise.
pub fn quantize(
    options: &QuantizeOptions,
    stop: &AtomicBool,
    report: &mut dyn FnMut(Event<'_>),
) -> Result<QuantizeSummary, QuantizeError> {
    let mut source = Source::open(&options.model)?;
    check_target(options, &source)?;
    let plan = Plan::new(&source.config, options.mix);
    check_tensors(&mut source, &plan)?;
    let imatrix = read_imatrix(options, &plan)?;
    let mut partial = Partial::open(&options.out)?;
    let resumed = prepare(options, &source, &plan, imatrix.as_ref(), &mut partial, stop, report);
    let resumed = resumed.map_err(|error| match error {
        // Those who only read know nothing of the plan.
        QuantizeError::Stopped { done, .. } => {
            QuantizeError::Stopped { done, of: plan.tensors.len() }
        }
        other => other,
    })?;
    let identity = resumed.identity;
    check_room(&options.out, &plan, &partial)?;
    write_tensors(options, &mut source, &plan, &imatrix, &mut partial, stop, report)?;

    let digests = source_lines(&identity);
    let header =
        plan.header(&source.config, &texts(&source, &digests, &identity, &partial.digests));
    partial.finish(&header.bytes(), header.file_bytes())?;
    let kinds = match verify::verify(&mut source, &plan, partial.path(), stop, report) {
        Err(error @ QuantizeError::Unfaithful { .. }) => {
            partial.discard();
            return Err(error);
        }
        other => other?,
    };
    report(Event::Stage { name: "embeddings of a test picture", bytes: 2 });
    let embeddings = eye::compare(&source, partial.path(), report)?;
    partial.publish(&options.out)?;
    Ok(QuantizeSummary {
        out: options.out.clone(),
        file_bytes: header.file_bytes(),
        decoder_bytes: plan.decoder_bytes(),
        weights: plan.weights(),
        resumed: resumed.tensors,
        weighed: plan
            .tensors
            .iter()
            .filter(|tensor| importance(tensor, &imatrix).is_some())
            .count(),
        fell_back: plan.tensors.iter().filter(|tensor| tensor.fell_back).count(),
        kinds,
        embeddings,
    })
}

/// Refuses a target that must not or cannot be written.
fn check_target(options: &QuantizeOptions, source: &Source) -> Result<(), QuantizeError> {
    let out = &options.out;
    let refuse = |problem: &str| {
        Err(QuantizeError::Target { path: out.clone(), problem: problem.to_string() })
    };
    if out.is_dir() {
        return refuse("it is a folder; name a file, such as model.gguf");
    }
    if out.file_name().is_none() || !partial::folder_of(out).is_dir() {
        return refuse("its folder is not there");
    }
    if !out.exists() {
        return Ok(());
    }
    // --force must not turn the source into the result.
    let same = |name: &String| {
        let own = options.model.join(name).canonicalize();
        matches!((own, out.canonicalize()), (Ok(a), Ok(b)) if a == b)
    };
    if source.files()?.iter().any(|file| same(&file.name)) {
        return refuse("it is a file of the model folder itself");
    }
    if !options.force {
        return Err(QuantizeError::Exists { path: out.clone() });
    }
    Ok(())
}

/// Refuses a folder with a tensor that is missing or of another shape, before hours of work.
fn check_tensors(source: &mut Source, plan: &Plan) -> Result<(), QuantizeError> {
    for tensor in &plan.tensors {
        source.tensor(&tensor.named.published, &tensor.named.shape)?;
    }
    Ok(())
}

struct Resumed {
    identity: Identity,
    /// Tensors that were written already.
    tensors: usize,
}

/// Finds out whether an earlier run can be gone on with; otherwise begins anew, with the digests of
/// the source.
fn prepare(
    options: &QuantizeOptions,
    source: &Source,
    plan: &Plan,
    imatrix: Option<&Imatrix>,
    partial: &mut Partial,
    stop: &AtomicBool,
    report: &mut dyn FnMut(Event<'_>),
) -> Result<Resumed, QuantizeError> {
    let wanted = Identity {
        program: env!("CARGO_PKG_VERSION").to_string(),
        mix: options.mix.name().to_string(),
        imatrix: imatrix.map(|imatrix| imatrix.sha256().to_string()),
        source: source.files()?,
    };
    let earlier = partial.read_journal();
    let identity = match &earlier {
        Some((earlier, _)) if same_files(&earlier.source, &wanted.source) => {
            Identity { source: earlier.source.clone(), ..wanted }
        }
        _ => digest_source(source, wanted, stop, report)?,
    };
    let digests = source_lines(&identity);
    let data_start =
        plan.header(&source.config, &texts(source, &digests, &identity, &[])).bytes().len() as u64;
    if let Some((earlier, listed)) = &earlier {
        match changed(earlier, &identity) {
            None => {
                let bytes = plan.tensors.iter().take(listed.len()).map(|t| t.len_bytes).sum();
                report(Event::Stage { name: "comparing what is written already", bytes });
                let seen = |bytes| report(Event::Advance(bytes));
                partial.resume(plan, data_start, listed, stop, seen)?;
            }
            Some(why) => report(Event::Note(format!(
                "an unfinished file is there, but {why}: starting anew"
            ))),
        }
    }
    let tensors = partial.digests.len();
    if tensors == 0 {
        partial.begin(&identity, data_start)?;
    } else {
        let names: Vec<&str> =
            plan.tensors.iter().map(|tensor| tensor.named.gguf.as_str()).collect();
        partial.rewrite_journal(&identity, &names)?;
        report(Event::Note(format!("going on after {tensors} of {} tensors", plan.tensors.len())));
    }
    Ok(Resumed { identity, tensors })
}

/// Whether the files are those of which the digests were taken, by name, size and time.
fn same_files(earlier: &[source::SourceFile], now: &[source::SourceFile]) -> bool {
    let bare =
        |file: &source::SourceFile| source::SourceFile { sha256: String::new(), ..file.clone() };
    earlier.len() == now.len() && earlier.iter().zip(now).all(|(a, b)| bare(a) == bare(b))
}

/// Why the earlier run made another file; `None` if it made the same.
fn changed(earlier: &Identity, now: &Identity) -> Option<&'static str> {
    let contents = |identity: &Identity| -> Vec<(String, String)> {
        identity.source.iter().map(|file| (file.name.clone(), file.sha256.clone())).collect()
    };
    if contents(earlier) != contents(now) {
        return Some("the model folder has changed");
    }
    if earlier.mix != now.mix {
        return Some("it is of another format");
    }
    if earlier.imatrix != now.imatrix {
        return Some("it was made with another importance matrix");
    }
    (earlier.program != now.program).then_some("another version of this program made it")
}

fn digest_source(
    source: &Source,
    mut identity: Identity,
    stop: &AtomicBool,
    report: &mut dyn FnMut(Event<'_>),
) -> Result<Identity, QuantizeError> {
    let bytes = identity.source.iter().map(|file| file.size_bytes).sum();
    report(Event::Stage { name: "digests of the source", bytes });
    for file in &mut identity.source {
        file.sha256 = source.digest(&file.name, stop, |bytes| report(Event::Advance(bytes)))?;
    }
    Ok(identity)
}

fn source_lines(identity: &Identity) -> String {
    identity.source.iter().map(|file| format!("{}  {}\n", file.sha256, file.name)).collect()
}

fn texts<'a>(
    source: &'a Source,
    digests: &'a str,
    identity: &'a Identity,
    tensors: &'a [String],
) -> Texts<'a> {
    Texts {
        files: &source.texts,
        source_digests: digests,
        imatrix: identity.imatrix.as_deref(),
        tensor_digests: tensors,
    }
}

/// Reads the importance matrix, and refuses that of another model.
fn read_imatrix(options: &QuantizeOptions, plan: &Plan) -> Result<Option<Imatrix>, QuantizeError> {
    let Some(path) = &options.imatrix else { return Ok(None) };
    let imatrix = Imatrix::read(path)?;
    let refuse =
        |problem: String| QuantizeError::Imatrix(ImatrixError { path: path.clone(), problem });
    let mut used = 0;
    for tensor in &plan.tensors {
        let (name, columns) = (&tensor.named.gguf, tensor.matrix().1);
        let found = imatrix.of(name, columns).map_err(|len| {
            refuse(format!("`{name}` has {len} inputs there and {columns} in this model"))
        })?;
        used += usize::from(found.is_some());
    }
    match used {
        0 => Err(refuse("names no matrix of this model".to_string())),
        _ => Ok(Some(imatrix)),
    }
}

/// The importance of a tensor's columns, where its storage can heed it.
fn importance<'a>(tensor: &Planned, imatrix: &'a Option<Imatrix>) -> Option<&'a [f32]> {
    let small = matches!(tensor.kind, Kind::Blocks(format) if format != Format::Q8_0);
    let imatrix = imatrix.as_ref().filter(|_| small)?;
    imatrix.of(&tensor.named.gguf, tensor.matrix().1).ok().flatten()
}

/// Refuses to begin what the disk does not hold.
fn check_room(out: &Path, plan: &Plan, partial: &Partial) -> Result<(), QuantizeError> {
    let needed_bytes = plan.data_bytes().saturating_sub(partial.taken_bytes());
    match partial::free_bytes(partial::folder_of(out)) {
        Some(free_bytes) if free_bytes < needed_bytes => {
            Err(QuantizeError::NoRoom { path: out.to_path_buf(), needed_bytes, free_bytes })
        }
        _ => Ok(()),
    }
}

/// Writes every tensor that is not written yet.
fn write_tensors(
    options: &QuantizeOptions,
    source: &mut Source,
    plan: &Plan,
    imatrix: &Option<Imatrix>,
    partial: &mut Partial,
    stop: &AtomicBool,
    report: &mut dyn FnMut(Event<'_>),
) -> Result<(), QuantizeError> {
    let (first, of) = (partial.digests.len(), plan.tensors.len());
    let bytes = plan.tensors.iter().skip(first).map(Planned::weights).sum::<u64>();
    report(Event::Stage { name: "quantising (weights)", bytes });
    for (number, tensor) in plan.tensors.iter().enumerate().skip(first) {
        let name = &tensor.named.gguf;
        let rows = source.tensor(&tensor.named.published, &tensor.named.shape)?;
        let mut hasher = Sha256::new();
        let mut at = tensor.offset_bytes;
        let weights = importance(tensor, imatrix);
        for (begin, count) in pieces(tensor) {
            if is_stopped(stop) {
                return Err(QuantizeError::Stopped { done: number, of });
            }
            let bytes =
                encode_piece(&rows, tensor, weights, begin, count).map_err(
                    |error| match error {
                        PieceError::NotFinite => QuantizeError::NotFinite {
                            path: options.model.clone(),
                            tensor: tensor.named.published.clone(),
                        },
                        PieceError::Other(error) => error,
                    },
                )?;
            hasher.update(&bytes);
            partial.write(&bytes, at)?;
            at += bytes.len() as u64;
            report(Event::Advance(count as u64 * tensor.matrix().1 as u64));
        }
        partial.note(name, hex(&hasher.finalize()))?;
        report(Event::Tensor { name, kind: tensor.kind.name(), done: number + 1, of });
    }
    Ok(())
}

/// The pieces of a tensor that are in memory at once: first row and number of rows.
fn pieces(tensor: &Planned) -> impl Iterator<Item = (usize, usize)> + use<> {
    let (rows, columns) = tensor.matrix();
    let at_once = (PIECE_WEIGHTS / columns).max(1);
    (0..rows).step_by(at_once).map(move |begin| (begin, at_once.min(rows - begin)))
}

/// A piece in parts for the threads: first row and number of rows.
fn parts(begin: usize, count: usize) -> Vec<(usize, usize)> {
    let each = count.div_ceil(4 * rayon::current_num_threads()).max(1);
    (0..count).step_by(each).map(|at| (begin + at, each.min(count - at))).collect()
}

enum PieceError {
    NotFinite,
    Other(QuantizeError),
}

impl<E: Into<QuantizeError>> From<E> for PieceError {
    fn from(error: E) -> PieceError {
        PieceError::Other(error.into())
    }
}

/// Reads `count` rows from `begin` on and makes blocks of them on all threads.
fn encode_piece(
    rows: &Rows<'_>,
    tensor: &Planned,
    importance: Option<&[f32]>,
    begin: usize,
    count: usize,
) -> Result<Vec<u8>, PieceError> {
    let encoded = parts(begin, count)
        .into_par_iter()
        .map(|(begin, count)| {
            let numbers = rows.read(begin, count)?; // (count, columns)
            if !encode::is_finite(&numbers)? {
                return Err(PieceError::NotFinite);
            }
            Ok(encode::encode(&numbers, tensor.kind, importance)?)
        })
        .collect::<Result<Vec<_>, PieceError>>()?;
    Ok(encoded.concat())
}
