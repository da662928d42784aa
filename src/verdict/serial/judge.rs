//! One reading, its facts and the rule to reasons.

use super::confusion::changes;
use super::{Consequence, Earlier, ExpectedRule, Listed, SerialFacts, SerialRule, UniqueRule};
use crate::verdict::{Finding, Reason, Seen};

/// Writes the repair of each reading into its finding, where there is one.
pub fn propose(findings: &mut [Finding], rule: &SerialRule, facts: &[SerialFacts]) {
    for finding in findings {
        if let Seen::Serial { value: Some(text), proposed } = &mut finding.seen {
            let known = facts.iter().find(|facts| facts.reading == *text);
            *proposed = rule.repair(text, known.and_then(|facts| facts.list.as_ref()));
        }
    }
}

/// Judges all serials among `findings`, of which `facts` tell what was looked up.
pub fn judge(
    findings: &[Finding],
    rule: Option<&SerialRule>,
    facts: &[SerialFacts],
    bad: &mut Vec<Reason>,
    doubtful: &mut Vec<Reason>,
) {
    let serials = || findings.iter().filter(|finding| matches!(finding.seen, Seen::Serial { .. }));
    if serials().any(|finding| finding.serial().is_none()) {
        doubtful.push(Reason::new("serial_illegible", "The serial number is illegible."));
    }
    let mut read = serials().filter_map(Finding::serial);
    if let Some(first) = read.next()
        && let Some(other) = read.find(|text| *text != first)
    {
        let text = format!("Two readings contradict each other: {first} and {other}.");
        doubtful.push(Reason::new("serial_contradictory", text));
    }
    let Some(rule) = rule else { return };
    let mut judged: Vec<&str> = Vec::new();
    for finding in findings {
        let Seen::Serial { value: Some(text), .. } = &finding.seen else { continue };
        if judged.contains(&text.as_str()) {
            continue; // the same mark, read in two questions
        }
        judged.push(text);
        let known = facts.iter().find(|facts| facts.reading == *text);
        check(text, rule, known, bad, doubtful);
    }
}

/// Judges one reading.
pub fn check(
    text: &str,
    rule: &SerialRule,
    facts: Option<&SerialFacts>,
    bad: &mut Vec<Reason>,
    doubtful: &mut Vec<Reason>,
) {
    let list = facts.and_then(|facts| facts.list.as_ref());
    // Computed again and not taken from the finding: a proposal is no proof of itself.
    let repair = rule.repair(text, list);
    let is_repaired = repair.as_ref().is_some_and(|repair| repair.accepted);
    let serial = match &repair {
        Some(repair) if repair.accepted => &repair.serial,
        _ => text,
    };
    let before = doubtful.len();
    if !is_repaired {
        check_form(text, rule, doubtful);
    }
    // Of a reading that is wrong itself, repaired or not, nobody is sure which serial the part has: it
    // cannot fail by it.
    let is_sure = repair.is_none() && rule.is_formed(text);
    let fails = |otherwise: Consequence| otherwise == Consequence::Fail && is_sure;
    let mut add = |reason: Reason, otherwise: Consequence| {
        if fails(otherwise) { bad.push(reason) } else { doubtful.push(reason) }
    };
    if let Some(expected) = &rule.expected {
        check_list(text, expected, list, is_repaired, &mut add);
        if let Some(used) = facts.and_then(|facts| facts.used.as_ref()) {
            let why = format!("Serial {serial} is expected once, and {} has it.", name(used));
            add(Reason::new("serial_used", why), expected.otherwise);
        }
    }
    if let Some(unique) = &rule.unique {
        check_unique(serial, unique, facts.and_then(|facts| facts.earlier.as_ref()), &mut add);
    }
    if let Some(why) = unchecked(rule, facts) {
        let text = format!("Serial {text} could not be looked up: {why}.");
        add(Reason::new("serial_unchecked", text), Consequence::Review);
    }
    if let Some(repair) = repair.filter(|repair| !repair.accepted) {
        let how = changes(text, &repair.serial);
        let why =
            format!("Perhaps {} ({how}): nothing else that looks like it holds.", repair.serial);
        // Beside the reason for which it is wanted, which there always is.
        let at = (before + 1).min(doubtful.len());
        doubtful.insert(at, Reason::new("serial_proposed", why));
    }
}

fn check_form(text: &str, rule: &SerialRule, doubtful: &mut Vec<Reason>) {
    if !rule.form.matches(text) {
        let why = format!("Serial {text} does not match the template {}.", rule.form);
        doubtful.push(Reason::new("serial_template", why));
    } else if !rule.has_right_check(text) {
        let why = format!("The check digit of serial {text} is wrong.");
        doubtful.push(Reason::new("serial_check_digit", why));
    }
}

fn check_list(
    text: &str,
    rule: &ExpectedRule,
    list: Option<&Listed>,
    is_repaired: bool,
    add: &mut impl FnMut(Reason, Consequence),
) {
    match list {
        Some(list) if !list.has_reading && !is_repaired => {
            let why = format!("Serial {text} is none of the {} that are expected.", list.entries);
            add(Reason::new("serial_unexpected", why), rule.otherwise);
        }
        Some(list) if list.has_reading && !list.look_alikes.is_empty() => {
            let other = &list.look_alikes[0];
            let why = format!("Serial {text} is expected, and so is {other}, which looks like it.");
            add(Reason::new("serial_ambiguous", why), Consequence::Review);
        }
        _ => {}
    }
}

