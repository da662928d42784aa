//! A device that demands a signed configuration and a signed model.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Instant;

use inspectd::store::{Reader, Record};
use inspectd::verdict::Outcome;
use minisign::KeyPair;

use crate::support::mosquitto::DEADLINE;
use crate::support::service::{Service, command};
use crate::support::station::Site;

/// A site, and the keys of those who may change it.
struct Signed {
    site: Site,
    keys: KeyPair,
}

impl Signed {
    fn new() -> Signed {
        let keys = KeyPair::generate_unencrypted_keypair().expect("a pair of keys");
        let signed = Signed { site: Site::of_pictures(None), keys };
        let model = signed.file("model");
        let mut manifest = Command::new(env!("CARGO_BIN_EXE_inspectd"));
        manifest.args(["model", "manifest", "--model"]).arg(model);
        told(&manifest.output().expect("it runs"), 0);
        signed.sign(&signed.file("model/model.sha256"));
        signed.sign_configuration();
        signed
    }

    fn file(&self, name: &str) -> PathBuf {
        self.site.dir.path().join(name)
    }

    fn sign_configuration(&self) {
        told(&command(&self.site.file, &["config", "manifest"]), 0);
        self.sign(&self.file("config.sha256"));
    }

    fn sign(&self, list: &Path) {
        let text = fs::read(list).expect("a list");
        let signature = minisign::sign(None, &self.keys.sk, text.as_slice(), Some("line 3"), None);
        let beside = format!("{}.minisig", list.display());
        fs::write(beside, signature.expect("signed").into_string()).expect("written");
    }

    fn key(&self) -> String {
        self.keys.pk.to_base64()
    }

    fn run(&self) -> Output {
        let mut run = Command::new(env!("CARGO_BIN_EXE_inspectd"));
        run.args(["run", "--parts", "2", "--config"]).arg(&self.site.file);
        run.args(["--signed-by", &self.key()]).output().expect("it runs")
    }

    fn verify(&self) -> Output {
        command(&self.site.file, &["config", "verify", "--public-key", &self.key()])
    }

    /// What a start and a check say, which both refuse.
    fn refused(&self) -> String {
        let before = records(&self.site).len();
        let text = told(&self.run(), 2);
        assert_eq!(records(&self.site).len(), before, "nothing was inspected");
        told(&self.verify(), 2);
        text
    }
}

fn records(site: &Site) -> Vec<Record> {
    Reader::open(&site.database()).map_or(vec![], |reader| reader.after(0, 1000).expect("read"))
}

fn told(output: &Output, code: i32) -> String {
    let text = [output.stdout.clone(), output.stderr.clone()].concat();
    let text = String::from_utf8(text).expect("text");
    assert_eq!(output.status.code(), Some(code), "{text}");
    text
}

#[test]
fn what_was_signed_runs_and_what_was_altered_does_not() {
    let signed = Signed::new();
    told(&signed.run(), 0);
    assert!(records(&signed.site).len() >= 2);
    let text = told(&signed.verify(), 0);
    assert!(text.contains("2 files as they were signed"), "{text}");

    let station = signed.file("stations/demo.toml");
    let main = signed.file("inspectd.toml");
    for path in [&station, &main] {
        let good = fs::read(path).expect("read");
        fs::write(path, [good.as_slice(), b"# one more line\n"].concat()).expect("written");
        let text = signed.refused();
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(text.contains(&format!("{name} is not as it was signed")), "{text}");
        fs::write(path, good).expect("written");
    }

    // A station more, and a station less.
    let text =
        fs::read_to_string(&station).expect("read").replace("name = \"demo\"", "name = \"two\"");
    fs::write(signed.file("stations/two.toml"), text).expect("written");
    let text = signed.refused();
    assert!(text.contains("stations/two.toml is not in the signed list"), "{text}");
    signed.sign_configuration();
    told(&signed.verify(), 0);
    fs::remove_file(signed.file("stations/two.toml")).expect("removed");
    let text = signed.refused();
    assert!(text.contains("stations/two.toml was signed and is not part"), "{text}");
}

