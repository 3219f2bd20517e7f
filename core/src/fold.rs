//! Folding an oplog into a value through a reducer, one operation at a time.
//!
//! Appending at the end costs one `apply`. An operation that lands in the middle is applied on top where it and all
//! after it commute; otherwise the log is folded again from the nearest snapshot before it, when the value is next read.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::checkpoint::Checkpoint;
use crate::id::{Digest, Sha};
use crate::json;
use crate::name::TypeName;
use crate::op::{Op, OrderKey, Payload};
use crate::oplog::Oplog;
use crate::reducer::{Author, IntentError, Meta, Reducer};
use crate::removal::{self, Seen};

/// What reads the logs of one type: makes a [`Fold`] for each.
pub trait Kind: Send + Sync {
    /// Makes the fold of an empty log.
    fn fold(&self) -> Box<dyn Fold>;
}

/// The running fold of one log. It is told of every operation that its oplog gains, and reads the oplog when it must.
pub trait Fold: Send {
    /// Turns an intent into the payload to be logged, against the present state.
    ///
    /// # Errors
    /// [`IntentError`] if the intent cannot be read or makes no sense now.
    fn prepare(&mut self, oplog: &Oplog, intent: &Value, author: &Author) -> Result<Value, IntentError>;

    /// Takes note of an operation that `oplog` has just gained.
    fn inserted(&mut self, oplog: &Oplog, op: &Op);

    /// Forgets everything, because `oplog` lost operations or was replaced. What is folded from now on comes on top of
    /// `base`, or of the empty log.
    fn rebase(&mut self, base: Option<&Checkpoint>);

    /// Forgets everything as well: there is a base, and it cannot be read for this reason.
    fn distrust(&mut self, why: String);

    /// Returns the name of what folds.
    fn reducer(&self) -> &str;

    /// Says why the base cannot be read here, if it cannot: there is no value then, and nothing can be written.
    fn trouble(&self) -> Option<&str>;

    /// Returns the value of the log. Cheap while nothing changes.
    fn view(&mut self, oplog: &Oplog) -> Arc<Value>;

    /// Returns the state of the log, for a checkpoint.
    ///
    /// # Errors
    /// A sentence that says why there is none: the base cannot be read, or the log is of a kind that has no state.
    fn state(&mut self, oplog: &Oplog) -> Result<Folded, String>;

    /// Returns the operations whose payloads the reducer could not read, with the reason.
    fn unreadable(&mut self, oplog: &Oplog) -> BTreeMap<Sha, String>;
}

/// The state of a log, as its reducer encodes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folded {
    /// The reducer's name.
    pub reducer: TypeName,
    /// The reducer's version.
    pub version: u32,
    /// [`Reducer::encode_state`].
    pub state: Vec<u8>,
}

/// A [`Kind`] that folds through a [`Reducer`].
pub struct Reduced<R>(Arc<R>);

impl<R: Reducer> Reduced<R> {
    /// Wraps a reducer.
    pub fn new(reducer: R) -> Self {
        Self(Arc::new(reducer))
    }
}

impl<R: Reducer> Kind for Reduced<R> {
    fn fold(&self) -> Box<dyn Fold> {
        Box::new(ReducerFold::new(self.0.clone()))
    }
}

/// The fold of one log through a reducer, with snapshots.
struct ReducerFold<R: Reducer> {
    reducer: Arc<R>,
    /// The state of the base, and what it covers.
    base: Option<Box<(R::State, Digest)>>,
    /// Why the base cannot be read.
    trouble: Option<String>,
    /// Removals in the oplog, with what each had seen. While there are any, the log is folded from the beginning.
    removals: BTreeMap<OrderKey, Seen>,
    state: R::State,
    /// How many operations are in `state`.
    count: usize,
    /// The last operation in `state`, in the order of replay.
    last: Option<Op>,
    /// The last operation in `state` whose payload does not commute.
    last_fixed: Option<Op>,
    /// The first operation that `state` lacks and that cannot be applied on top.
    dirty: Option<Op>,
    snapshots: Vec<Snapshot<R::State>>,
    view: Option<Arc<Value>>,
    unreadable: BTreeMap<Sha, String>,
}

