//! The description of all routes, made from the handlers.

use axum::Json;
use gigfs_serve::openapi::bearer;
use utoipa::openapi::OpenApi as Document;
use utoipa::{Modify, OpenApi};

use super::{admin, blobs, oplogs, status, tables, upkeep};
use crate::stream;

#[derive(OpenApi)]
#[openapi(
    info(title = "gigfs store", description = "Oplogs, their stream and blobs. Every error body is a Refusal."),
    paths(
        admin::create_user, admin::confirm_code, admin::room, admin::set_quota, upkeep::verify,
        upkeep::back_up, tables::confirm, tables::revoke, tables::seal,
        oplogs::push, oplogs::get, oplogs::list, stream::open,
        blobs::put, blobs::get, blobs::head, blobs::have,
        status::healthz, status::readyz, status::metrics, openapi,
    ),
    modifiers(&Schemes)
)]
struct Api;

/// Adds the ways to authorise a request.
struct Schemes;

impl Modify for Schemes {
    fn modify(&self, document: &mut Document) {
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("store_token", bearer("A store token, from the user's table"));
        components.add_security_scheme("admin", bearer("The content of the file admin-token in the data folder"));
        components.add_security_scheme("table", bearer("A table's signed word about one session or channel"));
    }
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "status",
    responses((status = 200, content_type = "application/json", body = String)))]
pub(crate) async fn openapi() -> Json<Document> {
    Json(Api::openapi())
}
