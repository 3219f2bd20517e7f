//! Routes of users: password parameters, creation, a new master.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use gigfs_core::Refusal;
use gigfs_core::api::{NewMaster, PasswordParams};

use super::credentials::{Admin, ClientAddress, Master};
use super::extract::{Body, Params};
use super::refusal::Refused;
use crate::table::Table;

/// How a user's password becomes the master. Unknown users have parameters too.
#[utoipa::path(get, path = "/user/{user}/password", tag = "users", params(("user", description = "The user")),
    responses((status = 200, body = PasswordParams)))]
pub(crate) async fn password(State(table): State<Table>, params: Params) -> Result<Json<PasswordParams>, Refused> {
    Ok(Json(table.password_params(&params.user()?).await?))
}

/// Creates a user.
#[utoipa::path(put, path = "/admin/user/{user}", tag = "users", params(("user", description = "The user")),
    security(("admin" = [])), request_body = NewMaster,
    responses((status = 201, description = "Created"), (status = 409, body = Refusal, description = "There already")))]
pub(crate) async fn create(
    State(table): State<Table>,
    params: Params,
    _: Admin,
    Body(new): Body<NewMaster>,
) -> Result<StatusCode, Refused> {
    table.create_user(&params.user()?, new).await?;
    Ok(StatusCode::CREATED)
}

/// Replaces the user's master, proved by the old one, and revokes every session.
#[utoipa::path(put, path = "/user/{user}/master", tag = "users", params(("user", description = "The user")),
    security(("master" = [])), request_body = NewMaster,
    responses((status = 204, description = "Replaced"), (status = 401, body = Refusal),
        (status = 429, body = Refusal)))]
pub(crate) async fn replace_master(
    State(table): State<Table>,
    params: Params,
    ClientAddress(address): ClientAddress,
    Master(old): Master,
    Body(new): Body<NewMaster>,
) -> Result<StatusCode, Refused> {
    table.replace_master(&params.user()?, old, new, address).await?;
    Ok(StatusCode::NO_CONTENT)
}
