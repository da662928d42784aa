//! `calibration/<station>.toml` and the pictures beside it.
//!
//! The file is written whole, with a comment at each value, and read again by the same types. The
//! pictures' digests stand in it, so its own SHA-256 names all of the calibration: that is what records
//! carry. Where pictures lie is said from the file's folder.

use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::CalibrationError;
use super::align::{self, Fiducial};
use super::flat::GainMap;
use super::lens::Lens;
use super::plane::Plane;
use crate::frame::{Rgb8, file};
use crate::provenance;
use crate::quality::SavedReferences;
use crate::roi::RectPx;

/// The version of the file's form.
pub const SCHEMA_VERSION: u32 = 1;
/// Largest file that is read, in bytes.
const FILE_MAX_BYTES: u64 = 256 << 10;
/// Most reference pictures: as many as regions of a station and its recipes may be.
const REFERENCES_MAX: usize = 1024;

/// What is known of a station's camera.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// [`SCHEMA_VERSION`] when it was written.
    pub schema_version: u32,
    /// The station.
    pub station: String,
    /// Width and height of the frames that it is for.
    pub frame_px: [u32; 2],
    /// The lens.
    #[serde(default)]
    pub lens: Option<MeasuredLens>,
    /// The plane of the belt, and its scale.
    #[serde(default)]
    pub plane: Option<Plane>,
    /// The light.
    #[serde(default)]
    pub flat: Option<MeasuredFlat>,
    /// The fiducial with which regions move.
    #[serde(default)]
    pub alignment: Option<Alignment>,
    /// How regions and fixed areas look when all is well: the station's `[quality] reference`.
    #[serde(default)]
    pub quality: SavedReferences,
}

/// The lens and how well it is known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeasuredLens {
    /// When it was measured.
    pub measured: jiff::Timestamp,
    /// Focal length across and down, in pixels.
    pub focal_px: [f64; 2],
    /// Where the axis meets the picture, in pixels.
    pub centre_px: [f64; 2],
    /// k1 and k2.
    pub radial: [f64; 2],
    /// p1 and p2.
    pub tangential: [f64; 2],
    /// Standard deviation of the focal lengths, in pixels.
    pub focal_deviation_px: [f64; 2],
    /// Standard deviation of lengths in the straightened picture, where it is worst, in percent.
    pub scale_deviation_percent: f64,
    /// Root mean square distance of the corners, in pixels.
    pub rms_px: f64,
    /// Pictures that it is from.
    pub pictures: usize,
    /// Corners in them.
    pub corners: usize,
}

/// The light and where its map lies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeasuredFlat {
    /// When it was measured.
    pub measured: jiff::Timestamp,
    /// Level of darkness of red, green and blue, in values of the picture.
    pub dark: [f32; 3],
    /// How far the darkest part of the frame is below the brightest, in percent.
    pub falloff_percent: f64,
    /// Unevenness after the correction, in percent.
    pub residual_percent: f64,
    /// Pictures that it is from.
    pub pictures: usize,
    /// The map's file.
    pub gain_file: String,
    /// Its SHA-256.
    pub gain_sha256: String,
}

/// The fiducial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alignment {
    /// x, y, width and height on the reference picture, in pixels of the corrected frame.
    pub fiducial_px: [u32; 4],
    /// How far it is looked for.
    pub search_px: u32,
    /// The least likeness that counts as found, 0 to 1.
    pub likeness_min: f64,
    /// The fiducial's picture.
    pub file: String,
    /// Its SHA-256.
    pub sha256: String,
}

impl MeasuredLens {
    /// The lens itself.
    pub fn lens(&self) -> Lens {
        Lens {
            focal_px: self.focal_px,
            centre_px: self.centre_px,
            radial: self.radial,
            tangential: self.tangential,
        }
    }
}

/// A calibration with its pictures.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// What the file says.
    pub calibration: Calibration,
    /// SHA-256 of the file, in hexadecimal.
    pub digest: String,
    /// The light's map.
    pub gain: Option<GainMap>,
    /// The fiducial.
    pub fiducial: Option<Fiducial>,
}

