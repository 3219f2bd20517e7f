//! Where the measuring happens: a table and a store of the bench's own, or a channel that there is.

use std::path::Path;

use gigfs::{Gig, Log, LoggedIn, PrunePolicy, SealMode, Store, Table, UserKeys};
use gigfs_core::api::{AddStore, NewSession};
use gigfs_core::{ChannelName, SessionId, UserName};
use tempfile::TempDir;

use crate::bench::server::Server;
use crate::bench::{DEADLINE, close};
use crate::failure::{Exit, Failure};
use crate::profile::Home;

/// A channel to measure in.
#[derive(Debug, Clone)]
pub(super) struct Channel {
    /// What the names of its rows end with.
    pub(super) suffix: &'static str,
    pub(super) name: ChannelName,
}

pub(super) struct Ground {
    folder: TempDir,
    table: Table,
    keys: UserKeys,
    channels: Vec<Channel>,
    /// The bench's own table and store.
    own: Option<Pair>,
    /// The logs that were written, which are removed at the end where others have their data beside them.
    written: Vec<(ChannelName, &'static str, String)>,
}

struct Pair {
    store: Server,
    /// It ends with the bench.
    _table: Server,
}

impl Ground {
    /// Starts a table and a store, with a sealed and a plain channel.
    pub(super) async fn own(at: Option<&Path>) -> Result<Self, Failure> {
        let folder = folder_in(at)?;
        let table = Server::start("table", ANY_PORT, folder.path().join("table")).await?;
        let store = Server::start("store", ANY_PORT, folder.path().join("store")).await?;
        let user = UserName::parse(USER)?;
        let (session, keys) = first_user(&table, &user).await?;
        let (admin, token) = (Store::new(store.url(), &[])?, store.admin_token()?);
        admin.create_user(&token, &user).await?;
        let mut code = Some(admin.confirm_code(&token, &user).await?.code);
        let mut channels = Vec::new();
        for (name, suffix, mode) in [("sealed", "", SealMode::Sealed), ("plain", "_plain", SealMode::Plain)] {
            let name = ChannelName::parse(name)?;
            keys.ensure(&session, &name, mode).await?;
            session.add_store(&name, &AddStore { store_url: store.url().to_owned(), code: code.take() }).await?;
            channels.push(Channel { suffix, name });
        }
        let own = Some(Pair { store, _table: table });
        Ok(Self { folder, table: session, keys, channels, own, written: Vec::new() })
    }

    /// Takes a channel of the profile.
    pub(super) async fn given(home: &Home, channel: &ChannelName, at: Option<&Path>) -> Result<Self, Failure> {
        let profile = home.profile()?;
        let (table, keys) = (profile.table()?, home.keys(&profile)?);
        let known = table.mounts().await?;
        if !known.channels.iter().any(|mounted| mounted.channel == *channel) {
            let failure = Failure::new(Exit::Refused, "unknown_channel", format!("there is no channel {channel}"));
            return Err(failure.hint("`gig channel ls` lists those that there are"));
        }
        let channels = vec![Channel { suffix: "", name: channel.clone() }];
        Ok(Self { folder: folder_in(at)?, table, keys, channels, own: None, written: Vec::new() })
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the channels: the sealed one first, if the bench made them itself.
    pub(super) fn channels(&self) -> Vec<Channel> {
        self.channels.clone()
    }

    /// Returns the channel that most is measured in.
    pub(super) fn channel(&self) -> Channel {
        self.channels[0].clone()
    }

    pub(super) fn has_own_store(&self) -> bool {
        self.own.is_some()
    }

    /// Returns the bench's own store, if it has one.
    pub(super) fn store(&self) -> Option<&Server> {
        self.own.as_ref().map(|own| &own.store)
    }

    pub(super) fn store_mut(&mut self) -> Option<&mut Server> {
        self.own.as_mut().map(|own| &mut own.store)
    }

    /// Opens a client that keeps nothing on disk, so that an acknowledgement is a store's, and waits until its streams are
    /// up. It prunes only when it is told to: each row measures one thing.
    pub(super) async fn client(&self) -> Result<Gig, Failure> {
        let builder = Gig::builder().table(self.table.clone()).user_keys(self.keys.clone());
        let gig = builder.prune(PrunePolicy::OnDemand).open().await?;
        gig.settled(DEADLINE).await;
        let used = |channel: &ChannelName| self.channels.iter().any(|used| used.name == *channel);
        let status = gig.status();
        let down = status.stores.iter().find(|(_, link)| used(&link.link.channel) && link.up.is_none());
        match down {
            Some((url, link)) => {
                let why = link.down.as_ref().map_or_else(String::new, |refusal| format!(": {refusal}"));
                Err(Failure::new(Exit::Retry, "unreachable", format!("the store {url} cannot be measured{why}")))
            }
            None => Ok(gig),
        }
    }

    /// Names a log of the bench.
    pub(super) fn log(&mut self, gig: &Gig, channel: &Channel, kind: &'static str, path: &str) -> Result<Log, Failure> {
        let path = format!("/gig-bench/{}{path}", gig.actor());
        self.written.push((channel.name.clone(), kind, path.clone()));
        Ok(gig.log(channel.name.as_str(), kind, &path)?)
    }

    /// Returns the same log as another client has it.
    pub(super) fn same(&self, log: &Log, gig: &Gig) -> Result<Log, Failure> {
        let name = log.name();
        Ok(gig.log(name.channel.as_str(), name.kind.as_str(), name.path.as_str())?)
    }

    /// Removes what was written to a channel that was there before, and prunes it, so that nothing of it is left.
    pub(super) async fn clean_up(self) -> Result<(), Failure> {
        if self.own.is_some() {
            return Ok(());
        }
        let gig = self.client().await?;
        for (channel, kind, path) in &self.written {
            let log = gig.log(channel.as_str(), kind, path)?;
            log.refresh(DEADLINE).await?;
            log.remove().await?.accepted(1).await;
            log.prune(DEADLINE).await?;
        }
        close(gig).await
    }
}

/// Makes the user at a fresh table, logs in, and makes the keyring.
async fn first_user(table: &Server, user: &UserName) -> Result<(Table, UserKeys), Failure> {
    let password = SessionId::from_bytes(random()?).to_string();
    let typed = password.clone();
    let master = tokio::task::spawn_blocking(move || gigfs::password::new_master(&typed)).await;
    let master = master.map_err(|error| Failure::machine("make the user of the bench", error))??;
    let admin = Table::new(table.url(), user.clone(), &[])?;
    admin.create_user(&table.admin_token()?, &master).await?;
    let session = NewSession { timeout: SESSION_SECONDS, description: "gig bench".to_owned() };
    let LoggedIn { created, root } = admin.log_in(&password, &session).await?;
    let session = admin.with_session(&created.token);
    let keys = UserKeys::open_or_create(&session, &root, None).await?.keys;
    Ok((session, keys))
}

/// Returns random bytes.
pub(super) fn random<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| Failure::machine("get random bytes", error))?;
    Ok(bytes)
}

fn folder_in(at: Option<&Path>) -> Result<TempDir, Failure> {
    let at = at.map_or_else(std::env::temp_dir, Path::to_path_buf);
    let made = tempfile::Builder::new().prefix("gig-bench-").tempdir_in(&at);
    made.map_err(|error| Failure::machine(&format!("make a folder in {}", at.display()), error))
}

const USER: &str = "bench";
const ANY_PORT: &str = "127.0.0.1:0";
const SESSION_SECONDS: u64 = 24 * 3600;
