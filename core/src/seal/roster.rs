//! The roster of a sealed channel, read: who may write in it, on which devices, and which actors write there.

use std::cmp::Reverse;
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
    owner: (UserName, PublicIdentity),
    channel: ChannelName,
    /// All that was said of members, whether or not it counts.
    said: Vec<Membership>,
    members: BTreeMap<Fingerprint, Member>,
    /// What the owner said last of each member.
    by_owner: BTreeMap<Fingerprint, Membership>,
    devices: BTreeMap<DeviceId, Vec<Entry<DeviceCertificate, TrustedDevice>>>,
    actors: BTreeMap<ActorId, Vec<Entry<ActorCertificate, TrustedActor>>>,
}

/// A member of a channel.
#[derive(Debug, Clone)]
struct Member {
    /// Who.
    user: UserName,
    /// The user's identity.
    identity: PublicIdentity,
    /// What was said of the member, ascending by date.
    words: Vec<Word>,
}

/// From when on a member has which role, and who says so: nobody but the owner, unless an admin is named.
#[derive(Debug, Clone)]
struct Word {
    since: Date,
    role: Option<Role>,
    admin: Option<Fingerprint>,
}

/// What a member may do now.
#[derive(Debug, Clone, Copy)]
pub struct MemberStanding<'a> {
    /// Who.
    pub user: &'a UserName,
    /// The user's identity.
    pub identity: &'a PublicIdentity,
    /// The role; nothing if it was taken away.
    pub role: Option<Role>,
    /// The date of what was said last.
    pub since: Date,
    /// Whether an admin said that, and not the owner.
    pub by_admin: bool,
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

    /// Has it checked again what it proves, if that was nothing: it may lean on what was not known then.
    fn forget_failure(&mut self) {
        if matches!(self.proof.get(), Some(None)) {
            self.proof = OnceLock::new();
        }
    }
}

impl Word {
    /// Orders what was said of a member: of the same date the owner's word counts, and the one that allows less.
    fn place(&self) -> (Date, bool, Reverse<Option<Role>>) {
        (self.since, self.admin.is_none(), Reverse(self.role))
    }
}

impl Member {
    /// Returns what counts at a date. What was said first counts before its date, too: clocks differ.
    fn word_at(&self, date: Date) -> Option<&Word> {
        self.words.iter().rev().find(|word| word.since <= date).or(self.words.first())
    }
}

impl Roster {
    /// Reads the entries of a channel's roster. Trusts what goes back to the owner's identity, and nothing else.
    pub fn new(
        (owner, identity): (&UserName, &PublicIdentity),
        channel: &ChannelName,
        entries: impl IntoIterator<Item = RosterEntry>,
    ) -> Self {
        let mut roster = Self {
            owner: (owner.clone(), *identity),
            channel: channel.clone(),
            said: Vec::new(),
            members: BTreeMap::new(),
            by_owner: BTreeMap::new(),
            devices: BTreeMap::new(),
            actors: BTreeMap::new(),
        };
        roster.read_members();
        roster.extend(entries);
        roster
    }

    /// Reads more entries. What was proved stays so, and is not checked again.
    pub fn extend(&mut self, entries: impl IntoIterator<Item = RosterEntry>) {
        let (mut members, mut devices) = (false, false);
        for entry in entries {
            members |= matches!(entry, RosterEntry::Member(_));
            devices |= matches!(entry, RosterEntry::Device(_));
            match entry {
                RosterEntry::Member(bytes) => self.said.extend(Membership::from_bytes(&bytes)),
                RosterEntry::Device(bytes) => self.add_device(&bytes),
                RosterEntry::Actor(bytes) => self.add_actor(&bytes),
            }
        }
        if members {
            self.read_members();
        }
        if members || devices {
            self.devices.values_mut().flatten().for_each(Entry::forget_failure);
            self.actors.values_mut().flatten().for_each(Entry::forget_failure);
        }
    }

    /// Takes in what the owner says of members, and what admins among them say of those who are no admins.
    fn read_members(&mut self) {
        let (owner, identity) = self.owner.clone();
        let own = identity.fingerprint();
        let always = Word { since: Date::EPOCH, role: Some(Role::Admin), admin: None };
        self.members = BTreeMap::from([(own, Member { user: owner.clone(), identity, words: vec![always] })]);
        self.by_owner.clear();
        let others = self.said.iter().filter(|membership| membership.identity.fingerprint() != own);
        let mut memberships: Vec<Membership> = others.cloned().collect();
        memberships.sort_by_key(|membership| (membership.since, Reverse(membership.role)));
        let (by_owner, by_others): (Vec<_>, Vec<_>) =
            memberships.into_iter().partition(|membership| membership.granter == own);
        for membership in by_owner {
            if membership.is_word_of(&identity, &owner, &self.channel) {
                self.add_word(&membership, None);
                self.by_owner.insert(membership.identity.fingerprint(), membership);
            }
        }
        let by_admins: Vec<&Membership> = by_others
            .iter()
            .filter(|membership| {
                let is_admin = |of: &Fingerprint| self.role_at(of, membership.since) == Some(Role::Admin);
                let admin = self.members.get(&membership.granter).filter(|_| is_admin(&membership.granter));
                let may = membership.role < Some(Role::Admin) && !is_admin(&membership.identity.fingerprint());
                admin.is_some_and(|admin| may && membership.is_word_of(&admin.identity, &owner, &self.channel))
            })
            .collect();
        by_admins.into_iter().for_each(|membership| self.add_word(membership, Some(membership.granter)));
        self.members.values_mut().for_each(|member| member.words.sort_unstable_by_key(Word::place));
    }

    fn add_word(&mut self, membership: &Membership, admin: Option<Fingerprint>) {
        let Membership { user, identity, role, since, .. } = membership;
        let fresh = || Member { user: user.clone(), identity: *identity, words: Vec::new() };
        let member = self.members.entry(identity.fingerprint()).or_insert_with(fresh);
        member.words.push(Word { since: *since, role: *role, admin });
    }

    /// Returns the role of a member at a date. What an admin said counts as long as it is one.
    fn role_at(&self, of: &Fingerprint, date: Date) -> Option<Role> {
        let word = self.members.get(of)?.word_at(date)?;
        let is_admin = |admin: Fingerprint| self.role_at(&admin, date.max(word.since)) == Some(Role::Admin);
        word.role.filter(|_| word.admin.is_none_or(is_admin))
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

    /// Returns what the owner said last of somebody, if that made an admin.
    pub fn admin_word(&self, identity: &PublicIdentity) -> Option<&Membership> {
        self.by_owner.get(&identity.fingerprint()).filter(|word| word.role == Some(Role::Admin))
    }

    /// Iterates over the members but the owner, former ones too, each with what was said last.
    pub fn members(&self) -> impl Iterator<Item = MemberStanding<'_>> {
        let own = self.owner.1.fingerprint();
        let members = self.members.iter().filter(move |(fingerprint, _)| **fingerprint != own);
        members.filter_map(|(fingerprint, Member { user, identity, words })| {
            let Word { since, admin, .. } = words.last()?;
            let role = self.role_at(fingerprint, Date::MAX);
            Some(MemberStanding { user, identity, role, since: *since, by_admin: admin.is_some() })
        })
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
        self.role_at(&trusted.identity(), date) >= Some(Role::Write)
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
