//! What handlers take from a request: names out of the path, the query and a JSON body. Whatever is wrong is a refusal in JSON.

use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::request::Parts;
use gigfs_core::{ChannelName, ErrorCode, Refusal, SessionId, StoreId, UserName};
use gigfs_serve::request::{self, PathParams};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::BODY_BYTES_MAX;
use super::refusal::Refused;
use crate::table::Table;

/// The decoded parameters of the path, parsed into names one by one.
pub(crate) struct Params(PathParams);

/// `?abandon=true`; false where it is left out.
pub(crate) struct Abandon(pub(crate) bool);

/// A JSON body of at most `MAX` bytes.
pub(crate) struct Body<T, const MAX: usize = BODY_BYTES_MAX>(pub(crate) T);

impl Params {
    pub(crate) fn user(&self) -> Result<UserName, Refused> {
        Ok(UserName::parse(self.0.text("user"))?)
    }

    pub(crate) fn channel(&self) -> Result<ChannelName, Refused> {
        Ok(ChannelName::parse(self.0.text("channel"))?)
    }

    pub(crate) fn guest(&self) -> Result<UserName, Refused> {
        Ok(UserName::parse(self.0.text("guest"))?)
    }

    pub(crate) fn store(&self) -> Result<StoreId, Refused> {
        Ok(self.0.text("store").parse()?)
    }

    pub(crate) fn session(&self) -> Result<SessionId, Refused> {
        Ok(self.0.text("session").parse()?)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = Refused;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        PathParams::read(parts, state).await.map(Self).map_err(Refused)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Abandon {
    type Rejection = Refused;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        #[derive(Deserialize)]
        struct Asked {
            #[serde(default)]
            abandon: bool,
        }
        match Query::<Asked>::try_from_uri(&parts.uri) {
            Ok(Query(asked)) => Ok(Self(asked.abandon)),
            Err(_) => Err(Refused(Refusal::new(ErrorCode::BadRequest, "\"abandon\" must be \"true\" or \"false\""))),
        }
    }
}

impl<T: DeserializeOwned, const MAX: usize> FromRequest<Table> for Body<T, MAX> {
    type Rejection = Refused;
    async fn from_request(request: Request, table: &Table) -> Result<Self, Refused> {
        let bytes = request::body(request.into_body(), MAX, table.inner.connections.body()).await.map_err(Refused)?;
        request::json(&bytes).map(Self).map_err(Refused)
    }
}
