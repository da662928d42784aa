//! The station's state, with the names of OPC 40100-1 (VisionStateMachine), as one table.
//!
//! An OPC UA server over this is an adapter: the names and the arrows are those of the standard.

use serde::{Deserialize, Serialize};

/// Where the station stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum State {
    /// The program starts; nothing can be asked yet.
    Preoperational,
    /// Stopped on purpose.
    Halted,
    /// Something is broken; triggers are refused.
    Error,
    /// At work, and no recipe is prepared.
    #[serde(rename = "Operational.Initialized")]
    Initialized,
    /// A trigger is awaited.
    #[serde(rename = "Operational.Ready")]
    Ready,
    /// A part that was asked for is being looked at.
    #[serde(rename = "Operational.SingleExecution")]
    SingleExecution,
    /// Parts are looked at as they come, without being asked for.
    #[serde(rename = "Operational.ContinuousExecution")]
    ContinuousExecution,
}

/// What moves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// The program has started.
    Started,
    /// A recipe is prepared.
    Prepared,
    /// The recipe is about to change.
    Unprepared,
    /// A trigger was accepted.
    SingleStarted,
    /// The station looks for parts by itself.
    ContinuousStarted,
    /// No part is in hand any more, or the station no longer looks for parts.
    Finished,
    /// Something broke.
    Faulted,
    /// It is whole again.
    Cleared,
    /// The program stops.
    Halt,
    /// The program is to start again.
    Reset,
}

impl State {
    /// Every state.
    pub const ALL: [State; 7] = [
        State::Preoperational,
        State::Halted,
        State::Error,
        State::Initialized,
        State::Ready,
        State::SingleExecution,
        State::ContinuousExecution,
    ];

    /// Whether it is below `Operational` and past `Initialized`.
    pub fn is_prepared(self) -> bool {
        matches!(self, State::Ready | State::SingleExecution | State::ContinuousExecution)
    }
}

impl Change {
    /// Every change.
    pub const ALL: [Change; 10] = [
        Change::Started,
        Change::Prepared,
        Change::Unprepared,
        Change::SingleStarted,
        Change::ContinuousStarted,
        Change::Finished,
        Change::Faulted,
        Change::Cleared,
        Change::Halt,
        Change::Reset,
    ];
}

/// The arrows: from, what happens, to. What is not listed cannot happen.
const ARROWS: &[(State, Change, State)] = &[
    (State::Preoperational, Change::Started, State::Initialized),
    (State::Preoperational, Change::Faulted, State::Error),
    (State::Preoperational, Change::Halt, State::Halted),
    (State::Halted, Change::Reset, State::Preoperational),
    (State::Error, Change::Cleared, State::Initialized),
    (State::Error, Change::Halt, State::Halted),
    (State::Initialized, Change::Prepared, State::Ready),
    (State::Initialized, Change::Faulted, State::Error),
    (State::Initialized, Change::Halt, State::Halted),
    (State::Ready, Change::Unprepared, State::Initialized),
    (State::Ready, Change::SingleStarted, State::SingleExecution),
    (State::Ready, Change::ContinuousStarted, State::ContinuousExecution),
    (State::Ready, Change::Faulted, State::Error),
    (State::Ready, Change::Halt, State::Halted),
    (State::SingleExecution, Change::Finished, State::Ready),
    (State::SingleExecution, Change::Faulted, State::Error),
    (State::SingleExecution, Change::Halt, State::Halted),
    (State::ContinuousExecution, Change::Finished, State::Ready),
    (State::ContinuousExecution, Change::Faulted, State::Error),
    (State::ContinuousExecution, Change::Halt, State::Halted),
];

/// Where `change` leads from `state`; `None` if it cannot happen there.
pub fn next(state: State, change: Change) -> Option<State> {
    let arrow = ARROWS.iter().find(|(from, what, _)| (*from, *what) == (state, change));
    arrow.map(|(_, _, to)| *to)
}

/// What is true of a station; its state follows from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// The program has started.
    pub started: bool,
    /// The program stops.
    pub halted: bool,
    /// Something is broken.
    pub faulted: bool,
    /// The recipe is about to change.
    pub changing: bool,
    /// The station looks for parts by itself.
    pub continuous: bool,
    /// Parts in hand.
    pub in_hand: usize,
}

/// Holds the state and moves it along the arrows only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine(State);

impl Default for Machine {
    fn default() -> Machine {
        Machine(State::Preoperational)
    }
}

impl Machine {
    /// The present state.
    pub fn state(&self) -> State {
        self.0
    }

    /// Walks, arrow by arrow, to the state that the conditions ask for.
    pub fn settle(&mut self, conditions: &Conditions) {
        // No way through the table is longer than there are states.
        for _ in 0..State::ALL.len() {
            let Some(change) = wanted(self.0, conditions) else { return };
            let Some(to) = next(self.0, change) else { return };
            self.0 = to;
        }
    }
}

