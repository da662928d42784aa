//! What the machine says of its supply: the mode that it was set to, what it draws, whether that is too little.
//!
//! Files of the kernel and of NVIDIA's system, as they document them: `Documentation/hwmon/ina3221.rst`,
//! `Documentation/hwmon/raspberrypi-hwmon.rst`, `Documentation/admin-guide/pm/cpufreq.rst`, and `nvpmodel` in the
//! Jetson Linux Developer Guide. Read against folders that look like theirs; not tried on a board.

use std::fs;
use std::path::{Path, PathBuf};

use super::sensors::text;

/// Sensors of the kernel that are looked at; a board has about ten.
const SENSORS_MAX: usize = 64;

/// Longest name of a mode or a rail, in characters.
const NAME_MAX_CHARS: usize = 32;

/// Channels of one INA3221, each a rail of the supply.
const INA3221_CHANNELS: u32 = 3;

/// What is known of the supply; `None`: the machine does not say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Power {
    /// The mode that the board was set to: `15W`, `MAXN`; elsewhere the processor's governor.
    pub mode: Option<String>,
    /// Watts by rail (`VDD_IN`).
    pub rails_watts: Vec<(String, f64)>,
    /// The supply's voltage is too low.
    pub is_under_voltage: Option<bool>,
    /// A rail draws more than it may, so that the board slows down.
    pub is_over_current: Option<bool>,
    /// How fast the slowest processor may run now, as a share of what it could: below 1 where a mode, heat or the
    /// supply holds it back.
    pub clock_limit: Option<f64>,
}

/// What this machine says.
pub fn power() -> Power {
    power_in(Path::new("/"))
}

/// What the files below `root` say.
fn power_in(root: &Path) -> Power {
    let sensors = sensors(&root.join("sys/class/hwmon"));
    let of_kind = |kind: &str| {
        let named = |folder: &&PathBuf| text(&folder.join("name")).as_deref() == Some(kind);
        sensors.iter().filter(named).cloned().collect::<Vec<PathBuf>>()
    };
    let rails = of_kind("ina3221");
    Power {
        mode: jetson_mode(root).or_else(|| governor(root)),
        rails_watts: rails.iter().flat_map(|chip| rails_watts(chip)).collect(),
        is_under_voltage: any(&of_kind("rpi_volt"), &["in0_lcrit_alarm".to_owned()]),
        is_over_current: any(&rails, &over_current_alarms()),
        clock_limit: clock_limit(root),
    }
}

fn sensors(folder: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> =
        fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    all.sort();
    all.truncate(SENSORS_MAX);
    all
}

/// Whether one of these alarms of one of these chips is set; `None`: there is none.
fn any(chips: &[PathBuf], alarms: &[String]) -> Option<bool> {
    let files = chips.iter().flat_map(|chip| alarms.iter().map(|alarm| chip.join(alarm)));
    let set = files.filter_map(|file| Some(text(&file)? != "0"));
    set.fold(None, |any, is_set| Some(any.unwrap_or(false) || is_set))
}

fn over_current_alarms() -> Vec<String> {
    let of = |channel| ["crit", "max"].map(|kind| format!("curr{channel}_{kind}_alarm"));
    (1..=INA3221_CHANNELS).flat_map(of).collect()
}

/// Volts times amperes of each channel that has a name and is not switched off.
fn rails_watts(chip: &Path) -> Vec<(String, f64)> {
    let number = |file: String| text(&chip.join(file))?.parse::<f64>().ok();
    let rail = |channel| {
        let name = name(&text(&chip.join(format!("in{channel}_label")))?)?;
        if number(format!("in{channel}_enable")) == Some(0.0) {
            return None;
        }
        let (millivolts, milliamperes) =
            (number(format!("in{channel}_input"))?, number(format!("curr{channel}_input"))?);
        let watts = millivolts * milliamperes / 1e6;
        // What no board of this kind can draw is no measurement.
        (-1000.0..1000.0).contains(&watts).then_some((name, watts))
    };
    (1..=INA3221_CHANNELS).filter_map(rail).collect()
}

/// The name of the mode that `nvpmodel` noted, or its number where its table does not tell the name.
fn jetson_mode(root: &Path) -> Option<String> {
    // Such as `pmode:0002 fmode:quiet`.
    let status = text(&root.join("var/lib/nvpmodel/status"))?;
    let id = status.split_whitespace().find_map(|word| word.strip_prefix("pmode:"))?;
    let id: u32 = id.parse().ok()?;
    let table = text(&root.join("etc/nvpmodel.conf")).unwrap_or_default();
    // Such as `< POWER_MODEL ID=2 NAME=15W >`.
    let named = table.lines().find_map(|line| {
        let line = line.trim().strip_prefix('<')?.trim_end_matches('>').trim();
        let words = line.strip_prefix("POWER_MODEL")?;
        let value = |key: &str| words.split_whitespace().find_map(|word| word.strip_prefix(key));
        (value("ID=")?.parse() == Ok(id)).then(|| name(value("NAME=")?))?
    });
    Some(named.unwrap_or_else(|| format!("mode {id}")))
}

