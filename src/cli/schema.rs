//! `inspectd schema`.

use std::path::{Path, PathBuf};

use anyhow::Context;

use super::Exit;
use crate::publish::schema;

pub const EXAMPLES: &str = "\
Examples:
  inspectd schema list
  inspectd schema show result > result.schema.json
  inspectd schema show asyncapi > asyncapi.yaml
  inspectd schema export docs/mqtt      # all of them, as the AsyncAPI document refers to them";

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
    /// Write all of them into a folder, with the AsyncAPI document that refers to them.
    Export {
        /// The folder; made if it is not there.
        dir: PathBuf,
    },
}

/// Prints what messages look like.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    match &arguments.action {
        Action::List => {
            for known in schema::ALL {
                println!("{:<14} {}", known.name, known.about);
            }
            println!("{:<14} all topics (AsyncAPI 3.0, YAML)", "asyncapi");
            Ok(())
        }
        Action::Export { dir } => export(dir),
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

fn export(dir: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let schemas = schema::ALL.iter().map(|known| (known.file_name(), known.text));
    for (name, text) in schemas.chain([("asyncapi.yaml".to_owned(), schema::ASYNCAPI)]) {
        let path = dir.join(name);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    println!("{} schemas and asyncapi.yaml are in {}", schema::ALL.len(), dir.display());
    Ok(())
}
