//! `golden` of a question: a picture of a good part, shown first.

use std::sync::Arc;

use super::super::file::FILE_MAX_BYTES;
use super::super::reader::Reader;
use super::region::Named;
use crate::frame;
use crate::roi::CROP_SIDE_PX;
use crate::station::Golden;
use crate::vlm::Digest;

/// Reads `golden = "FILE"` of a question about the regions `shown`.
pub fn read(table: &mut Reader<'_>, shown: Option<&[String]>, regions: &[Named]) -> Option<Golden> {
    let path = table.path("golden")?;
    let shown = shown?;
    if shown.len() > 1 {
        let title = format!("{} compares {} regions with a good part", table.name(), shown.len());
        let remedy = "ask about one region: there is one picture of a good part in a prompt";
        table.error(path.span(), title, remedy);
        return None;
    }
    let refuse = |why: String| {
        let title = format!("cannot use the good part in {}: {why}", path.get_ref().display());
        let remedy = "name a picture of a frame (\"inspectd camera snapshot\" takes one), or a \
                      region's picture from the evidence";
        table.error(path.span(), title, remedy);
    };
    let bytes = table.read_bytes(path.get_ref(), FILE_MAX_BYTES).map_err(refuse).ok()?;
    let digest = Digest::of(&bytes).to_string();
    let picture = frame::file::decode(bytes).map_err(refuse).ok()?;
    let is_crop = (picture.width, picture.height) == (CROP_SIDE_PX, CROP_SIDE_PX);
    let is_tiled = |named: &Named| shown.contains(named.name.get_ref()) && !named.tiles.is_empty();
    if is_crop && regions.iter().any(is_tiled) {
        refuse("a region with tiles needs the whole frame of a good part".to_owned());
        return None;
    }
    let outside = shown.iter().filter_map(|name| {
        let named = regions.iter().find(|known| known.name.get_ref() == name)?;
        named.cuts().iter().find_map(|cut| cut.rect_in(picture.width, picture.height).err())
    });
    if let Some(why) = outside.take(usize::from(!is_crop)).next() {
        refuse(why.to_string());
        return None;
    }
    Some(Golden { picture: Arc::new(picture), digest, is_crop })
}
