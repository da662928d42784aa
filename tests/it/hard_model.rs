//! Hard outputs against a model: whatever happens in whatever order, nothing reads as pass that is none.

use std::sync::Arc;
use std::time::Duration;

use inspectd::hard::modbus::{Bank, Block};
use inspectd::hard::registers::{Image, Kind, ROWS, WORDS, flag};
use inspectd::hard::{Board, Panel, Permit, board};
use inspectd::inspection::{ForeignId, Inspection, Timeliness};
use inspectd::plc::State;
use inspectd::verdict::Outcome;
use proptest::prelude::*;
use uuid::Uuid;

use crate::support::records::inspection;

const MS: u64 = 1_000_000;
const HOLD_MS: u64 = 300;
const DEADLINE_MS: u64 = 400;

fn status(state: State) -> board::Status {
    board::Status { state, ready: true, not_ready: None, ..board::Status::default() }
}

fn part(job_id: u64, triggered_ns: u64) -> board::Part {
    board::Part {
        job_id,
        trigger_id: Some(ForeignId::Number(job_id + 1000)),
        part_id: format!("P{job_id}"),
        deadline_ms: DEADLINE_MS,
        deadline_ns: triggered_ns + DEADLINE_MS * MS,
    }
}

/// What kind of record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Record {
    Pass,
    Fail,
    Review,
    /// The deadline was missed before the verdict stood.
    LatePass,
    Partial,
    Update,
}

