//! What the examples share: a table and stores of their own, each a process on loopback, with one user and one channel.

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use gigfs::{Gig, LoggedIn, SealMode, Store, Table, UserKeys};
use gigfs_core::api::{AddStore, NewSession};
use gigfs_core::{ChannelName, UserName};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// Any error, for programs that only report it.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The user and the channel of the examples.
pub const USER: &str = "me";
/// The channel of the examples.
pub const CHANNEL: &str = "home";
const PASSWORD: &str = "only for this example";

/// Tells a child process which server it is: `table` or `store`, the data folder, the address.
const ROLE: &str = "GIGFS_EXAMPLE_SERVER";
/// How long a server may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// A table and stores, each a process. They end, and their data goes, when this is dropped.
pub struct Servers {
    folder: TempDir,
    table: Process,
    stores: Vec<Process>,
}

/// A server process.
struct Process {
    child: Child,
    url: String,
    data: PathBuf,
}

/// Becomes a server if this process was started as one. Call it first in `main`.
///
/// # Errors
/// Those of the server.
pub async fn serve_if_asked() -> Result<(), Failure> {
    let Ok(asked) = std::env::var(ROLE) else { return Ok(()) };
    let mut parts = asked.splitn(3, ' ');
    let (role, listen, data) = (parts.next(), parts.next(), parts.next());
    let (Some(listen), Some(data)) = (listen, data) else { return Err(format!("{ROLE} is {asked:?}").into()) };
    let (listen, data_dir): (SocketAddr, PathBuf) = (listen.parse()?, data.into());
    match role {
        Some("table") => {
            let config = gigfs_table_server::Config { listen, data_dir, ..Default::default() };
            let server = gigfs_table_server::Server::bind(config).await?;
            say(server.public_url());
            server.run(std::future::pending()).await?;
        }
        _ => {
            let config = gigfs_store_server::Config { listen, data_dir, ..Default::default() };
            let server = gigfs_store_server::Server::bind(config).await?;
            say(server.public_url());
            server.run(std::future::pending()).await?;
        }
    }
    std::process::exit(0)
}

impl Servers {
    /// Starts a table and `stores` stores, makes the user, and mounts all stores on the channel.
    ///
    /// # Errors
    /// If a server does not start.
    pub async fn start(stores: usize) -> Result<Self, Failure> {
        let folder = tempfile::tempdir()?;
        let any: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 0));
        let table = Process::start("table", any, folder.path().join("table")).await?;
        let user = UserName::parse(USER)?;
        let admin = Table::new(&table.url, user.clone(), &[])?;
        let master = tokio::task::spawn_blocking(|| gigfs::password::new_master(PASSWORD)).await??;
        admin.create_user(table.admin_token()?.trim(), &master).await?;
        let mut servers = Self { folder, table, stores: Vec::new() };
        let (session, keys) = servers.log_in("setting up").await?;
        keys.ensure(&session, &ChannelName::parse(CHANNEL)?, SealMode::Sealed).await?;
        for number in 0..stores {
            let store = Process::start("store", any, servers.folder.path().join(format!("store-{number}"))).await?;
            let admin = Store::new(&store.url, &[])?;
            let token = store.admin_token()?;
            admin.create_user(token.trim(), &user).await?;
            let code = admin.confirm_code(token.trim(), &user).await?.code;
            let add = AddStore { store_url: store.url.clone(), code: Some(code) };
            session.add_store(&ChannelName::parse(CHANNEL)?, &add).await?;
            servers.stores.push(store);
        }
        Ok(servers)
    }

    /// Logs a device in, and opens the user's keyring.
    ///
    /// # Errors
    /// If the table refuses.
    pub async fn log_in(&self, device: &str) -> Result<(Table, UserKeys), Failure> {
        let table = Table::new(&self.table.url, UserName::parse(USER)?, &[])?;
        let session = NewSession { timeout: 3600, description: device.to_owned() };
        let LoggedIn { created, root } = table.log_in(PASSWORD, &session).await?;
        let table = table.with_session(&created.token);
        let keys = UserKeys::open_or_create(&table, &root, None).await?.keys;
        Ok((table, keys))
    }

    /// Opens the client of a device, with a local store on disk.
    ///
    /// # Errors
    /// If the table refuses or the local store cannot be opened.
    pub async fn device(&self, name: &str) -> Result<Gig, Failure> {
        let (table, keys) = self.log_in(name).await?;
        let folder = self.folder.path().join("devices").join(name);
        Ok(Gig::builder().table(table).user_keys(keys).local(folder).open().await?)
    }

    /// Kills a store without warning, as a power cut would.
    ///
    /// # Errors
    /// If there is no such process any more.
    pub async fn kill_store(&mut self, number: usize) -> Result<(), Failure> {
        self.stores[number].child.kill().await?;
        Ok(())
    }

    /// Starts a killed store again, with its data, where it was.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn revive_store(&mut self, number: usize) -> Result<(), Failure> {
        let store = &self.stores[number];
        let address = store.url.trim_start_matches("http://").parse()?;
        let data = store.data.clone();
        self.stores[number] = Process::start("store", address, data).await?;
        Ok(())
    }
}

impl Process {
    async fn start(role: &str, listen: SocketAddr, data: PathBuf) -> Result<Self, Failure> {
        let mut child = Command::new(std::env::current_exe()?)
            .env(ROLE, format!("{role} {listen} {}", data.display()))
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = child.stdout.take().ok_or("the server has no output")?;
        let mut lines = BufReader::new(stdout).lines();
        let line = timeout(START_TIMEOUT, lines.next_line()).await??;
        let url = line.ok_or_else(|| format!("the {role} did not start"))?;
        Ok(Self { child, url, data })
    }

    fn admin_token(&self) -> std::io::Result<String> {
        std::fs::read_to_string(self.data.join("admin-token"))
    }
}

/// Prints a line for the person who runs the example.
#[allow(clippy::print_stdout, reason = "examples talk to a person")]
pub fn say(line: impl Display) {
    println!("{line}");
}
