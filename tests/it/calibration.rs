//! A synthetic camera with known distortion, vignetting and scale is calibrated by the real command, and
//! each figure is held against the truth. Run with `--no-capture` to read the figures.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use assert_cmd::Command;
use inspectd::calibration::file::{self, Calibration};
use inspectd::calibration::homography::Match;
use inspectd::calibration::{InUse, detect};
use inspectd::frame::Rgb8;
use inspectd::roi::{self, Area, RectPx, Region, Shift};

use crate::support::synthetic_camera::{Pose, SyntheticCamera, Truth};

/// Squares of the target, as on A4.
const SQUARES: (u32, u32) = (12, 8);
const SQUARE_MM: f64 = 20.0;
/// The target's middle.
const MIDDLE: [f64; 2] = [120.0, 80.0];

/// One camera for all tests: its rays take a while.
static CAMERA: LazyLock<SyntheticCamera> = LazyLock::new(|| {
    SyntheticCamera::new(Truth {
        size: [640, 480],
        focal: [656.0, 657.6],
        centre: [324.2, 236.9],
        distortion: [-0.22, 0.06, 0.0008, -0.0005],
        falloff: [0.35, 0.33, 0.40],
        dark: 8.0,
        noise: 1.5,
    })
});

/// Tilts in degrees, the point of the target on the axis, the distance.
const VIEWS: [([f64; 3], [f64; 2], f64); 12] = [
    ([0.0, 0.0, 0.0], MIDDLE, 330.0),
    ([28.0, 0.0, 3.0], MIDDLE, 350.0),
    ([-28.0, 0.0, 0.0], MIDDLE, 350.0),
    ([0.0, 28.0, -4.0], MIDDLE, 350.0),
    ([0.0, -28.0, 0.0], MIDDLE, 350.0),
    ([20.0, 20.0, 10.0], [90.0, 60.0], 340.0),
    ([-20.0, 20.0, 0.0], [160.0, 60.0], 340.0),
    ([20.0, -20.0, -15.0], [90.0, 110.0], 340.0),
    ([-20.0, -20.0, 0.0], [160.0, 110.0], 340.0),
    ([35.0, 10.0, 80.0], MIDDLE, 380.0),
    ([10.0, 35.0, 0.0], [100.0, 85.0], 420.0),
    ([-12.0, 8.0, 170.0], [150.0, 70.0], 260.0),
];

/// A folder to calibrate in.
struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Bench {
        Bench { dir: tempfile::tempdir().unwrap() }
    }

    fn folder(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    fn picture(&self, name: &str, picture: &Rgb8) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, file::png(picture)).unwrap();
        path
    }

    fn views(&self, folder: &str, count: usize) -> PathBuf {
        for (at, (degrees, mm, distance)) in VIEWS.iter().take(count).enumerate() {
            let pose = Pose::tilted(*degrees, *mm, *distance);
            let shot = CAMERA.target(&pose, SQUARES.0, SQUARES.1, SQUARE_MM, at as u64 + 1);
            self.picture(&format!("{folder}/{at:02}.png"), &shot);
        }
        self.folder(folder)
    }

    fn command(&self, step: &str) -> Command {
        let mut command = Command::cargo_bin("inspectd").expect("built by cargo");
        let config = self.dir.path().join("inspectd.toml");
        command.args(["calibrate", step, "--station", "cam", "--config"]).arg(config);
        command
    }

    fn lens(&self, pictures: &Path) -> Command {
        let mut command = self.command("lens");
        command.arg("--pictures").arg(pictures).args(["--square-mm", "20"]);
        command
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("calibration/cam.toml")
    }

    fn known(&self) -> Calibration {
        Calibration::read(&self.file()).unwrap()
    }
}

/// What a command says on standard error when it ends with `code`.
fn refused(command: &mut Command, code: i32) -> String {
    let output = command.assert().code(code).get_output().clone();
    String::from_utf8(output.stderr).unwrap()
}

