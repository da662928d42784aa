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
  inspectd check --config config/inspectd.toml";

#[derive(clap::Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
}

/// Prints every problem, or what would run.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
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
