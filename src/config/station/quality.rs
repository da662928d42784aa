//! `[quality]`: what a picture must be to be judged by, and the `quality` of a region.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use toml::Spanned;

use super::super::file::{self, FILE_MAX_BYTES};
use super::super::reader::Reader;
use super::region::{self, Named};
use crate::frame;
use crate::quality::{
    FixedArea, Gate, Limits, Reference, SIDE_MIN_CELLS, SavedReference, SavedReferences,
};
use crate::roi::{Area, RectPx, Region};
use crate::vlm::Digest;

/// Most fixed areas of one station: each costs a search.
const FIXED_MAX: usize = 8;

/// Longest lengths that can be asked for, in pixels.
const PX_MAX: f64 = 1000.0;

/// What was read of `[quality]`, before it is known which regions there are.
#[derive(Debug)]
pub struct Read {
    /// The gate, without what belongs to single regions.
    gate: Gate,
    references: Option<References>,
}

type ByName = BTreeMap<String, Arc<Reference>>;

/// References as they were read, and where they were asked for.
#[derive(Debug)]
struct References {
    /// The calibration file's text, which counts to the station's digest.
    text: String,
    span: Range<usize>,
    regions: ByName,
    fixed: ByName,
}

/// The part of a calibration file that is read here.
#[derive(Debug, Default, Deserialize)]
struct Calibration {
    #[serde(default)]
    quality: SavedReferences,
}

impl Read {
    /// Limits of every region that has none of its own.
    pub fn limits(&self) -> &Limits {
        &self.gate.limits
    }

    /// The gate of a station with these regions, and the text of its calibration file.
    pub fn into_gate(self, top: &Reader<'_>, regions: &[Named]) -> (Gate, Option<String>) {
        let mut gate = self.gate;
        gate.own_limits.clear();
        for named in regions {
            let Some(limits) = named.limits else { continue };
            let cuts = named.cuts().iter().map(|cut| (cut.name.clone(), limits));
            gate.own_limits.extend(cuts);
        }
        let Some(References { text, span, regions: known, .. }) = self.references else {
            return (gate, None);
        };
        for region in regions.iter().flat_map(Named::cuts) {
            let name = &region.name;
            let Some(reference) = known.get(name) else {
                let title = format!("the calibration has no reference of region \"{name}\"");
                let remedy = "calibrate the station again; until then only absolute limits hold";
                top.warn(span.clone(), title, remedy);
                continue;
            };
            check_place(top, &span, name, Some(region.area), reference);
            gate.references.insert(name.clone(), Arc::clone(reference));
        }
        (gate, Some(text))
    }
}

/// Reads the table. A recipe takes limits and fixed areas of its station, `from`, where it has no
/// table of its own; never references, as its regions are others.
pub fn read(top: &mut Reader<'_>, from: Option<&Gate>) -> Read {
    let mut table = top.table("quality");
    let mut gate = from.cloned().unwrap_or_default();
    gate.references.clear();
    if !table.is_present() {
        return Read { gate, references: None };
    }
    gate.limits = read_limits(&mut table, &Limits::default());
    set(table.number("shift_max_px", 0.1..=PX_MAX), &mut gate.fixed_limits.shift_max_px);
    set(table.number("correlation_min", 0.0..=1.0), &mut gate.fixed_limits.correlation_min);
    set(table.number("drift_share", 0.05..=1.0), &mut gate.drift_share);
    let references = table.path("reference").and_then(|path| read_saved(&table, &path));
    let fixed_tables = table.tables("fixed", "quality.fixed", FIXED_MAX);
    if table.has("fixed") {
        gate.fixed = read_fixed(fixed_tables);
    }
    if let Some(References { span, fixed, .. }) = &references {
        for area in &mut gate.fixed {
            let name = &area.region.name;
            let Some(reference) = fixed.get(name) else { continue };
            check_place(&table, span, name, Some(area.region.area), reference);
            area.reference = Some(Arc::clone(reference));
        }
    }
    // Where the references could not be read, that is the problem.
    let is_told = references.is_none() && table.has("reference");
    for area in gate.fixed.iter().filter(|area| area.reference.is_none() && !is_told) {
        let title = format!("fixed area \"{}\" is compared with nothing", area.region.name);
        let remedy = "calibrate the station and name the file by `reference`; until then a camera \
                      that moves is not noticed";
        table.warn(table.key_span("fixed"), title, remedy);
    }
    table.finish();
    Read { gate, references }
}

/// Reads a region's own `quality`; each key that is not there is that of `[quality]`.
pub fn read_own(
    region: &mut Reader<'_>,
    name: Option<&Spanned<String>>,
    base: &Limits,
) -> Option<Limits> {
    let mut table = region.table("quality");
    if !table.is_present() {
        return None;
    }
    if let Some(name) = name {
        table.call(name.get_ref());
    }
    let limits = read_limits(&mut table, base);
    table.finish();
    Some(limits)
}

