//! The keys of a user on this device: the opened keyring, and how it is changed at the table.
//!
//! The table keeps the keyring sealed. Whoever logs in opens it with the password's root key, and makes it where there is
//! none. A change is made in the newest revision and takes effect here only once the table has it, so what is sealed under
//! new keys can be opened by every other device. Devices that change at once take turns by the table's compare-and-set.
//! A table that goes back behind what this device has seen is refused.

mod sharing;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use gigfs_core::api::{KeyringRecord, NewSession, ReplaceMaster};
use gigfs_core::seal::{
    ChannelKeys, DeviceKey, Fingerprint, Identity, Keyring, KeyringError, KeyringKey, OwnDevice, PublicIdentity,
    RecoveryCode, RootKey, SealedKeyring, Sealing, Secret,
};
use gigfs_core::sync::ChannelAccess;
use gigfs_core::{ChannelName, Date, DeviceId, ErrorCode, UserName};
use parking_lot::Mutex;

use crate::error::Error;
use crate::password::{self, PasswordKeys};
use crate::random;
use crate::shared::now;
use crate::table::{Table, blocking};

/// How often a change is tried while other devices make theirs.
const CHANGE_ATTEMPTS: usize = 32;
/// Seconds that a session lives which is only for changing a password.
const BRIEF_SESSION_SECONDS: u64 = 60;

/// A user's keys. Cheap to clone; the clones are one.
#[derive(Clone)]
pub struct UserKeys {
    user: UserName,
    opened: Arc<Mutex<Opened>>,
    device: DeviceSecret,
    keep: Arc<OnceLock<Keep>>,
    /// Whose channels are meant, if not the user's own: the owner, with the identity that was pinned.
    owner: Option<(UserName, PublicIdentity)>,
}

/// What makes this device one that others can tell from the user's other devices: the key that it signs with. It stays on the
/// device.
#[derive(Debug, Clone)]
pub struct DeviceSecret {
    /// Which device.
    pub id: DeviceId,
    /// The seed of its Ed25519 key.
    pub seed: Secret,
    /// When it was made.
    pub made: Date,
}

/// Keeps a newer record, and the key that opens it.
type Keep = Box<dyn Fn(&SealedKeyring, &KeyringKey) + Send + Sync>;

/// What [`UserKeys::open_or_create`] came to.
#[derive(Debug, Clone)]
pub struct OpenedKeys {
    /// The keys.
    pub keys: UserKeys,
    /// Whether the user had none before.
    pub created: bool,
}

/// How a new channel's contents are to leave the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SealMode {
    /// Sealed, under keys that are made for it.
    Sealed,
    /// In the clear.
    Plain,
}

/// A keyring, its key, and the record that they came from.
#[derive(Clone)]
pub(crate) struct Opened {
    keyring: Keyring,
    key: KeyringKey,
    sealed: SealedKeyring,
}

impl UserKeys {
    /// Opens the user's keyring with the root key of the password ([`Table::log_in`]), and makes it if there is none. `table`
    /// needs a session. `kept` is the last record that this device has met.
    ///
    /// # Errors
    /// [`Error::Keyring`] if the password does not open it, [`Error::KeyringRolledBack`] if the table went back behind `kept`.
    pub async fn open_or_create(
        table: &Table,
        root: &RootKey,
        kept: Option<&SealedKeyring>,
    ) -> Result<OpenedKeys, Error> {
        for _ in 0..CHANGE_ATTEMPTS {
            if let Some(sealed) = read(table, kept).await? {
                let (keyring, key) = sealed.open(table.user(), root, 0).map_err(|error| at(table, error))?;
                return Ok(OpenedKeys { keys: Self::of(table, Opened { keyring, key, sealed })?, created: false });
            }
            let opened = Opened::new(table, root)?;
            if table.put_keyring(&opened.sealed).await? {
                return Ok(OpenedKeys { keys: Self::of(table, opened)?, created: true });
            }
        }
        Err(busy(table))
    }

    /// Opens the user's keyring as [`open_or_create`](Self::open_or_create) does, and publishes the user's identity.
    ///
    /// # Errors
    /// Those of both.
    pub async fn open_and_publish(
        table: &Table,
        root: &RootKey,
        kept: Option<&SealedKeyring>,
    ) -> Result<OpenedKeys, Error> {
        let opened = Self::open_or_create(table, root, kept).await?;
        opened.keys.publish(table).await?;
        Ok(opened)
    }

    /// Opens the record that a device kept, with the key that it kept, to sign as it did before. Needs no network.
    ///
    /// # Errors
    /// [`KeyringError`] if the key does not open the record.
    pub fn with_key(
        user: UserName,
        record: SealedKeyring,
        key: KeyringKey,
        device: DeviceSecret,
    ) -> Result<Self, KeyringError> {
        let keyring = record.open_with_key(&user, &key, 0)?;
        Ok(Self::with(user, Opened { keyring, key, sealed: record }, device))
    }

