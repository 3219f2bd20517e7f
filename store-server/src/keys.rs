//! The store's own secrets: files in the data folder, made at the first start.
//!
//! The data remembers with which key the store signs, so a key that is gone or changed is noticed. What else is gone is made
//! again: it serves between the store and its owner alone.

use std::path::Path;

use bytes::Bytes;
use gigfs_core::base64_text;
use gigfs_serve::files;
use gigfs_storage::{Batch, Engine, StorageError};

use crate::server::BindError;
use crate::token::Signer;

/// Reads a secret, or makes one.
pub(crate) fn secret(path: &Path, engine: &dyn Engine) -> Result<String, BindError> {
    let data = |source| BindError::Data { path: path.to_owned(), source };
    let secret = match files::read_if_there(path).map_err(data)? {
        Some(secret) => secret,
        None => {
            if known_key(engine)?.is_some() {
                tracing::warn!(path = %path.display(), "it is gone; a new one is made, and what the old one opened is closed");
            }
            let mut bytes = [0; 32];
            getrandom::fill(&mut bytes).map_err(|error| data(std::io::Error::other(error)))?;
            let secret = base64_text::encode(&bytes);
            files::write_private(path, format!("{secret}\n").as_bytes()).map_err(data)?;
            secret
        }
    };
    match secret.trim() {
        secret if secret.len() >= SECRET_BYTES_MIN => Ok(secret.to_owned()),
        _ => Err(BindError::Secret { path: path.to_owned() }),
    }
}

/// Reads the key that the store signs with. It is made if the store has never had one, or if `new` says so.
pub(crate) fn signer(path: &Path, engine: &dyn Engine, new: bool) -> Result<Signer, BindError> {
    let data = |source| BindError::Data { path: path.to_owned(), source };
    let lost = |reason: String| BindError::Key { path: path.to_owned(), reason, store: engine.store_id() };
    let known = known_key(engine)?;
    let read = match files::read_if_there(path).map_err(data) {
        Ok(Some(pem)) => Signer::open(&pem).map_err(|reason| format!("holds no Ed25519 key in PEM ({reason})")),
        Ok(None) => Err("is gone".to_owned()),
        // It is no text any more.
        Err(BindError::Data { source, .. }) if source.kind() == std::io::ErrorKind::InvalidData => {
            Err("holds no Ed25519 key in PEM (it is no text)".to_owned())
        }
        Err(error) => return Err(error),
    };
    let read = read.and_then(|signer| match &known {
        Some(known) if *known != signer.public().as_bytes() => Err("holds another key".to_owned()),
        _ => Ok(signer),
    });
    let signer = match read {
        Ok(signer) => signer,
        Err(reason) if known.is_some() && !new => return Err(lost(reason)),
        Err(reason) if known.is_none() && path.exists() => return Err(lost(reason)),
        Err(_) => {
            let pem = Signer::generate().map_err(|error| data(std::io::Error::other(error)))?;
            files::write_private(path, pem.as_bytes()).map_err(data)?;
            Signer::open(&pem).map_err(lost)?
        }
    };
    if known.as_deref() != Some(signer.public().as_bytes()) {
        let public = Bytes::copy_from_slice(signer.public().as_bytes());
        engine.commit(&Batch { notes: vec![(Bytes::from_static(KNOWN_KEY), Some(public))], ..Batch::default() })?;
    }
    Ok(signer)
}

/// Returns the public key that the store has signed with so far; nothing before its first start is through.
fn known_key(engine: &dyn Engine) -> Result<Option<Bytes>, StorageError> {
    engine.note(KNOWN_KEY)
}

/// The note that holds the public key. // persisted
pub(crate) const KNOWN_KEY: &[u8] = b"signing-key";
/// The files, in the data folder.
pub(crate) const ADMIN_TOKEN: &str = "admin-token";
pub(crate) const CODE_SECRET: &str = "code-secret";
pub(crate) const SIGNING_KEY: &str = "signing-key.pem";
/// Characters of a secret that a person wrote.
pub(crate) const SECRET_BYTES_MIN: usize = 16;
