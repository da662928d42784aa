//! `inspectd schema`.

use super::Exit;
use crate::publish::schema;

pub const EXAMPLES: &str = "\
Examples:
  inspectd schema list
  inspectd schema show result > result.schema.json
  inspectd schema show asyncapi > asyncapi.yaml";

#[derive(clap::Args, Debug)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand, Debug)]
enum Action {
    /// Name the schemas.
    List,
    /// Print one schema, or the AsyncAPI document of all topics (`asyncapi`).
    Show {
        /// Its name, with or without its version.
        name: String,
    },
}

/// Prints what messages look like.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    match &arguments.action {
        Action::List => {
            for known in schema::ALL {
                println!("{:<12} {}", known.name, known.about);
            }
            println!("{:<12} all topics (AsyncAPI 3.0, YAML)", "asyncapi");
            Ok(())
        }
        Action::Show { name } if name == "asyncapi" => {
            print!("{}", schema::ASYNCAPI);
            Ok(())
        }
        Action::Show { name } => match schema::find(name) {
            Some(known) => {
                print!("{}", known.text);
                Ok(())
            }
            None => Err(Exit::Usage.because(anyhow::anyhow!(
                "there is no schema \"{name}\"; `inspectd schema list` names all"
            ))),
        },
    }
}
