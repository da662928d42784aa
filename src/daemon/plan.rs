//! Before anything is started: does the model fit into memory, and does it keep up with the lines?
//!
//! Only the model's headers are read. `run` refuses by it, `check` and `model info` print it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::DaemonError;
use crate::capacity::estimate::Seconds;
use crate::capacity::fit::{self, Gravity};
use crate::capacity::footprint::{Footprint, mib};
use crate::capacity::kept::{Entry, Key};
use crate::capacity::{Demand, Kept, Machine, Remark, Speed, StationCost, cost};
use crate::config::{self, Settings};
use crate::station::Station;
use crate::telemetry;
use crate::vlm::{CacheForm, CacheWish, EngineOptions, LoadError, ModelCard, device};

/// What a configuration means for this machine.
pub struct Plan {
    /// What the model is.
    pub card: ModelCard,
    /// What the machine is.
    pub machine: Machine,
    /// Positions that the cache may come to hold.
    pub context: usize,
    /// What keys and values are kept in.
    pub cache: CacheForm,
    /// Memory that the model would take.
    pub footprint: Footprint,
    /// Memory that it may take; `None` if the system does not say and the configuration neither.
    pub budget_bytes: Option<u64>,
    /// How fast it computes.
    pub speed: Speed,
    /// The measurement that the speed is from, if it is from one.
    pub measured: Option<Entry>,
    /// What each station costs.
    pub stations: Vec<Planned>,
    /// What is to be said, the gravest first.
    pub remarks: Vec<Remark>,
}

/// One station's part of a plan.
pub struct Planned {
    /// Its questions in tokens.
    pub cost: StationCost,
    /// Seconds for one part.
    pub part: Seconds,
    /// What it asks of the model, if the configuration says how many parts pass.
    pub demand: Option<Demand>,
}

/// What frames, footage that is being written and a camera's decoder are allowed of memory, for each station, in
/// bytes: forty frames of two million pixels as they come.
pub const STATION_BYTES: u64 = 256 << 20;

/// What the program, its record and its connections are allowed beside the model, in bytes.
pub const REST_BYTES: u64 = 256 << 20;

/// What the whole service should be allowed, in bytes, with a model that takes `model_bytes`.
pub fn memory_limit_bytes(model_bytes: u64, stations: &[Station]) -> u64 {
    let clips = |station: &Station| station.clips.as_ref().map_or(0, |clips| clips.memory_bytes);
    let of_stations = stations.iter().map(|station| STATION_BYTES + clips(station));
    of_stations.fold(model_bytes.saturating_add(model_bytes / 4 + REST_BYTES), u64::saturating_add)
}

/// The file of measurements that belongs to these settings: beside the audit log.
pub fn kept(settings: &Settings) -> Kept {
    Kept::in_dir(settings.store.path.parent().unwrap_or(Path::new(".")))
}

/// What a measurement of these settings' model is found by. `model` is its digest, where it is known.
pub fn key(card: &ModelCard, settings: &config::Model, machine: &Machine, model: &str) -> Key {
    Key {
        model: model.to_owned(),
        stamp: card.stamp(),
        cpu: machine.cpu.clone(),
        threads: settings.threads,
        precision: settings.precision.as_str().to_owned(),
    }
}

/// Makes the plan for `settings` and `stations`. `model` is the model's digest, where it is known.
///
/// # Errors
/// A model whose small files or headers cannot be used.
pub fn make(
    settings: &Settings,
    stations: &[Arc<Station>],
    model: &str,
) -> Result<Plan, LoadError> {
    let card = ModelCard::open(&settings.model.path)?;
    let machine = Machine::here();
    let measured = kept(settings).find(&key(&card, &settings.model, &machine, model));
    let options = settings.model.engine_options(&device::find(settings.model.device)?);
    let speed = match &measured {
        Some(entry) => entry.measurement.speed,
        None => Speed::estimated(&card, options.dtype, settings.model.threads.min(machine.cores)),
    };
    let mut remarks = Vec::new();
    let stations: Vec<Arc<Station>> =
        stations.iter().flat_map(|station| station.recipes()).cloned().map(Arc::new).collect();
    let costs = costs(&card, &stations, &mut remarks);
    let stations: Vec<Planned> = stations
        .iter()
        .zip(costs)
        .filter_map(|(station, cost)| Some(planned(&card, station, cost?, &speed)))
        .collect();
    let costs: Vec<StationCost> = stations.iter().map(|planned| planned.cost.clone()).collect();
    let context = context(&card, settings.model.max_context, &costs);
    let cache = card.cache_form(&options);
    let budget_bytes = settings.model.memory_budget_bytes;
    let (footprint, of_memory) = judge_memory(&card, &options, context, budget_bytes, &machine);
    let budget_bytes = budget_bytes.or(machine.usable_bytes());
    remarks.extend(of_memory);
    let demands = demands(&stations);
    remarks.extend(fit::judge(&demands, speed.origin));
    remarks.sort_by_key(|remark| std::cmp::Reverse(remark.gravity));
    Ok(Plan {
        card,
        machine,
        context,
        cache,
        footprint,
        budget_bytes,
        speed,
        measured,
        stations,
        remarks,
    })
}

