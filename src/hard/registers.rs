//! A board as registers: which word stands where, as a table, and the words.
//!
//! Numbers of more than 16 bits have their most significant word first. Texts have two characters a
//! register, the first in the high byte, and end with zeros; a character that is not ASCII is a `?`.

use super::board::{Board, RESULTS};
use crate::inspection::ForeignId;
use crate::plc::message::Fault;
use crate::plc::{Code, State};
use crate::verdict::Outcome;

/// Registers of one station: no more than one request may read.
pub const WORDS: u16 = 120;

/// The layout's number; rises when a register changes its meaning.
pub const LAYOUT: u16 = 1;

/// What a row of the table holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A number in one register.
    U16,
    /// A number in two.
    U32,
    /// A number in four.
    U64,
    /// Characters, two a register.
    Ascii,
}

impl Kind {
    /// The word in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::U16 => "u16",
            Kind::U32 => "u32",
            Kind::U64 => "u64",
            Kind::Ascii => "ascii",
        }
    }
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The first register, from the station's base.
    pub at: u16,
    /// How many.
    pub words: u16,
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// What it means.
    pub about: &'static str,
}

const fn row(at: u16, words: u16, name: &'static str, kind: Kind, about: &'static str) -> Row {
    Row { at, words, name, kind, about }
}

const SEQUENCE: u16 = 0;
const LAYOUT_AT: u16 = 1;
const HEARTBEAT: u16 = 2;
const STATE: u16 = 3;
const FLAGS: u16 = 4;
const VERDICT: u16 = 5;
const FAULT: u16 = 6;
const NOT_READY: u16 = 7;
const RECIPE: u16 = 8;
const IN_HAND: u16 = 9;
const DEADLINE: u16 = 10;
const LEFT: u16 = 12;
const LATENCY: u16 = 14;
const JOB: u16 = 16;
const TRIGGER: u16 = 18;
const TRIGGER_TEXT: u16 = 22;
const PART: u16 = 54;
const RESULT: u16 = 86;
const RESULT_WORDS: u16 = 8;
const SEQUENCE_END: u16 = 119;

/// Registers of an id as text: as many characters as one may have.
const TEXT_WORDS: u16 = ForeignId::MAX_CHARS as u16 / 2;

/// Bits of the register `flags`.
pub mod flag {
    /// A part would be taken now.
    pub const READY: u16 = 1;
    /// At least one part is in hand.
    pub const BUSY: u16 = 1 << 1;
    /// Something is broken.
    pub const FAULT: u16 = 1 << 2;
    /// The camera delivers nothing.
    pub const CAMERA_LOST: u16 = 1 << 3;
    /// `verdict` is that of the part that was triggered last.
    pub const VALID: u16 = 1 << 4;
    /// Its deadline passed first.
    pub const LATE: u16 = 1 << 5;
    /// Its trigger has a number as id.
    pub const ID_NUMBER: u16 = 1 << 6;
    /// Its trigger has a text as id.
    pub const ID_TEXT: u16 = 1 << 7;
    /// The heartbeat was heard in the last two seconds.
    pub const ALIVE: u16 = 1 << 8;
}

