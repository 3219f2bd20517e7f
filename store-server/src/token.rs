//! Signed tokens: those that tables issue (EdDSA only), the store's own confirmation codes (HS256 only), and its
//! acknowledgements of checkpoints (EdDSA).
//!
//! Which algorithm is taken is decided here and never by the token.

use gigfs_core::limits::CERTIFICATE_BYTES_MAX;
use gigfs_core::token::{
    AckClaims, CertificateClaims, ConfirmClaims, ConfirmUse, RevokeClaims, SealClaims, StoreClaims,
};
use gigfs_core::{ChannelName, ErrorCode, LogName, Refusal, Sha, StoreId, UserName, base64_text};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::de::DeserializeOwned;

use crate::clock;
use crate::user::Table;

/// Signs and reads the store's confirmation codes.
pub(crate) struct Codes {
    store: StoreId,
    signing: EncodingKey,
    verifying: DecodingKey,
}

impl Codes {
    /// Makes them from the store's own secret.
    pub(crate) fn new(store: StoreId, secret: &[u8]) -> Self {
        Self { store, signing: EncodingKey::from_secret(secret), verifying: DecodingKey::from_secret(secret) }
    }

    /// Signs a code for a user, and tells when it runs out.
    pub(crate) fn sign(&self, user: &UserName) -> Result<(String, u64), Refusal> {
        let mut jti = [0; 16];
        getrandom::fill(&mut jti).map_err(|_| crate::refusal::internal("the system's randomness"))?;
        let exp = clock::seconds() + CODE_SECONDS;
        let claims = ConfirmClaims {
            iss: self.store,
            sub: user.clone(),
            exp,
            jti: base64_text::encode(&jti),
            usage: ConfirmUse::Confirm,
        };
        let code = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.signing);
        Ok((code.map_err(|_| crate::refusal::internal("the signing of a code"))?, exp))
    }

    /// Reads a code back, if this store made it for this user and it has not run out.
    pub(crate) fn verify(&self, code: &str, user: &UserName) -> Result<ConfirmClaims, Refusal> {
        let mut validation = validation(Algorithm::HS256);
        validation.set_issuer(&[self.store]);
        validation.set_required_spec_claims(&["exp", "iss", "sub"]);
        let hint = "ask the store's owner for a new one";
        let claims: ConfirmClaims = decode(code, &self.verifying, &validation).map_err(|why| match why {
            Why::Expired => Refusal::new(ErrorCode::Expired, "the confirmation code has run out").hint(hint),
            Why::Audience | Why::Foreign => {
                Refusal::new(ErrorCode::Forbidden, "this store did not make the confirmation code").hint(hint)
            }
        })?;
        match claims.sub == *user {
            true => Ok(claims),
            false => Err(Refusal::new(ErrorCode::Forbidden, "the confirmation code is for another user").hint(hint)),
        }
    }
}

/// Signs what the store says to tables.
pub(crate) struct Signer {
    signing: EncodingKey,
    public: String,
}

impl Signer {
    /// Makes a new key, PKCS #8 in PEM.
    pub(crate) fn generate() -> Result<String, rcgen::Error> {
        Ok(rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519)?.serialize_pem())
    }

    /// Reads a key that was made before.
    pub(crate) fn open(pem: &str) -> Result<Self, String> {
        let pair = rcgen::KeyPair::from_pkcs8_pem_and_sign_algo(pem, &rcgen::PKCS_ED25519);
        let pair = pair.map_err(|error| error.to_string())?;
        let signing = EncodingKey::from_ed_der(&pair.serialize_der());
        Ok(Self { signing, public: pair.public_key_pem() })
    }

    /// Returns the public key, PEM.
    pub(crate) fn public(&self) -> &str {
        &self.public
    }

    /// Signs an acknowledgement.
    pub(crate) fn acknowledge(&self, claims: &AckClaims) -> Result<String, Refusal> {
        jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), claims, &self.signing)
            .map_err(|_| crate::refusal::internal("the signing of an acknowledgement"))
    }
}

/// Reads a store token that `table` signed for this store and user.
pub(crate) fn verify_store_token(
    token: &str,
    table: &Table,
    store: StoreId,
    user: &UserName,
) -> Result<StoreClaims, Refusal> {
    let claims: StoreClaims = verify(token, table, store)?;
    let now = clock::seconds();
    if claims.sub != *user {
        return Err(Refusal::new(ErrorCode::Forbidden, "the token is for another user"));
    }
    if claims.iat > now + CLOCK_SECONDS_MAX || claims.exp.saturating_sub(claims.iat) > TOKEN_SECONDS_MAX {
        let message = format!("the token is dated ahead, or lives longer than the limit of {TOKEN_SECONDS_MAX} s");
        return Err(Refusal::new(ErrorCode::Unauthorized, message).at(clock::date()));
    }
    Ok(claims)
}