/// The state after every operation up to `last`.
struct Snapshot<S> {
    last: Op,
    count: usize,
    last_fixed: Option<Op>,
    state: S,
}

/// Operations between two snapshots at the end of a log. They thin out towards its beginning.
const SNAPSHOT_STRIDE: usize = 64;

impl<R: Reducer> ReducerFold<R> {
    fn new(reducer: Arc<R>) -> Self {
        Self {
            state: reducer.initial(),
            base: None,
            trouble: None,
            removals: BTreeMap::new(),
            reducer,
            count: 0,
            last: None,
            last_fixed: None,
            dirty: None,
            snapshots: Vec::new(),
            view: None,
            unreadable: BTreeMap::new(),
        }
    }

    /// Applies an operation on top of the state, in or out of order.
    fn apply(&mut self, op: &Op, payload: Result<R::Payload, String>) {
        let applied = payload.and_then(|payload| {
            let commutes = self.reducer.commutes(&payload);
            let applied = self.reducer.apply(&mut self.state, payload, &Meta::from(op)).map_err(|error| error.0);
            if !commutes {
                later(&mut self.last_fixed, op);
            }
            applied
        });
        match applied {
            Ok(()) => _ = self.unreadable.remove(&op.sha()),
            Err(why) => _ = self.unreadable.insert(op.sha(), why),
        }
        self.count += 1;
        later(&mut self.last, op);
        self.view = None;
    }

    /// Keeps a snapshot now and then, while operations are applied in order and some of them do not commute.
    fn keep_snapshot(&mut self) {
        let Some(last) = &self.last else { return };
        if self.last_fixed.is_none() || !self.count.is_multiple_of(SNAPSHOT_STRIDE) {
            return;
        }
        let (last, last_fixed) = (last.clone(), self.last_fixed.clone());
        let snapshot = Snapshot { last, count: self.count, last_fixed, state: self.state.clone() };
        self.snapshots.push(snapshot);
        let now = self.count;
        self.snapshots.retain(|kept| kept.count.is_multiple_of(spacing(now - kept.count)));
    }

    fn parse(op: &Op) -> Result<R::Payload, String> {
        serde_json::from_slice(op.content()?).map_err(|error| error.to_string())
    }

    /// Brings the state up to the oplog, from the last snapshot before what is missing.
    fn settle(&mut self, oplog: &Oplog) {
        let Some(dirty) = self.dirty.take() else { return };
        let removed = removal::removed(oplog, self.removals.iter());
        self.snapshots.retain(|kept| kept.last.key() < dirty.key() && self.removals.is_empty());
        match self.snapshots.last() {
            Some(kept) => {
                (self.count, self.last) = (kept.count, Some(kept.last.clone()));
                self.last_fixed.clone_from(&kept.last_fixed);
                self.state = kept.state.clone();
            }
            None => {
                (self.count, self.last, self.last_fixed) = (0, None, None);
                self.state = self.origin();
            }
        }
        let from = self.last.as_ref().map(Op::key);
        for op in oplog.iter_after(from.as_ref()) {
            if !removed.contains(&op.sha()) && !self.removals.contains_key(&op.key()) {
                self.apply(op, Self::parse(op));
                self.keep_snapshot();
            }
        }
        for (key, seen) in &self.removals {
            let partly = self.base.as_ref().filter(|base| !seen.takes(base.1));
            match partly {
                Some(_) => _ = self.unreadable.insert(key.sha, removal::TOO_LATE.to_owned()),
                None => _ = self.unreadable.remove(&key.sha),
            }
        }
    }

