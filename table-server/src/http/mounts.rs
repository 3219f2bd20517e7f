//! Routes of the mount table, and of stores that ask about a token for it.

use axum::Json;
use axum::extract::State;
use gigfs_core::Refusal;
use gigfs_core::api::{AddStore, MountTable, MountedChannel, Seal, TableChanged, TokenStanding};

use super::credentials::Bearer;
use super::extract::{Abandon, Body, Params};
use super::refusal::Refused;
use crate::session::Access;
use crate::table::Table;
use crate::visit::Visit;

/// Returns the mount table with fresh store tokens; to a guest of the user, the channels that are shared with it.
#[utoipa::path(get, path = "/user/{user}/table", tag = "mounts", params(("user", description = "The user")),
    security(("session" = [])), responses((status = 200, body = MountTable), (status = 401, body = Refusal),
        (status = 403, body = Refusal, description = "Nothing is shared with the session's user")))]
pub(crate) async fn table(State(table): State<Table>, visit: Visit) -> Result<Json<MountTable>, Refused> {
    Ok(Json(table.mount_table(&visit).await?))
}

/// Returns one channel with fresh store tokens, to the user or to a guest of the channel.
#[utoipa::path(get, path = "/user/{user}/table/{channel}", tag = "mounts",
    params(("user", description = "The user"), ("channel", description = "The channel")), security(("session" = [])),
    responses((status = 200, body = MountedChannel), (status = 401, body = Refusal), (status = 404, body = Refusal)))]
pub(crate) async fn channel(
    State(table): State<Table>,
    params: Params,
    visit: Visit,
) -> Result<Json<MountedChannel>, Refused> {
    Ok(Json(table.mounted_channel(&visit, &params.channel()?).await?))
}

/// Mounts a store on a channel, after the store has agreed. A store that is there already gets its new url.
#[utoipa::path(post, path = "/user/{user}/table/{channel}/store", tag = "mounts",
    params(("user", description = "The user"), ("channel", description = "The channel")), security(("session" = [])),
    request_body = AddStore,
    responses((status = 200, body = MountedChannel), (status = 401, body = Refusal),
        (status = 403, body = Refusal, description = "The store does not take the code"),
        (status = 409, body = Refusal, description = "Another server claims the id of a store that the user has"),
        (status = 502, body = Refusal, description = "The store cannot be reached")))]
pub(crate) async fn add_store(
    State(table): State<Table>,
    params: Params,
    access: Access,
    Body(add): Body<AddStore>,
) -> Result<Json<MountedChannel>, Refused> {
    let channel = params.channel()?;
    table.add_store_as(&access, &channel, add).await?;
    Ok(Json(table.mounted_channel(&Visit::own(&access), &channel).await?))
}

/// Has a store take no more writes for a channel, or take them again, and shows it so once the store has agreed.
#[utoipa::path(post, path = "/user/{user}/table/{channel}/store/{store}/seal", tag = "mounts",
    params(("user", description = "The user"), ("channel", description = "The channel"),
        ("store", description = "The store's id")),
    security(("session" = [])), request_body = Seal,
    responses((status = 200, body = TableChanged), (status = 401, body = Refusal), (status = 404, body = Refusal),
        (status = 502, body = Refusal, description = "The store cannot be reached")))]
pub(crate) async fn seal_store(
    State(table): State<Table>,
    params: Params,
    access: Access,
    Body(Seal { sealed }): Body<Seal>,
) -> Result<Json<TableChanged>, Refused> {
    let epoch = table.seal(&access, &params.channel()?, params.store()?, sealed).await?;
    Ok(Json(TableChanged { epoch }))
}

/// Takes a store off a channel: one that is sealed, or the last, with which the channel goes, or one that is abandoned.
#[utoipa::path(delete, path = "/user/{user}/table/{channel}/store/{store}", tag = "mounts",
    params(("user", description = "The user"), ("channel", description = "The channel"),
        ("store", description = "The store's id"),
        ("abandon" = Option<bool>, Query, description = "Whether what only this store holds may be lost")),
    security(("session" = [])),
    responses((status = 200, body = TableChanged), (status = 401, body = Refusal), (status = 404, body = Refusal),
        (status = 409, body = Refusal, description = "The store is not sealed")))]
pub(crate) async fn remove_store(
    State(table): State<Table>,
    params: Params,
    access: Access,
    Abandon(abandon): Abandon,
) -> Result<Json<TableChanged>, Refused> {
    let epoch = table.remove_store(&access, &params.channel()?, params.store()?, abandon).await?;
    Ok(Json(TableChanged { epoch }))
}

/// Takes a channel and all its stores off the mount table.
#[utoipa::path(delete, path = "/user/{user}/table/{channel}", tag = "mounts",
    params(("user", description = "The user"), ("channel", description = "The channel")), security(("session" = [])),
    responses((status = 200, body = TableChanged), (status = 401, body = Refusal), (status = 404, body = Refusal)))]
pub(crate) async fn remove_channel(
    State(table): State<Table>,
    params: Params,
    access: Access,
) -> Result<Json<TableChanged>, Refused> {
    let epoch = table.remove_channel(&access, &params.channel()?).await?;
    Ok(Json(TableChanged { epoch }))
}

/// Tells a store whether a store token, sent as the bearer token, still stands.
#[utoipa::path(get, path = "/user/{user}/table/check", tag = "mounts", params(("user", description = "The user")),
    security(("store_token" = [])), responses((status = 200, body = TokenStanding), (status = 401, body = Refusal)))]
pub(crate) async fn check(
    State(table): State<Table>,
    params: Params,
    Bearer(token): Bearer,
) -> Result<Json<TokenStanding>, Refused> {
    Ok(Json(table.token_standing(&params.user()?, &token).await?))
}
