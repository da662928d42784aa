//! Whether a picture can be judged by: measures of good and of spoilt pictures, and what comes of them.

use std::sync::Arc;

use inspectd::frame::Rgb8;
use inspectd::quality::{
    Check, Drift, FixedArea, FixedLimits, Gate, Grey, Limits, Measures, Reference, SavedReferences,
    Shift, What, judge, judge_shift, measure, shift_from,
};
use inspectd::roi::{Area, RectPx, Region};
use inspectd::simulate::{Belt, Mix, picture};
use inspectd::store::Reader;
use inspectd::verdict::Outcome;
use proptest::prelude::*;

use crate::support::degrade::{blurred, exposed, glared, moved, noisy, shifted};
use crate::support::mosquitto::Mosquitto;
use crate::support::plc::{self, Controller, Running};
use crate::support::station::Site;

/// Part `index` of a set, as the camera sees it.
fn part(index: u64) -> Rgb8 {
    picture(3, index, &Mix::default()).pixels
}

fn whole(picture: &Rgb8) -> Measures {
    let rect = RectPx { x: 0, y: 0, width: picture.width, height: picture.height };
    measure(picture, rect, None)
}

fn sharpest(picture: &Rgb8) -> f64 {
    whole(picture).edge_widths_px.sharpest_px().expect("a part has edges")
}

/// The first checks that are out, against a reference of another part.
fn faults(picture: &Rgb8, limits: &Limits, reference: &Reference) -> Vec<What> {
    let checks = judge(&whole(picture), limits, Some(reference));
    checks.iter().filter(|check| check.is_out()).map(|check| check.what).collect()
}

#[test]
fn edges_widen_with_blur_and_with_nothing_else() {
    for index in 0..3 {
        let good = part(index);
        let at_rest = sharpest(&good);
        let mut before = at_rest;
        for sigma in [1.0, 2.0, 3.0, 4.0] {
            let spoilt = whole(&blurred(&good, sigma));
            let width = spoilt.edge_widths_px.sharpest_px().expect("edges");
            assert!(width > before * 1.1, "part {index}: {before} and at sigma {sigma} {width}");
            let motion = spoilt.motion(None).expect("edges in two directions").px;
            assert!(motion < width, "part {index}, sigma {sigma}: {motion} px of motion");
            before = width;
        }
        let within = |name: &str, spoilt: &Rgb8| {
            let share = at_rest / sharpest(spoilt);
            assert!((0.8..1.25).contains(&share), "part {index}, {name}: {share} as sharp");
        };
        within("half as bright", &exposed(&good, 0.5));
        within("a tenth as bright", &exposed(&good, 0.1));
        within("noise", &noisy(&good, 5.0, 1));
        within("glare", &glared(&good, 40));
        within("motion", &moved(&good, 12, 0));
    }
}

#[test]
fn motion_is_told_by_its_length_and_direction() {
    for index in 0..3 {
        let good = part(index);
        let still = whole(&good);
        for direction in 0..4 {
            let mut told = Vec::new();
            for px in [4, 8, 12, 20] {
                let motion = whole(&moved(&good, px, direction)).motion(Some(&still));
                let motion = motion.expect("edges in two directions");
                let case = format!("part {index}, {px} px at {}: {motion:?}", 45 * direction);
                assert_eq!(usize::from(motion.along_deg), 45 * direction, "{case}");
                // Across and down there are edges enough for an honest length. Few edges of a plate run
                // at 45 degrees, and those that run level and upright are blurred on both diagonals.
                let (off, most) = (motion.px - f64::from(px), f64::from(px));
                let is_upright = direction % 2 == 0;
                let allowed = if is_upright { 0.15 * most + 0.5 } else { 0.75 * most };
                assert!(off.abs() < allowed, "{case}");
                told.push(motion.px);
            }
            let grows = told.windows(2).all(|pair| pair[0] < pair[1]);
            assert!(grows || direction % 2 == 1, "part {index}, {direction}: {told:?}");
            assert!(told[3] > 2.0 * told[0], "part {index}, {direction}: {told:?}");
        }
    }
}

