//! Whatever a model wants to say, the answer is the JSON that was asked for.
//!
//! Random answer types, random and hostile logits, random sampling; a vocabulary of 512 tokens and the built-in model's
//! everywhere, and the published one of 32064 where it is at hand (`../shared`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use inspectd::vlm::ask::{Limits, Question, Steps, StopReason, write_answer};
use inspectd::vlm::grammar::{
    AnswerSpec, DecimalSpec, DefectsSpec, FieldKind, FieldSpec, Grammar, IntegerSpec, SerialSpec,
    Template, Vocabulary, locations,
};
use inspectd::vlm::sampler::Sampling;
use inspectd::vlm::{Engine, EngineError, EngineOptions, Picture, Session};
use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

/// A tokenizer file as a vocabulary, padded as the model's rows are.
struct Tokens {
    vocabulary: Vocabulary,
    tokenizer: Arc<tokenizers::Tokenizer>,
    /// The id that spells each byte alone.
    of_byte: BTreeMap<u8, u32>,
}

static SMALL: LazyLock<Tokens> = LazyLock::new(|| {
    let fixture =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny_gqa/tokenizer.json");
    Tokens::load(&fixture, 512).expect("the fixture is part of the repository")
});

/// The built-in model's vocabulary, in which most of an answer's frame is a few long tokens.
static BUILT_IN: LazyLock<Option<Tokens>> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/builtin");
    Tokens::load(&folder.join("tokenizer.json"), 768)
});

/// The published vocabulary, where the reference kit lies beside the repository.
static PUBLISHED: LazyLock<Option<Tokens>> =
    LazyLock::new(|| Tokens::load(&kit("tiny_mha"), 32064));

fn kit(model: &str) -> PathBuf {
    let models =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/phi3-vision/reference/models");
    models.join(model).join("tokenizer.json")
}

impl Tokens {
    fn load(path: &Path, size: usize) -> Option<Tokens> {
        let tokenizer =
            Arc::new(tokenizers::Tokenizer::from_bytes(std::fs::read(path).ok()?).unwrap());
        let added = tokenizer.get_added_tokens_decoder();
        let mut tokens = vec![None; size];
        for (token, id) in tokenizer.get_vocab(true) {
            if !added.contains_key(&id) {
                let hex = token.strip_prefix("<0x").and_then(|t| t.strip_suffix('>'));
                tokens[id as usize] =
                    Some(match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
                        Some(byte) => vec![byte],
                        None => token.replace('\u{2581}', " ").into_bytes(),
                    });
            }
        }
        let stop: Vec<u32> =
            ["<|end|>", "<|endoftext|>"].iter().filter_map(|t| tokenizer.token_to_id(t)).collect();
        let inner = tokenizer.clone();
        let vocabulary = Vocabulary::new(tokens, &stop, move |text| cut(&inner, text)).unwrap();
        let of_byte = (0..size as u32)
            .filter_map(|id| {
                <[u8; 1]>::try_from(vocabulary.bytes(id)).ok().map(|[byte]| (byte, id))
            })
            .collect();
        Some(Tokens { vocabulary, tokenizer, of_byte })
    }

    fn all() -> Vec<&'static Tokens> {
        let published = PUBLISHED.as_ref();
        if published.is_none() {
            println!(
                "not run with the published vocabulary: no reference kit beside the repository"
            );
        }
        [Some(&*SMALL), BUILT_IN.as_ref(), published].into_iter().flatten().collect()
    }

    fn grammar(&self, spec: &AnswerSpec) -> Grammar {
        Grammar::compile(spec, &self.vocabulary).unwrap()
    }

    /// Whether `text` is one of the grammar's answers, spelled byte by byte.
    fn accepts(&self, grammar: &Grammar, text: &str) -> bool {
        let mut matcher = grammar.start();
        text.bytes()
            .all(|byte| self.of_byte.get(&byte).is_some_and(|&id| matcher.accept(id).is_ok()))
            && matcher.is_done()
    }
}

/// `text` as it is cut in the middle of a line.
fn cut(tokenizer: &tokenizers::Tokenizer, text: &str) -> Vec<u32> {
    let ids = tokenizer.encode_fast(format!("\n{text}"), false).unwrap().get_ids().to_vec();
    let feed = tokenizer.token_to_id("<0x0A>").unwrap();
    ids[ids.iter().position(|&id| id == feed).unwrap() + 1..].to_vec()
}

