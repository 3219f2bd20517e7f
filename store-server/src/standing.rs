//! Asking a table about a token: only at an address that the operator allows (`gigfs_serve::fetch`).

use std::time::Duration;

use gigfs_core::api::TokenStanding;
use gigfs_core::{ErrorCode, ErrorKind, Refusal, UserName};
use gigfs_serve::{Answer, Fetch, FetchError, Manner, Networks};
use reqwest::{Certificate, Method};

use crate::user::Table;

/// What a table says of a token.
#[derive(Debug, Clone)]
pub(crate) enum Standing {
    /// Its session is live.
    Good,
    /// It is not, or the token is none of the table's.
    Refused(Refusal),
    /// The table did not answer, or not sensibly.
    Unanswered,
}

/// The store's HTTP client.
pub(crate) struct TableClient {
    fetch: Fetch,
}

impl TableClient {
    /// Makes a client that trusts the system's certificates and these.
    pub(crate) fn new(trusted: Vec<Certificate>, networks: Networks) -> reqwest::Result<Self> {
        let user_agent = concat!("gigfs-store/", env!("CARGO_PKG_VERSION"));
        Ok(Self { fetch: Fetch::new(Manner { user_agent, timeout: CALL_SECONDS_MAX, trusted, networks })? })
    }

    /// Refuses a table at an address that the operator does not allow.
    pub(crate) async fn check(&self, table: &Table) -> Result<(), Refusal> {
        let url = &table.record.url;
        match self.fetch.check(url).await {
            Err(FetchError::NotAllowed) => {
                let message = format!("the store may not connect to the table at {url}, which is no public address");
                let hint = "have the table say its public URL, or ask the store's operator to allow its network \
                            (private_networks)";
                Err(Refusal::new(ErrorCode::Forbidden, message).hint(hint))
            }
            _ => Ok(()),
        }
    }

    /// Asks about a token.
    pub(crate) async fn ask(&self, table: &Table, user: &UserName, token: &str) -> Standing {
        let url = &table.record.url;
        let path = format!("{url}/user/{user}/table/check");
        let Answer { status, body } = match self.fetch.call(Method::GET, &path, Some(token), None::<&()>).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::warn!(table = url, %error, "the table does not answer");
                return Standing::Unanswered;
            }
        };
        match status.as_u16() {
            200 if serde_json::from_slice::<TokenStanding>(&body).is_ok() => Standing::Good,
            401 => Standing::Refused(refused(&body)),
            _ => {
                tracing::warn!(table = url, %status, "the table does not answer as a table does");
                Standing::Unanswered
            }
        }
    }
}

/// Takes over the table's reason if it is one about logging in.
fn refused(body: &[u8]) -> Refusal {
    let said = serde_json::from_slice::<Refusal>(body).ok().map(|refusal| refusal.code);
    let code = said.filter(|code| code.kind() == ErrorKind::LogIn).unwrap_or(ErrorCode::Revoked);
    Refusal::new(code, "the table says that the token's session is not live").hint("log in again")
}

/// From the first packet to the last byte of the answer; a client waits this long for a table that hangs.
const CALL_SECONDS_MAX: Duration = Duration::from_secs(3);
