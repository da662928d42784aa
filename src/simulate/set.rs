//! A folder of labelled pictures.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};
use serde::Serialize;

use super::part::Mix;
use super::picture::{Picture, picture};
use super::truth::{Defect, Truth, Verdict};
use super::{Error, PICTURE_SIDE};

/// What [`write_set`] writes.
#[derive(Debug, Clone)]
pub struct SetOptions {
    /// Number of pictures.
    pub count: u64,
    /// Where all randomness comes from. Sets of different seeds share no picture.
    pub seed: u64,
    /// Also write the per-pixel truth beside each picture, as [`dense_pixels`] codes it.
    pub dense: bool,
    /// What parts there are. `mix.crowded` is ignored: such pictures have no truth.
    pub mix: Mix,
    /// The folder; made if it is not there.
    pub out: PathBuf,
}

/// A line of `truth.jsonl`.
#[derive(Serialize)]
struct Line<'a> {
    file: &'a str,
    verdict: Verdict,
    serial: Option<&'a str>,
    defects: &'a [Defect],
    inspectable: bool,
}

/// Writes 000000.png, 000001.png ... and `truth.jsonl`, one line for each picture.
///
/// `progress` is told how many pictures are done after each one. Files that are there already are
/// overwritten, others are left alone.
pub fn write_set(options: &SetOptions, mut progress: impl FnMut(u64)) -> Result<(), Error> {
    let mix = Mix { crowded: 0.0, ..options.mix };
    check(&mix)?;
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Write { path, source }
    };
    fs::create_dir_all(&options.out).map_err(at(&options.out))?;
    let list = options.out.join("truth.jsonl");
    let mut lines = BufWriter::new(File::create(&list).map_err(at(&list))?);
    for index in 0..options.count {
        let drawn = picture(options.seed, index, &mix);
        let file = format!("{index:06}.png");
        write_png(&options.out.join(&file), &drawn.pixels.data)?;
        if options.dense {
            write_png(&options.out.join(format!("{index:06}.truth.png")), &dense_pixels(&drawn))?;
        }
        let truth = drawn.truth.unwrap_or_else(Truth::not_inspectable);
        let line = Line {
            file: &file,
            verdict: truth.verdict,
            serial: truth.serial.as_deref(),
            defects: &truth.defects,
            inspectable: truth.inspectable,
        };
        let json = serde_json::to_string(&line).expect("plain data always serialises");
        writeln!(lines, "{json}").map_err(at(&list))?;
        progress(index + 1);
    }
    lines.flush().map_err(at(&list))
}

/// Codes the per-pixel truth of a picture as RGB, three bytes a pixel:
///
/// * red: 0 no label, 1..=26 the cell of that character of [`super::SERIAL_ALPHABET`],
///   27 an illegible label;
/// * green: low four bits the character's place 1..=8; bits 4 and 5 the screw (1 present, 2 missing);
/// * blue: 0 no defect, else the class 1..=6 in bits 0 to 2, bit 3 set for major, the location
///   0..=8 in bits 4 to 7.
pub fn dense_pixels(drawn: &Picture) -> Vec<u8> {
    let blue = |number: u8| match number {
        0 => 0,
        n => {
            let defect = drawn.flaws[usize::from(n) - 1];
            (defect.class as u8 + 1) | (defect.severity as u8) << 3 | (defect.location as u8) << 4
        }
    };
    drawn.marks.iter().flat_map(|m| [m.glyph, m.place | m.screw << 4, blue(m.flaw)]).collect()
}

fn check(mix: &Mix) -> Result<(), Error> {
    let fractions = [
        ("defective", mix.defective),
        ("two_defects", mix.two_defects),
        ("illegible", mix.illegible),
        ("empty", mix.empty),
        ("rust", mix.rust),
    ];
    match fractions.into_iter().find(|(_, v)| !(0.0..=1.0).contains(v)) {
        Some((name, value)) => {
            Err(Error::Option { name, value, expected: "a fraction from 0 to 1" })
        }
        None => Ok(()),
    }
}

/// Writes a 336x336 RGB picture with fast compression.
fn write_png(path: &Path, rgb: &[u8]) -> Result<(), Error> {
    let failed = |source| Error::Write { path: path.to_owned(), source };
    let mut file = BufWriter::new(File::create(path).map_err(failed)?);
    PngEncoder::new_with_quality(&mut file, CompressionType::Fast, FilterType::Sub)
        .write_image(rgb, PICTURE_SIDE, PICTURE_SIDE, ExtendedColorType::Rgb8)
        .map_err(|source| Error::Png { path: path.to_owned(), source })?;
    file.flush().map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(out: &Path) -> SetOptions {
        SetOptions { count: 3, seed: 11, dense: true, mix: Mix::default(), out: out.to_owned() }
    }

    #[test]
    fn a_set_is_the_same_twice_and_its_truth_is_read_back() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut told = Vec::new();
        write_set(&options(a.path()), |done| told.push(done)).unwrap();
        write_set(&options(b.path()), |_| ()).unwrap();
        assert_eq!(told, [1, 2, 3]);
        for name in ["000000.png", "000002.png", "000001.truth.png", "truth.jsonl"] {
            let read = |folder: &tempfile::TempDir| fs::read(folder.path().join(name)).unwrap();
            assert_eq!(read(&a), read(&b), "{name}");
        }
        let text = fs::read_to_string(a.path().join("truth.jsonl")).unwrap();
        assert_eq!(text.lines().count(), 3);
        for (index, line) in text.lines().enumerate() {
            assert!(line.starts_with(&format!(r#"{{"file":"00000{index}.png","verdict":""#)));
            let truth: Truth = serde_json::from_str(line).unwrap();
            assert_eq!(Some(truth), picture(11, index as u64, &Mix::default()).truth);
        }
    }

    #[test]
    fn pictures_survive_the_file() {
        let folder = tempfile::tempdir().unwrap();
        write_set(&options(folder.path()), |_| ()).unwrap();
        let read = image::open(folder.path().join("000001.png")).unwrap().into_rgb8();
        assert_eq!(read.into_raw(), picture(11, 1, &Mix::default()).pixels.data);
    }

    #[test]
    fn dense_truth_names_what_each_pixel_shows() {
        let mix = Mix { defective: 1.0, ..Mix::default() };
        let drawn = picture(2, 0, &mix);
        let coded = dense_pixels(&drawn);
        let at = drawn.marks.iter().position(|m| m.flaw == 1).unwrap();
        let blue = coded[at * 3 + 2];
        let flaw = drawn.flaws[0];
        assert_eq!(blue & 7, flaw.class as u8 + 1);
        assert_eq!(blue >> 3 & 1, flaw.severity as u8);
        assert_eq!(blue >> 4, flaw.location as u8);
    }

    #[test]
    fn a_fraction_above_one_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let mix = Mix { illegible: 4.0, ..Mix::default() };
        let error = write_set(&SetOptions { mix, ..options(folder.path()) }, |_| ()).unwrap_err();
        assert_eq!(error.to_string(), "illegible is 4, expected a fraction from 0 to 1");
    }
}
