//! `[[question]]`: what is asked about which regions, and how the answer is drawn.

use toml::Spanned;

use super::super::reader::Reader;
use super::super::words::choices;
use super::adapter;
use super::answer;
use super::golden;
use super::prompt;
use super::region::Named;
use crate::station::{Length, Question, Smallest, Task};
use crate::verdict::CheckDigit;
use crate::vlm::AdapterRef;
use crate::vlm::config::MAX_NUM_CROPS;
use crate::vlm::sampler::{PRESETS, Sampling};

/// Most questions of one station: each is asked about every part.
const QUESTIONS_MAX: usize = 16;

/// Most regions that one question shows: each costs 313 tokens or more.
const SHOWN_MAX: usize = 8;
/// More pictures than this in one question degrade the answers, says the publisher's guide.
const SHOWN_WELL: usize = 4;
/// Most crops of each picture where there are several, says the model card of the 3.5 release.
const CROPS_OF_SEVERAL: usize = 4;

/// Most examples of one question.
const EXAMPLES_MAX: usize = 8;

/// Most tokens of an answer that the sampler serves.
const TOKENS_MAX: i64 = 8192;

/// What the smallest text or defect may measure, in pixels or millimetres.
const LENGTH_RANGE: std::ops::RangeInclusive<f64> = 0.001..=100_000.0;

/// System text of a question that gives none.
pub const SYSTEM_DEFAULT: &str = "You are a precise visual analyst. Report only what you can see. \
                                  If text is unclear, say that it is unclear.";

/// A question, and what the rules need to know of it beside.
#[derive(Debug)]
pub struct Asked {
    /// The question.
    pub question: Question,
    /// Where its table begins.
    pub span: std::ops::Range<usize>,
    /// How a serial's check character is computed.
    pub check_digit: Option<CheckDigit>,
    /// The fields that may be left unanswered.
    pub optional_fields: Vec<String>,
}

/// Reads all questions. At least one is required. `adapter` is the station's, for questions that
/// name none.
pub fn read(top: &mut Reader<'_>, regions: &[Named], adapter: Option<&AdapterRef>) -> Vec<Asked> {
    let tables = top.tables("question", "question", QUESTIONS_MAX);
    if !top.has("question") || (tables.is_empty() && top.is_empty_list("question")) {
        let remedy = "add a [[question]] with `name` and `task`";
        top.error(top.span(), "the station asks nothing", remedy);
    }
    let mut names: Vec<Spanned<String>> = Vec::new();
    let mut asked = Vec::new();
    for mut table in tables {
        let name = table.own_name("name");
        let name = table.required("name", name, "name = \"serial\"");
        if let Some(name) = &name {
            table.call(name.get_ref());
            table.refuse_twin("questions", name, &names);
            names.push(name.clone());
        }
        asked.extend(read_one(table, name, regions, adapter));
    }
    note_unused(top, regions, &asked);
    asked
}

fn read_one(
    mut table: Reader<'_>,
    name: Option<Spanned<String>>,
    regions: &[Named],
    adapter: Option<&AdapterRef>,
) -> Option<Asked> {
    let shown = read_regions(&mut table, regions);
    let golden = golden::read(&mut table, shown.as_deref(), regions);
    let looks = shown.as_ref().and_then(|shown| read_looks(&mut table, shown, regions));
    let pictures = looks.as_ref().map(|looks| looks[0].len() + usize::from(golden.is_some()));
    let span = table.span();
    let task = answer::read(&mut table);
    let default = task.as_ref().map_or("", |task| task.default_prompt);
    let text = prompt::read_question(&mut table, pictures, default);
    let system = prompt::read_plain(&mut table, "system");
    let examples = read_examples(&mut table);
    let own_adapter = adapter::read(&mut table);
    let num_crops = table.whole("num_crops", 1..=MAX_NUM_CROPS as i64);
    if let (Some(crops), Some(pictures)) = (&num_crops, pictures) {
        warn_of_crops(&table, *crops.get_ref() as usize, pictures);
    }
    let smallest = Smallest {
        text: read_length(&mut table, "smallest_text_px", "smallest_text_mm"),
        defect: read_length(&mut table, "smallest_defect_px", "smallest_defect_mm"),
    };
    let sampling = read_sampling(&mut table, task.as_ref().map(|task| &task.task));
    // Without a good task nobody knows which of the remaining keys are wrong.
    let task = task?;
    if let (Some(Task::Fields(_)), Some(looks)) = (&task.task, &looks)
        && looks.len() > 1
    {
        let title = format!("{} asks for fields of each tile", table.name());
        let remedy = "which tile's fields would count? Show the tiles in one prompt: \
                      tiles = \"together\"";
        table.error(table.span(), title, remedy);
    }
    table.finish();
    let (shown, looks) = (shown?, looks?);
    let text = text.map(|text| prompt::refer(text, &looks, golden.is_some()));
    let question = Question {
        name: name?.into_inner(),
        regions: shown,
        looks,
        golden,
        task: task.task?,
        system: system.unwrap_or_else(|| SYSTEM_DEFAULT.to_owned()),
        examples,
        text: text?,
        num_crops: num_crops.map_or(1, |count| count.into_inner() as usize),
        adapter: own_adapter.or_else(|| adapter.cloned()),
        sampling,
        smallest,
    };
    let (check_digit, optional_fields) = (task.check_digit, task.optional_fields);
    Some(Asked { question, span, check_digit, optional_fields })
}

