//! `GET /user/:user/table/stream`: the epoch of the mount table, now and at each change, as server-sent events.
//!
//! A stream looks at the database when it is woken, so it tells what is on disk, and it ends with its session.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use futures_util::Stream;
use gigfs_core::api::TableChanged;
use gigfs_core::{ErrorCode, Refusal};

use super::refusal::Refused;
use crate::clock;
use crate::metric::CountedStream;
use crate::signal::{USER_STREAMS_MAX, Watch};
use crate::table::Table;
use crate::visit::{Visit, VisitError};

/// What one stream knows.
struct Follower {
    table: Table,
    visit: Visit,
    watch: Watch,
    told: Option<u64>,
    /// Nothing is shared any more with the guest that was told of.
    over: bool,
    _counted: CountedStream,
}

/// Streams the changes of the mount table: events named `table`, the first at once. To guests of the user too; the stream of
/// one with whom nothing is shared any more tells of that and ends.
#[utoipa::path(get, path = "/user/{user}/table/stream", tag = "mounts", params(("user", description = "The user")),
    security(("session" = [])),
    responses((status = 200, content_type = "text/event-stream", body = TableChanged), (status = 401, body = Refusal)))]
pub(crate) async fn stream(
    State(table): State<Table>,
    visit: Visit,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Refused> {
    // Guests have places of their own, and are woken with what they are guests of.
    let Some(watch) = table.inner.signals.watch(&visit.by.user) else {
        let message = format!("the user {} has {USER_STREAMS_MAX} streams, which is the limit", visit.by.user);
        return Err(Refused(Refusal::new(ErrorCode::TooMany, message).hint("close some and try again")));
    };
    let counted = table.inner.metrics.stream();
    let follower = Follower { table, visit, watch, told: None, over: false, _counted: counted };
    let events = futures_util::stream::unfold(follower, |mut follower| async {
        let epoch = follower.next().await?;
        let text = serde_json::to_string(&TableChanged { epoch }).ok()?;
        Some((Ok(Event::default().event("table").data(text)), follower))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT)))
}

impl Follower {
    /// Waits for an epoch that was not told yet. None when the session or the server has come to its end, or a guest that
    /// was told so is one no more.
    async fn next(&mut self) -> Option<u64> {
        while !self.over {
            match self.look().await {
                Ok(epoch) if self.told != Some(epoch) => {
                    self.told = Some(epoch);
                    return Some(epoch);
                }
                Ok(_) => {}
                Err(VisitError::NotShared { .. }) => {
                    self.over = true;
                    return self.told.map(|told| told + 1);
                }
                Err(_) => return None,
            }
            let left = self.visit.by.session.expires.saturating_mul(1000).saturating_sub(clock::now_millis());
            tokio::select! {
                () = self.watch.changed() => {}
                () = tokio::time::sleep(Duration::from_millis(left).min(LOOK_AGAIN)) => {}
                () = self.table.inner.stopping.cancelled() => return None,
            }
        }
        None
    }

    async fn look(&self) -> Result<u64, VisitError> {
        let visit = self.visit.clone();
        self.table.inner.db.read(move |tx| visit.epoch(tx)).await
    }
}

const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long the wall clock may be set forward past a session's end before its streams notice.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
