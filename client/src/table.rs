//! The table server's routes, as its users call them.

use futures_util::StreamExt;
use gigfs_core::api::{
    AddStore, CommitBody, CommitResults, CreatedSession, Guest, GuestEntry, Guests, Health, IdentityRecord,
    KeyringRecord, MountTable, MountedChannel, NewMaster, NewSession, PasswordParams, ReplaceMaster, Seal, SessionInfo,
    SessionList, Shared, SharedChannel, TableChanged,
};
use gigfs_core::seal::{PublicIdentity, RootKey, SealedKeyring};
use gigfs_core::{ChannelName, ErrorCode, SessionId, StoreId, UserName, base64_text};
use reqwest::Method;
use zeroize::Zeroizing;

use crate::error::Error;
use crate::http::{Http, server_url};
use crate::keys;
use crate::password::{self, PasswordKeys};

/// A table server, seen by one user.
#[derive(Clone)]
pub struct Table {
    http: Http,
    url: String,
    user: UserName,
    authorization: Option<String>,
}

/// What a password gives at a table.
#[derive(Debug)]
pub struct LoggedIn {
    /// The session and its token.
    pub created: CreatedSession,
    /// The key that opens the user's keyring ([`crate::UserKeys`]). It came of the same stretching of the password.
    pub root: RootKey,
}

impl Table {
    /// Names a table and a user, without credentials. `trusted_pem` are certificates to trust beside the public ones.
    ///
    /// # Errors
    /// [`Error::BadUrl`], and [`Error::System`] if a certificate cannot be read.
    pub fn new(url: &str, user: UserName, trusted_pem: &[Vec<u8>]) -> Result<Self, Error> {
        Ok(Self { url: server_url(url)?, http: Http::new(trusted_pem)?, user, authorization: None })
    }

    /// Returns the same table with the credentials of a session.
    #[must_use]
    pub fn with_session(mut self, token: &str) -> Self {
        self.authorization = Some(format!("Bearer {token}"));
        self
    }

    /// Returns the same table with the same session, for what another user has there.
    #[must_use]
    pub fn of(&self, user: &UserName) -> Self {
        Self { user: user.clone(), ..self.clone() }
    }

    /// Returns the table's URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the user.
    pub fn user(&self) -> &UserName {
        &self.user
    }

    pub(crate) fn http(&self) -> &Http {
        &self.http
    }

    /// Asks how the server is.
    ///
    /// # Errors
    /// [`Error::Unreachable`] or [`Error::Refused`].
    pub async fn health(&self) -> Result<Health, Error> {
        let url = format!("{}/healthz", self.url);
        self.http.json(&self.url, self.http.request(Method::GET, &url, None)).await
    }

    /// Logs in with a password: asks for the user's salt, makes the master here, and exchanges it for a session.
    ///
    /// # Errors
    /// [`Error::Refused`] with `unauthorized` for a wrong password and for an unknown user alike.
    pub async fn log_in(&self, password: &str, session: &NewSession) -> Result<LoggedIn, Error> {
        let keys = self.stretch(password).await?;
        let created = self.begin_session(&keys, session).await?;
        Ok(LoggedIn { created, root: keys.root })
    }

    /// Changes the password, which ends every session. The keyring opens with the new password from the same moment on,
    /// and is otherwise as it was. `kept` is the last record of it that this device has met.
    ///
    /// Returns the keyring as the table keeps it now, if the user has one.
    ///
    /// # Errors
    /// [`Error::Refused`] if the old password is wrong; [`Error::Keyring`] and [`Error::KeyringRolledBack`] if the keyring is
    /// not what it should be. Nothing is changed then.
    pub async fn change_password(
        &self,
        old: &str,
        new: &str,
        kept: Option<&SealedKeyring>,
    ) -> Result<Option<SealedKeyring>, Error> {
        let old = self.stretch(old).await?;
        keys::change_password(self, &old, new, kept).await
    }

