//! `[engines.NAME]` and what a station says of it: what is read, and what is refused with which words.

use std::path::Path;
use std::time::Duration;

use inspectd::config::{self, Loaded};
use inspectd::remote::{AnswerForm, Kind};
use inspectd::station::{EngineUse, Fallback};

use crate::support::station::Site;

/// The demo site with `engines` in its main file and `keys` in its station.
fn load(engines: &str, keys: &str) -> Result<Loaded, String> {
    let site = Site::new(Path::new("/nowhere/line.mkv"), None);
    let main = std::fs::read_to_string(&site.file).expect("readable");
    std::fs::write(&site.file, format!("{main}{engines}")).expect("written");
    site.edit("name = \"demo\"\n", &format!("name = \"demo\"\n{keys}"));
    config::load(&site.file).map_err(|problems| problems.to_string())
}

const GPU: &str =
    "[engines.gpu]\nkind = \"openai\"\nurl = \"http://10.0.0.7:8000/v1\"\nmodel = \"m\"\n";

#[test]
fn an_engine_is_read_with_every_key() {
    let all = "timeout_s = 2.5\nconnect_timeout_s = 0.5\nparallel = 8\nlogprobs = false\n\
               answer_form = \"json_object\"\nmax_response_kib = 64\nbreaker_failures = 5\n\
               breaker_open_s = 1\nbreaker_open_max_s = 9\n\
               [engines.azure]\nkind = \"azure-ml\"\nurl = \"https://x.inference.ml.azure.com/score\"\n\
               deployment = \"blue\"\n";
    let keys = "engine = \"gpu\"\nfallback = \"local\"\nfallback_reserve_ms = 4000\n";
    let loaded = load(&format!("{GPU}{all}"), keys).unwrap_or_else(|words| panic!("{words}"));
    let [azure, gpu] = &loaded.settings.engines[..] else { panic!("two engines") };
    assert_eq!(
        (gpu.name.as_str(), gpu.kind, gpu.form),
        ("gpu", Kind::OpenAi, AnswerForm::JsonObject)
    );
    assert_eq!((gpu.timeout, gpu.parallel), (Duration::from_millis(2500), 8));
    assert_eq!((gpu.logprobs, gpu.breaker.failures), (false, 5));
    assert_eq!(azure.deployment.as_deref(), Some("blue"));
    let reserve = Duration::from_secs(4);
    let used = EngineUse { name: "gpu".to_owned(), fallback: Fallback::Local { reserve } };
    assert_eq!(loaded.stations[0].engine, Some(used));
    let warnings = loaded.warnings.to_string();
    assert!(warnings.contains("no station asks the engine \"azure\""), "{warnings}");
}

#[test]
fn what_cannot_be_is_refused_with_its_place_and_a_remedy() {
    let keys = "engine = \"gpu\"\n";
    for (engines, keys, words) in [
        (GPU, "engine = \"gpv\"\n", "did you mean \"gpu\"?"),
        ("", keys, "[engines.gpu]"),
        (GPU, "fallback = \"local\"\n", "has no effect without `engine`"),
        (GPU, "engine = \"gpu\"\nfallback_reserve_ms = 100\n", "without  fallback"),
        (
            GPU,
            "engine = \"gpu\"\nfallback = \"local\"\nfallback_reserve_ms = 20000\n",
            "leaves nothing of the deadline",
        ),
        (&GPU.replace("\"openai\"", "\"opanai\""), keys, "did you mean \"openai\"?"),
        (&GPU.replace("model = \"m\"\n", ""), keys, "`model` is missing"),
        (&GPU.replace("http://", "http://user:hunter2@"), keys, "a name or password"),
        (&GPU.replace("http://10", "10"), keys, "http:// or https://"),
        (&format!("{GPU}modle = 1\n"), keys, "did you mean `model`?"),
        (&format!("{GPU}deployment = \"x\"\n"), keys, "kind = \"azure-ml\""),
        (&format!("{GPU}key_file = \"no-such-key\"\n"), keys, "cannot read the key"),
        (&format!("{GPU}ca_file = \"ca.pem\"\n"), keys, "no effect without TLS"),
        (&format!("{GPU}breaker_open_s = 90\n"), keys, "above `breaker_open_max_s`"),
        (&format!("{GPU}parallel = 0\n"), keys, "out of range"),
        ("[engines]\ngpu = 7\n", keys, "a table below [engines.NAME]"),
        (&GPU.replace("engines.gpu", "engines.\"g/u\""), "", "which a name cannot have"),
    ] {
        let told = load(engines, keys).expect_err(words);
        assert!(told.contains(words), "{words}: {told}");
        assert!(told.contains(".toml:"), "no place: {told}");
        assert!(!told.contains("hunter2\"") || told.contains("http"), "{told}");
    }
}

#[test]
fn a_key_that_crosses_the_network_in_the_clear_is_a_warning() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = folder.path().join("key");
    std::fs::write(&key, "sk-1\n").expect("written");
    let named = format!("{GPU}key_file = \"{}\"\n", key.display());
    let warnings = load(&named, "engine = \"gpu\"\n").expect("loads").warnings.to_string();
    assert!(warnings.contains("unencrypted"), "{warnings}");
    let here = named.replace("10.0.0.7", "127.0.0.1");
    let warnings = load(&here, "engine = \"gpu\"\n").expect("loads").warnings.to_string();
    assert!(!warnings.contains("unencrypted"), "{warnings}");
}

#[test]
fn a_model_is_needed_only_where_somebody_asks_it() {
    let site = Site::new(Path::new("/nowhere/line.mkv"), None);
    let main = std::fs::read_to_string(&site.file).expect("readable");
    let without = main.replace("[model]\npath = \"model\"\n", "");
    assert_ne!(without, main);
    std::fs::write(&site.file, format!("{without}{GPU}")).expect("written");
    site.edit("name = \"demo\"\n", "name = \"demo\"\nengine = \"gpu\"\n");
    let loaded = config::load(&site.file).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(loaded.settings.model.is_none());
    site.edit("engine = \"gpu\"\n", "engine = \"gpu\"\nfallback = \"local\"\n");
    let words = config::load(&site.file).expect_err("a model is needed").to_string();
    assert!(words.contains("station \"demo\" needs a model"), "{words}");
    std::fs::write(&site.file, &without).expect("written");
    let words = config::load(&site.file).expect_err("no model and no engine").to_string();
    assert!(words.contains("`path` is missing in [model]"), "{words}");
}

#[test]
fn answers_without_probabilities_are_accepted_only_where_that_is_written() {
    let rules = |text: &str| {
        let site = Site::new(Path::new("/nowhere/line.mkv"), None);
        site.edit("[rules]\n", &format!("[rules]\n{text}"));
        let loaded = config::load(&site.file).unwrap_or_else(|problems| panic!("{problems}"));
        (loaded.stations[0].rules.accepts_unrated, loaded.warnings.to_string())
    };
    assert!(!rules("confidence_min = 0.8\n").0);
    assert!(rules("confidence_min = 0.8\naccept_without_confidence = true\n").0);
    let (_, warnings) = rules("accept_without_confidence = true\n");
    assert!(warnings.contains("without `confidence_min`"), "{warnings}");
}
