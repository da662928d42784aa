//! A manifest: the list of a model's or a configuration's files with their SHA-256, in the form of `sha256sum`.
//!
//! ```text
//! # inspectd manifest 1
//! # model 6c1b…            what records name this model by
//! # bytes 1052424 model.safetensors
//! 9f86…  model.safetensors
//! ```
//!
//! `sha256sum -c` passes over the lines that begin with `#`; here they tell a file that was cut off
//! from one that was changed. A list that `sha256sum` wrote itself is a manifest, too.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use super::ProvenanceError;
use crate::vlm::Digest;

/// Largest manifest that is read, in bytes.
const MANIFEST_MAX_BYTES: u64 = 1 << 20;
/// Longest name, in bytes.
const NAME_MAX_BYTES: usize = 1024;

/// One line: what a file must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// Its length, if the manifest says it.
    pub bytes: Option<u64>,
}

/// What every file of a model, or of a configuration, must be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// File name -> what it must be.
    pub files: BTreeMap<String, Entry>,
    /// The digest by which records name the model, if the manifest says it.
    pub model: Option<Digest>,
}

impl Manifest {
    /// Reads the manifest at `path`.
    ///
    /// # Errors
    /// The line that is wrong, and why.
    pub fn read(path: &Path) -> Result<Manifest, ProvenanceError> {
        Manifest::parse(path, &super::read_text(path, MANIFEST_MAX_BYTES)?)
    }

    /// Parses `text`; `path` is for the error's words.
    ///
    /// # Errors
    /// As [`Manifest::read`].
    pub fn parse(path: &Path, text: &str) -> Result<Manifest, ProvenanceError> {
        let wrong = |line, problem: String| {
            Err(ProvenanceError::Manifest { path: path.to_owned(), line, problem })
        };
        let mut manifest = Manifest::default();
        let mut lengths = BTreeMap::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim_end_matches('\r');
            if let Some(remark) = line.strip_prefix('#') {
                manifest.remark(remark, &mut lengths);
            } else if !line.trim().is_empty() {
                let (name, digest) = match read_line(line) {
                    Ok(pair) => pair,
                    Err(problem) => return wrong(Some(number), problem),
                };
                let entry = Entry { digest, bytes: None };
                if manifest.files.insert(name.clone(), entry).is_some() {
                    return wrong(Some(number), format!("lists {name} for the second time"));
                }
            }
        }
        if manifest.files.is_empty() {
            return wrong(None, "lists no file".to_owned());
        }
        for (name, entry) in &mut manifest.files {
            entry.bytes = lengths.get(name).copied();
        }
        Ok(manifest)
    }

    /// A remark that is not one of ours is only a remark.
    fn remark(&mut self, remark: &str, lengths: &mut BTreeMap<String, u64>) {
        if let Some(hex) = remark.strip_prefix(" model ") {
            self.model = Digest::parse(hex.trim());
        } else if let Some((bytes, name)) =
            remark.strip_prefix(" bytes ").and_then(|rest| rest.split_once(' '))
            && let Ok(bytes) = bytes.parse()
        {
            lengths.insert(name.to_owned(), bytes);
        }
    }
}

/// `<64 digits>  name`, `<64 digits> *name`, with or without `./` before the name.
fn read_line(line: &str) -> Result<(String, Digest), String> {
    const FORM: &str =
        "expected 64 hexadecimal digits, two spaces and a file's name, as sha256sum writes them";
    let (hex, rest) = line.split_once(' ').ok_or(FORM)?;
    let digest = Digest::parse(hex).ok_or(FORM)?;
    let name = rest.strip_prefix([' ', '*']).ok_or(FORM)?;
    let name = name.strip_prefix("./").unwrap_or(name);
    if !is_inside(name) {
        let shown: String = name.chars().take(80).collect();
        return Err(format!("{shown:?} is not the name of a file inside the folder"));
    }
    Ok((name.to_owned(), digest))
}

/// Whether `name` is relative, stays inside and can stand on a line.
pub fn is_inside(name: &str) -> bool {
    let level = |level: &str| !matches!(level, "" | "." | "..");
    name.len() <= NAME_MAX_BYTES
        && name.split('/').all(level)
        && !name.contains(|c: char| c.is_control() || c == '\\')
}

impl fmt::Display for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# inspectd manifest 1")?;
        if let Some(model) = &self.model {
            writeln!(f, "# model {model}")?;
        }
        for (name, entry) in &self.files {
            if let Some(bytes) = entry.bytes {
                writeln!(f, "# bytes {bytes} {name}")?;
            }
            writeln!(f, "{}  {name}", entry.digest)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Manifest, String> {
        Manifest::parse(Path::new("m"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn what_sha256sum_writes_is_a_manifest() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let text = format!("{a}  config.json\r\n{b} *./sub/w.bin\n\n");
        let manifest = parse(&text).unwrap();
        assert_eq!(manifest.files["config.json"], Entry { digest: a, bytes: None });
        assert_eq!(manifest.files["sub/w.bin"].digest, b);
    }

    #[test]
    fn a_bad_line_is_named_and_nothing_leads_outside() {
        let a = Digest::of(b"a");
        for name in ["../x", "/etc/passwd", "a//b", "a/..", ".", "", "a\tb", "a\\b"] {
            let words = parse(&format!("{a}  ok\n{a}  {name}\n")).unwrap_err();
            assert!(words.contains("line 2"), "{name}: {words}");
        }
        assert!(parse(&format!("{a}  x\n{a}  x\n")).unwrap_err().contains("second time"));
        assert!(parse("abc  x\n").unwrap_err().contains("64 hexadecimal digits"));
        assert!(parse("# bytes 3 x\n").unwrap_err().contains("lists no file"));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(names in proptest::collection::btree_map(
            "[a-zA-Z0-9_ .-]{1,20}", (any::<u64>(), any::<u64>()), 1..20)) {
            let files = names
                .into_iter()
                .filter(|(name, _)| is_inside(name) && !name.ends_with(' '))
                .map(|(name, (seed, bytes))| {
                    (name, Entry { digest: Digest::of(&seed.to_le_bytes()), bytes: Some(bytes) })
                })
                .collect::<BTreeMap<_, _>>();
            prop_assume!(!files.is_empty());
            let manifest = Manifest { files, model: Some(Digest::of(b"m")) };
            prop_assert_eq!(parse(&manifest.to_string()).unwrap(), manifest);
        }

        #[test]
        fn no_text_makes_it_panic(text in "(?s).{0,400}") {
            let _ = parse(&text);
        }
    }
}
