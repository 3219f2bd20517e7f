//! Routes of sessions: created with a master, listed, checked and revoked with a session.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use gigfs_core::Refusal;
use gigfs_core::api::{CreatedSession, NewSession, SessionInfo, SessionList};

use super::credentials::{ClientAddress, Master};
use super::extract::{Body, Params};
use super::refusal::Refused;
use crate::session::Access;
use crate::table::Table;

/// Creates a session. An unknown user and a wrong master are refused alike.
#[utoipa::path(post, path = "/user/{user}/session", tag = "sessions", params(("user", description = "The user")),
    security(("master" = [])), request_body = NewSession,
    responses((status = 201, body = CreatedSession), (status = 401, body = Refusal), (status = 429, body = Refusal)))]
pub(crate) async fn create(
    State(table): State<Table>,
    params: Params,
    ClientAddress(address): ClientAddress,
    Master(master): Master,
    Body(new): Body<NewSession>,
) -> Result<(StatusCode, Json<CreatedSession>), Refused> {
    Ok((StatusCode::CREATED, Json(table.log_in(&params.user()?, master, new, address).await?)))
}

/// Lists the user's live sessions.
#[utoipa::path(get, path = "/user/{user}/session", tag = "sessions", params(("user", description = "The user")),
    security(("session" = [])), responses((status = 200, body = SessionList), (status = 401, body = Refusal)))]
pub(crate) async fn list(State(table): State<Table>, access: Access) -> Result<Json<SessionList>, Refused> {
    Ok(Json(table.sessions(&access).await?))
}

/// Returns the session that asks.
#[utoipa::path(get, path = "/user/{user}/session/check", tag = "sessions", params(("user", description = "The user")),
    security(("session" = [])), responses((status = 200, body = SessionInfo), (status = 401, body = Refusal)))]
pub(crate) async fn check(access: Access) -> Json<SessionInfo> {
    Json(access.session)
}

/// Revokes a session, which may be the one that asks. Its stores are told.
#[utoipa::path(delete, path = "/user/{user}/session/{session}", tag = "sessions",
    params(("user", description = "The user"), ("session", description = "The session's id")),
    security(("session" = [])),
    responses((status = 204, description = "Revoked"), (status = 401, body = Refusal), (status = 404, body = Refusal)))]
pub(crate) async fn revoke(State(table): State<Table>, params: Params, access: Access) -> Result<StatusCode, Refused> {
    table.revoke_session(&access, params.session()?).await?;
    Ok(StatusCode::NO_CONTENT)
}
