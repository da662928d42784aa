//! What a camera is opened with.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::controls::{Controls, HardwareTrigger, Setting};

/// What a camera is opened with.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Where the pictures come from.
    pub source: Source,
    /// Pixels across asked of a camera at this machine ([`Source::is_attached`]); refused for other
    /// sources, which bring their own.
    pub width_px: Option<u32>,
    /// Pixels down, likewise.
    pub height_px: Option<u32>,
    /// Frames a second, likewise.
    pub frames_per_s: Option<u32>,
    /// Exposure, gain, white balance and hardware trigger; what is not named stays as it is.
    pub controls: Controls,
    /// True (the default): footage plays at its own pace and a slow reader misses frames, as at
    /// the line. False: every frame once, as fast as the reader takes them, for evaluation and
    /// tests; then `captured` is the time of reading, not of the footage. A live source is always
    /// in real time.
    pub realtime: bool,
    /// Whether footage or a folder that has ended is to be opened again from its beginning, for
    /// demonstrations. [`super::open`] itself plays once; whoever reads the camera opens it again.
    pub repeat: bool,
    /// For `rtsp://` sources.
    pub rtsp: RtspOptions,
    /// How a lost camera is sought again.
    pub reconnect: Reconnect,
    /// A camera that brings no frame for so long is lost and is opened again. Too short takes a
    /// slow start for a loss; `None` never, which a camera with a hardware trigger needs.
    pub silence_limit: Option<Duration>,
    /// A camera that repeats one picture to the byte for so long is lost; `None` (the default): it is
    /// not looked at. Too short takes a compressed still scene for a frozen camera.
    pub frozen_limit: Option<Duration>,
}

impl Options {
    /// The defaults for `source`: real time, no wishes, TCP with 200 ms of jitter buffer, back-off
    /// from 250 ms to 10 s, and a silence limit of 10 s for network cameras and devices.
    pub fn new(source: Source) -> Options {
        let is_free_running = source.is_attached() || source.is_network();
        Options {
            source,
            width_px: None,
            height_px: None,
            frames_per_s: None,
            controls: Controls::default(),
            realtime: true,
            repeat: false,
            rtsp: RtspOptions::default(),
            reconnect: Reconnect::default(),
            silence_limit: is_free_running.then_some(Duration::from_secs(10)),
            frozen_limit: None,
        }
    }
}

impl Options {
    /// Why the controls cannot be asked of this source; `None`: they can, or there are none.
    pub(super) fn controls_refused(&self) -> Option<&'static str> {
        if self.controls.is_empty() {
            return None;
        }
        let is_line = matches!(self.controls.trigger, Some(HardwareTrigger::Line(_)));
        match &self.source {
            Source::Device(_) if is_line => Some(
                "a device of the kernel has no trigger line that can be chosen; use a GenICam camera",
            ),
            Source::Genicam { .. }
                if matches!(self.controls.white_balance_k, Some(Setting::Fixed(_))) =>
            {
                Some("GenICam knows no kelvin: write white_balance_auto = true or false")
            }
            Source::Device(_) | Source::Csi(_) | Source::Genicam { .. } => None,
            _ => Some(
                "[camera.controls] is for device, csi and genicam; a network camera is set up on its \
                 own page, and a pipeline text takes properties of its elements",
            ),
        }
    }
}

/// The `file:` address of the absolute path `path`; its odd bytes are written as %XX.
pub fn file_uri(path: &Path) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte);
    let bytes = path.as_os_str().as_encoded_bytes().iter();
    let written = |&byte: &u8| {
        if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    format!("file://{}", bytes.map(written).collect::<String>())
}

/// Where pictures come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// `file:///absolute/path` of footage, or `rtsp://` (`rtsps://`) of a network camera.
    Uri(String),
    /// A camera that the kernel drives, such as `/dev/video0`.
    Device(PathBuf),
    /// A camera at the board's own connector, counted from 0; how it is driven depends on the board.
    Csi(u32),
    /// A camera that libcamera drives, by its name there.
    Libcamera(String),
    /// A GigE Vision or USB3 Vision camera.
    Genicam {
        /// Its name or serial number; `None`: the first that answers.
        name: Option<String>,
        /// The pixels that it is to send.
        pixels: Pixels,
    },
    /// A pipeline as `gst-launch-1.0` takes it, up to raw video; what follows is ours: conversion
    /// to RGB and the sink.
    Pipeline(String),
    /// Pictures (png, jpg, jpeg, bmp) in the order of their names, read once.
    Folder {
        /// The folder.
        path: PathBuf,
        /// From one picture to the next; `None`: as fast as they are taken, and none is missed.
        interval: Option<Duration>,
    },
}

impl Source {
    /// Whether it is a camera at this machine, whose size and controls can be asked for.
    pub fn is_attached(&self) -> bool {
        matches!(
            self,
            Source::Device(_) | Source::Csi(_) | Source::Libcamera(_) | Source::Genicam { .. }
        )
    }

    /// Whether it is a camera on the network that sends compressed video.
    pub fn is_network(&self) -> bool {
        matches!(self, Source::Uri(uri) if !uri.starts_with("file:"))
    }
}

/// The pixels of a GenICam camera, by GenICam's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pixels {
    /// `Mono8`.
    #[default]
    Mono8,
    /// `RGB8`.
    Rgb8,
    /// `BayerRG8`.
    BayerRg8,
    /// `BayerGR8`.
    BayerGr8,
    /// `BayerGB8`.
    BayerGb8,
    /// `BayerBG8`.
    BayerBg8,
}

/// Where user name and password of a network camera stand: the name in the first line, the password in the second.
pub use crate::credential::Source as Credentials;

/// How a network camera is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RtspOptions {
    /// Jitter buffer in milliseconds: the least delay of a picture. Too small loses packets on a
    /// busy network.
    pub latency_ms: u32,
    /// How the pictures travel.
    pub transport: Transport,
    /// User name and password; `None`: those in the address, if any.
    pub credentials: Option<Credentials>,
}

impl Default for RtspOptions {
    fn default() -> RtspOptions {
        RtspOptions { latency_ms: 200, transport: Transport::Tcp, credentials: None }
    }
}

/// How RTSP pictures travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Within the RTSP connection: no packet is lost, and a firewall lets it through.
    Tcp,
    /// By datagrams: less delay, and a torn picture where one is lost.
    Udp,
    /// Datagrams, then TCP if none arrives.
    Any,
}

/// Waiting times between two attempts to open a lost camera; each is twice the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reconnect {
    /// Before the first attempt, and again after a frame has come.
    pub first: Duration,
    /// The longest.
    pub ceiling: Duration,
}

impl Default for Reconnect {
    fn default() -> Reconnect {
        Reconnect { first: Duration::from_millis(250), ceiling: Duration::from_secs(10) }
    }
}

impl Reconnect {
    /// The wait before attempt `attempt`, counted from 0 since the last frame.
    #[cfg_attr(not(feature = "gst"), allow(dead_code))]
    pub(super) fn wait(&self, attempt: u32) -> Duration {
        self.first.saturating_mul(1 << attempt.min(20)).min(self.ceiling)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_its_ceiling() {
        let reconnect = Reconnect::default();
        let ms = |attempt| reconnect.wait(attempt).as_millis();
        assert_eq!((ms(0), ms(1), ms(5), ms(6), ms(u32::MAX)), (250, 500, 8_000, 10_000, 10_000));
    }
}
