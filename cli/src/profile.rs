//! The profile of a device: who is logged in where, in `GIG_HOME`.
//!
//! `profile.json` (mode 0600) holds the session; `keyring.json` (mode 0600) the key of the user's keyring and what the device
//! signs with while somebody is logged in, and the last record of the keyring, and is changed by one command at a time
//! (`keyring.lock`); `data/` is the device's local store. What another user shares is in `shared/OWNER`: `identity`, whose
//! fingerprint was compared, and `data/`.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use gigfs::core::seal::{KeyringKey, PublicIdentity, SealedKeyring, Secret};
use gigfs::{DeviceSecret, Gig, Table, UserKeys};
use gigfs_core::{Date, DeviceId, SessionId, UserName, base64_text};
use serde::{Deserialize, Serialize};

use crate::failure::{Exit, Failure};

/// A folder with a profile, or without one yet.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    folder: PathBuf,
    is_default: bool,
    /// Whose channels are meant, if not the user's own.
    owner: Option<UserName>,
}

/// A logged-in user.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Profile {
    /// The table server.
    pub(crate) table: String,
    /// Who is logged in there.
    pub(crate) user: UserName,
    /// The session.
    pub(crate) session: SessionId,
    /// Its secret.
    pub(crate) token: String,
    /// A certificate to trust beside the public ones, in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) trust: Option<String>,
}

/// What a device keeps of its user's keyring.
#[derive(Serialize, Deserialize)]
struct KeptKeyring {
    /// The table that it is from.
    table: String,
    /// Whose it is.
    user: UserName,
    /// The keyring's key; empty while nobody is logged in.
    #[serde(with = "base64_text")]
    key: Vec<u8>,
    /// What the device signs with; nothing while nobody is logged in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device: Option<KeptDevice>,
    /// The newest record that was met. It is sealed, and stays to tell whether the table goes back behind it.
    #[serde(with = "base64_text")]
    record: Vec<u8>,
}

/// What a device keeps to sign with ([`DeviceSecret`]).
#[derive(Serialize, Deserialize)]
struct KeptDevice {
    id: DeviceId,
    #[serde(with = "base64_text")]
    seed: Vec<u8>,
    made: Date,
}

impl Home {
    /// Finds the folder: the one given, else `.gigfs` in the home folder. `owner` is whose channels are meant.
    pub(crate) fn find(given: Option<PathBuf>, owner: Option<UserName>) -> Result<Self, Failure> {
        let is_default = given.is_none() || std::env::var_os("GIG_HOME").is_some();
        let folder = match given {
            Some(folder) => folder,
            None => std::env::home_dir()
                .ok_or_else(|| Failure::usage("there is no home folder; say where the profile is with GIG_HOME"))?
                .join(".gigfs"),
        };
        Ok(Self { folder, is_default, owner })
    }

    /// Tells whether commands find the folder without being told on their command line.
    pub(crate) fn is_default(&self) -> bool {
        self.is_default
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the device's local store of what somebody shares, or of the user's own.
    fn data_of(&self, owner: Option<&UserName>) -> PathBuf {
        owner.map_or(self.folder.clone(), |owner| self.shared_by(owner)).join("data")
    }

    /// Returns whose channels are meant, if not those of whoever is logged in.
    pub(crate) fn other_owner(&self, profile: &Profile) -> Option<&UserName> {
        self.owner.as_ref().filter(|owner| **owner != profile.user)
    }

    fn shared_by(&self, owner: &UserName) -> PathBuf {
        self.folder.join("shared").join(owner.as_str())
    }

    /// Keeps the identity of somebody who shares channels with this user.
    pub(crate) fn keep_owner(&self, owner: &UserName, identity: &PublicIdentity) -> Result<(), Failure> {
        let folder = self.shared_by(owner);
        create_private_folder(&folder)?;
        write_private(&folder.join("identity"), &identity.to_bytes())
    }

    /// Returns the keys for the channels that are meant.
    fn keys_meant(&self, profile: &Profile) -> Result<UserKeys, Failure> {
        let keys = self.keys(profile)?;
        let Some(owner) = self.other_owner(profile) else { return Ok(keys) };
        let none = || {
            let message = format!("no channel that {owner} shares was accepted on this device");
            let hint = format!("see what is shared with `gig shared`, and take it with `gig accept {owner} CHANNEL`");
            Failure::new(Exit::Refused, "not_accepted", message).hint(hint)
        };
        let bytes = fs::read(self.shared_by(owner).join("identity")).map_err(|_| none())?;
        let identity = PublicIdentity::from_bytes(&bytes).map_err(|_| none())?;
        Ok(keys.of_owner(owner.clone(), identity)?)
    }

    /// Reads the profile, if there is one.
    pub(crate) fn read(&self) -> Result<Option<Profile>, Failure> {
        let file = self.file();
        let text = match fs::read(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Failure::machine(&format!("read {}", file.display()), error)),
        };
        let profile = serde_json::from_slice(&text).map_err(|error| {
            Failure::machine(&format!("read {}", file.display()), error).hint("log in again with `gig login`")
        })?;
        Ok(Some(profile))
    }

