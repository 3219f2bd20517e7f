//! What handlers take from a request: names out of the path and the query, credentials, and a body of bounded size.
//! Whatever is wrong is a refusal in JSON.

use axum::body::{Body, Bytes};
use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use gigfs_core::{BlobName, ChannelName, ErrorCode, Refusal, SessionId, UserName};
use gigfs_serve::request::{self, PathParams};
use gigfs_serve::{Event, client_address};
use serde::de::DeserializeOwned;

use crate::refusal::Refused;
use crate::store::Store;

/// The decoded parameters of the path, parsed into names one by one.
pub(crate) struct Names(PathParams);

impl Names {
    pub(crate) fn user(&self) -> Result<UserName, Refused> {
        Ok(UserName::parse(self.0.text("user"))?)
    }

    pub(crate) fn session(&self) -> Result<SessionId, Refused> {
        Ok(self.0.text("session").parse()?)
    }

    pub(crate) fn channel(&self) -> Result<ChannelName, Refused> {
        Ok(ChannelName::parse(self.0.text("channel"))?)
    }

    pub(crate) fn blob(&self) -> Result<BlobName, Refused> {
        Ok(self.0.text("blob").parse()?)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Names {
    type Rejection = Refused;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        PathParams::read(parts, state).await.map(Self).map_err(Refused)
    }
}

/// The query, parsed into values one by one.
pub(crate) struct Asked(Vec<(String, String)>);

impl Asked {
    /// Refuses a query with anything but these, so that a misspelt parameter is not passed over.
    pub(crate) fn only(&self, known: &[&str]) -> Result<(), Refused> {
        match self.0.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            None => Ok(()),
            Some((name, _)) => {
                let name: String = name.chars().take(64).collect();
                let message = format!("this route has no query parameter {name:?}; it has {}", known.join(", "));
                Err(Refused(Refusal::new(ErrorCode::BadRequest, message)))
            }
        }
    }

    /// Returns a parameter that may be left out.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Parses a parameter that must be there.
    pub(crate) fn required<T>(&self, name: &str, parse: impl FnOnce(&str) -> Result<T, Refused>) -> Result<T, Refused> {
        match self.text(name) {
            Some(text) => parse(text),
            None => {
                let message = format!("the query parameter {name:?} is missing");
                Err(Refused(Refusal::new(ErrorCode::BadRequest, message).hint(format!("add {name}=… to the URL"))))
            }
        }
    }

    /// Parses a parameter that may be left out.
    pub(crate) fn optional<T>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, Refused>,
    ) -> Result<Option<T>, Refused> {
        self.text(name).map(parse).transpose()
    }

    /// Parses a number from 0 that may be left out.
    pub(crate) fn number(&self, name: &str) -> Result<Option<u64>, Refused> {
        self.optional(name, |text| {
            let bad = |_| Refused(Refusal::new(ErrorCode::BadRequest, format!("{name} must be a number from 0")));
            text.parse().map_err(bad)
        })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = Refused;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(pairs)) => Ok(Self(pairs)),
            Err(_) => Err(Refused(Refusal::new(ErrorCode::BadRequest, "the query of the URL cannot be read"))),
        }
    }
}

/// `Authorization: Bearer …`, whatever the token is.
pub(crate) struct Bearer(pub(crate) String);

impl<S: Sync> FromRequestParts<S> for Bearer {
    type Rejection = Refused;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        let token = request::credentials(parts, "Bearer", "the token").map_err(Refused)?;
        Ok(Self(token.to_owned()))
    }
}

/// `Authorization: Bearer …` with the admin token.
pub(crate) struct Admin;

impl FromRequestParts<Store> for Admin {
    type Rejection = Refused;
    async fn from_request_parts(parts: &mut Parts, store: &Store) -> Result<Self, Refused> {
        let Bearer(token) = Bearer::from_request_parts(parts, store).await?;
        let attempts = &store.inner.attempts;
        let address = client_address(parts, &store.inner.trusted_proxies);
        let attempt = attempts.begin(None, address, attempts.now()).map_err(Refusal::from)?;
        // The hashes are compared in constant time.
        if blake3::hash(token.as_bytes()) == store.inner.admin {
            attempt.take_back();
            return Ok(Self);
        }
        store.inner.audit.note(Event::AdminRefused { from: address });
        let refusal = Refusal::new(ErrorCode::Unauthorized, "this is not the admin token of this store");
        Err(Refused(refusal.hint("it stands in the file admin-token in the store's data folder")))
    }
}

/// Reads a body of at most `max` bytes, and no byte of one that announces more.
pub(crate) async fn read_body(store: &Store, body: Body, max: usize) -> Result<Bytes, Refused> {
    request::body(body, max, store.inner.connections.body()).await.map_err(Refused)
}

/// Reads a JSON body of at most `max` bytes.
pub(crate) async fn read_json<T: DeserializeOwned>(store: &Store, body: Body, max: usize) -> Result<T, Refused> {
    let bytes = read_body(store, body, max).await?;
    request::json(&bytes).map_err(Refused)
}
