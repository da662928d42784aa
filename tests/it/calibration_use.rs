//! A calibration at work: regions that move with the part, records that name it, and the report that
//! says whether the model can see what it is asked about.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use assert_cmd::Command;
use inspectd::calibration::file::png;
use inspectd::clock::{Clock, SystemClock};
use inspectd::config;
use inspectd::frame::{Frame, Rgb8};
use inspectd::inspection::Inspection;
use inspectd::inspector::{Clerk, EvidenceKeeper, Inspector, Model, Part, Reply};
use inspectd::roi::{self, Crop, RectPx};
use inspectd::station::{Question, Station};
use inspectd::verdict::Outcome;

use crate::support::station::Site;

/// Counts what it is asked.
struct Mute<'a>(&'a Mutex<u32>);

impl Model for Mute<'_> {
    fn ask(&mut self, _: &Station, _: &Question, _: &[&Crop], _: Instant) -> Reply {
        *self.0.lock().unwrap() += 1;
        Reply::new("asked", Err("says nothing".into()))
    }
}

/// Keeps what it is given.
#[derive(Default)]
struct Keep(Mutex<Vec<Rgb8>>);

impl EvidenceKeeper for Keep {
    fn keep(&self, picture: &Rgb8) -> Result<String, String> {
        self.0.lock().unwrap().push(picture.clone());
        Ok("ab".repeat(32))
    }
}

/// A part of 640x480 px with a mark, moved; without the mark if `bare`.
fn scene(dx: i32, dy: i32, bare: bool) -> Rgb8 {
    let mut picture = Rgb8::new(640, 480);
    for (at, pixel) in picture.data.chunks_exact_mut(3).enumerate() {
        let (x, y) = ((at % 640) as i32 - dx, (at / 640) as i32 - dy);
        let grain = ((x * 7 + y * 13).rem_euclid(31) + (x / 9 + y / 11).rem_euclid(5) * 6) as u8;
        let (mx, my) = ((x - 90).abs(), (y - 240).abs());
        let is_mark = (mx < 4 && my < 26) || (my < 4 && mx < 26);
        let light = if is_mark && !bare { 210 } else { 60 + grain };
        pixel.copy_from_slice(&[light, light / 2 + 20, 255 - light]);
    }
    picture
}

struct Looked {
    inspection: Inspection,
    pictures: Vec<Rgb8>,
    asked: u32,
}

fn look(station: &Station, picture: Rgb8) -> Looked {
    let now = SystemClock.now();
    let mut part = Part::new(&Arc::new(station.clone()), 1, "1".into(), now);
    let camera = Arc::from("demo");
    part.frame = Some(Arc::new(Frame {
        sequence: 1,
        camera,
        captured: now,
        pipeline_ns: None,
        picture: picture.into(),
    }));
    let clerk = Clerk::new(Arc::new(SystemClock), "box", "model", "program");
    let (asked, keep) = (Mutex::new(0), Keep::default());
    let inspection = Inspector::new(Mute(&asked), clerk).inspect(&part, &keep);
    Looked {
        inspection,
        pictures: keep.0.into_inner().unwrap(),
        asked: asked.into_inner().unwrap(),
    }
}

fn station(site: &Site) -> Station {
    let loaded = config::load(&site.file).unwrap_or_else(|problems| panic!("{problems}"));
    loaded.stations.into_iter().next().unwrap()
}

fn calibrate(site: &Site, step: &str) -> Command {
    let mut command = Command::cargo_bin("inspectd").unwrap();
    command.args(["calibrate", step, "--station", "demo", "--config"]).arg(&site.file);
    command
}

fn site() -> Site {
    Site::new(Path::new("/nowhere/line.mkv"), None)
}

