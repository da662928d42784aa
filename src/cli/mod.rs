//! The command line: one file per command.

mod adapter;
mod audit;
mod bench;
mod calibrate;
mod camera;
mod check;
mod config;
mod demo;
mod doctor;
mod engine;
mod evaluate;
mod exit;
mod footage;
mod inspect;
mod man;
mod modbus;
mod model;
mod record;
mod reload;
mod run;
mod schema;
mod serial;
mod simulate;
mod top;
mod upstream;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

pub use exit::Exit;

/// Inspects parts on a production line with a vision-language model, on the device at the line.
///
/// Exit codes: 0 done; 1 it failed while running; 2 wrong arguments or configuration; 3 the model
/// cannot be used; 4 the audit log cannot be used; 5 a camera cannot be opened; 6 the demo's or the
/// evaluation's own check failed, `doctor` found something that keeps this machine from inspecting, a stage is slower than `bench --fail-above` allows, a serial that was
/// tried does not hold, pictures are not good enough to calibrate by, what a question must see is too
/// small, or an engine elsewhere or PostgreSQL does not answer as it must; 7 `audit verify` found the audit log
/// broken, or `upstream check` a copy of it.
#[derive(Parser, Debug)]
#[command(name = "inspectd", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run the daemon: cameras in, verdicts, records and messages out.
    #[command(after_help = run::EXAMPLES)]
    Run(run::Arguments),
    /// Keep what cameras show as footage, with the parts that are asked for, to be played again.
    #[command(after_help = record::EXAMPLES)]
    Record(record::Arguments),
    /// Say what footage holds.
    #[command(after_help = footage::EXAMPLES)]
    Footage(footage::Arguments),
    /// Let a running daemon read its configuration again: taken without a lost part, or refused as a whole.
    #[command(after_help = reload::EXAMPLES)]
    Reload(reload::Arguments),
    /// Show a running daemon at a glance.
    #[command(after_help = top::EXAMPLES)]
    Top(top::Arguments),
    /// Look at everything on this machine that inspection depends on, and say what to do.
    #[command(after_help = doctor::EXAMPLES)]
    Doctor(doctor::Arguments),
    /// Check the configuration and report every problem at once.
    #[command(after_help = check::EXAMPLES)]
    Check(check::Arguments),
    /// Write the list of a configuration's files, to be signed, or hold a configuration against it.
    #[command(after_help = config::EXAMPLES)]
    Config(config::Arguments),
    /// Find cameras, show how one is opened, and take a picture with it.
    #[command(after_help = camera::EXAMPLES)]
    Camera(camera::Arguments),
    /// Inspect one picture and print its record.
    #[command(after_help = inspect::EXAMPLES)]
    Inspect(inspect::Arguments),
    /// Run the simulated line with the built-in model and a broker of its own.
    #[command(after_help = demo::EXAMPLES)]
    Demo(demo::Arguments),
    /// Make footage or labelled pictures of a simulated line.
    #[command(after_help = simulate::EXAMPLES)]
    Simulate(simulate::Arguments),
    /// Measure how right the answers are on a labelled set of pictures.
    #[command(after_help = evaluate::EXAMPLES)]
    Evaluate(evaluate::Arguments),
    /// Measure the engine on this machine, stage by stage, and compare with earlier figures.
    #[command(after_help = bench::EXAMPLES)]
    Bench(bench::Arguments),
    /// Measure a station's camera, and say whether the model can see what it is asked about.
    #[command(after_help = calibrate::EXAMPLES)]
    Calibrate(calibrate::Arguments),
    /// Read the audit log, verify it, and record what an operator decided.
    #[command(after_help = audit::EXAMPLES)]
    Audit(audit::Arguments),
    /// Try serial numbers against a station's rules.
    #[command(after_help = serial::EXAMPLES)]
    Serial(serial::Arguments),
    /// Print which Modbus register shows what.
    #[command(after_help = modbus::EXAMPLES)]
    Modbus(modbus::Arguments),
    /// Print the JSON Schemas of messages, and the AsyncAPI document of their topics.
    #[command(after_help = schema::EXAMPLES)]
    Schema(schema::Arguments),
    /// Engines elsewhere that stations may ask: list them, or try one.
    #[command(after_help = engine::EXAMPLES)]
    Engine(engine::Arguments),
    /// The copy of the audit log in PostgreSQL: prove it, or print the SQL that makes its tables.
    #[command(after_help = upstream::EXAMPLES)]
    Upstream(upstream::Arguments),
    /// Make a model smaller, or look into one.
    #[command(after_help = model::EXAMPLES)]
    Model(model::Arguments),
    /// Write the manual pages, one a command.
    #[command(after_help = man::EXAMPLES)]
    Man(man::Arguments),
    /// Print the tab completion for a shell, for instance: inspectd completions bash > /etc/bash_completion.d/inspectd
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// The option that most commands share.
#[derive(clap::Args, Debug, Clone)]
struct ConfigFile {
    /// The configuration file; stations stand beside it in `stations/*.toml`.
    #[arg(
        long = "config",
        short = 'c',
        value_name = "FILE",
        env = "INSPECTD_CONFIG",
        default_value = "/etc/inspectd/inspectd.toml"
    )]
    path: PathBuf,
}

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Record(arguments) => record::run(&arguments),
        Command::Footage(arguments) => footage::run(&arguments),
        Command::Reload(arguments) => reload::run(&arguments),
        Command::Top(arguments) => top::run(&arguments),
        Command::Man(arguments) => man::run(&arguments, Arguments::command()),
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Config(arguments) => config::run(&arguments),
        Command::Camera(arguments) => camera::run(&arguments),
        Command::Inspect(arguments) => inspect::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Modbus(arguments) => modbus::run(&arguments),
        Command::Schema(arguments) => schema::run(&arguments),
        Command::Simulate(arguments) => simulate::run(&arguments),
        Command::Evaluate(arguments) => evaluate::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Calibrate(arguments) => calibrate::run(&arguments),
        Command::Audit(arguments) => audit::run(&arguments),
        Command::Serial(arguments) => serial::run(&arguments),
        Command::Engine(arguments) => engine::run(&arguments),
        Command::Upstream(arguments) => upstream::run(&arguments),
        Command::Model(arguments) => model::run(&arguments),
        Command::Completions { shell } => {
            let mut command = Arguments::command();
            clap_complete::generate(shell, &mut command, "inspectd", &mut io::stdout());
            Ok(())
        }
    };
    exit::code(result)
}
