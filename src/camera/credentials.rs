//! User name and password of a network camera, read anew each time it is opened, so that what was
//! changed holds without a restart.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use super::{CameraError, Credentials};

/// Where systemd puts a unit's credentials.
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// Longest file, in bytes.
const MAX_BYTES: u64 = 4096;

/// Reads user name and password.
#[cfg_attr(not(feature = "gst"), allow(dead_code))]
pub(super) fn read(camera: &str, from: &Credentials) -> Result<(String, String), CameraError> {
    read_in(camera, from, env::var_os(CREDENTIALS_DIRECTORY).map(PathBuf::from).as_deref())
}

fn read_in(
    camera: &str,
    from: &Credentials,
    folder: Option<&Path>,
) -> Result<(String, String), CameraError> {
    let bad = |path: &Path, why: String| CameraError::Credentials {
        camera: camera.to_owned(),
        path: path.to_owned(),
        why,
    };
    let path = match (from, folder) {
        (Credentials::File(path), _) => path.clone(),
        (Credentials::Systemd(name), Some(folder)) => folder.join(name),
        (Credentials::Systemd(name), None) => {
            let why = format!(
                "it is a credential of systemd, and there is none here; add LoadCredential={name}:FILE \
                 to the service"
            );
            return Err(bad(Path::new(name), why));
        }
    };
    let size = fs::metadata(&path).map_err(|why| bad(&path, why.to_string()))?.len();
    if size > MAX_BYTES {
        return Err(bad(&path, format!("it has {size} bytes")));
    }
    let text = fs::read_to_string(&path).map_err(|why| bad(&path, why.to_string()))?;
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    match (lines.next(), lines.next(), lines.next()) {
        (Some(user), Some(password), None) => Ok((user.to_owned(), password.to_owned())),
        _ => Err(bad(&path, "it has not two lines".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_lines_are_a_user_and_a_password_and_nothing_else_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).expect("written");
            Credentials::File(path)
        };
        let good = write("good", "operator\nsec ret\n\n");
        let pair = ("operator".to_owned(), "sec ret".to_owned());
        assert_eq!(read_in("press", &good, None).expect("read"), pair);
        let named = Credentials::Systemd("good".to_owned());
        assert_eq!(read_in("press", &named, Some(folder.path())).expect("read"), pair);
        for (name, text) in [("one", "operator\n"), ("three", "a\nb\nc\n"), ("none", "")] {
            let told = read_in("press", &write(name, text), None).expect_err(name).to_string();
            assert!(told.contains("press") && told.contains(name), "{told}");
        }
        let long = write("long", &"x".repeat(5000));
        assert!(read_in("press", &long, None).expect_err("too long").to_string().contains("5000"));
    }

    #[test]
    fn without_systemd_its_credential_is_refused_with_the_line_to_add() {
        let told = read_in("press", &Credentials::Systemd("cam3".to_owned()), None);
        let told = told.expect_err("there is none").to_string();
        assert!(told.contains("LoadCredential=cam3:FILE"), "{told}");
    }
}
