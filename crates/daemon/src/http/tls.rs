//! TLS: what the daemon shows to those who reach it from other machines.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// A certificate and its key, ready to be shown.
#[derive(Clone)]
pub struct Tls(pub(super) TlsAcceptor);

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    /// Reads both, in PEM. They are read once: to change them, start a second daemon and end the first.
    ///
    /// # Errors
    /// A sentence that names the file and what is wrong with it, and never what is in it.
    pub async fn of_files(cert: &Path, key: &Path) -> Result<Self, String> {
        let read = async |what: &str, path: &Path| {
            let text = tokio::fs::read(path).await;
            text.map_err(|error| format!("cannot read the {what} in {}: {error}", path.display()))
        };
        let (cert_pem, key_pem) = (read("certificate", cert).await?, read("certificate's key", key).await?);
        let certs: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&cert_pem).collect();
        let certs = certs.ok().filter(|certs: &Vec<CertificateDer<'static>>| !certs.is_empty());
        let certs = certs.ok_or_else(|| format!("{} holds no certificate in PEM", cert.display()))?;
        let key_der = PrivateKeyDer::from_pem_slice(&key_pem)
            .map_err(|_| format!("{} holds no private key in PEM", key.display()))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.map_err(|error| error.to_string())?.with_no_client_auth();
        let config = config.with_single_cert(certs, key_der).map_err(|error| {
            format!("{} and {} do not go together: {error}", cert.display(), key.display())
        })?;
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }
}
