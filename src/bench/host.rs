//! This machine and this process, as a report tells of them.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::capacity::machine::{Machine, Resident};

/// The machine, as far as it matters to a figure.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// The processor's name.
    pub cpu: String,
    /// Instructions it has that matter to the engine, in the system's words.
    pub features: Vec<String>,
    /// Cores that this process may use.
    pub cores: usize,
    /// Memory in all; `None` if the system does not say.
    pub memory_bytes: Option<u64>,
    /// The largest cache; `None` if the system does not say.
    pub cache_bytes: Option<u64>,
}

/// Memory of this process, in bytes; zero where the system does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Resident when the last stage was done.
    pub resident_bytes: u64,
    /// The most that was ever resident, loading included.
    pub peak_bytes: u64,
}

impl Host {
    /// This machine.
    pub fn here() -> Host {
        let Machine { cpu, cores, memory_bytes, .. } = Machine::here();
        Host {
            cpu,
            cores,
            memory_bytes,
            features: features(),
            cache_bytes: cache_bytes(Path::new("/sys/devices/system/cpu/cpu0/cache")),
        }
    }
}

impl Memory {
    /// This process, now.
    pub fn now() -> Memory {
        let Resident { resident_bytes, peak_bytes, .. } = Resident::now();
        Memory { resident_bytes, peak_bytes }
    }
}

/// The instructions by which the engine chooses its kernels, and those that a later one may want.
fn features() -> Vec<String> {
    let mut found: Vec<&str> = Vec::new();
    macro_rules! look {
        ($has:ident: $($name:tt)*) => {
            $(if std::arch::$has!($name) { found.push($name); })*
        };
    }
    #[cfg(target_arch = "x86_64")]
    look!(is_x86_feature_detected: "avx2" "fma" "f16c" "avxvnni" "avx512f" "avx512bw" "avx512dq"
        "avx512vl" "avx512vnni" "avx512bf16" "avx512fp16");
    #[cfg(target_arch = "aarch64")]
    look!(is_aarch64_feature_detected: "neon" "dotprod" "fp16" "i8mm" "bf16" "sve");
    found.retain(|name| !name.is_empty());
    found.into_iter().map(str::to_owned).collect()
}

/// The largest of the caches `index0`, `index1` ... in `folder`, each with a file `size`: `36608K`.
fn cache_bytes(folder: &Path) -> Option<u64> {
    let size = |index: u32| {
        let text = fs::read_to_string(folder.join(format!("index{index}/size"))).ok()?;
        let text = text.trim();
        let (digits, unit) = text.split_at(text.len().checked_sub(1)?);
        let (digits, factor) = match unit {
            "K" => (digits, 1 << 10),
            "M" => (digits, 1 << 20),
            _ => (text, 1),
        };
        digits.parse::<u64>().ok()?.checked_mul(factor)
    };
    (0..8).filter_map(size).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_name_and_cores() {
        let host = Host::here();
        assert!(!host.cpu.is_empty() && host.cores > 0);
        #[cfg(target_arch = "aarch64")]
        assert!(host.features.contains(&"neon".to_owned()));
        let memory = Memory::now();
        assert!(memory.peak_bytes >= memory.resident_bytes && memory.resident_bytes > 0);
    }

    #[test]
    fn the_largest_cache_is_found_among_what_cannot_be_read() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(cache_bytes(dir.path()), None);
        for (index, size) in [(0, "32K\n"), (2, "2M\n"), (3, "36608K\n"), (4, "big"), (5, "")] {
            let folder = dir.path().join(format!("index{index}"));
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("size"), size).unwrap();
        }
        assert_eq!(cache_bytes(dir.path()), Some(36608 << 10));
    }
}
