//! What readers find: problems, files, and every key that may be.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::super::file::ReadFile;
use super::super::report::{Problem, Severity};

/// Collects problems from readers that are open at the same time, and the files that they read.
#[derive(Debug, Default)]
pub struct Sink {
    problems: RefCell<Vec<Problem>>,
    files: RefCell<Vec<ReadFile>>,
    keys: RefCell<BTreeMap<(String, &'static str), String>>,
}

impl Sink {
    /// Notes one problem.
    pub fn add(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    /// Notes a file that was read.
    pub(super) fn note_file(&self, file: ReadFile) {
        self.files.borrow_mut().push(file);
    }

    /// Notes what a key may be, once: who asks first knows best.
    pub(super) fn note_key(&self, table: &str, key: &'static str, form: impl FnOnce() -> String) {
        let mut keys = self.keys.borrow_mut();
        keys.entry((table.to_owned(), key)).or_insert_with(form);
    }

    /// How many of them forbid the start.
    pub fn errors(&self) -> usize {
        self.problems.borrow().iter().filter(|known| known.severity() == Severity::Error).count()
    }

    /// Every key that was asked for: the table's name, the key, and what its value may be.
    pub fn keys(&self) -> Vec<(String, &'static str, String)> {
        let keys = self.keys.borrow();
        keys.iter().map(|((table, key), form)| (table.clone(), *key, form.clone())).collect()
    }

    /// All of them, by their place in the file; and what was read beside it.
    pub fn into_sorted(self) -> (Vec<Problem>, Vec<ReadFile>) {
        let mut all = self.problems.into_inner();
        all.sort_by_key(|problem| (problem.line(), problem.column()));
        (all, self.files.into_inner())
    }
}
