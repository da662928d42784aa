//! Several looks at one part through the real configuration and the real inspector, with a scripted
//! model: tiles, a region enlarged, a good part for comparison, frames that vote.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use inspectd::clock::{Clock, SystemClock};
use inspectd::config;
use inspectd::frame::{Frame, Rgb8, file};
use inspectd::inspection::Inspection;
use inspectd::inspector::{Clerk, EvidenceKeeper, Inspector, Model, Part, Reply};
use inspectd::roi::{Area, Crop, RectPx};
use inspectd::station::{Question, Station, Vote};
use inspectd::verdict::{Outcome, Seen};
use inspectd::vlm::ask::{Answer, StopReason, Timings, TokenCounts};

use crate::support::station::{Site, some_picture};

const GOOD: &str = r#"{"inspectable":true,"defects":[]}"#;
const DENT: &str =
    r#"{"inspectable":true,"defects":[{"class":"dent","severity":"major","location":"center"}]}"#;
const HIDDEN: &str = r#"{"inspectable":false,"defects":null}"#;
const NONE: &str = r#"{"legible":false,"serial":null}"#;

fn serial(text: &str) -> String {
    format!(r#"{{"legible":true,"serial":"{text}"}}"#)
}

/// What was put: the question, and the regions shown.
type Put = (String, Vec<String>);

/// Answers by question, first region that is no good part, and how often that was asked before.
struct Script<'s> {
    answer: &'s dyn Fn(&str, &str, usize) -> String,
    put: &'s Mutex<Vec<Put>>,
}

impl Model for Script<'_> {
    fn ask(&mut self, _: &Station, question: &Question, crops: &[&Crop], _: Instant) -> Reply {
        assert_eq!(crops.len(), question.pictures());
        let shown: Vec<String> = crops.iter().map(|crop| crop.region.clone()).collect();
        let mut put = self.put.lock().unwrap();
        let now = (question.name.clone(), shown.clone());
        let before = put.iter().filter(|earlier| **earlier == now).count();
        put.push(now);
        let region = shown.iter().find(|name| !name.ends_with(".golden")).unwrap();
        let text = (self.answer)(&question.name, region, before);
        let answer = Answer {
            text,
            fields: vec![],
            stop: StopReason::Complete,
            tokens: TokenCounts::default(),
            timings: Timings::default(),
        };
        Reply::new("asked", Ok(answer))
    }
}

struct Keep;

impl EvidenceKeeper for Keep {
    fn keep(&self, picture: &Rgb8) -> Result<String, String> {
        // As good as a digest: equal pictures have equal names.
        let sum =
            picture.data.iter().fold(7u64, |sum, byte| sum * 31 % 1_000_003 + u64::from(*byte));
        Ok(format!("{sum:064x}"))
    }
}

fn station(edits: &[(&str, &str)]) -> Station {
    station_with(edits, &[])
}

fn station_with(edits: &[(&str, &str)], pictures: &[(&str, &Rgb8)]) -> Station {
    let site = Site::new(Path::new("/nowhere/line.mkv"), None);
    for (name, picture) in pictures {
        file::write_png(&site.dir.path().join("stations").join(name), picture).unwrap();
    }
    edits.iter().for_each(|(from, to)| site.edit(from, to));
    let loaded = config::load(&site.file).unwrap_or_else(|problems| panic!("{problems}"));
    loaded.stations.into_iter().next().unwrap()
}

/// The problems of a station with these edits, as text.
fn refused(edits: &[(&str, &str)]) -> String {
    let site = Site::new(Path::new("/nowhere/line.mkv"), None);
    let small = Rgb8::new(200, 100);
    file::write_png(&site.dir.path().join("stations/small.png"), &small).unwrap();
    let crop = Rgb8::new(336, 336);
    file::write_png(&site.dir.path().join("stations/crop.png"), &crop).unwrap();
    edits.iter().for_each(|(from, to)| site.edit(from, to));
    match config::load(&site.file) {
        Ok(loaded) => panic!("it was taken: {:?}", loaded.stations),
        Err(problems) => problems.to_string(),
    }
}

