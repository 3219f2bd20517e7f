//! A store's side of pruning, over its engine: keeping and judging checkpoints, and installing what was committed.
//!
//! What is decided here is decided the same way by the store server and in the simulator. The rule itself is
//! [`gigfs_core::commit`]; nothing here is written before the caller commits it.

use bytes::Bytes;
use gigfs_core::commit;
use gigfs_core::limits::{CANDIDATES_MAX, READ_BYTES_MAX, READ_OPS_MAX};
use gigfs_core::token::CertificateClaims;
use gigfs_core::wire::WireBase;
use gigfs_core::{Base, BaseId, Checkpoint, Date, Draft, ErrorCode, LogName, Refusal, Sha};

use crate::engine::{Batch, Engine, Install, StorageError};

/// What a store says to a request: its own no, or what is to be committed.
pub type Decided<T> = Result<Result<T, Refusal>, StorageError>;

/// Returns what an operation that is live in a log depends on, if it is.
fn deps(engine: &dyn Engine, log: &LogName, sha: &Sha) -> Result<Option<Vec<Sha>>, StorageError> {
    let Some(stored) = engine.find(log, sha)? else { return Ok(None) };
    match Draft::from_record(&stored.record) {
        Ok((draft, _)) => Ok(Some(draft.deps)),
        Err(error) => Err(StorageError::Damaged {
            place: log.to_string(),
            what: format!("the operation {sha}"),
            why: error.to_string(),
        }),
    }
}

/// Judges a checkpoint, and returns what is to be on disk before the store acknowledges it: the checkpoint itself, beside
/// those that others proposed on the same base.
///
/// # Errors
/// The outer one if the data cannot be read. The [`Refusal`] says why the store will not acknowledge it.
pub fn judge(engine: &dyn Engine, log: &LogName, sha: Sha, record: &Bytes, now: Date) -> Decided<(Checkpoint, Batch)> {
    let checkpoint = match Checkpoint::from_record(log, record, sha) {
        Ok((checkpoint, _)) => checkpoint,
        Err(error) => return Ok(Err(Refusal::new(ErrorCode::InvalidOp, error.to_string()))),
    };
    let base = engine.tail(log)?.and_then(|tail| tail.header.base);
    if let Err(refusal) = commit::acknowledge(&checkpoint, base.as_ref(), now, |sha| deps(engine, log, sha))? {
        return Ok(Err(refusal));
    }
    let mut notes = vec![(candidate(log, &sha), Some(dated(now, record)))];
    let others = engine.notes(&candidates(log))?;
    let others: Vec<&(Bytes, Bytes)> = others.iter().filter(|(key, _)| *key != notes[0].0).collect();
    if others.len() >= CANDIDATES_MAX {
        let oldest = others.iter().min_by_key(|(_, value)| date_of(value));
        match oldest.filter(|(_, value)| now.since(date_of(value)) > CANDIDATE_MICROS) {
            Some((key, _)) => notes.push((key.clone(), None)),
            None => {
                let message = format!("{CANDIDATES_MAX} other checkpoints of the log wait for the table already");
                return Ok(Err(Refusal::new(ErrorCode::TooMany, message).hint("try again later")));
            }
        }
    }
    Ok(Ok((checkpoint, Batch { notes, ..Batch::default() })))
}

/// Decides what to write so that a committed checkpoint, whose certificate was checked, is the log's base. Nothing, if the
/// log has it, or a later one. What is to be written is to be committed, and this asked again until there is nothing: what
/// the first batch makes live again, the second may cover.
///
/// # Errors
/// The outer one if the data cannot be read. The [`Refusal`] is `missing_ops` if the record did not come with it and is not
/// among those that the store has acknowledged; `foreign_base` if the log's base covers what this one does not, and
/// `instead_of` does not say that it is to go all the same; or says what is wrong with the checkpoint.
pub fn install(
    engine: &dyn Engine,
    log: &LogName,
    base: &WireBase,
    instead_of: Option<Sha>,
    now: Date,
) -> Decided<Option<Batch>> {
    let before = engine.tail(log)?.and_then(|tail| tail.header.base);
    let mut base = base.clone();
    if base.record.is_empty() {
        let named = CertificateClaims::unverified(&base.certificate)
            .map(|claims| BaseId { generation: claims.generation, sha: base.sha });
        if before.is_some_and(|before| named.is_ok_and(|named| before.id >= named)) {
            return Ok(Ok(None));
        }
        let Some(kept) = engine.note(&candidate(log, &base.sha))? else {
            let message = format!("the checkpoint {} is not here; send its record", base.sha);
            return Ok(Err(Refusal::new(ErrorCode::MissingOps, message).hint("send the record with it")));
        };
        base.record = kept.slice(DATE_BYTES.min(kept.len())..);
    }
    let checkpoint = match base.open(log) {
        Ok(checkpoint) => checkpoint,
        Err(why) => return Ok(Err(Refusal::new(ErrorCode::InvalidOp, why))),
    };
    let id = BaseId { generation: checkpoint.generation, sha: base.sha };
    if before.is_some_and(|before| before.id >= id) {
        return Ok(Ok(None));
    }
    let foreign = engine
        .base(log)?
        .filter(|own| Checkpoint::from_trusted(&own.record).is_ok_and(|own| !checkpoint.covers.includes(&own.covers)));
    if let Some(own) = foreign {
        if instead_of != Some(own.sha) {
            let message = format!("the log's base {} covers what this checkpoint does not", own.sha);
            return Ok(Err(Refusal::new(ErrorCode::ForeignBase, message).hint("keep a copy of its state first")));
        }
        // What only the other history covers, and is still kept, is late in this one.
        return Ok(Ok(Some(Batch { restores: vec![log.clone()], ..Batch::default() })));
    }
    let on_parent =
        checkpoint.parent == before.map(|before| before.id.sha) && before.is_none_or(|before| before.complete);
    let known = before.map(|before| before.covered).unwrap_or_default();
    let covered = checkpoint.follow(on_parent, known, |sha| deps(engine, log, sha))?;
    let drop = |(key, _): (Bytes, Bytes)| (key, None);
    Ok(Ok(Some(Batch {
        installs: vec![Install {
            log: log.clone(),
            base: Base { sha: base.sha, record: base.record, certificate: base.certificate },
            covered: covered.into_iter().collect(),
            retain: true,
            at: now,
        }],
        notes: engine.notes(&candidates(log))?.into_iter().map(drop).collect(),
        ..Batch::default()
    })))
}

