//! Configuration: from files that people write to what the program relies on.
//!
//! ```text
//! file ─text, TOML tree→ reader (notes every problem) → main_file, station/* → Settings, Station
//!                                       └→ report: file, line, excerpt, remedy
//! ```
//!
//! `inspectd.toml` holds what the device is; the folder `stations` beside it holds one file for
//! each station. [`load`] reads all of them and reports everything that is wrong at once, as the
//! person who corrects it may stand at a line that stands still. Nothing is ever written back.
//!
//! Relative paths are relative to the file that names them.

mod backoff;
mod broker;
pub mod check;
mod engines;
mod file;
mod keys;
mod main_file;
mod modbus;
mod postgres;
mod reader;
mod report;
mod secret;
mod settings;
mod signed;
mod sparkplug;
mod station;
mod traces;
mod web;
mod words;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use toml::de::DeTable;

pub use file::{FILE_MAX_BYTES, ReadFile, STATIONS_MAX};
pub use keys::{Key, keys};
pub use report::{Place, Problem, Problems, Severity};
pub use settings::{Level, Log, Model, Precision, Settings};
pub use signed::{LIST_NAME, Signer, list};

use crate::station::Station;
use crate::upstream::UpstreamOptions;
use file::Source;
use reader::{Reader, Sink};

/// The folder of the station files, beside the main file.
const STATIONS_DIR: &str = "stations";

/// A configuration without errors.
#[derive(Debug)]
pub struct Loaded {
    /// What `inspectd.toml` says.
    pub settings: Settings,
    /// The stations, at least one, in the order of their files' names.
    pub stations: Vec<Station>,
    /// What a person should know, though it runs.
    pub warnings: Problems,
    /// Every file that it is made of, as it was read.
    pub files: Vec<ReadFile>,
}

/// What reading has brought so far.
#[derive(Debug, Default)]
struct Gathered {
    problems: Vec<Problem>,
    files: Vec<ReadFile>,
}

impl Gathered {
    fn add(&mut self, sink: Sink) {
        let (problems, files) = sink.into_sorted();
        self.problems.extend(problems);
        self.files.extend(files);
    }
}

/// Reads the main file at `path` and the station files beside it. The error holds every problem of
/// every file.
pub fn load(path: &Path) -> Result<Loaded, Problems> {
    let mut gathered = Gathered::default();
    let main = match Source::read(path) {
        Ok(source) => Arc::new(source),
        // Without it, where the stations lie is only a guess.
        Err(problem) => return Err(Problems::new(vec![problem])),
    };
    gathered.files.push(main.read_file());
    let settings = read_main(&main, &mut gathered);
    let folder = path.parent().unwrap_or(Path::new("")).join(STATIONS_DIR);
    let files = file::station_files(&folder).unwrap_or_else(|problem| {
        gathered.problems.push(problem);
        vec![]
    });
    let mut engines = Vec::new();
    let stations = read_stations(&files, &main, &mut engines, &mut gathered);
    let Gathered { mut problems, files } = gathered;
    if let Some(settings) = &settings {
        engines::check(settings, &stations, &engines, &mut problems);
    }
    let settings = settings.map(|settings| with_stations(settings, &stations, &mut problems));
    let has_errors = problems.iter().any(|problem| problem.severity() == Severity::Error);
    let problems = Problems::new(problems);
    match settings {
        Some(settings) if !has_errors => {
            Ok(Loaded { settings, stations, warnings: problems, files })
        }
        _ => {
            assert!(has_errors, "whatever is not read has left a problem");
            Err(problems)
        }
    }
}

/// As [`load`]; with a `signer`, only what that one signed.
///
/// # Errors
/// As [`load`], and what is not as it was signed.
pub fn load_signed(path: &Path, signer: Option<&Signer>) -> Result<Loaded, Problems> {
    let mut loaded = load(path)?;
    if let Some(signer) = signer {
        signer.prove(&mut loaded, path)?;
    }
    Ok(loaded)
}

/// Where the main file at `path` puts the database, whatever else is wrong with it.
///
/// # Errors
/// A file that cannot be read, or is no TOML.
pub fn database_of(path: &Path) -> Result<PathBuf, Problems> {
    let source = Source::read(path).map_err(|problem| Problems::new(vec![problem]))?;
    let (source, mut problems) = (Arc::new(source), Vec::new());
    let tree = read_tree(&source, &mut problems).ok_or_else(|| Problems::new(problems))?;
    let sink = Sink::default();
    Ok(main_file::database(Reader::top(&source, &tree, &sink)))
}

/// Where the main file at `path` puts the database, and where that is copied to; whatever else is missing
/// in it. `None`: it has no `[postgres]`.
///
/// # Errors
/// A file that cannot be read, or something wrong with the two tables.
pub fn postgres_of(path: &Path) -> Result<(PathBuf, Option<UpstreamOptions>), Problems> {
    let source = Source::read(path).map_err(|problem| Problems::new(vec![problem]))?;
    let (source, mut problems) = (Arc::new(source), Vec::new());
    let tree = read_tree(&source, &mut problems).ok_or_else(|| Problems::new(problems))?;
    let sink = Sink::default();
    let found = main_file::postgres(Reader::top(&source, &tree, &sink));
    let (problems, _) = sink.into_sorted();
    match problems.iter().any(|problem| problem.severity() == Severity::Error) {
        true => Err(Problems::new(problems)),
        false => Ok(found),
    }
}