impl Calibration {
    /// One that says nothing yet.
    pub fn new(station: &str, frame_px: [u32; 2]) -> Calibration {
        Calibration {
            schema_version: SCHEMA_VERSION,
            station: station.to_owned(),
            frame_px,
            lens: None,
            plane: None,
            flat: None,
            alignment: None,
            quality: SavedReferences::default(),
        }
    }

    /// Reads the file at `path`, without its pictures.
    ///
    /// # Errors
    /// [`CalibrationError::File`]: absent, not of this form, numbers that cannot be.
    pub fn read(path: &Path) -> Result<Calibration, CalibrationError> {
        read_text(path).and_then(|text| parse(path, &text))
    }

    /// Writes the file at `path`, whole or not at all.
    ///
    /// # Errors
    /// [`CalibrationError::File`].
    pub fn write(&self, path: &Path) -> Result<(), CalibrationError> {
        write_bytes(path, self.text().as_bytes())
    }

    /// Whether it holds references of regions or of fixed areas.
    pub fn has_references(&self) -> bool {
        !(self.quality.region.is_empty() && self.quality.fixed.is_empty())
    }

    /// The file's text.
    fn text(&self) -> String {
        let mut out = String::from(HEAD);
        let mut line = |text: String| out.push_str(&(text + "\n"));
        line(format!("schema_version = {}", self.schema_version));
        line(format!("station = {:?}", self.station));
        line(format!("frame_px = {:?}          # for frames of this size only", self.frame_px));
        self.lens.iter().for_each(|lens| line(lens_text(lens)));
        self.plane.iter().for_each(|plane| line(plane_text(plane)));
        self.flat.iter().for_each(|flat| line(flat_text(flat)));
        self.alignment.iter().for_each(|alignment| line(alignment_text(alignment)));
        if self.has_references() {
            line(quality_text(&self.quality));
        }
        out
    }
}

const HEAD: &str = "\
# What `inspectd calibrate` measured of this station's camera. Written by the program: each step replaces
# its own part. A camera or a lens that was moved, or a zoom or focus that was turned, is to be measured
# again. Every record names this file by its SHA-256.

";

fn lens_text(lens: &MeasuredLens) -> String {
    let mut out = String::from(
        "\n# The lens: a pinhole with two radial and two tangential terms (Brown, Conrady).\n[lens]\n",
    );
    let MeasuredLens { measured, focal_px, centre_px, radial, tangential, .. } = lens;
    let mut line = |text: String| out.push_str(&(text + "\n"));
    line(format!("measured = \"{measured}\""));
    line(format!("focal_px = {focal_px:?}     # across, down"));
    line(format!(
        "centre_px = {centre_px:?}   # where the axis meets the picture; (0, 0) is the first pixel's centre"
    ));
    line(format!("radial = {radial:?}         # k1, k2; negative bends outwards: a barrel"));
    line(format!("tangential = {tangential:?} # p1, p2; a lens askew to the sensor"));
    line(format!("focal_deviation_px = {:?}   # one standard deviation", lens.focal_deviation_px));
    line(format!(
        "scale_deviation_percent = {:?} # of lengths, where it is worst in the frame",
        lens.scale_deviation_percent
    ));
    line(format!(
        "rms_px = {:?}               # corners seen against corners computed",
        lens.rms_px
    ));
    line(format!("pictures = {}", lens.pictures));
    line(format!("corners = {}", lens.corners));
    out
}

fn plane_text(plane: &Plane) -> String {
    let mut out = String::from(
        "\n# The plane in which the parts lie. Regions are rectangles of the corrected frame, which shows it\n\
         # squarely and at one scale.\n[plane]\n",
    );
    let mut line = |text: String| out.push_str(&(text + "\n"));
    line(format!("measured = \"{}\"", plane.measured));
    line(format!(
        "to_straight = {:?}          # pixel of the corrected frame to pixel without distortion, 3 x 3",
        plane.to_straight
    ));
    line(format!("px_per_mm = {:?}", plane.px_per_mm));
    line(format!(
        "px_per_mm_uncertainty = {:?} # three standard deviations, where it is worst",
        plane.px_per_mm_uncertainty
    ));
    line(format!("rms_px = {:?}               # corners seen against a flat grid", plane.rms_px));
    line(format!(
        "tilt_percent = {:?}         # by how much the scale differs over the camera's own frame",
        plane.tilt_percent
    ));
    line(format!("corners = {}", plane.corners));
    out
}