impl Plan {
    /// What is left of the shortest deadline of `stations` after the longest look at a part: so long
    /// a first record may wait for something. Nothing where a station's cost is not known.
    pub fn spare(&self, stations: &[Arc<Station>]) -> Duration {
        let left = |station: &Arc<Station>| {
            let planned = self.stations.iter().find(|one| one.cost.station == station.name)?;
            let part = Duration::try_from_secs_f64(planned.part.longest_s).ok()?;
            station.deadline.checked_sub(part)
        };
        stations.iter().map(|one| left(one).unwrap_or_default()).min().unwrap_or_default()
    }
}

/// Refuses a model that does not fit into memory, before it is loaded: the one at `path`, loaded
/// with `options`, to be asked what `stations` ask, in `budget_bytes` or in what the machine has.
///
/// # Errors
/// [`DaemonError::Model`] with the figures, or for files that cannot be used;
/// [`DaemonError::Capacity`] for a budget beyond the machine.
pub fn fits(
    path: &Path,
    options: &EngineOptions,
    budget_bytes: Option<u64>,
    stations: &[Arc<Station>],
) -> Result<(), DaemonError> {
    let card = ModelCard::open(path).map_err(DaemonError::model)?;
    let costs: Vec<StationCost> =
        costs(&card, stations, &mut Vec::new()).into_iter().flatten().collect();
    let context = context(&card, options.max_context, &costs);
    let (_, remarks) = judge_memory(&card, options, context, budget_bytes, &Machine::here());
    remarks.iter().try_for_each(refuse)
}

fn refuse(remark: &Remark) -> Result<(), DaemonError> {
    let words = format!("{}; {}", remark.text, remark.remedy);
    match remark.gravity {
        Gravity::ModelRefused => Err(DaemonError::Model(words)),
        Gravity::Refusal => Err(DaemonError::Capacity(words)),
        Gravity::Warning => Ok(()),
    }
}

/// The memory that a model would take, and what is to be said of it.
fn judge_memory(
    card: &ModelCard,
    options: &EngineOptions,
    context: usize,
    budget_bytes: Option<u64>,
    machine: &Machine,
) -> (Footprint, Vec<Remark>) {
    let footprint = Footprint::of(card, options, context);
    let allowed = budget_bytes.or(machine.usable_bytes());
    let budget = judge_budget(budget_bytes, machine);
    let compact = EngineOptions { cache: CacheWish::Compact, ..options.clone() };
    let smaller = compact.check().is_ok().then(|| Footprint::of(card, &compact, context));
    let remarks = judge_footprint(&footprint, smaller, context, allowed).into_iter().chain(budget);
    (footprint, remarks.collect())
}

/// Makes the plan and refuses what cannot work; what is only to be known goes to the log.
///
/// # Errors
/// [`DaemonError::Capacity`] for a line or a budget beyond this machine, [`DaemonError::Model`] for
/// a model beyond the budget.
pub fn admit(settings: &Settings, stations: &[Arc<Station>]) -> Result<Plan, DaemonError> {
    let plan = make(settings, stations, "").map_err(DaemonError::model)?;
    for remark in &plan.remarks {
        refuse(remark)?;
        telemetry::capacity(&remark.text, &remark.remedy);
    }
    Ok(plan)
}

/// The stations' costs; a question that has none is remarked on by whoever prepares it.
fn costs(
    card: &ModelCard,
    stations: &[Arc<Station>],
    remarks: &mut Vec<Remark>,
) -> Vec<Option<StationCost>> {
    let one = |station: &Arc<Station>| match card.tokenizer.as_ref() {
        None => None,
        Some(tokenizer) => match cost::of(tokenizer, station) {
            Ok(cost) => Some(cost),
            Err(why) => {
                let remedy = "correct the question's texts".to_owned();
                let gravity = Gravity::Warning;
                remarks.push(Remark { gravity, text: why.to_string(), remedy });
                None
            }
        },
    };
    stations.iter().map(one).collect()
}

