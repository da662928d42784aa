//! `inspectd calibrate`: what is known of a station's camera, step by step.

mod fitness;
mod live;
mod steps;

use std::path::PathBuf;

use clap::Subcommand;

use super::{ConfigFile, Exit};
use crate::calibration::CalibrationError;
use crate::calibration::target::{self, Paper, Target};
use crate::provenance;
pub(super) use fitness::warnings;

pub const EXAMPLES: &str = "\
Examples:
  inspectd calibrate target --square-mm 10 --paper a4 --out target.pdf
  inspectd calibrate live --station press-3                       (turn the lens and watch)
  inspectd calibrate lens --station press-3 --pictures lens/ --square-mm 9.98
  inspectd calibrate plane --station press-3 --picture belt.png --square-mm 9.98
  inspectd calibrate flat --station press-3 --pictures white/ --dark dark/
  inspectd calibrate show --station press-3 --picture part.png --out corrected.png
  inspectd calibrate reference --station press-3 --picture good.png --fiducial 40,60,96,96
  inspectd calibrate fitness --station press-3

That is the order of the work; each step can be repeated alone. What is measured is kept in
calibration/STATION.toml beside the main configuration file. A station uses it once its file says
calibration = \"../calibration/STATION.toml\"; regions are then rectangles of the corrected frame,
which `show` writes.";

#[derive(clap::Args, Debug)]
pub struct Arguments {
    #[command(subcommand)]
    step: Step,
}

#[derive(Subcommand, Debug)]
enum Step {
    /// Make the checkerboard to be printed.
    #[command(after_help = EXAMPLES)]
    Target(TargetArguments),
    /// Measure the lens from pictures of the target, tilted to each side.
    #[command(after_help = EXAMPLES)]
    Lens(LensArguments),
    /// Measure the belt's plane and scale from a picture of the target lying on it.
    #[command(after_help = EXAMPLES)]
    Plane(PlaneArguments),
    /// Measure the light from pictures of an even white sheet, and of darkness.
    #[command(after_help = EXAMPLES)]
    Flat(FlatArguments),
    /// Keep what each region shows of a good part, and the mark by which regions move.
    #[command(after_help = EXAMPLES)]
    Reference(ReferenceArguments),
    /// Say whether the model can see the smallest things that the questions ask about.
    #[command(after_help = EXAMPLES)]
    Fitness(FitnessArguments),
    /// Write the corrected frame of a picture.
    #[command(after_help = EXAMPLES)]
    Show(ShowArguments),
    /// Print focus, light and framing of the running camera, while somebody turns the lens.
    #[command(after_help = EXAMPLES)]
    Live(LiveArguments),
}

