//! `calibrate fitness`: a table, remedies, and an exit code.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use comfy_table::{Table, presets};

use super::{FitnessArguments, exit_of};
use crate::calibration::detect;
use crate::camera::{self, Delivery, Source};
use crate::capacity::cost;
use crate::cli::Exit;
use crate::clock::SystemClock;
use crate::config::{Loaded, Problem};
use crate::daemon::plan::{self, Plan};
use crate::fitness::{self, Kind, Look, Price};
use crate::roi::Area;
use crate::station::{Question, Station};

/// How long a camera is waited for.
const CAMERA_LIMIT: Duration = Duration::from_secs(20);
/// A frame larger than any, where only its size does not matter.
const ANY_FRAME: [u32; 2] = [65_535; 2];

/// Prints what the model sees of the smallest things.
pub fn run(arguments: &FitnessArguments) -> anyhow::Result<()> {
    let loaded = crate::cli::run::load(&arguments.config)?;
    let station = crate::cli::inspect::pick(&loaded.stations, &arguments.station)?;
    if !station.recipes().any(fitness::is_asked) {
        let why = format!(
            "no question of station \"{}\" says what is the smallest that it must see: add \
             smallest_text_mm, smallest_text_px, smallest_defect_mm or smallest_defect_px to one",
            station.name
        );
        return Err(Exit::Usage.because(anyhow::anyhow!(why)));
    }
    let frame_px = match &arguments.picture {
        Some(picture) => size_of(picture)?,
        None => match known_frame_px(station) {
            Some(known) => known,
            None => ask_camera(station)?,
        },
    };
    let plan = plan_of(&loaded, station);
    let mut looks = Vec::new();
    for recipe in station.recipes() {
        let price =
            |question: &Question, crops: usize| price(plan.as_ref(), recipe, question, crops);
        let found = fitness::judge(recipe, frame_px, &price);
        looks.extend(found.map_err(|why| Exit::Usage.because(why))?);
    }
    print(&looks, &mut io::stdout().lock())?;
    let bad = looks.iter().filter(|look| !look.fits).count();
    if bad > 0 {
        let why = format!("{bad} of {} are too small for the model", looks.len());
        return Err(Exit::Check.because(anyhow::anyhow!(why)));
    }
    Ok(())
}

/// The problems that `check` tells: smallest things that do not fit, and calibrations of another frame.
pub fn warnings(loaded: &Loaded) -> Vec<Problem> {
    let mut problems = Vec::new();
    for station in &loaded.stations {
        problems.extend(other_size(station));
        let Some(frame_px) = known_frame_px(station) else { continue };
        let asked = station.recipes().filter(|recipe| fitness::is_asked(recipe));
        for recipe in asked {
            let price = |question: &Question, crops: usize| price(None, recipe, question, crops);
            // A region that does not lie in the frame is told elsewhere.
            let looks = fitness::judge(recipe, frame_px, &price).unwrap_or_default();
            problems
                .extend(looks.iter().filter(|look| !look.fits).map(|look| warning(station, look)));
        }
    }
    problems
}

fn warning(station: &Station, look: &Look) -> Problem {
    let title = format!(
        "station \"{}\", question \"{}\": {} is too small for the model in region \"{}\"{}",
        station.name,
        look.question,
        thing(look.kind),
        look.region,
        look.size.map_or_else(String::new, |size| format!(" ({})", figures(look.kind, size)))
    );
    let more = "inspectd calibrate fitness tells more";
    let remedy = look.remedies.first().map_or(more.to_owned(), |first| format!("{first}; {more}"));
    Problem::warning(title).remedy(remedy)
}

/// A calibration for frames that a folder's pictures do not have. What other cameras bring is seen when
/// they run: a frame of another size goes to review.
fn other_size(station: &Station) -> Option<Problem> {
    let wanted = station.calibration.as_ref()?.calibration.frame_px;
    let found = first_picture(&station.camera.source)?;
    (found != wanted).then(|| {
        let title = format!(
            "station \"{}\": the calibration is for frames of {}x{} px, and the camera's have {}x{}",
            station.name, wanted[0], wanted[1], found[0], found[1]
        );
        let remedy = "set the camera's resolution back, or calibrate with this one";
        Problem::error(title).remedy(remedy)
    })
}