/// Decides what to write when somebody tells what a log's base covers.
///
/// # Errors
/// The outer one if the data cannot be read; `stale_base` if the log has another base.
pub fn cover(engine: &dyn Engine, log: &LogName, base: Sha, shas: Vec<Sha>, now: Date) -> Decided<Batch> {
    let Some(own) = engine.base(log)?.filter(|own| own.sha == base) else { return Ok(Err(another_base(base))) };
    let install = Install { log: log.clone(), base: own, covered: shas, retain: true, at: now };
    Ok(Ok(Batch { installs: vec![install], ..Batch::default() }))
}

/// Decides what to write when somebody disputes a log's base.
///
/// # Errors
/// The outer one if the data cannot be read; `stale_base` if the log has another base.
pub fn dispute(engine: &dyn Engine, log: &LogName, base: Sha) -> Decided<Batch> {
    match engine.base(log)?.is_some_and(|own| own.sha == base) {
        true => Ok(Ok(Batch { disputes: vec![(log.clone(), base)], ..Batch::default() })),
        false => Ok(Err(another_base(base))),
    }
}

/// Returns the base that a reader who has `known` is to be sent.
///
/// # Errors
/// [`StorageError`] if the data cannot be read.
pub fn base_for(engine: &dyn Engine, log: &LogName, known: Option<BaseId>) -> Result<Option<Base>, StorageError> {
    let own = engine.tail(log)?.and_then(|tail| tail.header.base);
    match own.is_some_and(|own| Some(own.id) > known) {
        true => engine.base(log),
        false => Ok(None),
    }
}

/// Returns what the oldest retained operation of a log came on top of.
///
/// # Errors
/// [`StorageError`] if the data cannot be read.
pub fn under_retained(engine: &dyn Engine, log: &LogName) -> Result<Option<Base>, StorageError> {
    let mut oldest: Option<u64> = None;
    let mut after = 0;
    loop {
        let page = crate::engine::Page { ops: READ_OPS_MAX, bytes: READ_BYTES_MAX };
        let retained = engine.retained(log, after, page)?;
        let Some((_, last)) = retained.last() else { break };
        after = last.index;
        oldest = retained.iter().map(|(generation, _)| *generation).chain(oldest).min();
    }
    match oldest {
        Some(generation) if generation > 1 => engine.base_of(log, generation - 1),
        _ => Ok(None),
    }
}

fn another_base(base: Sha) -> Refusal {
    Refusal::new(ErrorCode::StaleBase, format!("the log's base is not {base}")).hint("read the log again")
}

/// Tells whether a store keeps this checkpoint already, as one that waits to be committed.
///
/// # Errors
/// [`StorageError`] if the data cannot be read.
pub fn is_kept(engine: &dyn Engine, log: &LogName, sha: &Sha) -> Result<bool, StorageError> {
    Ok(engine.note(&candidate(log, sha))?.is_some())
}

/// Begins the keys of the notes that hold checkpoints which wait; the user's name follows, and a zero byte. // persisted
pub const CANDIDATES: &str = "candidate/";

/// `candidate/` log → the checkpoints that the store has acknowledged and that are not committed as far as it knows.
fn candidates(log: &LogName) -> Vec<u8> {
    let LogName { user, channel, kind, path } = log;
    format!("{CANDIDATES}{user}\0{channel}\0{kind}\0{path}\0").into_bytes()
}

fn candidate(log: &LogName, sha: &Sha) -> Bytes {
    [&candidates(log)[..], sha.as_bytes()].concat().into()
}

fn dated(now: Date, record: &[u8]) -> Bytes {
    [&now.micros().to_be_bytes()[..], record].concat().into()
}

fn date_of(value: &[u8]) -> Date {
    Date::saturating(value.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes)))
}

const DATE_BYTES: usize = 8;
/// How long a checkpoint that nobody had committed keeps its place against others, in microseconds.
const CANDIDATE_MICROS: u64 = 600 * 1_000_000;