#[test]
fn light_shows_in_the_levels_and_shares() {
    let good = part(1);
    let mut before = -1.0;
    for gain in [0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 4.0, 8.0] {
        let seen = whole(&exposed(&good, gain));
        assert!(seen.luma_mean > before, "x{gain}");
        assert!(seen.dark_share < 0.05 || gain < 0.2, "x{gain}: {seen:?}");
        assert!(seen.bright_share < 0.05 || gain > 1.2, "x{gain}: {seen:?}");
        before = seen.luma_mean;
    }
    assert!(whole(&exposed(&good, 8.0)).bright_share > 0.9);
    let own = whole(&good).noise_levels;
    for levels in [2.0f64, 5.0, 10.0, 20.0] {
        let (noise, both) = (whole(&noisy(&good, levels, 7)).noise_levels, own.hypot(levels));
        assert!((0.8..1.2).contains(&(noise / both)), "{levels} added to {own}: {noise}");
    }
}

#[test]
fn glare_grows_and_what_the_reference_shows_bright_is_none() {
    let good = part(1);
    let mut before = whole(&good).glare_share;
    for radius in [10, 20, 40, 60] {
        let seen = whole(&glared(&good, radius));
        assert!(seen.glare_share > before + 0.002, "{radius} px: {seen:?}");
        before = seen.glare_share;
    }
    // A white field that was always there, and a reflection that was not.
    let mut labelled = good.clone();
    for row in 30..130 {
        let start = (row * 336 + 20) * 3;
        labelled.data[start..start + 360].fill(255);
    }
    let reference = Reference::of(&labelled);
    let rect = reference.frame_px;
    assert!(reference.measures.glare_share > 0.09, "nothing tells it from glare by itself");
    assert_eq!(measure(&labelled, rect, Some(&reference)).glare_share, 0.0);
    let moved_label = shifted(&labelled, 9, -7);
    assert!(
        measure(&moved_label, rect, Some(&reference)).glare_share < 0.01,
        "it may lie elsewhere"
    );
    let spoilt = measure(&glared(&labelled, 40), rect, Some(&reference)).glare_share;
    assert!(spoilt > 0.02, "{spoilt}");
}

#[test]
fn each_fault_is_told_apart_from_the_others() {
    // Another part than the one that is looked at, as on a line.
    let (good, reference) = (part(5), Reference::of(&part(2)));
    let limits = Limits {
        motion_max_px: 4.0,
        glare_share_max: 0.02,
        bright_share_max: 0.3,
        dark_share_max: 0.3,
        contrast_min: 30.0,
        ..Limits::default()
    };
    for (name, spoilt, expected) in [
        ("nothing", good.clone(), vec![]),
        ("focus", blurred(&good, 3.0), vec![What::FocusShare]),
        ("motion", moved(&good, 12, 0), vec![What::Motion]),
        ("motion down", moved(&good, 12, 2), vec![What::Motion]),
        ("dark", exposed(&good, 0.3), vec![What::LumaLow]),
        ("glare", glared(&good, 40), vec![What::GlareShare]),
        ("black", Rgb8::new(336, 336), vec![What::Blank]),
        ("noise", noisy(&good, 5.0, 2), vec![]),
    ] {
        assert_eq!(faults(&spoilt, &limits, &reference), expected, "{name}");
    }
    let bright = faults(&exposed(&good, 4.0), &limits, &reference);
    assert!(bright.contains(&What::BrightShare), "{bright:?}");
    let no_edges = faults(&blurred(&good, 25.0), &limits, &reference);
    assert!(no_edges.contains(&What::FocusShare), "{no_edges:?}");
}

