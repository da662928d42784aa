//! How surely the presence trigger counts parts on simulated belts that do not run evenly.
//!
//!     cargo run --example triggers -- --parts 20 --seeds 3 --speed 100 --speed 250 --speed 500
//!
//! `missed`: recorded as `review`, and not inspected. `lost`: without any record. `doubled`: records beyond
//! a part's first. `wrong`: inspections of a picture in which no part is near the middle.

use clap::Parser;
use inspectd::simulate::Belt;
use inspectd::trigger::PresenceOptions;
use rayon::prelude::*;

#[path = "../tests/it/support/courses.rs"]
mod courses;
use courses::{Count, Scenario, count};

#[derive(Parser)]
struct Arguments {
    /// Parts on each belt.
    #[arg(long, default_value_t = 20)]
    parts: u32,
    /// Belts of each kind.
    #[arg(long, default_value_t = 3)]
    seeds: u64,
    /// The first one's seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Speeds, mm/s; 3 px a millimetre and 30 frames a second.
    #[arg(long = "speed", default_values_t = [100.0, 250.0, 500.0])]
    speeds: Vec<f64>,
    /// The shortest gap between two parts, as a share of the window.
    #[arg(long, default_value_t = PresenceOptions::default().gap_min_share)]
    gap_min_share: f64,
    /// The longest part, as a share of the window.
    #[arg(long, default_value_t = PresenceOptions::default().part_max_share)]
    part_max_share: f64,
    /// Only belts of this name, as in the table.
    #[arg(long)]
    only: Option<String>,
    /// Of how many frames the sharpest is taken.
    #[arg(long, default_value_t = 1)]
    burst_frames: usize,
}

fn main() {
    let arguments = Arguments::parse();
    let options = PresenceOptions {
        burst_frames: arguments.burst_frames,
        gap_min_share: arguments.gap_min_share,
        part_max_share: arguments.part_max_share,
        ..PresenceOptions::default()
    };
    let columns = ["parts", "found", "missed", "lost", "doubled", "wrong"];
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::ASCII_MARKDOWN);
    table.set_header(["belt", "mm/s"].into_iter().chain(columns));
    let speeds = &arguments.speeds;
    let rows: Vec<(Scenario, f64)> = Scenario::ALL
        .into_iter()
        .filter(|scenario| arguments.only.as_ref().is_none_or(|only| only == name(*scenario)))
        .flat_map(|scenario| speeds.iter().map(move |speed| (scenario, *speed)))
        .collect();
    let counted = |(scenario, speed): &(Scenario, f64)| {
        let mut sum = Count::default();
        for seed in arguments.seed..arguments.seed + arguments.seeds {
            let course = scenario.course(seed, arguments.parts, *speed);
            let frames = course.travel.len();
            let belt = Belt::on_course(seed, arguments.parts, *speed, course);
            let belt = belt.expect("a speed above 0 and at most 1000 mm/s");
            let film = |index| belt.frame(index).into();
            sum += count(*scenario, seed, frames, &options, film, |index| belt.offsets(index));
        }
        sum
    };
    let counts: Vec<Count> = rows.par_iter().map(counted).collect();
    let mut all = Count::default();
    for ((scenario, speed), sum) in rows.iter().zip(counts) {
        table.add_row(row(name(*scenario), &speed.to_string(), &sum));
        all += sum;
    }
    table.add_row(row("all", "", &all));
    println!("{table}");
}

fn row(belt: &str, speed: &str, sum: &Count) -> Vec<String> {
    let Count { parts, found, missed, lost, doubled, wrong } = *sum;
    let numbers = [parts, found, missed, lost, doubled, wrong].map(|number| number.to_string());
    [belt.to_owned(), speed.to_owned()].into_iter().chain(numbers).collect()
}

/// What a scenario is called in the table.
fn name(scenario: Scenario) -> &'static str {
    match scenario {
        Scenario::Usual => "one part in view",
        Scenario::TwoInView => "two parts in view",
        Scenario::NarrowGaps => "narrow gaps",
        Scenario::Stops => "belt stops",
        Scenario::GoesBack => "belt goes back",
        Scenario::LightDrifts => "light drifts",
        Scenario::LostFrames => "lost frames",
    }
}
