//! Sealing: what a client does to everything before it leaves the device.
//!
//! A store sees users, channels, sizes in steps, and who appends when; nothing else. Names are blinded ([`NameKeys`]),
//! payloads and states are encrypted under the key of a channel's epoch ([`ChannelKeys`]) with the whole identity of the
//! thing as associated data, and what is written is signed by a device ([`DeviceKey`]) that its user's [`Identity`]
//! certifies. `docs/crypto.md` specifies the bytes and tells why; `testdata/v1/seal.json` holds vectors.
//!
//! Nothing here draws randomness: keys come as [`Secret`]s, whose bytes the caller takes from the system.

mod actor;
mod aead;
mod device;
mod grant;
mod identity;
mod invitation;
mod keyring;
mod keys;
mod membership;
mod names;
mod own_device;
mod padding;
mod payload;
mod recovery;
mod roster;
mod roster_log;
mod sealed_keyring;
mod secret;
mod state;
mod typed;

pub use actor::{ActorCertificate, SignatureError, TrustedActor};
pub use device::{CertificateError, DeviceCertificate, DeviceKey, TrustedDevice};
pub use grant::{Grant, GrantError, Scope};
pub use identity::{Fingerprint, FingerprintMismatch, Identity, PublicIdentity};
pub use invitation::Invitation;
pub use keyring::{AddKeysError, Keyring, MarkPlainError, PinError, Sealing};
pub use keys::{ChannelKeys, EpochError};
pub use membership::{Membership, Role};
pub use names::{BlindLog, NameKeys, NotBlind, OpenNameError};
pub use own_device::OwnDevice;
pub use padding::{PADDING_STEP_BYTES, padded};
pub use payload::{OpenError, SealError};
pub use recovery::RecoveryCode;
pub use roster::{MemberStanding, Roster, Unvouched};
pub use roster_log::{RosterEntry, roster_kind, roster_log, roster_type};
pub use sealed_keyring::{KeyringError, KeyringKey, RootKey, SealedKeyring};
pub use secret::Secret;
pub use typed::TypedError;

#[cfg(test)]
mod tests;
