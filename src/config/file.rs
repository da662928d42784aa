//! A configuration file as a person wrote it: its text, where its lines begin, and its TOML tree.
//!
//! Reading is bounded and never trusts the path: a directory, a pipe or a huge file is a problem
//! with words of its own, not a hang.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::de::{DeTable, Error as SyntaxError};

use super::report::{Place, Problem};
use crate::vlm::Digest;

/// Largest configuration file that is read, in bytes. Ours have a few thousand; more is a mistake,
/// such as a video under the wrong name.
pub const FILE_MAX_BYTES: u64 = 1 << 20;

/// Most station files in one folder: more than one device can look after.
pub const STATIONS_MAX: usize = 64;

/// Most folder entries that are looked at.
const ENTRIES_MAX: usize = 4096;

/// Most syntax errors that one file reports: the parser recovers, and one open quote can bring
/// many.
const SYNTAX_ERRORS_MAX: usize = 5;

/// A file that a configuration is made of, as it was when it was read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReadFile {
    /// Its path, as it was found.
    pub path: PathBuf,
    /// SHA-256 of the bytes that count.
    pub digest: Digest,
}

/// The text of one file, and where it came from.
#[derive(Debug)]
pub struct Source {
    path: PathBuf,
    text: String,
    line_starts: Vec<usize>,
}

impl Source {
    /// Wraps `text` as if it had been read from `path`.
    pub fn new(path: impl Into<PathBuf>, text: String) -> Source {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let line_starts = std::iter::once(0).chain(breaks.map(|(at, _)| at + 1)).collect();
        Source { path: path.into(), text, line_starts }
    }

    /// Reads a file of at most [`FILE_MAX_BYTES`].
    pub fn read(path: &Path) -> Result<Source, Problem> {
        let bytes = read_bounded(path)?;
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Source::new(path, text)),
            Err(error) => Err(not_text(path, error)),
        }
    }

    /// What was read, for those who prove it.
    pub fn read_file(&self) -> ReadFile {
        ReadFile { path: self.path.clone(), digest: Digest::of(self.text.as_bytes()) }
    }

    /// The path, as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Line and column, both from 1, of the byte at `at`; the column counts characters.
    pub fn position(&self, at: usize) -> (usize, usize) {
        let line = self.line_of(at);
        let start = self.line_starts[line];
        let before = self.text.get(start..at.min(self.text.len())).unwrap_or("");
        (line + 1, before.chars().count() + 1)
    }

    /// The bytes of the line that holds byte `at`, without its end.
    pub fn line_range(&self, at: usize) -> Range<usize> {
        let line = self.line_of(at);
        let start = self.line_starts[line];
        let end = self.line_starts.get(line + 1).map_or(self.text.len(), |next| next - 1);
        let end = if self.text[start..end].ends_with('\r') { end - 1 } else { end };
        start..end
    }

    fn line_of(&self, at: usize) -> usize {
        // The first line starts at 0, so at least one start is not after `at`.
        self.line_starts.partition_point(|start| *start <= at).saturating_sub(1)
    }
}

/// Parses `source`. Its syntax errors come back as problems; a tree is given only without any, as
/// what the parser guessed after an error would bring problems that are not there.
pub fn parse(source: &Arc<Source>) -> Result<DeTable<'_>, Vec<Problem>> {
    let (tree, errors) = DeTable::parse_recoverable(source.text());
    if errors.is_empty() {
        return Ok(tree.into_inner());
    }
    let mut problems: Vec<Problem> = Vec::new();
    for error in errors {
        let problem = syntax_problem(source, &error);
        let is_new = problems.iter().all(|known| known.line() != problem.line());
        if is_new && problems.len() < SYNTAX_ERRORS_MAX {
            problems.push(problem);
        }
    }
    Err(problems)
}

