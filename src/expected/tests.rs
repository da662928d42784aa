use super::*;
use crate::verdict::CheckDigit;
use crate::verdict::serial::ExpectedRule;
use crate::vlm::grammar::template::{DEFAULT_ALPHABET, Template};
use proptest::prelude::*;

fn rule(file: &[&str], by_command: bool) -> SerialRule {
    let form = Template::parse("#{2,8}", DEFAULT_ALPHABET).unwrap();
    let list = SerialList::new(file.iter().map(|serial| (*serial).to_owned()));
    let expected = ExpectedRule {
        list: Arc::new(list),
        by_command,
        once: false,
        scope: Default::default(),
        otherwise: Default::default(),
    };
    SerialRule { expected: Some(expected), ..SerialRule::new(form, None) }
}

fn open(dir: &Path, rule: &SerialRule) -> (ExpectedLists, Vec<String>) {
    let stations = [("press", rule)];
    ExpectedLists::open(&dir.join("audit.db"), stations, Access::Write).unwrap()
}

fn entries(lists: &ExpectedLists) -> Vec<String> {
    let list = lists.get("press").unwrap().list.read().unwrap();
    list.iter().map(str::to_owned).collect()
}

fn command(lists: &ExpectedLists, payload: &str) -> Result<Reply, Refusal> {
    lists.apply("press", payload.as_bytes())
}