    /// Returns the device's secret, to keep where nobody else reads it.
    pub fn device(&self) -> &DeviceSecret {
        &self.device
    }

    /// Returns the same keys for the channels that another user shares with this one.
    ///
    /// # Errors
    /// [`Error::NotPinned`] if that user's fingerprint is not pinned, [`Error::Identity`] if another one is.
    pub fn of_owner(mut self, owner: UserName, identity: PublicIdentity) -> Result<Self, Error> {
        match self.pinned(&owner) {
            Some(pinned) => identity.check(pinned).map_err(|error| Error::Identity { user: owner.clone(), error })?,
            None => return Err(Error::NotPinned { user: owner, fingerprint: identity.fingerprint() }),
        }
        self.owner = Some((owner, identity));
        Ok(self)
    }

    /// Opens the keyring with a recovery code, for a user to whom the admin gave another password, and has it open with a
    /// new one from now on. Ends every session.
    ///
    /// # Errors
    /// [`Error::Refused`] if the password that the admin gave is wrong, [`Error::Keyring`] if the code is, and
    /// [`Error::NoKeyring`]. Nothing is changed then.
    pub async fn recover(
        table: &Table,
        password: &str,
        code: &RecoveryCode,
        new: &str,
        kept: Option<&SealedKeyring>,
    ) -> Result<Self, Error> {
        let proof = table.stretch(password).await?;
        let open = |sealed: &SealedKeyring| sealed.open_with_recovery(table.user(), code, 0);
        let none = || Error::NoKeyring { table: table.url().to_owned(), user: table.user().clone() };
        let opened = replace_password(table, &proof, new, kept, open, || Err(none())).await?;
        Self::of(table, opened.ok_or_else(none)?)
    }

    /// Takes over what other devices have changed. Returns the revision that is the newest now.
    ///
    /// # Errors
    /// [`Error::KeyringRolledBack`] if the table went back, [`Error::Keyring`] if what it gave does not open.
    pub async fn refresh(&self, table: &Table) -> Result<u64, Error> {
        let table = &table.of(&self.user);
        self.read_newest(table).await?;
        if let Some((owner, identity)) = &self.owner {
            for shared in
                table.shared().await?.iter().filter(|shared| shared.owner == *owner && !shared.grant.is_empty())
            {
                self.take_grant(table, (owner, identity), &shared.channel, &shared.grant).await?;
            }
        }
        Ok(self.revision())
    }

    async fn read_newest(&self, table: &Table) -> Result<(), Error> {
        let Opened { key, sealed: kept, .. } = self.opened.lock().clone();
        if let Some(sealed) = read(table, Some(&kept)).await?
            && sealed != kept
        {
            let keyring = sealed.open_with_key(&self.user, &key, 0).map_err(|error| at(table, error))?;
            self.take(Opened { keyring, key, sealed });
        }
        Ok(())
    }

    /// Tells how a channel is sealed. Nothing means that it is not known yet, and is no reason to write in
    /// the clear: [`UserKeys::refresh`] asks the table, [`UserKeys::ensure`] decides.
    pub fn channel(&self, channel: &ChannelName) -> Option<Sealing> {
        self.opened.lock().keyring.channel(self.owner(), channel).cloned()
    }

    /// Returns what this device needs for each sealed channel.
    pub fn sealed_channels(&self) -> BTreeMap<ChannelName, ChannelAccess> {
        let opened = self.opened.lock();
        let of_owner = opened.keyring.channels().filter(|(owner, ..)| *owner == self.owner());
        let keys: Vec<(ChannelName, ChannelKeys)> =
            of_owner.filter_map(|(_, channel, sealing)| Some((channel.clone(), sealing.keys()?.clone()))).collect();
        let device = Arc::new(self.own_device(&opened));
        keys.into_iter().map(|(channel, keys)| (channel, self.access_with(&opened, &device, keys))).collect()
    }

    /// Returns what this device needs for a channel that is sealed under these keys.
    pub(crate) fn access(&self, keys: ChannelKeys) -> ChannelAccess {
        let opened = self.opened.lock();
        self.access_with(&opened, &Arc::new(self.own_device(&opened)), keys)
    }

    fn access_with(&self, opened: &Opened, device: &Arc<OwnDevice>, keys: ChannelKeys) -> ChannelAccess {
        let own = *opened.keyring.identity().public();
        let owner = self.owner.as_ref().map_or(own, |(_, identity)| *identity);
        ChannelAccess { keys: Arc::new(keys), owner, device: device.clone() }
    }