/// What a model might want to say.
#[derive(Clone, Copy, Debug)]
enum Mood {
    Even,
    Wild,
    /// Control tokens and stop tokens above all.
    Control,
    /// Never closes anything: letters, spaces, digits.
    Endless,
    /// Quotes, backslashes and braces.
    Syntax,
    /// Pieces of characters beyond ASCII.
    Foreign,
    /// One token above all, whatever it is.
    Stuck,
}

const MOODS: [Mood; 7] = [
    Mood::Even,
    Mood::Wild,
    Mood::Control,
    Mood::Endless,
    Mood::Syntax,
    Mood::Foreign,
    Mood::Stuck,
];

/// A model without a mind.
struct Noise<'a> {
    vocabulary: &'a Vocabulary,
    mood: Mood,
    random: ChaCha8Rng,
}

impl Noise<'_> {
    fn logits(&mut self) -> Vec<f32> {
        let stuck = self.random.random_range(0..self.vocabulary.len() as u32);
        (0..self.vocabulary.len() as u32)
            .map(|id| {
                let bytes = self.vocabulary.bytes(id);
                let any = |test: fn(&u8) -> bool| bytes.iter().any(test);
                let liked = match self.mood {
                    Mood::Even | Mood::Wild => false,
                    Mood::Control => bytes.is_empty(),
                    Mood::Endless => {
                        !bytes.is_empty()
                            && bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b' ')
                    }
                    Mood::Syntax => any(|b| br#""\{}[],:"#.contains(b)),
                    Mood::Foreign => any(|b| *b >= 0x80),
                    Mood::Stuck => id == stuck,
                };
                let spread = if matches!(self.mood, Mood::Wild) { 1e30 } else { 3.0 };
                self.random.random_range(-1.0_f32..1.0) * spread + if liked { 60.0 } else { 0.0 }
            })
            .collect()
    }
}

impl Steps for Noise<'_> {
    fn append(&mut self, _ids: &[u32]) -> Result<Vec<f32>, EngineError> {
        Ok(self.logits())
    }
}

fn field(name: &str, kind: FieldKind) -> FieldSpec {
    FieldSpec { name: name.to_owned(), kind }
}

fn names(values: &[&str]) -> Vec<String> {
    values.iter().map(|v| (*v).to_owned()).collect()
}