#[test]
fn what_commands_made_of_a_list_goes_on_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let rule = rule(&["A1"], true);
    let (lists, _) = open(dir.path(), &rule);
    let reply = command(&lists, r#"{"add":["B2","A1","B2"]}"#).unwrap();
    assert_eq!((reply.added, reply.entries), (1, 2));
    assert_eq!(command(&lists, r#"{"add":["B2"]}"#).unwrap().added, 0, "repeating changes nothing");
    command(&lists, r#"{"add":["C3"]}"#).unwrap();
    let digest = lists.get("press").unwrap().listed("C3", &[]).digest;
    drop(lists);
    let (lists, outdated) = open(dir.path(), &rule);
    assert_eq!(entries(&lists), ["A1", "B2", "C3"]);
    assert_eq!(lists.get("press").unwrap().listed("C3", &[]).digest, digest);
    assert!(outdated.is_empty());
    command(&lists, r#"{"clear":true}"#).unwrap();
    drop(lists);
    let (lists, _) = open(dir.path(), &rule);
    assert!(entries(&lists).is_empty(), "cleared stays cleared, whatever the file says");
    command(&lists, r#"{"list":["D4"]}"#).unwrap();
    command(&lists, r#"{"add":["E5"]}"#).unwrap();
    drop(lists);
    assert_eq!(entries(&open(dir.path(), &rule).0), ["D4", "E5"]);
}

#[test]
fn a_changed_file_takes_the_place_of_what_commands_made() {
    let dir = tempfile::tempdir().unwrap();
    let (lists, _) = open(dir.path(), &rule(&["A1"], true));
    command(&lists, r#"{"add":["B2"]}"#).unwrap();
    drop(lists);
    let changed = rule(&["A1", "Z9"], true);
    let stations = [("press", &changed)];
    let looked = ExpectedLists::open(&dir.path().join("audit.db"), stations, Access::Read).unwrap();
    assert_eq!(looked.1, ["press"]);
    let (lists, outdated) = open(dir.path(), &changed);
    assert_eq!((entries(&lists), outdated), (vec!["A1".into(), "Z9".into()], vec!["press".into()]));
    assert!(open(dir.path(), &changed).1.is_empty(), "told once");
}

#[test]
fn a_line_that_a_power_cut_left_half_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let rule = rule(&[], true);
    let (lists, _) = open(dir.path(), &rule);
    command(&lists, r#"{"add":["B2"]}"#).unwrap();
    drop(lists);
    let path = dir.path().join("expected/press.list");
    let mut text = std::fs::read(&path).unwrap();
    text.extend_from_slice(b"C3\nD4\xff");
    std::fs::write(&path, text).unwrap();
    let (lists, _) = open(dir.path(), &rule);
    assert_eq!(entries(&lists), ["B2", "C3"]);
    command(&lists, r#"{"add":["F6"]}"#).unwrap();
    drop(lists);
    assert_eq!(entries(&open(dir.path(), &rule).0), ["B2", "C3", "F6"]);
}

#[test]
fn a_file_that_is_none_of_ours_is_an_error_with_a_remedy() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("expected")).unwrap();
    let rule = rule(&[], true);
    for text in ["", "A1\nB2\n", "inspectd expected serials 1\nA1\n"] {
        std::fs::write(dir.path().join("expected/press.list"), text).unwrap();
        let stations = [("press", &rule)];
        let opened = ExpectedLists::open(&dir.path().join("audit.db"), stations, Access::Write);
        let words = opened.expect_err("not a list").to_string();
        assert!(words.contains("press.list") && words.contains("remove it"), "{words}");
    }
}

#[test]
fn what_is_refused_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let form = rule(&["18"], true);
    let luhn = SerialRule { check_digit: CheckDigit::named("luhn"), ..form };
    let (lists, _) = open(dir.path(), &luhn);
    for (payload, code) in [
        (r#"{"add":["26","27"]}"#, "bad_serial"),
        (r#"{"list":["26","1"]}"#, "bad_serial"),
        (r#"{"clear":false}"#, "clear_false"),
    ] {
        assert_eq!(command(&lists, payload).expect_err(code).code(), code);
        assert_eq!(entries(&lists), ["18"]);
    }
    let words = command(&lists, r#"{"add":["26","27"]}"#).expect_err("27").to_string();
    assert_eq!(words, "serial 2 of the command cannot be: the check digit of 27 is wrong");
    assert_eq!(lists.apply("other", b"{}").expect_err("no such").code(), "no_station");
    let (fixed, _) = open(dir.path(), &rule(&["18"], false));
    assert_eq!(command(&fixed, r#"{"clear":true}"#).expect_err("fixed").code(), "not_allowed");
}

#[test]
fn a_disk_that_keeps_nothing_is_a_refusal() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("expected"), "a file where the folder should be").unwrap();
    let rule = rule(&["A1"], true);
    let list = ExpectedSerials {
        station: "press".into(),
        base: Arc::clone(&rule.expected.as_ref().unwrap().list),
        rule,
        by_command: true,
        kept: Kept::new(&dir.path().join("expected"), "press"),
        commanding: Mutex::new(()),
        list: RwLock::new(SerialList::new(["A1".to_owned()])),
    };
    let refusal = list.apply(ExpectCommand::Add(vec!["B2".into()])).expect_err("no disk");
    assert_eq!(refusal.code(), "not_kept");
    assert!(!list.listed("B2", &[]).has_reading);
}

#[derive(Clone, Debug)]
enum Step {
    Do(ExpectCommand),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let serials = || prop::collection::vec("[AB][0-3]", 0..4);
    let step = prop_oneof![
        4 => serials().prop_map(|all| Step::Do(ExpectCommand::Add(all))),
        1 => serials().prop_map(|all| Step::Do(ExpectCommand::List(all))),
        1 => Just(Step::Do(ExpectCommand::Clear)),
        2 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..Default::default() })]

    /// Against a plain set, whatever the order of commands and restarts.
    #[test]
    fn a_list_is_what_was_commanded(steps in steps()) {
        let dir = tempfile::tempdir().unwrap();
        let rule = rule(&["A1", "B2"], true);
        let mut model: std::collections::BTreeSet<String> = ["A1".into(), "B2".into()].into();
        let (mut lists, _) = open(dir.path(), &rule);
        for step in steps {
            match step {
                Step::Restart => lists = open(dir.path(), &rule).0,
                Step::Do(command) => {
                    match &command {
                        ExpectCommand::Add(serials) => model.extend(serials.iter().cloned()),
                        ExpectCommand::Clear => model.clear(),
                        ExpectCommand::List(all) => model = all.iter().cloned().collect(),
                    }
                    let reply = lists.get("press").unwrap().apply(command).unwrap();
                    prop_assert_eq!(reply.entries, model.len());
                }
            }
            prop_assert_eq!(entries(&lists), model.iter().cloned().collect::<Vec<_>>());
        }
    }
}