    /// Returns whose channels are meant.
    fn owner(&self) -> &UserName {
        self.owner.as_ref().map_or(&self.user, |(owner, _)| owner)
    }

    fn own_device(&self, opened: &Opened) -> OwnDevice {
        let DeviceSecret { id, seed, made } = &self.device;
        OwnDevice::new(opened.keyring.identity(), self.user.clone(), *id, DeviceKey::from_secret(seed), *made)
    }

    /// Makes sure that a channel of the user's own is in the keyring, here and at the table: with keys, or as plain. Keys
    /// that another device has made meanwhile are taken over.
    ///
    /// # Errors
    /// [`Error::AddKeys`] or [`Error::MarkPlain`] if the channel is there and is of the other kind, [`Error::KeyringBusy`] if
    /// other devices were faster every time.
    pub async fn ensure(&self, table: &Table, channel: &ChannelName, mode: SealMode) -> Result<Sealing, Error> {
        let fresh = ChannelKeys::new(secret()?, secret()?);
        let add = |keyring: &mut Keyring| {
            let owner = self.user.clone();
            match (mode, keyring.channel(&owner, channel)) {
                (SealMode::Sealed, Some(known @ Sealing::Sealed(_)))
                | (SealMode::Plain, Some(known @ Sealing::Plain)) => Ok((known.clone(), false)),
                (SealMode::Sealed, _) => {
                    keyring.add_keys(owner, channel.clone(), fresh.clone())?;
                    Ok((Sealing::Sealed(fresh.clone()), true))
                }
                (SealMode::Plain, _) => {
                    keyring.mark_plain(owner, channel.clone())?;
                    Ok((Sealing::Plain, true))
                }
            }
        };
        self.change(table, add, |sealed, _| sealed).await
    }

    /// Makes a new recovery code, which takes the place of the one before it. It is nowhere but in the answer.
    ///
    /// # Errors
    /// [`Error`] if the table does not take the change; the old code stays good then.
    pub async fn recovery_code(&self, table: &Table) -> Result<RecoveryCode, Error> {
        let code = RecoveryCode::from_bytes(random::bytes()?);
        let rewrap = |sealed: SealedKeyring, key: &KeyringKey| sealed.with_recovery(&self.user, key, Some(&code));
        self.change(table, |_| Ok(((), true)), rewrap).await?;
        Ok(code)
    }

    /// Has every newer record kept as soon as it is met, for a device that is to start with it. Who keeps it is said once, and may be
    /// told of two records in another order than they came: the greater revision is the newer one.
    pub fn keep_with(&self, keep: impl Fn(&SealedKeyring, &KeyringKey) + Send + Sync + 'static) {
        // A second one changes nothing.
        _ = self.keep.set(Box::new(keep));
    }

    /// Returns the user.
    pub fn user(&self) -> &UserName {
        &self.user
    }

    /// Returns the newest revision that was met.
    pub fn revision(&self) -> u64 {
        self.opened.lock().sealed.revision()
    }

    /// Returns the fingerprint of the user's identity, which others compare.
    pub fn fingerprint(&self) -> Fingerprint {
        self.identity().fingerprint()
    }

    /// Returns the sealed record, to keep beside the key for starting without a network.
    pub fn record(&self) -> SealedKeyring {
        self.opened.lock().sealed.clone()
    }

    /// Returns the keyring's key, for a device to keep where nobody else reads it.
    pub fn key(&self) -> KeyringKey {
        self.opened.lock().key.clone()
    }

    fn of(table: &Table, opened: Opened) -> Result<Self, Error> {
        Ok(Self::with(table.user().clone(), opened, DeviceSecret::fresh()?))
    }

    fn with(user: UserName, opened: Opened, device: DeviceSecret) -> Self {
        Self { user, opened: Arc::new(Mutex::new(opened)), device, keep: Arc::default(), owner: None }
    }

    /// Brings a change to the table, in the newest revision there. `apply` makes it, and says whether there is anything to
    /// make; `rewrap` does what is not about the content.
    async fn change<T>(
        &self,
        table: &Table,
        mut apply: impl FnMut(&mut Keyring) -> Result<(T, bool), Error>,
        rewrap: impl Fn(SealedKeyring, &KeyringKey) -> SealedKeyring,
    ) -> Result<T, Error> {
        for _ in 0..CHANGE_ATTEMPTS {
            let Opened { mut keyring, key, sealed } = self.opened.lock().clone();
            let (value, changes) = apply(&mut keyring)?;
            if !changes {
                return Ok(value);
            }
            keyring.advance();
            let next = sealed.updated(&self.user, &keyring, &key).map_err(|error| at(table, error))?;
            let sealed = rewrap(next, &key);
            if table.put_keyring(&sealed).await? {
                self.take(Opened { keyring, key, sealed });
                return Ok(value);
            }
            self.read_newest(table).await?;
        }
        Err(busy(table))
    }

