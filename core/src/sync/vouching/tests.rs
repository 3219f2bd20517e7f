//! What is believed in a sealed channel, and what is kept apart.

use super::super::*;
use crate::api::{BaseHeader, LogHeader, PushResult};
use crate::checkpoint::{Base, Checkpoint};
use crate::fold::{Function, Logged};
use crate::id::{ActorId, DeviceId, Digest, Incarnation, Seq, Sha};
use crate::op::{Draft, Op, Payload};
use crate::seal::{BlindLog, ChannelKeys, DeviceKey, Identity, OwnDevice, Role, RosterEntry, Secret};
use crate::wire::{ClientMessage, Event as Told, LogRef, WireOp};
use serde_json::{Value, json};

const STORE: StoreId = StoreId::from_bytes([9; 16]);

fn secret(byte: u8) -> Secret {
    Secret::from_bytes([byte; 32])
}

fn user(name: &str) -> UserName {
    UserName::parse(name).unwrap()
}

fn identity(of: &str) -> Identity {
    let byte = of.bytes().fold(0, u8::wrapping_add);
    Identity::from_secrets(&secret(byte), secret(byte + 1))
}

fn log() -> LogName {
    LogName::parse("me", "home", "raw", "/a").unwrap()
}

fn keys() -> Arc<ChannelKeys> {
    Arc::new(ChannelKeys::new(secret(1), secret(2)))
}

fn name() -> LogName {
    keys().names().blind(&log()).into_log()
}

fn link() -> LinkId {
    LinkId { channel: log().channel, store: STORE }
}

/// A client of one of the users, without a disk, whose stream to the one store is open.
struct Client {
    replica: Replica,
    sent: Vec<(LogName, Vec<WireOp>)>,
    /// What the store's base covers.
    covered: BTreeSet<Sha>,
    index: std::collections::BTreeMap<LogName, u64>,
}

impl Client {
    fn new(of: &str, number: u8) -> Self {
        let actor = ActorId::from_bytes([number; 16]);
        let config = Config { user: user("me"), actor, durable: false, seed: 1, prune: PrunePolicy::OnDemand };
        let mut replica = Replica::new(config);
        let all = |ops: &[Logged]| Value::Array(ops.iter().map(|op| op.payload.clone()).collect());
        replica.register(log().kind, Arc::new(Function::new(all)));
        let (id, key) = (DeviceId::from_bytes([number; 16]), DeviceKey::from_secret(&secret(100 + number)));
        let device = Arc::new(OwnDevice::new(&identity(of), user(of), id, key, Date::EPOCH));
        replica.set_access(&log().channel, ChannelAccess { keys: keys(), owner: *identity("me").public(), device });
        assert_eq!(replica.name(&log()), name());
        replica.open(Date::EPOCH, &name());
        let stores = BTreeSet::from([STORE]);
        replica.handle(Date::EPOCH, Event::Mounted { channel: log().channel, stores, epoch: 1 });
        let welcome = Welcome {
            store: STORE,
            incarnation: Incarnation::from_bytes([1; 16]),
            position: 0,
            now: Date::EPOCH,
            run: None,
        };
        replica.handle(Date::EPOCH, Event::Connected { link: link(), welcome });
        let (sent, covered) = (Vec::new(), BTreeSet::new());
        let mut client = Self { replica, sent, covered, index: std::collections::BTreeMap::new() };
        client.run();
        client
    }

    /// Answers as an honest store does that has nothing but what its base covers.
    fn run(&mut self) {
        while let Some(output) = self.replica.poll() {
            let Output::Send { message, .. } = output else { continue };
            let reply = match message {
                ClientMessage::Push { tag, log, ops, .. } => {
                    let results = ops.iter().map(|op| match self.covered.contains(&op.sha) {
                        true => PushResult::Covered { sha: op.sha },
                        false => PushResult::Accepted { sha: op.sha },
                    });
                    let reply = ServerMessage::Pushed { tag, results: results.collect() };
                    self.sent.push((log.log(&user("me"), &link().channel), ops));
                    reply
                }
                ClientMessage::Get { tag, .. } => {
                    ServerMessage::Ops { tag, base: None, ops: Vec::new(), header: Default::default(), more: false }
                }
                _ => continue,
            };
            self.replica.handle(Date::EPOCH, Event::Received { link: link(), message: reply });
        }
    }