#[test]
fn a_list_counts_with_the_right_signature_alone() {
    let signed = Signed::new();
    let list = signed.file("config.sha256");
    // Made anew by somebody who has no key.
    signed.site.edit("deadline_ms = ", "deadline_ms = 1");
    told(&command(&signed.site.file, &["config", "manifest"]), 0);
    let text = signed.refused();
    assert!(text.contains("config.sha256.minisig") && text.contains("who changed which"), "{text}");
    let other = KeyPair::generate_unencrypted_keypair().expect("a pair of keys");
    let signature =
        minisign::sign(None, &other.sk, fs::read(&list).unwrap().as_slice(), None, None);
    fs::write(signed.file("config.sha256.minisig"), signature.unwrap().into_string()).unwrap();
    assert!(signed.refused().contains("is not this key's signature"));
    for absent in [
        "config.sha256.minisig",
        "config.sha256",
        "model/model.sha256.minisig",
        "model/model.sha256",
    ] {
        signed.sign_configuration();
        fs::remove_file(signed.file(absent)).expect("removed");
        let text = signed.refused();
        assert!(text.contains(absent) && text.contains("takes a signed"), "{absent}: {text}");
    }
    // Without the demand all of that is nobody's concern.
    let mut run = Command::new(env!("CARGO_BIN_EXE_inspectd"));
    run.args(["run", "--parts", "1", "--config"]).arg(&signed.site.file);
    told(&run.output().expect("it runs"), 0);
}

#[test]
fn a_model_that_is_not_the_signed_one_passes_nothing() {
    let signed = Signed::new();
    let weights = signed.file("model/model.safetensors");
    let mut bytes = fs::read(&weights).expect("read");
    // The least significant bits of a single number: a model that loads and answers as ever.
    let last = bytes.len() - 2;
    bytes[last] ^= 1;
    fs::write(&weights, bytes).expect("written");
    let text = told(&signed.run(), 3);
    assert!(text.contains("is not the one that was signed"), "{text}");
    // Its answers may come before its digest is known, with a model of gigabytes: they do not count.
    for record in records(&signed.site) {
        let record = record.inspection().expect("a record");
        assert_eq!(record.verdict.outcome, Outcome::Review);
        let reasons = format!("{:?}", record.verdict.reasons);
        assert!(reasons.contains("model_unproven"), "{reasons}");
    }
}

#[test]
fn a_reload_takes_what_was_signed_and_nothing_else() {
    let signed = Signed::new();
    let key = signed.key();
    let mut service = Service::start(&signed.site, None, &[("INSPECTD_SIGNED_BY", key.as_str())]);
    service.wait_for("READY=1");
    signed.site.edit("deadline_ms = ", "deadline_ms = 1");
    let text = told(&service.command(&["reload"]), 2);
    assert!(text.contains("demo.toml is not as it was signed"), "{text}");
    let before = records(&signed.site).len();
    let until = Instant::now() + DEADLINE;
    while records(&signed.site).len() <= before {
        assert!(Instant::now() < until, "the old one does not go on");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    signed.sign_configuration();
    let text = told(&service.command(&["reload"]), 0);
    assert!(text.contains("station \"demo\""), "{text}");
    service.signal(libc::SIGTERM);
    service.stop();
}

#[test]
fn the_list_has_all_that_a_station_is_made_of() {
    let signed = Signed::new();
    fs::copy(signed.file("set/000000.png"), signed.file("stations/good.png")).expect("copied");
    signed.site.edit("task = \"defects\"\n", "task = \"defects\"\ngolden = \"good.png\"\n");
    signed.sign_configuration();
    let list = fs::read_to_string(signed.file("config.sha256")).expect("written");
    assert!(list.contains("  stations/good.png\n"), "{list}");
    // Anybody can check it without this program.
    let mut check = Command::new("sha256sum");
    check.args(["--check", "--strict", "config.sha256"]).current_dir(signed.site.dir.path());
    told(&check.output().expect("sha256sum is part of the system"), 0);
    fs::copy(signed.file("set/000001.png"), signed.file("stations/good.png")).expect("copied");
    let text = signed.refused();
    assert!(text.contains("stations/good.png is not as it was signed"), "{text}");
    // What lies elsewhere belongs to no list.
    let elsewhere = tempfile::tempdir().expect("a folder");
    let good = elsewhere.path().join("good.png");
    fs::copy(signed.file("set/000000.png"), &good).expect("copied");
    signed.site.edit("golden = \"good.png\"", &format!("golden = {good:?}"));
    let text = told(&command(&signed.site.file, &["config", "manifest"]), 2);
    assert!(text.contains("lies outside"), "{text}");
}
