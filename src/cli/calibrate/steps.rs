//! The steps that measure and write.

use std::path::{Path, PathBuf};

use super::{
    FlatArguments, LensArguments, Place, PlaneArguments, ReferenceArguments, ShowArguments, exit_of,
};
use crate::calibration::align::Fiducial;
use crate::calibration::file::{self, Alignment, Calibration, MeasuredFlat, MeasuredLens};
use crate::calibration::flat::{self, Sheet};
use crate::calibration::solve::{self, View};
use crate::calibration::{CalibrationError, InUse, detect, plane};
use crate::cli::Exit;
use crate::frame::Rgb8;
use crate::provenance;
use crate::quality::{self, SavedReference, SavedReferences};
use crate::roi::{self, Area, RectPx, Region};

impl Place {
    /// The calibration's file; the station's name becomes a file name, so it is looked at first.
    fn path(&self) -> anyhow::Result<PathBuf> {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let station = &self.station;
        if station.is_empty() || station.len() > 64 || !station.chars().all(is_name) {
            let why = format!(
                "\"{station}\" is not the name of a station: letters, digits, - and _ only"
            );
            return Err(Exit::Usage.because(anyhow::anyhow!(why)));
        }
        let beside = || {
            let dir = self.config.path.parent().unwrap_or(Path::new(""));
            dir.join("calibration").join(format!("{station}.toml"))
        };
        Ok(self.file.clone().unwrap_or_else(beside))
    }

    /// What has been measured so far; `None`: nothing.
    fn known(&self, path: &Path) -> anyhow::Result<Option<Calibration>> {
        if !path.exists() {
            return Ok(None);
        }
        let known = Calibration::read(path).map_err(exit_of)?;
        if known.station != self.station {
            let why = format!("{} is the calibration of \"{}\"", path.display(), known.station);
            return Err(Exit::Usage.because(anyhow::anyhow!(why)));
        }
        Ok(Some(known))
    }

    /// What has been measured so far for frames of this size, or the beginning of it.
    fn begin(&self, path: &Path, frame_px: [u32; 2]) -> anyhow::Result<Calibration> {
        match self.known(path)? {
            Some(known) if known.frame_px != frame_px => Err(exit_of(CalibrationError::File {
                path: path.to_owned(),
                problem: format!(
                    "it is for frames of {}x{} px, and these pictures have {}x{}",
                    known.frame_px[0], known.frame_px[1], frame_px[0], frame_px[1]
                ),
                remedy:
                    "take pictures with the station's resolution, or remove the file to begin anew"
                        .to_owned(),
            })),
            Some(known) => Ok(known),
            None => Ok(Calibration::new(&self.station, frame_px)),
        }
    }
}

/// `calibrate lens`.
pub fn lens(arguments: &LensArguments) -> anyhow::Result<()> {
    let path = arguments.place.path()?;
    let mut views = Vec::new();
    let mut frame_px = None;
    for picture in detect::pictures(&arguments.pictures).map_err(exit_of)? {
        let pixels = detect::read(&picture, frame_px).map_err(exit_of)?;
        frame_px = Some([pixels.width, pixels.height]);
        let name = picture.display().to_string();
        match detect::corners(&pixels, &name, arguments.squares.square_mm) {
            Ok(matches) => {
                println!("{name}: {} corners", matches.len());
                views.push(View { name, matches });
            }
            Err(why) => eprintln!("left out: {why}"),
        }
    }
    let frame_px = frame_px.expect("a folder without pictures was refused");
    // Before the work: a file that is not ours must not be found out afterwards.
    let mut calibration = arguments.place.begin(&path, frame_px)?;
    let solved = solve::solve(&views, frame_px, arguments.rms_max_px).map_err(exit_of)?;
    let lens = solved.lens;
    calibration.lens = Some(MeasuredLens {
        measured: now(),
        focal_px: lens.focal_px,
        centre_px: lens.centre_px,
        radial: lens.radial,
        tangential: lens.tangential,
        focal_deviation_px: solved.focal_deviation_px,
        scale_deviation_percent: solved.scale_deviation * 100.0,
        rms_px: solved.rms_px,
        pictures: views.len(),
        corners: views.iter().map(|view| view.matches.len()).sum(),
    });
    if calibration.plane.take().is_some() {
        println!("The plane was measured through the old lens: measure it again.");
    }
    drop_pictures(&mut calibration);
    calibration.write(&path).map_err(exit_of)?;
    let [fx, fy] = lens.focal_px;
    let [dx, dy] = solved.focal_deviation_px;
    println!("focal length   {fx:.2} ± {:.2}, {fy:.2} ± {:.2} px", 2.0 * dx, 2.0 * dy);
    println!("centre         {:.2}, {:.2} px", lens.centre_px[0], lens.centre_px[1]);
    println!("distortion     k1 {:.5}, k2 {:.5}", lens.radial[0], lens.radial[1]);
    println!("reprojection   {:.3} px, {} pictures", solved.rms_px, views.len());
    println!("tilt           {:.0}° between two pictures at most", solved.tilt_degrees);
    told(&arguments.place, &path);
    Ok(())
}

