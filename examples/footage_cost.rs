//! What footage costs: `cargo run --release --example footage_cost -- [FRAMES]`.
//!
//! Simulated belts of two sizes, in the form in which a JPEG camera gives them, are recorded in both
//! qualities and kept as clips are; printed are the processor's time a frame, what that is of one core at
//! a camera's rate, bytes a frame and bytes an hour. Each picture is another one, noise included.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use inspectd::clock::{Clock, Stamp, SystemClock};
use inspectd::footage::clips::{ClipOptions, Clips, Workshop};
use inspectd::footage::{Bounds, Film, FilmOptions, Quality, Subject};
use inspectd::frame::{Colours, Form, Frame, Picture, Rgb8};
use inspectd::simulate::belt::Belt;

/// Different pictures; more frames show them again.
const PICTURES: u64 = 30;

/// A camera's rate, and the rate of clips.
const RATE: f64 = 30.0;
const CLIP_RATE: f64 = 10.0;

fn main() -> anyhow::Result<()> {
    let count = std::env::args().nth(1).map_or(Ok(150), |text| text.parse())?;
    println!(
        "{:<12} {:<10} {:>9} {:>10} {:>9} {:>9} {:>9}",
        "size", "kept as", "CPU/frame", "of a core", "kB/frame", "GB/hour", "dropped"
    );
    for (width, height) in [(640, 480), (1920, 1080)] {
        let pictures = pictures(width, height)?;
        for quality in [Quality::Lossless, Quality::High] {
            film(&pictures, quality, count)?;
        }
        clips(&pictures, count)?;
    }
    Ok(())
}

/// A belt, tiled to the size, as brightness and halved colour.
fn pictures(width: u32, height: u32) -> anyhow::Result<Vec<Picture>> {
    let belt = Belt::new(7, 3, 240.0)?;
    let one = |n: u64| {
        let tiles: Vec<Rgb8> = (0..6).map(|k| belt.frame(40 + n + 7 * k)).collect();
        let mut data = Vec::new();
        let pixel = |x: u32, y: u32| {
            let tile = &tiles[((x / 640 + 3 * (y / 480)) % 6) as usize];
            tile.pixel(x % 640, y % 480).map(f32::from)
        };
        for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
            let [r, g, b] = pixel(x, y);
            data.push((0.299 * r + 0.587 * g + 0.114 * b) as u8);
        }
        for (kr, kg, kb) in [(-0.169, -0.331, 0.5), (0.5, -0.419, -0.081)] {
            for (y, x) in (0..height / 2).flat_map(|y| (0..width / 2).map(move |x| (y, x))) {
                let [r, g, b] = pixel(x * 2, y * 2);
                data.push((128.0 + kr * r + kg * g + kb * b) as u8);
            }
        }
        Picture::new(Form::I420, Colours::JPEG, (width, height), data)
            .context("the picture has not the length of its size")
    };
    (0..PICTURES).map(one).collect()
}

fn frame(pictures: &[Picture], n: u64, rate: f64, begun: &Stamp) -> Arc<Frame> {
    let since = Duration::from_secs_f64(n as f64 / rate);
    let captured = Stamp {
        wall: begun.wall + since,
        monotonic_ns: begun.monotonic_ns + since.as_nanos() as u64,
    };
    let picture = pictures[(n % PICTURES) as usize].clone();
    let camera = "belt".into();
    Arc::new(Frame { sequence: n + 1, camera, captured, pipeline_ns: None, picture })
}

fn subject() -> Subject {
    Subject { device: "box".into(), station: "belt".into(), config_sha256: "none".into() }
}

fn film(pictures: &[Picture], quality: Quality, count: u64) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let bounds = Bounds { max_bytes: None, keep_free_bytes: 0 };
    let options = FilmOptions { quality, bounds, patient: true };
    let film = Film::begin(dir.path(), subject(), options)?;
    let begun = SystemClock.now();
    let before = cpu();
    (0..count).for_each(|n| film.frame(&frame(pictures, n, RATE, &begun)));
    let totals = film.end("measured", SystemClock.now());
    tell(pictures, quality.as_str(), cpu() - before, totals.frames, totals.bytes, RATE, 0);
    Ok(())
}

/// Clips at their rate, in real time for a while: what is measured is the thread beside the line.
fn clips(pictures: &[Picture], count: u64) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let workshop = Workshop {
        subject: subject(),
        dir: dir.path().to_owned(),
        latest: Duration::from_secs(600),
        clock: Arc::new(SystemClock),
        has_room: Box::new(|| true),
        tell: Box::new(|_| ()),
    };
    let options = ClipOptions { memory_bytes: 1 << 30, ..ClipOptions::default() };
    let clips = Clips::begin(options, workshop).map_err(anyhow::Error::msg)?;
    let begun = SystemClock.now();
    let before = cpu();
    let count = count / 3;
    for n in 0..count {
        clips.offer(&frame(pictures, n, CLIP_RATE, &begun));
        let until = Instant::now() + Duration::from_secs(10);
        while clips.counts().waiting > 0 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    let counts = clips.counts();
    let spent = cpu() - before;
    let kept = count - counts.dropped;
    tell(pictures, "clip q90", spent, kept, counts.memory_bytes, CLIP_RATE, counts.dropped);
    Ok(())
}

fn tell(
    pictures: &[Picture],
    what: &str,
    spent: Duration,
    frames: u64,
    bytes: u64,
    rate: f64,
    dropped: u64,
) {
    let each = spent.as_secs_f64() / frames as f64;
    let size = format!("{}x{}", pictures[0].width(), pictures[0].height());
    let bytes_each = bytes as f64 / frames as f64;
    println!(
        "{size:<12} {what:<10} {:>6.1} ms {:>7.0} % at {rate:.0}/s {:>7.0} {:>9.1} {dropped:>9}",
        each * 1e3,
        each * rate * 100.0,
        bytes_each / 1e3,
        bytes_each * rate * 3600.0 / 1e9
    );
}

/// Processor time of this process, user and system.
fn cpu() -> Duration {
    // SAFETY: `usage` is a valid, writable rusage for the length of the call.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        assert_eq!(libc::getrusage(libc::RUSAGE_SELF, &raw mut usage), 0);
        usage
    };
    let time = |time: libc::timeval| Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1000);
    time(usage.ru_utime) + time(usage.ru_stime)
}
