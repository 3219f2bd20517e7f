//! Routes of keyrings: read, and replaced by the next revision, with a session of the user's own.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use gigfs_core::Refusal;
use gigfs_core::api::KeyringRecord;

use super::KEYRING_BODY_BYTES_MAX;
use super::extract::Body;
use super::refusal::Refused;
use crate::session::Access;
use crate::table::Table;

/// Returns the user's keyring, which only the user's devices can open.
#[utoipa::path(get, path = "/user/{user}/keyring", tag = "keyrings", params(("user", description = "The user")),
    security(("session" = [])),
    responses((status = 200, body = KeyringRecord), (status = 401, body = Refusal),
        (status = 404, body = Refusal, description = "There is none")))]
pub(crate) async fn read(State(table): State<Table>, access: Access) -> Result<Json<KeyringRecord>, Refused> {
    Ok(Json(table.keyring(&access).await?))
}

/// Keeps a keyring if its revision is one more than that of the one that is kept, or 1 where there is none.
#[utoipa::path(put, path = "/user/{user}/keyring", tag = "keyrings", params(("user", description = "The user")),
    security(("session" = [])), request_body = KeyringRecord,
    responses((status = 204, description = "Kept"), (status = 401, body = Refusal),
        (status = 409, body = Refusal, description = "Another revision is kept"), (status = 413, body = Refusal)))]
pub(crate) async fn replace(
    State(table): State<Table>,
    access: Access,
    Body(record): Body<KeyringRecord, KEYRING_BODY_BYTES_MAX>,
) -> Result<StatusCode, Refused> {
    table.put_keyring(&access, record).await?;
    Ok(StatusCode::NO_CONTENT)
}
