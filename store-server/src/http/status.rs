//! Routes about the server itself.

use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use gigfs_core::Refusal;
use gigfs_core::api::Health;

use crate::clock;
use crate::refusal::{self, Refused};
use crate::store::Store;

/// Says that the server is there, and its clock.
#[utoipa::path(get, path = "/healthz", tag = "status", responses((status = 200, body = Health)))]
pub(crate) async fn healthz(State(store): State<Store>) -> Json<Health> {
    Json(health(&store))
}

/// Says whether the server can work: its engine answers, its committing thread runs, and it is not stopping.
#[utoipa::path(get, path = "/readyz", tag = "status",
    responses((status = 200, body = Health), (status = 500, body = Refusal), (status = 503, body = Refusal)))]
pub(crate) async fn readyz(State(store): State<Store>) -> Result<Json<Health>, Refused> {
    if store.inner.stopping.is_cancelled() || !store.inner.commits.is_running() {
        return Err(Refused(refusal::stopping()));
    }
    store.read(|engine| engine.note(b"")).await?;
    Ok(Json(health(&store)))
}

/// The server's figures in Prometheus' text format.
#[utoipa::path(get, path = "/metrics", tag = "status",
    responses((status = 200, content_type = "text/plain", body = String)))]
pub(crate) async fn metrics(State(store): State<Store>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], store.inner.metrics.figures.render())
}

fn health(store: &Store) -> Health {
    Health {
        role: "store".to_owned(),
        id: store.store_id().to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        now: clock::date(),
    }
}
