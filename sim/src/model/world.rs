//! The world of the model as plain data, and what can be read off it.

use super::rule::Rule;
use super::set::Set;

pub(super) const OPS: usize = 4;
/// The null that every log begins as, three checkpoints, and one that is tried when a world has healed.
pub(super) const CHECKPOINTS: usize = 5;
pub(super) const CLIENTS: usize = 2;
pub(super) const STORES: usize = 2;
pub(super) const EPOCHS: usize = 4;
/// The null that a log begins as: generation 0, covering nothing.
pub(super) const NULL: usize = 0;

/// An operation. Its number is its sha.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(super) struct Op {
    pub(super) actor: u8,
    pub(super) seq: u8,
    /// The heads that its author saw.
    pub(super) deps: Set,
    /// All that its author saw, itself not included.
    pub(super) past: Set,
}

/// How often each operation was folded into a state, up to three times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(super) struct Counts(u8);

impl Counts {
    pub(super) fn of(self, op: usize) -> u8 {
        self.0 >> (2 * op) & 3
    }

    pub(super) fn and(mut self, ops: Set) -> Self {
        for op in ops.iter().filter(|op| self.of(*op) < 3).collect::<Vec<_>>() {
            self.0 += 1 << (2 * op);
        }
        self
    }

    pub(super) fn any_twice(self) -> Option<usize> {
        (0..OPS).find(|op| self.of(*op) > 1)
    }
}