    fn push(&mut self, value: &Value) {
        self.replica.push(Date::saturating(10), &name(), value).unwrap();
        self.run();
    }

    /// Is told by the store of operations.
    fn hear(&mut self, log: &LogName, ops: &[WireOp]) {
        let index = self.index.entry(log.clone()).or_default();
        let ops: Vec<(u64, WireOp)> = ops.iter().zip(*index + 1..).map(|(op, at)| (at, op.clone())).collect();
        *index += ops.len() as u64;
        let told = Told { position: *index, log: LogRef::from(log), ops };
        self.replica
            .handle(Date::saturating(20), Event::Received { link: link(), message: ServerMessage::Event(told) });
        self.run();
    }

    /// Is told of all that another client has sent.
    fn hear_all(&mut self, of: &Self) {
        of.sent.iter().for_each(|(log, ops)| self.hear(log, ops));
    }

    fn value(&mut self) -> Value {
        (*self.replica.value(&name()).unwrap()).clone()
    }

    fn unproven(&self) -> Vec<String> {
        self.replica.unproven(&name()).map(|(_, why)| why).collect()
    }
}

/// Takes the signature off an operation.
fn unsigned(op: &WireOp) -> WireOp {
    WireOp::from(&op.open(&name()).unwrap().signed(None))
}

fn logged(client: &Client, log: &LogName) -> Vec<WireOp> {
    client.sent.iter().filter(|(of, _)| of == log).flat_map(|(_, ops)| ops.clone()).collect()
}

/// Seals an operation with the channel's keys, which every reader has, and has a device sign it, if one does.
fn sealed_by(actor: u8, seq: Seq, value: &Value, signer: Option<&DeviceKey>) -> WireOp {
    let actor = ActorId::from_bytes([actor; 16]);
    let draft = Draft { actor, seq, date: Date::saturating(15), deps: Vec::new(), payload: Payload::plain(value) };
    let payload = keys().seal_payload(&BlindLog::parse(name()).unwrap(), &draft).unwrap();
    let op = Draft { payload, ..draft }.finish(&name()).unwrap();
    let signature = signer.map(|key| key.sign_op(op.sha()));
    WireOp::from(&op.signed(signature))
}

#[test]
fn what_a_device_of_the_owner_signed_is_believed_once_the_roster_tells_of_the_device() {
    let (mut author, mut reader) = (Client::new("me", 1), Client::new("me", 2));
    author.push(&json!(1));
    let roster = author.sent.iter().find(|(log, _)| *log != name()).unwrap().clone();
    reader.hear(&name(), &logged(&author, &name()));
    assert_eq!((reader.value(), reader.unproven().len()), (json!([]), 1));
    assert!(reader.unproven()[0].contains("on whose device"));
    reader.hear(&roster.0, &roster.1);
    assert_eq!((reader.value(), reader.unproven().len()), (json!([1]), 0));
}

#[test]
fn a_device_says_once_more_who_it_is_where_the_roster_has_lost_it() {
    let (mut before, mut after) = (Client::new("me", 1), Client::new("me", 1));
    before.push(&json!(1));
    after.hear(&name(), &logged(&before, &name()));
    assert_eq!((after.value(), after.unproven().len()), (json!([1]), 0));
    let (mut reader, roster) = (Client::new("me", 2), roster(&after));
    reader.hear(&name(), &logged(&before, &name()));
    reader.hear(&roster, &logged(&after, &roster));
    assert_eq!(reader.value(), json!([1]));
}