#[test]
fn a_large_frame_is_measured_where_most_is_to_be_seen() {
    // The pieces of a large region are taken where most is to be seen.
    let belt = Belt::new(7, 1, 300.0).expect("a belt");
    let centred = belt.frame(belt.truths()[0].centred_at_frame);
    let mut large = Rgb8::new(960, 540);
    large.data.fill(90);
    for row in 0..480usize {
        let (from, to) = (row * 640 * 3, ((row + 31) * 960 + 290) * 3);
        large.data[to..to + 640 * 3].copy_from_slice(&centred.data[from..from + 640 * 3]);
    }
    let region = RectPx { x: 152, y: 72, width: 336, height: 336 };
    let (small, whole_frame) = (measure(&centred, region, None), whole(&large));
    let widths =
        [&small, &whole_frame].map(|seen| seen.edge_widths_px.sharpest_px().expect("edges"));
    assert!((0.75..1.35).contains(&(widths[0] / widths[1])), "{widths:?}");
    let blurred_frame = whole(&blurred(&large, 3.0)).edge_widths_px.sharpest_px().expect("edges");
    assert!(blurred_frame > 2.0 * widths[1], "{blurred_frame} and {}", widths[1]);
}

/// A frame of a machine, of which `x` 0 to 160 shows a fixed guide, and the rest a part.
fn machine(part_index: u64, gain: f64, shift: (i64, i64)) -> Rgb8 {
    let (guide, part) = (part(40), part(part_index));
    let mut frame = Rgb8::new(480, 336);
    for (at, pixel) in frame.data.chunks_exact_mut(3).enumerate() {
        let (x, y) = ((at % 480) as u32, (at / 480) as u32);
        pixel.copy_from_slice(&if x < 160 {
            guide.pixel(x + 90, y)
        } else {
            part.pixel(x - 150, y)
        });
    }
    shifted(&noisy(&exposed(&frame, gain), 3.0, part_index), shift.0, shift.1)
}

#[test]
fn a_moved_camera_is_told_whatever_part_is_in_view() {
    let rect = RectPx { x: 4, y: 60, width: 140, height: 160 };
    let reference = Grey::of(&machine(1, 1.0, (0, 0)), rect);
    let find = |frame: &Rgb8| shift_from(&reference, &Grey::of(frame, rect)).expect("comparable");
    let step = f64::from(reference.step_px);
    for (number, (right, down)) in
        [(0, 0), (1, 0), (0, 2), (-3, 1), (5, 5), (-8, 0), (10, -6), (12, 9), (0, 20)]
            .into_iter()
            .enumerate()
    {
        let frame = machine(10 + number as u64, 0.7, (right, down));
        let shift = find(&frame);
        let off = (shift.right_px - right as f64).hypot(shift.down_px - down as f64);
        assert!(off < 0.5 * step, "({right}, {down}): {shift:?}");
        assert!(shift.correlation > 0.6, "({right}, {down}): {shift:?}");
    }
    // Out of reach, and behind a hand.
    for frame in [machine(1, 1.0, (0, 90)), part_over(&machine(1, 1.0, (0, 0)))] {
        let checks = judge_shift(Some(&find(&frame)), &FixedLimits::default());
        assert!(checks.iter().any(Check::is_out), "{checks:?}");
    }
    assert!(
        shift_from(&reference, &Grey::of(&machine(1, 1.0, (0, 0)), RectPx { width: 139, ..rect }))
            .is_none()
    );
}

/// The frame with another part where the guide was.
fn part_over(frame: &Rgb8) -> Rgb8 {
    let (mut frame, part) = (frame.clone(), part(77));
    for y in 0..336u32 {
        for x in 0..160u32 {
            let at = ((y * 480 + x) * 3) as usize;
            frame.data[at..at + 3].copy_from_slice(&part.pixel(x + 30, y));
        }
    }
    frame
}

fn check(value: f64, limit: f64, reference: Option<f64>) -> Check {
    Check { what: What::EdgeWidth, value: Some(value), limit, reference, along_deg: None }
}

