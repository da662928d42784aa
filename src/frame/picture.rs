//! A frame's pixels as its camera gave them. Most frames are looked at in grey alone, by a trigger;
//! only those of which a part is cut are ever made RGB, and each of them once.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::OnceLock;

use yuv::{
    YuvBiPlanarImage, YuvConversionMode, YuvError, YuvGrayImage, YuvPackedImage, YuvPlanarImage,
    YuvRange, YuvStandardMatrix,
};

use super::Rgb8;

/// How the bytes of a picture lie, under GStreamer's names. Planes follow each other, rows have no
/// padding, and an odd side has a half pixel of colour more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Red, green and blue of each pixel.
    Rgb,
    /// Brightness; then two planes of colour for every 2x2 pixels.
    I420,
    /// Brightness; then one plane of two colours for every 2x2 pixels.
    Nv12,
    /// Brightness; then two planes of colour for every 2 pixels of a row.
    Y42b,
    /// Brightness and colour of every 2 pixels of a row together.
    Yuy2,
    /// Brightness alone.
    Gray8,
}

impl Form {
    /// All of them, the one that costs least to use first.
    pub const ALL: [Form; 6] =
        [Form::Rgb, Form::I420, Form::Nv12, Form::Y42b, Form::Yuy2, Form::Gray8];

    /// Its name in GStreamer.
    pub fn name(self) -> &'static str {
        match self {
            Form::Rgb => "RGB",
            Form::I420 => "I420",
            Form::Nv12 => "NV12",
            Form::Y42b => "Y42B",
            Form::Yuy2 => "YUY2",
            Form::Gray8 => "GRAY8",
        }
    }

    /// Bytes of a row and rows of each plane, for a picture of `width` by `height` pixels.
    pub fn planes(self, width: u32, height: u32) -> Vec<(usize, usize)> {
        let (width, height) = (width as usize, height as usize);
        let (half, low) = (width.div_ceil(2), height.div_ceil(2));
        match self {
            Form::Rgb => vec![(width * 3, height)],
            Form::I420 => vec![(width, height), (half, low), (half, low)],
            Form::Nv12 => vec![(width, height), (half * 2, low)],
            Form::Y42b => vec![(width, height), (half, height), (half, height)],
            Form::Yuy2 => vec![(half * 4, height)],
            Form::Gray8 => vec![(width, height)],
        }
    }
}

/// What brightness and colour of a picture stand for; RGB has none of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Colours {
    /// Which colours are mixed into brightness, and how much of each.
    pub matrix: Matrix,
    /// Brightness goes from 0 to 255; otherwise from 16 to 235.
    pub is_full_range: bool,
}

/// The mixtures of brightness that cameras use (ITU-R BT.601, BT.709, BT.2020).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matrix {
    /// JPEG and pictures of low resolution.
    Bt601,
    /// Video in high definition.
    Bt709,
    /// Video in 4K.
    Bt2020,
}

impl Colours {
    /// Those of a JPEG.
    pub const JPEG: Colours = Colours { matrix: Matrix::Bt601, is_full_range: true };

    fn range(self) -> YuvRange {
        if self.is_full_range { YuvRange::Full } else { YuvRange::Limited }
    }

    fn matrix(self) -> YuvStandardMatrix {
        match self.matrix {
            Matrix::Bt601 => YuvStandardMatrix::Bt601,
            Matrix::Bt709 => YuvStandardMatrix::Bt709,
            Matrix::Bt2020 => YuvStandardMatrix::Bt2020,
        }
    }
}

/// A frame's pixels, never changed.
#[derive(Clone)]
pub struct Picture {
    width: u32,
    height: u32,
    pixels: Pixels,
}

#[derive(Clone)]
enum Pixels {
    Rgb(Rgb8),
    Other { form: Form, colours: Colours, data: Vec<u8>, rgb: OnceLock<Rgb8> },
}

impl Picture {
    /// Wraps the planes of `form`, one after the other. `None`: `data` has another length, or the
    /// picture has no pixels.
    pub fn new(
        form: Form,
        colours: Colours,
        (width, height): (u32, u32),
        data: Vec<u8>,
    ) -> Option<Picture> {
        let bytes: usize = form.planes(width, height).iter().map(|(row, rows)| row * rows).sum();
        if bytes == 0 || bytes != data.len() {
            return None;
        }
        let pixels = match form {
            Form::Rgb => Pixels::Rgb(Rgb8 { width, height, data }),
            _ => Pixels::Other { form, colours, data, rgb: OnceLock::new() },
        };
        Some(Picture { width, height, pixels })
    }

    /// Pixels across.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Pixels down.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// How its bytes lie.
    pub fn form(&self) -> Form {
        match &self.pixels {
            Pixels::Rgb(_) => Form::Rgb,
            Pixels::Other { form, .. } => *form,
        }
    }

