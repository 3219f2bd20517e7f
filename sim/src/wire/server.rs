//! The servers of a world: the real ones, each a process, so that a crash is one.
//!
//! A server process ends in order when its standard input does, and so never outlives the world that started it.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use gigfs_core::UserName;
use gigfs_core::api::{NewMaster, NewSession, PasswordParams};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::timeout;

use crate::Failure;

/// The hidden argument that makes this program a server; its role, its folder, its public URL and, for a table, how many
/// sessions it is to begin with follow.
pub(crate) const SERVE: &str = "--serve";
/// The user of every world.
pub(crate) const USER: &str = "me";
/// How long a server may take to start, and to stop.
const TURN_TIMEOUT: Duration = Duration::from_secs(30);

/// What a server process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Table,
    Store,
}

/// A server that runs.
pub(crate) struct Process {
    child: Child,
    stdin: ChildStdin,
    /// Where it listens, behind its proxy.
    pub(crate) address: SocketAddr,
}

/// Is a server until the standard input ends. It says where it listens in its one line of output.
pub(crate) async fn serve(mut args: impl Iterator<Item = String>) -> Result<(), Failure> {
    let (Some(role), Some(data), Some(url), Some(sessions)) = (args.next(), args.next(), args.next(), args.next())
    else {
        return Err(format!("{SERVE} needs a role, a folder, a URL and a number").into());
    };
    let (data_dir, listen) = (PathBuf::from(data), SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let (public_url, shutdown_seconds) = (Some(url), 1);
    let stopped = async {
        // An error is an end too.
        _ = tokio::io::stdin().read_to_end(&mut Vec::new()).await;
    };
    if role == "table" {
        let config =
            gigfs_table_server::Config { listen, data_dir, public_url, shutdown_seconds, ..Default::default() };
        let server = gigfs_table_server::Server::bind(config).await?;
        let tokens = sessions_of(&server.table(), sessions.parse()?).await?;
        writeln!(std::io::stdout(), "{} {}", server.local_addr(), tokens.join(" "))?;
        server.run(stopped).await?;
    } else {
        let config =
            gigfs_store_server::Config { listen, data_dir, public_url, shutdown_seconds, ..Default::default() };
        let server = gigfs_store_server::Server::bind(config).await?;
        writeln!(std::io::stdout(), "{} {}", server.local_addr(), server.store_id())?;
        server.run(stopped).await?;
    }
    Ok(())
}

/// Makes the user of the world, with so many sessions, and returns their tokens. No password is needed for that, which
/// would take long to check.
async fn sessions_of(table: &gigfs_table_server::Table, sessions: usize) -> Result<Vec<String>, Failure> {
    let mut tokens = Vec::new();
    if sessions > 0 {
        let user = UserName::parse(USER)?;
        let password = PasswordParams {
            salt: vec![0; 16],
            memory_kib: PasswordParams::MEMORY_KIB_DEFAULT,
            passes: PasswordParams::PASSES_DEFAULT,
        };
        table.create_user(&user, NewMaster { password, master: vec![0; 32] }).await?;
        for at in 0..sessions {
            let session = NewSession { timeout: 24 * 3600, description: format!("session {at}") };
            tokens.push(table.create_session(&user, session).await?.token);
        }
    }
    Ok(tokens)
}

impl Process {
    /// Starts a server on a folder, to be reached at a URL. Returns what else it said: a store its id, a table the tokens
    /// of the sessions that it began with.
    pub(crate) async fn start(
        role: Role,
        data: &Path,
        url: &str,
        sessions: usize,
    ) -> Result<(Self, Vec<String>), Failure> {
        let name = match role {
            Role::Table => "table",
            Role::Store => "store",
        };
        let mut child = Command::new(std::env::current_exe()?)
            .args([SERVE, name])
            .arg(data)
            .args([url, &sessions.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdin = child.stdin.take().ok_or("the server has no input")?;
        let stdout = child.stdout.take().ok_or("the server has no output")?;
        let line = timeout(TURN_TIMEOUT, BufReader::new(stdout).lines().next_line()).await??;
        let line = line.ok_or_else(|| format!("the {name} did not start"))?;
        let mut words = line.split(' ');
        let address = words.next().unwrap_or_default().parse()?;
        let said = words.filter(|word| !word.is_empty()).map(str::to_owned).collect();
        Ok((Self { child, stdin, address }, said))
    }

    /// Kills it, as a power cut would.
    pub(crate) async fn kill(mut self) -> Result<(), Failure> {
        Ok(self.child.kill().await?)
    }

    /// Stops it in order.
    pub(crate) async fn stop(mut self) -> Result<(), Failure> {
        drop(self.stdin);
        let status = timeout(TURN_TIMEOUT, self.child.wait()).await.map_err(|_| "a server does not stop")??;
        if status.success() { Ok(()) } else { Err(format!("a server that was stopped ended with {status}").into()) }
    }
}