/// The size of the camera's frames, as far as files say it.
fn known_frame_px(station: &Station) -> Option<[u32; 2]> {
    let in_pixels = |area: &Area| matches!(area, Area::Pixels(_));
    let all_in_pixels = || {
        let mut regions = station.recipes().flat_map(|recipe| &recipe.regions);
        regions.all(|region| in_pixels(&region.area)).then_some(ANY_FRAME)
    };
    let camera = &station.camera;
    let calibrated = station.calibration.as_ref().map(|used| used.calibration.frame_px);
    calibrated
        .or(camera.width_px.zip(camera.height_px).map(|(width, height)| [width, height]))
        .or_else(|| first_picture(&camera.source))
        .or_else(all_in_pixels)
}

fn first_picture(source: &Source) -> Option<[u32; 2]> {
    let Source::Folder { path, .. } = source else { return None };
    let first = detect::pictures(path).ok()?.into_iter().next()?;
    detect::read(&first, None).ok().map(|picture| [picture.width, picture.height])
}

fn size_of(picture: &Path) -> anyhow::Result<[u32; 2]> {
    detect::read(picture, None).map(|picture| [picture.width, picture.height]).map_err(exit_of)
}

fn ask_camera(station: &Station) -> anyhow::Result<[u32; 2]> {
    let fail = |why: String| Exit::Camera.because(anyhow::anyhow!(why));
    let camera = camera::open(&station.name, &station.camera, Arc::new(SystemClock))
        .map_err(|why| Exit::Camera.because(why))?;
    match camera.next(CAMERA_LIMIT) {
        Delivery::Frame(frame) => Ok([frame.picture.width(), frame.picture.height()]),
        Delivery::Lost { reason, .. } => Err(fail(reason)),
        _ => Err(fail(format!(
            "the camera of \"{}\" brought no frame within {} s; give a picture of it with --picture",
            station.name,
            CAMERA_LIMIT.as_secs()
        ))),
    }
}

/// What the model costs here; `None`: it is not there, or cannot be used.
fn plan_of(loaded: &Loaded, station: &Station) -> Option<Plan> {
    let stations = [Arc::new(station.clone())];
    plan::make(&loaded.settings, &stations, "").ok()
}

fn price(
    plan: Option<&Plan>,
    station: &Station,
    question: &Question,
    num_crops: usize,
) -> Option<Price> {
    let tokens = fitness::picture_tokens(question, num_crops);
    let part_s = plan.and_then(|plan| {
        let mut changed = station.clone();
        let asked = changed.questions.iter_mut().find(|asked| asked.name == question.name)?;
        asked.num_crops = num_crops;
        let cost = cost::of(plan.card.tokenizer.as_ref()?, &changed).ok()?;
        Some(plan.speed.part(&cost).usual_s)
    });
    Some(Price { tokens, part_s })
}

fn print(looks: &[Look], out: &mut dyn Write) -> io::Result<()> {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_BORDERS_ONLY);
    table.set_header([
        "question",
        "region",
        "px",
        "crops",
        "scale",
        "smallest",
        "in the frame",
        "in the cut",
        "for the model",
        "verdict",
    ]);
    for look in looks {
        let [width, height] = look.region_px;
        let px = |px: Option<f64>| px.map_or("?".to_owned(), |px| format!("{px:.1} px"));
        table.add_row([
            look.question.clone(),
            look.region.clone(),
            format!("{width}x{height}"),
            look.num_crops.to_string(),
            format!("{:.3}", look.scale),
            thing(look.kind).to_owned(),
            px(look.size.map(|size| size.frame_px)),
            px(look.size.map(|size| size.detail_px)),
            look.size.map_or("?".to_owned(), |size| figures(look.kind, size)),
            if look.fits { "fits" } else { "too small" }.to_owned(),
        ]);
    }
    writeln!(out, "{table}")?;
    for look in looks.iter().filter(|look| !look.fits) {
        writeln!(out, "{}, {}, {}:", look.question, look.region, thing(look.kind))?;
        for remedy in &look.remedies {
            writeln!(out, "  {remedy}")?;
        }
    }
    Ok(())
}

fn figures(kind: Kind, size: fitness::Size) -> String {
    match kind {
        Kind::Text => format!("{:.1} px of {:.0}", size.model_px, fitness::TEXT_MIN_PX),
        Kind::Defect => {
            format!("{:.1} % of {:.0}", size.share_percent, fitness::DEFECT_MIN_PERCENT)
        }
    }
}

fn thing(kind: Kind) -> &'static str {
    match kind {
        Kind::Text => "text",
        Kind::Defect => "defect",
    }
}
