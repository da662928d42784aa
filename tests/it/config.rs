//! Configuration: bad files and the exact words for them, good files and what comes of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use inspectd::camera::{self, Source};
use inspectd::config::{self, Level, Loaded, Precision, Severity};
use inspectd::credential;
use inspectd::quality::{Reference, SavedReferences};
use inspectd::remote::Address;
use inspectd::roi::RectPx;
use inspectd::sparkplug::SparkplugOptions;
use inspectd::station::Task;
use inspectd::store::sign::SignKey;
use inspectd::trigger::{Options, Way};
use inspectd::upstream::UpstreamOptions;
use inspectd::verdict::DefectRule;
use inspectd::vlm::{CacheWish, DeviceWish};
use inspectd::{plc, publish, trigger};
use proptest::prelude::*;

/// A main file with nothing to remark on.
const MAIN: &str = "[device]\nname = \"box\"\n\n[model]\npath = \".\"\n";

/// A station with nothing to remark on.
const STATION: &str = "\
name = \"demo\"

[camera]
uri = \"file:demo.mkv\"

[trigger]
kind = \"presence\"

[[region]]
name = \"plate\"
pixels = [152, 72, 336, 336]

[[question]]
name = \"serial\"
region = \"plate\"
task = \"serial\"
template = \"#{8}\"
";

