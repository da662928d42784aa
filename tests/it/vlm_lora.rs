//! Adapters: against numbers of the project's own PyTorch reference (`training/lora_reference.py`),
//! from question to question, and what is refused.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use candle_core::DType;
use inspectd::builtin;
use inspectd::vlm::encoded::Encoded;
use inspectd::vlm::lora::AdapterFiles;
use inspectd::vlm::{
    Adapter, AdapterRef, CacheWish, Digest, Engine, EngineOptions, Picture, Session,
};
use proptest::prelude::*;
use safetensors::{Dtype, SafeTensors};

use crate::support::adapters::{Draft, Stored, fixture};
use crate::vlm_reference::Kit;

/// Of the largest logit: the reference is computed in f64, the engine in f32.
const RELATIVE: f32 = 1e-5;

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny_gqa")
}

fn engine(options: &EngineOptions) -> Engine {
    Engine::load(&folder(), options).unwrap()
}

fn load(engine: &Engine, name: &str) -> Arc<Adapter> {
    Arc::new(Adapter::load(&fixture(name), engine).unwrap())
}

/// A prompt's logits and those after each of `ids`.
fn run(
    engine: &Engine,
    session: &mut Session,
    encoded: &Encoded,
    pictures: &[Picture<'_>],
    ids: &[u32],
) -> Vec<Vec<f32>> {
    let mut rows = vec![session.prompt(engine, encoded, pictures).unwrap().logits];
    rows.extend(ids.iter().map(|id| session.append_last(engine, &[*id]).unwrap()));
    rows
}

#[track_caller]
fn close(what: &str, found: &[f32], expected: &[f32], relative: f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0.0f32, |most, number| most.max(number.abs()));
    let apart = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    let worst = apart.fold(0.0, |worst: f32, d| if d <= worst { worst } else { d }); // keeps a NaN
    println!("{what}: {:.1e} of the largest", worst / largest);
    assert!(worst <= relative * largest, "{what} differs by {worst:e} of {largest}");
}

