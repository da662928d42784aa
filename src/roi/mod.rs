//! Regions of interest: cut a rectangle, scale it with its shape kept, pad it to the model's
//! square, and keep the way back to frame pixels.
//!
//! Nothing is stretched and nothing is cut off: a long region is padded with white, as the
//! publisher of the model pads. What a calibrated camera is corrected by is in [`corrections`].

pub mod corrections;
mod tiling;

use fast_image_resize as fir;
use serde::{Deserialize, Serialize};

use crate::frame::Rgb8;
pub use corrections::Corrections;
pub use tiling::{Tiling, tile_name, tiled_region, tiles, within, zoomed};

/// Side of the square that the model's tower sees, in pixels.
pub const CROP_SIDE_PX: u32 = 336;

/// The shorter side of a region must have at least this many frame pixels: one patch of the tower.
/// Less cannot carry an answer.
pub const SIDE_MIN_PX: u32 = 14;

/// Padding, white as in the publisher's preprocessing.
const PADDING: u8 = 255;

/// A rectangle in whole frame pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RectPx {
    /// Left edge.
    pub x: u32,
    /// Top edge.
    pub y: u32,
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

/// Where a region lies, as the engineer wrote it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Area {
    /// The whole frame.
    Whole,
    /// Frame pixels.
    Pixels(RectPx),
    /// Shares of the frame, 0 to 1: x, y, width, height.
    Fraction {
        /// Left edge as a share of the frame's width.
        x: f64,
        /// Top edge as a share of the frame's height.
        y: f64,
        /// Share of the frame's width.
        width: f64,
        /// Share of the frame's height.
        height: f64,
    },
}

/// A named rectangle of the frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Region {
    /// Name by which questions refer to it.
    pub name: String,
    /// Where it lies.
    pub area: Area,
}

/// A region as the model sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crop {
    /// The region's name.
    pub region: String,
    /// What was cut, in pixels of the frame, or of the corrected frame where there are corrections.
    pub frame_px: RectPx,
    /// Where the scaled region lies in the square, in crop pixels; the rest is padding.
    pub inner_px: RectPx,
    /// The square, [`CROP_SIDE_PX`] on each side.
    pub picture: Rgb8,
}

/// Why a region cannot be cut from a frame.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RoiError {
    /// The region reaches past the frame.
    #[error(
        "region \"{region}\" ({rect}) reaches past the {width}x{height} frame: correct its area, \
         or the camera's resolution"
    )]
    Outside {
        /// Its name.
        region: String,
        /// Its pixels as text.
        rect: String,
        /// Frame width in pixels.
        width: u32,
        /// Frame height in pixels.
        height: u32,
    },
    /// The region is too narrow to carry anything.
    #[error(
        "region \"{region}\" is {width}x{height} px: each side needs at least {SIDE_MIN_PX} px, \
         one patch of the model"
    )]
    TooNarrow {
        /// Its name.
        region: String,
        /// Columns.
        width: u32,
        /// Rows.
        height: u32,
    },
    /// The frame is none of the camera that was calibrated.
    #[error(
        "region \"{region}\": the frame has {width}x{height} px and the calibration is for {}x{} px: \
         set the camera's resolution back, or calibrate again",
        calibrated[0],
        calibrated[1]
    )]
    OtherSize {
        /// The region's name.
        region: String,
        /// Frame width in pixels.
        width: u32,
        /// Frame height in pixels.
        height: u32,
        /// Width and height that were calibrated, in pixels.
        calibrated: [u32; 2],
    },
    /// There is no table for the region, or it moved beyond it.
    #[error("region \"{region}\" lies where the calibration has prepared nothing")]
    NotPrepared {
        /// Its name.
        region: String,
    },
    /// The scaling library refused the sizes.
    #[error("region \"{region}\" could not be scaled: {why}")]
    Scale {
        /// Its name.
        region: String,
        /// What the library said.
        why: String,
    },
}

impl Region {
    /// The region's rectangle in a frame of `width` by `height` pixels, checked.
    pub fn rect_in(&self, width: u32, height: u32) -> Result<RectPx, RoiError> {
        let rect = match self.area {
            Area::Whole => RectPx { x: 0, y: 0, width, height },
            Area::Pixels(rect) => rect,
            Area::Fraction { x, y, width: w, height: h } => {
                let (left, right) = edges(x, w, width);
                let (top, bottom) = edges(y, h, height);
                RectPx { x: left, y: top, width: right - left, height: bottom - top }
            }
        };
        if rect.width < SIDE_MIN_PX || rect.height < SIDE_MIN_PX {
            let region = self.name.clone();
            return Err(RoiError::TooNarrow { region, width: rect.width, height: rect.height });
        }
        let right = u64::from(rect.x) + u64::from(rect.width);
        let bottom = u64::from(rect.y) + u64::from(rect.height);
        if right > u64::from(width) || bottom > u64::from(height) {
            let text = format!("x {} y {} {}x{}", rect.x, rect.y, rect.width, rect.height);
            return Err(RoiError::Outside { region: self.name.clone(), rect: text, width, height });
        }
        Ok(rect)
    }
}