/// What a station that looks for defects has at its end.
const DEFECTS: &str = "
[[question]]
name = \"defects\"
region = \"plate\"
task = \"defects\"
classes = [\"scratch\", \"dent\"]
";

/// A configuration in a folder of its own.
struct Files {
    dir: tempfile::TempDir,
}

impl Files {
    fn new(main: impl AsRef<[u8]>, stations: &[(&str, &[u8])]) -> Files {
        let dir = tempfile::tempdir().expect("a temporary folder");
        fs::write(dir.path().join("inspectd.toml"), main).expect("written");
        fs::create_dir(dir.path().join("stations")).expect("made");
        for (name, text) in stations {
            fs::write(dir.path().join("stations").join(name), text).expect("written");
        }
        Files { dir }
    }

    fn main(&self) -> PathBuf {
        self.dir.path().join("inspectd.toml")
    }

    fn load(&self) -> Result<Loaded, config::Problems> {
        config::load(&self.main())
    }

    /// The problems in words, with paths as seen from the folder.
    fn words(&self) -> String {
        let problems = self.load().expect_err("this configuration is bad");
        problems.to_string().replace(&format!("{}/", self.dir.path().display()), "")
    }
}

fn good(station: &str) -> Loaded {
    let files = Files::new(MAIN, &[("demo.toml", station.as_bytes())]);
    files.load().unwrap_or_else(|problems| panic!("{problems}"))
}

fn station_words(station: &str) -> String {
    Files::new(MAIN, &[("demo.toml", station.as_bytes())]).words()
}

/// The good station with `from`, which must be there, replaced by `to`.
fn changed(from: &str, to: &str) -> String {
    let text = format!("{STATION}{DEFECTS}");
    assert!(text.contains(from), "\"{from}\" is not in the station");
    text.replacen(from, to, 1)
}

/// Compares with `tests/golden/config/NAME.txt`; UPDATE_GOLDEN=1 rewrites that instead.
#[track_caller]
pub(crate) fn assert_golden(name: &str, words: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/config");
    let path = folder.join(format!("{name}.txt"));
    let words = format!("{}\n", words.trim_end());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(&folder).expect("made");
        fs::write(&path, words).expect("written");
        return;
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(words == expected, "{} says\n{expected}\nand the program\n{words}", path.display());
}

/// The words for the good station with `from` replaced by `to`.
#[track_caller]
fn assert_words(name: &str, from: &str, to: &str) {
    assert_golden(name, &station_words(&changed(from, to)));
}

/// The words for a main file.
#[track_caller]
fn assert_main_words(name: &str, main: &str) {
    assert_golden(name, &Files::new(main, &[("demo.toml", STATION.as_bytes())]).words());
}

#[test]
fn an_unknown_key_is_an_error_with_a_suggestion() {
    let text = "task = \"serial\"\ntemprature = 0.2";
    assert_words("unknown_key", "task = \"serial\"", text);
}

#[test]
fn a_wrong_type_says_what_it_is_and_what_it_must_be() {
    assert_words("wrong_type", "name = \"demo\"", "name = \"demo\"\ndeadline_ms = \"5 s\"");
}

#[test]
fn a_number_out_of_range_names_the_range() {
    assert_words("out_of_range", "name = \"demo\"", "name = \"demo\"\ndeadline_ms = 5");
}

#[test]
fn a_missing_key_is_shown_at_its_table() {
    assert_words("missing_key", "kind = \"presence\"\n", "");
}

#[test]
fn a_camera_needs_exactly_one_source() {
    assert_words("camera_without_source", "uri = \"file:demo.mkv\"\n", "");
    let two = "uri = \"file:demo.mkv\"\ndevice = \"/dev/video0\"";
    assert_words("camera_with_two_sources", "uri = \"file:demo.mkv\"", two);
}

#[test]
fn an_address_of_another_kind_is_refused() {
    assert_words("camera_address", "file:demo.mkv", "http://10.0.0.20/");
}

#[test]
fn a_key_for_another_kind_of_camera_is_refused() {
    assert_words("camera_key", "[camera]\n", "[camera]\nwidth_px = 640\n");
}

/// The camera of a station with these lines below `[camera]`.
fn camera_of(lines: &str) -> camera::Options {
    let source = STATION.lines().find(|line| line.starts_with("uri")).expect("it has footage");
    let files = Files::new(MAIN, &[("demo.toml", changed(source, lines).as_bytes())]);
    let loaded = files.load().unwrap_or_else(|problems| panic!("{problems}"));
    loaded.stations.into_iter().next().expect("one station").camera
}

#[test]
fn a_genicam_camera_that_waits_for_a_line_is_not_silent() {
    let lines = "genicam = \"any\"\npixel_format = \"RGB8\"\n[camera.controls]\nexposure_us = 2000\n\
                 gain_auto = true\nwhite_balance_auto = false\n";
    let free = camera_of(lines);
    assert_eq!(free.source, Source::Genicam { name: None, pixels: camera::Pixels::Rgb8 });
    let controls = &free.controls;
    assert_eq!(controls.exposure_us, Some(camera::Setting::Fixed(2000.0)));
    assert_eq!(controls.gain, Some(camera::Setting::Auto));
    assert_eq!(controls.white_balance_k, Some(camera::Setting::Hold));
    assert!(free.silence_limit.is_some());
    let waiting = camera_of(&format!("{lines}trigger = \"Line0\"\n"));
    let line = camera::HardwareTrigger::Line("Line0".to_owned());
    assert_eq!((waiting.controls.trigger, waiting.silence_limit), (Some(line), None));
}

#[test]
fn keys_of_cameras_that_contradict_each_other_are_refused() {
    let words = |lines: &str| {
        let source = STATION.lines().find(|line| line.starts_with("uri")).expect("footage");
        station_words(&changed(source, lines))
    };
    assert_golden(
        "camera_controls",
        &words(
            "device = \"/dev/video0\"\n[camera.controls]\ngain = 2\ngain_auto = true\ntrigger = \"Line 0\"",
        ),
    );
    assert_golden(
        "camera_controls_of_rtsp",
        &words("uri = \"rtsp://10.0.0.5/a\"\n[camera.controls]\ngain = 2"),
    );
    let twice = "uri = \"rtsp://u:p@10.0.0.5/a\"\ncredentials_file = \"a\"\ncredentials = \"b\"";
    assert_golden("camera_credentials", &words(twice));
}

#[test]
fn a_key_below_the_wrong_header_is_told_where_it_belongs() {
    assert_words("key_below_wrong_header", "[camera]\n", "[camera]\ndeadline_ms = 5000\n");
}

#[test]
fn two_regions_of_one_name_are_shown_together() {
    let twin = "[[region]]\nname = \"plate\"\n\n[[question]]\nname = \"serial\"";
    assert_words("two_regions", "[[question]]\nname = \"serial\"", twin);
}

#[test]
fn a_sliver_is_refused_with_the_least_side() {
    assert_words("sliver", "336, 336]", "336, 13]");
}

#[test]
fn shares_outside_of_the_frame_are_refused() {
    assert_words(
        "past_the_frame",
        "pixels = [152, 72, 336, 336]",
        "fraction = [0.5, 0.0, 0.6, 1.0]",
    );
    assert_words(
        "share_above_1",
        "pixels = [152, 72, 336, 336]",
        "fraction = [0.5, 0.0, 1.5, 1.0]",
    );
}

#[test]
fn an_unknown_region_is_an_error_with_a_suggestion() {
    assert_words("unknown_region", "region = \"plate\"", "region = \"palte\"");
}

/// A station with a picture quality gate, a region with limits of its own, and a fixed area.
fn gated(reference: &str) -> String {
    let quality = format!(
        "[quality]\n{reference}focus_share_min = 0.6\nmotion_max_px = 4\nshift_max_px = 2.5\n\
         [[quality.fixed]]\nname = \"guide\"\npixels = [0, 0, 64, 64]\n"
    );
    changed("336]\n", "336]\nquality = { glare_share_max = 0.02 }\n") + &quality
}

#[test]
fn a_picture_quality_gate_is_read_with_what_a_region_changes() {
    let station = good(&gated("")).stations.remove(0);
    let gate = &station.quality;
    assert_eq!((gate.limits.focus_share_min, gate.limits.glare_share_max), (0.6, 1.0));
    let own = &gate.own_limits["plate"];
    assert_eq!((own.focus_share_min, own.glare_share_max, own.motion_max_px), (0.6, 0.02, 4.0));
    assert_eq!(
        (gate.fixed_limits.shift_max_px, gate.fixed[0].region.name.as_str()),
        (2.5, "guide")
    );
    let warned = good(&gated("")).warnings.to_string();
    assert!(warned.contains("\"guide\" is compared with nothing"), "{warned}");
    let plain = good(STATION).stations.remove(0).quality;
    assert_eq!(plain, inspectd::quality::Gate::default());
}

#[test]
fn a_misspelt_quality_gate_is_shown_with_what_is_known() {
    let bad = "[quality]\nfocus_min = 0.6\nglare_share_max = 2\nluma_min = 200\nluma_max = 100\n\
               [[quality.fixed]]\nname = \"guide\"\npixels = [0, 0, 20, 64]\n\
               [[quality.fixed]]\nname = \"guide\"\n";
    let station = changed("336]\n", "336]\nquality = { glare = 0.02 }\n") + bad;
    assert_golden("quality_misspelt", &station_words(&station));
}

/// Writes a calibration file with references of a picture's regions beside the main file.
fn calibrate(files: &Files, regions: &[(&str, [u32; 4])], fixed: &[(&str, [u32; 4])]) {
    let frame = inspectd::simulate::Belt::new(5, 1, 300.0).expect("a belt").frame(60);
    let save = |(name, [x, y, width, height]): &(&str, [u32; 4])| {
        let rect = RectPx { x: *x, y: *y, width: *width, height: *height };
        let reference = Reference::of_rect(&frame, rect);
        let (picture, file) = (reference.picture.to_rgb(), format!("{name}.png"));
        let path = files.dir.path().join(&file);
        let png = image::RgbImage::from_raw(picture.width, picture.height, picture.data);
        png.expect("its size").save(&path).expect("written");
        let digest = inspectd::vlm::Digest::of(&fs::read(path).expect("readable"));
        reference.saved(name, &file, &digest.to_string())
    };
    let saved = SavedReferences {
        region: regions.iter().map(save).collect(),
        fixed: fixed.iter().map(save).collect(),
    };
    let mut text = toml::Table::new();
    text.insert("quality".into(), toml::Value::try_from(&saved).expect("a table"));
    text.insert("measured".into(), "2026-11-21".into());
    fs::write(files.dir.path().join("calibration.toml"), text.to_string()).expect("written");
}

const PLATE: (&str, [u32; 4]) = ("plate", [152, 72, 336, 336]);
const GUIDE: (&str, [u32; 4]) = ("guide", [0, 0, 64, 64]);

#[test]
fn references_are_read_proven_and_part_of_the_digest() {
    let text = gated("reference = \"../calibration.toml\"\n");
    let files = Files::new(MAIN, &[("demo.toml", text.as_bytes())]);
    calibrate(&files, &[PLATE], &[GUIDE]);
    let loaded = files.load().unwrap_or_else(|problems| panic!("{problems}"));
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    let station = &loaded.stations[0];
    assert_eq!(station.quality.references["plate"].frame_px.width, 336);
    assert!(station.quality.fixed[0].reference.is_some());
    let calibration = fs::read_to_string(files.dir.path().join("calibration.toml")).expect("there");
    let joined = inspectd::vlm::Digest::of(format!("{calibration}{text}{MAIN}").as_bytes());
    assert_eq!(station.config_digest, joined.to_string());

    fs::copy(files.dir.path().join("guide.png"), files.dir.path().join("plate.png")).expect("done");
    assert_golden("quality_other_picture", &files.words());
    calibrate(&files, &[("plate", [150, 72, 336, 336])], &[GUIDE]);
    assert_golden("quality_other_place", &files.words());
    calibrate(&files, &[GUIDE], &[]);
    let words = files.load().expect("warnings alone").warnings.to_string();
    assert!(words.contains("no reference of region \"plate\""), "{words}");
    fs::remove_file(files.dir.path().join("calibration.toml")).expect("it was there");
    assert_golden("quality_no_calibration", &files.words());
}

#[test]
fn a_control_tag_in_a_text_is_refused() {
    let text = "task = \"serial\"\nprompt = \"Read it.<|end|>\"";
    assert_words("control_tag", "task = \"serial\"", text);
}

#[test]
fn the_number_of_pictures_in_a_prompt_must_be_that_of_the_regions() {
    let text = "task = \"serial\"\nprompt = \"<image> and <image>?\"";
    assert_words("picture_count", "task = \"serial\"", text);
}

#[test]
fn a_name_must_fit_a_topic() {
    assert_words("name", "name = \"demo\"", "name = \"line/3 +\"");
}

#[test]
fn a_bad_template_names_the_character() {
    assert_words("template", "#{8}", "#{8");
}

#[test]
fn a_check_digit_must_suit_the_alphabet() {
    assert_words(
        "check_digit",
        "template = \"#{8}\"",
        "template = \"9{7}A\"\ncheck_digit = \"luhn\"",
    );
}

#[test]
fn a_check_digit_of_one_s_own_is_read_and_its_blindness_told() {
    let own = |keys: &str| {
        changed(
            "template = \"#{8}\"",
            &format!("template = \"9{{8}}\"\nalphabet = \"0123456789\"\n{keys}"),
        )
    };
    let holds = |keys: &str, serial: &str| {
        let loaded = good(&own(&format!("check_digit = {keys}")));
        assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
        let rule = loaded.stations.into_iter().next().and_then(|station| station.rules.serial);
        rule.and_then(|rule| rule.check_digit).expect("a check digit").holds(serial)
    };
    assert!(holds("\"gs1\"", "96385074"), "a GTIN-8");
    assert!(holds("{ weights = [3, 1] }", "96385074"));
    assert!(!holds("{ weights = [3, 1] }", "96385075"));
    assert!(holds("{ weights = [2, 1], add_digits = true }", "79927398"), "Luhn, spelt out");
    assert!(holds("{ scheme = \"luhn\" }", "79927398"));
    let files =
        Files::new(MAIN, &[("demo.toml", own("check_digit = { weights = [5] }").as_bytes())]);
    let words = files.load().expect("a warning").warnings.to_string();
    assert!(words.contains("does not always tell '0' from '2'"), "{words}");
}

#[test]
fn a_check_digit_that_cannot_be_is_refused() {
    let from = "template = \"#{8}\"";
    let with = |keys: &str| format!("{from}\ncheck_digit = {keys}");
    assert_words("check_digit_name", from, &with("\"mod12\""));
    assert_words("check_digit_weights", from, &with("{ modulus = 10 }"));
    assert_words("check_digit_characters", from, &with("{ weights = [2, 3], modulus = 11 }"));
    assert_words(
        "check_digit_values",
        from,
        &with("{ weights = [1], values = [\"0\", \"10\"], characters = \"0\" }"),
    );
}

#[test]
fn rules_for_serials_that_contradict_each_other_are_refused() {
    let rule = |keys: &str| format!("\"dent\"]\n[rules.serial]\n{keys}");
    let words = |name: &str, keys: &str| assert_words(name, "\"dent\"]", &rule(keys));
    words("serial_confusion_twice", "confusions = [\"0O\", \"OQ\"]");
    words("serial_confusion_foreign", "confusions = [\"0o\"]");
    words("serial_accept_nothing", "accept_repairs = true");
    words("serial_accept_guesses", "confusions = [\"0O\"]\naccept_repairs = true");
    words("serial_window", "unique_within = \"a month\"");
    words("serial_idle", "duplicate = \"fail\"\nunexpected = \"fail\"\nexpected_once = true");
    words("serial_list_absent", "expected = \"serials.txt\"");
    words("serial_key", "uniqe_within = \"30d\"");
    let fields = "task = \"fields\"\n[[question.field]]\nname = \"a\"\nkind = \"bool\"\n";
    let text = changed("task = \"serial\"\ntemplate = \"#{8}\"\n", fields);
    assert_golden("serial_unasked", &station_words(&format!("{text}[rules.serial]\n")));
}

#[test]
fn a_list_of_serials_is_read_and_its_bad_lines_are_named() {
    let text = changed(
        "\"dent\"]",
        "\"dent\"]\n[rules.serial]\nexpected = \"serials.txt\"\nconfusions = [\"0O\"]",
    );
    let files = Files::new(MAIN, &[("demo.toml", text.as_bytes())]);
    let list = files.dir.path().join("stations/serials.txt");
    fs::write(&list, "A7K2M9PX\nshort\n# a comment\nA7K2M9P\n").expect("written");
    assert_golden("serial_list", &files.words());
    fs::write(&list, "A7K2M90X\nA7K2M9OX\n").expect("written");
    let loaded = files.load().unwrap_or_else(|problems| panic!("{problems}"));
    let words = loaded.warnings.to_string();
    assert!(words.contains("A7K2M90X and A7K2M9OX look alike"), "{words}");
    let rule = loaded.stations[0].rules.serial.as_ref().and_then(|rule| rule.expected.as_ref());
    assert_eq!(rule.map(|rule| rule.list.len()), Some(2));
}

#[test]
fn a_token_limit_below_the_longest_answer_is_refused() {
    assert_words("max_tokens", "task = \"serial\"", "task = \"serial\"\nmax_tokens = 3");
}

#[test]
fn a_rule_about_a_defect_that_nobody_asks_for_is_refused() {
    let rule = "\"dent\"]\n[[rules.defect]]\nclass = \"scrach\"\nfail = [\"minor\"]";
    assert_words("rule_unasked", "\"dent\"]", rule);
}

#[test]
fn a_rule_that_decides_twice_shows_both_places() {
    let rule = "\"dent\"]\n[[rules.defect]]\nclass = \"dent\"\n\
                fail = [\"minor\", \"major\"]\npass = [\"minor\"]";
    assert_words("rule_twice", "\"dent\"]", rule);
}

#[test]
fn one_bracket_where_two_belong_is_explained() {
    assert_words("one_bracket", "[[region]]", "[region]");
}

#[test]
fn the_main_file_is_checked_key_by_key() {
    assert_main_words("main_device_name", &MAIN.replace("box", "box 1"));
    assert_main_words("main_device", &MAIN.replace("[model]\n", "[model]\ndevice = \"gpu\"\n"));
    assert_main_words("main_log_level", &format!("{MAIN}[log]\nlevel = \"verbose\"\n"));
    assert_main_words("main_broker_host", &format!("{MAIN}[broker]\nhost = \"mqtt://10.0.0.5\"\n"));
    assert_main_words("main_broker_prefix", &format!("{MAIN}[broker]\nprefix = \"a//b\"\n"));
    assert_main_words("main_unknown_table", &format!("{MAIN}[databse]\npath = \"x.db\"\n"));
}

#[test]
fn a_password_file_that_is_not_there_is_an_error() {
    let broker = "[broker]\nhost = \"h\"\nusername = \"u\"\npassword_file = \"secret\"\n";
    assert_main_words("main_password_file", &format!("{MAIN}{broker}"));
}

#[test]
fn every_problem_of_every_file_is_reported_at_once() {
    let main = "[device]\nnme = \"box\"\n\n[model]\npath = \".\"\nthreads = 0\n";
    let syntax = "name = \"a\"\n[camera\nuri = 3\n";
    let many = changed("#{8}", "[").replace("336, 336]", "0, 336]").replace("presence", "presense");
    let twin = STATION.replace("\"file:demo.mkv\"", "7");
    let files = Files::new(
        main,
        &[
            ("a.toml", syntax.as_bytes()),
            ("b.toml", many.as_bytes()),
            ("c.toml", twin.as_bytes()),
            ("d.toml", b"name = \"\xff\""),
            ("e.toml.example", b"not read"),
            (".f.toml", b"not read"),
        ],
    );
    assert_golden("everything_at_once", &files.words());
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let absent = dir.path().join("inspectd.toml");
    let words = config::load(&absent).expect_err("absent").to_string();
    assert!(words.contains("cannot read") && words.contains("--config"), "{words}");
    let words = config::load(dir.path()).expect_err("a folder").to_string();
    assert!(words.contains("it is not a file"), "{words}");
    fs::write(&absent, MAIN).expect("written");
    let words = config::load(&absent).expect_err("no stations").to_string();
    assert!(words.contains("cannot read the folder"), "{words}");
    let words = Files::new(MAIN, &[]).words();
    assert!(words.contains("no station") && words.contains(".toml.example"), "{words}");
    let huge = vec![b'#'; config::FILE_MAX_BYTES as usize + 1];
    let words = Files::new(MAIN, &[("big.toml", &huge)]).words();
    assert!(words.contains("big.toml is larger than 1048576 bytes"), "{words}");
}

#[test]
fn two_stations_of_one_name_are_shown_together() {
    let station = STATION.as_bytes();
    let words = Files::new(MAIN, &[("a.toml", station), ("b.toml", station)]).words();
    assert_golden("two_stations", &words);
}

/// The file may be for another machine than the one that checks it.
#[cfg(not(feature = "cuda"))]
#[test]
fn a_gpu_that_this_program_cannot_use_is_a_warning() {
    let main = MAIN.replace("[model]", "[model]\ndevice = \"cuda:1\"\nprecision = \"bf16\"");
    let files = Files::new(main, &[("demo.toml", STATION.as_bytes())]);
    let loaded = files.load().unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(loaded.settings.model.device, DeviceWish::Cuda(1));
    assert_eq!(loaded.settings.model.precision, Precision::Bf16);
    assert!(
        loaded.warnings.to_string().contains("this program has no CUDA"),
        "{}",
        loaded.warnings
    );
}

#[test]
fn a_cache_that_does_not_exist_or_does_not_fit_is_refused() {
    let words = |keys: &str| {
        let main = MAIN.replace("[model]", &format!("[model]\n{keys}"));
        Files::new(main, &[("demo.toml", STATION.as_bytes())]).words()
    };
    let known = words("cache = \"q8\"");
    assert!(known.contains("`cache` cannot be \"q8\""), "{known}");
    assert!(known.contains("\"auto\", \"f32\", \"f16\", \"compact\""), "{known}");
    let near = words("cache = \"compakt\"");
    assert!(near.contains("did you mean \"compact\"?"), "{near}");
    let short = words("cache = \"compact\"\nprecision = \"f16\"");
    assert!(short.contains("needs numbers in f32"), "{short}");
    let main = MAIN.replace("[model]", "[model]\ncache = \"compact\"");
    let files = Files::new(main, &[("demo.toml", STATION.as_bytes())]);
    let loaded = files.load().unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(loaded.settings.model.cache, CacheWish::Compact);
}

#[test]
fn defaults_are_filled_in_and_paths_resolved() {
    let files = Files::new(MAIN, &[("demo.toml", STATION.as_bytes())]);
    let loaded = files.load().unwrap_or_else(|problems| panic!("{problems}"));
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    let settings = &loaded.settings;
    assert_eq!(settings.device, "box");
    assert_eq!(settings.model.path, files.dir.path().join("."));
    assert_eq!(settings.model.precision, Precision::Auto);
    assert_eq!(settings.model.cache, CacheWish::Auto);
    assert_eq!(settings.model.device, DeviceWish::Auto);
    assert_eq!(settings.store.path, Path::new("/var/lib/inspectd/inspectd.db"));
    assert_eq!(settings.log.level, Level::Info);
    assert!(settings.broker.is_none());
    let station = &loaded.stations[0];
    let footage = format!("file://{}/stations/demo.mkv", files.dir.path().display());
    assert_eq!(station.camera.source, Source::Uri(footage));
    assert_eq!((station.name.as_str(), station.recipe.as_str()), ("demo", "demo"));
    assert_eq!(station.deadline, Duration::from_secs(10));
    assert!(matches!(station.trigger, trigger::Options::Presence(_)));
    let question = &station.questions[0];
    assert_eq!(question.text, "Read the serial number on the label. Answer in JSON.");
    assert!(question.system.starts_with("You are a precise visual analyst."));
    assert_eq!((question.num_crops, question.sampling.temperature), (1, 0.0));
    assert!(station.rules.serial.is_some() && !station.rules.defects_required);
}

#[test]
fn without_rules_every_listed_defect_fails_and_the_unclear_goes_to_review() {
    let loaded = good(&format!("{STATION}{DEFECTS}"));
    let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let rule = |class: &str| DefectRule {
        class: class.to_owned(),
        fail: words(&["minor", "major"]),
        review: words(&["unclear"]),
        pass: vec![],
    };
    let rules = &loaded.stations[0].rules;
    assert_eq!(rules.defects, [rule("scratch"), rule("dent")]);
    assert!(rules.defects_required);
}

#[test]
fn a_class_without_its_own_rule_keeps_the_strict_one() {
    let text =
        format!("{STATION}{DEFECTS}[[rules.defect]]\nclass = \"dent\"\npass = [\"minor\"]\n");
    let loaded = good(&text);
    let rules = &loaded.stations[0].rules.defects;
    assert_eq!(rules[0].pass, ["minor"]);
    assert_eq!((rules[1].class.as_str(), rules[1].fail.len()), ("scratch", 2));
    let warning = loaded.warnings.iter().next().expect("major is not decided");
    assert_eq!(warning.severity(), Severity::Warning);
    assert!(warning.title().contains("does not decide on \"major\""), "{}", warning.title());
}

#[test]
fn the_digest_is_that_of_the_two_files_joined() {
    let loaded = good(STATION);
    let joined = inspectd::vlm::Digest::of(format!("{STATION}{MAIN}").as_bytes());
    assert_eq!(loaded.stations[0].config_digest, joined.to_string());
}

#[test]
fn a_token_limit_that_nobody_wrote_suits_the_answer() {
    let classes = "classes = [\"scratch\", \"dent\"]\nmax_count = 32\npreset = \"ocr\"";
    let text = changed("classes = [\"scratch\", \"dent\"]", classes);
    let loaded = good(&text);
    let question = &loaded.stations[0].questions[1];
    let needed = question.task.answer().expect("it was checked").budget_tokens();
    assert!(needed > 500 && question.sampling.max_tokens == needed, "{needed}");
}

/// The folder of the examples.
fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config")
}