    /// Reads the profile that a command needs.
    pub(crate) fn profile(&self) -> Result<Profile, Failure> {
        self.read()?.ok_or_else(|| {
            let message = format!("nobody is logged in in {}", self.folder.display());
            let hint = "start a server here with `gig up`, or log in with `gig login URL --user NAME`";
            Failure::new(Exit::LogIn, "not_logged_in", message).hint(hint)
        })
    }

    /// Writes the profile so that only its owner can read it.
    pub(crate) fn write(&self, profile: &Profile) -> Result<(), Failure> {
        create_private_folder(&self.folder)?;
        let json = serde_json::to_vec_pretty(profile).map_err(|error| Failure::machine("write the profile", error))?;
        write_private(&self.file(), &json)
    }

    /// Returns the last record of a user's keyring that this device has met, if it is this table's.
    pub(crate) fn record(&self, table: &str, user: &UserName) -> Result<Option<SealedKeyring>, Failure> {
        match self.kept_keyring()? {
            Some(kept) if kept.table == table && kept.user == *user => Ok(Some(self.sealed(&kept)?)),
            _ => Ok(None),
        }
    }

    /// Tells whether the user's keys are here.
    pub(crate) fn has_keys(&self, user: &UserName) -> Result<bool, Failure> {
        Ok(self.kept_keyring()?.is_some_and(|kept| kept.user == *user && !kept.key.is_empty()))
    }

    /// Opens the user's keys as they were last met. Needs no network.
    pub(crate) fn keys(&self, profile: &Profile) -> Result<UserKeys, Failure> {
        let missing = |message: String| {
            let hint = format!("log in again with `gig login {} --user {}`", profile.table, profile.user);
            Failure::new(Exit::LogIn, "no_keyring_key", message).hint(hint)
        };
        let none = || missing(format!("the keys of {} are not in {}", profile.user, self.folder.display()));
        let kept = self.kept_keyring()?.filter(|kept| kept.user == profile.user).ok_or_else(none)?;
        let key: [u8; Secret::BYTES] = kept.key.as_slice().try_into().map_err(|_| none())?;
        let key = KeyringKey::from_secret(Secret::from_bytes(key));
        let device = kept.device.as_ref().and_then(KeptDevice::secret).map_or_else(DeviceSecret::fresh, Ok)?;
        UserKeys::with_key(profile.user.clone(), self.sealed(&kept)?, key, device)
            .map_err(|error| missing(error.to_string()))
    }

    /// Keeps the keys of a user who logs in, so that only their owner can read them.
    pub(crate) fn keep_keys(&self, table: &str, keys: &UserKeys) -> Result<(), Failure> {
        let _lock = self.lock_keyring()?;
        self.write_keyring(&KeptKeyring::of(table, keys))
    }

    /// Keeps keys that a command has changed, unless another command has kept newer ones, or logged out.
    pub(crate) fn keep_changed(&self, table: &str, keys: &UserKeys) -> Result<(), Failure> {
        let _lock = self.lock_keyring()?;
        match self.kept_of(table, keys.user())? {
            Some(kept) if self.sealed(&kept)?.revision() <= keys.revision() => {
                self.write_keyring(&KeptKeyring::of(table, keys))
            }
            _ => Ok(()),
        }
    }

