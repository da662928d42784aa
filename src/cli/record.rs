//! `inspectd record`: what cameras show, kept to be played again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::run::{exit_of, load};
use super::{ConfigFile, Exit};
use crate::camera::{self, CameraHandle, Delivery};
use crate::clock::{Clock, SystemClock};
use crate::daemon::overheard::{self, Overheard};
use crate::daemon::{self, Recording, Stop};
use crate::footage::{Bounds, Film, Order, Quality, Totals};
use crate::station::Station;
use crate::telemetry;
use crate::trigger;

pub const EXAMPLES: &str = "\
Examples:
  inspectd record --out shift-7 --duration 8h --max-gb 200
  inspectd record --station press-3 --out try --duration 30s --quality lossless
  inspectd footage show shift-7
  inspectd run --from shift-7                        (the same parts again)";

/// How often a waiting thread looks around.
const LOOK_AROUND: Duration = Duration::from_millis(100);

#[derive(clap::Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
    /// Only this station; without it all of them.
    #[arg(long)]
    station: Option<String>,
    /// The folder to write; each station gets a folder in it.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Stop after so long, such as 30s, 10m or 8h; without it at SIGINT or SIGTERM.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    duration: Option<Duration>,
    #[command(flatten)]
    form: Form,
}

/// How footage is kept.
#[derive(clap::Args, Debug)]
pub struct Form {
    /// `lossless` brings each byte back (FFV1, needs gstreamer1.0-libav); `high` is Motion JPEG.
    #[arg(long, value_name = "QUALITY", default_value = "high", value_parser = quality)]
    quality: Quality,
    /// Stop keeping a station's footage at so many gigabytes.
    #[arg(long, value_name = "GB", value_parser = gigabytes)]
    max_gb: Option<u64>,
    /// Stop when the disk has no more than so many gigabytes free.
    #[arg(long, value_name = "GB", default_value = "1", value_parser = gigabytes)]
    keep_free_gb: u64,
}

impl Form {
    /// Footage of this form in the folder `dir`.
    pub fn record(&self, dir: &Path) -> Recording {
        let bounds = Bounds { max_bytes: self.max_gb, keep_free_bytes: self.keep_free_gb };
        Recording::new(dir.to_owned(), self.quality, bounds)
    }
}

fn quality(text: &str) -> Result<Quality, String> {
    [Quality::Lossless, Quality::High]
        .into_iter()
        .find(|quality| quality.as_str() == text)
        .ok_or_else(|| "write lossless or high".to_owned())
}

