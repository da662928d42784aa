//! What the machine says of itself: temperatures, whether it has slowed itself down, memory.
//!
//! Files of the kernel, as it documents them; a file that is not there is something that is not known.

use std::fs;
use std::path::Path;

/// Sensors that are read; a board has about ten.
const ZONES_MAX: usize = 32;

/// Degrees Celsius of each thermal zone of the kernel, by its type (`cpu-thermal`, `gpu-thermal`). Two of one
/// type are told apart by a number.
pub fn temperatures() -> Vec<(String, f64)> {
    temperatures_in(Path::new("/sys/class/thermal"))
}

fn temperatures_in(folder: &Path) -> Vec<(String, f64)> {
    let mut zones: Vec<_> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            path.file_name().is_some_and(|it| it.as_encoded_bytes().starts_with(b"thermal_zone"))
        })
        .collect();
    zones.sort();
    let mut all: Vec<(String, f64)> = Vec::new();
    for zone in zones.into_iter().take(ZONES_MAX) {
        let (Some(kind), Some(celsius)) = (text(&zone.join("type")), celsius(&zone.join("temp")))
        else {
            continue;
        };
        let twins = all.iter().filter(|(name, _)| name.split('#').next() == Some(&kind)).count();
        let name = if twins == 0 { kind } else { format!("{kind}#{}", twins + 1) };
        all.push((name, celsius));
    }
    all
}

fn celsius(file: &Path) -> Option<f64> {
    let thousandths: f64 = text(file)?.parse().ok()?;
    // A sensor that is switched off tells a number that no machine has.
    Some(thousandths / 1e3).filter(|celsius| (-100.0..200.0).contains(celsius))
}

/// Whether the machine runs slower than it could, for heat or for a weak supply; `None`: it does not say.
pub fn is_throttled() -> Option<bool> {
    is_throttled_in(Path::new("/sys"))
}

fn is_throttled_in(sys: &Path) -> Option<bool> {
    // Raspberry Pi: bits 0 to 3 are what is now, the others what has been.
    let pi = text(&sys.join("devices/platform/soc/soc:firmware/get_throttled"));
    if let Some(bits) = pi.and_then(|text| u32::from_str_radix(&text, 16).ok()) {
        return Some(bits & 0xf != 0);
    }
    // Elsewhere: a cooling device of the processor that is at work, as the kernel's own throttling is.
    let devices = fs::read_dir(sys.join("class/thermal")).ok()?;
    let mut known = None;
    for device in devices.flatten().map(|entry| entry.path()) {
        let kind = text(&device.join("type")).unwrap_or_default();
        let is_of_processor =
            ["cpufreq", "cpu-throttle", "Processor"].iter().any(|name| kind.contains(name));
        if let (true, Some(state)) = (is_of_processor, text(&device.join("cur_state"))) {
            known = Some(known.unwrap_or(false) || state != "0");
        }
    }
    known
}

/// Bytes that the machine could give without swapping.
pub fn available_bytes() -> Option<u64> {
    field("/proc/meminfo", "MemAvailable:")
}

/// A number of kB in a file of `/proc`, in bytes.
fn field(file: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

pub(super) fn text(file: &Path) -> Option<String> {
    fs::read_to_string(file).ok().map(|text| text.trim().to_owned())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Writes a file of a machine that there is not.
    pub fn write(folder: &Path, file: &str, text: &str) {
        let path = folder.join(file);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, text).expect("written");
    }

    #[test]
    fn zones_are_read_by_type_and_nonsense_is_left_out() {
        let folder = tempfile::tempdir().expect("a folder");
        for (zone, kind, temp) in [
            ("thermal_zone0", "cpu-thermal", "51500"),
            ("thermal_zone1", "cpu-thermal", "48000"),
            ("thermal_zone2", "gpu-thermal", "-256000"),
            ("cooling_device0", "pwm-fan", "3"),
        ] {
            write(folder.path(), &format!("{zone}/type"), &format!("{kind}\n"));
            write(folder.path(), &format!("{zone}/temp"), &format!("{temp}\n"));
        }
        let told = temperatures_in(folder.path());
        assert_eq!(told, [("cpu-thermal".to_owned(), 51.5), ("cpu-thermal#2".to_owned(), 48.0)]);
        assert!(temperatures_in(&folder.path().join("none")).is_empty());
    }

    #[test]
    fn throttling_is_read_where_the_machine_tells_of_it() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(is_throttled_in(folder.path()), None);
        write(folder.path(), "class/thermal/cooling_device0/type", "pwm-fan");
        write(folder.path(), "class/thermal/cooling_device0/cur_state", "4");
        assert_eq!(is_throttled_in(folder.path()), None, "a fan slows nothing down");
        write(folder.path(), "class/thermal/cooling_device1/type", "cpufreq-cpu0");
        write(folder.path(), "class/thermal/cooling_device1/cur_state", "0");
        assert_eq!(is_throttled_in(folder.path()), Some(false));
        write(folder.path(), "class/thermal/cooling_device2/type", "cpufreq-cpu4");
        write(folder.path(), "class/thermal/cooling_device2/cur_state", "2");
        assert_eq!(is_throttled_in(folder.path()), Some(true));
        let pi = "devices/platform/soc/soc:firmware/get_throttled";
        write(folder.path(), pi, "50000\n");
        assert_eq!(is_throttled_in(folder.path()), Some(false), "it has been, and is not now");
        write(folder.path(), pi, "50005\n");
        assert_eq!(is_throttled_in(folder.path()), Some(true));
    }

    #[test]
    fn the_kernel_tells_what_memory_is_left() {
        assert!(available_bytes().expect("it tells") > 0);
    }
}
