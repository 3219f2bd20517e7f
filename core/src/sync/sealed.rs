//! Sealed channels: opening what comes in, sealing what goes out, and which blinded name stands for which log.
//!
//! Everything else works on blinded names and sealed payloads, as stores do; only folds see what is inside.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::link::Request;
use super::log::{Loaded, Log};
use super::{LinkId, Notice, Origin, Record, Replica};
use crate::checkpoint::Checkpoint;
use crate::fold::{Folded, Kind};
use crate::limits::CHANNEL_EPOCHS_MAX;
use crate::name::{ChannelName, LogName, PathPrefix, TypeName};
use crate::op::{Draft, Op, Payload};
use crate::seal::{
    BlindLog, ChannelKeys, OpenError, OwnDevice, PublicIdentity, Roster, RosterEntry, SealError, roster_log,
};
use crate::wire::ClientMessage;

/// What a device needs for a sealed channel.
#[derive(Debug, Clone)]
pub struct ChannelAccess {
    /// The channel's keys.
    pub keys: Arc<ChannelKeys>,
    /// The identity of the channel's owner, by its pinned fingerprint.
    pub owner: PublicIdentity,
    /// The device that this is.
    pub device: Arc<OwnDevice>,
}

/// What a replica has of a sealed channel.
pub(super) struct Sealed {
    pub(super) keys: Arc<ChannelKeys>,
    pub(super) device: Arc<OwnDevice>,
    /// The name under which stores know the log of the roster.
    pub(super) roster_log: LogName,
    /// Every entry of the roster that was read.
    pub(super) entries: BTreeSet<RosterEntry>,
    /// What they come to.
    pub(super) roster: Arc<Roster>,
    /// The types that something reads, by their blinded names.
    types: BTreeMap<TypeName, TypeName>,
    /// The latest key epoch that something was sealed under.
    met: u32,
}

/// What opens and seals one log of a sealed channel.
#[derive(Debug, Clone)]
pub(super) struct Sealer {
    keys: Arc<ChannelKeys>,
    log: BlindLog,
    /// Who may write there. The roster itself needs none: its entries prove themselves.
    roster: Option<Arc<Roster>>,
}

impl Sealer {
    /// Returns the log, by the name that stores know.
    pub(super) fn log(&self) -> &LogName {
        self.log.as_log()
    }

    pub(super) fn roster(&self) -> Option<&Arc<Roster>> {
        self.roster.as_ref()
    }

    pub(super) fn set_roster(&mut self, roster: Arc<Roster>) {
        self.roster = Some(roster);
    }

    /// Opens an operation, for whoever reads its content.
    pub(super) fn open(&self, op: &Op) {
        self.keys.open_op(&self.log, op);
    }

    /// Returns a draft with its payload sealed.
    ///
    /// # Errors
    /// [`SealError`] if the payload is too large for that.
    pub(super) fn seal(&self, draft: Draft) -> Result<Draft, SealError> {
        let payload = self.keys.seal_payload(&self.log, &draft)?;
        Ok(Draft { payload, ..draft })
    }

    fn seal_checkpoint(&self, mut checkpoint: Checkpoint) -> Result<Checkpoint, SealError> {
        checkpoint.reducer = self.keys.names().blind_type(&checkpoint.reducer);
        checkpoint.state = self.keys.seal_state(&self.log, &checkpoint)?;
        Ok(checkpoint)
    }

    /// Returns a checkpoint of this log with the state of one of another log of the channel, sealed anew.
    ///
    /// # Errors
    /// A sentence, if the other one was not sealed by somebody who has the channel's keys.
    pub(super) fn seal_copy(&self, of: &Checkpoint, from: &Self, copy: Checkpoint) -> Result<Checkpoint, String> {
        let state = self.keys.open_state(&from.log, of).map_err(|why| why.to_string())?;
        let copy = Checkpoint { state, ..copy };
        let state = self.keys.seal_state(&self.log, &copy).map_err(|why| why.to_string())?;
        Ok(Checkpoint { state, ..copy })
    }
}