/// Why something that the rule needs to know is not known.
fn unchecked<'f>(rule: &SerialRule, facts: Option<&'f SerialFacts>) -> Option<&'f str> {
    match facts {
        Some(SerialFacts { unchecked: Some(why), .. }) => Some(why),
        Some(SerialFacts { list: None, .. }) if rule.expected.is_some() => {
            Some("the expected serials were not looked through")
        }
        None if rule.looks_up() => Some("nobody did"),
        _ => None,
    }
}

fn check_unique(
    serial: &str,
    rule: &UniqueRule,
    earlier: Option<&Earlier>,
    add: &mut impl FnMut(Reason, Consequence),
) {
    let Some(earlier) = earlier else { return };
    if earlier.serial == serial {
        let why = format!("{} has the same serial {serial}.", name(earlier));
        add(Reason::new("serial_duplicate", why), rule.otherwise);
    } else {
        let why =
            format!("{} has serial {}, which looks like {serial}.", name(earlier), earlier.serial);
        add(Reason::new("serial_look_alike", why), Consequence::Review);
    }
}

/// An earlier record in words by which it is found.
fn name(earlier: &Earlier) -> String {
    format!(
        "record {} (part {} of {}, {})",
        earlier.sequence, earlier.part_id, earlier.station, earlier.result_id
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::verdict::CheckDigit;
    use crate::verdict::serial::{Confusions, Scope, SerialList, Window};
    use crate::vlm::grammar::template::{DEFAULT_ALPHABET, Template};
    use proptest::prelude::*;

    fn rule(list: SerialList, accept_repairs: bool, has_check: bool) -> SerialRule {
        let form = Template::parse("#{3}", DEFAULT_ALPHABET).unwrap();
        let check_digit = has_check.then(|| CheckDigit::named("mod36").unwrap());
        let unique = UniqueRule {
            window: Window::Always,
            scope: Scope::Station,
            otherwise: Consequence::Fail,
        };
        let expected = ExpectedRule {
            list: Arc::new(list),
            by_command: false,
            once: true,
            scope: Scope::Station,
            otherwise: Consequence::Fail,
        };
        SerialRule {
            confusions: Confusions::new(&["0O", "1I"]).unwrap(),
            accept_repairs,
            unique: Some(unique),
            expected: Some(expected),
            ..SerialRule::new(form, check_digit)
        }
    }

    fn earlier(serial: &str) -> Earlier {
        Earlier {
            sequence: 1,
            result_id: "r".into(),
            station: "s".into(),
            part_id: "p".into(),
            serial: serial.into(),
        }
    }

    proptest! {
        /// Whatever was read and looked up: without a reason is only a well-formed, expected serial
        /// that no other part has, as it was read or, by choice, as its only repair; and a part fails
        /// only by what it was surely read as.
        #[test]
        fn nothing_doubtful_is_without_a_reason(
            text in "[01OI]{2,3}",
            others in prop::collection::vec("[01OI]{3}", 0..4),
            has_list in prop::bool::weighted(0.9),
            twin in prop::option::weighted(0.2, "[01OI]{3}"),
            is_used in prop::bool::weighted(0.1),
            is_unchecked in prop::bool::weighted(0.1),
            accept in any::<bool>(),
            has_check in any::<bool>(),
        ) {
            // A list holds nothing that no part can have.
            let is_formed = |serial: &String| {
                rule(SerialList::default(), accept, has_check).is_formed(serial)
            };
            let list = SerialList::new(others.into_iter().filter(is_formed));
            let rule = rule(list.clone(), accept, has_check);
            let looks = rule.formed_look_alikes(&text).unwrap();
            let listed = Listed {
                digest: list.digest().to_owned(),
                entries: list.len(),
                has_reading: list.contains(&text),
                look_alikes: looks.iter().filter(|other| list.contains(other)).cloned().collect(),
            };
            let facts = SerialFacts {
                reading: text.clone(),
                list: has_list.then_some(listed),
                earlier: twin.as_deref().map(earlier),
                used: is_used.then(|| earlier(&text)),
                unchecked: is_unchecked.then(|| "the disk is gone".to_owned()),
            };
            let (mut bad, mut doubtful) = (vec![], vec![]);
            check(&text, &rule, Some(&facts), &mut bad, &mut doubtful);

            let is_good = |serial: &String| rule.is_formed(serial) && list.contains(serial);
            let good: Vec<&String> =
                looks.iter().chain([&text]).filter(|other| is_good(other)).collect();
            let is_clear = has_list && twin.is_none() && !is_used && !is_unchecked;
            let is_sure = good.len() == 1 && (*good[0] == text || accept);
            prop_assert_eq!(
                bad.is_empty() && doubtful.is_empty(),
                is_clear && is_sure,
                "{:?} {:?} {:?}", good, bad, doubtful
            );
            prop_assert!(bad.is_empty() || rule.is_formed(&text));
            bad.clear();
            doubtful.clear();
            check(&text, &rule, None, &mut bad, &mut doubtful);
            prop_assert!(!bad.is_empty() || !doubtful.is_empty(), "nothing was looked up");
        }
    }
}
