//! The reading part of a stream: requests in, each to where it is done.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{Message as Socketed, WebSocket};
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, SplitStream};
use futures_util::{FutureExt as _, StreamExt as _};
use gigfs_core::limits::{
    INVENTORY_SHAS_MAX, LIST_LOGS_MAX, MESSAGE_BYTES_MAX, READ_BYTES_MAX, READ_OPS_MAX, STREAM_REQUESTS_MAX,
};
use gigfs_core::token::Permission;
use gigfs_core::wire::{ClientMessage, LogRef, ServerMessage, Tag, WireOp};
use gigfs_core::{ErrorCode, LogName, PathPrefix, Refusal};
use gigfs_storage::Page;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use super::watch::Order;
use super::{Context, Outgoing};
use crate::commit::{Answer, Reply};
use crate::{access, clock, push, refusal};

/// Where requests go.
pub(super) struct Requests {
    pub(super) answer: mpsc::Sender<Answer>,
    pub(super) order: mpsc::Sender<Order>,
    /// A place for each request that may be unanswered.
    pub(super) places: Arc<Semaphore>,
}

/// Takes requests until the stream ends.
pub(super) async fn run(context: Arc<Context>, mut source: SplitStream<WebSocket>, requests: Requests) {
    let end = context.end.clone();
    let mut reads = FuturesUnordered::new();
    let expiry = tokio::time::sleep_until(expires(&context));
    tokio::pin!(expiry);
    loop {
        tokio::select! {
            () = end.cancelled.cancelled() => return,
            () = context.store.inner.stopping.cancelled() => break,
            () = &mut expiry => return end.because(access::expired()),
            Some(()) = reads.next() => {}
            next = next(&mut source, &requests.places) => {
                let (frame, permit) = match next {
                    Ok(Some(next)) => next,
                    Ok(None) => return end.quietly(),
                    Err(refusal) => return end.because(refusal),
                };
                let message = match context.encoding.decode(&frame) {
                    Ok(Some(message)) => message,
                    Ok(None) => continue,
                    Err(error) => return end.because(Refusal::new(ErrorCode::BadRequest, error.to_string())),
                };
                let taken = tokio::select! {
                    () = end.cancelled.cancelled() => return,
                    taken = take(&context, message, permit, &requests) => taken,
                };
                match taken {
                    Ok(Taken::Queued) => {}
                    Ok(Taken::Read(read)) => reads.push(read),
                    Ok(Taken::Renewed) => expiry.as_mut().reset(expires(&context)),
                    Err(Gone) => return,
                }
            }
        }
    }
    // The server stops: what was asked is still answered.
    let answered = async {
        let all = requests.places.acquire_many(STREAM_REQUESTS_MAX as u32);
        tokio::pin!(all);
        loop {
            tokio::select! {
                _ = &mut all => return,
                Some(()) = reads.next() => {}
            }
        }
    };
    tokio::select! {
        () = end.cancelled.cancelled() => {}
        _ = tokio::time::timeout(LAST_ANSWERS_MAX, answered) => end.because(refusal::stopping()),
    }
}

/// Waits for a place and then for a frame. Nothing if the client has left.
async fn next(
    source: &mut SplitStream<WebSocket>,
    places: &Arc<Semaphore>,
) -> Result<Option<(Socketed, OwnedSemaphorePermit)>, Refusal> {
    let Ok(permit) = places.clone().acquire_owned().await else { return Ok(None) };
    match tokio::time::timeout(SILENCE_MAX, source.next()).await {
        Ok(Some(Ok(Socketed::Close(_))) | None) => Ok(None),
        Ok(Some(Ok(frame))) => Ok(Some((frame, permit))),
        Ok(Some(Err(error))) if is_too_long(&error) => {
            let message = format!("a message is longer than the limit of {MESSAGE_BYTES_MAX} bytes");
            Err(Refusal::new(ErrorCode::TooLarge, message).hint("send it in several messages"))
        }
        Ok(Some(Err(_))) => Ok(None),
        Err(_) => {
            let message = format!("nothing was heard for {} s", SILENCE_MAX.as_secs());
            Err(Refusal::new(ErrorCode::Unavailable, message).hint("connect again"))
        }
    }
}

/// The library's error is not of a type that this crate can name.
fn is_too_long(error: &axum::Error) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if error.to_string().contains("too long") {
            return true;
        }
        cause = error.source();
    }
    false
}

