//! A secret that a table names and does not hold: by a file, or by a credential that systemd gives.

use std::path::PathBuf;

use toml::Spanned;

use super::reader::Reader;
use crate::credential::{self, CredentialError, Source};

/// What a table calls its secret.
pub struct Names {
    /// The key that names a file.
    pub file: &'static str,
    /// The key that names a credential of systemd.
    pub credential: &'static str,
    /// The word that people use.
    pub what: &'static str,
}

/// The key of an engine or a collector.
pub const KEY: Names = Names { file: "key_file", credential: "key_credential", what: "key" };

/// A password.
pub const PASSWORD: Names =
    Names { file: "password_file", credential: "password_credential", what: "password" };

/// Reads where the secret is, and tries the file: its first line, without spaces.
pub fn read(table: &mut Reader<'_>, names: &Names) -> Option<Source> {
    let file: Option<Spanned<PathBuf>> = table.path(names.file);
    let credential = credential_name(table, names.credential);
    if let (Some(_), Some(second)) = (&file, &credential) {
        let title =
            format!("{} has both `{}` and `{}`", table.name(), names.file, names.credential);
        table.error(second.span(), title, "keep one of them");
    }
    let Some(file) = file else {
        return credential.map(|name| Source::Systemd(name.into_inner()));
    };
    let source = Source::File(file.get_ref().clone());
    if let Err(why) = credential::read(&source) {
        let title = match why {
            CredentialError::File { path, why } => {
                format!("cannot read the {} in {}: {why}", names.what, path.display())
            }
            other => other.to_string(),
        };
        let remedy = format!(
            "put the {} there as the file's first line, without spaces, readable for the user of the service",
            names.what
        );
        table.error(file.span(), title, remedy);
    }
    Some(source)
}

/// The name of a credential of systemd.
pub fn credential_name(table: &mut Reader<'_>, key: &'static str) -> Option<Spanned<String>> {
    let name = table.text(key, 255)?;
    if name.get_ref().contains('/') || name.get_ref().starts_with('.') {
        let title = format!("`{key}` cannot be \"{}\"", name.get_ref());
        table.error(name.span(), title, "write the name given to LoadCredential=, without a path");
        return None;
    }
    Some(name)
}
