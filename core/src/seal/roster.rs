//! The roster of a sealed channel, read: who may write in it, on which devices, and which actors write there.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use super::actor::{ActorCertificate, SignatureError, TrustedActor};
use super::device::{DeviceCertificate, TrustedDevice};
use super::identity::{Fingerprint, PublicIdentity};
use super::membership::{Membership, Role};
use super::roster_log::RosterEntry;
use crate::checkpoint::Checkpoint;
use crate::date::Date;
use crate::id::{ActorId, DeviceId};
use crate::name::{ChannelName, LogName, UserName};
use crate::op::{Op, Signature};

/// Who may write in a channel, as far as its roster says. What an entry proves is checked when somebody asks.
#[derive(Debug, Clone)]
pub struct Roster {
    members: BTreeMap<Fingerprint, Member>,
    devices: BTreeMap<DeviceId, Vec<Entry<DeviceCertificate, TrustedDevice>>>,
    actors: BTreeMap<ActorId, Vec<Entry<ActorCertificate, TrustedActor>>>,
}

/// A member of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Member {
    /// Who.
    user: UserName,
    /// The user's identity.
    identity: PublicIdentity,
    /// The roles that were given, and taken away, with their dates, ascending.
    roles: Vec<(Date, Option<Role>)>,
}

/// Why something does not count as written by somebody who may write in the channel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unvouched {
    /// Nobody says on which device its author writes.
    #[error("nothing here tells yet on whose device its author {actor} writes; it is read once that is known")]
    UnknownActor {
        /// The author.
        actor: ActorId,
    },
    /// The signature is missing or wrong.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// The author's user may not write.
    #[error("it was written on a device of {user}, who may not write in this channel, or might not at that time")]
    NoRight {
        /// Whose device wrote it.
        user: UserName,
    },
}

/// A record, and what it proves, once somebody has asked.
#[derive(Debug, Clone)]
struct Entry<R, T> {
    record: R,
    proof: OnceLock<Option<T>>,
}

impl<R, T> Entry<R, T> {
    fn new(record: R) -> Self {
        Self { record, proof: OnceLock::new() }
    }

    fn proof(&self, prove: impl FnOnce(&R) -> Option<T>) -> Option<&T> {
        self.proof.get_or_init(|| prove(&self.record)).as_ref()
    }
}

impl Member {
    /// Returns the role at a date. What was given first counts before its date, too: clocks differ.
    fn role_at(&self, date: Date) -> Option<Role> {
        let begun = self.roles.iter().rev().find(|(since, _)| *since <= date);
        begun.or(self.roles.first()).and_then(|(_, role)| *role)
    }
}

impl Roster {
    /// Reads the entries of a channel's roster. Trusts what goes back to the owner's identity, and nothing else.
    pub fn new(
        (owner, identity): (&UserName, &PublicIdentity),
        channel: &ChannelName,
        entries: impl IntoIterator<Item = RosterEntry>,
    ) -> Self {
        let own = Member { user: owner.clone(), identity: *identity, roles: vec![(Date::EPOCH, Some(Role::Admin))] };
        let mut roster = Self {
            members: BTreeMap::from([(identity.fingerprint(), own)]),
            devices: BTreeMap::new(),
            actors: BTreeMap::new(),
        };
        let mut memberships = Vec::new();
        for entry in entries {
            match entry {
                RosterEntry::Member(bytes) => memberships.extend(Membership::from_bytes(&bytes)),
                RosterEntry::Device(bytes) => roster.add_device(&bytes),
                RosterEntry::Actor(bytes) => roster.add_actor(&bytes),
            }
        }
        roster.add_members((owner, identity), channel, memberships);
        roster
    }

    /// Takes in what the owner says of members, and what admins among them say of those who are no admins.
    fn add_members(
        &mut self,
        (owner, identity): (&UserName, &PublicIdentity),
        channel: &ChannelName,
        mut memberships: Vec<Membership>,
    ) {
        let own = identity.fingerprint();
        memberships.retain(|membership| membership.identity.fingerprint() != own);
        memberships.sort_by_key(|membership| (membership.since, membership.role));
        let (by_owner, by_others): (Vec<_>, Vec<_>) =
            memberships.into_iter().partition(|membership| membership.granter == own);
        for membership in by_owner.iter().filter(|membership| membership.is_word_of(identity, owner, channel)) {
            self.add_role(membership);
        }
        let admins: BTreeMap<Fingerprint, Member> =
            self.members.iter().map(|(fingerprint, member)| (*fingerprint, member.clone())).collect();
        for membership in &by_others {
            let Some(admin) = admins.get(&membership.granter) else { continue };
            let may = admin.role_at(membership.since) == Some(Role::Admin) && membership.role < Some(Role::Admin);
            let of = admins.get(&membership.identity.fingerprint()).and_then(|member| member.role_at(membership.since));
            if may && of < Some(Role::Admin) && membership.is_word_of(&admin.identity, owner, channel) {
                self.add_role(membership);
            }
        }
        self.members.values_mut().for_each(|member| member.roles.sort_unstable());
    }