/// A length in pixels under one key or in millimetres under the other.
fn read_length(table: &mut Reader<'_>, px: &'static str, mm: &'static str) -> Option<Length> {
    let in_px = table.number(px, LENGTH_RANGE);
    let in_mm = table.number(mm, LENGTH_RANGE);
    if let (Some(_), Some(second)) = (&in_px, &in_mm) {
        let title = format!("{} has both `{px}` and `{mm}`", table.name());
        table.error(
            second.span(),
            title,
            format!("keep `{mm}` if the camera is calibrated, else `{px}`"),
        );
        return None;
    }
    let in_px = in_px.map(|length| Length::Px(length.into_inner()));
    in_px.or(in_mm.map(|length| Length::Mm(length.into_inner())))
}

/// Several pictures in many crops each are more than the publisher advises.
fn warn_of_crops(table: &Reader<'_>, crops: usize, shown: usize) {
    if shown > 1 && crops > CROPS_OF_SEVERAL {
        let title =
            format!("{} cuts each of {shown} pictures into up to {crops} crops", table.name());
        let remedy = format!(
            "the publisher advises {CROPS_OF_SEVERAL} at most for several pictures; more cost time \
             and fill the context"
        );
        table.warn(table.key_span("num_crops"), title, remedy);
    }
}

/// `region = "x"` or `regions = [...]`; may be left out where there is only one region.
fn read_regions(table: &mut Reader<'_>, regions: &[Named]) -> Option<Vec<String>> {
    let one = table.text("region", 64);
    let several = table.texts("regions", SHOWN_MAX, 64);
    let known: Vec<&str> = regions.iter().map(|known| known.name.get_ref().as_str()).collect();
    let names = match (table.has("region"), table.has("regions")) {
        (true, true) => {
            let title = format!("{} has both `region` and `regions`", table.name());
            table.error(table.key_span("region"), title, "keep `regions`");
            return None;
        }
        (true, false) => vec![one?],
        (false, true) => several?.into_inner(),
        (false, false) if known.len() == 1 => return Some(vec![known[0].to_owned()]),
        (false, false) => {
            let title = format!("{} does not say which region it is about", table.name());
            let example = known.first().unwrap_or(&"label");
            table.error(table.span(), title, format!("add a line such as  region = \"{example}\""));
            return None;
        }
    };
    if names.is_empty() {
        table.error(table.key_span("regions"), "`regions` is empty", "name at least one region");
        return None;
    }
    // Without any good region, what is wrong with the regions has been noted.
    let is_known =
        |name: &&Spanned<String>| known.is_empty() || known.contains(&name.get_ref().as_str());
    for name in names.iter().filter(|name| !is_known(name)) {
        let title = format!("there is no region \"{}\"", name.get_ref());
        table.error(name.span(), title, choices(name.get_ref(), &known, '"'));
    }
    names.iter().all(|name| is_known(&name)).then_some(())?;
    Some(names.into_iter().map(|name| name.into_inner()).collect())
}

/// What is shown each time that the question is put; `None`: it was refused.
fn read_looks(
    table: &mut Reader<'_>,
    shown: &[String],
    regions: &[Named],
) -> Option<Vec<Vec<String>>> {
    let words = [("each", false), ("together", true)];
    let mode = table.one_of("tiles", &words);
    let tiles = |name: &String| {
        let named = regions.iter().find(|known| known.name.get_ref() == name);
        let tiles = named.map_or(&[][..], |named| &named.tiles);
        tiles.iter().map(|tile| tile.name.clone()).collect::<Vec<_>>()
    };
    let all: Vec<Vec<String>> = shown.iter().map(tiles).collect();
    let tiled = all.iter().filter(|tiles| !tiles.is_empty()).count();
    if let Some(mode) = mode.as_ref().filter(|_| tiled == 0) {
        let title = format!("{} is about no region with tiles", table.name());
        table.error(mode.span(), title, "remove `tiles`, or add  tiles = [2, 2]  to its region");
        return None;
    }
    let together = mode.is_some_and(|mode| mode.into_inner());
    if tiled > 1 && !together {
        let title = format!("{} shows {tiled} regions with tiles", table.name());
        let remedy = "ask about one of them at a time, or show all tiles: tiles = \"together\"";
        table.error(table.key_span("regions"), title, remedy);
        return None;
    }
    let with = |chosen: Option<usize>| {
        let each = shown.iter().zip(&all).map(|(name, tiles)| match (tiles.as_slice(), chosen) {
            ([], _) => vec![name.clone()],
            (tiles, None) => tiles.to_vec(),
            (tiles, Some(at)) => vec![tiles[at].clone()],
        });
        each.flatten().collect::<Vec<String>>()
    };
    let looks = match all.iter().map(Vec::len).max().unwrap_or(0) {
        0 => vec![with(None)],
        _ if together => vec![with(None)],
        count => (0..count).map(|at| with(Some(at))).collect(),
    };
    check_pictures(table, &looks[0], together).then_some(looks)
}