    /// What its brightness and colours stand for; of RGB nothing.
    pub fn colours(&self) -> Option<Colours> {
        match &self.pixels {
            Pixels::Rgb(_) => None,
            Pixels::Other { colours, .. } => Some(*colours),
        }
    }

    /// Its bytes, as [`Form`] says.
    pub fn bytes(&self) -> &[u8] {
        match &self.pixels {
            Pixels::Rgb(rgb) => &rgb.data,
            Pixels::Other { data, .. } => data,
        }
    }

    /// The whole picture in RGB; computed at the first call.
    pub fn rgb(&self) -> &Rgb8 {
        match &self.pixels {
            Pixels::Rgb(rgb) => rgb,
            Pixels::Other { form, colours, data, rgb } => rgb.get_or_init(|| {
                let size = (self.width, self.height);
                to_rgb(*form, *colours, size, data, 0..self.height)
            }),
        }
    }

    /// The same, of which these rows alone count; the others may be black. Computed at each call, if the
    /// whole has not been.
    pub fn rgb_of_rows(&self, rows: Range<u32>) -> Cow<'_, Rgb8> {
        let rows = rows.start.min(self.height) & !1..rows.end.min(self.height);
        match &self.pixels {
            Pixels::Other { form, colours, data, rgb }
                if rgb.get().is_none() && !rows.is_empty() && rows != (0..self.height) =>
            {
                let size = (self.width, self.height);
                Cow::Owned(to_rgb(*form, *colours, size, data, rows))
            }
            _ => Cow::Borrowed(self.rgb()),
        }
    }

    /// Its brightness, to be read pixel by pixel.
    pub fn grey(&self) -> Brightness<'_> {
        let (step, colours) = match &self.pixels {
            Pixels::Rgb(_) => (3, None),
            Pixels::Other { form: Form::Yuy2, colours, .. } => (2, Some(colours)),
            Pixels::Other { colours, .. } => (1, Some(colours)),
        };
        let row = self.form().planes(self.width, self.height)[0].0;
        // 255 / 219, in parts of 4,096.
        let (black, gain) = match colours {
            Some(colours) if !colours.is_full_range => (16, 4_769),
            _ => (0, 4_096),
        };
        Brightness { bytes: self.bytes(), row, step, is_rgb: colours.is_none(), black, gain }
    }
}

impl From<Rgb8> for Picture {
    fn from(rgb: Rgb8) -> Picture {
        Picture { width: rgb.width, height: rgb.height, pixels: Pixels::Rgb(rgb) }
    }
}

/// Equal where the same camera would have given the same bytes.
impl PartialEq for Picture {
    fn eq(&self, other: &Picture) -> bool {
        let what =
            |picture: &Picture| (picture.width, picture.height, picture.form(), picture.colours());
        what(self) == what(other) && self.bytes() == other.bytes()
    }
}

impl Eq for Picture {}

/// Prints size and form, not a million bytes.
impl std::fmt::Debug for Picture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Picture({}x{} {})", self.width, self.height, self.form().name())
    }
}

/// The brightness of a picture's pixels.
#[derive(Clone, Copy)]
pub struct Brightness<'p> {
    bytes: &'p [u8],
    row: usize,
    step: usize,
    is_rgb: bool,
    black: i32,
    gain: i32,
}

impl Brightness<'_> {
    /// Four times the grey level of the pixel at column `x`, row `y`: 0 to 1,020. Outside of the
    /// picture 0.
    pub fn four_times(&self, x: u32, y: u32) -> u32 {
        let at = y as usize * self.row + x as usize * self.step;
        if self.is_rgb {
            return match self.bytes.get(at..at + 3) {
                Some(rgb) => u32::from(rgb[0]) + 2 * u32::from(rgb[1]) + u32::from(rgb[2]),
                None => 0,
            };
        }
        let level = self.bytes.get(at).map_or(0, |level| i32::from(*level));
        (((level - self.black) * 4 * self.gain) >> 12).clamp(0, 1_020) as u32
    }
}

fn to_rgb(
    form: Form,
    colours: Colours,
    (width, height): (u32, u32),
    data: &[u8],
    rows: Range<u32>,
) -> Rgb8 {
    // Memory of rows that nobody writes or reads is never touched, so it costs nothing.
    let mut rgb = Rgb8::new(width, height);
    if let Err(error) = convert(form, colours, data, &mut rgb, rows) {
        // The length was checked when the picture was made. Black is refused as blank.
        tracing::error!(%error, form = form.name(), width, height, "picture cannot be made RGB");
        rgb.data.fill(0);
    }
    rgb
}