/// Lines that begin with `#key =` or `#[` without their `#`.
fn uncommented(text: &str) -> String {
    let is_key = |rest: &str| {
        rest.starts_with('[') || rest.chars().next().is_some_and(|c| c.is_ascii_lowercase())
    };
    let line = |line: &str| match line.strip_prefix('#') {
        Some(rest) if is_key(rest) => rest.to_owned(),
        _ => line.to_owned(),
    };
    text.lines().map(|text| line(text) + "\n").collect()
}

/// The main file with a broker: a contract with a controller needs one.
fn with_broker() -> String {
    format!("{MAIN}[broker]\nhost = \"10.0.0.5\"\n")
}

#[test]
fn a_contract_needs_a_broker_and_a_ring_needs_triggers_that_can_be_refused() {
    let command = changed("kind = \"presence\"", "kind = \"command\"");
    assert_golden("command_without_broker", &station_words(&command));
    let contract = format!("{STATION}[plc]\nacknowledge = true\nring = 7\n");
    assert_golden("ring_without_command", &station_words(&contract));
    let twice = "[plc]\n[[plc.recipe]]\nindex = 1\nfile = \"../a.toml\"\n[[plc.recipe]]\nfile = \"../b.toml\"\n";
    let files = Files::new(with_broker(), &[("demo.toml", format!("{STATION}{twice}").as_bytes())]);
    fs::write(files.dir.path().join("a.toml"), "[camera]\nuri = \"file:x\"\n").expect("written");
    assert_golden("recipes", &files.words());
}

