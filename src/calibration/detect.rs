//! The target in a picture: corners, and which is which.
//!
//! A plain checkerboard has no first corner. That does no harm: a lens, and the scale of a plane, are
//! the same from wherever the squares are counted. So a part of the target is enough, too.

use std::path::{Path, PathBuf};

use calib_targets_chessboard::{
    ChessboardDetector, ChessboardParams, GrayImageView, default_chess_config, detect_corners,
};
use chess_corners::ImageRefiner;

use super::CalibrationError;
use super::homography::Match;
use crate::frame::{Rgb8, file};

/// Fewest corners of a picture that counts: four by four.
pub const CORNERS_MIN: usize = 16;
/// Most pictures of one folder: what is more was not meant.
const PICTURES_MAX: usize = 200;

/// The corners of the target in `picture`, whose squares have sides of `square_mm`. `file` names the
/// picture in messages.
///
/// # Errors
/// [`CalibrationError::Target`] where there is no target, or too little of it.
pub fn corners(picture: &Rgb8, file: &str, square_mm: f64) -> Result<Vec<Match>, CalibrationError> {
    let refuse = |problem: String| CalibrationError::Target { file: file.to_owned(), problem };
    let grey: Vec<u8> = picture.data.chunks_exact(3).map(luma).collect();
    let (width, height) = (picture.width as usize, picture.height as usize);
    let view = GrayImageView { width, height, data: &grey };
    let config = default_chess_config().with_refiner(ImageRefiner::saddle_point());
    let seen = detect_corners(&view, &config);
    let detector = ChessboardDetector::new(ChessboardParams::default())
        .map_err(|why| refuse(why.to_string()))?;
    let Some(board) = detector.detect(&seen) else {
        return Err(refuse(format!(
            "no checkerboard was found ({} corners of any kind)",
            seen.len()
        )));
    };
    if board.corners.len() < CORNERS_MIN {
        let problem =
            format!("{} corners were found, {CORNERS_MIN} are needed", board.corners.len());
        return Err(refuse(problem));
    }
    let matched = board.corners.iter().map(|corner| Match {
        board_mm: [f64::from(corner.grid.u) * square_mm, f64::from(corner.grid.v) * square_mm],
        pixel: [f64::from(corner.position.x), f64::from(corner.position.y)],
    });
    Ok(matched.collect())
}

fn luma(pixel: &[u8]) -> u8 {
    let [r, g, b] = [pixel[0], pixel[1], pixel[2]].map(u32::from);
    ((r * 77 + g * 150 + b * 29 + 128) >> 8) as u8
}

/// The pictures of a folder, by their names.
///
/// # Errors
/// [`CalibrationError::File`] for a folder that cannot be read, holds none, or far too many.
pub fn pictures(folder: &Path) -> Result<Vec<PathBuf>, CalibrationError> {
    let refuse = |problem: String| CalibrationError::File {
        path: folder.to_owned(),
        problem,
        remedy: "give a folder with PNG, JPEG or BMP pictures and nothing else of that kind"
            .to_owned(),
    };
    let is_picture = |path: &PathBuf| {
        let kind = path.extension().map(|kind| kind.to_string_lossy().to_lowercase());
        kind.is_some_and(|kind| ["png", "jpg", "jpeg", "bmp"].contains(&kind.as_str()))
    };
    let entries = std::fs::read_dir(folder).map_err(|why| refuse(why.to_string()))?;
    let mut found: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(is_picture).collect();
    if found.is_empty() {
        return Err(refuse("there is no picture in this folder".to_owned()));
    }
    if found.len() > PICTURES_MAX {
        return Err(refuse(format!("{} pictures, {PICTURES_MAX} at most", found.len())));
    }
    found.sort();
    Ok(found)
}

/// Reads one picture, which must have the size `wanted` if there is one.
///
/// # Errors
/// A picture that is torn or of another size.
pub fn read(path: &Path, wanted: Option<[u32; 2]>) -> Result<Rgb8, CalibrationError> {
    let name = || path.display().to_string();
    let picture =
        file::read(path).map_err(|why| CalibrationError::Picture { file: name(), why })?;
    let found = [picture.width, picture.height];
    match wanted {
        Some(wanted) if wanted != found => {
            Err(CalibrationError::Size { file: name(), found, wanted })
        }
        _ => Ok(picture),
    }
}
