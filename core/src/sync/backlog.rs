//! What one store is not known to hold of a log, and how far each operation is on its way there.
//!
//! Every operation in it is ready, waits for a time, is in flight, or is refused. Taking the next ones to send costs what
//! is taken, however much lies behind it.

use std::ops::{Deref, DerefMut};

use crate::date::Date;
use crate::error::Refusal;
use crate::few::{FewMap, FewSet};
use crate::op::OrderKey;

/// Operations of one log that one store is not known to hold. It takes nothing while there are none.
#[derive(Debug, Default)]
pub(super) struct Backlog(Option<Box<Queues>>);

/// The operations of a backlog by what becomes of them.
#[derive(Debug, Default)]
pub(super) struct Queues {
    items: FewMap<OrderKey, Item>,
    ready: FewSet<OrderKey>,
    /// What becomes ready by itself, and when: what waits, and some of what is refused.
    timed: FewSet<(Date, OrderKey)>,
    in_flight: FewSet<OrderKey>,
    parked: FewSet<OrderKey>,
    refused: FewMap<OrderKey, Refusal>,
}

/// One operation of a backlog. What is in none of the other collections is timed or refused.
#[derive(Debug, Default)]
struct Item {
    /// When it becomes ready, if it does so by itself.
    at: Option<Date>,
    /// Whether the store may hold it all the same: it was sent, and the answer was lost or left that open.
    in_doubt: bool,
}

/// What is to become of an operation whose turn it is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fate {
    /// It is sent.
    Goes {
        /// Its size in bytes.
        size: usize,
    },
    /// It is not to be sent before [`Backlog::hurry`] is called: nothing else would help.
    Parks,
    /// It is no more.
    Gone,
}

static NOTHING: Queues = Queues {
    items: FewMap::new(),
    ready: FewSet::new(),
    timed: FewSet::new(),
    in_flight: FewSet::new(),
    parked: FewSet::new(),
    refused: FewMap::new(),
};

impl Deref for Backlog {
    type Target = Queues;

    fn deref(&self) -> &Queues {
        self.0.as_deref().unwrap_or(&NOTHING)
    }
}

impl DerefMut for Backlog {
    fn deref_mut(&mut self) -> &mut Queues {
        self.0.get_or_insert_default()
    }
}

impl Backlog {
    /// Adds an operation that may be sent from `at` on. One that is there already stays as it is.
    pub(super) fn offer(&mut self, key: OrderKey, at: Date, now: Date) {
        if !self.contains(&key) {
            self.items.insert(key, Item::default());
            match at <= now {
                true => _ = self.ready.insert(key),
                false => self.place_at(key, at),
            }
        }
    }

    /// Takes out an operation that the store holds, or that is no more.
    pub(super) fn remove(&mut self, key: &OrderKey) {
        if !self.contains(key) {
            return;
        }
        if let Some(item) = self.items.remove(key) {
            self.unplace(key, item.at);
        }
        self.0.take_if(|queues| queues.items.is_empty());
    }

    /// Makes ready what is due, and takes operations to send, in order, until `full` says so of them.
    pub(super) fn take(
        &mut self,
        now: Date,
        mut fate: impl FnMut(&OrderKey) -> Fate,
        full: impl Fn(usize, usize) -> bool,
    ) -> (Vec<OrderKey>, usize) {
        if self.0.is_none() {
            return (Vec::new(), 0);
        }
        while let Some((at, key)) = self.timed.first().copied()
            && at <= now
        {
            self.make_ready(&key);
        }
        let (mut keys, mut bytes) = (Vec::new(), 0);
        while !full(keys.len(), bytes)
            && let Some(key) = self.ready.pop_first()
        {
            match fate(&key) {
                Fate::Goes { size } => {
                    bytes += size;
                    keys.push(key);
                }
                Fate::Parks => _ = self.parked.insert(key),
                Fate::Gone => _ = self.items.remove(&key),
            }
        }
        self.in_flight.extend(keys.iter().copied());
        self.0.take_if(|queues| queues.items.is_empty());
        (keys, bytes)
    }

