//! Makes a world whole, and says what does not hold then.

use super::rule::Rule;
use super::search::Watch;
use super::set::Set;
use super::step::{letter, point};
use super::world::{CLIENTS, NULL, STORES, World};

/// Rounds after which a world that heals must have come to rest; each moves something everywhere.
const ROUNDS_MAX: usize = 16;

impl World {
    /// Says what is wrong with a world, if anything: as it is, or once it has healed.
    pub(super) fn broken(&self, rule: &Rule, watch: Watch) -> Option<String> {
        for client in 0..CLIENTS {
            if let Some(op) = self.value(rule, client).any_twice() {
                return Some(format!("client {} counts {} twice", letter(client), self.name(op)));
            }
        }
        let mut healed = *self;
        if !healed.heal(rule) {
            return Some("it does not come to rest".to_owned());
        }
        let wrong = healed.shows_wrong(rule);
        match watch {
            Watch::Values => wrong,
            Watch::All => wrong.or_else(|| healed.stays_unwhole(rule)).or_else(|| self.branches(rule)),
        }
    }

    /// Says where the committed checkpoints are not one chain.
    fn branches(&self, rule: &Rule) -> Option<String> {
        if !rule.register {
            return None;
        }
        let above = |one: usize, other: usize| self.is_above(one as u8, other as u8);
        for one in self.committed.iter() {
            if let Some(other) = self.committed.iter().find(|other| !above(one, *other) && !above(*other, one)) {
                return Some(format!("{} and {} are both committed, neither on the other", point(one), point(other)));
            }
        }
        None
    }

    /// Delivers everything to everybody until nothing changes. Nothing is written, proposed or committed, except that a
    /// restored table is told what it has forgotten; a store that was told to leave leaves.
    fn heal(&mut self, rule: &Rule) -> bool {
        for _ in 0..ROUNDS_MAX {
            let before = *self;
            for store in 0..STORES {
                if self.can_drain(store) {
                    self.drain(rule, store);
                }
                if self.can_remove(rule, store) {
                    self.remove(store);
                }
            }
            for client in 0..CLIENTS {
                self.clients[client].epoch = self.table.epoch;
                for store in self.members().iter() {
                    self.exchange_all(rule, client, store);
                }
            }
            for store in self.members().iter() {
                for other in
                    self.members().iter().filter(|other| self.can_bring_list(rule, store, *other)).collect::<Vec<_>>()
                {
                    self.bring_list(store, other);
                }
            }
            self.remind_table(rule);
            self.settle(rule);
            if *self == before {
                return true;
            }
        }
        false
    }

    /// Shows the table what it has forgotten.
    fn remind_table(&mut self, rule: &Rule) {
        for checkpoint in self.all_checkpoints() {
            if self.can_readopt(rule, checkpoint as u8) {
                self.readopt(checkpoint as u8);
            }
        }
    }

    fn exchange_all(&mut self, rule: &Rule, client: usize, store: usize) {
        for checkpoint in self.all_checkpoints() {
            if self.can_install_at_client(rule, client, checkpoint as u8) {
                self.install_at_client(rule, client, checkpoint as u8);
            }
            if self.can_install_at_store(rule, client, store, checkpoint as u8) {
                self.install_at_store(rule, store, checkpoint as u8);
            }
        }
        if self.can_share_list(rule, client, store) {
            self.share_list(client, store);
        }
        self.clients[client].live.iter().for_each(|op| self.push(rule, client, store, op));
        let ops = self.readable(rule, client, store);
        self.pull(rule, client, store, ops);
    }

    /// Says what is wrong with the values of a world that has healed.
    fn shows_wrong(&self, rule: &Rule) -> Option<String> {
        let owed = self.owed();
        // Where all that had the list were taken back, nobody can say any more what is under the base.
        let in_doubt = (0..CLIENTS).fold(Set::NONE, |all, client| all | self.doubtful(rule, client));
        let excused = if self.is_knowable() { Set::NONE } else { in_doubt };
        for client in 0..CLIENTS {
            let value = self.value(rule, client);
            if let Some(op) = value.any_twice() {
                return Some(format!(
                    "once all is delivered, client {} counts {} twice",
                    letter(client),
                    self.name(op)
                ));
            }
            let unclear = self.doubtful(rule, client);
            let lost: Set = (owed - excused).iter().filter(|op| value.of(*op) == 0).collect();
            if !lost.is_empty() {
                return Some(format!(
                    "once all is delivered, client {} lacks {}{}",
                    letter(client),
                    self.names(lost),
                    if (lost & unclear).is_empty() { "" } else { ", which it holds and may not fold" }
                ));
            }
            if value != self.value(rule, 0) {
                return Some("once all is delivered, the clients show different values".to_owned());
            }
        }
        None
    }

    /// Says what of a world that has healed is not as whole as it must be.
    fn stays_unwhole(&self, rule: &Rule) -> Option<String> {
        let (members, newest, knowable) = (self.members(), self.newest_committed(), self.is_knowable());
        for client in 0..CLIENTS {
            let unclear = self.doubtful(rule, client);
            if knowable && !unclear.is_empty() {
                return Some(format!(
                    "client {} never learns whether {} is covered",
                    letter(client),
                    self.names(unclear)
                ));
            }
            if knowable && !rule.by_date && rule.register && self.clients[client].base != newest {
                return Some(format!("client {} never installs {}", letter(client), point(newest.into())));
            }
        }
        let left = (0..STORES).find(|store| members.has(*store) && self.stores[*store].leaving);
        if let Some(store) = left {
            return Some(format!("store {store} was told to leave and never can"));
        }
        if knowable && rule.register { self.is_stuck(rule) } else { None }
    }

    /// Says why a healed world can prune no more.
    fn is_stuck(&self, rule: &Rule) -> Option<String> {
        if self.coverable(0).is_empty() || !self.has_room() {
            return None;
        }
        if !self.can_propose(rule, 0) {
            return Some("nobody can propose a checkpoint any more".to_owned());
        }
        let mut next = *self;
        let checkpoint = next.propose(rule, 0);
        for store in next.members().iter() {
            if !next.can_acknowledge(rule, store, checkpoint) {
                return Some(format!("store {store} can acknowledge no checkpoint any more"));
            }
            next.acknowledge(rule, store, checkpoint, self.table.epoch);
        }
        (!next.can_commit(rule, checkpoint)).then(|| "no checkpoint can be committed any more".to_owned())
    }
}

const _: () = assert!(NULL == 0, "worlds begin with the null as everybody's base");