fn flat_text(flat: &MeasuredFlat) -> String {
    let mut out = String::from("\n# The light: value = (value - dark) * gain.\n[flat]\n");
    let mut line = |text: String| out.push_str(&(text + "\n"));
    line(format!("measured = \"{}\"", flat.measured));
    line(format!(
        "dark = {:?}                 # red, green, blue without light, of 255",
        flat.dark
    ));
    line(format!(
        "falloff_percent = {:?}      # the darkest part of the frame below the brightest",
        flat.falloff_percent
    ));
    line(format!(
        "residual_percent = {:?}     # what is left of it after the correction, root mean square",
        flat.residual_percent
    ));
    line(format!("pictures = {}", flat.pictures));
    line(format!(
        "gain_file = {:?}            # 16 bits a channel, in units of 1/8192, over the whole frame",
        flat.gain_file
    ));
    line(format!("gain_sha256 = {:?}", flat.gain_sha256));
    out
}

fn alignment_text(alignment: &Alignment) -> String {
    let mut out = String::from(
        "\n# The mark by which regions move with the part. May be changed by hand.\n[alignment]\n",
    );
    let mut line = |text: String| out.push_str(&(text + "\n"));
    line(format!(
        "fiducial_px = {:?}          # x, y, width, height in the corrected frame",
        alignment.fiducial_px
    ));
    line(format!(
        "search_px = {}              # a part further away goes to review",
        alignment.search_px
    ));
    line(format!(
        "likeness_min = {:?}         # 0 to 1; less goes to review",
        alignment.likeness_min
    ));
    line(format!("file = {:?}", alignment.file));
    line(format!("sha256 = {:?}", alignment.sha256));
    out
}

fn quality_text(quality: &SavedReferences) -> String {
    #[derive(Serialize)]
    struct Part<'a> {
        quality: &'a SavedReferences,
    }
    let tables = toml::to_string(&Part { quality }).expect("texts and finite numbers are TOML");
    format!("\n# How regions and fixed areas look when all is well.\n{tables}")
}

/// Reads a calibration with its pictures, each held against its digest.
///
/// # Errors
/// [`CalibrationError::File`] naming the file that is wrong.
pub fn load(path: &Path) -> Result<Kept, CalibrationError> {
    let text = read_text(path)?;
    let calibration = parse(path, &text)?;
    let dir = path.parent().unwrap_or(Path::new(""));
    let gain = calibration.flat.as_ref().map(|flat| {
        let (file, bytes) = proven(dir, &flat.gain_file, &flat.gain_sha256)?;
        let map = GainMap::from_png(&bytes, calibration.frame_px);
        map.map_err(|why| refuse(&file, why, "measure it again: inspectd calibrate flat"))
    });
    let fiducial = calibration.alignment.as_ref().map(|alignment| fiducial(dir, alignment));
    let (gain, fiducial) = (gain.transpose()?, fiducial.transpose()?);
    Ok(Kept { digest: sha256(text.as_bytes()), calibration, gain, fiducial })
}

fn fiducial(dir: &Path, alignment: &Alignment) -> Result<Fiducial, CalibrationError> {
    let (path, bytes) = proven(dir, &alignment.file, &alignment.sha256)?;
    let again = "make it again: inspectd calibrate reference --fiducial";
    let picture = file::decode(bytes).map_err(|why| refuse(&path, why, again))?;
    let [x, y, width, height] = alignment.fiducial_px;
    let rect = RectPx { x, y, width, height };
    Fiducial::new(&picture, rect, alignment.search_px, alignment.likeness_min)
        .map_err(|why| refuse(&path, why.to_string(), again))
}

/// A picture of a calibration, of which the digest is right.
fn proven(dir: &Path, name: &str, digest: &str) -> Result<(PathBuf, Vec<u8>), CalibrationError> {
    let path = dir.join(name);
    let is_inside = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    if !is_inside {
        return Err(refuse(
            &path,
            "a picture must lie below the calibration's folder",
            "correct its name",
        ));
    }
    let bytes = file::read_bounded(&path);
    let bytes = bytes.map_err(|why| {
        refuse(
            &path,
            why.to_string(),
            "copy the calibration with its pictures, or measure it again",
        )
    })?;
    if sha256(&bytes) != digest {
        let problem = "it is not the picture that was measured: its SHA-256 differs";
        return Err(refuse(&path, problem, "put the right one back, or measure it again"));
    }
    Ok((path, bytes))
}

