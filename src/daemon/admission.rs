//! What becomes of a triggered part: into the queue, or at once into the log as `review`.
//!
//! A pure decision with a counter, so that it can be tried with every sequence of triggers. There is
//! no third way: each part that triggers is answered with exactly one of the two.

use crate::verdict::{NOT_SAMPLED, Reason};

/// Decides for one station.
#[derive(Clone, Debug)]
pub struct Admission {
    /// Every n-th part is to be inspected; at least 1.
    every: u32,
    /// Places in the queue.
    places: usize,
    /// Whether the source waits for a place, as one that does not run in real time can.
    patient: bool,
    /// Parts until the next one that is to be inspected; 0: the next one.
    until_next: u32,
}

/// What becomes of a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// It goes into the queue.
    Queue,
    /// It is recorded as `review` for this reason, and not looked at.
    Record(Reason),
}

impl Admission {
    /// Every `every`-th part, the first one included, into a queue of `places`.
    pub fn new(every: u32, places: usize, patient: bool) -> Admission {
        Admission { every: every.max(1), places, patient, until_next: 0 }
    }

    /// Whether the next part is one to be inspected. Counts it.
    pub fn is_turn(&mut self) -> bool {
        let turn = self.until_next == 0;
        self.until_next = if turn { self.every - 1 } else { self.until_next - 1 };
        turn
    }

    /// Whether the source waits for a place.
    pub fn is_patient(&self) -> bool {
        self.patient
    }

    /// Decides about a part that has or has not its turn, and has or has not got a place.
    pub fn decide(&self, is_turn: bool, has_place: bool) -> Admitted {
        if !is_turn {
            let text = format!(
                "Only every {}. part is inspected (inspect_every); nobody looked at this one.",
                self.every
            );
            return Admitted::Record(Reason::new(NOT_SAMPLED, text));
        }
        if !has_place && !self.patient {
            let text = format!("{} parts were waiting already.", self.places);
            return Admitted::Record(Reason::new("queue_full", text));
        }
        Admitted::Queue
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::inspector::Ticket;
    use proptest::prelude::*;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        /// A part triggers.
        Trigger,
        /// The model finishes the part that has waited longest.
        Finish,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![3 => Just(Step::Trigger), 1 => Just(Step::Finish)];
        proptest::collection::vec(step, 0..300)
    }

    fn code(admitted: &Admitted) -> &str {
        match admitted {
            Admitted::Queue => "queue",
            Admitted::Record(reason) => &reason.code,
        }
    }

    proptest! {
        /// Against a plain queue: whatever the order of triggers and finished parts, each trigger is
        /// answered once, no more wait than there are places, and a part is only refused a place
        /// that is really taken.
        #[test]
        fn no_part_vanishes(steps in steps(), every in 1..8u32, places in 1..6usize) {
            let mut admission = Admission::new(every, places, false);
            let taken = Arc::new(AtomicUsize::new(0));
            let mut waiting: VecDeque<Option<Ticket>> = VecDeque::new();
            let (mut triggered, mut answered, mut finished) = (0u32, 0u32, 0u32);
            for step in steps {
                match step {
                    Step::Finish => finished += u32::from(waiting.pop_front().is_some()),
                    Step::Trigger => {
                        let nth = triggered;
                        triggered += 1;
                        let is_turn = admission.is_turn();
                        prop_assert_eq!(is_turn, nth.is_multiple_of(every));
                        let ticket = if is_turn { Ticket::take(&taken, places) } else { None };
                        let before = waiting.len();
                        let admitted = admission.decide(is_turn, ticket.is_some());
                        let expected = match (is_turn, before < places) {
                            (false, _) => "not_sampled",
                            (true, false) => "queue_full",
                            (true, true) => "queue",
                        };
                        prop_assert_eq!(code(&admitted), expected);
                        match admitted {
                            Admitted::Queue => waiting.push_back(ticket),
                            Admitted::Record(_) => answered += 1,
                        }
                    }
                }
                prop_assert!(waiting.len() <= places);
                prop_assert_eq!(taken.load(Ordering::SeqCst), waiting.len());
                prop_assert_eq!(triggered, answered + finished + waiting.len() as u32);
            }
        }

        /// A source that can wait never has a part refused for want of a place.
        #[test]
        fn who_can_wait_is_not_refused(turn in any::<bool>(), place in any::<bool>()) {
            let admission = Admission::new(3, 1, true);
            let expected = if turn { "queue" } else { "not_sampled" };
            let admitted = admission.decide(turn, place);
            prop_assert_eq!(code(&admitted), expected);
        }
    }

    #[test]
    fn the_first_part_is_inspected_and_zero_means_every_one() {
        let turns = |every| {
            let mut admission = Admission::new(every, 1, false);
            (0..7).map(|_| u8::from(admission.is_turn())).collect::<Vec<_>>()
        };
        assert_eq!(turns(3), [1, 0, 0, 1, 0, 0, 1]);
        assert_eq!(turns(1), [1; 7]);
        assert_eq!(turns(0), [1; 7]);
        assert_eq!(turns(u32::MAX), [1, 0, 0, 0, 0, 0, 0]);
    }
}
