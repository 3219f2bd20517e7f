//! What clients, stores and the table do: each point of the rule is in one place here.

use super::rule::Rule;
use super::set::Set;
use super::world::{CHECKPOINTS, CLIENTS, Checkpoint, NULL, Op, World};

/// A store's answer to the push of one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is on its disk now, and was not before.
    Accepted,
    /// It was there already.
    Known,
    /// It is under the store's base.
    Covered,
    /// It may be under the store's base, whose list the store does not have yet.
    NotNow,
    /// The store is leaving.
    Sealed,
}

impl World {
    /// A client writes an operation on top of all that it shows.
    pub(super) fn write(&mut self, rule: &Rule, client: usize) {
        let seen = self.covered(self.clients[client].base) | self.folded(rule, client);
        let past = seen.iter().fold(seen, |past, op| past | self.ops[op].past);
        let deps = seen.iter().filter(|op| !seen.iter().any(|later| self.ops[later].past.has(*op))).collect();
        let state = &mut self.clients[client];
        state.seq += 1;
        let (actor, seq, op) = (state.actor, state.seq, usize::from(self.written));
        state.live |= Set::of(op);
        self.ops[op] = Op { actor, seq, deps, past };
        self.written += 1;
    }

    /// A client sends one of its operations to a store, and hears the answer.
    pub(super) fn push(&mut self, rule: &Rule, client: usize, store: usize, op: usize) {
        let same_base = self.clients[client].base == self.stores[store].base;
        let vouched = rule.vouch && same_base && self.folded(rule, client).has(op);
        let answer = self.offer(rule, store, op, vouched);
        let own = self.ops[op].actor == self.clients[client].actor;
        let state = &mut self.clients[client];
        match answer {
            Answer::Covered if same_base => {
                state.live -= Set::of(op);
                state.list |= Set::of(op);
            }
            Answer::Accepted | Answer::Known if !rule.keep_own && own => state.live -= Set::of(op),
            Answer::Accepted | Answer::Known if same_base => state.clear |= Set::of(op),
            _ => {}
        }
    }

    /// A store is offered an operation.
    fn offer(&mut self, rule: &Rule, store: usize, op: usize, vouched: bool) -> Answer {
        let state = self.stores[store];
        if state.leaving && rule.seal {
            return Answer::Sealed;
        }
        if (state.list | self.provably_covered(rule, state.base, state.live)).has(op) {
            return Answer::Covered;
        }
        let in_doubt = !self.has_list(rule, store) && self.within_reach(state.base).has(op);
        if in_doubt && vouched {
            self.stores[store].clear |= Set::of(op);
        }
        match (in_doubt && !vouched, state.live.has(op)) {
            (true, _) => Answer::NotNow,
            (_, true) => Answer::Known,
            _ => {
                self.stores[store].live |= Set::of(op);
                Answer::Accepted
            }
        }
    }

    /// The operations that a client would read from a store.
    pub(super) fn readable(&self, rule: &Rule, client: usize, store: usize) -> Set {
        let (base, of_store) = (self.clients[client].base, self.stores[store].base);
        match self.is_newer(rule, of_store, base) {
            true => Set::NONE,
            false => self.stores[store].live - self.withheld(rule, store),
        }
    }

    /// A client reads operations from a store.
    pub(super) fn pull(&mut self, rule: &Rule, client: usize, store: usize, ops: Set) {
        let same_base = self.clients[client].base == self.stores[store].base;
        let base = self.clients[client].base;
        let live = self.clients[client].live | ops;
        let covered = self.provably_covered(rule, base, live);
        let state = &mut self.clients[client];
        state.live = live - covered;
        if same_base {
            state.clear |= ops;
        }
    }

    /// Whether a client may propose a checkpoint: nothing that it holds is in doubt, and there is something to cover. That
    /// it is in step with its stores is not asked; the stores see to it.
    pub(super) fn can_propose(&self, rule: &Rule, client: usize) -> bool {
        self.doubtful(rule, client).is_empty() && !self.coverable(client).is_empty()
    }

    /// The operations that a client's next checkpoint would newly cover: all that it holds, except what depends on something
    /// that it does not have. What hangs in the air stays above the checkpoint.
    pub(super) fn coverable(&self, client: usize) -> Set {
        let holds = self.client_holds(client);
        let whole = |op: &usize| self.ops[*op].past.is_within(holds);
        self.clients[client].live.iter().filter(whole).collect()
    }

