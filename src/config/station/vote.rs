//! `[vote]`: several frames of one part.

use super::super::reader::Reader;
use crate::station::Vote;

/// Most frames of one part: each is asked about.
const FRAMES_MAX: i64 = 9;

/// Reads the table; without it one frame decides.
pub fn read(mut table: Reader<'_>) -> Vote {
    if !table.is_present() {
        return Vote::default();
    }
    let frames = table.whole("frames", 2..=FRAMES_MAX);
    let frames = table.required("frames", frames, "frames = 3");
    let agree = table.whole("agree", 2..=FRAMES_MAX);
    let Some(frames) = frames else {
        table.finish();
        return Vote::default();
    };
    let count = *frames.get_ref();
    let half = count / 2 + 1;
    if let Some(agree) = &agree
        && !(half..=count).contains(agree.get_ref())
    {
        let title = format!("{} of {count} frames cannot agree", agree.get_ref());
        let remedy =
            format!("write {half} to {count}: more than half of them, so that one answer wins");
        table.error(agree.span(), title, remedy);
    }
    let agree = agree.map_or(half, |agree| agree.into_inner().clamp(half, count));
    table.finish();
    Vote { frames: count as usize, agree: agree as usize }
}
