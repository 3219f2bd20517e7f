//! Routes about the server itself.

use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use gigfs_core::api::Health;
use gigfs_core::{Date, Refusal};

use super::refusal::Refused;
use crate::clock;
use crate::db::DatabaseError;
use crate::table::Table;

/// Says that the server is there, and its clock.
#[utoipa::path(get, path = "/healthz", tag = "status", responses((status = 200, body = Health)))]
pub(crate) async fn healthz(State(table): State<Table>) -> Json<Health> {
    Json(health(&table))
}

/// Says whether the server can work: its database answers, and it is not stopping.
#[utoipa::path(get, path = "/readyz", tag = "status",
    responses((status = 200, body = Health), (status = 503, body = Refusal)))]
pub(crate) async fn readyz(State(table): State<Table>) -> Result<Json<Health>, Refused> {
    if table.inner.stopping.is_cancelled() {
        return Err(DatabaseError::Closed.into());
    }
    table.inner.db.read(|tx| Ok::<_, DatabaseError>(tx.query_row("SELECT 1 FROM identity", [], |_| Ok(()))?)).await?;
    Ok(Json(health(&table)))
}

/// The server's figures in Prometheus' text format.
#[utoipa::path(get, path = "/metrics", tag = "status",
    responses((status = 200, content_type = "text/plain", body = String)))]
pub(crate) async fn metrics(State(table): State<Table>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], table.inner.metrics.figures.render())
}

fn health(table: &Table) -> Health {
    Health {
        role: "table".to_owned(),
        id: table.inner.identity.table_id.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        now: Date::saturating(clock::now_millis().saturating_mul(1000)),
    }
}
