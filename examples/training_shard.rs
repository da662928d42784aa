//! Writes a shard of training pictures for the built-in model: raw pixels, per-patch labels, answers.
//!
//! `training_shard NAME --seed S --count N [--crowded F]` writes
//!
//! * `NAME.pictures`: N x 336 x 336 x 3 bytes;
//! * `NAME.patches`: N x 6 x 576 bytes: for every 14 px patch its glyph, place, defect class, severity,
//!   location and screw (0 nothing, 255 do not learn from this one);
//! * `NAME.jsonl`: one truth per line, `null` for a practice plate.
//!
//! About half of the pictures go through JPEG, as frames of a camera do.

use std::fs::{self, File};
use std::io::{BufWriter, Write};

use clap::Parser;
use image::codecs::jpeg::{JpegDecoder, JpegEncoder};
use image::{DynamicImage, ExtendedColorType};
use inspectd::simulate::truth::{EMPTY_HOLE, Mark, SCREW};
use inspectd::simulate::{Class, Mix, PICTURE_SIDE, Picture, picture};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const SIDE: usize = PICTURE_SIDE as usize;
const PATCH: usize = 14;
const GRID: usize = SIDE / PATCH;
const HEADS: usize = 6;
/// A label that the loss leaves out.
const IGNORE: u8 = 255;

#[derive(Parser)]
struct Arguments {
    /// Path and first part of the names of the files.
    name: String,
    /// Seed of the set. Keep those of training and of evaluation apart.
    #[arg(long)]
    seed: u64,
    /// Number of pictures.
    #[arg(long)]
    count: u64,
    /// Fraction of practice plates with several labels.
    #[arg(long, default_value_t = 0.0)]
    crowded: f64,
    /// Fraction of pictures without a part to inspect.
    #[arg(long, default_value_t = 0.02)]
    empty: f64,
    /// Fraction of illegible labels.
    #[arg(long, default_value_t = 0.06)]
    illegible: f64,
    /// Fraction of parts with a defect.
    #[arg(long, default_value_t = 0.7)]
    defective: f64,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let mix = Mix {
        defective: arguments.defective,
        two_defects: 0.45,
        illegible: arguments.illegible,
        empty: arguments.empty,
        crowded: arguments.crowded,
        rust: 0.0,
    };
    let temporary = format!("{}.pictures.part", arguments.name);
    let mut pictures = BufWriter::new(File::create(&temporary)?);
    let mut patches = BufWriter::new(File::create(format!("{}.patches", arguments.name))?);
    let mut truths = BufWriter::new(File::create(format!("{}.jsonl", arguments.name))?);
    for index in 0..arguments.count {
        let drawn = picture(arguments.seed, index, &mix);
        let mut rng = ChaCha8Rng::seed_from_u64(arguments.seed ^ 0x1bad_c0de);
        rng.set_stream(index);
        let pixels = match rng.random_bool(0.5) {
            true => through_jpeg(&drawn.pixels.data, rng.random_range(85..=95))?,
            false => drawn.pixels.data.clone(),
        };
        pictures.write_all(&pixels)?;
        patches.write_all(&patch_labels(&drawn))?;
        writeln!(truths, "{}", serde_json::to_string(&drawn.truth)?)?;
    }
    patches.flush()?;
    truths.flush()?;
    pictures.flush()?;
    // The pictures appear under their name when all three files are complete.
    Ok(fs::rename(&temporary, format!("{}.pictures", arguments.name))?)
}

/// Codes and decodes a picture.
fn through_jpeg(rgb: &[u8], quality: u8) -> anyhow::Result<Vec<u8>> {
    let mut coded = Vec::new();
    let mut encoder = JpegEncoder::new_with_quality(&mut coded, quality);
    encoder.encode(rgb, PICTURE_SIDE, PICTURE_SIDE, ExtendedColorType::Rgb8)?;
    let decoder = JpegDecoder::new(std::io::Cursor::new(coded))?;
    Ok(DynamicImage::from_decoder(decoder)?.into_rgb8().into_raw())
}

/// Labels of all patches, head by head, patches row by row.
fn patch_labels(drawn: &Picture) -> Vec<u8> {
    let mut labels = vec![0; HEADS * GRID * GRID];
    for row in 0..GRID {
        for column in 0..GRID {
            for (head, value) in patch_label(drawn, row, column).into_iter().enumerate() {
                labels[(head * GRID + row) * GRID + column] = value;
            }
        }
    }
    labels
}

/// Glyph and place at the patch's middle; defect and screw where they cover enough of the patch.
fn patch_label(drawn: &Picture, row: usize, column: usize) -> [u8; HEADS] {
    let mark = |y: usize, x: usize| drawn.marks[(row * PATCH + y) * SIDE + column * PATCH + x];
    let middle = mark(PATCH / 2, PATCH / 2);
    let all = || (0..PATCH * PATCH).map(|i| mark(i / PATCH, i % PATCH));
    let (mut class, mut severity, mut location) = (0, 0, 0);
    // A crowded plate has at most 4 defects and 4 holes.
    for number in 1..=drawn.flaws.len() as u8 {
        let covered = all().filter(|m: &Mark| m.flaw == number).count();
        let flaw = drawn.flaws[usize::from(number) - 1];
        let thin = matches!(flaw.class, Class::Scratch | Class::Crack);
        let enough = if thin { 6 } else { 49 };
        if covered >= enough {
            class = flaw.class as u8 + 1;
            severity = flaw.severity as u8 + 1;
            location = flaw.location as u8 + 1;
        } else if covered > 0 && class == 0 {
            class = IGNORE;
        }
    }
    let most = |screw: u8| all().filter(|m| m.screw == screw).count() >= 47;
    let screw = if most(EMPTY_HOLE) { EMPTY_HOLE } else { u8::from(most(SCREW)) * SCREW };
    [middle.glyph, middle.place, class, severity, location, screw]
}