#[test]
fn drift_is_told_once_each_way_before_the_limit_is_reached() {
    for reference in [Some(2.0), None] {
        let mut drift = Drift::default();
        let mut told = Vec::new();
        let mut see = |number: u32, value: f64| {
            // Parts differ.
            let value = value + 0.1 * f64::from(number % 5) - 0.2;
            for change in drift.see("label", &[check(value, 6.0, reference)], 0.5) {
                told.push((number, change.has_drifted, change.mean));
            }
        };
        (0..200).for_each(|number| see(number, 2.0));
        (200..800).for_each(|number| see(number, 2.0 + 0.004 * f64::from(number - 200)));
        (800..1000).for_each(|number| see(number, 4.4));
        (1000..1200).for_each(|number| see(number, 2.0));
        let [(out, true, mean), (back, false, _)] = told[..] else { panic!("{told:?}") };
        assert!((700..800).contains(&out) && mean < 4.2, "{told:?}");
        assert!((1000..1100).contains(&back), "{told:?}");
    }
}

#[test]
fn one_bad_picture_is_no_drift() {
    let mut drift = Drift::default();
    for number in 0..500 {
        let value = if number % 100 == 50 { 1e9 } else { 2.0 };
        assert_eq!(drift.see("label", &[check(value, 6.0, Some(2.0))], 0.5), vec![], "{number}");
    }
    let unmeasured = Check { value: None, ..check(0.0, 6.0, None) };
    assert!(unmeasured.is_out(), "what must be measured and cannot be is out of limits");
    assert_eq!(drift.see("label", &[unmeasured], 0.5), vec![]);
    assert!(check(f64::NAN, 6.0, None).is_out());
}

#[test]
fn a_reference_outlives_its_file() {
    let frame = machine(3, 1.0, (0, 0));
    let rect = RectPx { x: 4, y: 60, width: 300, height: 260 };
    let reference = Reference::of_rect(&frame, rect);
    assert_eq!(reference.picture.step_px, 3);
    let saved = SavedReferences {
        region: vec![reference.saved("label", "demo.label.png", &"ab".repeat(32))],
        fixed: vec![],
    };
    let text = toml::to_string(&saved).expect("TOML");
    let back: SavedReferences = toml::from_str(&text).expect("its own form");
    assert_eq!(back, saved, "{text}");
    let picture = reference.picture.to_rgb();
    assert_eq!(back.region[0].with_picture(&picture).expect("it fits"), reference);
    let other = Rgb8::new(picture.width, picture.height + 1);
    let why = back.region[0].with_picture(&other).expect_err("another size").to_string();
    assert!(why.contains("\"label\"") && why.contains("another size"), "{why}");
    for (from, to) in [("luma_mean = ", "luma_mean = 1e9 #"), ("step_px = 3", "step_px = 7")] {
        assert!(text.contains(from), "{text}");
        let damaged: SavedReferences = toml::from_str(&text.replace(from, to)).expect("TOML");
        assert!(damaged.region[0].with_picture(&picture).is_err(), "{to}");
    }
}

#[test]
fn a_region_of_another_size_than_its_reference_is_out() {
    let frame = part(1);
    let rect = RectPx { x: 0, y: 0, width: 200, height: 200 };
    let mut gate = Gate::default();
    gate.references.insert("label".into(), Arc::new(Reference::of_rect(&frame, rect)));
    let out = |rect| {
        let checks = gate.check(&gate.measure(&frame, "label", rect));
        checks.iter().filter(|check| check.is_out()).map(|check| check.what).collect::<Vec<_>>()
    };
    assert_eq!(out(rect), []);
    assert_eq!(out(RectPx { width: 180, ..rect }), [What::Place]);
    let region = Region { name: "guide".into(), area: Area::Pixels(RectPx { x: 8, ..rect }) };
    let reference = Some(Arc::new(Reference::of_rect(&frame, rect)));
    gate.fixed.push(FixedArea { region, reference });
    let [seen] = &gate.measure_fixed(&frame)[..] else { panic!("one area") };
    assert!(seen.shift.is_none() && gate.check_fixed(seen)[0].is_out(), "{seen:?}");
    gate.fixed[0].region.area = Area::Pixels(rect);
    let [seen] = &gate.measure_fixed(&frame)[..] else { panic!("one area") };
    assert!(gate.check_fixed(seen).iter().all(|check| !check.is_out()), "{seen:?}");
}

