//! The device's key: Ed25519, so that an anchor tells who made it.
//!
//! Keys are PEM files, as `openssl genpkey -algorithm ed25519` writes them too: the private one in
//! PKCS#8, the public one as SubjectPublicKeyInfo.

use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};

use super::error::StoreError;

/// A SubjectPublicKeyInfo of Ed25519 is these bytes and the key's 32 (RFC 8410).
const SPKI_BEGINNING: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Largest key file that is read, in bytes. They have about 100.
const FILE_MAX_BYTES: u64 = 16 * 1024;

/// Bytes of a key in a line of PEM, as RFC 7468 wants them.
const PEM_LINE_CHARS: usize = 64;

/// A private key.
#[derive(Debug)]
pub struct SignKey(Ed25519KeyPair);

impl SignKey {
    /// Reads the PEM file at `path`.
    pub fn read(path: &Path) -> Result<SignKey, StoreError> {
        let wrong = |why: &str| key_error(path, why);
        let pem = read_file(path)?;
        let der = PrivatePkcs8KeyDer::from_pem_slice(&pem)
            .map_err(|_| wrong("it holds no private key in PKCS#8 PEM"))?;
        // openssl leaves the public part out, which is no fault.
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der())
            .map(SignKey)
            .map_err(|why| wrong(&format!("its key is not one of Ed25519 ({why})")))
    }

    /// Makes a key and writes it to `path`, readable for its owner alone; a file that is there is
    /// never replaced.
    pub fn create(path: &Path) -> Result<SignKey, StoreError> {
        let wrong = |why: String| key_error(path, &why);
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
            .map_err(|_| wrong("the system gives no random numbers".to_owned()))?;
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(|why| wrong(why.to_string()))?;
        let text = pem("PRIVATE KEY", document.as_ref());
        file.write_all(text.as_bytes())
            .and_then(|()| file.sync_all())
            .map_err(|why| wrong(why.to_string()))?;
        Ed25519KeyPair::from_pkcs8(document.as_ref())
            .map(SignKey)
            .map_err(|why| wrong(why.to_string()))
    }

    /// The public part as PEM.
    pub fn public_pem(&self) -> String {
        let mut spki = SPKI_BEGINNING.to_vec();
        spki.extend_from_slice(self.0.public_key().as_ref());
        pem("PUBLIC KEY", &spki)
    }

    /// The signature of `message`, in base64.
    pub(super) fn sign(&self, message: &[u8]) -> String {
        BASE64_STANDARD.encode(self.0.sign(message))
    }
}

/// The public part of a key.
#[derive(Clone, Debug)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Reads the PEM file at `path`.
    pub fn read(path: &Path) -> Result<PublicKey, StoreError> {
        let pem = read_file(path)?;
        let der = SubjectPublicKeyInfoDer::from_pem_slice(&pem)
            .map_err(|_| key_error(path, "it holds no public key in PEM"))?;
        let key = der.as_ref().strip_prefix(&SPKI_BEGINNING).and_then(|key| key.try_into().ok());
        key.map(PublicKey).ok_or_else(|| key_error(path, "its key is not one of Ed25519"))
    }

    /// Whether `signature`, in base64, is this key's of `message`.
    pub(super) fn verify(&self, message: &[u8], signature: &str) -> bool {
        let Ok(signature) = BASE64_STANDARD.decode(signature) else { return false };
        UnparsedPublicKey::new(&ED25519, &self.0).verify(message, &signature).is_ok()
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(FILE_MAX_BYTES).read_to_end(&mut bytes))
        .map_err(|why| key_error(path, &why.to_string()))?;
    Ok(bytes)
}

fn key_error(path: &Path, why: &str) -> StoreError {
    StoreError::Key { path: path.to_owned(), why: why.to_owned() }
}

fn pem(label: &str, der: &[u8]) -> String {
    let base64 = BASE64_STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in base64.as_bytes().chunks(PEM_LINE_CHARS) {
        text.push_str(&String::from_utf8_lossy(line));
        text.push('\n');
    }
    text + &format!("-----END {label}-----\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_signs_its_public_part_verifies_and_its_file_is_private() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("device.key");
        let made = SignKey::create(&path).expect("made");
        let mode = std::fs::metadata(&path).expect("is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(SignKey::create(&path).is_err(), "a key is never replaced");
        let read = SignKey::read(&path).expect("read");
        assert_eq!(read.public_pem(), made.public_pem());

        let public = dir.path().join("device.pub");
        std::fs::write(&public, made.public_pem()).expect("written");
        let key = PublicKey::read(&public).expect("read");
        let signature = read.sign(b"head");
        assert!(key.verify(b"head", &signature));
        assert!(!key.verify(b"tail", &signature));
        assert!(!key.verify(b"head", "no base64!"));
        assert!(PublicKey::read(&path).is_err(), "a private key is no public one");
        assert!(SignKey::read(&public).is_err());
    }

    #[test]
    fn keys_of_openssl_are_read() {
        // RFC 8410, section 10.3 and 10.1.
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("openssl.key");
        let text = "-----BEGIN PRIVATE KEY-----\n\
                    MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
                    -----END PRIVATE KEY-----\n";
        std::fs::write(&path, text).expect("written");
        let public = "-----BEGIN PUBLIC KEY-----\n\
                      MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n\
                      -----END PUBLIC KEY-----\n";
        assert_eq!(SignKey::read(&path).expect("read").public_pem(), public);
    }
}
