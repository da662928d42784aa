//! What would be built for a camera on this machine, for a person to read and to try by hand.

use super::CameraError;
use super::options::{Credentials, Options, Source};
use super::spelling::{SINK, spell};
use crate::platform::{Detected, Platform};

/// How a camera would be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// The board, and by what it was recognised.
    pub platform: Detected,
    /// The pipeline from the camera to our sink; empty for a folder of pictures.
    pub steps: Vec<String>,
    /// Elements that are not installed, each with what to do.
    pub missing: Vec<(String, String)>,
    /// What is asked of the camera, in words.
    pub controls: Vec<String>,
    /// Whether the controls are read back, and by what.
    pub read_back: &'static str,
    /// Where user name and password come from.
    pub login: Option<String>,
}

/// Explains `options` without opening anything.
pub fn explain(camera: &str, options: &Options) -> Result<Explained, CameraError> {
    super::check_options(camera, options)?;
    let platform = Platform::detect();
    let spelled = match &options.source {
        Source::Folder { .. } => None,
        _ => Some(
            spell(options, platform.platform)
                .map_err(|why| CameraError::Option { camera: camera.to_owned(), why })?,
        ),
    };
    let (steps, needs) = spelled.map_or_else(Default::default, |it| (it.steps, it.needs));
    Ok(Explained {
        missing: missing(options, &needs, &steps),
        platform,
        steps,
        controls: options.controls.lines(),
        read_back: match &options.source {
            _ if options.controls.is_empty() => "nothing is set",
            Source::Device(_) => "by the kernel, each time the camera is opened",
            Source::Genicam { .. } => "from the camera, each time it is opened",
            _ => "never: this kind of camera cannot be asked",
        },
        login: options.rtsp.credentials.as_ref().map(|from| match from {
            Credentials::File(path) => path.display().to_string(),
            Credentials::Systemd(name) => format!("systemd's credential {name}"),
        }),
    })
}

#[cfg(feature = "gst")]
fn missing(options: &Options, needs: &[&'static str], steps: &[String]) -> Vec<(String, String)> {
    use super::{elements, genicam};
    if gstreamer::init().is_err() {
        return vec![("GStreamer".to_owned(), "it does not start on this machine".to_owned())];
    }
    // The elements of a board or of a user's text are named in the text alone.
    let named = steps.iter().filter_map(|step| step.split_whitespace().next());
    let named = named.filter(|word| word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'));
    let mut all: Vec<&str> = needs.iter().copied().chain(named).collect();
    all.sort_unstable();
    all.dedup();
    let absent = all.into_iter().filter(|element| elements::first_missing(&[element]).is_some());
    let library = match options.source {
        Source::Genicam { .. } => genicam::missing(),
        _ => None,
    };
    absent.map(|element| (element.to_owned(), elements::advice(element))).chain(library).collect()
}

#[cfg(not(feature = "gst"))]
fn missing(
    _options: &Options,
    _needs: &[&'static str],
    _steps: &[String],
) -> Vec<(String, String)> {
    vec![("GStreamer".to_owned(), "this inspectd was built without it".to_owned())]
}

impl Explained {
    /// A command that shows what the pipeline brings, without a picture; to be pasted into a shell. None
    /// where the pictures do not come out of an element.
    pub fn command(&self) -> Option<String> {
        let (_, steps) = self.steps.split_last()?;
        if steps.first().is_some_and(|first| first.starts_with("appsrc ")) {
            return None;
        }
        let ours = |step: &&String| !step.contains(SINK);
        let steps: Vec<String> = steps.iter().filter(ours).map(|step| for_shell(step)).collect();
        Some(format!("gst-launch-1.0 -v {} ! fakesink silent=false", steps.join(" ! ")))
    }
}

/// A step as words of a shell.
fn for_shell(step: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,+!".contains(c);
    let quote = |word: String| match word.chars().all(plain) {
        true => word,
        false => format!("'{}'", word.replace('\'', "'\\''")),
    };
    words(step).into_iter().map(quote).collect::<Vec<_>>().join(" ")
}

/// Splits at spaces outside of double quotes.
fn words(step: &str) -> Vec<String> {
    let (mut words, mut word) = (Vec::new(), String::new());
    let (mut is_quoted, mut is_escaped) = (false, false);
    for c in step.chars() {
        match c {
            '"' if !is_escaped => is_quoted = !is_quoted,
            c if c.is_whitespace() && !is_quoted => {
                words.extend((!word.is_empty()).then(|| std::mem::take(&mut word)));
                continue;
            }
            _ => {}
        }
        is_escaped = c == '\\' && !is_escaped;
        word.push(c);
    }
    words.extend((!word.is_empty()).then_some(word));
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::camera::Controls;

    #[test]
    fn a_step_is_pasted_into_a_shell_as_it_stands() {
        let step = "rtspsrc name=x location=\"rtsp://10.0.0.5/it's \\\"a\\\" b\" latency=200";
        let expected =
            "rtspsrc name=x 'location=\"rtsp://10.0.0.5/it'\\''s \\\"a\\\" b\"' latency=200";
        assert_eq!(for_shell(step), expected);
        assert_eq!(for_shell("video/x-raw(ANY)"), "'video/x-raw(ANY)'");
    }

    #[test]
    fn a_folder_has_no_pipeline_and_controls_are_refused_where_none_can_be_set() {
        let folder = Source::Folder { path: "/srv/parts".into(), interval: None };
        let explained = explain("press", &Options::new(folder.clone())).expect("explained");
        assert_eq!((explained.steps.len(), explained.command()), (0, None));
        let controls = Controls { gain: Some(crate::camera::Setting::Auto), ..Controls::default() };
        let refused = explain("press", &Options { controls, ..Options::new(folder) });
        assert!(refused.expect_err("no control").to_string().contains("[camera.controls]"));
    }
}
