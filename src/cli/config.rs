//! `inspectd config`: a configuration's files as a list that somebody signs.

use std::io::Write;
use std::path::PathBuf;

use clap::Subcommand;

use super::{ConfigFile, Exit, run};
use crate::config::{self, LIST_NAME, Signer};
use crate::provenance;

pub const EXAMPLES: &str = "\
Examples:
  inspectd config keys                              what may stand in the files
  inspectd config keys encoder                      the same, of what has this in it
where the configuration is trusted:
  minisign -G -p engineering.pub -s engineering.key            makes a pair of keys, once
  inspectd config manifest                                     /etc/inspectd/config.sha256
  inspectd model manifest --model /opt/phi-3-vision            the same for the model
  minisign -Sm /etc/inspectd/config.sha256 -s engineering.key  and model.sha256 alike
and on the device:
  inspectd config verify --public-key engineering.pub
  cp systemd/drop-ins/signed.conf /etc/systemd/system/inspectd.service.d/
                                                    demands it of each start and reload

The list has every file that the configuration is made of: inspectd.toml, stations, recipes,
calibrations, lists of serials, pictures of good parts, adapters. It has no password, no
certificate and no list of expected serials, as these change without a new configuration.
An older signed configuration is as good as a newer one.";

#[derive(clap::Args, Debug)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Write the list of the configuration's files: each with its SHA-256, as sha256sum writes them.
    Manifest {
        #[command(flatten)]
        config: ConfigFile,
        /// Where to write; - is standard output. Without it: config.sha256 beside inspectd.toml.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// List every key that a configuration may have, with what its value may be.
    Keys {
        /// Only keys with this in their name, their table's, or what their value may be.
        word: Option<String>,
        /// Print them as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Hold configuration and model against their signed lists, as `run --signed-by` does.
    Verify {
        #[command(flatten)]
        config: ConfigFile,
        /// Who must have signed: a public key of minisign, or the file that holds it.
        #[arg(long, value_name = "FILE|KEY", env = "INSPECTD_SIGNED_BY")]
        public_key: String,
    },
}

/// Writes the list, or checks it.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    match &arguments.command {
        Command::Manifest { config, out } => manifest(config, out.as_ref()),
        Command::Keys { word, json } => keys(word.as_deref().unwrap_or_default(), *json),
        Command::Verify { config, public_key } => {
            let loaded = run::load_signed(config, Some(&Signer::new(public_key.as_str())))?;
            println!("configuration  good; {} files as they were signed", loaded.files.len());
            if let Some(digest) = loaded.settings.model.signed_digest {
                println!("model          its list is good; {digest} is what the model must have");
                println!(
                    "               `inspectd model verify` compares its files now, a start compares them, too"
                );
            }
            Ok(())
        }
    }
}

fn keys(word: &str, json: bool) -> anyhow::Result<()> {
    let mut all = config::keys();
    let has = |text: &str| text.contains(word);
    all.retain(|key| has(key.key) || has(&key.table) || has(&key.form));
    if all.is_empty() {
        return Err(
            Exit::Usage.because(anyhow::anyhow!("no key, table or value has \"{word}\" in it"))
        );
    }
    let mut out = std::io::stdout().lock();
    if json {
        return Ok(writeln!(out, "{}", serde_json::to_string_pretty(&all)?)?);
    }
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::UTF8_BORDERS_ONLY);
    table.set_content_arrangement(comfy_table::ContentArrangement::Dynamic);
    table.set_header(["file", "table", "key", "value"]);
    for key in &all {
        table.add_row([key.file, &key.table, key.key, &key.form]);
    }
    Ok(writeln!(out, "{table}")?)
}

fn manifest(file: &ConfigFile, out: Option<&PathBuf>) -> anyhow::Result<()> {
    let loaded = run::load(file)?;
    let list = config::list(&loaded, &file.path).map_err(|problems| {
        eprint!("{}", problems.render(false));
        Exit::Usage.because(anyhow::anyhow!("no list was written"))
    })?;
    let text = list.to_string();
    let out = out.cloned().unwrap_or_else(|| file.path.with_file_name(LIST_NAME));
    if out.as_os_str() == "-" {
        std::io::stdout().write_all(text.as_bytes())?;
        return Ok(());
    }
    provenance::write_whole(&out, text.as_bytes()).map_err(|why| Exit::Failed.because(why))?;
    println!(
        "{} files in {}; sign it: minisign -Sm {}",
        list.files.len(),
        out.display(),
        out.display()
    );
    Ok(())
}
