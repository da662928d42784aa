//! `calibrate live`: focus, light and framing of the running camera, a line at a time.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::LiveArguments;
use crate::calibration::assist::{self, Seen};
use crate::camera::{self, Delivery};
use crate::cli::Exit;
use crate::clock::SystemClock;

/// How long a frame is waited for before that is said.
const WAIT: Duration = Duration::from_secs(2);

/// Prints a line for the newest frame, again and again.
pub fn run(arguments: &LiveArguments) -> anyhow::Result<()> {
    let loaded = crate::cli::run::load(&arguments.config)?;
    let station = crate::cli::inspect::pick(&loaded.stations, &arguments.station)?;
    let camera = camera::open(&station.name, &station.camera, Arc::new(SystemClock))
        .map_err(|why| Exit::Camera.because(why))?;
    let every = Duration::from_millis(arguments.every_ms);
    let out = &mut io::stdout().lock();
    let (mut printed, mut best, mut last) = (0u64, 0.0f64, None::<Instant>);
    while arguments.lines.is_none_or(|lines| printed < lines) {
        match camera.next(WAIT) {
            Delivery::Frame(_) if last.is_some_and(|last| last.elapsed() < every) => continue,
            Delivery::Frame(frame) => {
                last = Some(Instant::now());
                let seen = assist::look(frame.picture.rgb());
                best = best.max(seen.focus);
                writeln!(out, "{}", line(&seen, best))?;
            }
            Delivery::Lost { reason, .. } => writeln!(out, "the camera is lost: {reason}")?,
            Delivery::Back => writeln!(out, "the camera is back")?,
            Delivery::NoFrame => writeln!(out, "no frame for {} s", WAIT.as_secs())?,
            Delivery::Ended => break,
        }
        out.flush()?;
        printed += 1;
    }
    Ok(())
}

fn line(seen: &Seen, best: f64) -> String {
    // The bar is of the best so far: what counts is whether the next turn of the lens was right.
    let share = if best > 0.0 { seen.focus / best } else { 0.0 };
    let bar = "#".repeat((share * 20.0).round() as usize);
    let target = match &seen.target {
        Some(target) => format!(
            "target: {} corners, squares of {:.0} px, {}",
            target.corners,
            target.square_px,
            target.place()
        ),
        None => "no target".to_owned(),
    };
    format!(
        "focus {:7.1} ({:3.0} % of the best) [{bar:<20}] corners of the frame {:3.0} % of its centre | \
         light {:3.0}, {:.1} % white, {:.1} % black | {target}",
        seen.focus,
        share * 100.0,
        seen.edge_percent,
        seen.level,
        seen.white_percent,
        seen.black_percent
    )
}