#[test]
fn a_recipe_has_its_own_questions_and_digest() {
    let recipe = "[plc]\n[[plc.recipe]]\nindex = 2\nfile = \"../cover.toml\"\n";
    let files =
        Files::new(with_broker(), &[("demo.toml", format!("{STATION}{recipe}").as_bytes())]);
    let cover =
        format!("recipe = \"cover\"\n{}", &STATION[STATION.find("[[region]]").expect("one")..]);
    fs::write(files.dir.path().join("cover.toml"), cover + DEFECTS).expect("written");
    let station = files.load().unwrap_or_else(|problems| panic!("{problems}")).stations.remove(0);
    let recipes: Vec<_> = station.recipes().collect();
    let told: Vec<_> = recipes
        .iter()
        .map(|one| (one.recipe_index, one.recipe.as_str(), one.questions.len()))
        .collect();
    assert_eq!(told, [(1, "demo", 1), (2, "cover", 2)]);
    assert_ne!(recipes[0].config_digest, recipes[1].config_digest);
    assert_eq!(recipes[0].camera, recipes[1].camera);
}

#[test]
fn an_edge_node_needs_a_broker_and_ids() {
    let broker = "[broker]\nhost = \"10.0.0.5\"\n";
    let main = format!("{MAIN}\n[sparkplug]\ngroup_id = \"a/b\"\nedge_node = \"x\"\n");
    assert_main_words("sparkplug_without_broker", &main);
    let main = format!("{MAIN}\n{broker}\n[sparkplug]\nprimary_host_id = \"scada#1\"\n");
    assert_main_words("sparkplug_without_group", &main);
    let files = Files::new(
        format!("{MAIN}\n{broker}\n[sparkplug]\ngroup_id = \"Plant 1\"\nheartbeat_s = 0\n"),
        &[("demo.toml", STATION.as_bytes())],
    );
    let edge = files.load().unwrap_or_else(|why| panic!("{why}")).settings.sparkplug;
    let edge = edge.expect("the table is there");
    assert_eq!((edge.edge_node_id.as_str(), edge.heartbeat), ("box", None));
    assert_eq!(edge.stations, ["demo"]);
    assert_eq!(edge.client_id, "inspectd-box-sparkplug");
}