/// The next step from `state`; `None` if it is where it should be.
fn wanted(state: State, now: &Conditions) -> Option<Change> {
    match state {
        State::Halted if now.halted => None,
        _ if now.halted => Some(Change::Halt),
        State::Halted => Some(Change::Reset),
        State::Error if now.faulted => None,
        State::Error => Some(Change::Cleared),
        _ if now.faulted => Some(Change::Faulted),
        State::Preoperational => now.started.then_some(Change::Started),
        State::Initialized => (!now.changing).then_some(Change::Prepared),
        State::Ready if now.changing && now.in_hand == 0 => Some(Change::Unprepared),
        State::Ready if now.continuous && !now.changing => Some(Change::ContinuousStarted),
        State::Ready => (now.in_hand > 0).then_some(Change::SingleStarted),
        State::SingleExecution => (now.in_hand == 0).then_some(Change::Finished),
        State::ContinuousExecution => (!now.continuous || now.changing).then_some(Change::Finished),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_arrow_leads_where_the_table_says_and_no_other_exists() {
        let mut found = 0;
        for state in State::ALL {
            for change in Change::ALL {
                let arrows: Vec<_> = ARROWS
                    .iter()
                    .filter(|(from, what, _)| (*from, *what) == (state, change))
                    .collect();
                assert!(arrows.len() <= 1, "{state:?} {change:?} leads to two states");
                assert_eq!(next(state, change), arrows.first().map(|(_, _, to)| *to));
                found += arrows.len();
            }
        }
        assert_eq!(found, ARROWS.len());
        // Whatever happens, the way to Error and to Halted is open from all that is not one.
        for state in State::ALL {
            let is_end = matches!(state, State::Halted);
            assert_eq!(next(state, Change::Halt).is_none(), is_end, "{state:?}");
            let is_broken = matches!(state, State::Halted | State::Error);
            assert_eq!(next(state, Change::Faulted).is_none(), is_broken, "{state:?}");
        }
        assert_eq!(next(State::Preoperational, Change::SingleStarted), None, "nothing is prepared");
        assert_eq!(next(State::Error, Change::SingleStarted), None);
    }

    #[test]
    fn every_arrow_is_taken_by_some_change_of_conditions() {
        let mut taken = std::collections::HashSet::new();
        for state in State::ALL {
            for bits in 0..32u8 {
                for in_hand in [0, 1] {
                    let bit = |at: u8| bits & (1 << at) != 0;
                    let now = Conditions {
                        started: bit(0),
                        halted: bit(1),
                        faulted: bit(2),
                        changing: bit(3),
                        continuous: bit(4),
                        in_hand,
                    };
                    if let Some(change) = wanted(state, &now) {
                        assert!(next(state, change).is_some(), "{state:?} {change:?} {now:?}");
                        taken.insert((state, change));
                    }
                }
            }
        }
        let all = ARROWS.iter().map(|(from, what, _)| (*from, *what)).collect();
        assert_eq!(taken, all);
    }

    fn settled(conditions: Conditions) -> State {
        let mut machine = Machine::default();
        machine.settle(&Conditions { started: true, ..conditions });
        machine.state()
    }

    #[test]
    fn conditions_lead_to_their_state() {
        let calm = Conditions::default();
        assert_eq!(settled(calm), State::Ready);
        assert_eq!(settled(Conditions { in_hand: 1, ..calm }), State::SingleExecution);
        assert_eq!(settled(Conditions { continuous: true, ..calm }), State::ContinuousExecution);
        assert_eq!(settled(Conditions { changing: true, ..calm }), State::Initialized);
        assert_eq!(settled(Conditions { faulted: true, in_hand: 1, ..calm }), State::Error);
        assert_eq!(settled(Conditions { faulted: true, halted: true, ..calm }), State::Halted);
        let mut machine = Machine::default();
        machine.settle(&calm);
        assert_eq!(machine.state(), State::Preoperational, "not started");
    }

    proptest! {
        /// Settling ends, and where it ends depends on the conditions alone, but for a change of
        /// recipe that waits for the parts in hand.
        #[test]
        fn settling_ends(steps in proptest::collection::vec((0..32u8, 0..3usize), 1..40)) {
            let mut machine = Machine::default();
            for (bits, in_hand) in steps {
                let bit = |at: u8| bits & (1 << at) != 0;
                let now = Conditions {
                    started: true,
                    halted: bit(1),
                    faulted: bit(2),
                    changing: bit(3),
                    continuous: bit(4),
                    in_hand,
                };
                machine.settle(&now);
                let reached = machine;
                machine.settle(&now);
                prop_assert_eq!(machine, reached);
                prop_assert_eq!(machine.state() == State::Halted, now.halted);
                prop_assert_eq!(machine.state() == State::Error, now.faulted && !now.halted);
            }
        }
    }

    #[test]
    fn names_are_those_of_the_standard() {
        let word = |state| serde_json::to_value(state).expect("a word");
        assert_eq!(word(State::Ready), "Operational.Ready");
        assert_eq!(word(State::SingleExecution), "Operational.SingleExecution");
        assert_eq!(word(State::Preoperational), "Preoperational");
    }
}
