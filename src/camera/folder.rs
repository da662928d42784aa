//! A folder of pictures as a camera: for labelled sets, replays and tests.

use std::io::{Cursor, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::CameraError;
use super::slot::Slot;
use crate::frame::Rgb8;

/// What a picture's name may end in.
const EXTENSIONS: [&str; 4] = ["png", "jpg", "jpeg", "bmp"];

/// A picture may have this many pixels a side, and need this many bytes while it is decoded. A
/// damaged head must not ask for all the memory there is.
const SIDE_MAX_PX: u32 = 16_384;
const DECODE_MAX_BYTES: u64 = 1 << 30;

/// A picture's file may have this many bytes.
const FILE_MAX_BYTES: u64 = 1 << 28;

/// Some cameras write a little behind a JPEG's end; it is looked for in this many last bytes.
const JPEG_TAIL_BYTES: usize = 4096;

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
            (Err(reason), _) => slot.lose_when_told(reason),
        };
        if !goes_on {
            return;
        }
    }
}

fn read(path: &Path) -> Result<Rgb8, String> {
    let failed = |why: String| format!("picture {} passed over: {why}", path.display());
    let bytes = read_bounded(path).map_err(|error| failed(error.to_string()))?;
    if is_torn_jpeg(&bytes) {
        return Err(failed(
            "it is a JPEG without an end; it was not written to the end".to_owned(),
        ));
    }
    let mut reader = image::ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|error| failed(error.to_string()))?;
    let mut limits = image::Limits::default();
    limits.max_image_width = Some(SIDE_MAX_PX);
    limits.max_image_height = Some(SIDE_MAX_PX);
    limits.max_alloc = Some(DECODE_MAX_BYTES);
    reader.limits(limits);
    let picture = reader.decode().map_err(|error| failed(error.to_string()))?.into_rgb8();
    let (width, height) = picture.dimensions();
    Rgb8::from_data(width, height, picture.into_raw())
        .ok_or_else(|| failed("its size does not fit its bytes".to_owned()))
}

fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(FILE_MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_MAX_BYTES {
        let why = format!("the file is larger than {} MiB", FILE_MAX_BYTES >> 20);
        return Err(std::io::Error::other(why));
    }
    Ok(bytes)
}

/// Whether a JPEG lacks its end marker. The decoder would fill the missing part with grey and say
/// nothing, and half a picture must not be inspected.
fn is_torn_jpeg(bytes: &[u8]) -> bool {
    let tail = &bytes[bytes.len().saturating_sub(JPEG_TAIL_BYTES)..];
    bytes.starts_with(&[0xff, 0xd8]) && !tail.windows(2).any(|pair| pair == [0xff, 0xd9])
}
