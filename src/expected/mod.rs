//! The lists of expected serials of a running device: each begins as the station's file says, may be
//! changed by commands, and goes on after a restart where it was.
//!
//! A changed file takes the place of what commands made of the old one: a person who edits it means
//! it. Whoever asks and whoever commands are different threads; a list changes between two questions,
//! never within one, and each answer names by its digest the list that it came from.

pub mod command;
pub mod kept;

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
pub struct ExpectedLists(Arc<RwLock<BTreeMap<String, Arc<ExpectedSerials>>>>);

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
        let (all, mut outdated) = (ExpectedLists::default(), Vec::new());
        for (name, rule) in stations {
            if all.take_up(database, name, rule, access)? {
                outdated.push(name.to_owned());
            }
        }
        Ok((all, outdated))
    }

    /// Takes up the list of one more station, or of one whose `rule` is another now, as [`ExpectedLists::open`] does; a
    /// station whose rule names none has none any more. `true`: its kept list was outdated.
    ///
    /// # Errors
    /// As there.
    pub fn take_up(
        &self,
        database: &Path,
        station: &str,
        rule: &SerialRule,
        access: Access,
    ) -> Result<bool, OpenError> {
        // Held meanwhile: no command may change what was read already.
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if rule.expected.is_none() {
            all.remove(station);
            return Ok(false);
        }
        let dir = database.parent().unwrap_or(Path::new("")).join(DIR);
        let failed = |why| OpenError { station: station.to_owned(), why };
        let (list, is_outdated) =
            ExpectedSerials::open(&dir, station, rule, access).map_err(failed)?;
        all.insert(station.to_owned(), Arc::new(list));
        Ok(is_outdated)
    }

    /// `station` has no list any more.
    pub fn give_up(&self, station: &str) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(station);
    }

    /// The list of `station`, if it has one.
    pub fn get(&self, station: &str) -> Option<Arc<ExpectedSerials>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(station).cloned()
    }

    /// Carries out the command in `payload` for `station`.
    pub fn apply(&self, station: &str, payload: &[u8]) -> Result<Reply, Refusal> {
        // Held meanwhile: the list must still be the station's when the disk has the change.
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let list = all.get(station).ok_or_else(|| Refusal::NoStation(short(station)))?;
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
mod tests {
    use super::*;
    use crate::verdict::CheckDigit;
    use crate::verdict::serial::ExpectedRule;
    use crate::vlm::grammar::template::{DEFAULT_ALPHABET, Template};
    use proptest::prelude::*;

    fn rule(file: &[&str], by_command: bool) -> SerialRule {
        let form = Template::parse("#{2,8}", DEFAULT_ALPHABET).unwrap();
        let list = SerialList::new(file.iter().map(|serial| (*serial).to_owned()));
        let expected = ExpectedRule {
            list: Arc::new(list),
            by_command,
            once: false,
            scope: Default::default(),
            otherwise: Default::default(),
        };
        SerialRule { expected: Some(expected), ..SerialRule::new(form, None) }
    }

    fn open(dir: &Path, rule: &SerialRule) -> (ExpectedLists, Vec<String>) {
        let stations = [("press", rule)];
        ExpectedLists::open(&dir.join("audit.db"), stations, Access::Write).unwrap()
    }

    fn entries(lists: &ExpectedLists) -> Vec<String> {
        let serials = lists.get("press").unwrap();
        let list = serials.list.read().unwrap();
        list.iter().map(str::to_owned).collect()
    }

    fn command(lists: &ExpectedLists, payload: &str) -> Result<Reply, Refusal> {
        lists.apply("press", payload.as_bytes())
    }

    #[test]
    fn what_commands_made_of_a_list_goes_on_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let rule = rule(&["A1"], true);
        let (lists, _) = open(dir.path(), &rule);
        let reply = command(&lists, r#"{"add":["B2","A1","B2"]}"#).unwrap();
        assert_eq!((reply.added, reply.entries), (1, 2));
        assert_eq!(
            command(&lists, r#"{"add":["B2"]}"#).unwrap().added,
            0,
            "repeating changes nothing"
        );
        command(&lists, r#"{"add":["C3"]}"#).unwrap();
        let digest = lists.get("press").unwrap().listed("C3", &[]).digest;
        drop(lists);
        let (lists, outdated) = open(dir.path(), &rule);
        assert_eq!(entries(&lists), ["A1", "B2", "C3"]);
        assert_eq!(lists.get("press").unwrap().listed("C3", &[]).digest, digest);
        assert!(outdated.is_empty());
        command(&lists, r#"{"clear":true}"#).unwrap();
        drop(lists);
        let (lists, _) = open(dir.path(), &rule);
        assert!(entries(&lists).is_empty(), "cleared stays cleared, whatever the file says");
        command(&lists, r#"{"list":["D4"]}"#).unwrap();
        command(&lists, r#"{"add":["E5"]}"#).unwrap();
        drop(lists);
        assert_eq!(entries(&open(dir.path(), &rule).0), ["D4", "E5"]);
    }

    #[test]
    fn a_changed_file_takes_the_place_of_what_commands_made() {
        let dir = tempfile::tempdir().unwrap();
        let (lists, _) = open(dir.path(), &rule(&["A1"], true));
        command(&lists, r#"{"add":["B2"]}"#).unwrap();
        drop(lists);
        let changed = rule(&["A1", "Z9"], true);
        let stations = [("press", &changed)];
        let looked =
            ExpectedLists::open(&dir.path().join("audit.db"), stations, Access::Read).unwrap();
        assert_eq!(looked.1, ["press"]);
        let (lists, outdated) = open(dir.path(), &changed);
        assert_eq!(
            (entries(&lists), outdated),
            (vec!["A1".into(), "Z9".into()], vec!["press".into()])
        );
        assert!(open(dir.path(), &changed).1.is_empty(), "told once");
    }

    #[test]
    fn a_line_that_a_power_cut_left_half_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let rule = rule(&[], true);
        let (lists, _) = open(dir.path(), &rule);
        command(&lists, r#"{"add":["B2"]}"#).unwrap();
        drop(lists);
        let path = dir.path().join("expected/press.list");
        let mut text = std::fs::read(&path).unwrap();
        text.extend_from_slice(b"C3\nD4\xff");
        text.resize(text.len() + 10_000, 0);
        std::fs::write(&path, text).unwrap();
        let (lists, _) = open(dir.path(), &rule);
        assert_eq!(entries(&lists), ["B2", "C3"]);
        command(&lists, r#"{"add":["F6"]}"#).unwrap();
        drop(lists);
        assert_eq!(entries(&open(dir.path(), &rule).0), ["B2", "C3", "F6"]);
    }

    #[test]
    fn a_file_with_the_line_ends_of_another_system_says_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let rule = rule(&[], true);
        let (lists, _) = open(dir.path(), &rule);
        command(&lists, r#"{"add":["B2","C3"]}"#).unwrap();
        drop(lists);
        let path = dir.path().join("expected/press.list");
        let text = std::fs::read_to_string(&path).unwrap().replace('\n', "\r\n");
        std::fs::write(&path, text).unwrap();
        assert_eq!(entries(&open(dir.path(), &rule).0), ["B2", "C3"]);
    }

    #[test]
    fn a_file_that_is_none_of_ours_is_an_error_with_a_remedy() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("expected")).unwrap();
        let rule = rule(&[], true);
        for text in ["", "A1\nB2\n", "inspectd expected serials 1\nA1\n"] {
            std::fs::write(dir.path().join("expected/press.list"), text).unwrap();
            let stations = [("press", &rule)];
            let opened = ExpectedLists::open(&dir.path().join("audit.db"), stations, Access::Write);
            let words = opened.expect_err("not a list").to_string();
            assert!(words.contains("press.list") && words.contains("remove it"), "{words}");
        }
    }

    #[test]
    fn what_is_refused_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let form = rule(&["18"], true);
        let luhn = SerialRule { check_digit: CheckDigit::named("luhn"), ..form };
        let (lists, _) = open(dir.path(), &luhn);
        for (payload, code) in [
            (r#"{"add":["26","27"]}"#, "bad_serial"),
            (r#"{"list":["26","1"]}"#, "bad_serial"),
            (r#"{"clear":false}"#, "clear_false"),
        ] {
            assert_eq!(command(&lists, payload).expect_err(code).code(), code);
            assert_eq!(entries(&lists), ["18"]);
        }
        let words = command(&lists, r#"{"add":["26","27"]}"#).expect_err("27").to_string();
        assert_eq!(words, "serial 2 of the command cannot be: the check digit of 27 is wrong");
        assert_eq!(lists.apply("other", b"{}").expect_err("no such").code(), "no_station");
        let (fixed, _) = open(dir.path(), &rule(&["18"], false));
        assert_eq!(command(&fixed, r#"{"clear":true}"#).expect_err("fixed").code(), "not_allowed");
    }

    #[test]
    fn a_disk_that_keeps_nothing_is_a_refusal() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("expected"), "a file where the folder should be").unwrap();
        let rule = rule(&["A1"], true);
        let list = ExpectedSerials {
            station: "press".into(),
            base: Arc::clone(&rule.expected.as_ref().unwrap().list),
            rule,
            by_command: true,
            kept: Kept::new(&dir.path().join("expected"), "press"),
            commanding: Mutex::new(()),
            list: RwLock::new(SerialList::new(["A1".to_owned()])),
        };
        let refusal = list.apply(ExpectCommand::Add(vec!["B2".into()])).expect_err("no disk");
        assert_eq!(refusal.code(), "not_kept");
        assert!(!list.listed("B2", &[]).has_reading);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Do(ExpectCommand),
        Restart,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let serials = || prop::collection::vec("[AB][0-3]", 0..4);
        let step = prop_oneof![
            4 => serials().prop_map(|all| Step::Do(ExpectCommand::Add(all))),
            1 => serials().prop_map(|all| Step::Do(ExpectCommand::List(all))),
            1 => Just(Step::Do(ExpectCommand::Clear)),
            2 => Just(Step::Restart),
        ];
        prop::collection::vec(step, 0..12)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..Default::default() })]

        /// Against a plain set, whatever the order of commands and restarts.
        #[test]
        fn a_list_is_what_was_commanded(steps in steps()) {
            let dir = tempfile::tempdir().unwrap();
            let rule = rule(&["A1", "B2"], true);
            let mut model: std::collections::BTreeSet<String> = ["A1".into(), "B2".into()].into();
            let (mut lists, _) = open(dir.path(), &rule);
            for step in steps {
                match step {
                    Step::Restart => lists = open(dir.path(), &rule).0,
                    Step::Do(command) => {
                        match &command {
                            ExpectCommand::Add(serials) => model.extend(serials.iter().cloned()),
                            ExpectCommand::Clear => model.clear(),
                            ExpectCommand::List(all) => model = all.iter().cloned().collect(),
                        }
                        let reply = lists.get("press").unwrap().apply(command).unwrap();
                        prop_assert_eq!(reply.entries, model.len());
                    }
                }
                prop_assert_eq!(entries(&lists), model.iter().cloned().collect::<Vec<_>>());
            }
        }
    }
}