#[test]
fn answers_repeat_the_reference_step_by_step() {
    let root = folder().join("reference");
    let greedy: BTreeMap<String, Vec<u32>> =
        serde_json::from_slice(&fs::read(root.join("adapters.json")).unwrap()).unwrap();
    let bytes = fs::read(root.join("adapters.safetensors")).unwrap();
    let stored = SafeTensors::deserialize(&bytes).unwrap();
    let compared = Cell::new(0);
    Kit::fixture().each_case(|case| {
        let (engine, pictures, encoded) = (&case.engine, case.pictures(), case.encoded());
        for name in ["plain", "patterned"] {
            let key = format!("{name}/{}", case.info.name);
            let mut session = Session::new(engine);
            session.adapt(Some(&load(engine, name))).unwrap();
            let ids = &greedy[&key];
            let rows = run(engine, &mut session, &encoded, &pictures, &ids[..ids.len() - 1]);
            let (chunks, _) = stored.tensor(&key).unwrap().data().as_chunks::<4>();
            let expected: Vec<f32> = chunks.iter().map(|word| f32::from_le_bytes(*word)).collect();
            close(&key, &rows.concat(), &expected, RELATIVE);
            for (row, id) in rows.iter().zip(ids) {
                let best = (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap();
                assert_eq!(best as u32, *id, "{key}");
            }
            // Far from what the model alone says, or this test would tell nothing.
            let alone = Session::new(engine).prompt(engine, &encoded, &pictures).unwrap().logits;
            let apart = alone.iter().zip(&rows[0]).map(|(a, b)| (a - b).abs());
            assert!(apart.fold(0.0, f32::max) > 0.1, "{key}");
        }
        compared.set(compared.get() + 1);
    });
    assert_eq!(compared.get(), 3);
}

/// Two adapters and none, in all orders, about one picture and about text: the same bits as from a
/// session that never did anything else, and the picture passes the tower once.
#[test]
fn switching_gives_the_bits_of_a_fresh_session() {
    let engine = engine(&EngineOptions::default());
    let wear = [None, Some(load(&engine, "plain")), Some(load(&engine, "patterned"))];
    let rgb: Vec<u8> = (0..40 * 30 * 3).map(|i| (i * 31 % 256) as u8).collect();
    let picture = [Picture::new(40, 30, &rgb).unwrap()];
    let prompt = |question: &str| {
        let text = format!("<|user|>\n<|image_1|>\n{question}<|end|>\n<|assistant|>\n");
        engine.encode(&text, &picture, 1).unwrap()
    };
    let prompts = [prompt("what is in the image ?"), prompt("is there a scratch ?")];
    let ids = [300, 301, 302];
    let fresh = |adapter: usize, question: usize| {
        let mut session = Session::new(&engine);
        session.adapt(wear[adapter].as_ref()).unwrap();
        run(&engine, &mut session, &prompts[question], &picture, &ids)
    };
    let expected: Vec<Vec<_>> = (0..3).map(|a| (0..2).map(|q| fresh(a, q)).collect()).collect();
    assert!(expected[0][0] != expected[1][0] && expected[1][0] != expected[2][0]);

    let mut session = Session::new(&engine);
    let turns = [1, 2, 1, 1, 0, 1, 0, 0, 2, 0, 2, 2, 1];
    let mut before = 0;
    for (turn, adapter) in turns.into_iter().enumerate() {
        let question = turn % 2;
        session.adapt(wear[adapter].as_ref()).unwrap();
        let pass = session.prompt(&engine, &prompts[question], &picture).unwrap();
        assert_eq!(pass.logits, expected[adapter][question][0], "turn {turn}");
        // What another adapter computed is never taken up; what the same one did is.
        assert_eq!(pass.reused_tokens > 313, turn > 0 && adapter == before, "turn {turn}");
        assert_eq!(pass.tower == Duration::ZERO, turn > 0, "turn {turn}");
        for (id, row) in ids.iter().zip(&expected[adapter][question][1..]) {
            let logits = session.append_last(&engine, &[*id]).unwrap();
            assert_eq!(&logits, row, "turn {turn}");
        }
        before = adapter;
    }
}

/// One row over a cache of halves takes its own way through the attention: with the adapter, too.
#[test]
fn a_cache_of_halves_keeps_the_adapter_in_every_step() {
    let (full, halves) = (
        engine(&EngineOptions::default()),
        engine(&EngineOptions { cache: CacheWish::F16, ..EngineOptions::default() }),
    );
    let ids = [300, 301, 302];
    let rows = |engine: &Engine| {
        let encoded = engine.encode("<|user|>\nis there a scratch ?<|end|>\n", &[], 1).unwrap();
        let mut session = Session::new(engine);
        session.adapt(Some(&load(engine, "patterned"))).unwrap();
        run(engine, &mut session, &encoded, &[], &ids)
    };
    for (step, (found, expected)) in rows(&halves).iter().zip(&rows(&full)).enumerate() {
        close(&format!("step {step}"), found, expected, 5e-3);
    }
}

/// Past the short factors' length everything is computed again, under the adapter.
#[test]
fn crossing_the_switch_of_factors_keeps_the_adapter() {
    let engine = engine(&EngineOptions::default());
    let ids = |range: std::ops::Range<i32>| range.map(|i| 3 + i * 7 % 400).collect::<Vec<i32>>();
    let adapter = load(&engine, "patterned");
    let logits = |first: i32| {
        let encoded = Encoded::from_ids(ids(0..first), &[], 1, engine.vocab_size()).unwrap();
        let mut session = Session::new(&engine);
        session.adapt(Some(&adapter)).unwrap();
        let pass = session.prompt(&engine, &encoded, &[]).unwrap();
        let rest: Vec<u32> = ids(first..36).iter().map(|id| *id as u32).collect();
        let rows = session.append(&engine, &rest).unwrap();
        rows.last().unwrap_or(&pass.logits).clone()
    };
    close("30 ids and 6 more", &logits(30), &logits(36), RELATIVE);
}

/// The second load of the same folder is the same adapter, and what it left may be used.
#[test]
fn the_same_files_loaded_twice_are_one_adapter() {
    let engine = engine(&EngineOptions::default());
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("copy");
    fs::create_dir(&copy).unwrap();
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        fs::copy(fixture("plain").join(name), copy.join(name)).unwrap();
    }
    let (one, other) = (load(&engine, "plain"), Arc::new(Adapter::load(&copy, &engine).unwrap()));
    assert_eq!(one.digest(), other.digest());
    let mut session = Session::new(&engine);
    session.adapt(Some(&one)).unwrap();
    session.append(&engine, &[3, 4, 5]).unwrap();
    session.adapt(Some(&other)).unwrap();
    assert_eq!(session.len(), 3);
    session.adapt(None).unwrap();
    assert!(session.is_empty());
}

