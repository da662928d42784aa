//! The decision: findings and rules to one verdict.
//!
//! The order is fixed: a finding that a rule calls bad is `fail`; else anything unreadable,
//! unclear, unsure or contradictory is `review`; only what is left is `pass`. A part about which a
//! required finding is missing can never pass.

use serde_json::Value;

use super::serial::{self, SerialFacts, SerialRule};
use super::{Finding, Outcome, Reason, Seen, Verdict};

/// What makes a part bad, and what makes it doubtful.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    /// Defects that fail; a listed defect that no rule names goes to review.
    pub defects: Vec<DefectRule>,
    /// What a serial must be, if one is asked for.
    pub serial: Option<SerialRule>,
    /// Whether a question about defects must have been answered.
    pub defects_required: bool,
    /// A finding less probable than this goes to review; 0 switches the check off.
    pub confidence_min: f64,
    /// Findings without any probability do as if they were sure enough; else they go to review where one
    /// is asked for.
    pub accepts_unrated: bool,
    /// Fields of free answers that must not be null, and the value each must have, if one is named.
    pub fields: Vec<FieldRule>,
}

/// One class of defect and when it fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefectRule {
    /// The class.
    pub class: String,
    /// Severities that fail the part.
    pub fail: Vec<String>,
    /// Severities that send it to review.
    pub review: Vec<String>,
    /// Severities that are let through: recorded, but not a reason.
    pub pass: Vec<String>,
}

/// What a field of a free answer must be.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldRule {
    /// Its name.
    pub name: String,
    /// The values that pass; empty: any value but null.
    pub pass: Vec<Value>,
    /// The values that fail; anything else goes to review.
    pub fail: Vec<Value>,
    /// The least and the greatest number that can be, if it is a number: a reading outside was
    /// misread, and goes to review.
    pub range: Option<(f64, f64)>,
}

impl FieldRule {
    fn is_out_of_range(&self, value: &Value) -> bool {
        let inside = |(least, most)| value.as_f64().is_some_and(|n| n >= least && n <= most);
        self.range.is_some_and(|range| !inside(range))
    }
}

/// The verdict that stands already, whatever else is found: a part that a rule calls bad stays bad.
/// `None` while more findings could change it.
pub fn decided(findings: &[Finding], rules: &Rules) -> Option<Verdict> {
    let (bad, _) = weigh(findings, rules);
    (!bad.is_empty()).then_some(Verdict { outcome: Outcome::Fail, reasons: bad })
}

/// Judges all findings about one part. `facts` is what was looked up about its serial.
pub fn judge(findings: &[Finding], rules: &Rules, facts: &[SerialFacts]) -> Verdict {
    let (mut bad, mut doubtful) = weigh(findings, rules);
    serial::judge(findings, rules.serial.as_ref(), facts, &mut bad, &mut doubtful);
    judge_missing(findings, rules, &mut doubtful);
    let outcome = match (bad.is_empty(), doubtful.is_empty()) {
        (false, _) => Outcome::Fail,
        (true, false) => Outcome::Review,
        (true, true) => Outcome::Pass,
    };
    bad.append(&mut doubtful);
    Verdict { outcome, reasons: bad }
}

/// Each finding by itself: what is bad, and what is doubtful.
fn weigh(findings: &[Finding], rules: &Rules) -> (Vec<Reason>, Vec<Reason>) {
    let mut bad = Vec::new();
    let mut doubtful = Vec::new();
    for finding in findings {
        match &finding.seen {
            Seen::Defect { .. } => judge_defect(finding, rules, &mut bad, &mut doubtful),
            Seen::NotInspectable => doubtful.push(Reason::new(
                "not_inspectable",
                format!("Region \"{}\" does not show the part.", finding.region),
            )),
            Seen::Field { name, value } => {
                judge_field(name, value, rules, &mut bad, &mut doubtful);
            }
            Seen::Serial { .. } | Seen::Inspected { .. } => {}
        }
        judge_confidence(finding, rules, &mut doubtful);
    }
    (bad, doubtful)
}