/// The first pixel of a share of `side` pixels, and the first one after it: both edges are rounded, so
/// that what ends at the frame's edge ends there, and neighbours meet.
fn edges(begin: f64, share: f64, side: u32) -> (u32, u32) {
    let at = |share: f64| ((share * f64::from(side)).round() as u32).min(side);
    (at(begin), at(begin + share).max(at(begin)))
}

/// How far a part lies from where its regions were drawn, in whole pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shift {
    /// To the right.
    pub x: i32,
    /// Down.
    pub y: i32,
}

impl Shift {
    /// `rect` moved, or `None` where a coordinate would be below 0.
    fn of(self, rect: RectPx) -> Option<RectPx> {
        let (x, y) = (rect.x.checked_add_signed(self.x)?, rect.y.checked_add_signed(self.y)?);
        Some(RectPx { x, y, ..rect })
    }
}

/// Cuts `region` out of `frame`, scales it to fit the square with its shape kept, and pads.
pub fn cut(frame: &Rgb8, region: &Region) -> Result<Crop, RoiError> {
    cut_corrected(frame, region, None, Shift::default())
}

/// As [`cut`], from the frame that `corrections` make of `frame`, and with the region moved by `shift`.
/// Without corrections the bytes are those of the frame.
pub fn cut_corrected(
    frame: &Rgb8,
    region: &Region,
    corrections: Option<&Corrections>,
    shift: Shift,
) -> Result<Crop, RoiError> {
    let (rect, part) = part_at(frame, region, corrections, shift)?;
    let inner = fit(rect);
    let scaled = if (inner.width, inner.height) == (rect.width, rect.height) {
        part
    } else {
        scale(&part, inner.width, inner.height)
            .map_err(|why| RoiError::Scale { region: region.name.clone(), why })?
    };
    let picture = pad(&scaled, inner);
    Ok(Crop { region: region.name.clone(), frame_px: rect, inner_px: inner, picture })
}

/// The pixels of `region` as [`cut_corrected`] takes them, neither scaled nor padded.
pub fn part(
    frame: &Rgb8,
    region: &Region,
    corrections: Option<&Corrections>,
) -> Result<Rgb8, RoiError> {
    part_at(frame, region, corrections, Shift::default()).map(|(_, part)| part)
}

fn part_at(
    frame: &Rgb8,
    region: &Region,
    corrections: Option<&Corrections>,
    shift: Shift,
) -> Result<(RectPx, Rgb8), RoiError> {
    if let Some(corrections) = corrections {
        corrections.check_size(frame, region)?;
    }
    let rect = moved(region, region.rect_in(frame.width, frame.height)?, shift, frame)?;
    let part = match corrections {
        None => copy_rect(frame, rect),
        Some(corrections) => corrections.part(frame, region, rect)?,
    };
    Ok((rect, part))
}

/// The region's rectangle after the shift, still within the frame.
fn moved(region: &Region, rect: RectPx, shift: Shift, frame: &Rgb8) -> Result<RectPx, RoiError> {
    let fits = |rect: &RectPx| {
        let (right, bottom) = (rect.x.checked_add(rect.width), rect.y.checked_add(rect.height));
        right.is_some_and(|x| x <= frame.width) && bottom.is_some_and(|y| y <= frame.height)
    };
    shift.of(rect).filter(fits).ok_or_else(|| RoiError::Outside {
        region: region.name.clone(),
        rect: format!("x {} y {} moved by {}, {}", rect.x, rect.y, shift.x, shift.y),
        width: frame.width,
        height: frame.height,
    })
}

impl Crop {
    /// Takes a point of the crop back to frame pixels; `None` if it lies in the padding.
    pub fn to_frame(&self, x: f64, y: f64) -> Option<(f64, f64)> {
        let (inner, outer) = (self.inner_px, self.frame_px);
        let across = (x - f64::from(inner.x)) / f64::from(inner.width);
        let down = (y - f64::from(inner.y)) / f64::from(inner.height);
        let inside = (0.0..=1.0).contains(&across) && (0.0..=1.0).contains(&down);
        inside.then(|| {
            let x = f64::from(outer.x) + across * f64::from(outer.width);
            (x, f64::from(outer.y) + down * f64::from(outer.height))
        })
    }
}

/// Where a rectangle of this shape lies in the square: the longer side fills it, the other is centred.
pub fn fit(rect: RectPx) -> RectPx {
    let longest = u64::from(rect.width.max(rect.height));
    let scaled = |side: u32| {
        let side = (u64::from(side) * u64::from(CROP_SIDE_PX) + longest / 2) / longest;
        (side as u32).clamp(1, CROP_SIDE_PX)
    };
    let (width, height) = (scaled(rect.width), scaled(rect.height));
    RectPx { x: (CROP_SIDE_PX - width) / 2, y: (CROP_SIDE_PX - height) / 2, width, height }
}

