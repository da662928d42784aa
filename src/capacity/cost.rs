//! What a station's questions cost in tokens, for each part once the line runs.
//!
//! Consecutive questions share what their prompts have in common at the beginning, text by text and
//! picture by picture, as the session does: the system text is computed once for all parts, a
//! picture once for all questions that follow each other about it.

use std::collections::BTreeSet;

use crate::roi::CROP_SIDE_PX;
use crate::station::{Question, Station, Task};
use crate::vlm::grammar::answer::{FieldKind, FieldSpec, SerialSpec};
use crate::vlm::pixels::Layout;
use crate::vlm::prompt::Texts;
use crate::vlm::tokenizer::image_tags;
use crate::vlm::{ChatTokenizer, EngineError};

/// Why a question has no cost.
#[derive(Debug, thiserror::Error)]
#[error("station \"{station}\", question \"{question}\": {why}")]
pub struct CostError {
    /// The station.
    pub station: String,
    /// The question.
    pub question: String,
    /// What was wrong.
    pub why: String,
}

/// The questions of one station.
#[derive(Clone, Debug, PartialEq)]
pub struct StationCost {
    /// The station.
    pub station: String,
    /// Its questions, in order.
    pub questions: Vec<QuestionCost>,
}

/// What one question costs for each part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuestionCost {
    /// The question.
    pub question: String,
    /// Tokens of the prompt's texts.
    pub text_tokens: usize,
    /// Tokens of its pictures.
    pub picture_tokens: usize,
    /// Of all of them, those that the question before it has left.
    pub reused_tokens: usize,
    /// Passes through the tower for pictures that no question before it has shown.
    pub views: usize,
    /// Tokens of the answer about a good part that the model chooses.
    pub usual_chosen_tokens: usize,
    /// Tokens of that answer that its form fixes; they are read like a prompt.
    pub usual_fixed_tokens: usize,
    /// Tokens of the longest answer.
    pub longest_tokens: usize,
}

impl QuestionCost {
    /// Tokens of the prompt.
    pub fn prompt_tokens(&self) -> usize {
        self.text_tokens + self.picture_tokens
    }

    /// Positions that prompt and longest answer take together.
    pub fn positions(&self) -> usize {
        self.prompt_tokens() + self.longest_tokens
    }
}

/// A text or a picture of a prompt. Two that are equal are computed once if they follow each other.
#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Text(Vec<u32>),
    Picture { region: String, num_crops: usize, tokens: usize, part: bool },
}

impl Piece {
    fn tokens(&self) -> usize {
        match self {
            Piece::Text(ids) => ids.len(),
            Piece::Picture { tokens, .. } => *tokens,
        }
    }
}

/// The cost of `station`'s questions with this tokenizer.
///
/// # Errors
/// The question whose texts make no prompt.
pub fn of(tokenizer: &ChatTokenizer, station: &Station) -> Result<StationCost, CostError> {
    let fail = |question: &Question| {
        let (station, question) = (station.name.clone(), question.name.clone());
        move |why: String| CostError { station, question, why }
    };
    let asks = asks(station);
    let prompts = asks
        .iter()
        .map(|ask| pieces(tokenizer, ask).map_err(fail(ask.question)))
        .collect::<Result<Vec<_>, _>>()?;
    let mut shown = BTreeSet::new();
    let mut costs = Vec::new();
    for (at, ask) in asks.iter().enumerate() {
        let (question, pieces) = (ask.question, &prompts[at]);
        // Before the first question of a part stands the last one of the part before it.
        let before = match at {
            0 => prompts.last().map(|last| last.iter().map(of_part_before).collect::<Vec<_>>()),
            _ => Some(prompts[at - 1].clone()),
        };
        let mut cost = count(pieces, before.as_deref().unwrap_or_default());
        cost.views = ask
            .look
            .iter()
            .filter(|region| shown.insert((ask.frame, (*region).clone(), question.num_crops)))
            .map(|_| views(question.num_crops).map_err(|why| fail(question)(why.to_string())))
            .sum::<Result<usize, _>>()?;
        cost.question = ask.name();
        answer(tokenizer, question, &mut cost).map_err(fail(question))?;
        costs.push(cost);
    }
    Ok(StationCost { station: station.name.clone(), questions: costs })
}

/// One prompt of those that a part costs.
struct Ask<'s> {
    question: &'s Question,
    look: &'s [String],
    /// Which of the part's frames, from 0.
    frame: usize,
}

impl Ask<'_> {
    /// The question, with what tells it from the same question about other pictures.
    fn name(&self) -> String {
        let mut name = self.question.name.clone();
        if self.question.looks.len() > 1 {
            name += &format!(" ({})", self.look.join(", "));
        }
        if self.frame > 0 {
            name += &format!(", frame {}", self.frame + 1);
        }
        name
    }
}

/// Every prompt of a part whose frames agree, in the order in which they are put.
fn asks(station: &Station) -> Vec<Ask<'_>> {
    let mut asks = Vec::new();
    for frame in 0..station.vote.agree.max(1) {
        for question in &station.questions {
            asks.extend(question.looks.iter().map(|look| Ask { question, look, frame }));
        }
    }
    asks
}

/// The most positions that any of these questions takes; 0 without any.
pub fn longest_positions(stations: &[StationCost]) -> usize {
    let all = stations.iter().flat_map(|station| &station.questions);
    all.map(QuestionCost::positions).max().unwrap_or(0)
}

fn of_part_before(piece: &Piece) -> Piece {
    let mut piece = piece.clone();
    if let Piece::Picture { part, .. } = &mut piece {
        *part = false;
    }
    piece
}