fn judge_defect(
    finding: &Finding,
    rules: &Rules,
    bad: &mut Vec<Reason>,
    doubtful: &mut Vec<Reason>,
) {
    let Seen::Defect { class, severity, location } = &finding.seen else { return };
    let rule = rules.defects.iter().find(|rule| rule.class == *class);
    let text = format!("{severity} {class}, {location}");
    let has = |list: &Vec<String>| list.iter().any(|word| word == severity);
    match rule {
        Some(rule) if has(&rule.fail) => {
            bad.push(Reason::new("defect", format!("Defect: {text}.")))
        }
        Some(rule) if has(&rule.pass) => {}
        Some(rule) if has(&rule.review) => {
            doubtful.push(Reason::new("defect_review", format!("Defect to look at: {text}.")));
        }
        _ => doubtful.push(Reason::new("defect_unclear", format!("No rule decides: {text}."))),
    }
}

fn judge_field(
    name: &str,
    value: &Value,
    rules: &Rules,
    bad: &mut Vec<Reason>,
    doubtful: &mut Vec<Reason>,
) {
    let Some(rule) = rules.fields.iter().find(|rule| rule.name == name) else { return };
    if value.is_null() {
        doubtful.push(Reason::new("field_unreadable", format!("\"{name}\" could not be told.")));
    } else if rule.is_out_of_range(value) {
        let text = format!("\"{name}\" is {value}, which cannot be.");
        doubtful.push(Reason::new("field_out_of_range", text));
    } else if rule.fail.contains(value) {
        bad.push(Reason::new("field", format!("\"{name}\" is {value}.")));
    } else if !rule.pass.is_empty() && !rule.pass.contains(value) {
        doubtful
            .push(Reason::new("field_unclear", format!("No rule decides: \"{name}\" is {value}.")));
    }
}

fn judge_confidence(finding: &Finding, rules: &Rules, doubtful: &mut Vec<Reason>) {
    if rules.confidence_min <= 0.0 {
        return;
    }
    if finding.is_unrated && !rules.accepts_unrated {
        let text = format!(
            "Nobody can say how probable the answer to \"{}\" is; {:.0} % are asked for.",
            finding.question,
            rules.confidence_min * 100.0
        );
        doubtful.push(Reason::new("confidence_unknown", text));
        return;
    }
    // Of several frames that agree some may be rated: these must be sure enough all the same.
    let is_rated = !finding.is_unrated || finding.confidence != 0.0;
    // NaN compares false with everything: it must not count as sure.
    let sure = finding.confidence >= rules.confidence_min;
    if is_rated && !sure {
        let text = format!(
            "The answer to \"{}\" is only {:.0} % probable; {:.0} % are asked for.",
            finding.question,
            finding.confidence * 100.0,
            rules.confidence_min * 100.0
        );
        doubtful.push(Reason::new("confidence_low", text));
    }
}

