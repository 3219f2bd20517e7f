//! Rosters that are read bit by bit.

use super::*;

/// A person with a device and an actor of its own, all of the same number.
struct Person {
    name: &'static str,
    number: u8,
}

const OWNER: Person = Person { name: "me", number: 20 };
const ADMIN: Person = Person { name: "ann", number: 30 };
const GUEST: Person = Person { name: "bob", number: 40 };
const STRANGER: Person = Person { name: "eve", number: 50 };

impl Person {
    fn identity(&self) -> Identity {
        identity(self.number)
    }

    fn key(&self) -> DeviceKey {
        DeviceKey::from_secret(&secret(100 + self.number))
    }

    fn entries(&self) -> [RosterEntry; 2] {
        let device = DeviceId::from_bytes([self.number; 16]);
        let certificate = self.identity().certify_device(user(self.name), device, self.key().public(), Date::EPOCH);
        let actor = ActorId::from_bytes([self.number; 16]);
        let actor = self.key().certify_actor(&user(self.name), device, actor, Date::EPOCH);
        [RosterEntry::Device(certificate.to_bytes()), RosterEntry::Actor(actor.to_bytes())]
    }

    fn says(&self, of: &Self, role: Option<Role>, since: u64) -> RosterEntry {
        let (identity, member) = (self.identity(), of.identity());
        let word = identity.grant_membership(
            (&user(OWNER.name), &channel("home")),
            (user(of.name), *member.public()),
            role,
            Date::saturating(since),
        );
        RosterEntry::Member(word.to_bytes())
    }

    fn wrote(&self, date: u64) -> crate::Op {
        let actor = ActorId::from_bytes([self.number; 16]);
        let payload = Payload::plain(&json!("hello"));
        let draft = Draft { actor, seq: Seq::FIRST, date: Date::saturating(date), deps: vec![], payload };
        let op = draft.finish(&log()).unwrap();
        let signature = self.key().sign_op(op.sha());
        op.signed(Some(signature))
    }
}

fn empty() -> Roster {
    Roster::new((&user(OWNER.name), OWNER.identity().public()), &channel("home"), [])
}

/// Everything that a roster says, which has it look at all that it holds.
fn verdicts(roster: &Roster) -> Vec<String> {
    let people = [OWNER, ADMIN, GUEST, STRANGER];
    let ops = people.iter().flat_map(|person| [person.wrote(5), person.wrote(50)]);
    let checked = ops.map(|op| format!("{:?}", roster.check_op(&op)));
    checked.chain(roster.members().map(|member| format!("{member:?}"))).collect()
}

fn entries() -> Vec<RosterEntry> {
    let words = [
        OWNER.says(&ADMIN, Some(Role::Admin), 1),
        ADMIN.says(&GUEST, Some(Role::Write), 2),
        OWNER.says(&STRANGER, Some(Role::Write), 3),
        OWNER.says(&STRANGER, None, 20),
        STRANGER.says(&GUEST, None, 4),
    ];
    words.into_iter().chain([OWNER, ADMIN, GUEST, STRANGER].iter().flat_map(Person::entries)).collect()
}

#[test]
fn a_roster_tells_who_might_write_when() {
    let mut roster = empty();
    roster.extend(entries());
    let may = |person: &Person, date| roster.check_op(&person.wrote(date)).is_ok();
    assert!([OWNER, ADMIN, GUEST].iter().all(|person| may(person, 5) && may(person, 50)));
    assert!(may(&STRANGER, 5) && !may(&STRANGER, 50));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_roster_read_bit_by_bit_says_what_one_says_that_is_read_at_once(
        entries in Just(entries()).prop_shuffle(),
        bits in 1_usize..6,
    ) {
        let at_once = Roster::new((&user(OWNER.name), OWNER.identity().public()), &channel("home"), entries.clone());
        let mut roster = empty();
        for some in entries.chunks(bits) {
            roster.extend(some.iter().cloned());
            verdicts(&roster);
        }
        prop_assert_eq!(verdicts(&roster), verdicts(&at_once));
    }
}
