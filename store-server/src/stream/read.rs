//! The reads of a stream, each answered in parts under one tag. A few at a time have their turn.

use std::sync::Arc;

use bytes::Bytes;
use gigfs_core::limits::{INVENTORY_SHAS_MAX, LIST_LOGS_MAX, MESSAGE_BYTES_MAX, READ_BYTES_MAX, READ_OPS_MAX};
use gigfs_core::token::Permission;
use gigfs_core::wire::{LogRef, ServerMessage, Tag, WireBase, WireOp};
use gigfs_core::{Base, BaseId, ErrorCode, PathPrefix, Refusal, Sha};
use gigfs_storage::{Page, StoredOp, pruning};
use tokio::sync::OwnedSemaphorePermit;

use super::{Context, Encoding};
use crate::name;
use crate::read::{self, Part, Wanted};

/// Answers with a log's operations, and with its base where the client is behind that. If the base changes between two
/// parts, the later part has the new one.
pub(super) async fn get(
    context: Arc<Context>,
    tag: Tag,
    log: LogRef,
    mut after: u64,
    mut known: Option<BaseId>,
    permit: OwnedSemaphorePermit,
) {
    let _turn = context.reading.acquire().await;
    let log = log.log(&context.user, &context.channel);
    loop {
        let log = log.clone();
        let read = context.store.read(move |engine| read::part(engine, &log, after, Wanted::LaterThan(known), PAGE));
        let Part { base, ops, header, more } = match read.await.and_then(|part| fit(&context, part, |part| &part.base))
        {
            Ok(part) => part,
            Err(refusal) => return drop(context.fail(tag, refusal, permit).await),
        };
        if base.is_some() {
            known = header.base.map(|base| base.id);
        }
        after = ops.last().map_or(after, |last| last.index);
        let ops = ops.into_iter().map(|op| (op.index, wire(op))).collect();
        let message = ServerMessage::Ops { tag, base: base.as_ref().map(WireBase::from), ops, header, more };
        if !more {
            return drop(context.answer(message, permit).await);
        }
        if context.part(message).await.is_err() {
            return;
        }
    }
}

/// Answers with the shas of a log's operations.
pub(super) async fn inventory(context: Arc<Context>, tag: Tag, log: LogRef, permit: OwnedSemaphorePermit) {
    let _turn = context.reading.acquire().await;
    let log = log.log(&context.user, &context.channel);
    let mut after = 0;
    loop {
        let log = log.clone();
        let read = context.store.read(move |engine| {
            let header = engine.tail(&log)?.unwrap_or_default().header;
            Ok((engine.inventory(&log, after, INVENTORY_SHAS_MAX)?, header))
        });
        let (found, header) = match read.await {
            Ok(read) => read,
            Err(refusal) => return drop(context.fail(tag, refusal, permit).await),
        };
        let more = found.len() == INVENTORY_SHAS_MAX;
        after = found.last().map_or(after, |(index, _)| *index);
        let shas = found.into_iter().map(|(_, sha)| sha).collect();
        let message = ServerMessage::Shas { tag, shas, header, more };
        if !more {
            return drop(context.answer(message, permit).await);
        }
        if context.part(message).await.is_err() {
            return;
        }
    }
}

/// Answers with the shas that a log's base covers, as far as they are known here.
pub(super) async fn covered(context: Arc<Context>, tag: Tag, log: LogRef, permit: OwnedSemaphorePermit) {
    let _turn = context.reading.acquire().await;
    let log = log.log(&context.user, &context.channel);
    let mut after: Option<Sha> = None;
    loop {
        let log = log.clone();
        let read = context.store.read(move |engine| {
            let header = engine.tail(&log)?.unwrap_or_default().header;
            Ok((engine.covered(&log, after.as_ref(), INVENTORY_SHAS_MAX)?, header))
        });
        let (shas, header) = match read.await {
            Ok(read) => read,
            Err(refusal) => return drop(context.fail(tag, refusal, permit).await),
        };
        let more = shas.len() == INVENTORY_SHAS_MAX;
        after = shas.last().copied().or(after);
        let message = ServerMessage::Shas { tag, shas, header, more };
        if !more {
            return drop(context.answer(message, permit).await);
        }
        if context.part(message).await.is_err() {
            return;
        }
    }
}