    /// Whether a client has proposed already what it would propose.
    pub(super) fn has_proposed(&self, client: usize) -> bool {
        let covered = self.covered(self.clients[client].base) | self.coverable(client);
        self.all_checkpoints().any(|at| {
            let made = &self.checkpoints[at];
            (made.parent, usize::from(made.by), made.covered) == (self.clients[client].base, client, covered)
        })
    }

    /// A client makes a checkpoint of all that it shows.
    pub(super) fn propose(&mut self, rule: &Rule, client: usize) -> u8 {
        let (at, base) = (self.proposed, self.clients[client].base);
        let (parent, newly) = (*self.checkpoint(base), self.coverable(client));
        let covered = parent.covered | newly;
        let is_last = |op: &usize| {
            let of_actor = covered.iter().filter(|other| self.ops[*other].actor == self.ops[*op].actor);
            let greatest = of_actor.clone().all(|other| self.ops[other].seq <= self.ops[*op].seq);
            !of_actor.clone().any(|other| self.ops[other].past.has(*op)) || greatest && rule.greatest_seq
        };
        let made = Checkpoint {
            generation: parent.generation + 1,
            parent: base,
            by: client as u8,
            covered,
            heads: covered.iter().filter(is_last).collect(),
            state: parent.state.and(newly),
            older: if rule.by_date { Set::below(usize::from(self.written)) } else { Set::NONE },
            ..Checkpoint::default()
        };
        self.checkpoints[usize::from(at)] = made;
        self.proposed += 1;
        self.clients[client].offers |= Set::of(usize::from(at));
        if rule.by_date {
            self.committed |= Set::of(usize::from(at));
            self.install_at_client(rule, client, at);
        }
        at
    }

    /// Whether a store acknowledges a checkpoint that its author brings.
    pub(super) fn can_acknowledge(&self, rule: &Rule, store: usize, checkpoint: u8) -> bool {
        let (state, offer) = (&self.stores[store], self.checkpoint(checkpoint));
        let held = state.live - self.withheld(rule, store);
        let newly = offer.covered
            - self.covered(offer.parent)
            - if rule.ack_base { Set::NONE } else { self.covered(state.base) };
        !(state.leaving && rule.seal)
            && (state.base == offer.parent || !rule.ack_base)
            && (newly.is_within(held) && self.has_list(rule, store) || !rule.ack_ops)
    }

    /// The epoch that an acknowledgement names, if the checkpoint's author brings it to this store.
    pub(super) fn brought_in_epoch(&self, store: usize, checkpoint: u8) -> Option<u8> {
        let author = usize::from(self.checkpoint(checkpoint).by);
        let brings = self.clients[author].offers.has(checkpoint.into()) && self.known_stores(author).has(store);
        brings.then_some(self.clients[author].epoch)
    }

    /// A store keeps a checkpoint and acknowledges it.
    pub(super) fn acknowledge(&mut self, rule: &Rule, store: usize, checkpoint: u8, epoch: u8) {
        let at = usize::from(checkpoint);
        self.checkpoints[at].acks[store] |= Set::of(usize::from(epoch));
        self.stores[store].offers |= Set::of(at);
        if rule.term && epoch == self.table.epoch {
            self.stores[store].term = self.table.term;
        }
        if !rule.committed_only {
            self.stores[store].live -= self.checkpoints[at].covered;
        }
    }

    /// Whether the register moves to a checkpoint, with the acknowledgements that there are. Who asks does not matter: what
    /// was sent may arrive after its sender has forgotten it.
    pub(super) fn can_commit(&self, rule: &Rule, checkpoint: u8) -> bool {
        let offer = self.checkpoint(checkpoint);
        let acked = |store: usize| match rule.epoch {
            true => offer.acks[store].has(usize::from(self.table.epoch)),
            false => !offer.acks[store].is_empty(),
        };
        let asked = match rule.epoch {
            true => self.members(),
            false => self.known_stores(usize::from(offer.by)),
        };
        let (register, parent) = (self.checkpoint(self.table.register), self.checkpoint(offer.parent));
        // After a restore the register may be behind the stores, whose acknowledgements say that they have the parent.
        let follows = offer.parent == self.table.register || parent.generation > register.generation;
        !self.committed.has(usize::from(checkpoint)) && asked.iter().all(acked) && (follows || !rule.register)
    }