    /// Takes what the table has, unless another clone took something newer meanwhile.
    fn take(&self, opened: Opened) {
        {
            let mut own = self.opened.lock();
            if opened.sealed.revision() <= own.sealed.revision() {
                return;
            }
            *own = opened.clone();
        }
        if let Some(keep) = self.keep.get() {
            keep(&opened.sealed, &opened.key);
        }
    }
}

impl DeviceSecret {
    /// Makes a device that there was not before.
    ///
    /// # Errors
    /// [`Error::System`] if the system has no random bytes.
    pub fn fresh() -> Result<Self, Error> {
        Ok(Self { id: DeviceId::from_bytes(random::bytes()?), seed: secret()?, made: now() })
    }
}

impl fmt::Debug for UserKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UserKeys({}, revision {})", self.user, self.revision())
    }
}

impl Opened {
    /// Makes a user's first keyring.
    fn new(table: &Table, root: &RootKey) -> Result<Self, Error> {
        let keyring = Keyring::new(Identity::from_secrets(&secret()?, secret()?));
        let key = KeyringKey::from_secret(secret()?);
        let sealed = SealedKeyring::seal(table.user(), &keyring, &key, root, None).map_err(|error| at(table, error))?;
        Ok(Self { keyring, key, sealed })
    }
}

/// Replaces the master that `old` proves, and the keyring that goes with it: `open` opens what the table keeps, `none` says
/// whether it may keep nothing.
pub(crate) async fn replace_password(
    table: &Table,
    old: &PasswordKeys,
    new: &str,
    kept: Option<&SealedKeyring>,
    open: impl Fn(&SealedKeyring) -> Result<(Keyring, KeyringKey), KeyringError>,
    none: impl Fn() -> Result<(), Error>,
) -> Result<Option<Opened>, Error> {
    let description = "changing the password".to_owned();
    let brief = NewSession { timeout: BRIEF_SESSION_SECONDS, description };
    let reading = match table.begin_session(old, &brief).await {
        Ok(created) => table.clone().with_session(&created.token),
        // All of them end with the old password.
        Err(Error::Refused { refusal, .. }) if refusal.code == ErrorCode::TooMany => table.clone(),
        Err(error) => return Err(error),
    };
    let new = zeroize::Zeroizing::new(new.to_owned());
    let (master, root) = blocking(move || password::new_keys(&new)).await?;
    for _ in 0..CHANGE_ATTEMPTS {
        let next = match read(&reading, kept).await? {
            Some(sealed) => {
                let (mut keyring, key) = open(&sealed).map_err(|error| at(table, error))?;
                keyring.advance();
                let next = sealed.updated(table.user(), &keyring, &key).map_err(|error| at(table, error))?;
                let sealed = next.with_password(table.user(), &key, &root);
                Some(Opened { keyring, key, sealed })
            }
            None => none().map(|()| None)?,
        };
        let keyring = next.as_ref().map(|next| KeyringRecord { record: next.sealed.to_bytes() });
        if table.replace_master(old, &ReplaceMaster { new: master.clone(), keyring }).await? {
            return Ok(next);
        }
    }
    Err(busy(table))
}

/// Changes a password that is known.
pub(crate) async fn change_password(
    table: &Table,
    old: &PasswordKeys,
    new: &str,
    kept: Option<&SealedKeyring>,
) -> Result<Option<SealedKeyring>, Error> {
    let open = |sealed: &SealedKeyring| sealed.open(table.user(), &old.root, 0);
    Ok(replace_password(table, old, new, kept, open, || Ok(())).await?.map(|opened| opened.sealed))
}

/// Reads what the table keeps, and refuses it if the table went back behind what this device has met.
async fn read(table: &Table, kept: Option<&SealedKeyring>) -> Result<Option<SealedKeyring>, Error> {
    let found = table.keyring().await?;
    let revision = found.as_ref().map_or(0, SealedKeyring::revision);
    let went_back = |kept: &SealedKeyring| {
        revision < kept.revision() || revision == kept.revision() && found.as_ref() != Some(kept)
    };
    match kept {
        Some(kept) if went_back(kept) => Err(Error::KeyringRolledBack {
            table: table.url().to_owned(),
            user: table.user().clone(),
            revision,
            seen: kept.revision(),
        }),
        _ => Ok(found),
    }
}

fn secret() -> Result<Secret, Error> {
    random::bytes().map(Secret::from_bytes)
}

fn at(table: &Table, error: KeyringError) -> Error {
    Error::Keyring { table: table.url().to_owned(), error: Box::new(error) }
}

fn busy(table: &Table) -> Error {
    Error::KeyringBusy { table: table.url().to_owned(), user: table.user().clone() }
}
