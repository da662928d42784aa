//! Phi-3.5-vision differs from Phi-3-vision in numbers only: other factor lists, four crops, a
//! wider window, other end tokens. And what a prompt of many pictures costs and keeps apart.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use inspectd::vlm::config::LongContext;
use inspectd::vlm::encoded::Encoded;
use inspectd::vlm::engine::{Engine, EngineOptions};
use inspectd::vlm::picture::Picture;
use inspectd::vlm::session::Session;

const CONFIG: &str = "config.json";

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny_gqa").join(name)
}

/// The small model with another configuration; its weights are linked, not copied.
fn variant(edit: impl Fn(&mut Value)) -> TempDir {
    let dir = TempDir::new().unwrap();
    for name in ["model.safetensors", "tokenizer.json"] {
        std::os::unix::fs::symlink(fixture(name), dir.path().join(name)).unwrap();
    }
    let mut config = serde_json::from_slice(&std::fs::read(fixture(CONFIG)).unwrap()).unwrap();
    edit(&mut config);
    std::fs::write(dir.path().join(CONFIG), serde_json::to_vec(&config).unwrap()).unwrap();
    dir
}

/// What distinguishes the 3.5 release: lists that rise to 9.0 and 64.84, no field by another name.
fn like_3_5(config: &mut Value) {
    let pairs = config["rope_scaling"]["short_factor"].as_array().unwrap().len();
    let rise = |from: f64, to: f64| -> Vec<f64> {
        (0..pairs).map(|k| from * (to / from).powf(k as f64 / (pairs - 1) as f64)).collect()
    };
    config["rope_scaling"]["short_factor"] = json!(rise(1.08, 9.0));
    config["rope_scaling"]["long_factor"] = json!(rise(1.08, 64.84));
    config["sliding_window"] = json!(262_144);
    config["pad_token_id"] = json!(500);
}

fn load(dir: &Path, long_context: LongContext) -> Engine {
    Engine::load(dir, &EngineOptions { long_context, ..EngineOptions::default() }).unwrap()
}

fn ids(count: usize) -> Vec<i32> {
    (0..count).map(|i| (3 + i * 7 % 400) as i32).collect()
}

/// The logits after a prompt of `count` ids.
fn after(engine: &Engine, count: usize) -> Vec<f32> {
    let encoded = Encoded::from_ids(ids(count), &[], 1, engine.vocab_size()).unwrap();
    Session::new(engine).prompt(engine, &encoded, &[]).unwrap().logits
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn the_files_of_the_3_5_release_are_read() {
    let dir = variant(like_3_5);
    let write = |name: &str, value: Value| {
        std::fs::write(dir.path().join(name), serde_json::to_vec(&value).unwrap()).unwrap();
    };
    write(
        "preprocessor_config.json",
        json!({
            "image_mean": [0.48145466, 0.4578275, 0.40821073],
            "image_std": [0.26862954, 0.26130258, 0.27577711],
            "image_processor_type": "Phi3VImageProcessor",
            "num_crops": 4, "num_img_tokens": 144,
        }),
    );
    write("generation_config.json", json!({"eos_token_id": [2, 7, 9], "pad_token_id": 500}));
    let engine = load(dir.path(), LongContext::default());
    assert_eq!(engine.default_num_crops(), 4);
    assert!([2, 7, 9].iter().all(|id| engine.stop_ids().contains(id)), "{:?}", engine.stop_ids());
}

#[test]
fn each_release_turns_by_its_own_lists_on_both_sides_of_the_switch() {
    let three = variant(|_| {});
    let three_five = variant(like_3_5);
    let renamed = variant(|config| {
        like_3_5(config);
        config["rope_scaling"]["type"] = json!("longrope");
    });
    let engines =
        [&three, &three_five, &renamed].map(|dir| load(dir.path(), LongContext::default()));
    for count in [20, 40] {
        let [a, b, c] = [0, 1, 2].map(|at| after(&engines[at], count));
        assert!(largest_difference(&a, &b) > 1e-3, "{count} tokens: the lists are used");
        assert_eq!(b, c, "{count} tokens: longrope is su under a later name");
    }
}

#[test]
fn both_ways_over_the_switch_work_with_the_lists_of_3_5() {
    let dir = variant(like_3_5);
    let anew = load(dir.path(), LongContext::Reprefill);
    let kept = load(dir.path(), LongContext::Keep);
    let rest: Vec<u32> = ids(40)[30..].iter().map(|id| *id as u32).collect();
    let grow = |engine: &Engine| {
        let encoded = Encoded::from_ids(ids(30), &[], 1, engine.vocab_size()).unwrap();
        let mut session = Session::new(engine);
        session.prompt(engine, &encoded, &[]).unwrap();
        session.append_last(engine, &rest).unwrap()
    };
    let whole = after(&anew, 40);
    assert!(largest_difference(&grow(&anew), &whole) <= 1e-5, "as if computed at once");
    assert!(largest_difference(&grow(&kept), &whole) > 1e-3, "the first revision's way differs");
}

/// A picture of 40 x 30 pixels, different for each seed.
fn pixels(seed: usize) -> Vec<u8> {
    (0..40 * 30 * 3).map(|i| ((i * 31 + i / 120 * 17 + seed * 97) % 256) as u8).collect()
}

#[test]
fn eight_pictures_stand_in_their_order() {
    // Eight pictures are 2,504 tokens, more than the small model was made for.
    let roomy = |config: &mut Value| config["max_position_embeddings"] = json!(4096);
    let dir = variant(roomy);
    let engine = load(dir.path(), LongContext::default());
    let all: Vec<Vec<u8>> = (0..8).map(pixels).collect();
    let pictures: Vec<Picture<'_>> =
        all.iter().map(|rgb| Picture::new(40, 30, rgb).unwrap()).collect();
    let tags: String = (1..=8).map(|k| format!("<|image_{k}|>\n")).collect();
    let prompt = format!("<|user|>\n{tags}which one differs ?<|end|>\n<|assistant|>\n");
    let encoded = engine.encode(&prompt, &pictures, 1).unwrap();
    assert_eq!(encoded.total_image_tokens(), 8 * 313);
    let said = Session::new(&engine).prompt(&engine, &encoded, &pictures).unwrap();
    assert_eq!(said.image_tokens, 8 * 313);
    let mut turned = pictures.clone();
    turned.swap(0, 7);
    let encoded = engine.encode(&prompt, &turned, 1).unwrap();
    let other = Session::new(&engine).prompt(&engine, &encoded, &turned).unwrap();
    assert!(largest_difference(&said.logits, &other.logits) > 1e-4, "the order is seen");
    // The same prompt in pieces, as a session that has seen the first pictures continues.
    let mut session = Session::new(&engine);
    session.prompt(&engine, &encoded, &turned).unwrap();
    let again = engine.encode(&prompt, &pictures, 1).unwrap();
    let pass = session.prompt(&engine, &again, &pictures).unwrap();
    assert_eq!(pass.logits, said.logits, "no picture of the other order is left over");
}