struct Looked {
    inspection: Inspection,
    put: Vec<Put>,
}

impl Looked {
    fn codes(&self) -> Vec<&str> {
        self.inspection.verdict.reasons.iter().map(|reason| reason.code.as_str()).collect()
    }
}

fn look(
    station: &Station,
    frames: &[Rgb8],
    answer: &dyn Fn(&str, &str, usize) -> String,
) -> Looked {
    let now = SystemClock.now();
    let mut part = Part::new(&Arc::new(station.clone()), 1, "1".into(), now);
    let mut frames = frames.iter().enumerate().map(|(at, picture)| {
        Arc::new(Frame {
            sequence: at as u64 + 10,
            camera: Arc::from("demo"),
            captured: now,
            pipeline_ns: None,
            picture: picture.clone().into(),
        })
    });
    part.frame = frames.next();
    part.more_frames = frames.collect();
    let clerk = Clerk::new(Arc::new(SystemClock), "box", "model", "program");
    let put = Mutex::new(Vec::new());
    let inspection = Inspector::new(Script { answer, put: &put }, clerk).inspect(&part, &Keep);
    Looked { inspection, put: put.into_inner().unwrap() }
}

const PLATE: &str = "pixels = [152, 72, 336, 336]";

#[test]
fn a_region_is_looked_at_tile_by_tile() {
    let station =
        station(&[(PLATE, "pixels = [100, 40, 400, 400]\ntiles = [2, 2]\noverlap = 0.2")]);
    let names: Vec<&str> = station.regions.iter().map(|region| region.name.as_str()).collect();
    assert_eq!(names, ["plate.1", "plate.2", "plate.3", "plate.4"]);
    // 2 x 222.2 px that share a fifth are 400.
    assert_eq!(
        station.regions[3].area,
        Area::Pixels(RectPx { x: 277, y: 217, width: 223, height: 223 })
    );
    let answer = |question: &str, region: &str, _| match (question, region) {
        ("serial", "plate.2") => serial("A7K2M9PX"),
        ("serial", _) => NONE.to_owned(),
        _ => GOOD.to_owned(),
    };
    let looked = look(&station, &[some_picture()], &answer);
    assert_eq!(looked.put.len(), 8);
    assert_eq!(looked.inspection.verdict.outcome, Outcome::Pass, "{:?}", looked.codes());
    assert_eq!(looked.inspection.serial(), Some("A7K2M9PX"));
    assert_eq!(looked.inspection.evidence.len(), 4);

    let answer = |question: &str, region: &str, _| match (question, region) {
        ("serial", _) => serial("A7K2M9PX"),
        (_, "plate.3") => DENT.to_owned(),
        _ => GOOD.to_owned(),
    };
    let looked = look(&station, &[some_picture()], &answer);
    assert_eq!(looked.codes(), ["defect"]);
    let dent = looked.inspection.defects().next().unwrap();
    assert_eq!(dent.region, "plate.3", "it is known in which tile it is");

    // Every tile must be seen, and a serial that no tile shows is none.
    let answer = |question: &str, region: &str, _| match (question, region) {
        ("serial", _) => NONE.to_owned(),
        (_, "plate.4") => HIDDEN.to_owned(),
        _ => GOOD.to_owned(),
    };
    let looked = look(&station, &[some_picture()], &answer);
    assert_eq!(looked.inspection.verdict.outcome, Outcome::Review);
    assert_eq!(looked.codes(), ["not_inspectable", "serial_illegible"]);
    // Two tiles that read differently: one of them has half a serial.
    let answer = |question: &str, region: &str, _| match (question, region) {
        ("serial", "plate.1") => serial("A7K2M9PX"),
        ("serial", "plate.2") => serial("A7K2M9P1"),
        ("serial", _) => NONE.to_owned(),
        _ => GOOD.to_owned(),
    };
    let looked = look(&station, &[some_picture()], &answer);
    assert_eq!(looked.inspection.verdict.outcome, Outcome::Review);
    assert!(looked.codes().contains(&"serial_contradictory"), "{:?}", looked.codes());
}

