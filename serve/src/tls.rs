//! TLS: the certificate from files, or a self-signed one that is made once and kept in the data folder.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};

use crate::files;

/// Where the certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Tls {
    /// One that the server makes for itself at first start and keeps in the data folder as `tls-cert.pem`, with its
    /// key in `tls-key.pem`.
    SelfSigned,
    /// PEM files.
    Files {
        /// The certificate, followed by those that lead from it to a root.
        certificate: PathBuf,
        /// Its private key.
        key: PathBuf,
    },
}

/// Why TLS cannot be spoken.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file could not be read or written.
    #[error("the TLS file {path} cannot be used: {reason}; check that it is there and holds PEM")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The certificate and the key do not make a server.
    #[error("the certificate {path} cannot be served: {reason}; check that it and its key belong together")]
    Pair {
        /// The certificate's file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A certificate could not be made.
    #[error("no self-signed certificate can be made: {reason}")]
    Make {
        /// What is wrong.
        reason: String,
    },
}

/// Reads or makes the certificate. `hosts` are the names that a self-signed one is made out to.
///
/// # Errors
/// [`TlsError`] names the file that is in the way.
pub fn server_config(tls: &Tls, data_dir: &Path, hosts: &[String]) -> Result<Arc<ServerConfig>, TlsError> {
    let (certificate, key) = match tls {
        Tls::Files { certificate, key } => (certificate.clone(), key.clone()),
        Tls::SelfSigned => self_signed(data_dir, hosts)?,
    };
    let chain = CertificateDer::pem_file_iter(&certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| TlsError::File { path: certificate.clone(), reason: error.to_string() })?;
    let key = PrivateKeyDer::from_pem_file(&key)
        .map_err(|error| TlsError::File { path: key.clone(), reason: error.to_string() })?;
    let pair = |error: rustls::Error| TlsError::Pair { path: certificate.clone(), reason: error.to_string() };
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(pair)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(pair)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Makes the certificate if it is not there, and returns where it and its key are.
fn self_signed(data_dir: &Path, hosts: &[String]) -> Result<(PathBuf, PathBuf), TlsError> {
    let (certificate, key) = (data_dir.join("tls-cert.pem"), data_dir.join("tls-key.pem"));
    let make = |error: rcgen::Error| TlsError::Make { reason: error.to_string() };
    let write = |path: &Path, pem: String| {
        files::write_private(path, pem.as_bytes())
            .map_err(|error| TlsError::File { path: path.to_owned(), reason: error.to_string() })
    };
    // The certificate is written last: where it is, its key is too.
    if !certificate.exists() {
        let names = ["localhost".to_owned(), Ipv4Addr::LOCALHOST.to_string(), Ipv6Addr::LOCALHOST.to_string()];
        let mut names: Vec<_> = names.into_iter().chain(hosts.iter().cloned()).collect();
        names.sort();
        names.dedup();
        let made = rcgen::generate_simple_self_signed(names).map_err(make)?;
        write(&key, made.signing_key.serialize_pem())?;
        write(&certificate, made.cert.pem())?;
    }
    Ok((certificate, key))
}
