//! Who made a manifest: a minisign signature (Ed25519) beside it.
//!
//! `minisign -G` makes a pair of keys, `minisign -Sm model.sha256` signs; the program only verifies.

use std::path::Path;

use minisign_verify::{PublicKey, Signature};

use super::ProvenanceError;

/// Largest key or signature that is read, in bytes. They have a few hundred.
const MAX_BYTES: u64 = 16 << 10;

/// Checks that `signature` is one of the file `signed` by the owner of `key`: a public key's file
/// as minisign writes it, or the key itself (56 characters). Answers the trusted comment.
///
/// # Errors
/// What cannot be read, is no key or signature, or does not fit.
pub fn check(signed: &Path, signature: &Path, key: &str) -> Result<String, ProvenanceError> {
    let wrong = |path: &Path, problem: String| ProvenanceError::Signature {
        path: path.to_owned(),
        problem,
    };
    let key = read_key(key)?;
    let text = super::read_text(signature, MAX_BYTES)?;
    let parsed = Signature::decode(&text).map_err(|why| {
        wrong(signature, format!("is not a minisign signature ({why}); make one with minisign -Sm"))
    })?;
    let bytes = super::read_text(signed, 1 << 20)?;
    key.verify(bytes.as_bytes(), &parsed, true).map_err(|why| {
        let problem = format!(
            "is not this key's signature of {} as it is now ({why}): do not use it before you \
             know who changed which",
            signed.display()
        );
        wrong(signature, problem)
    })?;
    let comment: String = parsed.trusted_comment().chars().take(200).collect();
    Ok(comment.replace(char::is_control, " "))
}

fn read_key(key: &str) -> Result<PublicKey, ProvenanceError> {
    let path = Path::new(key);
    let wrong = |why: minisign_verify::Error| ProvenanceError::Signature {
        path: path.to_owned(),
        problem: format!("is not a minisign public key ({why})"),
    };
    // A key is 42 bytes in base64; nobody names a file so.
    if key.len() == 56 && !path.exists() {
        return PublicKey::from_base64(key).map_err(wrong);
    }
    let text = super::read_text(path, MAX_BYTES)?;
    let bare = PublicKey::from_base64(text.trim());
    bare.or_else(|_| PublicKey::decode(&text)).map_err(wrong)
}
