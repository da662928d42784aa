//! The Yocto layer against the project: what it pins, names and installs has to be what is here.
//!
//! bitbake itself reads the layer in `scripts/yocto parse`, which takes minutes and checkouts of other
//! projects. These comparisons need neither, and find what goes stale first.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use yaml_rust2::{Yaml, YamlLoader};

const LAYER: &str = "yocto/meta-inspectd";
const RECIPE: &str = "recipes-inspectd/inspectd/inspectd_git.bb";
const CRATES: &str = "recipes-inspectd/inspectd/inspectd-crates.inc";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn layer_file(path: &str) -> String {
    read(Path::new(LAYER).join(path))
}

fn manifest() -> toml::Table {
    read("Cargo.toml").parse().expect("Cargo.toml is TOML")
}

/// The lines of a recipe without comments, those that end in a backslash joined.
fn statements(text: &str) -> Vec<String> {
    let mut joined = Vec::new();
    let mut open = String::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        match line.strip_suffix('\\') {
            Some(part) => open.push_str(part),
            None => joined.push(std::mem::take(&mut open) + line),
        }
    }
    joined
}

/// The value of the one assignment to `name` with any operator, without its quotes.
fn value(recipe: &str, name: &str) -> String {
    let values: Vec<String> = statements(recipe)
        .iter()
        .filter_map(|line| {
            let rest = line.strip_prefix(name)?.trim_start();
            let (operator, quoted) = rest.split_once('"')?;
            let operator = operator.trim();
            let known = ["=", "?=", "??=", "+=", ":="].contains(&operator);
            known.then(|| quoted.trim_end().trim_end_matches('"').to_owned())
        })
        .collect();
    assert_eq!(values.len(), 1, "assignments to {name}: {values:?}");
    values.into_iter().next().unwrap()
}

/// Crates from a registry in Cargo.lock: name-version → SHA-256.
fn locked() -> BTreeMap<String, String> {
    let lock: toml::Table = read("Cargo.lock").parse().expect("Cargo.lock is TOML");
    let text = |package: &toml::Value, key: &str| package.get(key)?.as_str().map(str::to_owned);
    lock["package"]
        .as_array()
        .expect("a list of packages")
        .iter()
        .filter(|package| package.get("source").is_some())
        .map(|package| {
            let name = text(package, "name").unwrap();
            let version = text(package, "version").unwrap();
            let sum = text(package, "checksum");
            (format!("{name}-{version}"), sum.expect("a crate of a registry has a checksum"))
        })
        .collect()
}

/// What the recipe fetches, and the sums it holds that to.
fn pinned(text: &str) -> (BTreeSet<String>, BTreeMap<String, String>) {
    let mut fetched = BTreeSet::new();
    let mut sums = BTreeMap::new();
    for line in text.lines() {
        if let Some(crate_) = line.trim().strip_prefix("crate://crates.io/") {
            let crate_ = crate_.trim_end_matches([' ', '\\']);
            let (name, version) = crate_.split_once('/').expect("NAME/VERSION");
            assert!(fetched.insert(format!("{name}-{version}")), "twice: {line}");
        } else if let Some(rest) = line.strip_prefix("SRC_URI[") {
            let (key, sum) = rest.split_once(".sha256sum] = \"").expect("a SHA-256");
            sums.insert(key.to_owned(), sum.trim_end_matches('"').to_owned());
        }
    }
    (fetched, sums)
}

#[test]
fn the_recipe_pins_the_crates_of_the_lock_file() {
    let locked = locked();
    let (fetched, sums) = pinned(&layer_file(CRATES));
    let remedy = "Cargo.lock was changed: write the list anew with  scripts/yocto crates";
    let wanted: BTreeSet<String> = locked.keys().cloned().collect();
    let missing: Vec<_> = wanted.difference(&fetched).collect();
    let superfluous: Vec<_> = fetched.difference(&wanted).collect();
    let wrong: Vec<_> = locked.iter().filter(|(name, sum)| sums.get(*name) != Some(sum)).collect();
    assert!(
        missing.is_empty()
            && superfluous.is_empty()
            && wrong.is_empty()
            && sums.len() == locked.len(),
        "{remedy}\nmissing: {missing:?}\nsuperfluous: {superfluous:?}\nother sums: {wrong:?}"
    );
    assert!(sums.values().all(|sum| sum.len() == 64), "a SHA-256 has 64 digits");
}

#[test]
fn version_and_rust_are_those_of_the_manifest() {
    let recipe = layer_file(RECIPE);
    let manifest = manifest();
    let version = manifest["package"]["version"].as_str().unwrap();
    assert_eq!(value(&recipe, "PV"), format!("{version}+git"));
    let rust = manifest["package"]["rust-version"].as_str().unwrap();
    assert!(
        recipe.contains(&format!("(rust, \"{rust}\", \"<\")")),
        "the recipe asks for another Rust than {rust}"
    );
}

