//! A real server of the interface, where `scripts/try-engine` has made one: `INSPECTD_ENGINE_URL` and
//! `INSPECTD_ENGINE_MODEL` name it. Its model has random weights, so what it answers is worth nothing:
//! what counts is that it is held to the schema, and that pictures and probabilities go through.

use std::time::{Duration, Instant};

use inspectd::frame::{Rgb8, file};
use inspectd::remote::{Engine, EngineOptions, Question};
use inspectd::vlm::grammar::answer::{
    AnswerSpec, DefectsSpec, FieldKind, FieldSpec, IntegerSpec, SerialSpec,
};
use inspectd::vlm::grammar::template::Template;
use inspectd::vlm::sampler::Sampling;

use super::{options, quiet};

/// The server; `None`: there is none, which is told.
fn server() -> Option<EngineOptions> {
    let (Ok(url), Ok(model)) =
        (std::env::var("INSPECTD_ENGINE_URL"), std::env::var("INSPECTD_ENGINE_MODEL"))
    else {
        eprintln!("SKIPPED: no real engine (see scripts/try-engine)");
        return None;
    };
    Some(EngineOptions { model: Some(model), ..options(&url) })
}

fn specs() -> Vec<(&'static str, AnswerSpec)> {
    let template = |text: &str| Template::parse(text, "ABCDEFGHKMPX0123456789").expect("good");
    let serial = |strict| SerialSpec { template: template("A9{3}-#{4}"), strict };
    let field = |name: &str, kind| FieldSpec { name: name.to_owned(), kind };
    let count = FieldKind::Integer(IntegerSpec { min: 0, max: 12, strict: false });
    let colour = FieldKind::Choice(["red", "green"].map(str::to_owned).to_vec());
    let fields = vec![
        field("present", FieldKind::Bool),
        field("count", count),
        field("colour", colour),
        field("note", FieldKind::Text { max_chars: 12 }),
    ];
    vec![
        ("serial", AnswerSpec::serial(&serial(false)).expect("good")),
        ("strict", AnswerSpec::serial(&serial(true)).expect("good")),
        ("defects", AnswerSpec::defects(&DefectsSpec::new(["scratch", "dent"])).expect("good")),
        ("fields", AnswerSpec::fields(fields).expect("good")),
    ]
}

fn red() -> Vec<u8> {
    let mut picture = Rgb8::new(336, 336);
    picture.data.chunks_exact_mut(3).for_each(|pixel| pixel.copy_from_slice(&[220, 20, 20]));
    file::png(&picture).expect("a picture")
}

/// Asks each kind of question several times with different seeds.
fn ask_all(options: &EngineOptions, pictures: &[Vec<u8>]) {
    let engine = Engine::new(options, quiet()).expect("an engine");
    let (mut answered, mut rated, mut cut) = (0, 0, 0);
    for (name, spec) in specs() {
        for seed in 0..5 {
            let mut question = Question::new(name, &spec).expect("a grammar");
            "Answer in JSON.".clone_into(&mut question.text);
            question.sampling = Sampling {
                temperature: 1.0,
                seed,
                max_tokens: spec.budget_tokens(),
                ..Sampling::default()
            };
            let deadline = Instant::now() + Duration::from_secs(120);
            let told = engine.ask(&question, pictures, deadline);
            match &told.answer {
                Ok(answer) => {
                    answered += 1;
                    rated += usize::from(!told.by.is_unrated);
                    eprintln!("{name} {seed}: {} {:?}", answer.text, answer.fields.first());
                }
                // A random model may go on with white space until its tokens end, or write between the
                // server's own fences what the server then cannot read (status 500).
                Err(failure) if failure.why.code() == "answer_incomplete" => cut += 1,
                Err(failure) if failure.text.contains("does not match the expected") => cut += 1,
                Err(failure) => panic!("{name} {seed}: {}", failure.text),
            }
        }
    }
    eprintln!("{answered} answers of the schema, {rated} with probabilities, {cut} cut off");
    assert!(answered > 0 && rated == answered);
}

#[test]
fn a_real_server_is_held_to_every_schema() {
    if let Some(options) = server() {
        ask_all(&options, &[]);
    }
}

#[test]
fn a_real_server_takes_pictures() {
    let Some(options) = server() else { return };
    if std::env::var_os("INSPECTD_ENGINE_VISION").is_none() {
        eprintln!("SKIPPED: the real engine has no vision");
        return;
    }
    ask_all(&options, &[red()]);
}
