//! Manifests and signatures, with the real binary, the real sha256sum and keys made on the spot.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use inspectd::vlm::{Engine, EngineOptions};

use crate::support::station::Site;

fn model(action: &str) -> Command {
    let mut command = Command::cargo_bin("inspectd").expect("built by cargo");
    command.args(["model", action]);
    command
}

/// What a command that ends with `code` says on both channels.
fn said(command: &mut Command, code: i32) -> String {
    let output = command.assert().code(code).get_output().clone();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

/// The built-in model in a folder, with its manifest.
struct Installed {
    site: Site,
}

impl Installed {
    fn new() -> Installed {
        let site = Site::new(Path::new("/nowhere/line.mkv"), None);
        let installed = Installed { site };
        said(model("manifest").arg("--model").arg(installed.dir()), 0);
        installed
    }

    fn dir(&self) -> PathBuf {
        self.site.dir.path().join("model")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    fn verify(&self, code: i32) -> String {
        said(model("verify").arg("--model").arg(self.dir()), code)
    }
}

#[test]
fn a_manifest_is_verified_by_us_and_by_sha256sum() {
    let installed = Installed::new();
    let words = installed.verify(0);
    assert!(words.contains("is good"), "{words}");
    let check = std::process::Command::new("sha256sum")
        .args(["--check", "--strict", "model.sha256"])
        .current_dir(installed.dir())
        .output()
        .expect("sha256sum is part of the system");
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
    // And the other way round: a list that sha256sum wrote.
    let list = installed.site.dir.path().join("list");
    let script = format!("sha256sum -- *.json *.safetensors > {}", list.display());
    let status = std::process::Command::new("sh")
        .args(["-c", &script])
        .current_dir(installed.dir())
        .status();
    assert!(status.expect("sh").success());
    let words =
        said(model("verify").arg("--model").arg(installed.dir()).arg("--manifest").arg(list), 0);
    assert!(words.contains("is good"), "{words}");
}

#[test]
fn verify_manifest_and_record_name_the_model_by_one_digest() {
    let installed = Installed::new();
    let engine = Engine::load(&installed.dir(), &EngineOptions::default()).expect("it loads");
    let digest = engine.digest().unwrap().to_string();
    assert!(installed.verify(0).contains(&format!("model digest {digest}")));
    let manifest = fs::read_to_string(installed.file("model.sha256")).expect("written");
    assert!(manifest.contains(&format!("# model {digest}\n")), "{manifest}");
    // The record of an inspection.
    let set = installed.site.dir.path().join("set");
    let mix = inspectd::simulate::Mix::default();
    let options =
        inspectd::simulate::SetOptions { count: 1, seed: 5, dense: false, mix, out: set.clone() };
    inspectd::simulate::write_set(&options, |_| {}).expect("a picture");
    let mut inspect = Command::cargo_bin("inspectd").expect("built by cargo");
    inspect.args(["inspect", "--whole", "--station", "demo", "-c"]).arg(&installed.site.file);
    let output = inspect.arg(set.join("000000.png")).assert().success().get_output().clone();
    let record: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(record["digests"]["model"], digest.as_str());
    let on = serde_json::json!({ "processor": "cpu", "precision": "f32" });
    assert_eq!(record["computed_on"], on);
    // An auditor holds the record against the folder, without a manifest.
    fs::remove_file(installed.file("model.sha256")).expect("removed");
    let by = |digest: &str| {
        let mut command = model("verify");
        command.arg("--model").arg(installed.dir()).args(["--digest", digest]);
        command
    };
    assert!(said(&mut by(&digest), 0).contains("is good"));
    fs::write(installed.file("generation_config.json"), "{\"eos_token_id\": [2]}")
        .expect("written");
    assert!(said(&mut by(&digest), 3).contains("another one"));
}

#[test]
fn a_model_in_several_files_has_the_digest_that_its_records_have() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny_gqa");
    for entry in fs::read_dir(source).expect("readable").flatten() {
        if entry.path().is_file() {
            fs::copy(entry.path(), dir.path().join(entry.file_name())).expect("copied");
        }
    }
    // One file under an index, which is how the published model lies.
    let weights = dir.path().join("model.safetensors");
    if weights.exists() {
        let bytes = fs::read(&weights).expect("readable");
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(&bytes[8..8 + length]).expect("JSON");
        let names = header.keys().filter(|name| *name != "__metadata__");
        let map: serde_json::Map<String, serde_json::Value> =
            names.map(|name| (name.clone(), "w-1.safetensors".into())).collect();
        fs::rename(&weights, dir.path().join("w-1.safetensors")).expect("renamed");
        let index = serde_json::json!({ "weight_map": map }).to_string();
        fs::write(dir.path().join("model.safetensors.index.json"), index).expect("written");
    }
    let engine = Engine::load(dir.path(), &EngineOptions::default()).expect("it loads");
    said(model("manifest").arg("--model").arg(dir.path()), 0);
    let words = said(model("verify").arg("--model").arg(dir.path()), 0);
    assert!(words.contains(&format!("model digest {}", engine.digest().unwrap())), "{words}");
}

#[test]
fn each_thing_that_is_wrong_has_its_line() {
    let installed = Installed::new();
    fs::remove_file(installed.file("tokenizer_config.json")).expect("removed");
    let config = fs::read_to_string(installed.file("config.json")).expect("readable");
    fs::write(installed.file("config.json"), config + "\n").expect("written");
    let weights = fs::read(installed.file("model.safetensors")).expect("readable");
    fs::write(installed.file("model.safetensors"), &weights[..weights.len() / 2]).expect("written");
    let mut same_length = fs::read(installed.file("tokenizer.json")).expect("readable");
    same_length[100] ^= 1;
    fs::write(installed.file("tokenizer.json"), same_length).expect("written");
    fs::write(installed.file("sample.py"), "import os").expect("written");
    fs::create_dir(installed.file("sub")).expect("made");
    fs::write(installed.file("sub/more.bin"), "x").expect("written");
    let outside = installed.site.dir.path().join("outside.json");
    fs::rename(installed.file("preprocessor_config.json"), &outside).expect("moved");
    symlink(&outside, installed.file("preprocessor_config.json")).expect("linked");
    let pipe = std::ffi::CString::new(installed.file("pipe").display().to_string()).unwrap();
    // SAFETY: a path of our own, ended by a zero.
    assert_eq!(unsafe { libc::mkfifo(pipe.as_ptr(), 0o600) }, 0);
    let words = installed.verify(3);
    for line in [
        "missing    tokenizer_config.json",
        "changed    config.json",
        "truncated  model.safetensors",
        "changed    tokenizer.json: SHA-256 is",
        "extra      sample.py",
        "extra      sub/more.bin",
        "leads out  preprocessor_config.json",
        "no file    pipe",
        "8 problem(s)",
    ] {
        assert!(words.contains(line), "{line} is not in\n{words}");
    }
    let words = said(model("manifest").arg("--model").arg(installed.dir()), 3);
    assert!(words.contains("no manifest written"), "{words}");
}

#[test]
fn a_link_to_the_model_and_links_within_it_are_fine() {
    let installed = Installed::new();
    let link = installed.site.dir.path().join("current");
    symlink(installed.dir(), &link).expect("linked");
    fs::rename(installed.file("model.safetensors"), installed.file("blob")).expect("moved");
    symlink("blob", installed.file("model.safetensors")).expect("linked");
    let words = said(model("verify").arg("--model").arg(&link), 3);
    assert!(words.contains("extra      blob") && !words.contains("leads out"), "{words}");
}

#[test]
fn a_model_in_one_file_has_its_manifest_beside_it() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("model.gguf");
    fs::write(&file, vec![3; 3 << 20]).expect("written");
    fs::write(dir.path().join("neighbour"), "x").expect("written");
    said(model("manifest").arg("--model").arg(&file), 0);
    assert!(dir.path().join("model.gguf.sha256").exists());
    let bytes = inspectd::vlm::Digest::of(&vec![3; 3 << 20]);
    let words = said(model("verify").arg("--model").arg(&file), 0);
    assert!(words.contains(&format!("model digest {bytes}")), "{words}");
    fs::write(&file, vec![3; (3 << 20) - 1]).expect("written");
    assert!(said(model("verify").arg("--model").arg(&file), 3).contains("truncated  model.gguf"));
}

