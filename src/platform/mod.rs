//! What board this is, and how it spells capture in GStreamer: one file a board, behind one interface.
//!
//! Nothing here starts anything: texts come out, and whoever builds a pipeline puts them into it.

mod generic;
mod jetson;
pub mod power;
mod raspberry_pi;
pub mod sensors;

use std::fs;
use std::path::Path;

/// Where the kernel says which board it runs on, where it knows one.
const MODEL_FILE: &str = "/proc/device-tree/model";

/// What NVIDIA's system for Jetson puts on its boards.
const TEGRA_FILE: &str = "/etc/nv_tegra_release";

/// Longest model name that is kept, in bytes.
const MODEL_MAX_BYTES: usize = 128;

/// A kind of board that captures in its own way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Platform {
    /// Any machine with what the kernel drives: a PC, a board that is not known.
    Generic,
    /// NVIDIA Jetson: pictures lie in memory of their own until they are converted.
    Jetson,
    /// Raspberry Pi: the camera connector is driven by libcamera.
    RaspberryPi,
}

/// A platform, and by what it was recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detected {
    /// Which.
    pub platform: Platform,
    /// The board's own name for itself, or why there is none.
    pub because: String,
}

/// What is asked of the camera on the board's own connector.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CsiWish {
    /// Which connector, from 0.
    pub sensor: u32,
    /// Pixels across.
    pub width_px: Option<u32>,
    /// Pixels down.
    pub height_px: Option<u32>,
    /// Frames a second.
    pub frames_per_s: Option<u32>,
    /// Exposure in microseconds; `None`: the camera chooses.
    pub exposure_us: Option<f64>,
    /// Analogue gain as a factor; `None`: the camera chooses.
    pub gain: Option<f64>,
    /// Whether the camera adapts the white balance; `None`: as it comes.
    pub white_balance_auto: Option<bool>,
}

impl Platform {
    /// Looks which board this is. Never fails: what is not known is [`Platform::Generic`].
    pub fn detect() -> Detected {
        let model = fs::read(MODEL_FILE).ok().map(|bytes| model_name(&bytes));
        recognise(model.as_deref(), Path::new(TEGRA_FILE).exists())
    }

    /// Its name in a sentence.
    pub fn name(self) -> &'static str {
        match self {
            Platform::Generic => "generic Linux",
            Platform::Jetson => "NVIDIA Jetson",
            Platform::RaspberryPi => "Raspberry Pi",
        }
    }

    /// The elements that capture from the board's own connector, the first one being the camera;
    /// `Err`: what to write instead.
    pub fn csi(self, wish: &CsiWish) -> Result<Vec<String>, &'static str> {
        match self {
            Platform::Generic => Err(generic::NO_CONNECTOR),
            Platform::Jetson => Ok(jetson::csi(wish)),
            Platform::RaspberryPi => raspberry_pi::csi(wish),
        }
    }

    /// The elements between a decoder of network video and `videoconvert`, which reads only the
    /// processor's own memory.
    pub fn after_decoder(self) -> Vec<String> {
        match self {
            Platform::Jetson => jetson::to_processor_memory(),
            Platform::Generic | Platform::RaspberryPi => Vec::new(),
        }
    }
}

/// Size and rate as the end of a caps text: `,width=1920,height=1080,framerate=30/1`.
pub fn size_caps(
    width_px: Option<u32>,
    height_px: Option<u32>,
    frames_per_s: Option<u32>,
) -> String {
    let wishes =
        [("width", width_px, ""), ("height", height_px, ""), ("framerate", frames_per_s, "/1")];
    let spell = |(key, value, unit): (&str, Option<u32>, &str)| {
        value.map(|value| format!(",{key}={value}{unit}"))
    };
    wishes.into_iter().filter_map(spell).collect()
}

impl CsiWish {
    fn size(&self) -> String {
        size_caps(self.width_px, self.height_px, self.frames_per_s)
    }
}

fn model_name(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    let text = String::from_utf8_lossy(&bytes[..end.min(MODEL_MAX_BYTES)]);
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn recognise(model: Option<&str>, has_tegra_file: bool) -> Detected {
    let named = model.unwrap_or_default();
    let platform = if has_tegra_file || named.contains("Jetson") {
        Platform::Jetson
    } else if named.contains("Raspberry Pi") {
        Platform::RaspberryPi
    } else {
        Platform::Generic
    };
    let because = match model {
        Some(name) if !name.is_empty() => format!("the board calls itself {name}"),
        _ if has_tegra_file => format!("there is {TEGRA_FILE}"),
        _ => "the kernel names no board".to_owned(),
    };
    Detected { platform, because }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(model: &str) -> Platform {
        recognise(Some(model), false).platform
    }

    #[test]
    fn boards_are_known_by_their_own_names() {
        assert_eq!(platform("NVIDIA Jetson Orin Nano Developer Kit"), Platform::Jetson);
        assert_eq!(platform("Raspberry Pi 5 Model B Rev 1.0"), Platform::RaspberryPi);
        assert_eq!(platform("Pine64 RockPro64"), Platform::Generic);
        assert_eq!(recognise(None, true).platform, Platform::Jetson);
        let unknown = recognise(None, false);
        assert_eq!(unknown.platform, Platform::Generic);
        assert!(unknown.because.contains("no board"));
    }

    #[test]
    fn a_name_ends_at_its_zero_and_cannot_draw_on_the_terminal() {
        assert_eq!(model_name(b"Raspberry Pi 5\0rest"), "Raspberry Pi 5");
        assert_eq!(model_name(b"a\x1b[2Jb"), "a [2Jb");
        assert!(model_name(&[b'x'; 500]).len() <= MODEL_MAX_BYTES);
        assert_eq!(model_name(b""), "");
    }

    #[test]
    fn each_board_spells_its_own_connector() {
        let wish = CsiWish { width_px: Some(1920), height_px: Some(1080), ..CsiWish::default() };
        assert!(Platform::Generic.csi(&wish).expect_err("no connector").contains("device"));
        let jetson = Platform::Jetson.csi(&wish).expect("it has one");
        assert!(jetson[0].starts_with("nvarguscamerasrc") && jetson[0].contains("sensor-id=0"));
        assert!(jetson[1].contains("memory:NVMM") && jetson[1].contains("width=1920"));
        let pi = Platform::RaspberryPi.csi(&wish).expect("it has one");
        assert!(pi[0].starts_with("libcamerasrc"));
        let second = CsiWish { sensor: 1, ..wish };
        let told = Platform::RaspberryPi.csi(&second).expect_err("only by name");
        assert!(told.contains("libcamera ="), "{told}");
    }

    #[test]
    fn fixed_exposure_and_gain_are_ranges_of_one_value() {
        let wish = CsiWish {
            exposure_us: Some(4000.0),
            gain: Some(2.0),
            white_balance_auto: Some(false),
            ..CsiWish::default()
        };
        let source = Platform::Jetson.csi(&wish).expect("it has one").remove(0);
        assert!(source.contains("exposuretimerange=\"4000000 4000000\""), "{source}");
        assert!(source.contains("gainrange=\"2 2\"") && source.contains("wbmode=0"), "{source}");
    }
}