fn planned(card: &ModelCard, station: &Station, cost: StationCost, speed: &Speed) -> Planned {
    let part = speed.part(&cost);
    // A model that only stands in for another one need not keep up with the line.
    let rate = station.parts_per_minute.filter(|_| station.engine.is_none());
    let demand = rate.map(|parts_per_minute| Demand {
        station: station.name.clone(),
        parts_per_minute,
        inspect_every: station.inspect_every,
        part,
        part_with_one_crop: with_one_crop(card, station, speed),
    });
    Planned { cost, part, demand }
}

/// What each station asks of the model, with the slowest of its recipes: one is active at a time.
fn demands(stations: &[Planned]) -> Vec<Demand> {
    let mut demands: Vec<Demand> = Vec::new();
    for demand in stations.iter().filter_map(|planned| planned.demand.clone()) {
        match demands.iter_mut().find(|known| known.station == demand.station) {
            Some(known) if known.part.usual_s >= demand.part.usual_s => {}
            Some(known) => *known = demand,
            None => demands.push(demand),
        }
    }
    demands
}

/// Seconds a part if each picture were cut into one tile only; `None` if each is already.
fn with_one_crop(card: &ModelCard, station: &Station, speed: &Speed) -> Option<Seconds> {
    let mut less = station.clone();
    less.questions.iter_mut().for_each(|question| question.num_crops = 1);
    let has_more = station.questions.iter().any(|question| question.num_crops > 1);
    let cost = cost::of(card.tokenizer.as_ref()?, &less).ok()?;
    has_more.then(|| speed.part(&cost))
}

/// Positions that the cache may come to hold: what the configuration allows, or else what the
/// longest question needs, in the steps that the cache grows by.
fn context(card: &ModelCard, allowed: Option<usize>, costs: &[StationCost]) -> usize {
    let made_for = card.config.decoder.max_positions;
    let needed = match cost::longest_positions(costs) {
        0 => card.config.rope.original_positions,
        needed => needed.next_multiple_of(256),
    };
    allowed.unwrap_or(needed).min(made_for)
}

fn judge_budget(budget_bytes: Option<u64>, machine: &Machine) -> Option<Remark> {
    let (budget, usable) = (budget_bytes?, machine.usable_bytes()?);
    (budget > usable).then(|| Remark {
        gravity: Gravity::Refusal,
        text: format!(
            "`memory_budget_mib` in [model] is {}, {} is {}",
            mib(budget),
            machine.usable_word(),
            mib(usable)
        ),
        remedy: format!(
            "write at most  memory_budget_mib = {}, less what cameras and system need, or leave it \
             out",
            usable >> 20
        ),
    })
}

/// `smaller`: what it would take with a compact cache, if that can be had.
fn judge_footprint(
    footprint: &Footprint,
    smaller: Option<Footprint>,
    context: usize,
    budget_bytes: Option<u64>,
) -> Option<Remark> {
    let (total, budget) = (footprint.total_bytes(), budget_bytes?);
    let compact = match smaller.map(|smaller| smaller.total_bytes()) {
        Some(bytes) if bytes <= budget => {
            format!(
                "write  cache = \"compact\" in [model], with which it needs {}; or ",
                mib(bytes)
            )
        }
        Some(bytes) if bytes < total => {
            format!("write  cache = \"compact\" in [model] (it then needs {}), and ", mib(bytes))
        }
        _ => String::new(),
    };
    (total > budget).then(|| Remark {
        gravity: Gravity::ModelRefused,
        text: format!(
            "the model needs {} of memory ({}; {context} positions) and may take {}",
            mib(total),
            footprint.in_words(),
            mib(budget)
        ),
        remedy: format!(
            "{compact}take a smaller quantisation of it, `precision` = \"bf16\", a smaller \
             `max_context` in [model], or a machine with more memory"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn footprint(kv_cache_mib: u64) -> Footprint {
        Footprint {
            weights_bytes: 2500 << 20,
            kv_cache_bytes: kv_cache_mib << 20,
            ..Footprint::default()
        }
    }

    #[test]
    fn a_compact_cache_is_offered_where_it_helps() {
        let remedy = |smaller, budget_mib: u64| {
            judge_footprint(&footprint(1536), smaller, 4096, Some(budget_mib << 20))
                .map(|remark| remark.remedy)
        };
        assert_eq!(remedy(Some(footprint(648)), 4096), None);
        let helps = remedy(Some(footprint(648)), 3200).expect("refused");
        assert!(helps.starts_with("write  cache = \"compact\" in [model], with which"), "{helps}");
        assert!(helps.contains("3148 MiB"), "{helps}");
        let part = remedy(Some(footprint(648)), 2600).expect("refused");
        assert!(part.contains("(it then needs 3148 MiB), and take"), "{part}");
        for none in [None, Some(footprint(1536))] {
            assert!(!remedy(none, 3200).expect("refused").contains("compact"));
        }
    }
}
