//! `[[plc.recipe]]`: other products at the same place. Camera and trigger stay; regions, questions and
//! rules are those of another file.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use toml::Spanned;

use super::super::reader::Reader;
use super::{adapter, calibration, quality, question, region, rules};
use crate::station::Station;

/// What a recipe's index may be.
pub const INDEX_RANGE: RangeInclusive<i64> = 0..=65_535;

/// Most other recipes of one station: each is prepared at the start and takes memory.
const RECIPES_MAX: usize = 31;

/// Another recipe's index and file.
#[derive(Debug)]
pub struct Named {
    /// The number by which the controller asks for it.
    pub index: u32,
    /// Its file.
    pub file: PathBuf,
}

/// Reads the list in `[plc]` of a station file, whose own recipe has the index `own`.
pub fn read_list(plc: &mut Reader<'_>, own: u32) -> Vec<Named> {
    let tables = plc.tables("recipe", "plc.recipe", RECIPES_MAX);
    let mut all: Vec<(Spanned<i64>, PathBuf)> = Vec::new();
    for mut table in tables {
        let index = table.whole("index", INDEX_RANGE);
        let index = table.required("index", index, "index = 2");
        let file = table.path("file");
        let file = table.required("file", file, "file = \"../recipes/cover.toml\"");
        if let Some(index) = &index {
            let number = *index.get_ref();
            let is_known = all.iter().any(|(known, _)| *known.get_ref() == number);
            if is_known || number == i64::from(own) {
                let title = format!("two recipes have the index {number}");
                let remedy = "give each its own; the station's own is `recipe_index`, 1 by default";
                table.error(index.span(), title, remedy);
            }
        }
        table.finish();
        all.extend(index.zip(file.map(Spanned::into_inner)));
    }
    let named =
        |(index, file): (Spanned<i64>, PathBuf)| Named { index: index.into_inner() as u32, file };
    all.into_iter().map(named).collect()
}

/// Reads a recipe's file: `station` as it is with that recipe, and the text of the recipe's file of
/// references. The digest is filled in by the caller.
pub fn read(mut top: Reader<'_>, station: &Station, index: u32) -> (Station, Option<String>) {
    let recipe = top.text("recipe", 64);
    let recipe = top.required("recipe", recipe, "recipe = \"cover\"");
    let adapter = adapter::read(&mut top);
    let quality = quality::read(&mut top, Some(&station.quality));
    let regions = region::read(&mut top, quality.limits());
    let (quality, references) = quality.into_gate(&top, &regions);
    let asked = question::read(&mut top, &regions, adapter.as_ref());
    let rules = rules::read(top.table("rules"), &asked);
    let areas = region::cuts(&regions);
    let calibration = calibration::for_recipe(&top, station.calibration.as_ref(), &areas);
    top.finish();
    let recipe = Station {
        quality,
        calibration,
        recipe: recipe.map_or_else(String::new, Spanned::into_inner),
        regions: areas,
        questions: asked.into_iter().map(|asked| asked.question).collect(),
        rules,
        recipe_index: index,
        ..station.clone()
    };
    (recipe, references)
}