#[test]
fn the_signature_of_the_last_operation_vouches_for_those_before_it_and_for_no_other() {
    let (mut author, mut reader) = (Client::new("me", 1), Client::new("me", 2));
    (1..=5).for_each(|value| author.push(&json!(value)));
    author.sent.iter().filter(|(log, _)| *log != name()).for_each(|(log, ops)| reader.hear(log, ops));
    let ops = logged(&author, &name());
    let (last, before) = ops.split_last().unwrap();
    let before: Vec<WireOp> = before.iter().map(unsigned).collect();
    let forged = sealed_by(1, Seq::FIRST, &json!("forged"), None);
    reader.hear(&name(), &before);
    reader.hear(&name(), &[forged]);
    assert_eq!((reader.value(), reader.unproven().len()), (json!([]), 5));
    reader.hear(&name(), std::slice::from_ref(last));
    assert_eq!((reader.value(), reader.unproven().len()), (json!([1, 2, 3, 4, 5]), 1));
    assert!(reader.unproven()[0].contains("is not signed"));
}

#[test]
fn an_operation_that_comes_after_the_one_that_names_it_is_believed_without_a_signature_of_its_own() {
    let (mut author, mut reader) = (Client::new("me", 1), Client::new("me", 2));
    (1..=2).for_each(|value| author.push(&json!(value)));
    author.sent.iter().filter(|(log, _)| *log != name()).for_each(|(log, ops)| reader.hear(log, ops));
    let ops = logged(&author, &name());
    reader.hear(&name(), &ops[1..]);
    reader.hear(&name(), &[unsigned(&ops[0])]);
    assert_eq!((reader.value(), reader.unproven().len()), (json!([1, 2]), 0));
}

#[test]
fn whoever_has_the_keys_and_is_no_member_is_not_believed_and_what_is_pushed_meanwhile_does_not_vouch_for_it() {
    let (mut author, mut guest, mut reader) = (Client::new("me", 1), Client::new("eve", 3), Client::new("me", 2));
    author.push(&json!(1));
    guest.push(&json!("by eve"));
    let stolen = sealed_by(1, Seq::FIRST.next(), &json!("as me"), Some(&DeviceKey::from_secret(&secret(103))));
    for other in [&mut author, &mut reader] {
        other.hear_all(&guest);
        other.hear(&name(), std::slice::from_ref(&stolen));
    }
    author.push(&json!(2));
    reader.hear_all(&author);
    for client in [&mut author, &mut reader] {
        assert_eq!((client.value(), client.unproven().len()), (json!([1, 2]), 2));
    }
}

#[test]
fn a_member_is_believed_as_long_as_the_owner_says_that_it_may_write() {
    let (mut owner, mut guest) = (Client::new("me", 1), Client::new("bob", 3));
    let member = |role, since| {
        let of = (&user("me"), &link().channel);
        let bob = (user("bob"), *identity("bob").public());
        let word = identity("me").grant_membership(of, bob, role, Date::saturating(since));
        [RosterEntry::Member(word.to_bytes())]
    };
    guest.push(&json!("before"));
    owner.hear_all(&guest);
    assert_eq!(owner.value(), json!([]));
    owner.replica.enroll(Date::EPOCH, &link().channel, &member(Some(Role::Read), 1)).unwrap();
    owner.run();
    assert_eq!(owner.value(), json!([]));
    assert!(owner.unproven()[0].contains("bob, who may not write"));
    owner.replica.enroll(Date::EPOCH, &link().channel, &member(Some(Role::Write), 2)).unwrap();
    owner.run();
    assert_eq!(owner.value(), json!(["before"]));
    owner.replica.enroll(Date::EPOCH, &link().channel, &member(None, 10)).unwrap();
    owner.run();
    let late = guest.sent.len();
    guest.replica.push(Date::saturating(11), &name(), &json!("after")).unwrap();
    guest.run();
    guest.sent[late..].iter().for_each(|(log, ops)| owner.hear(log, ops));
    assert_eq!((owner.value(), owner.unproven().len()), (json!(["before"]), 1));
}

/// Has a client say in the roster what somebody else's identity says of a user.
fn say(client: &mut Client, granter: &str, of: &str, role: Option<Role>, since: u64) {
    let of = (user(of), *identity(of).public());
    let word = identity(granter).grant_membership((&user("me"), &link().channel), of, role, Date::saturating(since));
    client.replica.enroll(Date::EPOCH, &link().channel, &[RosterEntry::Member(word.to_bytes())]).unwrap();
    client.run();
}

