//! `[camera.controls]`: what is set at the camera and read back from it.

use super::super::reader::Reader;
use super::camera::only_for;
use crate::camera::{HardwareTrigger, Options, Setting};

/// Longest name of a camera's line, in characters.
const LINE_MAX: usize = 32;

/// Reads the table into `options`.
pub fn read(mut table: Reader<'_>, options: &mut Options) {
    let controls = &mut options.controls;
    controls.exposure_us = read_setting(&mut table, "exposure_us", "exposure_auto", 1.0..=60e6);
    controls.gain = read_setting(&mut table, "gain", "gain_auto", 0.0..=10_000.0);
    let kelvin = 1000.0..=20_000.0;
    controls.white_balance_k =
        read_setting(&mut table, "white_balance_k", "white_balance_auto", kelvin);
    if let Some(line) = table.text("trigger", LINE_MAX) {
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        controls.trigger = match line.get_ref().as_str() {
            "off" => Some(HardwareTrigger::FreeRunning),
            name if !name.is_empty() && name.chars().all(is_word) => {
                Some(HardwareTrigger::Line(name.to_owned()))
            }
            name => {
                let title = format!("\"{name}\" is not the name of a camera's line");
                let remedy = "write  trigger = \"off\"  or the line's name, such as \"Line0\"";
                table.error(line.span(), title, remedy);
                None
            }
        };
    }
    let takes = options.source.is_attached();
    if !takes && table.is_present() {
        only_for(&table, "[camera.controls]", table.span(), "`device`, `csi` and `genicam`");
    }
    table.finish();
}

fn read_setting(
    table: &mut Reader<'_>,
    key: &'static str,
    auto_key: &'static str,
    range: std::ops::RangeInclusive<f64>,
) -> Option<Setting> {
    let figure = table.number(key, range);
    let auto = table.flag(auto_key);
    match (figure, auto) {
        (Some(_), Some(auto)) if *auto.get_ref() => {
            let title = format!("`{key}` is given, and `{auto_key}` lets the camera choose it");
            table.error(auto.span(), title, format!("remove `{key}` or `{auto_key}`"));
            None
        }
        (Some(figure), _) => Some(Setting::Fixed(figure.into_inner())),
        (None, Some(auto)) => Some(if auto.into_inner() { Setting::Auto } else { Setting::Hold }),
        (None, None) => None,
    }
}