fn said(command: &mut Command) -> String {
    let output = command.assert().success().get_output().clone();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_lens_is_found_and_the_scale_holds_within_its_uncertainty() {
    let bench = Bench::new();
    let truth = &CAMERA.truth;
    print!("{}", said(&mut bench.lens(&bench.views("lens", VIEWS.len()))));
    let lens = bench.known().lens.expect("measured");
    let focal = lens.focal_px[0] / truth.focal[0] - 1.0;
    println!(
        "focal length error {:.4} %, centre error {:.3} {:.3} px",
        focal * 100.0,
        lens.centre_px[0] - truth.centre[0],
        lens.centre_px[1] - truth.centre[1]
    );
    println!(
        "k1 error {:.5}, k2 error {:.5}",
        lens.radial[0] - truth.distortion[0],
        lens.radial[1] - truth.distortion[1]
    );
    assert!(lens.rms_px < 0.15, "reprojection {} px", lens.rms_px);
    assert!(focal.abs() < 0.002, "focal length {lens:?}");
    let within = 4.0 * lens.focal_deviation_px[0] + 0.5;
    assert!((lens.focal_px[0] - truth.focal[0]).abs() < within, "{lens:?}");
    // Over the whole frame, edges and all: a straight ray falls where the truth says.
    let mut worst = 0.0f64;
    for pixel in grid(640.0, 480.0) {
        let seen = lens.lens().project(truth.ray(pixel));
        worst = worst.max((seen[0] - pixel[0]).hypot(seen[1] - pixel[1]));
    }
    println!("a ray is missed by {worst:.3} px at most, anywhere in the frame");
    assert!(worst < 0.5, "a ray is missed by {worst} px");

    // The belt: five mountings of the camera, each a little askew.
    let mountings: [([f64; 3], f64); 5] = [
        ([0.0, 0.0, 0.0], 400.0),
        ([6.0, -4.0, 10.0], 420.0),
        ([-9.0, 3.0, -30.0], 380.0),
        ([4.0, 12.0, 95.0], 450.0),
        ([-15.0, -8.0, 178.0], 400.0),
    ];
    for (at, (degrees, distance)) in mountings.into_iter().enumerate() {
        let pose = Pose::tilted(degrees, MIDDLE, distance);
        let shot = CAMERA.target(&pose, SQUARES.0, SQUARES.1, SQUARE_MM, 100 + at as u64);
        let picture = bench.picture(&format!("belt{at}.png"), &shot);
        let mut command = bench.command("plane");
        command.arg("--picture").arg(&picture).args([
            "--square-mm",
            "20",
            "--square-uncertainty-percent",
            "0",
        ]);
        said(&mut command);
        let known = bench.known();
        let plane = known.plane.clone().expect("measured");
        let mut worst = 0.0f64;
        for place in grid(640.0, 480.0) {
            worst = worst.max((true_scale(&known, &pose, place) - plane.px_per_mm).abs());
        }
        println!(
            "mounting {at}: {:.4} px/mm, stated uncertainty {:.4}, largest error {worst:.4} ({:.3} %)",
            plane.px_per_mm,
            plane.px_per_mm_uncertainty,
            worst / plane.px_per_mm * 100.0
        );
        assert!(worst <= plane.px_per_mm_uncertainty, "mounting {at}: {worst} {plane:?}");
        assert!(
            plane.px_per_mm_uncertainty < 0.01 * plane.px_per_mm,
            "so much says nothing: {plane:?}"
        );
    }
    // What the station sees is square: the target's corners in the corrected frame.
    let pose = Pose::tilted(mountings[4].0, MIDDLE, mountings[4].1);
    let shot = CAMERA.target(&pose, SQUARES.0, SQUARES.1, SQUARE_MM, 104);
    corrected_squares_are_square(&bench, &shot);
}

/// True pixels of a millimetre at a place of the corrected frame.
fn true_scale(known: &Calibration, pose: &Pose, place: [f64; 2]) -> f64 {
    let plane = known.plane.as_ref().unwrap();
    let lens = known.lens.as_ref().unwrap().lens();
    let on_belt = |x: f64, y: f64| {
        let pixel = lens.source(plane.straight([x, y]).unwrap()).unwrap();
        CAMERA.truth.on_plane(pose, pixel).unwrap()
    };
    let step = 5.0;
    let [x, y] = place;
    let apart =
        |a: [f64; 2], b: [f64; 2]| [(b[0] - a[0]) / (2.0 * step), (b[1] - a[1]) / (2.0 * step)];
    let across = apart(on_belt(x - step, y), on_belt(x + step, y));
    let down = apart(on_belt(x, y - step), on_belt(x, y + step));
    1.0 / (across[0] * down[1] - across[1] * down[0]).abs().sqrt()
}

fn grid(width: f64, height: f64) -> impl Iterator<Item = [f64; 2]> {
    let at = |step: usize, side: f64| (side - 1.0) * step as f64 / 8.0;
    (0..9).flat_map(move |row| (0..9).map(move |column| [at(column, width), at(row, height)]))
}

fn corrected_squares_are_square(bench: &Bench, shot: &Rgb8) {
    let region = Region {
        name: "part".into(),
        area: Area::Pixels(RectPx { x: 152, y: 90, width: 336, height: 300 }),
    };
    let in_use = InUse::load(&bench.file(), std::slice::from_ref(&region)).unwrap();
    let scale = in_use.px_per_mm().unwrap();
    let whole = in_use.whole(shot).unwrap();
    let corners = detect::corners(&whole, "corrected", SQUARE_MM).unwrap();
    let side = |one: &Match, right: [f64; 2]| {
        let to = [one.board_mm[0] + right[0], one.board_mm[1] + right[1]];
        let next = corners.iter().find(|other| other.board_mm == to)?;
        Some((next.pixel[0] - one.pixel[0]).hypot(next.pixel[1] - one.pixel[1]))
    };
    let both = |one: &Match| [side(one, [SQUARE_MM, 0.0]), side(one, [0.0, SQUARE_MM])];
    let sides: Vec<f64> = corners.iter().flat_map(both).flatten().collect();
    let mean = sides.iter().sum::<f64>() / sides.len() as f64;
    let worst = sides.iter().map(|side| (side - mean).abs()).fold(0.0, f64::max);
    println!(
        "corrected frame: squares of {mean:.3} px, {:.3} by the scale, none off by more than {worst:.3}",
        SQUARE_MM * scale
    );
    assert!((mean / SQUARE_MM / scale - 1.0).abs() < 0.002, "{mean} {scale}");
    assert!(worst < 0.6, "{worst}");
    // A region holds the same pixels as the whole.
    let part = roi::part(shot, &region, Some(in_use.corrections())).unwrap();
    let same = roi::copy_rect(&whole, RectPx { x: 152, y: 90, width: 336, height: 300 });
    let differ = part.data.iter().zip(&same.data).filter(|(a, b)| a.abs_diff(**b) > 1).count();
    assert!(differ * 1000 < part.data.len(), "{differ} values differ");
    let bytes = in_use.corrections().bytes();
    println!("the region's table takes {bytes} bytes, a picture of it {}", part.data.len());
    assert!(bytes < part.data.len() / 5, "{bytes}");
    let started = std::time::Instant::now();
    let crop =
        roi::cut_corrected(shot, &region, Some(in_use.corrections()), Shift::default()).unwrap();
    println!("cut in {:.1} ms (not optimised)", started.elapsed().as_secs_f64() * 1e3);
    assert_eq!(crop.frame_px, RectPx { x: 152, y: 90, width: 336, height: 300 });
}

#[test]
fn light_is_made_even() {
    let bench = Bench::new();
    for at in 0..4 {
        bench.picture(&format!("white/{at}.png"), &CAMERA.even(190.0, 500 + at));
        bench.picture(&format!("dark/{at}.png"), &CAMERA.even(0.0, 600 + at));
    }
    let mut command = bench.command("flat");
    command.arg("--pictures").arg(bench.folder("white")).arg("--dark").arg(bench.folder("dark"));
    print!("{}", said(&mut command));
    let flat = bench.known().flat.expect("measured");
    assert!((flat.dark[0] - 8.0).abs() < 0.2, "{flat:?}");
    assert!((flat.falloff_percent - 40.0).abs() < 1.5, "{flat:?}");
    // A sheet of another brightness, which nobody has seen.
    let in_use = InUse::load(&bench.file(), &[]).unwrap();
    let (before, after) =
        (CAMERA.even(120.0, 700), in_use.whole(&CAMERA.even(120.0, 700)).unwrap());
    let (was, is) = (unevenness(&before), unevenness(&after));
    println!(
        "another sheet: uneven by {was:.2} % before, {is:.3} % after (root mean square of blocks)"
    );
    assert!(was > 5.0 && is < 0.5, "{was} {is}");
    let middle = roi::copy_rect(&after, RectPx { x: 300, y: 220, width: 40, height: 40 });
    let level =
        middle.data.iter().map(|value| f64::from(*value)).sum::<f64>() / middle.data.len() as f64;
    assert!(
        (level - 120.0).abs() < 1.0,
        "the middle keeps its light, without the darkness: {level}"
    );
}

/// Root mean square deviation of blocks of 20 px from their mean, in percent, the worst channel's.
fn unevenness(picture: &Rgb8) -> f64 {
    let channel = |c: usize| {
        let block = |bx: u32, by: u32| {
            let values =
                (0..400).map(|i| f64::from(picture.pixel(bx * 20 + i % 20, by * 20 + i / 20)[c]));
            values.sum::<f64>() / 400.0
        };
        let (across, down) = (picture.width / 20, picture.height / 20);
        let all: Vec<f64> = (0..down)
            .flat_map(|y| (0..across).map(move |x| (x, y)))
            .map(|(x, y)| block(x, y))
            .collect();
        let mean = all.iter().sum::<f64>() / all.len() as f64;
        let square = all.iter().map(|block| (block - mean).powi(2)).sum::<f64>() / all.len() as f64;
        square.sqrt() / mean * 100.0
    };
    (0..3).map(channel).fold(0.0, f64::max)
}

#[test]
fn pictures_that_tell_nothing_are_refused_with_what_to_do() {
    let bench = Bench::new();
    // One picture.
    let words = refused(&mut bench.lens(&bench.views("one", 1)), 6);
    assert!(words.contains("1 usable pictures") && words.contains("5 to 60"), "{words}");
    // The same pose six times.
    for at in 0..6 {
        let pose = Pose::tilted([25.0, 5.0, 0.0], MIDDLE, 350.0);
        let shot = CAMERA.target(&pose, SQUARES.0, SQUARES.1, SQUARE_MM, 900 + at);
        bench.picture(&format!("same/{at}.png"), &shot);
    }
    let words = refused(&mut bench.lens(&bench.folder("same")), 6);
    assert!(words.contains("poses are too alike"), "{words}");
    // No target at all: the file is named.
    bench.picture("none/sheet.png", &CAMERA.even(150.0, 1));
    let words = refused(&mut bench.lens(&bench.folder("none")), 6);
    assert!(words.contains("sheet.png") && words.contains("no checkerboard"), "{words}");
    // Half a file.
    let whole = fs::read(bench.dir.path().join("one/00.png")).unwrap();
    bench.folder("torn");
    fs::write(bench.dir.path().join("torn/half.png"), &whole[..whole.len() / 2]).unwrap();
    let words = refused(&mut bench.lens(&bench.folder("torn")), 6);
    assert!(words.contains("half.png"), "{words}");
    // Another resolution among them.
    bench.picture("mixed/0.png", &Rgb8::new(320, 240));
    fs::write(bench.dir.path().join("mixed/1.png"), &whole).unwrap();
    let words = refused(&mut bench.lens(&bench.folder("mixed")), 6);
    assert!(words.contains("1.png has 640x480 px") && words.contains("320x240"), "{words}");
    // Corners that fit no lens well enough.
    let mut strict = bench.lens(&bench.views("good", 6));
    let words = refused(strict.args(["--rms-max-px", "0.001"]), 6);
    assert!(words.contains("0.00 px allowed") && words.contains(".png"), "{words}");
    for bad in ["empty", "absent"] {
        let folder = bench.dir.path().join(bad);
        if bad == "empty" {
            fs::create_dir(&folder).unwrap();
        }
        let words = refused(&mut bench.lens(&folder), 2);
        assert!(words.contains(bad), "{words}");
    }
    assert!(!bench.file().exists(), "nothing of all that was written");
}

#[test]
fn a_sheet_that_is_not_even_is_no_flat_field() {
    let bench = Bench::new();
    for at in 0..3u32 {
        let edge = 320 + 64 * at as usize;
        let shadow = CAMERA.shaded(u64::from(at), |x, _| if x > edge { 150.0 } else { 90.0 });
        bench.picture(&format!("white/{at}.png"), &shadow);
    }
    let mut command = bench.command("flat");
    let words = refused(command.arg("--pictures").arg(bench.folder("white")), 6);
    assert!(words.contains("unevenness") && words.contains("even sheet"), "{words}");
}

#[test]
fn a_target_is_drawn_in_both_forms() {
    let dir = tempfile::tempdir().unwrap();
    let make = |name: &str| {
        let path = dir.path().join(name);
        let mut command = Command::cargo_bin("inspectd").unwrap();
        command
            .args(["calibrate", "target", "--square-mm", "10", "--dpi", "150", "--out"])
            .arg(&path);
        (command, path)
    };
    let (mut pdf, path) = make("target.pdf");
    assert!(said(&mut pdf).contains("25 x 17 squares"));
    let bytes = fs::read(path).unwrap();
    assert!(bytes.starts_with(b"%PDF-") && bytes.ends_with(b"%%EOF"), "{}", bytes.len());
    let (mut png, path) = make("target.png");
    said(&mut png);
    let picture = detect::read(&path, None).unwrap();
    assert_eq!([picture.width, picture.height], [1754, 1240]);
    // What is drawn is what is looked for, and as large as it says.
    let corners = detect::corners(&picture, "target.png", 10.0).unwrap();
    assert_eq!(corners.len(), 24 * 16);
    let far = |axis: usize, side: fn(f64, f64) -> f64| {
        corners.iter().map(|one| one.pixel[axis]).reduce(side).unwrap()
    };
    let across_mm = (far(0, f64::max) - far(0, f64::min)) / 150.0 * 25.4;
    assert!((across_mm - 230.0).abs() < 0.05, "{across_mm} mm between the outermost corners");
    let (mut other, _) = make("target.txt");
    assert!(refused(&mut other, 2).contains(".pdf or .png"));
}
