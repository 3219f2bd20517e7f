//! The keyring as the table keeps it: sealed under a key of its own, which the password opens, and a recovery code.
//!
//! The keyring's key is wrapped twice, under a key of the password and under one of the recovery code. A new password wraps it
//! anew and leaves the rest as it is. Whoever has had the keyring's key can open later revisions too, until it is replaced.

use minicbor::decode::Decoder;
use zeroize::Zeroizing;

use super::aead::{self, TAG_BYTES};
use super::keyring::Keyring;
use super::recovery::RecoveryCode;
use super::secret::Secret;
use crate::codec::{self, DecodeError};
use crate::limits::KEYRING_BYTES_MAX;
use crate::name::UserName;

const SEAL_TAG: &str = "gigfs.seal.keyring.1";
const WRAP_TAG: &str = "gigfs.wrap.keyring.1";
const PASSWORD_LABEL: &str = "gigfs.key.wrap.password.1";
const WHAT: &str = "a sealed keyring";
/// The version of the record. // persisted
const RECORD_VERSION: u64 = 1;
/// Bytes that a record has beside the body, at most.
const HEAD_BYTES_MAX: usize = 128;

/// The key that the table never sees: what HKDF makes of the stretched password beside the master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootKey(Secret);

/// The random key that a keyring is sealed under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyringKey(Secret);

type Wrapped = [u8; Secret::BYTES + TAG_BYTES];

/// A sealed keyring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedKeyring {
    revision: u64,
    password: Wrapped,
    recovery: Option<Wrapped>,
    body: Vec<u8>,
}

/// Why a keyring is not sealed, or does not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// The bytes cannot be read.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// It is over its limit.
    #[error("the keyring has {bytes} bytes and the limit is {KEYRING_BYTES_MAX}")]
    TooLarge {
        /// Its size in bytes.
        bytes: usize,
    },
    /// Another password, another user, or changed bytes.
    #[error("the password does not open the keyring of {user}; see whether it is the right one")]
    Password {
        /// Whose keyring.
        user: UserName,
    },
    /// Another code, another user, or changed bytes.
    #[error("the recovery code does not open the keyring of {user}; see whether it is the newest one")]
    Recovery {
        /// Whose keyring.
        user: UserName,
    },
    /// Another key, another user, or changed bytes.
    #[error(
        "revision {revision} of the keyring of {user} does not open with the key that is kept here; \
         the key was replaced, or the record was changed"
    )]
    Key {
        /// Whose keyring.
        user: UserName,
        /// Which revision it claims to be.
        revision: u64,
    },
    /// No recovery code was set up.
    #[error("the keyring of {user} has no recovery code")]
    NoRecovery {
        /// Whose keyring.
        user: UserName,
    },
    /// Its key is right, and it does not open.
    #[error("revision {revision} of the keyring of {user} was changed; the table or its backup is damaged, or lies")]
    Forged {
        /// Whose keyring.
        user: UserName,
        /// Which revision it claims to be.
        revision: u64,
    },
    /// It is older than one that was met before.
    #[error("the table gave revision {revision} of the keyring of {user}, and this device has seen revision {seen}")]
    Older {
        /// Whose keyring.
        user: UserName,
        /// Which revision it is.
        revision: u64,
        /// The newest that was met.
        seen: u64,
    },
}

impl RootKey {
    /// Wraps the key that comes from the password.
    pub fn from_secret(secret: Secret) -> Self {
        Self(secret)
    }

    /// Returns the secret. It belongs neither on a disk nor on the wire.
    pub fn secret(&self) -> &Secret {
        &self.0
    }
}

impl KeyringKey {
    /// Wraps a fresh secret.
    pub fn from_secret(secret: Secret) -> Self {
        Self(secret)
    }

    /// Returns the secret, for a device that keeps it.
    pub fn secret(&self) -> &Secret {
        &self.0
    }

    fn wrapped_by_password(&self, user: &UserName, root: &RootKey) -> Wrapped {
        aead::wrap(&root.0.derive(PASSWORD_LABEL), &wrap_associated(user, "password"), &self.0)
    }

    fn wrapped_by_recovery(&self, user: &UserName, code: &RecoveryCode) -> Wrapped {
        aead::wrap(&code.wrapping_key(), &wrap_associated(user, "recovery"), &self.0)
    }

    fn seal(&self, user: &UserName, keyring: &Keyring) -> Result<Vec<u8>, KeyringError> {
        let content = keyring.to_bytes();
        let body = aead::seal(&self.0, &body_associated(user, keyring.revision()), &content);
        match body.len() {
            bytes if bytes > KEYRING_BYTES_MAX - HEAD_BYTES_MAX => Err(KeyringError::TooLarge { bytes }),
            _ => Ok(body),
        }
    }
}

impl SealedKeyring {
    /// Seals a keyring under a key, and wraps the key: for a new user, and where the key is replaced.
    ///
    /// # Errors
    /// [`KeyringError::TooLarge`].
    pub fn seal(
        user: &UserName,
        keyring: &Keyring,
        key: &KeyringKey,
        root: &RootKey,
        code: Option<&RecoveryCode>,
    ) -> Result<Self, KeyringError> {
        Ok(Self {
            revision: keyring.revision(),
            password: key.wrapped_by_password(user, root),
            recovery: code.map(|code| key.wrapped_by_recovery(user, code)),
            body: key.seal(user, keyring)?,
        })
    }