/// `calibrate plane`.
pub fn plane(arguments: &PlaneArguments) -> anyhow::Result<()> {
    let path = arguments.place.path()?;
    let known = arguments.place.known(&path)?;
    let wanted = known.as_ref().map(|known| known.frame_px);
    let pixels = detect::read(&arguments.picture, wanted).map_err(exit_of)?;
    let frame_px = [pixels.width, pixels.height];
    let name = arguments.picture.display().to_string();
    let matches = detect::corners(&pixels, &name, arguments.squares.square_mm).map_err(exit_of)?;
    let mut calibration = arguments.place.begin(&path, frame_px)?;
    let lens = calibration.lens.as_ref().map(MeasuredLens::lens);
    if lens.is_none() {
        println!("The lens has not been measured: what it bends counts as an error of the scale.");
    }
    let share = arguments.square_uncertainty_percent / 100.0;
    if !(0.0..=0.5).contains(&share) {
        let why = "--square-uncertainty-percent must be 0 to 50".to_owned();
        return Err(exit_of(CalibrationError::Asked(why)));
    }
    let deviation =
        calibration.lens.as_ref().map_or(0.0, |lens| lens.scale_deviation_percent / 100.0);
    let lens = lens.as_ref().map(|lens| (lens, deviation));
    let found = plane::measure(&matches, lens, frame_px, share, now()).map_err(exit_of)?;
    println!(
        "scale          {:.4} ± {:.4} px/mm ({:.2} %)",
        found.px_per_mm,
        found.px_per_mm_uncertainty,
        found.px_per_mm_uncertainty / found.px_per_mm * 100.0
    );
    println!("fit            {:.3} px, {} corners", found.rms_px, found.corners);
    println!("tilt           the scale differs by {:.1} % over the frame", found.tilt_percent);
    calibration.plane = Some(found);
    drop_pictures(&mut calibration);
    calibration.write(&path).map_err(exit_of)?;
    told(&arguments.place, &path);
    Ok(())
}

/// `calibrate flat`.
pub fn flat(arguments: &FlatArguments) -> anyhow::Result<()> {
    let path = arguments.place.path()?;
    let known = arguments.place.known(&path)?;
    let mut frame_px = known.as_ref().map(|known| known.frame_px);
    let mut sheets = |folder: &Path| -> anyhow::Result<Vec<Sheet>> {
        let mut all = Vec::new();
        for picture in detect::pictures(folder).map_err(exit_of)? {
            let pixels = detect::read(&picture, frame_px).map_err(exit_of)?;
            frame_px = Some([pixels.width, pixels.height]);
            all.push(Sheet::of(&picture.display().to_string(), &pixels));
        }
        Ok(all)
    };
    let white = sheets(&arguments.pictures)?;
    let dark = arguments.dark.as_deref().map(&mut sheets).transpose()?.unwrap_or_default();
    let found = flat::measure(&white, &dark).map_err(exit_of)?;
    let mut calibration = arguments.place.begin(&path, found.map.frame_px)?;
    let gain_file = format!("{}/gain.png", arguments.place.station);
    let gain_sha256 =
        file::write_picture(&path, &gain_file, &found.map.to_png()).map_err(exit_of)?;
    calibration.flat = Some(MeasuredFlat {
        measured: now(),
        dark: found.dark,
        falloff_percent: found.falloff_percent,
        residual_percent: found.residual_percent,
        pictures: white.len(),
        gain_file,
        gain_sha256,
    });
    drop_pictures(&mut calibration);
    calibration.write(&path).map_err(exit_of)?;
    println!(
        "fall-off       {:.1} % from the brightest to the darkest part",
        found.falloff_percent
    );
    println!("residual       {:.2} % after the correction", found.residual_percent);
    println!("dark           {:?} of 255", found.dark);
    if dark.is_empty() {
        println!("Without dark pictures, no light counts as 0.");
    }
    told(&arguments.place, &path);
    Ok(())
}