enum Taken {
    Queued,
    Read(BoxFuture<'static, ()>),
    Renewed,
}

/// The stream is ending.
struct Gone;

async fn take(
    context: &Arc<Context>,
    message: ClientMessage,
    permit: OwnedSemaphorePermit,
    requests: &Requests,
) -> Result<Taken, Gone> {
    match message {
        ClientMessage::Push { tag, log, ops } => match admit(context, &log, ops).await {
            Ok(admitted) if admitted.appends.is_empty() => {
                let results = admitted.finish([]);
                context.store.inner.metrics.results(&results);
                send(context, ServerMessage::Pushed { tag, results }, permit).await?;
            }
            Ok(admitted) => {
                let reply = Reply::Stream(requests.answer.clone(), tag, permit);
                if let Err(refusal) = context.store.inner.commits.push(admitted, reply).await {
                    context.end.because(refusal);
                    return Err(Gone);
                }
            }
            Err(refusal) => fail(context, tag, refusal, permit).await?,
        },
        ClientMessage::Get { tag, log, after } => {
            return Ok(Taken::Read(get(context.clone(), tag, log, after, permit).boxed()));
        }
        ClientMessage::Inventory { tag, log } => {
            return Ok(Taken::Read(inventory(context.clone(), tag, log, permit).boxed()));
        }
        ClientMessage::List { tag, prefix, after } => {
            return Ok(Taken::Read(list(context.clone(), tag, prefix, after, permit).boxed()));
        }
        ClientMessage::Watch { tag, watched, after } => {
            let (placed, in_place) = oneshot::channel();
            requests.order.send(Order::Watch { tag, watched, after, permit, placed }).await.map_err(|_| Gone)?;
            // A read that the client asks for next must not end before the watch begins.
            _ = in_place.await;
        }
        ClientMessage::Unwatch { tag } => {
            requests.order.send(Order::Unwatch { tag, permit }).await.map_err(|_| Gone)?;
        }
        ClientMessage::Renew { tag, token } => match renew(context, &token).await {
            Ok(()) => {
                send(context, ServerMessage::Renewed { tag }, permit).await?;
                return Ok(Taken::Renewed);
            }
            Err(refusal) => fail(context, tag, refusal, permit).await?,
        },
    }
    Ok(Taken::Queued)
}

async fn admit(context: &Context, log: &LogRef, ops: Vec<WireOp>) -> Result<push::Admitted, Refusal> {
    context.end.token().allows(Permission::Write)?;
    push::check_count(ops.len())?;
    let log = log.log(&context.user, &context.channel);
    let bytes: usize = ops.iter().map(|op| op.record.len()).sum();
    if bytes <= ADMITTED_INLINE_BYTES_MAX {
        return Ok(push::admit_records(&log, &ops, clock::date()));
    }
    context.store.blocking(move |_| Ok(push::admit_records(&log, &ops, clock::date()))).await
}

async fn renew(context: &Context, text: &str) -> Result<(), Refusal> {
    let inner = &context.store.inner;
    let before = context.end.token();
    let (user, channel) = (&context.user, &context.channel);
    let token = inner.access.pass(&inner.users, text, user, channel, Permission::Read).await?;
    if token.claims.sid != before.claims.sid {
        return Err(Refusal::new(ErrorCode::Forbidden, "the token is for another session")
            .hint("open another stream for another session"));
    }
    context.end.renew(token);
    Ok(())
}

/// Returns when the stream's token runs out.
fn expires(context: &Context) -> Instant {
    let left = context.end.token().claims.exp.saturating_sub(clock::seconds());
    Instant::now() + Duration::from_secs(left)
}

async fn send(context: &Context, message: ServerMessage, permit: OwnedSemaphorePermit) -> Result<(), Gone> {
    context.out.send(Outgoing::last(message, permit)).await.map_err(|_| Gone)
}

async fn fail(context: &Context, tag: Tag, refusal: Refusal, permit: OwnedSemaphorePermit) -> Result<(), Gone> {
    send(context, ServerMessage::Failed { tag, refusal }, permit).await
}

async fn get(context: Arc<Context>, tag: Tag, log: LogRef, mut after: u64, permit: OwnedSemaphorePermit) {
    let _turn = context.reading.acquire().await;
    let log = log.log(&context.user, &context.channel);
    let page = Page { ops: READ_OPS_MAX, bytes: READ_BYTES_MAX };
    loop {
        let log = log.clone();
        let read = context.store.read(move |engine| {
            let header = engine.tail(&log)?.unwrap_or_default().header;
            let ops = engine.read(&log, after, page)?;
            let last = ops.last().map(|last| last.index);
            let more = match last {
                Some(last) => !engine.inventory(&log, last, 1)?.is_empty(),
                None => false,
            };
            let wire = |op: gigfs_storage::StoredOp| (op.index, WireOp { sha: op.sha, record: op.record });
            Ok((ops.into_iter().map(wire).collect::<Vec<_>>(), header, last, more))
        });
        match read.await {
            Ok((ops, header, Some(last), true)) => {
                after = last;
                let part = ServerMessage::Ops { tag, ops, header, more: true };
                if context.out.send(Outgoing::part(part)).await.is_err() {
                    return;
                }
            }
            Ok((ops, header, _, _)) => {
                return drop(send(&context, ServerMessage::Ops { tag, ops, header, more: false }, permit).await);
            }
            Err(refusal) => return drop(fail(&context, tag, refusal, permit).await),
        }
    }
}

async fn inventory(context: Arc<Context>, tag: Tag, log: LogRef, permit: OwnedSemaphorePermit) {
    let _turn = context.reading.acquire().await;
    let log: LogName = log.log(&context.user, &context.channel);
    let mut after = 0;
    loop {
        let log = log.clone();
        let read = context.store.read(move |engine| {
            let header = engine.tail(&log)?.unwrap_or_default().header;
            Ok((engine.inventory(&log, after, INVENTORY_SHAS_MAX)?, header))
        });
        let (found, header) = match read.await {
            Ok(read) => read,
            Err(refusal) => return drop(fail(&context, tag, refusal, permit).await),
        };
        let more = found.len() == INVENTORY_SHAS_MAX;
        after = found.last().map_or(after, |(index, _)| *index);
        let shas = found.into_iter().map(|(_, sha)| sha).collect();
        let message = ServerMessage::Shas { tag, shas, header, more };
        if !more {
            return drop(send(&context, message, permit).await);
        }
        if context.out.send(Outgoing::part(message)).await.is_err() {
            return;
        }
    }
}

async fn list(
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
            drop(send(&context, ServerMessage::Logs { tag, logs, more }, permit).await);
        }
        Err(refusal) => drop(fail(&context, tag, refusal, permit).await),
    }
}

/// Without a frame for so long, pongs included, the client is gone.
const SILENCE_MAX: Duration = Duration::from_secs(45);
/// For answers that are under way when the server stops.
const LAST_ANSWERS_MAX: Duration = Duration::from_secs(3);
/// Bytes of records that are admitted without leaving the stream's own thread.
const ADMITTED_INLINE_BYTES_MAX: usize = 64 * 1024;
