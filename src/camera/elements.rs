//! Which Debian package brings which GStreamer element, so that a message can say what to install.
//!
//! Only elements that a camera or footage of ours may name; for the rest the operator is told how to look.

use gstreamer as gst;

/// Elements by package, as found on Debian 12; names are the same on Ubuntu 22.04.
const PACKAGES: [(&str, &[&str]); 10] = [
    (
        "libgstreamer1.0-0",
        &["filesrc", "filesink", "fakesink", "identity", "queue", "capsfilter", "tee"],
    ),
    (
        "gstreamer1.0-plugins-base",
        &[
            "appsink",
            "appsrc",
            "decodebin",
            "decodebin3",
            "uridecodebin",
            "videotestsrc",
            "videoconvert",
            "videoscale",
            "videorate",
            "audiotestsrc",
            "audioconvert",
        ],
    ),
    (
        "gstreamer1.0-plugins-good",
        &[
            "v4l2src",
            "rtspsrc",
            "rtpjpegdepay",
            "rtph264depay",
            "rtph265depay",
            "rtpjitterbuffer",
            "udpsrc",
            "multifilesrc",
            "jpegdec",
            "jpegenc",
            "pngdec",
            "vp8dec",
            "vp9dec",
            "qtdemux",
            "matroskademux",
            "matroskamux",
            "avidemux",
            "videocrop",
            "videobox",
            "videoflip",
            "imagefreeze",
        ],
    ),
    (
        "gstreamer1.0-plugins-bad",
        &["h264parse", "h265parse", "jpegparse", "openh264dec", "tsdemux", "watchdog", "bayer2rgb"],
    ),
    ("gstreamer1.0-plugins-ugly", &["x264enc"]),
    (
        "gstreamer1.0-libav",
        &["avdec_h264", "avdec_h265", "avdec_mjpeg", "avdec_ffv1", "avenc_ffv1"],
    ),
    ("gstreamer1.0-libcamera", &["libcamerasrc"]),
    // The library's own package holds the plug-in; a text of the operator's may name it.
    ("libaravis-0.8-0", &["aravissrc"]),
    ("gstreamer1.0-x", &["timeoverlay", "textoverlay", "clockoverlay"]),
    (
        "nvidia-l4t-gstreamer (NVIDIA Jetson only)",
        &["nvarguscamerasrc", "nvvidconv", "nvv4l2decoder", "nvv4l2camerasrc", "nvjpegdec"],
    ),
];

/// A Debian package of plug-ins, and what of it this machine has.
pub(crate) struct Plugins {
    /// The package.
    pub(crate) package: &'static str,
    /// Elements that are installed.
    pub(crate) here: Vec<&'static str>,
    /// Elements that are not.
    pub(crate) absent: Vec<&'static str>,
}

/// Every package that a camera or footage may need. GStreamer must have been started.
pub(crate) fn plugins() -> Vec<Plugins> {
    let is_here = |element: &&str| gst::ElementFactory::find(element).is_some();
    let look = |(package, elements): (&'static str, &'static [&'static str])| {
        let (here, absent) = elements.iter().copied().partition(is_here);
        Plugins { package, here, absent }
    };
    PACKAGES.into_iter().map(look).collect()
}

/// What to do about a missing element.
pub(crate) fn advice(element: &str) -> String {
    let brings = |(_, elements): &&(&str, &[&str])| elements.contains(&element);
    match PACKAGES.iter().find(brings) {
        Some((package, _)) => format!("install the Debian package {package}"),
        None => format!(
            "check its spelling with \"gst-inspect-1.0 {element}\", or install the package that \
             brings it"
        ),
    }
}

/// What to do about a stream that no installed plug-in can read.
pub(super) fn decoder_advice(stream: &str) -> String {
    format!(
        "no installed plug-in for {stream}: install the Debian packages gstreamer1.0-plugins-good, \
         gstreamer1.0-plugins-bad and gstreamer1.0-libav"
    )
}

/// The first of `elements` that is not installed.
pub(crate) fn first_missing<'a>(elements: &[&'a str]) -> Option<&'a str> {
    elements.iter().copied().find(|element| gst::ElementFactory::find(element).is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_names_the_package() {
        assert!(advice("v4l2src").contains("gstreamer1.0-plugins-good"));
        assert!(advice("avdec_h264").contains("gstreamer1.0-libav"));
        assert!(advice("v4l3src").contains("gst-inspect-1.0 v4l3src"));
    }

    /// The table against this machine: what is installed must not be under a wrong name.
    #[test]
    fn what_the_sources_need_is_installed_or_reported() {
        gst::init().expect("GStreamer starts");
        assert_eq!(first_missing(&["filesrc", "appsink", "videoconvert"]), None);
        assert_eq!(first_missing(&["appsink", "no-such-element"]), Some("no-such-element"));
    }
}