/// Where a station's calibration is kept.
#[derive(clap::Args, Debug)]
struct Place {
    /// The station.
    #[arg(long)]
    station: String,
    #[command(flatten)]
    config: ConfigFile,
    /// The calibration file, instead of calibration/STATION.toml beside the configuration file.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Kind {
    /// Black and white squares; a part of it in the picture is enough.
    Checkerboard,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum PaperName {
    A3,
    A4,
    A5,
    Letter,
}

#[derive(clap::Args, Debug)]
struct TargetArguments {
    /// What to draw.
    #[arg(long, value_enum, default_value = "checkerboard")]
    kind: Kind,
    /// Side of a square in millimetres. In the picture a square should have 15 px or more.
    #[arg(long, default_value_t = 10.0)]
    square_mm: f64,
    /// The paper.
    #[arg(long, value_enum, default_value = "a4")]
    paper: PaperName,
    /// Pixels an inch of a PNG.
    #[arg(long, default_value_t = 300)]
    dpi: u32,
    /// The file: NAME.pdf or NAME.png.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(clap::Args, Debug)]
struct Squares {
    /// Side of a square in millimetres, as it was printed: measure the rulers of the target.
    #[arg(long, default_value_t = 10.0)]
    square_mm: f64,
}

#[derive(clap::Args, Debug)]
struct LensArguments {
    #[command(flatten)]
    place: Place,
    /// A folder with 5 to 60 pictures of the target; 10 to 20 are good.
    #[arg(long, value_name = "DIR")]
    pictures: PathBuf,
    #[command(flatten)]
    squares: Squares,
    /// The corners may miss the lens by this on average, in pixels.
    #[arg(long, default_value_t = 1.0)]
    rms_max_px: f64,
}

#[derive(clap::Args, Debug)]
struct PlaneArguments {
    #[command(flatten)]
    place: Place,
    /// The target, lying at the height of the surface that is inspected.
    #[arg(long, value_name = "FILE")]
    picture: PathBuf,
    #[command(flatten)]
    squares: Squares,
    /// How well the side of a square is known, in percent: 0.1 is 0.1 mm on the ruler of 100 mm.
    #[arg(long, default_value_t = 0.1)]
    square_uncertainty_percent: f64,
}

#[derive(clap::Args, Debug)]
struct FlatArguments {
    #[command(flatten)]
    place: Place,
    /// A folder with pictures of an even white sheet, in the light of the line, moved in between.
    #[arg(long, value_name = "DIR")]
    pictures: PathBuf,
    /// A folder with pictures taken with the cap on the lens, the exposure as it is.
    #[arg(long, value_name = "DIR")]
    dark: Option<PathBuf>,
}

#[derive(clap::Args, Debug)]
struct ReferenceArguments {
    #[command(flatten)]
    place: Place,
    /// A picture of a good part where it should lie.
    #[arg(long, value_name = "FILE")]
    picture: PathBuf,
    /// A mark or corner of the part: x,y,width,height in pixels of the corrected frame.
    #[arg(long, value_name = "X,Y,W,H", value_delimiter = ',')]
    fiducial: Option<Vec<u32>>,
    /// How far the part may lie from its place, in pixels.
    #[arg(long, default_value_t = 32)]
    search_px: u32,
    /// How much the mark must look like the reference, 0 to 1.
    #[arg(long, default_value_t = 0.7)]
    likeness_min: f64,
}

#[derive(clap::Args, Debug)]
struct FitnessArguments {
    /// The station.
    #[arg(long)]
    station: String,
    #[command(flatten)]
    config: ConfigFile,
    /// A picture of the camera: only its size counts. Without one, the calibration says the size, or
    /// the camera is asked.
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
}

#[derive(clap::Args, Debug)]
struct ShowArguments {
    #[command(flatten)]
    place: Place,
    /// A picture of the camera.
    #[arg(long, value_name = "FILE")]
    picture: PathBuf,
    /// Where the corrected frame is written, a PNG.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(clap::Args, Debug)]
struct LiveArguments {
    /// The station.
    #[arg(long)]
    station: String,
    #[command(flatten)]
    config: ConfigFile,
    /// End after so many lines instead of at Ctrl-C.
    #[arg(long, value_name = "N")]
    lines: Option<u64>,
    /// Milliseconds from one line to the next.
    #[arg(long, default_value_t = 500)]
    every_ms: u64,
}

/// Does one step.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    match &arguments.step {
        Step::Target(arguments) => make_target(arguments),
        Step::Lens(arguments) => steps::lens(arguments),
        Step::Plane(arguments) => steps::plane(arguments),
        Step::Flat(arguments) => steps::flat(arguments),
        Step::Reference(arguments) => steps::reference(arguments),
        Step::Show(arguments) => steps::show(arguments),
        Step::Fitness(arguments) => fitness::run(arguments),
        Step::Live(arguments) => live::run(arguments),
    }
}

fn make_target(arguments: &TargetArguments) -> anyhow::Result<()> {
    let Kind::Checkerboard = arguments.kind;
    let paper = match arguments.paper {
        PaperName::A3 => Paper::A3,
        PaperName::A4 => Paper::A4,
        PaperName::A5 => Paper::A5,
        PaperName::Letter => Paper::Letter,
    };
    let target = Target::fitting(paper, arguments.square_mm).map_err(exit_of)?;
    let drawing = target.draw();
    let kind = arguments.out.extension().map(|kind| kind.to_string_lossy().to_lowercase());
    let bytes = match kind.as_deref() {
        Some("pdf") => target::pdf::write(&drawing),
        Some("png") => target::png::write(&drawing, arguments.dpi).map_err(exit_of)?,
        _ => {
            let why = format!("{}: name it .pdf or .png", arguments.out.display());
            return Err(Exit::Usage.because(anyhow::anyhow!(why)));
        }
    };
    provenance::write_whole(&arguments.out, &bytes).map_err(|why| Exit::Usage.because(why))?;
    println!(
        "{}: {} x {} squares of {} mm. Print it at 100 %, measure both rulers, glue it to something flat.",
        arguments.out.display(),
        target.columns,
        target.rows,
        target.square_mm
    );
    Ok(())
}

/// Wrong arguments and files are one thing, pictures that are not good enough another.
fn exit_of(why: CalibrationError) -> anyhow::Error {
    let exit = match &why {
        CalibrationError::File { .. } | CalibrationError::Asked(_) => Exit::Usage,
        _ => Exit::Check,
    };
    exit.because(why)
}