    /// Keeps a record that was met while a command went on, unless another command has kept a newer one, or logged out.
    fn keep_newer(
        &self,
        table: &str,
        user: &UserName,
        record: &SealedKeyring,
        key: &KeyringKey,
    ) -> Result<(), Failure> {
        let _lock = self.lock_keyring()?;
        match self.kept_of(table, user)? {
            Some(kept) if self.sealed(&kept)?.revision() < record.revision() => {
                let key = key.secret().expose().to_vec();
                self.write_keyring(&KeptKeyring { key, record: record.to_bytes(), ..kept })
            }
            _ => Ok(()),
        }
    }

    /// Keeps a record without the key that opens it.
    pub(crate) fn keep_record(&self, table: &str, user: &UserName, record: &SealedKeyring) -> Result<(), Failure> {
        let _lock = self.lock_keyring()?;
        let (table, user) = (table.to_owned(), user.clone());
        self.write_keyring(&KeptKeyring { table, user, key: Vec::new(), device: None, record: record.to_bytes() })
    }

    /// Keeps other commands from reading the keyring here, changing it, and writing it at once with this one, until what is
    /// returned is dropped.
    fn lock_keyring(&self) -> Result<File, Failure> {
        create_private_folder(&self.folder)?;
        let file = self.folder.join("keyring.lock");
        let locked = File::create(&file).and_then(|lock| lock.lock().map(|()| lock));
        locked.map_err(|error| Failure::machine(&format!("lock {}", file.display()), error))
    }

    /// Returns what is kept of a user who is logged in.
    fn kept_of(&self, table: &str, user: &UserName) -> Result<Option<KeptKeyring>, Failure> {
        let kept = self.kept_keyring()?;
        Ok(kept.filter(|kept| kept.table == table && kept.user == *user && !kept.key.is_empty()))
    }

    fn write_keyring(&self, kept: &KeptKeyring) -> Result<(), Failure> {
        let json = serde_json::to_vec_pretty(kept).map_err(|error| Failure::machine("write the keyring", error))?;
        write_private(&self.keyring_file(), &json)
    }

    fn kept_keyring(&self) -> Result<Option<KeptKeyring>, Failure> {
        let file = self.keyring_file();
        match fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|error| self.unreadable(error)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Failure::machine(&format!("read {}", file.display()), error)),
        }
    }

    fn sealed(&self, kept: &KeptKeyring) -> Result<SealedKeyring, Failure> {
        SealedKeyring::from_bytes(&kept.record).map_err(|error| self.unreadable(error))
    }

    fn unreadable(&self, error: impl std::fmt::Display) -> Failure {
        let file = self.keyring_file();
        Failure::machine(&format!("read {}", file.display()), error)
            .hint("remove the file and log in again with `gig login`; the table has the keyring")
    }

    fn keyring_file(&self) -> PathBuf {
        self.folder.join("keyring.json")
    }

    /// Forgets the profile and the keys. The device's data stays, and so does the sealed record of the keyring.
    pub(crate) fn forget(&self) -> Result<(), Failure> {
        let _lock = self.lock_keyring()?;
        match self.kept_keyring() {
            Ok(Some(kept)) => self.write_keyring(&KeptKeyring { key: Vec::new(), device: None, ..kept })?,
            Ok(None) => {}
            // Whatever it holds, no key shall stay.
            Err(_) => {
                let file = self.keyring_file();
                fs::remove_file(&file)
                    .map_err(|error| Failure::machine(&format!("remove {}", file.display()), error))?;
            }
        }
        let file = self.file();
        fs::remove_file(&file).map_err(|error| Failure::machine(&format!("remove {}", file.display()), error))
    }

    fn file(&self) -> PathBuf {
        self.folder.join("profile.json")
    }
}

impl KeptKeyring {
    fn of(table: &str, keys: &UserKeys) -> Self {
        Self {
            table: table.to_owned(),
            user: keys.user().clone(),
            key: keys.key().secret().expose().to_vec(),
            device: Some(KeptDevice::from(keys.device())),
            record: keys.record().to_bytes(),
        }
    }
}