/// The pixels of a rectangle, which lies within the frame.
pub fn copy_rect(frame: &Rgb8, rect: RectPx) -> Rgb8 {
    let mut data = Vec::with_capacity(rect.width as usize * rect.height as usize * 3);
    for row in rect.y..rect.y + rect.height {
        let start = (row as usize * frame.width as usize + rect.x as usize) * 3;
        data.extend_from_slice(&frame.data[start..start + rect.width as usize * 3]);
    }
    Rgb8 { width: rect.width, height: rect.height, data }
}

/// Antialiased bilinear scaling, by the library's own choice of processor instructions.
fn scale(picture: &Rgb8, width: u32, height: u32) -> Result<Rgb8, String> {
    let pixels = fir::PixelType::U8x3;
    let from = fir::images::ImageRef::new(picture.width, picture.height, &picture.data, pixels)
        .map_err(|error| error.to_string())?;
    let mut to = fir::images::Image::new(width, height, pixels);
    let options = fir::ResizeOptions::new()
        .resize_alg(fir::ResizeAlg::Convolution(fir::FilterType::Bilinear));
    fir::Resizer::new().resize(&from, &mut to, &options).map_err(|error| error.to_string())?;
    Ok(Rgb8 { width, height, data: to.into_vec() })
}

fn pad(picture: &Rgb8, inner: RectPx) -> Rgb8 {
    if inner.width == CROP_SIDE_PX && inner.height == CROP_SIDE_PX {
        return picture.clone();
    }
    let mut square = Rgb8::new(CROP_SIDE_PX, CROP_SIDE_PX);
    square.data.fill(PADDING);
    let row_bytes = inner.width as usize * 3;
    for (row, line) in picture.data.chunks_exact(row_bytes).enumerate() {
        let y = inner.y as usize + row;
        let start = (y * CROP_SIDE_PX as usize + inner.x as usize) * 3;
        square.data[start..start + row_bytes].copy_from_slice(line);
    }
    square
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(x: u32, y: u32, width: u32, height: u32) -> Region {
        Region { name: "label".into(), area: Area::Pixels(RectPx { x, y, width, height }) }
    }

    /// A frame whose red byte is the column and green byte the row, both divided by four.
    fn ramp(width: u32, height: u32) -> Rgb8 {
        let mut frame = Rgb8::new(width, height);
        for (i, pixel) in frame.data.chunks_exact_mut(3).enumerate() {
            let (x, y) = (i as u32 % width, i as u32 / width);
            pixel.copy_from_slice(&[(x / 4) as u8, (y / 4) as u8, 7]);
        }
        frame
    }

    #[test]
    fn a_square_of_the_models_size_is_copied_byte_for_byte() {
        let frame = ramp(640, 480);
        let crop = cut(&frame, &region(152, 72, 336, 336)).expect("inside");
        assert_eq!(crop.picture.pixel(0, 0), frame.pixel(152, 72));
        assert_eq!(crop.picture.pixel(335, 335), frame.pixel(487, 407));
    }

    #[test]
    fn a_wide_region_keeps_its_shape_and_is_padded_above_and_below() {
        let crop = cut(&ramp(640, 480), &region(0, 100, 640, 160)).expect("inside");
        assert_eq!(crop.inner_px, RectPx { x: 0, y: 126, width: 336, height: 84 });
        assert_eq!(crop.picture.pixel(10, 125), [255, 255, 255]);
        assert_eq!(crop.picture.pixel(10, 210), [255, 255, 255]);
        assert_eq!(crop.picture.pixel(10, 130)[2], 7);
    }

    #[test]
    fn a_point_finds_its_way_back_to_the_frame() {
        let crop = cut(&ramp(640, 480), &region(100, 50, 200, 100)).expect("inside");
        let (x, y) = crop.to_frame(168.0, 168.0).expect("the centre is not padding");
        assert!((x - 200.0).abs() < 0.6 && (y - 100.0).abs() < 0.6, "{x} {y}");
        assert_eq!(crop.to_frame(168.0, 10.0), None);
    }

    #[test]
    fn fractions_follow_the_frame() {
        let area = Area::Fraction { x: 0.25, y: 0.5, width: 0.5, height: 0.5 };
        let region = Region { name: "half".into(), area };
        let rect = region.rect_in(640, 480).expect("inside");
        assert_eq!(rect, RectPx { x: 160, y: 240, width: 320, height: 240 });
    }

    #[test]
    fn a_sliver_and_an_outsider_are_clear_errors() {
        let frame = ramp(640, 480);
        let sliver = cut(&frame, &region(0, 0, 1, 480)).expect_err("too narrow").to_string();
        assert!(sliver.contains("1x480 px") && sliver.contains("14 px"), "{sliver}");
        let outside = cut(&frame, &region(600, 0, 100, 100)).expect_err("outside").to_string();
        assert!(outside.contains("640x480"), "{outside}");
        let huge = cut(&frame, &region(u32::MAX, 0, u32::MAX, 20)).expect_err("outside");
        assert!(matches!(huge, RoiError::Outside { .. }));
    }
}