/// `calibrate reference`.
pub fn reference(arguments: &ReferenceArguments) -> anyhow::Result<()> {
    let place = &arguments.place;
    let path = place.path()?;
    let loaded = crate::cli::run::load(&place.config)?;
    let station = crate::cli::inspect::pick(&loaded.stations, &place.station)?;
    let known = place.known(&path)?;
    let wanted = known.as_ref().map(|known| known.frame_px);
    let pixels = detect::read(&arguments.picture, wanted).map_err(exit_of)?;
    let mut calibration = place.begin(&path, [pixels.width, pixels.height])?;
    // The old pictures are not looked at: they are replaced.
    drop_pictures(&mut calibration);
    calibration.write(&path).map_err(exit_of)?;
    let fiducial = arguments.fiducial.as_deref().map(fiducial_region).transpose()?;
    let mut regions = station.regions.clone();
    regions.extend(fiducial.iter().map(|(region, _)| region.clone()));
    let in_use = InUse::load(&path, &regions).map_err(exit_of)?;
    for region in &station.regions {
        let saved = save_reference(place, &path, &pixels, region, "region")?;
        calibration.quality.region.push(saved);
    }
    for area in &station.quality.fixed {
        let saved = save_reference(place, &path, &pixels, &area.region, "fixed")?;
        calibration.quality.fixed.push(saved);
    }
    if let Some((region, rect)) = fiducial {
        let mark = roi::part(&pixels, &region, Some(in_use.corrections()));
        let mark = mark.map_err(|why| Exit::Usage.because(why))?;
        let (search_px, likeness_min) = (arguments.search_px, arguments.likeness_min);
        Fiducial::new(&mark, rect, search_px, likeness_min).map_err(exit_of)?;
        let file = format!("{}/fiducial.png", place.station);
        let sha256 = file::write_picture(&path, &file, &file::png(&mark)).map_err(exit_of)?;
        let fiducial_px = [rect.x, rect.y, rect.width, rect.height];
        calibration.alignment =
            Some(Alignment { fiducial_px, search_px, likeness_min, file, sha256 });
    }
    calibration.write(&path).map_err(exit_of)?;
    let (regions, fixed) = (calibration.quality.region.len(), calibration.quality.fixed.len());
    println!("{regions} regions and {fixed} fixed areas kept as they are now");
    println!("The picture gate uses them with  [quality] reference = the same file");
    match &calibration.alignment {
        Some(alignment) => println!(
            "fiducial       {:?}, within {} px, likeness {} or more",
            alignment.fiducial_px, alignment.search_px, alignment.likeness_min
        ),
        None => println!("Without --fiducial, regions do not move with the part."),
    }
    told(place, &path);
    Ok(())
}

/// Measures a region of `pixels`, and keeps it with its small picture.
fn save_reference(
    place: &Place,
    calibration: &Path,
    pixels: &Rgb8,
    region: &Region,
    kind: &str,
) -> anyhow::Result<SavedReference> {
    let rect = region.rect_in(pixels.width, pixels.height);
    let rect = rect.map_err(|why| Exit::Usage.because(why))?;
    let seen = quality::Reference::of_rect(pixels, rect);
    let file = format!("{}/reference-{kind}-{}.png", place.station, region.name);
    let small = file::png(&seen.picture.to_rgb());
    let sha256 = file::write_picture(calibration, &file, &small).map_err(exit_of)?;
    Ok(seen.saved(&region.name, &file, &sha256))
}

fn fiducial_region(numbers: &[u32]) -> anyhow::Result<(Region, RectPx)> {
    let [x, y, width, height] = *numbers else {
        let why = "--fiducial needs four numbers: x,y,width,height";
        return Err(Exit::Usage.because(anyhow::anyhow!(why)));
    };
    let rect = RectPx { x, y, width, height };
    Ok((Region { name: "the fiducial".to_owned(), area: Area::Pixels(rect) }, rect))
}

/// `calibrate show`.
pub fn show(arguments: &ShowArguments) -> anyhow::Result<()> {
    let path = arguments.place.path()?;
    let in_use = InUse::load(&path, &[]).map_err(exit_of)?;
    let frame_px = in_use.calibration.frame_px;
    let pixels = detect::read(&arguments.picture, Some(frame_px)).map_err(exit_of)?;
    let corrected = in_use.whole(&pixels).map_err(exit_of)?;
    provenance::write_whole(&arguments.out, &file::png(&corrected))
        .map_err(|why| Exit::Usage.because(why))?;
    match in_use.align(&pixels) {
        None => {}
        Some(Ok(found)) => println!(
            "the part lies {:.1} px to the right and {:.1} px below its place (likeness {:.2})",
            found.x, found.y, found.likeness
        ),
        Some(Err(why)) => println!("{why}"),
    }
    println!("{}: draw regions on this", arguments.out.display());
    Ok(())
}

/// Pictures that were cut through what has changed.
fn drop_pictures(calibration: &mut Calibration) {
    if calibration.alignment.is_some() || calibration.has_references() {
        println!(
            "The reference pictures were cut as the frame was corrected before: make them again."
        );
    }
    calibration.alignment = None;
    calibration.quality = SavedReferences::default();
}

fn told(place: &Place, path: &Path) {
    println!("written: {}", path.display());
    println!("The station uses it with  calibration = \"../calibration/{}.toml\"", place.station);
}

/// Now, in whole seconds.
fn now() -> jiff::Timestamp {
    let now = jiff::Timestamp::now();
    jiff::Timestamp::from_second(now.as_second()).unwrap_or(now)
}
