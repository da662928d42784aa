//! `inspectd.toml`, table by table, into [`Settings`].

use std::path::{Path, PathBuf};

use super::broker;
use super::engines;
use super::modbus;
use super::postgres;
use super::reader::Reader;
use super::settings::{Level, Log, Model, Precision, Settings};
use super::sparkplug;
use super::traces;
use super::web;
use crate::store::StoreOptions;
use crate::store::retention::{Rules, UnderPressure};
use crate::store::sign::SignKey;
use crate::telemetry::Format;
use crate::upstream::UpstreamOptions;
use crate::vlm::CacheWish;
use crate::vlm::config::LongContext;
use crate::vlm::device::DeviceWish;

/// Where records go unless `[database]` says otherwise: the state folder of the service.
const STATE_DIR: &str = "/var/lib/inspectd";

/// Longest time for which pictures may be kept by a number, in days: a hundred years.
const DAYS_MAX: i64 = 36_500;

/// Reads the whole main file. `None` if something that cannot be defaulted is missing; the reader
/// has then noted why. The broker's list of stations is filled in by the caller.
pub fn read(mut top: Reader<'_>) -> Option<Settings> {
    let mut device = top.table("device");
    let name = device.own_name("name");
    let name = device.required("name", name, "name = \"line-3\"");
    device.finish();
    let engines = engines::read(&mut top);
    let model = top.table("model");
    // Where engines elsewhere answer everything no model is needed: the stations say so.
    let model = match model.is_present() || !top.has("engines") {
        true => read_model(model),
        false => Some(Model::none()),
    };
    let mut store = read_database(top.table("database"));
    if let Some(name) = &name {
        store.device.clone_from(name.get_ref());
    }
    store.retention = read_retention(top.table("retention"));
    let broker = top.table("broker");
    let broker = match (broker.is_present(), &name) {
        (true, name) => {
            let name = name.as_ref().map_or("unnamed", |name| name.get_ref().as_str());
            broker::read(broker, name).map(Some)
        }
        (false, _) => Some(None),
    };
    let sparkplug = top.table("sparkplug");
    let node = name.as_ref().map_or("unnamed", |name| name.get_ref().as_str());
    let has_broker = !matches!(broker, Some(None));
    let sparkplug = sparkplug::read(sparkplug, node, &store.path, has_broker);
    let postgres = postgres::read(top.table("postgres"), node, &store.path);
    let modbus = modbus::read(top.table("modbus"));
    let web = web::read(top.table("web"));
    let traces = traces::read(top.table("traces"));
    let log = read_log(top.table("log"));
    top.finish();
    let device = name?.into_inner();
    Some(Settings {
        device,
        model: model?,
        engines,
        store,
        broker: broker?,
        sparkplug,
        postgres,
        modbus,
        web,
        traces,
        log,
    })
}

fn read_model(mut table: Reader<'_>) -> Option<Model> {
    let path = table.path("path");
    let path = table.required("path", path, "path = \"/usr/share/inspectd/model\"");
    if let Some(path) = path.as_ref().filter(|path| !path.get_ref().exists()) {
        let title = format!("there is no model {} on this machine", path.get_ref().display());
        table.warn(
            path.span(),
            title,
            "put the model's folder or GGUF file there before the service starts",
        );
    }
    let here = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = table.whole("threads", 1..=256).map_or(here, |n| n.into_inner() as usize);
    let device = read_device(&mut table);
    let precision =
        table.one_of("precision", &Precision::ALL.map(|precision| (precision.as_str(), precision)));
    let precision = precision.map(|p| p.into_inner()).unwrap_or_default();
    let cache = read_cache(&mut table, precision);
    let long_context = table.one_of(
        "long_context",
        &[("reprefill", LongContext::Reprefill), ("keep", LongContext::Keep)],
    );
    let max_context = table.whole("max_context", 256..=131_072);
    let cache_mib = table.whole("picture_cache_mib", 0..=4096).map_or(64, |n| n.into_inner());
    let adapters = table.whole("adapters_max_mib", 0..=16_384).map_or(256, |n| n.into_inner());
    let budget_mib = table.whole("memory_budget_mib", 64..=16_777_216);
    table.finish();
    Some(Model {
        path: path?.into_inner(),
        device,
        threads,
        precision,
        cache,
        long_context: long_context.map(|p| p.into_inner()).unwrap_or_default(),
        signed_digest: None,
        max_context: max_context.map(|n| n.into_inner() as usize),
        picture_cache_bytes: (cache_mib as usize) << 20,
        adapters_max_bytes: (adapters as usize) << 20,
        memory_budget_bytes: budget_mib.map(|mib| (mib.into_inner() as u64) << 20),
    })
}

