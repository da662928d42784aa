//! The lists of expected serials of a running device: each begins as the station's file says, may be
//! changed by commands, and goes on after a restart where it was.
//!
//! A changed file takes the place of what commands made of the old one: a person who edits it means
//! it. Whoever asks and whoever commands are different threads; a list changes between two questions,
//! never within one, and each answer names by its digest the list that it came from.

pub mod command;
mod kept;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

pub use command::{ExpectCommand, Refusal, Reply};
use kept::{Found, Kept};

use crate::verdict::SerialRule;
use crate::verdict::serial::{ENTRIES_MAX, Listed, SerialList};

/// The folder of what commands made of the lists, beside the database.
const DIR: &str = "expected";

/// The lists of all stations that have one. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct ExpectedLists(Arc<BTreeMap<String, ExpectedSerials>>);

/// A list that could not be taken up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("station \"{station}\": {why}")]
pub struct OpenError {
    /// The station.
    pub station: String,
    /// What is wrong, and what to do.
    pub why: String,
}

/// Whether the files of a running device may be touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The daemon's: what is outdated is removed, and commands are taken.
    Write,
    /// To look beside a daemon.
    Read,
}

impl ExpectedLists {
    /// Takes up the lists of `stations` (name and rule). What commands made of them lies in a folder
    /// beside the database at `database`. Answers also the stations whose kept list was outdated,
    /// as their file has been changed since.
    ///
    /// # Errors
    /// A kept list that cannot be read: nobody knows then what is expected.
    pub fn open<'s>(
        database: &Path,
        stations: impl IntoIterator<Item = (&'s str, &'s SerialRule)>,
        access: Access,
    ) -> Result<(ExpectedLists, Vec<String>), OpenError> {
        let dir = database.parent().unwrap_or(Path::new("")).join(DIR);
        let (mut all, mut outdated) = (BTreeMap::new(), Vec::new());
        for (name, rule) in stations {
            if rule.expected.is_none() {
                continue;
            }
            let failed = |why| OpenError { station: name.to_owned(), why };
            let (list, is_outdated) =
                ExpectedSerials::open(&dir, name, rule, access).map_err(failed)?;
            if is_outdated {
                outdated.push(name.to_owned());
            }
            all.insert(name.to_owned(), list);
        }
        Ok((ExpectedLists(Arc::new(all)), outdated))
    }

    /// The list of `station`, if it has one.
    pub fn get(&self, station: &str) -> Option<&ExpectedSerials> {
        self.0.get(station)
    }

    /// Carries out the command in `payload` for `station`.
    pub fn apply(&self, station: &str, payload: &[u8]) -> Result<Reply, Refusal> {
        let list = self.get(station).ok_or_else(|| Refusal::NoStation(short(station)))?;
        list.apply(ExpectCommand::parse(payload)?)
    }
}

/// The list of one station.
#[derive(Debug)]
pub struct ExpectedSerials {
    station: String,
    rule: SerialRule,
    base: Arc<SerialList>,
    by_command: bool,
    kept: Kept,
    /// Held while a command is carried out, so that the file and the list change in the same order.
    commanding: Mutex<()>,
    list: RwLock<SerialList>,
}

impl ExpectedSerials {
    fn open(
        dir: &Path,
        station: &str,
        rule: &SerialRule,
        access: Access,
    ) -> Result<(ExpectedSerials, bool), String> {
        let expected = rule.expected.as_ref();
        let base = expected.map(|expected| Arc::clone(&expected.list)).unwrap_or_default();
        let by_command = expected.is_some_and(|expected| expected.by_command);
        let kept = Kept::new(dir, station);
        let found = if by_command { kept.read(&base)? } else { Found::Nothing };
        let is_outdated = found == Found::Outdated;
        if is_outdated && access == Access::Write {
            kept.remove().map_err(|why| format!("the outdated list cannot be removed: {why}"))?;
        }
        let list = match found {
            Found::List(list) => list,
            Found::Nothing | Found::Outdated => SerialList::clone(&base),
        };
        let made = ExpectedSerials {
            station: station.to_owned(),
            rule: rule.clone(),
            base,
            by_command: by_command && access == Access::Write,
            kept,
            commanding: Mutex::new(()),
            list: RwLock::new(list),
        };
        Ok((made, is_outdated))
    }

    /// What the list says about `reading`, and which of `look_alikes` it holds.
    pub fn listed(&self, reading: &str, look_alikes: &[String]) -> Listed {
        let list = self.list.read().unwrap_or_else(PoisonError::into_inner);
        Listed {
            digest: list.digest().to_owned(),
            entries: list.len(),
            has_reading: list.contains(reading),
            look_alikes: look_alikes
                .iter()
                .filter(|other| list.contains(other))
                .take(Listed::LOOK_ALIKES_MAX)
                .cloned()
                .collect(),
        }
    }

    /// Carries out a command, whole or not at all; when this returns, the disk has it. Repeating a
    /// command changes nothing.
    pub fn apply(&self, command: ExpectCommand) -> Result<Reply, Refusal> {
        if !self.by_command {
            return Err(Refusal::NotAllowed(short(&self.station)));
        }
        for (at, serial) in command.serials().iter().enumerate() {
            self.rule.check_formed(serial).map_err(|why| Refusal::BadSerial { at: at + 1, why })?;
        }
        let _one = self.commanding.lock().unwrap_or_else(PoisonError::into_inner);
        let not_kept = |why: std::io::Error| Refusal::NotKept(why.to_string());
        let added = match command {
            ExpectCommand::Add(serials) => self.add(serials)?,
            ExpectCommand::Clear => {
                self.kept.replace(&self.base, &SerialList::default()).map_err(not_kept)?;
                *self.list.write().unwrap_or_else(PoisonError::into_inner) = SerialList::default();
                0
            }
            ExpectCommand::List(serials) => {
                let next = SerialList::new(serials);
                self.kept.replace(&self.base, &next).map_err(not_kept)?;
                let mut list = self.list.write().unwrap_or_else(PoisonError::into_inner);
                let added = next.iter().filter(|serial| !list.contains(serial)).count();
                *list = next;
                added
            }
        };
        let list = self.list.read().unwrap_or_else(PoisonError::into_inner);
        Ok(Reply { added, entries: list.len(), digest: list.digest().to_owned() })
    }

    fn add(&self, mut serials: Vec<String>) -> Result<usize, Refusal> {
        {
            let list = self.list.read().unwrap_or_else(PoisonError::into_inner);
            serials.retain(|serial| !list.contains(serial));
            serials.sort();
            serials.dedup();
            let sum = list.len() + serials.len();
            if sum > ENTRIES_MAX {
                return Err(Refusal::Full(sum));
            }
        }
        if serials.is_empty() {
            return Ok(0);
        }
        self.kept.append(&self.base, &serials).map_err(|why| Refusal::NotKept(why.to_string()))?;
        let mut list = self.list.write().unwrap_or_else(PoisonError::into_inner);
        list.add(&serials).map_err(Refusal::Full)
    }
}

fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}

#[cfg(test)]
mod tests;