fn roster(client: &Client) -> LogName {
    client.replica.sealed[&link().channel].roster_log.clone()
}

/// Tells who may do what, by name.
fn members(client: &Client) -> Vec<(String, Option<Role>)> {
    let roster = client.replica.roster(&link().channel).unwrap();
    roster.members().map(|member| (member.user.to_string(), member.role)).collect()
}

#[test]
fn what_an_admin_says_counts_as_long_as_it_is_one() {
    let (mut owner, mut guest) = (Client::new("me", 1), Client::new("bob", 3));
    say(&mut owner, "ann", "bob", Some(Role::Write), 5);
    guest.push(&json!("early"));
    owner.hear_all(&guest);
    assert_eq!(owner.value(), json!([]), "ann is nobody yet");
    say(&mut owner, "me", "ann", Some(Role::Admin), 4);
    assert_eq!(owner.value(), json!(["early"]));
    say(&mut owner, "ann", "bob", Some(Role::Admin), 6);
    say(&mut owner, "ann", "me", None, 6);
    assert!(members(&owner).contains(&("bob".to_owned(), Some(Role::Write))), "admins make no admins");
    say(&mut owner, "me", "ann", Some(Role::Write), 11);
    say(&mut owner, "ann", "eve", Some(Role::Write), 5);
    let at = guest.sent.len();
    guest.replica.push(Date::saturating(12), &name(), &json!("late")).unwrap();
    guest.run();
    guest.sent[at..].iter().for_each(|(log, ops)| owner.hear(log, ops));
    assert_eq!((owner.value(), owner.unproven().len()), (json!(["early"]), 1));
    assert!(members(&owner).contains(&("eve".to_owned(), None)), "dated back, it counts for that time only");
    say(&mut owner, "me", "bob", Some(Role::Write), 11);
    assert_eq!(owner.value(), json!(["early", "late"]), "the owner's own word stays");
}

#[test]
fn nobody_takes_an_entry_out_of_a_roster() {
    let mut owner = Client::new("me", 1);
    say(&mut owner, "me", "bob", Some(Role::Write), 1);
    say(&mut owner, "me", "ann", None, 2);
    let (before, log) = (members(&owner), roster(&owner));
    assert!(matches!(owner.replica.prune(Date::EPOCH, &log), Err(PruneHold::NoState { .. })));

    let ops: Vec<Op> = owner.replica.oplog(&log).unwrap().iter().cloned().collect();
    let shas: Vec<Sha> = ops.iter().map(Op::sha).collect();
    let digest = crate::commit::with_all(Digest::default(), &shas);
    let seen = crate::removal::Seen { all: digest, ..Default::default() };
    let (actor, seq) = (ActorId::from_bytes([7; 16]), Seq::FIRST);
    let payload = Payload::plain(&crate::removal::payload(&seen));
    let draft = Draft { actor, seq, date: Date::saturating(15), deps: shas, payload };
    let payload = keys().seal_payload(&BlindLog::parse(log.clone()).unwrap(), &draft).unwrap();
    let removal = Draft { payload, ..draft }.finish(&log).unwrap();
    let mut reader = Client::new("me", 4);
    reader.hear_all(&owner);
    for client in [&mut owner, &mut reader] {
        client.hear(&log, &[WireOp::from(&removal)]);
        assert_eq!(members(client), before);
    }
    assert_eq!(logged(&reader, &log), [], "a removal means nothing there");

    let cut = Checkpoint {
        generation: Seq::FIRST,
        parent: None,
        covers: crate::covers::Covers::default().with(&ops),
        absent: Vec::new(),
        digest,
        reducer: keys().names().blind_type(&crate::seal::roster_type()),
        version: 1,
        state: Payload::plain(&json!([])),
        date: Date::EPOCH,
        author: actor,
    };
    let state = keys().seal_state(&BlindLog::parse(log.clone()).unwrap(), &cut).unwrap();
    let cut = Checkpoint { state, ..cut };
    let record = cut.to_record(None).into();
    let base = Base { sha: cut.sha(&log), record, certificate: "c".to_owned() };
    let met = log::Installed::new(&log, cut, base);
    owner.replica.install(&log, met, Origin::Store(STORE), false);
    owner.run();
    assert_eq!(members(&owner), before, "what a base left out is there");
    let mut other = Client::new("me", 2);
    let beside: Vec<WireOp> = owner.replica.oplog(&log).unwrap().iter().map(WireOp::from).collect();
    other.hear(&log, &beside);
    assert_eq!(members(&other), before, "and is written again, for whoever reads the base");
}