#[test]
fn features_are_those_of_the_manifest() {
    let append = layer_file("dynamic-layers/tegra/recipes-inspectd/inspectd/inspectd_git.bbappend");
    let recipe = layer_file(RECIPE);
    let manifest = manifest();
    let features = manifest["features"].as_table().unwrap();
    let mut offered = BTreeSet::new();
    for line in statements(&recipe).iter().chain(&statements(&append)) {
        let Some((_, rest)) = line.split_once("--features=") else { continue };
        let feature = rest.split([',', '"']).next().unwrap();
        assert!(features.contains_key(feature), "Cargo.toml has no feature {feature}: {line}");
        assert!(line.starts_with(&format!("PACKAGECONFIG[{feature}]")), "{line}");
        offered.insert(feature.to_owned());
    }
    for feature in ["gst", "parquet", "cuda"] {
        assert!(offered.contains(feature), "{feature} cannot be chosen");
    }
    let chosen = value(&recipe, "PACKAGECONFIG");
    let chosen: Vec<&str> = chosen.split_whitespace().collect();
    for feature in features["default"].as_array().unwrap() {
        let feature = feature.as_str().unwrap();
        assert!(
            chosen.contains(&feature),
            "Cargo.toml has {feature} by default, the recipe has not"
        );
    }
    assert!(!recipe.contains("fault-points"), "fault points are never in a release");
}

#[test]
fn units_are_those_of_the_project() {
    let recipe = layer_file(RECIPE);
    let named = value(&recipe, "SYSTEMD_SERVICE:${PN}");
    let named: BTreeSet<String> = named.split_whitespace().map(str::to_owned).collect();
    let there: BTreeSet<String> = fs::read_dir(root().join("systemd"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| {
            [".service", ".socket", ".timer", ".path", ".target"]
                .iter()
                .any(|kind| name.ends_with(kind))
        })
        .collect();
    assert_eq!(named, there, "name the units in systemd/ in SYSTEMD_SERVICE:${{PN}} of {RECIPE}");
}

#[test]
fn the_user_is_that_of_the_sysusers_file() {
    let recipe = layer_file(RECIPE);
    let made = value(&recipe, "USERADD_PARAM:${PN}").replace("${localstatedir}", "/var");
    for line in read("systemd/inspectd.sysusers").lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["u", name, ..] => {
                assert!(made.ends_with(&format!(" {name}")), "{made}");
                let home = words.last().unwrap();
                assert!(made.contains(&format!("--home-dir {home} ")), "{made}: {line}");
            }
            ["m", name, group] => {
                assert!(
                    made.ends_with(name) && made.contains(&format!("--groups {group} ")),
                    "{made}: {line}"
                );
            }
            [] => {}
            [comment, ..] if comment.starts_with('#') => {}
            _ => panic!("the recipe knows nothing of this line: {line}"),
        }
    }
}

#[test]
fn files_that_are_named_are_there() {
    let recipe = layer_file(RECIPE);
    // Of what the shell completes, the folder.
    let fixed = |path: &str| match path.find(['$', '*']) {
        Some(at) => path[..at].rsplit_once('/').map_or("", |(folder, _)| folder).to_owned(),
        None => path.to_owned(),
    };
    let in_source =
        recipe.split("${S}/").skip(1).map(|rest| rest.split([' ', '\n', ';', '"']).next().unwrap());
    let licences = recipe
        .split("file://")
        .skip(1)
        .filter_map(|rest| rest.split_once(";md5=").map(|(path, _)| path));
    for path in in_source.chain(licences.filter(|path| !path.contains('\''))) {
        let path = fixed(path);
        assert!(!path.is_empty() && root().join(&path).exists(), "{RECIPE} names {path}");
    }
}

fn kas_files() -> Vec<PathBuf> {
    let files = fs::read_dir(root().join("yocto/kas")).unwrap();
    files.map(|entry| entry.unwrap().path()).collect()
}

fn yaml(path: &Path) -> Yaml {
    let mut documents = YamlLoader::load_from_str(&read(path)).expect("kas files are YAML");
    assert_eq!(documents.len(), 1, "{}", path.display());
    documents.remove(0)
}

#[test]
fn boards_are_pinned() {
    let mut machines = BTreeSet::new();
    for path in kas_files() {
        let file = yaml(&path);
        let path = path.display();
        for include in file["header"]["includes"].as_vec().into_iter().flatten() {
            let include = include.as_str().unwrap();
            assert!(root().join(include).is_file(), "{path} includes {include}");
        }
        if let Some(machine) = file["machine"].as_str() {
            machines.insert(machine.to_owned());
        }
        for (name, repository) in file["repos"].as_hash().into_iter().flatten() {
            let name = name.as_str().unwrap();
            if repository["url"].is_badvalue() {
                for layer in repository["layers"].as_hash().expect("our own layer").keys() {
                    let conf = Path::new(layer.as_str().unwrap()).join("conf/layer.conf");
                    assert!(root().join(&conf).is_file(), "{path}: {}", conf.display());
                }
                continue;
            }
            let commit = repository["commit"].as_str().unwrap_or_default();
            let full = commit.len() == 40 && commit.bytes().all(|digit| digit.is_ascii_hexdigit());
            assert!(full, "{path}: {name} is not pinned to a commit: {commit:?}");
        }
    }
    for machine in ["qemuarm64", "raspberrypi5", "jetson-orin-nano-devkit"] {
        assert!(machines.contains(machine), "no kas file for {machine}");
    }
}