fn gigabytes(text: &str) -> Result<u64, String> {
    let number: f64 = text.parse().map_err(|_| "write a number of gigabytes".to_owned())?;
    match (0.0..=1e6).contains(&number) {
        true => Ok((number * 1e9) as u64),
        false => Err("write 0 to 1000000".to_owned()),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let span: jiff::SignedDuration = text.parse().map_err(|why| format!("{why}"))?;
    Duration::try_from(span)
        .ok()
        .filter(|time| !time.is_zero())
        .ok_or_else(|| "write a time above 0, such as 30s, 10m or 8h".to_owned())
}

/// Records until the time is over, a signal comes, every camera has ended or every footage is full.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let loaded = load(&arguments.config)?;
    telemetry::start(loaded.settings.log.level.as_str(), loaded.settings.log.format);
    let stations: Vec<&Station> = match &arguments.station {
        Some(name) => vec![super::inspect::pick(&loaded.stations, name)?],
        None => loaded.stations.iter().collect(),
    };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let record = arguments.form.record(&arguments.out);
    let mut reels = Vec::new();
    for station in &stations {
        let camera = camera::open(&station.name, &station.camera, Arc::clone(&clock))
            .map_err(|why| Exit::Camera.because(why))?;
        let film = record.begin(station, &loaded.settings.device).map_err(exit_of)?;
        reels.push((*station, camera, film));
    }
    let broker = loaded.settings.broker.as_ref();
    let heard = overheard::listener(broker, stations.iter().copied(), Arc::clone(&clock))
        .map_err(exit_of)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let stop = Arc::new(Stop::new(None));
    runtime.spawn(daemon::on_signal(Arc::clone(&stop)));
    let (end_listening, listening) = tokio::sync::watch::channel(false);
    let mut overheard = Overheard::new();
    if let Some((listener, orders)) = heard {
        overheard = orders;
        runtime.spawn(listener.run(listening, || eprintln!("Triggers are heard.")));
    }
    for station in
        stations.iter().filter(|one| matches!(one.trigger, trigger::Options::PhotoEye(_)))
    {
        // Two programs cannot have one line of a chip.
        let name = &station.name;
        eprintln!(
            "Station \"{name}\": its photo eye is not heard here, so a replay will see no part; record it \
             while it inspects, with  inspectd run --record DIR"
        );
    }
    eprintln!("Recording into {}", arguments.out.display());
    let until = arguments.duration.map(|time| Instant::now() + time);
    let told: Vec<(String, Totals)> = thread::scope(|scope| {
        let filming: Vec<_> = reels
            .into_iter()
            .map(|(station, camera, film)| {
                let orders = overheard.remove(&station.name);
                let stop = &stop;
                scope.spawn(move || {
                    let totals = keep(station, camera, film, orders.as_ref(), stop, until);
                    (station.name.clone(), totals)
                })
            })
            .collect();
        filming.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    // Nobody listens any more if there was no listener.
    let _ = end_listening.send(true);
    tell(&told, stations.len())
}

/// Prints what was kept. An error: footage that ended before it should.
fn tell(told: &[(String, Totals)], stations: usize) -> anyhow::Result<()> {
    let mut ended = None;
    for (station, totals) in told {
        println!(
            "{station}: {} frames, {} dropped, {:.1} MB",
            totals.frames,
            totals.dropped,
            totals.bytes as f64 / 1e6
        );
        if let Some(why) = &totals.ended {
            ended.get_or_insert(format!("{station}: the recording ended early: {why}"));
        }
    }
    if told.len() < stations {
        ended.get_or_insert("a recording thread panicked".to_owned());
    }
    ended.map_or(Ok(()), |why| Err(anyhow::anyhow!(why)))
}

/// Keeps what one camera shows until it is over.
fn keep(
    station: &Station,
    mut camera: CameraHandle,
    film: Film,
    orders: Option<&flume::Receiver<Order>>,
    stop: &Stop,
    until: Option<Instant>,
) -> Totals {
    let bar = bar(&station.name);
    let now = || SystemClock.now();
    let over = || stop.is_set() || until.is_some_and(|until| Instant::now() >= until);
    let mut why = "the camera ended";
    loop {
        if over() {
            why = if stop.is_set() { "a signal came" } else { "the time was over" };
            break;
        }
        if film.has_ended() {
            break;
        }
        let delivery = camera.next(LOOK_AROUND);
        // What was asked for before the frame was looked at stands before it, as at the line.
        orders.into_iter().flat_map(flume::Receiver::try_iter).for_each(|order| film.order(order));
        match delivery {
            Delivery::Frame(frame) => film.frame(&frame),
            Delivery::NoFrame => {}
            Delivery::Lost { kind, reason } => {
                bar.println(format!("{}: camera lost: {reason}", station.name));
                film.lost(kind.as_str(), &reason, now());
            }
            Delivery::Back => film.back(now()),
            Delivery::Ended => {
                film.ended(now());
                match again(station) {
                    Some(opened) => camera = opened,
                    None => break,
                }
            }
        }
        show(&bar, &film);
    }
    camera.stop();
    let totals = film.end(why, now());
    bar.finish_and_clear();
    totals
}

/// The camera once more, where its pictures are to be repeated.
fn again(station: &Station) -> Option<CameraHandle> {
    let opened = camera::open(&station.name, &station.camera, Arc::new(SystemClock));
    opened.ok().filter(|_| station.camera.repeat)
}

fn show(bar: &ProgressBar, film: &Film) {
    let Totals { frames, dropped, bytes, .. } = film.totals();
    bar.set_message(format!("{frames} frames, {dropped} dropped, {:.1} MB", bytes as f64 / 1e6));
    bar.tick();
}

/// A line on standard error that is written again and again; silent where that is no terminal.
fn bar(station: &str) -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_prefix(station.to_owned());
    match ProgressStyle::with_template("{spinner} {prefix}  {elapsed}  {msg}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
