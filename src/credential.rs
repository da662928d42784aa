//! Secrets that a configuration names and never holds: in a file, or in a credential that systemd gives to
//! the service. Read anew at each use, so that what was renewed holds without a restart.

use std::env;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// Where systemd puts a unit's credentials.
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// Longest file with a secret, in bytes: a token of an identity provider may have a few thousand.
const MAX_BYTES: u64 = 16 * 1024;

/// Where a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The first line of this file.
    File(PathBuf),
    /// The credential of this name (`LoadCredential=NAME:FILE` in the unit).
    Systemd(String),
}

/// A secret. It is printed nowhere: `Debug` tells that there is one.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// Why there is no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// The file cannot be used.
    #[error("cannot read the key in {path}: {why}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// A credential of systemd, and systemd gave none.
    #[error(
        "\"{0}\" is a credential of systemd, and there is none here; add LoadCredential={0}:FILE to the service"
    )]
    NoSystemd(String),
}

impl Secret {
    /// The secret itself, for the one place that sends it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Reads the secret: one line of printable ASCII, as it stands in a header.
///
/// # Errors
/// No such file, one that is empty, too long, or has another form.
pub fn read(source: &Source) -> Result<Secret, CredentialError> {
    read_in(source, folder().as_deref())
}

/// The whole of a file with secrets, of which the caller knows the form.
pub struct Text {
    /// Where it was.
    pub path: PathBuf,
    /// What it holds.
    pub text: String,
}

/// Reads the file, whatever its form.
///
/// # Errors
/// No such file, or one that is too long or no text.
pub fn read_text(source: &Source) -> Result<Text, CredentialError> {
    read_text_in(source, folder().as_deref())
}

/// As [`read_text`], with systemd's credentials in this folder.
pub(crate) fn read_text_in(
    source: &Source,
    folder: Option<&Path>,
) -> Result<Text, CredentialError> {
    let path = match (source, folder) {
        (Source::File(path), _) => path.clone(),
        (Source::Systemd(name), Some(folder)) => folder.join(name),
        (Source::Systemd(name), None) => return Err(CredentialError::NoSystemd(name.clone())),
    };
    let bad = |why: String| CredentialError::File { path: path.clone(), why };
    let about = fs::metadata(&path).map_err(|why| bad(why.to_string()))?;
    if !about.is_file() {
        return Err(bad("it is not a file".to_owned()));
    }
    if about.len() > MAX_BYTES {
        return Err(bad(format!("it has {} bytes, {MAX_BYTES} at most", about.len())));
    }
    let text = fs::read_to_string(&path).map_err(|why| bad(why.to_string()))?;
    Ok(Text { path, text })
}

fn folder() -> Option<PathBuf> {
    env::var_os(CREDENTIALS_DIRECTORY).map(PathBuf::from)
}

fn read_in(source: &Source, folder: Option<&Path>) -> Result<Secret, CredentialError> {
    let Text { path, text } = read_text_in(source, folder)?;
    let bad = |why: String| CredentialError::File { path: path.clone(), why };
    let line = text.lines().next().unwrap_or_default().trim();
    if line.is_empty() {
        return Err(bad("its first line is empty".to_owned()));
    }
    if !line.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(bad("its first line holds more than letters, digits and signs".to_owned()));
    }
    Ok(Secret(line.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_one_line_and_is_not_printed() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).expect("written");
            Source::File(path)
        };
        let secret = read_in(&write("good", " sk-1234\n# note\n"), None).expect("read");
        assert_eq!((secret.reveal(), format!("{secret:?}").as_str()), ("sk-1234", "Secret(…)"));
        let named = read_in(&Source::Systemd("good".into()), Some(folder.path()));
        assert_eq!(named.expect("read"), secret);
        for (name, text) in [("empty", "\nsk"), ("two", "sk 1234"), ("line", "sk\u{7}1")] {
            let told = read_in(&write(name, text), None).expect_err(name).to_string();
            assert!(told.contains(name) && !told.contains("1234"), "{told}");
        }
        let long = "x".repeat(20_000);
        assert!(read_in(&write("long", &long), None).is_err());
        assert!(read_in(&Source::File(folder.path().into()), None).is_err());
    }

    #[test]
    fn without_systemd_the_line_to_add_is_told() {
        let told = read_in(&Source::Systemd("gpu".into()), None).expect_err("none").to_string();
        assert!(told.contains("LoadCredential=gpu:FILE"), "{told}");
    }
}
