//! `[trigger]`: when a frame is to be inspected.

use std::time::Duration;

use super::super::reader::Reader;
use super::LINE_MAX;
use crate::trigger::burst::BURST_MAX;
use crate::trigger::photo_eye::{PARTS_MAX, Pull};
use crate::trigger::{
    Axis, CommandOptions, EncoderOptions, Options, PhotoEyeOptions, PresenceOptions, Way,
    WhichFrame, Window,
};

#[derive(Clone, Copy)]
enum Kind {
    EveryFrame,
    Interval,
    Presence,
    Command,
    PhotoEye,
}

/// Reads the table. It is required: when to look is not for us to guess.
pub fn read(mut table: Reader<'_>) -> Option<Options> {
    let kinds = [
        ("every_frame", Kind::EveryFrame),
        ("interval", Kind::Interval),
        ("presence", Kind::Presence),
        ("command", Kind::Command),
        ("photo_eye", Kind::PhotoEye),
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
        Kind::PhotoEye => read_photo_eye(&mut table).map(Options::PhotoEye),
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
    options.burst_frames = read_burst(table);
    options
}

/// Of how many frames the sharpest is inspected.
fn read_burst(table: &mut Reader<'_>) -> usize {
    let frames = table.whole("burst_frames", 1..=BURST_MAX as i64);
    frames.map_or(1, |frames| frames.into_inner() as usize)
}

fn read_photo_eye(table: &mut Reader<'_>) -> Option<PhotoEyeOptions> {
    let chip = table.path("chip");
    let chip = table.required("chip", chip, "chip = \"/dev/gpiochip0\"");
    let line = table.whole("line", 0..=LINE_MAX);
    let line = table.required("line", line, "line = 17");
    let edge = table.one_of("edge", &[("rising", true), ("falling", false)]);
    let pulls =
        [("as_is", Pull::AsIs), ("up", Pull::Up), ("down", Pull::Down), ("none", Pull::None)];
    let pull = table.one_of("pull", &pulls);
    let mut time = |key, range, default| {
        let ms = table.whole(key, range).map_or(default, |ms| ms.into_inner());
        Duration::from_millis(ms as u64)
    };
    let debounce = time("debounce_ms", 0..=1000, 2);
    let frame_within = time("frame_within_ms", 1..=10_000, 100);
    let camera_latency = time("camera_latency_ms", 0..=5000, 0);
    let parts_max = table.whole("parts_on_way", 1..=PARTS_MAX as i64);
    let burst_frames = read_burst(table);
    let way = read_way(table);
    Some(PhotoEyeOptions {
        chip: chip?.into_inner(),
        line: line?.into_inner() as u32,
        is_rising: edge.is_none_or(|edge| edge.into_inner()),
        pull: pull.map_or(Pull::AsIs, |pull| pull.into_inner()),
        debounce,
        way: way?,
        parts_max: parts_max.map_or(64, |parts| parts.into_inner() as usize),
        frame_within,
        camera_latency,
        burst_frames,
    })
}

/// The way from the eye to the camera: by time, or by an encoder.
fn read_way(table: &mut Reader<'_>) -> Option<Way> {
    let by_encoder = ["encoder_line", "mm_per_pulse", "pulses_per_mm", "distance_mm", "apart_mm"];
    let (is_timed, is_counted) = (table.has("delay_ms"), table.has("encoder_line"));
    match (is_timed, is_counted) {
        (true, true) => {
            let title =
                "`delay_ms` and `encoder_line`: the way to the camera is known by one of them";
            let remedy = "remove `delay_ms`, or `encoder_line` and what belongs to it";
            table.error(table.key_span("encoder_line"), title, remedy);
        }
        (false, false) => {
            let title = "nothing says when a part that was at the photo eye is before the camera";
            let remedy = "add a line such as  delay_ms = 850  where the belt runs at one speed, or \
                          `encoder_line` with `mm_per_pulse` and `distance_mm`";
            table.error(table.span(), title, remedy);
        }
        _ => {}
    }
    if is_counted {
        for key in ["apart_ms"].into_iter().filter(|key| table.has(key)) {
            let title = format!("`{key}` beside `encoder_line`");
            table.error(table.key_span(key), title, "the belt is measured: write `apart_mm`");
        }
    } else {
        let idle = by_encoder.into_iter().chain(["encoder_still_ms"]);
        for key in idle.filter(|key| table.has(key)) {
            let title = format!("`{key}` without `encoder_line`");
            table.error(table.key_span(key), title, "add `encoder_line`, or remove it");
        }
    }
    // All are asked for whatever the way is: a key that does not fit is not unknown.
    let delay = table.whole("delay_ms", 0..=600_000);
    let apart = table.whole("apart_ms", 0..=600_000);
    let encoder = read_encoder(table, is_counted);
    let millis = |ms: i64| Duration::from_millis(ms as u64);
    if is_counted {
        return encoder.map(Way::Encoder);
    }
    Some(Way::Time {
        delay: millis(delay?.into_inner()),
        apart: millis(apart.map_or(0, |ms| ms.into_inner())),
    })
}

fn read_encoder(table: &mut Reader<'_>, is_counted: bool) -> Option<EncoderOptions> {
    let line = table.whole("encoder_line", 0..=LINE_MAX);
    let step = table.number("mm_per_pulse", 1e-6..=1000.0);
    let rate = table.number("pulses_per_mm", 1e-3..=1e6);
    let distance = table.number("distance_mm", 0.0..=1e6);
    let apart = table.number("apart_mm", 0.0..=1e6);
    let still = table.whole("encoder_still_ms", 100..=86_400_000);
    if !is_counted {
        return None;
    }
    if let Some((_, rate)) = step.as_ref().zip(rate.as_ref()) {
        let title = "`mm_per_pulse` and `pulses_per_mm` say the same";
        table.error(rate.span(), title, "remove one of them");
    }
    let step = match rate {
        Some(rate) => Some(1.0 / rate.into_inner()),
        None if table.has("pulses_per_mm") => None,
        None => {
            let step = table.required("mm_per_pulse", step, "mm_per_pulse = 0.5");
            step.map(|step| step.into_inner())
        }
    };
    let distance = table.required("distance_mm", distance, "distance_mm = 420");
    Some(EncoderOptions {
        line: line?.into_inner() as u32,
        mm_per_pulse: step?,
        distance_mm: distance?.into_inner(),
        apart_mm: apart.map_or(0.0, |mm| mm.into_inner()),
        still: Duration::from_millis(still.map_or(30_000, |ms| ms.into_inner()) as u64),
    })
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
    share("part_max_share", 0.02..=1.0, &mut options.part_max_share);
    share("gap_min_share", 0.0..=0.5, &mut options.gap_min_share);
    share("centre_tolerance_share", 0.01..=0.5, &mut options.centre_tolerance_share);
    if let Some(frames) = table.whole("settle_frames", 1..=10_000) {
        options.settle_frames = frames.into_inner() as u32;
    }
    options.burst_frames = read_burst(table);
    options
}
