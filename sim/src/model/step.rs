//! Everything that can happen next, and how it reads in a script.

use super::config::{Config, Event};
use super::rule::Rule;
use super::set::Set;
use super::world::{CLIENTS, STORES, World};

/// One thing that happens. Numbers name clients, stores, operations and checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Write {
        client: usize,
    },
    Push {
        client: usize,
        store: usize,
        ops: Set,
    },
    Pull {
        client: usize,
        store: usize,
        ops: Set,
    },
    /// The client learns the present mount table.
    Refresh {
        client: usize,
    },
    Propose {
        client: usize,
    },
    Acknowledge {
        store: usize,
        checkpoint: usize,
        epoch: u8,
    },
    Commit {
        checkpoint: usize,
    },
    Readopt {
        checkpoint: usize,
    },
    InstallAtClient {
        client: usize,
        checkpoint: usize,
    },
    InstallAtStore {
        store: usize,
        checkpoint: usize,
    },
    ShareList {
        client: usize,
        store: usize,
    },
    BringList {
        from: usize,
        to: usize,
    },
    Drain {
        store: usize,
    },
    Happen {
        plan: usize,
    },
}

impl World {
    /// Calls `visit` with each step that changes something, and the world after it.
    pub(super) fn each_step(&self, config: &Config, rule: &Rule, mut visit: impl FnMut(Step, World)) {
        let mut take = |step: Step| {
            let mut after = *self;
            after.take(config, rule, step);
            after.settle(rule);
            if after != *self {
                visit(step, after);
            }
        };
        for client in 0..CLIENTS {
            if usize::from(self.written) < config.ops {
                take(Step::Write { client });
            }
            if self.clients[client].epoch != self.table.epoch {
                take(Step::Refresh { client });
            }
            let may_propose = usize::from(self.proposed) <= config.checkpoints && !self.has_proposed(client);
            if may_propose && self.can_propose(rule, client) {
                take(Step::Propose { client });
            }
            for checkpoint in self.all_checkpoints() {
                if self.can_install_at_client(rule, client, checkpoint as u8) {
                    take(Step::InstallAtClient { client, checkpoint });
                }
            }
            for store in self.known_stores(client).iter() {
                self.exchanges(config, rule, client, store, &mut take);
            }
        }
        for checkpoint in self.all_checkpoints() {
            if !rule.by_date && self.can_commit(rule, checkpoint as u8) {
                take(Step::Commit { checkpoint });
            }
            if self.can_readopt(rule, checkpoint as u8) {
                take(Step::Readopt { checkpoint });
            }
            for store in 0..STORES {
                if (0..CLIENTS).any(|client| self.can_install_at_store(rule, client, store, checkpoint as u8)) {
                    take(Step::InstallAtStore { store, checkpoint });
                }
                let may_acknowledge = !rule.by_date && self.can_acknowledge(rule, store, checkpoint as u8);
                if let Some(epoch) = self.brought_in_epoch(store, checkpoint as u8).filter(|_| may_acknowledge) {
                    take(Step::Acknowledge { store, checkpoint, epoch });
                }
            }
        }
        for store in 0..STORES {
            let other = 1 - store;
            let between = |client: usize| Set::BOTH.is_within(self.known_stores(client));
            if !rule.client_list && self.can_bring_list(rule, store, other) && (0..CLIENTS).any(between) {
                take(Step::BringList { from: store, to: other });
            }
            if self.can_drain(store) && !self.stores[store].drained {
                take(Step::Drain { store });
            }
        }
        for plan in 0..config.plans.len() {
            if config.plans[plan].get(usize::from(self.at[plan])).is_some_and(|event| self.may_happen(rule, *event)) {
                take(Step::Happen { plan });
            }
        }
    }

    /// What a client and a store tell each other, one by one and in any order, or all at once.
    fn exchanges(&self, config: &Config, rule: &Rule, client: usize, store: usize, take: &mut impl FnMut(Step)) {
        let push = self.clients[client].live;
        let pull = self.readable(rule, client, store);
        if self.can_share_list(rule, client, store) {
            take(Step::ShareList { client, store });
        }
        match config.partial {
            true => {
                push.iter().for_each(|op| take(Step::Push { client, store, ops: Set::of(op) }));
                pull.iter().for_each(|op| take(Step::Pull { client, store, ops: Set::of(op) }));
            }
            false => {
                take(Step::Push { client, store, ops: push });
                take(Step::Pull { client, store, ops: pull });
            }
        }
    }

