//! Whether the model keeps up with the lines it looks at.
//!
//! One model serves all stations. Each asks for a share of its time: parts a second that are
//! inspected, times seconds for each. What is above one cannot be done, whatever waits in queues.
//! A measurement may forbid the start; an estimate only warns, as it may be wrong by a factor.

use super::estimate::{Origin, Seconds};

/// Share of its time that a model should be asked for at most: parts do not come like a clock.
const COMFORTABLE_SHARE: f64 = 0.9;

/// What one station asks of the model.
#[derive(Clone, Debug, PartialEq)]
pub struct Demand {
    /// The station.
    pub station: String,
    /// Parts that pass in a minute.
    pub parts_per_minute: f64,
    /// Every n-th of them is inspected.
    pub inspect_every: u32,
    /// Seconds that one inspection takes.
    pub part: Seconds,
    /// The same with one crop for each picture, if that would be less.
    pub part_with_one_crop: Option<Seconds>,
}

/// How grave a remark is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gravity {
    /// Somebody should know.
    Warning,
    /// The configuration asks for more than the machine gives: the daemon does not start.
    Refusal,
    /// The model does not fit: the daemon does not start.
    ModelRefused,
}

/// Something to be said before a line is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// How grave it is.
    pub gravity: Gravity,
    /// What is so, with figures.
    pub text: String,
    /// What can be done.
    pub remedy: String,
}

impl Demand {
    fn share(&self, seconds: fn(&Seconds) -> f64) -> f64 {
        self.parts_per_minute / 60.0 / f64::from(self.inspect_every.max(1)) * seconds(&self.part)
    }
}

/// The share of the model's time that all stations ask for: with the usual answers, and with the
/// longest.
pub fn shares(demands: &[Demand]) -> (f64, f64) {
    let sum = |seconds: fn(&Seconds) -> f64| demands.iter().map(|d| d.share(seconds)).sum();
    (sum(|part| part.usual_s), sum(|part| part.longest_s))
}

/// By how much each station's `inspect_every` must be multiplied so that all keep up comfortably.
pub fn factor_that_fits(share: f64) -> u32 {
    let factor = (share / COMFORTABLE_SHARE).ceil();
    // A share that is no number asks for the most, not the least.
    if factor.is_nan() { 1_000_000 } else { factor.clamp(1.0, 1e6) as u32 }
}

/// Holds what the lines bring against what the model can do.
pub fn judge(demands: &[Demand], origin: Origin) -> Vec<Remark> {
    let (usual, longest) = shares(demands);
    // Written so that a share that is no number is refused, too.
    if usual <= 1.0 && longest <= 1.0 {
        return Vec::new();
    }
    let asked: Vec<String> = demands.iter().map(in_words).collect();
    if usual <= 1.0 {
        let text = format!(
            "the line cannot be kept up with while every answer is the longest one ({origin}): {}, \
             {:.0} % of the model's time",
            asked.join("; "),
            longest * 100.0
        );
        let remedy = "parts that find their queue full are then recorded as review; allow fewer \
                      items or shorter texts in the answers, or do as for a line that is too fast";
        return vec![Remark { gravity: Gravity::Warning, text, remedy: remedy.to_owned() }];
    }
    let gravity = match origin {
        Origin::Measured => Gravity::Refusal,
        Origin::Estimated => Gravity::Warning,
    };
    let text = format!(
        "this machine cannot keep up with the line ({origin}): {}, {:.0} % of the model's time",
        asked.join("; "),
        usual * 100.0
    );
    vec![Remark { gravity, text, remedy: choices(demands, usual, origin) }]
}

fn in_words(demand: &Demand) -> String {
    let every = match demand.inspect_every {
        0 | 1 => "each inspected".to_owned(),
        n => format!("every {n}. inspected"),
    };
    format!(
        "station \"{}\" {} parts a minute, {every}, {} s usually, {} s at most",
        demand.station,
        demand.parts_per_minute,
        figure(demand.part.usual_s),
        figure(demand.part.longest_s)
    )
}

