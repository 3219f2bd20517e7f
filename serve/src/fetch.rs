//! Calls to servers that somebody else named: `http` or `https`, no redirects, no proxy, an answer of bounded size in
//! bounded time, and only to addresses that the operator allows.
//!
//! A name is resolved once a connection, and the connection goes to one of the very addresses that were looked at: there
//! is no second answer of a name server that could be another one.

use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use gigfs_core::limits::URL_BYTES_MAX;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::AUTHORIZATION;
use reqwest::{Certificate, Client, Method, RequestBuilder, StatusCode, Url, redirect};
use serde::Serialize;

use crate::Networks;

/// A client for such calls.
#[derive(Debug, Clone)]
pub struct Fetch {
    client: Client,
    networks: Networks,
    timeout: Duration,
}

/// How a [`Fetch`] calls.
#[derive(Debug)]
pub struct Manner {
    /// What it calls itself.
    pub user_agent: &'static str,
    /// From the first packet to the last byte of the answer.
    pub timeout: Duration,
    /// Certificates to trust beside those that the system trusts.
    pub trusted: Vec<Certificate>,
    /// Where it may connect to.
    pub networks: Networks,
}

/// An answer of at most [`ANSWER_BYTES_MAX`] bytes.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its body.
    pub body: Vec<u8>,
}

/// A call that got no answer. The URL is not in the text.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The address is one of this machine or of a private network, and the operator does not allow it.
    #[error("its address is not a public one, and this server may not connect to it")]
    NotAllowed,
    /// It took too long.
    #[error("it did not answer within {} s", .0.as_secs())]
    Late(Duration),
    /// It sent too much.
    #[error("its answer is longer than {ANSWER_BYTES_MAX} bytes")]
    TooLong,
    /// Anything else, by its innermost cause, which is the one that a person can act on.
    #[error("{0}")]
    Failed(String),
}

impl Fetch {
    /// Makes a client.
    ///
    /// # Errors
    /// If a certificate cannot be used.
    pub fn new(manner: Manner) -> reqwest::Result<Self> {
        let Manner { user_agent, timeout, trusted, networks } = manner;
        let builder = Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .timeout(timeout)
            .connect_timeout(timeout)
            .dns_resolver(AllowedOnly(networks.clone()))
            .user_agent(user_agent);
        let builder = if trusted.is_empty() { builder } else { builder.tls_certs_merge(trusted) };
        Ok(Self { client: builder.build()?, networks, timeout })
    }

    /// Calls, with a bearer token and a JSON body where there are any, and reads the whole answer.
    ///
    /// # Errors
    /// [`FetchError`] if there is no answer, whatever its status.
    pub async fn call<B: Serialize + Sync>(
        &self,
        method: Method,
        url: &str,
        bearer: Option<&str>,
        body: Option<&B>,
    ) -> Result<Answer, FetchError> {
        self.check_literal(url)?;
        let mut request = self.client.request(method, url);
        if let Some(token) = bearer {
            request = request.header(AUTHORIZATION, secret_header(token)?);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        self.answer(request).await
    }

    /// Checks that the host of a URL has an address that may be connected to. One that cannot be resolved now passes: it is
    /// looked at again when it is called.
    ///
    /// # Errors
    /// [`FetchError::NotAllowed`].
    pub async fn check(&self, url: &str) -> Result<(), FetchError> {
        self.check_literal(url)?;
        let Some(host) = Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned)) else { return Ok(()) };
        match tokio::time::timeout(self.timeout, lookup(&host)).await {
            Ok(Ok(found)) if !found.is_empty() && !found.iter().any(|at| self.networks.allow(at.ip())) => {
                Err(FetchError::NotAllowed)
            }
            _ => Ok(()),
        }
    }

    /// Addresses that stand in the URL are not resolved, so the resolver does not see them.
    fn check_literal(&self, url: &str) -> Result<(), FetchError> {
        let url = Url::parse(url).map_err(|error| FetchError::Failed(format!("its url cannot be read: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(FetchError::Failed("its url does not begin with http:// or https://".to_owned()));
        }
        match url.host_str().and_then(literal) {
            Some(address) if !self.networks.allow(address) => Err(FetchError::NotAllowed),
            _ => Ok(()),
        }
    }

    async fn answer(&self, request: RequestBuilder) -> Result<Answer, FetchError> {
        let because = |error| self.because(&error);
        let mut answer = request.send().await.map_err(because)?;
        let status = answer.status();
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(because)? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(FetchError::TooLong);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, body })
    }

    fn because(&self, error: &reqwest::Error) -> FetchError {
        if error.is_timeout() {
            return FetchError::Late(self.timeout);
        }
        let mut cause = error.source();
        while let Some(next) = cause.and_then(|cause| cause.source()) {
            cause = Some(next);
        }
        match cause {
            Some(cause) if is_not_allowed(cause) => FetchError::NotAllowed,
            Some(cause) => FetchError::Failed(cause.to_string()),
            None => FetchError::Failed("the request failed".to_owned()),
        }
    }
}

