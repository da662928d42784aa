//! Why a camera cannot be opened: what was tried, on what, and what to do.

use std::path::PathBuf;

/// Why a camera cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum CameraError {
    /// A file, device or folder that cannot be used.
    #[error("camera \"{camera}\": {what} {path} cannot be used: {source}; {advice}")]
    Unusable {
        /// The camera's name.
        camera: String,
        /// `file`, `device` or `folder`.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// What the system answered.
        source: std::io::Error,
        /// What to do.
        advice: &'static str,
    },
    /// A path of the wrong kind.
    #[error("camera \"{camera}\": {path} is not a {expected}; {advice}")]
    WrongKind {
        /// The camera's name.
        camera: String,
        /// Which path.
        path: PathBuf,
        /// What it should be.
        expected: &'static str,
        /// What to do.
        advice: &'static str,
    },
    /// A folder without a picture.
    #[error(
        "camera \"{camera}\": folder {path} holds no picture; put .png, .jpg, .jpeg or .bmp files \
         there, or correct the path"
    )]
    NoPictures {
        /// The camera's name.
        camera: String,
        /// The folder.
        path: PathBuf,
    },
    /// An option that makes no sense.
    #[error("camera \"{camera}\": {why}")]
    Option {
        /// The camera's name.
        camera: String,
        /// What is wrong and what to do.
        why: &'static str,
    },
    /// An address that is neither footage nor a network camera.
    #[error(
        "camera \"{camera}\": address \"{uri}\" cannot be used: {why}; write \
         file:///absolute/path or rtsp://host/path"
    )]
    Uri {
        /// The camera's name.
        camera: String,
        /// The address, without a password in it.
        uri: String,
        /// What is wrong with it.
        why: String,
    },
    /// A file with user name and password that cannot be used.
    #[error(
        "camera \"{camera}\": the credentials {path} cannot be used: {why}; the user name belongs \
         into its first line and the password into its second"
    )]
    Credentials {
        /// The camera's name.
        camera: String,
        /// The file, or the name of systemd's credential.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A GStreamer element, or the library of a camera, that is not installed.
    #[error("camera \"{camera}\": \"{element}\" is missing: {advice}")]
    MissingElement {
        /// The camera's name.
        camera: String,
        /// Which.
        element: String,
        /// Which package brings it.
        advice: String,
    },
    /// A pipeline text that GStreamer refuses.
    #[error(
        "camera \"{camera}\": pipeline \"{text}\" cannot be built: {why}; try it with \
         gst-launch-1.0, it must end in raw video"
    )]
    Pipeline {
        /// The camera's name.
        camera: String,
        /// The text.
        text: String,
        /// What GStreamer said.
        why: String,
    },
    /// GStreamer itself, or a thread, could not be started.
    #[error("camera \"{camera}\": could not start {what}: {why}")]
    Start {
        /// The camera's name.
        camera: String,
        /// What could not be started.
        what: &'static str,
        /// Why.
        why: String,
    },
    /// This program was built without GStreamer.
    #[error(
        "camera \"{camera}\": this inspectd was built without GStreamer, so it can read folders of \
         pictures only; build it with the feature \"gst\", which is on by default"
    )]
    NotCompiledIn {
        /// The camera's name.
        camera: String,
    },
}
