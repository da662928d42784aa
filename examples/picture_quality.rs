//! The picture quality gate by itself: `cargo run --release --example picture_quality -- WHAT`.
//!
//! `cost` measures regions of three sizes, beside cutting and scaling the same region, in turns.
//! `measures` prints what becomes of the figures when simulated pictures are blurred, moved, darkened,
//! and made noisy: the table by which limits can be chosen.

// As in the tests: an example may stop at the first thing that is not as it should be.
#![allow(clippy::unwrap_used)]

use std::time::Instant;

use inspectd::frame::Rgb8;
use inspectd::quality::{Grey, Measures, Reference, measure, shift_from};
use inspectd::roi::{self, Area, RectPx, Region};
use inspectd::simulate::{Mix, picture};

#[path = "../tests/it/support/degrade.rs"]
#[allow(dead_code)]
mod degrade;

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("cost") => cost(),
        Some("measures") => measures(),
        _ => {
            eprintln!("usage: picture_quality cost|measures");
            std::process::exit(2);
        }
    }
}

/// A frame of this size, of parts side by side.
fn frame(width: u32, height: u32) -> Rgb8 {
    let parts: Vec<Rgb8> = (0..12).map(|at| picture(3, at, &Mix::default()).pixels).collect();
    let mut frame = Rgb8::new(width, height);
    for (at, pixel) in frame.data.chunks_exact_mut(3).enumerate() {
        let (x, y) = (at as u32 % width, at as u32 / width);
        let part = &parts[((x / 336 + y / 336 * 5) % 12) as usize];
        pixel.copy_from_slice(&part.pixel(x % 336, y % 336));
    }
    frame
}

fn cost() {
    println!("{:<28} {:>9} {:>9} {:>7}", "region", "measure", "cut", "ratio");
    for (name, width, height, area) in [
        ("336x336 of 640x480", 640, 480, Some((152, 72, 336, 336))),
        ("whole 1920x1080", 1920, 1080, None),
        ("whole 3840x2160", 3840, 2160, None),
    ] {
        let frame = frame(width, height);
        let area = area.map_or(Area::Whole, |(x, y, width, height)| {
            Area::Pixels(RectPx { x, y, width, height })
        });
        let region = Region { name: "r".into(), area };
        let rect = region.rect_in(width, height).unwrap();
        let reference = Reference::of_rect(&frame, rect);
        let (measured, cut) = in_turns(
            || {
                std::hint::black_box(measure(&frame, rect, Some(&reference)));
            },
            || {
                std::hint::black_box(roi::cut(&frame, &region)).unwrap();
            },
        );
        println!("{name:<28} {measured:>6.2} ms {cut:>6.2} ms {:>7.2}", measured / cut);
    }
    for side in [128, 512] {
        let frame = frame(640, 640);
        let rect = RectPx { x: 40, y: 40, width: side, height: side };
        let reference = Grey::of(&frame, rect);
        let (shifted, _) = in_turns(
            || {
                std::hint::black_box(shift_from(&reference, &Grey::of(&frame, rect)));
            },
            || (),
        );
        println!("{:<28} {shifted:>6.2} ms", format!("fixed area {side}x{side}"));
    }
}

/// Medians in milliseconds of 40 runs of both, in turns.
fn in_turns(mut first: impl FnMut(), mut second: impl FnMut()) -> (f64, f64) {
    let time = |run: &mut dyn FnMut()| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64() * 1e3
    };
    let mut times = (Vec::new(), Vec::new());
    for _ in 0..40 {
        times.0.push(time(&mut first));
        times.1.push(time(&mut second));
    }
    let median = |mut times: Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    (median(times.0), median(times.1))
}

fn whole(picture: &Rgb8) -> Measures {
    let rect = RectPx { x: 0, y: 0, width: picture.width, height: picture.height };
    measure(picture, rect, None)
}

fn measures() {
    type Change = Box<dyn Fn(&Rgb8) -> Rgb8>;
    let mut changes: Vec<(String, Change)> = vec![("as it is".into(), Box::new(Rgb8::clone))];
    for sigma in [0.5, 1.0, 1.5, 2.0, 3.0, 4.0] {
        changes.push((format!("blur {sigma}"), Box::new(move |p| degrade::blurred(p, sigma))));
    }
    for direction in 0..4 {
        for px in [2, 4, 8, 12, 20] {
            let name = format!("motion {px} px at {}", direction * 45);
            changes.push((name, Box::new(move |p| degrade::moved(p, px, direction))));
        }
    }
    for gain in [0.1, 0.25, 0.5, 2.0, 4.0, 8.0] {
        changes.push((format!("exposure x{gain}"), Box::new(move |p| degrade::exposed(p, gain))));
    }
    for noise in [2.0, 5.0, 10.0, 20.0] {
        changes.push((format!("noise {noise}"), Box::new(move |p| degrade::noisy(p, noise, 1))));
    }
    for radius in [10, 30, 60] {
        changes.push((format!("glare {radius} px"), Box::new(move |p| degrade::glared(p, radius))));
    }
    println!(
        "{:<20} {:>6} {:>4} {:>4} {:>6} {:>6} {:>6}  widths 0 45 90 135, sharpest (median of parts; min max)   motion",
        "", "mean", "p05", "p95", "dark", "glare", "noise"
    );
    for (name, change) in changes {
        let seen: Vec<Measures> =
            (0..24).map(|at| whole(&change(&picture(3, at, &Mix::default()).pixels))).collect();
        let median = |value: &dyn Fn(&Measures) -> Option<f64>| {
            let mut all: Vec<f64> = seen.iter().filter_map(value).collect();
            all.sort_by(f64::total_cmp);
            let at = |share: f64| all.get((all.len() as f64 * share) as usize).copied();
            (
                at(0.5).unwrap_or(f64::NAN),
                all.first().copied().unwrap_or(f64::NAN),
                all.last().copied().unwrap_or(f64::NAN),
                all.len(),
            )
        };
        let of = |value: fn(&Measures) -> f64| median(&|seen| Some(value(seen))).0;
        print!(
            "{name:<20} {:>6.1} {:>4} {:>4} {:>6.3} {:>6.3} {:>6.2} ",
            of(|m| m.luma_mean),
            of(|m| f64::from(m.luma_p05)),
            of(|m| f64::from(m.luma_p95)),
            of(|m| m.dark_share),
            of(|m| m.glare_share),
            of(|m| m.noise_levels)
        );
        for direction in 0..4 {
            let (middle, _, _, count) = median(&|seen| seen.edge_widths_px.0[direction]);
            print!(" {middle:>5.2}/{count:<2}");
        }
        let (middle, least, most, count) = median(&|seen| seen.edge_widths_px.sharpest_px());
        print!("  {middle:>5.2}/{count:<2} ({least:.2} {most:.2})");
        let (middle, least, most, _) = median(&|seen| Some(seen.motion(None)?.px));
        println!("  {middle:>5.2} ({least:.2} {most:.2})");
    }
}
