//! `inspectd camera`: find cameras, show how one is opened, take a picture.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{ConfigFile, Exit};
use crate::camera::{self, Delivery, LossKind};
use crate::clock::SystemClock;
use crate::frame::{Frame, file};
use crate::station::Station;

pub const EXAMPLES: &str = "\
Examples:
  inspectd camera list                               (what is attached, and what to write for it)
  inspectd camera plugins                            (which packages cameras may need, and what of them is here)
  inspectd camera explain --station press-3          (the pipeline, what is missing, how to try it)
  inspectd camera snapshot --station press-3 --out now.png";

#[derive(clap::Args, Debug)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand, Debug)]
enum Action {
    /// List the cameras that are attached to this machine or answer on its network.
    List,
    /// List the Debian packages that cameras and footage may need, and what of them this machine has.
    Plugins,
    /// Show how the camera of a station would be opened on this machine, without opening it.
    Explain {
        #[command(flatten)]
        which: Which,
    },
    /// Open the camera of a station and write one picture.
    Snapshot {
        #[command(flatten)]
        which: Which,
        /// The PNG to write.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Whole frames to let pass first, for a camera that is still finding its exposure.
        #[arg(long, default_value_t = 5, value_name = "FRAMES")]
        skip: u32,
        /// How long to wait for the picture, in seconds.
        #[arg(long, default_value_t = 30, value_name = "SECONDS")]
        timeout_s: u64,
    },
}

#[derive(clap::Args, Debug)]
struct Which {
    /// The station; may be left out where there is one only.
    #[arg(long)]
    station: Option<String>,
    #[command(flatten)]
    config: ConfigFile,
}

/// Runs the action.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    match &arguments.action {
        Action::List => list(&mut io::stdout().lock()),
        Action::Plugins => plugins(&mut io::stdout().lock()),
        Action::Explain { which } => explain(&which.station()?, &mut io::stdout().lock()),
        Action::Snapshot { which, out, skip, timeout_s } => {
            snapshot(&which.station()?, out, *skip, Duration::from_secs(*timeout_s))
        }
    }
}

impl Which {
    fn station(&self) -> anyhow::Result<Station> {
        let loaded = super::run::load(&self.config)?;
        match (&self.station, loaded.stations.as_slice()) {
            (Some(name), stations) => super::inspect::pick(stations, name).cloned(),
            (None, [only]) => Ok(only.clone()),
            (None, stations) => {
                let names: Vec<&str> = stations.iter().map(|it| it.name.as_str()).collect();
                let text = format!("which station? add --station; there are: {}", names.join(", "));
                Err(Exit::Usage.because(anyhow::anyhow!(text)))
            }
        }
    }
}

#[cfg(feature = "gst")]
fn list(out: &mut dyn Write) -> anyhow::Result<()> {
    let found = camera::list::attached()
        .map_err(|why| Exit::Camera.because(anyhow::anyhow!("GStreamer does not start: {why}")))?;
    if found.is_empty() {
        writeln!(
            out,
            "No camera was found. A network camera has to be written by its address: uri = \"rtsp://…\"; \
             a GenICam camera needs libaravis-0.8-0 and a network that lets broadcasts through."
        )?;
        return Ok(());
    }
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::UTF8_BORDERS_ONLY);
    table.set_header(["driver", "name", "sizes", "write below [camera]"]);
    for camera in &found {
        let sizes = match camera.sizes.as_slice() {
            [] => "not told".to_owned(),
            few @ [_, _, _, ..] => format!("{} … {}", few[0], few[few.len() - 1]),
            few => few.join(", "),
        };
        table.add_row([&camera.driver, &camera.name, &sizes, &camera.toml]);
    }
    writeln!(out, "{table}")?;
    Ok(())
}

#[cfg(feature = "gst")]
fn plugins(out: &mut dyn Write) -> anyhow::Result<()> {
    gstreamer::init()
        .map_err(|why| Exit::Camera.because(anyhow::anyhow!("GStreamer does not start: {why}")))?;
    for plugins in camera::elements::plugins() {
        writeln!(out, "{}", plugins.package)?;
        for (word, elements) in [("here", &plugins.here), ("absent", &plugins.absent)] {
            if !elements.is_empty() {
                writeln!(out, "  {word:<7} {}", elements.join(" "))?;
            }
        }
    }
    Ok(())
}

#[cfg(not(feature = "gst"))]
fn plugins(out: &mut dyn Write) -> anyhow::Result<()> {
    list(out)
}

