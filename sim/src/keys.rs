//! The keys of a world's channels, if they are sealed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use gigfs_core::seal::{BlindLog, ChannelKeys, DeviceKey, Identity, OwnDevice, Secret};
use gigfs_core::sync::{ChannelAccess, Replica};
use gigfs_core::{ChannelName, Checkpoint, Date, DeviceId, Kind, LogName, TypeName, UserName};

/// One set of keys for all channels: what is bound to one of them opens in no other.
#[derive(Debug, Default)]
pub struct Keys {
    keys: Option<Arc<ChannelKeys>>,
    /// The world's logs, by the names that stores and disks know.
    clear: BTreeMap<LogName, LogName>,
}

impl Keys {
    /// Makes the keys for these logs. Returns the names that stores and disks know them by, too.
    pub fn new(sealed: bool, logs: Vec<LogName>) -> (Self, Vec<LogName>) {
        let secret = |byte| Secret::from_bytes([byte; 32]);
        let keys = sealed.then(|| Arc::new(ChannelKeys::new(secret(1), secret(2))));
        let name = |log: &LogName| match &keys {
            Some(keys) => keys.names().blind(log).into_log(),
            None => log.clone(),
        };
        let names: Vec<LogName> = logs.iter().map(name).collect();
        (Self { clear: names.iter().cloned().zip(logs).collect(), keys }, names)
    }

    /// Learns of a log that came to be.
    pub(crate) fn learn(&mut self, name: &LogName, clear: &LogName) {
        self.clear.insert(name.clone(), clear.clone());
    }

    /// Returns the type of a log.
    pub(crate) fn kind<'a>(&'a self, name: &'a LogName) -> &'a TypeName {
        &self.clear.get(name).unwrap_or(name).kind
    }

    /// Returns what the user's device with this number needs for a channel; nothing if channels are in the clear.
    pub fn access(&self, user: &UserName, device: u8) -> Option<ChannelAccess> {
        let keys = self.keys.clone()?;
        let secret = |byte| Secret::from_bytes([byte; 32]);
        let identity = Identity::from_secrets(&secret(3), secret(4));
        let (id, key) = (DeviceId::from_bytes([device; 16]), DeviceKey::from_secret(&secret(device)));
        let own = OwnDevice::new(&identity, user.clone(), id, key, Date::EPOCH);
        Some(ChannelAccess { keys, owner: *identity.public(), device: Arc::new(own) })
    }

    /// Gives a replica on the device with this number what all channels need, and tells it which logs there are.
    pub(crate) fn give(&self, replica: &mut Replica, device: u8) {
        let channels: BTreeSet<(&UserName, &ChannelName)> =
            self.clear.keys().map(|log| (&log.user, &log.channel)).collect();
        for (user, channel) in channels {
            let Some(access) = self.access(user, device) else { return };
            replica.set_access(channel, access);
        }
        self.clear.values().for_each(|log| _ = replica.name(log));
    }

    /// Tells whether a checkpoint's state can be read with the keys.
    pub(crate) fn can_open(&self, name: &LogName, checkpoint: &Checkpoint) -> bool {
        let sealed = self.keys.as_ref().zip(BlindLog::parse(name.clone()).ok());
        sealed.is_none_or(|(keys, log)| keys.open_state(&log, checkpoint).is_ok())
    }

    /// Returns a checkpoint as its reducer reads it.
    pub(crate) fn open(&self, name: &LogName, checkpoint: &Checkpoint, kind: &Arc<dyn Kind>) -> Checkpoint {
        let opened = self.keys.as_ref().zip(BlindLog::parse(name.clone()).ok());
        let opened = opened.and_then(|(keys, log)| keys.open_checkpoint(&log, checkpoint, kind.fold().reducer()).ok());
        opened.unwrap_or_else(|| checkpoint.clone())
    }
}
