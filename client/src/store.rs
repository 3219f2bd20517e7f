//! The store server's HTTP routes, as users and their admins call them. Operations travel on the stream, not here.

use gigfs_core::api::{ConfirmCode, Health, LogList, MountedStore, NewQuota, UserRoom};
use gigfs_core::{ChannelName, Path, PathPrefix, TypeName, UserName};
use reqwest::Method;

use crate::error::Error;
use crate::http::{Http, server_url};

/// A store server.
#[derive(Clone)]
pub struct Store {
    http: Http,
    url: String,
}

impl Store {
    /// Names a store. `trusted_pem` are certificates to trust beside the public ones.
    ///
    /// # Errors
    /// [`Error::BadUrl`], and [`Error::System`] if a certificate cannot be read.
    pub fn new(url: &str, trusted_pem: &[Vec<u8>]) -> Result<Self, Error> {
        Ok(Self::with_http(&server_url(url)?, Http::new(trusted_pem)?))
    }

    pub(crate) fn with_http(url: &str, http: Http) -> Self {
        Self { http, url: url.trim_end_matches('/').to_owned() }
    }

    /// Asks how the server is.
    ///
    /// # Errors
    /// [`Error::Unreachable`] or [`Error::Refused`].
    pub async fn health(&self) -> Result<Health, Error> {
        let url = format!("{}/healthz", self.url);
        self.http.json(&self.url, self.http.request(Method::GET, &url, None)).await
    }

    /// Makes room for a user, with the store's admin token.
    ///
    /// # Errors
    /// [`Error::Refused`] if the token is wrong.
    pub async fn create_user(&self, admin_token: &str, user: &UserName) -> Result<(), Error> {
        let url = format!("{}/admin/user/{user}", self.url);
        self.http.done(&self.url, self.http.request(Method::PUT, &url, Some(&format!("Bearer {admin_token}")))).await
    }

    /// Returns a code with which a user mounts the store, with the store's admin token.
    ///
    /// # Errors
    /// [`Error::Refused`] if the token is wrong or the user has no room here.
    pub async fn confirm_code(&self, admin_token: &str, user: &UserName) -> Result<ConfirmCode, Error> {
        let url = format!("{}/admin/user/{user}/code", self.url);
        self.http.json(&self.url, self.http.request(Method::GET, &url, Some(&format!("Bearer {admin_token}")))).await
    }

    /// Returns what a user keeps at the store and may keep, with the store's admin token.
    ///
    /// # Errors
    /// [`Error::Refused`] if the token is wrong or the store has no such user.
    pub async fn room(&self, admin_token: &str, user: &UserName) -> Result<UserRoom, Error> {
        let url = format!("{}/admin/user/{user}/quota", self.url);
        self.http.json(&self.url, self.http.request(Method::GET, &url, Some(&format!("Bearer {admin_token}")))).await
    }

    /// Sets how many bytes a user may keep at the store, with the store's admin token; nothing for what the store gives
    /// to users of whom nothing is said.
    ///
    /// # Errors
    /// [`Error::Refused`] if the token is wrong or the store has no such user.
    pub async fn set_quota(&self, admin_token: &str, user: &UserName, bytes: Option<u64>) -> Result<UserRoom, Error> {
        let url = format!("{}/admin/user/{user}/quota", self.url);
        let request = self.http.request(Method::PUT, &url, Some(&format!("Bearer {admin_token}")));
        self.http.json(&self.url, request.json(&NewQuota { bytes })).await
    }

    /// Lists logs of a channel at or below a path, one page.
    pub(crate) async fn list(
        &self,
        mount: &MountedStore,
        user: &UserName,
        channel: &ChannelName,
        prefix: &PathPrefix,
        after: Option<(&TypeName, &Path)>,
    ) -> Result<LogList, Error> {
        let url = format!("{}/user/{user}/oplogs", self.url);
        let mut query = vec![("channel", channel.as_str()), ("prefix", prefix.as_str())];
        if let Some((kind, path)) = after {
            query.extend([("after_type", kind.as_str()), ("after_path", path.as_str())]);
        }
        let request = self.http.request(Method::GET, &url, Some(&format!("Bearer {}", mount.token))).query(&query);
        self.http.json(&self.url, request).await
    }
}
