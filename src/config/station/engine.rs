//! `engine`, `fallback`: who is asked in place of the device's own model.

use std::time::Duration;

use toml::Spanned;

use super::super::reader::{NAME_MAX, Reader};
use crate::station::{EngineUse, Fallback};

/// Reads the keys; `deadline`: of the station. The name is held against the engines that there are later,
/// as they stand in another file.
pub fn read(top: &mut Reader<'_>, deadline: Duration) -> Option<(Spanned<String>, EngineUse)> {
    let name = top.text("engine", NAME_MAX);
    let fallback = top.one_of("fallback", &[("review", false), ("local", true)]);
    let reserve = top.whole("fallback_reserve_ms", 10..=600_000);
    for key in ["fallback", "fallback_reserve_ms"] {
        if name.is_none() && top.has(key) && !top.has("engine") {
            let title = format!("`{key}` has no effect without `engine`");
            top.error(top.key_span(key), title, "add  engine = \"NAME\", or remove it");
        }
    }
    let is_local = fallback.is_some_and(|word| word.into_inner());
    if let (false, Some(reserve)) = (is_local, &reserve) {
        let title = "`fallback_reserve_ms` has no effect without  fallback = \"local\"";
        top.error(reserve.span(), title, "add that, or remove it");
    }
    let asked = reserve.map(|ms| (ms.span(), Duration::from_millis(ms.into_inner() as u64)));
    if let Some((span, _)) = asked.as_ref().filter(|(_, reserve)| *reserve >= deadline) {
        let title = format!(
            "`fallback_reserve_ms` leaves nothing of the deadline of {} ms to the engine",
            deadline.as_millis()
        );
        top.error(span.clone(), title, "lower it, or raise `deadline_ms`");
    }
    let fallback = match is_local {
        true => Fallback::Local { reserve: asked.map_or(deadline / 2, |(_, reserve)| reserve) },
        false => Fallback::Review,
    };
    let used = EngineUse { name: name.as_ref()?.get_ref().clone(), fallback };
    Some((name?, used))
}