#[test]
fn tiles_may_be_shown_together() {
    let together = "name = \"defects\"\nregion = \"plate\"\ntiles = \"together\"";
    let station = station(&[
        (PLATE, "pixels = [100, 40, 400, 400]\ntiles = [3, 1]"),
        ("name = \"defects\"\nregion = \"plate\"", together),
    ]);
    let question = &station.questions[1];
    assert_eq!(question.pictures(), 3);
    assert!(
        question.text.starts_with(
            "Picture 1, region \"plate.1\": <image>\nPicture 2, region \"plate.2\": <image>\n"
        ),
        "{}",
        question.text
    );
    let answer = |question: &str, _: &str, _| match question {
        "serial" => serial("A7K2M9PX"),
        _ => GOOD.to_owned(),
    };
    let looked = look(&station, &[some_picture()], &answer);
    let defects: Vec<&Put> = looked.put.iter().filter(|(name, _)| name == "defects").collect();
    assert_eq!(defects.len(), 1);
    assert_eq!(defects[0].1, ["plate.1", "plate.2", "plate.3"]);
    assert_eq!(looked.inspection.verdict.outcome, Outcome::Pass);
}

#[test]
fn a_region_may_be_a_part_of_another_enlarged() {
    let inner = format!(
        "{PLATE}\n\n[[region]]\nname = \"label\"\nwithin = \"plate\"\nzoom = 3\nat = [0.0, 0.5]\n\n\
         [[region]]\nname = \"corner\"\nwithin = \"label\"\nfraction = [0.5, 0.0, 0.5, 0.5]"
    );
    let station = station(&[
        (PLATE, &inner),
        ("name = \"serial\"\nregion = \"plate\"", "name = \"serial\"\nregion = \"label\""),
        (
            "name = \"defects\"\nregion = \"plate\"",
            "name = \"defects\"\nregions = [\"plate\", \"corner\"]",
        ),
    ]);
    let area = |name: &str| {
        station.regions.iter().find(|region| region.name == name).map(|region| region.area)
    };
    let pixels = |x, y, width, height| Some(Area::Pixels(RectPx { x, y, width, height }));
    assert_eq!(area("label"), pixels(152, 184, 112, 112));
    assert_eq!(area("corner"), pixels(208, 184, 56, 56));
    let answer = |question: &str, _: &str, _| match question {
        "serial" => serial("A7K2M9PX"),
        _ => GOOD.to_owned(),
    };
    let looked = look(&station, &[some_picture()], &answer);
    assert_eq!(looked.put[1].1, ["plate", "corner"]);
    assert_eq!(looked.inspection.verdict.outcome, Outcome::Pass, "{:?}", looked.codes());
}

#[test]
fn a_good_part_is_shown_first_and_kept_as_evidence() {
    let mut good = some_picture();
    good.data.iter_mut().for_each(|byte| *byte = byte.saturating_add(9));
    let compare = "name = \"defects\"\nregion = \"plate\"\ngolden = \"good.png\"";
    let edit = [("name = \"defects\"\nregion = \"plate\"", compare)];
    let station = station_with(&edit, &[("good.png", &good)]);
    let text = &station.questions[1].text;
    assert!(
        text.starts_with(
            "Picture 1, a good part for comparison: <image>\n\
             Picture 2, the part to inspect, region \"plate\": <image>\n"
        ),
        "{text}"
    );
    let answer = |question: &str, _: &str, _| match question {
        "serial" => serial("A7K2M9PX"),
        _ => GOOD.to_owned(),
    };
    let looked = look(&station, &[some_picture()], &answer);
    assert_eq!(looked.put[0].1, ["plate"]);
    assert_eq!(looked.put[1].1, ["plate.golden", "plate"]);
    assert_eq!(looked.inspection.verdict.outcome, Outcome::Pass, "{:?}", looked.codes());
    let kept: Vec<(&str, &str)> = looked
        .inspection
        .evidence
        .iter()
        .map(|one| (one.region.as_str(), one.sha256.as_str()))
        .collect();
    assert_eq!(
        kept.iter().map(|(region, _)| *region).collect::<Vec<_>>(),
        ["plate", "plate.golden"]
    );
    assert_ne!(kept[0].1, kept[1].1);
    assert_eq!(looked.inspection.questions[1].regions, ["plate.golden", "plate"]);
    assert!(looked.inspection.findings.iter().all(|finding| finding.region == "plate"));
    assert!(looked.inspection.picture_quality.iter().all(|seen| seen.region == "plate"));

    // As evidence keeps a part: the square that the model sees.
    let crop = Rgb8 { width: 336, height: 336, data: vec![120; 336 * 336 * 3] };
    let station = station_with(&edit, &[("good.png", &crop)]);
    let looked = look(&station, &[some_picture()], &answer);
    assert_eq!(looked.put[1].1, ["plate.golden", "plate"]);
}

