//! `[[region]]`: the named rectangles of the frame.

use toml::Spanned;

use super::super::reader::Reader;
use super::super::words::choices;
use super::quality;
use crate::quality::Limits;
use crate::roi::{self, Area, RectPx, Region, SIDE_MIN_PX, Tiling};

/// Most regions of one station.
const REGIONS_MAX: usize = 32;

/// Most tiles of one region: each is another picture, and asked about by itself.
const TILES_MAX: u32 = 16;

/// Most regions of one station with all tiles.
const CUTS_MAX: usize = 64;

/// Largest coordinate, in pixels: beyond any camera.
const PIXELS_MAX: f64 = 65_535.0;

/// What tiles share with their neighbours, where nothing is said.
const OVERLAP_DEFAULT: f64 = 0.15;

/// The region of a station that names none.
pub const WHOLE: &str = "whole";

/// A region as far as it could be read: one without a good area still has a name, so that
/// questions about it are not wrong as well.
#[derive(Debug)]
pub struct Named {
    /// Its name, and where it stands.
    pub name: Spanned<String>,
    /// The region, if its area is good.
    pub region: Option<Region>,
    /// Its tiles, if it is cut into some: then they are what is cut, and not the region.
    pub tiles: Vec<Region>,
    /// What its pictures must be, where that is another than what all must be.
    pub limits: Option<Limits>,
}

impl Named {
    /// What is cut from each frame.
    pub fn cuts(&self) -> &[Region] {
        if self.tiles.is_empty() { self.region.as_slice() } else { &self.tiles }
    }
}

/// Everything that is cut from each frame.
pub fn cuts(regions: &[Named]) -> Vec<Region> {
    regions.iter().flat_map(Named::cuts).cloned().collect()
}

/// Reads all regions; without any, the whole frame under the name [`WHOLE`]. `limits` are
/// those of `[quality]`.
pub fn read(top: &mut Reader<'_>, limits: &Limits) -> Vec<Named> {
    let tables = top.tables("region", "region", REGIONS_MAX);
    if !top.has("region") {
        let region = Region { name: WHOLE.to_owned(), area: Area::Whole };
        let name = Spanned::new(0..0, WHOLE.to_owned());
        return vec![Named { name, region: Some(region), tiles: vec![], limits: None }];
    }
    let mut all: Vec<Named> = Vec::new();
    for mut table in tables {
        let name = table.own_name("name");
        let name = table.required("name", name, "name = \"label\"");
        if let Some(name) = &name {
            table.call(name.get_ref());
        }
        let area = read_place(&mut table, &all);
        let tiling = read_tiling(&mut table);
        let limits = quality::read_own(&mut table, name.as_ref(), limits);
        if let Some(name) = name {
            table.refuse_twin("regions", &name, all.iter().map(|known| &known.name));
            let region = area.map(|area| Region { name: name.get_ref().clone(), area });
            let tiles =
                region.iter().zip(&tiling).flat_map(|(region, tiling)| tiled(region, tiling));
            let tiles: Vec<Region> = tiles.collect();
            refuse_narrow(&table, &tiles);
            all.push(Named { name, region, tiles, limits });
        }
        table.finish();
    }
    let count: usize = all.iter().map(|named| named.cuts().len()).sum();
    if count > CUTS_MAX {
        let title = format!("the regions are {count} with all tiles, {CUTS_MAX} at most");
        top.error(top.key_span("region"), title, "use fewer tiles: each is a picture more");
    }
    all
}

/// The tiles of a region under names that no region can have: `board.1`, `board.2` and so on, row by row.
fn tiled(region: &Region, tiling: &Tiling) -> Vec<Region> {
    let name = |at: usize| roi::tile_name(&region.name, at);
    let tiles = roi::tiles(region.area, tiling).into_iter().enumerate();
    tiles.map(|(at, area)| Region { name: name(at), area }).collect()
}

fn refuse_narrow(table: &Reader<'_>, tiles: &[Region]) {
    let is_narrow = |region: &&Region| matches!(region.area, Area::Pixels(rect) if rect.width.min(rect.height) < SIDE_MIN_PX);
    if let Some(Region { area: Area::Pixels(rect), .. }) = tiles.iter().find(is_narrow) {
        let title = format!("a tile of {} is {}x{} px", table.name(), rect.width, rect.height);
        let remedy = format!("use fewer tiles: each side needs at least {SIDE_MIN_PX} px");
        table.error(table.key_span("tiles"), title, remedy);
    }
}

/// `tiles = [columns, rows]` and `overlap`.
fn read_tiling(table: &mut Reader<'_>) -> Option<Tiling> {
    let tiles = table.wholes("tiles", 2, 1..=i64::from(TILES_MAX));
    let overlap = table.number("overlap", 0.0..=0.5);
    let Some(tiles) = tiles else {
        if let Some(overlap) = overlap
            && !table.has("tiles")
        {
            let title = format!("{} has an `overlap` and no tiles", table.name());
            table.error(overlap.span(), title, "add  tiles = [2, 2], or remove it");
        }
        return None;
    };
    let counts: Vec<u32> = tiles.get_ref().iter().map(|count| *count as u32).collect();
    let [columns, rows] = counts[..] else {
        let title = format!("`tiles` holds {} numbers", counts.len());
        table.error(tiles.span(), title, "write  tiles = [columns, rows]");
        return None;
    };
    if columns * rows > TILES_MAX {
        let title = format!("{} has {} tiles", table.name(), columns * rows);
        let remedy =
            format!("{TILES_MAX} at most: each is asked about by itself and takes its time");
        table.error(tiles.span(), title, remedy);
        return None;
    }
    let overlap = overlap.map_or(OVERLAP_DEFAULT, |share| share.into_inner());
    (columns * rows > 1).then_some(Tiling { columns, rows, overlap })
}

