//! The short run of the fuzz targets: every committed seed, and mutations of them by a seeded generator, as
//! many for each target as can be waited for. `scripts/fuzz` is the long run of the same functions.
//!
//! `INSPECTD_FUZZ_CASES` and `INSPECTD_FUZZ_SEED` make other runs.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

#[path = "../../fuzz/src/lib.rs"]
#[allow(clippy::duplicate_mod)]
mod targets;

/// Mutations of each target, unless the environment says otherwise.
const CASES: u64 = 300;

/// Longest input that a mutation makes, in bytes.
const INPUT_MAX_BYTES: usize = 1 << 16;

/// What the formats are sensitive to: limits of numbers, the words of JSON and TOML, breaks of every kind.
const WORDS: &[&[u8]] = &[
    b"0",
    b"-1",
    b"1e999",
    b"-0.0",
    b"nan",
    b"inf",
    b"18446744073709551615",
    b"9223372036854775808",
    b"4294967296",
    b"65536",
    b"null",
    b"true",
    b"false",
    b"{}",
    b"[]",
    b"\"\"",
    b"\"",
    b"{",
    b"}",
    b"[",
    b"]",
    b"[[",
    b",",
    b":",
    b"=",
    b"\n",
    b"\r\n",
    b"\0",
    b"\\u0000",
    b"\\ud800",
    b"\xff\xfe",
    b"\xe2\x96\x81",
    b"\xc3",
    b"../",
    b"/",
    b"'''",
    b"\"\"\"",
    b"#",
    b"<|end|>",
    b"<image>",
    b"(a*)*",
    b"(?=",
    b"{1000}",
    b"\x89PNG",
    b"\xff\xd8",
    b"\xff\xd9",
    b"BM",
    b"GGUF",
    b"|||||||||||||||||||",
];

/// Numbers that lengths and offsets are set to.
const NUMBERS: &[u64] = &[
    0,
    1,
    7,
    8,
    31,
    32,
    255,
    256,
    4095,
    65_535,
    65_536,
    1 << 24,
    1 << 31,
    (1 << 32) - 1,
    1 << 32,
    1 << 40,
    1 << 62,
    (1 << 63) - 1,
    1 << 63,
    u64::MAX - 7,
    u64::MAX,
];

/// One mutation of `input`; `other` is another seed of the same target.
fn mutate(random: &mut ChaCha8Rng, input: &mut Vec<u8>, other: &[u8]) {
    let at = random.random_range(0..=input.len());
    let len = random.random_range(0..=16.min(input.len() - at));
    match random.random_range(0..9) {
        0 if at < input.len() => input[at] ^= 1 << random.random_range(0..8),
        1 if at < input.len() => input[at] = random.random(),
        2 => drop(input.drain(at..at + len)),
        3 => drop(input.splice(at..at + len, WORDS[random.random_range(0..WORDS.len())].to_vec())),
        4 => {
            let number = NUMBERS[random.random_range(0..NUMBERS.len())].to_le_bytes();
            let width = [1, 2, 4, 8][random.random_range(0..4)].min(input.len() - at);
            input[at..at + width].copy_from_slice(&number[..width]);
        }
        5 => {
            let piece = input[at..at + len].to_vec();
            let times = random.random_range(1..=64);
            input.splice(at..at, piece.repeat(times));
        }
        6 => {
            // From here on another seed, from anywhere in it.
            let from = random.random_range(0..=other.len());
            input.truncate(at);
            input.extend(&other[from..]);
        }
        7 => input.truncate(at),
        _ => change_number(random, input, at),
    }
    input.truncate(INPUT_MAX_BYTES);
}

/// Puts another number in the place of the next one that is written in digits.
fn change_number(random: &mut ChaCha8Rng, input: &mut Vec<u8>, from: usize) {
    let Some(start) = input[from..].iter().position(u8::is_ascii_digit).map(|at| from + at) else {
        return;
    };
    let digits = input[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number = NUMBERS[random.random_range(0..NUMBERS.len())].to_string();
    input.splice(start..start + digits, number.into_bytes());
}

fn seeds(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let entries = fs::read_dir(&dir).expect("each target has seeds");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(path).expect("readable"))).collect()
}

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().expect("a number"))
}

/// Runs `input`, and tells how to see a failure again.
fn look(target: &str, run: fn(&[u8]), of: &str, input: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(input))) {
        let kept = std::env::temp_dir().join(format!("inspectd-fuzz-{target}"));
        let told = match fs::write(&kept, input) {
            Ok(()) => format!("again: scripts/fuzz {target} --input {}", kept.display()),
            Err(why) => format!("its input could not be kept: {why}"),
        };
        eprintln!("{target}: failed at {of}; {told}");
        resume_unwind(panic);
    }
}

fn short_run(target: &str) {
    let (_, run) = targets::TARGETS.iter().find(|(name, _)| *name == target).expect("a target");
    let seeds = seeds(target);
    for (path, bytes) in &seeds {
        look(target, *run, &format!("seed {}", path.display()), bytes);
    }
    let (cases, seed) = (number("INSPECTD_FUZZ_CASES", CASES), number("INSPECTD_FUZZ_SEED", 1));
    for case in 0..cases {
        // Each case by itself, so that one can be run again without those before it.
        let mut random =
            ChaCha8Rng::seed_from_u64(seed.wrapping_mul(0x9e37_79b9).wrapping_add(case));
        let (_, first) = &seeds[random.random_range(0..seeds.len())];
        let (_, other) = &seeds[random.random_range(0..seeds.len())];
        let mut input = first.clone();
        for _ in 0..random.random_range(1..=6) {
            mutate(&mut random, &mut input, other);
        }
        look(target, *run, &format!("case {case} of INSPECTD_FUZZ_SEED={seed}"), &input);
    }
}

/// One test a target, so that they run side by side and a failure names its own.
macro_rules! short_runs {
    ($($target:ident)*) => {
        $(#[test]
        fn $target() {
            short_run(stringify!($target));
        })*

        #[test]
        fn every_target_has_its_short_run_its_binary_and_its_seeds() {
            let names: Vec<&str> = targets::TARGETS.iter().map(|(name, _)| *name).collect();
            assert_eq!(names, [$(stringify!($target)),*]);
            let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
            let manifest = fs::read_to_string(root.join("Cargo.toml")).expect("readable");
            for name in names {
                assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name}");
                let main = fs::read_to_string(root.join(format!("fuzz_targets/{name}.rs")));
                assert!(main.expect("readable").contains(&format!("inspectd_fuzz::{name}(")));
                assert!(!seeds(name).is_empty(), "{name}");
            }
        }
    };
}

short_runs! {
    adapter anchors answer calibration command engine_reply expect gguf main_toml manifest model_config model_index
    picture safetensors serial_list sparkplug_command station_toml tokenizer
}

#[test]
fn an_input_that_panics_fails_the_run_and_is_kept() {
    let name = "none-such";
    let failed = catch_unwind(|| look(name, |bytes| assert!(bytes.is_empty()), "a test", b"x"));
    assert!(failed.is_err());
    let kept = std::env::temp_dir().join(format!("inspectd-fuzz-{name}"));
    assert_eq!(fs::read(&kept).expect("kept"), b"x");
    fs::remove_file(kept).expect("removed");
    look(name, |bytes| assert!(bytes.is_empty()), "a test", b"");
}
