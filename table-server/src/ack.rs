//! Stores' acknowledgements of checkpoints: read, and checked with the keys of a channel's stores.
//!
//! What counts is decided by [`gigfs_core::commit::Register`]; what is not a store's own word never gets there.

use std::collections::BTreeMap;

use gigfs_core::limits::CERTIFICATE_BYTES_MAX;
use gigfs_core::token::AckClaims;
use gigfs_core::{ChannelName, StoreId};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, dangerous};
use rusqlite::Transaction;

use crate::db::DatabaseError;
use crate::mount::{self, MountedSet};
use crate::store_key;
use crate::user::UserKey;

/// A channel's stores, with the keys of those whose key is known. For as long as the epoch stands, so do they.
pub(crate) struct Witnesses {
    epoch: u64,
    keys: BTreeMap<StoreId, Option<DecodingKey>>,
}

/// Why an acknowledgement does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AckError {
    #[error("one of the acknowledgements cannot be read: {reason}")]
    Malformed { reason: String },
    #[error("one of the acknowledgements is that of the store {store}, which the channel does not have")]
    OtherStore { store: StoreId },
    #[error("the acknowledgement of the store {store} is of epoch {epoch}")]
    OtherEpoch { store: StoreId, epoch: u64 },
    #[error("the acknowledgement of the store {store} cannot be verified: the store was mounted before it had a key")]
    NoKey { store: StoreId },
    #[error("the acknowledgement of the store {store} cannot be verified: the store's key did not sign it")]
    Forged { store: StoreId },
}

impl AckError {
    /// Says what to do next.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::NoKey { .. } => "mount the store again with a code",
            _ => "ask all stores of the channel again",
        }
    }
}

impl Witnesses {
    /// Takes the keys of the stores of an epoch.
    pub(crate) fn of(epoch: u64, keys: BTreeMap<StoreId, Option<DecodingKey>>) -> Self {
        Self { epoch, keys }
    }

    /// Reads the keys of a channel's stores; nothing if the user has no such channel.
    pub(crate) fn read(
        tx: &Transaction<'_>,
        user: UserKey,
        channel: &ChannelName,
    ) -> Result<Option<Self>, DatabaseError> {
        let Some(MountedSet { epoch, stores }) = mount::set_of(tx, user, channel)? else { return Ok(None) };
        let key_of = |store| Ok((store, store_key::known(tx, user, store)?.map(|key| key.verifying())));
        let keys = stores.into_iter().map(key_of).collect::<Result<_, DatabaseError>>()?;
        Ok(Some(Self::of(epoch, keys)))
    }

    /// Reads an acknowledgement that one of these stores signed in this epoch.
    pub(crate) fn check(&self, ack: &str) -> Result<AckClaims, AckError> {
        let malformed = |reason: String| AckError::Malformed { reason };
        if ack.len() > CERTIFICATE_BYTES_MAX {
            return Err(malformed(format!("it has {} bytes and the limit is {CERTIFICATE_BYTES_MAX}", ack.len())));
        }
        // Whose word it claims to be decides which key it is checked with, and nothing else.
        let claimed: AckClaims =
            dangerous::insecure_decode_claims(ack).map_err(|_| malformed("it is not a store's".to_owned()))?;
        let AckClaims { iss: store, epoch, .. } = claimed;
        let key = self.keys.get(&store).ok_or(AckError::OtherStore { store })?;
        if epoch != self.epoch {
            return Err(AckError::OtherEpoch { store, epoch });
        }
        let key = key.as_ref().ok_or(AckError::NoKey { store })?;
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_required_spec_claims(&["iss", "sub"]);
        validation.set_issuer(&[store]);
        // It holds for as long as its epoch does, and is for whoever keeps the register.
        validation.validate_exp = false;
        validation.validate_aud = false;
        let decoded = jsonwebtoken::decode(ack, key, &validation).map_err(|_| AckError::Forged { store })?;
        Ok(decoded.claims)
    }
}