impl Replica {
    /// Gives what a sealed channel needs, before its logs are opened, or newer keys of it. Without it a channel is in the
    /// clear.
    pub fn set_access(&mut self, channel: &ChannelName, access: ChannelAccess) {
        let ChannelAccess { keys, owner, device } = access;
        let clear = roster_log(&self.config.user, channel);
        let roster_log = keys.names().blind(&clear).into_log();
        let (met, entries) =
            self.sealed.remove(channel).map_or_else(Default::default, |known| (known.met, known.entries));
        let roster = Arc::new(Roster::new((&clear.user, &owner), channel, entries.iter().cloned()));
        self.clear_names.insert(roster_log.clone(), clear);
        let types = self.kinds.keys().map(|kind| (keys.names().blind_type(kind), kind.clone())).collect();
        let sealed = Sealed { keys, device, roster_log, entries, roster, types, met };
        self.sealed.insert(channel.clone(), sealed);
        let names: Vec<LogName> = self.logs.keys().filter(|name| name.channel == *channel).cloned().collect();
        for name in names {
            let (sealer, fold) = (self.sealer(&name), self.kind_of(&name).map(|kind| kind.fold()));
            let log = self.log_mut(&name);
            log.stays = sealer.is_none();
            (log.sealer, log.fold) = (sealer, fold);
            log.open_again();
            if log.loaded == Loaded::Yes {
                self.notify(Notice::Changed { log: name, ops: Vec::new(), origin: Origin::Here });
            }
        }
        self.follow_roster(channel);
        self.read_roster(channel);
    }