#[cfg(not(feature = "gst"))]
fn list(_out: &mut dyn Write) -> anyhow::Result<()> {
    let why = anyhow::anyhow!("this inspectd was built without GStreamer, which finds cameras");
    Err(Exit::Camera.because(why))
}

fn explain(station: &Station, out: &mut dyn Write) -> anyhow::Result<()> {
    let explained =
        camera::explain(&station.name, &station.camera).map_err(|why| Exit::Usage.because(why))?;
    let mut line = |name: &str, text: &str| writeln!(out, "{name:<9} {text}");
    line("station", &station.name)?;
    let detected = &explained.platform;
    line("platform", &format!("{}: {}", detected.platform.name(), detected.because))?;
    for (at, step) in explained.steps.iter().enumerate() {
        let text = if at == 0 { step.clone() } else { format!("  ! {step}") };
        line(if at == 0 { "pipeline" } else { "" }, &text)?;
    }
    if explained.steps.is_empty() {
        line("pipeline", "none: the pictures of a folder are read one after the other")?;
    }
    if let Some(login) = &explained.login {
        line("login", &format!("from {login}, each time the camera is opened"))?;
    }
    for control in &explained.controls {
        line("control", control)?;
    }
    line("read back", explained.read_back)?;
    for (element, advice) in &explained.missing {
        line("missing", &format!("{element}: {advice}"))?;
    }
    if let Some(command) = explained.command() {
        line("try it", &command)?;
    }
    if explained.missing.is_empty() {
        return Ok(());
    }
    Err(Exit::Camera.because(anyhow::anyhow!("the camera cannot be opened on this machine")))
}

fn snapshot(station: &Station, out: &Path, skip: u32, patience: Duration) -> anyhow::Result<()> {
    let fault = |why: String| Exit::Camera.because(anyhow::anyhow!(why));
    let camera = camera::open(&station.name, &station.camera, Arc::new(SystemClock))
        .map_err(|why| Exit::Camera.because(why))?;
    let (frame, seen) = wait_for(&camera, skip, patience).map_err(fault)?;
    let counts = camera.counts();
    camera.stop();
    file::write_png(out, frame.picture.rgb())
        .map_err(|why| Exit::Failed.because(anyhow::anyhow!("{}: {why}", out.display())))?;
    let (width, height) = (frame.picture.width(), frame.picture.height());
    println!("{}: {width}x{height} px, frame {}{seen}", out.display(), frame.sequence);
    let torn = counts.damaged + counts.partial;
    if torn > 0 {
        println!("{torn} of {} frames came torn or damaged and were passed over", counts.brought);
    }
    Ok(())
}

/// The frame after `skip` others, and the rate at which they came.
fn wait_for(
    camera: &camera::CameraHandle,
    skip: u32,
    patience: Duration,
) -> Result<(Arc<Frame>, String), String> {
    let until = Instant::now() + patience;
    let mut first: Option<Arc<Frame>> = None;
    let mut lost = None;
    let mut passed = 0;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match camera.next(left) {
            Delivery::Frame(frame) if passed >= skip => {
                return Ok((Arc::clone(&frame), rate(first.as_deref(), &frame)));
            }
            Delivery::Frame(frame) => {
                passed += 1;
                first.get_or_insert(frame);
            }
            // It will say the same each time it is opened.
            Delivery::Lost { kind: LossKind::Disobedient, reason } => {
                return Err(format!("disobedient: {reason}"));
            }
            Delivery::Lost { kind, reason } => lost = Some(format!("{}: {reason}", kind.as_str())),
            Delivery::Back => lost = None,
            Delivery::Ended => {
                let why = lost.map_or_else(String::new, |why| format!("; {why}"));
                return Err(format!("the camera ended after {passed} frames{why}"));
            }
            Delivery::NoFrame => {
                let why = lost.unwrap_or_else(|| "it is there and sends nothing".to_owned());
                let waited_s = patience.as_secs();
                return Err(format!("no picture after {waited_s} s, {passed} frames seen: {why}"));
            }
        }
    }
}

fn rate(first: Option<&Frame>, last: &Frame) -> String {
    let Some(first) = first else { return String::new() };
    let seconds = last.captured.since(&first.captured).as_secs_f64();
    let frames = last.sequence.saturating_sub(first.sequence) as f64;
    if seconds > 0.0 { format!(", {:.1} frames/s", frames / seconds) } else { String::new() }
}