    /// Returns another revision under the same key, which password and recovery code open as before.
    ///
    /// # Errors
    /// [`KeyringError::TooLarge`].
    pub fn updated(&self, user: &UserName, keyring: &Keyring, key: &KeyringKey) -> Result<Self, KeyringError> {
        Ok(Self { revision: keyring.revision(), body: key.seal(user, keyring)?, ..self.clone() })
    }

    /// Returns the same revision for another password. The keyring's key stays; the body is not touched. What a table is
    /// to keep in place of another record has to be the next revision: [`SealedKeyring::updated`] comes before this.
    #[must_use]
    pub fn with_password(&self, user: &UserName, key: &KeyringKey, root: &RootKey) -> Self {
        Self { password: key.wrapped_by_password(user, root), ..self.clone() }
    }

    /// Returns the same revision for another recovery code, or for none.
    #[must_use]
    pub fn with_recovery(&self, user: &UserName, key: &KeyringKey, code: Option<&RecoveryCode>) -> Self {
        Self { recovery: code.map(|code| key.wrapped_by_recovery(user, code)), ..self.clone() }
    }

    /// Returns which revision it claims to be.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Opens it with the password's key. `seen` is the newest revision that this device has met, or 0.
    ///
    /// # Errors
    /// [`KeyringError`] tells a wrong password from a changed keyring and from an old one.
    pub fn open(&self, user: &UserName, root: &RootKey, seen: u64) -> Result<(Keyring, KeyringKey), KeyringError> {
        let key = aead::unwrap(&root.0.derive(PASSWORD_LABEL), &wrap_associated(user, "password"), &self.password);
        self.open_body(user, key.ok_or_else(|| KeyringError::Password { user: user.clone() })?, seen)
    }

    /// Opens it with a recovery code. `seen` is the newest revision that this device has met, or 0.
    ///
    /// # Errors
    /// [`KeyringError`] tells a wrong code from a changed keyring and from an old one.
    pub fn open_with_recovery(
        &self,
        user: &UserName,
        code: &RecoveryCode,
        seen: u64,
    ) -> Result<(Keyring, KeyringKey), KeyringError> {
        let wrapped = self.recovery.as_ref().ok_or_else(|| KeyringError::NoRecovery { user: user.clone() })?;
        let key = aead::unwrap(&code.wrapping_key(), &wrap_associated(user, "recovery"), wrapped);
        self.open_body(user, key.ok_or_else(|| KeyringError::Recovery { user: user.clone() })?, seen)
    }

    /// Opens it with the keyring's key, as a device does that keeps the key and not the password. `seen` is the newest
    /// revision that this device has met, or 0.
    ///
    /// # Errors
    /// [`KeyringError::Key`] if the key does not fit, [`KeyringError::Older`] if the revision is an old one. Whether the
    /// key was replaced or the record was changed cannot be told without the password.
    pub fn open_with_key(&self, user: &UserName, key: &KeyringKey, seen: u64) -> Result<Keyring, KeyringError> {
        match self.open_body(user, key.0.clone(), seen) {
            Ok((keyring, _)) => Ok(keyring),
            Err(KeyringError::Forged { user, revision }) => Err(KeyringError::Key { user, revision }),
            Err(error) => Err(error),
        }
    }

    /// Encodes it: `[1, revision, password, recovery or null, body]`.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(|to| {
            to.array(5)?.u64(RECORD_VERSION)?.u64(self.revision)?.bytes(&self.password)?;
            match &self.recovery {
                Some(wrapped) => to.bytes(wrapped)?.ok()?,
                None => to.null()?.ok()?,
            }
            to.bytes(&self.body)?.ok()
        })
    }

    /// Decodes what [`SealedKeyring::to_bytes`] made.
    ///
    /// # Errors
    /// [`KeyringError`] if the bytes are anything else, or over [`KEYRING_BYTES_MAX`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeyringError> {
        if bytes.len() > KEYRING_BYTES_MAX {
            return Err(KeyringError::TooLarge { bytes: bytes.len() });
        }
        let read = |from: &mut Decoder<'_>| {
            Ok(Self {
                revision: from.u64()?,
                password: codec::fixed(from)?,
                recovery: codec::optional(from, codec::fixed)?,
                body: from.bytes()?.to_vec(),
            })
        };
        Ok(codec::record(WHAT, bytes, 5, RECORD_VERSION, read, Self::to_bytes)?)
    }

    fn open_body(&self, user: &UserName, key: Secret, seen: u64) -> Result<(Keyring, KeyringKey), KeyringError> {
        let revision = self.revision;
        let forged = || KeyringError::Forged { user: user.clone(), revision };
        let content = aead::open(&key, &body_associated(user, revision), &self.body).map_err(|_| forged())?;
        let keyring = Keyring::from_bytes(&Zeroizing::new(content))?;
        if keyring.revision() != revision {
            return Err(forged());
        }
        match revision < seen {
            true => Err(KeyringError::Older { user: user.clone(), revision, seen }),
            false => Ok((keyring, KeyringKey(key))),
        }
    }
}

fn wrap_associated(user: &UserName, by: &str) -> Vec<u8> {
    codec::encode(|to| to.array(3)?.str(WRAP_TAG)?.str(user.as_str())?.str(by)?.ok())
}

fn body_associated(user: &UserName, revision: u64) -> Vec<u8> {
    codec::encode(|to| to.array(3)?.str(SEAL_TAG)?.str(user.as_str())?.u64(revision)?.ok())
}
