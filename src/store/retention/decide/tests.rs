//! The decision against every log and every disk that proptest thinks of.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const DAY_MS: i64 = 86_400_000;
const NOW_MS: i64 = 20_000 * DAY_MS;

fn need() -> impl Strategy<Value = Need> {
    let wall = prop_oneof![
        1 => Just(None),
        1 => Just(Some(0)),
        // Up to 40 days old, and up to two in the future.
        6 => (-2..40 * 24i64).prop_map(|hours| Some(NOW_MS - hours * DAY_MS / 24)),
    ];
    (0..Class::ALL.len(), 0..200i64, wall, any::<bool>()).prop_map(
        |(class, sequence, wall_ms, is_decided)| Need {
            class: Class::ALL[class],
            sequence,
            wall_ms,
            is_decided,
        },
    )
}

fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
    let one = (1..1000u64, proptest::collection::vec(need(), 0..4));
    proptest::collection::vec(one, 0..40).prop_map(|list| {
        let make = |(at, (bytes, needs)): (usize, (u64, Vec<Need>))| Candidate {
            sha256: format!("{at:064x}"),
            bytes,
            needs,
        };
        list.into_iter().enumerate().map(make).collect()
    })
}

fn rules() -> impl Strategy<Value = Rules> {
    let days = || proptest::option::of(0..30u32);
    let pressure = prop_oneof![
        Just(UnderPressure::Passes),
        Just(UnderPressure::NotSampled),
        Just(UnderPressure::All)
    ];
    (days(), days(), days(), days(), days(), pressure).prop_map(
        |(pass_days, not_sampled_days, missed_days, fail_days, review_days, under_pressure)| {
            Rules {
                pass_days,
                not_sampled_days,
                missed_days,
                fail_days,
                review_days,
                under_pressure,
                ..Rules::default()
            }
        },
    )
}

/// The limit of a class in days, written down once more so that the test does not ask the code.
fn days(rules: &Rules, class: Class) -> Option<u32> {
    match class {
        Class::Pass => rules.pass_days,
        Class::NotSampled => rules.not_sampled_days,
        Class::Missed => rules.missed_days,
        Class::Fail => rules.fail_days,
        Class::Review => rules.review_days,
    }
}

proptest! {
    #[test]
    fn what_goes_by_age_is_past_the_limit_of_each_record_that_names_it(
        all in candidates(), rules in rules(), knows_time in any::<bool>(), most in 0..50usize
    ) {
        let now = knows_time.then_some(NOW_MS);
        let gone = decide(&all, &rules, now, 0, most);
        prop_assert!(gone.len() <= most);
        for (one, why) in &gone {
            prop_assert_eq!(*why, Why::Age);
            prop_assert!(knows_time && !one.needs.is_empty());
            for need in &one.needs {
                let limit = days(&rules, need.class).map(|days| i64::from(days) * DAY_MS);
                let age = NOW_MS - need.wall_ms.expect("what has no age stays");
                prop_assert!(age > limit.expect("what has no limit stays"));
            }
        }
        if most >= all.len() && knows_time {
            let left = all.iter().filter(|one| !gone.iter().any(|(gone, _)| gone == one));
            for one in left.filter(|one| !one.needs.is_empty()) {
                let held = one.needs.iter().any(|need| {
                    let limit = days(&rules, need.class).map(|days| i64::from(days) * DAY_MS);
                    need.wall_ms.is_none_or(|then| limit.is_none_or(|limit| NOW_MS - then <= limit))
                });
                prop_assert!(held, "nothing holds {:?}, and it stayed", one);
            }
        }
    }

    #[test]
    fn for_want_of_space_passes_go_first_and_nothing_that_waits_for_a_person(
        all in candidates(), rules in rules(), shortage in 0..20_000u64, most in 0..50usize
    ) {
        let gone = decide(&all, &rules, None, shortage, most);
        let names: BTreeSet<&str> = gone.iter().map(|(one, _)| one.sha256.as_str()).collect();
        prop_assert_eq!(names.len(), gone.len(), "none goes twice");
        let freed: u64 = gone.iter().map(|(one, _)| one.bytes).sum();
        if let Some((last, _)) = gone.last() {
            prop_assert!(freed - last.bytes < shortage, "no more goes than has to");
        }
        let stayed = || all.iter().filter(|one| !names.contains(one.sha256.as_str()));
        for (one, why) in &gone {
            prop_assert_eq!(*why, Why::Space);
            let waits = |need: &Need| {
                matches!(need.class, Class::Review | Class::Missed) && !need.is_decided
            };
            prop_assert!(!one.needs.iter().any(waits));
            let only = |class| one.needs.iter().all(|need| need.class == class);
            if !only(Class::Pass) {
                prop_assert!(rules.under_pressure != UnderPressure::Passes);
                let a_pass = |one: &Candidate| {
                    !one.needs.is_empty() && one.needs.iter().all(|need| need.class == Class::Pass)
                };
                prop_assert!(!stayed().any(a_pass), "a pass stayed");
            }
            if one.needs.iter().any(|need| matches!(need.class, Class::Fail | Class::Review)) {
                prop_assert!(rules.under_pressure == UnderPressure::All);
            }
            for other in stayed().filter(|other| !other.needs.is_empty()) {
                prop_assert!(
                    other.rank() != one.rank() || other.sequence() >= one.sequence(),
                    "an older one of its rank stayed"
                );
            }
        }
        if freed < shortage && gone.len() < most {
            let may = |one: &Candidate| {
                !one.needs.is_empty() && one.rank().may_go(rules.under_pressure)
            };
            prop_assert!(!stayed().any(may), "it stopped too early");
        }
    }

    #[test]
    fn what_goes_by_age_counts_for_the_space(
        all in candidates(), rules in rules(), shortage in 0..20_000u64
    ) {
        let by_age: u64 =
            decide(&all, &rules, Some(NOW_MS), 0, 50).iter().map(|(one, _)| one.bytes).sum();
        let both = decide(&all, &rules, Some(NOW_MS), shortage, 50);
        let needless = by_age >= shortage;
        prop_assert!(!(needless && both.iter().any(|(_, why)| *why == Why::Space)));
    }
}
