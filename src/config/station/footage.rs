//! `[footage]`: the seconds around a bad part.

use std::time::Duration;

use super::super::reader::Reader;
use crate::footage::ClipOptions;
use crate::verdict::Outcome;

/// Longest time before or after a part, in seconds.
const SECONDS: std::ops::RangeInclusive<f64> = 0.0..=120.0;

/// Longest that a clip is kept by a number, in days: a hundred years.
const DAYS_MAX: i64 = 36_500;

/// Reads the table; `None` without it: nothing is kept.
pub fn read(mut table: Reader<'_>) -> Option<ClipOptions> {
    let is_wanted = table.is_present();
    let mut options = ClipOptions::default();
    let mut seconds = |key, target: &mut Duration| {
        if let Some(seconds) = table.number(key, SECONDS) {
            *target = Duration::from_secs_f64(seconds.into_inner());
        }
    };
    seconds("before_s", &mut options.before);
    seconds("after_s", &mut options.after);
    if let Some(rate) = table.number("frames_per_s", 0.1..=1000.0) {
        options.frames_per_s = rate.into_inner();
    }
    let mut bytes = |key, most, target: &mut u64| {
        if let Some(mib) = table.whole(key, 1..=most) {
            *target = (mib.into_inner() as u64) << 20;
        }
    };
    bytes("memory_mib", 16_384, &mut options.memory_bytes);
    bytes("max_mib", 1 << 30, &mut options.max_bytes);
    bytes("keep_free_mib", 1 << 30, &mut options.keep_free_bytes);
    if let Some(days) = table.whole("max_days", 1..=DAYS_MAX) {
        options.max_age = Some(Duration::from_secs(days.into_inner() as u64 * 86_400));
    }
    if let Some(verdicts) = table.texts("verdicts", 3, 16) {
        options.verdicts.clear();
        for text in verdicts.into_inner() {
            let known = [Outcome::Pass, Outcome::Fail, Outcome::Review];
            match known.into_iter().find(|known| known.as_str() == text.get_ref()) {
                Some(verdict) => options.verdicts.push(verdict),
                None => {
                    let title = format!("`verdicts` cannot hold \"{}\"", text.get_ref());
                    let remedy = "choose from \"fail\", \"review\" and \"pass\"";
                    table.error(text.span(), title, remedy);
                }
            }
        }
    }
    if is_wanted && !cfg!(feature = "gst") {
        let title = "this program has no GStreamer, which keeps footage";
        table.error(table.span(), title, "remove the table, or use a program with the feature gst");
    }
    table.finish();
    is_wanted.then_some(options)
}
