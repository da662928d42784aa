//! The contract without any wire: sequences of commands and what becomes of them.

use super::*;
use crate::clock::{Clock, ManualClock};
use crate::plc::state::State;
use crate::plc::{Outcome, ring::Waiting};
use proptest::prelude::*;

struct Bench {
    contract: Contract,
    clock: ManualClock,
}

impl Bench {
    fn new(change: impl FnOnce(&mut Terms)) -> Bench {
        let clock = ManualClock::new(jiff::Timestamp::UNIX_EPOCH);
        let mut terms = Terms {
            station: "s1".into(),
            options: Options { commands_per_s: 1000, ..Options::default() },
            triggered_by_command: true,
            places: 4,
            deadline: Duration::from_millis(500),
            recipes: vec![(1, "plate".into()), (2, "cover".into())],
            next_job: 11,
        };
        change(&mut terms);
        let mut contract = Contract::new(terms, &clock.now());
        contract.start(&clock.now());
        Bench { contract, clock }
    }

    fn send(&mut self, name: &str, payload: &str) -> Outcome {
        self.clock.advance(Duration::from_millis(10));
        self.contract.take(name, payload.as_bytes(), false, &self.clock.now())
    }

    fn trigger(&mut self, id: u64) -> Outcome {
        self.send("trigger", &format!(r#"{{"trigger_id":{id},"part_id":"P{id}"}}"#))
    }

    fn reason(&mut self, name: &str, payload: &str) -> Option<Code> {
        self.send(name, payload).reply.expect("answered at once").reason
    }

    fn finish(&mut self) {
        self.contract.finish(&self.clock.now());
    }
}

fn job(outcome: &Outcome) -> Option<u64> {
    match &outcome.task {
        Some(Task::Inspect(job)) => Some(job.job_id),
        _ => None,
    }
}

#[test]
fn a_trigger_is_acknowledged_once_and_its_copy_gets_the_same_answer() {
    let mut bench = Bench::new(|_| {});
    let first = bench.trigger(7);
    let Some(Task::Inspect(job)) = &first.task else { panic!("{first:?}") };
    assert_eq!((job.job_id, job.part_id.as_str()), (11, "P7"));
    assert_eq!(job.deadline, Duration::from_millis(500), "the station's");
    let copy = bench.trigger(7);
    assert_eq!(copy.task, None, "inspected once");
    let (first, copy) = (first.reply.expect("one"), copy.reply.expect("one"));
    assert!(copy.duplicate && copy.accepted && copy.job_id == first.job_id);
    let other = bench.reason("trigger", r#"{"trigger_id":7,"part_id":"P8"}"#);
    assert_eq!(other, Some(Code::Duplicate));
    let unnamed = bench.send("trigger", r#"{"trigger_id":"x","deadline_ms":9}"#);
    let Some(Task::Inspect(job)) = unnamed.task else { panic!("accepted") };
    assert_eq!((job.part_id.as_str(), job.deadline), ("000012", Duration::from_millis(9)));
}

#[test]
fn retained_unknown_stale_and_too_many_are_refused_with_their_word() {
    let mut bench = Bench::new(|terms| terms.options.commands_per_s = 2);
    let now = bench.clock.now();
    let kept = bench.contract.take("trigger", br#"{"trigger_id":1}"#, true, &now);
    let reply = kept.reply.expect("one");
    assert_eq!(reply.reason, Some(Code::Retained));
    assert_eq!(bench.reason("dance", "{}"), Some(Code::UnknownCommand));
    bench.clock.advance(Duration::from_secs(1));
    let old = r#"{"trigger_id":1,"deadline_ms":500,"sent_at":"1970-01-01T00:00:00Z"}"#;
    assert_eq!(bench.reason("trigger", old), Some(Code::Stale));
    let words: Vec<_> = (0..4).map(|_| bench.reason("reset", "")).collect();
    assert!(words.contains(&Some(Code::RateLimited)), "{words:?}");
    assert_eq!(bench.reason("ack", r#"{"trigger_id":1}"#), Some(Code::RateLimited));
    bench.clock.advance(Duration::from_secs(2));
    assert_eq!(bench.reason("ack", r#"{"trigger_id":1}"#), Some(Code::NotOffered));
}

#[test]
fn a_station_that_finds_its_parts_takes_no_triggers() {
    let mut bench = Bench::new(|terms| terms.triggered_by_command = false);
    assert_eq!(bench.contract.state().state, State::ContinuousExecution);
    assert_eq!(bench.reason("trigger", r#"{"trigger_id":1}"#), Some(Code::NotOffered));
    assert!(bench.contract.inspects());
    assert_eq!(bench.reason("line", r#"{"state":"Held"}"#), None);
    assert!(!bench.contract.inspects());
    let state = bench.contract.state();
    assert_eq!((state.state, state.ready), (State::Ready, false));
    assert_eq!(bench.reason("line", r#"{"state":"Execute"}"#), None);
    assert!(bench.contract.inspects());
}

#[test]
fn the_queue_is_full_until_a_part_is_finished() {
    let mut bench = Bench::new(|terms| terms.places = 2);
    assert!(job(&bench.trigger(1)).is_some() && job(&bench.trigger(2)).is_some());
    let state = bench.contract.state();
    assert!(!state.ready && state.busy && state.state == State::SingleExecution);
    assert_eq!(bench.reason("trigger", r#"{"trigger_id":3}"#), Some(Code::QueueFull));
    bench.finish();
    assert!(job(&bench.trigger(3)).is_some(), "a refused trigger may be tried again");
}

#[test]
fn a_recipe_changes_when_no_part_is_in_hand_and_nothing_begins_meanwhile() {
    let mut bench = Bench::new(|_| {});
    bench.trigger(1);
    let asked = bench.send("recipe", r#"{"index":2,"request_id":5}"#);
    assert_eq!((asked.reply, asked.task), (None, Some(Task::SwitchRecipe)));
    assert_eq!(bench.contract.state().not_ready_reason, Some(Code::NotReady));
    assert_eq!(bench.reason("trigger", r#"{"trigger_id":2}"#), Some(Code::NotReady));
    assert_eq!(bench.reason("recipe", r#"{"index":1}"#), Some(Code::Busy));
    assert_eq!(bench.contract.active(), 0);
    bench.finish();
    let reply = bench.contract.take_switched().expect("now");
    assert_eq!((reply.accepted, reply.recipe_index), (true, Some(2)));
    assert_eq!(bench.contract.active(), 1);
    assert!(bench.contract.state().ready);
    assert_eq!(bench.reason("recipe", r#"{"index":9}"#), Some(Code::UnknownRecipe));
    assert_eq!(bench.contract.active(), 1, "the old one stays");
    assert_eq!(bench.reason("recipe", r#"{"index":2}"#), None, "it is active already");
}

#[test]
fn a_lost_camera_is_a_fault_only_while_the_line_executes() {
    let mut bench = Bench::new(|_| {});
    let now = bench.clock.now();
    assert!(bench.contract.camera_lost("no signal", &now));
    assert_eq!(bench.contract.state().state, State::Error);
    assert_eq!(bench.reason("trigger", r#"{"trigger_id":1}"#), Some(Code::NotReady));
    bench.contract.camera_back(&now);
    assert!(bench.contract.state().ready);
    bench.send("line", r#"{"state":"Held"}"#);
    assert!(!bench.contract.camera_lost("no signal", &now));
    let state = bench.contract.state();
    assert!(!state.fault && state.camera_lost);
    bench.send("line", r#"{"state":"Execute"}"#);
    assert_eq!(bench.contract.state().fault_reason, Some(Fault::CameraLost));
    bench.send("line", r#"{"state":"Stopped"}"#);
    assert!(!bench.contract.state().fault);
}

#[test]
fn a_model_that_fails_again_and_again_is_a_fault_until_reset() {
    let mut bench = Bench::new(|_| {});
    let now = bench.clock.now();
    for well in [false, false, true, false, false] {
        bench.contract.model_answered(well, &now);
    }
    assert!(!bench.contract.state().fault, "not in a row");
    bench.contract.model_answered(false, &now);
    assert_eq!(bench.contract.state().fault_reason, Some(Fault::ModelFailing));
    bench.send("reset", "");
    assert!(bench.contract.state().ready);
    bench.contract.record_failed("disk full", &now);
    bench.send("reset", "");
    let state = bench.contract.state();
    assert_eq!(state.fault_reason, Some(Fault::RecordNotWritable), "no word from outside helps");
}

#[test]
fn a_full_ring_refuses_until_the_oldest_is_acknowledged() {
    let mut bench = Bench::new(|terms| {
        terms.options.acknowledge = true;
        terms.places = 16;
    });
    let mut ring = Ring::new(8, Acknowledged::default());
    for sequence in 1..=6 {
        let trigger_id = Some(ForeignId::Number(sequence as u64));
        ring.push(
            sequence,
            Waiting { result_id: format!("r{sequence}"), trigger_id, payload: vec![] },
        );
    }
    bench.contract = bench.contract.with_ring(ring);
    assert!(job(&bench.trigger(7)).is_some() && job(&bench.trigger(8)).is_some());
    let refused = bench.reason("trigger", r#"{"trigger_id":9}"#);
    assert_eq!(refused, Some(Code::ResultsNotAcknowledged), "two in hand will want a place");
    let acked = bench.send("ack", r#"{"trigger_id":1}"#);
    assert!(matches!(acked.task, Some(Task::Acknowledged(marks)) if marks.up_to == 1));
    assert!(job(&bench.trigger(9)).is_some());
    assert_eq!(bench.reason("ack", r#"{"trigger_id":99}"#), Some(Code::UnknownResult));
}

#[test]
fn what_has_stopped_takes_nothing() {
    let mut bench = Bench::new(|_| {});
    let now = bench.clock.now();
    bench.contract.halt(&now);
    assert_eq!(bench.contract.state().state, State::Halted);
    assert_eq!(bench.reason("trigger", r#"{"trigger_id":1}"#), Some(Code::NotReady));
}

proptest! {
    /// Whatever is sent: each command is answered once, each accepted trigger is one job of its own
    /// number, no more are in hand than there are places, and none begins while a recipe changes.
    #[test]
    fn the_promises_hold_for_any_sequence(steps in proptest::collection::vec((0..6u8, 0..6u64), 1..120)) {
        let mut bench = Bench::new(|terms| terms.places = 3);
        let (mut in_hand, mut jobs, mut owed) = (0usize, Vec::new(), 0usize);
        for (what, id) in steps {
            let was_changing = bench.contract.is_changing();
            match what {
                0..=2 => {
                    let taken = bench.trigger(id);
                    prop_assert!(taken.reply.is_some());
                    if let Some(job) = job(&taken) {
                        prop_assert!(!was_changing);
                        prop_assert!(!jobs.contains(&job));
                        jobs.push(job);
                        in_hand += 1;
                    }
                }
                3 if in_hand > 0 => {
                    bench.finish();
                    in_hand -= 1;
                }
                3 => {}
                4 => {
                    let index = 1 + id % 3;
                    let taken = bench.send("recipe", &format!(r#"{{"index":{index}}}"#));
                    owed += usize::from(taken.reply.is_none());
                }
                _ => {
                    bench.send("line", if id % 2 == 0 { r#"{"state":"Held"}"# } else { r#"{"state":"Execute"}"# });
                }
            }
            owed -= usize::from(bench.contract.take_switched().is_some());
            prop_assert!(owed <= 1 && (owed == 1) == bench.contract.is_changing());
            prop_assert!(in_hand <= 3);
            prop_assert_eq!(bench.contract.state().queue, in_hand);
        }
    }
}
