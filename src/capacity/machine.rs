//! What the system says of this machine: memory, limits on it, processor.

use std::fs;
use std::path::{Path, PathBuf};

/// The machine, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Memory in all; `None` if the system does not say.
    pub memory_bytes: Option<u64>,
    /// The lowest limit that a control group sets for this process.
    pub limit_bytes: Option<u64>,
    /// The processor's name.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: usize,
}

/// Memory of this process, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resident {
    /// Resident now.
    pub resident_bytes: u64,
    /// The most that was resident.
    pub peak_bytes: u64,
    /// Of the resident: what is the process's own.
    pub own_bytes: u64,
    /// Of the resident: pages of files, which the system can take back.
    pub file_bytes: u64,
}

impl Machine {
    /// This machine.
    pub fn here() -> Machine {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Machine { cores, ..Machine::read(Path::new("/")) }
    }

    /// The machine whose `proc` and `sys` lie below `root`; one core.
    pub fn read(root: &Path) -> Machine {
        let text = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
        Machine {
            memory_bytes: field_bytes(&text("proc/meminfo"), "MemTotal"),
            limit_bytes: cgroup_limit(&root.join("sys/fs/cgroup"), &text("proc/self/cgroup")),
            cpu: cpu_name(&text("proc/cpuinfo"), &text("proc/device-tree/model")),
            cores: 1,
        }
    }

    /// What this process may take: the machine's memory, or less where a control group says so.
    pub fn usable_bytes(&self) -> Option<u64> {
        match (self.memory_bytes, self.limit_bytes) {
            (Some(memory), Some(limit)) => Some(memory.min(limit)),
            (memory, limit) => memory.or(limit),
        }
    }

    /// Where the figure of [`Machine::usable_bytes`] comes from, in words.
    pub fn usable_word(&self) -> &'static str {
        match (self.memory_bytes, self.limit_bytes) {
            (Some(memory), Some(limit)) if limit < memory => "the control group's limit",
            _ => "the machine's memory",
        }
    }
}

impl Resident {
    /// This process, now. Zero where the system does not say.
    pub fn now() -> Resident {
        Resident::parse(&fs::read_to_string("/proc/self/status").unwrap_or_default())
    }

    fn parse(status: &str) -> Resident {
        let bytes = |name| field_bytes(status, name).unwrap_or(0);
        Resident {
            resident_bytes: bytes("VmRSS"),
            peak_bytes: bytes("VmHWM"),
            own_bytes: bytes("RssAnon"),
            file_bytes: bytes("RssFile"),
        }
    }
}

/// `Name:   123 kB` of a file of such lines.
fn field_bytes(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kib: u64 = rest.split_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1024)
}

fn cpu_name(cpuinfo: &str, board: &str) -> String {
    let named = |name: &str| {
        let line = cpuinfo.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let board = board.trim_matches(['\0', ' ', '\n']).to_owned();
    let name = named("model name").or_else(|| (!board.is_empty()).then_some(board));
    let name = name.or_else(|| named("CPU part")).unwrap_or_else(|| "unknown processor".to_owned());
    name.chars().filter(|c| !c.is_control()).take(120).collect()
}

/// The lowest limit on the way from this process's control group up to the root. Version 2 has one
/// line `0::/path`, version 1 one that names `memory`.
fn cgroup_limit(mount: &Path, groups: &str) -> Option<u64> {
    let mut limits = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(kinds), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let is_v1 = kinds.split(',').any(|kind| kind == "memory");
        if !kinds.is_empty() && !is_v1 {
            continue;
        }
        let (base, file) = match is_v1 {
            true => (mount.join("memory"), "memory.limit_in_bytes"),
            false => (mount.to_owned(), "memory.max"),
        };
        // In a container the path may be the host's: the mount itself is looked at always.
        let mut at = PathBuf::from(path.trim_start_matches('/'));
        loop {
            let text = fs::read_to_string(base.join(&at).join(file)).unwrap_or_default();
            limits.extend(text.trim().parse::<u64>().ok());
            if !at.pop() {
                break;
            }
        }
    }
    // Version 1 writes "no limit" as a number near the largest there is.
    limits.into_iter().filter(|bytes| *bytes > 0 && *bytes < 1 << 60).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> Machine {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Machine::read(root.path())
    }

    #[test]
    fn the_lowest_limit_on_the_way_up_counts() {
        let memory = ("proc/meminfo", "MemTotal:        8000000 kB\nMemFree: 1 kB\n");
        let v2 = machine(&[
            memory,
            ("proc/self/cgroup", "0::/system.slice/inspectd.service\n"),
            ("sys/fs/cgroup/system.slice/inspectd.service/memory.max", "max\n"),
            ("sys/fs/cgroup/system.slice/memory.max", "4294967296\n"),
        ]);
        assert_eq!(v2.usable_bytes(), Some(4 << 30));
        assert_eq!(v2.usable_word(), "the control group's limit");
        let v1 = machine(&[
            memory,
            ("proc/self/cgroup", "12:cpu,cpuacct:/a\n5:memory:/a/b\n"),
            ("sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", "9223372036854771712\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "1073741824\n"),
        ]);
        assert_eq!(v1.usable_bytes(), Some(1 << 30));
        let plain = machine(&[memory, ("proc/self/cgroup", "0::/\n")]);
        assert_eq!(plain.usable_bytes(), Some(8_000_000 * 1024));
        assert_eq!(machine(&[]).usable_bytes(), None);
    }

    #[test]
    fn a_processor_is_named_by_what_there_is() {
        assert_eq!(
            cpu_name("processor: 0\nmodel name\t: Some CPU @ 2 GHz\n", ""),
            "Some CPU @ 2 GHz"
        );
        assert_eq!(cpu_name("processor : 0\n", "Jetson Orin Nano\0"), "Jetson Orin Nano");
        assert_eq!(cpu_name("", ""), "unknown processor");
    }

    #[test]
    fn the_process_knows_its_size() {
        let text = "VmHWM:\t  200 kB\nVmRSS:\t  100 kB\nRssAnon:\t 60 kB\nRssFile:\t 40 kB\n";
        let found = Resident::parse(text);
        assert_eq!((found.peak_bytes, found.resident_bytes), (200 << 10, 100 << 10));
        assert_eq!((found.own_bytes, found.file_bytes), (60 << 10, 40 << 10));
        assert!(Resident::now().resident_bytes > 0);
    }
}
