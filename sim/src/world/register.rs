//! The table's register in a world: where each log stands, decided by the rule that the table server decides by.

use std::collections::BTreeSet;

use gigfs_core::api::{CommitResult, Proposal};
use gigfs_core::commit::Register;
use gigfs_core::sync::{Event as SyncEvent, PruneHold};
use gigfs_core::token::{AckClaims, CertificateClaims, CertificateUse};
use gigfs_core::{BaseId, Checkpoint, ErrorCode, LogName, Refusal, StoreId, base64_text};

use super::{Event, World};
use crate::store::signed;

impl World {
    /// Has a client prune a log, if it can.
    pub fn prune(&mut self, client: usize, log: usize) -> Option<PruneHold> {
        let name = self.logs[log].clone();
        self.act(client, |replica, now| replica.prune(now, &name))?.err()
    }

    /// Has a client compute the state of a log's base again.
    pub fn repair(&mut self, client: usize, log: usize) -> Option<PruneHold> {
        let name = self.logs[log].clone();
        self.act(client, |replica, now| replica.repair(now, &name))?.err()
    }

    /// Has a client remove a log.
    pub fn remove(&mut self, client: usize, log: usize) {
        self.open(client, log);
        let name = self.logs[log].clone();
        // It is not removed while it is still being read.
        _ = self.act(client, |replica, now| replica.remove(now, &name));
    }

    /// Lets everything reach the table that waits on its way.
    pub fn release_table(&mut self) {
        self.table_held = false;
        for (client, life, log, proposal) in std::mem::take(&mut self.asked) {
            self.bring_to_table(client, life, log, proposal);
        }
    }

    /// Returns how many questions wait on their way to the table.
    pub fn waiting_for_table(&self) -> usize {
        self.asked.len()
    }

    /// Returns every checkpoint of a log that was ever proposed.
    pub fn proposed(&self, log: usize) -> Vec<Checkpoint> {
        self.ledger.proposed(&self.logs[log])
    }

    /// Keeps a copy of the register.
    pub fn back_up_table(&mut self) {
        self.register_backup = self.register.clone();
    }

    /// Puts the register back to what the copy holds.
    pub fn restore_table(&mut self) {
        self.register = self.register_backup.clone();
    }

    /// Returns the base at which a log's register stands.
    pub fn registered(&self, log: usize) -> Option<BaseId> {
        self.register.get(&self.logs[log]).map(|(at, _)| *at)
    }

    /// Puts a question to the table on its way.
    pub(super) fn ask_table(&mut self, client: usize, log: LogName, proposal: Proposal) {
        let life = self.clients[client].life;
        match self.table_held {
            true => self.asked.push((client, life, log, proposal)),
            false => self.bring_to_table(client, life, log, proposal),
        }
    }

    fn bring_to_table(&mut self, client: usize, life: u64, log: LogName, proposal: Proposal) {
        let after = self.rng.below(self.spec.delay + 1);
        self.plan(after, Event::ToTable { client, life, log, proposal });
    }

    pub(super) fn arrive_at_table(&mut self, client: usize, life: u64, log: LogName, proposal: &Proposal) {
        let result = match self.table_down {
            true => Err(Refusal::new(ErrorCode::Unreachable, "the table cannot be reached")),
            false => Ok(self.decide(&log, proposal)),
        };
        if self.rng.chance(self.table_loses) {
            // The answer is lost with the connection.
            let refusal = Refusal::new(ErrorCode::Unreachable, "the table did not answer");
            return self.answer_of_table(client, life, log, Err(refusal));
        }
        self.answer_of_table(client, life, log, result);
    }

    fn answer_of_table(&mut self, client: usize, life: u64, log: LogName, result: Result<CommitResult, Refusal>) {
        let after = self.rng.below(self.spec.delay + 1);
        self.plan(after, Event::Committed { client, life, log, result });
    }

    pub(super) fn hear_table(&mut self, client: usize, log: LogName, result: Result<CommitResult, Refusal>) {
        self.act(client, |replica, now| replica.handle(now, SyncEvent::Committed { log, result }));
    }

    fn decide(&mut self, log: &LogName, proposal: &Proposal) -> CommitResult {
        let at = self.register.get(log).cloned();
        let standing = |refusal| CommitResult::Standing { certificate: at.clone().map(|(_, text)| text), refusal };
        let Some(checkpoint) = proposal.checkpoint else { return standing(None) };
        let acks: Vec<AckClaims> = proposal.acks.iter().filter_map(|ack| claims(ack)).collect();
        let stores: BTreeSet<StoreId> = self.table[&log.channel].iter().map(|at| self.stores[*at].id()).collect();
        let epoch = self.epochs[&log.channel];
        let register = Register { log, at: at.as_ref().map(|(at, _)| *at), stores: &stores, epoch };
        if let Err(refusal) = register.decide(&checkpoint, proposal.parent, &acks) {
            return standing(Some(refusal));
        }
        if let Some((_, certificate)) = at.clone().filter(|(at, _)| *at == checkpoint) {
            return CommitResult::Committed { certificate };
        }
        let kind = self.kinds[self.keys.kind(log)].clone();
        let readable = |checkpoint: &Checkpoint| self.keys.open(log, checkpoint, &kind);
        if let Err(why) = self.ledger.commit(&*kind, readable, log, checkpoint.sha, self.any_state) {
            self.break_law(format!("the table commits a checkpoint of {log}, and {why}"));
        }
        let certificate = signed(&CertificateClaims {
            iss: "table".to_owned(),
            sub: log.user.clone(),
            channel: log.channel.clone(),
            kind: log.kind.clone(),
            path: log.path.clone(),
            generation: checkpoint.generation,
            checkpoint: checkpoint.sha,
            iat: self.now / 1_000_000,
            usage: CertificateUse::Checkpoint,
        });
        self.register.insert(log.clone(), (checkpoint, certificate.clone()));
        self.counts.committed += 1;
        CommitResult::Committed { certificate }
    }
}

fn claims(token: &str) -> Option<AckClaims> {
    let claims = base64_text::decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice(&claims).ok()
}
