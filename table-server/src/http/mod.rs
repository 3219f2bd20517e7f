//! The table over HTTP: routes to operations, credentials and bodies in, JSON or a refusal out. Nothing is decided here.

mod checkpoints;
mod credentials;
mod extract;
mod keyrings;
mod mounts;
mod observe;
mod openapi;
mod refusal;
mod sessions;
mod shares;
mod status;
mod stream;
mod users;

use axum::Router;
use axum::http::Method;
use axum::middleware;
use axum::routing::{delete, get, post, put};
use gigfs_core::limits::{GRANT_BYTES_MAX, KEYRING_BYTES_MAX};

use crate::table::Table;
use refusal::Refused;

/// Returns the service of a table.
pub(crate) fn router(table: Table) -> Router {
    Router::new()
        .route("/user/{user}/password", get(users::password))
        .route("/admin/user/{user}", put(users::create))
        .route("/admin/user/{user}/master", put(users::reset_master))
        .route("/user/{user}/master", put(users::replace_master))
        .route("/user/{user}/keyring", get(keyrings::read).put(keyrings::replace))
        .route("/user/{user}/identity", get(shares::identity).put(shares::replace_identity))
        .route("/user/{user}/shared", get(shares::shared))
        .route("/user/{user}/session", post(sessions::create).get(sessions::list))
        .route("/user/{user}/session/check", get(sessions::check))
        .route("/user/{user}/session/{session}", delete(sessions::revoke))
        .route("/user/{user}/table", get(mounts::table))
        .route("/user/{user}/table/stream", get(stream::stream))
        .route("/user/{user}/table/check", get(mounts::check))
        .route("/user/{user}/table/{channel}", get(mounts::channel).delete(mounts::remove_channel))
        .route("/user/{user}/table/{channel}/guest", get(shares::guests))
        .route("/user/{user}/table/{channel}/guest/{guest}", put(shares::put_guest).delete(shares::remove_guest))
        .route("/user/{user}/table/{channel}/store", post(mounts::add_store))
        .route("/user/{user}/table/{channel}/store/{store}", delete(mounts::remove_store))
        .route("/user/{user}/table/{channel}/store/{store}/seal", post(mounts::seal_store))
        .route("/user/{user}/table/{channel}/checkpoint", post(checkpoints::commit))
        .route("/healthz", get(status::healthz))
        .route("/readyz", get(status::readyz))
        .route("/metrics", get(status::metrics))
        .route("/openapi.json", get(openapi::openapi))
        .fallback(no_such_route)
        .method_not_allowed_fallback(no_such_method)
        .layer(middleware::from_fn_with_state(table.clone(), observe::observe))
        .with_state(table)
}

async fn no_such_route() -> Refused {
    Refused(gigfs_serve::refusal::no_such_route("table"))
}

async fn no_such_method(method: Method) -> Refused {
    Refused(gigfs_serve::refusal::no_such_method(&method))
}

/// Bytes of a request's body, where the route does not say otherwise.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a request's body that holds a keyring in base64url.
const KEYRING_BODY_BYTES_MAX: usize = BODY_BYTES_MAX + KEYRING_BYTES_MAX / 3 * 4;
/// Bytes of a request's body that holds a grant in base64url.
const GUEST_BODY_BYTES_MAX: usize = BODY_BYTES_MAX + GRANT_BYTES_MAX / 3 * 4;