/// A site whose station is aligned by the mark.
fn aligned_site() -> Site {
    let site = site();
    let good = site.dir.path().join("good.png");
    fs::write(&good, png(&scene(0, 0, false))).unwrap();
    let mut command = calibrate(&site, "reference");
    command.arg("--picture").arg(&good).args(["--fiducial", "58,208,64,64", "--search-px", "40"]);
    command.assert().success();
    site.edit(
        "recipe = \"plate\"",
        "recipe = \"plate\"\ncalibration = \"../calibration/demo.toml\"",
    );
    site
}

fn codes(inspection: &Inspection) -> Vec<&str> {
    inspection.verdict.reasons.iter().map(|reason| reason.code.as_str()).collect()
}

#[test]
fn without_a_calibration_bytes_and_record_are_what_they_were() {
    let station = station(&site());
    let looked = look(&station, scene(0, 0, false));
    let crop = roi::cut(&scene(0, 0, false), &station.regions[0]).unwrap();
    assert_eq!(looked.pictures, [crop.picture]);
    let record = serde_json::to_value(&looked.inspection).unwrap();
    assert!(record["digests"].get("calibration").is_none(), "{record}");
}

#[test]
fn the_gate_compares_with_what_was_calibrated() {
    let site = aligned_site();
    site.edit(
        "[trigger]",
        "[quality]\nreference = \"../calibration/demo.toml\"\nluma_ratio_max = 1.5\n\n[trigger]",
    );
    let station = station(&site);
    let names: Vec<&str> = station.quality.references.keys().map(String::as_str).collect();
    let regions: Vec<&str> = station.regions.iter().map(|region| region.name.as_str()).collect();
    assert_eq!(names, regions);
    let good = look(&station, scene(0, 0, false)).inspection;
    assert!(!codes(&good).iter().any(|code| code.starts_with("picture_")), "{:?}", codes(&good));
    let mut dark = scene(0, 0, false);
    dark.data.iter_mut().for_each(|level| *level /= 3);
    let dark = look(&station, dark).inspection;
    assert!(codes(&dark).iter().any(|code| code.starts_with("picture_")), "{:?}", codes(&dark));
}

#[test]
fn regions_move_with_the_part_and_the_record_says_by_what() {
    let site = aligned_site();
    let station = station(&site);
    let home = look(&station, scene(0, 0, false));
    let moved = look(&station, scene(13, -7, false));
    assert_eq!(
        home.inspection.evidence[0].frame_px,
        RectPx { x: 152, y: 72, width: 336, height: 336 }
    );
    assert_eq!(
        moved.inspection.evidence[0].frame_px,
        RectPx { x: 165, y: 65, width: 336, height: 336 }
    );
    assert_eq!(home.pictures, moved.pictures, "the part is seen as if it had not moved");
    assert_eq!(moved.asked, 2);
    let digest = moved.inspection.digests.calibration.expect("named");
    let file = fs::read(site.dir.path().join("calibration/demo.toml")).unwrap();
    assert_eq!(digest, inspectd::vlm::Digest::of(&file).to_string());
}

#[test]
fn a_part_that_is_not_found_is_asked_nothing_and_goes_to_review() {
    let site = aligned_site();
    let station = station(&site);
    for (picture, word) in [
        (scene(0, 0, true), "was not found"),
        (scene(70, 0, false), "not found"),
        (scene(40, 0, false), "40 px or more"),
    ] {
        let looked = look(&station, picture);
        assert_eq!(looked.inspection.verdict.outcome, Outcome::Review);
        assert_eq!(
            codes(&looked.inspection)[0],
            "alignment_lost",
            "{:?}",
            looked.inspection.verdict
        );
        assert!(
            looked.inspection.verdict.reasons[0].text.contains(word),
            "{:?}",
            looked.inspection.verdict
        );
        assert_eq!(
            (looked.asked, looked.pictures.len()),
            (0, 1),
            "nothing is asked, evidence is kept"
        );
    }
    // A frame of another camera.
    let looked = look(&station, Rgb8::new(320, 240));
    assert_eq!((looked.inspection.verdict.outcome, looked.asked), (Outcome::Review, 0));
    let text = &looked.inspection.verdict.reasons[0].text;
    assert!(text.contains("320x240") && text.contains("640x480"), "{text}");
}