#[test]
fn a_copy_upstream_is_encrypted_unless_the_server_is_here() {
    let main = |table: &str| format!("{MAIN}\n[postgres]\n{table}");
    let bad = "password_file = \"none\"\npassword_credential = \"x\"\nschema = \"Plant 3\"\n\
               databse = \"log\"\nbackoff_min_ms = 60000\nbackoff_max_ms = 1000\nbatch_records = 0\n";
    assert_main_words("postgres_without_host", &main(bad));
    let bad = "host = \"postgres://db.plant:5432\"\ntls = false\nca_file = \"ca.pem\"\n";
    assert_main_words("postgres_address", &main(bad));
    let bad = "host = \"db.plant\"\nca_file = \"inspectd.toml\"\n";
    assert_main_words("postgres_authority", &main(bad));
    let bad = "host = \"db.plant\"\nclient_cert = \"a.pem\"\n";
    assert_main_words("postgres_half_a_pair", &main(bad));
    let bad = "host = \"/run/postgresql\"\ntls = true\npassword_credential = \"../x\"\n";
    assert_main_words("postgres_socket", &main(bad));

    let load = |table: &str| {
        let files = Files::new(main(table), &[("demo.toml", STATION.as_bytes())]);
        let loaded = files.load().unwrap_or_else(|problems| panic!("{problems}"));
        (loaded.settings.postgres.expect("the table is there"), loaded.warnings.to_string())
    };
    let (copy, warnings) = load("host = \"127.0.0.1\"\npassword_credential = \"pg\"\n");
    assert!(copy.tls.is_none() && warnings.is_empty(), "{warnings}");
    assert_eq!(copy.password, Some(credential::Source::Systemd("pg".into())));
    assert_eq!(copy.device, "box");
    let (copy, warnings) = load("host = \"10.0.0.5\"\nuser = \"line\"\n");
    assert!(copy.tls.is_some() && warnings.is_empty(), "{warnings}");
    let (copy, warnings) = load("host = \"10.0.0.5\"\ntls = false\n");
    assert!(copy.tls.is_none() && warnings.contains("unencrypted"), "{warnings}");
    assert!(good(STATION).settings.postgres.is_none());
}

