//! From a password to keys, on the device. The password itself never leaves it.
//!
//! Argon2id (RFC 9106) stretches the password with the user's salt; HKDF-SHA-256 (RFC 5869) makes two keys of the
//! result: the *master*, which proves the password to the table, and the *root key*, which opens the user's keyring and
//! which the table never sees.

use argon2::{Algorithm, Argon2, Params, Version};
use gigfs_core::api::{NewMaster, PasswordParams};
use gigfs_core::seal::{RootKey, Secret};
use gigfs_core::{ErrorCode, Refusal};
use zeroize::Zeroizing;

use crate::error::Error;

/// The most memory that a table may ask a device to spend, in KiB.
const MEMORY_KIB_MAX: u32 = 1024 * 1024;
/// The most passes that a table may ask a device to spend.
const PASSES_MAX: u32 = 64;
/// What the master is derived with. // persisted
const MASTER_LABEL: &str = "gigfs master v1";
/// What the root key is derived with. // persisted
const ROOT_LABEL: &str = "gigfs root v1";

/// What one stretching of a password gives.
#[derive(Debug, Clone)]
pub struct PasswordKeys {
    /// Proves the password to the table.
    pub master: Secret,
    /// Opens the keyring.
    pub root: RootKey,
}

/// Makes the master of a new password, with a fresh salt.
///
/// # Errors
/// [`Error::System`] if the system has no random bytes.
pub fn new_master(password: &str) -> Result<NewMaster, Error> {
    new_keys(password).map(|(master, _)| master)
}

/// Makes the keys of a new password, with a fresh salt: the master as the table is told of it, and the root key.
///
/// # Errors
/// [`Error::System`] if the system has no random bytes.
pub fn new_keys(password: &str) -> Result<(NewMaster, RootKey), Error> {
    let params = PasswordParams {
        salt: crate::random::bytes::<{ PasswordParams::SALT_BYTES }>()?.to_vec(),
        memory_kib: PasswordParams::MEMORY_KIB_DEFAULT,
        passes: PasswordParams::PASSES_DEFAULT,
    };
    let PasswordKeys { master, root } = keys(password, &params)?;
    Ok((NewMaster { password: params, master: master.expose().to_vec() }, root))
}

/// Makes the master that proves a password to a table.
///
/// # Errors
/// [`Error::Refused`] if the parameters are weaker or more costly than this program allows.
pub fn master(password: &str, params: &PasswordParams) -> Result<[u8; 32], Error> {
    keys(password, params).map(|keys| *keys.master.expose())
}

/// Stretches a password once, and makes both keys of it.
///
/// # Errors
/// [`Error::Refused`] if the parameters are weaker or more costly than this program allows.
pub fn keys(password: &str, params: &PasswordParams) -> Result<PasswordKeys, Error> {
    let refuse = |why: String| Error::Refused {
        server: "the table's password parameters".to_owned(),
        refusal: Refusal::new(ErrorCode::UnsupportedVersion, why),
    };
    let fits = (8 * 1024..=MEMORY_KIB_MAX).contains(&params.memory_kib)
        && (1..=PASSES_MAX).contains(&params.passes)
        && params.salt.len() >= PasswordParams::SALT_BYTES;
    if !fits {
        return Err(refuse(format!("{} KiB, {} passes are out of range", params.memory_kib, params.passes)));
    }
    let sized =
        Params::new(params.memory_kib, params.passes, 1, Some(32)).map_err(|error| refuse(error.to_string()))?;
    let mut stretched = Zeroizing::new([0; Secret::BYTES]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, sized)
        .hash_password_into(password.as_bytes(), &params.salt, &mut *stretched)
        .map_err(|error| refuse(error.to_string()))?;
    let stretched = Secret::from_bytes(*stretched);
    Ok(PasswordKeys {
        master: stretched.derive(MASTER_LABEL),
        root: RootKey::from_secret(stretched.derive(ROOT_LABEL)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params() -> PasswordParams {
        PasswordParams { salt: vec![7; 16], memory_kib: 8 * 1024, passes: 1 }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn one_password_and_salt_make_one_master_and_others_make_others() {
        let master_of = |password: &str, params: &PasswordParams| master(password, params).unwrap();
        assert_eq!(master_of("correct horse", &params()), master_of("correct horse", &params()));
        assert_ne!(master_of("correct horse", &params()), master_of("correct horsf", &params()));
        let salted = PasswordParams { salt: vec![8; 16], ..params() };
        assert_ne!(master_of("correct horse", &params()), master_of("correct horse", &salted));
    }

    /// The values are those of another implementation: Argon2id and HKDF of Python's cryptography 48.
    #[test]
    fn master_and_root_key_are_what_the_text_says() {
        let keys = keys("correct horse", &params()).unwrap();
        assert_eq!(hex(keys.master.expose()), "6d2e3883259383362e1ad4e2387ee9c56c4c8245809c8bdea39977cd335816a0");
        assert_eq!(
            hex(keys.root.secret().expose()),
            "63b4697918e6abe53335b7a7ba4655c796e219a7fb288ada8871dcc37995b1b1"
        );
    }

    #[test]
    fn a_table_cannot_weaken_the_stretching_or_exhaust_the_device() {
        for memory_kib in [1, u32::MAX] {
            assert!(master("p", &PasswordParams { memory_kib, ..params() }).is_err());
        }
        assert!(master("p", &PasswordParams { passes: u32::MAX, ..params() }).is_err());
        assert!(master("p", &PasswordParams { salt: vec![], ..params() }).is_err());
    }
}