/// Answers with what is still kept of what a log's base covers.
pub(super) async fn retained(context: Arc<Context>, tag: Tag, log: LogRef, permit: OwnedSemaphorePermit) {
    let _turn = context.reading.acquire().await;
    let log = log.log(&context.user, &context.channel);
    let name = log.clone();
    let under = context.store.read(move |engine| pruning::under_retained(engine, &name)).await;
    let mut under = match under.and_then(|under| fit(&context, under, |under| under)) {
        Ok(under) => under,
        Err(refusal) => return drop(context.fail(tag, refusal, permit).await),
    };
    let mut after = 0;
    loop {
        let base = under.take();
        // A large base leaves no room for operations beside it.
        let page = base.as_ref().is_none_or(|base| base.record.len() <= READ_BYTES_MAX).then_some(PAGE);
        let log = log.clone();
        let read = context.store.read(move |engine| {
            let ops = page.map_or(Ok(Vec::new()), |page| engine.retained(&log, after, page))?;
            let last = ops.last().map_or(after, |(_, last)| last.index);
            let more = !engine.retained(&log, last, Page { ops: 1, bytes: 0 })?.is_empty();
            Ok((ops, last, more))
        });
        let (ops, last, more) = match read.await {
            Ok(read) => read,
            Err(refusal) => return drop(context.fail(tag, refusal, permit).await),
        };
        after = last;
        let ops = ops.into_iter().map(|(generation, op)| (generation, wire(op))).collect();
        let message = ServerMessage::Retained { tag, base: base.as_ref().map(WireBase::from), ops, more };
        if !more {
            return drop(context.answer(message, permit).await);
        }
        if context.part(message).await.is_err() {
            return;
        }
    }
}

/// Answers with logs by type and path.
pub(super) async fn list(
    context: Arc<Context>,
    tag: Tag,
    prefix: PathPrefix,
    after: Option<LogRef>,
    permit: OwnedSemaphorePermit,
) {
    let _turn = context.reading.acquire().await;
    let (user, channel) = (context.user.clone(), context.channel.clone());
    let read = context.store.read(move |engine| {
        let after = after.as_ref().map(|after| (&after.kind, &after.path));
        engine.list(&user, &channel, &prefix, after, LIST_LOGS_MAX + 1)
    });
    match read.await {
        Ok(mut found) => {
            let more = found.len() > LIST_LOGS_MAX;
            found.truncate(LIST_LOGS_MAX);
            let logs = found.iter().map(|(log, header)| (LogRef::from(log), *header)).collect();
            drop(context.answer(ServerMessage::Logs { tag, logs, more }, permit).await);
        }
        Err(refusal) => drop(context.fail(tag, refusal, permit).await),
    }
}

/// Keeps what a log of a sealed channel is called.
pub(super) async fn name(context: Arc<Context>, tag: Tag, log: LogRef, sealed: Bytes, permit: OwnedSemaphorePermit) {
    let log = log.log(&context.user, &context.channel);
    let kept = match context.end.token().allows(Permission::Write) {
        Ok(()) => context.store.blocking(move |inner| name::keep(inner, &log, sealed)).await,
        Err(refusal) => Err(refusal),
    };
    match kept {
        Ok(()) => drop(context.answer(ServerMessage::Named { tag }, permit).await),
        Err(refusal) => drop(context.fail(tag, refusal, permit).await),
    }
}

fn wire(op: StoredOp) -> WireOp {
    WireOp { sha: op.sha, record: op.record }
}

/// Passes on what has a base that fits in a message; in JSON the largest do not.
fn fit<T>(context: &Context, read: T, base: impl FnOnce(&T) -> &Option<Base>) -> Result<T, Refusal> {
    let bytes = base(&read).as_ref().map_or(0, |base| base.record.len());
    if context.encoding == Encoding::Cbor || bytes / 3 * 4 + BESIDE_BASE_BYTES_MAX <= MESSAGE_BYTES_MAX {
        return Ok(read);
    }
    let message = format!("the log's base has {bytes} bytes, which is too large for a message in JSON");
    Err(Refusal::new(ErrorCode::TooLarge, message).hint("use the subprotocol gigfs.v1.cbor"))
}

/// What one part holds.
const PAGE: Page = Page { ops: READ_OPS_MAX, bytes: READ_BYTES_MAX };
/// Bytes of a message with a large base, beside its record.
const BESIDE_BASE_BYTES_MAX: usize = 16 * 1024;
