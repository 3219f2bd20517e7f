//! Credentials from the `Authorization` header: sessions, masters, the admin token and store tokens.

use std::net::IpAddr;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use gigfs_core::{ErrorCode, Refusal, base64_text};
use gigfs_serve::{Event, client_address, request};

use super::extract::Params;
use super::refusal::Refused;
use crate::session::Access;
use crate::table::Table;
use crate::visit::Visit;

/// `Authorization: Bearer …`, whatever the token is.
pub(crate) struct Bearer(pub(crate) String);

/// `Authorization: Master …`: the master of a user, 32 bytes in base64url.
pub(crate) struct Master(pub(crate) Vec<u8>);

/// `Authorization: Bearer …` with the admin token.
pub(crate) struct Admin;

/// `Authorization: Bearer …` with the token of a live session, whoever's it is.
pub(crate) struct AnySession;

/// From where the request comes.
pub(crate) struct ClientAddress(pub(crate) IpAddr);

impl<S: Sync> FromRequestParts<S> for Bearer {
    type Rejection = Refused;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        credentials(parts, "Bearer").map(|token| Self(token.to_owned()))
    }
}

impl<S: Sync> FromRequestParts<S> for Master {
    type Rejection = Refused;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        let text = credentials(parts, "Master")?;
        base64_text::decode(text)
            .map(Self)
            .map_err(|_| Refused(request::missing_credentials("Master", "the master in base64url without padding")))
    }
}

impl FromRequestParts<Table> for Admin {
    type Rejection = Refused;
    async fn from_request_parts(parts: &mut Parts, table: &Table) -> Result<Self, Refused> {
        let token = credentials(parts, "Bearer")?.as_bytes();
        let attempts = &table.inner.attempts;
        let address = client_address(parts, &table.inner.trusted_proxies);
        let attempt = attempts.begin(None, address, attempts.now()).map_err(|error| Refused(error.into()))?;
        if table.inner.admin.matches(token) {
            attempt.take_back();
            return Ok(Self);
        }
        table.inner.audit.note(Event::AdminRefused { from: address });
        let refusal = Refusal::new(ErrorCode::Unauthorized, "this is not the admin token of this table");
        Err(Refused(refusal.hint("it stands in the file admin-token in the table's data folder")))
    }
}

impl FromRequestParts<Table> for ClientAddress {
    type Rejection = Refused;
    async fn from_request_parts(parts: &mut Parts, table: &Table) -> Result<Self, Refused> {
        Ok(Self(client_address(parts, &table.inner.trusted_proxies)))
    }
}

impl FromRequestParts<Table> for Access {
    type Rejection = Refused;
    async fn from_request_parts(parts: &mut Parts, table: &Table) -> Result<Self, Refused> {
        let user = Params::from_request_parts(parts, table).await?.user()?;
        let token = credentials(parts, "Bearer")?.parse()?;
        Ok(table.authorise(&user, token).await?)
    }
}

impl FromRequestParts<Table> for Visit {
    type Rejection = Refused;
    async fn from_request_parts(parts: &mut Parts, table: &Table) -> Result<Self, Refused> {
        let owner = Params::from_request_parts(parts, table).await?.user()?;
        let token = credentials(parts, "Bearer")?.parse()?;
        Ok(table.visit(&owner, token).await?)
    }
}

impl FromRequestParts<Table> for AnySession {
    type Rejection = Refused;
    async fn from_request_parts(parts: &mut Parts, table: &Table) -> Result<Self, Refused> {
        table.authorise_any(credentials(parts, "Bearer")?.parse()?).await?;
        Ok(Self)
    }
}

/// Returns what follows the scheme in the one `Authorization` header.
fn credentials<'p>(parts: &'p Parts, scheme: &str) -> Result<&'p str, Refused> {
    request::credentials(parts, scheme, "the credentials").map_err(Refused)
}
