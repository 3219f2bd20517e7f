//! What the apps in a world do with their clients.

use std::sync::Arc;

use gigfs_core::sync::{Mode, PushError, PushId, Replica};
use gigfs_core::{Date, Kind, LogName, Op, TypeName};
use serde_json::Value;

use super::World;
use crate::payload;
use crate::rng::Rng;

impl World {
    /// Returns the number of the write that an operation carries, sealed or not.
    pub fn number(&self, op: &Op) -> Option<u64> {
        self.ledger.number(op)
    }

    /// Opens a log.
    pub fn open(&mut self, client: usize, log: usize) {
        let name = self.logs[log].clone();
        self.act(client, |replica, now| replica.open(now, &name));
    }

    /// Has a log compared with all stores, without following it.
    pub fn compare(&mut self, client: usize, log: usize) {
        let name = self.logs[log].clone();
        self.act(client, |replica, now| replica.compare(now, &name));
    }

    /// Writes something that carries a number of its own, and opens the log first. Nothing is written while the log is
    /// still being read from the disk.
    pub fn write_some(&mut self, client: usize, log: usize, shape: u64) -> Option<PushId> {
        self.open(client, log);
        let name = self.logs[log].clone();
        let value = self.clients[client].replica.as_mut()?.value(&name)?;
        let intent = payload::intent(self.keys.kind(&name).as_str(), self.next_write, &value, &mut Rng::new(shape));
        self.next_write += 1;
        self.push_to(client, &name, &intent).ok()
    }

    /// Writes to a log that is open and loaded.
    ///
    /// # Panics
    /// If the client does not run or does not take it, since a script that goes on would show nothing.
    pub fn push(&mut self, client: usize, log: usize, intent: &Value) -> PushId {
        let name = self.logs[log].clone();
        self.push_to(client, &name, intent).expect("the script opened the log and writes what makes sense")
    }

    fn push_to(&mut self, client: usize, log: &LogName, intent: &Value) -> Result<PushId, PushError> {
        let pushed = self.act(client, |replica, now| replica.push(now, log, intent));
        let Some(pushed) = pushed else { return Err(PushError::NotLoaded { log: log.clone() }) };
        let receipt = pushed?;
        self.counts.writes += 1;
        // Its news may be here already.
        self.clients[client].receipts.entry(receipt.id).or_insert_with(|| receipt.clone());
        Ok(receipt.id)
    }

    /// Changes what a client exchanges with the stores.
    pub fn set_mode(&mut self, client: usize, mode: Mode) {
        self.clients[client].mode = mode;
        self.act(client, |replica, now| replica.set_mode(now, mode));
        let links: Vec<_> = self.clients[client]
            .mounts
            .iter()
            .flat_map(|(channel, stores)| stores.iter().map(|store| (channel.clone(), *store)))
            .map(|(channel, store)| gigfs_core::sync::LinkId { channel, store })
            .collect();
        match mode {
            Mode::Offline => {
                for id in self.open_streams(|stream| stream.client == client) {
                    self.store_loses(id);
                    self.plan(1_000, super::Event::ClientLoses { stream: id });
                }
            }
            Mode::Online | Mode::SendOnly | Mode::ReceiveOnly | Mode::Paused => {
                for link in links {
                    let after = self.rng.below(50_000);
                    self.connect_soon(client, &link, after);
                }
            }
        }
    }

    /// Moves a client's clock to so many seconds ahead of the true time, or behind it.
    pub fn set_clock(&mut self, client: usize, seconds: i64) {
        self.clients[client].skew = seconds * 1_000_000;
        self.farthest = self.farthest.max(seconds.max(0) as u64 * 1_000_000);
    }

    /// Calls into a client's replica behind its shell's back.
    pub fn with_replica(&mut self, client: usize, call: impl FnOnce(&mut Replica, Date)) {
        self.act(client, call);
    }

    /// Has a client send at once all that may wait.
    pub fn hurry(&mut self, client: usize) {
        self.act(client, |replica, now| replica.hurry(now, None));
    }

    /// Has a client read a type otherwise from now on.
    pub fn equip(&mut self, client: usize, kind: &TypeName, reader: &Arc<dyn Kind>) {
        self.clients[client].kinds.insert(kind.clone(), reader.clone());
        self.act(client, |replica, _| replica.register(kind.clone(), reader.clone()));
    }

    /// Says what reads a type rightly, in this world.
    pub fn judge_by(&mut self, kind: &TypeName, reader: &Arc<dyn Kind>) {
        self.kinds.insert(kind.clone(), reader.clone());
    }

    /// Returns the value that a log would have if it had never been pruned.
    pub fn unpruned(&self, log: usize) -> Value {
        let name = &self.logs[log];
        let written = self.ledger.written(name);
        let mut fold = self.kinds[self.keys.kind(name)].fold();
        written.iter().for_each(|op| fold.inserted(&written, op));
        (*fold.view(&written)).clone()
    }

    /// Returns the value of a log as a client sees it.
    pub fn value(&mut self, client: usize, log: usize) -> Value {
        let name = self.logs[log].clone();
        let replica = self.clients[client].replica.as_mut();
        replica.and_then(|replica| replica.value(&name)).map_or(Value::Null, |value| (*value).clone())
    }
}
