//! Routes of users: password parameters, creation, a new master by the user or by the admin.

use axum::Json;
use axum::extract::{FromRequest as _, Request, State};
use axum::http::StatusCode;
use gigfs_core::Refusal;
use gigfs_core::api::{NewMaster, PasswordParams, ReplaceMaster};

use super::KEYRING_BODY_BYTES_MAX;
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

/// Gives a user another master, for one who forgot the password, and revokes every session. The keyring stays as it is: the
/// new password does not open it, the user's recovery code does.
#[utoipa::path(put, path = "/admin/user/{user}/master", tag = "users", params(("user", description = "The user")),
    security(("admin" = [])), request_body = NewMaster,
    responses((status = 204, description = "Replaced"), (status = 404, body = Refusal, description = "No such user")))]
pub(crate) async fn reset_master(
    State(table): State<Table>,
    params: Params,
    _: Admin,
    ClientAddress(address): ClientAddress,
    Body(new): Body<NewMaster>,
) -> Result<StatusCode, Refused> {
    table.reset_master(&params.user()?, new, address).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Replaces the user's master, proved by the old one, and the keyring with it, and revokes every session.
#[utoipa::path(put, path = "/user/{user}/master", tag = "users", params(("user", description = "The user")),
    security(("master" = [])), request_body = ReplaceMaster,
    responses((status = 204, description = "Replaced"), (status = 401, body = Refusal),
        (status = 409, body = Refusal, description = "The keyring is missing, or not the next"),
        (status = 429, body = Refusal)))]
pub(crate) async fn replace_master(
    State(table): State<Table>,
    params: Params,
    ClientAddress(address): ClientAddress,
    Master(old): Master,
    request: Request,
) -> Result<StatusCode, Refused> {
    let user = params.user()?;
    // A keyring is large: only whoever may replace it has the table read one.
    let proved = table.check_master(&user, &old, address).await?;
    let body = Body::<ReplaceMaster, KEYRING_BODY_BYTES_MAX>::from_request(request, &table).await;
    match body {
        Ok(Body(new)) => table.replace_master(&user, old, new, address, proved).await?,
        Err(refused) => {
            proved.take_back();
            return Err(refused);
        }
    }
    Ok(StatusCode::NO_CONTENT)
}
