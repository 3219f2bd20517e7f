//! What the table reads that others signed or hold, for the fuzzer alone.

use gigfs_core::StoreId;
use gigfs_core::token::AckClaims;

use crate::ack::Witnesses;
use crate::session::SessionToken;
use crate::store_key::StoreKey;

/// The stores of a channel in an epoch.
pub struct AckReader(Witnesses);

impl AckReader {
    /// Takes the stores' keys in PEM. Nothing if one is none.
    pub fn new(epoch: u64, stores: &[(StoreId, &str)]) -> Option<Self> {
        let key = |(store, pem): &(StoreId, &str)| Some((*store, Some(StoreKey::from_pem(pem).ok()?.verifying())));
        Some(Self(Witnesses::of(epoch, stores.iter().map(key).collect::<Option<_>>()?)))
    }

    /// Returns what an acknowledgement says, if one of the stores signed it in the epoch.
    pub fn ack(&self, text: &str) -> Option<AckClaims> {
        self.0.check(text).ok()
    }
}

/// Reads a session's token, and writes it again.
pub fn session_token(text: &str) -> Option<String> {
    text.parse::<SessionToken>().ok().map(|token| token.to_string())
}
