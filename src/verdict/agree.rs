//! Several looks at one part, joined: tiles of one picture, and frames that vote.
//!
//! A vote is cautious: a serial or a field counts when enough frames say the same; a defect that
//! too few frames show is not forgotten but goes to a person.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Finding, Reason, Seen};

/// The reason's code for frames that do not agree.
pub const DISPUTED: &str = "vote_disputed";

/// What several frames say together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Agreement {
    /// What counts.
    pub findings: Vec<Finding>,
    /// What they do not agree about: the part goes to a person.
    pub disputes: Vec<Reason>,
}

/// The findings of one question about the tiles of one picture. A serial number stands in one tile, so
/// that the others show none says nothing, as long as one does. What is read in several is judged like
/// several readings. Defects stand as they are, each under its tile.
pub fn join_tiles(findings: Vec<Finding>) -> Vec<Finding> {
    let is_illegible = |finding: &Finding| matches!(finding.seen, Seen::Serial { value: None, .. });
    let is_read = findings.iter().any(|finding| finding.serial().is_some());
    let mut was_kept = false;
    let keep = |finding: &Finding| {
        !is_illegible(finding) || (!is_read && !std::mem::replace(&mut was_kept, true))
    };
    findings.into_iter().filter(keep).collect()
}

/// Whether each of these frames says the same of one question; where on the part a defect lies may
/// differ.
pub fn is_unanimous(votes: &[Vec<Finding>]) -> bool {
    let said = |vote: &Vec<Finding>| {
        let mut words: Vec<String> = vote.iter().filter_map(essence).collect();
        words.sort_unstable();
        words.dedup();
        words
    };
    votes.windows(2).all(|pair| said(&pair[0]) == said(&pair[1]))
}

/// What must be equal for two findings to agree.
fn essence(finding: &Finding) -> Option<String> {
    let region = &finding.region;
    Some(match &finding.seen {
        // In which tile it stands may differ, as the part moves.
        Seen::Serial { value, .. } => format!("serial {value:?}"),
        Seen::Defect { class, severity, .. } => format!("defect {region} {class} {severity}"),
        Seen::Field { name, value } => format!("field {region} {name} {value}"),
        Seen::NotInspectable => format!("hidden {region}"),
        // Follows from the defects.
        Seen::Inspected { .. } => return None,
    })
}

/// Joins what frames say of one question, one list a frame. `agree` of them must say the same, more than
/// half of those that were to be asked, so that at most one answer wins.
pub fn agree(votes: &[Vec<Finding>], agree: usize) -> Agreement {
    if let ([only], 0..=1) = (votes, agree) {
        return Agreement { findings: only.clone(), disputes: Vec::new() };
    }
    let mut joined = Agreement::default();
    join_serials(votes, agree, &mut joined);
    for region in regions(votes) {
        let of_region: Vec<Vec<&Finding>> = votes
            .iter()
            .map(|vote| vote.iter().filter(|finding| finding.region == region).collect())
            .collect();
        join_defects(&of_region, agree, &mut joined);
        join_fields(&of_region, agree, &mut joined);
    }
    joined
}

/// Every region of any frame, once, in the order in which they were met.
fn regions(votes: &[Vec<Finding>]) -> Vec<&str> {
    let mut all: Vec<&str> = Vec::new();
    for finding in votes.iter().flatten() {
        if !all.contains(&finding.region.as_str()) {
            all.push(&finding.region);
        }
    }
    all
}

/// A finding that stands for those of several frames: the least sure of them, so that a rule about
/// confidence holds for each. Where one is unrated, so are all; one that is rated at 0 counts as rated.
fn least_sure(agreeing: &[&Finding]) -> Option<Finding> {
    let first = agreeing.first()?;
    let rated = agreeing.iter().filter(|finding| !finding.is_unrated);
    let least = rated.map(|finding| finding.confidence).min_by(f64::total_cmp);
    let is_unrated = agreeing.iter().any(|finding| finding.is_unrated) && least != Some(0.0);
    Some(Finding { confidence: least.unwrap_or(0.0), is_unrated, ..(*first).clone() })
}