/// A checkpoint. Its number is its sha.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(super) struct Checkpoint {
    pub(super) generation: u8,
    pub(super) parent: u8,
    /// Who proposed it.
    pub(super) by: u8,
    /// The exact set; only its size, its digest and its heads travel with it.
    pub(super) covered: Set,
    /// Each actor's last covered operations, which travel with it.
    pub(super) heads: Set,
    pub(super) state: Counts,
    /// Under the rule of GiG.fs, all operations that are older than it.
    pub(super) older: Set,
    /// The table's term when it was committed last.
    pub(super) term: u8,
    /// Per store, the epochs in which it acknowledged it.
    pub(super) acks: [Set; STORES],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(super) struct Client {
    pub(super) base: u8,
    /// The shas that it knows to be covered by its base. The base's digest says whether they are all.
    pub(super) list: Set,
    /// The operations that it holds.
    pub(super) live: Set,
    /// Those of them that a store has said are not covered by its base.
    pub(super) clear: Set,
    /// The checkpoints that it holds and has not installed.
    pub(super) offers: Set,
    /// Those of them that the table has told it are committed.
    pub(super) certified: Set,
    /// The mount table that it knows.
    pub(super) epoch: u8,
    pub(super) actor: u8,
    /// How many operations it knows that its actor has written.
    pub(super) seq: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(super) struct Store {
    pub(super) base: u8,
    /// The shas that it knows to be covered by its base. The base's digest says whether they are all.
    pub(super) list: Set,
    pub(super) live: Set,
    /// Those of them that a client has vouched for: it was told that its base, which is the store's, does not cover them.
    pub(super) clear: Set,
    /// The checkpoints that it holds and has not installed.
    pub(super) offers: Set,
    /// The table's last term in which it acknowledged anything: it installs nothing that was committed in an earlier one.
    pub(super) term: u8,
    /// It has been told to leave.
    pub(super) leaving: bool,
    /// It has been drained since.
    pub(super) drained: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(super) struct Table {
    pub(super) register: u8,
    /// How often it was restored. An epoch is of one term.
    pub(super) term: u8,
    /// It was restored, and has committed nothing since.
    pub(super) recovers: bool,
    pub(super) epoch: u8,
    /// The stores of each epoch so far.
    pub(super) stores: [Set; EPOCHS],
}

/// Everything there is. The network has no memory of its own: a message that is late is a step that is taken late, since
/// whoever sends anything keeps it, and acknowledgements count for ever once they are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(super) struct World {
    pub(super) ops: [Op; OPS],
    pub(super) written: u8,
    pub(super) checkpoints: [Checkpoint; CHECKPOINTS],
    pub(super) proposed: u8,
    pub(super) committed: Set,
    pub(super) clients: [Client; CLIENTS],
    pub(super) stores: [Store; STORES],
    pub(super) table: Table,
    /// How far each of the configuration's plans has come.
    pub(super) at: [u8; 2],
    pub(super) saved_client: Client,
    pub(super) saved_store: Store,
    pub(super) saved_register: u8,
    /// What each client, then each store, ought to hold, as an operation or under its base. See the module's comment.
    pub(super) ought: [Set; CLIENTS + STORES],
    /// Which of them ought to be able to say what the newest committed checkpoint covers.
    pub(super) bound: Set,
}

impl World {
    pub(super) fn begin(stores: Set) -> Self {
        let mut world = Self { proposed: 1, committed: Set::of(NULL), ..Self::default() };
        world.table.stores[0] = stores;
        world.bound = Set::below(CLIENTS + STORES);
        for client in 0..CLIENTS {
            world.clients[client].actor = client as u8;
        }
        world
    }

    pub(super) fn members(&self) -> Set {
        self.table.stores[usize::from(self.table.epoch)]
    }

    /// The stores that a client believes the channel has.
    pub(super) fn known_stores(&self, client: usize) -> Set {
        self.table.stores[usize::from(self.clients[client].epoch)]
    }

    pub(super) fn all_checkpoints(&self) -> std::ops::Range<usize> {
        1..usize::from(self.proposed)
    }

    pub(super) fn checkpoint(&self, checkpoint: u8) -> &Checkpoint {
        &self.checkpoints[usize::from(checkpoint)]
    }

    pub(super) fn covered(&self, checkpoint: u8) -> Set {
        self.checkpoint(checkpoint).covered
    }

    /// The operations whose (actor, seq) is not above all that the checkpoint covers of that actor. All that it covers is
    /// among them; others are only where one (actor, seq) was used twice, or where an author forgot what it had written.
    pub(super) fn within_reach(&self, checkpoint: u8) -> Set {
        let heads = self.checkpoint(checkpoint).heads;
        let reaches = |op: &usize| {
            let op = self.ops[*op];
            heads.iter().any(|head| self.ops[head].actor == op.actor && self.ops[head].seq >= op.seq)
        };
        (0..usize::from(self.written)).filter(reaches).collect()
    }

    /// The operations that somebody who has this base and these operations knows to be covered.
    pub(super) fn provably_covered(&self, rule: &Rule, base: u8, held: Set) -> Set {
        if rule.by_date {
            return self.checkpoint(base).older;
        }
        if !rule.by_sha {
            return self.within_reach(base);
        }
        let mut proven = self.checkpoint(base).heads;
        loop {
            let more = (proven & held).iter().fold(proven, |proven, op| proven | self.ops[op].deps);
            if more == proven {
                return proven;
            }
            proven = more;
        }
    }

    /// The operations that a client holds and neither folds nor drops.
    pub(super) fn doubtful(&self, rule: &Rule, client: usize) -> Set {
        let client = &self.clients[client];
        match rule.doubt && !rule.by_date && !(rule.client_list && self.has_list_of(client.base, client.list)) {
            true => (client.live & self.within_reach(client.base)) - client.clear,
            false => Set::NONE,
        }
    }

    pub(super) fn folded(&self, rule: &Rule, client: usize) -> Set {
        self.clients[client].live - self.doubtful(rule, client)
    }

    /// What a client shows.
    pub(super) fn value(&self, rule: &Rule, client: usize) -> Counts {
        self.checkpoint(self.clients[client].base).state.and(self.folded(rule, client))
    }

    /// Whether a store knows the sha of everything that its base covers.
    pub(super) fn has_list(&self, rule: &Rule, store: usize) -> bool {
        let store = &self.stores[store];
        !rule.list || !rule.by_sha || rule.by_date || self.has_list_of(store.base, store.list)
    }

    fn has_list_of(&self, base: u8, list: Set) -> bool {
        list == self.covered(base)
    }

    /// The clients, then the stores, that can say what a checkpoint covers, or could once they install it.
    pub(super) fn knowing(&self, checkpoint: u8) -> Set {
        let new = self.checkpoint(checkpoint);
        let knows = |base: u8, list: Set, live: Set, offers: Set| {
            let can_install = offers.has(checkpoint.into()) && base == new.parent;
            self.has_list_of(base, list) && (base == checkpoint || can_install && (new.covered - list).is_within(live))
        };
        let clients = self.clients.iter().map(|state| knows(state.base, state.list, state.live, state.offers));
        let stores = self.stores.iter().map(|state| knows(state.base, state.list, state.live, state.offers));
        let all: Vec<bool> = clients.chain(stores).collect();
        let surviving = |at: &usize| at.checked_sub(CLIENTS).is_none_or(|store| self.members().has(store));
        (0..all.len()).filter(|at| all[*at]).filter(surviving).collect()
    }

    /// Whether anybody is left who ought to be able to say what the newest committed checkpoint covers.
    pub(super) fn is_knowable(&self) -> bool {
        let stores = self.members().iter().map(|store| CLIENTS + store).collect();
        !(self.bound & (Set::BOTH | stores)).is_empty()
    }

    /// Notes that a replica was taken back: it ought to hold what it holds now, and no more.
    pub(super) fn taken_back(&mut self, replica: usize) {
        self.ought[replica] = match replica.checked_sub(CLIENTS) {
            None => self.client_holds(replica),
            Some(store) if self.members().has(store) => self.store_holds(store),
            Some(_) => Set::NONE,
        };
        if !self.knowing(self.newest_committed()).has(replica) {
            self.bound -= Set::of(replica);
        }
    }

    /// The operations of a store that may be covered by its base and that it does not serve therefore.
    pub(super) fn withheld(&self, rule: &Rule, store: usize) -> Set {
        match self.has_list(rule, store) {
            true => Set::NONE,
            false => (self.stores[store].live & self.within_reach(self.stores[store].base)) - self.stores[store].clear,
        }
    }

    /// Whether a checkpoint takes the place of another one when both are met.
    pub(super) fn is_newer(&self, rule: &Rule, checkpoint: u8, than: u8) -> bool {
        let (new, old) = (self.checkpoint(checkpoint), self.checkpoint(than));
        match (rule.by_date, rule.register) {
            (true, _) => checkpoint > than,
            (_, false) => (new.generation, checkpoint) > (old.generation, than),
            _ => new.generation > old.generation && old.covered.is_within(new.covered),
        }
    }

    /// The committed checkpoint that no other one follows.
    pub(super) fn newest_committed(&self) -> u8 {
        self.committed
            .iter()
            .map(|checkpoint| checkpoint as u8)
            .max_by_key(|c| self.checkpoint(*c).generation)
            .unwrap_or(0)
    }

    /// Whether a checkpoint is another one, or builds on it.
    pub(super) fn is_above(&self, one: u8, other: u8) -> bool {
        let mut at = one;
        while self.checkpoint(at).generation > self.checkpoint(other).generation {
            at = self.checkpoint(at).parent;
        }
        at == other
    }

    /// Whether any replica has installed a checkpoint.
    pub(super) fn is_installed(&self, checkpoint: u8) -> bool {
        let stores = self.members().iter().any(|store| self.stores[store].base == checkpoint);
        stores || self.clients.iter().any(|client| client.base == checkpoint)
    }

    /// What a client holds, as an operation or under its base.
    pub(super) fn client_holds(&self, client: usize) -> Set {
        self.clients[client].live | self.covered(self.clients[client].base)
    }

    /// What a store holds, as an operation or under its base.
    pub(super) fn store_holds(&self, store: usize) -> Set {
        self.stores[store].live | self.covered(self.stores[store].base)
    }

    /// Whether a store has a checkpoint, installed or not.
    pub(super) fn store_has(&self, store: usize, checkpoint: u8) -> bool {
        self.stores[store].base == checkpoint || self.stores[store].offers.has(usize::from(checkpoint))
    }

    /// Everything that must be in everybody's value once the world has healed.
    pub(super) fn owed(&self) -> Set {
        self.ought.iter().fold(Set::NONE, |owed, ought| owed | *ought)
    }

    /// Forgets what no step depends on any more, so that equal worlds are equal, and notes what is owed.
    pub(super) fn settle(&mut self, rule: &Rule) {
        for client in 0..CLIENTS {
            let base = self.clients[client].base;
            let (reach, offers) = (self.within_reach(base), self.still_of_use(base, self.clients[client].offers));
            let state = &mut self.clients[client];
            state.live -= if rule.client_list { state.list } else { Set::NONE };
            state.clear &= state.live & reach;
            state.offers = offers;
            state.certified &= offers;
            self.ought[client] |= self.client_holds(client);
        }
        self.bound |= self.knowing(self.newest_committed());
        for store in 0..STORES {
            self.stores[store].clear &= self.stores[store].live & self.within_reach(self.stores[store].base);
            if self.has_list(rule, store) {
                self.stores[store].clear = Set::NONE;
            }
            self.stores[store].offers = self.still_of_use(self.stores[store].base, self.stores[store].offers);
            if self.members().has(store) {
                self.ought[CLIENTS + store] |= self.store_holds(store);
            }
        }
    }

    fn still_of_use(&self, base: u8, offers: Set) -> Set {
        let generation = self.checkpoint(base).generation;
        offers.iter().filter(|offer| self.checkpoints[*offer].generation > generation).collect()
    }

    /// The same world with the clients' names exchanged.
    pub(super) fn with_clients_swapped(mut self) -> Self {
        self.clients.swap(0, 1);
        self.bound = self.bound.swapped();
        self.ought.swap(0, 1);
        self.clients.iter_mut().for_each(|client| client.actor = 1 - client.actor);
        (0..usize::from(self.written)).for_each(|op| self.ops[op].actor = 1 - self.ops[op].actor);
        (1..usize::from(self.proposed)).for_each(|at| self.checkpoints[at].by = 1 - self.checkpoints[at].by);
        self
    }

    /// The same world with the stores' names exchanged.
    pub(super) fn with_stores_swapped(mut self) -> Self {
        self.stores.swap(0, 1);
        self.ought.swap(CLIENTS, CLIENTS + 1);
        self.bound = self.bound & Set::BOTH | self.bound.above(CLIENTS).swapped().moved(CLIENTS);
        self.checkpoints.iter_mut().for_each(|checkpoint| checkpoint.acks.swap(0, 1));
        self
    }
}
