//! Names that a store can sort, list and compare, and that tell it nothing else.
//!
//! The type and each segment of the path are replaced by a keyed hash, a segment together with the blinded path above it, so
//! the tree stays a tree and a prefix can be listed. Beside its blinded name each log carries its sealed one, from which
//! whoever has the channel's keys learns what it is called. The keys never change: a log's name is part of the identity
//! of each of its operations.

use data_encoding::{BASE32_NOPAD, BASE32_NOPAD_NOCASE};
use hmac::{Hmac, KeyInit as _, Mac as _};
use minicbor::decode::Decoder;
use sha2::Sha256;

use super::aead::{self, Unopened};
use super::secret::Secret;
use crate::codec::{self, DecodeError};
use crate::name::{LogName, Path, PathPrefix, TypeName};

const BLIND_LABEL: &str = "gigfs.key.name.blind.1";
const SEAL_LABEL: &str = "gigfs.key.name.seal.1";
const BLIND_TAG: &str = "gigfs.blind.1";
const SEAL_TAG: &str = "gigfs.seal.name.1";
const WHAT: &str = "a sealed name";
const BLIND_BYTES: usize = 16;
/// Characters of a blinded type or segment: 16 bytes in base32 without padding.
const BLIND_CHARS: usize = 26;

/// The keys of a channel's names, for as long as the channel lives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NameKeys {
    secret: Secret,
    blind: Secret,
    seal: Secret,
}

/// A log's name as stores know it: user and channel as they are, type and path blinded.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlindLog(LogName);

/// A name whose type or path is not one that [`NameKeys::blind`] makes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the log {log} is named in the clear; a sealed channel has blinded names only")]
pub struct NotBlind {
    /// The log.
    pub log: LogName,
}

/// Why a sealed name does not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenNameError {
    /// Another channel's keys, another log's name, or changed bytes.
    #[error("the sealed name of {log:?} does not open; it was changed, or belongs to another log or channel")]
    Forged {
        /// The name that it came with.
        log: BlindLog,
    },
    /// It opens, and is not a name.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// It opens, and is the name of another log.
    #[error("the sealed name of {log:?} is that of another log")]
    Mismatch {
        /// The name that it came with.
        log: BlindLog,
    },
}

impl NameKeys {
    /// Derives the keys from the channel's name secret.
    pub fn new(secret: Secret) -> Self {
        Self { blind: secret.derive(BLIND_LABEL), seal: secret.derive(SEAL_LABEL), secret }
    }

    /// Blinds a log's name. Equal names give equal blinded names.
    pub fn blind(&self, log: &LogName) -> BlindLog {
        BlindLog(LogName {
            user: log.user.clone(),
            channel: log.channel.clone(),
            kind: self.blind_type(&log.kind),
            path: self.blind_path(&log.path),
        })
    }

    /// Blinds the name of a type; that of a checkpoint's reducer too.
    pub fn blind_type(&self, kind: &TypeName) -> TypeName {
        let blind = self.hash(|to| to.array(3)?.str(BLIND_TAG)?.str("type")?.str(kind.as_str())?.ok());
        TypeName::parse(&blind).expect("26 letters and digits are a type")
    }

    /// Blinds a path, segment by segment.
    pub fn blind_path(&self, path: &Path) -> Path {
        let mut blind = String::with_capacity(path.as_str().matches('/').count() * (BLIND_CHARS + 1));
        for segment in path.as_str().split('/').skip(1) {
            let hash = self.hash(|to| to.array(4)?.str(BLIND_TAG)?.str("path")?.str(&blind)?.str(segment)?.ok());
            blind.push('/');
            blind.push_str(&hash);
        }
        Path::parse(&blind).expect("as many segments as the path, of 26 letters and digits")
    }

    /// Blinds a prefix for listings: it covers the blinded paths of all that the prefix covers.
    pub fn blind_prefix(&self, prefix: &PathPrefix) -> PathPrefix {
        match Path::parse(prefix.as_str()) {
            Ok(path) => PathPrefix::parse(self.blind_path(&path).as_str()).expect("a path is a prefix"),
            Err(_) => PathPrefix::default(),
        }
    }

    /// Seals a log's type and path, to be kept beside the blinded name. At most
    /// [`crate::limits::SEALED_NAME_BYTES_MAX`]; equal names give equal bytes.
    pub fn seal(&self, log: &LogName) -> Vec<u8> {
        aead::seal(&self.seal, &associated(&self.blind(log)), &content(&log.kind, &log.path))
    }

    /// Opens the sealed name of a log, and checks that it is the one that was blinded.
    ///
    /// # Errors
    /// [`OpenNameError`] if it is not the sealed name of this log.
    pub fn open(&self, blind: &BlindLog, sealed: &[u8]) -> Result<LogName, OpenNameError> {
        let forged = |_: Unopened| OpenNameError::Forged { log: blind.clone() };
        let opened = aead::open(&self.seal, &associated(blind), sealed).map_err(forged)?;
        let (kind, path) = codec::decode(WHAT, &opened, |from: &mut Decoder<'_>| {
            codec::array(from, 2)?;
            Ok((codec::name(from, TypeName::parse)?, codec::name(from, Path::parse)?))
        })?;
        if content(&kind, &path) != opened {
            return Err(DecodeError::NotCanonical { what: WHAT }.into());
        }
        let log = LogName { user: blind.0.user.clone(), channel: blind.0.channel.clone(), kind, path };
        match self.blind(&log) == *blind {
            true => Ok(log),
            false => Err(OpenNameError::Mismatch { log: blind.clone() }),
        }
    }

    pub(super) fn secret(&self) -> &Secret {
        &self.secret
    }

    fn hash(&self, write: impl FnOnce(&mut codec::Writer) -> crate::op::WriteResult) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.blind.expose()).expect("HMAC takes a key of any length");
        mac.update(&codec::encode(write));
        let hash = mac.finalize().into_bytes();
        BASE32_NOPAD.encode(&hash[..BLIND_BYTES]).to_ascii_lowercase()
    }
}

impl BlindLog {
    /// Takes a name as a store lists it.
    ///
    /// # Errors
    /// [`NotBlind`] if its type or a segment of its path is not what blinding makes.
    pub fn parse(log: LogName) -> Result<Self, NotBlind> {
        let blind = |text: &str| {
            text.len() == BLIND_CHARS
                && !text.bytes().any(|byte| byte.is_ascii_uppercase())
                && BASE32_NOPAD_NOCASE.decode(text.as_bytes()).is_ok()
        };
        match blind(log.kind.as_str()) && log.path.as_str().split('/').skip(1).all(blind) {
            true => Ok(Self(log)),
            false => Err(NotBlind { log }),
        }
    }

    /// Returns the name, for everything that works on names.
    pub fn as_log(&self) -> &LogName {
        &self.0
    }

    /// Returns the name.
    pub fn into_log(self) -> LogName {
        self.0
    }

    /// Writes the four parts of the name.
    pub(super) fn write(&self, to: &mut codec::Writer) -> crate::op::WriteResult {
        let LogName { user, channel, kind, path } = &self.0;
        to.str(user.as_str())?.str(channel.as_str())?.str(kind.as_str())?.str(path.as_str())?.ok()
    }
}

/// The one spelling of what is sealed as a name.
fn content(kind: &TypeName, path: &Path) -> Vec<u8> {
    codec::encode(|to| to.array(2)?.str(kind.as_str())?.str(path.as_str())?.ok())
}

pub(super) fn associated(blind: &BlindLog) -> Vec<u8> {
    codec::encode(|to| {
        to.array(5)?.str(SEAL_TAG)?;
        blind.write(to)
    })
}
