//! What an engine elsewhere sends back.

use std::sync::OnceLock;

use inspectd::remote::{AnsweredBy, Question, Why, reply};
use inspectd::verdict::finding::{self, Expected};
use inspectd::vlm::grammar::answer::{AnswerSpec, DefectsSpec, SerialSpec};
use inspectd::vlm::grammar::template::Template;

/// Longest name that a server may give itself in a record, in characters.
const NAME_MAX_CHARS: usize = 200;

/// A question of each kind that is asked, made once, with what is expected of its answer.
fn questions() -> &'static [(Question, Expected); 2] {
    static ALL: OnceLock<[(Question, Expected); 2]> = OnceLock::new();
    ALL.get_or_init(|| {
        let template = Template::parse("####", "ABCDEFGHKMPX0123456789").expect("a template");
        let serial = AnswerSpec::serial(&SerialSpec::new(template)).expect("an answer");
        let classes = ["scratch".to_owned(), "dent".to_owned()];
        let defects = AnswerSpec::defects(&DefectsSpec::new(&classes)).expect("an answer");
        let made = |name, spec: &AnswerSpec| Question::new(name, spec).expect("a grammar");
        [
            (made("serial", &serial), Expected::Serial),
            (made("defects", &defects), Expected::Defects),
        ]
    })
}

/// The body of a response. The first byte says which question was asked, in which of the two forms a body has, and
/// whether the status was a bad one.
pub fn engine_reply(bytes: &[u8]) {
    let Some((which, body)) = bytes.split_first() else { return };
    if which & 4 != 0 {
        if let Some(told) = reply::error_message(body) {
            check_line(&told);
        }
        return;
    }
    let (question, expected) = &questions()[usize::from(which & 1)];
    let mut by = AnsweredBy::default();
    let read = question.read(body, which & 2 != 0, &mut by);
    for name in by.model.iter().chain(&by.system_fingerprint) {
        check_line(name);
    }
    let json = serde_json::to_string(&by).expect("it has a JSON form");
    assert_eq!(serde_json::from_str::<AnsweredBy>(&json).expect("and is read again"), by);
    let answer = match read {
        Ok(answer) => answer,
        Err(failure) => {
            super::check_message(&failure.text);
            assert!(
                !matches!(failure.why, Why::Unreachable | Why::Busy),
                "a body came: {failure:?}"
            );
            return;
        }
    };
    for field in &answer.fields {
        for share in [field.probability, field.min_token_probability, field.min_allowed_mass] {
            assert!((0.0..=1.0).contains(&share), "{field:?}");
        }
    }
    assert!(!by.is_unrated || answer.fields.is_empty(), "no confidence that nobody told");
    // What its language lets through is what the rules can read: nothing is left to chance behind it.
    let confidence = |path: &str| answer.confidence(path).map_or(0.0, |field| field.probability);
    finding::read("q", "whole", expected, &answer.text, confidence)
        .expect("of the question's form");
    let record = serde_json::to_string(&answer).expect("it has a JSON form");
    let again: inspectd::vlm::ask::Answer = serde_json::from_str(&record).expect("read again");
    assert_eq!(again.text, answer.text);
}

/// A server's words go into records, logs and onto screens: one line, bounded.
fn check_line(text: &str) {
    assert!(
        text.chars().count() <= NAME_MAX_CHARS && !text.chars().any(char::is_control),
        "{text:?}"
    );
}
