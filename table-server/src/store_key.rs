//! The stores' keys: what a user's stores sign their acknowledgements with.
//!
//! Anybody can claim a store's id, but not sign with its key. An id keeps the key that it came with for as long as the
//! user has it mounted on any channel.

use gigfs_core::StoreId;
use jsonwebtoken::DecodingKey;
use rusqlite::{OptionalExtension as _, Transaction, params};

use crate::db::DatabaseError;
use crate::user::UserKey;

/// A store's Ed25519 public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StoreKey([u8; KEY_BYTES]);

/// A text that is no key of a store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("its key is not an Ed25519 public key in PEM")]
pub(crate) struct StoreKeyError;

impl StoreKey {
    /// Reads what a store gave.
    pub(crate) fn from_pem(pem: &str) -> Result<Self, StoreKeyError> {
        if pem.len() > PEM_BYTES_MAX {
            return Err(StoreKeyError);
        }
        let key = DecodingKey::from_ed_pem(pem.as_bytes()).map_err(|_| StoreKeyError)?;
        let bytes = key.try_get_as_bytes().map_err(|_| StoreKeyError)?;
        bytes.try_into().map(Self).map_err(|_| StoreKeyError)
    }

    /// Returns the key in the form that signatures are checked with.
    pub(crate) fn verifying(&self) -> DecodingKey {
        DecodingKey::from_ed_der(&self.0)
    }
}

/// Returns the key of a store that the user has mounted; nothing if it was mounted before stores gave their keys.
pub(crate) fn known(tx: &Transaction<'_>, user: UserKey, store: StoreId) -> Result<Option<StoreKey>, DatabaseError> {
    let sql = "SELECT key FROM store_keys WHERE user = ?1 AND store = ?2";
    let mut query = tx.prepare_cached(sql)?;
    Ok(query.query_row(params![user.0, store.as_bytes()], |row| row.get(0).map(StoreKey)).optional()?)
}

/// Keeps the key of a store that has none yet.
pub(crate) fn keep(tx: &Transaction<'_>, user: UserKey, store: StoreId, key: StoreKey) -> Result<(), DatabaseError> {
    let sql = "INSERT INTO store_keys (user, store, key) VALUES (?1, ?2, ?3) ON CONFLICT (user, store) DO NOTHING";
    tx.execute(sql, params![user.0, store.as_bytes(), key.0])?;
    Ok(())
}

/// Forgets the key of a store that the user has mounted nowhere any more.
pub(crate) fn forget(tx: &Transaction<'_>, user: UserKey, store: StoreId) -> Result<(), DatabaseError> {
    tx.execute("DELETE FROM store_keys WHERE user = ?1 AND store = ?2", params![user.0, store.as_bytes()])?;
    Ok(())
}

/// Bytes of an Ed25519 public key.
const KEY_BYTES: usize = 32;
/// Bytes of a key in PEM; a good one has 113.
const PEM_BYTES_MAX: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_however_its_lines_end_and_nothing_else_is() {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let pem = pair.public_key_pem();
        let key = StoreKey::from_pem(&pem).unwrap();
        assert_eq!(StoreKey::from_pem(&pem.replace("\r\n", "\n")).unwrap(), key);
        assert_eq!(key.0, pair.public_key_raw());
        let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap().public_key_pem();
        let long = format!("{pem}{}", "\n".repeat(PEM_BYTES_MAX));
        for bad in ["", "key", &pem[..60], &pair.serialize_pem(), &other, &long] {
            assert_eq!(StoreKey::from_pem(bad), Err(StoreKeyError), "{bad}");
        }
    }
}