    /// Takes note of the key epochs that something was sealed under.
    pub(super) fn meet_epochs<'a>(&mut self, name: &LogName, payloads: impl Iterator<Item = &'a Payload>) {
        let Some(sealed) = self.sealed.get_mut(&name.channel) else { return };
        let epochs = payloads.filter_map(|payload| match payload {
            Payload::Sealed { epoch, .. } => Some(*epoch),
            Payload::Plain(_) => None,
        });
        // More epochs than a channel can have are nobody's: a store may have made that up.
        let last = sealed.keys.newest().saturating_add(CHANNEL_EPOCHS_MAX as u32);
        sealed.met = epochs.filter(|epoch| *epoch <= last).max().max(Some(sealed.met)).unwrap_or_default();
    }

    /// Returns the channels in which something is sealed under a later key epoch than is known here.
    pub fn lacking_keys(&self) -> impl Iterator<Item = &ChannelName> {
        self.sealed.iter().filter(|(_, sealed)| sealed.met > sealed.keys.newest()).map(|(channel, _)| channel)
    }

    /// Tells whether a channel is sealed and its keys are here.
    pub fn is_sealed(&self, channel: &ChannelName) -> bool {
        self.sealed.contains_key(channel)
    }

    /// Returns the name under which a log is known to everything but the app, and remembers which log that is.
    pub fn name(&mut self, log: &LogName) -> LogName {
        match self.sealed.get(&log.channel) {
            Some(sealed) => {
                let blind = sealed.keys.names().blind(log).into_log();
                self.remember_name(blind, log)
            }
            None => log.clone(),
        }
    }

    /// Remembers which log a blinded name stands for. Returns the blinded name. What many names have in common is there once.
    fn remember_name(&mut self, blind: LogName, clear: &LogName) -> LogName {
        if let Some((known, _)) = self.clear_names.get_key_value(&blind) {
            return known.clone();
        }
        let Some(sealed) = self.sealed.get(&blind.channel) else { return blind };
        let LogName { user, channel, .. } = match &sealed.roster_log {
            roster if roster.user == blind.user => roster.clone(),
            _ => blind.clone(),
        };
        let (kind, shared) = match sealed.types.get_key_value(&blind.kind) {
            Some((blind, clear)) => (blind.clone(), clear.clone()),
            None => (blind.kind, clear.kind.clone()),
        };
        let clear = LogName { user: user.clone(), channel: channel.clone(), kind: shared, path: clear.path.clone() };
        let blind = LogName { user, channel, kind, path: blind.path };
        self.clear_names.insert(blind.clone(), clear);
        blind
    }

    /// Takes note that something reads a type now.
    pub(super) fn blind_kind(&mut self, kind: &TypeName) {
        for sealed in self.sealed.values_mut() {
            sealed.types.insert(sealed.keys.names().blind_type(kind), kind.clone());
        }
    }

    /// Returns the log that has this name, if it is in the clear or was met before.
    pub fn clear_name<'a>(&'a self, name: &'a LogName) -> Option<&'a LogName> {
        match self.sealed.contains_key(&name.channel) {
            true => self.clear_names.get(name),
            false => Some(name),
        }
    }

    /// Returns the prefix that covers the names of all logs below one, as stores and disks know them.
    pub fn kept_prefix(&self, channel: &ChannelName, prefix: &PathPrefix) -> PathPrefix {
        match self.sealed.get(channel) {
            Some(sealed) => sealed.keys.names().blind_prefix(prefix),
            None => prefix.clone(),
        }
    }

    /// Learns what a log is called from its sealed name. Returns it; nothing if it is not this log's, or the keys are not
    /// here.
    pub fn learn_name(&mut self, name: &LogName, sealed: &[u8]) -> Option<LogName> {
        let blind = BlindLog::parse(name.clone()).ok()?;
        let clear = self.sealed.get(&name.channel)?.keys.names().open(&blind, sealed).ok()?;
        self.remember_name(name.clone(), &clear);
        Some(clear)
    }

    pub(super) fn sealed_name(&self, name: &LogName) -> Option<Bytes> {
        let sealed = self.sealed.get(&name.channel)?;
        Some(sealed.keys.names().seal(self.clear_names.get(name)?).into())
    }

    /// Tells whether a checkpoint is sealed under a later key than there is here.
    pub(super) fn lacks_key(&self, name: &LogName, checkpoint: &Checkpoint) -> bool {
        let newest = self.sealed.get(&name.channel).map(|sealed| sealed.keys.newest());
        matches!(checkpoint.state, Payload::Sealed { epoch, .. } if newest < Some(epoch))
    }

    /// Keeps on the disk what a log is called.
    pub(super) fn keep_name(&mut self, name: &LogName) {
        if let Some(sealed) = self.sealed_name(name) {
            self.persist_lazily(Record::Name { log: name.clone(), sealed });
        }
    }

    /// Tells a store, once on each stream, what a log is called of which it has something now.
    pub(super) fn tell_name(&mut self, id: &LinkId, name: &LogName) {
        let Some(peer) = self.logs.get_mut(name).and_then(|log| log.peers.get_mut(&id.store)) else { return };
        if std::mem::replace(&mut peer.named, true) {
            return;
        }
        if let Some(sealed) = self.sealed_name(name) {
            let tag = self.up_mut(id).ask(Request::Other);
            self.send(id, ClientMessage::Name { tag, log: name.into(), sealed });
        }
    }

    pub(super) fn sealer(&self, name: &LogName) -> Option<Sealer> {
        let sealed = self.sealed.get(&name.channel)?;
        let log = BlindLog::parse(name.clone()).ok()?;
        let roster = (sealed.roster_log != *name).then(|| sealed.roster.clone());
        Some(Sealer { keys: sealed.keys.clone(), log, roster })
    }

    /// Returns what reads the logs of a name's type.
    pub(super) fn kind_of(&self, name: &LogName) -> Option<Arc<dyn Kind>> {
        let clear = match self.sealed.get(&name.channel) {
            Some(sealed) => sealed.types.get(&name.kind)?,
            None => &name.kind,
        };
        self.kinds.get(clear).cloned()
    }

    /// Returns the name of the log beside another one whose path ends in `suffix`, if it can be told and is a name.
    pub(super) fn beside(&mut self, name: &LogName, suffix: &str) -> Option<LogName> {
        let clear = self.clear_name(name)?.clone();
        let path = format!("{}{suffix}", clear.path).parse().ok()?;
        Some(self.name(&LogName { path, ..clear }))
    }
}

impl Log {
    /// Opens an operation where the channel is sealed.
    pub(super) fn open(&self, op: &Op) {
        if let Some(sealer) = &self.sealer {
            sealer.open(op);
        }
    }

    /// Returns a checkpoint of the log as the fold reads it.
    ///
    /// # Errors
    /// [`OpenError`] if it was not sealed by somebody who has the channel's keys.
    pub(super) fn readable(&self, checkpoint: &Checkpoint) -> Result<Checkpoint, OpenError> {
        match (&self.sealer, &self.fold) {
            (Some(Sealer { keys, log, .. }), Some(fold)) => keys.open_checkpoint(log, checkpoint, fold.reducer()),
            _ => Ok(checkpoint.clone()),
        }
    }