    fn may_happen(&self, rule: &Rule, event: Event) -> bool {
        match event {
            Event::Remove(store) => self.can_remove(rule, store),
            _ => true,
        }
    }

    /// Has a step happen.
    pub(super) fn take(&mut self, config: &Config, rule: &Rule, step: Step) {
        match step {
            Step::Write { client } => self.write(rule, client),
            Step::Push { client, store, ops } => ops.iter().for_each(|op| self.push(rule, client, store, op)),
            Step::Pull { client, store, ops } => self.pull(rule, client, store, ops),
            Step::Refresh { client } => self.clients[client].epoch = self.table.epoch,
            Step::Propose { client } => _ = self.propose(rule, client),
            Step::Acknowledge { store, checkpoint, epoch } => self.acknowledge(rule, store, checkpoint as u8, epoch),
            Step::Commit { checkpoint } => self.commit(rule, checkpoint as u8),
            Step::Readopt { checkpoint } => self.readopt(checkpoint as u8),
            Step::InstallAtClient { client, checkpoint } => self.install_at_client(rule, client, checkpoint as u8),
            Step::InstallAtStore { store, checkpoint } => self.install_at_store(rule, store, checkpoint as u8),
            Step::ShareList { client, store } => self.share_list(client, store),
            Step::BringList { from, to } => self.bring_list(from, to),
            Step::Drain { store } => self.drain(rule, store),
            Step::Happen { plan } => {
                self.happen(rule, config.plans[plan][usize::from(self.at[plan])]);
                self.at[plan] += 1;
            }
        }
    }

    fn happen(&mut self, rule: &Rule, event: Event) {
        match event {
            Event::Join(store) => {
                if rule.join_term {
                    self.stores[store].term = self.table.term;
                }
                self.move_epoch(self.members() | Set::of(store));
            }
            Event::Leave(store) => self.stores[store].leaving = true,
            Event::Remove(store) => self.remove(store),
            Event::Abandon(store) => {
                self.ought[CLIENTS + store] = Set::NONE;
                self.bound -= Set::of(CLIENTS + store);
                self.move_epoch(self.members() - Set::of(store));
            }
            Event::BackUpDevice(client) => self.saved_client = self.clients[client],
            Event::RestoreDevice(client) | Event::RestoreDeviceAnew(client) => {
                self.clients[client] = std::mem::take(&mut self.saved_client);
                if event == Event::RestoreDeviceAnew(client) {
                    (self.clients[client].actor, self.clients[client].seq) = (CLIENTS as u8, 0);
                }
                self.taken_back(client);
            }
            Event::BackUpStore(store) => self.saved_store = self.stores[store],
            Event::RestoreStore(store) => {
                self.stores[store] = std::mem::take(&mut self.saved_store);
                self.taken_back(CLIENTS + store);
            }
            Event::BackUpTable => self.saved_register = self.table.register,
            Event::RestoreTable => {
                self.table.register = std::mem::take(&mut self.saved_register);
                if rule.term {
                    // It certifies anew what its register names.
                    self.table.term += 1;
                    self.table.recovers = true;
                    self.checkpoints[usize::from(self.table.register)].term = self.table.term;
                    self.move_epoch(self.members());
                }
            }
        }
    }