#[test]
fn a_membership_that_somebody_else_wrote_or_that_is_for_another_channel_counts_for_nothing() {
    let (mut owner, mut guest) = (Client::new("me", 1), Client::new("bob", 3));
    guest.push(&json!("words"));
    owner.hear_all(&guest);
    let bob = || (user("bob"), *identity("bob").public());
    let other = ChannelName::parse("other").unwrap();
    let role = Some(Role::Write);
    let words = [
        identity("bob").grant_membership((&user("me"), &link().channel), bob(), role, Date::EPOCH),
        identity("me").grant_membership((&user("me"), &other), bob(), role, Date::EPOCH),
        identity("me").grant_membership((&user("you"), &link().channel), bob(), role, Date::EPOCH),
    ];
    let entries = words.map(|word| RosterEntry::Member(word.to_bytes()));
    owner.replica.enroll(Date::EPOCH, &link().channel, &entries).unwrap();
    owner.run();
    assert_eq!(owner.value(), json!([]));
}

/// Makes a reader who knows the first device, and a base of an empty log that a device has signed, if one has.
fn met_base(signer: Option<&DeviceKey>) -> (Client, log::Installed) {
    let (mut author, mut reader) = (Client::new("me", 1), Client::new("me", 2));
    author.push(&json!("other"));
    author.sent.iter().filter(|(log, _)| *log != name()).for_each(|(log, ops)| reader.hear(log, ops));
    let checkpoint = sealed_base(&[]);
    let sha = checkpoint.sha(&name());
    let record = checkpoint.to_record(signer.map(|key| key.sign_checkpoint(sha)).as_ref()).into();
    (reader, log::Installed::new(&name(), checkpoint, Base { sha, record, certificate: "c".to_owned() }))
}

#[test]
fn a_base_is_read_only_if_a_device_of_somebody_who_may_write_signed_it() {
    let signed_by = |key: Option<&DeviceKey>| {
        let (mut reader, met) = met_base(key);
        reader.replica.log_mut(&name()).found(&name(), met.base);
        reader.replica.trouble(&name()).unwrap_or_default().to_owned()
    };
    assert!(signed_by(None).contains("is not signed"));
    assert!(signed_by(Some(&DeviceKey::from_secret(&secret(103)))).contains("is not signed by the device"));
    let own = signed_by(Some(&DeviceKey::from_secret(&secret(101))));
    assert!(!own.contains("signed"), "{own}");
}

#[test]
fn a_base_that_nobody_vouches_for_is_not_copied_under_this_devices_signature() {
    let copied = |key: Option<&DeviceKey>| {
        let (mut reader, met) = met_base(key);
        reader.replica.keep_conflict(&name(), &met);
        let outputs = std::iter::from_fn(|| reader.replica.poll());
        let mut copies = outputs.filter_map(|output| match output {
            Output::Notify(Notice::Conflict { copy, .. }) => Some(copy),
            _ => None,
        });
        copies.next().expect("it is told").is_some()
    };
    assert!(!copied(None));
    assert!(!copied(Some(&DeviceKey::from_secret(&secret(103)))));
    assert!(copied(Some(&DeviceKey::from_secret(&secret(101)))));
}

/// Makes a checkpoint of operations, written by the first actor.
fn sealed_base(ops: &[Op]) -> Checkpoint {
    let shas: Vec<Sha> = ops.iter().map(Op::sha).collect();
    let plain = Checkpoint {
        generation: Seq::FIRST,
        parent: None,
        covers: crate::covers::Covers::default().with(ops),
        absent: Vec::new(),
        digest: crate::commit::with_all(Digest::default(), &shas),
        reducer: keys().names().blind_type(&TypeName::parse("function").unwrap()),
        version: 1,
        state: Payload::plain(&json!([])),
        date: Date::EPOCH,
        author: ActorId::from_bytes([1; 16]),
    };
    let state = keys().seal_state(&BlindLog::parse(name()).unwrap(), &plain).unwrap();
    Checkpoint { state, ..plain }
}

