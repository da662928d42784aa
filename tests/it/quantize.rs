//! `inspectd model quantize`: what it makes, that an interruption changes nothing of it, and what it
//! refuses.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::{Device, Tensor};
use inspectd::simulate::{SetOptions, write_set};
use inspectd::vlm::config::LongContext;
use inspectd::vlm::gguf::GgufModel;
use inspectd::vlm::quantize::{
    Event, MIXES, Mix, QuantizeError, QuantizeOptions, QuantizeSummary, quantize,
};
use inspectd::vlm::trace::{TraceOptions, TracePrompt, trace};
use tempfile::TempDir;

use crate::support::wide_model::{self, Sizes};

/// A folder with a random model in `model`.
struct Bench {
    dir: TempDir,
}

impl Bench {
    fn new(sizes: Sizes) -> Bench {
        let bench = Bench { dir: TempDir::new().unwrap() };
        wide_model::write(&bench.model(), sizes, 7);
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn model(&self) -> PathBuf {
        self.path("model")
    }

    fn options(&self, mix: Mix, out: &str) -> QuantizeOptions {
        QuantizeOptions {
            model: self.model(),
            mix,
            out: self.path(out),
            force: false,
            imatrix: None,
        }
    }

    fn make(&self, mix: Mix, out: &str) -> Result<QuantizeSummary, QuantizeError> {
        quantize(&self.options(mix, out), &AtomicBool::new(false), &mut |_| {})
    }

    /// Stops after `tensors` tensors, and hands back the notes that the run gave.
    fn make_some(&self, mix: Mix, out: &str, tensors: usize) -> Vec<String> {
        let (stop, mut notes) = (AtomicBool::new(false), Vec::new());
        let made = quantize(&self.options(mix, out), &stop, &mut |event| match event {
            Event::Tensor { done, .. } if done >= tensors => stop.store(true, Ordering::SeqCst),
            Event::Note(text) => notes.push(text),
            _ => {}
        });
        match made {
            Err(QuantizeError::Stopped { done, of }) => assert!(done == tensors && done < of),
            other => panic!("{:?}", other.map(|made| made.out)),
        }
        notes
    }

    /// The real binary, told to make `out`.
    fn command(&self, mix: Mix, out: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_inspectd"));
        command.args(["model", "quantize", "--threads", "1", "--format", mix.name()]);
        command.arg("--model").arg(self.model()).arg("--out").arg(self.path(out));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Waits until the journal of `out` lists `tensors` tensors. False if the process ended before.
    fn wait_for(&self, child: &mut Child, out: &str, tensors: usize) -> bool {
        let journal = self.path(&format!("{out}.partial.journal"));
        loop {
            let lines = fs::read_to_string(&journal).map_or(0, |text| text.lines().count());
            if lines > tensors {
                return true;
            }
            if child.try_wait().unwrap().is_some() {
                return false;
            }
            std::thread::yield_now();
        }
    }
}

/// The tensors of one prompt with a picture: embeddings and logits.
fn traced(model: &Path, out: &Path) -> (Tensor, Tensor) {
    let picture = out.with_extension("png");
    let pixels = |x: u32, y: u32| image::Rgb([(x * 7 % 256) as u8, (y * 5 % 256) as u8, 90]);
    image::RgbImage::from_fn(64, 48, pixels).save(&picture).unwrap();
    let prompt = out.with_extension("txt");
    fs::write(&prompt, "<|user|>\n<|image_1|>\nWhat is it?<|end|>\n<|assistant|>\n").unwrap();
    trace(&TraceOptions {
        model: model.to_path_buf(),
        prompt: TracePrompt::PromptFile(prompt),
        images: vec![picture],
        num_crops: Some(1),
        steps: 1,
        ignore_eos: true,
        long_context: LongContext::Keep,
        adapter: None,
        device: Default::default(),
        precision: Default::default(),
        out: out.to_path_buf(),
    })
    .unwrap();
    let tensors = candle_core::safetensors::load(out, &Device::Cpu).unwrap();
    (tensors["image_embeds"].clone(), tensors["logits_last"].clone())
}

fn relative(a: &Tensor, b: &Tensor) -> f32 {
    let sum = |t: Tensor| t.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
    (sum((a - b).unwrap()) / sum(b.clone())).sqrt()
}

#[test]
fn every_format_runs_from_the_one_file_and_stays_near_the_source() {
    let bench = Bench::new(Sizes::default());
    let exact = traced(&bench.model(), &bench.path("exact.safetensors"));
    let mut sizes = Vec::new();
    for (mix, most) in MIXES.into_iter().zip([0.02, 0.05, 0.1, 0.2]) {
        let out = format!("{}.gguf", mix.name());
        let made = bench.make(mix, &out).unwrap();
        assert_eq!(made.file_bytes, fs::metadata(bench.path(&out)).unwrap().len());
        assert!(
            made.embeddings.relative < 0.02 && made.embeddings.worst_cosine > 0.999,
            "{made:?}"
        );
        let close = traced(&bench.path(&out), &bench.path("close.safetensors"));
        assert!(relative(&close.0, &exact.0) < 0.02, "{mix:?}: tower and projector");
        let logits = relative(&close.1, &exact.1);
        assert!(logits > 0.0 && logits < most, "{mix:?}: {logits}");
        sizes.push(made.decoder_bytes);
        let left: Vec<_> = fs::read_dir(bench.dir.path()).unwrap().flatten().collect();
        assert!(!left.iter().any(|entry| entry.path().to_string_lossy().contains("partial")));
    }
    assert!(sizes.windows(2).all(|pair| pair[0] > pair[1]), "{sizes:?}");
}

#[test]
fn a_tied_model_keeps_one_table() {
    let bench = Bench::new(Sizes { tied: true, ..Sizes::default() });
    bench.make(Mix::Q4KM, "tied.gguf").unwrap();
    let model = GgufModel::open(&bench.path("tied.gguf")).unwrap();
    assert!(model.tensors().iter().all(|tensor| tensor.name != "output.weight"));
    let exact = traced(&bench.model(), &bench.path("exact.safetensors"));
    let close = traced(&bench.path("tied.gguf"), &bench.path("close.safetensors"));
    assert!(relative(&close.1, &exact.1) < 0.2);
}

#[test]
fn the_file_carries_texts_and_digests_of_its_source() {
    let bench = Bench::new(Sizes::default());
    fs::write(bench.model().join("LICENSE"), "MIT License\n\nCopyright").unwrap();
    bench.make(Mix::Q8_0, "m.gguf").unwrap();
    let model = GgufModel::open(&bench.path("m.gguf")).unwrap();
    for name in ["config.json", "tokenizer.json", "generation_config.json", "LICENSE"] {
        let text = fs::read(bench.model().join(name)).unwrap();
        assert_eq!(model.small_file(name), Some(text.as_slice()), "{name}");
    }
    assert_eq!(model.text("general.license"), Some("mit"));
    assert_eq!(model.text("inspectd.mix"), Some("q8_0"));
    let weights =
        inspectd::vlm::Digest::of(&fs::read(bench.model().join("model.safetensors")).unwrap());
    let line = format!("{weights}  model.safetensors");
    assert!(
        model.source_digests().lines().any(|found| found == line),
        "{}",
        model.source_digests()
    );
    assert_eq!(model.damaged_tensors(|_| {}), Some(Vec::new()));
}

#[test]
fn a_flipped_bit_is_found_and_its_tensor_named() {
    let bench = Bench::new(Sizes::default());
    bench.make(Mix::Q4KM, "m.gguf").unwrap();
    let path = bench.path("m.gguf");
    let whole = fs::read(&path).unwrap();
    let tensors = GgufModel::open(&path).unwrap().tensors().to_vec();
    for tensor in tensors.iter().step_by(7) {
        for at in [tensor.bytes.start, tensor.bytes.end - 1] {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            fs::write(&path, bytes).unwrap();
            let damage = GgufModel::open(&path).unwrap().damaged_tensors(|_| {}).unwrap();
            let named: Vec<_> = damage.iter().map(|damage| damage.tensor.as_str()).collect();
            assert_eq!(named, [tensor.name.as_str()]);
        }
    }
}

#[test]
fn a_stopped_run_goes_on_to_the_same_bytes() {
    let bench = Bench::new(Sizes::default());
    bench.make(Mix::Q4KM, "whole.gguf").unwrap();
    let whole = fs::read(bench.path("whole.gguf")).unwrap();
    for tensors in [1, 20, 60] {
        bench.make_some(Mix::Q4KM, "m.gguf", tensors);
        assert!(!bench.path("m.gguf").exists(), "no name before it is whole");
        assert!(GgufModel::open(&bench.path("m.gguf.partial")).is_err(), "unfinished is no model");
        let made = bench.make(Mix::Q4KM, "m.gguf").unwrap();
        assert_eq!(made.resumed, tensors);
        assert!(fs::read(bench.path("m.gguf")).unwrap() == whole, "{tensors}");
        fs::remove_file(bench.path("m.gguf")).unwrap();
    }
    // Stopped twice, at different places.
    bench.make_some(Mix::Q4KM, "m.gguf", 5);
    bench.make_some(Mix::Q4KM, "m.gguf", 50);
    assert_eq!(bench.make(Mix::Q4KM, "m.gguf").unwrap().resumed, 50);
    assert!(fs::read(bench.path("m.gguf")).unwrap() == whole);
}

/// Changes the data and the journal of an unfinished file.
type Damage<'a> = &'a dyn Fn(&mut Vec<u8>, &mut Vec<u8>);

/// What a power cut may leave: a journal cut anywhere, data that is missing or was never written.
#[test]
fn a_damaged_unfinished_file_goes_on_from_what_is_sound() {
    let bench = Bench::new(Sizes::default());
    bench.make(Mix::Q5KM, "whole.gguf").unwrap();
    let whole = fs::read(bench.path("whole.gguf")).unwrap();
    let partial = bench.path("m.gguf.partial");
    let journal = bench.path("m.gguf.partial.journal");
    let tensors = GgufModel::open(&bench.path("whole.gguf")).unwrap().tensors().to_vec();
    let damages: [(&str, Damage<'_>, Option<usize>); 8] = [
        ("a line cut short", &|_, journal| journal.truncate(journal.len() - 9), Some(39)),
        ("no journal", &|_, journal| journal.clear(), Some(0)),
        ("a journal of noise", &|_, journal| journal.fill(0xff), Some(0)),
        ("half a first line", &|_, journal| journal.truncate(50), Some(0)),
        ("no data", &|data, _| data.clear(), Some(0)),
        ("the last bytes missing", &|data, _| data.truncate(tensors[39].bytes.end - 1), Some(39)),
        ("zeros in the first tensor", &|data, _| data[tensors[0].bytes.clone()].fill(0), Some(0)),
        ("a flipped bit in tensor 12", &|data, _| data[tensors[12].bytes.start] ^= 1, Some(12)),
    ];
    for (what, damage, sound) in damages {
        bench.make_some(Mix::Q5KM, "m.gguf", 40);
        let (mut data, mut lines) = (fs::read(&partial).unwrap(), fs::read(&journal).unwrap());
        damage(&mut data, &mut lines);
        fs::write(&partial, data).unwrap();
        fs::write(&journal, lines).unwrap();
        let made = bench.make(Mix::Q5KM, "m.gguf").unwrap();
        assert_eq!(Some(made.resumed), sound, "{what}");
        assert!(fs::read(bench.path("m.gguf")).unwrap() == whole, "{what}");
        fs::remove_file(bench.path("m.gguf")).unwrap();
    }
}

#[test]
fn another_source_or_format_starts_anew_and_says_so() {
    let bench = Bench::new(Sizes::default());
    bench.make_some(Mix::Q4KM, "m.gguf", 10);
    let notes = bench.make_some(Mix::Q6K, "m.gguf", 10);
    assert!(notes.iter().any(|note| note.contains("another format: starting anew")), "{notes:?}");
    // The same size, other weights: only the time and the digest tell.
    wide_model::write(&bench.model(), Sizes::default(), 8);
    let notes = bench.make_some(Mix::Q6K, "m.gguf", 10);
    assert!(notes.iter().any(|note| note.contains("the model folder has changed")), "{notes:?}");
    // Written anew with the same contents: the digests tell that nothing has changed.
    wide_model::write(&bench.model(), Sizes::default(), 8);
    assert_eq!(bench.make(Mix::Q6K, "m.gguf").unwrap().resumed, 10);
}

#[test]
fn a_killed_process_leaves_what_the_next_goes_on_from() {
    let bench = Bench::new(Sizes { hidden: 512, inner: 1024, layers: 4, tied: false });
    assert!(bench.command(Mix::Q4KM, "whole.gguf").status().unwrap().success());
    let whole = fs::read(bench.path("whole.gguf")).unwrap();
    let mut killed = 0;
    for tensors in [0, 3, 9, 17, 26] {
        let mut child = bench.command(Mix::Q4KM, "m.gguf").spawn().unwrap();
        if bench.wait_for(&mut child, "m.gguf", tensors) {
            child.kill().unwrap(); // SIGKILL
            killed += usize::from(!child.wait().unwrap().success());
        }
    }
    assert!(killed >= 3, "the kills came too late: {killed}");
    if !bench.path("m.gguf").exists() {
        let output = bench.command(Mix::Q4KM, "m.gguf").output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("written by an earlier run"), "{text}");
    }
    assert!(fs::read(bench.path("m.gguf")).unwrap() == whole);
}

#[test]
fn an_interrupt_ends_it_with_a_word_on_how_to_go_on() {
    let bench = Bench::new(Sizes { hidden: 512, inner: 1024, layers: 4, tied: false });
    let mut child = bench.command(Mix::Q4KM, "m.gguf").spawn().unwrap();
    assert!(bench.wait_for(&mut child, "m.gguf", 1), "it ended before the interrupt");
    let pid = libc::pid_t::try_from(child.id()).unwrap();
    // SAFETY: sends a signal to our own child, which has not been waited for.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGINT) }, 0);
    let output = child.wait_with_output().unwrap();
    let words = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{words}");
    assert!(words.contains("tensors; the same command goes on from there"), "{words}");
}

#[test]
fn a_full_disk_ends_it_with_a_word_and_the_next_run_goes_on() {
    let bench = Bench::new(Sizes::default());
    bench.make(Mix::Q8_0, "whole.gguf").unwrap();
    let whole = fs::read(bench.path("whole.gguf")).unwrap();
    let mut command = bench.command(Mix::Q8_0, "m.gguf");
    let limit = whole.len() as u64 / 2;
    // SAFETY: between fork and exec only these two system calls are made.
    unsafe {
        command.pre_exec(move || {
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN); // the write fails instead, as on a full disk
            let limit = libc::rlimit { rlim_cur: limit, rlim_max: limit };
            match libc::setrlimit(libc::RLIMIT_FSIZE, &limit) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
    let output = command.output().unwrap();
    let words = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{words}");
    assert!(words.contains("m.gguf.partial") && words.contains("goes on from there"), "{words}");
    assert!(!bench.path("m.gguf").exists());
    assert!(bench.make(Mix::Q8_0, "m.gguf").unwrap().resumed > 0);
    assert!(fs::read(bench.path("m.gguf")).unwrap() == whole);
}

#[test]
fn targets_that_must_not_be_written_are_refused() {
    let bench = Bench::new(Sizes::default());
    let refused = |options: &QuantizeOptions| {
        quantize(options, &AtomicBool::new(false), &mut |_| {}).unwrap_err().to_string()
    };
    let options = bench.options(Mix::Q8_0, "m.gguf");
    fs::write(&options.out, "precious").unwrap();
    assert!(refused(&options).contains("is there already; --force replaces it"));
    assert_eq!(fs::read(&options.out).unwrap(), b"precious");
    let forced = QuantizeOptions { force: true, ..options.clone() };
    quantize(&forced, &AtomicBool::new(false), &mut |_| {}).unwrap();
    assert!(GgufModel::open(&options.out).is_ok());
    let at = |out: PathBuf| QuantizeOptions { out, force: true, ..options.clone() };
    assert!(refused(&at(bench.path("model"))).contains("it is a folder"));
    assert!(refused(&at(bench.path("nowhere/m.gguf"))).contains("its folder is not there"));
    let own = refused(&at(bench.path("model/model.safetensors")));
    assert!(own.contains("a file of the model folder itself"), "{own}");
    let again = QuantizeOptions { model: options.out.clone(), ..at(bench.path("n.gguf")) };
    assert!(refused(&again).contains("is already one GGUF file"));
}

#[test]
fn two_at_once_do_not_write_the_same_file() {
    let bench = Bench::new(Sizes::default());
    let held = fs::File::create(bench.path("m.gguf.partial")).unwrap();
    held.lock().unwrap();
    let error = bench.make(Mix::Q8_0, "m.gguf").unwrap_err();
    assert!(matches!(error, QuantizeError::Busy { .. }), "{error}");
    drop(held);
    assert!(bench.make(Mix::Q8_0, "m.gguf").is_ok());
}

#[test]
fn a_source_with_a_number_that_is_none_is_refused_by_tensor() {
    let bench = Bench::new(Sizes::default());
    let path = bench.model().join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let end = bytes.len();
    bytes[end - 2..].copy_from_slice(&half::bf16::NAN.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    let error = bench.make(Mix::Q4KM, "m.gguf").unwrap_err();
    assert!(
        matches!(&error, QuantizeError::NotFinite { tensor, .. } if !tensor.is_empty()),
        "{error}"
    );
    assert!(!bench.path("m.gguf").exists());
}

#[test]
fn a_source_that_is_not_whole_is_refused_before_anything_is_written() {
    let bench = Bench::new(Sizes::default());
    fs::rename(bench.model().join("tokenizer.json"), bench.path("away")).unwrap();
    let words = bench.make(Mix::Q4KM, "m.gguf").unwrap_err().to_string();
    assert!(words.contains("tokenizer.json"), "{words}");
    fs::rename(bench.path("away"), bench.model().join("tokenizer.json")).unwrap();
    let config = bench.model().join("config.json");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("\"intermediate_size\": 512", "\"intermediate_size\": 768"))
        .unwrap();
    let words = bench.make(Mix::Q4KM, "m.gguf").unwrap_err().to_string();
    assert!(words.contains("gate_up_proj") && words.contains("[1536, 256]"), "{words}");
    assert!(!bench.path("m.gguf.partial").exists());
}

/// Pictures of a station, the built-in model, and the matrix that comes of the two.
#[test]
fn calibration_weighs_what_the_pictures_make_large() {
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/builtin");
    let set =
        SetOptions { count: 3, seed: 5, dense: true, mix: Default::default(), out: at("set") };
    write_set(&set, |_| {}).unwrap();
    let calibrate = |out: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_inspectd"));
        command.args(["model", "calibrate", "--model"]).arg(&model);
        command
            .arg("--pictures")
            .arg(pictures_of(&at("set")))
            .arg("--out")
            .arg(out)
            .output()
            .unwrap()
    };
    let output = calibrate(&at("i.safetensors"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains("3 pictures"), "{output:?}");
    assert!(text.contains("0 with an error"), "{text}");
    let again = calibrate(&at("i.safetensors"));
    assert_eq!(again.status.code(), Some(2), "it is there already");

    let options = |imatrix: Option<PathBuf>, out: &str| QuantizeOptions {
        model: model.clone(),
        mix: Mix::Q4KM,
        out: at(out),
        force: false,
        imatrix,
    };
    let make = |options: &QuantizeOptions| quantize(options, &AtomicBool::new(false), &mut |_| {});
    let plain = make(&options(None, "plain.gguf")).unwrap();
    let weighed = make(&options(Some(at("i.safetensors")), "weighed.gguf")).unwrap();
    assert_eq!((plain.weighed, weighed.weighed), (0, 4), "the four matrices with rows of 512");
    assert!(weighed.file_bytes > plain.file_bytes);
    let digest = inspectd::vlm::Digest::of(&fs::read(at("i.safetensors")).unwrap()).to_string();
    let file = GgufModel::open(&at("weighed.gguf")).unwrap();
    assert_eq!(file.text("inspectd.imatrix"), Some(digest.as_str()));

    let bench = Bench::new(Sizes::default());
    let other =
        QuantizeOptions { model: bench.model(), ..options(Some(at("i.safetensors")), "x.gguf") };
    let words = make(&other).unwrap_err().to_string();
    assert!(words.contains("inputs there and") && words.contains("i.safetensors"), "{words}");
}

/// Where a set's pictures lie.
fn pictures_of(set: &Path) -> PathBuf {
    let inner = set.join("pictures");
    if inner.is_dir() { inner } else { set.to_path_buf() }
}