#[test]
fn a_calibration_that_is_not_whole_is_refused_by_name() {
    let site = aligned_site();
    let problems = |site: &Site| config::load(&site.file).expect_err("refused").to_string();
    let mark = site.dir.path().join("calibration/demo/fiducial.png");
    let whole = fs::read(&mark).unwrap();
    fs::write(&mark, &whole[..whole.len() / 2]).unwrap();
    let words = problems(&site);
    assert!(words.contains("fiducial.png") && words.contains("SHA-256"), "{words}");
    fs::write(&mark, &whole).unwrap();
    assert!(config::load(&site.file).is_ok());
    let file = site.dir.path().join("calibration/demo.toml");
    let text = fs::read_to_string(&file).unwrap();
    for (bad, word) in [
        (text.replace("schema_version = 1", "schema_version = 9"), "schema_version"),
        (text.replace("[640, 480]", "[640, 0]"), "frame_px"),
        (text.replace("search_px", "serach_px"), "serach_px"),
        (text.replace("demo/fiducial.png", "../../etc/passwd"), "below"),
        (text.replace("fiducial_px = [58", "fiducial_px = [9999"), "fiducial_px"),
        ("[".repeat(5000), "demo.toml"),
    ] {
        assert_ne!(bad, text);
        fs::write(&file, bad).unwrap();
        let words = problems(&site);
        assert!(words.contains("demo.toml") || words.contains("passwd"), "{words}");
        assert!(words.contains(word), "{word}: {words}");
    }
    fs::remove_file(&file).unwrap();
    let words = problems(&site);
    assert!(words.contains("inspectd calibrate"), "{words}");
}

/// Makes pictures in `parts` the station's camera.
fn look_at_folder(site: &Site) {
    let station = site.dir.path().join("stations/demo.toml");
    let text = fs::read_to_string(&station).unwrap();
    let line = |line: &str| match line.starts_with("uri =") {
        true => "folder = \"../parts\"\n".to_owned(),
        false => line.to_owned() + "\n",
    };
    let lines = text.lines().filter(|line| !line.starts_with("repeat ="));
    fs::write(&station, lines.map(line).collect::<String>()).unwrap();
}

#[test]
fn somebody_who_turns_the_lens_is_told_of_focus_light_and_target() {
    let site = site();
    let folder = site.dir.path().join("parts");
    fs::create_dir(&folder).unwrap();
    look_at_folder(&site);
    let mut target = Command::cargo_bin("inspectd").unwrap();
    target.args(["calibrate", "target", "--dpi", "60", "--out"]).arg(folder.join("1.png"));
    target.assert().success();
    fs::write(folder.join("2.png"), png(&Rgb8::new(640, 480))).unwrap();
    let mut live = calibrate(&site, "live");
    let output = live.args(["--lines", "5", "--every-ms", "0"]).assert().success();
    let text = String::from_utf8(output.get_output().stdout.clone()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "the folder ends: {text}");
    assert!(lines[0].contains("(100 % of the best)"), "{text}");
    assert!(lines[0].contains("384 corners, squares of 24 px, in the middle"), "{text}");
    assert!(lines[1].contains("100.0 % black") && lines[1].contains("no target"), "{text}");
}

#[test]
fn check_refuses_a_calibration_of_another_resolution() {
    let site = aligned_site();
    let folder = site.dir.path().join("parts");
    fs::create_dir(&folder).unwrap();
    look_at_folder(&site);
    let check = |side: (u32, u32), code: i32| {
        fs::write(folder.join("1.png"), png(&Rgb8::new(side.0, side.1))).unwrap();
        let mut command = Command::cargo_bin("inspectd").unwrap();
        let output = command.args(["check", "--config"]).arg(&site.file).assert().code(code);
        String::from_utf8(output.get_output().stdout.clone()).unwrap()
    };
    let good = check((640, 480), 0);
    assert!(good.contains("calibrated for 640x480 px"), "{good}");
    let words = check((800, 600), 2);
    assert!(words.contains("640x480") && words.contains("800x600"), "{words}");
}