#[test]
fn without_anything_to_compare_with_nothing_is_called_good() {
    let site = Site::new(Path::new("/nowhere/line.mkv"), None);
    let dir = site.dir.path().join("model");
    let words = said(model("verify").arg("--model").arg(&dir), 2);
    assert!(words.contains("nothing to compare with"), "{words}");
    let words = said(model("verify").arg("--model").arg(site.dir.path().join("none")), 3);
    assert!(words.contains("none"), "{words}");
    fs::write(dir.join("model.sha256"), "not a list\n").expect("written");
    let words = said(model("verify").arg("--model").arg(&dir), 3);
    assert!(words.contains("model.sha256, line 1"), "{words}");
}

#[test]
fn a_signature_holds_for_its_key_and_its_bytes_only() {
    let installed = Installed::new();
    let manifest = installed.file("model.sha256");
    let sign = |text: &str| {
        let pair = minisign::KeyPair::generate_unencrypted_keypair().expect("a pair of keys");
        let signed = minisign::sign(None, &pair.sk, text.as_bytes(), Some("line 3"), None);
        let key = pair.pk.to_base64();
        (signed.expect("signed").into_string(), key)
    };
    let text = fs::read_to_string(&manifest).expect("written");
    let (signature, key) = sign(&text);
    let beside = installed.file("model.sha256.minisig");
    fs::write(&beside, &signature).expect("written");
    let verify = |key: &str| {
        let mut command = model("verify");
        command.arg("--model").arg(installed.dir()).args(["--public-key", key]);
        command
    };
    let words = said(&mut verify(&key), 0);
    assert!(words.contains("signature  good; line 3"), "{words}");
    // The key in a file, as minisign writes it.
    let file = installed.site.dir.path().join("engineering.pub");
    fs::write(&file, format!("untrusted comment: minisign public key\n{key}\n")).expect("written");
    said(&mut verify(&file.display().to_string()), 0);
    let (_, other) = sign(&text);
    assert!(said(&mut verify(&other), 3).contains("do not use it before"));
    // Somebody changes a file and makes the manifest fit.
    fs::write(installed.file("generation_config.json"), "{\"eos_token_id\": [2]}")
        .expect("written");
    said(model("manifest").arg("--model").arg(installed.dir()), 0);
    assert!(said(&mut verify(&key), 3).contains("do not use it before"));
    fs::write(&beside, "junk").expect("written");
    assert!(said(&mut verify(&key), 3).contains("not a minisign signature"));
    fs::remove_file(&beside).expect("removed");
    assert!(said(&mut verify(&key), 3).contains("model.sha256.minisig"));
    assert!(said(&mut verify("/nowhere/key.pub"), 3).contains("/nowhere/key.pub"));
}

