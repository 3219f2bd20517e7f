//! Routes of sharing: identities, guests of a channel, and what others share.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use gigfs_core::Refusal;
use gigfs_core::api::{Guest, Guests, IdentityRecord, Shared, TableChanged};

use super::GUEST_BODY_BYTES_MAX;
use super::credentials::AnySession;
use super::extract::{Body, Params};
use super::refusal::Refused;
use crate::session::Access;
use crate::table::Table;
use crate::visit::Visit;

/// Returns a user's public identity, to any session of this table. Compare its fingerprint before it counts.
#[utoipa::path(get, path = "/user/{user}/identity", tag = "sharing", params(("user", description = "The user")),
    security(("session" = [])),
    responses((status = 200, body = IdentityRecord), (status = 401, body = Refusal),
        (status = 404, body = Refusal, description = "There is no such user, or none is kept")))]
pub(crate) async fn identity(
    State(table): State<Table>,
    params: Params,
    _: AnySession,
) -> Result<Json<IdentityRecord>, Refused> {
    Ok(Json(table.identity_of(&params.user()?).await?))
}

/// Keeps the user's own public identity.
#[utoipa::path(put, path = "/user/{user}/identity", tag = "sharing", params(("user", description = "The user")),
    security(("session" = [])), request_body = IdentityRecord,
    responses((status = 204, description = "Kept"), (status = 400, body = Refusal), (status = 401, body = Refusal)))]
pub(crate) async fn replace_identity(
    State(table): State<Table>,
    access: Access,
    Body(record): Body<IdentityRecord>,
) -> Result<StatusCode, Refused> {
    table.put_identity(&access, record).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lists what others share with the user, with the keys that were granted.
#[utoipa::path(get, path = "/user/{user}/shared", tag = "sharing", params(("user", description = "The user")),
    security(("session" = [])), responses((status = 200, body = Shared), (status = 401, body = Refusal)))]
pub(crate) async fn shared(State(table): State<Table>, access: Access) -> Result<Json<Shared>, Refused> {
    Ok(Json(table.shared(&access).await?))
}

/// Lists the guests of a channel, for its owner and for each of them.
#[utoipa::path(get, path = "/user/{user}/table/{channel}/guest", tag = "sharing",
    params(("user", description = "The owner"), ("channel", description = "The channel")), security(("session" = [])),
    responses((status = 200, body = Guests), (status = 401, body = Refusal), (status = 403, body = Refusal),
        (status = 404, body = Refusal)))]
pub(crate) async fn guests(State(table): State<Table>, params: Params, visit: Visit) -> Result<Json<Guests>, Refused> {
    Ok(Json(table.guests(&visit, &params.channel()?).await?))
}

/// Lets a user into a channel, or replaces what a guest may do there and its keys. For the owner, and for guests who are
/// admins, about those who are none. What becomes less ends the guest's tokens at every store.
#[utoipa::path(put, path = "/user/{user}/table/{channel}/guest/{guest}", tag = "sharing",
    params(("user", description = "The owner"), ("channel", description = "The channel"),
        ("guest", description = "With whom it is shared")),
    security(("session" = [])), request_body = Guest,
    responses((status = 200, body = TableChanged), (status = 400, body = Refusal), (status = 401, body = Refusal),
        (status = 403, body = Refusal), (status = 404, body = Refusal), (status = 413, body = Refusal),
        (status = 429, body = Refusal)))]
pub(crate) async fn put_guest(
    State(table): State<Table>,
    params: Params,
    visit: Visit,
    Body(guest): Body<Guest, GUEST_BODY_BYTES_MAX>,
) -> Result<Json<TableChanged>, Refused> {
    let epoch = table.put_guest(&visit, &params.channel()?, &params.guest()?, guest).await?;
    Ok(Json(TableChanged { epoch }))
}

/// Takes a channel back from a guest, whose tokens end at every store. For the owner, for admins about those who are none,
/// and for the guest itself.
#[utoipa::path(delete, path = "/user/{user}/table/{channel}/guest/{guest}", tag = "sharing",
    params(("user", description = "The owner"), ("channel", description = "The channel"),
        ("guest", description = "With whom it is shared")),
    security(("session" = [])),
    responses((status = 200, body = TableChanged), (status = 401, body = Refusal), (status = 403, body = Refusal),
        (status = 404, body = Refusal)))]
pub(crate) async fn remove_guest(
    State(table): State<Table>,
    params: Params,
    visit: Visit,
) -> Result<Json<TableChanged>, Refused> {
    let epoch = table.remove_guest(&visit, &params.channel()?, &params.guest()?).await?;
    Ok(Json(TableChanged { epoch }))
}