/// Reads a table's word that a session of a user has ended.
pub(crate) fn verify_revocation(
    token: &str,
    table: &Table,
    store: StoreId,
    user: &UserName,
) -> Result<RevokeClaims, Refusal> {
    let claims: RevokeClaims = verify(token, table, store)?;
    match claims.sub == *user {
        true => Ok(claims),
        false => Err(Refusal::new(ErrorCode::Forbidden, "the token is for another user")),
    }
}

/// Reads a table's word that a channel of a user is sealed, or open again.
pub(crate) fn verify_seal(
    token: &str,
    table: &Table,
    store: StoreId,
    user: &UserName,
    channel: &ChannelName,
) -> Result<SealClaims, Refusal> {
    let claims: SealClaims = verify(token, table, store)?;
    match (&claims.sub, &claims.channel) == (user, channel) {
        true => Ok(claims),
        false => Err(Refusal::new(ErrorCode::Forbidden, "the token is for another channel")),
    }
}

/// Checks that `table` has certified this checkpoint of a log.
pub(crate) fn verify_certificate(text: &str, table: &Table, log: &LogName, checkpoint: Sha) -> Result<(), Refusal> {
    let forbidden = |what: &str| {
        Refusal::new(ErrorCode::Forbidden, format!("{what}, so it does not become the log's base"))
            .hint("ask the user's table where the log's register stands")
    };
    if text.len() > CERTIFICATE_BYTES_MAX {
        let message = format!("the certificate has {} bytes and the limit is {CERTIFICATE_BYTES_MAX}", text.len());
        return Err(Refusal::new(ErrorCode::TooLarge, message));
    }
    let mut validation = validation(Algorithm::EdDSA);
    validation.set_issuer(&[&table.record.id]);
    // It is for everybody and for good.
    validation.validate_aud = false;
    validation.validate_exp = false;
    validation.set_required_spec_claims(&["iss", "sub"]);
    let claims: CertificateClaims = decode(text, &table.key, &validation)
        .map_err(|_| forbidden("the user's table did not certify the checkpoint"))?;
    match claims.is_of(log) && claims.checkpoint == checkpoint {
        true => Ok(()),
        false => Err(forbidden("the certificate is of another log or checkpoint")),
    }
}

fn verify<T: DeserializeOwned>(token: &str, table: &Table, store: StoreId) -> Result<T, Refusal> {
    let mut validation = validation(Algorithm::EdDSA);
    validation.set_issuer(&[&table.record.id]);
    validation.set_audience(&[store]);
    validation.set_required_spec_claims(&["exp", "iss", "sub", "aud"]);
    decode(token, &table.key, &validation).map_err(|why| match why {
        Why::Expired => Refusal::new(ErrorCode::Expired, "the token has run out")
            .hint("get a new one from the table")
            .at(clock::date()),
        Why::Audience => Refusal::new(ErrorCode::Forbidden, "the token is for another store"),
        Why::Foreign => Refusal::new(ErrorCode::Unauthorized, "the user's table did not issue this token for this use")
            .hint("get a new one from the table"),
    })
}

enum Why {
    Expired,
    Audience,
    Foreign,
}

fn validation(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.leeway = 0;
    validation
}

fn decode<T: DeserializeOwned>(token: &str, key: &DecodingKey, validation: &Validation) -> Result<T, Why> {
    match jsonwebtoken::decode::<T>(token, key, validation) {
        Ok(decoded) => Ok(decoded.claims),
        Err(error) => Err(match error.kind() {
            ErrorKind::ExpiredSignature => Why::Expired,
            ErrorKind::InvalidAudience => Why::Audience,
            _ => Why::Foreign,
        }),
    }
}

/// A confirmation code's life: a quarter of an hour.
const CODE_SECONDS: u64 = 15 * 60;
/// The longest life of a store token that is taken: 31 days. A revocation is remembered for longer.
pub(crate) const TOKEN_SECONDS_MAX: u64 = 31 * 24 * 3600;
/// Seconds that a table's clock may be ahead.
pub(crate) const CLOCK_SECONDS_MAX: u64 = 600;
