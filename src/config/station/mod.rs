//! One station file into a [`Station`], part by part.

pub(super) mod adapter;
mod answer;
mod calibration;
mod camera;
mod check_digit;
mod controls;
mod engine;
mod footage;
mod golden;
pub(super) mod outputs;
mod plc;
mod prompt;
mod quality;
mod question;
pub(super) mod recipe;
mod region;
mod rules;
mod serial;
mod trigger;
mod vote;

use std::time::Duration;

use toml::Spanned;

use super::reader::Reader;
use crate::station::Station;

/// Highest offset of a GPIO line: no chip of the kernel has more.
const LINE_MAX: i64 = 65_535;

/// Default time from the trigger to the verdict.
const DEADLINE_DEFAULT_MS: i64 = 10_000;

/// Default number of parts that may wait. Each holds a frame: 1 MB at 640x480, 25 MB at 4K.
const QUEUE_DEFAULT_PARTS: i64 = 4;

/// A station, and its name with the place where it stands.
#[derive(Debug)]
pub struct Read {
    /// The name, if it is a name, even where the rest of the file is not good.
    pub name: Option<Spanned<String>>,
    /// The station, unless something was missing that cannot be defaulted.
    pub station: Option<Station>,
    /// The engine that it names, with the place where it does.
    pub engine: Option<Spanned<String>>,
    /// The files of its other recipes.
    pub recipes: Vec<recipe::Named>,
    /// The text of the file with its pictures' references, if it names one.
    pub references: Option<String>,
}

/// Reads one whole station file. What is wrong is noted in the reader; the digest is filled in by
/// the caller, who has the bytes.
pub fn read(mut top: Reader<'_>) -> Read {
    let name = top.own_name("name");
    let name = top.required("name", name, "name = \"press-3\"");
    let recipe = top.text("recipe", 64);
    let is_simulated = top.flag("simulated").is_some_and(|flag| flag.into_inner());
    let deadline_ms = top.whole("deadline_ms", 50..=600_000);
    let queue = top.whole("queue_parts", 1..=64);
    let whole = |found: Option<Spanned<i64>>, default| found.map_or(default, |n| n.into_inner());
    let deadline = Duration::from_millis(whole(deadline_ms, DEADLINE_DEFAULT_MS) as u64);
    let (engine, used) = engine::read(&mut top, deadline).unzip();
    let adapter = adapter::read(&mut top);
    let parts_per_minute = top.number("parts_per_minute", 0.01..=100_000.0);
    let inspect_every = top.whole("inspect_every", 1..=1_000_000);
    let camera = camera::read(top.table("camera"));
    let mut trigger = trigger::read(top.table("trigger"));
    let vote = vote::read(top.table("vote"), trigger.as_mut());
    let quality = quality::read(&mut top, None);
    let regions = region::read(&mut top, quality.limits());
    let (quality, references) = quality.into_gate(&top, &regions);
    let asked = question::read(&mut top, &regions, adapter.as_ref());
    let areas = region::cuts(&regions);
    let calibration = calibration::read(&mut top, &areas, camera.as_ref());
    let rules = rules::read(top.table("rules"), &asked);
    let recipe_index = top.whole("recipe_index", recipe::INDEX_RANGE);
    let recipe_index = recipe_index.map_or(1, |index| index.into_inner() as u32);
    let mut contract = top.table("plc");
    let recipes = recipe::read_list(&mut contract, recipe_index);
    let plc = plc::read(contract, trigger.as_ref());
    let outputs = outputs::read(&mut top, inspect_every.as_ref());
    let clips = footage::read(top.table("footage"));
    let own_name = name.as_ref().map(|name| name.get_ref().clone());
    top.finish();
    let station = own_name.zip(camera).zip(trigger).map(|((name, camera), trigger)| Station {
        recipe: recipe.map_or_else(|| name.clone(), |recipe| recipe.into_inner()),
        name,
        camera,
        trigger,
        quality,
        calibration,
        regions: areas,
        questions: asked.into_iter().map(|asked| asked.question).collect(),
        rules,
        vote,
        deadline,
        queue_parts: whole(queue, QUEUE_DEFAULT_PARTS) as usize,
        parts_per_minute: parts_per_minute.map(|rate| rate.into_inner()),
        inspect_every: whole(inspect_every, 1) as u32,
        is_simulated,
        plc,
        outputs,
        clips,
        recipe_index,
        other_recipes: vec![],
        engine: used,
        config_digest: String::new(),
    });
    Read { name, station, engine, recipes, references }
}