    /// Notes that the store would not have an operation now, and may later. It may even hold it, if `in_doubt`.
    pub(super) fn put_off(&mut self, key: OrderKey, until: Date, in_doubt: bool) {
        let Some(item) = self.items.get_mut(&key) else { return };
        item.in_doubt |= in_doubt;
        let before = item.at.take();
        self.unplace(&key, before);
        self.place_at(key, until);
    }

    /// Notes that the store will not have an operation, and does not hold it. It is offered again at `again`, if there is
    /// hope that time helps.
    pub(super) fn refuse(&mut self, key: OrderKey, refusal: Refusal, again: Option<Date>) {
        let Some(item) = self.items.get_mut(&key) else { return };
        item.in_doubt = false;
        let before = item.at.take();
        self.unplace(&key, before);
        self.refused.insert(key, refusal);
        if let Some(again) = again {
            self.place_at(key, again);
        }
    }

    /// Takes note that the stream was lost: the store may hold what was in flight.
    pub(super) fn lost(&mut self) {
        let Some(queues) = &mut self.0 else { return };
        for key in std::mem::take(&mut queues.in_flight).iter().copied() {
            if let Some(item) = queues.items.get_mut(&key) {
                item.in_doubt = true;
            }
            queues.ready.insert(key);
        }
    }

    /// Makes ready what was refused: a new stream is up, and the reason may be gone.
    pub(super) fn offer_refused(&mut self) {
        let refused: Vec<OrderKey> = self.refused.keys().copied().collect();
        refused.iter().for_each(|key| self.make_ready(key));
    }

    /// Notes that the store may hold an operation by now, and makes it ready if the store refused it before.
    pub(super) fn doubt(&mut self, key: &OrderKey) {
        if let Some(item) = self.0.as_mut().and_then(|queues| queues.items.get_mut(key)) {
            item.in_doubt = true;
        }
        if self.is_refused(key) {
            self.make_ready(key);
        }
    }

    /// Makes ready what waits for a time or for something to happen.
    pub(super) fn hurry(&mut self) {
        let waiting: Vec<OrderKey> =
            self.timed.iter().map(|(_, key)| *key).filter(|key| !self.refused.contains_key(key)).collect();
        let parked: Vec<OrderKey> = self.parked.iter().copied().collect();
        waiting.iter().chain(&parked).for_each(|key| self.make_ready(key));
    }

    /// Makes an operation ready that was parked: what it waited for is not needed any more.
    pub(super) fn unpark(&mut self, key: &OrderKey) {
        if self.parked.contains(key) {
            self.make_ready(key);
        }
    }

    /// Notes that the store cannot take an operation before something happens that [`hurry`](Self::hurry) is called for.
    pub(super) fn park(&mut self, key: OrderKey) {
        let Some(item) = self.items.get_mut(&key) else { return };
        let before = item.at.take();
        self.unplace(&key, before);
        self.parked.insert(key);
    }

    /// Has everything that is timed be due earlier, because the clock went back.
    pub(super) fn clock_went_back(&mut self, micros: i64) {
        let timed = self.0.as_mut().map(|queues| std::mem::take(&mut queues.timed)).unwrap_or_default();
        for &(at, key) in timed.iter() {
            self.place_at(key, at.plus(-micros));
        }
    }

    fn place_at(&mut self, key: OrderKey, at: Date) {
        if let Some(item) = self.items.get_mut(&key) {
            item.at = Some(at);
            self.timed.insert((at, key));
        }
    }

    fn make_ready(&mut self, key: &OrderKey) {
        let Some(item) = self.items.get_mut(key) else { return };
        let before = item.at.take();
        self.unplace(key, before);
        self.ready.insert(*key);
    }

    fn unplace(&mut self, key: &OrderKey, at: Option<Date>) {
        if let Some(at) = at {
            self.timed.remove(&(at, *key));
        }
        self.ready.remove(key);
        self.in_flight.remove(key);
        self.parked.remove(key);
        self.refused.remove(key);
    }
}

impl Queues {
    /// Returns when the next operation becomes ready by itself.
    pub(super) fn next_at(&self) -> Option<Date> {
        self.timed.first().map(|(at, _)| *at)
    }

    /// Tells whether some operation can be sent now.
    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Tells whether an operation is not known to be held, be it refused or not.
    pub(super) fn contains(&self, key: &OrderKey) -> bool {
        self.items.contains_key(key)
    }

