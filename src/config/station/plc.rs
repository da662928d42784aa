//! `[plc]`: what was agreed on with the line's controller.

use std::time::Duration;

use super::super::reader::Reader;
use crate::plc::{Options, RING_RANGE};
use crate::trigger;

/// Reads the table. Without it there is a contract only where parts are asked for by command.
pub fn read(mut table: Reader<'_>, trigger: Option<&trigger::Options>) -> Option<Options> {
    let by_command = matches!(trigger, Some(trigger::Options::Command(_)));
    if !table.is_present() {
        return by_command.then(Options::default);
    }
    let mut options = Options::default();
    let mut flag = |key, target: &mut bool| {
        if let Some(flag) = table.flag(key) {
            *target = flag.into_inner();
        }
    };
    flag("acknowledge", &mut options.acknowledge);
    flag("partial", &mut options.partial);
    flag("inspect_when_stopped", &mut options.inspect_when_stopped);
    flag("keep_recipe", &mut options.keep_recipe);
    if options.acknowledge && !by_command && trigger.is_some() {
        let title = "`acknowledge` without the trigger `command`";
        let remedy = "only a part that was asked for can be refused when results wait: write  kind = \
                      \"command\"  below [trigger], or remove `acknowledge`";
        table.error(table.key_span("acknowledge"), title, remedy);
    }
    let (least, most) = (*RING_RANGE.start() as i64, *RING_RANGE.end() as i64);
    if let Some(ring) = table.whole("ring", least..=most) {
        options.ring = ring.into_inner() as usize;
    }
    if let Some(rate) = table.whole("commands_per_s", 1..=1000) {
        options.commands_per_s = rate.into_inner() as u32;
    }
    let mut time = |key, range, target: &mut Duration| {
        if let Some(ms) = table.whole(key, range) {
            *target = Duration::from_millis(ms.into_inner() as u64);
        }
    };
    time("heartbeat_ms", 100..=60_000, &mut options.heartbeat);
    time("finish_late_ms", 0..=600_000, &mut options.finish_late);
    table.finish();
    Some(options)
}