/// The `*.toml` files in `folder`, in the order of their names. Hidden files are editors' leavings
/// and are passed over.
pub fn station_files(folder: &Path) -> Result<Vec<PathBuf>, Problem> {
    let failed = |error: std::io::Error| {
        Problem::error(format!("cannot read the folder {}: {error}", folder.display()))
            .remedy("put one file for each station into the folder `stations` beside inspectd.toml")
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)?.take(ENTRIES_MAX) {
        let path = entry.map_err(failed)?.path();
        let is_toml = path.extension().is_some_and(|end| end == "toml");
        let is_hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes()[0] == b'.');
        if is_toml && !is_hidden {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        let title = format!("no station: {} holds no file that ends in .toml", folder.display());
        let remedy = "add a station file; the examples end in .toml.example and are not read";
        return Err(Problem::error(title).remedy(remedy));
    }
    if files.len() > STATIONS_MAX {
        let title = format!("{} station files in {}", files.len(), folder.display());
        let remedy = format!("one device serves {STATIONS_MAX} stations at most; move files away");
        return Err(Problem::error(title).remedy(remedy));
    }
    Ok(files)
}

/// Reads a file of at most `max_bytes`.
pub fn read_limited(path: &Path, max_bytes: u64) -> Result<Vec<u8>, String> {
    let text = |error: std::io::Error| error.to_string();
    // Asked before opening: opening a pipe would wait for a writer.
    if !std::fs::metadata(path).map_err(text)?.is_file() {
        return Err("it is not a file".to_owned());
    }
    let mut bytes = Vec::new();
    File::open(path).map_err(text)?.take(max_bytes + 1).read_to_end(&mut bytes).map_err(text)?;
    if bytes.len() as u64 > max_bytes {
        return Err(format!("it is larger than {max_bytes} bytes"));
    }
    Ok(bytes)
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, Problem> {
    let failed = |error: std::io::Error| {
        let remedy = match error.kind() {
            std::io::ErrorKind::NotFound => "check the path, or name another with --config",
            std::io::ErrorKind::PermissionDenied => "let the user of the service read it",
            _ => "make it a readable text file",
        };
        Problem::error(format!("cannot read {}: {error}", path.display())).remedy(remedy)
    };
    // Asked before opening: opening a pipe would wait for a writer.
    let about = std::fs::metadata(path).map_err(failed)?;
    if !about.is_file() {
        let title = format!("cannot read {}: it is not a file", path.display());
        return Err(Problem::error(title).remedy("name a text file in TOML form"));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(FILE_MAX_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_MAX_BYTES {
        let title = format!("{} is larger than {FILE_MAX_BYTES} bytes", path.display());
        return Err(Problem::error(title).remedy("is it the right file? A station needs a few kB"));
    }
    Ok(bytes)
}

fn not_text(path: &Path, error: std::string::FromUtf8Error) -> Problem {
    let good = error.utf8_error().valid_up_to();
    let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
    // All before the first bad byte is unchanged, so its offset still holds.
    let source = Arc::new(Source::new(path, text));
    Problem::error("this byte is not UTF-8 text".to_owned())
        .at(Place::new(&source, good..good + 1))
        .remedy("save the file as UTF-8")
}

fn syntax_problem(source: &Arc<Source>, error: &SyntaxError) -> Problem {
    let message = error.message().replace('\n', ", ");
    let span = error.span().unwrap_or(source.text().len()..source.text().len());
    Problem::error(format!("not TOML: {message}"))
        .at(Place::new(source, span))
        .remedy("correct this line; the rest of this file is checked after that")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_count_from_one_in_characters() {
        let source = Source::new("x.toml", "a = 1\r\nü = 2\n".to_owned());
        assert_eq!(source.position(0), (1, 1));
        assert_eq!(source.position(7), (2, 1));
        assert_eq!(source.position(10), (2, 3));
        assert_eq!(source.position(usize::MAX), (3, 1));
        assert_eq!(source.line_range(3), 0..5);
        assert_eq!(source.line_range(9), 7..13);
        assert_eq!(source.line_range(500), 14..14);
    }

    #[test]
    fn a_folder_and_a_huge_file_are_refused() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let problem = Source::read(folder.path()).expect_err("a folder");
        assert!(problem.title().ends_with("it is not a file"), "{}", problem.title());
        let path = folder.path().join("big.toml");
        std::fs::write(&path, vec![b'#'; FILE_MAX_BYTES as usize + 1]).expect("room on disk");
        let problem = Source::read(&path).expect_err("too large");
        assert!(problem.title().ends_with("larger than 1048576 bytes"), "{}", problem.title());
    }
}
