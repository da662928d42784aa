//! The list of assertions in docs/sparkplug.md, held against the tests that bear their names.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Makes a test of each assertion: it looks at the recording.
macro_rules! asserts {
    ($($(#[$note:meta])* $name:ident => $check:expr;)+) => {
        $(
            $(#[$note])*
            #[test]
            fn $name() {
                let check: fn(&$crate::sparkplug::recording::Recording) = $check;
                check($crate::sparkplug::recording::recording());
            }
        )+
    };
}
pub(crate) use asserts;

/// The word after `tck_id_` in the sources of these tests, as tests of that name.
fn tests() -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/sparkplug");
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder).expect("readable").flatten() {
        let text = fs::read_to_string(entry.path()).expect("readable");
        for line in text.lines() {
            let line = line.trim_start();
            let line = line.strip_prefix("async fn ").or(line.strip_prefix("fn ")).unwrap_or(line);
            let Some(rest) = line.strip_prefix("tck_id_") else { continue };
            let end =
                rest.find(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit() && c != '_');
            assert!(names.insert(rest[..end.unwrap_or(rest.len())].to_owned()), "twice: {rest}");
        }
    }
    names
}

#[test]
fn the_manual_lists_the_assertions_that_have_a_test() {
    let manual = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/sparkplug.md");
    let text = fs::read_to_string(manual).expect("readable");
    let (_, list) = text.split_once("<!-- held -->").expect("the list of what is held");
    let (list, _) = list.split_once("<!-- end -->").expect("its end");
    let listed: BTreeSet<String> = list
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '-')
        .filter(|word| word.contains('-'))
        .map(|word| word.replace('-', "_").to_lowercase())
        .collect();
    let tests = tests();
    let missing: Vec<_> = tests.symmetric_difference(&listed).collect();
    assert!(missing.is_empty(), "in one list only: {missing:?}");
    assert!(tests.len() > 100, "{}", tests.len());
}
