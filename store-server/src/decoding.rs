//! What the store reads that others signed or that stands in its notes, for the fuzzer alone.

use gigfs_core::api::Confirm;
use gigfs_core::token::{ConfirmClaims, RevokeClaims, SealClaims, StoreClaims};
use gigfs_core::{ChannelName, LogName, Sha, StoreId, UserName};
use gigfs_storage::{Engine, StorageError};

use crate::seal::Seals;
use crate::token::{self, Codes};
use crate::user::{Table, Users};
use crate::{quota, revocation};

/// A store for which one table speaks, and one user of it.
pub struct TokenReader {
    table: Table,
    codes: Codes,
    store: StoreId,
    user: UserName,
}

impl TokenReader {
    /// Takes a table as it introduces itself, and the secret of the store's codes. Nothing if its key is none.
    pub fn new(table: Confirm, secret: &[u8], store: StoreId, user: UserName) -> Option<Self> {
        let table = Table::introduce(table).ok()?;
        Some(Self { table, codes: Codes::new(store, secret), store, user })
    }

    /// Returns what a token for this store and user says, if it is good.
    pub fn store_token(&self, text: &str) -> Option<StoreClaims> {
        token::verify_store_token(text, &self.table, self.store, &self.user).ok()
    }

    /// Returns what a table's word says that a session has ended, if it is good.
    pub fn revocation(&self, text: &str) -> Option<RevokeClaims> {
        token::verify_revocation(text, &self.table, self.store, &self.user).ok()
    }

    /// Returns what a table's word says about a channel's seal, if it is good.
    pub fn seal(&self, text: &str, channel: &ChannelName) -> Option<SealClaims> {
        token::verify_seal(text, &self.table, self.store, &self.user, channel).ok()
    }

    /// Tells whether the table has certified a checkpoint.
    pub fn certifies(&self, text: &str, log: &LogName, checkpoint: Sha) -> bool {
        token::verify_certificate(text, &self.table, log, checkpoint).is_ok()
    }

    /// Returns what a code for the user says, if the store made it.
    pub fn code(&self, text: &str) -> Option<ConfirmClaims> {
        self.codes.verify(text, &self.user).ok()
    }
}

/// Reads all that a store keeps in notes, as it does when it starts.
///
/// # Errors
/// Those of the engine; notes that cannot be read are none.
pub fn notes(engine: &dyn Engine) -> Result<(), StorageError> {
    Users::load(engine)?;
    Seals::load(engine)?;
    revocation::read(engine)?;
    quota::read(engine)
}
