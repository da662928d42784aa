//! A small picture for those who only glance at a result. The evidence is what counts: it stays in
//! its file, and a result names its digest.

use std::io::Cursor;
use std::path::Path;

use image::codecs::jpeg::JpegEncoder;

/// JPEG quality: a glance needs no more.
const QUALITY: u8 = 70;

/// The picture in `path` as JPEG, its longer side `px` pixels at most.
pub fn make(path: &Path, px: u32) -> Result<Vec<u8>, image::ImageError> {
    let picture = image::ImageReader::open(path)?.with_guessed_format()?.decode()?;
    let small = if picture.width().max(picture.height()) > px {
        picture.thumbnail(px, px)
    } else {
        picture
    };
    let mut jpeg = Cursor::new(Vec::new());
    small.to_rgb8().write_with_encoder(JpegEncoder::new_with_quality(&mut jpeg, QUALITY))?;
    Ok(jpeg.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_becomes_a_small_jpeg_and_none_grows() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("crop.png");
        image::RgbImage::from_pixel(336, 84, image::Rgb([9, 90, 200])).save(&path).expect("saved");
        for (px, width, height) in [(64, 64, 16), (400, 336, 84)] {
            let jpeg = make(&path, px).expect("a picture");
            let format = image::guess_format(&jpeg).expect("known");
            assert_eq!(format, image::ImageFormat::Jpeg);
            let small = image::load_from_memory(&jpeg).expect("a picture");
            assert_eq!((small.width(), small.height()), (width, height));
        }
        make(&dir.path().join("none.png"), 64).expect_err("not there");
    }
}
