//! What a push becomes before it is committed: each operation admitted or refused, on its own.

use std::convert::Infallible;

use gigfs_core::api::{OpJson, PushResult};
use gigfs_core::limits::PUSH_OPS_MAX;
use gigfs_core::wire::WireOp;
use gigfs_core::{Date, ErrorCode, LogName, Payload, Refusal, Sha, admit, refuse_unsigned, unsigned};
use gigfs_storage::{Append, Engine, StorageError};

/// A push with the results that are known already; the commit fills in the others, in order.
#[derive(Debug, Default)]
pub(crate) struct Admitted {
    pub(crate) appends: Vec<Append>,
    pub(crate) results: Vec<Option<PushResult>>,
    /// Operations that were refused for their dates alone, each with its place among the results.
    pub(crate) ahead: Vec<(usize, Sha)>,
}

impl Admitted {
    fn add(&mut self, sha: Option<Sha>, append: Result<Append, Refusal>) {
        if let (Err(refusal), Some(sha)) = (&append, sha)
            && refusal.code == ErrorCode::ClockAhead
        {
            self.ahead.push((self.results.len(), sha));
        }
        match append {
            Ok(append) => {
                self.appends.push(append);
                self.results.push(None);
            }
            Err(refusal) => self.results.push(Some(PushResult::Refused(refusal))),
        }
    }

    /// Looks up what was refused for its date: the store may have it all the same, since its clock was right once, or
    /// have it covered. That comes first, or its author would date it again and it would be there twice.
    ///
    /// # Errors
    /// [`StorageError`] if the data cannot be read.
    pub(crate) fn look_up(&mut self, log: &LogName, engine: &dyn Engine) -> Result<(), StorageError> {
        for (at, sha) in std::mem::take(&mut self.ahead) {
            if engine.find(log, &sha)?.is_some() {
                self.results[at] = Some(PushResult::Known { sha });
            } else if engine.is_covered(log, &sha)? {
                self.results[at] = Some(PushResult::Covered { sha });
            }
        }
        Ok(())
    }

    /// Returns the log that is written to, if anything is.
    pub(crate) fn log(&self) -> Option<&LogName> {
        self.appends.first().map(Append::log)
    }

    /// Returns about how many bytes wait to be written.
    pub(crate) fn size(&self) -> usize {
        self.appends.iter().map(Self::size_of).sum()
    }

    /// Returns about how many bytes an append writes.
    pub(crate) fn size_of(append: &Append) -> usize {
        match append {
            Append::Op { op, .. } | Append::Vouched { op, .. } => op.size(),
            Append::Stamp { payload, .. } => payload.bytes().len() + STAMP_BYTES,
        }
    }

    /// Takes those appends out for which there is a result already.
    ///
    /// # Errors
    /// Those of `decide`; the rest is as it was then.
    pub(crate) fn refuse_some<E>(
        &mut self,
        mut decide: impl FnMut(&Append) -> Result<Option<PushResult>, E>,
    ) -> Result<(), E> {
        let decided = self.appends.iter().map(&mut decide).collect::<Result<Vec<_>, E>>()?;
        let mut of_appends = decided.iter();
        for result in self.results.iter_mut().filter(|result| result.is_none()) {
            *result = of_appends.next().cloned().flatten();
        }
        let mut of_appends = decided.iter();
        self.appends.retain(|_| of_appends.next().is_none_or(Option::is_none));
        Ok(())
    }

    /// Refuses, where something was refused, what nothing vouches for that is left ([`unsigned`]).
    pub(crate) fn refuse_unsigned(&mut self) {
        if !self.results.iter().flatten().any(|result| matches!(result, PushResult::Refused(_))) {
            return;
        }
        let unsigned = unsigned(self.appends.iter().filter_map(Append::op));
        let decide = |append: &Append| {
            let is_unsigned = append.op().is_some_and(|op| unsigned.contains(&op.sha()));
            Ok::<_, Infallible>(is_unsigned.then(|| PushResult::Refused(refuse_unsigned())))
        };
        let Ok(()) = self.refuse_some(decide);
    }

    /// Returns the results once the appends have these.
    pub(crate) fn finish(self, committed: impl IntoIterator<Item = PushResult>) -> Vec<PushResult> {
        let mut committed = committed.into_iter();
        let fill = |result: Option<PushResult>| result.or_else(|| committed.next());
        self.results.into_iter().filter_map(fill).collect()
    }
}

/// Bytes of what the store adds to a payload that it stamps, at least.
const STAMP_BYTES: usize = 64;

/// Refuses a push of too many operations as a whole.
pub(crate) fn check_count(ops: usize) -> Result<(), Refusal> {
    if ops <= PUSH_OPS_MAX {
        return Ok(());
    }
    let message = format!("the push has {ops} operations and the limit is {PUSH_OPS_MAX}");
    Err(Refusal::new(ErrorCode::TooLarge, message).hint("send them in several pushes"))
}

/// Admits operations as they come over the stream, from a client that knows that `beyond` does not cover them, if there is
/// such a base.
pub(crate) fn admit_records(log: &LogName, ops: &[WireOp], beyond: Option<Sha>, now: Date) -> Admitted {
    let mut admitted = Admitted::default();
    let append = |op| match beyond {
        Some(base) => Append::Vouched { log: log.clone(), op, base },
        None => Append::Op { log: log.clone(), op },
    };
    for op in ops {
        admitted.add(Some(op.sha), admit(log, op, now).map(append));
    }
    admitted.refuse_unsigned();
    admitted
}

/// Admits operations in JSON; the store stamps those that their author left to it.
pub(crate) fn admit_json(log: &LogName, ops: &[OpJson], now: Date) -> Admitted {
    let mut admitted = Admitted::default();
    for op in ops {
        admitted.add(op.sha, admit_one(log, op, now));
    }
    admitted
}

fn admit_one(log: &LogName, op: &OpJson, now: Date) -> Result<Append, Refusal> {
    let invalid = |sentence: String| Refusal::new(ErrorCode::InvalidOp, sentence);
    if !op.is_unstamped() {
        let (draft, sha, signature) = op.stamped().map_err(invalid)?;
        let op = WireOp { sha, record: draft.to_record(signature.as_ref()).into() };
        return admit(log, &op, now).map(|op| Append::Op { log: log.clone(), op });
    }
    match op.payload().map_err(invalid)? {
        payload @ Payload::Plain(_) if op.signature.is_none() => {
            Ok(Append::Stamp { log: log.clone(), payload, wall: now })
        }
        Payload::Plain(_) => {
            Err(invalid("an operation that the store is to stamp cannot be signed already".to_owned()))
        }
        Payload::Sealed { .. } => {
            let sentence = "a sealed operation must be stamped by its author, because the seal covers the stamp";
            Err(invalid(sentence.to_owned()).hint("send \"actor\", \"seq\", \"date\", \"deps\" and \"sha\" with it"))
        }
    }
}
