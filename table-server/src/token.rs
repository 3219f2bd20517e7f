//! The table's identity: its id, the key it signs with, and the tokens made with that key (JWT, EdDSA only).

use gigfs_core::token::{
    CertificateClaims, CertificateUse, Permission, RevokeClaims, RevokeUse, SealClaims, SealUse, StoreClaims, StoreUse,
};
use gigfs_core::{BaseId, ChannelName, LogName, SessionId, StoreId, UserName};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use rusqlite::{OptionalExtension as _, Transaction, params};
use sha2::{Digest as _, Sha256};

use crate::clock;
use crate::db::DatabaseError;
use crate::secret;

/// Who this table is. Made when the database is, and the same for as long as the database lives.
pub(crate) struct Identity {
    /// The `iss` of its tokens.
    pub(crate) table_id: String,
    /// Its public key, PEM.
    pub(crate) public_key: String,
    /// The longest life that store tokens can have that are out there, in seconds.
    pub(crate) token_seconds_max: u64,
    decoy_secret: [u8; 32],
    signing: EncodingKey,
    verifying: DecodingKey,
}

/// Why a token was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenError {
    /// It has run out.
    Expired,
    /// This table did not issue it for this use.
    Foreign,
}

/// An identity that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error("{0}")]
    Key(String),
}

/// What is issued to a session for one store of one channel.
pub(crate) struct StoreToken<'a> {
    pub(crate) store: StoreId,
    pub(crate) user: &'a UserName,
    pub(crate) channel: &'a ChannelName,
    pub(crate) session: SessionId,
    pub(crate) permission: Permission,
    /// For a guest, the owner's epoch in which what it may do began.
    pub(crate) share: Option<u64>,
    pub(crate) issued: u64,
    pub(crate) expires: u64,
}

impl Identity {
    /// Reads the identity, or makes one if the database has none. `token_seconds` is what is set now; the longest that
    /// was ever set is kept, so that a revocation is never dropped while a token of an earlier setting lives.
    pub(crate) fn load_or_create(tx: &Transaction<'_>, token_seconds: u64) -> Result<Self, IdentityError> {
        if tx.query_row("SELECT 1 FROM identity", [], |_| Ok(())).optional().map_err(DatabaseError::from)?.is_none() {
            let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519)
                .map_err(|error| IdentityError::Key(format!("a signing key cannot be made: {error}")))?;
            let table_id = secret::hex(&secret::random::<16>());
            let decoy_secret: [u8; 32] = secret::random();
            tx.execute(
                "INSERT INTO identity (one, table_id, signing_key, decoy_secret, token_seconds_max)
                 VALUES (1, ?1, ?2, ?3, 0)",
                params![table_id, key.serialized_der(), decoy_secret],
            )
            .map_err(DatabaseError::from)?;
        }
        let (table_id, der, decoy_secret, token_seconds_max) = tx
            .query_row(
                "UPDATE identity SET token_seconds_max = max(token_seconds_max, ?1)
                 RETURNING table_id, signing_key, decoy_secret, token_seconds_max",
                [token_seconds],
                |row| Ok((row.get(0)?, row.get::<_, Vec<u8>>(1)?, row.get(2)?, row.get(3)?)),
            )
            .map_err(DatabaseError::from)?;
        let broken = |reason: &dyn std::fmt::Display| {
            IdentityError::Key(format!(
                "the table's signing key cannot be read from its database: {reason}; bring the file back from a backup"
            ))
        };
        let pair = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&der.as_slice().into(), &rcgen::PKCS_ED25519)
            .map_err(|error| broken(&error))?;
        let public_key = pair.public_key_pem();
        let verifying = DecodingKey::from_ed_pem(public_key.as_bytes()).map_err(|error| broken(&error))?;
        let signing = EncodingKey::from_ed_der(&der);
        Ok(Self { table_id, public_key, token_seconds_max, decoy_secret, signing, verifying })
    }

    /// Signs a store token.
    pub(crate) fn store_token(&self, token: &StoreToken<'_>) -> String {
        self.sign(&StoreClaims {
            iss: self.table_id.clone(),
            aud: token.store,
            sub: token.user.clone(),
            channel: token.channel.clone(),
            permission: token.permission,
            sid: token.session,
            share: token.share,
            iat: token.issued,
            exp: token.expires,
            usage: StoreUse::Store,
        })
    }

    /// Signs the one call that tells `store` of the end of `session`, or of what was shared with it in one channel before
    /// an epoch.
    pub(crate) fn revoke_token(
        &self,
        store: StoreId,
        user: &UserName,
        session: SessionId,
        share: Option<(ChannelName, u64)>,
    ) -> String {
        let (channel, before) = share.unzip();
        self.sign(&RevokeClaims {
            iss: self.table_id.clone(),
            aud: store,
            sub: user.clone(),
            sid: session,
            channel,
            before,
            exp: clock::now() + CALL_TOKEN_SECONDS,
            usage: RevokeUse::Revoke,
        })
    }

    /// Signs the one call that has `store` seal a channel, or open it again.
    pub(crate) fn seal_token(&self, store: StoreId, user: &UserName, channel: &ChannelName, sealed: bool) -> String {
        self.sign(&SealClaims {
            iss: self.table_id.clone(),
            aud: store,
            sub: user.clone(),
            channel: channel.clone(),
            sealed,
            exp: clock::now() + CALL_TOKEN_SECONDS,
            usage: SealUse::Seal,
        })
    }

    /// Signs the certificate of a log's checkpoint. It may leave once the log's register stands there on disk.
    pub(crate) fn certificate(&self, log: &LogName, checkpoint: BaseId, committed: u64) -> String {
        let LogName { user, channel, kind, path } = log.clone();
        self.sign(&CertificateClaims {
            iss: self.table_id.clone(),
            sub: user,
            channel,
            kind,
            path,
            generation: checkpoint.generation,
            checkpoint: checkpoint.sha,
            iat: committed,
            usage: CertificateUse::Checkpoint,
        })
    }

    /// Reads a store token back, if this table signed it and it has not run out.
    pub(crate) fn verify(&self, token: &str) -> Result<StoreClaims, TokenError> {
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.leeway = 0;
        // The store that asks has compared the audience with itself; the table has every store as its audience.
        validation.validate_aud = false;
        validation.set_issuer(&[&self.table_id]);
        validation.set_required_spec_claims(&["exp", "iss", "sub", "aud"]);
        let claims = jsonwebtoken::decode::<StoreClaims>(token, &self.verifying, &validation)
            .map_err(|error| match error.kind() {
                ErrorKind::ExpiredSignature => TokenError::Expired,
                _ => TokenError::Foreign,
            })?
            .claims;
        if claims.exp <= clock::now() {
            return Err(TokenError::Expired);
        }
        Ok(claims)
    }

    /// Returns the salt that an unknown user is said to have: always the same, and not to be told from a real one.
    pub(crate) fn decoy_salt(&self, user: &UserName) -> Vec<u8> {
        let hash = Sha256::new().chain_update(self.decoy_secret).chain_update(user.as_str()).finalize();
        hash[..gigfs_core::api::PasswordParams::SALT_BYTES].to_vec()
    }

    fn sign(&self, claims: &impl serde::Serialize) -> String {
        jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), claims, &self.signing)
            .expect("the key was read as Ed25519 and claims are plain JSON")
    }
}

/// A call to a store is signed anew for each attempt; this allows for clocks that disagree.
const CALL_TOKEN_SECONDS: u64 = 600;