fn check_pictures(table: &Reader<'_>, look: &[String], together: bool) -> bool {
    let key = if together { "tiles" } else { "regions" };
    if look.len() > SHOWN_MAX {
        let title =
            format!("{} shows {} pictures at once, {SHOWN_MAX} at most", table.name(), look.len());
        let remedy = "use fewer tiles, or ask about each by itself: tiles = \"each\"";
        table.error(table.key_span(key), title, remedy);
        return false;
    }
    if look.len() > SHOWN_WELL {
        let title = format!("{} shows {} pictures at once", table.name(), look.len());
        let remedy = format!(
            "the model was made for few pictures a prompt and its answers get worse above \
             {SHOWN_WELL}; ask about fewer regions, or in several questions"
        );
        table.warn(table.key_span(key), title, remedy);
    }
    true
}

fn read_examples(table: &mut Reader<'_>) -> Vec<(String, String)> {
    let mut examples = Vec::new();
    for mut example in table.tables("examples", "question.examples", EXAMPLES_MAX) {
        let ask = prompt::read_plain(&mut example, "ask");
        let ask = example.required("ask", ask, "{ ask = \"…\", answer = \"…\" }");
        let answer = prompt::read_plain(&mut example, "answer");
        let answer = example.required("answer", answer, "{ ask = \"…\", answer = \"…\" }");
        example.finish();
        examples.extend(ask.zip(answer));
    }
    examples
}

fn read_sampling(table: &mut Reader<'_>, task: Option<&Option<Task>>) -> Sampling {
    let presets: Vec<(&str, &str)> = PRESETS.iter().map(|name| (*name, *name)).collect();
    let preset = table.one_of("preset", &presets);
    let preset = preset.and_then(|name| Sampling::preset(name.get_ref()).ok());
    let mut sampling = preset.unwrap_or_default();
    if let Some(temperature) = table.number("temperature", 0.0..=5.0) {
        sampling.temperature = temperature.into_inner() as f32;
    }
    if let Some(top_p) = table.number("top_p", 0.01..=1.0) {
        sampling.top_p = top_p.into_inner() as f32;
    }
    if let Some(penalty) = table.number("repeat_penalty", 1.0..=2.0) {
        sampling.repeat_penalty = penalty.into_inner() as f32;
    }
    if let Some(window) = table.whole("repeat_window", 0..=4096) {
        sampling.repeat_window = window.into_inner() as usize;
    }
    if let Some(seed) = table.whole("seed", 0..=i64::MAX) {
        sampling.seed = seed.into_inner() as u64;
    }
    let max_tokens = table.whole("max_tokens", 1..=TOKENS_MAX);
    if let Some(Some(task)) = task {
        fit_tokens(table, task, max_tokens, &mut sampling);
    }
    if let Err(why) = sampling.check() {
        table.error(table.span(), why.to_string(), "correct the keys of this question");
    }
    sampling
}

/// An answer that is cut off is worth nothing, so the limit must not be below what the answer's
/// form can need. A limit that nobody wrote is raised.
fn fit_tokens(
    table: &Reader<'_>,
    task: &Task,
    max_tokens: Option<Spanned<i64>>,
    sampling: &mut Sampling,
) {
    let needed = match task.answer() {
        Ok(answer) => answer.budget_tokens(),
        Err(why) => {
            table.error(table.span(), why.to_string(), "correct the answer of this question");
            return;
        }
    };
    if needed > TOKENS_MAX as usize {
        let title = format!("{} could need {needed} tokens", table.name());
        let remedy = format!("allow fewer items or shorter texts: {TOKENS_MAX} tokens at most");
        table.error(table.span(), title, remedy);
        return;
    }
    sampling.max_tokens = sampling.max_tokens.max(needed);
    let Some(limit) = max_tokens else { return };
    sampling.max_tokens = *limit.get_ref() as usize;
    if sampling.max_tokens < needed {
        let title = format!("`max_tokens` = {} would cut answers off", limit.get_ref());
        let remedy =
            format!("raise it to {needed}, which the longest answer needs, or leave it out");
        table.error(limit.span(), title, remedy);
    }
}

/// Every region is cut and kept as evidence, so one that nobody asks about is allowed but odd.
fn note_unused(top: &Reader<'_>, regions: &[Named], asked: &[Asked]) {
    if top.errors() > 0 {
        return;
    }
    for region in regions {
        let name = region.name.get_ref();
        if asked.iter().all(|asked| !asked.question.regions.contains(name)) {
            let title = format!("no question is about the region \"{name}\"");
            let remedy = "ask about it, or remove it; until then it is only kept as evidence";
            top.warn(region.name.span(), title, remedy);
        }
    }
}