    /// The register moves.
    pub(super) fn commit(&mut self, rule: &Rule, checkpoint: u8) {
        let at = usize::from(checkpoint);
        self.committed |= Set::of(at);
        for client in &mut self.clients {
            client.certified |= Set::of(at) & client.offers;
        }
        if !rule.register {
            return;
        }
        self.table.register = checkpoint;
        self.table.recovers = false;
        self.checkpoints[at].term = self.table.term;
        if rule.term {
            // What was committed in an earlier term and no store has installed, none will install any more.
            let holds = |other: &usize| self.is_above(checkpoint, *other as u8) || self.is_installed(*other as u8);
            self.committed = self.committed.iter().filter(holds).collect();
        }
        let offer = self.checkpoints[at];
        // A store that acknowledged it and has it no more was restored since, and owes nothing for that.
        let forgot = |store: usize| !offer.acks[store].is_empty() && !self.store_has(store, checkpoint);
        let owing: Set = self.members().iter().filter(|store| !forgot(*store)).collect();
        self.bound = self.knowing(self.newest_committed());
        for store in owing.iter() {
            self.ought[CLIENTS + store] |= offer.covered;
            self.bound |= Set::of(CLIENTS + store);
        }
    }

    /// Whether a restored table is shown a certificate of an earlier term for what its register does not know. It believes it
    /// until it has committed something in its own term; from then on the stores refuse what is not below that.
    pub(super) fn can_readopt(&self, rule: &Rule, checkpoint: u8) -> bool {
        let at = usize::from(checkpoint);
        let shows = |client: usize| {
            let state = &self.clients[client];
            let of_store = self.known_stores(client).iter().any(|store| self.stores[store].base == checkpoint);
            state.base == checkpoint || state.certified.has(at) || of_store
        };
        rule.term
            && self.table.recovers
            && self.checkpoint(checkpoint).generation > self.checkpoint(self.table.register).generation
            && (0..CLIENTS).any(shows)
    }

    /// A restored table learns again what it had committed, and certifies it in its own term.
    pub(super) fn readopt(&mut self, checkpoint: u8) {
        self.table.register = checkpoint;
        self.checkpoints[usize::from(checkpoint)].term = self.table.term;
    }

    /// Whether somebody who has this checkpoint can learn from the table that it is committed.
    fn is_certified(&self, rule: &Rule, checkpoint: u8) -> bool {
        match rule.register {
            true => self.table.register == checkpoint,
            false => !rule.by_date && self.committed.has(usize::from(checkpoint)),
        }
    }

    /// Whether a client can install a checkpoint: it or one of its stores has it, and there is a certificate.
    pub(super) fn can_install_at_client(&self, rule: &Rule, client: usize, checkpoint: u8) -> bool {
        let state = &self.clients[client];
        let at = usize::from(checkpoint);
        let certified = !rule.store_first && (self.is_certified(rule, checkpoint) || state.certified.has(at));
        let from_store =
            |store: usize| self.stores[store].base == checkpoint || self.stores[store].offers.has(at) && certified;
        checkpoint != NULL as u8
            && self.is_newer(rule, checkpoint, state.base)
            && (rule.install_freely || self.newly_covered(checkpoint, state.base).is_within(state.live))
            && (state.offers.has(at) && certified || self.known_stores(client).iter().any(from_store))
    }

    /// A client installs a checkpoint and lets go of what is provably under it.
    pub(super) fn install_at_client(&mut self, rule: &Rule, client: usize, checkpoint: u8) {
        let covered = self.provably_covered(rule, checkpoint, self.clients[client].live);
        let state = &mut self.clients[client];
        state.base = checkpoint;
        state.list |= covered;
        state.live -= covered;
        state.clear = Set::NONE;
    }

    /// Whether a client can have a store install a checkpoint: one of the two has it, and there is a certificate.
    pub(super) fn can_install_at_store(&self, rule: &Rule, client: usize, store: usize, checkpoint: u8) -> bool {
        let (from, state) = (&self.clients[client], &self.stores[store]);
        let at = usize::from(checkpoint);
        let held = from.offers.has(at) || state.offers.has(at);
        let certified = from.certified.has(at) || self.is_certified(rule, checkpoint);
        self.known_stores(client).has(store)
            && self.is_newer(rule, checkpoint, state.base)
            && (rule.install_freely || self.newly_covered(checkpoint, state.base).is_within(state.live))
            && self.checkpoint(checkpoint).term >= state.term
            && (from.base == checkpoint || held && certified)
    }