#[test]
fn hard_outputs_are_read_and_must_not_meet() {
    let gpio = "[gpio]\nchip = \"/dev/gpiochip0\"\npass_line = 17\nhold_ms = 500\n";
    let one = format!("{STATION}[modbus]\nbase = 300\n{gpio}alive_line = 27\n");
    let modbus = "\n[modbus]\nlisten = \"0.0.0.0:502\"\nunit_id = 17\n";
    let files = Files::new(format!("{MAIN}{modbus}"), &[("demo.toml", one.as_bytes())]);
    let loaded = files.load().unwrap_or_else(|problems| panic!("{problems}"));
    let served = loaded.settings.modbus.expect("the table is there");
    assert_eq!((served.listen.to_string(), served.unit_id), ("0.0.0.0:502".to_owned(), 17));
    let outputs = &loaded.stations[0].outputs;
    let line = outputs.gpio.as_ref().expect("a line");
    assert_eq!((outputs.modbus_base, line.pass_line, line.alive_line), (Some(300), 17, Some(27)));
    assert_eq!((line.hold, line.active_low), (Duration::from_millis(500), false));
    assert!(good(STATION).settings.modbus.is_none() && !good(STATION).stations[0].outputs.is_any());

    let other = one.replace("\"demo\"", "\"other\"").replace("300", "419");
    let stations = [("demo.toml", one.as_bytes()), ("other.toml", other.as_bytes())];
    assert_golden("outputs_that_meet", &Files::new(MAIN, &stations).words());
    let bad = format!("{STATION}[modbus]\n[gpio]\npass_line = 17\nalive_line = 17\nhold_ms = 5\n");
    let main = format!("{MAIN}[modbus]\nlisten = \"line-1\"\nunit_id = 0\n");
    let files = Files::new(main, &[("demo.toml", bad.as_bytes())]);
    assert_golden("outputs_misspelt", &files.words());
    let sampled = one.replacen("[camera]", "inspect_every = 3\n[camera]", 1);
    let files = Files::new(format!("{MAIN}{modbus}"), &[("demo.toml", sampled.as_bytes())]);
    let words = files.load().expect("a warning").warnings.to_string();
    assert!(words.contains("only one part in 3 can pass"), "{words}");
}

