//! A picture's file to pixels: bounded, and nothing that is torn.
//!
//! Whoever takes a picture from a disk reads it here, so that no command accepts what another refuses.

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};

use super::Rgb8;

/// A picture may have this many pixels a side, and need this many bytes while it is decoded. A
/// damaged head must not ask for all the memory there is.
pub const SIDE_MAX_PX: u32 = 16_384;
const DECODE_MAX_BYTES: u64 = 1 << 30;

/// A picture's file may have this many bytes.
const FILE_MAX_BYTES: u64 = 1 << 28;

/// Some cameras write a little behind a JPEG's end; it is looked for in this many last bytes.
const JPEG_TAIL_BYTES: usize = 4096;

/// Reads the PNG, JPEG or BMP at `path`; what it is, its first bytes say, and not its name.
///
/// # Errors
/// Why it is no picture to be looked at, without the path.
pub fn read(path: &Path) -> Result<Rgb8, String> {
    decode(read_bounded(path).map_err(|error| error.to_string())?)
}

/// The PNG file of `picture`, as bytes: always the same ones for the same picture, as its digest names it.
/// Quick compression: the line waits for it.
///
/// # Errors
/// The encoder's.
pub fn png(picture: &Rgb8) -> Result<Vec<u8>, image::ImageError> {
    let mut bytes = Vec::with_capacity(picture.data.len() / 2);
    PngEncoder::new_with_quality(&mut bytes, CompressionType::Fast, FilterType::Adaptive)
        .write_image(&picture.data, picture.width, picture.height, ExtendedColorType::Rgb8)?;
    Ok(bytes)
}

/// Writes `picture` as a PNG that appears whole or not at all.
///
/// # Errors
/// Why it cannot be written, without the path.
pub fn write_png(path: &Path, picture: &Rgb8) -> Result<(), String> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let write = || -> Result<(), Box<dyn std::error::Error>> {
        let mut file = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
        let encoder = image::codecs::png::PngEncoder::new(std::io::BufWriter::new(&mut file));
        let colour = image::ExtendedColorType::Rgb8;
        encoder.write_image(&picture.data, picture.width, picture.height, colour)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().map_err(|why| why.to_string())
}

/// The picture in a file's bytes.
///
/// # Errors
/// As [`read`].
pub fn decode(bytes: Vec<u8>) -> Result<Rgb8, String> {
    if is_torn_jpeg(&bytes) {
        return Err("it is a JPEG without an end; it was not written to the end".to_owned());
    }
    if has_torn_palette(&bytes) {
        return Err("it is a PNG with a damaged palette".to_owned());
    }
    without_panic(|| decode_sound(bytes))
}

/// A decoder that finds no way out on a picture must not take the line along.
fn without_panic<T>(decode: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    // What it leaves behind is dropped with its bytes.
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(decode))
        .unwrap_or_else(|_| Err("it is damaged in a way that its decoder does not know".to_owned()))
}

fn decode_sound(bytes: Vec<u8>) -> Result<Rgb8, String> {
    let reader = image::ImageReader::new(Cursor::new(bytes)).with_guessed_format();
    let mut reader = reader.map_err(|error| error.to_string())?;
    let mut limits = image::Limits::default();
    limits.max_image_width = Some(SIDE_MAX_PX);
    limits.max_image_height = Some(SIDE_MAX_PX);
    limits.max_alloc = Some(DECODE_MAX_BYTES);
    reader.limits(limits);
    let picture = reader.decode().map_err(|error| error.to_string())?.into_rgb8();
    let (width, height) = picture.dimensions();
    if width == 0 || height == 0 {
        return Err("it has no pixels".to_owned());
    }
    Rgb8::from_data(width, height, picture.into_raw())
        .ok_or_else(|| "its size does not fit its bytes".to_owned())
}

/// The bytes of a picture's file. Anything but a file is refused before it is opened, as opening a pipe would wait for a writer.
pub(crate) fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("it is not a file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_MAX_BYTES {
        let why = format!("the file is larger than {} MiB", FILE_MAX_BYTES >> 20);
        return Err(std::io::Error::other(why));
    }
    Ok(bytes)
}

/// Whether a PNG has a palette that does not end with a whole colour: png 0.18.1 panics on one.
fn has_torn_palette(bytes: &[u8]) -> bool {
    let Some(mut chunks) = bytes.strip_prefix(b"\x89PNG\r\n\x1a\n") else { return false };
    // Length, kind, content, sum.
    while let Some((head, rest)) = chunks.split_first_chunk::<8>() {
        let [a, b, c, d, kind @ ..] = *head;
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        match &kind {
            b"PLTE" if !length.is_multiple_of(3) => return true,
            // No palette comes behind the first pixels.
            b"IDAT" => return false,
            _ => chunks = rest.get(length.saturating_add(4)..).unwrap_or_default(),
        }
    }
    false
}

/// Whether a JPEG lacks its end marker. Decoders fill the missing part with grey and say nothing, and
/// half a picture must not be inspected.
pub fn is_torn_jpeg(bytes: &[u8]) -> bool {
    let tail = &bytes[bytes.len().saturating_sub(JPEG_TAIL_BYTES)..];
    bytes.starts_with(&[0xff, 0xd8]) && !tail.windows(2).any(|pair| pair == [0xff, 0xd9])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_palette_is_refused_and_a_whole_one_read() {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, 2, 1);
        encoder.set_color(png::ColorType::Indexed);
        encoder.set_palette(vec![0, 1, 2, 30, 31, 32]);
        let mut writer = encoder.write_header().expect("a head");
        writer.write_image_data(&[1, 0]).expect("two pixels");
        writer.finish().expect("an end");
        let whole = decode(bytes.clone()).expect("a picture");
        assert_eq!(whole.data, [30, 31, 32, 0, 1, 2]);
        let at = bytes.windows(4).position(|four| four == b"PLTE").expect("a palette");
        bytes.splice(at - 4..at + 10, [&[0, 0, 0, 5][..], b"PLTE", &[0, 1, 2, 30, 31]].concat());
        let torn = decode(bytes).expect_err("five bytes are no colours");
        assert!(torn.contains("damaged palette"), "{torn}");
    }

    #[test]
    fn a_decoder_that_panics_is_an_error() {
        let told = without_panic::<()>(|| panic!("as a decoder would"));
        assert!(told.expect_err("no picture").contains("does not know"));
        assert_eq!(without_panic(|| Ok(7)), Ok(7));
    }

    #[test]
    fn half_a_jpeg_and_what_is_no_file_are_refused() {
        let picture = image::RgbImage::from_fn(64, 48, |x, y| image::Rgb([x as u8, y as u8, 7]));
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, image::ImageFormat::Jpeg).expect("a JPEG");
        let bytes = bytes.into_inner();
        let read = decode(bytes.clone()).expect("a picture");
        assert_eq!((read.width, read.height), (64, 48));
        let torn = decode(bytes[..bytes.len() / 2].to_vec()).expect_err("half a picture");
        assert!(torn.contains("without an end"), "{torn}");
        let folder = read_bounded(Path::new("/")).expect_err("a folder");
        assert!(folder.to_string().contains("not a file"), "{folder}");
    }
}
