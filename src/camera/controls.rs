//! What is set at a camera before it may be believed, and what it says of it afterwards.
//!
//! A camera may take a wish and do something else: a trigger mode that is accepted while pictures keep
//! coming by themselves, an exposure that is rounded to a step. So what was set is read back, and a
//! camera that differs counts as lost until it does not.

/// What is asked for; `None`: it stays as the camera has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Controls {
    /// Exposure in microseconds.
    pub exposure_us: Option<Setting>,
    /// Gain in the camera's own unit: dB for GenICam, a factor on a Jetson, steps for a device.
    pub gain: Option<Setting>,
    /// White balance in kelvin.
    pub white_balance_k: Option<Setting>,
    /// What starts an exposure.
    pub trigger: Option<HardwareTrigger>,
}

/// How a figure of the camera is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Setting {
    /// By the camera, all the time.
    Auto,
    /// By the camera no more: what it has now stays.
    Hold,
    /// By us.
    Fixed(f64),
}

/// What starts an exposure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HardwareTrigger {
    /// The camera itself, at its frame rate.
    FreeRunning,
    /// A line of the camera, by its name there, such as `Line0`.
    Line(String),
}

impl Controls {
    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        *self == Controls::default()
    }

    /// What is asked for as lines for a person: `exposure 4000 µs`.
    pub fn lines(&self) -> Vec<String> {
        let figure = |name: &str, setting: Option<Setting>, unit: &str| {
            setting.map(|setting| match setting {
                Setting::Auto => format!("{name} chosen by the camera"),
                Setting::Hold => format!("{name} held"),
                Setting::Fixed(value) => format!("{name} {value}{unit}"),
            })
        };
        let trigger = self.trigger.as_ref().map(|trigger| match trigger {
            HardwareTrigger::FreeRunning => "free running".to_owned(),
            HardwareTrigger::Line(line) => format!("triggered by {line}"),
        });
        let lines = [
            figure("exposure", self.exposure_us, " µs"),
            figure("gain", self.gain, ""),
            figure("white balance", self.white_balance_k, " K"),
            trigger,
        ];
        lines.into_iter().flatten().collect()
    }
}

/// One control after it was set: what was asked for and what the camera says.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadBack {
    /// The camera's own name of the control.
    pub name: String,
    /// As text, in the control's unit.
    pub asked: String,
    /// As text; `Err`: why it cannot be read.
    pub found: Result<String, String>,
    /// Whether the two are the same within the control's step.
    pub agrees: bool,
}

impl ReadBack {
    /// A number that may be rounded by half a `step`, or by a thousandth.
    pub fn number(name: &str, asked: f64, found: Result<f64, String>, step: f64) -> ReadBack {
        let slack = (step / 2.0).max(asked.abs() / 1000.0) + 1e-9;
        let agrees = found.as_ref().is_ok_and(|found| (found - asked).abs() <= slack);
        ReadBack {
            name: name.to_owned(),
            asked: asked.to_string(),
            found: found.map(|found| found.to_string()),
            agrees,
        }
    }

    /// A word.
    pub fn word(name: &str, asked: &str, found: Result<String, String>) -> ReadBack {
        let agrees = found.as_ref().is_ok_and(|found| found == asked);
        ReadBack { name: name.to_owned(), asked: asked.to_owned(), found, agrees }
    }
}

/// Why the camera must not be believed; `None`: all controls are as they were asked for.
pub fn difference(read: &[ReadBack]) -> Option<String> {
    let told: Vec<String> = read
        .iter()
        .filter(|control| !control.agrees)
        .map(|control| match &control.found {
            Ok(found) => {
                format!("{} is {found}, and {} was asked for", control.name, control.asked)
            }
            Err(why) => format!("{} cannot be read back: {why}", control.name),
        })
        .collect();
    (!told.is_empty()).then(|| {
        format!(
            "the camera does not do what it was told: {}; correct [camera.controls]",
            told.join("; ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rounded_figure_agrees_and_another_does_not() {
        let number = |found: f64, step| ReadBack::number("ExposureTime", 4000.0, Ok(found), step);
        assert!(number(4003.0, 0.0).agrees, "within a thousandth");
        assert!(number(4050.0, 100.0).agrees, "half a step");
        assert!(!number(4051.0, 100.0).agrees);
        assert!(!number(f64::NAN, 100.0).agrees);
        assert!(!ReadBack::number("Gain", 1.0, Err("no".into()), 1.0).agrees);
    }

    #[test]
    fn a_difference_names_the_control_and_both_values() {
        let same = ReadBack::word("TriggerMode", "On", Ok("On".to_owned()));
        assert_eq!(difference(std::slice::from_ref(&same)), None);
        let other = ReadBack::word("TriggerMode", "On", Ok("Off".to_owned()));
        let mute = ReadBack::number("Gain", 2.0, Err("it has none".to_owned()), 0.1);
        let told = difference(&[same, other, mute]).expect("two differ");
        assert!(told.contains("TriggerMode is Off, and On was asked for"), "{told}");
        assert!(told.contains("Gain cannot be read back: it has none"), "{told}");
    }

    #[test]
    fn what_is_asked_for_reads_as_a_sentence() {
        let controls = Controls {
            exposure_us: Some(Setting::Fixed(4000.0)),
            gain: Some(Setting::Auto),
            white_balance_k: Some(Setting::Hold),
            trigger: Some(HardwareTrigger::Line("Line0".to_owned())),
        };
        assert_eq!(
            controls.lines(),
            [
                "exposure 4000 µs",
                "gain chosen by the camera",
                "white balance held",
                "triggered by Line0"
            ]
        );
        assert!(Controls::default().is_empty() && Controls::default().lines().is_empty());
    }
}
