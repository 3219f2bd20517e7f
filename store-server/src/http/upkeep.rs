//! Routes with which the store's owner has all data looked at or copied. They answer line by line, as it goes.

use std::ops::ControlFlow;
use std::path::PathBuf;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use gigfs_core::Refusal;
use gigfs_core::api::{NewBackup, UpkeepLine, UpkeepProgress};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::extract::{Admin, read_json};
use crate::refusal::Refused;
use crate::store::{Inner, Store};

/// Looks at everything that the store keeps, while it runs.
#[utoipa::path(post, path = "/admin/verify", tag = "admin", security(("admin" = [])),
    responses((status = 200, content_type = "application/x-ndjson", body = UpkeepLine), (status = 401, body = Refusal)))]
pub(crate) async fn verify(State(store): State<Store>, _: Admin) -> Response {
    lines(store, |inner, progress| inner.verify(progress).map(UpkeepLine::Verified))
}

/// Copies everything that the store keeps into a folder on its own machine, while it runs.
#[utoipa::path(post, path = "/admin/backup", tag = "admin", security(("admin" = [])), request_body = NewBackup,
    responses((status = 200, content_type = "application/x-ndjson", body = UpkeepLine), (status = 401, body = Refusal)))]
pub(crate) async fn back_up(State(store): State<Store>, _: Admin, body: Body) -> Result<Response, Refused> {
    let NewBackup { folder } = read_json(&store, body, FOLDER_BYTES_MAX).await?;
    let folder = PathBuf::from(folder);
    Ok(lines(store, move |inner, progress| inner.back_up(&folder, progress).map(UpkeepLine::BackedUp)))
}

/// Runs `work` on a thread that may block, to its end whoever listens or until the store stops, and answers with its lines.
fn lines(
    store: Store,
    work: impl FnOnce(&Inner, &mut dyn FnMut(UpkeepProgress) -> ControlFlow<()>) -> Result<UpkeepLine, Refusal>
    + Send
    + 'static,
) -> Response {
    let (sender, receiver) = mpsc::channel::<Bytes>(LINES_QUEUED_MAX);
    store.inner.jobs.clone().spawn_blocking(move || {
        let mut told = Instant::now();
        let mut progress = |progress: UpkeepProgress| {
            // Now and then is enough; whoever reads slowly misses some.
            if told.elapsed() >= BETWEEN_LINES {
                told = Instant::now();
                _ = sender.try_send(line(&UpkeepLine::Progress(progress)));
            }
            match store.inner.stopping.is_cancelled() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        };
        let last = work(&store.inner, &mut progress).unwrap_or_else(UpkeepLine::Refused);
        // Whoever asked may have gone.
        _ = sender.blocking_send(line(&last));
    });
    let lines = futures_util::stream::unfold(receiver, |mut receiver| async {
        let line = receiver.recv().await?;
        Some((Ok::<_, std::convert::Infallible>(line), receiver))
    });
    ([(CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}

fn line(line: &UpkeepLine) -> Bytes {
    let mut json = serde_json::to_vec(line).expect("it is plain JSON");
    json.push(b'\n');
    json.into()
}

/// Bytes of a body that names a folder.
const FOLDER_BYTES_MAX: usize = 8 * 1024;
const LINES_QUEUED_MAX: usize = 16;
const BETWEEN_LINES: std::time::Duration = std::time::Duration::from_millis(100);
