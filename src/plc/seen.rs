//! Which triggers were accepted: a message may arrive twice, and each part is inspected once.

use std::collections::VecDeque;

use crate::inspection::ForeignId;

/// Triggers that are remembered. A controller must not use an id again within so many.
pub const REMEMBERED: usize = 64;

/// An accepted trigger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What the controller called it.
    pub trigger_id: ForeignId,
    /// The part, as the controller named it.
    pub part_id: Option<String>,
    /// The number under which it is inspected.
    pub job_id: u64,
}

/// The newest [`REMEMBERED`] accepted triggers.
#[derive(Clone, Debug, Default)]
pub struct Accepted(VecDeque<Entry>);

/// What is known of a trigger that arrives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// Nothing.
    New,
    /// It was accepted, under this number.
    Same(u64),
    /// One of this name was accepted for another part.
    Other,
}

impl Accepted {
    /// Looks up a trigger.
    pub fn know(&self, trigger_id: &ForeignId, part_id: Option<&str>) -> Known {
        match self.0.iter().find(|entry| entry.trigger_id == *trigger_id) {
            None => Known::New,
            Some(entry) if entry.part_id.as_deref() == part_id => Known::Same(entry.job_id),
            Some(_) => Known::Other,
        }
    }

    /// Remembers one, and forgets the oldest where there are too many.
    pub fn remember(&mut self, entry: Entry) {
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_remembered_and_the_same_part_is_the_same_trigger() {
        let mut accepted = Accepted::default();
        for number in 0..=REMEMBERED as u64 {
            let part_id = Some(format!("part-{number}"));
            let trigger_id = ForeignId::Number(number);
            accepted.remember(Entry { trigger_id, part_id, job_id: number + 100 });
        }
        let know = |number, part| accepted.know(&ForeignId::Number(number), part);
        assert_eq!(know(0, Some("part-0")), Known::New, "the oldest is forgotten");
        assert_eq!(know(1, Some("part-1")), Known::Same(101));
        assert_eq!(know(1, Some("part-2")), Known::Other);
        assert_eq!(know(1, None), Known::Other);
        let text = ForeignId::Text("1".into());
        assert_eq!(accepted.know(&text, Some("part-1")), Known::New, "a text is no number");
    }
}