#[test]
fn a_photo_eye_has_one_way_to_the_camera_and_lines_of_its_own() {
    let eye = |more: &str| {
        let kind = "kind = \"photo_eye\"\nchip = \"/dev/gpiochip0\"\nline = 17\n";
        changed("kind = \"presence\"", &format!("{kind}{more}"))
    };
    let timed = eye("edge = \"falling\"\ndelay_ms = 850\napart_ms = 30\nburst_frames = 3\n");
    let Options::PhotoEye(options) = good(&timed).stations.remove(0).trigger else {
        panic!("an eye")
    };
    assert!(!options.is_rising && options.burst_frames == 3 && options.parts_max == 64);
    let (delay, apart) = (Duration::from_millis(850), Duration::from_millis(30));
    assert_eq!(options.way, Way::Time { delay, apart });
    let counted = eye("encoder_line = 18\npulses_per_mm = 4\ndistance_mm = 420.5\n");
    let Options::PhotoEye(options) = good(&counted).stations.remove(0).trigger else {
        panic!("an eye")
    };
    let Way::Encoder(encoder) = options.way else { panic!("an encoder") };
    assert_eq!((encoder.line, encoder.mm_per_pulse, encoder.distance_mm), (18, 0.25, 420.5));

    assert_golden("photo_eye_without_way", &station_words(&eye("apart_mm = 5\nedge = \"up\"\n")));
    let both =
        "delay_ms = 1\nencoder_line = 17\nmm_per_pulse = 1\npulses_per_mm = 1\napart_ms = 3\n";
    assert_golden("photo_eye_two_ways", &station_words(&eye(both)));
    let same = "encoder_line = 17\nmm_per_pulse = 1\ndistance_mm = 3\n";
    let gpio = "[gpio]\nchip = \"/dev/gpiochip0\"\npass_line = 17\nhold_ms = 500\n";
    assert_golden("photo_eye_one_line", &station_words(&eye(same)));
    let driven = eye("delay_ms = 1\n") + gpio;
    assert_golden("photo_eye_driven", &station_words(&driven));
}

#[test]
fn each_example_is_good() {
    let loaded = config::load(&examples().join("inspectd.toml"));
    let loaded = loaded.unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(loaded.stations.len(), 1);
    assert!(loaded.stations[0].is_simulated);
    let mut seen = 0;
    for entry in fs::read_dir(examples().join("stations")).expect("readable").flatten() {
        let text = fs::read_to_string(entry.path()).expect("readable");
        for text in [uncommented(&text), text] {
            let files = Files::new(with_broker(), &[("example.toml", text.as_bytes())]);
            let result = files.load();
            let name = entry.file_name();
            let loaded = result.unwrap_or_else(|why| panic!("{}:\n{why}", name.display()));
            seen += loaded.stations.len();
        }
    }
    assert!(seen >= 12, "{seen} examples");
    let adapted = config::load(&examples().join("adapted/inspectd.toml"));
    let adapted = adapted.unwrap_or_else(|problems| panic!("{problems}"));
    let adapters = adapted.stations[0].questions.iter().map(|asked| asked.adapter.as_ref());
    let [None, Some(rust)] = adapters.collect::<Vec<_>>()[..] else { panic!("one adapter") };
    rust.check_fit(&adapted.settings.model.path).expect("it fits the built-in model");
}

#[test]
fn the_manual_of_the_main_file_tells_the_defaults() {
    let text = fs::read_to_string(examples().join("inspectd.toml")).expect("readable");
    let files = Files::new(uncommented(&text), &[("demo.toml", STATION.as_bytes())]);
    fs::write(files.dir.path().join("broker.password"), "secret\n").expect("written");
    fs::write(files.dir.path().join("postgres.password"), "secret\n").expect("written");
    SignKey::create(&files.dir.path().join("device.key")).expect("made");
    let shown = files.load().unwrap_or_else(|problems| panic!("{problems}"));
    let mut broker = shown.settings.broker.expect("the manual has a broker");
    assert_eq!(broker.username.take().as_deref(), Some("line-1"));
    assert!(broker.password_file.take().is_some_and(|path| path.ends_with("broker.password")));
    let stations = ["demo".to_owned()];
    let default = publish::PublishOptions::new("192.168.1.20", 1883, "line-1", &stations);
    assert_eq!(format!("{broker:?}"), format!("{default:?}"));
    let edge = shown.settings.sparkplug.expect("the manual has an edge node");
    let database = &shown.settings.store.path;
    let default = SparkplugOptions::new("Plant 1", "line-1", &stations, database);
    assert_eq!(SparkplugOptions { primary_host_id: None, ..edge }, default);
    let traces = shown.settings.traces.expect("the manual has a collector");
    let collector = Address::parse("http://collector.plant:4318/v1/traces").expect("an address");
    assert_eq!(traces, inspectd::traces::Options::new(collector));
    let mut copy = shown.settings.postgres.expect("the manual has a copy");
    let password = credential::Source::File(files.dir.path().join("postgres.password"));
    assert_eq!(copy.password.take(), Some(password));
    assert_eq!(copy, UpstreamOptions::new("db.plant", "line-1", database));
    assert_eq!(shown.settings.log, config::Log::default());
    let files = Files::new(&text, &[("demo.toml", STATION.as_bytes())]);
    let plain = files.load().unwrap_or_else(|problems| panic!("{problems}")).settings;
    assert_eq!(shown.settings.store.reserve_bytes, plain.store.reserve_bytes);
    assert!(plain.store.retention.is_off() && !shown.settings.store.retention.is_off());
    let (shown, plain) = (shown.settings.model, plain.model);
    assert_eq!(shown.precision, plain.precision);
    assert_eq!(shown.cache, plain.cache);
    assert_eq!(shown.device, plain.device);
    assert_eq!(shown.long_context, plain.long_context);
    assert_eq!(shown.picture_cache_bytes, plain.picture_cache_bytes);
}