fn parse(path: &Path, text: &str) -> Result<Calibration, CalibrationError> {
    let again = "measure it again: inspectd calibrate --help";
    let calibration: Calibration = toml::from_str(text).map_err(|why| {
        let line =
            why.span().map_or(1, |span| text[..span.start.min(text.len())].lines().count().max(1));
        refuse(path, format!("line {line}: {}", why.message()), again)
    })?;
    if calibration.schema_version != SCHEMA_VERSION {
        let problem = format!(
            "`schema_version` is {}; this program knows {SCHEMA_VERSION}",
            calibration.schema_version
        );
        return Err(refuse(path, problem, "install the program that wrote it, or measure again"));
    }
    let [width, height] = calibration.frame_px;
    let sides = align::SIDE_MIN_PX..=file::SIDE_MAX_PX;
    let numbers = [
        ("frame_px", sides.contains(&width) && sides.contains(&height)),
        ("[lens]", calibration.lens.as_ref().is_none_or(|lens| lens.lens().is_sane())),
        (
            "[lens] scale_deviation_percent",
            calibration
                .lens
                .as_ref()
                .is_none_or(|lens| (0.0..100.0).contains(&lens.scale_deviation_percent)),
        ),
        ("[plane]", calibration.plane.as_ref().is_none_or(Plane::is_sane)),
        (
            "[flat] dark",
            calibration
                .flat
                .as_ref()
                .is_none_or(|flat| flat.dark.iter().all(|level| (0.0..=255.0).contains(level))),
        ),
        (
            "[quality]",
            calibration.quality.region.len() + calibration.quality.fixed.len() <= REFERENCES_MAX,
        ),
        (
            "[alignment] fiducial_px",
            calibration.alignment.as_ref().is_none_or(|alignment| {
                let [x, y, w, h] = alignment.fiducial_px;
                x.checked_add(w).is_some_and(|x| x <= width)
                    && y.checked_add(h).is_some_and(|y| y <= height)
            }),
        ),
    ];
    match numbers.iter().find(|(_, is_good)| !is_good) {
        Some((what, _)) => Err(refuse(path, format!("{what} holds what cannot be"), again)),
        None => Ok(calibration),
    }
}

fn read_text(path: &Path) -> Result<String, CalibrationError> {
    provenance::read_text(path, FILE_MAX_BYTES).map_err(|why| {
        let why =
            std::error::Error::source(&why).map_or_else(|| why.to_string(), ToString::to_string);
        let remedy =
            "make it with inspectd calibrate, or take `calibration` out of the station file";
        refuse(path, why, remedy)
    })
}

/// Writes a picture beside a calibration and answers its SHA-256. `name` is as in the file.
///
/// # Errors
/// [`CalibrationError::File`].
pub fn write_picture(
    calibration: &Path,
    name: &str,
    bytes: &[u8],
) -> Result<String, CalibrationError> {
    let dir = calibration.parent().unwrap_or(Path::new(""));
    write_bytes(&dir.join(name), bytes)?;
    Ok(sha256(bytes))
}

/// The picture as the bytes of a PNG.
pub fn png(picture: &Rgb8) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    let kind = image::ColorType::Rgb8;
    image::write_buffer_with_format(
        &mut bytes,
        &picture.data,
        picture.width,
        picture.height,
        kind,
        image::ImageFormat::Png,
    )
    .expect("memory takes a picture");
    bytes.into_inner()
}

fn write_bytes(path: &Path, bytes: &[u8]) -> Result<(), CalibrationError> {
    let remedy = "make room, or let this user write there";
    if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        std::fs::create_dir_all(dir).map_err(|why| refuse(dir, why.to_string(), remedy))?;
    }
    provenance::write_whole(path, bytes).map_err(|why| refuse(path, why.to_string(), remedy))
}

fn refuse(path: &Path, problem: impl Into<String>, remedy: &str) -> CalibrationError {
    CalibrationError::File {
        path: path.to_owned(),
        problem: problem.into(),
        remedy: remedy.to_owned(),
    }
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