fn join_serials(votes: &[Vec<Finding>], agree: usize, joined: &mut Agreement) {
    let serials = |vote: &'_ Vec<Finding>| {
        let is_serial = |finding: &&Finding| matches!(finding.seen, Seen::Serial { .. });
        vote.iter().filter(is_serial).cloned().collect::<Vec<_>>()
    };
    let all: Vec<Vec<Finding>> = votes.iter().map(serials).collect();
    let Some(first) = all.iter().flatten().next() else { return };
    let mut readings: BTreeMap<&str, Vec<&Finding>> = BTreeMap::new();
    for vote in &all {
        let mut own: Vec<&Finding> = vote.iter().filter(|one| one.serial().is_some()).collect();
        own.dedup_by_key(|one| one.serial());
        // A frame that reads two contradicts itself, and has no vote.
        if let [one] = own[..] {
            readings.entry(one.serial().unwrap_or_default()).or_default().push(one);
        } else if own.len() > 1 {
            let text = "One frame shows two different serial numbers.";
            joined.disputes.push(Reason::new(DISPUTED, text));
        }
    }
    if let Some(agreeing) = readings.values().find(|agreeing| agreeing.len() >= agree) {
        joined.findings.extend(least_sure(agreeing));
        return;
    }
    if !readings.is_empty() {
        let told: Vec<String> =
            readings.iter().map(|(text, who)| format!("{text} in {}", who.len())).collect();
        let text = format!("{agree} frames must read the same serial: {}.", told.join(", "));
        joined.disputes.push(Reason::new(DISPUTED, text));
    }
    let seen = Seen::Serial { value: None, proposed: None };
    joined.findings.push(Finding { seen, ..first.clone() });
}

/// The defects of one region.
fn join_defects(votes: &[Vec<&Finding>], agree: usize, joined: &mut Agreement) {
    let all = || votes.iter().flatten().copied();
    let looked =
        |finding: &&Finding| matches!(finding.seen, Seen::Inspected { .. } | Seen::NotInspectable);
    let Some(first) = all().find(looked) else { return };
    let seeing: Vec<&Finding> =
        all().filter(|finding| matches!(finding.seen, Seen::Inspected { .. })).collect();
    let mut classes: BTreeMap<&str, Vec<(usize, &Finding)>> = BTreeMap::new();
    for (frame, finding) in
        votes.iter().enumerate().flat_map(|(at, vote)| vote.iter().map(move |f| (at, *f)))
    {
        if let Seen::Defect { class, .. } = &finding.seen {
            classes.entry(class).or_default().push((frame, finding));
        }
    }
    let mut kept: Vec<Finding> = Vec::new();
    for (class, shown) in classes {
        let mut frames: Vec<usize> = shown.iter().map(|(frame, _)| *frame).collect();
        frames.dedup();
        if frames.len() >= agree {
            kept.extend(each_severity(&shown));
        } else {
            let text = format!(
                "{class} of \"{}\" is in {} of {} frames; {agree} must agree.",
                first.region,
                frames.len(),
                votes.len()
            );
            joined.disputes.push(Reason::new(DISPUTED, text));
        }
    }
    let seen = match seeing.len() >= agree {
        true => Seen::Inspected { count: kept.len() },
        false => Seen::NotInspectable,
    };
    let stands = least_sure(&seeing).unwrap_or_else(|| first.clone());
    joined.findings.push(Finding { seen, ..stands });
    joined.findings.append(&mut kept);
}

/// One defect for each severity that a frame saw: the rules look at the worst, which is for them to say.
fn each_severity(shown: &[(usize, &Finding)]) -> Vec<Finding> {
    let mut by_severity: BTreeMap<&str, Vec<&Finding>> = BTreeMap::new();
    for (_, finding) in shown {
        if let Seen::Defect { severity, .. } = &finding.seen {
            by_severity.entry(severity).or_default().push(finding);
        }
    }
    by_severity.values().filter_map(|alike| least_sure(alike)).collect()
}

