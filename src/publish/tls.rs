//! Encryption: who is believed, who we say we are, and what a failed handshake means to an operator.
//!
//! rustls with ring, as it builds for every target without more than a C compiler. The chain is
//! always verified; there is no setting that turns that off.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore,
    SignatureScheme,
};

use super::options::{PublishError, PublishOptions, TlsOptions};

/// Encryption for one dial.
#[derive(Clone, Debug)]
pub struct Tls {
    /// For the library.
    pub config: Arc<ClientConfig>,
    options: TlsOptions,
    host: String,
    port: u16,
}

impl Tls {
    /// Reads the files of `tls`.
    pub fn read(tls: &TlsOptions, options: &PublishOptions) -> Result<Tls, PublishError> {
        let config = Arc::new(client_config(tls)?);
        let (host, port) = (options.host.clone(), options.port);
        Ok(Tls { config, options: tls.clone(), host, port })
    }

    /// What a failed handshake means, and what to do.
    pub fn explain(&self, error: &rustls::Error) -> String {
        use rustls::Error;
        match error {
            Error::InvalidCertificate(why) => self.explain_server(why),
            Error::AlertReceived(alert) => self.explain_alert(*alert),
            Error::InvalidMessage(_) => format!(
                "what answers at {}:{} does not speak TLS: set `port` to the broker's TLS port, 8883 \
                 by custom, or `tls = false` ({error})",
                self.host, self.port
            ),
            other => format!("TLS failed: {other}"),
        }
    }

    fn explain_server(&self, why: &CertificateError) -> String {
        let ca = match &self.options.ca_file {
            Some(path) => path.display().to_string(),
            None => "this system's root certificates".to_owned(),
        };
        match why {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => format!(
                "the broker's certificate is not signed by an authority in {ca}: put the certificate \
                 of the one that signed it into `ca_file`"
            ),
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => format!(
                "the broker's certificate has expired: renew it at the broker, or correct this \
                 machine's clock ({why})"
            ),
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => format!(
                "the broker's certificate is not valid yet: correct this machine's clock ({why})"
            ),
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                format!(
                    "the broker's certificate is not for \"{}\": write the name in it as `host`, or \
                     as `server_name` ({why})",
                    self.options.server_name.as_deref().unwrap_or(&self.host)
                )
            }
            other => format!("the broker's certificate is not accepted: {other}"),
        }
    }

    fn explain_alert(&self, alert: AlertDescription) -> String {
        match &self.options.client_cert {
            None => format!(
                "the broker ended the TLS handshake ({alert:?}): if it asks for a client \
                 certificate, set `client_cert` and `client_key`"
            ),
            Some(path) => format!(
                "the broker does not accept the client certificate in {} ({alert:?}): use one that \
                 the broker's authority signed and that has not expired",
                path.display()
            ),
        }
    }
}

/// Reads the files of `tls` into what a connection is made with. Whoever has another name than `server_name`
/// is not believed.
///
/// # Errors
/// A file that is not there, or holds something else.
pub fn client_config(tls: &TlsOptions) -> Result<ClientConfig, PublishError> {
    let provider = Arc::new(ring::default_provider());
    let roots = Arc::new(roots(tls)?);
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
        .build()
        .map_err(|why| PublishError::Roots(why.to_string()))?;
    let name = tls
        .server_name
        .as_deref()
        .map(|name| ServerName::try_from(name).expect("checked with the options").to_owned());
    let has_other_name = name.is_some();
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has cipher suites for TLS 1.2 and 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier { inner: verifier, name }));
    let mut config = match (&tls.client_cert, &tls.client_key) {
        (Some(cert), Some(key)) => {
            let chain = certificates("client certificate", cert)?;
            let private = PrivateKeyDer::from_pem_file(key).map_err(|why| {
                bad("client key", key, why.to_string(), "put the private key there as PEM")
            })?;
            builder.with_client_auth_cert(chain, private).map_err(|why| {
                let why = format!("{why}; the certificate is {}", cert.display());
                bad("client key", key, why, "use the key that the certificate was made for")
            })?
        }
        _ => builder.with_no_client_auth(),
    };
    // The library would announce the host, under which the server has no certificate.
    config.enable_sni = !has_other_name;
    Ok(config)
}

/// The TLS error at the bottom of `error`, if there is one.
pub fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

fn roots(tls: &TlsOptions) -> Result<RootCertStore, PublishError> {
    let mut roots = RootCertStore::empty();
    match &tls.ca_file {
        Some(path) => {
            for certificate in certificates("CA certificates", path)? {
                let remedy = "put the authority's certificate there as PEM";
                roots
                    .add(certificate)
                    .map_err(|why| bad("CA certificates", path, why.to_string(), remedy))?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            let (good, _) = roots.add_parsable_certificates(found.certs);
            if good == 0 {
                let why =
                    found.errors.first().map_or("there are none".to_owned(), |why| why.to_string());
                return Err(PublishError::Roots(why));
            }
        }
    }
    Ok(roots)
}

fn certificates(
    what: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, PublishError> {
    let remedy = "put certificates there as PEM (-----BEGIN CERTIFICATE-----)";
    let text = fs::read(path).map_err(|why| bad(what, path, why.to_string(), remedy))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if found.is_empty() => {
            Err(bad(what, path, "it holds no certificate".to_owned(), remedy))
        }
        Ok(found) => Ok(found),
        Err(why) => Err(bad(what, path, why.to_string(), remedy)),
    }
}

fn bad(what: &'static str, path: &Path, why: String, remedy: &'static str) -> PublishError {
    PublishError::File { what, path: path.to_owned(), why, remedy }
}

/// Verifies as rustls does, against another name if one is set.
#[derive(Debug)]
struct Verifier {
    inner: Arc<WebPkiServerVerifier>,
    name: Option<ServerName<'static>>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let name = self.name.as_ref().unwrap_or(server_name);
        self.inner.verify_server_cert(end_entity, intermediates, name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