    /// A store installs a checkpoint and discards what it knows to be under it.
    pub(super) fn install_at_store(&mut self, rule: &Rule, store: usize, checkpoint: u8) {
        let covered = self.provably_covered(rule, checkpoint, self.stores[store].live);
        let state = &mut self.stores[store];
        state.base = checkpoint;
        state.list = if rule.list { state.list | covered } else { self.checkpoints[usize::from(checkpoint)].heads };
        state.live -= covered | state.list;
        state.clear = Set::NONE;
    }

    fn newly_covered(&self, checkpoint: u8, base: u8) -> Set {
        self.covered(checkpoint) - self.covered(base)
    }

    /// Whether a client and a store with the same base know more of its list together than one of them does.
    pub(super) fn can_share_list(&self, rule: &Rule, client: usize, store: usize) -> bool {
        let (client, state) = (&self.clients[client], &self.stores[store]);
        rule.client_list && rule.list && rule.by_sha && client.base == state.base && client.list != state.list
    }

    /// A client and a store tell each other what they know to be covered by their base.
    pub(super) fn share_list(&mut self, client: usize, store: usize) {
        let list = self.clients[client].list | self.stores[store].list;
        self.clients[client].list = list;
        self.clients[client].live -= list;
        self.stores[store].list = list;
        self.stores[store].live -= list;
    }

    /// Whether one store knows more of the list than another one with the same base.
    pub(super) fn can_bring_list(&self, rule: &Rule, from: usize, to: usize) -> bool {
        from != to
            && self.stores[from].base == self.stores[to].base
            && !self.stores[from].list.is_within(self.stores[to].list)
            && !self.has_list(rule, to)
    }

    /// Somebody carries the list of a base from one store to another.
    pub(super) fn bring_list(&mut self, from: usize, to: usize) {
        let list = self.stores[from].list;
        let state = &mut self.stores[to];
        state.list |= list;
        state.live -= list;
    }

    /// Whether a store can be drained.
    pub(super) fn can_drain(&self, store: usize) -> bool {
        self.stores[store].leaving && self.members().has(store) && !(self.members() - Set::of(store)).is_empty()
    }

    /// A store that leaves gives its base, its list and its operations to all that stay.
    pub(super) fn drain(&mut self, rule: &Rule, store: usize) {
        let leaving = self.stores[store];
        let mut drained = !rule.register_first || leaving.base == self.table.register;
        for other in (self.members() - Set::of(store)).iter().filter(|_| rule.drain).collect::<Vec<_>>() {
            if self.is_newer(rule, leaving.base, self.stores[other].base) {
                self.install_at_store(rule, other, leaving.base);
            }
            drained &= !rule.register_first || leaving.base == self.stores[other].base;
            if self.can_bring_list(rule, store, other) {
                self.bring_list(store, other);
            }
            let same_base = leaving.base == self.stores[other].base && rule.vouch;
            let vouched = if same_base { leaving.live - self.withheld(rule, store) } else { Set::NONE };
            for op in leaving.live.iter() {
                drained &= matches!(
                    self.offer(rule, other, op, vouched.has(op)),
                    Answer::Accepted | Answer::Known | Answer::Covered
                );
            }
        }
        self.stores[store].drained = drained;
    }

    /// Whether the table may remove a store that leaves.
    pub(super) fn can_remove(&self, rule: &Rule, store: usize) -> bool {
        let has_register = |store: usize| self.stores[store].base == self.table.register;
        let at_register = self.members().iter().all(has_register);
        self.can_drain(store) && self.stores[store].drained && (at_register || !rule.register_first)
    }

    /// The table removes a store that leaves. What it ought to hold, the others ought to hold.
    pub(super) fn remove(&mut self, store: usize) {
        let left = std::mem::take(&mut self.ought[CLIENTS + store]);
        let others = self.members() - Set::of(store);
        others.iter().for_each(|other| self.ought[CLIENTS + other] |= left);
        if self.bound.has(CLIENTS + store) {
            self.bound = (self.bound - Set::of(CLIENTS + store)) | others.moved(CLIENTS);
        }
        self.move_epoch(others);
    }

    /// The channel has other stores from now on.
    pub(super) fn move_epoch(&mut self, stores: Set) {
        self.table.epoch += 1;
        self.table.stores[usize::from(self.table.epoch)] = stores;
    }

    /// Whether one more checkpoint fits into the world.
    pub(super) fn has_room(&self) -> bool {
        usize::from(self.proposed) < CHECKPOINTS
    }
}