/// The report about the demo station, whose region is 336 px wide, with this line in its question.
fn fitness(line: &str, code: i32) -> (Site, String) {
    let site = site();
    site.edit("template = \"#{8}\"", &format!("template = \"#{{8}}\"\n{line}"));
    let output = calibrate(&site, "fitness").assert().code(code).get_output().clone();
    let text =
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    (site, text)
}

#[test]
fn text_of_14_px_is_rejected_and_of_24_px_accepted() {
    let (site, words) = fitness("smallest_text_px = 14", 6);
    println!("{words}");
    for figure in [
        "14.0 px of 20",
        "too small",
        "num_crops = 4 instead of 1: 28.0 model px, 757 tokens instead of 313",
        "s a part instead of",
        "235 px on its longer side instead of 336",
        "tiles = [2, 2], overlap = 0.06",
        "1.43 times as large in the frame",
    ] {
        assert!(words.contains(figure), "{figure}: {words}");
    }
    // `check` warns of it, whatever else it finds.
    let mut check = Command::cargo_bin("inspectd").unwrap();
    let output = check.args(["check", "--config"]).arg(&site.file).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("text is too small for the model in region \"plate\""), "{text}");

    let (_, words) = fitness("smallest_text_px = 24", 0);
    assert!(words.contains("24.0 px of 20") && words.contains("fits"), "{words}");
    // The remedy that was proposed is one.
    let (_, words) = fitness("smallest_text_px = 14\nnum_crops = 4", 0);
    assert!(words.contains("28.0 px of 20"), "{words}");
}

#[test]
fn what_the_cut_does_not_hold_no_number_of_crops_brings_back() {
    // 1000 px become 336: 24 px of text become 8.1, and 32.3 in sixteen crops, blurred.
    let site = site();
    site.edit("[152, 72, 336, 336]", "[0, 0, 1000, 1000]");
    site.edit("template = \"#{8}\"", "template = \"#{8}\"\nsmallest_text_px = 24\nnum_crops = 16");
    let output = calibrate(&site, "fitness").assert().code(6).get_output().clone();
    let words = String::from_utf8(output.stdout).unwrap();
    assert!(words.contains("32.3 px of 20") && words.contains("too small"), "{words}");
    assert!(words.contains("more num_crops do not help: the cut of 336 px has 8.1 px"), "{words}");
    // A picture of the camera says how large its frame is.
    let frame = site.dir.path().join("frame.png");
    fs::write(&frame, png(&Rgb8::new(640, 480))).unwrap();
    let mut command = calibrate(&site, "fitness");
    let output = command.arg("--picture").arg(&frame).assert().code(2).get_output().clone();
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(words.contains("1000x1000") && words.contains("640x480 frame"), "{words}");
}

#[test]
fn a_defect_is_measured_by_its_share_and_millimetres_need_a_plane() {
    let (_, words) = fitness("smallest_defect_px = 10", 6);
    assert!(words.contains("3.0 % of 5"), "{words}");
    let (_, words) = fitness("smallest_defect_px = 17", 0);
    assert!(words.contains("5.1 % of 5"), "{words}");
    let (_, words) = fitness("smallest_text_mm = 3", 6);
    assert!(words.contains("calibrate plane"), "{words}");
    let (_, words) = fitness("", 2);
    assert!(words.contains("smallest_text_mm"), "{words}");
    let (_, words) = fitness("smallest_text_mm = 3\nsmallest_text_px = 20", 2);
    assert!(words.contains("both"), "{words}");
}
