//! The store server's HTTP routes, as users and their admins call them. Operations travel on the stream, not here.

use gigfs_core::api::{
    Backup, ConfirmCode, Health, LogList, MountedStore, NewBackup, NewQuota, StoreVerified, UpkeepLine, UpkeepProgress,
    UserRoom,
};
use gigfs_core::{ChannelName, Path, PathPrefix, TypeName, UserName};
use reqwest::{Method, RequestBuilder};

use crate::error::Error;
use crate::http::{ANSWER_BYTES_MAX, Http, server_url, unreachable};

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

    /// Has the store look at everything that it keeps, with its admin token.
    ///
    /// # Errors
    /// [`Error::Refused`] if the token is wrong or the disk fails. What is damaged is in the answer.
    pub async fn verify(
        &self,
        admin_token: &str,
        progress: impl FnMut(UpkeepProgress),
    ) -> Result<StoreVerified, Error> {
        let url = format!("{}/admin/verify", self.url);
        let request = self.http.request(Method::POST, &url, Some(&format!("Bearer {admin_token}")));
        match self.upkeep(request, progress).await? {
            UpkeepLine::Verified(verified) => Ok(verified),
            _ => Err(self.unexpected()),
        }
    }

    /// Has the store copy everything that it keeps into a folder on its own machine, with its admin token.
    ///
    /// # Errors
    /// [`Error::Refused`] if the token is wrong, the folder is not to be used, or a disk fails.
    pub async fn back_up(
        &self,
        admin_token: &str,
        folder: &std::path::Path,
        progress: impl FnMut(UpkeepProgress),
    ) -> Result<Backup, Error> {
        let url = format!("{}/admin/backup", self.url);
        let request = self.http.request(Method::POST, &url, Some(&format!("Bearer {admin_token}")));
        let folder = folder.display().to_string();
        match self.upkeep(request.json(&NewBackup { folder }), progress).await? {
            UpkeepLine::BackedUp(backup) => Ok(backup),
            _ => Err(self.unexpected()),
        }
    }

    /// Reads the lines of an answer, and returns the last one.
    async fn upkeep(
        &self,
        request: RequestBuilder,
        mut progress: impl FnMut(UpkeepProgress),
    ) -> Result<UpkeepLine, Error> {
        let mut answer = self.http.send(&self.url, request).await?;
        let mut waiting = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| unreachable(&self.url, &error))? {
            if waiting.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(self.unexpected());
            }
            waiting.extend_from_slice(&chunk);
            while let Some(end) = waiting.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = waiting.drain(..=end).collect();
                match serde_json::from_slice(&line) {
                    Ok(UpkeepLine::Progress(at)) => progress(at),
                    Ok(UpkeepLine::Refused(refusal)) => {
                        return Err(Error::Refused { server: self.url.clone(), refusal });
                    }
                    Ok(last) => return Ok(last),
                    Err(_) => return Err(self.unexpected()),
                }
            }
        }
        let why = "it ended its answer too early; its log says more".to_owned();
        Err(Error::Unreachable { server: self.url.clone(), why })
    }

    fn unexpected(&self) -> Error {
        let why = "it answered with something else than was asked for".to_owned();
        Error::Unreachable { server: self.url.clone(), why }
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