#[test]
fn the_digest_is_what_sha256sum_says_of_the_two_files() {
    let sum = |name: &str| Digest::of(&fs::read(fixture("plain").join(name)).unwrap());
    let (config, weights) = (sum("adapter_config.json"), sum("adapter_model.safetensors"));
    let list = format!("{config}  adapter_config.json\n{weights}  adapter_model.safetensors\n");
    let adapter = AdapterRef::check(&fixture("plain")).unwrap();
    assert_eq!(adapter.digest, Digest::of(list.as_bytes()));
}

#[test]
fn an_adapter_of_another_model_does_not_enter_a_session() {
    let engine = engine(&EngineOptions::default());
    let dir = tempfile::tempdir().unwrap();
    builtin::write_model(dir.path()).unwrap();
    let other = Engine::load(dir.path(), &EngineOptions::default()).unwrap();
    let mut session = Session::new(&other);
    session.append(&other, &[3]).unwrap();
    let message = session.adapt(Some(&load(&engine, "plain"))).unwrap_err().to_string();
    assert!(message.contains("loaded for another model"), "{message}");
    assert_eq!(session.len(), 1, "the session is unchanged");
    let message = Adapter::load(&fixture("plain"), &other).unwrap_err().to_string();
    assert!(message.contains("adapter_model.safetensors") && message.contains("this model needs"));
}

/// In half precision the adapter's own product is still f32, so it moves the answer alike.
#[test]
fn half_precision_bases_are_adapted_too() {
    let exact = engine(&EngineOptions::default());
    let text: Vec<i32> = (0..20).map(|i| 3 + i * 7 % 400).collect();
    let encoded = Encoded::from_ids(text, &[], 1, exact.vocab_size()).unwrap();
    let logits = |engine: &Engine| {
        let mut session = Session::new(engine);
        session.adapt(Some(&load(engine, "plain"))).unwrap();
        session.prompt(engine, &encoded, &[]).unwrap().logits
    };
    let expected = logits(&exact);
    for (dtype, tolerance) in [(DType::F16, 5e-3), (DType::BF16, 4e-2)] {
        let half = engine(&EngineOptions { dtype, ..EngineOptions::default() });
        close(&format!("{dtype:?}"), &logits(&half), &expected, tolerance);
    }
}

/// What the folder's problem is called; the small model is what it should fit.
#[track_caller]
fn refused(dir: &Path) -> String {
    let engine = engine(&EngineOptions::default());
    Adapter::load(dir, &engine).expect_err("refused").to_string()
}

#[test]
fn a_damaged_adapter_is_refused_by_file_and_tensor() {
    const NAME: &str = "base_model.model.model.layers.1.self_attn.o_proj";
    type Damage = fn(&mut BTreeMap<String, Stored>);
    let damages: [(&str, &str, Damage); 15] = [
        ("no other half", "has no base_model", |t| drop(t.remove(&key("B")))),
        ("no first half", "has no base_model", |t| drop(t.remove(&key("A")))),
        ("no layer", "is missing, though", |t| {
            t.remove(&key("A"));
            t.remove(&key("B"));
        }),
        ("rank", "says rank 3", |t| drop(t.insert(key("A"), Stored::floats(&[4, 64], |_| 0.0)))),
        ("rank", "says rank 3", |t| drop(t.insert(key("B"), Stored::floats(&[64, 2], |_| 0.0)))),
        ("inputs", "this model needs [3, 64]", |t| {
            t.insert(key("A"), Stored::floats(&[3, 65], |_| 0.0));
        }),
        ("outputs", "this model needs [64, 3]", |t| {
            t.insert(key("B"), Stored::floats(&[63, 3], |_| 0.0));
        }),
        ("turned", "says rank 3", |t| drop(t.insert(key("A"), Stored::floats(&[64, 3], |_| 0.0)))),
        ("sides", "expected two sides", |t| {
            t.insert(key("A"), Stored::floats(&[3, 8, 8], |_| 0.0));
        }),
        ("not a number", "holds NaN at [1, 6]", |t| {
            let nan = |at| if at == 70 { f32::NAN } else { 0.5 };
            t.insert(key("A"), Stored::floats(&[3, 64], nan));
        }),
        ("infinite", "holds inf at [0, 0]", |t| {
            t.insert(key("B"), Stored::floats(&[64, 3], |_| f32::INFINITY));
        }),
        ("whole numbers", "is stored as I32", |t| {
            let stored = t.get_mut(&key("A")).unwrap();
            stored.dtype = Dtype::I32;
        }),
        ("the tower", "vision tower or projector", |t| {
            let name = "base_model.model.model.vision_embed_tokens.img_projection.0.lora_A.weight";
            t.insert(name.to_owned(), Stored::floats(&[3, 64], |_| 0.0));
        }),
        ("a layer too many", "has 3 layers", |t| {
            for (half, shape) in [("A", [3, 64]), ("B", [64, 3])] {
                t.insert(key(half).replace("s.1.", "s.3."), Stored::floats(&shape, |_| 0.0));
            }
        }),
        ("another engine's", "expected names such as", |t| {
            let stored = t.remove(&key("A")).unwrap();
            t.insert(key("A").replace("lora_A.weight", "lora_A.default.weight"), stored);
        }),
    ];
    fn key(half: &str) -> String {
        format!("{NAME}.lora_{half}.weight")
    }
    for (what, told, damage) in damages {
        let mut draft = Draft::fixture("plain");
        damage(&mut draft.tensors);
        let dir = tempfile::tempdir().unwrap();
        let message = refused(&draft.write(dir.path()));
        assert!(message.contains("adapter_model.safetensors: tensor `"), "{what}: {message}");
        assert!(message.contains(told), "{what}: {message}");
    }
}

