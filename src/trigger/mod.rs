//! Triggers: which of a camera's frames are to be inspected.
//!
//! A trigger sees every frame that the station takes out of the slot and answers with events. It
//! reads no clock: time is what the frame says, so the same frames give the same events.

pub mod burst;
pub mod command;
mod interval;
pub mod photo_eye;
pub mod presence;

use std::sync::Arc;
use std::time::Duration;

use crate::frame::Frame;
pub use burst::Focus;
pub use command::{CommandOptions, Expired, Orders, WhichFrame};
use interval::Interval;
pub use photo_eye::{EncoderOptions, PhotoEye, PhotoEyeOptions, Way};
use presence::Presence;
pub use presence::{Axis, PresenceOptions, Window};

/// When a frame is to be inspected.
#[derive(Clone, Debug, PartialEq)]
pub enum Options {
    /// Each frame: for folders of pictures.
    EveryFrame,
    /// The first frame, and then one at a time.
    Interval {
        /// From one to the next, by the time at which frames reached us.
        every: Duration,
    },
    /// Each part once, when it is nearest to the centre line.
    Presence(PresenceOptions),
    /// When the line's controller says so: [`Orders`] finds the frame. The trigger itself is silent.
    Command(CommandOptions),
    /// When a photo eye upstream has seen a part: [`PhotoEye`] finds the frame. The trigger itself is
    /// silent.
    PhotoEye(PhotoEyeOptions),
}

impl Options {
    /// Refuses what [`Trigger::new`] refuses.
    pub fn check(&self) -> Result<(), OptionsError> {
        match self {
            Options::EveryFrame => Ok(()),
            Options::Interval { every } if every.is_zero() => Err(OptionsError {
                name: "every",
                value: 0.0,
                expected: "above 0; to inspect every frame use the trigger for every frame",
            }),
            Options::Interval { .. } => Ok(()),
            Options::Presence(options) => options.check(),
            Options::Command(options) => options.check(),
            Options::PhotoEye(options) => options.check(),
        }
    }
}

/// An option that makes no sense.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("trigger option {name} is {value}, expected {expected}")]
pub struct OptionsError {
    /// Which.
    pub name: &'static str,
    /// What it was.
    pub value: f64,
    /// What it should be.
    pub expected: &'static str,
}

/// What a trigger saw.
#[derive(Clone, Debug)]
pub enum Event {
    /// Inspect this part.
    Inspect {
        /// The frame that shows it best.
        frame: Arc<Frame>,
        /// Others of it, the best first, where the trigger keeps more than one.
        more: Vec<Arc<Frame>>,
        /// Which part, counted from 1 over both kinds of event since the trigger was made.
        part: u64,
    },
    /// A part went by and no frame shows it well enough: it must be recorded, and cannot be judged.
    Missed {
        /// The frame that shows it nearest to the centre line, as evidence.
        frame: Arc<Frame>,
        /// Which part.
        part: u64,
        /// Why.
        reason: String,
    },
}

/// The frames that show one part.
#[derive(Clone, Debug)]
pub struct Shot {
    /// The one that shows it best.
    pub frame: Arc<Frame>,
    /// Others of it, the best first.
    pub more: Vec<Arc<Frame>>,
}

impl From<&Arc<Frame>> for Shot {
    fn from(frame: &Arc<Frame>) -> Shot {
        Shot { frame: Arc::clone(frame), more: Vec::new() }
    }
}

/// Decides frame by frame. One trigger belongs to one camera.
#[derive(Debug)]
pub struct Trigger {
    kind: Kind,
    parts: u64,
}

#[derive(Debug)]
enum Kind {
    EveryFrame,
    Interval(Interval),
    Presence(Box<Presence>),
    /// Somebody else says when.
    Silent,
}

impl Trigger {
    /// A trigger that has seen nothing yet.
    pub fn new(options: &Options) -> Result<Trigger, OptionsError> {
        options.check()?;
        let kind = match options {
            Options::EveryFrame => Kind::EveryFrame,
            Options::Interval { every } => Kind::Interval(Interval::new(*every)),
            Options::Presence(options) => Kind::Presence(Box::new(Presence::new(options.clone()))),
            Options::Command(_) | Options::PhotoEye(_) => Kind::Silent,
        };
        Ok(Trigger { kind, parts: 0 })
    }

    /// Looks at the next frame.
    pub fn see(&mut self, frame: &Arc<Frame>) -> Vec<Event> {
        let findings = match &mut self.kind {
            Kind::EveryFrame => vec![Finding::Inspect(Shot::from(frame))],
            Kind::Interval(interval) => match interval.is_due(frame) {
                true => vec![Finding::Inspect(Shot::from(frame))],
                false => Vec::new(),
            },
            Kind::Presence(presence) => presence.see(frame),
            Kind::Silent => Vec::new(),
        };
        self.number(findings)
    }

    /// The camera was lost or came to its end: what was in view and undecided is missed. To be
    /// called once for each; the next frame is then looked at as a first one.
    pub fn interrupt(&mut self, reason: &str) -> Vec<Event> {
        let findings = match &mut self.kind {
            Kind::EveryFrame | Kind::Interval(_) | Kind::Silent => Vec::new(),
            Kind::Presence(presence) => presence.interrupt(reason),
        };
        self.number(findings)
    }

    fn number(&mut self, findings: Vec<Finding>) -> Vec<Event> {
        let number = |finding| {
            self.parts += 1;
            let part = self.parts;
            match finding {
                Finding::Inspect(Shot { frame, more }) => Event::Inspect { frame, more, part },
                Finding::Missed(frame, reason) => Event::Missed { frame, part, reason },
            }
        };
        findings.into_iter().map(number).collect()
    }
}

/// An event before its part has a number.
#[derive(Debug)]
enum Finding {
    Inspect(Shot),
    Missed(Arc<Frame>, String),
}
