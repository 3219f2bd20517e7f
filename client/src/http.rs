//! What both servers' HTTP clients share: requests with credentials in the header, refusals as errors, and trust.

use std::sync::Arc;
use std::time::Duration;

use gigfs_core::{ErrorCode, Refusal};
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Method, RequestBuilder, Response};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::de::DeserializeOwned;

use crate::error::Error;

/// How long a request may take as a whole.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
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
        response.json().await.map_err(|error| unreachable(server, &error))
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
        let refusal = response.json::<Refusal>().await.unwrap_or_else(|_| {
            Refusal::new(ErrorCode::Unavailable, format!("it answered {status} without saying why"))
                .hint("check that the URL is that of a gigfs server")
        });
        Err(Error::Refused { server: server.to_owned(), refusal })
    }
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

fn unreachable(server: &str, error: &reqwest::Error) -> Error {
    let mut why = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        why = cause.to_string();
        source = cause.source();
    }
    Error::Unreachable { server: server.to_owned(), why }
}