#[test]
fn a_tensor_that_no_target_names_is_refused() {
    let mut draft = Draft::fixture("plain");
    draft.config["target_modules"] = serde_json::json!(["qkv_proj", "o_proj", "down_proj"]);
    let dir = tempfile::tempdir().unwrap();
    let message = refused(&draft.write(dir.path()));
    assert!(message.contains("gate_up_proj") && message.contains("target_modules"), "{message}");
}

#[test]
fn a_folder_that_is_none_is_refused_by_file() {
    let dir = tempfile::tempdir().unwrap();
    let message = refused(&dir.path().join("nowhere"));
    assert!(message.contains("nowhere/adapter_config.json"), "{message}");
    let whole = Draft::fixture("plain").write(dir.path());
    let weights = whole.join("adapter_model.safetensors");
    let bytes = fs::read(&weights).unwrap();
    for len in [0, 7, 100, bytes.len() - 1] {
        fs::write(&weights, &bytes[..len]).unwrap();
        let message = refused(&whole);
        assert!(message.contains("adapter_model.safetensors"), "{len}: {message}");
        assert!(message.contains("not a whole safetensors file"), "{len}: {message}");
    }
    // Sparse: it takes no room, and nobody may try to read it.
    fs::File::create(&weights).unwrap().set_len(1 << 40).unwrap();
    assert!(refused(&whole).contains("more than 536870912 bytes"));
    fs::remove_file(&weights).unwrap();
    assert!(refused(&whole).contains("adapter_model.safetensors"));
    fs::create_dir(&weights).unwrap();
    assert!(refused(&whole).contains("it is not a file"));
    fs::write(whole.join("adapter_config.json"), "[1]").unwrap();
    assert!(refused(&whole).contains("adapter_config.json"));
    fs::write(whole.join("adapter_config.json"), "{").unwrap();
    assert!(refused(&whole).contains("not valid JSON"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]

    /// Whatever is written into either file: a whole adapter or an error, never a panic.
    #[test]
    fn no_damage_to_a_file_makes_it_panic(
        which in 0usize..2,
        at in 0.0f64..1.0,
        piece in prop::collection::vec(any::<u8>(), 1..12),
        cut in 0usize..4,
        in_header in any::<bool>(),
    ) {
        let name = ["adapter_config.json", "adapter_model.safetensors"][which];
        let dir = tempfile::tempdir().unwrap();
        Draft::fixture("patterned").write(dir.path());
        let path = dir.path().join(name);
        let mut bytes = fs::read(&path).unwrap();
        let span = if in_header { bytes.len().min(3000) } else { bytes.len() };
        let at = (at * span as f64) as usize;
        let end = (at + cut * piece.len() / 2).min(bytes.len());
        bytes.splice(at..end, piece);
        fs::write(&path, bytes).unwrap();
        if let Err(why) = AdapterFiles::open(dir.path()) {
            prop_assert!(why.to_string().contains("adapter_"), "{why}");
        }
    }
}
