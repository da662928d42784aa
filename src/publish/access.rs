//! What a dial needs from files: user name, password, certificates. Read anew on each dial, so that
//! what was renewed holds without a restart.

use super::options::{PublishError, PublishOptions};
use super::tls::Tls;
use crate::credential::{self, CredentialError, Source, Text};

/// What was read for one dial.
#[derive(Clone)]
pub struct Access {
    /// User name and password.
    pub login: Option<(String, String)>,
    /// Encryption; `None`: none.
    pub tls: Option<Tls>,
}

impl Access {
    /// Reads the files that `options` name. Blocks on the disk.
    pub fn read(options: &PublishOptions) -> Result<Access, PublishError> {
        let login = login(options, credential::read_text)?;
        let tls = options.tls.as_ref().map(|tls| Tls::read(tls, options)).transpose()?;
        Ok(Access { login, tls })
    }
}

fn login(
    options: &PublishOptions,
    read: impl FnOnce(&Source) -> Result<Text, CredentialError>,
) -> Result<Option<(String, String)>, PublishError> {
    let source = match (&options.password_file, &options.password_credential) {
        (Some(file), _) => Source::File(file.clone()),
        (None, Some(name)) => Source::Systemd(name.clone()),
        (None, None) => {
            return Ok(options.username.clone().map(|username| (username, String::new())));
        }
    };
    let named = options.username.is_some();
    let bad = |path, why: String| PublishError::File {
        what: "password",
        path,
        why,
        remedy: if named {
            "put it there as the file's first line, readable for the user that inspectd runs as"
        } else {
            "put the user name into its first line and the password into its second, or set username"
        },
    };
    let Text { path, text } = read(&source).map_err(|why| match why {
        CredentialError::File { path, why } => bad(path, why),
        CredentialError::NoSystemd(name) => PublishError::NoCredentials(name),
    })?;
    let mut lines = text.lines().map(str::to_owned);
    let username = options.username.clone().or_else(|| lines.next());
    match (username, lines.next()) {
        (Some(username), Some(password)) if !username.is_empty() && !password.is_empty() => {
            Ok(Some((username, password)))
        }
        (_, None) if !named => Err(bad(path, "it has no second line".to_owned())),
        _ => Err(bad(path, "a line is empty".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn user_name_and_password_come_from_settings_files_and_credentials() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("both"), "line-1\nsecret\n").expect("written");
        fs::write(folder.path().join("one"), "secret\n").expect("written");
        let read = |username: Option<&str>, file: Option<&str>, credential: Option<&str>| {
            let mut options = PublishOptions::new("h", 1, "d", &[]);
            options.username = username.map(str::to_owned);
            options.password_file = file.map(|name| folder.path().join(name));
            options.password_credential = credential.map(str::to_owned);
            login(&options, |source| credential::read_text_in(source, Some(folder.path())))
                .map_err(|why| why.to_string())
        };
        let pair = |user: &str, word: &str| Ok(Some((user.to_owned(), word.to_owned())));
        assert_eq!(read(None, None, None), Ok(None));
        assert_eq!(read(Some("u"), None, None), pair("u", ""));
        assert_eq!(read(Some("u"), Some("one"), None), pair("u", "secret"));
        assert_eq!(read(None, Some("both"), None), pair("line-1", "secret"));
        assert_eq!(read(None, None, Some("both")), pair("line-1", "secret"));
        let told = read(None, Some("one"), None).expect_err("one line is not two");
        assert!(told.contains("no second line") && told.contains("set username"), "{told}");
        let told = read(Some("u"), None, Some("none")).expect_err("not there");
        assert!(told.contains("none"), "{told}");
        let mut options = PublishOptions::new("h", 1, "d", &[]);
        options.password_credential = Some("broker".into());
        let told = login(&options, |source| credential::read_text_in(source, None))
            .expect_err("no systemd")
            .to_string();
        assert!(told.contains("LoadCredential=broker:FILE"), "{told}");
    }
}