/// The table. Rows follow one another; what is between them is 0.
pub const ROWS: &[Row] = &[
    row(SEQUENCE, 1, "sequence", Kind::U16, "changes with all but heartbeat and deadline_left_ms"),
    row(LAYOUT_AT, 1, "layout", Kind::U16, "1: this table"),
    row(HEARTBEAT, 1, "heartbeat", Kind::U16, "counts four times a second; a stop for 2 s: reject"),
    row(
        STATE,
        1,
        "state",
        Kind::U16,
        "0 Preoperational, 1 Halted, 2 Error, 3 Initialized, 4 Ready, 5 SingleExecution, 6 ContinuousExecution",
    ),
    row(
        FLAGS,
        1,
        "flags",
        Kind::U16,
        "bit 0 ready, 1 busy, 2 fault, 3 camera lost, 4 verdict valid, 5 late, 6 the id is a number, 7 a text, 8 alive",
    ),
    row(VERDICT, 1, "verdict", Kind::U16, "0 none: reject, 1 pass, 2 fail, 3 review"),
    row(
        FAULT,
        1,
        "fault",
        Kind::U16,
        "0 none, 1 record_not_writable, 2 camera_lost, 3 model_failing, 4 output_failed, 5 trigger_failed",
    ),
    row(
        NOT_READY,
        1,
        "not_ready",
        Kind::U16,
        "why no part would be taken: 0 ready, 1 not_ready, 2 queue_full, 3 results_not_acknowledged, 4 other",
    ),
    row(RECIPE, 1, "recipe_index", Kind::U16, "the active recipe"),
    row(IN_HAND, 1, "parts_in_hand", Kind::U16, "parts without a result"),
    row(DEADLINE, 2, "deadline_ms", Kind::U32, "of the newest part, from its trigger"),
    row(
        LEFT,
        2,
        "deadline_left_ms",
        Kind::U32,
        "what is left of it; 0: passed, or a verdict stands",
    ),
    row(LATENCY, 2, "latency_ms", Kind::U32, "from the trigger to the verdict"),
    row(JOB, 2, "job_id", Kind::U32, "number of the newest part, its low 32 bits; 0: none"),
    row(TRIGGER, 4, "trigger_id", Kind::U64, "of the newest part, if a number; else 0"),
    row(TRIGGER_TEXT, TEXT_WORDS, "trigger_text", Kind::Ascii, "of the newest part, if a text"),
    row(PART, TEXT_WORDS, "part_id", Kind::Ascii, "of the newest part"),
    row(RESULT, 2, "result_1_job_id", Kind::U32, "the newest result, of whatever part"),
    row(RESULT + 2, 4, "result_1_trigger_id", Kind::U64, "its trigger, if a number"),
    row(RESULT + 6, 1, "result_1_verdict", Kind::U16, "as verdict"),
    row(RESULT + 7, 1, "result_1_late", Kind::U16, "1: its deadline passed first"),
    row(RESULT + 8, 2, "result_2_job_id", Kind::U32, "the one before"),
    row(RESULT + 10, 4, "result_2_trigger_id", Kind::U64, ""),
    row(RESULT + 14, 1, "result_2_verdict", Kind::U16, ""),
    row(RESULT + 15, 1, "result_2_late", Kind::U16, ""),
    row(RESULT + 16, 2, "result_3_job_id", Kind::U32, ""),
    row(RESULT + 18, 4, "result_3_trigger_id", Kind::U64, ""),
    row(RESULT + 22, 1, "result_3_verdict", Kind::U16, ""),
    row(RESULT + 23, 1, "result_3_late", Kind::U16, ""),
    row(RESULT + 24, 2, "result_4_job_id", Kind::U32, ""),
    row(RESULT + 26, 4, "result_4_trigger_id", Kind::U64, ""),
    row(RESULT + 30, 1, "result_4_verdict", Kind::U16, ""),
    row(RESULT + 31, 1, "result_4_late", Kind::U16, ""),
    row(
        SEQUENCE_END,
        1,
        "sequence_end",
        Kind::U16,
        "as sequence; if not, the block was read in pieces",
    ),
];

/// The registers of one station at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image([u16; WORDS as usize]);

impl Image {
    /// What `board` shows at `now_ns`.
    pub fn of(board: &Board, now_ns: u64) -> Image {
        let mut image = Image([0; WORDS as usize]);
        image.put(SEQUENCE, board.sequence());
        image.put(SEQUENCE_END, board.sequence());
        image.put(LAYOUT_AT, LAYOUT);
        image.put(HEARTBEAT, board.beats());
        let flags = image.put_status(board, now_ns) | image.put_newest(board, now_ns);
        image.put(FLAGS, flags);
        for (place, shown) in (0..RESULTS as u16).zip(board.results(now_ns)) {
            let at = RESULT + place * RESULT_WORDS;
            image.put_u32(at, shown.job_id as u32);
            image.put_u64(at + 2, number(shown.trigger_id.as_ref()));
            image.put(at + 6, word(shown.outcome));
            image.put(at + 7, u16::from(shown.is_late));
        }
        image
    }

    /// The words.
    pub fn words(&self) -> &[u16; WORDS as usize] {
        &self.0
    }

