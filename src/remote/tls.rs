//! Whose certificates a connection trusts: the plant's authority, or the system's.

use std::path::Path;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::address::Address;

/// The part of a client's settings that is about TLS. Only read where the address is encrypted.
///
/// # Errors
/// A file that holds no certificates, or a system without any, in words for a person.
pub fn config(address: &Address, ca_file: Option<&Path>) -> Result<TlsConfig, String> {
    if !address.is_encrypted() {
        return Ok(TlsConfig::default());
    }
    let roots = match ca_file {
        Some(file) => of_file(file)?,
        None => of_system()?,
    };
    // The provider is rustls with ring, as everywhere in this program.
    Ok(TlsConfig::builder().root_certs(RootCerts::new_with_certs(&roots)).build())
}

/// Whether `file` holds certificates of an authority.
///
/// # Errors
/// Why not, in words for a person.
pub fn check_ca(file: &Path) -> Result<(), String> {
    of_file(file).map(drop)
}

fn of_file(file: &Path) -> Result<Vec<Certificate<'static>>, String> {
    let bad = |why: String| format!("cannot use the CA file {}: {why}", file.display());
    let text = std::fs::read(file).map_err(|why| bad(why.to_string()))?;
    let found: Result<Vec<CertificateDer<'static>>, _> =
        CertificateDer::pem_slice_iter(&text).collect();
    let found = found.map_err(|why| bad(why.to_string()))?;
    if found.is_empty() {
        return Err(bad("it holds no certificate (-----BEGIN CERTIFICATE-----)".to_owned()));
    }
    // A root that the verifier cannot use would be left out without a word.
    let mut store = rustls::RootCertStore::empty();
    for certificate in &found {
        store.add(certificate.clone()).map_err(|why| bad(why.to_string()))?;
    }
    Ok(found.iter().map(|one| Certificate::from_der(one).to_owned()).collect())
}

fn of_system() -> Result<Vec<Certificate<'static>>, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut store = rustls::RootCertStore::empty();
    let good = |one: &&CertificateDer<'static>| store.add((*one).clone()).is_ok();
    let good: Vec<&CertificateDer<'static>> = found.certs.iter().filter(good).collect();
    if good.is_empty() {
        let why = found.errors.first().map_or("there are none".to_owned(), |why| why.to_string());
        return Err(format!("cannot use this system's root certificates: {why}; set `ca_file`"));
    }
    Ok(good.into_iter().map(|one| Certificate::from_der(one).to_owned()).collect())
}
