//! `inspectd check`.

use std::io::{self, IsTerminal};
use std::sync::Arc;

use super::{ConfigFile, Exit};
use crate::capacity::Remark;
use crate::capacity::fit::{Gravity, figure};
use crate::capacity::footprint::mib;
use crate::config::{self, Loaded, Problem};
use crate::daemon::plan::{self, Plan};
use crate::station::Station;

pub const EXAMPLES: &str = "\
Examples:
  inspectd check
  inspectd check --drop-in > /etc/systemd/system/inspectd.service.d/memory.conf && systemctl daemon-reload
  inspectd check --config config/inspectd.toml";

#[derive(clap::Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
    /// Print a drop-in for the service instead, with a limit of memory made from what the model and the stations
    /// need.
    #[arg(long)]
    drop_in: bool,
}

/// Prints every problem, or what would run.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if arguments.drop_in {
        return drop_in(&super::run::load(&arguments.config)?);
    }
    let colour = io::stdout().is_terminal();
    let out = &mut io::stdout().lock();
    let look = |loaded: &Loaded| {
        let (mut problems, lines) = capacity(loaded);
        problems.extend(super::calibrate::warnings(loaded));
        (problems, lines)
    };
    match config::check::run_with(&arguments.config.path, out, colour, &look)? {
        config::check::Checked::Good => Ok(()),
        config::check::Checked::Bad => {
            Err(Exit::Usage
                .because(anyhow::anyhow!("the configuration has problems, listed above")))
        }
    }
}

/// What the configuration means for this machine: problems, and lines for the summary.
fn capacity(loaded: &Loaded) -> (Vec<Problem>, Vec<String>) {
    let settings = &loaded.settings;
    if settings.model.is_none() || !settings.model.path.exists() {
        return (vec![], vec![]); // has been warned of: the model may come later
    }
    let stations: Vec<Arc<Station>> = loaded
        .stations
        .iter()
        .filter(|station| station.needs_model())
        .cloned()
        .map(Arc::new)
        .collect();
    let plan = match plan::make(settings, &stations, "") {
        Ok(plan) => plan,
        Err(why) => {
            let remedy = "install the model whole; `inspectd model verify` tells what is missing";
            let title = format!("the model cannot be used: {why}");
            return (vec![Problem::error(title).remedy(remedy)], vec![]);
        }
    };
    let problem = |remark: &Remark| match remark.gravity {
        Gravity::Warning => Problem::warning(&remark.text).remedy(&remark.remedy),
        Gravity::Refusal | Gravity::ModelRefused => {
            Problem::error(&remark.text).remedy(&remark.remedy)
        }
    };
    (plan.remarks.iter().map(problem).collect(), lines(&plan))
}

/// Prints a drop-in that bounds the service's memory: beyond it, it is the service that ends, and not whatever else
/// runs on the machine.
fn drop_in(loaded: &Loaded) -> anyhow::Result<()> {
    let settings = &loaded.settings;
    let model_bytes = if settings.model.is_none() {
        0
    } else {
        let stations: Vec<Arc<Station>> = loaded.stations.iter().cloned().map(Arc::new).collect();
        let plan = plan::make(settings, &stations, "").map_err(|why| Exit::Model.because(why))?;
        plan.footprint.total_bytes()
    };
    let stations = loaded.stations.len();
    let limit_mib = plan::memory_limit_bytes(model_bytes, &loaded.stations) >> 20;
    println!(
        "# Made by `inspectd check --drop-in` for {stations} station(s) and a model that needs {}: a quarter more than
# the model needs, {} and the memory of [footage] for each station, and {} for all else. Make it again when
# model, context or stations change. Weights are mapped: the system takes their pages back before it ends the service.
[Service]
MemoryMax={limit_mib}M
MemorySwapMax=0",
        mib(model_bytes),
        mib(plan::STATION_BYTES),
        mib(plan::REST_BYTES),
    );
    Ok(())
}

fn lines(plan: &Plan) -> Vec<String> {
    let mut lines = vec![format!(
        "memory     {} for the model, {} positions",
        mib(plan.footprint.total_bytes()),
        plan.context
    )];
    for planned in &plan.stations {
        lines.push(format!(
            "pace       {}: {} s a part, {} s at most ({})",
            planned.cost.station,
            figure(planned.part.usual_s),
            figure(planned.part.longest_s),
            plan.speed.origin
        ));
    }
    lines
}