/// Checks that a text is the URL of a server, and returns it without a slash at its end, so that one server has one URL.
///
/// # Errors
/// What is wrong with it, to follow "the url". It does not repeat the text, which may hold a password.
pub fn server_url(text: &str) -> Result<String, String> {
    if text.len() > URL_BYTES_MAX {
        return Err(format!("has {} bytes and the limit is {URL_BYTES_MAX}", text.len()));
    }
    let url = Url::parse(text).map_err(|error| format!("cannot be read: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("must begin with http:// or https://".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a user name or a password; leave them out".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("has a part after \"?\" or \"#\"; leave it out".to_owned());
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// Resolves names to those of their addresses that may be connected to.
struct AllowedOnly(Networks);

impl Resolve for AllowedOnly {
    fn resolve(&self, name: Name) -> Resolving {
        let networks = self.0.clone();
        Box::pin(async move {
            let mut found = lookup(name.as_str()).await?;
            let there_were = !found.is_empty();
            found.retain(|address| networks.allow(address.ip()));
            match found.is_empty() && there_were {
                true => Err(FetchError::NotAllowed.into()),
                false => Ok(Box::new(found.into_iter()) as Addrs),
            }
        })
    }
}

async fn lookup(host: &str) -> io::Result<Vec<SocketAddr>> {
    Ok(tokio::net::lookup_host((host, 0)).await?.collect())
}

fn literal(host: &str) -> Option<IpAddr> {
    host.trim_matches(['[', ']']).parse().ok()
}

fn is_not_allowed(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref::<FetchError>().is_some_and(|error| matches!(error, FetchError::NotAllowed))
}

/// A header that no log repeats.
fn secret_header(token: &str) -> Result<reqwest::header::HeaderValue, FetchError> {
    let mut value = reqwest::header::HeaderValue::try_from(format!("Bearer {token}"))
        .map_err(|_| FetchError::Failed("the token does not fit in a header".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Bytes of an answer.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_url_is_http_and_nothing_else() {
        for (text, read) in [
            ("http://a.example", "http://a.example"),
            ("https://a.example:8443/", "https://a.example:8443"),
            ("http://[::1]:9/below/", "http://[::1]:9/below"),
        ] {
            assert_eq!(server_url(text).unwrap(), read);
        }
        for bad in ["", "a.example", "ftp://a", "file:///etc/passwd", "http://", "http://a?b", "http://a#b"] {
            assert!(server_url(bad).is_err(), "{bad:?} was accepted");
        }
        let long = format!("http://a/{}", "b".repeat(URL_BYTES_MAX));
        assert!(server_url(&long).is_err());
    }

    #[test]
    fn a_refused_url_does_not_repeat_the_password_in_it() {
        let error = server_url("http://ann:hunter2@a.example").unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
    }
}