    /// Says in a sentence what a step does, in the world before it and after it.
    pub(super) fn tell(&self, config: &Config, rule: &Rule, step: Step, after: &Self) -> String {
        match step {
            Step::Write { client } => {
                let op = usize::from(self.written);
                let seen = after.names(after.ops[op].past);
                format!("client {} writes {}, having seen {seen}", letter(client), after.name(op))
            }
            Step::Push { client, store, ops } => {
                let told = |op| {
                    let mut alone = *self;
                    ops.iter().filter(|other| *other < op).for_each(|other| alone.push(rule, client, store, other));
                    let before = alone;
                    alone.push(rule, client, store, op);
                    let took = alone.stores[store].live != before.stores[store].live;
                    let dropped = before.clients[client].live != alone.clients[client].live;
                    let heard = match (took, dropped) {
                        (true, false) => "accepted",
                        (true, true) => "accepted, and the client drops it",
                        (false, true) => "the client is told to drop it",
                        (false, false) => "nothing new",
                    };
                    format!("{} ({heard})", self.name(op))
                };
                let told: Vec<String> = ops.iter().map(told).collect();
                format!("client {} pushes to store {store}: {}", letter(client), told.join(", "))
            }
            Step::Pull { client, store, ops } => {
                let new = ops - self.clients[client].live;
                format!("client {} reads {} from store {store}", letter(client), self.names(new))
            }
            Step::Refresh { client } => format!("client {} learns of epoch {}", letter(client), self.table.epoch),
            Step::Propose { client } => {
                let made = after.checkpoint(self.proposed);
                let (covered, parent) = (self.names(made.covered), point(made.parent.into()));
                format!("client {} makes {} of {covered}, on {parent}", letter(client), point(self.proposed.into()))
            }
            Step::Acknowledge { store, checkpoint, epoch } => {
                format!("store {store} acknowledges {} in epoch {epoch}", point(checkpoint))
            }
            Step::Commit { checkpoint } => match rule.register {
                true => format!("the register moves to {}", point(checkpoint)),
                false => {
                    format!("client {} commits {}", letter(self.checkpoints[checkpoint].by.into()), point(checkpoint))
                }
            },
            Step::Readopt { checkpoint } => format!("the table is shown that it had committed {}", point(checkpoint)),
            Step::InstallAtClient { client, checkpoint } => format!(
                "client {} installs {} and drops {}",
                letter(client),
                point(checkpoint),
                self.names(self.clients[client].live - after.clients[client].live)
            ),
            Step::InstallAtStore { store, checkpoint } => format!(
                "store {store} installs {} and discards {}{}",
                point(checkpoint),
                self.names(self.stores[store].live - after.stores[store].live),
                if after.has_list(rule, store) { "" } else { "; its list is incomplete" }
            ),
            Step::ShareList { client, store } => format!(
                "client {} and store {store} tell each other what is under {}",
                letter(client),
                point(self.clients[client].base.into())
            ),
            Step::BringList { from, to } => format!("a client brings the list of store {from} to store {to}"),
            Step::Drain { store } => format!(
                "store {store} is drained{}",
                if after.stores[store].drained { "" } else { ", and is not done" }
            ),
            Step::Happen { plan } => sentence(config.plans[plan][usize::from(self.at[plan])]),
        }
    }

    /// Names an operation by its actor and seq; those that share one are told apart by primes.
    pub(super) fn name(&self, op: usize) -> String {
        let same =
            |other: &usize| (self.ops[*other].actor, self.ops[*other].seq) == (self.ops[op].actor, self.ops[op].seq);
        let primes = (0..op).filter(same).count();
        let actor = ["a", "b", "c"].get(usize::from(self.ops[op].actor)).copied().unwrap_or("?");
        format!("{actor}{}{}", self.ops[op].seq, "'".repeat(primes))
    }

    /// Names a set of operations.
    pub(super) fn names(&self, ops: Set) -> String {
        match ops.is_empty() {
            true => "nothing".to_owned(),
            false => format!("{{{}}}", ops.iter().map(|op| self.name(op)).collect::<Vec<_>>().join(", ")),
        }
    }
}

/// Names a client.
pub(super) fn letter(client: usize) -> &'static str {
    ["A", "B"].get(client).copied().unwrap_or("?")
}

/// Names a checkpoint.
pub(super) fn point(checkpoint: usize) -> String {
    if checkpoint == 0 { "null".to_owned() } else { format!("C{checkpoint}") }
}

fn sentence(event: Event) -> String {
    match event {
        Event::Join(store) => format!("store {store} joins, empty; the epoch moves"),
        Event::Leave(store) => format!("store {store} is told to leave"),
        Event::Remove(store) => format!("store {store} is removed; the epoch moves"),
        Event::Abandon(store) => format!("store {store} is abandoned; the epoch moves"),
        Event::BackUpDevice(client) => format!("the device of client {} is backed up", letter(client)),
        Event::RestoreDevice(client) => {
            format!("client {} goes back to its backup, and does not notice", letter(client))
        }
        Event::RestoreDeviceAnew(client) => {
            format!("client {} goes back to its backup, and has a new actor", letter(client))
        }
        Event::BackUpStore(store) => format!("store {store} is backed up"),
        Event::RestoreStore(store) => format!("store {store} goes back to its backup"),
        Event::BackUpTable => "the table is backed up".to_owned(),
        Event::RestoreTable => "the table goes back to its backup".to_owned(),
    }
}