fn any_serial() -> impl Strategy<Value = SerialSpec> {
    let templates =
        vec!["########", "SN-9{3,6}", r"\A9[XY-]#{1,4}", "A{2}9{2}", r#"\"[ä"\\]#{2}"#, "#{1,12}"];
    (prop::sample::select(templates), any::<bool>()).prop_map(|(text, strict)| SerialSpec {
        template: Template::parse(text, "ACDEFHJKX23479").unwrap(),
        strict,
    })
}

fn any_defects() -> impl Strategy<Value = DefectsSpec> {
    let classes = prop::sample::subsequence(
        vec!["scratch", "scratch deep", "dent", "missing \"clip\"", "Öl\\Fett", "裂纹", "burr 🔩"],
        1..=5,
    );
    (classes, 1..=5_usize)
        .prop_map(|(classes, max_count)| DefectsSpec { max_count, ..DefectsSpec::new(classes) })
}

fn any_scalar() -> impl Strategy<Value = FieldKind> {
    let integer = (-1500..1500_i64, 0..3000_i64, any::<bool>()).prop_map(|(min, span, strict)| {
        FieldKind::Integer(IntegerSpec { min, max: min + span, strict })
    });
    let decimal = (-400..400_i32, 0..900_i32, 0..=4_u8, any::<bool>()).prop_map(
        |(min, span, digits, strict)| {
            let unit = 10f64.powi(digits.into());
            FieldKind::Decimal(DecimalSpec {
                min: f64::from(min) / unit,
                max: f64::from(min + span) / unit,
                digits,
                strict,
            })
        },
    );
    prop_oneof![
        Just(FieldKind::Bool),
        Just(FieldKind::Choice(names(&["ok", "not ok", "n.i.O. (Ü)"]))),
        integer,
        decimal,
        (1..=30_usize).prop_map(|max_chars| FieldKind::Text { max_chars }),
        any_serial().prop_map(FieldKind::Serial),
    ]
}

fn any_fields(kind: impl Strategy<Value = FieldKind>) -> impl Strategy<Value = Vec<FieldSpec>> {
    let all = ["zeta", "note", "a", "count_2", "null"];
    prop::collection::vec(kind, 1..=all.len()).prop_map(move |kinds| {
        all.iter().zip(kinds).map(|(name, kind)| field(name, kind)).collect()
    })
}

fn any_spec() -> impl Strategy<Value = AnswerSpec> {
    let list = (any_fields(any_scalar()), 1..=3_usize)
        .prop_map(|(fields, max_items)| FieldKind::Objects { fields, max_items });
    let kind =
        prop_oneof![6 => any_scalar(), 1 => any_defects().prop_map(FieldKind::Defects), 1 => list];
    prop_oneof![
        1 => any_serial().prop_map(|spec| AnswerSpec::serial(&spec).unwrap()),
        1 => any_defects().prop_map(|spec| AnswerSpec::defects(&spec).unwrap()),
        3 => any_fields(kind).prop_map(|fields| AnswerSpec::fields(fields).unwrap()),
    ]
}

fn any_sampling() -> impl Strategy<Value = Sampling> {
    let temperature = prop_oneof![Just(0.0_f32), 0.01..5.0_f32];
    (temperature, 0.01..=1.0_f32, 1.0..=2.0_f32, any::<u64>()).prop_map(
        |(temperature, top_p, repeat_penalty, seed)| Sampling {
            temperature,
            top_p,
            repeat_penalty,
            max_tokens: 8192,
            seed,
            ..Sampling::default()
        },
    )
}

/// One answer by noise, with everything that must hold of it.
fn ask_noise(tokens: &Tokens, spec: &AnswerSpec, mood: Mood, sampling: &Sampling) -> String {
    let grammar = tokens.grammar(spec);
    let random = ChaCha8Rng::seed_from_u64(sampling.seed ^ 0x5eed);
    let mut noise = Noise { vocabulary: &tokens.vocabulary, mood, random };
    let first = noise.logits();
    let answer = write_answer(&mut noise, first, &grammar, sampling, &Limits::default()).unwrap();

    let text = &answer.text;
    assert_eq!(answer.stop, StopReason::Complete, "{text}");
    assert!(
        answer.tokens.generated < spec.budget_tokens(),
        "{} tokens: {text}",
        answer.tokens.generated
    );
    assert!(text.len() <= spec.max_bytes(), "{} bytes: {text}", text.len());
    let value: Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"));
    let schema = jsonschema::draft202012::new(&spec.schema()).unwrap();
    if let Err(problem) = schema.validate(&value) {
        panic!("{problem}: {text}");
    }
    assert_eq!(
        without_zeros(text),
        without_zeros(&value.to_string()),
        "one spelling, members in order"
    );
    assert!(!text.chars().any(char::is_control), "{text:?}");
    for field in &answer.fields {
        let pointer = format!("/{}", field.path.replace(['.', '['], "/").replace(']', ""));
        assert!(value.pointer(&pointer).is_some(), "{} in {text}", field.path);
        assert!((0.0..=1.0 + 1e-9).contains(&field.probability), "{field:?}");
        assert!(field.probability <= field.min_token_probability + 1e-9, "{field:?}");
        assert!((0.0..=1.0).contains(&field.min_allowed_mass) && field.tokens > 0, "{field:?}");
    }
    answer.text
}

/// Decimals keep the zeros they were read with; a value printed again does not. Everything else must be the same.
fn without_zeros(json: &str) -> String {
    let mut out = String::new();
    let (mut in_string, mut escaped) = (false, false);
    for (at, c) in json.char_indices() {
        in_string ^= c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        let number_ends = !in_string && matches!(c, ',' | '}' | ']') && at > 0;
        if number_ends && !json[..at].ends_with(['"', '}', ']']) {
            let start = out.rfind([':', '[', ',']).map_or(0, |i| i + 1);
            if out[start..].contains('.') {
                out.truncate(out.trim_end_matches('0').trim_end_matches('.').len());
            }
        }
        out.push(c);
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_answer_is_valid(spec in any_spec(), mood in prop::sample::select(MOODS.to_vec()), sampling in any_sampling()) {
        let first = ask_noise(&SMALL, &spec, mood, &sampling);
        // The same seed on the same logits replays the answer.
        prop_assert_eq!(first, ask_noise(&SMALL, &spec, mood, &sampling));
    }

    #[test]
    fn grammar_and_schema_describe_the_same_answers(
        spec in any_spec(),
        seed in any::<u64>(),
        mutations in prop::collection::vec((any::<u8>(), any::<prop::sample::Index>(), any::<prop::sample::Index>()), 20),
    ) {
        let sampling = Sampling { temperature: 2.0, max_tokens: 8192, seed, ..Sampling::default() };
        let text = ask_noise(&SMALL, &spec, Mood::Even, &sampling);
        let grammar = SMALL.grammar(&spec);
        let schema = jsonschema::draft202012::new(&spec.schema()).unwrap();
        prop_assert!(SMALL.accepts(&grammar, &text), "{}", text);
        for (how, at, what) in mutations {
            let other = mutate(&text, how, at, what);
            let value = serde_json::from_str::<Value>(&other).ok();
            let valid = value.is_some_and(|value| {
                schema.is_valid(&value) && without_zeros(&other) == without_zeros(&value.to_string())
            });
            prop_assert!(
                SMALL.accepts(&grammar, &other) == valid || beyond_a_schema(&spec, &other),
                "{} by schema {}: {}", other, valid, spec.regex()
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_answer_is_valid_with_the_published_vocabulary(
        spec in any_spec(), mood in prop::sample::select(MOODS.to_vec()), sampling in any_sampling()
    ) {
        if let Some(tokens) = PUBLISHED.as_ref() {
            ask_noise(tokens, &spec, mood, &sampling);
        }
    }
}

fn mutate(text: &str, how: u8, at: prop::sample::Index, what: prop::sample::Index) -> String {
    const PIECES: [&str; 22] = [
        "0", "7", "12", "-", ".", ".5", "e1", "\"", "\\", "\\n", "\\u0041", "A", "X", " ", ",",
        "}", "null", "true", "ä", "\u{200b}", "\u{7}", "裂",
    ];
    let mut chars: Vec<char> = text.chars().collect();
    let at = at.index(chars.len());
    let piece = PIECES[what.index(PIECES.len())].chars();
    match how % 4 {
        0 => drop(chars.splice(at..at, piece)),
        1 => drop(chars.splice(at..=at, piece)),
        2 => drop(chars.drain(at..=at)),
        _ => {
            let copy: Vec<char> = chars[at..].iter().take(1 + what.index(8)).copied().collect();
            chars.splice(at..at, copy);
        }
    }
    chars.into_iter().collect()
}

/// A schema knows values, not spellings: to it `5.0` is the integer 5, `-0` is 0 and `1.500` has one place.
fn beyond_a_schema(spec: &AnswerSpec, text: &str) -> bool {
    let schema = spec.schema().to_string();
    let numbers = schema.contains("integer") || schema.contains("multipleOf");
    text.starts_with(' ')
        || numbers && (text.contains("-0") || text.contains(".0") || without_zeros(text) != text)
}

#[test]
fn the_presets_are_spelled_exactly_so() {
    let serial = AnswerSpec::serial(&SerialSpec::new(
        Template::parse("########", "ACDEFHJKMPX23479").unwrap(),
    ))
    .unwrap();
    let defects = AnswerSpec::defects(&DefectsSpec::new(["scratch", "dent"])).unwrap();
    for tokens in Tokens::all() {
        let grammar = tokens.grammar(&serial);
        for good in [
            r#"{"legible":true,"serial":"A7K2M9PX"}"#,
            r#" {"legible":true,"serial":"A7K2M9PX"}"#,
            r#"{"legible":false,"serial":null}"#,
            r#"{"legible":true,"serial":"A"}"#,
            r#"{"legible":true,"serial":"A7K2M9PXX"}"#,
        ] {
            assert!(tokens.accepts(&grammar, good), "{good}");
        }
        for bad in [
            r#"{"legible":true,"serial":null}"#,
            r#"{"legible":false,"serial":"A7K2M9PX"}"#,
            r#"{"serial":"A7K2M9PX","legible":true}"#,
            r#"{"legible":true,"serial":""}"#,
            r#"{"legible":true,"serial":"A7K2M9PXXX"}"#,
            r#"{"legible":true,"serial":"O7K2M9PX"}"#,
            r#"{"legible": true,"serial":"A7K2M9PX"}"#,
            r#"  {"legible":false,"serial":null}"#,
            r#"{"legible":false,"serial":null} "#,
        ] {
            assert!(!tokens.accepts(&grammar, bad), "{bad}");
        }
        let grammar = tokens.grammar(&defects);
        let one = r#"{"class":"scratch","severity":"major","location":"upper left"}"#;
        let unclear = r#"{"class":"dent","severity":"unclear","location":"unclear"}"#;
        let list =
            |items: &[&str]| format!(r#"{{"inspectable":true,"defects":[{}]}}"#, items.join(","));
        for good in [list(&[]), list(&[one]), list(&[one, unclear, one, one])] {
            assert!(tokens.accepts(&grammar, &good), "{good}");
        }
        assert!(tokens.accepts(&grammar, r#"{"inspectable":false,"defects":null}"#));
        let no_class = one.replace("scratch", "unclear");
        for bad in [
            list(&[one; 5]),
            list(&[&no_class]),
            r#"{"inspectable":false,"defects":[]}"#.to_owned(),
        ] {
            assert!(!tokens.accepts(&grammar, &bad), "{bad}");
        }
        assert!(!tokens.accepts(&grammar, r#"{"inspectable":true,"defects":null}"#));
    }
}

#[test]
fn every_field_can_be_declined() {
    let kinds = vec![
        field("seen", FieldKind::Bool),
        field("colour", FieldKind::Choice(names(&["red", "green"]))),
        field("holes", FieldKind::Integer(IntegerSpec { min: 0, max: 12, strict: true })),
        field(
            "bar",
            FieldKind::Decimal(DecimalSpec { min: 0.0, max: 9.5, digits: 1, strict: true }),
        ),
        field("note", FieldKind::Text { max_chars: 20 }),
        field(
            "serial",
            FieldKind::Serial(SerialSpec::new(Template::parse("9{4}", "0123456789").unwrap())),
        ),
        field("defects", FieldKind::Defects(DefectsSpec::new(["dent"]))),
        field(
            "parts",
            FieldKind::Objects { fields: vec![field("ok", FieldKind::Bool)], max_items: 2 },
        ),
    ];
    let members: Vec<String> =
        kinds.iter().map(|field| format!("\"{}\":null", field.name)).collect();
    let grammar = SMALL.grammar(&AnswerSpec::fields(kinds).unwrap());
    assert!(SMALL.accepts(&grammar, &format!("{{{}}}", members.join(","))));
    let some = r#"{"seen":true,"colour":"red","holes":12,"bar":9.5,"note":"a \"b\" \\ ß 裂","serial":"1234","defects":[],"parts":[{"ok":null},{"ok":false}]}"#;
    assert!(SMALL.accepts(&grammar, some));
}

#[test]
fn a_strict_template_is_always_met_and_a_free_one_can_be_missed() {
    let template = Template::parse(r"\A\B-9{2}#{1,3}", "XYZ0123456789").unwrap();
    for (tokens, strict) in Tokens::all().into_iter().flat_map(|t| [(t, true), (t, false)]) {
        let spec = AnswerSpec::serial(&SerialSpec { template: template.clone(), strict }).unwrap();
        let mut missed = 0;
        for seed in 0..40 {
            let sampling = Sampling { temperature: 2.0, seed, ..Sampling::default() };
            let text = ask_noise(tokens, &spec, MOODS[seed as usize % MOODS.len()], &sampling);
            let value: Value = serde_json::from_str(&text).unwrap();
            let Some(serial) = value["serial"].as_str() else { continue };
            missed += usize::from(!template.matches(serial));
        }
        assert_eq!(missed == 0, strict);
    }
}

#[test]
fn control_tokens_stop_tokens_and_their_spelling_stay_out() {
    let spec = AnswerSpec::fields(vec![field("note", FieldKind::Text { max_chars: 40 })]).unwrap();
    for tokens in Tokens::all() {
        let grammar = tokens.grammar(&spec);
        let mut matcher = grammar.start();
        for byte in br#"{"note":"a"# {
            matcher.accept(tokens.of_byte[byte]).unwrap();
        }
        assert!(matcher.penalty_applies());
        let mask = matcher.allowed().unwrap().clone();
        for (id, added) in tokens.tokenizer.get_added_tokens_decoder() {
            assert!(!mask.contains(id), "{}", added.content);
        }
        assert!(
            (0..tokens.vocabulary.len() as u32)
                .all(|id| !mask.contains(id) || !tokens.vocabulary.bytes(id).is_empty())
        );
        for &stop in tokens.vocabulary.stop_ids() {
            assert!(matcher.accept(stop).is_err());
        }
        for byte in br#""}"# {
            matcher.accept(tokens.of_byte[byte]).unwrap();
        }
        assert!(matcher.is_done() && matcher.forced().unwrap().is_empty());
        let mut stop = tokens.vocabulary.stop_ids().to_vec();
        stop.sort_unstable();
        assert_eq!(matcher.allowed().unwrap().iter().collect::<Vec<_>>(), stop);
        assert!(matcher.accept(tokens.of_byte[&b'}']).is_err());
        matcher.accept(tokens.vocabulary.stop_ids()[0]).unwrap();
        assert_eq!(matcher.text(), r#"{"note":"a"}"#);
    }
}

/// Walks `text` as the tokenizer cuts it. Returns how many tokens it takes and how many of them were forced; panics
/// where the grammar forces another cut than the tokenizer's.
fn walk(
    tokens: &Tokens,
    grammar: &Grammar,
    text: &str,
    spent_us: &mut Vec<u128>,
) -> (usize, usize) {
    let ids = cut(&tokens.tokenizer, text);
    let mut matcher = grammar.start();
    let (mut at, mut forced) = (0, 0);
    while !matcher.is_done() {
        let must = matcher.forced().unwrap();
        assert!(ids[at..].starts_with(&must), "{text}: {must:?} forced, {:?} wanted", &ids[at..]);
        for &id in &must {
            matcher.accept(id).unwrap();
        }
        at += must.len();
        forced += must.len();
        if matcher.is_done() {
            break;
        }
        let started = Instant::now();
        let allowed = matcher.allowed().unwrap().contains(ids[at]);
        spent_us.push(started.elapsed().as_micros());
        assert!(allowed, "{text}: {} not allowed", ids[at]);
        matcher.accept(ids[at]).unwrap();
        at += 1;
    }
    (ids.len(), forced)
}

fn production_specs() -> [(&'static str, AnswerSpec, Vec<String>); 3] {
    let alphabet = "ABCDEFGHJKLMNPRSTUVWXYZ23456789";
    let serial =
        AnswerSpec::serial(&SerialSpec::new(Template::parse("########", alphabet).unwrap()))
            .unwrap();
    let serials = ["A7K2M9PX", "TTTTTTTT", "22222222", "SERZALNR", "MADE2345", "XY7"]
        .map(|serial| format!(r#"{{"legible":true,"serial":"{serial}"}}"#));
    let serials =
        [serials.to_vec(), vec![r#"{"legible":false,"serial":null}"#.to_owned()]].concat();

    let classes = ["scratch", "dent", "stain", "crack", "missing part", "burr"];
    let defects = AnswerSpec::defects(&DefectsSpec::new(classes)).unwrap();
    let item = |i: usize| {
        let severity = ["minor", "major", "critical", "unclear"][i % 4];
        let location = &locations()[i % 9];
        format!(
            r#"{{"class":"{}","severity":"{severity}","location":"{location}"}}"#,
            classes[i % 6]
        )
    };
    let mut lists: Vec<String> = (0..36)
        .map(|i| {
            let items: Vec<String> = (i..i + i % 5).map(item).collect();
            format!(r#"{{"inspectable":true,"defects":[{}]}}"#, items.join(","))
        })
        .collect();
    lists.push(r#"{"inspectable":false,"defects":null}"#.to_owned());

    let note = AnswerSpec::fields(vec![
        field("note", FieldKind::Text { max_chars: 120 }),
        field(
            "torque_nm",
            FieldKind::Decimal(DecimalSpec { min: 0.0, max: 80.0, digits: 1, strict: false }),
        ),
    ])
    .unwrap();
    let notes = [
        r#"{"note":"A fine scratch runs from the upper edge to the \"M4\" hole.","torque_nm":12.5}"#,
        r#"{"note":"Grat an der Öffnung, ca. 3 mm – siehe Bild.","torque_nm":null}"#,
        r#"{"note":null,"torque_nm":0}"#,
    ];
    [
        ("serial", serial, serials),
        ("defects", defects, lists),
        ("note", note, notes.map(str::to_owned).to_vec()),
    ]
}

#[test]
fn forced_tokens_are_the_ones_the_tokenizer_would_make() {
    for tokens in Tokens::all() {
        for (name, spec, answers) in production_specs() {
            let started = Instant::now();
            let grammar = tokens.grammar(&spec);
            let compiled = started.elapsed();
            let started = Instant::now();
            drop(grammar.start());
            let start = started.elapsed();
            let (mut all, mut forced, mut spent) = (0, 0, Vec::new());
            for answer in &answers {
                for text in [answer.clone(), format!(" {answer}")] {
                    let (count, must) = walk(tokens, &grammar, &text, &mut spent);
                    all += count;
                    forced += must;
                }
            }
            spent.sort_unstable();
            let at = |share: f64| spent[((spent.len() - 1) as f64 * share) as usize];
            println!(
                "{name}, {} tokens: {forced} of {all} forced ({:.0} %); mask p50 {} us, p95 {} us, max {} us; \
                 compile {compiled:.1?}, start {start:.1?}; budget {} tokens",
                tokens.vocabulary.len(),
                100.0 * forced as f64 / all as f64,
                at(0.5),
                at(0.95),
                at(1.0),
                spec.budget_tokens(),
            );
        }
    }
}

/// Whole answers from random weights: prompt, picture, prefix reuse, grammar and loop together.
#[test]
fn the_engine_answers_in_form_whatever_its_weights() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let engine =
        Engine::load(&root.join("tests/fixtures/tiny_gqa"), &EngineOptions::default()).unwrap();
    let engine = Arc::new(engine);
    let vocabulary = engine.vocabulary().unwrap();
    let rgb: Vec<u8> = (0..40 * 30 * 3).map(|i| (i * 31 % 256) as u8).collect();
    let picture = [Picture::new(40, 30, &rgb).unwrap()];
    let mut session = Session::new(&engine);
    for (name, spec, _) in production_specs() {
        for temperature in [0.0, 2.0] {
            let question = Question {
                system: "Report only what you can see.".to_owned(),
                examples: vec![("Read: K1".to_owned(), r#"{"serial":"K1"}"#.to_owned())],
                text: "What is on the part? Answer in JSON.".to_owned(),
                num_crops: 1,
                grammar: Arc::new(Grammar::compile(&spec, &vocabulary).unwrap()),
                sampling: Sampling {
                    temperature,
                    max_tokens: 1000,
                    seed: 3,
                    ..Sampling::default()
                },
            };
            question.check(&engine, 1).unwrap();
            let ask = |session: &mut Session| {
                engine.ask(session, &question, &picture, &Limits::default()).unwrap()
            };
            let (first, second) = (ask(&mut session), ask(&mut session));
            assert!(first.is_complete(), "{name}: {}", first.text);
            let value: Value = serde_json::from_str(&first.text).unwrap();
            assert!(jsonschema::draft202012::is_valid(&spec.schema(), &value), "{}", first.text);
            assert_eq!(first.text, second.text, "the same question again, from the reused prefix");
            assert!(
                second.tokens.reused >= second.tokens.image,
                "up to the seam behind the picture"
            );
            assert!(first.tokens.image > 0 && first.tokens.generated < spec.budget_tokens());
        }
    }
    let small = Sampling { max_tokens: 10, ..Sampling::default() };
    let spec = production_specs()[0].1.clone();
    let question = Question {
        system: String::new(),
        examples: Vec::new(),
        text: "Read it.".to_owned(),
        num_crops: 1,
        grammar: Arc::new(Grammar::compile(&spec, &vocabulary).unwrap()),
        sampling: small,
    };
    let message = question.check(&engine, 1).unwrap_err().to_string();
    assert!(
        message.starts_with(
            "an answer can take 39 tokens, but sampling.max_tokens is 10; raise it to 39"
        ),
        "{message}"
    );
}
