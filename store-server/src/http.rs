//! The store over HTTP: routes to what does the work, credentials and bodies in, JSON or a refusal out.

mod admin;
mod blobs;
mod extract;
mod observe;
mod openapi;
mod oplogs;
mod status;
mod tables;
mod upkeep;

use axum::Router;
use axum::http::Method;
use axum::middleware;
use axum::routing::{delete, get, post, put};

use crate::refusal::Refused;
use crate::store::Store;
use crate::stream;
pub(crate) use extract::{Asked, Bearer, Names};

/// Returns the service of a store.
pub(crate) fn router(store: Store) -> Router {
    Router::new()
        .route("/admin/user/{user}", put(admin::create_user))
        .route("/admin/user/{user}/code", get(admin::confirm_code))
        .route("/admin/user/{user}/quota", get(admin::room).put(admin::set_quota))
        .route("/admin/verify", post(upkeep::verify))
        .route("/admin/backup", post(upkeep::back_up))
        .route("/user/{user}/confirm", post(tables::confirm))
        .route("/user/{user}/session/{session}", delete(tables::revoke))
        .route("/user/{user}/channel/{channel}/seal", post(tables::seal))
        .route("/user/{user}/oplog", post(oplogs::push).get(oplogs::get))
        .route("/user/{user}/oplogs", get(oplogs::list))
        .route("/user/{user}/oplog/stream", get(stream::open))
        .route("/user/{user}/blob/have", post(blobs::have))
        .route("/user/{user}/blob/{blob}", put(blobs::put).get(blobs::get).head(blobs::head))
        .route("/healthz", get(status::healthz))
        .route("/readyz", get(status::readyz))
        .route("/metrics", get(status::metrics))
        .route("/openapi.json", get(openapi::openapi))
        .fallback(no_such_route)
        .method_not_allowed_fallback(no_such_method)
        .layer(middleware::from_fn_with_state(store.clone(), observe::observe))
        .with_state(store)
}

async fn no_such_route() -> Refused {
    Refused(gigfs_serve::refusal::no_such_route("store"))
}

async fn no_such_method(method: Method) -> Refused {
    Refused(gigfs_serve::refusal::no_such_method(&method))
}