/// The fields of one region.
fn join_fields(votes: &[Vec<&Finding>], agree: usize, joined: &mut Agreement) {
    let mut names: Vec<&str> = Vec::new();
    for finding in votes.iter().flatten() {
        if let Seen::Field { name, .. } = &finding.seen
            && !names.contains(&name.as_str())
        {
            names.push(name);
        }
    }
    for wanted in names {
        let told = votes.iter().flatten().filter_map(|finding| match &finding.seen {
            Seen::Field { name, value } if name == wanted => Some((value, *finding)),
            _ => None,
        });
        let mut values: Vec<(&Value, Vec<&Finding>)> = Vec::new();
        for (value, finding) in told {
            match values.iter_mut().find(|(known, _)| *known == value) {
                Some((_, alike)) => alike.push(finding),
                None => values.push((value, vec![finding])),
            }
        }
        match values.iter().find(|(_, alike)| alike.len() >= agree) {
            Some((_, alike)) => joined.findings.extend(least_sure(alike)),
            None => {
                let text = format!("{agree} frames must tell the same of \"{wanted}\".");
                joined.disputes.push(Reason::new(DISPUTED, text));
                let unknown = Seen::Field { name: wanted.to_owned(), value: Value::Null };
                let first = values.first().and_then(|(_, alike)| alike.first());
                joined
                    .findings
                    .extend(first.map(|first| Finding { seen: unknown, ..(*first).clone() }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::{DefectRule, Outcome, Rules, judge};
    use proptest::prelude::*;

    fn finding(region: &str, seen: Seen) -> Finding {
        Finding {
            question: "q".into(),
            region: region.into(),
            seen,
            confidence: 0.9,
            is_unrated: false,
        }
    }

    fn serial(value: Option<&str>) -> Finding {
        finding("label", Seen::Serial { value: value.map(str::to_owned), proposed: None })
    }

    fn defects(classes: &[(&str, &str)]) -> Vec<Finding> {
        let defect = |(class, severity): &(&str, &str)| {
            let (class, severity) = ((*class).to_owned(), (*severity).to_owned());
            finding("plate", Seen::Defect { class, severity, location: "centre".into() })
        };
        let looked = finding("plate", Seen::Inspected { count: classes.len() });
        std::iter::once(looked).chain(classes.iter().map(defect)).collect()
    }

    fn read(joined: &Agreement) -> Option<&str> {
        joined.findings.iter().find_map(Finding::serial)
    }

    #[test]
    fn the_serial_of_enough_frames_counts() {
        let vote = |values: &[Option<&str>], least| {
            let votes: Vec<Vec<Finding>> = values.iter().map(|one| vec![serial(*one)]).collect();
            agree(&votes, least)
        };
        let joined = vote(&[Some("A1"), Some("B2"), Some("A1")], 2);
        assert_eq!((read(&joined), joined.disputes.len()), (Some("A1"), 0));
        let joined = vote(&[Some("A1"), None, Some("A1")], 2);
        assert_eq!((read(&joined), joined.disputes.len()), (Some("A1"), 0));
        let joined = vote(&[Some("A1"), None, None], 2);
        assert_eq!((read(&joined), joined.disputes.len()), (None, 1));
        let joined = vote(&[Some("A1"), Some("B2"), Some("C3")], 2);
        assert_eq!((read(&joined), joined.disputes.len()), (None, 1));
        let joined = vote(&[Some("A1"), Some("A1"), Some("B2")], 3);
        assert_eq!((read(&joined), joined.disputes.len()), (None, 1));
        // Nobody can read it: that is no dispute, and the rules send it to a person.
        let joined = vote(&[None, None, None], 2);
        assert_eq!((joined.findings, joined.disputes.len()), (vec![serial(None)], 0));
    }

    #[test]
    fn a_defect_that_few_frames_show_goes_to_a_person() {
        let rules = Rules {
            defects: vec![DefectRule {
                class: "dent".into(),
                fail: vec!["major".into()],
                review: vec!["minor".into()],
                pass: vec![],
            }],
            defects_required: true,
            ..Rules::default()
        };
        let outcome = |votes: &[&[(&str, &str)]], least| {
            let votes: Vec<Vec<Finding>> = votes.iter().map(|vote| defects(vote)).collect();
            let joined = agree(&votes, least);
            (judge(&joined.findings, &rules, &[]).outcome, joined.disputes.len())
        };
        let dent: &[(&str, &str)] = &[("dent", "major")];
        assert_eq!(outcome(&[dent, dent, &[]], 2), (Outcome::Fail, 0));
        assert_eq!(outcome(&[dent, &[], &[]], 2), (Outcome::Pass, 1), "the dispute is a review");
        assert_eq!(outcome(&[&[], &[], &[]], 2), (Outcome::Pass, 0));
        // One frame calls it minor: the rule about major ones holds.
        assert_eq!(outcome(&[dent, &[("dent", "minor")], &[]], 2), (Outcome::Fail, 0));
        let hidden = vec![finding("plate", Seen::NotInspectable)];
        let joined = agree(&[defects(&[]), hidden.clone(), hidden], 2);
        assert_eq!(judge(&joined.findings, &rules, &[]).outcome, Outcome::Review);
        // Frames that failed have nothing to say; one is not enough.
        let joined = agree(&[defects(&[]), vec![], vec![]], 2);
        assert_eq!(judge(&joined.findings, &rules, &[]).outcome, Outcome::Review);
    }

    #[test]
    fn tiles_of_which_one_shows_the_serial() {
        let joined = join_tiles(vec![serial(None), serial(Some("A1")), serial(None)]);
        assert_eq!(joined, [serial(Some("A1"))]);
        assert_eq!(join_tiles(vec![serial(None), serial(None)]), [serial(None)]);
        let two = vec![serial(Some("A1")), serial(Some("A1X"))];
        assert_eq!(join_tiles(two.clone()), two, "the rules call that contradictory");
    }

    #[test]
    fn frames_are_unanimous_wherever_a_defect_lies() {
        let mut moved = defects(&[("dent", "major")]);
        if let Seen::Defect { location, .. } = &mut moved[1].seen {
            *location = "upper left".into();
        }
        assert!(is_unanimous(&[defects(&[("dent", "major")]), moved]));
        assert!(!is_unanimous(&[defects(&[("dent", "major")]), defects(&[])]));
        assert!(!is_unanimous(&[vec![serial(Some("A"))], vec![serial(None)]]));
    }

    proptest! {
        /// Whatever frames say: without dispute a part passes only if enough frames alone would have
        /// passed it, and no frame saw a defect that fails.
        #[test]
        fn a_vote_never_makes_a_pass_of_what_enough_frames_do_not_pass(
            seen in proptest::collection::vec(
                (proptest::option::of(0..2u8), proptest::collection::vec(0..2u8, 0..3), proptest::bool::ANY),
                1..6
            ),
            spare in 0..3usize,
        ) {
            let frames = seen.len();
            let least = (frames / 2 + 1 + spare).min(frames);
            let votes: Vec<Vec<Finding>> = seen.iter().map(|(text, classes, is_hidden)| {
                let text = text.map(|text| format!("S{text}"));
                let classes: Vec<(&str, &str)> = classes
                    .iter()
                    .map(|class| (if *class == 0 { "dent" } else { "stain" }, "major"))
                    .collect();
                let looked = match is_hidden {
                    true => vec![finding("plate", Seen::NotInspectable)],
                    false => defects(&classes),
                };
                std::iter::once(serial(text.as_deref())).chain(looked).collect()
            }).collect();
            let rules = Rules {
                defects: ["dent", "stain"].map(|class| DefectRule {
                    class: class.into(),
                    fail: vec!["major".into()],
                    review: vec![],
                    pass: vec![],
                }).to_vec(),
                defects_required: true,
                ..Rules::default()
            };
            let joined = agree(&votes, least);
            let alone = |vote: &Vec<Finding>| judge(vote, &rules, &[]).outcome;
            let passes = judge(&joined.findings, &rules, &[]).outcome == Outcome::Pass
                && joined.disputes.is_empty();
            if passes {
                let fails = votes.iter().filter(|vote| alone(vote) == Outcome::Fail).count();
                prop_assert_eq!(fails, 0);
                let readable = votes.iter().filter(|vote| {
                    vote.iter().any(|finding| finding.serial().is_some())
                }).count();
                prop_assert!(readable >= least);
            }
            if is_unanimous(&votes) && votes.len() >= least {
                prop_assert!(joined.disputes.is_empty());
                prop_assert_eq!(
                    judge(&joined.findings, &rules, &[]).outcome,
                    alone(&votes[0])
                );
            }
        }
    }
}
