//! Routes of the store's owner.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use gigfs_core::Refusal;
use gigfs_core::api::ConfirmCode;

use super::extract::{Admin, Names};
use crate::refusal::Refused;
use crate::store::Store;

/// Makes a user, who may then bring a table; one that is there stays as it is.
#[utoipa::path(put, path = "/admin/user/{user}", tag = "admin", params(("user" = String, Path, description = "The user")),
    security(("admin" = [])), responses((status = 204), (status = 401, body = Refusal)))]
pub(crate) async fn create_user(State(store): State<Store>, _: Admin, names: Names) -> Result<StatusCode, Refused> {
    store.create_user(&names.user()?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Makes a code with which the user's table can introduce itself, once, within a quarter of an hour.
#[utoipa::path(get, path = "/admin/user/{user}/code", tag = "admin",
    params(("user" = String, Path, description = "The user")), security(("admin" = [])),
    responses((status = 200, body = ConfirmCode), (status = 401, body = Refusal), (status = 404, body = Refusal)))]
pub(crate) async fn confirm_code(
    State(store): State<Store>,
    _: Admin,
    names: Names,
) -> Result<Json<ConfirmCode>, Refused> {
    Ok(Json(store.confirm_code(&names.user()?).await?))
}