    fn put_status(&mut self, board: &Board, now_ns: u64) -> u16 {
        let (status, is_alive) = (board.status(), board.is_alive(now_ns));
        self.put(STATE, state(status.state));
        self.put(FAULT, status.fault.map_or(0, fault));
        self.put(NOT_READY, status.not_ready.map_or(0, not_ready));
        self.put(RECIPE, status.recipe_index as u16);
        self.put(IN_HAND, u16::try_from(status.in_hand).unwrap_or(u16::MAX));
        bits(&[
            // Whoever is not alive takes no part.
            (flag::READY, status.ready && is_alive),
            (flag::BUSY, status.busy),
            (flag::FAULT, status.fault.is_some()),
            (flag::CAMERA_LOST, status.camera_lost),
            (flag::ALIVE, is_alive),
        ])
    }

    fn put_newest(&mut self, board: &Board, now_ns: u64) -> u16 {
        let Some(part) = board.newest() else { return 0 };
        self.put_u32(JOB, part.job_id as u32);
        self.put_u64(TRIGGER, number(part.trigger_id.as_ref()));
        if let Some(ForeignId::Text(text)) = &part.trigger_id {
            self.put_text(TRIGGER_TEXT, text);
        }
        self.put_text(PART, &part.part_id);
        self.put_u32(DEADLINE, u32::try_from(part.deadline_ms).unwrap_or(u32::MAX));
        let verdict = board.verdict(now_ns);
        match verdict {
            Some(shown) => {
                self.put(VERDICT, word(shown.outcome));
                self.put_u32(LATENCY, shown.latency_ms);
            }
            None => {
                let left_ms = part.deadline_ns.saturating_sub(now_ns) / 1_000_000;
                self.put_u32(LEFT, u32::try_from(left_ms).unwrap_or(u32::MAX));
            }
        }
        bits(&[
            (flag::VALID, verdict.is_some()),
            (flag::LATE, verdict.is_some_and(|shown| shown.is_late)),
            (flag::ID_NUMBER, matches!(part.trigger_id, Some(ForeignId::Number(_)))),
            (flag::ID_TEXT, matches!(part.trigger_id, Some(ForeignId::Text(_)))),
        ])
    }

    fn put(&mut self, at: u16, word: u16) {
        self.0[usize::from(at)] = word;
    }

    fn put_u32(&mut self, at: u16, number: u32) {
        self.put(at, (number >> 16) as u16);
        self.put(at + 1, number as u16);
    }

    fn put_u64(&mut self, at: u16, number: u64) {
        self.put_u32(at, (number >> 32) as u32);
        self.put_u32(at + 2, number as u32);
    }

    fn put_text(&mut self, at: u16, text: &str) {
        let byte = |c: char| if c.is_ascii() { c as u8 } else { b'?' };
        let bytes: Vec<u8> = text.chars().map(byte).take(ForeignId::MAX_CHARS).collect();
        for (place, pair) in (at..).zip(bytes.chunks(2)) {
            let low = pair.get(1).copied().unwrap_or(0);
            self.put(place, u16::from_be_bytes([pair[0], low]));
        }
    }
}

fn bits(flags: &[(u16, bool)]) -> u16 {
    flags.iter().filter(|(_, is_set)| *is_set).fold(0, |all, (bit, _)| all | bit)
}

fn number(id: Option<&ForeignId>) -> u64 {
    match id {
        Some(ForeignId::Number(number)) => *number,
        Some(ForeignId::Text(_)) | None => 0,
    }
}

/// The register's word for a verdict; 0 is none.
pub fn word(outcome: Outcome) -> u16 {
    match outcome {
        Outcome::Pass => 1,
        Outcome::Fail => 2,
        Outcome::Review => 3,
    }
}

fn state(state: State) -> u16 {
    match state {
        State::Preoperational => 0,
        State::Halted => 1,
        State::Error => 2,
        State::Initialized => 3,
        State::Ready => 4,
        State::SingleExecution => 5,
        State::ContinuousExecution => 6,
    }
}

fn fault(fault: Fault) -> u16 {
    match fault {
        Fault::RecordNotWritable => 1,
        Fault::CameraLost => 2,
        Fault::ModelFailing => 3,
        Fault::OutputFailed => 4,
        Fault::TriggerFailed => 5,
    }
}

fn not_ready(code: Code) -> u16 {
    match code {
        Code::NotReady => 1,
        Code::QueueFull => 2,
        Code::ResultsNotAcknowledged => 3,
        _ => 4,
    }
}
