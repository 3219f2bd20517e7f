//! Calls from the table to stores: `http` or `https`, straight to the address that was given, no redirects, with an end.
//!
//! A store is named by whoever mounts it, so nothing of its answer is trusted beyond its size and form.

use std::error::Error as _;
use std::fmt;
use std::time::Duration;

use gigfs_core::api::{Confirm, Confirmed};
use gigfs_core::limits::URL_BYTES_MAX;
use gigfs_core::{ChannelName, ErrorCode, Refusal, SessionId, StoreId, UserName};
use reqwest::header::AUTHORIZATION;
use reqwest::{Certificate, Client, RequestBuilder, Response, StatusCode, Url};
use serde::de::DeserializeOwned;

use crate::store_key::{StoreKey, StoreKeyError};

/// Where a store is: `http` or `https`, a host, perhaps a port and a path, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoreUrl(String);

/// Why a text is not the url of a store. It does not repeat the text, which may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the store's url {reason}")]
pub struct StoreUrlError {
    reason: String,
}

/// A call that a store did not grant.
#[derive(Debug, thiserror::Error)]
pub enum StoreCallError {
    /// Nothing answered, or not in time.
    #[error("the store at {url} cannot be reached: {reason}")]
    Unreachable {
        /// Where it should be.
        url: String,
        /// What went wrong.
        reason: String,
    },
    /// Something answered that is no store.
    #[error("what answers at {url} is not a gigfs store: {reason}")]
    NotAStore {
        /// Where it is.
        url: String,
        /// What is wrong with the answer.
        reason: String,
    },
    /// The store refused.
    #[error("the store at {url} refused: {refusal}")]
    Refused {
        /// Where it is.
        url: String,
        /// What it said.
        refusal: Refusal,
    },
}

/// The table's HTTP client.
pub(crate) struct StoreClient {
    client: Client,
}

