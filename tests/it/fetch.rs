//! Fetching a model from a hub on loopback that behaves badly.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use assert_cmd::Command;
use inspectd::provenance::fetch::{FetchError, Fetched, Options, Progress, fetch};
use inspectd::vlm::{Digest, Engine, EngineOptions};

use crate::support::hub::{Asked, Hub, Manner};

struct Quiet;

impl Progress for Quiet {
    fn begin(&self, _: &str, _: u64, _: Option<u64>) {}
    fn came(&self, _: u64) {}
    fn word(&self, _: &str, _: &str) {}
}

/// The built-in model, and beside it what nobody needs.
fn files() -> BTreeMap<String, Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/builtin");
    let mut files: BTreeMap<String, Vec<u8>> = fs::read_dir(dir)
        .expect("readable")
        .flatten()
        .map(|entry| {
            let name = entry.file_name().into_string().expect("text");
            (name, fs::read(entry.path()).expect("readable"))
        })
        .collect();
    files.insert("modeling_phi3_v.py".into(), b"import os".to_vec());
    files.insert(".gitattributes".into(), b"x".to_vec());
    files
}

fn weights() -> Vec<u8> {
    files().remove("model.safetensors").expect("there")
}

struct Call {
    hub: Hub,
    dir: tempfile::TempDir,
}

impl Call {
    fn new(change: impl FnOnce(&mut Manner)) -> Call {
        let mut manner = Manner { files: files(), ..Manner::default() };
        change(&mut manner);
        Call { hub: Hub::start(manner), dir: tempfile::tempdir().expect("a folder") }
    }

    fn out(&self) -> PathBuf {
        self.dir.path().join("model")
    }

    fn options(&self) -> Options {
        Options {
            endpoint: self.hub.url(),
            retry_wait: Duration::from_millis(1),
            silence: Duration::from_secs(20),
            ..Options::new("owner/name", &self.out())
        }
    }

    fn fetch(&self) -> Result<Fetched, FetchError> {
        fetch(&self.options(), &Quiet)
    }

    fn command(&self) -> Command {
        let mut command = Command::cargo_bin("inspectd").expect("built by cargo");
        command.args(["model", "fetch", "--repo", "owner/name", "--endpoint", &self.hub.url()]);
        command.arg("--out").arg(self.out());
        command
    }

    /// Requests for this file.
    fn asked_for(&self, name: &str) -> Vec<Asked> {
        self.hub.asked().into_iter().filter(|asked| asked.path.ends_with(name)).collect()
    }

    /// Nothing stands under the final name of the weights.
    fn assert_no_weights(&self) {
        assert!(!self.out().join("model.safetensors").exists());
    }
}

