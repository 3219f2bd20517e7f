//! Routes of blobs.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use gigfs_core::api::{BlobHave, BlobMissing};
use gigfs_core::limits::{BLOB_BYTES_MAX, BLOB_HAVE_MAX};
use gigfs_core::token::Permission;
use gigfs_core::{BlobName, ChannelName, ErrorCode, Refusal, UserName};

use super::extract::{Asked, Bearer, Names, read_body, read_json};
use crate::quota;
use crate::refusal::{self, Refused};
use crate::store::{Inner, Store};

/// Stores a blob, named by the BLAKE3 of its bytes. It is on disk when this answers; 200 if it was there already.
#[utoipa::path(put, path = "/user/{user}/blob/{blob}", tag = "blobs",
    params(("user" = String, Path, description = "The user"), ("blob" = String, Path, description = "BLAKE3, hexadecimal"),
        ("channel" = String, Query, description = "The channel of the token")),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"), security(("store_token" = [])),
    responses((status = 201), (status = 200), (status = 400, body = Refusal, description = "The bytes hash to another name"),
        (status = 413, body = Refusal), (status = 507, body = Refusal, description = "The user's quota is full")))]
pub(crate) async fn put(
    State(store): State<Store>,
    names: Names,
    asked: Asked,
    Bearer(token): Bearer,
    body: Body,
) -> Result<StatusCode, Refused> {
    let (user, blob) = (names.user()?, names.blob()?);
    pass(&store, &asked, &token, &user, Permission::Write).await?;
    let bytes = read_body(&store, body, BLOB_BYTES_MAX).await?;
    let put = move |inner: &Inner| {
        let quota = inner.quotas.of(&user);
        let check = |blobs| match quota {
            None => Ok(()),
            Some(quota) => {
                let oplogs = inner.engine.usage(&user).map_err(|error| refusal::storage(&error))?;
                let will_be = oplogs.saturating_add(blobs);
                let before = will_be.saturating_sub(bytes.len() as u64);
                if will_be <= quota { Ok(()) } else { Err(quota::full(&user, before, quota)) }
            }
        };
        inner.blobs.put(&user, &blob, &bytes, check)
    };
    let is_new = store.blocking(put).await?;
    Ok(if is_new { StatusCode::CREATED } else { StatusCode::OK })
}

/// Returns a blob.
#[utoipa::path(get, path = "/user/{user}/blob/{blob}", tag = "blobs",
    params(("user" = String, Path, description = "The user"), ("blob" = String, Path, description = "BLAKE3, hexadecimal"),
        ("channel" = String, Query, description = "The channel of the token")),
    security(("store_token" = [])),
    responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>), (status = 404, body = Refusal)))]
pub(crate) async fn get(
    State(store): State<Store>,
    names: Names,
    asked: Asked,
    Bearer(token): Bearer,
) -> Result<(HeaderMap, Body), Refused> {
    let (user, blob) = (names.user()?, names.blob()?);
    pass(&store, &asked, &token, &user, Permission::Read).await?;
    match store.blocking(move |inner| inner.blobs.get(&user, &blob)).await? {
        Some(bytes) => Ok((octets(), Body::from(bytes))),
        None => Err(missing(&blob)),
    }
}

/// Tells whether a blob is there, and its size.
#[utoipa::path(head, path = "/user/{user}/blob/{blob}", tag = "blobs",
    params(("user" = String, Path, description = "The user"), ("blob" = String, Path, description = "BLAKE3, hexadecimal"),
        ("channel" = String, Query, description = "The channel of the token")),
    security(("store_token" = [])), responses((status = 200), (status = 404)))]
pub(crate) async fn head(
    State(store): State<Store>,
    names: Names,
    asked: Asked,
    Bearer(token): Bearer,
) -> Result<HeaderMap, Refused> {
    let (user, blob) = (names.user()?, names.blob()?);
    pass(&store, &asked, &token, &user, Permission::Read).await?;
    match store.blocking(move |inner| inner.blobs.size(&user, &blob)).await? {
        Some(size) => {
            let mut headers = octets();
            headers.insert(CONTENT_LENGTH, HeaderValue::from(size));
            Ok(headers)
        }
        None => Err(missing(&blob)),
    }
}

/// Tells which of these blobs are not there.
#[utoipa::path(post, path = "/user/{user}/blob/have", tag = "blobs",
    params(("user" = String, Path, description = "The user"),
        ("channel" = String, Query, description = "The channel of the token")),
    request_body = BlobHave, security(("store_token" = [])), responses((status = 200, body = BlobMissing)))]
pub(crate) async fn have(
    State(store): State<Store>,
    names: Names,
    asked: Asked,
    Bearer(token): Bearer,
    body: Body,
) -> Result<Json<BlobMissing>, Refused> {
    let user = names.user()?;
    pass(&store, &asked, &token, &user, Permission::Read).await?;
    let BlobHave { blobs } = read_json(&store, body, HAVE_BYTES_MAX).await?;
    if blobs.len() > BLOB_HAVE_MAX {
        let message = format!("the question is about {} blobs and the limit is {BLOB_HAVE_MAX}", blobs.len());
        return Err(Refused(Refusal::new(ErrorCode::TooLarge, message).hint("ask in several requests")));
    }
    let look = store.blocking(move |inner| {
        let mut missing = Vec::new();
        for blob in blobs {
            if inner.blobs.size(&user, &blob)?.is_none() {
                missing.push(blob);
            }
        }
        Ok(missing)
    });
    Ok(Json(BlobMissing { missing: look.await? }))
}

async fn pass(store: &Store, asked: &Asked, token: &str, user: &UserName, need: Permission) -> Result<(), Refused> {
    asked.only(&["channel"])?;
    let channel = asked.required("channel", |text| Ok(ChannelName::parse(text)?))?;
    store.inner.access.pass(&store.inner.users, token, user, &channel, need).await?;
    Ok(())
}

fn octets() -> HeaderMap {
    HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))])
}

fn missing(blob: &BlobName) -> Refused {
    Refused(
        Refusal::new(ErrorCode::NotFound, format!("this store has no blob {blob} of this user"))
            .hint("read it from another store of the channel"),
    )
}

/// Bytes of a question about blobs: names, quotes and commas.
const HAVE_BYTES_MAX: usize = BLOB_HAVE_MAX * 80 + 1024;
