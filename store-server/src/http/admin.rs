//! Routes of the store's owner.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use gigfs_core::Refusal;
use gigfs_core::api::{ConfirmCode, NewQuota, UserRoom};

use super::extract::{Admin, Names, read_json};
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

/// Returns what a user keeps here and may keep.
#[utoipa::path(get, path = "/admin/user/{user}/quota", tag = "admin",
    params(("user" = String, Path, description = "The user")), security(("admin" = [])),
    responses((status = 200, body = UserRoom), (status = 401, body = Refusal), (status = 404, body = Refusal)))]
pub(crate) async fn room(State(store): State<Store>, _: Admin, names: Names) -> Result<Json<UserRoom>, Refused> {
    Ok(Json(store.room(&names.user()?).await?))
}

/// Sets how much a user may keep here. What is here already stays; what does not fit is answered `insufficient_storage`.
#[utoipa::path(put, path = "/admin/user/{user}/quota", tag = "admin",
    params(("user" = String, Path, description = "The user")), security(("admin" = [])), request_body = NewQuota,
    responses((status = 200, body = UserRoom), (status = 401, body = Refusal), (status = 404, body = Refusal)))]
pub(crate) async fn set_quota(
    State(store): State<Store>,
    _: Admin,
    names: Names,
    body: Body,
) -> Result<Json<UserRoom>, Refused> {
    let user = names.user()?;
    let NewQuota { bytes } = read_json(&store, body, QUOTA_BYTES_MAX).await?;
    Ok(Json(store.set_quota(&user, bytes).await?))
}

/// Bytes of a body that sets a quota.
const QUOTA_BYTES_MAX: usize = 1024;
