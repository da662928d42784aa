//! Which cameras are attached to this machine.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use gstreamer as gst;
use gstreamer::prelude::*;

/// Names of cameras that stay the same when cables are changed.
const BY_ID: &str = "/dev/v4l/by-id";

/// A camera that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What drives it.
    pub driver: String,
    /// Its name for people.
    pub name: String,
    /// Sizes that it offers, the largest first; empty if it does not say.
    pub sizes: Vec<String>,
    /// What to write below `[camera]`.
    pub toml: String,
}

/// Looks for cameras of the kernel, of libcamera, and of GenICam; the latter are called on the network
/// for about a second.
pub fn attached() -> Result<Vec<Found>, String> {
    gst::init().map_err(|why| why.to_string())?;
    let monitor = gst::DeviceMonitor::new();
    monitor.add_filter(Some("Video/Source"), None);
    // A monitor that is not started asks each provider once.
    let mut found: Vec<Found> = monitor.devices().iter().filter_map(of_device).collect();
    found.extend(genicam());
    Ok(found)
}

fn of_device(device: &gst::Device) -> Option<Found> {
    let properties = device.properties()?;
    let text = |key: &str| properties.get::<String>(key).ok();
    let driver = text("device.api").or_else(|| text("api.name")).unwrap_or_default();
    let name = device.display_name().to_string();
    let toml = match text("device.path").or_else(|| text("api.v4l2.path")) {
        Some(path) => format!("device = {:?}", lasting(Path::new(&path)).display().to_string()),
        None if driver.contains("libcamera") => format!("libcamera = {name:?}"),
        // A screen or a sound server's camera portal is none that a line has.
        None => return None,
    };
    Some(Found { driver, name, sizes: sizes(&device.caps()?), toml })
}

/// The name of a device that stays, if it has one.
fn lasting(device: &Path) -> PathBuf {
    let same =
        |entry: &fs::DirEntry| fs::canonicalize(entry.path()).is_ok_and(|target| target == *device);
    let mut names = fs::read_dir(BY_ID).into_iter().flatten().flatten();
    names.find(same).map_or_else(|| device.to_owned(), |entry| entry.path())
}

fn sizes(caps: &gst::Caps) -> Vec<String> {
    let size = |structure: &gst::StructureRef| {
        let side = |key: &str| structure.get::<i32>(key).ok();
        side("width").zip(side("height"))
    };
    let all: BTreeSet<(i32, i32)> = caps.iter().filter_map(size).collect();
    all.into_iter().rev().map(|(width, height)| format!("{width}x{height}")).collect()
}

/// GenICam cameras; none where their library is not installed.
fn genicam() -> Vec<Found> {
    let found = |name: String| {
        let toml = format!("genicam = {name:?}");
        Found { driver: "genicam".to_owned(), name, sizes: Vec::new(), toml }
    };
    super::genicam::names().unwrap_or_default().into_iter().map(found).collect()
}