    /// Returns a checkpoint as it leaves the device.
    ///
    /// # Errors
    /// A sentence that says why it cannot be sealed.
    pub(super) fn sealed(&self, checkpoint: Checkpoint) -> Result<Checkpoint, String> {
        match &self.sealer {
            Some(sealer) => sealer.seal_checkpoint(checkpoint).map_err(|error| error.to_string()),
            None => Ok(checkpoint),
        }
    }

    /// Returns a draft as it leaves the device.
    ///
    /// # Errors
    /// [`SealError`] if the payload is too large for that.
    pub(super) fn sealed_draft(&self, draft: Draft) -> Result<Draft, SealError> {
        match &self.sealer {
            Some(sealer) => sealer.seal(draft),
            None => Ok(draft),
        }
    }

    /// Opens everything again, because there are other keys, and folds it anew.
    fn open_again(&mut self) {
        let ops = std::mem::take(&mut self.oplog).into_ops().map(|op| op.unopened());
        for op in ops {
            self.open(&op);
            self.oplog.insert(op);
        }
        for op in self.doubtful.values_mut() {
            *op = op.clone().unopened();
        }
        self.doubtful.values().for_each(|op| self.open(op));
        self.refold();
    }
}

/// Puts a folded state where a checkpoint has its state, in the clear.
pub(super) fn with_state(checkpoint: Checkpoint, folded: Folded) -> Checkpoint {
    let Folded { reducer, version, state } = folded;
    Checkpoint { reducer, version, state: Payload::Plain(state.into()), ..checkpoint }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Base;
    use crate::covers::Covers;
    use crate::date::Date;
    use crate::fold::{Function, Logged};
    use crate::id::{ActorId, DeviceId, Digest, Seq};
    use crate::name::TypeName;
    use crate::seal::{DeviceKey, Identity, Secret};
    use crate::sync::{Config, Event, Kept, PrunePolicy};
    use serde_json::{Value, json};

    fn secret(byte: u8) -> Secret {
        Secret::from_bytes([byte; 32])
    }

    fn keys() -> ChannelKeys {
        ChannelKeys::new(secret(1), secret(2))
    }

    fn log() -> LogName {
        LogName::parse("me", "home", "raw", "/notes/a").unwrap()
    }

    /// What each device of one user has: its own key, and the identity's word for it.
    fn access(device: u8, keys: &ChannelKeys) -> ChannelAccess {
        let identity = Identity::from_secrets(&secret(90), secret(91));
        let key = DeviceKey::from_secret(&secret(100 + device));
        let id = DeviceId::from_bytes([device; 16]);
        let own = OwnDevice::new(&identity, log().user, id, key, Date::EPOCH);
        ChannelAccess { keys: Arc::new(keys.clone()), owner: *identity.public(), device: Arc::new(own) }
    }

    /// Makes a replica of a process without a disk that has opened the log, and returns the name that stores know.
    fn replica(actor: u8, keys: &ChannelKeys) -> (Replica, LogName) {
        let (user, actor) = (log().user, ActorId::from_bytes([actor; 16]));
        let mut replica = Replica::new(Config { user, actor, durable: false, seed: 1, prune: PrunePolicy::OnDemand });
        let all = |ops: &[Logged]| Value::Array(ops.iter().map(|op| op.payload.clone()).collect());
        replica.register(TypeName::parse("raw").unwrap(), Arc::new(Function::new(all)));
        replica.set_access(&log().channel, access(1, keys));
        let name = replica.name(&log());
        replica.open(Date::EPOCH, &name);
        (replica, name)
    }

    fn ops_of(replica: &Replica, name: &LogName) -> Vec<Op> {
        let records = replica.oplog(name).unwrap().iter().map(|op| Op::from_record(name, &op.to_record(), None));
        records.collect::<Result<_, _>>().unwrap()
    }

    fn value(replica: &mut Replica, name: &LogName) -> Value {
        (*replica.value(name).unwrap()).clone()
    }

    #[test]
    fn what_leaves_a_sealed_channel_shows_neither_name_nor_content_and_who_has_the_keys_reads_both() {
        let (mut author, name) = replica(1, &keys());
        author.push(Date::EPOCH, &name, &json!("secret words")).unwrap();
        assert_eq!(author.clear_name(&name), Some(&log()));
        let ops = ops_of(&author, &name);
        let bytes = [name.to_string().into_bytes(), ops[0].to_record()].concat();
        for word in [&b"secret"[..], b"words", b"notes", b"raw"] {
            assert!(!bytes.windows(word.len()).any(|window| window == word));
        }
        let (mut reader, same) = replica(2, &keys());
        assert_eq!(same, name);
        reader.handle(Date::EPOCH, Event::Neighbour { log: same, ops });
        assert_eq!(value(&mut reader, &name), json!(["secret words"]));
    }

    #[test]
    fn a_log_that_an_earlier_process_left_behind_is_known_by_its_name() {
        let (before, name) = replica(1, &keys());
        let sealed = before.sealed_name(&name);
        let (user, actor) = (log().user, ActorId::from_bytes([2; 16]));
        let mut after = Replica::new(Config { user, actor, durable: true, seed: 1, prune: PrunePolicy::Off });
        after.set_access(&log().channel, access(1, &keys()));
        after.resume(Date::EPOCH, &name);
        let roster = after.sealed[&log().channel].roster_log.clone();
        after.handle(Date::EPOCH, Event::Loaded { log: roster, kept: Kept::default() });
        after.handle(Date::EPOCH, Event::Loaded { log: name.clone(), kept: Kept { name: sealed, ..Kept::default() } });
        assert_eq!(after.clear_name(&name), Some(&log()));
    }

    #[test]
    fn what_was_sealed_under_a_later_key_is_read_once_the_key_is_there() {
        let mut later = keys();
        later.rotate(secret(3)).unwrap();
        let (mut author, name) = replica(1, &later);
        author.push(Date::EPOCH, &name, &json!(1)).unwrap();
        let (mut reader, _) = replica(2, &keys());
        reader.handle(Date::EPOCH, Event::Neighbour { log: name.clone(), ops: ops_of(&author, &name) });
        assert_eq!(value(&mut reader, &name), json!([]));
        assert!(reader.unreadable(&name).values().all(|why| why.contains("key epoch 2")));
        reader.set_access(&log().channel, access(2, &later));
        assert_eq!(value(&mut reader, &name), json!([1]));
        assert!(reader.unreadable(&name).is_empty());
    }

    #[test]
    fn an_operation_in_the_clear_or_from_another_log_is_not_believed_in_a_sealed_channel() {
        let (mut reader, name) = replica(2, &keys());
        let (mut author, _) = replica(1, &keys());
        let other = author.name(&LogName { path: "/notes/b".parse().unwrap(), ..log() });
        author.open(Date::EPOCH, &other);
        author.push(Date::EPOCH, &other, &json!("moved")).unwrap();
        let moved = ops_of(&author, &other)[0].draft().clone().finish(&name).unwrap();
        let plain = Draft {
            actor: ActorId::from_bytes([3; 16]),
            seq: Seq::FIRST,
            date: Date::saturating(5),
            deps: Vec::new(),
            payload: Payload::plain(&json!("forged")),
        };
        let ops = vec![moved, plain.finish(&name).unwrap()];
        reader.handle(Date::EPOCH, Event::Neighbour { log: name.clone(), ops });
        assert_eq!(value(&mut reader, &name), json!([]));
        assert_eq!(reader.unreadable(&name).len(), 2);
    }

    #[test]
    fn a_base_in_the_clear_is_not_believed_in_a_sealed_channel() {
        let (mut reader, name) = replica(2, &keys());
        let forged = Checkpoint {
            generation: Seq::FIRST,
            parent: None,
            covers: Covers::default(),
            absent: Vec::new(),
            digest: Digest::default(),
            reducer: log().kind,
            version: 1,
            state: Payload::plain(&json!(["forged"])),
            date: Date::EPOCH,
            author: ActorId::from_bytes([3; 16]),
        };
        let base = Base { sha: forged.sha(&name), record: forged.to_record(None).into(), certificate: "c".to_owned() };
        reader.log_mut(&name).found(&name, base);
        assert!(reader.trouble(&name).is_some());
        assert_eq!(reader.value(&name), None);
    }
}