fn pieces(tokenizer: &ChatTokenizer, ask: &Ask<'_>) -> Result<Vec<Piece>, String> {
    let question = ask.question;
    let texts =
        Texts { system: &question.system, examples: &question.examples, text: &question.text };
    let prompt = texts
        .prompt(question.pictures(), |text| tokenizer.control_tag(text))
        .map_err(|why| why.to_string())?;
    let text = |text: &str| {
        tokenizer.encode(text).map(Piece::Text).map_err(|why: EngineError| why.to_string())
    };
    let mut pieces = Vec::new();
    let mut from = 0;
    // The good part is the same picture for every part; each tile has its own.
    let tile = ask.look.first().map_or("", String::as_str);
    let golden =
        question.golden.as_ref().map(|golden| (format!("{tile} of {}", golden.digest), false));
    let own = ask.look.iter().map(|region| (format!("{region} of frame {}", ask.frame), true));
    for (tag, (region, part)) in image_tags(&prompt).iter().zip(golden.into_iter().chain(own)) {
        pieces.push(text(&prompt[from..tag.range.start])?);
        let num_crops = question.num_crops;
        let tokens = layout(num_crops).map_err(|why| why.to_string())?.tokens();
        pieces.push(Piece::Picture { region, num_crops, tokens, part });
        from = tag.range.end;
    }
    pieces.push(text(&prompt[from..])?);
    Ok(pieces)
}

/// Regions are cut to a square of [`CROP_SIDE_PX`].
fn layout(num_crops: usize) -> Result<Layout, EngineError> {
    Layout::of(CROP_SIDE_PX, CROP_SIDE_PX, num_crops)
}

/// A picture of one tile passes the tower once: its global view is that tile.
fn views(num_crops: usize) -> Result<usize, EngineError> {
    let tiles = layout(num_crops)?.tiles();
    Ok(if tiles == 1 { 1 } else { tiles + 1 })
}

fn count(pieces: &[Piece], before: &[Piece]) -> QuestionCost {
    let all: usize = pieces.iter().map(Piece::tokens).sum();
    let pictures = pieces.iter().filter(|piece| matches!(piece, Piece::Picture { .. }));
    let picture_tokens = pictures.map(Piece::tokens).sum();
    let same = pieces.iter().zip(before).take_while(|(a, b)| a == b).map(|(a, _)| a.tokens());
    // The last piece runs always: what follows it is the answer.
    let last = pieces.last().map_or(0, Piece::tokens);
    QuestionCost {
        text_tokens: all - picture_tokens,
        picture_tokens,
        reused_tokens: same.sum::<usize>().min(all - last),
        ..QuestionCost::default()
    }
}

fn answer(
    tokenizer: &ChatTokenizer,
    question: &Question,
    cost: &mut QuestionCost,
) -> Result<(), String> {
    let spec = question.task.answer().map_err(|why| why.to_string())?;
    cost.longest_tokens = spec.budget_tokens();
    let usual = usual_answer(&question.task);
    let tokens = |text: &str| {
        tokenizer.encode_plain(text).map(|ids| ids.len()).map_err(|why| why.to_string())
    };
    let all = tokens(&usual.text)?.min(cost.longest_tokens);
    let values = usual.values.iter().map(|value| tokens(value)).sum::<Result<usize, _>>()?;
    cost.usual_chosen_tokens = values.min(all);
    cost.usual_fixed_tokens = all - cost.usual_chosen_tokens;
    Ok(())
}

/// The answer about a good part, and the values in it that the model chooses.
struct Usual {
    text: String,
    values: Vec<String>,
}

fn usual_answer(task: &Task) -> Usual {
    match task {
        Task::Serial(spec) => {
            let serial = sample(spec);
            let text = format!("{{\"legible\":true,\"serial\":\"{serial}\"}}");
            Usual { text, values: vec!["true".to_owned(), format!("{serial}\"")] }
        }
        Task::Defects(_) => Usual {
            text: "{\"inspectable\":true,\"defects\":[]}".to_owned(),
            values: vec!["true".to_owned(), "]".to_owned()],
        },
        Task::Fields(fields) => usual_fields(fields),
    }
}

fn usual_fields(fields: &[FieldSpec]) -> Usual {
    let values: Vec<String> = fields.iter().map(|field| usual_value(&field.kind)).collect();
    let members =
        fields.iter().zip(&values).map(|(field, value)| format!("\"{}\":{value}", field.name));
    Usual { text: format!("{{{}}}", members.collect::<Vec<_>>().join(",")), values }
}

fn usual_value(kind: &FieldKind) -> String {
    match kind {
        FieldKind::Bool => "true".to_owned(),
        FieldKind::Choice(words) => format!("\"{}\"", words.first().map_or("", String::as_str)),
        FieldKind::Integer(_) => "10".to_owned(),
        FieldKind::Decimal(_) => "10.0".to_owned(),
        FieldKind::Text { max_chars } => {
            format!("\"{}\"", "none seen".chars().take(*max_chars).collect::<String>())
        }
        FieldKind::Serial(spec) => format!("\"{}\"", sample(spec)),
        FieldKind::Defects(_) | FieldKind::Objects { .. } => "[]".to_owned(),
    }
}

/// A text as long as the longest serial, of its characters.
fn sample(spec: &SerialSpec) -> String {
    let characters: Vec<char> = spec.template.characters().into_iter().collect();
    let some = characters.iter().cycle().take(spec.template.max_len());
    if characters.is_empty() { "0".repeat(spec.template.max_len()) } else { some.collect() }
}
