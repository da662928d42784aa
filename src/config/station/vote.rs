//! `[vote]`: several frames of one part.

use toml::Spanned;

use super::super::reader::Reader;
use crate::station::Vote;
use crate::trigger;

/// Most frames of one part: each is asked about.
const FRAMES_MAX: i64 = 9;

/// Reads the table; without it one frame decides. The trigger then keeps so many frames of each part.
pub fn read(mut table: Reader<'_>, trigger: Option<&mut trigger::Options>) -> Vote {
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
    if let Some(trigger) = trigger {
        keep_frames(&table, &frames, trigger);
    }
    let agree = agree.map_or(half, |agree| agree.into_inner().clamp(half, count));
    table.finish();
    Vote { frames: count as usize, agree: agree as usize }
}

fn keep_frames(table: &Reader<'_>, frames: &Spanned<i64>, trigger: &mut trigger::Options) {
    let count = *frames.get_ref() as usize;
    let burst = match trigger {
        trigger::Options::Presence(options) => &mut options.burst_frames,
        trigger::Options::Command(options) => &mut options.burst_frames,
        trigger::Options::PhotoEye(options) => &mut options.burst_frames,
        trigger::Options::EveryFrame | trigger::Options::Interval { .. } => {
            let title = "frames vote, and nothing says which of them show the same part";
            let remedy =
                "use a trigger that knows parts (presence, command, photo_eye), or remove [vote]";
            table.error(table.span(), title, remedy);
            return;
        }
    };
    if *burst > 1 && *burst < count {
        let title = format!("{count} frames vote, and the trigger keeps {burst} of each part");
        let remedy = format!("set `burst_frames` of [trigger] to {count} or more, or leave it out");
        table.error(frames.span(), title, remedy);
    }
    *burst = (*burst).max(count);
}