fn policies(root: &Path) -> Vec<PathBuf> {
    let mut all = sensors(&root.join("sys/devices/system/cpu/cpufreq"));
    all.retain(|path| path.join("cpuinfo_max_freq").exists());
    all
}

fn governor(root: &Path) -> Option<String> {
    policies(root).iter().find_map(|policy| name(&text(&policy.join("scaling_governor"))?))
}

fn clock_limit(root: &Path) -> Option<f64> {
    let share = |policy: &PathBuf| {
        let khz = |file| text(&policy.join(file))?.parse::<f64>().ok().filter(|khz| *khz > 0.0);
        Some((khz("scaling_max_freq")? / khz("cpuinfo_max_freq")?).min(1.0))
    };
    policies(root).iter().filter_map(share).min_by(f64::total_cmp)
}

/// A name as it may stand in a label; `None`: there is nothing to see of it.
fn name(text: &str) -> Option<String> {
    let kept = text.chars().filter(|c| !c.is_control()).take(NAME_MAX_CHARS).collect::<String>();
    Some(kept.trim().to_owned()).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::sensors::tests::write;

    #[test]
    fn a_jetson_tells_mode_rails_and_alarms() {
        let root = tempfile::tempdir().expect("a folder");
        let put = |file: &str, text: &str| write(root.path(), file, text);
        put("var/lib/nvpmodel/status", "pmode:0002 fmode:quiet\n");
        assert_eq!(power_in(root.path()).mode.as_deref(), Some("mode 2"));
        put(
            "etc/nvpmodel.conf",
            "# POWER_MODEL ID=2 NAME=NOT\n< POWER_MODEL ID=0 NAME=MAXN >\nCPU_ONLINE CORE_0 1\n\
             < POWER_MODEL ID=2 NAME=15W >\n< PM_CONFIG DEFAULT=2 >\n",
        );
        put("sys/class/hwmon/hwmon0/name", "cpu_thermal\n");
        let chip = |file: &str, text: &str| put(&format!("sys/class/hwmon/hwmon3/{file}"), text);
        chip("name", "ina3221\n");
        for (channel, label, mv, ma) in [
            (1, "VDD_IN", "5072", "1480"),
            (2, "VDD_CPU_GPU_CV", "4984", "400"),
            (3, "NC", "8", "x"),
        ] {
            chip(&format!("in{channel}_label"), label);
            chip(&format!("in{channel}_input"), mv);
            chip(&format!("curr{channel}_input"), ma);
        }
        chip("in2_enable", "0\n");
        chip("in7_label", "sum of shunt voltages");
        let told = power_in(root.path());
        assert_eq!(told.mode.as_deref(), Some("15W"));
        let [(rail, watts)] = &told.rails_watts[..] else { panic!("{told:?}") };
        assert_eq!(rail, "VDD_IN");
        assert!((watts - 7.506).abs() < 0.001, "{watts}");
        assert_eq!((told.is_over_current, told.is_under_voltage), (None, None));
        chip("curr1_max_alarm", "0\n");
        assert_eq!(power_in(root.path()).is_over_current, Some(false));
        chip("curr1_crit_alarm", "1\n");
        assert_eq!(power_in(root.path()).is_over_current, Some(true));
    }

    #[test]
    fn a_raspberry_pi_tells_of_a_weak_supply() {
        let root = tempfile::tempdir().expect("a folder");
        write(root.path(), "sys/class/hwmon/hwmon1/name", "rpi_volt\n");
        assert_eq!(power_in(root.path()).is_under_voltage, None);
        for (alarm, is_low) in [("0\n", false), ("1\n", true)] {
            write(root.path(), "sys/class/hwmon/hwmon1/in0_lcrit_alarm", alarm);
            assert_eq!(power_in(root.path()).is_under_voltage, Some(is_low));
        }
    }

    #[test]
    fn any_machine_tells_how_fast_it_may_run() {
        let root = tempfile::tempdir().expect("a folder");
        assert_eq!(power_in(root.path()), Power::default());
        for (policy, most, may) in [(0, "2400000", "2400000"), (4, "3000000", "1500000")] {
            let folder = format!("sys/devices/system/cpu/cpufreq/policy{policy}");
            write(root.path(), &format!("{folder}/cpuinfo_max_freq"), most);
            write(root.path(), &format!("{folder}/scaling_max_freq"), may);
            write(root.path(), &format!("{folder}/scaling_governor"), "schedutil\n");
        }
        let told = power_in(root.path());
        assert_eq!((told.clock_limit, told.mode.as_deref()), (Some(0.5), Some("schedutil")));
    }

    #[test]
    fn hostile_files_make_no_label() {
        assert_eq!(name("\u{1b}[2J\n"), Some("[2J".to_owned()));
        assert_eq!(name(" \n"), None);
        assert_eq!(name(&"x".repeat(500)).map(|it| it.len()), Some(NAME_MAX_CHARS));
        let root = tempfile::tempdir().expect("a folder");
        write(root.path(), "var/lib/nvpmodel/status", "pmode:99999999999999");
        assert_eq!(power_in(root.path()).mode, None);
    }
}
