//! What commands made of a list, kept over restarts in a file of lines beside the record.
//!
//! The first line says what the others stand on: the list of the station's file, named by its digest,
//! or nothing. Each further line is one serial. `add` appends; `clear` and `list` write the file anew,
//! which appears whole or not at all. A command is answered only when the disk has it. A power cut
//! can leave a last line without its end: that command was not answered, and the line is dropped.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::provenance;
use crate::verdict::serial::{ENTRIES_MAX, ENTRY_MAX_BYTES, SerialList};

/// What the first line begins with.
const HEAD: &str = "inspectd expected serials 1";

/// Largest file that is read, in bytes: every entry twice at its longest is more than can be.
const FILE_MAX_BYTES: u64 = (ENTRIES_MAX * (ENTRY_MAX_BYTES + 1)) as u64;

/// The file of one station.
#[derive(Clone, Debug)]
pub struct Kept {
    path: PathBuf,
}

/// What a file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// There is none: the list is that of the station's file.
    Nothing,
    /// The list as commands left it.
    List(SerialList),
    /// Commands changed another list than the station's file names now.
    Outdated,
}

impl Kept {
    /// The file of `station` in the folder `dir`.
    pub fn new(dir: &Path, station: &str) -> Kept {
        Kept { path: dir.join(format!("{station}.list")) }
    }

    /// Reads it. `base` is the list of the station's file.
    ///
    /// # Errors
    /// Why it cannot be read or used, with its path and a remedy.
    pub fn read(&self, base: &SerialList) -> Result<Found, String> {
        let Some(text) = self.text()? else { return Ok(Found::Nothing) };
        let damaged = |why: &str| {
            let path = self.path.display();
            format!("{path} cannot be used: {why}; remove it, and send the expected serials again")
        };
        let (head, lines) = text.split_once('\n').ok_or_else(|| damaged("it has no first line"))?;
        let words = head.strip_prefix(HEAD).ok_or_else(|| damaged("it is of another form"))?;
        let mut list = match words.trim().split_once(' ') {
            Some((digest, _)) if digest != base.digest() => return Ok(Found::Outdated),
            Some((_, "added")) => base.clone(),
            Some((_, "whole")) => SerialList::default(),
            _ => return Err(damaged("its first line is of another form")),
        };
        // A last line without its end was never answered.
        let whole = lines.rfind('\n').map_or("", |end| &lines[..=end]);
        if let Some(at) = whole.lines().position(|serial| serial.len() > ENTRY_MAX_BYTES) {
            return Err(damaged(&format!("line {} is too long", at + 2)));
        }
        let added: Vec<String> = whole.lines().map(str::to_owned).collect();
        list.add(&added).map_err(|count| damaged(&format!("it holds {count} serials")))?;
        Ok(Found::List(list))
    }

    /// Keeps that `serials` were added to a list that stands on `base`.
    ///
    /// # Errors
    /// Those of the disk; the file is then as it was.
    pub fn append(&self, base: &SerialList, serials: &[String]) -> io::Result<()> {
        if !self.path.exists() {
            return self.write(base, "added", serials.iter().map(String::as_str));
        }
        let mut file = OpenOptions::new().read(true).append(true).open(&self.path)?;
        let length = whole_length(&mut file)?;
        file.set_len(length)?;
        let text: String = serials.iter().flat_map(|serial| [serial, "\n"]).collect();
        let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_data());
        if written.is_err() {
            // What cannot be undone now is dropped or heard again later: the answer was a refusal,
            // and a serial too many in the file is one that somebody wanted to be there.
            let _ = file.set_len(length);
        }
        written
    }

    /// Keeps that `list` stands in place of all before.
    ///
    /// # Errors
    /// Those of the disk; the file is then as it was.
    pub fn replace(&self, base: &SerialList, list: &SerialList) -> io::Result<()> {
        self.write(base, "whole", list.iter())
    }

    /// Removes the file, if there is one.
    pub fn remove(&self) -> io::Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(why) if why.kind() != io::ErrorKind::NotFound => Err(why),
            _ => Ok(()),
        }
    }

    fn write<'s>(
        &self,
        base: &SerialList,
        kind: &str,
        serials: impl Iterator<Item = &'s str>,
    ) -> io::Result<()> {
        let mut text = format!("{HEAD} {} {kind}\n", base.digest());
        serials.flat_map(|serial| [serial, "\n"]).for_each(|piece| text.push_str(piece));
        let dir = self.path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(dir)?;
        provenance::write_whole(&self.path, text.as_bytes())
            .map_err(|why| io::Error::other(why.to_string()))?;
        // The name, too, must survive a power cut: a list that was cleared must stay so.
        File::open(dir)?.sync_all()
    }

    fn text(&self) -> Result<Option<String>, String> {
        let failed = |why: io::Error| format!("{} cannot be read: {why}", self.path.display());
        let file = match File::open(&self.path) {
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(failed)?,
        };
        let mut bytes = Vec::new();
        file.take(FILE_MAX_BYTES).read_to_end(&mut bytes).map_err(failed)?;
        // A torn line may end within a character; it is dropped all the same.
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }
}

/// The length of a file up to the end of its last whole line. What is torn may be longer than any line: a power cut can
/// leave a file that has grown and holds nothing there.
fn whole_length(file: &mut File) -> io::Result<u64> {
    use std::io::{Seek, SeekFrom};
    let mut end = file.metadata()?.len();
    let mut block = [0; 4096];
    while end > 0 {
        let from = end.saturating_sub(block.len() as u64);
        let piece = &mut block[..(end - from) as usize];
        file.seek(SeekFrom::Start(from))?;
        file.read_exact(piece)?;
        if let Some(at) = piece.iter().rposition(|byte| *byte == b'\n') {
            return Ok(from + at as u64 + 1);
        }
        end = from;
    }
    Ok(0)
}