fn judge_missing(findings: &[Finding], rules: &Rules, doubtful: &mut Vec<Reason>) {
    let any = |test: fn(&Seen) -> bool| findings.iter().any(|finding| test(&finding.seen));
    if rules.serial.is_some() && !any(|seen| matches!(seen, Seen::Serial { .. })) {
        doubtful.push(Reason::new("serial_missing", "No serial number was read."));
    }
    let inspected = |seen: &Seen| matches!(seen, Seen::Inspected { .. } | Seen::NotInspectable);
    if rules.defects_required && !any(inspected) {
        doubtful.push(Reason::new("defects_missing", "The part was not looked at for defects."));
    }
    for rule in &rules.fields {
        let told = findings
            .iter()
            .any(|finding| matches!(&finding.seen, Seen::Field { name, .. } if *name == rule.name));
        if !told {
            let text = format!("\"{}\" was not answered.", rule.name);
            doubtful.push(Reason::new("field_missing", text));
        }
    }
    if findings.is_empty() {
        doubtful.push(Reason::new("nothing_found", "No question was answered."));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn some_finding() -> impl Strategy<Value = Finding> {
        let word =
            |words: &'static [&'static str]| prop::sample::select(words).prop_map(str::to_owned);
        let defect = (word(&["dent", "scratch"]), word(&["minor", "major", "unclear"]));
        let seen = prop_oneof![
            defect.prop_map(|(class, severity)| Seen::Defect {
                class,
                severity,
                location: "x".into()
            }),
            Just(Seen::NotInspectable),
            Just(Seen::Inspected { count: 1 }),
            prop::option::of(Just("A".to_owned()))
                .prop_map(|value| Seen::Serial { value, proposed: None }),
            (0..4i64).prop_map(|value| Seen::Field { name: "holes".into(), value: value.into() }),
        ];
        (seen, 0.0..1.0f64, any::<bool>()).prop_map(|(seen, confidence, is_unrated)| Finding {
            question: "q".into(),
            region: "r".into(),
            seen,
            confidence,
            is_unrated,
        })
    }

    proptest! {
        /// What is decided before the last question is what is judged after it, whatever comes.
        #[test]
        fn what_is_decided_early_stands(
            findings in proptest::collection::vec(some_finding(), 0..8),
            told in 0..8usize,
            confidence_min in 0.0..1.0f64,
        ) {
            let dent = DefectRule {
                class: "dent".into(),
                fail: vec!["major".into()],
                review: vec!["minor".into()],
                pass: vec![],
            };
            let holes = FieldRule {
                name: "holes".into(),
                pass: vec![1.into()],
                fail: vec![2.into()],
                range: None,
            };
            let rules = Rules {
                defects: vec![dent],
                defects_required: true,
                confidence_min,
                fields: vec![holes],
                ..Rules::default()
            };
            let early = decided(&findings[..told.min(findings.len())], &rules);
            let full = judge(&findings, &rules, &[]);
            if let Some(early) = &early {
                prop_assert_eq!(full.outcome, early.outcome);
                prop_assert!(early.reasons.iter().all(|reason| full.reasons.contains(reason)));
            }
            let all = decided(&findings, &rules).is_some();
            prop_assert_eq!(all, full.outcome == Outcome::Fail);
        }
    }

    fn field(value: Value) -> Finding {
        let seen = Seen::Field { name: "holes".into(), value };
        let (question, region) = ("q".into(), "r".into());
        Finding { question, region, seen, confidence: 0.9, is_unrated: false }
    }

    #[test]
    fn a_missing_probability_passes_only_where_that_is_said() {
        let finding =
            |confidence, is_unrated| Finding { confidence, is_unrated, ..field(Value::from(1)) };
        let judged = |finding: Finding, confidence_min, accepts_unrated| {
            let rules = Rules { confidence_min, accepts_unrated, ..Rules::default() };
            let verdict = judge(&[finding], &rules, &[]);
            (verdict.outcome, verdict.reasons.first().map(|reason| reason.code.clone()))
        };
        let unknown = (Outcome::Review, Some("confidence_unknown".to_owned()));
        let low = (Outcome::Review, Some("confidence_low".to_owned()));
        let pass = (Outcome::Pass, None);
        assert_eq!(judged(finding(0.0, true), 0.5, false), unknown);
        assert_eq!(judged(finding(0.0, true), 0.5, true), pass);
        assert_eq!(judged(finding(0.0, true), 0.0, false), pass, "none is asked for");
        assert_eq!(judged(finding(0.9, true), 0.5, false), unknown, "one frame of several");
        assert_eq!(judged(finding(0.9, true), 0.5, true), pass);
        assert_eq!(judged(finding(0.3, true), 0.5, true), low, "what is known must do");
        assert_eq!(judged(finding(0.0, false), 0.5, true), low);
    }

    #[test]
    fn a_number_that_cannot_be_never_passes() {
        let rule = FieldRule {
            name: "holes".into(),
            pass: vec![],
            fail: vec![Value::from(99)],
            range: Some((0.0, 8.0)),
        };
        let rules = Rules { fields: vec![rule], ..Rules::default() };
        let outcome = |value| judge(&[field(value)], &rules, &[]).outcome;
        assert_eq!(outcome(Value::from(8)), Outcome::Pass);
        assert_eq!(outcome(Value::from(9)), Outcome::Review);
        assert_eq!(outcome(Value::from(-1)), Outcome::Review);
        assert_eq!(outcome(Value::from("8")), Outcome::Review);
        assert_eq!(outcome(Value::Null), Outcome::Review);
    }
}
