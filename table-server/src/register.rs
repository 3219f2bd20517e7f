//! The register of committed checkpoints: each log's place, moved by the word of all stores of the channel.
//!
//! The rule is [`gigfs_core::commit::Register`]; here are its rows. All that one request asks is decided and written in
//! one transaction, so of two checkpoints on one parent one is committed and the other hears of it. A certificate leaves
//! once its row is on disk. A register stays when a store goes, and goes with its channel, because the data went with
//! the last store; that of a channel made anew begins with what all its stores stand on.

use gigfs_core::api::{CommitBody, CommitResult, CommitResults, Proposal};
use gigfs_core::commit::Register;
use gigfs_core::limits::{CHANNEL_STORES_MAX, COMMIT_LOGS_MAX};
use gigfs_core::token::{AckClaims, Permission};
use gigfs_core::{BaseId, ChannelName, ErrorCode, LogName, Path, Refusal, Seq, Sha, UserName};
use rusqlite::{OptionalExtension as _, Transaction, params};

use crate::ack::{AckError, Witnesses};
use crate::clock;
use crate::db::DatabaseError;
use crate::mount::{self, MountError, MountedSet};
use crate::table::Table;
use crate::user::UserKey;
use crate::visit::{Visit, VisitError};

/// Why a request about the register was not taken up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommitError {
    #[error("the request names {logs} logs and the limit is {COMMIT_LOGS_MAX}")]
    TooManyLogs { logs: usize },
    #[error("the checkpoint of {path} comes with {acks} acknowledgements and the limit is {CHANNEL_STORES_MAX}")]
    TooManyAcks { path: Path, acks: usize },
    #[error(transparent)]
    Visit(#[from] VisitError),
    #[error(transparent)]
    Mount(#[from] MountError),
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// A proposal whose acknowledgements were checked.
struct Checked {
    log: LogName,
    checkpoint: Option<BaseId>,
    parent: Option<Sha>,
    acks: Vec<AckClaims>,
    discounted: Vec<AckError>,
}

/// Where the register of a log stands.
struct Place {
    at: BaseId,
    certificate: String,
}

impl Table {
    /// Commits checkpoints of logs of a channel, or tells where their registers stand, in the order of the request.
    pub(crate) async fn commit(
        &self,
        visit: &Visit,
        channel: &ChannelName,
        body: CommitBody,
    ) -> Result<CommitResults, CommitError> {
        check(&body)?;
        let Visit { owner: user, key, .. } = visit.clone();
        let unknown = MountError::UnknownChannel { user: user.clone(), channel: channel.clone() };
        let (by, place) = (visit.clone(), channel.clone());
        let read = move |tx: &Transaction<'_>| {
            by.allow(tx, &place, Permission::Write)?;
            Ok(Witnesses::read(tx, key, &place)?)
        };
        let witnesses = self.inner.db.read::<_, CommitError>(read).await?.ok_or(unknown)?;
        let place = channel.clone();
        let checked = move || -> Vec<Checked> {
            body.logs.into_iter().map(|proposal| Checked::new(&user, &place, proposal, &witnesses)).collect()
        };
        // Thousands of signatures, at some tens of microseconds each.
        let checked = tokio::task::spawn_blocking(checked).await.map_err(|_| DatabaseError::Closed)?;
        let unknown = MountError::UnknownChannel { user: visit.owner.clone(), channel: channel.clone() };
        let (table, by, channel) = (self.clone(), visit.clone(), channel.clone());
        let decided = self.inner.db.write(move |change| {
            by.allow(&change.tx, &channel, Permission::Write)?;
            let set = mount::set_of(&change.tx, key, &channel)?.ok_or(unknown)?;
            let decide = |proposal| Ok(table.decide(&change.tx, key, &set, proposal)?);
            checked.iter().map(decide).collect::<Result<Vec<_>, CommitError>>()
        });
        let (mut logs, mut outcomes) = (Vec::new(), Vec::new());
        for (result, outcome) in decided.await? {
            logs.push(result);
            outcomes.push(outcome);
        }
        self.inner.metrics.checkpoints_decided(&outcomes);
        Ok(CommitResults { logs })
    }

    /// Decides about one proposal and moves the register. Returns the answer and its name in the figures.
    fn decide(
        &self,
        tx: &Transaction<'_>,
        user: UserKey,
        set: &MountedSet,
        proposal: &Checked,
    ) -> Result<(CommitResult, &'static str), DatabaseError> {
        let place = place(tx, user, &proposal.log)?;
        let (at, certificate) = place.map(|place| (place.at, place.certificate)).unzip();
        let Some(checkpoint) = proposal.checkpoint else {
            return Ok((CommitResult::Standing { certificate, refusal: None }, "asked"));
        };
        let register = Register { log: &proposal.log, at, stores: &set.stores, epoch: set.epoch };
        if let Err(refusal) = register.decide(&checkpoint, proposal.parent, &proposal.acks) {
            let outcome = refusal.code.as_str();
            let refusal = Some(proposal.explain(refusal));
            return Ok((CommitResult::Standing { certificate, refusal }, outcome));
        }
        match certificate {
            Some(certificate) if at == Some(checkpoint) => Ok((CommitResult::Committed { certificate }, "known")),
            _ => {
                let committed = clock::now();
                let certificate = self.inner.identity.certificate(&proposal.log, checkpoint, committed);
                move_to(tx, user, &proposal.log, checkpoint, &certificate, committed)?;
                tracing::debug!(log = ?proposal.log, generation = %checkpoint.generation, "committed");
                Ok((CommitResult::Committed { certificate }, "committed"))
            }
        }
    }
}

impl Checked {
    fn new(user: &UserName, channel: &ChannelName, proposal: Proposal, witnesses: &Witnesses) -> Self {
        let Proposal { kind, path, checkpoint, parent, acks: words } = proposal;
        let log = LogName { user: user.clone(), channel: channel.clone(), kind, path };
        let (mut acks, mut discounted) = (Vec::new(), Vec::new());
        for word in words {
            match witnesses.check(&word) {
                Ok(ack) => acks.push(ack),
                Err(error) => discounted.push(error),
            }
        }
        Self { log, checkpoint, parent, acks, discounted }
    }

    /// Adds to the refusal of a checkpoint that lacks acknowledgements why those that came do not count.
    fn explain(&self, refusal: Refusal) -> Refusal {
        let Some(first) = self.discounted.first().filter(|_| refusal.code == ErrorCode::MissingOps) else {
            return refusal;
        };
        let whys = self.discounted.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        Refusal::new(refusal.code, format!("{}; {whys}", refusal.message)).hint(first.hint())
    }
}

fn check(body: &CommitBody) -> Result<(), CommitError> {
    if body.logs.len() > COMMIT_LOGS_MAX {
        return Err(CommitError::TooManyLogs { logs: body.logs.len() });
    }
    match body.logs.iter().find(|proposal| proposal.acks.len() > CHANNEL_STORES_MAX) {
        Some(Proposal { path, acks, .. }) => Err(CommitError::TooManyAcks { path: path.clone(), acks: acks.len() }),
        None => Ok(()),
    }
}

fn place(tx: &Transaction<'_>, user: UserKey, log: &LogName) -> Result<Option<Place>, DatabaseError> {
    let LogName { channel, kind, path, .. } = log;
    let sql = "SELECT generation, sha, certificate FROM registers
               WHERE user = ?1 AND channel = ?2 AND type = ?3 AND path = ?4";
    let mut query = tx.prepare_cached(sql)?;
    let found = query.query_row(params![user.0, channel.as_str(), kind.as_str(), path.as_str()], |row| {
        let generation: u64 = row.get("generation")?;
        let generation = Seq::new(generation).ok_or(rusqlite::Error::IntegralValueOutOfRange(0, 0))?;
        let at = BaseId { generation, sha: Sha::from_bytes(row.get("sha")?) };
        Ok(Place { at, certificate: row.get("certificate")? })
    });
    Ok(found.optional()?)
}

fn move_to(
    tx: &Transaction<'_>,
    user: UserKey,
    log: &LogName,
    to: BaseId,
    certificate: &str,
    committed: u64,
) -> Result<(), DatabaseError> {
    let LogName { channel, kind, path, .. } = log;
    let (generation, sha) = (to.generation.get(), to.sha.as_bytes());
    tx.prepare_cached(
        "INSERT INTO registers (user, channel, type, path, generation, sha, certificate, committed)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT (user, channel, type, path) DO UPDATE SET generation = excluded.generation, sha = excluded.sha,
             certificate = excluded.certificate, committed = excluded.committed",
    )?
    .execute(params![
        user.0,
        channel.as_str(),
        kind.as_str(),
        path.as_str(),
        generation,
        sha,
        certificate,
        committed
    ])?;
    Ok(())
}
