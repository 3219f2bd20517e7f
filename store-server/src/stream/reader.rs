//! The reading part of a stream: requests in, each to where it is done.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{Message as Socketed, WebSocket};
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, SplitStream};
use futures_util::{FutureExt as _, StreamExt as _};
use gigfs_core::limits::{MESSAGE_BYTES_MAX, STREAM_PLACES_MAX};
use gigfs_core::token::Permission;
use gigfs_core::wire::{ClientMessage, LogRef, ServerMessage, Tag, Which, WireOp};
use gigfs_core::{ErrorCode, LogName, Refusal, Sha};
use gigfs_storage::Engine;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use super::pruning::Decision;
use super::watch::Order;
use super::{Context, Gone, read};
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
    let mut under_way = FuturesUnordered::new();
    let expiry = tokio::time::sleep_until(expires(&context));
    tokio::pin!(expiry);
    loop {
        tokio::select! {
            () = end.cancelled.cancelled() => return,
            () = context.store.inner.stopping.cancelled() => break,
            () = &mut expiry => return end.because(access::expired()),
            Some(()) = under_way.next() => {}
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
                let taking = take(&context, message, permit, &requests);
                tokio::pin!(taking);
                let taken = loop {
                    tokio::select! {
                        () = end.cancelled.cancelled() => return,
                        taken = &mut taking => break taken,
                        // It may wait for room that these have.
                        Some(()) = under_way.next() => {}
                    }
                };
                match taken {
                    Ok(Taken::Queued) => {}
                    Ok(Taken::UnderWay(work)) => under_way.push(work),
                    Ok(Taken::Renewed) => expiry.as_mut().reset(expires(&context)),
                    Err(Gone) => return,
                }
            }
        }
    }
    // The server stops: what was asked is still answered.
    let answered = async {
        let all = requests.places.acquire_many(STREAM_PLACES_MAX as u32);
        tokio::pin!(all);
        loop {
            tokio::select! {
                _ = &mut all => return,
                Some(()) = under_way.next() => {}
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
    UnderWay(BoxFuture<'static, ()>),
    Renewed,
}

async fn take(
    context: &Arc<Context>,
    message: ClientMessage,
    mut permit: OwnedSemaphorePermit,
    requests: &Requests,
) -> Result<Taken, Gone> {
    match message {
        ClientMessage::Push { tag, log, ops, beyond } => match paced(context, ops, &mut permit, requests).await {
            Err(refusal) => context.fail(tag, refusal, permit).await?,
            Ok(ops) => return push(context, tag, log, ops, beyond, permit, requests).await,
        },
        ClientMessage::Get { tag, log, after, base } => {
            return Ok(Taken::UnderWay(read::get(context.clone(), tag, log, after, base, permit).boxed()));
        }
        ClientMessage::Inventory { tag, log, which: Which::Live } => {
            return Ok(Taken::UnderWay(read::inventory(context.clone(), tag, log, permit).boxed()));
        }
        ClientMessage::Inventory { tag, log, which: Which::Covered } => {
            return Ok(Taken::UnderWay(read::covered(context.clone(), tag, log, permit).boxed()));
        }
        ClientMessage::List { tag, prefix, after } => {
            return Ok(Taken::UnderWay(read::list(context.clone(), tag, prefix, after, permit).boxed()));
        }
        ClientMessage::Retained { tag, log } => {
            return Ok(Taken::UnderWay(read::retained(context.clone(), tag, log, permit).boxed()));
        }
        ClientMessage::Checkpoint { tag, log, sha, record, epoch } => {
            return decide(context, tag, log, Decision::Acknowledge { sha, record, epoch }, permit).await;
        }
        ClientMessage::Install { tag, log, base, instead_of } => {
            return decide(context, tag, log, Decision::Install { base, instead_of }, permit).await;
        }
        ClientMessage::Cover { tag, log, base, shas } => {
            return decide(context, tag, log, Decision::Cover { base, shas }, permit).await;
        }
        ClientMessage::Name { tag, log, sealed } => {
            return Ok(Taken::UnderWay(read::name(context.clone(), tag, log, sealed, permit).boxed()));
        }
        ClientMessage::Dispute { tag, log, base } => {
            return decide(context, tag, log, Decision::Dispute { base }, permit).await;
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
                context.answer(ServerMessage::Renewed { tag }, permit).await?;
                return Ok(Taken::Renewed);
            }
            Err(refusal) => context.fail(tag, refusal, permit).await?,
        },
    }
    Ok(Taken::Queued)
}

/// Waits until the session may push so many operations, and until there is a place for each of their results.
async fn paced(
    context: &Context,
    ops: Vec<WireOp>,
    permit: &mut OwnedSemaphorePermit,
    requests: &Requests,
) -> Result<Vec<WireOp>, Refusal> {
    push::check_count(ops.len())?;
    context.used.wait_for(ops.len()).await;
    let others = ops.len().saturating_sub(1) as u32;
    let places = requests.places.clone().acquire_many_owned(others).await.map_err(|_| refusal::stopping())?;
    permit.merge(places);
    Ok(ops)
}

async fn push(
    context: &Context,
    tag: Tag,
    log: LogRef,
    ops: Vec<WireOp>,
    beyond: Option<Sha>,
    permit: OwnedSemaphorePermit,
    requests: &Requests,
) -> Result<Taken, Gone> {
    match admit(context, &log, ops, beyond).await {
        Ok(admitted) if admitted.appends.is_empty() => {
            let results = admitted.finish([]);
            context.store.inner.metrics.results(&results);
            context.answer(ServerMessage::Pushed { tag, results }, permit).await?;
        }
        Ok(admitted) => {
            let reply = Reply::Stream(requests.answer.clone(), tag, permit);
            if let Err(refusal) = context.store.inner.commits.push(admitted, reply).await {
                context.end.because(refusal);
                return Err(Gone);
            }
        }
        Err(refusal) => context.fail(tag, refusal, permit).await?,
    }
    Ok(Taken::Queued)
}

/// Has something decided about a log's base, once there is room for it.
async fn decide(
    context: &Arc<Context>,
    tag: Tag,
    log: LogRef,
    decision: Decision,
    permit: OwnedSemaphorePermit,
) -> Result<Taken, Gone> {
    let log = log.log(&context.user, &context.channel);
    let room = match decision.check(context) {
        Ok(()) => context.store.inner.bases.room(decision.bytes()).await,
        Err(refusal) => Err(refusal),
    };
    match room {
        Ok(room) => Ok(Taken::UnderWay(decision.make(context.clone(), tag, log, room, permit).boxed())),
        Err(refusal) => context.fail(tag, refusal, permit).await.map(|()| Taken::Queued),
    }
}

async fn admit(
    context: &Context,
    log: &LogRef,
    ops: Vec<WireOp>,
    beyond: Option<Sha>,
) -> Result<push::Admitted, Refusal> {
    context.end.token().allows(Permission::Write)?;
    let log = log.log(&context.user, &context.channel);
    let bytes: usize = ops.iter().map(|op| op.record.len()).sum();
    let admit = move |log: &LogName| push::admit_records(log, &ops, beyond, clock::date());
    let mut admitted = match bytes <= ADMITTED_INLINE_BYTES_MAX {
        true => admit(&log),
        false => {
            let log = log.clone();
            context.store.blocking(move |_| Ok(admit(&log))).await?
        }
    };
    if admitted.ahead.is_empty() {
        return Ok(admitted);
    }
    let look_up = move |engine: &dyn Engine| admitted.look_up(&log, engine).map(|()| admitted);
    context.store.read(look_up).await
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
    inner.access.end_if_revoked(&context.end);
    Ok(())
}

/// Returns when the stream's token runs out.
fn expires(context: &Context) -> Instant {
    let left = context.end.token().claims.exp.saturating_sub(clock::seconds());
    Instant::now() + Duration::from_secs(left)
}

/// Without a frame for so long, pongs included, the client is gone.
const SILENCE_MAX: Duration = Duration::from_secs(45);
/// For answers that are under way when the server stops.
const LAST_ANSWERS_MAX: Duration = Duration::from_secs(3);
/// Bytes of records that are admitted without leaving the stream's own thread.
const ADMITTED_INLINE_BYTES_MAX: usize = 64 * 1024;