    fn add_role(&mut self, membership: &Membership) {
        let Membership { user, identity, role, since, .. } = membership;
        let fresh = || Member { user: user.clone(), identity: *identity, roles: Vec::new() };
        let member = self.members.entry(identity.fingerprint()).or_insert_with(fresh);
        member.roles.push((*since, *role));
    }

    fn add_device(&mut self, bytes: &[u8]) {
        if let Ok(record) = DeviceCertificate::from_bytes(bytes) {
            self.devices.entry(record.device).or_default().push(Entry::new(record));
        }
    }

    fn add_actor(&mut self, bytes: &[u8]) {
        if let Ok(record) = ActorCertificate::from_bytes(bytes) {
            self.actors.entry(record.actor).or_default().push(Entry::new(record));
        }
    }

    /// Tells whether a device is known to say that an actor writes on it.
    pub(crate) fn is_certified(&self, actor: ActorId, key: &[u8; 32]) -> bool {
        self.trusted(actor).any(|trusted| trusted.key() == key)
    }

    /// Checks that an operation is signed by a device of somebody who might write when it says to have been written.
    ///
    /// # Errors
    /// [`Unvouched`] says what is missing.
    pub fn check_op(&self, op: &Op) -> Result<(), Unvouched> {
        self.check(op.actor(), op.date(), |trusted| trusted.verify_op(op))
    }

    /// Checks that a checkpoint of a log, by the name that stores know, is signed by a device of somebody who might write.
    ///
    /// # Errors
    /// [`Unvouched`] says what is missing.
    pub fn check_checkpoint(
        &self,
        log: &LogName,
        checkpoint: &Checkpoint,
        signature: Option<&Signature>,
    ) -> Result<(), Unvouched> {
        let verify = |trusted: &TrustedActor| trusted.verify_checkpoint(log, checkpoint, signature);
        self.check(checkpoint.author, checkpoint.date, verify)
    }

    fn check(
        &self,
        actor: ActorId,
        date: Date,
        verify: impl Fn(&TrustedActor) -> Result<(), SignatureError>,
    ) -> Result<(), Unvouched> {
        let mut found = Err(Unvouched::UnknownActor { actor });
        for trusted in self.trusted(actor) {
            match verify(trusted) {
                Ok(()) if self.may_write(trusted, date) => return Ok(()),
                Ok(()) => found = Err(Unvouched::NoRight { user: trusted.user().clone() }),
                Err(error) if !matches!(found, Err(Unvouched::NoRight { .. })) => found = Err(error.into()),
                Err(_) => {}
            }
        }
        found
    }

    fn may_write(&self, trusted: &TrustedActor, date: Date) -> bool {
        let member = self.members.get(&trusted.identity());
        member.and_then(|member| member.role_at(date)) >= Some(Role::Write)
    }

    /// Iterates over the devices that prove that an actor writes on them.
    fn trusted(&self, actor: ActorId) -> impl Iterator<Item = &TrustedActor> {
        let entries = self.actors.get(&actor).into_iter().flatten();
        entries.filter_map(|entry| entry.proof(|record| self.trust(record)))
    }

    fn trust(&self, actor: &ActorCertificate) -> Option<TrustedActor> {
        let devices = self.devices.get(&actor.device).into_iter().flatten();
        let mut devices = devices.filter_map(|entry| entry.proof(|record| self.trust_device(record)));
        devices.find_map(|device| device.trust(actor).ok())
    }

    fn trust_device(&self, device: &DeviceCertificate) -> Option<TrustedDevice> {
        let mut members = self.members.values().filter(|member| member.user == device.user);
        members.find_map(|member| device.verify(&member.user, &member.identity).ok())
    }
}
