//! Routes that tables call.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use gigfs_core::api::{Confirm, Confirmed};
use gigfs_core::{ErrorCode, Refusal};

use gigfs_serve::Event;

use super::extract::{Bearer, Names, read_json};
use crate::refusal::Refused;
use crate::seal::Sealing;
use crate::store::{Inner, Store};
use crate::token;
use crate::user::{self, Table};

/// Has a table speak for a user from now on, by the store's own confirmation code. The store is mounted anew by this: its
/// channels that were sealed take writes again.
#[utoipa::path(post, path = "/user/{user}/confirm", tag = "tables",
    params(("user" = String, Path, description = "The user")), request_body = Confirm,
    responses((status = 200, body = Confirmed), (status = 403, body = Refusal, description = "The code is not good"),
        (status = 409, body = Refusal, description = "The user is with another table")))]
pub(crate) async fn confirm(State(store): State<Store>, names: Names, body: Body) -> Result<Json<Confirmed>, Refused> {
    let user = names.user()?;
    let confirm: Confirm = read_json(&store, body, CONFIRM_BYTES_MAX).await?;
    let code = store.inner.codes.verify(&confirm.code, &user)?;
    let table = Table::introduce(confirm)?;
    store.inner.access.check_table(&table).await?;
    let (id, url) = (table.record.id.clone(), table.record.url.clone());
    let confirm = move |inner: &Inner| {
        inner.users.confirm(&code, table, &inner.commits)?;
        inner.audit.note(Event::TableConfirmed { user: &user, table: &id, url: &url });
        inner.access.begin_anew(&user, &inner.commits)?;
        inner.commits.seal(Sealing::OpenAll(user))
    };
    store.blocking(confirm).await?;
    Ok(Json(Confirmed { store: store.store_id(), store_key: store.inner.signer.public().to_owned() }))
}

/// Ends a session here, by its table's word: its tokens are refused from now on, and its streams end. Where the word names a
/// channel, what was shared with the session in that ends, and nothing else.
#[utoipa::path(delete, path = "/user/{user}/session/{session}", tag = "tables",
    params(("user" = String, Path, description = "The user"), ("session" = String, Path, description = "The session")),
    security(("table" = [])), responses((status = 204), (status = 401, body = Refusal), (status = 403, body = Refusal)))]
pub(crate) async fn revoke(
    State(store): State<Store>,
    names: Names,
    Bearer(token): Bearer,
) -> Result<StatusCode, Refused> {
    let (user, session) = (names.user()?, names.session()?);
    let Some(table) = store.inner.users.table(&user) else { return Err(Refused(user::unknown(&user))) };
    let claims = token::verify_revocation(&token, &table, store.store_id(), &user)?;
    if claims.sid != session {
        return Err(Refused(Refusal::new(ErrorCode::Forbidden, "the token is for another session")));
    }
    let revoke = move |inner: &Inner| {
        let channel = claims.channel.clone();
        inner.access.revoke(claims, &inner.commits)?;
        inner.audit.note(match &channel {
            None => Event::SessionRevoked { user: &user, session, by: None },
            Some(channel) => Event::GuestRevoked { user: &user, channel, session },
        });
        Ok(())
    };
    store.blocking(revoke).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Has a channel take no more writes, or take them again, by its table's word. Every push that was accepted before this
/// answers is on disk, and every one after it is refused as a whole with the code `sealed`; reading and pruning go on.
#[utoipa::path(post, path = "/user/{user}/channel/{channel}/seal", tag = "tables",
    params(("user" = String, Path, description = "The user"), ("channel" = String, Path, description = "The channel")),
    security(("table" = [])), responses((status = 204), (status = 401, body = Refusal), (status = 403, body = Refusal)))]
pub(crate) async fn seal(
    State(store): State<Store>,
    names: Names,
    Bearer(token): Bearer,
) -> Result<StatusCode, Refused> {
    let (user, channel) = (names.user()?, names.channel()?);
    let Some(table) = store.inner.users.table(&user) else { return Err(Refused(user::unknown(&user))) };
    let claims = token::verify_seal(&token, &table, store.store_id(), &user, &channel)?;
    let (sealed, id) = (claims.sealed, store.store_id());
    let sealing = Sealing::Channel { user: user.clone(), channel: channel.clone(), sealed };
    store.blocking(move |inner| inner.commits.seal(sealing)).await?;
    store.inner.audit.note(Event::ChannelSealed { user: &user, channel: &channel, store: id, sealed });
    Ok(StatusCode::NO_CONTENT)
}

/// Bytes of a table's introduction.
const CONFIRM_BYTES_MAX: usize = 16 * 1024;