impl StoreUrl {
    /// Parses a URL and drops the slash at its end, so that one store has one url.
    pub(crate) fn parse(text: &str) -> Result<Self, StoreUrlError> {
        let bad = |reason: String| StoreUrlError { reason };
        if text.len() > URL_BYTES_MAX {
            return Err(bad(format!("has {} bytes and the limit is {URL_BYTES_MAX}", text.len())));
        }
        let url = Url::parse(text).map_err(|error| bad(format!("cannot be read: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(bad("must begin with http:// or https://".to_owned()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(bad("holds a user name or a password; leave them out".to_owned()));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(bad("has a part after \"?\" or \"#\"; leave it out".to_owned()));
        }
        Ok(Self(url.as_str().trim_end_matches('/').to_owned()))
    }

    /// Returns the url without a slash at its end.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StoreClient {
    /// Makes a client that trusts the system's certificates and these.
    pub(crate) fn new(trusted: Vec<Certificate>) -> reqwest::Result<Self> {
        let builder = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(CALL_SECONDS_MAX)
            .connect_timeout(CALL_SECONDS_MAX)
            .user_agent(concat!("gigfs-table/", env!("CARGO_PKG_VERSION")));
        let builder = if trusted.is_empty() { builder } else { builder.tls_certs_merge(trusted) };
        Ok(Self { client: builder.build()? })
    }

    /// Introduces the table to a store, which answers with its id and its key.
    pub(crate) async fn confirm(
        &self,
        url: &StoreUrl,
        user: &UserName,
        confirm: &Confirm,
    ) -> Result<(StoreId, StoreKey), StoreCallError> {
        let request = self.client.post(format!("{url}/user/{user}/confirm")).json(confirm);
        let answer = request.send().await.map_err(|error| unreachable_because(url, &error))?;
        let Confirmed { store, store_key } = read(url, answer).await?;
        let key = StoreKey::from_pem(&store_key);
        let no_key =
            |error: StoreKeyError| StoreCallError::NotAStore { url: url.to_string(), reason: error.to_string() };
        Ok((store, key.map_err(no_key)?))
    }

    /// Tells a store that a session has ended. `token` is the table's word for it.
    pub(crate) async fn revoke(
        &self,
        url: &StoreUrl,
        user: &UserName,
        session: SessionId,
        token: &str,
    ) -> Result<(), StoreCallError> {
        tell(url, self.client.delete(format!("{url}/user/{user}/session/{session}")), token).await
    }

    /// Has a store seal a channel, or open it again. `token` is the table's word, and says which.
    pub(crate) async fn seal(
        &self,
        url: &StoreUrl,
        user: &UserName,
        channel: &ChannelName,
        token: &str,
    ) -> Result<(), StoreCallError> {
        tell(url, self.client.post(format!("{url}/user/{user}/channel/{channel}/seal")), token).await
    }
}

/// Makes a call whose answer is yes or no.
async fn tell(url: &StoreUrl, request: RequestBuilder, token: &str) -> Result<(), StoreCallError> {
    let request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    let answer = request.send().await.map_err(|error| unreachable_because(url, &error))?;
    match answer.status() {
        status if status.is_success() => Ok(()),
        _ => Err(refused(url, answer).await),
    }
}

async fn read<T: DeserializeOwned>(url: &StoreUrl, answer: Response) -> Result<T, StoreCallError> {
    if answer.status() != StatusCode::OK && answer.status() != StatusCode::CREATED {
        return Err(refused(url, answer).await);
    }
    let body = body(url, answer).await?;
    serde_json::from_slice(&body).map_err(|_| StoreCallError::NotAStore {
        url: url.to_string(),
        reason: "its answer is not the one that a store gives".to_owned(),
    })
}

async fn refused(url: &StoreUrl, answer: Response) -> StoreCallError {
    let status = answer.status();
    let body = match body(url, answer).await {
        Ok(body) => body,
        Err(error) => return error,
    };
    match serde_json::from_slice::<Refusal>(&body) {
        // A server of ours that lacks the route, such as a table, is no store either.
        Ok(refusal) if !matches!(refusal.code, ErrorCode::NotFound | ErrorCode::MethodNotAllowed) => {
            StoreCallError::Refused { url: url.to_string(), refusal }
        }
        _ => StoreCallError::NotAStore { url: url.to_string(), reason: format!("it answers {status}") },
    }
}

async fn body(url: &StoreUrl, mut answer: Response) -> Result<Vec<u8>, StoreCallError> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| unreachable_because(url, &error))? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            let reason = format!("its answer is longer than {ANSWER_BYTES_MAX} bytes");
            return Err(StoreCallError::NotAStore { url: url.to_string(), reason });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Says what went wrong below: the innermost cause is the one that a person can act on.
fn unreachable_because(url: &StoreUrl, error: &reqwest::Error) -> StoreCallError {
    let reason = if error.is_timeout() {
        format!("it did not answer within {} s", CALL_SECONDS_MAX.as_secs())
    } else {
        let mut cause = error.source();
        while let Some(next) = cause.and_then(|cause| cause.source()) {
            cause = Some(next);
        }
        cause.map_or_else(|| "the request failed".to_owned(), ToString::to_string)
    };
    StoreCallError::Unreachable { url: url.to_string(), reason }
}

/// From the first packet to the last byte of the answer.
const CALL_SECONDS_MAX: Duration = Duration::from_secs(10);
/// Bytes of a store's answer.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_url_is_http_and_nothing_else() {
        for (text, read) in [
            ("http://a.example", "http://a.example"),
            ("https://a.example:8443/", "https://a.example:8443"),
            ("http://[::1]:9/below/", "http://[::1]:9/below"),
        ] {
            assert_eq!(StoreUrl::parse(text).unwrap().as_str(), read);
        }
        for bad in ["", "a.example", "ftp://a", "file:///etc/passwd", "http://", "http://a?b", "http://a#b"] {
            assert!(StoreUrl::parse(bad).is_err(), "{bad:?} was accepted");
        }
        let long = format!("http://a/{}", "b".repeat(URL_BYTES_MAX));
        assert!(StoreUrl::parse(&long).is_err());
    }

    #[test]
    fn a_refused_url_does_not_repeat_the_password_in_it() {
        let error = StoreUrl::parse("http://ann:hunter2@a.example").unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
}