fn read_limits(table: &mut Reader<'_>, base: &Limits) -> Limits {
    let mut limits = *base;
    if let Some(allow) = table.flag("allow_blank") {
        limits.allow_blank = allow.into_inner();
    }
    set(table.number("luma_min", 0.0..=255.0), &mut limits.luma_min);
    set(table.number("luma_max", 0.0..=255.0), &mut limits.luma_max);
    set(table.number("luma_ratio_max", 1.0..=255.0), &mut limits.luma_ratio_max);
    set(table.number("contrast_min", 0.0..=255.0), &mut limits.contrast_min);
    set(table.number("dark_share_max", 0.0..=1.0), &mut limits.dark_share_max);
    set(table.number("bright_share_max", 0.0..=1.0), &mut limits.bright_share_max);
    set(table.number("glare_share_max", 0.0..=1.0), &mut limits.glare_share_max);
    set(table.number("edge_width_max_px", 1.0..=PX_MAX), &mut limits.edge_width_max_px);
    set(table.number("focus_share_min", 0.0..=1.0), &mut limits.focus_share_min);
    set(table.number("motion_max_px", 0.1..=PX_MAX), &mut limits.motion_max_px);
    let is_own = table.has("luma_min") || table.has("luma_max");
    if is_own && limits.luma_min >= limits.luma_max {
        let title =
            format!("no picture can be within `luma_min` and `luma_max` of {}", table.name());
        table.error(table.key_span("luma_min"), title, "make `luma_min` the smaller one");
    }
    limits
}

fn set(found: Option<Spanned<f64>>, target: &mut f64) {
    if let Some(number) = found {
        *target = number.into_inner();
    }
}

fn read_fixed(tables: Vec<Reader<'_>>) -> Vec<FixedArea> {
    let mut names: Vec<Spanned<String>> = Vec::new();
    let mut all = Vec::new();
    for mut table in tables {
        let name = table.own_name("name");
        let name = table.required("name", name, "name = \"frame\"");
        if let Some(name) = &name {
            table.call(name.get_ref());
            table.refuse_twin("fixed areas", name, &names);
            names.push(name.clone());
        }
        let area = region::read_area(&mut table);
        let least = SIDE_MIN_CELLS as u32;
        if let Some(Area::Pixels(rect)) = area
            && rect.width.min(rect.height) < least
        {
            let title = format!("{} is {}x{} px", table.name(), rect.width, rect.height);
            let remedy = format!("make each side at least {least} px: a shift needs room to show");
            table.error(table.key_span("pixels"), title, remedy);
        }
        if area == Some(Area::Whole) {
            let title = format!("{} has no area", table.name());
            let remedy = "add `pixels` or `fraction`: a part of the frame that shows the machine \
                          and never the part";
            table.error(table.span(), title, remedy);
        }
        table.finish();
        let region = name.zip(area).map(|(name, area)| Region { name: name.into_inner(), area });
        all.extend(region.map(|region| FixedArea { region, reference: None }));
    }
    all
}

/// Reads a calibration file and the pictures that it names.
fn read_saved(table: &Reader<'_>, path: &Spanned<PathBuf>) -> Option<References> {
    let file = path.get_ref();
    let refuse = |why: String| {
        let title = format!("cannot use the references in {}: {why}", file.display());
        table.error(path.span(), title, "calibrate the station, and name the file that this wrote");
    };
    let text = table.read_text(file, FILE_MAX_BYTES).map_err(refuse).ok()?;
    let calibration: Calibration =
        toml::from_str(&text).map_err(|why| refuse(why.message().to_owned())).ok()?;
    let folder = file.parent().unwrap_or(Path::new(""));
    let load = |saved: &[SavedReference]| {
        let one = |saved: &SavedReference| {
            Ok((saved.name.clone(), Arc::new(load_reference(saved, folder)?)))
        };
        saved.iter().map(one).collect::<Result<ByName, String>>()
    };
    let regions = load(&calibration.quality.region).map_err(refuse).ok()?;
    let fixed = load(&calibration.quality.fixed).map_err(refuse).ok()?;
    Some(References { text, span: path.span(), regions, fixed })
}

fn load_reference(saved: &SavedReference, folder: &Path) -> Result<Reference, String> {
    let of = |why: String| format!("the picture of \"{}\": {why}", saved.name);
    let bytes = file::read_limited(&folder.join(&saved.picture), FILE_MAX_BYTES).map_err(of)?;
    if Digest::of(&bytes).to_string() != saved.picture_sha256 {
        return Err(of("it has another SHA-256 than the file says".to_owned()));
    }
    let picture = frame::file::decode(bytes).map_err(of)?;
    saved.with_picture(&picture).map_err(|why| why.to_string())
}

/// A reference of another place would send every part to review.
fn check_place(
    table: &Reader<'_>,
    span: &Range<usize>,
    name: &str,
    area: Option<Area>,
    reference: &Reference,
) {
    let Some(Area::Pixels(rect)) = area else { return };
    let there = reference.frame_px;
    if rect != there {
        let place =
            |rect: RectPx| format!("[{}, {}, {}, {}]", rect.x, rect.y, rect.width, rect.height);
        let title =
            format!("\"{name}\" lies at {}, and its reference at {}", place(rect), place(there));
        table.error(span.clone(), title, "calibrate the station again");
    }
}
