//! Areas made of areas: tiles that overlap, and a part of an area enlarged. Both give the model more
//! pixels of what is small, as every region is scaled to the same square.

use super::{Area, RectPx};

/// How a region is cut into tiles.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tiling {
    /// Tiles side by side.
    pub columns: u32,
    /// Tiles one above the other.
    pub rows: u32,
    /// What neighbours share, as a share of a tile's side, 0 to 0.5: at least as large as what must be
    /// whole in one of them.
    pub overlap: f64,
}

/// The name of a region's tile, counted from 0 row by row: of the second tile of `board`, `board.2`.
pub fn tile_name(region: &str, at: usize) -> String {
    format!("{region}.{}", at + 1)
}

/// The region that a look of this name shows, whole or a tile of it: names of regions hold no dot.
pub fn tiled_region(name: &str) -> &str {
    name.split_once('.').map_or(name, |(region, _)| region)
}

/// `area` in tiles, row by row from the upper left. Together they are `area`, and neighbours share
/// what `tiling` says, or a pixel more.
pub fn tiles(area: Area, tiling: &Tiling) -> Vec<Area> {
    let across = stretches(tiling.columns, tiling.overlap);
    let down = stretches(tiling.rows, tiling.overlap);
    let cells = down.iter().flat_map(|(y, height)| {
        across.iter().map(move |(x, width)| within(area, [*x, *y, *width, *height]))
    });
    cells.collect()
}

/// Begin and length of `count` equal stretches of 0 to 1.
fn stretches(count: u32, overlap: f64) -> Vec<(f64, f64)> {
    let length = 1.0 / (f64::from(count) * (1.0 - overlap) + overlap);
    (0..count).map(|at| (f64::from(at) * length * (1.0 - overlap), length)).collect()
}

/// The part of `outer` whose left and top edge, width and height are these shares of it.
pub fn within(outer: Area, [x, y, width, height]: [f64; 4]) -> Area {
    match outer {
        Area::Whole => Area::Fraction { x, y, width, height },
        Area::Fraction { x: left, y: top, width: across, height: down } => Area::Fraction {
            x: left + x * across,
            y: top + y * down,
            width: width * across,
            height: height * down,
        },
        Area::Pixels(rect) => {
            let (x, width) = pixels(rect.x, rect.width, x, width);
            let (y, height) = pixels(rect.y, rect.height, y, height);
            Area::Pixels(RectPx { x, y, width, height })
        }
    }
}

/// Whole pixels that hold the stretch from `at`, `share` long, of `length` pixels from `begin`.
fn pixels(begin: u32, length: u32, at: f64, share: f64) -> (u32, u32) {
    let sides = f64::from(length);
    // A millionth of a pixel: a sum of shares is not exact, and must not cost a whole one.
    let low = (at * sides + 1e-6).floor().clamp(0.0, sides) as u32;
    let high = ((at + share) * sides - 1e-6).ceil().clamp(0.0, sides) as u32;
    (begin + low, high.saturating_sub(low))
}

/// What is left of an area that is enlarged `factor` times about the point `at`, both coordinates
/// as shares of the area: its left and top edge, width and height as shares. A point near the rim is
/// not in its middle, as nothing beyond the rim is shown.
pub fn zoomed(factor: f64, at: [f64; 2]) -> [f64; 4] {
    let side = 1.0 / factor;
    let [x, y] = at.map(|centre| (centre - side / 2.0).clamp(0.0, 1.0 - side));
    [x, y, side, side]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roi::Region;
    use proptest::prelude::*;

    fn some_area() -> impl Strategy<Value = Area> {
        let pixels = (0..200u32, 0..200u32, 120..600u32, 120..600u32);
        let shares = (0.0..0.5f64, 0.0..0.5f64, 0.3..0.5f64, 0.3..0.5f64);
        prop_oneof![
            Just(Area::Whole),
            pixels.prop_map(|(x, y, width, height)| Area::Pixels(RectPx { x, y, width, height })),
            shares.prop_map(|(x, y, width, height)| Area::Fraction { x, y, width, height }),
        ]
    }

    fn rect(area: Area, size: (u32, u32)) -> RectPx {
        let region = Region { name: "r".into(), area };
        region.rect_in(size.0, size.1).expect("it lies within the frame")
    }

    proptest! {
        /// Whatever the area, its tiles lie in it, leave nothing out and share what they should.
        #[test]
        fn tiles_cover_their_area_and_overlap(
            area in some_area(),
            columns in 1..5u32,
            rows in 1..5u32,
            overlap in 0.0..0.5f64,
            size in (800..1999u32, 800..1999u32),
        ) {
            let whole = rect(area, size);
            let tiling = Tiling { columns, rows, overlap };
            let all: Vec<RectPx> =
                tiles(area, &tiling).into_iter().map(|tile| rect(tile, size)).collect();
            prop_assert_eq!(all.len() as u32, columns * rows);
            for (at, tile) in all.iter().enumerate() {
                let (column, row) = (at as u32 % columns, at as u32 / columns);
                prop_assert!(tile.x >= whole.x && tile.x + tile.width <= whole.x + whole.width);
                prop_assert!(tile.y >= whole.y && tile.y + tile.height <= whole.y + whole.height);
                if column == 0 {
                    prop_assert_eq!(tile.x, whole.x);
                } else {
                    let left = all[at - 1];
                    let shared = f64::from(left.x + left.width) - f64::from(tile.x);
                    prop_assert!(shared >= overlap * f64::from(tile.width) - 2.0, "{} px", shared);
                }
                if row == 0 {
                    prop_assert_eq!(tile.y, whole.y);
                }
                if column + 1 == columns {
                    prop_assert_eq!(tile.x + tile.width, whole.x + whole.width);
                }
                if row + 1 == rows {
                    prop_assert_eq!(tile.y + tile.height, whole.y + whole.height);
                }
            }
        }

        #[test]
        fn a_zoomed_area_stays_inside(
            area in some_area(),
            factor in 1.0..5.0f64,
            at in (0.0..1.0f64, 0.0..1.0f64),
            size in (800..1999u32, 800..1999u32),
        ) {
            let whole = rect(area, size);
            let part = rect(within(area, zoomed(factor, [at.0, at.1])), size);
            prop_assert!(part.x >= whole.x && part.x + part.width <= whole.x + whole.width);
            prop_assert!(part.y >= whole.y && part.y + part.height <= whole.y + whole.height);
            let expected = f64::from(whole.width) / factor;
            prop_assert!((f64::from(part.width) - expected).abs() <= 2.0);
        }
    }

    #[test]
    fn four_tiles_of_a_square() {
        let square = Area::Pixels(RectPx { x: 100, y: 50, width: 600, height: 600 });
        let tiling = Tiling { columns: 2, rows: 2, overlap: 0.2 };
        let found = tiles(square, &tiling);
        // Two tiles of 333.3 px that share a fifth of themselves are 600 px.
        assert_eq!(found[0], Area::Pixels(RectPx { x: 100, y: 50, width: 334, height: 334 }));
        assert_eq!(found[3], Area::Pixels(RectPx { x: 366, y: 316, width: 334, height: 334 }));
        assert_eq!(tiles(Area::Whole, &Tiling { columns: 1, rows: 1, overlap: 0.0 })[0], {
            Area::Fraction { x: 0.0, y: 0.0, width: 1.0, height: 1.0 }
        });
    }
}
