//! Loads the model that the settings name.

use std::sync::Arc;

use super::{DaemonError, plan};
use crate::config::Settings;
use crate::inspector::Decider;
use crate::station::Station;
use crate::telemetry;
use crate::vlm::{Engine, device};

/// A loaded model, and what records say of it.
pub struct Loaded {
    /// The model.
    pub engine: Arc<Engine>,
    /// Which it is, and where it computes.
    pub decider: Decider,
}

/// As [`load_engine`], after a look at whether the model fits into memory with the questions of
/// `stations`.
///
/// # Errors
/// As [`plan::fits`] and [`load_engine`].
pub fn load_within_memory(
    settings: &Settings,
    stations: &[Arc<Station>],
) -> Result<Loaded, DaemonError> {
    let model = &settings.model;
    let placement = device::find(model.device).map_err(DaemonError::model)?;
    let options = model.engine_options(&placement);
    plan::fits(&model.path, &options, model.memory_budget_bytes, stations)?;
    load_engine(settings)
}

/// Loads the model with the settings' device, precision and bounds. The threads it computes in are bounded
/// for the whole process, by the first call.
pub fn load_engine(settings: &Settings) -> Result<Loaded, DaemonError> {
    use_threads(settings.model.threads);
    let placement = device::find(settings.model.device).map_err(DaemonError::model)?;
    if let Some(why) = &placement.fallback {
        telemetry::computes_on_cpu(why);
    }
    let engine = Engine::load(&settings.model.path, &settings.model.engine_options(&placement))
        .map_err(DaemonError::model)?;
    let decider = Decider::of(&engine, placement.fallback);
    Ok(Loaded { engine: Arc::new(engine), decider })
}

/// Bounds the threads that any model of this process computes in. The first call counts.
pub fn use_threads(threads: usize) {
    // The one error is that the pool stands already, as in a second load: then its size holds.
    let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
}