    /// Returns how many operations are to reach the store, without those that it refused.
    pub(super) fn len(&self) -> usize {
        self.items.len() - self.refused.len()
    }

    /// Tells whether no operation is to reach the store.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Iterates over all operations, refused or not.
    pub(super) fn keys(&self) -> impl Iterator<Item = &OrderKey> {
        self.items.keys()
    }

    /// Returns what the store will not have, and why.
    pub(super) fn refused(&self) -> &FewMap<OrderKey, Refusal> {
        &self.refused
    }

    /// Tells whether the store will not have an operation.
    pub(super) fn is_refused(&self, key: &OrderKey) -> bool {
        self.refused.contains_key(key)
    }

    /// Tells whether an operation is on its way, or will be by itself: it is neither refused nor parked.
    pub(super) fn is_coming(&self, key: &OrderKey) -> bool {
        self.contains(key) && !self.is_refused(key) && !self.parked.contains(key)
    }

    /// Tells whether an operation was never sent to the store by this process.
    pub(super) fn is_unsent(&self, key: &OrderKey) -> bool {
        self.items.get(key).is_some_and(|item| !item.in_doubt) && !self.in_flight.contains(key)
    }

    /// Tells whether the store may hold an operation that it has not said to hold.
    pub(super) fn is_in_doubt(&self, key: &OrderKey) -> bool {
        self.in_flight.contains(key) || self.items.get(key).is_some_and(|item| item.in_doubt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorCode;
    use crate::id::{ActorId, Seq, Sha};

    fn key(at: u64) -> OrderKey {
        let actor = ActorId::from_bytes([1; 16]);
        OrderKey { date: Date::saturating(at), actor, seq: Seq::FIRST, sha: Sha::of(&at.to_be_bytes()) }
    }

    fn at(micros: u64) -> Date {
        Date::saturating(micros)
    }

    fn take(backlog: &mut Backlog, now: u64) -> Vec<OrderKey> {
        backlog.take(at(now), |_| Fate::Goes { size: 1 }, |ops, _| ops >= 2).0
    }

    #[test]
    fn operations_go_out_in_order_and_each_once() {
        let mut backlog = Backlog::default();
        [3, 1, 2].into_iter().for_each(|op| backlog.offer(key(op), at(0), at(0)));
        assert_eq!(take(&mut backlog, 0), [key(1), key(2)]);
        backlog.offer(key(1), at(0), at(0));
        assert_eq!(take(&mut backlog, 0), [key(3)]);
        assert_eq!(take(&mut backlog, 0), []);
        assert_eq!(backlog.len(), 3);
    }

    #[test]
    fn what_was_in_flight_when_the_stream_was_lost_goes_out_again_and_stays_in_doubt() {
        let mut backlog = Backlog::default();
        backlog.offer(key(1), at(0), at(0));
        assert!(backlog.is_unsent(&key(1)));
        take(&mut backlog, 0);
        backlog.lost();
        assert!(backlog.is_in_doubt(&key(1)) && !backlog.is_unsent(&key(1)));
        assert_eq!(take(&mut backlog, 0), [key(1)]);
    }

    #[test]
    fn what_is_refused_is_offered_again_when_its_time_comes() {
        let mut backlog = Backlog::default();
        backlog.offer(key(1), at(0), at(0));
        take(&mut backlog, 0);
        backlog.refuse(key(1), Refusal::new(ErrorCode::ClockAhead, "ahead"), Some(at(10)));
        assert!(backlog.is_empty() && backlog.contains(&key(1)));
        backlog.hurry();
        assert_eq!(take(&mut backlog, 9), []);
        assert_eq!(take(&mut backlog, 10), [key(1)]);
        assert_eq!(backlog.len(), 1);
    }

    #[test]
    fn a_clock_that_went_back_delays_nothing() {
        let mut backlog = Backlog::default();
        backlog.offer(key(1), at(1_010), at(1_000));
        backlog.clock_went_back(900);
        assert_eq!(backlog.next_at(), Some(at(110)));
        assert_eq!(take(&mut backlog, 110), [key(1)]);
    }
}