/// Fills `rows`, the first of them an even one, as two rows may share their colours.
fn convert(
    form: Form,
    colours: Colours,
    data: &[u8],
    rgb: &mut Rgb8,
    rows: Range<u32>,
) -> Result<(), YuvError> {
    let (width, height) = (rgb.width, rows.len() as u32);
    let planes = form.planes(width, rgb.height);
    let (range, matrix) = (colours.range(), colours.matrix());
    let stride = |plane: usize| planes[plane].0 as u32;
    let own = form.planes(width, rows.start);
    let here = form.planes(width, height);
    let plane = |at: usize| {
        let before: usize = planes[..at].iter().map(|(row, rows)| row * rows).sum();
        let skipped = own[at].0 * own[at].1;
        let begin = before + skipped;
        &data[begin..begin + here[at].0 * here[at].1]
    };
    let bytes = width as usize * 3;
    let out = &mut rgb.data[rows.start as usize * bytes..rows.end as usize * bytes];
    let out_stride = width * 3;
    match form {
        Form::Rgb => out.copy_from_slice(plane(0)),
        Form::I420 | Form::Y42b => {
            let image = YuvPlanarImage {
                y_plane: plane(0),
                y_stride: stride(0),
                u_plane: plane(1),
                u_stride: stride(1),
                v_plane: plane(2),
                v_stride: stride(2),
                width,
                height,
            };
            let convert = if form == Form::I420 { yuv::yuv420_to_rgb } else { yuv::yuv422_to_rgb };
            convert(&image, out, out_stride, range, matrix)?;
        }
        Form::Nv12 => {
            let image = YuvBiPlanarImage {
                y_plane: plane(0),
                y_stride: stride(0),
                uv_plane: plane(1),
                uv_stride: stride(1),
                width,
                height,
            };
            let mode = YuvConversionMode::Balanced;
            yuv::yuv_nv12_to_rgb(&image, out, out_stride, range, matrix, mode)?;
        }
        Form::Yuy2 => {
            let image = YuvPackedImage { yuy: plane(0), yuy_stride: stride(0), width, height };
            yuv::yuyv422_to_rgb(&image, out, out_stride, range, matrix)?;
        }
        Form::Gray8 => {
            let image = YuvGrayImage { y_plane: plane(0), y_stride: stride(0), width, height };
            yuv::yuv400_to_rgb(&image, out, out_stride, range, matrix)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a pixel of brightness `y` and colours `u`, `v` is, by the definition.
    fn defined(colours: Colours, [y, u, v]: [u8; 3]) -> [f64; 3] {
        let (kr, kb) = match colours.matrix {
            Matrix::Bt601 => (0.299, 0.114),
            Matrix::Bt709 => (0.212_6, 0.072_2),
            Matrix::Bt2020 => (0.262_7, 0.059_3),
        };
        let (black, white, colour) = match colours.is_full_range {
            true => (0.0, 255.0, 255.0),
            false => (16.0, 219.0, 224.0),
        };
        let y = (f64::from(y) - black) / white;
        let [u, v] = [u, v].map(|level| (f64::from(level) - 128.0) / colour);
        let red = y + 2.0 * (1.0 - kr) * v;
        let blue = y + 2.0 * (1.0 - kb) * u;
        let green = (y - kr * red - kb * blue) / (1.0 - kr - kb);
        [red, green, blue].map(|share| (share * 255.0).clamp(0.0, 255.0))
    }

    /// A level that is different for each position of each channel, and not darker than black, as
    /// how much darker it is counts nowhere.
    fn level(channel: usize, x: usize, y: usize) -> u8 {
        16 + (31 * channel + 7 * x + 13 * y).rem_euclid(216) as u8
    }

    /// A picture of `form`, and brightness and colours of each of its pixels.
    fn drawn(form: Form, colours: Colours, width: u32, height: u32) -> (Picture, Vec<[u8; 3]>) {
        let (w, h) = (width as usize, height as usize);
        let low = |y: usize| if matches!(form, Form::I420 | Form::Nv12) { y / 2 } else { y };
        let luma = |x, y| level(0, x, y);
        let colour = |channel, x: usize, y: usize| match form {
            Form::Gray8 => 128,
            _ => level(channel, x / 2, low(y)),
        };
        let pixels = (0..h)
            .flat_map(|y| (0..w).map(move |x| [luma(x, y), colour(1, x, y), colour(2, x, y)]));
        let half = w.div_ceil(2);
        let rows = if low(2) == 1 { h.div_ceil(2) } else { h };
        let luma_plane = (0..h).flat_map(|y| (0..w).map(move |x| level(0, x, y)));
        let plane =
            |channel| (0..rows).flat_map(move |y| (0..half).map(move |x| level(channel, x, y)));
        let data: Vec<u8> = match form {
            Form::I420 | Form::Y42b => luma_plane.chain(plane(1)).chain(plane(2)).collect(),
            Form::Nv12 => {
                luma_plane.chain(plane(1).zip(plane(2)).flat_map(|(u, v)| [u, v])).collect()
            }
            Form::Yuy2 => (0..h)
                .flat_map(|y| {
                    (0..half).flat_map(move |x| {
                        let [u, v] = [1, 2].map(|channel| level(channel, x, y));
                        [level(0, 2 * x, y), u, level(0, 2 * x + 1, y), v]
                    })
                })
                .collect(),
            Form::Gray8 => luma_plane.collect(),
            Form::Rgb => unreachable!("not drawn here"),
        };
        let picture = Picture::new(form, colours, (width, height), data).expect("the right length");
        (picture, pixels.collect())
    }

    #[test]
    fn every_form_becomes_the_rgb_of_its_definition() {
        let matrices = [Matrix::Bt601, Matrix::Bt709, Matrix::Bt2020];
        for (form, matrix, is_full_range) in Form::ALL[1..]
            .iter()
            .flat_map(|form| matrices.map(|matrix| (*form, matrix)))
            .flat_map(|(form, matrix)| [true, false].map(|full| (form, matrix, full)))
        {
            let colours = Colours { matrix, is_full_range };
            // The library computes pairs of pixels in fewer bits.
            let bound = if form == Form::Yuy2 { 3.5 } else { 2.0 };
            for (width, height) in [(64, 48), (637, 3), (33, 17), (2, 2), (1, 1)] {
                let (picture, pixels) = drawn(form, colours, width, height);
                let rgb = picture.rgb();
                assert_eq!((rgb.width, rgb.height), (width, height));
                for (at, yuv) in pixels.iter().enumerate() {
                    let (x, y) = (at as u32 % width, at as u32 / width);
                    let expected = defined(colours, *yuv);
                    for (is, should) in rgb.pixel(x, y).into_iter().zip(expected) {
                        let off = (f64::from(is) - should).abs();
                        assert!(
                            off <= bound,
                            "{form:?} {colours:?} {width}x{height} at {x},{y}: {is} for {should:.1}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn rows_are_those_of_the_whole() {
        for form in Form::ALL[1..].iter() {
            for (width, height) in [(64, 48), (33, 17), (1, 1)] {
                let (picture, _) = drawn(*form, Colours::JPEG, width, height);
                for rows in [0..1, 3..9, 4..height, 0..height, 5..5, 7..900] {
                    // Before the whole has been computed, which is then used.
                    let some = picture.clone().rgb_of_rows(rows.clone()).into_owned();
                    assert_eq!((some.width, some.height), (width, height));
                    let whole = picture.rgb();
                    for y in rows.start..rows.end.min(height) {
                        for x in 0..width {
                            assert_eq!(
                                some.pixel(x, y),
                                whole.pixel(x, y),
                                "{form:?} {rows:?} {x},{y}"
                            );
                        }
                    }
                    assert!(matches!(picture.rgb_of_rows(rows), Cow::Borrowed(_)));
                }
            }
        }
    }

    #[test]
    fn grey_is_the_brightness_in_every_form_and_range() {
        let full = Colours::JPEG;
        let limited = Colours { is_full_range: false, ..full };
        for form in &Form::ALL[1..] {
            let (picture, pixels) = drawn(*form, full, 33, 17);
            let (dim, _) = drawn(*form, limited, 33, 17);
            for (at, [luma, ..]) in pixels.iter().enumerate() {
                let (x, y) = (at as u32 % 33, at as u32 / 33);
                assert_eq!(picture.grey().four_times(x, y), 4 * u32::from(*luma), "{form:?}");
                let stretched = (f64::from(*luma) - 16.0).clamp(0.0, 219.0) * 255.0 / 219.0;
                let off = f64::from(dim.grey().four_times(x, y)) / 4.0 - stretched;
                assert!(off.abs() < 0.5, "{form:?}: {luma} is {off:.2} off");
            }
            assert_eq!(picture.grey().four_times(0, 17_000), 0);
        }
        let mut rgb = Rgb8::new(2, 1);
        rgb.data = vec![10, 20, 30, 255, 255, 255];
        let picture = Picture::from(rgb);
        let grey = picture.grey();
        assert_eq!((grey.four_times(0, 0), grey.four_times(1, 0)), (80, 1_020));
    }

    #[test]
    fn a_wrong_length_is_no_picture() {
        for form in Form::ALL {
            let bytes: usize = form.planes(5, 3).iter().map(|(row, rows)| row * rows).sum();
            let make = |bytes| Picture::new(form, Colours::JPEG, (5, 3), vec![9; bytes]);
            assert!(
                make(bytes).is_some() && make(bytes - 1).is_none() && make(bytes + 1).is_none()
            );
            assert!(Picture::new(form, Colours::JPEG, (0, 3), Vec::new()).is_none());
        }
    }
}
