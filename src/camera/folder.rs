//! A folder of pictures as a camera: for labelled sets, replays and tests.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::slot::Slot;
use super::{CameraError, LossKind};
use crate::frame::{Rgb8, file};

/// What a picture's name may end in.
const EXTENSIONS: [&str; 4] = ["png", "jpg", "jpeg", "bmp"];

/// The folder's pictures, in the order of their names.
pub(super) fn list(camera: &str, folder: &Path) -> Result<Vec<PathBuf>, CameraError> {
    let unusable = |source: std::io::Error| CameraError::Unusable {
        camera: camera.to_owned(),
        what: "folder",
        path: folder.to_owned(),
        advice: match source.kind() {
            ErrorKind::PermissionDenied => "let the user of the service read it",
            _ => "correct the path, or create the folder",
        },
        source,
    };
    let mut pictures = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unusable)? {
        let path = entry.map_err(unusable)?.path();
        if is_picture(&path) && path.is_file() {
            pictures.push(path);
        }
    }
    if pictures.is_empty() {
        let (camera, path) = (camera.to_owned(), folder.to_owned());
        return Err(CameraError::NoPictures { camera, path });
    }
    pictures.sort();
    Ok(pictures)
}

fn is_picture(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or("");
    EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known))
}

/// Starts the thread that reads `pictures`.
pub(super) fn start(
    camera: &str,
    pictures: Vec<PathBuf>,
    interval: Option<Duration>,
    slot: &Arc<Slot>,
) -> Result<(), CameraError> {
    let thread_slot = Arc::clone(slot);
    std::thread::Builder::new()
        .name(format!("camera {camera}"))
        .spawn(move || {
            show(&pictures, interval, &thread_slot);
            thread_slot.finish();
        })
        .map(drop)
        .map_err(|error| CameraError::Start {
            camera: camera.to_owned(),
            what: "the thread that reads the folder",
            why: error.to_string(),
        })
}

/// Shows the pictures one after the other. A picture that cannot be read is told and passed over:
/// a set of ten thousand must not end at its one torn file.
fn show(pictures: &[PathBuf], interval: Option<Duration>, slot: &Slot) {
    for (i, path) in pictures.iter().enumerate() {
        if i > 0 && interval.is_some_and(|interval| slot.pause(interval)) {
            return;
        }
        let goes_on = match (read(path), interval) {
            (Ok(picture), None) => slot.put_when_free(picture, None),
            (Ok(picture), Some(_)) => {
                slot.put(picture, None);
                !slot.is_stopped()
            }
            (Err(reason), _) => slot.lose_when_told(LossKind::Failed, reason),
        };
        if !goes_on {
            return;
        }
    }
}

fn read(path: &Path) -> Result<Rgb8, String> {
    file::read(path).map_err(|why| format!("picture {} passed over: {why}", path.display()))
}
