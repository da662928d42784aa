//! User name and password of a network camera, read anew each time it is opened, so that what was
//! changed holds without a restart.

use std::path::{Path, PathBuf};

use super::{CameraError, Credentials};
use crate::credential::{self, CredentialError, Text};

/// Reads user name and password.
#[cfg_attr(not(feature = "gst"), allow(dead_code))]
pub(super) fn read(camera: &str, from: &Credentials) -> Result<(String, String), CameraError> {
    login(camera, credential::read_text(from))
}

fn login(
    camera: &str,
    found: Result<Text, CredentialError>,
) -> Result<(String, String), CameraError> {
    let bad = |path: PathBuf, why: String| CameraError::Credentials {
        camera: camera.to_owned(),
        path,
        why,
    };
    let Text { path, text } = found.map_err(|why| match why {
        CredentialError::File { path, why } => bad(path, why),
        CredentialError::NoSystemd(ref name) => bad(Path::new(name).to_owned(), why.to_string()),
    })?;
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    match (lines.next(), lines.next(), lines.next()) {
        (Some(user), Some(password), None) => Ok((user.to_owned(), password.to_owned())),
        _ => Err(bad(path, "it has not two lines".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn read_in(
        camera: &str,
        from: &Credentials,
        folder: Option<&Path>,
    ) -> Result<(String, String), CameraError> {
        login(camera, credential::read_text_in(from, folder))
    }

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
        let long = write("long", &"x".repeat(50_000));
        assert!(read_in("press", &long, None).expect_err("too long").to_string().contains("50000"));
    }

    #[test]
    fn without_systemd_its_credential_is_refused_with_the_line_to_add() {
        let told = read_in("press", &Credentials::Systemd("cam3".to_owned()), None);
        let told = told.expect_err("there is none").to_string();
        assert!(told.contains("LoadCredential=cam3:FILE"), "{told}");
    }
}