    /// Returns the state that the oplog is folded on top of.
    fn origin(&self) -> R::State {
        let removed = |covered: &Digest| self.removals.values().any(|seen| seen.takes(*covered));
        match self.base.as_deref() {
            Some((state, covered)) if !removed(covered) => state.clone(),
            _ => self.reducer.initial(),
        }
    }

    /// Reads the state of a base.
    fn read_base(&self, base: &Checkpoint) -> Result<R::State, String> {
        let (name, version) = (self.reducer.name(), self.reducer.version());
        if base.reducer.as_str() != name {
            return Err(format!("the log was folded by the reducer {}, and {name} is registered for it", base.reducer));
        }
        if base.version > version {
            let found = base.version;
            return Err(format!("the log was folded by version {found} of the {name}, and this is {version}; update"));
        }
        match &base.state {
            Payload::Plain(bytes) => {
                self.reducer.decode_state_of(base.version, bytes).map_err(|error| format!("the log's base: {error}"))
            }
            Payload::Sealed { epoch, .. } => {
                Err(format!("the log's base is sealed under key epoch {epoch}, which is not here"))
            }
        }
    }
}

/// Puts an operation in the place of the one that was the last, if it comes later.
fn later(last: &mut Option<Op>, op: &Op) {
    if last.as_ref().is_none_or(|last| last.key() < op.key()) {
        *last = Some(op.clone());
    }
}

/// The distance between snapshots that lie `distance` operations before the end.
fn spacing(distance: usize) -> usize {
    (distance / 4).next_power_of_two().max(SNAPSHOT_STRIDE)
}

impl<R: Reducer> Fold for ReducerFold<R> {
    fn prepare(&mut self, oplog: &Oplog, intent: &Value, author: &Author) -> Result<Value, IntentError> {
        if let Some(trouble) = &self.trouble {
            return Err(IntentError(trouble.clone()));
        }
        self.settle(oplog);
        let intent = serde::Deserialize::deserialize(intent)
            .map_err(|error| IntentError(format!("the {} cannot read {intent}: {error}", self.reducer.name())))?;
        let payload = self.reducer.prepare(&self.state, intent, author)?;
        serde_json::to_value(payload)
            .map_err(|error| IntentError(format!("the payload cannot be written as JSON: {error}")))
    }

    fn inserted(&mut self, _oplog: &Oplog, op: &Op) {
        let key = op.key();
        if self.reducer.is_removable()
            && let Some(seen) = removal::seen(op)
        {
            self.removals.insert(key, seen);
        }
        if !self.removals.is_empty() {
            if self.dirty.as_ref().is_none_or(|dirty| key < dirty.key()) {
                self.dirty = Some(op.clone());
            }
            self.view = None;
            return;
        }
        if self.dirty.as_ref().is_some_and(|dirty| dirty.key() < key) {
            return;
        }
        let payload = Self::parse(op);
        if self.dirty.is_none() && self.last.as_ref().is_none_or(|last| last.key() < key) {
            self.apply(op, payload);
            self.keep_snapshot();
            return;
        }
        let commutes = payload.as_ref().map_or(true, |payload| self.reducer.commutes(payload));
        if self.dirty.is_none() && commutes && self.last_fixed.as_ref().is_none_or(|fixed| fixed.key() < key) {
            self.snapshots.retain(|kept| kept.last.key() < key);
            self.apply(op, payload);
            return;
        }
        self.dirty = Some(op.clone());
        self.view = None;
    }

    fn rebase(&mut self, base: Option<&Checkpoint>) {
        *self = Self::new(self.reducer.clone());
        match base.map(|base| (self.read_base(base), base)) {
            Some((Ok(state), base)) => {
                self.state = state.clone();
                self.base = Some(Box::new((state, base.digest)));
            }
            Some((Err(trouble), _)) => self.trouble = Some(trouble),
            None => {}
        }
    }

    fn distrust(&mut self, why: String) {
        self.rebase(None);
        self.trouble = Some(why);
    }

