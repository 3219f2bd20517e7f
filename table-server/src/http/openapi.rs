//! The description of all routes, made from the handlers.

use axum::Json;
use gigfs_serve::openapi::bearer;
use utoipa::openapi::OpenApi as Document;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::{checkpoints, keyrings, mounts, sessions, shares, status, stream, users};

#[derive(OpenApi)]
#[openapi(
    info(title = "gigfs table", description = "Users, sessions, keyrings, mount tables, guests, store tokens and committed checkpoints. Every error body is a Refusal."),
    paths(
        users::password, users::create, users::reset_master, users::replace_master,
        keyrings::read, keyrings::replace,
        sessions::create, sessions::list, sessions::check, sessions::revoke,
        mounts::table, mounts::channel, mounts::add_store, mounts::seal_store, mounts::remove_store,
        mounts::remove_channel, mounts::check,
        shares::identity, shares::replace_identity, shares::shared, shares::guests, shares::put_guest,
        shares::remove_guest,
        checkpoints::commit,
        stream::stream,
        status::healthz, status::readyz, status::metrics, openapi,
    ),
    modifiers(&Schemes)
)]
struct Api;

/// Adds the ways to authorise a request.
struct Schemes;

impl Modify for Schemes {
    fn modify(&self, document: &mut Document) {
        let master = ApiKeyValue::with_description(
            "Authorization",
            "\"Master\", a space, and the user's master in base64url without padding",
        );
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("session", bearer("A session's token"));
        components.add_security_scheme("admin", bearer("The content of the file admin-token in the data folder"));
        components.add_security_scheme("store_token", bearer("A store token, as a client sent it to the store"));
        components.add_security_scheme("master", SecurityScheme::ApiKey(ApiKey::Header(master)));
    }
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "status",
    responses((status = 200, content_type = "application/json", body = String)))]
pub(crate) async fn openapi() -> Json<Document> {
    Json(Api::openapi())
}