fn choices(demands: &[Demand], share: f64, origin: Origin) -> String {
    let factor = factor_that_fits(share);
    let each: Vec<String> = demands
        .iter()
        .map(|demand| {
            let every = demand.inspect_every.max(1).saturating_mul(factor);
            format!("inspect_every = {every} for \"{}\"", demand.station)
        })
        .collect();
    let mut choices =
        vec![format!("sample: {} (the parts between are recorded as review)", each.join(", "))];
    for demand in demands {
        if let Some(less) = demand.part_with_one_crop {
            choices.push(format!(
                "fewer crops: num_crops = 1 takes {} s a part at \"{}\"",
                figure(less.usual_s),
                demand.station
            ));
        }
    }
    choices.push("a smaller quantisation or precision of the model".to_owned());
    choices.push("a faster machine, or the model as a remote engine on one".to_owned());
    if origin == Origin::Estimated {
        choices.push(
            "or measure first, as this is only an estimate: inspectd model info --measure --config …"
                .to_owned(),
        );
    }
    choices.join("; ")
}

/// Seconds with three significant digits.
pub fn figure(seconds: f64) -> String {
    match seconds {
        s if s >= 100.0 => format!("{s:.0}"),
        s if s >= 10.0 => format!("{s:.1}"),
        s if s >= 1.0 => format!("{s:.2}"),
        s => format!("{s:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn demand(parts_per_minute: f64, inspect_every: u32, usual_s: f64, longest_s: f64) -> Demand {
        let part = Seconds { usual_s, longest_s };
        let station = "plate".to_owned();
        Demand { station, parts_per_minute, inspect_every, part, part_with_one_crop: None }
    }

    #[test]
    fn a_line_that_is_too_fast_is_refused_with_the_figures_and_the_choices() {
        let remarks = judge(&[demand(30.0, 1, 4.1, 9.0)], Origin::Measured);
        assert_eq!(remarks[0].gravity, Gravity::Refusal);
        assert!(remarks[0].text.contains("30 parts a minute") && remarks[0].text.contains("205 %"));
        for choice in ["inspect_every = 3", "quantisation", "remote engine"] {
            assert!(remarks[0].remedy.contains(choice), "{}", remarks[0].remedy);
        }
        let remarks = judge(&[demand(30.0, 1, 4.1, 9.0)], Origin::Estimated);
        assert_eq!(remarks[0].gravity, Gravity::Warning);
        assert!(remarks[0].remedy.contains("--measure"));
    }

    #[test]
    fn two_lines_share_one_model() {
        let both = [demand(30.0, 1, 1.2, 1.2), demand(30.0, 1, 1.2, 1.2)];
        assert!(judge(&both[..1], Origin::Measured).is_empty());
        assert_eq!(judge(&both, Origin::Measured)[0].gravity, Gravity::Refusal);
    }

    #[test]
    fn only_the_longest_answers_being_too_long_is_a_warning() {
        let remarks = judge(&[demand(30.0, 1, 1.0, 5.0)], Origin::Measured);
        assert_eq!(remarks[0].gravity, Gravity::Warning);
    }

    #[test]
    fn no_number_is_no_reason_to_start() {
        let remarks = judge(&[demand(30.0, 1, f64::NAN, f64::NAN)], Origin::Measured);
        assert_eq!(remarks[0].gravity, Gravity::Refusal);
        assert_eq!(factor_that_fits(f64::NAN), 1_000_000);
        assert_eq!(factor_that_fits(0.0), 1);
    }

    proptest! {
        #[test]
        fn the_n_that_is_named_fits(
            rate in 0.01..10_000.0f64, every in 1..50u32, usual in 0.001..100.0f64,
        ) {
            let line = demand(rate, every, usual, usual);
            let (share, _) = shares(std::slice::from_ref(&line));
            let inspect_every = every * factor_that_fits(share);
            let sampled = Demand { inspect_every, ..line };
            prop_assert!(judge(&[sampled], Origin::Measured).is_empty());
        }
    }
}
