//! `inspectd reload`: a running daemon reads its configuration again.

use std::time::Duration;

use anyhow::Context as _;
use hyper::Method;

use super::{ConfigFile, Exit};
use crate::config;
use crate::web::{self, Reloaded, client};

pub const EXAMPLES: &str = "\
Examples:
  inspectd check && inspectd reload
  inspectd reload --config /etc/inspectd/inspectd.toml
  systemctl reload inspectd                            (the same, through the service manager)
  kill -HUP $(pidof inspectd)                          (the same; what came of it is in the log)

What a running daemon can take: stations whose file is new, gone or changed; recipes; lists of
expected serials; [engines]; how the [broker] is reached; [retention]; the level of [log].
Most of a station changes between two frames. One whose [plc], [gpio], [modbus], [footage],
photo eye or kind of trigger is another finishes its parts in hand and comes anew.
For anything else it is refused and says so: then `systemctl restart inspectd`. Either way no
part is lost, and what waits for the broker goes on waiting.";

/// Each station's thread has half a minute.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(clap::Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
}

/// Asks the daemon of this configuration, and says what came of it. Refused: exit code 2.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let socket = web::control_path(&database(&arguments.config)?);
    let (_, body) = client::ask(&socket, Method::POST, "/reload", PATIENCE)?;
    let told: Reloaded =
        serde_json::from_slice(&body).context("the daemon's answer cannot be read")?;
    if let Some(why) = told.refused {
        eprintln!("{}", why.trim_end());
        return Err(Exit::Usage.because(anyhow::anyhow!(
            "the new configuration was refused as a whole; the old one goes on"
        )));
    }
    match told.changed.is_empty() {
        true => println!("Nothing has changed."),
        false => told.changed.iter().for_each(|line| println!("{line}")),
    }
    Ok(())
}

/// Where the database of this configuration lies, be the rest of it right or not: whether it is right
/// is for the daemon to say.
pub(super) fn database(file: &ConfigFile) -> anyhow::Result<std::path::PathBuf> {
    config::database_of(&file.path).map_err(|problems| {
        eprint!("{}", problems.render(false));
        Exit::Usage
            .because(anyhow::anyhow!("the configuration does not say where the audit log lies"))
    })
}
