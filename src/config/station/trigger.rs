//! `[trigger]`: when a frame is to be inspected.

use std::time::Duration;

use super::super::reader::Reader;
use crate::trigger::{Axis, CommandOptions, Options, PresenceOptions, WhichFrame, Window};

#[derive(Clone, Copy)]
enum Kind {
    EveryFrame,
    Interval,
    Presence,
    Command,
}

/// Reads the table. It is required: when to look is not for us to guess.
pub fn read(mut table: Reader<'_>) -> Option<Options> {
    let kinds = [
        ("every_frame", Kind::EveryFrame),
        ("interval", Kind::Interval),
        ("presence", Kind::Presence),
        ("command", Kind::Command),
    ];
    let kind = table.one_of("kind", &kinds);
    let Some(kind) = table.required("kind", kind, "kind = \"presence\"  below [trigger]") else {
        // Which other keys are right depends on the kind: nothing can be said of them.
        return None;
    };
    let options = match kind.get_ref() {
        Kind::EveryFrame => Some(Options::EveryFrame),
        Kind::Interval => {
            let every = table.whole("every_ms", 10..=86_400_000);
            let every = table.required("every_ms", every, "every_ms = 1000");
            every.map(|ms| Options::Interval {
                every: Duration::from_millis(ms.into_inner() as u64),
            })
        }
        Kind::Presence => Some(Options::Presence(read_presence(&mut table))),
        Kind::Command => Some(Options::Command(read_command(&mut table))),
    };
    if let Some(Err(why)) = options.as_ref().map(Options::check) {
        table.error(table.span(), why.to_string(), "correct the keys of [trigger]");
    }
    table.finish();
    options
}

fn read_command(table: &mut Reader<'_>) -> CommandOptions {
    let mut options = CommandOptions::default();
    let frames = [("next", WhichFrame::Next), ("newest", WhichFrame::Newest)];
    if let Some(frame) = table.one_of("frame", &frames) {
        options.frame = frame.into_inner();
    }
    if let Some(ms) = table.whole("frame_wait_ms", 10..=60_000) {
        options.wait = Duration::from_millis(ms.into_inner() as u64);
    }
    options
}

fn read_presence(table: &mut Reader<'_>) -> PresenceOptions {
    let mut options = PresenceOptions::default();
    let axes = [("horizontal", Axis::Horizontal), ("vertical", Axis::Vertical)];
    if let Some(axis) = table.one_of("axis", &axes) {
        options.axis = axis.into_inner();
    }
    if let Some(window) = table.numbers::<4>("window", 0.0..=1.0) {
        let [x, y, width, height] = window.into_inner();
        options.window = Window { x, y, width, height };
    }
    if let Some(levels) = table.whole("contrast_levels", 4..=254) {
        options.contrast_levels = levels.into_inner() as u8;
    }
    let mut share = |key, range, target: &mut f64| {
        if let Some(share) = table.number(key, range) {
            *target = share.into_inner();
        }
    };
    share("part_min_share", 0.02..=0.9, &mut options.part_min_share);
    share("gap_min_share", 0.0..=0.5, &mut options.gap_min_share);
    share("centre_tolerance_share", 0.01..=0.5, &mut options.centre_tolerance_share);
    if let Some(frames) = table.whole("settle_frames", 1..=10_000) {
        options.settle_frames = frames.into_inner() as u32;
    }
    options
}