    /// Returns the user's keyring as the table keeps it, if it keeps one.
    ///
    /// # Errors
    /// [`Error::Refused`] if the session ended, [`Error::Keyring`] if what came is no keyring.
    pub(crate) async fn keyring(&self) -> Result<Option<SealedKeyring>, Error> {
        let read = self.http.json::<KeyringRecord>(&self.url, self.authorized(Method::GET, "keyring")).await;
        match read {
            Ok(KeyringRecord { record }) => SealedKeyring::from_bytes(&record)
                .map(Some)
                .map_err(|error| Error::Keyring { table: self.url.clone(), error: Box::new(error) }),
            Err(Error::Refused { refusal, .. }) if refusal.code == ErrorCode::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Has the table keep the next revision of the keyring. Returns false if another device's came first.
    pub(crate) async fn put_keyring(&self, next: &SealedKeyring) -> Result<bool, Error> {
        let request = self.authorized(Method::PUT, "keyring").json(&KeyringRecord { record: next.to_bytes() });
        unless_conflict(self.http.done(&self.url, request).await)
    }

    /// Replaces the master that `old` proves. Returns false if the keyring that is kept is not the one before the one that
    /// came with it.
    pub(crate) async fn replace_master(&self, old: &PasswordKeys, new: &ReplaceMaster) -> Result<bool, Error> {
        let request = self.http.request(Method::PUT, &self.at("master"), Some(&master_authorization(old))).json(new);
        unless_conflict(self.http.done(&self.url, request).await)
    }

    /// Stretches a password with the user's salt.
    pub(crate) async fn stretch(&self, password: &str) -> Result<PasswordKeys, Error> {
        let params: PasswordParams =
            self.http.json(&self.url, self.http.request(Method::GET, &self.at("password"), None)).await?;
        let password = Zeroizing::new(password.to_owned());
        blocking(move || password::keys(&password, &params)).await
    }

    /// Exchanges a master for a session.
    pub(crate) async fn begin_session(
        &self,
        keys: &PasswordKeys,
        session: &NewSession,
    ) -> Result<CreatedSession, Error> {
        let authorization = master_authorization(keys);
        let request = self.http.request(Method::POST, &self.at("session"), Some(&authorization)).json(session);
        self.http.json(&self.url, request).await
    }

    /// Creates the user, with the table's admin token.
    ///
    /// # Errors
    /// [`Error::Refused`] with `conflict` if the user is there already.
    pub async fn create_user(&self, admin_token: &str, master: &NewMaster) -> Result<(), Error> {
        let url = format!("{}/admin/user/{}", self.url, self.user);
        let request = self.http.request(Method::PUT, &url, Some(&format!("Bearer {admin_token}")));
        self.http.done(&self.url, request.json(master)).await
    }

    /// Gives the user another master, with the table's admin token, and ends every session. The keyring stays as it is, so
    /// the new password does not open it: [`crate::UserKeys::recover`] does.
    ///
    /// # Errors
    /// [`Error::Refused`] with `unknown_user` if there is no such user.
    pub async fn reset_master(&self, admin_token: &str, master: &NewMaster) -> Result<(), Error> {
        let url = format!("{}/admin/user/{}/master", self.url, self.user);
        let request = self.http.request(Method::PUT, &url, Some(&format!("Bearer {admin_token}")));
        self.http.done(&self.url, request.json(master)).await
    }

    /// Returns the session of these credentials.
    ///
    /// # Errors
    /// [`Error::Refused`] if it ended.
    pub async fn session(&self) -> Result<SessionInfo, Error> {
        self.http.json(&self.url, self.authorized(Method::GET, "session/check")).await
    }

    /// Lists the user's live sessions.
    ///
    /// # Errors
    /// [`Error::Refused`] if this session ended.
    pub async fn sessions(&self) -> Result<SessionList, Error> {
        self.http.json(&self.url, self.authorized(Method::GET, "session")).await
    }

    /// Ends a session, here and at every store.
    ///
    /// # Errors
    /// [`Error::Refused`] if there is no such session.
    pub async fn revoke(&self, session: SessionId) -> Result<(), Error> {
        self.http.done(&self.url, self.authorized(Method::DELETE, &format!("session/{session}"))).await
    }

    /// Returns the mount table, with fresh store tokens.
    ///
    /// # Errors
    /// [`Error::Refused`] if the session ended.
    pub async fn mounts(&self) -> Result<MountTable, Error> {
        self.http.json(&self.url, self.authorized(Method::GET, "table")).await
    }

    /// Mounts a store on a channel with the store's confirmation code; makes the channel if need be.
    ///
    /// # Errors
    /// [`Error::Refused`] names what the table or the store said.
    pub async fn add_store(&self, channel: &ChannelName, store: &AddStore) -> Result<MountedChannel, Error> {
        let request = self.authorized(Method::POST, &format!("table/{channel}/store"));
        self.http.json(&self.url, request.json(store)).await
    }

    /// Has a store take no more writes for a channel, or take them again. It is the first step of taking the store off the
    /// channel: nothing that it holds can be more than what is drained after this.
    ///
    /// # Errors
    /// [`Error::Refused`] if it is not mounted there, or does not answer the table.
    pub async fn seal(&self, channel: &ChannelName, store: StoreId, sealed: bool) -> Result<(), Error> {
        let request = self.authorized(Method::POST, &format!("table/{channel}/store/{store}/seal"));
        self.http.done(&self.url, request.json(&Seal { sealed })).await
    }

    /// Takes a store off a channel, which it was sealed for. With `abandon` it need not be: what nobody else has is lost
    /// with it.
    ///
    /// # Errors
    /// [`Error::Refused`] if it is not mounted there, or neither sealed nor abandoned.
    pub async fn remove_store(&self, channel: &ChannelName, store: StoreId, abandon: bool) -> Result<(), Error> {
        let abandon = if abandon { "?abandon=true" } else { "" };
        let route = format!("table/{channel}/store/{store}{abandon}");
        self.http.done(&self.url, self.authorized(Method::DELETE, &route)).await
    }

    /// Publishes the user's identity.
    pub(crate) async fn put_identity(&self, identity: &PublicIdentity) -> Result<(), Error> {
        let record = IdentityRecord { identity: identity.to_bytes() };
        self.http.done(&self.url, self.authorized(Method::PUT, "identity").json(&record)).await
    }

    /// Returns a user's identity as the table hands it out: it counts for nothing before its fingerprint was compared.
    ///
    /// # Errors
    /// [`Error::Refused`] if there is no such user, or it has published none.
    pub async fn identity_of(&self, user: &UserName) -> Result<PublicIdentity, Error> {
        let of = self.of(user);
        let IdentityRecord { identity } = self.http.json(&self.url, of.authorized(Method::GET, "identity")).await?;
        PublicIdentity::from_bytes(&identity)
            .map_err(|error| Error::Unreachable { server: self.url.clone(), why: error.to_string() })
    }

    /// Lets a guest use a channel, or changes what it may do there.
    pub(crate) async fn put_guest(&self, channel: &ChannelName, guest: &UserName, body: &Guest) -> Result<(), Error> {
        let request = self.authorized(Method::PUT, &format!("table/{channel}/guest/{guest}"));
        self.http.done(&self.url, request.json(body)).await
    }

    /// Lets a guest use a channel no more.
    pub(crate) async fn remove_guest(&self, channel: &ChannelName, guest: &UserName) -> Result<(), Error> {
        self.http.done(&self.url, self.authorized(Method::DELETE, &format!("table/{channel}/guest/{guest}"))).await
    }

    /// Returns the guests of a channel.
    ///
    /// # Errors
    /// [`Error::Refused`] if there is no such channel.
    pub async fn guests(&self, channel: &ChannelName) -> Result<Vec<GuestEntry>, Error> {
        let request = self.authorized(Method::GET, &format!("table/{channel}/guest"));
        Ok(self.http.json::<Guests>(&self.url, request).await?.guests)
    }

    /// Returns what others share with the user.
    ///
    /// # Errors
    /// [`Error::Refused`] if the session ended.
    pub async fn shared(&self) -> Result<Vec<SharedChannel>, Error> {
        Ok(self.http.json::<Shared>(&self.url, self.authorized(Method::GET, "shared")).await?.channels)
    }

    /// Asks the table to commit checkpoints of a channel's logs.
    pub(crate) async fn commit(&self, channel: &ChannelName, body: &CommitBody) -> Result<CommitResults, Error> {
        let request = self.authorized(Method::POST, &format!("table/{channel}/checkpoint"));
        self.http.json(&self.url, request.json(body)).await
    }

    /// Takes a channel out of the mount table. What its stores hold stays there.
    ///
    /// # Errors
    /// [`Error::Refused`] if there is no such channel.
    pub async fn remove_channel(&self, channel: &ChannelName) -> Result<(), Error> {
        self.http.done(&self.url, self.authorized(Method::DELETE, &format!("table/{channel}"))).await
    }

    /// Calls `changed` with each epoch that the mount table comes to, until the stream ends.
    pub(crate) async fn changes(&self, mut changed: impl FnMut(TableChanged)) -> Result<(), Error> {
        let response = self.http.send(&self.url, self.authorized(Method::GET, "table/stream")).await?;
        let mut body = response.bytes_stream();
        let mut buffer = Vec::new();
        while let Some(part) = body.next().await {
            let part = part.map_err(|error| Error::Unreachable { server: self.url.clone(), why: error.to_string() })?;
            buffer.extend_from_slice(&part);
            while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = buffer.drain(..=end).collect();
                if let Some(data) = line.strip_prefix(b"data:")
                    && let Ok(change) = serde_json::from_slice(data)
                {
                    changed(change);
                }
            }
            if buffer.len() > 64 * 1024 {
                return Err(Error::Unreachable { server: self.url.clone(), why: "an event without an end".to_owned() });
            }
        }
        Ok(())
    }

    fn at(&self, route: &str) -> String {
        format!("{}/user/{}/{route}", self.url, self.user)
    }

    fn authorized(&self, method: Method, route: &str) -> reqwest::RequestBuilder {
        self.http.request(method, &self.at(route), self.authorization.as_deref())
    }
}

fn master_authorization(keys: &PasswordKeys) -> String {
    format!("Master {}", base64_text::encode(keys.master.expose()))
}

/// Tells a conflict, after which one reads again, from other errors.
fn unless_conflict(done: Result<(), Error>) -> Result<bool, Error> {
    match done {
        Ok(()) => Ok(true),
        Err(Error::Refused { refusal, .. }) if refusal.code == ErrorCode::Conflict => Ok(false),
        Err(error) => Err(error),
    }
}

/// Runs work that takes long on a thread of its own.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::System(error.to_string()))?
}