    fn reducer(&self) -> &str {
        self.reducer.name()
    }

    fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    fn view(&mut self, oplog: &Oplog) -> Arc<Value> {
        self.settle(oplog);
        self.view.get_or_insert_with(|| Arc::new(self.reducer.view(&self.state))).clone()
    }

    fn state(&mut self, oplog: &Oplog) -> Result<Folded, String> {
        if let Some(trouble) = &self.trouble {
            return Err(trouble.clone());
        }
        self.settle(oplog);
        let name = self.reducer.name();
        let reducer = TypeName::parse(name).map_err(|error| format!("the reducer's name {name}: {error}"))?;
        Ok(Folded { reducer, version: self.reducer.version(), state: self.reducer.encode_state(&self.state) })
    }

    fn unreadable(&mut self, oplog: &Oplog) -> BTreeMap<Sha, String> {
        self.settle(oplog);
        self.unreadable.clone()
    }
}

/// One operation as a function over the whole oplog sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Logged {
    /// Which operation it is.
    pub meta: Meta,
    /// What it carries.
    pub payload: Value,
}

/// A [`Kind`] that computes the value from the whole oplog each time, as GiG.fs does. Intents are logged as they are.
pub struct Function<F>(Arc<F>);

impl<F: Fn(&[Logged]) -> Value + Send + Sync + 'static> Function<F> {
    /// Wraps a pure function of the operations in the order of replay.
    pub fn new(function: F) -> Self {
        Self(Arc::new(function))
    }
}

impl<F: Fn(&[Logged]) -> Value + Send + Sync + 'static> Kind for Function<F> {
    fn fold(&self) -> Box<dyn Fold> {
        Box::new(FunctionFold { function: self.0.clone(), view: None, trouble: None })
    }
}

struct FunctionFold<F> {
    function: Arc<F>,
    view: Option<Arc<Value>>,
    trouble: Option<String>,
}

impl<F: Fn(&[Logged]) -> Value + Send + Sync> Fold for FunctionFold<F> {
    fn prepare(&mut self, _: &Oplog, intent: &Value, _: &Author) -> Result<Value, IntentError> {
        Ok(intent.clone())
    }

    fn inserted(&mut self, _: &Oplog, _: &Op) {
        self.view = None;
    }

    fn rebase(&mut self, base: Option<&Checkpoint>) {
        self.view = None;
        self.trouble = base.map(|base| {
            format!(
                "the log was pruned by the reducer {}, and a function over the whole oplog is registered",
                base.reducer
            )
        });
    }

    fn distrust(&mut self, why: String) {
        self.rebase(None);
        self.trouble = Some(why);
    }

    fn reducer(&self) -> &str {
        "function"
    }

    fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    fn state(&mut self, _: &Oplog) -> Result<Folded, String> {
        Err("a function over the whole oplog keeps no state, so its logs are never pruned".to_owned())
    }

    fn view(&mut self, oplog: &Oplog) -> Arc<Value> {
        let compute = || {
            let plain = |op: &Op| json::parse_canonical(op.content().ok()?).ok();
            let removals = oplog.iter().filter_map(|op| Some((op.key(), removal::seen(op)?)));
            let removals: BTreeMap<OrderKey, Seen> = removals.collect();
            let removed = removal::removed(oplog, removals.iter());
            let kept = |op: &&Op| !removed.contains(&op.sha()) && !removals.contains_key(&op.key());
            let logged = |op: &Op| Some(Logged { meta: Meta::from(op), payload: plain(op)? });
            Arc::new((self.function)(&oplog.iter().filter(kept).filter_map(logged).collect::<Vec<_>>()))
        };
        self.view.get_or_insert_with(compute).clone()
    }

    fn unreadable(&mut self, oplog: &Oplog) -> BTreeMap<Sha, String> {
        oplog.iter().filter_map(|op| Some((op.sha(), op.content().err()?))).collect()
    }
}

#[cfg(test)]
mod tests;
