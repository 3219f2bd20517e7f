//! What both servers' HTTP clients share: requests with credentials in the header, refusals as errors, and trust.

use std::sync::Arc;
use std::time::Duration;

use gigfs_core::{ErrorCode, Refusal, json};
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Method, RequestBuilder, Response};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::de::DeserializeOwned;

use crate::error::Error;

/// How long a request may take as a whole.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
/// Bytes of one answer: that of a mount table with the most channels and stores, whose URLs are of a common length.
pub(crate) const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of one refusal.
const REFUSAL_BYTES_MAX: usize = 64 * 1024;
/// How long a connection may take to come up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// HTTP and TLS as this client uses them: no redirects, and the certificates that the app trusts beside the public ones.
#[derive(Clone)]
pub(crate) struct Http {
    client: reqwest::Client,
    tls: Arc<rustls::ClientConfig>,
}

impl Http {
    /// Makes a client that also trusts these certificates (PEM).
    pub(crate) fn new(trusted_pem: &[Vec<u8>]) -> Result<Self, Error> {
        let system = |error: &dyn std::fmt::Display| Error::System(format!("TLS cannot be set up: {error}"));
        let mut roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        for pem in trusted_pem {
            for certificate in CertificateDer::pem_slice_iter(pem) {
                roots.add(certificate.map_err(|error| system(&error))?).map_err(|error| system(&error))?;
            }
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| system(&error))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls.clone())
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .build()
            .map_err(|error| system(&error))?;
        Ok(Self { client, tls: Arc::new(tls) })
    }

    /// Returns the TLS settings, for the stream.
    pub(crate) fn tls(&self) -> Arc<rustls::ClientConfig> {
        self.tls.clone()
    }

    /// Begins a request with credentials.
    pub(crate) fn request(&self, method: Method, url: &str, authorization: Option<&str>) -> RequestBuilder {
        let request = self.client.request(method, url);
        match authorization.map(HeaderValue::try_from) {
            Some(Ok(mut credentials)) => {
                // No log repeats it.
                credentials.set_sensitive(true);
                request.header(AUTHORIZATION, credentials)
            }
            // The library says what is wrong with it when the request is sent.
            Some(Err(_)) => request.header(AUTHORIZATION, authorization.unwrap_or_default()),
            None => request,
        }
    }

    /// Sends a request and reads its JSON answer.
    pub(crate) async fn json<T: DeserializeOwned>(&self, server: &str, request: RequestBuilder) -> Result<T, Error> {
        let response = self.send(server, request.timeout(REQUEST_TIMEOUT)).await?;
        let bytes = body(server, response, ANSWER_BYTES_MAX).await?;
        let odd = |why: String| Error::Unreachable { server: server.to_owned(), why };
        json::check_body(&bytes).map_err(|what| odd(format!("its answer is too large: {what}")))?;
        serde_json::from_slice(&bytes).map_err(|error| odd(format!("its answer cannot be read: {error}")))
    }

    /// Sends a request whose answer has no body.
    pub(crate) async fn done(&self, server: &str, request: RequestBuilder) -> Result<(), Error> {
        self.send(server, request.timeout(REQUEST_TIMEOUT)).await.map(drop)
    }

    /// Sends a request and returns its good answer, or the server's refusal.
    pub(crate) async fn send(&self, server: &str, request: RequestBuilder) -> Result<Response, Error> {
        let response = request.send().await.map_err(|error| unreachable(server, &error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let said = body(server, response, REFUSAL_BYTES_MAX).await.unwrap_or_default();
        let refusal = serde_json::from_slice::<Refusal>(&said).unwrap_or_else(|_| {
            Refusal::new(ErrorCode::Unavailable, format!("it answered {status} without saying why"))
                .hint("check that the URL is that of a gigfs server")
        });
        Err(Error::Refused { server: server.to_owned(), refusal })
    }
}

/// Reads an answer of at most `max` bytes, whatever it announces.
async fn body(server: &str, mut response: Response, max: usize) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    while let Some(part) = response.chunk().await.map_err(|error| unreachable(server, &error))? {
        if bytes.len() + part.len() > max {
            let why = format!("its answer is longer than the limit of {max} bytes");
            return Err(Error::Unreachable { server: server.to_owned(), why });
        }
        bytes.extend_from_slice(&part);
    }
    Ok(bytes)
}

/// Checks what a person gave as the URL of a server, and returns it without a slash at its end.
pub(crate) fn server_url(url: &str) -> Result<String, Error> {
    let bad = |why: String| Error::BadUrl { url: url.to_owned(), why };
    let parsed = reqwest::Url::parse(url).map_err(|error| bad(error.to_string()))?;
    match parsed.scheme() {
        "http" | "https" => Ok(url.trim_end_matches('/').to_owned()),
        other => Err(bad(format!("it begins with {other:?} and not with \"http\" or \"https\""))),
    }
}

pub(crate) fn unreachable(server: &str, error: &reqwest::Error) -> Error {
    let mut why = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        why = cause.to_string();
        source = cause.source();
    }
    Error::Unreachable { server: server.to_owned(), why }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use serde_json::Value;

    use super::*;

    /// Answers every request with a head and then the same piece again and again, for as long as somebody takes it.
    fn endless(head: &'static str, piece: &'static [u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for mut socket in listener.incoming().map_while(Result::ok) {
                _ = socket.read(&mut [0; 4096]);
                let mut piece = piece.repeat(1000);
                _ = socket.write_all(head.as_bytes());
                piece.truncate(1 << 20);
                while socket.write_all(&piece).is_ok() {}
            }
        });
        url
    }

    async fn ask(url: &str) -> String {
        let http = Http::new(&[]).unwrap();
        let asked = http.json::<Value>(url, http.request(Method::GET, url, None));
        tokio::time::timeout(REQUEST_TIMEOUT, asked).await.expect("it does not go on for ever").unwrap_err().to_string()
    }

    #[tokio::test]
    async fn an_answer_without_end_is_cut_at_the_limit() {
        let good = endless("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n[", b"{\"a\":1},");
        assert!(ask(&good).await.contains(&ANSWER_BYTES_MAX.to_string()));
        let bad = endless("HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n", b" ");
        assert!(ask(&bad).await.contains("without saying why"));
    }

    #[tokio::test]
    async fn an_answer_that_is_much_larger_in_memory_is_not_made_anything_of() {
        let members: &'static [u8] =
            Box::leak(format!("[{}0]", "[],".repeat(1_000_000)).into_bytes().into_boxed_slice());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            _ = socket.read(&mut [0; 4096]);
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", members.len());
            _ = socket.write_all(&[head.as_bytes(), members].concat());
        });
        assert!(ask(&url).await.contains("too large"));
    }
}
