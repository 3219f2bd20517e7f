//! Calls from the table to stores: only to addresses that the operator allows (`gigfs_serve::fetch`).
//!
//! A store is named by whoever mounts it, so nothing of its answer is trusted beyond its size and form.

use std::fmt;
use std::time::Duration;

use gigfs_core::api::{Confirm, Confirmed};
use gigfs_core::{ChannelName, ErrorCode, Refusal, SessionId, StoreId, UserName};
use gigfs_serve::fetch::server_url;
use gigfs_serve::{Answer, Fetch, FetchError, Manner, Networks};
use reqwest::{Certificate, Method};
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
    /// The store has an address that the table's operator does not let it connect to.
    #[error("the table may not connect to {url}, because its address is not a public one")]
    NotAllowed {
        /// Where it should be.
        url: String,
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
    fetch: Fetch,
}

impl StoreUrl {
    /// Parses a URL and drops the slash at its end, so that one store has one url.
    pub(crate) fn parse(text: &str) -> Result<Self, StoreUrlError> {
        server_url(text).map(Self).map_err(|reason| StoreUrlError { reason })
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
    pub(crate) fn new(trusted: Vec<Certificate>, networks: Networks) -> reqwest::Result<Self> {
        let user_agent = concat!("gigfs-table/", env!("CARGO_PKG_VERSION"));
        Ok(Self { fetch: Fetch::new(Manner { user_agent, timeout: CALL_SECONDS_MAX, trusted, networks })? })
    }

    /// Introduces the table to a store, which answers with its id and its key.
    pub(crate) async fn confirm(
        &self,
        url: &StoreUrl,
        user: &UserName,
        confirm: &Confirm,
    ) -> Result<(StoreId, StoreKey), StoreCallError> {
        let path = format!("{url}/user/{user}/confirm");
        let answer = self.fetch.call(Method::POST, &path, None, Some(confirm)).await;
        let Confirmed { store, store_key } = read(url, answer.map_err(|error| no_answer(url, error))?)?;
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
        self.tell(url, Method::DELETE, &format!("/user/{user}/session/{session}"), token).await
    }

    /// Has a store seal a channel, or open it again. `token` is the table's word, and says which.
    pub(crate) async fn seal(
        &self,
        url: &StoreUrl,
        user: &UserName,
        channel: &ChannelName,
        token: &str,
    ) -> Result<(), StoreCallError> {
        self.tell(url, Method::POST, &format!("/user/{user}/channel/{channel}/seal"), token).await
    }

    /// Makes a call whose answer is yes or no.
    async fn tell(&self, url: &StoreUrl, method: Method, path: &str, token: &str) -> Result<(), StoreCallError> {
        let answer = self.fetch.call(method, &format!("{url}{path}"), Some(token), None::<&()>).await;
        match answer.map_err(|error| no_answer(url, error))? {
            answer if answer.status.is_success() => Ok(()),
            answer => Err(refused(url, &answer)),
        }
    }
}

fn read<T: DeserializeOwned>(url: &StoreUrl, answer: Answer) -> Result<T, StoreCallError> {
    if !matches!(answer.status.as_u16(), 200 | 201) {
        return Err(refused(url, &answer));
    }
    serde_json::from_slice(&answer.body).map_err(|_| StoreCallError::NotAStore {
        url: url.to_string(),
        reason: "its answer is not the one that a store gives".to_owned(),
    })
}

fn refused(url: &StoreUrl, answer: &Answer) -> StoreCallError {
    match serde_json::from_slice::<Refusal>(&answer.body) {
        // A server of ours that lacks the route, such as a table, is no store either.
        Ok(refusal) if !matches!(refusal.code, ErrorCode::NotFound | ErrorCode::MethodNotAllowed) => {
            StoreCallError::Refused { url: url.to_string(), refusal }
        }
        _ => StoreCallError::NotAStore { url: url.to_string(), reason: format!("it answers {}", answer.status) },
    }
}

fn no_answer(url: &StoreUrl, error: FetchError) -> StoreCallError {
    let url = url.to_string();
    match error {
        FetchError::NotAllowed => StoreCallError::NotAllowed { url },
        FetchError::TooLong => StoreCallError::NotAStore { url, reason: error.to_string() },
        FetchError::Late(_) | FetchError::Failed(_) => StoreCallError::Unreachable { url, reason: error.to_string() },
    }
}

/// From the first packet to the last byte of the answer.
const CALL_SECONDS_MAX: Duration = Duration::from_secs(10);
