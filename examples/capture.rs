//! What capture costs: the daemon's own way of a frame beside `gst-launch-1.0` with the same pipeline.
//!
//! ```text
//! cargo run --release --example capture -- --seconds 20
//! ```
//!
//! Each case is run in turn, as a process of its own, several times over; figures are processor time as
//! a share of one core, by the kernel's own count, and frames.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::Parser;
use inspectd::camera::{self, Delivery, Options, Source};
use inspectd::clock::SystemClock;
use inspectd::frame::{Colours, Form, Picture};

#[derive(Parser)]
struct Arguments {
    /// How long each case runs, in seconds.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// How often each case runs.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Inside: take frames of this pipeline for so long, and print counts.
    #[arg(long, hide = true)]
    pipeline: Option<String>,
}

/// A camera without one: pictures that are made once and sent again and again, so that what is measured is
/// the way and not the making.
const CASES: [(&str, (u32, u32), u32); 2] =
    [("1080p60", (1920, 1080), 60), ("4K30", (3840, 2160), 30)];

fn source(size: &str) -> String {
    format!(
        "videotestsrc num-buffers=1 pattern=smpte ! video/x-raw,format=I420,{size} ! imagefreeze \
         is-live=true ! video/x-raw,{size}"
    )
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if let Some(pipeline) = &arguments.pipeline {
        return take(pipeline, Duration::from_secs(arguments.seconds));
    }
    let seconds = arguments.seconds;
    println!("{:<9} {:<34} {:>9} {:>8} {:>8}", "", "", "one core", "frames", "replaced");
    for (name, pixels, rate) in CASES {
        let size = &format!("width={},height={},framerate={rate}/1", pixels.0, pixels.1);
        for round in 1..=arguments.rounds {
            let to_rgb = "videoconvert ! video/x-raw,format=RGB";
            let launch = |tail: &str| format!("{} ! {tail} fakesink sync=true", source(size));
            let cases = [
                ("gst-launch, frames as they are", launch("")),
                ("gst-launch, frames to RGB", launch(&format!("{to_rgb} !"))),
            ];
            for (about, text) in cases {
                let (share, _) = run(&mut gst_launch(&text, seconds))?;
                println!("{name:<9} {about:<34} {share:>8.1}% {:>8} {:>8}", "", "");
            }
            let (share, said) = run(&mut ourselves(&source(size), seconds)?)?;
            let counts: Vec<&str> = said.split_whitespace().collect();
            let [frames, replaced] = counts[..] else { bail!("it said {said:?}") };
            let about = format!("inspectd, round {round}");
            println!("{name:<9} {about:<34} {share:>8.1}% {frames:>8} {replaced:>8}");
        }
        let (width, height) = pixels;
        for (about, rows) in
            [("an inspected frame to RGB, all rows", height), ("the 336 rows of a region", 336)]
        {
            println!("{name:<9} {about:<34} {:>6.2} ms", convert_ms(width, height, rows)?);
        }
    }
    Ok(())
}

/// What a frame costs of which a part is cut: the median of making so many of its rows RGB.
fn convert_ms(width: u32, height: u32, rows: u32) -> anyhow::Result<f64> {
    let bytes = Form::I420.planes(width, height).iter().map(|(row, rows)| row * rows).sum();
    let data: Vec<u8> = (0..bytes).map(|at: usize| (at % 219 + 16) as u8).collect();
    let mut times_ms = Vec::new();
    for _ in 0..31 {
        let picture = Picture::new(Form::I420, Colours::JPEG, (width, height), data.clone())
            .context("a picture of this size")?;
        let started = Instant::now();
        std::hint::black_box(picture.rgb_of_rows(0..rows));
        times_ms.push(started.elapsed().as_secs_f64() * 1e3);
    }
    times_ms.sort_by(f64::total_cmp);
    Ok(times_ms[times_ms.len() / 2])
}

fn gst_launch(text: &str, seconds: u64) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--signal=INT", &seconds.to_string(), "gst-launch-1.0", "-q"]);
    command.args(text.split_whitespace());
    command
}

fn ourselves(pipeline: &str, seconds: u64) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--pipeline", pipeline, "--seconds", &seconds.to_string()]);
    Ok(command)
}

/// Runs it; answers its processor time as a share of one core, and what it printed.
fn run(command: &mut Command) -> anyhow::Result<(f64, String)> {
    let before = children_s()?;
    let started = Instant::now();
    let output = command.stderr(Stdio::inherit()).output().context("it cannot be started")?;
    let share = 100.0 * (children_s()? - before) / started.elapsed().as_secs_f64();
    Ok((share, String::from_utf8_lossy(&output.stdout).trim().to_owned()))
}

/// Processor time of all children that have ended, in seconds.
fn children_s() -> anyhow::Result<f64> {
    // SAFETY: the structure is plain numbers, and the call fills it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        ensure!(
            libc::getrusage(libc::RUSAGE_CHILDREN, &mut usage) == 0,
            "the kernel does not tell"
        );
        usage
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    Ok(seconds(usage.ru_utime) + seconds(usage.ru_stime))
}

/// Takes frames as a station does that is always ready, and prints how many came and were replaced.
fn take(pipeline: &str, time: Duration) -> anyhow::Result<()> {
    let options = Options::new(Source::Pipeline(pipeline.to_owned()));
    let camera = camera::open("capture", &options, Arc::new(SystemClock))?;
    let until = Instant::now() + time;
    while Instant::now() < until {
        if let Delivery::Lost { reason, .. } = camera.next(Duration::from_millis(100)) {
            bail!("{reason}");
        }
    }
    let counts = camera.counts();
    println!("{} {}", counts.brought, counts.dropped);
    Ok(())
}
