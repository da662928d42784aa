//! `calibration`: what is known of the station's camera.

use std::sync::Arc;

use toml::Spanned;

use super::super::reader::Reader;
use crate::calibration::InUse;
use crate::camera;
use crate::roi::Region;
use crate::vlm::Digest;

/// Reads `calibration = "FILE"` and prepares it for `regions`, the station's. Held against the size of
/// the camera's frames, where the file says that.
pub fn read(
    top: &mut Reader<'_>,
    regions: &[Region],
    camera: Option<&camera::Options>,
) -> Option<Arc<InUse>> {
    let path = top.path("calibration")?;
    let in_use = match InUse::load(path.get_ref(), regions) {
        Ok(in_use) => in_use,
        Err(why) => {
            note(top, &path, why.to_string());
            return None;
        }
    };
    // Its pictures are held against the digests that stand in it.
    if let Some(digest) = Digest::parse(&in_use.digest) {
        top.note_file(path.get_ref(), digest);
    }
    let [width, height] = in_use.calibration.frame_px;
    let wished = camera.map(|camera| (camera.width_px, camera.height_px));
    if let Some((across, down)) = wished
        && (across.is_some_and(|side| side != width) || down.is_some_and(|side| side != height))
    {
        let side = |side: Option<u32>| side.map_or("?".to_owned(), |side| side.to_string());
        let title = format!(
            "the calibration is for frames of {width}x{height} px, and the camera is asked for {}x{}",
            side(across),
            side(down)
        );
        let remedy = "set width_px and height_px back, or calibrate with this resolution";
        top.error(path.span(), title, remedy);
    }
    Some(Arc::new(in_use))
}

/// The same calibration for the regions of another recipe.
pub fn for_recipe(
    top: &Reader<'_>,
    station: Option<&Arc<InUse>>,
    regions: &[Region],
) -> Option<Arc<InUse>> {
    match station?.for_regions(regions) {
        Ok(in_use) => Some(Arc::new(in_use)),
        Err(why) => {
            let remedy = "correct the regions of this recipe, or the station's calibration";
            top.error(
                top.span(),
                format!("the calibration does not serve this recipe: {why}"),
                remedy,
            );
            None
        }
    }
}

fn note(top: &Reader<'_>, path: &Spanned<std::path::PathBuf>, why: String) {
    // What went wrong ends in its remedy; the report wants it apart.
    let (title, remedy) = why.rsplit_once("; ").unwrap_or((&why, "correct the calibration"));
    top.error(path.span(), format!("cannot use this calibration: {title}"), remedy);
}