/// A GPU that this program or machine has not may be on the machine that the file is for, so it is
/// a warning here and an error at the start.
fn read_device(table: &mut Reader<'_>) -> DeviceWish {
    let Some(text) = table.text("device", 32) else { return DeviceWish::default() };
    let wish = match text.get_ref().parse::<DeviceWish>() {
        Ok(wish) => wish,
        Err(_) => {
            let title = format!("`device` cannot be \"{}\"", text.get_ref());
            table.error(text.span(), title, "choose \"auto\", \"cpu\", \"cuda\" or \"cuda:N\"");
            return DeviceWish::default();
        }
    };
    if matches!(wish, DeviceWish::Cuda(_)) && !cfg!(feature = "cuda") {
        let title = "this program has no CUDA and will not start with this file";
        table.warn(text.span(), title, "use inspectd-cuda on the device, or choose \"cpu\"");
    }
    wish
}

/// The compact form is for the processor and f32. Which device `auto` means is known at the start
/// only, and told there.
fn read_cache(table: &mut Reader<'_>, precision: Precision) -> CacheWish {
    let words = CacheWish::ALL.map(|cache| (cache.as_str(), cache));
    let Some(cache) = table.one_of("cache", &words) else { return CacheWish::default() };
    if *cache.get_ref() == CacheWish::Compact
        && matches!(precision, Precision::Bf16 | Precision::F16)
    {
        let title = "`cache` = \"compact\" needs numbers in f32";
        let remedy = "write  precision = \"f32\", or another `cache`";
        table.error(cache.span(), title, remedy);
    }
    cache.into_inner()
}

/// The database alone.
pub fn database(mut top: Reader<'_>) -> PathBuf {
    read_database(top.table("database")).path
}

/// The database, and where it is copied to.
pub fn postgres(mut top: Reader<'_>) -> (PathBuf, Option<UpstreamOptions>) {
    let log = read_database(top.table("database")).path;
    let name = top.table("device").own_name("name");
    let name = name.map_or_else(|| "unnamed".to_owned(), |name| name.into_inner());
    let options = postgres::read(top.table("postgres"), &name, &log);
    (log, options)
}

fn read_database(mut table: Reader<'_>) -> StoreOptions {
    let mut options = StoreOptions::in_dir(Path::new(STATE_DIR));
    if let Some(path) = table.path("path") {
        // The evidence belongs beside its records, wherever these go.
        options.evidence_dir = path.get_ref().with_file_name("evidence");
        options.path = path.into_inner();
    }
    if let Some(folder) = table.path("evidence") {
        options.evidence_dir = folder.into_inner();
    }
    if let Some(mib) = table.whole("quick_check_max_mib", 0..=1_048_576) {
        options.quick_check_max_bytes = (mib.into_inner() as u64) << 20;
    }
    if let Some(file) = table.path("sign_key") {
        if let Err(why) = SignKey::read(file.get_ref()) {
            let remedy = "make one with `inspectd audit key --out FILE`, or remove the line";
            table.error(file.span(), why.to_string(), remedy);
        }
        options.sign_key = Some(file.into_inner());
    }
    if let Some(mib) = table.whole("reserve_mib", 0..=65_536) {
        options.reserve_bytes = (mib.into_inner() as u64) << 20;
    }
    table.finish();
    options
}

fn read_retention(mut table: Reader<'_>) -> Rules {
    let mut days = |key| table.whole(key, 0..=DAYS_MAX).map(|days| days.into_inner() as u32);
    let mut rules = Rules {
        pass_days: days("pass_days"),
        not_sampled_days: days("not_sampled_days"),
        missed_days: days("missed_days"),
        fail_days: days("fail_days"),
        review_days: days("review_days"),
        ..Rules::default()
    };
    let mut bytes = |key| table.whole(key, 1..=1 << 30).map(|mib| (mib.into_inner() as u64) << 20);
    rules.min_free_bytes = bytes("min_free_mib");
    rules.max_evidence_bytes = bytes("max_evidence_mib");
    let words = [
        ("passes", UnderPressure::Passes),
        ("not_sampled", UnderPressure::NotSampled),
        ("all", UnderPressure::All),
    ];
    if let Some(word) = table.one_of("under_pressure", &words) {
        if rules.min_free_bytes.is_none() && rules.max_evidence_bytes.is_none() {
            let remedy = "add  min_free_mib = 2048  or  max_evidence_mib = 20000";
            let title =
                "`under_pressure` says what goes when space is short, and nothing says when";
            table.warn(word.span(), title, remedy);
        }
        rules.under_pressure = word.into_inner();
    }
    table.finish();
    rules
}

fn read_log(mut table: Reader<'_>) -> Log {
    let levels = [Level::Error, Level::Warn, Level::Info, Level::Debug, Level::Trace];
    let levels: Vec<(&str, Level)> = levels.iter().map(|level| (level.as_str(), *level)).collect();
    let level = table.one_of("level", &levels);
    let format = table.one_of(
        "format",
        &[
            ("auto", Format::Auto),
            ("text", Format::Human),
            ("json", Format::Json),
            ("journal", Format::Journal),
        ],
    );
    table.finish();
    Log {
        level: level.map(|level| level.into_inner()).unwrap_or_default(),
        format: format.map(|format| format.into_inner()).unwrap_or_default(),
    }
}