fn said(command: &mut Command, code: i32) -> String {
    let output = command.assert().code(code).get_output().clone();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[test]
fn a_model_comes_whole_is_verified_and_loads() {
    let call = Call::new(|manner| manner.redirects = true);
    let words = said(&mut call.command(), 0);
    assert!(
        words.contains("commit 0123456789abcdef") && words.contains("1 by what the hub says"),
        "{words}"
    );
    let mut verify = Command::cargo_bin("inspectd").expect("built by cargo");
    said(verify.args(["model", "verify", "--model"]).arg(call.out()), 0);
    Engine::load(&call.out(), &EngineOptions::default()).expect("it loads");
    for absent in ["modeling_phi3_v.py", ".gitattributes", "README.md", "model.safetensors.partial"]
    {
        assert!(!call.out().join(absent).exists(), "{absent}");
    }
    // The commit is asked for, not the branch, which may move in between.
    assert!(call.hub.asked().iter().any(|asked| asked.path.contains("/resolve/0123456789abcdef/")));
    // A second call has nothing to do.
    let before = call.asked_for("model.safetensors").len();
    said(&mut call.command(), 0);
    assert_eq!(call.asked_for("model.safetensors").len(), before);
}

#[test]
fn a_cut_connection_is_gone_on_with_until_the_file_is_whole() {
    let call = Call::new(|manner| manner.cut_after = Some(2_000_000));
    call.fetch().expect("it comes in pieces");
    assert_eq!(fs::read(call.out().join("model.safetensors")).expect("there"), weights());
    let ranges: Vec<Option<String>> =
        call.asked_for("model.safetensors").into_iter().map(|asked| asked.range).collect();
    assert_eq!(ranges[..2], [None, Some("bytes=2000000-".to_owned())], "{ranges:?}");
}

#[test]
fn a_half_file_of_an_earlier_call_is_gone_on_with() {
    let call = Call::new(|_| {});
    let half = &weights()[..3_000_000];
    fs::create_dir_all(call.out()).expect("made");
    fs::write(call.out().join("model.safetensors.partial"), half).expect("written");
    call.fetch().expect("it comes");
    assert_eq!(call.asked_for("model.safetensors")[0].range.as_deref(), Some("bytes=3000000-"));
    assert_eq!(fs::read(call.out().join("model.safetensors")).expect("there"), weights());
    // One that is the beginning of something else is noticed, and the file comes whole.
    let call = Call::new(|_| {});
    fs::create_dir_all(call.out()).expect("made");
    fs::write(call.out().join("model.safetensors.partial"), vec![9; 3_000_000]).expect("written");
    call.fetch().expect("it comes");
    assert_eq!(fs::read(call.out().join("model.safetensors")).expect("there"), weights());
    // One that is longer than the file, or as long and wrong.
    for length in [weights().len(), weights().len() + 5] {
        let call = Call::new(|_| {});
        fs::create_dir_all(call.out()).expect("made");
        fs::write(call.out().join("model.safetensors.partial"), vec![9; length]).expect("written");
        call.fetch().expect("it comes");
        assert_eq!(fs::read(call.out().join("model.safetensors")).expect("there"), weights());
    }
}

#[test]
fn a_hub_that_begins_anew_each_time_is_taken_from_the_first_byte() {
    let call = Call::new(|manner| manner.whole_only = true);
    fs::create_dir_all(call.out()).expect("made");
    fs::write(call.out().join("model.safetensors.partial"), vec![9; 1000]).expect("written");
    call.fetch().expect("it comes");
    assert_eq!(fs::read(call.out().join("model.safetensors")).expect("there"), weights());
}

#[test]
fn a_wrong_digest_is_refused_and_leaves_nothing() {
    let lie = Digest::of(b"something else");
    let call = Call::new(|manner| {
        manner.lies.insert("model.safetensors".into(), lie);
    });
    let words = said(&mut call.command(), 3);
    assert!(words.contains("model.safetensors") && words.contains("the hub says"), "{words}");
    call.assert_no_weights();
    assert!(!call.out().join("model.safetensors.partial").exists());
    // The manifest counts before what the hub says: bytes that both of its sides agree on.
    let call = Call::new(|_| {});
    call.fetch().expect("it comes");
    let manifest = call.dir.path().join("trusted");
    fs::copy(call.out().join("model.sha256"), &manifest).expect("copied");
    fs::remove_dir_all(call.out()).expect("removed");
    said(call.command().arg("--manifest").arg(&manifest), 0);
    fs::remove_dir_all(call.out()).expect("removed");
    call.hub.change(|manner| {
        if let Some(bytes) = manner.files.get_mut("model.safetensors") {
            bytes[5_000_000] ^= 1;
        }
    });
    let words = said(call.command().arg("--manifest").arg(&manifest), 3);
    assert!(words.contains("the manifest says"), "{words}");
    call.assert_no_weights();
}

#[test]
fn a_file_of_the_same_name_is_not_written_over() {
    let call = Call::new(|_| {});
    fs::create_dir_all(call.out()).expect("made");
    fs::write(call.out().join("model.safetensors"), "mine").expect("written");
    let words = said(&mut call.command(), 1);
    assert!(words.contains("another file"), "{words}");
    assert_eq!(fs::read(call.out().join("model.safetensors")).expect("there"), b"mine");
}

#[test]
fn a_mirror_without_lists_serves_the_names_that_models_have() {
    let call = Call::new(|manner| {
        manner.no_list = true;
        let bytes = manner.files.remove("model.safetensors").expect("there");
        let map =
            serde_json::json!({"weight_map": {"a": "w-2.safetensors", "b": "w-1.safetensors"}});
        manner.files.insert("model.safetensors.index.json".into(), map.to_string().into_bytes());
        manner.files.insert("w-1.safetensors".into(), bytes[..1000].to_vec());
        manner.files.insert("w-2.safetensors".into(), bytes[1000..].to_vec());
    });
    let fetched = call.fetch().expect("it comes");
    for name in ["config.json", "tokenizer.json", "w-1.safetensors", "w-2.safetensors"] {
        assert!(fetched.files.iter().any(|file| file == name), "{name}: {fetched:?}");
    }
    assert_eq!(fetched.by_hub, 0);
    // Without a digest a half file is gone on with by the hub's own name for its bytes, or not.
    fs::remove_file(call.out().join("w-2.safetensors")).expect("removed");
    fs::write(call.out().join("w-2.safetensors.partial"), [9; 10]).expect("written");
    call.fetch().expect("it comes");
    assert_eq!(call.asked_for("w-2.safetensors")[1].range, None);
}

#[test]
fn one_file_of_several_is_chosen_by_name() {
    let call = Call::new(|manner| {
        manner.files = BTreeMap::from([
            ("a-q4.gguf".to_owned(), vec![1; 100_000]),
            ("a-q8.gguf".to_owned(), vec![2; 200_000]),
        ]);
    });
    let words = said(&mut call.command(), 2);
    assert!(words.contains("--file") && words.contains("a-q4.gguf, a-q8.gguf"), "{words}");
    said(call.command().args(["--file", "a-q8.gguf"]), 0);
    assert_eq!(fs::read(call.out().join("a-q8.gguf")).expect("there"), vec![2; 200_000]);
    let mut verify = Command::cargo_bin("inspectd").expect("built by cargo");
    said(verify.args(["model", "verify", "--model"]).arg(call.out().join("a-q8.gguf")), 0);
}

#[test]
fn what_is_not_there_or_not_allowed_is_said_so() {
    for (status, word) in [(401, "not for everybody"), (503, "in trouble"), (404, "no such file")] {
        let call = Call::new(|manner| manner.status = Some(status));
        let words = said(&mut call.command(), 1);
        assert!(words.contains(word) && words.contains(&status.to_string()), "{words}");
        assert!(!call.out().join("config.json").exists());
    }
}

#[test]
fn without_a_network_the_way_without_one_is_told() {
    let call = Call::new(|_| {});
    // A port that was free a moment ago: nobody answers there.
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("one").port();
    let mut command = call.command();
    let address = format!("http://127.0.0.1:{port}");
    let words = {
        let mut fresh = Command::cargo_bin("inspectd").expect("built by cargo");
        fresh.args(["model", "fetch", "--repo", "owner/name", "--endpoint", &address, "--out"]);
        said(fresh.arg(call.out()), 1)
    };
    for word in ["cannot reach", "USB stick", "model verify", "[model]"] {
        assert!(words.contains(word), "{word}: {words}");
    }
    let words = said(command.args(["--revision", "../../etc"]), 2);
    assert!(words.contains("--revision"), "{words}");
}

#[test]
fn a_length_other_than_the_manifest_s_is_refused_before_the_first_byte() {
    let call = Call::new(|_| {});
    let manifest_of = |bytes: u64| {
        let text =
            format!("# bytes {bytes} model.safetensors\n{}  model.safetensors\n", Digest::of(b"x"));
        inspectd::provenance::Manifest::parse(Path::new("m"), &text).expect("a manifest")
    };
    let options = Options { manifest: Some(manifest_of(1 << 60)), ..call.options() };
    match fetch(&options, &Quiet) {
        Err(FetchError::Length { expected, .. }) => assert_eq!(expected, 1 << 60),
        other => panic!("{other:?}"),
    }
    call.assert_no_weights();
}
