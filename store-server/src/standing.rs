//! Asking a table about a token: straight to the address that was confirmed, no redirects, with an end.

use std::time::Duration;

use gigfs_core::api::TokenStanding;
use gigfs_core::{ErrorCode, ErrorKind, Refusal, UserName};
use reqwest::header::AUTHORIZATION;
use reqwest::{Certificate, Client, StatusCode};

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
    client: Client,
}

impl TableClient {
    /// Makes a client that trusts the system's certificates and these.
    pub(crate) fn new(trusted: Vec<Certificate>) -> reqwest::Result<Self> {
        let builder = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(CALL_SECONDS_MAX)
            .connect_timeout(CALL_SECONDS_MAX)
            .user_agent(concat!("gigfs-store/", env!("CARGO_PKG_VERSION")));
        let builder = if trusted.is_empty() { builder } else { builder.tls_certs_merge(trusted) };
        Ok(Self { client: builder.build()? })
    }

    /// Asks about a token.
    pub(crate) async fn ask(&self, table: &Table, user: &UserName, token: &str) -> Standing {
        let url = format!("{}/user/{user}/table/check", table.record.url);
        let request = self.client.get(url).header(AUTHORIZATION, format!("Bearer {token}"));
        let mut answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::warn!(table = table.record.url, error = %error.without_url(), "the table does not answer");
                return Standing::Unanswered;
            }
        };
        let status = answer.status();
        let mut body = Vec::new();
        loop {
            match answer.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() <= ANSWER_BYTES_MAX => body.extend_from_slice(&chunk),
                Ok(None) => break,
                Ok(Some(_)) | Err(_) => return Standing::Unanswered,
            }
        }
        match status {
            StatusCode::OK if serde_json::from_slice::<TokenStanding>(&body).is_ok() => Standing::Good,
            StatusCode::UNAUTHORIZED => Standing::Refused(refused(&body)),
            _ => {
                tracing::warn!(table = table.record.url, %status, "the table does not answer as a table does");
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
/// Bytes of a table's answer.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