fn some_picture() -> impl Strategy<Value = Rgb8> {
    (1u32..70, 1u32..70, 0..5u8, any::<u64>()).prop_map(|(width, height, kind, seed)| {
        let mut picture = Rgb8::new(width, height);
        match kind {
            0 => {}
            1 => picture.data.fill(255),
            2 => picture = noisy(&exposed(&picture, 1.0), 90.0, seed),
            3 => picture.data.iter_mut().enumerate().for_each(|(at, level)| {
                *level = if (at as u64 / 3).is_multiple_of(seed % 7 + 2) { 255 } else { 0 };
            }),
            _ => picture.data.iter_mut().enumerate().for_each(|(at, level)| {
                *level = (at as u64 * (seed % 9) / 3) as u8;
            }),
        }
        picture
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_looked_at_the_figures_are_finite_and_bounded(
        picture in some_picture(),
        reference in some_picture(),
    ) {
        let reference = Reference::of(&reference);
        let rect = RectPx { x: 0, y: 0, width: picture.width, height: picture.height };
        let seen = measure(&picture, rect, Some(&reference));
        prop_assert!((0.0..=255.0).contains(&seen.luma_mean));
        prop_assert!(seen.luma_p05 <= seen.luma_p95);
        for share in [seen.dark_share, seen.bright_share, seen.glare_share] {
            prop_assert!((0.0..=1.0).contains(&share));
        }
        prop_assert!((0.0..=1500.0).contains(&seen.noise_levels));
        for width in seen.edge_widths_px.0.into_iter().flatten() {
            prop_assert!((0.5..=100.0).contains(&width), "{}", width);
        }
        let text = serde_json::to_string(&seen).expect("plain data");
        prop_assert_eq!(&serde_json::from_str::<Measures>(&text).expect("the same"), &seen);
        for check in judge(&seen, &Limits::default(), Some(&reference)) {
            prop_assert!(check.text("r").len() < 300);
        }
        let shift = shift_from(&reference.picture, &Grey::of(&picture, rect));
        if let Some(Shift { right_px, down_px, correlation }) = shift {
            prop_assert!(right_px.abs() < 30.0 && down_px.abs() < 30.0);
            prop_assert!((0.0..=1.0).contains(&correlation));
        }
    }

    /// What stands around a region does not count, and a region is what a picture of it would be.
    #[test]
    fn a_region_is_measured_by_its_own_pixels(picture in some_picture(), x in 0u32..9, y in 0u32..9) {
        let mut frame = Rgb8::new(picture.width + 11, picture.height + 13);
        frame.data.fill(170);
        for row in 0..picture.height {
            let from = (row * picture.width * 3) as usize;
            let to = (((row + y) * frame.width + x) * 3) as usize;
            let line = picture.width as usize * 3;
            frame.data[to..to + line].copy_from_slice(&picture.data[from..from + line]);
        }
        let rect = RectPx { x, y, width: picture.width, height: picture.height };
        prop_assert_eq!(measure(&frame, rect, None), whole(&picture));
    }
}

/// What `evaluate` measures is the model: no picture of a set, be it of an empty belt, is refused.
#[test]
fn no_simulated_picture_is_out_of_the_limits_of_a_station_that_gives_none() {
    let mix = Mix { empty: 0.5, illegible: 0.5, ..Mix::default() };
    for index in 0..30 {
        let checks = judge(&whole(&picture(11, index, &mix).pixels), &Limits::default(), None);
        assert!(checks.iter().all(|check| !check.is_out()), "picture {index}: {checks:?}");
    }
}

#[test]
fn good_parts_are_within_the_defaults_of_a_reference_of_another_part() {
    let reference = Reference::of(&part(2));
    for index in 0..12 {
        let out = faults(&part(index), &Limits::default(), &reference);
        assert_eq!(out, [], "part {index}");
    }
}

/// A station with a contract whose camera shows `pictures` over and over, each of them a part.
fn site_of(broker: &Mosquitto, quality: &str, pictures: &[&Rgb8]) -> Site {
    let site = plc::site(broker.port(), &format!("[plc]\n[quality]\n{quality}\n"));
    site.edit("kind = \"command\"\nframe_wait_ms = 60000", "kind = \"every_frame\"");
    // Each is looked at, however slow this machine is.
    site.edit("interval_ms = 20", "realtime = false");
    let folder = site.dir.path().join("set");
    std::fs::remove_dir_all(&folder).expect("it was written");
    std::fs::create_dir(&folder).expect("made");
    for (at, picture) in pictures.iter().enumerate() {
        let (width, height) = (picture.width, picture.height);
        let png = image::RgbImage::from_raw(width, height, picture.data.clone());
        png.expect("its size").save(folder.join(format!("{at:03}.png"))).expect("written");
    }
    site
}

/// The middle of a part's picture, which is looked at faster.
fn middle_of(picture: &Rgb8) -> Rgb8 {
    let mut middle = Rgb8::new(200, 200);
    for (row, line) in middle.data.chunks_exact_mut(600).enumerate() {
        let from = ((row + 68) * 336 + 68) * 3;
        line.copy_from_slice(&picture.data[from..from + 600]);
    }
    middle
}

#[test]
fn controller_and_log_are_told_of_pictures_that_drift_and_of_those_out_of_limits() {
    let broker = Mosquitto::start();
    let controller = Controller::new(&broker);
    let [sharp, soft] = [part(5), blurred(&part(5), 1.5)].map(|picture| middle_of(&picture));
    let widths = [&sharp, &soft].map(sharpest);
    let limit = widths[1] + 0.15 * (widths[1] - widths[0]);
    let black = Rgb8::new(200, 200);
    let pictures: Vec<&Rgb8> = std::iter::repeat_n(&sharp, 22)
        .chain(std::iter::repeat_n(&soft, 24))
        .chain([&black])
        .collect();
    let site = site_of(&broker, &format!("edge_width_max_px = {limit}"), &pictures);
    let mut daemon = Running::start(&site);
    daemon.let_go();
    let seen = controller.wait("all four events", |seen| {
        ["PictureDrifted", "PictureDriftEnded", "PictureOutOfLimits", "PictureWithinLimits"]
            .iter()
            .all(|name| plc::find(seen, "event", |event| event["event"] == **name).is_some())
    });
    daemon.end();
    let drifted = plc::find(&seen, "event", |event| event["event"] == "PictureDrifted");
    let drifted = drifted.expect("it was waited for");
    assert_eq!(drifted["reason"], "edge_width_px", "{drifted}");
    let schema = inspectd::publish::schema::ALL.iter().find(|known| known.name == "event.v1");
    let schema = serde_json::from_str(schema.expect("there is one").text).expect("JSON");
    assert!(jsonschema::is_valid(&schema, &drifted), "{drifted}");
    let out = plc::find(&seen, "event", |event| event["event"] == "PictureOutOfLimits");
    assert_eq!(out.expect("it was waited for")["reason"], "picture_blank");

    let reader = Reader::open(&site.database()).expect("the log is readable");
    let drifts = reader.events(Some("picture_drift"), 100).expect("readable");
    assert!(drifts.len() >= 2, "{drifts:?}");
    let log = plc::log(&site);
    let reviewed = log.iter().filter(|look| look.is_picture_out());
    assert!(reviewed.clone().count() >= 1, "the black ones");
    for look in &log {
        let is_black = look.picture_quality.iter().any(|seen| seen.measures.is_blank);
        assert_eq!(look.is_picture_out(), is_black, "{:?}", look.verdict);
        assert!(look.verdict.outcome != Outcome::Pass || !is_black);
    }
}
