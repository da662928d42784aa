//! What is true of a picture: the answer of a perfect inspector, and which pixel shows what.

use serde::{Deserialize, Serialize};

/// The kinds of defect, in the order in which an answer lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// A thin bright line with a dark edge.
    Scratch,
    /// A round hollow that catches the light on one side.
    Dent,
    /// A dark, tinted blot.
    Stain,
    /// A dark jagged line with branches.
    Crack,
    /// An empty screw hole.
    MissingScrew,
    /// A patch of orange-brown specks. Not drawn unless asked for, see [`super::Mix::rust`].
    Rust,
}

impl Class {
    /// The classes of every line, which the built-in model was trained on, in canonical order.
    /// [`Class::Rust`] is not among them: this list is what a seed's random numbers choose from,
    /// so a longer one would change every set that was ever written.
    pub const ALL: [Class; 5] =
        [Class::Scratch, Class::Dent, Class::Stain, Class::Crack, Class::MissingScrew];
}

/// How bad a defect is. Sizes leave a clear gap between the two; a missing screw is always major.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Small.
    Minor,
    /// Large.
    Major,
}

/// A cell of the 3x3 grid over the picture, row by row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Location {
    #[serde(rename = "upper left")]
    UpperLeft,
    #[serde(rename = "upper center")]
    UpperCenter,
    #[serde(rename = "upper right")]
    UpperRight,
    #[serde(rename = "center left")]
    CenterLeft,
    Center,
    #[serde(rename = "center right")]
    CenterRight,
    #[serde(rename = "lower left")]
    LowerLeft,
    #[serde(rename = "lower center")]
    LowerCenter,
    #[serde(rename = "lower right")]
    LowerRight,
}

impl Location {
    /// All cells, row by row.
    pub const ALL: [Location; 9] = [
        Location::UpperLeft,
        Location::UpperCenter,
        Location::UpperRight,
        Location::CenterLeft,
        Location::Center,
        Location::CenterRight,
        Location::LowerLeft,
        Location::LowerCenter,
        Location::LowerRight,
    ];

    /// The cell that holds a point of the 336 px picture.
    pub fn of(x: f32, y: f32) -> Location {
        let cell = |v: f32| (v / CELL).floor().clamp(0.0, 2.0) as usize;
        Location::ALL[cell(y) * 3 + cell(x)]
    }
}

/// Side of a grid cell, px.
pub const CELL: f32 = super::PICTURE_SIDE as f32 / 3.0;

/// The distance of `v` to the nearest boundary between two cells, px.
pub(super) fn distance_to_cell_edge(v: f32) -> f32 {
    (v - CELL).abs().min((v - 2.0 * CELL).abs())
}

/// One defect as an answer names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Defect {
    /// What it is.
    pub class: Class,
    /// How bad.
    pub severity: Severity,
    /// Where its centre lies.
    pub location: Location,
}

/// What should happen to a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// No defect and a legible serial.
    Pass,
    /// At least one defect.
    Fail,
    /// No defect seen, but the serial cannot be read or the part is not in view.
    Review,
}

/// The truth about one picture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Truth {
    /// What should happen to the part.
    pub verdict: Verdict,
    /// The serial, unless the label is illegible or out of view.
    pub serial: Option<String>,
    /// The defects, by class, then by severity, then by location.
    pub defects: Vec<Defect>,
    /// False for an empty belt or a part mostly out of view.
    pub inspectable: bool,
}

impl Truth {
    /// Puts the parts of a truth together: sorts the defects and draws the verdict from the rest.
    pub fn new(serial: Option<String>, mut defects: Vec<Defect>, inspectable: bool) -> Truth {
        defects.sort_by_key(|d| (d.class, d.location, d.severity));
        let verdict = match (&defects[..], &serial) {
            (_, None) if !inspectable => Verdict::Review,
            ([], None) => Verdict::Review,
            ([], Some(_)) => Verdict::Pass,
            _ => Verdict::Fail,
        };
        Truth { verdict, serial, defects, inspectable }
    }

    /// The truth about a picture on which there is nothing to inspect.
    pub fn not_inspectable() -> Truth {
        Truth::new(None, Vec::new(), false)
    }
}

/// What one pixel shows. Small numbers, 0 for "nothing of the kind".
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mark {
    /// 1..=26: the cell of this character of [`super::SERIAL_ALPHABET`]; 27: an illegible label.
    pub glyph: u8,
    /// 1..=8: the character's place in the serial.
    pub place: u8,
    /// 1..: index + 1 into [`super::Picture::flaws`].
    pub flaw: u8,
    /// 1: a screw, 2: an empty screw hole.
    pub screw: u8,
}

/// [`Mark::glyph`] of a label that nobody can read.
pub const ILLEGIBLE: u8 = 27;

/// [`Mark::screw`] where the screw is present.
pub const SCREW: u8 = 1;

/// [`Mark::screw`] where the screw is missing.
pub const EMPTY_HOLE: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_the_cell_that_holds_the_point() {
        assert_eq!(Location::of(0.0, 0.0), Location::UpperLeft);
        assert_eq!(Location::of(168.0, 168.0), Location::Center);
        assert_eq!(Location::of(335.9, 111.9), Location::UpperRight);
        assert_eq!(Location::of(111.9, 224.1), Location::LowerLeft);
    }

    #[test]
    fn names_are_those_of_the_answers() {
        let defect = Defect {
            class: Class::MissingScrew,
            severity: Severity::Major,
            location: Location::LowerCenter,
        };
        let json = r#"{"class":"missing_screw","severity":"major","location":"lower center"}"#;
        assert_eq!(serde_json::to_string(&defect).unwrap(), json);
        assert_eq!(serde_json::from_str::<Defect>(json).unwrap(), defect);
        assert_eq!(serde_json::to_string(&Location::Center).unwrap(), r#""center""#);
    }

    #[test]
    fn the_verdict_follows_from_the_rest() {
        let defect =
            Defect { class: Class::Dent, severity: Severity::Minor, location: Location::Center };
        let serial = || Some("ACDEFHJK".to_owned());
        assert_eq!(Truth::new(serial(), vec![], true).verdict, Verdict::Pass);
        assert_eq!(Truth::new(None, vec![], true).verdict, Verdict::Review);
        assert_eq!(Truth::new(None, vec![defect], true).verdict, Verdict::Fail);
        assert_eq!(Truth::not_inspectable().verdict, Verdict::Review);
    }

    #[test]
    fn defects_are_listed_by_class_then_by_location() {
        let at = |class, location| Defect { class, severity: Severity::Major, location };
        let (a, b) = (at(Class::Scratch, Location::LowerLeft), at(Class::Crack, Location::Center));
        assert_eq!(Truth::new(None, vec![b, a], true).defects, [a, b]);
    }
}
