//! How each source is spelled in GStreamer, as a text that `gst-launch-1.0` takes.
//!
//! ```text
//! footage            uridecodebin → TAIL
//! network            rtspsrc → decodebin → (the board's way into its memory) → TAIL
//! device             v4l2src → size → decodebin → TAIL
//! connector          as the board spells it → TAIL
//! GenICam            appsrc, fed by the camera's library → (bayer2rgb) → TAIL
//! text               TEXT → TAIL
//! TAIL               videoconvert → as it is, or the nearest form that is known → appsink
//! ```
//!
//! The text is what is built, so what is printed is what runs. Passwords are not in it.

use super::controls::{HardwareTrigger, Setting};
use super::options::{Options, Pixels, RtspOptions, Source, Transport};
use crate::frame::Form;
use crate::platform::{CsiWish, Platform, size_caps};

/// A connection to a network camera that takes longer is an error, µs.
const RTSP_CONNECT_LIMIT_US: u64 = 5_000_000;

/// The name of the element that is the camera, where there is one that we speak to.
pub(super) const SOURCE: &str = "inspectd_source";

/// The name of the element that finds the video, where there is one.
pub(super) const DECODER: &str = "inspectd_decoder";

/// The name of the sink.
pub(super) const SINK: &str = "inspectd_sink";

/// A pipeline as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spelling {
    /// From the camera to our sink.
    pub steps: Vec<String>,
    /// Elements that have to be installed.
    pub needs: Vec<&'static str>,
    /// The address with the password that the text leaves out, where it holds one.
    pub(super) address: Option<String>,
}

impl Spelling {
    /// The whole text.
    pub fn text(&self) -> String {
        self.steps.join(" ! ")
    }
}

/// Spells `options` for `platform`; `Err`: what to write instead.
pub fn spell(options: &Options, platform: Platform) -> Result<Spelling, &'static str> {
    let mut needs = vec!["videoconvert", "appsink"];
    let mut address = None;
    let mut steps = match &options.source {
        Source::Uri(uri) if !options.source.is_network() => {
            needs.extend(["uridecodebin", "filesrc"]);
            vec![
                format!("uridecodebin name={DECODER} uri={}", quoted(uri)),
                "video/x-raw(ANY)".to_owned(),
            ]
        }
        Source::Uri(uri) => {
            needs.extend(["rtspsrc", "decodebin"]);
            address = Some(uri.clone());
            let decoded = vec![format!("decodebin name={DECODER}"), "video/x-raw(ANY)".to_owned()];
            [vec![rtsp(uri, &options.rtsp)], decoded, platform.after_decoder()].concat()
        }
        Source::Device(path) => {
            needs.extend(["v4l2src", "decodebin"]);
            let device = quoted(&path.display().to_string());
            let raw_or_jpeg =
                ["video/x-raw", "image/jpeg"].map(|kind| kind.to_owned() + &size(options));
            vec![
                format!("v4l2src name={SOURCE} device={device}"),
                raw_or_jpeg.join(";"),
                format!("decodebin name={DECODER}"),
                "video/x-raw(ANY)".to_owned(),
            ]
        }
        Source::Csi(sensor) => platform.csi(&csi_wish(*sensor, options)?)?,
        Source::Libcamera(name) => {
            needs.push("libcamerasrc");
            let source = format!("libcamerasrc camera-name={}", quoted(name));
            vec![source, format!("video/x-raw,format=NV12{}", size(options))]
        }
        Source::Genicam { pixels, .. } => {
            // The camera's own library feeds it: src/camera/genicam says why.
            needs.push("appsrc");
            let fed = "is-live=true format=time do-timestamp=true block=false max-buffers=2 \
                       leaky-type=downstream";
            let mut steps = vec![format!("appsrc name={SOURCE} {fed}")];
            if !matches!(pixels, Pixels::Mono8 | Pixels::Rgb8) {
                needs.push("bayer2rgb");
                steps.push("bayer2rgb".to_owned());
            }
            steps
        }
        Source::Pipeline(text) => vec![text.trim().trim_end_matches('!').trim_end().to_owned()],
        Source::Folder { .. } => return Err("a folder of pictures is read without GStreamer"),
    };
    let sink = format!("appsink name={SINK} enable-last-sample=false");
    // Nothing is converted here but what has an uncommon form: frames become RGB where they are cut.
    let forms = Form::ALL.map(Form::name).join(",");
    steps.extend(["videoconvert".to_owned(), format!("video/x-raw,format={{{forms}}}"), sink]);
    Ok(Spelling { steps, needs, address })
}