fn read_main(source: &Arc<Source>, gathered: &mut Gathered) -> Option<Settings> {
    let tree = read_tree(source, &mut gathered.problems)?;
    let sink = Sink::default();
    let settings = main_file::read(Reader::top(source, &tree, &sink));
    gathered.add(sink);
    settings
}

/// Tells the broker's part which stations there are: its status lists them.
fn with_stations(
    mut settings: Settings,
    stations: &[Station],
    problems: &mut Vec<Problem>,
) -> Settings {
    if settings.broker.is_none() {
        for station in stations.iter().filter(|station| station.plc.is_some()) {
            let title =
                format!("station \"{}\" takes commands, and no broker brings any", station.name);
            let remedy =
                "add [broker] to inspectd.toml, or choose another trigger and remove [plc]";
            problems.push(Problem::error(title).remedy(remedy));
        }
    }
    if let Some(broker) = &mut settings.broker {
        let worked = broker.check().is_ok();
        broker.stations = names(stations);
        // What was wrong without the stations has been reported with its line.
        if let (true, Err(why)) = (worked, broker.check()) {
            let remedy = "raise `max_packet_kib` in [broker], or serve fewer stations";
            problems.push(Problem::error(why.to_string()).remedy(remedy));
        }
    }
    modbus::check(settings.modbus.is_some(), stations, problems);
    station::outputs::check(stations, problems);
    if let Some(sparkplug) = &mut settings.sparkplug {
        sparkplug.stations = names(stations);
        if let Err(why) = sparkplug.check() {
            let remedy = "give the station, or the ids in [sparkplug], another name";
            problems.push(Problem::error(why.to_string()).remedy(remedy));
        }
    }
    settings
}

fn names(stations: &[Station]) -> Vec<String> {
    stations.iter().map(|station| station.name.clone()).collect()
}

/// Reads the stations; `engines` is given the engines that they name, and where.
fn read_stations(
    files: &[PathBuf],
    main: &Source,
    engines: &mut Vec<(String, Place)>,
    gathered: &mut Gathered,
) -> Vec<Station> {
    let mut stations = Vec::new();
    let mut names: Vec<(String, Place)> = Vec::new();
    for path in files {
        let Some(source) = read_source(path, gathered) else { continue };
        let Some(tree) = read_tree(&source, &mut gathered.problems) else { continue };
        let sink = Sink::default();
        let read = station::read(Reader::top(&source, &tree, &sink));
        if let Some(name) = read.name {
            let place = Place::new(&source, name.span());
            note_twin(&sink, name.get_ref(), &place, &names);
            names.push((name.into_inner(), place));
        }
        gathered.add(sink);
        let place = |name: toml::Spanned<String>| {
            let place = Place::new(&source, name.span());
            (name.into_inner(), place)
        };
        engines.extend(read.engine.map(place));
        let Some(station) = read.station else { continue };
        let references = read.references.as_deref();
        let texts: Vec<&str> = references.into_iter().chain([source.text(), main.text()]).collect();
        let station = Station { config_digest: digest(&texts), ..station };
        let others = read_recipes(&station, &read.recipes, &texts, gathered);
        stations.push(Station { other_recipes: others, ..station });
    }
    stations
}

/// The file's text; `None`: a problem was noted.
fn read_source(path: &Path, gathered: &mut Gathered) -> Option<Arc<Source>> {
    match Source::read(path) {
        Ok(source) => {
            gathered.files.push(source.read_file());
            Some(Arc::new(source))
        }
        Err(problem) => {
            gathered.problems.push(problem);
            None
        }
    }
}

/// The file's tree; `None`: problems were noted.
fn read_tree<'s>(source: &'s Arc<Source>, problems: &mut Vec<Problem>) -> Option<DeTable<'s>> {
    match file::parse(source) {
        Ok(tree) => Some(tree),
        Err(mut errors) => {
            problems.append(&mut errors);
            None
        }
    }
}

/// The station with each of its other recipes.
fn read_recipes(
    station: &Station,
    files: &[station::recipe::Named],
    around: &[&str],
    gathered: &mut Gathered,
) -> Vec<Station> {
    let mut recipes = Vec::new();
    for named in files {
        let Some(source) = read_source(&named.file, gathered) else { continue };
        let Some(tree) = read_tree(&source, &mut gathered.problems) else { continue };
        let sink = Sink::default();
        let (recipe, references) =
            station::recipe::read(Reader::top(&source, &tree, &sink), station, named.index);
        gathered.add(sink);
        let own = references.as_deref().into_iter().chain([source.text()]);
        let texts: Vec<&str> = own.chain(around.iter().copied()).collect();
        recipes.push(Station { config_digest: digest(&texts), ..recipe });
    }
    recipes
}

/// Two stations of one name would mix their topics and records.
fn note_twin(sink: &Sink, name: &str, place: &Place, names: &[(String, Place)]) {
    let Some((_, first)) = names.iter().find(|(known, _)| known == name) else { return };
    let problem = Problem::error(format!("two stations are named \"{name}\""))
        .at(place.clone())
        .earlier(first.clone(), "the first")
        .remedy("give one of them another name");
    sink.add(problem);
}

/// SHA-256, in hexadecimal, of the bytes of a recipe's file if there is one, of the station's file and
/// of the main file, one after the other: what `cat stations/x.toml inspectd.toml | sha256sum` prints.
/// A station file names its camera and trigger, which a recipe file cannot, and a main file its device:
/// so no other row of good files with another meaning joins to the same bytes.
/// A file of references stands before the file that names it.
fn digest(texts: &[&str]) -> String {
    let mut hash = Sha256::new();
    texts.iter().for_each(|text| hash.update(text.as_bytes()));
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
