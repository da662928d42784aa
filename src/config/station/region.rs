//! `[[region]]`: the named rectangles of the frame.

use toml::Spanned;

use super::super::reader::Reader;
use super::quality;
use crate::quality::Limits;
use crate::roi::{Area, RectPx, Region, SIDE_MIN_PX};

/// Most regions of one station.
const REGIONS_MAX: usize = 32;

/// Largest coordinate, in pixels: beyond any camera.
const PIXELS_MAX: f64 = 65_535.0;

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
    /// What its pictures must be, where that is another than what all must be.
    pub limits: Option<Limits>,
}

/// Reads all regions; without any, the whole frame under the name [`WHOLE`]. `limits` are
/// those of `[quality]`.
pub fn read(top: &mut Reader<'_>, limits: &Limits) -> Vec<Named> {
    let tables = top.tables("region", "region", REGIONS_MAX);
    if !top.has("region") {
        let region = Region { name: WHOLE.to_owned(), area: Area::Whole };
        let name = Spanned::new(0..0, WHOLE.to_owned());
        return vec![Named { name, region: Some(region), limits: None }];
    }
    let mut all: Vec<Named> = Vec::new();
    for mut table in tables {
        let name = table.own_name("name");
        let name = table.required("name", name, "name = \"label\"");
        if let Some(name) = &name {
            table.call(name.get_ref());
        }
        let area = read_area(&mut table);
        let limits = quality::read_own(&mut table, name.as_ref(), limits);
        if let Some(name) = name {
            table.refuse_twin("regions", &name, all.iter().map(|known| &known.name));
            let region = area.map(|area| Region { name: name.get_ref().clone(), area });
            all.push(Named { name, region, limits });
        }
        table.finish();
    }
    all
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
