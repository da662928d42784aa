//! `[sparkplug]` of `inspectd.toml`.

use std::path::Path;
use std::time::Duration;

use super::reader::Reader;
use crate::sparkplug::SparkplugOptions;
use crate::sparkplug::topics::{ID_MAX_CHARS, check_id};

/// Reads the table; `None` if it is not there, or has no group. `device` is the edge node's name
/// unless it has one of its own; `database` is what its file stands beside. The stations are filled
/// in by the caller.
pub fn read(
    mut table: Reader<'_>,
    device: &str,
    database: &Path,
    has_broker: bool,
) -> Option<SparkplugOptions> {
    if !table.is_present() {
        return None;
    }
    if !has_broker {
        let remedy = "add a table  [broker]  with the broker's host: Sparkplug goes there as well";
        table.error(table.span(), "[sparkplug] without [broker]", remedy);
    }
    let group = id(&mut table, "group_id");
    let group = table.required("group_id", group, "group_id = \"Plant 1\"");
    let node = id(&mut table, "edge_node_id").unwrap_or_else(|| device.to_owned());
    let group = group.unwrap_or_else(|| "unnamed".to_owned());
    let mut options = SparkplugOptions::new(&group, &node, &[], database);
    options.primary_host_id = id(&mut table, "primary_host_id");
    if let Some(client_id) = table.text("client_id", 128) {
        options.client_id = client_id.into_inner();
    }
    if let Some(seconds) = table.whole("heartbeat_s", 0..=3600) {
        let every = Duration::from_secs(seconds.into_inner() as u64);
        options.heartbeat = Some(every).filter(|every| !every.is_zero());
    }
    if let Some(ms) = table.whole("rebirth_cooldown_ms", 100..=60_000) {
        options.rebirth_cooldown = Duration::from_millis(ms.into_inner() as u64);
    }
    if let Some(results) = table.whole("history_max", 0..=1_000_000) {
        options.history_max = results.into_inner() as u64;
    }
    table.finish();
    Some(options)
}

fn id(table: &mut Reader<'_>, key: &'static str) -> Option<String> {
    let text = table.text(key, ID_MAX_CHARS)?;
    match check_id(text.get_ref()) {
        Ok(()) => Some(text.into_inner()),
        Err(why) => {
            let remedy = "write a name without + / # such as \"Plant 1\"";
            table.error(text.span(), format!("`{key}`: {why}"), remedy);
            None
        }
    }
}
