//! The state of the machine around us, in the 17 words of PackML (ISA-TR88.00.02).

use serde::{Deserialize, Serialize};

/// What the machine is doing, as its controller says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the words of the standard, which explains them")]
pub enum LineState {
    Clearing,
    Stopped,
    Starting,
    Idle,
    Suspended,
    Execute,
    Stopping,
    Aborting,
    Aborted,
    Holding,
    Held,
    Unholding,
    Suspending,
    Unsuspending,
    Resetting,
    Completing,
    /// Later editions say `Completed`.
    #[serde(alias = "Completed")]
    Complete,
}

impl LineState {
    /// Every state.
    pub const ALL: [LineState; 17] = [
        LineState::Clearing,
        LineState::Stopped,
        LineState::Starting,
        LineState::Idle,
        LineState::Suspended,
        LineState::Execute,
        LineState::Stopping,
        LineState::Aborting,
        LineState::Aborted,
        LineState::Holding,
        LineState::Held,
        LineState::Unholding,
        LineState::Suspending,
        LineState::Unsuspending,
        LineState::Resetting,
        LineState::Completing,
        LineState::Complete,
    ];

    /// Whether parts are being made: only then is a missing picture a fault.
    pub fn is_producing(self) -> bool {
        self == LineState::Execute
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_is_read_back_and_only_execute_produces() {
        for state in LineState::ALL {
            let word = serde_json::to_string(&state).expect("a word");
            assert_eq!(serde_json::from_str::<LineState>(&word).expect("known"), state);
            assert_eq!(state.is_producing(), word == "\"Execute\"");
        }
        let newer = serde_json::from_str::<LineState>("\"Completed\"").expect("known");
        assert_eq!(newer, LineState::Complete);
        for bad in ["\"execute\"", "\"Running\"", "6", "null"] {
            assert!(serde_json::from_str::<LineState>(bad).is_err(), "{bad}");
        }
    }
}