fn rtsp(uri: &str, options: &RtspOptions) -> String {
    let protocols = match options.transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
        Transport::Any => "tcp+udp",
    };
    format!(
        "rtspsrc name={SOURCE} location={} protocols={protocols} latency={} \
         tcp-timeout={RTSP_CONNECT_LIMIT_US}",
        quoted(&without_password(uri)),
        options.latency_ms,
    )
}

fn csi_wish(sensor: u32, options: &Options) -> Result<CsiWish, &'static str> {
    let controls = &options.controls;
    let fixed = |setting: Option<Setting>| match setting {
        None | Some(Setting::Auto) => Ok(None),
        Some(Setting::Fixed(value)) => Ok(Some(value)),
        Some(Setting::Hold) => {
            Err("a camera at the connector holds only what is given as a figure")
        }
    };
    let white_balance_auto = match controls.white_balance_k {
        None => None,
        Some(Setting::Auto) => Some(true),
        Some(Setting::Hold) => Some(false),
        Some(Setting::Fixed(_)) => {
            return Err("a camera at the connector takes white_balance_auto and no kelvin");
        }
    };
    if matches!(controls.trigger, Some(HardwareTrigger::Line(_))) {
        return Err(
            "a camera at the connector has no trigger line that is known; use a GenICam camera",
        );
    }
    Ok(CsiWish {
        sensor,
        width_px: options.width_px,
        height_px: options.height_px,
        frames_per_s: options.frames_per_s,
        exposure_us: fixed(controls.exposure_us)?,
        gain: fixed(controls.gain)?,
        white_balance_auto,
    })
}

fn size(options: &Options) -> String {
    size_caps(options.width_px, options.height_px, options.frames_per_s)
}

/// A value as the parser of GStreamer's texts reads it back.
fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

/// An address as it may stand in a log: what stands between `//` and the last `@` of the host part
/// is left out.
pub(super) fn without_password(uri: &str) -> String {
    let Some((scheme, rest)) = uri.split_once("://") else { return uri.to_owned() };
    let end = rest.find('/').unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => format!("{scheme}://***{}", &rest[at..]),
        None => uri.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::camera::Controls;

    fn spelled(options: &Options, platform: Platform) -> String {
        spell(options, platform).expect("it can be spelled").text()
    }

    #[test]
    fn a_password_reaches_neither_the_log_nor_the_text() {
        assert_eq!(without_password("rtsp://u:p@10.0.0.5/a"), "rtsp://***@10.0.0.5/a");
        assert_eq!(without_password("rtsp://u:p@x@10.0.0.5"), "rtsp://***@10.0.0.5");
        assert_eq!(without_password("rtsp://10.0.0.5/a@b"), "rtsp://10.0.0.5/a@b");
        assert_eq!(without_password("nonsense"), "nonsense");
        let source = Source::Uri("rtsp://u:secret@10.0.0.5/a".to_owned());
        let text = spelled(&Options::new(source), Platform::Generic);
        assert!(!text.contains("secret"), "{text}");
    }

    #[test]
    fn the_boards_way_stands_behind_the_decoder() {
        let options = Options::new(Source::Uri("rtsp://10.0.0.5/a".to_owned()));
        assert!(!spelled(&options, Platform::Generic).contains("nvvidconv"));
        let jetson = spelled(&options, Platform::Jetson);
        let at = |element: &str| jetson.find(element).expect("it is there");
        assert!(at("decodebin") < at("nvvidconv") && at("nvvidconv") < at("videoconvert"));
    }

    #[test]
    fn a_quote_in_a_path_does_not_end_the_value() {
        let options = Options::new(Source::Device("/dev/a \"b\\c".into()));
        let text = spelled(&options, Platform::Generic);
        assert!(text.contains(r#"device="/dev/a \"b\\c""#), "{text}");
    }

    #[test]
    fn a_connector_takes_what_its_board_can_hold() {
        let controls = Controls { gain: Some(Setting::Hold), ..Controls::default() };
        let options = Options { controls, ..Options::new(Source::Csi(0)) };
        assert!(spell(&options, Platform::Jetson).is_err());
        let free = Options::new(Source::Csi(0));
        assert!(spell(&free, Platform::Generic).is_err());
        assert!(spelled(&free, Platform::RaspberryPi).starts_with("libcamerasrc ! "));
    }
}
