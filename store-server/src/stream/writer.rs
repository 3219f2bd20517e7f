//! The writing part of a stream: takes what is ready, writes it as one, and keeps the connection alive.

use std::time::Duration;

use axum::extract::ws::{Message as Socketed, WebSocket};
use futures_util::SinkExt as _;
use futures_util::stream::SplitSink;
use gigfs_core::wire::ServerMessage;
use gigfs_core::{ErrorCode, Refusal};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, timeout};

use super::{Context, Frame, Message, Outgoing, close_frame};
use crate::commit::Answer;

type Sink = SplitSink<WebSocket, Socketed>;

/// Sends until the stream ends, and then says why.
pub(super) async fn run(
    context: &Context,
    mut sink: Sink,
    mut answers: mpsc::Receiver<Answer>,
    mut outgoing: mpsc::Receiver<Outgoing>,
) {
    let end = &context.end;
    let sending = async {
        let mut pings = tokio::time::interval(PING_EVERY);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        pings.tick().await;
        loop {
            let first = tokio::select! {
                Some(answer) = answers.recv() => pushed(context, answer),
                Some(next) = outgoing.recv() => encode(context, next),
                _ = pings.tick() => Socketed::Ping(bytes::Bytes::new()),
            };
            let writing = async {
                sink.feed(first).await?;
                // What else is ready goes out with it; at most so much, so that the time limit means something.
                for _ in 0..FED_AT_ONCE_MAX {
                    let next = match (answers.try_recv(), outgoing.try_recv()) {
                        (Err(_), Err(_)) => break,
                        next => next,
                    };
                    if let Ok(answer) = next.0 {
                        sink.feed(pushed(context, answer)).await?;
                    }
                    if let Ok(message) = next.1 {
                        sink.feed(encode(context, message)).await?;
                    }
                }
                sink.flush().await
            };
            let drain_max = context.store.inner.drain_max;
            match timeout(drain_max, writing).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return end.quietly(),
                Err(_) => {
                    let message = format!("the connection did not take what waits within {} s", drain_max.as_secs());
                    let hint = "connect again, and go on from where you are";
                    return end.because(Refusal::new(ErrorCode::TooSlow, message).hint(hint));
                }
            }
        }
    };
    tokio::select! {
        () = end.cancelled.cancelled() => {}
        () = sending => {}
    }
    let why = end.why.get();
    let goodbye = async {
        if let Some(refusal) = why
            && let Ok(bye) = context.encoding.encode(&ServerMessage::Bye { refusal: refusal.clone() })
        {
            sink.feed(bye.into_message()).await?;
        }
        sink.feed(close_frame(why)).await?;
        sink.flush().await
    };
    // Whoever cannot be told any more is gone already.
    drop(timeout(GOODBYE_MAX, goodbye).await);
}

fn pushed(context: &Context, answer: Answer) -> Socketed {
    let Answer { tag, outcome, permit } = answer;
    let message = match outcome {
        Ok(results) => ServerMessage::Pushed { tag, results },
        Err(refusal) => ServerMessage::Failed { tag, refusal },
    };
    encode(context, Outgoing::last(message, permit))
}

/// Encodes a message and gives back the place of the request that it answers.
fn encode(context: &Context, outgoing: Outgoing) -> Socketed {
    let frame = match outgoing.message {
        Message::Event(frame) => frame,
        Message::Plain(message) => plain(context, &message),
    };
    context.store.inner.metrics.sent_bytes.increment(frame.len() as u64);
    drop((outgoing.permit, outgoing.room));
    frame.into_message()
}

fn plain(context: &Context, message: &ServerMessage) -> Frame {
    match context.encoding.encode(message) {
        Ok(frame) => frame,
        Err(error) => {
            // A record that the engine holds cannot be read. The stream goes no further than that.
            tracing::error!(%error, "a message cannot be written");
            let refusal = Refusal::new(ErrorCode::StorageFailed, "an operation is damaged in this store")
                .hint("read it from another store of the channel");
            context.end.because(refusal.clone());
            let bye = ServerMessage::Bye { refusal };
            context.encoding.encode(&bye).expect("a refusal holds no operation")
        }
    }
}

const PING_EVERY: Duration = Duration::from_secs(15);
const GOODBYE_MAX: Duration = Duration::from_secs(3);
/// Further messages that are written with one flush, of each of the two queues.
const FED_AT_ONCE_MAX: usize = 64;