/// A station whose frames vote.
fn voting(frames: usize, agree: usize) -> Station {
    let text = format!("[vote]\nframes = {frames}\nagree = {agree}\n\n[camera]");
    station(&[("[camera]", &text)])
}

#[test]
fn frames_vote_and_stop_when_enough_agree() {
    let station = voting(3, 2);
    assert_eq!(station.vote, Vote { frames: 3, agree: 2 });
    let frames = vec![some_picture(); 3];
    let all_good = |question: &str, _: &str, _| match question {
        "serial" => serial("A7K2M9PX"),
        _ => GOOD.to_owned(),
    };
    let looked = look(&station, &frames, &all_good);
    assert_eq!(looked.put.len(), 4, "two frames agree, so the third is not asked about");
    assert_eq!(looked.inspection.verdict.outcome, Outcome::Pass, "{:?}", looked.codes());
    assert_eq!(looked.inspection.findings.len(), 2, "they are joined");
    let frames_asked: Vec<Option<u64>> =
        looked.inspection.questions.iter().map(|asked| asked.frame_sequence).collect();
    assert_eq!(frames_asked, [None, None, Some(11), Some(11)]);
    assert_eq!(looked.inspection.evidence.len(), 3, "every frame is kept");
    assert_eq!(looked.inspection.evidence[2].frame_sequence, Some(12));

    // One frame misreads: the others outvote it.
    let one_off = |question: &str, _: &str, before: usize| match (question, before) {
        ("serial", 0) => serial("A7K2M9P1"),
        ("serial", _) => serial("A7K2M9PX"),
        _ => GOOD.to_owned(),
    };
    let looked = look(&station, &frames, &one_off);
    assert_eq!(looked.put.len(), 5, "the third frame is asked for the serial alone");
    assert_eq!(looked.inspection.serial(), Some("A7K2M9PX"));
    assert_eq!(looked.inspection.verdict.outcome, Outcome::Pass, "{:?}", looked.codes());

    // A dent that one frame shows is not forgotten.
    let one_dent = |question: &str, _: &str, before: usize| match (question, before) {
        ("serial", _) => serial("A7K2M9PX"),
        (_, 1) => DENT.to_owned(),
        _ => GOOD.to_owned(),
    };
    let looked = look(&station, &frames, &one_dent);
    assert_eq!(looked.inspection.verdict.outcome, Outcome::Review);
    assert_eq!(looked.codes(), ["vote_disputed"]);

    let two_dents = |question: &str, _: &str, before: usize| match (question, before) {
        ("serial", _) => serial("A7K2M9PX"),
        (_, 0) => GOOD.to_owned(),
        _ => DENT.to_owned(),
    };
    let looked = look(&station, &frames, &two_dents);
    assert_eq!(looked.inspection.verdict.outcome, Outcome::Fail, "{:?}", looked.codes());
    assert_eq!(looked.inspection.defects().count(), 1, "one dent, seen twice");

    let all_differ = |question: &str, _: &str, before: usize| match question {
        "serial" => serial(&format!("A7K2M9P{before}")),
        _ => GOOD.to_owned(),
    };
    let looked = look(&station, &frames, &all_differ);
    assert_eq!(looked.codes(), ["vote_disputed", "serial_illegible"]);
    assert!(matches!(
        looked.inspection.findings.iter().find_map(|finding| match &finding.seen {
            Seen::Serial { value, .. } => Some(value),
            _ => None,
        }),
        Some(None)
    ));
}