#[test]
fn what_waited_for_a_signature_is_not_late_because_the_store_that_brings_it_can_tell() {
    let (mut author, mut reader) = (Client::new("me", 1), Client::new("me", 2));
    (1..=4).for_each(|value| author.push(&json!(value)));
    author.sent.iter().filter(|(log, _)| *log != name()).for_each(|(log, ops)| reader.hear(log, ops));
    let ops: Vec<Op> = author.replica.oplog(&name()).unwrap().iter().cloned().collect();
    let (last, before) = ops.split_last().unwrap();
    let base = sealed_base(before);
    let (id, digest) = (base.id(&name()), base.digest);
    let record = base.to_record(None).into();
    let met = log::Installed::new(&name(), base, Base { sha: id.sha, record, certificate: "c".to_owned() });
    reader.replica.install(&name(), met, Origin::Store(STORE), false);
    reader.run();

    // The store does not know of the base yet when it tells of these.
    before.iter().for_each(|op| reader.hear(&name(), &[unsigned(&WireOp::from(op))]));
    assert_eq!(reader.unproven().len(), 3);
    reader.covered = before.iter().map(Op::sha).collect();
    let base = BaseHeader { id, covered: digest, complete: true, disputed: false, bytes: 0, retained_bytes: 0 };
    let header = LogHeader { base: Some(base), ..LogHeader::default() };
    let message = ServerMessage::Pruned { log: LogRef::from(&name()), header };
    reader.replica.handle(Date::saturating(20), Event::Received { link: link(), message });
    reader.run();
    reader.hear(&name(), &[WireOp::from(last)]);
    let late: Vec<Sha> = reader.replica.oplog(&name()).unwrap().iter().map(Op::sha).collect();
    assert_eq!((late, reader.unproven().len()), (vec![last.sha()], 0));
    let asked: BTreeSet<Sha> = logged(&reader, &name()).iter().map(|op| op.sha).collect();
    assert_eq!(asked, before[..2].iter().map(Op::sha).collect(), "the heads tell of the third");
    assert!(reader.replica.log_mut(&name()).doubtful.is_empty());
}

#[test]
fn what_a_store_took_a_part_of_is_signed_alone_and_sent_again() {
    let mut author = Client::new("me", 1);
    author.push(&json!(1));
    let key = author.replica.oplog(&name()).unwrap().iter().next().unwrap().key();
    author.replica.log_mut(&name()).peers.get_mut(&STORE).unwrap().backlog.offer(key, Date::EPOCH, Date::EPOCH);
    author.sent.clear();
    author.replica.refused(&link(), &name(), vec![(key, crate::admit::refuse_unsigned())]);
    author.replica.handle(Date::saturating(30), Event::Tick);
    author.run();
    let again = logged(&author, &name());
    assert!(again[0].open(&name()).unwrap().signature().is_some());
}

#[test]
fn what_was_written_before_its_channel_was_sealed_does_not_leave_the_device() {
    let mut client = Client::new("me", 1);
    let actor = ActorId::from_bytes([1; 16]);
    let payload = Payload::plain(&json!("in the clear"));
    let draft = Draft { actor, seq: Seq::FIRST, date: Date::saturating(5), deps: Vec::new(), payload };
    let op = draft.finish(&log()).unwrap();
    client.replica.open(Date::EPOCH, &log());
    client.run();
    let before = client.replica.log_mut(&log());
    before.insert(&op);
    before.pending.insert(op.key());
    client.replica.may_send(&log(), &[op.key()]);
    client.run();
    assert_eq!(logged(&client, &log()), []);
    assert_eq!(client.replica.queued(None), 0, "nobody waits for it");
    assert_eq!(client.replica.staying().collect::<Vec<_>>(), [(&log(), 1)]);
}