impl KeptDevice {
    fn secret(&self) -> Option<DeviceSecret> {
        let seed = Secret::from_bytes(self.seed.as_slice().try_into().ok()?);
        Some(DeviceSecret { id: self.id, seed, made: self.made })
    }
}

impl From<&DeviceSecret> for KeptDevice {
    fn from(device: &DeviceSecret) -> Self {
        Self { id: device.id, seed: device.seed.expose().to_vec(), made: device.made }
    }
}

impl Profile {
    /// Returns the table, with the session's credentials.
    pub(crate) fn table(&self) -> Result<Table, Failure> {
        let trust: Vec<Vec<u8>> = self.trust.iter().map(|pem| pem.clone().into_bytes()).collect();
        Ok(Table::new(&self.table, self.user.clone(), &trust)?.with_session(&self.token))
    }

    /// Returns the table for the channels that are meant, with the session's credentials.
    pub(crate) fn table_meant(&self, home: &Home) -> Result<Table, Failure> {
        let table = self.table()?;
        Ok(home.other_owner(self).map(|owner| table.of(owner)).unwrap_or(table))
    }

    /// Opens the device's client.
    pub(crate) async fn open(&self, home: &Home) -> Result<Gig, Failure> {
        create_private_folder(home.folder())?;
        let keys = home.keys_meant(self)?;
        let (at, table, user) = (home.clone(), self.table.clone(), self.user.clone());
        keys.keep_with(move |record, key| {
            if let Err(failure) = at.keep_newer(&table, &user, record, key) {
                tracing::warn!(?failure, "what another device has changed in the keyring is not kept");
            }
        });
        let (table, data) = (self.table_meant(home)?, home.data_of(home.other_owner(self)));
        Ok(Gig::builder().table(table).user_keys(keys).local(data).open().await?)
    }
}

/// Makes a folder that only its owner can enter.
pub(crate) fn create_private_folder(folder: &Path) -> Result<(), Failure> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| Failure::machine(&format!("make the folder {}", folder.display()), error))
}

/// Writes a file that only its owner can read, all of it or nothing.
pub(crate) fn write_private(file: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let write = || -> std::io::Result<()> {
        // It gets a name of its own, since several commands may write at once, and mode 0600.
        let mut fresh = tempfile::NamedTempFile::new_in(file.parent().unwrap_or(Path::new(".")))?;
        fresh.write_all(bytes)?;
        fresh.as_file().sync_all()?;
        fresh.persist(file)?;
        Ok(())
    };
    write().map_err(|error| Failure::machine(&format!("write {}", file.display()), error))
}

/// Reads a file that a person named.
pub(crate) fn read_text(file: &Path) -> Result<String, Failure> {
    fs::read_to_string(file).map_err(|error| Failure::usage(format!("cannot read {}: {error}", file.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use gigfs::core::seal::{Identity, Keyring, RootKey};

    #[test]
    fn a_command_that_ends_after_a_logout_does_not_bring_the_keys_back() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home { folder: folder.path().to_owned(), is_default: false, owner: None };
        let secret = |byte| Secret::from_bytes([byte; 32]);
        let (user, table) = (UserName::parse("me").unwrap(), "http://table");
        let keyring = Keyring::new(Identity::from_secrets(&secret(1), secret(2)));
        let (key, root) = (KeyringKey::from_secret(secret(3)), RootKey::from_secret(secret(4)));
        let record = SealedKeyring::seal(&user, &keyring, &key, &root, None).unwrap();
        let keys = UserKeys::with_key(user.clone(), record, key, DeviceSecret::fresh().unwrap()).unwrap();

        home.keep_changed(table, &keys).unwrap();
        assert!(!home.has_keys(&user).unwrap(), "nobody has logged in");
        home.keep_keys(table, &keys).unwrap();
        home.keep_changed(table, &keys).unwrap();
        assert!(home.has_keys(&user).unwrap());
        let session = SessionId::from_bytes([5; 16]);
        home.write(&Profile { table: table.into(), user: user.clone(), session, token: "t".into(), trust: None })
            .unwrap();
        home.forget().unwrap();
        home.keep_changed(table, &keys).unwrap();
        home.keep_newer(table, &user, &keys.record(), &keys.key()).unwrap();
        assert!(!home.has_keys(&user).unwrap());
    }
}