fn record(job_id: u64, triggered_ns: u64, kind: Record) -> Inspection {
    let mut look = inspection("s1", 1);
    look.job_id = job_id;
    look.trigger_id = Some(ForeignId::Number(job_id + 1000));
    look.times.triggered.monotonic_ns = triggered_ns;
    look.verdict.outcome = match kind {
        Record::Fail => Outcome::Fail,
        Record::Review => Outcome::Review,
        // As a fault in the daemon might write it; `into_late` would not.
        Record::Pass | Record::LatePass | Record::Partial | Record::Update => Outcome::Pass,
    };
    look.timeliness = Timeliness {
        deadline_ms: Some(DEADLINE_MS),
        deadline_met: Some(kind != Record::LatePass),
        updates: (kind == Record::Update).then(|| Uuid::from_u128(7)),
        is_partial: kind == Record::Partial,
        late_outcome: None,
    };
    look
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A part is before the camera; whether it will be looked at.
    Trigger {
        begins: bool,
    },
    /// A record of the part that is so many before the newest.
    Record {
        back: u64,
        kind: Record,
    },
    /// A part nobody looks at.
    PassOver,
    State(State),
    Beat,
    Wait {
        ms: u64,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let kind = prop_oneof![
        4 => Just(Record::Pass),
        1 => Just(Record::Fail),
        1 => Just(Record::Review),
        1 => Just(Record::LatePass),
        1 => Just(Record::Partial),
        2 => Just(Record::Update),
    ];
    let state = prop_oneof![
        4 => Just(State::Ready),
        1 => Just(State::SingleExecution),
        1 => Just(State::Error),
        1 => Just(State::Halted),
    ];
    let step = prop_oneof![
        4 => any::<bool>().prop_map(|begins| Step::Trigger { begins }),
        6 => (0..3u64, kind).prop_map(|(back, kind)| Step::Record { back, kind }),
        1 => Just(Step::PassOver),
        1 => state.prop_map(Step::State),
        4 => Just(Step::Beat),
        4 => (0..250u64).prop_map(|ms| Step::Wait { ms }),
        1 => (1500..2500u64).prop_map(|ms| Step::Wait { ms }),
    ];
    proptest::collection::vec(step, 1..80)
}

/// What a person would say who saw it all: kept apart from the board, and simpler.
#[derive(Default)]
struct Witness {
    /// When each part was triggered, and whether it was begun; its number is its place plus one.
    parts: Vec<(u64, bool)>,
    /// Parts of which a first word was recorded.
    told: Vec<u64>,
    /// The part before the camera, if somebody looks at it.
    present: Option<u64>,
    /// It was recorded as a pass, in time and whole, at this moment.
    passed_ns: Option<u64>,
    prepared: bool,
    beaten_ns: Option<u64>,
}

impl Witness {
    fn alive(&self, now_ns: u64) -> bool {
        self.beaten_ns.is_some_and(|beaten| now_ns - beaten <= 2000 * MS)
    }

    fn shows_pass(&self, now_ns: u64) -> bool {
        self.passed_ns.is_some() && self.alive(now_ns)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_pass_is_shown_exactly_while_it_holds(steps in steps()) {
        let mut board = Board::default();
        let mut permit = Permit::new(Duration::from_millis(HOLD_MS));
        let mut witness = Witness::default();
        let (mut now_ns, mut given) = (MS, false);
        for step in steps {
            let sequence = board.sequence();
            match step {
                Step::Trigger { begins } => {
                    let job_id = witness.parts.len() as u64 + 1;
                    witness.parts.push((now_ns, begins));
                    witness.present = Some(job_id);
                    witness.passed_ns = None;
                    board.trigger(job_id);
                    if begins {
                        board.begin(part(job_id, now_ns));
                    }
                    prop_assert_ne!(board.sequence(), sequence);
                    // One that is told of twice, or late, changes nothing.
                    board.trigger(job_id);
                    board.trigger(job_id.saturating_sub(1));
                }
                Step::Record { back, kind } => {
                    let count = witness.parts.len() as u64;
                    let job_id = count.saturating_sub(back);
                    if job_id == 0 {
                        continue;
                    }
                    let (triggered_ns, begun) = witness.parts[job_id as usize - 1];
                    // Who was not looked at does not pass: the daemon has no such record.
                    let kind = if begun { kind } else { Record::Review };
                    board.record(&record(job_id, triggered_ns, kind), now_ns);
                    if kind == Record::Update {
                        continue;
                    }
                    let is_first = !witness.told.contains(&job_id) && witness.prepared;
                    witness.told.push(job_id);
                    let in_time = now_ns <= triggered_ns + DEADLINE_MS * MS;
                    if witness.present == Some(job_id) && is_first && kind == Record::Pass && in_time {
                        witness.passed_ns = Some(now_ns);
                    }
                }
                Step::PassOver => {
                    witness.present = None;
                    witness.passed_ns = None;
                    board.pass_over();
                }
                Step::State(state) => {
                    witness.prepared = state.is_prepared();
                    if !witness.prepared {
                        witness.passed_ns = None;
                    }
                    board.set_status(status(state));
                }
                Step::Beat => {
                    if !witness.alive(now_ns) {
                        witness.passed_ns = None;
                    }
                    witness.beaten_ns = Some(now_ns);
                    board.beat(now_ns);
                }
                Step::Wait { ms } => now_ns += ms * MS,
            }
            let shows = witness.shows_pass(now_ns);
            let verdict = board.verdict(now_ns);
            prop_assert_eq!(verdict.is_some_and(|it| it.outcome == Outcome::Pass), shows, "{:?}", step);
            let image = Image::of(&board, now_ns);
            let words = image.words();
            prop_assert_eq!(words[5] == 1, shows);
            prop_assert_eq!(words[4] & flag::VALID != 0, verdict.is_some());
            prop_assert_eq!(words[0], words[119]);
            if shows {
                let job_id = witness.present.expect("somebody passed");
                prop_assert_eq!(u64::from(words[17]), job_id);
                prop_assert_eq!(u64::from(words[21]), job_id + 1000, "the id beside its verdict");
            }
            let passes = board.results(now_ns).filter(|it| it.outcome == Outcome::Pass);
            for shown in passes {
                let (triggered_ns, begun) = witness.parts[shown.job_id as usize - 1];
                prop_assert!(begun && shown.at_ns <= triggered_ns + DEADLINE_MS * MS);
            }
            let due_ns = witness.present.map_or(0, |job_id| {
                witness.parts[job_id as usize - 1].0 + DEADLINE_MS * MS
            });
            let holds = |passed: u64| now_ns < passed + HOLD_MS * MS;
            let expected = shows && witness.passed_ns.is_some_and(holds) && (given || now_ns <= due_ns);
            let until_ns = permit.until(&board, now_ns);
            prop_assert_eq!(until_ns.is_some(), expected, "{:?}", step);
            prop_assert!(until_ns.is_none_or(|end| end > now_ns && end <= now_ns + HOLD_MS * MS));
            // One that was given is given until its pass is no longer shown.
            given = (given && shows) || expected;
        }
    }

    /// Whatever is sent, the answer is the registers that were asked for or an exception.
    #[test]
    fn no_request_is_answered_with_anything_else(
        unit in any::<u8>(),
        pdu in prop_oneof![
            proptest::collection::vec(any::<u8>(), 1..253),
            (3..5u8, 90..340u16, 0..130u16).prop_map(|(code, first, count)| {
                [vec![code], first.to_be_bytes().to_vec(), count.to_be_bytes().to_vec()].concat()
            }),
        ],
    ) {
        let panel = Arc::new(Panel::default());
        panel.update(|board| board.begin(part(5, 0)));
        let image = panel.read(|board| Image::of(board, 9));
        let blocks = [100, 220].map(|base| Block { base, panel: Arc::clone(&panel) });
        let bank = Bank::new(9);
        blocks.into_iter().for_each(|block| bank.add(block).expect("they do not overlap"));
        let mut out = [0; 253];
        let bytes = bank.answer(unit, &pdu, 9, &mut out);
        let answer = &out[..bytes];
        if answer[0] & 0x80 != 0 {
            prop_assert!(answer.len() == 2 && answer[0] == pdu[0] | 0x80);
            let expected = match (unit, pdu[0]) {
                (1..=8 | 10..=254, _) => 0x0b,
                (_, 3 | 4) => answer[1],
                _ => 1,
            };
            prop_assert_eq!(answer[1], expected);
            return Ok(());
        }
        let [code @ (3 | 4), a, b, c, d] = pdu[..] else { panic!("{pdu:?} was answered") };
        let (first, count) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        prop_assert!([0, 9, 255].contains(&unit));
        let base = if first < 220 { 100 } else { 220 };
        prop_assert!((1..=WORDS).contains(&count) && first >= base && first + count <= base + WORDS);
        let from = usize::from(first - base);
        let words = &image.words()[from..from + usize::from(count)];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        prop_assert_eq!(answer, [&[code, 2 * count as u8], &bytes[..]].concat());
    }
}

#[test]
fn the_table_has_each_register_once_and_fits_one_request() {
    let mut end = 0;
    for row in ROWS {
        assert!(row.at >= end, "{} begins within the row before it", row.name);
        let fits = match row.kind {
            Kind::U16 => row.words == 1,
            Kind::U32 => row.words == 2,
            Kind::U64 => row.words == 4,
            Kind::Ascii => row.words > 1,
        };
        assert!(fits, "{}", row.name);
        end = row.at + row.words;
    }
    assert_eq!(end, WORDS);
    const { assert!(WORDS <= 125, "no request may read more") };
    let names: std::collections::HashSet<_> = ROWS.iter().map(|row| row.name).collect();
    assert_eq!(names.len(), ROWS.len());
}

#[test]
fn words_stand_where_the_table_says() {
    let at = |name: &str| {
        let row = ROWS.iter().find(|row| row.name == name).expect("a row");
        usize::from(row.at)..usize::from(row.at + row.words)
    };
    let mut board = Board::default();
    board.set_status(status(State::Ready));
    board.beat(0);
    let id = ForeignId::Text("ü7".into());
    let text = board::Part { trigger_id: Some(id), part_id: "ABC".into(), ..part(3, 0) };
    board.begin(text);
    let image = Image::of(&board, 100 * MS);
    let words = image.words();
    assert_eq!(words[at("trigger_text")][..2], [u16::from_be_bytes(*b"?7"), 0]);
    assert_eq!(words[at("part_id")][..3], [0x4142, 0x4300, 0]);
    assert_eq!(words[at("trigger_id")], [0; 4]);
    assert_eq!(words[at("deadline_left_ms")], [0, 300]);
    assert_eq!(words[at("verdict")], [0]);
    assert_eq!(words[at("flags")], [flag::READY | flag::ALIVE | flag::ID_TEXT]);

    let big = 0x0123_4567_89ab_cdef;
    board.begin(board::Part { trigger_id: Some(ForeignId::Number(big)), ..part(0x1_0002_0003, 0) });
    let mut look = record(0x1_0002_0003, 0, Record::Pass);
    look.trigger_id = Some(ForeignId::Number(big));
    look.timings.latency_ms = 70_000.9;
    board.record(&look, 200 * MS);
    let image = Image::of(&board, 300 * MS);
    let words = image.words();
    assert_eq!(words[at("trigger_id")], [0x0123, 0x4567, 0x89ab, 0xcdef]);
    assert_eq!(words[at("result_1_trigger_id")], [0x0123, 0x4567, 0x89ab, 0xcdef]);
    assert_eq!(words[at("job_id")], [2, 3]);
    assert_eq!(words[at("latency_ms")], [1, 4464]);
    assert_eq!((words[at("verdict")][0], words[at("result_1_verdict")][0]), (1, 1));
    assert_eq!(words[at("deadline_left_ms")], [0, 0], "a verdict stands");
    // Two seconds after the last beat nobody is alive.
    let image = Image::of(&board, 2001 * MS);
    let words = image.words();
    assert_eq!((words[at("verdict")][0], words[at("result_1_verdict")][0]), (0, 0));
    assert_eq!(words[at("flags")][0] & (flag::ALIVE | flag::READY | flag::VALID), 0);
}

#[test]
fn no_permit_begins_after_the_deadline_and_one_that_began_goes_on() {
    let mut board = Board::default();
    board.set_status(status(State::Ready));
    board.beat(0);
    board.begin(part(1, 0));
    board.record(&record(1, 0, Record::Pass), 300 * MS);
    let permit = || Permit::new(Duration::from_millis(HOLD_MS));
    // Whoever drives the line slept over the deadline: the part may be gone.
    let mut late = permit();
    assert_eq!(late.until(&board, 401 * MS), None);
    let mut awake = permit();
    assert_eq!(awake.until(&board, 400 * MS), Some(600 * MS));
    assert_eq!(awake.until(&board, 599 * MS), Some(600 * MS));
    assert_eq!(awake.until(&board, 600 * MS), None);
}