#[test]
fn a_quantised_model_is_described_and_verified_as_the_engine_names_it() {
    let site = Site::new(Path::new("/nowhere/line.mkv"), None);
    let file = site.dir.path().join("small-q8_0.gguf");
    let mut quantize = model("quantize");
    quantize.args(["--format", "q8_0", "--model"]).arg(site.dir.path().join("model"));
    said(quantize.arg("--out").arg(&file), 0);
    said(model("manifest").arg("--model").arg(&file), 0);
    let link = site.dir.path().join("current.gguf");
    symlink(&file, &link).expect("linked");
    for path in [&file, &link] {
        let engine = Engine::load(path, &EngineOptions::default()).expect("it loads");
        let manifest = site.dir.path().join("small-q8_0.gguf.sha256");
        let digest = engine.digest().unwrap().to_string();
        let mut verify = model("verify");
        verify.arg("--model").arg(path).arg("--manifest").arg(manifest);
        let words = said(verify.args(["--digest", &digest]), 0);
        assert!(words.contains(&digest), "{words}");
        let output = model("info").arg("--json").arg("--model").arg(path).assert().success();
        let info: serde_json::Value =
            serde_json::from_slice(&output.get_output().stdout).expect("JSON");
        assert_eq!(info["digest"], digest.as_str());
        assert!(info["memory"]["weights_bytes"].as_u64() < Some(14 << 20), "{info}");
        assert!(info["stored"].as_object().is_some_and(|kinds| kinds.len() >= 2), "{info}");
    }
}
