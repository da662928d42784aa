//! What a serial must be: its form, its check digit, whether it is expected, whether another part
//! has it.
//!
//! Nothing is looked up here. What a verdict needs to know beside the reading comes as
//! [`SerialFacts`]; [`SerialRule::looks_up`] says whether there is anything to look up.
//!
//! A **repair** is offered for a reading that is not good as it was read, if among all texts that
//! look like it by the confusion map exactly one is good: of the template's form, with the right
//! check digit, and in the list of expected serials, as far as the station has these. It is a
//! proposal to a person, unless the station accepts repairs.

mod confusion;
mod facts;
mod judge;
mod list;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use confusion::{ConfusionError, Confusions, GROUPS_MAX, LOOK_ALIKES_MAX};
pub use facts::{Earlier, EarlierQuery, Listed, Scope, SerialFacts, Window};
pub use judge::{check, judge, propose};
pub use list::{BadLine, ENTRIES_MAX, ENTRY_MAX_BYTES, SerialList};

use super::CheckDigit;
use crate::vlm::grammar::template::Template;

/// What a serial must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SerialRule {
    /// Decides whether a text has the form of a serial of this product.
    pub form: Template,
    /// How its check character is computed, if it carries one.
    pub check_digit: Option<CheckDigit>,
    /// Characters that are easily read for one another.
    pub confusions: Confusions,
    /// Whether the one repair of a reading is taken for the serial. It stands in the finding.
    pub accept_repairs: bool,
    /// Whether another part may have it.
    pub unique: Option<UniqueRule>,
    /// The list in which it must be.
    pub expected: Option<ExpectedRule>,
}

/// That no other part has the same serial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UniqueRule {
    /// How far back others count.
    pub window: Window,
    /// Whose.
    pub scope: Scope,
    /// What the same serial on another part leads to; one that looks alike is always `Review`.
    pub otherwise: Consequence,
}

/// That the serial is in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpectedRule {
    /// The list that the station's file names; empty without a file.
    pub list: Arc<SerialList>,
    /// Whether commands may change the list while the station runs.
    pub by_command: bool,
    /// Whether each serial is expected on one part only.
    pub once: bool,
    /// Whose records count for that.
    pub scope: Scope,
    /// What another serial leads to.
    pub otherwise: Consequence,
}

/// What a rule that does not hold leads to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Consequence {
    /// A person must look.
    #[default]
    Review,
    /// The part is bad.
    Fail,
}

/// The one text that a reading may have been.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repair {
    /// The serial.
    pub serial: String,
    /// Whether it was taken for the serial, as the station asks for.
    pub accepted: bool,
}

impl SerialRule {
    /// A rule about the form and the check digit alone.
    pub fn new(form: Template, check_digit: Option<CheckDigit>) -> SerialRule {
        SerialRule {
            form,
            check_digit,
            confusions: Confusions::default(),
            accept_repairs: false,
            unique: None,
            expected: None,
        }
    }

    /// Whether `text` has the template's form and the right check digit.
    pub fn is_formed(&self, text: &str) -> bool {
        self.form.matches(text) && self.has_right_check(text)
    }

    /// Whether the check digit of `text` is right, if serials carry one.
    pub fn has_right_check(&self, text: &str) -> bool {
        self.check_digit.as_ref().is_none_or(|scheme| scheme.holds(text))
    }

    /// What forbids a part to have the serial `text`, in words, if anything does: for a list that a
    /// person writes.
    pub fn check_formed(&self, text: &str) -> Result<(), String> {
        let shown: String = text.chars().filter(|c| !c.is_control()).take(80).collect();
        if !self.form.matches(text) {
            return Err(format!("{shown} does not match the template {}", self.form));
        }
        if !self.has_right_check(text) {
            return Err(format!("the check digit of {shown} is wrong"));
        }
        Ok(())
    }

    /// Whether anything must be looked up before a reading is judged.
    pub fn looks_up(&self) -> bool {
        self.unique.is_some() || self.expected.is_some()
    }

    /// The well-formed texts that look like `text`, without it. `None` if they are too many.
    pub fn formed_look_alikes(&self, text: &str) -> Option<Vec<String>> {
        if self.confusions.is_empty() {
            return Some(vec![]);
        }
        let all = self.confusions.look_alikes(text, |begun| self.form.may_begin(begun))?;
        Some(all.into_iter().filter(|other| other != text && self.is_formed(other)).collect())
    }

    /// The texts under which another part may have the serial `text`: itself and what looks like it,
    /// of whatever form, as the other part may have been misread. Where these are too many, those of
    /// the template's form; `None` if these are too many as well.
    pub fn possible_twins(&self, text: &str) -> Option<Vec<String>> {
        if self.confusions.is_empty() {
            return Some(vec![text.to_owned()]);
        }
        let map = &self.confusions;
        map.look_alikes(text, |_| true).or_else(|| {
            let mut all = map.look_alikes(text, |begun| self.form.may_begin(begun))?;
            if !all.iter().any(|other| other == text) {
                all.push(text.to_owned());
            }
            Some(all)
        })
    }

    /// The repair of the reading `text`, if it needs one and there is exactly one.
    pub fn repair(&self, text: &str, listed: Option<&Listed>) -> Option<Repair> {
        let is_listed = listed.map(|listed| listed.has_reading);
        if self.expected.is_some() && is_listed.is_none() {
            return None; // nobody knows what is expected
        }
        if self.is_formed(text) && is_listed != Some(false) {
            return None;
        }
        let mut candidates = match (&self.expected, listed) {
            (Some(_), Some(listed)) => listed.look_alikes.clone(),
            _ => self.formed_look_alikes(text)?,
        };
        // The facts of a record may come from another program.
        candidates.retain(|other| other != text && self.is_formed(other));
        let has_proof = self.check_digit.is_some() || self.expected.is_some();
        match (candidates.pop(), candidates.is_empty()) {
            (Some(serial), true) => {
                Some(Repair { serial, accepted: self.accept_repairs && has_proof })
            }
            _ => None,
        }
    }
}