#[test]
fn a_frame_that_shows_nothing_has_no_vote() {
    let station = voting(3, 2);
    let good = |question: &str, _: &str, _| match question {
        "serial" => serial("A7K2M9PX"),
        _ => GOOD.to_owned(),
    };
    let black = Rgb8::new(640, 480);
    let frames = [some_picture(), black.clone(), some_picture()];
    let looked = look(&station, &frames, &good);
    assert_eq!(looked.inspection.verdict.outcome, Outcome::Pass, "{:?}", looked.codes());
    let asked: Vec<Option<u64>> =
        looked.inspection.questions.iter().map(|asked| asked.frame_sequence).collect();
    assert_eq!(asked, [None, None, Some(12), Some(12)], "not the black one");
    assert_eq!(looked.inspection.picture_quality.len(), 3, "which stands in the record");

    for frames in [vec![some_picture(), black.clone(), black], vec![some_picture()]] {
        let looked = look(&station, &frames, &good);
        assert_eq!(looked.inspection.verdict.outcome, Outcome::Review);
        assert!(looked.codes().contains(&"vote_short"), "{:?}", looked.codes());
        assert!(looked.put.is_empty(), "it could not come to a verdict");
    }
}

#[test]
fn what_makes_no_sense_is_refused_with_its_remedy() {
    let question = "name = \"defects\"\nregion = \"plate\"";
    let golden = |file: &str| format!("{question}\ngolden = \"{file}\"");
    let cases: &[(&[(&str, &str)], &str)] = &[
        (&[(PLATE, "tiles = [5, 4]")], "has 20 tiles"),
        (&[(PLATE, "tiles = [2]")], "write  tiles = [columns, rows]"),
        (&[(PLATE, "pixels = [0, 0, 40, 40]\ntiles = [4, 4]\noverlap = 0")], "a tile of"),
        (&[(PLATE, "overlap = 0.2")], "has an `overlap` and no tiles"),
        (&[(PLATE, "within = \"plat\"\nzoom = 2")], "there is no region \"plat\" above"),
        (&[(PLATE, "zoom = 2\npixels = [0, 0, 100, 100]")], "both an area and a `zoom`"),
        (&[(PLATE, "at = [0.5, 0.5]")], "where to zoom and not how much"),
        (&[(PLATE, "at = [0.5]\nzoom = 2")], "write  at = [x, y]"),
        (&[(question, &format!("{question}\ntiles = \"each\""))], "no region with tiles"),
        (
            &[(PLATE, "tiles = [3, 3]"), (question, &format!("{question}\ntiles = \"together\""))],
            "shows 9 pictures at once, 8 at most",
        ),
        (&[(question, &golden("nowhere.png"))], "cannot use the good part"),
        (&[(question, &golden("small.png"))], "reaches past the 200x100 frame"),
        (
            &[(PLATE, "tiles = [2, 2]"), (question, &golden("crop.png"))],
            "needs the whole frame of a good part",
        ),
        (
            &[("[camera]", "[vote]\nframes = 4\nagree = 2\n\n[camera]")],
            "2 of 4 frames cannot agree",
        ),
        (&[("[camera]", "[vote]\nagree = 2\n\n[camera]")], "frames = 3"),
        (
            &[
                ("[camera]", "[vote]\nframes = 3\n\n[camera]"),
                ("kind = \"presence\"", "kind = \"presence\"\nburst_frames = 2"),
            ],
            "the trigger keeps 2 of each part",
        ),
        (
            &[
                ("[camera]", "[vote]\nframes = 3\n\n[camera]"),
                ("kind = \"presence\"", "kind = \"every_frame\""),
            ],
            "nothing says which of them show the same part",
        ),
    ];
    for (edits, expected) in cases {
        let said = refused(edits);
        assert!(said.contains(expected), "{edits:?} is refused as:\n{said}");
    }
}