#[test]
fn traces_go_only_where_somebody_wrote_that_they_may() {
    let traces = |text: &str| format!("{MAIN}\n[traces]\n{text}");
    let words = |text: &str| Files::new(traces(text), &[("demo.toml", STATION.as_bytes())]).words();
    let mut all = String::new();
    let there = "endpoint = \"http://127.0.0.1:4318/v1/traces\"\n";
    for bad in [
        "share = 0.5\n",
        "endpoint = \"collector:4318\"\n",
        "endpoint = \"http://collector.plant:4318\"\n",
        "endpoint = \"http://me:secret@collector/v1/traces\"\n",
        &format!("{there}share = 2\nqueue_parts = 0\ntimeout_s = 600\ngive_up_s = 0\nsample = 1\n"),
        &format!("{there}key_file = \"none.key\"\nkey_credential = \"otlp\"\n"),
        &format!("{there}key_header = \"x key\"\nca_file = \"plant-ca.pem\"\n"),
        "endpoint = \"https://collector/v1/traces\"\nca_file = \"none.pem\"\n",
    ] {
        all += &format!("{}\n\n", words(bad).trim_end());
    }
    assert_golden("traces", &all);
    let files = Files::new(MAIN, &[("demo.toml", STATION.as_bytes())]);
    let loaded = files.load().unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(loaded.settings.traces, None, "nothing is sent that nobody asked for");
}

#[test]
fn the_manual_of_a_station_tells_the_defaults() {
    let path = examples().join("stations/manual.toml.example");
    let text = fs::read_to_string(path).expect("readable");
    let load = |text: &str| {
        let files = Files::new(with_broker(), &[("manual.toml", text.as_bytes())]);
        let loaded = files.load().unwrap_or_else(|problems| panic!("{problems}"));
        let mut station = loaded.stations.into_iter().next().expect("one station");
        let Source::Uri(uri) = &mut station.camera.source else { panic!("the manual has footage") };
        uri.clear();
        station.config_digest.clear();
        station
    };
    let (mut shown, plain) = (load(&uncommented(&text)), load(&text));
    assert_eq!(shown.recipe, "plate");
    shown.recipe.clone_from(&plain.recipe);
    assert_eq!(shown.parts_per_minute.take(), Some(12.0));
    assert_eq!(shown.plc.take(), Some(plc::Options::default()));
    assert_eq!(plain.plc, None, "no contract that nobody asked for");
    assert_eq!(shown.questions[0].examples.len(), 1);
    shown.questions[0].examples.clear();
    assert_eq!(format!("{shown:#?}"), format!("{plain:#?}"));
    assert!(matches!(shown.questions[2].task, Task::Fields(_)));
}

#[test]
fn a_check_prints_what_would_run() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    fs::create_dir(dir.path().join("pictures")).expect("made");
    let picture = dir.path().join("pictures/1.png");
    image::RgbImage::new(32, 32).save(picture).expect("written");
    let text = STATION.replace("uri = \"file:demo.mkv\"", "folder = \"../pictures\"");
    fs::create_dir(dir.path().join("stations")).expect("made");
    fs::write(dir.path().join("stations/demo.toml"), text).expect("written");
    fs::write(dir.path().join("inspectd.toml"), MAIN).expect("written");
    let mut out = Vec::new();
    let checked = config::check::run(&dir.path().join("inspectd.toml"), &mut out, false);
    let words = String::from_utf8(out).expect("UTF-8");
    assert_eq!(checked.expect("written").code(), 0, "{words}");
    for part in ["is good", "device     box", "station    demo", "a serial like #{8}", "336x336 px"]
    {
        assert!(words.contains(part), "{part} is not in\n{words}");
    }
}

#[test]
fn a_check_of_a_bad_file_counts_and_ends_with_2() {
    let files = Files::new(MAIN, &[("demo.toml", b"name = 3\n")]);
    let mut out = Vec::new();
    let checked = config::check::run(&files.main(), &mut out, true);
    let words = String::from_utf8(out).expect("UTF-8");
    assert_eq!(checked.expect("written").code(), 2, "{words}");
    assert!(words.contains("\u{1b}[") && words.contains("4 errors"), "{words}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..Default::default() })]

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let files = Files::new(&bytes, &[("x.toml", &bytes)]);
        let _ = files.load().map_err(|problems| problems.render(true));
    }

    #[test]
    fn no_damage_to_a_good_file_makes_it_panic(
        at in 0usize..2000,
        cut in 0usize..40,
        piece in "[\\[\\]{}=\"'#,.\\\\\n a-z0-9<>|é-]{0,12}",
    ) {
        let text = fs::read_to_string(examples().join("stations/manual.toml.example"))
            .expect("readable");
        let mut text: Vec<char> = uncommented(&text).chars().collect();
        let at = at * text.len() / 2000;
        let end = (at + cut).min(text.len());
        text.splice(at..end, piece.chars());
        let text: String = text.into_iter().collect();
        let files = Files::new(MAIN, &[("x.toml", text.as_bytes())]);
        if let Err(problems) = files.load() {
            prop_assert!(problems.iter().any(|problem| !problem.help().is_empty()));
            prop_assert!(problems.to_string().contains("error"));
        }
    }
}

#[test]
fn more_pictures_than_the_publisher_advises_are_a_warning_and_nine_an_error() {
    let regions = |count: usize| -> String {
        let one =
            |k: usize| format!("[[region]]\nname = \"r{k}\"\npixels = [{}, 72, 64, 64]\n", k * 32);
        (0..count).map(one).collect()
    };
    let station = |count: usize, crops: usize| {
        let names: Vec<String> = (0..count).map(|k| format!("\"r{k}\"")).collect();
        let question = format!(
            "[[question]]\nname = \"all\"\nregions = [{}]\ntask = \"serial\"\n\
             template = \"#{{8}}\"\nnum_crops = {crops}\n",
            names.join(", ")
        );
        let head = &STATION[..STATION.find("[[region]]").expect("a region")];
        format!("{head}{}{question}", regions(count))
    };
    assert!(good(&station(4, 4)).warnings.is_empty());
    let files = Files::new(MAIN, &[("demo.toml", station(8, 16).as_bytes())]);
    let words = files.load().expect("only warnings").warnings.to_string();
    assert_golden("many_pictures", &words.replace(&format!("{}/", files.dir.path().display()), ""));
    assert!(station_words(&station(9, 1)).contains("regions"));
}