/// Where a region lies: in the frame, or in another region.
fn read_place(table: &mut Reader<'_>, known: &[Named]) -> Option<Area> {
    let outer = table.text("within", 64);
    let zoom = table.number("zoom", 1.0..=100.0);
    let at = table.numbers::<2>("at", 0.0..=1.0);
    let area = read_area(table);
    let outer = match &outer {
        None => Some(Area::Whole),
        Some(name) => find_outer(table, name, known),
    };
    if let Some(at) = at.as_ref().filter(|_| !table.has("zoom")) {
        let title = format!("{} says where to zoom and not how much", table.name());
        table.error(at.span(), title, "add  zoom = 3, or remove `at`");
        return None;
    }
    if let Some(zoom) = zoom {
        if table.has("pixels") || table.has("fraction") {
            let title = format!("{} has both an area and a `zoom`", table.name());
            let remedy = "keep the area, or zoom into another region: within = \"board\", zoom = 3";
            table.error(zoom.span(), title, remedy);
            return None;
        }
        let at = at.map_or([0.5, 0.5], Spanned::into_inner);
        return Some(roi::within(outer?, roi::zoomed(zoom.into_inner(), at)));
    }
    if !table.has("within") {
        return area;
    }
    match area? {
        Area::Fraction { x, y, width, height } => Some(roi::within(outer?, [x, y, width, height])),
        Area::Whole => {
            let title = format!("{} is the whole of the region that it is within", table.name());
            let remedy = "add  fraction = [x, y, width, height]  of that region, or  zoom = 3";
            table.error(table.key_span("within"), title, remedy);
            None
        }
        Area::Pixels(_) => {
            let title = format!("{} has both `within` and `pixels`", table.name());
            let remedy =
                "pixels count in the frame: remove `within`, or use `fraction` of that region";
            table.error(table.key_span("within"), title, remedy);
            None
        }
    }
}

fn find_outer(table: &Reader<'_>, name: &Spanned<String>, known: &[Named]) -> Option<Area> {
    let found = known.iter().find(|known| known.name.get_ref() == name.get_ref());
    let Some(found) = found else {
        let names: Vec<&str> = known.iter().map(|known| known.name.get_ref().as_str()).collect();
        let title = format!("there is no region \"{}\" above this one", name.get_ref());
        table.error(name.span(), title, choices(name.get_ref(), &names, '"'));
        return None;
    };
    // One without a good area has been told of.
    found.region.as_ref().map(|region| region.area)
}

pub(super) fn read_area(table: &mut Reader<'_>) -> Option<Area> {
    let pixels = table.numbers::<4>("pixels", 0.0..=PIXELS_MAX);
    let fraction = table.numbers::<4>("fraction", 0.0..=1.0);
    match (table.has("pixels"), table.has("fraction")) {
        (true, true) => {
            let title = format!("{} has both `pixels` and `fraction`", table.name());
            let remedy = "keep `pixels` if the camera's resolution never changes, else `fraction`";
            table.error(table.key_span("fraction"), title, remedy);
            None
        }
        (true, false) => in_pixels(table, pixels?),
        (false, true) => in_shares(table, fraction?),
        (false, false) => Some(Area::Whole),
    }
}

fn in_pixels(table: &Reader<'_>, pixels: Spanned<[f64; 4]>) -> Option<Area> {
    let numbers = *pixels.get_ref();
    if let Some(part) = numbers.iter().find(|number| number.fract() != 0.0) {
        let title = format!("`pixels` holds {part}, which is not a whole pixel");
        table.error(pixels.span(), title, "round it, or use `fraction` with shares of the frame");
        return None;
    }
    let [x, y, width, height] = numbers.map(|number| number as u32);
    if width < SIDE_MIN_PX || height < SIDE_MIN_PX {
        let title = format!("{} is {width}x{height} px", table.name());
        let remedy = format!("make each side at least {SIDE_MIN_PX} px: one patch of the model");
        table.error(pixels.span(), title, remedy);
        return None;
    }
    Some(Area::Pixels(RectPx { x, y, width, height }))
}

fn in_shares(table: &Reader<'_>, shares: Spanned<[f64; 4]>) -> Option<Area> {
    let [x, y, width, height] = *shares.get_ref();
    if width == 0.0 || height == 0.0 {
        let title = format!("{} is empty", table.name());
        table.error(shares.span(), title, "write  fraction = [x, y, width, height]");
        return None;
    }
    // A thousandth of slack: 0.1 + 0.9 need not be 1 in binary, and cutting rounds to pixels.
    if x + width > 1.001 || y + height > 1.001 {
        let title = format!("{} reaches past the frame", table.name());
        let remedy = "x + width and y + height may be 1 at most: the third and fourth number are \
                      a width and a height, not a corner";
        table.error(shares.span(), title, remedy);
        return None;
    }
    let (width, height) = (width.min(1.0 - x), height.min(1.0 - y));
    Some(Area::Fraction { x, y, width, height })
}
